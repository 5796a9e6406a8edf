//! Time, as the domain sees it: Unix milliseconds from a clock that somebody else owns.

use std::fmt;

/// A day of 24 hours, in milliseconds.
pub const DAY_MS: i64 = 86_400_000;

/// Unix time in milliseconds, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time `ms` milliseconds later; stays at the end of time instead of wrapping.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; negative if it lies after it.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Where "now" comes from. The program passes the machine's clock, tests pass one they move by hand.
pub trait Clock: Send + Sync + 'static {
    /// The present time. May step back or stand still: nothing in the domain relies on more.
    fn now(&self) -> Timestamp;
}

/// Where random bits come from. The program passes the operating system's source.
pub trait Chance: Send + Sync + 'static {
    /// 64 random bits that an outsider can't guess.
    fn bits(&self) -> u64;
}
