//! Groups: making, changing and ending them, members and roles, and what members hear of it (rest 3.5,
//! client 6.2 and 7.5).

use posthouse::peer::easemob::{Device, Rest};
use posthouse_easemob::wire::proto::MucBody;
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    PHONE, WEB, arrive, back_end, group, leave, login, login_on, muc_of, name, news, refusal, refused, texts,
    token, until_muc, user,
};

const DESTROY: i32 = 1;
const KICK: i32 = 10;
const UPDATE: i32 = 14;
const PRESENCE: i32 = 17;
const ABSENCE: i32 = 18;
const DIRECT_JOINED: i32 = 19;
const ASSIGN_OWNER: i32 = 20;
const ADD_ADMIN: i32 = 21;
const REMOVE_ADMIN: i32 = 22;

/// The group events that wait for a device.
async fn events(device: &mut Device) -> Vec<MucBody> {
    let events: Vec<MucBody> = news(device).await.iter().filter_map(muc_of).collect();
    for event in &events {
        assert!(!name(event.from.as_ref()).is_empty(), "SDKs throw without it");
        assert!(!name(event.muc_id.as_ref()).is_empty());
    }
    events
}

fn operations(events: &[MucBody]) -> Vec<i32> {
    events.iter().map(|event| event.operation.unwrap()).collect()
}

async fn describe(rest: &Rest, group: &str) -> Value {
    let answer = rest.ok("GET", &format!("/chatgroups/{group}?joined_time=true"), None).await.unwrap();
    answer["data"][0].clone()
}

async fn members(rest: &Rest, group: &str) -> Vec<String> {
    let answer =
        rest.ok("GET", &format!("/chatgroups/{group}/users?pagenum=1&pagesize=100"), None).await.unwrap();
    let lines = answer["data"].as_array().unwrap();
    let who = |line: &Value| {
        let (role, name) = line.as_object().unwrap().iter().find(|(key, _)| *key != "joined_time").unwrap();
        format!("{role} {}", name.as_str().unwrap())
    };
    let mut all: Vec<String> = lines.iter().map(who).collect();
    all.sort();
    all
}

#[tokio::test]
async fn who_is_put_into_a_group_hears_of_it_also_later() {
    let server = TestServer::start().await;
    let away = login(&server, "carol").await;
    leave(&server, away).await;
    let mut bob = login(&server, "bob").await;
    let mut alice = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let alices = user(&server, "alice").await;
    let wish = json!({"owner": "alice", "groupname": "friends", "desc": "of mine", "members": ["bob", "carol"],
        "public": true, "approval": false, "allowinvites": true, "invite_need_confirm": false, "maxusers": 300, "custom": "x"});
    let answer = alices.ok("POST", &format!("/chatgroups?resource={WEB}"), Some(&wish)).await.unwrap();
    let group = answer["data"]["groupid"].as_str().unwrap().to_owned();
    assert_eq!(answer["data"]["id"], group, "native clients read this one");
    assert!(group.bytes().all(|byte| byte.is_ascii_digit()));

    let joined = until_muc(&mut bob, DIRECT_JOINED).await;
    assert_eq!((name(joined.muc_id.as_ref()), name(joined.from.as_ref())), (&*group, "alice"));
    assert_eq!(joined.muc_name.as_deref(), Some("friends"));
    let mut carol = arrive(&server, "carol", WEB).await;
    let late: Vec<MucBody> = carol.sync().await.unwrap().iter().filter_map(muc_of).collect();
    assert!(operations(&late).contains(&DIRECT_JOINED), "{late:?}");
    until_muc(&mut phone, 0).await;
    assert!(!operations(&events(&mut alice).await).contains(&DIRECT_JOINED));

    let told = describe(&alices, &group).await;
    for (field, expected) in [
        ("id", json!(group)),
        ("name", json!("friends")),
        ("description", json!("of mine")),
        ("public", json!(true)),
        ("membersonly", json!(false)),
        ("allowinvites", json!(true)),
        ("maxusers", json!(300)),
        ("owner", json!("alice")),
        ("affiliations_count", json!(3)),
        ("custom", json!("x")),
        ("created", json!(server.now().0)),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    assert_eq!(members(&alices, &group).await, ["member bob", "member carol", "owner alice"]);
    let to = bob.group(&group);
    bob.say(&to, "thanks").await.unwrap();
    assert_eq!(texts(&news(&mut carol).await), ["thanks"]);
}

#[tokio::test]
async fn coming_and_going_is_told_to_those_who_stay() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut alice = login(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    let mut carol = login(&server, "carol").await;
    let back_end = back_end(&server).await;
    let one = format!("/chatgroups/{group}/users/carol");
    let answer = back_end.ok("POST", &one, None).await.unwrap();
    assert_eq!(
        answer["data"],
        json!({"result": true, "groupid": group, "action": "add_member", "user": "carol"})
    );
    assert_eq!(operations(&events(&mut carol).await), [DIRECT_JOINED]);
    let came = until_muc(&mut bob, PRESENCE).await;
    assert_eq!(name(came.from.as_ref()), "carol");
    events(&mut alice).await;

    let (status, error, words) = refused(&back_end, "POST", &one, None).await;
    let already = format!("can not join this group, reason:user: carol already in group: {group}\n");
    assert_eq!((status, &*error, words), (403, "forbidden_op", already));

    // Removed by the owner.
    let alices = user(&server, "alice").await;
    let answer = alices.ok("DELETE", &format!("{one}?resource={WEB}"), None).await.unwrap();
    assert_eq!(
        (&answer["data"]["result"], &answer["data"]["action"]),
        (&json!(true), &json!("remove_member"))
    );
    let kicked = until_muc(&mut carol, KICK).await;
    assert_eq!(name(kicked.from.as_ref()), "alice");
    assert_eq!(name(until_muc(&mut bob, ABSENCE).await.from.as_ref()), "carol");
    let to = carol.group(&group);
    let meta = carol.text_meta(&to, "hey");
    assert_eq!(refusal(&mut carol, meta).await.1, "not in group or chatroom");

    // Leaves by itself.
    let bobs = user(&server, "bob").await;
    let answer = bobs.ok("DELETE", &format!("/chatgroups/{group}/quit?resource={WEB}"), None).await.unwrap();
    assert_eq!(answer["data"]["result"], true);
    assert!(!operations(&events(&mut bob).await).contains(&KICK));
    assert_eq!(name(until_muc(&mut alice, ABSENCE).await.from.as_ref()), "carol");
    assert_eq!(members(&back_end, &group).await, ["owner alice"]);
}

#[tokio::test]
async fn several_come_and_go_at_once() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let back_end = back_end(&server).await;
    for name in ["c1", "c2", "c3"] {
        token(&server, name).await;
    }
    let users = format!("/chatgroups/{group}/users");
    let answer = back_end.ok("POST", &users, Some(&json!({"usernames": ["c1", "c2", "bob"]}))).await.unwrap();
    let mut new: Vec<&str> =
        answer["data"]["newmembers"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    new.sort_unstable();
    assert_eq!(new, ["c1", "c2"], "who is in already is left out");
    assert_eq!(refused(&back_end, "POST", &users, Some(&json!({"usernames": ["c1", "bob"]}))).await.0, 403);
    let (status, error, words) =
        refused(&back_end, "POST", &users, Some(&json!({"usernames": ["nobody"]}))).await;
    assert_eq!((status, &*error, &*words), (404, "resource_not_found", "username nobody doesn't exist!"));
    let many: Vec<String> = (0..61).map(|n| format!("n{n}")).collect();
    let (status, _, words) = refused(&back_end, "POST", &users, Some(&json!({"usernames": many}))).await;
    assert_eq!((status, &*words), (400, "addMembers: addMembers number more than maxSize : 60"));

    let answer = back_end.ok("DELETE", &format!("{users}/c1,c3,nobody"), None).await.unwrap();
    let lines = answer["data"].as_array().unwrap();
    let result = |name: &str| lines.iter().find(|line| line["user"] == name).unwrap()["result"].clone();
    assert_eq!((result("c1"), result("c3"), result("nobody")), (json!(true), json!(false), json!(false)));
    assert_eq!(refused(&back_end, "DELETE", &format!("{users}/c1,c3"), None).await.0, 403);
    let (status, error, words) = refused(&back_end, "DELETE", &format!("{users}/alice"), None).await;
    assert_eq!((status, &*error, &*words), (403, "forbidden_op", "forbidden operation on group owner!"));
    assert_eq!(members(&back_end, &group).await, ["member bob", "member c2", "owner alice"]);
}

#[tokio::test]
async fn members_are_told_what_changes() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut bob = login(&server, "bob").await;
    let alices = user(&server, "alice").await;
    let change = json!({"groupname": "renamed", "description": "new", "custom": "y"});
    let answer =
        alices.ok("PUT", &format!("/chatgroups/{group}?resource={WEB}"), Some(&change)).await.unwrap();
    assert_eq!(answer["data"], json!({"groupname": true, "description": true, "custom": true}));
    let event = until_muc(&mut bob, UPDATE).await;
    let told: Value = serde_json::from_str(&event.event_info.unwrap().ext.unwrap()).unwrap();
    assert_eq!(
        (&told["name"], &told["description"], &told["custom"]),
        (&json!("renamed"), &json!("new"), &json!("y"))
    );
    assert_eq!(name(event.from.as_ref()), "alice");
    let described = describe(&user(&server, "bob").await, &group).await;
    assert_eq!((&described["name"], &described["public"]), (&json!("renamed"), &json!(true)));
    let path = format!("/chatgroups/{group}");
    let (status, error, words) = refused(&alices, "PUT", &path, Some(&json!({"groupid": "7"}))).await;
    assert_eq!(
        (status, &*error, &*words),
        (400, "invalid_parameter", "some of [groupid] are not valid fields")
    );
    assert_eq!(refused(&user(&server, "bob").await, "PUT", &path, Some(&change)).await.0, 403);
    assert_eq!(refused(&user(&server, "mallory").await, "PUT", &path, Some(&change)).await.0, 403);
}

#[tokio::test]
async fn roles_are_given_taken_and_told() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let mut bob = login(&server, "bob").await;
    let alices = user(&server, "alice").await;
    let admin = format!("/chatgroups/{group}/admin");
    let answer = alices.ok("POST", &admin, Some(&json!({"newadmin": "bob"}))).await.unwrap();
    assert_eq!(answer["data"], json!({"result": "success", "newadmin": "bob"}));
    assert_eq!(name(until_muc(&mut bob, ADD_ADMIN).await.to.first()), "bob");
    assert_eq!(alices.ok("GET", &admin, None).await.unwrap()["data"], json!(["bob"]));
    // An administrator removes members and no others.
    let bobs = user(&server, "bob").await;
    bobs.ok("DELETE", &format!("/chatgroups/{group}/users/carol"), None).await.unwrap();
    assert_eq!(refused(&bobs, "DELETE", &format!("/chatgroups/{group}/users/alice"), None).await.0, 403);
    assert_eq!(refused(&bobs, "DELETE", &format!("/chatgroups/{group}"), None).await.0, 403);
    let answer = alices.ok("DELETE", &format!("{admin}/bob"), None).await.unwrap();
    assert_eq!(answer["data"], json!({"result": "success", "oldadmin": "bob"}));
    until_muc(&mut bob, REMOVE_ADMIN).await;
    let (status, _, words) = refused(&alices, "DELETE", &format!("{admin}/bob"), None).await;
    assert_eq!((status, words), (403, format!("user:bob is not admin of group:{group}")));
    let (status, _, words) = refused(&alices, "POST", &admin, Some(&json!({"newadmin": "carol"}))).await;
    assert_eq!((status, words), (404, format!("user: carol doesn't exist in group: {group}")));

    let path = format!("/chatgroups/{group}");
    let (status, _, words) = refused(&alices, "PUT", &path, Some(&json!({"newowner": "alice"}))).await;
    assert_eq!((status, &*words), (403, "new owner and old owner are the same"));
    let (status, _, words) = refused(&alices, "PUT", &path, Some(&json!({"newowner": "carol"}))).await;
    assert_eq!((status, words), (403, format!("user: carol doesn't exist in group: {group}")));
    assert_eq!(refused(&bobs, "PUT", &path, Some(&json!({"newowner": "bob"}))).await.0, 403);
    let answer = alices.ok("PUT", &path, Some(&json!({"newowner": "bob"}))).await.unwrap();
    assert_eq!(answer["data"]["newowner"], true);
    until_muc(&mut bob, ASSIGN_OWNER).await;
    assert_eq!(members(&bobs, &group).await, ["member alice", "owner bob"]);
}

#[tokio::test]
async fn a_group_that_ends_is_gone_for_all_who_hear_of_it() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let mut bob = login(&server, "bob").await;
    let carol = login(&server, "carol").await;
    leave(&server, carol).await;
    let to = bob.group(&group);
    bob.say(&to, "hi").await.unwrap();
    let alices = user(&server, "alice").await;
    assert_eq!(
        refused(&user(&server, "bob").await, "DELETE", &format!("/chatgroups/{group}?version=v3"), None)
            .await
            .0,
        403
    );
    let answer =
        alices.ok("DELETE", &format!("/chatgroups/{group}?version=v3&resource={WEB}"), None).await.unwrap();
    assert_eq!((&answer["data"]["success"], &answer["data"]["groupid"]), (&json!(true), &json!(group)));
    assert_eq!(name(until_muc(&mut bob, DESTROY).await.muc_id.as_ref()), group);
    let mut carol = arrive(&server, "carol", WEB).await;
    let late: Vec<MucBody> = carol.sync().await.unwrap().iter().filter_map(muc_of).collect();
    assert!(operations(&late).contains(&DESTROY), "{late:?}");
    let meta = bob.text_meta(&to, "anybody?");
    let (code, reason) = refusal(&mut bob, meta).await;
    assert!(code == 1 && (reason == "group not found" || reason == "not in group or chatroom"), "{reason}");
    let (status, error, words) =
        refused(&back_end(&server).await, "GET", &format!("/chatgroups/{group}"), None).await;
    assert_eq!(
        (status, &*error, words),
        (404, "resource_not_found", format!("grpID {group} does not exist!"))
    );
}

#[tokio::test]
async fn lists_of_groups_have_the_forms_that_sdks_read() {
    let server = TestServer::start().await;
    let mut groups = Vec::new();
    for _ in 0..3 {
        groups.push(group(&server, "alice", &["bob"]).await);
        server.clock.advance_ms(1);
    }
    groups.sort();
    let bobs = user(&server, "bob").await;
    let sorted = |lines: &Value, field: &str| {
        let mut all: Vec<String> =
            lines.as_array().unwrap().iter().map(|line| line[field].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    let old = bobs.ok("GET", "/users/bob/joined_chatgroups", None).await.unwrap();
    assert!(old["uri"].as_str().unwrap().contains("joined_chatgroups"), "{old}");
    let ids = if old["data"][0]["groupid"].is_string() { "groupid" } else { "id" };
    assert_eq!(sorted(&old["data"], ids), groups);
    let new = bobs
        .ok(
            "GET",
            "/chatgroups/user/bob?pagenum=0&pagesize=20&needAffiliations=true&needRole=true&version=v3",
            None,
        )
        .await
        .unwrap();
    assert!(!new["uri"].as_str().unwrap().contains("joined_chatgroups"), "{new}");
    assert_eq!((sorted(&new["entities"], "groupId"), &new["total"]), (groups.clone(), &json!(3)));
    assert_eq!(new["entities"][0]["permission"], "member");
    assert_eq!(bobs.ok("GET", "/chatgroups/user/bob/joined_count", None).await.unwrap()["data"], 3);
    let public = bobs.ok("GET", "/publicchatgroups?version=v3&limit=20&cursor=", None).await.unwrap();
    let ids = if public["data"][0]["id"].is_string() { "id" } else { "groupid" };
    assert_eq!(sorted(&public["data"], ids), groups);
    assert!(public["data"][0]["name"].is_string() || public["data"][0]["groupname"].is_string(), "{public}");
    let several = bobs.ok("GET", &format!("/chatgroups/{}", groups.join(",")), None).await.unwrap();
    assert_eq!(sorted(&several["data"], "id"), groups);
    let back_end = back_end(&server).await;
    let all = back_end.ok("GET", "/chatgroups?limit=10", None).await.unwrap();
    assert_eq!(sorted(&all["data"], "groupid"), groups);
    for (path, expected) in [
        (format!("/chatgroups/{}/user/bob/is_joined", groups[0]), true),
        (format!("/chatgroups/{}/user/nobody/is_joined", groups[0]), false),
    ] {
        let (status, answer) = back_end.call("GET", &path, None).await.unwrap();
        assert!(status == 404 && !expected || answer["data"] == expected, "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_a_group_needs_is_said() {
    let server = TestServer::start().await;
    let back_end = back_end(&server).await;
    token(&server, "alice").await;
    for (wish, status) in [
        (json!({"groupname": "x", "owner": "alice"}), 400),
        (json!({"groupname": "x", "public": true}), 400),
        (json!({"groupname": "x", "public": "yes", "owner": "alice"}), 400),
        (json!({"groupname": "x".repeat(129), "public": true, "owner": "alice"}), 400),
        (json!({"groupname": "x", "public": true, "owner": "nobody"}), 404),
        (json!({"groupname": "x", "public": true, "owner": "alice", "members": ["nobody"]}), 404),
        (json!({"groupname": "x", "public": true, "owner": "alice", "members": "bob"}), 400),
        (json!({"groupname": "x", "public": true, "owner": "alice", "maxusers": 1, "members": ["bob"]}), 403),
    ] {
        token(&server, "bob").await;
        let got = refused(&back_end, "POST", "/chatgroups", Some(&wish)).await;
        assert_eq!(got.0, status, "{wish}: {got:?}");
    }
    // Nobody makes a group in another's name.
    let wish = json!({"groupname": "x", "public": true, "owner": "alice"});
    assert_eq!(refused(&user(&server, "bob").await, "POST", "/chatgroups", Some(&wish)).await.0, 401);
    let none = user(&server, "alice")
        .await
        .ok("GET", "/chatgroups/user/alice?pagenum=0&pagesize=20", None)
        .await
        .unwrap();
    assert_eq!(none["total"], 0);
}

#[tokio::test]
async fn who_may_not_gets_in_nowhere() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let private = json!({"groupname": "secret", "public": false, "owner": "alice"});
    let back_end = back_end(&server).await;
    let answer = back_end.ok("POST", "/chatgroups", Some(&private)).await.unwrap();
    let private = answer["data"]["groupid"].as_str().unwrap().to_owned();
    let mallory = user(&server, "mallory").await;
    for (method, path, body) in [
        ("GET", format!("/chatgroups/{private}"), None),
        ("GET", format!("/chatgroups/{private}/users?pagenum=1&pagesize=10"), None),
        ("POST", format!("/chatgroups/{group}/users/mallory"), None),
        ("POST", format!("/chatgroups/{group}/users"), Some(json!({"usernames": ["mallory"]}))),
        ("POST", format!("/chatgroups/{group}/invite"), Some(json!({"usernames": ["mallory"]}))),
        ("DELETE", format!("/chatgroups/{group}/users/bob"), None),
        ("POST", format!("/chatgroups/{group}/admin"), Some(json!({"newadmin": "mallory"}))),
        ("DELETE", format!("/chatgroups/{group}"), None),
        ("POST", format!("/chatgroups/{private}/apply"), Some(json!({"message": "please"}))),
        ("GET", "/users/alice/joined_chatgroups".to_owned(), None),
        ("GET", "/chatgroups/user/alice?pagenum=0&pagesize=20".to_owned(), None),
    ] {
        let (status, _, _) = refused(&mallory, method, &path, body.as_ref()).await;
        assert!([401, 403, 404].contains(&status), "{method} {path}: {status}");
    }
    assert_eq!(members(&back_end, &group).await, ["member bob", "owner alice"]);
    assert_eq!(members(&back_end, &private).await, ["owner alice"]);
    // Public groups without approval are open.
    let answer = mallory
        .ok("POST", &format!("/chatgroups/{group}/apply"), Some(&json!({"message": "hi"})))
        .await
        .unwrap();
    assert_eq!(answer["data"]["result"], true);
    assert_eq!(members(&back_end, &group).await, ["member bob", "member mallory", "owner alice"]);
}

#[tokio::test]
async fn a_full_group_takes_nobody() {
    let mut server = TestServer::start().await;
    server.set(&[("members_max", "3")]).await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    token(&server, "dave").await;
    let back_end = back_end(&server).await;
    let (status, error, words) =
        refused(&back_end, "POST", &format!("/chatgroups/{group}/users/dave"), None).await;
    assert_eq!(
        (status, &*error, &*words),
        (403, "exceed_limit", "members size is greater than max user size !")
    );
    assert_eq!(members(&back_end, &group).await.len(), 3);
}

#[tokio::test]
async fn inviting_puts_people_in_at_once() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut carol = login(&server, "carol").await;
    let alices = user(&server, "alice").await;
    let path = format!("/chatgroups/{group}/invite?resource={WEB}");
    let answer = alices.ok("POST", &path, Some(&json!({"usernames": ["carol"]}))).await.unwrap();
    assert_eq!((&answer["data"][0]["user"], &answer["data"][0]["result"]), (&json!("carol"), &json!(true)));
    let joined = until_muc(&mut carol, DIRECT_JOINED).await;
    assert_eq!(name(joined.from.as_ref()), "alice");
    // Without the right to invite, members may not.
    token(&server, "dave").await;
    let bobs = user(&server, "bob").await;
    assert_eq!(refused(&bobs, "POST", &path, Some(&json!({"usernames": ["dave"]}))).await.0, 403);
}

#[tokio::test]
async fn who_is_removed_from_the_app_is_in_no_group() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let app = back_end(&server).await;
    app.ok("DELETE", "/users/bob", None).await.unwrap();
    assert_eq!(members(&app, &group).await, ["member carol", "owner alice"]);
    // The name's next owner is not in it either.
    let newcomer = user(&server, "bob").await;
    let joined = newcomer.ok("GET", "/users/bob/joined_chatgroups", None).await.unwrap();
    assert_eq!(joined["data"], json!([]));
}

#[tokio::test]
async fn a_back_end_speaks_in_any_group() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut bob = login(&server, "bob").await;
    let app = back_end(&server).await;
    let message =
        json!({"to": [group, "184524748161025"], "type": "txt", "body": {"msg": "maintenance at noon"}});
    let answer = app.ok("POST", "/messages/chatgroups", Some(&message)).await.unwrap();
    assert_eq!(answer["data"].as_object().unwrap().len(), 2, "what doesn't exist gets a number too");
    let got = news(&mut bob).await;
    assert_eq!((texts(&got), name(got[0].from.as_ref())), (vec!["maintenance at noon".to_owned()], "admin"));
    let many = json!({"to": ["1", "2", "3", "4"], "type": "txt", "body": {"msg": "x"}});
    let (status, _, words) = refused(&app, "POST", "/messages/chatgroups", Some(&many)).await;
    assert_eq!((status, &*words), (400, "params to's size can't exceed limit 3"));
}
