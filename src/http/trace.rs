//! One span a request: method, route, status, duration. The route is the pattern, so that no id or query is logged.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

/// Runs the request inside its span; the duration is that of the answer's head, in milliseconds.
pub(super) async fn span(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let span = tracing::info_span!("http", method = %request.method(), route, status = Empty, duration_ms = Empty);
    let began = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.record("status", response.status().as_u16()).record("duration_ms", duration_ms);
    span.in_scope(|| tracing::debug!("answered"));
    response
}
