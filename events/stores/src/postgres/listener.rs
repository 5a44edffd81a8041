//! Wakes whoever waits for appends of other processes. A wake-up that is missed costs a poll's time, and nothing else.

use std::time::Duration;

use lease_events::record::Position;
use sqlx::postgres::PgListener;
use tokio::sync::watch;

use super::session::Sessions;

/// The pause after a connection that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens on `channel` for as long as the task is let live.
pub(super) async fn listen(sessions: Sessions, channel: String, published: watch::Sender<Position>) {
    loop {
        if let Err(error) = hear(&sessions, &channel, &published).await {
            tracing::debug!(%error, "the connection that listens was lost; it is made again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear(sessions: &Sessions, channel: &str, published: &watch::Sender<Position>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&sessions.listener()).await?;
    listener.listen(channel).await?;
    loop {
        let heard = listener.recv().await?;
        if let Ok(position) = heard.payload().parse() {
            publish(published, Position(position));
        }
    }
}

/// Tells of a position that is committed; one that is older than what is known wakes nobody.
pub(super) fn publish(published: &watch::Sender<Position>, position: Position) {
    published.send_if_modified(|known| {
        let newer = position > *known;
        *known = position.max(*known);
        newer
    });
}
