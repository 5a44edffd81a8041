//! A real sshd on a free port of the loopback, for one test of the crate or of the whole ledger.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// How often another port is tried: somebody may take a free one before sshd does.
const PORTS_TRIED_MAX: u32 = 20;

/// The server. Dropping it ends it; a connection ends with its client.
pub(crate) struct Sshd {
    /// Its first process.
    pub(crate) server: Child,
    folder: tempfile::TempDir,
    port: u16,
    host_key: String,
    key: String,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::start_as(&[], |_| String::new())
    }

    /// Starts it as an argument of these words, with more lines of config, made of its folder.
    pub(crate) fn start_as(words: &[&str], more: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir().expect("what sshd needs");
        let path = folder.path();
        let host_key = generate(&path.join("host")).1;
        let (key, public) = generate(&path.join("user"));
        // The private key is in this process only, so that a search of the disk for it means something.
        std::fs::remove_file(path.join("user")).expect("what sshd needs");
        std::fs::write(path.join("authorized"), public).expect("what sshd needs");
        std::fs::create_dir(path.join("work dir")).expect("what sshd needs");
        if rustix::process::geteuid().is_root() {
            std::fs::create_dir_all("/run/sshd").expect("what sshd needs");
        }
        for _ in 0..PORTS_TRIED_MAX {
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .expect("what sshd needs")
                .local_addr()
                .expect("what sshd needs")
                .port();
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
        self.path().canonicalize().expect("what sshd needs").join("work dir")
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn config(&self) -> Value {
        json!({
            "host": "127.0.0.1",
            "port": self.port,
            "username": output("id", &["-un"]).trim(),
            "remoteWorkspacePath": self.work().to_str().expect("what sshd needs"),
            "privateKeySecretRef":
                { "type": "secret_ref", "secretId": "0198c0de-0000-7000-8000-000000000001", "version": "latest" },
            "knownHosts": format!("[127.0.0.1]:{} {}", self.port, self.host_key),
            "outputBytesMax": 1_024 * 1_024,
        })
    }

    /// Ends it: from then on it takes no connection.
    pub(crate) fn end(&mut self) {
        // One that has ended cannot be killed any more, and need not be.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.end();
    }
}

/// A private and a public key.
fn generate(path: &Path) -> (String, String) {
    output(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path.to_str().expect("what sshd needs")],
    );
    let read = |path: &Path| std::fs::read_to_string(path).expect("what sshd needs");
    (read(path), read(&path.with_extension("pub")).trim().to_owned())
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("what sshd needs")
}

/// Starts sshd, and waits until it listens; `None` where the port was taken.
fn serve(words: &[&str], folder: &Path, port: u16, more: &str) -> Option<Child> {
    let folder = folder.to_str().expect("what sshd needs");
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
    std::fs::write(&config, options.join("\n") + "\n").expect("what sshd needs");
    let line = [words, &["/usr/sbin/sshd", "-D", "-e", "-f", &config]].concat();
    let mut server = Command::new(line[0])
        .args(&line[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("what sshd needs");
    let mut lines = BufReader::new(server.stderr.take().expect("what sshd needs")).lines().map_while(Result::ok);
    if lines.any(|line| line.starts_with("Server listening on")) {
        // Read on, or sshd would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        return Some(server);
    }
    server.wait().expect("what sshd needs");
    None
}
