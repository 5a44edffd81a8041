//! One connection to a far side: a master `ssh` that logs in once, and through which every command goes.
//!
//! **Invariants:** nothing of this user's own ssh is used, neither config, keys, agent nor known hosts; the key is needed
//! for the login only, and is forgotten after it. The connection ends with this object, and with this process however
//! it ends: its master reads a pipe of ours on behalf of the far side's watcher (`remote.rs`), which then kills what is
//! left there. The folder of its sockets is ours alone, and holds nothing that is secret.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lease_events::failure::Fault;
use lease_events::seam::Ids;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use super::config::Config;
use super::fault::{self, NoConnection};
use super::remote;
use crate::drivers::process;

/// How many commands run at once over one connection: sshd takes ten sessions (`MaxSessions`), of which the watcher has
/// one, and a kill needs one.
const COMMANDS_MAX: usize = 8;
/// How often ssh asks a far side that says nothing whether it is there, in seconds; after three times it gives up.
const ALIVE_SECONDS: u32 = 15;
/// How long a master may take to answer, and to end by itself before it is killed.
const CLOSE_MAX: Duration = Duration::from_secs(3);
/// Longest that a kill on the far side may take: its own ten seconds, and the way there.
const KILL_MAX: Duration = Duration::from_secs(20);
/// Most bytes that are kept of what a master says.
const WORDS_BYTES_MAX: usize = 4_096;
/// Longest folder for the sockets, in bytes: a socket's path has 107, of which ssh takes 17 for a name of its own.
const FOLDER_BYTES_MAX: usize = 80;

/// A program of OpenSSH, with nothing of this process's environment but where programs are.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    // Its words are read (`fault.rs`), so they must not be translated. A group of its own keeps the terminal's Ctrl-C off.
    command.env("LC_ALL", "C").process_group(0).current_dir("/");
    command
}

/// A connection that was made; it may have been lost since.
pub(super) struct Connection {
    config: Config,
    folder: PathBuf,
    mark: String,
    commands: Arc<Semaphore>,
    killing: tokio::sync::Mutex<()>,
    used: Mutex<Instant>,
    stop: CancellationToken,
    over: CancellationToken,
}

impl Connection {
    /// Connects, checks the host key, logs in, and waits until the far side's watcher watches.
    pub(super) async fn open(config: &Config, key: &SecretString, ids: &dyn Ids) -> Result<Arc<Self>, NoConnection> {
        let local =
            |error: std::io::Error| Fault::new("ssh-failed", format!("The ssh client cannot be used: {error}."));
        let folder = private_folder().map_err(local)?;
        tokio::fs::write(folder.path().join("known_hosts"), config.known_hosts.as_deref().unwrap_or_default())
            .await
            .map_err(local)?;
        let agent = Agent::start(folder.path(), key).await?;
        let mark = ids.fresh().to_string();
        let mut master = process::spawn(login(config, folder.path())).await.map_err(local)?;
        let words = Words::default();
        let ready = tokio::time::timeout(config.connect_timeout, greet(&mut master, &mark, &words)).await;
        drop(agent);
        match ready {
            Ok(Some(stdin)) => {
                let connection = Arc::new(Self {
                    config: config.clone(),
                    folder: folder.path().to_owned(),
                    mark,
                    commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
                    killing: tokio::sync::Mutex::default(),
                    used: Mutex::new(Instant::now()),
                    stop: CancellationToken::new(),
                    over: CancellationToken::new(),
                });
                let stop = connection.stop.clone();
                let over = connection.over.clone();
                tokio::spawn(keep(
                    Master { child: master, stdin, folder },
                    Arc::clone(&connection.commands),
                    stop,
                    over,
                ));
                Ok(connection)
            }
            Ok(None) => Err(fault::read(config, &words.text())),
            Err(_) => Err(fault::timeout(config)),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The mark of one command: fresh, and told apart as of this connection.
    pub(super) fn mark(&self, ids: &dyn Ids) -> String {
        format!("{}.{}", self.mark, ids.fresh())
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled() || self.stop.is_cancelled()
    }

    /// A place among the commands that run at once; `None` where the connection is being closed.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.commands).acquire_owned().await.ok();
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        place
    }

    /// How long ago a command was started last; nothing while one runs.
    pub(super) fn idle_for(&self) -> Duration {
        let runs = self.commands.available_permits() < COMMANDS_MAX;
        if runs { Duration::ZERO } else { self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() }
    }

    /// An `ssh` that runs this text on the far side.
    pub(super) fn command(&self, text: &str) -> Command {
        let mut command = self.client();
        command.args(["--", &self.config.host, text]);
        command
    }

    /// Whether the master is there and answers.
    pub(super) async fn answers(&self) -> bool {
        let mut command = self.client();
        command.args(["-O", "check", "--", &self.config.host]);
        let check = async { process::spawn(command).await.ok()?.wait().await.ok() };
        let status = tokio::time::timeout(CLOSE_MAX, check).await.ok().flatten();
        status.is_some_and(|status| status.success())
    }

    /// An `ssh` that goes over the connection only.
    fn client(&self) -> Command {
        let mut command = program("ssh");
        command.args(["-F", "/dev/null", "-T", "-S"]).arg(socket(&self.folder));
        // Where the master is gone, ssh would connect anew, as whoever it can: this makes that fail.
        for option in ["ControlMaster=no", "ProxyCommand=false", "BatchMode=yes", "LogLevel=QUIET", "EscapeChar=none"] {
            command.args(["-o", option]);
        }
        command
    }

    /// Signals a command's processes; `KILL` waits until none is left. `true` where that is certain.
    pub(super) async fn kill(&self, signal: &str, mark: &str, session: Option<u32>) -> bool {
        let kill = async {
            let _one_at_a_time = self.killing.lock().await;
            let mut child = process::spawn(self.command(&remote::kill())).await.ok()?;
            let mut stdin = child.stdin.take()?;
            stdin.write_all(remote::kill_line(signal, mark, session).as_bytes()).await.ok()?;
            drop(stdin);
            child.wait().await.ok().map(|status| status.success())
        };
        tokio::time::timeout(KILL_MAX, kill).await.ok().flatten().unwrap_or(false)
    }

    /// Begins to end the connection, and with it every command that runs over it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends the connection, and waits for that.
    pub(super) async fn close(&self) {
        self.stop();
        self.over.cancelled().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The running master. Its folder goes last.
struct Master {
    child: Child,
    stdin: ChildStdin,
    folder: TempDir,
}

/// Waits until the master ends or shall end, and clears up behind it.
async fn keep(mut master: Master, commands: Arc<Semaphore>, stop: CancellationToken, over: CancellationToken) {
    tokio::select! {
        _ = master.child.wait() => {}
        () = stop.cancelled() => {
            let idle = commands.available_permits() == COMMANDS_MAX;
            commands.close();
            if idle {
                // Where it does not get through, the watcher sees the end of its input instead.
                let _ = master.stdin.write_all(remote::BYE.as_bytes()).await;
            }
            drop(master.stdin);
            if tokio::time::timeout(CLOSE_MAX, master.child.wait()).await.is_err() {
                // It has ended just now, or goes: the error says only the former.
                let _ = master.child.kill().await;
            }
        }
    }
    drop(master.folder);
    over.cancel();
}

/// The master's command line.
fn login(config: &Config, folder: &Path) -> Command {
    let mut command = program("ssh");
    command.args(["-F", "/dev/null", "-M", "-T", "-S"]).arg(socket(folder));
    let seconds = config.connect_timeout.as_secs() + u64::from(config.connect_timeout.subsec_nanos() > 0);
    let strict = if config.strict_host_key_checking { "yes" } else { "no" };
    let (known_hosts, agent) = (folder.join("known_hosts"), Agent::socket(folder));
    let options = [
        "BatchMode=yes".to_owned(),
        "ControlPersist=no".to_owned(),
        // The key, and nothing else: neither files, nor this user's agent, nor other ways in.
        format!("IdentityAgent={}", agent.display()),
        "IdentityFile=none".to_owned(),
        "PreferredAuthentications=publickey".to_owned(),
        "ForwardAgent=no".to_owned(),
        "ForwardX11=no".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        format!("UserKnownHostsFile={}", known_hosts.display()),
        "GlobalKnownHostsFile=none".to_owned(),
        format!("StrictHostKeyChecking={strict}"),
        "UpdateHostKeys=no".to_owned(),
        "CheckHostIP=no".to_owned(),
        "ConnectionAttempts=1".to_owned(),
        format!("ConnectTimeout={seconds}"),
        format!("ServerAliveInterval={ALIVE_SECONDS}"),
        "ServerAliveCountMax=3".to_owned(),
        "EscapeChar=none".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ];
    for option in &options {
        command.args(["-o", option]);
    }
    command.args(["-p", &config.port.to_string(), "-l", &config.username, "--", &config.host, &remote::watch()]);
    command
}

/// Tells the watcher its mark, and waits until it watches. `None` where the master ended first.
async fn greet(master: &mut Child, mark: &str, words: &Words) -> Option<ChildStdin> {
    let (mut stdin, stdout, stderr) = (master.stdin.take()?, master.stdout.take()?, master.stderr.take()?);
    let listening = tokio::spawn(words.clone().hear(stderr));
    // An ssh that is gone already says why on its error output.
    let _ = stdin.write_all(format!("{mark}\n").as_bytes()).await;
    let mut lines = BufReader::new(stdout).split(b'\n');
    // Start-up files may print lines of their own.
    while let Ok(Some(line)) = lines.next_segment().await {
        if line == remote::READY.as_bytes() {
            return Some(stdin);
        }
        words.add(&line);
        words.add(b"\n");
    }
    // The reader of a pipe at its end cannot fail; all that counts is that it is through.
    let _ = listening.await;
    None
}

/// The last of what a master says, kept for the fault.
#[derive(Debug, Clone, Default)]
struct Words(Arc<Mutex<Vec<u8>>>);

impl Words {
    async fn hear(self, mut stderr: impl AsyncRead + Unpin) {
        let mut buffer = [0; 1_024];
        while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
            self.add(buffer.get(..read).unwrap_or_default());
        }
    }

    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(WORDS_BYTES_MAX);
        kept.drain(..surplus);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("m")
}

/// A fresh folder that only this user may enter, whose path every option and socket can hold as it is.
fn private_folder() -> std::io::Result<TempDir> {
    let is_plain = |path: &&PathBuf| {
        let plain = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || "/._-".contains(one));
        path.is_absolute() && path.as_os_str().len() <= FOLDER_BYTES_MAX - 12 && path.to_str().is_some_and(plain)
    };
    let parent = Some(std::env::temp_dir()).as_ref().filter(is_plain).cloned().unwrap_or_else(|| "/tmp".into());
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("ssh-").permissions(mode).tempdir_in(parent)
}
