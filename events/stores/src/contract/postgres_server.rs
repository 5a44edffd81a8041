//! A PostgreSQL server of one's own, for tests: in a temporary folder, on a free loopback port, gone with its value or, at
//! the latest, with this process. It needs Debian's package `postgresql` and `setpriv` (util-linux), and nothing but std
//! and tempfile.

use std::fs::{self, File};
use std::io::{Error, Result};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Ports to choose from: below those that the system gives to outgoing connections, one of which could take the port of a
/// server while it restarts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How long a server may take to start; after a crash it replays its log first.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// Free ports that are tried, where somebody else was quicker.
const PORT_TRIES: usize = 5;
/// The unprivileged user that runs the server where this process is root, whom it refuses.
const USER: &str = "postgres";

/// Whether the server syncs to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No: quicker, and as good as long as the machine stays up; also over a crash of the server itself.
    Fast,
    /// Yes, as in production.
    Durable,
}

/// A running server; see the module.
#[derive(Debug)]
pub struct PostgresServer {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    durability: Durability,
    settings: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// The system ends the server when the thread that started it ends, and that one waits for this.
    _keeps: mpsc::Sender<()>,
}

impl PostgresServer {
    /// Makes a server and starts it.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or it does not start: its log is in the error.
    pub fn start(durability: Durability) -> Result<Self> {
        Self::start_with(durability, &[])
    }

    /// As [`Self::start`], with settings such as `max_connections=20` besides its own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(durability: Durability, settings: &[&str]) -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("ledger-pg").tempdir()?;
        if is_root() {
            let (user, group) = ids_of_user()?;
            chown(folder.path(), Some(user), Some(group))?;
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, programs, port: 0, durability, settings, running: None };
        server.make()?;
        let mut ports = free_ports();
        for _ in 1..PORT_TRIES {
            server.port = ports.next().ok_or_else(|| Error::other("there is no free port"))?;
            if server.run().is_ok() {
                return Ok(server);
            }
            server.running = None;
        }
        server.port = ports.next().ok_or_else(|| Error::other("there is no free port"))?;
        server.run()?;
        Ok(server)
    }

    /// The address of one of its databases; `postgres` is there from the start.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it as a crash would: connections break, and nothing is tidied up (`immediate` mode).
    ///
    /// # Errors
    /// It does not run.
    pub fn crash(&mut self) -> Result<()> {
        self.stop("QUIT")
    }

    /// Starts it again after [`Self::crash`]; what was committed is replayed.
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&mut self) -> Result<()> {
        let mut arguments: Vec<String> =
            ["listen_addresses=127.0.0.1", "max_connections=200", "log_min_messages=warning"].map(str::to_owned).into();
        arguments.push(format!("port={}", self.port));
        arguments.push(format!("unix_socket_directories={}", self.folder.path().display()));
        if self.durability == Durability::Fast {
            arguments.extend(["fsync=off", "full_page_writes=off", "synchronous_commit=off"].map(str::to_owned));
        }
        arguments.extend(self.settings.iter().cloned());
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = unprivileged(&self.programs.join("postgres"));
        command.arg("-D").arg(self.data());
        command.args(arguments.iter().flat_map(|argument| ["-c", argument]));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.running = Some(start_on_a_thread(command)?);
        self.wait_until_ready()
    }

    fn make(&self) -> Result<()> {
        let mut command = unprivileged(&self.programs.join("initdb"));
        // A collation that sorts as people do: what must be compared byte for byte has to say so.
        command.args([
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=en",
        ]);
        command.args(["--no-sync", "--no-instructions", "--username", USER, "--pgdata"]).arg(self.data());
        let output = command.stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::other(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr))))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        let state = self.data().join("postmaster.pid");
        loop {
            let ended = self.running.as_mut().map(|running| running.child.try_wait()).transpose()?.flatten();
            if let Some(ended) = ended {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                return Err(Error::other(format!("the server ended with {ended}: {log}")));
            }
            // Its eighth line tells the state of the server.
            let ready = fs::read_to_string(&state)
                .is_ok_and(|text| text.lines().nth(7).is_some_and(|line| line.trim() == "ready"));
            if ready {
                return Ok(());
            }
            if began.elapsed() > START_PATIENCE {
                return Err(Error::other("the server did not start in time"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self, signal: &str) -> Result<()> {
        let mut running = self.running.take().ok_or_else(|| Error::other("the server does not run"))?;
        let process = running.child.id().to_string();
        Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &process]).status()?;
        running.child.wait().map(drop)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.running.is_some() {
            let _stopped = self.stop("QUIT");
        }
    }
}

/// The folder with `initdb` and `postgres`: on the path, or where Debian puts the newest.
fn programs() -> Result<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&on_path).collect();
    let mut of_debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    of_debian.sort();
    folders.extend(of_debian.into_iter().rev());
    let found = folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    found.ok_or_else(|| Error::other("PostgreSQL is not installed: initdb is nowhere; install the package postgresql"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn ids_of_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == USER);
    let ids = fields.and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
    ids.ok_or_else(|| Error::other(format!("there is no user {USER} to run the server as")))
}

/// A program that runs as no root, and that the system asks to stop when the thread that started it is gone.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=INT").current_dir("/");
    if is_root() {
        command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// Tests end with their threads; the server must not.
fn start_on_a_thread(mut command: Command) -> Result<Running> {
    let (started, starting) = mpsc::channel();
    let (keeps, kept) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _asked = started.send(command.spawn());
        let _until_dropped = kept.recv();
    });
    let child = starting.recv().map_err(Error::other)??;
    Ok(Running { child, _keeps: keeps })
}

/// Ports that nobody listens on now, beginning at another one in each process.
fn free_ports() -> impl Iterator<Item = u16> {
    let count = PORTS.end - PORTS.start;
    let seed = std::process::id().wrapping_mul(7_919) % u32::from(count);
    let first = u16::try_from(seed).unwrap_or_default();
    (0..count)
        .map(move |step| PORTS.start + (first + step) % count)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
