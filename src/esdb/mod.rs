//! The `EventStoreDB` face: lease history for every KurrentDB client, over whatever store the ledger runs on.
//!
//! Clients read a lease's stream, `$all` (with filters) and `$ce-lease`, either way, and follow them live. What they may not
//! do is write: commands do that.
//!
//! **Invariants**
//! - Nothing here changes a store; calls that would are answered with access-denied.
//! - A subscription ends with an error, never with OK (`answer`).
//! - Nobody but this machine is answered: there is no access control yet.
//! - What one client holds is bounded: connections, answers, messages that wait, and the page in hand.
//!
//! # Map, in reading order
//! - [`messages`]: the wire. `query`, `filter`: what is asked. `event`: how an event is shown.
//! - `prompt`: why a call takes no 40 ms.
//! - `service`: which method is answered by whom. `reading`, `following`: the answers. `category`: `$ce-lease`.

mod answer;
mod category;
mod event;
mod filter;
mod following;
pub mod messages;
mod prompt;
mod query;
mod reading;
mod refusal;
mod service;

pub use event::MetadataOf;
pub use service::{FaceParts, Member, ReadOnly, STREAMS, Writes};

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::prompt::Prompt;
use self::service::Face;

/// Events taken from the store at a time: with the largest that are allowed, 32 MiB in hand for one client.
const PAGE_EVENTS: usize = 64;
/// Connections at once; more wait to be taken.
const CONNECTIONS_MAX: usize = 128;
/// Calls at once on one connection.
const CALLS_PER_CONNECTION_MAX: u32 = 128;
/// A connection that answers no ping for so long is dead, and its subscriptions with it.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long connections have to end once the face stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Serves clients at a listener until `parts.stop` is cancelled; then ends every subscription, and the connections.
pub async fn serve(listener: TcpListener, mut parts: FaceParts) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    if parts.members.is_empty() {
        parts.members.push(Member { address, is_leader: true, is_alive: true });
    }
    let stop = parts.stop.clone();
    let (face, connections) = (Face::new(parts), TaskTracker::new());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = stop.cancelled() => break,
        };
        match connection {
            Ok((connection, _)) => {
                let (face, stop) = (Arc::clone(&face), stop.clone());
                connections.spawn(async move {
                    converse(connection, face, stop).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a client that left at once: the next one may do better.
            Err(error) => {
                tracing::warn!(%error, "an EventStoreDB client could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN_MAX, connections.wait()).await.is_err() {
        tracing::warn!(left = connections.len(), "EventStoreDB clients were cut off that did not leave in time");
    }
    Ok(())
}

/// One connection, to its end.
async fn converse(connection: TcpStream, face: Arc<Face>, stop: CancellationToken) {
    // Small messages go at once: a client waits for each.
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let service = service_fn(move |request| {
        let face = Arc::clone(&face);
        async move { Ok::<_, Infallible>(face.call(request).await) }
    });
    let conversation = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .serve_connection(TokioIo::new(Prompt(connection)), service);
    tokio::pin!(conversation);
    let ended = tokio::select! {
        ended = conversation.as_mut() => ended,
        () = stop.cancelled() => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an EventStoreDB client left");
    }
}
