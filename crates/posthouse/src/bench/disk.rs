//! What the disk can do: small appends to a file, each forced to it before the next. No server that
//! acknowledges what is on disk, one write at a time, can be faster; group commit is how to acknowledge more.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::report::{self, Latency, Report, build};
use super::requests::{histogram, record};
use super::{Error, process, progress};

/// About a message with what the store writes beside it.
const APPEND_BYTES: usize = 300;
/// Written in one piece before the measurement.
const BLOCK_BYTES: usize = 1 << 20;

/// The arguments of `posthouse bench disk`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write; the disk that is to hold the data.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Appends of each kind.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Write the result as one JSON line to FILE instead of below the table; `-` prints only it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One kind of append.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Appends {
    bytes: usize,
    /// Into space that the file has already, so that only content has to reach the disk.
    preallocated: bool,
    per_second: f64,
    #[serde(flatten)]
    latency: Latency,
}

/// The result of `bench disk`.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct DiskReport {
    bench: &'static str,
    version: &'static str,
    debug_build: bool,
    file_system: String,
    count: u32,
    /// The four kinds, the plain append of a message first.
    appends: Vec<Appends>,
}

/// Runs the measurement.
pub(super) fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    fs::create_dir_all(&args.dir)?;
    let mut appends = Vec::new();
    for (bytes, preallocated) in [(APPEND_BYTES, false), (APPEND_BYTES, true), (4_096, false), (4_096, true)]
    {
        appends.push(measure(&args.dir, bytes, preallocated, args.count)?);
    }
    let result = DiskReport {
        bench: "disk",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        file_system: process::file_system(&args.dir).unwrap_or_else(|| "unknown".to_owned()),
        count: args.count,
        appends,
    };
    report::publish(&result, args.json.as_deref(), out)
}

fn measure(dir: &Path, bytes: usize, preallocated: bool, count: u32) -> Result<Appends, Error> {
    let scratch = tempfile::NamedTempFile::new_in(dir)?;
    let mut file: File = OpenOptions::new().write(true).open(scratch.path())?;
    if preallocated {
        let block = vec![0; BLOCK_BYTES];
        for _ in 0..(bytes * count as usize).div_ceil(BLOCK_BYTES) {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        file.seek(SeekFrom::Start(0))?;
    }
    let content = vec![b'm'; bytes];
    let bar = progress(count.into(), "appending");
    let mut times = histogram();
    let mut total = Duration::ZERO;
    for _ in 0..count {
        let began = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        let took = began.elapsed();
        total += took;
        record(&mut times, took);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let per_second = f64::from(count) / total.as_secs_f64().max(f64::EPSILON);
    Ok(Appends { bytes, preallocated, per_second, latency: Latency::of(&times) })
}

impl Report for DiskReport {
    fn table(&self) -> String {
        let mut table = format!(
            "{} appends of each kind on {}, fdatasync after each\nbuild       {} {}\n\n{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            self.count,
            self.file_system,
            self.version,
            build(self.debug_build),
            "ms",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "per s"
        );
        for kind in &self.appends {
            let name =
                format!("{} bytes{}", kind.bytes, if kind.preallocated { ", space was there" } else { "" });
            table += &format!("{name:<28}{}{:>10.0}\n", kind.latency.row(), kind.per_second);
        }
        table
    }

    fn passed(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_measured_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let args = Args { dir: dir.path().to_owned(), count: 3, json: Some("-".into()) };
        let mut out = Vec::new();
        run(&args, &mut out).unwrap();
        let result: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(result["appends"].as_array().map(Vec::len), Some(4));
        assert!(result["appends"][0]["p99_ms"].as_f64() > Some(0.0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
