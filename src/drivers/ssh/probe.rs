//! Looks whether an `ssh` environment would work: connects, checks the host key, logs in, and looks at the directory.
//! It makes nothing there.

use lease_events::failure::Fault;
use lease_events::seam::Ids;

use super::config::Config;
use super::execute::ask;
use super::{read_only, sessions};
use crate::drivers::secrets::{SecretReader, SecretResolver};
use crate::drivers::{Diagnostic, Outcome, ProbeReport, ProbeScope, Severity};

/// Finds the directory, or the nearest above it that is there, and looks whether it may be written to.
const LOOK: &str = r#"[ -r "/proc/$$/environ" ] || exit 6; d=$1; while [ ! -e "$d" ]; do d=${d%/*}; [ -n "$d" ] || d=/; done; [ -d "$d" ] || exit 3; [ -x "$d" ] || exit 4; [ -w "$d" ] || exit 5; [ "$d" = "$1" ] || exit 7"#;

/// The whole report.
pub(super) async fn probe(
    scope: &ProbeScope,
    config: &Config,
    secrets: &dyn SecretResolver,
    ids: &dyn Ids,
) -> ProbeReport {
    let reader = SecretReader {
        company_id: scope.company_id,
        environment_id: Some(scope.environment_id),
        lease_id: None,
        purpose: "probe",
    };
    let mut diagnostics = Vec::new();
    match sessions::connect(config, &reader, secrets, ids).await {
        Err(barred) => diagnostics.push(error(&barred.fault)),
        Ok(connection) => {
            let sentence = format!("The login at {} works.", config.account());
            diagnostics.push(finding(Severity::Info, "login-works", sentence));
            diagnostics.push(host_key(config));
            let answer = ask(&connection, ids, LOOK, &[&config.remote_workspace_path]).await;
            connection.close().await;
            diagnostics.push(directory(config, answer.map(|answer| answer.code)));
        }
    }
    let faulty = diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error);
    let ok = faulty.is_none();
    let works = || format!("Commands run at {}:{}.", config.account(), config.remote_workspace_path);
    let summary = faulty.map_or_else(works, |diagnostic| diagnostic.message.clone());
    ProbeReport { ok, summary, diagnostics }
}

fn host_key(config: &Config) -> Diagnostic {
    if config.strict_host_key_checking {
        let sentence = format!("The host key of {} is in knownHosts.", config.place());
        finding(Severity::Info, "host-key-known", sentence)
    } else {
        let sentence = "strictHostKeyChecking is false, so that anybody between could pass for the host; put its key \
                        into knownHosts, and set it to true.";
        finding(Severity::Warning, "host-key-unchecked", sentence.to_owned())
    }
}

fn directory(config: &Config, looked: Outcome<Option<i32>>) -> Diagnostic {
    let place = format!("{}:{}", config.account(), config.remote_workspace_path);
    match looked {
        Outcome::Done(Some(0)) => finding(Severity::Info, "directory-writable", format!("{place} can be written to.")),
        Outcome::Done(Some(7)) => {
            finding(Severity::Info, "directory-missing", format!("There is no {place} yet; acquire makes it."))
        }
        Outcome::Done(Some(3)) => {
            finding(Severity::Error, "directory-not-made", format!("{place}, or what is above it, is no directory."))
        }
        Outcome::Done(Some(4)) => {
            let sentence = format!("{place} cannot be entered; give the user the right to.");
            finding(Severity::Error, "directory-not-entered", sentence)
        }
        Outcome::Done(Some(5)) => error(&read_only(config)),
        Outcome::Done(Some(6)) => {
            let sentence = format!("{} shows no processes in /proc, which commands are ended by.", config.account());
            finding(Severity::Error, "far-side-unsupported", sentence)
        }
        Outcome::Done(_) => {
            finding(Severity::Error, "execution-lost", format!("The look at {place} ended without an answer."))
        }
        Outcome::NotDone(fault) | Outcome::Refused(fault) | Outcome::Unknown(fault) => error(&fault),
    }
}

fn error(fault: &Fault) -> Diagnostic {
    finding(Severity::Error, &fault.code, fault.message.clone())
}

fn finding(severity: Severity, code: &str, message: String) -> Diagnostic {
    Diagnostic { severity, message, code: Some(code.to_owned()) }
}
