//! Secrets: set, read on record, rotated, removed; and nowhere to be found.

mod canary;
mod commands;
mod echo;
mod interning;
mod reading;
mod rekeying;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use lease_events::id::{CompanyId, SecretId};
use lease_events::record::{Position, RecordedEvent};
use lease_events::seam::{SystemClock, SystemIds};
use lease_events::secret::SecretState;
use lease_events::store::READ_EVENTS_MAX;
use lease_ledger::commands::error::CommandError;
use lease_ledger::commands::secret::Source;
use lease_ledger::commands::secret::set::SetSecret;
use lease_ledger::drivers::Drivers;
use lease_ledger::drivers::secrets::{SecretError, SecretReader, SecretRef, SecretResolver, SecretVersion};
use lease_ledger::ledger::Ledger;
use lease_ledger::secrets::key::KeySource;
use lease_ledger::secrets::settings::SecretSettings;
use lease_ledger::wiring;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::support::{CountedIds, SimulatedClock, caller, company};
use echo::Echo;

/// A ledger, what its drivers read secrets through, and a driver that says whatever it reads.
struct Safe {
    ledger: Ledger,
    secrets: Arc<dyn SecretResolver>,
}

impl Safe {
    /// One in memory, under a simulated clock.
    fn in_memory() -> Self {
        let resolver = OnceLock::new();
        let settings = SecretSettings::default();
        let ids = Arc::new(CountedIds::default());
        let ledger = wiring::open_in_memory(SimulatedClock::start(), ids, &settings, |given, _| {
            Ok(drivers(resolver.get_or_init(|| given)))
        });
        Self::of(ledger, resolver)
    }

    /// One on a file, with these settings.
    async fn on_file(path: &Path, settings: &SecretSettings) -> Self {
        let resolver = OnceLock::new();
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let ledger =
            wiring::open_sqlite(path, clock, ids, settings, |given, _| Ok(drivers(resolver.get_or_init(|| given))));
        Self::of(ledger.await, resolver)
    }

    fn of(ledger: Result<Ledger, wiring::OpenError>, resolver: OnceLock<Arc<dyn SecretResolver>>) -> Self {
        Self { ledger: ledger.expect("it opens"), secrets: resolver.into_inner().expect("the drivers were made") }
    }

    async fn set(&self, name: &str, value: &str) -> SecretState {
        self.try_set(name, Source::Value(value.to_owned().into())).await.expect("it is set")
    }

    async fn try_set(&self, name: &str, source: Source) -> Result<SecretState, CommandError> {
        self.ledger.set_secret(caller(), SetSecret { company_id: company(), name: name.to_owned(), source }).await
    }

    async fn read(&self, secret: SecretId, version: SecretVersion) -> Result<String, SecretError> {
        let value = self.secrets.resolve(&SecretRef { secret_id: secret.0, version }, &reader(company())).await;
        value.map(|value| value.expose_secret().to_owned())
    }

    async fn log(&self) -> Vec<RecordedEvent> {
        self.ledger.events(Position::START, READ_EVENTS_MAX).await.expect("the log")
    }
}

fn drivers(secrets: &Arc<dyn SecretResolver>) -> Drivers {
    Drivers::new([Arc::new(Echo::new(Arc::clone(secrets))) as _])
}

/// Who reads in tests.
fn reader(company_id: CompanyId) -> SecretReader {
    SecretReader { company_id, environment_id: None, lease_id: None, purpose: "test" }
}

/// Settings with a random key.
fn with_key() -> SecretSettings {
    SecretSettings { key: Some(KeySource::random()), ..SecretSettings::default() }
}

/// Two digits a byte.
fn hex(text: &str) -> String {
    text.bytes()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
