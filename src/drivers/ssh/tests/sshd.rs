//! A real sshd that a test can cut off, and a subject that logs in there.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lease_events::seam::SystemIds;
use rustix::process::Signal;
use secrecy::SecretString;
use serde_json::Value;

use super::super::SshDriver;
use super::server;
pub(crate) use super::server::output;
use crate::drivers::contract::Subject;
use crate::drivers::secrets::{SecretError, SecretReader, SecretRef, SecretResolver};
use crate::drivers::{ProbeScope, Workspace};
use crate::processes::proc;

/// The server. Dropping it ends it, with every connection.
pub(crate) struct Sshd(server::Sshd);

impl Deref for Sshd {
    type Target = server::Sshd;

    fn deref(&self) -> &server::Sshd {
        &self.0
    }
}

/// Secrets that are one text.
pub(crate) struct OneSecret {
    value: Option<String>,
    /// For what it was read.
    pub(crate) read_for: Mutex<Vec<&'static str>>,
}

#[async_trait]
impl SecretResolver for OneSecret {
    async fn resolve(&self, reference: &SecretRef, reader: &SecretReader) -> Result<SecretString, SecretError> {
        self.read_for.lock().unwrap().push(reader.purpose);
        let unknown = || SecretError::Unknown { reference: reference.clone() };
        self.value.clone().map(SecretString::from).ok_or_else(unknown)
    }
}

pub(crate) fn secret(value: Option<&str>) -> Arc<OneSecret> {
    Arc::new(OneSecret { value: value.map(str::to_owned), read_for: Mutex::default() })
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self(server::Sshd::start())
    }

    /// Starts it as an argument of these words, with more lines of config, made of its folder.
    pub(crate) fn start_as(words: &[&str], more: impl Fn(&Path) -> String) -> Self {
        Self(server::Sshd::start_as(words, more))
    }

    pub(crate) fn subject(&self) -> Subject {
        self.subject_with(&[])
    }

    /// A subject with these changes to its config.
    pub(crate) fn subject_with(&self, changes: &[(&str, Value)]) -> Subject {
        let mut config = self.config();
        for (key, value) in changes {
            config[*key] = value.clone();
        }
        subject(config, secret(Some(self.key())))
    }

    /// Ends it and every connection, at once.
    pub(crate) fn kill(&self) {
        self.kill_from(0);
    }

    /// Ends every connection.
    pub(crate) fn kill_connections(&self) {
        self.kill_from(1);
    }

    fn kill_from(&self, skipped: usize) {
        let root = self.server.id().try_into().unwrap();
        // What runs in a session of its own is a command, and none of sshd's: its fate is what tests look at.
        for process in proc::descendants(&proc::all(), root).into_iter().skip(skipped) {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", process.id.pid)).unwrap_or_default();
            if name.starts_with("sshd") {
                proc::signal(process.id, Signal::KILL);
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn subject(config: Value, secrets: Arc<OneSecret>) -> Subject {
    Subject {
        driver: Arc::new(SshDriver::new(secrets, Arc::new(SystemIds))),
        config,
        shell: true,
        workspace: Workspace::default(),
        // What the account is, and what the far side's shell sets itself.
        own_env: &[
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "PWD",
            "OLDPWD",
            "SHLVL",
            "_",
            super::super::remote::MARK,
        ],
    }
}

pub(crate) fn probe_scope(subject: &Subject) -> ProbeScope {
    let scope = subject.scope();
    ProbeScope { company_id: scope.company_id, environment_id: scope.environment_id }
}
