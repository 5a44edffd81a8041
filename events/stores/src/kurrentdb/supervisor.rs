//! What the client crate does not do itself: limits in time, a fresh client where one cannot recover, and tries until the
//! server is back.
//!
//! Found in `eventstore` 4.0.0 (docs/kurrentdb.md): a client whose first connection failed never connects; one whose cluster
//! node died stays with that node; no call has a limit of its own. A fresh client asks the seeds anew, in random order.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eventstore::{Client, ClientSettings, CurrentRevision, Error};
use lease_events::store::{AppendError, ReadError};
use tokio::time::{Instant, sleep, timeout};

/// How long one call may take before it is given up: above the client's first connection and a slow disk's flush.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(5);
/// How long tries go on: above the election of a new leader.
const TRY_FOR: Duration = Duration::from_secs(20);
/// The wait before the second try; each further one is twice as long, up to [`WAIT_MAX`].
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What gRPC says of requests that are wrong in themselves: invalid argument, failed precondition, out of range.
const FINAL_CODES: [i32; 3] = [3, 9, 11];

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The stream is at another revision.
    WrongRevision(Option<u64>),
    /// There is no such stream.
    NotFound,
    /// The server refuses this call, and will again.
    Refused(String),
    /// It was not done: another node has to be asked, and the client knows which.
    Elsewhere(String),
    /// It was not sent: this client is of no more use.
    NotDone(String),
    /// It may have been done.
    Unknown(String),
    /// What was read makes no sense.
    Corrupt(ReadError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let said = error.to_string();
        match error {
            Error::WrongExpectedVersion { current: CurrentRevision::Current(at), .. } => Self::WrongRevision(Some(at)),
            Error::WrongExpectedVersion { current: CurrentRevision::NoStream, .. } => Self::WrongRevision(None),
            Error::ResourceNotFound => Self::NotFound,
            Error::ResourceDeleted => Self::Refused("the stream was deleted on the server".to_owned()),
            Error::AccessDenied => Self::Refused(
                "the server denies access; give a user and password in the URL that may read $all and write".to_owned(),
            ),
            Error::NotLeaderException(_) => Self::Elsewhere(said),
            Error::ConnectionClosed | Error::GrpcConnectionError(_) => Self::NotDone(said),
            Error::Grpc { code, message } if FINAL_CODES.contains(&i32::from(code)) => Self::Refused(message),
            Error::UnsupportedFeature => Self::Refused(said),
            _ => Self::Unknown(said),
        }
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Corrupt(error)
    }
}

impl Trouble {
    /// What a read says of it. No `From`: a second one for [`ReadError`] would leave types open elsewhere.
    pub(super) fn of_read(self) -> ReadError {
        let cause = match self {
            Self::Corrupt(error) => return error,
            Self::Refused(cause) | Self::Elsewhere(cause) | Self::NotDone(cause) | Self::Unknown(cause) => cause,
            Self::NotFound | Self::WrongRevision(_) => format!("the server answered a read with {self:?}"),
        };
        ReadError::Unavailable { cause }
    }
}

/// The client of now, and what makes the next one.
pub(super) struct Supervisor {
    settings: ClientSettings,
    current: Mutex<Option<Arc<Client>>>,
}

impl Supervisor {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self { settings, current: Mutex::new(None) }
    }

    /// What `call` gives, tried until it answers, is refused, or time is up. `call` must be one that may be repeated.
    pub(super) async fn run<T, F>(&self, call: impl Fn(Arc<Client>) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let (began, mut wait, mut may_be_done) = (Instant::now(), WAIT_FIRST, false);
        loop {
            let client = self.client()?;
            let trouble = match timeout(CALL_WITHIN, call(Arc::clone(&client))).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Unknown(format!("no answer within {CALL_WITHIN:?}")),
            };
            let cause = match &trouble {
                Trouble::Elsewhere(cause) => cause,
                Trouble::NotDone(cause) => {
                    self.give_up(&client);
                    cause
                }
                Trouble::Unknown(cause) => {
                    may_be_done = true;
                    // A client of one node finds it again by itself; one of a cluster stays with the node that died.
                    if self.has_a_choice() {
                        self.give_up(&client);
                    }
                    cause
                }
                _ => return Err(trouble),
            };
            if began.elapsed() + wait > TRY_FOR {
                return Err(if may_be_done { Trouble::Unknown(cause.clone()) } else { trouble });
            }
            tracing::debug!(cause, "KurrentDB did not answer; trying again");
            sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    fn client(&self) -> Result<Arc<Client>, Trouble> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*current {
            return Ok(Arc::clone(client));
        }
        let client = Client::new(self.settings.clone()).map_err(|error| Trouble::NotDone(error.to_string()))?;
        Ok(Arc::clone(current.insert(Arc::new(client))))
    }

    /// Whether there is another node to go to.
    fn has_a_choice(&self) -> bool {
        self.settings.hosts().len() > 1 || self.settings.is_dns_discovery_enabled()
    }

    /// The next call makes a fresh client, unless another call has had this one replaced already.
    fn give_up(&self, failed: &Arc<Client>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|client| Arc::ptr_eq(client, failed)) {
            *current = None;
        }
    }
}

/// What an append says of its trouble.
pub(super) fn append_error(trouble: Trouble, wrong_revision: impl FnOnce(Option<u64>) -> AppendError) -> AppendError {
    match trouble {
        Trouble::WrongRevision(actual) => wrong_revision(actual),
        Trouble::Refused(cause) => {
            AppendError::Invalid { sentence: format!("The event store refuses the append: {cause}.") }
        }
        Trouble::Elsewhere(cause) | Trouble::NotDone(cause) => AppendError::Unavailable { cause },
        Trouble::NotFound => AppendError::Unavailable { cause: "the server knows no such stream".to_owned() },
        Trouble::Unknown(cause) => AppendError::OutcomeUnknown { cause },
        Trouble::Corrupt(error) => AppendError::OutcomeUnknown { cause: error.to_string() },
    }
}
