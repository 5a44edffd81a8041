//! Every refusal reads like a sentence, has a code and a class, and changes nothing.

use lease_events::failure::FailureClass::{self, Conflict, Invalid, NotFound};
use lease_events::id::{CompanyId, EnvironmentId, LeaseId};
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_ledger::commands::acquire::AcquireRequest;
use lease_ledger::commands::authority::Authority;
use lease_ledger::commands::environment::archive::ArchiveEnvironment;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::environment::update::UpdateEnvironment;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::realize::RealizeRequest;
use lease_ledger::drivers::Workspace;
use serde_json::{Value, json};

use crate::support::{Bench, acquire_request, caller, company, fake, operator, release_request, run};

/// A refusal is a sentence that is in the given class and has left the log as it was.
async fn is_refused<T: std::fmt::Debug>(
    bench: &Bench,
    class: FailureClass,
    says: &str,
    command: impl Future<Output = Result<T, CommandError>>,
) {
    let before = bench.ledger.head().await.expect("head");
    let error = command.await.expect_err(says);
    let sentence = error.to_string();
    assert!(sentence.contains(says), "{sentence}");
    assert!(sentence.ends_with('.'), "{sentence}");
    assert_eq!(error.class(), class, "{sentence}");
    assert_eq!(bench.ledger.head().await.expect("head"), before, "{sentence}");
}

fn create(name: &str, driver: &str, config: Value) -> CreateEnvironment {
    CreateEnvironment { company_id: company(), name: name.into(), driver: driver.into(), config }
}

#[tokio::test(start_paused = true)]
async fn environments() {
    let bench = Bench::new();
    let ledger = &bench.ledger;
    let one = bench.environment("one", fake(json!({}))).await;
    let make = |name: &str, driver: &str, config| ledger.create_environment(caller(), create(name, driver, config));
    is_refused(
        &bench,
        Invalid,
        "There is no driver \"docker\"; there are local, sandbox.",
        make("x", "docker", json!({})),
    )
    .await;
    is_refused(&bench, Invalid, "\"name\" must have", make(" x", "local", json!({}))).await;
    is_refused(&bench, Invalid, "The config is not valid", make("x", "sandbox", fake(json!({ "colour": 1 })))).await;
    is_refused(&bench, Invalid, "provider", make("x", "sandbox", json!({ "provider": "moon" }))).await;
    is_refused(&bench, Conflict, "already has an active environment \"one\"", make("one", "sandbox", fake(json!({}))))
        .await;

    let update = UpdateEnvironment {
        company_id: company(),
        environment_id: one.environment_id,
        config: fake(json!({ "acquireDelayMs": 1 })),
        if_revision: Some(7),
    };
    is_refused(&bench, Conflict, "is at revision 0, not 7", ledger.update_environment(caller(), update.clone())).await;
    let elsewhere = UpdateEnvironment { company_id: CompanyId::derived(&["other"]), ..update.clone() };
    is_refused(&bench, NotFound, "There is no environment", ledger.update_environment(caller(), elsewhere)).await;

    let archive =
        ArchiveEnvironment { company_id: company(), environment_id: one.environment_id, note: None, if_revision: None };
    ledger.archive_environment(caller(), archive).await.expect("archived");
    let update = UpdateEnvironment { if_revision: None, ..update };
    is_refused(&bench, Conflict, "Environment \"one\" is not active.", ledger.update_environment(caller(), update))
        .await;
    is_refused(&bench, Conflict, "Environment \"one\" is not active.", bench.acquire(one.environment_id, run(1))).await;
    let again = make("one", "sandbox", fake(json!({}))).await.expect("an archived one leaves its name free");
    assert_ne!(again.environment_id, one.environment_id);
}

#[tokio::test(start_paused = true)]
async fn acquires() {
    let bench = Bench::new();
    let ledger = &bench.ledger;
    let environment_id = bench.environment("one", fake(json!({}))).await.environment_id;
    let plain = acquire_request(environment_id, Some(run(1)));
    let unknown = AcquireRequest { environment_id: EnvironmentId::derived(&["no"]), ..plain.clone() };
    is_refused(&bench, NotFound, "There is no environment", ledger.acquire(caller(), unknown)).await;
    let elsewhere = AcquireRequest { company_id: CompanyId::derived(&["other"]), ..plain.clone() };
    is_refused(&bench, NotFound, "in company", ledger.acquire(caller(), elsewhere)).await;
    let past = AcquireRequest { requested_expires_at: chrono::DateTime::from_timestamp(0, 0), ..plain.clone() };
    is_refused(&bench, Invalid, "is not in the future", ledger.acquire(caller(), past)).await;
    let long = AcquireRequest { agent_id: Some("a".repeat(201)), ..plain };
    is_refused(&bench, Invalid, "\"agentId\" must have 1 to 200 bytes", ledger.acquire(caller(), long)).await;
    assert_eq!(bench.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_lease() {
    let bench = Bench::new();
    let ledger = &bench.ledger;
    let environment = bench.environment("one", fake(json!({ "reuseLease": true }))).await;
    let lease = bench.acquire(environment.environment_id, run(1)).await.expect("acquired").lease;
    let realize = |authority, company_id, if_revision| {
        let request = RealizeRequest {
            company_id,
            lease_id: lease.lease_id,
            authority,
            if_revision,
            workspace: Workspace::default(),
        };
        ledger.realize(caller(), request)
    };
    let holder = |fencing_token| Some(Authority::Holder { fencing_token });
    is_refused(&bench, Invalid, "needs \"fencingToken\" (its holder) or \"reason\"", realize(None, None, None)).await;
    is_refused(&bench, Conflict, "Fencing token 2 is stale", realize(holder(2), None, None)).await;
    let empty = Some(Authority::Operator { reason: " ".into() });
    is_refused(&bench, Invalid, "\"reason\" must say something", realize(empty, None, None)).await;
    let other = Some(CompanyId::derived(&["other"]));
    is_refused(&bench, NotFound, "There is no lease", realize(holder(1), other, None)).await;
    is_refused(&bench, Conflict, "not 9; read it again", realize(holder(1), None, Some(9))).await;
    let nobody = release_request(LeaseId::derived(&["no"]), Some(operator()), ReleaseStatus::Released);
    is_refused(&bench, NotFound, "There is no lease", ledger.release(caller(), nobody)).await;

    bench.release(&lease, ReleaseStatus::Released).await.expect("released");
    is_refused(&bench, Conflict, "is over (released since", realize(holder(1), None, None)).await;
    // field: etcd#11456, aegra#547: the holder of before cannot touch what the next one holds.
    let next = bench.acquire(environment.environment_id, run(2)).await.expect("acquired").lease;
    is_refused(&bench, Conflict, "was handed over to lease", realize(holder(1), None, None)).await;
    let stale = release_request(next.lease_id, holder(1), ReleaseStatus::Released);
    is_refused(&bench, Conflict, "Fencing token 1 is stale", ledger.release(caller(), stale)).await;
}
