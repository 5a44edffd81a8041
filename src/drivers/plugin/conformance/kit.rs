//! What the cases work with: one worker, one config, and the calls of the ledger, made through the same bridge.
//!
//! **Invariants:** a check acts for a ledger, a company and an environment of its own, so that nothing of anybody else
//! bears its labels. What a call gave is remembered until the worker says that it is gone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lease_events::failure::Fault;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId};
use lease_events::lease::event::Receipt;
use lease_events::lease::vocabulary::ReceiptState;
use lease_events::seam::Ids;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::cleanup::Made;
use super::switch::Switch;
use super::{Patience, method};
use crate::drivers::plugin::bridge::{Bridge, Target, Who};
use crate::drivers::plugin::outcome::Failure;
use crate::drivers::plugin::wire::ProviderLease;
use crate::drivers::{Command, Execution, Held, LeaseScope, Listed, OutputChunk, OutputStream, ProbeScope, Workspace};
use crate::workers::Need;
use crate::workers::calls::LateAnswer;
use crate::workers::manifest::{DriverDeclaration, DriverKind};
use crate::workers::rpc::RpcError;
use crate::workers::supervisor::Running;

/// The token of a first holder: above 1, so that there is one below it.
pub(super) const TOKEN: u64 = 5;
/// How often it is looked whether something has come about.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Output that waits for its reader: the reader never waits.
const OUTPUT_CHUNKS: usize = 16;
/// Most characters of a worker's own words in a sentence.
const QUOTE_MAX: usize = 200;

/// Why a case did not pass.
#[derive(Debug)]
pub(super) enum Stop {
    /// What happened, and what would be right.
    Failed(String),
    /// What is lacking.
    NotOffered(String),
}

/// A case, or a part of one.
pub(super) type Tried<T = ()> = Result<T, Stop>;

pub(super) fn failed<T>(sentence: impl Into<String>) -> Tried<T> {
    Err(Stop::Failed(sentence.into()))
}

pub(super) fn not_offered<T>(sentence: impl Into<String>) -> Tried<T> {
    Err(Stop::NotOffered(sentence.into()))
}

/// What a command did.
pub(super) struct Ran {
    pub(super) execution: Execution,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The worker under check.
pub(super) struct Kit {
    pub(super) bridge: Bridge,
    pub(super) switch: Arc<Switch>,
    pub(super) plugin_key: String,
    pub(super) driver: DriverDeclaration,
    /// In its normal form, secrets as references.
    pub(super) config: Map<String, Value>,
    /// That of another account.
    pub(super) other_config: Option<Map<String, Value>>,
    pub(super) patience: Patience,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) ledger_id: LedgerId,
    pub(super) company_id: CompanyId,
    pub(super) environment_id: EnvironmentId,
    pub(super) late: tokio::sync::Mutex<mpsc::Receiver<LateAnswer>>,
    pub(super) made: Mutex<Vec<Made>>,
    /// The leases whose acquire was not answered yet, or left unknown.
    pub(super) pending: Mutex<Vec<LeaseScope>>,
    /// How long a new thing stayed out of the listing.
    pub(super) visibility: Mutex<Option<Duration>>,
}

impl Kit {
    /// The worker, started where it is not.
    pub(super) async fn running(&self) -> Tried<Running> {
        self.bridge.workers.running(&self.plugin_key, Need::Work).await.map_err(|error| Stop::Failed(error.to_string()))
    }

    /// Whether the worker has this method.
    pub(super) async fn offers(&self, method: &str) -> Tried<bool> {
        Ok(self.running().await?.supports(method))
    }

    /// Ends the case where the worker lacks this method.
    pub(super) async fn needs(&self, method: &str) -> Tried {
        if self.offers(method).await? { Ok(()) } else { not_offered(format!("The worker has no {method}.")) }
    }

    /// Ends the case where nothing is ever kept.
    pub(super) async fn needs_reuse(&self) -> Tried {
        if !self.driver.supports_reusable_leases {
            return not_offered("The manifest says `supportsReusableLeases: false`.");
        }
        if !self.can_be_told_to_keep() {
            return not_offered("The driver's config has no \"reuseLease\", so nothing is ever kept.");
        }
        self.needs(method::RELEASE).await?;
        self.needs(method::RESUME).await
    }

    /// Whether a config can say that what is released is to be kept. Sandboxes' always can.
    fn can_be_told_to_keep(&self) -> bool {
        let named =
            || self.driver.config_schema.as_ref().is_some_and(|schema| schema["properties"]["reuseLease"].is_object());
        self.driver.kind == DriverKind::SandboxProvider || named()
    }

    /// A config that says what becomes of what is released.
    pub(super) fn keeping(&self, config: &Map<String, Value>, keep: bool) -> Value {
        let mut config = config.clone();
        if self.can_be_told_to_keep() {
            config.insert("reuseLease".to_owned(), keep.into());
        }
        Value::Object(config)
    }

    /// A scope for a fresh lease.
    pub(super) fn scope(&self) -> LeaseScope {
        LeaseScope {
            ledger_id: self.ledger_id,
            company_id: self.company_id,
            environment_id: self.environment_id,
            lease_id: LeaseId(self.ids.fresh()),
            run_id: Some(RunId(self.ids.fresh())),
            issue_id: None,
            agent_id: None,
            execution_workspace_id: None,
            execution_workspace_mode: None,
            adapter_type: None,
            config: self.keeping(&self.config, false),
            fencing_token: TOKEN,
            attempt: 1,
        }
    }

    /// A scope for a fresh lease whose thing is to be kept.
    pub(super) fn keeping_scope(&self) -> LeaseScope {
        LeaseScope { config: self.keeping(&self.config, true), ..self.scope() }
    }

    fn target<'a>(&'a self, who: Who<'a>, config: &Value, deadline: Duration) -> Target<'a> {
        let config = config.as_object().cloned().unwrap_or_default();
        Target { plugin_key: &self.plugin_key, driver: &self.driver, config, who, deadline }
    }

    fn of_lease<'a>(&'a self, scope: &'a LeaseScope) -> Target<'a> {
        self.target(Who::Lease(scope), &scope.config, self.call_timeout(&scope.config))
    }

    /// What a call may take under this config (B22).
    fn call_timeout(&self, config: &Value) -> Duration {
        let millis = |key: &str| config[key].as_u64().unwrap_or_default();
        Duration::from_millis(millis("timeoutMs").max(millis("bridgeRequestTimeoutMs"))) + self.patience.call
    }

    /// Acquires.
    pub(super) async fn acquire(&self, scope: &LeaseScope) -> Result<Held, Failure> {
        self.acquire_within(scope, self.call_timeout(&scope.config)).await
    }

    /// Acquires, and stops waiting after a while.
    pub(super) async fn acquire_within(&self, scope: &LeaseScope, deadline: Duration) -> Result<Held, Failure> {
        let target = self.target(Who::Lease(scope), &scope.config, deadline);
        self.pending().push(scope.clone());
        let acquired = self.bridge.acquire(target, None).await;
        if !matches!(acquired, Err(Failure::Unknown(_))) {
            self.is_answered(scope);
        }
        let lease = acquired?;
        self.given(scope, lease).ok_or_else(|| {
            Failure::Unknown(Fault::new("provider-answer-invalid", "It was answered without a providerLeaseId."))
        })
    }

    /// Takes what a call gave.
    pub(super) fn given(&self, scope: &LeaseScope, lease: ProviderLease) -> Option<Held> {
        let held = Held { provider_lease_id: Some(lease.id?), metadata: lease.metadata };
        self.is_answered(scope);
        self.remember(scope, &held);
        Some(held)
    }

    /// Acquires; the case fails where that is not done.
    pub(super) async fn make(&self, scope: &LeaseScope) -> Tried<Held> {
        self.acquire(scope).await.map_err(|failure| Stop::Failed(format!("An acquire was {}.", told(&failure))))
    }

    /// The answer to an acquire that came after its caller had stopped waiting.
    pub(super) async fn late_answer(&self, scope: &LeaseScope) -> Option<Result<Value, RpcError>> {
        let wait = async {
            let mut late = self.late.lock().await;
            let lease_id = json!(scope.lease_id);
            while let Some(answer) = late.recv().await {
                if answer.method == method::ACQUIRE && answer.tag["leaseId"] == lease_id {
                    return Some(answer.answer);
                }
            }
            None
        };
        timeout(self.call_timeout(&scope.config), wait).await.ok().flatten()
    }

    /// Resumes; `None` where it is said to be gone.
    pub(super) async fn resume(&self, scope: &LeaseScope, held: &Held) -> Result<Option<Held>, Failure> {
        let lease = self.bridge.resume(self.of_lease(scope), held, &held.metadata).await?;
        Ok(lease.and_then(|lease| self.given(scope, lease)))
    }

    /// Resumes; the case fails where that does not give the same thing.
    pub(super) async fn resume_same(&self, scope: &LeaseScope, held: &Held, when: &str) -> Tried {
        match self.resume(scope, held).await {
            Ok(Some(again)) => match self.another(held, &again) {
                None => Ok(()),
                Some(other) => {
                    failed(format!("{when} a resume of {} gave {other}; it must give the same.", name(held)))
                }
            },
            Ok(None) => failed(format!("{when} {} was gone; it must be there until it is destroyed.", name(held))),
            Err(failure) => {
                failed(format!("{when} a resume of {} was {}; it must be done.", name(held), told(&failure)))
            }
        }
    }

    /// What an answer names, where that is not what the one before named: by its id, its place, and the fields that are
    /// declared to be its identity.
    pub(super) fn another(&self, before: &Held, now: &Held) -> Option<String> {
        if before.provider_lease_id != now.provider_lease_id {
            return Some(name(now).to_owned());
        }
        let declared = self.driver.identity_fields.iter().map(String::as_str);
        let mut known_by = std::iter::once("remoteCwd").chain(declared);
        let field = known_by.find(|field| before.metadata.get(*field) != now.metadata.get(*field))?;
        Some(format!("{} with another \"{field}\"", name(now)))
    }

    /// Releases where `keep` is set, else destroys.
    pub(super) async fn end(&self, scope: &LeaseScope, held: &Held, keep: bool) -> Result<Receipt, Failure> {
        let receipt = self.bridge.end(self.of_lease(scope), held, &held.metadata, keep).await?;
        if receipt.state != ReceiptState::Kept {
            self.forget(held);
        }
        Ok(receipt)
    }

    /// Destroys; the case fails where it is not gone then.
    pub(super) async fn destroy(&self, scope: &LeaseScope, held: &Held, when: &str) -> Tried {
        match self.end(scope, held, false).await {
            Ok(receipt) if receipt.state == ReceiptState::Kept => {
                failed(format!("{when} a destroy of {} answered \"stopped\"; it must remove it.", name(held)))
            }
            Ok(_) => Ok(()),
            Err(failure) => {
                failed(format!("{when} a destroy of {} was {}; it must be done.", name(held), told(&failure)))
            }
        }
    }

    /// Makes the workspace ready where the worker can.
    pub(super) async fn realize(&self, scope: &LeaseScope, held: &Held) -> Result<String, Failure> {
        let workspace = Workspace::default();
        Ok(self.bridge.realize(self.of_lease(scope), held, &held.metadata, &workspace).await?.0)
    }

    /// Runs a command.
    pub(super) async fn execute(&self, scope: &LeaseScope, held: &Held, command: Command) -> Result<Ran, Failure> {
        let deadline = command.timeout.unwrap_or_default() + self.patience.call;
        let target = self.target(Who::Lease(scope), &scope.config, deadline);
        let (sink, mut output) = mpsc::channel::<OutputChunk>(OUTPUT_CHUNKS);
        let collect = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(chunk) = output.recv().await {
                match chunk.stream {
                    OutputStream::Stdout => stdout.extend(chunk.bytes),
                    OutputStream::Stderr => stderr.extend(chunk.bytes),
                }
            }
            (stdout, stderr)
        };
        let running = self.bridge.execute(target, held, &held.metadata, command, sink);
        let (execution, (stdout, stderr)) = tokio::join!(running, collect);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { execution: execution?, stdout: text(stdout), stderr: text(stderr) })
    }

    /// What the worker holds now, or an empty list where it cannot tell.
    pub(super) async fn listed(&self) -> Tried<Vec<Listed>> {
        if !self.offers(method::LIST).await? {
            return Ok(Vec::new());
        }
        let scope = ProbeScope { company_id: self.company_id, environment_id: self.environment_id };
        let config = Value::Object(self.config.clone());
        let listed = self.bridge.list(self.target(Who::Look(&scope), &config, self.call_timeout(&config))).await;
        listed.map_err(|failure| Stop::Failed(format!("A listing was {}; it must be answered.", told(&failure))))
    }

    /// Fails where more than one thing bears a lease's label. One that cannot list passes.
    pub(super) async fn is_alone(&self, scope: &LeaseScope) -> Tried {
        let labelled = self.listed().await?.into_iter().filter(|one| one.lease_id == Some(scope.lease_id));
        let ids: Vec<String> = labelled.map(|one| one.provider_lease_id).collect();
        for id in &ids {
            self.remember_listed(scope, id);
        }
        if ids.len() < 2 {
            return Ok(());
        }
        failed(format!("The listing shows {} for one lease; there must be one.", ids.join(" and ")))
    }

    /// Waits until the listing is so; how long that took, or `None` where it did not come about in time.
    pub(super) async fn until_listed(&self, wanted: impl Fn(&[Listed]) -> bool) -> Tried<Option<Duration>> {
        let since = tokio::time::Instant::now();
        loop {
            if wanted(&self.listed().await?) {
                return Ok(Some(since.elapsed()));
            }
            if since.elapsed() >= self.patience.visibility {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Kills the worker, and waits for another.
    pub(super) async fn crash(&self) -> Tried {
        let before = self.running().await?;
        self.switch.kill();
        let runs = || self.bridge.workers.running_now(&self.plugin_key);
        let gone = async {
            while runs().is_some_and(|now| Arc::ptr_eq(&now.connection, &before.connection)) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        if timeout(self.patience.call, gone).await.is_err() {
            return failed("The worker could not be killed; nothing may keep it from that.");
        }
        self.running().await.map(drop)
    }

    /// Stops the worker as the ledger does, and starts another.
    pub(super) async fn restart(&self) -> Tried {
        self.bridge.workers.stop(&self.plugin_key).await;
        self.running().await.map(drop)
    }
}

/// The provider's name of a thing.
pub(super) fn name(held: &Held) -> &str {
    held.provider_lease_id.as_deref().unwrap_or("(no id)")
}

/// How a call failed, as the ledger takes it.
pub(super) fn told(failure: &Failure) -> String {
    let word = match failure {
        Failure::NotDone(_) => "not done",
        Failure::Refused(_) => "refused",
        Failure::Unknown(_) => "left unknown",
    };
    let Fault { code, message } = failure.fault();
    let mut quote: String = message.chars().take(QUOTE_MAX).collect();
    if quote.len() < message.len() {
        quote.push('…');
    }
    format!("{word} ({code}: {})", quote.trim_end_matches('.'))
}
