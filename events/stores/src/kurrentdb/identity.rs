//! Which ledger a server holds, and which mirror is its own: the stream `ledger-identity` on the server, whose last event counts.
//!
//! **Invariant:** a ledger has one mirror at a time. Processes tell by it who of them lives, so two mirrors would take each
//! other's processes for dead; whoever follows a mirror that was replaced finds that out in the log, and appends nothing more.

use lease_events::id::{CompanyId, EventId, LedgerId};
use lease_events::record::{NewEvent, RecordedEvent, StreamId};
use lease_events::store::{Append, AppendError, Direction, EventStore, Expected, ReadError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::KurrentStore;

/// The name of the stream, whose category is none of the log's own.
const STREAM: &str = "ledger-identity";
const ATTACHED: &str = "ledger-mirror-attached";

/// What a server says of its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Which ledger it is.
    pub ledger_id: LedgerId,
    /// The mirror that is its own.
    pub mirror_id: Uuid,
    /// Which event says so.
    pub(super) revision: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    ledger_id: LedgerId,
    mirror_id: Uuid,
}

impl Identity {
    /// The stream that says so.
    pub(super) fn stream() -> StreamId {
        StreamId::parse(STREAM).expect("it has a category and an id")
    }

    /// What the server of this store says; `None` where it holds no ledger.
    pub async fn find(server: &KurrentStore) -> Result<Option<Self>, ReadError> {
        let last = server.read_stream(&Self::stream(), u64::MAX, Direction::Backwards, 1).await?;
        last.first().map(Self::of).transpose()
    }

    /// Whether an event is one of the stream.
    pub(super) fn is_told_by(event: &RecordedEvent) -> bool {
        event.stream_id.as_str() == STREAM
    }

    /// What an event of the stream says.
    pub(super) fn of(event: &RecordedEvent) -> Result<Self, ReadError> {
        let RecordedEvent { position, stream_revision: revision, .. } = *event;
        let corrupt =
            |cause: serde_json::Error| ReadError::Corrupt { position, column: "data", cause: cause.to_string() };
        let Attached { ledger_id, mirror_id } = serde_json::from_str(&event.data).map_err(corrupt)?;
        Ok(Self { ledger_id, mirror_id, revision })
    }

    /// Says so on the server, behind what it says now.
    pub(super) async fn tell(
        server: &KurrentStore,
        behind: Option<Self>,
        ledger_id: LedgerId,
        mirror_id: Uuid,
    ) -> Result<Self, AppendError> {
        let expected = Expected::after(behind.map(|identity| identity.revision));
        let revision = expected.first_revision();
        let attached = Attached { ledger_id, mirror_id };
        let event = NewEvent {
            event_id: EventId::derived(&[ATTACHED, &mirror_id.to_string(), &revision.to_string()]),
            event_type: ATTACHED,
            schema_version: 1,
            company_id: CompanyId(Uuid::nil()),
            data: serde_json::to_string(&attached).expect("two ids can always be written").into(),
            metadata: "{}".into(),
        };
        server.append(Append { stream: Self::stream(), expected, events: vec![event] }).await?;
        Ok(Self { ledger_id, mirror_id, revision })
    }
}
