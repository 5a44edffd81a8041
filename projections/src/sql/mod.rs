//! The SQL side: projections as tables in the store's own database, SQLite or PostgreSQL.
//!
//! # Map, in reading order
//! - `dialect`: where the two databases differ in words. `access`: where they differ in calls.
//! - `statements`: SQL text from a table's declaration.
//! - `fault`: whose fault an error is.
//! - `marks`: how far each table has come.
//! - `hot`, `batch`, `joint`, `apply`: a batch of events through the folds.
//! - `hook`: the append hook.
//! - `tables`, `follow`: creating tables and catching up.
//! - `scratch`, `rebuild`, `verify`: a fresh fold beside the live tables.
//! - `queries`, `lists`, `decode`: the read side.

mod dialect;

mod statements;

mod access;

mod fault;

mod marks;

mod hot;

mod joint;

mod batch;

mod apply;

mod hook;

mod tables;

mod follow;

mod scratch;

mod rebuild;

mod verify;

mod decode;

mod lists;

mod queries;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use lease_stores::append_hook::WriterJob;
use lease_stores::sql::{SqlConnection, SqlReader, SqlStore};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

pub use self::dialect::Database;
pub use self::hook::SqlProjections;
use self::marks::Marks;
use crate::projection::QueryError;

/// How long another process's rebuild of an outdated table may make no progress before this one takes over: a page of it
/// takes some 20 ms.
const REBUILD_PATIENCE: Duration = Duration::from_secs(5);
/// How often its progress is looked at.
const REBUILD_POLL: Duration = Duration::from_millis(200);

/// The projections of an open SQL store: the reading port, and catch-up.
pub struct SqlReadModel {
    projections: Arc<SqlProjections>,
    store: Arc<dyn SqlStore>,
    reader: SqlReader,
    /// Held by a rebuild or verification: they take turns, since each is a second fold of the whole log.
    scratch: Mutex<()>,
}

impl SqlReadModel {
    /// Attaches `projections` to the store that was opened with them as its hook: creates the tables that are not
    /// there, makes those of an older version anew, and catches up what is behind. A projection that cannot be
    /// caught up does not stop the others, nor this: it stands still, visibly, and [`Self::follow`] goes on trying.
    ///
    /// # Errors
    /// The database cannot be written, is not the one that the projections were made for, or a newer program has
    /// written one of the tables.
    pub async fn attach(projections: Arc<SqlProjections>, store: Arc<dyn SqlStore>) -> Result<Arc<Self>, QueryError> {
        let reader = store.reader();
        let (wanted, found) = (projections.database, Database::of(&reader));
        if wanted != found {
            return Err(unavailable(&format_args!("they were made for {wanted:?}, and the store is {found:?}")));
        }
        let ensured = on_writer(&store, Ensure { projections: projections.clone(), marks: Marks::new() }).await?;
        let mut outdated = tables::outdated(&projections.folds, &ensured.marks)?;
        projections.set_attached();
        let model = Arc::new(Self { projections, store, reader, scratch: Mutex::new(()) });
        while let Some(name) = outdated.first().copied() {
            tracing::info!(projection = name, "the table is of an older version and is made anew");
            let (unheard, _) = mpsc::channel(1);
            match rebuild::rebuild(&model, name, &unheard).await {
                Ok(_) => {}
                Err(QueryError::Overtaken { .. }) => model.wait_for_rebuild(name).await?,
                Err(error) => return Err(error),
            }
            outdated = tables::outdated(&model.projections.folds, &model.marks().await?)?;
        }
        match model.catch_up().await {
            Err(QueryError::Stalled { .. }) => model.projections.behind.notify_one(),
            other => other?,
        }
        Ok(model)
    }

    /// Waits until another process has made the table `name` anew, or has ceased to.
    async fn wait_for_rebuild(&self, name: &str) -> Result<(), QueryError> {
        let copy = format!("{name}{}", rebuild::SUFFIX);
        let (mut seen, mut since) = (None, Instant::now());
        while since.elapsed() < REBUILD_PATIENCE {
            let Some(position) = self.marks().await?.get(&copy).map(|mark| mark.position) else { break };
            if seen != Some(position) {
                (seen, since) = (Some(position), Instant::now());
            }
            tokio::time::sleep(REBUILD_POLL).await;
        }
        Ok(())
    }

    async fn marks(&self) -> Result<Marks, QueryError> {
        marks::committed(&self.reader).await.map_err(|error| unavailable(&error))
    }

    /// The fold and the view of the table `name`.
    fn find(&self, name: &str) -> Result<(usize, usize), QueryError> {
        let views = |fold: usize| (0..self.projections.folds[fold].views.len()).map(move |view| (fold, view));
        (0..self.projections.folds.len())
            .flat_map(views)
            .find(|(fold, view)| self.projections.folds[*fold].views[*view].table.name == name)
            .ok_or_else(|| QueryError::UnknownProjection {
                name: name.to_owned(),
                known: self.projections.tables().map(|table| table.name).collect::<Vec<_>>().join(", "),
            })
    }
}

/// Creates what is not there, and reads the marks.
struct Ensure {
    projections: Arc<SqlProjections>,
    marks: Marks,
}

#[async_trait::async_trait]
impl WriterJob for Ensure {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        self.projections.forget();
        self.marks = tables::ensure(connection, &self.projections.folds).await?;
        Ok(())
    }

    fn is_repeatable(&self) -> bool {
        true
    }
}

/// Runs a job between two appends.
async fn on_writer<J: WriterJob + 'static>(store: &Arc<dyn SqlStore>, job: J) -> Result<J, QueryError> {
    store.run_on_writer(job).await.map_err(|error| unavailable(&error))
}

fn unavailable(error: &dyn Display) -> QueryError {
    QueryError::Unavailable { cause: error.to_string() }
}
