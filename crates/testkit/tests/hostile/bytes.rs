//! Frames that nobody should send (R14) and what grows when it is unpacked (R15), byte by byte, on both
//! doors, before and after a login.

use std::fmt::Write as _;

use posthouse::peer::easemob::Device;
use posthouse::peer::{BINARY, Open, Peer, command, http};
use posthouse_easemob::wire::lz4::Encoder;
use posthouse_easemob::wire::proto::Provision;
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_leancloud::wire::proto::{
    CommandType, ConvCommand, GenericCommand, JsonObjectMessage, OpType, SessionCommand,
};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::stage::{back_end, identity, login, token};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    LeanCloud,
    Easemob,
}

const DOORS: [Door; 2] = [Door::LeanCloud, Door::Easemob];

const TEXT: u8 = 1;
const BINARY_FRAME: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame's bytes, masked with nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

fn whole(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame(0x80 | opcode, payload)
}

/// An open WebSocket of which we write every byte.
struct Raw(TcpStream);

impl Raw {
    async fn open(server: &TestServer, door: Door) -> Self {
        let path = match door {
            Door::LeanCloud => "/",
            Door::Easemob => "/websocket",
        };
        let mut stream = TcpStream::connect(server.server.address).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: im.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate, x-webkit-deflate-frame\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(!answer.contains("sec-websocket-extensions"), "compression was not to be agreed on");
        Self(stream)
    }

    async fn logged_in(server: &TestServer, door: Door) -> Self {
        let mut raw = Self::open(server, door).await;
        let request = match door {
            Door::LeanCloud => GenericCommand {
                i: Some(1),
                app_id: Some(server.app_id().to_owned()),
                peer_id: Some("tom".to_owned()),
                session_message: Some(SessionCommand::default()),
                ..command(CommandType::Session, Some(OpType::Open))
            }
            .encode_to_vec(),
            Door::Easemob => {
                let token = token(server, "alice").await;
                let identity = identity(server, "alice", "web_1", &token);
                let device = Device::connect(&server.http_url(), identity).await.unwrap();
                device.provision_request().encode_to_vec()
            }
        };
        raw.send(&whole(BINARY_FRAME, &request)).await;
        assert_eq!(raw.next().await.unwrap().0, BINARY_FRAME, "the login is answered");
        raw
    }

    /// Who is cut off need not take everything.
    async fn send(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes).await);
    }

    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await.ok()?;
        let length = match self.0.read_u8().await.ok()? {
            126 => u64::from(self.0.read_u16().await.ok()?),
            127 => self.0.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0f, payload))
    }

    /// The code with which it is closed, whatever comes before.
    async fn code(&mut self) -> Option<u16> {
        loop {
            if let (CLOSE, payload) = self.next().await? {
                return payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
    }

    /// Whether it still talks.
    async fn is_alive(&mut self) -> bool {
        self.send(&whole(PING, b"?")).await;
        loop {
            match self.next().await {
                Some((PONG, _)) => return true,
                Some((CLOSE, _)) | None => return false,
                Some(_) => {}
            }
        }
    }
}

#[tokio::test]
async fn odd_frames_are_closed_with_the_doors_code_before_and_after_a_login() {
    let server = TestServer::start().await;
    let top_bit = b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let huge = [b"\x82\xff\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec(), vec![7; 1 << 20]].concat();
    let endless: Vec<u8> = std::iter::once(frame(BINARY_FRAME, &[7; 2_000]))
        .chain((0..100).map(|_| frame(0, &[7; 2_000])))
        .flatten()
        .collect();
    for door in DOORS {
        let (long, unreadable) = match door {
            Door::LeanCloud => (4109, 4114),
            Door::Easemob => (1009, 1007),
        };
        let cases: [(&str, Vec<u8>, u16); 10] = [
            ("a length with the top bit", top_bit.clone(), long),
            ("a frame of 16 MiB", huge.clone(), long),
            ("fragments without end", endless.clone(), long),
            ("one byte too many", whole(BINARY_FRAME, &vec![7; 65_537]), long),
            ("invalid UTF-8", whole(TEXT, b"\xc3\x28"), 1007),
            ("a reserved bit, as of compression", frame(0xc2, b"x"), 1002),
            ("a reserved opcode", whole(3, b"x"), 1002),
            ("a continuation of nothing", whole(0, b"x"), 1002),
            ("a fragmented ping", frame(PING, b"x"), 1002),
            ("bytes that are nothing", whole(BINARY_FRAME, &[0xff; 100]), unreadable),
        ];
        for (name, bytes, code) in cases {
            for login in [false, true] {
                let mut raw =
                    if login { Raw::logged_in(&server, door).await } else { Raw::open(&server, door).await };
                raw.send(&bytes).await;
                assert_eq!(raw.code().await, Some(code), "{name}, {door:?}, logged in: {login}");
            }
        }
        // Before a login less is allowed.
        let mut raw = Raw::open(&server, door).await;
        raw.send(&whole(BINARY_FRAME, &vec![7; 8_193])).await;
        assert_eq!(raw.code().await, Some(long), "{door:?}");
    }
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[tokio::test]
async fn an_unfinished_message_keeps_no_more_than_its_limit_and_64_kib() {
    const CONNECTIONS: usize = 300;
    let server = TestServer::start().await;
    let mut half = vec![frame(BINARY_FRAME, &[7; 1_000])];
    half.extend((0..59).map(|_| frame(0, &[7; 1_000])));
    let half = half.concat();
    let mut open = Vec::new();
    // What is taken once is taken before.
    for door in DOORS {
        open.push(Raw::open(&server, door).await);
    }
    let before = resident();
    for number in 0..CONNECTIONS {
        let mut raw = Raw::open(&server, DOORS[number % 2]).await;
        raw.send(&half).await;
        // A ping may come between fragments: answered, it says that all before was read.
        assert!(raw.is_alive().await);
        open.push(raw);
    }
    let each = resident().saturating_sub(before) / CONNECTIONS;
    println!("{each} bytes a connection with 60,000 bytes of an unfinished message");
    assert!(each <= 65_536 + 64 * 1024, "{each}");
}

#[tokio::test]
async fn long_lists_of_subprotocols_cost_nothing() {
    let server = TestServer::start().await;
    let offers = [
        ",".repeat(15_000),
        "a, ".repeat(5_000),
        " ".repeat(15_000),
        format!("{}x", "lc.protobuf2.3 ".repeat(900)),
        "\u{e9}".repeat(5_000),
    ];
    for offer in offers {
        let mut stream = TcpStream::connect(server.server.address).await.unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: im.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {offer}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        // Refused for its length or its content, or let in without an echo; never anything else.
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        assert!(["HTTP/1.1 101", "HTTP/1.1 400", "HTTP/1.1 431"].contains(&&*answer), "{answer}");
    }
}

// ---- bombs ------------------------------------------------------------------------------------------

#[tokio::test]
async fn compressed_frames_grow_to_the_limit_and_no_further() {
    let mut server = TestServer::start().await;
    server.set(&[("uplink_compression", "true")]).await;
    let mut other = login(&server, "bob").await;
    // Zeros pack 250 to 1: 4,000 bytes of them would be a megabyte.
    let real = Encoder::default().encode(&vec![0; 1 << 20]);
    assert!(real.len() < 8_192);
    let claims: [&[u8]; 4] = [
        &real,
        // 2^63 bytes, 65,537 bytes, and a length that never ends.
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0\0\0\0\x10a",
        b"\x81\x80\x04\0\0\0\0\x10a",
        &[0xff; 100],
    ];
    for claim in claims {
        let token = token(&server, "alice").await;
        let identity = identity(&server, "alice", "web_1", &token);
        let mut device = Device::connect(&server.http_url(), identity).await.unwrap();
        let mut request = device.provision_request();
        let mut provision = Provision::decode(request.payload.take().unwrap()).unwrap();
        provision.protocol_compress_type = vec![2];
        request.payload = Some(provision.encode_to_vec().into());
        device.send(&request).await.unwrap();
        device.answer(Command::Provision, "a login").await.unwrap();
        device.send_message(Message::binary(claim.to_vec())).await.unwrap();
        assert_eq!(device.expect_close().await.unwrap().0, Some(1007));
    }
    other.unread().await.unwrap();
}

#[tokio::test]
async fn packed_bodies_are_refused_and_never_unpacked() {
    let server = TestServer::start().await;
    // `{}` in gzip.
    let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0";
    let path = format!("/{}/token", super::stage::app_key(&server).replacen('#', "/", 1));
    for encoding in ["gzip", "deflate", "br"] {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", encoding)];
        let (status, body) =
            http(&server.http_url(), "POST", &path, &headers, Some(packed.as_slice())).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &answer["error"]), (400, &json!("json_parse")), "{encoding}");
    }
}

/// `[[[…` or `{"a":{"a":…`.
fn nested(open: &str, close: &str, depth: usize) -> String {
    let mut text = String::new();
    for _ in 0..depth {
        text.write_str(open).unwrap();
    }
    text.push('1');
    for _ in 0..depth {
        text.write_str(close).unwrap();
    }
    text
}

#[tokio::test]
async fn deeply_nested_json_is_refused_everywhere() {
    let server = TestServer::start().await;
    let back = back_end(&server).await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [200, 30_000] {
            let text = nested(open, close, depth);
            let headers = [("Content-Type", "application/json")];
            let (status, body) =
                back.exchange("POST", "/messages/users", &headers, Some(text.as_bytes())).await.unwrap();
            let answer: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status, &answer["error"]), (400, &json!("json_parse")), "{depth}");
        }
    }
    let mut tom = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    tom.open(server.app_id(), "tom", Open::default()).await.unwrap();
    for depth in [200, 8_000] {
        let condition = format!(r#"{{"attr.a":{}}}"#, nested("[", "]", depth));
        assert_eq!(tom.query_where("tom", &condition).await.unwrap_err().code(), Some(4310), "{depth}");
        let condition = nested(r#"{"$or":["#, "]}", depth / 2);
        assert_eq!(tom.query_where("tom", &condition).await.unwrap_err().code(), Some(4310), "{depth}");
        let attr = format!(r#"{{"a":{}}}"#, nested("[", "]", depth));
        let attr = Some(JsonObjectMessage { data: Some(attr) });
        let refused = tom.conv("tom", OpType::Start, ConvCommand { attr, ..ConvCommand::default() }).await;
        assert_eq!(refused.unwrap_err().code(), Some(4301), "{depth}");
    }
    tom.settle().await.unwrap();
}

/// `depth` messages or groups, each inside the one before, as field `number`.
fn russian_dolls(number: u32, group: bool, depth: usize) -> Vec<u8> {
    let tag = |wire_type: u32| {
        let mut tag = Vec::new();
        prost::encoding::encode_varint(u64::from(number << 3 | wire_type), &mut tag);
        tag
    };
    if group {
        return [tag(3).repeat(depth), tag(4).repeat(depth)].concat();
    }
    let mut inside = Vec::new();
    for _ in 0..depth {
        let mut outside = tag(2);
        prost::encoding::encode_varint(inside.len() as u64, &mut outside);
        outside.extend_from_slice(&inside);
        inside = outside;
    }
    inside
}

#[tokio::test]
async fn nested_and_unknown_protobuf_crashes_nothing() {
    let server = TestServer::start().await;
    let mut other = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    other.open(server.app_id(), "other", Open::default()).await.unwrap();
    let (mut bodies, mut survivors) = (Vec::new(), 0);
    for number in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 20, 33, 101, 110, 500, 536_870_911] {
        for group in [false, true] {
            bodies.push(russian_dolls(number, group, 5_000));
        }
    }
    // Fields that nobody knows, by the thousand.
    bodies.push([0xf8, 0x3f, 0x01].repeat(20_000));
    bodies.push([0xfa, 0x3f, 0x00].repeat(20_000));
    for door in DOORS {
        for body in bodies.iter().filter(|body| body.len() <= 65_536) {
            let mut raw = Raw::logged_in(&server, door).await;
            raw.send(&whole(BINARY_FRAME, body)).await;
            // Closed as unreadable, refused, or passed over.
            survivors += usize::from(raw.is_alive().await);
        }
    }
    println!("{survivors} connections lived on");
    // Whatever became of them, nobody else has noticed.
    other.settle().await.unwrap();
}
