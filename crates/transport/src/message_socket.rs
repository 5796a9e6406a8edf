//! The server's side of an open WebSocket (RFC 6455, section 5): bytes in, whole messages out, and
//! back. The handshake is `websocket.rs`, what ends a connection and when is `connection.rs`.
//!
//! It is our own because of what many quiet peers cost. Bytes are read into a buffer that all
//! connections of a thread share, and written from one that lives as long as the write, so a socket
//! that says nothing holds no buffer at all, and a message is copied once on its way.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::{Close, Frame};

/// What one read may bring. Bounds how much of a peer's talk is taken in before it is listened to.
const READ_MAX: usize = 16 * 1024;
/// What may wait for the peer to read. A larger message is a bug of the protocol.
const UNWRITTEN_MAX: usize = 16 * 1024 * 1024;
/// The payload of a ping, a pong or a close frame.
const CONTROL_MAX: usize = 125;
/// The bytes before a payload: two, the longest length, and the peer's mask.
const HEADER_MAX: usize = 2 + 8 + MASK_BYTES;
const MASK_BYTES: usize = 4;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into_boxed_slice());
}

/// One peer, after the handshake.
pub(crate) struct MessageSocket<S> {
    io: S,
    message_max: usize,
    /// Bytes that came and are not understood yet, from `unread_at` on.
    unread: Vec<u8>,
    unread_at: usize,
    /// A message of which more is to come.
    fragments: Option<Box<Fragments>>,
    /// Bytes that the peer has not taken yet, from `unwritten_at` on.
    unwritten: Vec<u8>,
    unwritten_at: usize,
    /// The answer to the newest ping.
    pong: Option<Box<[u8]>>,
    /// Nothing more is read.
    ended: bool,
}

struct Fragments {
    is_text: bool,
    payload: Vec<u8>,
    /// How much of a text is known to be UTF-8.
    checked: usize,
}

impl Fragments {
    /// Whether what has come can still become a message: a text that can't is refused at once (8.1).
    fn may_go_on(&mut self) -> bool {
        if !self.is_text {
            return true;
        }
        match str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => {
                self.checked = self.payload.len();
                true
            }
            Err(bad) => {
                self.checked += bad.valid_up_to();
                // A character that is cut short may go on in the next fragment.
                bad.error_len().is_none()
            }
        }
    }
}

/// What came from the peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A whole message.
    Message(Frame),
    /// A ping, whose answer waits for a flush, or a pong.
    Control,
    /// The peer said goodbye (its reply waits for a flush) or closed its side.
    Closed,
    /// The socket failed.
    Failed,
    /// A message longer than the limit.
    TooLong,
    /// The peer broke the rules: the close frame that says so.
    Broken(Close),
}

/// More is to be written than a connection may keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

const BROKEN: Received = Received::Broken(Close { code: PROTOCOL_ERROR, reason: "protocol error" });
const NOT_UTF8: Received = Received::Broken(Close { code: 1007, reason: "text is not UTF-8" });
const PROTOCOL_ERROR: u16 = 1002;

mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_IN_2: u8 = 126;
const LENGTH_IN_8: u8 = 127;

/// A frame's header, once all of it has come.
struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; MASK_BYTES],
    /// The bytes of the header itself.
    size: usize,
    payload: usize,
}

enum Parsed {
    /// Not all of it has come; how many bytes are wanted in all, as far as is known.
    Wanted(usize),
    Whole(Header),
    TooLong,
    Broken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> MessageSocket<S> {
    /// Takes over an open socket. `read` is what came behind the handshake.
    pub(crate) fn new(io: S, read: &[u8], message_max: usize) -> Self {
        Self {
            io,
            message_max,
            unread: read.to_vec(),
            unread_at: 0,
            fragments: None,
            unwritten: Vec::new(),
            unwritten_at: 0,
            pong: None,
            ended: false,
        }
    }

    /// The socket underneath.
    pub(crate) fn io(&mut self) -> &mut S {
        &mut self.io
    }

    /// What comes next from the peer. After anything but a message or a control frame nothing more
    /// comes.
    pub(crate) fn poll_received(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        if self.ended {
            return Poll::Ready(Received::Closed);
        }
        loop {
            let unread = std::mem::take(&mut self.unread);
            let taken = self.take(&unread[self.unread_at..]);
            self.unread = unread;
            match taken {
                Taken::Nothing { wanted } => {
                    self.unread.drain(..self.unread_at);
                    self.unread_at = 0;
                    if self.unread.is_empty() {
                        // Given back: most of what is read ends with a message.
                        self.unread = Vec::new();
                    } else {
                        self.unread.reserve_exact(wanted.saturating_sub(self.unread.len()));
                    }
                }
                Taken::Frame { bytes, received } => {
                    self.unread_at += bytes;
                    if let Some(received) = received {
                        return Poll::Ready(self.noted(received));
                    }
                    continue;
                }
            }
            match ready!(self.poll_read(cx)) {
                Ok(Some(received)) => return Poll::Ready(self.noted(received)),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "read failed");
                    return Poll::Ready(self.noted(Received::Failed));
                }
            }
        }
    }

    /// Reads once. What came is a whole frame most of the time, which then is not kept first.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Received>>> {
        READ.with_borrow_mut(|shared| {
            let mut buffer = ReadBuf::new(shared);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            let mut bytes = buffer.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(Some(Received::Closed)));
            }
            while self.unread.is_empty() {
                match self.take(bytes) {
                    Taken::Nothing { wanted } => {
                        self.unread.reserve_exact(wanted.max(bytes.len()));
                        break;
                    }
                    Taken::Frame { bytes: taken, received } => {
                        bytes = &bytes[taken..];
                        if received.is_some() {
                            self.unread.extend_from_slice(bytes);
                            return Poll::Ready(Ok(received));
                        }
                        if bytes.is_empty() {
                            return Poll::Ready(Ok(None));
                        }
                    }
                }
            }
            self.unread.extend_from_slice(bytes);
            Poll::Ready(Ok(None))
        })
    }

    fn noted(&mut self, received: Received) -> Received {
        self.ended = !matches!(received, Received::Message(_) | Received::Control);
        received
    }

    /// Takes one frame off `bytes`, if all of it is there.
    fn take(&mut self, bytes: &[u8]) -> Taken {
        let header = match parse(bytes, self.message_max) {
            Parsed::Wanted(wanted) => return Taken::Nothing { wanted },
            Parsed::Whole(header) => header,
            Parsed::TooLong => return Taken::last(Received::TooLong),
            Parsed::Broken => return Taken::last(BROKEN),
        };
        let end = header.size + header.payload;
        if bytes.len() < end {
            return Taken::Nothing { wanted: end };
        }
        let payload = &bytes[header.size..end];
        Taken::Frame { bytes: end, received: self.frame(&header, payload) }
    }

    /// What a frame completes.
    fn frame(&mut self, header: &Header, payload: &[u8]) -> Option<Received> {
        let plain = |kept: usize| {
            let mut plain = Vec::with_capacity(kept);
            plain.extend_from_slice(payload);
            unmask(&mut plain, header.mask);
            plain
        };
        match header.opcode {
            opcode::PING => {
                self.pong = Some(plain(payload.len()).into_boxed_slice());
                Some(Received::Control)
            }
            opcode::PONG => Some(Received::Control),
            opcode::CLOSE => Some(self.closed(&plain(payload.len()))),
            opcode::CONTINUATION => {
                let Some(mut fragments) = self.fragments.take() else { return Some(BROKEN) };
                if fragments.payload.len() + payload.len() > self.message_max {
                    return Some(Received::TooLong);
                }
                let at = fragments.payload.len();
                fragments.payload.extend_from_slice(payload);
                unmask(&mut fragments.payload[at..], header.mask);
                if header.is_final {
                    return Some(message(fragments.is_text, fragments.payload));
                }
                self.go_on(fragments)
            }
            _ if self.fragments.is_some() => Some(BROKEN),
            text_or_binary => {
                let is_text = text_or_binary == opcode::TEXT;
                if header.is_final {
                    return Some(message(is_text, plain(payload.len())));
                }
                self.go_on(Box::new(Fragments { is_text, payload: plain(payload.len()), checked: 0 }))
            }
        }
    }

    fn go_on(&mut self, mut fragments: Box<Fragments>) -> Option<Received> {
        let may_go_on = fragments.may_go_on();
        self.fragments = Some(fragments);
        (!may_go_on).then_some(NOT_UTF8)
    }

    /// The peer's goodbye, which is repeated to it.
    fn closed(&mut self, said: &[u8]) -> Received {
        let reply = match said {
            [] => said,
            [_] => return BROKEN,
            [high, low, reason @ ..] => {
                if str::from_utf8(reason).is_err() {
                    return NOT_UTF8;
                }
                if may_be_sent(u16::from_be_bytes([*high, *low])) {
                    said
                } else {
                    &PROTOCOL_ERROR.to_be_bytes()
                }
            }
        };
        put(&mut self.unwritten, opcode::CLOSE, reply);
        Received::Closed
    }

    /// Adds a message to what is to be written.
    pub(crate) fn feed(&mut self, frame: &Frame) -> Result<(), TooMuch> {
        let size = frame.payload().len() + HEADER_MAX;
        // What may come in may go out.
        let max = UNWRITTEN_MAX.max(self.message_max + HEADER_MAX);
        if self.unwritten.len() - self.unwritten_at + size > max {
            return Err(TooMuch);
        }
        match frame {
            Frame::Binary(bytes) => put(&mut self.unwritten, opcode::BINARY, bytes),
            Frame::Text(bytes) => {
                put(&mut self.unwritten, opcode::TEXT, String::from_utf8_lossy(bytes).as_bytes());
            }
        }
        Ok(())
    }

    /// Adds a close frame, after which nothing may be added.
    pub(crate) fn feed_close(&mut self, close: Close) {
        let end = close.reason.floor_char_boundary(CONTROL_MAX - 2);
        let said = [&close.code.to_be_bytes()[..], &close.reason.as_bytes()[..end]].concat();
        put(&mut self.unwritten, opcode::CLOSE, &said);
    }

    /// Writes everything that was added, and the answer to a ping. Safe to cancel: what is left is
    /// written by the next call.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pong) = self.pong.take() {
            put(&mut self.unwritten, opcode::PONG, &pong);
        }
        while self.unwritten_at < self.unwritten.len() {
            let rest = &self.unwritten[self.unwritten_at..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => self.unwritten_at += written,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unwritten = Vec::new();
        self.unwritten_at = 0;
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

enum Taken {
    Nothing { wanted: usize },
    Frame { bytes: usize, received: Option<Received> },
}

impl Taken {
    fn last(received: Received) -> Self {
        Self::Frame { bytes: 0, received: Some(received) }
    }
}

fn parse(bytes: &[u8], payload_max: usize) -> Parsed {
    let &[first, second, ..] = bytes else { return Parsed::Wanted(2) };
    let opcode = first & OPCODE;
    let is_final = first & FINAL != 0;
    let is_control = opcode >= opcode::CLOSE;
    let is_known = matches!(opcode, opcode::CONTINUATION..=opcode::BINARY | opcode::CLOSE..=opcode::PONG);
    let (payload, length_end) = match second & LENGTH {
        LENGTH_IN_2 => match bytes.get(2..4) {
            Some(&[high, low]) => (u64::from(u16::from_be_bytes([high, low])), 4),
            _ => return Parsed::Wanted(4),
        },
        LENGTH_IN_8 => match bytes.get(2..10).and_then(|length| length.first_chunk()) {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Parsed::Wanted(10),
        },
        short => (u64::from(short), 2),
    };
    if !is_known {
        return Parsed::Broken;
    }
    let fits = |payload: &usize| *payload <= payload_max;
    let Some(payload) = usize::try_from(payload).ok().filter(fits) else { return Parsed::TooLong };
    // No extension was agreed on, and clients mask (5.1, 5.2, 5.5).
    if first & RESERVED != 0 || second & MASKED == 0 || (is_control && (!is_final || payload > CONTROL_MAX)) {
        return Parsed::Broken;
    }
    match bytes[length_end..].first_chunk() {
        Some(mask) => {
            Parsed::Whole(Header { is_final, opcode, mask: *mask, size: length_end + MASK_BYTES, payload })
        }
        None => Parsed::Wanted(length_end + MASK_BYTES),
    }
}

fn message(is_text: bool, payload: Vec<u8>) -> Received {
    if !is_text {
        return Received::Message(Frame::Binary(Bytes::from(payload)));
    }
    match String::from_utf8(payload) {
        Ok(text) => Received::Message(Frame::text(text)),
        Err(_) => NOT_UTF8,
    }
}

fn unmask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let (words, rest) = payload.as_chunks_mut::<MASK_BYTES>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// Whether a peer may give this reason (7.4).
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Writes a whole message, unmasked as servers do.
#[expect(clippy::cast_possible_truncation, reason = "each cast is of a length that was just compared")]
fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.reserve(HEADER_MAX + payload.len());
    out.push(FINAL | opcode);
    let length = payload.len();
    if length < usize::from(LENGTH_IN_2) {
        out.push(length as u8);
    } else if let Ok(short) = u16::try_from(length) {
        out.push(LENGTH_IN_2);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(LENGTH_IN_8);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::future::poll_fn;
    use std::io::{Cursor, Read, Write};

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
    use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

    use super::*;

    const MAX: usize = 200;

    /// A frame as a client writes it, or nearly.
    #[derive(Clone, Debug)]
    struct Written {
        first: u8,
        masked: bool,
        payload: Vec<u8>,
    }

    impl Written {
        fn bytes(&self) -> Vec<u8> {
            let mask = [7, 77, 0, 177];
            let mut bytes = Vec::new();
            put(&mut bytes, 0, &self.payload);
            bytes[0] = self.first;
            if self.masked {
                bytes[1] |= MASKED;
                let at = bytes.len() - self.payload.len();
                unmask(&mut bytes[at..], mask);
                bytes.splice(at..at, mask);
            }
            bytes
        }
    }

    fn client(first: u8, payload: &[u8]) -> Vec<u8> {
        Written { first, masked: true, payload: payload.to_vec() }.bytes()
    }

    /// All that comes of `bytes`, which arrive in pieces of `piece` bytes.
    async fn received(bytes: &[u8], piece: usize) -> Vec<Received> {
        let (mut peer, io) = duplex(piece);
        let sending = async move {
            for piece in bytes.chunks(piece) {
                if peer.write_all(piece).await.is_err() {
                    break;
                }
            }
            peer
        };
        let receiving = async {
            let mut socket = MessageSocket::new(io, b"", MAX);
            let mut all = Vec::new();
            loop {
                let received = poll_fn(|cx| socket.poll_received(cx)).await;
                let is_last = socket.ended;
                all.push(received);
                if is_last {
                    return all;
                }
            }
        };
        let ((), all) = tokio::join!(async { drop(sending.await) }, receiving);
        all
    }

    struct Tape(Cursor<Vec<u8>>);

    impl Read for Tape {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Read::read(&mut self.0, buffer)
        }
    }

    impl Write for Tape {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What another implementation makes of the same bytes.
    fn expected(bytes: &[u8]) -> Vec<Received> {
        let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
        let mut socket =
            WebSocket::from_raw_socket(Tape(Cursor::new(bytes.to_vec())), Role::Server, Some(config));
        let mut all = Vec::new();
        loop {
            let received = match socket.read() {
                Ok(Message::Text(text)) => Received::Message(Frame::Text(text.into())),
                Ok(Message::Binary(bytes)) => Received::Message(Frame::Binary(bytes)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Received::Control,
                Ok(Message::Close(_)) | Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    Received::Closed
                }
                Err(Error::Capacity(_)) => Received::TooLong,
                Err(Error::Utf8(_)) => NOT_UTF8,
                Err(Error::Protocol(_)) => BROKEN,
                Err(other) => panic!("{other}"),
            };
            let goes_on = matches!(received, Received::Message(_) | Received::Control);
            all.push(received);
            if !goes_on {
                return all;
            }
        }
    }

    fn written() -> impl Strategy<Value = Written> {
        let opcode = prop_oneof![
            8 => Just(opcode::CONTINUATION),
            6 => Just(opcode::TEXT),
            6 => Just(opcode::BINARY),
            1 => Just(opcode::CLOSE),
            3 => Just(opcode::PING),
            3 => Just(opcode::PONG),
            1 => 0..16_u8,
        ];
        let reserved = prop_oneof![40 => Just(0), 1 => Just(0x10_u8), 1 => Just(0x40)];
        let text = prop_oneof![10 => "[a-z]{0,20}", 3 => "[a-z]{100,220}", 2 => ".{0,30}"];
        (opcode, any::<bool>(), reserved, prop::bool::weighted(0.98), text).prop_map(
            |(opcode, is_final, reserved, masked, text)| Written {
                first: opcode | reserved | if is_final { FINAL } else { 0 },
                masked,
                payload: text.into_bytes(),
            },
        )
    }

    proptest! {
        #[test]
        fn bytes_mean_what_they_mean_to_others(
            frames in prop::collection::vec(written(), 0..12),
            piece in 1..600_usize,
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(Written::bytes).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(received(&bytes, piece)), expected(&bytes));
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1..400_usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let received = runtime.block_on(received(&bytes, piece));
            prop_assert!(!received.is_empty());
        }
    }

    #[tokio::test]
    async fn a_message_may_come_in_pieces_with_a_ping_between() {
        let bytes =
            [client(0x01, b"hel"), client(0x89, b"?"), client(0x80, b"lo"), client(0x82, b"x")].concat();
        for piece in [1, 2, 7, 1_000] {
            let all = received(&bytes, piece).await;
            let text = Received::Message(Frame::text("hello"));
            let binary = Received::Message(Frame::Binary(Bytes::from_static(b"x")));
            assert_eq!(all, [Received::Control, text, binary, Received::Closed], "{piece}");
        }
    }

    #[tokio::test]
    async fn text_in_pieces_is_refused_as_soon_as_it_can_be_none() {
        let (cut, rest) = "\u{732b}".as_bytes().split_at(1);
        let whole = [client(0x01, cut), client(0x00, rest), client(0x80, b"!")].concat();
        assert_eq!(received(&whole, 5).await[0], Received::Message(Frame::text("\u{732b}!")));
        let broken = [client(0x01, cut), client(0x00, b"x"), client(0x89, b"never read")].concat();
        assert_eq!(received(&broken, 5).await, [NOT_UTF8]);
        let never_ended = [client(0x01, cut), client(0x80, b"")].concat();
        assert_eq!(received(&never_ended, 5).await, [NOT_UTF8]);
    }

    #[tokio::test]
    async fn what_came_behind_the_handshake_comes_first() {
        let (mut peer, io) = duplex(100);
        let bytes = client(0x81, b"hello");
        let (early, late) = bytes.split_at(4);
        let mut socket = MessageSocket::new(io, early, MAX);
        peer.write_all(late).await.unwrap();
        let first = poll_fn(|cx| socket.poll_received(cx)).await;
        assert_eq!(first, Received::Message(Frame::text("hello")));
    }

    async fn said(peer: &mut DuplexStream, bytes: usize) -> Vec<u8> {
        let mut said = vec![0; bytes];
        peer.read_exact(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn pings_and_goodbyes_are_answered() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"", b"\x88\x00"),
            (b"\x03\xe8bye", b"\x88\x05\x03\xe8bye"),
            (b"\x0f\xa0", b"\x88\x02\x0f\xa0"),
            // "No code was given" is not to be said aloud.
            (b"\x03\xed", b"\x88\x02\x03\xea"),
        ];
        for (goodbye, reply) in cases {
            let (mut peer, io) = duplex(1_000);
            let mut socket = MessageSocket::new(io, b"", MAX);
            peer.write_all(&[client(0x89, b"you?"), client(0x88, goodbye)].concat()).await.unwrap();
            assert_eq!(poll_fn(|cx| socket.poll_received(cx)).await, Received::Control);
            poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
            assert_eq!(said(&mut peer, 6).await, b"\x8a\x04you?");
            assert_eq!(poll_fn(|cx| socket.poll_received(cx)).await, Received::Closed);
            poll_fn(|cx| socket.poll_flush(cx)).await.unwrap();
            assert_eq!(said(&mut peer, reply.len()).await, reply);
        }
    }

    #[tokio::test]
    async fn lengths_are_written_as_short_as_they_can_be_and_survive_a_slow_peer() {
        for (length, head) in [
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 255, 255]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (mut peer, io) = duplex(100);
            let mut socket = MessageSocket::new(io, b"", MAX);
            socket.feed(&Frame::Binary(Bytes::from(vec![5; length]))).unwrap();
            let whole = [head, vec![5; length]].concat();
            let (sent, said) =
                tokio::join!(poll_fn(|cx| socket.poll_flush(cx)), said(&mut peer, whole.len()));
            sent.unwrap();
            assert!(said == whole, "{length}");
            assert_eq!(socket.unwritten.capacity(), 0, "a buffer lives as long as the write");
        }
    }

    #[tokio::test]
    async fn no_buffer_is_kept_between_messages() {
        let (mut peer, io) = duplex(1_000);
        let mut socket = MessageSocket::new(io, b"", MAX);
        let bytes = client(0x82, &[1; 150]);
        for piece in bytes.chunks(20) {
            peer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
            let polled = poll_fn(|cx| Poll::Ready(socket.poll_received(cx))).await;
            assert_eq!(polled.is_ready(), piece == bytes.chunks(20).next_back().unwrap());
        }
        assert!(poll_fn(|cx| Poll::Ready(socket.poll_received(cx))).await.is_pending());
        assert_eq!(socket.unread.capacity(), 0);
    }

    #[tokio::test]
    async fn more_than_a_connection_may_keep_is_refused() {
        let (_peer, io) = duplex(1);
        let mut socket = MessageSocket::new(io, b"", MAX);
        let half = Frame::Binary(Bytes::from(vec![0; UNWRITTEN_MAX / 2]));
        assert_eq!(socket.feed(&half), Ok(()));
        assert_eq!(socket.feed(&half), Err(TooMuch));
    }
}
