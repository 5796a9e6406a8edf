//! The cases of the Autobahn test suite for servers, by its numbers, against our own connection loop. The
//! suite itself needs Python 2.7 (`conformance/autobahn/run`, results beside it); these are its sections
//! 1 to 7 and 10 in full and the shorter half of 9, written anew from what its cases send and expect. 12
//! and 13 are compression, which is not offered.
//!
//! Expectations are the suite's strict ones, but for 6.4.3 and 6.4.4: text that becomes invalid in the
//! middle of a frame is refused at the frame's end, which the suite calls non-strict.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use posthouse_transport::{
    Close, Drain, End, Flow, Frame, Limits, Listener, Outbox, Phase, Protocol, ServeSettings,
    WebSocketUpgrade, upgrade,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

// ---- the server -------------------------------------------------------------------------------------

struct Echo;

impl Protocol for Echo {
    type Push = Frame;

    fn phase(&self) -> Phase {
        Phase::Ready
    }

    async fn on_frame(&mut self, frame: Frame, out: &mut Outbox) -> Flow {
        out.push(frame);
        Flow::Continue
    }

    fn on_push(&mut self, push: Frame, out: &mut Outbox) -> Flow {
        out.push(push);
        Flow::Continue
    }

    fn on_drain(&mut self, _: &mut Outbox) {}

    fn close_for(&self, _: End) -> Close {
        Close { code: 1001, reason: "" }
    }

    async fn on_end(self, _: End) {}
}

async fn serve() -> (SocketAddr, Drain) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let (address, drain) = (listener.local_addr(), Drain::new());
    let limits = Limits { frame_max: 1 << 20, frames_per_second: 0, ..Limits::default() };
    let signal = drain.signal();
    let router = Router::new().fallback(any(|socket: WebSocketUpgrade| async move {
        upgrade(socket, None, limits, signal, |_| Echo)
    }));
    tokio::spawn(listener.serve(router, ServeSettings::default(), drain.signal()));
    (address, drain)
}

// ---- what is sent and expected ----------------------------------------------------------------------

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;

struct Case {
    id: String,
    sent: Vec<u8>,
    /// Bytes of one write.
    chop: usize,
    /// What comes back: opcode and payload.
    heard: Vec<(u8, Vec<u8>)>,
    end: Ending,
}

enum Ending {
    /// We close when we have heard everything, and are answered with the same code.
    Ours,
    /// What is sent contains our close. The answer has one of these codes, or none where we had none.
    Sent(Vec<Option<u16>>),
    /// The server closes with one of these codes.
    Theirs(Vec<u16>),
}

impl Case {
    fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), sent: Vec::new(), chop: usize::MAX, heard: Vec::new(), end: Ending::Ours }
    }

    /// A frame with everything about it; masked, as a client's must be.
    fn raw(mut self, fin: bool, rsv: u8, opcode: u8, payload: &[u8]) -> Self {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        self.sent.push(u8::from(fin) << 7 | rsv << 4 | opcode);
        match payload.len() {
            length @ 0..126 => self.sent.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                self.sent.push(0x80 | 126);
                self.sent.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                self.sent.push(0x80 | 127);
                self.sent.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        self.sent.extend_from_slice(&MASK);
        self.sent.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self
    }

    fn send(self, opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        self.raw(true, 0, opcode, payload.as_ref())
    }

    /// A frame that another one continues.
    fn begin(self, opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        self.raw(false, 0, opcode, payload.as_ref())
    }

    /// A message in frames of so many bytes.
    fn fragments(mut self, opcode: u8, payload: impl AsRef<[u8]>, size: usize) -> Self {
        let count = payload.as_ref().chunks(size).count();
        for (number, part) in payload.as_ref().chunks(size).enumerate() {
            let opcode = if number == 0 { opcode } else { CONTINUATION };
            self = self.raw(number + 1 == count, 0, opcode, part);
        }
        self
    }

    fn close(self, code: u16, reason: impl AsRef<[u8]>) -> Self {
        let payload = [&code.to_be_bytes(), reason.as_ref()].concat();
        self.send(CLOSE, payload)
    }

    /// Sends the bytes so many at a time.
    fn chopped(self, chop: usize) -> Self {
        Self { chop, ..self }
    }

    fn hear(mut self, opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        self.heard.push((opcode, payload.as_ref().to_vec()));
        self
    }

    fn echo(self, opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        let payload = payload.as_ref().to_vec();
        self.send(opcode, &payload).hear(opcode, payload)
    }

    fn fails(self, codes: &[u16]) -> Self {
        Self { end: Ending::Theirs(codes.to_vec()), ..self }
    }

    fn closed(self, codes: &[Option<u16>]) -> Self {
        Self { end: Ending::Sent(codes.to_vec()), ..self }
    }
}

// ---- the cases --------------------------------------------------------------------------------------

const HELLO: &str = "Hello, world!";
const ODD: [u8; 8] = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
const ONE_BY_ONE: usize = 1;

/// 1: text and binary messages of all forms of length.
fn framing(cases: &mut Vec<Case>) {
    let sizes = [0, 125, 126, 127, 128, 65_535, 65_536];
    for (group, opcode, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        for (number, size) in sizes.iter().enumerate() {
            let id = format!("1.{group}.{}", number + 1);
            cases.push(Case::new(id).echo(opcode, vec![byte; *size]));
        }
        cases.push(Case::new(format!("1.{group}.8")).echo(opcode, vec![byte; 65_536]).chopped(997));
    }
}

/// 2: pings and pongs.
fn pings(cases: &mut Vec<Case>) {
    let pinged = |id: &str, payload: &[u8]| Case::new(id).send(PING, payload).hear(PONG, payload);
    cases.push(pinged("2.1", b""));
    cases.push(pinged("2.2", HELLO.as_bytes()));
    cases.push(pinged("2.3", &ODD));
    cases.push(pinged("2.4", &[0xfe; 125]));
    cases.push(Case::new("2.5").send(PING, [0xfe; 126]).fails(&[PROTOCOL_ERROR]));
    cases.push(pinged("2.6", &[0xfe; 125]).chopped(ONE_BY_ONE));
    cases.push(Case::new("2.7").send(PONG, ""));
    cases.push(Case::new("2.8").send(PONG, "unsolicited pong payload"));
    cases.push(Case::new("2.9").send(PONG, "unsolicited pong payload").send(PING, "ping").hear(PONG, "ping"));
    for (id, chop) in [("2.10", usize::MAX), ("2.11", ONE_BY_ONE)] {
        let ten = (0..10).fold(Case::new(id), |case, number| {
            let payload = format!("payload-{number}");
            case.send(PING, &payload).hear(PONG, payload)
        });
        cases.push(ten.chopped(chop));
    }
}

/// 3: reserved bits.
fn reserved_bits(cases: &mut Vec<Case>) {
    cases.push(Case::new("3.1").raw(true, 1, TEXT, HELLO.as_bytes()).fails(&[PROTOCOL_ERROR]));
    for (id, rsv, chop) in [("3.2", 2, usize::MAX), ("3.3", 3, 19), ("3.4", 4, ONE_BY_ONE)] {
        let case = Case::new(id).echo(TEXT, HELLO).raw(true, rsv, TEXT, HELLO.as_bytes()).send(PING, "");
        cases.push(case.chopped(chop).fails(&[PROTOCOL_ERROR]));
    }
    cases.push(Case::new("3.5").raw(true, 5, BINARY, &ODD).fails(&[PROTOCOL_ERROR]));
    cases.push(Case::new("3.6").raw(true, 6, BINARY, HELLO.as_bytes()).fails(&[PROTOCOL_ERROR]));
    cases.push(Case::new("3.7").raw(true, 7, CLOSE, b"").fails(&[PROTOCOL_ERROR]));
}

/// 4: reserved opcodes.
fn reserved_opcodes(cases: &mut Vec<Case>) {
    for (group, first) in [(1, 3), (2, 11)] {
        let id = |number| format!("4.{group}.{number}");
        cases.push(Case::new(id(1)).send(first, "").fails(&[PROTOCOL_ERROR]));
        let payload = "reserved opcode payload";
        cases.push(Case::new(id(2)).send(first + 1, payload).fails(&[PROTOCOL_ERROR]));
        for (number, payload, chop) in [(3, "", usize::MAX), (4, HELLO, usize::MAX), (5, HELLO, ONE_BY_ONE)] {
            let case = Case::new(id(number)).echo(TEXT, HELLO).send(first + number - 1, payload);
            cases.push(case.send(PING, "").chopped(chop).fails(&[PROTOCOL_ERROR]));
        }
    }
}

/// 5: fragments.
fn fragments(cases: &mut Vec<Case>) {
    let chops = [usize::MAX, 15, ONE_BY_ONE];
    let id = |number: usize| Case::new(format!("5.{number}"));
    for (number, opcode) in [(1, PING), (2, PONG)] {
        let case = id(number).begin(opcode, "fragment1").send(CONTINUATION, "fragment2");
        cases.push(case.fails(&[PROTOCOL_ERROR]));
    }
    for (number, chop) in chops.into_iter().enumerate() {
        let plain = id(3 + number).begin(TEXT, "fragment1").send(CONTINUATION, "fragment2");
        cases.push(plain.hear(TEXT, "fragment1fragment2").chopped(chop));
        let pinged = id(6 + number).begin(TEXT, "fragment1").send(PING, "ping");
        let pinged = pinged.hear(PONG, "ping").send(CONTINUATION, "fragment2");
        cases.push(pinged.hear(TEXT, "fragment1fragment2").chopped(chop));
        let nothing = id(9 + number).send(CONTINUATION, "non-continuation payload").send(TEXT, HELLO);
        cases.push(nothing.chopped(chop).fails(&[PROTOCOL_ERROR]));
        let open = id(12 + number).begin(CONTINUATION, "non-continuation payload").send(TEXT, HELLO);
        cases.push(open.chopped(chop).fails(&[PROTOCOL_ERROR]));
    }
    let again = id(15).begin(TEXT, "fragment1").send(CONTINUATION, "fragment2");
    let again = again.hear(TEXT, "fragment1fragment2");
    let again = again.begin(CONTINUATION, "fragment3").send(TEXT, "fragment4");
    cases.push(again.fails(&[PROTOCOL_ERROR]));
    for (number, fin) in [(16, false), (17, true)] {
        let twice = (0..2).fold(id(number), |case, _| {
            let case = case.raw(fin, 0, CONTINUATION, b"fragment1");
            case.begin(TEXT, "fragment2").send(CONTINUATION, "fragment3")
        });
        cases.push(twice.fails(&[PROTOCOL_ERROR]));
    }
    let two_begins = id(18).begin(TEXT, "fragment1").send(TEXT, "fragment2");
    cases.push(two_begins.fails(&[PROTOCOL_ERROR]));
    for (number, chop) in [(19, usize::MAX), (20, 15)] {
        let five = id(number).begin(TEXT, "fragment1").begin(CONTINUATION, "fragment2");
        let five = five.send(PING, "pongme 1!").hear(PONG, "pongme 1!");
        let five = five.begin(CONTINUATION, "fragment3").begin(CONTINUATION, "fragment4");
        let five = five.send(PING, "pongme 2!").hear(PONG, "pongme 2!").send(CONTINUATION, "fragment5");
        let whole = "fragment1fragment2fragment3fragment4fragment5";
        cases.push(five.hear(TEXT, whole).chopped(chop));
    }
}

/// 6.1 to 6.4: UTF-8 over fragments, and how soon it is refused.
fn text(cases: &mut Vec<Case>) {
    cases.push(Case::new("6.1.1").echo(TEXT, ""));
    let empty = Case::new("6.1.2").begin(TEXT, "").begin(CONTINUATION, "").send(CONTINUATION, "");
    cases.push(empty.hear(TEXT, ""));
    let middle = Case::new("6.1.3").begin(TEXT, "").begin(CONTINUATION, "middle").send(CONTINUATION, "");
    cases.push(middle.hear(TEXT, "middle"));
    let words = "Hello-µ@ßöäüàá-UTF-8!!";
    cases.push(Case::new("6.2.1").echo(TEXT, words));
    cases.push(Case::new("6.2.2").fragments(TEXT, words, 14).hear(TEXT, words));
    cases.push(Case::new("6.2.3").fragments(TEXT, words, 1).hear(TEXT, words));
    cases.push(Case::new("6.2.4").fragments(TEXT, "κόσμε", 1).hear(TEXT, "κόσμε"));

    let surrogate = [words_of("cebae1bdb9cf83cebcceb5"), words_of("eda080"), b"edited".to_vec()].concat();
    cases.push(Case::new("6.3.1").send(TEXT, &surrogate).fails(&[INVALID_PAYLOAD]));
    cases.push(Case::new("6.3.2").fragments(TEXT, &surrogate, 1).fails(&[INVALID_PAYLOAD]));
    let beyond = [words_of("cebae1bdb9cf83cebcceb5"), words_of("f4908080"), b"edited".to_vec()].concat();
    // Refused at the second frame: the third is never sent.
    let frames = Case::new("6.4.1").begin(TEXT, &beyond[..11]).begin(CONTINUATION, &beyond[11..15]);
    cases.push(frames.fails(&[INVALID_PAYLOAD]));
    let frames = Case::new("6.4.2").begin(TEXT, &beyond[..12]).begin(CONTINUATION, &beyond[12..13]);
    cases.push(frames.fails(&[INVALID_PAYLOAD]));
    for (id, chop) in [("6.4.3", 11), ("6.4.4", 12)] {
        cases.push(Case::new(id).send(TEXT, &beyond).chopped(chop).fails(&[INVALID_PAYLOAD]));
    }
}

fn words_of(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// 6.5 to 6.23: Markus Kuhn's sequences, by section; those that begin with `!` are invalid.
const SEQUENCES: [&str; 19] = [
    "68656c6c6f24776f726c64 68656c6c6fc2a2776f726c64 68656c6c6fe282ac776f726c64 \
     68656c6c6ff0a4ada2776f726c64 cebae1bdb9cf83cebcceb5",
    "!ce ceba !cebae1 !cebae1bd cebae1bdb9 !cebae1bdb9cf cebae1bdb9cf83 !cebae1bdb9cf83ce \
     cebae1bdb9cf83cebc !cebae1bdb9cf83cebcce cebae1bdb9cf83cebcceb5",
    "00 c280 e0a080 f0908080",
    "!f888808080 !fc8480808080",
    "7f dfbf efbfbf f48fbfbf",
    "!f7bfbfbf !fbbfbfbfbf !fdbfbfbfbfbf",
    "ed9fbf ee8080 efbfbd f48fbfbf !f4908080",
    "!80 !bf !80bf !80bf80 !80bf80bf !80bf80bf80 !80bf80bf80bf !CONTINUATIONS",
    "!STARTS-c0-df !STARTS-e0-ef !STARTS-f0-f7 !STARTS-f8-fb !STARTS-fc-fd",
    "!c0 !e080 !f08080 !f8808080 !fc80808080 !df !efbf !f7bfbf !fbbfbfbf !fdbfbfbfbf",
    "!c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf",
    "!fe !ff !fefeffff",
    "!c0af !e080af !f08080af !f8808080af !fc80808080af",
    "!c1bf !e09fbf !f08fbfbf !f887bfbfbf !fc83bfbfbfbf",
    "!c080 !e08080 !f0808080 !f880808080 !fc8080808080",
    "!eda080 !edadbf !edae80 !edafbf !edb080 !edbe80 !edbfbf",
    "!eda080edb080 !eda080edbfbf !edadbfedb080 !edadbfedbfbf !edae80edb080 !edae80edbfbf !edafbfedb080 \
     !edafbfedbfbf",
    "efbfbe efbfbf f09fbfbe f09fbfbf f0afbfbe f0afbfbf f0bfbfbe f0bfbfbf f18fbfbe f18fbfbf f19fbfbe f19fbfbf \
     f1afbfbe f1afbfbf f1bfbfbe f1bfbfbf f28fbfbe f28fbfbf f29fbfbe f29fbfbf f2afbfbe f2afbfbf f2bfbfbe \
     f2bfbfbf f38fbfbe f38fbfbf f39fbfbe f39fbfbf f3afbfbe f3afbfbf f3bfbfbe f3bfbfbf f48fbfbe f48fbfbf",
    "efbfb9 efbfba efbfbb efbfbc efbfbd efbfbe efbfbf",
];

fn sequences(cases: &mut Vec<Case>) {
    for (section, sequences) in SEQUENCES.into_iter().enumerate() {
        for (number, sequence) in sequences.split_whitespace().enumerate() {
            let case = Case::new(format!("6.{}.{}", section + 5, number + 1));
            cases.push(match sequence.strip_prefix('!') {
                Some(bad) => case.send(TEXT, bytes_of(bad)).fails(&[INVALID_PAYLOAD]),
                None => case.echo(TEXT, words_of(sequence)),
            });
        }
    }
}

fn bytes_of(sequence: &str) -> Vec<u8> {
    if sequence == "CONTINUATIONS" {
        return (0x80..0xbf).collect();
    }
    let Some(range) = sequence.strip_prefix("STARTS-") else { return words_of(sequence) };
    let (from, to) = range.split_once('-').unwrap();
    let number = |hex| u8::from_str_radix(hex, 16).unwrap();
    (number(from)..number(to)).flat_map(|start| [start, b' ']).collect()
}

/// 7: closing.
fn closing(cases: &mut Vec<Case>) {
    let normal = [Some(NORMAL)];
    let id = |id: &str| Case::new(id);
    cases.push(id("7.1.1").echo(TEXT, "Hello World!"));
    cases.push(id("7.1.2").close(NORMAL, "").send(CLOSE, "").closed(&normal));
    cases.push(id("7.1.3").close(NORMAL, "").send(PING, "").closed(&normal));
    cases.push(id("7.1.4").close(NORMAL, "").send(TEXT, "Hello World!").closed(&normal));
    let middle = id("7.1.5").begin(TEXT, "fragment1").close(NORMAL, "").send(CONTINUATION, "fragment2");
    cases.push(middle.closed(&normal));
    // Informational in the suite; we answer all that came before the close.
    let large = "BAsd7&jh23".repeat(26_214);
    let late = id("7.1.6").echo(TEXT, large).echo(TEXT, "Hello World!").close(NORMAL, "").send(PING, "");
    cases.push(late.closed(&normal));
    cases.push(id("7.3.1").send(CLOSE, "").closed(&[None, Some(NORMAL)]));
    cases.push(id("7.3.2").send(CLOSE, "a").fails(&[PROTOCOL_ERROR]));
    cases.push(id("7.3.3").close(NORMAL, "").closed(&normal));
    cases.push(id("7.3.4").close(NORMAL, "Hello World!").closed(&normal));
    cases.push(id("7.3.5").close(NORMAL, "*".repeat(123)).closed(&normal));
    cases.push(id("7.3.6").close(NORMAL, "*".repeat(124)).fails(&[PROTOCOL_ERROR]));
    let surrogate = words_of("cebae1bdb9cf83cebcceb5eda080656469746564");
    cases.push(id("7.5.1").close(NORMAL, surrogate).fails(&[PROTOCOL_ERROR, INVALID_PAYLOAD]));
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    for (number, code) in valid.into_iter().enumerate() {
        let case = Case::new(format!("7.7.{}", number + 1)).close(code, "");
        cases.push(case.closed(&[Some(NORMAL), Some(code)]));
    }
    let invalid = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    for (number, code) in invalid.into_iter().enumerate() {
        cases.push(Case::new(format!("7.9.{}", number + 1)).close(code, "").fails(&[PROTOCOL_ERROR]));
    }
    for (id, code) in [("7.13.1", 5000), ("7.13.2", 65_535)] {
        let any = [Some(NORMAL), Some(code), Some(PROTOCOL_ERROR)];
        cases.push(Case::new(id).close(code, "").closed(&any));
    }
}

/// 9, without the messages of megabytes, and 10.
fn limits(cases: &mut Vec<Case>) {
    for (group, opcode) in [(1, TEXT), (2, BINARY)] {
        for (number, size) in [(1, 65_536), (2, 262_144)] {
            cases.push(Case::new(format!("9.{group}.{number}")).echo(opcode, vec![b'*'; size]));
        }
    }
    for (group, opcode) in [(3, TEXT), (4, BINARY)] {
        for (number, size) in [64, 256, 1_024, 4_096, 16_384, 65_536].into_iter().enumerate() {
            let payload = vec![b'*'; 262_144];
            let case = Case::new(format!("9.{group}.{}", number + 1)).fragments(opcode, &payload, size);
            cases.push(case.hear(opcode, payload));
        }
    }
    for (group, opcode) in [(5, TEXT), (6, BINARY)] {
        for (number, chop) in [64, 128, 256, 512, 1_024, 2_048].into_iter().enumerate() {
            let case = Case::new(format!("9.{group}.{}", number + 1)).echo(opcode, vec![b'*'; 262_144]);
            cases.push(case.chopped(chop));
        }
    }
    for (group, opcode) in [(7, TEXT), (8, BINARY)] {
        for (number, size) in [0, 16, 64, 256, 1_024, 4_096].into_iter().enumerate() {
            let case = Case::new(format!("9.{group}.{}", number + 1));
            cases.push((0..1_000).fold(case, |case, _| case.echo(opcode, vec![b'*'; size])));
        }
    }
    let payload = vec![b'*'; 65_536];
    cases.push(Case::new("10.1.1").fragments(TEXT, &payload, 1_300).hear(TEXT, payload));
}

fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    framing(&mut cases);
    pings(&mut cases);
    reserved_bits(&mut cases);
    reserved_opcodes(&mut cases);
    fragments(&mut cases);
    text(&mut cases);
    sequences(&mut cases);
    closing(&mut cases);
    limits(&mut cases);
    cases
}

// ---- the client -------------------------------------------------------------------------------------

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: im.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Opens a WebSocket that asks for compression, and is not given it.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(HANDSHAKE).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    stream
}

/// The next whole frame of the server, opcode and payload; `None` at the end of the connection.
async fn next(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    assert_eq!(first & 0xf0, 0x80, "our server's frames are whole and use no reserved bit");
    let length = match stream.read_u8().await.unwrap() {
        126 => u64::from(stream.read_u16().await.unwrap()),
        127 => stream.read_u64().await.unwrap(),
        short => {
            assert!(short < 126, "a server's frames are not masked");
            u64::from(short)
        }
    };
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    Some((first & 0x0f, payload))
}

/// What is wrong with how the server takes this case.
async fn fault(address: SocketAddr, case: Case) -> Option<String> {
    let Case { sent, chop, heard, end, .. } = case;
    let (mut read, mut write) = open(address).await.into_split();
    // Sent beside: of large messages the echo comes while they still go. A server that has failed the
    // connection need not take the rest.
    let (all_heard, hearing) = tokio::sync::oneshot::channel();
    let closes = matches!(end, Ending::Ours);
    let sending = async move {
        for part in sent.chunks(chop.min(sent.len()).max(1)) {
            if write.write_all(part).await.is_err() {
                return write;
            }
            if chop < usize::MAX {
                tokio::task::yield_now().await;
            }
        }
        let close = Case::new("").close(NORMAL, "").sent;
        if closes && hearing.await.is_ok() && write.write_all(&close).await.is_err() {
            return write;
        }
        write
    };
    let receiving = async move {
        let mut left = heard.into_iter();
        let mut all_heard = Some(all_heard);
        loop {
            if left.len() == 0
                && let Some(all_heard) = all_heard.take()
            {
                // Nobody listens where the server closes.
                let _heard = all_heard.send(());
            }
            match next(&mut read).await {
                None => return Err("the connection ended without a close frame".to_owned()),
                Some((CLOSE, payload)) => {
                    if let Some((opcode, missing)) = left.next() {
                        return Err(format!("opcode {opcode} of {} bytes did not come", missing.len()));
                    }
                    let after = next(&mut read).await;
                    if after.is_some() {
                        return Err("there were frames after the close".to_owned());
                    }
                    return Ok(payload.first_chunk().map(|code| u16::from_be_bytes(*code)));
                }
                Some(frame) => {
                    let wanted = left.next();
                    if wanted.as_ref() != Some(&frame) {
                        let bytes = frame.1.len();
                        return Err(format!("opcode {} of {bytes} bytes was not to come now", frame.0));
                    }
                }
            }
        }
    };
    let joined = async { tokio::join!(sending, receiving) };
    // For a server that hangs; none of the cases waits for anything.
    let Ok((_write, received)) = tokio::time::timeout(Duration::from_secs(30), joined).await else {
        return Some("nothing happens any more".to_owned());
    };
    let good: Vec<Option<u16>> = match end {
        Ending::Ours => vec![Some(NORMAL)],
        Ending::Sent(codes) => codes,
        Ending::Theirs(codes) => codes.into_iter().map(Some).collect(),
    };
    match received {
        Ok(code) if good.contains(&code) => None,
        Ok(code) => Some(format!("closed with {code:?} instead of {good:?}")),
        Err(fault) => Some(fault),
    }
}

// ---- the tests --------------------------------------------------------------------------------------

#[tokio::test]
async fn every_case_is_passed() {
    let (address, _drain) = serve().await;
    let mut faults = Vec::new();
    for case in all() {
        let id = case.id.clone();
        if let Some(fault) = fault(address, case).await {
            faults.push(format!("{id}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{} cases fail:\n{}", faults.len(), faults.join("\n"));
}

/// The committed results of the suite itself name each case that there is.
#[test]
fn no_case_is_left_out_and_the_suite_saw_none_fail() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/autobahn/results.jsonl");
    let results = std::fs::read_to_string(path).unwrap();
    let lines = results.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut ids = BTreeSet::new();
    for line in lines {
        let id = line["case"].as_str().unwrap().to_owned();
        let compressed = id.starts_with("12.") || id.starts_with("13.");
        let good: &[&str] =
            if compressed { &["UNIMPLEMENTED"] } else { &["OK", "NON-STRICT", "INFORMATIONAL"] };
        assert!(good.contains(&line["behavior"].as_str().unwrap()), "{line}");
        if !compressed && !id.starts_with("9.") {
            ids.insert(id);
        }
    }
    let ours: BTreeSet<String> =
        all().into_iter().map(|case| case.id).filter(|id| !id.starts_with("9.")).collect();
    assert_eq!(ours, ids);
}
