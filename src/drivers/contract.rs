//! The contract that every driver keeps, as one suite: what is declared is tested, and what is not declared must be
//! refused. Each driver's own tests call [`keeps_the_contract`] with a [`Subject`].

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use lease_events::lease::vocabulary::{Policy, ReceiptState, ReleaseStatus};
use lease_events::seam::{Ids, SystemIds};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Acquired, Command, EnvironmentDriver, Execution, Held, LeaseScope, Outcome, OutputChunk, OutputStream, PlanRequest,
    ProbeScope, Resumed, Workspace,
};

/// A driver with a config, and how its commands are said.
pub(super) struct Subject {
    pub(super) driver: Arc<dyn EnvironmentDriver>,
    pub(super) config: Value,
    /// Whether commands are shell commands; else the fake provider's.
    pub(super) shell: bool,
    /// The workspace to realize.
    pub(super) workspace: Workspace,
    /// Names of environment variables that commands have beside those given.
    pub(super) own_env: &'static [&'static str],
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) execution: Execution,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Subject {
    /// A scope for a fresh lease.
    pub(super) fn scope(&self) -> LeaseScope {
        LeaseScope {
            ledger_id: LedgerId::derived(&["contract"]),
            company_id: CompanyId::derived(&["contract"]),
            environment_id: EnvironmentId::derived(&["contract"]),
            lease_id: LeaseId(SystemIds.fresh()),
            run_id: Some(RunId::derived(&["contract"])),
            issue_id: None,
            agent_id: None,
            execution_workspace_id: None,
            execution_workspace_mode: None,
            adapter_type: None,
            config: self.config.clone(),
            fencing_token: 5,
            attempt: 1,
        }
    }

    /// For whom a probe or listing looks.
    pub(super) fn probe_scope(&self) -> ProbeScope {
        let scope = self.scope();
        ProbeScope { company_id: scope.company_id, environment_id: scope.environment_id }
    }

    /// Acquires; panics where that is not done.
    pub(super) async fn acquire(&self, scope: &LeaseScope) -> Held {
        held(done(self.driver.acquire(scope, None).await))
    }

    /// Runs a command and collects its output.
    pub(super) async fn run(&self, scope: &LeaseScope, held: &Held, command: Command) -> Outcome<Ran> {
        let (sink, mut output) = mpsc::channel::<OutputChunk>(4);
        let collect = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(chunk) = output.recv().await {
                match chunk.stream {
                    OutputStream::Stdout => stdout.extend(chunk.bytes),
                    OutputStream::Stderr => stderr.extend(chunk.bytes),
                }
            }
            (stdout, stderr)
        };
        let (outcome, (stdout, stderr)) = tokio::join!(self.driver.execute(scope, held, command, sink), collect);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        outcome.map(|execution| Ran { execution, stdout: text(stdout), stderr: text(stderr) })
    }

    fn say(&self, script: &str, fake: &[&str]) -> Command {
        if self.shell { shell(script) } else { command(fake) }
    }
}

/// A command of these words.
pub(super) fn command(words: &[&str]) -> Command {
    Command {
        command: words.first().copied().unwrap_or_default().to_owned(),
        args: words.iter().skip(1).map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: None,
        timeout: Some(Duration::from_secs(30)),
    }
}

/// A shell command.
pub(super) fn shell(script: &str) -> Command {
    command(&["sh", "-c", script])
}

/// The value of an effect that was done.
#[track_caller]
pub(super) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        other => panic!("it should have been done: {other:?}"),
    }
}

/// The code of a refusal.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Refused(fault) => fault.code,
        other => panic!("it should have been refused: {other:?}"),
    }
}

/// What the ledger records of an acquire.
pub(super) fn held(acquired: Acquired) -> Held {
    Held { provider_lease_id: acquired.provider_lease_id, metadata: acquired.metadata }
}

/// The whole suite.
pub(super) async fn keeps_the_contract(subject: &Subject) {
    config_is_checked(subject).await;
    acquire_is_repeatable(subject).await;
    commands_run(subject).await;
    commands_are_bounded(subject).await;
    ends_are_idempotent(subject).await;
    kept_things_resume(subject).await;
    stale_holders_are_refused(subject).await;
    listing_shows_labels(subject).await;
}

async fn config_is_checked(subject: &Subject) {
    let normal = subject.driver.validate(&subject.config).await.unwrap();
    assert_eq!(subject.driver.validate(&normal).await.unwrap(), normal, "a normal form is its own normal form");
    let mut unknown = subject.config.clone();
    unknown["tracePoint"] = true.into();
    let invalid = subject.driver.validate(&unknown).await.unwrap_err();
    assert!(invalid.to_string().contains("\"tracePoint\" is no config key"), "{invalid}");
    subject.driver.validate(&Value::from("text")).await.unwrap_err();

    let request = PlanRequest { config: &normal, has_run: false, has_execution_workspace: true };
    let plan = subject.driver.plan(&request).unwrap();
    assert_eq!((plan.policy, plan.may_take_over), (Policy::Ephemeral, false), "an ad-hoc acquire leaves nothing");
    let report = subject.driver.probe(&subject.probe_scope(), &normal).await;
    assert!(report.ok, "{report:?}");
}

async fn acquire_is_repeatable(subject: &Subject) {
    let scope = subject.scope();
    let first = done(subject.driver.acquire(&scope, None).await);
    assert_eq!(first.metadata["driver"], subject.driver.key());
    assert!(first.metadata.contains_key("provider"));
    let traits = subject.driver.traits(&subject.config);
    if traits.idempotent_acquire {
        assert_eq!(done(subject.driver.acquire(&scope, None).await).provider_lease_id, first.provider_lease_id);
    }
    if !traits.effect_free {
        assert!(first.provider_lease_id.is_some());
    }
    done(subject.driver.destroy(&scope, &held(first)).await);
}

async fn commands_run(subject: &Subject) {
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let realized = done(subject.driver.realize(&scope, &held, &subject.workspace).await);
    assert!(realized.summary.contains(&realized.cwd), "{}", realized.summary);
    let in_place = |command: Command| Command { cwd: Some(realized.cwd.clone()), ..command };

    let ran = done(subject.run(&scope, &held, in_place(subject.say("echo one two", &["echo", "one", "two"]))).await);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.execution.exit_code), ("one two\n", "", Some(0)));
    let ran = done(subject.run(&scope, &held, in_place(subject.say("echo no >&2", &["echo-err", "no"]))).await);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "no\n"));
    let ran = done(subject.run(&scope, &held, in_place(subject.say("exit 3", &["exit", "3"]))).await);
    assert_eq!(ran.execution, Execution { exit_code: Some(3), ..Execution::default() });
    let ran = done(subject.run(&scope, &held, in_place(subject.say("kill -USR1 $$", &["kill", "SIGUSR1"]))).await);
    assert_eq!((ran.execution.exit_code, ran.execution.signal.as_deref()), (None, Some("SIGUSR1")));
    let ran = done(subject.run(&scope, &held, in_place(command(&["pwd"]))).await);
    assert_eq!(ran.stdout.trim_end(), realized.cwd);

    let input = "line\n".repeat(50_000);
    let with_input = Command { stdin: Some(input.clone().into_bytes()), ..in_place(command(&["cat"])) };
    assert_eq!(done(subject.run(&scope, &held, with_input).await).stdout, input, "in order, and all of it");

    let env = vec![("GIVEN".to_owned(), "a b\nc=\"$x\"".to_owned())];
    let print = if subject.shell { command(&["env", "-0"]) } else { command(&["printenv"]) };
    let ran = done(subject.run(&scope, &held, Command { env, ..in_place(print) }).await);
    assert!(ran.stdout.contains("GIVEN=a b\nc=\"$x\""), "{}", ran.stdout);
    if subject.shell {
        let names: Vec<&str> = ran.stdout.split_terminator('\0').map(|one| one.split_once('=').unwrap().0).collect();
        let strangers: Vec<_> =
            names.iter().filter(|name| **name != "GIVEN" && !subject.own_env.contains(name)).collect();
        assert!(strangers.is_empty(), "only what is given: {strangers:?}");
    }
    for env in [vec![("A=B".to_owned(), String::new())], vec![("A".to_owned(), "\0".to_owned())]] {
        assert_eq!(
            refused(subject.run(&scope, &held, Command { env, ..in_place(command(&["pwd"])) }).await),
            "invalid-command"
        );
    }
    match subject.run(&scope, &held, in_place(command(&["no-such-program"]))).await {
        Outcome::Done(ran) => assert_eq!(ran.execution.exit_code, Some(127)),
        other => assert!(matches!(&other, Outcome::NotDone(fault) if fault.code == "command-not-found"), "{other:?}"),
    }
    done(subject.driver.destroy(&scope, &held).await);
}

async fn commands_are_bounded(subject: &Subject) {
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let realized = done(subject.driver.realize(&scope, &held, &subject.workspace).await);
    let brief = |command: Command| Command {
        cwd: Some(realized.cwd.clone()),
        timeout: Some(Duration::from_millis(200)),
        ..command
    };
    let ran = done(subject.run(&scope, &held, brief(subject.say("sleep 600", &["sleep", "600000"]))).await);
    assert!(ran.execution.timed_out && ran.execution.exit_code.is_none() && ran.execution.signal.is_some(), "{ran:?}");

    let endless = Command { cwd: Some(realized.cwd.clone()), ..command(&["yes"]) };
    let ran = done(subject.run(&scope, &held, endless).await);
    assert_eq!(ran.execution.limit.as_deref(), Some("output"), "{:?}", ran.execution);
    assert!(ran.stdout.len() <= 1_024 * 1_024, "the config under test allows a MiB");

    // A closed sink is ignored.
    let (sink, output) = mpsc::channel(1);
    drop(output);
    let chatty = Command { cwd: Some(realized.cwd.clone()), ..subject.say("echo x; exit 4", &["exit", "4"]) };
    assert_eq!(done(subject.driver.execute(&scope, &held, chatty, sink).await).exit_code, Some(4));
    done(subject.driver.destroy(&scope, &held).await);
}

async fn ends_are_idempotent(subject: &Subject) {
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let over = [ReceiptState::Destroyed, ReceiptState::Gone];
    for _ in 0..2 {
        let receipt = done(subject.driver.release(&scope, &held, ReleaseStatus::Released, false).await);
        assert!(over.contains(&receipt.state), "{receipt:?}");
    }
    for _ in 0..2 {
        assert!(over.contains(&done(subject.driver.destroy(&scope, &held).await).state));
    }
    let traits = subject.driver.traits(&subject.config);
    if traits.can_confirm_absence && !traits.effect_free {
        assert_eq!(done(subject.driver.destroy(&scope, &held).await).state, ReceiptState::Gone);
    }
}

async fn kept_things_resume(subject: &Subject) {
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    if !subject.driver.traits(&subject.config).supports_reuse {
        // What one lease leaves is for no other; but a driver may be able to look after what a lease still holds.
        match subject.driver.resume(&scope, &held).await {
            Outcome::Done(Resumed::Same(again)) => {
                assert_eq!((again.provider_lease_id, again.metadata), (held.provider_lease_id, held.metadata));
            }
            other => assert_eq!(refused(other), "not-supported"),
        }
        return;
    }
    let write = subject.say("echo kept > note", &["write", "note", "kept\n"]);
    assert_eq!(done(subject.run(&scope, &held, write).await).execution.exit_code, Some(0));
    let receipt = done(subject.driver.release(&scope, &held, ReleaseStatus::Released, true).await);
    assert_eq!(receipt.state, ReceiptState::Kept);

    let next = LeaseScope { lease_id: LeaseId(SystemIds.fresh()), fencing_token: 9, ..scope.clone() };
    let Resumed::Same(again) = done(subject.driver.resume(&next, &held).await) else { panic!("it is there") };
    assert_eq!(again.provider_lease_id, held.provider_lease_id);
    assert_eq!(again.metadata, held.metadata, "the identity is the same");
    let ran = done(subject.run(&next, &held, command(&["cat", "note"])).await);
    assert_eq!(ran.stdout, "kept\n");

    assert_eq!(done(subject.driver.destroy(&next, &held).await).state, ReceiptState::Destroyed);
    assert_eq!(done(subject.driver.resume(&next, &held).await), Resumed::Gone);
    assert_eq!(refused(subject.run(&next, &held, command(&["pwd"])).await), "gone");
}

async fn stale_holders_are_refused(subject: &Subject) {
    if subject.driver.traits(&subject.config).effect_free {
        return;
    }
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let stale = LeaseScope { fencing_token: scope.fencing_token - 1, ..scope.clone() };
    let code = "stale-fencing-token";
    assert_eq!(refused(subject.driver.acquire(&stale, None).await), code);
    assert_eq!(refused(subject.driver.realize(&stale, &held, &subject.workspace).await), code);
    assert_eq!(refused(subject.run(&stale, &held, command(&["pwd"])).await), code);
    assert_eq!(refused(subject.driver.release(&stale, &held, ReleaseStatus::Released, true).await), code);
    assert_eq!(refused(subject.driver.release(&stale, &held, ReleaseStatus::Released, false).await), code);
    assert_eq!(refused(subject.driver.destroy(&stale, &held).await), code);
    if subject.driver.traits(&subject.config).supports_reuse {
        assert_eq!(refused(subject.driver.resume(&stale, &held).await), code);
    }
    let stranger = LeaseScope { ledger_id: LedgerId::derived(&["another"]), fencing_token: 99, ..scope.clone() };
    assert_eq!(refused(subject.driver.destroy(&stranger, &held).await), "not-ours");
    let path = Held { provider_lease_id: Some("sandbox://fake/../../etc".to_owned()), ..held.clone() };
    refused(subject.driver.destroy(&scope, &path).await);
    done(subject.driver.destroy(&scope, &held).await);
}

async fn listing_shows_labels(subject: &Subject) {
    if !subject.driver.traits(&subject.config).can_list {
        assert_eq!(refused(subject.driver.list(&subject.probe_scope(), &subject.config).await), "not-supported");
        return;
    }
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let listed = done(subject.driver.list(&subject.probe_scope(), &subject.config).await);
    let ours = listed.iter().find(|one| one.lease_id == Some(scope.lease_id)).expect("it is listed");
    assert_eq!(Some(&ours.provider_lease_id), held.provider_lease_id.as_ref());
    assert_eq!(ours.ledger_id, Some(scope.ledger_id));
    assert!(ours.created_at.is_some_and(|at| at > DateTime::UNIX_EPOCH));
    done(subject.driver.destroy(&scope, &held).await);
    let listed = done(subject.driver.list(&subject.probe_scope(), &subject.config).await);
    assert!(listed.iter().all(|one| one.lease_id != Some(scope.lease_id)));
}
