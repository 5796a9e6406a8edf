//! Clients that do too much, too fast, too slowly or too cleverly, over real sockets, and others beside
//! them who must not notice. `docs/reliability.md` says what is promised; one file per kind of hostility.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod flood;
mod guessing;
mod limits;
#[path = "../easemob/stage.rs"]
#[allow(dead_code, reason = "the tests of the Easemob wire use the rest of it")]
mod stage;
