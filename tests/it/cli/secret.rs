//! `secret …`: what is given on standard input is kept, used and never shown.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Ended, Home};

const VALUE: &str = "c4nary-of-the-command-line";

impl Home {
    fn key(&self, name: &str, byte: u8) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, STANDARD.encode([byte; 32])).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    }

    /// Runs it with the key of this name, and this on standard input.
    fn with_key(&self, key: &str, arguments: &[&str], input: &str) -> Ended {
        use std::io::Write as _;
        let mut program = self.program(arguments);
        program.env("LEASE_LEDGER_SECRET_KEY_FILE", self.folder.path().join(key));
        let mut child = program.stdin(std::process::Stdio::piped()).spawn().expect("the program starts");
        // A command that needs no input may have ended.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends").into()
    }
}

#[test]
fn a_secret_is_set_shown_rotated_and_removed_and_its_value_is_never_printed() {
    let home = Home::new();
    home.key("key", 7);
    let steps: [(&[&str], &str, &str); 6] = [
        (&["secret", "set", "deploy"], "c4nary-of-the-command-line\n", "version    1 (ledger "),
        (&["secret", "show", "deploy"], "", "\"secretId\""),
        (&["secret", "rotate", "deploy"], "c4nary-of-the-command-line, again\n", "version    2 (ledger "),
        (&["secret", "list"], "", "deploy  active  ledger    2"),
        (&["--json", "secret", "show", "deploy"], "", "\"version\":2"),
        (&["secret", "remove", "deploy", "--note", "no longer used"], "", "status   removed"),
    ];
    for (arguments, input, printed) in steps {
        let ended = home.with_key("key", arguments, input);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(ended.stdout.contains(printed), "{arguments:?}: {}", ended.stdout);
        assert!(!ended.stdout.contains("c4nary"), "{}", ended.stdout);
    }
    assert_eq!(home.with_key("key", &["secret", "list"], "").stdout.lines().count(), 1, "only the header");
    let events = home.done(&["events"]);
    assert!(events.contains("secret-removed") && !events.contains("c4nary"), "{events}");
    for entry in std::fs::read_dir(home.folder.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
        assert!(!bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()), "{}", path.display());
    }
}

#[test]
fn without_a_key_or_with_another_one_it_is_said_what_to_do() {
    let home = Home::new();
    let none = home.run_with_input(&["secret", "set", "deploy"], VALUE.as_bytes());
    assert_ne!(none.code, 0);
    assert!(none.stderr.contains("head -c 32 /dev/urandom | base64 > KEY"), "{}", none.stderr);
    home.key("one", 1);
    home.key("other", 2);
    assert_eq!(home.with_key("one", &["secret", "set", "deploy"], VALUE).code, 0);
    let other = home.with_key("other", &["secret", "set", "another"], VALUE);
    assert!(other.code != 0 && other.stderr.contains("it is sealed with key "), "{}", other.stderr);
    let missing = home.with_key("missing", &["secret", "list"], "");
    assert!(
        missing.stderr.contains("The key file ") && missing.stderr.contains("cannot be read"),
        "{}",
        missing.stderr
    );
    let new = home.folder.path().join("other");
    let rekeyed = home.with_key("one", &["secret", "rekey", "--new-key-file", new.to_str().expect("UTF-8")], "");
    assert!(rekeyed.stdout.starts_with("Sealed 1 versions with the key in "), "{}{}", rekeyed.stdout, rekeyed.stderr);
    assert_eq!(home.with_key("other", &["secret", "set", "deploy"], VALUE).code, 0);
    for ended in [none, other, missing] {
        assert!(!ended.stderr.contains("c4nary"), "{}", ended.stderr);
    }
}

#[test]
fn an_unknown_name_and_two_sources_are_refused() {
    let home = Home::new();
    home.key("key", 7);
    let unknown = home.with_key("key", &["secret", "rotate", "nowhere"], VALUE);
    assert!(unknown.stderr.contains("There is no secret \"nowhere\" in company"), "{}", unknown.stderr);
    let both = home.with_key("key", &["secret", "set", "x", "--variable", "A", "--file", "b"], "");
    assert_eq!(both.code, 2, "{}", both.stderr);
    let variable = home.with_key("key", &["secret", "set", "x", "--variable", "A"], "");
    assert!(variable.stderr.contains("is not set where the ledger runs"), "{}", variable.stderr);
}
