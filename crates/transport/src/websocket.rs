//! From an HTTP request to a running connection: the WebSocket handshake of
//! RFC 6455, with refusals in JSON and buffers small enough for many idle peers.

use std::panic::AssertUnwindSafe;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::upgrade::OnUpgrade;
use hyper::upgrade::Parts as Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::connection::{Limits, run};
use crate::drain::DrainSignal;
use crate::http::error_json;
use crate::listener::Socket;
use crate::protocol::Protocol;
use crate::send_queue::{Pusher, send_queue};

/// Subprotocols looked at, and bytes of one token: a real client offers one
/// short token, and a long list must not cost more than it is worth.
const SUBPROTOCOLS_MAX: usize = 16;
const SUBPROTOCOL_BYTES_MAX: usize = 64;

/// RFC 6455 asks for 24 bytes of base64. Clients of odd runtimes send other
/// things and nothing depends on it, so only the length is bounded.
const KEY_BYTES_MAX: usize = 128;

/// A request that asks for a WebSocket, as an axum extractor.
///
/// It stands in for axum's own extractor, because that one refuses in plain
/// text and hides the raw socket, which an orderly close needs. Extract it as
/// `Option<WebSocketUpgrade>` where a path also serves plain requests.
pub struct WebSocketUpgrade {
    key: HeaderValue,
    on_upgrade: OnUpgrade,
}

/// Why a request that was to become a WebSocket did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeRefused {
    /// RFC 6455 opens with GET.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// No `Connection: upgrade` with `Upgrade: websocket`.
    #[error("this address expects a WebSocket upgrade")]
    NotAnUpgrade,
    /// A `Sec-WebSocket-Version` other than 13.
    #[error("only WebSocket version 13 is spoken here")]
    Version,
    /// No `Sec-WebSocket-Key`, or one that is empty or absurdly long.
    #[error("Sec-WebSocket-Key is missing or not usable")]
    Key,
    /// The HTTP connection cannot be upgraded, such as one of HTTP/1.0.
    #[error("this connection cannot be upgraded")]
    NotUpgradable,
}

/// Answers the handshake and starts [`run`] in a task of its own once the
/// socket is free. `subprotocol` is the token to echo, which must be one the
/// client offered ([`offered_subprotocols`]), or `None` to echo nothing. `make`
/// builds the protocol around the pusher of its own queue; it is called in the
/// connection's task, only if the handshake succeeds.
///
/// While the server drains the answer is 503.
pub fn upgrade<P, F>(
    upgrade: WebSocketUpgrade,
    subprotocol: Option<&'static str>,
    limits: Limits,
    drain: DrainSignal,
    make: F,
) -> Response
where
    P: Protocol,
    F: FnOnce(Pusher<P::Push>) -> P + Send + 'static,
{
    if drain.is_draining() {
        return error_json(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    }
    let accept = derive_accept_key(upgrade.key.as_bytes());
    // Taken before the task runs, so that a drain never overlooks it.
    let ticket = drain.track();
    let connection = async move {
        let _ticket = ticket;
        let upgraded = match upgrade.on_upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => {
                tracing::debug!(%error, "upgrade failed");
                return;
            }
        };
        // Only the bare socket is kept: what hyper puts around it costs memory and a detour for each byte.
        let Ok(Upgraded { io, read_buf, .. }) = upgraded.downcast::<TokioIo<Socket>>() else {
            tracing::error!("an upgraded connection is none of this listener's");
            return;
        };
        let (pusher, queue) = send_queue(limits.queue, limits.queue_bytes);
        run(io.into_inner(), read_buf, make(pusher), queue, limits, drain).await;
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "owned by the drain's ticket: counted until it ends, and closed when the grace is over"
    )]
    tokio::spawn(AssertUnwindSafe(connection).catch_unwind().map(|outcome| {
        if outcome.is_err() {
            tracing::error!("a connection's protocol panicked; only that connection ended");
        }
    }));

    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(Ok(token)) = subprotocol.map(HeaderValue::from_str) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, token);
    }
    response
}

/// What a WebSocket can be spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Serves a WebSocket over a stream on which the handshake is behind, until it
/// ends. [`upgrade`] does the rest for a socket that came over HTTP; without it
/// this is for streams that never were sockets, such as a simulation's pipes.
pub async fn serve_stream<S, P, F>(stream: S, limits: Limits, drain: DrainSignal, make: F)
where
    S: Stream,
    P: Protocol,
    F: FnOnce(Pusher<P::Push>) -> P,
{
    let (pusher, queue) = send_queue(limits.queue, limits.queue_bytes);
    run(stream, Bytes::new(), make(pusher), queue, limits, drain).await;
}

/// The tokens of `Sec-WebSocket-Protocol` in the order of preference, over all
/// header lines. Tokens that are not printable ASCII or are absurdly long are
/// left out, and so is everything after the first sixteen.
#[must_use]
pub fn offered_subprotocols(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .take(SUBPROTOCOLS_MAX)
        .map(<[u8]>::trim_ascii)
        .filter(|token| token.len() <= SUBPROTOCOL_BYTES_MAX)
        .filter(|token| !token.is_empty() && token.iter().all(u8::is_ascii_graphic))
        .filter_map(|token| str::from_utf8(token).ok())
        .map(str::to_owned)
        .collect()
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = UpgradeRefused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, UpgradeRefused> {
        if parts.method != Method::GET {
            return Err(UpgradeRefused::Method);
        }
        if !asks_for_websocket(&parts.headers) {
            return Err(UpgradeRefused::NotAnUpgrade);
        }
        if !has_token(&parts.headers, &SEC_WEBSOCKET_VERSION, "13") {
            return Err(UpgradeRefused::Version);
        }
        let key = parts
            .headers
            .get(SEC_WEBSOCKET_KEY)
            .filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()))
            .ok_or(UpgradeRefused::Key)?
            .clone();
        let on_upgrade = parts.extensions.remove::<OnUpgrade>().ok_or(UpgradeRefused::NotUpgradable)?;
        Ok(Self { key, on_upgrade })
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for WebSocketUpgrade {
    type Rejection = UpgradeRefused;

    /// `None` for a request that does not ask for a WebSocket at all.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, UpgradeRefused> {
        if !asks_for_websocket(&parts.headers) {
            return Ok(None);
        }
        <Self as FromRequestParts<S>>::from_request_parts(parts, state).await.map(Some)
    }
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

/// Whether a comma-separated header holds `token`, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|line| {
        line.as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

impl IntoResponse for UpgradeRefused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAnUpgrade | Self::Version | Self::NotUpgradable => StatusCode::UPGRADE_REQUIRED,
            Self::Key => StatusCode::BAD_REQUEST,
        };
        let mut response = error_json(status, &self.to_string());
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::http::Request;

    use super::*;

    fn offered(lines: &[&[u8]]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(line).unwrap());
        }
        offered_subprotocols(&headers)
    }

    #[test]
    fn subprotocols_keep_their_order_over_lines() {
        assert_eq!(offered(&[]), Vec::<String>::new());
        assert_eq!(offered(&[b"lc.protobuf2.3"]), ["lc.protobuf2.3"]);
        assert_eq!(offered(&[b" b ,a", b"c"]), ["b", "a", "c"]);
    }

    #[test]
    fn odd_subprotocols_are_left_out() {
        let long = [b'x'; 4000];
        assert_eq!(offered(&[b"\xff\xfe,ok,,two words", &long]), ["ok"]);
        let many = "t,".repeat(5000);
        assert_eq!(offered(&[many.as_bytes()]).len(), SUBPROTOCOLS_MAX);
    }

    async fn extract(edit: impl FnOnce(&mut Request<()>)) -> Result<WebSocketUpgrade, UpgradeRefused> {
        let mut request = Request::builder()
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        edit(&mut request);
        let (mut parts, ()) = request.into_parts();
        <WebSocketUpgrade as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await
    }

    #[tokio::test]
    async fn each_fault_of_a_handshake_is_named() {
        type Edit = fn(&mut Request<()>);
        let cases: [(&str, Edit, UpgradeRefused, StatusCode); 6] = [
            (
                "method",
                |r| *r.method_mut() = Method::POST,
                UpgradeRefused::Method,
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            (
                "no upgrade",
                |r| drop(r.headers_mut().remove("upgrade")),
                UpgradeRefused::NotAnUpgrade,
                StatusCode::UPGRADE_REQUIRED,
            ),
            (
                "version",
                |r| {
                    r.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("8"));
                },
                UpgradeRefused::Version,
                StatusCode::UPGRADE_REQUIRED,
            ),
            (
                "no key",
                |r| drop(r.headers_mut().remove("sec-websocket-key")),
                UpgradeRefused::Key,
                StatusCode::BAD_REQUEST,
            ),
            (
                "empty key",
                |r| {
                    r.headers_mut().insert("sec-websocket-key", HeaderValue::from_static(""));
                },
                UpgradeRefused::Key,
                StatusCode::BAD_REQUEST,
            ),
            ("no server underneath", |_| {}, UpgradeRefused::NotUpgradable, StatusCode::UPGRADE_REQUIRED),
        ];
        for (name, edit, expected, status) in cases {
            let refused = extract(edit).await.err().unwrap();
            assert_eq!(refused, expected, "{name}");
            assert_eq!(refused.into_response().status(), status, "{name}");
        }
    }
}
