//! A world on one provider in which servers die: what was asked and answered in it, and the audit behind each death.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lease_events::id::RunId;
use lease_events::lease::vocabulary::LeaseStatus;
use lease_events::record::RecordedEvent;
use lease_events::seam::crash::CrashPoint;
use lease_events::seam::{Clock, SystemClock};
use lease_ledger::cli::settings::DEFAULT_COMPANY;
use lease_ledger::http::wire::lease::{Lease, LeaseList};
use serde_json::{Value, json};

use super::audit;
use super::keeping::Keeping;
use super::program::{Answer, Ask, Home, Server, say, was_killed};
use super::sites::{Site, Trouble};

/// How long a server may take to die at its point, or recovery to come to rest: beyond any of them.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long recovery may take to ask a provider, a worker of which is started first.
const ASKING: chrono::TimeDelta = chrono::TimeDelta::seconds(2);
/// How many are told again at once.
const TOLD_AT_ONCE: usize = 16;
/// What is due later than this is waited for by nobody: everything is told again before.
const SOON: chrono::TimeDelta = chrono::TimeDelta::seconds(10);

/// How what is in doubt may be answered when it is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is done.
    Done,
    /// It may be refused too.
    Anything,
    /// Nobody knows what came of it, and nobody ever will.
    Unknown,
}

/// A world.
pub(super) struct Stage {
    pub(super) site: Site,
    pub(super) home: Home,
    server: Option<Server>,
    /// How often a server was started behind another one.
    pub(super) restarts: u32,
    /// Makes keys, names and runs unique.
    count: u32,
    /// What was asked and answered: told again, it is answered the same.
    answered: Vec<(Ask, Answer)>,
    /// What was asked, of which nobody knows what came.
    doubtful: Vec<Ask>,
    /// The log as it was at the last look.
    log: Vec<RecordedEvent>,
    /// What somebody removed behind the ledger's back: it may not have noticed yet.
    lost: BTreeSet<String>,
    /// What recovery finds later than anybody waits here: its lease is on record as unknown.
    later: BTreeSet<String>,
}

impl Stage {
    pub(super) fn new(site: Site, keeping: Keeping) -> Self {
        let home = Home::new(keeping);
        site.install(home.path());
        let (answered, doubtful, log) = (Vec::new(), Vec::new(), Vec::new());
        let (lost, later) = (BTreeSet::new(), BTreeSet::new());
        Self { site, home, server: None, restarts: 0, count: 0, answered, doubtful, log, lost, later }
    }

    /// A number that nobody had before.
    pub(super) fn next(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    /// A command under a key of its own.
    pub(super) fn command(&mut self, method: &'static str, path: String, mut body: Value) -> Ask {
        body["companyId"] = DEFAULT_COMPANY.into();
        let key = Some(format!("key-{}", self.next()));
        Ask { method, path, key, body }
    }

    /// Asks the server that lives; it answers well.
    pub(super) fn done(&mut self, ask: Ask) -> Value {
        let answer = self.server().ask(&ask).unwrap_or_else(|error| panic!("{ask:?}: {error}"));
        assert!(matches!(answer.status, 200 | 201), "{ask:?}: {answer:?}");
        let body = answer.body.clone();
        self.answered.push((ask, answer));
        body
    }

    pub(super) fn create_environment(&mut self, config: &Value) -> Ask {
        let name = format!("environment-{}", self.next());
        let body = json!({ "name": name, "driver": "sandbox", "config": config });
        self.command("POST", "/v1/environments".to_owned(), body)
    }

    /// An environment of this provider; answers its id.
    pub(super) fn environment(&mut self, reuse: bool, trouble: Trouble) -> String {
        let config = self.site.config(self.home.path(), reuse, trouble);
        let ask = self.create_environment(&config);
        text(&self.done(ask)["id"])
    }

    /// An acquire of a new run.
    pub(super) fn acquire_in(&mut self, environment: &str) -> Ask {
        let run = RunId::derived(&[&self.next().to_string()]);
        self.command("POST", "/v1/leases".to_owned(), json!({ "environmentId": environment, "runId": run }))
    }

    /// The lease of a new run.
    pub(super) fn lease_in(&mut self, environment: &str) -> Value {
        let ask = self.acquire_in(environment);
        self.done(ask)["lease"].take()
    }

    /// A command of the holder of a lease.
    pub(super) fn on_lease(&mut self, lease: &Value, operation: &str, mut body: Value) -> Ask {
        body["fencingToken"] = lease["fencingToken"].clone();
        self.command("POST", format!("/v1/leases/{}/{operation}", text(&lease["id"])), body)
    }

    /// The server, started where none lives.
    pub(super) fn server(&mut self) -> &Server {
        if self.server.is_none() {
            let started = self.home.start(None).unwrap_or_else(|died| panic!("{died:?}:\n{}", self.home.logged()));
            self.restarts += u32::from(self.count > 0);
            self.server = Some(started);
        }
        self.server.as_ref().expect("started above")
    }

    /// Hands the server out, to somebody who kills it.
    pub(super) fn take_server(&mut self) -> Server {
        self.server();
        self.server.take().expect("started above")
    }

    /// Takes a server on the same folder.
    pub(super) fn put_server(&mut self, server: Server) {
        self.server = Some(server);
    }

    /// What others were told.
    pub(super) fn was_answered(&mut self, answered: Vec<(Ask, Answer)>) {
        self.answered.extend(answered);
    }

    /// What the log holds.
    pub(super) fn tally(&self) -> String {
        let count = |event_type: &str| self.log.iter().filter(|one| &*one.event_type == event_type).count();
        let of = ["lease-requested", "lease-resumed", "lease-effect-unknown", "lease-cleanup-failed", "lease-released"];
        let counts: Vec<String> = of.iter().map(|event_type| format!("{} {event_type}", count(event_type))).collect();
        format!("{} events ({})", self.log.len(), counts.join(", "))
    }

    /// Loses a sandbox, as if somebody had removed it behind everybody's back.
    pub(super) fn lose(&mut self, provider_lease_id: &str) {
        self.site.remove(self.home.path(), provider_lease_id);
        self.lost.insert(provider_lease_id.to_owned());
    }

    /// What is there now of leases that are on record as unknown is found later.
    pub(super) fn expect_later(&mut self) -> Result<(), String> {
        let things = self.site.things(self.home.path());
        let told = audit::fold(self.home.log())?;
        let unknown = told.leases.values().filter(|lease| lease.status == LeaseStatus::EffectUnknown);
        let names = unknown.map(|lease| self.site.provider_lease_id(&lease.lease_id.to_string()));
        self.later.extend(names.filter(|name| things.contains(name)));
        Ok(())
    }

    /// Kills the server that lives.
    pub(super) fn down(&mut self) {
        if let Some(server) = self.server.take() {
            assert!(was_killed(server.kill()));
        }
    }

    /// Starts a server that dies at `point`, asks it, and waits for its death.
    pub(super) fn die_at(&mut self, point: CrashPoint, ask: &Ask) -> Result<(), String> {
        self.down();
        self.restarts += 1;
        let mut server = match self.home.start(Some(point)) {
            Ok(server) => server,
            Err(died) if was_killed(died.0) => {
                self.doubtful.push(ask.clone());
                return Ok(());
            }
            Err(died) => return Err(format!("the server ended by itself: {died:?}\n{}", self.home.logged())),
        };
        let answer = server.ask(ask);
        let Some(status) = server.ended(PATIENCE) else {
            return Err(format!("the server did not get to {point}; it answered {answer:?}"));
        };
        if !was_killed(status) {
            return Err(format!("the server ended with {status}"));
        }
        match answer {
            // What has no key is no command.
            Ok(_) if ask.key.is_none() => {}
            Ok(answer) if matches!(answer.status, 200 | 201) => self.answered.push((ask.clone(), answer)),
            Ok(answer) => return Err(format!("it answered {answer:?}")),
            Err(_) => self.doubtful.push(ask.clone()),
        }
        Ok(())
    }

    /// Waits until recovery has nothing to do any more that is due soon.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        let since = Instant::now();
        loop {
            self.pass()?;
            let path = "/v1/leases?limit=1000".to_owned();
            let listed = self.server().ask(&Ask { method: "GET", path, key: None, body: Value::Null });
            let listed = listed.map_err(|error| format!("the list of leases: {error}"))?;
            let listed: LeaseList = serde_json::from_value(listed.body).map_err(|error| error.to_string())?;
            let (now, things) = (SystemClock.now(), self.site.things(self.home.path()));
            let name = |lease: &Lease| self.site.provider_lease_id(&lease.id.to_string());
            let is_own = |lease: &Lease| things.contains(&name(lease)) && !self.later.contains(&name(lease));
            // What a lease has claimed is there under the name of the one that gave it up.
            let is_claimed = |lease: &Lease| {
                let mut given = listed.leases.iter().filter(|other| other.claimed_by == Some(lease.id));
                given.any(|other| things.contains(&name(other)))
            };
            let is_there = |lease: &Lease| is_own(lease) || is_claimed(lease);
            let busy = listed.leases.iter().filter(|lease| is_busy(lease, is_there(lease), now));
            let busy: Vec<&Lease> = busy.collect();
            if busy.is_empty() && self.nothing_runs()? {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("recovery does not come to rest: {busy:#?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the end of every command in a workspace is on record: nobody runs one while recovery is waited for.
    fn nothing_runs(&self) -> Result<bool, String> {
        let told = audit::fold(self.home.log())?;
        Ok(told.leases.values().all(|lease| lease.running.is_empty()))
    }

    /// One pass of recovery.
    fn pass(&mut self) -> Result<(), String> {
        let path = "/v1/recovery/passes".to_owned();
        let pass = self.server().ask(&Ask { method: "POST", path, key: None, body: json!({}) });
        match pass {
            Ok(Answer { status: 200, .. }) => Ok(()),
            other => Err(format!("a pass of recovery: {other:?}")),
        }
    }

    /// Recovers, audits, and tells everything again.
    pub(super) fn settle(&mut self, doubtful_is: Told) -> Result<(), String> {
        self.site.clear(self.home.path());
        self.recover()?;
        self.audit()?;
        let before = self.traces()?;
        let answered = std::mem::take(&mut self.answered);
        self.tell_all_again(&answered)?;
        self.check_quiet(&before)?;
        let doubtful = std::mem::take(&mut self.doubtful);
        for ask in doubtful.iter().filter(|ask| ask.key.is_some()) {
            let answer = self.server().ask(ask).map_err(|error| format!("{ask:?}: {error}"))?;
            let is_right = match doubtful_is {
                Told::Done => matches!(answer.status, 200 | 201),
                Told::Anything => true,
                Told::Unknown => answer.body["code"] == "outcome-unknown",
            };
            if !is_right {
                return Err(format!("{ask:?} is answered {answer:?}"));
            }
            self.recover()?;
            let before = self.traces()?;
            let answered = (ask.clone(), answer);
            self.tell_all_again(std::slice::from_ref(&answered))?;
            self.check_quiet(&before)?;
            self.answered.push(answered);
            self.audit()?;
            self.answered.clear();
        }
        Ok(())
    }

    /// Asks everything again, many at once, before anything else falls due; it is answered the same.
    fn tell_all_again(&mut self, answered: &[(Ask, Answer)]) -> Result<(), String> {
        let address = self.server().address();
        let told = |part: &[(Ask, Answer)]| part.iter().try_for_each(|(ask, before)| tell_again(address, ask, before));
        std::thread::scope(|scope| {
            let parts = answered.chunks(answered.len().div_ceil(TOLD_AT_ONCE).max(1));
            let telling: Vec<_> = parts.map(|part| scope.spawn(move || told(part))).collect();
            telling.into_iter().try_for_each(|telling| telling.join().expect("it does not panic"))
        })
    }

    /// What an effect would leave: the head of the log, and the provider's journal.
    fn traces(&mut self) -> Result<(u64, Vec<Value>), String> {
        let ask = Ask { method: "GET", path: "/v1/ledger".to_owned(), key: None, body: Value::Null };
        let ledger = self.server().ask(&ask).map_err(|error| error.to_string())?;
        let head = ledger.body["position"].as_u64().ok_or_else(|| ledger.body.to_string())?;
        Ok((head, self.site.journal(self.home.path())))
    }

    /// What was told again did nothing.
    fn check_quiet(&mut self, before: &(u64, Vec<Value>)) -> Result<(), String> {
        if self.traces()? == *before {
            return Ok(());
        }
        let log = self.home.log();
        let behind = log.iter().filter(|one| one.position.0 > before.0).collect::<Vec<_>>();
        // An execute is answered though its store was away, or had fenced it off, and could not keep that it is done; its
        // first repetition does so.
        let is_note =
            |one: &&RecordedEvent| &*one.event_type == "command-completed" && one.data.contains("\"exitCode\"");
        if behind.iter().all(is_note) && self.site.journal(self.home.path()) == before.1 {
            return Ok(());
        }
        Err(format!("what was told again did something at the provider, or here: {behind:#?}"))
    }

    /// Looks whether all holds that must.
    pub(super) fn audit(&mut self) -> Result<(), String> {
        let told = audit::fold(self.home.log())?;
        told.check_keeps(&self.log)?;
        told.check_once()?;
        told.check_things(self.site, self.home.path(), &self.lost, &self.later)?;
        for (_, answer) in &self.answered {
            told.check_acknowledged(answer)?;
        }
        for lease in told.leases.keys().map(ToString::to_string) {
            let made = self.site.made(self.home.path(), &lease);
            if made > 1 {
                return Err(format!("{lease} was made {made} times"));
            }
            let ran = self.site.ran(self.home.path(), &lease);
            if ran > 1 {
                return Err(format!("the command of {lease} was run {ran} times"));
            }
        }
        audit::check_projections(self.server())?;
        self.log = told.log;
        Ok(())
    }
}

/// What of an answer is the same for ever: all but a command's output, and the words of a refusal.
pub(super) fn said(answer: &Answer) -> (u16, Value) {
    let mut body = answer.body.clone();
    if answer.status >= 400 {
        return (answer.status, body["code"].take());
    }
    for output in ["stdout", "stderr"] {
        if let Some(text) = body.get_mut(output) {
            *text = Value::Null;
        }
    }
    (answer.status, body)
}

/// Asks again; it is answered the same.
fn tell_again(address: &str, ask: &Ask, before: &Answer) -> Result<(), String> {
    let now = say(address, ask).map_err(|error| format!("{ask:?}: {error}"))?;
    if said(&now) == said(before) {
        return Ok(());
    }
    Err(format!("{ask:?} was answered {before:?}, and now {now:?}"))
}

/// Whether recovery has to do with a lease; `is_there` is whether the provider has something of it.
fn is_busy(lease: &Lease, is_there: bool, now: DateTime<Utc>) -> bool {
    match (lease.status, &lease.next_action) {
        (LeaseStatus::Requested | LeaseStatus::Releasing, _) => true,
        // What is there is found at once; that nothing is there is believed only after a while. Whoever has just said that
        // it settles this may be asking the provider still.
        (LeaseStatus::EffectUnknown, _) if is_there || lease.updated_at.0 > now - ASKING => true,
        (_, Some(next)) => next.at.is_some_and(|at| at.0 < now + SOON),
        (_, None) => false,
    }
}

/// The text of a value.
#[track_caller]
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
