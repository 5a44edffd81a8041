//! `Ledger`: the public face. Each method is one command or one question, and a few lines.
//!
//! **Invariant:** a command that was begun is finished. It runs in a task of its own, so that a caller who goes away
//! (a dropped future, a closed connection) does not break it off between effect and outcome.

mod plugins;
mod upkeep;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use lease_events::environment::EnvironmentState;
use lease_events::id::{CompanyId, EnvironmentId, LeaseId, LedgerId, RunId, SecretId};
use lease_events::lease::LeaseState;
use lease_events::record::{Position, RecordedEvent};
use lease_events::run::RunKeptAlive;
use lease_events::seam::crash::{Side, Step};
use lease_events::secret::SecretState;
use lease_events::store::{Direction, EventStore, Subscription};
use lease_projections::read_model::ReadModel;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::commands::acquire::{AcquireAnswer, AcquireRequest, acquire};
use crate::commands::caller::{Caller, Command};
use crate::commands::destroy::{DestroyRequest, destroy};
use crate::commands::environment::archive::{ArchiveEnvironment, archive};
use crate::commands::environment::create::{CreateEnvironment, create};
use crate::commands::environment::probe::{ProbeEnvironment, probe};
use crate::commands::environment::update::{UpdateEnvironment, update};
use crate::commands::error::CommandError;
use crate::commands::execute::{ExecuteAnswer, ExecuteRequest, execute};
use crate::commands::heartbeat::{HeartbeatRequest, heartbeat};
use crate::commands::once::{Outcome, once};
use crate::commands::realize::{RealizeRequest, realize};
use crate::commands::release::{ReleaseRequest, release};
use crate::commands::release_run::{ReleaseRunRequest, RunReleaseReport, release_run};
use crate::commands::renew::{RenewRequest, renew};
use crate::commands::resume::{ResumeRequest, resume};
use crate::commands::secret::rekey::rekey;
use crate::commands::secret::remove::{RemoveSecret, remove};
use crate::commands::secret::rotate::{RotateSecret, rotate};
use crate::commands::secret::set::{SetSecret, set};
use crate::commands::waive::{WaiveRequest, waive};
use crate::commands::{self, Context};
use crate::drivers::{OutputSink, ProbeReport};
use crate::queries::history::lease_history;
use crate::queries::why::{Why, why};
use crate::queries::{self, AsOf};
use crate::recovery::duties::{AllMine, Duties};
use crate::recovery::reconcile::Reconciler;
use crate::recovery::{self, Sweep};
use crate::workers::WorkerHost;

/// A lease ledger: takes commands, answers questions. Cheap to clone; all clones are one ledger.
#[derive(Clone)]
pub struct Ledger {
    context: Arc<Context>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    at_stop: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
    sweeps: Arc<[Arc<dyn Sweep>]>,
    duties: Arc<dyn Duties>,
    overtaken: Vec<watch::Receiver<bool>>,
    workers: Option<Arc<WorkerHost>>,
    reconciler: Arc<Reconciler>,
}

impl Ledger {
    /// A ledger of these parts; `wiring` makes them.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let reconciler = Arc::<Reconciler>::default();
        Self {
            context: Arc::new(context),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            at_stop: Arc::default(),
            sweeps: recovery::standard(&reconciler).into(),
            duties: Arc::new(AllMine),
            overtaken: Vec::new(),
            reconciler,
            workers: None,
        }
    }

    /// The same ledger, whose plugins this host has.
    #[must_use]
    pub fn hosting(self, workers: Arc<WorkerHost>) -> Self {
        Self { workers: Some(workers), ..self }
    }

    /// The same ledger, of whose sweeps only those are looked at by this process that are its duty.
    #[must_use]
    pub fn sharing(self, duties: Arc<dyn Duties>) -> Self {
        Self { duties, ..self }
    }

    /// The same ledger, for which another process has taken over once `overtaken` says so.
    #[must_use]
    pub fn overtaken_once(mut self, overtaken: watch::Receiver<bool>) -> Self {
        self.overtaken.push(overtaken);
        self
    }

    /// Waits until another process has taken over for this one, which was silent for too long: none of its appends
    /// succeeds any more, and it should end. For ever where there is no other.
    pub async fn overtaken(&self) {
        let told = self
            .overtaken
            .iter()
            .cloned()
            .map(|mut overtaken| async move { overtaken.wait_for(|overtaken| *overtaken).await.map(drop) });
        let any = told.collect::<FuturesUnordered<_>>().filter_map(|told| std::future::ready(told.ok()));
        if pin!(any).next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Creates an environment.
    pub async fn create_environment(
        &self,
        caller: Caller,
        request: CreateEnvironment,
    ) -> Result<EnvironmentState, CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("create_environment", caller, target, move |work| async move {
            let shown = request.without_plaintexts(&work.context.drivers);
            work.once(&shown, create(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Gives an environment a new config.
    pub async fn update_environment(
        &self,
        caller: Caller,
        request: UpdateEnvironment,
    ) -> Result<EnvironmentState, CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("update_environment", caller, target, move |work| async move {
            let shown = request.without_plaintexts(&work.context).await?;
            work.once(&shown, update(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Archives an environment: it gives no new leases.
    pub async fn archive_environment(
        &self,
        caller: Caller,
        request: ArchiveEnvironment,
    ) -> Result<EnvironmentState, CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("archive_environment", caller, target, move |work| async move {
            work.once(&request, archive(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Looks whether an environment would work.
    pub async fn probe_environment(
        &self,
        caller: Caller,
        request: ProbeEnvironment,
    ) -> Result<(EnvironmentState, ProbeReport), CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("probe_environment", caller, target, move |work| async move {
            work.once(&request, probe(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Acquires a lease, or answers the one that the run holds already.
    pub async fn acquire(&self, caller: Caller, request: AcquireRequest) -> Result<AcquireAnswer, CommandError> {
        let target = Target::Company { company: request.company_id, run: request.run_id };
        self.run("acquire", caller, target, move |work| async move {
            work.once(&request, Box::pin(acquire(&work.context, &work.command, &request))).await
        })
        .await
    }

    /// Makes the workspace of a lease ready.
    pub async fn realize(&self, caller: Caller, request: RealizeRequest) -> Result<LeaseState, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("realize", caller, target, move |work| async move {
            work.once(&request, realize(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Runs a command in the workspace of a lease; its output goes to `output` while it runs.
    pub async fn execute(
        &self,
        caller: Caller,
        request: ExecuteRequest,
        output: OutputSink,
    ) -> Result<ExecuteAnswer, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("execute", caller, target, move |work| async move {
            work.once(&request, execute(&work.context, &work.command, &request, output)).await
        })
        .await
    }

    /// Lets a lease last until a new moment.
    pub async fn renew(&self, caller: Caller, request: RenewRequest) -> Result<LeaseState, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("renew", caller, target, move |work| async move {
            work.once(&request, renew(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Makes what a lease holds run again, under a new fencing token.
    pub async fn resume(&self, caller: Caller, request: ResumeRequest) -> Result<LeaseState, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("resume", caller, target, move |work| async move {
            work.once(&request, resume(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Ends a lease.
    pub async fn release(&self, caller: Caller, request: ReleaseRequest) -> Result<LeaseState, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("release", caller, target, move |work| async move {
            work.once(&request, release(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Tears down what a lease holds.
    pub async fn destroy(&self, caller: Caller, request: DestroyRequest) -> Result<LeaseState, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("destroy", caller, target, move |work| async move {
            work.once(&request, destroy(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Ends every lease of a run; the run can acquire nothing any more.
    pub async fn release_run(
        &self,
        caller: Caller,
        request: ReleaseRunRequest,
    ) -> Result<RunReleaseReport, CommandError> {
        let target = Target::Company { company: request.company_id, run: Some(request.run_id) };
        self.run("release_run", caller, target, move |work| async move {
            work.once(&request, release_run(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Keeps a run alive; answers until when. Without a key: a heartbeat that is sent again is another heartbeat.
    pub async fn heartbeat(&self, caller: Caller, request: HeartbeatRequest) -> Result<RunKeptAlive, CommandError> {
        let target = Target::Company { company: request.company_id, run: Some(request.run_id) };
        let caller = Caller { idempotency_key: None, ..caller };
        self.run("heartbeat", caller, target, move |work| async move {
            heartbeat(&work.context, &work.command, &request).await
        })
        .await
    }

    /// Gives up the cleanup of a lease, for an operator's reason.
    pub async fn waive(&self, caller: Caller, request: WaiveRequest) -> Result<LeaseState, CommandError> {
        let target = Target::Lease { company: request.company_id, lease: request.lease_id };
        self.run("waive", caller, target, move |work| async move {
            work.once(&request, waive(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Sets a secret: creates it, or gives it a new version.
    pub async fn set_secret(&self, caller: Caller, request: SetSecret) -> Result<SecretState, CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("set_secret", caller, target, move |work| async move {
            work.once(&request, set(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Gives a secret that is there a new version.
    pub async fn rotate_secret(&self, caller: Caller, request: RotateSecret) -> Result<SecretState, CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("rotate_secret", caller, target, move |work| async move {
            work.once(&request, rotate(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Removes a secret: it is read no more, and what the ledger kept of it is deleted.
    pub async fn remove_secret(&self, caller: Caller, request: RemoveSecret) -> Result<SecretState, CommandError> {
        let target = Target::Company { company: request.company_id, run: None };
        self.run("remove_secret", caller, target, move |work| async move {
            work.once(&request, remove(&work.context, &work.command, &request)).await
        })
        .await
    }

    /// Seals every secret anew under the key in a file, and goes on with that key. Answers how many values there are.
    pub async fn rekey_secrets(&self, new_key_file: PathBuf) -> Result<u64, CommandError> {
        rekey(&self.context, new_key_file).await
    }

    /// A secret as it is now; never its value.
    pub async fn secret(&self, secret_id: SecretId, company: CompanyId) -> Result<SecretState, CommandError> {
        commands::secret::load_in(&self.context, secret_id, company).await
    }

    /// A lease as it was then.
    pub async fn lease(
        &self,
        lease_id: LeaseId,
        company: Option<CompanyId>,
        as_of: AsOf,
    ) -> Result<LeaseState, CommandError> {
        queries::lease(&self.context, lease_id, company, as_of).await
    }

    /// Every event of a lease, as it is stored.
    pub async fn history(
        &self,
        lease_id: LeaseId,
        company: Option<CompanyId>,
    ) -> Result<Vec<RecordedEvent>, CommandError> {
        lease_history(&self.context, lease_id, company).await
    }

    /// Why a lease got the sandbox that it got.
    pub async fn why(&self, lease_id: LeaseId, company: Option<CompanyId>) -> Result<Why, CommandError> {
        why(&self.context, lease_id, company).await
    }

    /// An environment as it is now.
    pub async fn environment(
        &self,
        environment_id: EnvironmentId,
        company: CompanyId,
    ) -> Result<EnvironmentState, CommandError> {
        commands::environment::load_in(&self.context, environment_id, company).await
    }

    /// Up to `limit` events behind `after`, oldest first.
    pub async fn events(&self, after: Position, limit: usize) -> Result<Vec<RecordedEvent>, CommandError> {
        Ok(self.context.store.read_all(after, Direction::Forwards, limit).await?)
    }

    /// Every event behind `after`, those stored and those to come.
    pub async fn subscribe(&self, after: Position) -> Result<Subscription, CommandError> {
        Ok(self.context.store.subscribe(after).await?)
    }

    /// The position of the last event.
    pub async fn head(&self) -> Result<Position, CommandError> {
        Ok(self.context.store.head().await?)
    }

    /// What is true now, as tables: for lists, and for the care of the projections.
    #[must_use]
    pub fn read_model(&self) -> &Arc<dyn ReadModel> {
        &self.context.read_model
    }

    /// The events themselves, for a face that shows them; whoever appends here goes around every command.
    #[must_use]
    pub fn event_store(&self) -> &Arc<dyn EventStore> {
        &self.context.store
    }

    /// The id that this ledger's labels at providers bear.
    #[must_use]
    pub fn ledger_id(&self) -> LedgerId {
        self.context.ledger_id
    }

    /// The keys of the registered drivers.
    #[must_use]
    pub fn driver_keys(&self) -> Vec<&'static str> {
        self.context.drivers.keys()
    }

    /// Whether it takes no more commands.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Runs work of the ledger's own until it stops; `stop` waits for its end.
    pub fn in_background<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(CancellationToken) -> F) {
        self.tasks.spawn(work(self.stopping.clone()));
    }

    /// Runs work when the ledger stops, behind the last command: what commands need until then ends here.
    pub fn at_stop(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.at_stop.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }

    /// Takes no more commands, finishes those under way, and closes the store.
    pub async fn stop(&self) {
        self.refuse_commands();
        self.tasks.wait().await;
        self.close().await;
    }

    /// Takes no more commands from now on. Those under way go on, recovery begins nothing more, questions are answered.
    pub fn refuse_commands(&self) {
        self.stopping.cancel();
        self.tasks.close();
    }

    /// Takes no more commands, and waits until nothing is under way, for `within` at most. Answers how much still is:
    /// its intents are on record, and the recovery of the next start settles it.
    pub async fn finish(&self, within: Duration) -> usize {
        self.refuse_commands();
        match tokio::time::timeout(within, self.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tasks.len(),
        }
    }

    /// Ends what commands need, such as workers, and closes the store behind its last write. The last step of a stop.
    pub async fn close(&self) {
        let last = std::mem::take(&mut *self.at_stop.lock().unwrap_or_else(PoisonError::into_inner));
        futures_util::future::join_all(last).await;
        self.context.store.close().await;
    }

    async fn run<T, F, W>(
        &self,
        operation: &'static str,
        caller: Caller,
        target: Target,
        work: W,
    ) -> Result<T, CommandError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CommandError>> + Send,
        W: FnOnce(Arc<Work>) -> F + Send + 'static,
    {
        if self.stopping.is_cancelled() {
            return Err(CommandError::Stopping);
        }
        let company = self.company_of(target, &caller).await?;
        let command = Command::issued(&caller, company, self.context.ids.as_ref())
            .in_conversation(target.run().map(|run| run.to_string()));
        let span = tracing::info_span!(
            "command", operation, command = %command.id, company = %company,
            lease = target.lease().map(tracing::field::display), run = target.run().map(tracing::field::display),
        );
        let work_on = Arc::new(Work { context: Arc::clone(&self.context), command, company, operation });
        let context = Arc::clone(&self.context);
        let task = async move {
            let answer = work(work_on).await;
            context.reached(Step::CommandReply, Side::Before).await;
            answer
        };
        let answer = self.tasks.spawn(task.instrument(span)).await;
        self.context.reached(Step::CommandReply, Side::After).await;
        answer.unwrap_or_else(|broken| Err(CommandError::BrokenOff { cause: broken.to_string() }))
    }

    /// The company whose idempotency keys a command shares.
    async fn company_of(&self, target: Target, caller: &Caller) -> Result<CompanyId, CommandError> {
        match target {
            Target::Company { company, .. } | Target::Lease { company: Some(company), .. } => Ok(company),
            Target::Lease { company: None, .. } if caller.idempotency_key.is_none() => Ok(CompanyId(uuid::Uuid::nil())),
            Target::Lease { company: None, lease } => {
                Ok(queries::lease(&self.context, lease, None, AsOf::Now).await?.company_id)
            }
        }
    }
}

/// What a command is about.
#[derive(Clone, Copy)]
enum Target {
    Company { company: CompanyId, run: Option<RunId> },
    Lease { company: Option<CompanyId>, lease: LeaseId },
}

impl Target {
    fn run(self) -> Option<RunId> {
        match self {
            Self::Company { run, .. } => run,
            Self::Lease { .. } => None,
        }
    }

    fn lease(self) -> Option<LeaseId> {
        match self {
            Self::Company { .. } => None,
            Self::Lease { lease, .. } => Some(lease),
        }
    }
}

/// A command under way, in its own task.
struct Work {
    context: Arc<Context>,
    command: Command,
    company: CompanyId,
    operation: &'static str,
}

impl Work {
    async fn once<T: Outcome>(
        &self,
        request: &(impl Serialize + Sync),
        run: impl Future<Output = Result<T, CommandError>> + Send,
    ) -> Result<T, CommandError> {
        once(&self.context, &self.command, self.company, self.operation, request, run).await
    }
}
