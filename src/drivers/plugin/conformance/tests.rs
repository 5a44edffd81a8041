//! The kit's own tests: a worker for each case that fails just that one, a worker that fails none, and the example
//! provider on each version of the published SDK.

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::StreamExt;
use lease_events::seam::SystemIds;
use serde_json::json;

use super::case::Fact;
use super::*;
use crate::drivers::plugin::tests::{Farm, SDKS, shown_of_the_example};
use crate::workers::process::SystemLauncher;

/// Checks that run at once.
const AT_ONCE: usize = 4;

fn means() -> Means {
    Means {
        launcher: Arc::new(SystemLauncher::new(Arc::new(SystemIds), LedgerId(SystemIds.fresh()))),
        ids: Arc::new(SystemIds),
        patience: Patience {
            visibility: Duration::from_millis(300),
            restart: Duration::from_millis(10),
            shutdown: Duration::from_secs(1),
            ..Patience::default()
        },
    }
}

/// The worker that breaks the protocol in this way, and two accounts for it.
fn untrustworthy(misbehaviour: &str, folder: &Path) -> Subject {
    let manifest = json!({
        "id": "untrustworthy", "apiVersion": 1, "version": "1.0.0", "displayName": "Untrustworthy",
        "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "untrustworthy-worker.mjs" },
        "environmentDrivers": [{
            "driverKey": "box", "displayName": "Box", "kind": "sandbox_provider",
            "configSchema": { "required": ["root"], "properties": { "root": { "type": "string" } } },
        }],
    });
    let file = folder.join("manifest.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/untrustworthy-worker.mjs");
    let start = ["node", worker.to_str().unwrap(), misbehaviour].map(str::to_owned);
    let root = |name: &str| json!({ "root": folder.join(name) }).as_object().cloned().unwrap();
    Subject {
        plugin: subject::in_folder(&file, &start, Vec::new(), &SystemIds).unwrap(),
        driver_key: None,
        config: root("one"),
        other_config: Some(root("other")),
    }
}

async fn checked(subject: Subject) -> Report {
    check(subject, &means(), &CancellationToken::new()).await.unwrap()
}

fn failed(report: &Report) -> BTreeSet<Case> {
    report.failed().map(|one| one.case).collect()
}

/// What else fails where this does, since it asks for the same on its way.
fn dragged_along(case: Case) -> &'static [Case] {
    match case {
        // Both end with an acquire that is repeated.
        Case::DuplicateAcquire => &[Case::LateSuccess, Case::LostReply],
        _ => &[],
    }
}

/// Runs the worker that misbehaves so, and looks at what became of it.
async fn fails_its_own_case(case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let report = checked(untrustworthy(case.name(), folder.path())).await;
    let expected: BTreeSet<Case> = dragged_along(case).iter().copied().chain([case]).collect();
    assert_eq!(failed(&report), expected, "{case:?}: {:#?}", report.cases);
    for one in report.failed() {
        let told = one.told.as_deref().unwrap();
        assert!(told.contains("must"), "it says what would be right: {told}");
    }
    for fact in Fact::ALL.iter().filter(|fact| fact.shown_by().contains(&case)) {
        assert!(!fact.is_in(&report.trust), "{case:?}: {fact:?}");
    }
    assert!(report.complete, "{case:?}");
}

async fn each_fails_its_own(cases: &[Case]) {
    let cases = futures_util::stream::iter(cases.iter().copied());
    cases.map(fails_its_own_case).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

// The cases in two halves, for two processes.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misbehaviour_of_a_worker_process_fails_its_own_case() {
    each_fails_its_own(&Case::ALL[..Case::ALL.len() / 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_further_misbehaviour_of_a_worker_process_fails_its_own_case() {
    each_fails_its_own(&Case::ALL[Case::ALL.len() / 2..]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_process_that_keeps_to_all_is_trusted_with_all() {
    let folder = tempfile::tempdir().unwrap();
    let report = checked(untrustworthy("", folder.path())).await;
    assert!(report.cases.iter().all(|one| one.verdict == Verdict::Passed), "{:#?}", report.cases);
    assert!(Fact::ALL.iter().all(|fact| fact.is_in(&report.trust)), "{:?}", report.trust);
    assert_eq!(report.trust.visibility_delay_ms, Some(1_000));
    for account in ["one", "other"] {
        let left = std::fs::read_dir(folder.path().join(account)).map(Iterator::count).unwrap_or_default();
        assert_eq!(left, 0, "it removes what it made");
    }
}

#[tokio::test]
async fn a_worker_process_that_answers_another_declared_identity_is_not_trusted_with_reuse() {
    let folder = tempfile::tempdir().unwrap();
    let mut subject = untrustworthy("other-volume", folder.path());
    subject.plugin.manifest.drivers[0].identity_fields = vec!["volume".to_owned()];
    let report = checked(subject).await;
    let kept = report.failed().find(|one| one.case == Case::ReleaseKeeps).and_then(|one| one.told.as_deref());
    assert!(kept.is_some_and(|told| told.contains("with another \"volume\"; it must give the same")), "{kept:?}");
    assert!(!report.trust.supports_reuse && !report.trust.idempotent_acquire, "{:?}", report.trust);
}

#[tokio::test]
async fn a_worker_process_that_leaves_another_behind_does_not_clean_up() {
    let folder = tempfile::tempdir().unwrap();
    let report = checked(untrustworthy("leaves-a-process", folder.path())).await;
    assert_eq!(failed(&report), [Case::CleansUp].into(), "{:#?}", report.cases);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_worker_process_passes_all_that_it_offers_on_each_sdk() {
    let examples = [(SDKS[0], "folder-box"), (SDKS[1], "folder-box"), (SDKS[1], "folders")];
    futures_util::future::join_all(examples.map(|(sdk, driver_key)| the_example_passes(sdk, driver_key))).await;
}

async fn the_example_passes(sdk: &str, driver_key: &str) {
    let farm = Farm::new();
    farm.install_example(sdk);
    let registry = farm.host.registry();
    let root = |root: String| json!({ "root": root, "token": "hunter2" }).as_object().cloned().unwrap();
    let other = farm.folder.path().join("other-account").to_str().unwrap().to_owned();
    let subject = Subject {
        plugin: (*registry.get("file-provider").unwrap().unwrap()).clone(),
        driver_key: Some(driver_key.to_owned()),
        config: root(farm.root()),
        other_config: Some(root(other)),
    };
    let report = checked(subject).await;
    let not_offered = report.cases.iter().filter(|one| one.verdict == Verdict::NotOffered).map(|one| one.case);
    let without: Vec<Case> = not_offered.collect();
    assert_eq!((failed(&report), without), ([].into(), vec![Case::Listing]), "{sdk}: {:#?}", report.cases);
    assert!(report.complete && report.left.is_empty(), "{report:#?}");
    assert_eq!(report.trust, shown_of_the_example());
    assert!(!format!("{report:?}").contains("hunter2"));

    report.record(registry, DateTime::UNIX_EPOCH).unwrap();
    assert_eq!(registry.get("file-provider").unwrap().unwrap().trust(driver_key), report.trust);
    farm.close().await;
}

#[tokio::test]
async fn a_check_of_a_worker_process_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let means = means();
    let subject = untrustworthy("", folder.path());
    let root = folder.path().join("one");
    let stopping = async {
        // Its folder comes before the answer: the first acquire is under way, or has just been done.
        while std::fs::read_dir(&root).map(Iterator::count).unwrap_or_default() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let (report, ()) = tokio::join!(check(subject, &means, &stop), stopping);
    let report = report.unwrap();
    assert!(!report.complete && report.cases.len() < Case::ALL.len());
    assert_eq!(report.left, []);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
}

#[tokio::test]
async fn what_a_worker_process_does_not_remove_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let report = checked(untrustworthy("destroys-nothing", folder.path())).await;
    let there = std::fs::read_dir(folder.path().join("one")).unwrap();
    let there: BTreeSet<String> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let named: BTreeSet<String> = report.left.iter().map(|left| left.provider_lease_id.clone()).collect();
    assert!(!there.is_empty() && named == there, "{named:?} of {there:?}");
    let because = &report.left[0].because;
    assert_eq!(because, "its destroy was left unknown (provider-error: It could not be removed)");
}

#[tokio::test]
async fn what_cannot_be_checked_is_told_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let told = |subject: Subject| async move {
        let mut means = means();
        means.patience.start = Duration::from_secs(2);
        check(subject, &means, &CancellationToken::new()).await.unwrap_err().to_string()
    };
    let subject = || untrustworthy("", folder.path());
    let unknown = told(Subject { driver_key: Some("other".to_owned()), ..subject() }).await;
    assert_eq!(unknown, "The plugin \"untrustworthy\" declares no driver \"other\"; it declares: box.");
    let invalid = told(Subject { config: Map::new(), ..subject() }).await;
    assert!(invalid.contains("\"root\" is a required property"), "{invalid}");
    let mut absent = subject();
    absent.plugin.start.program = "/no/such/program".to_owned();
    let absent = told(absent).await;
    assert!(absent.contains("\"/no/such/program\" could not be started"), "{absent}");
    let owned = vec!["LEASE_LEDGER_SECRET_KEY".to_owned()];
    let owned = subject::in_folder(folder.path(), &[], owned, &SystemIds).unwrap_err().to_string();
    assert_eq!(owned, "The variable \"LEASE_LEDGER_SECRET_KEY\" is the ledger's own, and granted to no plugin.");
    let missing = subject::in_folder(&folder.path().join("nowhere"), &[], Vec::new(), &SystemIds).unwrap_err();
    assert!(missing.to_string().contains("nowhere cannot be used: "), "{missing}");
}

#[test]
fn the_document_names_every_case_and_fact() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins.md");
    let document = std::fs::read_to_string(document).unwrap();
    let section = document.lines().skip_while(|line| *line != "## Checking it").skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let rows: BTreeSet<&str> = section.filter(|line| line.starts_with("| `")).collect();
    let mut expected: BTreeSet<String> =
        Case::ALL.iter().map(|case| format!("| `{}` | {} |", case.name(), case.asks())).collect();
    expected.extend(Fact::ALL.iter().map(|fact| {
        let cases: Vec<String> = fact.shown_by().iter().map(|case| format!("`{}`", case.name())).collect();
        format!("| `{}` | {} | {} |", fact.name(), cases.join(", "), fact.used_for())
    }));
    let missing: Vec<&String> = expected.iter().filter(|row| !rows.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/plugins.md lacks these rows:\n{missing:#?}");
    let strange: Vec<&&str> = rows.iter().filter(|row| !expected.contains(**row)).collect();
    assert!(strange.is_empty(), "docs/plugins.md has rows of no case or fact: {strange:#?}");
}
