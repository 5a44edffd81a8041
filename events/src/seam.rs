//! Time, ids and randomness as parameters. The real ones are made here and nowhere else (`clippy.toml` holds it),
//! so that tests can drive them.

pub mod crash;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// Reads the time.
pub trait Clock: Send + Sync {
    /// Now, UTC, cut to the microsecond that stores keep.
    fn now(&self) -> DateTime<Utc>;
}

/// Makes fresh ids.
pub trait Ids: Send + Sync {
    /// A new UUIDv7.
    fn fresh(&self) -> Uuid;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the real clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}

/// UUIDv7 from the machine's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place that makes real ids")]
    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}
