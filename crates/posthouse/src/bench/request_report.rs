//! The result of the workloads that ask and wait for answers: one table and one JSON line for all of them.

use serde::Serialize;
use serde_json::Value;

use super::report::{self, Latency, Report, build, grouped, mebibytes};
use super::requests::{Answers, Load, RequestCost, Rung, capacity, ladder_lines};
use super::server::Server;

/// Figures of one kind of request.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) count: u64,
    #[serde(flatten)]
    pub(super) latency: Latency,
}

/// The result.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct RequestReport {
    pub(super) bench: &'static str,
    pub(super) version: &'static str,
    pub(super) debug_build: bool,
    /// Of this machine.
    pub(super) cores: usize,
    pub(super) server: String,
    pub(super) durability: &'static str,
    /// What was done, in words.
    pub(super) title: String,
    /// What was special about this run.
    pub(super) details: Value,
    /// Requests a second that were scheduled; `None` for a closed loop.
    pub(super) rate: Option<u32>,
    pub(super) seconds: u64,
    pub(super) seed: u64,
    pub(super) answered: u64,
    pub(super) per_second: f64,
    /// Of all kinds together.
    pub(super) latency: Latency,
    pub(super) kinds: Vec<Kind>,
    pub(super) failed: u64,
    pub(super) unanswered: u64,
    pub(super) cost: Option<RequestCost>,
    /// Whether a capacity was looked for.
    pub(super) ladder: bool,
    /// The steps of the ladder.
    pub(super) steps: Vec<Rung>,
    /// The highest rate that passed.
    pub(super) capacity_per_second: Option<u32>,
    /// What a reader must know to read the figures.
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<String>,
}

impl RequestReport {
    pub(super) fn new(
        bench: &'static str,
        title: String,
        server: &Server,
        load: Load,
        names: &[&'static str],
        answers: &Answers,
    ) -> Self {
        let kinds = names.iter().zip(&answers.kinds).map(|(name, times)| Kind {
            name,
            count: times.len(),
            latency: Latency::of(times),
        });
        Self {
            bench,
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            cores: super::process::cores(),
            server: server.description.clone(),
            durability: report::DURABILITY,
            title,
            details: Value::Null,
            rate: load.rate,
            seconds: load.length.as_secs(),
            seed: load.seed,
            answered: answers.answered,
            per_second: answers.per_second(),
            latency: answers.latency(),
            kinds: kinds.collect(),
            failed: answers.failed,
            unanswered: answers.unanswered,
            cost: answers.cost(),
            ladder: false,
            steps: Vec::new(),
            capacity_per_second: None,
            notes: Vec::new(),
            problems: answers.problems.clone(),
        }
    }

    /// The rungs of a ladder; the last may have been too much.
    pub(super) fn climbed(&mut self, rungs: Vec<Rung>) {
        self.capacity_per_second = capacity(&rungs);
        self.ladder = !rungs.is_empty();
        self.steps = rungs;
    }
}

impl Report for RequestReport {
    fn table(&self) -> String {
        let loop_is = self.rate.map_or_else(
            || "closed loop: everybody asks again at once".to_owned(),
            |rate| format!("open loop, Poisson, {}/s; latency from the scheduled time", grouped(rate.into())),
        );
        let mut table = format!(
            "{}\nserver      {}\ndurability  {}\nschedule    {loop_is}, seed {}, {} s\n\
             build       {} {}, {} cores\n\n{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
            self.title,
            self.server,
            self.durability,
            self.seed,
            self.seconds,
            self.version,
            build(self.debug_build),
            self.cores,
            "ms",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "count"
        );
        for kind in &self.kinds {
            table += &format!("{:<18}{}{:>10}\n", kind.name, kind.latency.row(), grouped(kind.count));
        }
        table += &format!(
            "\n{} answered, {:.1}/s, {} failed, {} unanswered\n",
            grouped(self.answered),
            self.per_second,
            grouped(self.failed),
            grouped(self.unanswered)
        );
        match &self.cost {
            Some(cost) => {
                let bytes = |bytes: Option<f64>| {
                    bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{bytes:.0} bytes"))
                };
                table += &format!(
                    "server CPU {:.4} ms/request ({:.2} cores)   memory {}   read {}/request   written {}/request\n",
                    cost.cpu_ms_per_request,
                    cost.cores,
                    mebibytes(cost.resident_bytes),
                    bytes(cost.read_bytes_per_request),
                    bytes(cost.written_bytes_per_request)
                );
            }
            None => table += "server CPU and memory were not measured\n",
        }
        table += &ladder_lines(&self.steps);
        if self.ladder {
            let found =
                self.capacity_per_second.map_or_else(|| "none".to_owned(), |rate| grouped(rate.into()));
            table += &format!("capacity {found}/s\n");
        }
        for note in &self.notes {
            table += &format!("note: {note}\n");
        }
        for problem in &self.problems {
            table += &format!("problem: {problem}\n");
        }
        table += if self.passed() { "PASS: every request was answered as it should\n" } else { "FAIL\n" };
        table
    }

    fn passed(&self) -> bool {
        // A ladder is climbed until it is too much: there, some rung must have held.
        let held =
            if self.ladder { self.capacity_per_second.is_some() } else { self.failed + self.unanswered == 0 };
        held && self.answered > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::requests::histogram;
    use super::*;

    fn report(failed: u64, answered: u64) -> RequestReport {
        let load = Load { rate: Some(10), warm_up: Duration::ZERO, length: Duration::from_secs(1), seed: 1 };
        let mut answers = Answers::none(1);
        answers.kinds = vec![histogram()];
        answers.failed = failed;
        answers.answered = answered;
        RequestReport::new("test", "A test".to_owned(), &Server::unknown(), load, &["page"], &answers)
    }

    #[test]
    fn a_failure_or_silence_is_no_pass() {
        assert!(report(0, 5).passed());
        assert!(!report(1, 5).passed());
        assert!(!report(0, 0).passed());
        assert!(report(1, 5).table().ends_with("FAIL\n"));
    }

    #[test]
    fn a_ladder_passes_by_its_first_rung() {
        let rung = |rate, passed| Rung {
            rate,
            passed,
            per_second: 1.0,
            p50_ms: 1.0,
            p99_ms: 1.0,
            cpu_ms_per_request: None,
        };
        let mut climbed = report(1, 5);
        climbed.climbed(vec![rung(100, true), rung(125, false)]);
        assert!(climbed.passed());
        assert!(climbed.table().contains("capacity 100/s"));
        climbed.climbed(vec![rung(100, false)]);
        assert!(!climbed.passed());
    }
}
