//! Files are damaged as bad disks and bad copies damage them, and opened: damage is found, or does no harm. What
//! isn't found is counted and told. `POSTHOUSE_DAMAGES` sets how many files are damaged, `POSTHOUSE_SEED` which.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthouse_core::time::Chance as _;
use posthouse_testkit::disk::cut::{self, Disk, Fate, Image};
use posthouse_testkit::disk::load::{Journal, Verdict};
use posthouse_testkit::disk::trace::Trace;
use posthouse_testkit::disk::{Watch, scratch, setting};
use posthouse_testkit::time::SeededChance;

use super::run;

const ROUNDS: u64 = 60;
const PAGE: usize = 4_096;
const KINDS: &[&str] = &[
    "bit flipped",
    "sector of garbage",
    "sector of zeros",
    "page of zeros",
    "page of elsewhere",
    "tail cut off",
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn damage_is_found_or_does_no_harm() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
    let (many, seed) = (setting("POSTHOUSE_DAMAGES", 200), setting("POSTHOUSE_SEED", 1));
    let watch = Watch::new();
    run(&watch, "load", &[seed, ROUNDS], "");
    let trace = Trace::read(&watch.trace());
    let journal = Journal::read(&watch.journal());
    let chance = SeededChance::new(seed);
    let draw = |below: usize| usize::try_from(chance.bits() % below as u64).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut found: BTreeMap<(&str, &str), BTreeMap<&str, usize>> = BTreeMap::new();
    let mut examples: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for number in 0..many {
        // A few moments, from new to old, so that logs of all lengths are met.
        let mut disk = Disk::new(&trace, &Image::new());
        disk.forward(trace.records.len() * (1 + draw(8)) / 8);
        let mut image = disk.image(Fate::Kept);
        let kind = KINDS[usize::try_from(number).unwrap() % KINDS.len()];
        let file = damage(&mut image, kind, &draw);
        let place = scratch();
        cut::write(&image, place.path());
        let verdict = runtime.block_on(journal.judge(&place.path().join("data"), disk.end()));
        if let Verdict::Refused(words) = &verdict {
            assert!(words.contains("posthouse.db") || words.contains(".db"), "which file is it? {words}");
            assert!(words.contains("backup") || words.contains("check that"), "what is to be done? {words}");
        }
        let (outcome, words) = verdict.describe();
        *found.entry((file, kind)).or_default().entry(outcome).or_default() += 1;
        examples.entry((file, outcome)).or_insert_with(|| format!("{kind}: {words}"));
    }
    for ((file, kind), outcomes) in &found {
        println!("{file:6} {kind:18} {outcomes:?}");
    }
    for ((file, outcome), words) in &examples {
        println!("example: {file}, {outcome}: {}", words.chars().take(300).collect::<String>());
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "damage makes something panic");
    for ((file, kind), outcomes) in &found {
        assert!(!outcomes.contains_key("wrong"), "a damaged {file} serves something else: {kind}");
    }
}

/// Damages one file and says of which sort it is.
fn damage(image: &mut Image, kind: &str, draw: &impl Fn(usize) -> usize) -> &'static str {
    let files: Vec<String> = image
        .iter()
        .filter(|(path, bytes)| {
            bytes.as_ref().is_some_and(|bytes| bytes.len() >= PAGE) && path.contains(".db")
        })
        .map(|(path, _)| path.clone())
        .collect();
    let path = &files[draw(files.len())];
    let bytes = image.get_mut(path).and_then(Option::as_mut).expect("it is a file");
    let at = draw(bytes.len());
    let (sector, page) = (at / 512 * 512, at / PAGE * PAGE);
    let end = |from: usize, length: usize| (from + length).min(bytes.len());
    match kind {
        "bit flipped" => bytes[at] ^= 1 << draw(8),
        "sector of garbage" => {
            let to = end(sector, 512);
            bytes[sector..to].iter_mut().for_each(|byte| *byte = u8::try_from(draw(256)).unwrap());
        }
        "sector of zeros" => {
            let to = end(sector, 512);
            bytes[sector..to].fill(0);
        }
        "page of zeros" => {
            let to = end(page, PAGE);
            bytes[page..to].fill(0);
        }
        "page of elsewhere" => {
            let from = draw(bytes.len()) / PAGE * PAGE;
            let length = (end(page, PAGE) - page).min(end(from, PAGE) - from);
            bytes.copy_within(from..from + length, page);
        }
        _ => bytes.truncate(at),
    }
    if path.ends_with("-wal") { "log" } else { "file" }
}
