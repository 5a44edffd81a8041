//! A wire between store and server that can be cut at the moment that matters: before the server gets a COMMIT, or before
//! the store hears of it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What happens to the next COMMIT of any connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server does not get it, and both ends lose the connection.
    Before,
    /// The server gets it and answers, and the store loses the connection without the answer.
    After,
    /// The store stops, as a paused process does: nothing more reaches the server, which keeps the connection.
    Pause,
}

/// The wire.
pub(crate) struct Proxy {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
    done: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// To the server at the address in `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let server = address(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(None));
        let done = Arc::new(Notify::new());
        let (asked, told) = (Arc::clone(&cut), Arc::clone(&done));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(forward(client, server, Arc::clone(&asked), Arc::clone(&told)));
            }
        });
        Self { port, cut, done, accepting }
    }

    /// The address of the database at `url`, through this wire.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replace(address(url), &format!("127.0.0.1:{}", self.port))
    }

    /// Cuts at the next COMMIT.
    pub(crate) fn cut(&self, cut: Cut) {
        *self.cut.lock().unwrap() = Some(cut);
    }

    /// Ready once the cut is done.
    pub(crate) async fn done(&self) {
        self.done.notified().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Host and port.
fn address(url: &str) -> &str {
    let behind_login = url.split_once('@').expect("a test's URL has a login").1;
    behind_login.split('/').next().unwrap()
}

async fn forward(mut client: TcpStream, mut server: TcpStream, cut: Arc<Mutex<Option<Cut>>>, done: Arc<Notify>) {
    let (mut sent, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut sent) => {
                let Ok(length @ 1..) = read else { return };
                let is_commit = sent[..length].windows(7).any(|window| window == b"COMMIT\0");
                let asked = if is_commit { cut.lock().unwrap().take() } else { None };
                if asked.is_some() {
                    done.notify_one();
                }
                match asked {
                    Some(Cut::Before) => return,
                    Some(Cut::Pause) => return std::future::pending().await,
                    Some(Cut::After) => {
                        server.write_all(&sent[..length]).await.unwrap();
                        let _answer = server.read(&mut answered).await;
                        return;
                    }
                    None => if server.write_all(&sent[..length]).await.is_err() { return },
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() { return }
            }
        }
    }
}
