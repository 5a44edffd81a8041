//! How `bwrap` is called: its arguments, and the file descriptors that carry them.
//!
//! **Invariants:** the environment of a command goes through a file descriptor: it stands in no process list, and no
//! process on the host's side of the sandbox, `bwrap` itself included, ever runs with it. Where this process is root,
//! a first `bwrap` only makes the workspace reachable and `setpriv` drops root before the sandbox itself is made.

use std::fs::{self, File};
use std::io::{self, PipeReader, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, getrlimit};

use super::config::Config;
use super::{CWD, Programs};
use crate::drivers::Command;

/// Where the first `bwrap` shows the workspace to the second.
const STAGE: &str = "/mnt";
const STAGED_WORKSPACE: &str = "/mnt/workspace";
/// The user and group inside.
const INSIDE_ID: &str = "1000";
const PASSWD: &str = "sandbox:x:1000:1000::/workspace:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "sandbox:x:1000:\nnogroup:x:65534:\n";
/// Where programs are looked for inside.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Folders beside `/usr` that hold programs and libraries; on most systems they are links into it.
const SYSTEM_FOLDERS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What programs need of `/etc`; none of it tells anything of the host's users or services.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ssl/certs",
    "/etc/localtime",
];
/// What name resolution needs of it; only with network.
const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// The file descriptors as `bwrap` finds them.
const ARGS_FD: i32 = 3;
const PASSWD_FD: i32 = 4;
const GROUP_FD: i32 = 5;
const STATUS_FD: i32 = 6;
/// The second `bwrap` writes to the same pipe; the first closes its own end of it before it starts the second.
const STAGED_STATUS_FD: i32 = 7;

/// A call of `bwrap` that is ready to be spawned.
pub(super) struct Sandboxed {
    pub(super) process: Process,
    /// What `bwrap` says of the sandbox, as JSON documents: its first process, and the command's exit code.
    pub(super) status: PipeReader,
    /// How many times `bwrap` is called, one inside the other.
    pub(super) stages: usize,
}

/// Puts a command into a sandbox around this workspace. `uid`: the user it runs as, where that is not this process's.
pub(super) fn sandboxed(
    programs: &Programs,
    config: &Config,
    command: &Command,
    workspace: &Path,
    uid: Option<u32>,
) -> io::Result<Sandboxed> {
    let (status, writer) = io::pipe()?;
    let source = if uid.is_some() { Path::new(STAGED_WORKSPACE) } else { workspace };
    let mut fds = vec![
        FdMapping {
            parent_fd: in_memory("args", &options(config, command, source, uid.is_some())?)?,
            child_fd: ARGS_FD,
        },
        FdMapping { parent_fd: in_memory("passwd", PASSWD.as_bytes())?, child_fd: PASSWD_FD },
        FdMapping { parent_fd: in_memory("group", GROUP.as_bytes())?, child_fd: GROUP_FD },
    ];
    let mut process = Process::new(&programs.bwrap);
    if let Some(uid) = uid {
        fds.push(FdMapping { parent_fd: writer.try_clone()?.into(), child_fd: STAGED_STATUS_FD });
        process.args(["--die-with-parent", "--unshare-pid", "--json-status-fd", &STATUS_FD.to_string()]);
        process.args(["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]);
        process.args(["--cap-add", "CAP_SETPCAP", "--dev-bind", "/", "/", "--tmpfs", STAGE, "--bind"]);
        process.arg(workspace).args([STAGED_WORKSPACE, "--"]).arg(&programs.setpriv);
        process.args([format!("--reuid={uid}"), format!("--regid={uid}")]);
        process.args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"]).arg(&programs.bwrap);
    }
    fds.push(FdMapping { parent_fd: writer.into(), child_fd: STATUS_FD });
    process.args(["--args", &ARGS_FD.to_string(), "--"]).arg(&programs.prlimit).args(limits(config)).arg("--");
    process.arg(&command.command).args(&command.args);
    // A group of its own: a signal to the ledger's group is not one to its sandboxes.
    process.env_clear().current_dir("/").process_group(0);
    process.fd_mappings(fds).map_err(io::Error::other)?;
    Ok(Sandboxed { process, status, stages: if uid.is_some() { 2 } else { 1 } })
}

/// The options of the `bwrap` that makes the sandbox, each ended by NUL.
fn options(config: &Config, command: &Command, workspace: &Path, staged: bool) -> io::Result<Vec<u8>> {
    let mut options = Options::default();
    options.add("--unshare-user --disable-userns --unshare-ipc --unshare-pid --unshare-uts --unshare-cgroup-try");
    options.add("--die-with-parent --new-session --cap-drop ALL --hostname sandbox --clearenv");
    options.add(&format!("--uid {INSIDE_ID} --gid {INSIDE_ID} --json-status-fd"));
    options.push(&if staged { STAGED_STATUS_FD } else { STATUS_FD }.to_string())?;
    if !config.network {
        options.add("--unshare-net");
    }
    options.add("--ro-bind /usr /usr");
    for folder in SYSTEM_FOLDERS {
        options.system_folder(folder)?;
    }
    for file in SYSTEM_FILES.iter().chain(NETWORK_FILES.iter().filter(|_| config.network)) {
        options.add(&format!("--ro-bind-try {file} {file}"));
    }
    options.add(&format!("--perms 0644 --ro-bind-data {PASSWD_FD} /etc/passwd"));
    options.add(&format!("--perms 0644 --ro-bind-data {GROUP_FD} /etc/group --proc /proc --dev /dev"));
    for folder in ["/dev/shm", "/tmp"] {
        options.add(&format!("--size {} --perms 1777 --tmpfs {folder}", config.tmp_bytes_max));
    }
    options.add("--bind");
    options.push(workspace.to_str().ok_or_else(|| io::Error::other("the root folder's path is not UTF-8"))?)?;
    options.add(&format!("{CWD} --remount-ro /dev --remount-ro / --chdir"));
    options.push(command.cwd.as_deref().unwrap_or(CWD))?;
    let defaults = [("PATH", PATH), ("HOME", CWD)];
    let given = command.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in defaults.into_iter().chain(given) {
        options.add("--setenv");
        options.push(name)?;
        options.push(value)?;
    }
    Ok(options.0)
}

#[derive(Default)]
struct Options(Vec<u8>);

impl Options {
    /// Adds words that are ours, apart at blanks.
    fn add(&mut self, words: &str) {
        for word in words.split(' ') {
            self.0.extend_from_slice(word.as_bytes());
            self.0.push(0);
        }
    }

    /// Adds one word that may be anything but an end of a word.
    fn push(&mut self, word: &str) -> io::Result<()> {
        if word.contains('\0') {
            return Err(io::Error::other("a text holds the NUL character"));
        }
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(0);
        Ok(())
    }

    /// Shows a system folder as it is on the host: as a link, or read-only.
    fn system_folder(&mut self, folder: &str) -> io::Result<()> {
        let Ok(metadata) = fs::symlink_metadata(folder) else { return Ok(()) };
        if metadata.is_symlink() {
            let target: PathBuf = fs::read_link(folder)?;
            self.add("--symlink");
            self.push(target.to_str().unwrap_or_default())?;
            return self.push(folder);
        }
        self.add(&format!("--ro-bind {folder} {folder}"));
        Ok(())
    }
}

/// The limits that the kernel holds for each process. Those on memory and processes stand above the config's: the
/// watcher names the limit and ends the command; these bound what can happen between two of its looks.
fn limits(config: &Config) -> Vec<String> {
    let processes = config.processes_max.saturating_mul(2).saturating_add(32);
    let memory = config.memory_bytes_max.saturating_add(config.memory_bytes_max / 4);
    let mut limits = vec![
        "--core=0".to_owned(),
        format!("--nproc={}", within(Resource::Nproc, processes)),
        format!("--data={}", within(Resource::Data, memory)),
        format!("--fsize={}", within(Resource::Fsize, config.file_bytes_max)),
    ];
    if let Some(seconds) = config.cpu_seconds_max {
        // The soft limit's signal says which limit it was; the hard one's does not.
        let hard = within(Resource::Cpu, seconds.saturating_add(2));
        limits.push(format!("--cpu={}:{hard}", seconds.min(hard)));
    }
    limits
}

/// No more than this process may itself: nobody can raise a hard limit.
fn within(resource: Resource, wanted: u64) -> u64 {
    getrlimit(resource).maximum.map_or(wanted, |own| own.min(wanted))
}

/// A file in memory that holds `bytes`, to be read from its beginning.
fn in_memory(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}
