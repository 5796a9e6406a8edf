//! Every use case is cut at every single operation on the disk: the state is the one before it or the one
//! after it. `POSTHOUSE_FATES` sets in how many drawn ways each moment is looked at beside the two plain ones
//! (nothing that was not synced is there, all of it is), `POSTHOUSE_SEED` which; `POSTHOUSE_EVERY` leaves
//! out all moments but each such one.

use posthouse_testkit::disk::cut::{self, Fate, Image};
use posthouse_testkit::disk::steps::{self, Moment};
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::disk::{Watch, first_release, setting};

use super::{assert_complete, check_cuts, run};

#[test]
fn whatever_is_cut_was_done_or_was_not() {
    let watch = Watch::new();
    run(&watch, "steps", &[], "");
    println!("{}", cut_everywhere(&watch, &Image::new(), "use cases"));
}

#[test]
fn an_update_that_is_cut_was_done_or_is_done_again() {
    let watch = Watch::new();
    let ids = first_release::write(&watch.data());
    let before = cut::read(&watch.root());
    run(&watch, "migrate", &ids.map(|id| id.as_u64()), "");
    println!("{}", cut_everywhere(&watch, &before, "updates"));
}

/// Cuts a run everywhere and says how many times.
fn cut_everywhere(watch: &Watch, before: &Image, what: &str) -> String {
    let trace = Trace::read(&watch.trace());
    assert_complete(watch, &trace, before);
    let moments = steps::read_journal(&watch.journal());
    let (fates, seed) = (setting("POSTHOUSE_FATES", 1), setting("POSTHOUSE_SEED", 1));
    let mut cuts = Vec::new();
    let every = usize::try_from(setting("POSTHOUSE_EVERY", 1)).unwrap().max(1);
    for record in (0..=trace.records.len()).rev().step_by(every) {
        cuts.extend([(record, Fate::Lost), (record, Fate::Kept)]);
        cuts.extend((0..fates).map(|draw| (record, Fate::Drawn(seed.wrapping_add(draw)))));
    }
    let after = |end: u64| moments.iter().rposition(|moment: &Moment| moment.end <= end);
    let stage = |end: u64| after(end).map_or(0, |after| after + 1);
    let many = cuts.len();
    let checked = check_cuts(&trace, before, cuts, stage, async |data, end| {
        steps::check(data, &moments, after(end)).await
    });
    format!(
        "{what}: {} steps, {} operations on the disk, {many} cuts, {checked} different states, each as before or as \
         after the step",
        moments.len(),
        trace.records.len()
    )
}
