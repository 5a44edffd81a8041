//! How a request of the command line reaches the HTTP API: over loopback TCP where a server lives on the store, else
//! through the same router inside this process. The commands above know no difference.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::ServiceExt;

use super::discovery::{Announcement, Place};
use super::exit::CliError;
use crate::ledger::Ledger;
use crate::wiring::{self, Settings};

/// A way to the HTTP API of one ledger.
pub enum Transport {
    /// To a running server.
    Server {
        /// What it says of itself.
        announcement: Announcement,
        /// The client, with its connections.
        client: Client<HttpConnector, Body>,
    },
    /// Inside this process, which has opened the ledger itself.
    InProcess {
        /// The API.
        router: Router,
        /// The ledger behind it.
        ledger: Ledger,
    },
}

impl Transport {
    /// The way to the ledger of these settings: its server, where one lives, else the ledger itself.
    pub async fn open(settings: &Settings) -> Result<Self, CliError> {
        let server = Place::of(settings)?.map_or(Ok(None), |place| place.server())?;
        if let Some(announcement) = server {
            tracing::debug!(url = announcement.url, pid = announcement.pid, "a server lives on this store");
            let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
            return Ok(Self::Server { announcement, client });
        }
        tracing::debug!(store = %settings.store, "no server lives on this store; it is opened here");
        let ledger = wiring::open(settings).await?;
        Ok(Self::InProcess { router: crate::http::router(ledger.clone()), ledger })
    }

    /// Sends a request whose URI is a path; the body of the answer streams.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, CliError> {
        match self {
            Self::InProcess { router, .. } => match router.clone().oneshot(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            Self::Server { announcement, client } => {
                let uri = format!("{}{}", announcement.url, request.uri());
                *request.uri_mut() = uri.parse::<Uri>().map_err(|error| {
                    CliError::Other(format!("The server's address {} is not valid ({error}).", announcement.url))
                })?;
                let response = client.request(request).await.map_err(|error| self.lost(&error))?;
                Ok(response.map(Body::new))
            }
        }
    }

    /// The sentence for an answer that did not come, or broke off.
    pub fn lost(&self, cause: &dyn std::error::Error) -> CliError {
        let mut innermost = cause;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        match self {
            Self::Server { announcement, .. } => CliError::Unavailable(format!(
                "The server at {} (process {}) does not answer any more ({innermost}); whether it took the command is \
                 not known, so look before you try again.",
                announcement.url, announcement.pid
            )),
            Self::InProcess { .. } => CliError::Other(format!("The answer broke off ({innermost}).")),
        }
    }

    /// Finishes what is under way. What was begun in this process is not left half done.
    pub async fn close(self) {
        if let Self::InProcess { ledger, .. } = self {
            ledger.stop().await;
        }
    }
}
