//! Sockets of Posthouse: listeners, TLS, the WebSocket connection loop, bounded
//! send queues, draining and the HTTP shell. This crate carries frames and
//! requests; it knows no chat and no wire protocol.
//!
//! Start at [`protocol::Protocol`], the trait a gateway implements for its wire,
//! then read [`connection::run`], the loop that drives one, and
//! [`websocket::upgrade`], which starts that loop from an HTTP request;
//! `message_socket.rs` is the WebSocket itself.
//! [`listener::Listener`] accepts the sockets; [`drain::Drain`] empties the
//! process before it stops.

#![warn(missing_docs)]

pub mod connection;
pub mod drain;
pub mod http;
pub mod listener;
mod message_socket;
pub mod protocol;
pub mod send_queue;
pub mod websocket;

pub use connection::{Limits, run};
pub use drain::{Drain, DrainSignal, Ticket};
pub use listener::{Listener, PeerAddr, Secure, ServeSettings, TlsConfig, TlsConfigError};
pub use protocol::{Close, End, Flow, Frame, Outbox, Phase, Protocol};
pub use send_queue::{Pusher, Queue, Refused, send_queue};
pub use websocket::{Stream, WebSocketUpgrade, offered_subprotocols, serve_stream, upgrade};
