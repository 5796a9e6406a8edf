//! Taking a message back, by its sender, by a group's owner, and by the back end (client 5.10, rest
//! 3.3.4).

use posthouse::peer::easemob::{Device, body_of};
use posthouse_easemob::wire::bodies::key_value;
use posthouse_easemob::wire::proto::message_body::{Content, Type as BodyType};
use posthouse_easemob::wire::proto::{Jid, MessageBody, Meta};
use posthouse_testkit::server::TestServer;
use serde_json::json;

use crate::stage::{
    PHONE, WEB, alice_and_bob, arrive, back_end, channels, group, is_type, leave, list, login, login_on,
    name, newest, news, refusal, refused, said, send_by_rest, texts, unread, until_type, user, with, within,
};

/// A recall as the Web SDK sends it.
fn recall(device: &Device, to: &Jid, message: u64) -> Meta {
    let body = MessageBody {
        r#type: Some(BodyType::Recall.into()),
        ack_message_id: Some(message),
        contents: vec![Content::default()],
        ..device.body(to)
    };
    device.meta(to, body)
}

const NO_MESSAGE: &str = "Sorry, message does not exist";

#[tokio::test]
async fn a_recall_reaches_everybody_who_got_the_message() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let bobs_phone = login_on(&server, "bob", PHONE).await;
    leave(&server, bobs_phone).await;
    let to = alice.person("bob");
    let first = alice.say(&to, "first").await.unwrap();
    server.clock.advance_ms(5);
    let sent = alice.say(&to, "oops").await.unwrap();
    news(&mut bob).await;
    news(&mut phone).await;
    let meta = Meta {
        ext: vec![key_value("recallMessageExtensionInfo", &json!("sorry!")), key_value("other", &json!("x"))],
        ..recall(&alice, &to, sent.id)
    };
    alice.post_ok(meta).await.unwrap();
    for device in [&mut bob, &mut phone] {
        let (meta, body) = until_type(device, BodyType::Recall).await;
        assert_eq!(body.ack_message_id, Some(sent.id));
        assert_eq!((name(meta.from.as_ref()), name(meta.to.as_ref())), ("alice", "bob"));
        let words: Vec<_> = meta
            .ext
            .iter()
            .filter(|pair| pair.key.as_deref() == Some("recallMessageExtensionInfo"))
            .collect();
        assert_eq!(posthouse_easemob::wire::bodies::json_of(words[0]), json!("sorry!"));
    }
    assert_eq!(news(&mut alice).await, []);
    for (me, peer) in [("alice", "bob"), ("bob", "alice")] {
        let rest = user(&server, me).await;
        assert_eq!(said(&rest, me, &with(peer)).await, ["first"]);
        let lines = list(&rest, me).await;
        assert_eq!(lines[0]["meta"]["id"], first.id.to_string());
        assert_eq!(newest(&lines[0]), "first");
    }
    // Who never got it doesn't get it now.
    let mut away = arrive(&server, "bob", PHONE).await;
    assert_eq!(texts(&away.sync().await.unwrap()), ["first"]);
}

#[tokio::test]
async fn what_was_recalled_is_not_unread() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let bobs = user(&server, "bob").await;
    let to = alice.person("bob");
    alice.say(&to, "1").await.unwrap();
    let sent = alice.say(&to, "2").await.unwrap();
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(2));
    let meta = recall(&alice, &to, sent.id);
    alice.post_ok(meta).await.unwrap();
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(1));
}

#[tokio::test]
async fn a_recall_has_its_time_and_its_switch() {
    let mut server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    server.set(&[("recall_enabled", "false")]).await;
    let meta = recall(&alice, &to, sent.id);
    assert_eq!(refusal(&mut alice, meta).await, (1, "message recall disabled".to_owned()));
    server.set(&[("recall_enabled", "true")]).await;
    server.clock.advance_ms(120_001);
    let meta = recall(&alice, &to, sent.id);
    assert_eq!(refusal(&mut alice, meta).await, (1, "exceed recall time limit".to_owned()));
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, ["hi"]);
    server.set(&[("recall_window_seconds", "200")]).await;
    let meta = recall(&alice, &to, sent.id);
    alice.post_ok(meta).await.unwrap();
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, [""; 0]);
}

#[tokio::test]
async fn only_what_is_there_and_ones_own_is_taken_back() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut mallory = login(&server, "mallory").await;
    let to_bob = alice.person("bob");
    let sent = alice.say(&to_bob, "hi").await.unwrap();
    let to_alice = bob.person("alice");

    let meta = recall(&bob, &to_alice, sent.id);
    assert_eq!(refusal(&mut bob, meta).await, (1, "Sorry, You do not have permission".to_owned()));
    for to in [mallory.person("alice"), mallory.person("bob")] {
        let meta = recall(&mallory, &to, sent.id);
        assert_eq!(refusal(&mut mallory, meta).await, (1, NO_MESSAGE.to_owned()));
    }
    for (to, message) in [(&to_bob, 4_711), (&alice.person("carol"), sent.id), (&to_bob, 0)] {
        let meta = recall(&alice, to, message);
        assert_eq!(refusal(&mut alice, meta).await, (1, NO_MESSAGE.to_owned()));
    }
    let meta = recall(&alice, &alice.group("184524748161025"), sent.id);
    refusal(&mut alice, meta).await;
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, ["hi"]);

    let meta = recall(&alice, &to_bob, sent.id);
    alice.post_ok(meta.clone()).await.unwrap();
    assert_eq!(refusal(&mut alice, Meta { id: None, ..meta }).await, (1, NO_MESSAGE.to_owned()));
}

#[tokio::test]
async fn a_group_has_owners_and_admins_who_may() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut carol = login(&server, "carol").await;
    let to = bob.group(&group);
    let first = bob.say(&to, "1").await.unwrap();
    let second = bob.say(&to, "2").await.unwrap();
    news(&mut carol).await;
    let meta = recall(&carol, &to, first.id);
    assert_eq!(refusal(&mut carol, meta).await, (1, "Sorry, You do not have permission".to_owned()));
    let meta = recall(&alice, &to, first.id);
    alice.post_ok(meta).await.unwrap();
    let (meta, body) = until_type(&mut carol, BodyType::Recall).await;
    assert_eq!((name(meta.from.as_ref()), name(meta.to.as_ref())), ("alice", &*group));
    assert_eq!(body.ack_message_id, Some(first.id));
    until_type(&mut bob, BodyType::Recall).await;

    let wish = json!({"newadmin": "carol"});
    back_end(&server).await.ok("POST", &format!("/chatgroups/{group}/admin"), Some(&wish)).await.unwrap();
    let meta = recall(&carol, &to, second.id);
    carol.post_ok(meta).await.unwrap();
    assert_eq!(said(&user(&server, "bob").await, "bob", &within(&group)).await, [""; 0]);
}

#[tokio::test]
async fn a_conversation_whose_only_message_was_recalled_is_not_listed() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    let meta = recall(&alice, &to, sent.id);
    alice.post_ok(meta).await.unwrap();
    for (me, peer) in [("alice", "bob"), ("bob", "alice")] {
        let lines = list(&user(&server, me).await, me).await;
        assert!(lines.iter().all(|line| newest(line).is_empty()), "{lines:?} {peer}");
    }
    alice.say(&to, "again").await.unwrap();
    assert_eq!(channels(&list(&user(&server, "bob").await, "bob").await), ["alice"]);
}

#[tokio::test]
async fn the_back_end_takes_back_too() {
    let mut server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let back_end = back_end(&server).await;
    let id = send_by_rest(&back_end, "admin", "bob", "from the office").await;
    news(&mut bob).await;
    let wish = |id: u64, force: bool| json!({"msg_id": id.to_string(), "from": "admin", "to": "bob", "chat_type": "chat", "force": force});
    let answer = back_end.ok("POST", "/messages/msg_recall", Some(&wish(id, false))).await.unwrap();
    assert_eq!(answer["data"]["recalled"], "yes");
    let (_, body) = until_type(&mut bob, BodyType::Recall).await;
    assert_eq!(body.ack_message_id, Some(id));
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("admin")).await, [""; 0]);

    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    news(&mut bob).await;
    server.clock.advance_ms(200_000);
    let late = json!({"msg_id": sent.id.to_string(), "from": "alice", "to": "bob", "chat_type": "chat", "force": false});
    let (status, error, words) = refused(&back_end, "POST", "/messages/msg_recall", Some(&late)).await;
    assert_eq!((status, &*error, &*words), (403, "message_recall_error", "exceed recall time limit"));
    let (status, error, words) =
        refused(&back_end, "POST", "/messages/msg_recall", Some(&wish(4_711, false))).await;
    assert_eq!((status, &*error, &*words), (403, "message_recall_error", "not_found msg"));
    back_end.ok("POST", "/messages/msg_recall", Some(&wish(4_711, true))).await.unwrap();
    let mut forced = late;
    forced["force"] = true.into();
    back_end.ok("POST", "/messages/msg_recall", Some(&forced)).await.unwrap();
    until_type(&mut bob, BodyType::Recall).await;
    let (status, error, words) =
        refused(&back_end, "POST", "/messages/msg_recall", Some(&json!({"to": "bob", "chat_type": "chat"})))
            .await;
    assert_eq!((status, &*error, &*words), (400, "message_recall_error", "param msg_id can't be empty"));
    server.set(&[("recall_enabled", "false")]).await;
    let (status, error, words) =
        refused(&back_end, "POST", "/messages/msg_recall", Some(&wish(4_711, true))).await;
    assert_eq!((status, &*error, &*words), (403, "forbidden_op", "message recall service is unopened"));
}

#[tokio::test]
async fn who_was_away_hears_of_the_recall_of_what_it_got() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "oops").await.unwrap();
    assert_eq!(texts(&bob.next().await.unwrap()), ["oops"]);
    leave(&server, bob).await;
    let meta = recall(&alice, &to, sent.id);
    alice.post_ok(meta).await.unwrap();
    let mut bob = arrive(&server, "bob", WEB).await;
    let got = bob.sync().await.unwrap();
    let recalls: Vec<_> = got.iter().filter(|meta| is_type(meta, BodyType::Recall)).collect();
    assert_eq!(recalls.len(), 1);
    assert_eq!(body_of(recalls[0]).unwrap().ack_message_id, Some(sent.id));
    assert_eq!(texts(&got), [""; 0]);
}
