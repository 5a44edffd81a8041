//! The commands of the matrix: for each what it needs, what is asked, and which steps it takes. At both sides of each step a
//! server dies.

use chrono::TimeDelta;
use lease_events::id::{LeaseId, RunId};
use lease_events::seam::crash::{CrashPoint, Side, Step};
use lease_events::seam::{Clock, SystemClock};
use serde_json::{Value, json};

use super::program::Ask;
use super::sites::{Site, Trouble};
use super::stage::{Stage, text};

/// Which of the matrix's tests a scene is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// What makes something that can leak.
    Acquires,
    /// What ends it.
    Ends,
    /// What is done in between.
    Work,
    /// What asks a provider, and makes nothing there.
    Questions,
    /// What touches no provider: one stands for all.
    Care,
    /// What recovery does.
    Recovery,
}

/// A command.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) group: Group,
    /// The providers that it can be played on.
    pub(super) sites: &'static [Site],
    pub(super) steps: &'static [Step],
    /// Makes what the command needs, and answers the command.
    pub(super) prepare: fn(&mut Stage) -> Result<Ask, String>,
    /// Where it may be refused when it is told again: what it asks for was found to be impossible meanwhile.
    pub(super) may_refuse: &'static [Site],
    /// The points behind which nobody will ever know what came of it, which is what it is told from then on.
    pub(super) unknown_behind: &'static [CrashPoint],
    /// Why it is not played on every provider; empty where it is, or touches none.
    pub(super) because: &'static str,
}

const PLAIN: Scene = Scene {
    name: "",
    group: Group::Care,
    sites: &[Site::Fake],
    steps: &[],
    prepare: |_| Err("a scene says what is asked".to_owned()),
    may_refuse: &[],
    unknown_behind: &[],
    because: "",
};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "acquire",
        group: Group::Acquires,
        sites: &Site::ALL,
        steps: &[
            Step::OnceAccept,
            Step::AcquireIntent,
            Step::AcquireEffect,
            Step::AcquireOutcome,
            Step::OnceComplete,
            Step::CommandReply,
        ],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            Ok(stage.acquire_in(&environment))
        },
        // Where the provider cannot confirm absence, it stays unknown whether something was made.
        may_refuse: &[Site::Worker],
        ..PLAIN
    },
    Scene {
        name: "acquire, reused",
        group: Group::Acquires,
        sites: &Site::ALL,
        steps: &[
            Step::OnceAccept,
            Step::AcquireIntent,
            Step::AcquireClaim,
            Step::AcquireDecision,
            Step::AcquireResume,
            Step::AcquireOutcome,
            Step::OnceComplete,
            Step::CommandReply,
        ],
        prepare: |stage| {
            let (environment, _) = kept(stage);
            Ok(stage.acquire_in(&environment))
        },
        may_refuse: &[Site::Worker],
        ..PLAIN
    },
    Scene {
        name: "acquire, reused in vain",
        group: Group::Acquires,
        sites: &Site::ALL,
        steps: &[
            Step::AcquireIntent,
            Step::AcquireClaim,
            Step::AcquireDecision,
            Step::AcquireResume,
            Step::AcquireGiveBack,
            Step::AcquireEffect,
            Step::AcquireOutcome,
            Step::OnceComplete,
            Step::CommandReply,
        ],
        prepare: |stage| {
            let (environment, thing) = kept(stage);
            stage.lose(&thing);
            Ok(stage.acquire_in(&environment))
        },
        may_refuse: &Site::ALL,
        ..PLAIN
    },
    Scene {
        name: "acquire, refused",
        group: Group::Acquires,
        sites: &Site::ALL,
        steps: &[Step::OnceAccept, Step::AcquireIntent, Step::AcquireEffect, Step::AcquireOutcome, Step::CommandReply],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::Acquire);
            stage.site.obstruct_making(stage.home.path());
            Ok(stage.acquire_in(&environment))
        },
        may_refuse: &Site::ALL,
        ..PLAIN
    },
    Scene {
        name: "release",
        group: Group::Ends,
        sites: &Site::ALL,
        steps: ENDING,
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            let lease = stage.lease_in(&environment);
            Ok(stage.on_lease(&lease, "release", json!({})))
        },
        ..PLAIN
    },
    Scene {
        name: "release, kept",
        group: Group::Ends,
        sites: &Site::ALL,
        steps: ENDING,
        prepare: |stage| {
            let environment = stage.environment(true, Trouble::None);
            let lease = stage.lease_in(&environment);
            Ok(stage.on_lease(&lease, "release", json!({})))
        },
        ..PLAIN
    },
    Scene {
        name: "destroy",
        group: Group::Ends,
        sites: &Site::ALL,
        steps: &[
            Step::OnceAccept,
            Step::DestroyIntent,
            Step::DestroyEffect,
            Step::DestroyOutcome,
            Step::OnceComplete,
            Step::CommandReply,
        ],
        prepare: |stage| {
            let environment = stage.environment(true, Trouble::None);
            let lease = stage.lease_in(&environment);
            Ok(stage.on_lease(&lease, "destroy", json!({})))
        },
        ..PLAIN
    },
    Scene {
        name: "release of a run",
        group: Group::Ends,
        sites: &Site::ALL,
        steps: &[
            Step::OnceAccept,
            Step::ReleaseRunIntent,
            Step::ReleaseIntent,
            Step::ReleaseEffect,
            Step::ReleaseOutcome,
            Step::OnceComplete,
            Step::CommandReply,
        ],
        prepare: |stage| {
            let environments = [stage.environment(false, Trouble::None), stage.environment(true, Trouble::None)];
            let lease = stage.lease_in(&environments[0]);
            let mut second = stage.acquire_in(&environments[1]);
            second.body["runId"] = lease["runId"].clone();
            stage.done(second);
            Ok(stage.command("POST", format!("/v1/runs/{}/release", text(&lease["runId"])), json!({})))
        },
        ..PLAIN
    },
    Scene {
        name: "realize",
        group: Group::Work,
        sites: &Site::ALL,
        steps: &[Step::OnceAccept, Step::RealizeEffect, Step::RealizeOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| Ok(on_a_lease(stage, "realize", json!({}))),
        ..PLAIN
    },
    Scene {
        name: "execute",
        group: Group::Work,
        sites: &Site::ALL,
        steps: &[
            Step::OnceAccept,
            Step::ExecuteIntent,
            Step::ExecuteEffect,
            Step::ExecuteOutcome,
            Step::OnceComplete,
            Step::CommandReply,
        ],
        prepare: |stage| {
            let (command, args) = stage.site.command();
            Ok(on_a_lease(stage, "execute", json!({ "command": command, "args": args })))
        },
        unknown_behind: &[
            after(Step::ExecuteIntent),
            before(Step::ExecuteEffect),
            after(Step::ExecuteEffect),
            before(Step::ExecuteOutcome),
        ],
        ..PLAIN
    },
    Scene {
        name: "renew",
        group: Group::Work,
        sites: &Site::ALL,
        steps: &[Step::OnceAccept, Step::RenewOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| Ok(on_a_lease(stage, "renew", json!({ "expiresAt": "2100-01-01T00:00:00Z" }))),
        ..PLAIN
    },
    Scene {
        name: "resume",
        group: Group::Work,
        sites: &Site::ALL,
        steps: &[Step::OnceAccept, Step::ResumeEffect, Step::ResumeOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| Ok(on_a_lease(stage, "resume", json!({}))),
        ..PLAIN
    },
    Scene {
        name: "environment create",
        group: Group::Questions,
        sites: &Site::ALL,
        steps: ON_AN_ENVIRONMENT,
        prepare: |stage| {
            let config = stage.site.config(stage.home.path(), true, Trouble::None);
            Ok(stage.create_environment(&config))
        },
        ..PLAIN
    },
    Scene {
        name: "environment update",
        group: Group::Questions,
        sites: &Site::ALL,
        steps: ON_AN_ENVIRONMENT,
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            let config = stage.site.config(stage.home.path(), true, Trouble::None);
            Ok(stage.command("PATCH", format!("/v1/environments/{environment}"), json!({ "config": config })))
        },
        ..PLAIN
    },
    Scene {
        name: "environment archive",
        steps: ON_AN_ENVIRONMENT,
        prepare: |stage| Ok(on_an_environment(stage, "archive")),
        ..PLAIN
    },
    Scene {
        name: "environment probe",
        group: Group::Questions,
        sites: &Site::ALL,
        steps: &[Step::OnceAccept, Step::ProbeEffect, Step::EnvironmentOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| Ok(on_an_environment(stage, "probe")),
        ..PLAIN
    },
    Scene {
        name: "heartbeat",
        steps: &[Step::HeartbeatOutcome, Step::CommandReply],
        prepare: |stage| {
            let run = RunId::derived(&["heartbeat", &stage.next().to_string()]);
            Ok(stage.command("POST", format!("/v1/runs/{run}/heartbeat"), json!({ "timeToLiveMs": 86_400_000 })))
        },
        ..PLAIN
    },
    Scene {
        name: "secret set",
        steps: &[Step::OnceAccept, Step::SecretKeep, Step::SecretOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| Ok(set_secret(stage)),
        ..PLAIN
    },
    Scene {
        name: "secret remove",
        steps: &[Step::OnceAccept, Step::SecretOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| {
            let ask = set_secret(stage);
            let secret = stage.done(ask);
            let id = text(&secret["id"]);
            Ok(stage.command("POST", format!("/v1/secrets/{id}/remove"), json!({})))
        },
        ..PLAIN
    },
    Scene {
        name: "settle an acquire",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::SettleUnknown, Step::SettleEffect, Step::SettleOutcome],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            let acquire = stage.acquire_in(&environment);
            stage.die_at(after(Step::AcquireEffect), &acquire)?;
            Ok(recovery())
        },
        may_refuse: &[Site::Worker],
        ..PLAIN
    },
    Scene {
        name: "settle an acquire that nobody wants",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[
            Step::SettleUnknown,
            Step::SettleEffect,
            Step::SettleIntent,
            Step::SettleOutcome,
            Step::DestroyEffect,
            Step::DestroyOutcome,
        ],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            let mut acquire = stage.acquire_in(&environment);
            // Without a run and without an end nobody will ever release it.
            acquire.body["runId"] = Value::Null;
            stage.die_at(after(Step::AcquireEffect), &acquire)?;
            Ok(recovery())
        },
        may_refuse: &Site::ALL,
        ..PLAIN
    },
    Scene {
        name: "settle a claim",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::SettleDecision, Step::SettleUnknown, Step::SettleEffect, Step::SettleOutcome],
        prepare: |stage| {
            let (environment, _) = kept(stage);
            let acquire = stage.acquire_in(&environment);
            stage.die_at(after(Step::AcquireClaim), &acquire)?;
            Ok(recovery())
        },
        ..PLAIN
    },
    Scene {
        name: "settle a take-over in vain",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::SettleUnknown, Step::SettleEffect, Step::SettleGiveBack, Step::SettleOutcome],
        prepare: |stage| {
            let (environment, thing) = kept(stage);
            let acquire = stage.acquire_in(&environment);
            stage.die_at(before(Step::AcquireResume), &acquire)?;
            stage.lose(&thing);
            Ok(recovery())
        },
        may_refuse: &Site::ALL,
        ..PLAIN
    },
    Scene {
        name: "settle a release",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::SettleIntent, Step::ReleaseEffect, Step::ReleaseOutcome],
        prepare: |stage| {
            let release = on_a_lease(stage, "release", json!({}));
            stage.die_at(before(Step::ReleaseEffect), &release)?;
            Ok(recovery())
        },
        ..PLAIN
    },
    Scene {
        name: "settle a destroy",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::SettleIntent, Step::DestroyEffect, Step::DestroyOutcome],
        prepare: |stage| {
            let destroy = on_a_lease(stage, "destroy", json!({}));
            stage.die_at(after(Step::DestroyEffect), &destroy)?;
            Ok(recovery())
        },
        ..PLAIN
    },
    Scene {
        name: "expiry",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::ReleaseIntent, Step::ReleaseEffect, Step::ReleaseOutcome],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            let mut acquire = stage.acquire_in(&environment);
            // It dies some time after its answer.
            acquire.body["requestedExpiresAt"] = json!(SystemClock.now() + TimeDelta::seconds(1));
            Ok(acquire)
        },
        ..PLAIN
    },
    Scene {
        name: "settle a command",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::SettleCommand],
        prepare: |stage| {
            let (command, args) = stage.site.command();
            let execute = on_a_lease(stage, "execute", json!({ "command": command, "args": args }));
            stage.die_at(after(Step::ExecuteEffect), &execute)?;
            Ok(recovery())
        },
        unknown_behind: &[before(Step::SettleCommand), after(Step::SettleCommand)],
        ..PLAIN
    },
    Scene {
        name: "record what is gone",
        group: Group::Recovery,
        sites: &[Site::Bubblewrap, Site::Fake],
        steps: &[Step::GoneOutcome],
        prepare: |stage| {
            let (_, thing) = kept(stage);
            stage.lose(&thing);
            Ok(reconciliation())
        },
        because: UNASKED,
        ..PLAIN
    },
    Scene {
        name: "reclaim an orphan",
        group: Group::Recovery,
        sites: &[Site::Bubblewrap, Site::Fake],
        steps: &[Step::ReclaimIntent, Step::ReclaimEffect, Step::ReclaimOutcome],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::None);
            let lease = stage.lease_in(&environment);
            stage.down();
            let orphan = LeaseId::derived(&["orphan", &stage.next().to_string()]);
            stage.site.plant(stage.home.path(), &text(&lease["id"]), &orphan.to_string());
            Ok(reconciliation())
        },
        because: UNASKED,
        ..PLAIN
    },
    Scene {
        name: "cleanup",
        group: Group::Recovery,
        sites: &Site::ALL,
        steps: &[Step::CleanupEffect, Step::CleanupOutcome],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::Release);
            let lease = stage.lease_in(&environment);
            stage.site.obstruct_teardown(stage.home.path(), &text(&lease["providerLeaseId"]));
            // It dies some time after its answer.
            Ok(stage.on_lease(&lease, "release", json!({})))
        },
        ..PLAIN
    },
    Scene {
        name: "waive",
        group: Group::Recovery,
        sites: &[Site::Fake, Site::Worker],
        steps: &[Step::OnceAccept, Step::WaiveOutcome, Step::OnceComplete, Step::CommandReply],
        prepare: |stage| {
            let environment = stage.environment(false, Trouble::Teardown);
            let lease = stage.lease_in(&environment);
            let release = stage.on_lease(&lease, "release", json!({}));
            stage.done(release);
            stage.lose(&text(&lease["providerLeaseId"]));
            let path = format!("/v1/leases/{}/cleanup/waive", text(&lease["id"]));
            Ok(stage.command("POST", path, json!({ "reason": "it was seen to be gone" })))
        },
        because: "nothing that bubblewrap holds can be kept from ever being torn down",
        ..PLAIN
    },
];

/// Why a worker's sandboxes are not reconciled here.
const UNASKED: &str = "a worker that nobody has asked for anything since the start lists nothing";

const ENDING: &[Step] = &[
    Step::OnceAccept,
    Step::ReleaseIntent,
    Step::ReleaseEffect,
    Step::ReleaseOutcome,
    Step::OnceComplete,
    Step::CommandReply,
];

const ON_AN_ENVIRONMENT: &[Step] =
    &[Step::OnceAccept, Step::EnvironmentOutcome, Step::OnceComplete, Step::CommandReply];

impl Scene {
    /// The points at which a server dies in it.
    pub(super) fn points(&self) -> impl Iterator<Item = CrashPoint> {
        self.steps.iter().flat_map(|step| [before(*step), after(*step)])
    }
}

const fn before(step: Step) -> CrashPoint {
    CrashPoint { step, side: Side::Before }
}

const fn after(step: Step) -> CrashPoint {
    CrashPoint { step, side: Side::After }
}

/// A reconciliation by hand, which looks twice where something is absent.
fn reconciliation() -> Ask {
    Ask { method: "POST", path: "/v1/reconciliations".to_owned(), key: None, body: json!({}) }
}

/// What recovery does by itself needs no asking; a pass by hand only makes it quicker.
fn recovery() -> Ask {
    Ask { method: "POST", path: "/v1/recovery/passes".to_owned(), key: None, body: json!({}) }
}

/// An environment in which a sandbox is kept for whoever comes; and the sandbox.
fn kept(stage: &mut Stage) -> (String, String) {
    let environment = stage.environment(true, Trouble::None);
    let lease = stage.lease_in(&environment);
    let release = stage.on_lease(&lease, "release", json!({}));
    stage.done(release);
    (environment, text(&lease["providerLeaseId"]))
}

fn on_a_lease(stage: &mut Stage, operation: &str, body: Value) -> Ask {
    let environment = stage.environment(false, Trouble::None);
    let lease = stage.lease_in(&environment);
    stage.on_lease(&lease, operation, body)
}

fn on_an_environment(stage: &mut Stage, operation: &str) -> Ask {
    let environment = stage.environment(false, Trouble::None);
    stage.command("POST", format!("/v1/environments/{environment}/{operation}"), json!({}))
}

fn set_secret(stage: &mut Stage) -> Ask {
    let name = format!("secret-{}", stage.next());
    stage.command("POST", "/v1/secrets".to_owned(), json!({ "name": name, "value": "a value of some length" }))
}
