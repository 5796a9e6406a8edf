//! When who sends: a Poisson schedule, computed before the first message and the same for the same
//! seed.
//!
//! The load is open loop: what the server does never moves an arrival, and latency is counted from
//! the time in the schedule. A server that stalls is charged for every message it kept waiting.

use std::time::Duration;

/// One message to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When, from the start of the load.
    pub at: Duration,
    /// Which client sends it.
    pub sender: usize,
}

/// Arrivals of `rate` messages a second in all, for `length`, each from one of `senders` clients at
/// random. The stream of every single client is then Poisson too.
#[must_use]
pub fn poisson(seed: u64, rate: f64, senders: usize, length: Duration) -> Vec<Arrival> {
    Arrivals::new(seed, rate, senders, length).collect()
}

/// The same schedule one arrival after the other: a long run has millions.
#[derive(Debug)]
pub struct Arrivals {
    dice: Dice,
    rate: f64,
    senders: usize,
    at: Duration,
    length: Duration,
}

impl Arrivals {
    /// See [`poisson`].
    #[must_use]
    pub fn new(seed: u64, rate: f64, senders: usize, length: Duration) -> Self {
        Self { dice: Dice(seed), rate, senders, at: Duration::ZERO, length }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.at >= self.length {
            return None;
        }
        // The gap between two arrivals of a Poisson process is exponential.
        self.at += Duration::from_secs_f64(-self.dice.fraction().ln() / self.rate);
        (self.at < self.length).then(|| Arrival { at: self.at, sender: self.dice.below(self.senders) })
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, well distributed, the same on every machine.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0 and at most 1, in steps of 2^-32.
    pub fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.bits() >> 32).expect("32 bits are left");
        (f64::from(high) + 1.0) / 4_294_967_296.0
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let scaled = (u128::from(self.bits()) * bound as u128) >> 64;
        usize::try_from(scaled).expect("it is less than the bound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_another() {
        assert_eq!(poisson(7, 1_000.0, 10, MINUTE), poisson(7, 1_000.0, 10, MINUTE));
        assert_ne!(poisson(7, 1_000.0, 10, MINUTE), poisson(8, 1_000.0, 10, MINUTE));
    }

    #[test]
    fn it_is_in_order_within_its_time_and_about_as_many_as_asked() {
        let arrivals = poisson(1, 1_000.0, 2_000, MINUTE);
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
        assert!(arrivals.iter().all(|arrival| arrival.at < MINUTE && arrival.sender < 2_000));
        // 60,000 with a standard deviation of 245.
        assert!((59_000..61_000).contains(&arrivals.len()), "{}", arrivals.len());
    }

    #[test]
    fn gaps_vary_as_a_poisson_process_does() {
        let arrivals = poisson(2, 1_000.0, 2, MINUTE);
        let gaps: Vec<f64> =
            arrivals.windows(2).map(|two| (two[1].at - two[0].at).as_secs_f64() * 1_000.0).collect();
        // Of exponential gaps with a mean of 1 ms, e^-2 = 13.5 % are longer than 2 ms.
        let long = gaps.iter().filter(|gap| **gap > 2.0).count() * 1_000 / gaps.len();
        assert!((125..145).contains(&long), "{long} of 1,000");
    }

    #[test]
    fn every_client_has_its_share() {
        let mut counts = [0_u32; 4];
        for arrival in poisson(3, 1_000.0, 4, MINUTE) {
            counts[arrival.sender] += 1;
        }
        assert!(counts.iter().all(|count| (14_000..16_000).contains(count)), "{counts:?}");
    }
}
