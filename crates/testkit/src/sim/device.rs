//! A client's device: its connection, what it asked for, and what it has been told so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use posthouse_core::conversation::Kind;
use posthouse_core::id::ConversationId;
use posthouse_core::time::Timestamp;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::model::{Broken, Model, Said, Seat, Talk};
use super::pipe::{Pipe, Scissors};
use super::{easemob, leancloud};

/// Through which door a person comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// LeanCloud.
    LeanCloud,
    /// Easemob.
    Easemob,
}

/// Something that may go on; it is woken by whatever it waits for.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }
}

/// What an answer is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// The login.
    Login,
    /// A message.
    Say(usize),
    /// Something whose answer is waited for: it is put into [`Device::answers`].
    Wait,
    /// Something whose answer doesn't matter.
    Whatever,
}

/// A connection.
struct Link {
    socket: WebSocketStream<Pipe>,
    scissors: Scissors,
    outgoing: VecDeque<Message>,
}

/// A device.
pub(super) struct Device {
    /// Its number in the world.
    pub(super) index: usize,
    /// Whose it is.
    pub(super) person: String,
    /// What it calls itself.
    pub(super) name: String,
    pub(super) door: Door,
    /// The app, as the door calls it.
    pub(super) app: String,
    /// The person's token (Easemob).
    pub(super) token: String,
    link: Option<Link>,
    pub(super) flag: Arc<Flag>,
    pub(super) stalled: bool,
    /// Connections so far.
    pub(super) links: u64,
    /// Since when it is logged in on this connection, in commits.
    pub(super) online_since: Option<u64>,
    /// When it first was, in commits.
    pub(super) first_login: Option<u64>,
    /// Messages it has got, ever.
    pub(super) heard: BTreeSet<u64>,
    /// Recalls it has got, ever.
    pub(super) recalls: BTreeSet<u64>,
    /// Messages it has got on this connection.
    pub(super) link_heard: BTreeSet<u64>,
    /// The newest of them by conversation.
    places: BTreeMap<ConversationId, usize>,
    /// What it waits for, and how often: a message may be said again before it is answered.
    asks: BTreeMap<u64, (Ask, u32)>,
    pub(super) answers: BTreeMap<u64, leancloud::Reply>,
    /// Unread numbers as the login told them (LeanCloud).
    pub(super) unread: BTreeMap<String, i32>,
    /// Queues that it is pulling, and whether there was news of them meanwhile (Easemob).
    pub(super) pulling: BTreeMap<String, bool>,
    serial: u64,
    /// Frames that came.
    pub(super) frames: u64,
    /// Connections that the server ended.
    pub(super) thrown_out: u64,
    /// A fingerprint of what was in them.
    pub(super) bytes: u64,
}

/// What a connection had for the device.
enum Heard {
    Message(Message),
    Nothing,
    End,
}

impl Device {
    pub(super) fn new(index: usize, person: &str, name: &str, door: Door, app: &str, token: &str) -> Self {
        Self {
            index,
            person: person.to_owned(),
            name: name.to_owned(),
            door,
            app: app.to_owned(),
            token: token.to_owned(),
            link: None,
            flag: Flag::raised(),
            stalled: false,
            links: 0,
            online_since: None,
            first_login: None,
            heard: BTreeSet::new(),
            recalls: BTreeSet::new(),
            link_heard: BTreeSet::new(),
            places: BTreeMap::new(),
            asks: BTreeMap::new(),
            answers: BTreeMap::new(),
            unread: BTreeMap::new(),
            pulling: BTreeMap::new(),
            serial: 0,
            frames: 0,
            thrown_out: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    pub(super) fn is_online(&self) -> bool {
        self.link.is_some() && self.online_since.is_some()
    }

    /// Whether polling it would do something.
    pub(super) fn is_ready(&self) -> bool {
        self.link.is_some() && !self.stalled && self.flag.is_raised()
    }

    /// Takes a connection and logs in over it.
    pub(super) fn connect(&mut self, pipe: Pipe, scissors: Scissors) {
        let socket = WebSocketStream::from_raw_socket(pipe, Role::Client, None).now_or_never();
        let Some(socket) = socket else { return };
        self.drop_link();
        self.link = Some(Link { socket, scissors, outgoing: VecDeque::new() });
        self.links += 1;
        match self.door {
            Door::LeanCloud => leancloud::login(self),
            Door::Easemob => easemob::login(self),
        }
    }

    /// Loses the connection without a word.
    pub(super) fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            link.scissors.cut();
        }
        self.online_since = None;
        self.stalled = false;
        self.asks.clear();
        self.link_heard.clear();
        self.places.clear();
        self.pulling.clear();
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Remembers what an answer with this number will be for.
    pub(super) fn expect(&mut self, serial: u64, ask: Ask) {
        self.asks.entry(serial).or_insert((ask, 0)).1 += 1;
    }

    /// What an answer with this number is for; `None` if nothing was asked, or if it was answered.
    pub(super) fn expected(&mut self, serial: u64) -> Option<Ask> {
        let (ask, times) = self.asks.get_mut(&serial)?;
        *times -= 1;
        let (ask, is_last) = (ask.clone(), *times == 0);
        if is_last {
            self.asks.remove(&serial);
        }
        Some(ask)
    }

    /// Puts a frame on its way.
    pub(super) fn send(&mut self, bytes: Vec<u8>) {
        if let Some(link) = &mut self.link {
            link.outgoing.push_back(Message::binary(bytes));
            self.flag.raise();
        }
    }

    /// Writes what there is to write and reads at most one frame.
    pub(super) fn poll(&mut self, model: &mut Model, now: Timestamp) -> Result<(), Broken> {
        self.flag.lower();
        match self.hear() {
            Heard::Nothing => Ok(()),
            Heard::End => {
                self.thrown_out += 1;
                self.drop_link();
                Ok(())
            }
            Heard::Message(message) => {
                self.frames += 1;
                for byte in message.clone().into_data() {
                    self.bytes = (self.bytes ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
                }
                self.flag.raise();
                match (self.door, message) {
                    (Door::LeanCloud, Message::Binary(bytes)) => leancloud::on_frame(self, bytes, model, now),
                    (Door::Easemob, Message::Binary(bytes)) => easemob::on_frame(self, bytes, model, now),
                    (_, Message::Text(text)) => Err(format!("a text came: {text}")),
                    (_, Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                        Ok(())
                    }
                }
            }
        }
    }

    fn hear(&mut self) -> Heard {
        let waker = Waker::from(Arc::clone(&self.flag));
        let mut cx = Context::from_waker(&waker);
        let Some(Link { socket, outgoing, .. }) = &mut self.link else { return Heard::Nothing };
        while !outgoing.is_empty() {
            match socket.poll_ready_unpin(&mut cx) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Heard::End,
                Poll::Ready(Ok(())) => {}
            }
            if let Some(message) = outgoing.pop_front()
                && socket.start_send_unpin(message).is_err()
            {
                return Heard::End;
            }
        }
        if let Poll::Ready(Err(_)) = socket.poll_flush_unpin(&mut cx) {
            return Heard::End;
        }
        match socket.poll_next_unpin(&mut cx) {
            Poll::Pending => Heard::Nothing,
            Poll::Ready(Some(Ok(message))) => Heard::Message(message),
            Poll::Ready(Some(Err(_)) | None) => Heard::End,
        }
    }

    /// The login was answered: says again what was never answered.
    pub(super) fn logged_in(&mut self, model: &mut Model) {
        self.online_since = Some(model.commits);
        self.first_login.get_or_insert(model.commits);
        let mine = |tries: &[(usize, u64)]| tries.last().is_some_and(|(device, _)| *device == self.index);
        let open = model
            .intents
            .iter()
            .enumerate()
            .filter(|(_, intent)| intent.answer.is_none() && mine(&intent.tries));
        let open: Vec<usize> = open.map(|(number, _)| number).collect();
        for intent in open {
            self.say(model, intent);
        }
    }

    /// Says what `intent` wants, once more.
    pub(super) fn say(&mut self, model: &mut Model, intent: usize) {
        model.intents[intent].tries.push((self.index, self.links));
        match self.door {
            Door::LeanCloud => leancloud::say(self, model, intent),
            Door::Easemob => easemob::say(self, model, intent),
        }
    }

    /// A message has come.
    pub(super) fn hears(
        &mut self,
        model: &Model,
        id: u64,
        at: i64,
        sender: &str,
        text: &str,
    ) -> Result<(), Broken> {
        let whom = format!("{}/{}", self.person, self.name);
        let Some((conversation, place, said)) = model.message(id) else {
            return Err(format!("{whom} is told of what is not kept: {id} {text}"));
        };
        if said.at.0 != at || said.sender != sender || !said.texts.iter().any(|known| known == text) {
            return Err(format!(
                "{whom} is told something else: {id} at {at} {sender}: {text}, kept is {said:?}"
            ));
        }
        if !said.audience.contains(&self.person) {
            return Err(format!("{whom} is told what is none of its business: {said:?}"));
        }
        let tries = &model.intents[said.intent].tries;
        if tries.iter().all(|the| *the == (self.index, self.links)) {
            return Err(format!("{whom} is told what it said itself: {said:?}"));
        }
        if !self.link_heard.insert(id) {
            return Err(format!("{whom} is told twice on one connection: {said:?}"));
        }
        let before = self.places.insert(conversation, place);
        if before.is_some_and(|before| before > place) {
            return Err(format!("{whom} is told out of order: {said:?}"));
        }
        if self.door == Door::Easemob {
            let talk = &model.conversations[&conversation];
            let mut skipped = talk.said[before.map_or(0, |before| before + 1)..place].iter();
            if let Some(hole) = skipped.find(|said| self.must_hear(model, talk, said)) {
                return Err(format!("{whom} is not told of {hole:?} before {said:?}"));
            }
        }
        self.heard.insert(id);
        Ok(())
    }

    /// Whether this device (Easemob) has to have a message that it has not got so far.
    pub(super) fn must_hear(&self, model: &Model, talk: &Talk, said: &Said) -> bool {
        let Some(Seat { since, removed, cleared, .. }) = talk.members.get(&self.person) else { return false };
        let is_queue = matches!(talk.kind, Kind::Direct | Kind::Group);
        let gone = talk.said[..(*cleared).max(talk.cleared)].last().is_some_and(|last| said.id <= last.id);
        let own = model.intents[said.intent].tries.iter().any(|(device, _)| *device == self.index);
        is_queue
            && self.first_login.is_some_and(|first| said.commit > first)
            && *since < said.commit
            && !said.recalled
            && !gone
            && !removed.contains(&said.id)
            && !own
            && !self.heard.contains(&said.id)
    }
}

/// A number that JSON has as one, or as a text.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
