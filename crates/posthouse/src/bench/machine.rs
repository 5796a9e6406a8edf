//! What ran the measurements: processor, memory, kernel, file system, program. Written beside the results,
//! because a figure without its machine says nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::report::{self, Report};
use super::{Error, process};

/// The arguments of `posthouse bench machine`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the measurements keep their data.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The version of the source, as its repository names it.
    #[arg(long, value_name = "TEXT", default_value = "unknown")]
    commit: String,
    /// How much was run, such as `quick` or `full`.
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    mode: String,
    /// The day.
    #[arg(long, value_name = "DATE", default_value = "unknown")]
    date: String,
    /// Write the result as one JSON line to FILE instead of below the table; `-` prints only it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The machine and the program.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) bench: String,
    pub(super) version: String,
    pub(super) commit: String,
    pub(super) debug_build: bool,
    pub(super) mode: String,
    pub(super) date: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
    pub(super) file_system: String,
    /// What the kernel reads from that disk at once when a page is missing.
    pub(super) read_ahead_kib: Option<u64>,
    pub(super) clock: String,
    pub(super) governor: String,
    pub(super) open_files_max: Option<u64>,
    /// How busy its cores were before the measurements, with other work.
    pub(super) busy_percent: Option<f64>,
}

/// How long is looked at what others do.
const LOOK: Duration = Duration::from_secs(2);
/// More than what a quiet machine does for itself.
const BUSY_PERCENT: f64 = 10.0;

impl Machine {
    /// Whether others used it too.
    pub(super) fn is_busy(&self) -> bool {
        self.busy_percent.is_some_and(|busy| busy > BUSY_PERCENT)
    }

    pub(super) fn read_ahead(&self) -> String {
        self.read_ahead_kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{kib} KiB"))
    }
}

impl Report for Machine {
    fn table(&self) -> String {
        format!(
            "posthouse   {} ({}){}\nprocessor   {}, {} cores, {}\nmemory      {}\nkernel      Linux {}, clock {}, governor {}\ndata on     {}, read-ahead {}\n",
            self.version,
            self.commit,
            if self.debug_build { ", DEBUG BUILD" } else { "" },
            self.processor,
            self.cores,
            self.mode,
            report::mebibytes(self.memory_bytes),
            self.kernel,
            self.clock,
            self.governor,
            self.file_system,
            self.read_ahead(),
        )
    }

    fn passed(&self) -> bool {
        true
    }
}

/// Runs the command.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let line = |path: &str| {
        fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    let before = ticks(&line("/proc/stat"));
    sleep(LOOK).await;
    let machine = Machine {
        bench: "machine".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: args.commit.clone(),
        debug_build: cfg!(debug_assertions),
        mode: args.mode.clone(),
        date: args.date.clone(),
        processor: processor(&line("/proc/cpuinfo")),
        cores: process::cores(),
        memory_bytes: memory_bytes(&line("/proc/meminfo")),
        kernel: line("/proc/sys/kernel/osrelease"),
        file_system: process::file_system(&args.dir).unwrap_or_else(|| "unknown".to_owned()),
        read_ahead_kib: read_ahead_kib(&args.dir),
        clock: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        open_files_max: process::open_files_max(),
        busy_percent: before.zip(ticks(&line("/proc/stat"))).and_then(|(from, to)| busy_percent(from, to)),
    };
    report::publish(&machine, args.json.as_deref(), out)
}

/// Of the disk that holds `dir`.
fn read_ahead_kib(dir: &Path) -> Option<u64> {
    let device = process::device(dir)?;
    let name = device.file_name()?;
    let block = Path::new("/sys/class/block").join(name).canonicalize().ok()?;
    // A partition has what its disk has.
    let of = |folder: &Path| fs::read_to_string(folder.join("queue/read_ahead_kb")).ok();
    of(&block).or_else(|| of(block.parent()?))?.trim().parse().ok()
}

/// Time of all cores so far: idle, and in all.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let times: Vec<u64> = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))?
        .split_whitespace()
        // Guests' time is in the user's already.
        .take(8)
        .map_while(|time| time.parse().ok())
        .collect();
    // Idle, and idle but for a disk.
    Some((times.get(3)? + times.get(4)?, times.iter().sum()))
}

fn busy_percent(from: (u64, u64), to: (u64, u64)) -> Option<f64> {
    let (idle, all) = (to.0.saturating_sub(from.0), to.1.saturating_sub(from.1));
    (all > 0).then(|| 100.0 - idle.min(all) as f64 * 100.0 / all as f64)
}

fn processor(cpuinfo: &str) -> String {
    let value = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    // ARM has no name, only numbers.
    value("model name").or_else(|| value("CPU part")).unwrap_or_else(|| "unknown".to_owned())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_do_is_seen() {
        let before = ticks("cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        let after = ticks("cpu  130 0 70 940 60 0 0 0 9 9\n");
        assert_eq!((before, after), (Some((850, 1_000)), Some((1_000, 1_200))));
        assert_eq!(busy_percent((850, 1_000), (1_000, 1_200)), Some(25.0));
        assert_eq!(busy_percent((850, 1_000), (850, 1_000)), None);
        assert_eq!(ticks("cpu  1 2 3\n"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_is_read_as_it_was_written() {
        let args = Args {
            dir: ".".into(),
            commit: "c".to_owned(),
            mode: "full".to_owned(),
            date: "d".to_owned(),
            json: Some("-".into()),
        };
        let mut out = Vec::new();
        run(&args, &mut out).await.expect("the machine is known");
        let machine: Machine = serde_json::from_slice(&out).expect("a machine is read as it was written");
        assert!(machine.cores > 0 && machine.memory_bytes > 0);
        assert!(!Machine { busy_percent: Some(3.0), ..machine.clone() }.is_busy());
        assert!(Machine { busy_percent: Some(30.0), ..machine }.is_busy());
    }

    #[test]
    fn the_processor_and_its_memory_are_found() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Fast CPU @ 3 GHz\n\nprocessor\t: 1\n";
        assert_eq!(processor(cpuinfo), "Fast CPU @ 3 GHz");
        assert_eq!(processor("BogoMIPS: 50\nCPU part\t: 0xd0c\n"), "0xd0c");
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2_097_152);
    }
}
