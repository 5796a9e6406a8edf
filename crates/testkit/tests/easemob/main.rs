//! Scripted peers on the Easemob wire: frame by frame and call by call, over real sockets, against a
//! server in this process whose clock the tests move. One file per part of the wire; [`stage`] is what
//! they share.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod contacts;
mod conversations;
mod discovery;
mod edit;
mod files;
mod groups;
mod history;
mod login;
mod messages;
mod recall;
mod receipts;
mod removal;
mod restart;
mod stage;
mod switches;
mod sync;
mod tenants;
mod tokens_users;
