//! The crash that a test asks of the real program: at a named crash point it kills itself, as nothing can catch.

use std::sync::atomic::{AtomicU32, Ordering};

use lease_events::seam::crash::{CrashPoint, CrashSeam, Fate, UnknownCrashPoint};
use rustix::process::{Signal, getpid, kill_process};

/// The variable that names the crash point: `POINT`, or `POINT:N` for the N-th time that it is reached.
pub(crate) const CRASH_AT: &str = "LEASE_LEDGER_CRASH_AT";

/// Kills this process where it is told to.
#[derive(Debug)]
pub(crate) struct KillAt {
    point: CrashPoint,
    /// How often the point is still passed before.
    left: AtomicU32,
}

/// A text that names no crash point, or no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCrashAt {
    /// The point is not known.
    #[error("{CRASH_AT}: {0}.")]
    Point(#[from] UnknownCrashPoint),
    /// The count is no whole number from 1.
    #[error("{CRASH_AT}: \"{0}\" is no count; give POINT:N with N from 1.")]
    Count(String),
}

impl KillAt {
    /// What `text` asks for.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidCrashAt> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(|| InvalidCrashAt::Count(count.into()))?;
        Ok(Self { point: name.parse()?, left: AtomicU32::new(count) })
    }
}

impl CrashSeam for KillAt {
    fn reached(&self, point: CrashPoint) -> Fate {
        if point != self.point || self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return Fate::GoOn;
        }
        // A kill that the system refuses leaves only the next best end.
        if kill_process(getpid(), Signal::KILL).is_err() {
            std::process::abort();
        }
        Fate::Park
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_told_is_read_strictly() {
        assert!(KillAt::parse("acquire.1.before").is_ok());
        assert_eq!(KillAt::parse("release.effect.after:3").map(|at| at.left.into_inner()), Ok(3));
        for wrong in ["", "acquire.1", "acquire.1.before:0", "acquire.1.before:x"] {
            assert!(KillAt::parse(wrong).is_err(), "{wrong}");
        }
    }
}
