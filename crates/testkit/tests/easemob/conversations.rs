//! The conversation list on the server: reading it, pins and marks, and deleting conversations
//! (rest 5.2 to 5.6, client 7.2).

use posthouse::peer::easemob::{Device, Rest};
use posthouse_easemob::wire::bodies::key_value;
use posthouse_easemob::wire::proto::message_body::Content;
use posthouse_easemob::wire::proto::message_body::content::{Size, SubType, Type as ContentType};
use posthouse_easemob::wire::proto::{KeyValue, MessageBody};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::stage::{
    DAY_MS, PHONE, WEB, alice_and_bob, app_key, arrive, back_end, channels, group, leave, lines, list, login,
    login_on, name, newest, news, notify_of, refused, said, send_by_rest, texts, token, unread, until_notify,
    user, with, within,
};

async fn unpaged(rest: &Rest, me: &str) -> Vec<Value> {
    lines(&rest.ok("GET", &format!("/users/{me}/user_channels"), None).await.unwrap())
}

async fn paged(rest: &Rest, me: &str, number: usize, size: usize) -> Vec<Value> {
    let path = format!("/users/{me}/user_channels/page?pageNum={number}&pageSize={size}");
    lines(&rest.ok("GET", &path, None).await.unwrap())
}

/// A page of the cursor list, with more parameters; its lines and the next cursor.
async fn after(rest: &Rest, me: &str, limit: usize, cursor: &str, more: &str) -> (Vec<Value>, String) {
    let path = format!(
        "/sdk/user/{me}/user_channels/list?&limit={limit}&cursor={cursor}&need_mark=true&needEmptySession=false{more}&_v=1"
    );
    let answer = rest.ok("GET", &path, None).await.unwrap();
    (lines(&answer), answer["data"]["cursor"].as_str().unwrap().to_owned())
}

/// Alice says something to so many people, a second apart; `p0` is the oldest.
async fn many(server: &TestServer, alice: &mut Device, count: usize) {
    for n in 0..count {
        let to = alice.person(&format!("p{n}"));
        alice.say(&to, &n.to_string()).await.unwrap();
        server.clock.advance_ms(1_000);
    }
}

fn people(newest: usize, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("p{}", newest - n)).collect()
}

#[tokio::test]
async fn sending_puts_the_other_into_both_lists() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    alice.say(&to, "first").await.unwrap();
    server.clock.advance_ms(5);
    let meta = alice.meta(
        &to,
        MessageBody {
            contents: vec![Content { r#type: Some(0), text: Some("last".to_owned()), ..Content::default() }],
            ext: vec![key_value("k", &json!({"a": [1]})), key_value("n", &json!(3))],
            ..alice.body(&to)
        },
    );
    let sent = alice.post_ok(meta).await.unwrap();
    let app = app_key(&server);
    for (me, peer, unread) in [("alice", "bob", 0), ("bob", "alice", 2)] {
        let rest = user(&server, me).await;
        for lines in [unpaged(&rest, me).await, list(&rest, me).await] {
            assert_eq!(lines.len(), 1);
            let line = &lines[0];
            assert_eq!(line["channel_id"], format!("{app}_{peer}@easemob.com"));
            assert_eq!(line["unread_num"], unread);
            let meta = &line["meta"];
            assert_eq!(meta["id"], sent.id.to_string());
            assert_eq!(meta["from"], format!("{app}_alice@easemob.com"));
            assert_eq!(meta["to"], format!("{app}_bob@easemob.com"));
            assert_eq!(meta["timestamp"], sent.at);
            let payload: Value = serde_json::from_str(meta["payload"].as_str().unwrap()).unwrap();
            assert_eq!(payload["bodies"], json!([{"type": "txt", "msg": "last"}]));
            assert_eq!(payload["ext"], json!({"k": {"a": [1]}, "n": 3}));
            assert_eq!(
                (&payload["from"], &payload["to"], &payload["type"]),
                (&json!("alice"), &json!("bob"), &json!("chat"))
            );
        }
        let (lines, cursor) = after(&rest, me, 20, "", "").await;
        assert_eq!((lines.len(), &*cursor), (1, ""));
        assert_eq!((&lines[0]["session_to"], &lines[0]["session_type"]), (&json!(peer), &json!("chat")));
        assert_eq!(
            (&lines[0]["unread_num"], &lines[0]["is_top"], &lines[0]["marks"]),
            (&json!(unread), &json!(false), &json!([]))
        );
        assert_eq!(lines[0]["meta"]["id"], sent.id.to_string());
    }
}

#[tokio::test]
async fn groups_are_listed_for_every_member() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let mut alice = login(&server, "alice").await;
    assert_eq!(list(&user(&server, "bob").await, "bob").await.len(), 0, "nothing was said yet");
    let to = alice.group(&group);
    alice.say(&to, "hi all").await.unwrap();
    for (me, count) in [("alice", 0), ("bob", 1), ("carol", 1)] {
        let rest = user(&server, me).await;
        let lines = list(&rest, me).await;
        assert_eq!(lines[0]["channel_id"], format!("{}_{group}@conference.easemob.com", app_key(&server)));
        assert_eq!((lines[0]["unread_num"].as_u64(), newest(&lines[0])), (Some(count), "hi all".to_owned()));
        assert_eq!(lines[0]["meta"]["to"], format!("{}_{group}@conference.easemob.com", app_key(&server)));
        let payload: Value = serde_json::from_str(lines[0]["meta"]["payload"].as_str().unwrap()).unwrap();
        assert_eq!((&payload["type"], &payload["to"]), (&json!("groupchat"), &json!(group)));
        let (lines, _) = after(&rest, me, 20, "", "").await;
        assert_eq!(
            (&lines[0]["session_to"], &lines[0]["session_type"]),
            (&json!(group), &json!("groupChat"))
        );
    }
}

#[tokio::test]
async fn the_unpaged_list_has_ten_of_the_last_seven_days_unless_set_otherwise() {
    let mut server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let rest = user(&server, "alice").await;
    many(&server, &mut alice, 12).await;
    assert_eq!(channels(&unpaged(&rest, "alice").await), people(11, 10));
    server.set(&[("conversation_list_default_count", "11")]).await;
    assert_eq!(channels(&unpaged(&rest, "alice").await), people(11, 11));
    server.clock.advance_ms(6 * DAY_MS);
    let old = alice.person("p3");
    alice.say(&old, "again").await.unwrap();
    server.clock.advance_ms(DAY_MS + 1);
    assert_eq!(channels(&unpaged(&rest, "alice").await), ["p3"]);
    server.set(&[("conversation_list_window_days", "30")]).await;
    assert_eq!(unpaged(&rest, "alice").await.len(), 11);
    // The paged list has no such window.
    server.set(&[("conversation_list_window_days", "7")]).await;
    server.clock.advance_ms(300 * DAY_MS);
    let rest = user(&server, "alice").await;
    assert_eq!(list(&rest, "alice").await.len(), 12);
}

#[tokio::test]
async fn pages_have_one_to_twenty_lines_and_join() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let rest = user(&server, "alice").await;
    many(&server, &mut alice, 130).await;
    assert_eq!(channels(&paged(&rest, "alice", 1, 1).await), ["p129"]);
    assert_eq!(channels(&paged(&rest, "alice", 3, 1).await), ["p127"]);
    let mut all = Vec::new();
    for number in 1..=7 {
        all.extend(channels(&paged(&rest, "alice", number, 20).await));
    }
    assert_eq!(all, people(129, 130), "nobody is dropped after a hundred");
    for past in [8, 9, 1_000, 4_000_000_000] {
        assert_eq!(paged(&rest, "alice", past, 20).await, [Value::Null; 0]);
    }
    let mut all = Vec::new();
    for number in 1..=19 {
        all.extend(channels(&paged(&rest, "alice", number, 7).await));
    }
    assert_eq!(all, people(129, 130));
}

#[tokio::test]
async fn other_pages_are_refused() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    many(&server, &mut alice, 1).await;
    let rest = user(&server, "alice").await;
    for bad in [
        "pageNum=0&pageSize=10",
        "pageNum=-1&pageSize=10",
        "pageNum=1&pageSize=0",
        "pageNum=1&pageSize=21",
        "pageNum=1&pageSize=-5",
        "pageNum=1&pageSize=99999999999999999999",
        "pageNum=x&pageSize=10",
        "pageNum=1&pageSize=x",
        "pageNum=1.5&pageSize=10",
        "pageNum=1&pageSize=1e1",
        "pageNum=&pageSize=10",
        "pageNum=undefined&pageSize=undefined",
        "pageSize=10",
        "pageNum=1",
        "",
    ] {
        let (status, error, _) =
            refused(&rest, "GET", &format!("/users/alice/user_channels/page?{bad}"), None).await;
        assert_eq!((status, &*error), (400, "illegal_argument"), "{bad}");
    }
    for bad in ["limit=0", "limit=51", "limit=x", "limit=20&cursor=nonsense", "limit=20&cursor=%F0%9F%91%8D"]
    {
        let path = format!("/sdk/user/alice/user_channels/list?{bad}");
        let (status, _, _) = refused(&rest, "GET", &path, None).await;
        assert_eq!(status, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_cursor_walks_through_everything_once() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let rest = user(&server, "alice").await;
    many(&server, &mut alice, 23).await;
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let (lines, next) = after(&rest, "alice", 10, &cursor, "").await;
        assert!(
            next.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.'),
            "{next}"
        );
        all.extend(channels(&lines));
        // What moves up meanwhile is not seen twice below.
        let top = alice.person("p22");
        alice.say(&top, "again").await.unwrap();
        if next.is_empty() {
            break;
        }
        cursor = next;
    }
    assert_eq!(all, people(22, 23));
    let (lines, next) = after(&rest, "alice", 23, "", "").await;
    assert_eq!((lines.len(), &*next), (23, ""));
}

#[tokio::test]
async fn groups_without_a_message_are_listed_on_demand() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let rest = user(&server, "bob").await;
    let path = "/sdk/user/bob/user_channels/list?limit=20&needEmptySession=true";
    let lines = lines(&rest.ok("GET", path, None).await.unwrap());
    assert_eq!(channels(&lines), [group]);
    assert_eq!(newest(&lines[0]), "");
}

#[tokio::test]
async fn every_content_has_its_json() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    let rest = user(&server, "bob").await;
    let part = |of: ContentType| Content { r#type: Some(of.into()), ..Content::default() };
    let file = |of| Content {
        display_name: Some("a.bin".to_owned()),
        remote_path: Some("https://im.example/a/b/chatfiles/1".to_owned()),
        secret_key: Some("s3".to_owned()),
        file_length: Some(42),
        ..part(of)
    };
    let size = Some(Size { width: Some(170.0), height: Some(100.0) });
    let pair = |key: &str, value: &str| -> KeyValue { key_value(key, &json!(value)) };
    for (content, expected) in [
        (
            Content { size, ..file(ContentType::Image) },
            json!({"type": "img", "url": "https://im.example/a/b/chatfiles/1", "secret": "s3", "filename": "a.bin",
                   "file_length": 42, "size": {"width": 170, "height": 100}}),
        ),
        (
            Content { sub_type: Some(SubType::SubGif.into()), ..file(ContentType::Image) },
            json!({"type": "img", "subType": "sub_gif"}),
        ),
        (
            Content {
                duration: Some(7),
                thumbnail_remote_path: Some("https://x/t".to_owned()),
                ..file(ContentType::Video)
            },
            json!({"type": "video", "length": 7, "thumb": "https://x/t", "file_length": 42}),
        ),
        (
            Content { duration: Some(3), ..file(ContentType::Voice) },
            json!({"type": "audio", "length": 3, "filename": "a.bin"}),
        ),
        (
            file(ContentType::File),
            json!({"type": "file", "filename": "a.bin", "file_length": 42, "secret": "s3"}),
        ),
        (
            Content {
                latitude: Some(39.5),
                longitude: Some(116.25),
                address: Some("here".to_owned()),
                building_name: Some("tower".to_owned()),
                ..part(ContentType::Location)
            },
            json!({"type": "loc", "lat": 39.5, "lng": 116.25, "addr": "here", "buildingName": "tower"}),
        ),
        (
            Content {
                custom_event: Some("gift".to_owned()),
                custom_exts: vec![pair("name", "flower"), pair("n", "16")],
                ..part(ContentType::Custom)
            },
            json!({"type": "custom", "customEvent": "gift", "customExts": [{"name": "flower"}, {"n": "16"}]}),
        ),
        (
            Content {
                sub_type: Some(SubType::SubCombine.into()),
                title: Some("t".to_owned()),
                summary: Some("s".to_owned()),
                text: Some("old".to_owned()),
                combine_level: Some(1),
                ..file(ContentType::Text)
            },
            json!({"type": "txt", "subType": "sub_combine", "msg": "old", "title": "t", "summary": "s",
                   "url": "https://im.example/a/b/chatfiles/1", "combineLevel": 1}),
        ),
    ] {
        server.clock.advance_ms(1);
        let meta = alice.meta(&to, MessageBody { contents: vec![content], ..alice.body(&to) });
        alice.post_ok(meta).await.unwrap();
        let payload = list(&rest, "bob").await[0]["meta"]["payload"].as_str().unwrap().to_owned();
        let payload: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(payload["ext"], json!({}), "SDKs read it without asking");
        let body = &payload["bodies"][0];
        for (key, value) in expected.as_object().unwrap() {
            let same =
                &body[key] == value || body[key].as_f64().is_some() && body[key].as_f64() == value.as_f64();
            let same = same || key == "size" && body[key]["width"].as_f64() == Some(170.0);
            assert!(same, "{key}: {body}");
        }
    }
}

#[tokio::test]
async fn a_list_is_its_owners_alone() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let to = alice.person("bob");
    alice.say(&to, "hi").await.unwrap();
    let mallory = user(&server, "mallory").await;
    for path in [
        "/users/alice/user_channels",
        "/user/alice/user_channels",
        "/users/alice/user_channels/page?pageNum=1&pageSize=20",
        "/sdk/user/alice/user_channels/list?limit=20",
        "/sdk/user/alice/user_channels/mark/search?limit=10&mark=mark_1",
    ] {
        assert_eq!(refused(&mallory, "GET", path, None).await.0, 401, "{path}");
    }
    let wish = json!({"channel": "bob", "type": "chat", "delete_roam": true});
    assert_eq!(refused(&mallory, "DELETE", "/user/alice/user_channel", Some(&wish)).await.0, 401);
    // Its own deletion of what it is no part of changes nothing.
    let theirs = group(&server, "alice", &["bob"]).await;
    let to = alice.group(&theirs);
    alice.say(&to, "hi").await.unwrap();
    for (channel, kind) in [("alice", "chat"), ("bob", "chat"), (&*theirs, "groupChat")] {
        let wish = json!({"channel": channel, "type": kind, "delete_roam": true});
        mallory.ok("DELETE", "/user/mallory/user_channel", Some(&wish)).await.unwrap();
    }
    assert_eq!(said(&user(&server, "bob").await, "bob", &within(&theirs)).await, ["hi"]);
    assert_eq!(said(&user(&server, "bob").await, "bob", &with("alice")).await, ["hi"]);
    // The back end may read everybody's, in any case of letters.
    assert_eq!(list(&back_end(&server).await, "Alice").await.len(), 2);
    assert_eq!(refused(&back_end(&server).await, "GET", "/users/nobody/user_channels", None).await.0, 404);
}

#[tokio::test]
async fn messages_of_a_back_end_change_the_list_as_the_app_wants() {
    let mut server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let rest = user(&server, "bob").await;
    let back_end = back_end(&server).await;
    let to = alice.person("bob");
    alice.say(&to, "from the client").await.unwrap();
    server.clock.advance_ms(10);
    send_by_rest(&back_end, "alice", "bob", "from the back end").await;
    send_by_rest(&back_end, "robot", "bob", "beep").await;
    let shown = async || {
        let lines = list(&rest, "bob").await;
        channels(&lines).into_iter().zip(lines.iter().map(newest)).collect::<Vec<_>>()
    };
    let line = |peer: &str, text: &str| (peer.to_owned(), text.to_owned());
    assert_eq!(shown().await, [], "not while the newest came by REST");
    server.set(&[("rest_messages_in_conversation_list", "ignore")]).await;
    assert_eq!(shown().await, [line("alice", "from the client")]);
    server.set(&[("rest_messages_in_conversation_list", "write")]).await;
    let mut all = shown().await;
    all.sort();
    assert_eq!(all, [line("alice", "from the back end"), line("robot", "beep")]);
    server.set(&[("rest_messages_in_conversation_list", "exclude")]).await;
    server.clock.advance_ms(10);
    alice.say(&to, "follows").await.unwrap();
    assert_eq!(shown().await, [line("alice", "follows")]);
    // History has them in every mode.
    assert_eq!(said(&rest, "bob", &with("alice")).await, ["follows", "from the back end", "from the client"]);
    assert_eq!(said(&rest, "bob", &with("robot")).await, ["beep"]);
}

#[tokio::test]
async fn messages_of_a_back_end_are_unread_only_where_they_count() {
    let mut server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let rest = user(&server, "bob").await;
    let back_end = back_end(&server).await;
    let to = alice.person("bob");
    for (mode, expected) in [("exclude", 2), ("ignore", 4), ("write", 7)] {
        server.set(&[("rest_messages_in_conversation_list", mode)]).await;
        server.clock.advance_ms(1);
        alice.say(&to, "1").await.unwrap();
        server.clock.advance_ms(1);
        send_by_rest(&back_end, "alice", "bob", "2").await;
        server.clock.advance_ms(1);
        alice.say(&to, "3").await.unwrap();
        assert_eq!(unread(&rest, "bob", "alice").await, Some(expected), "{mode}");
    }
}

#[tokio::test]
async fn texts_of_any_kind_are_good_json() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let rest = user(&server, "bob").await;
    let to = alice.person("bob");
    for text in [
        "",
        "\"quoted\" \\ back",
        "line\nbreak\ttab\u{0}\u{1f}\u{7f}",
        "\u{2028}\u{FEFF}猫\u{1F600}",
        "</script>",
        "{}",
    ] {
        server.clock.advance_ms(1);
        alice.say(&to, text).await.unwrap();
        let lines = list(&rest, "bob").await;
        assert_eq!(newest(&lines[0]), text);
        assert_eq!(said(&rest, "bob", &with("alice")).await[0], text);
    }
}

#[tokio::test]
async fn imported_messages_make_conversations() {
    let server = TestServer::start().await;
    let rest = user(&server, "bob").await;
    token(&server, "alice").await;
    let back_end = back_end(&server).await;
    for (n, read) in [(1, true), (2, false)] {
        let import = json!({"from": "alice", "target": "bob", "type": "txt", "body": {"msg": n.to_string()},
            "is_ack_read": read, "msg_timestamp": server.now().0 - 1_000 + n});
        let answer = back_end.ok("POST", "/messages/users/import", Some(&import)).await.unwrap();
        assert!(answer["data"]["msg_id"].as_str().is_some(), "{answer}");
    }
    let lines = list(&rest, "bob").await;
    assert_eq!((channels(&lines), newest(&lines[0])), (vec!["alice".to_owned()], "2".to_owned()));
    // Not as on the hosted cloud, where `is_ack_read` decides: see docs/wire/easemob.md.
    assert_eq!(lines[0]["unread_num"], 0);
    let mut bob = arrive(&server, "bob", WEB).await;
    assert_eq!(texts(&bob.sync().await.unwrap()), [""; 0], "imports are no news");
}

// ---- pins and marks ---------------------------------------------------------------------------------

#[tokio::test]
async fn pins_have_their_own_list_and_other_devices_hear_of_them() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    many(&server, &mut alice, 3).await;
    let group = group(&server, "alice", &[]).await;
    let to = alice.group(&group);
    alice.say(&to, "hi").await.unwrap();
    news(&mut phone).await;
    news(&mut alice).await;
    let rest = user(&server, "alice").await;
    let top = format!("/sdk/user/alice/user_channel/top?resource={WEB}");
    for (kind, to) in [("chat", "p0"), ("groupChat", &group), ("chat", "p2")] {
        let answer = rest.ok("POST", &top, Some(&json!({"type": kind, "to": to}))).await.unwrap();
        assert_eq!(answer["data"]["is_top"], true);
        assert_eq!(answer["data"]["update_top_status_time"], server.now().0);
        server.clock.advance_ms(1);
        let heard = until_notify(&mut phone, "conv").await;
        let data = &heard["data"];
        assert_eq!(
            (&data["op"], &data["res"], &data["from"]),
            (&json!("top"), &json!(WEB), &json!("alice")),
            "{heard}"
        );
    }
    assert!(news(&mut alice).await.iter().all(|meta| notify_of(meta).is_none()), "it did it itself");
    let (lines, _) = after(&rest, "alice", 20, "", "&is_top=true").await;
    assert_eq!(channels(&lines), ["p2", &*group, "p0"], "the newest pin first");
    assert!(lines.iter().all(|line| line["is_top"] == true));
    // The plain list is not touched.
    assert_eq!(channels(&list(&rest, "alice").await), [&*group, "p2", "p1", "p0"]);
    let gone = format!("/sdk/user/alice/user_channel/top?type=chat&to=p0&resource={WEB}");
    assert_eq!(rest.ok("DELETE", &gone, None).await.unwrap()["data"]["is_top"], false);
    assert_eq!(until_notify(&mut phone, "conv").await["data"]["op"], "not_top");
    let (lines, _) = after(&rest, "alice", 20, "", "&is_top=true").await;
    assert_eq!(channels(&lines), ["p2", &*group]);
    let (status, answer) =
        rest.call("POST", &top, Some(&json!({"type": "chat", "to": "nobody"}))).await.unwrap();
    assert_eq!((status, answer["error_code"].as_u64()), (404, Some(91_001)));
    assert_eq!(refused(&rest, "POST", &top, Some(&json!({"type": "chat"}))).await.0, 400);
}

#[tokio::test]
async fn marks_are_set_searched_and_taken_away() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    many(&server, &mut alice, 3).await;
    news(&mut phone).await;
    let rest = user(&server, "alice").await;
    let path = format!("/sdk/user/alice/user_channels/mark?resource={WEB}");
    let targets =
        json!([{"to": "p0", "type": "chat"}, {"to": "p2", "type": "chat"}, {"to": "nobody", "type": "chat"}]);
    let answer = rest.ok("POST", &path, Some(&json!({"mark": "mark_3", "targets": targets}))).await.unwrap();
    assert_eq!(answer["data"]["ignore"], json!([{"to": "nobody", "type": "chat"}]));
    let heard = until_notify(&mut phone, "conv").await;
    assert_eq!((&heard["data"]["op"], &heard["data"]["ext"]), (&json!("mark"), &json!("mark_3")));
    let search = async |mark: &str| {
        let path =
            format!("/sdk/user/alice/user_channels/mark/search?&limit=10&cursor=&need_mark=true&mark={mark}");
        lines(&rest.ok("GET", &path, None).await.unwrap())
    };
    let found = search("mark_3").await;
    assert_eq!(channels(&found), ["p2", "p0"]);
    assert_eq!(found[0]["marks"], json!(["mark_3"]));
    assert_eq!(search("mark_4").await.len(), 0);
    let (listed, _) = after(&rest, "alice", 20, "", "").await;
    assert_eq!(listed[1]["marks"], json!([]));
    let wish = json!({"mark": "mark_3", "targets": [{"to": "p0", "type": "chat"}]});
    rest.ok("DELETE", &path, Some(&wish)).await.unwrap();
    assert_eq!(channels(&search("mark_3").await), ["p2"]);
    for (mark, words) in [
        ("", "param mark must be not empty, please check!"),
        ("mark_20", "param mark illegal, please check it!"),
        ("x", "param mark illegal, please check it!"),
    ] {
        let wish = json!({"mark": mark, "targets": [{"to": "p0", "type": "chat"}]});
        let (status, _, said) = refused(&rest, "POST", &path, Some(&wish)).await;
        assert_eq!((status, &*said), (400, words));
    }
    let many: Vec<Value> = (0..21).map(|n| json!({"to": format!("p{n}"), "type": "chat"})).collect();
    assert_eq!(refused(&rest, "POST", &path, Some(&json!({"mark": "mark_1", "targets": many}))).await.0, 400);
}

// ---- deleting ---------------------------------------------------------------------------------------

async fn delete(rest: &Rest, me: &str, channel: &str, kind: &str, with_messages: bool) {
    let wish = json!({"channel": channel, "type": kind, "delete_roam": with_messages});
    let path = format!("/user/{me}/user_channel?resource={WEB}");
    let answer = rest.ok("DELETE", &path, Some(&wish)).await.unwrap();
    assert_eq!(answer["data"]["result"], "ok");
}

#[tokio::test]
async fn a_deleted_conversation_is_gone_for_everybody_until_the_next_message() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let to = alice.person("bob");
    alice.say(&to, "old").await.unwrap();
    news(&mut bob).await;
    delete(&alices, "alice", "bob", "chat", false).await;
    assert_eq!((list(&alices, "alice").await.len(), list(&bobs, "bob").await.len()), (0, 0));
    assert_eq!(unpaged(&bobs, "bob").await.len(), 0);
    // Without its messages: they stay readable.
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["old"]);
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["old"]);
    server.clock.advance_ms(1);
    let back = bob.person("alice");
    bob.say(&back, "new").await.unwrap();
    assert_eq!(channels(&list(&alices, "alice").await), ["bob"]);
    assert_eq!(channels(&list(&bobs, "bob").await), ["alice"]);
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["new", "old"]);
    assert_eq!(unread(&alices, "alice", "bob").await, Some(1), "deleting resets the number");
}

#[tokio::test]
async fn with_its_messages_they_are_gone_for_everybody_and_everywhere() {
    let server = TestServer::start().await;
    let (mut alice, bob) = alice_and_bob(&server).await;
    leave(&server, bob).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let to = alice.person("bob");
    for n in 0..3 {
        alice.say(&to, &n.to_string()).await.unwrap();
    }
    delete(&alices, "alice", "bob", "chat", true).await;
    for (rest, me, peer) in [(&alices, "alice", "bob"), (&bobs, "bob", "alice")] {
        assert_eq!(list(rest, me).await.len(), 0);
        assert_eq!(said(rest, me, &with(peer)).await, [""; 0]);
    }
    server.clock.advance_ms(1);
    alice.say(&to, "new").await.unwrap();
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["new"]);
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(1));
    // Who was away doesn't get them any more either.
    let mut bob = arrive(&server, "bob", WEB).await;
    assert_eq!(texts(&bob.sync().await.unwrap()), ["new"]);
}

#[tokio::test]
async fn an_app_may_let_each_delete_for_itself_alone() {
    let mut server = TestServer::start().await;
    server.set(&[("conversation_delete_scope", "self")]).await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let to = alice.person("bob");
    alice.say(&to, "old").await.unwrap();
    delete(&alices, "alice", "bob", "chat", false).await;
    assert_eq!((list(&alices, "alice").await.len(), list(&bobs, "bob").await.len()), (0, 1));
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["old"]);
    assert_eq!(unread(&bobs, "bob", "alice").await, Some(1));
    server.clock.advance_ms(1);
    alice.say(&to, "new").await.unwrap();
    delete(&alices, "alice", "bob", "chat", true).await;
    assert_eq!(said(&alices, "alice", &with("bob")).await, [""; 0]);
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["new", "old"]);
    assert_eq!(channels(&list(&bobs, "bob").await), ["alice"]);
}

#[tokio::test]
async fn in_a_group_any_member_deletes_for_all_unless_only_admins_may() {
    let mut server = TestServer::start().await;
    let group = group(&server, "alice", &["bob", "carol"]).await;
    let mut alice = login(&server, "alice").await;
    let to = alice.group(&group);
    let carols = user(&server, "carol").await;
    let bobs = user(&server, "bob").await;
    let alices = user(&server, "alice").await;
    let listed = async || {
        let mut who = Vec::new();
        for (rest, me) in [(&alices, "alice"), (&bobs, "bob"), (&carols, "carol")] {
            if !list(rest, me).await.is_empty() {
                who.push((me, said(rest, me, &within(&group)).await.len()));
            }
        }
        who
    };
    alice.say(&to, "1").await.unwrap();
    delete(&bobs, "bob", &group, "groupChat", true).await;
    assert_eq!(listed().await, []);
    server.set(&[("group_delete_all_requires_admin", "true")]).await;
    server.clock.advance_ms(1);
    alice.say(&to, "2").await.unwrap();
    delete(&bobs, "bob", &group, "groupchat", true).await;
    assert_eq!(listed().await, [("alice", 1), ("carol", 1)]);
    delete(&alices, "alice", &group, "groupChat", true).await;
    assert_eq!(listed().await, []);
    // Between two people both are of the same rank.
    let bob = alice.person("bob");
    alice.say(&bob, "hi").await.unwrap();
    delete(&bobs, "bob", "alice", "chat", true).await;
    assert_eq!(list(&alices, "alice").await.len(), 0);
    // The group itself lives on.
    alice.say(&to, "3").await.unwrap();
    assert_eq!(listed().await, [("alice", 1), ("bob", 1), ("carol", 1)]);
}

#[tokio::test]
async fn other_devices_hear_of_a_deletion() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let mut phone = login_on(&server, "alice", PHONE).await;
    let to = alice.person("bob");
    alice.say(&to, "hi").await.unwrap();
    for device in [&mut alice, &mut bob, &mut phone] {
        news(device).await;
    }
    delete(&user(&server, "alice").await, "alice", "bob", "chat", true).await;
    let heard = until_notify(&mut phone, "conv").await;
    let data = &heard["data"];
    assert_eq!(
        (&data["op"], &data["id"], &data["type"]),
        (&json!("del"), &json!("bob"), &json!("chat")),
        "{heard}"
    );
    assert_eq!((&data["from"], &data["res"]), (&json!("alice"), &json!(WEB)));
    assert!(news(&mut alice).await.iter().all(|meta| notify_of(meta).is_none()));
    let heard = until_notify(&mut bob, "conv").await;
    assert_eq!((&heard["data"]["op"], &heard["data"]["id"]), (&json!("del"), &json!("alice")), "{heard}");
    assert_eq!(name(Some(&to)), "bob");
}

#[tokio::test]
async fn a_deletion_says_what_it_means() {
    let server = TestServer::start().await;
    let rest = user(&server, "alice").await;
    for (channel, kind) in
        [("nobody", "chat"), ("184524748161025", "groupChat"), ("no name!", "chat"), ("x", "groupchat")]
    {
        delete(&rest, "alice", channel, kind, true).await;
    }
    for (wish, error, words) in [
        (
            json!({"type": "chat", "delete_roam": true}),
            "illegal_argument",
            "field channel cannot be null or empty",
        ),
        (
            json!({"channel": "", "type": "chat", "delete_roam": true}),
            "illegal_argument",
            "field channel cannot be null or empty",
        ),
        (
            json!({"channel": "bob", "delete_roam": true}),
            "illegal_argument",
            "field type cannot be null or empty",
        ),
        (json!({"channel": "bob", "type": "chat"}), "illegal_argument", "field delete_roam cannot be null"),
        (
            json!({"channel": 7, "type": "chat", "delete_roam": true}),
            "invalid_request_body",
            "Request body is invalid. Please check body is correct.",
        ),
        (json!([]), "invalid_request_body", "Request body is invalid. Please check body is correct."),
    ] {
        let got = refused(&rest, "DELETE", "/user/alice/user_channel", Some(&wish)).await;
        assert_eq!(got, (400, error.to_owned(), words.to_owned()), "{wish}");
    }
}

// ---- what a list shows ------------------------------------------------------------------------------

#[tokio::test]
async fn hidden_conversations_leave_no_gaps_in_pages() {
    let server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let rest = user(&server, "alice").await;
    let back_end = back_end(&server).await;
    many(&server, &mut alice, 12).await;
    // Every other one is hidden: by a message of the back end, by a removal, by a deletion.
    for n in [1, 3, 5] {
        send_by_rest(&back_end, &format!("p{n}"), "alice", "beep").await;
    }
    for n in [7, 9] {
        let path =
            format!("/sdk/message/roaming/chat/user/alice/time?userId=p{n}&delTime={}", server.now().0 + 1);
        rest.ok("DELETE", &path, None).await.unwrap();
    }
    delete(&rest, "alice", "p11", "chat", false).await;
    let shown: Vec<String> = [10, 8, 6, 4, 2, 0].map(|n| format!("p{n}")).to_vec();
    for size in [1, 2, 4, 5, 6, 20] {
        let mut all = Vec::new();
        for number in 1..=shown.len().div_ceil(size) {
            let page = channels(&paged(&rest, "alice", number, size).await);
            assert_eq!(page.len(), size.min(shown.len() - all.len()), "page {number} of {size}");
            all.extend(page);
        }
        assert_eq!(all, shown, "{size}");
        assert_eq!(paged(&rest, "alice", shown.len().div_ceil(size) + 1, size).await.len(), 0);
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let (lines, next) = after(&rest, "alice", size, &cursor, "").await;
            all.extend(channels(&lines));
            if next.is_empty() {
                break;
            }
            cursor = next;
        }
        assert_eq!(all, shown, "{size}");
    }
    assert_eq!(channels(&unpaged(&rest, "alice").await), shown);
}

#[tokio::test]
async fn the_order_is_that_of_the_messages_shown() {
    let mut server = TestServer::start().await;
    let mut alice = login(&server, "alice").await;
    let rest = user(&server, "alice").await;
    let back_end = back_end(&server).await;
    many(&server, &mut alice, 3).await;
    let to = alice.person("p0");
    let top = alice.say(&to, "top").await.unwrap();
    server.clock.advance_ms(10);
    assert_eq!(channels(&list(&rest, "alice").await), ["p0", "p2", "p1"]);
    let path = format!("/sdk/message/roaming/chat/user/alice?userId=p0&msgIdList={}", top.id);
    rest.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(channels(&list(&rest, "alice").await), ["p2", "p1", "p0"]);
    // Neither what a back end says nor what is imported moves a line up.
    server.set(&[("rest_messages_in_conversation_list", "ignore")]).await;
    send_by_rest(&back_end, "p1", "alice", "beep").await;
    let import =
        json!({"from": "p0", "target": "alice", "type": "txt", "body": {"msg": "old"}, "msg_timestamp": 1});
    back_end.ok("POST", "/messages/users/import", Some(&import)).await.unwrap();
    let lines = list(&rest, "alice").await;
    assert_eq!(channels(&lines), ["p2", "p1", "p0"]);
    assert_eq!(lines.iter().map(newest).collect::<Vec<_>>(), ["2", "1", "0"]);
    server.set(&[("rest_messages_in_conversation_list", "write")]).await;
    let lines = list(&rest, "alice").await;
    assert_eq!((channels(&lines)[0].as_str(), newest(&lines[0])), ("p1", "beep".to_owned()));
}

#[tokio::test]
async fn who_joins_a_group_sees_nothing_from_before_in_its_line() {
    let server = TestServer::start().await;
    let theirs = group(&server, "alice", &["bob"]).await;
    let mut alice = login(&server, "alice").await;
    let to = alice.group(&theirs);
    alice.say(&to, "before").await.unwrap();
    server.clock.advance_ms(10);
    token(&server, "carol").await;
    back_end(&server).await.ok("POST", &format!("/chatgroups/{theirs}/users/carol"), None).await.unwrap();
    let carols = user(&server, "carol").await;
    for lines in [
        list(&carols, "carol").await,
        unpaged(&carols, "carol").await,
        after(&carols, "carol", 20, "", "").await.0,
    ] {
        assert!(lines.iter().all(|line| newest(line).is_empty() && line["unread_num"] == 0), "{lines:?}");
    }
    let mut carol = arrive(&server, "carol", WEB).await;
    assert_eq!(texts(&carol.sync().await.unwrap()), [""; 0]);
    server.clock.advance_ms(10);
    alice.say(&to, "after").await.unwrap();
    let lines = list(&carols, "carol").await;
    assert_eq!((newest(&lines[0]), lines[0]["unread_num"].as_u64()), ("after".to_owned(), Some(1)));
}

#[tokio::test]
async fn what_was_deleted_for_all_does_not_come_back_by_an_edit() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let (alices, bobs) = (user(&server, "alice").await, user(&server, "bob").await);
    let to = alice.person("bob");
    let removed = alice.say(&to, "removed by bob").await.unwrap();
    server.clock.advance_ms(1);
    let kept = alice.say(&to, "kept").await.unwrap();
    let path = format!("/sdk/message/roaming/chat/user/bob?userId=alice&msgIdList={}", removed.id);
    bobs.ok("DELETE", &path, None).await.unwrap();
    let edit = |device: &Device, id: u64| {
        let body = MessageBody {
            r#type: Some(8),
            edit_message_id: Some(id),
            edit_scope: Some(1),
            contents: vec![Content {
                r#type: Some(0),
                text: Some("changed".to_owned()),
                ..Content::default()
            }],
            ..device.body(&to)
        };
        device.meta(&to, body)
    };
    let meta = edit(&alice, removed.id);
    alice.post_ok(meta).await.unwrap();
    assert_eq!(said(&bobs, "bob", &with("alice")).await, ["kept"]);
    assert_eq!(said(&alices, "alice", &with("bob")).await, ["kept", "changed"]);
    delete(&bobs, "bob", "alice", "chat", true).await;
    let meta = edit(&alice, kept.id);
    let ack = alice.post(meta).await.unwrap();
    assert_eq!(crate::stage::status(ack.status), (1, "Sorry, message does not exist".to_owned()));
    for (rest, me, peer) in [(&alices, "alice", "bob"), (&bobs, "bob", "alice")] {
        assert_eq!(said(rest, me, &with(peer)).await, [""; 0]);
        assert_eq!(list(rest, me).await.len(), 0);
    }
    news(&mut bob).await;
}
