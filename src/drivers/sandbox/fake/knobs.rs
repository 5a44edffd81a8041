//! The fake provider's config. Pure.
//!
//! For each operation (`Acquire`, `Resume`, `Release`, `Destroy`, `Realize`, `Execute`): `acquireDelayMs` is how long it
//! takes, in milliseconds, default 0; `failAcquire` is the [`Trouble`] that it makes, default `none`.
//! `expiresInMs` is after how long a sandbox expires, as the provider confirms it; default never.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lease_events::lease::vocabulary::Effect;
use serde_json::{Map, Value};

use crate::drivers::InvalidConfig;
use crate::drivers::config::Fields;

/// Longest delay and life: a day.
const MS_MAX: u64 = 86_400_000;

/// What goes wrong with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// It is not done, and may be tried again.
    NotDone,
    /// It is refused.
    Refused,
    /// It is not done, and the caller cannot tell.
    Unknown,
    /// It is done, and the reply is lost: the caller cannot tell.
    UnknownAfter,
    /// The sandbox has gone by itself. Only for resume, release and destroy.
    Gone,
}

impl Trouble {
    const WORDS: [(&'static str, Self); 6] = [
        ("none", Self::None),
        ("not-done", Self::NotDone),
        ("refused", Self::Refused),
        ("unknown", Self::Unknown),
        ("unknown-after", Self::UnknownAfter),
        ("gone", Self::Gone),
    ];
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, trouble)| trouble == self).map_or("none", |(word, _)| word);
        formatter.write_str(word)
    }
}

/// A parsed config.
#[derive(Debug, Default)]
pub(super) struct Knobs {
    operations: BTreeMap<Effect, (Duration, Option<Trouble>)>,
    /// After how long a sandbox expires.
    pub(super) expires_in: Option<Duration>,
}

const KEYS: [(Effect, &str, &str); 6] = [
    (Effect::Acquire, "acquireDelayMs", "failAcquire"),
    (Effect::Resume, "resumeDelayMs", "failResume"),
    (Effect::Release, "releaseDelayMs", "failRelease"),
    (Effect::Destroy, "destroyDelayMs", "failDestroy"),
    (Effect::Realize, "realizeDelayMs", "failRealize"),
    (Effect::Execute, "executeDelayMs", "failExecute"),
];

impl Knobs {
    pub(super) fn parse(config: &Map<String, Value>) -> Result<Self, InvalidConfig> {
        let mut fields = Fields::new("sandbox provider \"fake\"", config);
        let mut knobs = Self::default();
        for (effect, delay_key, trouble_key) in KEYS {
            let delay = fields.integer(delay_key, 0..=MS_MAX).map_or(Duration::ZERO, Duration::from_millis);
            let can_be_gone = matches!(effect, Effect::Resume | Effect::Release | Effect::Destroy);
            let words: Vec<&'static str> = Trouble::WORDS
                .iter()
                .filter(|(_, trouble)| can_be_gone || *trouble != Trouble::Gone)
                .map(|(word, _)| *word)
                .collect();
            let word = fields.word(trouble_key, &words);
            let trouble = word.and_then(|word| Trouble::WORDS.iter().find(|(known, _)| *known == word));
            knobs.operations.insert(effect, (delay, trouble.map(|(_, trouble)| *trouble)));
        }
        knobs.expires_in = fields.integer("expiresInMs", 1..=MS_MAX).map(Duration::from_millis);
        fields.finish().map(|()| knobs)
    }

    /// How long an operation takes.
    pub(super) fn delay(&self, effect: Effect) -> Duration {
        self.operations.get(&effect).map_or(Duration::ZERO, |(delay, _)| *delay)
    }

    /// The trouble that an operation makes.
    pub(super) fn trouble(&self, effect: Effect) -> Trouble {
        self.operations.get(&effect).and_then(|(_, trouble)| *trouble).unwrap_or(Trouble::None)
    }
}
