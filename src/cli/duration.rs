//! Durations and moments as people type and read them. Pure.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// Parses `500ms`, `30s`, `5m`, `1h`, `2d`, or several after each other, such as `1h30m`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("\"{text}\" is not a duration; give a number and a unit of ms, s, m, h or d, such as 30s or 1h30m");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|letter: char| letter.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            "m" => number.checked_mul(60).map(Duration::from_secs),
            "h" => number.checked_mul(3_600).map(Duration::from_secs),
            "d" => number.checked_mul(86_400).map(Duration::from_secs),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = behind;
    }
    if total.is_zero() { Err(format!("\"{text}\" is no time at all; give at least 1ms")) } else { Ok(total) }
}

/// Parses an RFC 3339 moment.
pub fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| at.with_timezone(&Utc))
        .map_err(|_| format!("\"{text}\" is not a moment; give an RFC 3339 time such as 2030-01-31T12:00:00Z"))
}

/// The moment `after` from `now`.
pub fn later(now: DateTime<Utc>, after: Duration) -> Result<DateTime<Utc>, String> {
    TimeDelta::from_std(after).ok().and_then(|delta| now.checked_add_signed(delta)).ok_or_else(|| {
        format!("{} days from now is beyond the calendar; give a shorter time", after.as_secs() / 86_400)
    })
}

/// The moment as tables show it: UTC, to the millisecond.
#[must_use]
pub fn absolute(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// How far `at` is from `now`, in words: `3 min ago`, `in 2 h`.
#[must_use]
pub fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = now.signed_duration_since(at).num_seconds();
    let words = match seconds.unsigned_abs() {
        0 => return "just now".to_owned(),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    };
    if seconds > 0 { format!("{words} ago") } else { format!("in {words}") }
}

/// A length of time in words, from milliseconds.
#[must_use]
pub fn length(milliseconds: u64) -> String {
    match milliseconds {
        0..=999 => format!("{milliseconds} ms"),
        1_000..=119_999 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min", milliseconds / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_typed() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(parse("2d"), Ok(Duration::from_hours(48)));
        for wrong in ["", "30", "s", "30 s", "-1s", "1y", "99999999999999999999s", "18446744073709551615d"] {
            let refusal = parse(wrong).unwrap_err();
            assert!(refusal.contains("is not a duration; give a number and a unit"), "{wrong}: {refusal}");
        }
        assert!(parse("0s").unwrap_err().contains("give at least 1ms"));
    }

    #[test]
    fn distances_read_as_words() {
        let now = parse_moment("2030-01-31T12:00:00Z").unwrap();
        let at = |seconds: i64| relative(now + TimeDelta::seconds(seconds), now);
        assert_eq!([at(0), at(-1), at(-90), at(-7_199)], ["just now", "1 s ago", "90 s ago", "119 min ago"]);
        assert_eq!([at(5), at(7_200), at(-172_800)], ["in 5 s", "in 2 h", "2 days ago"]);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_refused() {
        let now = parse_moment("2030-01-31T12:00:00Z").unwrap();
        assert!(later(now, Duration::MAX).unwrap_err().contains("beyond the calendar"));
    }
}
