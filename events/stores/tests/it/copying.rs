//! Copies: everything as it is, from either SQL store to either, gone on with where they were broken off, and refused where
//! the target is something else.

use std::path::PathBuf;
use std::sync::Arc;

use lease_events::id::{CompanyId, LedgerId, SecretId};
use lease_events::record::Position;
use lease_events::seam::{Clock as _, Ids, SystemClock, SystemIds};
use lease_events::store::{Append, Direction, Expected};
use lease_stores::contract::postgres::PostgresPlace;
use lease_stores::contract::{append, event, stream};
use lease_stores::copy::{Copied, CopyError, Home, Progress, Stage, copy};
use lease_stores::postgres::{PostgresOptions, PostgresStore};
use lease_stores::sealed::{PostgresSealed, Sealed, SqliteSealed};
use lease_stores::sqlite::{SqliteOptions, SqliteStore};
use uuid::Uuid;

/// Gives a new store the id of a ledger that is there already.
struct Named(LedgerId);

impl Ids for Named {
    fn fresh(&self) -> Uuid {
        self.0.0
    }
}

fn ids_of(ledger: Option<LedgerId>) -> Arc<dyn Ids> {
    ledger.map_or_else(|| Arc::new(SystemIds) as Arc<dyn Ids>, |ledger| Arc::new(Named(ledger)))
}

async fn sqlite(path: PathBuf, ledger: Option<LedgerId>) -> Home {
    let options = SqliteOptions { path, clock: Arc::new(SystemClock), ids: ids_of(ledger), hook: None };
    let store = SqliteStore::open(options).await.expect("it opens");
    Home { ledger_id: store.ledger_id(), sealed: Arc::new(SqliteSealed::new(store.clone())), store }
}

async fn postgres(place: &PostgresPlace, ledger: Option<LedgerId>) -> Home {
    let options = PostgresOptions { ids: ids_of(ledger), ..place.options() };
    let store = PostgresStore::open(options).await.expect("it opens");
    Home { ledger_id: store.ledger_id(), sealed: Arc::new(PostgresSealed::new(store.clone())), store }
}

/// Streams of some events each, written at different times, and two secrets.
async fn fill(home: &Home, streams: usize) {
    for number in 0..streams {
        let name = format!("{number}");
        let (first, second) = (format!("{number}a"), format!("{number}b"));
        home.store.append(append(&name, Expected::NoStream, &[&first, &second])).await.expect("appended");
    }
    for version in 1..=2 {
        let sealed = Sealed {
            sealed_id: SystemIds.fresh(),
            secret_id: SecretId::derived(&["secret"]),
            company_id: CompanyId::derived(&["company"]),
            version,
            key_id: "key".to_owned(),
            nonce: [7; 24],
            ciphertext: vec![u8::try_from(version).expect("small"); 40],
            created_at: chrono::SubsecRound::trunc_subsecs(SystemClock.now(), 6),
        };
        home.sealed.put(sealed).await.expect("kept");
    }
}

async fn assert_equal(left: &Home, right: &Home) {
    let all = async |home: &Home| {
        home.store.read_all(Position::START, Direction::Forwards, usize::MAX).await.expect("it can be read")
    };
    assert_eq!(all(left).await, all(right).await);
    assert_eq!(left.sealed.all().await, right.sealed.all().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_copied_there_and_back_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = PostgresPlace::new();
    let source = sqlite(folder.path().join("a.db"), None).await;
    fill(&source, 300).await;
    let there = postgres(&place, Some(source.ledger_id)).await;
    let mut told = Vec::new();
    let copied = copy(&source, &there, |progress| told.push(progress)).await.expect("copied");
    let expected = Copied { head: Position(600), found: 0, sealed: 2, source_moved_on: false };
    assert_eq!(copied, expected);
    let end = |stage| Progress { stage, position: Position(600), head: Position(600) };
    assert_eq!(told, [end(Stage::Copying), end(Stage::Verifying)]);
    assert_equal(&source, &there).await;

    let back = sqlite(folder.path().join("b.db"), Some(source.ledger_id)).await;
    assert_eq!(copy(&there, &back, |_| {}).await.expect("copied"), expected);
    assert_equal(&source, &back).await;
    // The copy is a store like any other: it goes on behind the last event.
    for home in [&there, &back] {
        let next = home.store.append(append("0", Expected::Exact(1), &["next"])).await.expect("appended");
        assert_eq!(next.position(), Position(601));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_broken_off_goes_on_and_one_of_a_longer_source_takes_up_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = PostgresPlace::new();
    let source = sqlite(folder.path().join("a.db"), None).await;
    fill(&source, 10).await;
    let target = postgres(&place, Some(source.ledger_id)).await;
    copy(&source, &target, |_| {}).await.expect("copied");
    let more = Append { stream: stream("more"), expected: Expected::NoStream, events: vec![event("more")] };
    source.store.append(more).await.expect("appended");
    let copied = copy(&source, &target, |_| {}).await.expect("copied");
    assert_eq!((copied.found, copied.head), (20, Position(21)));
    assert_equal(&source, &target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_copied_into_another_ledger_or_behind_other_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = sqlite(folder.path().join("a.db"), None).await;
    fill(&source, 3).await;
    let other = sqlite(folder.path().join("b.db"), None).await;
    assert!(matches!(copy(&source, &other, |_| {}).await, Err(CopyError::AnotherLedger { .. })));

    let gone = sqlite(folder.path().join("c.db"), Some(source.ledger_id)).await;
    gone.store.append(append("own", Expected::NoStream, &["own"])).await.expect("appended");
    let refused = copy(&source, &gone, |_| {}).await;
    assert!(matches!(refused, Err(CopyError::Diverged { position: Position(1) })), "{refused:?}");

    let longer = sqlite(folder.path().join("d.db"), Some(source.ledger_id)).await;
    copy(&source, &longer, |_| {}).await.expect("copied");
    longer.store.append(append("own", Expected::NoStream, &["own"])).await.expect("appended");
    assert!(matches!(copy(&source, &longer, |_| {}).await, Err(CopyError::Diverged { position: Position(7) })));
}
