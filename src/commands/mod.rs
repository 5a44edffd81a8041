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
//! | [`heartbeat`] | run-kept-alive on the run's | none |
//! | [`silence`] | as [`release_run`], once a run's time is over | release |
//! | [`orphan`] | orphan-found, then orphan-reclaimed or orphan-reclaim-failed, on the orphan's | destroy |
//! | [`gone`] | cleanup-succeeded, or as [`release`] | none, or release |
//! | [`destroy`] | release-requested, then destroyed or cleanup-failed | destroy |
//! | [`expire`] | as [`release`], once its time is over | release |
//! | [`settle`] | effect-unknown, then what the driver's recipe finds | acquire again, resume, list; then release |
//! | [`cleanup`] | cleanup-succeeded, cleanup-failed or cleanup-escalated | destroy |
//! | [`waive`] | cleanup-waived | none |
//! | [`environment`] | created, updated, probed, archived | probe |
//! | [`plugin`] | none: it is the operator's, and logged | start and stop of workers |
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
pub mod cleanup;
pub mod destroy;
pub mod effect;
pub mod environment;
pub mod error;
pub mod execute;
pub mod expire;
pub mod gone;
pub mod heartbeat;
pub mod locks;
pub mod names;
pub mod once;
pub mod orphan;
pub mod owe;
pub mod owners;
pub mod plugin;
pub mod realize;
pub mod release;
pub mod release_run;
pub mod renew;
pub mod replay;
pub mod resume;
mod run;
pub mod secret;
pub mod session;
pub mod settle;
pub mod silence;
pub mod upkeep;
pub mod waive;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use std::future::Future;

use lease_events::id::LedgerId;
use lease_events::seam::crash::{CrashPoint, CrashSeam, Fate, Side, Step};
use lease_events::seam::{Clock, Ids};
use lease_events::store::EventStore;
use lease_projections::read_model::ReadModel;

use crate::drivers::Drivers;
use crate::secrets::SecretProviders;
use locks::KeyedLocks;
use owe::CareSettings;
use owners::Owners;

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
    /// Which other processes are dead.
    pub owners: Arc<dyn Owners>,
    /// How owed cleanup is tried again, and what is never destroyed by the ledger itself.
    pub care: CareSettings,
    /// What happens at crash points: nothing, but in tests.
    pub crash: Arc<dyn CrashSeam>,
    /// Who in this process runs an effect of which lease, or a command of which id.
    pub locks: KeyedLocks,
}

impl Context {
    /// A command has come to one side of a step: where a test says so, it goes no further.
    pub async fn reached(&self, step: Step, side: Side) {
        if self.crash.reached(CrashPoint { step, side }) == Fate::Park {
            std::future::pending::<()>().await;
        }
    }

    /// Takes a step, with its crash points before and after.
    pub async fn step<T>(&self, step: Step, work: impl Future<Output = T>) -> T {
        self.reached(step, Side::Before).await;
        let result = work.await;
        self.reached(step, Side::After).await;
        result
    }
}
