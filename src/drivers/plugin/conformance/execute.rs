//! Commands: what they get, and what comes back of them.

use std::time::Duration;

use super::kit::{Kit, Ran, Tried, failed, told};
use super::method;
use crate::drivers::{Command, Held, LeaseScope};

/// Longest time that a command of the check may run: all of them are over at once.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit of the command that is to meet it.
const BRIEF_TIMEOUT: Duration = Duration::from_millis(500);
/// Lines of input: more than a pipe holds.
const INPUT_LINES: usize = 20_000;
/// The file by which a sandbox is known again.
const NOTE: &str = "lease-ledger-check";

/// A shell command.
pub(super) fn shell(script: &str) -> Command {
    with_words(&["sh", "-c", script])
}

fn with_words(words: &[&str]) -> Command {
    Command {
        command: words.first().copied().unwrap_or_default().to_owned(),
        args: words.iter().skip(1).map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: None,
        timeout: Some(COMMAND_TIMEOUT),
    }
}

/// The environment.
pub(super) async fn env(kit: &Kit) -> Tried {
    let value = "a b\nc=\"$x\" 'é'";
    let command = Command { env: vec![("GIVEN".to_owned(), value.to_owned())], ..shell("printf %s \"$GIVEN\"") };
    let ran = alone(kit, command).await?;
    if ran.stdout == value {
        return Ok(());
    }
    failed(format!("A command saw GIVEN={:?}, not {value:?}; it must get env as it is.", ran.stdout))
}

/// The input.
pub(super) async fn stdin(kit: &Kit) -> Tried {
    let input = "line\n".repeat(INPUT_LINES);
    let ran = alone(kit, Command { stdin: Some(input.clone().into_bytes()), ..with_words(&["cat"]) }).await?;
    if ran.stdout == input {
        return Ok(());
    }
    let (came, given) = (ran.stdout.len(), input.len());
    failed(format!("Of {given} bytes of input, {came} came back from cat; it must get stdin, all of it, and its end."))
}

/// The exit code, and the two outputs.
pub(super) async fn exit_code(kit: &Kit) -> Tried {
    let ran = alone(kit, shell("printf out; printf err >&2; exit 3")).await?;
    if (ran.stdout.as_str(), ran.stderr.as_str(), ran.execution.exit_code) == ("out", "err", Some(3)) {
        return Ok(());
    }
    failed(format!(
        "A command that wrote \"out\" and \"err\" and exited with 3 came back with {:?}, {:?} and {:?}; it must be as it was.",
        ran.stdout, ran.stderr, ran.execution.exit_code
    ))
}

/// The time limit.
pub(super) async fn timeout(kit: &Kit) -> Tried {
    let ran = alone(kit, Command { timeout: Some(BRIEF_TIMEOUT), ..shell("sleep 600") }).await?;
    if ran.execution.timed_out {
        return Ok(());
    }
    failed(format!(
        "A command with timeoutMs {} that takes longer came back with exit code {:?} and without timedOut; it must be \
         ended, and say so.",
        BRIEF_TIMEOUT.as_millis(),
        ran.execution.exit_code
    ))
}

/// The two characters that end a line in some languages, and in JSON do not.
pub(super) async fn separators(kit: &Kit) -> Tried {
    let words = "a\u{2028}b\u{2029}c";
    let ran = alone(kit, with_words(&["printf", "%s", words])).await?;
    if ran.stdout == words {
        return Ok(());
    }
    failed(format!("A command with the argument {words:?} saw {:?}; U+2028 and U+2029 must come through.", ran.stdout))
}

/// Runs a command in a sandbox of its own.
async fn alone(kit: &Kit, command: Command) -> Tried<Ran> {
    kit.needs(method::EXECUTE).await?;
    let scope = kit.scope();
    let held = kit.make(&scope).await?;
    let ran = run(kit, &scope, &held, command).await?;
    kit.destroy(&scope, &held, "Then").await?;
    Ok(ran)
}

/// Runs a command where the ledger would: in the workspace, once it is realized.
async fn run(kit: &Kit, scope: &LeaseScope, held: &Held, command: Command) -> Tried<Ran> {
    let mut cwd = None;
    if kit.offers(method::REALIZE).await? {
        match kit.realize(scope, held).await {
            Ok(realized) => cwd = Some(realized),
            Err(failure) => return failed(format!("A realize was {}; it must be done.", told(&failure))),
        }
    }
    match kit.execute(scope, held, Command { cwd, ..command }).await {
        Ok(ran) => Ok(ran),
        Err(failure) => failed(format!("A command was {}; it must be run.", told(&failure))),
    }
}

/// Leaves a note in the workspace, where commands can be run.
pub(super) async fn write_note(kit: &Kit, scope: &LeaseScope, held: &Held) -> Tried {
    if !kit.offers(method::EXECUTE).await? {
        return Ok(());
    }
    let ran = run(kit, scope, held, shell(&format!("echo {} > {NOTE}", scope.lease_id))).await?;
    match ran.execution.exit_code {
        Some(0) => Ok(()),
        code => failed(format!("`sh -c 'echo x > {NOTE}'` exited with {code:?}; a workspace must be writable.")),
    }
}

/// Finds the note again; `after` is what it must have outlived.
pub(super) async fn read_note(kit: &Kit, scope: &LeaseScope, held: &Held, after: &str) -> Tried {
    if !kit.offers(method::EXECUTE).await? {
        return Ok(());
    }
    let ran = run(kit, scope, held, with_words(&["cat", NOTE])).await?;
    match ran.execution.exit_code {
        Some(0) => Ok(()),
        _ => failed(format!("A file in the workspace did not outlive {after}; the workspace must be the same.")),
    }
}
