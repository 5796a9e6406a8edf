//! The socket itself: subprotocols, frames, heartbeats, limits, and how a connection ends.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use posthouse::config::Flags;
use posthouse::peer::{BASE64, BINARY, Open, Outgoing, PATIENCE, Peer, Sent, command, is, refusal, spoken};
use posthouse_leancloud::wire::proto::{CommandType, DirectCommand, GenericCommand, OpType, SessionCommand};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::sessions::{connect, login, pushes, tom_and_jerry};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A bare WebSocket, and the subprotocol that the server chose.
async fn raw(server: &TestServer, path: &str, offered: Option<&str>) -> (Socket, Option<String>) {
    let mut request = format!("{}{path}", server.socket_url()).into_client_request().unwrap();
    if let Some(offered) = offered {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
    }
    let (socket, answer) = connect_async(request).await.unwrap();
    assert_eq!(answer.headers().get(SEC_WEBSOCKET_EXTENSIONS), None, "nobody asked for any");
    let chosen = answer.headers().get(SEC_WEBSOCKET_PROTOCOL);
    (socket, chosen.map(|value| value.to_str().unwrap().to_owned()))
}

async fn next(socket: &mut Socket) -> Message {
    timeout(PATIENCE, socket.next()).await.expect("a message comes").expect("the socket is open").unwrap()
}

fn opening(server: &TestServer) -> Vec<u8> {
    GenericCommand {
        app_id: Some(server.app_id().to_owned()),
        i: Some(1),
        session_message: Some(SessionCommand::default()),
        ..spoken("tom", CommandType::Session, Some(OpType::Open))
    }
    .encode_to_vec()
}

fn echo(i: Option<i32>) -> GenericCommand {
    GenericCommand { i, ..command(CommandType::Echo, None) }
}

fn with_flags(change: impl FnOnce(&mut Flags)) -> Flags {
    let mut flags = Flags::default();
    change(&mut flags);
    flags
}

#[tokio::test]
async fn the_offered_subprotocol_is_chosen_and_spoken() {
    let server = TestServer::start().await;
    for (offered, path, chosen, text) in [
        (Some(BINARY), "", Some(BINARY), false),
        (Some(BASE64), "", Some(BASE64), true),
        (None, "?subprotocol=lc.protobuf2.3", None, false),
        (None, "?subprotocol=lc.proto2base64.3", None, true),
        (None, "", None, false),
    ] {
        let (mut socket, answered) = raw(&server, path, offered).await;
        assert_eq!(answered.as_deref(), chosen, "{offered:?} {path}");
        let open = opening(&server);
        let message = if text { Message::text(STANDARD.encode(open)) } else { Message::binary(open) };
        socket.send(message).await.unwrap();
        let bytes = match next(&mut socket).await {
            Message::Text(answer) if text => STANDARD.decode(answer.as_str()).unwrap(),
            Message::Binary(answer) if !text => answer.to_vec(),
            other => panic!("{offered:?} {path}: {other:?}"),
        };
        let answer = GenericCommand::decode(bytes.as_slice()).unwrap();
        assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "{answer:?}");
    }
}

#[tokio::test]
async fn both_kinds_of_message_are_understood_and_answers_keep_the_agreed_one() {
    let server = TestServer::start().await;
    let (mut binary, _) = raw(&server, "", Some(BINARY)).await;
    binary.send(Message::text(STANDARD.encode(opening(&server)))).await.unwrap();
    assert!(matches!(next(&mut binary).await, Message::Binary(_)));
    let (mut text, _) = raw(&server, "", Some(BASE64)).await;
    text.send(Message::binary(opening(&server))).await.unwrap();
    assert!(matches!(next(&mut text).await, Message::Text(_)));
}

#[tokio::test]
async fn a_client_on_text_frames_can_do_everything() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = Peer::connect(&server.socket_url(), BASE64).await.unwrap();
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let cid =
        jerry.create_conversation("jerry", &["tom"], true, r#"{"name":"汤姆与杰瑞"}"#).await.unwrap().cid;
    let sent = jerry.send_binary("jerry", &cid, &[0, 255, 7], Outgoing::default()).await.unwrap();
    let got = tom.expect_message(&cid).await.unwrap();
    assert_eq!((got.id, got.binary_msg), (Some(sent.id), Some(Bytes::from_static(&[0, 255, 7]))));
    tom.send_text("tom", &cid, "好", Outgoing::default()).await.unwrap();
    jerry.expect_message(&cid).await.unwrap();
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_message_in_many_frames_is_one_command() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    let bytes = opening(&server);
    let pieces: Vec<&[u8]> = bytes.chunks(3).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let kind = if n == 0 { Data::Binary } else { Data::Continue };
        let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), n + 1 == pieces.len());
        peer.send_message(Message::Frame(frame)).await.unwrap();
        if n == 1 {
            // Control frames may come between the pieces.
            peer.send_message(Message::Ping(Bytes::from_static(b"between"))).await.unwrap();
        }
    }
    let opened = peer.next().await.unwrap();
    assert!(is(&opened, CommandType::Session, Some(OpType::Opened)), "{opened:?}");
}

#[tokio::test]
async fn text_in_many_frames_is_one_command() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.socket_url(), BASE64).await.unwrap();
    let text = STANDARD.encode(opening(&server));
    let (head, tail) = text.split_at(7);
    for (piece, kind, last) in [(head, Data::Text, false), (tail, Data::Continue, true)] {
        let frame = Frame::message(piece.as_bytes().to_vec(), OpCode::Data(kind), last);
        peer.send_message(Message::Frame(frame)).await.unwrap();
    }
    let opened = peer.next().await.unwrap();
    assert!(is(&opened, CommandType::Session, Some(OpType::Opened)), "{opened:?}");
}

#[tokio::test]
async fn fields_of_the_future_are_skipped() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    let mut bytes = opening(&server);
    // Field 100, which Java fills, and field 500, which nobody knows; both length-delimited.
    bytes.extend_from_slice(&[0xa2, 0x06, 0x01, 0x00, 0xa2, 0x1f, 0x02, 0xff, 0xff]);
    peer.send_message(Message::binary(bytes)).await.unwrap();
    let opened = peer.next().await.unwrap();
    assert!(is(&opened, CommandType::Session, Some(OpType::Opened)), "{opened:?}");
}

#[tokio::test]
async fn an_echo_comes_back_with_its_serial_or_without_one() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    for logged_in in [false, true] {
        if logged_in {
            peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
        }
        for i in [Some(1), None, Some(0), Some(-65_535), Some(i32::MAX), Some(i32::MIN)] {
            peer.send(&echo(i)).await.unwrap();
            let answer = peer.next().await.unwrap();
            assert!(is(&answer, CommandType::Echo, None), "{answer:?}");
            assert_eq!(answer.i, i);
        }
    }
}

#[tokio::test]
async fn serials_are_repeated_whatever_they_are() {
    let server = TestServer::start().await;
    let mut peer = login(&server, "tom").await;
    for i in [0, -65_535, i32::MAX] {
        let query = GenericCommand {
            i: Some(i),
            session_message: Some(SessionCommand::default()),
            ..spoken("tom", CommandType::Session, Some(OpType::Query))
        };
        peer.send(&query).await.unwrap();
        let answer = peer.next().await.unwrap();
        assert_eq!((answer.i, answer.service), (Some(i), Some(2)), "{answer:?}");
        assert_eq!(answer.peer_id.as_deref(), Some("tom"));
    }
}

#[tokio::test]
async fn what_carries_no_serial_is_not_answered() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let query = GenericCommand {
        session_message: Some(SessionCommand::default()),
        ..spoken("tom", CommandType::Session, Some(OpType::Query))
    };
    tom.send(&query).await.unwrap();
    tom.send(&GenericCommand { cmd: Some(99), ..GenericCommand::default() }).await.unwrap();
    let direct = GenericCommand {
        direct_message: Some(DirectCommand {
            cid: Some(cid.clone()),
            msg: Some(Bytes::from_static(b"no answer needed")),
            ..DirectCommand::default()
        }),
        ..spoken("tom", CommandType::Direct, None)
    };
    tom.send(&direct).await.unwrap();
    assert!(pushes(&mut tom).await.is_empty());
    let got = jerry.expect_message(&cid).await.unwrap();
    assert_eq!(got.msg.unwrap(), "no answer needed", "it had its effect");
}

#[tokio::test]
async fn a_ping_is_answered_with_its_content() {
    let server = TestServer::start().await;
    let (mut socket, _) = raw(&server, "", Some(BINARY)).await;
    for content in ["", "swift"] {
        socket.send(Message::Ping(Bytes::from_static(content.as_bytes()))).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::Pong(Bytes::from_static(content.as_bytes())));
    }
    socket.send(Message::binary(opening(&server))).await.unwrap();
    assert!(matches!(next(&mut socket).await, Message::Binary(_)));
    socket.send(Message::Ping(Bytes::from_static(b"in"))).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong(Bytes::from_static(b"in")));
}

#[tokio::test]
async fn unknown_commands_are_refused_and_the_socket_lives_on() {
    let server = TestServer::start().await;
    let mut peer = login(&server, "tom").await;
    let who = Some("tom".to_owned());
    for (what, unknown) in [
        ("number", GenericCommand { cmd: Some(99), peer_id: who.clone(), ..GenericCommand::default() }),
        ("negative", GenericCommand { cmd: Some(-1), peer_id: who.clone(), ..GenericCommand::default() }),
        ("none", GenericCommand { peer_id: who.clone(), ..GenericCommand::default() }),
        ("op", GenericCommand { op: Some(9_999), ..spoken("tom", CommandType::Conv, None) }),
        ("no op", spoken("tom", CommandType::Conv, None)),
        ("of servers", spoken("tom", CommandType::Goaway, None)),
        ("of old", spoken("tom", CommandType::Room, Some(OpType::Join))),
        ("unused", spoken("tom", CommandType::Pubsub, Some(OpType::Subscribe))),
        ("session op", spoken("tom", CommandType::Session, Some(OpType::Conflict))),
    ] {
        let answer = peer.ask(unknown).await.unwrap();
        assert!(is(&answer, CommandType::Error, None), "{what}: {answer:?}");
        let refused = refusal(&answer).unwrap();
        assert_eq!((refused.code, refused.reason.as_str()), (4200, "INTERNAL_ERROR"), "{what}");
        assert!(refused.detail.is_some_and(|words| !words.is_empty()), "{what}");
    }
    assert_eq!(peer.online("tom", &["tom"]).await.unwrap(), ["tom"]);
}

#[tokio::test]
async fn what_is_no_command_closes_the_socket() {
    let server = TestServer::start().await;
    for (what, message) in [
        ("no protobuf", Message::binary(vec![0xff; 16])),
        ("cut short", Message::binary(opening(&server)[..9].to_vec())),
        ("no base64", Message::text("hello?")),
        ("base64 of no protobuf", Message::text(STANDARD.encode([0xff; 16]))),
    ] {
        for logged_in in [false, true] {
            let mut peer = connect(&server).await;
            if logged_in {
                peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
            }
            peer.send_message(message.clone()).await.unwrap();
            let (code, reason) = peer.expect_close().await.unwrap();
            assert_eq!((code, reason.as_str()), (Some(4114), "UNPARSEABLE_RAW_MESSAGE"), "{what}");
        }
    }
}

#[tokio::test]
async fn before_login_frames_are_small() {
    let server = TestServer::start().await;
    let filled = |bytes: usize| {
        let mut open = opening(&server);
        // Field 500, length-delimited, as long as is missing: 2 bytes of key and 2 of length.
        let rest = bytes - open.len() - 4;
        open.extend_from_slice(&[0xa2, 0x1f]);
        prost::encoding::encode_varint(u64::try_from(rest).unwrap(), &mut open);
        open.resize(bytes, 0);
        Message::binary(open)
    };
    let mut peer = connect(&server).await;
    peer.send_message(filled(8_192)).await.unwrap();
    let opened = peer.next().await.unwrap();
    assert!(is(&opened, CommandType::Session, Some(OpType::Opened)), "{opened:?}");

    let mut peer = connect(&server).await;
    peer.send_message(filled(8_193)).await.unwrap();
    assert_eq!(peer.expect_close().await.unwrap(), (Some(4109), "FRAME_TOO_LONG".to_owned()));
}

#[tokio::test]
async fn after_login_frames_may_be_64_kib() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    // Far too long for a message, but as a frame it is fine: the message is refused, nothing else.
    let long = "x".repeat(60_000);
    let error = tom.send_content("tom", &cid, &long, Outgoing::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(4109), "{error}");
    tom.send_text("tom", &cid, "short", Outgoing::default()).await.unwrap();

    tom.send_message(Message::binary(vec![0; 65_537])).await.unwrap();
    let (code, reason) = tom.expect_close().await.unwrap();
    assert_eq!((code, reason.as_str()), (Some(4109), "FRAME_TOO_LONG"));
}

#[tokio::test]
async fn frames_in_pieces_count_together() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    for n in 0..9 {
        let kind = if n == 0 { Data::Binary } else { Data::Continue };
        let frame = Frame::message(vec![0; 8_192], OpCode::Data(kind), false);
        if peer.send_message(Message::Frame(frame)).await.is_err() {
            break;
        }
    }
    let (code, _) = peer.expect_close().await.unwrap();
    assert!(matches!(code, Some(4109) | None), "{code:?}");
}

#[tokio::test]
async fn who_does_not_log_in_is_closed() {
    let flags = with_flags(|flags| flags.login_timeout_seconds = Some("1".to_owned()));
    let server = TestServer::start_with(flags).await;
    let mut silent = connect(&server).await;
    let mut tom = login(&server, "tom").await;
    assert_eq!(silent.expect_close().await.unwrap(), (Some(4108), "LOGIN_TIMEOUT".to_owned()));
    // Who has logged in stays.
    tom.settle().await.unwrap();
}

#[tokio::test]
async fn heartbeats_do_not_replace_the_login() {
    let flags = with_flags(|flags| flags.login_timeout_seconds = Some("1".to_owned()));
    let server = TestServer::start_with(flags).await;
    let mut peer = connect(&server).await;
    for _ in 0..100 {
        peer.settle().await.unwrap();
    }
    assert_eq!(peer.expect_close().await.unwrap().0, Some(4108));
    // Talks without a pause until it is closed.
    let mut peer = connect(&server).await;
    let talk = async { while peer.settle().await.is_ok() {} };
    timeout(Duration::from_secs(10), talk).await.expect("the server ends it");
    assert!([4108, 1008].contains(&peer.expect_close().await.unwrap().0.unwrap()));
}

#[tokio::test]
async fn who_says_nothing_is_closed() {
    let flags = with_flags(|flags| flags.idle_timeout_seconds = Some("1".to_owned()));
    let server = TestServer::start_with(flags).await;
    let mut tom = login(&server, "tom").await;
    let mut watcher = login(&server, "watcher").await;
    let (closed, ()) = tokio::join!(tom.expect_close(), async {
        // Keeps asking, so it is not idle itself; a client that was closed is offline.
        while !watcher.online("watcher", &["tom"]).await.unwrap().is_empty() {}
    });
    assert_eq!(closed.unwrap(), (Some(4107), "READ_TIMEOUT".to_owned()));
    watcher.settle().await.unwrap();
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_finds_everything_on_return() {
    const MESSAGES_MAX: usize = 20_000;

    let flags = with_flags(|flags| flags.push_queue_max = Some("16".to_owned()));
    let server = TestServer::start_with(flags).await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(server.server.address).await.unwrap();
    let mut deaf = Peer::over(stream, &server.socket_url(), BINARY).await.unwrap();
    deaf.open(server.app_id(), "jerry", Open::default()).await.unwrap();

    let content = "x".repeat(5_000);
    let mut sent = 0;
    while !tom.online("tom", &["jerry"]).await.unwrap().is_empty() {
        assert!(sent < MESSAGES_MAX, "the server would wait for ever");
        tom.send_content("tom", &cid, &content, Outgoing::default()).await.unwrap();
        sent += 1;
    }
    let mut jerry = login(&server, "jerry").await;
    let unread = jerry.expect_push(CommandType::Unread, None).await.unwrap().unread_message.unwrap();
    assert_eq!(usize::try_from(unread.convs[0].unread.unwrap()).unwrap(), sent);
}

#[tokio::test]
async fn a_drain_says_goaway_and_then_closes_with_1001() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let server = server.server;
    let ((), ()) = tokio::join!(server.stop(), async {
        for peer in [&mut tom, &mut jerry] {
            let goaway = peer.expect_push(CommandType::Goaway, None).await.unwrap();
            assert_eq!((goaway.op, goaway.i), (None, None), "{goaway:?}");
        }
        // Within the grace time everything goes on.
        tom.send_text("tom", &cid, "one more", Outgoing::default()).await.unwrap();
        jerry.expect_message(&cid).await.unwrap();
        for mut peer in [tom, jerry] {
            assert_eq!(peer.expect_close().await.unwrap().0, Some(1001));
            assert!(peer.take_pushes().is_empty());
        }
    });
}

#[tokio::test]
async fn nothing_acked_is_lost_by_a_drain() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let (server, acked) = tokio::join!(server.restart(), send_until_closed(&mut tom, &cid));
    assert!(!acked.is_empty());
    let mut tom = login(&server, "tom").await;
    let history = tom.history("tom", &cid, 1_000).await.unwrap();
    let kept: Vec<Sent> = history
        .into_iter()
        .map(|item| Sent { id: item.msg_id.unwrap(), at: item.timestamp.unwrap() })
        .collect();
    // One more may have been stored whose ack the client did not see.
    assert!(kept.len() >= acked.len() && kept.len() <= acked.len() + 1, "{} {}", kept.len(), acked.len());
    assert_eq!(kept[..acked.len()], acked);
}

/// Sends one message after the other until the server ends the connection; those acked. At most
/// as many as fit a page of history.
async fn send_until_closed(tom: &mut Peer, cid: &str) -> Vec<Sent> {
    let mut acked = Vec::new();
    for n in 0..990 {
        match tom.send_text("tom", cid, &format!("{n}"), Outgoing::default()).await {
            Ok(sent) => acked.push(sent),
            Err(error) => {
                assert_eq!(error.code(), None, "refused rather than closed: {error}");
                break;
            }
        }
    }
    acked
}
