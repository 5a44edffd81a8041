//! The published contract of the tables, as Markdown. `docs/projections.md` is this text; a test compares them.

use std::fmt::Write as _;

use crate::projection::{ColumnKind, STATE_COLUMN, Table};

const BEFORE: &str = include_str!("docs/before.md");

/// The text of `docs/projections.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = BEFORE.to_owned();
    for projection in crate::standard() {
        for table in projection.tables() {
            section(&mut text, table);
        }
    }
    text
}

#[expect(clippy::expect_used, reason = "a String takes whatever is written to it")]
fn section(text: &mut String, table: &Table) {
    let mut line = |line: String| writeln!(text, "{line}").expect("a String takes whatever is written to it");
    line(format!("\n## `{}` (version {})\n\n{}\n", table.name, table.version, table.about));
    line("| column | type | NULL | meaning |\n| --- | --- | --- | --- |".to_owned());
    for column in table.columns {
        let kind = match column.kind {
            ColumnKind::Text => "text",
            ColumnKind::Integer => "integer",
            ColumnKind::Boolean => "boolean (0, 1)",
            ColumnKind::Timestamp => "timestamp",
            ColumnKind::Json if column.name == STATE_COLUMN => "internal",
            ColumnKind::Json => "JSON text",
        };
        let null = if column.nullable { "yes" } else { "" };
        line(format!("| `{}` | {kind} | {null} | {} |", column.name, column.about));
    }
    let stored_by = table.stored_by.map(|name| format!(" Rows are stored by `{name}`.")).unwrap_or_default();
    line(format!("\nPrimary key: `{}`.{stored_by} Indexes, which may change without a new version:\n", table.key()));
    for index in table.indexes {
        let condition = index.condition.map(|condition| format!(" where `{condition}`")).unwrap_or_default();
        line(format!("- `{}`{condition}", index.columns.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_committed_contract_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/projections.md");
        let generated = super::markdown();
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::create_dir_all(path.parent().expect("it is in docs/")).expect("docs/ can be made");
            std::fs::write(&path, &generated).expect("docs/projections.md can be written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "docs/projections.md is not what the tables' declarations say; run the tests with UPDATE_GENERATED=1"
        );
    }
}
