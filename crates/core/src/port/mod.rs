//! What the domain asks of the world.

pub mod store;
