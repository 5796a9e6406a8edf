//! Tokens, who may call what, and users (rest 2 and 3.1).

use posthouse::peer::easemob::Rest;
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    WEB, arrive, back_end, back_end_of, group, key, leave, login, other_app, refused, rest, rest_of, said,
    send_by_rest, texts, token, token_of, user, with,
};

fn fault(status: u16, error: &str, words: &str) -> (u16, String, String) {
    (status, error.to_owned(), words.to_owned())
}

async fn grant(rest: &Rest, wish: &Value) -> (u16, Value) {
    rest.call("POST", "/token", Some(wish)).await.unwrap()
}

#[tokio::test]
async fn every_grant_gives_a_token_with_its_life() {
    let server = TestServer::start().await;
    let rest = rest(&server);
    let app = json!({"grant_type": "client_credentials", "client_id": key(&server.app, "easemob.client_id"),
        "client_secret": key(&server.app, "easemob.client_secret"), "ttl": 1_024_000});
    let (status, answer) = grant(&rest, &app).await;
    assert_eq!((status, &answer["expires_in"]), (200, &json!(1_024_000)));
    assert!(answer["application"].is_string());
    let back_end = rest.with_token(answer["access_token"].as_str().unwrap());
    let wish = json!({"username": "u1", "password": "1"});
    back_end.ok("POST", "/users", Some(&wish)).await.unwrap();
    for (extra, expires) in [
        (json!({}), 5_184_000),
        (json!({"ttl": "1024000"}), 1_024_000),
        (json!({"ttl": 60}), 60),
        (json!({"ttl": 0}), 2_147_483_647),
        (json!({"ttl": 99_999_999_999_u64}), 2_147_483_647),
    ] {
        let mut wish = json!({"grant_type": "password", "username": "u1", "password": "1", "timestamp": 1});
        wish.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (status, answer) = grant(&rest, &wish).await;
        assert_eq!((status, &answer["expires_in"]), (200, &json!(expires)), "{extra}");
        let user = &answer["user"];
        assert_eq!(
            (&user["username"], &user["type"], &user["activated"]),
            (&json!("u1"), &json!("user"), &json!(true))
        );
        assert!(user["uuid"].is_string() && user["created"].is_i64());
        let token = rest.with_token(answer["access_token"].as_str().unwrap());
        let expires_at =
            token.ok("GET", "/sdk/users/u1/token/expires", None).await.unwrap()["expire_timestamp"].clone();
        assert_eq!(expires_at, json!(server.now().0 + expires * 1_000));
    }
    // Names are the same in any case.
    rest.user_token("U1", "1").await.unwrap();
    let (status, answer) =
        grant(&back_end, &json!({"grant_type": "inherit", "username": "New", "autoCreateUser": true})).await;
    assert_eq!((status, &answer["user"]["username"]), (200, &json!("new")));
    assert_eq!(
        refused(
            &rest,
            "POST",
            "/token",
            Some(&json!({"grant_type": "password", "username": "new", "password": ""}))
        )
        .await
        .0,
        400
    );
}

#[tokio::test]
async fn grants_that_fail_say_why() {
    let server = TestServer::start().await;
    let rest = rest(&server);
    let (id, secret) = (key(&server.app, "easemob.client_id"), key(&server.app, "easemob.client_secret"));
    let back_end = back_end(&server).await;
    for (name, password) in [("u1", "1"), ("u2", "2")] {
        back_end.ok("POST", "/users", Some(&json!({"username": name, "password": password}))).await.unwrap();
    }
    back_end.ok("POST", "/users/u2/deactivate", None).await.unwrap();
    for (wish, expected) in [
        (
            json!({"grant_type": "client_credentials", "client_secret": secret}),
            fault(400, "illegal_argument", "client_id must be provided."),
        ),
        (
            json!({"grant_type": "client_credentials", "client_id": id}),
            fault(400, "illegal_argument", "client_secret must be provided"),
        ),
        (
            json!({"grant_type": "client_credentials", "client_id": "x", "client_secret": secret}),
            fault(400, "invalid_grant", "client_id does not match"),
        ),
        (
            json!({"grant_type": "client_credentials", "client_id": id, "client_secret": "x"}),
            fault(400, "invalid_grant", "client_secret does not match"),
        ),
        (
            json!({"grant_type": "password", "username": "u1", "password": "2"}),
            fault(400, "invalid_grant", "invalid password"),
        ),
        (
            json!({"grant_type": "password", "username": "nobody", "password": "1"}),
            fault(404, "invalid_grant", "user not found"),
        ),
        (
            json!({"grant_type": "password", "username": "no name", "password": "1"}),
            fault(404, "invalid_grant", "user not found"),
        ),
        (
            json!({"grant_type": "password", "username": "u2", "password": "2"}),
            fault(400, "invalid_grant", "user not activated"),
        ),
        (
            json!({"grant_type": "inherit", "username": "u1"}),
            fault(401, "unauthorized", "Unable to authenticate (OAuth)"),
        ),
    ] {
        assert_eq!(refused(&rest, "POST", "/token", Some(&wish)).await, expected, "{wish}");
    }
    for bad in [
        json!({}),
        json!([]),
        json!({"grant_type": "x"}),
        json!({"grant_type": "password", "username": 7, "password": {}}),
    ] {
        assert_eq!(refused(&rest, "POST", "/token", Some(&bad)).await.0, 400, "{bad}");
    }
    let inherit = json!({"grant_type": "inherit", "username": "nobody"});
    assert_eq!(refused(&back_end, "POST", "/token", Some(&inherit)).await.0, 404);
    let wish = json!({"grant_type": "inherit", "username": "u1"});
    let users = user(&server, "u1").await;
    assert_eq!(
        refused(&users, "POST", "/token", Some(&wish)).await,
        fault(401, "auth_bad_access_token", "Unable to authenticate due to corrupt access token")
    );
    for (name, words) in
        [("no name", "username [no name] is not legal"), (&*"a".repeat(65), "USERNAME_TOO_LONG")]
    {
        let wish = json!({"grant_type": "inherit", "username": name, "autoCreateUser": true});
        assert_eq!(
            refused(&back_end, "POST", "/token", Some(&wish)).await,
            fault(400, "illegal_argument", words)
        );
    }
    let headers = [("Content-Type", "application/json")];
    for body in [&b"{"[..], b"grant_type=password", b"\xff"] {
        let (status, answer) = rest.exchange("POST", "/token", &headers, Some(body)).await.unwrap();
        assert_eq!(status, 400);
        assert!(serde_json::from_slice::<Value>(&answer).unwrap()["error_description"].is_string());
    }
    // SDK 1.x sends JSON and calls it nothing.
    let wish = json!({"grant_type": "password", "username": "u1", "password": "1"}).to_string();
    let (status, _) = rest.exchange("POST", "/token", &[], Some(wish.as_bytes())).await.unwrap();
    assert_eq!(status, 200);
    // Bodies have a size.
    let large = format!("{{\"grant_type\":\"{}\"}}", "x".repeat(600_000));
    let (status, answer) = rest.exchange("POST", "/token", &headers, Some(large.as_bytes())).await.unwrap();
    assert!(status == 413 || status == 400, "{status}");
    assert!(serde_json::from_slice::<Value>(&answer).unwrap().is_object());
    let unknown = Rest::new(&server.http_url(), "no#app");
    let (status, error, words) = refused(&unknown, "POST", "/token", Some(&json!({}))).await;
    assert_eq!((status, &*error), (404, "organization_application_not_found"));
    assert_eq!(words, "Could not find application for no/app from URI: no/app/token");
}

/// Every call of a user and of the back end that this server has: its method, its path, and whether a
/// user may make it for itself.
fn calls(group: &str) -> Vec<(&'static str, String, Option<Value>, bool)> {
    let who = || Some(json!({"usernames": ["bob"]}));
    vec![
        ("GET", "/users/alice".to_owned(), None, true),
        ("PUT", "/users/alice".to_owned(), Some(json!({"nickname": "A"})), true),
        ("GET", "/users/alice/status".to_owned(), None, true),
        ("GET", "/users/alice/resources".to_owned(), None, true),
        ("GET", "/users/alice/contacts/users".to_owned(), None, true),
        ("GET", "/users/alice/contacts?limit=10".to_owned(), None, true),
        ("POST", "/users/alice/contacts/apply".to_owned(), who(), true),
        ("GET", "/users/alice/blocks/users".to_owned(), None, true),
        ("POST", "/users/alice/blocks/users".to_owned(), who(), true),
        ("DELETE", "/sdk/user/alice/blocks".to_owned(), who(), true),
        ("GET", "/users/alice/user_channels".to_owned(), None, true),
        ("GET", "/users/alice/user_channels/page?pageNum=1&pageSize=20".to_owned(), None, true),
        ("GET", "/sdk/user/alice/user_channels/list?limit=20".to_owned(), None, true),
        ("GET", "/sdk/user/alice/user_channels/mark/search?mark=mark_1".to_owned(), None, true),
        (
            "DELETE",
            "/users/alice/user_channel".to_owned(),
            Some(json!({"channel": "zoe", "type": "chat", "delete_roam": true})),
            true,
        ),
        (
            "POST",
            "/users/alice/messageroaming".to_owned(),
            Some(json!({"queue": "bob@easemob.com", "start": -1})),
            true,
        ),
        ("DELETE", "/sdk/message/roaming/chat/user/alice?userId=zoe&msgIdList=1".to_owned(), None, true),
        ("DELETE", "/sdk/message/roaming/chat/user/alice/time?userId=zoe&delTime=1".to_owned(), None, true),
        ("POST", "/sdk/message/roaming/user/alice/delete/all".to_owned(), None, true),
        ("GET", "/users/alice/joined_chatgroups".to_owned(), None, true),
        ("GET", "/chatgroups/user/alice?pagenum=0&pagesize=20".to_owned(), None, true),
        ("GET", format!("/chatgroups/{group}/users?pagenum=1&pagesize=20"), None, true),
        ("PUT", format!("/chatgroups/{group}"), Some(json!({"description": "x"})), true),
        ("POST", format!("/chatgroups/{group}/users"), Some(json!({"usernames": ["dave"]})), true),
        ("POST", "/users".to_owned(), Some(json!({"username": "fresh", "password": "1"})), false),
        ("GET", "/users?limit=5".to_owned(), None, false),
        ("DELETE", "/users?limit=1".to_owned(), None, false),
        ("DELETE", "/users/zoe".to_owned(), None, false),
        ("PUT", "/users/alice/password".to_owned(), Some(json!({"newpassword": "2"})), false),
        ("POST", "/users/alice/deactivate".to_owned(), None, false),
        ("POST", "/users/alice/activate".to_owned(), None, false),
        ("GET", "/users/alice/disconnect".to_owned(), None, false),
        ("POST", "/users/batch/status".to_owned(), Some(json!({"usernames": ["alice"]})), false),
        (
            "POST",
            "/messages/users".to_owned(),
            Some(json!({"from": "alice", "to": ["bob"], "type": "txt", "body": {"msg": "x"}})),
            false,
        ),
        (
            "POST",
            "/messages/chatgroups".to_owned(),
            Some(json!({"from": "alice", "to": [group], "type": "txt", "body": {"msg": "x"}})),
            false,
        ),
        (
            "POST",
            "/messages/users/import".to_owned(),
            Some(json!({"from": "alice", "target": "bob", "type": "txt", "body": {"msg": "x"}})),
            false,
        ),
        (
            "POST",
            "/messages/msg_recall".to_owned(),
            Some(json!({"msg_id": "1", "to": "bob", "chat_type": "chat", "force": true})),
            false,
        ),
        ("DELETE", "/rest/message/roaming/chat/user/alice?userId=zoe&msgIdList=1".to_owned(), None, false),
        ("DELETE", "/rest/message/roaming/chat/user/alice/time?userId=zoe&delTime=1".to_owned(), None, false),
        ("POST", "/rest/message/roaming/user/alice/delete/all".to_owned(), None, false),
        ("GET", "/chatgroups?limit=5".to_owned(), None, false),
    ]
}

#[tokio::test]
async fn who_may_call_what() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    for name in ["dave", "zoe", "mallory"] {
        token(&server, name).await;
    }
    let alice = token(&server, "alice").await;
    let foreign_app = other_app(&server).await;
    let foreign_back_end = back_end_of(&server, &foreign_app).await;
    let foreign_user = token_of(&foreign_back_end, "alice", Value::Null).await;
    let short = token_of(&back_end(&server).await, "alice", json!(60)).await;
    server.clock.advance_ms(61_000);
    let forged = format!("{}AAAA", &alice[..alice.len() - 4]);
    let base = rest(&server);
    let oauth = "Unable to authenticate (OAuth)";
    for (method, path, body, _) in calls(&group) {
        let body = body.as_ref();
        let open = base.call(method, &path, body).await.unwrap();
        assert_eq!(open.0, 401, "{method} {path}");
        assert!(path == "/users" || open.1["error_description"] == oauth, "{method} {path}: {}", open.1);
        for bad in [&*short, &forged, &foreign_user, "x", "YWMt.x", ""] {
            let (status, error, words) = refused(&base.with_token(bad), method, &path, body).await;
            assert_eq!(status, 401, "{method} {path} with {bad}");
            assert!(["unauthorized", "auth_bad_access_token"].contains(&&*error), "{error}");
            if bad == short {
                assert_eq!(words, "Unable to authenticate due to expired access token");
            }
        }
    }
    let others = user(&server, "mallory").await;
    let own = base.with_token(&alice);
    for (method, path, body, for_users) in calls(&group) {
        let body = body.as_ref();
        let (status, answer) = others.call(method, &path, body).await.unwrap();
        assert!([401, 403].contains(&status), "{method} {path} by another user: {status} {answer}");
        let (status, answer) = own.call(method, &path, body).await.unwrap();
        assert_eq!(status == 200, for_users, "{method} {path} by the user: {status} {answer}");
        assert!(for_users || status == 401, "{method} {path}: {status} {answer}");
    }
    let app = back_end(&server).await;
    for (method, path, body, _) in calls(&group) {
        if path.ends_with("users?limit=1") {
            continue;
        }
        let (status, answer) = app.call(method, &path, body.as_ref()).await.unwrap();
        let twice =
            path == "/users" || path.ends_with("/users/zoe") || path.contains("/users") && method == "POST";
        assert!(status == 200 || twice && status < 500, "{method} {path} by the back end: {status} {answer}");
    }
}

#[tokio::test]
async fn users_are_registered_one_by_one_and_many_at_once() {
    let mut server = TestServer::start().await;
    let app = back_end(&server).await;
    let open = rest(&server);
    let wish = json!({"username": "Alice", "password": "1", "nickname": "Ali 猫"});
    let answer = app.ok("POST", "/users", Some(&wish)).await.unwrap();
    let entity = &answer["entities"][0];
    assert_eq!(
        (&entity["username"], &entity["nickname"], &entity["activated"]),
        (&json!("alice"), &json!("Ali 猫"), &json!(true))
    );
    assert_eq!((&answer["action"], &answer["path"]), (&json!("post"), &json!("/users")));
    let again = app.ok("GET", "/users/ALICE", None).await.unwrap();
    assert_eq!((&again["entities"][0]["uuid"], &again["count"]), (&entity["uuid"], &json!(1)));
    let (status, error, words) = refused(&app, "POST", "/users", Some(&wish)).await;
    assert_eq!((status, &*error), (400, "duplicate_unique_property_exists"));
    assert!(words.contains("username be unique, value of alice exists"), "{words}");

    let many = json!([{"username": "u1", "password": "1"}, {"username": "alice", "password": "1"}, {"username": "u2"}]);
    let answer = app.ok("POST", "/users", Some(&many)).await.unwrap();
    assert_eq!(answer["entities"].as_array().unwrap().len(), 2);
    assert_eq!(
        answer["data"],
        json!([{"username": "alice", "registerUserFailReason": "the alice already exists"}])
    );
    let too_many: Vec<Value> = (0..61).map(|n| json!({"username": format!("n{n}")})).collect();
    let (status, _, words) = refused(&app, "POST", "/users", Some(&json!(too_many))).await;
    assert_eq!(
        (status, &*words),
        (
            400,
            "Request body array size[61] had almost reached or been greater than the upper range value[60]"
        )
    );
    for (wish, words) in [
        (json!({"username": "a b", "password": "1"}), "username [a b] is not legal"),
        (json!({"username": "a".repeat(65), "password": "1"}), "USERNAME_TOO_LONG"),
        (json!({"password": "1"}), "Entity user requires a property named username"),
        (json!({"username": "v", "password": "1", "nickname": "x".repeat(101)}), "NICKNAME_TOO_LONG"),
    ] {
        assert_eq!(refused(&app, "POST", "/users", Some(&wish)).await, fault(400, "illegal_argument", words));
    }

    let fresh = json!({"username": "v", "password": "1"});
    let (status, error, words) = refused(&open, "POST", "/users", Some(&fresh)).await;
    assert_eq!(
        (status, &*error, &*words),
        (401, "unauthorized", "Open registration doesn't allow, so register user need token")
    );
    server.set(&[("registration_open", "true")]).await;
    open.ok("POST", "/users", Some(&fresh)).await.unwrap();
    let (_, _, words) = refused(&open, "POST", "/users", Some(&json!({"username": "w"}))).await;
    assert_eq!(words, "password or pin must provided");
}

#[tokio::test]
async fn users_are_listed_changed_and_removed() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    for n in 0..12 {
        app.ok("POST", "/users", Some(&json!({"username": format!("u{n}"), "password": "1"}))).await.unwrap();
    }
    let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = app.ok("GET", &format!("/users?limit=5&cursor={cursor}"), None).await.unwrap();
        let entities = page["entities"].as_array().unwrap();
        names.extend(entities.iter().map(|one| one["username"].as_str().unwrap().to_owned()));
        assert_eq!(page["params"]["limit"], json!(["5"]));
        pages += 1;
        match page["cursor"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut cursor),
            _ => break,
        }
    }
    assert_eq!((names, pages), ((0..12).map(|n| format!("u{n}")).collect::<Vec<_>>(), 3));
    let answer = app.ok("DELETE", "/users?limit=2", None).await.unwrap();
    assert_eq!(answer["entities"].as_array().unwrap().len(), 2);
    for gone in ["u0", "u1", "nobody", "no name"] {
        let (status, error, words) =
            refused(&app, "GET", &format!("/users/{}", gone.replace(' ', "%20")), None).await;
        assert_eq!(
            (status, &*error, &*words),
            (404, "service_resource_not_found", "Service resource not found")
        );
    }
    let mut u5 = login(&server, "u5").await;
    let statuses = app
        .ok("POST", "/users/batch/status", Some(&json!({"usernames": ["u5", "U6", "nobody"]})))
        .await
        .unwrap();
    assert_eq!(statuses["data"], json!([{"u5": "online"}, {"U6": "offline"}, {"nobody": "offline"}]));
    assert_eq!(app.ok("GET", "/users/U5/status", None).await.unwrap()["data"], json!({"U5": "online"}));
    u5.settle().await.unwrap();
    let (status, _, words) = refused(&app, "PUT", "/users/u5/password", Some(&json!({}))).await;
    assert_eq!((status, &*words), (400, "newpassword is required"));
    let (status, error, words) =
        refused(&app, "PUT", "/users/nobody/password", Some(&json!({"newpassword": "2"}))).await;
    assert_eq!((status, &*error, &*words), (404, "entity_not_found", "User null not found"));
    let answer = app.ok("PUT", "/users/u5/password", Some(&json!({"newpassword": "2"}))).await.unwrap();
    assert_eq!(answer["action"], "set user password");
    rest(&server).user_token("u5", "2").await.unwrap();
    let answer = app.ok("POST", "/users/u6/deactivate", None).await.unwrap();
    assert_eq!(
        (&answer["action"], &answer["entities"][0]["activated"]),
        (&json!("Deactivate user"), &json!(false))
    );
    let answer = app.ok("POST", "/users/u6/activate", None).await.unwrap();
    assert_eq!(answer["action"], "activate user");
    rest(&server).user_token("u6", "1").await.unwrap();
}

#[tokio::test]
async fn tokens_live_until_the_password_changes_and_app_tokens_until_the_secret_does() {
    let mut server = TestServer::start().await;
    let app = back_end(&server).await;
    app.ok("POST", "/users", Some(&json!({"username": "alice", "password": "1"}))).await.unwrap();
    let first = rest(&server).user_token("alice", "1").await.unwrap();
    let second = rest(&server).user_token("alice", "1").await.unwrap();
    let works = async |token: &str| {
        rest(&server).with_token(token).call("GET", "/users/alice/user_channels", None).await.unwrap().0
    };
    assert_eq!(
        (works(&first).await, works(&second).await),
        (200, 200),
        "a new token does not end the old one"
    );
    app.ok("PUT", "/users/alice/password", Some(&json!({"newpassword": "2"}))).await.unwrap();
    assert_eq!((works(&first).await, works(&second).await), (401, 401));
    let third = rest(&server).user_token("alice", "2").await.unwrap();
    app.ok("POST", "/users/alice/deactivate", None).await.unwrap();
    assert_eq!(works(&third).await, 401);

    server.app.keys.insert("easemob.client_secret".to_owned(), "another secret".to_owned());
    let store = server.server.posthouse.store();
    assert_eq!(store.replace_app(server.app.clone(), &[]).await, Ok(true));
    server.server.posthouse.reload_apps().await.unwrap();
    assert_eq!(refused(&app, "GET", "/users?limit=1", None).await.0, 401);
    back_end(&server).await.ok("GET", "/users?limit=1", None).await.unwrap();
}

#[tokio::test]
async fn a_user_who_is_removed_leaves_the_name_to_another() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    let mut alice = login(&server, "alice").await;
    let mut bob = login(&server, "bob").await;
    let to = alice.person("bob");
    alice.say(&to, "hi").await.unwrap();
    bob.next().await.unwrap();
    let groups = group(&server, "alice", &["bob"]).await;
    app.ok("DELETE", "/users/alice", None).await.unwrap();
    assert_eq!(
        app.call("GET", &format!("/chatgroups/{groups}"), None).await.unwrap().0,
        404,
        "a group ends with its owner"
    );
    let newcomer = user(&server, "alice").await;
    assert_eq!(crate::stage::list(&newcomer, "alice").await, [Value::Null; 0]);
    assert_eq!(
        said(&newcomer, "alice", &with("bob")).await,
        [""; 0],
        "what another said is not the newcomer's"
    );
    let mut again = arrive(&server, "alice", WEB).await;
    assert_eq!(texts(&again.sync().await.unwrap()), [""; 0]);
    let to = again.person("bob");
    again.say(&to, "I am new").await.unwrap();
    assert_eq!(texts(&crate::stage::news(&mut bob).await), ["I am new"]);
    leave(&server, again).await;
}

#[tokio::test]
async fn a_back_end_sends_every_kind_to_many() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    let group = group(&server, "alice", &["bob"]).await;
    let mut bob = login(&server, "bob").await;
    let mut carol = login(&server, "carol").await;
    let message = json!({"from": "Alice", "to": ["bob", "carol", "stranger"], "type": "txt", "body": {"msg": "hi"}, "ext": {"k": {"a": 1}}});
    let answer = app.ok("POST", "/messages/users", Some(&message)).await.unwrap();
    let data = answer["data"].as_object().unwrap();
    assert_eq!(data.len(), 3);
    let mut ids: Vec<&str> = data.values().map(|id| id.as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each has its own");
    for device in [&mut bob, &mut carol] {
        let got = device.next().await.unwrap();
        assert_eq!((texts(&got), crate::stage::name(got[0].from.as_ref())), (vec!["hi".to_owned()], "alice"));
        let body = posthouse::peer::easemob::body_of(&got[0]).unwrap();
        assert_eq!(posthouse_easemob::wire::bodies::attributes(&body.ext)["k"], json!({"a": 1}));
    }
    let to_group = json!({"from": "alice", "to": [group], "type": "custom", "body": {"customEvent": "e", "customExts": {"a": "b"}}});
    let answer = app.ok("POST", "/messages/chatgroups", Some(&to_group)).await.unwrap();
    assert!(answer["data"][&group].is_string(), "{answer}");
    assert!(!bob.next().await.unwrap().is_empty());
    for (kind, body) in [
        (
            "img",
            json!({"url": "https://x.example/a/b/chatfiles/1", "filename": "a.png", "size": {"width": 1, "height": 2}}),
        ),
        ("audio", json!({"url": "https://x.example/a/b/chatfiles/1", "Length": 3})),
        ("video", json!({"url": "https://x.example/a/b/chatfiles/1", "thumb": "https://x.example/t"})),
        ("file", json!({"url": "https://x.example/a/b/chatfiles/1"})),
        ("loc", json!({"lat": "39.9", "lng": 116.4, "addr": "here"})),
        ("cmd", json!({"action": "jump"})),
    ] {
        let message = json!({"to": ["bob"], "type": kind, "body": body});
        app.ok("POST", "/messages/users", Some(&message)).await.unwrap();
        let got = crate::stage::until(&mut bob, |meta| meta.ns == Some(1)).await;
        assert_eq!(crate::stage::name(got.from.as_ref()), "admin", "the default sender");
    }
    let online = json!({"from": "alice", "to": ["bob", "dave"], "type": "txt", "body": {"msg": "now"}, "routetype": "ROUTE_ONLINE"});
    app.ok("POST", "/messages/users", Some(&online)).await.unwrap();
    assert!(!bob.push().await.unwrap().metas.is_empty());
    let mut dave = arrive(&server, "dave", WEB).await;
    assert_eq!(texts(&dave.sync().await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn messages_that_cannot_be_sent_are_refused_whole() {
    let mut server = TestServer::start().await;
    server.set(&[("message_bytes_max", "1000")]).await;
    let app = back_end(&server).await;
    let mut bob = login(&server, "bob").await;
    let many: Vec<String> = (0..601).map(|n| format!("n{n}")).collect();
    let message = |field: &str, value: Value| {
        let mut message = json!({"from": "alice", "to": ["bob"], "type": "txt", "body": {"msg": "hi"}});
        match value {
            Value::Null => drop(message.as_object_mut().unwrap().remove(field)),
            value => message[field] = value,
        }
        message
    };
    for (message, words) in [
        (message("from", json!("")), "param from can't be empty"),
        (message("to", Value::Null), "param to can't be empty"),
        (message("to", json!([])), "param to can't be empty"),
        (message("type", Value::Null), "param type can't be empty"),
        (message("body", Value::Null), "param body can't be empty"),
        (message("ext", json!("x")), "param ext must be JSONObject"),
        (message("to", json!(many)), "params to's size can't exceed limit 600"),
        (message("body", json!({"msg": "x".repeat(2_000)})), "message is too large"),
    ] {
        let got = refused(&app, "POST", "/messages/users", Some(&message)).await;
        assert_eq!(got, fault(400, "message_send_error", words));
    }
    for bad in [
        message("to", json!("bob")),
        message("to", json!([7])),
        message("from", json!(7)),
        message("type", json!("nonsense")),
        message("body", json!("hi")),
        message("body", json!({})),
    ] {
        assert_eq!(refused(&app, "POST", "/messages/users", Some(&bad)).await.0, 400, "{bad}");
    }
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
    send_by_rest(&app, "alice", "bob", "fine").await;
    assert_eq!(texts(&bob.next().await.unwrap()), ["fine"]);
    assert_eq!(
        refused(&rest_of(&server, &server.app), "POST", "/messages/users", Some(&json!({}))).await.0,
        401
    );
}

#[tokio::test]
async fn the_old_form_of_sending_still_works() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    let mut bob = login(&server, "bob").await;
    let message = |target_type: &str| json!({"target_type": target_type, "target": ["bob"], "msg": {"type": "txt", "msg": "hi"}, "from": "u1", "ext": {}});
    let answer = app.ok("POST", "/messages", Some(&message("users"))).await.unwrap();
    assert_eq!(answer["data"], json!({"bob": "success"}));
    let answer = app.ok("POST", "/messages?useMsgId=true", Some(&message("users"))).await.unwrap();
    let id: u64 = answer["data"]["bob"].as_str().unwrap().parse().unwrap();
    let got = crate::stage::news(&mut bob).await;
    assert_eq!((texts(&got), crate::stage::ids(&got)[1]), (vec!["hi".to_owned(); 2], id));
    let expected =
        fault(400, "illegal_argument", "target_type can only be 'users' or 'chatgroups' or 'chatrooms'");
    assert_eq!(refused(&app, "POST", "/messages", Some(&message("people"))).await, expected);
    let mut anonymous = message("users");
    anonymous["from"] = json!("");
    let expected = fault(400, "illegal_argument", "from can't be empty");
    assert_eq!(refused(&app, "POST", "/messages", Some(&anonymous)).await, expected);
}

#[tokio::test]
async fn what_back_ends_cannot_have_is_refused_and_not_ignored() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    let mut bob = login(&server, "bob").await;
    let hidden = json!({"from": "alice", "to": ["bob"], "type": "txt", "body": {"msg": "x"}, "roam_ignore_users": ["bob"]});
    let fetched = json!({"from": "alice", "target": "bob", "type": "img", "body": {"url": "http://127.0.0.1/x"}, "need_download": true});
    for (path, wish) in
        [("/messages/users", &hidden), ("/messages/users/import", &fetched), ("/messages/chatrooms", &hidden)]
    {
        let (status, error, _) = refused(&app, "POST", path, Some(wish)).await;
        assert_eq!((status, &*error), (403, "function_not_open_error"), "{path}");
    }
    bob.settle().await.unwrap();
    assert_eq!(bob.kept_notices(), 0);
}

#[tokio::test]
async fn many_passwords_at_once_are_checked_or_put_off_but_none_is_lost() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    app.ok("POST", "/users", Some(&json!({"username": "alice", "password": "1"}))).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..40 {
        let rest = rest(&server);
        let password = if n % 2 == 0 { "1" } else { "2" };
        let wish = json!({"grant_type": "password", "username": "alice", "password": password});
        asking.spawn(async move { (password, rest.call("POST", "/token", Some(&wish)).await.unwrap()) });
    }
    let mut right = 0;
    while let Some(done) = asking.join_next().await {
        let (password, (status, answer)) = done.unwrap();
        assert!(answer.is_object());
        match status {
            200 => {
                assert_eq!(password, "1");
                right += 1;
            }
            400 => assert_eq!((password, &answer["error_description"]), ("2", &json!("invalid password"))),
            // SDKs read these as "server is busy".
            429 | 503 => {}
            other => panic!("{other} {answer}"),
        }
    }
    assert!(right > 0);
    rest(&server).user_token("alice", "1").await.unwrap();
}

#[tokio::test]
async fn of_many_who_register_one_name_one_gets_it() {
    let server = TestServer::start().await;
    let app = back_end(&server).await;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..12 {
        let app = app.clone();
        let wish = if n % 2 == 0 {
            ("/users", json!({"username": "alice"}))
        } else {
            ("/token", json!({"grant_type": "inherit", "username": "alice", "autoCreateUser": true}))
        };
        asking.spawn(async move { (wish.0, app.call("POST", wish.0, Some(&wish.1)).await.unwrap()) });
    }
    let mut registered = 0;
    while let Some(done) = asking.join_next().await {
        let (path, (status, answer)) = done.unwrap();
        assert!([200, 400, 409].contains(&status), "{path}: {status} {answer}");
        registered += usize::from(path == "/users" && status == 200);
    }
    assert!(registered <= 1);
    let listed = app.ok("GET", "/users?limit=10", None).await.unwrap();
    assert_eq!(listed["entities"].as_array().unwrap().len(), 1);
}
