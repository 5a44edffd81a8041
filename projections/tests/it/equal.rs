//! Live, rebuilt, and in memory: the same rows. And what they answer.

use std::sync::Arc;
use std::time::Duration;

use lease_events::fold::StreamState;
use lease_events::lease::state::LeaseState;
use lease_events::lease::vocabulary::{CleanupStatus, LeaseStatus};
use lease_events::record::{Position, StreamId};
use lease_events::seam::Clock as _;
use lease_events::secret::SecretStatus;
use lease_events::store::{Direction, EventStore};
use lease_projections::current_leases;
use lease_projections::memory::{MemoryProjections, MemoryReadModel};
use lease_projections::read_model::{
    AliveFilter, EnvironmentFilter, LeaseFilter, ReadModel, ReusableFilter, SecretFilter,
};
use lease_stores::memory::MemoryStore;
use proptest::prelude::*;
use tokio::sync::mpsc;

use crate::history::{
    acquired, append, claimed, company, environment, lease, play, release_requested, released, requested, run, steps,
};
use crate::world::{Ticks, World};

const TABLES: [&str; 5] = ["current_leases", "reusable_leases", "environments", "secrets", "runs"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_legal_history_gives_equal_rows_live_rebuilt_and_in_memory(steps in steps(60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(&steps));
    }
}

async fn check(steps: &[crate::history::Step]) {
    let world = World::new().await;
    let (_, memory_store, memory) = in_memory();
    play(&*world.store, steps).await;
    play(&*memory_store, steps).await;
    for table in TABLES {
        let live = world.rows(table).await;
        assert_eq!(live, memory.rows(table), "{table}: SQLite and memory");
        let report = world.model.verify(table).await.expect("it can be verified");
        assert_eq!((report.differences.as_slice(), report.rows), (&[][..], live.len() as u64), "{table}");
        let (progress, _unheard) = mpsc::channel(1);
        world.model.rebuild(table, progress).await.expect("it can be rebuilt");
        assert_eq!(world.rows(table).await, live, "{table}: rebuilt and live");
    }
    same_answers(&*world.model, &*memory.model).await;
    for number in 0..6 {
        as_folded(&world, number).await;
    }
    let head = world.store.head().await.expect("the log can be read");
    assert_eq!(world.positions().await, [head.0; 5]);
}

/// A lease as its row gives it back is the fold of its stream; and columns and rest name every field of it, so that
/// none can be absent unseen.
async fn as_folded(world: &World, number: u8) {
    let stream = StreamId::lease(lease(number));
    let events = world.store.read_stream(&stream, 0, Direction::Forwards, 4_096).await.expect("it reads");
    let folded = LeaseState::fold(&events).expect("only legal events were appended");
    assert_eq!(world.model.lease(lease(number)).await, Ok(folded.clone()));
    let Some(folded) = folded else { return };
    let rest: String = sqlx::query_scalar("SELECT state FROM current_leases WHERE lease_id = ?")
        .bind(lease(number).to_string())
        .fetch_one(world.store.reader())
        .await
        .expect("its row is there");
    let mut fields = names(&serde_json::from_str(&rest).expect("it is JSON"));
    fields.extend(current_leases::TABLE.columns.iter().filter_map(|column| column.holds).map(str::to_owned));
    fields.sort_unstable();
    // What is not known is left out of the one, and is null in the other.
    let folded = serde_json::to_value(&folded).expect("it is JSON");
    let known = |name: &String| !folded[name].is_null();
    fields.retain(known);
    assert_eq!(fields, names(&folded).into_iter().filter(known).collect::<Vec<_>>());
}

fn names(json: &serde_json::Value) -> Vec<String> {
    json.as_object().expect("a state is an object").keys().cloned().collect()
}

struct Memory {
    projections: Arc<MemoryProjections>,
    model: Arc<MemoryReadModel>,
}

impl Memory {
    fn rows(&self, table: &str) -> Vec<lease_projections::projection::Row> {
        self.projections.rows(table).expect("it is known")
    }
}

fn in_memory() -> (Arc<MemoryProjections>, Arc<MemoryStore>, Memory) {
    let projections = MemoryProjections::new_standard();
    let clock = Ticks::default();
    // The SQLite store reads its clock once when it makes the file.
    clock.now();
    let store = MemoryStore::new(Arc::new(clock), Some(projections.clone()));
    let model = MemoryReadModel::attach(projections.clone(), store.clone());
    (projections.clone(), store, Memory { projections, model })
}

/// Both reading ports answer alike, whatever is asked.
async fn same_answers(one: &dyn ReadModel, other: &dyn ReadModel) {
    let all = LeaseFilter { limit: 100, ..Default::default() };
    let filters = [
        all.clone(),
        LeaseFilter { company_id: Some(company()), limit: 2, ..Default::default() },
        LeaseFilter { environment_id: Some(environment()), open_only: true, ..all.clone() },
        LeaseFilter { run_id: Some(run(0)), ..all.clone() },
        LeaseFilter { statuses: vec![LeaseStatus::Active, LeaseStatus::Released], ..all.clone() },
        LeaseFilter { statuses: vec![LeaseStatus::Active], ..all.clone() },
        LeaseFilter { unsettled: true, ..all.clone() },
        LeaseFilter { needs_attention: true, ..all.clone() },
        LeaseFilter { due_by: Some(crate::history::noon() + chrono::Duration::seconds(90)), ..all.clone() },
        LeaseFilter { before: Some(Position(5)), ..all },
    ];
    for filter in filters {
        assert_eq!(one.leases(&filter).await, other.leases(&filter).await, "{filter:?}");
    }
    for number in 0..6 {
        assert_eq!(one.lease(lease(number)).await, other.lease(lease(number)).await);
        assert_eq!(
            one.open_leases_of_run(Some(company()), run(number)).await,
            other.open_leases_of_run(Some(company()), run(number)).await
        );
        assert_eq!(
            one.latest_generation(run(number), "print-0").await,
            other.latest_generation(run(number), "print-0").await
        );
    }
    for fingerprint in ["print-0", "print-1", "none"] {
        assert_eq!(one.reusable(fingerprint, 3).await, other.reusable(fingerprint, 3).await);
    }
    assert_eq!(
        one.reusable_in_environment(environment(), 9).await,
        other.reusable_in_environment(environment(), 9).await
    );
    let kept = ReusableFilter {
        company_id: Some(company()),
        provider: Some("fake".to_owned()),
        limit: 9,
        ..Default::default()
    };
    assert_eq!(one.list_reusable(&kept).await, other.list_reusable(&kept).await);
    let named = EnvironmentFilter { name: Some("fast".to_owned()), limit: 9, ..Default::default() };
    assert_eq!(one.environments(&named).await, other.environments(&named).await);
    assert_eq!(one.environment(environment()).await, other.environment(environment()).await);
    for (name, company_id) in [(Some("key".to_owned()), None), (None, Some(company()))] {
        let filter = SecretFilter { name, company_id, limit: 9, ..Default::default() };
        assert_eq!(one.secrets(&filter).await, other.secrets(&filter).await);
    }
    let removed = SecretFilter { status: Some(SecretStatus::Removed), limit: 9, ..Default::default() };
    assert_eq!(one.secrets(&removed).await, other.secrets(&removed).await);
    for until in [None, Some(crate::history::noon() + chrono::Duration::minutes(100))] {
        let alive = AliveFilter { until, after: None, limit: 9 };
        assert_eq!(one.alive_runs(&alive).await, other.alive_runs(&alive).await, "{alive:?}");
        let behind = AliveFilter { after: Some((crate::history::noon(), run(1))), ..alive };
        assert_eq!(one.alive_runs(&behind).await, other.alive_runs(&behind).await, "{behind:?}");
    }
    assert_eq!(one.half_released_runs(9).await, other.half_released_runs(9).await);
    assert_eq!(one.statuses().await, other.statuses().await);
}

#[tokio::test]
async fn a_lease_shows_from_its_request_to_its_claim() {
    let world = World::new().await;
    let stream = StreamId::lease(lease(1));
    append(&*world.store, &stream, &[requested(1, 1)]).await;
    assert_eq!(world.model.open_leases_of_run(None, run(0)).await, Ok(vec![lease(1)]));
    append(&*world.store, &stream, &[acquired(1)]).await;
    let state = world.model.lease(lease(1)).await.expect("it reads").expect("it is there");
    assert_eq!((state.status, state.fencing_token()), (LeaseStatus::Active, Some(1)));
    append(&*world.store, &stream, &[release_requested(), released(Some(CleanupStatus::Pending))]).await;
    assert_eq!(world.model.open_leases_of_run(None, run(0)).await, Ok(vec![]));
    let kept = world.model.reusable("print-1", 5).await.expect("it reads");
    assert_eq!(kept.iter().map(|kept| kept.lease_id).collect::<Vec<_>>(), [lease(1)]);
    append(&*world.store, &stream, &[claimed()]).await;
    assert_eq!(world.model.reusable("print-1", 5).await, Ok(vec![]));
    let state = world.model.lease(lease(1)).await.expect("it reads").expect("it is there");
    assert!(state.claimed_by.is_some());
}

#[tokio::test]
async fn a_reader_waits_for_a_position_and_hears_when_it_does_not_come() {
    let world = World::new().await;
    let position = append(&*world.store, &StreamId::lease(lease(1)), &[requested(1, 1)]).await;
    assert_eq!(world.model.wait_for(Position(position), Duration::ZERO).await, Ok(()));
    let error = world.model.wait_for(Position(position + 1), Duration::ZERO).await.expect_err("nothing was appended");
    assert!(error.to_string().starts_with("the projections are at position 1, not yet at 2"), "{error}");
}

#[tokio::test]
async fn a_batch_of_many_leases_is_written_whole() {
    let world = World::new().await;
    let leases: Vec<u8> = (0..=255).collect();
    let appends = leases.iter().map(|number| {
        let (store, number) = (world.store.clone(), *number);
        tokio::spawn(async move {
            let stream = StreamId::lease(lease(number));
            append(&*store, &stream, &[requested(number, number), acquired(1)]).await;
            append(&*store, &stream, &[release_requested()]).await
        })
    });
    for done in futures_util::future::join_all(appends).await {
        done.expect("no append fails");
    }
    let rows = world.rows("current_leases").await;
    assert_eq!(rows.len(), leases.len());
    for table in TABLES {
        let report = world.model.verify(table).await.expect("it can be verified");
        assert_eq!(report.differences, [], "{table}");
    }
}
