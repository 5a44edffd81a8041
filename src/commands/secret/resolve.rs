//! Reading a secret for a driver: looked up, put on record, then handed out.
//!
//! **Invariants:** no value is handed out before its `secret-read` is durable. A secret of another company is not
//! there. Whatever is handed out is searched for in what drivers say ([`Redactor`]).

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lease_events::codec::encode;
use lease_events::id::{CommandId, SecretId};
use lease_events::record::{Actor, ActorKind, Metadata, StreamId};
use lease_events::seam::Ids;
use lease_events::secret::{SecretEvent, SecretRead, SecretState, SecretStatus, SecretVersionState};
use lease_events::store::{Append, AppendError, EventStore, Expected};
use lru::LruCache;
use secrecy::SecretString;

use super::{CONFLICTS_MAX, catch_up};
use crate::commands::locks::KeyedLocks;
use crate::commands::session::append_surely;
use crate::drivers::secrets::{SecretError, SecretReader, SecretRef, SecretResolver, SecretVersion};
use crate::secrets::redact::Redactor;
use crate::secrets::{Place, SecretProviders};

/// How many secrets' states are kept, so that a read folds only what came since the last one. Some hundred bytes each.
const KNOWN: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// Reads secrets for drivers.
pub struct SecretReads {
    store: Arc<dyn EventStore>,
    ids: Arc<dyn Ids>,
    providers: SecretProviders,
    redactor: Arc<Redactor>,
    /// One read of a secret at a time: each appends to its stream.
    locks: KeyedLocks,
    known: Mutex<LruCache<SecretId, SecretState>>,
}

impl SecretReads {
    /// Reads through these providers, on record in `store`.
    #[must_use]
    pub fn new(
        store: Arc<dyn EventStore>,
        ids: Arc<dyn Ids>,
        providers: SecretProviders,
        redactor: Arc<Redactor>,
    ) -> Self {
        let known = Mutex::new(LruCache::new(KNOWN));
        Self { store, ids, providers, redactor, locks: KeyedLocks::default(), known }
    }

    /// The secret as its stream says now, if the reader may know it.
    async fn state(&self, secret: SecretId, reader: &SecretReader) -> Result<Option<SecretState>, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&secret).cloned();
        let state = catch_up(self.store.as_ref(), &StreamId::secret(secret), known, |_| {})
            .await
            .map_err(|error| clause(&error))?;
        if let Some(state) = &state {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).put(secret, state.clone());
        }
        Ok(state.filter(|state| state.company_id == reader.company_id && state.status == SecretStatus::Active))
    }

    /// Puts a read on record behind `state`; false where another event came between.
    async fn record(
        &self,
        state: &SecretState,
        version: &SecretVersionState,
        reader: &SecretReader,
    ) -> Result<bool, String> {
        let read = SecretRead {
            version: version.version,
            environment_id: reader.environment_id,
            lease_id: reader.lease_id,
            purpose: reader.purpose.to_owned(),
        };
        let stream = StreamId::secret(state.secret_id);
        let command = CommandId(self.ids.fresh());
        let metadata = metadata(command, reader);
        let events = encode(&[SecretEvent::from(read)], &stream, state.company_id, command, 0, &metadata);
        let append = Append { stream, expected: Expected::Exact(state.revision), events };
        match append_surely(self.store.as_ref(), append).await {
            Ok(_) => Ok(true),
            Err(AppendError::WrongExpectedRevision { .. }) => Ok(false),
            Err(error) => Err(clause(&error)),
        }
    }
}

#[async_trait]
impl SecretResolver for SecretReads {
    async fn resolve(&self, reference: &SecretRef, reader: &SecretReader) -> Result<SecretString, SecretError> {
        let unavailable = |cause: String| SecretError::Unavailable { reference: reference.clone(), cause };
        let unknown = || SecretError::Unknown { reference: reference.clone() };
        let _held = self.locks.hold(reference.secret_id).await;
        for _ in 0..CONFLICTS_MAX {
            let state = self.state(SecretId(reference.secret_id), reader).await.map_err(unavailable)?;
            let state = state.ok_or_else(unknown)?;
            let version = match reference.version {
                SecretVersion::Latest => state.version(None),
                SecretVersion::Number(number) => state.version(Some(number)),
            };
            let version = version.ok_or_else(unknown)?;
            let place = Place { company_id: state.company_id, secret_id: state.secret_id, version: version.version };
            let provider = self.providers.get(version.provider).map_err(|fault| unavailable(fault.to_string()))?;
            let read = provider.read(place, &version.locator).await;
            let value = read.map_err(|fault| unavailable(fault.to_string()))?;
            if self.record(&state, version, reader).await.map_err(unavailable)? {
                self.redactor.remember(&value);
                return Ok(value);
            }
        }
        Err(unavailable("others keep changing it; try again".to_owned()))
    }
}

/// The ledger reads, for a lease: that is the conversation where there is one.
fn metadata(command: CommandId, reader: &SecretReader) -> Metadata {
    Metadata {
        correlation_id: reader.lease_id.map_or_else(|| command.to_string(), |lease| lease.to_string()),
        causation_id: command.to_string(),
        command_id: command,
        actor: Actor { kind: ActorKind::Ledger, id: "secrets".to_owned() },
        traceparent: None,
    }
}

/// A sentence as a clause.
fn clause(error: &impl ToString) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}
