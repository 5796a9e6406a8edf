//! The Easemob wire of Posthouse: shipped Easemob and Agora Chat SDKs connect here unmodified.
//!
//! [`wire`] turns bytes into frames and back, `connection` is one socket's state machine and `sync` the
//! places of its queues, `inbound` and `outbound` translate to and from the domain, `content` says what
//! a message says to other wires, `auth` knows passwords and tokens, `error` is the only place that
//! knows the wire's codes and texts, and `rest` serves what SDKs and back ends ask over HTTP.
//!
//! Start at [`Easemob`], which the program makes once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use posthouse_core::Posthouse;
use posthouse_core::content::Readers;
use posthouse_core::port::blobs::Blobs;
use posthouse_transport::{DrainSignal, Limits, Stream, WebSocketUpgrade};

mod auth;
mod connection;
mod content;
pub mod error;
mod guesses;
mod inbound;
pub mod keys;
mod meters;
mod outbound;
pub mod query;
mod rest;
mod sync;
pub mod wire;

use auth::Auth;
use connection::Connection;
use meters::Meters;
use rest::uploads::Uploads;

/// The least time for which a client may be silent: SDKs look every 30 s whether they have heard
/// something for 30 s, and otherwise say something (client 2.2).
const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(120);

/// The gateway. One serves every app and every socket.
pub struct Easemob {
    posthouse: Arc<Posthouse>,
    auth: Auth,
    blobs: Arc<dyn Blobs>,
    uploads: Uploads,
    meters: Meters,
    limits: Limits,
    drain: DrainSignal,
}

/// The readers of what this gateway writes, for [`Posthouse::new`].
#[must_use]
pub fn readers() -> Readers {
    vec![(inbound::SCHEMA, content::read)]
}

impl Easemob {
    /// A gateway to `posthouse`. Tokens are signed with a key made of `token_key`: 32 secret random
    /// bytes that must stay the same over restarts, or every client needs a new token. `blobs` keeps
    /// uploaded files, `limits` bound each socket (a client may be silent for two minutes at least), and
    /// `drain` tells when the server is about to stop.
    #[must_use]
    pub fn new(
        posthouse: Arc<Posthouse>,
        token_key: [u8; 32],
        blobs: Arc<dyn Blobs>,
        mut limits: Limits,
        drain: DrainSignal,
    ) -> Arc<Self> {
        limits.idle_timeout = limits.idle_timeout.max(IDLE_TIMEOUT_MIN);
        Arc::new(Self {
            posthouse,
            auth: Auth::new(&token_key),
            blobs,
            uploads: Uploads::new(),
            meters: Meters::new(),
            limits,
            drain,
        })
    }

    /// The HTTP routes that SDKs and back ends call. It has no fallback; the program lays CORS around
    /// all routes of its port.
    pub fn router(self: &Arc<Self>) -> Router {
        rest::router(Arc::clone(self))
    }

    /// Whether a request for a WebSocket at `path` is for this wire. In the SDKs' default mode the path is
    /// `/websocket`; with addresses of its own, an app may have put something before or behind it.
    #[must_use]
    pub fn is_socket_path(path: &str) -> bool {
        path.split('/').any(|segment| segment == "websocket")
    }

    /// Answers a request for a WebSocket. SDKs offer no subprotocol and get none.
    pub fn upgrade(self: &Arc<Self>, upgrade: WebSocketUpgrade) -> Response {
        let gateway = Arc::clone(self);
        let (limits, drain) = (self.limits.clone(), self.drain.clone());
        posthouse_transport::upgrade(upgrade, None, limits, drain, move |pusher| {
            Connection::new(gateway, pusher)
        })
    }

    /// Serves one WebSocket over a stream on which the handshake is behind, until it ends: what
    /// [`Self::upgrade`] does with a socket, for a simulation's pipes.
    pub async fn serve_stream(self: Arc<Self>, stream: impl Stream) {
        let (limits, drain) = (self.limits.clone(), self.drain.clone());
        posthouse_transport::serve_stream(stream, limits, drain, move |pusher| Connection::new(self, pusher))
            .await;
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    pub(crate) fn posthouse(&self) -> &Arc<Posthouse> {
        &self.posthouse
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.blobs
    }

    /// The places for files on their way.
    pub(crate) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// The largest message that a client may send, in bytes.
    pub(crate) fn frame_max(&self) -> usize {
        self.limits.frame_max
    }
}
