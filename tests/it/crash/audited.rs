//! The audit finds what it looks for: a world that is well, and what is wrong once somebody has meddled with it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::audit::{Told, fold};
use super::keeping::Keeping;
use super::program::Answer;
use super::sites::{Site, Trouble};
use super::stage::{Stage, text};

/// A world with a lease that is held, and its lease.
fn held() -> (Stage, Value, Told) {
    let mut stage = Stage::new(Site::Fake, Keeping::Sqlite);
    let environment = stage.environment(true, Trouble::None);
    let lease = stage.lease_in(&environment);
    stage.audit().expect("all is well");
    let told = fold(stage.home.log()).expect("all is well");
    (stage, lease, told)
}

#[test]
fn a_sandbox_without_a_lease_and_a_lease_without_a_sandbox_are_found() {
    let (stage, lease, told) = held();
    let nothing = BTreeSet::new();
    let folder = stage.site.folder(stage.home.path());
    let record = folder.join(format!("{}.json", text(&lease["id"])));
    let leaked = folder.join("0198c0de-0000-7000-8000-000000000001.json");
    std::fs::copy(&record, &leaked).expect("a record");
    let fault = told.check_things(Site::Fake, stage.home.path(), &nothing, &nothing).expect_err("a leak");
    assert!(fault.contains("no lease holds [\"sandbox://fake/0198c0de"), "{fault}");
    std::fs::remove_file(leaked).expect("a record");
    std::fs::remove_file(record).expect("a record");
    let fault = told.check_things(Site::Fake, stage.home.path(), &nothing, &nothing).expect_err("a loss");
    assert!(fault.contains("is not there\nlease-"), "{fault}");
}

#[test]
fn an_event_that_is_gone_changed_or_told_twice_is_found() {
    let (mut stage, lease, told) = held();
    let log = told.log.clone();
    let shorter = fold(log[..log.len() - 1].to_vec()).expect("it folds");
    assert!(shorter.check_keeps(&log).is_err());
    let mut changed = log.clone();
    changed.last_mut().expect("an event").metadata = "{}".into();
    assert!(fold(changed).expect("it folds").check_keeps(&log).is_err());
    assert!(fold(log[1..].to_vec()).is_err_and(|fault| fault.contains("position 2 stands where 1 should")));

    let mut answer = Answer { status: 200, body: json!({ "lease": lease }) };
    assert_eq!(told.check_acknowledged(&answer), Ok(()));
    answer.body["lease"]["revision"] = 7.into();
    assert!(told.check_acknowledged(&answer).is_err());

    let release = stage.on_lease(&lease, "release", json!({}));
    stage.done(release);
    let mut twice = stage.home.log();
    let mut again = twice.last().expect("an event").clone();
    again.position.0 += 1;
    twice.push(again);
    assert!(fold(twice).expect("it folds").check_once().is_err_and(|fault| fault.contains("has the same id")));
}

#[test]
fn a_sandbox_with_two_holders_and_a_token_that_stands_still_are_found() {
    let (mut stage, lease, _) = held();
    let release = stage.on_lease(&lease, "release", json!({}));
    stage.done(release);
    let environment = text(&lease["environmentId"]);
    let second = stage.lease_in(&environment);
    assert_eq!(second["resumedFrom"], lease["id"]);
    stage.audit().expect("all is well");
    let log = stage.home.log();
    let renumbered = |mut log: Vec<lease_events::record::RecordedEvent>| {
        log.iter_mut().zip(1..).for_each(|(one, position)| one.position.0 = position);
        log
    };
    // Without the claim, what was kept is still the first one's.
    let unclaimed = log.iter().filter(|one| &*one.event_type != "lease-reuse-claimed").cloned().collect();
    let fault = fold(renumbered(unclaimed)).err().expect("two holders");
    assert!(fault.contains("both hold sandbox://fake/"), "{fault}");
    let still = log.into_iter().map(|mut one| {
        if &*one.event_type == "lease-resumed" {
            one.data = one.data.replace("\"fencingToken\":2", "\"fencingToken\":1").into();
        }
        one
    });
    let fault = fold(still.collect()).err().expect("a token that stands still");
    assert!(fault.contains("went from Some(1) to 1"), "{fault}");
}
