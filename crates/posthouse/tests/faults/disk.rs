//! Disks that are full, that fail, and that are slow.

use posthouse::peer::{BINARY, Open, Outgoing, Peer};
use posthouse_core::time::Chance as _;
use posthouse_testkit::disk::cut::{self, Disk, Fate, Image};
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::disk::{scratch, setting};
use posthouse_testkit::time::SeededChance;

use super::{Said, Stage};

/// LeanCloud's INTERNAL_ERROR, and Easemob's FAIL: both SDKs report a failure of the server and may try again.
const LEAN_CODE: i32 = 4_200;
const EASE_CODE: i32 = 1;
/// A message that needs a page of its own.
const LONG: usize = 4_500;
/// So many messages fit into what the log has room for already.
const TRIES: usize = 2_000;

/// Has `faults` played until both doors refuse; gives what they say.
async fn until_refused(stage: &mut Stage, faults: &str) -> Said {
    stage.watch.play(faults);
    for _ in 0..TRIES {
        let said = stage.say(&"x".repeat(LONG)).await;
        if said.both_refused() {
            return said;
        }
    }
    panic!("{faults} has no effect");
}

fn assert_says(said: &Said, ease: &str) {
    assert_eq!(said.lean, Err((LEAN_CODE, "INTERNAL_ERROR".to_owned())));
    assert_eq!(said.ease, Err((EASE_CODE, ease.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_has_room_again() {
    let mut stage = Stage::set().await;
    let said = until_refused(&mut stage, "grow 28 * 0 -1\nopen 28 * 0 -1").await;
    assert_says(&said, "server has no room left");
    // It stays so, whoever asks, and reads and logins go on.
    for _ in 0..20 {
        assert!(stage.say(&"x".repeat(LONG)).await.both_refused());
    }
    stage.assert_histories().await;
    let mut jerry = Peer::connect(&stage.server().socket_url(), BINARY).await.unwrap();
    jerry.open(stage.app["leancloud_id"].as_str().unwrap(), "jerry", Open::default()).await.unwrap();
    assert!(!jerry.history("jerry", &stage.cid, 10).await.unwrap().is_empty());
    let lasting = jerry.create_temporary("jerry", &["tom"], Some(60)).await;
    assert!(lasting.is_err(), "a new file is made on a full disk");
    recovers(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fail_are_refused() {
    let mut stage = Stage::set().await;
    let said = until_refused(&mut stage, "write 5 * 0 -1").await;
    assert_says(&said, "server failed");
    stage.assert_histories().await;
    recovers(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acked_while_syncs_fail() {
    let mut stage = Stage::set().await;
    let said = until_refused(&mut stage, "sync 5 * 0 -1").await;
    assert_says(&said, "server failed");
    for _ in 0..20 {
        assert!(stage.say("not synced").await.both_refused());
    }
    stage.assert_histories().await;
    recovers(&mut stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sync_that_fails_is_not_forgotten() {
    for (skip, times) in [(0, 1), (1, 1), (0, 2), (2, 3)] {
        let mut stage = Stage::set().await;
        stage.watch.play(&format!("sync 5 -wal {skip} {times}"));
        let mut refused = 0;
        for _ in 0..8 {
            let said = stage.say("some words").await;
            refused += usize::from(said.lean.is_err()) + usize::from(said.ease.is_err());
        }
        assert_eq!(Trace::read(&stage.watch.trace()).faults(), times);
        assert_eq!(refused, times, "each failed sync refuses what it was for");
        recovers(&mut stage).await;
    }
}

/// When the disk works again the server does, without a restart; after a kill, after a restart, and after a
/// power cut that takes all that was not synced, everything acknowledged is there.
async fn recovers(stage: &mut Stage) {
    stage.watch.play("");
    for _ in 0..3 {
        assert!(stage.say("works again").await.both_kept());
    }
    stage.assert_histories().await;
    stage.restart(None).await;
    assert!(stage.say("after a kill").await.both_kept());
    stage.assert_histories().await;
    let trace = Trace::read(&stage.watch.trace());
    let mut disk = Disk::new(&trace, &Image::new());
    disk.forward(trace.records.len());
    let place = scratch();
    cut::write(&disk.image(Fate::Lost), place.path());
    stage.restart(Some(&place.path().join("data"))).await;
    stage.assert_histories().await;
    assert!(stage.say("after a power cut").await.both_kept());
}

/// `POSTHOUSE_CUTS` sets how often the power is cut, `POSTHOUSE_SEED` where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_doors_show_what_they_acked_after_a_power_cut() {
    let mut stage = Stage::set().await;
    let began = stage.watch.now();
    let mut acked = Vec::new();
    for number in 0..60 {
        assert!(stage.say(&"x".repeat(number * 50)).await.both_kept());
        acked.push((stage.watch.now(), stage.lean_acked.len(), stage.ease_acked.len()));
    }
    let all = (stage.lean_acked.clone(), stage.ease_acked.clone());
    let trace = Trace::read(&stage.watch.trace());
    let first = trace.records.iter().position(|record| record.end > began).unwrap();
    let chance = SeededChance::new(setting("POSTHOUSE_SEED", 1));
    let mut cuts: Vec<_> = (0..setting("POSTHOUSE_CUTS", 10).min(200))
        .map(|_| {
            (
                first + usize::try_from(chance.bits() % (trace.records.len() - first) as u64).unwrap(),
                chance.bits(),
            )
        })
        .collect();
    cuts.sort_unstable();
    let mut disk = Disk::new(&trace, &Image::new());
    for (record, seed) in cuts {
        disk.forward(record);
        let place = scratch();
        cut::write(&disk.image(Fate::Drawn(seed)), place.path());
        let before = acked.iter().rev().find(|(end, ..)| *end <= disk.end());
        let (lean, ease) = before.map_or((1, 1), |(_, lean, ease)| (*lean, *ease));
        stage.lean_acked = all.0[..lean].to_vec();
        stage.ease_acked = all.1[..ease].to_vec();
        stage.restart(Some(&place.path().join("data"))).await;
        stage.assert_histories().await;
        stage.number += 1_000;
        assert!(stage.say("after a power cut").await.both_kept());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_delays_writers_only() {
    let mut stage = Stage::set().await;
    let faults = Trace::read(&stage.watch.trace()).faults();
    stage.watch.play("sync stall:2000 -wal 0 1");
    let mut reader = Peer::connect(&stage.server().socket_url(), BINARY).await.unwrap();
    reader.open(stage.app["leancloud_id"].as_str().unwrap(), "jerry", Open::default()).await.unwrap();
    let cid = stage.cid.clone();
    // Reads are answered until the write is, and the write only then.
    let mut read = 0;
    let sent = {
        let send = stage.tom.send_content("tom", &cid, "slowly", Outgoing::default());
        tokio::pin!(send);
        loop {
            tokio::select! {
                biased;
                sent = &mut send => break sent.unwrap(),
                history = reader.history("jerry", &cid, 10) => {
                    assert!(!history.unwrap().is_empty());
                    read += 1;
                }
            }
        }
    };
    stage.lean_acked.push((sent.id, "slowly".to_owned()));
    assert_eq!(Trace::read(&stage.watch.trace()).faults(), faults + 1, "the disk was slow");
    assert!(read > 10, "{read} reads while the disk was slow");
    stage.assert_histories().await;
}
