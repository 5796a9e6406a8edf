//! Clients that do too much or send what nobody should, over real sockets. `docs/reliability.md` says what
//! is promised; floods are in a program of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bytes;
mod limits;
#[path = "../easemob/stage.rs"]
#[allow(dead_code, reason = "the tests of the Easemob wire use the rest of it")]
mod stage;
