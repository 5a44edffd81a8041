//! The calls that wait for an answer, and those that gave up waiting.
//!
//! **Invariants:** a call is answered once. Whether a call can have reached the worker is decided once, by its
//! `Claim`: either the writer takes it, or whoever gives it up does. A call that was given up after it was written
//! stays known, so that its late answer is handed on instead of lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::rpc::RpcError;
use crate::secrets::redact::Redactor;

/// Most calls of one worker that wait at once: many times what one provider is asked for; beyond it, callers hear so.
pub const WAITING_CALLS_MAX: usize = 1_024;
/// Most calls whose late answer is still known; the oldest is forgotten first.
pub const LATE_CALLS_MAX: usize = 1_024;
/// Most late answers that wait to be drained; what comes beyond that is logged and dropped.
pub const LATE_ANSWERS_MAX: usize = 1_024;

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The worker is not there, or went (-32000).
    #[error("The worker of plugin \"{plugin_key}\" is not available: {because}.")]
    Unavailable {
        /// Whose worker.
        plugin_key: String,
        /// What was seen.
        because: String,
        /// Whether the request may have reached it.
        sent: bool,
    },
    /// No answer came in time.
    #[error("The worker of plugin \"{plugin_key}\" did not answer {method} within {after:?}.")]
    TimedOut {
        /// Whose worker.
        plugin_key: String,
        /// What was asked.
        method: String,
        /// The deadline.
        after: Duration,
        /// Whether the request may have reached it.
        sent: bool,
    },
    /// The request was never sent, for this reason.
    #[error("The request could not be sent: {because}")]
    NotSent {
        /// A sentence.
        because: String,
    },
    /// The worker answered with an error.
    #[error("{}", .0.message)]
    Answered(RpcError),
}

/// An answer that came after its caller had stopped waiting.
#[derive(Debug, Clone, PartialEq)]
pub struct LateAnswer {
    /// Whose worker answered.
    pub plugin_key: String,
    /// What was asked.
    pub method: String,
    /// What the caller wanted to know it by.
    pub tag: Value,
    /// What was answered, secret values taken out.
    pub answer: Result<Value, RpcError>,
}

/// Who has the request: the queue, the worker, or nobody any more.
#[derive(Debug, Default)]
pub(super) struct Claim(AtomicU8);

impl Claim {
    const QUEUED: u8 = 0;
    const WRITTEN: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// The writer is about to write it; `false` where it was given up.
    pub(super) fn write(&self) -> bool {
        self.take(Self::WRITTEN)
    }

    /// Nobody waits any more; `true` where it was not written, and never will be.
    pub(super) fn give_up(&self) -> bool {
        self.take(Self::GIVEN_UP) || self.0.load(Ordering::Acquire) == Self::GIVEN_UP
    }

    fn take(&self, by: u8) -> bool {
        self.0.compare_exchange(Self::QUEUED, by, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// One call that waits.
pub(super) struct Waiting {
    pub(super) method: String,
    pub(super) tag: Value,
    pub(super) redactor: Redactor,
    pub(super) claim: Arc<Claim>,
    pub(super) answer: oneshot::Sender<Result<Value, CallError>>,
}

struct Late {
    method: String,
    tag: Value,
    redactor: Redactor,
}

/// All calls of one connection.
pub(super) struct Calls {
    plugin_key: String,
    next_id: u64,
    waiting: HashMap<u64, Waiting>,
    late: HashMap<u64, Late>,
    /// The late ones, oldest first; may name some that were answered.
    late_order: VecDeque<u64>,
    closed: Option<String>,
    late_answers: mpsc::Sender<LateAnswer>,
}

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its caller has it.
    Delivered,
    /// It was late, and handed on.
    Late,
    /// It was late, and nobody drains.
    Lost,
    /// Nobody asked, or it was answered before.
    Unasked,
}

impl Calls {
    pub(super) fn new(plugin_key: &str, late_answers: mpsc::Sender<LateAnswer>) -> Self {
        Self {
            plugin_key: plugin_key.to_owned(),
            next_id: 1,
            waiting: HashMap::new(),
            late: HashMap::new(),
            late_order: VecDeque::new(),
            closed: None,
            late_answers,
        }
    }

    /// A number for the next call. Ids of this direction only, from 1.
    pub(super) fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Lets a call wait.
    pub(super) fn wait(&mut self, id: u64, waiting: Waiting) -> Result<(), CallError> {
        if let Some(because) = &self.closed {
            return Err(self.unavailable(because.clone(), false));
        }
        if self.waiting.len() >= WAITING_CALLS_MAX {
            let because = format!("{WAITING_CALLS_MAX} calls of plugin \"{}\" wait already.", self.plugin_key);
            return Err(CallError::NotSent { because });
        }
        self.waiting.insert(id, waiting);
        Ok(())
    }

    /// Hands an answer to whoever waits, or waited, for it.
    pub(super) fn answer(&mut self, id: u64, answer: Result<Value, RpcError>) -> Taken {
        if let Some(waiting) = self.waiting.remove(&id) {
            let answer = answer.map_err(|error| CallError::Answered(redacted_error(&waiting.redactor, &error)));
            // A caller that went in this very moment dropped its end; what it would have read is late.
            return match waiting.answer.send(answer) {
                Ok(()) => Taken::Delivered,
                Err(answer) => {
                    let late = Late { method: waiting.method, tag: waiting.tag, redactor: waiting.redactor };
                    let answer = answer.map_err(|error| match error {
                        CallError::Answered(error) => error,
                        other => RpcError::new(super::rpc::code::UNKNOWN, other.to_string()),
                    });
                    self.hand_on(late, answer)
                }
            };
        }
        match self.late.remove(&id) {
            Some(late) => self.hand_on(late, answer),
            None => Taken::Unasked,
        }
    }

    /// The caller stopped waiting. `true` where its request can have reached the worker.
    pub(super) fn give_up(&mut self, id: u64) -> bool {
        let Some(waiting) = self.waiting.remove(&id) else { return true };
        if waiting.claim.give_up() {
            return false;
        }
        while self.late_order.len() >= LATE_CALLS_MAX {
            if let Some(oldest) = self.late_order.pop_front() {
                self.late.remove(&oldest);
            }
        }
        self.late_order.push_back(id);
        self.late.insert(id, Late { method: waiting.method, tag: waiting.tag, redactor: waiting.redactor });
        true
    }

    /// The worker is gone: every call that waits hears so, and no other is taken.
    pub(super) fn close(&mut self, because: &str) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(because.to_owned());
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let error = self.unavailable(because.to_owned(), !waiting.claim.give_up());
            // A caller that went does not listen.
            let _ = waiting.answer.send(Err(error));
        }
    }

    fn hand_on(&self, late: Late, answer: Result<Value, RpcError>) -> Taken {
        let Late { method, tag, redactor } = late;
        let answer = match answer {
            Ok(result) => Ok(redactor.json(result)),
            Err(error) => Err(redacted_error(&redactor, &error)),
        };
        let late = LateAnswer { plugin_key: self.plugin_key.clone(), method, tag, answer };
        if self.late_answers.try_send(late).is_ok() { Taken::Late } else { Taken::Lost }
    }

    fn unavailable(&self, because: String, sent: bool) -> CallError {
        CallError::Unavailable { plugin_key: self.plugin_key.clone(), because, sent }
    }
}

fn redacted_error(redactor: &Redactor, error: &RpcError) -> RpcError {
    RpcError::new(error.code, redactor.text(&error.message))
}
