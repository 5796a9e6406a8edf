//! The fuzz targets on stable Rust: the committed corpus, then mutations of it for a while.
//!
//! `POSTHOUSE_FUZZ_SECONDS` is the time a target gets (10; 0 only replays), `POSTHOUSE_FUZZ_SEED` the
//! seed of the mutations. What must hold is in `fuzz/src/lib.rs`, coverage-guided runs are in `fuzz/run`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use posthouse_core::time::Chance as _;
use posthouse_testkit::time::SeededChance;
use tokio::time::Instant;

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "libFuzzer's targets use it as a crate")]
mod targets;

/// A frame can't be longer.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Far above what any input takes even without optimisation; it finds what grows out of hand.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn frames() {
    fuzz("frames", targets::frames, |corpus, chance| {
        let words: &[&[u8]] = &[b"\x00", b"\x01", b"\xff\xff\xff\xff\x0f", b"CAA=", b"====", b"\r\n"];
        mutate(corpus, words, chance)
    });
}

#[test]
fn commands() {
    fuzz("commands", targets::commands, |corpus, chance| {
        let words: &[&[u8]] = &[b"_tmp:", b"\x08\x00", b"\x10\x1e", b"{\"_lctype\":-1}", b"\x7f\xff\xff\xff"];
        mutate(corpus, words, chance)
    });
}

#[test]
fn where_query() {
    fuzz("where_query", targets::where_query, |corpus, chance| {
        // Changed bytes rarely stay JSON, so half of the inputs are grown as JSON instead.
        if chance.bits() % 2 == 0 {
            return conditions(chance, 0).into_bytes();
        }
        let words: &[&[u8]] =
            &[b"\\\\Q", b"\\\\E", b"[[[[[[[[", b"{\"a\":", b"}", b"]", b",", b"\\ud800", b"_tmp:", b"\0-lm,"];
        mutate(corpus, words, chance)
    });
}

#[test]
fn msync_frames() {
    fuzz("msync_frames", targets::msync_frames, |corpus, chance| {
        let words: &[&[u8]] = &[b"\x00", b"\x01", b"\x08\x00", b"\x40\x03", b"$t$", b"\xff\xff\xff\xff\x0f"];
        mutate(corpus, words, chance)
    });
}

#[test]
fn msync_metas() {
    fuzz("msync_metas", targets::msync_metas, |corpus, chance| {
        let words: &[&[u8]] = &[
            b"\x28\x01",
            b"\x32\x00",
            b"\x38\x02",
            b"\x52\x03bob",
            b"\x22\x00",
            b"\xb0\x01\x00",
            b"\x0b\x0c",
        ];
        mutate(corpus, words, chance)
    });
}

#[test]
fn msync_bodies() {
    fuzz("msync_bodies", targets::msync_bodies, |corpus, chance| {
        let words: &[&[u8]] = &[
            b"\x22\x00",
            b"\xb0\x01\x00",
            b"\x10\x08",
            b"[[[[[[[[",
            b"{\"k\":",
            b"\"customExts\":",
            b"}",
            b"]",
            b",",
            b"1e999",
            b"\\ud800",
        ];
        mutate(corpus, words, chance)
    });
}

#[test]
fn rest_calls() {
    fuzz("rest_calls", targets::rest_calls, |corpus, chance| {
        let words: &[&[u8]] = &[
            b"%",
            b"%00",
            b"%f0%9f",
            b"&",
            b"=",
            b"cursor=",
            b"&&limit=",
            b"\0{\"queue\":",
            b"[[[[",
            b"1e999",
            b"-1",
        ];
        mutate(corpus, words, chance)
    });
}

/// Conditions of a `where`, right in form and mostly in meaning.
fn conditions(chance: &SeededChance, depth: usize) -> String {
    let fields = [
        "objectId",
        "name",
        "m",
        "c",
        "mu",
        "lm",
        "createdAt",
        "tr",
        "sys",
        "unique",
        "uniqueId",
        "attr.topic",
        "attr.stars",
        "attr.deep.er",
        "n",
        "$or",
        "$and",
        "$not",
        "a..b",
        "",
    ];
    let parts: Vec<String> = (0..below(chance, 4))
        .map(|_| {
            let field = fields[below(chance, fields.len())];
            let value = match field {
                "$or" | "$and" if depth < 20 => {
                    let of: Vec<String> =
                        (0..below(chance, 4)).map(|_| conditions(chance, depth + 1)).collect();
                    format!("[{}]", of.join(","))
                }
                _ if below(chance, 3) == 0 => operand(chance, depth),
                _ => tests(chance, depth),
            };
            format!("\"{field}\":{value}")
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}

fn tests(chance: &SeededChance, depth: usize) -> String {
    let names = [
        "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$all", "$size", "$exists", "$regex", "$options",
        "$not", "$eq",
    ];
    let parts: Vec<String> = (0..=below(chance, 2))
        .map(|_| {
            let name = names[below(chance, names.len())];
            let value = match name {
                "$in" | "$nin" | "$all" => {
                    let of: Vec<String> = (0..below(chance, 5)).map(|_| operand(chance, depth)).collect();
                    format!("[{}]", of.join(","))
                }
                "$not" if depth < 20 => tests(chance, depth + 1),
                "$size" => below(chance, 5).to_string(),
                "$exists" => (below(chance, 2) == 0).to_string(),
                "$regex" => pattern(chance),
                "$options" => "\"imsx\"".to_owned(),
                _ => operand(chance, depth),
            };
            format!("\"{name}\":{value}")
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}

fn operand(chance: &SeededChance, depth: usize) -> String {
    match below(chance, 10) {
        0 => "null".to_owned(),
        1 => "true".to_owned(),
        2 => "\"tom\"".to_owned(),
        3 => "\"cheese\"".to_owned(),
        4 => "-4.5e0".to_owned(),
        5 => chance.bits().to_string(),
        6 => r#"{"__type":"Date","iso":"2026-11-21T23:12:40.165Z"}"#.to_owned(),
        7 => "\"ffffffffffffffffffffffff\"".to_owned(),
        8 if depth < 20 => format!("[{}]", operand(chance, depth + 1)),
        _ => below(chance, 9).to_string(),
    }
}

/// A regular expression as a JSON text.
fn pattern(chance: &SeededChance) -> String {
    let parts = [
        "a",
        "T.m",
        "(",
        ")",
        "[a-z]",
        "[^",
        "*",
        "+?",
        "{2,9}",
        "{1,1000}",
        "|",
        "^",
        "$",
        "\\\\w",
        "\\\\Q",
        "\\\\E",
        "\\\\p{Han}",
        "(?i)",
        "(?=",
        "猫",
        ".*",
    ];
    let text: String = (0..below(chance, 12)).map(|_| parts[below(chance, parts.len())]).collect();
    format!("\"{text}\"")
}

/// What was read of the corpus.
type Corpus = [(PathBuf, Vec<u8>)];

#[expect(clippy::print_stdout, reason = "says how deep the run went and how to repeat it")]
fn fuzz(name: &str, target: fn(&[u8]) -> bool, make: impl Fn(&Corpus, &SeededChance) -> Vec<u8>) {
    let corpus = read_corpus(name);
    assert!(!corpus.is_empty() && corpus.len() <= 50, "{name}: {} files in the corpus", corpus.len());
    for (path, input) in &corpus {
        try_input(name, target, input, &path.display().to_string());
    }

    let seconds = number("POSTHOUSE_FUZZ_SECONDS").unwrap_or(10);
    let seed = number("POSTHOUSE_FUZZ_SEED").unwrap_or(1);
    let chance = SeededChance::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut tried, mut understood) = (0_u64, 0_u64);
    while Instant::now() < end {
        for _ in 0..100 {
            let input = make(&corpus, &chance);
            understood += u64::from(try_input(name, target, &input, &format!("seed {seed}, input {tried}")));
            tried += 1;
        }
    }
    println!(
        "{name}: {} of the corpus, {tried} random inputs with seed {seed}, {understood} of them understood",
        corpus.len()
    );
}

/// Runs the target on one input; whether it was understood. An input that fails is written to a file that is named.
#[expect(clippy::print_stdout, reason = "names the input that failed")]
fn try_input(name: &str, target: fn(&[u8]) -> bool, input: &[u8], origin: &str) -> bool {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let took = began.elapsed();
    if let (Ok(understood), true) = (&outcome, took <= PATIENCE) {
        return *understood;
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    std::fs::write(&file, input).expect("cargo's folder for tests can be written");
    println!("{name} failed after {took:?} on {origin}; the input is in {}", file.display());
    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(_) => panic!("{name}: one input took {took:?}"),
    }
}

/// A few small changes, most often one, to something from the corpus.
fn mutate(corpus: &Corpus, words: &[&[u8]], chance: &SeededChance) -> Vec<u8> {
    let mut input = corpus[below(chance, corpus.len())].1.clone();
    for _ in 0..=chance.bits().trailing_zeros().min(7) {
        let at = below(chance, input.len() + 1);
        let end = at + below(chance, input.len() - at + 1).min(64);
        match below(chance, 8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => insert(&mut input, at, words[below(chance, words.len())]),
            3 => {
                let part = input[at..end].to_vec();
                for _ in 0..=below(chance, 16) {
                    insert(&mut input, at, &part);
                }
            }
            4 => {
                let other = &corpus[below(chance, corpus.len())].1;
                let from = below(chance, other.len() + 1);
                insert(&mut input, at, &other[from..]);
            }
            5 => insert(&mut input, at, &chance.bits().to_le_bytes()[..=below(chance, 8)]),
            6 if at < input.len() => input[at] ^= 1 << below(chance, 8),
            _ if at < input.len() => input[at] = chance.bits().to_le_bytes()[0],
            _ => input.push(chance.bits().to_le_bytes()[0]),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    input.splice(at..at, part.iter().copied());
}

/// A number below `end`, which is above 0.
fn below(chance: &SeededChance, end: usize) -> usize {
    usize::try_from(chance.bits() % end as u64).expect("it is below a usize")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a whole number, not {text}")))
}

fn read_corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).expect("the corpus is in the checkout");
    let mut corpus: Vec<_> = entries
        .map(|entry| entry.expect("the corpus can be listed").path())
        .map(|path| (path.clone(), std::fs::read(&path).expect("the corpus can be read")))
        .collect();
    // Folders are listed in any order; the seed must mean the same everywhere.
    corpus.sort();
    corpus
}
