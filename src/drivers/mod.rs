//! The driver port: what a command asks of whatever makes environments, in the command's words.
//!
//! **An effect has four outcomes** ([`Outcome`]): done, not done, refused, unknown. A driver that cannot tell
//! whether its effect happened says so; it never guesses. A driver knows nothing of events, streams or tables.
//!
//! **Invariants:** an acquire bears the lease id, attempt and ledger id as ownership label wherever the provider can
//! hold one, and a repeated acquire of the same lease and attempt gives the same thing. Release and destroy are
//! idempotent. Config that reaches a driver is the lease's own, never the environment's present one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{Policy, ReleaseStatus, WorkspaceKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::secrets::redact::Redactor;
use redacting::Redacting;

pub mod local;
pub mod plugin;
pub mod redacting;
pub mod sandbox;
pub mod secrets;
pub mod ssh;

mod config;
mod process;

#[cfg(test)]
mod contract;

/// How an effect went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<T> {
    /// It happened, and this came of it.
    Done(T),
    /// It did not happen, and nothing of it is there; it may be tried again.
    NotDone(Fault),
    /// The provider will not do it, now or on a retry of the same request; nothing of it is there.
    Refused(Fault),
    /// It may or may not have happened.
    Unknown(Fault),
}

impl<T> Outcome<T> {
    /// The same outcome, with what came of it turned into something else.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(turn(value)),
            Self::NotDone(fault) => Outcome::NotDone(fault),
            Self::Refused(fault) => Outcome::Refused(fault),
            Self::Unknown(fault) => Outcome::Unknown(fault),
        }
    }
}

/// The codes of faults by which it is certain that the provider was never called: what should call it is not there.
const NEVER_REACHED: [&str; 5] =
    ["unknown-driver", "provider-missing", "plugin-unavailable", "worker-unavailable", "request-not-sent"];

/// Whether the provider may have been called before a `NotDone` or `Refused` with this fault. A try that never reached
/// it does not count as one.
#[must_use]
pub fn may_have_reached_provider(fault: &Fault) -> bool {
    !NEVER_REACHED.contains(&fault.code.as_str())
}

/// What a driver or provider can do. What is not declared is not assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent yes-or-no facts, not a state")]
pub struct DriverTraits {
    /// Acquire and release touch nothing outside the ledger: there is no effect to crash in.
    pub effect_free: bool,
    /// A repeated acquire of the same lease and attempt gives the same thing.
    pub idempotent_acquire: bool,
    /// It can list what it holds, with the labels.
    pub can_list: bool,
    /// That a thing is not there can be confirmed.
    pub can_confirm_absence: bool,
    /// What a lease leaves may be resumed for another.
    pub supports_reuse: bool,
    /// How long a thing that was made may stay out of the listing.
    pub visibility_delay: Duration,
    /// Longest time that acquire, resume, release, destroy or realize may take before it counts as unknown.
    pub call_timeout: Duration,
}

/// Who an effect is for: goes to every call, as label, idempotency key and proof of holding.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseScope {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The lease.
    pub lease_id: LeaseId,
    /// The run that owns it.
    pub run_id: Option<RunId>,
    /// The issue that the run works on.
    pub issue_id: Option<String>,
    /// The agent.
    pub agent_id: Option<String>,
    /// The execution workspace.
    pub execution_workspace_id: Option<String>,
    /// How the workspace is used.
    pub execution_workspace_mode: Option<String>,
    /// The kind of agent adapter.
    pub adapter_type: Option<String>,
    /// The lease's config: normalised, secrets as references.
    pub config: Value,
    /// The token under which the call is made. A holder with a lower one is stale.
    pub fencing_token: u64,
    /// The number of the try, from 1.
    pub attempt: u32,
}

/// For whom a probe or listing looks: whose secrets it may read, and what a plugin is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeScope {
    /// The tenant.
    pub company_id: CompanyId,
    /// The environment.
    pub environment_id: EnvironmentId,
}

/// What an acquire is to be decided on, before anything happens.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRequest<'a> {
    /// The environment's config as it is now.
    pub config: &'a Value,
    /// Whether a run asks; an ad-hoc acquire has none.
    pub has_run: bool,
    /// Whether an execution workspace is named.
    pub has_execution_workspace: bool,
}

/// What a driver makes of a [`PlanRequest`]. Pure: nothing has happened yet.
#[derive(Debug, Clone, PartialEq)]
pub struct LeasePlan {
    /// The provider, such as `local` or `bubblewrap`.
    pub provider: String,
    /// What becomes of the provider lease at the end; `ephemeral` for every ad-hoc acquire (B13).
    pub policy: Policy,
    /// Whether this acquire may take over what another lease left (B13).
    pub may_take_over: bool,
    /// What the workspace is worth.
    pub workspace_kind: WorkspaceKind,
    /// The config to record in the lease: normalised, secrets as references, enough to tear it down.
    pub config: Value,
    /// The config keys that do not belong to the reuse fingerprint (B14).
    pub keys_outside_fingerprint: &'static [&'static str],
    /// What the environment asks for where a take-over fails to resume (B16).
    pub on_resume_failure: OnResumeFailure,
}

/// What to do where a take-over fails to resume, and the thing is not known to be gone (B16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnResumeFailure {
    /// Acquire a fresh one.
    #[default]
    Fresh,
    /// Fail the acquire.
    Fail,
}

/// A config that a driver will not take: every fault of it, each a sentence that names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The config is not valid: {}", .faults.join(" "))]
pub struct InvalidConfig {
    /// One sentence a fault.
    pub faults: Vec<String>,
}

/// Whether an environment would work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// Whether it would.
    pub ok: bool,
    /// One line.
    pub summary: String,
    /// The single findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// `info`, `warning` or `error`.
    pub severity: Severity,
    /// A sentence.
    pub message: String,
    /// A stable word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// It will work, but not as well as it could.
    Warning,
    /// It will not work.
    Error,
}

/// What a provider gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Acquired {
    /// The provider's name of it; `None` where it has none.
    pub provider_lease_id: Option<String>,
    /// What to record of it; never a secret.
    pub metadata: Map<String, Value>,
    /// The end that the provider confirmed.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What came of a resume.
#[derive(Debug, Clone, PartialEq)]
pub enum Resumed {
    /// It is the same thing, and runs.
    Same(Acquired),
    /// The provider says that it is gone.
    Gone,
}

/// An existing provider lease, as the ledger recorded it.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The provider's name of it.
    pub provider_lease_id: Option<String>,
    /// What was recorded of it.
    pub metadata: Map<String, Value>,
}

/// The workspace that a run wants to work in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Workspace {
    /// Where it is on the orchestrator's machine.
    pub local_path: Option<String>,
    /// Where it is on the environment.
    pub remote_path: Option<String>,
    /// How it is used.
    pub mode: Option<String>,
    /// Whatever else the orchestrator knows.
    pub metadata: Option<Map<String, Value>>,
}

/// A workspace that is ready.
#[derive(Debug, Clone, PartialEq)]
pub struct Realized {
    /// Where commands start.
    pub cwd: String,
    /// How files get there and back (B24).
    pub sync: SyncStrategy,
    /// The place in one line (B24).
    pub summary: String,
    /// The remote side of the realization record; absent keys are not known (B24).
    pub remote: RemotePlace,
    /// What else the driver says.
    pub metadata: Map<String, Value>,
}

/// How a workspace's files get to the environment and back (B24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStrategy {
    /// They are in place.
    None,
    /// Through git over ssh.
    SshGitImportExport,
    /// As an archive.
    SandboxArchiveUploadDownload,
    /// As the provider does it.
    ProviderDefined,
}

/// Where a workspace is on the far side (B24).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemotePlace {
    /// The path there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
}

/// A command to run in a workspace.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts; `None` is the realized workspace.
    pub cwd: Option<String>,
    /// Its environment: this, and nothing of the host's.
    pub env: Vec<(String, String)>,
    /// Its input.
    pub stdin: Option<Vec<u8>>,
    /// Longest time it may run; `None` is the config's limit.
    pub timeout: Option<Duration>,
}

/// A piece of a running command's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Which of the two.
    pub stream: OutputStream,
    /// The bytes, as they came.
    pub bytes: Vec<u8>,
}

/// Which of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where a running command's output goes. Bounded: a slow reader slows the command, and a closed one is ignored.
pub type OutputSink = mpsc::Sender<OutputChunk>;

/// How a command ended. Its output went to the [`OutputSink`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// Its exit code, where it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, such as `SIGKILL`.
    pub signal: Option<String>,
    /// Whether its time ran out.
    pub timed_out: bool,
    /// The limit that ended it, such as `output` or `memory`.
    pub limit: Option<String>,
}

/// One thing that a provider holds now, with the labels it bears.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The provider's name of it.
    pub provider_lease_id: String,
    /// The ledger that it is labelled with.
    pub ledger_id: Option<LedgerId>,
    /// The lease that it is labelled with.
    pub lease_id: Option<LeaseId>,
    /// When it was made.
    pub created_at: Option<DateTime<Utc>>,
}

/// A driver: makes environments of one kind.
#[async_trait]
pub trait EnvironmentDriver: Send + Sync {
    /// Its key, such as `local`, `ssh`, `sandbox` or `plugin`.
    fn key(&self) -> &'static str;

    /// What it can do for a lease with this config.
    fn traits(&self, config: &Value) -> DriverTraits;

    /// The fields of such a config that hold secrets, as JSON Pointers (RFC 6901). A plaintext there is kept as a secret
    /// before the driver sees the config, which then holds a reference.
    fn secret_fields(&self, _config: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Checks a config and gives its normal form, defaults filled in: that is what an environment keeps.
    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig>;

    /// Decides what an acquire with this config would be. Pure and quick.
    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig>;

    /// Looks whether an environment with this config would work. It changes nothing, and is no activity.
    async fn probe(&self, scope: &ProbeScope, config: &Value) -> ProbeReport;

    /// Makes a new provider lease. `requested_expires_at` is a wish; what the provider confirms counts.
    async fn acquire(&self, scope: &LeaseScope, requested_expires_at: Option<DateTime<Utc>>) -> Outcome<Acquired>;

    /// Resumes an existing provider lease under the scope's new token.
    async fn resume(&self, scope: &LeaseScope, held: &Held) -> Outcome<Resumed>;

    /// Ends a holding: keeps the thing where `keep` says so, else removes it.
    async fn release(&self, scope: &LeaseScope, held: &Held, status: ReleaseStatus, keep: bool) -> Outcome<Receipt>;

    /// Removes the thing, whatever the policy.
    async fn destroy(&self, scope: &LeaseScope, held: &Held) -> Outcome<Receipt>;

    /// Makes the workspace ready.
    async fn realize(&self, scope: &LeaseScope, held: &Held, workspace: &Workspace) -> Outcome<Realized>;

    /// Runs a command in the workspace; `cwd` of the lease's realization is in `command.cwd` where none was given.
    async fn execute(
        &self,
        scope: &LeaseScope,
        held: &Held,
        command: Command,
        output: OutputSink,
    ) -> Outcome<Execution>;

    /// What the provider holds now for this config, whoever made it. Refused where `can_list` is not declared.
    async fn list(&self, scope: &ProbeScope, config: &Value) -> Outcome<Vec<Listed>>;
}

/// The registered drivers, by key.
#[derive(Clone, Default)]
pub struct Drivers(std::collections::BTreeMap<&'static str, Arc<dyn EnvironmentDriver>>);

impl Drivers {
    /// A registry of these drivers.
    #[must_use]
    pub fn new(drivers: impl IntoIterator<Item = Arc<dyn EnvironmentDriver>>) -> Self {
        Self(drivers.into_iter().map(|driver| (driver.key(), driver)).collect())
    }

    /// The same drivers, with whatever they say searched for secrets.
    #[must_use]
    pub fn redacting(self, redactor: &Arc<Redactor>) -> Self {
        let wrap = |driver| Arc::new(Redacting::new(driver, Arc::clone(redactor))) as Arc<dyn EnvironmentDriver>;
        Self(self.0.into_iter().map(|(key, driver)| (key, wrap(driver))).collect())
    }

    /// The driver of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<dyn EnvironmentDriver>> {
        self.0.get(key)
    }

    /// The keys of all drivers, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }
}
