//! A canary goes through everything, and is found nowhere: not in the log, not in an answer, an error or a log line, and
//! not in a byte of the database.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lease_events::id::LeaseId;
use lease_events::lease::vocabulary::ReleaseStatus;
use lease_ledger::commands::destroy::DestroyRequest;
use lease_ledger::commands::environment::create::CreateEnvironment;
use lease_ledger::commands::environment::probe::ProbeEnvironment;
use lease_ledger::commands::execute::ExecuteRequest;
use lease_ledger::commands::realize::RealizeRequest;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::support::{acquire_request, operator, release_request, run};

const CANARY: &str = "c4nary-7f3a91e2-b5d8 \"sings\"";

/// Everything that was said or logged.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn say(&self, what: &impl std::fmt::Debug) {
        self.write(format!("{what:?}\n").as_bytes());
    }

    fn write(&self, bytes: &[u8]) {
        self.0.lock().expect("nobody panics holding it").extend_from_slice(bytes);
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics holding it").clone()
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Heard::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Heard {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The canary as somebody might write it. Parts of it, so that one that is cut is found too.
fn spellings() -> Vec<Vec<u8>> {
    let telling = "c4nary-7f3a91e2-b5d8";
    let hex = hex(telling);
    let inner = |padding: &str| {
        let encoded = STANDARD.encode(format!("{padding}{telling}"));
        encoded.as_bytes()[4..encoded.len() - 4].to_vec()
    };
    let utf16: Vec<u8> = telling.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = telling.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut spellings = vec![telling.into(), "7f3a91e2".into(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    spellings.extend([utf16, big, inner(""), inner("x"), inner("xx")]);
    spellings
}

#[track_caller]
fn search(place: &str, bytes: &[u8]) {
    for spelling in spellings() {
        let at = bytes.windows(spelling.len()).position(|window| window == spelling);
        if let Some(at) = at {
            let around = &bytes[at.saturating_sub(80)..(at + spelling.len() + 20).min(bytes.len())];
            panic!("the canary sings in {place}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// Takes leases on every way that the echoing driver knows, and lets `heard` hear every answer and every error.
async fn go_through(safe: &Safe, heard: &Heard) {
    let secret = safe.set("canary", CANARY).await;
    heard.say(&secret);
    let reference = json!({ "type": "secret_ref", "secretId": secret.secret_id, "version": "latest" });
    let ways = [
        ("plain", "", json!(CANARY)),
        ("reference", "", reference.clone()),
        ("failing", "acquire", reference.clone()),
        ("named", "name", reference),
        ("refused", "", json!({ "value": CANARY })),
    ];
    for (number, (name, fails, token)) in (1..).zip(ways) {
        let config = json!({ "token": token, "fails": fails });
        let request = CreateEnvironment { company_id: company(), name: name.into(), driver: "echo".into(), config };
        let created = safe.ledger.create_environment(caller().with_key(name), request).await;
        heard.say(&created);
        let Ok(environment) = created else { continue };
        let environment_id = environment.environment_id;
        let acquired = safe.ledger.acquire(caller(), acquire_request(environment_id, Some(run(number)))).await;
        heard.say(&acquired);
        let probe = ProbeEnvironment { company_id: company(), environment_id };
        heard.say(&safe.ledger.probe_environment(caller(), probe).await);
        if let Ok(acquired) = acquired {
            use_and_end(safe, heard, acquired.lease.lease_id).await;
        }
    }
}

/// All that can be done with a lease, to its end and beyond.
async fn use_and_end(safe: &Safe, heard: &Heard, lease_id: LeaseId) {
    let (company_id, authority, if_revision) = (Some(company()), Some(operator()), None);
    let workspace = lease_ledger::drivers::Workspace::default();
    let realize = RealizeRequest { company_id, lease_id, authority: authority.clone(), if_revision, workspace };
    heard.say(&safe.ledger.realize(caller(), realize).await);
    let execute = ExecuteRequest {
        company_id,
        lease_id,
        authority: authority.clone(),
        command: "true".into(),
        args: Vec::new(),
        cwd: None,
        env: Vec::new(),
        stdin: None,
        timeout_ms: None,
    };
    let (output, _unread) = tokio::sync::mpsc::channel(1);
    heard.say(&safe.ledger.execute(caller(), execute, output).await);
    let release = release_request(lease_id, authority.clone(), ReleaseStatus::Failed);
    heard.say(&safe.ledger.release(caller(), release).await);
    let destroy = DestroyRequest { company_id, lease_id, authority, if_revision };
    heard.say(&safe.ledger.destroy(caller(), destroy).await);
    heard.say(&safe.ledger.history(lease_id, None).await);
    heard.say(&safe.ledger.why(lease_id, None).await);
}

#[test]
fn a_canary_is_found_nowhere() {
    let heard = Heard::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(heard.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    // One thread, so that the subscriber of this test hears all of it, and no other test's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tracing::subscriber::with_default(subscriber.finish(), || {
        runtime.block_on(async {
            let safe = Safe::on_file(&path, &with_key()).await;
            go_through(&safe, &heard).await;
            let log = safe.log().await;
            assert!(log.iter().filter(|recorded| recorded.event_type.as_ref() == "secret-read").count() >= 5);
            heard.say(&log);
            // The file as it stands while it is open, with its WAL, and when it is closed.
            search_folder(folder.path());
            safe.ledger.stop().await;
            search_folder(folder.path());
        });
    });
    let heard = heard.bytes();
    assert!(String::from_utf8_lossy(&heard).contains("[secret]"), "the driver did echo it");
    search("what was said or logged", &heard);
}

fn search_folder(folder: &Path) {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        search(&path.display().to_string(), &std::fs::read(&path).expect("a file"));
        files += 1;
    }
    assert!(files > 0);
}

#[test]
fn the_search_finds_a_canary_in_every_spelling() {
    for spelling in spellings() {
        let bytes = [b"before ".as_slice(), &spelling, b" after"].concat();
        let found = std::panic::catch_unwind(|| search("a text", &bytes));
        assert!(found.is_err(), "{}", String::from_utf8_lossy(&spelling));
    }
}
