//! Runs that are kept alive and go silent (B4): their leases are released as `failed`, once, never while they could not
//! be heard; and runs whose release was broken off.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lease_events::codec::encode;
use lease_events::failure::FailureClass;
use lease_events::id::{CommandId, CompanyId, LeaseId, RunId};
use lease_events::lease::vocabulary::{LeaseStatus, Reason, ReleaseStatus};
use lease_events::record::{Actor, ActorKind, Metadata, Position, StreamId};
use lease_events::run::{RunEvent, RunReleased};
use lease_events::seam::{Clock, Ids};
use lease_events::store::{Append, EventStore as _, Expected};
use lease_ledger::commands::environment::probe::ProbeEnvironment;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::heartbeat::{HeartbeatRequest, TIME_TO_LIVE_MS_MAX, TIME_TO_LIVE_MS_MIN};
use lease_ledger::commands::release_run::ReleaseRunRequest;
use lease_ledger::commands::upkeep::Did;
use lease_ledger::drivers::sandbox::fake::FakeProvider;
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::wiring;
use lease_projections::sql::{Database, SqlProjections, SqlReadModel};
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use serde_json::json;

use crate::support::{Bench, CountedIds, SimulatedClock, caller, company, drivers, fake, run};

/// A minute, as most runs here are kept alive.
const MINUTE_MS: u64 = 60_000;

async fn beat(bench: &Bench, run_id: RunId, time_to_live_ms: u64) -> Result<DateTime<Utc>, CommandError> {
    let request = HeartbeatRequest { company_id: company(), run_id, time_to_live_ms };
    bench.ledger.heartbeat(caller(), request).await.map(|kept| kept.alive_until)
}

async fn release_run(bench: &Bench, run_id: RunId) -> Vec<LeaseId> {
    let request = ReleaseRunRequest { company_id: company(), run_id, status: ReleaseStatus::Released };
    let report = bench.ledger.release_run(caller(), request).await.expect("it is remembered");
    report.released.iter().map(|lease| lease.lease_id).collect()
}

/// How many events the stream of a run has.
async fn recorded(bench: &Bench, run_id: RunId) -> usize {
    let events = bench.ledger.events(Position::START, 4_096).await.expect("the log can be read");
    events.iter().filter(|event| event.stream_id == StreamId::run(run_id)).count()
}

/// A run that holds one lease.
async fn holding(bench: &Bench, number: u32) -> LeaseId {
    let name = format!("environment {number}");
    let environment = bench.environment(&name, fake(json!({}))).await.environment_id;
    bench.acquire(environment, run(number)).await.expect("acquired").lease.lease_id
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_silent_loses_its_leases_and_no_other_does() {
    let bench = Bench::new();
    let (silent, beating, quiet) = (holding(&bench, 1).await, holding(&bench, 2).await, holding(&bench, 3).await);
    bench.ledger.start_recovery();
    let alive_until = beat(&bench, run(1), MINUTE_MS).await.expect("alive");
    for _ in 0..12 {
        beat(&bench, run(2), MINUTE_MS).await.expect("alive");
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    let lease = bench.lease(silent).await;
    assert_eq!((lease.status, lease.end_reason), (LeaseStatus::Failed, Some(Reason::RunLost)));
    let late = lease.ended_at.expect("it is over") - alive_until;
    assert!(late >= TimeDelta::zero() && late <= TimeDelta::seconds(1), "{late}");
    assert_eq!(bench.lease(beating).await.status, LeaseStatus::Active);
    assert_eq!(bench.lease(quiet).await.status, LeaseStatus::Active, "it never sent a heartbeat");
    assert_eq!(bench.held(), 2);

    let refused = beat(&bench, run(1), MINUTE_MS).await.expect_err("it is over");
    assert_eq!((refused.code(), refused.class()), ("run-released", FailureClass::Conflict));
    let sentence = refused.to_string();
    assert!(sentence.ends_with("it can neither acquire nor be kept alive any more, a new run can."), "{sentence}");
    assert_eq!(recorded(&bench, run(1)).await, 2, "one sign of life, one release");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_heartbeats_grows_the_log_by_two_events_a_time_to_live() {
    let bench = Bench::new();
    for _ in 0..6_000 {
        let until = beat(&bench, run(1), MINUTE_MS).await.expect("alive");
        assert!(until >= bench.clock.now() + TimeDelta::minutes(1), "what was answered holds: {until}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Ten minutes.
    assert!(recorded(&bench, run(1)).await <= 21, "{}", recorded(&bench, run(1)).await);
}

#[tokio::test(start_paused = true)]
async fn another_time_to_live_counts_at_once() {
    let bench = Bench::new();
    let now = bench.clock.now();
    assert_eq!(beat(&bench, run(1), 3_600_000).await, Ok(now + TimeDelta::minutes(90)));
    assert_eq!(beat(&bench, run(1), MINUTE_MS).await, Ok(now + TimeDelta::seconds(90)));
    for bad in [0, TIME_TO_LIVE_MS_MIN - 1, TIME_TO_LIVE_MS_MAX + 1, u64::MAX] {
        let refused = beat(&bench, run(1), bad).await.expect_err("out of bounds").to_string();
        assert_eq!(refused, format!("\"timeToLiveMs\" is {bad}; give 5000 to 86400000 (5 seconds to a day)."));
    }
    for good in [TIME_TO_LIVE_MS_MIN, TIME_TO_LIVE_MS_MAX] {
        beat(&bench, run(2), good).await.expect("within the bounds");
    }
}

/// Both are appends at the run's revision: whatever the order, it is either alive with its lease or over without.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_beside_the_sweep_wins_or_loses_never_both() {
    // It counts as alive for 7.5 s.
    let (mut heard, mut refused) = (0, 0);
    for moment_ms in (7_490..7_530).chain([7_400, 8_000]) {
        let bench = Bench::new();
        let lease = holding(&bench, 1).await;
        bench.ledger.start_recovery();
        beat(&bench, run(1), TIME_TO_LIVE_MS_MIN).await.expect("alive");
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        let answer = beat(&bench, run(1), TIME_TO_LIVE_MS_MIN).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = bench.lease(lease).await.status;
        match answer {
            Ok(_) => {
                assert_eq!(status, LeaseStatus::Active, "heard at {moment_ms} ms");
                heard += 1;
            }
            Err(error) => {
                assert_eq!((error.code(), status), ("run-released", LeaseStatus::Failed), "{moment_ms} ms");
                refused += 1;
            }
        }
        bench.ledger.stop().await;
    }
    assert!(heard > 0 && refused > 0, "{heard} {refused}");
}

#[tokio::test(start_paused = true)]
async fn a_release_beats_the_heartbeats_behind_it_and_another_company_reaches_no_run() {
    let bench = Bench::new();
    let lease = holding(&bench, 1).await;
    beat(&bench, run(1), MINUTE_MS).await.expect("alive");
    let stranger = CompanyId::derived(&["stranger"]);
    let request = HeartbeatRequest { company_id: stranger, run_id: run(1), time_to_live_ms: MINUTE_MS };
    assert_eq!(bench.ledger.heartbeat(caller(), request).await.expect_err("not theirs").code(), "unknown-run");
    let theirs = ReleaseRunRequest { company_id: stranger, run_id: run(1), status: ReleaseStatus::Failed };
    assert_eq!(bench.ledger.release_run(caller(), theirs).await.expect_err("not theirs").code(), "unknown-run");
    assert_eq!(release_run(&bench, run(1)).await, [lease]);
    assert_eq!(bench.lease(lease).await.status, LeaseStatus::Released);
    assert_eq!(beat(&bench, run(1), MINUTE_MS).await.expect_err("over").code(), "run-released");
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(recorded(&bench, run(1)).await, 2, "silence ends nothing twice");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ends_no_run_that_is_heard_of() {
    let bench = Bench::new();
    let lease = holding(&bench, 1).await;
    bench.ledger.start_recovery();
    for jump in [TimeDelta::hours(5), TimeDelta::hours(-8), TimeDelta::hours(3)] {
        for _ in 0..4 {
            beat(&bench, run(1), MINUTE_MS).await.expect("alive");
            tokio::time::sleep(Duration::from_secs(40)).await;
        }
        bench.clock.skip(jump);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(bench.lease(lease).await.status, LeaseStatus::Active, "{jump}");
    }
    let until = beat(&bench, run(1), MINUTE_MS).await.expect("alive");
    assert!(until <= bench.clock.now() + TimeDelta::seconds(90), "a deadline of another time is corrected: {until}");
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert_eq!(bench.lease(lease).await.status, LeaseStatus::Failed, "silence still counts");
}

/// A server that was away heard nobody, and ends nobody for it.
#[tokio::test(start_paused = true)]
async fn field_paperclip_10212_a_restart_kills_no_run() {
    let bench = Bench::new();
    let (heard, silent) = (holding(&bench, 1).await, holding(&bench, 2).await);
    beat(&bench, run(1), MINUTE_MS).await.expect("alive");
    beat(&bench, run(2), MINUTE_MS).await.expect("alive");
    // Nobody listens for an hour.
    tokio::time::sleep(Duration::from_hours(1)).await;
    let by_hand = bench.ledger.recover().await.expect("a pass");
    assert!(by_hand.iter().all(|report| report.report.rows.is_empty()), "{by_hand:?}");
    bench.ledger.start_recovery();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(bench.lease(heard).await.status, LeaseStatus::Active);
    beat(&bench, run(1), MINUTE_MS).await.expect("it comes back");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.lease(heard).await.status, LeaseStatus::Active);
    assert_eq!(bench.lease(silent).await.status, LeaseStatus::Failed, "it had its whole time to live");
}

/// Looking at an environment, and listing what a provider holds, says nothing of a run and nothing of a lease's use.
#[tokio::test(start_paused = true)]
async fn field_deer_flow_5460_a_probe_is_no_sign_of_life() {
    let bench = Bench::new();
    let environment_id = bench.environment("one", fake(json!({}))).await.environment_id;
    let lease = bench.acquire(environment_id, run(1)).await.expect("acquired").lease;
    bench.ledger.start_recovery();
    beat(&bench, run(1), MINUTE_MS).await.expect("alive");
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let request = ProbeEnvironment { company_id: company(), environment_id };
        bench.ledger.probe_environment(caller(), request).await.expect("it is there");
        assert_eq!(bench.lease(lease.lease_id).await.last_used_at, lease.last_used_at);
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(bench.lease(lease.lease_id).await.status, LeaseStatus::Failed);
}

/// The release of a run stands on its stream, and its process dies before any of the leases is released.
#[tokio::test]
async fn field_paperclip_13515_a_run_that_ended_holds_nothing_for_ever() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), SimulatedClock::start());
    let path = folder.path().join("ledger.db");
    let provider = FakeProvider::in_memory(clock.clone());
    let ids: Arc<dyn Ids> = Arc::new(CountedIds::default());
    let secrets = SecretSettings::default();
    let ledger = wiring::open_sqlite(&path, clock.clone(), ids, &secrets, |_, _| Ok(drivers(&provider))).await;
    let bench = Bench { ledger: ledger.expect("it opens"), clock: clock.clone(), provider };
    let lease = holding(&bench, 1).await;
    remember_release_alone(&path, clock, run(1)).await;
    let head = bench.ledger.head().await.expect("the log can be read");
    bench.ledger.read_model().wait_for(head, Duration::from_secs(10)).await.expect("it follows");
    assert_eq!(bench.lease(lease).await.status, LeaseStatus::Active);

    let at_once = bench.ledger.recover().await.expect("a pass");
    assert!(
        at_once.iter().all(|report| report.report.rows.is_empty()),
        "whoever released it may be at it: {at_once:?}"
    );
    bench.clock.skip(TimeDelta::seconds(6));
    let reports = bench.ledger.recover().await.expect("a pass");
    let rows: Vec<_> = reports.iter().flat_map(|report| &report.report.rows).collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].lease_id, rows[0].did.map(Did::as_str)), (Some(lease), Some("run-ended")));
    let state = bench.lease(lease).await;
    assert_eq!((state.status, state.end_reason), (LeaseStatus::Released, Some(Reason::RunEnded)));
    assert_eq!(bench.held(), 0);
    bench.ledger.stop().await;
}

/// What a process that is killed right behind it leaves of a run's release.
async fn remember_release_alone(path: &std::path::Path, clock: Arc<SimulatedClock>, run_id: RunId) {
    let projections = SqlProjections::new_standard(Database::Sqlite);
    let (ids, hook) = (Arc::new(CountedIds::default()), Some(projections.clone() as _));
    let store = SqliteStore::open(SqliteOptions { path: path.to_owned(), clock, ids, hook }).await;
    let store = store.expect("the file is ours");
    SqlReadModel::attach(projections, store.clone()).await.expect("the file is ours");
    let stream = StreamId::run(run_id);
    let event: RunEvent = RunReleased { run_id, status: ReleaseStatus::Released, reason: Reason::RunEnded }.into();
    let command = CommandId::derived(&["killed"]);
    let metadata = Metadata {
        correlation_id: command.to_string(),
        causation_id: command.to_string(),
        command_id: command,
        actor: Actor { kind: ActorKind::Service, id: "killed".to_owned() },
        traceparent: None,
    };
    let events = encode(&[event], &stream, company(), command, 0, &metadata);
    store.append(Append { stream, expected: Expected::NoStream, events }).await.expect("it is stored");
    store.close().await;
}
