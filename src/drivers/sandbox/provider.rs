//! The sandbox provider port: what the `sandbox` driver asks of whatever makes sandboxes.
//!
//! A provider sees only its own config keys, never the driver's. The rules of [`Outcome`] and of labels, idempotence
//! and fencing are those of [the driver port](crate::drivers).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{ReleaseStatus, WorkspaceKind};
use serde_json::{Map, Value};

use crate::drivers::{
    Acquired, Command, Execution, Held, InvalidConfig, LeaseScope, Listed, Outcome, OutputSink, ProbeReport,
    ProbeScope, Realized, Resumed, Workspace,
};

/// What a provider can do. What is not declared is not assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent yes-or-no facts, not a state")]
pub struct Abilities {
    /// A repeated acquire of the same lease and attempt gives the same sandbox.
    pub idempotent_acquire: bool,
    /// It can list what it holds, with the labels.
    pub can_list: bool,
    /// That a sandbox is not there can be confirmed.
    pub can_confirm_absence: bool,
    /// A kept sandbox can be resumed.
    pub supports_reuse: bool,
    /// How long a new sandbox may stay out of the listing.
    pub visibility_delay: Duration,
    /// What a workspace is worth, where the config does not say.
    pub workspace_kind: WorkspaceKind,
}

/// What every call to a provider bears.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who it is for.
    pub scope: &'a LeaseScope,
    /// The lease's config: the provider's own keys.
    pub config: &'a Map<String, Value>,
}

/// Makes sandboxes of one kind.
#[async_trait]
pub trait SandboxProvider: Send + Sync {
    /// Its key, as configs name it: `^[a-z0-9][a-z0-9._-]*$`.
    fn key(&self) -> &str;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// How long a call may wait before it reaches the provider, on top of what it may take there.
    fn start_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// The fields of its config that hold secrets, as JSON Pointers.
    fn secret_fields(&self) -> Vec<String> {
        Vec::new()
    }

    /// Checks a config and gives its normal form, defaults filled in.
    async fn validate(&self, config: &Map<String, Value>) -> Result<Map<String, Value>, InvalidConfig>;

    /// Looks whether a sandbox with this config would work. It changes nothing.
    async fn probe(&self, scope: &ProbeScope, config: &Map<String, Value>) -> ProbeReport;

    /// Makes a sandbox, labelled with the scope.
    async fn acquire(&self, call: Call<'_>, requested_expires_at: Option<DateTime<Utc>>) -> Outcome<Acquired>;

    /// Finds a kept sandbox again, under the scope's new token.
    async fn resume(&self, call: Call<'_>, held: &Held) -> Outcome<Resumed>;

    /// Ends a holding: keeps the sandbox, with nothing running in it, or removes it.
    async fn release(&self, call: Call<'_>, held: &Held, status: ReleaseStatus, keep: bool) -> Outcome<Receipt>;

    /// Removes the sandbox.
    async fn destroy(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt>;

    /// Makes the workspace ready.
    async fn realize(&self, call: Call<'_>, held: &Held, workspace: &Workspace) -> Outcome<Realized>;

    /// Runs a command in the sandbox.
    async fn execute(&self, call: Call<'_>, held: &Held, command: Command, output: OutputSink) -> Outcome<Execution>;

    /// Whether a listing covers all that it holds, whatever the config.
    fn lists_all(&self) -> bool {
        false
    }

    /// What it holds now, whoever made it.
    async fn list(&self, scope: &ProbeScope, config: &Map<String, Value>) -> Outcome<Vec<Listed>>;
}

/// Finds providers that come and go while the driver is there, such as those of plugins. Quick: it is asked at each
/// call.
pub trait ProviderSource: Send + Sync {
    /// The provider of this key.
    fn provider(&self, key: &str) -> Option<Arc<dyn SandboxProvider>>;

    /// The keys of all that there are now.
    fn keys(&self) -> Vec<String>;
}
