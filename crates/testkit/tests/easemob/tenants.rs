//! Two apps on one server never see each other.

use posthouse::peer::easemob::{Device, Identity};
use posthouse_core::app::App;
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    WEB, back_end, back_end_of, channels, group, key, list, login, news, other_app, refusal, refused, rest,
    rest_of, said, status, texts, token, token_of, user, with, within,
};

async fn login_to(server: &TestServer, app: &App, name: &str) -> Device {
    let token = token_of(&back_end_of(server, app).await, name, Value::Null).await;
    let who = Identity {
        app_key: key(app, "easemob.appkey").to_owned(),
        name: name.to_owned(),
        resource: WEB.to_owned(),
        token,
    };
    let mut device = Device::login(&server.http_url(), who).await.unwrap();
    device.sync().await.unwrap();
    device
}

#[tokio::test]
async fn the_same_names_are_other_people() {
    let server = TestServer::start().await;
    let other = other_app(&server).await;
    let mut alice = login(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    let mut other_alice = login_to(&server, &other, "alice").await;
    let mut other_bob = login_to(&server, &other, "bob").await;
    let to = alice.person("bob");
    alice.say(&to, "ours").await.unwrap();
    let to = other_alice.person("bob");
    other_alice.say(&to, "theirs").await.unwrap();
    assert_eq!(texts(&news(&mut bob).await), ["ours"]);
    assert_eq!(texts(&news(&mut other_bob).await), ["theirs"]);
    let others = rest_of(&server, &other)
        .with_token(&token_of(&back_end_of(&server, &other).await, "bob", Value::Null).await);
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, ["ours"]);
    assert_eq!(said(&others, "bob", &with("alice")).await, ["theirs"]);
    assert_eq!(channels(&list(&others, "bob").await), ["alice"]);
    // Neither replaced the other, though device and name are the same.
    alice.settle().await.unwrap();
    other_alice.settle().await.unwrap();
}

#[tokio::test]
async fn groups_and_messages_of_another_app_do_not_exist() {
    let server = TestServer::start().await;
    let other = other_app(&server).await;
    let ours = group(&server, "alice", &["bob"]).await;
    let mut alice = login(&server, "alice").await;
    let mut mallory = login_to(&server, &other, "mallory").await;
    let to = alice.group(&ours);
    let sent = alice.say(&to, "secret").await.unwrap();
    let meta = mallory.text_meta(&mallory.group(&ours), "hi");
    assert_eq!(refusal(&mut mallory, meta).await.1, "group not found");
    for queue in [mallory.group(&ours), to.clone()] {
        let end = mallory.pull(&queue, 0).await.unwrap();
        assert!(end.metas.is_empty());
    }
    let others_back_end = back_end_of(&server, &other).await;
    assert_eq!(refused(&others_back_end, "GET", &format!("/chatgroups/{ours}"), None).await.0, 404);
    assert_eq!(refused(&others_back_end, "DELETE", &format!("/chatgroups/{ours}"), None).await.0, 404);
    assert_eq!(refused(&others_back_end, "GET", "/users/alice", None).await.0, 404);
    let asked = json!({"queue": within(&ours), "start": -1});
    let (status, answer) =
        others_back_end.call("POST", "/users/mallory/messageroaming", Some(&asked)).await.unwrap();
    assert!(status == 404 || answer["data"]["msgs"] == json!([]), "{status} {answer}");
    let recall = json!({"msg_id": sent.id.to_string(), "from": "alice", "to": ours, "chat_type": "groupchat", "force": false});
    assert_eq!(refused(&others_back_end, "POST", "/messages/msg_recall", Some(&recall)).await.0, 403);
    // A token of one app opens nothing of the other, though the paths are right.
    let crossed = rest(&server).with_token(&token_of(&others_back_end, "alice", Value::Null).await);
    assert_eq!(refused(&crossed, "GET", "/users/alice/user_channels", None).await.0, 401);
    let ours_there = rest_of(&server, &other).with_token(&token(&server, "alice").await);
    assert_eq!(refused(&ours_there, "GET", "/users/alice/user_channels", None).await.0, 401);
    assert_eq!(said(&back_end(&server).await, "bob", &within(&ours)).await, ["secret"]);
}

#[tokio::test]
async fn kicks_and_switches_of_one_app_leave_the_other_alone() {
    let mut server = TestServer::start().await;
    let other = other_app(&server).await;
    let mut alice = login(&server, "alice").await;
    let mut other_alice = login_to(&server, &other, "alice").await;
    server.set(&[("message_roaming", "false"), ("conversation_list", "false")]).await;
    let others = back_end_of(&server, &other).await;
    others.ok("GET", "/users/alice/user_channels", None).await.unwrap();
    others.ok("GET", "/users/alice/disconnect", None).await.unwrap();
    other_alice.expect_close().await.unwrap();
    alice.settle().await.unwrap();
    others.ok("DELETE", "/users/alice", None).await.unwrap();
    let to = alice.person("bob");
    assert_eq!(status(alice.post(alice.text_meta(&to, "hi")).await.unwrap().status).0, 0);
}
