//! The HTTP face: one file an operation group, and the wire types that are its contract.
//!
//! **Invariants**
//! - Every refusal is a problem (RFC 9457), made in `problem`, the one file that knows statuses.
//! - Nobody but this machine is answered ([`loopback`]): there is no access control yet.
//! - A handler turns a request into a command or question of [`Ledger`], and its answer into a wire type. It decides
//!   nothing, and a client that goes away breaks off no command.
//! - Logs name method, route, status and duration; never a body, a query or a header.

mod environments;
mod events;
mod execute;
mod extract;
mod headers;
mod health;
mod leases;
pub mod loopback;
mod ndjson;
mod openapi;
mod problem;
mod projections;
mod recovery;
mod reusable_leases;
mod runs;
mod secrets;
mod sentence;
mod trace;
pub mod wire;

pub use extract::BODY_BYTES_MAX;
pub use headers::{ACTOR, EVENT_STREAM, IDEMPOTENCY_KEY, LAST_EVENT_ID, NDJSON};
pub use problem::PROBLEM_JSON;

use std::future::IntoFuture;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::ledger::Ledger;
use loopback::NotLoopback;
use problem::{Refused, RequestFault};

/// Rows of a page where the caller does not say.
const PAGE_ROWS: usize = 100;

/// How long a server that stops waits for answers under way. Commands are finished beyond it: the ledger runs them,
/// not their connections.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What handlers share.
#[derive(Clone)]
struct Face {
    ledger: Ledger,
    /// Ends the streams that would never end by themselves.
    stopping: CancellationToken,
    document: Bytes,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listen address can be reached by others.
    #[error(transparent)]
    NotLoopback(#[from] NotLoopback),
    /// The listener failed.
    #[error("The server cannot listen: {0}.")]
    Listen(#[from] std::io::Error),
}

/// The API of a ledger, as a service: for a server, or to be called in process.
pub fn router(ledger: Ledger) -> Router {
    router_until(ledger, CancellationToken::new())
}

/// Serves the API until `shutdown`: then takes no more connections, ends endless streams, and gives answers under
/// way their time. The ledger goes on; stopping it is the caller's next step.
pub async fn serve(listener: TcpListener, ledger: Ledger, shutdown: CancellationToken) -> Result<(), ServeError> {
    loopback::check(listener.local_addr()?)?;
    let router = router_until(ledger, shutdown.clone());
    // An answer is written whole; waiting for more to send with it would only delay it.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        ended = serving.into_future() => Ok(ended?),
        () = drained => {
            tracing::warn!(seconds = DRAIN_MAX.as_secs(), "connections were cut that did not end in time");
            Ok(())
        }
    }
}

/// The API document: OpenAPI 3.1.
#[must_use]
pub fn document() -> OpenApi {
    openapi::with_all_keys_of_answers(operations().into_openapi())
}

fn operations() -> OpenApiRouter<Face> {
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(environments::routes())
        .merge(leases::routes())
        .merge(reusable_leases::routes())
        .merge(runs::routes())
        .merge(secrets::routes())
        .merge(events::routes())
        .merge(projections::routes())
        .merge(recovery::routes())
        .merge(health::routes())
        .merge(openapi::routes())
}

fn router_until(ledger: Ledger, stopping: CancellationToken) -> Router {
    let (router, document) = operations().split_for_parts();
    // A document of maps with string keys can always be written.
    let document = serde_json::to_vec(&openapi::with_all_keys_of_answers(document)).unwrap_or_default();
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(loopback::guard))
        .layer(middleware::from_fn(trace::span))
        .with_state(Face { ledger, stopping, document: document.into() })
}

async fn unknown_route(request: Request) -> Refused {
    RequestFault::UnknownRoute { path: request.uri().path().to_owned() }.into()
}

async fn method_not_allowed(request: Request) -> Refused {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    RequestFault::MethodNotAllowed { method, path }.into()
}
