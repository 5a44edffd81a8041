//! An event before and after it is stored. Pure.
//!
//! **Invariant:** `data` and `metadata` are JSON texts that are stored and moved as they are; nothing here parses
//! or rewrites them, so what an auditor hashes is what was written.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{CommandId, CompanyId, EnvironmentId, EventId, LeaseId, OrphanId, RunId, SecretId};

/// Where an event stands in the whole log: from 1, gap-free, in commit order. 0 is "before the first event".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before the first event: where a reader that has seen nothing stands.
    pub const START: Self = Self(0);

    /// The position right behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The name of a stream, `CATEGORY-ID`. The category holds no `-`, so that `KurrentDB`'s `$ce-lease` finds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

/// Longest stream name in bytes that a store must accept.
pub const STREAM_NAME_BYTES_MAX: usize = 200;

/// The categories of all streams of a ledger: what stands before the `-` of their names.
pub const CATEGORIES: &[&str] = &["lease", "environment", "secret", "run", "orphan", "command"];

impl StreamId {
    /// The stream of one lease.
    #[must_use]
    pub fn lease(id: LeaseId) -> Self {
        Self(format!("lease-{id}").into())
    }

    /// The stream of one environment.
    #[must_use]
    pub fn environment(id: EnvironmentId) -> Self {
        Self(format!("environment-{id}").into())
    }

    /// The stream of one secret.
    #[must_use]
    pub fn secret(id: SecretId) -> Self {
        Self(format!("secret-{id}").into())
    }

    /// The stream of one run: whether it is kept alive, and its release.
    #[must_use]
    pub fn run(id: RunId) -> Self {
        Self(format!("run-{id}").into())
    }

    /// The stream of one orphan.
    #[must_use]
    pub fn orphan(id: OrphanId) -> Self {
        Self(format!("orphan-{id}").into())
    }

    /// The stream that reserves a command id and keeps its outcome.
    #[must_use]
    pub fn command(id: CommandId) -> Self {
        Self(format!("command-{id}").into())
    }

    /// A stream by its name, as stores and wire formats hand it over.
    ///
    /// # Errors
    /// The name has no `CATEGORY-` before an id, or is longer than [`STREAM_NAME_BYTES_MAX`].
    pub fn parse(name: &str) -> Result<Self, InvalidStreamName> {
        let well_formed = name.split_once('-').is_some_and(|(category, id)| !category.is_empty() && !id.is_empty());
        if well_formed && name.len() <= STREAM_NAME_BYTES_MAX {
            Ok(Self(name.into()))
        } else {
            Err(InvalidStreamName { name: name.chars().take(STREAM_NAME_BYTES_MAX).collect() })
        }
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `-`.
    #[must_use]
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A text that names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" is not a stream name; it is CATEGORY-ID, such as lease-<uuid>, of at most 200 bytes")]
pub struct InvalidStreamName {
    /// The name as given, cut at the limit.
    pub name: String,
}

/// Who acted. Opaque on purpose: names and addresses of people live elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// What kind of party it is.
    pub kind: ActorKind,
    /// Its opaque id, such as `heartbeat` or a user's UUID; at most 200 bytes.
    pub id: String,
}

/// The kinds of parties that act on a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActorKind {
    /// A program, such as the heartbeat service.
    Service,
    /// A person.
    User,
    /// An agent's run.
    Run,
    /// The ledger itself: recovery, expiry, cleanup.
    Ledger,
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ActorKind::Service => "service",
            ActorKind::User => "user",
            ActorKind::Run => "run",
            ActorKind::Ledger => "ledger",
        };
        write!(formatter, "{kind}:{}", self.id)
    }
}

/// What stands beside the data of every event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The conversation that the event belongs to: the run where there is one, else the command.
    #[serde(rename = "$correlationId")]
    pub correlation_id: String,
    /// The command or event that caused this one.
    #[serde(rename = "$causationId")]
    pub causation_id: String,
    /// The command that wrote the event.
    pub command_id: CommandId,
    /// Who issued that command.
    pub actor: Actor,
    /// W3C trace context of the caller, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Deterministic, see [`EventId::of_command`].
    pub event_id: EventId,
    /// The stable type name, kebab-case, past tense.
    pub event_type: &'static str,
    /// The version of the data's schema, from 1.
    pub schema_version: u16,
    /// The tenant.
    pub company_id: CompanyId,
    /// JSON text.
    pub data: Arc<str>,
    /// JSON text of [`Metadata`].
    pub metadata: Arc<str>,
}

/// An event as a store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Deterministic, see [`EventId::of_command`].
    pub event_id: EventId,
    /// The stream it stands in.
    pub stream_id: StreamId,
    /// Its number in the stream: from 0, no gap.
    pub stream_revision: u64,
    /// Its number in the whole log: from 1, no gap, in commit order.
    pub position: Position,
    /// The stable type name.
    pub event_type: Arc<str>,
    /// The version of the data's schema, from 1.
    pub schema_version: u16,
    /// The tenant.
    pub company_id: CompanyId,
    /// When the store took it, UTC, to the microsecond. Order by `position`, never by this.
    pub recorded_at: DateTime<Utc>,
    /// JSON text, byte for byte what was appended.
    pub data: Arc<str>,
    /// JSON text of [`Metadata`], byte for byte what was appended.
    pub metadata: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_categories_are_those_of_the_streams() {
        let id = uuid::Uuid::nil();
        let streams = [
            StreamId::lease(LeaseId(id)),
            StreamId::environment(EnvironmentId(id)),
            StreamId::secret(SecretId(id)),
            StreamId::run(RunId(id)),
            StreamId::orphan(OrphanId(id)),
            StreamId::command(CommandId(id)),
        ];
        assert_eq!(streams.each_ref().map(StreamId::category), *CATEGORIES);
    }

    #[test]
    fn a_stream_name_has_a_category_and_an_id() {
        let id = LeaseId::derived(&["x"]);
        assert_eq!(StreamId::lease(id).category(), "lease");
        assert_eq!(StreamId::parse(StreamId::lease(id).as_str()), Ok(StreamId::lease(id)));
        for bad in ["", "lease", "-x", "lease-", &"a-".repeat(101)] {
            assert!(StreamId::parse(bad).is_err(), "{bad}");
        }
    }
}
