//! Who issues a command, and under which id.

use lease_events::id::{CommandId, CompanyId};
use lease_events::record::{Actor, ActorKind, Metadata};
use lease_events::seam::Ids;

/// Longest idempotency key, in bytes: room for two UUIDs and a word.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;

/// Who issues a command, as every event that it writes will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who acts.
    pub actor: Actor,
    /// The caller's own key of this command: the same key is the same command, and answers the same outcome.
    pub idempotency_key: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Caller {
    /// A program of this name, without a key.
    #[must_use]
    pub fn service(id: &str) -> Self {
        Self::of(ActorKind::Service, id)
    }

    /// A party of this kind and id, without a key.
    #[must_use]
    pub fn of(kind: ActorKind, id: &str) -> Self {
        Self { actor: Actor { kind, id: id.to_owned() }, idempotency_key: None, traceparent: None }
    }

    /// The same caller with an idempotency key.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.idempotency_key = Some(key.to_owned());
        self
    }
}

/// A command under way: its caller and its id.
#[derive(Debug, Clone)]
pub struct Command {
    /// Derived from the company and the idempotency key where there is one, else fresh.
    pub id: CommandId,
    /// Whether the caller may send it again under the same key.
    pub repeatable: bool,
    /// Who issued it.
    pub caller: Caller,
    /// The conversation that it belongs to: the run where there is one, else the command itself.
    pub correlation_id: Option<String>,
    /// The command that this one follows up on.
    pub caused_by: Option<CommandId>,
}

impl Command {
    /// The command of a caller in a company. One key is one command in one company, whatever the operation: used
    /// for another operation it is refused, not mixed up.
    #[must_use]
    pub fn issued(caller: &Caller, company: CompanyId, ids: &dyn Ids) -> Self {
        let id = match &caller.idempotency_key {
            Some(key) => CommandId::derived(&[&company.to_string(), key]),
            None => CommandId(ids.fresh()),
        };
        Self {
            id,
            repeatable: caller.idempotency_key.is_some(),
            caller: caller.clone(),
            correlation_id: None,
            caused_by: None,
        }
    }

    /// The same command as part of a run's conversation.
    #[must_use]
    pub fn in_conversation(mut self, correlation_id: Option<String>) -> Self {
        self.correlation_id = correlation_id;
        self
    }

    /// What this command has to do on the stream of another lease, as a command of its own that follows it.
    #[must_use]
    pub fn follow_up(&self, purpose: &str) -> Self {
        Self {
            id: CommandId::derived(&[&self.id.to_string(), purpose]),
            repeatable: self.repeatable,
            caller: self.caller.clone(),
            correlation_id: self.correlation_id.clone(),
            caused_by: Some(self.id),
        }
    }

    /// What stands beside the data of every event of this command.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        Metadata {
            correlation_id: self.correlation_id.clone().unwrap_or_else(|| self.id.to_string()),
            causation_id: self.caused_by.unwrap_or(self.id).to_string(),
            command_id: self.id,
            actor: self.caller.actor.clone(),
            traceparent: self.caller.traceparent.clone(),
        }
    }
}
