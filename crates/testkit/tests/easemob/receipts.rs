//! Delivery, read and channel acks: who hears of them, and what they do to unread numbers (client 5.9
//! and 5.17).

use posthouse::peer::easemob::{Device, body_of};
use posthouse_easemob::wire::proto::message_body::{Content, MessageConfig, Type as BodyType};
use posthouse_easemob::wire::proto::{Jid, MessageBody, Meta};
use posthouse_testkit::server::TestServer;
use prost::Message as _;
use serde_json::{Value, json};

use crate::stage::{
    PHONE, WEB, alice_and_bob, arrive, group, is_type, leave, list, login, login_on, name, news, page, said,
    status, unread, until_type, user, with, within,
};

/// A receipt as the Web SDK sends it.
fn receipt(device: &Device, to: &Jid, of: BodyType, message: Option<u64>) -> Meta {
    let body = MessageBody {
        r#type: Some(of.into()),
        ack_message_id: message,
        contents: vec![Content::default()],
        ..device.body(to)
    };
    device.meta(to, body)
}

async fn acknowledge(device: &mut Device, to: &str, of: BodyType, message: Option<u64>) {
    let to = device.person(to);
    let meta = receipt(device, &to, of, message);
    device.post_ok(meta).await.unwrap();
}

fn count(metas: &[Meta], of: BodyType) -> usize {
    metas.iter().filter(|meta| is_type(meta, of)).count()
}

#[tokio::test]
async fn delivery_and_reading_of_a_message_are_told_to_its_sender() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    bob.next().await.unwrap();
    for of in [BodyType::DeliverAck, BodyType::ReadAck] {
        acknowledge(&mut bob, "alice", of, Some(sent.id)).await;
        for device in [&mut alice, &mut phone] {
            let (meta, body) = until_type(device, of).await;
            assert_eq!(body.ack_message_id, Some(sent.id));
            assert_eq!((name(meta.from.as_ref()), name(meta.to.as_ref())), ("bob", "alice"));
            assert_eq!(name(body.from.as_ref()), "bob");
            assert!(!body.contents.is_empty(), "SDKs look at the first without asking");
        }
    }
}

#[tokio::test]
async fn who_is_away_hears_of_receipts_later_and_they_are_no_messages() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    leave(&server, alice).await;
    bob.next().await.unwrap();
    for of in [BodyType::DeliverAck, BodyType::ReadAck, BodyType::ChannelAck] {
        acknowledge(&mut bob, "alice", of, (of != BodyType::ChannelAck).then_some(sent.id)).await;
    }
    let mut alice = arrive(&server, "alice", WEB).await;
    let got = alice.sync().await.unwrap();
    assert_eq!((count(&got, BodyType::DeliverAck), count(&got, BodyType::ReadAck)), (1, 1));
    for (me, peer) in [("alice", "bob"), ("bob", "alice")] {
        let rest = user(&server, me).await;
        assert_eq!(said(&rest, me, &with(peer)).await, ["hi"]);
        assert_eq!(page(&rest, me, &with(peer), json!({})).await.metas.len(), 1);
        let lines = list(&rest, me).await;
        assert_eq!(lines[0]["meta"]["id"], sent.id.to_string());
    }
}

#[tokio::test]
async fn own_devices_hear_that_a_conversation_was_read_but_not_of_deliveries() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut phone = login_on(&server, "bob", PHONE).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    bob.next().await.unwrap();
    phone.next().await.unwrap();
    acknowledge(&mut bob, "alice", BodyType::DeliverAck, Some(sent.id)).await;
    acknowledge(&mut bob, "alice", BodyType::ChannelAck, None).await;
    let (meta, _) = until_type(&mut phone, BodyType::ChannelAck).await;
    assert_eq!((name(meta.from.as_ref()), name(meta.to.as_ref())), ("bob", "alice"));
    assert_eq!(count(&news(&mut phone).await, BodyType::DeliverAck), 0);
    // The device that did it needs not be told.
    assert_eq!(count(&news(&mut bob).await, BodyType::ChannelAck), 0);
    let (meta, _) = until_type(&mut alice, BodyType::ChannelAck).await;
    assert_eq!((name(meta.from.as_ref()), name(meta.to.as_ref())), ("bob", "alice"));
}

#[tokio::test]
async fn a_channel_ack_makes_the_conversation_read() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (to_bob, to_group) = (alice.person("bob"), alice.group(&group));
    for n in 1..=3 {
        alice.say(&to_bob, &n.to_string()).await.unwrap();
        alice.say(&to_group, &n.to_string()).await.unwrap();
    }
    let bobs = user(&server, "bob").await;
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(3));
    assert_eq!(unread(&bobs, "bob", &group).await, Some(3));
    let alices = user(&server, "alice").await;
    assert_eq!(unread(&alices, "alice", "bob").await, Some(0));

    acknowledge(&mut bob, "alice", BodyType::ChannelAck, None).await;
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(0));
    assert_eq!(unread(&bobs, "bob", &group).await, Some(3));
    let in_group = bob.group(&group);
    let meta = receipt(&bob, &in_group, BodyType::ChannelAck, None);
    bob.post_ok(meta).await.unwrap();
    assert_eq!(unread(&bobs, "bob", &group).await, Some(0));
    server.clock.advance_ms(1);
    alice.say(&to_bob, "4").await.unwrap();
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(1));
    assert_eq!(unread(&bobs, "bob", &group).await, Some(0));
}

#[tokio::test]
async fn readers_of_a_group_message_are_told_to_its_sender_alone() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut carol = login(&server, "carol").await;
    let to = alice.group(&group);
    let mut body = body_of(&alice.text_meta(&to, "please confirm")).unwrap();
    body.msg_config = Some(MessageConfig { allow_group_ack: Some(true) });
    let meta = alice.meta(&to, body);
    let sent = alice.post_ok(meta).await.unwrap();
    news(&mut bob).await;
    news(&mut carol).await;
    for (n, reader) in [&mut bob, &mut carol].into_iter().enumerate() {
        let mut meta = receipt(reader, &to, BodyType::ReadAck, Some(sent.id));
        let mut body = body_of(&meta).unwrap();
        body.msg_config = Some(MessageConfig { allow_group_ack: Some(true) });
        body.ack_content = Some(format!("seen {n}"));
        meta.payload = Some(body.encode_to_vec().into());
        reader.post_ok(meta).await.unwrap();
        let (meta, body) = until_type(&mut alice, BodyType::ReadAck).await;
        assert_eq!(name(meta.from.as_ref()), reader.identity().name);
        assert_eq!(
            (body.ack_message_id, body.ack_content.as_deref()),
            (Some(sent.id), Some(&*format!("seen {n}")))
        );
        let counted = posthouse_easemob::wire::bodies::json_of(&body.ext[0]);
        let counted: Value = serde_json::from_str(counted.as_str().unwrap()).unwrap();
        assert_eq!(counted, json!({ sent.id.to_string(): n + 1 }));
    }
    assert_eq!(count(&news(&mut carol).await, BodyType::ReadAck), 0);
    assert_eq!(said(&user(&server, "bob").await, "bob", &within(&group)).await, ["please confirm"]);
}

#[tokio::test]
async fn receipts_for_what_does_not_exist_are_answered_and_forgotten() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut mallory = login(&server, "mallory").await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    news(&mut bob).await;
    // SDKs send these by themselves: an answer without end would make them reconnect.
    for (to, message) in [("alice", 1), ("nobody", sent.id), ("alice", sent.id)] {
        let to = mallory.person(to);
        for of in [BodyType::ReadAck, BodyType::DeliverAck, BodyType::ChannelAck] {
            let meta = receipt(&mallory, &to, of, Some(message));
            let ack = mallory.post(meta).await.unwrap();
            assert_ne!(status(ack.status).0, 7);
        }
    }
    let meta = receipt(&bob, &bob.person("alice"), BodyType::ReadAck, None);
    assert_ne!(status(bob.post(meta).await.unwrap().status).0, 7);
    let got = news(&mut alice).await;
    assert_eq!(count(&got, BodyType::ReadAck) + count(&got, BodyType::DeliverAck), 0);
    assert_eq!(unread(&user(&server, "bob").await, "bob", "alice").await, Some(1));
    assert_eq!(unread(&user(&server, "mallory").await, "mallory", "alice").await, None);
}

#[tokio::test]
async fn a_receipt_is_told_once() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    news(&mut bob).await;
    for _ in 0..3 {
        acknowledge(&mut bob, "alice", BodyType::ReadAck, Some(sent.id)).await;
    }
    assert_eq!(count(&news(&mut alice).await, BodyType::ReadAck), 1);
    // In history its sender sees that it was read.
    let alices = user(&server, "alice").await;
    let meta = page(&alices, "alice", &with("bob"), json!({})).await.metas.remove(0);
    let known: Value = serde_json::from_str(&body_of(&meta).unwrap().meta.unwrap()).unwrap();
    assert_eq!(known["isRead"], true);
    let bobs = user(&server, "bob").await;
    let meta = page(&bobs, "bob", &with("alice"), json!({})).await.metas.remove(0);
    assert_eq!(body_of(&meta).unwrap().meta, None);
}
