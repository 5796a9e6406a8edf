//! After a stop and a start on the same data everything is as it was.

use posthouse::peer::easemob::{body_of, text_of};
use posthouse_easemob::wire::proto::message_body::{Content, Type as BodyType};
use posthouse_easemob::wire::proto::{MessageBody, Meta};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    WEB, alice_and_bob, arrive, back_end, group, identity, list, muc_of, news, page, refused, rest, said,
    texts, token, unread, user, with, within,
};

#[tokio::test]
async fn history_lists_and_removals_are_as_before() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (to_bob, to_group) = (alice.person("bob"), alice.group(&group));
    let mut sent = Vec::new();
    for n in 0..12 {
        server.clock.advance_ms(3);
        sent.push(alice.say(&to_bob, &n.to_string()).await.unwrap());
        alice.say(&to_group, &n.to_string()).await.unwrap();
    }
    let edited = MessageBody {
        r#type: Some(BodyType::Edit.into()),
        edit_message_id: Some(sent[3].id),
        edit_scope: Some(1),
        contents: vec![Content { r#type: Some(0), text: Some("three".to_owned()), ..Content::default() }],
        ..alice.body(&to_bob)
    };
    let meta = alice.meta(&to_bob, edited);
    alice.post_ok(meta).await.unwrap();
    let recall = MessageBody {
        r#type: Some(BodyType::Recall.into()),
        ack_message_id: Some(sent[4].id),
        contents: vec![Content::default()],
        ..alice.body(&to_bob)
    };
    let meta = alice.meta(&to_bob, recall);
    alice.post_ok(meta).await.unwrap();
    let bobs = user(&server, "bob").await;
    let path =
        format!("/sdk/message/roaming/chat/user/bob?userId=alice&msgIdList={},{}", sent[5].id, sent[6].id);
    bobs.ok("DELETE", &path, None).await.unwrap();
    let path = format!("/sdk/message/roaming/chat/user/bob/time?userId=alice&delTime={}", sent[2].at);
    bobs.ok("DELETE", &path, None).await.unwrap();
    let top = json!({"type": "groupChat", "to": group});
    bobs.ok("POST", "/sdk/user/bob/user_channel/top", Some(&top)).await.unwrap();
    let carols = user(&server, "carol").await;
    let away = json!({"channel": group, "type": "groupChat", "delete_roam": false});
    let mut kept = server;
    kept.set(&[("conversation_delete_scope", "self")]).await;
    carols.ok("DELETE", "/user/carol/user_channel", Some(&away)).await.unwrap();
    news(&mut bob).await;
    let look = async |server: &TestServer| {
        let mut seen: Vec<Value> = Vec::new();
        for me in ["alice", "bob", "carol"] {
            let rest = user(server, me).await;
            let peer = if me == "bob" { "alice" } else { "bob" };
            for queue in [with(peer), within(&group)] {
                let page = page(&rest, me, &queue, json!({})).await;
                seen.push(json!(
                    page.metas
                        .iter()
                        .map(|meta| (meta.id, text_of(meta), body_of(meta).unwrap().meta))
                        .collect::<Vec<_>>()
                ));
            }
            seen.push(json!(list(&rest, me).await));
            let path = format!("/sdk/user/{me}/user_channels/list?limit=20&is_top=true");
            seen.push(rest.ok("GET", &path, None).await.unwrap()["data"].clone());
        }
        seen
    };
    let before = look(&kept).await;
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["11", "10", "9", "8", "7", "three", "2"]);
    drop((alice, bob));
    let server = kept.restart().await;
    assert_eq!(look(&server).await, before);
    // What is said next comes after it.
    let mut alice = arrive(&server, "alice", WEB).await;
    let next = alice.say(&to_bob, "next").await.unwrap();
    assert!(next.id > sent[11].id && next.at >= sent[11].at);
    let bobs = user(&server, "bob").await;
    assert_eq!(said(&bobs, "bob", &with("alice")).await[0], "next");
}

#[tokio::test]
async fn users_tokens_groups_and_blocks_survive() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    app.ok("POST", "/users", Some(&json!({"username": "alice", "password": "1"}))).await.unwrap();
    let own = rest(&server).user_token("alice", "1").await.unwrap();
    let group = group(&server, "alice", &["bob"]).await;
    let bobs = user(&server, "bob").await;
    token(&server, "mallory").await;
    bobs.ok("POST", "/sdk/user/bob/blocks", Some(&json!({"usernames": ["mallory"]}))).await.unwrap();
    app.ok("POST", "/users/alice/contacts/users/bob", None).await.unwrap();
    token(&server, "gone").await;
    app.ok("POST", "/users/gone/deactivate", None).await.unwrap();
    let server = server.restart().await;
    let alices = rest(&server).with_token(&own);
    assert_eq!(alices.ok("GET", "/users/alice/contacts/users", None).await.unwrap()["data"], json!(["bob"]));
    rest(&server).user_token("alice", "1").await.unwrap();
    let described = alices.ok("GET", &format!("/chatgroups/{group}"), None).await.unwrap();
    assert_eq!(
        (&described["data"][0]["name"], &described["data"][0]["owner"]),
        (&json!("friends"), &json!("alice"))
    );
    let bobs = user(&server, "bob").await;
    assert_eq!(bobs.ok("GET", "/users/bob/blocks/users", None).await.unwrap()["data"], json!(["mallory"]));
    let wish = json!({"grant_type": "inherit", "username": "gone"});
    let (status, _, words) = refused(&back_end(&server).await, "POST", "/token", Some(&wish)).await;
    assert_eq!((status, &*words), (400, "user not activated"));
    let mut alice =
        posthouse::peer::easemob::Device::login(&server.http_url(), identity(&server, "alice", WEB, &own))
            .await
            .unwrap();
    alice.settle().await.unwrap();
}

#[tokio::test]
async fn what_waited_still_waits_and_a_retry_is_still_one() {
    let server = TestServer::start().await;
    let (mut alice, bob) = alice_and_bob(&server).await;
    crate::stage::leave(&server, bob).await;
    let to = alice.person("bob");
    let meta = Meta { id: Some(77), ..alice.text_meta(&to, "once") };
    let first = alice.post_ok(meta.clone()).await.unwrap();
    let group = group(&server, "alice", &["bob"]).await;
    drop(alice);
    let server = server.restart().await;
    let mut alice = arrive(&server, "alice", WEB).await;
    assert_eq!(alice.post_ok(meta).await.unwrap(), first);
    let mut bob = arrive(&server, "bob", WEB).await;
    let got = bob.sync().await.unwrap();
    assert_eq!(texts(&got), ["once"]);
    let joined: Vec<_> = got.iter().filter_map(muc_of).collect();
    assert_eq!(joined.len(), 1);
    assert_eq!(crate::stage::name(joined[0].muc_id.as_ref()), group);
    assert_eq!(unread(&user(&server, "bob").await, "bob", "alice").await, Some(1));
}

#[tokio::test]
async fn sockets_close_so_that_clients_come_back() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    alice.say(&to, "before").await.unwrap();
    let (server, alices, bobs) = tokio::join!(server.restart(), alice.expect_close(), bob.expect_close());
    // Whatever the code, SDKs reconnect; one that says "log in again" would not be read.
    assert!(alices.unwrap().0.is_some() && bobs.unwrap().0.is_some());
    let mut bob = arrive(&server, "bob", WEB).await;
    assert_eq!(texts(&bob.sync().await.unwrap()), ["before"]);
}
