//! What every source file keeps to.

use std::fs;
use std::path::Path;

/// Longest file, in lines of code that are no test and no comment: what a reader holds in the head.
const LINES_MAX: usize = 500;

/// What no file may hold, in two halves so that this file does not, with what is right instead.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("allow", "(", "use #[expect(lint, reason = \"…\")]"),
    ("#[ign", "ore", "a test runs or is not there"),
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "mend it, or open an issue"),
    ("XX", "X", "say what is meant"),
];

#[test]
fn every_file_says_first_what_it_is_for() {
    for path in rust_files() {
        let first = text_of(&path).lines().next().unwrap_or_default().to_owned();
        assert!(
            first.starts_with("//! ") && first.len() > 8,
            "{path} does not open with a //! line that says what it is for"
        );
    }
}

#[test]
fn no_file_is_too_long() {
    for path in rust_files().iter().filter(|path| !is_test(path)) {
        let lines = code_of(path).lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines of code; split it below {LINES_MAX}");
    }
}

#[test]
fn nothing_is_left_undone_or_silenced() {
    for path in rust_files() {
        let text = text_of(&path);
        for (head, tail, instead) in FORBIDDEN {
            let word = format!("{head}{tail}");
            let line = text.lines().position(|line| says(line, &word));
            assert!(line.is_none(), "{path}:{} has {word}: {instead}", line.unwrap_or(0) + 1);
        }
    }
}

/// Whether `line` has `word`, not as the end of a longer one.
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The paths of all Rust files, from the root on, sorted.
pub(crate) fn rust_files() -> Vec<String> {
    files(".rs")
}

/// The paths of all files of the project whose names end so.
pub(crate) fn files(end: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(root(), "", end, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, prefix: &str, end: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().expect("a readable entry").is_dir();
        if is_folder && !matches!(name.as_str(), "target" | "node_modules") && !name.starts_with('.') {
            collect(&entry.path(), &format!("{prefix}{name}/"), end, found);
        } else if !is_folder && name.ends_with(end) {
            found.push(format!("{prefix}{name}"));
        }
    }
}

/// Whether a file holds only tests.
pub(crate) fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
}

/// A file's text.
pub(crate) fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file's text up to its test module, without comments.
pub(crate) fn code_of(path: &str) -> String {
    let text = text_of(path);
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_word_is_found_only_where_it_stands_alone() {
    assert!(says("#![forbid(unused)]", "forbid(") && says("// XYZ: later", "XYZ"));
    assert!(!says("fn unforbid(x: u8)", "forbid(") && !says("fn is_forbid(", "forbid("));
}
