//! `reconcile`, with the real program and real sandboxes.

use super::{Home, text};

/// How many sandboxes the provider has.
fn held(home: &Home) -> usize {
    let folders = std::fs::read_dir(home.folder.path().join("bubblewrap")).expect("the provider's folder");
    folders
        .filter(|entry| entry.as_ref().is_ok_and(|entry| !entry.file_name().to_string_lossy().starts_with('.')))
        .count()
}

#[test]
fn a_sandbox_that_somebody_removed_is_drift_and_is_recorded() {
    let home = Home::new();
    home.done(&["environment", "create", "box", "--driver", "sandbox", "--config", "provider=bubblewrap"]);
    home.done(&["lease", "acquire", "box"]);
    let agreed = home.done(&["reconcile", "--fail-on-drift"]);
    assert!(agreed.contains("The ledger and its providers agree."), "{agreed}");

    let lease = home.only_lease();
    let sandboxes = home.folder.path().join("bubblewrap");
    std::fs::remove_dir_all(sandboxes.join(text(&lease, "id"))).expect("the sandbox's folder");
    let drift = home.run(&["reconcile", "--environment", "box", "--dry-run", "--fail-on-drift"]);
    assert_eq!((drift.code, drift.stderr.lines().count()), (4, 1), "{}{}", drift.stdout, drift.stderr);
    assert_eq!(text(&home.only_lease(), "status"), "active");
    let seen_to = home.json(&["reconcile"]).remove(0);
    assert_eq!(text(&seen_to["listings"][0]["findings"][0], "did"), "recorded-gone", "{seen_to}");
    let lease = home.only_lease();
    assert_eq!((text(&lease, "status"), text(&lease, "cleanupStatus")), ("failed", "success"));
    assert_eq!(held(&home), 0);
    home.done(&["reconcile", "--fail-on-drift"]);
}
