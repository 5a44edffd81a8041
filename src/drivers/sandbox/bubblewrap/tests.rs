//! The bubblewrap provider against the real `bwrap`: the contract, what a sandbox cannot do, and where its limits end it.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::id::{CompanyId, EnvironmentId};
use lease_events::lease::vocabulary::{ReceiptState, ReleaseStatus};
use lease_events::seam::SystemClock;
use serde_json::{Value, json};

use super::BubblewrapProvider;
use crate::drivers::contract::{Ran, Subject, command, done, keeps_the_contract, shell};
use crate::drivers::sandbox::SandboxDriver;
use crate::drivers::{Command, Held, LeaseScope, Outcome, ProbeScope, Severity, Workspace};

/// How soon a limit must have ended a command that runs straight into it.
const SOON: Duration = Duration::from_secs(20);

struct Sandbox {
    subject: Subject,
    scope: LeaseScope,
    held: Held,
    root: tempfile::TempDir,
}

fn subject(config: &Value) -> (Subject, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let provider = BubblewrapProvider::new(&root.path().join("bubblewrap"), Arc::new(SystemClock));
    let mut config = config.clone();
    config["provider"] = "bubblewrap".into();
    let subject = Subject {
        driver: Arc::new(SandboxDriver::new([Arc::new(provider) as _])),
        config,
        shell: true,
        workspace: Workspace::default(),
        own_env: &["PATH", "HOME", "PWD"],
    };
    (subject, root)
}

async fn sandbox(config: &Value) -> Sandbox {
    let (subject, root) = subject(config);
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    Sandbox { subject, scope, held, root }
}

impl Sandbox {
    async fn run(&self, command: Command) -> Ran {
        done(self.subject.run(&self.scope, &self.held, command).await)
    }

    async fn stdout(&self, script: &str) -> String {
        let ran = self.run(shell(script)).await;
        assert_eq!(ran.execution.exit_code, Some(0), "{script}: {ran:?}");
        ran.stdout
    }

    /// Whether a process of the host's has this in its command line.
    fn in_a_command_line(text: &str) -> bool {
        let lines = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(text))
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    keeps_the_contract(&subject(&json!({ "outputBytesMax": 1_024 * 1_024 })).0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_several_threads() {
    keeps_the_contract(&subject(&json!({ "outputBytesMax": 1_024 * 1_024 })).0).await;
}

#[tokio::test]
async fn the_host_cannot_be_seen() {
    let sandbox = sandbox(&json!({})).await;
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let hidden = format!(
        "for path in /etc/shadow {home} /root /home /var /sys {}; do test -e $path && echo $path; done; true",
        sandbox.root.path().display()
    );
    assert_eq!(sandbox.stdout(&hidden).await, "");
    assert_eq!(sandbox.stdout("ls /workspace; cat /etc/passwd | wc -l").await.trim(), "2");
    let processes = sandbox.stdout("cd /proc; ls -d [0-9]* | wc -l").await;
    assert!(processes.trim().parse::<u32>().unwrap() < 10, "{processes}");
    let environments =
        sandbox.stdout("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | cut -d= -f1 | sort -u").await;
    let strangers: Vec<_> =
        environments.lines().filter(|name| !["PATH", "HOME", "PWD", "OLDPWD", ""].contains(name)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    let rights = sandbox.stdout("grep -E 'Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status; id -u; hostname").await;
    assert_eq!(
        rights.split_whitespace().collect::<Vec<_>>().join(" "),
        "CapPrm: 0000000000000000 CapEff: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1 1000 sandbox"
    );
    assert_eq!(sandbox.stdout("unshare --user true 2>/dev/null || echo refused").await, "refused\n");
    assert_eq!(sandbox.stdout("ls /proc/self/fd").await.lines().count(), 4, "its own three, and the listing's");
}

#[tokio::test]
async fn only_the_workspace_and_the_temporary_folders_can_be_written() {
    let sandbox = sandbox(&json!({})).await;
    let script = "for path in /x /etc/x /usr/x /dev/x /proc/sys/kernel/hostname /bin/x /workspace/x /tmp/x /dev/shm/x; do \
                  (echo x > $path) 2>/dev/null && echo $path; done; true";
    assert_eq!(sandbox.stdout(script).await, "/workspace/x\n/tmp/x\n/dev/shm/x\n");
    assert_eq!(sandbox.stdout("cat x; ls /tmp").await, "x\n", "the workspace stays, the rest ends with the command");
}

#[tokio::test]
async fn the_network_is_there_only_where_the_config_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        "(exec 3<>/dev/tcp/127.0.0.1/{}) 2>/dev/null && echo reached; true",
        listener.local_addr().unwrap().port()
    );
    for (network, expected) in [(false, ""), (true, "reached\n")] {
        let sandbox = sandbox(&json!({ "network": network })).await;
        assert_eq!(sandbox.run(command(&["bash", "-c", &script])).await.stdout, expected, "network: {network}");
    }
}

#[tokio::test]
async fn a_tenants_environment_touches_nothing_of_the_host() {
    let sandbox = sandbox(&json!({})).await;
    let value = "canary-5f1e0c";
    let env = vec![("LD_PRELOAD".to_owned(), "/workspace/evil.so".to_owned()), ("SECRET".to_owned(), value.to_owned())];
    let (sink, mut output) = tokio::sync::mpsc::channel(8);
    let command = Command { env, ..shell("echo $SECRET; read line") };
    let running = sandbox.subject.driver.execute(
        &sandbox.scope,
        &sandbox.held,
        Command { timeout: Some(Duration::from_secs(1)), ..command },
        sink,
    );
    let look = async {
        let mut said = String::new();
        while !said.contains(value) {
            said.push_str(&String::from_utf8_lossy(&output.recv().await.expect("it says its secret").bytes));
        }
        // `ld.so` complains once for each program that runs with the variable; none of them is `bwrap`.
        assert!(!said.contains("bwrap"), "{said}");
        assert!(!Sandbox::in_a_command_line(value));
        while output.recv().await.is_some() {}
    };
    let (outcome, ()) = tokio::join!(running, look);
    done(outcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_ends_at_the_limit() {
    let sandbox = sandbox(&json!({ "processesMax": 32 })).await;
    let started = Instant::now();
    let ran = sandbox.run(command(&["bash", "-c", "bomb() { bomb | bomb & }; bomb; sleep 82001"])).await;
    assert_eq!(ran.execution.limit.as_deref(), Some("processes"), "{:?}", ran.execution);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(!Sandbox::in_a_command_line("82001"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_cannot_outnumber_the_kernels_limit() {
    // No watcher would be quick enough to see these: it is the kernel that refuses.
    let sandbox = sandbox(&json!({ "processesMax": 4 })).await;
    let ran = sandbox.run(command(&["bash", "-c", "ulimit -u; ulimit -c"])).await;
    assert_eq!(ran.stdout, "40\n0\n");
    let many = "i=0; while [ $i -lt 200 ]; do sleep 82002 & i=$((i+1)); done; echo all";
    assert!(!sandbox.run(shell(many)).await.stdout.contains("all"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_hog_ends_at_the_limit() {
    let sandbox = sandbox(&json!({ "memoryBytesMax": 64 * 1_024 * 1_024 })).await;
    let started = Instant::now();
    // Several processes of 24 MiB each: none is over the limit alone.
    let hog = "for i in 1 2 3 4 5 6; do sh -c 'x=$(head -c 12000000 /dev/zero | tr \"\\0\" x); y=$x$x; sleep 82003' & done; wait";
    let ran = sandbox.run(shell(hog)).await;
    assert_eq!(ran.execution.limit.as_deref(), Some("memory"), "{ran:?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(!Sandbox::in_a_command_line("82003"));
}

#[tokio::test]
async fn files_and_processor_time_have_limits() {
    let sandbox = sandbox(&json!({ "fileBytesMax": 4_096, "cpuSecondsMax": 1, "tmpBytesMax": 1_024 * 1_024 })).await;
    let ran = sandbox.run(shell("exec head -c 100000 /dev/zero > big")).await;
    assert_eq!(ran.execution.limit.as_deref(), Some("file-bytes"), "{ran:?}");
    let ran = sandbox.run(shell("while :; do :; done")).await;
    assert_eq!(ran.execution.limit.as_deref(), Some("cpu"), "{ran:?}");
}

#[tokio::test]
async fn nothing_outlives_a_command_whatever_it_does() {
    let sandbox = sandbox(&json!({})).await;
    for (number, script) in [
        ("82011", "sleep 82011 & exec sleep 82011"),
        ("82012", "(setsid sh -c 'setsid sleep 82012 &' &); exec sleep 82012"),
        ("82013", "trap '' TERM; setsid sleep 82013 & while :; do sleep 82013; done"),
    ] {
        let brief = Command { timeout: Some(Duration::from_millis(300)), ..shell(script) };
        let ran = sandbox.run(brief).await;
        assert!(ran.execution.timed_out, "{script}: {ran:?}");
        assert!(!Sandbox::in_a_command_line(number), "left behind by: {script}");
    }
    assert_eq!(sandbox.stdout("setsid sleep 82014 > /dev/null 2>&1 & echo over").await, "over\n");
    assert!(!Sandbox::in_a_command_line("82014"));
}

#[tokio::test]
async fn a_release_stops_what_still_runs_even_from_elsewhere() {
    let sandbox = sandbox(&json!({})).await;
    // Another instance on the same folder stands for another process.
    let elsewhere = BubblewrapProvider::new(&sandbox.root.path().join("bubblewrap"), Arc::new(SystemClock));
    let elsewhere = SandboxDriver::new([Arc::new(elsewhere) as _]);
    for keep in [true, false] {
        let (sink, mut output) = tokio::sync::mpsc::channel(1);
        let running =
            sandbox.subject.driver.execute(&sandbox.scope, &sandbox.held, shell("echo up; exec sleep 82021"), sink);
        let release = async {
            assert_eq!(output.recv().await.unwrap().bytes, b"up\n");
            crate::drivers::EnvironmentDriver::release(
                &elsewhere,
                &sandbox.scope,
                &sandbox.held,
                ReleaseStatus::Released,
                keep,
            )
            .await
        };
        let (outcome, receipt) = tokio::join!(running, release);
        assert_eq!(done(outcome).signal.as_deref(), Some("SIGKILL"));
        assert_eq!(done(receipt).state, if keep { ReceiptState::Kept } else { ReceiptState::Destroyed });
        assert!(!Sandbox::in_a_command_line("82021"));
    }
    let left: Vec<_> = std::fs::read_dir(sandbox.root.path().join("bubblewrap")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn removal_copes_with_folders_that_cannot_be_entered_and_follows_no_link() {
    let sandbox = sandbox(&json!({})).await;
    let precious = sandbox.root.path().join("precious");
    std::fs::write(&precious, "x").unwrap();
    let script =
        format!("ln -s {} link; ln -s / root; mkdir -p a/b; touch a/b/c; chmod 0 a/b; chmod 500 a", precious.display());
    sandbox.stdout(&script).await;
    let receipt = done(sandbox.subject.driver.destroy(&sandbox.scope, &sandbox.held).await);
    assert_eq!(receipt.state, ReceiptState::Destroyed);
    assert!(precious.exists());
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_set_up_was_not_run() {
    let sandbox = sandbox(&json!({})).await;
    let lost = Command { cwd: Some("/no/such/place".to_owned()), ..command(&["pwd"]) };
    let outcome = sandbox.subject.run(&sandbox.scope, &sandbox.held, lost).await;
    assert!(matches!(&outcome, Outcome::NotDone(fault) if fault.code == "sandbox-setup"), "{outcome:?}");
}

#[tokio::test]
async fn the_folders_are_private_and_a_probe_says_what_is_wrong() {
    let sandbox = sandbox(&json!({})).await;
    let folder = sandbox.root.path().join("bubblewrap");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let provider = BubblewrapProvider::new(&sandbox.root.path().join("file/under"), Arc::new(SystemClock));
    std::fs::write(sandbox.root.path().join("file"), "").unwrap();
    let (company_id, environment_id) = (CompanyId::derived(&["probe"]), EnvironmentId::derived(&["probe"]));
    let scope = ProbeScope { company_id, environment_id };
    let report = super::SandboxProvider::probe(&provider, &scope, &serde_json::Map::new()).await;
    let errors: Vec<_> = report.diagnostics.iter().filter(|one| one.severity == Severity::Error).collect();
    assert!(!report.ok);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].code.as_deref(), Some("root-not-writable"));
}
