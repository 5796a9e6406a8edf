//! What the domain asks of the world.

pub mod blobs;
pub mod store;
