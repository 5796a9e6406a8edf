//! The simulation's seeds. `POSTHOUSE_SIM_SEED` replays one, `POSTHOUSE_SIM_SECONDS` goes on from a seed
//! for so long, `POSTHOUSE_SIM_ACTS` sets the length of a plan.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::time::Duration;

use posthouse_testkit::sim::{self, Tally, plan};
use tokio::time::Instant;

/// Runs that may be spent on thinning out a plan that fails.
const SHRINK_RUNS: usize = 120;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn acts() -> usize {
    usize::try_from(setting("POSTHOUSE_SIM_ACTS").unwrap_or(150)).unwrap()
}

/// Runs one seed; panics with its thinned-out plan if it fails.
fn run(seed: u64) -> Tally {
    let (cast, plan) = (sim::usual_cast(), plan::draw(seed, acts()));
    sim::run(seed, &cast, &plan)
        .unwrap_or_else(|broken| panic!("{}", sim::report(seed, &cast, &plan, &broken, SHRINK_RUNS)))
}

#[test]
fn every_promise_holds_for_many_seeds() {
    let (seed, seconds) = (setting("POSTHOUSE_SIM_SEED"), setting("POSTHOUSE_SIM_SECONDS"));
    // One seed alone is replayed; with a time, or without a seed, others follow until the time is up.
    let first = seed.unwrap_or(1);
    let last = if seed.is_some() && seconds.is_none() { first } else { u64::MAX };
    let seconds = Duration::from_secs(seconds.unwrap_or(5));
    let began = Instant::now();
    let (mut all, mut seeds) = (Tally::default(), 0_u64);
    for seed in first..=last {
        if seeds > 0 && began.elapsed() > seconds {
            break;
        }
        let tally = run(seed);
        seeds += 1;
        all.steps += tally.steps;
        all.commits += tally.commits;
        all.messages += tally.messages;
        all.frames += tally.frames;
        all.restarts += tally.restarts;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = all.steps as f64 / seconds;
    println!(
        "{seeds} seeds from {first} on in {seconds:.0} s: {} steps ({rate:.0} a second), {} commits of {} messages \
         and more, {} frames taken, {} restarts; every promise held",
        all.steps, all.commits, all.messages, all.frames, all.restarts
    );
}

#[test]
fn a_seed_replays_exactly() {
    let (cast, plan) = (sim::usual_cast(), plan::draw(3, 80));
    let first = sim::run(3, &cast, &plan).unwrap();
    assert_eq!(sim::run(3, &cast, &plan).unwrap(), first);
    assert_ne!(sim::run(4, &cast, &plan).unwrap().trace, first.trace, "another seed goes another way");
}
