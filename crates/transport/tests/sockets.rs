//! Listener, handshake and HTTP shell over real loopback sockets.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes as Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use posthouse_transport::http::{
    ClientAddress, RequestOrigin, TrustedProxies, body_limit, cors, error_body, json, json_errors,
};
use posthouse_transport::{
    Drain, End, Frame, Limits, Listener, PeerAddr, ServeSettings, TlsConfig, TlsConfigError,
    WebSocketUpgrade, offered_subprotocols, upgrade,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use support::Witness;

struct Server {
    addr: SocketAddr,
    drain: Drain,
    witness: Witness,
    ends: mpsc::Receiver<End>,
    serving: JoinHandle<()>,
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

const TOKEN: &str = "lc.protobuf2.3";

impl Server {
    async fn start() -> Self {
        Self::with(ServeSettings::default(), Limits::default(), None).await
    }

    async fn with(settings: ServeSettings, limits: Limits, tls: Option<TlsConfig>) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), tls).await.unwrap();
        let addr = listener.local_addr();
        let drain = Drain::new();
        let (witness, ends) = Witness::new();
        let router = router(&witness, limits, &drain);
        let serving = tokio::spawn(listener.serve(router, settings, drain.signal()));
        Self { addr, drain, witness, ends, serving }
    }

    async fn connect(&self) -> Client {
        connect_async(format!("ws://{}/", self.addr)).await.unwrap().0
    }

    /// Sends `request` and reads until the server closes; a reset counts as a
    /// close, as it may follow an answer to a request that was not read whole.
    async fn raw(&self, request: &[u8]) -> String {
        let (mut read, mut write) = TcpStream::connect(self.addr).await.unwrap().into_split();
        let request = request.to_vec();
        let writing = tokio::spawn(async move {
            let sent = write.write_all(&request).await;
            (sent, write)
        });
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = read.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..count]);
        }
        drop(writing.await.unwrap());
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.raw(
            format!("GET {path} HTTP/1.1\r\nHost: im.test\r\nConnection: close\r\n{headers}\r\n").as_bytes(),
        )
        .await
    }
}

fn router(witness: &Witness, limits: Limits, drain: &Drain) -> Router {
    async fn broken() -> StatusCode {
        panic!("a bug of a handler");
    }
    async fn origin(origin: RequestOrigin, client: ClientAddress) -> Response {
        assert_eq!(origin.client, client.0);
        let client = origin.client.to_string();
        let body = serde_json::json!([origin.host, origin.secure, client]);
        json(StatusCode::OK, &body)
    }
    let witness = witness.clone();
    let signal = drain.signal();
    let socket = move |headers: HeaderMap, socket: Option<WebSocketUpgrade>| async move {
        let Some(socket) = socket else {
            return "plain".into_response();
        };
        let offered = offered_subprotocols(&headers);
        let token = offered.iter().any(|offer| offer == TOKEN).then_some(TOKEN);
        upgrade(socket, token, limits, signal, move |pusher| witness.script(pusher))
    };
    Router::new()
        .route("/", any(socket))
        .route("/only", get(|_: WebSocketUpgrade| async {}))
        .route("/v1/route", get(origin))
        .route("/panic", get(broken))
        .route("/body", post(|body: Body| async move { body }))
        .route("/never", get(std::future::pending::<()>))
        .route("/peer", get(|peer: axum::Extension<PeerAddr>| async move { peer.0.0.ip().to_string() }))
        .layer(body_limit(1024))
        .layer(json_errors(error_body))
        .layer(cors())
}

async fn say(client: &mut Client, text: &'static str) {
    client.send(Message::text(text)).await.unwrap();
}

async fn hear(client: &mut Client) -> Message {
    client.next().await.unwrap().unwrap()
}

async fn expect_close(client: &mut Client, code: u16) {
    match hear(client).await {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code),
        other => panic!("expected a close frame, got {other:?}"),
    }
}

#[tokio::test]
async fn text_and_binary_are_echoed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for message in [
        Message::text("grüße"),
        Message::binary(&b"\x00\xff"[..]),
        Message::text(""),
        Message::binary(vec![1; 8192]),
    ] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(hear(&mut client).await, message);
    }
    client.send(Message::Ping(Bytes::from_static(b"?"))).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::Pong(Bytes::from_static(b"?")));
}

#[tokio::test]
async fn the_chosen_subprotocol_is_echoed() {
    let server = Server::start().await;
    let offer = |offer: &'static str| {
        let mut request = format!("ws://{}/", server.addr).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
        connect_async(request)
    };
    let (_, response) = offer("lc.protobuf2.3").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], TOKEN);
    let (_, response) = offer("other, lc.protobuf2.3").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], TOKEN);
    // The client library refuses a handshake that ignores its offer.
    assert!(offer("other").await.is_err());
}

#[tokio::test]
async fn no_offer_means_no_echo() {
    let server = Server::start().await;
    let url = format!("ws://{}/", server.addr);
    let (_, response) = connect_async(url).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
}

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: im.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The answer bytes of a handshake followed by `frames`, up to the close.
async fn after_handshake(server: &Server, headers: &[u8], frames: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let mut request = HANDSHAKE.as_bytes().to_vec();
    request.extend_from_slice(headers);
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(frames);
    stream.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn odd_frames_are_closed_with_the_right_code() {
    let mut server = Server::start().await;
    let cases: [(&str, &[u8], u16, End); 5] = [
        ("a length with the top bit set", b"\x82\xff\x80\0\0\0\0\0\0\0mask", 4109, End::FrameTooLong),
        ("invalid UTF-8", b"\x81\x82\0\0\0\0\xc3\x28", 1007, End::Lost),
        ("an unmasked frame", b"\x82\x01a", 1002, End::Lost),
        ("a reserved bit", b"\xc2\x80mask", 1002, End::Lost),
        ("a continuation of nothing", b"\x80\x80mask", 1002, End::Lost),
    ];
    for (name, frames, code, end) in cases {
        // A non-ASCII offer must not disturb the handshake.
        let headers = b"Sec-WebSocket-Protocol: \xff\xfe, lc.protobuf2.3\r\n";
        let answer = after_handshake(&server, headers, frames).await;
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{name}: {head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let close = &answer[body..];
        assert_eq!(close[0], 0x88, "{name}");
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{name}");
        assert_eq!(server.ends.recv().await, Some(end), "{name}");
    }
}

#[tokio::test]
async fn endless_fragments_are_cut() {
    let mut server = Server::start().await;
    let mut frames = Vec::new();
    for number in 0..40 {
        frames.push(if number == 0 { 0x02 } else { 0x00 });
        frames.extend_from_slice(&[0xfe, 0x08, 0x00]);
        frames.extend_from_slice(&[0; 4 + 2048]);
    }
    let answer = after_handshake(&server, b"", &frames).await;
    assert!(answer.windows(4).any(|w| w[0] == 0x88 && w[2..] == 4109u16.to_be_bytes()));
    assert_eq!(server.ends.recv().await, Some(End::FrameTooLong));
}

#[tokio::test]
async fn a_long_frame_is_refused_before_and_after_login() {
    let mut server = Server::start().await;
    let mut client = server.connect().await;
    // Far more than the socket's buffers hold: the refusal must not be lost in
    // a reset while the client still writes.
    let (mut sink, mut stream) = client.split();
    let huge = Message::binary(vec![0; 16 * 1024 * 1024]);
    let (sent, heard) = tokio::join!(sink.send(huge), stream.next());
    sent.unwrap();
    match heard {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 4109),
        other => panic!("expected a close frame, got {other:?}"),
    }
    assert_eq!(server.ends.recv().await, Some(End::FrameTooLong));

    client = server.connect().await;
    client.send(Message::binary(vec![0; 8193])).await.unwrap();
    expect_close(&mut client, 4109).await;
    assert_eq!(server.ends.recv().await, Some(End::FrameTooLong));

    client = server.connect().await;
    say(&mut client, "login").await;
    assert_eq!(hear(&mut client).await, Message::text("welcome"));
    let fits = Message::binary(vec![0; 65536]);
    client.send(fits.clone()).await.unwrap();
    assert_eq!(hear(&mut client).await, fits);
    client.send(Message::binary(vec![0; 65537])).await.unwrap();
    expect_close(&mut client, 4109).await;
    assert_eq!(server.ends.recv().await, Some(End::FrameTooLong));
}

#[tokio::test]
async fn a_slow_reader_is_closed_and_its_pusher_never_waits() {
    let limits = Limits { queue: 8, ..Limits::default() };
    let mut server = Server::with(ServeSettings::default(), limits, None).await;
    let mut slow = server.connect().await;
    say(&mut slow, "login").await;
    assert_eq!(hear(&mut slow).await, Message::text("welcome"));
    let mut quick = server.connect().await;

    let pusher = server.witness.pushers.lock().unwrap()[0].clone();
    let big = Frame::Binary(Bytes::from(vec![0; 64 * 1024]));
    let mut accepted = 0;
    // Fills the socket's buffers first, then the queue.
    while pusher.try_push(big.clone(), 64 * 1024).is_ok() {
        accepted += 1;
        tokio::task::yield_now().await;
    }
    assert!(accepted >= 8);
    assert_eq!(server.ends.recv().await, Some(End::Slow));
    assert!(pusher.is_closed());

    say(&mut quick, "hello").await;
    assert_eq!(hear(&mut quick).await, Message::text("hello"));
}

#[tokio::test]
async fn a_panic_ends_only_its_own_connection() {
    let server = Server::start().await;
    let mut unlucky = server.connect().await;
    let mut other = server.connect().await;
    say(&mut unlucky, "panic").await;
    assert!(!matches!(unlucky.next().await, Some(Ok(_))));
    say(&mut other, "hello").await;
    assert_eq!(hear(&mut other).await, Message::text("hello"));

    let answer = server.get("/panic", "").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.ends_with(r#"{"code":500,"error":"internal error"}"#));
    drop(other);
    assert!(server.drain.finished(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn drain_says_goodbye_and_ends() {
    let mut server = Server::start().await;
    let mut clients = [server.connect().await, server.connect().await];
    for client in &mut clients {
        say(client, "login").await;
        assert_eq!(hear(client).await, Message::text("welcome"));
    }
    server.drain.begin(Duration::from_secs(3600));
    for client in &mut clients {
        assert_eq!(hear(client).await, Message::binary(&b"goaway"[..]));
    }

    let answer = server.get("/v1/route", "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with(r#"{"code":503,"error":"the server is stopping"}"#));
    match connect_async(format!("ws://{}/", server.addr)).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("expected 503, got {other:?}"),
    }
    assert!(!server.serving.is_finished());

    server.drain.begin(Duration::ZERO);
    for client in &mut clients {
        expect_close(client, 1001).await;
        assert!(client.next().await.is_none());
    }
    drop(clients);
    assert!(server.drain.finished(Duration::from_secs(10)).await);
    for _ in 0..2 {
        assert_eq!(server.ends.recv().await, Some(End::Drained));
    }
    server.serving.await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let server = Server::start().await;
    let head = "GET /v1/route HTTP/1.1\r\nHost: im.test\r\nConnection: close\r\n";
    let one_huge = format!("{head}X-Bomb: {}\r\n\r\n", "x".repeat(100_000));
    let never_ending = format!("{head}{}", "X: y\r\n".repeat(20_000));
    let many = format!("{head}{}\r\n", "X: y\r\n".repeat(1_000));
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for bomb in [one_huge, never_ending, many, long_path] {
        let answer = server.raw(bomb.as_bytes()).await;
        // The answer may be lost in the reset that follows unread bytes.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"),
            "{answer}"
        );
    }
    let fine = server.get("/v1/route", &"X: y\r\n".repeat(90)).await;
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let settings =
        ServeSettings { header_read_timeout: Duration::from_millis(50), ..ServeSettings::default() };
    let server = Server::with(settings, Limits::default(), None).await;
    // Incomplete, so only the time-out can end it.
    assert_eq!(server.raw(b"GET / HTTP/1.1\r\nHost").await, "");
    assert!(server.drain.finished(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn slow_handlers_and_slow_bodies_are_answered() {
    let settings = ServeSettings { request_timeout: Duration::from_millis(50), ..ServeSettings::default() };
    let server = Server::with(settings, Limits::default(), None).await;
    let answer = server.get("/never", "").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let body = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234";
    let answer = server.raw(body).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
    assert!(server.drain.finished(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn one_connection_too_many_is_dropped() {
    let settings = ServeSettings { max_connections: 1, ..ServeSettings::default() };
    let server = Server::with(settings, Limits::default(), None).await;
    let mut client = server.connect().await;
    assert_eq!(server.get("/v1/route", "").await, "");
    say(&mut client, "hello").await;
    assert_eq!(hear(&mut client).await, Message::text("hello"));
    // An upgraded socket gives its place back when it ends.
    drop(client);
    assert!(server.drain.finished(Duration::from_secs(10)).await);
    let answer = server.get("/v1/route", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn duplicate_slashes_and_errors() {
    let server = Server::start().await;
    let answer = server.get("//v1/route?appId=x", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with(r#"["im.test",false,"127.0.0.1"]"#));
    assert_eq!(body_of(&server.get("/", "").await), "plain");
    assert_eq!(body_of(&server.get("/peer", "").await), "127.0.0.1");

    let answer = server.get("/nowhere", "").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(body_of(&answer), r#"{"code":404,"error":"Not Found"}"#);

    let answer = server.get("/only", "").await;
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert_eq!(body_of(&answer), r#"{"code":426,"error":"this address expects a WebSocket upgrade"}"#);

    let long = format!(
        "POST /body HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1025\r\n\r\n{}",
        "x".repeat(1025)
    );
    let answer = server.raw(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn forwarding_headers_need_a_trusted_peer() {
    let headers = "X-Forwarded-For: 198.51.100.4\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: im.example.com\r\n";
    let server = Server::start().await;
    let answer = server.get("/v1/route", headers).await;
    assert_eq!(body_of(&answer), r#"["im.test",false,"127.0.0.1"]"#);

    let settings = ServeSettings {
        trusted_proxies: Arc::new(TrustedProxies::parse(["127.0.0.0/8"]).unwrap()),
        ..ServeSettings::default()
    };
    let server = Server::with(settings, Limits::default(), None).await;
    let answer = server.get("/v1/route", headers).await;
    assert_eq!(body_of(&answer), r#"["im.example.com",true,"198.51.100.4"]"#);
}

#[tokio::test]
async fn a_preflight_is_answered() {
    let server = Server::start().await;
    let answer = server
        .raw(
            b"OPTIONS /v1/route HTTP/1.1\r\nHost: a\r\nConnection: close\r\nOrigin: null\r\n\
            Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-lc-id\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(answer.contains("access-control-allow-headers: x-lc-id\r\n"));
}

fn pem(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

async fn tls_connect(addr: SocketAddr, version: &'static SupportedProtocolVersion) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(addr).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await
        .unwrap()
}

#[tokio::test]
async fn tls_of_both_versions_carries_a_websocket() {
    let tls = TlsConfig::from_files(&pem("cert.pem"), &pem("key.pem")).unwrap();
    let server = Server::with(ServeSettings::default(), Limits::default(), Some(tls)).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = tls_connect(server.addr, version).await;
        let (mut client, _) = client_async("wss://localhost/", stream).await.unwrap();
        client.send(Message::text("hello")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));

        let mut stream = tls_connect(server.addr, version).await;
        stream
            .write_all(b"GET /v1/route HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(body_of(&answer), r#"["localhost",true,"127.0.0.1"]"#);
    }
    // Plain text on a TLS port ends that connection and nothing else.
    assert!(!server.get("/v1/route", "").await.contains("200"));
}

#[tokio::test]
async fn a_silent_tls_peer_is_dropped() {
    let tls = TlsConfig::from_files(&pem("cert.pem"), &pem("key.pem")).unwrap();
    let settings =
        ServeSettings { tls_handshake_timeout: Duration::from_millis(50), ..ServeSettings::default() };
    let server = Server::with(settings, Limits::default(), Some(tls)).await;
    assert_eq!(server.raw(b"").await, "");
    assert!(server.drain.finished(Duration::from_secs(10)).await);
}

#[test]
fn tls_files_are_explained() {
    let error = |certificate: &Path, key: &Path| match TlsConfig::from_files(certificate, key) {
        Ok(_) => panic!("must not be accepted"),
        Err(error) => error,
    };
    let (cert, key) = (pem("cert.pem"), pem("key.pem"));

    let missing = error(&pem("missing.pem"), &key);
    assert!(matches!(&missing, TlsConfigError::Unreadable { path, .. } if path.ends_with("missing.pem")));
    assert!(missing.to_string().starts_with("cannot read "));
    assert!(matches!(error(&key, &key), TlsConfigError::NoCertificate { path } if path == key));
    assert!(matches!(error(&cert, &cert), TlsConfigError::NoKey { path } if path == cert));
    let other = pem("other-key.pem");
    assert!(matches!(error(&cert, &other), TlsConfigError::Unusable { key, .. } if key == other));

    let directory = tempfile::tempdir().unwrap();
    let torn = directory.path().join("torn.pem");
    std::fs::write(&torn, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    assert!(matches!(error(&torn, &key), TlsConfigError::NotPem { path, .. } if path == torn));
}
