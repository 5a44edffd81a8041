//! The fake provider, declaring less than it can: what recovery does with providers that can only list, or not even that.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_ledger::drivers::sandbox::fake::FakeProvider;
use lease_ledger::drivers::sandbox::provider::{Abilities, Call, SandboxProvider};
use lease_ledger::drivers::{
    Acquired, Command, Execution, Held, InvalidConfig, Listed, Outcome, OutputSink, ProbeReport, ProbeScope, Realized,
    Resumed, Workspace,
};
use serde_json::{Map, Value};

/// What it declares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared {
    pub(super) idempotent: bool,
    pub(super) lists: bool,
    pub(super) confirms: bool,
    pub(super) visibility: Duration,
}

impl Default for Declared {
    fn default() -> Self {
        Self { idempotent: true, lists: true, confirms: true, visibility: Duration::ZERO }
    }
}

/// The provider.
pub(super) struct Listing {
    pub(super) inner: FakeProvider,
    pub(super) declared: Declared,
}

#[async_trait]
impl SandboxProvider for Listing {
    fn key(&self) -> &str {
        self.inner.key()
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_acquire: self.declared.idempotent,
            can_list: self.declared.lists,
            can_confirm_absence: self.declared.confirms,
            visibility_delay: self.declared.visibility,
            ..self.inner.abilities()
        }
    }

    async fn validate(&self, config: &Map<String, Value>) -> Result<Map<String, Value>, InvalidConfig> {
        self.inner.validate(config).await
    }

    async fn probe(&self, scope: &ProbeScope, config: &Map<String, Value>) -> ProbeReport {
        self.inner.probe(scope, config).await
    }

    async fn acquire(&self, call: Call<'_>, end: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        self.inner.acquire(call, end).await
    }

    async fn resume(&self, call: Call<'_>, held: &Held) -> Outcome<Resumed> {
        self.inner.resume(call, held).await
    }

    async fn release(&self, call: Call<'_>, held: &Held, status: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        self.inner.release(call, held, status, keep).await
    }

    async fn destroy(&self, call: Call<'_>, held: &Held) -> Outcome<Receipt> {
        self.inner.destroy(call, held).await
    }

    async fn realize(&self, call: Call<'_>, held: &Held, workspace: &Workspace) -> Outcome<Realized> {
        self.inner.realize(call, held, workspace).await
    }

    async fn execute(&self, call: Call<'_>, held: &Held, command: Command, output: OutputSink) -> Outcome<Execution> {
        self.inner.execute(call, held, command, output).await
    }

    async fn list(&self, scope: &ProbeScope, config: &Map<String, Value>) -> Outcome<Vec<Listed>> {
        if self.declared.lists {
            self.inner.list(scope, config).await
        } else {
            Outcome::Refused(Fault::new("not-supported", "it cannot list"))
        }
    }
}
