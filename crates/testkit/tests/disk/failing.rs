//! The disk fails while the store is busy, works again, and then the power is cut. What failed is refused and
//! says so, what was acknowledged is there. A sync that failed counts as the kernel counts it: the next one
//! succeeds although what the first one covered may never get to the disk.
//!
//! `POSTHOUSE_FAULTS` sets how many runs there are, `POSTHOUSE_SEED` where they begin, `POSTHOUSE_FAULT` plays one
//! fault only, in the words of a failure.

use posthouse_core::time::Chance as _;
use posthouse_testkit::disk::cut::{Fate, Image};
use posthouse_testkit::disk::load::Journal;
use posthouse_testkit::disk::trace::{Operation, Trace};
use posthouse_testkit::disk::{Watch, setting};
use posthouse_testkit::time::SeededChance;

use super::{assert_complete, check_cuts, run};

const ROUNDS: u64 = 60;
const CUTS_A_RUN: usize = 40;

/// Operation, error number, which files, and how often; how many of them pass before is drawn. 5 is EIO, an
/// error of the device, 28 is ENOSPC, a full disk, 122 is EDQUOT, a full quota.
const FAULTS: &[&str] = &[
    "sync 5 -wal SKIP 1",
    "sync 5 -wal SKIP 3",
    "sync 5 .db$ SKIP 1",
    "sync 5 * SKIP 1",
    "sync 5 * 0 -1",
    "write 5 -wal SKIP 1",
    "write 5 .db$ SKIP 2",
    "write 5 * 0 -1",
    "grow 28 * SKIP -1",
    "write 28 * 0 -1",
    "write 122 -wal SKIP 5",
    "open 28 expiring SKIP -1",
    "rename 5 * 0 -1",
    "unlink 5 * 0 -1",
];

#[test]
fn what_fails_is_refused_and_what_was_acked_stays() {
    let seed = setting("POSTHOUSE_SEED", 1);
    let (mut acked, mut refused, mut played, mut cuts) = (0, 0, 0, 0);
    let many = setting("POSTHOUSE_FAULTS", FAULTS.len() as u64);
    for number in 0..many {
        let chance = SeededChance::new(seed.wrapping_add(number));
        let kind = FAULTS[usize::try_from(number % FAULTS.len() as u64).unwrap()];
        let drawn = kind.replace("SKIP", &(chance.bits() % 12).to_string());
        let fault = std::env::var("POSTHOUSE_FAULT").unwrap_or(drawn);
        let watch = Watch::new();
        run(&watch, "load", &[seed.wrapping_add(number), ROUNDS], &fault);
        let trace = Trace::read(&watch.trace());
        assert_complete(&watch, &trace, &Image::new());
        let journal = Journal::read(&watch.journal());
        if fault.contains("sync 5 * 0") || fault.contains("write 5 * 0") {
            assert!(trace.faults() > 0 && journal.refused() > 0, "{fault} changes nothing");
        }
        cuts += cut(&trace, &journal, &chance, &fault);
        acked += journal.acked();
        refused += journal.refused();
        played += trace.faults();
    }
    assert!(acked > refused, "{refused} refused, {acked} acked");
    println!(
        "{many} runs, {played} faults, {acked} acked messages, {refused} refused, {cuts} power cuts afterwards, \
         nothing acked lost, doubled, torn or out of order"
    );
}

/// Cuts where it is most likely to hurt: after faults.
fn cut(trace: &Trace, journal: &Journal, chance: &SeededChance, fault: &str) -> usize {
    let first = trace.records.iter().position(|record| matches!(record.what, Operation::Fault(_)));
    let first = first.unwrap_or(0);
    let records = (trace.records.len() + 1 - first) as u64;
    let mut cuts = vec![(trace.records.len(), Fate::Lost), (trace.records.len(), Fate::Kept)];
    cuts.extend((2..CUTS_A_RUN).map(|number| {
        let fate = if number % 4 == 0 { Fate::Lost } else { Fate::Drawn(chance.bits()) };
        (first + usize::try_from(chance.bits() % records).unwrap(), fate)
    }));
    let end = |end: u64| usize::try_from(end).unwrap();
    check_cuts(trace, &Image::new(), cuts, end, async |data, end| {
        journal.check(data, end).await.map_err(|wrong| format!("after the fault {fault}: {wrong}"))
    })
}
