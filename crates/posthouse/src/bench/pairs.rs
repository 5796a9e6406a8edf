//! Workload B1: pairs of clients, each with one ordinary conversation, talk in both directions at a
//! fixed rate. The server stores before it acks; receivers ack deliveries as the JavaScript SDK does.
//!
//! One task drives a pair, both sockets and its part of the schedule. Latency is counted from the
//! scheduled time: of the ack at the sender, of the delivery at the receiver.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::{CommandType, DirectCommand, GenericCommand, OpType, SessionCommand};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::check::{Lane, PAYLOAD_BYTES_MIN, Stamp};
use super::report::{self, Latency, PairsReport, ServerCost};
use super::server::Server;
use super::{Error, Target, check_open_files, gap, process, progress, schedule};
use crate::adapter::SystemChance;
use crate::peer::{self, Open, Peer};

/// The JavaScript SDK gathers acks for a second (`_doSendAck` is throttled).
const RECEIPT_DELAY: Duration = Duration::from_secs(1);
/// The JavaScript SDK's heartbeat.
const ECHO_EVERY: Duration = Duration::from_secs(180);
/// How long messages may still arrive after the last was scheduled.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(15);
/// From the last preparation to the first message.
const LEAD_TIME: Duration = Duration::from_millis(200);
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Longer waits are recorded as this.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;

/// The arguments of `posthouse bench pairs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Connected clients; two make a pair.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(2..))]
    clients: u32,
    /// Messages a second, in all.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Measured time.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Load before the measured time; checked, not measured.
    #[arg(long, value_name = "S", default_value_t = 5)]
    warm_up: u64,
    /// Bytes of a message's content.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = parse_payload)]
    payload: usize,
    /// Repeats the schedule of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

fn parse_payload(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| *bytes >= PAYLOAD_BYTES_MIN)
        .ok_or_else(|| format!("a whole number from {PAYLOAD_BYTES_MIN} on, to hold what is checked"))
}

/// What all pairs of a run know.
#[derive(Debug)]
struct Plan {
    run: u32,
    payload: usize,
    epoch: Instant,
    warm_up: Duration,
    /// From `epoch`; nothing is scheduled at or after it.
    length: Duration,
}

/// What all pairs of a run count into.
#[derive(Debug)]
struct Meter {
    sent: AtomicU64,
    acked: AtomicU64,
    delivered: AtomicU64,
    latencies: Mutex<Latencies>,
}

/// In microseconds, of messages scheduled after the warm-up.
#[derive(Debug)]
struct Latencies {
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
    /// How late the generator itself was.
    lag: Histogram<u64>,
}

impl Meter {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
                .expect("the bounds are in order and 3 digits are allowed")
        };
        Self {
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            latencies: Mutex::new(Latencies { ack: histogram(), delivery: histogram(), lag: histogram() }),
        }
    }

    fn record(&self, of: impl FnOnce(&mut Latencies) -> &mut Histogram<u64>, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        of(&mut latencies).saturating_record(us.max(1));
    }
}

/// What became of a pair's messages.
#[derive(Debug, Default)]
struct Tally {
    scheduled: u64,
    sent: u64,
    lost: u64,
    duplicates: u64,
    disorders: u64,
    refused: u64,
    unanswered: u64,
    undelivered: u64,
    problems: Vec<String>,
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let pairs = args.clients / 2;
    let clients = pairs * 2;
    check_open_files(clients)?;
    let server = Server::find(&args.target).await?;
    let run = u32::try_from(SystemChance.bits() >> 32).expect("32 bits are left");
    // 53 bits, so that readers of the JSON line that only have floating point can repeat it.
    let seed = args.seed.unwrap_or_else(|| SystemChance.bits() >> 11);
    let (warm_up, measured) = (Duration::from_secs(args.warm_up), Duration::from_secs(args.seconds));
    let length = warm_up + measured;

    let mut per_pair: Vec<VecDeque<Turn>> = vec![VecDeque::new(); pairs as usize];
    for arrival in schedule::poisson(seed, f64::from(args.rate), clients as usize, length) {
        let turn = Turn { at: arrival.at, side: arrival.sender % 2 };
        per_pair[arrival.sender / 2].push_back(turn);
    }

    let ready = prepare(&server, run, pairs, args.target.connections_per_second).await?;
    let before = process::usage(std::process::id());

    let plan =
        Arc::new(Plan { run, payload: args.payload, epoch: Instant::now() + LEAD_TIME, warm_up, length });
    let meter = Arc::new(Meter::new());
    let mut talks = JoinSet::new();
    for (pair, turns) in ready.into_iter().zip(per_pair) {
        talks.spawn(pair.talk(turns, Arc::clone(&plan), Arc::clone(&meter)));
    }
    let (tally, window) = watch(&mut talks, &plan, &meter, &server).await?;

    let after = process::usage(std::process::id());
    let generator_cpu_ms = before.zip(after).map(|(before, after)| after.cpu_ms - before.cpu_ms);
    let latencies = meter.latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let result = PairsReport {
        bench: "pairs",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        server: server.description.clone(),
        own_server: server.is_own(),
        durability: report::DURABILITY,
        clients,
        rate: args.rate,
        seconds: args.seconds,
        warm_up_seconds: args.warm_up,
        payload_bytes: args.payload,
        seed,
        scheduled: tally.scheduled,
        sent: tally.sent,
        acked: meter.acked.load(Relaxed),
        delivered: meter.delivered.load(Relaxed),
        acked_per_second: window.acked_per_second(),
        ack: Latency::of(&latencies.ack),
        delivery: Latency::of(&latencies.delivery),
        generator_lag: Latency::of(&latencies.lag),
        lost: tally.lost,
        duplicates: tally.duplicates,
        disorders: tally.disorders,
        refused: tally.refused,
        unanswered: tally.unanswered,
        undelivered: tally.undelivered,
        problems: tally.problems,
        server_cost: window.cost(),
        generator_cpu_ms,
    };
    drop(latencies);
    report::publish(&result, args.target.json.as_deref(), out)
}

/// Brings all pairs online at the given pace.
async fn prepare(server: &Server, run: u32, pairs: u32, per_second: u32) -> Result<Vec<Pair>, Error> {
    let bar = progress(u64::from(pairs) * 2, "connecting");
    let mut pace = interval(gap(per_second) * 2);
    let mut preparing = JoinSet::new();
    let mut ready = Vec::new();
    let mut next = 0;
    while next < pairs || !preparing.is_empty() {
        tokio::select! {
            _ = pace.tick(), if next < pairs => {
                let place = server.url.clone();
                let app_id = server.app_id.clone();
                preparing.spawn(async move { Pair::prepare(&place, &app_id, run, next as usize).await });
                next += 1;
            }
            Some(pair) = preparing.join_next() => {
                ready.push(pair??);
                bar.inc(2);
            }
        }
    }
    bar.finish_and_clear();
    // In the order of the schedule, whoever was ready first.
    ready.sort_by_key(|pair| pair.sides[0].index);
    Ok(ready)
}

/// The measured part of the run.
#[derive(Debug, Default)]
struct Window {
    start: Option<Sample>,
    end: Option<Sample>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    acked: u64,
    server: Option<process::Usage>,
}

impl Window {
    fn acked_per_second(&self) -> Option<f64> {
        let (start, end) = self.start.as_ref().zip(self.end.as_ref())?;
        Some((end.acked - start.acked) as f64 / (end.at - start.at).as_secs_f64())
    }

    fn cost(&self) -> Option<ServerCost> {
        let (start, end) = self.start.as_ref().zip(self.end.as_ref())?;
        let (from, to) = start.server.zip(end.server)?;
        let messages = (end.acked - start.acked) as f64;
        Some(ServerCost {
            cpu_ms_per_message: (to.cpu_ms - from.cpu_ms) as f64 / messages,
            cores: (to.cpu_ms - from.cpu_ms) as f64 / 1_000.0 / (end.at - start.at).as_secs_f64(),
            resident_bytes_start: from.resident_bytes,
            resident_bytes_end: to.resident_bytes,
            written_bytes_per_message: to
                .written_bytes
                .zip(from.written_bytes)
                .map(|(to, from)| (to - from) as f64 / messages),
        })
    }
}

/// Waits for all pairs and takes samples at both ends of the measured time.
async fn watch(
    talks: &mut JoinSet<Tally>,
    plan: &Plan,
    meter: &Meter,
    server: &Server,
) -> Result<(Tally, Window), Error> {
    let bar = progress(plan.length.as_secs(), "warming up");
    let sample = || Sample { at: Instant::now(), acked: meter.acked.load(Relaxed), server: server.usage() };
    let mut tick = interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut window = Window::default();
    let mut total = Tally::default();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let elapsed = plan.epoch.elapsed();
                if window.start.is_none() && elapsed >= plan.warm_up {
                    window.start = Some(sample());
                    bar.set_prefix("measuring");
                }
                if window.end.is_none() && elapsed >= plan.length {
                    window.end = Some(sample());
                    bar.set_prefix("draining");
                }
                bar.set_position(elapsed.min(plan.length).as_secs());
                bar.set_message(meter.in_words());
            }
            talk = talks.join_next() => match talk {
                Some(tally) => total.add(tally?),
                None => break,
            }
        }
    }
    // The last pair may end between two ticks.
    if window.end.is_none() && window.start.is_some() {
        window.end = Some(sample());
    }
    bar.finish_and_clear();
    Ok((total, window))
}

impl Meter {
    fn in_words(&self) -> String {
        let p99_us = {
            let latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
            latencies.ack.value_at_quantile(0.99)
        };
        format!(
            "s, {} sent, {} acked, {} delivered, ack p99 {:.1} ms",
            report::grouped(self.sent.load(Relaxed)),
            report::grouped(self.acked.load(Relaxed)),
            report::grouped(self.delivered.load(Relaxed)),
            p99_us as f64 / 1_000.0,
        )
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.scheduled += other.scheduled;
        self.sent += other.sent;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disorders += other.disorders;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.undelivered += other.undelivered;
        for words in other.problems {
            self.problem(words);
        }
    }

    fn problem(&mut self, words: String) {
        if self.problems.len() < PROBLEMS_TOLD && !self.problems.contains(&words) {
            self.problems.push(words);
        }
    }
}

/// One message that a pair is to send.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Duration,
    side: usize,
}

/// Two clients and their conversation.
#[derive(Debug)]
struct Pair {
    cid: String,
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    index: usize,
    client: String,
    peer: Peer,
    /// Messages sent, and the next one's counter.
    sent: u64,
    /// By serial: counter and schedule.
    unanswered: HashMap<i32, (u64, Duration)>,
    refused: HashSet<u64>,
    /// What arrives here.
    lane: Lane,
    receipt: Option<Receipt>,
}

/// Deliveries to be acked together.
#[derive(Clone, Copy, Debug)]
struct Receipt {
    from: i64,
    to: i64,
    due: Instant,
}

impl Pair {
    async fn prepare(url: &str, app_id: &str, run: u32, pair: usize) -> Result<Self, Error> {
        let mut first = Side::online(url, app_id, run, pair * 2).await?;
        let second = Side::online(url, app_id, run, pair * 2 + 1).await?;
        let members = [first.client.as_str(), second.client.as_str()];
        let started = first
            .peer
            .create_conversation(&first.client, &members, true, r#"{"name":"bench"}"#)
            .await
            .map_err(|source| Error::NotReady { client: first.client.clone(), source })?;
        Ok(Self { cid: started.cid, sides: [first, second] })
    }

    /// Sends this pair's part of the schedule and looks at what arrives until all is answered and
    /// delivered, or the time to drain is over.
    async fn talk(mut self, mut turns: VecDeque<Turn>, plan: Arc<Plan>, meter: Arc<Meter>) -> Tally {
        let mut tally = Tally { scheduled: turns.len() as u64, ..Tally::default() };
        let deadline = plan.epoch + plan.length + DRAIN_TIME_MAX;
        let mut echo_due = plan.epoch + ECHO_EVERY;
        let mut alarm = pin!(sleep_until(plan.epoch));
        while !(turns.is_empty() && self.is_drained()) {
            let next_turn = turns.front().map_or(deadline, |turn| plan.epoch + turn.at);
            let receipts = self.sides.iter().filter_map(|side| side.receipt).map(|receipt| receipt.due);
            let wake = receipts.fold(next_turn.min(echo_due), Instant::min);
            if alarm.deadline() != wake || alarm.is_elapsed() {
                alarm.as_mut().reset(wake);
            }
            let [first, second] = &mut self.sides;
            let received = tokio::select! {
                frame = first.peer.receive() => Some((0, frame)),
                frame = second.peer.receive() => Some((1, frame)),
                () = alarm.as_mut() => None,
            };
            let done = match received {
                Some((side, Ok(frame))) => {
                    self.look_at(side, &frame, &plan, &meter, &mut tally);
                    Ok(())
                }
                Some((_, Err(error))) => Err(error),
                None => {
                    let now = Instant::now();
                    if now >= deadline {
                        break;
                    }
                    self.on_time(now, &mut turns, &mut echo_due, &plan, &meter).await
                }
            };
            if let Err(error) = done {
                // Without one of its sockets, the pair can do no more; its other messages count as
                // not sent.
                tally.problem(report::chain(&error));
                break;
            }
        }
        self.settle_accounts(&mut tally);
        self.leave(&mut tally).await;
        tally
    }

    async fn on_time(
        &mut self,
        now: Instant,
        turns: &mut VecDeque<Turn>,
        echo_due: &mut Instant,
        plan: &Plan,
        meter: &Meter,
    ) -> Result<(), peer::Error> {
        while let Some(turn) = turns.front().copied().filter(|turn| plan.epoch + turn.at <= now) {
            turns.pop_front();
            self.sides[turn.side].say(&self.cid, turn.at, plan, meter).await?;
        }
        for side in &mut self.sides {
            if let Some(receipt) = side.receipt.take_if(|receipt| receipt.due <= now) {
                side.peer.ack(&side.client, &self.cid, receipt.from, receipt.to).await?;
            }
        }
        if *echo_due <= now {
            *echo_due = now + ECHO_EVERY;
            for side in &mut self.sides {
                side.peer.send(&peer::command(CommandType::Echo, None)).await?;
            }
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        side: usize,
        frame: &GenericCommand,
        plan: &Plan,
        meter: &Meter,
        tally: &mut Tally,
    ) {
        let from_index = self.sides[1 - side].index;
        let side = &mut self.sides[side];
        if let Some(serial) = frame.i {
            match (side.unanswered.remove(&serial), peer::refusal(frame)) {
                (None, _) => tally.problem(format!("{} got an answer to nothing it asked", side.client)),
                (Some((counter, _)), Some(refusal)) => {
                    side.refused.insert(counter);
                    tally.problem(format!("{} was refused: {refusal}", side.client));
                }
                (Some((_, scheduled)), None) => {
                    meter.acked.fetch_add(1, Relaxed);
                    if scheduled >= plan.warm_up {
                        let latency = (plan.epoch + scheduled).elapsed();
                        meter.record(|latencies| &mut latencies.ack, latency);
                    }
                }
            }
            return;
        }
        if peer::is(frame, CommandType::Session, Some(OpType::Closed)) {
            tally.problem(format!("the session of {} was closed", side.client));
        } else if let Some(refusal) = peer::refusal(frame) {
            tally.problem(format!("{} was told: {refusal}", side.client));
        }
        let Some(direct) = &frame.direct_message else { return };
        let stamp = direct.msg.as_deref().and_then(Stamp::read);
        let at = direct.timestamp.unwrap_or_default();
        match stamp {
            Some(stamp) if stamp.run == plan.run && stamp.sender == from_index => {
                side.receipt = Some(match side.receipt {
                    None => Receipt { from: at, to: at, due: Instant::now() + RECEIPT_DELAY },
                    Some(Receipt { from, to, due }) => Receipt { from: from.min(at), to: to.max(at), due },
                });
                if side.lane.arrive(stamp.counter, at) {
                    meter.delivered.fetch_add(1, Relaxed);
                    if stamp.scheduled >= plan.warm_up {
                        let latency = (plan.epoch + stamp.scheduled).elapsed();
                        meter.record(|latencies| &mut latencies.delivery, latency);
                    }
                }
            }
            Some(_) | None => tally.problem(format!("{} got a message of somebody else", side.client)),
        }
    }

    fn is_drained(&self) -> bool {
        let [first, second] = &self.sides;
        first.unanswered.is_empty()
            && second.unanswered.is_empty()
            && first.lane.missing(second.sent) == 0
            && second.lane.missing(first.sent) == 0
    }

    fn settle_accounts(&self, tally: &mut Tally) {
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (&self.sides[from], &self.sides[to]);
            let unanswered: HashSet<u64> = from.unanswered.values().map(|(counter, _)| *counter).collect();
            tally.sent += from.sent;
            tally.refused += from.refused.len() as u64;
            tally.unanswered += unanswered.len() as u64;
            tally.duplicates += to.lane.duplicates;
            tally.disorders += to.lane.disorders;
            if to.lane.missing(from.sent) > 0 {
                for counter in (0..from.sent).filter(|counter| !to.lane.has(*counter)) {
                    if unanswered.contains(&counter) {
                        tally.undelivered += 1;
                    } else if !from.refused.contains(&counter) {
                        tally.lost += 1;
                    }
                }
            }
        }
    }

    async fn leave(mut self, tally: &mut Tally) {
        for side in &mut self.sides {
            if let Err(error) = side.leave(&self.cid).await
                && tally.problems.is_empty()
            {
                tally.problem(report::chain(&error));
            }
        }
    }
}

impl Side {
    async fn online(url: &str, app_id: &str, run: u32, index: usize) -> Result<Self, Error> {
        let client = format!("bench-{run:08x}-{index}");
        let not_ready = |source| Error::NotReady { client: client.clone(), source };
        let mut peer = Peer::connect(url, peer::BINARY).await.map_err(not_ready)?;
        peer.open(app_id, &client, Open::default()).await.map_err(not_ready)?;
        Ok(Self {
            index,
            client,
            peer,
            sent: 0,
            unanswered: HashMap::new(),
            refused: HashSet::new(),
            lane: Lane::default(),
            receipt: None,
        })
    }

    async fn say(
        &mut self,
        cid: &str,
        scheduled: Duration,
        plan: &Plan,
        meter: &Meter,
    ) -> Result<(), peer::Error> {
        let counter = self.sent;
        let stamp = Stamp { run: plan.run, sender: self.index, counter, scheduled };
        let direct = GenericCommand {
            direct_message: Some(DirectCommand {
                cid: Some(cid.to_owned()),
                msg: Some(Bytes::from(stamp.content(plan.payload))),
                dt: Some(format!("{:08x}-{}-{counter}", plan.run, self.index)),
                mention_all: Some(false),
                ..DirectCommand::default()
            }),
            ..peer::spoken(&self.client, CommandType::Direct, None)
        };
        if scheduled >= plan.warm_up {
            meter.record(|latencies| &mut latencies.lag, (plan.epoch + scheduled).elapsed());
        }
        let serial = self.peer.post(direct).await?;
        self.sent += 1;
        self.unanswered.insert(serial, (counter, scheduled));
        meter.sent.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Acks what is not acked yet and closes the session. The server's answer is not awaited: it is
    /// none of this measurement.
    async fn leave(&mut self, cid: &str) -> Result<(), peer::Error> {
        if let Some(receipt) = self.receipt.take() {
            self.peer.ack(&self.client, cid, receipt.from, receipt.to).await?;
        }
        let close = GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..peer::spoken(&self.client, CommandType::Session, Some(OpType::Close))
        };
        self.peer.post(close).await.map(drop)
    }
}
