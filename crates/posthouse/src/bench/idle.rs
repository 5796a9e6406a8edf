//! Workload B4: logged-in connections that say nothing but the SDK's heartbeat. What does one cost?

use std::io::Write;
use std::time::Duration;

use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::CommandType;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, interval_at, sleep};

use super::report::{self, IdleReport};
use super::server::Server;
use super::{Error, Target, check_open_files, gap, progress};
use crate::adapter::SystemChance;
use crate::peer::{self, Open, Peer};

/// The JavaScript SDK's heartbeat.
const ECHO_EVERY: Duration = Duration::from_secs(180);
/// Between the end of the last connection and the look at what is left.
const AFTERGLOW: Duration = Duration::from_secs(2);
/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;

/// The arguments of `posthouse bench idle`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Connections, each with one logged-in client.
    #[arg(long, alias = "idle", value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// How long they are held once all are there.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.clients)?;
    let server = Server::find(&args.target).await?;
    let before = server.usage();
    let run = u32::try_from(SystemChance.bits() >> 32).expect("32 bits are left");

    let bar = progress(u64::from(args.clients), "connecting");
    let started = Instant::now();
    let (end, ended) = watch::channel(());
    let mut pace = interval(gap(args.target.connections_per_second));
    let mut preparing = JoinSet::new();
    let mut holding = JoinSet::new();
    let mut next = 0;
    while next < args.clients || !preparing.is_empty() {
        tokio::select! {
            _ = pace.tick(), if next < args.clients => {
                let place = server.url.clone();
                let app_id = server.app_id.clone();
                preparing.spawn(async move { online(&place, &app_id, &format!("idle-{run:08x}-{next}")).await });
                next += 1;
            }
            Some(peer) = preparing.join_next() => {
                holding.spawn(hold(peer??, ended.clone()));
                bar.inc(1);
            }
        }
    }
    drop(ended);
    let connected_in = started.elapsed();
    bar.finish_and_clear();

    let settled = server.usage();
    let bar = progress(args.seconds, "holding");
    for _ in 0..args.seconds {
        sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let held = server.usage();

    drop(end);
    let (mut dropped, mut problems) = (0_u64, Vec::new());
    while let Some(ended) = holding.join_next().await {
        if let Err(error) = ended? {
            dropped += 1;
            if problems.len() < PROBLEMS_TOLD {
                problems.push(report::chain(&error));
            }
        }
    }
    sleep(AFTERGLOW).await;
    let left = server.usage();

    let resident = |usage: Option<super::process::Usage>| usage.map(|usage| usage.resident_bytes);
    let result = IdleReport {
        bench: "idle",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        server: server.description.clone(),
        own_server: server.is_own(),
        clients: args.clients,
        seconds: args.seconds,
        connected_in_seconds: connected_in.as_secs_f64(),
        resident_bytes_before: resident(before),
        resident_bytes_settled: resident(settled),
        resident_bytes_held: resident(held),
        resident_bytes_after: resident(left),
        resident_bytes_per_connection: before.zip(held).map(|(before, held)| {
            held.resident_bytes.saturating_sub(before.resident_bytes) as f64 / f64::from(args.clients)
        }),
        cpu_us_per_second_per_connection: settled.zip(held).filter(|_| args.seconds > 0).map(
            |(settled, held)| {
                (held.cpu_ms - settled.cpu_ms) as f64 * 1_000.0
                    / args.seconds as f64
                    / f64::from(args.clients)
            },
        ),
        dropped,
        problems,
    };
    report::publish(&result, args.target.json.as_deref(), out)
}

async fn online(url: &str, app_id: &str, client: &str) -> Result<Peer, Error> {
    let not_ready = |source| Error::NotReady { client: client.to_owned(), source };
    let mut peer = Peer::connect(url, peer::BINARY).await.map_err(not_ready)?;
    peer.open(app_id, client, Open::default()).await.map_err(not_ready)?;
    Ok(peer)
}

/// Keeps a connection until the other end of `end` is dropped.
async fn hold(mut peer: Peer, mut end: watch::Receiver<()>) -> Result<(), peer::Error> {
    let mut heartbeat = interval_at(Instant::now() + ECHO_EVERY, ECHO_EVERY);
    loop {
        tokio::select! {
            // An error means that the sender is gone: the time is over.
            _ = end.changed() => return peer.disconnect().await,
            _ = heartbeat.tick() => peer.send(&peer::command(CommandType::Echo, None)).await?,
            received = peer.receive() => drop(received?),
        }
    }
}
