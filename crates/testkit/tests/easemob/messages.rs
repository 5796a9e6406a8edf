//! Sending: acks and refusals, every content, who gets copies, and what is kept (client 5).

use bytes::Bytes;
use posthouse::peer::easemob::{Device, GROUPS, Rest, body_of, frame, metas_of, text_of};
use posthouse_easemob::wire::bodies::key_value;
use posthouse_easemob::wire::proto::key_value::{Value as Typed, ValueType};
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::message_body::content::{Size, SubType, Type as ContentType};
use posthouse_easemob::wire::proto::message_body::{Content, MessageConfig, Stream, Type as BodyType};
use posthouse_easemob::wire::proto::meta::{NameSpace, RouteType};
use posthouse_easemob::wire::proto::muc_body::Operation as GroupOperation;
use posthouse_easemob::wire::proto::{CommSyncDl, CommSyncUl, Jid, KeyValue, MessageBody, Meta, MucBody};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use serde_json::json;

use crate::stage::{
    PHONE, WEB, alice_and_bob, app_key, arrive, channels, group, ids, kick_of, leave, list, login, login_on,
    name, news, page, refusal, said, status, texts, token, unread, user, with, within,
};

fn part(of: ContentType) -> Content {
    Content { r#type: Some(of.into()), ..Content::default() }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Each content that the Web SDK sends, with all its fields (client 5.6).
fn contents() -> Vec<Content> {
    let file = |of| Content {
        display_name: some("猫.bin"),
        remote_path: some("https://im.example/acme/demo/chatfiles/5fd74830-ed8c-11e8-822a-81ea50bb049d"),
        secret_key: some("X9dXXX7Yc"),
        file_length: Some(4_711),
        ..part(of)
    };
    let size = Some(Size { width: Some(170.0), height: Some(99.5) });
    vec![
        Content { text: some("hello 世界 \u{0}\u{1F600}"), ..part(ContentType::Text) },
        Content { text: some(""), ..part(ContentType::Text) },
        Content { size, ..file(ContentType::Image) },
        Content { size, sub_type: Some(SubType::SubGif.into()), ..file(ContentType::Image) },
        Content {
            duration: Some(12),
            thumbnail_remote_path: some("https://im.example/a/b/chatfiles/t"),
            thumbnail_secret_key: some("s"),
            size,
            ..file(ContentType::Video)
        },
        Content {
            latitude: Some(39.9),
            longitude: Some(116.4),
            address: some("北京"),
            building_name: some("tower"),
            ..part(ContentType::Location)
        },
        Content { duration: Some(3), ..file(ContentType::Voice) },
        file(ContentType::File),
        Content {
            custom_event: some("gift"),
            custom_exts: vec![key_value("name", &json!("flower")), key_value("n", &json!("16"))],
            ..part(ContentType::Custom)
        },
        Content {
            sub_type: Some(SubType::SubCombine.into()),
            title: some("chat of two"),
            summary: some("a: b"),
            text: some("not supported"),
            combine_level: Some(1),
            ..file(ContentType::Text)
        },
        Content { title: some("native"), summary: some("x"), ..file(ContentType::Combine) },
    ]
}

/// Every type of attribute (client 5.7).
fn attributes() -> Vec<KeyValue> {
    let number = |key: &str, of: ValueType, value: Typed| KeyValue {
        key: some(key),
        r#type: Some(of.into()),
        value: Some(value),
    };
    vec![
        key_value("b", &json!(true)),
        key_value("n", &json!(-3)),
        key_value("f", &json!(1.5)),
        key_value("s", &json!("x")),
        key_value("o", &json!({"a": [1]})),
        key_value("null", &json!(null)),
        number("u", ValueType::Uint, Typed::VarintValue(7)),
        number("l", ValueType::Llint, Typed::VarintValue(i64::MIN)),
        number("float", ValueType::Float, Typed::FloatValue(0.5)),
    ]
}

/// A meta with a payload of any bytes.
fn raw_meta(to: &Jid, payload: Vec<u8>) -> Meta {
    Meta {
        to: Some(to.clone()),
        ns: Some(NameSpace::Chat.into()),
        payload: Some(Bytes::from(payload)),
        routetype: Some(RouteType::RouteAll.into()),
        ..Meta::default()
    }
}

#[tokio::test]
async fn an_ack_has_all_that_a_promise_needs() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let meta = Meta { id: Some(530_319_729_029), ..alice.text_meta(&alice.person("bob"), "hi") };
    let ack = alice.post(meta).await.unwrap();
    assert_eq!(status(ack.status), (0, String::new()));
    assert_eq!(ack.meta_id, Some(530_319_729_029));
    assert_eq!(ack.timestamp, Some(server.now().0.unsigned_abs()));
    let id = ack.server_id.unwrap();
    assert!(id > 1 << 52 && id < 1 << 63, "about 19 digits: {id}");
    assert!(ack.metas.is_empty());
    let next = alice.text_meta(&alice.person("bob"), "hi");
    assert!(alice.post_ok(next).await.unwrap().id > id);
}

#[tokio::test]
async fn every_content_arrives_byte_for_byte_also_in_history() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let group = group(&server, "alice", &["bob"]).await;
    news(&mut alice).await;
    news(&mut bob).await;
    for to in [alice.person("bob"), alice.group(&group)] {
        let mut sent = Vec::new();
        for content in contents() {
            let mut body = MessageBody { contents: vec![content], ext: attributes(), ..alice.body(&to) };
            body.msg_config = Some(MessageConfig { allow_group_ack: Some(true) });
            let mut payload = body.encode_to_vec();
            // A field that nobody knows yet: number 200, three bytes.
            payload.extend_from_slice(&[0xc2, 0x0c, 0x03, 1, 2, 3]);
            alice.post_ok(raw_meta(&to, payload.clone())).await.unwrap();
            sent.push(payload);
        }
        let payloads =
            |metas: &[Meta]| metas.iter().map(|meta| meta.payload.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(payloads(&news(&mut bob).await), sent);
        for name in ["alice", "bob"] {
            let rest = user(&server, name).await;
            let queue = match to.domain.as_deref() {
                Some(GROUPS) => within(&group),
                _ => with(if name == "alice" { "bob" } else { "alice" }),
            };
            let page = page(&rest, name, &queue, json!({"is_positive": true})).await;
            assert_eq!(payloads(&page.metas), sent, "{queue}");
        }
    }
}

#[tokio::test]
async fn the_server_fills_in_who_when_and_which() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let group = group(&server, "alice", &["bob"]).await;
    news(&mut bob).await;
    for to in [alice.person("bob"), alice.group(&group)] {
        // Fields of the envelope that nobody knows survive as well.
        let mut spoofed = alice.text_meta(&to, "hi");
        spoofed.from = Some(alice.person("mallory"));
        spoofed.timestamp = Some(1);
        let sent = alice.post_ok(spoofed).await.unwrap();
        let meta = bob.next().await.unwrap().remove(0);
        assert_eq!(meta.id, Some(sent.id));
        assert_eq!(meta.timestamp, Some(sent.at));
        assert_eq!(meta.ns, Some(NameSpace::Chat.into()));
        let from = Jid { client_resource: some(WEB), ..alice.person("alice") };
        assert_eq!(meta.from, Some(from.clone()));
        assert_eq!(meta.to, Some(to.clone()));
        let body = body_of(&meta).unwrap();
        assert_eq!((name(body.from.as_ref()), name(body.to.as_ref())), ("alice", name(Some(&to))));
        let rest = user(&server, "bob").await;
        let queue = if to.domain.as_deref() == Some(GROUPS) { within(&group) } else { with("alice") };
        let stored = page(&rest, "bob", &queue, json!({})).await.metas.remove(0);
        assert_eq!(
            (stored.id, stored.timestamp, stored.from, stored.to),
            (meta.id, meta.timestamp, meta.from, meta.to)
        );
    }
}

#[tokio::test]
async fn a_client_cannot_say_what_only_a_server_knows() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let mut meta = alice.text_meta(&to, "hi");
    let mut body = body_of(&meta).unwrap();
    body.meta = some(r#"{"edit_msg":{"count":9,"operator":"bob","edit_time":5},"isRead":true}"#);
    meta.payload = Some(body.encode_to_vec().into());
    meta.meta = Some(Bytes::from_static(b"not JSON"));
    alice.post_ok(meta).await.unwrap();
    let got = bob.next().await.unwrap().remove(0);
    assert_eq!(body_of(&got).unwrap().meta, None);
    assert!(got.meta.is_none_or(|json| serde_json::from_slice::<serde_json::Value>(&json).is_ok()));
}

#[tokio::test]
async fn foreign_senders_and_receivers_are_refused_without_a_trace() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut mallory = login(&server, "mallory").await;
    let bobs = mallory.person("bob");
    let own = group(&server, "alice", &["bob"]).await;
    news(&mut bob).await;
    let body = |from: &str, of: BodyType| {
        let content = Content { text: some("psst"), ..part(ContentType::Text) };
        let from = Some(Jid { name: some(from), ..Jid::default() });
        MessageBody { from, r#type: Some(of.into()), contents: vec![content], ..MessageBody::default() }
    };
    let spoof = raw_meta(&bobs, body("alice", BodyType::Chat).encode_to_vec());
    assert_eq!(refusal(&mut mallory, spoof).await.0, 1);
    let foreign = Jid { app_key: some("acme#other"), ..bobs.clone() };
    let meta = mallory.text_meta(&foreign, "psst");
    assert_eq!(refusal(&mut mallory, meta).await.0, 1);
    for to in [
        Jid { domain: some("example.com"), ..bobs.clone() },
        Jid { domain: None, ..bobs.clone() },
        Jid { name: None, ..bobs.clone() },
        Jid::default(),
    ] {
        let meta = mallory.text_meta(&to, "psst");
        refusal(&mut mallory, meta).await;
    }
    // A body of one kind to a receiver of the other.
    let single_to_group = raw_meta(&alice.group(&own), body("alice", BodyType::Chat).encode_to_vec());
    refusal(&mut alice, single_to_group).await;
    let group_to_single = raw_meta(&alice.person("bob"), body("alice", BodyType::Groupchat).encode_to_vec());
    refusal(&mut alice, group_to_single).await;
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
    assert_eq!(list(&user(&server, "bob").await, "bob").await.len(), 0);
}

#[tokio::test]
async fn refusals_have_the_texts_that_sdks_know() {
    let mut server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let failed = |text: &str| (1, text.to_owned());
    let theirs = group(&server, "bob", &["carol"]).await;

    let meta = alice.text_meta(&alice.group(&theirs), "hi");
    assert_eq!(refusal(&mut alice, meta).await, failed("not in group or chatroom"));
    for nowhere in ["184524748161025", "7", "x", "-1", "99999999999999999999"] {
        let meta = alice.text_meta(&alice.group(nowhere), "hi");
        assert_eq!(refusal(&mut alice, meta).await, failed("group not found"), "{nowhere}");
    }
    for bad in ["bob smith", "猫", "bob!", "x-bob"] {
        let meta = alice.text_meta(&alice.person(bad), "hi");
        let (code, reason) = refusal(&mut alice, meta).await;
        assert!(
            code == 1 && reason.contains("username") && reason.contains("doesn't exist!"),
            "{bad}: {reason}"
        );
    }
    let bobs = user(&server, "bob").await;
    bobs.ok("POST", "/sdk/user/bob/blocks", Some(&json!({"usernames": ["alice"]}))).await.unwrap();
    let meta = alice.text_meta(&alice.person("bob"), "hi");
    assert_eq!(refusal(&mut alice, meta.clone()).await, failed("blocked"));
    bobs.ok("DELETE", "/sdk/user/bob/blocks", Some(&json!({"usernames": ["alice"]}))).await.unwrap();
    alice.post_ok(Meta { id: None, ..meta }).await.unwrap();

    server.set(&[("message_bytes_max", "1000")]).await;
    let meta = alice.text_meta(&alice.person("bob"), &"a".repeat(2_000));
    assert_eq!(refusal(&mut alice, meta).await, (7, "Sorry, data is too large".to_owned()));
    let meta = alice.text_meta(&alice.person("bob"), &"a".repeat(500));
    alice.post_ok(meta).await.unwrap();
    assert_eq!(texts(&news(&mut bob).await), ["hi".to_owned(), "a".repeat(500)]);
}

#[tokio::test]
async fn rooms_and_directed_messages_are_refused_in_words() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let group = group(&server, "alice", &["bob"]).await;
    news(&mut bob).await;
    for operation in [GroupOperation::Join, GroupOperation::Leave] {
        let body = MucBody {
            muc_id: Some(alice.group("2009")),
            operation: Some(operation.into()),
            from: Some(alice.person("alice")),
            is_chatroom: Some(true),
            ..MucBody::default()
        };
        let meta = Meta {
            to: Some(Jid { domain: some("easemob.com"), ..Jid::default() }),
            ns: Some(NameSpace::Muc.into()),
            payload: Some(body.encode_to_vec().into()),
            ..Meta::default()
        };
        assert_eq!(refusal(&mut alice, meta).await, (1, "grpID 2009 does not exist!".to_owned()));
    }
    let mut body = body_of(&alice.text_meta(&alice.group("2009"), "hi")).unwrap();
    body.r#type = Some(BodyType::Chatroom.into());
    let meta = raw_meta(&alice.group("2009"), body.encode_to_vec());
    let (code, reason) = refusal(&mut alice, meta).await;
    assert!(code == 1 && reason.contains("2009"), "{reason}");
    let to = alice.group(&group);
    let directed = Meta {
        routetype: Some(RouteType::RouteDirect.into()),
        directed_users: vec!["bob".to_owned()],
        ..alice.text_meta(&to, "only for you")
    };
    assert_eq!(refusal(&mut alice, directed.clone()).await.0, 1);
    let hidden = Meta { routetype: Some(RouteType::RouteAll.into()), ..directed };
    assert_eq!(refusal(&mut alice, hidden).await.0, 1);
    let mut in_thread = body_of(&alice.text_meta(&to, "hi")).unwrap();
    in_thread.meta = some(r#"{"thread":{}}"#);
    assert_eq!(refusal(&mut alice, raw_meta(&to, in_thread.encode_to_vec())).await.0, 1);
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_with_their_id() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let not_text = {
        // A text that is no UTF-8 would make the receiver lose its neighbours.
        let mut payload = alice.body(&to).encode_to_vec();
        payload.extend_from_slice(&[0x22, 0x04, 0x12, 0x02, 0xff, 0xfe]);
        payload
    };
    let bad_json = KeyValue {
        key: some("o"),
        r#type: Some(ValueType::JsonString.into()),
        value: Some(Typed::StringValue("{\"a\":".to_owned())),
    };
    let content = Content { text: some("hi"), ..part(ContentType::Text) };
    let with_bad_json =
        MessageBody { contents: vec![content.clone()], ext: vec![bad_json.clone()], ..alice.body(&to) };
    let custom_bad_json = MessageBody {
        contents: vec![Content { custom_exts: vec![bad_json], ..part(ContentType::Custom) }],
        ..alice.body(&to)
    };
    let empty = alice.body(&to);
    let strange = MessageBody { r#type: Some(99), contents: vec![content], ..alice.body(&to) };
    for payload in [
        vec![0xff, 0xff],
        not_text,
        with_bad_json.encode_to_vec(),
        custom_bad_json.encode_to_vec(),
        empty.encode_to_vec(),
        strange.encode_to_vec(),
    ] {
        refusal(&mut alice, raw_meta(&to, payload)).await;
    }
    for ns in [3, 4, 6, 99] {
        let meta = Meta { ns: Some(ns), ..alice.text_meta(&to, "hi") };
        refusal(&mut alice, meta).await;
    }
    let meta = Meta { routetype: Some(9), ..alice.text_meta(&to, "hi") };
    refusal(&mut alice, meta).await;
    alice.say(&to, "fine").await.unwrap();
    assert_eq!(texts(&news(&mut bob).await), ["fine"]);
}

#[tokio::test]
async fn a_retry_with_the_same_number_is_one_message() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let meta = Meta { id: Some(77), ..alice.text_meta(&alice.person("bob"), "once") };
    let first = alice.post_ok(meta.clone()).await.unwrap();
    let again = alice.post_ok(meta.clone()).await.unwrap();
    assert_eq!(again, first);
    leave(&server, alice).await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(alice.post_ok(meta.clone()).await.unwrap(), first);
    // Another device counts for itself.
    let mut phone = login_on(&server, "alice", PHONE).await;
    let other = phone.post_ok(meta.clone()).await.unwrap();
    assert_ne!(other.id, first.id);
    assert_eq!(ids(&news(&mut bob).await), [first.id, other.id]);
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, ["once", "once"]);
    // And so does another user.
    let own = bob.person("alice");
    let bobs = bob.post_ok(Meta { id: Some(77), ..bob.text_meta(&own, "mine") }).await.unwrap();
    assert_ne!(bobs.id, first.id);
}

fn online_only(meta: Meta) -> Meta {
    Meta { routetype: Some(RouteType::RouteOnline.into()), ..meta }
}

fn command(device: &Device, to: &Jid, action: &str) -> Meta {
    let content = Content { action: some(action), ..part(ContentType::Command) };
    device.meta(to, MessageBody { contents: vec![content], ..device.body(to) })
}

fn action_of(meta: &Meta) -> String {
    body_of(meta).unwrap().contents[0].action.clone().unwrap_or_default()
}

#[tokio::test]
async fn what_is_for_now_reaches_who_is_here_and_is_forgotten() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let mut bob = login(&server, "bob").await;
    let away = login_on(&server, "bob", PHONE).await;
    leave(&server, away).await;
    let to = alice.person("bob");
    let meta = online_only(alice.text_meta(&to, "quick"));
    alice.post_ok(meta).await.unwrap();
    let typing = online_only(command(&alice, &to, "TypingBegin"));
    alice.post_ok(typing).await.unwrap();
    for device in [&mut bob, &mut phone] {
        let first = metas_of(&device.push().await.unwrap()).unwrap();
        assert_eq!(texts(&first), ["quick"]);
        assert_eq!(name(first[0].to.as_ref()), "bob");
        assert_eq!(action_of(&metas_of(&device.push().await.unwrap()).unwrap()[0]), "TypingBegin");
        assert_eq!(device.unread().await.unwrap().unread, []);
    }
    alice.settle().await.unwrap();
    assert!(alice.take_pushes().is_empty(), "not to the device that sent it");
    let mut away = arrive(&server, "bob", PHONE).await;
    assert_eq!(away.sync().await.unwrap(), []);
    let bobs = user(&server, "bob").await;
    assert_eq!(said(&bobs, "bob", &with("alice")).await, [""; 0]);
    assert_eq!(list(&bobs, "bob").await.len(), 0);
}

#[tokio::test]
async fn commands_wait_for_who_is_away_but_are_no_part_of_history_or_list() {
    let server = TestServer::start().await;
    let (mut alice, bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    alice.say(&to, "hi").await.unwrap();
    leave(&server, bob).await;
    server.clock.advance_ms(10);
    let meta = command(&alice, &to, "jump");
    alice.post_ok(meta).await.unwrap();
    let mut bob = arrive(&server, "bob", WEB).await;
    let got = bob.sync().await.unwrap();
    assert_eq!(got.len(), 2);
    assert_eq!(action_of(&got[1]), "jump");
    let bobs = user(&server, "bob").await;
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["hi"]);
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(1));
    let lines = list(&bobs, "bob").await;
    assert_eq!(crate::stage::newest(&lines[0]), "hi");
    // Alone it makes no entry.
    let carol = alice.person("carol");
    let meta = command(&alice, &carol, "jump");
    alice.post_ok(meta).await.unwrap();
    assert_eq!(channels(&list(&user(&server, "alice").await, "alice").await), ["bob"]);
}

#[tokio::test]
async fn own_devices_get_copies_and_the_sending_one_does_not() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut web = login(&server, "alice").await;
    let phone = login_on(&server, "alice", PHONE).await;
    leave(&server, phone).await;
    let mut tablet = login_on(&server, "alice", "tablet_1").await;
    for (to, queue) in [(web.person("bob"), "bob"), (web.group(&group), &*group)] {
        let sent = web.say(&to, "from web").await.unwrap();
        let notice = tablet.notice().await.unwrap();
        assert_eq!(name(Some(&notice)), queue);
        let copy = tablet.drain(&notice).await.unwrap();
        assert_eq!(ids(&copy), [sent.id]);
        assert_eq!((name(copy[0].from.as_ref()), name(copy[0].to.as_ref())), ("alice", queue));
        web.settle().await.unwrap();
        assert_eq!(web.kept_notices(), 0);
        assert_eq!(web.pull(&to, 0).await.unwrap().metas, Vec::<Bytes>::new());
    }
    let mut phone = arrive(&server, "alice", PHONE).await;
    assert_eq!(texts(&phone.sync().await.unwrap()), ["from web", "from web"]);
}

#[tokio::test]
async fn notes_to_oneself_are_a_conversation_too() {
    let server = TestServer::start().await;
    let mut web = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let myself = web.person("alice");
    web.say(&myself, "milk").await.unwrap();
    let copy = phone.next().await.unwrap();
    assert_eq!(texts(&copy), ["milk"]);
    assert_eq!((name(copy[0].from.as_ref()), name(copy[0].to.as_ref())), ("alice", "alice"));
    let rest = user(&server, "alice").await;
    assert_eq!(said(&rest, "alice", &with("alice")).await, ["milk"]);
    assert_eq!(channels(&list(&rest, "alice").await), ["alice"]);
    assert_eq!(unread(&rest, "alice", "alice").await, Some(0));
}

#[tokio::test]
async fn names_in_any_case_are_one_person() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    for spelling in ["bob", "Bob", "BOB"] {
        let to = alice.person(spelling);
        alice.say(&to, spelling).await.unwrap();
    }
    let got = news(&mut bob).await;
    assert_eq!(texts(&got), ["bob", "Bob", "BOB"]);
    assert!(got.iter().all(|meta| name(meta.to.as_ref()) == "bob" && name(meta.from.as_ref()) == "alice"));
    assert!(got.iter().all(|meta| name(body_of(meta).unwrap().to.as_ref()) == "bob"));
    assert_eq!(channels(&list(&user(&server, "alice").await, "alice").await), ["bob"]);
}

#[tokio::test]
async fn who_is_not_registered_yet_can_be_written_to() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let to = alice.person("newcomer");
    alice.say(&to, "welcome").await.unwrap();
    token(&server, "newcomer").await;
    let mut newcomer = arrive(&server, "newcomer", WEB).await;
    assert_eq!(texts(&newcomer.sync().await.unwrap()), ["welcome"]);
}

#[tokio::test]
async fn long_names_and_all_their_characters_work() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    for name in ["a", "0", "_.-", "a.b_c-9", &"z".repeat(64)] {
        let mut peer = login(&server, name).await;
        let to = alice.person(name);
        alice.say(&to, "hi").await.unwrap();
        let got = peer.next().await.unwrap();
        assert_eq!((texts(&got), crate::stage::name(got[0].to.as_ref())), (vec!["hi".to_owned()], name));
        assert_eq!(said(&user(&server, name).await, name, &with("alice")).await, ["hi"]);
    }
    let meta = alice.text_meta(&alice.person(&"z".repeat(65)), "hi");
    let (_, reason) = refusal(&mut alice, meta).await;
    assert!(reason.contains("doesn't exist!"), "{reason}");
}

#[tokio::test]
async fn a_stream_message_is_kept_as_it_is() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let content = Content {
        text: some("so far"),
        sub_type: Some(SubType::SubStream.into()),
        ..part(ContentType::Text)
    };
    let stream =
        Stream { stream_type: some("llm"), stream_seq: Some(0), stream_status: Some(4), ..Stream::default() };
    let body = MessageBody { contents: vec![content], stream: Some(stream.clone()), ..alice.body(&to) };
    let meta = alice.meta(&to, body);
    alice.post_ok(meta).await.unwrap();
    assert_eq!(body_of(&bob.next().await.unwrap()[0]).unwrap().stream, Some(stream));
}

#[tokio::test]
async fn of_several_contents_all_are_forwarded() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let contents: Vec<Content> =
        ["a", "b"].map(|text| Content { text: some(text), ..part(ContentType::Text) }).to_vec();
    let meta = alice.meta(&to, MessageBody { contents: contents.clone(), ..alice.body(&to) });
    alice.post_ok(meta).await.unwrap();
    assert_eq!(body_of(&bob.next().await.unwrap()[0]).unwrap().contents, contents);
}

#[tokio::test]
async fn who_left_a_group_says_and_hears_nothing_there() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let to = alice.group(&group);
    alice.say(&to, "before").await.unwrap();
    assert!(texts(&news(&mut bob).await).contains(&"before".to_owned()));
    let bobs: Rest = user(&server, "bob").await;
    bobs.ok("DELETE", &format!("/chatgroups/{group}/quit"), None).await.unwrap();
    news(&mut bob).await;
    alice.say(&to, "after").await.unwrap();
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
    assert!(bob.pull(&to, 0).await.unwrap().metas.is_empty());
    let meta = bob.text_meta(&to, "let me in");
    assert_eq!(refusal(&mut bob, meta).await, (1, "not in group or chatroom".to_owned()));
    let mut carol = login(&server, "carol").await;
    assert_eq!(said(&user(&server, "carol").await, "carol", &within(&group)).await.len(), 2);
    carol.settle().await.unwrap();
}

#[tokio::test]
async fn a_message_to_one_own_device_is_a_note_to_oneself() {
    let server = TestServer::start().await;
    let mut web = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let to = Jid { client_resource: some(PHONE), ..web.person("alice") };
    web.say(&to, "to my phone").await.unwrap();
    assert_eq!(text_of(&phone.next().await.unwrap()[0]), "to my phone");
}

#[tokio::test]
async fn who_is_sent_away_amid_a_conversation_has_said_what_was_acked() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    alice.say(&to, "last words").await.unwrap();
    crate::stage::back_end(&server).await.ok("GET", "/users/alice/disconnect", None).await.unwrap();
    assert_eq!(kick_of(&alice.push().await.unwrap()).operation, Some(4));
    assert_eq!(texts(&bob.next().await.unwrap()), ["last words"]);
    assert_eq!(app_key(&server), bob.identity().app_key);
}

#[tokio::test]
async fn what_is_sent_in_a_row_is_acked_and_delivered_in_that_order() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    for n in 1_u64..=60 {
        // Every third one twice, as a client does whose patience is short.
        for _ in 0..if n % 3 == 0 { 2 } else { 1 } {
            let meta = Meta { id: Some(n), ..alice.text_meta(&to, &n.to_string()) };
            let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
            alice.send(&frame(Command::Sync, Some(sync.encode_to_vec()))).await.unwrap();
        }
    }
    let mut acks = Vec::new();
    for _ in 0..80 {
        let ack = CommSyncDl::decode(alice.answer(Command::Sync, "an ack").await.unwrap()).unwrap();
        assert_eq!(status(ack.status).0, 0);
        acks.push((ack.meta_id.unwrap(), ack.server_id.unwrap()));
    }
    let mut once = acks.clone();
    once.dedup();
    assert_eq!(once.iter().map(|(client, _)| *client).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
    let got = news(&mut bob).await;
    assert_eq!(texts(&got), (1..=60).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(ids(&got), once.iter().map(|(_, server)| *server).collect::<Vec<_>>());
}

#[tokio::test]
async fn any_number_is_a_number_and_none_gets_no_answer() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    for id in [1, u64::MAX, 1 << 63] {
        let meta = Meta { id: Some(id), ..alice.text_meta(&to, "numbered") };
        assert_eq!(alice.post(meta).await.unwrap().meta_id, Some(id));
    }
    let meta = Meta { id: None, ..alice.text_meta(&to, "unnumbered") };
    let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
    for _ in 0..2 {
        alice.send(&frame(Command::Sync, Some(sync.encode_to_vec()))).await.unwrap();
    }
    alice.settle().await.unwrap();
    // An answer without a number would be taken for a delivery.
    assert!(alice.take_pushes().is_empty());
    assert_eq!(
        texts(&news(&mut bob).await),
        ["numbered", "numbered", "numbered", "unnumbered", "unnumbered"]
    );
}

#[tokio::test]
async fn who_comes_back_to_a_group_does_not_get_what_was_said_meanwhile() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut alice = login(&server, "alice").await;
    let bob = login(&server, "bob").await;
    leave(&server, bob).await;
    let to = alice.group(&group);
    alice.say(&to, "before").await.unwrap();
    let app = crate::stage::back_end(&server).await;
    let membership = format!("/chatgroups/{group}/users/bob");
    server.clock.advance_ms(10);
    app.ok("DELETE", &membership, None).await.unwrap();
    server.clock.advance_ms(10);
    alice.say(&to, "secret").await.unwrap();
    let id = alice.say(&to, "old secret").await.unwrap().id;
    server.clock.advance_ms(10);
    app.ok("POST", &membership, None).await.unwrap();
    server.clock.advance_ms(10);
    alice.say(&to, "after").await.unwrap();
    let mut bob = arrive(&server, "bob", WEB).await;
    let got = texts(&bob.sync().await.unwrap());
    assert!(!got.iter().any(|text| text.contains("secret")) && got.contains(&"after".to_owned()), "{got:?}");
    let mut phone = arrive(&server, "bob", PHONE).await;
    let got = texts(&phone.sync().await.unwrap());
    assert!(!got.iter().any(|text| text.contains("secret")) && got.contains(&"after".to_owned()), "{got:?}");
    let bobs = user(&server, "bob").await;
    assert_eq!(said(&bobs, "bob", &within(&group)).await, ["after"]);
    // Not by naming one of them either.
    let page =
        page(&bobs, "bob", &within(&group), json!({"start": id.to_string(), "is_positive": false})).await;
    assert_eq!(texts(&page.metas), [""; 0]);
    assert_eq!(unread(&bobs, "bob", &group).await, Some(1));
}

#[tokio::test]
async fn who_was_removed_while_away_gets_nothing_of_what_followed() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut alice = login(&server, "alice").await;
    let bob = login(&server, "bob").await;
    leave(&server, bob).await;
    let app = crate::stage::back_end(&server).await;
    app.ok("DELETE", &format!("/chatgroups/{group}/users/bob"), None).await.unwrap();
    let to = alice.group(&group);
    alice.say(&to, "secret").await.unwrap();
    let mut bob = arrive(&server, "bob", WEB).await;
    assert_eq!(texts(&bob.sync().await.unwrap()), [""; 0]);
    assert!(bob.pull(&to, 0).await.unwrap().metas.is_empty());
    assert_eq!(channels(&list(&user(&server, "bob").await, "bob").await), [""; 0]);
}

#[tokio::test]
async fn a_block_ends_the_talk_of_two_but_not_of_a_group() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let bobs = user(&server, "bob").await;
    bobs.ok("POST", "/sdk/user/bob/blocks", Some(&json!({"usernames": ["alice"]}))).await.unwrap();
    let to = alice.group(&group);
    alice.say(&to, "to all").await.unwrap();
    assert_eq!(texts(&news(&mut bob).await), ["to all"]);
    let meta = online_only(alice.text_meta(&alice.person("bob"), "psst"));
    assert_eq!(refusal(&mut alice, meta).await, (1, "blocked".to_owned()));
    bob.settle().await.unwrap();
    assert!(bob.take_pushes().is_empty());
}
