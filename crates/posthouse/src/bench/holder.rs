//! A part of the connections of [`idle`](super::idle), in a process of its own: one process may not have as many
//! open files as the workload wants connections.
//!
//! It tells on standard output what it does, one line each: `online N` now and then, `ready` when all are
//! there, and after its standard input ended, when it lets go, a last line with an [`Outcome`] in JSON.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use posthouse_leancloud::wire::proto::CommandType;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, interval_at};

use super::connect::Dial;
use super::{Error, check_open_files, gap, report};
use crate::peer::{self, Open, Peer};

/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;
/// A line of progress for so many connections.
const TELL_EVERY: u32 = 50;
/// Logins under way at once.
const PREPARING_MAX: usize = 256;
/// Lines that wait to be read.
const LINES_MAX: usize = 256;

/// The arguments of `posthouse bench holder`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The socket's address.
    #[arg(long)]
    url: String,
    /// The app.
    #[arg(long)]
    app_id: String,
    /// Before the number of each client.
    #[arg(long)]
    prefix: String,
    /// The number of the first client.
    #[arg(long)]
    from: u32,
    /// Connections.
    #[arg(long)]
    count: u32,
    /// New connections a second.
    #[arg(long)]
    per_second: u32,
    /// Between two heartbeats, in seconds.
    #[arg(long)]
    heartbeat: u64,
    /// What to trust over TLS.
    #[arg(long)]
    certificate: Option<PathBuf>,
}

/// What became of the connections.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Ended by the server, or broken.
    pub(super) dropped: u64,
    /// Could not log in.
    pub(super) refused: u64,
    pub(super) problems: Vec<String>,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.refused += other.refused;
        let room = PROBLEMS_TOLD.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }

    fn problem(&mut self, error: &peer::Error) {
        if self.problems.len() < PROBLEMS_TOLD {
            self.problems.push(report::chain(error));
        }
    }
}

/// Runs the process.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.count)?;
    let dial = Dial::new(&args.url, args.certificate.as_deref())?;
    let (end, ended) = watch::channel(());
    // A thread that waits for the end of standard input; the process ends with it or without it.
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        if std::io::stdin().read_to_end(&mut rest).is_ok() {
            drop(end);
        }
    });
    let heartbeat = Duration::from_secs(args.heartbeat.max(1));
    let mut outcome = Outcome::default();
    let mut pace = interval(gap(args.per_second));
    let (mut preparing, mut holding) = (JoinSet::new(), JoinSet::new());
    let (mut next, mut online) = (0, 0_u32);
    while next < args.count || !preparing.is_empty() {
        tokio::select! {
            _ = pace.tick(), if next < args.count && preparing.len() < PREPARING_MAX => {
                let (dial, app_id, number) = (dial.clone(), args.app_id.clone(), args.from + next);
                let client = format!("{}-{number}", args.prefix);
                preparing.spawn(async move {
                    let mut peer = dial.peer(number).await?;
                    peer.open(&app_id, &client, Open::default()).await?;
                    Ok::<_, peer::Error>((peer, number))
                });
                next += 1;
            }
            Some(ready) = preparing.join_next() => match ready? {
                Ok((peer, number)) => {
                    // Spread over the interval, so that a short look sees its share of heartbeats.
                    let first = heartbeat.mul_f64(f64::from(number % 1_000) / 1_000.0);
                    holding.spawn(hold(peer, first, heartbeat, ended.clone()));
                    online += 1;
                    if online.is_multiple_of(TELL_EVERY) {
                        writeln!(out, "online {online}")?;
                        out.flush()?;
                    }
                }
                Err(error) => {
                    outcome.refused += 1;
                    outcome.problem(&error);
                }
            }
        }
    }
    drop(ended);
    writeln!(out, "online {online}\nready")?;
    out.flush()?;
    while let Some(ended) = holding.join_next().await {
        if let Err(error) = ended? {
            outcome.dropped += 1;
            outcome.problem(&error);
        }
    }
    writeln!(out, "{}", serde_json::to_string(&outcome).map_err(std::io::Error::from)?)?;
    Ok(out.flush()?)
}

/// Keeps a connection until the other end of `end` is dropped.
async fn hold(
    mut peer: Peer,
    first: Duration,
    every: Duration,
    mut end: watch::Receiver<()>,
) -> Result<(), peer::Error> {
    let mut heartbeat = interval_at(Instant::now() + first, every);
    loop {
        tokio::select! {
            // An error means that the sender is gone: the time is over.
            _ = end.changed() => return peer.disconnect().await,
            _ = heartbeat.tick() => peer.send(&peer::command(CommandType::Echo, None)).await?,
            received = peer.receive() => drop(received?),
        }
    }
}

/// What a process says.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// So many are connected.
    Online(u32),
    /// All are.
    Ready,
    /// It has let go.
    Done(Outcome),
    /// It ended without a word, or said something else.
    Lost(String),
}

fn hear(line: &str) -> Said {
    match (line, line.strip_prefix("online ").map(str::parse)) {
        (_, Some(Ok(count))) => Said::Online(count),
        ("ready", _) => Said::Ready,
        (other, _) => match serde_json::from_str(other) {
            Ok(outcome) => Said::Done(outcome),
            Err(_) => Said::Lost(other.to_owned()),
        },
    }
}

/// Tells what a process says until its last word, or that it ended without one. None if nobody listens any more.
fn listen(process: impl Read, mut tell: impl FnMut(Said) -> bool) -> Option<()> {
    for line in BufReader::new(process).lines().map_while(Result::ok) {
        let said = hear(&line);
        let last = matches!(said, Said::Done(_) | Said::Lost(_));
        tell(said).then_some(())?;
        // What ends after its last word is not lost, though others of the run still speak.
        if last {
            return Some(());
        }
    }
    tell(Said::Lost("a process of the load generator has ended".to_owned())).then_some(())
}

/// The processes of a run. Dropped, they end.
pub(super) struct Holders {
    children: Vec<Child>,
    inputs: Vec<ChildStdin>,
    said: mpsc::Receiver<(usize, Said)>,
}

/// What all processes of a run share.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) url: String,
    pub(super) app_id: String,
    pub(super) prefix: String,
    pub(super) clients: u32,
    pub(super) processes: u32,
    pub(super) per_second: u32,
    pub(super) heartbeat_seconds: u64,
    pub(super) certificate: Option<PathBuf>,
}

impl Holders {
    /// Starts them; each begins at once.
    pub(super) fn start(load: &Load) -> Result<Self, Error> {
        let program = std::env::current_exe()?;
        let (tell, said) = mpsc::channel(LINES_MAX);
        let mut holders = Self { children: Vec::new(), inputs: Vec::new(), said };
        for (number, (from, count)) in shares(load.clients, load.processes).into_iter().enumerate() {
            let mut command = Command::new(&program);
            command.args(["bench", "holder", "--url", &load.url, "--app-id", &load.app_id]);
            command.args([
                "--prefix",
                &load.prefix,
                "--from",
                &from.to_string(),
                "--count",
                &count.to_string(),
            ]);
            command.args(["--per-second", &(load.per_second / load.processes).max(1).to_string()]);
            command.args(["--heartbeat", &load.heartbeat_seconds.to_string()]);
            if let Some(certificate) = &load.certificate {
                command.arg("--certificate").arg(certificate);
            }
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            holders.inputs.extend(child.stdin.take());
            let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("no standard output"))?;
            holders.children.push(child);
            let tell = tell.clone();
            std::thread::spawn(move || {
                if listen(stdout, |said| tell.blocking_send((number, said)).is_ok()).is_none() {
                    tracing::debug!("nobody listens any more");
                }
            });
        }
        Ok(holders)
    }

    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    /// The next thing that one of them says.
    pub(super) async fn next(&mut self) -> Option<(usize, Said)> {
        self.said.recv().await
    }

    /// Lets all connections go.
    pub(super) fn let_go(&mut self) {
        self.inputs.clear();
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.inputs.clear();
        for child in &mut self.children {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                tracing::warn!(%error, "a process of the load generator could not be stopped");
            }
        }
    }
}

/// First number and count for each process; none is empty.
fn shares(clients: u32, processes: u32) -> Vec<(u32, u32)> {
    let processes = processes.clamp(1, clients.max(1));
    let (each, more) = (clients / processes, clients % processes);
    let mut from = 0;
    (0..processes)
        .map(|number| {
            let count = each + u32::from(number < more);
            from += count;
            (from - count, count)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clients_are_shared_out() {
        assert_eq!(shares(10, 3), [(0, 4), (4, 3), (7, 3)]);
        assert_eq!(shares(2, 5), [(0, 1), (1, 1)]);
        assert_eq!(shares(5, 0), [(0, 5)]);
    }

    #[test]
    fn what_a_process_says_is_understood() {
        assert_eq!(hear("online 50"), Said::Online(50));
        assert_eq!(hear("ready"), Said::Ready);
        let outcome = Outcome { dropped: 1, refused: 2, problems: vec!["x".to_owned()] };
        assert_eq!(hear(&serde_json::to_string(&outcome).unwrap_or_default()), Said::Done(outcome));
        assert_eq!(hear("what?"), Said::Lost("what?".to_owned()));
    }

    #[test]
    fn a_process_that_ends_after_its_last_word_is_not_lost() -> Result<(), serde_json::Error> {
        let told = |process: &str| {
            let mut told = Vec::new();
            let listening = listen(process.as_bytes(), |said| {
                told.push(said);
                true
            });
            assert_eq!(listening, Some(()));
            told
        };
        let done = serde_json::to_string(&Outcome::default())?;
        assert_eq!(told(&format!("ready\n{done}\n")), [Said::Ready, Said::Done(Outcome::default())]);
        assert!(matches!(&told("ready\n")[..], [Said::Ready, Said::Lost(_)]));
        assert_eq!(listen(&b"ready\n"[..], |_| false), None);
        Ok(())
    }
}
