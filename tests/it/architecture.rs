//! Who may use whom: between crates, and between the folders of `src/`. The arrows of docs/ARCHITECTURE.md, held.
//!
//! A folder that is not there yet is checked once it is; a folder that no table here knows fails the test.

use std::collections::BTreeSet;
use std::fs;

use crate::tidy::{code_of, is_test, root, rust_files};

/// The crates, and which of the workspace's own each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("events", &[]),
    ("events/stores", &["lease-events"]),
    ("projections", &["lease-events", "lease-stores"]),
    (".", &["lease-events", "lease-stores", "lease-projections"]),
    ("xtask", &[]),
];

/// What the pure crate must do without.
const IMPURE: &[&str] = &["tokio", "sqlx", "axum", "tracing"];

/// The modules of `src/`, and which other modules of it each may name. Lower ones never name higher ones.
const MODULES: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    // Starting processes and ending all that they started: knows nobody.
    ("processes", &[]),
    ("workers", &["processes", "secrets"]),
    ("secrets", &[]),
    ("drivers", &["processes", "secrets", "workers"]),
    // They take the commands' `Context` and answer in its errors; commands answer a repetition through them.
    ("queries", &["commands"]),
    // Plugins are installed and removed by commands; what their workers do is the drivers' business.
    ("commands", &["drivers", "queries", "secrets", "workers"]),
    ("recovery", &["commands", "drivers", "queries"]),
    ("ledger", &["commands", "drivers", "queries", "recovery", "workers"]),
    ("config", &[]),
    // The only one that names a concrete store, driver or projection.
    (
        "wiring",
        &[
            "commands",
            "config",
            "drivers",
            "ledger",
            "processes",
            "queries",
            "recovery",
            "secrets",
            "telemetry",
            "workers",
        ],
    ),
    // Both faces speak of drivers and commands in the ledger's words: what a call takes and gives.
    ("http", &["commands", "config", "drivers", "ledger", "queries", "recovery", "telemetry"]),
    // It shows what a store holds: no command, no question.
    ("esdb", &[]),
    // It speaks HTTP, in process or over TCP, and starts the server; what the operator grants is read here. The check of
    // a plugin is no command of a ledger: that it asks of the drivers.
    ("cli", &["config", "drivers", "esdb", "http", "ledger", "secrets", "telemetry", "wiring"]),
    ("lib", &[]),
    ("main", &["cli", "config", "telemetry"]),
];

/// Words that only some modules may say, with the modules that may: whoever makes or uses the thing itself.
const WORDS: &[(&[&str], &[&str])] = &[
    (&["SqliteStore", "MemoryStore", "SqlProjections", "MemoryProjections"], &["wiring"]),
    (
        &[
            "LocalDriver",
            "PluginDriver",
            "PluginProviders",
            "SshDriver",
            "SandboxDriver",
            "FakeProvider",
            "BubblewrapProvider",
        ],
        &["drivers", "wiring"],
    ),
    (&["sqlx::"], &["wiring"]),
    (&["StatusCode", "axum::"], &["http", "cli"]),
    (&["clap::"], &["cli", "config", "main"]),
    // Recovery chooses and calls commands; only commands append.
    (&["store.append(", ".append(Append"], &["commands"]),
];

#[test]
fn crates_depend_downwards_only() {
    for (folder, allowed) in CRATES {
        let manifest = manifest(folder);
        let own = dependencies(&manifest).into_iter().filter(|name| name.starts_with("lease-"));
        let forbidden: Vec<String> = own.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(forbidden.is_empty(), "{folder}/Cargo.toml depends on {forbidden:?}; it may use {allowed:?}");
    }
    let of_events = dependencies(&manifest("events"));
    for name in IMPURE {
        assert!(!of_events.contains(*name), "lease-events is pure: it must do without {name}");
    }
}

#[test]
fn every_crate_is_in_the_table() {
    let manifests: BTreeSet<String> =
        crate::tidy::files("Cargo.toml").into_iter().map(|path| path.replace("Cargo.toml", "")).collect();
    let known: BTreeSet<String> =
        CRATES.iter().map(|(folder, _)| if *folder == "." { String::new() } else { format!("{folder}/") }).collect();
    assert_eq!(manifests, known);
}

#[test]
fn modules_use_what_the_table_lets_them() {
    for path in &sources() {
        let module = module_of(path);
        let (_, allowed) = MODULES
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{path}: the module {module} is in no table of tests/it/architecture.rs"));
        for used in uses(&code_of(path)) {
            let known = MODULES.iter().any(|(name, _)| *name == used);
            let may = used == module || allowed.contains(&used.as_str());
            assert!(!known || may, "{path} uses {used}; {module} may use {allowed:?}");
        }
    }
}

#[test]
fn concrete_things_are_named_only_where_they_are_joined() {
    for path in &sources() {
        let (module, code) = (module_of(path), code_of(path));
        for (words, modules) in WORDS.iter().filter(|(_, modules)| !modules.contains(&module)) {
            for word in *words {
                assert!(!code.contains(word), "{path} says {word}; only {modules:?} may");
            }
        }
    }
}

#[test]
fn the_code_map_names_what_is_there_and_only_that() {
    let Ok(document) = fs::read_to_string(root().join("docs/ARCHITECTURE.md")) else { return };
    // Lines that start with "- `PATH`" are the map; they may name more than one path.
    let map = document.lines().filter(|line| line.trim_start().starts_with("- `"));
    let words = map.flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: BTreeSet<String> =
        words.filter(|word| is_path(word)).map(|path| path.trim_end_matches('/').to_owned()).collect();
    let lost: Vec<&String> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(lost.is_empty(), "docs/ARCHITECTURE.md names what is not there: {lost:?}");
    let crates = CRATES.iter().map(|(folder, _)| (*folder).to_owned()).filter(|folder| folder != ".");
    let there: BTreeSet<String> = module_folders().into_iter().chain(crates).collect();
    let unnamed: Vec<&String> = there.difference(&named).collect();
    assert!(unnamed.is_empty(), "docs/ARCHITECTURE.md does not name {unnamed:?}; add a line \"- `PATH`: …\" for each");
}

/// Whether a word of the code map is a path from the root on.
fn is_path(word: &str) -> bool {
    let head = word.split('/').next().unwrap_or_default();
    ["docs", "events", "migrations", "projections", "src", "tests", "xtask"].contains(&head)
}

/// The files of `src/` that are no tests.
fn sources() -> Vec<String> {
    rust_files().into_iter().filter(|path| path.starts_with("src/") && !is_test(path)).collect()
}

/// The folders of modules right below `src/`; what is in them, their own `mod.rs` tells.
fn module_folders() -> BTreeSet<String> {
    let sources = sources();
    let folders = sources.iter().filter_map(|path| path.strip_prefix("src/")?.split_once('/'));
    folders.map(|(folder, _)| format!("src/{folder}")).collect()
}

/// `src/drivers/local.rs` is of `drivers`, `src/ledger.rs` of `ledger`.
fn module_of(path: &str) -> &str {
    let rest = path.trim_start_matches("src/");
    rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
}

/// The modules of the crate that a file names, as `crate::NAME` or, in the binary, `lease_ledger::NAME`; groups
/// such as `crate::{a, b::c}` too.
fn uses(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for prefix in ["crate::", "lease_ledger::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(heads(group)),
                None => used.extend(word(rest)),
            }
        }
    }
    used
}

/// The first words of a group's members, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut member, mut found) = (0_u32, String::new(), Vec::new());
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => found.extend(word(std::mem::take(&mut member).trim())),
            _ if depth == 0 => member.push(character),
            _ => {}
        }
    }
    found.extend(word(member.trim()));
    found
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn manifest(folder: &str) -> String {
    let path = root().join(folder).join("Cargo.toml");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names under `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter_map(dependency).collect()
}

/// The name at the head of a dependency's line.
fn dependency(line: &str) -> Option<String> {
    let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
    (!name.is_empty() && !name.starts_with('#')).then(|| name.to_owned())
}

#[test]
fn uses_are_found_in_every_spelling() {
    let code =
        "use crate::drivers::Outcome;\nuse crate::{commands::{acquire, release}, queries};\nlease_ledger::cli::main()";
    assert_eq!(uses(code), ["cli", "commands", "drivers", "queries"].map(str::to_owned).into());
    assert_eq!(module_of("src/drivers/sandbox/mod.rs"), "drivers");
    assert_eq!(
        dependencies("[dependencies]\n# why\nlease-events.workspace = true\n\n[lints]\na = 1"),
        ["lease-events".to_owned()].into()
    );
}
