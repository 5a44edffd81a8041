//! Commands on secrets: set, rotate, remove; how they are read and put on record, and how a plaintext in a config
//! becomes a reference.
//!
//! **Invariants**
//! - A value comes in with a command and goes out through [`resolve`] alone; no answer, event or digest holds it.
//! - A version is kept before it is announced, so that what is announced can be read. What a command has kept and
//!   then not announced, since another was first, it discards.
//! - A read is on record before the value is handed out.

pub mod intern;
pub mod rekey;
pub mod remove;
pub mod resolve;
pub mod rotate;
pub mod set;
mod version;

use lease_events::codec::encode;
use lease_events::fold::StreamState;
use lease_events::id::{CompanyId, EventId, SecretId};
use lease_events::record::{RecordedEvent, StreamId};
use lease_events::seam::crash::Step;
use lease_events::secret::{SecretEvent, SecretProviderKind, SecretState, SecretStatus};
use lease_events::store::{Append, AppendError, Expected};
use secrecy::SecretString;
use serde::{Serialize, Serializer};

use super::Context;
use super::caller::Command;
use super::error::CommandError;
use super::replay::catch_up;
use super::session::append_surely;

/// Longest name of a secret, in bytes: room for those of fields of configs.
pub const NAME_BYTES_MAX: usize = 300;

/// How often a change of a secret is tried against others who change or read it.
const CONFLICTS_MAX: u32 = 32;

/// Where the value of a new version is.
#[derive(Debug, Clone)]
pub enum Source {
    /// Here: it is sealed and kept by the ledger.
    Value(SecretString),
    /// In a variable of the ledger's process, which the operator sets.
    Variable(String),
    /// In a file below the operator's folder.
    File(String),
}

/// Says where the value is, and nothing of the value: requests are digested as they are written.
impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(_) => serializer.serialize_str("value"),
            Self::Variable(name) => serializer.serialize_newtype_variant("source", 1, "variable", name),
            Self::File(path) => serializer.serialize_newtype_variant("source", 2, "file", path),
        }
    }
}

impl Source {
    /// The provider of such a value.
    #[must_use]
    pub fn provider(&self) -> SecretProviderKind {
        match self {
            Self::Value(_) => SecretProviderKind::Ledger,
            Self::Variable(_) => SecretProviderKind::Environment,
            Self::File(_) => SecretProviderKind::File,
        }
    }
}

/// The secret of this id in this company, as its stream says now.
pub async fn load_in(
    context: &Context,
    secret_id: SecretId,
    company_id: CompanyId,
) -> Result<SecretState, CommandError> {
    let state: Option<SecretState> =
        catch_up(context.store.as_ref(), &StreamId::secret(secret_id), None, |_| {}).await?;
    state.filter(|secret| secret.company_id == company_id).ok_or(CommandError::UnknownSecret { secret_id, company_id })
}

/// The secret that has this name now, or would get it.
async fn named(context: &Context, company_id: CompanyId, name: &str) -> Result<SecretId, CommandError> {
    let mut generation: u32 = 0;
    loop {
        let secret_id = derived(company_id, name, generation);
        match catch_up::<SecretState>(context.store.as_ref(), &StreamId::secret(secret_id), None, |_| {}).await? {
            Some(gone) if gone.status == SecretStatus::Removed => generation += 1,
            _ => return Ok(secret_id),
        }
    }
}

/// The id of a company's secret of this name and generation.
fn derived(company_id: CompanyId, name: &str, generation: u32) -> SecretId {
    SecretId::derived(&[&company_id.to_string(), name, &generation.to_string()])
}

/// A command at work on one secret's stream.
struct Session<'a> {
    context: &'a Context,
    command: &'a Command,
    secret_id: SecretId,
    state: Option<SecretState>,
    /// How many events this command has written to the stream, now or before a crash.
    written: usize,
}

impl<'a> Session<'a> {
    async fn load(context: &'a Context, command: &'a Command, secret_id: SecretId) -> Result<Self, CommandError> {
        let stream = StreamId::secret(secret_id);
        let mut written = 0;
        let own = |recorded: &RecordedEvent| {
            if recorded.event_id == EventId::of_command(command.id, stream.as_str(), written) {
                written += 1;
            }
        };
        let state = catch_up(context.store.as_ref(), &stream, None, own).await?;
        Ok(Self { context, command, secret_id, state, written })
    }

    /// The secret, which must be there and be the company's.
    fn existing(&self, company_id: CompanyId) -> Result<&SecretState, CommandError> {
        let found = self.state.as_ref().filter(|state| state.company_id == company_id);
        found.ok_or(CommandError::UnknownSecret { secret_id: self.secret_id, company_id })
    }

    /// Appends at the loaded revision, and answers the state behind it.
    async fn append(&self, company_id: CompanyId, events: &[SecretEvent]) -> Result<SecretState, CommandError> {
        let stream = StreamId::secret(self.secret_id);
        let expected = Expected::after(self.state.as_ref().map(|state| state.revision));
        let metadata = self.command.metadata();
        let events = encode(events, &stream, company_id, self.command.id, self.written, &metadata);
        let append = Append { stream, expected, events };
        let append = append_surely(self.context.store.as_ref(), append);
        let appended = self.context.step(Step::SecretOutcome, append).await?;
        let mut state = self.state.clone();
        for recorded in &appended.events {
            state = Some(SecretState::apply(state, recorded)?);
        }
        state.ok_or(CommandError::UnknownSecret { secret_id: self.secret_id, company_id })
    }
}

/// Whether an append lost to another.
fn is_conflict(error: &CommandError) -> bool {
    matches!(error, CommandError::Append(AppendError::WrongExpectedRevision { .. }))
}

/// Refuses where the secret was removed.
fn check_active(state: &SecretState) -> Result<(), CommandError> {
    match state.status {
        SecretStatus::Active => Ok(()),
        SecretStatus::Removed => Err(CommandError::SecretRemoved { name: state.name.clone() }),
    }
}
