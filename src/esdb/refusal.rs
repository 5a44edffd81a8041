//! Every refusal of this face, as a gRPC status with the trailers that clients look for.

use lease_events::store::ReadError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The trailer by which clients tell refusals apart.
const EXCEPTION: &str = "exception";

/// Why a call is not answered, or no further.
pub(super) type Refusal = Box<Status>;

/// A write, to those who may only read.
pub(super) fn read_only() -> Status {
    let mut status = Status::new(
        Code::PermissionDenied,
        "This is a lease ledger: its history is read here, and written by its commands only.",
    );
    status.metadata_mut().insert(EXCEPTION, MetadataValue::from_static("access-denied"));
    status
}

/// A request that means nothing here.
pub(super) fn invalid(sentence: impl Into<String>) -> Refusal {
    Box::new(Status::invalid_argument(sentence))
}

/// More answers at once than this face gives.
pub(super) fn busy(most: usize) -> Refusal {
    let sentence = format!("{most} reads and subscriptions are under way, which is the most; try again.");
    Box::new(Status::resource_exhausted(sentence))
}

/// What ends a subscription when the ledger stops. Never OK: clients subscribe again after an error, and some spin
/// after an OK.
pub(super) fn stopping() -> Refusal {
    Box::new(Status::unavailable("The ledger stops; subscribe again when it is back."))
}

/// An answer that broke off by a fault of this program.
pub(super) fn broken_off() -> Status {
    Status::internal("The answer broke off; ask again.")
}

/// A store that could not be read.
pub(super) fn unreadable(error: &ReadError) -> Refusal {
    Box::new(match error {
        ReadError::Unavailable { .. } => Status::unavailable(error.to_string()),
        ReadError::Corrupt { .. } => Status::data_loss(error.to_string()),
    })
}
