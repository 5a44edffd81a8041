//! Sealed values: the same of every store, and what only a file can show.

use std::sync::Arc;

use chrono::DateTime;
use lease_events::id::{CompanyId, SecretId};
use lease_events::store::EventStore as _;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::sealed::{MemorySealed, PostgresSealed, Sealed, SealedError, SealedStore, SqliteSealed};
use uuid::Uuid;

use crate::support::SqlitePlace;

fn sealed(number: u8, key: &str) -> Sealed {
    Sealed {
        sealed_id: Uuid::from_u128(number.into()),
        secret_id: SecretId::derived(&[if number.is_multiple_of(2) { "even" } else { "odd" }]),
        company_id: CompanyId::derived(&["company"]),
        version: number.into(),
        key_id: key.to_owned(),
        nonce: [number; 24],
        ciphertext: vec![number; 40],
        created_at: DateTime::UNIX_EPOCH,
    }
}

async fn on_each(test: impl AsyncFn(Arc<dyn SealedStore>)) {
    test(Arc::new(MemorySealed::default())).await;
    let place = SqlitePlace::new();
    test(Arc::new(SqliteSealed::new(place.store().await))).await;
    let place = PostgresPlace::new();
    test(Arc::new(PostgresSealed::new(place.store().await))).await;
}

#[tokio::test]
async fn what_is_put_is_there_until_it_is_discarded() {
    on_each(async |store| {
        for number in 1..=4 {
            store.put(sealed(number, "key")).await.unwrap();
        }
        let again = Sealed { ciphertext: vec![9; 50], ..sealed(1, "key") };
        store.put(again.clone()).await.unwrap();
        assert_eq!(store.get(again.sealed_id).await, Ok(Some(again)));
        store.discard(Uuid::from_u128(1)).await.unwrap();
        store.discard(Uuid::from_u128(1)).await.unwrap();
        store.discard_secret(SecretId::derived(&["even"])).await.unwrap();
        for (number, there) in [(1, false), (2, false), (3, true), (4, false), (5, false)] {
            let found = store.get(Uuid::from_u128(number)).await.unwrap();
            assert_eq!(found.is_some(), there, "{number}");
        }
    })
    .await;
}

#[tokio::test]
async fn one_ledger_has_one_key() {
    on_each(async |store| {
        store.put(sealed(1, "one")).await.unwrap();
        let refused = SealedError::OtherKey { found: "one".to_owned(), given: "two".to_owned() };
        assert_eq!(store.put(sealed(2, "two")).await, Err(refused));
        assert_eq!(store.get(Uuid::from_u128(2)).await, Ok(None));
        let resealed = store.reseal(Box::new(|old| Ok(Sealed { key_id: "two".to_owned(), ..old.clone() }))).await;
        assert_eq!(resealed, Ok(1));
        store.put(sealed(2, "two")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn sealing_anew_changes_all_or_none() {
    on_each(async |store| {
        for number in 1..=3 {
            store.put(sealed(number, "one")).await.unwrap();
        }
        let failed = store.reseal(Box::new(|old| match old.version {
            3 => Err("version 3 cannot be opened".to_owned()),
            _ => Ok(Sealed { key_id: "two".to_owned(), ..old.clone() }),
        }));
        let sentence = "version 3 cannot be opened".to_owned();
        assert_eq!(failed.await, Err(SealedError::NotResealed { sentence }));
        for number in 1..=3 {
            assert_eq!(store.get(sealed(number, "one").sealed_id).await, Ok(Some(sealed(number, "one"))));
        }
    })
    .await;
}

#[tokio::test]
async fn they_outlive_the_store_and_a_discarded_one_leaves_no_bytes() {
    let place = SqlitePlace::new();
    let store = place.store().await;
    let values = SqliteSealed::new(store.clone());
    let (kept, gone) = (sealed(1, "key"), Sealed { ciphertext: b"a telling ciphertext".repeat(3), ..sealed(2, "key") });
    values.put(kept.clone()).await.unwrap();
    values.put(gone.clone()).await.unwrap();
    values.discard(gone.sealed_id).await.unwrap();
    store.close().await;
    let store = place.store().await;
    assert_eq!(SqliteSealed::new(store.clone()).get(kept.sealed_id).await, Ok(Some(kept)));
    store.close().await;
    let bytes = std::fs::read(place.path()).unwrap();
    assert!(!bytes.windows(20).any(|window| window == b"a telling ciphertext"));
}
