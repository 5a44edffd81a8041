//! The storm: many clients with a seeded workload, a provider with faults, and servers that are killed, or paused until
//! others have taken over, at random moments under them. Clients ask again under the same key, and whichever server, until
//! they are answered, as real ones do. Then the audit.
//!
//! The seed decides what each client asks and when the kills come; how the machine weaves them together it cannot decide,
//! so that a seed that failed is a good start, and no certainty.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lease_events::id::RunId;
use lease_ledger::cli::settings::DEFAULT_COMPANY;
use serde_json::{Value, json};

use super::keeping::Keeping;
use super::program::{Answer, Ask, Home, Server, say, was_killed};
use super::sites::Site;
use super::stage::{Stage, Told, text};

/// How many kills there are, where they are not those of the test command.
const KILLS: &str = "LEASE_LEDGER_TEST_STORM_KILLS";
/// What decides everything.
const SEED: &str = "LEASE_LEDGER_TEST_STORM_SEED";
/// Kills in the test command: a few seconds.
const KILLS_DEFAULT: u32 = 10;
const SEED_DEFAULT: u64 = 1;

const CLIENTS: u64 = 4;
/// A server lives so long, in milliseconds: from not long enough for one command to long enough for dozens.
const LIFE_MS: std::ops::Range<u64> = 1..300;
/// Servers on one database.
const LEDGERS: usize = 3;
/// One strike in so many is a pause, where others can take over meanwhile.
const PAUSE_IN: usize = 3;
/// A paused server stands still so long, in milliseconds: below and beyond the time that its sign of life counts.
const PAUSE_MS: std::ops::Range<u64> = 50..1_500;
/// How long servers may take to find out which of them are dead, and one for which others have taken over to end.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(3);
/// How long a client goes on asking before the server counts as gone for good.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often an answer that says that nobody knows yet is asked for again.
const UNKNOWN_ASKED: u32 = 3;

/// The environments: what is wrong with each.
fn environments() -> Vec<Value> {
    [
        json!({}),
        json!({ "acquireDelayMs": 20, "releaseDelayMs": 20 }),
        json!({ "reuseLease": true }),
        json!({ "reuseLease": true, "resumeDelayMs": 20, "releaseDelayMs": 5 }),
        json!({ "reuseLease": true, "failResume": "refused" }),
        json!({ "reuseLease": true, "failResume": "gone" }),
        json!({ "failAcquire": "unknown-after", "acquireDelayMs": 5 }),
        json!({ "failAcquire": "unknown" }),
        json!({ "failRelease": "not-done" }),
        json!({ "failRelease": "unknown-after" }),
        json!({ "failRelease": "refused", "failDestroy": "refused" }),
        json!({ "expiresInMs": 60 }),
        json!({ "reuseLease": true, "expiresInMs": 100 }),
    ]
    .into_iter()
    .map(|mut config| {
        config["provider"] = "fake".into();
        config
    })
    .collect()
}

/// Numbers that a seed decides (splitmix64).
struct Dice(u64);

impl Dice {
    /// Those of one part of the storm.
    fn of(seed: u64, part: u64) -> Self {
        let mut dice = Self(seed ^ part.wrapping_mul(0xA076_1D64_78BD_642F));
        dice.throw();
        dice
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.throw() % limit as u64).expect("below a usize")
    }
}

/// What the clients share.
struct Shared<'a> {
    addresses: &'a Mutex<Vec<String>>,
    over: &'a AtomicBool,
    environments: &'a [String],
}

/// One client: its leases, and what it was told.
struct Client<'a> {
    number: u64,
    shared: Shared<'a>,
    dice: Dice,
    asked: u32,
    held: Vec<Value>,
    answered: Vec<(Ask, Answer)>,
    /// Statuses of refusals, counted.
    refused: BTreeMap<String, u32>,
}

impl Client<'_> {
    fn run(mut self) -> Self {
        while !self.shared.over.load(Ordering::SeqCst) {
            match self.dice.below(10) {
                0..=3 => self.acquire(),
                4..=8 if !self.held.is_empty() => self.change(),
                9 if !self.answered.is_empty() => self.again(),
                _ => {}
            }
        }
        self
    }

    fn command(&mut self, path: String, mut body: Value) -> Ask {
        self.asked += 1;
        body["companyId"] = DEFAULT_COMPANY.into();
        Ask { method: "POST", path, key: Some(format!("client-{}-{}", self.number, self.asked)), body }
    }

    /// Asks until it is answered, and for a while until it is known.
    fn told(&mut self, ask: &Ask) -> Answer {
        let since = Instant::now();
        let mut unknown = 0;
        loop {
            let address = {
                let addresses = self.shared.addresses.lock().expect("nobody panics with it");
                addresses[self.dice.below(addresses.len())].clone()
            };
            match say(&address, ask) {
                Ok(answer) if answer.body["code"] == "outcome-unknown" && unknown < UNKNOWN_ASKED => unknown += 1,
                // 503: it stops, or its store is away, or it has been taken for dead.
                Ok(answer) if answer.status != 503 => return answer,
                _ => {}
            }
            assert!(since.elapsed() < PATIENCE, "nobody answers {ask:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks, and keeps what it is told; answers what it was told well.
    fn done(&mut self, ask: Ask) -> Option<Value> {
        let answer = self.told(&ask);
        if !matches!(answer.status, 200 | 201) {
            *self.refused.entry(answer.body["code"].to_string()).or_default() += 1;
            return None;
        }
        let body = answer.body.clone();
        self.answered.push((ask, answer));
        Some(body)
    }

    fn acquire(&mut self) {
        let environment = &self.shared.environments[self.dice.below(self.shared.environments.len())];
        let run = RunId::derived(&[&self.number.to_string(), &self.asked.to_string()]);
        let ask = self.command("/v1/leases".to_owned(), json!({ "environmentId": environment, "runId": run }));
        if let Some(mut body) = self.done(ask) {
            self.held.push(body["lease"].take());
        }
    }

    /// Does something with a lease that it holds, as far as it knows.
    fn change(&mut self) {
        let at = self.dice.below(self.held.len());
        let operation = self.dice.below(8);
        let lease = if operation < 5 { self.held.swap_remove(at) } else { self.held[at].clone() };
        let token = lease["fencingToken"].clone();
        let on = |operation: &str| format!("/v1/leases/{}/{operation}", text(&lease["id"]));
        let ask = match operation {
            0..=2 => self.command(on("release"), json!({ "fencingToken": token })),
            3 => self.command(on("destroy"), json!({ "fencingToken": token })),
            4 => self.command(format!("/v1/runs/{}/release", text(&lease["runId"])), json!({})),
            5 => self.command(on("renew"), json!({ "fencingToken": token, "expiresAt": "2100-01-01T00:00:00Z" })),
            6 => self.command(on("realize"), json!({ "fencingToken": token })),
            _ => self.command(on("execute"), json!({ "fencingToken": token, "command": "echo", "args": ["hello"] })),
        };
        self.done(ask);
    }

    /// Asks again what was answered long ago.
    fn again(&mut self) {
        let (ask, before) = self.answered[self.dice.below(self.answered.len())].clone();
        let now = self.told(&ask);
        let (told, before) = (super::stage::said(&now), super::stage::said(&before));
        assert!(told == before, "{ask:?} was answered {before:?}, and now {told:?}");
    }
}

/// The servers of a storm, which are struck one after the other.
pub(super) struct Fleet<'a> {
    home: &'a Home,
    servers: Vec<Server>,
    addresses: &'a Mutex<Vec<String>>,
    dice: Dice,
    /// Servers that ended by themselves, since another had taken over.
    stepped_down: u32,
}

impl Fleet<'_> {
    /// Kills or pauses one of them, so many times.
    fn strike(&mut self, kills: u32) {
        for _ in 0..kills {
            std::thread::sleep(self.moment(&LIFE_MS));
            for at in 0..self.servers.len() {
                if let Some(status) = self.servers[at].ended(Duration::ZERO) {
                    assert!(!status.success() && !was_killed(status), "a server ended with {status}");
                    self.stepped_down += 1;
                    self.replace(at);
                }
            }
            let at = self.dice.below(self.servers.len());
            if self.servers.len() > 1 && self.dice.below(PAUSE_IN) == 0 {
                let pause = self.moment(&PAUSE_MS);
                self.servers[at].pause(pause);
            } else {
                self.replace(at);
            }
        }
    }

    /// A time that the seed decides.
    pub(super) fn moment(&mut self, range: &std::ops::Range<u64>) -> Duration {
        let span = usize::try_from(range.end - range.start).expect("milliseconds");
        Duration::from_millis(range.start + self.dice.below(span) as u64)
    }

    /// Kills a server, and starts another in its place.
    fn replace(&mut self, at: usize) {
        let next = |home: &Home| home.start(None).unwrap_or_else(|died| panic!("{died:?}:\n{}", home.logged()));
        self.servers.remove(at).kill();
        let server = next(self.home);
        server.address().clone_into(&mut self.addresses.lock().expect("nobody panics with it")[at]);
        self.servers.insert(at, server);
    }
}

/// A storm over so many ledgers, whose blows are dealt while clients ask; then the audit.
pub(super) fn storm(
    keeping: Keeping,
    ledgers: usize,
    seed: u64,
    deal: impl FnOnce(&mut Fleet<'_>),
) -> Result<String, String> {
    let since = Instant::now();
    let mut stage = Stage::new(Site::Fake, keeping);
    let environments: Vec<String> = environments()
        .into_iter()
        .map(|config| {
            let ask = stage.create_environment(&config);
            text(&stage.done(ask)["id"])
        })
        .collect();
    let mut servers = vec![stage.take_server()];
    while servers.len() < ledgers {
        let started = stage.home.start(None);
        servers.push(started.unwrap_or_else(|died| panic!("{died:?}:\n{}", stage.home.logged())));
    }
    let addresses = Mutex::new(servers.iter().map(|server| server.address().to_owned()).collect());
    let (over, dice) = (AtomicBool::new(false), Dice::of(seed, CLIENTS));
    let mut fleet = Fleet { home: &stage.home, servers, addresses: &addresses, dice, stepped_down: 0 };
    let clients = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let shared = Shared { addresses: &addresses, over: &over, environments: &environments };
                let (dice, held, answered) = (Dice::of(seed, number), Vec::new(), Vec::new());
                let client = Client { number, shared, dice, asked: 0, held, answered, refused: BTreeMap::new() };
                scope.spawn(|| client.run())
            })
            .collect();
        deal(&mut fleet);
        over.store(true, Ordering::SeqCst);
        let clients: Result<Vec<_>, _> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        clients.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    });
    let (mut servers, stepped_down) = (fleet.servers, fleet.stepped_down);
    if servers.len() > 1 {
        // One that was paused last steps down soon, where others have taken over; one of those goes on.
        std::thread::sleep(FOUND_OUT_WITHIN);
        servers.retain_mut(|server| server.ended(Duration::ZERO).is_none());
        // It finds out that the others are dead, and takes over what they had in hand.
        servers.truncate(1);
        std::thread::sleep(FOUND_OUT_WITHIN);
    }
    stage.put_server(servers.swap_remove(0));
    let mut refused: BTreeMap<String, u32> = BTreeMap::new();
    let mut answers = 0;
    for client in clients? {
        answers += client.answered.len();
        client.refused.into_iter().for_each(|(code, count)| *refused.entry(code).or_default() += count);
        stage.was_answered(client.answered);
    }
    stage.settle(Told::Done)?;
    let seconds = since.elapsed().as_secs_f64();
    Ok(format!(
        "{ledgers} ledgers, {stepped_down} stepped down, seed {seed}: {answers} answers, {} in {seconds:.1} s; refused {refused:?}",
        stage.tally()
    ))
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not \"{text}\"")))
}

fn brave(keeping: Keeping, ledgers: usize) {
    let (kills, seed) = (variable(KILLS).unwrap_or(KILLS_DEFAULT), variable(SEED).unwrap_or(SEED_DEFAULT));
    match storm(keeping, ledgers, seed, |fleet| fleet.strike(kills)) {
        Ok(told) => println!("{told}"),
        Err(fault) => panic!("{fault}\nReplay with: cargo xtask storm --kills {kills} --seed {seed}"),
    }
}

#[test]
fn a_storm_of_kills_leaks_loses_and_doubles_nothing() {
    brave(Keeping::Sqlite, 1);
}

#[test]
fn a_storm_of_kills_and_pauses_over_three_ledgers_on_postgres_leaks_loses_and_doubles_nothing() {
    brave(Keeping::Postgres, LEDGERS);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_storm_of_kills_on_kurrentdb_leaks_loses_and_doubles_nothing() {
    brave(Keeping::Kurrent, 1);
}

#[cfg(feature = "kurrentdb")]
#[test]
fn a_storm_of_kills_and_pauses_over_three_ledgers_on_kurrentdb_leaks_loses_and_doubles_nothing() {
    brave(Keeping::KurrentShared, LEDGERS);
}
