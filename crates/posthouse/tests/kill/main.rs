//! The server is killed with SIGKILL again and again while clients send over real sockets as fast as it
//! answers: at LeanCloud's door, at Easemob's, and at both at once. `POSTHOUSE_KILLS` sets how often (default
//! 20), `POSTHOUSE_SEED` which moments. They are numbers of acks, so that the tests don't depend on how fast
//! the machine is, or, with `POSTHOUSE_KILL_MS`, times of 200 to so many milliseconds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod both;
mod easemob;
mod leancloud;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthouse_testkit::disk::setting;
use posthouse_testkit::process::{Process, create_app};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The program to kill: `POSTHOUSE_BIN`, or the one that cargo built for this test.
fn program() -> String {
    std::env::var("POSTHOUSE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_posthouse").to_owned())
}

/// Starts the server on `data`.
fn start(data: &Path) -> Process {
    Process::serve(Command::new(program()), data)
}

fn make_app(data: &Path) -> serde_json::Value {
    create_app(Command::new(program()), data)
}

/// Splitmix64: the kills' moments repeat with the seed.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % below
}

/// How often the server is killed.
fn kills() -> u64 {
    setting("POSTHOUSE_KILLS", 20)
}

/// What is told of an ack: who got it, and for which of its messages.
type Ack = (String, u32);

/// Lets all seats talk and kills the server in between, `kills` times, each time after 1 to `acks_max` acks or
/// after the time that is set. Acks are written to a journal that is synced before each kill. Gives the
/// server that came up last, the seats, and how many acks the journal holds.
async fn kill_while_they_talk<S, F>(
    data: &Path,
    kills: u64,
    chance: &mut u64,
    mut server: Process,
    mut seats: Vec<S>,
    acks_max: u64,
    talk: impl Fn(S, &Process, mpsc::Sender<Ack>, Arc<AtomicBool>) -> F,
) -> (Process, Vec<S>, usize)
where
    S: Send + 'static,
    F: Future<Output = S> + Send + 'static,
{
    let path = data.join("acks.journal");
    let mut journal = std::fs::File::create(&path).unwrap();
    let ms_max = setting("POSTHOUSE_KILL_MS", 0);
    for _ in 0..kills {
        let (acks, mut acked) = mpsc::channel(64);
        let stop = Arc::new(AtomicBool::new(false));
        let mut talking = JoinSet::new();
        for seat in seats.drain(..) {
            talking.spawn(talk(seat, &server, acks.clone(), stop.clone()));
        }
        drop(acks);
        let mut write = |(who, number): Ack| writeln!(journal, "{who} {number}").unwrap();
        if ms_max > 0 {
            let moment =
                Instant::now() + Duration::from_millis(200 + draw(chance, ms_max.saturating_sub(200).max(1)));
            while let Ok(ack) = timeout_at(moment, acked.recv()).await {
                write(ack.expect("the clients go on until the server is killed"));
            }
        } else {
            for _ in 0..=draw(chance, acks_max) {
                write(acked.recv().await.expect("the clients go on until the server is killed"));
            }
        }
        server.kill();
        stop.store(true, Ordering::Relaxed);
        acked.close();
        while let Some(ack) = acked.recv().await {
            write(ack);
        }
        journal.sync_data().unwrap();
        while let Some(seat) = talking.join_next().await {
            seats.push(seat.unwrap());
        }
        server = start(data);
    }
    (server, seats, std::fs::read_to_string(path).unwrap().lines().count())
}
