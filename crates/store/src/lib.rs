//! The store port of Posthouse: everything durable, behind `posthouse_core::port::store`.
//!
//! There is one engine, [`sqlite`]. Where to start: [`SqliteStore::open`] for a server,
//! [`SqliteApps`] for a second process that only looks after apps, [`audit`] for a proof-reading of
//! a data directory.

#![warn(missing_docs)]

pub mod sqlite;

pub use sqlite::SqliteStore;
pub use sqlite::apps::SqliteApps;
pub use sqlite::audit::audit;
pub use sqlite::open::{Lane, OpenError, OpenOptions, Pace};
