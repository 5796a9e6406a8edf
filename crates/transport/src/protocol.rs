//! What a wire is to the transport: a state machine that eats frames and pushes
//! and returns frames. It owns no socket, so a gateway tests it without one.
//!
//! ```text
//!   socket ──frame──► on_frame ─┐
//!   queue  ──push───► on_push  ─┼─► Outbox ──one flush──► socket
//!   drain  ─────────► on_drain ─┘
//! ```

use std::future::Future;

use bytes::Bytes;

/// One WebSocket message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text message; the bytes are valid UTF-8. Bytes that are not are
    /// replaced by U+FFFD when the frame is written.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Frame {
    /// A text frame of a string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Bytes::from(text.into()))
    }

    /// The payload, whichever kind it is. An inbound payload shares the
    /// connection's read buffer: whoever keeps a small part of it for long
    /// should copy that part.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// Whether the connection has proved itself; decides time-outs and frame limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has logged in: small frames only, and the login deadline runs.
    Fresh,
    /// Somebody has logged in.
    Ready,
}

/// What the transport is to do after a frame or a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Write the outbox, then this close frame, then close the socket.
    Close(Close),
}

/// A WebSocket close frame (RFC 6455, 5.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The status code, such as 1001 for a server that goes away.
    pub code: u16,
    /// At most 123 bytes of UTF-8, the room a control frame leaves; more is cut.
    pub reason: &'static str,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The peer sent a close frame or closed its side in order.
    PeerClosed,
    /// The socket failed, or the peer broke the WebSocket protocol.
    Lost,
    /// No inbound frame, not even a ping, for [`crate::Limits::idle_timeout`].
    Idle,
    /// Still [`Phase::Fresh`] after [`crate::Limits::login_timeout`].
    LoginTimeout,
    /// The peer sent more than the limit of its phase in one message.
    FrameTooLong,
    /// The peer sent more pings, or more messages before anybody logged in, than have any use.
    Flood,
    /// The peer reads too slowly: its send queue overflowed or a write stalled.
    Slow,
    /// The server drains and the grace time is over.
    Drained,
    /// The protocol answered [`Flow::Close`].
    ByProtocol,
}

impl End {
    /// The value of the `reason` label in `posthouse_closes_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::LoginTimeout => "login_timeout",
            Self::FrameTooLong => "frame_too_long",
            Self::Flood => "flood",
            Self::Slow => "slow",
            Self::Drained => "drained",
            Self::ByProtocol => "by_protocol",
        }
    }
}

/// Frames to write, in order. All frames of one outbox leave in one flush.
pub type Outbox = Vec<Frame>;

/// One wire's connection state machine. One value per connection, driven by
/// one task, so it needs no lock.
pub trait Protocol: Send + 'static {
    /// What other connections and the domain put into this connection's queue.
    type Push: Send + 'static;

    /// Asked before and after each frame; must be cheap.
    fn phase(&self) -> Phase;

    /// Handles one inbound message. While its future runs, no push is taken
    /// from the queue: what is written to `out` here precedes the pushes it
    /// causes. The future is never cancelled; a protocol that waits for
    /// something slow must bound that wait itself.
    fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> impl Future<Output = Flow> + Send;

    /// Turns one push into frames.
    fn on_push(&mut self, push: Self::Push, out: &mut Outbox) -> Flow;

    /// Asked once when the server begins to drain. What it writes is sent; the
    /// socket stays open until the grace time is over.
    fn on_drain(&mut self, out: &mut Outbox);

    /// The close frame for an end decided by the transport: `Idle`,
    /// `LoginTimeout`, `FrameTooLong`, `Flood`, `Slow` or `Drained`.
    fn close_for(&self, end: End) -> Close;

    /// The last call, made while the close handshake is still under way, so
    /// that the domain hears of the end at once. Skipped only when the
    /// protocol panicked.
    fn on_end(self, end: End) -> impl Future<Output = ()> + Send;
}
