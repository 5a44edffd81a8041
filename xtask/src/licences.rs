//! Whether every dependency that is built here has a licence that this project accepts. `cargo deny` does more where
//! it is installed; this needs nothing but cargo, and `deny.toml` has the same list.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::output_of;

/// The licences that need no more than a notice.
const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every package that cargo resolves for this machine's platform.
pub(crate) fn check(_arguments: &[String]) -> Result<()> {
    let version = output_of("rustc", &["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host platform")?;
    let metadata = output_of(
        "cargo",
        &["metadata", "--format-version", "1", "--all-features", "--locked", "--filter-platform", host],
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    if !refused.is_empty() {
        bail!(
            "these packages have no licence that is accepted (xtask/src/licences.rs has the list):\n{}",
            refused.join("\n")
        );
    }
    eprintln!("The licences of all {} packages are accepted.", packages.len());
    Ok(())
}

fn refusal(package: &Value) -> Option<String> {
    let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
    match package["license"].as_str() {
        None => Some(format!("  {name} {version}: it names none")),
        Some(expression) if accepts(expression) => None,
        Some(expression) => Some(format!("  {name} {version}: {expression}")),
    }
}

/// Whether one of the alternatives of an SPDX expression asks only for what is accepted. `/` is the old `OR`. An
/// expression of any other form is refused, so that somebody looks.
fn accepts(expression: &str) -> bool {
    any_of(&expression.replace('/', " OR "))
}

/// `AND` binds closer than `OR`.
fn any_of(expression: &str) -> bool {
    parts(expression, " OR ").any(|alternative| {
        parts(alternative, " AND ").all(|part| {
            let part = part.trim();
            match part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) {
                Some(inner) => any_of(inner),
                None => ACCEPTED.contains(&part),
            }
        })
    })
}

/// An expression's parts between the words that stand in no brackets.
fn parts<'a>(expression: &'a str, word: &str) -> impl Iterator<Item = &'a str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 && at >= start && expression[at..].starts_with(word) => {
                parts.push(&expression[start..at]);
                start = at + word.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_accepted_where_one_alternative_is() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "MIT AND BSD-3-Clause",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "ISC AND (Apache-2.0 OR ISC) AND (GPL-3.0 OR (MIT AND Zlib))",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in
            ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "(GPL-3.0)", "ISC AND (GPL-3.0 OR", ""]
        {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn deny_toml_has_the_same_list() {
        let listed: Vec<&str> = include_str!("../../deny.toml")
            .lines()
            .skip_while(|line| *line != "allow = [")
            .skip(1)
            .take_while(|line| *line != "]")
            .map(|line| line.trim().trim_matches(['"', ',']))
            .collect();
        assert_eq!(listed, ACCEPTED);
    }
}
