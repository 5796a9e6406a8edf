//! The chat domain of Posthouse.
//!
//! Everything that is true of chat whatever the wire and whatever the store: types, rules, use
//! cases, ports, and the router of live sessions. There is no runtime, no protocol, no SQL, no HTTP
//! and no wall clock in here; time, ids and chance come in from outside, so that tests can replay.
//!
//! Where to start: [`usecase`] has one file per verb, each the whole story of what happens.
//! [`port::store`] is the contract with the database. [`router`] knows who is online.

#![warn(missing_docs)]

pub mod account;
pub mod app;
pub mod attribute;
pub mod content;
pub mod conversation;
pub mod error;
pub mod event;
pub mod expiry;
pub mod id;
pub mod idgen;
pub mod listing;
pub mod message;
pub mod port;
pub mod presence;
pub mod query;
pub mod rate;
pub mod receipt;
pub mod router;
pub mod session;
pub mod time;
pub mod usecase;

pub use error::{Error, Result};
pub use usecase::Posthouse;
