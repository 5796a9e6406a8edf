//! How much load is too much: steps of rising rate, each judged by the same rule, and the highest that
//! passed.

use super::report::Step;

/// Each step's rate is this many times that of the one before.
const FACTOR: f64 = 1.25;
/// A step passes with less than this from the schedule to the ack, at the 99th percentile.
pub const ACK_P99_MS_MAX: f64 = 200.0;
/// And with no more than this to the delivery.
pub const DELIVERY_P99_MS_MAX: f64 = 250.0;
/// And if what is unanswered at its end is no more traffic than of so many seconds.
pub const BACKLOG_SECONDS_MAX: f64 = 1.0;
/// So many failures in a row end a ladder: the first may have been somebody else's fault.
const FAILURES_MAX: u32 = 2;

/// The rates to try.
#[derive(Debug)]
pub struct Ladder {
    next: f64,
    steps_left: u32,
    failures: u32,
    capacity: Option<u32>,
}

impl Ladder {
    /// Begins at `rate`, and has at most `steps_max` steps.
    #[must_use]
    pub fn new(rate: u32, steps_max: u32) -> Self {
        Self { next: f64::from(rate), steps_left: steps_max, failures: 0, capacity: None }
    }

    /// The next rate; `None` at the end.
    pub fn step(&mut self) -> Option<u32> {
        if self.failures >= FAILURES_MAX {
            return None;
        }
        self.steps_left = self.steps_left.checked_sub(1)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let rate = self.next.round() as u32;
        self.next *= FACTOR;
        Some(rate)
    }

    /// Takes the result of the rate given last.
    pub fn judge(&mut self, step: &Step) {
        if faults(step).is_empty() {
            self.failures = 0;
            self.capacity = self.capacity.max(Some(step.rate));
        } else {
            self.failures += 1;
        }
        // With clients gone or something lost, higher rates say nothing.
        if step.closed > 0 || !step.is_true() {
            self.failures = FAILURES_MAX;
        }
    }

    /// The highest rate that passed.
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        self.capacity
    }
}

/// Why a step does not pass; empty if it does.
#[must_use]
pub fn faults(step: &Step) -> Vec<&'static str> {
    let faults = [
        (step.lost > 0, "lost"),
        (step.duplicates > 0, "duplicated"),
        (step.disorders > 0, "out of order"),
        (step.refused > 0, "refused"),
        (step.unanswered + step.undelivered > 0, "unanswered"),
        (step.closed > 0, "connections closed"),
        (step.sent < step.scheduled || step.gave_up, "not all sent"),
        (step.acked == 0, "nothing acked"),
        (step.ack.p99_ms >= ACK_P99_MS_MAX, "acks too late"),
        (step.delivery.p99_ms > DELIVERY_P99_MS_MAX, "deliveries too late"),
        (step.backlog_seconds > BACKLOG_SECONDS_MAX, "backlog"),
    ];
    let mut faults: Vec<_> = faults.into_iter().filter_map(|(is_so, name)| is_so.then_some(name)).collect();
    if faults.is_empty() && !step.is_clean() {
        faults.push("problems");
    }
    faults
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::report::Latency;
    use super::*;

    type Spoil = fn(&mut Step);

    fn passing(rate: u32) -> Step {
        let late = |p99_ms| Latency { p99_ms, ..Latency::default() };
        Step {
            rate,
            scheduled: 10,
            sent: 10,
            acked: 10,
            ack: late(199.9),
            delivery: late(250.0),
            backlog_seconds: 1.0,
            ..Step::default()
        }
    }

    #[test]
    fn a_step_passes_at_the_bounds_and_fails_beyond() {
        assert_eq!(faults(&passing(1)), [""; 0]);
        let beyond: [(&str, Spoil); 10] = [
            ("lost", |step| step.lost = 1),
            ("duplicated", |step| step.duplicates = 1),
            ("out of order", |step| step.disorders = 1),
            ("refused", |step| step.refused = 1),
            ("unanswered", |step| step.unanswered = 1),
            ("connections closed", |step| step.closed = 1),
            ("not all sent", |step| step.sent = 9),
            ("acks too late", |step| step.ack.p99_ms = 200.0),
            ("deliveries too late", |step| step.delivery.p99_ms = 250.1),
            ("backlog", |step| step.backlog_seconds = 1.01),
        ];
        for (name, spoil) in beyond {
            let mut step = passing(1);
            spoil(&mut step);
            assert_eq!(faults(&step), [name]);
        }
        let told = Step { problems: vec!["words".to_owned()], ..passing(1) };
        assert_eq!(faults(&told), ["problems"]);
    }

    /// Climbs with a server that has these capacities, one for each step.
    fn climb(from: u32, steps_max: u32, holds: impl Fn(usize, u32) -> bool) -> (Vec<u32>, Option<u32>) {
        let mut ladder = Ladder::new(from, steps_max);
        let mut rates = Vec::new();
        while let Some(rate) = ladder.step() {
            let gave_up = !holds(rates.len(), rate);
            rates.push(rate);
            ladder.judge(&Step { gave_up, ..passing(rate) });
        }
        (rates, ladder.capacity())
    }

    #[test]
    fn it_rises_by_a_quarter_until_two_steps_fail() {
        let (rates, capacity) = climb(1_000, 20, |_, rate| rate < 2_000);
        assert_eq!(rates, [1_000, 1_250, 1_563, 1_953, 2_441, 3_052]);
        assert_eq!(capacity, Some(1_953));
    }

    #[test]
    fn one_bad_step_is_forgiven() {
        let (rates, capacity) = climb(1_000, 20, |step, rate| step != 1 && rate < 1_900);
        assert_eq!((rates.len(), capacity), (5, Some(1_563)));
    }

    #[test]
    fn it_ends_and_may_find_nothing() {
        assert_eq!(climb(100, 3, |_, _| true), (vec![100, 125, 156], Some(156)));
        assert_eq!(climb(100, 9, |_, _| false), (vec![100, 125], None));
    }

    #[test]
    fn a_loss_or_a_closed_client_ends_it_at_once() {
        for step in [Step { lost: 1, ..passing(7) }, Step { closed: 1, ..passing(7) }] {
            let mut ladder = Ladder::new(7, 9);
            assert_eq!(ladder.step(), Some(7));
            ladder.judge(&step);
            assert_eq!((ladder.step(), ladder.capacity()), (None, None));
        }
    }
}
