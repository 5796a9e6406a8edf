//! A client that costs next to nothing, so that one core can play thousands of busy ones.
//!
//! [`crate::peer`] takes the part of an SDK and is made to be read in tests: a task, a value for
//! each command, a timer for each call. Here a frame is written into a buffer that all clients
//! share and read where it lies. Before the load, a [`Line`] connects and logs in; then
//! [`super::talk`] takes its socket over, and a [`Voice`] says what it sends and hears.
//!
//! [`frame`] is WebSocket, [`fields`] is protobuf, [`leancloud`] and [`easemob`] are the two wires.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthouse_core::time::Chance as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::http::Uri;

use crate::adapter::SystemChance;
use crate::peer::{Error, PATIENCE};

pub(super) mod easemob;
pub(super) mod fields;
pub(super) mod frame;
pub(super) mod leancloud;

/// The longest head of an answer to a handshake.
const HEAD_BYTES_MAX: usize = 8 << 10;
const READ_BYTES: usize = 4 << 10;

/// Which door the load goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Wire {
    /// LeanCloud Realtime, as the JavaScript SDK speaks it.
    Leancloud,
    /// Easemob's MSYNC, as the Web SDK speaks it.
    Easemob,
}

impl Wire {
    /// As in `--wire`.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Leancloud => "leancloud",
            Self::Easemob => "easemob",
        }
    }
}

/// What a frame means to the one who hears it.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Heard<'a> {
    /// The message with this key was accepted.
    Accepted(u64),
    /// The message, or the call, with this key was refused.
    Refused(u64, String),
    /// A message that somebody else sent.
    Message(Message<'a>),
    /// A queue has news: pull it.
    News(&'a [u8]),
    /// What a pull brought: pull on with this key.
    Batch {
        /// The frame's content, of which [`easemob::messages`] makes messages.
        content: &'a [u8],
        queue: &'a [u8],
        key: u64,
    },
    /// The pull brought nothing more.
    Emptied,
    /// Something that should not have come, in words.
    Wrong(String),
    /// Nothing that matters here.
    Other,
}

/// A message that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Message<'a> {
    pub(super) content: &'a [u8],
    /// The server's time, in Unix ms.
    pub(super) at: i64,
    /// The conversation's id, on wires that name it.
    pub(super) conversation: Option<&'a [u8]>,
}

/// How one client speaks.
#[derive(Debug)]
pub(super) enum Voice {
    Leancloud(leancloud::Voice),
    Easemob(easemob::Voice),
}

impl Voice {
    /// Appends the payload of a frame that says `content`; gives the key of the answer.
    pub(super) fn say(&mut self, out: &mut Vec<u8>, token: &[u8], content: &[u8]) -> u64 {
        match self {
            Self::Leancloud(voice) => voice.say(out, token, content),
            Self::Easemob(voice) => voice.say(out, content),
        }
    }

    pub(super) fn hear<'a>(&self, payload: &'a [u8]) -> Heard<'a> {
        let heard = match self {
            Self::Leancloud(_) => leancloud::hear(payload),
            Self::Easemob(_) => easemob::hear(payload),
        };
        heard.unwrap_or_else(|fields::Malformed| Heard::Wrong("a frame that is no protobuf".to_owned()))
    }

    /// Appends the payload of a heartbeat.
    pub(super) fn heartbeat(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leancloud(_) => leancloud::heartbeat(out),
            Self::Easemob(_) => easemob::heartbeat(out),
        }
    }
}

/// A socket in preparation: connected, and soon logged in.
#[derive(Debug)]
pub(super) struct Line {
    url: String,
    stream: TcpStream,
    inbox: Vec<u8>,
    serial: i32,
}

impl Line {
    /// Opens a WebSocket at `url` (`ws://host:port/path`). A small `receive_buffer` makes the kernel
    /// advertise little, as a phone on a bad line does.
    pub(super) async fn connect(
        url: &str,
        subprotocol: &str,
        receive_buffer: Option<u32>,
    ) -> Result<Self, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::BadUrl(url.to_owned()))?;
        let (Some("ws"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(Error::BadUrl(url.to_owned()));
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let unreachable = |source| Error::Unreachable { address: authority.clone(), source };
        let dial = async {
            let address = lookup_host(&authority).await?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = timeout(PATIENCE, dial)
            .await
            .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(unreachable)?;
        let mut line = Self { url: url.to_owned(), stream, inbox: Vec::new(), serial: 0 };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        line.shake_hands(&authority, path, subprotocol).await?;
        Ok(line)
    }

    async fn shake_hands(&mut self, host: &str, path: &str, subprotocol: &str) -> Result<(), Error> {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&SystemChance.bits().to_le_bytes());
        key[8..].copy_from_slice(&SystemChance.bits().to_le_bytes());
        let key = STANDARD.encode(key);
        let offer = match subprotocol {
            "" => String::new(),
            offer => format!("Sec-WebSocket-Protocol: {offer}\r\n"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offer}\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.map_err(broken)?;
        let end = loop {
            if let Some(at) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.inbox.len() > HEAD_BYTES_MAX {
                return Err(Error::Unreadable("an endless answer to the handshake".to_owned()));
            }
            self.read().await?;
        };
        let head: Vec<u8> = self.inbox.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        if status != 101 || !head.contains(&derive_accept_key(key.as_bytes())) {
            return Err(Error::Http { url: self.url.clone(), status, body: head });
        }
        Ok(())
    }

    /// Sends one message.
    async fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut out = Vec::new();
        frame::put(&mut out, frame::BINARY, payload, mask());
        self.stream.write_all(&out).await.map_err(broken)
    }

    /// The next message for which `wanted` gives something; others are dropped.
    async fn answer<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&[u8]) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let waiting = async {
            loop {
                let mut found = None;
                while let Some((frame, length)) =
                    frame::take(&self.inbox).map_err(|words| Error::Unreadable(words.to_owned()))?
                {
                    match frame.opcode {
                        frame::BINARY => found = wanted(frame.payload)?,
                        frame::CLOSE => {
                            return Err(Error::Closed { code: None, reason: close_words(frame.payload) });
                        }
                        _ => {}
                    }
                    self.inbox.drain(..length);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                self.read().await?;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .map_err(|_| Error::TimedOut { what: what.to_owned(), waited: PATIENCE })?
    }

    async fn read(&mut self) -> Result<(), Error> {
        self.inbox.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbox).await.map_err(broken)? {
            0 => Err(Error::Closed { code: None, reason: String::new() }),
            _ => Ok(()),
        }
    }

    /// Over a connection as it is.
    #[cfg(test)]
    pub(super) fn over(stream: TcpStream) -> Self {
        Self { url: String::new(), stream, inbox: Vec::new(), serial: 0 }
    }

    /// The last serial used.
    pub(super) fn serial(&self) -> i32 {
        self.serial
    }

    /// The socket, and what it has received already.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.inbox)
    }
}

/// A masking key, which has to be hard to guess only where a proxy could mistake the bytes.
pub(super) fn mask() -> u32 {
    u32::try_from(SystemChance.bits() >> 32).expect("32 bits are left")
}

/// Code and reason of a close frame.
pub(super) fn close_words(payload: &[u8]) -> String {
    match payload.split_first_chunk() {
        Some((code, reason)) => {
            format!("{} {}", u16::from_be_bytes(*code), String::from_utf8_lossy(reason))
        }
        None => String::new(),
    }
}

fn broken(error: io::Error) -> Error {
    Error::Broken(Box::new(error.into()))
}
