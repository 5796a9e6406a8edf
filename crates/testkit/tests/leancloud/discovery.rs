//! Discovery: what `/v1/route` answers to whom, and that its answer leads to a socket.

use posthouse::config::Flags;
use posthouse::peer::{BASE64, BINARY, Error, Open, Peer, route};
use posthouse_testkit::server::TestServer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An HTTP answer in parts.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_else(|| panic!("`{key}` is no text in {}", self.body))
    }
}

/// A request written by hand, so that headers are exactly these.
async fn request(server: &TestServer, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(server.server.address).await.unwrap();
    let mut text = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

async fn ask_route(server: &TestServer, query: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("Host", "im.example.com")];
    all.extend(headers);
    request(server, "GET", &format!("/v1/route?appId={}{query}", server.app_id()), &all).await
}

#[tokio::test]
async fn the_route_has_every_field_that_some_sdk_needs() {
    let server = TestServer::start().await;
    let answer = ask_route(&server, "&secure=false&_t=1795302703453", &[]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{}", answer.head);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(answer.body["ttl"].as_u64().is_some_and(|seconds| seconds > 0), "{}", answer.body);
    for key in ["groupId", "groupUrl", "server", "secondary"] {
        assert!(!answer.text(key).is_empty(), "{key}");
    }
    assert!(answer.text("server").starts_with("ws://im.example.com"), "{}", answer.body);
    assert!(answer.text("secondary").starts_with("ws://im.example.com"), "{}", answer.body);
}

#[tokio::test]
async fn a_slash_too_many_is_forgiven() {
    let server = TestServer::start().await;
    let target = format!("//v1/route?appId={}&secure=false", server.app_id());
    let answer = request(&server, "GET", &target, &[("Host", "im.example.com")]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.text("server").starts_with("ws://im.example.com"));
}

/// The JavaScript SDK asks for `secure=true` of a plain server too, unless an app says otherwise: a
/// `wss` address would lead it nowhere.
#[tokio::test]
async fn the_socket_is_as_safe_as_the_request_was() {
    for (flags, forwarded, scheme) in [
        (Flags::default(), vec![], "ws://"),
        (
            Flags { trusted_proxies: Some("127.0.0.1".to_owned()), ..Flags::default() },
            vec![("X-Forwarded-Proto", "https")],
            "wss://",
        ),
    ] {
        let server = TestServer::start_with(flags).await;
        for query in ["", "&secure=true", "&secure=1", "&secure=false", "&secure=0"] {
            let answer = ask_route(&server, query, &forwarded).await;
            for key in ["server", "secondary", "groupUrl"] {
                assert!(answer.text(key).starts_with(scheme), "{query}: {}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn the_port_of_the_host_stays() {
    let server = TestServer::start().await;
    let url = format!("/v1/route?appId={}&secure=0", server.app_id());
    let answer = request(&server, "GET", &url, &[("Host", "im.example.com:7700")]).await;
    assert!(answer.text("server").starts_with("ws://im.example.com:7700"), "{}", answer.body);
}

#[tokio::test]
async fn only_known_proxies_say_how_the_client_came() {
    let forwarded = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "public.example.com")];
    let alone = TestServer::start().await;
    let answer = ask_route(&alone, "&secure=0", &forwarded).await;
    assert!(answer.text("server").starts_with("ws://im.example.com"), "{}", answer.body);

    let flags = Flags { trusted_proxies: Some("127.0.0.0/8".to_owned()), ..Flags::default() };
    let behind = TestServer::start_with(flags).await;
    let answer = ask_route(&behind, "&secure=0", &forwarded).await;
    assert!(answer.text("server").starts_with("wss://public.example.com"), "{}", answer.body);
    let answer = ask_route(&behind, "&secure=0", &[]).await;
    assert!(answer.text("server").starts_with("ws://im.example.com"), "{}", answer.body);
}

#[tokio::test]
async fn an_unknown_app_is_not_found() {
    let server = TestServer::start().await;
    for target in ["/v1/route?appId=nobody&secure=0", "/v1/route"] {
        let answer = request(&server, "GET", target, &[("Host", "im.example.com")]).await;
        assert!((400..500).contains(&answer.status), "{target}: {}", answer.status);
        assert!(answer.body["error"].is_string(), "{target}: {}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{target}");
    }
    let answer = request(&server, "GET", "/v1/route?appId=nobody", &[("Host", "a")]).await;
    assert_eq!((answer.status, answer.body["code"].as_i64()), (404, Some(404)));
    let error = route(&server.http_url(), "nobody").await.unwrap_err();
    assert!(matches!(error, Error::Http { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn browsers_may_ask_first() {
    let server = TestServer::start().await;
    let headers = [
        ("Host", "im.example.com"),
        ("Origin", "https://app.example.com"),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "x-lc-id,x-lc-key,x-lc-im-session-token"),
    ];
    for target in ["/v1/route", "/1.1/rtm/notifications"] {
        let answer = request(&server, "OPTIONS", target, &headers).await;
        assert!((200..300).contains(&answer.status), "{target}: {}", answer.head);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let allowed = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        assert!(allowed.contains("x-lc-im-session-token"), "{allowed}");
    }
}

#[tokio::test]
async fn the_answer_leads_to_a_socket_in_either_framing() {
    let server = TestServer::start().await;
    for framing in [BINARY, BASE64] {
        let mut peer = Peer::discover(&server.http_url(), server.app_id(), framing).await.unwrap();
        peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
        assert_eq!(peer.online("tom", &["tom"]).await.unwrap(), ["tom"]);
    }
}

#[tokio::test]
async fn a_socket_opens_at_any_path() {
    let server = TestServer::start().await;
    for path in ["", "ws", "some/deep/path?with=query", "?subprotocol=lc.protobuf2.3"] {
        let url = format!("{}{path}", server.socket_url());
        let mut peer = Peer::connect(&url, BINARY).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
    }
}
