//! The flags that every command has, and the folder that the ledger keeps its data in.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lease_events::id::CompanyId;
use lease_events::seam::{Clock, SystemClock};

use super::duration;
use super::exit::CliError;
use crate::secrets::settings::SecretSettings;
use crate::telemetry::LogFormat;
use crate::wiring::{self, CareSettings, Settings, StoreUrl};

/// The company of a ledger that has only one: it need not be named.
pub const DEFAULT_COMPANY: &str = "00000000-0000-7000-8000-000000000001";

/// The ledger's file in the data folder.
const STORE_FILE: &str = "ledger.db";

/// For how long a sign of life of this process counts, on a database that several share.
const OWNER_TIME_TO_LIVE: &str = "LEASE_LEDGER_OWNER_TIME_TO_LIVE";
/// Shorter ones would take a process for dead that only waited for the disk.
const OWNER_TIME_TO_LIVE_MIN: Duration = Duration::from_millis(500);

/// The flags that every command has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the events are: sqlite:PATH, postgres:… (docs/postgres.md), esdb:… (docs/kurrentdb.md), or memory: for a trial of
    /// `serve` [default: ledger.db in the data folder]
    #[arg(long, global = true, value_name = "URL", env = "LEASE_LEDGER_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// Where the projections of a ledger on KurrentDB are: sqlite:PATH or postgres:… [default: projections.db in the data folder]
    #[arg(long, global = true, value_name = "URL", env = "LEASE_LEDGER_PROJECTIONS", hide_env_values = true)]
    pub projections: Option<String>,
    /// The data folder [default: $XDG_STATE_HOME/lease-ledger, else ~/.local/state/lease-ledger]
    #[arg(long, global = true, value_name = "DIR", env = "LEASE_LEDGER_DATA_DIR", hide_env_values = true)]
    pub data_dir: Option<PathBuf>,
    /// The company (tenant) to act in
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "LEASE_LEDGER_COMPANY",
        hide_env_values = true,
        default_value = DEFAULT_COMPANY
    )]
    pub company: CompanyId,
    /// Answer in JSON: one value, or one a line for lists; errors as RFC 9457 problems
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines are written: text or json
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log more: -v info, -vv debug, -vvv trace
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// What the ledger is opened with.
    pub fn settings(&self) -> Result<Settings, CliError> {
        let data_dir = match &self.data_dir {
            Some(folder) => folder.clone(),
            None => default_data_dir()?,
        };
        let store = match &self.store {
            Some(url) => store_url("--store", url)?,
            None => StoreUrl::Sqlite(data_dir.join(STORE_FILE)),
        };
        let secrets = SecretSettings::from_variables(|name| std::env::var_os(name));
        let secrets = secrets.map_err(|error| CliError::Usage(error.to_string()))?;
        let care = care(|name| std::env::var(name).ok()).map_err(CliError::Usage)?;
        let owner_time_to_live = match std::env::var(OWNER_TIME_TO_LIVE) {
            Ok(text) => owner_time_to_live(&text)?,
            Err(_) => wiring::OWNER_TIME_TO_LIVE,
        };
        let settings = Settings::new(store, data_dir);
        let projections = match &self.projections {
            Some(url) => store_url("--projections", url)?,
            None => settings.projections.clone(),
        };
        Ok(Settings { projections, secrets, care, owner_time_to_live, ..settings })
    }
}

/// The store that a flag names. It is read here and not by the parser of the command line, which shows what it cannot read.
pub(super) fn store_url(flag: &str, url: &str) -> Result<StoreUrl, CliError> {
    url.parse().map_err(|error| CliError::Usage(format!("{flag}: {error}.")))
}

fn owner_time_to_live(text: &str) -> Result<Duration, CliError> {
    match duration::parse(text) {
        Ok(time) if time >= OWNER_TIME_TO_LIVE_MIN => Ok(time),
        Ok(_) => Err(CliError::Usage(format!("{OWNER_TIME_TO_LIVE}: give at least {OWNER_TIME_TO_LIVE_MIN:?}."))),
        Err(error) => Err(CliError::Usage(format!("{OWNER_TIME_TO_LIVE}: {error}"))),
    }
}

/// How owed cleanup is tried again, as these variables say.
fn care(variable: impl Fn(&str) -> Option<String>) -> Result<CareSettings, String> {
    let mut care = CareSettings::default();
    let waits = [
        ("LEASE_LEDGER_CLEANUP_WAIT", &mut care.wait_first),
        ("LEASE_LEDGER_CLEANUP_WAIT_MAX", &mut care.wait_max),
        ("LEASE_LEDGER_CLEANUP_WAIT_ESCALATED", &mut care.wait_escalated),
    ];
    for (name, wait) in waits {
        if let Some(text) = variable(name) {
            *wait = duration::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    if let Some(text) = variable("LEASE_LEDGER_CLEANUP_TRIES") {
        care.tries_max = text.parse().ok().filter(|tries| *tries > 0).ok_or_else(|| {
            format!("LEASE_LEDGER_CLEANUP_TRIES: \"{text}\" is no count; give a whole number from 1.")
        })?;
    }
    if let Some(text) = variable("LEASE_LEDGER_KEEP_UNKNOWN_WORKSPACES") {
        care.keep_unknown_workspaces = text
            .parse()
            .map_err(|_| format!("LEASE_LEDGER_KEEP_UNKNOWN_WORKSPACES: \"{text}\" is neither true nor false."))?;
    }
    Ok(care)
}

fn default_data_dir() -> Result<PathBuf, CliError> {
    // The XDG specification: a relative path is invalid, and ignored.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("lease-ledger"))
        .ok_or_else(|| CliError::Usage("There is no HOME to keep data in; give --data-dir.".to_owned()))
}

/// What time it is for people.
pub(super) fn now() -> DateTime<Utc> {
    SystemClock.now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_care_of_cleanup_is_read_from_variables_strictly() {
        let read =
            |name: &'static str, value: &'static str| care(move |asked| (asked == name).then(|| value.to_owned()));
        assert_eq!(care(|_| None), Ok(CareSettings::default()));
        assert_eq!(read("LEASE_LEDGER_CLEANUP_WAIT", "2s").map(|care| care.wait_first), Ok(Duration::from_secs(2)));
        assert_eq!(read("LEASE_LEDGER_CLEANUP_TRIES", "3").map(|care| care.tries_max), Ok(3));
        assert!(read("LEASE_LEDGER_KEEP_UNKNOWN_WORKSPACES", "true").is_ok_and(|care| care.keep_unknown_workspaces));
        for (name, wrong) in [
            ("LEASE_LEDGER_CLEANUP_WAIT_MAX", "soon"),
            ("LEASE_LEDGER_CLEANUP_TRIES", "0"),
            ("LEASE_LEDGER_KEEP_UNKNOWN_WORKSPACES", "maybe"),
        ] {
            assert!(read(name, wrong).is_err_and(|error| error.starts_with(name)), "{name}");
        }
    }
}
