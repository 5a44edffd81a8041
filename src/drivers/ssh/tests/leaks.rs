//! That a key and an environment stand nowhere where others can read them, at no moment.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::sshd::{Sshd, secret, subject};
use super::{command_lines, done};
use crate::drivers::Command;
use crate::drivers::contract::shell;

/// Looks again and again, from a thread of its own, until it is stopped.
struct Watch {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU32>,
    found: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start(needles: Vec<String>) -> Self {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&looks));
        let found = std::thread::spawn(move || {
            let mut found = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                let lines = command_lines();
                found.extend(lines.into_iter().filter(|line| needles.iter().any(|needle| line.contains(needle))));
                search(&std::env::temp_dir(), &needles, &mut found);
                counted.fetch_add(1, Ordering::Relaxed);
            }
            found
        });
        Self { stop, looks, found }
    }

    fn stop(self) -> (u32, BTreeSet<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.found.join().unwrap();
        (self.looks.load(Ordering::Relaxed), found)
    }
}

/// The files of the driver's own folders that hold one of the needles.
fn search(folder: &Path, needles: &[String], found: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("ssh-"));
    for file in ours.flat_map(|entry| std::fs::read_dir(entry.path()).into_iter().flatten().flatten()) {
        let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
        let text = if is_file { std::fs::read(file.path()).unwrap_or_default() } else { Vec::new() };
        let text = String::from_utf8_lossy(&text);
        if needles.iter().any(|needle| text.contains(needle)) {
            found.insert(file.path().display().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_key_nor_environment_can_be_read_by_others() {
    let sshd = Sshd::start();
    let secrets = secret(Some(sshd.key()));
    let subject = subject(sshd.config(), Arc::clone(&secrets));
    let canary = "CANARY-5e1f7c".to_owned();
    // The first two lines are alike in all keys, and the last is too short.
    let lines = sshd.key().lines().skip(2).filter(|line| line.len() > 20 && !line.starts_with('-'));
    let mut needles: Vec<String> = lines.map(str::to_owned).collect();
    assert!(needles.len() > 1);
    needles.push(canary.clone());
    let watch = Watch::start(needles);

    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let env = vec![("SECRET".to_owned(), canary.clone())];
    for _ in 0..5 {
        let print = Command { env: env.clone(), ..shell("sleep 0.1; printf %s \"$SECRET\"") };
        assert_eq!(done(subject.run(&scope, &held, print).await).stdout, canary);
    }
    done(subject.driver.destroy(&scope, &held).await);

    let (looks, found) = watch.stop();
    assert!(looks > 5, "it looked {looks} times");
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(*secrets.read_for.lock().unwrap(), ["acquire"], "one login, one read");
}

#[tokio::test]
async fn a_connection_leaves_no_folder_and_no_process() {
    let sshd = Sshd::start();
    let subject = sshd.subject();
    let scope = subject.scope();
    let held = subject.acquire(&scope).await;
    let port = format!("-p {} -l", subject.config["port"]);
    let masters: Vec<String> = command_lines().into_iter().filter(|line| line.contains(&port)).collect();
    let [master] = masters.as_slice() else { panic!("one master: {masters:?}") };
    let socket = master.split(' ').skip_while(|word| *word != "-S").nth(1).unwrap();
    let folder = Path::new(socket).parent().unwrap();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!folder.join("agent").exists(), "the agent ended with the login");
    done(subject.driver.destroy(&scope, &held).await);
    assert!(!folder.exists());
    let left: Vec<String> =
        command_lines().into_iter().filter(|line| line.contains(&port) || line.contains(socket)).collect();
    assert!(left.is_empty(), "{left:?}");
}
