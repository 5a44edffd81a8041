//! `plugin check`: what it prints and how it exits, that its result is kept, and that a server which runs enforces it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lease_events::seam::{Ids, SystemIds};
use lease_ledger::drivers::plugin::conformance::subject::in_folder;
use lease_ledger::wiring;
use lease_ledger::workers::registry::{NewPlugin, Registry};
use lease_ledger::workers::trust::Trust;
use serde_json::{Value, json};

use super::{Ended, Home, text};

/// A plugin whose worker misbehaves as its last word says, or not at all.
struct Plugin {
    manifest: PathBuf,
    config: [String; 2],
}

impl Plugin {
    fn new(home: &Home) -> Self {
        let manifest = home.folder.path().join("plugin/manifest.json");
        std::fs::create_dir_all(manifest.parent().expect("a folder")).expect("it is made");
        let declared = json!({
            "id": "untrustworthy", "apiVersion": 1, "version": "1.0.0", "displayName": "Untrustworthy",
            "capabilities": ["environment.drivers.register"], "entrypoints": { "worker": "worker.mjs" },
            "environmentDrivers": [{
                "driverKey": "box", "displayName": "Box", "kind": "sandbox_provider",
                "configSchema": { "required": ["root"], "properties": { "root": { "type": "string" } } },
            }],
        });
        std::fs::write(&manifest, declared.to_string()).expect("it is written");
        let root = home.folder.path().join("sandboxes");
        Self { manifest, config: ["--config".to_owned(), format!("root={}", root.display())] }
    }

    fn start(misbehaviour: &str) -> [String; 3] {
        let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/untrustworthy-worker.mjs");
        ["node".to_owned(), worker.display().to_string(), misbehaviour.to_owned()]
    }

    fn registry(home: &Home) -> Registry {
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        wiring::plugin_registry(home.folder.path(), &ids)
    }

    fn install(&self, home: &Home, misbehaviour: &str) {
        let start = Self::start(misbehaviour);
        let plugin = in_folder(&self.manifest, &start, Vec::new(), &SystemIds).expect("a manifest");
        let (manifest, start) = (plugin.manifest, plugin.start);
        let new = NewPlugin { manifest, start, grants: None, config: None };
        Self::registry(home).install(new).expect("it is installed");
    }

    fn trust(home: &Home) -> Trust {
        Self::registry(home).get("untrustworthy").expect("a list").expect("it is installed").trust("box")
    }

    fn check(&self, home: &Home, before: &[&str], what: &str, after: &[&str]) -> Ended {
        let config: Vec<&str> = self.config.iter().map(String::as_str).collect();
        home.run(&[before, &["plugin", "check", what], &config, after].concat())
    }
}

#[test]
fn a_worker_process_in_a_folder_is_checked_and_nothing_is_kept() {
    let home = Home::new();
    let plugin = Plugin::new(&home);
    let folder = plugin.manifest.parent().expect("a folder").display().to_string();
    let start = Plugin::start("duplicate-acquire");
    let words: Vec<&str> = std::iter::once("--").chain(start.iter().map(String::as_str)).collect();
    let ended = plugin.check(&home, &[], &folder, &words);
    assert_eq!((ended.code, ended.stderr.as_str()), (4, ""), "{}", ended.stdout);
    let row = |name: &str| ended.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("duplicate-acquire").contains("failed       An acquire that was repeated gave"), "{}", ended.stdout);
    assert!(row("execute-env").ends_with("passed"), "{}", ended.stdout);
    assert!(row("other-credentials").contains("not offered  No other config was given"), "{}", ended.stdout);
    assert_eq!(row("trusted with"), "trusted with      can-list, supports-reuse, fencing, ownership");
    assert_eq!(row("recorded"), "recorded          nowhere: it is not installed from here");
    assert!(!home.folder.path().join("plugins.json").exists() && !home.folder.path().join("ledger.db").exists());
}

#[test]
fn what_a_check_of_an_installed_worker_process_shows_a_running_server_enforces() {
    let home = Home::new();
    let plugin = Plugin::new(&home);
    plugin.install(&home, "execute-timeout");
    let (_server, _) = home.serve(&[]);
    let config = ["--config", &plugin.config[1], "--config", "provider=box", "--config", "reuseLease=true"];
    home.done(&[&["environment", "create", "boxes", "--driver", "sandbox"], config.as_slice()].concat());
    let policy = || {
        let run = SystemIds.fresh().to_string();
        let lease = home.json(&["lease", "acquire", "boxes", "--run", &run]).remove(0)["lease"].clone();
        text(&lease, "policy").to_owned()
    };
    assert_eq!(policy(), "ephemeral", "what was not shown is not assumed");
    let show = |arguments: &[&str]| home.done(&[arguments, &["plugin", "show", "untrustworthy"]].concat());
    let row = |name: &str| {
        let printed = show(&[]);
        let mut rows = printed.lines().filter_map(|line| line.trim().strip_prefix(name));
        rows.next().map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    assert_eq!(row("checked"), "never");
    let shown = || serde_json::from_str::<Value>(&show(&["--json"])).expect("JSON")["drivers"][0]["check"].take();
    assert_eq!(shown(), Value::Null);

    let ended = plugin.check(&home, &["--json"], "untrustworthy", &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (4, ""), "one case fails, as it must: {}", ended.stdout);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!((&report["recorded"], &report["complete"], &report["left"]), (&json!(true), &json!(true), &json!([])));
    assert!(Plugin::trust(&home).supports_reuse && !Plugin::trust(&home).can_confirm_absence);
    assert_eq!(policy(), "reuse_by_environment", "what was shown is used, without a new start");

    let check = shown();
    assert_eq!((&check["failed"], &check["visibilityDelayMs"]), (&json!(["execute-timeout"]), &json!(1_000)));
    let trusted = ["idempotent-acquire", "can-list", "supports-reuse", "fencing", "ownership"];
    assert_eq!(check["trustedWith"], json!(trusted));
    assert_eq!(
        (row("checked"), row("failed cases")),
        (text(&check, "checkedAt").to_owned(), "execute-timeout".to_owned())
    );
    assert_eq!((row("trusted with"), row("not with")), (trusted.join(", "), "can-confirm-absence".to_owned()));
    assert_eq!(row("visibility delay"), "1000 ms");

    plugin.install(&home, "");
    assert_eq!(shown(), Value::Null);
    assert_eq!(policy(), "ephemeral", "an upgrade is trusted with nothing");
}

#[test]
fn a_check_that_cannot_be_made_says_why() {
    let home = Home::new();
    let plugin = Plugin::new(&home);
    plugin.install(&home, "");
    for (what, after, code, sentence) in [
        ("other", &[][..], 5, "No plugin \"other\" is installed; name one that is, or a folder as ./other."),
        ("./nowhere", &[], 2, "nowhere cannot be used: "),
        ("untrustworthy", &["--driver", "x"], 2, "declares no driver \"x\"; it declares: box."),
        ("untrustworthy", &["--grant", "TOKEN"], 2, "are for a path; an installed plugin has its own."),
        ("untrustworthy", &["--other-config-json", "7"], 2, "--other-config-json is not a JSON object"),
        ("untrustworthy", &["--other-config-json", "{}"], 2, "\"root\" is a required property"),
    ] {
        let ended = plugin.check(&home, &[], what, after);
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{what} {after:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(sentence), "{}", ended.stderr);
    }
    assert_eq!(Plugin::trust(&home), Trust::default());
}
