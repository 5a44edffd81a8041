//! A driver whose words are searched for secrets before anybody records or repeats them: faults, metadata, findings.
//!
//! A command's own output passes as it is: it goes to whoever runs the command, and is not kept.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::ReleaseStatus;
use serde_json::Value;

use super::{
    Acquired, Command, Diagnostic, DriverTraits, EnvironmentDriver, Execution, Held, InvalidConfig, LeasePlan,
    LeaseScope, Listed, Outcome, OutputSink, PlanRequest, ProbeReport, ProbeScope, Realized, RemotePlace, Resumed,
    Workspace,
};
use crate::secrets::redact::Redactor;

/// A driver behind a redactor.
pub struct Redacting {
    driver: Arc<dyn EnvironmentDriver>,
    redactor: Arc<Redactor>,
}

impl Redacting {
    /// `driver`, searched for what `redactor` knows.
    #[must_use]
    pub fn new(driver: Arc<dyn EnvironmentDriver>, redactor: Arc<Redactor>) -> Self {
        Self { driver, redactor }
    }

    fn fault(&self, fault: &Fault) -> Fault {
        Fault::new(&self.redactor.text(&fault.code), self.redactor.text(&fault.message))
    }

    fn outcome<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        match outcome {
            Outcome::Done(value) => Outcome::Done(value),
            Outcome::NotDone(fault) => Outcome::NotDone(self.fault(&fault)),
            Outcome::Refused(fault) => Outcome::Refused(self.fault(&fault)),
            Outcome::Unknown(fault) => Outcome::Unknown(self.fault(&fault)),
        }
    }

    fn refusal(&self, invalid: &InvalidConfig) -> InvalidConfig {
        InvalidConfig { faults: invalid.faults.iter().map(|fault| self.redactor.text(fault)).collect() }
    }

    /// `None` where the provider has named the thing with a secret: it could not be found again under another name,
    /// and that one cannot be recorded.
    fn acquired(&self, acquired: Acquired) -> Option<Acquired> {
        let is_clean = acquired.provider_lease_id.as_ref().is_none_or(|id| self.redactor.text(id) == *id);
        is_clean.then(|| Acquired { metadata: self.redactor.object(acquired.metadata), ..acquired })
    }

    fn receipt(&self, receipt: Receipt) -> Receipt {
        Receipt { provider_lease_id: receipt.provider_lease_id.map(|id| self.redactor.text(&id)), ..receipt }
    }
}

/// What is known of a thing whose name is a secret. It is there, so that it is settled by its label.
fn named_with_a_secret<T>() -> Outcome<T> {
    let sentence = "The provider named what it gave with the value of a secret, so that its name is not recorded.";
    Outcome::Unknown(Fault::new("named-with-a-secret", sentence))
}

#[async_trait]
impl EnvironmentDriver for Redacting {
    fn key(&self) -> &'static str {
        self.driver.key()
    }

    fn traits(&self, config: &Value) -> DriverTraits {
        self.driver.traits(config)
    }

    fn secret_fields(&self, config: &Value) -> Vec<String> {
        self.driver.secret_fields(config)
    }

    fn listing(&self, config: &Value) -> Option<String> {
        self.driver.listing(config)
    }

    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig> {
        self.driver.validate(config).await.map_err(|invalid| self.refusal(&invalid))
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig> {
        self.driver.plan(request).map_err(|invalid| self.refusal(&invalid))
    }

    async fn probe(&self, scope: &ProbeScope, config: &Value) -> ProbeReport {
        let report = self.driver.probe(scope, config).await;
        let diagnostics = report.diagnostics.into_iter().map(|finding| Diagnostic {
            message: self.redactor.text(&finding.message),
            code: finding.code.map(|code| self.redactor.text(&code)),
            ..finding
        });
        let diagnostics = diagnostics.collect();
        ProbeReport { summary: self.redactor.text(&report.summary), diagnostics, ..report }
    }

    async fn acquire(&self, scope: &LeaseScope, requested_expires_at: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        match self.outcome(self.driver.acquire(scope, requested_expires_at).await) {
            Outcome::Done(acquired) => self.acquired(acquired).map_or_else(named_with_a_secret, Outcome::Done),
            other => other,
        }
    }

    async fn resume(&self, scope: &LeaseScope, held: &Held) -> Outcome<Resumed> {
        match self.outcome(self.driver.resume(scope, held).await) {
            Outcome::Done(Resumed::Same(acquired)) => {
                let same = |acquired| Outcome::Done(Resumed::Same(acquired));
                self.acquired(acquired).map_or_else(named_with_a_secret, same)
            }
            other => other,
        }
    }

    async fn release(&self, scope: &LeaseScope, held: &Held, status: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        self.outcome(self.driver.release(scope, held, status, keep).await).map(|receipt| self.receipt(receipt))
    }

    async fn destroy(&self, scope: &LeaseScope, held: &Held) -> Outcome<Receipt> {
        self.outcome(self.driver.destroy(scope, held).await).map(|receipt| self.receipt(receipt))
    }

    async fn realize(&self, scope: &LeaseScope, held: &Held, workspace: &Workspace) -> Outcome<Realized> {
        let text = |text: Option<String>| text.map(|text| self.redactor.text(&text));
        self.outcome(self.driver.realize(scope, held, workspace).await).map(|realized| Realized {
            cwd: self.redactor.text(&realized.cwd),
            summary: self.redactor.text(&realized.summary),
            remote: RemotePlace {
                path: text(realized.remote.path),
                host: text(realized.remote.host),
                username: text(realized.remote.username),
                sandbox_id: text(realized.remote.sandbox_id),
                ..realized.remote
            },
            metadata: self.redactor.object(realized.metadata),
            ..realized
        })
    }

    async fn execute(
        &self,
        scope: &LeaseScope,
        held: &Held,
        command: Command,
        output: OutputSink,
    ) -> Outcome<Execution> {
        let execution = self.outcome(self.driver.execute(scope, held, command, output).await);
        execution.map(|execution| Execution {
            signal: execution.signal.map(|signal| self.redactor.text(&signal)),
            limit: execution.limit.map(|limit| self.redactor.text(&limit)),
            ..execution
        })
    }

    async fn list(&self, scope: &ProbeScope, config: &Value) -> Outcome<Vec<Listed>> {
        self.outcome(self.driver.list(scope, config).await)
    }
}
