//! Clients that send too much (R12) and clients that don't read (R11), beside others who must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use posthouse::config::Flags;
use posthouse::peer::{BINARY, Open, Outgoing, Peer, spoken, text_content};
use posthouse_leancloud::wire::proto::{CommandType, DirectCommand, GenericCommand};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{alone, p99, seconds_or};

async fn enter(server: &TestServer, client: &str) -> Peer {
    let mut peer = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    peer.open(server.app_id(), client, Open::default()).await.unwrap();
    peer
}

/// A conversation of `who` with another one who is away.
async fn own_talk(peer: &mut Peer, who: &str) -> String {
    peer.create_conversation(who, &[&format!("{who}-away")], true, "{}").await.unwrap().cid
}

fn direct(who: &str, cid: &str, serial: i32, text: &str) -> GenericCommand {
    GenericCommand {
        i: Some(serial),
        direct_message: Some(DirectCommand {
            cid: Some(cid.to_owned()),
            msg: Some(text_content(text).into()),
            ..DirectCommand::default()
        }),
        ..spoken(who, CommandType::Direct, None)
    }
}

/// Lets time go on by itself, as in production, until what this gives is dropped.
fn ticking(server: &TestServer) -> JoinSet<()> {
    let clock = server.clock.clone();
    let mut ticking = JoinSet::new();
    ticking.spawn(async move {
        let (start, before) = (Instant::now(), posthouse_core::time::Clock::now(&*clock));
        let mut ticks = interval(Duration::from_millis(1));
        loop {
            ticks.tick().await;
            let passed = i64::try_from(start.elapsed().as_millis()).unwrap();
            clock.set(before.plus_ms(passed));
        }
    });
    ticking
}

/// Somebody who sends a message every so often until `over`; how long each took.
async fn bystander(mut peer: Peer, who: String, every: Duration, over: Arc<AtomicBool>) -> Vec<Duration> {
    let cid = own_talk(&mut peer, &who).await;
    let (mut took, mut ticks) = (Vec::new(), interval(every));
    while !over.load(Ordering::Relaxed) {
        let due = ticks.tick().await;
        peer.send_text(&who, &cid, "hello", Outgoing::default()).await.unwrap();
        took.push(due.elapsed());
    }
    took
}

/// Resident memory of this process, server and clients together, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// What the flooders were told.
#[derive(Default)]
struct Told {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// Sends so many a second without waiting for answers, until `over`, and reads what is answered.
async fn flood(mut peer: Peer, who: String, per_second: u32, told: Arc<Told>, over: Arc<AtomicBool>) {
    let cid = own_talk(&mut peer, &who).await;
    // A tenth of a second's worth at a time.
    let mut ticks = interval(Duration::from_millis(100));
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let at_once = i32::try_from(per_second / 10).unwrap();
        for serial in 0..at_once {
            peer.send(&direct(&who, &cid, 1_000_000 + serial, "flood")).await.unwrap();
        }
        let mut unanswered = at_once;
        while unanswered > 0 {
            // What tells of the conversation made may still be on its way.
            let Some(ack) = peer.receive().await.unwrap().ack_message else { continue };
            unanswered -= 1;
            match ack.code {
                None => told.accepted.fetch_add(1, Ordering::Relaxed),
                Some(4116) => told.refused.fetch_add(1, Ordering::Relaxed),
                Some(other) => panic!("refused with {other}"),
            };
        }
    }
}

/// Lets so many clients send ten times what is allowed, beside twenty who send half of it; p99 of those
/// without and with the flood, and how many of the flooders' messages were accepted and refused. Fails if
/// more were accepted than the time allows.
async fn flooded(flooders: usize, allowed: u32) -> (Duration, Duration, u64, u64) {
    const BURST: u64 = 10;
    let mut server = TestServer::start().await;
    let per_minute = (allowed * 60).to_string();
    server.set(&[("messages_per_minute", &per_minute), ("rate_burst", &BURST.to_string())]).await;
    let _time = ticking(&server);
    let mut p99s = Vec::new();
    let told = Arc::new(Told::default());
    let mut took = Duration::ZERO;
    for floods in [0, flooders] {
        let over = Arc::new(AtomicBool::new(false));
        let (mut calm, mut wild) = (JoinSet::new(), JoinSet::new());
        let began = Instant::now();
        for number in 0..floods {
            let who = format!("flooder{number}");
            wild.spawn(flood(enter(&server, &who).await, who, allowed * 10, told.clone(), over.clone()));
        }
        let every = Duration::from_secs(1) * 2 / allowed;
        for number in 0..20 {
            let who = format!("bystander{floods}-{number}");
            calm.spawn(bystander(enter(&server, &who).await, who, every, over.clone()));
        }
        drop(tokio::time::timeout(seconds_or(2), std::future::pending::<()>()).await);
        over.store(true, Ordering::Relaxed);
        p99s.push(p99(calm.join_all().await.concat()));
        wild.join_all().await;
        took = began.elapsed();
    }
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (accepted, refused) = (count(&told.accepted), count(&told.refused));
    let each = BURST + u64::from(allowed) * (took.as_secs() + 2);
    assert!(accepted <= flooders as u64 * each, "{accepted} were accepted in {took:?}");
    (p99s[0], p99s[1], accepted, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_sends_ten_times_too_much_is_refused_and_the_others_go_on() {
    let _turn = alone().await;
    let (before, beside, accepted, refused) = flooded(1, 10).await;
    println!("{accepted} accepted, {refused} refused; others' p99 {before:?} before, {beside:?} beside");
    assert!(accepted >= 10, "{accepted} were accepted");
    assert!(refused > accepted, "the flood was a trickle");
    assert!(beside < Duration::from_secs(1).max(before * 8), "{before:?}, then {beside:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_send_ten_times_too_much_are_refused_and_the_others_go_on() {
    let _turn = alone().await;
    let memory = resident();
    let flooders = std::env::var("POSTHOUSE_FLOODERS").map_or(200, |text| text.parse().expect("a number"));
    let (before, beside, accepted, refused) = flooded(flooders, 2).await;
    let grown = resident().saturating_sub(memory) >> 20;
    println!(
        "{accepted} accepted, {refused} refused; others' p99 {before:?} before, {beside:?} beside; {grown} MiB more"
    );
    assert!(refused > 200, "the flood was a trickle");
    assert!(grown < 200, "{grown} MiB more");
    assert!(beside < Duration::from_secs(1).max(before * 8), "{before:?}, then {beside:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiny_frames_are_read_slowly_and_the_others_go_on() {
    let _turn = alone().await;
    let frames_per_second_max = Some("100".to_owned());
    let server = TestServer::start_with(Flags { frames_per_second_max, ..Flags::default() }).await;
    let over = Arc::new(AtomicBool::new(false));
    let who = "bystander".to_owned();
    let every = Duration::from_millis(100);
    let mut calm = JoinSet::new();
    calm.spawn(bystander(enter(&server, &who).await, who, every, over.clone()));
    // An echo is the smallest thing that there is, and is answered.
    let mut wild = enter(&server, "flooder").await;
    let echo = GenericCommand { cmd: Some(CommandType::Echo.into()), ..GenericCommand::default() };
    let began = Instant::now();
    for _ in 0..700 {
        wild.send(&echo).await.unwrap();
    }
    for _ in 0..700 {
        wild.receive().await.unwrap();
    }
    // 500 at once, then 100 a second.
    let took = began.elapsed();
    over.store(true, Ordering::Relaxed);
    let beside = p99(calm.join_all().await.concat());
    println!("700 frames took {took:?}; others' p99 {beside:?}");
    assert!(took > Duration::from_millis(1_800), "{took:?}");
    assert!(beside < Duration::from_secs(1), "{beside:?}");
}

#[tokio::test]
async fn a_ping_flood_is_closed_on_both_doors() {
    let _turn = alone().await;
    let server = TestServer::start().await;
    let leancloud = server.socket_url();
    let easemob = format!("{}websocket", server.socket_url());
    for url in [leancloud, easemob] {
        let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
        for _ in 0..500 {
            if socket.feed(Message::Ping(Bytes::from_static(b"?"))).await.is_err() {
                break;
            }
        }
        drop(socket.flush().await);
        let mut pongs = 0;
        let code = loop {
            match socket.next().await {
                Some(Ok(Message::Pong(_))) => pongs += 1,
                Some(Ok(Message::Close(Some(close)))) => break u16::from(close.code),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(code, 1008);
        assert!(pongs <= 110, "{pongs} pings were answered");
    }
}

// ---- slow readers -----------------------------------------------------------------------------------

/// A client that logs in and then never reads: with the smallest window that the system allows.
async fn deaf(server: &TestServer, client: &str) -> WebSocketStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let tcp = socket.connect(server.server.address).await.unwrap();
    let mut request = server.socket_url().into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", BINARY.parse().unwrap());
    let (mut socket, _) = client_async(request, tcp).await.unwrap();
    let open = GenericCommand {
        i: Some(1),
        app_id: Some(server.app_id().to_owned()),
        peer_id: Some(client.to_owned()),
        session_message: Some(posthouse_leancloud::wire::proto::SessionCommand::default()),
        ..posthouse::peer::command(CommandType::Session, Some(posthouse_leancloud::wire::proto::OpType::Open))
    };
    socket.send(Message::binary(open.encode_to_vec())).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_who_stop_reading_are_cut_and_the_others_hear_everything() {
    let _turn = alone().await;
    const MEMBERS: usize = 50;
    let push_queue_max = Some("64".to_owned());
    let mut server = TestServer::start_with(Flags { push_queue_max, ..Flags::default() }).await;
    server.set(&[("message_bytes_max", "16384")]).await;
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("m{number}")).collect();
    let mut speaker = enter(&server, "speaker").await;
    let others: Vec<&str> = names.iter().map(String::as_str).chain(["deaf"]).collect();
    let cid = speaker.create_conversation("speaker", &others, true, "{}").await.unwrap().cid;
    let slow = deaf(&server, "deaf").await;
    let mut readers = Vec::new();
    for name in &names {
        readers.push(enter(&server, name).await);
    }
    assert_eq!(speaker.online("speaker", &["deaf"]).await.unwrap(), ["deaf"]);

    // Far more than the windows, the socket's buffers and the queue of the one hold together. The others
    // read along, so they are never behind.
    let text = "x".repeat(16_000);
    let (mut sent, mut worst) = (0, Duration::ZERO);
    let mut gone = false;
    while !gone || sent < 100 {
        assert!(sent < 3_000, "nobody who doesn't read is ever cut");
        let began = Instant::now();
        speaker.send_text("speaker", &cid, &text, Outgoing::default()).await.unwrap();
        worst = worst.max(began.elapsed());
        sent += 1;
        for reader in &mut readers {
            reader.expect_message(&cid).await.unwrap();
        }
        gone = speaker.online("speaker", &["deaf"]).await.unwrap().is_empty();
    }
    println!("cut after {sent} messages or before; the slowest ack took {worst:?}");
    assert!(worst < Duration::from_secs(2), "a sender waited for who doesn't read: {worst:?}");
    drop(slow);

    // Who was cut has lost nothing: it comes back and reads.
    let mut back = enter(&server, "deaf").await;
    let history = back.history("deaf", &cid, 100).await.unwrap();
    assert_eq!(history.len(), 100.min(sent));
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_too() {
    let _turn = alone().await;
    let push_queue_bytes_max = Some("100000".to_owned());
    let mut server = TestServer::start_with(Flags { push_queue_bytes_max, ..Flags::default() }).await;
    server.set(&[("message_bytes_max", "60000")]).await;
    let mut speaker = enter(&server, "speaker").await;
    let cid = speaker.create_conversation("speaker", &["deaf"], true, "{}").await.unwrap().cid;
    let _slow = deaf(&server, "deaf").await;
    let text = "x".repeat(55_000);
    let mut sent = 0;
    while !speaker.online("speaker", &["deaf"]).await.unwrap().is_empty() {
        // A socket's buffers hold some megabytes; a thousand pushes would be fifty more.
        assert!(sent < 500, "{sent} messages wait for one who doesn't read");
        speaker.send_text("speaker", &cid, &text, Outgoing::default()).await.unwrap();
        sent += 1;
    }
}
