//! Runs a command through a worker, with live output.
//!
//! **Invariant:** what the reader gets is the command's output once and in order. Live pieces come first; where a
//! worker sends none, or more than its reader takes, the rest comes with the answer, as far as that continues them.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::bridge::{Bridge, Target, lease_param};
use super::outcome::Failure;
use crate::drivers::{Command, Execution, Held, OutputChunk, OutputSink, OutputStream};
use crate::secrets::redact::Redactor;
use crate::workers::invocation::{LOG_CHUNKS_MAX, LogChunk, LogStream};
use lease_events::failure::Fault;

const METHOD: &str = "environmentExecute";
/// How long a reader may take over what is left once the command is over; what it leaves then is lost.
const OUTPUT_DRAIN_MAX: Duration = Duration::from_secs(30);
/// Most bytes of one [`OutputChunk`].
const CHUNK_BYTES_MAX: usize = 64 * 1_024;

impl Bridge {
    /// Runs the command.
    pub(in crate::drivers) async fn execute(
        &self,
        target: Target<'_>,
        held: &Held,
        metadata: &Map<String, Value>,
        command: Command,
        output: OutputSink,
    ) -> Result<Execution, Failure> {
        let plugin_key = target.plugin_key;
        let params = params(held, metadata, command)?;
        let (running, mut call) = self.prepare(target, METHOD, params, "execute").await?;
        let (log, live) = mpsc::channel(LOG_CHUNKS_MAX);
        call.log = Some(log);
        let redactor = Redactor::of(&call.secrets);
        let mut forwarding = tokio::spawn(forward(live, output.clone()));
        let answer = running.connection.call(call).await;
        let forwarded = tokio::time::timeout(OUTPUT_DRAIN_MAX, &mut forwarding).await;
        let late = forwarded.is_err();
        forwarding.abort();
        let streamed = forwarded.ok().and_then(Result::ok).unwrap_or_default();
        let answer = answer?;
        let Some(answer) = answer.as_object() else {
            let what = if answer.is_null() { "null" } else { "something that is no result" };
            return Err(Failure::no_answer(plugin_key, METHOD, what));
        };
        let limit = answer.get("metadata").and_then(|metadata| metadata["limit"].as_str());
        let mut execution = Execution {
            exit_code: answer.get("exitCode").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok()),
            signal: answer.get("signal").and_then(Value::as_str).map(|signal| redactor.text(signal)),
            timed_out: answer.get("timedOut").and_then(Value::as_bool).unwrap_or_default(),
            limit: limit.map(|limit| redactor.text(limit)),
        };
        if late || !deliver_rest(&streamed, answer, &output).await {
            execution.limit.get_or_insert_with(|| "output-reader".to_owned());
        }
        Ok(execution)
    }
}

fn params(held: &Held, metadata: &Map<String, Value>, command: Command) -> Result<Map<String, Value>, Failure> {
    let Command { command, args, cwd, env, stdin, timeout } = command;
    let mut params = Map::from_iter([
        ("lease".to_owned(), lease_param(held, metadata)),
        ("command".to_owned(), json!(command)),
        ("args".to_owned(), json!(args)),
        ("env".to_owned(), Value::Object(env.into_iter().map(|(name, value)| (name, json!(value))).collect())),
    ]);
    if let Some(cwd) = cwd {
        params.insert("cwd".to_owned(), cwd.into());
    }
    if let Some(stdin) = stdin {
        let text = String::from_utf8(stdin).map_err(|_| {
            let sentence = "A plugin takes a command's input as text; this one is no UTF-8.";
            Failure::Refused(Fault::new("invalid-command", sentence))
        })?;
        params.insert("stdin".to_owned(), text.into());
    }
    if let Some(timeout) = timeout {
        params.insert("timeoutMs".to_owned(), json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
    }
    Ok(params)
}

/// What the reader has of each output.
#[derive(Default)]
struct Streamed {
    stdout: Prefix,
    stderr: Prefix,
}

/// A beginning, by its length and digest: enough to tell whether a whole continues it.
#[derive(Default)]
struct Prefix {
    bytes: usize,
    digest: Sha256,
}

impl Prefix {
    /// What of `whole` comes after this; `None` where it does not begin like this.
    fn rest<'a>(&self, whole: &'a str) -> Option<&'a [u8]> {
        let (begin, rest) = whole.as_bytes().split_at_checked(self.bytes)?;
        (Sha256::digest(begin) == self.digest.clone().finalize()).then_some(rest)
    }
}

async fn forward(mut live: mpsc::Receiver<LogChunk>, output: OutputSink) -> Streamed {
    let mut streamed = Streamed::default();
    while let Some(LogChunk { stream, chunk }) = live.recv().await {
        let (stream, prefix) = match stream {
            LogStream::Stdout => (OutputStream::Stdout, &mut streamed.stdout),
            LogStream::Stderr => (OutputStream::Stderr, &mut streamed.stderr),
        };
        prefix.bytes += chunk.len();
        prefix.digest.update(chunk.as_bytes());
        // A closed sink is ignored: the command runs on.
        let _ = output.send(OutputChunk { stream, bytes: chunk.into_bytes() }).await;
    }
    streamed
}

/// Sends what the answer has beyond what was streamed; `false` where the reader was too slow for it.
async fn deliver_rest(streamed: &Streamed, answer: &Map<String, Value>, output: &OutputSink) -> bool {
    let outputs =
        [("stdout", OutputStream::Stdout, &streamed.stdout), ("stderr", OutputStream::Stderr, &streamed.stderr)];
    let send = async {
        for (key, stream, prefix) in outputs {
            let whole = answer.get(key).and_then(Value::as_str).unwrap_or_default();
            for bytes in prefix.rest(whole).unwrap_or_default().chunks(CHUNK_BYTES_MAX) {
                // A closed sink is ignored.
                let _ = output.send(OutputChunk { stream, bytes: bytes.to_vec() }).await;
            }
        }
    };
    tokio::time::timeout(OUTPUT_DRAIN_MAX, send).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_continues_the_beginning_is_its_rest() {
        let mut prefix = Prefix::default();
        assert_eq!(prefix.rest("all"), Some("all".as_bytes()));
        prefix.bytes = 2;
        prefix.digest.update("al");
        assert_eq!(prefix.rest("all"), Some("l".as_bytes()));
        assert_eq!(prefix.rest("ill"), None);
        assert_eq!(prefix.rest("a"), None);
    }
}
