//! The closed vocabularies as the API document shows them: the words are those of the events, never copied.

use lease_events::failure::FailureClass as Class;
use lease_events::lease::vocabulary as words;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::drivers::plugin::conformance::case::Fact;

macro_rules! schemas {
    ($($name:ident, $about:literal, $words:expr;)*) => {$(
        #[doc = $about]
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($about))
                    .enum_values(Some($words.iter().map(ToString::to_string)))
                    .into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

schemas! {
    LeaseStatus, "Where a lease stands.", words::LeaseStatus::WORDS;
    CleanupStatus, "Where the obligation stands to leave nothing at the provider.", words::CleanupStatus::WORDS;
    ReleaseStatus, "How a release wants the lease to end.", words::ReleaseStatus::WORDS;
    Policy, "What becomes of the provider lease when its lease ends.", words::Policy::WORDS;
    Reason, "Why a lease ended, or an acquire did not come about.", words::Reason::WORDS;
    WorkspaceKind, "What a lease's workspace is worth.", words::WorkspaceKind::WORDS;
    Verdict, "What a reuse decision says of one candidate.", words::Verdict::WORDS;
    NextActionKind, "What happens to a lease next.", words::NextActionKind::WORDS;
    EnvironmentStatus, "Whether leases are given on an environment.", ["active", "archived"];
    SecretStatus, "Whether a secret can be read.", ["active", "removed"];
    SecretProvider, "What keeps a secret's value: the ledger's own database (sealed), a variable of its process, or a file below the folder that the operator grants.", ["ledger", "environment", "file"];
    AcquiredHow, "How a lease came to its provider lease: a new one, one that another lease left, or the one that the run holds already.", ["fresh", "reused", "held"];
    OutputStream, "Which of a command's two outputs.", ["stdout", "stderr"];
    Severity, "How bad a finding is.", ["info", "warning", "error"];
    DeclaredDriverKind, "What a plugin's driver is: a driver of the `plugin` driver, or a provider of the `sandbox` driver.", ["environment_driver", "sandbox_provider"];
    WorkerState, "Where a plugin's worker is in the process that answers: nobody needed it yet or it was stopped, it starts, it answers, it ended by itself and is started again after a while, or it did so too often.", crate::commands::plugin::WorkerState::WORDS;
    TrustFact, "What a check may show of a plugin's driver, so that the ledger counts on it (docs/plugins.md).", Fact::ALL.map(Fact::name);
    FailureClass, "What a caller can do about a failure.", FAILURE_CLASSES;
}

const FAILURE_CLASSES: [Class; 7] = [
    Class::Invalid,
    Class::NotFound,
    Class::Conflict,
    Class::Unavailable,
    Class::Provider,
    Class::OutcomeUnknown,
    Class::Internal,
];
