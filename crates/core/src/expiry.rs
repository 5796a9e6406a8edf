//! Buckets of expiry: where temporary conversations live, so that they can be forgotten whole.
//!
//! Deleting scattered rows is dear, dropping a file is not. A temporary conversation is put into a
//! bucket by the time it ends; when a bucket's last moment has passed, everything in it is over and
//! the bucket is dropped. Windows widen with the time to live, so at most eight are live at once:
//!
//! | time to live | window width | live at once |
//! |---|---|---|
//! | up to 1 hour | 1 hour | 2 |
//! | up to 1 day | 1 day | 2 |
//! | up to 8 days | 8 days | 2 |
//! | up to 32 days | 32 days | 2 |

use crate::time::{DAY_MS, Timestamp};

/// One expiry window. 22 bits: 2 for the width, 20 for the window's number since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Bucket(u32);

const HOUR_MS: i64 = 3_600_000;
const WIDTHS_MS: [i64; 4] = [HOUR_MS, DAY_MS, 8 * DAY_MS, 32 * DAY_MS];
const NUMBER_BITS: u32 = 20;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;

impl Bucket {
    /// The bucket for a conversation made `now` that ends at `until`.
    #[must_use]
    pub fn for_expiry(now: Timestamp, until: Timestamp) -> Self {
        let ttl = until.ms_since(now);
        let class = WIDTHS_MS.iter().position(|width| ttl <= *width).unwrap_or(WIDTHS_MS.len() - 1);
        let number = until.0.max(0) / WIDTHS_MS[class];
        // One-hour windows since 1970 outgrow 20 bits in the year 2089; the mask keeps the type honest.
        let number = u32::try_from(number).unwrap_or(u32::MAX) & NUMBER_MASK;
        let class = u32::try_from(class).unwrap_or(0);
        Self((class << NUMBER_BITS) | number)
    }

    /// From the 22 bits of [`Self::bits`].
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << (NUMBER_BITS + 2)) - 1))
    }

    /// The 22 bits that name this bucket, in ids and file names.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The first moment at which everything in this bucket is over.
    #[must_use]
    pub fn ends(self) -> Timestamp {
        let width = WIDTHS_MS[(self.0 >> NUMBER_BITS) as usize & 3];
        Timestamp((i64::from(self.0 & NUMBER_MASK) + 1) * width)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_bucket_outlives_what_is_in_it_and_few_are_live() {
        let now = Timestamp(1_795_302_759_342);
        let mut live = BTreeSet::new();
        for ttl in (1_000..=30 * DAY_MS).step_by(977_777) {
            let until = now.plus_ms(ttl);
            let bucket = Bucket::for_expiry(now, until);
            assert!(bucket.ends() > until, "{ttl}");
            assert_eq!(Bucket::from_bits(bucket.bits()), bucket);
            live.insert(bucket);
        }
        assert!(live.len() <= 8, "{live:?}");
    }

    #[test]
    fn an_hour_of_life_costs_at_most_one_more_hour_of_storage() {
        let now = Timestamp(10 * HOUR_MS + 1);
        assert_eq!(Bucket::for_expiry(now, now.plus_ms(1_000)).ends(), Timestamp(11 * HOUR_MS));
        assert_eq!(Bucket::for_expiry(now, now.plus_ms(HOUR_MS)).ends(), Timestamp(12 * HOUR_MS));
    }
}
