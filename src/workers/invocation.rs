//! Which call a worker's news belong to. Each call bears an invocation id; the worker echoes it on what it sends
//! meanwhile, and so the live output of a running `environmentExecute` finds its reader.
//!
//! **Invariant:** what bears no id of a call that runs on this very connection goes nowhere: the company of a piece
//! of output is that of the call, never one that the worker names.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Most pieces of live output that wait for one reader. A reader that is slower gets the rest with the answer: the
/// worker serves others too, and is not held up for it.
pub const LOG_CHUNKS_MAX: usize = 1_024;

/// Which of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of live output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogChunk {
    /// Which output.
    pub stream: LogStream,
    /// Its text; never empty.
    pub chunk: String,
}

struct Route {
    company_id: Option<String>,
    log: Option<mpsc::Sender<LogChunk>>,
}

/// The calls that run on one connection, by invocation id.
#[derive(Default)]
pub(super) struct Invocations(HashMap<String, Route>);

impl Invocations {
    /// Opens the way for a call.
    pub(super) fn open(&mut self, id: &str, company_id: Option<String>, log: Option<mpsc::Sender<LogChunk>>) {
        self.0.insert(id.to_owned(), Route { company_id, log });
    }

    /// The call is over.
    pub(super) fn close(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// The company of a call that runs.
    pub(super) fn company_of(&self, id: Option<&str>) -> Option<String> {
        self.0.get(id?)?.company_id.clone()
    }

    /// Passes a piece of live output on; `false` where it was dropped.
    pub(super) fn log(&mut self, id: Option<&str>, params: Value) -> bool {
        let Ok(chunk) = serde_json::from_value::<LogChunk>(params) else { return false };
        let Some(route) = id.and_then(|id| self.0.get_mut(id)) else { return false };
        let Some(log) = route.log.as_ref().filter(|_| !chunk.chunk.is_empty()) else { return false };
        if log.try_send(chunk).is_err() {
            // What is read stays the beginning of the whole: after a gap nothing more is passed on.
            route.log = None;
            return false;
        }
        true
    }
}

/// What a call bears beside its params.
pub(super) fn metadata(id: &str, company_id: &str, traceparent: Option<&str>) -> Value {
    let mut metadata = json!({ "id": id, "scope": { "companyId": company_id } });
    if let Some(traceparent) = traceparent {
        metadata["traceparent"] = traceparent.into();
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_reaches_its_own_call_only() {
        let mut invocations = Invocations::default();
        let (sink, mut output) = mpsc::channel(2);
        invocations.open("1", Some("company".to_owned()), Some(sink));
        invocations.open("2", None, None);
        let chunk = |text: &str| json!({ "stream": "stdout", "chunk": text });
        assert!(invocations.log(Some("1"), chunk("a")));
        for (id, params) in [
            (Some("3"), chunk("b")),
            (None, chunk("b")),
            (Some("2"), chunk("b")),
            (Some("1"), chunk("")),
            (Some("1"), json!({ "stream": "stdlog", "chunk": "b" })),
            (Some("1"), json!({ "stream": "stdout", "chunk": 1 })),
        ] {
            assert!(!invocations.log(id, params), "{id:?}");
        }
        assert_eq!(output.try_recv().unwrap(), LogChunk { stream: LogStream::Stdout, chunk: "a".to_owned() });
        assert!(output.try_recv().is_err());
        assert_eq!(invocations.company_of(Some("1")).as_deref(), Some("company"));
        invocations.close("1");
        assert!(!invocations.log(Some("1"), chunk("late")));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_beginning_without_a_gap() {
        let mut invocations = Invocations::default();
        let (sink, mut output) = mpsc::channel(1);
        invocations.open("1", None, Some(sink));
        let chunk = |text: &str| json!({ "stream": "stderr", "chunk": text });
        assert!(invocations.log(Some("1"), chunk("a")));
        assert!(!invocations.log(Some("1"), chunk("b")));
        assert_eq!(output.recv().await.unwrap().chunk, "a");
        assert!(!invocations.log(Some("1"), chunk("c")));
        assert_eq!(output.recv().await, None);
    }
}
