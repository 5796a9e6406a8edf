//! The contract suite on SQLite.

#![allow(clippy::unwrap_used, reason = "tests")]

mod engine;

use engine::Sqlite;

posthouse_testkit::store_suite!(Sqlite::new());
