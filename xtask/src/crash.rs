//! The long runs of the crash tests: the whole matrix, and storms of any length. The tests themselves stand in
//! `tests/it/crash`; the variables that they read are set here and nowhere else.

use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, Result, bail};

use crate::run::run_words;

/// Kills of a storm by hand, where none are given.
const KILLS_DEFAULT: u64 = 200;

/// Every cell of the crash matrix.
pub(crate) fn matrix(_arguments: &[String]) -> Result<()> {
    tests("crash::matrix", &[("LEASE_LEDGER_TEST_MATRIX", "whole")])
}

/// A storm of kills; without a seed it is another one each time.
pub(crate) fn storm(arguments: &[String]) -> Result<()> {
    let (kills, seed) = read(arguments)?;
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(kills) >> 32);
    let (kills, seed) = (kills.to_string(), seed.to_string());
    tests("crash::storm", &[("LEASE_LEDGER_TEST_STORM_KILLS", &kills), ("LEASE_LEDGER_TEST_STORM_SEED", &seed)])
}

fn tests(of: &str, variables: &[(&str, &str)]) -> Result<()> {
    let words = ["cargo", "test", "--all-features", "--locked", "--test", "it", "--", "--nocapture", of];
    run_words(&words, variables)
}

/// Reads `--kills N --seed S`.
fn read(arguments: &[String]) -> Result<(u64, Option<u64>)> {
    let (mut kills, mut seed) = (KILLS_DEFAULT, None);
    let mut words = arguments.iter();
    while let Some(flag) = words.next() {
        let number = || -> Result<u64> {
            let number = words.clone().next().with_context(|| format!("{flag} needs a whole number"))?;
            number.parse().with_context(|| format!("{flag} needs a whole number, not \"{number}\""))
        };
        match flag.as_str() {
            "--kills" => kills = number()?,
            "--seed" => seed = Some(number()?),
            _ => bail!("there is no argument \"{flag}\"; there are --kills N and --seed S"),
        }
        words.next();
    }
    Ok((kills, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_read_strictly() {
        let read = |line: &str| read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read("").expect("defaults"), (KILLS_DEFAULT, None));
        assert_eq!(read("--kills 5 --seed 7").expect("both"), (5, Some(7)));
        for wrong in ["--kills", "--kills x", "--seed -1", "--speed 3", "5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
