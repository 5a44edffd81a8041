//! The store with 128 appenders, projections included, against bare multi-row inserts of the same rows, 128 a
//! transaction, through the same library, in the same run.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lease_events::codec::encode;
use lease_events::failure::Fault;
use lease_events::id::{CommandId, CompanyId, EnvironmentId, LeaseId, LedgerId};
use lease_events::lease::LeaseEvent;
use lease_events::lease::event::{
    LeaseCommandExecuted, LeaseProviderAcquired, LeaseRealized, LeaseReleaseRequested, LeaseReleased, LeaseRequested,
    Receipt,
};
use lease_events::lease::vocabulary::{
    CleanupStatus, ExecutionOutcome, LeaseStatus, Policy, Reason, ReceiptState, ReleaseStatus, Teardown, WorkspaceKind,
};
use lease_events::record::{Position, RecordedEvent, StreamId};
use lease_events::seam::{Clock, SystemClock};
use lease_events::store::{Append, Direction, EventStore, Expected, READ_EVENTS_MAX};
use lease_ledger::commands::caller::{Caller, Command};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, QueryBuilder, SqliteConnection};

use crate::parts::{open, rate, resident_mib};

/// Who append at once, and how many rows a bare transaction has.
pub(crate) const APPENDERS: usize = 128;
/// How many leases live in one measurement; each has six events, appended one by one.
pub(crate) const LEASES: usize = APPENDERS * 96;
/// How often both sides are measured, in turns.
pub(crate) const ROUNDS: usize = 5;

/// Prints the rates and their ratio.
pub(crate) async fn measure() {
    println!("store with {APPENDERS} appenders, projections included, against bare inserts of the same rows");
    println!(
        "{:>8}{:>16}{:>16}{:>8}{:>18}{:>12}",
        "round", "store events/s", "bare events/s", "ratio", "events/commit", "memory"
    );
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        let (events, elapsed, commits) = through_the_store(folder.path()).await;
        let count = events.len() as u64;
        let bare = bare_inserts(folder.path(), events).await;
        let ratio = bare.as_secs_f64() / elapsed.as_secs_f64();
        ratios.push(ratio);
        println!(
            "{round:>8}{:>16.0}{:>16.0}{:>8.2}{:>18.1}{:>12}",
            rate(count, elapsed),
            rate(count, bare),
            ratio,
            rate(count, Duration::from_secs(commits)),
            format!("{} MiB", resident_mib()),
        );
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("median of the ratios: {:.2}\n", ratios[ROUNDS / 2]);
}

async fn through_the_store(folder: &Path) -> (Vec<RecordedEvent>, Duration, u64) {
    let parts = open(folder).await;
    let began = Instant::now();
    let commits = parts.store.fsyncs();
    let appenders = (0..APPENDERS).map(|appender| {
        let store: Arc<dyn EventStore> = parts.store.clone();
        tokio::spawn(async move {
            for number in 0..LEASES / APPENDERS {
                live(store.as_ref(), &format!("{appender} {number}")).await;
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.expect("an appender");
    }
    let (elapsed, commits) = (began.elapsed(), parts.store.fsyncs() - commits);
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(Position::START, |last| last.position);
        let page = parts.store.read_all(after, Direction::Forwards, READ_EVENTS_MAX).await.expect("a page");
        if page.is_empty() {
            break;
        }
        events.extend(page);
    }
    parts.ledger.stop().await;
    (events, elapsed, commits)
}

/// The whole life of one lease, one append an event.
pub(crate) async fn live(store: &dyn EventStore, name: &str) {
    let lease = LeaseId::derived(&[name]);
    let stream = StreamId::lease(lease);
    let mut expected = Expected::NoStream;
    for (index, event) in life(lease).into_iter().enumerate() {
        let events = encoded(&[event], &stream, index);
        store.append(Append { stream: stream.clone(), expected, events }).await.expect("appended");
        expected = Expected::Exact(index as u64);
    }
}

/// The same life in one append.
pub(crate) async fn live_at_once(store: &dyn EventStore, name: &str) {
    let lease = LeaseId::derived(&[name]);
    let stream = StreamId::lease(lease);
    let events = encoded(&life(lease), &stream, 0);
    store.append(Append { stream, expected: Expected::NoStream, events }).await.expect("appended");
}

fn encoded(events: &[LeaseEvent], stream: &StreamId, index: usize) -> Vec<lease_events::record::NewEvent> {
    let company = CompanyId::derived(&["bench"]);
    let id = CommandId::derived(&[stream.as_str()]);
    let command =
        Command { id, repeatable: false, caller: Caller::service("bench"), correlation_id: None, caused_by: None };
    encode(events, stream, company, id, index, &command.metadata())
}

fn life(lease: LeaseId) -> [LeaseEvent; 6] {
    let now = SystemClock.now();
    let held = format!("sandbox://fake/{lease}");
    [
        LeaseRequested {
            lease_id: lease,
            company_id: CompanyId::derived(&["bench"]),
            ledger_id: LedgerId::derived(&["bench"]),
            environment_id: EnvironmentId::derived(&["bench"]),
            environment_name: "bench".into(),
            environment_revision: 0,
            driver: "sandbox".into(),
            provider: "fake".into(),
            policy: Policy::Ephemeral,
            run_id: Some(lease_events::id::RunId(lease.0)),
            issue_id: None,
            agent_id: Some("agent".into()),
            execution_workspace_id: None,
            execution_workspace_mode: None,
            adapter_type: None,
            requested_expires_at: None,
            config: json!({ "provider": "fake", "reuseLease": false }),
            reuse_fingerprint: None,
            generation: 0,
            workspace_kind: WorkspaceKind::Derived,
            owner: "bench".into(),
            requested_at: now,
            settle_at: now,
        }
        .into(),
        LeaseProviderAcquired {
            provider_lease_id: Some(held.clone()),
            metadata: serde_json::Map::from_iter([("remoteCwd".to_owned(), json!("/workspace"))]),
            expires_at: None,
            fencing_token: 1,
        }
        .into(),
        LeaseRealized { cwd: "/workspace".into(), realization: json!({ "version": 1, "leaseId": lease }) }.into(),
        LeaseCommandExecuted {
            command_id: None,
            command: "sh".into(),
            argument_count: 2,
            outcome: ExecutionOutcome::Done,
            exit_code: Some(0),
            signal: None,
            timed_out: false,
            limit: None,
            duration_ms: 12,
            fault: None::<Fault>,
        }
        .into(),
        LeaseReleaseRequested {
            status: ReleaseStatus::Released,
            teardown: Teardown::ByPolicy,
            reason: Reason::RunEnded,
            note: None,
            owner: "bench".into(),
            settle_at: now,
        }
        .into(),
        LeaseReleased {
            status: LeaseStatus::Released,
            reason: Reason::RunEnded,
            cleanup_status: Some(CleanupStatus::Success),
            failure_reason: None,
            receipt: Some(Receipt { state: ReceiptState::Destroyed, provider_lease_id: Some(held) }),
        }
        .into(),
    ]
}

/// The same rows into the same table, in a file of its own, and nothing else.
async fn bare_inserts(folder: &Path, events: Vec<RecordedEvent>) -> Duration {
    let mut source =
        SqliteConnectOptions::new().filename(folder.join("ledger.db")).connect().await.expect("the ledger");
    let ddl = "SELECT sql FROM sqlite_schema WHERE tbl_name = 'events' AND sql IS NOT NULL ORDER BY type = 'trigger'";
    let ddl: Vec<String> = sqlx::query_scalar(ddl).fetch_all(&mut source).await.expect("the table");
    let mut bare: SqliteConnection = SqliteConnectOptions::new()
        .filename(folder.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .expect("a file");
    for statement in ddl {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut bare).await.expect("the same table");
    }
    let began = Instant::now();
    for rows in events.chunks(APPENDERS) {
        let mut transaction = bare.begin_with("BEGIN IMMEDIATE").await.expect("begun");
        let mut insert = QueryBuilder::new(
            "INSERT INTO events (position, event_id, stream_id, stream_revision, type, schema_version, company_id, \
             recorded_at, data, metadata) ",
        );
        insert.push_values(rows, |mut values, event| {
            values
                .push_bind(i64::try_from(event.position.0).expect("small"))
                .push_bind(event.event_id.to_string())
                .push_bind(event.stream_id.as_str().to_owned())
                .push_bind(i64::try_from(event.stream_revision).expect("small"))
                .push_bind(event.event_type.to_string())
                .push_bind(i64::from(event.schema_version))
                .push_bind(event.company_id.to_string())
                .push_bind(event.recorded_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
                .push_bind(event.data.to_string())
                .push_bind(event.metadata.to_string());
        });
        insert.build().execute(&mut *transaction).await.expect("inserted");
        transaction.commit().await.expect("committed");
    }
    began.elapsed()
}
