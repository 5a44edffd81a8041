//! Commands in a workspace: `lease exec`, and the part of `run` that is the same.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use lease_events::id::LeaseId;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{AuthorityArgs, Named};
use crate::cli::App;
use crate::cli::client::Call;
use crate::cli::duration::parse;
use crate::cli::exit::{CliError, of_command};
use crate::http::NDJSON;
use crate::http::wire::execute::{ExecuteCommand, ExecutionLine, ExecutionResult, OutputStream};

/// Longest standard input that is passed on, in bytes: it travels in one request, and is held in memory.
pub const STDIN_BYTES_MAX: usize = 1 << 20;

/// `lease exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    authority: AuthorityArgs,
    #[command(flatten)]
    command: CommandArgs,
}

/// A command, and how it is run.
#[derive(Debug, Args)]
pub struct CommandArgs {
    /// Longest time that it may run, such as 30s; the environment's limit where absent
    #[arg(long, value_name = "DURATION", value_parser = parse)]
    timeout: Option<Duration>,
    /// A variable of its environment; it gets these, and nothing of this shell's
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Where it starts; the workspace where absent
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Give it no input. Else standard input is read to its end before anything starts and passed on, where it is no
    /// terminal: UTF-8, at most 1 MiB
    #[arg(long)]
    no_stdin: bool,
    /// The command and its arguments, behind --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        // The text may be a secret without its name: it is not repeated.
        _ => Err("a variable is KEY=VALUE, such as LANG=C".to_owned()),
    }
}

impl CommandArgs {
    /// The request, but for the lease and the right to it. Reads standard input, to its end.
    pub async fn request(self) -> Result<ExecuteCommand, CliError> {
        let stdin = if self.no_stdin { None } else { read_stdin().await? };
        let mut words = self.command.into_iter();
        let timeout_ms = self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        Ok(ExecuteCommand {
            company_id: None,
            fencing_token: None,
            reason: None,
            command: words.next().unwrap_or_default(),
            args: words.collect(),
            cwd: self.cwd,
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            stdin,
            timeout_ms,
        })
    }
}

pub(super) async fn exec(app: &App, args: ExecArgs) -> Result<u8, CliError> {
    let mut request = args.command.request().await?;
    request.fencing_token = args.authority.token;
    request.reason = args.authority.reason;
    let ended = execute(app, args.named.id, request).await?;
    Ok(code(&ended))
}

/// The exit code that stands for how a command ended.
#[must_use]
pub fn code(ended: &ExecutionResult) -> u8 {
    of_command(ended.exit_code, ended.signal.as_deref(), ended.timed_out)
}

/// Runs a command in the workspace of a lease. Its output goes to this program's while it runs; with `--json` the
/// API's lines do.
pub async fn execute(app: &App, lease: LeaseId, mut request: ExecuteCommand) -> Result<ExecutionResult, CliError> {
    request.company_id = Some(app.company);
    let call = Call::post(format!("/v1/leases/{lease}/execute"), &request);
    let mut lines = call.header("accept", Some(NDJSON)).stream(&app.transport).await?;
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    while let Some(line) = lines.next().await? {
        if app.json {
            pass_on(&mut stdout, format!("{line}\n").as_bytes()).await?;
        }
        match serde_json::from_str(&line).map_err(|error| CliError::unreadable("the command", error))? {
            ExecutionLine::Output { .. } if app.json => {}
            ExecutionLine::Output { stream, data } => {
                let bytes = BASE64_STANDARD.decode(data).map_err(|error| CliError::unreadable("the command", error))?;
                match stream {
                    OutputStream::Stdout => pass_on(&mut stdout, &bytes).await?,
                    OutputStream::Stderr => pass_on(&mut stderr, &bytes).await?,
                }
            }
            ExecutionLine::Result { result } => {
                if let (Some(limit), false) = (&result.limit, app.json) {
                    eprintln!("lease-ledger: the command was ended at its {limit} limit.");
                }
                return Ok(*result);
            }
            ExecutionLine::Problem { problem } => return Err(CliError::Problem(Box::new(problem))),
        }
    }
    Err(CliError::unreadable("the command", "it ended without a result"))
}

async fn pass_on(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), CliError> {
    let passed = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    passed.await.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::Other(format!("The command's output cannot be written ({error}).")),
    })
}

/// Standard input, where it is no terminal.
async fn read_stdin() -> Result<Option<String>, CliError> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let reading = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        // One more than is allowed tells too much from just enough.
        std::io::stdin().lock().take(STDIN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let unreadable =
        |cause: String| CliError::Usage(format!("Standard input cannot be read ({cause}); give --no-stdin."));
    let bytes = match reading.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(unreadable(error.to_string())),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if bytes.len() > STDIN_BYTES_MAX {
        return Err(CliError::Usage(format!(
            "Standard input is longer than {STDIN_BYTES_MAX} bytes; put it into a file of the workspace, or give --no-stdin."
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(CliError::Usage("Standard input is not UTF-8; encode it, or give --no-stdin.".to_owned())),
    }
}
