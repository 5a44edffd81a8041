//! The sandbox driver's own tests: its keys, its plans, its routing.

use std::sync::Arc;
use std::time::Duration;

use lease_events::lease::vocabulary::{Policy, WorkspaceKind};
use lease_events::seam::SystemClock;
use serde_json::{Value, json};

use super::SandboxDriver;
use super::fake::FakeProvider;
use crate::drivers::{EnvironmentDriver, LeasePlan, OnResumeFailure, PlanRequest};

fn driver() -> SandboxDriver {
    SandboxDriver::new([Arc::new(FakeProvider::in_memory(Arc::new(SystemClock))) as _])
}

fn plan(config: &Value, has_run: bool, has_execution_workspace: bool) -> LeasePlan {
    driver().plan(&PlanRequest { config, has_run, has_execution_workspace }).unwrap()
}

#[tokio::test]
async fn the_normal_form_has_every_default() {
    let normal = driver().validate(&json!({ "provider": "fake", "expiresInMs": 5, "timeoutMs": null })).await.unwrap();
    let expected = json!({
        "provider": "fake", "expiresInMs": 5, "reuseLease": false, "onResumeFailure": "fresh", "workspaceKind": "derived",
    });
    assert_eq!(normal, expected);
}

#[tokio::test]
async fn every_fault_is_told_at_once() {
    let config = json!({ "provider": "No!", "reuseLease": 1, "timeoutMs": 0, "leasePolicy": "reuse_by_environment" });
    let faults = driver().validate(&config).await.unwrap_err().faults;
    let starts =
        ["\"provider\" is \"No!\"", "\"reuseLease\" is 1", "\"timeoutMs\" is 0", "\"leasePolicy\" asks for reuse"];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    assert!(faults.iter().zip(starts).all(|(fault, start)| fault.starts_with(start)), "{faults:?}");
}

#[tokio::test]
async fn an_unknown_provider_is_answered_with_those_that_there_are() {
    let invalid = driver().validate(&json!({ "provider": "docker" })).await.unwrap_err();
    assert_eq!(invalid.faults, ["There is no sandbox provider \"docker\"; there is: fake."]);
}

#[test]
fn the_policy_follows_from_reuse_and_place() {
    let reuse =
        json!({ "provider": "fake", "reuseLease": true, "onResumeFailure": "fail", "workspaceKind": "sole-copy" });
    let by_workspace = plan(&reuse, true, true);
    assert_eq!((by_workspace.policy, by_workspace.may_take_over), (Policy::ReuseByExecutionWorkspace, true));
    assert_eq!(
        (by_workspace.on_resume_failure, by_workspace.workspace_kind),
        (OnResumeFailure::Fail, WorkspaceKind::SoleCopy)
    );
    assert_eq!(plan(&reuse, true, false).policy, Policy::ReuseByEnvironment);
    assert_eq!((plan(&reuse, false, true).policy, plan(&reuse, false, true).may_take_over), (Policy::Ephemeral, false));
    let once = json!({ "provider": "fake" });
    assert_eq!((plan(&once, true, true).policy, plan(&once, true, true).may_take_over), (Policy::Ephemeral, false));
    let retain = json!({ "provider": "fake", "reuseLease": true, "leasePolicy": "retain_on_failure" });
    assert_eq!(
        (plan(&retain, true, true).policy, plan(&retain, true, true).may_take_over),
        (Policy::RetainOnFailure, false)
    );
    let nowhere = json!({ "provider": "fake", "reuseLease": true, "leasePolicy": "reuse_by_execution_workspace" });
    assert_eq!(
        (plan(&nowhere, true, false).policy, plan(&nowhere, true, true).may_take_over),
        (Policy::Ephemeral, true)
    );
}

#[test]
fn a_call_may_take_the_longer_time_out_and_thirty_seconds() {
    let timeout = |config: Value| driver().traits(&config).call_timeout;
    assert_eq!(timeout(json!({ "provider": "fake" })), Duration::from_secs(30));
    let both = json!({ "provider": "fake", "timeoutMs": 5_000, "bridgeRequestTimeoutMs": 9_000 });
    assert_eq!(timeout(both), Duration::from_secs(39));
}
