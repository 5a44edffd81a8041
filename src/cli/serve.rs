//! `serve`: the HTTP API on loopback, one server a store.

use std::net::SocketAddr;

use clap::Args;
use lease_events::seam::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::discovery::{Announcement, Place};
use super::exit::CliError;
use super::render::{self, line};
use super::settings::Global;
use super::signals::Signals;
use crate::http;
use crate::wiring;

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen, loopback only; port 0 is any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
}

/// Serves until SIGINT or SIGTERM: then finishes what is under way; a second signal ends it at once.
pub async fn serve(args: &ServeArgs, global: &Global) -> Result<(), CliError> {
    http::loopback::check(args.listen).map_err(|error| CliError::Usage(error.to_string()))?;
    let mut signals = Signals::listen()?;
    let settings = global.settings()?;
    let lock = Place::of(&settings)?.lock().await?;
    let ledger = wiring::open(&settings).await.map_err(|error| CliError::Unavailable(error.to_string()))?;
    let (listener, address) = listen(args.listen).await?;
    let announcement = Announcement {
        url: format!("http://{address}"),
        pid: std::process::id(),
        store: lock.store().to_owned(),
        ledger_id: ledger.ledger_id(),
        started_at: SystemClock.now(),
    };
    lock.announce(&announcement)?;

    ledger.start_recovery();
    let stop = CancellationToken::new();
    let mut serving = Box::pin(http::serve(listener, ledger.clone(), stop.clone()));
    if global.json {
        render::json(&announcement)?;
    } else {
        line(&format!("Serving {} at {}", settings.store, announcement.url))?;
    }
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        _ = signals.next() => None,
    };
    if let Some(ended) = ended {
        ledger.stop().await;
        let cause = ended.map_or_else(|error| error.to_string(), |()| "its listener was closed".to_owned());
        return Err(CliError::Other(format!("The server ended by itself ({cause}).")));
    }
    tracing::info!("stopping: what is under way is finished; a second signal stops at once");
    stop.cancel();
    let orderly = async {
        let ended = serving.await;
        ledger.stop().await;
        ended.map_err(|error| CliError::Other(error.to_string()))
    };
    tokio::select! {
        ended = orderly => ended,
        _ = signals.next() => Err(CliError::Other(
            "Stopped at once; what was under way is on record, and is settled by the next start.".to_owned(),
        )),
    }
}

async fn listen(at: SocketAddr) -> Result<(TcpListener, SocketAddr), CliError> {
    let bound = async {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|error| {
        CliError::Unavailable(format!(
            "{at} cannot be listened on ({error}); give --listen 127.0.0.1:0 for any free port."
        ))
    })
}
