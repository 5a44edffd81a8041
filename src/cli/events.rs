//! `events`: the whole log, one JSON object a line.

use clap::Args;
use serde::Deserialize;

use super::App;
use super::client::{Call, Lines};
use super::exit::{CliError, Exit};
use super::render::line;
use super::signals::Signals;
use crate::http::NDJSON;
use crate::http::wire::event::EventsQuery;
use crate::http::wire::problem::Problem;

/// Most events that are asked for at once.
const PAGE_EVENTS: usize = 1_000;

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only events behind this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Go on with the events to come, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

/// The last line of a stream that broke.
#[derive(Deserialize)]
struct Broken {
    problem: Problem,
}

/// Prints the events as they are recorded.
pub async fn events(app: &App, args: &EventsArgs) -> Result<u8, CliError> {
    if args.follow {
        let mut signals = Signals::listen()?;
        let query = EventsQuery { after: Some(args.after), limit: None, follow: Some(true) };
        let mut lines = ask(app, &query).await?;
        return tokio::select! {
            end = print(&mut lines) => end.map(|_| Exit::Ok as u8),
            _ = signals.next() => Ok(Exit::Ok as u8),
        };
    }
    let mut after = args.after;
    loop {
        let query = EventsQuery { after: Some(after), limit: Some(PAGE_EVENTS), follow: None };
        let printed = print(&mut ask(app, &query).await?).await?;
        after += printed;
        if printed == 0 {
            return Ok(Exit::Ok as u8);
        }
    }
}

async fn ask<'a>(app: &'a App, query: &EventsQuery) -> Result<Lines<'a>, CliError> {
    Call::get("/v1/events").query(query).header("accept", Some(NDJSON)).stream(&app.transport).await
}

/// Prints until the end; answers how many there were. Positions have no gaps, so that is how far it has come.
async fn print(lines: &mut Lines<'_>) -> Result<u64, CliError> {
    let mut printed = 0;
    while let Some(text) = lines.next().await? {
        // A stream that breaks says so in its last line; an event begins with its id.
        if text.starts_with("{\"problem\"") {
            let broken: Broken = serde_json::from_str(&text).map_err(|error| CliError::unreadable("events", error))?;
            return Err(CliError::Problem(Box::new(broken.problem)));
        }
        line(&text)?;
        printed += 1;
    }
    Ok(printed)
}
