//! A deterministic simulation of the whole server: both doors, the domain and the store, with clients
//! that speak the real wires, on a clock and a network that only move when they are told to.
//!
//! A *plan* is drawn from a seed ([`plan`]): who connects, says, reads, takes back, is cut off, is slow,
//! when time passes and when the server dies. The *world* carries it out one step at a time, and the seed
//! decides each step too, so a seed replays exactly. The *model* knows what was committed and compares it
//! with everything that clients are answered, pushed and shown; the first broken promise ends the run.
//!
//! Start at [`run`]. What fails is thinned out by [`shrink`] and printed as a plan that a person can read.

mod acts;
mod device;
mod easemob;
mod leancloud;
mod model;
mod pipe;
pub mod plan;
mod settle;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use device::Door;
pub use model::Broken;
use plan::Step;
pub use world::Cast;
use world::World;

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Steps of the world.
    pub steps: u64,
    /// What was committed.
    pub commits: u64,
    /// Messages that clients wanted to send.
    pub messages: u64,
    /// Messages that were sent again after their answer and got the same one.
    pub repeated: u64,
    /// Messages that were refused, for good reasons.
    pub refused: u64,
    /// Recalls.
    pub recalled: u64,
    /// Connections that the server ended: of slow readers, replaced devices and long silences.
    pub thrown_out: u64,
    /// Frames that clients took.
    pub frames: u64,
    /// Ends of the server.
    pub restarts: u64,
    /// A fingerprint of every choice and every byte that clients took.
    pub trace: u64,
}

impl Tally {
    /// Takes in another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.messages += other.messages;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.recalled += other.recalled;
        self.thrown_out += other.thrown_out;
        self.frames += other.frames;
        self.restarts += other.restarts;
        self.trace ^= other.trace;
    }
}

/// Four people of the LeanCloud door and three of Easemob's, two of them with two devices.
#[must_use]
pub fn usual_cast() -> Cast {
    let person = |name: &str, door, devices: &[&str]| {
        (name.to_owned(), door, devices.iter().map(|device| (*device).to_owned()).collect())
    };
    vec![
        person("tom", Door::LeanCloud, &["phone", "tablet"]),
        person("jerry", Door::LeanCloud, &["phone"]),
        person("spike", Door::LeanCloud, &["phone"]),
        person("nibbles", Door::LeanCloud, &["phone"]),
        person("alice", Door::Easemob, &["webim_web_1", "ios_1"]),
        person("bob", Door::Easemob, &["webim_web_2"]),
        person("carol", Door::Easemob, &["android_3"]),
    ]
}

/// Carries out a plan. The same seed and plan come to the same end.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, cast: &Cast, plan: &[Step]) -> Result<Tally, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let carried_out = catch_unwind(AssertUnwindSafe(|| {
        // The world polls more than one future of the runtime is meant to in one go.
        runtime.block_on(tokio::task::unconstrained(async {
            let mut world = World::new(seed, cast)?;
            for (number, step) in plan.iter().enumerate() {
                let done = world.carry_out(*step).await;
                done.map_err(|broken| format!("in act {number} ({step}): {broken}"))?;
            }
            Ok(world.tally())
        }))
    }));
    carried_out.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(format!("a panic: {}", words.unwrap_or_default()))
    })
}

/// What a complaint is about: its plain words, without names, numbers and what stands in brackets.
fn gist(broken: &str, cast: &Cast) -> String {
    let words = broken.rsplit_once("steps): ").map_or(broken, |(_, words)| words);
    let is_plain = |word: &&str| {
        word.chars().all(|letter| letter.is_ascii_lowercase()) && cast.iter().all(|(name, ..)| name != word)
    };
    words.split_whitespace().filter(is_plain).take(4).collect::<Vec<_>>().join(" ")
}

/// Takes acts out of a plan that fails for as long as it still fails in the same way, with at most `runs`
/// runs.
#[must_use]
pub fn shrink(seed: u64, cast: &Cast, plan: &[Step], broken: &Broken, runs: usize) -> Vec<Step> {
    let gist_of = |broken: &str| gist(broken, cast);
    let mut kept = plan.to_vec();
    let mut left = runs;
    let mut chunk = kept.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < kept.len() {
            if left == 0 {
                return kept;
            }
            left -= 1;
            let mut thinner = kept.clone();
            thinner.drain(at..(at + chunk).min(kept.len()));
            if run(seed, cast, &thinner).is_err_and(|other| gist_of(&other) == gist_of(broken)) {
                kept = thinner;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    kept
}

/// A failed run, for a person: the seed, what was broken, and the thinned-out plan.
#[must_use]
pub fn report(seed: u64, cast: &Cast, plan: &[Step], broken: &Broken, runs: usize) -> String {
    let thin = shrink(seed, cast, plan, broken, runs);
    let last = run(seed, cast, &thin).err().unwrap_or_else(|| broken.clone());
    let acts: Vec<String> = thin.iter().map(Step::to_string).collect();
    format!(
        "POSTHOUSE_SIM_SEED={seed} fails: {broken}\n{} of {} acts are enough:\n  {}\nfor: {last}",
        thin.len(),
        plan.len(),
        acts.join("\n  "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_alike_if_they_say_the_same_of_others() {
        let gist = |words| gist(words, &usual_cast());
        let one = gist("in act 3 (Settle, then 4 steps): tom/phone never got Said { id: 3 }");
        assert_eq!(one, gist("in act 9 (Crash, then 0 steps): bob/webim_web_2 never got Said { id: 4 }"));
        assert_ne!(one, gist("in act 3 (Settle, then 4 steps): tom/phone is told twice on one connection"));
    }
}
