//! Filters of `$all`: by stream name or event type, by prefixes or a regular expression.

use fancy_regex::{Regex, RegexBuilder};
use lease_events::record::RecordedEvent;

use super::messages::streams::{Expression, FilterOn, FilterOptions, Window};
use super::refusal::{Refusal, invalid};

/// Longest regular expression, in bytes: a client's own default has 20.
const REGEX_BYTES_MAX: usize = 4 * 1024;
/// Most prefixes of one filter.
const PREFIXES_MAX: usize = 256;
/// Steps that one match may go back: names are short, and a pattern that needs more is a mistake or an attack.
const BACKTRACK_MAX: usize = 10_000;
/// Events looked at between two checkpoints where the client does not say, as servers have it.
const WINDOW: u32 = 32;

/// Which events of `$all` are wanted.
#[derive(Debug)]
pub(super) struct Filter {
    on: On,
    matches: Matches,
    /// A checkpoint is due whenever this many events were looked at.
    pub(super) checkpoint_every: u64,
}

#[derive(Debug, Clone, Copy)]
enum On {
    Stream,
    EventType,
}

#[derive(Debug)]
enum Matches {
    Prefixes(Vec<String>),
    Regex(Box<Regex>),
}

impl Filter {
    /// As a client asks for it.
    pub(super) fn read(options: FilterOptions) -> Result<Self, Refusal> {
        let (on, Expression { regex, prefix }) = match options.filter {
            Some(FilterOn::StreamIdentifier(expression)) => (On::Stream, expression),
            Some(FilterOn::EventType(expression)) => (On::EventType, expression),
            None => return Err(invalid("A filter is by stream name or by event type; give one of them.")),
        };
        let matches = if regex.is_empty() { prefixes(prefix)? } else { expression(&regex)? };
        let window = match options.window {
            Some(Window::Max(events)) => events,
            Some(Window::Count(_)) | None => WINDOW,
        };
        let checkpoint_every = u64::from(window.max(1)) * u64::from(options.checkpoint_interval_multiplier.max(1));
        Ok(Self { on, matches, checkpoint_every })
    }

    /// Whether this event is wanted.
    pub(super) fn takes(&self, event: &RecordedEvent) -> Result<bool, Refusal> {
        let text = match self.on {
            On::Stream => event.stream_id.as_str(),
            On::EventType => &event.event_type,
        };
        match &self.matches {
            Matches::Prefixes(prefixes) => Ok(prefixes.iter().any(|prefix| text.starts_with(prefix))),
            Matches::Regex(regex) => regex
                .is_match(text)
                .map_err(|error| invalid(format!("The filter's expression cannot be matched ({error}); simplify it."))),
        }
    }
}

fn prefixes(prefixes: Vec<String>) -> Result<Matches, Refusal> {
    match prefixes.len() {
        0 => Err(invalid("The filter has neither an expression nor a prefix; give one.")),
        1..=PREFIXES_MAX => Ok(Matches::Prefixes(prefixes)),
        given => Err(invalid(format!("The filter has {given} prefixes; {PREFIXES_MAX} are the most."))),
    }
}

fn expression(pattern: &str) -> Result<Matches, Refusal> {
    if pattern.len() > REGEX_BYTES_MAX {
        return Err(invalid(format!("The filter's expression is longer than {REGEX_BYTES_MAX} bytes; shorten it.")));
    }
    let built = RegexBuilder::new(pattern).backtrack_limit(BACKTRACK_MAX).build();
    let regex = built.map_err(|error| invalid(format!("The filter's expression cannot be read: {error}.")))?;
    Ok(Matches::Regex(Box::new(regex)))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use lease_events::id::{CompanyId, EventId};
    use lease_events::record::{Position, StreamId};

    use super::super::messages::Empty;
    use super::*;

    fn event(stream: &str, event_type: &str) -> RecordedEvent {
        RecordedEvent {
            event_id: EventId::derived(&["filter"]),
            stream_id: StreamId::parse(stream).unwrap(),
            stream_revision: 0,
            position: Position(1),
            event_type: event_type.into(),
            schema_version: 1,
            company_id: CompanyId::derived(&["filter"]),
            recorded_at: DateTime::UNIX_EPOCH,
            data: "{}".into(),
            metadata: "{}".into(),
        }
    }

    fn filter(on: fn(Expression) -> FilterOn, regex: &str, prefix: &[&str]) -> Result<Filter, Refusal> {
        let prefix = prefix.iter().map(|prefix| (*prefix).to_owned()).collect();
        Filter::read(FilterOptions {
            filter: Some(on(Expression { regex: regex.to_owned(), prefix })),
            window: Some(Window::Count(Empty {})),
            checkpoint_interval_multiplier: 5,
        })
    }

    #[test]
    fn events_are_taken_by_name_or_type_by_prefix_or_expression() {
        let lease = event("lease-1", "lease-released");
        for (on, regex, prefix, taken) in [
            (FilterOn::StreamIdentifier as fn(_) -> _, "", &["run-", "lease-"][..], true),
            (FilterOn::StreamIdentifier, "", &["run-"], false),
            (FilterOn::EventType, "", &["lease-r"], true),
            (FilterOn::EventType, "^lease-re(quested|leased)$", &[], true),
            // What the Python client sends where nothing is asked: not the system's own.
            (FilterOn::EventType, r"^(?!\$).+", &[], true),
            (FilterOn::EventType, r"^(?!lease).+", &[], false),
        ] {
            let filter = filter(on, regex, prefix).unwrap();
            assert_eq!(filter.takes(&lease).unwrap(), taken, "{filter:?}");
            assert_eq!(filter.checkpoint_every, 160);
        }
    }

    #[test]
    fn what_cannot_be_matched_is_refused_in_a_sentence() {
        let long = "x".repeat(REGEX_BYTES_MAX + 1);
        for (regex, said) in [("(", "cannot be read"), ("", "neither"), (&*long, "shorten it")] {
            let refused = filter(FilterOn::EventType, regex, &[]).unwrap_err();
            assert!(refused.message().contains(said), "{refused}");
        }
        let slow = filter(FilterOn::EventType, r"^(?=(a+)+$)(a+)+\1$", &[]).unwrap();
        assert!(slow.takes(&event("lease-1", &format!("{}!", "a".repeat(40)))).is_ok_and(|taken| !taken));
        let endless = filter(FilterOn::EventType, r"^(?:(a|aa)\1?)+x$", &[]).unwrap();
        let refused = endless.takes(&event("lease-1", &"a".repeat(60))).unwrap_err();
        assert!(refused.message().contains("simplify it"), "{refused}");
    }
}
