//! Appends: sent until they are answered, then read back.
//!
//! **Invariant:** an append is never sent without the revision that it expects, and always with the same event ids. The server
//! then knows it again however late it comes, so sending it twice writes it once.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use eventstore::{AppendToStreamOptions, ExpectedRevision};
use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Append, AppendError, Appended, Direction, Expected};
use uuid::Uuid;

use super::event::to_server;
use super::reader::Reader;
use super::supervisor::append_error;
use crate::standing::{is_repetition, wrong_revision};

/// Appends, as the call of this id at this time, and reads back what is there then.
pub(super) async fn append(
    reader: &Reader,
    append: &Append,
    append_id: Uuid,
    at: DateTime<Utc>,
) -> Result<Appended, AppendError> {
    send(reader, append, append_id, at).await?;
    read_back(reader, append, append_id).await
}

/// Appends, and answers the server's position of it.
pub(super) async fn send(
    reader: &Reader,
    append: &Append,
    append_id: Uuid,
    at: DateTime<Utc>,
) -> Result<Position, AppendError> {
    let expected = match append.expected {
        Expected::NoStream => ExpectedRevision::NoStream,
        Expected::Exact(revision) if i64::try_from(revision).is_err() => {
            return Err(refuse_beyond(reader, append).await);
        }
        Expected::Exact(revision) => ExpectedRevision::Exact(revision),
    };
    let options = AppendToStreamOptions::default().expected_revision(expected);
    let events: Arc<[_]> = append.events.iter().map(|event| to_server(event, append_id, at)).collect();
    let sent = reader.supervisor.run(|client| {
        let (events, options) = (events.to_vec(), options.clone());
        async move { Ok(client.append_to_stream(append.stream.as_str(), &options, events).await?) }
    });
    let sent = sent.await.map_err(|trouble| append_error(trouble, |actual| wrong_revision(append, actual)))?;
    Ok(Position(sent.position.commit))
}

/// The events as they are stored, and whether it was this call that wrote them: the server does not say.
async fn read_back(reader: &Reader, append: &Append, append_id: Uuid) -> Result<Appended, AppendError> {
    let (first, count) = (append.expected.first_revision(), append.events.len());
    let read = reader.stream(&append.stream, first, Direction::Forwards, count).await;
    let unknown = |cause: String| AppendError::OutcomeUnknown { cause };
    let read = read.map_err(|trouble| unknown(format!("it was stored, but cannot be read back: {trouble:?}")))?;
    let (events, writers): (Vec<RecordedEvent>, Vec<Option<Uuid>>) = read.into_iter().unzip();
    if !is_repetition(append, &events) {
        return Err(unknown("the server took it, but other events are in its place".to_owned()));
    }
    Ok(Appended { events, repeated: writers.iter().any(|writer| *writer != Some(append_id)) })
}

/// No stream is as long as that.
async fn refuse_beyond(reader: &Reader, append: &Append) -> AppendError {
    match reader.stream(&append.stream, u64::MAX, Direction::Backwards, 1).await {
        Ok(last) => wrong_revision(append, last.first().map(|(event, _)| event.stream_revision)),
        Err(trouble) => append_error(trouble, |actual| wrong_revision(append, actual)),
    }
}
