//! The command line: one of the ledger's two faces. It speaks the HTTP API, always (see [`transport`]), so that a
//! command is the same beside a running server and without one.
//!
//! **Invariants:** answers go to standard output, everything else to standard error. Errors are one sentence. The
//! exit codes are those of [`exit`].

pub mod client;
pub mod completions;
pub mod config;
pub mod discovery;
pub mod duration;
pub mod environment;
pub mod events;
pub mod exit;
pub mod lease;
pub mod plugin;
pub mod plugin_check;
pub mod projection;
pub mod reconcile;
pub mod recover;
pub mod render;
pub mod run;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod store;
pub mod transport;

use clap::{Parser, Subcommand};
use lease_events::id::CompanyId;
use tracing_subscriber::filter::LevelFilter;

use self::exit::{CliError, Exit};
use self::settings::Global;
use self::transport::Transport;
use crate::telemetry;

/// An event-sourced lease ledger for the environments in which AI agents run.
#[derive(Debug, Parser)]
#[command(name = "lease-ledger", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in a leased environment: acquire, realize, execute, release
    Run(run::RunArgs),
    /// Serve the HTTP API on loopback
    Serve(serve::ServeArgs),
    /// Environments: named, configured places where agent work runs
    #[command(subcommand)]
    Environment(environment::EnvironmentCommand),
    /// Leases: the rights of runs to use environments
    #[command(subcommand)]
    Lease(Box<lease::LeaseCommand>),
    /// Secrets: names under which values are kept
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Plugins: programs that make environments
    #[command(subcommand)]
    Plugin(Box<plugin::PluginCommand>),
    /// Projections: the tables of what is true now
    #[command(subcommand)]
    Projection(projection::ProjectionCommand),
    /// The store: where the events are
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Run one pass of recovery by hand: see to whatever is due, and tell what was done and why
    Recover,
    /// Compare the ledger with what its providers list, both ways, and see to where they disagree
    Reconcile(reconcile::ReconcileArgs),
    /// Print the events of the whole log, one JSON object a line
    Events(events::EventsArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// What every command works with.
pub struct App {
    /// The way to the API.
    pub transport: Transport,
    /// The tenant.
    pub company: CompanyId,
    /// Whether answers are JSON.
    pub json: bool,
}

/// Runs the command line; answers the exit code.
pub async fn run(cli: Cli) -> u8 {
    let level = match (cli.global.verbose, &cli.command) {
        (0, Command::Serve(_)) | (1, _) => LevelFilter::INFO,
        // It ends workers on purpose, which is no news; what counts is in its report.
        (0, Command::Plugin(plugin)) if plugin.is_check() => LevelFilter::ERROR,
        (0, _) => LevelFilter::WARN,
        (2, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    telemetry::start(cli.global.log_format, level);
    let json = cli.global.json;
    let runs_command = cli.command.runs_command();
    match dispatch(cli).await {
        Ok(code) => code,
        Err(error) => {
            complain(&error, json);
            if runs_command { error.exit_beside_command() } else { error.exit() as u8 }
        }
    }
}

impl Command {
    /// Whether its result is that of another program.
    fn runs_command(&self) -> bool {
        match self {
            Self::Run(_) => true,
            Self::Lease(lease) => matches!(**lease, lease::LeaseCommand::Exec(_)),
            _ => false,
        }
    }
}

async fn dispatch(cli: Cli) -> Result<u8, CliError> {
    let global = cli.global;
    let command = match cli.command {
        Command::Completions(args) => return completions::print(&args).map(|()| Exit::Ok as u8),
        Command::Serve(args) => return serve::serve(&args, &global).await.map(|()| Exit::Ok as u8),
        Command::Run(args) => return run::run(args, &global).await,
        Command::Plugin(command) => return plugin::plugin(*command, &global).await,
        Command::Store(command) => return store::store(&global, command).await,
        command => command,
    };
    let app = App::open(&global).await?;
    let result = match command {
        Command::Environment(command) => environment::environment(&app, command).await,
        Command::Lease(command) => lease::lease(&app, *command).await,
        Command::Secret(command) => secret::secret(&app, command).await,
        Command::Projection(command) => projection::projection(&app, command).await,
        Command::Recover => recover::recover(&app).await,
        Command::Reconcile(args) => reconcile::reconcile(&app, &args).await,
        Command::Events(args) => events::events(&app, &args).await,
        Command::Completions(_) | Command::Serve(_) | Command::Run(_) | Command::Plugin(_) | Command::Store(_) => {
            Ok(Exit::Ok as u8)
        }
    };
    app.transport.close().await;
    result
}

impl App {
    /// Finds or opens the ledger.
    pub async fn open(global: &Global) -> Result<Self, CliError> {
        let transport = Transport::open(&global.settings()?).await?;
        Ok(Self { transport, company: global.company, json: global.json })
    }
}

/// Says on standard error what went wrong.
pub fn complain(error: &CliError, json: bool) {
    match error {
        CliError::ReaderGone => {}
        error if json => eprintln!("{}", error.to_json()),
        error => eprintln!("lease-ledger: {}", render::harmless(&error.to_string())),
    }
}
