//! The way from a lease to the worker of its provider: what the `plugin` driver and plugin-backed sandboxes share.
//!
//! **Invariants:** secret values are in memory for one call and in its params only; what comes back is searched for
//! them, and loses its secret fields, before anybody else sees it (B20). A method that a worker does not have is not
//! called. Host keys of metadata neither come from a provider nor go to one (B12, B25).

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use lease_events::failure::Fault;
use lease_events::id::{CompanyId, EnvironmentId, RunId};
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::ReceiptState;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::outcome::Failure;
use super::schema;
use super::wire::{self, ProviderLease};
use crate::drivers::secrets::{SecretError, SecretReader, SecretResolver};
use crate::drivers::{Held, InvalidConfig, LeaseScope, Listed, ProbeReport, ProbeScope, Workspace};
use crate::secrets::fields;
use crate::secrets::redact::Redactor;
use crate::workers::connection::Call;
use crate::workers::manifest::DriverDeclaration;
use crate::workers::supervisor::Running;
use crate::workers::{Need, NotRunning, WorkerHost};

/// What a call may take, and what it may take beyond the config's own time-out (B22).
pub(in crate::drivers) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a thing that was made may stay out of a provider's listing, where nobody says.
pub(in crate::drivers) const VISIBILITY_DELAY: Duration = Duration::from_mins(1);
/// What the caller's own time limit has on top of a call's, so that the call's better answer comes first.
const CALLER_MARGIN: Duration = Duration::from_secs(1);

/// The method by which a worker tells what it holds: ours, and optional.
pub(in crate::drivers) const LIST: &str = "environmentListLeases";

const RELEASE: &str = "environmentReleaseLease";
const DESTROY: &str = "environmentDestroyLease";

/// What settles what is there: a plugin that is disabled still does it.
const SETTLING: [&str; 3] = [RELEASE, DESTROY, LIST];

/// Calls workers for drivers. Clones share everything.
#[derive(Clone)]
pub struct Bridge {
    pub(super) workers: Arc<WorkerHost>,
    secrets: Arc<dyn SecretResolver>,
}

/// Which declared driver is called, for whom, with which config.
#[derive(Debug, Clone)]
pub(in crate::drivers) struct Target<'a> {
    /// The plugin.
    pub(in crate::drivers) plugin_key: &'a str,
    /// The driver, as the manifest declares it.
    pub(in crate::drivers) driver: &'a DriverDeclaration,
    /// The provider's own config, secrets as references.
    pub(in crate::drivers) config: Map<String, Value>,
    /// For whom.
    pub(in crate::drivers) who: Who<'a>,
    /// Longest time that the call may take.
    pub(in crate::drivers) deadline: Duration,
}

/// For whom a call is made.
#[derive(Debug, Clone, Copy)]
pub(in crate::drivers) enum Who<'a> {
    /// For a lease.
    Lease(&'a LeaseScope),
    /// For an environment that is only looked at.
    Look(&'a ProbeScope),
}

impl Who<'_> {
    fn company_id(&self) -> CompanyId {
        match self {
            Self::Lease(scope) => scope.company_id,
            Self::Look(scope) => scope.company_id,
        }
    }

    fn environment_id(&self) -> EnvironmentId {
        match self {
            Self::Lease(scope) => scope.environment_id,
            Self::Look(scope) => scope.environment_id,
        }
    }

    fn lease(&self) -> Option<&LeaseScope> {
        match self {
            Self::Lease(scope) => Some(scope),
            Self::Look(_) => None,
        }
    }
}

/// What a worker answered, and what must not be seen of it.
pub(super) struct Answered {
    pub(super) value: Value,
    pub(super) redactor: Redactor,
}

impl Bridge {
    /// A bridge to these workers.
    #[must_use]
    pub fn new(workers: Arc<WorkerHost>, secrets: Arc<dyn SecretResolver>) -> Self {
        Self { workers, secrets }
    }

    /// The workers.
    pub(in crate::drivers) fn workers(&self) -> &WorkerHost {
        &self.workers
    }

    /// The longest that a call with this deadline may take, a starting worker included.
    pub(in crate::drivers) fn limit(&self, deadline: Duration) -> Duration {
        self.workers.timings().start_wait + deadline + CALLER_MARGIN
    }

    /// The config in its normal form, checked by schema and, where its worker runs, by the plugin itself.
    pub(in crate::drivers) async fn validate(
        &self,
        plugin_key: &str,
        driver: &DriverDeclaration,
        config: &Map<String, Value>,
        not_asked: &[&str],
    ) -> Result<Map<String, Value>, InvalidConfig> {
        const METHOD: &str = "environmentValidateConfig";
        let owner = format!("driver \"{}\" of plugin \"{plugin_key}\"", driver.driver_key);
        let config: Map<String, Value> = config
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        schema::check(driver.config_schema.as_ref(), &config, &owner, not_asked)?;
        let Some(running) = self.workers.running_now(plugin_key).filter(|running| running.supports(METHOD)) else {
            return Ok(config);
        };
        let references = schema::references(&config, &schema::secret_fields(driver.config_schema.as_ref()));
        let mut shown = config.clone();
        schema::name_references(&mut shown, &references);
        let params = json!({ "driverKey": driver.driver_key, "config": shown });
        let invalid = |sentence: String| InvalidConfig { faults: vec![sentence] };
        let answer = match running.connection.call(Call::new(METHOD, params, CALL_TIMEOUT)).await {
            Ok(answer) => answer,
            Err(error) => return Err(invalid(format!("The config of {owner} could not be checked: {error}"))),
        };
        if answer["ok"] != true {
            let told = answer["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            let mut faults: Vec<String> = told.collect();
            if faults.is_empty() {
                faults.push(format!("The plugin does not take the config of {owner}, and does not say why."));
            }
            return Err(InvalidConfig { faults });
        }
        let Some(mut normal) = answer["normalizedConfig"].as_object().cloned() else { return Ok(config) };
        // Whatever it made of the secret fields: what is kept is the reference.
        schema::restore(&mut normal, &references);
        schema::check(driver.config_schema.as_ref(), &normal, &owner, not_asked)?;
        Ok(normal)
    }

    /// Asks whether it would work.
    pub(in crate::drivers) async fn probe(&self, target: Target<'_>) -> ProbeReport {
        const METHOD: &str = "environmentProbe";
        let plugin_key = target.plugin_key;
        let read = |answered: Answered| {
            let value = answered.redactor.json(answered.value);
            wire::probe_report(&value).ok_or_else(|| Failure::no_answer(plugin_key, METHOD, "no report"))
        };
        let report = self.call(target, METHOD, Map::new(), "probe").await.and_then(read);
        report.unwrap_or_else(|failure| ProbeReport::failed(failure.fault()))
    }

    /// Makes a thing.
    pub(in crate::drivers) async fn acquire(
        &self,
        target: Target<'_>,
        requested_expires_at: Option<DateTime<Utc>>,
    ) -> Result<ProviderLease, Failure> {
        const METHOD: &str = "environmentAcquireLease";
        let mut params = Map::new();
        if let Some(scope) = target.who.lease() {
            // Ad hoc: an id that the same lease always has, since it is the only stable token that a worker gets.
            let run_id = scope.run_id.unwrap_or_else(|| RunId::derived(&["ad hoc", &scope.lease_id.to_string()]));
            params.insert("runId".to_owned(), json!(run_id));
            let optional = [
                ("workspaceMode", &scope.execution_workspace_mode),
                ("agentId", &scope.agent_id),
                ("executionWorkspaceId", &scope.execution_workspace_id),
                ("adapterType", &scope.adapter_type),
            ];
            let given = optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))));
            params.extend(given);
        }
        if let Some(at) = requested_expires_at {
            params.insert("requestedExpiresAt".to_owned(), at.to_rfc3339_opts(SecondsFormat::Millis, true).into());
        }
        self.lease(target, METHOD, params, "acquire").await
    }

    /// Finds a thing again. `None` where it is gone.
    pub(in crate::drivers) async fn resume(
        &self,
        target: Target<'_>,
        held: &Held,
        metadata: &Map<String, Value>,
    ) -> Result<Option<ProviderLease>, Failure> {
        let Some(id) = &held.provider_lease_id else { return Ok(None) };
        let params =
            Map::from_iter([("providerLeaseId".to_owned(), json!(id)), ("leaseMetadata".to_owned(), json!(metadata))]);
        match self.lease(target, "environmentResumeLease", params, "resume").await {
            Ok(lease) if lease.id.is_none() => Ok(None),
            Ok(lease) => Ok(Some(lease)),
            Err(failure) if failure.is_gone() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Ends a holding: keeps the thing, or removes it. A plugin that cannot destroy is asked to release, with
    /// `reuseLease` off: that is what tells a provider to keep nothing.
    pub(in crate::drivers) async fn end(
        &self,
        mut target: Target<'_>,
        held: &Held,
        metadata: &Map<String, Value>,
        keep: bool,
    ) -> Result<Receipt, Failure> {
        let running = self.workers.running(target.plugin_key, Need::Settle).await?;
        let method = if !keep && running.supports(DESTROY) { DESTROY } else { RELEASE };
        if !keep && target.config.contains_key("reuseLease") {
            target.config.insert("reuseLease".to_owned(), json!(false));
        }
        let params = Map::from_iter([
            ("providerLeaseId".to_owned(), json!(held.provider_lease_id)),
            ("leaseMetadata".to_owned(), json!(metadata)),
        ]);
        let state = match self.call(target, method, params, if keep { "release" } else { "destroy" }).await {
            Ok(answered) => wire::receipt_state(&answered.value, keep),
            Err(failure) if failure.is_gone() => ReceiptState::Gone,
            Err(failure) => return Err(failure),
        };
        Ok(Receipt { state, provider_lease_id: held.provider_lease_id.clone() })
    }

    /// Makes the workspace ready: where commands start, and what the provider says of it.
    pub(in crate::drivers) async fn realize(
        &self,
        target: Target<'_>,
        held: &Held,
        metadata: &Map<String, Value>,
        workspace: &Workspace,
    ) -> Result<(String, Map<String, Value>), Failure> {
        const METHOD: &str = "environmentRealizeWorkspace";
        let plugin_key = target.plugin_key;
        let fields = schema::secret_fields(target.driver.config_schema.as_ref());
        let workspace = json!(workspace).as_object().cloned().unwrap_or_default();
        let workspace: Map<String, Value> = workspace.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let params = Map::from_iter([
            ("lease".to_owned(), lease_param(held, metadata)),
            ("workspace".to_owned(), Value::Object(workspace)),
        ]);
        let answered = self.call(target, METHOD, params, "realize").await?;
        let Some(cwd) = answered.value["cwd"].as_str().filter(|cwd| !cwd.is_empty()) else {
            return Err(Failure::no_answer(plugin_key, METHOD, "no cwd"));
        };
        let mut metadata = cleaned(wire::object(answered.value.get("metadata")), &fields, &answered.redactor);
        // The host builds the record (B24).
        metadata.remove("workspaceRealization");
        Ok((answered.redactor.text(cwd), metadata))
    }

    /// What the provider holds.
    pub(in crate::drivers) async fn list(&self, target: Target<'_>) -> Result<Vec<Listed>, Failure> {
        let plugin_key = target.plugin_key;
        let answered = self.call(target, LIST, Map::new(), "list").await?;
        wire::listing(&answered.value).ok_or_else(|| Failure::no_answer(plugin_key, LIST, "no listing"))
    }

    async fn lease(
        &self,
        target: Target<'_>,
        method: &'static str,
        params: Map<String, Value>,
        purpose: &'static str,
    ) -> Result<ProviderLease, Failure> {
        let plugin_key = target.plugin_key;
        let fields = schema::secret_fields(target.driver.config_schema.as_ref());
        let answered = self.call(target, method, params, purpose).await?;
        let what = if answered.value.is_null() { "null" } else { "something that is no lease" };
        let mut lease = wire::lease(&answered.value).ok_or_else(|| Failure::no_answer(plugin_key, method, what))?;
        lease.metadata = cleaned(lease.metadata, &fields, &answered.redactor);
        // It could not be found again under another name, and this one cannot be recorded.
        if lease.id.as_ref().is_some_and(|id| answered.redactor.text(id) != *id) {
            let sentence = format!("The plugin \"{plugin_key}\" named what it gave with the value of a secret.");
            return Err(Failure::Unknown(Fault::new("named-with-a-secret", sentence)));
        }
        Ok(lease)
    }

    /// One call without live output.
    async fn call(
        &self,
        target: Target<'_>,
        method: &'static str,
        params: Map<String, Value>,
        purpose: &'static str,
    ) -> Result<Answered, Failure> {
        let (running, call) = self.prepare(target, method, params, purpose).await?;
        let redactor = Redactor::of(&call.secrets);
        let value = running.connection.call(call).await?;
        Ok(Answered { value, redactor })
    }

    /// The worker, and the call with its secrets in it.
    pub(super) async fn prepare(
        &self,
        target: Target<'_>,
        method: &'static str,
        mut params: Map<String, Value>,
        purpose: &'static str,
    ) -> Result<(Running, Call), Failure> {
        let need = if SETTLING.contains(&method) { Need::Settle } else { Need::Work };
        let running = self.workers.running(target.plugin_key, need).await?;
        if !running.supports(method) {
            return Err(Failure::not_supported(target.plugin_key, method));
        }
        let who = target.who;
        let mut config = without_host_keys_of_config(&target.config);
        let values = self.resolve(&config, target.driver, &who, purpose).await?;
        schema::fill(&mut config, &values);
        params.extend([
            ("driverKey".to_owned(), json!(target.driver.driver_key)),
            ("companyId".to_owned(), json!(who.company_id())),
            ("environmentId".to_owned(), json!(who.environment_id())),
            ("config".to_owned(), Value::Object(config)),
        ]);
        let mut tag = Value::Null;
        if let Some(scope) = who.lease() {
            if let Some(issue_id) = &scope.issue_id {
                params.insert("issueId".to_owned(), json!(issue_id));
            }
            let labels = json!({
                "leaseId": scope.lease_id, "attempt": scope.attempt, "ledgerId": scope.ledger_id,
                "fencingToken": scope.fencing_token,
            });
            params.extend(labels.as_object().cloned().unwrap_or_default());
            tag = labels;
        }
        let secrets = values.into_iter().map(|(_, value)| value).collect();
        let company_id = Some(who.company_id().to_string());
        let call = Call { company_id, tag, secrets, ..Call::new(method, Value::Object(params), target.deadline) };
        Ok((running, call))
    }

    async fn resolve(
        &self,
        config: &Map<String, Value>,
        driver: &DriverDeclaration,
        who: &Who<'_>,
        purpose: &'static str,
    ) -> Result<Vec<(String, SecretString)>, Failure> {
        let fields = schema::secret_fields(driver.config_schema.as_ref());
        let reader = SecretReader {
            company_id: who.company_id(),
            environment_id: Some(who.environment_id()),
            lease_id: who.lease().map(|scope| scope.lease_id),
            purpose,
        };
        let mut values = Vec::new();
        for (path, reference) in schema::references(config, &fields) {
            let value = self.secrets.resolve(&reference, &reader).await.map_err(|error| match error {
                SecretError::Unknown { .. } => Failure::Refused(Fault::new("secret-unknown", error.to_string())),
                SecretError::Unavailable { .. } => {
                    Failure::NotDone(Fault::new("secret-unavailable", error.to_string()))
                }
            })?;
            values.push((path, value));
        }
        Ok(values)
    }

    /// Why the plugin or its driver cannot be used, as B8 tells it apart; `None` where it can.
    pub(in crate::drivers) fn missing(&self, plugin_key: &str, driver_key: &str) -> Failure {
        match self.workers.registry().get(plugin_key) {
            Ok(Some(_)) => Failure::NotDone(Fault::new(
                "plugin-missing",
                format!("The plugin \"{plugin_key}\" does not declare the driver \"{driver_key}\"."),
            )),
            _ => NotRunning::Missing { plugin_key: plugin_key.to_owned() }.into(),
        }
    }
}

impl ProbeReport {
    /// The report where nobody could look.
    fn failed(fault: &Fault) -> Self {
        let diagnostic = crate::drivers::Diagnostic {
            severity: crate::drivers::Severity::Error,
            message: fault.message.clone(),
            code: Some(fault.code.clone()),
        };
        Self { ok: false, summary: fault.message.clone(), diagnostics: vec![diagnostic] }
    }
}

/// The lease, as workers get it back.
pub(super) fn lease_param(held: &Held, metadata: &Map<String, Value>) -> Value {
    json!({ "providerLeaseId": held.provider_lease_id, "metadata": metadata })
}

/// What a provider says, fit to be recorded.
pub(super) fn cleaned(mut metadata: Map<String, Value>, fields: &[String], redactor: &Redactor) -> Map<String, Value> {
    fields::remove(&mut metadata, fields);
    wire::without_host_keys(&redactor.object(metadata))
}

/// The host's own keys are not a provider's config, nor is its shell (B12).
fn without_host_keys_of_config(config: &Map<String, Value>) -> Map<String, Value> {
    let mut config = wire::without_host_keys(config);
    config.remove("shellCommand");
    config
}
