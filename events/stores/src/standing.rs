//! Where an append stands against its stream. Pure, and shared by every store that decides this itself.
//!
//! **Invariant:** an append is taken only at the very end of its stream, or recognised as one that was taken before.

use lease_events::record::RecordedEvent;
use lease_events::store::{Append, AppendError, Expected};

/// Where an append stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// At the end of the stream: its events come next, from this revision on.
    Next(u64),
    /// Wholly behind the end: a repetition if the events from this revision on are the same ones.
    Behind(u64),
    /// Neither: it can only be refused.
    Apart,
}

/// Where `append` stands against a stream whose last revision is `last`.
pub(crate) fn standing(append: &Append, last: Option<u64>) -> Standing {
    // Saturating: no stream ever gets there, so a revision of `u64::MAX` is refused like any other that is too high.
    let first = match append.expected {
        Expected::NoStream => 0,
        Expected::Exact(revision) => revision.saturating_add(1),
    };
    let length = last.map_or(0, |last| last.saturating_add(1));
    if first == length {
        Standing::Next(first)
    } else if first.saturating_add(append.events.len() as u64) <= length {
        Standing::Behind(first)
    } else {
        Standing::Apart
    }
}

/// Whether `stored`, the events at the revisions that `append` asks for, are the very ones that it brings.
pub(crate) fn is_repetition(append: &Append, stored: &[RecordedEvent]) -> bool {
    append.events.len() == stored.len()
        && append.events.iter().zip(stored).all(|(new, old)| new.event_id == old.event_id)
}

/// The refusal of an append that found its stream at `actual`.
pub(crate) fn wrong_revision(append: &Append, actual: Option<u64>) -> AppendError {
    AppendError::WrongExpectedRevision { stream: append.stream.clone(), expected: append.expected, actual }
}

#[cfg(test)]
mod tests {
    use lease_events::id::{CompanyId, EventId};
    use lease_events::record::{NewEvent, StreamId};

    use super::*;

    fn append(expected: Expected, events: usize) -> Append {
        let event = NewEvent {
            event_id: EventId::derived(&["standing"]),
            event_type: "tested",
            schema_version: 1,
            company_id: CompanyId::derived(&["standing"]),
            data: "{}".into(),
            metadata: "{}".into(),
        };
        Append { stream: StreamId::parse("test-1").unwrap(), expected, events: vec![event; events] }
    }

    #[test]
    fn an_append_is_next_behind_or_apart() {
        for (expected, events, last, standing_expected) in [
            (Expected::NoStream, 2, None, Standing::Next(0)),
            (Expected::NoStream, 1, Some(0), Standing::Behind(0)),
            (Expected::NoStream, 2, Some(0), Standing::Apart),
            (Expected::Exact(0), 1, None, Standing::Apart),
            (Expected::Exact(0), 1, Some(0), Standing::Next(1)),
            (Expected::Exact(0), 2, Some(2), Standing::Behind(1)),
            (Expected::Exact(1), 2, Some(2), Standing::Apart),
            (Expected::Exact(7), 1, Some(2), Standing::Apart),
            (Expected::Exact(u64::MAX), 1, Some(2), Standing::Apart),
        ] {
            assert_eq!(standing(&append(expected, events), last), standing_expected, "{expected:?} at {last:?}");
        }
    }
}
