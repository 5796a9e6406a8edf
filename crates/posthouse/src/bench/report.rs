//! What a run found out: a table for people, one JSON line for machines.

use std::collections::BTreeMap;
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

/// Above it the generator's one core is full.
const GENERATOR_FULL: f64 = 0.95;

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
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
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

    pub(super) fn row(&self) -> String {
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

/// What the measured time cost the load generator. Near one core, it is what limits the figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct GeneratorCost {
    /// CPU time by sent message.
    pub cpu_us_per_message: f64,
    /// CPU time by delivery.
    pub cpu_us_per_delivery: f64,
    /// Cores in use, on average; the load has one thread.
    pub cores: f64,
}

/// One stretch of load at one rate. Counts are of all of it, latencies and costs of the measured time.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Step {
    /// Messages a second that were scheduled, in all.
    pub rate: u32,
    /// Measured time.
    pub seconds: u64,
    /// Before it; checked, not measured.
    pub warm_up_seconds: u64,
    /// Receivers that read 1 KB a second; not owed everything.
    pub slow_readers: u32,
    /// Messages in the schedule.
    pub scheduled: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages accepted by the server.
    pub acked: u64,
    /// Arrivals of messages at receivers, each counted once.
    pub delivered: u64,
    /// In the measured time.
    pub acked_per_second: Option<f64>,
    /// In the measured time.
    pub deliveries_per_second: Option<f64>,
    /// What the server would deliver with the whole of one core.
    pub deliveries_per_server_cpu_second: Option<f64>,
    /// From the scheduled time to the ack at the sender.
    pub ack: Latency,
    /// From the scheduled time to the arrival at each receiver that is owed the message.
    pub delivery: Latency,
    /// From the scheduled time to the arrival at the last of them.
    pub last_delivery: Latency,
    /// From the scheduled time to the moment the generator sent; part of all of the above.
    pub generator_lag: Latency,
    /// Unanswered messages when the measured time ended, as seconds of traffic.
    pub backlog_seconds: f64,
    /// Ended early, because it could only fail.
    pub gave_up: bool,
    /// Deliveries that are missing though the message was accepted.
    pub lost: u64,
    /// Arrived again.
    pub duplicates: u64,
    /// Arrived after a later one of the same sender, with a server time that went back, or in another
    /// order than at another member.
    pub disorders: u64,
    /// Not accepted.
    pub refused: u64,
    /// Neither accepted nor refused.
    pub unanswered: u64,
    /// Deliveries that are missing of unanswered messages, or that were still coming long after the end.
    pub undelivered: u64,
    /// Connections that the server ended; those receivers are owed nothing from then on.
    pub closed: u64,
    /// The same of slow readers, by rule.
    pub slow_closed: u64,
    /// Messages that slow readers missed among those that they got.
    pub slow_gaps: u64,
    /// Visitors that came back.
    pub joins: u64,
    /// Visitors that left.
    pub leaves: u64,
    /// Some of what went wrong, in words.
    pub problems: Vec<String>,
    /// What the kernel held in TCP buffers when the measured time began, on both ends of all connections
    /// of the machine; not part of resident memory.
    pub tcp_buffer_bytes_start: Option<u64>,
    /// And when it ended.
    pub tcp_buffer_bytes_end: Option<u64>,
    /// Unknown without the server's process.
    pub server_cost: Option<ServerCost>,
    /// Unknown without `/proc`.
    pub generator_cost: Option<GeneratorCost>,
}

impl Step {
    /// Whether what was accepted arrived once and in order, whatever else happened.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.lost + self.duplicates + self.disorders == 0
    }

    /// Whether nothing was lost, doubled, out of order, refused, unanswered or closed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_true()
            && self.refused + self.unanswered + self.undelivered + self.closed == 0
            && self.sent == self.scheduled
            && self.problems.is_empty()
    }
}

/// Who takes part in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Cast {
    /// Connected clients.
    pub clients: u32,
    /// Conversations they are in; each is in one.
    pub conversations: u32,
    /// Members of each conversation, online or not.
    pub members: u32,
    /// Clients that send.
    pub speakers: u32,
    /// Clients that leave and come back once a minute.
    pub visitors: u32,
    /// Clients that can be made to read slowly.
    pub slow: u32,
}

/// The result of a workload that sends messages: `pairs`, `groups` and `room`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TalkReport {
    /// The workload's name.
    pub bench: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// Not an optimised build: of no value but for trying.
    pub debug_build: bool,
    /// Of this machine.
    pub cores: usize,
    /// The one that the own server was kept on.
    pub server_cpu: Option<u32>,
    /// The one that the generator was kept on.
    pub generator_cpu: Option<u32>,
    /// What was measured, in words.
    pub server: String,
    /// Started for this run.
    pub own_server: bool,
    /// What an ack promises.
    pub durability: &'static str,
    /// The door.
    pub wire: &'static str,
    /// Who takes part.
    pub cast: Cast,
    /// Of a message's content.
    pub payload_bytes: usize,
    /// Repeats the schedules.
    pub seed: u64,
    /// Whether a capacity was looked for.
    pub ladder: bool,
    /// The highest rate that passed, of a ladder.
    pub capacity_per_second: Option<u32>,
    /// Connections that the own server ended until the load was over, by its reason.
    pub server_closes: BTreeMap<String, u64>,
    /// By how much slow readers made others' deliveries later, at the 99th percentile, where the same load
    /// was played without and with them.
    pub slow_effect_percent: Option<f64>,
    /// What was measured, in order.
    pub steps: Vec<Step>,
}

impl Report for TalkReport {
    fn passed(&self) -> bool {
        if self.ladder {
            self.capacity_per_second.is_some() && self.steps.iter().all(Step::is_true)
        } else {
            !self.steps.is_empty() && self.steps.iter().all(Step::is_clean)
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text).expect("writing to a string never fails");
        text
    }
}

impl TalkReport {
    fn write_table(&self, t: &mut String) -> std::fmt::Result {
        let Cast { clients, conversations, members, speakers, visitors, slow } = &self.cast;
        writeln!(
            t,
            "bench {}: {} clients online, {} conversations of {} members, {} speak, {} bytes each",
            self.bench,
            grouped((*clients).into()),
            grouped((*conversations).into()),
            grouped((*members).into()),
            grouped((*speakers).into()),
            self.payload_bytes
        )?;
        if visitors + slow > 0 {
            writeln!(t, "            {visitors} leave and come back once a minute, {slow} may read slowly")?;
        }
        writeln!(t, "server      {}, {} wire", self.server, self.wire)?;
        writeln!(t, "durability  {}", self.durability)?;
        writeln!(t, "schedule    open loop, Poisson, seed {}; latency from the scheduled time", self.seed)?;
        let cpu = |cpu: Option<u32>| cpu.map_or_else(|| "any core".to_owned(), |cpu| format!("core {cpu}"));
        writeln!(
            t,
            "build       {} {}, {} cores: server on {}, generator on {}",
            self.version,
            build(self.debug_build),
            self.cores,
            cpu(self.server_cpu),
            cpu(self.generator_cpu)
        )?;
        for step in &self.steps {
            writeln!(t)?;
            step.write_table(t)?;
        }
        if !self.server_closes.is_empty() || self.slow_effect_percent.is_some() {
            writeln!(t)?;
        }
        if !self.server_closes.is_empty() {
            let closes = self.server_closes.iter().map(|(reason, count)| format!("{count} {reason}"));
            writeln!(t, "connections that the server ended: {}", closes.collect::<Vec<_>>().join(", "))?;
        }
        if let Some(percent) = self.slow_effect_percent {
            writeln!(t, "slow readers changed others' delivery p99 by {percent:+.1} %")?;
        }
        if self.ladder {
            writeln!(t)?;
            write_ladder(t, &self.steps)?;
            match self.capacity_per_second {
                Some(rate) => writeln!(t, "capacity {} messages/s", grouped(rate.into()))?,
                None => writeln!(t, "no step passed: begin lower with --rate")?,
            }
        }
        let clean = "PASS: nothing lost, doubled or out of order";
        writeln!(t, "{}", if self.passed() { clean } else { "FAIL" })
    }
}

/// A line for each step.
fn write_ladder(t: &mut String, steps: &[Step]) -> std::fmt::Result {
    writeln!(
        t,
        "{:>10}{:>12}{:>13}{:>12}{:>12}{:>10}{:>9}{:>9}  verdict",
        "rate/s", "acked/s", "deliveries/s", "ack p99", "del. p99", "backlog", "server", "gener."
    )?;
    for step in steps {
        let rate = |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{rate:.0}"));
        let cores = |cores: Option<f64>| cores.map_or_else(unknown, |cores| format!("{cores:.2}"));
        let faults = super::ladder::faults(step);
        writeln!(
            t,
            "{:>10}{:>12}{:>13}{:>9.1} ms{:>9.1} ms{:>8.2} s{:>9}{:>9}  {}",
            step.rate,
            rate(step.acked_per_second),
            rate(step.deliveries_per_second),
            step.ack.p99_ms,
            step.delivery.p99_ms,
            step.backlog_seconds,
            cores(step.server_cost.map(|cost| cost.cores)),
            cores(step.generator_cost.map(|cost| cost.cores)),
            if faults.is_empty() { "passed".to_owned() } else { faults.join(", ") }
        )?;
    }
    Ok(())
}

impl Step {
    fn write_table(&self, t: &mut String) -> std::fmt::Result {
        write!(
            t,
            "{} messages/s for {} s after {} s of warm-up",
            grouped(self.rate.into()),
            self.seconds,
            self.warm_up_seconds
        )?;
        match self.slow_readers {
            0 => writeln!(t)?,
            slow => writeln!(t, ", {slow} read 1 KB a second")?,
        }
        writeln!(t, "{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p90", "p99", "p99.9", "max")?;
        writeln!(t, "{:<18}{}", "ack", self.ack.row())?;
        writeln!(t, "{:<18}{}", "delivery", self.delivery.row())?;
        writeln!(t, "{:<18}{}", "last delivery", self.last_delivery.row())?;
        writeln!(t, "{:<18}{}", "generator's lag", self.generator_lag.row())?;
        let rate = |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{rate:.1}"));
        writeln!(
            t,
            "scheduled {}   sent {}   acked {} ({}/s)   delivered {} ({}/s)   backlog {:.2} s{}",
            grouped(self.scheduled),
            grouped(self.sent),
            grouped(self.acked),
            rate(self.acked_per_second),
            grouped(self.delivered),
            rate(self.deliveries_per_second),
            self.backlog_seconds,
            if self.gave_up { "   GIVEN UP" } else { "" }
        )?;
        writeln!(
            t,
            "lost {}   duplicated {}   out of order {}   refused {}   unanswered {}   closed {}",
            grouped(self.lost),
            grouped(self.duplicates),
            grouped(self.disorders),
            grouped(self.refused),
            grouped(self.unanswered),
            grouped(self.closed)
        )?;
        if self.joins + self.leaves + u64::from(self.slow_readers) > 0 {
            writeln!(
                t,
                "left {}   came back {}   slow readers closed {}, messages they missed {}",
                self.leaves, self.joins, self.slow_closed, self.slow_gaps
            )?;
        }
        match &self.server_cost {
            Some(cost) => writeln!(
                t,
                "server CPU {:.3} ms/message ({:.2} cores, {} deliveries a CPU second)   memory {} -> {}   \
                 written {}/message",
                cost.cpu_ms_per_message,
                cost.cores,
                self.deliveries_per_server_cpu_second.map_or_else(unknown, |rate| format!("{rate:.0}")),
                mebibytes(cost.resident_bytes_start),
                mebibytes(cost.resident_bytes_end),
                cost.written_bytes_per_message.map_or_else(unknown, |bytes| format!("{bytes:.0} bytes"))
            )?,
            None => writeln!(t, "server CPU and memory unknown: no --server-pid, or that process has ended")?,
        }
        if let (Some(from), Some(to)) = (self.tcp_buffer_bytes_start, self.tcp_buffer_bytes_end) {
            writeln!(t, "kernel's TCP buffers {} -> {}", mebibytes(from), mebibytes(to))?;
        }
        if let Some(cost) = &self.generator_cost {
            writeln!(
                t,
                "generator CPU {:.1} us/message, {:.2} us/delivery ({:.2} cores{})",
                cost.cpu_us_per_message,
                cost.cpu_us_per_delivery,
                cost.cores,
                if cost.cores > GENERATOR_FULL { ": FULL, so it is what limits the rate" } else { "" }
            )?;
        }
        for problem in &self.problems {
            writeln!(t, "problem: {problem}")?;
        }
        Ok(())
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
    /// Over TLS.
    pub tls: bool,
    /// Connections asked for.
    pub clients: u32,
    /// Connections held.
    pub connected: u32,
    /// Processes that held them.
    pub processes: u32,
    /// Between two heartbeats of a client.
    pub heartbeat_seconds: u64,
    /// How long.
    pub seconds: u64,
    /// From the start of the own server's process to its first answer.
    pub ready_in_ms: Option<f64>,
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
    /// Kernel memory in the buffers of TCP, of both ends, by connection.
    pub tcp_buffer_bytes_per_connection: Option<f64>,
    /// Growth of the kernel's tables, for both ends and whatever else went on, by connection.
    pub slab_bytes_per_connection: Option<f64>,
    /// CPU time during the hold.
    pub cpu_us_per_second_per_connection: Option<f64>,
    /// Connections that the server ended, or that broke.
    pub dropped: u64,
    /// Connections that could not be made.
    pub refused: u64,
    /// Some of what went wrong, in words.
    pub problems: Vec<String>,
}

impl Report for IdleReport {
    fn passed(&self) -> bool {
        self.dropped + self.refused == 0 && self.connected == self.clients
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
            "{} idle connections{}, logged in within {:.1} s, held for {} s by {} processes, \
             a heartbeat every {} s",
            grouped(self.connected.into()),
            if self.tls { " over TLS" } else { "" },
            self.connected_in_seconds,
            self.seconds,
            self.processes,
            self.heartbeat_seconds
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
        let kib =
            |bytes: Option<f64>| bytes.map_or_else(unknown, |bytes| format!("{:.1} KiB", bytes / 1_024.0));
        writeln!(t, "kernel, both ends: TCP buffers {:>12}", kib(self.tcp_buffer_bytes_per_connection))?;
        writeln!(t, "                   tables      {:>12}", kib(self.slab_bytes_per_connection))?;
        if let Some(ms) = self.ready_in_ms {
            writeln!(t, "server ready after             {ms:>9.0} ms")?;
        }
        let cpu = self.cpu_us_per_second_per_connection;
        writeln!(
            t,
            "CPU per connection             {:>12}",
            cpu.map_or_else(unknown, |us| format!("{us:.1} us/s"))
        )?;
        writeln!(t, "dropped {}   refused {}", grouped(self.dropped), grouped(self.refused))?;
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

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

pub(super) fn unknown() -> String {
    "unknown".to_owned()
}

pub(super) fn build(debug: bool) -> &'static str {
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

    type Spoil = fn(&mut Step);

    fn clean() -> Step {
        Step { rate: 100, scheduled: 10, sent: 10, acked: 10, delivered: 10, ..Step::default() }
    }

    fn report(ladder: bool, steps: Vec<Step>) -> TalkReport {
        TalkReport {
            bench: "pairs",
            version: "0",
            debug_build: false,
            cores: 2,
            server_cpu: Some(0),
            generator_cpu: None,
            server: "a server".to_owned(),
            own_server: true,
            durability: DURABILITY,
            wire: "leancloud",
            cast: Cast::default(),
            payload_bytes: 128,
            seed: 1,
            ladder,
            capacity_per_second: ladder.then_some(100),
            server_closes: BTreeMap::new(),
            slow_effect_percent: None,
            steps,
        }
    }

    #[test]
    fn whatever_went_wrong_fails_a_run() {
        assert!(report(false, vec![clean()]).passed());
        assert!(!report(false, Vec::new()).passed());
        let spoiled: [(&str, Spoil); 9] = [
            ("lost", |step| step.lost = 1),
            ("duplicated", |step| step.duplicates = 1),
            ("disordered", |step| step.disorders = 1),
            ("refused", |step| step.refused = 1),
            ("unanswered", |step| step.unanswered = 1),
            ("undelivered", |step| step.undelivered = 1),
            ("closed", |step| step.closed = 1),
            ("not sent", |step| step.sent = 9),
            ("a problem", |step| step.problems.push("words".to_owned())),
        ];
        for (name, spoil) in spoiled {
            let mut step = clean();
            spoil(&mut step);
            let report = report(false, vec![clean(), step]);
            assert!(!report.passed(), "{name}");
            assert!(report.table().ends_with("FAIL\n"), "{name}");
        }
    }

    #[test]
    fn a_ladder_may_end_in_too_much_load_but_not_in_a_loss() {
        let overload = Step { refused: 3, unanswered: 2, gave_up: true, ..clean() };
        assert!(report(true, vec![clean(), overload.clone()]).passed());
        assert!(!report(true, vec![clean(), Step { lost: 1, ..overload.clone() }]).passed());
        let nothing = TalkReport { capacity_per_second: None, ..report(true, vec![overload]) };
        assert!(!nothing.passed());
    }
}
