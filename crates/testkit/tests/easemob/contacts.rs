//! Contacts and blocks (rest 3.2, client 6.3 and 7.4).

use posthouse_easemob::wire::proto::RosterBody;
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use posthouse::peer::easemob::Device;

use crate::stage::{
    WEB, alice_and_bob, arrive, leave, login, name, news, refusal, refused, roster_of, texts, token, until,
    user,
};

const ADD: i32 = 2;
const REMOVE: i32 = 3;

/// Waits for a contact event.
async fn until_roster(device: &mut Device, operations: &[i32]) -> RosterBody {
    let is_it = |body: RosterBody| operations.contains(&body.operation.unwrap());
    let meta = until(device, |meta| roster_of(meta).is_some_and(is_it)).await;
    let body = roster_of(&meta).unwrap();
    assert!(!name(body.to.first()).is_empty(), "SDKs throw without it");
    body
}

async fn names(rest: &posthouse::peer::easemob::Rest, path: &str) -> Vec<String> {
    let answer = rest.ok("GET", path, None).await.unwrap();
    let mut names: Vec<String> =
        answer["data"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn asking_and_accepting_make_contacts() {
    let server = TestServer::start().await;
    let (mut alice, bob) = alice_and_bob(&server).await;
    leave(&server, bob).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let ask = json!({"usernames": ["bob"], "reason": "hi"});
    alices.ok("POST", &format!("/users/alice/contacts/apply?resource={WEB}"), Some(&ask)).await.unwrap();
    assert_eq!(names(&alices, "/users/alice/contacts/users").await, [""; 0]);
    let mut bob = arrive(&server, "bob", WEB).await;
    let waiting: Vec<RosterBody> = bob.sync().await.unwrap().iter().filter_map(roster_of).collect();
    assert_eq!((waiting[0].operation, name(waiting[0].from.as_ref())), (Some(ADD), "alice"));
    assert_eq!(waiting[0].reason.as_deref(), Some("hi"));
    bobs.ok("POST", &format!("/users/bob/contacts/accept/users/alice?resource={WEB}"), None).await.unwrap();
    let accepted = until_roster(&mut alice, &[4, 8]).await;
    assert_eq!(name(accepted.from.as_ref()), "bob");
    assert_eq!(names(&alices, "/users/alice/contacts/users").await, ["bob"]);
    assert_eq!(names(&bobs, "/users/bob/contacts/users").await, ["alice"]);

    let remark = json!({"remark": "B"});
    alices.ok("PUT", "/users/alice/contacts/users/bob", Some(&remark)).await.unwrap();
    let all = alices.ok("GET", "/users/alice/contacts/users?needReturnRemark=true", None).await.unwrap();
    assert_eq!(all["entities"], json!([{"username": "bob", "remark": "B"}]));
    let page =
        alices.ok("GET", "/users/alice/contacts?needReturnRemark=true&limit=20&cursor=", None).await.unwrap();
    assert_eq!(page["data"], json!({"contacts": [{"username": "bob", "remark": "B"}], "cursor": ""}));

    alices.ok("DELETE", &format!("/users/alice/contacts/users/bob?resource={WEB}"), None).await.unwrap();
    assert_eq!(name(until_roster(&mut bob, &[REMOVE]).await.from.as_ref()), "alice");
    assert_eq!(names(&bobs, "/users/bob/contacts/users").await, [""; 0]);
}

#[tokio::test]
async fn declining_is_told_and_makes_none() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    alices.ok("POST", "/users/alice/contacts/apply", Some(&json!({"usernames": ["bob"]}))).await.unwrap();
    until_roster(&mut bob, &[ADD]).await;
    bobs.ok("POST", "/users/bob/contacts/decline/users/alice", None).await.unwrap();
    assert_eq!(name(until_roster(&mut alice, &[5, 9]).await.from.as_ref()), "bob");
    assert_eq!(names(&alices, "/users/alice/contacts/users").await, [""; 0]);
}

#[tokio::test]
async fn the_back_end_makes_contacts_at_once() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let back_end = crate::stage::back_end(&server).await;
    let answer = back_end.ok("POST", "/users/alice/contacts/users/bob", None).await.unwrap();
    assert_eq!(answer["entities"][0]["username"], "bob");
    for device in [&mut alice, &mut bob] {
        until_roster(device, &[4, 8]).await;
    }
    assert_eq!(names(&back_end, "/users/bob/contacts/users").await, ["alice"]);
    assert_eq!(refused(&back_end, "POST", "/users/alice/contacts/users/nobody", None).await.0, 404);
    let (status, _, words) =
        refused(&back_end, "PUT", "/user/alice/contacts/users/carol", Some(&json!({"remark": "x"}))).await;
    assert!(
        status == 404 || words == "updateRemark | they are not friends, please add as a friend first.",
        "{words}"
    );
    token(&server, "carol").await;
    let (status, _, words) =
        refused(&back_end, "PUT", "/user/alice/contacts/users/carol", Some(&json!({"remark": "x"}))).await;
    assert_eq!(
        (status, &*words),
        (400, "updateRemark | they are not friends, please add as a friend first.")
    );
    assert_eq!(refused(&back_end, "GET", "/user/alice/contacts?limit=51", None).await.0, 400);
}

#[tokio::test]
async fn who_is_blocked_can_neither_write_nor_ask() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let who = json!({"usernames": ["alice"]});
    let answer = bobs.ok("POST", &format!("/sdk/user/bob/blocks?resource={WEB}"), Some(&who)).await.unwrap();
    assert_eq!(answer["data"], json!(["alice"]));
    assert_eq!(names(&bobs, "/users/bob/blocks/users").await, ["alice"]);
    let meta = alice.text_meta(&alice.person("bob"), "hi");
    assert_eq!(refusal(&mut alice, meta).await, (1, "blocked".to_owned()));
    let _: (u16, Value) = alices
        .call("POST", "/users/alice/contacts/apply", Some(&json!({"usernames": ["bob"]})))
        .await
        .unwrap();
    bob.settle().await.unwrap();
    assert!(news(&mut bob).await.iter().all(|meta| roster_of(meta).is_none()));
    // The other way round it still works.
    let to = bob.person("alice");
    bob.say(&to, "you may read").await.unwrap();
    assert_eq!(texts(&news(&mut alice).await), ["you may read"]);
    let answer = bobs.ok("DELETE", "/sdk/user/bob/blocks", Some(&who)).await.unwrap();
    assert_eq!(answer["data"], json!(["alice"]));
    let to = alice.person("bob");
    alice.say(&to, "again").await.unwrap();
    assert_eq!(texts(&news(&mut bob).await), ["again"]);
    let back_end = crate::stage::back_end(&server).await;
    assert_eq!(
        back_end.ok("POST", "/users/bob/blocks/users", Some(&who)).await.unwrap()["data"],
        json!(["alice"])
    );
    let answer = back_end.ok("DELETE", "/users/bob/blocks/users/alice", None).await.unwrap();
    assert_eq!(answer["entities"][0]["username"], "alice");
}

#[tokio::test]
async fn a_block_list_is_its_owners() {
    let server = TestServer::start().await;
    login(&server, "alice").await;
    let mallory = user(&server, "mallory").await;
    let who = json!({"usernames": ["mallory"]});
    for (method, path, body) in [
        ("GET", "/users/alice/blocks/users", None),
        ("POST", "/sdk/user/alice/blocks", Some(&who)),
        ("DELETE", "/sdk/user/alice/blocks", Some(&who)),
        ("GET", "/users/alice/contacts/users", None),
        ("POST", "/users/alice/contacts/users/mallory", None),
        ("POST", "/users/alice/contacts/apply", Some(&who)),
    ] {
        assert_eq!(refused(&mallory, method, path, body).await.0, 401, "{method} {path}");
    }
    assert_eq!(names(&user(&server, "alice").await, "/users/alice/contacts/users").await, [""; 0]);
}
