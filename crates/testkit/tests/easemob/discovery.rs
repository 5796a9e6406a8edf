//! Where SDKs find the server, and what browsers need of every answer (client 1.2 and 7.1).

use posthouse_testkit::server::TestServer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{app_key, key, token};

/// An HTTP answer in parts.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
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
        body: body.to_owned(),
    }
}

const HOST: (&str, &str) = ("Host", "im.example.com:7700");

#[tokio::test]
async fn the_document_leads_here() {
    let server = TestServer::start().await;
    let escaped = app_key(&server).replace('#', "%23");
    let target = format!("/easemob/server.json?app_key={escaped}&_v=1795302128763");
    let answer = request(&server, "GET", &target, &[HOST]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let json = answer.json();
    assert_eq!(json["app_key"], app_key(&server));
    for (field, expected) in
        [("enableReportLogs", "false"), ("enableDataReport", "false"), ("uploadinparts_enable", "false")]
    {
        assert_eq!(json[field], expected, "texts, not truth values");
    }
    for part in ["rest", "msync-wx"] {
        let host = &json[part]["hosts"][0];
        assert_eq!(
            (&host["protocol"], &host["domain"], &host["port"]),
            (&"http".into(), &"im.example.com".into(), &7700.into())
        );
    }
    let id = key(&server.app, "easemob.client_id");
    let by_id = format!("/easemob/server.json?app_id={id}&sdk_version=4.10.0&file_version=1&_v=1");
    assert_eq!(request(&server, "GET", &by_id, &[HOST]).await.json()["app_key"], app_key(&server));
    for unknown in ["app_key=a%23b", "app_id=x", ""] {
        let answer = request(&server, "GET", &format!("/easemob/server.json?{unknown}"), &[HOST]).await;
        assert_eq!(answer.status, 404);
        assert!(answer.json()["error_description"].is_string());
    }
}

#[tokio::test]
async fn browsers_may_call_from_anywhere_and_read_refusals() {
    let server = TestServer::start().await;
    let base = format!("/{}", app_key(&server).replace('#', "/"));
    for path in
        ["/token", "/users/alice/user_channels", "/chatfiles", "/sdk/message/roaming/chat/user/a?msgIdList=1"]
    {
        let wanted = [
            HOST,
            ("Origin", "https://app.example.com"),
            ("Access-Control-Request-Method", "DELETE"),
            (
                "Access-Control-Request-Headers",
                "authorization,content-type,restrict-access,share-secret,x-requested-with,accept",
            ),
        ];
        let answer = request(&server, "OPTIONS", &format!("{base}{path}"), &wanted).await;
        assert!([200, 204].contains(&answer.status), "{}", answer.status);
        let allowed = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        for name in
            ["authorization", "content-type", "restrict-access", "share-secret", "x-requested-with", "accept"]
        {
            assert!(allowed.split(',').any(|one| one.trim() == name), "{name} not in {allowed}");
        }
        let methods = answer.header("access-control-allow-methods").unwrap();
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert!(methods.contains(method), "{methods}");
        }
        let answer =
            request(&server, "GET", &format!("{base}{path}"), &[HOST, ("Origin", "https://app.example.com")])
                .await;
        assert!(answer.status >= 400);
        assert!(answer.header("access-control-allow-origin").is_some());
        assert!(answer.json().is_object());
    }
}

#[tokio::test]
async fn every_refusal_is_json() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    let bearer = format!("Bearer {token}");
    let base = format!("/{}", app_key(&server).replace('#', "/"));
    for (method, path) in [
        ("GET", "/".to_owned()),
        ("GET", "/nothing/here".to_owned()),
        ("GET", "/nothing/here/users/alice".to_owned()),
        ("GET", format!("{base}/")),
        ("GET", base.clone()),
        ("GET", format!("{base}/nonsense")),
        ("GET", format!("{base}/sdk")),
        ("PATCH", format!("{base}/users/alice")),
        ("TRACE", format!("{base}/users/alice")),
        ("PUT", format!("{base}/token")),
        ("GET", format!("{base}/users/alice/nonsense")),
        ("GET", format!("{base}/users/%ff%fe/user_channels")),
        ("GET", format!("{base}/users/..%2f..%2fbob/user_channels")),
        ("POST", format!("{base}/reaction/user/alice")),
        ("POST", format!("{base}/users/alice/presence/webim/1")),
        ("GET", format!("{base}/chatrooms?pagenum=1&pagesize=20")),
        ("POST", format!("{base}/thread?resource=x")),
        ("PUT", format!("{base}/metadata/user/alice")),
        ("GET", format!("{base}/users/alice/notification/user/alice")),
        ("POST", format!("{base}/sdk/chatfiles/part-upload")),
        ("GET", format!("{base}/users/alice/token/rtc?channelName=*")),
        ("POST", format!("{base}/users/alice/translate")),
        ("POST", format!("{base}/user/alice/moderation/report/message/1")),
    ] {
        let answer =
            request(&server, method, &path, &[HOST, ("Authorization", &bearer), ("Content-Length", "0")])
                .await;
        assert!(answer.status >= 400, "{method} {path}: {} {}", answer.status, answer.body);
        assert_ne!(answer.status, 406, "SDKs never settle on it");
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{method} {path}: {kind} {}", answer.body);
        assert!(answer.json().is_object(), "{method} {path}: {}", answer.body);
    }
}

#[tokio::test]
async fn what_is_not_offered_says_so_in_words_that_sdks_know() {
    let server = TestServer::start().await;
    let bearer = format!("Bearer {}", token(&server, "alice").await);
    let base = format!("/{}", app_key(&server).replace('#', "/"));
    for (method, path) in [
        ("POST", "/reaction/user/alice"),
        ("POST", "/users/alice/presence/webim/1"),
        ("GET", "/chatrooms?pagenum=1&pagesize=20"),
        ("POST", "/thread?resource=x"),
        ("PUT", "/metadata/user/alice"),
        ("GET", "/users/alice/notification/user/alice"),
        ("GET", "/sdk/user/alice/user_channel/pin?to=1001&type=groupchat&limit=10&cursor="),
    ] {
        let answer = request(
            &server,
            method,
            &format!("{base}{path}"),
            &[HOST, ("Authorization", &bearer), ("Content-Length", "0")],
        )
        .await;
        let json = answer.json();
        assert_eq!((answer.status, &json["error_description"]), (403, &"service not open!".into()), "{path}");
        assert_eq!(json["error"], "function_not_open_error");
        assert!(json["error_code"].is_u64(), "a number, or SDKs don't look at it");
    }
    // With this one the SDK then uploads in one part.
    let answer = request(
        &server,
        "POST",
        &format!("{base}/sdk/chatfiles/part-upload"),
        &[HOST, ("Authorization", &bearer), ("Content-Length", "0")],
    )
    .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn paths_have_aliases_and_odd_parameters_are_ignored() {
    let server = TestServer::start().await;
    let bearer = format!("Bearer {}", token(&server, "alice").await);
    let base = format!("/{}", app_key(&server).replace('#', "/"));
    let headers = [HOST, ("Authorization", &*bearer), ("Content-Length", "0")];
    for (method, path) in [
        ("GET", "/users/alice/user_channels"),
        ("GET", "/user/alice/user_channels"),
        ("GET", "/sdk/users/alice/user_channels"),
        ("GET", "/sdk/user/alice/user_channels/list?&limit=20&cursor=&_v=1795302128763"),
        (
            "GET",
            "/users/alice/user_channels/page?pageNum=1&pageSize=20&&resource=webim_web_1&version=v3&\u{1F44D}=+",
        ),
        ("get", "/users/alice"),
        ("Get", "/users/alice?joined_time=true"),
        ("GET", "/users/al%69ce"),
        ("Delete", "/sdk/message/roaming/chat/user/alice?userId=bob&msgIdList=1%2C2&&resource=x"),
        ("delete", "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime=5&&resource=x"),
    ] {
        let answer = request(&server, method, &format!("{base}{path}"), &headers).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        assert!(answer.header("content-type").unwrap().starts_with("application/json"));
    }
}

#[tokio::test]
async fn an_answer_has_its_envelope() {
    let server = TestServer::start().await;
    let bearer = format!("bearer {}", token(&server, "alice").await);
    let base = format!("/{}", app_key(&server).replace('#', "/"));
    let answer =
        request(&server, "GET", &format!("{base}/users/alice?x=1"), &[HOST, ("Authorization", &bearer)])
            .await;
    let json = answer.json();
    let (org, name) = app_key(&server).split_once('#').unwrap();
    assert_eq!((&json["action"], &json["path"]), (&"get".into(), &"/users".into()));
    assert_eq!((&json["organization"], &json["applicationName"]), (&org.into(), &name.into()));
    assert_eq!(json["uri"], format!("http://im.example.com:7700{base}/users/alice"));
    assert_eq!(json["timestamp"], server.now().0);
    assert_eq!((&json["duration"], &json["count"]), (&0.into(), &1.into()));
    assert!(json["application"].is_string());
}
