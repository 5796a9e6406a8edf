//! A busy store is cut at drawn moments in drawn ways. `POSTHOUSE_CUTS` sets how often, `POSTHOUSE_SEED` where;
//! each hundred cuts have a run of their own, in which all, some or no messages are late in the index.

use posthouse_core::time::Chance as _;
use posthouse_testkit::disk::cut::{Fate, Image};
use posthouse_testkit::disk::load::Journal;
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::disk::{Watch, setting};
use posthouse_testkit::time::SeededChance;

use super::{assert_complete, check_cuts, run};

/// Cuts of one run, so that many seeds also mean many histories.
const CUTS_A_RUN: u64 = 100;
const ROUNDS: u64 = 60;

#[test]
fn nothing_acked_is_lost_when_the_power_is_cut() {
    let (mut left, mut seed) = (setting("POSTHOUSE_CUTS", 300), setting("POSTHOUSE_SEED", 1));
    let (mut runs, mut acked, mut cuts, mut checked) = (0, 0, 0, 0);
    while left > 0 {
        let share = left.min(CUTS_A_RUN);
        let watch = Watch::new();
        run(&watch, "load", &[seed, ROUNDS], "");
        let trace = Trace::read(&watch.trace());
        assert_complete(&watch, &trace, &Image::new());
        let journal = Journal::read(&watch.journal());
        assert_eq!(journal.refused(), 0);
        checked += cut(&trace, &journal, seed, share);
        (left, seed, runs) = (left - share, seed + 1, runs + 1);
        (acked, cuts) = (acked + journal.acked(), cuts + share);
        println!(
            "{runs} runs of {acked} acked messages, {cuts} power cuts, {checked} different states, nothing acked \
             lost, doubled, torn or out of order"
        );
    }
}

fn cut(trace: &Trace, journal: &Journal, seed: u64, many: u64) -> usize {
    let chance = SeededChance::new(seed);
    let records = trace.records.len() as u64 + 1;
    let cuts = (0..many)
        .map(|_| (usize::try_from(chance.bits() % records).unwrap(), Fate::Drawn(chance.bits())))
        .collect();
    let end = |end: u64| usize::try_from(end).unwrap();
    check_cuts(trace, &Image::new(), cuts, end, async |data, end| journal.check(data, end).await)
}
