//! The rate limits of an app: each wire's documented refusal, no effect, nobody else concerned.

use posthouse::peer::easemob::{Device, text_of};
use posthouse::peer::{BINARY, Error, Open, Outgoing, Peer, http_get};
use posthouse_core::app::PRESET;
use posthouse_easemob::wire::proto::MessageBody;
use posthouse_easemob::wire::proto::message_body::Type as BodyType;
use posthouse_leancloud::wire::proto::LogsCommand;
use posthouse_testkit::server::TestServer;
use serde_json::json;

use super::stage::{back_end, login, login_on, refusal, user};

/// Few enough to be reached at once: three of each, then one a second.
const TIGHT: [(&str, &str); 5] = [
    ("messages_per_minute", "60"),
    ("history_per_minute", "60"),
    ("calls_per_minute", "60"),
    ("server_calls_per_minute", "60"),
    ("rate_burst", "3"),
];

/// Logs a LeanCloud client in.
async fn enter(server: &TestServer, client: &str) -> Peer {
    let mut peer = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    peer.open(server.app_id(), client, Open::default()).await.unwrap();
    peer
}

async fn say(peer: &mut Peer, who: &str, cid: &str, text: &str) -> Result<(), Error> {
    peer.send_text(who, cid, text, Outgoing::default()).await.map(drop)
}

/// Code, name, and whether the words say how many are allowed.
fn told(refused: Error) -> (i32, String, bool) {
    let Error::Refused { refusal, .. } = refused else { panic!("not refused: {refused}") };
    let words = refusal.detail.or(refusal.app_msg).unwrap_or_default();
    (refusal.code, refusal.reason, words.contains("the app allows 60 a minute"))
}

#[tokio::test]
async fn too_many_leancloud_messages_are_refused_with_their_code_and_leave_nothing() {
    let mut server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut jerry = enter(&server, "jerry").await;
    let cid = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    server.set(&TIGHT).await;
    for text in ["1", "2", "3"] {
        say(&mut tom, "tom", &cid, text).await.unwrap();
    }
    let expected = (4116, "MESSAGE_SENT_QUOTA_EXCEEDED".to_owned(), true);
    for text in ["4", "5"] {
        assert_eq!(told(say(&mut tom, "tom", &cid, text).await.unwrap_err()), expected);
    }
    // Nobody else is slower for it, and a second gives one more.
    say(&mut jerry, "jerry", &cid, "mine").await.unwrap();
    server.clock.advance_ms(1_000);
    say(&mut tom, "tom", &cid, "6").await.unwrap();
    assert_eq!(told(say(&mut tom, "tom", &cid, "7").await.unwrap_err()), expected);

    let history = jerry.history("jerry", &cid, 100).await.unwrap();
    let texts: Vec<String> =
        history.iter().map(|item| posthouse::peer::text_of(item.data.as_ref().unwrap()).unwrap()).collect();
    assert_eq!(texts, ["1", "2", "3", "mine", "6"]);
    for text in ["1", "2", "3", "6"] {
        let push = jerry.expect_message(&cid).await.unwrap();
        assert_eq!(posthouse::peer::text_of(push.msg.as_ref().unwrap()).as_deref(), Some(text));
    }
    jerry.settle().await.unwrap();
    assert!(jerry.take_pushes().iter().all(|push| push.direct_message.is_none()), "a refused one was pushed");
}

#[tokio::test]
async fn edits_count_as_messages_and_marks_do_not_count() {
    let mut server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let cid = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    server.set(&TIGHT).await;
    let sent = tom.send_text("tom", &cid, "1", Outgoing::default()).await.unwrap();
    tom.modify("tom", &cid, &sent, "2").await.unwrap();
    tom.modify("tom", &cid, &sent, "3").await.unwrap();
    for refused in [tom.modify("tom", &cid, &sent, "4").await, tom.recall("tom", &cid, &sent).await] {
        assert_eq!(told(refused.unwrap_err()).0, 4116);
    }
    let mut jerry = enter(&server, "jerry").await;
    for _ in 0..50 {
        jerry.ack_message("jerry", &cid, &sent.id).await.unwrap();
        jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    }
    jerry.settle().await.unwrap();
    assert!(jerry.max_read("jerry", &cid, false).await.is_ok(), "marks have used up the calls");
}

#[tokio::test]
async fn too_many_calls_and_reads_are_refused_apart_from_each_other() {
    let mut server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let cid = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    server.set(&TIGHT).await;
    let expected = (4318, "CONVERSATION_API_QUOTA_EXCEEDED".to_owned(), true);
    for _ in 0..3 {
        tom.count("tom", &cid).await.unwrap();
    }
    assert_eq!(told(tom.count("tom", &cid).await.unwrap_err()), expected);
    assert_eq!(told(tom.query_where("tom", "{}").await.unwrap_err()), expected);
    assert_eq!(told(tom.online("tom", &["jerry"]).await.unwrap_err()), expected);
    let refused = tom.create_conversation("tom", &["spike"], true, "{}").await.unwrap_err();
    assert_eq!(told(refused), expected);

    let all = || LogsCommand { cid: Some(cid.clone()), ..LogsCommand::default() };
    for _ in 0..3 {
        tom.logs("tom", all()).await.unwrap();
    }
    assert_eq!(told(tom.logs("tom", all()).await.unwrap_err()), expected);
    say(&mut tom, "tom", &cid, "messages have a bucket of their own").await.unwrap();

    server.clock.advance_ms(60_000);
    let mine = tom.query_where("tom", r#"{"m":"spike"}"#).await.unwrap();
    assert!(mine.is_empty(), "the refused conversation was made");
    // A goodbye is never refused.
    for _ in 0..2 {
        tom.count("tom", &cid).await.unwrap();
    }
    assert_eq!(told(tom.count("tom", &cid).await.unwrap_err()), expected);
    tom.close("tom").await.unwrap();
}

#[tokio::test]
async fn a_client_is_counted_over_its_devices_and_both_doors() {
    let mut server = TestServer::start().await;
    let mut changes = TIGHT.to_vec();
    changes.push(("login_of_accounts_without_password", "true"));
    let mut alice = login(&server, "alice").await;
    server.set(&changes).await;
    let device = |name: &str| Open { device_id: Some(name.to_owned()), ..Open::default() };
    let mut phone = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    phone.open(server.app_id(), "alice", device("phone")).await.unwrap();
    let mut tablet = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    tablet.open(server.app_id(), "alice", device("tablet")).await.unwrap();
    user(&server, "bob").await;
    let cid = phone.create_conversation("alice", &["bob"], true, "{}").await.unwrap().cid;
    server.clock.advance_ms(60_000);

    say(&mut phone, "alice", &cid, "from the phone").await.unwrap();
    say(&mut tablet, "alice", &cid, "from the tablet").await.unwrap();
    let bob = alice.person("bob");
    alice.say(&bob, "through the other door").await.unwrap();
    let meta = alice.text_meta(&bob, "too many");
    assert_eq!(refusal(&mut alice, meta).await, traffic());
    for peer in [&mut phone, &mut tablet] {
        assert_eq!(told(say(peer, "alice", &cid, "too many").await.unwrap_err()).0, 4116);
    }
}

#[tokio::test]
async fn too_many_logins_are_refused_and_a_return_is_told_to_come_later() {
    let mut server = TestServer::start().await;
    server.set(&TIGHT).await;
    let mut peer = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    for _ in 0..3 {
        peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
    }
    let refused = peer.open(server.app_id(), "tom", Open::default()).await.unwrap_err();
    assert_eq!(told(refused), (4318, "CONVERSATION_API_QUOTA_EXCEEDED".to_owned(), true));
    peer.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    // Swift logs a user out for good whose return is refused.
    let mut back = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    let reopen = Open { reopen: true, ..Open::default() };
    assert!(back.open(server.app_id(), "tom", reopen.clone()).await.is_err());
    assert_eq!(back.expect_close().await.unwrap().0, Some(1013));
    server.clock.advance_ms(1_000);
    let mut back = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    back.open(server.app_id(), "tom", reopen).await.unwrap();
}

/// What MSYNC tells who sends too much; the Web SDK makes its type 509 of it.
fn traffic() -> (i32, String) {
    (7, "traffic limit".to_owned())
}

#[tokio::test]
async fn too_many_easemob_messages_are_refused_with_their_text_and_leave_nothing() {
    let mut server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    server.set(&TIGHT).await;
    let (to_bob, to_alice) = (alice.person("bob"), bob.person("alice"));
    let first = alice.say(&to_bob, "1").await.unwrap();
    for text in ["2", "3"] {
        alice.say(&to_bob, text).await.unwrap();
    }
    let meta = alice.text_meta(&to_bob, "4");
    assert_eq!(refusal(&mut alice, meta).await, traffic());
    let recall = recall(&alice, &to_bob, first.id);
    assert_eq!(refusal(&mut alice, recall).await, traffic());
    bob.say(&to_alice, "mine").await.unwrap();

    // Who only listens and says that it has is never refused.
    let heard = bob.sync().await.unwrap();
    assert_eq!(heard.iter().map(text_of).collect::<Vec<_>>(), ["1", "2", "3"]);
    for _ in 0..20 {
        let body =
            MessageBody { ack_message_id: Some(first.id), ..typed(&bob, &to_alice, BodyType::ReadAck) };
        let meta = bob.meta(&to_alice, body);
        bob.post_ok(meta).await.unwrap();
        bob.sync().await.unwrap();
    }
    server.clock.advance_ms(1_000);
    alice.say(&to_bob, "5").await.unwrap();
    assert_eq!(bob.next().await.unwrap().iter().map(text_of).collect::<Vec<_>>(), ["5"]);
}

fn typed(device: &Device, to: &posthouse_easemob::wire::proto::Jid, kind: BodyType) -> MessageBody {
    MessageBody { r#type: Some(kind.into()), contents: Vec::new(), ..device.body(to) }
}

fn recall(
    device: &Device,
    to: &posthouse_easemob::wire::proto::Jid,
    message: u64,
) -> posthouse_easemob::wire::proto::Meta {
    let body = MessageBody { ack_message_id: Some(message), ..typed(device, to, BodyType::Recall) };
    device.meta(to, body)
}

#[tokio::test]
async fn an_easemob_device_that_logs_in_too_often_is_closed_and_not_refused() {
    let mut server = TestServer::start().await;
    server.set(&TIGHT).await;
    for _ in 0..3 {
        login_on(&server, "alice", "web_1").await;
    }
    let token = super::stage::token(&server, "alice").await;
    let identity = super::stage::identity(&server, "alice", "web_1", &token);
    let mut device = Device::connect(&server.http_url(), identity).await.unwrap();
    // Every refusal would be final to an SDK.
    assert!(device.provision().await.is_err());
    assert_eq!(device.expect_close().await.unwrap().0, Some(1013));
    login_on(&server, "bob", "web_1").await;
}

#[tokio::test]
async fn too_many_rest_calls_are_answered_429() {
    let mut server = TestServer::start().await;
    let (alice, bob) = (user(&server, "alice").await, user(&server, "bob").await);
    let back = back_end(&server).await;
    server.set(&TIGHT).await;
    let lists = |name: &str| format!("/users/{name}/contacts/users");
    for _ in 0..3 {
        alice.ok("GET", &lists("alice"), None).await.unwrap();
    }
    let (status, body) = alice.call("GET", &lists("alice"), None).await.unwrap();
    assert_eq!((status, &body["error"]), (429, &json!("reach_limit")));
    assert_eq!(body["error_description"], "The request has reached the maximum limit");
    bob.ok("GET", &lists("bob"), None).await.unwrap();
    // The back end by kind of call.
    for _ in 0..3 {
        back.ok("GET", "/users/alice", None).await.unwrap();
    }
    assert_eq!(back.call("GET", "/users/bob", None).await.unwrap().0, 429);
    assert_eq!(back.call("POST", "/users", Some(&json!({"username": "carol"}))).await.unwrap().0, 429);
    assert_eq!(back.call("GET", "/publicchatgroups", None).await.unwrap().0, 200);
    server.clock.advance_ms(60_000);
    assert_eq!(back.call("GET", "/users/carol", None).await.unwrap().0, 404, "carol was registered");

    server.set(&[("server_calls_per_minute", "0")]).await;
    for _ in 0..20 {
        back.ok("GET", "/users/alice", None).await.unwrap();
    }
}

#[tokio::test]
async fn too_many_leancloud_rest_calls_are_answered_429() {
    let mut server = TestServer::start().await;
    let mut tom = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    let token = tom.open(server.app_id(), "tom", Open::default()).await.unwrap().token.unwrap();
    server.set(&TIGHT).await;
    let headers = [
        ("X-LC-Id", server.app_id()),
        ("X-LC-Key", server.app_key()),
        ("X-LC-IM-Session-Token", token.as_str()),
    ];
    let path = "/1.1/rtm/notifications?client_id=tom&start_ts=0&notification_type=permanent";
    let get = async || http_get(&server.http_url(), path, &headers).await.unwrap();
    for _ in 0..3 {
        assert_eq!(get().await.0, 200);
    }
    let (status, body) = get().await;
    assert_eq!(
        (status, &*String::from_utf8_lossy(&body)),
        (429, r#"{"code":429,"error":"Too many requests."}"#)
    );
}

#[tokio::test]
async fn presets_take_effect_at_once() {
    let mut server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let cid = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    for _ in 0..300 {
        say(&mut tom, "tom", &cid, "no limit").await.unwrap();
    }
    server.set(&[(PRESET, "as-vendor")]).await;
    for _ in 0..30 {
        say(&mut tom, "tom", &cid, "as there").await.unwrap();
    }
    assert_eq!(told(say(&mut tom, "tom", &cid, "too many").await.unwrap_err()).0, 4116);
    server.set(&[(PRESET, "unlimited")]).await;
    say(&mut tom, "tom", &cid, "no limit").await.unwrap();
}
