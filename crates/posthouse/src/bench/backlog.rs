//! Workload B7: users who were away log in and get everything that was said meanwhile, all of it, once and in
//! order, through either door: unread notifications and pages of history (LeanCloud), or the queues of a
//! device that the server never saw (Easemob).
//!
//! The backlog is written by [`fill`] before the server starts.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::LogsCommand;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::check::Lane;
use super::connect::Dial;
use super::fill::{self, Filled, Shape, Wish};
use super::lean::Wire;
use super::logins::{Crowd, User};
use super::report::{self, Latency, Report, build, grouped, mebibytes};
use super::requests::{Rung, again_at_capacity, capacity, climb, histogram, ladder_lines, record};
use super::server::Server;
use super::{Error, Target, check_open_files, process, progress};
use crate::adapter::SystemChance;
use crate::peer::easemob::{self, Device, Identity, SOCKET_PATH};
use crate::peer::{self, Open};

/// The largest page of history on LeanCloud's wire.
const PAGE: i32 = 100;
/// From the last preparation to the first login.
const LEAD_TIME: Duration = Duration::from_millis(200);
/// A call that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A complete sync at the 99th percentile, up to which a step of a ladder passes.
const P99_MS_MAX: f64 = 2_000.0;
/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;

/// The arguments of `posthouse bench backlog`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Which door they come back through.
    #[arg(long, value_enum, default_value_t = Wire::Easemob)]
    wire: Wire,
    /// Users who were away.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Conversations of each.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    conversations: u32,
    /// Unread messages in each conversation.
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Within how many seconds they log in, one after the other.
    #[arg(long, value_name = "S", default_value_t = 60)]
    within: u64,
    /// Again and again, a quarter more of them a second each time, for as long as the p99 of a complete sync is at
    /// most 2 seconds. How many a second can come back?
    #[arg(long)]
    ladder: bool,
    /// Steps of the ladder at most.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "ladder")]
    steps: u32,
}

/// Runs the workload. Needs a server of its own; `--own-data` keeps the backlog for the next run.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.users)?;
    let temporary = tempfile::tempdir()?;
    let folder = args.target.data.clone().unwrap_or_else(|| temporary.path().join("backlog"));
    let each = u64::from(args.conversations) * u64::from(args.messages);
    let wish = Wish {
        shape: Shape::Backlog { users: args.users, conversations: args.conversations },
        messages: each * u64::from(args.users),
        payload: 128,
        seed: 1,
    };
    let outcome = fill::fill(&folder, &wish).await?;
    if outcome.filled.messages != wish.messages {
        return Err(Error::FilledOtherwise(folder));
    }
    let filled = Arc::new(outcome.filled);
    let target = Target { data: Some(folder), ..args.target.clone() };
    let server = Server::own(&target, false).await?;
    let away = Away {
        dial: Dial::new(&server.url, None)?,
        url: server.url.trim_end_matches('/').to_owned(),
        app_id: server.app_id.clone(),
        filled,
        each,
    };
    let crowd = Returning { args, away: Arc::new(away), server: &server };
    let names: Vec<String> = (0..args.users).map(fill::user).collect();
    let users = match args.wire {
        // No proof is fetched: a login would take the notifications away.
        Wire::Leancloud => {
            names.into_iter().map(|client| User::Leancloud { client, token: String::new() }).collect()
        }
        Wire::Easemob => Crowd::of(&server, args.wire, names).await?.users,
    };
    let mut rungs = Vec::new();
    if args.ladder {
        let from = u64::from(args.users).checked_div(args.within).unwrap_or_default().max(1);
        let from = (u32::try_from(from).unwrap_or(u32::MAX), args.steps);
        rungs = climb(from, async |rate| Ok(crowd.come_back(&users, crowd.at_rate(rate)).await?.rung(rate)))
            .await?;
    }
    let mut result = again_at_capacity(&mut rungs, async |rate| {
        let within = rate.map_or_else(|| Duration::from_secs(args.within), |rate| crowd.at_rate(rate));
        let result = crowd.come_back(&users, within).await?;
        Ok((rate.is_none_or(|rate| result.rung(rate).passed), result))
    })
    .await?;
    result.ladder = args.ladder;
    result.capacity_per_second = capacity(&rungs);
    result.steps = rungs;
    report::publish(&result, args.target.json.as_deref(), out)
}

/// Those who were away, on their way back.
struct Returning<'a> {
    args: &'a Args,
    away: Arc<Away>,
    server: &'a Server,
}

impl Returning<'_> {
    /// In which time all log in if so many do a second.
    fn at_rate(&self, rate: u32) -> Duration {
        Duration::from_secs(1).mul_f64(f64::from(self.args.users) / f64::from(rate))
    }

    /// All log in `within` a time, one after the other, and get what waits for them. What waits stays there: they read
    /// without a mark, or with a new device.
    async fn come_back(&self, users: &[User], within: Duration) -> Result<BacklogReport, Error> {
        let Self { args, away, server } = self;
        let (before, own_before) = (server.usage(), process::usage(std::process::id()));
        let began = Instant::now();
        let epoch = began + LEAD_TIME;
        let run = SystemChance.bits() >> 32;
        let bar = progress(args.users.into(), "catching up");
        let mut returning = JoinSet::new();
        for (number, user) in (0_u32..).zip(users) {
            let at = epoch + within.mul_f64(f64::from(number) / f64::from(args.users));
            let (away, user) = (Arc::clone(away), user.clone());
            returning.spawn(async move {
                sleep_until(at).await;
                let mut seen = Seen::of(&away.filled.shape, number);
                let done = match user {
                    User::Leancloud { client, .. } => {
                        away.unread_and_history(number, &client, &mut seen).await
                    }
                    User::Easemob(identity) => {
                        let resource = format!("webim_web_{run:08x}");
                        away.queues(number, Identity { resource, ..identity }, &mut seen).await
                    }
                };
                (at.elapsed(), done.map_err(|error| report::chain(&error)), seen)
            });
        }
        let mut result = BacklogReport {
            bench: "backlog",
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            server: server.description.clone(),
            durability: report::DURABILITY,
            wire: args.wire.name(),
            users: args.users,
            conversations: args.conversations,
            messages: args.messages,
            within_seconds: within.as_secs_f64(),
            waiting: away.each * u64::from(args.users),
            delivered: 0,
            delivered_percent: 0.0,
            duplicates: 0,
            disorders: 0,
            strangers: 0,
            failed: 0,
            sync: Latency::of(&histogram()),
            messages_per_second: 0.0,
            cpu_ms_per_message: None,
            cores: None,
            generator_cores: None,
            resident_bytes_peak: None,
            ladder: false,
            capacity_per_second: None,
            steps: Vec::new(),
            problems: Vec::new(),
        };
        let mut times = histogram();
        while let Some(done) = returning.join_next().await {
            let (took, outcome, seen) = done?;
            record(&mut times, took);
            result.count(&seen, outcome);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let elapsed = began.elapsed().as_secs_f64();
        let used = |from: Option<process::Usage>, to: Option<process::Usage>| {
            from.zip(to).map(|(from, to)| to.cpu_ms.saturating_sub(from.cpu_ms) as f64)
        };
        let cpu_ms = used(before, server.usage());
        result.delivered_percent = result.delivered as f64 * 100.0 / result.waiting.max(1) as f64;
        result.sync = Latency::of(&times);
        result.messages_per_second = result.delivered as f64 / elapsed;
        result.cpu_ms_per_message = cpu_ms.map(|ms| ms / result.delivered.max(1) as f64);
        result.cores = cpu_ms.map(|ms| ms / 1_000.0 / elapsed);
        result.generator_cores =
            used(own_before, process::usage(std::process::id())).map(|ms| ms / 1_000.0 / elapsed);
        result.resident_bytes_peak = server.usage().map(|usage| usage.resident_bytes_peak);
        Ok(result)
    }
}

/// What all who come back know.
struct Away {
    dial: Dial,
    url: String,
    app_id: String,
    filled: Arc<Filled>,
    /// Messages that wait for each.
    each: u64,
}

/// What one user got.
#[derive(Debug)]
struct Seen {
    lanes: HashMap<u32, Lane>,
    arrived: u64,
    /// Messages of conversations that it is not in, or of no fill.
    strangers: u64,
}

impl Seen {
    fn of(shape: &Shape, user: u32) -> Self {
        let lanes = shape.of_user(user).into_iter().map(|number| (number, Lane::default())).collect();
        Self { lanes, arrived: 0, strangers: 0 }
    }

    fn look_at(&mut self, text: &str, at: i64) {
        let lane = fill::read_words(text)
            .and_then(|(number, counter)| Some((self.lanes.get_mut(&number)?, counter)));
        match lane {
            Some((lane, counter)) => self.arrived += u64::from(lane.arrive(counter, at)),
            None => self.strangers += 1,
        }
    }
}

impl Away {
    /// As the JavaScript SDK: `unread` comes at login, then the app reads each conversation's history back to
    /// where the user was.
    async fn unread_and_history(
        &self,
        number: u32,
        client: &str,
        seen: &mut Seen,
    ) -> Result<(), peer::Error> {
        let mut peer = self.dial.peer(number).await?;
        peer.set_patience(PATIENCE);
        peer.open(&self.app_id, client, Open::default()).await?;
        let mut waiting = Vec::new();
        while waiting.len() < seen.lanes.len() {
            let push = peer.expect("an unread notification", |push| push.unread_message.is_some()).await?;
            for tuple in push.unread_message.unwrap_or_default().convs {
                waiting.push((tuple.cid.unwrap_or_default(), tuple.unread.unwrap_or_default()));
            }
        }
        for (cid, unread) in waiting {
            let mut pages = Vec::new();
            let (mut got, mut query) = (0, LogsCommand { l: Some(PAGE), ..LogsCommand::default() });
            while got < unread {
                query.cid = Some(cid.clone());
                let page = peer.logs(client, query).await?;
                let Some(oldest) = page.first() else { break };
                query = LogsCommand {
                    l: Some(PAGE.min(unread - got)),
                    t: oldest.timestamp,
                    mid: oldest.msg_id.clone(),
                    ..LogsCommand::default()
                };
                got += i32::try_from(page.len()).unwrap_or(i32::MAX);
                query.l = Some(PAGE.min((unread - got).max(1)));
                pages.push(page);
            }
            for item in pages.iter().rev().flatten() {
                let text = str::from_utf8(item.data.as_deref().unwrap_or_default()).unwrap_or_default();
                seen.look_at(text, item.timestamp.unwrap_or_default());
            }
        }
        peer.post_close(client).await
    }

    /// As the Web SDK: asks which queues have something and pulls each until it is empty.
    async fn queues(&self, number: u32, identity: Identity, seen: &mut Seen) -> Result<(), peer::Error> {
        let stream = self.dial.stream(number).await?;
        let url = format!("{}{SOCKET_PATH}", self.url);
        let mut device = Device::over(stream, &url, identity).await?;
        device.set_patience(PATIENCE);
        device.enter().await?;
        // A bound on what a wrong server could make us ask.
        for _ in 0..=self.each {
            let queues = device.unread().await?.unread;
            if queues.is_empty() {
                return device.post_logout().await;
            }
            for queue in queues.into_iter().filter_map(|pending| pending.queue) {
                for meta in device.drain(&queue).await?.iter().filter(|meta| meta.ns == Some(1)) {
                    let at = meta.timestamp.and_then(|at| i64::try_from(at).ok()).unwrap_or_default();
                    seen.look_at(&easemob::text_of(meta), at);
                }
            }
        }
        Err(peer::Error::Unreadable("the queues never become empty".to_owned()))
    }
}

/// The result of `bench backlog`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
struct BacklogReport {
    bench: &'static str,
    version: &'static str,
    debug_build: bool,
    server: String,
    durability: &'static str,
    wire: &'static str,
    users: u32,
    /// Of each user.
    conversations: u32,
    /// In each conversation.
    messages: u32,
    within_seconds: f64,
    /// In all.
    waiting: u64,
    delivered: u64,
    delivered_percent: f64,
    duplicates: u64,
    disorders: u64,
    /// Messages that were for somebody else, or from nowhere.
    strangers: u64,
    /// Users who could not finish.
    failed: u64,
    /// From the scheduled login to the last message.
    sync: Latency,
    messages_per_second: f64,
    cpu_ms_per_message: Option<f64>,
    cores: Option<f64>,
    /// Close to 1: the generator and not the server was the limit.
    generator_cores: Option<f64>,
    resident_bytes_peak: Option<u64>,
    ladder: bool,
    /// Users who came back in each second of the highest step that passed twice.
    capacity_per_second: Option<u32>,
    steps: Vec<Rung>,
    problems: Vec<String>,
}

impl BacklogReport {
    /// This run as a step of a ladder, at which `rate` users came back a second.
    fn rung(&self, rate: u32) -> Rung {
        Rung {
            rate,
            passed: self.is_complete() && self.sync.p99_ms <= P99_MS_MAX,
            per_second: self.messages_per_second,
            p50_ms: self.sync.p50_ms,
            p99_ms: self.sync.p99_ms,
            cpu_ms_per_request: self
                .cpu_ms_per_message
                .map(|ms| ms * self.waiting as f64 / f64::from(self.users)),
        }
    }

    fn is_complete(&self) -> bool {
        let faults = self.duplicates + self.disorders + self.strangers + self.failed;
        faults == 0 && self.delivered == self.waiting
    }

    fn count(&mut self, seen: &Seen, outcome: Result<(), String>) {
        self.delivered += seen.arrived;
        self.strangers += seen.strangers;
        for lane in seen.lanes.values() {
            self.duplicates += lane.duplicates;
            self.disorders += lane.disorders;
        }
        if let Err(problem) = outcome {
            self.failed += 1;
            if self.problems.len() < PROBLEMS_TOLD {
                self.problems.push(problem);
            }
        }
    }
}

impl Report for BacklogReport {
    fn table(&self) -> String {
        let number =
            |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.4}"));
        let mut table = format!(
            "{} users with {} conversations of {} unread messages each log in within {:.1} s, {} door\n\
             server      {}\ndurability  {}\nbuild       {} {}\n\n\
             {:<18}{:>10}{:>10}{:>10}{:>10}{:>10}\n{:<18}{}\n\n\
             {} of {} delivered ({:.3} %), {:.0}/s; {} duplicated, {} out of order, {} strangers, {} users failed\n\
             server CPU {} ms/message ({} cores; the generator {})   memory {} at most\n",
            grouped(self.users.into()),
            grouped(self.conversations.into()),
            grouped(self.messages.into()),
            self.within_seconds,
            self.wire,
            self.server,
            self.durability,
            self.version,
            build(self.debug_build),
            "ms",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "complete sync",
            self.sync.row(),
            grouped(self.delivered),
            grouped(self.waiting),
            self.delivered_percent,
            self.messages_per_second,
            grouped(self.duplicates),
            grouped(self.disorders),
            grouped(self.strangers),
            grouped(self.failed),
            number(self.cpu_ms_per_message),
            number(self.cores),
            number(self.generator_cores),
            self.resident_bytes_peak.map_or_else(|| "unknown".to_owned(), mebibytes),
        );
        table += &ladder_lines(&self.steps);
        if self.ladder {
            let found =
                self.capacity_per_second.map_or_else(|| "none".to_owned(), |rate| grouped(rate.into()));
            table += &format!("capacity {found} users/s\n");
        }
        for problem in &self.problems {
            table += &format!("problem: {problem}\n");
        }
        table += if self.passed() { "PASS: everything was delivered, once and in order\n" } else { "FAIL\n" };
        table
    }

    fn passed(&self) -> bool {
        self.is_complete() && self.ladder == self.capacity_per_second.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_double_or_strange_is_counted() {
        let shape = Shape::Backlog { users: 2, conversations: 2 };
        let mut seen = Seen::of(&shape, 1);
        for (text, at) in [
            (fill::words(2, 0), 5),
            (fill::words(2, 1), 6),
            (fill::words(2, 1), 6),
            (fill::words(3, 1), 9),
            (fill::words(3, 0), 8),
            (fill::words(0, 0), 5),
            ("hello".to_owned(), 5),
        ] {
            seen.look_at(&text, at);
        }
        assert_eq!((seen.arrived, seen.strangers), (4, 2));
        assert_eq!(seen.lanes[&2].duplicates, 1);
        assert_eq!(seen.lanes[&3].disorders, 1);
    }
}
