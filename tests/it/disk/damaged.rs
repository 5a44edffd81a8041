//! Pages of the store that make no sense any more.

use std::fs;

use super::{Disk, acquire, environment};
use crate::support::company;

/// SQLite's page size, and where the head of the database ends.
const PAGE: usize = 4_096;

#[test]
fn a_damaged_store_refuses_before_any_effect() {
    let disk = Disk::new();
    let mut server = disk.serve(&[]);
    let environment = environment(&server);
    for _ in 0..8 {
        assert_eq!(acquire(&server, &environment).status, 201);
    }
    // A clean end moves the log into the database, where the damage is done.
    server.stop();
    let made = disk.made();
    let sound = fs::read(disk.store_path()).expect("it is there");

    let mut damaged = sound.clone();
    // The kind of each page but the first, and how many cells it has.
    for page in damaged.chunks_mut(PAGE).skip(1) {
        page[..8].fill(0xff);
    }
    fs::write(disk.store_path(), &damaged).expect("it can be written");
    let ended = disk.run(&[], &["lease", "list"]);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.status.code(), told.lines().count()), (Some(6), 1), "{told}");
    assert_eq!(disk.made(), made);

    // Put back from a backup, it is as it was.
    fs::write(disk.store_path(), &sound).expect("it can be written");
    assert_eq!(acquire(&disk.serve(&[]), &environment).status, 201);
    assert_eq!(disk.made(), made + 1);
}

#[test]
fn damage_anywhere_is_met_before_any_effect() {
    let disk = Disk::new();
    let mut server = disk.serve(&[]);
    let environment = environment(&server);
    for _ in 0..4 {
        assert_eq!(acquire(&server, &environment).status, 201);
    }
    server.stop();
    let sound = fs::read(disk.store_path()).expect("it is there");
    let pages = sound.len() / PAGE;
    let mut refused = 0;
    for page in 1..pages {
        let mut damaged = sound.clone();
        damaged[page * PAGE..page * PAGE + 8].fill(0xff);
        for beside in ["ledger.db-wal", "ledger.db-shm"] {
            let _ = fs::remove_file(disk.store.path().join(beside));
        }
        fs::write(disk.store_path(), &damaged).expect("it can be written");
        let made = disk.made();
        let company = company().to_string();
        let ended = disk.run(&[], &["--company", &company, "lease", "acquire", "e"]);
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        match ended.status.code() {
            // It needed nothing of that page.
            Some(0) => assert_eq!(disk.made(), made + 1, "page {page}"),
            code => {
                assert_eq!((code, disk.made()), (Some(6), made), "page {page}: {told}");
                let sentence = told.lines().last().unwrap_or_default();
                assert!(sentence.starts_with("lease-ledger: ") && sentence.contains("malformed"), "{page}: {told}");
                refused += 1;
            }
        }
    }
    println!("an acquire needs {refused} of {pages} pages");
    assert!(refused > 0);
}
