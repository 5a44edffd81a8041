//! `plugin …`: a plugin's life as an operator sees it, on real workers.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Ended, Home, text};
use crate::example_plugin::{SDKS, stage};

impl Home {
    /// The example provider, in the folder `plugin` beside the ledger's data.
    fn stage_plugin(&self) -> PathBuf {
        let home = self.folder.path().join("plugin");
        stage(&home, SDKS[1]);
        home
    }

    /// Changes the staged manifest.
    fn edit_manifest(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.folder.path().join("plugin/manifest.json");
        let mut manifest = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        edit(&mut manifest);
        std::fs::write(path, manifest.to_string()).expect("a file");
    }

    fn boxes(&self) {
        let root = format!("root={}", self.folder.path().join("sandboxes").display());
        let name = ["environment", "create", "boxes", "--driver", "sandbox"];
        self.done(&[&name[..], &["--config", "provider=folder-box", "--config", &root]].concat());
    }

    #[track_caller]
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, ended.stderr.lines().count()), (code, 1), "{arguments:?}: {}", ended.stderr);
        ended.stderr
    }
}

#[test]
fn a_plugin_is_installed_listed_disabled_and_removed() {
    let home = Home::new();
    let folder = home.stage_plugin();
    // A relative path is meant from where the caller stands.
    let mut program = home.program(&["plugin", "install", "plugin"]);
    let installed: Ended = program.current_dir(home.folder.path()).output().expect("the program starts").into();
    assert_eq!((installed.code, installed.stderr.as_str()), (0, ""));
    assert!(installed.stdout.starts_with("Installed file-provider 1.0.0.\n"), "{}", installed.stdout);
    let due = "A check is due of folders, folder-box: `lease-ledger plugin check file-provider --driver folders`.";
    assert!(installed.stdout.contains(due), "{}", installed.stdout);
    let plugin = &home.json(&["plugin", "show", "file-provider"])[0];
    assert_eq!(PathBuf::from(text(plugin, "folder")).canonicalize().ok(), folder.canonicalize().ok());
    assert_eq!((text(plugin, "version"), &plugin["enabled"]), ("1.0.0", &json!(true)));
    assert_eq!(plugin["command"], json!({ "program": "node", "args": ["./worker.mjs"] }));
    assert_eq!(plugin["worker"], json!({ "state": "stopped", "restarts": 0, "lastError": null, "methods": null }));
    let listed = home.done(&["plugin", "list"]);
    assert!(listed.contains("file-provider  1.0.0    enabled  stopped  folders, folder-box"), "{listed}");
    let shown = home.done(&["plugin", "show", "file-provider"]);
    assert!(shown.contains("folder-box (sandbox_provider)") && shown.contains("\"pattern\":\"^/\""), "{shown}");

    let disabled = home.run(&["--json", "-v", "plugin", "disable", "file-provider"]);
    assert!(disabled.stdout.contains("\"enabled\":false"), "{}", disabled.stdout);
    let logged = ["a plugin was disabled", "file-provider", "user:uid-"];
    assert!(logged.iter().all(|word| disabled.stderr.contains(word)), "{}", disabled.stderr);
    assert_eq!(home.json(&["plugin", "enable", "file-provider"])[0]["enabled"], true);
    assert_eq!(home.done(&["plugin", "remove", "file-provider"]), "Removed file-provider 1.0.0.\n");
    for command in ["show", "enable", "disable", "remove"] {
        let sentence = home.refused(5, &["plugin", command, "file-provider"]);
        assert!(sentence.contains("There is no plugin \"file-provider\"; none is installed."), "{sentence}");
    }
    assert!(home.json(&["plugin", "list"]).is_empty());
}

#[test]
fn a_worker_process_that_leases_need_is_not_removed_and_cleans_up_when_disabled() {
    let home = Home::new();
    home.stage_plugin();
    let (_server, _) = home.serve(&[]);
    let manifest = home.folder.path().join("plugin/manifest.json");
    home.done(&["plugin", "install", manifest.to_str().expect("UTF-8")]);
    home.boxes();
    let lease = home.json(&["lease", "acquire", "boxes"])[0]["lease"].clone();
    let id = text(&lease, "id");
    let worker = &home.json(&["plugin", "show", "file-provider"])[0]["worker"];
    assert_eq!(text(worker, "state"), "running");
    assert!(worker["methods"].to_string().contains("environmentDestroyLease"), "{worker}");

    let needed = home.refused(3, &["plugin", "remove", "file-provider"]);
    let sentence = format!("The plugin \"file-provider\" is needed by lease {id}; release or destroy what they hold");
    assert!(needed.contains(&sentence), "{needed}");
    assert_eq!(home.json(&["plugin", "show", "file-provider"])[0]["enabled"], true, "nothing of it was done");
    home.edit_manifest(|manifest| {
        manifest["version"] = "2.0.0".into();
        manifest["environmentDrivers"].as_array_mut().expect("a list").pop();
    });
    let dropped = home.refused(3, &["plugin", "install", manifest.to_str().expect("UTF-8")]);
    assert!(dropped.contains(&format!("is needed by lease {id}")), "{dropped}");
    assert_eq!(text(&home.json(&["plugin", "show", "file-provider"])[0], "version"), "1.0.0");

    let disabled = home.json(&["plugin", "disable", "file-provider"])[0].clone();
    assert_eq!((&disabled["enabled"], text(&disabled["worker"], "state")), (&json!(false), "stopped"));
    let refused = home.refused(7, &["lease", "acquire", "boxes"]);
    assert!(refused.contains("The plugin \"file-provider\" is not ready: it is disabled; enable it with"), "{refused}");
    let released = home.json(&["lease", "release", id, "--reason", "a test"]);
    assert_eq!(text(&released[0]["lease"], "cleanupStatus"), "success", "{released:?}");
    let left = std::fs::read_dir(home.folder.path().join("sandboxes")).expect("a folder").count();
    assert_eq!(left, 0, "its sandbox is gone");
    home.done(&["plugin", "remove", "file-provider"]);
}

#[test]
fn an_upgrade_keeps_what_is_not_given_anew() {
    let home = Home::new();
    let folder = home.stage_plugin();
    let folder = folder.to_str().expect("UTF-8");
    let config = home.folder.path().join("config.json");
    std::fs::write(&config, "{\"endpoint\":\"https://boxes.example\"}").expect("a file");
    let config = format!("@{}", config.display());
    home.done(&["plugin", "install", folder, "--grant", "BOX_TOKEN", "--config", &config]);
    let before = home.json(&["plugin", "show", "file-provider"])[0].clone();
    home.done(&["plugin", "disable", "file-provider"]);

    home.edit_manifest(|manifest| manifest["version"] = "1.1.0".into());
    let arguments = ["plugin", "install", folder, "--command", "./run", "--arg=--stdio"];
    let mut program = home.program(&arguments);
    let upgraded: Ended = program.current_dir(home.folder.path()).output().expect("the program starts").into();
    assert_eq!(upgraded.stderr, "");
    let sentence = "Upgraded file-provider from 1.0.0 to 1.1.0; its id stays.\n";
    assert!(upgraded.stdout.starts_with(sentence), "{}", upgraded.stdout);
    let now = &home.json(&["plugin", "show", "file-provider"])[0];
    for kept in ["id", "grants", "config"] {
        assert_eq!(before[kept], now[kept], "{kept}");
    }
    assert_eq!(now["grants"], json!(["BOX_TOKEN"]));
    assert_eq!((&now["enabled"], &now["command"]["args"]), (&json!(false), &json!(["--stdio"])));
    let program = text(&now["command"], "program");
    assert!(program.starts_with('/') && program.ends_with("/run"), "{program}");
    home.done(&["plugin", "install", folder, "--no-grants", "--config", "{}"]);
    let now = &home.json(&["plugin", "show", "file-provider"])[0];
    assert_eq!((&now["grants"], &now["config"]), (&json!([]), &json!({})));
}

#[test]
fn what_cannot_be_installed_is_refused_with_every_fault() {
    let home = Home::new();
    let folder = home.stage_plugin();
    let folder = folder.to_str().expect("UTF-8");
    let nowhere = home.refused(2, &["plugin", "install", "/nowhere/at/all"]);
    assert!(nowhere.contains("The manifest /nowhere/at/all cannot be read"), "{nowhere}");
    let grant = home.refused(2, &["plugin", "install", folder, "--grant", "LEASE_LEDGER_SECRET_KEY"]);
    assert!(grant.contains("\"LEASE_LEDGER_SECRET_KEY\" is the ledger's own, and granted to no plugin."), "{grant}");

    home.edit_manifest(|manifest| manifest["instanceConfigSchema"] = json!({ "required": ["endpoint"] }));
    let config = home.refused(2, &["plugin", "install", folder]);
    assert!(config.contains("The config of plugin \"file-provider\": \"endpoint\" is a required"), "{config}");
    home.edit_manifest(|manifest| {
        manifest["instanceConfigSchema"] = Value::Null;
        manifest["entrypoints"]["worker"] = "dist/worker.js".into();
    });
    let worker = home.refused(2, &["plugin", "install", folder]);
    assert!(worker.contains("plugin/dist/worker.js is not there; \"entrypoints.worker\" must name"), "{worker}");
    home.edit_manifest(|manifest| {
        manifest["id"] = "Up".into();
        manifest["version"] = Value::Null;
        manifest["environmentDrivers"][0]["identityFields"] = 7.into();
    });
    let faults = home.refused(2, &["plugin", "install", folder]);
    for fault in ["\"id\" is \"Up\"; it must be", "\"version\" is missing;", "\"identityFields\" of driver \"folders\""]
    {
        assert!(faults.contains(fault), "{fault}: {faults}");
    }
    assert!(home.json(&["plugin", "list"]).is_empty());
}

#[test]
fn a_sandbox_provider_has_one_plugin() {
    let home = Home::new();
    let folder = home.stage_plugin();
    let folder = folder.to_str().expect("UTF-8");
    home.done(&["plugin", "install", folder]);
    home.edit_manifest(|manifest| manifest["id"] = "another".into());
    let taken = home.refused(3, &["plugin", "install", folder]);
    assert!(
        taken.contains("The plugin \"file-provider\" declares the sandbox provider \"folder-box\" already"),
        "{taken}"
    );
    home.edit_manifest(|manifest| manifest["environmentDrivers"][1]["driverKey"] = "bubblewrap".into());
    let built_in = home.refused(3, &["plugin", "install", folder]);
    assert!(built_in.contains("The sandbox provider \"bubblewrap\" is built in; give"), "{built_in}");
}

#[test]
fn a_server_grants_only_what_its_operator_named() {
    let home = Home::new();
    let folder = home.stage_plugin();
    let folder = folder.to_str().expect("UTF-8");
    let (server, _) = home.serve(&["--plugin-variable", "BOX_TOKEN"]);
    let refused = home.refused(2, &["plugin", "install", folder, "--grant", "HOME"]);
    assert!(
        refused.contains("\"HOME\" may not be granted on this server; start it with --plugin-variable"),
        "{refused}"
    );
    home.done(&["plugin", "install", folder, "--grant", "BOX_TOKEN"]);
    drop(server);
    // Without a server nobody but the operator speaks to the ledger.
    home.done(&["plugin", "install", folder, "--grant", "HOME"]);
    let (_server, _) = home.serve(&[]);
    let kept = home.refused(2, &["plugin", "install", folder, "--command", "elsewhere"]);
    assert!(kept.contains("\"HOME\" may not be granted"), "another program would get it: {kept}");
}
