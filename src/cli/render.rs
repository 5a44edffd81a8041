//! What people see: tables and pairs on standard output. Text that comes from outside is made harmless first.

use std::io::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::exit::CliError;

/// What a table shows where there is nothing.
pub const NOTHING: &str = "-";

/// The text without control characters: a name or a fault must not steer the reader's terminal.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// The text, or [`NOTHING`].
pub fn or_nothing(text: Option<impl ToString>) -> String {
    text.map_or_else(|| NOTHING.to_owned(), |text| text.to_string())
}

/// Names in a row, or that there is nothing.
#[must_use]
pub fn listed(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// Rows under a header, as wide as they are.
#[must_use]
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| harmless(cell)).collect::<Vec<_>>());
    }
    trimmed(&table)
}

/// Names and what they stand for, one pair a line; pairs without a value are left out.
#[must_use]
pub fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in pairs {
        if let Some(value) = value {
            table.add_row([name.to_owned(), harmless(&value)]);
        }
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let lines: Vec<String> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Writes a line to standard output. A reader that has gone away (`| head`) is no error.
pub fn line(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::ReaderGone),
        Err(error) => Err(CliError::Other(format!("Standard output cannot be written ({error})."))),
    }
}

/// Writes a value to standard output as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value)
        .map_err(|error| CliError::Other(format!("The answer cannot be written as JSON ({error}).")))?;
    line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_are_harmless() {
        let text =
            table(["NAME", "X"], [["a\u{1b}[31m".to_owned(), "1".to_owned()], ["longer".to_owned(), String::new()]]);
        assert_eq!(text, "NAME    X\na\u{fffd}[31m  1\nlonger");
        assert_eq!(pairs([("lease", Some("x".to_owned())), ("run", None)]), "lease  x");
    }
}
