//! Workload B5, second half: the server is killed (`kill -9`) while everybody is connected, and started
//! again. All come back within the jitter of their SDK and each asks at once for its conversations, as apps
//! do on reconnecting. How long until nearly all are back, and what does the server need for it?

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::ConvCommand;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout_at};

use super::fill::{self, Filled, Shape};
use super::lean::Wire;
use super::logins::{Crowd, Line};
use super::report::{self, Latency, Report, build, grouped, mebibytes};
use super::requests::{histogram, record};
use super::schedule::Dice;
use super::server::Server;
use super::{Error, Target, check_open_files, gap, progress};
use crate::adapter::SystemChance;
use crate::peer;

/// A client that was refused tries again after so long, at least and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1_500));
/// Who is not back after so long has failed.
const BACK_TIME_MAX: Duration = Duration::from_secs(120);
/// Logins under way at once before the storm.
const PREPARING_MAX: usize = 256;
/// Conversations that an SDK asks for first.
const FIRST_CONVERSATIONS: i32 = 10;
/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;

/// The arguments of `posthouse bench storm`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Which door.
    #[arg(long, value_enum, default_value_t = Wire::Leancloud)]
    wire: Wire,
    /// Connected clients. On a filled store (--own-data) they are its users, as many as there are.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Within how many seconds they come back, evenly spread.
    #[arg(long, value_name = "S", default_value_t = 5)]
    jitter: u64,
    /// Repeats the spread of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What one client saw.
#[derive(Debug)]
struct Return {
    /// From the kill until it was logged in and had its list; `None` if that never was.
    back: Option<Duration>,
    login: Option<Duration>,
    list: Option<Duration>,
    attempts: u64,
    refused: u64,
    problem: Option<String>,
}

/// Runs the workload. Needs a server of its own, because it kills it.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let mut server = Server::own(&args.target, false).await?;
    let filled = server.data().map(Filled::read).transpose()?.flatten();
    let crowd = match filled.as_ref().map(|filled| &filled.shape) {
        Some(Shape::Mesh { users, .. } | Shape::Backlog { users, .. }) => {
            let names = (0..args.clients.min(*users)).map(fill::user).collect();
            Crowd::of(&server, args.wire, names).await?
        }
        None => Crowd::gather(&server, args.wire, args.clients).await?,
    };
    let crowd = Arc::new(crowd);
    let clients = u32::try_from(crowd.users.len()).unwrap_or(u32::MAX);
    check_open_files(clients)?;
    let seed = args.seed.unwrap_or_else(|| SystemChance.bits() >> 11);

    // Everybody comes online.
    let bar = progress(clients.into(), "connecting");
    let (kill, killed) = watch::channel(None);
    let (tell, mut told) = mpsc::channel(PREPARING_MAX);
    let places = Arc::new(Semaphore::new(PREPARING_MAX));
    let mut storming = JoinSet::new();
    let mut pace = interval(gap(args.target.connections_per_second));
    let mut dice = Dice(seed);
    for number in 0..clients {
        pace.tick().await;
        let place = Arc::clone(&places).acquire_owned().await.map_err(|_| Error::NotAsPlanned("closed"))?;
        let jitter = Duration::from_secs(args.jitter).mul_f64(dice.fraction());
        let client = Client { crowd: Arc::clone(&crowd), number, clients, dice: Dice(dice.bits()) };
        let (tell, killed) = (tell.clone(), killed.clone());
        storming.spawn(async move {
            let line = client.login(0).await?;
            drop(place);
            if tell.send(Told::Online).await.is_err() {
                tracing::debug!("the run is over");
            }
            Ok::<_, peer::Error>(client.weather(line, killed, jitter, tell).await)
        });
        while let Ok(Told::Online) = told.try_recv() {
            bar.inc(1);
        }
    }
    drop(tell);
    while bar.position() < clients.into() {
        tokio::select! {
            said = told.recv() => match said {
                Some(_) => bar.inc(1),
                None => return Err(Error::NotAsPlanned("a client left before the storm")),
            },
            Some(ended) = storming.join_next() => {
                ended??;
                return Err(Error::NotAsPlanned("a client left before the storm"));
            }
        }
    }
    bar.finish_and_clear();
    let settled = server.usage();

    // The storm.
    let bar = progress(clients.into(), "coming back");
    let killed_at = Instant::now();
    kill.send_replace(Some(killed_at));
    server.kill()?;
    server.start_again().await?;
    let ready_in = server.ready_in.unwrap_or_default();
    let mut returns = Vec::new();
    loop {
        tokio::select! {
            said = told.recv() => match said {
                Some(_) => bar.inc(1),
                None => break,
            },
            Some(done) = storming.join_next() => returns.push(done??),
        }
    }
    bar.finish_and_clear();
    let after = server.usage();
    // Only now, so that the memory above is that of all being there.
    drop(kill);
    while let Some(done) = storming.join_next().await {
        returns.push(done??);
    }

    let mut result = StormReport {
        bench: "storm",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        server: server.description.clone(),
        durability: report::DURABILITY,
        wire: args.wire.name(),
        clients,
        jitter_seconds: args.jitter,
        conversations: filled.map_or(0, |filled| filled.shape.conversations()),
        seed,
        ready_in_ms: ready_in.as_secs_f64() * 1_000.0,
        back_50_seconds: None,
        back_99_seconds: None,
        back_all_seconds: None,
        attempts: 0,
        refused: 0,
        refused_percent: 0.0,
        failed: 0,
        login: Latency::of(&histogram()),
        list: Latency::of(&histogram()),
        resident_bytes_before: settled.map(|usage| usage.resident_bytes),
        resident_bytes_peak: after.map(|usage| usage.resident_bytes_peak),
        cpu_ms_per_return: after.map(|usage| usage.cpu_ms as f64 / f64::from(clients)),
        problems: Vec::new(),
    };
    result.count(&returns);
    report::publish(&result, args.target.json.as_deref(), out)
}

/// What clients tell on the way.
#[derive(Debug)]
enum Told {
    Online,
    Back,
}

struct Client {
    crowd: Arc<Crowd>,
    number: u32,
    clients: u32,
    dice: Dice,
}

impl Client {
    /// Each attempt from a port that the ones before did not use.
    async fn login(&self, attempt: u32) -> Result<Line, peer::Error> {
        let connection = self.number.wrapping_add(attempt.wrapping_mul(self.clients));
        self.crowd.login(&self.crowd.users[self.number as usize], connection).await
    }

    /// Stays until the connection breaks, and comes back.
    async fn weather(
        mut self,
        mut line: Line,
        mut kill: watch::Receiver<Option<Instant>>,
        jitter: Duration,
        tell: mpsc::Sender<Told>,
    ) -> Return {
        let mut seen = Return { back: None, login: None, list: None, attempts: 0, refused: 0, problem: None };
        let broke = line.until_broken().await;
        drop(line);
        let Ok(killed_at) = kill.wait_for(Option::is_some).await.map(|at| at.unwrap_or_else(Instant::now))
        else {
            seen.problem = Some(format!("the connection broke before the storm: {broke}"));
            return seen;
        };
        sleep_until(killed_at + jitter).await;
        let deadline = killed_at + BACK_TIME_MAX;
        let mut line = loop {
            seen.attempts += 1;
            let began = Instant::now();
            let attempt = u32::try_from(seen.attempts).unwrap_or(u32::MAX);
            match timeout_at(deadline, self.login(attempt)).await {
                Ok(Ok(line)) => {
                    seen.login = Some(began.elapsed());
                    break line;
                }
                Ok(Err(error)) => {
                    seen.refused += 1;
                    seen.problem = Some(report::chain(&error));
                    sleep(BACKOFF.0 + (BACKOFF.1 - BACKOFF.0).mul_f64(self.dice.fraction())).await;
                }
                Err(_) => return seen,
            }
        };
        let began = Instant::now();
        match line.list().await {
            Ok(()) => {
                seen.list = Some(began.elapsed());
                seen.back = Some(killed_at.elapsed());
                seen.problem = None;
            }
            Err(error) => seen.problem = Some(report::chain(&error)),
        }
        if tell.send(Told::Back).await.is_err() {
            tracing::debug!("the run is over");
        }
        drop(tell);
        // Held until all are back; an error says that it is over.
        while kill.changed().await.is_ok() {}
        if let Err(error) = line.leave().await {
            seen.problem.get_or_insert_with(|| report::chain(&error));
        }
        seen
    }
}

impl Line {
    /// Reads until the connection ends; why it did.
    async fn until_broken(&mut self) -> String {
        loop {
            let received = match self {
                Self::Leancloud(peer, _) => peer.receive().await.map(drop),
                Self::Easemob(device) => device.receive().await.map(drop),
            };
            if let Err(error) = received {
                return report::chain(&error);
            }
        }
    }

    /// What an app asks for when it is back: its newest conversations, or its queues.
    async fn list(&mut self) -> Result<(), peer::Error> {
        match self {
            Self::Leancloud(peer, client) => {
                let wish = ConvCommand {
                    r#where: Some(posthouse_leancloud::wire::proto::JsonObjectMessage {
                        data: Some(serde_json::json!({ "m": client }).to_string()),
                    }),
                    sort: Some("-lm".to_owned()),
                    limit: Some(FIRST_CONVERSATIONS),
                    flag: Some(0),
                    ..ConvCommand::default()
                };
                peer.query(client, wish).await.map(drop)
            }
            Self::Easemob(device) => device.unread().await.map(drop),
        }
    }
}

/// The result of `bench storm`. Times count from the kill.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
struct StormReport {
    bench: &'static str,
    version: &'static str,
    debug_build: bool,
    server: String,
    durability: &'static str,
    wire: &'static str,
    clients: u32,
    jitter_seconds: u64,
    /// In the store.
    conversations: u32,
    seed: u64,
    /// From the start of the new process to its first answer.
    ready_in_ms: f64,
    back_50_seconds: Option<f64>,
    back_99_seconds: Option<f64>,
    back_all_seconds: Option<f64>,
    attempts: u64,
    refused: u64,
    refused_percent: f64,
    /// Clients that never came back.
    failed: u64,
    login: Latency,
    list: Latency,
    resident_bytes_before: Option<u64>,
    /// Of the new process.
    resident_bytes_peak: Option<u64>,
    cpu_ms_per_return: Option<f64>,
    problems: Vec<String>,
}

impl StormReport {
    fn count(&mut self, returns: &[Return]) {
        let (mut logins, mut lists): (Histogram<u64>, Histogram<u64>) = (histogram(), histogram());
        let mut back: Vec<Duration> = Vec::new();
        for seen in returns {
            self.attempts += seen.attempts;
            self.refused += seen.refused;
            back.extend(seen.back);
            for (times, took) in [(&mut logins, seen.login), (&mut lists, seen.list)] {
                if let Some(took) = took {
                    record(times, took);
                }
            }
            if let Some(problem) = &seen.problem
                && self.problems.len() < PROBLEMS_TOLD
            {
                self.problems.push(problem.clone());
            }
        }
        back.sort_unstable();
        let missing = u64::from(self.clients) - back.len() as u64;
        self.failed = missing;
        let at = |share| share_of(&back, self.clients as usize, share).map(|at| at.as_secs_f64());
        (self.back_50_seconds, self.back_99_seconds, self.back_all_seconds) = (at(50), at(99), at(100));
        self.refused_percent = self.refused as f64 * 100.0 / self.attempts.max(1) as f64;
        self.login = Latency::of(&logins);
        self.list = Latency::of(&lists);
    }
}

/// When so many percent of `all` were back; `None` if they never were.
fn share_of(sorted: &[Duration], all: usize, percent: usize) -> Option<Duration> {
    sorted.get((all * percent).div_ceil(100).checked_sub(1)?).copied()
}

impl Report for StormReport {
    fn table(&self) -> String {
        let seconds = |at: Option<f64>| at.map_or_else(|| "never".to_owned(), |at| format!("{at:.2} s"));
        let memory = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), mebibytes);
        let mut table = format!(
            "{} clients come back through the {} door within {} s after kill -9, seed {}\n\
             server      {}\nbuild       {} {}\n\n\
             server ready again after {:.0} ms\n\
             back: half after {}, 99 % after {}, all after {}\n\
             {} attempts, {} refused ({:.2} %), {} never came back\n\
             login p50 {:.1} p99 {:.1} ms   list p50 {:.1} p99 {:.1} ms\n\
             memory {} before, {} at most after   CPU {} ms a client\n",
            grouped(self.clients.into()),
            self.wire,
            self.jitter_seconds,
            self.seed,
            self.server,
            self.version,
            build(self.debug_build),
            self.ready_in_ms,
            seconds(self.back_50_seconds),
            seconds(self.back_99_seconds),
            seconds(self.back_all_seconds),
            grouped(self.attempts),
            grouped(self.refused),
            self.refused_percent,
            grouped(self.failed),
            self.login.p50_ms,
            self.login.p99_ms,
            self.list.p50_ms,
            self.list.p99_ms,
            memory(self.resident_bytes_before),
            memory(self.resident_bytes_peak),
            self.cpu_ms_per_return.map_or_else(|| "unknown".to_owned(), |ms| format!("{ms:.2}")),
        );
        for problem in &self.problems {
            table += &format!("problem: {problem}\n");
        }
        table += if self.passed() { "PASS: everybody is back\n" } else { "FAIL\n" };
        table
    }

    fn passed(&self) -> bool {
        self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_those_who_never_came() {
        let back: Vec<Duration> = (1..=98).map(Duration::from_secs).collect();
        assert_eq!(share_of(&back, 100, 50), Some(Duration::from_secs(50)));
        assert_eq!(share_of(&back, 100, 98), Some(Duration::from_secs(98)));
        assert_eq!(share_of(&back, 100, 99), None);
        assert_eq!(share_of(&[], 0, 99), None);
    }
}
