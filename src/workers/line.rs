//! Framing: one JSON object a line, `\n` alone ends it.
//!
//! **Invariants:** U+2028 and U+2029 are written escaped, since some readers split their input there. A line over
//! [`LINE_BYTES_MAX`] is neither written nor kept while it is read.

use std::io;

use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Longest line, in bytes: what the protocol lets a worker send; more is a fault, not a message.
pub const LINE_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// A message that is too long to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The message has {bytes} bytes; a worker takes at most {LINE_BYTES_MAX}.")]
pub struct TooLong {
    /// Its length.
    pub bytes: usize,
}

/// A message as a line.
pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>, TooLong> {
    let mut text = serde_json::to_string(message).unwrap_or_else(|_| "null".to_owned());
    // One look for each: a search for a single character is quick, for a set of them it is not.
    if text.contains('\u{2028}') || text.contains('\u{2029}') {
        // In JSON the two can only stand inside a string.
        text = text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    }
    if text.len() > LINE_BYTES_MAX {
        return Err(TooLong { bytes: text.len() });
    }
    text.push('\n');
    Ok(text.into_bytes())
}

/// What stood on a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes, without the end.
    Text(Vec<u8>),
    /// It was longer than [`LINE_BYTES_MAX`], and was dropped; this many bytes.
    Dropped(u64),
}

/// The next line; `None` at the end of the stream.
pub(super) async fn next(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let (mut text, mut length) = (Vec::new(), 0_u64);
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok((length > 0).then(|| line(text, length)));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let piece = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        length += piece.len() as u64;
        if length <= LINE_BYTES_MAX as u64 {
            text.extend_from_slice(piece);
        } else {
            text = Vec::new();
        }
        let used = piece.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(line(text, length)));
        }
    }
}

fn line(text: Vec<u8>, length: u64) -> Line {
    if length > LINE_BYTES_MAX as u64 { Line::Dropped(length) } else { Line::Text(text) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::BufReader;

    use super::*;

    #[test]
    fn line_separators_are_written_escaped() {
        let bytes = encode(&json!({ "a\u{2029}": "x\u{2028}y\n" })).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "{\"a\\u2029\":\"x\\u2028y\\n\"}\n");
    }

    #[tokio::test]
    async fn only_newlines_part_lines_and_a_long_one_is_dropped() {
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        let input = format!("a\u{2028}\r\n\n{long}\nlast");
        let mut reader = BufReader::with_capacity(7_000, input.as_bytes());
        let mut lines = Vec::new();
        while let Some(line) = next(&mut reader).await.unwrap() {
            lines.push(line);
        }
        let text = |text: &str| Line::Text(text.as_bytes().to_vec());
        let dropped = Line::Dropped(LINE_BYTES_MAX as u64 + 1);
        assert_eq!(lines, [text("a\u{2028}\r"), text(""), dropped, text("last")]);
    }

    #[test]
    fn a_message_that_no_worker_would_read_is_not_sent() {
        let error = encode(&json!("x".repeat(LINE_BYTES_MAX))).unwrap_err();
        assert_eq!(error.bytes, LINE_BYTES_MAX + 2);
    }
}
