//! Logging in and out, refusals, kicks, several devices, frames that are none, and the compressed
//! uplink (client 2 and 3).

use bytes::Bytes;
use posthouse::peer::easemob::{Device, Rest, frame};
use posthouse::peer::{Error, PATIENCE};
use posthouse_core::time::Timestamp;
use posthouse_easemob::wire::lz4::Encoder;
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::{CommSyncDl, CommSyncUl, CommUnreadDl, Jid, Logout, MSync, Provision};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::stage::{
    PHONE, WEB, alice_and_bob, app_key, arrive, back_end, back_end_of, identity, inbox, kick_of, login,
    login_on, other_app, rest, said, status, texts, token, token_of, until_gone, user, with,
};

/// A socket on which nothing was said yet.
async fn connect(server: &TestServer, name: &str, resource: &str, token: &str) -> Device {
    Device::connect(&server.http_url(), identity(server, name, resource, token)).await.unwrap()
}

/// Sends a login of any kind; the answer.
async fn ask(device: &mut Device, login: &MSync) -> Provision {
    device.send(login).await.unwrap();
    Provision::decode(device.answer(Command::Provision, "the answer to a login").await.unwrap()).unwrap()
}

/// A login that must be refused, after which the socket closes; code and text.
async fn refused(mut device: Device, change: impl FnOnce(&mut MSync)) -> (i32, String) {
    let mut login = device.provision_request();
    change(&mut login);
    let reply = ask(&mut device, &login).await;
    let (code, reason) = status(reply.status);
    assert_ne!(code, 0, "the login was accepted");
    device.expect_close().await.unwrap();
    (code, reason)
}

/// Who lacks what: the login as it is, with another payload.
fn repack(login: &mut MSync, change: impl FnOnce(&mut Provision)) {
    let mut provision = Provision::decode(login.payload.clone().unwrap()).unwrap();
    change(&mut provision);
    login.payload = Some(provision.encode_to_vec().into());
}

fn failed(reason: &str) -> (i32, String) {
    (1, reason.to_owned())
}

const EXPIRED: &str = "Sorry, token expired";
const BAD_TOKEN: &str = "Sorry, token or password does not match login info";
const NOBODY: &str = "Sorry, user not found";

async fn online(server: &TestServer, name: &str) -> bool {
    let answer = back_end(server).await.ok("GET", &format!("/users/{name}/status"), None).await.unwrap();
    answer["data"][name] == "online"
}

#[tokio::test]
async fn the_reply_repeats_resource_and_session_and_says_when_the_token_ends() {
    let server = TestServer::start().await;
    let short = token_of(&back_end(&server).await, "alice", json!(1_000)).await;
    let mut alice = connect(&server, "alice", WEB, &short).await;
    let reply = alice.provision().await.unwrap();
    assert_eq!(status(reply.status), (0, String::new()));
    assert_eq!(reply.resource.as_deref(), Some(WEB));
    assert_eq!(reply.session_id.as_deref(), Some("1:"));
    // Without `expires_in`, or with one in the past, SDKs log out at once.
    let ends: Value = serde_json::from_str(&reply.auth_token.unwrap()).unwrap();
    assert_eq!(ends["expires_in"].as_i64(), Some(server.now().0 + 1_000_000));
    assert_eq!(reply.protocol_compress_type, Vec::<i32>::new());
    assert!(online(&server, "alice").await);
}

/// The Web SDK's timer can't count as far as two months and would end at once.
#[tokio::test]
async fn of_a_token_that_lasts_long_the_end_is_not_told() {
    let server = TestServer::start().await;
    let back_end = back_end(&server).await;
    for (ttl, is_told) in [(json!(24 * 86_400), true), (json!(25 * 86_400), false), (json!(0), false)] {
        let token = token_of(&back_end, "alice", ttl.clone()).await;
        let mut alice = connect(&server, "alice", WEB, &token).await;
        let reply = alice.provision().await.unwrap();
        assert_eq!((status(reply.status).0, reply.auth_token.is_some()), (0, is_told), "{ttl}");
    }
}

#[tokio::test]
async fn a_client_that_names_no_resource_gets_one() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut alice = connect(&server, "alice", "", &token).await;
        let mut login = alice.provision_request();
        login.guid.as_mut().unwrap().client_resource = None;
        repack(&mut login, |provision| provision.resource = None);
        names.push(ask(&mut alice, &login).await.resource.unwrap());
    }
    assert!(!names[0].is_empty() && names[0] != names[1], "{names:?}");
}

#[tokio::test]
async fn either_place_of_the_token_is_enough() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    let mut alice = connect(&server, "alice", WEB, &token).await;
    let mut login = alice.provision_request();
    login.auth = None;
    assert_eq!(status(ask(&mut alice, &login).await.status).0, 0);
    let mut alice = connect(&server, "alice", WEB, &token).await;
    let mut login = alice.provision_request();
    repack(&mut login, |provision| provision.auth_token = None);
    assert_eq!(status(ask(&mut alice, &login).await.status).0, 0);
    // Not every client puts `$t$` before it.
    let mut alice = connect(&server, "alice", WEB, &token).await;
    let mut login = alice.provision_request();
    login.auth = Some(token);
    repack(&mut login, |provision| provision.auth_token = None);
    assert_eq!(status(ask(&mut alice, &login).await.status).0, 0);
}

#[tokio::test]
async fn bad_tokens_have_their_texts() {
    let server = TestServer::start().await;
    let good = token(&server, "alice").await;
    let bob = token(&server, "bob").await;
    let rest = rest(&server);
    let (id, secret) = ("easemob.client_id", "easemob.client_secret");
    let app = rest.app_token(server.app.key(id).unwrap(), server.app.key(secret).unwrap()).await.unwrap();
    let foreign =
        token_of(&back_end_of(&server, &other_app(&server).await).await, "alice", Value::Null).await;
    let middle = good.len() / 2;
    let swapped = if &good[middle..=middle] == "A" { "B" } else { "A" };
    let forged = format!("{}{swapped}{}", &good[..middle], &good[middle + 1..]);
    let cut = good[..good.len() - 1].to_owned();
    let huge = "a".repeat(4_000);
    for bad in [&bob, &app, &foreign, &forged, &cut, &huge, "x", "YWMt", "dt-{}", "猫", "null"] {
        let alice = connect(&server, "alice", WEB, bad).await;
        assert_eq!(refused(alice, |_| {}).await, failed(BAD_TOKEN), "{bad}");
    }
    assert!(!online(&server, "alice").await);
    let mut alice = connect(&server, "alice", WEB, &good).await;
    assert_eq!(status(alice.provision().await.unwrap().status).0, 0);
}

#[tokio::test]
async fn an_expired_token_is_told_from_a_bad_one() {
    let server = TestServer::start().await;
    let short = token_of(&back_end(&server).await, "alice", json!(60)).await;
    server.clock.advance_ms(59_999);
    let mut alice = connect(&server, "alice", WEB, &short).await;
    assert_eq!(status(alice.provision().await.unwrap().status).0, 0);
    server.clock.advance_ms(2);
    let alice = connect(&server, "alice", PHONE, &short).await;
    assert_eq!(refused(alice, |_| {}).await, failed(EXPIRED));
}

#[tokio::test]
async fn a_user_who_is_gone_barred_or_has_another_password_is_told_so() {
    let server = TestServer::start().await;
    let back_end = back_end(&server).await;
    let old = token(&server, "alice").await;
    back_end.ok("PUT", "/users/alice/password", Some(&json!({"newpassword": "2"}))).await.unwrap();
    assert_eq!(refused(connect(&server, "alice", WEB, &old).await, |_| {}).await, failed(BAD_TOKEN));
    let new = rest(&server).user_token("alice", "2").await.unwrap();

    back_end.ok("POST", "/users/alice/deactivate", None).await.unwrap();
    assert_eq!(refused(connect(&server, "alice", WEB, &new).await, |_| {}).await.0, 12);
    back_end.ok("POST", "/users/alice/activate", None).await.unwrap();
    let again = rest(&server).user_token("alice", "2").await.unwrap();
    let mut alice = connect(&server, "alice", WEB, &again).await;
    assert_eq!(status(alice.provision().await.unwrap().status).0, 0);

    back_end.ok("DELETE", "/users/alice", None).await.unwrap();
    assert_eq!(refused(connect(&server, "alice", WEB, &again).await, |_| {}).await, failed(NOBODY));
    // Who registers the name anew is somebody else.
    let newcomer = token(&server, "alice").await;
    let (code, reason) = refused(connect(&server, "alice", WEB, &again).await, |_| {}).await;
    assert_eq!(code, 1);
    assert!(reason == NOBODY || reason == BAD_TOKEN, "{reason}");
    let mut alice = connect(&server, "alice", WEB, &newcomer).await;
    assert_eq!(status(alice.provision().await.unwrap().status).0, 0);
}

#[tokio::test]
async fn what_a_login_lacks_is_told() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    let fresh = async || connect(&server, "alice", WEB, &token).await;
    let no_token = refused(fresh().await, |login| {
        login.auth = None;
        repack(login, |provision| provision.auth_token = None);
    });
    assert_eq!(no_token.await.0, 2);
    for change in [
        |guid: &mut Jid| guid.app_key = None,
        |guid: &mut Jid| guid.name = None,
        |guid: &mut Jid| guid.name = Some(String::new()),
    ] {
        assert_eq!(refused(fresh().await, |login| change(login.guid.as_mut().unwrap())).await.0, 4);
    }
    assert_eq!(refused(fresh().await, |login| login.guid = None).await.0, 4);
    let long = "r".repeat(2_000);
    let bad_resource =
        refused(fresh().await, |login| repack(login, |provision| provision.resource = Some(long)));
    assert_eq!(bad_resource.await.0, 4);
    for name in ["bob smith", "mallory!", "猫", &"a".repeat(65)] {
        let stranger =
            refused(fresh().await, |login| login.guid.as_mut().unwrap().name = Some(name.to_owned()));
        assert_eq!(stranger.await, failed(NOBODY), "{name}");
    }
    for app in ["acme#nothing", "acme", "#", "a#b#c"] {
        let (code, reason) =
            refused(fresh().await, |login| login.guid.as_mut().unwrap().app_key = Some(app.to_owned())).await;
        assert!(code != 7 && !reason.is_empty(), "{app}: {code} {reason}");
    }
    let (code, _) =
        refused(fresh().await, |login| login.payload = Some(Bytes::from_static(b"\xff\xff"))).await;
    assert_ne!(code, 7);
    assert!(!online(&server, "alice").await);
}

/// The test vector of the reference (rest 2.2).
#[tokio::test]
async fn tokens_that_the_customer_makes_are_good_too() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use posthouse::apps::{self, Keys};

    const SIGNATURE: &str = "7ef4631141855a3eec782c3af51f3fa18c952781aee28f97ba6990aae7fa5e63";
    const MADE_AT_S: i64 = 1_686_207_557;
    let server = TestServer::start().await;
    server.clock.set(Timestamp(MADE_AT_S * 1_000));
    let keys = Keys {
        easemob_appkey: Some("acme#shop".to_owned()),
        easemob_client_id: Some("YXA6client".to_owned()),
        easemob_client_secret: Some("YXA6secret".to_owned()),
        ..Keys::default()
    };
    let shop = apps::create(server.server.posthouse.store().as_ref(), "shop", &keys).await.unwrap();
    server.server.posthouse.reload_apps().await.unwrap();
    let back_end = back_end_of(&server, &shop).await;
    for name in ["u1", "u2"] {
        token_of(&back_end, name, Value::Null).await;
    }
    let made = |signature: &str, user: &str| json!({"signature": signature, "appkey": "acme#shop", "userId": user, "curTime": MADE_AT_S, "ttl": 600});
    let plain = format!("dt-{}", made(SIGNATURE, "u1"));
    let dynamic = URL_SAFE.encode(&plain);
    let login = async |name: &str, token: &str| {
        let mut who = identity(&server, name, WEB, token);
        "acme#shop".clone_into(&mut who.app_key);
        Device::connect(&server.http_url(), who).await.unwrap()
    };
    for good in [&dynamic, &URL_SAFE_NO_PAD.encode(&plain)] {
        let reply = login("u1", good).await.provision().await.unwrap();
        assert_eq!(status(reply.status), (0, String::new()));
        let rest = Rest::new(&server.http_url(), "acme#shop").with_token(good);
        rest.ok("GET", "/users/u1/user_channels", None).await.unwrap();
        assert_eq!(rest.call("GET", "/users/u2/user_channels", None).await.unwrap().0, 401);
    }
    let wrong = URL_SAFE.encode(format!("dt-{}", made(&SIGNATURE.replace('7', "8"), "u1")));
    let others = URL_SAFE.encode(format!("dt-{}", made(SIGNATURE, "u2")));
    for (name, bad) in [("u2", &dynamic), ("u1", &wrong), ("u2", &others), ("u1", &URL_SAFE.encode("dt-{}"))]
    {
        assert_eq!(refused(login(name, bad).await, |_| {}).await, failed(BAD_TOKEN));
    }
    server.clock.set(Timestamp((MADE_AT_S + 600) * 1_000));
    assert_eq!(refused(login("u1", &dynamic).await, |_| {}).await, failed(EXPIRED));
}

#[tokio::test]
async fn nothing_works_before_the_login() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    let fresh = async || connect(&server, "alice", WEB, &token).await;

    let mut alice = fresh().await;
    alice.send(&frame(Command::Unread, None)).await.unwrap();
    let reply = CommUnreadDl::decode(alice.answer(Command::Unread, "an answer").await.unwrap()).unwrap();
    assert_ne!(status(reply.status).0, 0);
    alice.expect_close().await.unwrap();

    let mut alice = fresh().await;
    let queue = Some(alice.person("bob"));
    let pull = CommSyncUl { queue, ..CommSyncUl::default() };
    alice.send(&frame(Command::Sync, Some(pull.encode_to_vec()))).await.unwrap();
    let reply = CommSyncDl::decode(alice.answer(Command::Sync, "an answer").await.unwrap()).unwrap();
    assert_ne!(status(reply.status).0, 0);
    assert!(reply.metas.is_empty());
    alice.expect_close().await.unwrap();

    let mut alice = fresh().await;
    let ack = alice.post(alice.text_meta(&alice.person("bob"), "let me in")).await.unwrap();
    assert_ne!(status(ack.status).0, 0);
    assert_eq!(ack.server_id.unwrap_or(0), 0);
    alice.expect_close().await.unwrap();
    assert_eq!(texts(&bob.sync().await.unwrap()), [""; 0]);
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_and_nothing_else() {
    let server = TestServer::start().await;
    let (_, mut bob) = alice_and_bob(&server).await;
    let unknown = MSync { command: Some(77), ..frame(Command::Sync, None) };
    let from_server = frame(Command::Notice, None);
    let nothing = frame(Command::Sync, Some(CommSyncUl::default().encode_to_vec()));
    let broken = frame(Command::Sync, Some(vec![0xff, 0x01]));
    for bytes in [
        vec![0xff; 40],
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        unknown.encode_to_vec(),
        from_server.encode_to_vec(),
        nothing.encode_to_vec(),
        broken.encode_to_vec(),
    ] {
        for logged_in in [false, true] {
            let mut alice = if logged_in {
                arrive(&server, "alice", PHONE).await
            } else {
                connect(&server, "alice", PHONE, "none").await
            };
            alice.send_message(Message::Binary(bytes.clone().into())).await.unwrap();
            let (code, _) = alice.expect_close().await.unwrap();
            assert!(code.is_some_and(|code| (1_002..=1_013).contains(&code)), "{bytes:?}: {code:?}");
        }
    }
    let alice = bob.person("alice");
    bob.say(&alice, "still here").await.unwrap();
}

#[tokio::test]
async fn text_is_not_spoken_here() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    alice.send_message(Message::Text("CAA4AEA=".into())).await.unwrap();
    assert_eq!(alice.expect_close().await.unwrap().0, Some(1003));
}

#[tokio::test]
async fn frames_have_a_size() {
    let server = TestServer::start().await;
    let mut stranger = connect(&server, "alice", WEB, "x").await;
    stranger.send_message(Message::Binary(vec![0; 9_000].into())).await.unwrap();
    assert_eq!(stranger.expect_close().await.unwrap().0, Some(1009));
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let meta = alice.text_meta(&alice.person("bob"), &"a".repeat(70_000));
    let frame = frame(
        Command::Sync,
        Some(CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() }.encode_to_vec()),
    );
    alice.send(&frame).await.unwrap();
    assert_eq!(alice.expect_close().await.unwrap().0, Some(1009));
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
}

/// The push that ends a session, and then the end of the connection.
async fn kicked(device: &mut Device) -> (i32, String) {
    let kick = kick_of(&device.push().await.unwrap());
    device.expect_close().await.unwrap();
    (kick.operation.unwrap(), kick.reason.unwrap_or_default())
}

#[tokio::test]
async fn every_way_to_be_sent_away_has_its_number() {
    let server = TestServer::start().await;
    let back_end = back_end(&server).await;
    let password = json!({"newpassword": "2"});
    for (method, path, body, operation) in [
        ("PUT", "/users/alice/password", Some(&password), 3),
        ("GET", "/users/alice/disconnect", None, 4),
        ("POST", "/users/alice/deactivate", None, 1),
        ("POST", "/users/alice/activate", None, 0),
        ("DELETE", "/users/alice", None, 1),
    ] {
        if operation == 0 {
            back_end.ok(method, path, body).await.unwrap();
            continue;
        }
        let mut web = login(&server, "alice").await;
        let mut phone = login_on(&server, "alice", PHONE).await;
        let mut bob = login(&server, "bob").await;
        back_end.ok(method, path, body).await.unwrap();
        for device in [&mut web, &mut phone] {
            assert_eq!(kicked(device).await.0, operation, "{path}");
        }
        assert!(operation == 1 || !online(&server, "alice").await);
        bob.settle().await.unwrap();
    }
}

#[tokio::test]
async fn one_device_can_be_sent_away() {
    let server = TestServer::start().await;
    let back_end = back_end(&server).await;
    let mut web = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let answer = back_end.ok("DELETE", &format!("/users/alice/disconnect/{PHONE}"), None).await.unwrap();
    assert_eq!(answer["data"]["result"], true);
    assert_eq!(kicked(&mut phone).await.0, 4);
    web.settle().await.unwrap();
    assert!(online(&server, "alice").await);
}

#[tokio::test]
async fn the_same_device_replaces_itself_and_says_why() {
    let server = TestServer::start().await;
    let mut first = login(&server, "alice").await;
    let token = token(&server, "alice").await;
    let mut second = connect(&server, "alice", WEB, &token).await;
    let mut again = second.provision_request();
    repack(&mut again, |provision| provision.reason = Some("from the office".to_owned()));
    assert_eq!(status(ask(&mut second, &again).await.status).0, 0);
    assert_eq!(kicked(&mut first).await, (2, "from the office".to_owned()));
    second.settle().await.unwrap();
    // The one that had to go doesn't take its successor along.
    let mut bob = login(&server, "bob").await;
    let alice = bob.person("alice");
    bob.say(&alice, "hi").await.unwrap();
    assert_eq!(texts(&second.next().await.unwrap()), ["hi"]);
}

#[tokio::test]
async fn several_devices_are_online_together() {
    let server = TestServer::start().await;
    let mut web = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let mut bob = login(&server, "bob").await;
    let answer = user(&server, "alice").await.ok("GET", "/users/alice/resources", None).await.unwrap();
    let mut here: Vec<&str> =
        answer["data"].as_array().unwrap().iter().map(|one| one["res"].as_str().unwrap()).collect();
    here.sort_unstable();
    assert_eq!(here, [PHONE, WEB]);
    let alice = bob.person("alice");
    bob.say(&alice, "hi").await.unwrap();
    for device in [&mut web, &mut phone] {
        assert_eq!(texts(&device.next().await.unwrap()), ["hi"]);
    }
}

#[tokio::test]
async fn a_platform_holds_so_many_devices_and_the_oldest_gives_way() {
    let mut server = TestServer::start().await;
    server.set(&[("devices_per_platform_max", "2")]).await;
    let mut first = login_on(&server, "alice", "webim_1").await;
    server.clock.advance_ms(1);
    let mut second = login_on(&server, "alice", "webim_2").await;
    server.clock.advance_ms(1);
    let mut phone = login_on(&server, "alice", PHONE).await;
    let mut bob = login_on(&server, "bob", "webim_1").await;
    server.clock.advance_ms(1);
    let mut third = login_on(&server, "alice", "webim_3").await;
    assert_eq!(kicked(&mut first).await.0, 2);
    for device in [&mut second, &mut phone, &mut third, &mut bob] {
        device.settle().await.unwrap();
    }
}

#[tokio::test]
async fn who_logs_out_is_offline() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let logout = Logout {
        session_id: Some("1:".to_owned()),
        reason: Some("inner:logout".to_owned()),
        ..Logout::default()
    };
    alice.send(&frame(Command::Logout, Some(logout.encode_to_vec()))).await.unwrap();
    let reply = Logout::decode(alice.answer(Command::Logout, "goodbye").await.unwrap()).unwrap();
    assert_eq!(status(reply.status).0, 0);
    alice.expect_close().await.unwrap();
    until_gone(&server, "alice", WEB).await;
    assert!(!online(&server, "alice").await);
    login(&server, "alice").await.logout().await.unwrap();
}

#[tokio::test]
async fn a_second_login_on_a_socket_takes_its_place() {
    let server = TestServer::start().await;
    let mut bob = login(&server, "bob").await;
    let mut device = login(&server, "alice").await;
    let mut login = device.provision_request();
    let carol = token(&server, "carol").await;
    login.auth = Some(format!("$t${carol}"));
    login.guid.as_mut().unwrap().name = Some("carol".to_owned());
    login.guid.as_mut().unwrap().client_resource = Some(PHONE.to_owned());
    repack(&mut login, |provision| {
        provision.resource = Some(PHONE.to_owned());
        provision.auth_token = None;
    });
    let reply = ask(&mut device, &login).await;
    assert_eq!(status(reply.status).0, 0);
    assert_eq!(reply.resource.as_deref(), Some(PHONE));
    device.settle().await.unwrap();
    assert!(!online(&server, "alice").await);
    assert!(online(&server, "carol").await);
    for (name, heard) in [("alice", &[][..]), ("carol", &["to carol"][..])] {
        let to = bob.person(name);
        bob.say(&to, &format!("to {name}")).await.unwrap();
        device.settle().await.unwrap();
        let mut got = Vec::new();
        for queue in device.take_notices() {
            got.extend(device.drain(&queue).await.unwrap());
        }
        assert_eq!(texts(&got), heard);
    }
    // One that fails leaves nobody there.
    login.auth = Some("$t$x".to_owned());
    assert_ne!(status(ask(&mut device, &login).await.status).0, 0);
    device.expect_close().await.unwrap();
    until_gone(&server, "carol", PHONE).await;
}

#[tokio::test]
async fn the_socket_has_several_addresses() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    for path in ["/websocket", "/websocket?a=b", "/websocket/x"] {
        let url = format!("ws://{}{path}", server.server.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let login = connect(&server, "alice", WEB, &token).await.provision_request();
        futures_util::SinkExt::send(&mut socket, Message::Binary(login.encode_to_vec().into()))
            .await
            .unwrap();
        let reply =
            timeout(PATIENCE, futures_util::StreamExt::next(&mut socket)).await.unwrap().unwrap().unwrap();
        let reply = MSync::decode(reply.into_data()).unwrap();
        let reply = Provision::decode(reply.payload.unwrap()).unwrap();
        assert_eq!(status(reply.status).0, 0, "{path}");
    }
}

// ---- the compressed uplink --------------------------------------------------------------------------

/// A device that offers to compress what it sends, and the answer to that.
async fn offer(server: &TestServer, name: &str) -> (Device, Provision) {
    let token = token(server, name).await;
    let mut device = connect(server, name, WEB, &token).await;
    let mut login = device.provision_request();
    repack(&mut login, |provision| provision.protocol_compress_type = vec![2]);
    let reply = ask(&mut device, &login).await;
    assert_eq!(status(reply.status.clone()).0, 0);
    (device, reply)
}

#[tokio::test]
async fn compression_is_declined_unless_it_is_switched_on() {
    let mut server = TestServer::start().await;
    let (mut alice, reply) = offer(&server, "alice").await;
    assert_eq!((reply.protocol_compress_type, reply.protocol_compress_direction), (vec![], None));
    alice.settle().await.unwrap();
    server.set(&[("uplink_compression", "true")]).await;
    // Nobody is talked into it.
    let mut bob = login(&server, "bob").await;
    bob.settle().await.unwrap();
}

#[tokio::test]
async fn compressed_frames_may_reach_back_into_earlier_ones() {
    let mut server = TestServer::start().await;
    server.set(&[("uplink_compression", "true")]).await;
    let (mut alice, reply) = offer(&server, "alice").await;
    assert_eq!(reply.protocol_compress_type, [2]);
    assert_eq!(reply.protocol_compress_direction, Some(0), "only what clients send");
    let mut bob = login(&server, "bob").await;
    let mut encoder = Encoder::default();
    let long = "the same words again and again ".repeat(40);
    for n in 1_u64..=20 {
        let meta = posthouse_easemob::wire::proto::Meta {
            id: Some(n),
            ..alice.text_meta(&alice.person("bob"), &format!("{long}{n}"))
        };
        let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
        let plain = frame(Command::Sync, Some(sync.encode_to_vec())).encode_to_vec();
        let packed = encoder.encode(&plain);
        assert!(packed.len() < plain.len());
        alice.send_message(Message::Binary(packed)).await.unwrap();
        let ack = CommSyncDl::decode(alice.answer(Command::Sync, "an ack").await.unwrap()).unwrap();
        assert_eq!((status(ack.status).0, ack.meta_id), (0, Some(n)));
    }
    let got = crate::stage::news(&mut bob).await;
    assert_eq!(got.len(), 20);
    assert_eq!(texts(&got)[19], format!("{long}20"));
}

#[tokio::test]
async fn a_compressed_stream_out_of_step_ends() {
    let mut server = TestServer::start().await;
    server.set(&[("uplink_compression", "true")]).await;
    let plain = frame(Command::Unread, None).encode_to_vec();
    let packed = Encoder::default().encode(&plain);
    let mut wrong_sum = packed.to_vec();
    wrong_sum[2] ^= 1;
    let mut bomb = vec![0xff, 0xff, 0xff, 0x7f];
    bomb.extend_from_slice(&packed[1..]);
    let cut = packed[..packed.len() - 1].to_vec();
    for bytes in [plain, wrong_sum, bomb, cut, vec![], vec![0xff; 30]] {
        let (mut alice, _) = offer(&server, "alice").await;
        alice.send_message(Message::Binary(bytes.clone().into())).await.unwrap();
        assert_eq!(alice.expect_close().await.unwrap().0, Some(1007), "{bytes:?}");
    }
}

// ---- what goes on -----------------------------------------------------------------------------------

#[tokio::test]
async fn names_are_the_same_in_any_case() {
    let server = TestServer::start().await;
    let token = token(&server, "alice").await;
    let mut alice = Device::login(&server.http_url(), identity(&server, "Alice", WEB, &token)).await.unwrap();
    let mut bob = login(&server, "bob").await;
    alice.sync().await.unwrap();
    let to = alice.person("BOB");
    alice.say(&to, "hi").await.unwrap();
    let got = bob.next().await.unwrap();
    assert_eq!(crate::stage::name(got[0].from.as_ref()), "alice");
    assert_eq!(crate::stage::name(got[0].to.as_ref()), "bob");
    let alices = user(&server, "ALICE").await;
    assert_eq!(said(&alices, "Alice", &with("Bob")).await, ["hi"]);
}

#[tokio::test]
async fn an_app_key_is_known_by_its_own_spelling() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    assert_eq!(app_key(&server).matches('#').count(), 1);
    // The queue of notes has no name, and is there for everybody.
    let end = alice.pull(&inbox(), 0).await.unwrap();
    assert_eq!((status(end.status).0, end.is_last), (0, Some(true)));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for() {
    use posthouse::config::Flags;

    let flags = Flags { login_timeout_seconds: Some("1".to_owned()), ..Flags::default() };
    let server = TestServer::start_with(flags).await;
    let mut silent = connect(&server, "alice", WEB, "x").await;
    assert_eq!(silent.expect_close().await.unwrap().0, Some(1008));
    assert!(matches!(silent.receive().await, Err(Error::Closed { .. })));
}
