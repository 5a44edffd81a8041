//! The power goes: what of the files was synced is there afterwards, and of the rest any part, or nonsense in its place.
//!
//! The files are copied behind each acknowledged append, when all in them was synced. A cut between two such copies
//! leaves the older one, changed in any of the places where the younger differs: a beginning of what was written, a torn
//! sector, nonsense behind it, blocks that never reached the disk. Two orders are kept, as SQLite syncs between: the head
//! of a log that is begun anew is there before its frames, and the database is changed only while the log is whole.

use std::ops::Range;
use std::path::Path;

use lease_events::record::{Position, RecordedEvent};
use lease_events::store::{Direction, EventStore};
use lease_projections::read_model::ReadModel as _;
use lease_stores::append_hook::WriterJob;
use lease_stores::sql::SqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;

use crate::history::{self, play_step};
use crate::world::{World, open};

/// How many lives are cut short in an ordinary run. One of them is run alone with its seed in [`SEED`].
const SEEDS: u64 = 6;
/// Names the one seed to run.
const SEED: &str = "POWER_CUT_SEED";
/// Turns of one life: appends, or a checkpoint.
const TURNS: usize = 10;
/// Cuts in each turn.
const CUTS: usize = 1;
/// What a disk writes whole, or not.
const SECTOR: usize = 512;
/// What the kernel writes back whole, or not.
const BLOCK: usize = 4_096;
/// The head of a log, which is synced before anything behind it is written.
const WAL_HEAD: usize = 32;
const TABLES: [&str; 4] = ["current_leases", "reusable_leases", "environments", "secrets"];

/// Numbers that follow from a seed (`SplitMix64`).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).expect("it is small")).expect("it is small")
    }

    fn within(&mut self, range: &Range<usize>) -> usize {
        range.start + self.below(range.len() + 1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// What is on the disk.
#[derive(Clone, PartialEq)]
struct Image {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    fn of(path: &Path) -> Self {
        let log = path.with_extension("db-wal");
        Self { database: std::fs::read(path).expect("it is there"), log: std::fs::read(log).expect("it is there") }
    }

    fn put(&self, folder: &Path) {
        std::fs::write(folder.join("ledger.db"), &self.database).expect("a file can be written");
        std::fs::write(folder.join("ledger.db-wal"), &self.log).expect("a file can be written");
    }
}

/// How a write is cut short.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// A beginning of it is there.
    Truncated,
    /// A beginning, and nonsense in the sector that was being written.
    Torn,
    /// A beginning, and nonsense behind it.
    Nonsense,
    /// Some blocks of it are there.
    Blocks,
}

/// What a file is after a cut between `synced` and `written`, from `from` on.
fn cut(synced: &[u8], written: &[u8], from: usize, how: Cut, draw: &mut Draw) -> Vec<u8> {
    let differs = |at: &usize| synced.get(*at) != written.get(*at);
    let Some(first) = (from..written.len()).find(differs) else { return written.to_vec() };
    let last = (from..written.len()).rev().find(differs).expect("there is a first");
    let at = draw.within(&(first..last + 1));
    let mut left = synced.to_vec();
    let mut put = |range: Range<usize>, byte: &mut dyn FnMut(usize) -> u8| {
        left.resize(left.len().max(range.end), 0);
        range.for_each(|at| left[at] = byte(at));
    };
    match how {
        Cut::Blocks => {
            for block in (first / BLOCK..=last / BLOCK).filter(|_| draw.below(2) == 0).collect::<Vec<_>>() {
                put((block * BLOCK).max(first)..((block + 1) * BLOCK).min(last + 1), &mut |at| written[at]);
            }
        }
        Cut::Truncated | Cut::Torn | Cut::Nonsense => put(first..at, &mut |at| written[at]),
    }
    match how {
        Cut::Torn => put(at..((at / SECTOR + 1) * SECTOR).min(last + 1).max(at), &mut |_| draw.byte()),
        Cut::Nonsense => put(at..last + 1, &mut |_| draw.byte()),
        Cut::Truncated | Cut::Blocks => {}
    }
    left
}

/// What the database is after a cut: a checkpoint writes the pages that differ, in any order, and no others.
fn cut_pages(synced: &[u8], written: &[u8], how: Cut, draw: &mut Draw) -> Vec<u8> {
    let mut left = synced.to_vec();
    for start in (0..written.len()).step_by(BLOCK) {
        let page = start..(start + BLOCK).min(written.len());
        let before = synced.get(page.clone()).unwrap_or_default();
        if before != &written[page.clone()] && draw.below(2) == 0 {
            left.resize(left.len().max(page.end), 0);
            let after = cut(before, &written[page.clone()], 0, how, draw);
            left[start..start + after.len()].copy_from_slice(&after);
        }
    }
    left
}

/// What is on the disk after a cut between two images.
fn cut_between(synced: &Image, written: &Image, draw: &mut Draw) -> (Image, Cut) {
    let how = [Cut::Truncated, Cut::Torn, Cut::Nonsense, Cut::Blocks][draw.below(4)];
    let database = cut_pages(&synced.database, &written.database, how, draw);
    let begun_anew = synced.log.get(..WAL_HEAD) != written.log.get(..WAL_HEAD);
    let log = if begun_anew && draw.below(4) == 0 {
        cut(&synced.log, &written.log[..WAL_HEAD], 0, how, draw)
    } else {
        let mut synced = synced.log.clone();
        synced.resize(synced.len().max(WAL_HEAD), 0);
        synced[..WAL_HEAD].copy_from_slice(&written.log[..WAL_HEAD]);
        cut(&synced, &written.log, WAL_HEAD, how, draw)
    };
    (Image { database, log }, how)
}

async fn whole_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    store.read_all(Position::START, Direction::Forwards, usize::MAX).await.expect("the log can be read")
}

/// Opens what a cut left; answers the log, after everything else was found as it should be, and appends go on.
async fn reopened(image: &Image, draw: &mut Draw) -> Vec<RecordedEvent> {
    let folder = TempDir::new().expect("a folder can be made");
    image.put(folder.path());
    let (store, model) = open(&folder.path().join("ledger.db"), lease_projections::standard()).await;
    let found = whole_log(&*store).await;
    for _ in 0..4 {
        play_step(&*store, step(draw)).await;
    }
    let log = whole_log(&*store).await;
    assert_eq!(log[..found.len()], found);
    assert!(log.iter().zip(1..).all(|(event, position)| event.position == Position(position)));
    for table in TABLES {
        let report = model.verify(table).await.expect("it can be verified");
        assert!(report.differences.is_empty(), "{table}: {:?}", report.differences);
    }
    store.close().await;
    found
}

fn step(draw: &mut Draw) -> history::Step {
    (draw.byte() % 6, draw.byte() % 14, draw.byte())
}

/// One turn of a life: appends, one by one or together, or a checkpoint.
async fn turn(world: &World, draw: &mut Draw) {
    if draw.below(4) == 0 {
        let mut connection = world.vandal().await;
        sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await.expect("it is not busy");
        // The log is left to the store: the last connection to close would remove it.
        connection.close().await.expect("it closes");
        return;
    }
    for _ in 0..=draw.below(5) {
        play_step(&*world.store, step(draw)).await;
    }
}

async fn live_and_cut(seed: u64) {
    let mut draw = Draw(seed);
    let world = World::new().await;
    let mut lengths = Vec::new();
    let mut images = Vec::new();
    for _ in 0..TURNS {
        turn(&world, &mut draw).await;
        lengths.push(whole_log(&*world.store).await.len());
        images.push(Image::of(&world.path()));
    }
    let log = whole_log(&*world.store).await;
    for (turn, pair) in images.windows(2).enumerate() {
        for _ in 0..CUTS {
            let (left, how) = cut_between(&pair[0], &pair[1], &mut draw);
            let found = reopened(&left, &mut draw).await;
            let what = format!("seed {seed} (run it alone with {SEED}={seed}), turn {turn}, {how:?}");
            assert!(found.len() >= lengths[turn], "{what}: {} of {} acknowledged events", found.len(), lengths[turn]);
            assert_eq!(found, log[..found.len()], "{what}: other events than were appended");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_a_power_cut_is_there_after_it() {
    let one = std::env::var(SEED).ok().map(|seed| seed.parse().expect("a seed is a number"));
    for seed in one.map_or(0..SEEDS, |seed| seed..seed + 1) {
        println!("seed {seed}");
        live_and_cut(seed).await;
    }
}

#[tokio::test]
async fn a_cut_through_what_was_synced_would_be_noticed() {
    let mut draw = Draw(1);
    let world = World::new().await;
    for _ in 0..12 {
        play_step(&*world.store, step(&mut draw)).await;
    }
    let acknowledged = whole_log(&*world.store).await.len();
    let mut image = Image::of(&world.path());
    // The last frame is the end of the last transaction.
    image.log.truncate(image.log.len() - 1);
    assert_eq!(reopened(&image, &mut draw).await.len(), acknowledged - 1);
}

/// Reads a setting of the writer's connection.
struct Setting(&'static str, String);

#[async_trait::async_trait]
impl WriterJob for Setting {
    async fn run(&mut self, connection: &mut SqlConnection<'_>) -> Result<(), sqlx::Error> {
        let connection = connection.sqlite()?;
        let sql = format!("SELECT CAST({0} AS TEXT) FROM pragma_{0}", self.0);
        self.1 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?;
        Ok(())
    }
}

#[tokio::test]
async fn the_writer_syncs_each_commit() {
    let world = World::new().await;
    for (name, value) in [("synchronous", "2"), ("journal_mode", "wal")] {
        let setting = world.store.run_on_writer(Setting(name, String::new())).await.expect("it can be read");
        assert_eq!(setting.1, value, "{name}");
    }
    let before = world.store.fsyncs();
    play_step(&*world.store, (0, 0, 0)).await;
    assert_eq!(world.store.fsyncs(), before + 1);
}
