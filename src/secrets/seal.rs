//! Sealing: XChaCha20-Poly1305 with a random nonce, bound to its place.
//!
//! **Invariant:** a sealed value opens only under its key, and only as the version of the secret of the company that
//! it was sealed for: a row that is moved to another secret is refused as one that was changed.

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Generate, Payload};
use chrono::{DateTime, Utc};
use lease_stores::sealed::Sealed;
use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::key::MasterKey;
use super::{Place, SecretFault};

/// What is authenticated before the place: another use of the same key would say another word. Never changed.
const DOMAIN: &[u8] = b"lease-ledger secret 1";

/// Seals a value for its place.
pub fn seal(
    key: &MasterKey,
    place: Place,
    sealed_id: Uuid,
    value: &SecretString,
    at: DateTime<Utc>,
) -> Result<Sealed, SecretFault> {
    let nonce = XNonce::generate();
    let payload = Payload { msg: value.expose_secret().as_bytes(), aad: &bound_to(place) };
    // The cipher refuses only what is longer than 256 GiB.
    let sealed = key.cipher().encrypt(&nonce, payload);
    Ok(Sealed {
        sealed_id,
        secret_id: place.secret_id,
        company_id: place.company_id,
        version: place.version,
        key_id: key.id().to_owned(),
        nonce: nonce.into(),
        ciphertext: sealed.map_err(|_| SecretFault::invalid("the value is too long to be sealed"))?,
        created_at: at,
    })
}

/// Opens what was sealed for `place`.
pub fn open(key: &MasterKey, place: Place, sealed: &Sealed) -> Result<SecretString, SecretFault> {
    if sealed.key_id != key.id() {
        return Err(SecretFault::OtherKey { found: sealed.key_id.clone(), given: key.id().to_owned() });
    }
    let payload = Payload { msg: &sealed.ciphertext, aad: &bound_to(place) };
    let bytes = key.cipher().decrypt(&XNonce::from(sealed.nonce), payload).map_err(|_| SecretFault::Tampered)?;
    match String::from_utf8(bytes) {
        Ok(value) => Ok(value.into()),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(SecretFault::Tampered)
        }
    }
}

/// The bytes that are authenticated with a value: fixed lengths, so that no two places give the same.
fn bound_to(place: Place) -> Vec<u8> {
    let (company, secret) = (place.company_id.0, place.secret_id.0);
    [DOMAIN, company.as_bytes(), secret.as_bytes(), &place.version.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use lease_events::id::{CompanyId, SecretId};
    use proptest::prelude::*;

    use super::*;
    use crate::secrets::key::KeySource;

    fn random() -> MasterKey {
        MasterKey::load(&KeySource::random()).expect("it is a key")
    }

    fn place() -> Place {
        Place { company_id: CompanyId::derived(&["company"]), secret_id: SecretId::derived(&["secret"]), version: 1 }
    }

    fn sealed(key: &MasterKey, value: &str) -> Sealed {
        let value = SecretString::from(value.to_owned());
        seal(key, place(), Uuid::from_u128(1), &value, DateTime::UNIX_EPOCH).expect("it is short")
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let key = random();
        let sealed = sealed(&key, "correct horse battery staple");
        for at in 0..sealed.ciphertext.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = sealed.clone();
                changed.ciphertext[at] ^= flip;
                assert_eq!(open(&key, place(), &changed).expect_err("it was changed"), SecretFault::Tampered);
            }
        }
        for at in 0..sealed.nonce.len() {
            let mut changed = sealed.clone();
            changed.nonce[at] ^= 1;
            assert_eq!(open(&key, place(), &changed).expect_err("it was changed"), SecretFault::Tampered);
        }
        for cut in 0..sealed.ciphertext.len() {
            let changed = Sealed { ciphertext: sealed.ciphertext[..cut].to_vec(), ..sealed.clone() };
            assert_eq!(open(&key, place(), &changed).expect_err("it was cut"), SecretFault::Tampered);
        }
    }

    #[test]
    fn a_value_opens_only_at_its_own_place() {
        let key = random();
        let sealed = sealed(&key, "correct horse battery staple");
        for other in [
            Place { version: 2, ..place() },
            Place { secret_id: SecretId::derived(&["other"]), ..place() },
            Place { company_id: CompanyId::derived(&["other"]), ..place() },
        ] {
            assert_eq!(open(&key, other, &sealed).expect_err("it is another's"), SecretFault::Tampered);
        }
    }

    #[test]
    fn another_key_is_named() {
        let (one, other) = (random(), random());
        let fault = open(&other, place(), &sealed(&one, "correct horse")).expect_err("it is another key");
        assert_eq!(fault, SecretFault::OtherKey { found: one.id().to_owned(), given: other.id().to_owned() });
        // A key that only claims to be the same opens nothing either.
        let claimed = Sealed { key_id: other.id().to_owned(), ..sealed(&one, "correct horse") };
        assert_eq!(open(&other, place(), &claimed).expect_err("it is another key"), SecretFault::Tampered);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_shows_nothing(value in "\\PC{8,200}") {
            let key = random();
            let sealed = sealed(&key, &value);
            let opened = open(&key, place(), &sealed).expect("it is whole");
            prop_assert_eq!(opened.expose_secret(), value.as_str());
            prop_assert!(!sealed.ciphertext.windows(8).any(|bytes| value.as_bytes().starts_with(bytes)));
            prop_assert_eq!(sealed.ciphertext.len(), value.len() + 16);
        }
    }
}
