//! The connection loop over an in-memory pipe, with a clock that jumps.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use posthouse_transport::{
    Close, Drain, End, Flow, Frame, Limits, Outbox, Phase, Protocol, Pusher, run, send_queue,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use support::Witness;

/// Counts the writes that reach the pipe: one per system call of a real socket.
struct Counted {
    pipe: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.pipe).poll_write(cx, buf);
        if written.is_ready() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

struct Rig {
    client: WebSocketStream<DuplexStream>,
    pusher: Pusher<Frame>,
    ends: mpsc::Receiver<End>,
    drain: Drain,
    writes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    start: Instant,
}

const PIPE: usize = 256 * 1024;

impl Rig {
    async fn start(limits: Limits) -> Self {
        Self::with_pipe(limits, PIPE, |_| {}).await
    }

    /// `before` may push before the connection's task runs for the first time.
    async fn with_pipe(limits: Limits, pipe: usize, before: impl FnOnce(&Pusher<Frame>)) -> Self {
        let (near, far) = duplex(pipe);
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Counted { pipe: far, writes: Arc::clone(&writes) };
        let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let (witness, ends) = Witness::new();
        let (pusher, queue) = send_queue(limits.queue, limits.queue_bytes);
        let script = witness.script(pusher.clone());
        before(&pusher);
        let drain = Drain::new();
        let task = tokio::spawn(run(counted, Bytes::new(), script, queue, limits, drain.signal()));
        // The connection's clock starts when its task first runs.
        tokio::task::yield_now().await;
        Self { client, pusher, ends, drain, writes, task, start: Instant::now() }
    }

    async fn say(&mut self, text: &'static str) {
        self.client.send(Message::text(text)).await.unwrap();
    }

    async fn hear(&mut self) -> Message {
        self.client.next().await.unwrap().unwrap()
    }

    async fn login(&mut self) {
        self.say("login").await;
        assert_eq!(self.hear().await, Message::text("welcome"));
    }

    async fn expect_close(&mut self, code: u16) {
        match self.hear().await {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// The end the protocol was told, after the task is gone.
    async fn end(mut self) -> End {
        let end = self.ends.recv().await.unwrap();
        drop(self.client);
        self.task.await.unwrap();
        assert!(self.pusher.is_closed());
        assert!(self.drain.finished(Duration::ZERO).await);
        end
    }
}

fn elapsed(rig: &Rig) -> u64 {
    rig.start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn login_timeout() {
    let mut rig = Rig::start(Limits::default()).await;
    // Talking does not help; only logging in does.
    tokio::time::advance(Duration::from_secs(40)).await;
    rig.say("hello").await;
    assert_eq!(rig.hear().await, Message::text("hello"));
    rig.expect_close(4108).await;
    assert_eq!(elapsed(&rig), 60);
    assert_eq!(rig.end().await, End::LoginTimeout);
}

#[tokio::test(start_paused = true)]
async fn login_time_begins_anew_after_a_logout() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.login().await;
    tokio::time::advance(Duration::from_secs(300)).await;
    rig.say("logout").await;
    assert_eq!(rig.hear().await, Message::text("bye"));
    rig.expect_close(4108).await;
    assert_eq!(elapsed(&rig), 360);
    assert_eq!(rig.end().await, End::LoginTimeout);
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_counts_from_the_last_frame() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.login().await;
    tokio::time::advance(Duration::from_secs(100)).await;
    rig.client.send(Message::Ping(Bytes::from_static(b"alive"))).await.unwrap();
    assert_eq!(rig.hear().await, Message::Pong(Bytes::from_static(b"alive")));
    // What the server sends is no sign of life of the peer.
    tokio::time::advance(Duration::from_secs(300)).await;
    rig.pusher.try_push(Frame::text("news"), 4).unwrap();
    assert_eq!(rig.hear().await, Message::text("news"));
    rig.expect_close(4107).await;
    assert_eq!(elapsed(&rig), 470);
    assert_eq!(rig.end().await, End::Idle);
}

#[tokio::test(start_paused = true)]
async fn waiting_pushes_leave_in_one_write() {
    let mut rig = Rig::with_pipe(Limits::default(), PIPE, |pusher| {
        for number in 0..50 {
            pusher.try_push(Frame::text(format!("{number}")), 1).unwrap();
        }
    })
    .await;
    for number in 0..50 {
        assert_eq!(rig.hear().await, Message::text(format!("{number}")));
    }
    assert_eq!(rig.writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_response_precedes_its_pushes_in_one_write() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.say("push 20").await;
    assert_eq!(rig.hear().await, Message::text("pushed"));
    for number in 0..20 {
        assert_eq!(rig.hear().await, Message::text(format!("push {number}")));
    }
    assert_eq!(rig.writes.load(Ordering::Relaxed), 1);
}

/// Lets the connection's task do all it can without time passing.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Pushes `count` times, `gap` apart, and returns the writes that this took.
async fn push_every(rig: &Rig, gap: Duration, count: usize) -> usize {
    let before = rig.writes.load(Ordering::Relaxed);
    for number in 0..count {
        rig.pusher.try_push(Frame::text(format!("{number}")), 1).unwrap();
        settle().await;
        tokio::time::advance(gap).await;
        settle().await;
    }
    rig.writes.load(Ordering::Relaxed) - before
}

#[tokio::test(start_paused = true)]
async fn a_connection_at_leisure_is_written_to_at_once() {
    let rig = Rig::start(Limits::default()).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    // A few pushes in a row, as when somebody writes several lines.
    assert_eq!(push_every(&rig, Duration::ZERO, 4).await, 4);
    for gap in [20, 50, 500] {
        assert_eq!(push_every(&rig, Duration::from_millis(gap), 20).await, 20, "{gap} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn pushes_of_a_busy_connection_share_writes_and_wait_at_most_20_ms() {
    let mut rig = Rig::start(Limits::default()).await;
    let each = Duration::from_millis(5);
    push_every(&rig, each, 20).await;
    let writes = push_every(&rig, each, 200).await;
    assert!((50..=67).contains(&writes), "{writes} writes in a second");
    for number in (0..20).chain(0..200) {
        assert_eq!(rig.hear().await, Message::text(format!("{number}")));
    }

    rig.pusher.try_push(Frame::text("held"), 1).unwrap();
    let start = Instant::now();
    settle().await;
    assert_eq!(rig.hear().await, Message::text("held"));
    let waited = start.elapsed();
    assert!((Duration::from_millis(1)..=Duration::from_millis(20)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_held_pushes_along_and_nothing_is_late_after_a_rest() {
    let mut rig = Rig::start(Limits::default()).await;
    push_every(&rig, Duration::from_millis(1), 40).await;
    for number in 0..40 {
        assert_eq!(rig.hear().await, Message::text(format!("{number}")));
    }
    let start = Instant::now();
    rig.pusher.try_push(Frame::text("held"), 1).unwrap();
    settle().await;
    rig.say("hello").await;
    assert_eq!(rig.hear().await, Message::text("held"));
    assert_eq!(rig.hear().await, Message::text("hello"));
    assert_eq!(start.elapsed(), Duration::ZERO);

    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(1)).await;
        push_every(&rig, Duration::ZERO, 1).await;
        assert!(matches!(rig.hear().await, Message::Text(_)));
    }
    let start = Instant::now();
    rig.pusher.try_push(Frame::text("prompt"), 1).unwrap();
    assert_eq!(rig.hear().await, Message::text("prompt"));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_bounded() {
    let rig = Rig::start(Limits::default()).await;
    push_every(&rig, Duration::from_millis(1), 40).await;
    tokio::time::advance(Duration::from_millis(30)).await;
    settle().await;
    // A write just now, so that all of these would be held.
    push_every(&rig, Duration::ZERO, 1).await;
    assert_eq!(push_every(&rig, Duration::ZERO, 63).await, 0);
    assert_eq!(push_every(&rig, Duration::ZERO, 1).await, 1, "64 frames");
    let before = rig.writes.load(Ordering::Relaxed);
    rig.pusher.try_push(Frame::Binary(Bytes::from(vec![0; 16 * 1024])), 1).unwrap();
    settle().await;
    assert_eq!(rig.writes.load(Ordering::Relaxed) - before, 1, "16 KiB");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_times_out() {
    let mut rig = Rig::with_pipe(Limits::default(), 64, |_| {}).await;
    rig.pusher.try_push(Frame::Binary(Bytes::from(vec![0; 4096])), 4096).unwrap();
    assert_eq!(rig.ends.recv().await, Some(End::Slow));
    assert_eq!(elapsed(&rig), 10);
    rig.task.await.unwrap();
    assert_eq!(rig.start.elapsed().as_secs(), 12, "the close frame had its chance");
}

#[tokio::test(start_paused = true)]
async fn an_overflow_ends_a_blocked_write_at_once() {
    let limits = Limits { queue: 4, ..Limits::default() };
    let mut rig = Rig::with_pipe(limits, 64, |_| {}).await;
    let big = || Frame::Binary(Bytes::from(vec![0; 4096]));
    rig.pusher.try_push(big(), 1).unwrap();
    // Lets the connection take the push and block in its write.
    while !rig.pusher.is_empty() {
        tokio::task::yield_now().await;
    }
    while rig.pusher.try_push(big(), 1).is_ok() {}
    assert_eq!(rig.ends.recv().await, Some(End::Slow));
    assert_eq!(rig.start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_that_wakes_up_learns_why() {
    let limits = Limits { queue: 1, ..Limits::default() };
    let mut rig = Rig::with_pipe(limits, PIPE, |pusher| {
        assert!(pusher.try_push(Frame::text("one"), 3).is_ok());
        assert!(pusher.try_push(Frame::text("two"), 3).is_err());
    })
    .await;
    rig.expect_close(4115).await;
    assert_eq!(rig.end().await, End::Slow);
}

#[tokio::test(start_paused = true)]
async fn drain_tells_waits_and_closes() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.login().await;
    rig.drain.begin(Duration::from_secs(5));
    assert_eq!(rig.hear().await, Message::binary(&b"goaway"[..]));
    // Still served while the grace time runs, and told only once.
    rig.drain.begin(Duration::from_secs(3));
    rig.say("still here").await;
    assert_eq!(rig.hear().await, Message::text("still here"));
    rig.expect_close(1001).await;
    assert_eq!(elapsed(&rig), 3);
    assert_eq!(rig.end().await, End::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_during_the_drain_is_not_waited_for() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.drain.begin(Duration::from_secs(500));
    assert_eq!(rig.hear().await, Message::binary(&b"goaway"[..]));
    rig.client.close(None).await.unwrap();
    assert_eq!(rig.ends.recv().await, Some(End::PeerClosed));
    drop(rig.client);
    assert!(rig.drain.finished(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn last_words_come_before_the_close() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.say("quit").await;
    assert_eq!(rig.hear().await, Message::text("last words"));
    rig.expect_close(4000).await;
    assert_eq!(rig.end().await, End::ByProtocol);
}

#[tokio::test(start_paused = true)]
async fn both_orderly_ends_of_a_peer() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.client.close(None).await.unwrap();
    assert_eq!(rig.hear().await, Message::Close(None), "the reply");
    assert_eq!(rig.end().await, End::PeerClosed);

    let mut rig = Rig::start(Limits::default()).await;
    drop(rig.client);
    assert_eq!(rig.ends.recv().await, Some(End::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn frame_limits_follow_the_phase() {
    let limits = Limits::default();
    let (small, large) = (limits.frame_before_login, limits.frame_max);
    for (login, size) in [(false, small), (true, large)] {
        let mut rig = Rig::start(limits.clone()).await;
        if login {
            rig.login().await;
        }
        let fits = Message::binary(vec![7; size]);
        rig.client.send(fits.clone()).await.unwrap();
        assert_eq!(rig.hear().await, fits);
        let too_long = Message::binary(vec![7; size + 1]);
        rig.client.send(too_long).await.unwrap();
        rig.expect_close(4109).await;
        assert_eq!(rig.end().await, End::FrameTooLong);
    }
}

/// Keeps no pusher, so its queue ends before its connection does.
struct Deaf;

impl Protocol for Deaf {
    type Push = Frame;

    fn phase(&self) -> Phase {
        Phase::Ready
    }

    async fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> Flow {
        out.push(frame);
        Flow::Continue
    }

    fn on_push(&mut self, _: Frame, _: &mut Outbox) -> Flow {
        Flow::Continue
    }

    fn on_drain(&mut self, _: &mut Outbox) {}

    fn close_for(&self, _: End) -> Close {
        Close { code: 1000, reason: "" }
    }

    async fn on_end(self, _: End) {}
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_pushers_is_served() {
    let (near, far) = duplex(PIPE);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (pusher, queue) = send_queue(1, 1024);
    drop(pusher);
    let drain = Drain::new();
    let task = tokio::spawn(run(far, Bytes::new(), Deaf, queue, Limits::default(), drain.signal()));
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
    client.close(None).await.unwrap();
    drop(client);
    task.await.unwrap();
}

/// Seconds and milliseconds since the connection began.
fn since_start(rig: &Rig) -> f64 {
    rig.start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn too_many_pings_close_and_a_few_do_not() {
    let mut rig = Rig::start(Limits::default()).await;
    rig.login().await;
    // As fast as is allowed, for a minute.
    for _ in 0..600 {
        tokio::time::advance(Duration::from_millis(100)).await;
        rig.client.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(rig.hear().await, Message::Pong(Bytes::from_static(b"x")));
    }
    for _ in 0..150 {
        rig.client.feed(Message::Ping(Bytes::from_static(b"y"))).await.unwrap();
    }
    rig.client.flush().await.unwrap();
    let mut pongs = 0;
    loop {
        match rig.hear().await {
            Message::Pong(_) => pongs += 1,
            Message::Close(Some(close)) => break assert_eq!(u16::from(close.code), 4116),
            other => panic!("{other:?}"),
        }
    }
    assert!((99..=101).contains(&pongs), "{pongs} were answered");
    assert_eq!(rig.end().await, End::Flood);
}

#[tokio::test(start_paused = true)]
async fn unasked_pongs_count_as_pings() {
    let mut rig = Rig::start(Limits::default()).await;
    for _ in 0..150 {
        rig.client.feed(Message::Pong(Bytes::new())).await.unwrap();
    }
    rig.client.flush().await.unwrap();
    rig.expect_close(4116).await;
    assert_eq!(rig.end().await, End::Flood);
}

#[tokio::test(start_paused = true)]
async fn too_many_messages_are_read_slowly_and_none_is_lost() {
    let limits = Limits { frames_per_second: 100, ..Limits::default() };
    let mut rig = Rig::start(limits).await;
    rig.login().await;
    // 500 at once, then 100 a second.
    for number in 0..1_500 {
        rig.client.feed(Message::text(format!("{number}"))).await.unwrap();
    }
    rig.client.flush().await.unwrap();
    for number in 0..1_500 {
        assert_eq!(rig.hear().await, Message::text(format!("{number}")));
        if number == 450 {
            assert!(since_start(&rig) < 0.01, "a burst waits for nothing");
        }
    }
    let took = since_start(&rig);
    assert!((9.8..=10.2).contains(&took), "{took} s");
    // The others' pushes do not wait for it.
    rig.client.feed(Message::text("one more")).await.unwrap();
    rig.client.flush().await.unwrap();
    tokio::task::yield_now().await;
    rig.pusher.try_push(Frame::text("news"), 4).unwrap();
    assert_eq!(rig.hear().await, Message::text("news"));
    assert_eq!(rig.hear().await, Message::text("one more"));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_is_read_slowly() {
    let mut rig = Rig::start(Limits { frames_per_second: 0, ..Limits::default() }).await;
    rig.login().await;
    for _ in 0..20_000 {
        rig.say("x").await;
        assert_eq!(rig.hear().await, Message::text("x"));
    }
    assert!(since_start(&rig) < 0.01);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_has_some_messages_to_log_in() {
    let mut rig = Rig::start(Limits::default()).await;
    for round in 0..2 {
        for _ in 0..255 {
            rig.say("who am I").await;
            assert_eq!(rig.hear().await, Message::text("who am I"));
        }
        rig.login().await;
        for _ in 0..100 {
            rig.say("hello").await;
            assert_eq!(rig.hear().await, Message::text("hello"));
        }
        rig.say("logout").await;
        assert_eq!(rig.hear().await, Message::text("bye"), "{round}");
    }
    for _ in 0..256 {
        rig.say("who am I").await;
        assert_eq!(rig.hear().await, Message::text("who am I"));
    }
    rig.say("who am I").await;
    rig.expect_close(4116).await;
    assert_eq!(rig.end().await, End::Flood);
}

/// Sends a frame a byte a second and gives the code and the second of the close.
async fn trickled(head: &[u8], login_first: bool) -> (u16, u64) {
    let (mut near, far) = duplex(PIPE);
    let (witness, _ends) = Witness::new();
    let limits = Limits::default();
    let (pusher, queue) = send_queue(limits.queue, limits.queue_bytes);
    let script = witness.script(pusher);
    let drain = Drain::new();
    let _task = tokio::spawn(run(far, Bytes::new(), script, queue, limits, drain.signal()));
    tokio::task::yield_now().await;
    let start = Instant::now();
    if login_first {
        near.write_all(b"\x81\x85\0\0\0\0login").await.unwrap();
        let mut welcome = [0; 9];
        near.read_exact(&mut welcome).await.unwrap();
    }
    near.write_all(head).await.unwrap();
    loop {
        let mut answer = [0; 2];
        tokio::select! {
            read = near.read_exact(&mut answer) => {
                read.unwrap();
                assert_eq!(answer[0], 0x88, "a close frame");
                let mut rest = vec![0; usize::from(answer[1])];
                near.read_exact(&mut rest).await.unwrap();
                return (u16::from_be_bytes([rest[0], rest[1]]), start.elapsed().as_secs());
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => near.write_all(b"x").await.unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_is_no_sign_of_life() {
    // A frame of 60,000 bytes, of which a byte comes each second.
    let head = b"\x82\xfe\xea\x60\0\0\0\0";
    assert_eq!(trickled(head, false).await, (4108, 60));
    assert_eq!(trickled(head, true).await, (4107, 370));
    // Nor are fragments without an end.
    let head = b"\x02\xfe\xea\x60\0\0\0\0";
    assert_eq!(trickled(head, true).await, (4107, 370));
}

/// Looks at what is gathered for a flush.
struct Gatherer {
    most: Arc<AtomicUsize>,
}

impl Protocol for Gatherer {
    type Push = Frame;

    fn phase(&self) -> Phase {
        Phase::Ready
    }

    async fn on_frame(&mut self, _: Frame, _: &mut Outbox) -> Flow {
        Flow::Continue
    }

    fn on_push(&mut self, push: Frame, out: &mut Outbox) -> Flow {
        out.push(push);
        self.most.fetch_max(out.iter().map(|frame| frame.payload().len()).sum(), Ordering::Relaxed);
        Flow::Continue
    }

    fn on_drain(&mut self, _: &mut Outbox) {}

    fn close_for(&self, _: End) -> Close {
        Close { code: 1000, reason: "" }
    }

    async fn on_end(self, _: End) {}
}

#[tokio::test(start_paused = true)]
async fn a_flush_gathers_so_many_bytes_and_no_more() {
    const EACH: usize = 60_000;
    let (near, far) = duplex(PIPE);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (pusher, queue) = send_queue(64, usize::MAX);
    for _ in 0..60 {
        pusher.try_push(Frame::Binary(Bytes::from(vec![0; EACH])), EACH).unwrap();
    }
    let most = Arc::new(AtomicUsize::new(0));
    let drain = Drain::new();
    let gatherer = Gatherer { most: Arc::clone(&most) };
    let _task = tokio::spawn(run(far, Bytes::new(), gatherer, queue, Limits::default(), drain.signal()));
    for _ in 0..60 {
        assert_eq!(client.next().await.unwrap().unwrap().len(), EACH);
    }
    let most = most.load(Ordering::Relaxed);
    assert!((256 * 1024..256 * 1024 + EACH).contains(&most), "{most} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_keeps_too_many_bytes_is_slow() {
    let limits = Limits { queue_bytes: 100_000, ..Limits::default() };
    let mut rig = Rig::with_pipe(limits, 64, |_| {}).await;
    let large = || Frame::Binary(Bytes::from(vec![0; 30_000]));
    rig.pusher.try_push(large(), 30_000).unwrap();
    while !rig.pusher.is_empty() {
        tokio::task::yield_now().await;
    }
    // The peer does not read, so these stay.
    for _ in 0..4 {
        rig.pusher.try_push(large(), 30_000).unwrap();
    }
    assert!(rig.pusher.try_push(large(), 30_000).is_err());
    assert_eq!(rig.ends.recv().await, Some(End::Slow));
}

/// An idle connection may cost 6 to 10 KB, of which 4 KB are the read buffer.
#[tokio::test]
async fn the_loop_itself_is_small() {
    let (_, far) = duplex(1);
    let (witness, _ends) = Witness::new();
    let (pusher, queue) = send_queue(1, 1024);
    let script = witness.script(pusher);
    let drain = Drain::new().signal();
    let future = run(far, Bytes::new(), script, queue, Limits::default(), drain);
    let size = size_of_val(&future);
    assert!(size < 3000, "{size} bytes");
}
