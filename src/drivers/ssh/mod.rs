//! The `ssh` driver (B6): commands run in a directory of another machine, over the system's OpenSSH client.
//!
//! The directory is the user's: acquire makes it where it is missing, and release leaves it with all that is in it. What
//! is ours is the connection of a lease (`connection.rs`, one master `ssh` each; `sessions.rs`), and the processes of the
//! commands that run over it (`execute.rs`, and what runs on the far side: `remote.rs`, `report.rs`). Both end with the
//! lease, and with this process.
//!
//! **Invariants:** a key is resolved when a connection is made, goes into the memory of a private agent for the login
//! (`agent.rs`), and stands on no disk and no command line. An effect after which the connection was lost is unknown.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{Policy, ReceiptState, ReleaseStatus, WorkspaceKind};
use lease_events::seam::Ids;
use serde_json::{Map, Value, json};

use self::config::Config;
use self::connection::Connection;
use self::execute::{Limits, ask};
use self::fault::NoConnection;
use self::sessions::Sessions;
use super::process;
use super::secrets::{SecretReader, SecretResolver};
use super::{
    Acquired, Command, DriverTraits, EnvironmentDriver, Execution, Held, InvalidConfig, LeasePlan, LeaseScope, Listed,
    OnResumeFailure, Outcome, OutputSink, PlanRequest, ProbeReport, ProbeScope, Realized, RemotePlace, Resumed,
    SyncStrategy, Workspace,
};

mod agent;
mod config;
mod connection;
mod execute;
mod fault;
mod probe;
mod remote;
mod report;
mod sessions;

/// The driver's key.
const KEY: &str = "ssh";
/// What a call may take beyond connecting: questions on the far side, and closing.
const CALL_TIMEOUT_MARGIN: Duration = Duration::from_secs(90);
/// Longest call where the config cannot be read.
const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_mins(2);

/// Makes the directory, and says where it really is.
const PREPARE: &str = r#"[ -r "/proc/$$/environ" ] || exit 6; mkdir -p -- "$1" || exit 3; cd -P -- "$1" || exit 4; [ -w . ] || exit 5; pwd -P"#;
/// The same, and makes nothing.
const LOOK: &str = r#"[ -d "$1" ] || exit 3; cd -P -- "$1" || exit 4; [ -w . ] || exit 5; pwd -P"#;

/// The driver.
pub struct SshDriver {
    secrets: Arc<dyn SecretResolver>,
    ids: Arc<dyn Ids>,
    sessions: Arc<Sessions>,
}

impl SshDriver {
    /// The driver; `secrets` resolves the private keys, and `ids` marks its commands.
    #[must_use]
    pub fn new(secrets: Arc<dyn SecretResolver>, ids: Arc<dyn Ids>) -> Self {
        Self { secrets, ids, sessions: Arc::default() }
    }

    async fn connect(
        &self,
        scope: &LeaseScope,
        config: &Config,
        purpose: &'static str,
    ) -> Result<Arc<Connection>, NoConnection> {
        let reader = SecretReader {
            company_id: scope.company_id,
            environment_id: Some(scope.environment_id),
            lease_id: Some(scope.lease_id),
            purpose,
        };
        self.sessions.connect(scope, config, &reader, &*self.secrets, &*self.ids).await
    }

    /// Ends what is ours. The directory is not.
    async fn end(&self, scope: &LeaseScope, held: &Held) -> Outcome<Receipt> {
        if let Err(fault) = self.admit(scope, held) {
            return Outcome::Refused(fault);
        }
        let ended = self.sessions.end(scope.lease_id).await;
        let state = if ended { ReceiptState::Destroyed } else { ReceiptState::Gone };
        Outcome::Done(Receipt { state, provider_lease_id: held.provider_lease_id.clone() })
    }

    /// The lease's config, where the call comes by right and for what the lease holds.
    fn admit(&self, scope: &LeaseScope, held: &Held) -> Result<Config, Fault> {
        let config = parse(scope)?;
        let expected = remote_cwd(held).map(|cwd| config.provider_lease_id(cwd));
        if held.provider_lease_id.is_some() && held.provider_lease_id != expected {
            let sentence = "What the lease is said to hold is not a directory of its own config's account.";
            return Err(Fault::new("not-ours", sentence));
        }
        self.sessions.check(scope)?;
        Ok(config)
    }
}

#[async_trait]
impl EnvironmentDriver for SshDriver {
    fn key(&self) -> &'static str {
        KEY
    }

    fn secret_fields(&self, _config: &Value) -> Vec<String> {
        vec!["/privateKeySecretRef".to_owned()]
    }

    fn traits(&self, config: &Value) -> DriverTraits {
        let connect = Config::parse(config).map(|config| config.connect_timeout + CALL_TIMEOUT_MARGIN);
        DriverTraits {
            effect_free: false,
            idempotent_acquire: true,
            can_list: false,
            // What a far side does that was cut off cannot be seen.
            can_confirm_absence: false,
            supports_reuse: false,
            visibility_delay: Duration::ZERO,
            call_timeout: connect.unwrap_or(CALL_TIMEOUT_DEFAULT),
        }
    }

    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig> {
        Config::parse(config).map(|config| config.normal_form())
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig> {
        let config = Config::parse(request.config)?;
        Ok(LeasePlan {
            provider: KEY.to_owned(),
            policy: Policy::Ephemeral,
            may_take_over: false,
            workspace_kind: WorkspaceKind::Unknown,
            config: config.normal_form(),
            keys_outside_fingerprint: &[],
            on_resume_failure: OnResumeFailure::Fresh,
        })
    }

    async fn probe(&self, scope: &ProbeScope, config: &Value) -> ProbeReport {
        match Config::parse(config) {
            Ok(config) => probe::probe(scope, &config, &*self.secrets, &*self.ids).await,
            Err(invalid) => ProbeReport::invalid(&invalid),
        }
    }

    async fn acquire(&self, scope: &LeaseScope, _: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        let config = match parse(scope).and_then(|config| self.sessions.check(scope).map(|()| config)) {
            Ok(config) => config,
            Err(fault) => return Outcome::Refused(fault),
        };
        let connection = match self.connect(scope, &config, "acquire").await {
            Ok(connection) => connection,
            Err(barred) => return barred.outcome(),
        };
        let answer = match ask(&connection, &*self.ids, PREPARE, &[&config.remote_workspace_path]).await {
            Outcome::Done(answer) => answer,
            other => return other.map(|_| Acquired::default()),
        };
        match answer.code {
            Some(0) => Outcome::Done(acquired(scope, &config, real_path(&answer.stdout))),
            code => {
                self.sessions.end(scope.lease_id).await;
                no_directory(&config, code, &answer.stderr)
            }
        }
    }

    /// Looks whether the directory is still there, and still the same.
    async fn resume(&self, scope: &LeaseScope, held: &Held) -> Outcome<Resumed> {
        let config = match self.admit(scope, held) {
            Ok(config) => config,
            Err(fault) => return Outcome::Refused(fault),
        };
        let connection = match self.connect(scope, &config, "resume").await {
            Ok(connection) => connection,
            Err(barred) => return barred.outcome(),
        };
        let answer = match ask(&connection, &*self.ids, LOOK, &[&config.remote_workspace_path]).await {
            Outcome::Done(answer) => answer,
            other => return other.map(|_| Resumed::Gone),
        };
        match answer.code {
            Some(0) if remote_cwd(held) == Some(real_path(&answer.stdout)) => {
                let (provider_lease_id, metadata) = (held.provider_lease_id.clone(), held.metadata.clone());
                Outcome::Done(Resumed::Same(Acquired { provider_lease_id, metadata, expires_at: None }))
            }
            Some(0 | 3) => Outcome::Done(Resumed::Gone),
            code => no_directory(&config, code, &answer.stderr),
        }
    }

    async fn release(&self, scope: &LeaseScope, held: &Held, _: ReleaseStatus, _: bool) -> Outcome<Receipt> {
        self.end(scope, held).await
    }

    async fn destroy(&self, scope: &LeaseScope, held: &Held) -> Outcome<Receipt> {
        self.end(scope, held).await
    }

    async fn realize(&self, scope: &LeaseScope, held: &Held, workspace: &Workspace) -> Outcome<Realized> {
        let config = match self.admit(scope, held) {
            Ok(config) => config,
            Err(fault) => return Outcome::Refused(fault),
        };
        let paths = [remote_cwd(held), workspace.remote_path.as_deref(), workspace.local_path.as_deref()];
        let Some(cwd) = paths.into_iter().flatten().next().map(str::to_owned) else {
            let sentence = "The lease has no remoteCwd, and the workspace names no path; give remotePath.";
            return Outcome::Refused(Fault::new("no-path", sentence));
        };
        Outcome::Done(Realized {
            sync: SyncStrategy::SshGitImportExport,
            summary: format!("SSH workspace realized at {}:{cwd}.", config.account()),
            remote: RemotePlace {
                path: Some(cwd.clone()),
                host: Some(config.host),
                port: Some(config.port),
                username: Some(config.username),
                sandbox_id: None,
            },
            metadata: Map::new(),
            cwd,
        })
    }

    async fn execute(
        &self,
        scope: &LeaseScope,
        held: &Held,
        command: Command,
        output: OutputSink,
    ) -> Outcome<Execution> {
        let admitted = self.admit(scope, held).and_then(|config| check(&command).map(|()| config));
        let config = match admitted {
            Ok(config) => config,
            Err(fault) => return Outcome::Refused(fault),
        };
        let connection = match self.connect(scope, &config, "execute").await {
            Ok(connection) => connection,
            Err(barred) => return barred.outcome(),
        };
        let base = remote_cwd(held).unwrap_or(&config.remote_workspace_path);
        let cwd = match command.cwd.as_deref() {
            None => base.to_owned(),
            Some(cwd) if cwd.starts_with('/') => cwd.to_owned(),
            Some(cwd) => format!("{base}/{cwd}"),
        };
        let timeout = command.timeout.unwrap_or(config.timeout);
        let limits = Limits { timeout, output_bytes_max: config.output_bytes_max };
        execute::execute(&connection, &*self.ids, command, &cwd, limits, output).await
    }

    async fn list(&self, _: &ProbeScope, _: &Value) -> Outcome<Vec<Listed>> {
        Outcome::Refused(Fault::new("not-supported", "Environment driver \"ssh\" does not support list."))
    }
}

fn parse(scope: &LeaseScope) -> Result<Config, Fault> {
    Config::parse(&scope.config).map_err(|invalid| Fault::new("invalid-config", invalid.to_string()))
}

/// What of a command no far side could be given, as a sentence.
fn check(command: &Command) -> Result<(), Fault> {
    process::check(command)?;
    match command.env.iter().find(|(name, _)| !remote::is_name(name)) {
        Some((name, _)) => Err(Fault::new(
            "invalid-command",
            format!(
                "\"{name}\" cannot be set over ssh; a variable's name has letters, digits and underscores only, and no \
                 digit first."
            ),
        )),
        None => Ok(()),
    }
}

fn acquired(scope: &LeaseScope, config: &Config, remote_cwd: &str) -> Acquired {
    let mut metadata = json!({
        "driver": KEY,
        "provider": KEY,
        "host": config.host,
        "port": config.port,
        "username": config.username,
        "remoteWorkspacePath": config.remote_workspace_path,
        "remoteCwd": remote_cwd,
    });
    if let Some(mode) = &scope.execution_workspace_mode {
        metadata["workspaceMode"] = mode.as_str().into();
    }
    Acquired {
        provider_lease_id: Some(config.provider_lease_id(remote_cwd)),
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        expires_at: None,
    }
}

/// The path that `pwd` printed.
fn real_path(printed: &str) -> &str {
    printed.strip_suffix('\n').unwrap_or(printed)
}

fn remote_cwd(held: &Held) -> Option<&str> {
    held.metadata.get("remoteCwd").and_then(Value::as_str)
}

/// Why there is no directory to work in: what [`PREPARE`] or [`LOOK`] exited with.
fn no_directory<T>(config: &Config, code: Option<i32>, said: &str) -> Outcome<T> {
    let place = format!("{}:{}", config.account(), config.remote_workspace_path);
    let said = said.trim();
    let barred = ["Permission denied", "Read-only file system"].iter().any(|part| said.contains(part));
    match code {
        Some(6) => {
            let sentence = format!("{} shows no processes in /proc, which commands are ended by.", config.account());
            Outcome::Refused(Fault::new("far-side-unsupported", sentence))
        }
        Some(5) => Outcome::Refused(read_only(config)),
        Some(3) if barred => Outcome::Refused(read_only(config)),
        Some(3) => Outcome::NotDone(Fault::new("directory-not-made", format!("{place} cannot be made ({said})."))),
        Some(4) => {
            let sentence = format!("{place} cannot be entered ({said}); give the user the right to.");
            Outcome::Refused(Fault::new("directory-not-entered", sentence))
        }
        _ => Outcome::Unknown(Fault::new("execution-lost", format!("The look at {place} ended without an answer."))),
    }
}

/// The directory, or the one that it would be made in, cannot be written to.
fn read_only(config: &Config) -> Fault {
    let sentence = format!(
        "{}:{} cannot be written to; give the user the right to, or choose another remoteWorkspacePath.",
        config.account(),
        config.remote_workspace_path
    );
    Fault::new("directory-read-only", sentence)
}

#[cfg(test)]
mod tests;
