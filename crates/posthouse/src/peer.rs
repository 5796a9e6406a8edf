//! Our own LeanCloud client: one real socket, frames in and out, and a typed call for each command.
//!
//! It serves `demo`, `bench` and the scripted-peer tests, and takes the part of an SDK: it sends
//! what SDKs send and shows what they would see. It deliberately shares nothing with the gateway
//! but the generated protobuf types, so that it does not repeat the gateway's mistakes.
//!
//! A [`Peer`] runs no task. It reads when one of its methods is awaited: answers go to the call that
//! asked (by serial), everything else waits in a bounded queue for [`Peer::expect`] and
//! [`Peer::take_pushes`]. Every call but [`Peer::receive`] gives up after [`Peer::patience`].

pub mod easemob;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use posthouse_leancloud::wire::proto::{
    AckCommand, CommandType, ConvCommand, DirectCommand, ErrorCommand, GenericCommand, JsonObjectMessage,
    LogItem, LogsCommand, OpType, PatchCommand, PatchItem, ReadCommand, ReadTuple, SessionCommand,
};
use prost::Message as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The subprotocol of nearly every SDK: protobuf in binary messages, behaviour version 3.
pub const BINARY: &str = "lc.protobuf2.3";
/// The subprotocol for clients without binary sockets: base64 in text messages, version 3.
pub const BASE64: &str = "lc.proto2base64.3";

/// `configBitmap` of the JavaScript SDK 5.0.0-rc.8 (`src/im-client.js`).
pub const CONFIG_BITMAP: i64 = 0xBB;

/// How long a call waits before it gives up, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Pushes kept until somebody asks for them. Past it calls fail with [`Error::TooManyPushes`]: a
/// test or a demo that lets so many pile up is wrong.
pub const PUSHES_MAX: usize = 10_000;

/// A page of history of 1,000 messages of 5 KB, as base64, and some room.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The default of 128 KiB for each connection would make 10,000 idle ones cost more than a gigabyte.
const SOCKET_BUFFER_BYTES: usize = 4 << 10;
/// The longest answer to an HTTP request that [`http`] takes.
const HTTP_ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Anything a socket may be made of: TCP, TLS over it, or a pipe in memory.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What went wrong on this side of the wire.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is no `http`, `https`, `ws` or `wss` URL with a host.
    #[error("`{0}` is not a URL such as http://127.0.0.1:7700 or ws://127.0.0.1:7700")]
    BadUrl(String),
    /// TLS is wanted where only a plain socket can be made; see [`Peer::over`].
    #[error("`{0}` needs TLS, which this client does not open by itself")]
    NeedsTls(String),
    /// No TCP connection.
    #[error("{address} can't be reached")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server did not accept the WebSocket.
    #[error("{url} did not accept a WebSocket")]
    Handshake {
        /// The address.
        url: String,
        /// Why.
        source: Box<SocketError>,
    },
    /// The HTTP server answered otherwise than hoped.
    #[error("{url} answered {status}: {body}")]
    Http {
        /// The address.
        url: String,
        /// HTTP status; 0 if the answer was no HTTP.
        status: u16,
        /// What it said.
        body: String,
    },
    /// The wait is over.
    #[error("{what} did not come within {} ms", waited.as_millis())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The server refused a command.
    #[error("{what} was refused: {refusal}")]
    Refused {
        /// The command.
        what: String,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// The connection has ended.
    #[error("the connection is closed{}", closed_text(*.code, .reason))]
    Closed {
        /// WebSocket close code; `None` if the connection just broke.
        code: Option<u16>,
        /// What the server said.
        reason: String,
    },
    /// The connection broke the rules of WebSocket or TCP.
    #[error("the connection broke")]
    Broken(#[source] Box<SocketError>),
    /// A message that holds no command.
    #[error("the server sent a message that is no command: {0}")]
    Unreadable(String),
    /// A command that lacks what it must carry.
    #[error("{what} came without {field}")]
    Incomplete {
        /// The command.
        what: String,
        /// The missing field.
        field: &'static str,
    },
    /// [`PUSHES_MAX`] is reached.
    #[error("more than {PUSHES_MAX} pushes are waiting to be looked at")]
    TooManyPushes,
}

fn closed_text(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, _) => String::new(),
        (Some(code), "") => format!(" ({code})"),
        (Some(code), reason) => format!(" ({code} {reason})"),
    }
}

/// Why the server refused: the content of an `error`, of an `ack` with a code, or of a
/// `session/closed` that answers an `open`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusal {
    /// LeanCloud's error code, such as 4401.
    pub code: i32,
    /// Its name, such as `INVALID_MESSAGING_TARGET`.
    pub reason: String,
    /// The reason in words, if there is one.
    pub detail: Option<String>,
    /// A hook's own code.
    pub app_code: Option<i32>,
    /// A hook's own words.
    pub app_msg: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl From<&ErrorCommand> for Refusal {
    fn from(error: &ErrorCommand) -> Self {
        Self {
            code: error.code.unwrap_or_default(),
            reason: error.reason.clone().unwrap_or_default(),
            detail: error.detail.clone(),
            app_code: error.app_code,
            app_msg: error.app_msg.clone(),
        }
    }
}

impl Error {
    /// LeanCloud's error code, if the server refused a command.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.code),
            _ => None,
        }
    }
}

/// How to open a session; the default is what the JavaScript SDK sends the first time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// "I resume": conflicting devices are not displaced.
    pub reopen: bool,
    /// The session token of an earlier open.
    pub token: Option<String>,
    /// Single-device tag.
    pub tag: Option<String>,
    /// What names the device.
    pub device_id: Option<String>,
    /// The newest unread notification seen, in Unix ms.
    pub last_unread_notif_time: Option<i64>,
    /// The newest edit seen, in Unix ms.
    pub last_patch_time: Option<i64>,
    /// What the client understands (wire reference, 2.3); `None` sends none, as C# does on reopen.
    pub config_bitmap: Option<i64>,
    /// Signature: time in ms, nonce, signature.
    pub signature: Option<(i64, String, String)>,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            reopen: false,
            token: None,
            tag: None,
            device_id: None,
            last_unread_notif_time: None,
            last_patch_time: None,
            config_bitmap: Some(CONFIG_BITMAP),
            signature: None,
        }
    }
}

/// An open session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The client's id; the server's choice if none was given.
    pub client: String,
    /// The session token, if the server gave one.
    pub token: Option<String>,
    /// How long the token lasts, in seconds.
    pub token_ttl_s: Option<i32>,
    /// The server's clock, in Unix ms.
    pub server_time: i64,
}

/// A conversation that was created or found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// Its id; temporary ones begin with `_tmp:`.
    pub cid: String,
    /// When it was created, ISO 8601.
    pub created_at: String,
    /// It was there before.
    pub existing: bool,
    /// The id of its set of members, for unique ordinary ones.
    pub unique_id: Option<String>,
    /// Granted life in seconds, for temporary ones.
    pub ttl_s: Option<i32>,
}

/// A message that the server accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The message's id.
    pub id: String,
    /// The server's time of it, in Unix ms.
    pub at: i64,
}

/// How to send a message; the default is an ordinary one without a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outgoing {
    /// Tell me when it is delivered and read.
    pub receipt: bool,
    /// Only for those online now; never stored.
    pub transient: bool,
    /// Send it when my connection is lost.
    pub will: bool,
    /// What makes a retry recognisable (`dt`).
    pub token: Option<String>,
    /// Clients it mentions.
    pub mentions: Vec<String>,
    /// It mentions everybody.
    pub mention_all: bool,
    /// 1 high, 2 normal, 3 low; of use in chat rooms.
    pub priority: Option<i32>,
    /// Overrides the offline push (JSON).
    pub push: Option<String>,
}

/// One WebSocket connection with any number of sessions.
///
/// Calls that speak for a client take its id first and put it into the frame, as SDKs do when
/// several clients share one socket.
pub struct Peer {
    socket: WebSocketStream<Box<dyn Wire>>,
    base64: bool,
    serial: i32,
    patience: Duration,
    pushes: VecDeque<GenericCommand>,
    ended: Option<(Option<u16>, String)>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("serial", &self.serial)
            .field("pushes", &self.pushes.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

// Connecting and leaving.
impl Peer {
    /// Opens a WebSocket at `url` (`ws://host:port/path`) and offers `subprotocol` ([`BINARY`],
    /// [`BASE64`], another; empty for none, which the wire reads as [`BINARY`]).
    pub async fn connect(url: &str, subprotocol: &str) -> Result<Self, Error> {
        let stream = connected(url).await?;
        Self::over(stream, url, subprotocol).await
    }

    /// The same over a connection made by the caller: TLS with the caller's own roots, or a pipe.
    pub async fn over(stream: impl Wire + 'static, url: &str, subprotocol: &str) -> Result<Self, Error> {
        let socket = shaken(stream, url, subprotocol).await?;
        Ok(Self {
            socket,
            base64: subprotocol.starts_with("lc.proto2base64"),
            serial: 0,
            patience: PATIENCE,
            pushes: VecDeque::new(),
            ended: None,
        })
    }

    /// Asks the router for the socket as SDKs do, then connects. `server` may also be the socket's
    /// own address (`ws://…`).
    pub async fn discover(server: &str, app_id: &str, subprotocol: &str) -> Result<Self, Error> {
        Self::connect(&route(server, app_id).await?, subprotocol).await
    }

    /// How long calls wait.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Makes calls wait for `patience` instead of [`PATIENCE`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Ends the WebSocket politely (code 1000). Sessions that were not closed count as lost. To
    /// break the connection without a word, drop the peer.
    pub async fn disconnect(mut self) -> Result<(), Error> {
        close(&mut self.socket, self.patience).await
    }

    /// Waits for the server to end the connection; gives its close code and reason. Commands that
    /// come before are kept as pushes.
    pub async fn expect_close(&mut self) -> Result<(Option<u16>, String), Error> {
        let waited = self.patience;
        let deadline = Instant::now() + waited;
        loop {
            match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(Error::TimedOut { what: "the close".to_owned(), waited }),
                Ok(Err(Error::Closed { code, reason })) => return Ok((code, reason)),
                Ok(Err(Error::Broken(_))) => return Ok((None, String::new())),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(command)) => self.keep(command)?,
            }
        }
    }
}

// Frames as they are.
impl Peer {
    /// Sends `command` exactly as it is.
    pub async fn send(&mut self, command: &GenericCommand) -> Result<(), Error> {
        self.send_message(self.encode(command)).await
    }

    /// Sends a WebSocket message of any content: for tests of what is no command.
    pub async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        let waited = self.patience;
        match timeout(waited, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(Error::TimedOut { what: "room to send".to_owned(), waited }),
        }
    }

    /// Sends `command` with the next serial and does not wait for the answer; gives the serial.
    pub fn post(&mut self, mut command: GenericCommand) -> impl Future<Output = Result<i32, Error>> + Send {
        // Encoded before the first await: commands are large and would swell every future.
        self.serial += 1;
        command.i = Some(self.serial);
        let message = self.encode(&command);
        drop(command);
        async move {
            self.send_message(message).await?;
            Ok(self.serial)
        }
    }

    /// The next command from the socket, however long it takes; kept pushes are not looked at.
    /// Loses nothing when it is dropped before it is done. WebSocket pings are answered on the way.
    pub async fn receive(&mut self) -> Result<GenericCommand, Error> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return decode(bytes),
                Some(Ok(Message::Text(text))) => {
                    let bytes = STANDARD
                        .decode(text.as_str())
                        .map_err(|_| Error::Unreadable("text that is not base64".to_owned()))?;
                    return decode(bytes.into());
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((None, String::new()), |frame| {
                        (Some(u16::from(frame.code)), frame.reason.as_str().to_owned())
                    });
                    self.ended = Some((code, reason));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(self.broken(error)),
                None => return Err(self.closed()),
            }
        }
    }

    /// The next command: the oldest kept push, else the next from the socket.
    pub async fn next(&mut self) -> Result<GenericCommand, Error> {
        if let Some(push) = self.pushes.pop_front() {
            return Ok(push);
        }
        let waited = self.patience;
        match timeout(waited, self.receive()).await {
            Ok(received) => received,
            Err(_) => Err(Error::TimedOut { what: "a command".to_owned(), waited }),
        }
    }

    /// The first command that `wanted` accepts, kept or yet to come; others stay kept, in order.
    /// `what` names it in the error.
    pub async fn expect(
        &mut self,
        what: &str,
        wanted: impl FnMut(&GenericCommand) -> bool,
    ) -> Result<GenericCommand, Error> {
        self.expect_within(self.patience, what, wanted).await
    }

    /// [`Peer::expect`] with a wait of its own.
    pub async fn expect_within(
        &mut self,
        waited: Duration,
        what: &str,
        mut wanted: impl FnMut(&GenericCommand) -> bool,
    ) -> Result<GenericCommand, Error> {
        if let Some(at) = self.pushes.iter().position(&mut wanted) {
            let found = self.pushes.remove(at);
            return Ok(found.expect("the position was found in this queue"));
        }
        let deadline = Instant::now() + waited;
        loop {
            match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(Error::TimedOut { what: what.to_owned(), waited }),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(command)) if wanted(&command) => return Ok(command),
                Ok(Ok(command)) => self.keep(command)?,
            }
        }
    }

    /// The first push of this kind; `op` is `None` for commands that have none.
    pub async fn expect_push(
        &mut self,
        cmd: CommandType,
        op: Option<OpType>,
    ) -> Result<GenericCommand, Error> {
        let what = name(cmd, op);
        self.expect(&what, |command| is(command, cmd, op) && command.i.is_none()).await
    }

    /// Everything kept so far, oldest first.
    pub fn take_pushes(&mut self) -> Vec<GenericCommand> {
        self.pushes.drain(..).collect()
    }

    /// Sends `command` with the next serial; gives the answer, an error too.
    pub fn ask(
        &mut self,
        command: GenericCommand,
    ) -> Pin<Box<dyn Future<Output = Result<GenericCommand, Error>> + Send + '_>> {
        let what = format!("the answer to {}", name_of(&command));
        self.serial += 1;
        let serial = self.serial;
        let message = self.encode(&GenericCommand { i: Some(serial), ..command });
        Box::pin(async move {
            self.send_message(message).await?;
            self.expect(&what, |answer| answer.i == Some(serial)).await
        })
    }

    /// [`Peer::ask`], with a refusal as an error.
    pub fn call(
        &mut self,
        command: GenericCommand,
    ) -> impl Future<Output = Result<GenericCommand, Error>> + Send {
        let what = name_of(&command);
        let asked = self.ask(command);
        async move {
            let answer = asked.await?;
            match refusal(&answer) {
                None => Ok(answer),
                Some(refusal) => Err(Error::Refused { what, refusal: Box::new(refusal) }),
            }
        }
    }

    /// Waits until the server has answered an `echo`: all it wrote to this socket before is kept
    /// now. The way to say "and nothing else came" without waiting for time to pass.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.call(command(CommandType::Echo, None)).await.map(drop)
    }

    fn encode(&self, command: &GenericCommand) -> Message {
        let bytes = command.encode_to_vec();
        if self.base64 { Message::text(STANDARD.encode(bytes)) } else { Message::binary(bytes) }
    }

    fn keep(&mut self, command: GenericCommand) -> Result<(), Error> {
        if self.pushes.len() == PUSHES_MAX {
            return Err(Error::TooManyPushes);
        }
        self.pushes.push_back(command);
        Ok(())
    }

    fn closed(&self) -> Error {
        let (code, reason) = self.ended.clone().unwrap_or_default();
        Error::Closed { code, reason }
    }

    fn broken(&self, error: SocketError) -> Error {
        match error {
            SocketError::ConnectionClosed | SocketError::AlreadyClosed => self.closed(),
            other if self.ended.is_some() => {
                // After a close frame, what else happens to the connection is of no interest.
                tracing::debug!(error = %other, "after the close");
                self.closed()
            }
            other => Error::Broken(Box::new(other)),
        }
    }
}

// Sessions.
impl Peer {
    /// `session/open`. An empty `client` lets the server choose an id.
    pub async fn open(&mut self, app_id: &str, client: &str, how: Open) -> Result<Opened, Error> {
        let (t, n, s) = match how.signature {
            Some((t, n, s)) => (Some(t), Some(n), Some(s)),
            None => (None, None, None),
        };
        let answer = self
            .call(GenericCommand {
                app_id: Some(app_id.to_owned()),
                peer_id: (!client.is_empty()).then(|| client.to_owned()),
                session_message: Some(SessionCommand {
                    t,
                    n,
                    s,
                    ua: Some(concat!("posthouse/", env!("CARGO_PKG_VERSION")).to_owned()),
                    r: Some(how.reopen),
                    tag: how.tag,
                    device_id: how.device_id,
                    st: how.token,
                    last_unread_notif_time: how.last_unread_notif_time,
                    last_patch_time: how.last_patch_time,
                    config_bitmap: how.config_bitmap,
                    ..SessionCommand::default()
                }),
                ..command(CommandType::Session, Some(OpType::Open))
            })
            .await?;
        let missing = |field| Error::Incomplete { what: "session/opened".to_owned(), field };
        let session = answer.session_message.ok_or_else(|| missing("sessionMessage"))?;
        Ok(Opened {
            client: answer.peer_id.ok_or_else(|| missing("peerId"))?,
            token: session.st,
            token_ttl_s: session.st_ttl,
            server_time: answer.server_ts.ok_or_else(|| missing("serverTs"))?,
        })
    }

    /// `session/close`.
    pub async fn close(&mut self, who: &str) -> Result<(), Error> {
        let close = GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..spoken(who, CommandType::Session, Some(OpType::Close))
        };
        self.call(close).await.map(drop)
    }

    /// `session/close`, without waiting for the answer.
    pub async fn post_close(&mut self, who: &str) -> Result<(), Error> {
        let close = GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..spoken(who, CommandType::Session, Some(OpType::Close))
        };
        self.post(close).await.map(drop)
    }

    /// `session/refresh`: a new token and its life in seconds.
    pub async fn refresh(&mut self, who: &str, token: &str) -> Result<(String, i32), Error> {
        let answer = self
            .call(GenericCommand {
                session_message: Some(SessionCommand {
                    st: Some(token.to_owned()),
                    ..SessionCommand::default()
                }),
                ..spoken(who, CommandType::Session, Some(OpType::Refresh))
            })
            .await?;
        let missing = |field| Error::Incomplete { what: "session/refreshed".to_owned(), field };
        let session = answer.session_message.ok_or_else(|| missing("sessionMessage"))?;
        Ok((session.st.ok_or_else(|| missing("st"))?, session.st_ttl.ok_or_else(|| missing("stTtl"))?))
    }

    /// `session/query`: which of `clients` are online.
    pub async fn online(&mut self, who: &str, clients: &[&str]) -> Result<Vec<String>, Error> {
        let answer = self
            .call(GenericCommand {
                session_message: Some(SessionCommand {
                    session_peer_ids: owned(clients),
                    ..SessionCommand::default()
                }),
                ..spoken(who, CommandType::Session, Some(OpType::Query))
            })
            .await?;
        Ok(answer.session_message.unwrap_or_default().online_session_peer_ids)
    }
}

// Conversations.
impl Peer {
    /// `conv/start` of a temporary conversation; `ttl_s` `None` leaves the life to the server.
    pub async fn create_temporary(
        &mut self,
        who: &str,
        members: &[&str],
        ttl_s: Option<i32>,
    ) -> Result<Started, Error> {
        let conv = ConvCommand {
            m: with_self(who, members),
            unique: Some(true),
            temp_conv: Some(true),
            temp_conv_ttl: ttl_s,
            attr: json("{}"),
            ..ConvCommand::default()
        };
        self.start(who, conv).await
    }

    /// `conv/start` of an ordinary conversation. `attributes` is a JSON object, as the JavaScript
    /// SDK sends it: `name` and the author's own keys side by side.
    pub async fn create_conversation(
        &mut self,
        who: &str,
        members: &[&str],
        unique: bool,
        attributes: &str,
    ) -> Result<Started, Error> {
        let conv = ConvCommand {
            m: with_self(who, members),
            unique: Some(unique),
            attr: json(attributes),
            ..ConvCommand::default()
        };
        self.start(who, conv).await
    }

    /// `conv/start` of a chat room.
    pub async fn create_room(&mut self, who: &str, attributes: &str) -> Result<Started, Error> {
        let conv = ConvCommand {
            m: owned(&[who]),
            transient: Some(true),
            unique: Some(false),
            attr: json(attributes),
            ..ConvCommand::default()
        };
        self.start(who, conv).await
    }

    /// `conv/start` with any fields.
    pub async fn start(&mut self, who: &str, conv: ConvCommand) -> Result<Started, Error> {
        let conv = self.conv(who, OpType::Start, conv).await?;
        let missing = |field| Error::Incomplete { what: "conv/started".to_owned(), field };
        Ok(Started {
            cid: conv.cid.ok_or_else(|| missing("cid"))?,
            created_at: conv.cdate.ok_or_else(|| missing("cdate"))?,
            existing: conv.existing.unwrap_or_default(),
            unique_id: conv.unique_id,
            ttl_s: conv.temp_conv_ttl,
        })
    }

    /// Any `conv` command; gives the answer's content.
    pub async fn conv(&mut self, who: &str, op: OpType, conv: ConvCommand) -> Result<ConvCommand, Error> {
        let command = GenericCommand { conv_message: Some(conv), ..spoken(who, CommandType::Conv, Some(op)) };
        let what = name_of(&command);
        let answer = self.call(command).await?;
        answer.conv_message.ok_or(Error::Incomplete { what, field: "convMessage" })
    }

    /// `conv/add`; joining is adding oneself.
    pub async fn add(&mut self, who: &str, cid: &str, members: &[&str]) -> Result<ConvCommand, Error> {
        self.conv(who, OpType::Add, ConvCommand { m: owned(members), ..of(cid) }).await
    }

    /// `conv/remove`; leaving is removing oneself.
    pub async fn remove(&mut self, who: &str, cid: &str, members: &[&str]) -> Result<ConvCommand, Error> {
        self.conv(who, OpType::Remove, ConvCommand { m: owned(members), ..of(cid) }).await
    }

    /// `conv/update`; `changes` is a JSON object of values and operations.
    pub async fn update(&mut self, who: &str, cid: &str, changes: &str) -> Result<ConvCommand, Error> {
        self.conv(who, OpType::Update, ConvCommand { attr: json(changes), ..of(cid) }).await
    }

    /// `conv/mute` or `conv/unmute`.
    pub async fn mute(&mut self, who: &str, cid: &str, muted: bool) -> Result<ConvCommand, Error> {
        self.conv(who, if muted { OpType::Mute } else { OpType::Unmute }, of(cid)).await
    }

    /// `conv/count`.
    pub async fn count(&mut self, who: &str, cid: &str) -> Result<i32, Error> {
        let answer = self.conv(who, OpType::Count, of(cid)).await?;
        answer.count.ok_or_else(|| Error::Incomplete { what: "conv/result".to_owned(), field: "count" })
    }

    /// `conv/max_read`; with `all`, a tuple for each other member.
    pub async fn max_read(&mut self, who: &str, cid: &str, all: bool) -> Result<ConvCommand, Error> {
        let conv = ConvCommand { query_all_members: all.then_some(true), ..of(cid) };
        self.conv(who, OpType::MaxRead, conv).await
    }

    /// `conv/query` with any fields: the rows.
    pub async fn query(&mut self, who: &str, conv: ConvCommand) -> Result<Vec<Value>, Error> {
        let answer = self.conv(who, OpType::Query, conv).await?;
        let results = answer
            .results
            .and_then(|results| results.data)
            .ok_or_else(|| Error::Incomplete { what: "conv/results".to_owned(), field: "results.data" })?;
        serde_json::from_str(&results)
            .map_err(|_| Error::Unreadable(format!("conv/results with `{results}`")))
    }

    /// `conv/query` by a `where` object (JSON), everything else absent.
    pub async fn query_where(&mut self, who: &str, condition: &str) -> Result<Vec<Value>, Error> {
        self.query(who, ConvCommand { r#where: json(condition), ..ConvCommand::default() }).await
    }

    /// The row of one conversation as SDKs ask for it, temporary or not; `None` if it is not found.
    pub async fn conversation(&mut self, who: &str, cid: &str) -> Result<Option<Value>, Error> {
        let conv = if cid.starts_with("_tmp:") {
            ConvCommand { temp_conv_ids: owned(&[cid]), ..ConvCommand::default() }
        } else {
            let condition = serde_json::json!({ "objectId": cid }).to_string();
            ConvCommand { r#where: json(&condition), flag: Some(0), ..ConvCommand::default() }
        };
        Ok(self.query(who, conv).await?.into_iter().next())
    }

    /// `conv/status` with `statusSub`: hear when members come and go. The answer tells who is here.
    pub async fn watch_presence(
        &mut self,
        who: &str,
        cid: &str,
        watch: bool,
    ) -> Result<GenericCommand, Error> {
        self.call(GenericCommand {
            conv_message: Some(ConvCommand { status_sub: Some(watch), ..of(cid) }),
            ..spoken(who, CommandType::Conv, Some(OpType::Status))
        })
        .await
    }
}

// Messages.
impl Peer {
    /// Sends `text` as an SDK's text message (`_lctype` -1).
    pub async fn send_text(
        &mut self,
        who: &str,
        cid: &str,
        text: &str,
        how: Outgoing,
    ) -> Result<Sent, Error> {
        self.send_content(who, cid, &text_content(text), how).await
    }

    /// Sends `content` as it is: any text, JSON or not.
    pub async fn send_content(
        &mut self,
        who: &str,
        cid: &str,
        content: &str,
        how: Outgoing,
    ) -> Result<Sent, Error> {
        let direct =
            DirectCommand { msg: Some(Bytes::copy_from_slice(content.as_bytes())), ..direct(cid, &how) };
        self.send_direct(who, direct, how.priority).await
    }

    /// Sends bytes.
    pub async fn send_binary(
        &mut self,
        who: &str,
        cid: &str,
        content: &[u8],
        how: Outgoing,
    ) -> Result<Sent, Error> {
        let direct = DirectCommand { binary_msg: Some(Bytes::copy_from_slice(content)), ..direct(cid, &how) };
        self.send_direct(who, direct, how.priority).await
    }

    /// `direct` with any fields.
    pub async fn send_direct(
        &mut self,
        who: &str,
        direct: DirectCommand,
        priority: Option<i32>,
    ) -> Result<Sent, Error> {
        let answer = self
            .call(GenericCommand {
                priority,
                direct_message: Some(direct),
                ..spoken(who, CommandType::Direct, None)
            })
            .await?;
        let missing = |field| Error::Incomplete { what: "ack".to_owned(), field };
        let ack = answer.ack_message.ok_or_else(|| missing("ackMessage"))?;
        Ok(Sent { id: ack.uid.ok_or_else(|| missing("uid"))?, at: ack.t.ok_or_else(|| missing("t"))? })
    }

    /// The next message pushed in `cid`.
    pub async fn expect_message(&mut self, cid: &str) -> Result<DirectCommand, Error> {
        let push = self
            .expect("a message", |push| {
                push.direct_message.as_ref().is_some_and(|direct| direct.cid.as_deref() == Some(cid))
            })
            .await?;
        push.direct_message
            .ok_or_else(|| Error::Incomplete { what: "direct".to_owned(), field: "directMessage" })
    }

    /// Says that the messages from `from` to `to` (Unix ms, both included) have arrived, as the
    /// JavaScript SDK does; nothing is answered.
    pub async fn ack(&mut self, who: &str, cid: &str, from: i64, to: i64) -> Result<(), Error> {
        self.send(&ack_range(who, cid, from, to)).await
    }

    /// Says that one message has arrived, as all other SDKs do; nothing is answered.
    pub async fn ack_message(&mut self, who: &str, cid: &str, id: &str) -> Result<(), Error> {
        self.send(&GenericCommand {
            ack_message: Some(AckCommand {
                cid: Some(cid.to_owned()),
                mid: Some(id.to_owned()),
                ..AckCommand::default()
            }),
            ..spoken(who, CommandType::Ack, None)
        })
        .await
    }

    /// Says that everything up to the message `id` of `at` (Unix ms) has been read; not answered.
    pub async fn read(&mut self, who: &str, cid: &str, id: &str, at: i64) -> Result<(), Error> {
        self.send(&GenericCommand {
            read_message: Some(ReadCommand {
                convs: vec![ReadTuple {
                    cid: Some(cid.to_owned()),
                    timestamp: Some(at),
                    mid: Some(id.to_owned()),
                }],
                ..ReadCommand::default()
            }),
            ..spoken(who, CommandType::Read, None)
        })
        .await
    }

    /// `logs`: a page of history by any parameters, oldest first.
    pub async fn logs(&mut self, who: &str, query: LogsCommand) -> Result<Vec<LogItem>, Error> {
        let answer = self
            .call(GenericCommand { logs_message: Some(query), ..spoken(who, CommandType::Logs, None) })
            .await?;
        let logs = answer
            .logs_message
            .ok_or_else(|| Error::Incomplete { what: "logs".to_owned(), field: "logsMessage" })?;
        Ok(logs.logs)
    }

    /// The newest `limit` messages, oldest first.
    pub async fn history(&mut self, who: &str, cid: &str, limit: i32) -> Result<Vec<LogItem>, Error> {
        let query = LogsCommand { cid: Some(cid.to_owned()), l: Some(limit), ..LogsCommand::default() };
        self.logs(who, query).await
    }

    /// `patch/modify` of a message of one's own to the text message `text`; the time of the edit.
    pub async fn modify(&mut self, who: &str, cid: &str, sent: &Sent, text: &str) -> Result<i64, Error> {
        let item =
            PatchItem { recall: Some(false), data: Some(text_content(text).into()), ..patch_of(cid, sent) };
        self.patch(who, item).await
    }

    /// `patch/modify` that recalls a message of one's own; the time of the recall.
    pub async fn recall(&mut self, who: &str, cid: &str, sent: &Sent) -> Result<i64, Error> {
        self.patch(who, PatchItem { recall: Some(true), ..patch_of(cid, sent) }).await
    }

    /// `patch/modify` with any fields; the time of the patch.
    pub async fn patch(&mut self, who: &str, item: PatchItem) -> Result<i64, Error> {
        let answer = self
            .call(GenericCommand {
                patch_message: Some(PatchCommand { patches: vec![item], ..PatchCommand::default() }),
                ..spoken(who, CommandType::Patch, Some(OpType::Modify))
            })
            .await?;
        answer
            .patch_message
            .and_then(|patch| patch.last_patch_time)
            .ok_or_else(|| Error::Incomplete { what: "patch/modified".to_owned(), field: "lastPatchTime" })
    }
}

/// An empty command.
#[must_use]
pub fn command(cmd: CommandType, op: Option<OpType>) -> GenericCommand {
    GenericCommand { cmd: Some(cmd.into()), op: op.map(Into::into), ..GenericCommand::default() }
}

/// An empty command in the name of `who`.
#[must_use]
pub fn spoken(who: &str, cmd: CommandType, op: Option<OpType>) -> GenericCommand {
    GenericCommand { peer_id: Some(who.to_owned()), ..command(cmd, op) }
}

/// The `ack` of the JavaScript SDK: a range of times, both ends included.
#[must_use]
pub fn ack_range(who: &str, cid: &str, from: i64, to: i64) -> GenericCommand {
    GenericCommand {
        ack_message: Some(AckCommand {
            cid: Some(cid.to_owned()),
            fromts: Some(from),
            tots: Some(to),
            ..AckCommand::default()
        }),
        ..spoken(who, CommandType::Ack, None)
    }
}

/// Whether `command` is of this kind; `op` is `None` for commands that have none.
#[must_use]
pub fn is(command: &GenericCommand, cmd: CommandType, op: Option<OpType>) -> bool {
    command.cmd == Some(cmd.into()) && command.op == op.map(Into::into)
}

/// What the server refused with this answer; `None` for a success.
#[must_use]
pub fn refusal(answer: &GenericCommand) -> Option<Refusal> {
    if let Some(error) = &answer.error_message {
        return Some(Refusal::from(error));
    }
    if let Some(AckCommand { code: Some(code), reason, app_code, app_msg, .. }) = &answer.ack_message {
        return Some(Refusal {
            code: *code,
            reason: reason.clone().unwrap_or_default(),
            detail: None,
            app_code: *app_code,
            app_msg: app_msg.clone(),
        });
    }
    if let Some(SessionCommand { code: Some(code), reason, detail, .. }) = &answer.session_message {
        return Some(Refusal {
            code: *code,
            reason: reason.clone().unwrap_or_default(),
            detail: detail.clone(),
            ..Refusal::default()
        });
    }
    None
}

/// The content of an SDK's text message.
#[must_use]
pub fn text_content(text: &str) -> String {
    serde_json::json!({ "_lctype": -1, "_lctext": text }).to_string()
}

/// The text in the content of an SDK's text message; `None` for everything else.
#[must_use]
pub fn text_of(content: &[u8]) -> Option<String> {
    let content: Value = serde_json::from_slice(content).ok()?;
    Some(content.get("_lctext")?.as_str()?.to_owned())
}

/// The socket's address, as the router at `server` (`http://host:port`) tells it for this app. An
/// address of a socket is its own answer.
pub async fn route(server: &str, app_id: &str) -> Result<String, Error> {
    if server.starts_with("ws://") || server.starts_with("wss://") {
        return Ok(server.to_owned());
    }
    let path = format!("/v1/route?appId={}&secure=false", escape(app_id));
    let (status, body) = http_get(server, &path, &[]).await?;
    let answer: Option<Value> = serde_json::from_slice(&body).ok();
    match answer.as_ref().and_then(|answer| answer.get("server")?.as_str()) {
        Some(url) if status == 200 => Ok(url.to_owned()),
        _ => Err(Error::Http {
            url: format!("{}{path}", server.trim_end_matches('/')),
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        }),
    }
}

async fn connected(url: &str) -> Result<TcpStream, Error> {
    let address = Address::parse(url)?;
    if address.tls {
        return Err(Error::NeedsTls(url.to_owned()));
    }
    address.connect().await
}

/// A WebSocket over a connection.
async fn shaken(
    stream: impl Wire + 'static,
    url: &str,
    subprotocol: &str,
) -> Result<WebSocketStream<Box<dyn Wire>>, Error> {
    let handshake = |source| Error::Handshake { url: url.to_owned(), source: Box::new(source) };
    let mut request = url.into_client_request().map_err(handshake)?;
    if !subprotocol.is_empty() {
        let value = HeaderValue::from_str(subprotocol)
            .map_err(|_| Error::BadUrl(format!("subprotocol {subprotocol}")))?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX));
    let stream: Box<dyn Wire> = Box::new(stream);
    let shaken = timeout(PATIENCE, client_async_with_config(request, stream, Some(config)));
    let (socket, _) = shaken
        .await
        .map_err(|_| Error::TimedOut { what: format!("the handshake of {url}"), waited: PATIENCE })?
        .map_err(handshake)?;
    Ok(socket)
}

/// Ends a WebSocket politely.
async fn close(socket: &mut WebSocketStream<Box<dyn Wire>>, patience: Duration) -> Result<(), Error> {
    match timeout(patience, socket.close(None)).await {
        Ok(Ok(()) | Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed)) => Ok(()),
        Ok(Err(error)) => Err(Error::Broken(Box::new(error))),
        Err(_) => Err(Error::TimedOut { what: "closing".to_owned(), waited: patience }),
    }
}

/// A plain HTTP `GET`; status and body.
pub async fn http_get(server: &str, path: &str, headers: &[(&str, &str)]) -> Result<(u16, Vec<u8>), Error> {
    http(server, "GET", path, headers, None).await
}

/// A plain HTTP request; status and body. Knows as much of HTTP as our own server speaks: an answer
/// with a length, or one that ends with the connection.
pub async fn http(
    server: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<(u16, Vec<u8>), Error> {
    let address = Address::parse(server)?;
    if address.tls {
        return Err(Error::NeedsTls(server.to_owned()));
    }
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", address.authority);
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body.unwrap_or_default());

    let exchange = async {
        let mut stream = address.connect().await?;
        let unreachable = |source| Error::Unreachable { address: address.authority.clone(), source };
        stream.write_all(&request).await.map_err(unreachable)?;
        let mut answer = Vec::new();
        stream.take(HTTP_ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(unreachable)?;
        Ok::<_, Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange)
        .await
        .map_err(|_| Error::TimedOut { what: format!("{server}{path}"), waited: PATIENCE })??;
    split_answer(&answer).ok_or_else(|| Error::Http {
        url: format!("{server}{path}"),
        status: 0,
        body: "no HTTP answer that we understand".to_owned(),
    })
}

fn split_answer(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let end = answer.windows(BLANK_LINE.len()).position(|window| window == BLANK_LINE)?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let body = &answer[end + BLANK_LINE.len()..];
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if field("transfer-encoding").is_some() {
        return None;
    }
    match field("content-length") {
        Some(length) => {
            let length: usize = length.parse().ok()?;
            Some((status, body.get(..length)?.to_vec()))
        }
        None => Some((status, body.to_vec())),
    }
}

/// Percent-encoding of a query value.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

struct Address {
    authority: String,
    tls: bool,
}

impl Address {
    fn parse(url: &str) -> Result<Self, Error> {
        let bad = || Error::BadUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().ok_or_else(bad)?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { authority: format!("{host}:{port}"), tls })
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let unreachable = |source| Error::Unreachable { address: self.authority.clone(), source };
        let stream = timeout(PATIENCE, TcpStream::connect(&self.authority))
            .await
            .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
            .map_err(unreachable)?;
        // Small frames would wait for the answer to the frame before.
        stream.set_nodelay(true).map_err(unreachable)?;
        Ok(stream)
    }
}

fn decode(bytes: Bytes) -> Result<GenericCommand, Error> {
    GenericCommand::decode(bytes).map_err(|error| Error::Unreadable(error.to_string()))
}

fn direct(cid: &str, how: &Outgoing) -> DirectCommand {
    DirectCommand {
        cid: Some(cid.to_owned()),
        r: how.receipt.then_some(true),
        transient: how.transient.then_some(true),
        will: how.will.then_some(true),
        dt: how.token.clone(),
        mention_pids: how.mentions.clone(),
        mention_all: Some(how.mention_all),
        push_data: how.push.clone(),
        ..DirectCommand::default()
    }
}

fn patch_of(cid: &str, sent: &Sent) -> PatchItem {
    PatchItem {
        cid: Some(cid.to_owned()),
        mid: Some(sent.id.clone()),
        timestamp: Some(sent.at),
        ..PatchItem::default()
    }
}

fn of(cid: &str) -> ConvCommand {
    ConvCommand { cid: Some(cid.to_owned()), ..ConvCommand::default() }
}

fn json(text: &str) -> Option<JsonObjectMessage> {
    Some(JsonObjectMessage { data: Some(text.to_owned()) })
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// The members as the JavaScript SDK sends them: with the creator, each once, sorted.
fn with_self(who: &str, members: &[&str]) -> Vec<String> {
    let mut all = owned(members);
    all.push(who.to_owned());
    all.sort();
    all.dedup();
    all
}

fn name_of(command: &GenericCommand) -> String {
    let op = command.op.and_then(|op| OpType::try_from(op).ok());
    match command.cmd.and_then(|cmd| CommandType::try_from(cmd).ok()) {
        Some(cmd) => name(cmd, op),
        None => "an unknown command".to_owned(),
    }
}

fn name(cmd: CommandType, op: Option<OpType>) -> String {
    match op {
        Some(op) => format!("{}/{}", cmd.as_str_name(), op.as_str_name()),
        None => cmd.as_str_name().to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::accept_async;

    use super::*;

    const MEMORY: usize = 1 << 16;

    /// A peer and the server's side of its socket.
    async fn pair() -> (Peer, WebSocketStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(MEMORY);
        let (peer, server) = tokio::join!(Peer::over(near, "ws://test/", ""), accept_async(far));
        (peer.unwrap(), server.unwrap())
    }

    async fn say(server: &mut WebSocketStream<DuplexStream>, command: &GenericCommand) {
        server.send(Message::binary(command.encode_to_vec())).await.unwrap();
    }

    fn push(cid: &str) -> GenericCommand {
        GenericCommand {
            direct_message: Some(DirectCommand { cid: Some(cid.to_owned()), ..DirectCommand::default() }),
            ..command(CommandType::Direct, None)
        }
    }

    #[tokio::test]
    async fn an_answer_finds_its_call_and_pushes_stay_in_order() {
        let (mut peer, mut server) = pair().await;
        for cid in ["a", "b"] {
            say(&mut server, &push(cid)).await;
        }
        say(&mut server, &GenericCommand { i: Some(1), ..command(CommandType::Echo, None) }).await;
        peer.settle().await.unwrap();
        // Asking for the second first leaves the first where it is.
        assert_eq!(peer.expect_message("b").await.unwrap().cid.unwrap(), "b");
        assert_eq!(peer.take_pushes(), [push("a")]);
    }

    #[tokio::test]
    async fn a_refusal_says_code_name_and_words() {
        let (mut peer, mut server) = pair().await;
        let error = GenericCommand {
            i: Some(1),
            error_message: Some(ErrorCommand {
                code: Some(4312),
                reason: Some("CONVERSATION_LOG_REJECTED".to_owned()),
                detail: Some("you are not a member".to_owned()),
                ..ErrorCommand::default()
            }),
            ..command(CommandType::Error, None)
        };
        say(&mut server, &error).await;
        let error = peer.history("tom", "c", 1).await.unwrap_err();
        assert_eq!(error.code(), Some(4312));
        assert_eq!(
            error.to_string(),
            "logs was refused: 4312 CONVERSATION_LOG_REJECTED (you are not a member)"
        );
    }

    #[tokio::test]
    async fn a_call_that_nobody_answers_gives_up() {
        let (mut peer, _server) = pair().await;
        peer.set_patience(Duration::ZERO);
        let error = peer.count("tom", "c").await.unwrap_err();
        assert_eq!(error.to_string(), "the answer to conv/count did not come within 0 ms");
    }

    #[tokio::test]
    async fn the_close_code_is_told() {
        let (mut peer, mut server) = pair().await;
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 4108.into(),
            reason: "LOGIN_TIMEOUT".into(),
        };
        let (closed, _) = tokio::join!(peer.expect_close(), async {
            server.close(Some(frame)).await.unwrap();
            // The close handshake is done when the other side's close has been read.
            while server.next().await.is_some() {}
            drop(server);
        });
        assert_eq!(closed.unwrap(), (Some(4108), "LOGIN_TIMEOUT".to_owned()));
    }

    #[test]
    fn http_answers_are_split() {
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(split_answer(answer), Some((404, b"{}".to_vec())));
        assert_eq!(split_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), None);
        assert_eq!(split_answer(b"SSH-2.0"), None);
    }

    #[test]
    fn addresses_have_a_scheme_and_a_port() {
        assert_eq!(Address::parse("http://127.0.0.1:7700").unwrap().authority, "127.0.0.1:7700");
        assert_eq!(Address::parse("ws://[::1]:1/x?y").unwrap().authority, "[::1]:1");
        assert_eq!(Address::parse("ws://im.example.com").unwrap().authority, "im.example.com:80");
        assert!(Address::parse("127.0.0.1:7700").is_err());
    }
}
