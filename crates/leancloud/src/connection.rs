//! One LeanCloud socket as a state machine. It owns no socket: frames and pushes come in, frames go
//! out, and [`posthouse_transport`] does the rest.
//!
//! ```text
//!              session/open                     session/open (another client)
//!   Nobody ───────────────────► Clients(1..=64) ◄────────────────────────────┐
//!     ▲                              │  └─────────────────────────────────────┘
//!     └── the last session closes, or another device takes it ──┘
//! ```
//!
//! One socket carries several clients (SDKs share it within a process); a request names its client
//! by `peerId`, or means the first one. Every request with a serial is answered, exactly once, and
//! its answer precedes the pushes it causes, because the transport takes none meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, counter};
use posthouse_core::app::App;
use posthouse_core::conversation::Found;
use posthouse_core::event::{Bulletin, Event, Patch};
use posthouse_core::id::{ClientId, ConversationId, DeviceId, MessageId, SessionId, Tag};
use posthouse_core::message::{Body, Keep};
use posthouse_core::rate::Rate;
use posthouse_core::receipt::Unread;
use posthouse_core::session::{Caller, Ending, OpenSession, Sink};
use posthouse_core::time::Timestamp;
use posthouse_core::{Error, Posthouse};
use posthouse_transport::{Close, End, Flow, Frame, Outbox, Phase, Protocol, Pusher};
use serde_json::{Map, Value};

use crate::auth::{Claims, TokenFault};
use crate::error::{Code, Operation, Refusal};
use crate::wire::command::{Command, Envelope, SERVICE_IM, echo};
use crate::wire::framing::{self, Framing};
use crate::wire::proto::{
    AckCommand, CommandType, ConvCommand, DirectCommand, GenericCommand, LogsCommand, MaxReadTuple, OpType,
    PatchCommand, SessionCommand,
};
use crate::{LeanCloud, content, inbound, keys, outbound, query};

/// Clients on one socket. A process has one, rarely a handful.
const SESSIONS_MAX: usize = 64;
/// Events kept for a session whose login is being answered; beyond it the client is told to come
/// back, as a client that reads too slowly is.
const OPENING_MAX: usize = 1_024;
/// Clients looked up by one `session/query` (js-realtime-sdk: `ping`); the rest is ignored.
const ONLINE_QUERY_MAX: usize = 20;
/// Clients of a chat room that `conv/members` lists.
const ROOM_LIST_MAX: usize = 50;
/// Conversations in one `conv/is_member`.
const IS_MEMBER_MAX: usize = 100;
/// How long a refused token is remembered for the login without it that JS sends next.
const REFUSED_TOKEN_MS: i64 = 60_000;
/// How many of them.
const REFUSED_TOKENS_MAX: usize = 8;

/// What a client's SDK has said it understands: `configBitmap`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interests(pub i64);

impl Default for Interests {
    /// What C# says when it logs in for the first time; it says nothing when it returns.
    fn default() -> Self {
        Self(0xab)
    }
}

impl Interests {
    /// Bit 0: may be told of edits and recalls.
    #[must_use]
    pub fn patches(self) -> bool {
        self.0 & 1 != 0
    }

    /// Bit 1: may be told of temporary conversations.
    #[must_use]
    pub fn temporary(self) -> bool {
        self.0 & 2 != 0
    }

    /// Bit 3: wants an answer to transient messages too.
    #[must_use]
    pub fn transient_acks(self) -> bool {
        self.0 & 8 != 0
    }

    /// Whether the client may be told of conversations of this kind.
    #[must_use]
    pub fn hears_of(self, kind: posthouse_core::conversation::Kind) -> bool {
        self.temporary() || !kind.is_temporary()
    }
}

/// An event for one of a connection's sessions.
pub(crate) struct Push {
    session: SessionId,
    event: Arc<Bulletin>,
}

/// One socket.
pub(crate) struct Connection {
    gateway: Arc<LeanCloud>,
    framing: Framing,
    pusher: Pusher<Push>,
    state: State,
    /// The device of clients that name none: this socket.
    device: Option<DeviceId>,
    refused: Vec<RefusedToken>,
    /// The app that Java's push login named; its `session/open` may leave the app out.
    named_app: Option<Arc<App>>,
    draining: bool,
}

enum State {
    /// No client is logged in.
    Nobody,
    /// At least one is, in the order in which they came.
    Clients(Vec<Session>),
}

struct Session {
    caller: Caller,
    device: DeviceId,
    tag: Option<Tag>,
    interests: Interests,
}

/// A token that was refused for its age. JS tries again at once, without token, tag and device
/// (js:src/im-client.js `_open`); what the token says is still true.
struct RefusedToken {
    claims: Claims,
    at: Timestamp,
}

/// A session's way out. While the login is being answered events are collected, because what is
/// unread is counted meanwhile; then they go to the connection's queue.
struct Mailbox {
    pusher: Pusher<Push>,
    /// Set once, when `state` is open: from then on nobody needs the lock.
    open: AtomicBool,
    state: Mutex<MailboxState>,
}

enum MailboxState {
    Collecting(Vec<Arc<Bulletin>>),
    Overflown,
    Open,
}

impl Mailbox {
    fn new(pusher: Pusher<Push>) -> Self {
        let state = Mutex::new(MailboxState::Collecting(Vec::new()));
        Self { pusher, open: AtomicBool::new(false), state }
    }

    /// Ends collecting. What came until now, oldest first; `None` if it was too much.
    fn open(&self) -> Option<Vec<Arc<Bulletin>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let collected = match std::mem::replace(&mut *state, MailboxState::Open) {
            MailboxState::Collecting(events) => Some(events),
            MailboxState::Open => Some(Vec::new()),
            MailboxState::Overflown => None,
        };
        self.open.store(true, Ordering::Release);
        collected
    }
}

impl Mailbox {
    fn push(&self, session: SessionId, event: Arc<Bulletin>) -> bool {
        let size = event.size();
        self.pusher.try_push(Push { session, event }, size).is_ok()
    }
}

impl Sink for Mailbox {
    fn try_push(&self, session: SessionId, event: Arc<Bulletin>) -> bool {
        if self.open.load(Ordering::Acquire) {
            return self.push(session, event);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            MailboxState::Open => self.push(session, event),
            MailboxState::Collecting(events) if events.len() < OPENING_MAX => {
                events.push(event);
                true
            }
            MailboxState::Collecting(_) | MailboxState::Overflown => {
                *state = MailboxState::Overflown;
                false
            }
        }
    }
}

/// A login whose parts are checked.
struct Login {
    app: Arc<App>,
    client: ClientId,
    device: DeviceId,
    tag: Option<Tag>,
    interests: Interests,
    resume: bool,
}

impl Connection {
    /// A fresh connection.
    pub(crate) fn new(gateway: Arc<LeanCloud>, framing: Framing, pusher: Pusher<Push>) -> Self {
        Self {
            gateway,
            framing,
            pusher,
            state: State::Nobody,
            device: None,
            refused: Vec::new(),
            named_app: None,
            draining: false,
        }
    }

    fn sessions(&self) -> &[Session] {
        match &self.state {
            State::Nobody => &[],
            State::Clients(sessions) => sessions,
        }
    }

    /// The session that a request is about; `None` for a client that isn't logged in here.
    fn session_of(&self, envelope: &Envelope) -> Option<&Session> {
        match &envelope.peer {
            Some(peer) => self.sessions().iter().find(|s| s.caller.client.as_str() == peer),
            None => self.sessions().first(),
        }
    }

    fn remove_session(&mut self, session: SessionId) -> Option<Session> {
        let State::Clients(sessions) = &mut self.state else { return None };
        let at = sessions.iter().position(|s| s.caller.session == session)?;
        let removed = sessions.remove(at);
        if sessions.is_empty() {
            self.state = State::Nobody;
        }
        Some(removed)
    }

    fn send(&self, out: &mut Outbox, command: &GenericCommand) {
        out.push(self.framing.encode(command));
    }

    /// Answers a request that has a serial; one without waits for nothing, and Java would take an
    /// answer to it for one to another request.
    fn answer(&self, out: &mut Outbox, envelope: &Envelope, command: &GenericCommand) {
        if envelope.serial.is_some() {
            self.send(out, command);
        }
    }

    fn refuse(&self, out: &mut Outbox, envelope: &Envelope, refusal: &Refusal) {
        self.answer(out, envelope, &refused(envelope, refusal));
    }

    async fn on_command(&mut self, mut command: GenericCommand, out: &mut Outbox) -> Flow {
        let envelope = Envelope::of(&command);
        let request = Command::take(&mut command);
        self.gateway.meters().count(&request);
        let desk = self.session_of(&envelope).map(|session| Desk {
            posthouse: Arc::clone(self.gateway.posthouse()),
            caller: self.gateway.posthouse().with_present_settings(&session.caller),
            interests: session.interests,
            envelope: envelope.clone(),
        });
        // C# names the app in every frame; another one than that of the login is nobody's on this socket.
        if let (Some(desk), Some(app_id)) = (&desk, command.app_id.as_deref())
            && !matches!(request, Command::SessionOpen(_))
            && desk.caller.app.key(keys::APP_ID) != Some(app_id)
        {
            let words = "this client is logged in to another app";
            self.refuse(out, &envelope, &Refusal::new(Code::AppNotAvailable, words));
            return Flow::Continue;
        }
        if let Some(desk) = &desk
            && let Some((what, operation)) = counted(&request)
            && let Err(error) = desk.posthouse.admit(&desk.caller.app, &desk.caller.client, what)
        {
            let refusal = Refusal::of(operation, &error);
            let answer = match request {
                Command::Direct(body) => failed_ack(&envelope, body.cid, desk.posthouse.stamp(), &refusal),
                _ => refused(&envelope, &refusal),
            };
            self.answer(out, &envelope, &answer);
            return Flow::Continue;
        }
        match (desk, request) {
            (_, Command::SessionOpen(open)) => {
                return self.open(&envelope, command.app_id.as_deref(), &open, out).await;
            }
            (_, Command::Echo) => self.send(out, &echo(&command)),
            // Java's push login comes first on every socket and expects no answer.
            (_, Command::Login | Command::Logout) => {
                let named = command.app_id.as_deref();
                self.named_app = named.and_then(|id| self.gateway.posthouse().app_by_key(keys::APP_ID, id));
                self.refuse(out, &envelope, &not_offered("LiveQuery and push login"));
            }
            (_, Command::Report) => self.refuse(out, &envelope, &not_offered("reporting push tokens")),
            (_, Command::Unknown) => self.refuse(out, &envelope, &not_offered("this command")),
            (Some(_), Command::ConvMemberInfo) => {
                let words = "member roles are not offered by this server";
                self.refuse(out, &envelope, &Refusal::new(Code::MemberInfoDisabled, words));
            }
            (Some(_), Command::Blacklist) => {
                let words = "blacklists are not offered by this server";
                self.refuse(out, &envelope, &Refusal::new(Code::BlacklistDisabled, words));
            }
            (Some(_), Command::ConvShutup) => {
                self.refuse(out, &envelope, &not_offered("muting members"));
            }
            (Some(desk), Command::SessionClose) => self.close(&desk, out),
            (Some(desk), Command::SessionRefresh(_)) => self.refresh(&desk, out),
            (Some(desk), Command::SessionQuery(body)) => {
                self.answer(out, &envelope, &desk.online(&body));
            }
            (Some(desk), Command::Direct(body)) => {
                if let Some(ack) = desk.post(body, &self.gateway.meters().messages_in).await {
                    self.answer(out, &envelope, &ack);
                }
            }
            (Some(desk), Command::Ack(body)) => desk.mark_delivered(&body).await,
            (Some(desk), Command::Read(body)) => desk.mark_read(&body).await,
            (Some(desk), Command::Logs(body)) => {
                let outcome = desk.history(&body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::Patch(body)) => {
                let outcome = desk.patch(body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvStart(body)) => {
                let outcome = desk.start(&body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvAdd(body)) => {
                let outcome = desk.change_members(body, true).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvRemove(body)) => {
                let outcome = desk.change_members(body, false).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvUpdate(body)) => {
                let outcome = desk.update(body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvMute(body)) => {
                let outcome = desk.mute(body, true).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvUnmute(body)) => {
                let outcome = desk.mute(body, false).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvQuery(body)) => {
                let outcome = desk.query(&body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvCount(body)) => {
                let outcome = desk.count(body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvMembers(body)) => {
                let outcome = desk.room_clients(body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvIsMember(body)) => {
                let outcome = desk.is_member(&body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvMaxRead(body)) => {
                let outcome = desk.max_read(body).await;
                self.conclude(out, &envelope, outcome);
            }
            (Some(desk), Command::ConvStatus(body)) => {
                let outcome = desk.watch(body).await;
                self.conclude(out, &envelope, outcome);
            }
            (None, Command::Direct(body)) => {
                let stamp = self.gateway.posthouse().stamp();
                let ack = failed_ack(&envelope, body.cid, stamp, &session_required());
                self.answer(out, &envelope, &ack);
            }
            (
                None,
                Command::SessionClose
                | Command::SessionRefresh(_)
                | Command::SessionQuery(_)
                | Command::ConvStart(_)
                | Command::ConvAdd(_)
                | Command::ConvRemove(_)
                | Command::ConvUpdate(_)
                | Command::ConvMute(_)
                | Command::ConvUnmute(_)
                | Command::ConvQuery(_)
                | Command::ConvCount(_)
                | Command::ConvMembers(_)
                | Command::ConvIsMember(_)
                | Command::ConvMaxRead(_)
                | Command::ConvStatus(_)
                | Command::ConvMemberInfo
                | Command::ConvShutup
                | Command::Ack(_)
                | Command::Read(_)
                | Command::Logs(_)
                | Command::Patch(_)
                | Command::Blacklist,
            ) => self.refuse(out, &envelope, &session_required()),
        }
        Flow::Continue
    }

    fn conclude(&self, out: &mut Outbox, envelope: &Envelope, outcome: Result<GenericCommand, Refusal>) {
        match outcome {
            Ok(command) => self.answer(out, envelope, &command),
            Err(refusal) => self.refuse(out, envelope, &refusal),
        }
    }

    /// `session/open`. The one request that is answered without a serial as well: Java returns with
    /// its token like that (java:session/LCSession.java).
    async fn open(
        &mut self,
        envelope: &Envelope,
        app_id: Option<&str>,
        asked: &SessionCommand,
        out: &mut Outbox,
    ) -> Flow {
        let login = match self.check_login(envelope, app_id, asked) {
            Ok(login) => login,
            Err(refusal) => {
                self.send(out, &refused(envelope, &refusal));
                return Flow::Continue;
            }
        };
        let posthouse = Arc::clone(self.gateway.posthouse());
        if let Err(error) = posthouse.admit(&login.app, &login.client, Rate::Calls) {
            if login.resume {
                // As below: a return is never refused.
                return Flow::Close(TRY_AGAIN);
            }
            self.send(out, &refused(envelope, &Refusal::of(Operation::Login, &error)));
            return Flow::Continue;
        }
        if let Err(refusal) = ensure_no_account(&posthouse, &login).await {
            self.send(out, &refused(envelope, &refusal));
            return Flow::Continue;
        }
        let mailbox = Arc::new(Mailbox::new(self.pusher.clone()));
        let opened = posthouse.open_session(OpenSession {
            app: Arc::clone(&login.app),
            client: login.client.clone(),
            device: Some(login.device.clone()),
            tag: login.tag.clone(),
            resume: login.resume,
            crowd: None,
            note: None,
            sink: Arc::clone(&mailbox) as Arc<dyn Sink>,
        });
        let caller = match opened {
            Ok(caller) => caller,
            Err(Error::SessionTaken) => {
                count_error(Code::SessionConflict);
                let closed = GenericCommand {
                    session_message: Some(outbound::conflict()),
                    peer_id: Some(login.client.as_str().to_owned()),
                    ..envelope.answer(CommandType::Session, Some(OpType::Closed))
                };
                self.send(out, &closed);
                return Flow::Continue;
            }
            Err(error) => {
                self.send(out, &refused(envelope, &Refusal::of(Operation::Login, &error)));
                return Flow::Continue;
            }
        };
        let told_until = posthouse.told_until();
        let caught_up = catch_up(&posthouse, &caller, login.interests, asked, &mailbox).await;
        let CaughtUp { unread, patches, events } = match caught_up {
            Ok(caught_up) => caught_up,
            Err(error) => {
                posthouse.close_session(&caller, Ending::Lost);
                if login.resume || error == Error::SessionOver {
                    // Swift logs the user out for good when a return is refused, so the socket
                    // closes instead and the client comes back.
                    return Flow::Close(TRY_AGAIN);
                }
                self.send(out, &refused(envelope, &Refusal::of(Operation::Login, &error)));
                return Flow::Continue;
            }
        };
        let now = posthouse.now();
        let (st, st_ttl) = self.token(&caller, &login.device, login.tag.as_ref(), login.interests);
        let answer = GenericCommand {
            peer_id: Some(caller.client.as_str().to_owned()),
            // SDKs later ask for what came after this time. What comes within this very millisecond
            // has to be among it, so the time told is one before.
            server_ts: Some(now.plus_ms(-1).0),
            session_message: Some(SessionCommand {
                st: Some(st),
                st_ttl: Some(st_ttl),
                ..SessionCommand::default()
            }),
            ..envelope.answer(CommandType::Session, Some(OpType::Opened))
        };
        self.send(out, &answer);
        for push in outbound::unread_list(login.interests, told_until, &unread) {
            self.send(out, &outbound::addressed(&caller.client, push));
        }
        for patch in patches.iter().filter(|patch| login.interests.hears_of(patch.kind)) {
            self.send(out, &outbound::addressed(&caller.client, outbound::message_patched(patch)));
        }
        let id = caller.session;
        self.seat(
            &posthouse,
            Session { caller, device: login.device, tag: login.tag, interests: login.interests },
        );
        for event in events {
            self.push_event(id, &event, out);
        }
        Flow::Continue
    }

    /// Takes a session in. One client has one session on a socket, since requests can't tell two
    /// apart; the older one gives way.
    fn seat(&mut self, posthouse: &Posthouse, session: Session) {
        let older = self
            .sessions()
            .iter()
            .find(|s| s.caller.client == session.caller.client)
            .map(|s| s.caller.session);
        if let Some(older) = older.and_then(|older| self.remove_session(older)) {
            posthouse.close_session(&older.caller, Ending::Polite);
        }
        match &mut self.state {
            State::Nobody => self.state = State::Clients(vec![session]),
            State::Clients(sessions) => sessions.push(session),
        }
    }

    fn check_login(
        &mut self,
        envelope: &Envelope,
        app_id: Option<&str>,
        asked: &SessionCommand,
    ) -> Result<Login, Refusal> {
        let posthouse = Arc::clone(self.gateway.posthouse());
        let app = self.app(app_id)?;
        let invalid = |what: &str, wrong: &dyn std::fmt::Display| {
            Refusal::new(Code::InvalidLogin, format!("the {what} can't be used: {wrong}"))
        };
        let now = posthouse.now();
        let token = asked.st.as_deref().filter(|token| !token.is_empty());
        let resume = asked.r.unwrap_or(false);
        let mut inherited = None;
        if let Some(token) = token {
            inherited = Some(self.check_token(token, &app, envelope.peer.as_deref(), now)?);
        } else if resume {
            inherited = self.take_refused(&app, envelope.peer.as_deref(), now);
        }
        let client = match (envelope.peer.as_deref(), &inherited) {
            (Some(peer), _) => ClientId::parse(peer).map_err(|wrong| invalid("client id", &wrong))?,
            (None, Some(claims)) => {
                ClientId::parse(&claims.client).map_err(|wrong| invalid("client id", &wrong))?
            }
            (None, None) => posthouse.new_client_id(),
        };
        if self.sessions().len() >= SESSIONS_MAX
            && self.sessions().iter().all(|session| session.caller.client != client)
        {
            let words = format!("one socket carries at most {SESSIONS_MAX} clients");
            return Err(Refusal::new(Code::InvalidLogin, words));
        }
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let device = given(&asked.device_id)
            .or_else(|| given(&asked.device_token))
            .or_else(|| inherited.as_ref().map(|claims| claims.device.clone()));
        let device = match device {
            Some(device) => DeviceId::parse(&device).map_err(|wrong| invalid("device id", &wrong))?,
            None => self.own_device(&posthouse)?,
        };
        let tag = given(&asked.tag)
            .or_else(|| inherited.as_ref().and_then(|claims| claims.tag.clone()))
            .filter(|tag| tag != "default");
        let tag = tag.map(|tag| Tag::parse(&tag).map_err(|wrong| invalid("tag", &wrong))).transpose()?;
        let interests = asked
            .config_bitmap
            .or_else(|| inherited.as_ref().map(|claims| claims.bitmap))
            .map_or_else(Interests::default, Interests);
        Ok(Login { app, client, device, tag, interests, resume })
    }

    /// The app that a login names; C# names it in every frame, others when they log in.
    fn app(&self, app_id: Option<&str>) -> Result<Arc<App>, Refusal> {
        let here = self.sessions().first().map(|session| &session.caller.app).or(self.named_app.as_ref());
        let app_id = app_id.filter(|id| !id.is_empty());
        let app = match (app_id, here) {
            (Some(id), _) => self.gateway.posthouse().app_by_key(keys::APP_ID, id),
            (None, Some(app)) => Some(Arc::clone(app)),
            (None, None) => None,
        };
        match (app, here) {
            (None, _) => Err(Refusal::new(Code::AppNotAvailable, "there is no app with this id")),
            (Some(app), Some(here)) if app.id != here.id => {
                Err(Refusal::new(Code::AppNotAvailable, "this socket belongs to another app"))
            }
            (Some(app), _) => Ok(app),
        }
    }

    fn check_token(
        &mut self,
        token: &str,
        app: &App,
        peer: Option<&str>,
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        let fits =
            |claims: &Claims| claims.app == app.id.as_str() && peer.is_none_or(|peer| claims.client == peer);
        let words = match self.gateway.tokens().verify(token, now) {
            Ok(claims) if fits(&claims) => return Ok(claims),
            Ok(_) => "the session token belongs to another client",
            Err(TokenFault::Expired(claims)) => {
                if fits(&claims) {
                    self.refused.truncate(REFUSED_TOKENS_MAX - 1);
                    self.refused.insert(0, RefusedToken { claims: *claims, at: now });
                }
                "the session token is too old"
            }
            Err(TokenFault::Forged) => "the session token is none of this server's",
        };
        Err(Refusal::new(Code::SessionTokenExpired, words))
    }

    /// What the token said that was refused a moment ago, if this is the login that follows it.
    fn take_refused(&mut self, app: &App, peer: Option<&str>, now: Timestamp) -> Option<Claims> {
        self.refused.retain(|refused| now.ms_since(refused.at) < REFUSED_TOKEN_MS);
        let at = self.refused.iter().position(|refused| {
            refused.claims.app == app.id.as_str() && peer.is_some_and(|peer| refused.claims.client == peer)
        })?;
        Some(self.refused.remove(at).claims)
    }

    /// The device of clients that name none. It goes into their tokens, so that they are the same
    /// device when they return on another socket.
    fn own_device(&mut self, posthouse: &Posthouse) -> Result<DeviceId, Refusal> {
        if let Some(device) = &self.device {
            return Ok(device.clone());
        }
        let name = format!("socket-{}", posthouse.new_client_id());
        let device =
            DeviceId::parse(&name).map_err(|wrong| Refusal::new(Code::InternalError, wrong.to_string()))?;
        self.device = Some(device.clone());
        Ok(device)
    }

    fn token(
        &self,
        caller: &Caller,
        device: &DeviceId,
        tag: Option<&Tag>,
        interests: Interests,
    ) -> (String, i32) {
        let seconds = caller.app.settings.session_token_seconds;
        let token = self.gateway.tokens().sign(&Claims {
            app: caller.app.id.as_str().to_owned(),
            client: caller.client.as_str().to_owned(),
            device: device.as_str().to_owned(),
            tag: tag.map(|tag| tag.as_str().to_owned()),
            bitmap: interests.0,
            expires_at: self.gateway.posthouse().now().plus_ms(i64::from(seconds) * 1_000).0,
        });
        (token, outbound::int32(seconds))
    }

    fn close(&mut self, desk: &Desk, out: &mut Outbox) {
        self.remove_session(desk.caller.session);
        desk.posthouse.close_session(&desk.caller, Ending::Polite);
        // No code: Java takes one for "the server closed me".
        let closed = GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..desk.envelope.answer(CommandType::Session, Some(OpType::Closed))
        };
        self.answer(out, &desk.envelope, &closed);
    }

    fn refresh(&self, desk: &Desk, out: &mut Outbox) {
        let Some(session) = self.session_of(&desk.envelope) else { return };
        let (st, st_ttl) =
            self.token(&session.caller, &session.device, session.tag.as_ref(), session.interests);
        let refreshed = GenericCommand {
            server_ts: Some(desk.posthouse.now().0),
            session_message: Some(SessionCommand {
                st: Some(st),
                st_ttl: Some(st_ttl),
                ..SessionCommand::default()
            }),
            ..desk.envelope.answer(CommandType::Session, Some(OpType::Refreshed))
        };
        self.answer(out, &desk.envelope, &refreshed);
    }

    /// Tells a session of an event. Events for sessions that have left meanwhile are dropped.
    fn push_event(&mut self, id: SessionId, event: &Bulletin, out: &mut Outbox) {
        let Some(session) = self.sessions().iter().find(|s| s.caller.session == id) else { return };
        if content::is_shown(event) && outbound::is_heard(session.interests, event) {
            let posthouse = self.gateway.posthouse();
            let print = event.print(inbound::SCHEMA_TEXT, |event| {
                let event = content::own_event(event, &|body| posthouse.content(body));
                outbound::event(&event).as_ref().map(framing::print).unwrap_or_default()
            });
            // Of what this wire has no word for there is nothing to print.
            if !print.is_empty() {
                if matches!(**event, Event::MessagePosted { .. }) {
                    self.gateway.meters().messages_out.increment(1);
                }
                out.push(self.framing.address(&print, session.caller.client.as_str()));
            }
        }
        if event.session_end().is_some() {
            self.remove_session(id);
        }
    }
}

impl Protocol for Connection {
    type Push = Push;

    fn phase(&self) -> Phase {
        match self.state {
            State::Nobody => Phase::Fresh,
            State::Clients(_) => Phase::Ready,
        }
    }

    async fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> Flow {
        match framing::decode(&frame) {
            Ok(command) => self.on_command(command, out).await,
            Err(unreadable) => {
                tracing::debug!(%unreadable, "a frame could not be read");
                count_error(Code::UnparseableRawMessage);
                Flow::Close(close_frame(Code::UnparseableRawMessage))
            }
        }
    }

    fn on_push(&mut self, push: Push, out: &mut Outbox) -> Flow {
        self.push_event(push.session, &push.event, out);
        Flow::Continue
    }

    fn on_drain(&mut self, out: &mut Outbox) {
        self.draining = true;
        let goaway = GenericCommand {
            cmd: Some(CommandType::Goaway.into()),
            service: Some(SERVICE_IM),
            ..GenericCommand::default()
        };
        self.send(out, &goaway);
    }

    fn close_for(&self, end: End) -> Close {
        match end {
            End::Idle => close_frame(Code::ReadTimeout),
            End::LoginTimeout => close_frame(Code::LoginTimeout),
            End::FrameTooLong => close_frame(Code::FrameTooLong),
            End::Flood => FLOOD,
            End::Slow => TRY_AGAIN,
            End::Drained | End::PeerClosed | End::Lost | End::ByProtocol => {
                Close { code: 1001, reason: "the server is going away" }
            }
        }
    }

    async fn on_end(self, end: End) {
        let how = match end {
            End::Drained => Ending::Drained,
            // A client that was told to go away and went has not been lost.
            _ if self.draining => Ending::Drained,
            // A page that is closed says nothing either: only `session/close` is a goodbye.
            End::PeerClosed
            | End::Lost
            | End::Idle
            | End::LoginTimeout
            | End::FrameTooLong
            | End::Flood
            | End::Slow
            | End::ByProtocol => Ending::Lost,
        };
        for session in self.sessions() {
            self.gateway.posthouse().close_session(&session.caller, how);
        }
    }
}

/// What a login brings with it, beside the session.
struct CaughtUp {
    unread: Vec<Unread>,
    patches: Vec<Patch>,
    events: Vec<Arc<Bulletin>>,
}

/// Counts what is unread and finds what was changed, while the mailbox collects what happens
/// meanwhile, then opens the mailbox.
async fn catch_up(
    posthouse: &Posthouse,
    caller: &Caller,
    interests: Interests,
    asked: &SessionCommand,
    mailbox: &Mailbox,
) -> Result<CaughtUp, Error> {
    let since = |ms: Option<i64>| ms.filter(|ms| *ms > 0).map(Timestamp);
    let unread = posthouse.list_unread(caller, since(asked.last_unread_notif_time)).await?;
    let patches = match since(asked.last_patch_time) {
        Some(since) if interests.patches() => posthouse.list_patches(caller, since).await?,
        Some(_) | None => Vec::new(),
    };
    let mut events = mailbox.open().ok_or(Error::SessionOver)?;
    events.retain(|event| content::is_shown(event));
    let (unread, mut events) = settle_unread(unread, events, &caller.client);
    events.retain(|event| {
        let newer =
            |patch: &Patch| patches.iter().all(|told| told.message != patch.message || told.at < patch.at);
        event.patch().is_none_or(newer)
    });
    let reader = |body: &Body| posthouse.content(body);
    Ok(CaughtUp {
        unread: unread.into_iter().map(|unread| content::own_unread(unread, &reader)).collect(),
        patches: patches.into_iter().map(|patch| content::own_patch(patch, &reader)).collect(),
        events,
    })
}

/// Makes sure that no message raises a client's unread number twice: once in the list of the login
/// and once as a push that the client counts itself.
///
/// The list was made after the session could be pushed to, so messages up to [`Unread::head`] that
/// were collected are in its numbers. Where nothing else is unread, the pushes alone tell it. Where
/// older messages are unread too, the number alone does, as for everything said before a login:
/// Swift and Objective-C don't count a push that isn't newer than the last message of the list, so
/// taking the pushes off the number would be wrong for them.
fn settle_unread(
    unread: Vec<Unread>,
    events: Vec<Arc<Bulletin>>,
    reader: &ClientId,
) -> (Vec<Unread>, Vec<Arc<Bulletin>>) {
    let mut listed = Vec::with_capacity(unread.len());
    for unread in unread {
        let collected = events.iter().filter(|event| counts(event, &unread, reader));
        let recalled = |message: MessageId| {
            events.iter().filter_map(|event| event.patch()).any(|patch| {
                patch.message == message
                    && patch.seq <= unread.head
                    && patch.body.kind == posthouse_core::message::BodyKind::Recalled
            })
        };
        let pushed = collected
            .filter_map(|event| event.kept_message())
            .filter(|message| !recalled(message.id))
            .count();
        if u64::try_from(pushed).is_ok_and(|pushed| pushed < unread.count) {
            listed.push(unread);
        }
    }
    let told_by_number = |event: &Arc<Bulletin>| {
        listed.iter().any(|unread| counts(event, unread, reader) || is_older_number(event, unread))
    };
    let events = events.into_iter().filter(|event| !told_by_number(event)).collect();
    (listed, events)
}

/// Whether `event` is a message that the number of `unread` counts.
fn counts(event: &Event, unread: &Unread, reader: &ClientId) -> bool {
    event.kept_message().is_some_and(|message| {
        message.conversation == unread.conversation && message.seq <= unread.head && message.sender != *reader
    })
}

/// Whether `event` sets the number of the same conversation to an older state.
fn is_older_number(event: &Event, listed: &Unread) -> bool {
    event
        .unread()
        .is_some_and(|unread| unread.conversation == listed.conversation && unread.head <= listed.head)
}

/// "Try again later" (the registry of WebSocket close codes): every SDK reconnects.
const TRY_AGAIN: Close = Close { code: 1013, reason: "try again later" };

/// "Policy violation": no client of anybody's does this.
const FLOOD: Close = Close { code: 1008, reason: "too many pings, or too many messages before login" };

fn close_frame(code: Code) -> Close {
    Close { code: u16::try_from(code.number()).unwrap_or(1011), reason: code.name() }
}

fn count_error(code: Code) {
    counter!("posthouse_errors_total", "code" => code.label()).increment(1);
}

fn refused(envelope: &Envelope, refusal: &Refusal) -> GenericCommand {
    count_error(refusal.code);
    GenericCommand {
        error_message: Some(outbound::error(refusal)),
        ..envelope.answer(CommandType::Error, None)
    }
}

/// As what a logged-in client's request counts, and what is refused if there are too many. A login
/// counts when it is known whose it is. Receipts and marks have no answer that could refuse them, and
/// come as often as others send messages: only the connection's frames bound them. A goodbye is never
/// refused, and what isn't offered costs nothing.
fn counted(request: &Command) -> Option<(Rate, Operation)> {
    match request {
        Command::Direct(_) => Some((Rate::Messages, Operation::Send)),
        Command::Patch(_) => Some((Rate::Messages, Operation::Change)),
        Command::Logs(_) => Some((Rate::History, Operation::History)),
        Command::SessionRefresh(_) => Some((Rate::Calls, Operation::Login)),
        Command::ConvStart(_) => Some((Rate::Calls, Operation::Create)),
        Command::ConvAdd(_) | Command::ConvRemove(_) => Some((Rate::Calls, Operation::Membership)),
        Command::ConvUpdate(_) => Some((Rate::Calls, Operation::Update)),
        Command::ConvMute(_) | Command::ConvUnmute(_) => Some((Rate::Calls, Operation::Mute)),
        Command::ConvQuery(_) => Some((Rate::Calls, Operation::Query)),
        Command::SessionQuery(_)
        | Command::ConvCount(_)
        | Command::ConvMembers(_)
        | Command::ConvIsMember(_)
        | Command::ConvMaxRead(_) => Some((Rate::Calls, Operation::Look)),
        Command::ConvStatus(_) => Some((Rate::Calls, Operation::Watch)),
        Command::SessionOpen(_)
        | Command::SessionClose
        | Command::Ack(_)
        | Command::Read(_)
        | Command::Echo
        | Command::ConvMemberInfo
        | Command::ConvShutup
        | Command::Login
        | Command::Logout
        | Command::Blacklist
        | Command::Report
        | Command::Unknown => None,
    }
}

fn session_required() -> Refusal {
    Refusal::new(Code::SessionRequired, "this client is not logged in on this socket")
}

/// Clients with a password come in where it is asked for, unless the app wants it otherwise: here
/// anybody who knows the app's id could be them.
async fn ensure_no_account(posthouse: &Posthouse, login: &Login) -> Result<(), Refusal> {
    if login.app.settings.login_of_accounts_without_password {
        return Ok(());
    }
    match posthouse.account(&login.app, &login.client).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let words = "this client has a password and logs in where one is asked for \
                         (setting login_of_accounts_without_password)";
            Err(Refusal::new(Code::InvalidLogin, words))
        }
        Err(error) => Err(Refusal::of(Operation::Login, &error)),
    }
}

fn not_offered(what: &str) -> Refusal {
    Refusal::new(Code::InternalError, format!("{what} is not offered by this server"))
}

/// A refused message's answer. Swift reads id and time even then; the words travel where a hook's
/// would, since an ack has no detail.
fn failed_ack(
    envelope: &Envelope,
    cid: Option<String>,
    stamp: posthouse_core::usecase::Stamp,
    refusal: &Refusal,
) -> GenericCommand {
    count_error(refusal.code);
    GenericCommand {
        ack_message: Some(AckCommand {
            code: Some(refusal.code.number()),
            reason: Some(refusal.code.name().to_owned()),
            app_msg: Some(refusal.detail.clone()),
            uid: Some(outbound::message_id_text(stamp.id)),
            t: Some(stamp.timestamp.0),
            cid,
            ..AckCommand::default()
        }),
        ..envelope.answer(CommandType::Ack, None)
    }
}

/// Where a logged-in client's request is served: parsed, put to the domain, and its outcome printed.
struct Desk {
    posthouse: Arc<Posthouse>,
    caller: Caller,
    interests: Interests,
    envelope: Envelope,
}

impl Desk {
    fn conv_answer(&self, op: OpType, cid: Option<String>, conv: ConvCommand) -> GenericCommand {
        GenericCommand {
            // Java takes the conversation of most answers from here, so it is always there.
            conv_message: Some(ConvCommand { cid, ..conv }),
            ..self.envelope.answer(CommandType::Conv, Some(op))
        }
    }

    fn online(&self, asked: &SessionCommand) -> GenericCommand {
        let clients: Vec<ClientId> = asked
            .session_peer_ids
            .iter()
            .take(ONLINE_QUERY_MAX)
            .filter_map(|id| ClientId::parse(id).ok())
            .collect();
        let online = self.posthouse.online(&self.caller.app, &clients);
        GenericCommand {
            session_message: Some(SessionCommand {
                online_session_peer_ids: outbound::client_texts(&online),
                ..SessionCommand::default()
            }),
            ..self.envelope.answer(CommandType::Session, Some(OpType::QueryResult))
        }
    }

    /// The ack of a message; `None` where the client wants none.
    async fn post(&self, direct: DirectCommand, accepted: &Counter) -> Option<GenericCommand> {
        let cid = direct.cid.clone();
        let post = match inbound::post_message(direct, &self.caller.app.settings) {
            Ok(post) => post,
            Err(refusal) => {
                return Some(failed_ack(&self.envelope, cid, self.posthouse.stamp(), &refusal));
            }
        };
        let silent = post.keep == Keep::Transient && !self.interests.transient_acks();
        match self.posthouse.post_message(&self.caller, post).await {
            Ok(posted) => {
                accepted.increment(1);
                // Nothing but these three: any `code`, even 0, means failure to every SDK.
                let ack = GenericCommand {
                    ack_message: Some(AckCommand {
                        uid: Some(outbound::message_id_text(posted.id)),
                        t: Some(posted.timestamp.0),
                        cid,
                        ..AckCommand::default()
                    }),
                    ..self.envelope.answer(CommandType::Ack, None)
                };
                (!silent).then_some(ack)
            }
            Err(error) => {
                let refusal = Refusal::of(Operation::Send, &error);
                Some(failed_ack(&self.envelope, cid, self.posthouse.stamp(), &refusal))
            }
        }
    }

    async fn patch(&self, mut patch: PatchCommand) -> Result<GenericCommand, Refusal> {
        let (Some(item), true) = (patch.patches.pop(), patch.patches.is_empty()) else {
            let words = "a patch command changes exactly one message";
            return Err(Refusal::new(Code::UnparseableRawMessage, words));
        };
        let change = inbound::patch_message(item, &self.caller.app.settings)?;
        let patched = self
            .posthouse
            .patch_message(&self.caller, change)
            .await
            .map_err(|error| Refusal::of(Operation::Change, &error))?;
        let at = patched.patch.at;
        Ok(GenericCommand {
            server_ts: Some(at.0),
            patch_message: Some(PatchCommand { patches: Vec::new(), last_patch_time: Some(at.0) }),
            ..self.envelope.answer(CommandType::Patch, Some(OpType::Modified))
        })
    }

    /// `ack` has no answer; what it says of conversations we don't know is only counted.
    async fn mark_delivered(&self, ack: &AckCommand) {
        let Some(mark) = inbound::delivery(ack) else {
            count_ignored("ack", 1);
            return;
        };
        if let Err(error) = self.posthouse.mark_delivered(&self.caller, mark).await {
            ignored_mark("ack", &error);
        }
    }

    /// `read` has no answer either.
    async fn mark_read(&self, read: &crate::wire::proto::ReadCommand) {
        let marks = inbound::reads(read);
        let named = read.convs.len() + read.cids.len() + usize::from(read.cid.is_some());
        count_ignored("read", named.saturating_sub(marks.len()));
        for mark in marks {
            if let Err(error) = self.posthouse.mark_read(&self.caller, mark).await {
                ignored_mark("read", &error);
            }
        }
    }

    async fn history(&self, logs: &LogsCommand) -> Result<GenericCommand, Refusal> {
        let refuse = |error: Error| Refusal::of(Operation::History, &error);
        let query = inbound::history_query(logs)?;
        let conversation = query.conversation;
        let messages = self.posthouse.read_history(&self.caller, query).await.map_err(refuse)?.messages;
        let kind = self.conversation_type(conversation, messages.is_empty()).await.map_err(refuse)?;
        let reader = |body: &Body| self.posthouse.content(body);
        let shown = messages.into_iter().map(|message| content::own_message(message, &reader));
        Ok(GenericCommand {
            logs_message: Some(LogsCommand {
                cid: logs.cid.clone(),
                logs: shown.map(|message| outbound::log_item(message, kind)).collect(),
                ..LogsCommand::default()
            }),
            ..self.envelope.answer(CommandType::Logs, None)
        })
    }

    /// The `convType` of a conversation's messages; not looked up where nobody needs it.
    async fn conversation_type(&self, id: ConversationId, unused: bool) -> Result<i32, Error> {
        if unused || id.is_temporary() {
            return Ok(outbound::TEMPORARY_TYPE);
        }
        let conversation = self.posthouse.conversation(&self.caller, id).await?;
        Ok(outbound::conversation_type(conversation.kind))
    }

    async fn start(&self, conv: &ConvCommand) -> Result<GenericCommand, Refusal> {
        let create = inbound::create_conversation(conv, &self.caller.app.settings)?;
        let created = self
            .posthouse
            .create_conversation(&self.caller, create)
            .await
            .map_err(|error| Refusal::of(Operation::Create, &error))?;
        let made = created.conversation;
        let temporary = made.kind.is_temporary();
        let answer = ConvCommand {
            cdate: Some(outbound::date_text(made.created_at)),
            udate: Some(outbound::date_text(made.updated_at)),
            unique_id: made.unique.filter(|_| !temporary).map(|members| members.to_hex()),
            existing: created.existing.then_some(true),
            transient: made.kind.is_room().then_some(true),
            temp_conv: temporary.then_some(true),
            temp_conv_ttl: made.ttl_seconds().map(outbound::int32),
            ..ConvCommand::default()
        };
        let cid = Some(outbound::conversation_text(made.id));
        Ok(GenericCommand {
            server_ts: Some(self.posthouse.now().0),
            ..self.conv_answer(OpType::Started, cid, answer)
        })
    }

    async fn change_members(&self, conv: ConvCommand, add: bool) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Membership, conv.cid.as_deref())?;
        let max = usize::try_from(self.caller.app.settings.members_max).unwrap_or(usize::MAX);
        let members = inbound::clients(&conv.m, max)?;
        if members.is_empty() {
            return Err(Refusal::new(Code::ConversationApiFailed, "no client is named"));
        }
        let changed = if add {
            self.posthouse.add_members(&self.caller, conversation, members).await
        } else {
            self.posthouse.remove_members(&self.caller, conversation, members).await
        };
        let changed = changed.map_err(|error| Refusal::of(Operation::Membership, &error))?;
        let op = if add { OpType::Added } else { OpType::Removed };
        let answer = ConvCommand {
            allowed_pids: outbound::client_texts(&changed.settled),
            // Swift changes its own list of members only with this date, and only if it is newer.
            udate: Some(outbound::date_text(changed.at)),
            ..ConvCommand::default()
        };
        Ok(GenericCommand { server_ts: Some(changed.at.0), ..self.conv_answer(op, conv.cid, answer) })
    }

    async fn update(&self, conv: ConvCommand) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Update, conv.cid.as_deref())?;
        let changes = inbound::attribute_changes(&conv)?;
        let changed = self
            .posthouse
            .update_conversation(&self.caller, conversation, changes)
            .await
            .map_err(|error| Refusal::of(Operation::Update, &error))?;
        let answer = ConvCommand {
            udate: Some(outbound::date_text(changed.at)),
            attr: conv.attr,
            attr_modified: Some(outbound::json_message(&Value::Object(changed.modified))),
            ..ConvCommand::default()
        };
        Ok(GenericCommand {
            server_ts: Some(changed.at.0),
            ..self.conv_answer(OpType::Updated, conv.cid, answer)
        })
    }

    async fn mute(&self, conv: ConvCommand, muted: bool) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Mute, conv.cid.as_deref())?;
        let at = self
            .posthouse
            .set_muted(&self.caller, conversation, muted)
            .await
            .map_err(|error| Refusal::of(Operation::Mute, &error))?;
        let answer = ConvCommand { udate: Some(outbound::date_text(at)), ..ConvCommand::default() };
        Ok(self.conv_answer(OpType::Updated, conv.cid, answer))
    }

    async fn query(&self, conv: &ConvCommand) -> Result<GenericCommand, Refusal> {
        let flags = conv.flag.unwrap_or(0);
        let asked = query::Asked {
            conditions: conv
                .r#where
                .as_ref()
                .and_then(|conditions| conditions.data.as_deref())
                .filter(|conditions| !conditions.is_empty()),
            sort: conv.sort.as_deref(),
            limit: conv.limit,
            skip: conv.skip,
            temporary_ids: &conv.temp_conv_ids,
            with_last_message: flags & 2 != 0,
        };
        let query = query::parse(asked, &self.caller.client)
            .map_err(|wrong| Refusal::new(Code::ConversationQueryFailed, wrong.to_string()))?;
        let found = self
            .posthouse
            .query_conversations(&self.caller, query)
            .await
            .map_err(|error| Refusal::of(Operation::Query, &error))?;
        let compact = flags & 1 != 0;
        let reader = |body: &Body| self.posthouse.content(body);
        let rows = found
            .into_iter()
            .map(|found| {
                let last_message = found.last_message.map(|message| content::own_message(message, &reader));
                outbound::row(Found { last_message, ..found }, compact)
            })
            .collect();
        let answer = ConvCommand {
            results: Some(outbound::json_message(&Value::Array(rows))),
            ..ConvCommand::default()
        };
        Ok(self.conv_answer(OpType::Results, None, answer))
    }

    async fn count(&self, conv: ConvCommand) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Look, conv.cid.as_deref())?;
        let count = self
            .posthouse
            .count_members(&self.caller, conversation)
            .await
            .map_err(|error| Refusal::of(Operation::Look, &error))?;
        let answer = ConvCommand { count: Some(outbound::int32(count)), ..ConvCommand::default() };
        Ok(self.conv_answer(OpType::Result, conv.cid, answer))
    }

    async fn room_clients(&self, conv: ConvCommand) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Look, conv.cid.as_deref())?;
        let limit = conv.limit.map_or(ROOM_LIST_MAX, |limit| usize::try_from(limit).unwrap_or(0));
        let clients = self
            .posthouse
            .room_clients(&self.caller, conversation, limit.min(ROOM_LIST_MAX))
            .await
            .map_err(|error| Refusal::of(Operation::Look, &error))?;
        let answer = ConvCommand { m: outbound::client_texts(&clients), ..ConvCommand::default() };
        Ok(self.conv_answer(OpType::Members, conv.cid, answer))
    }

    async fn is_member(&self, conv: &ConvCommand) -> Result<GenericCommand, Refusal> {
        if conv.cids.len() > IS_MEMBER_MAX {
            let words = format!("at most {IS_MEMBER_MAX} conversations can be asked about at once");
            return Err(Refusal::new(Code::ConversationApiFailed, words));
        }
        let mut answers = Map::new();
        for cid in &conv.cids {
            let is_member = match inbound::conversation_id(cid) {
                Ok(id) => self
                    .posthouse
                    .is_member(&self.caller, id)
                    .await
                    .map_err(|error| Refusal::of(Operation::Look, &error))?,
                Err(_) => false,
            };
            answers.insert(cid.clone(), is_member.into());
        }
        let answer = ConvCommand {
            results: Some(outbound::json_message(&Value::Object(answers))),
            ..ConvCommand::default()
        };
        Ok(self.conv_answer(OpType::IsMember, None, answer))
    }

    async fn max_read(&self, conv: ConvCommand) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Look, conv.cid.as_deref())?;
        let marks = self
            .posthouse
            .member_marks(&self.caller, conversation)
            .await
            .map_err(|error| Refusal::of(Operation::Look, &error))?;
        let others = marks.iter().filter(|mark| mark.client != self.caller.client);
        let answer = if conv.query_all_members.unwrap_or(false) {
            ConvCommand {
                max_read_tuples: others
                    .map(|mark| MaxReadTuple {
                        pid: Some(mark.client.as_str().to_owned()),
                        max_ack_timestamp: Some(mark.delivered_at.map_or(0, |at| at.0)),
                        max_read_timestamp: Some(mark.read_at.map_or(0, |at| at.0)),
                    })
                    .collect(),
                ..ConvCommand::default()
            }
        } else {
            let (mut delivered, mut read) = (0, 0);
            for mark in others {
                delivered = delivered.max(mark.delivered_at.map_or(0, |at| at.0));
                read = read.max(mark.read_at.map_or(0, |at| at.0));
            }
            ConvCommand {
                max_ack_timestamp: Some(delivered),
                max_read_timestamp: Some(read),
                ..ConvCommand::default()
            }
        };
        Ok(self.conv_answer(OpType::MaxRead, conv.cid, answer))
    }

    /// `conv/status`: who of the members is online, now and from now on. No shipped SDK sends it;
    /// our plugin for the JavaScript SDK does (docs/wire/leancloud.md).
    async fn watch(&self, conv: ConvCommand) -> Result<GenericCommand, Refusal> {
        let conversation = inbound::conversation_of(Operation::Watch, conv.cid.as_deref())?;
        match conv.status_sub {
            None => {
                let words = "`statusSub` says whether to begin or to end";
                Err(Refusal::new(Code::ConversationApiFailed, words))
            }
            Some(false) => {
                self.posthouse.unsubscribe_presence(&self.caller, conversation);
                let answer = ConvCommand { status_sub: Some(false), ..ConvCommand::default() };
                Ok(self.conv_answer(OpType::Status, conv.cid, answer))
            }
            Some(true) => {
                let view = self
                    .posthouse
                    .subscribe_presence(&self.caller, conversation, conv.status_ttl.map(i64::from))
                    .await
                    .map_err(|error| Refusal::of(Operation::Watch, &error))?;
                let online = outbound::client_texts(&view.online);
                let offline = outbound::client_texts(&view.offline);
                let answer = ConvCommand {
                    m: online.iter().cloned().chain(offline).collect(),
                    status_sub: Some(true),
                    status_pub: Some(true),
                    status_ttl: view.ttl_seconds.map(outbound::int32),
                    ..ConvCommand::default()
                };
                Ok(GenericCommand {
                    session_message: Some(SessionCommand {
                        online_session_peer_ids: online,
                        ..SessionCommand::default()
                    }),
                    ..self.conv_answer(OpType::Status, conv.cid, answer)
                })
            }
        }
    }
}

fn count_ignored(command: &'static str, marks: usize) {
    if marks > 0 {
        let marks = u64::try_from(marks).unwrap_or(u64::MAX);
        counter!("posthouse_marks_ignored_total", "command" => command).increment(marks);
    }
}

fn ignored_mark(command: &'static str, error: &Error) {
    tracing::debug!(%error, command, "a mark without effect");
    count_ignored(command, 1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use bytes::Bytes;
    use posthouse_core::conversation::Kind;
    use posthouse_core::id::Seq;
    use posthouse_core::message::{BodyKind, Mentions, Message, Payload};
    use posthouse_transport::send_queue;

    use super::*;
    use crate::inbound::SCHEMA_TEXT;

    const ROOM: u64 = 7;

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn message(seq: u64, sender: &str) -> Message {
        Message {
            id: MessageId::from_u64(100 + seq).unwrap(),
            conversation: ConversationId::lasting(ROOM),
            seq: Seq(seq),
            timestamp: Timestamp(5_000),
            sender: client(sender),
            body: Body {
                kind: BodyKind::Text,
                summary: None,
                payload: Payload { schema: SCHEMA_TEXT, bytes: Bytes::from_static(b"hi") },
            },
            mentions: Mentions::default(),
            receipt: false,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: posthouse_core::message::Origin::Client,
            edits: 0,
            patched_by: None,
        }
    }

    fn posted_event(seq: u64, sender: &str) -> Arc<Bulletin> {
        let posted = Event::MessagePosted {
            message: message(seq, sender),
            kind: Kind::Group,
            pair: None,
            transient: seq == 0,
        };
        Arc::new(posted.into())
    }

    fn recall_event(of: u64, seq: u64) -> Arc<Bulletin> {
        let recalled = message(of, "tom");
        let patched = Event::MessagePatched {
            pair: None,
            patch: Patch {
                conversation: recalled.conversation,
                kind: Kind::Group,
                message: recalled.id,
                timestamp: recalled.timestamp,
                sender: recalled.sender,
                body: Body { kind: BodyKind::Recalled, ..recalled.body },
                mentions: Mentions::default(),
                at: Timestamp(6_000),
                seq: Seq(seq),
                by: client("tom"),
                edits: 0,
            },
        };
        Arc::new(patched.into())
    }

    fn unread(count: u64, head: u64) -> Unread {
        Unread {
            conversation: ConversationId::lasting(ROOM),
            kind: Kind::Group,
            count,
            mentioned: false,
            last_message: Some(message(head, "tom")),
            head: Seq(head),
        }
    }

    /// The unread number a client ends up with: the list's, and one for each push of another's.
    fn total(listed: &[Unread], events: &[Arc<Bulletin>]) -> u64 {
        let pushed = events.iter().filter_map(|e| e.kept_message()).filter(|m| m.sender != client("jerry"));
        listed.iter().map(|unread| unread.count).sum::<u64>() + u64::try_from(pushed.count()).unwrap()
    }

    #[test]
    fn a_message_that_came_during_login_is_pushed_and_not_counted_if_it_is_all_there_is() {
        let events = vec![posted_event(3, "tom"), posted_event(4, "tom")];
        let (listed, events) = settle_unread(vec![unread(2, 4)], events, &client("jerry"));
        assert!(listed.is_empty());
        assert_eq!((events.len(), total(&listed, &events)), (2, 2));
    }

    #[test]
    fn a_message_that_came_during_login_is_counted_and_not_pushed_beside_older_ones() {
        let events = vec![posted_event(4, "tom"), posted_event(5, "tom"), posted_event(0, "tom")];
        let (listed, events) = settle_unread(vec![unread(3, 4)], events, &client("jerry"));
        // Three counted, the one after the count pushed, and the transient one pushed.
        assert_eq!((listed.len(), events.len()), (1, 2));
        assert_eq!(total(&listed, &events), 4);
    }

    #[test]
    fn own_messages_and_later_ones_are_always_pushed() {
        let events = vec![posted_event(3, "jerry"), posted_event(5, "tom")];
        let (listed, events) = settle_unread(vec![unread(1, 4)], events, &client("jerry"));
        assert_eq!((listed.len(), events.len(), total(&listed, &events)), (1, 2, 2));
    }

    #[test]
    fn a_message_recalled_before_the_count_takes_nothing_off_it() {
        let events = vec![posted_event(3, "tom"), recall_event(3, 4), posted_event(5, "tom")];
        let (listed, events) = settle_unread(vec![unread(1, 5)], events, &client("jerry"));
        assert!(listed.is_empty(), "only message 5 is unread, and it is pushed");
        assert_eq!(events.len(), 3);
    }

    #[test]
    fn an_older_number_does_not_undo_the_list() {
        let read = Event::UnreadChanged { unread: unread(0, 2), at: Timestamp(1) };
        let read = Arc::new(read.into());
        let events = vec![read, posted_event(3, "tom")];
        let (listed, events) = settle_unread(vec![unread(2, 3)], events, &client("jerry"));
        assert_eq!((listed.len(), events.len()), (1, 0));
    }

    #[test]
    fn a_mailbox_collects_until_it_is_opened_and_keeps_the_order() {
        let (pusher, mut queue) = send_queue(8, 65_536);
        let mailbox = Mailbox::new(pusher);
        let session = SessionId(1);
        assert!(mailbox.try_push(session, posted_event(1, "tom")));
        assert!(mailbox.try_push(session, posted_event(2, "tom")));
        assert!(queue.is_empty());
        assert_eq!(mailbox.open().unwrap().len(), 2);
        assert!(mailbox.try_push(session, posted_event(3, "tom")));
        let Some(push) = queue.try_recv() else { panic!() };
        assert_eq!(push.event.kept_message().unwrap().seq, Seq(3));
    }

    #[test]
    fn a_mailbox_has_a_bound() {
        let (pusher, _queue) = send_queue(8, 65_536);
        let mailbox = Mailbox::new(pusher);
        let event = posted_event(1, "tom");
        for _ in 0..OPENING_MAX {
            assert!(mailbox.try_push(SessionId(1), Arc::clone(&event)));
        }
        assert!(!mailbox.try_push(SessionId(1), Arc::clone(&event)));
        assert_eq!(mailbox.open().map(|events| events.len()), None);
    }

    #[test]
    fn bits_say_what_an_sdk_understands() {
        for (bitmap, patches, temporary, acks) in [
            (59, true, true, true),
            (187, true, true, true),
            (0xab, true, true, true),
            (0, false, false, false),
        ] {
            let interests = Interests(bitmap);
            assert_eq!(
                (interests.patches(), interests.temporary(), interests.transient_acks()),
                (patches, temporary, acks)
            );
        }
    }
}
