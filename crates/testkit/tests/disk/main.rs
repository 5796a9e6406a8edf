//! The power is cut: programs run on a watched disk, and every state that the disk may be found in is opened
//! again. See `posthouse_testkit::disk`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod failing;
mod load;
mod steps;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthouse_testkit::disk::cut::{self, Disk, Fate, Image};
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::disk::{Watch, scratch};

/// Runs a scenario under the watcher.
fn run(watch: &Watch, scenario: &str, arguments: &[u64], faults: &str) {
    let output = watch
        .command(env!("CARGO_BIN_EXE_disk_scenario"))
        .arg(scenario)
        .args([watch.data(), watch.trace(), watch.journal()])
        .args(arguments.iter().map(u64::to_string))
        .env("DISK_FAULTS", faults)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The watcher has seen everything: what its trace makes of the disk is what is there.
fn assert_complete(watch: &Watch, trace: &Trace, before: &Image) {
    let mut disk = Disk::new(trace, before);
    disk.forward(trace.records.len());
    let (replayed, found) = (disk.image(Fate::Kept), cut::read(&watch.root()));
    let names = |image: &Image| image.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&replayed), names(&found));
    assert!(replayed == found, "the trace and the files differ");
}

/// One cut: after so many records, with this fate.
type Cut = (usize, Fate);

/// Makes each cut and hands its image to `check` in a directory of its own, with the moment of the trace.
/// Images that are alike are checked once for each `stage` they are found in. Gives how many were checked.
///
/// # Panics
/// If a check finds something wrong.
fn check_cuts(
    trace: &Trace,
    before: &Image,
    mut cuts: Vec<Cut>,
    stage: impl Fn(u64) -> usize + Sync,
    check: impl AsyncFn(&Path, u64) -> Result<(), String> + Sync,
) -> usize {
    cuts.sort_by_key(|(record, _)| *record);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let (seen, checked) = (Mutex::new(HashSet::new()), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for share in cuts.chunks(cuts.len().div_ceil(threads).max(1)) {
            let (seen, checked, wrong, stage, check) = (&seen, &checked, &wrong, &stage, &check);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut disk = Disk::new(trace, before);
                for (record, fate) in share {
                    disk.forward(*record);
                    let (image, end) = (disk.image(*fate), disk.end());
                    if !seen.lock().unwrap().insert((cut::fingerprint(&image), stage(end))) {
                        continue;
                    }
                    checked.fetch_add(1, Ordering::Relaxed);
                    let place = scratch();
                    cut::write(&image, place.path());
                    let found = runtime.block_on(check(&place.path().join("data"), end));
                    if let Err(found) = found {
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("record {record} of {}, {fate:?}: {found}", trace.records.len()));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let some = wrong[..wrong.len().min(5)].join("\n\n");
    assert!(wrong.is_empty(), "{} of {} cuts:\n{some}", wrong.len(), cuts.len());
    checked.into_inner()
}
