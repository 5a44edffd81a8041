//! `serve`: the HTTP API on loopback, one server a store, and its history for `EventStoreDB` clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lease_events::seam::{Clock, SystemClock, SystemIds};
use lease_stores::kurrentdb::metadata;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::discovery::{Announcement, Place};
use super::duration;
use super::exit::CliError;
use super::render::{self, line};
use super::settings::Global;
use super::signals::Signals;
use crate::esdb;
use crate::http::{self, ServeError};
use crate::ledger::Ledger;
use crate::wiring::{self, Settings};

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where to listen, loopback only; port 0 is any free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420")]
    listen: SocketAddr,
    /// Where KurrentDB clients may read the history, loopback only; port 0 is any free port
    #[arg(long, value_name = "ADDRESS", env = "LEASE_LEDGER_ESDB_LISTEN", hide_env_values = true)]
    esdb_listen: Option<SocketAddr>,
    /// A variable of the server that plugins may be granted; may be repeated
    #[arg(
        long,
        value_name = "NAME",
        env = "LEASE_LEDGER_PLUGIN_VARIABLES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    plugin_variable: Vec<String>,
    /// How long a stop waits for what is under way; the rest is on record, and is settled by the next start
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    stop_within: Duration,
    /// How often the ledger is compared with what its providers list
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    reconcile_every: Duration,
}

/// How long a process for which another has taken over waits for what it has under way, none of which can be stored.
const STEP_DOWN_WITHIN: Duration = Duration::from_secs(2);
/// How long a stop waits for answers to be read by their callers, once everything under way has ended.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Serves until SIGINT or SIGTERM: then takes no more commands, and finishes what is under way within a bound; a second
/// signal ends it at once.
pub async fn serve(args: &ServeArgs, global: &Global) -> Result<(), CliError> {
    for address in std::iter::once(args.listen).chain(args.esdb_listen) {
        http::loopback::check(address).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let mut signals = Signals::listen()?;
    let settings = Settings { plugin_variables: Some(args.plugin_variable.clone()), ..global.settings()? };
    let lock = match Place::of(&settings)? {
        Some(place) => Some(place.lock().await?),
        None => None,
    };
    let ledger = wiring::open(&settings).await?;
    let (listener, address) = listen("--listen", args.listen).await?;
    let stop = CancellationToken::new();
    let history = match args.esdb_listen {
        Some(at) => Some(History::serve(at, &ledger, stop.clone()).await?),
        None => None,
    };
    let announcement = Announcement {
        url: format!("http://{address}"),
        esdb_url: history.as_ref().map(|history| history.url.clone()),
        pid: std::process::id(),
        store: lock.as_ref().map_or_else(|| settings.store.to_string(), |lock| lock.store().to_owned()),
        ledger_id: ledger.ledger_id(),
        started_at: SystemClock.now(),
    };
    if let Some(lock) = &lock {
        lock.announce(&announcement)?;
    }

    ledger.reconcile_every(args.reconcile_every);
    ledger.start_recovery();
    let mut serving = Box::pin(http::serve(listener, ledger.clone(), stop.clone()));
    if global.json {
        render::json(&announcement)?;
    } else {
        line(&format!("Serving {} at {}", settings.store, announcement.url))?;
        if let Some(url) = &announcement.esdb_url {
            line(&format!("EventStoreDB clients read its history at {url}"))?;
        }
    }
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        _ = signals.next() => None,
        () = ledger.overtaken() => return step_down(&ledger).await,
    };
    if let Some(ended) = ended {
        ledger.stop().await;
        let cause = ended.map_or_else(|error| error.to_string(), |()| "its listener was closed".to_owned());
        return Err(CliError::Other(format!("The server ended by itself ({cause}).")));
    }
    tracing::info!("stopping: what is under way is finished; a second signal stops at once");
    let serving = async move {
        let ended = serving.await;
        if let Some(history) = history {
            history.ended().await;
        }
        ended
    };
    let orderly = stop_in_order(&ledger, Box::pin(serving), &stop, args.stop_within);
    tokio::select! {
        ended = orderly => ended,
        _ = signals.next() => Err(CliError::Other(
            "Stopped at once; what was under way is on record, and is settled by the next start.".to_owned(),
        )),
    }
}

/// Ends soon: whatever this process has under way is another's, which has taken over.
async fn step_down(ledger: &Ledger) -> Result<(), CliError> {
    ledger.refuse_commands();
    if tokio::time::timeout(STEP_DOWN_WITHIN, ledger.stop()).await.is_err() {
        tracing::warn!("something is under way still; it is left to the process that has taken over");
    }
    Err(CliError::Unavailable(
        "Another process has taken over for this one, which gave no sign of life for too long; start it again."
            .to_owned(),
    ))
}

/// New commands are refused while those under way are finished, and questions are answered; then connections are closed,
/// workers stopped, and the store flushed.
async fn stop_in_order(
    ledger: &Ledger,
    mut serving: impl Future<Output = Result<(), ServeError>> + Unpin,
    stop: &CancellationToken,
    within: Duration,
) -> Result<(), CliError> {
    ledger.refuse_commands();
    let finished = ledger.finish(within);
    tokio::pin!(finished);
    let (left, ended) = tokio::select! {
        left = &mut finished => (left, None),
        ended = &mut serving => (finished.await, Some(ended)),
    };
    if left > 0 {
        tracing::warn!(left, "commands were left under way; they are on record, and the next start settles them");
    }
    stop.cancel();
    let ended = match ended {
        Some(ended) => ended,
        // Whoever does not read its answer in time can ask again.
        None => tokio::time::timeout(ANSWERED_WITHIN, serving).await.unwrap_or(Ok(())),
    };
    ledger.close().await;
    ended.map_err(|error| CliError::Other(error.to_string()))
}

/// The face for `EventStoreDB` clients, as long as the server runs.
struct History {
    url: String,
    serving: JoinHandle<()>,
}

impl History {
    async fn serve(at: SocketAddr, ledger: &Ledger, stop: CancellationToken) -> Result<Self, CliError> {
        let (listener, address) = listen("--esdb-listen", at).await?;
        let parts = esdb::FaceParts {
            store: Arc::clone(ledger.event_store()),
            metadata: Arc::new(|event| metadata::shown(event).into_bytes().into()),
            writes: Arc::new(esdb::ReadOnly),
            members: Vec::new(),
            ids: Arc::new(SystemIds),
            stop,
        };
        let serving = async move {
            if let Err(error) = esdb::serve(listener, parts).await {
                tracing::error!(%error, "EventStoreDB clients are served no more");
            }
        };
        Ok(Self { url: format!("esdb://{address}?tls=false"), serving: tokio::spawn(serving) })
    }

    /// Waits for the end, which the server's stop brings.
    async fn ended(self) {
        // It ends by itself, within a bound; a panic in it was reported where it happened.
        let _ = self.serving.await;
    }
}

async fn listen(option: &str, at: SocketAddr) -> Result<(TcpListener, SocketAddr), CliError> {
    let bound = async {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    bound.await.map_err(|error| {
        CliError::Unavailable(format!(
            "{at} cannot be listened on ({error}); give {option} 127.0.0.1:0 for any free port."
        ))
    })
}
