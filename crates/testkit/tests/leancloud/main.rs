//! Scripted peers on the LeanCloud wire: frame by frame, over real sockets, against a server in this
//! process whose clock the tests move. One file per part of the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod connection;
mod conversations;
mod discovery;
mod errors;
mod history;
mod messages;
mod notifications;
mod patches;
mod presence;
mod queries;
mod receipts;
mod restart;
mod rooms;
mod sessions;
mod strangers;
mod temporary;
mod unread;
mod wills;
