//! What a worker says, in the host's log.
//!
//! **Invariants:** no secret value that the worker was given, and no flood: in each [`WINDOW`] at most
//! [`LINES_PER_WINDOW`] lines, then one that counts what was left out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::rpc::RpcError;
use crate::secrets::redact::Redactor;

/// How long lines are counted together.
const WINDOW: Duration = Duration::from_secs(10);
/// Most lines of one worker in a window: enough for a stack trace, too few to fill a disk.
const LINES_PER_WINDOW: u64 = 200;
/// Most bytes of a line that are logged.
const LINE_BYTES_MAX: usize = 2_000;

/// A worker's part of the log.
pub(super) struct WorkerLog {
    plugin_key: String,
    /// What the worker was given.
    hidden: Redactor,
    state: Mutex<State>,
}

struct State {
    window_start: Instant,
    lines: u64,
}

impl WorkerLog {
    pub(super) fn new(plugin_key: &str) -> Self {
        let state = State { window_start: Instant::now(), lines: 0 };
        Self { plugin_key: plugin_key.to_owned(), hidden: Redactor::default(), state: Mutex::new(state) }
    }

    /// Values that the worker is about to be given.
    pub(super) fn hide(&self, secrets: &Redactor) {
        self.hidden.extend(secrets);
    }

    /// The text without the values.
    pub(super) fn redacted(&self, text: &str) -> String {
        self.hidden.text(text)
    }

    /// A line of its stderr.
    pub(super) fn stderr(&self, line: &str) {
        if let Some(text) = self.admit(line) {
            tracing::info!(plugin = self.plugin_key, "{text}");
        }
    }

    /// A `log` notification.
    pub(super) fn said(&self, params: &Value) {
        let Some(text) = self.admit(params["message"].as_str().unwrap_or_default()) else { return };
        match params["level"].as_str() {
            Some("error") => tracing::error!(plugin = self.plugin_key, "{text}"),
            Some("warn") => tracing::warn!(plugin = self.plugin_key, "{text}"),
            Some("debug") => tracing::debug!(plugin = self.plugin_key, "{text}"),
            _ => tracing::info!(plugin = self.plugin_key, "{text}"),
        }
    }

    /// A line that was dropped; its text is not shown.
    pub(super) fn dropped(&self, bytes: u64, why: &str) {
        if self.admit("").is_some() {
            tracing::warn!(plugin = self.plugin_key, bytes, "a line of the worker was dropped: {why}");
        }
    }

    /// It could not read a message of ours.
    pub(super) fn unread(&self, error: &RpcError) {
        if let Some(text) = self.admit(&error.message) {
            let code = error.code;
            tracing::warn!(plugin = self.plugin_key, code, "the worker could not read a message: {text}");
        }
    }

    /// Something of the host's own about it.
    pub(super) fn note(&self, text: &str) {
        if self.admit("").is_some() {
            tracing::warn!(plugin = self.plugin_key, "{text}");
        }
    }

    /// The text as it may be logged, if it may be now.
    fn admit(&self, text: &str) -> Option<String> {
        let mut state = self.state();
        if state.window_start.elapsed() >= WINDOW {
            let left_out = state.lines.saturating_sub(LINES_PER_WINDOW);
            if left_out > 0 {
                tracing::warn!(plugin = self.plugin_key, left_out, "the worker said more than is logged");
            }
            state.window_start = Instant::now();
            state.lines = 0;
        }
        state.lines += 1;
        // Once a value is searched for no more, nothing that the worker says is logged any more.
        if state.lines > LINES_PER_WINDOW || self.hidden.has_forgotten() {
            return None;
        }
        let mut text = self.hidden.text(text);
        let cut = (0..=LINE_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        Some(text)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_until_the_next_window_and_secrets_never_pass() {
        let log = WorkerLog::new("p");
        log.hide(&Redactor::of(&["hunter-2".into()]));
        assert_eq!(log.admit("key hunter-2").unwrap(), "key [secret]");
        assert_eq!(log.admit(&"é".repeat(LINE_BYTES_MAX)).unwrap().len(), LINE_BYTES_MAX);
        let admitted = (0..1_000).filter(|_| log.admit("x").is_some()).count() as u64;
        assert_eq!(admitted, LINES_PER_WINDOW - 2);
        tokio::time::advance(WINDOW).await;
        assert!(log.admit("x").is_some());
    }
}
