//! One app, two wires: LeanCloud clients and Easemob users talk to each other, as
//! `docs/wire/crossover.md` says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use posthouse::peer::easemob::{Device, GROUPS, PEOPLE, body_of, metas_of, text_of};
use posthouse::peer::{BINARY, Open, Outgoing, Peer, Sent};
use posthouse_easemob::wire::bodies::{attributes, key_value};
use posthouse_easemob::wire::proto::message_body::content::{Size, Type as ContentType};
use posthouse_easemob::wire::proto::message_body::{Content, Type as BodyType};
use posthouse_easemob::wire::proto::meta::RouteType;
use posthouse_easemob::wire::proto::{Jid, MessageBody, Meta};
use posthouse_leancloud::wire::proto::{CommandType, GenericCommand, OpType};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use stage::{
    back_end, channels, group, is_type, list, login, muc_of, name, newest, news, page, said, texts, token,
    unread, until_muc, until_type, user, with, within,
};

#[path = "../easemob/stage.rs"]
#[allow(dead_code, reason = "the tests of the Easemob wire use the rest of it")]
mod stage;

// ---- the LeanCloud side -----------------------------------------------------------------------------

/// A LeanCloud client, logged in.
async fn enter(server: &TestServer, client: &str) -> Peer {
    let mut peer = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    peer.open(server.app_id(), client, Open::default()).await.unwrap();
    peer
}

/// LeanCloud's door asks for no password, so by default it lets nobody in who may have one.
const BOTH_DOORS: (&str, &str) = ("login_of_accounts_without_password", "true");

/// The unique conversation of a client with one other, as SDKs make it or find it.
async fn pair(peer: &mut Peer, who: &str, other: &str) -> String {
    let started = peer.create_conversation(who, &[other], true, "{}").await.unwrap();
    pushes(peer).await;
    started.cid
}

/// What the server had for this socket.
async fn pushes(peer: &mut Peer) -> Vec<GenericCommand> {
    peer.settle().await.unwrap();
    peer.settle().await.unwrap();
    peer.take_pushes()
}

async fn say(peer: &mut Peer, who: &str, cid: &str, text: &str) -> Sent {
    peer.send_text(who, cid, text, Outgoing::default()).await.unwrap()
}

/// The content of the next message as JSON.
async fn heard(peer: &mut Peer, cid: &str) -> Value {
    let direct = peer.expect_message(cid).await.unwrap();
    let text =
        direct.msg.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// The texts in a client's history, oldest first.
async fn told(peer: &mut Peer, who: &str, cid: &str) -> Vec<String> {
    let items = peer.history(who, cid, 100).await.unwrap();
    items
        .iter()
        .map(|item| {
            let json: Value = serde_json::from_slice(item.data.as_ref().unwrap()).unwrap_or_default();
            json["_lctext"].as_str().unwrap_or_default().to_owned()
        })
        .collect()
}

/// The number of a conversation, as Easemob has it: the last 16 of its 24 hexadecimal digits.
fn decimal(cid: &str) -> String {
    u64::from_str_radix(&cid[8..], 16).unwrap().to_string()
}

fn part(of: ContentType) -> Content {
    Content { r#type: Some(of.into()), ..Content::default() }
}

async fn send(device: &mut Device, to: &Jid, content: Content) -> u64 {
    let meta = device.meta(to, MessageBody { contents: vec![content], ..device.body(to) });
    device.post_ok(meta).await.unwrap().id
}

// ---- talking ----------------------------------------------------------------------------------------

#[tokio::test]
async fn two_people_talk_both_ways_in_one_conversation() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let sent = say(&mut tom, "tom", &cid, "hello 猫").await;
    let got = alice.next().await.unwrap();
    assert_eq!(texts(&got), ["hello 猫"]);
    assert!(is_type(&got[0], BodyType::Chat));
    assert_eq!((name(got[0].from.as_ref()), name(got[0].to.as_ref())), ("tom", "alice"));
    assert_eq!(got[0].to.as_ref().unwrap().domain.as_deref(), Some(PEOPLE));
    assert_eq!(got[0].timestamp, Some(sent.at.unsigned_abs()));

    server.clock.advance_ms(1);
    let to = alice.person("tom");
    let answer = alice.say(&to, "hello Tom").await.unwrap();
    let direct = tom.expect_message(&cid).await.unwrap();
    assert_eq!(
        (direct.from_peer_id.as_deref(), direct.timestamp),
        (Some("alice"), Some(i64::try_from(answer.at).unwrap()))
    );
    assert_eq!(told(&mut tom, "tom", &cid).await, ["hello 猫", "hello Tom"]);
    let alices = user(&server, "alice").await;
    assert_eq!(said(&alices, "alice", &with("tom")).await, ["hello Tom", "hello 猫"]);
    let lines = list(&alices, "alice").await;
    assert_eq!((channels(&lines), newest(&lines[0])), (vec!["tom".to_owned()], "hello Tom".to_owned()));
    assert_eq!(unread(&alices, "alice", "tom").await, Some(1));
    // Whoever begins, it is the same one.
    let mut spike = enter(&server, "spike").await;
    let to = alice.person("spike");
    alice.say(&to, "you there?").await.unwrap();
    let push = spike.expect("a message", |push| push.direct_message.is_some()).await.unwrap();
    let direct = push.direct_message.unwrap();
    let started = spike.create_conversation("spike", &["alice"], true, "{}").await.unwrap();
    assert_eq!((started.existing, Some(&started.cid)), (true, direct.cid.as_ref()));
    assert!(started.unique_id.is_some());
}

#[tokio::test]
async fn who_was_away_catches_up_on_either_wire() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    stage::leave(&server, alice).await;
    for n in 0..3 {
        say(&mut tom, "tom", &cid, &n.to_string()).await;
    }
    alice = stage::arrive(&server, "alice", stage::WEB).await;
    assert_eq!(texts(&alice.sync().await.unwrap()), ["0", "1", "2"]);
    drop(tom);
    let to = alice.person("tom");
    alice.say(&to, "3").await.unwrap();
    let mut tom = enter(&server, "tom").await;
    let push = tom.expect_push(CommandType::Unread, None).await.unwrap();
    let told_of = &push.unread_message.unwrap().convs;
    let ours = told_of.iter().find(|tuple| tuple.cid.as_ref() == Some(&cid)).unwrap();
    assert!(ours.unread.unwrap() >= 1);
    let last = posthouse::peer::text_of(ours.data.as_ref().unwrap());
    assert_eq!(last.as_deref(), Some("3"));
    assert_eq!(told(&mut tom, "tom", &cid).await, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn ids_that_are_no_names_appear_as_escapes() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "Tom").await;
    let mut cat = enter(&server, "猫 1").await;
    let mut alice = login(&server, "alice").await;
    let alices = user(&server, "alice").await;
    for (peer, who, shown) in [(&mut tom, "Tom", "x--54om"), (&mut cat, "猫 1", "x--e7-8c-ab-201")] {
        let cid = pair(peer, who, "alice").await;
        say(peer, who, &cid, "hi").await;
        let got = alice.next().await.unwrap();
        assert_eq!(name(got[0].from.as_ref()), shown);
        assert_eq!(name(body_of(&got[0]).unwrap().from.as_ref()), shown);
        for spelling in [shown.to_owned(), shown.to_uppercase()] {
            let to = alice.person(&spelling);
            alice.say(&to, &spelling).await.unwrap();
            assert_eq!(heard(peer, &cid).await["_lctext"], spelling);
        }
        assert_eq!(said(&alices, "alice", &with(shown)).await.len(), 3);
        assert!(channels(&list(&alices, "alice").await).contains(&shown.to_owned()));
        server.clock.advance_ms(1);
    }
    // `tom` is somebody else.
    let mut small = enter(&server, "tom").await;
    let to = alice.person("tom");
    alice.say(&to, "hi").await.unwrap();
    assert!(pushes(&mut small).await.iter().any(|push| push.direct_message.is_some()));
    assert!(!pushes(&mut tom).await.iter().any(|push| push.direct_message.is_some()));
}

#[tokio::test]
async fn nobody_comes_in_as_an_easemob_user_without_its_password() {
    let mut server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let mut mallory = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    let refused = mallory.open(server.app_id(), "alice", Open::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(4103));
    let mut tom = enter(&server, "tom").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    say(&mut tom, "tom", &cid, "hi").await;
    assert_eq!(texts(&news(&mut alice).await), ["hi"]);
    // Nor by a session from before the name was registered.
    let mut early = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    let opened = early.open(server.app_id(), "bob", Open::default()).await.unwrap();
    token(&server, "bob").await;
    drop(early);
    let mut late = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    let again = Open { reopen: true, token: opened.token, ..Open::default() };
    assert_eq!(late.open(server.app_id(), "bob", again).await.unwrap_err().code(), Some(4103));
    server.set(&[BOTH_DOORS]).await;
    enter(&server, "alice").await;
}

#[tokio::test]
async fn one_client_on_both_wires_sees_its_own_messages() {
    let mut server = TestServer::start().await;
    server.set(&[BOTH_DOORS]).await;
    let mut old = enter(&server, "alice").await;
    let mut new = login(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    let cid = pair(&mut old, "alice", "bob").await;
    say(&mut old, "alice", &cid, "from the old app").await;
    let copy = new.next().await.unwrap();
    assert_eq!((texts(&copy), name(copy[0].to.as_ref())), (vec!["from the old app".to_owned()], "bob"));
    assert_eq!(texts(&bob.next().await.unwrap()), ["from the old app"]);
    let to = new.person("bob");
    new.say(&to, "from the new app").await.unwrap();
    assert_eq!(heard(&mut old, &cid).await["_lctext"], "from the new app");
    assert_eq!(told(&mut old, "alice", &cid).await.len(), 2);
}

// ---- groups -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_group_of_leancloud_is_a_group_of_easemob() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    let made = tom.create_conversation("tom", &["alice"], false, r#"{"name":"mixed"}"#).await.unwrap();
    let cid = made.cid;
    let number = decimal(&cid);
    let joined = until_muc(&mut alice, 19).await;
    assert_eq!((name(joined.muc_id.as_ref()), name(joined.from.as_ref())), (&*number, "tom"));
    assert_eq!(joined.muc_name.as_deref(), Some("mixed"));
    tom.add("tom", &cid, &["bob"]).await.unwrap();
    until_muc(&mut bob, 19).await;
    assert_eq!(name(until_muc(&mut alice, 17).await.from.as_ref()), "bob");
    say(&mut tom, "tom", &cid, "hi all").await;
    for device in [&mut alice, &mut bob] {
        let got = device.next().await.unwrap();
        assert_eq!(texts(&got), ["hi all"]);
        assert!(is_type(&got[0], BodyType::Groupchat));
        assert_eq!(
            (name(got[0].to.as_ref()), got[0].to.as_ref().unwrap().domain.as_deref()),
            (&*number, Some(GROUPS))
        );
    }
    let to = bob.group(&number);
    bob.say(&to, "hi Tom").await.unwrap();
    assert_eq!(heard(&mut tom, &cid).await["_lctext"], "hi Tom");
    let alices = user(&server, "alice").await;
    assert_eq!(said(&alices, "alice", &within(&number)).await, ["hi Tom", "hi all"]);
    assert_eq!(channels(&list(&alices, "alice").await), [&*number]);
    let described = back_end(&server).await.ok("GET", &format!("/chatgroups/{number}"), None).await.unwrap();
    assert_eq!(
        (&described["data"][0]["name"], &described["data"][0]["owner"]),
        (&json!("mixed"), &json!("tom"))
    );

    tom.update("tom", &cid, r#"{"name":"renamed"}"#).await.unwrap();
    let event = until_muc(&mut alice, 14).await;
    let told: Value = serde_json::from_str(&event.event_info.unwrap().ext.unwrap()).unwrap();
    assert_eq!(told["name"], "renamed");
    tom.remove("tom", &cid, &["bob"]).await.unwrap();
    until_muc(&mut bob, 10).await;
    assert_eq!(name(until_muc(&mut alice, 18).await.from.as_ref()), "bob");
}

#[tokio::test]
async fn a_group_of_easemob_is_a_conversation_of_leancloud() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let number = group(&server, "alice", &["tom"]).await;
    let joined = tom.expect_push(CommandType::Conv, Some(OpType::Joined)).await.unwrap();
    let cid = joined.conv_message.unwrap().cid.unwrap();
    assert_eq!((cid.len(), decimal(&cid)), (24, number.clone()));
    let conversation = tom.conversation("tom", &cid).await.unwrap().unwrap();
    assert_eq!((&conversation["name"], &conversation["objectId"]), (&json!("friends"), &json!(cid)));
    let mut alice = login(&server, "alice").await;
    let to = alice.group(&number);
    alice.say(&to, "hi Tom").await.unwrap();
    assert_eq!(heard(&mut tom, &cid).await["_lctext"], "hi Tom");
    say(&mut tom, "tom", &cid, "hi Alice").await;
    assert_eq!(texts(&news(&mut alice).await), ["hi Alice"]);
    token(&server, "bob").await;
    let app = back_end(&server).await;
    app.ok("POST", &format!("/chatgroups/{number}/users/bob"), None).await.unwrap();
    tom.expect_push(CommandType::Conv, Some(OpType::MembersJoined)).await.unwrap();
    let renamed = json!({"groupname": "renamed"});
    user(&server, "alice").await.ok("PUT", &format!("/chatgroups/{number}"), Some(&renamed)).await.unwrap();
    tom.expect_push(CommandType::Conv, Some(OpType::Updated)).await.unwrap();
    assert_eq!(tom.conversation("tom", &cid).await.unwrap().unwrap()["name"], "renamed");
    app.ok("DELETE", &format!("/chatgroups/{number}"), None).await.unwrap();
    tom.expect_push(CommandType::Conv, Some(OpType::Left)).await.unwrap();
    assert!(tom.send_text("tom", &cid, "anybody?", Outgoing::default()).await.is_err());
}

#[tokio::test]
async fn rooms_and_temporary_conversations_are_leanclouds_alone() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let temporary = tom.create_temporary("tom", &["alice"], Some(3_600)).await.unwrap().cid;
    say(&mut tom, "tom", &temporary, "psst").await;
    let room = tom.create_room("tom", "{}").await.unwrap().cid;
    assert_eq!(texts(&news(&mut alice).await), [""; 0]);
    assert_eq!(list(&user(&server, "alice").await, "alice").await.len(), 0);
    let meta = alice.text_meta(&alice.group(&decimal(&room)), "hi");
    assert_eq!(stage::refusal(&mut alice, meta).await, (1, "group not found".to_owned()));
}

/// What must be true of a translated content.
type IsRight = fn(&Content) -> bool;

// ---- content ----------------------------------------------------------------------------------------

#[tokio::test]
async fn what_leancloud_writes_easemob_reads() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let file = |url: &str, known: Value| json!({"url": url, "metaData": known});
    let url = "https://files.example/a/b/c.png";
    let cases: Vec<(Value, ContentType, IsRight)> = vec![
        (json!({"_lctype": -1, "_lctext": "hi"}), ContentType::Text, |part| {
            part.text.as_deref() == Some("hi")
        }),
        (
            json!({"_lctype": -2, "_lctext": "", "_lcfile": file(url, json!({"name": "c.png", "size": 42, "width": 3, "height": 4}))}),
            ContentType::Image,
            |part| {
                part.remote_path.as_deref() == Some("https://files.example/a/b/c.png")
                    && part.display_name.as_deref() == Some("c.png")
                    && part.file_length == Some(42)
                    && part.size.is_some_and(|size| size.width == Some(3.0) && size.height == Some(4.0))
            },
        ),
        (
            json!({"_lctype": -3, "_lcfile": file(url, json!({"duration": 2.7, "size": 9}))}),
            ContentType::Voice,
            |part| part.duration == Some(3) && part.file_length == Some(9),
        ),
        (json!({"_lctype": -4, "_lcfile": file(url, json!({"duration": 60}))}), ContentType::Video, |part| {
            part.duration == Some(60)
        }),
        (json!({"_lctype": -6, "_lcfile": file(url, json!({}))}), ContentType::File, |part| {
            part.remote_path.is_some()
        }),
        (
            json!({"_lctype": -5, "_lctext": "here", "_lcloc": {"latitude": 39.5, "longitude": 116.25}}),
            ContentType::Location,
            |part| {
                part.latitude == Some(39.5)
                    && part.longitude == Some(116.25)
                    && part.address.as_deref() == Some("here")
            },
        ),
        (json!({"_lctype": 7, "gift": "rose", "n": 3}), ContentType::Custom, |part| {
            let fields = attributes(&part.custom_exts);
            part.custom_event.as_deref() == Some("7") && fields["gift"] == "rose" && fields["n"] == "3"
        }),
        (json!({"_lctype": -9, "_lctext": "something new"}), ContentType::Text, |part| {
            part.text.as_deref() == Some("something new")
        }),
        (json!({"_lctype": -2}), ContentType::Text, |part| part.text.as_deref() == Some("[file]")),
    ];
    for (json, kind, is_right) in cases {
        tom.send_content("tom", &cid, &json.to_string(), Outgoing::default()).await.unwrap();
        let got = alice.next().await.unwrap();
        let part = body_of(&got[0]).unwrap().contents.remove(0);
        assert_eq!(part.r#type, Some(kind.into()), "{json}");
        assert!(is_right(&part), "{json}: {part:?}");
        let listed = list(&user(&server, "alice").await, "alice").await;
        assert_eq!(channels(&listed), ["tom"]);
    }
    tom.send_content("tom", &cid, "plain text", Outgoing::default()).await.unwrap();
    assert_eq!(texts(&alice.next().await.unwrap()), ["plain text"]);
    tom.send_binary("tom", &cid, &[0, 255, 1], Outgoing::default()).await.unwrap();
    assert_eq!(texts(&alice.next().await.unwrap()), ["[message]"]);
    let json = json!({"_lctype": -1, "_lctext": "hi", "_lcattrs": {"k": {"a": [1]}, "n": 3}});
    let how = Outgoing { mentions: vec!["alice".to_owned()], ..Outgoing::default() };
    tom.send_content("tom", &cid, &json.to_string(), how).await.unwrap();
    let ext = attributes(&body_of(&alice.next().await.unwrap()[0]).unwrap().ext);
    assert_eq!(
        (&ext["k"], &ext["n"], &ext["em_at_list"]),
        (&json!({"a": [1]}), &json!(3), &json!(["alice"]))
    );
    let history = page(&user(&server, "alice").await, "alice", &with("tom"), json!({})).await;
    assert_eq!(history.metas.len(), 12);
}

#[tokio::test]
async fn what_easemob_writes_leancloud_reads() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let to = alice.person("tom");
    let url = "https://im.example/a/b/chatfiles/1";
    let file = |of| Content {
        remote_path: Some(url.to_owned()),
        display_name: Some("a.bin".to_owned()),
        file_length: Some(42),
        ..part(of)
    };
    let size = Some(Size { width: Some(3.0), height: Some(4.0) });
    for (content, expected) in [
        (
            Content { text: Some("hi".to_owned()), ..part(ContentType::Text) },
            json!({"_lctype": -1, "_lctext": "hi"}),
        ),
        (Content { size, ..file(ContentType::Image) }, json!({"_lctype": -2})),
        (Content { duration: Some(3), ..file(ContentType::Voice) }, json!({"_lctype": -3})),
        (Content { duration: Some(60), ..file(ContentType::Video) }, json!({"_lctype": -4})),
        (file(ContentType::File), json!({"_lctype": -6})),
        (
            Content {
                latitude: Some(39.5),
                longitude: Some(116.25),
                address: Some("here".to_owned()),
                ..part(ContentType::Location)
            },
            json!({"_lctype": -5, "_lctext": "here", "_lcloc": {"latitude": 39.5, "longitude": 116.25}}),
        ),
        (
            Content {
                custom_event: Some("gift".to_owned()),
                custom_exts: vec![key_value("name", &json!("rose"))],
                ..part(ContentType::Custom)
            },
            json!({"_lctype": -1, "_lctext": "[gift]", "_lcattrs": {"customEvent": "gift", "customExts": {"name": "rose"}}}),
        ),
        (
            Content { sub_type: Some(0), text: Some("compatible".to_owned()), ..part(ContentType::Text) },
            json!({"_lctype": -1, "_lctext": "compatible"}),
        ),
    ] {
        let is_file = content.remote_path.is_some();
        send(&mut alice, &to, content).await;
        let got = heard(&mut tom, &cid).await;
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&got[key], value, "{got}");
        }
        if is_file {
            assert_eq!(got["_lcfile"]["url"], url);
            assert_eq!(
                (&got["_lcfile"]["metaData"]["name"], &got["_lcfile"]["metaData"]["size"]),
                (&json!("a.bin"), &json!(42))
            );
        }
    }
    let secret = Content { secret_key: Some("s3".to_owned()), ..file(ContentType::Image) };
    send(&mut alice, &to, secret).await;
    let got = heard(&mut tom, &cid).await;
    assert!(got["_lcfile"]["url"].as_str().unwrap().contains("share-secret=s3"), "{got}");
    let mut meta = alice.text_meta(&to, "hi");
    let mut body = body_of(&meta).unwrap();
    body.ext = vec![key_value("k", &json!({"a": 1})), key_value("em_at_list", &json!(["tom"]))];
    meta = alice.meta(&to, body);
    alice.post_ok(meta).await.unwrap();
    let direct = tom.expect_message(&cid).await.unwrap();
    assert_eq!(direct.mention_pids, ["tom"]);
    let json: Value = serde_json::from_slice(direct.msg.as_ref().unwrap()).unwrap();
    assert_eq!(json["_lcattrs"]["k"], json!({"a": 1}));
    // What is said to programs is not shown to people.
    let command = Content { action: Some("jump".to_owned()), ..part(ContentType::Command) };
    send(&mut alice, &to, command).await;
    assert!(pushes(&mut tom).await.iter().all(|push| push.direct_message.is_none()));
    assert_eq!(tom.history("tom", &cid, 100).await.unwrap().len(), 10);
}

#[tokio::test]
async fn what_is_for_now_crosses_and_is_forgotten() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    tom.send_text("tom", &cid, "now", Outgoing { transient: true, ..Outgoing::default() }).await.unwrap();
    assert_eq!(texts(&metas_of(&alice.push().await.unwrap()).unwrap()), ["now"]);
    let meta = alice.text_meta(&alice.person("tom"), "or never");
    alice.post_ok(Meta { routetype: Some(RouteType::RouteOnline.into()), ..meta }).await.unwrap();
    let direct = tom.expect_message(&cid).await.unwrap();
    assert_eq!(direct.transient, Some(true));
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap(), []);
    assert_eq!(said(&user(&server, "alice").await, "alice", &with("tom")).await, [""; 0]);
}

// ---- what becomes of messages -----------------------------------------------------------------------

#[tokio::test]
async fn edits_cross() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let sent = say(&mut tom, "tom", &cid, "helo").await;
    let id = alice.next().await.unwrap()[0].id.unwrap();
    server.clock.advance_ms(5);
    tom.modify("tom", &cid, &sent, "hello").await.unwrap();
    let (meta, body) = until_type(&mut alice, BodyType::Edit).await;
    assert_eq!((text_of(&meta), body.edit_message_id), ("hello".to_owned(), Some(id)));
    let known: Value = serde_json::from_str(&body.meta.unwrap()).unwrap();
    assert_eq!((&known["edit_msg"]["operator"], &known["edit_msg"]["count"]), (&json!("tom"), &json!(1)));
    let alices = user(&server, "alice").await;
    assert_eq!(said(&alices, "alice", &with("tom")).await, ["hello"]);

    let to = alice.person("tom");
    let own = alice.say(&to, "wolrd").await.unwrap();
    tom.expect_message(&cid).await.unwrap();
    let body = MessageBody {
        r#type: Some(BodyType::Edit.into()),
        edit_message_id: Some(own.id),
        edit_scope: Some(1),
        contents: vec![Content { text: Some("world".to_owned()), ..part(ContentType::Text) }],
        ..alice.body(&to)
    };
    let meta = alice.meta(&to, body);
    alice.post_ok(meta).await.unwrap();
    let patch = tom.expect_push(CommandType::Patch, Some(OpType::Modify)).await.unwrap();
    let item = &patch.patch_message.unwrap().patches[0];
    let json: Value = serde_json::from_slice(item.data.as_ref().unwrap()).unwrap();
    assert_eq!(
        (&json["_lctext"], item.cid.as_ref(), item.recall),
        (&json!("world"), Some(&cid), Some(false))
    );
    assert_eq!(told(&mut tom, "tom", &cid).await, ["hello", "world"]);
}

#[tokio::test]
async fn recalls_cross() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let sent = say(&mut tom, "tom", &cid, "oops").await;
    let id = alice.next().await.unwrap()[0].id.unwrap();
    tom.recall("tom", &cid, &sent).await.unwrap();
    let (_, body) = until_type(&mut alice, BodyType::Recall).await;
    assert_eq!(body.ack_message_id, Some(id));
    assert_eq!(said(&user(&server, "alice").await, "alice", &with("tom")).await, [""; 0]);

    let to = alice.person("tom");
    let own = alice.say(&to, "sorry").await.unwrap();
    tom.expect_message(&cid).await.unwrap();
    let body = MessageBody {
        r#type: Some(BodyType::Recall.into()),
        ack_message_id: Some(own.id),
        contents: vec![Content::default()],
        ..alice.body(&to)
    };
    let meta = alice.meta(&to, body);
    alice.post_ok(meta).await.unwrap();
    let patch = tom.expect_push(CommandType::Patch, Some(OpType::Modify)).await.unwrap();
    let item = &patch.patch_message.unwrap().patches[0];
    assert_eq!(item.recall, Some(true));
    let json: Value = serde_json::from_slice(item.data.as_ref().unwrap()).unwrap();
    assert_eq!(json["_lctype"], -127);
    // LeanCloud shows where something stood; Easemob does not.
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn receipts_and_read_marks_cross() {
    let mut server = TestServer::start().await;
    server.set(&[BOTH_DOORS]).await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let to = alice.person("tom");
    let own = alice.say(&to, "hi Tom").await.unwrap();
    let direct = tom.expect_message(&cid).await.unwrap();
    tom.ack_message("tom", &cid, direct.id.as_deref().unwrap()).await.unwrap();
    let (meta, body) = until_type(&mut alice, BodyType::DeliverAck).await;
    assert_eq!((name(meta.from.as_ref()), body.ack_message_id), ("tom", Some(own.id)));
    tom.read("tom", &cid, direct.id.as_deref().unwrap(), direct.timestamp.unwrap()).await.unwrap();
    let (meta, _) = until_type(&mut alice, BodyType::ChannelAck).await;
    assert_eq!(name(meta.from.as_ref()), "tom");

    server.clock.advance_ms(1);
    let how = Outgoing { receipt: true, ..Outgoing::default() };
    let sent = tom.send_text("tom", &cid, "hi Alice", how).await.unwrap();
    let alices = user(&server, "alice").await;
    assert_eq!(unread(&alices, "alice", "tom").await, Some(1));
    let id = news(&mut alice)
        .await
        .iter()
        .find_map(|meta| (text_of(meta) == "hi Alice").then_some(meta.id.unwrap()))
        .unwrap();
    let receipt = |of: BodyType, message: Option<u64>, device: &Device| {
        let body = MessageBody {
            r#type: Some(of.into()),
            ack_message_id: message,
            contents: vec![Content::default()],
            ..device.body(&to)
        };
        device.meta(&to, body)
    };
    let meta = receipt(BodyType::DeliverAck, Some(id), &alice);
    alice.post_ok(meta).await.unwrap();
    let rcp = tom.expect_push(CommandType::Rcp, None).await.unwrap().rcp_message.unwrap();
    assert_eq!((rcp.id.as_ref(), rcp.from.as_deref()), (Some(&sent.id), Some("alice")));
    let meta = receipt(BodyType::ChannelAck, None, &alice);
    alice.post_ok(meta).await.unwrap();
    let is_read = |push: &GenericCommand| push.rcp_message.as_ref().is_some_and(|rcp| rcp.read == Some(true));
    tom.expect("that it was read", is_read).await.unwrap();
    assert_eq!(unread(&alices, "alice", "tom").await, Some(0));
    // A client with both apps has read it in both.
    let mut old = enter(&server, "alice").await;
    let told = pushes(&mut old).await;
    let unread_in_old: i32 = told
        .iter()
        .filter_map(|push| push.unread_message.as_ref())
        .flat_map(|unread| &unread.convs)
        .map(|tuple| tuple.unread.unwrap_or(0))
        .sum();
    assert_eq!(unread_in_old, 0);
}

#[tokio::test]
async fn what_easemob_deletes_is_gone_from_leancloud_for_the_same_people() {
    let mut server = TestServer::start().await;
    server.set(&[BOTH_DOORS]).await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let mut ids = Vec::new();
    for text in ["1", "2", "3"] {
        server.clock.advance_ms(1);
        say(&mut tom, "tom", &cid, text).await;
        ids.push(alice.next().await.unwrap()[0].id.unwrap());
    }
    let alices = user(&server, "alice").await;
    let path = format!("/sdk/message/roaming/chat/user/alice?userId=tom&msgIdList={}", ids[1]);
    alices.ok("DELETE", &path, None).await.unwrap();
    let mut old = enter(&server, "alice").await;
    assert_eq!(told(&mut old, "alice", &cid).await, ["1", "3"], "for her alone");
    assert_eq!(told(&mut tom, "tom", &cid).await, ["1", "2", "3"]);
    let delete =
        |with_messages: bool| json!({"channel": "tom", "type": "chat", "delete_roam": with_messages});
    alices.ok("DELETE", "/user/alice/user_channel", Some(&delete(false))).await.unwrap();
    assert_eq!(told(&mut tom, "tom", &cid).await, ["1", "2", "3"]);
    alices.ok("DELETE", "/user/alice/user_channel", Some(&delete(true))).await.unwrap();
    assert_eq!(told(&mut tom, "tom", &cid).await, [""; 0], "for everybody");
    assert_eq!(told(&mut old, "alice", &cid).await, [""; 0]);
    server.clock.advance_ms(1);
    say(&mut tom, "tom", &cid, "4").await;
    assert_eq!(told(&mut old, "alice", &cid).await, ["4"]);
    assert_eq!(said(&alices, "alice", &with("tom")).await, ["4"]);
}

#[tokio::test]
async fn a_pair_that_takes_in_a_third_is_a_group_for_both() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    say(&mut tom, "tom", &cid, "as two").await;
    alice.next().await.unwrap();
    tom.add("tom", &cid, &["bob"]).await.unwrap();
    news(&mut alice).await;
    server.clock.advance_ms(1);
    say(&mut tom, "tom", &cid, "as three").await;
    let got = news(&mut alice).await;
    let message: &Meta = got.iter().find(|meta| text_of(meta) == "as three").unwrap();
    assert!(is_type(message, BodyType::Groupchat));
    assert_eq!(name(message.to.as_ref()), decimal(&cid));
    // The next single message begins a conversation of its own.
    let to = alice.person("tom");
    alice.say(&to, "between us").await.unwrap();
    let direct =
        tom.expect("a message", |push| push.direct_message.is_some()).await.unwrap().direct_message.unwrap();
    assert_ne!(direct.cid.as_ref(), Some(&cid));
    assert_eq!(said(&user(&server, "alice").await, "alice", &within(&decimal(&cid))).await[0], "as three");
}

#[tokio::test]
async fn blocks_hold_on_both_wires() {
    let server = TestServer::start().await;
    let mut tom = enter(&server, "tom").await;
    let mut alice = login(&server, "alice").await;
    token(&server, "tom").await;
    let cid = pair(&mut tom, "tom", "alice").await;
    let alices = user(&server, "alice").await;
    let who = json!({"usernames": ["tom"]});
    alices.ok("POST", "/sdk/user/alice/blocks", Some(&who)).await.unwrap();
    let refused = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(4548));
    alices.ok("DELETE", "/sdk/user/alice/blocks", Some(&who)).await.unwrap();
    say(&mut tom, "tom", &cid, "again").await;
    assert_eq!(texts(&news(&mut alice).await), ["again"]);
    assert!(news(&mut alice).await.iter().all(|meta| muc_of(meta).is_none()));
}
