//! Where the world comes in: the machine's clock, its randomness, the metrics exporter.

pub mod files;
pub mod machine;
pub mod metrics;

pub use files::FileBlobs;
pub use machine::{SystemChance, SystemClock};
