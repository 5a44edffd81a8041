//! No space, and no right to more of it: refused before anything is done, and taken again when there is room.

use std::fs;

use rustix::process::{Resource, Rlimit, prlimit};

use super::{Disk, acquire, acquire_at, assert_unavailable, environment, environment_with, leases};
use serde_json::json;

/// Leaves no byte of the small file system free.
const FILL: &str = "! cat /dev/zero 2>/dev/null >filler";

#[test]
fn a_full_disk_refuses_before_any_effect_and_recovers_by_itself() {
    let disk = Disk::new();
    let mut server = disk.serve_from_small();
    let environment = environment(&server);
    assert_eq!(acquire(&server, &environment).status, 201);
    server.shell(FILL);
    let made = disk.made();
    for _ in 0..3 {
        assert_unavailable(&acquire(&server, &environment));
    }
    assert_eq!((disk.made(), leases(&server).len()), (made, 1), "nothing was done at the provider");

    server.shell("rm filler");
    assert_eq!(acquire(&server, &environment).status, 201);
    assert_eq!((disk.made(), leases(&server).len()), (made + 1, 2));
}

#[test]
fn what_was_done_while_the_disk_became_full_is_stored_when_there_is_room() {
    let disk = Disk::new();
    let mut server = disk.serve_from_small();
    let environment = environment_with(&server, &json!({ "provider": "fake", "acquireDelayMs": 300 }));
    std::thread::scope(|scope| {
        let address = server.address.clone();
        let acquiring = scope.spawn(move || acquire_at(&address, &environment));
        // The intent is stored, and the provider is at it.
        while leases(&server).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        server.shell(FILL);
        server.logs("what has happened could not be stored yet");
        server.shell("rm filler");
        assert_eq!(acquiring.join().expect("no panic").status, 201);
    });
    assert_eq!((disk.made(), leases(&server).len()), (1, 1));
}

#[test]
fn a_limit_on_the_file_is_no_reason_to_restart() {
    let disk = Disk::new();
    // A write beyond the limit shall be an error for the program, not its end.
    let mut server = disk.serve(&["env", "--ignore-signal=XFSZ"]);
    let environment = environment(&server);
    assert_eq!(acquire(&server, &environment).status, 201);
    let made = disk.made();

    let log = disk.store.path().join("ledger.db-wal");
    let length = fs::metadata(&log).expect("it is there").len();
    let none = Rlimit { current: None, maximum: None };
    let limit = |limit| prlimit(Some(server.process()), Resource::Fsize, limit).map(|_| ());
    limit(Rlimit { current: Some(length + 6_000), ..none }).expect("it is ours");
    for _ in 0..3 {
        assert_unavailable(&acquire(&server, &environment));
    }
    assert_eq!((disk.made(), leases(&server).len()), (made, 1), "nothing was done at the provider");

    limit(none).expect("it is ours");
    assert_eq!(acquire(&server, &environment).status, 201);
    assert_eq!(disk.made(), made + 1);
    let acknowledged = leases(&server);

    // What was refused is not there after a crash either, and what was acknowledged is.
    server.kill();
    assert_eq!(leases(&disk.serve(&[])), acknowledged);
}
