//! Our own Easemob client: one device on a real socket, and the REST calls beside it.
//!
//! Serves the same purposes as [`super::Peer`] and works like it: no task, answers go to the call that
//! asked, notices and pushes wait in bounded queues. It acknowledges what it pulls, as SDKs do, and
//! makes its frames from the wire's generated types alone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use posthouse_core::time::Clock as _;
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::message_body::content::Type as ContentType;
use posthouse_easemob::wire::proto::message_body::{Content, Type as BodyType};
use posthouse_easemob::wire::proto::meta::{NameSpace, RouteType};
use posthouse_easemob::wire::proto::{
    CommNotice, CommSyncDl, CommSyncUl, CommUnreadDl, Jid, Logout, MSync, MessageBody, Meta, Provision,
};
use prost::Message as _;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{Error, PATIENCE, PUSHES_MAX, Wire, close, connected, http, shaken};
use crate::adapter::SystemClock;

/// The domain of people's addresses.
pub const PEOPLE: &str = "easemob.com";
/// The domain of groups' addresses.
pub const GROUPS: &str = "conference.easemob.com";
/// The path of the socket.
pub const SOCKET_PATH: &str = "/websocket";

/// Who logs in, and where from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `org#app`.
    pub app_key: String,
    /// The user.
    pub name: String,
    /// The device, such as `webim_web_1`.
    pub resource: String,
    /// The user's token.
    pub token: String,
}

impl Identity {
    /// The login that the Web SDK sends.
    #[must_use]
    pub fn provision(&self) -> MSync {
        let Self { app_key, name, resource, token } = self;
        let provision = Provision {
            os_type: Some(16),
            version: Some("4.21.1".to_owned()),
            compress_type: vec![0],
            encrypt_type: vec![0],
            device_uuid: Some("web_1".to_owned()),
            device_name: Some("webim".to_owned()),
            resource: Some(resource.clone()),
            action_version: Some("v5.2".to_owned()),
            auth_token: Some(serde_json::json!({ "token": format!("$t${token}") }).to_string()),
            session_id: Some("1:".to_owned()),
            ..Provision::default()
        };
        MSync {
            guid: Some(Jid {
                app_key: Some(app_key.clone()),
                name: Some(name.clone()),
                domain: Some(PEOPLE.to_owned()),
                client_resource: Some(resource.clone()),
            }),
            auth: Some(format!("$t${token}")),
            ..frame(Command::Provision, Some(provision.encode_to_vec()))
        }
    }
}

/// A sent message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The server's id.
    pub id: u64,
    /// The server's time, in Unix milliseconds.
    pub at: u64,
}

/// A device of a user.
pub struct Device {
    socket: WebSocketStream<Box<dyn Wire>>,
    identity: Identity,
    patience: Duration,
    notices: VecDeque<Jid>,
    pushes: VecDeque<CommSyncDl>,
    ended: Option<(Option<u16>, String)>,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("identity", &self.identity)
            .field("notices", &self.notices.len())
            .field("pushes", &self.pushes.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

// Connecting and leaving.
impl Device {
    /// Opens a WebSocket at `server` (`ws://host:port`) and says nothing yet.
    pub async fn connect(server: &str, identity: Identity) -> Result<Self, Error> {
        let url = format!("{}{SOCKET_PATH}", server.trim_end_matches('/').replacen("http", "ws", 1));
        let stream = connected(&url).await?;
        Self::over(stream, &url, identity).await
    }

    /// The same over a connection made by the caller; `url` is the socket's own.
    pub async fn over(stream: impl Wire + 'static, url: &str, identity: Identity) -> Result<Self, Error> {
        Ok(Self {
            socket: shaken(stream, url, "").await?,
            identity,
            patience: PATIENCE,
            notices: VecDeque::new(),
            pushes: VecDeque::new(),
            ended: None,
        })
    }

    /// Opens a WebSocket and logs in.
    pub async fn login(server: &str, identity: Identity) -> Result<Self, Error> {
        let mut device = Self::connect(server, identity).await?;
        device.enter().await?;
        Ok(device)
    }

    /// Logs in.
    pub async fn enter(&mut self) -> Result<(), Error> {
        let reply = self.provision().await?;
        let status = reply.status.unwrap_or_default();
        match status.error_code {
            Some(0) => Ok(()),
            code => Err(Error::Unreadable(format!(
                "the login was refused: {code:?} {}",
                status.reason.unwrap_or_default()
            ))),
        }
    }

    /// Sends the login that the Web SDK sends, and gives the answer.
    pub async fn provision(&mut self) -> Result<Provision, Error> {
        let request = self.provision_request();
        self.send(&request).await?;
        let reply = self.answer(Command::Provision, "the answer to the login").await?;
        Provision::decode(reply).map_err(unreadable)
    }

    /// The login that the Web SDK sends.
    #[must_use]
    pub fn provision_request(&self) -> MSync {
        self.identity.provision()
    }

    /// Logs out politely and waits for the end of the connection.
    pub async fn logout(mut self) -> Result<(), Error> {
        self.send_logout().await?;
        close(&mut self.socket, self.patience).await
    }

    /// Logs out and waits for nothing.
    pub async fn post_logout(mut self) -> Result<(), Error> {
        self.send_logout().await
    }

    async fn send_logout(&mut self) -> Result<(), Error> {
        let logout = Logout { reason: Some("inner:logout".to_owned()), ..Logout::default() };
        self.send(&frame(Command::Logout, Some(logout.encode_to_vec()))).await
    }

    /// Waits for the server to end the connection; gives its close code and reason.
    pub async fn expect_close(&mut self) -> Result<(Option<u16>, String), Error> {
        let waited = self.patience;
        let deadline = Instant::now() + waited;
        loop {
            match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(Error::TimedOut { what: "the close".to_owned(), waited }),
                Ok(Err(Error::Closed { code, reason })) => return Ok((code, reason)),
                Ok(Err(Error::Broken(_))) => return Ok((None, String::new())),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(frame)) => self.keep(frame)?,
            }
        }
    }

    /// Makes calls wait for `patience` instead of [`PATIENCE`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Who this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

// Frames as they are.
impl Device {
    /// Sends one frame exactly as it is.
    pub async fn send(&mut self, frame: &MSync) -> Result<(), Error> {
        self.send_message(Message::Binary(frame.encode_to_vec().into())).await
    }

    /// Sends a WebSocket message of any content: for tests of what is no frame.
    pub async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        let waited = self.patience;
        match timeout(waited, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(Error::TimedOut { what: "room to send".to_owned(), waited }),
        }
    }

    /// The next frame from the socket, whatever it is. Waits as long as it takes.
    pub async fn receive(&mut self) -> Result<MSync, Error> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return MSync::decode(bytes).map_err(unreadable),
                Some(Ok(Message::Text(_))) => {
                    return Err(Error::Unreadable("a text message".to_owned()));
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((None, String::new()), |frame| {
                        (Some(u16::from(frame.code)), frame.reason.as_str().to_owned())
                    });
                    self.ended = Some((code, reason));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(self.broken(error)),
                None => {
                    let (code, reason) = self.ended.clone().unwrap_or_default();
                    return Err(Error::Closed { code, reason });
                }
            }
        }
    }

    /// The payload of the next frame of `command`; notices and pushes before it are kept.
    pub async fn answer(&mut self, command: Command, what: &str) -> Result<Bytes, Error> {
        let waited = self.patience;
        let deadline = Instant::now() + waited;
        loop {
            let frame = match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(Error::TimedOut { what: what.to_owned(), waited }),
                Ok(frame) => frame?,
            };
            if frame.command == Some(command.into()) {
                return Ok(frame.payload.unwrap_or_default());
            }
            self.keep(frame)?;
        }
    }

    /// The next sync frame that `wanted` accepts; others are kept.
    async fn sync_answer(
        &mut self,
        what: &str,
        wanted: impl Fn(&CommSyncDl) -> bool,
    ) -> Result<CommSyncDl, Error> {
        let waited = self.patience;
        let deadline = Instant::now() + waited;
        loop {
            let frame = match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(Error::TimedOut { what: what.to_owned(), waited }),
                Ok(frame) => frame?,
            };
            if frame.command == Some(Command::Sync.into()) {
                let sync = CommSyncDl::decode(frame.payload.unwrap_or_default()).map_err(unreadable)?;
                if wanted(&sync) {
                    return Ok(sync);
                }
                self.keep_push(sync)?;
            } else {
                self.keep(frame)?;
            }
        }
    }

    fn keep(&mut self, frame: MSync) -> Result<(), Error> {
        let payload = frame.payload.unwrap_or_default();
        match frame.command.and_then(|number| Command::try_from(number).ok()) {
            Some(Command::Notice) => {
                if self.notices.len() >= PUSHES_MAX {
                    return Err(Error::TooManyPushes);
                }
                let queue = CommNotice::decode(payload).map_err(unreadable)?.queue.unwrap_or_default();
                self.notices.push_back(queue);
                Ok(())
            }
            Some(Command::Sync) => self.keep_push(CommSyncDl::decode(payload).map_err(unreadable)?),
            Some(Command::Unread | Command::Provision | Command::Logout) | None => {
                Err(Error::Unreadable(format!("an answer to nothing: command {:?}", frame.command)))
            }
        }
    }

    fn keep_push(&mut self, sync: CommSyncDl) -> Result<(), Error> {
        if self.pushes.len() >= PUSHES_MAX {
            return Err(Error::TooManyPushes);
        }
        self.pushes.push_back(sync);
        Ok(())
    }

    fn broken(&mut self, error: SocketError) -> Error {
        match (&self.ended, error) {
            (Some((code, reason)), _) => Error::Closed { code: *code, reason: reason.clone() },
            (None, SocketError::ConnectionClosed | SocketError::AlreadyClosed) => {
                Error::Closed { code: None, reason: String::new() }
            }
            (None, error) => Error::Broken(Box::new(error)),
        }
    }
}

// Queues.
impl Device {
    /// Asks which queues have something.
    pub async fn unread(&mut self) -> Result<CommUnreadDl, Error> {
        self.send(&frame(Command::Unread, None)).await?;
        let reply = self.answer(Command::Unread, "the list of queues").await?;
        CommUnreadDl::decode(reply).map_err(unreadable)
    }

    /// Pulls a queue once; `key` 0 is none.
    pub async fn pull(&mut self, queue: &Jid, key: u64) -> Result<CommSyncDl, Error> {
        let pull = CommSyncUl {
            queue: Some(queue.clone()),
            key: (key != 0).then_some(key),
            ..CommSyncUl::default()
        };
        self.send(&frame(Command::Sync, Some(pull.encode_to_vec()))).await?;
        // A push has metas and says that it is the last; an answer has either.
        let is_answer = |sync: &CommSyncDl| {
            let of_queue = sync.queue.as_ref().is_some_and(|of| of.name == queue.name);
            sync.meta_id.unwrap_or(0) == 0
                && of_queue
                && sync.metas.is_empty() == sync.is_last.unwrap_or(false)
        };
        self.sync_answer("the answer to a pull", is_answer).await
    }

    /// Pulls a queue until it is empty, acknowledging each batch; gives what was in it.
    pub async fn drain(&mut self, queue: &Jid) -> Result<Vec<Meta>, Error> {
        let mut metas = Vec::new();
        let mut key = 0;
        loop {
            let batch = self.pull(queue, key).await?;
            if batch.is_last.unwrap_or(false) {
                return Ok(metas);
            }
            metas.extend(metas_of(&batch)?);
            key = batch.next_key.unwrap_or(0);
        }
    }

    /// Everything that waits: asks for the queues and drains each.
    pub async fn sync(&mut self) -> Result<Vec<Meta>, Error> {
        let mut metas = Vec::new();
        let queues = self.unread().await?.unread;
        for queue in queues.into_iter().filter_map(|pending| pending.queue) {
            metas.extend(self.drain(&queue).await?);
        }
        Ok(metas)
    }

    /// The next notice, kept or yet to come.
    pub async fn notice(&mut self) -> Result<Jid, Error> {
        self.kept(|device| device.notices.pop_front(), "a notice").await
    }

    /// Waits until `take` finds something among what is kept.
    async fn kept<T>(&mut self, take: impl Fn(&mut Self) -> Option<T>, what: &str) -> Result<T, Error> {
        let waited = self.patience;
        let deadline = Instant::now() + waited;
        loop {
            if let Some(found) = take(self) {
                return Ok(found);
            }
            match timeout_at(deadline, self.receive()).await {
                Err(_) => return Err(Error::TimedOut { what: what.to_owned(), waited }),
                Ok(frame) => self.keep(frame?)?,
            }
        }
    }

    /// Waits for a notice and drains the queue it names.
    pub async fn next(&mut self) -> Result<Vec<Meta>, Error> {
        loop {
            let queue = self.notice().await?;
            let metas = self.drain(&queue).await?;
            if !metas.is_empty() {
                return Ok(metas);
            }
        }
    }

    /// The next direct push, kept or yet to come.
    pub async fn push(&mut self) -> Result<CommSyncDl, Error> {
        self.kept(|device| device.pushes.pop_front(), "a push").await
    }

    /// Notices that have come and were not looked at.
    #[must_use]
    pub fn kept_notices(&self) -> usize {
        self.notices.len()
    }

    /// Waits until everything that the server had for this device when this was called has come: one
    /// answer may overtake what waits in the connection's queue, the second one comes after it.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.unread().await?;
        self.unread().await?;
        Ok(())
    }

    /// The notices kept so far.
    pub fn take_notices(&mut self) -> Vec<Jid> {
        self.notices.drain(..).collect()
    }

    /// The direct pushes kept so far.
    pub fn take_pushes(&mut self) -> Vec<CommSyncDl> {
        self.pushes.drain(..).collect()
    }
}

// Saying something.
impl Device {
    /// Sends a meta as it is, but with a fresh client id unless it has one; gives the ack.
    pub async fn post(&mut self, mut meta: Meta) -> Result<CommSyncDl, Error> {
        let id = *meta.id.get_or_insert_with(fresh_id);
        let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
        self.send(&frame(Command::Sync, Some(sync.encode_to_vec()))).await?;
        self.sync_answer("the ack of a message", |sync| sync.meta_id == Some(id)).await
    }

    /// As [`Self::post`], for what must be accepted.
    pub async fn post_ok(&mut self, meta: Meta) -> Result<Sent, Error> {
        let ack = self.post(meta).await?;
        let status = ack.status.unwrap_or_default();
        match (status.error_code, ack.server_id) {
            (Some(0), Some(id)) => Ok(Sent { id, at: ack.timestamp.unwrap_or(0) }),
            (code, _) => Err(Error::Unreadable(format!(
                "a message was refused: {code:?} {}",
                status.reason.unwrap_or_default()
            ))),
        }
    }

    /// Says a text to a person or in a group.
    pub async fn say(&mut self, to: &Jid, text: &str) -> Result<Sent, Error> {
        let meta = self.text_meta(to, text);
        self.post_ok(meta).await
    }

    /// The meta of a text.
    #[must_use]
    pub fn text_meta(&self, to: &Jid, text: &str) -> Meta {
        let content = Content {
            r#type: Some(ContentType::Text.into()),
            text: Some(text.to_owned()),
            ..Content::default()
        };
        self.meta(to, MessageBody { contents: vec![content], ..self.body(to) })
    }

    /// A body addressed to `to`, without content.
    #[must_use]
    pub fn body(&self, to: &Jid) -> MessageBody {
        let in_group = to.domain.as_deref() == Some(GROUPS);
        let kind = if in_group { BodyType::Groupchat } else { BodyType::Chat };
        MessageBody {
            r#type: Some(kind.into()),
            from: Some(bare(&self.identity.name)),
            to: Some(bare(to.name())),
            ..MessageBody::default()
        }
    }

    /// A chat meta around a body.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "bodies are made for this call")]
    pub fn meta(&self, to: &Jid, body: MessageBody) -> Meta {
        Meta {
            to: Some(to.clone()),
            ns: Some(NameSpace::Chat.into()),
            payload: Some(body.encode_to_vec().into()),
            routetype: Some(RouteType::RouteAll.into()),
            ..Meta::default()
        }
    }

    /// The address of a person of the same app.
    #[must_use]
    pub fn person(&self, name: &str) -> Jid {
        self.jid(name, PEOPLE)
    }

    /// The address of a group of the same app.
    #[must_use]
    pub fn group(&self, id: &str) -> Jid {
        self.jid(id, GROUPS)
    }

    fn jid(&self, name: &str, domain: &str) -> Jid {
        Jid {
            app_key: Some(self.identity.app_key.clone()),
            name: Some(name.to_owned()),
            domain: Some(domain.to_owned()),
            client_resource: None,
        }
    }
}

/// A client's number for a message. As with SDKs it grows with the time, so that a device that comes
/// back, in this process or the next, does not repeat one: the server would take it for a retry.
fn fresh_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(SystemClock.now().0).unwrap_or(0) * 1_000;
    let next = |last: u64| now.max(last + 1);
    let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    next(before.unwrap_or_default())
}

/// The metas of a batch or a push.
pub fn metas_of(sync: &CommSyncDl) -> Result<Vec<Meta>, Error> {
    sync.metas.iter().map(|meta| Meta::decode(meta.clone()).map_err(unreadable)).collect()
}

/// The body of a chat meta.
pub fn body_of(meta: &Meta) -> Result<MessageBody, Error> {
    MessageBody::decode(meta.payload.clone().unwrap_or_default()).map_err(unreadable)
}

/// The text of a chat meta; empty for what is no text.
#[must_use]
pub fn text_of(meta: &Meta) -> String {
    let body = body_of(meta).unwrap_or_default();
    body.contents.first().and_then(|content| content.text.clone()).unwrap_or_default()
}

/// A frame of a command.
#[must_use]
pub fn frame(command: Command, payload: Option<Vec<u8>>) -> MSync {
    MSync {
        version: Some(0),
        command: Some(command.into()),
        payload: payload.map(Bytes::from),
        encrypt_type: vec![0],
        ..MSync::default()
    }
}

fn bare(name: &str) -> Jid {
    Jid { name: Some(name.to_owned()), ..Jid::default() }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn unreadable(error: prost::DecodeError) -> Error {
    Error::Unreadable(error.to_string())
}

/// REST calls of one app, with one token.
#[derive(Clone, Debug)]
pub struct Rest {
    server: String,
    app: String,
    token: Option<String>,
}

impl Rest {
    /// Calls to the app with `app_key` (`org#app`) at `server` (`http://host:port`), without a token.
    #[must_use]
    pub fn new(server: &str, app_key: &str) -> Self {
        let app = app_key.replacen('#', "/", 1);
        Self { server: server.trim_end_matches('/').to_owned(), app, token: None }
    }

    /// The same calls with a token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Fetches the app's own token.
    pub async fn app_token(&self, client_id: &str, client_secret: &str) -> Result<String, Error> {
        let grant = serde_json::json!({
            "grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret,
        });
        self.token_for(&grant).await
    }

    /// Fetches a user's token by password.
    pub async fn user_token(&self, name: &str, password: &str) -> Result<String, Error> {
        let grant = serde_json::json!({ "grant_type": "password", "username": name, "password": password });
        self.token_for(&grant).await
    }

    async fn token_for(&self, grant: &Value) -> Result<String, Error> {
        let answer = self.ok("POST", "/token", Some(grant)).await?;
        answer["access_token"].as_str().map(str::to_owned).ok_or_else(|| Error::Incomplete {
            what: "the answer to /token".to_owned(),
            field: "access_token",
        })
    }

    /// One call; status and JSON. `path` begins with a slash and is relative to the app.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let body = body.map(Value::to_string);
        let path = format!("/{}{path}", self.app);
        let (status, answer) =
            http(&self.server, method, &path, &headers, body.as_deref().map(str::as_bytes)).await?;
        let json = serde_json::from_slice(&answer).map_err(|_| Error::Http {
            url: format!("{}{path}", self.server),
            status,
            body: String::from_utf8_lossy(&answer).into_owned(),
        })?;
        Ok((status, json))
    }

    /// One call with a body of any kind; status and body as they come.
    pub async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<(u16, Vec<u8>), Error> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut all = headers.to_vec();
        all.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        http(&self.server, method, &format!("/{}{path}", self.app), &all, body).await
    }

    /// A call that must succeed; its JSON.
    pub async fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        match self.call(method, path, body).await? {
            (200, json) => Ok(json),
            (status, json) => Err(Error::Http {
                url: format!("{}/{}{path}", self.server, self.app),
                status,
                body: json.to_string(),
            }),
        }
    }
}
