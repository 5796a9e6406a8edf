//! Was everything delivered, once, and in order? Every message says who sent it, which of the
//! sender's messages in the conversation it is, and when it was scheduled; [`Lane`] looks at what
//! arrives.

use std::collections::BTreeSet;
use std::time::Duration;

/// What a text message of an SDK looks like around its text. Written and read by hand, because JSON
/// parsing of every delivery would cost the load generator more than it costs the server.
const BEFORE: &str = r#"{"_lctype":-1,"_lctext":""#;
const AFTER: &str = r#""}"#;

/// The smallest content that holds a stamp.
pub const PAYLOAD_BYTES_MIN: usize = 96;

/// What a message carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The run; messages of other runs are none of ours.
    pub run: u32,
    /// Who sent it.
    pub sender: usize,
    /// Which one it is of the sender's messages in this conversation, from 0.
    pub counter: u64,
    /// When it was to be sent, from the start of the load.
    pub scheduled: Duration,
}

impl Stamp {
    /// A text message of exactly `bytes` bytes, at least [`PAYLOAD_BYTES_MIN`].
    #[must_use]
    pub fn content(&self, bytes: usize) -> String {
        let Self { run, sender, counter, scheduled } = self;
        let mut content = format!("{BEFORE}{run:08x}:{sender}:{counter}:{}:", scheduled.as_micros());
        while content.len() + AFTER.len() < bytes {
            content.push('.');
        }
        content.push_str(AFTER);
        content
    }

    /// The stamp of a message; `None` if it has none.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.strip_prefix(BEFORE)?;
        let mut parts = text.splitn(5, ':');
        Some(Self {
            run: u32::from_str_radix(parts.next()?, 16).ok()?,
            sender: parts.next()?.parse().ok()?,
            counter: parts.next()?.parse().ok()?,
            scheduled: Duration::from_micros(parts.next()?.parse().ok()?),
        })
    }
}

/// The messages of one sender in one conversation, as one receiver sees them.
#[derive(Debug, Default)]
pub struct Lane {
    /// All before it have arrived.
    next: u64,
    /// Those that arrived before one with a lower number.
    ahead: BTreeSet<u64>,
    /// The highest `(time, number)` so far.
    latest: Option<(i64, u64)>,
    /// How many arrived more than once.
    pub duplicates: u64,
    /// How many arrived after a later one, or with a server time before that of an earlier one.
    pub disorders: u64,
}

impl Lane {
    /// Looks at message `counter` with the server's time `at` (Unix ms). `true` if it arrives for
    /// the first time.
    pub fn arrive(&mut self, counter: u64, at: i64) -> bool {
        if counter < self.next || self.ahead.contains(&counter) {
            self.duplicates += 1;
            return false;
        }
        match self.latest {
            // Within a conversation server time never goes back.
            Some((time, number)) if counter < number || at < time => self.disorders += 1,
            Some(_) | None => {}
        }
        self.latest = self.latest.max(Some((at, counter)));
        self.ahead.insert(counter);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
        true
    }

    /// Whether message `counter` has arrived.
    #[must_use]
    pub fn has(&self, counter: u64) -> bool {
        counter < self.next || self.ahead.contains(&counter)
    }

    /// How many of the messages before `end` have not arrived.
    #[must_use]
    pub fn missing(&self, end: u64) -> u64 {
        let arrived = self.next.min(end) + self.ahead.range(..end).count() as u64;
        end - arrived
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn lane(arrivals: &[u64]) -> Lane {
        let mut lane = Lane::default();
        for (counter, at) in arrivals.iter().zip(100..) {
            lane.arrive(*counter, at);
        }
        lane
    }

    #[test]
    fn all_in_order_is_fine() {
        let lane = lane(&[0, 1, 2, 3]);
        assert_eq!((lane.missing(4), lane.duplicates, lane.disorders), (0, 0, 0));
    }

    #[test]
    fn a_loss_is_found_in_the_middle_and_at_the_end() {
        let lane = lane(&[0, 2, 3]);
        assert_eq!((lane.missing(6), lane.duplicates, lane.disorders), (3, 0, 0));
        assert!(lane.has(2) && !lane.has(1) && !lane.has(4));
    }

    #[test]
    fn a_duplicate_is_found_at_once_and_later() {
        assert_eq!(lane(&[0, 0, 1]).duplicates, 1);
        assert_eq!(lane(&[0, 1, 2, 1]).duplicates, 1);
        let lane = lane(&[0, 2, 2]);
        assert_eq!((lane.missing(3), lane.duplicates, lane.disorders), (1, 1, 0));
    }

    #[test]
    fn a_swap_is_found_and_is_no_loss() {
        let lane = lane(&[0, 2, 1, 3]);
        assert_eq!((lane.missing(4), lane.duplicates, lane.disorders), (0, 0, 1));
    }

    #[test]
    fn server_time_that_goes_back_is_a_disorder() {
        let mut lane = Lane::default();
        for (counter, at) in [(0, 5), (1, 5), (2, 4)] {
            lane.arrive(counter, at);
        }
        assert_eq!(lane.disorders, 1);
    }

    #[test]
    fn stamps_come_back_as_they_were() {
        let stamp = Stamp {
            run: 0xBEEF,
            sender: 1_999,
            counter: 123_456,
            scheduled: Duration::from_micros(64_999_999),
        };
        for bytes in [PAYLOAD_BYTES_MIN, 128, 1_024] {
            let content = stamp.content(bytes);
            assert_eq!(content.len(), bytes);
            assert_eq!(Stamp::read(content.as_bytes()), Some(stamp));
            assert!(serde_json::from_str::<serde_json::Value>(&content).is_ok());
        }
        assert_eq!(Stamp::read(b"{}"), None);
    }
}
