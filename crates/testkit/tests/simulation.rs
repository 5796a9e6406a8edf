//! The simulation's seeds. `POSTHOUSE_SIM_SEED` replays one, `POSTHOUSE_SIM_SECONDS` goes on from a seed
//! for so long, `POSTHOUSE_SIM_ACTS` sets the length of a plan.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::time::Duration;

use posthouse_testkit::sim::{self, Cast, Door, Tally, plan};
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
        all.add(&tally);
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = all.steps as f64 / seconds;
    println!(
        "{seeds} seeds from {first} on in {seconds:.0} s, {rate:.0} steps a second, every promise held: {all:?}"
    );
}

/// A pair became a group while a device pulled it under the other one's name, and while it knew it as a pair.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in [1_795_341_729, 5_390] {
        run(seed);
    }
}

#[test]
fn a_seed_replays_exactly() {
    let (cast, plan) = (sim::usual_cast(), plan::draw(3, 80));
    let first = sim::run(3, &cast, &plan).unwrap();
    assert_eq!(sim::run(3, &cast, &plan).unwrap(), first);
    assert_ne!(sim::run(4, &cast, &plan).unwrap().trace, first.trace, "another seed goes another way");
}

/// Messages that are sent again: after an ack that was lost with the connection, by another device of the
/// same client, after the server has died, and after it was stopped. Each is kept once, and every answer
/// repeats the first one's id and time; the model complains otherwise.
#[test]
fn what_is_sent_twice_is_kept_once_and_answered_alike_through_both_doors() {
    use plan::{Act, Step, Wish};

    let cast = sim::usual_cast();
    // Tom has the first two devices; alice, of the other door, the sixth and the seventh.
    for (phone, tablet) in [(0, 1), (5, 5)] {
        let mut all = Tally::default();
        for steps in 0..40 {
            let then = |act, steps| Step { act, steps };
            let again = |who| then(Act::Again { who, intent: 0 }, 60);
            let plan = [
                then(Act::Settle, 0),
                then(Act::Create { who: phone, with: 255, wish: Wish::Group }, 0),
                then(Act::Settle, 0),
                // Cut off at every moment: before the message arrives, before it is kept, before the answer.
                then(Act::Send { who: phone, talk: 0, stray: false }, steps),
                then(Act::Cut { who: phone }, steps / 2),
                then(Act::Pass { ms: 5_000 }, 3),
                then(Act::Connect { who: phone }, 100),
                again(phone),
                again(tablet),
                then(Act::Crash, 0),
                then(Act::Connect { who: tablet }, 100),
                again(tablet),
                then(Act::Restart, 0),
                then(Act::Connect { who: phone }, 100),
                again(phone),
                then(Act::CrashUntold, 0),
                then(Act::SettleAll, 0),
            ];
            let tally = sim::run(u64::from(steps), &cast, &plan)
                .unwrap_or_else(|broken| panic!("cut off after {steps} steps: {broken}"));
            assert_eq!(tally.messages, 1);
            all.add(&tally);
        }
        assert!(all.repeated >= 100, "hardly anything was answered twice: {all:?}");
    }
}

/// Fifty clients, half of them at each door, say things to one conversation at the same time, and the clock
/// stands still: all connections are told in one order, all devices pull in one order, and history is that
/// order in both directions, page by page; the model complains otherwise.
#[test]
fn fifty_who_speak_at_once_are_heard_in_one_order_by_all() {
    use plan::{Act, Dice, Step, Wish};

    let seed = setting("POSTHOUSE_SIM_SEED").unwrap_or(1);
    let door = |number: u8| if number.is_multiple_of(2) { Door::LeanCloud } else { Door::Easemob };
    let cast: Cast =
        (0..50).map(|number| (format!("p{number}"), door(number), vec!["webim_1".to_owned()])).collect();
    let mut dice = Dice::new(seed);
    let mut plan: Vec<Step> = (0..50).map(|who| Step { act: Act::Connect { who }, steps: 20 }).collect();
    plan.push(Step { act: Act::Settle, steps: 0 });
    plan.push(Step { act: Act::Create { who: 0, with: 255, wish: Wish::Group }, steps: 0 });
    plan.push(Step { act: Act::Settle, steps: 0 });
    for _ in 0..3 {
        for who in 0..50 {
            let steps = u8::try_from(dice.below(4)).unwrap();
            plan.push(Step { act: Act::Send { who, talk: 0, stray: false }, steps });
        }
    }
    plan.push(Step { act: Act::SettleAll, steps: 0 });
    let tally =
        sim::run(seed, &cast, &plan).unwrap_or_else(|broken| panic!("POSTHOUSE_SIM_SEED={seed}: {broken}"));
    // One record is the conversation; every message was kept, however many spoke at once.
    assert_eq!((tally.messages, tally.commits, tally.refused), (150, 151, 0), "{tally:?}");
}

/// A device stops reading while others go on: its connection is given up when its queue is full, nobody
/// waits for it, and when it returns it gets what it missed.
#[test]
fn who_stops_reading_is_let_go_and_catches_up() {
    use plan::{Act, Step, Wish};

    let cast = sim::usual_cast();
    let then = |act, steps| Step { act, steps };
    // Jerry comes through one door, bob through the other; Easemob devices are told by notices, of which one
    // conversation needs one, so only Jerry's queue can overflow.
    let mut plan = vec![
        then(Act::Settle, 0),
        then(Act::Create { who: 0, with: 255, wish: Wish::Group }, 0),
        then(Act::Settle, 0),
        then(Act::Stall { who: 2 }, 0),
        then(Act::Stall { who: 7 }, 0),
    ];
    plan.extend((0..10).map(|_| then(Act::Burst { who: 0, talk: 0, count: 30 }, 255)));
    let spoken = sim::run(1, &cast, &plan).unwrap_or_else(|broken| panic!("{broken}"));
    plan.extend((0..40).map(|_| then(Act::Pass { ms: 1 }, 255)));
    plan.extend([then(Act::Resume { who: 2 }, 255), then(Act::SettleAll, 0)]);
    let tally = sim::run(1, &cast, &plan).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!((spoken.thrown_out, tally.messages, tally.refused), (0, 300, 0));
    assert!(tally.thrown_out >= 1, "a queue has a bound: {tally:?}");
}
