//! A store with its projections, and ways to look behind the ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use chrono::{DateTime, Duration, Utc};
use lease_events::record::RecordedEvent;
use lease_events::seam::{Clock, SystemIds};
use lease_projections::projection::{Column, ColumnKind, Fold, Projection, Row, STATE_COLUMN, Table, Value, View};
use lease_projections::sql::{SqliteProjections, SqliteReadModel};
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions as _, Row as _, SqliteConnection, ValueRef as _};
use tempfile::TempDir;

/// A clock that moves on by a second a reading.
#[derive(Default)]
pub(crate) struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> DateTime<Utc> {
        super::history::noon() + Duration::seconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A SQLite store in a folder of its own.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) model: Arc<SqliteReadModel>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(lease_projections::standard()).await
    }

    pub(crate) async fn with(projections: Vec<Arc<dyn Projection>>) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let (store, model) = open(&folder.path().join("ledger.db"), projections).await;
        Self { folder, store, model }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    /// A connection that may do what the ledger never would.
    pub(crate) async fn vandal(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path()).connect().await.expect("the file is there")
    }

    /// Every row of a table, by key, as the memory executor would have it.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Row> {
        let sql = AssertSqlSafe(format!("SELECT * FROM {table} ORDER BY 1"));
        let rows = sqlx::query(sql).fetch_all(self.store.reader()).await.expect("the table is there");
        rows.iter().map(row).collect()
    }

    pub(crate) async fn stalled(&self, table: &str) -> Option<String> {
        use lease_projections::read_model::ReadModel as _;
        let statuses = self.model.statuses().await.expect("the marks can be read");
        statuses.into_iter().find(|status| status.name == table).expect("it is known").stalled
    }

    pub(crate) async fn positions(&self) -> Vec<u64> {
        use lease_projections::read_model::ReadModel as _;
        let statuses = self.model.statuses().await.expect("the marks can be read");
        statuses.iter().map(|status| status.position).collect()
    }
}

/// Opens a store with its projections, as a process does.
pub(crate) async fn open(
    path: &Path,
    projections: Vec<Arc<dyn Projection>>,
) -> (Arc<SqliteStore>, Arc<SqliteReadModel>) {
    let projections = SqliteProjections::new(projections);
    let options = SqliteOptions {
        path: path.to_owned(),
        clock: Arc::new(Ticks::default()),
        ids: Arc::new(SystemIds),
        hook: Some(projections.clone()),
    };
    let store = SqliteStore::open(options).await.expect("the folder is there");
    let model = SqliteReadModel::attach(projections, store.clone()).await.expect("the file is ours");
    (store, model)
}

fn row(row: &SqliteRow) -> Row {
    let value = |at: usize| {
        let raw = row.try_get_raw(at).expect("it is one of the columns");
        if raw.is_null() {
            Value::Null
        } else if let Ok(number) = row.try_get::<i64, _>(at) {
            Value::Integer(number)
        } else {
            Value::from(row.try_get::<&str, _>(at).expect("tables hold whole numbers and text"))
        }
    };
    row.columns().iter().map(|column| value(column.ordinal())).collect()
}

/// A fold that counts the events of each company, until it is broken: what somebody's own projection looks like.
pub(crate) struct Counting {
    pub(crate) broken: Arc<AtomicBool>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Count {
    company: String,
    events: u64,
}

const COUNTS: Table = Table {
    name: "counts",
    version: 1,
    about: "Events by company.",
    columns: &[
        Column::new("company_id", ColumnKind::Text, "The tenant.").fixed(),
        Column::new("events", ColumnKind::Integer, "How many."),
        Column::new(STATE_COLUMN, ColumnKind::Json, "Internal."),
    ],
    stored_by: None,
    indexes: &[],
};

impl Fold for Counting {
    type State = Count;

    fn views(&self) -> &'static [View<Count>] {
        &[View {
            table: &COUNTS,
            row: |count| Some(vec![Value::from(count.company.as_str()), Value::from(count.events), Value::json(count)]),
        }]
    }

    fn key(&self, event: &RecordedEvent) -> Option<String> {
        Some(event.company_id.to_string())
    }

    fn begins(&self, _: &RecordedEvent) -> bool {
        false
    }

    fn step(&self, state: Option<Count>, event: &RecordedEvent) -> Result<Option<Count>, String> {
        if self.broken.load(Ordering::SeqCst) {
            return Err("it is broken on purpose".to_owned());
        }
        let events = state.map_or(0, |count| count.events);
        Ok(Some(Count { company: event.company_id.to_string(), events: events + 1 }))
    }
}
