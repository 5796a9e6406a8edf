//! Where the world comes in: the machine's clock, its randomness, the metrics exporter.

pub mod machine;
pub mod metrics;

pub use machine::{SystemChance, SystemClock};
