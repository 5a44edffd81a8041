//! Execute: a command in the workspace of a lease. Answered whole when it ended, or streamed while it runs.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lease_events::id::LeaseId;
use tokio::sync::mpsc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::extract::{Body, PathId};
use super::headers::{Issuer, NDJSON, accepts};
use super::leases::authority;
use super::ndjson::{self, Telling, Told};
use super::openapi::{CommandHeaders, EffectRefusals};
use super::problem::{Answer, Refused};
use super::wire::execute::{ExecuteCommand, ExecutedCommand, ExecutionLine, ExecutionResult};
use crate::commands::error::CommandError;
use crate::commands::execute::{ExecuteAnswer, ExecuteRequest};
use crate::drivers::{OutputChunk, OutputStream};

/// Most bytes of each output in an answer that is not streamed; what comes beyond is left out, and said so.
const CAPTURE_BYTES_MAX: usize = 1024 * 1024;
/// Chunks of output between the command and its reader: beyond it a slow reader slows the command.
const CHUNKS_MAX: usize = 16;

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new().routes(routes!(execute_command))
}

/// Execute a command
///
/// Runs it in the lease's workspace. With `Accept: application/x-ndjson` its output is streamed while it runs, one
/// line a chunk; the last line bears `result` or `problem`. A repetition under the same Idempotency-Key runs nothing:
/// it is told how the command ended, not what it said.
#[utoipa::path(
    post, path = "/v1/leases/{leaseId}/execute", operation_id = "executeCommand", tag = "leases",
    params(("leaseId" = Uuid, Path, description = "The lease."), CommandHeaders),
    request_body = ExecuteCommand,
    responses(
        (status = 200, description = "It ended; how is in the answer.", content(
            (ExecutedCommand = "application/json"),
            (ExecutionLine = "application/x-ndjson"),
        )),
        EffectRefusals,
    )
)]
async fn execute_command(
    State(face): State<Face>,
    PathId(lease_id): PathId<LeaseId>,
    Issuer(caller): Issuer,
    headers: HeaderMap,
    Body(body): Body<ExecuteCommand>,
) -> Answer<Response> {
    let request = ExecuteRequest {
        company_id: body.company_id,
        lease_id,
        authority: authority(body.fencing_token, body.reason)?,
        command: body.command,
        args: body.args,
        cwd: body.cwd,
        env: body.env.into_iter().collect(),
        stdin: body.stdin.map(String::into_bytes),
        timeout_ms: body.timeout_ms,
    };
    let (output, chunks) = mpsc::channel(CHUNKS_MAX);
    let ledger = face.ledger.clone();
    let running = Telling::new(async move { ledger.execute(caller, request, output).await }, chunks);
    if accepts(&headers, NDJSON) { streamed(running).await } else { whole(running).await }
}

type Running = Telling<OutputChunk, Result<ExecuteAnswer, CommandError>>;

/// A command that is refused before it said anything is a problem with its own status.
async fn streamed(mut running: Running) -> Answer<Response> {
    match running.next().await {
        Told::End(Err(error)) => Err(error.into()),
        first => Ok(ndjson::response(running.lines(first, |told| ndjson::line(&line(told))))),
    }
}

fn line(told: Told<OutputChunk, Result<ExecuteAnswer, CommandError>>) -> ExecutionLine {
    match told {
        Told::Item(chunk) => ExecutionLine::Output { stream: chunk.stream, data: STANDARD.encode(chunk.bytes) },
        Told::End(Ok(answer)) => ExecutionLine::Result { result: Box::new(result(answer)) },
        Told::End(Err(error)) => ExecutionLine::Problem { problem: *Refused::from(error).0 },
    }
}

async fn whole(mut running: Running) -> Answer<Response> {
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    let answer = loop {
        match running.next().await {
            Told::Item(chunk) => match chunk.stream {
                OutputStream::Stdout => stdout.add(&chunk.bytes),
                OutputStream::Stderr => stderr.add(&chunk.bytes),
            },
            Told::End(outcome) => break result(outcome?),
        }
    };
    let executed = ExecutedCommand {
        lease: answer.lease,
        exit_code: answer.exit_code,
        signal: answer.signal,
        timed_out: answer.timed_out,
        limit: answer.limit,
        duration_ms: answer.duration_ms,
        stdout_truncated: stdout.truncated,
        stderr_truncated: stderr.truncated,
        stdout: stdout.text(),
        stderr: stderr.text(),
    };
    Ok(Json(executed).into_response())
}

fn result(answer: ExecuteAnswer) -> ExecutionResult {
    ExecutionResult {
        lease: answer.lease.into(),
        exit_code: answer.execution.exit_code,
        signal: answer.execution.signal,
        timed_out: answer.execution.timed_out,
        limit: answer.execution.limit,
        duration_ms: answer.duration_ms,
    }
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Captured {
    fn add(&mut self, bytes: &[u8]) {
        let room = CAPTURE_BYTES_MAX - self.bytes.len();
        self.truncated |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(self) -> String {
        String::from_utf8(self.bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_captured_has_an_end() {
        let mut captured = Captured::default();
        captured.add(&vec![b'a'; CAPTURE_BYTES_MAX - 1]);
        captured.add(b"b");
        assert!(!captured.truncated);
        captured.add(b"c");
        assert!(captured.truncated);
        let text = captured.text();
        assert_eq!((text.len(), text.ends_with('b')), (CAPTURE_BYTES_MAX, true));
    }
}
