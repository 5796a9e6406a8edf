//! What the workloads that send messages have in common: their options, and the way from a cast of
//! clients to a report.

use std::time::Duration;

use posthouse_core::time::Chance as _;

use super::check::PAYLOAD_BYTES_MIN;
use super::ladder::Ladder;
use super::lean::Wire;
use super::report::{self, Cast, Step, TalkReport};
use super::server::Server;
use super::talk::{self, Member, Phase, Plan, Return, Talk};
use super::{Error, Target, process};
use crate::adapter::SystemChance;

/// Load, time and size of messages.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Load {
    /// Messages a second, in all; with --ladder, of the first step [default: 1000 for pairs, 50 for
    /// groups, 20 for a room].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Measured time; with --ladder, of each step.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Load before the measured time; checked, not measured.
    #[arg(long, value_name = "S", default_value_t = 5)]
    warm_up: u64,
    /// Bytes of a message's content.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = parse_payload)]
    payload: usize,
    /// Repeats the schedule of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Look for the capacity: raise the rate by a quarter at a time while acks take less than 200 ms and
    /// deliveries at most 250 ms (p99), nothing goes wrong, and no backlog is left.
    #[arg(long)]
    ladder: bool,
    /// The most steps of a ladder.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100), requires = "ladder")]
    steps: u32,
}

fn parse_payload(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| *bytes >= PAYLOAD_BYTES_MIN)
        .ok_or_else(|| format!("a whole number from {PAYLOAD_BYTES_MIN} on, to hold what is checked"))
}

/// What marks the names and messages of one run.
pub(super) fn run_number() -> u32 {
    u32::try_from(SystemChance.bits() >> 32).expect("32 bits are left")
}

/// Clients that are ready to talk.
pub(super) struct Scene {
    pub(super) bench: &'static str,
    /// Messages a second, unless the load says otherwise.
    pub(super) usual_rate: u32,
    pub(super) wire: Wire,
    pub(super) run: u32,
    pub(super) cast: Cast,
    /// Their ids on the wire.
    pub(super) conversations: Vec<String>,
    pub(super) members: Vec<Member>,
    pub(super) receipts: bool,
    pub(super) one_order: bool,
    /// Brings slow readers back.
    pub(super) back: Option<Return>,
}

/// Plays the load on the clients and gives the report.
pub(super) async fn play(
    scene: Scene,
    load: &Load,
    target: &Target,
    server: Server,
) -> Result<TalkReport, Error> {
    // 53 bits, so that readers of the JSON line that only have floating point can repeat it.
    let seed = load.seed.unwrap_or_else(|| SystemChance.bits() >> 11);
    let plan = Plan {
        wire: scene.wire,
        run: scene.run,
        payload: load.payload,
        receipts: scene.receipts,
        one_order: scene.one_order,
    };
    let has_slow = scene.cast.slow > 0;
    let (talk, listening) = Talk::begin(plan, scene.conversations, scene.members, scene.back.as_ref());
    let rate = load.rate.unwrap_or(scene.usual_rate);
    let mut phase = Phase {
        rate,
        warm_up: Duration::from_secs(load.warm_up),
        measured: Duration::from_secs(load.seconds),
        seed,
        slow: false,
        gives_up: load.ladder,
    };
    let closes = server.closes().await;
    let mut steps = Vec::new();
    let mut capacity = None;
    if load.ladder {
        phase.slow = has_slow;
        let mut ladder = Ladder::new(rate, load.steps);
        while let Some(rate) = ladder.step() {
            phase.rate = rate;
            phase.seed = seed.wrapping_add(steps.len() as u64);
            let step = talk::phase(&talk, &phase, &server).await;
            ladder.judge(&step);
            steps.push(step);
        }
        capacity = ladder.capacity();
    } else {
        steps.push(talk::phase(&talk, &phase, &server).await);
        if has_slow {
            // The same load once more, so that the two can be compared.
            phase.slow = true;
            steps.push(talk::phase(&talk, &phase, &server).await);
        }
    }
    let mut ended = server.closes().await;
    ended.retain(|reason, count| {
        *count -= closes.get(reason).copied().unwrap_or_default().min(*count);
        *count > 0
    });
    talk::leave(&talk, listening).await;
    Ok(TalkReport {
        bench: scene.bench,
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        cores: process::cores(),
        server_cpu: target.own_server_cpu(),
        generator_cpu: target.generator_cpu(),
        server: server.description.clone(),
        own_server: server.is_own(),
        durability: report::DURABILITY,
        wire: scene.wire.name(),
        cast: scene.cast,
        payload_bytes: load.payload,
        seed,
        ladder: load.ladder,
        capacity_per_second: capacity,
        server_closes: ended,
        slow_effect_percent: slow_effect(&steps),
        steps,
    })
}

/// By how much slow readers made others' deliveries later, at the 99th percentile.
fn slow_effect(steps: &[Step]) -> Option<f64> {
    let [without, with] = steps else { return None };
    let comparable = without.rate == with.rate && without.slow_readers == 0 && with.slow_readers > 0;
    let (before, after) = (without.delivery.p99_ms, with.delivery.p99_ms);
    (comparable && before > 0.0).then(|| (after / before - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::report::Latency;
    use super::*;

    #[test]
    fn slow_readers_are_judged_by_two_runs_of_one_load() {
        let step = |rate, slow_readers, p99_ms| Step {
            rate,
            slow_readers,
            delivery: Latency { p99_ms, ..Latency::default() },
            ..Step::default()
        };
        assert_eq!(slow_effect(&[step(5, 0, 10.0), step(5, 2, 12.5)]), Some(25.0));
        assert_eq!(slow_effect(&[step(5, 0, 10.0), step(6, 2, 12.5)]), None);
        assert_eq!(slow_effect(&[step(5, 2, 10.0), step(5, 2, 12.5)]), None);
        assert_eq!(slow_effect(&[step(5, 0, 10.0)]), None);
    }
}
