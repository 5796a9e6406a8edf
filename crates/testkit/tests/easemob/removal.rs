//! One-way deletion: by ids, by time, of everything (rest 3.4.5 and 5.6).

use posthouse::peer::easemob::{Device, Rest, Sent};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    PHONE, WEB, alice_and_bob, arrive, back_end, channels, group, leave, list, login, login_on, newest, news,
    notify_of, refused, said, texts, unread, until_notify, user, with, within,
};

/// Bob says `0`, `1`, … to Alice, ten milliseconds apart.
async fn talk(server: &TestServer, bob: &mut Device, count: usize) -> Vec<Sent> {
    let to = bob.person("alice");
    let mut sent = Vec::new();
    for n in 0..count {
        server.clock.advance_ms(10);
        sent.push(bob.say(&to, &n.to_string()).await.unwrap());
    }
    sent
}

fn list_of(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

async fn remove(rest: &Rest, me: &str, peer: &str, ids: &[u64]) {
    let path = format!(
        "/sdk/message/roaming/chat/user/{me}?userId={peer}&msgIdList={}&resource={WEB}",
        list_of(ids)
    );
    let answer = rest.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(answer["requestStatusCode"], "ok");
    assert!(answer["timestamp"].as_i64().is_some());
}

#[tokio::test]
async fn messages_go_for_the_caller_alone_everywhere() {
    let server = TestServer::start().await;
    let (alice, mut bob) = alice_and_bob(&server).await;
    leave(&server, alice).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let sent = talk(&server, &mut bob, 5).await;
    assert_eq!(unread(&alices, "alice", "bob").await, Some(5));
    remove(&alices, "alice", "bob", &[sent[1].id, sent[4].id]).await;
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["3", "2", "0"]);
    let lines = list(&alices, "alice").await;
    assert_eq!((newest(&lines[0]), lines[0]["unread_num"].as_u64()), ("3".to_owned(), Some(3)));
    for device in [WEB, "tablet_1"] {
        let mut alice = arrive(&server, "alice", device).await;
        assert_eq!(texts(&alice.sync().await.unwrap()), ["0", "2", "3"], "{device}");
    }
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["4", "3", "2", "1", "0"]);
    assert_eq!(newest(&list(&bobs, "bob").await[0]), "4");
    // Again, or what is not there, or another's: nothing happens.
    remove(&alices, "alice", "bob", &[sent[1].id, 1, u64::MAX >> 1]).await;
    remove(&alices, "alice", "nobody", &[sent[0].id]).await;
    remove(&alices, "alice", "alice", &[sent[0].id]).await;
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["3", "2", "0"]);
    let mallory = user(&server, "mallory").await;
    remove(&mallory, "mallory", "bob", &[sent[0].id]).await;
    remove(&mallory, "mallory", "alice", &[sent[0].id]).await;
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["3", "2", "0"]);
}

#[tokio::test]
async fn fifty_go_at_once_and_no_more() {
    let server = TestServer::start().await;
    let (_alice, mut bob) = alice_and_bob(&server).await;
    let alices = user(&server, "alice").await;
    let ids: Vec<u64> = talk(&server, &mut bob, 52).await.iter().map(|sent| sent.id).collect();
    for count in [51, 52] {
        let path =
            format!("/sdk/message/roaming/chat/user/alice?userId=bob&msgIdList={}", list_of(&ids[..count]));
        let got = refused(&alices, "DELETE", &path, None).await;
        let expected =
            (400, "param exception".to_owned(), "delete msg list limit can not greater than 50".to_owned());
        assert_eq!(got, expected);
    }
    assert_eq!(unread(&alices, "alice", "bob").await, Some(52), "nothing went");
    remove(&alices, "alice", "bob", &ids[..50]).await;
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["51", "50"]);
    // Commas may be escaped.
    let path =
        format!("/rest/message/roaming/chat/user/alice?userId=bob&msgIdList={}%2C{}", ids[50], ids[51]);
    back_end(&server).await.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(said(&alices, "alice", &with("bob")).await, [""; 0]);
}

#[tokio::test]
async fn clients_mean_before_a_time_and_back_ends_up_to_it() {
    let server = TestServer::start().await;
    let (_alice, mut bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let sent = talk(&server, &mut bob, 6).await;
    let path = format!(
        "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime={}&&resource={WEB}",
        sent[2].at
    );
    let answer = alices.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(answer["requestStatusCode"], "ok");
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["5", "4", "3", "2"]);
    assert_eq!(unread(&alices, "alice", "bob").await, Some(4));
    let path = format!("/rest/message/roaming/chat/user/alice/time?userId=bob&delTime={}", sent[3].at);
    back_end(&server).await.ok("POST", &path, None).await.unwrap();
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["5", "4"]);
    // An earlier time brings nothing back.
    let path = format!("/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime={}", sent[1].at);
    alices.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["5", "4"]);
    assert_eq!(said(&bobs, "bob", &with("alice")).await.len(), 6);
    let path = format!("/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime={}", sent[5].at + 1);
    alices.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(said(&alices, "alice", &with("bob")).await, [""; 0]);
    // Nothing is left, so the entry is gone, for her alone.
    assert_eq!((list(&alices, "alice").await.len(), list(&bobs, "bob").await.len()), (0, 1));
    server.clock.advance_ms(1);
    let to = bob.person("alice");
    bob.say(&to, "next").await.unwrap();
    assert_eq!(channels(&list(&alices, "alice").await), ["bob"]);
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["next"]);
    assert_eq!(unread(&alices, "alice", "bob").await, Some(1));
}

#[tokio::test]
async fn a_time_to_come_does_not_swallow_what_comes() {
    let server = TestServer::start().await;
    let (_alice, mut bob) = alice_and_bob(&server).await;
    let alices = user(&server, "alice").await;
    talk(&server, &mut bob, 2).await;
    let path = format!(
        "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime={}",
        server.now().0 + 1_000_000
    );
    let (status, _) = alices.call("DELETE", &path, None).await.unwrap();
    assert!(status == 200 || status == 400);
    server.clock.advance_ms(10);
    let to = bob.person("alice");
    bob.say(&to, "later").await.unwrap();
    assert_eq!(said(&alices, "alice", &with("bob")).await[0], "later");
}

#[tokio::test]
async fn in_groups_it_is_the_same() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let mut alice = login(&server, "alice").await;
    let to = alice.group(&group);
    let mut sent = Vec::new();
    for n in 0..4 {
        server.clock.advance_ms(10);
        sent.push(alice.say(&to, &n.to_string()).await.unwrap());
    }
    let (bobs, carols) = (user(&server, "bob").await, user(&server, "carol").await);
    let path = format!("/sdk/message/roaming/group/user/bob?groupId={group}&msgIdList={}", sent[3].id);
    bobs.ok("DELETE", &path, None).await.unwrap();
    let path = format!("/sdk/message/roaming/group/user/bob/time?groupId={group}&delTime={}", sent[1].at);
    bobs.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(said(&bobs, "bob", &within(&group)).await, ["2", "1"]);
    assert_eq!(unread(&bobs, "bob", &group).await, Some(2));
    assert_eq!(said(&carols, "carol", &within(&group)).await.len(), 4);
    let path = format!("/sdk/message/roaming/group/user/mallory?groupId={group}&msgIdList={}", sent[2].id);
    let (status, _) = user(&server, "mallory").await.call("DELETE", &path, None).await.unwrap();
    assert!([200, 403].contains(&status), "{status}");
    assert_eq!(said(&carols, "carol", &within(&group)).await.len(), 4);
}

#[tokio::test]
async fn everything_can_go_at_once() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let (_alice, mut bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    talk(&server, &mut bob, 2).await;
    let to = bob.group(&group);
    bob.say(&to, "hi").await.unwrap();
    server.clock.advance_ms(1);
    let path = format!("/sdk/message/roaming/user/alice/delete/all?resource={WEB}");
    let answer = alices.ok("POST", &path, None).await.unwrap();
    assert_eq!(answer["requestStatusCode"], "ok");
    assert_eq!(list(&alices, "alice").await.len(), 0);
    assert_eq!(said(&alices, "alice", &with("bob")).await, [""; 0]);
    assert_eq!(said(&alices, "alice", &within(&group)).await, [""; 0]);
    assert_eq!((list(&bobs, "bob").await.len(), said(&bobs, "bob", &with("alice")).await.len()), (2, 2));
    server.clock.advance_ms(1);
    bob.say(&to, "next").await.unwrap();
    assert_eq!(channels(&list(&alices, "alice").await), [&*group]);
    assert_eq!(said(&alices, "alice", &within(&group)).await, ["next"]);
}

#[tokio::test]
async fn other_devices_hear_what_was_removed() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let sent = talk(&server, &mut bob, 3).await;
    for device in [&mut alice, &mut phone, &mut bob] {
        news(device).await;
    }
    let alices = user(&server, "alice").await;
    remove(&alices, "alice", "bob", &[sent[0].id]).await;
    let heard = until_notify(&mut phone, "roaming_delete").await;
    let data = &heard["data"];
    assert_eq!(
        (&data["resource"], &data["to"], &data["chatType"]),
        (&json!(WEB), &json!("bob"), &json!("chat")),
        "{heard}"
    );
    assert!(data["msgIdList"].to_string().contains(&sent[0].id.to_string()), "{heard}");
    let path = format!(
        "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime={}&&resource={WEB}",
        sent[2].at
    );
    alices.ok("DELETE", &path, None).await.unwrap();
    let heard = until_notify(&mut phone, "roaming_delete").await;
    assert!(!heard["data"]["deleteTime"].is_null(), "{heard}");
    let is_told = |meta: &posthouse_easemob::wire::proto::Meta| notify_of(meta).is_some();
    assert!(!news(&mut alice).await.iter().any(is_told), "it did it itself");
    assert!(!news(&mut bob).await.iter().any(is_told), "it is none of his business");
    // What the back end does is told to all.
    let path =
        format!("/rest/message/roaming/chat/user/alice?userId=bob&msgIdList={}&isNotify=true", sent[2].id);
    back_end(&server).await.ok("DELETE", &path, None).await.unwrap();
    for device in [&mut alice, &mut phone] {
        until_notify(device, "roaming_delete").await;
    }
    // Unless it wants it to be quiet.
    let to = bob.person("alice");
    let sent = bob.say(&to, "quiet").await.unwrap();
    news(&mut phone).await;
    let path =
        format!("/rest/message/roaming/chat/user/alice?userId=bob&msgIdList={}&isNotify=false", sent.id);
    back_end(&server).await.ok("DELETE", &path, None).await.unwrap();
    assert!(!news(&mut phone).await.iter().any(is_told));
    assert_eq!(said(&alices, "alice", &with("bob")).await, [""; 0]);
}

#[tokio::test]
async fn bad_requests_remove_nothing() {
    let server = TestServer::start().await;
    let (_alice, mut bob) = alice_and_bob(&server).await;
    let sent = talk(&server, &mut bob, 2).await;
    let (alices, mallory, back_end) =
        (user(&server, "alice").await, user(&server, "mallory").await, back_end(&server).await);
    let id = sent[0].id;
    let far = server.now().0;
    let bad = (400, "Bad Request".to_owned(), "Bad Request".to_owned());
    for path in [
        "/sdk/message/roaming/chat/user/alice?userId=bob".to_owned(),
        "/sdk/message/roaming/chat/user/alice?userId=bob&msgIdList=".to_owned(),
        "/sdk/message/roaming/chat/user/alice?userId=bob&msgIdList=x".to_owned(),
        format!("/sdk/message/roaming/chat/user/alice?msgIdList={id}"),
        format!("/sdk/message/roaming/group/user/alice?userId=bob&msgIdList={id}"),
        "/sdk/message/roaming/chat/user/alice/time?userId=bob".to_owned(),
        "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime=x".to_owned(),
        "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime=0".to_owned(),
        "/sdk/message/roaming/chat/user/alice/time?userId=bob&delTime=-1".to_owned(),
        format!("/sdk/message/roaming/chat/user/alice/time?delTime={far}"),
    ] {
        assert_eq!(refused(&alices, "DELETE", &path, None).await, bad, "{path}");
    }
    let by_id = format!("message/roaming/chat/user/alice?userId=bob&msgIdList={id}");
    let by_time = format!("message/roaming/chat/user/alice/time?userId=bob&delTime={far}");
    let all = "message/roaming/user/alice/delete/all";
    for (method, path) in [("DELETE", &*by_id), ("DELETE", &*by_time), ("POST", all)] {
        assert_eq!(refused(&mallory, method, &format!("/sdk/{path}"), None).await.0, 401);
        // The server's form is the server's.
        assert_eq!(refused(&alices, method, &format!("/rest/{path}"), None).await.0, 401);
    }
    assert_eq!(refused(&alices, "GET", &format!("/sdk/{by_id}"), None).await.0, 405);
    assert_eq!(
        refused(&back_end, "DELETE", &format!("/rest/{}", by_id.replace("alice", "nobody")), None).await.0,
        404
    );
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["1", "0"]);
    let lines: Vec<Value> = list(&alices, "alice").await;
    assert_eq!(lines[0]["unread_num"], 2);
}
