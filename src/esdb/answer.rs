//! An answer under way: what a read gives, piece by piece, as fast as its client takes it.
//!
//! **Invariant:** an answer ends with OK only where its read came to its end. A fault, and the end of the ledger, end it
//! with an error: a client that subscribes would take an OK for a reason to go on at once.

use std::future::Future;
use std::pin::Pin;

use futures_core::Stream;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::messages::streams::{Content, ReadResp};
use super::refusal::{Refusal, broken_off, stopping};

/// Messages that wait for a client that is slow to take them: with the largest events that are allowed, 8 MiB.
const WAITING_MAX: usize = 16;

/// The stream of an answer.
pub(super) type Answer = Pin<Box<dyn Stream<Item = Result<ReadResp, Status>> + Send>>;

/// Why a read gives no more.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client went away.
    Left,
    /// It cannot go on.
    Refused(Refusal),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// One piece. The end is one too, so that an answer that breaks off is told from one that is complete.
type Piece = Option<Result<ReadResp, Status>>;

/// Where a read puts its pieces.
pub(super) struct Answers(mpsc::Sender<Piece>);

impl Answers {
    /// Gives one message, as soon as there is room for it.
    pub(super) async fn give(&self, content: Content) -> Result<(), Ended> {
        self.0.send(Some(Ok(content.into()))).await.map_err(|_| Ended::Left)
    }
}

/// The answer that `read` gives, until `stop`. It holds `held` until it is over.
pub(super) fn answer<F, T>(read: impl FnOnce(Answers) -> F + Send + 'static, stop: CancellationToken, held: T) -> Answer
where
    F: Future<Output = Result<(), Ended>> + Send,
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let _held = held;
        let last = sender.clone();
        let ended = tokio::select! {
            ended = read(Answers(sender)) => ended,
            () = last.closed() => Err(Ended::Left),
            () = stop.cancelled() => Err(Ended::Refused(stopping())),
        };
        let piece = match ended {
            Ok(()) => None,
            Err(Ended::Refused(status)) => Some(Err(*status)),
            Err(Ended::Left) => return,
        };
        // Whoever left meanwhile needs no end.
        let _ = last.send(piece).await;
    });
    Box::pin(stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(Ok(message))) => Some((Ok(message), Some(receiver))),
            Some(Some(Err(status))) => Some((Err(status), None)),
            Some(None) => None,
            None => Some((Err(broken_off()), None)),
        }
    }))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::super::messages::Empty;
    use super::*;

    async fn codes(answer: Answer) -> Vec<Result<(), tonic::Code>> {
        answer.map(|piece| piece.map(|_| ()).map_err(|status| status.code())).collect().await
    }

    #[tokio::test]
    async fn an_answer_ends_with_ok_only_where_it_is_complete() {
        let stop = CancellationToken::new();
        let complete = |answers: Answers| async move { answers.give(Content::CaughtUp(Empty {})).await };
        assert_eq!(codes(answer(complete, stop.clone(), ())).await, [Ok(())]);
        let refused = |_| async { Err(Ended::Refused(Box::new(Status::not_found("gone")))) };
        assert_eq!(codes(answer(refused, stop.clone(), ())).await, [Err(tonic::Code::NotFound)]);
        let broken = |_| async { panic!("a fault of a test") };
        assert_eq!(codes(answer(broken, stop.clone(), ())).await, [Err(tonic::Code::Internal)]);
        let endless = answer(|_| std::future::pending(), stop.clone(), ());
        stop.cancel();
        assert_eq!(codes(endless).await, [Err(tonic::Code::Unavailable)]);
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_its_read() {
        let (held, mut over) = mpsc::channel::<()>(1);
        drop(answer(|_| std::future::pending(), CancellationToken::new(), held));
        assert_eq!(over.recv().await, None);
    }
}
