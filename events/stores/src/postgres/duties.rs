//! Duties shared out among the processes of one database: kinds of background work that one of them does at a time.
//!
//! **Invariants**
//! - A duty has one holder, its row's owner, for as long as that one lives; a dead one's are free at once (see
//!   [`super::owners`]).
//! - Who holds more than its share gives a duty up only while it does no work on it.
//! - What this process takes to be its own is its own in the table: it is taken there first, and given up there last.
//! - A process that could not say for its time to live that it lives begins nothing: another may have its duties.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sqlx::PgConnection;
use tokio::sync::Notify;

/// The row says whether this owner takes duties: whoever only asks a question does not, and lessens nobody's share.
const TAKE_PART: &str = "UPDATE owners SET takes_duties = true WHERE owner = $1 AND NOT takes_duties";
const TAKERS: &str = "SELECT count(*) FROM owners WHERE takes_duties AND fenced_at IS NULL";
const HELD: &str = "SELECT duty FROM duties WHERE owner = $1";
/// Takes up to $3 of the duties that nobody alive holds. Where two try at once, the second finds the first alive.
const TAKE: &str = "INSERT INTO duties (duty, owner) \
                    SELECT asked, $1 FROM unnest($2::text[]) AS asked WHERE NOT EXISTS (\
                        SELECT FROM duties JOIN owners USING (owner) WHERE duty = asked AND fenced_at IS NULL) \
                    ORDER BY asked LIMIT $3 \
                    ON CONFLICT (duty) DO UPDATE SET owner = excluded.owner WHERE NOT EXISTS (\
                        SELECT FROM owners WHERE owners.owner = duties.owner AND fenced_at IS NULL)";
const GIVE_UP: &str = "DELETE FROM duties WHERE owner = $1 AND duty = ANY($2)";

/// Where a duty stands, for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is another's, or nobody's.
    Elsewhere,
    /// It is this process's; whether it works on it.
    Held { working: bool },
    /// It is this process's, which gives it up once it does not work on it.
    Leaving { working: bool },
}

/// The duties that this process takes part in. Cheap to clone.
#[derive(Clone, Default)]
pub struct PostgresDuties {
    book: Arc<Mutex<Book>>,
    joined: Arc<Notify>,
}

#[derive(Default)]
struct Book {
    standings: BTreeMap<&'static str, Standing>,
    /// Until when nobody can have taken this process for dead.
    lives_until: Option<Instant>,
}

impl Book {
    fn lives(&self) -> bool {
        self.lives_until.is_some_and(|until| Instant::now() < until)
    }
}

/// Work on a duty: it is not given up before this is dropped.
pub struct Work {
    duties: PostgresDuties,
    duty: &'static str,
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(Standing::Held { working } | Standing::Leaving { working }) =
            self.duties.book().standings.get_mut(self.duty)
        {
            *working = false;
        }
    }
}

impl PostgresDuties {
    /// Begins work on a duty, where it is this process's and nobody in it works on it. Whoever asks for the first time
    /// takes part from then on; some seconds later the duty is somebody's.
    #[must_use]
    pub fn begin(&self, duty: &'static str) -> Option<Work> {
        let mut book = self.book();
        let lives = book.lives();
        let standing = book.standings.entry(duty).or_insert_with(|| {
            self.joined.notify_one();
            Standing::Elsewhere
        });
        (lives && *standing == Standing::Held { working: false }).then(|| {
            *standing = Standing::Held { working: true };
            Work { duties: self.clone(), duty }
        })
    }

    /// Whether nobody can have taken this process for dead.
    pub(super) fn lives(&self) -> bool {
        self.book().lives()
    }

    /// Wakes when a duty is asked for that was not known.
    pub(super) async fn joined(&self) {
        self.joined.notified().await;
    }

    /// Takes its share, or gives up what is above it.
    pub(super) async fn share(&self, connection: &mut PgConnection, owner: &str) -> Result<(), sqlx::Error> {
        let asked = self.known();
        if asked.is_empty() {
            return Ok(());
        }
        sqlx::query(TAKE_PART).bind(owner).execute(&mut *connection).await?;
        let takers: i64 = sqlx::query_scalar(TAKERS).fetch_one(&mut *connection).await?;
        let share = asked.len().div_ceil(usize::try_from(takers).unwrap_or(1).max(1));
        let held: Vec<String> = sqlx::query_scalar(HELD).bind(owner).fetch_all(&mut *connection).await?;
        if held.len() < share {
            let wanted = i64::try_from(share - held.len()).unwrap_or(i64::MAX);
            sqlx::query(TAKE).bind(owner).bind(&asked).bind(wanted).execute(&mut *connection).await?;
        }
        let left = self.leave(&held, held.len().saturating_sub(share));
        if !left.is_empty() {
            sqlx::query(GIVE_UP).bind(owner).bind(&left).execute(&mut *connection).await?;
        }
        let held: Vec<String> = sqlx::query_scalar(HELD).bind(owner).fetch_all(connection).await?;
        self.learn(&held);
        Ok(())
    }

    /// Nobody takes this process for dead before `until`; `None` where it is fenced.
    pub(super) fn set_lives_until(&self, until: Option<Instant>) {
        self.book().lives_until = until;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Vec<&'static str> {
        self.book().standings.keys().copied().collect()
    }

    /// Chooses `surplus` of the held duties to be left, and answers those that nobody works on: from now on nobody does.
    fn leave(&self, held: &[String], surplus: usize) -> Vec<&'static str> {
        let mut book = self.book();
        let mut idle = Vec::new();
        let mut chosen = 0;
        for (duty, standing) in &mut book.standings {
            let (Standing::Held { working } | Standing::Leaving { working }) = *standing else { continue };
            let leaves = chosen < surplus && held.iter().any(|name| name == duty);
            *standing = if leaves { Standing::Leaving { working } } else { Standing::Held { working } };
            chosen += usize::from(leaves);
            if leaves && !working {
                idle.push(*duty);
            }
        }
        idle
    }

    /// What the table says is this process's.
    fn learn(&self, held: &[String]) {
        for (duty, standing) in &mut self.book().standings {
            let is_held = held.iter().any(|name| name == duty);
            *standing = match *standing {
                _ if !is_held => Standing::Elsewhere,
                Standing::Elsewhere => Standing::Held { working: false },
                standing => standing,
            };
        }
    }
}
