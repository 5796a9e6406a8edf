//! `posthouse bench`: load over the real LeanCloud socket, with honest clocks and a check of every
//! message.
//!
//! [`pairs`], [`groups`] and [`room`] make clients talk at a fixed rate, [`idle`] holds connections that say
//! nothing, [`kept`] fills a server through the Easemob door and reads lists and history. They measure a
//! running server or one that they start themselves.
//!
//! `logins`, `history`, `lists` and `floor` ask and wait for answers, driven by `requests`; `storm` and
//! `backlog` bring many back at once; `fill` makes the large stores that some of them read. `bench/run` runs
//! all, [`page`] makes docs/performance.md of it.
//!
//! Workloads that send messages share `talk`, which plays all clients on one thread, on the cheap sockets
//! of `lean`. [`schedule`] fixes the load in advance, [`check`] finds loss, duplicates and wrong order,
//! [`ladder`] looks for the capacity, [`report`] prints.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::peer;

mod backlog;
pub mod check;
mod connect;
mod disk;
mod fill;
mod floor;
pub mod groups;
mod history;
mod holder;
mod http;
pub mod idle;
pub mod kept;
pub mod ladder;
mod lean;
mod lists;
mod load;
mod logins;
mod machine;
pub mod page;
pub mod pairs;
pub mod process;
pub mod report;
mod request_report;
mod requests;
pub mod room;
pub mod schedule;
mod server;
mod storm;
mod talk;
mod users;

/// Files that the generator needs besides its sockets.
const OTHER_FILES: u64 = 64;

/// The arguments of `posthouse bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Pairs of clients exchange messages at a fixed rate; every message is checked.
    Pairs(pairs::Args),
    /// Groups talk; every delivery is checked, and the last member's is what counts.
    Groups(groups::Args),
    /// One chat room with many listeners, of whom some come and go and some read slowly.
    Room(room::Args),
    /// Logged-in clients that say nothing, to see what a connection costs.
    Idle(idle::Args),
    /// Lists, history, catching up and one-way deletion through the Easemob door, on a server that is
    /// filled for it.
    Kept(kept::Args),
    /// Clients log in, each on a new connection, as fast as they are let in.
    Logins(logins::Args),
    /// The server is killed and started again while everybody is connected, and all come back at once.
    Storm(storm::Args),
    /// Fill a data directory with conversations and messages, for the workloads that read.
    Fill(fill::Args),
    /// Pages of history on a filled store, warm and cold.
    History(history::Args),
    /// Users who were away get everything that was said meanwhile.
    Backlog(backlog::Args),
    /// Conversation lists over REST on a filled store.
    Lists(lists::Args),
    /// What the WebSocket crate alone can do: an echo server under the same load generator.
    Floor(floor::Args),
    /// What the disk can do: small appends, each forced to it.
    Disk(disk::Args),
    /// What runs the measurements: processor, memory, kernel, file system, version.
    Machine(machine::Args),
    /// Write docs/performance.md and its charts from the results of `bench/run`.
    Page(page::Args),
    /// Holds connections for `idle`, in a process of its own.
    #[command(hide = true)]
    Holder(holder::Args),
}

/// What to measure, and how fast to connect.
#[derive(Clone, Debug, clap::Args)]
pub struct Target {
    /// A running server, as http://host:port (its router is asked) or ws://host:port. Without it,
    /// a server is started for this run, in a process of its own.
    #[arg(long, value_name = "URL", requires = "app_id")]
    pub url: Option<String>,
    /// LeanCloud App ID of the running server's app.
    #[arg(long, value_name = "ID", requires = "url")]
    pub app_id: Option<String>,
    /// LeanCloud App Key; the socket asks for none, so it may be left out.
    #[arg(long, value_name = "KEY", requires = "url")]
    pub app_key: Option<String>,
    /// The running server's process on this machine, to measure its CPU time and memory.
    #[arg(long, value_name = "PID", requires = "url")]
    pub server_pid: Option<u32>,
    /// Where the own server keeps its data; choose the disk you want to measure. Default: a
    /// temporary directory.
    #[arg(id = "own_data", long = "own-data", value_name = "DIR", conflicts_with = "url")]
    pub data: Option<PathBuf>,
    /// Server on CPU 0, load generator on CPU 1: the same as --server-cpu 0 --cpu 1.
    #[arg(long, conflicts_with_all = ["server_cpu", "cpu", "url"])]
    pub pin: bool,
    /// Keep the own server on this CPU (by `taskset`).
    #[arg(long, value_name = "N", conflicts_with = "url")]
    pub server_cpu: Option<u32>,
    /// Keep the load generator on this CPU (by `taskset`).
    #[arg(long, value_name = "N")]
    pub cpu: Option<u32>,
    /// New connections a second while clients come online.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_per_second: u32,
    /// Write the result as one JSON line to FILE instead of below the table; `-` prints only it.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Target {
    /// The CPU that the own server stays on.
    #[must_use]
    pub fn own_server_cpu(&self) -> Option<u32> {
        if self.pin { Some(0) } else { self.server_cpu }
    }

    /// The CPU that the load generator stays on.
    #[must_use]
    pub fn generator_cpu(&self) -> Option<u32> {
        if self.pin { Some(1) } else { self.cpu }
    }
}

/// Why a run failed, or gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something was lost, doubled, out of order, refused or unanswered; the report says what.
    #[error("the run did not pass")]
    Violated,
    /// `--url` without `--app-id`.
    #[error("--url needs --app-id")]
    NoApp,
    /// `--url` with a workload that fills a server.
    #[error("this workload fills a server and needs one of its own: leave --url away")]
    OwnServerOnly,
    /// The own server could not be started.
    #[error("a server could not be started for this run")]
    OwnServer(#[source] std::io::Error),
    /// The own server ended, with what it said.
    #[error("a server could not be started for this run: {0}")]
    OwnServerSaid(String),
    /// A process did not get the CPU it was to have.
    #[error("processes could not be kept on their CPUs, which needs `taskset` of util-linux")]
    NotPinned(#[source] std::io::Error),
    /// No thread for the load.
    #[error("the load generator could not start")]
    NotStarted(#[source] std::io::Error),
    /// More connections than files may be open.
    #[error("{wanted} connections need more open files than the {allowed} allowed; try `ulimit -n {}`", wanted + OTHER_FILES)]
    TooManyConnections {
        /// Connections asked for.
        wanted: u64,
        /// Open files allowed.
        allowed: u64,
    },
    /// A client could not get ready.
    #[error("client {client} could not get ready")]
    NotReady {
        /// Its id.
        client: String,
        /// Why.
        source: peer::Error,
    },
    /// The server could not be found.
    #[error(transparent)]
    Peer(#[from] peer::Error),
    /// The result could not be written, or a file of the run not read or written.
    #[error("the result, or a file of this run, could not be read or written")]
    Output(#[from] std::io::Error),
    /// A directory for `fill` that holds something else.
    #[error("{} is not empty and was not made by `bench fill`: give it a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// A fill that was interrupted.
    #[error("a fill of {} was interrupted, and how much it holds is unknown: delete it and fill a new one", .0.display())]
    Unfinished(PathBuf),
    /// A fill with other numbers.
    #[error("{} was filled with other users, conversations, sizes or another seed: only --messages may grow", .0.display())]
    FilledOtherwise(PathBuf),
    /// A workload that reads a filled store.
    #[error("{} was not made by `posthouse bench fill`, which this workload needs: give it by --own-data", .0.display())]
    NotFilled(PathBuf),
    /// Two conversations would be of the same pair.
    #[error(
        "{users} users do not have {conversations} pairs to spare: take more --users or fewer --conversations"
    )]
    TooFewUsers {
        /// Users asked for.
        users: u32,
        /// Conversations asked for.
        conversations: u32,
    },
    /// The store did otherwise than the fill expects.
    #[error("the store is not as planned: {0}")]
    NotAsPlanned(&'static str),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] posthouse_store::OpenError),
    /// The store refused.
    #[error("the store refused")]
    Store(#[from] posthouse_core::Error),
    /// The app could not be made or found.
    #[error(transparent)]
    App(#[from] crate::apps::AppError),
    /// A certificate for TLS.
    #[error("the certificate {} can't be used: {}", .0.display(), .1)]
    Certificate(PathBuf, String),
    /// A process of the generator.
    #[error("a process of the load generator failed: {0}")]
    Holder(String),
    /// TLS where this client has none.
    #[error("the load generator speaks TLS at the LeanCloud door only")]
    PlainOnly,
    /// A task of the generator failed.
    #[error("a task of the load generator failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs a workload; the result goes to standard output, the progress bar to standard error. Fails
/// with [`Error::Violated`] if the result, which is printed all the same, is not clean.
pub async fn run(args: Args) -> Result<(), Error> {
    process::raise_open_files();
    let mut out = std::io::stdout();
    match args.workload {
        Workload::Pairs(args) => pairs::run(&args, &mut out).await,
        Workload::Groups(args) => groups::run(&args, &mut out).await,
        Workload::Room(args) => room::run(&args, &mut out).await,
        Workload::Idle(args) => idle::run(&args, &mut out).await,
        Workload::Kept(args) => kept::run(&args, &mut out).await,
        Workload::Logins(args) => logins::run(&args, &mut out).await,
        Workload::Storm(args) => storm::run(&args, &mut out).await,
        Workload::Fill(args) => fill::run(&args, &mut out).await,
        Workload::History(args) => history::run(&args, &mut out).await,
        Workload::Backlog(args) => backlog::run(&args, &mut out).await,
        Workload::Lists(args) => lists::run(&args, &mut out).await,
        Workload::Floor(args) => floor::run(&args, &mut out).await,
        Workload::Disk(args) => disk::run(&args, &mut out),
        Workload::Machine(args) => machine::run(&args, &mut out).await,
        Workload::Page(args) => page::run(&args),
        Workload::Holder(args) => holder::run(&args, &mut out).await,
    }
}

/// Refuses a run that would fail half way for want of file descriptors.
fn check_open_files(connections: u32) -> Result<(), Error> {
    let wanted = u64::from(connections);
    match process::open_files_max() {
        Some(allowed) if wanted + OTHER_FILES > allowed => Err(Error::TooManyConnections { wanted, allowed }),
        Some(_) | None => Ok(()),
    }
}

/// A bar on standard error, drawn only when somebody looks.
fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix:>10} [{bar:40}] {pos}/{len} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what);
    bar
}

/// The time between two connections.
fn gap(per_second: u32) -> Duration {
    Duration::from_secs(1) / per_second.max(1)
}
