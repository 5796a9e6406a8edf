//! Workload B4: logged-in connections that say nothing but the SDK's heartbeat. What does one cost?
//!
//! The connections are held by [processes of their own](super::holder), from several loopback addresses, so that
//! neither open files nor ports end the run before the server does.

use std::io::Write;
use std::time::Duration;

use posthouse_core::time::Chance as _;
use tokio::time::{Instant, sleep};

use super::holder::{Holders, Load, Outcome, Said};
use super::process::{self, KernelBytes};
use super::report::{self, IdleReport};
use super::server::Server;
use super::{Error, OTHER_FILES, Target, progress};
use crate::adapter::SystemChance;

/// Between the end of the last connection and the look at what is left.
const AFTERGLOW: Duration = Duration::from_secs(2);
/// Connections that one process holds, unless told otherwise.
const PER_PROCESS: u32 = 10_000;
/// Files that the server needs besides its sockets.
const SERVER_FILES: u64 = 256;

/// The arguments of `posthouse bench idle`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Connections, each with one logged-in client; `max` is as many as the limits of open files allow.
    #[arg(long, alias = "idle", value_name = "N", default_value = "10000", value_parser = parse_clients)]
    clients: Clients,
    /// How long they are held once all are there.
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// Between two heartbeats of a client; the JavaScript SDK's are 180 seconds apart.
    #[arg(long, value_name = "S", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    heartbeat: u64,
    /// Processes that hold the connections; one for each 10,000 unless told otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    /// Over TLS, with a certificate made for this run.
    #[arg(long, conflicts_with = "url")]
    tls: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clients {
    Count(u32),
    Max,
}

fn parse_clients(text: &str) -> Result<Clients, String> {
    match text {
        "max" => Ok(Clients::Max),
        _ => text
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .map(Clients::Count)
            .ok_or_else(|| "a whole number above 0, or `max`".to_owned()),
    }
}

/// How many connections a server that may open `files` can have.
fn clients_max(files: Option<u64>) -> u32 {
    files.map_or(PER_PROCESS, |files| u32::try_from(files.saturating_sub(SERVER_FILES)).unwrap_or(u32::MAX))
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    // The own server and the holders inherit this process' limit.
    let allowed = process::open_files_max();
    let clients = match args.clients {
        Clients::Count(count) => count,
        Clients::Max => clients_max(allowed),
    };
    if args.target.url.is_none()
        && let Some(allowed) = allowed
        && u64::from(clients) + OTHER_FILES > allowed
    {
        return Err(Error::TooManyConnections { wanted: clients.into(), allowed });
    }
    let server =
        if args.tls { Server::own(&args.target, true).await? } else { Server::find(&args.target).await? };
    let (before, kernel_before) = (server.usage(), process::kernel_bytes());
    let processes = args.processes.unwrap_or_else(|| clients.div_ceil(PER_PROCESS));

    let bar = progress(u64::from(clients), "connecting");
    let started = Instant::now();
    let mut holders = Holders::start(&Load {
        url: server.url.clone(),
        app_id: server.app_id.clone(),
        prefix: format!("idle-{:08x}", SystemChance.bits() >> 32),
        clients,
        processes,
        per_second: args.target.connections_per_second,
        heartbeat_seconds: args.heartbeat,
        certificate: server.certificate().map(|certificate| certificate.chain.clone()),
    })?;
    let mut outcome = Outcome::default();
    let mut online = vec![0; holders.len()];
    let mut ready = 0;
    while ready < holders.len() {
        match holders.next().await {
            Some((number, Said::Online(count))) => {
                online[number] = count;
                bar.set_position(online.iter().copied().map(u64::from).sum());
            }
            Some((_, Said::Ready)) => ready += 1,
            Some((_, Said::Done(_))) | None => return Err(Error::Holder("it let go too early".to_owned())),
            Some((_, Said::Lost(words))) => return Err(Error::Holder(words)),
        }
    }
    let connected_in = started.elapsed();
    bar.finish_and_clear();

    let settled = server.usage();
    let bar = progress(args.seconds, "holding");
    for _ in 0..args.seconds {
        sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (held, kernel_held) = (server.usage(), process::kernel_bytes());

    holders.let_go();
    let mut done = 0;
    while done < holders.len() {
        match holders.next().await {
            Some((_, Said::Done(part))) => {
                outcome.add(part);
                done += 1;
            }
            Some((_, Said::Lost(words))) => return Err(Error::Holder(words)),
            Some((_, Said::Online(_) | Said::Ready)) => {}
            None => return Err(Error::Holder("it ended without a word".to_owned())),
        }
    }
    drop(holders);
    sleep(AFTERGLOW).await;
    let left = server.usage();

    let connected: u32 = online.iter().sum();
    let each = |bytes: u64| bytes as f64 / f64::from(connected.max(1));
    let kernel = |of: fn(KernelBytes) -> u64| {
        let (before, held) = kernel_before.zip(kernel_held)?;
        Some(each(of(held).saturating_sub(of(before))))
    };
    let resident = |usage: Option<process::Usage>| usage.map(|usage| usage.resident_bytes);
    let result = IdleReport {
        bench: "idle",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        server: server.description.clone(),
        own_server: server.is_own(),
        tls: args.tls,
        clients,
        connected,
        processes,
        heartbeat_seconds: args.heartbeat,
        seconds: args.seconds,
        ready_in_ms: server.ready_in.map(|took| took.as_secs_f64() * 1_000.0),
        connected_in_seconds: connected_in.as_secs_f64(),
        resident_bytes_before: resident(before),
        resident_bytes_settled: resident(settled),
        resident_bytes_held: resident(held),
        resident_bytes_after: resident(left),
        resident_bytes_per_connection: before
            .zip(held)
            .map(|(before, held)| each(held.resident_bytes.saturating_sub(before.resident_bytes))),
        tcp_buffer_bytes_per_connection: kernel(|bytes| bytes.tcp_buffers),
        slab_bytes_per_connection: kernel(|bytes| bytes.slab),
        cpu_us_per_second_per_connection: settled
            .zip(held)
            .filter(|_| args.seconds > 0)
            .map(|(settled, held)| each((held.cpu_ms - settled.cpu_ms) * 1_000) / args.seconds as f64),
        dropped: outcome.dropped,
        refused: outcome.refused,
        problems: outcome.problems,
    };
    report::publish(&result, args.target.json.as_deref(), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limits_allow_leaves_room_for_the_servers_own_files() {
        assert_eq!(clients_max(Some(20_000)), 19_744);
        assert_eq!(clients_max(Some(10)), 0);
        assert_eq!(clients_max(None), 10_000);
        assert_eq!(parse_clients("max"), Ok(Clients::Max));
        assert_eq!(parse_clients("7"), Ok(Clients::Count(7)));
        assert!(parse_clients("0").is_err() && parse_clients("many").is_err());
    }
}
