//! What is done: one file a command, each the same way. Load, decide (pure), append the intent, run the effect
//! through the driver, append the outcome, answer.
//!
//! | command | events on its stream | effect |
//! | --- | --- | --- |
//! | [`acquire`] | requested, reuse-decided?, then provider-acquired, resumed, acquire-failed or effect-unknown | acquire, or resume of what another lease left |
//! | [`realize`] | realized | realize |
//! | [`execute`] | command-executed | execute |
//! | [`renew`] | renewed | none |
//! | [`resume`] | resumed | resume of its own |
//! | [`release`], [`release_run`] | release-requested, then released (and cleanup-failed) | release |
//! | [`destroy`] | release-requested, then destroyed or cleanup-failed | destroy |
//! | [`environment`] | created, updated, probed, archived | probe |
//! | [`secret`] | created, version-added, removed; read, by whoever asks for the value | keep and delete the value |
//!
//! **Invariants**
//! - An intent is durable before its effect starts; an outcome is durable before the caller hears of it.
//! - A command decides only on a stream that it loaded, with that stream's revision; projections only suggest.
//! - One process runs one effect of a lease at a time ([`locks`]); between processes the expected revision decides.
//! - A command that was begun is finished, whether or not its caller still listens (`Ledger` spawns it).

pub mod acquire;
pub mod authority;
pub mod caller;
pub mod destroy;
pub mod effect;
pub mod environment;
pub mod error;
pub mod execute;
pub mod locks;
pub mod once;
pub mod realize;
pub mod release;
pub mod release_run;
pub mod renew;
pub mod resume;
pub mod secret;
pub mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use lease_events::id::LedgerId;
use lease_events::seam::{Clock, Ids};
use lease_events::store::EventStore;
use lease_projections::read_model::ReadModel;

use crate::drivers::Drivers;
use crate::secrets::SecretProviders;
use locks::KeyedLocks;

/// All that a command may use.
pub struct Context {
    /// What labels at providers bear.
    pub ledger_id: LedgerId,
    /// Where events are kept.
    pub store: Arc<dyn EventStore>,
    /// What is true now, as a hint.
    pub read_model: Arc<dyn ReadModel>,
    /// Who makes environments.
    pub drivers: Drivers,
    /// Who keeps secret values.
    pub secrets: SecretProviders,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// This process, as in-flight effects name their owner.
    pub owner: String,
    /// Who in this process runs an effect of which lease, or a command of which id.
    pub locks: KeyedLocks,
}
