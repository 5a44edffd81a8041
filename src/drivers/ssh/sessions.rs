//! The leases that this process has worked with lately, each with its connection.
//!
//! **Invariants:** a lease has at most one connection, its own; a call under a lower fencing token than the lease was
//! seen with, or of another ledger, is refused. What is idle for [`IDLE_MAX`] is forgotten: another process may have
//! released the lease, and a later call connects anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lease_events::failure::Fault;
use lease_events::id::{LeaseId, LedgerId};
use lease_events::seam::Ids;

use super::config::Config;
use super::connection::Connection;
use super::fault::NoConnection;
use crate::drivers::LeaseScope;
use crate::drivers::secrets::{SecretError, SecretReader, SecretResolver};

/// How long a connection without commands is kept.
const IDLE_MAX: Duration = Duration::from_mins(10);

/// One lease.
struct Session {
    ledger_id: LedgerId,
    fencing_token: u64,
    /// Held while connecting, so that calls at the same time share one connection.
    connection: Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<LeaseId, Session>>);

impl Sessions {
    fn map(&self) -> MutexGuard<'_, HashMap<LeaseId, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks by what right a call comes, and remembers its token where the lease is known.
    pub(super) fn check(&self, scope: &LeaseScope) -> Result<(), Fault> {
        let mut map = self.map();
        let Some(session) = map.get_mut(&scope.lease_id) else { return Ok(()) };
        if session.ledger_id != scope.ledger_id {
            let sentence = format!("Lease {} is another ledger's; this one must leave it alone.", scope.lease_id);
            return Err(Fault::new("not-ours", sentence));
        }
        if session.fencing_token > scope.fencing_token {
            let sentence = format!("The fencing token {} is stale; the lease has a newer holder.", scope.fencing_token);
            return Err(Fault::new("stale-fencing-token", sentence));
        }
        session.fencing_token = scope.fencing_token;
        Ok(())
    }

    /// The lease's connection, made where there is none that lives.
    pub(super) async fn connect(
        self: &Arc<Self>,
        scope: &LeaseScope,
        config: &Config,
        reader: &SecretReader,
        secrets: &dyn SecretResolver,
        ids: &dyn Ids,
    ) -> Result<Arc<Connection>, NoConnection> {
        let slot = {
            let mut map = self.map();
            let session = map.entry(scope.lease_id).or_insert_with(|| Session {
                ledger_id: scope.ledger_id,
                fencing_token: scope.fencing_token,
                connection: Arc::default(),
            });
            Arc::clone(&session.connection)
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_over()) {
            return Ok(Arc::clone(connection));
        }
        let connection = match connect(config, reader, secrets, ids).await {
            Ok(connection) => connection,
            Err(barred) => {
                self.map().remove(&scope.lease_id);
                return Err(barred);
            }
        };
        tokio::spawn(retire(Arc::downgrade(self), scope.lease_id, Arc::downgrade(&connection)));
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Forgets the lease, and ends its connection; `false` where it had none.
    pub(super) async fn end(&self, lease_id: LeaseId) -> bool {
        let session = self.map().remove(&lease_id);
        let Some(session) = session else { return false };
        let connection = session.connection.lock().await.take();
        let Some(connection) = connection else { return false };
        let lived = !connection.is_over();
        connection.close().await;
        lived
    }
}

/// Resolves the key, and connects with it.
pub(super) async fn connect(
    config: &Config,
    reader: &SecretReader,
    secrets: &dyn SecretResolver,
    ids: &dyn Ids,
) -> Result<Arc<Connection>, NoConnection> {
    let key = secrets.resolve(&config.private_key, reader).await.map_err(|error| {
        let refused = matches!(error, SecretError::Unknown { .. });
        let code = if refused { "secret-unknown" } else { "secret-unavailable" };
        NoConnection { fault: Fault::new(code, error.to_string()), refused }
    })?;
    Connection::open(config, &key, ids).await
}

/// Waits until a connection is idle for too long, and forgets its lease.
async fn retire(sessions: Weak<Sessions>, lease_id: LeaseId, connection: Weak<Connection>) {
    loop {
        let idle = match connection.upgrade() {
            Some(connection) if !connection.is_over() => connection.idle_for(),
            _ => return,
        };
        if idle < IDLE_MAX {
            tokio::time::sleep(IDLE_MAX.saturating_sub(idle)).await;
            continue;
        }
        if let Some(connection) = connection.upgrade() {
            connection.stop();
        }
        if let Some(sessions) = sessions.upgrade() {
            sessions.map().remove(&lease_id);
        }
        return;
    }
}
