//! Was everything delivered, once, and in order? Every message says who sent it, which of the
//! sender's messages in the conversation it is, and when it was scheduled; [`Lane`] looks at what
//! arrives from one sender, [`View`] at whether all members see one [`Order`].

use std::collections::{BTreeSet, VecDeque};
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
        let mut content = Vec::with_capacity(bytes);
        self.write(&mut content, bytes);
        String::from_utf8(content).expect("a stamp is ASCII")
    }

    /// The same into a buffer, which is emptied before.
    pub fn write(&self, content: &mut Vec<u8>, bytes: usize) {
        let Self { run, sender, counter, scheduled } = self;
        content.clear();
        content.extend_from_slice(BEFORE.as_bytes());
        let scheduled_us = u64::try_from(scheduled.as_micros()).unwrap_or(u64::MAX);
        for number in [u64::from(*run), *sender as u64, *counter, scheduled_us] {
            put_decimal(content, number);
            content.push(b':');
        }
        content.resize(content.len().max(bytes.saturating_sub(AFTER.len())), b'.');
        content.extend_from_slice(AFTER.as_bytes());
    }

    /// The stamp of a message; `None` if it has none.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.strip_prefix(BEFORE)?;
        let mut parts = text.splitn(5, ':');
        Some(Self {
            run: parts.next()?.parse().ok()?,
            sender: parts.next()?.parse().ok()?,
            counter: parts.next()?.parse().ok()?,
            scheduled: Duration::from_micros(parts.next()?.parse().ok()?),
        })
    }
}

/// Appends a number in decimal, for less than formatting it costs.
pub fn put_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
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
    /// What came before the first arrival is none of this receiver's business.
    late: bool,
    /// How many arrived more than once.
    pub duplicates: u64,
    /// How many arrived after a later one, or with a server time before that of an earlier one.
    pub disorders: u64,
}

impl Lane {
    /// The lane of somebody who joins while others talk: it begins with whatever arrives first.
    #[must_use]
    pub fn joining_late() -> Self {
        Self { late: true, ..Self::default() }
    }

    /// Looks at message `counter` with the server's time `at` (Unix ms). `true` if it arrives for
    /// the first time.
    pub fn arrive(&mut self, counter: u64, at: i64) -> bool {
        if std::mem::take(&mut self.late) {
            self.next = counter;
        }
        if counter < self.next || (counter != self.next && self.ahead.contains(&counter)) {
            self.duplicates += 1;
            return false;
        }
        match self.latest {
            // Within a conversation server time never goes back.
            Some((time, number)) if counter < number || at < time => self.disorders += 1,
            Some(_) | None => {}
        }
        self.latest = self.latest.max(Some((at, counter)));
        if counter == self.next {
            self.next += 1;
            while self.ahead.remove(&self.next) {
                self.next += 1;
            }
        } else {
            self.ahead.insert(counter);
        }
        true
    }

    /// Whether message `counter` has arrived.
    #[must_use]
    pub fn has(&self, counter: u64) -> bool {
        counter < self.next || self.ahead.contains(&counter)
    }

    /// How many are missing before the last that arrived.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.ahead.last().map_or(0, |last| self.missing(last + 1))
    }

    /// Duplicates and disorders since the last call.
    pub fn take_faults(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.duplicates), std::mem::take(&mut self.disorders))
    }

    /// How many of the messages before `end` have not arrived.
    #[must_use]
    pub fn missing(&self, end: u64) -> u64 {
        let arrived = self.next.min(end) + self.ahead.range(..end).count() as u64;
        end - arrived
    }
}

/// One conversation's order, as one of its members saw it, for the others to be compared with. Nobody
/// is shown what they said themselves, so of two members only what a third said is compared.
#[derive(Debug, Default)]
pub struct Order {
    said: Vec<(u32, u64)>,
}

impl Order {
    /// The member whose view counts sees message `counter` of `speaker`.
    pub fn extend(&mut self, speaker: u32, counter: u64) {
        self.said.push((speaker, counter));
    }
}

/// How far another member's view has been compared.
#[derive(Debug, Default)]
pub struct View {
    /// Where it is in the order; `None` for a member that came late, until its first message is found.
    place: Option<usize>,
    /// Seen here and not compared, because the other has not come so far.
    ahead: VecDeque<(u32, u64)>,
}

impl View {
    /// Of a member that was there from the start.
    #[must_use]
    pub fn from_start() -> Self {
        Self { place: Some(0), ahead: VecDeque::new() }
    }

    /// The member sees message `counter` of `speaker`, who is neither itself nor the one whose view counts.
    pub fn sees(&mut self, speaker: u32, counter: u64) {
        self.ahead.push_back((speaker, counter));
    }

    /// Compares as far as the order is known; `own` is the member's number if it speaks. Gives how
    /// often the two differ.
    pub fn compare(&mut self, order: &Order, own: Option<u32>) -> u64 {
        let mut differences = 0;
        while let Some(seen) = self.ahead.front() {
            let from = match self.place {
                Some(place) => {
                    let others = order.said[place..].iter().position(|(by, _)| Some(*by) != own);
                    let Some(skipped) = others else { break };
                    place + skipped
                }
                // Those who come see something new, which stands near the end.
                None => match order.said.iter().rposition(|said| said == seen) {
                    Some(first) => first,
                    None => break,
                },
            };
            self.place = Some(from);
            if order.said[from] == *seen {
                self.place = Some(from + 1);
            } else {
                differences += 1;
                // Goes on where the two views meet again.
                if let Some(skipped) = order.said[from..].iter().position(|said| said == seen) {
                    self.place = Some(from + skipped + 1);
                }
            }
            self.ahead.pop_front();
        }
        differences
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
    fn numbers_are_written_in_decimal() {
        for number in [0, 9, 10, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            put_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
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

    #[test]
    fn who_joins_late_misses_nothing_that_came_before() {
        let mut lane = Lane::joining_late();
        for (counter, at) in [(7, 5), (8, 6), (11, 7)] {
            assert!(lane.arrive(counter, at));
        }
        assert_eq!((lane.gaps(), lane.take_faults()), (2, (0, 0)));
        assert!(!lane.arrive(11, 8) && !lane.arrive(7, 8));
        assert_eq!((lane.take_faults(), lane.take_faults()), ((2, 0), (0, 0)));
        assert_eq!(Lane::default().gaps(), 0);
    }

    /// Differences that members 1 to 4 find, where member 0's view counts. Members 0 to 2 speak, 3 comes
    /// late and listens, 4 listens.
    fn differences(seen: &[(usize, u32, u64)]) -> u64 {
        let mut order = Order::default();
        let mut views: [View; 5] = std::array::from_fn(|member| match member {
            3 => View::default(),
            _ => View::from_start(),
        });
        let mut differences = 0;
        for (member, speaker, counter) in seen {
            if *member == 0 {
                order.extend(*speaker, *counter);
            } else if *speaker != 0 {
                views[*member].sees(*speaker, *counter);
            }
            for (member, view) in views.iter_mut().enumerate().skip(1) {
                differences += view.compare(&order, u32::try_from(member).ok().filter(|own| *own < 3));
            }
        }
        differences
    }

    #[test]
    fn one_order_is_fine_whoever_sees_it_first() {
        // Said: 0's first, 1's first, 2's first, 0's second, 1's second.
        let to_0 = [(0, 1, 0), (0, 2, 0), (0, 1, 1)];
        let to_1 = [(1, 0, 0), (1, 2, 0), (1, 0, 1)];
        let to_2 = [(2, 0, 0), (2, 1, 0), (2, 0, 1), (2, 1, 1)];
        // Came late, and sees all but the first two.
        let to_3 = [(3, 2, 0), (3, 0, 1), (3, 1, 1)];
        let one_after_the_other = |views: [&[(usize, u32, u64)]; 4]| differences(&views.concat());
        assert_eq!(one_after_the_other([&to_0, &to_1, &to_2, &to_3]), 0);
        assert_eq!(one_after_the_other([&to_3, &to_2, &to_1, &to_0]), 0);
        assert_eq!(one_after_the_other([&to_1, &to_3, &to_0, &to_2]), 0);
    }

    #[test]
    fn another_order_is_found_whoever_sees_it_first() {
        let to_0 = [(0, 1, 0), (0, 2, 0), (0, 1, 1), (0, 2, 1)];
        let others = [[(4, 2, 0), (4, 1, 0), (4, 1, 1)], [(4, 1, 0), (4, 1, 1), (4, 2, 0)]];
        for other in others {
            assert!(differences(&[&to_0[..], &other].concat()) > 0);
            assert!(differences(&[&other[..], &to_0].concat()) > 0);
        }
        // What is missing is a difference too, once.
        assert_eq!(differences(&[&to_0[..], &[(4, 1, 0), (4, 1, 1), (4, 2, 1)]].concat()), 1);
        // Who came late is compared from then on.
        assert_eq!(differences(&[&to_0[..], &[(3, 2, 0), (3, 2, 1), (3, 1, 1)]].concat()), 1);
    }
}
