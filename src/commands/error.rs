//! Why a command did not do what was asked: small facts, each with a class that a caller can act on, a stable code
//! for programs and a sentence for people.

use chrono::{DateTime, SecondsFormat, Utc};
use lease_events::failure::{FailureClass, Fault};
use lease_events::fold::FoldError;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, RunId, SecretId};
use lease_events::lease::vocabulary::{Effect, LeaseStatus};
use lease_events::record::StreamId;
use lease_events::store::{AppendError, ReadError};
use lease_projections::projection::QueryError;

use super::plugin::PluginFault;
use crate::drivers::InvalidConfig;
use crate::secrets::SecretFault;

/// The moment as sentences write it.
pub(crate) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// What is said of an effect that may or may not have happened.
fn settled(effect: Effect, fault: &Fault) -> String {
    match effect {
        Effect::Execute => format!(": {fault}; it is on record, and it is not run again under its idempotency key"),
        _ => format!(" yet: {fault}; it is on record and will be settled"),
    }
}

/// Why a command was refused, or came to nothing, or may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A field of the request breaks a rule.
    #[error("{sentence}")]
    Invalid {
        /// The field, as the API spells it.
        field: &'static str,
        /// What was wrong and what would be right.
        sentence: String,
    },
    /// The driver will not take the config.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// No environment of this id in this company.
    #[error("There is no environment {environment_id} in company {company_id}.")]
    UnknownEnvironment {
        /// As given.
        environment_id: EnvironmentId,
        /// As given.
        company_id: CompanyId,
    },
    /// The environment gives no more leases (B1).
    #[error("Environment \"{name}\" is not active.")]
    EnvironmentNotActive {
        /// Its name.
        name: String,
    },
    /// Another active environment has this driver and name.
    #[error(
        "Company {company_id} already has an active environment \"{name}\" with driver {driver} ({environment_id}); choose another name, or archive that one first."
    )]
    EnvironmentNameTaken {
        /// The tenant.
        company_id: CompanyId,
        /// The name.
        name: String,
        /// The driver.
        driver: String,
        /// Who has it.
        environment_id: EnvironmentId,
    },
    /// The driver is not registered (B1).
    #[error("There is no driver \"{driver}\"; there are {}.", .known.join(", "))]
    UnknownDriver {
        /// As given.
        driver: String,
        /// The registered ones.
        known: Vec<&'static str>,
    },
    /// No lease of this id, or it is another company's.
    #[error("There is no lease {lease_id}{}.", .company_id.map(|id| format!(" in company {id}")).unwrap_or_default())]
    UnknownLease {
        /// As given.
        lease_id: LeaseId,
        /// As given.
        company_id: Option<CompanyId>,
    },
    /// The lease is over.
    #[error("Lease {lease_id} is over ({status}{}); acquire a new one.", .ended_at.map(|at| format!(" since {}", moment(at))).unwrap_or_default())]
    LeaseOver {
        /// The lease.
        lease_id: LeaseId,
        /// How it ended.
        status: LeaseStatus,
        /// When.
        ended_at: Option<DateTime<Utc>>,
    },
    /// No secret of this id, or version of it, in this company.
    #[error("There is no such secret or version in company {company_id}: {secret_id}.")]
    UnknownSecret {
        /// As given.
        secret_id: SecretId,
        /// As given.
        company_id: CompanyId,
    },
    /// The secret was removed.
    #[error("Secret \"{name}\" was removed; set it anew, and use the reference to the new one.")]
    SecretRemoved {
        /// Its name.
        name: String,
    },
    /// The value of a secret could not be kept, found or deleted.
    #[error("The value of the secret was not taken: {0}.")]
    Secret(#[from] SecretFault),
    /// Nothing was done to a plugin.
    #[error(transparent)]
    Plugin(#[from] PluginFault),
    /// The lease's time is over, though nothing has ended it yet.
    #[error("Lease {lease_id} expired at {}; acquire a new one.", moment(*.expired_at))]
    LeaseExpired {
        /// The lease.
        lease_id: LeaseId,
        /// When its time was over.
        expired_at: DateTime<Utc>,
    },
    /// The lease is on its way to another status.
    #[error("Lease {lease_id} is {status}; wait until it is active.")]
    LeaseNotActive {
        /// The lease.
        lease_id: LeaseId,
        /// Where it stands.
        status: LeaseStatus,
    },
    /// Its cleanup cannot be given up: it is in use.
    #[error("Lease {lease_id} is {status}; release it first, then see what is left to clean up.")]
    StillInUse {
        /// The lease.
        lease_id: LeaseId,
        /// Where it stands.
        status: LeaseStatus,
    },
    /// It owes no cleanup.
    #[error("Lease {lease_id} owes no cleanup; there is nothing to waive.")]
    NothingOwed {
        /// The lease.
        lease_id: LeaseId,
    },
    /// What the lease held belongs to another lease now.
    #[error("What lease {lease_id} held was handed over to lease {to}; act on that one.")]
    HandedOver {
        /// The lease.
        lease_id: LeaseId,
        /// Who has it.
        to: LeaseId,
    },
    /// The caller's fencing token is not the holder's.
    #[error(
        "Fencing token {given} is stale: lease {lease_id} is held under {current}; whoever holds it now has the higher token."
    )]
    StaleFencingToken {
        /// The lease.
        lease_id: LeaseId,
        /// As given.
        given: u64,
        /// The holder's.
        current: u64,
    },
    /// Neither a token nor a reason was given.
    #[error("A change of lease {lease_id} needs \"fencingToken\" (its holder) or \"reason\" (an operator).")]
    NoAuthority {
        /// The lease.
        lease_id: LeaseId,
    },
    /// No run of this id in this company was ever kept alive or released.
    #[error("There is no run {run_id} in company {company_id}.")]
    UnknownRun {
        /// As given.
        run_id: RunId,
        /// As given.
        company_id: CompanyId,
    },
    /// The run was released: it holds nothing any more.
    #[error("Run {run_id} was released at {}; it can neither acquire nor be kept alive any more, a new run can.", moment(*.released_at))]
    RunReleased {
        /// The run.
        run_id: RunId,
        /// When.
        released_at: DateTime<Utc>,
    },
    /// The lease was released before its acquire was done; nothing is held.
    #[error("Lease {lease_id} was released while it was being acquired; nothing is held.")]
    AcquireCancelled {
        /// The lease.
        lease_id: LeaseId,
    },
    /// The revision given is not the present one.
    #[error("{stream} is at revision {actual}, not {expected}; read it again, then decide.")]
    RevisionMismatch {
        /// The stream.
        stream: StreamId,
        /// As given.
        expected: u64,
        /// As it is.
        actual: u64,
    },
    /// The idempotency key was used for another request.
    #[error(
        "The Idempotency-Key was used before for {operation} with another request; use a new key for a new request."
    )]
    IdempotencyKeyReused {
        /// What it was used for.
        operation: String,
    },
    /// Others keep writing to the stream.
    #[error("{stream} is being changed by others again and again; try once more.")]
    Contention {
        /// The stream.
        stream: StreamId,
    },
    /// The driver refused or failed, and nothing of the effect is there.
    #[error("The {effect} of lease {lease_id} failed: {fault}")]
    Provider {
        /// The lease.
        lease_id: LeaseId,
        /// What was to be done.
        effect: Effect,
        /// What the driver said.
        fault: Fault,
    },
    /// A command that was told again is run by a process that lives, as far as anybody knows.
    #[error("Command \"{command}\" of lease {lease_id} has been running since {}; ask again when it has ended.", moment(*.since))]
    CommandRunning {
        /// The lease.
        lease_id: LeaseId,
        /// The program.
        command: String,
        /// When it was started.
        since: DateTime<Utc>,
    },
    /// The effect may or may not have happened; it is on record and will be settled. What a command did that was broken
    /// off, nobody will ever know.
    #[error("Whether the {effect} of lease {lease_id} happened is not known{}.", settled(*.effect, fault))]
    OutcomeUnknown {
        /// The lease.
        lease_id: LeaseId,
        /// What was to be done.
        effect: Effect,
        /// What is known.
        fault: Fault,
    },
    /// The store took nothing, or may have.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The command was done, and the store could not keep what it is to be answered.
    #[error(
        "What was asked is done and on record, but not yet what it is answered ({cause}); ask again with the same Idempotency-Key."
    )]
    NotKept {
        /// What the store said.
        cause: AppendError,
    },
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The projections could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A stored stream makes no sense.
    #[error(transparent)]
    Corrupt(#[from] FoldError),
    /// The ledger is stopping.
    #[error("The ledger is stopping and takes no more commands; try again when it is back.")]
    Stopping,
    /// The command's task died; its intent is on record and will be settled.
    #[error("The command was broken off by a fault of the ledger: {cause}.")]
    BrokenOff {
        /// What is known of it.
        cause: String,
    },
}

impl CommandError {
    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Invalid { .. } | Self::InvalidConfig(_) | Self::NoAuthority { .. } | Self::UnknownDriver { .. } => {
                FailureClass::Invalid
            }
            Self::UnknownEnvironment { .. }
            | Self::UnknownLease { .. }
            | Self::UnknownSecret { .. }
            | Self::UnknownRun { .. }
            | Self::Query(QueryError::UnknownProjection { .. }) => FailureClass::NotFound,
            Self::EnvironmentNotActive { .. }
            | Self::EnvironmentNameTaken { .. }
            | Self::LeaseOver { .. }
            | Self::LeaseExpired { .. }
            | Self::LeaseNotActive { .. }
            | Self::HandedOver { .. }
            | Self::StillInUse { .. }
            | Self::NothingOwed { .. }
            | Self::StaleFencingToken { .. }
            | Self::RunReleased { .. }
            | Self::SecretRemoved { .. }
            | Self::AcquireCancelled { .. }
            | Self::CommandRunning { .. }
            | Self::RevisionMismatch { .. }
            | Self::IdempotencyKeyReused { .. }
            | Self::Contention { .. } => FailureClass::Conflict,
            Self::Provider { .. } => FailureClass::Provider,
            Self::OutcomeUnknown { .. } => FailureClass::OutcomeUnknown,
            Self::Secret(fault) => fault.class(),
            Self::Plugin(fault) => fault.class(),
            Self::Append(cause) | Self::NotKept { cause } => cause.class(),
            Self::Read(ReadError::Unavailable { .. }) | Self::Query(_) | Self::Stopping => FailureClass::Unavailable,
            Self::Read(ReadError::Corrupt { .. }) | Self::Corrupt(_) | Self::BrokenOff { .. } => FailureClass::Internal,
        }
    }

    /// A stable word for programs, kebab-case.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid-request",
            Self::InvalidConfig(_) => "invalid-config",
            Self::UnknownEnvironment { .. } => "unknown-environment",
            Self::EnvironmentNotActive { .. } => "environment-not-active",
            Self::EnvironmentNameTaken { .. } => "environment-name-taken",
            Self::UnknownDriver { .. } => "unknown-driver",
            Self::UnknownLease { .. } => "unknown-lease",
            Self::UnknownSecret { .. } => "unknown-secret",
            Self::SecretRemoved { .. } => "secret-removed",
            Self::Secret(SecretFault::Invalid { .. } | SecretFault::Missing { .. }) => "invalid-secret",
            Self::Secret(SecretFault::Tampered) => "corrupt-secret",
            Self::Secret(_) => "secrets-unavailable",
            Self::Plugin(fault) => fault.code(),
            Self::LeaseOver { .. } => "lease-over",
            Self::LeaseExpired { .. } => "lease-expired",
            Self::LeaseNotActive { .. } => "lease-not-active",
            Self::HandedOver { .. } => "handed-over",
            Self::StillInUse { .. } => "still-in-use",
            Self::NothingOwed { .. } => "nothing-owed",
            Self::StaleFencingToken { .. } => "stale-fencing-token",
            Self::NoAuthority { .. } => "no-authority",
            Self::UnknownRun { .. } => "unknown-run",
            Self::RunReleased { .. } => "run-released",
            Self::AcquireCancelled { .. } => "acquire-cancelled",
            Self::RevisionMismatch { .. } => "revision-mismatch",
            Self::IdempotencyKeyReused { .. } => "idempotency-key-reused",
            Self::Contention { .. } => "contention",
            Self::CommandRunning { .. } => "command-running",
            Self::Provider { .. } => "provider-failed",
            Self::OutcomeUnknown { .. } => "outcome-unknown",
            Self::NotKept { .. } => "answer-not-kept",
            Self::Append(_) | Self::Read(ReadError::Unavailable { .. }) => "store-unavailable",
            Self::Query(QueryError::UnknownProjection { .. }) => "unknown-projection",
            Self::Query(_) => "projections-unavailable",
            Self::Read(ReadError::Corrupt { .. }) | Self::Corrupt(_) => "corrupt-history",
            Self::Stopping => "stopping",
            Self::BrokenOff { .. } => "broken-off",
        }
    }

    /// The lease that it is about, where it is about one.
    #[must_use]
    pub fn lease_id(&self) -> Option<LeaseId> {
        match self {
            Self::UnknownLease { lease_id, .. }
            | Self::LeaseOver { lease_id, .. }
            | Self::LeaseExpired { lease_id, .. }
            | Self::LeaseNotActive { lease_id, .. }
            | Self::HandedOver { lease_id, .. }
            | Self::StillInUse { lease_id, .. }
            | Self::NothingOwed { lease_id }
            | Self::StaleFencingToken { lease_id, .. }
            | Self::NoAuthority { lease_id }
            | Self::AcquireCancelled { lease_id }
            | Self::CommandRunning { lease_id, .. }
            | Self::Provider { lease_id, .. }
            | Self::OutcomeUnknown { lease_id, .. } => Some(*lease_id),
            _ => None,
        }
    }
}
