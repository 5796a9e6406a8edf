//! What a run found out: a table for people, one JSON line for machines.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Error;

/// The durability class of every ack, which a figure without is void.
pub const DURABILITY: &str = "D2 (acked after the commit is on disk: SQLite WAL, synchronous=FULL)";

/// A result that can be printed.
pub trait Report: Serialize {
    /// The table.
    fn table(&self) -> String;
    /// Whether nothing was lost, doubled, out of order, refused or unanswered.
    fn passed(&self) -> bool;
}

/// Writes the table and the JSON line where they are wanted (see `--json`), then fails if the run
/// did not pass.
pub fn publish(report: &impl Report, json: Option<&Path>, out: &mut dyn Write) -> Result<(), Error> {
    let line = serde_json::to_string(report).map_err(io::Error::from)?;
    match json {
        None => write!(out, "{}\n{line}\n", report.table())?,
        Some(path) if path == Path::new("-") => writeln!(out, "{line}")?,
        Some(path) => {
            out.write_all(report.table().as_bytes())?;
            fs::write(path, format!("{line}\n"))?;
        }
    }
    out.flush()?;
    if report.passed() { Ok(()) } else { Err(Error::Violated) }
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    pub max_ms: f64,
}

impl Latency {
    /// Of a histogram in microseconds.
    #[must_use]
    pub fn of(us: &Histogram<u64>) -> Self {
        let at = |quantile| us.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: us.max() as f64 / 1_000.0,
        }
    }

    fn row(&self) -> String {
        format!(
            "{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p99_9_ms, self.max_ms
        )
    }
}

/// What the measured time cost the server.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct ServerCost {
    /// CPU time by accepted message, everything included.
    pub cpu_ms_per_message: f64,
    /// Cores in use, on average.
    pub cores: f64,
    /// Resident memory when the measured time began.
    pub resident_bytes_start: u64,
    /// And when it ended.
    pub resident_bytes_end: u64,
    /// Bytes written to disk by accepted message.
    pub written_bytes_per_message: Option<f64>,
}

/// The result of `bench pairs`. Counts are of the whole run, latencies and costs of the measured
/// time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PairsReport {
    /// The workload's name.
    pub bench: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// Not an optimised build: of no value but for trying.
    pub debug_build: bool,
    /// Of this machine.
    pub cores: usize,
    /// What was measured, in words.
    pub server: String,
    /// Started for this run.
    pub own_server: bool,
    /// What an ack promises.
    pub durability: &'static str,
    /// Connected clients.
    pub clients: u32,
    /// Messages a second that were scheduled.
    pub rate: u32,
    /// Measured time.
    pub seconds: u64,
    /// Before it.
    pub warm_up_seconds: u64,
    /// Of a message's content.
    pub payload_bytes: usize,
    /// Repeats this schedule.
    pub seed: u64,
    /// Messages in the schedule.
    pub scheduled: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages accepted by the server.
    pub acked: u64,
    /// Messages that arrived, each counted once.
    pub delivered: u64,
    /// In the measured time.
    pub acked_per_second: Option<f64>,
    /// From the scheduled time to the ack at the sender.
    pub ack: Latency,
    /// From the scheduled time to the arrival at the receiver.
    pub delivery: Latency,
    /// From the scheduled time to the moment the generator sent; part of the two above.
    pub generator_lag: Latency,
    /// Accepted and not delivered.
    pub lost: u64,
    /// Arrived again.
    pub duplicates: u64,
    /// Arrived after a later one, or with a server time that went back.
    pub disorders: u64,
    /// Not accepted.
    pub refused: u64,
    /// Neither accepted nor refused.
    pub unanswered: u64,
    /// Of the unanswered, those that did not arrive either.
    pub undelivered: u64,
    /// Some of what went wrong, in words.
    pub problems: Vec<String>,
    /// Unknown without the server's process.
    pub server_cost: Option<ServerCost>,
    /// What the generator itself used, warm-up and drain included.
    pub generator_cpu_ms: Option<u64>,
}

impl Report for PairsReport {
    fn passed(&self) -> bool {
        let violations = self.lost + self.duplicates + self.disorders + self.refused + self.unanswered;
        violations == 0 && self.sent == self.scheduled && self.problems.is_empty()
    }

    fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("writing to a string never fails");
        text
    }
}

impl PairsReport {
    fn write_table(&self, t: &mut String) -> std::fmt::Result {
        writeln!(
            t,
            "{} clients in pairs, {} messages/s for {} s after {} s of warm-up, {} bytes each",
            grouped(self.clients.into()),
            grouped(self.rate.into()),
            self.seconds,
            self.warm_up_seconds,
            self.payload_bytes
        )?;
        writeln!(t, "server      {}", self.server)?;
        writeln!(t, "durability  {}", self.durability)?;
        writeln!(t, "schedule    open loop, Poisson, seed {}; latency from the scheduled time", self.seed)?;
        writeln!(t, "build       {} {}, {} cores", self.version, build(self.debug_build), self.cores)?;
        writeln!(t)?;
        writeln!(t, "{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p90", "p99", "p99.9", "max")?;
        writeln!(t, "{:<18}{}", "ack", self.ack.row())?;
        writeln!(t, "{:<18}{}", "delivery", self.delivery.row())?;
        writeln!(t, "{:<18}{}", "generator's lag", self.generator_lag.row())?;
        writeln!(t)?;
        writeln!(
            t,
            "scheduled {}   sent {}   acked {}   delivered {}   acked/s {}",
            grouped(self.scheduled),
            grouped(self.sent),
            grouped(self.acked),
            grouped(self.delivered),
            self.acked_per_second.map_or_else(unknown, |rate| format!("{rate:.1}"))
        )?;
        writeln!(
            t,
            "lost {}   duplicated {}   out of order {}   refused {}   unanswered {}",
            grouped(self.lost),
            grouped(self.duplicates),
            grouped(self.disorders),
            grouped(self.refused),
            grouped(self.unanswered)
        )?;
        match &self.server_cost {
            Some(cost) => writeln!(
                t,
                "server CPU {:.3} ms/message ({:.2} cores)   memory {} -> {}   written {}/message",
                cost.cpu_ms_per_message,
                cost.cores,
                mebibytes(cost.resident_bytes_start),
                mebibytes(cost.resident_bytes_end),
                cost.written_bytes_per_message.map_or_else(unknown, |bytes| format!("{bytes:.0} bytes"))
            )?,
            None => writeln!(t, "server CPU and memory unknown: no --server-pid, or that process has ended")?,
        }
        for problem in &self.problems {
            writeln!(t, "problem: {problem}")?;
        }
        let clean = "PASS: nothing lost, doubled, out of order, refused or unanswered";
        writeln!(t, "{}", if self.passed() { clean } else { "FAIL" })
    }
}

/// The result of `bench idle`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct IdleReport {
    /// The workload's name.
    pub bench: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// Not an optimised build: of no value but for trying.
    pub debug_build: bool,
    /// What was measured, in words.
    pub server: String,
    /// Started for this run.
    pub own_server: bool,
    /// Connections held.
    pub clients: u32,
    /// How long.
    pub seconds: u64,
    /// How long it took until all were logged in.
    pub connected_in_seconds: f64,
    /// Server memory before the first connection; the next ones are `None` too if it is unknown.
    pub resident_bytes_before: Option<u64>,
    /// When all were logged in.
    pub resident_bytes_settled: Option<u64>,
    /// At the end of the hold.
    pub resident_bytes_held: Option<u64>,
    /// After all had left.
    pub resident_bytes_after: Option<u64>,
    /// The difference of hold and before, by connection.
    pub resident_bytes_per_connection: Option<f64>,
    /// CPU time during the hold.
    pub cpu_us_per_second_per_connection: Option<f64>,
    /// Connections that the server ended, or that broke.
    pub dropped: u64,
    /// Some of what went wrong, in words.
    pub problems: Vec<String>,
}

impl Report for IdleReport {
    fn passed(&self) -> bool {
        self.dropped == 0
    }

    fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("writing to a string never fails");
        text
    }
}

impl IdleReport {
    fn write_table(&self, t: &mut String) -> std::fmt::Result {
        let memory = |bytes: Option<u64>| bytes.map_or_else(unknown, mebibytes);
        writeln!(
            t,
            "{} idle connections, logged in within {:.1} s, held for {} s",
            grouped(self.clients.into()),
            self.connected_in_seconds,
            self.seconds
        )?;
        writeln!(t, "server      {}", self.server)?;
        writeln!(t, "build       {} {}", self.version, build(self.debug_build))?;
        writeln!(t)?;
        writeln!(t, "server memory before           {:>12}", memory(self.resident_bytes_before))?;
        writeln!(t, "              all logged in    {:>12}", memory(self.resident_bytes_settled))?;
        writeln!(t, "              end of the hold  {:>12}", memory(self.resident_bytes_held))?;
        writeln!(t, "              after all left   {:>12}", memory(self.resident_bytes_after))?;
        let each = self.resident_bytes_per_connection;
        writeln!(
            t,
            "per connection                 {:>12}",
            each.map_or_else(unknown, |bytes| format!("{:.1} KiB", bytes / 1_024.0))
        )?;
        let cpu = self.cpu_us_per_second_per_connection;
        writeln!(
            t,
            "CPU per connection             {:>12}",
            cpu.map_or_else(unknown, |us| format!("{us:.1} us/s"))
        )?;
        writeln!(t, "dropped {}", grouped(self.dropped))?;
        for problem in &self.problems {
            writeln!(t, "problem: {problem}")?;
        }
        writeln!(t, "{}", if self.passed() { "PASS: every connection held" } else { "FAIL" })
    }
}

/// An error with all its causes.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some errors tell their cause themselves.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// `12345` as `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn build(debug: bool) -> &'static str {
    if debug { "DEBUG BUILD, figures are of no value" } else { "release build" }
}

/// What reading one user's conversation list takes.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ListFigures {
    pub conversations: u32,
    /// Whether the pages held every conversation, each once (of the first fifty pages).
    pub complete: bool,
    pub first_page: Latency,
    pub last_page: Latency,
}

/// The result of `bench kept`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct KeptReport {
    pub bench: &'static str,
    pub version: &'static str,
    pub debug_build: bool,
    pub server: String,
    pub calls: u32,
    pub lists: Vec<ListFigures>,
    pub offline_sent: u64,
    pub offline_received: u64,
    pub offline_in_order: bool,
    pub offline_seconds: f64,
    pub offline_per_second: f64,
    pub sends_per_second: f64,
    pub messages_stored: u64,
    pub history_page: Latency,
    pub remove_50_ids: Latency,
    pub remove_until: Latency,
    pub resident_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
}

impl Report for KeptReport {
    fn table(&self) -> String {
        let line = |name: &str, latency: &Latency| {
            format!(
                "{name:<44} p50 {:>7.2}  p99 {:>7.2}  max {:>7.2} ms\n",
                latency.p50_ms, latency.p99_ms, latency.max_ms
            )
        };
        let mut table = format!(
            "posthouse {} bench kept, {}\n{}\n{} calls each, a new HTTP connection for every call\n",
            self.version, self.server, DURABILITY, self.calls
        );
        for list in &self.lists {
            let count = list.conversations;
            table += &line(&format!("list of 20, first page of {count} conversations"), &list.first_page);
            table += &line(&format!("list of 20, last page of {count} conversations"), &list.last_page);
        }
        let stored = self.messages_stored;
        table += &line(&format!("history, newest 50 of {stored} stored messages"), &self.history_page);
        table += &line("one-way deletion of 50 ids", &self.remove_50_ids);
        table += &line("one-way deletion up to a time", &self.remove_until);
        table += &format!(
            "{} messages for one user who was away: {} received in {:.2} s ({:.0}/s), {}\n\
             64 users on 64 connections wrote {stored} messages, {:.0}/s\n",
            self.offline_sent,
            self.offline_received,
            self.offline_seconds,
            self.offline_per_second,
            if self.offline_in_order { "in order" } else { "OUT OF ORDER" },
            self.sends_per_second,
        );
        table
    }

    fn passed(&self) -> bool {
        self.offline_in_order
            && self.offline_received == self.offline_sent
            && self.lists.iter().all(|list| list.complete)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut us = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        for value in 1..=1_000 {
            us.saturating_record(value * 10);
        }
        let latency = Latency::of(&us);
        assert!((latency.p50_ms - 5.0).abs() < 0.02, "{latency:?}");
        assert!((latency.p99_ms - 9.9).abs() < 0.02, "{latency:?}");
        assert!((latency.max_ms - 10.0).abs() < 0.02, "{latency:?}");
    }
}
