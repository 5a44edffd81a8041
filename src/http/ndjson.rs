//! Answers of one JSON text a line, and work that tells how it goes while it goes.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::headers::NDJSON;

/// One line: JSON text, which never holds a raw line break, and a line break.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    // Only a map with keys that are no strings cannot be written, and no wire type holds one.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// A streamed answer of such lines.
pub(super) fn response(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, NDJSON), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Work that hands out items while it runs, and ends in an outcome.
pub(super) struct Telling<T, O> {
    items: Option<mpsc::Receiver<T>>,
    work: BoxFuture<'static, O>,
    outcome: Option<O>,
}

/// What a [`Telling`] tells.
pub(super) enum Told<T, O> {
    /// An item.
    Item(T),
    /// The outcome, last.
    End(O),
}

impl<T: Send + 'static, O: Send + 'static> Telling<T, O> {
    /// Work whose items come through `items` until it drops their sender.
    pub(super) fn new(work: impl Future<Output = O> + Send + 'static, items: mpsc::Receiver<T>) -> Self {
        Self { items: Some(items), work: work.boxed(), outcome: None }
    }

    /// The next that is told; every item comes before the end.
    pub(super) async fn next(&mut self) -> Told<T, O> {
        while let Some(items) = &mut self.items {
            tokio::select! {
                biased;
                item = items.recv() => match item {
                    Some(item) => return Told::Item(item),
                    None => self.items = None,
                },
                outcome = &mut self.work, if self.outcome.is_none() => self.outcome = Some(outcome),
            }
        }
        match self.outcome.take() {
            Some(outcome) => Told::End(outcome),
            None => Told::End((&mut self.work).await),
        }
    }

    /// What is told from here on, `first` before it.
    pub(super) fn lines(
        self,
        first: Told<T, O>,
        write: impl Fn(Told<T, O>) -> Bytes + Send + 'static,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold((Some(self), Some(first), write), |(telling, first, write)| async move {
            let mut telling = telling?;
            let told = match first {
                Some(first) => first,
                None => telling.next().await,
            };
            let goes_on = matches!(told, Told::Item(_));
            let line = write(told);
            Some((line, (goes_on.then_some(telling), None, write)))
        })
    }
}
