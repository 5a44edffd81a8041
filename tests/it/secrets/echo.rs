//! A driver that reads the secret of its config and says it in everything that it says: metadata, errors, findings.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{Policy, ReceiptState, ReleaseStatus, WorkspaceKind};
use lease_ledger::drivers::{
    Acquired, Command, Diagnostic, DriverTraits, EnvironmentDriver, Execution, Held, InvalidConfig, LeasePlan,
    LeaseScope, Listed, OnResumeFailure, Outcome, OutputSink, PlanRequest, ProbeReport, ProbeScope, Realized,
    RemotePlace, Resumed, Severity, SyncStrategy, Workspace,
};
use serde_json::{Map, Value, json};

use super::*;

/// The driver of key `echo`. Config: `token`, a secret; `fails`, the effect that does.
pub(super) struct Echo {
    secrets: Arc<dyn SecretResolver>,
    last: Mutex<String>,
}

impl Echo {
    pub(super) fn new(secrets: Arc<dyn SecretResolver>) -> Self {
        Self { secrets, last: Mutex::default() }
    }

    /// Reads the token, and gives what it says of it.
    async fn token(&self, scope: &LeaseScope, purpose: &'static str) -> Result<String, Fault> {
        let malformed = |error: serde_json::Error| Fault::new("config", error.to_string());
        let reference: SecretRef = serde_json::from_value(scope.config["token"].clone()).map_err(malformed)?;
        let reader = SecretReader {
            company_id: scope.company_id,
            environment_id: Some(scope.environment_id),
            lease_id: Some(scope.lease_id),
            purpose,
        };
        let value = self.secrets.resolve(&reference, &reader).await;
        let value: SecretString = value.map_err(|error| Fault::new("secret", error.to_string()))?;
        let value = value.expose_secret();
        let hex = hex(value);
        let encoded = STANDARD.encode(format!("user:{value}"));
        let said = format!("token {value}, basic {encoded}, hex {hex}, json {}", json!(value));
        said.clone_into(&mut self.last.lock().expect("nobody panics holding it"));
        Ok(said)
    }

    fn said(&self) -> String {
        self.last.lock().expect("nobody panics holding it").clone()
    }

    fn fails(scope: &LeaseScope, effect: &str) -> bool {
        scope.config["fails"] == effect
    }
}

#[async_trait]
impl EnvironmentDriver for Echo {
    fn key(&self) -> &'static str {
        "echo"
    }

    fn traits(&self, _: &Value) -> DriverTraits {
        DriverTraits {
            effect_free: false,
            idempotent_acquire: true,
            can_list: false,
            can_confirm_absence: true,
            supports_reuse: false,
            visibility_delay: Duration::ZERO,
            call_timeout: Duration::from_secs(30),
        }
    }

    fn secret_fields(&self, _: &Value) -> Vec<String> {
        vec!["/token".to_owned(), "/auth/key".to_owned()]
    }

    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig> {
        match &config["refuse"] {
            Value::Null => Ok(config.clone()),
            _ => Err(InvalidConfig { faults: vec![format!("The config {config} is refused; {}.", self.said())] }),
        }
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig> {
        Ok(LeasePlan {
            provider: "echo".to_owned(),
            policy: Policy::Ephemeral,
            may_take_over: false,
            workspace_kind: WorkspaceKind::Derived,
            config: request.config.clone(),
            keys_outside_fingerprint: &[],
            on_resume_failure: OnResumeFailure::Fresh,
        })
    }

    async fn probe(&self, _: &ProbeScope, _: &Value) -> ProbeReport {
        let finding = Diagnostic { severity: Severity::Info, message: self.said(), code: Some(self.said()) };
        ProbeReport { ok: true, summary: format!("It would work with {}.", self.said()), diagnostics: vec![finding] }
    }

    async fn acquire(&self, scope: &LeaseScope, _: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        match self.token(scope, "acquire").await {
            Err(fault) => Outcome::Refused(fault),
            Ok(said) if Self::fails(scope, "acquire") => Outcome::NotDone(Fault::new("echo", said)),
            Ok(said) => {
                let name = if Self::fails(scope, "name") { said.clone() } else { "echo".to_owned() };
                let metadata = json!({ "said": said, "deep": [{ "said": said }], "headers": { said: 1 } });
                let Value::Object(metadata) = metadata else {
                    return Outcome::NotDone(Fault::new("echo", "no object"));
                };
                let provider_lease_id = Some(format!("{name}://{}", scope.lease_id));
                Outcome::Done(Acquired { provider_lease_id, metadata, expires_at: None })
            }
        }
    }

    async fn resume(&self, _: &LeaseScope, _: &Held) -> Outcome<Resumed> {
        Outcome::Refused(Fault::new("echo", self.said()))
    }

    async fn release(&self, _: &LeaseScope, held: &Held, _: ReleaseStatus, _: bool) -> Outcome<Receipt> {
        if held.metadata.is_empty() {
            return Outcome::Unknown(Fault::new("echo", self.said()));
        }
        let provider_lease_id = held.provider_lease_id.clone();
        Outcome::Done(Receipt { state: ReceiptState::Gone, provider_lease_id })
    }

    async fn destroy(&self, _: &LeaseScope, _: &Held) -> Outcome<Receipt> {
        Outcome::Unknown(Fault::new("echo", self.said()))
    }

    async fn realize(&self, scope: &LeaseScope, _: &Held, _: &Workspace) -> Outcome<Realized> {
        let said = match self.token(scope, "realize").await {
            Ok(said) => said,
            Err(fault) => return Outcome::Refused(fault),
        };
        let metadata = Map::from_iter([("said".to_owned(), Value::from(said.clone()))]);
        Outcome::Done(Realized {
            cwd: format!("/{said}"),
            sync: SyncStrategy::None,
            summary: said.clone(),
            remote: RemotePlace { path: Some(said.clone()), username: Some(said), ..RemotePlace::default() },
            metadata,
        })
    }

    async fn execute(&self, _: &LeaseScope, _: &Held, _: Command, _: OutputSink) -> Outcome<Execution> {
        Outcome::NotDone(Fault::new("echo", self.said()))
    }

    async fn list(&self, _: &ProbeScope, _: &Value) -> Outcome<Vec<Listed>> {
        Outcome::Refused(Fault::new("echo", self.said()))
    }
}
