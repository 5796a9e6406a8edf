//! The contract suite on SQLite.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::Sqlite;

posthouse_testkit::store_suite!(Sqlite::new());
