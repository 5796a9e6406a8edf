//! The `posthouse` program as a library, so that tests can run it in their own process.
//!
//! [`wiring::Server`] joins the parts; `main.rs` only reads the command line. [`peer`] is a client
//! for the real socket, for the demo, the load generator and the tests.

pub mod adapter;
pub mod apps;
pub mod bench;
pub mod config;
pub mod demo;
pub mod peer;
pub mod secrets;
pub mod sweeper;
pub mod wiring;
