//! The server is killed with SIGKILL again and again while clients send over real sockets, one test
//! for each wire. `POSTHOUSE_KILLS` sets how often (default 20), `POSTHOUSE_SEED` which moments.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod easemob;
mod leancloud;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The program to kill: `POSTHOUSE_BIN`, or the one that cargo built for this test.
fn program() -> String {
    std::env::var("POSTHOUSE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_posthouse").to_owned())
}

/// A server in a process of its own, so that it can be killed.
struct Victim {
    child: Child,
    /// `host:port`.
    address: String,
    /// Kept open: the server still writes to it.
    _stdout: BufReader<ChildStdout>,
}

impl Victim {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(program())
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--log",
                "warn",
                "--data",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("posthouse: ready on http://");
        let address = address.expect("the server says that it is ready").to_owned();
        Self { address, child, _stdout: stdout }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // After `kill` there is nothing left to end, and a failing test must not leave a server behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn create_app(data: &Path) -> serde_json::Value {
    let output = Command::new(program())
        .args(["app", "create", "kill", "--json", "--data"])
        .arg(data)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // Clients here say the next thing as soon as the last is acknowledged.
    let set = ["app", "set", "kill", "preset=unlimited", "--data"];
    assert!(Command::new(program()).args(set).arg(data).output().unwrap().status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Splitmix64: the kills' moments repeat with the seed.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % below
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// How often the server is killed.
fn kills() -> u64 {
    setting("POSTHOUSE_KILLS", 20)
}

/// Lets all seats talk and kills the server in between, again and again, each time after 1 to `acks_max`
/// acks. Gives the server that came up last and the seats.
async fn kill_while_they_talk<S, F>(
    data: &Path,
    mut victim: Victim,
    mut seats: Vec<S>,
    acks_max: u64,
    talk: impl Fn(S, &Victim, mpsc::Sender<()>, Arc<AtomicBool>) -> F,
) -> (Victim, Vec<S>)
where
    S: Send + 'static,
    F: Future<Output = S> + Send + 'static,
{
    let mut chance = setting("POSTHOUSE_SEED", 1);
    for _ in 0..kills() {
        // The moment is a number of acks, so that the test doesn't depend on how fast the machine is.
        let moment = 1 + draw(&mut chance, acks_max);
        let (acks, mut acked) = mpsc::channel(64);
        let stop = Arc::new(AtomicBool::new(false));
        let mut talking = JoinSet::new();
        for seat in seats.drain(..) {
            talking.spawn(talk(seat, &victim, acks.clone(), stop.clone()));
        }
        drop(acks);
        for _ in 0..moment {
            acked.recv().await.expect("the clients go on until the server is killed");
        }
        victim.kill();
        stop.store(true, Ordering::Relaxed);
        acked.close();
        while acked.recv().await.is_some() {}
        while let Some(seat) = talking.join_next().await {
            seats.push(seat.unwrap());
        }
        victim = Victim::start(data);
    }
    (victim, seats)
}
