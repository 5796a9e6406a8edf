//! How often something may be done: token buckets that forget who has rested.
//!
//! A bucket is one number, the time at which it will be full again, so nothing runs while nobody
//! asks, and one that is full is the same as none. [`crate::Posthouse::admit`] asks for a client or a
//! back end; gateways keep [`Buckets`] of their own for what has no client yet.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::app::Settings;
use crate::time::Timestamp;

/// What is counted separately, for each client over all its connections.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rate {
    /// Sending, editing and recalling messages.
    Messages,
    /// Reading history.
    History,
    /// Everything else that is answered.
    Calls,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::History => "reads of history",
            Self::Calls => "calls",
        })
    }
}

/// How many a minute, and how many at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// In the long run.
    pub per_minute: u32,
    /// After a rest.
    pub burst: u32,
}

impl Quota {
    /// What the app allows a client; `None` for any number.
    #[must_use]
    pub fn of_client(settings: &Settings, rate: Rate) -> Option<Self> {
        let per_minute = match rate {
            Rate::Messages => settings.messages_per_minute,
            Rate::History => settings.history_per_minute,
            Rate::Calls => settings.calls_per_minute,
        };
        Self { per_minute, burst: settings.rate_burst }.unless_zero()
    }

    /// What the app allows its back end, for each kind of call; `None` for any number.
    #[must_use]
    pub fn of_server(settings: &Settings) -> Option<Self> {
        Self { per_minute: settings.server_calls_per_minute, burst: settings.rate_burst }.unless_zero()
    }

    fn unless_zero(self) -> Option<Self> {
        (self.per_minute > 0).then_some(self)
    }

    /// Microseconds in which one is given back.
    fn interval(self) -> i64 {
        60_000_000 / i64::from(self.per_minute.max(1))
    }

    /// Microseconds from empty to full.
    fn depth(self) -> i64 {
        self.interval().saturating_mul(i64::from(self.burst.max(1)))
    }
}

/// Buckets by who is counted.
pub struct Buckets<K> {
    kept: Mutex<Kept<K>>,
}

struct Kept<K> {
    /// When each is full again, in microseconds.
    full_at: HashMap<K, i64>,
    /// With how many of them those that are full are looked for.
    sweep_at: usize,
}

/// Buckets that are looked through at the least.
const SWEEP_MIN: usize = 1_024;
/// The most that are not full at one time, some 30 MB. So many can't be counted within the seconds that
/// a bucket takes to fill, except with limits of a few a minute; who comes then is not counted.
const BUCKETS_MAX: usize = 262_144;

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { full_at: HashMap::new(), sweep_at: SWEEP_MIN }) }
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Takes one from the bucket of `key`; `false` if it is empty.
    pub fn take(&self, key: K, quota: Quota, now: Timestamp) -> bool {
        let (now, depth) = (micros(now), quota.depth());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = kept.full_at.get_mut(&key) {
            *full_at = in_reach(*full_at, now, depth);
            let taken = full_at.saturating_add(quota.interval());
            let has_one = taken <= now.saturating_add(depth);
            if has_one {
                *full_at = taken;
            }
            return has_one;
        }
        if kept.full_at.len() >= kept.sweep_at {
            kept.forget_full(now);
        }
        if kept.full_at.len() < BUCKETS_MAX {
            kept.full_at.insert(key, now.saturating_add(quota.interval()));
        }
        true
    }

    /// Whether the bucket of `key` has one, without taking it.
    pub fn has_one(&self, key: &K, quota: Quota, now: Timestamp) -> bool {
        let (now, depth) = (micros(now), quota.depth());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.full_at.get(key).is_none_or(|full_at| {
            in_reach(*full_at, now, depth).saturating_add(quota.interval()) <= now.saturating_add(depth)
        })
    }

    /// How many were taken from the bucket of `key` and are not given back yet.
    pub fn taken(&self, key: &K, quota: Quota, now: Timestamp) -> u32 {
        let (now, depth) = (micros(now), quota.depth());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(full_at) = kept.full_at.get(key) else { return 0 };
        let missing = in_reach(*full_at, now, depth) - now;
        u32::try_from(missing.div_euclid(quota.interval().max(1))).unwrap_or(u32::MAX)
    }

    /// Gives memory of buckets back that are full.
    pub fn forget_full(&self, now: Timestamp) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).forget_full(micros(now));
    }

    /// How many buckets are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).full_at.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Eq + Hash> Kept<K> {
    fn forget_full(&mut self, now: i64) {
        self.full_at.retain(|_, full_at| *full_at > now);
        self.sweep_at = (self.full_at.len() * 2).max(SWEEP_MIN);
        self.full_at.shrink_to(self.sweep_at);
    }
}

/// A bucket never takes longer to fill than from empty: the clock may have stepped back, or the limit
/// may have changed.
fn in_reach(full_at: i64, now: i64, depth: i64) -> i64 {
    full_at.clamp(now, now.saturating_add(depth))
}

fn micros(time: Timestamp) -> i64 {
    time.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Quota = Quota { per_minute: 600, burst: 10 };

    /// How many of 1,000 at once are let through.
    fn taken(buckets: &Buckets<&str>, key: &'static str, quota: Quota, now: i64) -> usize {
        (0..1_000).filter(|_| buckets.take(key, quota, Timestamp(now))).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let buckets = Buckets::default();
        assert_eq!(taken(&buckets, "tom", TEN, 5_000), 10);
        assert_eq!(taken(&buckets, "tom", TEN, 5_000), 0);
        let missing = |at| buckets.taken(&"tom", TEN, Timestamp(at));
        assert_eq!((missing(5_000), missing(5_100), missing(5_350), missing(6_000)), (10, 9, 6, 0));
        assert!(!buckets.has_one(&"tom", TEN, Timestamp(5_099)));
        assert!(buckets.has_one(&"tom", TEN, Timestamp(5_100)));
        assert_eq!(taken(&buckets, "tom", TEN, 5_350), 3);
        assert_eq!(taken(&buckets, "tom", TEN, 600_000), 10, "a long rest gives no more than a burst");
    }

    #[test]
    fn one_who_has_too_many_takes_nothing_from_others() {
        let buckets = Buckets::default();
        assert_eq!(taken(&buckets, "tom", TEN, 0), 10);
        assert_eq!(taken(&buckets, "jerry", TEN, 0), 10);
    }

    #[test]
    fn a_minute_holds_what_it_says() {
        for (per_minute, burst) in [(60, 30), (30, 1), (6_000, 200), (1_000_000, 200), (7, 3)] {
            let quota = Quota { per_minute, burst };
            let buckets = Buckets::default();
            let mut count = 0;
            for ms in 0..60_000 {
                while buckets.take("tom", quota, Timestamp(ms)) {
                    count += 1;
                }
            }
            // The minute ends a millisecond early.
            let (allowed, late) = (per_minute + burst, per_minute / 60_000 + 1);
            assert!((allowed - late..=allowed).contains(&count), "{quota:?}: {count}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let buckets = Buckets::default();
        assert_eq!(taken(&buckets, "tom", TEN, 3_600_000), 10);
        // An hour back: empty at worst, and full again in its usual second.
        assert_eq!(taken(&buckets, "tom", TEN, 0), 0);
        assert_eq!(taken(&buckets, "tom", TEN, 500), 5);
        assert_eq!(taken(&buckets, "tom", TEN, 2_000), 10);
    }

    #[test]
    fn a_limit_that_is_tightened_holds_at_once() {
        let buckets = Buckets::default();
        assert_eq!(taken(&buckets, "tom", Quota { per_minute: 60, burst: 1_000 }, 0), 1_000);
        assert_eq!(taken(&buckets, "tom", TEN, 1_000), 0);
        assert_eq!(taken(&buckets, "tom", TEN, 2_000), 10);
    }

    #[test]
    fn those_who_have_rested_are_forgotten() {
        let buckets = Buckets::default();
        for client in 0..100_000 {
            // One after the other, and each has rested when 200 others have come.
            buckets.take(client, Quota { per_minute: 600, burst: 10 }, Timestamp(client / 2));
        }
        assert!(buckets.len() <= 2 * SWEEP_MIN, "{} are remembered", buckets.len());
        buckets.forget_full(Timestamp(60_000));
        assert!(buckets.is_empty());
    }

    #[test]
    fn memory_has_a_bound_and_nobody_is_refused_at_it() {
        let buckets = Buckets::default();
        let hour = Quota { per_minute: 1, burst: 1 };
        for client in 0..BUCKETS_MAX + 10 {
            assert!(buckets.take(client, hour, Timestamp(0)));
        }
        assert_eq!(buckets.len(), BUCKETS_MAX);
        assert!(!buckets.take(0, hour, Timestamp(0)));
        assert!(buckets.take(BUCKETS_MAX + 5, hour, Timestamp(0)), "who is not counted is not limited");
    }
}
