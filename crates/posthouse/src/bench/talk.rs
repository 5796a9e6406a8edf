//! The load itself: all clients of a run, played by one thread, and the checks of what they hear.
//!
//! [`Talk`] knows every client, every conversation and every message on its way; it does no I/O but
//! writing what the kernel takes at once. A task for each socket reads and shows it what came; one
//! task, [`phase`], sends what the schedule says. Nothing is locked, since all of them share a thread.
//!
//! Latency is counted from the scheduled time: of the ack at the sender, of the delivery at each
//! receiver, and of the last delivery of a message.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet, spawn_blocking, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

use super::check::{Lane, Order, Stamp, View, put_decimal};
use super::lean::{Heard, Line, Message, Voice, Wire, close_words, easemob, frame, mask};
use super::report::{self, GeneratorCost, Latency, ServerCost, Step};
use super::schedule::Arrivals;
use super::server::Server;
use super::{Error, process, progress};
use crate::peer;

#[cfg(test)]
mod tests;

/// The JavaScript SDK gathers acks for a second (`_doSendAck` is throttled).
const RECEIPT_DELAY: Duration = Duration::from_secs(1);
/// After the last message was scheduled, an accepted one that has not arrived when nothing at all has
/// come for so long is lost.
const SILENCE: Duration = Duration::from_secs(15);
/// A server that still works off its backlog after this is not waited for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(300);
/// From the call of [`phase`] to the first message.
const LEAD_TIME: Duration = Duration::from_millis(200);
/// How often the conductor looks at everything that has no time of its own.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longer waits are recorded as this.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// How many problems are told in words; all are counted.
const PROBLEMS_TOLD: usize = 5;
/// What one read takes from a socket.
const READ_BYTES: usize = 64 << 10;
/// What a slow reader reads each [`SLOW_EVERY`].
const SLOW_READ_BYTES: usize = 1 << 10;
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// How long a slow reader that was closed stays away, and a visitor that has left.
const AWAY: Duration = Duration::from_secs(5);
/// Written and not taken by the kernel; a client with more says nothing until it has less.
const PENDING_BYTES_MAX: usize = 256 << 10;
/// A step of a ladder with so many seconds of traffic unanswered has failed and goes no further.
const BACKLOG_SECONDS_MAX: f64 = 3.0;

/// What distinguishes a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Present from start to end: must get everything.
    Steady,
    /// Comes and goes: what it gets while it is there has no gaps.
    Visitor,
    /// Reads 1 KB a second when told so; may be closed by the server, and comes back then.
    Slow,
}

/// A client that is logged in.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) line: Line,
    pub(super) voice: Voice,
    pub(super) conversation: usize,
    /// Whether it sends.
    pub(super) speaks: bool,
    pub(super) role: Role,
}

/// Brings a slow reader back: its place among the members to a line that is logged in and has joined.
pub(super) type Return = Rc<dyn Fn(usize) -> LocalBoxFuture<'static, Result<(Line, Voice), peer::Error>>>;

/// What all clients of a run share.
pub(super) struct Plan {
    pub(super) wire: Wire,
    pub(super) run: u32,
    pub(super) payload: usize,
    /// Whether receivers ack what arrives, as the JavaScript SDK does outside of rooms.
    pub(super) receipts: bool,
    /// Whether all members must see one order; of use where more than two talk.
    pub(super) one_order: bool,
}

/// One stretch of load.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) rate: u32,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    pub(super) seed: u64,
    /// Whether the slow ones read slowly.
    pub(super) slow: bool,
    /// Ends early when it can only fail.
    pub(super) gives_up: bool,
}

impl Phase {
    fn length(&self) -> Duration {
        self.warm_up + self.measured
    }
}

/// Runs `work` on a thread of its own, with a runtime of that one thread.
pub(super) async fn on_own_thread<F, W, T>(work: W) -> Result<T, Error>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<T, Error>>,
    T: Send + 'static,
{
    spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::NotStarted)?;
        LocalSet::new().block_on(&runtime, work())
    })
    .await?
}

/// All clients, conversations and messages of a run.
pub(super) struct Talk {
    plan: Plan,
    epoch: Instant,
    clients: Vec<Client>,
    /// Conversations, by the numbers that members were given.
    conversations: Vec<Conversation>,
    /// Those who send.
    speakers: Vec<usize>,
    visitors_inside: VecDeque<usize>,
    visitors_outside: VecDeque<(Instant, usize)>,
    /// When the next visitor leaves.
    leave_due: Instant,
    receipts_due: VecDeque<(Instant, usize)>,
    heartbeats_due: VecDeque<(Instant, usize)>,
    reads_slowly: bool,
    over: bool,
    /// Deliveries still to come to steady receivers, of messages that were sent and not refused.
    owed: u64,
    unanswered: u64,
    /// What is scheduled within it is measured.
    window: Range<Duration>,
    counts: Counts,
    latencies: Latencies,
    masks: u32,
    // Buffers that are empty between calls.
    content: Vec<u8>,
    token: Vec<u8>,
    payload: Vec<u8>,
    out: Vec<u8>,
    /// Clients whose socket was full and that nobody waits for yet.
    stuck: Vec<usize>,
    flushes: JoinSet<()>,
}

struct Client {
    name: String,
    voice: Voice,
    socket: Option<Rc<OwnedWriteHalf>>,
    /// What the kernel did not take.
    pending: Vec<u8>,
    is_flushed: bool,
    /// The beginning of a frame.
    inbox: Vec<u8>,
    conversation: usize,
    role: Role,
    inside: bool,
    /// Its number among the conversation's speakers.
    seat: Option<u32>,
    /// Messages sent, and the next one's counter.
    sent: u64,
    /// Oldest first.
    unanswered: VecDeque<Unanswered>,
    /// Answers to keys up to here come too late to count.
    settled_key: u64,
    /// Joins and leaves that are not answered.
    calls: Vec<u64>,
    /// Its messages from `open_from` on.
    open: VecDeque<Open>,
    open_from: u64,
    /// What arrives here, by the speaker's seat.
    lanes: Vec<Lane>,
    /// What it saw, to be compared with its conversation's order.
    view: View,
    /// The server's time of the last message that came, which never goes back.
    latest: i64,
    /// Times of the first and last delivery to be acked.
    receipt: Option<(i64, i64)>,
    /// Queues to pull; the first is being pulled.
    pulls: VecDeque<Vec<u8>>,
}

struct Unanswered {
    key: u64,
    counter: u64,
    scheduled: Duration,
}

/// A message on its way.
struct Open {
    scheduled: Duration,
    /// Steady receivers that it has not reached.
    left: u64,
}

struct Conversation {
    id: String,
    members: Vec<usize>,
    /// Clients by seat.
    speakers: Vec<usize>,
    /// Receivers that must get everything.
    steady: u64,
    order: Order,
    /// Whose view of the order counts: somebody steady who does not speak, if there is one.
    witness: Option<usize>,
}

/// Of one phase.
#[derive(Debug, Default)]
struct Counts {
    scheduled: u64,
    sent: u64,
    acked: u64,
    delivered: u64,
    lost: u64,
    duplicates: u64,
    disorders: u64,
    refused: u64,
    unanswered: u64,
    undelivered: u64,
    closed: u64,
    slow_closed: u64,
    slow_gaps: u64,
    joins: u64,
    leaves: u64,
    problems: Vec<String>,
}

impl Counts {
    fn problem(&mut self, words: String) {
        if self.problems.len() < PROBLEMS_TOLD && !self.problems.contains(&words) {
            self.problems.push(words);
        }
    }
}

/// In microseconds, of messages scheduled in the window.
#[derive(Debug)]
struct Latencies {
    ack: Histogram<u64>,
    delivery: Histogram<u64>,
    last_delivery: Histogram<u64>,
    /// How late the generator itself was.
    lag: Histogram<u64>,
}

impl Latencies {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
                .expect("the bounds are in order and 3 digits are allowed")
        };
        Self { ack: histogram(), delivery: histogram(), last_delivery: histogram(), lag: histogram() }
    }
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
    histogram.saturating_record(us.max(1));
}

// Before the load.
impl Talk {
    /// Takes over the members' sockets; a task for each reads from now on. `conversations` are their
    /// ids on the wire. `back` brings slow readers back.
    pub(super) fn begin(
        plan: Plan,
        conversations: Vec<String>,
        members: Vec<Member>,
        back: Option<&Return>,
    ) -> (Rc<RefCell<Self>>, JoinSet<()>) {
        let now = Instant::now();
        let mut talk = Self {
            plan,
            epoch: now,
            clients: Vec::with_capacity(members.len()),
            conversations: conversations.into_iter().map(Conversation::new).collect(),
            speakers: Vec::new(),
            visitors_inside: VecDeque::new(),
            visitors_outside: VecDeque::new(),
            leave_due: now,
            receipts_due: VecDeque::new(),
            heartbeats_due: VecDeque::new(),
            reads_slowly: false,
            over: false,
            owed: 0,
            unanswered: 0,
            window: Duration::ZERO..Duration::ZERO,
            counts: Counts::default(),
            latencies: Latencies::new(),
            masks: mask(),
            content: Vec::new(),
            token: Vec::new(),
            payload: Vec::new(),
            out: Vec::new(),
            stuck: Vec::new(),
            flushes: JoinSet::new(),
        };
        let readers: Vec<OwnedReadHalf> = members.into_iter().map(|member| talk.take(member)).collect();
        for client in &mut talk.clients {
            let speakers = talk.conversations[client.conversation].speakers.len();
            client.open_ears(speakers);
        }
        if talk.plan.one_order {
            for conversation in &mut talk.conversations {
                let mut steady: Vec<usize> = conversation.members.clone();
                steady.retain(|member| talk.clients[*member].role == Role::Steady);
                let listener = steady.iter().find(|member| talk.clients[**member].seat.is_none());
                conversation.witness = listener.or_else(|| steady.first()).copied();
            }
        }
        let share =
            heartbeat_every(talk.plan.wire) / u32::try_from(talk.clients.len()).unwrap_or(u32::MAX).max(1);
        let mut due = now + heartbeat_every(talk.plan.wire) / 2;
        for me in 0..talk.clients.len() {
            talk.heartbeats_due.push_back((due, me));
            due += share;
        }

        let talk = Rc::new(RefCell::new(talk));
        let buffer = Rc::new(RefCell::new(vec![0; READ_BYTES]));
        let mut listening = JoinSet::new();
        for (me, read) in readers.into_iter().enumerate() {
            let back = back.filter(|_| talk.borrow().clients[me].role == Role::Slow).cloned();
            listening.spawn_local(listen(Rc::clone(&talk), me, read, Rc::clone(&buffer), back));
        }
        (talk, listening)
    }

    fn take(&mut self, member: Member) -> OwnedReadHalf {
        let me = self.clients.len();
        let conversation = &mut self.conversations[member.conversation];
        conversation.members.push(me);
        if member.role == Role::Steady {
            conversation.steady += 1;
        }
        let seat = member.speaks.then(|| {
            conversation.speakers.push(me);
            self.speakers.push(me);
            u32::try_from(conversation.speakers.len() - 1).expect("there are fewer clients")
        });
        if member.role == Role::Visitor {
            self.visitors_inside.push_back(me);
        }
        let (stream, inbox) = member.line.into_parts();
        let (read, write) = stream.into_split();
        self.clients.push(Client {
            name: member.name,
            voice: member.voice,
            socket: Some(Rc::new(write)),
            pending: Vec::new(),
            is_flushed: false,
            inbox,
            conversation: member.conversation,
            role: member.role,
            inside: true,
            seat,
            sent: 0,
            unanswered: VecDeque::new(),
            settled_key: 0,
            calls: Vec::new(),
            open: VecDeque::new(),
            open_from: 0,
            lanes: Vec::new(),
            view: View::default(),
            latest: 0,
            receipt: None,
            pulls: VecDeque::new(),
        });
        read
    }
}

impl Conversation {
    fn new(id: String) -> Self {
        Self {
            id,
            members: Vec::new(),
            speakers: Vec::new(),
            steady: 0,
            order: Order::default(),
            witness: None,
        }
    }
}

impl Client {
    /// Begins to check what arrives.
    fn open_ears(&mut self, speakers: usize) {
        let is_steady = self.role == Role::Steady;
        let lane = || if is_steady { Lane::default() } else { Lane::joining_late() };
        self.lanes = (0..speakers).map(|_| lane()).collect();
        self.view = if is_steady { View::from_start() } else { View::default() };
    }
}

// What happens.
impl Talk {
    fn is_measured(&self, scheduled: Duration) -> bool {
        self.window.contains(&scheduled)
    }

    fn waited(&self, scheduled: Duration, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch + scheduled)
    }

    /// Sends the message that `me` was to send at `scheduled`.
    fn say(&mut self, me: usize, scheduled: Duration, now: Instant) {
        self.counts.scheduled += 1;
        let client = &mut self.clients[me];
        if client.socket.is_none() {
            return;
        }
        if client.pending.len() > PENDING_BYTES_MAX {
            self.counts.problem(format!("the socket of {} takes no more", client.name));
            return;
        }
        let counter = client.sent;
        let stamp = Stamp { run: self.plan.run, sender: me, counter, scheduled };
        stamp.write(&mut self.content, self.plan.payload);
        self.token.clear();
        for number in [u64::from(self.plan.run), me as u64, counter] {
            put_decimal(&mut self.token, number);
            self.token.push(b'-');
        }
        let key = client.voice.say(&mut self.payload, &self.token, &self.content);
        client.sent += 1;
        client.unanswered.push_back(Unanswered { key, counter, scheduled });
        let steady = self.conversations[client.conversation].steady;
        let left = steady - u64::from(client.role == Role::Steady);
        client.open.push_back(Open { scheduled, left });
        self.owed += left;
        self.unanswered += 1;
        self.counts.sent += 1;
        if self.is_measured(scheduled) {
            let lag = self.waited(scheduled, now);
            record(&mut self.latencies.lag, lag);
        }
        self.enframe();
        self.flush(me);
    }

    /// Makes a frame of the payload.
    fn enframe(&mut self) {
        // Its value does not matter here, but a server would see if it never changed.
        self.masks = self.masks.wrapping_mul(0x0019_660D).wrapping_add(0x3C6E_F35F);
        frame::put(&mut self.out, frame::BINARY, &self.payload, self.masks);
        self.payload.clear();
    }

    /// Looks at what `me` received.
    fn hear(&mut self, me: usize, bytes: &[u8], now: Instant) {
        let mut inbox = std::mem::take(&mut self.clients[me].inbox);
        let has_rest = !inbox.is_empty();
        if has_rest {
            inbox.extend_from_slice(bytes);
        }
        let whole = if has_rest { &inbox[..] } else { bytes };
        let mut at = 0;
        let broken = loop {
            match frame::take(&whole[at..]) {
                Ok(Some((frame, length))) => {
                    self.hear_frame(me, frame, now);
                    at += length;
                }
                Ok(None) => break None,
                Err(words) => break Some(words),
            }
        };
        if has_rest {
            inbox.drain(..at);
        } else {
            inbox.extend_from_slice(&bytes[at..]);
        }
        self.clients[me].inbox = inbox;
        match broken {
            Some(words) => self.closed(me, words),
            None => self.flush(me),
        }
    }

    fn hear_frame(&mut self, me: usize, frame: frame::Frame<'_>, now: Instant) {
        match frame.opcode {
            frame::BINARY => {}
            frame::PING => return frame::put(&mut self.out, frame::PONG, frame.payload, self.masks),
            frame::CLOSE => return self.closed(me, &close_words(frame.payload)),
            _ => return,
        }
        match self.clients[me].voice.hear(frame.payload) {
            Heard::Accepted(key) => self.accepted(me, key, now),
            Heard::Refused(key, words) => self.refused(me, key, &words),
            Heard::Message(message) => self.delivered(me, message, now),
            Heard::News(queue) => {
                let pulls = &mut self.clients[me].pulls;
                // Of a queue that is being pulled and is to be pulled again, nothing is news.
                if pulls.iter().filter(|pulled| *pulled == queue).count() < 2 {
                    pulls.push_back(queue.to_vec());
                    if pulls.len() == 1 {
                        self.pull(me, queue, None);
                    }
                }
            }
            Heard::Batch { content, queue, key } => {
                if easemob::messages(content, |message| self.delivered(me, message, now)).is_err() {
                    let words = format!("{} got a batch that is no protobuf", self.clients[me].name);
                    self.counts.problem(words);
                }
                self.pull(me, queue, Some(key));
            }
            Heard::Emptied => {
                let pulls = &mut self.clients[me].pulls;
                pulls.pop_front();
                if let Some(queue) = pulls.front().cloned() {
                    self.pull(me, &queue, None);
                }
            }
            Heard::Wrong(words) => {
                let words = format!("{} was told: {words}", self.clients[me].name);
                self.counts.problem(words);
            }
            Heard::Other => {}
        }
    }

    fn pull(&mut self, me: usize, queue: &[u8], key: Option<u64>) {
        if let Voice::Easemob(voice) = &mut self.clients[me].voice {
            voice.pull(&mut self.payload, queue, key);
            self.enframe();
        }
    }

    fn accepted(&mut self, me: usize, key: u64, now: Instant) {
        let client = &mut self.clients[me];
        let Some(answered) = client.answer(key) else { return self.answered_call(me, key) };
        self.unanswered -= 1;
        self.counts.acked += 1;
        if self.is_measured(answered.scheduled) {
            let latency = self.waited(answered.scheduled, now);
            record(&mut self.latencies.ack, latency);
        }
    }

    fn answered_call(&mut self, me: usize, key: u64) {
        let client = &mut self.clients[me];
        if let Some(at) = client.calls.iter().position(|call| *call == key) {
            client.calls.swap_remove(at);
        } else if key > client.settled_key {
            let words = format!("{} got an answer to nothing it asked", client.name);
            self.counts.problem(words);
        }
    }

    fn refused(&mut self, me: usize, key: u64, words: &str) {
        let client = &mut self.clients[me];
        let words = format!("{} was refused: {words}", client.name);
        if let Some(answered) = client.answer(key) {
            self.unanswered -= 1;
            self.counts.refused += 1;
            // Nobody is owed what was refused.
            if let Some(at) = answered.counter.checked_sub(client.open_from)
                && let Some(open) = usize::try_from(at).ok().and_then(|at| client.open.get_mut(at))
            {
                self.owed -= std::mem::take(&mut open.left);
            }
            client.forget_arrived();
        } else {
            client.calls.retain(|call| *call != key);
        }
        self.counts.problem(words);
    }

    /// A message has come to `me`.
    fn delivered(&mut self, me: usize, message: Message<'_>, now: Instant) {
        let stamp = Stamp::read(message.content);
        let at = message.at;
        let Some((stamp, seat)) = stamp.and_then(|stamp| self.is_for(me, &stamp, message)) else {
            let words = format!("{} got a message of somebody else", self.clients[me].name);
            return self.counts.problem(words);
        };
        let client = &mut self.clients[me];
        if !client.inside {
            return;
        }
        if self.plan.receipts {
            match &mut client.receipt {
                Some((from, to)) => (*from, *to) = ((*from).min(at), (*to).max(at)),
                none => {
                    *none = Some((at, at));
                    self.receipts_due.push_back((now + RECEIPT_DELAY, me));
                }
            }
        }
        if !client.lanes[seat as usize].arrive(stamp.counter, at) {
            return;
        }
        self.counts.delivered += 1;
        if at < client.latest {
            self.counts.disorders += 1;
            let words = format!("time went back for {}", client.name);
            self.counts.problem(words);
        }
        client.latest = at;
        self.compare(me, seat, stamp.counter);
        let client = &self.clients[me];
        if client.role != Role::Steady {
            return;
        }
        let is_measured = self.is_measured(stamp.scheduled);
        let latency = self.waited(stamp.scheduled, now);
        if is_measured {
            record(&mut self.latencies.delivery, latency);
        }
        if self.arrived(stamp.sender, stamp.counter) && is_measured {
            record(&mut self.latencies.last_delivery, latency);
        }
    }

    /// Compares what `me` saw with what the witness saw.
    fn compare(&mut self, me: usize, seat: u32, counter: u64) {
        let client = &mut self.clients[me];
        let conversation = &mut self.conversations[client.conversation];
        let Some(witness) = conversation.witness else { return };
        if witness == me {
            return conversation.order.extend(seat, counter);
        }
        // What slow readers may miss would be a difference.
        if conversation.speakers[seat as usize] == witness || client.role == Role::Slow {
            return;
        }
        client.view.sees(seat, counter);
        self.compare_view(me);
    }

    fn compare_view(&mut self, me: usize) {
        let client = &mut self.clients[me];
        let differences = client.view.compare(&self.conversations[client.conversation].order, client.seat);
        if differences > 0 {
            self.counts.disorders += differences;
            let words = format!("{} sees another order than others", client.name);
            self.counts.problem(words);
        }
    }

    /// The stamp and its sender's seat, if `me` should get it.
    fn is_for(&self, me: usize, stamp: &Stamp, message: Message<'_>) -> Option<(Stamp, u32)> {
        let sender = self.clients.get(stamp.sender).filter(|_| stamp.sender != me)?;
        let conversation = self.clients[me].conversation;
        let is_ours = stamp.run == self.plan.run && sender.conversation == conversation;
        let id = self.conversations[conversation].id.as_bytes();
        let is_there = message.conversation.is_none_or(|named| named == id);
        Some((*stamp, sender.seat.filter(|_| is_ours && is_there)?))
    }

    /// One more steady receiver has message `counter` of `sender`; `true` if it was the last.
    fn arrived(&mut self, sender: usize, counter: u64) -> bool {
        let sender = &mut self.clients[sender];
        let Some(at) = counter.checked_sub(sender.open_from) else { return false };
        let open = usize::try_from(at).ok().and_then(|at| sender.open.get_mut(at));
        let Some(open) = open.filter(|open| open.left > 0) else { return false };
        open.left -= 1;
        self.owed -= 1;
        let was_last = open.left == 0;
        sender.forget_arrived();
        was_last
    }

    /// The connection of `me` has ended.
    fn closed(&mut self, me: usize, words: &str) {
        let client = &mut self.clients[me];
        if client.socket.take().is_none() || self.over {
            return;
        }
        client.inside = false;
        client.pending.clear();
        client.inbox.clear();
        if client.role == Role::Slow {
            self.counts.slow_closed += 1;
            return;
        }
        self.counts.closed += 1;
        let words = format!("the connection of {} was closed: {words}", client.name);
        self.counts.problem(words);
        if self.clients[me].role == Role::Steady {
            self.excuse(me);
        }
    }

    /// Owes nothing to `me` any more.
    fn excuse(&mut self, me: usize) {
        let lanes = std::mem::take(&mut self.clients[me].lanes);
        let conversation = &mut self.conversations[self.clients[me].conversation];
        conversation.steady -= 1;
        if conversation.witness == Some(me) {
            conversation.witness = None;
        }
        for (speaker, lane) in conversation.speakers.iter().zip(&lanes).filter(|(speaker, _)| **speaker != me)
        {
            let speaker = &mut self.clients[*speaker];
            for (open, counter) in speaker.open.iter_mut().zip(speaker.open_from..) {
                if open.left > 0 && !lane.has(counter) {
                    open.left -= 1;
                    self.owed -= 1;
                }
            }
            speaker.forget_arrived();
        }
        self.clients[me].lanes = lanes;
    }

    /// Writes what is in the buffer to the socket of `me`, as far as the kernel takes it.
    fn flush(&mut self, me: usize) {
        if self.out.is_empty() {
            return;
        }
        let client = &mut self.clients[me];
        if let Some(socket) = &client.socket {
            let written = if client.pending.is_empty() {
                socket.try_write(&self.out)
            } else {
                Err(std::io::ErrorKind::WouldBlock.into())
            };
            match written {
                Ok(written) => client.pending.extend_from_slice(&self.out[written..]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    client.pending.extend_from_slice(&self.out);
                }
                Err(error) => {
                    self.out.clear();
                    return self.closed(me, &error.to_string());
                }
            }
            if !client.pending.is_empty() && !client.is_flushed {
                client.is_flushed = true;
                self.stuck.push(me);
            }
        }
        self.out.clear();
    }

    /// The socket of `me` has room again. `true` when all is written.
    fn flush_pending(&mut self, me: usize) -> bool {
        let client = &mut self.clients[me];
        let Some(socket) = &client.socket else { return true };
        match socket.try_write(&client.pending) {
            Ok(written) => {
                client.pending.drain(..written);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => self.closed(me, &error.to_string()),
        }
        let client = &mut self.clients[me];
        client.is_flushed = !client.pending.is_empty();
        !client.is_flushed
    }
}

impl Client {
    /// What was sent with this key and is not answered.
    fn answer(&mut self, key: u64) -> Option<Unanswered> {
        // Answers come in order, nearly always.
        let at = self.unanswered.iter().position(|sent| sent.key == key)?;
        self.unanswered.remove(at)
    }

    /// Forgets the oldest messages that are where they should be.
    fn forget_arrived(&mut self) {
        while self.open.front().is_some_and(|open| open.left == 0) {
            self.open.pop_front();
            self.open_from += 1;
        }
    }
}

// What has its time.
impl Talk {
    /// Does all that is due but messages; gives when something is due next.
    fn upkeep(&mut self, now: Instant) -> Instant {
        while let Some((_, me)) = due(&mut self.receipts_due, now) {
            if let Some((from, to)) = self.clients[me].receipt.take()
                && let Voice::Leancloud(voice) = &mut self.clients[me].voice
            {
                voice.receipt(&mut self.payload, from, to);
                self.enframe();
                self.flush(me);
            }
        }
        while let Some((at, me)) = due(&mut self.heartbeats_due, now) {
            self.clients[me].voice.heartbeat(&mut self.payload);
            self.enframe();
            self.flush(me);
            self.heartbeats_due.push_back((at + heartbeat_every(self.plan.wire), me));
        }
        self.come_and_go(now);
        let dues = [self.receipts_due.front(), self.heartbeats_due.front(), self.visitors_outside.front()];
        dues.into_iter().flatten().map(|(due, _)| *due).fold(now + LOOK_EVERY, Instant::min)
    }

    /// Each visitor leaves once a minute and comes back soon.
    fn come_and_go(&mut self, now: Instant) {
        let visitors = self.visitors_inside.len() + self.visitors_outside.len();
        if visitors == 0 {
            return;
        }
        let gap = Duration::from_secs(60) / u32::try_from(visitors).unwrap_or(u32::MAX);
        while self.leave_due <= now {
            self.leave_due += gap;
            let Some(me) = self.visitors_inside.pop_front() else { continue };
            self.count_lanes(me);
            self.join(me, false);
            self.counts.leaves += 1;
            self.visitors_outside.push_back((now + AWAY, me));
        }
        while let Some((_, me)) = due(&mut self.visitors_outside, now) {
            let speakers = self.conversations[self.clients[me].conversation].speakers.len();
            self.clients[me].open_ears(speakers);
            self.join(me, true);
            self.counts.joins += 1;
            self.visitors_inside.push_back(me);
        }
    }

    fn join(&mut self, me: usize, inside: bool) {
        let client = &mut self.clients[me];
        if client.socket.is_none() {
            return;
        }
        client.inside = inside;
        if let Voice::Leancloud(voice) = &mut client.voice {
            client.calls.push(voice.join(&mut self.payload, inside));
            self.enframe();
            self.flush(me);
        }
    }

    /// Counts what the lanes of `me` found, and gaps in those of somebody who is not owed everything.
    fn count_lanes(&mut self, me: usize) {
        let client = &mut self.clients[me];
        for lane in &mut client.lanes {
            let (duplicates, disorders) = lane.take_faults();
            self.counts.duplicates += duplicates;
            self.counts.disorders += disorders;
            match client.role {
                Role::Steady => {}
                Role::Visitor => self.counts.lost += lane.gaps(),
                Role::Slow => self.counts.slow_gaps += lane.gaps(),
            }
        }
        // Gaps are counted once.
        if client.role != Role::Steady {
            let speakers = client.lanes.len();
            client.open_ears(speakers);
        }
    }

    /// Looks for what did not come, and begins anew. After a cut, what is missing may yet come and is not
    /// called lost.
    fn settle_accounts(&mut self, is_cut: bool) -> Counts {
        for me in 0..self.clients.len() {
            // By now the witness has seen everything that others have.
            self.compare_view(me);
            self.count_lanes(me);
            self.settle_open(me, is_cut);
            let client = &mut self.clients[me];
            self.counts.unanswered += client.unanswered.len() as u64;
            client.settled_key = client.unanswered.back().map_or(client.settled_key, |last| last.key);
            client.unanswered.clear();
            client.open.clear();
            client.open_from = client.sent;
        }
        self.owed = 0;
        self.unanswered = 0;
        std::mem::take(&mut self.counts)
    }

    /// Messages of `me` that did not reach everybody.
    fn settle_open(&mut self, me: usize, is_cut: bool) {
        let sender = &self.clients[me];
        let Some(seat) = sender.seat else { return };
        let receivers = &self.conversations[sender.conversation].members;
        for (open, counter) in sender.open.iter().zip(sender.open_from..).filter(|(open, _)| open.left > 0) {
            let missing = receivers.iter().filter(|receiver| {
                let receiver_is_owed = **receiver != me
                    && self.clients[**receiver].role == Role::Steady
                    && self.clients[**receiver].socket.is_some();
                receiver_is_owed && !self.clients[**receiver].lanes[seat as usize].has(counter)
            });
            let missing = missing.count() as u64;
            if is_cut || sender.unanswered.iter().any(|sent| sent.counter == counter) {
                self.counts.undelivered += missing;
            } else {
                self.counts.lost += missing;
                if missing > 0 {
                    let words = format!(
                        "message {counter} of {}, scheduled at {:.3} s, did not reach {missing}",
                        sender.name,
                        open.scheduled.as_secs_f64()
                    );
                    self.counts.problem(words);
                }
            }
        }
    }
}

/// The first of what waits, if its time has come.
fn due(waiting: &mut VecDeque<(Instant, usize)>, now: Instant) -> Option<(Instant, usize)> {
    waiting.front().is_some_and(|(at, _)| *at <= now).then(|| waiting.pop_front())?
}

fn heartbeat_every(wire: Wire) -> Duration {
    match wire {
        // The JavaScript SDK's.
        Wire::Leancloud => Duration::from_secs(180),
        // The Web SDK's, after silence of 30 s.
        Wire::Easemob => Duration::from_secs(60),
    }
}

/// Reads what comes for `me` until the connection ends.
async fn listen(
    talk: Rc<RefCell<Talk>>,
    me: usize,
    mut read: OwnedReadHalf,
    buffer: Rc<RefCell<Vec<u8>>>,
    back: Option<Return>,
) {
    loop {
        let is_slow = back.is_some() && talk.borrow().reads_slowly;
        let bytes_max = if is_slow { SLOW_READ_BYTES } else { READ_BYTES };
        let end = poll_fn(|context| {
            let mut buffer = buffer.borrow_mut();
            let mut room = ReadBuf::new(&mut buffer[..bytes_max]);
            let outcome = std::task::ready!(Pin::new(&mut read).poll_read(context, &mut room));
            Poll::Ready(match outcome {
                Ok(()) if room.filled().is_empty() => Some("without a word".to_owned()),
                Ok(()) => {
                    talk.borrow_mut().hear(me, room.filled(), Instant::now());
                    None
                }
                Err(error) => Some(error.to_string()),
            })
        })
        .await;
        help_the_stuck(&talk);
        if end.is_none() {
            if is_slow {
                sleep(SLOW_EVERY).await;
            }
            continue;
        }
        talk.borrow_mut().closed(me, &end.unwrap_or_default());
        let Some(back) = back.as_ref().filter(|_| !talk.borrow().over) else { return };
        sleep(AWAY).await;
        match back(me).await {
            Ok((line, voice)) => read = talk.borrow_mut().welcome_back(me, line, voice),
            Err(error) => {
                let words = format!("a slow reader could not come back: {}", report::chain(&error));
                return talk.borrow_mut().counts.problem(words);
            }
        }
    }
}

impl Talk {
    fn welcome_back(&mut self, me: usize, line: Line, voice: Voice) -> OwnedReadHalf {
        self.count_lanes(me);
        let (stream, inbox) = line.into_parts();
        let (read, write) = stream.into_split();
        let client = &mut self.clients[me];
        client.socket = Some(Rc::new(write));
        client.voice = voice;
        client.inbox = inbox;
        client.inside = true;
        read
    }
}

/// Has somebody wait for each socket that was full.
fn help_the_stuck(talk: &Rc<RefCell<Talk>>) {
    let mut borrowed = talk.borrow_mut();
    while let Some(me) = borrowed.stuck.pop() {
        let Some(socket) = borrowed.clients[me].socket.clone() else { continue };
        let talk = Rc::clone(talk);
        borrowed.flushes.spawn_local(async move {
            // An error is found by writing.
            while socket.writable().await.is_err() || !talk.borrow_mut().flush_pending(me) {}
        });
    }
    while borrowed.flushes.try_join_next().is_some() {}
}

/// How a phase came to its end.
#[derive(Clone, Copy, Debug, Default)]
struct Ending {
    gave_up: bool,
    /// Before everything had come that was still coming.
    is_cut: bool,
}

/// A moment of the measured time.
#[derive(Debug)]
struct Sample {
    at: Instant,
    sent: u64,
    acked: u64,
    delivered: u64,
    backlog: u64,
    tcp_buffer_bytes: Option<u64>,
    server: Option<process::Usage>,
    generator: Option<process::Usage>,
}

/// Sends what the schedule says, waits until all of it is answered and delivered, and gives the
/// figures.
pub(super) async fn phase(talk: &Rc<RefCell<Talk>>, phase: &Phase, server: &Server) -> Step {
    let start = Instant::now() + LEAD_TIME;
    let (offset, speakers) = {
        let mut talk = talk.borrow_mut();
        let offset = start - talk.epoch;
        talk.window = offset + phase.warm_up..offset + phase.length();
        talk.latencies = Latencies::new();
        talk.reads_slowly = phase.slow;
        talk.leave_due = start;
        (offset, talk.speakers.clone())
    };
    let mut arrivals =
        Arrivals::new(phase.seed, f64::from(phase.rate), speakers.len(), phase.length()).peekable();
    let bar = progress(phase.length().as_secs(), "warming up");
    let (mut first, mut last) = (None, None);
    let mut look_due = start;
    let mut end = start + phase.length();
    let mut gave_up = false;
    // What had come when something came last, and when that was.
    let mut heard = (0, start);
    let is_cut = loop {
        let now = Instant::now();
        let mut next = {
            let mut talk = talk.borrow_mut();
            while let Some(arrival) = arrivals.next_if(|arrival| start + arrival.at <= now) {
                talk.say(speakers[arrival.sender], offset + arrival.at, now);
            }
            let next = talk.upkeep(now);
            arrivals.peek().map_or(next, |arrival| next.min(start + arrival.at))
        };
        help_the_stuck(talk);
        if first.is_none() && now >= start + phase.warm_up {
            first = Some(sample(talk, server));
            bar.set_prefix("measuring");
        }
        if last.is_none() && (now >= end || gave_up) {
            last = Some(sample(talk, server));
            bar.set_prefix("draining");
        }
        if now >= look_due {
            look_due = now + LOOK_EVERY;
            let talk = talk.borrow();
            bar.set_position((now.saturating_duration_since(start)).min(phase.length()).as_secs());
            bar.set_message(talk.in_words(phase.rate));
            let backlog = talk.unanswered as f64 / f64::from(phase.rate);
            if phase.gives_up && !gave_up && now < end && backlog > BACKLOG_SECONDS_MAX {
                gave_up = true;
                end = now;
                // What is left of the schedule counts as not sent.
                arrivals = Arrivals::new(0, 1.0, 1, Duration::ZERO).peekable();
                next = now;
            }
        }
        let is_drained = {
            let talk = talk.borrow();
            let come = talk.counts.acked + talk.counts.delivered + talk.counts.refused;
            if come > heard.0 || now < end {
                heard = (come, now);
            }
            talk.owed == 0 && talk.unanswered == 0
        };
        let is_cut = now >= end + DRAIN_TIME_MAX;
        let is_over = is_drained || is_cut || now >= heard.1 + SILENCE;
        if last.is_some() && arrivals.peek().is_none() && is_over {
            break is_cut;
        }
        next = [start + phase.warm_up, end].into_iter().filter(|due| *due > now).fold(next, Instant::min);
        // A wait for what is due would be over before others had their turn.
        if next <= Instant::now() {
            yield_now().await;
        } else {
            sleep_until(next).await;
        }
    };
    bar.finish_and_clear();
    figures(talk, phase, first.as_ref(), last.as_ref(), Ending { gave_up, is_cut })
}

/// Ends the load: whoever is closed from now on is none of the server's faults.
pub(super) async fn leave(talk: &Rc<RefCell<Talk>>, mut listening: JoinSet<()>) {
    talk.borrow_mut().over = true;
    listening.shutdown().await;
    let mut flushes = std::mem::take(&mut talk.borrow_mut().flushes);
    flushes.shutdown().await;
}

fn sample(talk: &Rc<RefCell<Talk>>, server: &Server) -> Sample {
    let talk = talk.borrow();
    Sample {
        at: Instant::now(),
        sent: talk.counts.sent,
        acked: talk.counts.acked,
        delivered: talk.counts.delivered,
        backlog: talk.unanswered,
        tcp_buffer_bytes: process::tcp_buffer_bytes(),
        server: server.usage(),
        generator: process::usage(std::process::id()),
    }
}

impl Talk {
    fn in_words(&self, rate: u32) -> String {
        format!(
            "s, {rate}/s, {} sent, {} acked, {} delivered, ack p99 {:.1} ms, delivery p99 {:.1} ms",
            report::grouped(self.counts.sent),
            report::grouped(self.counts.acked),
            report::grouped(self.counts.delivered),
            self.latencies.ack.value_at_quantile(0.99) as f64 / 1_000.0,
            self.latencies.delivery.value_at_quantile(0.99) as f64 / 1_000.0,
        )
    }
}

fn figures(
    talk: &Rc<RefCell<Talk>>,
    phase: &Phase,
    first: Option<&Sample>,
    last: Option<&Sample>,
    Ending { gave_up, is_cut }: Ending,
) -> Step {
    let mut talk = talk.borrow_mut();
    let mut counts = talk.settle_accounts(is_cut);
    if is_cut {
        counts.problem(format!("messages still came {} s after the end", DRAIN_TIME_MAX.as_secs()));
    }
    if gave_up {
        counts.problem(format!("given up with {BACKLOG_SECONDS_MAX} s of traffic unanswered"));
    }
    let window = first.zip(last).filter(|(first, last)| last.at > first.at);
    let per_second = |of: fn(&Sample) -> u64| {
        window.map(|(first, last)| (of(last) - of(first)) as f64 / (last.at - first.at).as_secs_f64())
    };
    let (server, generator, per_cpu) = match window {
        Some((first, last)) => costs(first, last),
        None => (None, None, None),
    };
    Step {
        rate: phase.rate,
        seconds: phase.measured.as_secs(),
        warm_up_seconds: phase.warm_up.as_secs(),
        slow_readers: if phase.slow { talk.count(Role::Slow) } else { 0 },
        scheduled: counts.scheduled,
        sent: counts.sent,
        acked: counts.acked,
        delivered: counts.delivered,
        acked_per_second: per_second(|sample| sample.acked),
        deliveries_per_second: per_second(|sample| sample.delivered),
        deliveries_per_server_cpu_second: per_cpu,
        ack: Latency::of(&talk.latencies.ack),
        delivery: Latency::of(&talk.latencies.delivery),
        last_delivery: Latency::of(&talk.latencies.last_delivery),
        generator_lag: Latency::of(&talk.latencies.lag),
        backlog_seconds: last.map_or(0.0, |last| last.backlog as f64 / f64::from(phase.rate)),
        gave_up,
        lost: counts.lost,
        duplicates: counts.duplicates,
        disorders: counts.disorders,
        refused: counts.refused,
        unanswered: counts.unanswered,
        undelivered: counts.undelivered,
        closed: counts.closed,
        slow_closed: counts.slow_closed,
        slow_gaps: counts.slow_gaps,
        joins: counts.joins,
        leaves: counts.leaves,
        problems: counts.problems,
        tcp_buffer_bytes_start: first.and_then(|sample| sample.tcp_buffer_bytes),
        tcp_buffer_bytes_end: last.and_then(|sample| sample.tcp_buffer_bytes),
        server_cost: server,
        generator_cost: generator,
    }
}

fn costs(first: &Sample, last: &Sample) -> (Option<ServerCost>, Option<GeneratorCost>, Option<f64>) {
    let seconds = (last.at - first.at).as_secs_f64();
    let messages = (last.acked - first.acked) as f64;
    let deliveries = (last.delivered - first.delivered) as f64;
    let server = first.server.zip(last.server).map(|(from, to)| ServerCost {
        cpu_ms_per_message: (to.cpu_ms - from.cpu_ms) as f64 / messages,
        cores: (to.cpu_ms - from.cpu_ms) as f64 / 1_000.0 / seconds,
        resident_bytes_start: from.resident_bytes,
        resident_bytes_end: to.resident_bytes,
        written_bytes_per_message: to
            .written_bytes
            .zip(from.written_bytes)
            .map(|(to, from)| (to - from) as f64 / messages),
    });
    let generator = first.generator.zip(last.generator).map(|(from, to)| {
        let cpu_us = (to.cpu_ms - from.cpu_ms) as f64 * 1_000.0;
        GeneratorCost {
            // With a backlog, what is sent costs it more than what is acked.
            cpu_us_per_message: cpu_us / (last.sent - first.sent) as f64,
            cpu_us_per_delivery: cpu_us / deliveries,
            cores: cpu_us / 1_000_000.0 / seconds,
        }
    });
    let cpu_ms = first.server.zip(last.server).map(|(from, to)| to.cpu_ms - from.cpu_ms);
    let per_cpu = cpu_ms.filter(|ms| *ms > 0).map(|ms| deliveries * 1_000.0 / ms as f64);
    (server, generator, per_cpu)
}

impl Talk {
    fn count(&self, role: Role) -> u32 {
        let count = self.clients.iter().filter(|client| client.role == role).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Brings clients online at a given pace, some at once, in the order of their numbers. What one of them
/// needs from another is for `online` to find out.
pub(super) async fn gather<T, F>(
    what: &'static str,
    count: usize,
    per_second: u32,
    online: impl Fn(usize) -> F,
) -> Result<Vec<T>, Error>
where
    T: 'static,
    F: Future<Output = Result<T, Error>> + 'static,
{
    let bar: ProgressBar = progress(count as u64, what);
    let mut pace = tokio::time::interval(super::gap(per_second));
    let mut connecting = JoinSet::new();
    let mut ready = Vec::with_capacity(count);
    let mut next = 0;
    while next < count || !connecting.is_empty() {
        tokio::select! {
            _ = pace.tick(), if next < count => {
                let number = next;
                let coming = online(number);
                connecting.spawn_local(async move { (number, coming.await) });
                next += 1;
            }
            Some(come) = connecting.join_next() => {
                let (number, client) = come?;
                ready.push((number, client?));
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    ready.sort_by_key(|(number, _)| *number);
    Ok(ready.into_iter().map(|(_, client)| client).collect())
}
