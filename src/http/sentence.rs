//! What serde says of a wrong body or query, in words for those who sent it: which field, and what would be right.
//! Values are not repeated, since they may be secrets.

use super::problem::RequestFault;

/// A request that does not fit its type. `whole` names the whole, such as `The body`.
pub(super) fn misfit(whole: &str, path: &str, message: &str) -> RequestFault {
    let message = message.rfind(" at line ").map_or(message, |at| &message[..at]);
    let (field, sentence) = explain(whole, path.trim_matches('.'), message);
    RequestFault::InvalidField { field, sentence }
}

fn explain(whole: &str, path: &str, message: &str) -> (Option<String>, String) {
    if let Some(name) = message.strip_prefix("missing field ").and_then(first_name) {
        return named(&join(path, name), |name| format!("\"{name}\" is missing."));
    }
    if let Some(name) = message.strip_prefix("duplicate field ").and_then(first_name) {
        return named(&join(path, name), |name| format!("\"{name}\" is given twice."));
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = backticked(rest);
        let unknown = names.next().unwrap_or_default();
        let known: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
        let there_are = if known.is_empty() { "no fields at all".to_owned() } else { known.join(", ") };
        return named(&join(path, unknown), |name| format!("\"{name}\" is not known here; there are {there_are}."));
    }
    let subject = if path.is_empty() { whole.to_owned() } else { format!("\"{path}\"") };
    let sentence = if let Some(rest) = message.strip_prefix("unknown variant ") {
        let known: Vec<_> = backticked(rest).skip(1).map(|word| format!("\"{word}\"")).collect();
        format!("{subject} must be one of {}.", known.join(", "))
    } else if let Some((given, expected)) = split_expected(message, "invalid type: ") {
        format!("{subject} must be {}, not {}.", expected_in_words(expected), given_in_words(given))
    } else if let Some((_, expected)) = split_expected(message, "invalid value: ") {
        format!("{subject} must be {}.", expected_in_words(expected))
    } else {
        format!("{subject}: {message}.")
    };
    ((!path.is_empty()).then(|| path.to_owned()), sentence)
}

fn named(field: &str, sentence: impl FnOnce(&str) -> String) -> (Option<String>, String) {
    (Some(field.to_owned()), sentence(field))
}

/// The field `name` of what stands at `path`, which may name the field already.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() || path == name || path.ends_with(&format!(".{name}")) {
        if path.is_empty() { name.to_owned() } else { path.to_owned() }
    } else {
        format!("{path}.{name}")
    }
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn first_name(text: &str) -> Option<&str> {
    backticked(text).next()
}

fn split_expected<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    message.strip_prefix(prefix)?.rsplit_once(", expected ")
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "a map" => "an object",
        "a sequence" => "a list",
        "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

fn given_in_words(given: &str) -> &'static str {
    match given.split([' ', '`']).next().unwrap_or_default() {
        "string" | "character" => "a string",
        "integer" | "floating" | "number" => "a number",
        "boolean" => "a boolean",
        "null" | "unit" | "Option" => "null",
        "map" => "an object",
        "sequence" => "a list",
        _ => "this",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, message: &str) -> String {
        misfit("The body", path, message).to_string()
    }

    #[test]
    fn each_misfit_is_told_in_words() {
        assert_eq!(told(".", "missing field `companyId` at line 1 column 2"), "\"companyId\" is missing.");
        assert_eq!(told("workspace", "missing field `x`"), "\"workspace.x\" is missing.");
        assert_eq!(
            told("colour", "unknown field `colour`, expected `a` or `b`"),
            "\"colour\" is not known here; there are \"a\", \"b\"."
        );
        assert_eq!(
            told("args[1]", "invalid type: integer `5`, expected a string at line 1 column 9"),
            "\"args[1]\" must be a string, not a number."
        );
        assert_eq!(told(".", "invalid type: sequence, expected struct X"), "The body must be an object, not a list.");
        assert_eq!(
            told("status", "unknown variant `x`, expected `active` or `archived`"),
            "\"status\" must be one of \"active\", \"archived\"."
        );
        assert_eq!(told("runId", "\"x\" is not a run id"), "\"runId\": \"x\" is not a run id.");
    }

    #[test]
    fn a_value_is_not_repeated() {
        let told = told("env.TOKEN", "invalid type: map, expected a string");
        assert_eq!(told, "\"env.TOKEN\" must be a string, not an object.");
        let sentence = misfit("The body", "command", "invalid type: string \"s3cret, expected x\", expected a map");
        assert!(!sentence.to_string().contains("s3cret"), "{sentence}");
    }
}
