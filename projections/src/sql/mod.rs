//! The SQL side: projections as tables in the store's own database.
//!
//! # Map, in reading order
//! - `statements`: SQL text from a table's declaration.
//! - `marks`: how far each table has come.
//! - `hot`, `batch`, `apply`: a batch of events through the folds.
//! - `sqlite`: the append hook.
//! - `tables`, `follow`: creating tables and catching up.
//! - `scratch`, `rebuild`, `verify`: a fresh fold beside the live tables.
//! - `queries`, `decode`: the read side.

mod statements;

mod marks;

mod hot;

mod batch;

mod apply;

mod sqlite;

mod tables;

mod follow;

mod scratch;

mod rebuild;

mod verify;

mod decode;

mod queries;

use std::fmt::Display;
use std::sync::Arc;

use lease_stores::append_hook::WriterJob;
use lease_stores::sql::SqlConnection;
use lease_stores::sqlite::SqliteStore;
use tokio::sync::{Mutex, mpsc};

use self::marks::Marks;
pub use self::sqlite::SqliteProjections;
use crate::projection::QueryError;

/// The projections of an open SQLite store: the reading port, and catch-up.
pub struct SqliteReadModel {
    projections: Arc<SqliteProjections>,
    store: Arc<SqliteStore>,
    /// Held by a rebuild or verification: they take turns, since each is a second fold of the whole log.
    scratch: Mutex<()>,
}

impl SqliteReadModel {
    /// Attaches `projections` to the store that was opened with them as its hook: creates the tables that are not
    /// there, makes those of an older version anew, and catches up what is behind. A projection that cannot be
    /// caught up does not stop the others, nor this: it stands still, visibly, and [`Self::follow`] goes on trying.
    ///
    /// # Errors
    /// The database cannot be written, or a newer program has written one of the tables.
    pub async fn attach(projections: Arc<SqliteProjections>, store: Arc<SqliteStore>) -> Result<Arc<Self>, QueryError> {
        let ensured = on_writer(&store, Ensure { projections: projections.clone(), marks: Marks::new() }).await?;
        let mut outdated = tables::outdated(&projections.folds, &ensured.marks)?;
        projections.set_attached();
        let model = Arc::new(Self { projections, store, scratch: Mutex::new(()) });
        while let Some(name) = outdated.first().copied() {
            tracing::info!(projection = name, "the table is of an older version and is made anew");
            let (unheard, _) = mpsc::channel(1);
            let report = rebuild::rebuild(&model, name, &unheard).await?;
            outdated.retain(|name| !report.tables.iter().any(|done| done == name));
        }
        match model.catch_up().await {
            Err(QueryError::Stalled { .. }) => model.projections.behind.notify_one(),
            other => other?,
        }
        Ok(model)
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
    projections: Arc<SqliteProjections>,
    marks: Marks,
}

#[async_trait::async_trait]
impl WriterJob for Ensure {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        self.projections.forget();
        self.marks = tables::ensure(connection, &self.projections.folds).await?;
        Ok(())
    }
}

/// Runs a job between two appends.
async fn on_writer<J: WriterJob + 'static>(store: &SqliteStore, job: J) -> Result<J, QueryError> {
    store.run_on_writer(job).await.map_err(|error| unavailable(&error))
}

fn unavailable(error: &dyn Display) -> QueryError {
    QueryError::Unavailable { cause: error.to_string() }
}
