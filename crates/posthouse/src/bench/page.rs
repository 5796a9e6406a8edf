//! `posthouse bench page`: `docs/performance.md` and its charts, from the raw results that `bench/run` left.
//! Nothing on that page is written by hand: a test compares it with the results, and whether a bar is met is
//! computed here.
//!
//! The results are one file for each measurement, with a line for each repetition; a figure is the median of
//! its repetitions. [`SECTIONS`] says which figures there are and what they are to reach.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use super::machine::Machine;
use super::report::grouped;
use chart::{Bars, Lines, Series, short};

mod chart;

/// The file beside the results that says where they were measured.
const MACHINE_FILE: &str = "machine.json";
/// Where the results are, from the root of the repository.
pub const RESULTS: &str = "bench/results";
const PAGE_FILE: &str = "docs/performance.md";
const CHARTS: &str = "docs/img";
/// No medium takes a forced write faster than this; what does is a cache.
const CACHED_FLUSH_MS: f64 = 0.1;
/// How much the costs of one workload may differ between small and large stores.
const SPREAD_PERCENT_MAX: f64 = 25.0;

/// The arguments of `posthouse bench page`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The repository: results are read from `bench/results` in it, the page is written to
    /// `docs/performance.md`, the charts to `docs/img`.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

/// One repetition of a measurement, as `bench/run` writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Run {
    /// What repeats it.
    command: String,
    /// Whether the workload itself was satisfied.
    passed: bool,
    result: Value,
}

/// All there is.
#[derive(Debug, Default)]
struct Results {
    machine: Option<Machine>,
    runs: BTreeMap<String, Vec<Run>>,
}

/// Writes the page.
pub(super) fn run(args: &Args) -> Result<(), Error> {
    for (path, text) in render(&args.root)? {
        let path = args.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// The files that the results of the repository at `root` give: paths from there, and contents.
pub fn render(root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    Ok(Results::read(&root.join(RESULTS))?.page())
}

impl Results {
    fn read(folder: &Path) -> io::Result<Self> {
        let mut results = Self::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let unreadable = |error| io::Error::other(format!("{}: {error}", path.display()));
            if path.ends_with(MACHINE_FILE) {
                results.machine = Some(serde_json::from_str(&text).map_err(unreadable)?);
            } else if let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jsonl")) {
                let runs = text.lines().map(serde_json::from_str).collect::<Result<Vec<Run>, _>>();
                results.runs.insert(id.to_owned(), runs.map_err(unreadable)?);
            }
        }
        Ok(results)
    }

    fn of(&self, id: &str) -> &[Run] {
        self.runs.get(id).map_or(&[], Vec::as_slice)
    }

    /// The median of a figure over the repetitions that have it.
    fn figure(&self, id: &str, read: Read) -> Option<f64> {
        median(self.of(id).iter().filter_map(|run| read.from(&run.result)).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Where a figure stands in a result.
#[derive(Clone, Copy, Debug)]
enum Read {
    /// A JSON pointer.
    At(&'static str),
    /// A JSON pointer in the ladder's step at the capacity.
    AtCapacity(&'static str),
    /// A field of one kind of request.
    Kind(&'static str, &'static str),
    /// How much more the second step has than the first, in percent.
    Growth(&'static str),
}

impl Read {
    fn from(self, result: &Value) -> Option<f64> {
        let number = |value: &Value, pointer: &str| value.pointer(pointer)?.as_f64();
        match self {
            Self::At(pointer) => number(result, pointer),
            Self::AtCapacity(pointer) => {
                let capacity = &result["capacity_per_second"];
                let steps = result["steps"].as_array()?;
                number(steps.iter().find(|step| step["rate"] == *capacity && !capacity.is_null())?, pointer)
            }
            Self::Kind(name, field) => {
                let kinds = result["kinds"].as_array()?;
                kinds.iter().find(|kind| kind["name"] == name)?[field].as_f64()
            }
            Self::Growth(pointer) => {
                let before = number(result.pointer("/steps/0")?, pointer).filter(|value| *value > 0.0)?;
                Some((number(result.pointer("/steps/1")?, pointer)? / before - 1.0) * 100.0)
            }
        }
    }
}

/// What a figure is to reach.
#[derive(Clone, Copy, Debug)]
enum Bar {
    /// It is there to know.
    None,
    AtMost(f64),
    AtLeast(f64),
    /// Three times the 99th percentile of the disk's own fsync, or 20 where that is larger.
    ThreeSyncs,
}

/// A figure of the page.
#[derive(Clone, Copy, Debug)]
struct Figure {
    what: &'static str,
    /// The measurement.
    id: &'static str,
    read: Read,
    /// By which its value is multiplied for the page.
    scale: f64,
    unit: &'static str,
    bar: Bar,
}

const fn figure(what: &'static str, id: &'static str, read: Read, unit: &'static str, bar: Bar) -> Figure {
    Figure { what, id, read, scale: 1.0, unit, bar }
}

const fn scaled(figure: Figure, scale: f64) -> Figure {
    Figure { scale, ..figure }
}

/// A workload on the page.
struct Section {
    title: &'static str,
    about: &'static str,
    figures: &'static [Figure],
    /// Measurements with a ladder, each a chart: id, file name, title.
    ladders: &'static [(&'static str, &'static str, &'static str)],
}

const KIB: f64 = 1.0 / 1_024.0;
const MIB: f64 = 1.0 / 1_048_576.0;

const SECTIONS: &[Section] = &[
    Section {
        title: "The floor: disk and echo",
        about: "What no server on this machine can beat. The disk: appends of 300 bytes, each forced to disk before \
                the next. The echo: a server that answers each WebSocket message with itself, on the crate and the \
                buffers that Posthouse uses, under the same generator.",
        figures: &[
            figure("append and fdatasync, p50", "disk", Read::At("/appends/0/p50_ms"), "ms", Bar::None),
            figure("append and fdatasync, p99", "disk", Read::At("/appends/0/p99_ms"), "ms", Bar::None),
            figure("appends", "disk", Read::At("/appends/0/per_second"), "/s", Bar::None),
            figure(
                "the same into space that was there, p99",
                "disk",
                Read::At("/appends/1/p99_ms"),
                "ms",
                Bar::None,
            ),
            figure("echoes", "floor", Read::At("/per_second"), "/s", Bar::None),
            figure("CPU an echo", "floor", Read::At("/cost/cpu_ms_per_request"), "ms", Bar::None),
            figure("echo, p99 at 1,000/s", "floor-1k", Read::At("/latency/p99_ms"), "ms", Bar::None),
        ],
        ladders: &[],
    },
    Section {
        title: "B1: one-to-one chat",
        about: "2,000 clients in 1,000 pairs, both directions, stored before acked, delivery acks. Up to 65,536 messages \
                wait in memory for the index: some 20 MiB that come and go.",
        figures: &[
            figure(
                "capacity, p99 ack < 200 ms",
                "b1-capacity",
                Read::At("/capacity_per_second"),
                "/s",
                Bar::AtLeast(15_000.0),
            ),
            figure(
                "CPU a message at the capacity",
                "b1-capacity",
                Read::AtCapacity("/server_cost/cpu_ms_per_message"),
                "ms",
                Bar::AtMost(0.06),
            ),
            figure(
                "written to disk a message at the capacity",
                "b1-capacity",
                Read::AtCapacity("/server_cost/written_bytes_per_message"),
                "bytes",
                Bar::None,
            ),
            figure("15,000/s, held for", "b1-held", Read::At("/steps/0/seconds"), "s", Bar::None),
            figure("ack then, p99", "b1-held", Read::At("/steps/0/ack/p99_ms"), "ms", Bar::AtMost(200.0)),
            figure("ack then, p99.9", "b1-held", Read::At("/steps/0/ack/p99_9_ms"), "ms", Bar::None),
            figure(
                "CPU a message then",
                "b1-held",
                Read::At("/steps/0/server_cost/cpu_ms_per_message"),
                "ms",
                Bar::AtMost(0.06),
            ),
            scaled(
                figure(
                    "resident as it begins",
                    "b1-held",
                    Read::At("/steps/0/server_cost/resident_bytes_start"),
                    "MiB",
                    Bar::None,
                ),
                MIB,
            ),
            scaled(
                figure(
                    "resident as it ends",
                    "b1-held",
                    Read::At("/steps/0/server_cost/resident_bytes_end"),
                    "MiB",
                    Bar::None,
                ),
                MIB,
            ),
            figure("ack at 1,000/s, p50", "b1-1k", Read::At("/steps/0/ack/p50_ms"), "ms", Bar::None),
            figure("ack at 1,000/s, p99", "b1-1k", Read::At("/steps/0/ack/p99_ms"), "ms", Bar::ThreeSyncs),
            figure("ack at 1,000/s, p99.9", "b1-1k", Read::At("/steps/0/ack/p99_9_ms"), "ms", Bar::None),
            figure(
                "CPU a message at 1,000/s",
                "b1-1k",
                Read::At("/steps/0/server_cost/cpu_ms_per_message"),
                "ms",
                Bar::None,
            ),
            figure(
                "written to disk a message at 1,000/s",
                "b1-1k",
                Read::At("/steps/0/server_cost/written_bytes_per_message"),
                "bytes",
                Bar::None,
            ),
            figure(
                "delivery at 1,000/s, p99",
                "b1-1k",
                Read::At("/steps/0/delivery/p99_ms"),
                "ms",
                Bar::AtMost(250.0),
            ),
            figure(
                "ack of 1,024 bytes at 1,000/s, p99",
                "b1-1k-large",
                Read::At("/steps/0/ack/p99_ms"),
                "ms",
                Bar::None,
            ),
            figure(
                "Easemob: ack at 1,000/s, p99",
                "b1-easemob-1k",
                Read::At("/steps/0/ack/p99_ms"),
                "ms",
                Bar::ThreeSyncs,
            ),
            figure(
                "Easemob: CPU a message at 1,000/s",
                "b1-easemob-1k",
                Read::At("/steps/0/server_cost/cpu_ms_per_message"),
                "ms",
                Bar::None,
            ),
        ],
        ladders: &[("b1-capacity", "b1-capacity.svg", "B1: latency of the ack as the load grows")],
    },
    Section {
        title: "B2: groups",
        about: "50 groups of 100 members, half of them online; and one group of 500, all online. One stored copy a \
                message.",
        figures: &[
            figure(
                "50 groups: deliveries a server CPU-second",
                "b2-groups",
                Read::AtCapacity("/deliveries_per_server_cpu_second"),
                "/s",
                Bar::AtLeast(100_000.0),
            ),
            figure(
                "50 groups: delivery, p99 at the capacity",
                "b2-groups",
                Read::AtCapacity("/delivery/p99_ms"),
                "ms",
                Bar::AtMost(250.0),
            ),
            figure(
                "group of 500: deliveries a server CPU-second",
                "b2-large",
                Read::AtCapacity("/deliveries_per_server_cpu_second"),
                "/s",
                Bar::AtLeast(100_000.0),
            ),
            figure(
                "group of 500: last member, p99 at the capacity",
                "b2-large",
                Read::AtCapacity("/last_delivery/p99_ms"),
                "ms",
                Bar::None,
            ),
        ],
        ladders: &[("b2-groups", "b2-groups.svg", "B2: latency of the ack as the load grows, 50 groups")],
    },
    Section {
        title: "B3: chat room",
        about: "One room with 5,000 clients, 10 % leave and come back a minute; then again while 1 % read 1 KB a second. \
                What those leave unread waits in the kernel first, up to 4 MiB a connection unless the system says \
                less; the server's own bound, behind which it closes them, is met by the test `floods`.",
        figures: &[
            figure(
                "deliveries a server CPU-second",
                "b3-room",
                Read::At("/steps/0/deliveries_per_server_cpu_second"),
                "/s",
                Bar::AtLeast(100_000.0),
            ),
            figure(
                "delivery, p99",
                "b3-room",
                Read::At("/steps/0/delivery/p99_ms"),
                "ms",
                Bar::AtMost(250.0),
            ),
            figure(
                "others' delivery, p99, when 1 % read slowly: growth",
                "b3-room",
                Read::Growth("/delivery/p99_ms"),
                "%",
                Bar::AtMost(10.0),
            ),
            figure(
                "slow readers that were closed",
                "b3-room",
                Read::At("/steps/1/slow_closed"),
                "",
                Bar::None,
            ),
            scaled(
                figure(
                    "resident at the end, without slow readers",
                    "b3-room",
                    Read::At("/steps/0/server_cost/resident_bytes_end"),
                    "MiB",
                    Bar::None,
                ),
                MIB,
            ),
            scaled(
                figure(
                    "resident at the end, with them",
                    "b3-room",
                    Read::At("/steps/1/server_cost/resident_bytes_end"),
                    "MiB",
                    Bar::None,
                ),
                MIB,
            ),
        ],
        ladders: &[],
    },
    Section {
        title: "B4: idle connections",
        about: "Logged-in clients that only send the SDK's heartbeat. Kernel memory is of both ends, because both are on \
                this machine.",
        figures: &[
            figure("connections held", "b4-plain", Read::At("/connected"), "", Bar::AtLeast(15_000.0)),
            scaled(
                figure(
                    "resident a connection",
                    "b4-plain",
                    Read::At("/resident_bytes_per_connection"),
                    "KiB",
                    Bar::AtMost(10.0),
                ),
                KIB,
            ),
            scaled(
                figure(
                    "resident a connection, TLS",
                    "b4-tls",
                    Read::At("/resident_bytes_per_connection"),
                    "KiB",
                    Bar::AtMost(25.0),
                ),
                KIB,
            ),
            figure(
                "CPU a connection",
                "b4-plain",
                Read::At("/cpu_us_per_second_per_connection"),
                "µs/s",
                Bar::AtMost(3.0),
            ),
            scaled(
                figure(
                    "kernel tables a connection, both ends",
                    "b4-plain",
                    Read::At("/slab_bytes_per_connection"),
                    "KiB",
                    Bar::None,
                ),
                KIB,
            ),
            scaled(
                figure(
                    "resident after all have left",
                    "b4-plain",
                    Read::At("/resident_bytes_after"),
                    "MiB",
                    Bar::None,
                ),
                MIB,
            ),
            scaled(
                figure(
                    "resident, empty server",
                    "b4-plain",
                    Read::At("/resident_bytes_before"),
                    "MiB",
                    Bar::AtMost(20.0),
                ),
                MIB,
            ),
            figure("empty server ready", "b4-plain", Read::At("/ready_in_ms"), "ms", Bar::AtMost(500.0)),
        ],
        ladders: &[],
    },
    Section {
        title: "B5: logins",
        about: "Distinct users, each on a new connection: TCP, WebSocket, login with a token whose HMAC the server \
                checks. Then the storm: kill -9 with everybody connected, all back within 5 s of jitter, each asking for \
                its conversations.",
        figures: &[
            figure(
                "LeanCloud logins, as many as are answered",
                "b5-leancloud",
                Read::At("/per_second"),
                "/s",
                Bar::AtLeast(5_000.0),
            ),
            figure("LeanCloud login, p99 then", "b5-leancloud", Read::At("/latency/p99_ms"), "ms", Bar::None),
            figure(
                "CPU a LeanCloud login",
                "b5-leancloud",
                Read::At("/cost/cpu_ms_per_request"),
                "ms",
                Bar::None,
            ),
            figure(
                "Easemob logins, as many as are answered",
                "b5-easemob",
                Read::At("/per_second"),
                "/s",
                Bar::AtLeast(5_000.0),
            ),
            figure("Easemob login, p99 then", "b5-easemob", Read::At("/latency/p99_ms"), "ms", Bar::None),
            figure("LeanCloud logins over TLS", "b5-tls", Read::At("/per_second"), "/s", Bar::None),
            figure(
                "storm: 99 % back after the kill",
                "b5-storm",
                Read::At("/back_99_seconds"),
                "s",
                Bar::None,
            ),
            figure("storm: attempts refused", "b5-storm", Read::At("/refused_percent"), "%", Bar::None),
            scaled(
                figure(
                    "storm: most resident",
                    "b5-storm",
                    Read::At("/resident_bytes_peak"),
                    "MiB",
                    Bar::None,
                ),
                MIB,
            ),
        ],
        ladders: &[],
    },
    Section {
        title: "B6: history",
        about: "200 readers page through 20,000 conversations of Zipf's sizes, 20 messages a page. Cold: one reader; \
                before each read all files leave the page cache, and the server is restarted between rounds; that \
                reads went to disk is counted at the process.",
        figures: &[
            figure("messages stored", "b6-warm", Read::At("/details/messages"), "", Bar::None),
            figure("newest page, warm, p50", "b6-warm", Read::Kind("newest page", "p50_ms"), "ms", Bar::None),
            figure(
                "newest page, warm, p99",
                "b6-warm",
                Read::Kind("newest page", "p99_ms"),
                "ms",
                Bar::AtMost(5.0),
            ),
            figure(
                "page further back, warm, p99",
                "b6-warm",
                Read::Kind("page further back", "p99_ms"),
                "ms",
                Bar::None,
            ),
            figure(
                "page of a random time, warm, p99",
                "b6-warm",
                Read::Kind("random time", "p99_ms"),
                "ms",
                Bar::None,
            ),
            figure("CPU a page", "b6-warm", Read::At("/cost/cpu_ms_per_request"), "ms", Bar::None),
            figure("newest page, cold, p50", "b6-cold", Read::Kind("newest page", "p50_ms"), "ms", Bar::None),
            figure(
                "newest page, cold, p99",
                "b6-cold",
                Read::Kind("newest page", "p99_ms"),
                "ms",
                Bar::AtMost(15.0),
            ),
            figure(
                "pages of 4 KiB from disk for a cold read",
                "b6-cold",
                Read::At("/details/disk_pages_per_read"),
                "",
                Bar::None,
            ),
        ],
        ladders: &[],
    },
    Section {
        title: "B7: what waits for those who were away",
        about: "Users with 50 conversations of 120 unread messages each log in within a minute, in shorter runs \
                within ten seconds; one user with 500 conversations. Everything must arrive, once and in order.",
        figures: &[
            figure(
                "Easemob: delivered",
                "b7-easemob",
                Read::At("/delivered_percent"),
                "%",
                Bar::AtLeast(100.0),
            ),
            figure(
                "Easemob: complete sync of 6,000, p50",
                "b7-easemob",
                Read::At("/sync/p50_ms"),
                "ms",
                Bar::None,
            ),
            figure(
                "Easemob: complete sync of 6,000, p99",
                "b7-easemob",
                Read::At("/sync/p99_ms"),
                "ms",
                Bar::AtMost(2_000.0),
            ),
            figure(
                "LeanCloud: delivered",
                "b7-leancloud",
                Read::At("/delivered_percent"),
                "%",
                Bar::AtLeast(100.0),
            ),
            figure(
                "LeanCloud: complete sync of 6,000, p50",
                "b7-leancloud",
                Read::At("/sync/p50_ms"),
                "ms",
                Bar::None,
            ),
            figure(
                "LeanCloud: complete sync of 6,000, p99",
                "b7-leancloud",
                Read::At("/sync/p99_ms"),
                "ms",
                Bar::AtMost(2_000.0),
            ),
            figure(
                "one user with the most, Easemob: messages",
                "b7-one-easemob",
                Read::At("/waiting"),
                "",
                Bar::None,
            ),
            figure(
                "one user with the most, Easemob: complete sync",
                "b7-one-easemob",
                Read::At("/sync/max_ms"),
                "ms",
                Bar::None,
            ),
            figure(
                "one user with the most, LeanCloud: complete sync",
                "b7-one-leancloud",
                Read::At("/sync/max_ms"),
                "ms",
                Bar::None,
            ),
        ],
        ladders: &[],
    },
    Section {
        title: "B8: conversation lists",
        about: "1,000 users with 200 conversations each read lists with last message and unread number over REST on \
                kept connections; 5 % of requests send a message.",
        figures: &[
            figure(
                "lists of 100, p99 < 25 ms",
                "b8-100",
                Read::At("/capacity_per_second"),
                "/s",
                Bar::AtLeast(2_000.0),
            ),
            figure(
                "lists of 100: p99 at the capacity",
                "b8-100",
                Read::At("/latency/p99_ms"),
                "ms",
                Bar::AtMost(25.0),
            ),
            figure(
                "lists of 100: CPU a request",
                "b8-100",
                Read::At("/cost/cpu_ms_per_request"),
                "ms",
                Bar::None,
            ),
            figure("lists of 25, p99 < 25 ms", "b8-25", Read::At("/capacity_per_second"), "/s", Bar::None),
            figure(
                "lists of 25: CPU a request",
                "b8-25",
                Read::At("/cost/cpu_ms_per_request"),
                "ms",
                Bar::None,
            ),
            figure(
                "first list of a user after a restart, p99",
                "b8-100",
                Read::At("/details/first_after_restart/p99_ms"),
                "ms",
                Bar::None,
            ),
        ],
        ladders: &[("b8-100", "b8-100.svg", "B8: latency of lists of 100 as the load grows")],
    },
];

/// The sizes of the stores between which costs are compared, as in the measurements' ids.
const SIZES: [(&str, &str); 3] = [("100k", "100,000"), ("1m", "1,000,000"), ("10m", "10,000,000")];

/// What is compared between them: name, beginning of the id, figure.
const FLAT: [(&str, &str, Read); 3] = [
    ("B1, CPU-ms a message", "b1-size", Read::At("/steps/0/server_cost/cpu_ms_per_message")),
    ("B6, CPU-ms a page, warm", "b6-size", Read::At("/cost/cpu_ms_per_request")),
    ("B8, CPU-ms a list of 25", "b8-size", Read::At("/cost/cpu_ms_per_request")),
];

impl Results {
    fn page(&self) -> Vec<(PathBuf, String)> {
        let mut text = self.head();
        let mut charts = Vec::new();
        for section in SECTIONS {
            self.section(section, &mut text, &mut charts);
        }
        self.flatness(&mut text, &mut charts);
        let mut files = vec![(PathBuf::from(PAGE_FILE), text)];
        files.extend(charts.into_iter().map(|(name, svg)| (Path::new(CHARTS).join(name), svg)));
        files
    }

    fn head(&self) -> String {
        let mut text =
            "# Performance\n\n<!-- Generated by `posthouse bench page` from bench/results; do not edit. \
                        -->\n\n"
                .to_owned();
        match &self.machine {
            Some(machine) => {
                let Machine { version, commit, mode, date, processor, cores, kernel, .. } = machine;
                line(
                    &mut text,
                    format_args!(
                        "Posthouse {version}, commit {commit}, measured {date} by `bench/run` ({mode}). {processor}, {cores} \
                     cores, {} of memory, Linux {kernel}, data on {} with a read-ahead of {}, clock {}, governor {}.\n",
                        super::report::mebibytes(machine.memory_bytes),
                        machine.file_system,
                        machine.read_ahead(),
                        machine.clock,
                        machine.governor
                    ),
                );
                if machine.debug_build {
                    text += "**A debug build: these figures are of no value.**\n\n";
                }
                if machine.is_busy() {
                    line(
                        &mut text,
                        format_args!(
                            "**The machine was busy with other work ({:.0} % before the first measurement): throughput and latencies are \
                             worse than Posthouse is, and vary.**\n",
                            machine.busy_percent.unwrap_or_default()
                        ),
                    );
                }
                if mode != "full" {
                    text += "This was not the full run: short, few repetitions. Read the figures as a sign of life; \
                             `bench/run --full` takes hours and means them.\n\n";
                }
            }
            None => text += "The machine is not known.\n\n",
        }
        text + "The server runs on one core and the load generator on another of the same machine, over loopback and \
                without TLS unless said. Every ack means D2: the message is on disk (SQLite WAL, synchronous=FULL). \
                Load with a rate is open loop, and latency counts from the scheduled time. Every workload checks what \
                it receives; a run that lost, doubled or reordered anything, or was answered wrongly, is marked. A \
                figure is the median of its runs. How each workload is defined: `posthouse bench WORKLOAD --help`.\n"
    }

    fn section(&self, section: &Section, text: &mut String, charts: &mut Vec<(String, String)>) {
        line(text, format_args!("\n## {}\n\n{}\n", section.title, section.about));
        *text += "| figure | to reach | measured | |\n|---|---|---|---|\n";
        for figure in section.figures {
            let value = self.figure(figure.id, figure.read).map(|value| value * figure.scale);
            let unit = figure.unit;
            let missing = if self.of(figure.id).is_empty() { "not measured" } else { "none" };
            let shown = value.map_or_else(|| missing.to_owned(), |value| with_unit(value, unit));
            let (bar, met) = self.judge(figure, value);
            line(text, format_args!("| {} | {bar} | {shown} | {met} |", figure.what));
        }
        for (id, file, title) in section.ladders {
            if let Some(svg) = self.ladder_chart(id, title) {
                line(text, format_args!("\n![{title}](img/{file})"));
                charts.push(((*file).to_owned(), svg));
            }
        }
        self.commands(section, text);
        let flush = self.figure("disk", Read::At("/appends/0/p50_ms"));
        if section.figures.iter().any(|figure| figure.id == "disk")
            && flush.is_some_and(|ms| ms < CACHED_FLUSH_MS)
        {
            *text += "\nA flush as fast as this ends in a cache, of the disk or of whoever lends the disk: what is \
                      called on disk here survives a power cut if that cache does. A slower disk adds its flush to \
                      the latencies below.\n";
        }
    }

    fn judge(&self, figure: &Figure, value: Option<f64>) -> (String, &'static str) {
        let unit = figure.unit;
        let at_most = |bar: f64| (format!("≤ {}", with_unit(bar, unit)), value.map(|value| value <= bar));
        let (bar, met) = match figure.bar {
            Bar::None => return (String::new(), ""),
            Bar::AtMost(bar) => at_most(bar),
            Bar::AtLeast(bar) => (format!("≥ {}", with_unit(bar, unit)), value.map(|value| value >= bar)),
            Bar::ThreeSyncs => match self.figure("disk", Read::At("/appends/0/p99_ms")) {
                Some(sync) => at_most((sync * 3.0).max(20.0)),
                None => at_most(20.0),
            },
        };
        let runs = self.of(figure.id);
        // A run that failed, or in which there was nothing to measure, such as a rate that held, met nothing.
        let all = runs.iter().all(|run| run.passed && figure.read.from(&run.result).is_some());
        let judged = match met {
            _ if runs.is_empty() => "",
            Some(true) if all => "met",
            Some(_) | None => "**not met**",
        };
        (bar, judged)
    }

    /// How to repeat what the section shows, what failed, and what the runs themselves noted.
    fn commands(&self, section: &Section, text: &mut String) {
        let mut ids: Vec<&str> = Vec::new();
        for figure in section.figures {
            if !ids.contains(&figure.id) && !self.of(figure.id).is_empty() {
                ids.push(figure.id);
            }
        }
        if ids.is_empty() {
            return;
        }
        *text += "\n";
        for id in ids {
            let runs = self.of(id);
            let failed = runs.iter().filter(|run| !run.passed).count();
            let Some(last) = runs.last() else { continue };
            let count = runs.len();
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
            line(text, format_args!("- [{id}](../{RESULTS}/{id}.jsonl), {times}: `{}`", last.command));
            if failed > 0 {
                line(text, format_args!("  **{failed} of {count} runs did not pass**{}", problem_of(runs)));
            }
            if is_cut_short(&last.result) {
                line(text, format_args!("  Note: the last step passed too; the capacity is higher."));
            }
            for note in last.result["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                line(text, format_args!("  Note: {note}."));
            }
        }
    }

    fn ladder_chart(&self, id: &str, title: &str) -> Option<String> {
        let steps = self.of(id).last()?.result["steps"].as_array()?;
        // Either of messages, with an ack, or of requests.
        let of = |name: &str, below: [&str; 2]| {
            let at = |step: &Value| {
                let y = below.iter().find_map(|pointer| step.pointer(pointer)?.as_f64())?;
                Some((step["rate"].as_f64()?, y))
            };
            Series { name: name.to_owned(), points: steps.iter().filter_map(at).collect() }
        };
        let series = vec![of("p50", ["/ack/p50_ms", "/p50_ms"]), of("p99", ["/ack/p99_ms", "/p99_ms"])];
        if series.iter().any(|series| series.points.len() < 2) {
            return None;
        }
        let limit = if id.starts_with("b8") { 25.0 } else { 200.0 };
        let limit = Some((limit, format!("the limit, {limit} ms")));
        Some(Lines { title: title.to_owned(), x: "a second, scheduled", y: "ms", series, limit }.svg())
    }

    fn flatness(&self, text: &mut String, charts: &mut Vec<(String, String)>) {
        *text += "\n## Flatness: the same on small and large stores\n\n\
                  The same load on a store of 40 users and 500 conversations with more and more messages, medians. \
                  The difference is that of the dearest to the cheapest.\n\n\
                  | | 100,000 | 1,000,000 | 10,000,000 | difference | to reach | |\n|---|---|---|---|---|---|---|\n";
        let mut bars = Vec::new();
        for (name, prefix, read) in FLAT {
            let values: Vec<Option<f64>> =
                SIZES.iter().map(|(size, _)| self.figure(&format!("{prefix}-{size}"), read)).collect();
            let shown: Vec<String> =
                values.iter().map(|value| value.map_or_else(|| "not measured".to_owned(), short)).collect();
            let spread = spread_percent(&values);
            let met = match spread {
                None => "",
                Some(_) if values.contains(&None) => "not all measured",
                Some(spread) if spread < SPREAD_PERCENT_MAX => "met",
                Some(_) => "**not met**",
            };
            line(
                text,
                format_args!(
                    "| {name} | {} | {} | < {SPREAD_PERCENT_MAX} % | {met} |",
                    shown.join(" | "),
                    spread.map_or_else(String::new, |spread| format!("{spread:.0} %"))
                ),
            );
            let first = values.iter().flatten().next().copied();
            for ((_, size), value) in SIZES.iter().zip(&values) {
                if let (Some(value), Some(first)) = (value, first.filter(|first| *first > 0.0)) {
                    let name = format!("{} {size}", &name[..2]);
                    bars.push((name, value / first * 100.0, Some(100.0 + SPREAD_PERCENT_MAX)));
                }
            }
        }
        let held = SIZES
            .map(|(size, _)| self.figure(&format!("b6-size-{size}"), Read::At("/details/messages_per_page")));
        if let [Some(small), Some(middle), Some(large)] = held {
            line(
                text,
                format_args!(
                    "\nThe pages of history that were read held {small:.1}, {middle:.1} and {large:.1} messages on average."
                ),
            );
        }
        if bars.len() >= 2 {
            let title = "Cost by messages stored, the smallest store being 100".to_owned();
            charts
                .push(("flatness.svg".to_owned(), Bars { title, y: "% of the cost at 100,000", bars }.svg()));
            *text += "\n![Cost by messages stored](img/flatness.svg)\n";
        }
        *text += "\n";
        for (_, prefix, _) in FLAT {
            for (size, _) in SIZES {
                let id = format!("{prefix}-{size}");
                if let Some(run) = self.of(&id).last() {
                    line(text, format_args!("- [{id}](../{RESULTS}/{id}.jsonl): `{}`", run.command));
                }
            }
        }
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing to a string never fails");
}

/// How much the dearest exceeds the cheapest; `None` if there are not two.
fn spread_percent(values: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = values.iter().flatten().copied().filter(|value| *value > 0.0).collect();
    let (low, high) =
        known.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    (known.len() >= 2).then(|| (high / low - 1.0) * 100.0)
}

/// Whether a ladder ended on a step that passed.
fn is_cut_short(result: &Value) -> bool {
    let last = result["steps"].as_array().and_then(|steps| steps.last());
    result["ladder"] == true && last.is_some_and(|last| last["rate"] == result["capacity_per_second"])
}

/// A problem of a run that did not pass, in its own words.
fn problem_of(runs: &[Run]) -> String {
    let told = |value: &Value| Some(value["problems"].as_array()?.first()?.as_str()?.to_owned());
    let steps = |value: &Value| value["steps"].as_array()?.iter().find_map(told);
    runs.iter()
        .filter(|run| !run.passed)
        .find_map(|run| told(&run.result).or_else(|| steps(&run.result)))
        .map_or_else(String::new, |problem| format!(": {problem}"))
}

fn with_unit(value: f64, unit: &str) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is rounded, and not negative"
    )]
    let number = if value >= 1_000.0 { grouped(value.round() as u64) } else { short(value) };
    match unit {
        "" => number,
        "/s" | "%" => format!("{number}{}{unit}", if unit == "%" { " " } else { "" }),
        unit => format!("{number} {unit}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(runs: &[(&str, Value)]) -> Results {
        let mut results = Results::default();
        for (id, result) in runs {
            let run = Run { command: format!("posthouse bench {id}"), passed: true, result: result.clone() };
            results.runs.entry((*id).to_owned()).or_default().push(run);
        }
        results
    }

    fn row(results: &Results, what: &str) -> String {
        let page = results.page().remove(0).1;
        page.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_bar_is_met_or_not_by_the_median_of_the_runs() {
        let capacity = |rate: u32| ("b1-capacity", json!({ "capacity_per_second": rate, "steps": [] }));
        let of = |rates: [u32; 3]| results(&rates.map(capacity));
        let what = "capacity, p99 ack";
        assert_eq!(
            row(&of([9_000, 16_000, 15_000]), what),
            "| capacity, p99 ack < 200 ms | ≥ 15,000/s | 15,000/s | met |"
        );
        assert!(row(&of([9_000, 16_000, 14_999]), what).ends_with("| 14,999/s | **not met** |"));
        let none = ("b1-capacity", json!({ "capacity_per_second": null, "steps": [] }));
        assert!(row(&results(std::slice::from_ref(&none)), what).ends_with("| none | **not met** |"));
        assert!(
            row(&results(&[capacity(16_000), none, capacity(16_000)]), what).ends_with("| **not met** |")
        );
        let mut failed = of([16_000, 16_000, 16_000]);
        failed.runs.get_mut("b1-capacity").unwrap()[1].passed = false;
        assert!(row(&failed, what).ends_with("| 16,000/s | **not met** |"));
        assert!(row(&Results::default(), what).ends_with("| not measured |  |"));
    }

    #[test]
    fn the_bar_of_the_ack_follows_the_disk() {
        let with = |sync: f64, ack: f64| {
            let disk = ("disk", json!({ "appends": [{ "p99_ms": sync }] }));
            row(
                &results(&[disk, ("b1-1k", json!({ "steps": [{ "ack": { "p99_ms": ack } }] }))]),
                "| ack at 1,000/s, p99 |",
            )
        };
        assert_eq!(with(2.0, 19.0), "| ack at 1,000/s, p99 | ≤ 20 ms | 19 ms | met |");
        assert_eq!(with(10.0, 31.0), "| ack at 1,000/s, p99 | ≤ 30 ms | 31 ms | **not met** |");
    }

    #[test]
    fn figures_at_the_capacity_are_of_that_step() {
        let step =
            |rate: u32, cpu: f64| json!({ "rate": rate, "server_cost": { "cpu_ms_per_message": cpu } });
        let result =
            json!({ "capacity_per_second": 125, "steps": [step(100, 0.1), step(125, 0.05), step(156, 9.0)] });
        let read = Read::AtCapacity("/server_cost/cpu_ms_per_message");
        assert_eq!(read.from(&result), Some(0.05));
        assert_eq!(read.from(&json!({ "capacity_per_second": null, "steps": [{ "rate": null }] })), None);
        let slow =
            json!({ "steps": [{ "delivery": { "p99_ms": 20.0 } }, { "delivery": { "p99_ms": 23.0 } }] });
        let growth = Read::Growth("/delivery/p99_ms").from(&slow).unwrap();
        assert!((growth - 15.0).abs() < 1e-9);
        let kinds = json!({ "kinds": [{ "name": "a", "p99_ms": 1.0 }, { "name": "b", "p99_ms": 2.0 }] });
        assert_eq!(Read::Kind("b", "p99_ms").from(&kinds), Some(2.0));
    }

    #[test]
    fn flatness_compares_the_sizes() {
        let at = |id: &'static str, cpu: f64| (id, json!({ "cost": { "cpu_ms_per_request": cpu } }));
        let flat = results(&[at("b6-size-100k", 0.10), at("b6-size-1m", 0.11), at("b6-size-10m", 0.12)]);
        assert!(row(&flat, "B6, CPU-ms").ends_with("| 20 % | < 25 % | met |"));
        let steep = results(&[at("b6-size-100k", 0.10), at("b6-size-1m", 0.11), at("b6-size-10m", 0.13)]);
        assert!(row(&steep, "B6, CPU-ms").ends_with("| 30 % | < 25 % | **not met** |"));
        let partial = results(&[at("b6-size-100k", 0.10), at("b6-size-1m", 0.10)]);
        assert!(row(&partial, "B6, CPU-ms").ends_with("not all measured |"));
        assert!(flat.page().iter().any(|(path, _)| path.ends_with("flatness.svg")));
    }

    #[test]
    fn a_run_that_did_not_pass_is_named_with_its_problem() {
        let mut failed = results(&[("b5-storm", json!({ "problems": ["nobody came back"] }))]);
        failed.runs.get_mut("b5-storm").unwrap()[0].passed = false;
        assert!(row(&failed, "1 of 1 runs did not pass").contains("nobody came back"));
    }

    #[test]
    fn a_ladder_that_ended_too_early_says_so() {
        let ladder = |last: u32| {
            let steps = json!([{ "rate": 100 }, { "rate": last }]);
            ("b1-capacity", json!({ "ladder": true, "capacity_per_second": 125, "steps": steps }))
        };
        let note = "the capacity is higher";
        assert!(row(&results(&[ladder(125)]), note).contains("Note"));
        assert_eq!(row(&results(&[ladder(156)]), note), "");
    }

    #[test]
    fn a_ladder_becomes_a_chart() {
        let step = |rate: u32, p99: f64| json!({ "rate": rate, "p50_ms": 1.0, "p99_ms": p99 });
        let ladder = results(&[("b8-100", json!({ "steps": [step(100, 2.0), step(125, 30.0)] }))]);
        let files = ladder.page();
        assert!(files[0].1.contains("](img/b8-100.svg)"));
        assert!(
            files.iter().any(|(path, svg)| path.ends_with("img/b8-100.svg") && svg.contains("<polyline"))
        );
    }

    #[test]
    fn results_come_back_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join(RESULTS);
        fs::create_dir_all(&results).unwrap();
        let run = |per_second: f64| {
            format!("{}\n", json!({ "command": "c", "passed": true, "result": { "per_second": per_second } }))
        };
        fs::write(results.join("floor.jsonl"), run(1.0) + &run(5_000.0) + &run(9_000.0)).unwrap();
        super::run(&Args { root: folder.path().to_owned() }).unwrap();
        let page = fs::read_to_string(folder.path().join(PAGE_FILE)).unwrap();
        assert!(page.contains("| echoes |  | 5,000/s |  |"), "{page}");
        assert!(page.contains("[floor](../bench/results/floor.jsonl), 3 times: `c`"), "{page}");
        fs::write(results.join("floor.jsonl"), "no JSON\n").unwrap();
        assert!(render(folder.path()).is_err());
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![f64::NAN]), None);
    }
}
