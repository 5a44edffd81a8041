//! What the fake provider's `execute` understands. Each command is a program's name and its arguments:
//!
//! | command | does |
//! | --- | --- |
//! | `echo WORD…` | writes the words and a line feed to stdout |
//! | `echo-err WORD…` | the same, to stderr |
//! | `exit N` | exits with code N |
//! | `sleep MS` | takes that many milliseconds, or times out |
//! | `kill NAME` | ends by the signal NAME, such as `SIGKILL` |
//! | `cat` | writes its input to stdout |
//! | `cat FILE`, `write FILE TEXT` | reads and writes a file of the sandbox |
//! | `append FILE TEXT` | adds a line to one |
//! | `printenv`, `pwd` | writes the given environment, the directory |
//! | `yes` | writes endlessly, until [`OUTPUT_BYTES_MAX`] |
//! | anything else | is not found: exit code 127 |

use std::collections::BTreeMap;
use std::time::Duration;

use crate::drivers::{Command, Execution, Outcome, OutputChunk, OutputSink, OutputStream};

/// Most bytes of output that a command may have.
pub const OUTPUT_BYTES_MAX: usize = 1_024 * 1_024;
/// How much `yes` writes at once.
const YES_BYTES: usize = 64 * 1_024;

/// Runs a command on the files of a sandbox.
pub(super) async fn run(
    command: &Command,
    files: &mut BTreeMap<String, String>,
    output: &OutputSink,
) -> Outcome<Execution> {
    let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
    let (stream, bytes) = match (command.command.as_str(), args.as_slice()) {
        ("exit", [code]) => return Outcome::Done(exited(code.parse().unwrap_or(2))),
        ("kill", [signal]) => {
            return Outcome::Done(Execution { signal: Some((*signal).to_owned()), ..Execution::default() });
        }
        ("sleep", [millis]) => return Outcome::Done(sleep(command, millis.parse().unwrap_or(0)).await),
        ("yes", []) => return Outcome::Done(yes(output).await),
        ("write", [file, text]) => {
            files.insert((*file).to_owned(), (*text).to_owned());
            return Outcome::Done(exited(0));
        }
        ("append", [file, text]) => {
            let lines = files.entry((*file).to_owned()).or_default();
            lines.push_str(text);
            lines.push('\n');
            return Outcome::Done(exited(0));
        }
        ("echo", words) => (OutputStream::Stdout, format!("{}\n", words.join(" ")).into_bytes()),
        ("echo-err", words) => (OutputStream::Stderr, format!("{}\n", words.join(" ")).into_bytes()),
        ("cat", []) => (OutputStream::Stdout, command.stdin.clone().unwrap_or_default()),
        ("cat", [file]) => match files.get(*file) {
            Some(text) => (OutputStream::Stdout, text.clone().into_bytes()),
            None => return failed(1, format!("cat: {file}: No such file\n"), output).await,
        },
        ("printenv", []) => {
            let lines = command.env.iter().flat_map(|(name, value)| [name, "=", value, "\n"]);
            (OutputStream::Stdout, lines.collect::<String>().into_bytes())
        }
        ("pwd", []) => {
            let cwd = command.cwd.as_deref().unwrap_or(super::CWD);
            (OutputStream::Stdout, format!("{cwd}\n").into_bytes())
        }
        (program, _) => return failed(127, format!("{program}: not found\n"), output).await,
    };
    say(output, stream, bytes).await;
    Outcome::Done(exited(0))
}

async fn sleep(command: &Command, millis: u64) -> Execution {
    let wanted = Duration::from_millis(millis);
    let allowed = command.timeout.unwrap_or(Duration::MAX);
    tokio::time::sleep(wanted.min(allowed)).await;
    if wanted <= allowed {
        return exited(0);
    }
    Execution { signal: Some("SIGTERM".to_owned()), timed_out: true, ..Execution::default() }
}

async fn yes(output: &OutputSink) -> Execution {
    for _ in 0..OUTPUT_BYTES_MAX / YES_BYTES {
        say(output, OutputStream::Stdout, b"y\n".repeat(YES_BYTES / 2)).await;
    }
    Execution { signal: Some("SIGKILL".to_owned()), limit: Some("output".to_owned()), ..Execution::default() }
}

async fn failed(code: i32, message: String, output: &OutputSink) -> Outcome<Execution> {
    say(output, OutputStream::Stderr, message.into_bytes()).await;
    Outcome::Done(exited(code))
}

async fn say(output: &OutputSink, stream: OutputStream, bytes: Vec<u8>) {
    // A closed sink is ignored, as with a real command.
    let _ = output.send(OutputChunk { stream, bytes }).await;
}

fn exited(code: i32) -> Execution {
    Execution { exit_code: Some(code), ..Execution::default() }
}
