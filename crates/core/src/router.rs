//! The router: who is online in this process, and how events reach them.
//!
//! It holds live sessions, the audience of chat rooms, wills, and the grace time of lost
//! connections. Nothing here is durable and nothing here waits: an event is handed to each
//! session's [`Sink`], and a sink that is full loses its connection, not the sender's time.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::app::Settings;
use crate::error::{Error, Result};
use crate::event::{Audience, Bulletin, Delivery, Event, PresenceEvent, SessionEnd};
use crate::id::{AppId, ClientId, ConversationId, DeviceId, SessionId, Tag};
use crate::message::Message;
use crate::presence::{PresenceView, Roster, Subscriptions};
use crate::session::{Caller, Ending, OpenSession, Sink};
use crate::time::Timestamp;

/// The live side of one process.
#[derive(Default)]
pub struct Router {
    live: Mutex<Live>,
    last_session: AtomicU64,
}

#[derive(Default)]
struct Live {
    sessions: HashMap<SessionId, Session>,
    clients: ByClient<Vec<Outlet>>,
    /// Shared with deliveries under way, so that a large room is not copied for each.
    rooms: HashMap<ConversationId, Arc<Vec<Outlet>>>,
    /// Lost connections whose grace time runs, by its end.
    departures: BTreeMap<(Timestamp, SessionId), Departure>,
    /// The departures of each client.
    departing: ByClient<Vec<(Timestamp, SessionId)>>,
    /// Rooms to put returning devices back into.
    returns: HashMap<(AppId, ClientId, DeviceId), RoomReturn>,
    subscriptions: Subscriptions,
    /// When returns and subscriptions are looked through next for those that have run out.
    next_expiry: Timestamp,
}

/// Something for each client, found without a copy of its names.
struct ByClient<T>(HashMap<AppId, HashMap<ClientId, T>>);

/// Where a session is reached.
#[derive(Clone)]
struct Outlet {
    session: SessionId,
    sink: Arc<dyn Sink>,
}

struct Session {
    app: AppId,
    client: ClientId,
    device: Option<DeviceId>,
    tag: Option<Tag>,
    platform: Option<Tag>,
    sink: Arc<dyn Sink>,
    room: Option<ConversationId>,
    will: Option<Will>,
}

/// What to say when a client's connection is lost.
#[derive(Clone, Debug)]
pub struct Will {
    /// The message, stamped when it was accepted.
    pub message: Message,
}

/// A lost connection whose grace time is over.
pub struct Departure {
    /// The tenant.
    pub app: AppId,
    /// Who was lost.
    pub client: ClientId,
    /// What to say now.
    pub will: Option<Will>,
    device: Option<DeviceId>,
}

struct RoomReturn {
    room: ConversationId,
    until: Timestamp,
}

/// The most devices remembered for their return to a room; the oldest are not needed in practice,
/// and beyond the bound a device simply joins again by itself.
const RETURNS_MAX: usize = 100_000;

/// How often memory of what has run out is given back.
const EXPIRY_EVERY_MS: i64 = 5_000;

impl Router {
    /// Opens a session. An older session of the same device is replaced, one that holds the same
    /// tag on another device is displaced (or, when resuming, keeps it: `SessionTaken`).
    pub fn open(&self, open: OpenSession, now: Timestamp) -> Result<Caller> {
        let mut live = self.lock();
        let app = open.app.id.clone();
        // Before older sessions give way: a client that changes its device was never away.
        let was_online = live.is_present(&app, &open.client);
        let mine = live.sessions_of(&app, &open.client);
        let mut replaced = Vec::new();
        let mut displaced = Vec::new();
        let mut crowd = Vec::new();
        for id in mine {
            let Some(session) = live.sessions.get(&id) else { continue };
            let same_device = open.device.is_some() && session.device == open.device;
            if same_device && session.tag == open.tag {
                replaced.push(id);
            } else if open.tag.is_some() && session.tag == open.tag {
                displaced.push(id);
            } else if session.platform.is_some()
                && session.platform.as_ref() == open.crowd.as_ref().map(|crowd| &crowd.platform)
            {
                crowd.push(id);
            }
        }
        // Sessions are in the order in which they came.
        if let Some(max) = open.crowd.as_ref().map(|crowd| crowd.max).filter(|max| *max > 0) {
            let too_many = (crowd.len() + 1).saturating_sub(max);
            displaced.extend(crowd.drain(..too_many.min(crowd.len())));
        }
        if open.resume && !displaced.is_empty() {
            return Err(Error::SessionTaken);
        }
        for id in displaced {
            if let Some(session) = live.remove_session(id) {
                session.end(id, SessionEnd::Displaced, open.note.as_ref());
            }
        }
        let mut will = None;
        let mut room = None;
        for id in replaced {
            if let Some(session) = live.remove_session(id) {
                session.end(id, SessionEnd::Replaced, open.note.as_ref());
                will = will.or(session.will);
                room = room.or(session.room);
            }
        }
        if let Some(device) = &open.device {
            let carried_on = live.cancel_departure(&app, &open.client, device);
            will = will.or(carried_on);
            let back = live.returns.remove(&(app.clone(), open.client.clone(), device.clone()));
            let left_room = back.filter(|back| back.until > now).map(|back| back.room);
            room = room.or(left_room);
        }
        let id = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let caller = Caller { app: open.app, client: open.client.clone(), session: id };
        let outlet = Outlet { session: id, sink: Arc::clone(&open.sink) };
        live.clients.entry(&app, &open.client).push(outlet);
        live.sessions.insert(
            id,
            Session {
                app,
                client: open.client,
                device: open.device,
                tag: open.tag,
                platform: open.crowd.map(|crowd| crowd.platform),
                sink: open.sink,
                room: None,
                will,
            },
        );
        metrics::gauge!("posthouse_sessions").increment(1);
        if let Some(room) = room {
            live.enter_room(id, room);
        }
        if !was_online {
            live.tell_presence(&caller.app.id, &caller.client, true, now);
        }
        Ok(caller)
    }

    /// Ends a session. Ending one that is over already does nothing. `settings` are those in force now.
    pub fn close(&self, caller: &Caller, how: Ending, settings: &Settings, now: Timestamp) {
        let mut live = self.lock();
        let Some(session) = live.remove_session(caller.session) else { return };
        match how {
            Ending::Polite => {}
            Ending::Drained => return,
            Ending::Lost => {
                if let (Some(room), Some(device)) = (session.room, &session.device) {
                    let until = now.plus_ms(i64::from(settings.room_return_seconds) * 1_000);
                    if live.returns.len() < RETURNS_MAX {
                        live.returns.insert(
                            (session.app.clone(), session.client.clone(), device.clone()),
                            RoomReturn { room, until },
                        );
                    }
                }
                let due = now.plus_ms(i64::from(settings.will_grace_seconds) * 1_000);
                live.departing.entry(&session.app, &session.client).push((due, caller.session));
                let departure = Departure {
                    app: session.app,
                    client: session.client,
                    will: session.will,
                    device: session.device,
                };
                live.departures.insert((due, caller.session), departure);
                return;
            }
        }
        if !live.is_present(&session.app, &session.client) {
            live.tell_presence(&session.app, &session.client, false, now);
        }
    }

    /// Ends the client's sessions, or only those of one device, with an event that says why. They leave
    /// no will and are offline at once. Returns how many.
    pub fn dismiss(
        &self,
        app: &AppId,
        client: &ClientId,
        device: Option<&DeviceId>,
        end: SessionEnd,
        now: Timestamp,
    ) -> usize {
        let mut live = self.lock();
        let mut ended = 0;
        for id in live.sessions_of(app, client) {
            let Some(session) = live.sessions.get(&id) else { continue };
            if device.is_none_or(|device| session.device.as_ref() == Some(device))
                && let Some(session) = live.remove_session(id)
            {
                session.end(id, end, None);
                ended += 1;
            }
        }
        if ended > 0 && !live.is_present(app, client) {
            live.tell_presence(app, client, false, now);
        }
        ended
    }

    /// The devices on which the client has a live session, in the order in which they came.
    #[must_use]
    pub fn devices(&self, app: &AppId, client: &ClientId) -> Vec<DeviceId> {
        let live = self.lock();
        let mine = live.clients.get(app, client).into_iter().flatten();
        mine.filter_map(|outlet| live.sessions.get(&outlet.session)?.device.clone()).collect()
    }

    /// Takes out the departures whose grace time is over and tells who watches those clients.
    /// Also drops what has run out: subscriptions and room returns.
    pub fn take_departed(&self, now: Timestamp) -> Vec<Departure> {
        let mut live = self.lock();
        let mut departed = Vec::new();
        while let Some(entry) = live.departures.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (at, departure) = entry.remove_entry();
            live.departed_once(&departure.app, &departure.client, at);
            if !live.is_present(&departure.app, &departure.client) {
                live.tell_presence(&departure.app, &departure.client, false, now);
            }
            departed.push(departure);
        }
        // What has run out has no effect any more; looking through all of it is only for the memory.
        if live.next_expiry <= now || live.next_expiry > now.plus_ms(EXPIRY_EVERY_MS) {
            live.next_expiry = now.plus_ms(EXPIRY_EVERY_MS);
            live.returns.retain(|_, back| back.until > now);
            live.subscriptions.expire(now);
        }
        departed
    }

    /// Whether the caller's session is still open.
    #[cfg(test)]
    fn is_open(&self, caller: &Caller) -> bool {
        self.lock().sessions.contains_key(&caller.session)
    }

    /// Those of `clients` that have a live session, in the order given.
    #[must_use]
    pub fn online(&self, app: &AppId, clients: &[ClientId]) -> Vec<ClientId> {
        let live = self.lock();
        clients.iter().filter(|client| live.clients.get(app, client).is_some()).cloned().collect()
    }

    /// How many sessions are open.
    #[cfg(test)]
    fn session_count(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Sets the session's will, in place of an earlier one.
    pub fn set_will(&self, caller: &Caller, will: Will) -> Result<()> {
        let mut live = self.lock();
        let session = live.sessions.get_mut(&caller.session).ok_or(Error::SessionOver)?;
        session.will = Some(will);
        Ok(())
    }

    /// Puts the session into a room; it leaves the one it was in.
    pub fn enter_room(&self, caller: &Caller, room: ConversationId) -> Result<()> {
        let mut live = self.lock();
        if !live.sessions.contains_key(&caller.session) {
            return Err(Error::SessionOver);
        }
        live.enter_room(caller.session, room);
        Ok(())
    }

    /// Takes the session out of a room, if it is in it.
    pub fn leave_room(&self, caller: &Caller, room: ConversationId) {
        let mut live = self.lock();
        if live.sessions.get(&caller.session).and_then(|session| session.room) == Some(room) {
            live.leave_room(caller.session);
        }
    }

    /// The room the session is in.
    #[must_use]
    pub fn room_of(&self, caller: &Caller) -> Option<ConversationId> {
        self.lock().sessions.get(&caller.session).and_then(|session| session.room)
    }

    /// The clients in a room, each once, at most `limit`.
    #[must_use]
    pub fn room_clients(&self, room: ConversationId, limit: usize) -> Vec<ClientId> {
        let live = self.lock();
        let mut clients: Vec<_> = live
            .rooms
            .get(&room)
            .into_iter()
            .flat_map(|audience| audience.iter())
            .filter_map(|outlet| live.sessions.get(&outlet.session))
            .map(|session| session.client.clone())
            .collect();
        clients.sort_unstable();
        clients.dedup();
        clients.truncate(limit);
        clients
    }

    /// Hands an event to its audience. Never waits; sinks are called outside the lock.
    pub fn deliver(&self, delivery: &Delivery<'_>) {
        let push = |outlet: &Outlet| {
            if Some(outlet.session) != delivery.except
                && !outlet.sink.try_push(outlet.session, Arc::clone(&delivery.event))
            {
                metrics::counter!("posthouse_pushes_refused_total").increment(1);
            }
        };
        match delivery.audience {
            Audience::Clients(clients) => {
                let outlets: Vec<Outlet> = {
                    let live = self.lock();
                    let Some(online) = live.clients.0.get(delivery.app) else { return };
                    clients.iter().filter_map(|client| online.get(client)).flatten().cloned().collect()
                };
                outlets.iter().for_each(push);
            }
            Audience::Room(room) => {
                let Some(outlets) = self.lock().rooms.get(&room).cloned() else { return };
                outlets.iter().for_each(push);
            }
        }
    }

    /// Starts or renews a subscription to the presence of a conversation's members.
    pub(crate) fn watch(&self, caller: &Caller, roster: Roster<'_>, until: Option<Timestamp>) -> Result<()> {
        let mut live = self.lock();
        if !live.sessions.contains_key(&caller.session) {
            return Err(Error::SessionOver);
        }
        if live.subscriptions.watch(&caller.app.id, caller.session, &caller.client, roster, until) {
            Ok(())
        } else {
            Err(Error::TooManyWatched { max: crate::presence::WATCHED_MAX })
        }
    }

    /// Corrects a watched conversation's members, unless newer ones are known.
    pub(crate) fn set_roster(&self, roster: Roster<'_>) {
        self.lock().subscriptions.set_roster(roster);
    }

    /// Ends a subscription, if there is one.
    pub(crate) fn unwatch(&self, caller: &Caller, conversation: ConversationId) {
        self.lock().subscriptions.unwatch(caller.session, conversation);
    }

    /// The members' present state, with the grace time of lost connections counted as online.
    pub(crate) fn presence(
        &self,
        app: &AppId,
        members: &[ClientId],
        ttl_seconds: Option<i64>,
    ) -> PresenceView {
        let live = self.lock();
        let (online, offline) = members.iter().cloned().partition(|member| live.is_present(app, member));
        PresenceView { online, offline, ttl_seconds }
    }

    /// Tells subscribers about members who have come, and forgets those who have gone.
    pub(crate) fn members_changed(
        &self,
        app: &AppId,
        roster: Roster<'_>,
        joined: &[ClientId],
        now: Timestamp,
    ) {
        let mut live = self.lock();
        live.subscriptions.set_roster(roster);
        let watchers = live.subscriptions.watchers_in(roster.conversation, now);
        if watchers.is_empty() {
            return;
        }
        let (online, offline): (Vec<_>, Vec<_>) =
            joined.iter().cloned().partition(|member| live.is_present(app, member));
        for (clients, online) in [(online, true), (offline, false)] {
            if !clients.is_empty() {
                live.push_presence(
                    &watchers,
                    PresenceEvent { conversation: roster.conversation, online, clients },
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // Every change of `Live` is complete before anything in it can panic.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for ByClient<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByClient<Vec<T>> {
    fn get(&self, app: &AppId, client: &ClientId) -> Option<&Vec<T>> {
        self.0.get(app)?.get(client)
    }

    fn entry(&mut self, app: &AppId, client: &ClientId) -> &mut Vec<T> {
        let clients = self.0.entry(app.clone()).or_default();
        // Nearly everybody has one device.
        clients.entry(client.clone()).or_insert_with(|| Vec::with_capacity(1))
    }

    /// Keeps what is to be kept of a client's, and nothing of a client that is left with nothing.
    fn retain(&mut self, app: &AppId, client: &ClientId, keep: impl FnMut(&T) -> bool) {
        let Some(clients) = self.0.get_mut(app) else { return };
        let Some(mine) = clients.get_mut(client) else { return };
        mine.retain(keep);
        if mine.is_empty() {
            clients.remove(client);
            if clients.is_empty() {
                self.0.remove(app);
            }
        }
    }
}

impl Session {
    /// Tells it that it is over; a sink that is full loses its connection, which is as good.
    fn end(&self, id: SessionId, end: SessionEnd, note: Option<&Arc<str>>) {
        let ended = Event::SessionEnded { end, note: note.cloned() };
        self.sink.try_push(id, Arc::new(ended.into()));
    }
}

impl Live {
    /// Takes a session out of everything; what is returned still tells the room it was in.
    fn remove_session(&mut self, id: SessionId) -> Option<Session> {
        let room = self.sessions.get(&id)?.room;
        self.leave_room(id);
        self.subscriptions.forget_session(id);
        let mut session = self.sessions.remove(&id)?;
        metrics::gauge!("posthouse_sessions").decrement(1);
        session.room = room;
        self.clients.retain(&session.app, &session.client, |outlet| outlet.session != id);
        Some(session)
    }

    fn enter_room(&mut self, id: SessionId, room: ConversationId) {
        self.leave_room(id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.room = Some(room);
            let outlet = Outlet { session: id, sink: Arc::clone(&session.sink) };
            Arc::make_mut(self.rooms.entry(room).or_default()).push(outlet);
        }
    }

    fn leave_room(&mut self, id: SessionId) {
        let Some(room) = self.sessions.get_mut(&id).and_then(|session| session.room.take()) else { return };
        if let Some(audience) = self.rooms.get_mut(&room) {
            Arc::make_mut(audience).retain(|outlet| outlet.session != id);
            if audience.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    /// Online, or lost so recently that nobody was told.
    fn is_present(&self, app: &AppId, client: &ClientId) -> bool {
        self.clients.get(app, client).is_some() || self.departing.get(app, client).is_some()
    }

    fn sessions_of(&self, app: &AppId, client: &ClientId) -> Vec<SessionId> {
        self.clients.get(app, client).into_iter().flatten().map(|outlet| outlet.session).collect()
    }

    fn cancel_departure(&mut self, app: &AppId, client: &ClientId, device: &DeviceId) -> Option<Will> {
        let mut will = None;
        for at in self.departing.get(app, client).cloned().unwrap_or_default() {
            let same = self.departures.get(&at).is_some_and(|d| d.device.as_ref() == Some(device));
            if !same {
                continue;
            }
            if let Some(departure) = self.departures.remove(&at) {
                self.departed_once(app, client, at);
                will = departure.will.or(will);
            }
        }
        will
    }

    fn departed_once(&mut self, app: &AppId, client: &ClientId, at: (Timestamp, SessionId)) {
        self.departing.retain(app, client, |other| *other != at);
    }

    fn tell_presence(&self, app: &AppId, client: &ClientId, online: bool, now: Timestamp) {
        for (conversation, session) in self.subscriptions.watchers_of(app, client, now) {
            self.push_presence(
                &[session],
                PresenceEvent { conversation, online, clients: vec![client.clone()] },
            );
        }
    }

    /// Under the lock, so that "online" and "offline" of one client arrive in the order they happened.
    fn push_presence(&self, sessions: &[SessionId], event: PresenceEvent) {
        let event: Arc<Bulletin> = Arc::new(Event::Presence(event).into());
        for id in sessions {
            if let Some(session) = self.sessions.get(id) {
                session.sink.try_push(*id, event.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::app::App;
    use crate::session::Crowd;

    /// Keeps what it was given, up to a bound.
    struct Recorder {
        events: Mutex<Vec<(SessionId, Arc<Bulletin>)>>,
        max: usize,
    }

    impl Recorder {
        fn new(max: usize) -> Arc<Self> {
            Arc::new(Self { events: Mutex::default(), max })
        }

        fn take(&self) -> Vec<(SessionId, Arc<Bulletin>)> {
            std::mem::take(&mut *self.events.lock().unwrap())
        }
    }

    impl Sink for Recorder {
        fn try_push(&self, session: SessionId, event: Arc<Bulletin>) -> bool {
            let mut events = self.events.lock().unwrap();
            if events.len() >= self.max {
                return false;
            }
            events.push((session, event));
            true
        }
    }

    fn app() -> Arc<App> {
        Arc::new(App {
            id: AppId::parse("app").unwrap(),
            name: "app".to_owned(),
            keys: BTreeMap::new(),
            settings: Settings::default(),
            created_at: Timestamp(0),
        })
    }

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    struct Login<'a> {
        client: &'a str,
        device: Option<&'a str>,
        tag: Option<&'a str>,
        resume: bool,
        crowd: Option<usize>,
    }

    fn login(id: &str) -> Login<'_> {
        Login { client: id, device: None, tag: None, resume: false, crowd: None }
    }

    fn open(router: &Router, login: &Login<'_>, sink: &Arc<Recorder>, now: i64) -> Result<Caller> {
        router.open(
            OpenSession {
                app: app(),
                client: client(login.client),
                device: login.device.map(|device| DeviceId::parse(device).unwrap()),
                tag: login.tag.map(|tag| Tag::parse(tag).unwrap()),
                resume: login.resume,
                crowd: login.crowd.map(|max| Crowd { platform: Tag::parse("web").unwrap(), max }),
                note: None,
                sink: sink.clone(),
            },
            Timestamp(now),
        )
    }

    fn ended(sink: &Recorder) -> Vec<SessionEnd> {
        sink.take()
            .iter()
            .filter_map(|(_, event)| match ***event {
                Event::SessionEnded { end, .. } => Some(end),
                _ => None,
            })
            .collect()
    }

    fn presence(sink: &Recorder) -> Vec<(bool, Vec<ClientId>)> {
        sink.take()
            .iter()
            .filter_map(|(_, event)| match &***event {
                Event::Presence(event) => Some((event.online, event.clients.clone())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_tag_is_held_by_one_device_and_resuming_yields() {
        let (router, old, new) = (Router::default(), Recorder::new(9), Recorder::new(9));
        let phone = Login { device: Some("phone"), tag: Some("Mobile"), ..login("tom") };
        let tablet = Login { device: Some("tablet"), tag: Some("Mobile"), ..login("tom") };
        let first = open(&router, &phone, &old, 0).unwrap();
        open(&router, &tablet, &new, 0).unwrap();
        assert_eq!(ended(&old), [SessionEnd::Displaced]);
        assert!(!router.is_open(&first));
        let resumed = open(&router, &Login { resume: true, ..phone }, &old, 0);
        assert!(matches!(resumed, Err(Error::SessionTaken)));
        let other_tag = Login { device: Some("pc"), tag: Some("Web"), ..login("tom") };
        open(&router, &other_tag, &new, 0).unwrap();
        assert_eq!((router.session_count(), ended(&new)), (2, vec![]));
    }

    #[test]
    fn the_same_device_replaces_its_session_and_untagged_devices_live_together() {
        let (router, sink) = (Router::default(), Recorder::new(9));
        let phone = Login { device: Some("phone"), ..login("tom") };
        open(&router, &phone, &sink, 0).unwrap();
        open(&router, &phone, &sink, 0).unwrap();
        assert_eq!(ended(&sink), [SessionEnd::Replaced]);
        open(&router, &login("tom"), &sink, 0).unwrap();
        open(&router, &login("tom"), &sink, 0).unwrap();
        assert_eq!(router.session_count(), 3);
    }

    #[test]
    fn the_oldest_device_of_a_crowded_platform_gives_way_and_a_dismissed_one_is_told() {
        let (router, first, rest) = (Router::default(), Recorder::new(9), Recorder::new(9));
        let device = |name| Login { device: Some(name), crowd: Some(2), ..login("tom") };
        open(&router, &device("a"), &first, 0).unwrap();
        open(&router, &device("b"), &rest, 0).unwrap();
        assert_eq!(ended(&first), []);
        open(&router, &device("c"), &rest, 0).unwrap();
        assert_eq!((ended(&first), ended(&rest)), (vec![SessionEnd::Displaced], vec![]));
        let b = DeviceId::parse("b").unwrap();
        let app = app().id.clone();
        assert_eq!(router.devices(&app, &client("tom")).len(), 2);
        assert_eq!(router.dismiss(&app, &client("tom"), Some(&b), SessionEnd::Dismissed, Timestamp(0)), 1);
        assert_eq!(router.dismiss(&app, &client("tom"), None, SessionEnd::Removed, Timestamp(0)), 1);
        assert_eq!(ended(&rest), [SessionEnd::Dismissed, SessionEnd::Removed]);
    }

    fn will() -> Will {
        use crate::id::{MessageId, Seq};
        use crate::message::{Body, BodyKind, Mentions, Origin, Payload, SchemaTag};
        Will {
            message: Message {
                id: MessageId::from_u64(1).unwrap(),
                conversation: ConversationId::lasting(1),
                seq: Seq(0),
                timestamp: Timestamp(0),
                sender: client("tom"),
                body: Body {
                    kind: BodyKind::Text,
                    summary: None,
                    payload: Payload { schema: SchemaTag(0), bytes: bytes::Bytes::new() },
                },
                mentions: Mentions::default(),
                receipt: false,
                patched_at: None,
                delivered_at: None,
                read_at: None,
                origin: Origin::Client,
                edits: 0,
                patched_by: None,
            },
        }
    }

    #[test]
    fn a_will_waits_for_the_grace_time_and_for_nothing_else() {
        let (router, sink) = (Router::default(), Recorder::new(9));
        let phone = Login { device: Some("phone"), resume: true, ..login("tom") };
        let wills = |departed: Vec<Departure>| departed.iter().filter(|d| d.will.is_some()).count();

        let caller = open(&router, &phone, &sink, 0).unwrap();
        router.set_will(&caller, will()).unwrap();
        router.close(&caller, Ending::Lost, &Settings::default(), Timestamp(0));
        assert_eq!(wills(router.take_departed(Timestamp(4_999))), 0);
        // Back within the grace time: the will is the new session's.
        let caller = open(&router, &phone, &sink, 4_999).unwrap();
        assert_eq!(wills(router.take_departed(Timestamp(60_000))), 0);
        router.close(&caller, Ending::Lost, &Settings::default(), Timestamp(60_000));
        assert_eq!(wills(router.take_departed(Timestamp(65_000))), 1);

        for how in [Ending::Polite, Ending::Drained] {
            let caller = open(&router, &phone, &sink, 70_000).unwrap();
            router.set_will(&caller, will()).unwrap();
            router.close(&caller, how, &Settings::default(), Timestamp(70_000));
            assert_eq!(wills(router.take_departed(Timestamp(90_000))), 0, "{how:?}");
        }
    }

    #[test]
    fn presence_tells_the_first_session_and_the_last() {
        let (router, watcher, other) = (Router::default(), Recorder::new(99), Recorder::new(99));
        let tom = open(&router, &login("tom"), &watcher, 0).unwrap();
        let members = [client("tom"), client("jerry")];
        let roster =
            Roster { conversation: ConversationId::lasting(1), members: &members, version: Timestamp(1) };
        router.watch(&tom, roster, None).unwrap();
        let view = router.presence(&app().id, &members, None);
        assert_eq!((view.online, view.offline), (vec![client("tom")], vec![client("jerry")]));

        let first = open(&router, &login("jerry"), &other, 0).unwrap();
        let second = open(&router, &login("jerry"), &other, 0).unwrap();
        assert_eq!(presence(&watcher), [(true, vec![client("jerry")])]);
        router.close(&first, Ending::Polite, &Settings::default(), Timestamp(0));
        assert_eq!(presence(&watcher), []);
        router.close(&second, Ending::Polite, &Settings::default(), Timestamp(0));
        assert_eq!(presence(&watcher), [(false, vec![client("jerry")])]);

        let lost = open(&router, &login("jerry"), &other, 0).unwrap();
        presence(&watcher);
        router.close(&lost, Ending::Lost, &Settings::default(), Timestamp(0));
        router.take_departed(Timestamp(4_999));
        assert_eq!(presence(&watcher), []);
        router.take_departed(Timestamp(5_000));
        assert_eq!(presence(&watcher), [(false, vec![client("jerry")])]);
    }

    #[test]
    fn a_client_that_changes_its_device_was_never_away() {
        let (router, watcher, other) = (Router::default(), Recorder::new(99), Recorder::new(99));
        let tom = open(&router, &login("tom"), &watcher, 0).unwrap();
        let members = [client("tom"), client("jerry")];
        let roster =
            Roster { conversation: ConversationId::lasting(1), members: &members, version: Timestamp(1) };
        router.watch(&tom, roster, None).unwrap();
        let phone = Login { device: Some("phone"), tag: Some("Mobile"), ..login("jerry") };
        let tablet = Login { device: Some("tablet"), tag: Some("Mobile"), ..login("jerry") };
        open(&router, &phone, &other, 0).unwrap();
        assert_eq!(presence(&watcher), [(true, vec![client("jerry")])]);
        open(&router, &phone, &other, 0).unwrap();
        open(&router, &tablet, &other, 0).unwrap();
        assert_eq!(presence(&watcher), []);
    }

    #[test]
    fn a_session_is_in_one_room_and_finds_back_to_it_after_a_lost_connection() {
        let (router, sink) = (Router::default(), Recorder::new(9));
        let (a, b) = (ConversationId::lasting(1), ConversationId::lasting(2));
        let phone = Login { device: Some("phone"), resume: true, ..login("tom") };
        let caller = open(&router, &phone, &sink, 0).unwrap();
        router.enter_room(&caller, a).unwrap();
        router.enter_room(&caller, b).unwrap();
        assert_eq!((router.room_clients(a, 9), router.room_clients(b, 9)), (vec![], vec![client("tom")]));
        router.close(&caller, Ending::Lost, &Settings::default(), Timestamp(0));
        assert!(router.room_clients(b, 9).is_empty());
        let caller = open(&router, &phone, &sink, 1_799_999).unwrap();
        assert_eq!(router.room_of(&caller), Some(b));
        router.leave_room(&caller, b);
        router.close(&caller, Ending::Lost, &Settings::default(), Timestamp(1_800_000));
        let caller = open(&router, &phone, &sink, 1_800_000).unwrap();
        assert_eq!(router.room_of(&caller), None);
    }

    #[test]
    fn an_event_reaches_the_audience_but_not_its_origin_and_a_full_sink_stops_nobody() {
        let (router, full, free) = (Router::default(), Recorder::new(0), Recorder::new(9));
        open(&router, &login("spike"), &full, 0).unwrap();
        let tom = open(&router, &login("tom"), &free, 0).unwrap();
        let other = open(&router, &login("tom"), &free, 0).unwrap();
        router.deliver(&Delivery {
            app: &app().id,
            audience: Audience::Clients(&[client("spike"), client("tom")]),
            except: Some(tom.session),
            event: Arc::new(Event::Noted.into()),
        });
        let heard: Vec<_> = free.take().into_iter().map(|(session, _)| session).collect();
        assert_eq!(heard, [other.session]);
    }

    #[test]
    fn a_room_hears_what_is_said_in_it_and_nothing_else() {
        let (router, here, elsewhere) = (Router::default(), Recorder::new(9), Recorder::new(9));
        let room = ConversationId::lasting(1);
        let tom = open(&router, &login("tom"), &here, 0).unwrap();
        let jerry = open(&router, &login("jerry"), &here, 0).unwrap();
        let spike = open(&router, &login("spike"), &elsewhere, 0).unwrap();
        for caller in [&tom, &jerry] {
            router.enter_room(caller, room).unwrap();
        }
        router.enter_room(&spike, ConversationId::lasting(2)).unwrap();
        let say = || {
            router.deliver(&Delivery {
                app: &app().id,
                audience: Audience::Room(room),
                except: Some(tom.session),
                event: Arc::new(Event::Noted.into()),
            });
            here.take().into_iter().map(|(session, _)| session).collect::<Vec<_>>()
        };
        assert_eq!(say(), [jerry.session]);
        router.leave_room(&jerry, room);
        assert_eq!(say(), []);
        assert!(elsewhere.take().is_empty());
    }
}
