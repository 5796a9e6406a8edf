//! The very first start is cut short by a power cut: the next one works, and what the first one had told is
//! true.

use posthouse::secrets::token_key;
use posthouse_testkit::disk::cut::{self, Disk, Fate, Image};
use posthouse_testkit::disk::steps::open;
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::disk::{Watch, scratch, setting};
use posthouse_testkit::process::{Process, create_app};
use posthouse_testkit::time::ManualClock;

use posthouse_core::port::store::Apps as _;

use super::program;

/// Cuts after every operation on the disk, in two plain ways and in `POSTHOUSE_FATES` drawn ones.
#[test]
fn a_first_start_that_is_cut_short_is_done_again() {
    let watch = Watch::new();
    drop(create_app(watch.command(&program()), &watch.data()));
    let app_made = watch.now();
    Process::serve(watch.command(&program()), &watch.data()).kill();
    let trace = Trace::read(&watch.trace());
    let key = token_key(&watch.data()).unwrap();
    let seed = setting("POSTHOUSE_SEED", 1);
    let mut fates = vec![Fate::Lost, Fate::Kept];
    fates.extend((0..setting("POSTHOUSE_FATES", 1)).map(|draw| Fate::Drawn(seed + draw)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut disk = Disk::new(&trace, &Image::new());
    for record in 0..=trace.records.len() {
        disk.forward(record);
        for fate in &fates {
            let place = scratch();
            cut::write(&disk.image(*fate), place.path());
            let data = place.path().join("data");
            let found = token_key(&data).unwrap_or_else(|error| panic!("record {record}, {fate:?}: {error}"));
            assert!(record < trace.records.len() || found == key, "the secret of a running server is gone");
            let store = open(&data, ManualClock::new().into());
            let store = store.unwrap_or_else(|error| panic!("record {record}, {fate:?}: {error}"));
            let apps = runtime.block_on(store.apps_since(0)).unwrap().map_or(0, |(_, apps)| apps.len());
            assert!(
                apps == 1 || disk.end() < app_made,
                "record {record}, {fate:?}: an app that was told of is gone"
            );
        }
    }
    println!(
        "a first start: {} operations on the disk, {} cuts",
        trace.records.len(),
        disk_cuts(&trace, &fates)
    );
}

fn disk_cuts(trace: &Trace, fates: &[Fate]) -> usize {
    (trace.records.len() + 1) * fates.len()
}
