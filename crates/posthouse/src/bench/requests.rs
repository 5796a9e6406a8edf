//! Askers, each on a connection of its own, that ask and wait for the answer: the load of all workloads
//! that read.
//!
//! With a rate it is open loop, as [`schedule`] says: latency counts from the scheduled time, also
//! while the asker still waits for the answer before. Without one, everybody asks again at once, which
//! tells what the server can do and nothing about what a user would wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;
use posthouse_core::time::Chance as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};

use super::report::{self, Latency};
use super::schedule::{self, Dice};
use super::server::Server;
use super::{Error, process, progress};
use crate::adapter::SystemChance;
use crate::peer;

/// From the last preparation to the first request.
const LEAD_TIME: Duration = Duration::from_millis(200);
/// How long answers may still come after the last request was scheduled.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(15);
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Longer waits are recorded as this.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;

/// Something that asks.
pub(super) trait Asker: Send + 'static {
    /// Asks once, and looks at the answer. Gives which of the workload's kinds of request it was.
    fn ask(&mut self, dice: &mut Dice) -> impl Future<Output = Result<usize, peer::Error>> + Send;
}

/// How much, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    /// Requests a second, in all; `None` is as many as are answered.
    pub(super) rate: Option<u32>,
    pub(super) warm_up: Duration,
    /// The measured time.
    pub(super) length: Duration,
    pub(super) seed: u64,
}

/// A load as the command line gives it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// Requests a second, in all (open loop). Without it everybody asks again at once (closed loop).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Measured time.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Load before the measured time.
    #[arg(long, value_name = "S", default_value_t = 3)]
    warm_up: u64,
    /// Repeats the schedule and the choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Look for the capacity: runs of --seconds each, from --rate (or 100) on, a quarter more each time.
    #[arg(long)]
    ladder: bool,
    /// Most runs of a ladder.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
}

impl LoadArgs {
    /// The load; `seed` where none is given.
    pub(super) fn load(&self, seed: u64) -> Load {
        Load {
            rate: self.rate,
            warm_up: Duration::from_secs(self.warm_up),
            length: Duration::from_secs(self.seconds),
            seed: self.seed.unwrap_or(seed),
        }
    }

    /// The first rate of a ladder and the most steps it may have, if one is asked for.
    pub(super) fn ladder(&self) -> Option<(u32, u32)> {
        self.ladder.then(|| (self.rate.unwrap_or(LADDER_FROM), self.steps))
    }
}

const LADDER_FROM: u32 = 100;
/// So many failures in a row end a ladder: the first may have been somebody else's fault.
const FAILURES_MAX: u32 = 2;

/// What came of a load.
#[derive(Debug)]
pub(super) struct Answers {
    /// By kind of request, in microseconds, of the measured time.
    pub(super) kinds: Vec<Histogram<u64>>,
    /// Of the measured time.
    pub(super) answered: u64,
    /// Of the whole run.
    pub(super) failed: u64,
    /// Scheduled and never asked, because the time was over.
    pub(super) unanswered: u64,
    pub(super) problems: Vec<String>,
    pub(super) elapsed: Duration,
    start: Option<process::Usage>,
    end: Option<process::Usage>,
}

/// What requests cost the server.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct RequestCost {
    pub(super) cpu_ms_per_request: f64,
    /// Cores in use, on average.
    pub(super) cores: f64,
    pub(super) resident_bytes: u64,
    /// From disk, not from the page cache.
    pub(super) read_bytes_per_request: Option<f64>,
    pub(super) written_bytes_per_request: Option<f64>,
}

impl Answers {
    pub(super) fn none(kinds: usize) -> Self {
        Self {
            kinds: vec![histogram(); kinds],
            answered: 0,
            failed: 0,
            unanswered: 0,
            problems: Vec::new(),
            elapsed: Duration::ZERO,
            start: None,
            end: None,
        }
    }

    /// All kinds of request together.
    pub(super) fn latency(&self) -> Latency {
        let mut all = histogram();
        for kind in &self.kinds {
            all.add(kind).expect("they have the same bounds");
        }
        Latency::of(&all)
    }

    pub(super) fn per_second(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    pub(super) fn cost(&self) -> Option<RequestCost> {
        let (start, end) = self.start.zip(self.end)?;
        let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / self.answered.max(1) as f64;
        let cpu_ms = end.cpu_ms.saturating_sub(start.cpu_ms) as f64;
        Some(RequestCost {
            cpu_ms_per_request: each(start.cpu_ms, end.cpu_ms),
            cores: cpu_ms / 1_000.0 / self.elapsed.as_secs_f64().max(f64::EPSILON),
            resident_bytes: end.resident_bytes,
            read_bytes_per_request: start.read_bytes.zip(end.read_bytes).map(|(from, to)| each(from, to)),
            written_bytes_per_request: start
                .written_bytes
                .zip(end.written_bytes)
                .map(|(from, to)| each(from, to)),
        })
    }

    pub(super) fn is_clean(&self) -> bool {
        self.failed == 0 && self.unanswered == 0
    }
}

/// For microseconds up to an hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
        .expect("the bounds are in order and 3 digits are allowed")
}

pub(super) fn record(times: &mut Histogram<u64>, took: Duration) {
    times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US).max(1));
}

/// What one asker counted.
#[derive(Debug)]
struct Tally {
    kinds: Vec<Histogram<u64>>,
    failed: u64,
    unanswered: u64,
    problems: Vec<String>,
}

/// The times of a run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    epoch: Instant,
    warm_up: Duration,
    length: Duration,
}

/// Lets the askers ask; gives them back, with what came of it. An asker whose request fails asks on:
/// what is broken for good fails each time and is counted each time.
pub(super) async fn run<A: Asker>(
    askers: Vec<A>,
    load: Load,
    kinds: usize,
    server: &Server,
) -> Result<(Vec<A>, Answers), Error> {
    let length = load.warm_up + load.length;
    let mut turns: Vec<Option<VecDeque<Duration>>> = vec![None; askers.len()];
    if let Some(rate) = load.rate {
        turns.fill(Some(VecDeque::new()));
        for arrival in schedule::poisson(load.seed, f64::from(rate), askers.len(), length) {
            turns[arrival.sender].get_or_insert_default().push_back(arrival.at);
        }
    }
    let plan = Plan { epoch: Instant::now() + LEAD_TIME, warm_up: load.warm_up, length };
    let answered = Arc::new(AtomicU64::new(0));
    let mut asking = JoinSet::new();
    for ((number, asker), turns) in (0_u64..).zip(askers).zip(turns) {
        let dice = Dice(load.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9)));
        let mut session = Session { asker, dice, plan, answered: Arc::clone(&answered) };
        asking.spawn(async move {
            let tally = session.ask_all(turns, kinds).await;
            (session.asker, tally)
        });
    }
    let mut back = Vec::new();
    let mut answers = Answers::none(kinds);
    let bar = progress(length.as_secs(), "warming up");
    let mut tick = interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut started, mut before, mut ended) = (None, 0, None);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let elapsed = plan.epoch.elapsed();
                if started.is_none() && elapsed >= plan.warm_up {
                    answers.start = server.usage();
                    (started, before) = (Some(Instant::now()), answered.load(Relaxed));
                    bar.set_prefix("measuring");
                }
                if ended.is_none() && elapsed >= plan.length {
                    answers.end = server.usage();
                    ended = Some((Instant::now(), answered.load(Relaxed)));
                    bar.set_prefix("draining");
                }
                bar.set_position(elapsed.as_secs().min(length.as_secs()));
                bar.set_message(format!("answered {}", report::grouped(answered.load(Relaxed))));
            }
            done = asking.join_next() => match done {
                Some(done) => {
                    let (asker, tally) = done?;
                    back.push(asker);
                    answers.take(tally);
                }
                None => break,
            }
        }
    }
    bar.finish_and_clear();
    if answers.end.is_none() {
        answers.end = server.usage();
    }
    let (end, after) = ended.unwrap_or_else(|| (Instant::now(), answered.load(Relaxed)));
    answers.answered = after - before;
    answers.elapsed = started.map_or(Duration::ZERO, |started| end - started);
    Ok((back, answers))
}

impl Answers {
    fn take(&mut self, tally: Tally) {
        for (all, one) in self.kinds.iter_mut().zip(&tally.kinds) {
            all.add(one).expect("they have the same bounds");
        }
        self.failed += tally.failed;
        self.unanswered += tally.unanswered;
        let room = PROBLEMS_TOLD.saturating_sub(self.problems.len());
        self.problems.extend(tally.problems.into_iter().take(room));
    }
}

struct Session<A> {
    asker: A,
    dice: Dice,
    plan: Plan,
    answered: Arc<AtomicU64>,
}

impl<A: Asker> Session<A> {
    async fn ask_all(&mut self, turns: Option<VecDeque<Duration>>, kinds: usize) -> Tally {
        let mut tally =
            Tally { kinds: vec![histogram(); kinds], failed: 0, unanswered: 0, problems: Vec::new() };
        let Plan { epoch, length, .. } = self.plan;
        match turns {
            Some(mut turns) => {
                while let Some(at) = turns.pop_front() {
                    sleep_until(epoch + at).await;
                    let deadline = epoch + length + DRAIN_TIME_MAX;
                    if timeout_at(deadline, self.ask(at, &mut tally)).await.is_err() {
                        tally.unanswered += 1 + turns.len() as u64;
                        break;
                    }
                }
            }
            None => {
                sleep_until(epoch).await;
                let mut at = Duration::ZERO;
                while at < length {
                    self.ask(at, &mut tally).await;
                    at = epoch.elapsed();
                }
            }
        }
        tally
    }

    async fn ask(&mut self, at: Duration, tally: &mut Tally) {
        match self.asker.ask(&mut self.dice).await {
            Ok(kind) => {
                self.answered.fetch_add(1, Relaxed);
                if at >= self.plan.warm_up {
                    record(&mut tally.kinds[kind], (self.plan.epoch + at).elapsed());
                }
            }
            Err(error) => {
                tally.failed += 1;
                if tally.problems.len() < PROBLEMS_TOLD {
                    tally.problems.push(report::chain(&error));
                }
            }
        }
    }
}

/// One step of a ladder.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Rung {
    pub(super) rate: u32,
    pub(super) passed: bool,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) cpu_ms_per_request: Option<f64>,
}

impl Rung {
    /// A run at `rate` passes if all was answered as it should and p99 is at most `p99_ms_max`.
    pub(super) fn of(rate: u32, answers: &Answers, p99_ms_max: f64) -> Self {
        let latency = answers.latency();
        Self {
            rate,
            passed: answers.is_clean() && latency.p99_ms <= p99_ms_max,
            per_second: answers.per_second(),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
            cpu_ms_per_request: answers.cost().map(|cost| cost.cpu_ms_per_request),
        }
    }
}

/// What a workload of requests came to.
pub(super) struct Measured {
    /// The load that was measured: that of the capacity, if a ladder found one.
    pub(super) load: Load,
    /// The ladder's steps, if one was asked for.
    pub(super) rungs: Vec<Rung>,
    pub(super) answers: Answers,
}

/// Climbs the ladder, if one is asked for, and measures at its capacity, or else as the arguments say. A step
/// passes while the p99 is at most `p99_ms_max`; the highest one that does so twice is the capacity.
pub(super) async fn measure<A: Asker>(
    mut askers: Vec<A>,
    args: &LoadArgs,
    kinds: usize,
    p99_ms_max: f64,
    server: &Server,
) -> Result<Measured, Error> {
    let load = args.load(SystemChance.bits() >> 11);
    let mut rungs = Vec::new();
    if let Some(ladder) = args.ladder() {
        let idle = &mut askers;
        rungs = climb(ladder, async |rate| {
            let load = Load { rate: Some(rate), ..load };
            let (back, answers) = run(std::mem::take(idle), load, kinds, server).await?;
            *idle = back;
            Ok(Rung::of(rate, &answers, p99_ms_max))
        })
        .await?;
    }
    let idle = &mut askers;
    let (load, answers) = again_at_capacity(&mut rungs, async |rate| {
        let load = Load { rate: rate.or(load.rate), ..load };
        let (back, answers) = run(std::mem::take(idle), load, kinds, server).await?;
        *idle = back;
        let passed = rate.is_none_or(|rate| Rung::of(rate, &answers, p99_ms_max).passed);
        Ok((passed, (load, answers)))
    })
    .await?;
    Ok(Measured { load, rungs, answers })
}

/// Runs once more at the capacity, or at no rung where none passed. What passed once may have been luck: a rung
/// that doesn't pass again didn't pass, and the next lower one is the capacity.
pub(super) async fn again_at_capacity<T, F>(rungs: &mut [Rung], mut at: F) -> Result<T, Error>
where
    F: AsyncFnMut(Option<u32>) -> Result<(bool, T), Error>,
{
    loop {
        let rate = capacity(rungs);
        let (passed, outcome) = at(rate).await?;
        match rungs.iter_mut().find(|rung| Some(rung.rate) == rate) {
            Some(top) if !passed => top.passed = false,
            Some(_) | None => return Ok(outcome),
        }
    }
}

/// Climbs from the first rate on, at most so many steps, until two in a row do not pass.
pub(super) async fn climb<F>((from, steps_max): (u32, u32), mut at: F) -> Result<Vec<Rung>, Error>
where
    F: AsyncFnMut(u32) -> Result<Rung, Error>,
{
    let mut rungs = Vec::new();
    let (mut rate, mut failures) = (from, 0);
    for _ in 0..steps_max {
        let rung = at(rate).await?;
        rungs.push(rung);
        failures = if rung.passed { 0 } else { failures + 1 };
        if failures >= FAILURES_MAX {
            break;
        }
        rate = next_rate(rate);
    }
    Ok(rungs)
}

fn next_rate(rate: u32) -> u32 {
    rate.saturating_add(rate / 4).max(rate.saturating_add(1))
}

/// The highest rate that passed.
pub(super) fn capacity(rungs: &[Rung]) -> Option<u32> {
    rungs.iter().filter(|rung| rung.passed).map(|rung| rung.rate).max()
}

/// The rungs as lines of a table.
pub(super) fn ladder_lines(rungs: &[Rung]) -> String {
    let mut text = String::new();
    for rung in rungs {
        text += &format!(
            "rung {:>8}/s  {:>10.1}/s answered  p50 {:>8.2}  p99 {:>8.2} ms  {}\n",
            report::grouped(rung.rate.into()),
            rung.per_second,
            rung.p50_ms,
            rung.p99_ms,
            if rung.passed { "pass" } else { "too much" }
        );
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rung(rate: u32, passed: bool) -> Rung {
        Rung { rate, passed, per_second: 0.0, p50_ms: 0.0, p99_ms: 0.0, cpu_ms_per_request: None }
    }

    #[tokio::test]
    async fn a_ladder_forgives_one_step_and_ends_after_two() {
        let rates = |rungs: &[Rung]| rungs.iter().map(|rung| rung.rate).collect::<Vec<_>>();
        let rungs = climb((100, 20), async |rate| Ok(rung(rate, rate != 125 && rate < 190))).await.unwrap();
        assert_eq!(rates(&rungs), [100, 125, 156, 195, 243]);
        assert_eq!(capacity(&rungs), Some(156));
        let none = climb((100, 20), async |rate| Ok(rung(rate, false))).await.unwrap();
        assert_eq!((none.len(), capacity(&none)), (2, None));
        assert_eq!(rates(&climb((1, 3), async |rate| Ok(rung(rate, true))).await.unwrap()), [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_capacity_is_what_passes_again() {
        let climbed = || [100, 125, 156, 195].map(|rate| rung(rate, rate < 195)).to_vec();
        let mut rungs = climbed();
        let told = again_at_capacity(&mut rungs, async |rate| Ok((rate < Some(156), rate))).await.unwrap();
        assert_eq!((told, capacity(&rungs)), (Some(125), Some(125)));
        let mut rungs = climbed();
        let told = again_at_capacity(&mut rungs, async |rate| Ok((false, rate))).await.unwrap();
        assert_eq!((told, capacity(&rungs)), (None, None));
    }

    /// Answers after its time, every second request wrongly.
    struct Slow {
        takes: Duration,
        fails: bool,
    }

    impl Asker for Slow {
        async fn ask(&mut self, _: &mut Dice) -> Result<usize, peer::Error> {
            tokio::time::sleep(self.takes).await;
            if self.fails { Err(peer::Error::TooManyPushes) } else { Ok(0) }
        }
    }

    fn nobody() -> Server {
        Server::unknown()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_answer_before_is_charged_for_the_wait() {
        // One asker needs 100 ms for each of about 20 requests a second: the last waits seconds.
        let load = Load { rate: Some(20), warm_up: Duration::ZERO, length: Duration::from_secs(10), seed: 3 };
        let slow = Slow { takes: Duration::from_millis(100), fails: false };
        let (_, answers) = run(vec![slow], load, 1, &nobody()).await.unwrap();
        let latency = answers.latency();
        assert!(latency.max_ms > 5_000.0, "{latency:?}");
        assert!(latency.p50_ms > 1_000.0, "{latency:?}");
        assert!(answers.is_clean());
        let closed = Load { rate: None, ..load };
        let slow = Slow { takes: Duration::from_millis(100), fails: false };
        let (_, answers) = run(vec![slow], closed, 1, &nobody()).await.unwrap();
        assert!((answers.latency().max_ms - 100.0).abs() < 10.0, "{:?}", answers.latency());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_what_was_never_answered_are_counted() {
        let load = Load { rate: Some(10), warm_up: Duration::ZERO, length: Duration::from_secs(5), seed: 4 };
        let broken = Slow { takes: Duration::from_millis(1), fails: true };
        let (_, answers) = run(vec![broken], load, 1, &nobody()).await.unwrap();
        assert!(answers.failed > 30 && answers.unanswered == 0 && !answers.is_clean());
        assert_eq!(answers.problems.len(), PROBLEMS_TOLD);
        let stuck = Slow { takes: Duration::from_secs(3_600), fails: false };
        let (_, answers) = run(vec![stuck], load, 1, &nobody()).await.unwrap();
        assert!(answers.unanswered > 30 && answers.failed == 0 && !answers.is_clean());
    }
}
