//! The store goes away under a running server, or cannot be written to from the start.

use std::fs;

use super::{Disk, acquire, assert_unavailable, environment, leases};

#[test]
fn a_deleted_store_acknowledges_nothing() {
    let disk = Disk::new();
    let server = disk.serve(&[]);
    let environment = environment(&server);
    assert_eq!(acquire(&server, &environment).status, 201);
    let made = disk.made();
    fs::remove_file(disk.store_path()).expect("it is there");
    for _ in 0..2 {
        let refused = acquire(&server, &environment);
        assert_unavailable(&refused);
        let detail = refused.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("is not there any more; put it back, or restart on a backup"), "{detail}");
    }
    assert_eq!(disk.made(), made, "nothing was done at the provider");
    assert_eq!(leases(&server).len(), 1, "what is known can still be read");
    assert!(!disk.store_path().exists(), "no empty ledger is made in its place");
}

#[test]
fn a_store_that_comes_back_is_taken_again() {
    let disk = Disk::new();
    let server = disk.serve(&[]);
    let environment = environment(&server);
    let elsewhere = disk.store.path().join("elsewhere.db");
    fs::rename(disk.store_path(), &elsewhere).expect("it is there");
    assert_unavailable(&acquire(&server, &environment));
    assert_eq!(disk.made(), 0, "nothing was done at the provider");
    fs::rename(&elsewhere, disk.store_path()).expect("it is there");
    assert_eq!(acquire(&server, &environment).status, 201);
    assert_eq!((disk.made(), leases(&server).len()), (1, 1));
}

#[test]
fn a_read_only_disk_is_refused_at_the_start() {
    let disk = Disk::new();
    disk.serve(&[]);
    let folder = disk.store.path().to_string_lossy().into_owned();
    let read_only = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", &folder, &folder];
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["environment", "list"]] {
        let ended = disk.run(&read_only, arguments);
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!((ended.status.code(), told.lines().count()), (Some(6), 1), "{told}");
        let names_what_cannot_be = told.contains("ledger.db") && told.contains(" cannot be ");
        assert!(names_what_cannot_be, "{told}");
    }
    assert_eq!(disk.made(), 0);
}
