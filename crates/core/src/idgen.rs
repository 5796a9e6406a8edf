//! Message ids: time-ordered 63-bit numbers that never repeat and never go back.
//!
//! Layout, high to low: 42 bits of Unix milliseconds (until the year 2109), 6 bits of node, 15 bits
//! of counter. Node 63 is kept for imported messages, whose ids are made from their original time.
//! When the clock steps back or one millisecond is full, the counter runs on into the time bits:
//! ids may then be ahead of the clock, message *timestamps* never are.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::MessageId;
use crate::time::Timestamp;

const COUNTER_BITS: u32 = 15;
const NODE_BITS: u32 = 6;
/// Where an id's milliseconds begin.
pub(crate) const TIME_SHIFT: u32 = COUNTER_BITS + NODE_BITS;
/// The node of imported messages.
const IMPORT_NODE: u64 = 63;
const TIME_BITS: u32 = 42;

/// Gives message ids for one node.
#[derive(Debug)]
pub struct IdGen {
    node: u64,
    last: AtomicU64,
}

impl IdGen {
    /// A generator for `node`, 0 to 62 (other numbers are folded into that range).
    #[must_use]
    pub fn new(node: u8) -> Self {
        Self { node: u64::from(node) % 63, last: AtomicU64::new(0) }
    }

    /// The next id: greater than every id given before and every id passed to [`Self::advance_past`].
    pub fn next(&self, now: Timestamp) -> MessageId {
        let ms = u64::try_from(now.0).unwrap_or(0) & ((1 << TIME_BITS) - 1);
        let floor = (ms << TIME_SHIFT) | (self.node << COUNTER_BITS);
        let step = |last: u64| last.saturating_add(1).max(floor).max(1);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            match self.last.compare_exchange_weak(last, step(last), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) => last = seen,
            }
        }
        MessageId::from_u64(step(last)).unwrap_or_else(|| unreachable!("2^63 ids were never given"))
    }

    /// An id for a message that was said elsewhere at `at`; `random` keeps two of one millisecond
    /// apart. The caller asks the next one ([`Self::when_taken`]) if it is taken.
    #[must_use]
    pub fn imported(at: Timestamp, random: u64) -> MessageId {
        let ms = u64::try_from(at.0).unwrap_or(0) & ((1 << TIME_BITS) - 1);
        let counter = random & ((1 << COUNTER_BITS) - 1);
        let bits = (ms << TIME_SHIFT) | (IMPORT_NODE << COUNTER_BITS) | counter;
        MessageId::from_u64(bits).unwrap_or_else(|| unreachable!("the node's bits are never 0"))
    }

    /// The import id to try when this one is taken already: the next of the same millisecond.
    #[must_use]
    pub fn when_taken(id: MessageId) -> MessageId {
        let low = (1 << COUNTER_BITS) - 1;
        let bits = (id.as_u64() & !low) | (id.as_u64().wrapping_add(1) & low);
        MessageId::from_u64(bits).unwrap_or(id)
    }

    /// A time that never goes back, not even when the clock does: `now`, or what was told or stamped
    /// before if that is later. For cursors that clients hand back, not for what people read.
    pub fn time(&self, now: Timestamp) -> Timestamp {
        self.advance_past_time(now);
        let last = self.last.load(Ordering::Relaxed) >> TIME_SHIFT;
        now.max(Timestamp(i64::try_from(last).unwrap_or(i64::MAX)))
    }

    /// Makes [`Self::time`] never tell a time before `seen`.
    pub fn advance_past_time(&self, seen: Timestamp) {
        let ms = u64::try_from(seen.0).unwrap_or(0) & ((1 << TIME_BITS) - 1);
        self.last.fetch_max(ms << TIME_SHIFT, Ordering::Relaxed);
    }

    /// Makes every later id greater than `seen`; called with the newest stored id at start.
    pub fn advance_past(&self, seen: MessageId) {
        self.last.fetch_max(seen.as_u64(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_when_the_clock_stands_still_steps_back_or_a_millisecond_overflows() {
        let ids = IdGen::new(1);
        let mut last = ids.next(Timestamp(1_000));
        for _ in 0..40_000 {
            let id = ids.next(Timestamp(1_000));
            assert!(id > last);
            last = id;
        }
        let back = ids.next(Timestamp(1));
        assert!(back > last);
        assert!(ids.next(Timestamp(5_000)) > back);
    }

    #[test]
    fn the_time_of_cursors_never_goes_back() {
        let ids = IdGen::new(0);
        ids.next(Timestamp(5_000));
        assert_eq!(ids.time(Timestamp(1_000)), Timestamp(5_000));
        assert_eq!(ids.time(Timestamp(6_000)), Timestamp(6_000));
        ids.advance_past_time(Timestamp(9_000));
        assert_eq!(ids.time(Timestamp(1)), Timestamp(9_000));
    }

    #[test]
    fn ids_continue_after_what_the_store_holds() {
        let (before, after) = (IdGen::new(1), IdGen::new(1));
        let stored = before.next(Timestamp(9_000));
        after.advance_past(stored);
        assert!(after.next(Timestamp(1)) > stored);
    }
}
