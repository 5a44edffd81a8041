//! The `local` driver (B5): commands run on this machine, as this user. It isolates nothing.
//!
//! It makes nothing, so that acquire and release have no effect. A command gets `PATH` and `HOME` of this process, a
//! mark of its own by which its processes are found again, and what its caller gives; nothing else of the host's
//! environment (B21). At its end everything that it started is killed: its descendants, its process group, and
//! whatever bears its mark. A process that left the group, lost its parent *and* erased its environment is not found.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{Policy, ReceiptState, ReleaseStatus, WorkspaceKind};
use lease_events::seam::Ids;
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use super::config::{Fields, object};
use super::process::{self, Start, TIMEOUT_DEFAULT, Tree};
use super::{
    Acquired, Command, Diagnostic, DriverTraits, EnvironmentDriver, Execution, Held, InvalidConfig, LeasePlan,
    LeaseScope, Listed, OnResumeFailure, Outcome, OutputSink, PlanRequest, ProbeReport, ProbeScope, Realized,
    RemotePlace, Resumed, Severity, SyncStrategy, Workspace,
};
use crate::processes::proc::Stat;
use crate::processes::tree::{MARK, MarkedTree};

/// Where programs are looked for, where this process has no `PATH` itself.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// Most bytes of output, where the config does not say: 64 MiB.
const OUTPUT_BYTES_DEFAULT: u64 = 64 * 1_024 * 1_024;

/// The driver.
pub struct LocalDriver {
    ids: Arc<dyn Ids>,
}

/// A config: `timeoutMs` and `outputBytesMax`, both optional.
struct Config {
    timeout: Duration,
    output_bytes_max: u64,
}

impl Config {
    fn parse(config: &Value) -> Result<Self, InvalidConfig> {
        let mut fields = Fields::new("driver \"local\"", object(config)?);
        let timeout = fields.integer("timeoutMs", 1..=86_400_000).map_or(TIMEOUT_DEFAULT, Duration::from_millis);
        let output_bytes_max = fields.integer("outputBytesMax", 1..=u64::MAX).unwrap_or(OUTPUT_BYTES_DEFAULT);
        fields.finish()?;
        Ok(Self { timeout, output_bytes_max })
    }
}

impl LocalDriver {
    /// The driver; `ids` marks its commands.
    #[must_use]
    pub fn new(ids: Arc<dyn Ids>) -> Self {
        Self { ids }
    }

    fn start(config: &Config, command: Command, mark: &str) -> Start {
        let mut child = std::process::Command::new(&command.command);
        child.args(&command.args).current_dir(command.cwd.as_deref().unwrap_or("/")).env_clear().process_group(0);
        child.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into()));
        child.envs(std::env::var_os("HOME").map(|home| ("HOME", home)));
        child.envs(command.env).env(MARK, mark);
        Start {
            command: child,
            stdin: command.stdin,
            timeout: command.timeout.unwrap_or(config.timeout),
            output_bytes_max: config.output_bytes_max,
        }
    }
}

#[async_trait]
impl EnvironmentDriver for LocalDriver {
    fn key(&self) -> &'static str {
        "local"
    }

    fn traits(&self, _: &Value) -> DriverTraits {
        DriverTraits {
            effect_free: true,
            idempotent_acquire: true,
            can_list: false,
            can_confirm_absence: true,
            supports_reuse: false,
            visibility_delay: Duration::ZERO,
            call_timeout: Duration::from_secs(30),
        }
    }

    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig> {
        let parsed = Config::parse(config)?;
        Ok(json!({ "timeoutMs": millis(parsed.timeout), "outputBytesMax": parsed.output_bytes_max }))
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig> {
        Config::parse(request.config)?;
        Ok(LeasePlan {
            provider: "local".to_owned(),
            policy: Policy::Ephemeral,
            may_take_over: false,
            workspace_kind: WorkspaceKind::Derived,
            config: request.config.clone(),
            keys_outside_fingerprint: &[],
            on_resume_failure: OnResumeFailure::Fresh,
        })
    }

    async fn probe(&self, _: &ProbeScope, config: &Value) -> ProbeReport {
        match Config::parse(config) {
            Ok(_) => ProbeReport {
                ok: true,
                summary: "Commands run on this machine, without isolation.".to_owned(),
                diagnostics: Vec::new(),
            },
            Err(invalid) => ProbeReport::invalid(&invalid),
        }
    }

    async fn acquire(&self, _: &LeaseScope, _: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        let metadata = Map::from_iter([("driver".to_owned(), "local".into()), ("provider".to_owned(), "local".into())]);
        Outcome::Done(Acquired { metadata, ..Acquired::default() })
    }

    async fn resume(&self, _: &LeaseScope, _: &Held) -> Outcome<Resumed> {
        Outcome::Refused(Fault::new("not-supported", "Environment driver \"local\" does not support resume."))
    }

    async fn release(&self, _: &LeaseScope, held: &Held, _: ReleaseStatus, _: bool) -> Outcome<Receipt> {
        Outcome::Done(nothing_left(held))
    }

    async fn destroy(&self, _: &LeaseScope, held: &Held) -> Outcome<Receipt> {
        Outcome::Done(nothing_left(held))
    }

    async fn realize(&self, _: &LeaseScope, _: &Held, workspace: &Workspace) -> Outcome<Realized> {
        let cwd = workspace.local_path.as_deref().or(workspace.remote_path.as_deref()).unwrap_or("/").to_owned();
        Outcome::Done(Realized {
            sync: SyncStrategy::None,
            summary: format!("Local workspace realized at {cwd}."),
            remote: RemotePlace::default(),
            metadata: Map::new(),
            cwd,
        })
    }

    async fn execute(&self, scope: &LeaseScope, _: &Held, command: Command, output: OutputSink) -> Outcome<Execution> {
        let config = match Config::parse(&scope.config) {
            Ok(config) => config,
            Err(invalid) => return Outcome::Refused(Fault::new("invalid-config", invalid.to_string())),
        };
        if let Err(fault) = process::check(&command) {
            return Outcome::Refused(fault);
        }
        let cwd = command.cwd.as_deref().unwrap_or("/");
        if !Path::new(cwd).is_dir() {
            return Outcome::NotDone(Fault::new("cwd-missing", format!("There is no directory \"{cwd}\".")));
        }
        if !is_there(&command) {
            let sentence = format!("There is no program \"{}\".", command.command);
            return Outcome::NotDone(Fault::new("command-not-found", sentence));
        }
        let program = command.command.clone();
        let mark = self.ids.fresh().to_string();
        let tree = MarkedTree::new(&mark);
        match process::run(Self::start(&config, command, &mark), Box::new(tree), output).await {
            Ok(execution) => Outcome::Done(execution),
            Err(error) => error.outcome(&program),
        }
    }

    async fn list(&self, _: &ProbeScope, _: &Value) -> Outcome<Vec<Listed>> {
        Outcome::Refused(Fault::new("not-supported", "Environment driver \"local\" does not support list."))
    }
}

impl ProbeReport {
    /// The report on a config that a driver will not take.
    pub(super) fn invalid(invalid: &InvalidConfig) -> Self {
        let code = Some("invalid-config".to_owned());
        let diagnostic =
            |fault: &String| Diagnostic { severity: Severity::Error, message: fault.clone(), code: code.clone() };
        Self { ok: false, summary: invalid.to_string(), diagnostics: invalid.faults.iter().map(diagnostic).collect() }
    }
}

/// Whether the program is in `PATH`. Else the system would speak of a right that is missing, where it may not look into
/// one of those folders.
fn is_there(command: &Command) -> bool {
    let given = command.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.into());
    let path = given.or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| PATH_DEFAULT.into());
    command.command.contains('/') || std::env::split_paths(&path).any(|folder| folder.join(&command.command).is_file())
}

fn nothing_left(held: &Held) -> Receipt {
    Receipt { state: ReceiptState::Destroyed, provider_lease_id: held.provider_lease_id.clone() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Tree for MarkedTree {
    async fn started(&mut self, child: Stat) {
        MarkedTree::started(self, child.id);
    }

    async fn over_limit(&mut self) -> &'static str {
        std::future::pending().await
    }

    fn signal(&mut self, signal: Signal) {
        MarkedTree::signal(self, signal);
    }

    async fn end(&mut self) -> bool {
        MarkedTree::end(self).await
    }
}

#[cfg(test)]
mod tests;
