//! The body of every refusal: RFC 9457 problem details.

use lease_events::failure::FailureClass;
use lease_events::id::LeaseId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::vocabulary as schema;

/// Why a request was refused, or came to nothing, or may have (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:lease-ledger:problem:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, and what would be right.
    pub detail: String,
    /// A stable word for programs, kebab-case.
    pub code: String,
    /// What the caller can do about it.
    #[schema(value_type = schema::FailureClassWord)]
    pub class: FailureClass,
    /// The lease that it is about.
    #[schema(value_type = Option<Uuid>)]
    pub lease_id: Option<LeaseId>,
    /// The field, parameter or header of the request that it is about, as the API spells it.
    pub field: Option<String>,
}
