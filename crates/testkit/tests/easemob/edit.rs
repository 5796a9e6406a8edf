//! Changing what was said (client 5.11).

use posthouse::peer::easemob::{Device, body_of, text_of};
use posthouse_easemob::wire::bodies::{attributes, key_value};
use posthouse_easemob::wire::proto::message_body::content::Type as ContentType;
use posthouse_easemob::wire::proto::message_body::{Content, Type as BodyType};
use posthouse_easemob::wire::proto::{Jid, KeyValue, MessageBody, Meta};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    PHONE, WEB, alice_and_bob, arrive, group, leave, list, login, login_on, name, newest, news, page,
    refusal, said, status, texts, unread, until_type, user, with, within,
};

fn text(words: &str) -> Content {
    Content { r#type: Some(ContentType::Text.into()), text: Some(words.to_owned()), ..Content::default() }
}

/// An edit as the Web SDK sends it; scope 1 is the body alone, 2 the attributes too.
fn edit(device: &Device, to: &Jid, message: u64, content: Content, ext: Option<Vec<KeyValue>>) -> Meta {
    let body = MessageBody {
        r#type: Some(BodyType::Edit.into()),
        edit_message_id: Some(message),
        edit_scope: Some(if ext.is_some() { 2 } else { 1 }),
        contents: vec![content],
        ext: ext.unwrap_or_default(),
        ..device.body(to)
    };
    device.meta(to, body)
}

fn known(body: &MessageBody) -> Value {
    serde_json::from_str(body.meta.as_deref().expect("the server says what it knows")).unwrap()
}

#[tokio::test]
async fn an_edit_is_acked_told_and_kept() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let to = alice.person("bob");
    let sent_at = server.now().0;
    let sent = alice.say(&to, "helo").await.unwrap();
    news(&mut bob).await;
    news(&mut phone).await;
    server.clock.advance_ms(1_000);
    let edited_at = server.now().0;
    let meta = edit(&alice, &to, sent.id, text("hello"), None);
    let ack = alice.post(meta).await.unwrap();
    assert_eq!(status(ack.status.clone()).0, 0);
    let metas = posthouse::peer::easemob::metas_of(&ack).unwrap();
    assert_eq!(metas[0].ns, Some(5));
    let told: Value = serde_json::from_slice(&metas[0].payload.clone().unwrap()).unwrap();
    let expected = json!({"count": 1, "operator": "alice", "edit_time": edited_at, "sender": "alice",
        "send_time": sent_at, "chat_type": "chat:user"});
    assert_eq!(told["edit_msg"], expected);
    for device in [&mut bob, &mut phone] {
        let (meta, body) = until_type(device, BodyType::Edit).await;
        assert_eq!(body.edit_message_id, Some(sent.id));
        assert_eq!(text_of(&meta), "hello");
        assert_eq!(known(&body)["edit_msg"], expected);
        assert_eq!((name(meta.from.as_ref()), name(meta.to.as_ref())), ("alice", "bob"));
    }
    assert_eq!(news(&mut alice).await, []);
    for (me, peer) in [("alice", "bob"), ("bob", "alice")] {
        let rest = user(&server, me).await;
        let stored = page(&rest, me, &with(peer), json!({})).await.metas.remove(0);
        assert_eq!((stored.id, stored.timestamp), (Some(sent.id), Some(sent.at)));
        let body = body_of(&stored).unwrap();
        assert_eq!((text_of(&stored), body.r#type), ("hello".to_owned(), Some(BodyType::Chat.into())));
        let edited = &known(&body)["edit_msg"];
        assert_eq!(
            (&edited["count"], &edited["operator"], &edited["edit_time"]),
            (&json!(1), &json!("alice"), &json!(edited_at))
        );
        let lines = list(&rest, me).await;
        assert_eq!(newest(&lines[0]), "hello");
    }
    assert_eq!(unread(&user(&server, "bob").await, "bob", "alice").await, Some(1));
}

#[tokio::test]
async fn the_scope_says_whether_attributes_change_too() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let body = MessageBody {
        contents: vec![text("1")],
        ext: vec![key_value("k", &json!("old"))],
        ..alice.body(&to)
    };
    let meta = alice.meta(&to, body);
    let sent = alice.post_ok(meta).await.unwrap();
    let bobs = user(&server, "bob").await;
    let stored = async || body_of(&page(&bobs, "bob", &with("alice"), json!({})).await.metas[0]).unwrap();
    let meta = edit(&alice, &to, sent.id, text("2"), None);
    alice.post_ok(meta).await.unwrap();
    let body = stored().await;
    assert_eq!(
        (body.contents[0].text.as_deref(), attributes(&body.ext)["k"].as_str()),
        (Some("2"), Some("old"))
    );
    let meta = edit(&alice, &to, sent.id, text("3"), Some(vec![key_value("k", &json!({"new": 1}))]));
    alice.post_ok(meta).await.unwrap();
    let body = stored().await;
    assert_eq!(
        (body.contents[0].text.as_deref(), &attributes(&body.ext)["k"]),
        (Some("3"), &json!({"new": 1}))
    );
    assert_eq!(known(&body)["edit_msg"]["count"], 2);
}

#[tokio::test]
async fn texts_and_custom_messages_change_others_only_in_their_attributes() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let custom = |event: &str| Content {
        r#type: Some(ContentType::Custom.into()),
        custom_event: Some(event.to_owned()),
        ..Content::default()
    };
    let image = Content {
        r#type: Some(ContentType::Image.into()),
        remote_path: Some("https://im.example/a/b/chatfiles/1".to_owned()),
        ..Content::default()
    };
    let mut sent = Vec::new();
    for content in [custom("gift"), image.clone()] {
        let meta = alice.meta(&to, MessageBody { contents: vec![content], ..alice.body(&to) });
        sent.push(alice.post_ok(meta).await.unwrap().id);
    }
    let format = (1, "Sorry, format is incorrect".to_owned());
    let meta = edit(&alice, &to, sent[0], custom("rose"), None);
    alice.post_ok(meta).await.unwrap();
    let meta = edit(&alice, &to, sent[0], text("rose"), None);
    assert_eq!(refusal(&mut alice, meta).await, format);
    let meta = edit(&alice, &to, sent[1], image.clone(), None);
    assert_eq!(refusal(&mut alice, meta).await, format);
    let meta = edit(&alice, &to, sent[1], image.clone(), Some(vec![key_value("k", &json!(1))]));
    alice.post_ok(meta).await.unwrap();
    let page = page(&user(&server, "bob").await, "bob", &with("alice"), json!({"is_positive": true})).await;
    let bodies: Vec<MessageBody> = page.metas.iter().map(|meta| body_of(meta).unwrap()).collect();
    assert_eq!(bodies[0].contents, [custom("rose")]);
    assert_eq!((&bodies[1].contents[..], &attributes(&bodies[1].ext)["k"]), (&[image][..], &json!(1)));
}

#[tokio::test]
async fn edits_have_a_limit_a_switch_and_rules() {
    let mut server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "0").await.unwrap();
    for n in 1..=10 {
        let meta = edit(&alice, &to, sent.id, text(&n.to_string()), None);
        alice.post_ok(meta).await.unwrap();
    }
    let failed = |text: &str| (1, text.to_owned());
    let meta = edit(&alice, &to, sent.id, text("11"), None);
    assert_eq!(refusal(&mut alice, meta).await, failed("Sorry, edit limit reached"));
    let second = alice.say(&to, "second").await.unwrap();
    let meta = edit(&bob, &bob.person("alice"), second.id, text("mine"), None);
    assert_eq!(refusal(&mut bob, meta).await, failed("Sorry, You do not have permission"));
    for (to, id) in [(&to, 4_711), (&alice.person("carol"), second.id), (&to, 0)] {
        let meta = edit(&alice, to, id, text("x"), None);
        assert_eq!(refusal(&mut alice, meta).await, failed("Sorry, message does not exist"));
    }
    server.set(&[("edit_enabled", "false")]).await;
    let meta = edit(&alice, &to, second.id, text("x"), None);
    assert_eq!(refusal(&mut alice, meta).await, failed("Sorry, edit is not available"));
    server.set(&[("edit_enabled", "true"), ("message_bytes_max", "1000")]).await;
    let meta = edit(&alice, &to, second.id, text(&"x".repeat(2_000)), None);
    assert_eq!(refusal(&mut alice, meta).await, (7, "Sorry, data is too large".to_owned()));
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, ["second", "10"]);
}

#[tokio::test]
async fn in_a_group_its_owner_may_edit_what_others_said() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut carol = login(&server, "carol").await;
    let to = bob.group(&group);
    let sent = bob.say(&to, "rude").await.unwrap();
    news(&mut carol).await;
    let meta = edit(&carol, &to, sent.id, text("x"), None);
    assert_eq!(refusal(&mut carol, meta).await, (1, "Sorry, You do not have permission".to_owned()));
    let meta = edit(&alice, &to, sent.id, text("polite"), None);
    alice.post_ok(meta).await.unwrap();
    let (meta, body) = until_type(&mut carol, BodyType::Edit).await;
    assert_eq!(text_of(&meta), "polite");
    let told = &known(&body)["edit_msg"];
    assert_eq!(
        (&told["operator"], &told["sender"], &told["chat_type"]),
        (&json!("alice"), &json!("bob"), &json!("chat:group"))
    );
    assert_eq!(said(&user(&server, "bob").await, "bob", &within(&group)).await, ["polite"]);
}

#[tokio::test]
async fn who_comes_later_gets_the_new_words_once() {
    let server = TestServer::start().await;
    let (mut alice, bob) = alice_and_bob(&server).await;
    leave(&server, bob).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "old").await.unwrap();
    let meta = edit(&alice, &to, sent.id, text("new"), None);
    alice.post_ok(meta).await.unwrap();
    let mut bob = arrive(&server, "bob", WEB).await;
    let got = bob.sync().await.unwrap();
    assert_eq!(texts(&got), ["new"]);
    assert_eq!(known(&body_of(&got[0]).unwrap())["edit_msg"]["count"], 1);
}
