//! Switches of an app work at once, also for who is logged in (rest 5.7).

use posthouse_testkit::server::TestServer;
use serde_json::json;

use crate::stage::{WEB, alice_and_bob, list, news, refusal, refused, said, texts, user, with};

#[tokio::test]
async fn history_and_list_are_features() {
    let mut server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let bobs = user(&server, "bob").await;
    let to = alice.person("bob");
    let sent = alice.say(&to, "hi").await.unwrap();
    let asked = json!({"queue": with("alice"), "start": -1});
    let roaming = "/users/bob/messageroaming";
    server.set(&[("message_roaming", "false")]).await;
    let (status, answer) = bobs.call("POST", roaming, Some(&asked)).await.unwrap();
    assert_eq!((status, &answer["error"]), (403, &json!("function_not_open_error")));
    assert_eq!(answer["error_description"], "messageroaming function not open");
    assert_eq!(answer["error_code"], 15_001);
    for (method, path) in [
        ("DELETE", format!("/sdk/message/roaming/chat/user/bob?userId=alice&msgIdList={}", sent.id)),
        ("DELETE", "/sdk/message/roaming/chat/user/bob/time?userId=alice&delTime=9999999999999".to_owned()),
        ("POST", "/sdk/message/roaming/user/bob/delete/all".to_owned()),
    ] {
        let got = refused(&bobs, method, &path, None).await;
        let expected =
            (400, "service open exception".to_owned(), "this appKey not open message roaming".to_owned());
        assert_eq!(got, expected, "{path}");
    }
    assert_eq!(list(&bobs, "bob").await.len(), 1, "the other switch is on");
    server.set(&[("message_roaming", "true"), ("conversation_list", "false")]).await;
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["hi"], "nothing was removed");
    let delete = json!({"channel": "alice", "type": "chat", "delete_roam": true});
    for (method, path, body) in [
        ("GET", "/users/bob/user_channels", None),
        ("GET", "/users/bob/user_channels/page?pageNum=1&pageSize=20", None),
        ("GET", "/sdk/user/bob/user_channels/list?limit=20", None),
        ("DELETE", "/user/bob/user_channel", Some(&delete)),
    ] {
        let (status, error, _) = refused(&bobs, method, path, body).await;
        assert_eq!((status, &*error), (403, "function_not_open_error"), "{path}");
    }
    server.set(&[("conversation_list", "true")]).await;
    assert_eq!(list(&bobs, "bob").await.len(), 1);
    assert_eq!(texts(&news(&mut bob).await), ["hi"], "messages themselves have no switch");
}

#[tokio::test]
async fn limits_change_under_who_is_logged_in() {
    let mut server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let long = "x".repeat(6_000);
    let meta = alice.text_meta(&to, &long);
    assert_eq!(refusal(&mut alice, meta.clone()).await.0, 7);
    server.set(&[("message_bytes_max", "20000")]).await;
    alice.post_ok(meta).await.unwrap();
    assert_eq!(texts(&news(&mut bob).await), [long]);
    assert_eq!(alice.identity().resource, WEB);
}
