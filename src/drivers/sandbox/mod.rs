//! The `sandbox` driver (B7): checks the keys that every sandbox has, and routes to the provider that the config names.
//!
//! **Invariants:** a provider never sees the driver's keys; the driver's routing metadata (`driver`, `provider`) is
//! written last, so that no provider can overwrite it (B25). An ad-hoc acquire is ephemeral and takes nothing over (B13).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lease_events::failure::Fault;
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::{ReleaseStatus, WorkspaceKind};
use serde_json::Value;

use self::config::SandboxConfig;
use self::provider::{Abilities, Call, ProviderSource, SandboxProvider};
use super::{
    Acquired, Command, DriverTraits, EnvironmentDriver, Execution, Held, InvalidConfig, LeasePlan, LeaseScope, Listed,
    Outcome, OutputSink, PlanRequest, ProbeReport, ProbeScope, Realized, Resumed, Workspace,
};

pub mod provider;

pub mod bubblewrap;
pub mod fake;
pub mod plugin_backed;

mod config;

/// What a call may take beyond the config's own time-out, and without one (B22).
const CALL_TIMEOUT_MARGIN: Duration = Duration::from_secs(30);

/// The driver.
pub struct SandboxDriver {
    built_in: BTreeMap<String, Arc<dyn SandboxProvider>>,
    source: Option<Arc<dyn ProviderSource>>,
}

impl SandboxDriver {
    /// The driver with these providers.
    #[must_use]
    pub fn new(providers: impl IntoIterator<Item = Arc<dyn SandboxProvider>>) -> Self {
        let built_in = providers.into_iter().map(|provider| (provider.key().to_owned(), provider)).collect();
        Self { built_in, source: None }
    }

    /// The same driver, with those providers too that are found there. One that is built in comes first.
    #[must_use]
    pub fn with_source(self, source: Arc<dyn ProviderSource>) -> Self {
        Self { source: Some(source), ..self }
    }

    fn provider(&self, key: &str) -> Result<Arc<dyn SandboxProvider>, NoRoute> {
        let found = self.built_in.get(key).cloned();
        found.or_else(|| self.source.as_ref()?.provider(key)).ok_or_else(|| {
            let mut known: Vec<String> = self.built_in.keys().cloned().collect();
            known.extend(self.source.iter().flat_map(|source| source.keys()));
            NoRoute::Missing(format!("There is no sandbox provider \"{key}\"; there is: {}.", known.join(", ")))
        })
    }

    /// The config and the provider that it names.
    fn route(&self, config: &Value) -> Result<(SandboxConfig, Arc<dyn SandboxProvider>), NoRoute> {
        let config = SandboxConfig::parse(config)?;
        let provider = self.provider(&config.provider)?;
        Ok((config, provider))
    }
}

/// Why a call goes to no provider.
enum NoRoute {
    Invalid(InvalidConfig),
    /// There is none of that key now; a plugin may bring it.
    Missing(String),
}

impl From<InvalidConfig> for NoRoute {
    fn from(invalid: InvalidConfig) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<NoRoute> for InvalidConfig {
    fn from(no_route: NoRoute) -> Self {
        match no_route {
            NoRoute::Invalid(invalid) => invalid,
            NoRoute::Missing(sentence) => Self { faults: vec![sentence] },
        }
    }
}

/// Routes a call. A config that is not valid is refused; a provider that is not there may come back.
macro_rules! route {
    ($self:ident, $config:expr) => {
        match $self.route($config) {
            Ok(routed) => routed,
            Err(NoRoute::Invalid(invalid)) => {
                return Outcome::Refused(Fault::new("invalid-config", invalid.to_string()));
            }
            Err(NoRoute::Missing(sentence)) => return Outcome::NotDone(Fault::new("provider-missing", sentence)),
        }
    };
}

#[async_trait]
impl EnvironmentDriver for SandboxDriver {
    fn key(&self) -> &'static str {
        "sandbox"
    }

    fn traits(&self, config: &Value) -> DriverTraits {
        let routed = self.route(config).ok();
        let abilities = routed.as_ref().map_or(NO_ABILITIES, |(_, provider)| provider.abilities());
        let start_wait = routed.as_ref().map_or(Duration::ZERO, |(_, provider)| provider.start_wait());
        let longest = routed.and_then(|(config, _)| config.call_timeout()).unwrap_or_default();
        DriverTraits {
            effect_free: false,
            idempotent_acquire: abilities.idempotent_acquire,
            can_list: abilities.can_list,
            can_confirm_absence: abilities.can_confirm_absence,
            supports_reuse: abilities.supports_reuse,
            visibility_delay: abilities.visibility_delay,
            call_timeout: start_wait + longest + CALL_TIMEOUT_MARGIN,
        }
    }

    async fn validate(&self, config: &Value) -> Result<Value, InvalidConfig> {
        let (config, provider) = self.route(config)?;
        let own = provider.validate(&config.own).await?;
        Ok(config.normal_form(own, provider.abilities().workspace_kind))
    }

    fn secret_fields(&self, config: &Value) -> Vec<String> {
        let provider = config["provider"].as_str().unwrap_or_default();
        self.provider(provider).map(|provider| provider.secret_fields()).unwrap_or_default()
    }

    fn plan(&self, request: &PlanRequest<'_>) -> Result<LeasePlan, InvalidConfig> {
        let (config, provider) = self.route(request.config)?;
        Ok(config.plan(request, &provider.abilities()))
    }

    async fn probe(&self, scope: &ProbeScope, config: &Value) -> ProbeReport {
        match self.route(config) {
            Ok((config, provider)) => match provider.validate(&config.own).await {
                Ok(own) => provider.probe(scope, &own).await,
                Err(invalid) => ProbeReport::invalid(&invalid),
            },
            Err(no_route) => ProbeReport::invalid(&no_route.into()),
        }
    }

    async fn acquire(&self, scope: &LeaseScope, requested_expires_at: Option<DateTime<Utc>>) -> Outcome<Acquired> {
        let (config, provider) = route!(self, &scope.config);
        let outcome = provider.acquire(Call { scope, config: &config.own }, requested_expires_at).await;
        outcome.map(|acquired| routed(acquired, &config.provider))
    }

    async fn resume(&self, scope: &LeaseScope, held: &Held) -> Outcome<Resumed> {
        let (config, provider) = route!(self, &scope.config);
        let outcome = provider.resume(Call { scope, config: &config.own }, held).await;
        outcome.map(|resumed| match resumed {
            Resumed::Same(acquired) => Resumed::Same(routed(acquired, &config.provider)),
            Resumed::Gone => Resumed::Gone,
        })
    }

    async fn release(&self, scope: &LeaseScope, held: &Held, status: ReleaseStatus, keep: bool) -> Outcome<Receipt> {
        let (config, provider) = route!(self, &scope.config);
        provider.release(Call { scope, config: &config.own }, held, status, keep).await
    }

    async fn destroy(&self, scope: &LeaseScope, held: &Held) -> Outcome<Receipt> {
        let (config, provider) = route!(self, &scope.config);
        provider.destroy(Call { scope, config: &config.own }, held).await
    }

    async fn realize(&self, scope: &LeaseScope, held: &Held, workspace: &Workspace) -> Outcome<Realized> {
        let (config, provider) = route!(self, &scope.config);
        provider.realize(Call { scope, config: &config.own }, held, workspace).await
    }

    async fn execute(
        &self,
        scope: &LeaseScope,
        held: &Held,
        command: Command,
        output: OutputSink,
    ) -> Outcome<Execution> {
        let (config, provider) = route!(self, &scope.config);
        let command = Command { timeout: command.timeout.or(config.timeout), ..command };
        if let Err(fault) = super::process::check(&command) {
            return Outcome::Refused(fault);
        }
        provider.execute(Call { scope, config: &config.own }, held, command, output).await
    }

    fn listing(&self, config: &Value) -> Option<String> {
        let (config, provider) = self.route(config).ok()?;
        provider.lists_all().then_some(config.provider)
    }

    async fn list(&self, scope: &ProbeScope, config: &Value) -> Outcome<Vec<Listed>> {
        let (config, provider) = route!(self, config);
        provider.list(scope, &config.own).await
    }
}

/// What may be assumed of a provider that is not there.
const NO_ABILITIES: Abilities = Abilities {
    idempotent_acquire: false,
    can_list: false,
    can_confirm_absence: false,
    supports_reuse: false,
    visibility_delay: Duration::ZERO,
    workspace_kind: WorkspaceKind::Unknown,
};

/// Writes the routing keys over whatever the provider says (B25).
fn routed(mut acquired: Acquired, provider: &str) -> Acquired {
    let routing = [("driver", "sandbox"), ("provider", provider)];
    acquired.metadata.extend(routing.map(|(key, value)| (key.to_owned(), Value::from(value))));
    acquired
}

/// A sandbox's name at the provider, such as `sandbox://bubblewrap/<lease-id>`.
fn provider_lease_id(provider: &str, name: &str) -> String {
    format!("sandbox://{provider}/{name}")
}

/// The lease id in a [`provider_lease_id`] of this provider.
fn lease_of(held: &Held, provider: &str) -> Result<lease_events::id::LeaseId, Fault> {
    let named = held.provider_lease_id.as_deref();
    let name = named.and_then(|id| id.strip_prefix("sandbox://")?.strip_prefix(provider)?.strip_prefix('/'));
    // Parsed, and formatted again by whoever uses it: a name can never be a path.
    name.and_then(|name| name.parse().ok()).ok_or_else(|| {
        let named = named.unwrap_or("(none)");
        Fault::new(
            "invalid-provider-lease-id",
            format!("\"{named}\" is no sandbox of provider \"{provider}\"; it must be sandbox://{provider}/LEASE-ID."),
        )
    })
}

/// A call under a token below the one that the sandbox has seen.
fn stale_token(given: u64, seen: u64) -> Fault {
    let sentence = format!("The fencing token {given} is stale: the sandbox has been held under {seen} since.");
    Fault::new("stale-fencing-token", sentence)
}

/// A sandbox with the label of somebody else.
fn not_ours(what: &str) -> Fault {
    Fault::new("not-ours", format!("{what} bears the label of another ledger; it is left alone."))
}

#[cfg(test)]
mod tests;
