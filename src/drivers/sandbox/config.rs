//! The config keys that every sandbox has (B7), and what they mean for an acquire (B13). Pure.

use std::time::Duration;

use lease_events::lease::vocabulary::{Policy, WorkspaceKind};
use serde_json::{Map, Value, json};

use super::provider::Abilities;
use crate::drivers::config::{Fields, object};
use crate::drivers::{InvalidConfig, LeasePlan, OnResumeFailure, PlanRequest};

/// Longest time-out that a config may ask for: a day.
const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// A parsed config.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SandboxConfig {
    /// The provider's key.
    pub(super) provider: String,
    /// Whether a sandbox may be taken over from another lease, and left to another.
    pub(super) reuse_lease: bool,
    /// Longest time that a command may run.
    pub(super) timeout: Option<Duration>,
    /// Longest time that a call through a plugin's bridge may take.
    pub(super) bridge_timeout: Option<Duration>,
    /// What becomes of the sandbox; `None` follows from `reuse_lease`.
    pub(super) policy: Option<Policy>,
    /// What to do where a take-over fails to resume.
    pub(super) on_resume_failure: OnResumeFailure,
    /// What the workspace is worth; `None` is as the provider says.
    pub(super) workspace_kind: Option<WorkspaceKind>,
    /// The provider's own keys.
    pub(super) own: Map<String, Value>,
}

impl SandboxConfig {
    pub(super) fn parse(config: &Value) -> Result<Self, InvalidConfig> {
        let mut fields = Fields::new("driver \"sandbox\"", object(config)?);
        let provider = fields.text("provider").unwrap_or_default().to_owned();
        if !is_key(&provider) {
            fields.fault(format!(
                "\"provider\" is \"{provider}\"; it must name a sandbox provider in lower-case letters, digits, \".\", \
                 \"_\" and \"-\", such as \"bubblewrap\"."
            ));
        }
        let reuse_lease = fields.flag("reuseLease", false);
        let mut millis = |key| fields.integer(key, 1..=TIMEOUT_MS_MAX).map(Duration::from_millis);
        let (timeout, bridge_timeout) = (millis("timeoutMs"), millis("bridgeRequestTimeoutMs"));
        let policy = fields.word("leasePolicy", Policy::WORDS).and_then(|word| word.parse::<Policy>().ok());
        if policy.is_some_and(Policy::allows_reuse) && !reuse_lease {
            fields.fault(
                "\"leasePolicy\" asks for reuse, but \"reuseLease\" is not true; set it, or ask for \"ephemeral\"."
                    .to_owned(),
            );
        }
        let on_resume_failure = match fields.word("onResumeFailure", &["fresh", "fail"]) {
            Some("fail") => OnResumeFailure::Fail,
            _ => OnResumeFailure::Fresh,
        };
        let workspace_kind = fields.word("workspaceKind", WorkspaceKind::WORDS).and_then(|word| word.parse().ok());
        let own = fields.rest();
        let faults = fields.faults();
        if !faults.is_empty() {
            return Err(InvalidConfig { faults });
        }
        Ok(Self { provider, reuse_lease, timeout, bridge_timeout, policy, on_resume_failure, workspace_kind, own })
    }

    /// The normal form: defaults filled in, `own` as the provider normalised it.
    pub(super) fn normal_form(&self, own: Map<String, Value>, kind_default: WorkspaceKind) -> Value {
        let mut normal = own;
        normal.insert("provider".to_owned(), json!(self.provider));
        normal.insert("reuseLease".to_owned(), json!(self.reuse_lease));
        normal.insert("onResumeFailure".to_owned(), json!(self.on_resume_failure));
        normal.insert("workspaceKind".to_owned(), json!(self.workspace_kind.unwrap_or(kind_default)));
        let timeouts = [("timeoutMs", self.timeout), ("bridgeRequestTimeoutMs", self.bridge_timeout)];
        for (key, timeout) in timeouts.into_iter().filter_map(|(key, timeout)| Some((key, timeout?))) {
            normal.insert(key.to_owned(), json!(u64::try_from(timeout.as_millis()).unwrap_or(TIMEOUT_MS_MAX)));
        }
        if let Some(policy) = self.policy {
            normal.insert("leasePolicy".to_owned(), json!(policy));
        }
        Value::Object(normal)
    }

    /// The longest time-out that the config asks for (B22).
    pub(super) fn call_timeout(&self) -> Option<Duration> {
        self.timeout.max(self.bridge_timeout)
    }

    /// What an acquire with this config is.
    pub(super) fn plan(&self, request: &PlanRequest<'_>, abilities: &Abilities) -> LeasePlan {
        // What cannot be resumed must not be left for anybody.
        let policy = Some(self.policy_for(request))
            .filter(|policy| abilities.supports_reuse || !policy.allows_reuse())
            .unwrap_or(Policy::Ephemeral);
        LeasePlan {
            provider: self.provider.clone(),
            policy,
            may_take_over: request.has_run && self.reuse_lease && policy.allows_reuse(),
            workspace_kind: self.workspace_kind.unwrap_or(abilities.workspace_kind),
            config: request.config.clone(),
            keys_outside_fingerprint: &["provider", "reuseLease"],
            on_resume_failure: self.on_resume_failure,
        }
    }

    fn policy_for(&self, request: &PlanRequest<'_>) -> Policy {
        // Else the end of an operator's probe would tear down, or leave behind, what runs live on.
        if !request.has_run {
            return Policy::Ephemeral;
        }
        let by_place = if request.has_execution_workspace {
            Policy::ReuseByExecutionWorkspace
        } else {
            Policy::ReuseByEnvironment
        };
        match self.policy {
            // Without a workspace nobody could ever take it over again.
            Some(Policy::ReuseByExecutionWorkspace) if !request.has_execution_workspace => Policy::Ephemeral,
            Some(policy) => policy,
            None if self.reuse_lease => by_place,
            None => Policy::Ephemeral,
        }
    }
}

/// `^[a-z0-9][a-z0-9._-]*$`
fn is_key(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().next().is_some_and(first) && text.bytes().all(|byte| first(byte) || b"._-".contains(&byte))
}
