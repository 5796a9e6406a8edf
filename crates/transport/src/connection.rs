//! The one connection loop: a single task owns a WebSocket, its protocol and
//! its queue, and decides when the connection ends.
//!
//! ```text
//!   Fresh ──on_frame──► Ready            small frames, login deadline │ frame_max, no login deadline
//!     │                   │
//!     └──── any End ──────┴──► close frame and linger, beside on_end ──► gone
//! ```

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::drain::{DrainSignal, Ticket};
use crate::message_socket::{MessageSocket, Received};
use crate::protocol::{Close, End, Flow, Outbox, Phase, Protocol};
use crate::send_queue::{Overflow, Queue};

/// The bounds of one connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a connection may stay [`Phase::Fresh`].
    pub login_timeout: Duration,
    /// How long a peer may be silent; pings count as a sign of life.
    pub idle_timeout: Duration,
    /// How long one write may wait for a peer that does not read.
    pub write_timeout: Duration,
    /// The largest message in bytes while [`Phase::Fresh`].
    pub frame_before_login: usize,
    /// The largest inbound message in bytes.
    pub frame_max: usize,
    /// Messages, pings and pongs that are read in a second, in the long run; a peer that sends more is
    /// read more slowly. 0 is any number.
    pub frames_per_second: u32,
    /// How long the pushes of a busy connection may wait for more, so that one write carries them all.
    pub hold: Duration,
    /// The bound of the send queue, in pushes.
    pub queue: usize,
    /// The bound of the send queue, in bytes that its pushes keep.
    pub queue_bytes: usize,
}

impl Default for Limits {
    /// Time-outs that suit the shipped clients, which ping every 180 s and give
    /// up after 360 to 380 s.
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(370),
            write_timeout: Duration::from_secs(10),
            frame_before_login: 8 * 1024,
            frame_max: 64 * 1024,
            frames_per_second: 1_000,
            hold: HOLD,
            queue: 1024,
            queue_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Pushes that may share one flush. Bounds how long a busy queue keeps the loop
/// from reading its peer.
const PUSHES_PER_FLUSH: usize = 64;

/// Bytes that are gathered for one flush. Bounds what a peer that does not read has outside its queue.
const BYTES_PER_FLUSH: usize = 256 * 1024;

/// Seconds' worth of frames that may come at once: who was away acknowledges thousands.
const FRAMES_BURST_SECONDS: u32 = 5;

/// How long a peer that sends too much is not read.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Pings and pongs a second, and at once. Clients send one in half a minute; thousands are an attack, and
/// each is answered.
const CONTROLS_PER_SECOND: u32 = 10;
const CONTROLS_BURST: u32 = 100;

/// Messages in which a peer has to log in; a login is one or two.
const MESSAGES_BEFORE_LOGIN: u32 = 256;

/// The default of [`Limits::hold`]. Timers of the runtime are late by up to a millisecond, so it is never
/// longer than 20 ms.
const HOLD: Duration = Duration::from_millis(18);

/// A connection is busy after this many more pushes that followed a write within its hold than pushes
/// that did not, which count twice: at some seventy pushes a second, far from what people write.
const BUSY_AT: u8 = 6;
const BUSY_MAX: u8 = 12;

/// Bytes of pushes that are held at most.
const HELD_MAX: usize = 16 * 1024;

/// How long the close handshake may take. A peer that reads needs one round
/// trip; one that does not is cut off.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What an emptied outbox may keep, in frames, so that one long answer does not
/// make an idle connection expensive for ever.
const OUTBOX_KEPT: usize = 4;

/// Drives `protocol` over a socket on which the WebSocket handshake is done, until
/// the connection ends, closes the socket and says goodbye to the protocol. `read`
/// is what came behind the handshake already. The caller spawns this future; a
/// panic of the protocol unwinds through it and leaves counters and tickets right.
pub async fn run<S, P>(
    io: S,
    read: Bytes,
    mut protocol: P,
    mut queue: Queue<P::Push>,
    limits: Limits,
    drain: DrainSignal,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Protocol,
{
    let mut meter = Meter::open(drain.track());
    let mut socket = MessageSocket::new(io, &read, limits.frame_max);
    drop(read);
    let (end, farewell) = drive(&mut socket, &mut protocol, &mut queue, &limits, &drain, &meter).await;
    meter.end = end.label();
    tracing::debug!(reason = end.label(), "connection ended");
    // From here on pushers are refused, and what they queued is freed.
    drop(queue);
    // The domain must not wait for a peer that is slow to leave.
    tokio::join!(part(&mut socket, farewell), Box::pin(protocol.on_end(end)));
}

/// Runs the connection to its end; also says with which close frame to part.
async fn drive<S, P>(
    socket: &mut MessageSocket<S>,
    protocol: &mut P,
    queue: &mut Queue<P::Push>,
    limits: &Limits,
    drain: &DrainSignal,
    meter: &Meter,
) -> (End, Option<Close>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Protocol,
{
    let mut out = Outbox::new();
    let mut drain = drain.watch();
    let mut deadlines = Deadlines::start(limits, protocol.phase());
    let mut timer = pin!(sleep_until(deadlines.next().0));
    let mut pushers_left = true;
    let mut pace = Pace::start(limits.hold);
    let overflow = queue.overflow();
    let mut floods = Floods::new(limits);

    loop {
        // By hand, because a `select!` would make and register all five waits anew each time.
        let event = poll_fn(|cx| {
            if overflow.poll_happened(cx).is_ready() {
                return Poll::Ready(Event::Overflow);
            }
            if let Poll::Ready(until) = drain.poll_changed(cx) {
                return Poll::Ready(Event::Drain(until));
            }
            if let Some(pause) = &mut floods.paused {
                if pause.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::ReadOn);
                }
            } else if let Poll::Ready(received) = socket.poll_received(cx) {
                return Poll::Ready(Event::Inbound(received));
            }
            if pushers_left && let Poll::Ready(push) = queue.poll_recv(cx) {
                return Poll::Ready(Event::Push(push));
            }
            timer.as_mut().poll(cx).map(|()| Event::Timer)
        })
        .await;

        let mut flow = Flow::Continue;
        let mut pong = false;
        let mut may_hold = false;
        match event {
            Event::Overflow => return by_transport(protocol, End::Slow),
            Event::Drain(until) => {
                if deadlines.drained.replace(until).is_none() {
                    protocol.on_drain(&mut out);
                }
            }
            Event::ReadOn => floods.paused = None,
            Event::Inbound(message) => {
                deadlines.heard = Instant::now();
                floods.frame(deadlines.heard);
                match message {
                    Received::Message(frame) => {
                        if !floods.may_speak(protocol.phase()) {
                            return by_transport(protocol, End::Flood);
                        }
                        let size = frame.payload().len();
                        meter.frames_in.increment(1);
                        meter.bytes_in.increment(size as u64);
                        let limit = match protocol.phase() {
                            Phase::Fresh => limits.frame_before_login.min(limits.frame_max),
                            Phase::Ready => limits.frame_max,
                        };
                        if size > limit {
                            return by_transport(protocol, End::FrameTooLong);
                        }
                        // Boxed: its state lives only while it runs, so an idle
                        // connection does not pay for the deepest use case.
                        flow = Box::pin(protocol.on_frame(frame, &mut out)).await;
                    }
                    Received::Control if floods.control(deadlines.heard) => pong = true,
                    Received::Control => return by_transport(protocol, End::Flood),
                    Received::Closed => return by_transport(protocol, End::PeerClosed),
                    Received::Failed => return by_transport(protocol, End::Lost),
                    Received::TooLong => return by_transport(protocol, End::FrameTooLong),
                    Received::Broken(close) => return (End::Lost, Some(close)),
                }
            }
            Event::Push(Some(push)) => {
                let others = queue.len();
                if others > 0 {
                    meter.queue_depth.record(depth(others + 1));
                }
                flow = protocol.on_push(push, &mut out);
                may_hold = true;
            }
            Event::Push(None) => pushers_left = false,
            Event::Timer => {
                let (at, end) = deadlines.next();
                if at <= Instant::now() {
                    return by_transport(protocol, end);
                }
                // Frames only move the stored instants; the timer follows
                // here, once per time-out and not once per frame.
                timer.as_mut().reset(at);
                may_hold = true;
            }
        }

        let mut room = PUSHES_PER_FLUSH;
        let (mut gathered, mut weighed) = (0, 0);
        while flow == Flow::Continue && room > 0 {
            gathered += out[weighed..].iter().map(|frame| frame.payload().len()).sum::<usize>();
            weighed = out.len();
            if gathered >= BYTES_PER_FLUSH {
                break;
            }
            let Some(push) = queue.try_recv() else { break };
            flow = protocol.on_push(push, &mut out);
            room -= 1;
        }
        let held = if may_hold && flow == Flow::Continue { pace.hold(&out) } else { None };
        // The answer to a ping waits inside the socket for a flush.
        if held.is_none() && (pong || !out.is_empty()) {
            if let Err(end) = write(socket, &mut out, &overflow, limits, meter).await {
                return by_transport(protocol, end);
            }
            pace.written();
        }
        if let Flow::Close(close) = flow {
            return (End::ByProtocol, Some(close));
        }

        deadlines.phase_is(protocol.phase());
        let (at, end) = deadlines.next();
        // A peer that never stops talking would starve the timer.
        if at <= deadlines.heard {
            return by_transport(protocol, end);
        }
        let at = held.map_or(at, |held| held.min(at));
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
    }
}

/// An end that the protocol did not ask for, and the close frame it wants for
/// it. A peer that has left is told nothing.
fn by_transport<P: Protocol>(protocol: &P, end: End) -> (End, Option<Close>) {
    let farewell = match end {
        End::Idle | End::LoginTimeout | End::FrameTooLong | End::Flood | End::Slow | End::Drained => {
            Some(protocol.close_for(end))
        }
        End::PeerClosed | End::Lost | End::ByProtocol => None,
    };
    (end, farewell)
}

enum Event<T> {
    Overflow,
    Drain(Instant),
    Inbound(Received),
    ReadOn,
    Push(Option<T>),
    Timer,
}

/// What bounds how much a peer says. Too many messages only make the peer wait, since the domain knows
/// better what to refuse; pings and a stranger's messages have no use beyond a few.
struct Floods {
    frames: Option<Bucket>,
    controls: Bucket,
    said_as_stranger: u32,
    /// Runs while the peer is not read.
    paused: Option<Pin<Box<Sleep>>>,
}

impl Floods {
    fn new(limits: &Limits) -> Self {
        let now = Instant::now();
        let per_second = limits.frames_per_second;
        let burst = per_second.saturating_mul(FRAMES_BURST_SECONDS);
        Self {
            frames: (per_second > 0).then(|| Bucket::new(per_second, burst, now)),
            controls: Bucket::new(CONTROLS_PER_SECOND, CONTROLS_BURST, now),
            said_as_stranger: 0,
            paused: None,
        }
    }

    /// Counts anything that came; after too much, nothing is read for a while.
    fn frame(&mut self, now: Instant) {
        if self.frames.as_mut().is_some_and(|frames| !frames.take(now)) {
            counter!("posthouse_reads_paused_total").increment(1);
            self.paused = Some(Box::pin(sleep_until(now + READ_PAUSE)));
        }
    }

    /// Whether another ping or pong may come.
    fn control(&mut self, now: Instant) -> bool {
        self.controls.take(now)
    }

    /// Whether another message may come in this phase.
    fn may_speak(&mut self, phase: Phase) -> bool {
        self.said_as_stranger = match phase {
            Phase::Fresh => self.said_as_stranger + 1,
            Phase::Ready => 0,
        };
        self.said_as_stranger <= MESSAGES_BEFORE_LOGIN
    }
}

/// So many a second and so many at once: the time at which it is full again, and how long that takes
/// from empty.
struct Bucket {
    full_at: Instant,
    interval: Duration,
    depth: Duration,
}

impl Bucket {
    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self { full_at: now, interval, depth: interval * burst }
    }

    /// Takes one, also from an empty one; `false` if that was the last.
    fn take(&mut self, now: Instant) -> bool {
        self.full_at = self.full_at.max(now) + self.interval;
        self.full_at <= now + self.depth
    }
}

/// The instants at which the transport itself ends the connection.
struct Deadlines {
    idle_timeout: Duration,
    login_timeout: Duration,
    heard: Instant,
    /// Since when nobody is logged in; `None` while somebody is.
    fresh_since: Option<Instant>,
    drained: Option<Instant>,
}

impl Deadlines {
    fn start(limits: &Limits, phase: Phase) -> Self {
        let now = Instant::now();
        Self {
            idle_timeout: limits.idle_timeout,
            login_timeout: limits.login_timeout,
            heard: now,
            fresh_since: (phase == Phase::Fresh).then_some(now),
            drained: None,
        }
    }

    /// A connection whose last session closed has its login time once more.
    fn phase_is(&mut self, phase: Phase) {
        match phase {
            Phase::Fresh => {
                self.fresh_since.get_or_insert_with(Instant::now);
            }
            Phase::Ready => self.fresh_since = None,
        }
    }

    fn next(&self) -> (Instant, End) {
        let idle = (self.heard + self.idle_timeout, End::Idle);
        let login = self.fresh_since.map(|since| (since + self.login_timeout, End::LoginTimeout));
        let drained = self.drained.map(|at| (at, End::Drained));
        [login, drained].into_iter().flatten().fold(
            idle,
            |soonest, other| {
                if other.0 < soonest.0 { other } else { soonest }
            },
        )
    }
}

/// When to write pushes: at once, except for a connection that is pushed so much that several can share
/// a write. What is written for any other reason takes along whatever is held.
struct Pace {
    hold: Duration,
    written: Instant,
    busy: u8,
    /// Whether the first push since the last write has been counted.
    counted: bool,
}

impl Pace {
    fn start(hold: Duration) -> Self {
        Self { hold, written: Instant::now(), busy: 0, counted: false }
    }

    /// Until when the pushes in `out` are kept back; `None` to write them now.
    fn hold(&mut self, out: &Outbox) -> Option<Instant> {
        if out.is_empty() {
            return None;
        }
        let until = self.written + self.hold;
        let is_early = Instant::now() < until;
        if !self.counted {
            self.counted = true;
            self.busy = if is_early { BUSY_MAX.min(self.busy + 1) } else { self.busy.saturating_sub(2) };
        }
        let has_room = || out.len() < PUSHES_PER_FLUSH && bytes_of(out) < HELD_MAX;
        (is_early && self.busy >= BUSY_AT && has_room()).then_some(until)
    }

    fn written(&mut self) {
        self.written = Instant::now();
        self.counted = false;
    }
}

fn bytes_of(out: &Outbox) -> usize {
    out.iter().map(|frame| frame.payload().len()).sum()
}

/// Writes all of `out`, and whatever the socket itself has queued, in one flush.
async fn write<S>(
    socket: &mut MessageSocket<S>,
    out: &mut Outbox,
    overflow: &Overflow,
    limits: &Limits,
    meter: &Meter,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    meter.frames_out.increment(out.len() as u64);
    meter.bytes_out.increment(bytes_of(out) as u64);
    for frame in out.drain(..) {
        if socket.feed(&frame).is_err() {
            tracing::error!("a frame is larger than a connection may buffer");
            return Err(End::Lost);
        }
    }
    out.shrink_to(OUTBOX_KEPT);
    // Most peers take all of it at once, and then nobody needs a timer.
    let sent = match poll_fn(|cx| Poll::Ready(socket.poll_flush(cx))).await {
        Poll::Ready(sent) => sent,
        Poll::Pending => tokio::select! {
            biased;
            sent = poll_fn(|cx| socket.poll_flush(cx)) => sent,
            () = overflow.happened() => return Err(End::Slow),
            () = sleep(limits.write_timeout) => return Err(End::Slow),
        },
    };
    sent.map_err(|error| {
        tracing::debug!(%error, "write failed");
        End::Lost
    })
}

/// Sends the close frame and waits for the peer to leave, for a bounded time.
/// Closing a socket with unread bytes would send a reset that destroys the
/// close frame on its way, so inbound bytes are read and forgotten.
async fn part<S>(socket: &mut MessageSocket<S>, farewell: Option<Close>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let parting = async {
        if let Some(close) = farewell {
            socket.feed_close(close);
        }
        // Without a farewell of ours, this sends the reply to the peer's, if there was one.
        if poll_fn(|cx| socket.poll_flush(cx)).await.is_err() {
            return;
        }
        if farewell.is_some() {
            while let Received::Message(_) | Received::Control = poll_fn(|cx| socket.poll_received(cx)).await
            {
            }
        }
        let stream = socket.io();
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut forgotten = vec![0; 4096];
        while matches!(stream.read(&mut forgotten).await, Ok(1..)) {}
    };
    if timeout(CLOSE_TIMEOUT, Box::pin(parting)).await.is_err() {
        tracing::debug!("peer did not finish the close handshake");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a queue depth is far below 2^52")]
fn depth(len: usize) -> f64 {
    len as f64
}

/// The metrics of one connection. Handles are looked up once, not per frame;
/// dropping it, also by a panic, takes the connection out of the gauge.
struct Meter {
    connections: Gauge,
    frames_in: Counter,
    frames_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    queue_depth: Histogram,
    end: &'static str,
    _ticket: Ticket,
}

impl Meter {
    fn open(ticket: Ticket) -> Self {
        let connections = gauge!("posthouse_connections");
        connections.increment(1.0);
        counter!("posthouse_connections_total").increment(1);
        Self {
            connections,
            frames_in: counter!("posthouse_frames_in_total"),
            frames_out: counter!("posthouse_frames_out_total"),
            bytes_in: counter!("posthouse_bytes_in_total"),
            bytes_out: counter!("posthouse_bytes_out_total"),
            queue_depth: histogram!("posthouse_send_queue_depth"),
            end: "panic",
            _ticket: ticket,
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.connections.decrement(1.0);
        counter!("posthouse_closes_total", "reason" => self.end).increment(1);
    }
}
