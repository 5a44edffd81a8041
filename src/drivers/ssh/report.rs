//! Tells a command's own output from the reports that its supervisor writes between (see `remote.rs`).
//!
//! A report is `NUL TOKEN SPACE WORDS LF`. The token is fresh for each command, so that no output holds one by chance.
//! What comes before a stream's first report is of the login shell's start-up files, and is dropped.
//!
//! **Invariant:** every byte of the command's own is passed on at once and in order, but for what may be the beginning of
//! a report.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::drivers::{OutputChunk, OutputSink, OutputStream};

/// Most bytes of the output that are not the command's own: reports, and what start-up files print.
pub(super) const OVERHEAD_BYTES_MAX: u64 = 64 * 1_024;
/// Longest report behind its token; far above any.
const WORDS_BYTES_MAX: usize = 64;

/// What the supervisor reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reports {
    /// It runs, and reads.
    pub(super) begun: bool,
    /// The command itself was started.
    pub(super) ran: bool,
    /// How it ended.
    pub(super) end: Option<End>,
    /// Its output was longer than it may be, and was cut.
    pub(super) cut: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It did not start: there is no `setsid`.
    NoSetsid,
    /// It did not start: there is no such directory, or it may not be entered.
    NoDirectory,
    /// It did not start: there is no such program.
    NoProgram,
    /// It ended with this code, as shells number it, and nothing of it is left.
    Exit(i32),
    /// It ended, but processes of it would not.
    Left,
}

/// What is known of a command while it runs.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Its session on the far side.
    pub(super) session: OnceLock<u32>,
    /// Cancelled when its output passes the limit.
    pub(super) too_long: CancellationToken,
}

/// Passes a command's output on until it ends, and gives the reports in it.
pub(super) async fn sift(
    token: &str,
    mut input: mpsc::Receiver<OutputChunk>,
    output: OutputSink,
    bytes_max: u64,
    live: Arc<Live>,
) -> Reports {
    let mut reports = Reports::default();
    let mut passing = Passing { output, bytes_left: bytes_max, cut: false, live: Arc::clone(&live) };
    let (mut stdout, mut stderr) = (Scanner::new(token), Scanner::new(token));
    while let Some(chunk) = input.recv().await {
        let scanner = match chunk.stream {
            OutputStream::Stdout => &mut stdout,
            OutputStream::Stderr => &mut stderr,
        };
        for piece in scanner.feed(&chunk.bytes) {
            match piece {
                Piece::Report(words) => note(&words, &mut reports, &live),
                Piece::Own(bytes) => passing.send(chunk.stream, bytes).await,
            }
        }
    }
    passing.send(OutputStream::Stdout, stdout.finish()).await;
    passing.send(OutputStream::Stderr, stderr.finish()).await;
    Reports { cut: passing.cut, ..reports }
}

/// The command's own output on its way, up to its limit.
struct Passing {
    output: OutputSink,
    bytes_left: u64,
    cut: bool,
    live: Arc<Live>,
}

impl Passing {
    async fn send(&mut self, stream: OutputStream, mut bytes: Vec<u8>) {
        let fits = usize::try_from(self.bytes_left).unwrap_or(usize::MAX);
        if bytes.len() > fits {
            bytes.truncate(fits);
            self.cut = true;
            self.live.too_long.cancel();
        }
        self.bytes_left -= bytes.len() as u64;
        if !bytes.is_empty() {
            // A closed sink is ignored: the command runs on, and its output is dropped.
            let _ = self.output.send(OutputChunk { stream, bytes }).await;
        }
    }
}

fn note(words: &str, reports: &mut Reports, live: &Live) {
    let end = match words.split_once(' ').unwrap_or((words, "")) {
        ("begin", _) => {
            reports.begun = true;
            None
        }
        ("run", _) => {
            reports.ran = true;
            None
        }
        ("pid", number) => {
            if let Ok(number) = number.parse() {
                // The first counts: a command has one session.
                let _ = live.session.set(number);
            }
            None
        }
        ("setsid", _) => Some(End::NoSetsid),
        ("cwd", _) => Some(End::NoDirectory),
        ("absent", _) => Some(End::NoProgram),
        ("exit", "left") => Some(End::Left),
        ("exit", number) => number.parse().ok().map(End::Exit),
        _ => None,
    };
    // The first counts: the supervisor also reports the exit of a shell that found no program.
    reports.end = reports.end.or(end);
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Own(Vec<u8>),
    Report(String),
}

/// Cuts one stream into pieces.
struct Scanner {
    /// NUL, token, space.
    head: Vec<u8>,
    /// What may be the beginning of a report.
    pending: Vec<u8>,
    begun: bool,
}

impl Scanner {
    fn new(token: &str) -> Self {
        Self { head: format!("\0{token} ").into_bytes(), pending: Vec::new(), begun: false }
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.pending.extend_from_slice(bytes);
        loop {
            let start = self.possible_start();
            let own: Vec<u8> = self.pending.drain(..start).collect();
            if self.begun && !own.is_empty() {
                pieces.push(Piece::Own(own));
            }
            if !self.pending.starts_with(&self.head) {
                return pieces;
            }
            let rest = self.pending.get(self.head.len()..).unwrap_or_default();
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                if rest.len() > WORDS_BYTES_MAX {
                    // No report is so long: it is the command's own after all.
                    pieces.push(Piece::Own(std::mem::take(&mut self.pending)));
                }
                return pieces;
            };
            let words = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
            self.pending.drain(..=self.head.len() + length);
            self.begun = true;
            pieces.push(Piece::Report(words));
        }
    }

    /// What is left at the end: the beginning of no report after all.
    fn finish(self) -> Vec<u8> {
        if self.begun { self.pending } else { Vec::new() }
    }

    /// Where the first report begins, or what may become one; the end where nothing may.
    fn possible_start(&self) -> usize {
        let fits = |start: &usize| {
            let tail = self.pending.get(*start..).unwrap_or_default();
            let length = tail.len().min(self.head.len());
            tail.get(..length) == self.head.get(..length)
        };
        let nuls = self.pending.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
        nuls.into_iter().find(fits).unwrap_or(self.pending.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> (Vec<u8>, Vec<String>) {
        let mut scanner = Scanner::new("tok");
        let (mut own, mut reports) = (Vec::new(), Vec::new());
        for piece in chunks.iter().flat_map(|chunk| scanner.feed(chunk)) {
            match piece {
                Piece::Own(bytes) => own.extend(bytes),
                Piece::Report(words) => reports.push(words),
            }
        }
        own.extend(scanner.finish());
        (own, reports)
    }

    #[test]
    fn reports_are_taken_out_wherever_the_stream_is_cut() {
        let stream = b"noise\0tok begin\na\0b\0to\0tok pid 7\n\xff\0\0tok exit 3\n\0to";
        let expected = (b"a\0b\0to\xff\0\0to".to_vec(), ["begin", "pid 7", "exit 3"].map(str::to_owned).to_vec());
        for at in 0..stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(pieces(&[head, tail]), expected, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(pieces(&bytes), expected);
    }

    #[test]
    fn output_is_not_held_back() {
        let mut scanner = Scanner::new("tok");
        scanner.feed(b"\0tok begin\n");
        assert_eq!(scanner.feed(b"prompt> "), [Piece::Own(b"prompt> ".to_vec())]);
    }
}
