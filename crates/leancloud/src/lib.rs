//! The LeanCloud Realtime wire of Posthouse: shipped LeanCloud IM SDKs connect here unmodified.
//!
//! [`wire`] turns bytes into commands, `connection` is one socket's state machine, [`inbound`] and
//! [`outbound`] translate to and from the domain, [`query`] reads the `where` language, [`error`]
//! is the only file that knows the wire's numbers, and `rest` serves what SDKs ask over HTTP.
//! `docs/wire/leancloud.md` says what is spoken and how it differs from the original.
//!
//! Start at [`LeanCloud`], which the program makes once.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use posthouse_core::Posthouse;
use posthouse_core::content::Readers;
use posthouse_transport::http::error_json;
use posthouse_transport::{DrainSignal, Limits, Stream, WebSocketUpgrade, offered_subprotocols};

mod auth;
mod connection;
mod content;
pub mod error;
pub mod inbound;
pub mod keys;
mod meters;
pub mod outbound;
pub mod query;
mod rest;
pub mod wire;

pub use connection::Interests;

use auth::TokenKey;
use connection::Connection;
use meters::Meters;
use wire::framing::Framing;

/// The gateway. One serves every app and every socket.
pub struct LeanCloud {
    posthouse: Arc<Posthouse>,
    tokens: TokenKey,
    meters: Meters,
    limits: Limits,
    drain: DrainSignal,
}

impl LeanCloud {
    /// The readers of what this gateway writes, for [`Posthouse::new`].
    #[must_use]
    pub fn readers() -> Readers {
        content::readers()
    }

    /// A gateway to `posthouse`. `token_key` signs session tokens: 32 secret random bytes that must
    /// stay the same over restarts, or every client logs in anew. `limits` bound each socket, and
    /// `drain` tells when the server is about to stop.
    #[must_use]
    pub fn new(
        posthouse: Arc<Posthouse>,
        token_key: [u8; 32],
        limits: Limits,
        drain: DrainSignal,
    ) -> Arc<Self> {
        let (tokens, meters) = (TokenKey::new(&token_key), Meters::new());
        Arc::new(Self { posthouse, tokens, meters, limits, drain })
    }

    /// The HTTP routes that SDKs call. It has no fallback: requests for a WebSocket come to
    /// [`Self::upgrade`] at any path, and everything else is the program's 404. The program also
    /// lays CORS and JSON errors around all routes of its port.
    pub fn router(self: &Arc<Self>) -> Router {
        rest::router(Arc::clone(self))
    }

    /// Answers a request for a WebSocket, whatever its path. SDKs offer exactly one subprotocol, in
    /// the header or, where a platform has none, as `?subprotocol=`.
    pub fn upgrade(self: &Arc<Self>, upgrade: WebSocketUpgrade, headers: &HeaderMap, uri: &Uri) -> Response {
        let offered = offered_subprotocols(headers);
        let Some((framing, token)) = negotiate(&offered, uri.query()) else {
            let words = "none of the offered WebSocket subprotocols is spoken here";
            return error_json(StatusCode::BAD_REQUEST, words);
        };
        let gateway = Arc::clone(self);
        let (limits, drain) = (self.limits.clone(), self.drain.clone());
        posthouse_transport::upgrade(upgrade, token, limits, drain, move |pusher| {
            Connection::new(gateway, framing, pusher)
        })
    }

    /// Serves one WebSocket, spoken in binary messages, over a stream on which the handshake is behind,
    /// until it ends: what [`Self::upgrade`] does with a socket, for a simulation's pipes.
    pub async fn serve_stream(self: Arc<Self>, stream: impl Stream) {
        let (limits, drain) = (self.limits.clone(), self.drain.clone());
        let make = move |pusher| Connection::new(self, Framing::Binary, pusher);
        posthouse_transport::serve_stream(stream, limits, drain, make).await;
    }

    fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    fn posthouse(&self) -> &Arc<Posthouse> {
        &self.posthouse
    }

    fn tokens(&self) -> &TokenKey {
        &self.tokens
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }
}

/// The subprotocols spoken. Versions 1 and 2 are accepted and behave as version 3: the Java SDK
/// says 2.3 whatever the app chose, so apps that count on another behaviour can't exist there.
const SUBPROTOCOLS: [(&str, Framing); 6] = [
    ("lc.protobuf2.3", Framing::Binary),
    ("lc.protobuf2.2", Framing::Binary),
    ("lc.protobuf2.1", Framing::Binary),
    ("lc.proto2base64.3", Framing::Base64),
    ("lc.proto2base64.2", Framing::Base64),
    ("lc.proto2base64.1", Framing::Base64),
];

/// The framing, and the token to echo: browsers, Java and Objective-C refuse a socket without the
/// echo of what they offered, others one with an echo of what they did not. `None` if nothing of
/// what was offered is spoken.
fn negotiate(offered: &[String], query: Option<&str>) -> Option<(Framing, Option<&'static str>)> {
    let known = |token: &str| SUBPROTOCOLS.iter().find(|(name, _)| *name == token);
    if let Some((name, framing)) = offered.iter().find_map(|token| known(token)) {
        return Some((*framing, Some(name)));
    }
    if !offered.is_empty() {
        return None;
    }
    let named = query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| {
        let token = pair.strip_prefix("subprotocol=")?;
        known(token)
    });
    Some((named.map_or(Framing::Binary, |(_, framing)| *framing), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offered_token_is_echoed_and_decides_the_framing() {
        let offer = |token: &str| negotiate(&[token.to_owned()], Some("subprotocol=lc.proto2base64.3"));
        assert_eq!(offer("lc.protobuf2.3"), Some((Framing::Binary, Some("lc.protobuf2.3"))));
        assert_eq!(offer("lc.protobuf2.1"), Some((Framing::Binary, Some("lc.protobuf2.1"))));
        assert_eq!(offer("lc.proto2base64.3"), Some((Framing::Base64, Some("lc.proto2base64.3"))));
        assert_eq!(offer("graphql-ws"), None);
    }

    #[test]
    fn without_a_header_the_address_decides_and_nothing_is_echoed() {
        assert_eq!(negotiate(&[], None), Some((Framing::Binary, None)));
        assert_eq!(negotiate(&[], Some("x=1&subprotocol=lc.proto2base64.1")), Some((Framing::Base64, None)));
        assert_eq!(negotiate(&[], Some("subprotocol=nonsense")), Some((Framing::Binary, None)));
    }
}
