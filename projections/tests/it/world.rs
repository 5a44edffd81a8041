//! A store with its projections, on either database, and ways to look behind the ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use chrono::{DateTime, Duration, Utc};
use lease_events::record::RecordedEvent;
use lease_events::seam::{Clock, SystemIds};
use lease_projections::projection::{Column, ColumnKind, Fold, Projection, Row, STATE_COLUMN, Table, Value, View};
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::append_hook::AppendHook;
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::postgres::{PostgresOptions, PostgresStore};
use lease_stores::sql::SqlStore;
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, Column as _, ColumnIndex, ConnectOptions as _, Decode, PgConnection, Row as SqlRow,
    SqliteConnection, Type,
};
use tempfile::TempDir;

/// Makes a test on each database of each of these.
macro_rules! both {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(lease_projections::sql::Database::Sqlite).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(lease_projections::sql::Database::Postgres).await;
            })+
        }
    };
}
pub(crate) use both;

/// A clock that moves on by a second a reading.
#[derive(Default)]
pub(crate) struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now(&self) -> DateTime<Utc> {
        super::history::noon() + Duration::seconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Where a store is.
enum Place {
    Sqlite(TempDir),
    Postgres(PostgresPlace),
}

/// A store in a place of its own.
pub(crate) struct World {
    pub(crate) store: Arc<dyn SqlStore>,
    pub(crate) model: Arc<SqlReadModel>,
    place: Place,
}

impl World {
    pub(crate) async fn new(on: Database) -> Self {
        Self::with(on, lease_projections::standard()).await
    }

    pub(crate) async fn with(on: Database, projections: Vec<Arc<dyn Projection>>) -> Self {
        Self::hooked(on, projections, |projections| projections.clone()).await
    }

    /// One whose store calls what `hook` makes of its projections.
    pub(crate) async fn hooked(
        on: Database,
        projections: Vec<Arc<dyn Projection>>,
        hook: impl FnOnce(&Arc<SqlProjections>) -> Arc<dyn AppendHook>,
    ) -> Self {
        let place = match on {
            Database::Sqlite => Place::Sqlite(TempDir::new().expect("a folder can be made")),
            Database::Postgres => Place::Postgres(PostgresPlace::new()),
        };
        let (store, model) = place.process(projections, hook).await;
        Self { store, model, place }
    }

    /// Another process in the same place.
    pub(crate) async fn process(&self) -> (Arc<dyn SqlStore>, Arc<SqlReadModel>) {
        self.place.process(lease_projections::standard(), |projections| projections.clone()).await
    }

    /// A store in the same place whose process knows no projections.
    pub(crate) async fn bare(&self) -> Arc<dyn SqlStore> {
        self.place.open(None).await
    }

    /// A connection that may do what the ledger never would.
    pub(crate) async fn vandal(&self) -> Vandal {
        match &self.place {
            Place::Sqlite(folder) => {
                let options = SqliteConnectOptions::new().filename(file(folder));
                Vandal::Sqlite(options.connect().await.expect("the file is there"))
            }
            Place::Postgres(place) => Vandal::Postgres(Box::new(place.connection().await)),
        }
    }

    /// Every row of a table, by key, as the memory executor would have it.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Row> {
        self.vandal().await.rows(&format!("SELECT * FROM {table} ORDER BY 1")).await
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

impl Place {
    async fn process(
        &self,
        projections: Vec<Arc<dyn Projection>>,
        hook: impl FnOnce(&Arc<SqlProjections>) -> Arc<dyn AppendHook>,
    ) -> (Arc<dyn SqlStore>, Arc<SqlReadModel>) {
        let on = match self {
            Self::Sqlite(_) => Database::Sqlite,
            Self::Postgres(_) => Database::Postgres,
        };
        let projections = SqlProjections::new(on, projections);
        let store = self.open(Some(hook(&projections))).await;
        let model = SqlReadModel::attach(projections, store.clone()).await.expect("the tables are ours");
        (store, model)
    }

    async fn open(&self, hook: Option<Arc<dyn AppendHook>>) -> Arc<dyn SqlStore> {
        let clock = Arc::new(Ticks::default());
        match self {
            Self::Sqlite(folder) => open_sqlite(&file(folder), hook).await,
            Self::Postgres(place) => {
                let options = PostgresOptions { clock, hook, ..place.options() };
                PostgresStore::open(options).await.expect("the database is there")
            }
        }
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.db")
}

async fn open_sqlite(path: &Path, hook: Option<Arc<dyn AppendHook>>) -> Arc<SqliteStore> {
    let options =
        SqliteOptions { path: path.to_owned(), clock: Arc::new(Ticks::default()), ids: Arc::new(SystemIds), hook };
    SqliteStore::open(options).await.expect("the folder is there")
}

/// Opens a ledger file with the ledger's projections, as a process does.
pub(crate) async fn on_file(path: &Path) -> (Arc<SqliteStore>, Arc<SqlReadModel>) {
    let projections = SqlProjections::new_standard(Database::Sqlite);
    let store = open_sqlite(path, Some(projections.clone())).await;
    let model = SqlReadModel::attach(projections, store.clone()).await.expect("the file is ours");
    (store, model)
}

/// A connection past the ledger.
pub(crate) enum Vandal {
    Sqlite(SqliteConnection),
    Postgres(Box<PgConnection>),
}

impl Vandal {
    /// Runs statements; answers how many rows they touched.
    pub(crate) async fn run(&mut self, sql: &str) -> u64 {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(it) => statements.execute(it).await.map(|done| done.rows_affected()),
            Self::Postgres(it) => statements.execute(&mut **it).await.map(|done| done.rows_affected()),
        }
        .expect("it is done")
    }

    /// The rows of a statement.
    pub(crate) async fn rows(&mut self, sql: &str) -> Vec<Row> {
        let query = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(it) => sqlx::query(query).fetch_all(it).await.expect("it reads").iter().map(row).collect(),
            Self::Postgres(it) => {
                sqlx::query(query).fetch_all(&mut **it).await.expect("it reads").iter().map(row).collect()
            }
        }
    }

    /// The names of the tables that are there.
    pub(crate) async fn tables(&mut self) -> Vec<Row> {
        match self {
            Self::Sqlite(_) => self.rows("SELECT name FROM sqlite_master WHERE type = 'table'").await,
            Self::Postgres(_) => self.rows("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").await,
        }
    }
}

fn row<'r, R>(row: &'r R) -> Row
where
    R: SqlRow,
    usize: ColumnIndex<R>,
    Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    Option<&'r str>: Decode<'r, R::Database> + Type<R::Database>,
{
    let value = |at: usize| match row.try_get::<Option<i64>, _>(at) {
        Ok(number) => number.map_or(Value::Null, Value::Integer),
        Err(_) => Value::text(row.try_get::<Option<&str>, _>(at).expect("tables hold whole numbers and text")),
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
