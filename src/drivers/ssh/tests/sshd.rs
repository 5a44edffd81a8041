//! A real sshd on a free port of the loopback, for one test, and a subject that logs in there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lease_events::seam::SystemIds;
use rustix::process::Signal;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::super::SshDriver;
use crate::drivers::contract::Subject;
use crate::drivers::secrets::{SecretError, SecretReader, SecretRef, SecretResolver};
use crate::drivers::{ProbeScope, Workspace};
use crate::processes::proc;

/// How often another port is tried: somebody may take a free one before sshd does.
const PORTS_TRIED_MAX: u32 = 20;

/// The server. Dropping it ends it, with every connection.
pub(crate) struct Sshd {
    server: Child,
    folder: tempfile::TempDir,
    port: u16,
    host_key: String,
    key: String,
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
        Self::start_as(&[], |_| String::new())
    }

    /// Starts it as an argument of these words, with more lines of config, made of its folder.
    pub(crate) fn start_as(words: &[&str], more: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir().unwrap();
        let path = folder.path();
        let host_key = generate(&path.join("host")).1;
        let (key, public) = generate(&path.join("user"));
        // The private key is in this process only, so that a search of the disk for it means something.
        std::fs::remove_file(path.join("user")).unwrap();
        std::fs::write(path.join("authorized"), public).unwrap();
        std::fs::create_dir(path.join("work dir")).unwrap();
        if is_root() {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        for _ in 0..PORTS_TRIED_MAX {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(server) = serve(words, path, port, &more(path)) {
                return Self { server, folder, port, host_key, key };
            }
        }
        panic!("sshd took no port; is the package openssh-server there?");
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path().canonicalize().unwrap().join("work dir")
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn config(&self) -> Value {
        json!({
            "host": "127.0.0.1",
            "port": self.port,
            "username": output("id", &["-un"]).trim(),
            "remoteWorkspacePath": self.work().to_str().unwrap(),
            "privateKeySecretRef":
                { "type": "secret_ref", "secretId": "0198c0de-0000-7000-8000-000000000001", "version": "latest" },
            "knownHosts": format!("[127.0.0.1]:{} {}", self.port, self.host_key),
            "outputBytesMax": 1_024 * 1_024,
        })
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
        let _ = self.server.wait();
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

/// A private and a public key.
fn generate(path: &Path) -> (String, String) {
    output("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path.to_str().unwrap()]);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    (read(path), read(&path.with_extension("pub")).trim().to_owned())
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Starts sshd, and waits until it listens; `None` where the port was taken.
fn serve(words: &[&str], folder: &Path, port: u16, more: &str) -> Option<Child> {
    let folder = folder.to_str().unwrap();
    let config = format!("{folder}/config");
    let options = [
        "ListenAddress 127.0.0.1".to_owned(),
        format!("Port {port}"),
        format!("HostKey {folder}/host"),
        format!("AuthorizedKeysFile {folder}/authorized"),
        "PidFile none".to_owned(),
        "StrictModes no".to_owned(),
        "UsePAM no".to_owned(),
        "PermitRootLogin prohibit-password".to_owned(),
        "PasswordAuthentication no".to_owned(),
        "KbdInteractiveAuthentication no".to_owned(),
        more.to_owned(),
    ];
    std::fs::write(&config, options.join("\n") + "\n").unwrap();
    let line = [words, &["/usr/sbin/sshd", "-D", "-e", "-f", &config]].concat();
    let mut server =
        Command::new(line[0]).args(&line[1..]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    if lines.any(|line| line.starts_with("Server listening on")) {
        // Read on, or sshd would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(server);
    }
    server.wait().unwrap();
    None
}
