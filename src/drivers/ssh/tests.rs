//! The ssh driver's own tests, against a real sshd: the contract, what can go wrong on the way, and what is left.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use lease_events::lease::vocabulary::{ReceiptState, ReleaseStatus};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::sshd::{Sshd, is_root, output, probe_scope, secret, subject};
use crate::drivers::contract::{Subject, command, done, keeps_the_contract, refused, shell};
use crate::drivers::{
    Acquired, Command, Held, Outcome, OutputChunk, OutputStream, Resumed, Severity, SyncStrategy, Workspace,
};

mod leaks;
#[path = "../../../tests/support/sshd.rs"]
mod server;
mod sshd;

/// Whether a process with this command line is there.
fn runs(line: &str) -> bool {
    command_lines().iter().any(|one| one.trim_end() == line)
}

/// The command lines of all processes, with spaces between.
fn command_lines() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

/// Waits until nothing of this command line runs any more.
async fn gone(line: &str) {
    let wait = async {
        while runs(line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("left behind: {line}"));
}

/// What an acquire failed with: whether for good, and the code.
async fn barred(subject: &Subject) -> (bool, String) {
    match subject.driver.acquire(&subject.scope(), None).await {
        Outcome::Refused(fault) => (true, fault.code),
        Outcome::NotDone(fault) => (false, fault.code),
        other => panic!("it should have failed: {other:?}"),
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let sshd = Sshd::start();
    keeps_the_contract(&sshd.subject()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_several_threads() {
    let sshd = Sshd::start();
    keeps_the_contract(&sshd.subject()).await;
}

#[tokio::test]
async fn a_lease_records_where_it_is() {
    let sshd = Sshd::start();
    let link = sshd.path().canonicalize().unwrap().join("link");
    std::os::unix::fs::symlink(sshd.work(), &link).unwrap();
    let subject = sshd.subject_with(&[("remoteWorkspacePath", format!("{}/new/one", link.display()).into())]);
    let mut scope = subject.scope();
    scope.execution_workspace_mode = Some("isolated".to_owned());
    let Acquired { provider_lease_id, metadata, .. } = done(subject.driver.acquire(&scope, None).await);
    let real = format!("{}/new/one", sshd.work().display());
    let (port, user) = (&subject.config["port"], subject.config["username"].as_str().unwrap());
    assert_eq!(provider_lease_id.unwrap(), format!("ssh://{user}@127.0.0.1:{port}{real}"));
    let expected = json!({
        "driver": "ssh", "provider": "ssh", "host": "127.0.0.1", "port": port, "username": user,
        "remoteWorkspacePath": format!("{}/new/one", link.display()), "remoteCwd": real, "workspaceMode": "isolated",
    });
    assert_eq!(Value::Object(metadata.clone()), expected);

    let held = Held { provider_lease_id: None, metadata };
    let workspace = Workspace { remote_path: Some("/elsewhere".to_owned()), ..Workspace::default() };
    let realized = done(subject.driver.realize(&scope, &held, &workspace).await);
    assert_eq!((realized.cwd.as_str(), realized.sync), (real.as_str(), SyncStrategy::SshGitImportExport));
    assert_eq!(realized.summary, format!("SSH workspace realized at {user}@127.0.0.1:{port}:{real}."));
    let held = Held { provider_lease_id: None, metadata: serde_json::Map::new() };
    assert_eq!(done(subject.driver.realize(&scope, &held, &workspace).await).cwd, "/elsewhere");
}

#[tokio::test]
async fn a_host_key_is_checked() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let port = &sshd.config()["port"];
    let others = other.config()["knownHosts"].as_str().unwrap().split_once(' ').unwrap().1.to_owned();
    let wrong = sshd.subject_with(&[("knownHosts", format!("[127.0.0.1]:{port} {others}").into())]);
    assert_eq!(barred(&wrong).await, (true, "host-key-mismatch".to_owned()));
    for known_hosts in [other.config()["knownHosts"].clone(), Value::Null] {
        let unknown = sshd.subject_with(&[("knownHosts", known_hosts)]);
        assert_eq!(barred(&unknown).await, (true, "host-key-unknown".to_owned()));
    }
    let lax = sshd.subject_with(&[("knownHosts", Value::Null), ("strictHostKeyChecking", false.into())]);
    done(lax.driver.acquire(&lax.scope(), None).await);
    let report = lax.driver.probe(&probe_scope(&lax), &lax.config).await;
    assert!(report.ok && report.diagnostics.iter().any(|one| one.severity == Severity::Warning), "{report:?}");
}

#[tokio::test]
async fn a_key_that_is_refused_or_is_none_is_told_apart() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let refused_key = subject(sshd.config(), secret(Some(other.key())));
    assert_eq!(barred(&refused_key).await, (true, "key-refused".to_owned()));
    let none = subject(sshd.config(), secret(None));
    assert_eq!(barred(&none).await, (true, "secret-unknown".to_owned()));
    let garbage = subject(sshd.config(), secret(Some("CANARY")));
    let Outcome::NotDone(fault) = garbage.driver.acquire(&garbage.scope(), None).await else { panic!("it is no key") };
    assert_eq!(fault.code, "key-invalid");
    assert!(!fault.message.contains("CANARY"));
    let path = sshd.path().join("locked");
    output("ssh-keygen", &["-q", "-t", "ed25519", "-N", "a phrase", "-f", path.to_str().unwrap()]);
    let locked = subject(sshd.config(), secret(Some(&std::fs::read_to_string(path).unwrap())));
    assert_eq!(barred(&locked).await, (false, "key-invalid".to_owned()));
    let pasted = subject(sshd.config(), secret(Some(&sshd.key().trim_end().replace('\n', "\r\n"))));
    done(pasted.driver.acquire(&pasted.scope(), None).await);
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_named() {
    let sshd = Sshd::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = sshd.subject_with(&[("port", free.into())]);
    assert_eq!(barred(&closed).await, (false, "connection-refused".to_owned()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let slow = sshd.subject_with(&[("port", port.into()), ("connectTimeoutMs", 200.into())]);
    assert_eq!(barred(&slow).await, (false, "connect-timeout".to_owned()));
    let nowhere = sshd.subject_with(&[("host", "nowhere.invalid".into())]);
    assert_eq!(barred(&nowhere).await, (false, "host-not-found".to_owned()));
    let report = closed.driver.probe(&probe_scope(&closed), &closed.config).await;
    assert!(!report.ok && report.summary.contains("refused the connection"), "{report:?}");
}

#[tokio::test]
async fn a_read_only_directory_is_told() {
    // Root may write anywhere, but for this right.
    let rights = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    let sshd = if is_root() { Sshd::start_as(&rights, |_| String::new()) } else { Sshd::start() };
    output("chmod", &["0555", sshd.work().to_str().unwrap()]);
    for path in [sshd.work(), sshd.work().join("below")] {
        let subject = sshd.subject_with(&[("remoteWorkspacePath", path.to_str().unwrap().into())]);
        assert_eq!(barred(&subject).await, (true, "directory-read-only".to_owned()));
        let report = subject.driver.probe(&probe_scope(&subject), &subject.config).await;
        let codes: Vec<_> = report.diagnostics.iter().filter_map(|one| one.code.as_deref()).collect();
        assert_eq!(codes, ["login-works", "host-key-known", "directory-read-only"]);
        assert!(!report.ok && !path.join("below").exists());
    }
    output("chmod", &["0755", sshd.work().to_str().unwrap()]);
}

#[tokio::test]
async fn a_probe_makes_nothing() {
    let sshd = Sshd::start();
    let path = sshd.work().join("not/yet");
    let subject = sshd.subject_with(&[("remoteWorkspacePath", path.to_str().unwrap().into())]);
    let report = subject.driver.probe(&probe_scope(&subject), &subject.config).await;
    assert!(report.ok && report.diagnostics.iter().any(|one| one.code.as_deref() == Some("directory-missing")));
    assert!(!sshd.work().join("not").exists());
    let file = sshd.work().join("file");
    std::fs::write(&file, "").unwrap();
    let subject = sshd.subject_with(&[("remoteWorkspacePath", file.to_str().unwrap().into())]);
    let report = subject.driver.probe(&probe_scope(&subject), &subject.config).await;
    assert!(report.summary.contains("is no directory"), "{report:?}");
    assert_eq!(barred(&subject).await, (false, "directory-not-made".to_owned()));
}

#[tokio::test]
async fn a_lost_connection_is_unknown_and_leaves_nothing_running() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let (sink, mut chunks) = mpsc::channel(1);
    let endless = shell("(setsid sleep 82001 &) ; echo started; exec sleep 82001");
    let running = subject.driver.execute(&scope, &held, endless, sink);
    let kill = async {
        assert_eq!(chunks.recv().await.unwrap().bytes, b"started\n");
        sshd.kill();
        chunks
    };
    let (outcome, _chunks) = tokio::join!(running, kill);
    let Outcome::Unknown(fault) = outcome else { panic!("nobody knows: {outcome:?}") };
    assert_eq!(fault.code, "connection-lost");
    gone("sleep 82001").await;
    // The next call connects anew, and finds nobody.
    let outcome = subject.run(&scope, &held, command(&["pwd"])).await;
    assert!(matches!(&outcome, Outcome::NotDone(fault) if fault.code == "connection-refused"), "{outcome:?}");
    let receipt = done(subject.driver.release(&scope, &held, ReleaseStatus::Failed, false).await);
    assert_eq!(receipt.state, ReceiptState::Gone);
}

#[tokio::test]
async fn nothing_outlives_a_command_whatever_it_does() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let cases = [
        ("82011", "sleep 82011 & exec sleep 82011", true),
        ("82012", "setsid sleep 82012 & exec sleep 82012", true),
        ("82013", "(setsid sh -c 'setsid sleep 82013 &' &); exec sleep 82013", true),
        ("82014", "trap '' TERM; setsid sleep 82014 & while :; do sleep 82014; done", true),
        ("82015", "setsid sleep 82015 > /dev/null 2>&1 & exit 0", false),
        ("82016", "env -i sleep 82016 & exit 0", false),
        ("82017", "exec env -i sleep 82017", true),
        ("82018", "sleep 82018 & kill -KILL 0", false),
    ];
    for (number, script, endless) in cases {
        let timeout = if endless { Duration::from_millis(600) } else { Duration::from_secs(30) };
        let brief = Command { timeout: Some(timeout), ..shell(script) };
        let ran = done(subject.run(&scope, &held, brief).await);
        assert_eq!(ran.execution.timed_out, endless, "{script}: {ran:?}");
        assert!(!runs(&format!("sleep {number}")), "left behind by: {script}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_the_command_with_it() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let (sink, mut chunks) = mpsc::channel(1);
    let endless = shell("setsid sleep 82021 & echo started; exec sleep 82021");
    {
        let running = subject.driver.execute(&scope, &held, endless, sink);
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => panic!("it should run on: {ended:?}"),
            chunk = chunks.recv() => assert_eq!(chunk.unwrap().bytes, b"started\n"),
        }
    }
    assert_eq!(chunks.recv().await, None);
    assert!(!runs("sleep 82021"));
}

#[tokio::test]
async fn release_ends_what_still_runs_and_keeps_the_directory() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let (sink, mut chunks) = mpsc::channel(1);
    let endless = shell("echo kept > file; echo started; exec sleep 82031");
    let running = subject.driver.execute(&scope, &held, endless, sink);
    let release = async {
        assert_eq!(chunks.recv().await.unwrap().bytes, b"started\n");
        done(subject.driver.release(&scope, &held, ReleaseStatus::Released, false).await)
    };
    let (outcome, receipt) = tokio::join!(running, release);
    assert!(!matches!(outcome, Outcome::Done(ref ended) if ended.exit_code == Some(0)), "{outcome:?}");
    assert_eq!(receipt.state, ReceiptState::Destroyed);
    gone("sleep 82031").await;
    assert_eq!(std::fs::read_to_string(sshd.work().join("file")).unwrap(), "kept\n");
}

#[tokio::test]
async fn an_exit_code_is_the_commands_own_whatever_it_is() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    for code in [0, 1, 126, 254, 255] {
        let ran = done(subject.run(&scope, &held, shell(&format!("exit {code}"))).await);
        assert_eq!((ran.execution.exit_code, ran.execution.signal), (Some(code), None));
    }
    let ran = done(subject.run(&scope, &held, shell("kill -KILL $$")).await);
    assert_eq!((ran.execution.signal.as_deref(), ran.stderr.as_str()), (Some("SIGKILL"), ""));
    let lost = Command { cwd: Some("/no/such/place".to_owned()), ..command(&["pwd"]) };
    let Outcome::NotDone(fault) = subject.run(&scope, &held, lost).await else { panic!("there is no such place") };
    assert_eq!(fault.code, "cwd-missing");
    let ran = done(subject.run(&scope, &held, shell("exit 7")).await);
    assert_eq!(ran.execution.exit_code, Some(7), "the connection is as good as before");
}

#[tokio::test]
async fn a_far_side_that_opens_no_more_sessions_has_done_nothing() {
    // The one is the watcher's.
    let sshd = Sshd::start_as(&[], |_| "MaxSessions 1".to_owned());
    assert_eq!(barred(&sshd.subject()).await, (false, "session-refused".to_owned()));
}

#[tokio::test]
async fn what_start_up_files_print_is_not_the_commands() {
    // bash reads such a file before each command, where it is the login shell.
    let sshd = Sshd::start_as(&[], |folder| {
        std::fs::write(folder.join("noise"), "echo welcome; echo trouble >&2\n").unwrap();
        format!("SetEnv BASH_ENV={}", folder.join("noise").display())
    });
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let ran = done(subject.run(&scope, &held, shell("printf out; printf err >&2")).await);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out", "err"));
}

#[tokio::test]
async fn a_connection_that_was_lost_is_made_anew() {
    let sshd = Sshd::start();
    let secrets = secret(Some(sshd.key()));
    let subject = subject(sshd.config(), Arc::clone(&secrets));
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    sshd.kill_connections();
    // Whether the loss is noticed before or while the command runs, it was not run twice.
    let again = async {
        loop {
            match subject.run(&scope, &held, shell("echo x >> once")).await {
                Outcome::Done(ran) => return ran.execution.exit_code,
                Outcome::Unknown(fault) => assert_eq!(fault.code, "connection-lost"),
                other => panic!("sshd is there: {other:?}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), again).await.unwrap(), Some(0));
    assert_eq!(std::fs::read_to_string(sshd.work().join("once")).unwrap(), "x\n");
    assert_eq!(*secrets.read_for.lock().unwrap(), ["acquire", "execute"]);
}

#[tokio::test]
async fn every_text_arrives_as_it_is() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let control: String = (1..0x250).filter_map(char::from_u32).collect();
    let texts = [
        "",
        "a b",
        "it's \"q\"",
        "\n\nx\n",
        "$(touch pwned) `id` $HOME",
        "-n",
        "--",
        "*",
        "\\n\\",
        "\u{2028}😀",
        &control,
    ];
    let folder = sshd.work().join("-a 'b'\n$(c) \"d\" ");
    std::fs::create_dir(&folder).unwrap();
    for cwd in [Some("-a 'b'\n$(c) \"d\" ".to_owned()), Some(folder.to_str().unwrap().to_owned())] {
        let mut print = command(&["printf", "%s\\0"]);
        print.args.extend(texts.map(str::to_owned));
        let ran = done(subject.run(&scope, &held, Command { cwd: cwd.clone(), ..print }).await);
        assert_eq!(ran.stdout.split_terminator('\0').collect::<Vec<_>>(), texts);
        let ran = done(subject.run(&scope, &held, Command { cwd, ..command(&["pwd"]) }).await);
        assert_eq!(ran.stdout, format!("{}\n", folder.display()));
    }
    for text in texts {
        let env = vec![("VALUE".to_owned(), text.to_owned()), ("IFS".to_owned(), "a".to_owned())];
        let ran = done(subject.run(&scope, &held, Command { env, ..command(&["printenv", "VALUE"]) }).await);
        assert_eq!(ran.stdout, format!("{text}\n"));
    }
    let program = sshd.work().join("-odd name");
    std::fs::write(&program, "#!/bin/sh\nprintf %s \"$1\"\n").unwrap();
    output("chmod", &["0755", program.to_str().unwrap()]);
    let path = format!("{}:/usr/bin:/bin", sshd.work().display());
    let odd = Command { env: vec![("PATH".to_owned(), path)], ..command(&["-odd name", "-x"]) };
    assert_eq!(done(subject.run(&scope, &held, odd).await).stdout, "-x");
    let env = vec![("A-B".to_owned(), String::new())];
    assert_eq!(refused(subject.run(&scope, &held, Command { env, ..command(&["env"]) }).await), "invalid-command");
    assert!(!sshd.work().join("pwned").exists());
}

#[tokio::test]
async fn input_and_output_are_bytes() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let input: Vec<u8> = (0..1_024 * 1_024_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let (sink, mut chunks) = mpsc::channel::<OutputChunk>(1);
    let cat = Command { stdin: Some(input.clone()), ..command(&["cat"]) };
    let collect = async {
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            assert_eq!(chunk.stream, OutputStream::Stdout);
            all.extend(chunk.bytes);
        }
        all
    };
    let (outcome, all) = tokio::join!(subject.driver.execute(&scope, &held, cat, sink), collect);
    assert_eq!(done(outcome).exit_code, Some(0));
    assert!(all == input, "{} bytes came back", all.len());
    // Nobody reads it to the end, and nobody minds.
    let deaf = Command { stdin: Some(input), ..command(&["true"]) };
    assert_eq!(done(subject.run(&scope, &held, deaf).await).execution.exit_code, Some(0));
}

#[tokio::test]
async fn more_commands_than_one_connection_takes_wait_for_each_other() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let run = |number: i32| {
        let (subject, scope, held) = (&subject, &scope, &held);
        async move { done(subject.run(scope, held, shell(&format!("sleep 0.05; exit {number}"))).await).execution }
    };
    let ended = futures_util::future::join_all((0..20).map(run)).await;
    let codes: Vec<_> = ended.iter().map(|one| one.exit_code).collect();
    assert_eq!(codes, (0..20).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_directory_that_is_another_now_is_gone() {
    let sshd = Sshd::start();
    let link = sshd.path().canonicalize().unwrap().join("link");
    std::os::unix::fs::symlink(sshd.work(), &link).unwrap();
    let subject = sshd.subject_with(&[("remoteWorkspacePath", link.to_str().unwrap().into())]);
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let Resumed::Same(again) = done(subject.driver.resume(&scope, &held).await) else { panic!("it is there") };
    assert_eq!(again.provider_lease_id, held.provider_lease_id);
    std::fs::remove_file(&link).unwrap();
    assert_eq!(done(subject.driver.resume(&scope, &held).await), Resumed::Gone);
    let other = sshd.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert_eq!(done(subject.driver.resume(&scope, &held).await), Resumed::Gone);
}
