//! One MSYNC socket as a state machine. It owns no socket: frames and pushes come in, frames go out,
//! and [`posthouse_transport`] does the rest.
//!
//! ```text
//!             PROVISION                PROVISION (in place of the one before)
//!   Fresh ────────────────► Ready ◄──────────────────────────────┐
//!     │ anything else         │ └────────────────────────────────┘
//!     ▼                       │ LOGOUT, a refused PROVISION, the session's end
//!   closed ◄──────────────────┘
//! ```
//!
//! What is kept reaches a device by its queues: a push only says which queue has news (NOTICE), the
//! device then pulls, and [`crate::sync`] knows how far it is. Only what nobody keeps is pushed itself.
//! Every pull and every meta with an id is answered, before the pushes it causes, because the
//! transport takes none meanwhile. A refused login closes the socket, which SDKs expect (client 3.5).

use std::sync::Arc;

use bytes::Bytes;
use metrics::counter;
use posthouse_core::app::App;
use posthouse_core::conversation::{Address, Authority, Kind};
use posthouse_core::event::{Bulletin, Event};
use posthouse_core::id::{ClientId, ConversationId, DeviceId, MessageId, Seq, SessionId, Tag};
use posthouse_core::listing::{Note, NoteKind, Queue, Waiting};
use posthouse_core::message::{Body, Mentions, PatchMessage, PostMessage, Target};
use posthouse_core::rate::Rate;
use posthouse_core::receipt::{Acknowledge, MarkRead};
use posthouse_core::session::{Caller, Crowd, Ending, OpenSession, Sink};
use posthouse_core::time::Timestamp;
use posthouse_core::{Error, Posthouse};
use posthouse_transport::{Close, End, Flow, Frame, Outbox, Phase, Protocol, Pusher};

use crate::auth::Bearer;
use crate::error::{LoginFault, Operation, Refusal, refusal, setting_of};
use crate::inbound::{self, Edit, Order, Sender};
use crate::outbound::{self, Own};
use crate::sync::{BATCH_ENTRIES_MAX, Batch, LISTED_MAX, Lines, Listed};
use crate::wire::frame::{self, Downlink, Login, ProvisionReply, Pull, Roam, Status, Unreadable, Uplink};
use crate::wire::jid::Jid;
use crate::wire::lz4;
use crate::wire::meta::SentMeta;
use crate::wire::name;
use crate::wire::proto::m_sync::Command;
use crate::wire::proto::provision::CompressDirection;
use crate::{Easemob, keys};

/// Characters of what a login has to say to the device that it replaces (client 10.2).
const NOTE_CHARS_MAX: usize = 1_024;
/// Characters of the name of a platform.
const PLATFORM_CHARS_MAX: usize = Tag::CHARS_MAX;
/// The longest wait of a timer in JavaScript.
const TIMER_MS_MAX: i64 = i32::MAX as i64;
/// Reads of a timeline for one pull, when what is read says nothing to this device. A longer stretch
/// of such entries ends in an empty answer and a notice, so that the next pull goes on.
const READS_MAX: usize = 50;
/// Reads of conversations that are not yet echoed by an event.
const OWN_READS_MAX: usize = 64;

/// An event for a connection's session.
pub(crate) struct Push {
    session: SessionId,
    event: Arc<Bulletin>,
}

/// A session's way out.
struct Outlet(Pusher<Push>);

impl Sink for Outlet {
    fn try_push(&self, session: SessionId, event: Arc<Bulletin>) -> bool {
        // Nobody here can watch who is online, so these never matter.
        if matches!(**event, Event::Presence(_)) {
            return true;
        }
        let size = event.size();
        self.0.try_push(Push { session, event }, size).is_ok()
    }
}

/// One socket.
pub(crate) struct Connection {
    gateway: Arc<Easemob>,
    pusher: Pusher<Push>,
    state: State,
    /// Unpacks frames since a login agreed on that; a stream is never plain again.
    unpacker: Option<lz4::Decoder>,
}

enum State {
    /// Nobody is logged in.
    Fresh,
    /// Somebody is.
    Ready(Box<Seat>),
}

/// One logged-in device.
struct Seat {
    caller: Caller,
    device: DeviceId,
    app_key: String,
    lines: Lines,
    /// Whether the store was asked what waits.
    listed: bool,
    /// Conversations read here, whose echo tells this device nothing.
    own_reads: Vec<ConversationId>,
}

/// A login whose parts are checked.
struct Admitted {
    app: Arc<App>,
    app_key: String,
    client: ClientId,
    device: DeviceId,
    token: String,
    token_expires_at: Timestamp,
}

/// Why nobody is let in.
enum Denied {
    /// For good, as far as this login goes.
    Fault(LoginFault),
    /// The server can't tell now.
    Failure(Error),
}

impl From<LoginFault> for Denied {
    fn from(fault: LoginFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self::Failure(error)
    }
}

impl Connection {
    /// A fresh connection.
    pub(crate) fn new(gateway: Arc<Easemob>, pusher: Pusher<Push>) -> Self {
        Self { gateway, pusher, state: State::Fresh, unpacker: None }
    }

    async fn on_request(&mut self, uplink: Uplink, out: &mut Outbox) -> Flow {
        let gateway = Arc::clone(&self.gateway);
        gateway.meters().count(&uplink);
        let posthouse = gateway.posthouse();
        match (&mut self.state, uplink) {
            (_, Uplink::Provision(login)) => self.provision(&login, out).await,
            (State::Fresh, Uplink::Logout) => {
                send(out, Downlink::Logout { status: Status::OK });
                Flow::Close(GOODBYE)
            }
            (State::Fresh, Uplink::Unread) => {
                refuse_unread(posthouse, Refusal::login_first(), out);
                Flow::Close(LOGIN_FIRST)
            }
            (State::Fresh, Uplink::Pull(Pull { queue, .. }) | Uplink::Roam(Roam { queue })) => {
                refuse_pull(posthouse, queue, Refusal::login_first(), out);
                Flow::Close(LOGIN_FIRST)
            }
            (State::Fresh, Uplink::Send(sent)) => {
                refuse_send(posthouse, sent.id, Refusal::login_first(), out);
                Flow::Close(LOGIN_FIRST)
            }
            (State::Ready(seat), Uplink::Unread) => {
                seat.unread(posthouse, out).await;
                Flow::Continue
            }
            (State::Ready(seat), Uplink::Pull(pull)) => {
                seat.refresh(posthouse);
                seat.pull(posthouse, pull, out).await;
                Flow::Continue
            }
            // The Web SDK asks over REST; what native clients expect in full is not known.
            (State::Ready(_), Uplink::Roam(roam)) => {
                refuse_pull(posthouse, roam.queue, Refusal::no_roaming(), out);
                Flow::Continue
            }
            (State::Ready(seat), Uplink::Send(sent)) => {
                seat.refresh(posthouse);
                seat.send(posthouse, &sent, out).await;
                Flow::Continue
            }
            (State::Ready(seat), Uplink::Logout) => {
                posthouse.close_session(&seat.caller, Ending::Polite);
                self.state = State::Fresh;
                send(out, Downlink::Logout { status: Status::OK });
                Flow::Close(GOODBYE)
            }
        }
    }

    /// Answers what can't be read, where the command has an answer that says so; what is out of step
    /// beyond that closes the socket.
    fn on_unreadable(&mut self, unreadable: Unreadable, out: &mut Outbox) -> Flow {
        tracing::debug!(%unreadable, "a frame could not be read");
        let posthouse = self.gateway.posthouse();
        match unreadable {
            Unreadable::Meta { id } if id != 0 => refuse_send(posthouse, id, Refusal::malformed(), out),
            Unreadable::Payload(Command::Unread) => refuse_unread(posthouse, Refusal::malformed(), out),
            Unreadable::Payload(Command::Logout) => {
                send(out, Downlink::Logout { status: Refusal::malformed().into() });
            }
            Unreadable::Payload(Command::Provision) => {
                let reply = ProvisionReply {
                    status: LoginFault::Unreadable.status(),
                    resource: String::new(),
                    session_id: None,
                    token_expires_at: None,
                    lz4: None,
                };
                send(out, Downlink::Provision(reply));
                self.leave(Ending::Lost);
                return Flow::Close(LOGIN_REFUSED);
            }
            Unreadable::Meta { .. }
            | Unreadable::Payload(Command::Sync | Command::Notice)
            | Unreadable::Envelope
            | Unreadable::UnknownCommand(_)
            | Unreadable::NotForServers(_)
            | Unreadable::Nothing => return Flow::Close(UNREADABLE),
        }
        match self.state {
            State::Fresh => Flow::Close(LOGIN_FIRST),
            State::Ready(_) => Flow::Continue,
        }
    }

    /// A login, also that of another user or device on a socket in use: the later one counts.
    async fn provision(&mut self, login: &Login, out: &mut Outbox) -> Flow {
        let denied = match self.admit(login).await {
            Ok(admitted) => match self.enter(admitted, login, out).await {
                Ok(()) => return Flow::Continue,
                Err(denied) => denied,
            },
            Err(denied) => denied,
        };
        self.leave(Ending::Lost);
        match denied {
            Denied::Fault(fault) => {
                let status = fault.status();
                count_error(status.code.as_str_name());
                send(out, Downlink::Provision(ProvisionReply::refusal(login, status)));
                Flow::Close(LOGIN_REFUSED)
            }
            Denied::Failure(Error::TooFast { .. }) => {
                count_error("TOO_MANY_LOGINS");
                Flow::Close(TRY_AGAIN)
            }
            // An SDK takes every refusal for final, but comes back to a socket that closes.
            Denied::Failure(error) => {
                tracing::warn!(%error, "a login could not be decided");
                Flow::Close(TRY_AGAIN)
            }
        }
    }

    async fn admit(&self, login: &Login) -> Result<Admitted, Denied> {
        let posthouse = self.gateway.posthouse();
        let Jid { app_key, name, .. } = &login.guid;
        if app_key.is_empty() {
            return Err(LoginFault::Parameter("the appKey is missing").into());
        }
        if name.is_empty() {
            return Err(LoginFault::Parameter("the user name is missing").into());
        }
        let app = posthouse.app_by_key(keys::APP_KEY, app_key).ok_or(LoginFault::UnknownApp)?;
        let device = self.device(login)?;
        let client = name::id_of(name).map_err(|_| LoginFault::Nobody)?;
        let client = ClientId::parse(&client).map_err(|_| LoginFault::Nobody)?;
        let token = login.token().ok_or(LoginFault::NoToken)?;
        let token_expires_at = self.check_token(&app, &client, &token).await?;
        Ok(Admitted { app, app_key: app_key.clone(), client, device, token, token_expires_at })
    }

    /// Until when the token of `client` is good.
    async fn check_token(&self, app: &App, client: &ClientId, token: &str) -> Result<Timestamp, Denied> {
        match self.gateway.auth().bearer(self.gateway.posthouse(), app, token).await {
            Ok(Bearer::User { account, expires_at }) if account.client == *client => Ok(expires_at),
            Ok(Bearer::User { .. } | Bearer::App) => Err(LoginFault::OthersToken.into()),
            Err(bad) => Err(LoginFault::of(bad).map_or_else(Denied::Failure, Denied::Fault)),
        }
    }

    /// The resource that the client asks for, or one made for a client that names none: it takes what
    /// the reply says (client 3.3).
    fn device(&self, login: &Login) -> Result<DeviceId, LoginFault> {
        let bad = |_| LoginFault::Parameter("the resource can't be used");
        match login.resource() {
            "" => DeviceId::parse(&format!("socket_{:016x}", self.gateway.posthouse().random())).map_err(bad),
            resource => DeviceId::parse(resource).map_err(bad),
        }
    }

    async fn enter(&mut self, admitted: Admitted, login: &Login, out: &mut Outbox) -> Result<(), Denied> {
        let Admitted { app, app_key, client, device, token, token_expires_at } = admitted;
        let posthouse = self.gateway.posthouse();
        posthouse.admit(&app, &client, Rate::Calls)?;
        // Before the session: nobody gives way to a login that fails.
        posthouse.open_device(&Caller::without_session(app.clone(), client.clone()), &device).await?;
        let caller = posthouse.open_session(OpenSession {
            app: app.clone(),
            client,
            device: Some(device.clone()),
            tag: None,
            resume: false,
            crowd: crowd(&app, &device),
            note: note(login),
            sink: Arc::new(Outlet(self.pusher.clone())),
        })?;
        // Whoever is banned from now on loses the session; that it did not happen a moment ago is only
        // known by looking once more.
        if let Err(denied) = self.check_token(&app, &caller.client, &token).await {
            posthouse.close_session(&caller, Ending::Polite);
            return Err(denied);
        }
        // Only now: a user who changes the device on one socket was never away.
        if let State::Ready(before) = &self.state {
            posthouse.close_session(&before.caller, Ending::Polite);
        }
        if self.unpacker.is_none() && app.settings.uplink_compression && login.offers_lz4() {
            self.unpacker = Some(lz4::Decoder::new(self.gateway.frame_max()));
        }
        let reply = ProvisionReply {
            status: Status::OK,
            resource: device.as_str().to_owned(),
            session_id: login.provision.session_id.clone(),
            token_expires_at: told_expiry(token_expires_at, posthouse.now()),
            lz4: self.unpacker.is_some().then_some(CompressDirection::OnlyUp),
        };
        send(out, Downlink::Provision(reply));
        self.state = State::Ready(Box::new(Seat {
            caller,
            device,
            app_key,
            lines: Lines::default(),
            listed: false,
            own_reads: Vec::new(),
        }));
        Ok(())
    }

    /// Ends the session, if there is one.
    fn leave(&mut self, how: Ending) {
        if let State::Ready(seat) = std::mem::replace(&mut self.state, State::Fresh) {
            self.gateway.posthouse().close_session(&seat.caller, how);
        }
    }
}

/// The device's place among the user's others: what stands before the first `_` of a resource is its
/// platform (client 3.2).
fn crowd(app: &App, device: &DeviceId) -> Option<Crowd> {
    let platform = device.as_str().split('_').next().unwrap_or_default();
    let platform: String = platform.chars().take(PLATFORM_CHARS_MAX).collect();
    let max = usize::try_from(app.settings.devices_per_platform_max).unwrap_or(usize::MAX);
    Some(Crowd { platform: Tag::parse(&platform).ok()?, max })
}

/// When the token ends, if a JavaScript timer can wait for that. Of what is farther away the Web SDK
/// makes 24.8 days, after which it would log out with a token that is still good; told nothing, it
/// sets no timer, and is told when it connects again.
fn told_expiry(expires_at: Timestamp, now: Timestamp) -> Option<i64> {
    (expires_at.ms_since(now) <= TIMER_MS_MAX).then_some(expires_at.0)
}

/// What the login has to say to a device that gives way.
fn note(login: &Login) -> Option<Arc<str>> {
    let said = login.provision.reason.as_deref().filter(|said| !said.is_empty())?;
    Some(said.chars().take(NOTE_CHARS_MAX).collect::<String>().into())
}

impl Seat {
    /// Takes over the app's settings as they are now.
    fn refresh(&mut self, posthouse: &Posthouse) {
        self.caller = posthouse.with_present_settings(&self.caller);
    }

    fn own(&self) -> Own<'_> {
        Own { app_key: &self.app_key, client: &self.caller.client, device: &self.device }
    }

    fn jid_of(&self, address: Option<&Address>) -> Jid {
        address.map_or_else(outbound::system_queue, |address| outbound::queue_of(address, &self.app_key))
    }

    /// "What waits?" The store is asked once; from then on everything that comes is heard of.
    async fn unread(&mut self, posthouse: &Posthouse, out: &mut Outbox) {
        if !self.listed {
            match posthouse.waiting(&self.caller, &self.device, LISTED_MAX).await {
                Ok(waiting) => {
                    self.lines.take_waiting(waiting);
                    self.listed = true;
                }
                // It asks again soon: this is the heartbeat too.
                Err(error) => tracing::warn!(%error, "what waits for a device could not be listed"),
            }
        }
        let listed = self.lines.listed();
        let queues =
            listed.iter().map(|Listed { address, entries }| (self.jid_of(address.as_ref()), *entries));
        let queues = queues.collect();
        send(out, Downlink::Unread { status: Status::OK, queues, timestamp: posthouse.now().0 });
    }

    /// "What is in this queue?", which also acknowledges what a key covers.
    async fn pull(&mut self, posthouse: &Posthouse, pull: Pull, out: &mut Outbox) {
        let timestamp = posthouse.now().0;
        let end = |queue| Downlink::End { status: Status::OK, queue, timestamp };
        let found = match self.find(posthouse, &pull.queue).await {
            Ok(Some(found)) => found,
            // A queue of nobody, or of others: it is empty, and says nothing else.
            Ok(None) => return send(out, end(pull.queue)),
            Err(error) => {
                tracing::warn!(%error, "a queue could not be found");
                return send(out, end(pull.queue));
            }
        };
        let (queue, address) = found;
        if let Some(place) = self.lines.acknowledge(queue, pull.key) {
            self.keep(posthouse, queue, place).await;
        }
        match self.next_batch(posthouse, queue, address.as_ref()).await {
            Ok(Batch { metas, end: at, .. }) if !metas.is_empty() => {
                let next_key = posthouse.unique_number();
                self.lines.batch_sent(queue, at, next_key);
                counter!("posthouse_messages_out_total").increment(metas.len() as u64);
                send(out, Downlink::Batch { queue: pull.queue, metas, next_key, timestamp });
            }
            Ok(Batch { end: at, more, .. }) => {
                if let Some(place) = self.lines.passed_over(queue, at) {
                    self.keep(posthouse, queue, place).await;
                }
                self.lines.emptied(queue);
                send(out, end(pull.queue));
                if more {
                    self.tell_again(queue, address.as_ref(), out);
                }
                self.tell_more(posthouse, out).await;
            }
            Err(
                Error::NotMember | Error::NotInRooms | Error::ConversationNotFound | Error::TemporaryOver,
            ) => {
                self.lines.forget(queue);
                send(out, end(pull.queue));
            }
            Err(error) => {
                // It stays in the list, so that the next heartbeat makes the client ask again.
                tracing::warn!(%error, "a queue could not be read");
                self.lines.is_still_told(queue, address.as_ref());
                send(out, end(pull.queue));
            }
        }
    }

    /// The queue that a client means; `None` for one that can't have anything for it.
    async fn find(
        &self,
        posthouse: &Posthouse,
        jid: &Jid,
    ) -> Result<Option<(Queue, Option<Address>)>, Error> {
        if jid.name.is_empty() {
            return Ok(Some((Queue::Inbox, None)));
        }
        let Ok(target) = inbound::target_of(jid, &self.app_key) else { return Ok(None) };
        let found = self.address(posthouse, &target).await?;
        let is_queue = |address: &Address| match address.kind {
            Kind::Direct | Kind::Group => true,
            Kind::Room | Kind::Temporary { .. } => false,
        };
        Ok(found.filter(is_queue).map(|address| (Queue::Conversation(address.id), Some(address))))
    }

    /// The conversation that a client means; `None` if there is none.
    async fn address(&self, posthouse: &Posthouse, target: &Target) -> Result<Option<Address>, Error> {
        let remembered = match target {
            Target::Conversation(id) => Some(*id),
            Target::Client(peer) => self.lines.direct(peer),
        };
        // Only a pair is called by its other one and only a group by its number: a pair that is remembered and
        // is called so may have become a group since.
        let fits = |address: &&Address| match target {
            Target::Client(_) => address.kind == Kind::Direct,
            Target::Conversation(_) => address.kind == Kind::Group,
        };
        if let Some(address) = remembered.and_then(|id| self.lines.address(id)).filter(fits) {
            return Ok(Some(address.clone()));
        }
        match posthouse.address(&self.caller, target).await {
            Err(Error::ConversationNotFound | Error::TemporaryOver) => Ok(None),
            found => found,
        }
    }

    /// What lies behind what was sent.
    async fn next_batch(
        &mut self,
        posthouse: &Posthouse,
        queue: Queue,
        address: Option<&Address>,
    ) -> Result<Batch, Error> {
        let (after, is_new) = match self.lines.sent(queue) {
            Some(sent) => (sent, false),
            None => (posthouse.position(&self.caller, &self.device, queue).await?, true),
        };
        let batch = match (queue, address) {
            (Queue::Conversation(_), Some(address)) => self.timeline(posthouse, address, after).await?,
            (Queue::Conversation(_), None) => return Err(Error::ConversationNotFound),
            (Queue::Inbox, _) => self.notes(posthouse, after).await?,
        };
        if is_new {
            self.lines.begin(queue, address, after);
        }
        Ok(batch)
    }

    async fn timeline(&self, posthouse: &Posthouse, address: &Address, after: u64) -> Result<Batch, Error> {
        let content = |body: &Body| posthouse.content(body);
        let mut batch = Batch::after(after);
        for _ in 0..READS_MAX {
            let from = Seq(batch.end);
            let stretch = posthouse.read_timeline(&self.caller, address.id, from, BATCH_ENTRIES_MAX).await?;
            for entry in &stretch.entries {
                if !batch.add(entry.seq.0, outbound::entry(entry, address, &self.own(), &content)) {
                    return Ok(batch);
                }
            }
            batch.look_to(stretch.end.0);
            batch.more = stretch.more && batch.end > from.0;
            if !batch.more || !batch.metas.is_empty() {
                break;
            }
        }
        Ok(batch)
    }

    async fn notes(&self, posthouse: &Posthouse, after: u64) -> Result<Batch, Error> {
        let mut batch = Batch::after(after);
        for _ in 0..READS_MAX {
            let notes = posthouse.read_notes(&self.caller, batch.end, BATCH_ENTRIES_MAX).await?;
            for note in &notes {
                let name = self.group_name(posthouse, note).await;
                if !batch.add(note.number, outbound::note(note, &self.own(), name.as_deref())) {
                    return Ok(batch);
                }
            }
            batch.more = notes.len() >= BATCH_ENTRIES_MAX;
            if !batch.more || !batch.metas.is_empty() {
                break;
            }
        }
        Ok(batch)
    }

    /// The name of the group that the client has come into.
    async fn group_name(&self, posthouse: &Posthouse, note: &Note) -> Option<String> {
        let NoteKind::Joined(joined) = &note.what else { return None };
        if joined.kind != Kind::Group {
            return None;
        }
        let group = posthouse.group(&self.caller.app, joined.conversation).await.ok()?;
        Some(group.attributes.get("name")?.as_str()?.to_owned())
    }

    /// A place that can't be kept only means that the next connection gets something twice.
    async fn keep(&self, posthouse: &Posthouse, queue: Queue, place: u64) {
        if let Err(error) = posthouse.set_position(&self.caller, &self.device, queue, place).await {
            tracing::warn!(%error, "a device's place could not be kept");
        }
    }

    fn tell_again(&mut self, queue: Queue, address: Option<&Address>, out: &mut Outbox) {
        let is_news = match (queue, address) {
            (Queue::Conversation(_), Some(address)) => self.lines.has_news(address, None),
            (Queue::Conversation(_), None) => false,
            (Queue::Inbox, _) => self.lines.inbox_has_news(),
        };
        if is_news {
            send(out, Downlink::Notice { queue: self.jid_of(address) });
        }
    }

    /// Tells of queues that had no room in the list.
    async fn tell_more(&mut self, posthouse: &Posthouse, out: &mut Outbox) {
        if !self.lines.wants_more() {
            return;
        }
        let waiting = posthouse.waiting(&self.caller, &self.device, LISTED_MAX).await;
        let waiting = waiting.unwrap_or_else(|error| {
            tracing::warn!(%error, "what waits for a device could not be listed");
            Waiting::default()
        });
        for Listed { address, .. } in self.lines.take_waiting(waiting) {
            send(out, Downlink::Notice { queue: self.jid_of(address.as_ref()) });
        }
    }

    /// Serves what the client sent and answers with its id. What has none waits for no answer, and an
    /// answer without an id would be taken for a delivery.
    async fn send(&mut self, posthouse: &Posthouse, sent: &SentMeta, out: &mut Outbox) {
        let sender = Sender { app_key: &self.app_key, client: &self.caller.client, device: &self.device };
        let outcome = match inbound::order(sent, &sender) {
            Ok(order) => self.obey(posthouse, order).await,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(Done { id, at, metas })) if sent.id != 0 => {
                let (server_id, timestamp) = (id.as_u64(), at.0);
                send(out, Downlink::Ack { meta_id: sent.id, server_id, timestamp, metas });
            }
            Ok(Some(_)) => {}
            Err(refusal) => refuse_send(posthouse, sent.id, refusal, out),
        }
    }

    /// What became of an order; `Ok(None)` for one that expects no answer.
    async fn obey(&mut self, posthouse: &Posthouse, order: Order) -> Result<Option<Done>, Refusal> {
        if let Some(operation) = counted(&order) {
            let admitted = posthouse.admit(&self.caller.app, &self.caller.client, Rate::Messages);
            admitted.map_err(|error| self.refused(operation, &error))?;
        }
        let (operation, done) = match order {
            Order::Post(post) => (Operation::Send, self.post(posthouse, post).await),
            Order::Acknowledge { target, message, read, note } => {
                (Operation::Receipt, self.acknowledge(posthouse, &target, message, read, note).await)
            }
            Order::MarkRead { target } => (Operation::Receipt, self.mark_read(posthouse, &target).await),
            Order::Recall { target, message, body } => {
                (Operation::Recall, self.recall(posthouse, &target, message, body).await)
            }
            Order::Edit { target, message, edit } => {
                return self.edit(posthouse, &target, message, edit).await.map(Some);
            }
            Order::Room { id } => return Err(Refusal::no_room(&id)),
            Order::Nothing => return Ok(None),
        };
        done.map(Some).map_err(|error| self.refused(operation, &error))
    }

    async fn post(&mut self, posthouse: &Posthouse, post: PostMessage) -> Result<Done, Error> {
        let peer = match &post.to {
            Target::Client(peer) => Some(peer.clone()),
            Target::Conversation(_) => {
                // By its number a room or a pair could be meant too, where a group's message is nothing.
                let found = self.address(posthouse, &post.to).await?;
                found.filter(|found| found.kind == Kind::Group).ok_or(Error::ConversationNotFound)?;
                None
            }
        };
        let posted = posthouse.post_message(&self.caller, post).await?;
        counter!("posthouse_messages_in_total").increment(1);
        if posted.seq > Seq(0) {
            let kind = if peer.is_some() { Kind::Direct } else { Kind::Group };
            let address = Address { id: posted.conversation, kind, peer };
            self.said(posthouse, &address, posted.seq).await;
        }
        Ok(Done { id: posted.id, at: posted.timestamp, metas: Vec::new() })
    }

    /// This device needs not be sent what it has said itself.
    async fn said(&mut self, posthouse: &Posthouse, address: &Address, at: Seq) {
        let queue = Queue::Conversation(address.id);
        if self.lines.sent(queue).is_none() {
            let Ok(position) = posthouse.position(&self.caller, &self.device, queue).await else { return };
            self.lines.begin(queue, Some(address), position);
        }
        if let Some(place) = self.lines.own(queue, at) {
            self.keep(posthouse, queue, place).await;
        }
    }

    /// One message was received or read. Of what nobody keeps there is nothing to acknowledge, and the
    /// SDK, which does this by itself, has no use for being told so.
    async fn acknowledge(
        &self,
        posthouse: &Posthouse,
        target: &Target,
        message: MessageId,
        read: bool,
        note: Option<Arc<str>>,
    ) -> Result<Done, Error> {
        if let Some(address) = self.address(posthouse, target).await? {
            let acknowledge = Acknowledge { conversation: address.id, message, read, note };
            match posthouse.acknowledge(&self.caller, acknowledge).await {
                Ok(()) | Err(Error::MessageNotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.done_now(posthouse))
    }

    /// The whole conversation was read; in one that doesn't exist there is nothing to read.
    async fn mark_read(&mut self, posthouse: &Posthouse, target: &Target) -> Result<Done, Error> {
        if let Some(Address { id, .. }) = self.address(posthouse, target).await? {
            if self.own_reads.len() >= OWN_READS_MAX {
                self.own_reads.remove(0);
            }
            self.own_reads.push(id);
            let device = Some(self.device.clone());
            let mark = MarkRead { conversation: id, until: None, id: None, device };
            if let Err(error) = posthouse.mark_read(&self.caller, mark).await {
                self.own_reads.retain(|read| *read != id);
                return Err(error);
            }
        }
        Ok(self.done_now(posthouse))
    }

    async fn recall(
        &mut self,
        posthouse: &Posthouse,
        target: &Target,
        message: MessageId,
        body: Body,
    ) -> Result<Done, Error> {
        let address = self.address(posthouse, target).await?.ok_or_else(|| missing(target))?;
        let window_ms = i64::from(self.caller.app.settings.recall_window_seconds) * 1_000;
        let patch = PatchMessage {
            conversation: address.id,
            message,
            timestamp: None,
            body,
            mentions: Mentions::default(),
            authority: authority(&address),
            not_before: Some(posthouse.now().plus_ms(-window_ms)),
            edits_max: None,
        };
        let patched = posthouse.patch_message(&self.caller, patch).await?.patch;
        self.said(posthouse, &address, patched.seq).await;
        Ok(Done { id: posthouse.stamp().id, at: patched.at, metas: Vec::new() })
    }

    async fn edit(
        &mut self,
        posthouse: &Posthouse,
        target: &Target,
        message: MessageId,
        edit: Edit,
    ) -> Result<Done, Refusal> {
        let refused = |error: Error| self.refused(Operation::Edit, &error);
        let found = self.address(posthouse, target).await.map_err(refused)?;
        let address = found.ok_or_else(|| refused(missing(target)))?;
        let before = posthouse.message(&self.caller, address.id, message).await.map_err(refused)?;
        let content = |body: &Body| posthouse.content(body);
        let edited = edit.onto(&before, &content)?;
        let patch = PatchMessage {
            conversation: address.id,
            message,
            timestamp: None,
            body: edited.body,
            mentions: edited.mentions,
            authority: authority(&address),
            not_before: None,
            edits_max: Some(self.caller.app.settings.edits_max),
        };
        let patched = posthouse.patch_message(&self.caller, patch).await.map_err(refused)?.patch;
        self.said(posthouse, &address, patched.seq).await;
        let metas = vec![outbound::edit_ack(&patched)];
        Ok(Done { id: posthouse.stamp().id, at: patched.at, metas })
    }

    fn refused(&self, operation: Operation, error: &Error) -> Refusal {
        if let Some(setting) = setting_of(error) {
            tracing::info!(app = %self.caller.app.id, setting, "refused: the setting switches it off");
        }
        refusal(operation, error)
    }

    fn done_now(&self, posthouse: &Posthouse) -> Done {
        let stamp = posthouse.stamp();
        Done { id: stamp.id, at: stamp.timestamp, metas: Vec::new() }
    }

    /// Tells the device of an event: where something is kept, by naming its queue.
    fn on_event(&mut self, posthouse: &Posthouse, event: &Event, out: &mut Outbox) -> Flow {
        match event {
            Event::MessagePosted { message, kind, pair, transient: true } => {
                if is_ours(*kind) && outbound::is_for(&self.own(), &message.body) {
                    let content = |body: &Body| posthouse.content(body);
                    let (queue, meta) =
                        outbound::transient(message, *kind, pair.as_deref(), &self.own(), &content);
                    counter!("posthouse_messages_out_total").increment(1);
                    send(out, Downlink::Push { queue, metas: vec![meta], timestamp: posthouse.now().0 });
                }
            }
            Event::MessagePosted { message, kind, pair, transient: false } => {
                self.notice(message.conversation, *kind, pair.as_deref(), Some(message.seq), out);
            }
            Event::MessagePatched { patch, pair } => {
                self.notice(patch.conversation, patch.kind, pair.as_deref(), Some(patch.seq), out);
            }
            Event::MembersJoined(members) | Event::MembersLeft(members) => {
                self.notice(members.conversation, members.kind, None, None, out);
            }
            Event::Updated(update) => self.notice(update.conversation, update.kind, None, None, out),
            Event::Joined(members) => {
                if members.kind == Kind::Group {
                    self.notice_inbox(out);
                }
            }
            Event::Left(members) => {
                self.lines.forget(Queue::Conversation(members.conversation));
                if is_ours(members.kind) {
                    self.notice_inbox(out);
                }
            }
            Event::UnreadChanged { unread, .. } => {
                let own = self.own_reads.iter().position(|read| *read == unread.conversation);
                match own {
                    Some(at) => drop(self.own_reads.remove(at)),
                    None if is_ours(unread.kind) => self.notice_inbox(out),
                    None => {}
                }
            }
            Event::Receipt(receipt) => {
                if !receipt.conversation.is_temporary() {
                    self.notice_inbox(out);
                }
            }
            Event::Noted => self.notice_inbox(out),
            Event::Presence(_) => {}
            Event::SessionEnded { end, note } => {
                let metas =
                    vec![outbound::kick(posthouse.unique_number(), *end, note.as_deref(), &self.own())];
                let queue = outbound::system_queue();
                send(out, Downlink::Push { queue, metas, timestamp: posthouse.now().0 });
                return Flow::Close(ENDED);
            }
        }
        Flow::Continue
    }

    /// Something came into a conversation.
    fn notice(
        &mut self,
        id: ConversationId,
        kind: Kind,
        pair: Option<&[ClientId]>,
        at: Option<Seq>,
        out: &mut Outbox,
    ) {
        let peer = match (kind, pair) {
            (Kind::Direct, Some(pair)) => {
                let me = &self.caller.client;
                Some(pair.iter().find(|client| *client != me).unwrap_or(me).clone())
            }
            // What changes in a pair without being said in it concerns no Easemob client.
            (Kind::Direct, None) | (Kind::Room | Kind::Temporary { .. }, _) => return,
            (Kind::Group, _) => None,
        };
        let address = Address { id, kind, peer };
        if self.lines.has_news(&address, at) {
            send(out, Downlink::Notice { queue: self.jid_of(Some(&address)) });
        }
    }

    fn notice_inbox(&mut self, out: &mut Outbox) {
        if self.lines.inbox_has_news() {
            send(out, Downlink::Notice { queue: outbound::system_queue() });
        }
    }
}

/// What is refused if a client says too much. Receipts, marks and pulls come as often as others send
/// messages, and SDKs don't expect to be refused them: only the connection's frames bound them.
fn counted(order: &Order) -> Option<Operation> {
    match order {
        Order::Post(_) => Some(Operation::Send),
        Order::Recall { .. } => Some(Operation::Recall),
        Order::Edit { .. } => Some(Operation::Edit),
        Order::Acknowledge { .. } | Order::MarkRead { .. } | Order::Room { .. } | Order::Nothing => None,
    }
}

/// An order that was carried out.
struct Done {
    id: MessageId,
    at: Timestamp,
    metas: Vec<Bytes>,
}

/// Whether Easemob clients hear of conversations of this kind.
fn is_ours(kind: Kind) -> bool {
    match kind {
        Kind::Direct | Kind::Group => true,
        Kind::Room | Kind::Temporary { .. } => false,
    }
}

/// Groups have owners and administrators, who may change what others said there.
fn authority(address: &Address) -> Authority {
    match address.kind {
        Kind::Group => Authority::Moderator,
        Kind::Direct | Kind::Room | Kind::Temporary { .. } => Authority::Member,
    }
}

/// What is missing where there is no conversation.
fn missing(target: &Target) -> Error {
    match target {
        Target::Client(_) => Error::MessageNotFound,
        Target::Conversation(_) => Error::ConversationNotFound,
    }
}

impl Protocol for Connection {
    type Push = Push;

    fn phase(&self) -> Phase {
        match self.state {
            State::Fresh => Phase::Fresh,
            State::Ready(_) => Phase::Ready,
        }
    }

    async fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> Flow {
        let packed = match frame {
            Frame::Binary(bytes) => bytes,
            Frame::Text(_) => return Flow::Close(NO_TEXT),
        };
        let plain = match &mut self.unpacker {
            None => packed,
            Some(unpacker) => match unpacker.decode(&packed) {
                Ok(plain) => plain,
                Err(corrupt) => {
                    tracing::debug!(%corrupt, "a frame could not be unpacked");
                    return Flow::Close(UNREADABLE);
                }
            },
        };
        match frame::decode(plain) {
            Ok(uplink) => self.on_request(uplink, out).await,
            Err(unreadable) => self.on_unreadable(unreadable, out),
        }
    }

    fn on_push(&mut self, push: Push, out: &mut Outbox) -> Flow {
        let gateway = Arc::clone(&self.gateway);
        match &mut self.state {
            // Of a session that has left meanwhile, nobody wants to hear.
            State::Ready(seat) if seat.caller.session == push.session => {
                let flow = seat.on_event(gateway.posthouse(), &push.event, out);
                if push.event.session_end().is_some() {
                    self.state = State::Fresh;
                }
                flow
            }
            State::Ready(_) | State::Fresh => Flow::Continue,
        }
    }

    /// This wire has no word for it: sockets close when the grace time is over, and SDKs come back.
    fn on_drain(&mut self, _out: &mut Outbox) {}

    fn close_for(&self, end: End) -> Close {
        match end {
            End::Idle => Close { code: 1001, reason: "nothing was heard of the client for too long" },
            End::LoginTimeout => Close { code: 1008, reason: "nobody logged in in time" },
            End::FrameTooLong => Close { code: 1009, reason: "the frame is too long" },
            End::Flood => FLOOD,
            End::Slow => TRY_AGAIN,
            End::Drained | End::PeerClosed | End::Lost | End::ByProtocol => {
                Close { code: 1001, reason: "the server is going away" }
            }
        }
    }

    async fn on_end(mut self, end: End) {
        self.leave(match end {
            End::Drained => Ending::Drained,
            // Some clients just close when they log out, and so does a page that is closed.
            End::PeerClosed
            | End::Lost
            | End::Idle
            | End::LoginTimeout
            | End::FrameTooLong
            | End::Flood
            | End::Slow
            | End::ByProtocol => Ending::Lost,
        });
    }
}

const TRY_AGAIN: Close = Close { code: 1013, reason: "try again later" };
const FLOOD: Close = Close { code: 1008, reason: "too many pings, or too many messages before login" };
const GOODBYE: Close = Close { code: 1000, reason: "logged out" };
const ENDED: Close = Close { code: 1000, reason: "the session is over" };
const LOGIN_REFUSED: Close = Close { code: 1008, reason: "the login was refused" };
const LOGIN_FIRST: Close = Close { code: 1008, reason: "log in first" };
const UNREADABLE: Close = Close { code: 1007, reason: "what was sent can't be read" };
const NO_TEXT: Close = Close { code: 1003, reason: "only binary frames are spoken here; base64 text is not" };

fn send(out: &mut Outbox, downlink: Downlink) {
    out.push(Frame::Binary(downlink.encode()));
}

fn refuse_send(posthouse: &Posthouse, meta_id: u64, refusal: Refusal, out: &mut Outbox) {
    count_error(refusal.label());
    if meta_id != 0 {
        let timestamp = posthouse.now().0;
        send(out, Downlink::Refusal { meta_id, status: refusal.into(), timestamp });
    }
}

fn refuse_pull(posthouse: &Posthouse, queue: Jid, refusal: Refusal, out: &mut Outbox) {
    count_error(refusal.label());
    send(out, Downlink::End { status: refusal.into(), queue, timestamp: posthouse.now().0 });
}

fn refuse_unread(posthouse: &Posthouse, refusal: Refusal, out: &mut Outbox) {
    count_error(refusal.label());
    let (status, timestamp) = (refusal.into(), posthouse.now().0);
    send(out, Downlink::Unread { status, queues: Vec::new(), timestamp });
}

fn count_error(code: &'static str) {
    counter!("posthouse_errors_total", "code" => code).increment(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::app::Settings;
    use posthouse_core::id::AppId;

    use super::*;
    use crate::wire::proto::Provision;

    fn app(devices_per_platform_max: u32) -> App {
        App {
            id: AppId::parse("a1").unwrap(),
            name: "shop".to_owned(),
            keys: std::collections::BTreeMap::new(),
            settings: Settings { devices_per_platform_max, ..Settings::default() },
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn a_platform_is_what_stands_before_the_first_underscore() {
        let platform = |resource: &str| {
            let crowd = crowd(&app(4), &DeviceId::parse(resource).unwrap())?;
            Some((crowd.platform.as_str().to_owned(), crowd.max))
        };
        assert_eq!(platform("webim_web_1795302128786"), Some(("webim".to_owned(), 4)));
        assert_eq!(platform("ios"), Some(("ios".to_owned(), 4)));
        assert_eq!(platform("_x"), None);
        assert_eq!(platform(&"x".repeat(500)), Some(("x".repeat(64), 4)));
    }

    fn login(reason: Option<&str>) -> Login {
        let reason = reason.map(str::to_owned);
        let provision = Provision { reason, ..Provision::default() };
        Login { guid: Jid::person("acme#shop", "alice"), auth: None, provision }
    }

    #[test]
    fn what_a_login_says_to_the_device_it_replaces_is_cut() {
        assert_eq!(note(&login(None)), None);
        assert_eq!(note(&login(Some(""))), None);
        assert_eq!(note(&login(Some("from my phone"))).as_deref(), Some("from my phone"));
        assert_eq!(note(&login(Some(&"猫".repeat(2_000)))).unwrap().chars().count(), 1_024);
    }

    #[test]
    fn an_end_too_far_for_a_timer_is_not_told() {
        assert_eq!(told_expiry(Timestamp(5_000), Timestamp(4_000)), Some(5_000));
        assert_eq!(told_expiry(Timestamp(TIMER_MS_MAX + 5), Timestamp(5)), Some(TIMER_MS_MAX + 5));
        assert_eq!(told_expiry(Timestamp(TIMER_MS_MAX + 6), Timestamp(5)), None);
    }

    #[test]
    fn only_groups_have_moderators() {
        let of = |kind| authority(&Address { id: ConversationId::lasting(1), kind, peer: None });
        assert_eq!(of(Kind::Group), Authority::Moderator);
        assert_eq!(of(Kind::Direct), Authority::Member);
    }

    #[test]
    fn a_session_that_watches_nobody_is_not_filled_with_presence() {
        use posthouse_core::event::PresenceEvent;

        let (pusher, queue) = posthouse_transport::send_queue(4, 4_096);
        let outlet = Outlet(pusher);
        let conversation = ConversationId::lasting(1);
        let presence = PresenceEvent { conversation, online: true, clients: Vec::new() };
        assert!(outlet.try_push(SessionId(1), Arc::new(Event::Presence(presence).into())));
        assert_eq!(queue.len(), 0);
        assert!(outlet.try_push(SessionId(1), Arc::new(Event::Noted.into())));
        assert_eq!(queue.len(), 1);
    }
}
