//! Floods beside others who must not notice, over real sockets: what is measured in time runs alone, in a
//! program of its own. `docs/reliability.md` says what is promised.
//!
//! `POSTHOUSE_SOAK_SECONDS` makes the floods longer, `POSTHOUSE_FLOODERS` makes them more.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

mod guessing;
mod sending;
#[path = "../easemob/stage.rs"]
#[allow(dead_code, reason = "the tests of the Easemob wire use the rest of it")]
mod stage;

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits until no other flood is measured.
async fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// How long a flood lasts, unless told otherwise.
fn seconds_or(default: u64) -> Duration {
    let seconds = std::env::var("POSTHOUSE_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.map_or(default, |text| text.parse().expect("a number of seconds")))
}

/// The longest of 99 in a hundred.
fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}
