//! The tests of plugin-backed sandboxes, on real Node workers.

use std::sync::Arc;
use std::time::Duration;

use lease_events::lease::vocabulary::{Policy, ReceiptState, ReleaseStatus};
use serde_json::json;

use super::PluginProviders;
use crate::drivers::contract::{Subject, command, done, keeps_the_contract, refused};
use crate::drivers::plugin::tests::{Farm, SDKS, SECRET, reference, shown_of_the_example};
use crate::drivers::sandbox::SandboxDriver;
use crate::drivers::{EnvironmentDriver, Outcome, PlanRequest, Resumed, Workspace};

fn driver(farm: &Farm) -> Arc<dyn EnvironmentDriver> {
    let providers = PluginProviders::new(farm.bridge.clone());
    Arc::new(SandboxDriver::new([]).with_source(Arc::new(providers)))
}

fn subject(farm: &Farm) -> Subject {
    Subject {
        driver: driver(farm),
        config: json!({
            "provider": "folder-box", "reuseLease": true, "root": farm.root(), "outputBytesMax": 1_024 * 1_024,
        }),
        shell: true,
        workspace: Workspace::default(),
        own_env: &["PATH", "PWD"],
    }
}

fn bad(farm: &Farm) -> Subject {
    Subject { config: json!({ "provider": "bad-box", "reuseLease": true }), ..subject(farm) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_a_worker_process_of_each_sdk() {
    for sdk in SDKS {
        let farm = Farm::new();
        farm.install_example(sdk);
        let subject = subject(&farm);
        let request = PlanRequest { config: &subject.config, has_run: true, has_execution_workspace: true };
        let policy = || subject.driver.plan(&request).unwrap().policy;
        assert_eq!(policy(), Policy::Ephemeral, "what was not shown is not assumed");
        keeps_the_contract(&subject).await;
        farm.trust("file-provider", "folder-box", shown_of_the_example());
        assert_eq!(policy(), Policy::ReuseByExecutionWorkspace);
        keeps_the_contract(&subject).await;
        farm.close().await;
    }
}

#[tokio::test]
async fn a_provider_is_found_once_its_plugin_is_installed() {
    let farm = Farm::new();
    let subject = bad(&farm);
    let invalid = subject.driver.validate(&subject.config).await.unwrap_err().to_string();
    assert!(invalid.contains("There is no sandbox provider \"bad-box\""), "{invalid}");
    let scope = subject.scope();
    let outcome = subject.driver.acquire(&scope, None).await;
    assert!(matches!(&outcome, Outcome::NotDone(fault) if fault.code == "provider-missing"), "{outcome:?}");

    farm.install_bad("good", &json!({}));
    let held = subject.acquire(&scope).await;
    assert_eq!((&held.metadata["driver"], &held.metadata["provider"]), (&json!("sandbox"), &json!("bad-box")));
    assert_eq!((&held.metadata["pluginKey"], &held.metadata["shellCommand"]), (&json!("bad"), &json!("sh")));
    farm.host.registry().set_enabled("bad", false).unwrap();
    let outcome = subject.driver.resume(&scope, &held).await;
    assert!(matches!(&outcome, Outcome::NotDone(fault) if fault.code == "plugin-not-ready"), "{outcome:?}");
    done(subject.driver.destroy(&scope, &held).await);
    farm.close().await;
}

#[tokio::test]
async fn what_cannot_be_reused_is_never_left() {
    let farm = Farm::new();
    farm.install_bad("good", &json!({ "supportsReusableLeases": false }));
    farm.trust("bad", "bad-box", shown_of_the_example());
    let subject = bad(&farm);
    let request = PlanRequest { config: &subject.config, has_run: true, has_execution_workspace: true };
    let plan = subject.driver.plan(&request).unwrap();
    assert_eq!((plan.policy, plan.may_take_over), (Policy::Ephemeral, false));
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    assert_eq!(refused(subject.driver.resume(&scope, &held).await), "not-supported");
    farm.close().await;
}

#[tokio::test]
async fn a_resume_in_another_directory_is_not_the_same_sandbox() {
    let farm = Farm::new();
    farm.install_bad("other-directory", &json!({}));
    let subject = bad(&farm);
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let receipt = done(subject.driver.release(&scope, &held, ReleaseStatus::Released, true).await);
    assert_eq!(receipt.state, ReceiptState::Kept);
    let Resumed::Same(now) = done(subject.driver.resume(&scope, &held).await) else { panic!("it is there") };
    assert_eq!((&held.metadata["remoteCwd"], &now.metadata["remoteCwd"]), (&json!("/work"), &json!("/elsewhere")));
    farm.close().await;
}

#[tokio::test]
async fn commands_run_under_the_shell_and_secrets_stay_out_of_the_record() {
    let farm = Farm::new();
    farm.install_bad("echo", &json!({}));
    let mut subject = bad(&farm);
    subject.config["token"] = reference();
    assert_eq!(subject.driver.secret_fields(&subject.config), ["/token"]);
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let told = serde_json::to_string(&held.metadata).unwrap();
    assert!(!told.contains(SECRET), "{told}");
    assert_eq!((&held.metadata["driver"], &held.metadata["pluginKey"]), (&json!("sandbox"), &json!("bad")), "B25");
    let ran = done(subject.run(&scope, &held, command(&["echo", "a b"])).await);
    assert_eq!(ran.stdout, "-c exec \"$0\" \"$@\" echo a b");
    farm.close().await;
}

#[tokio::test]
async fn the_time_of_a_call_has_room_for_a_worker_that_starts() {
    let farm = Farm::new();
    farm.install_bad("good", &json!({}));
    let config = json!({ "provider": "bad-box", "timeoutMs": 5_000, "bridgeRequestTimeoutMs": 9_000 });
    let limit = driver(&farm).traits(&config).call_timeout;
    // 30 s for the start here, 9 s of the config, 30 s on top (B22), and a second so that the better answer comes first.
    assert_eq!(limit, Duration::from_secs(70));
    farm.close().await;
}
