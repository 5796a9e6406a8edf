//! History: directions, cursors, filters and who may read it (rest 3.4.4 and 5.5, client 7.3).

use posthouse::peer::easemob::{Device, Rest, text_of};
use posthouse_core::time::Chance as _;
use posthouse_easemob::wire::proto::MessageBody;
use posthouse_easemob::wire::proto::message_body::Content;
use posthouse_easemob::wire::proto::message_body::content::{SubType, Type as ContentType};
use posthouse_testkit::server::TestServer;
use posthouse_testkit::time::SeededChance;
use serde_json::{Value, json};

use crate::stage::{
    DAY_MS, alice_and_bob, back_end, group, ids, login, news, page, refused, said, send_by_rest, texts,
    token, user, with, within,
};

async fn talk(server: &TestServer, from: &mut Device, count: usize) -> Vec<u64> {
    let to = from.person("bob");
    let mut sent = Vec::new();
    for n in 0..count {
        sent.push(from.say(&to, &n.to_string()).await.unwrap().id);
        if n % 3 == 0 {
            server.clock.advance_ms(7);
        }
    }
    sent
}

/// Walks from the beginning to the end with pages of this size; the ids as they came.
async fn walk(rest: &Rest, size: usize, forward: bool, cursor: impl Fn(&str) -> Value) -> Vec<u64> {
    let (mut all, mut start) = (Vec::new(), json!(-1));
    loop {
        let page = page(
            rest,
            "bob",
            &with("alice"),
            json!({"pull_number": size, "is_positive": forward, "start": start}),
        )
        .await;
        assert!(page.metas.len() <= size);
        all.extend(ids(&page.metas));
        if page.is_last {
            return all;
        }
        assert_eq!(page.next, page.metas.last().unwrap().id.unwrap().to_string());
        start = cursor(&page.next);
    }
}

#[tokio::test]
async fn pages_join_in_both_directions() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let rest = user(&server, "bob").await;
    let sent = talk(&server, &mut alice, 53).await;
    let mut newest_first = sent.clone();
    newest_first.reverse();
    for size in [1, 7, 20, 50] {
        let text = |next: &str| json!(next);
        assert_eq!(walk(&rest, size, false, text).await, newest_first, "{size}");
        assert_eq!(walk(&rest, size, true, text).await, sent, "{size}");
    }
    assert_eq!(walk(&rest, 20, true, |next| json!(next.parse::<u64>().unwrap())).await, sent);
}

#[tokio::test]
async fn a_page_has_fifty_at_most_and_twenty_if_nothing_is_said() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let rest = user(&server, "bob").await;
    talk(&server, &mut alice, 55).await;
    let count = async |wish: Value| {
        page(&rest, "bob", &with("alice"), json!({"pull_number": wish})).await.metas.len()
    };
    for (wish, expected) in [
        (json!(50), 50),
        (json!(51), 50),
        (json!(1_000_000), 50),
        (json!(3), 3),
        (json!(null), 20),
        (json!("7"), 7),
    ] {
        assert_eq!(count(wish.clone()).await, expected, "{wish}");
    }
    // The oldest clients say no more than this, and read until the end.
    let (mut all, mut start) = (0, json!(-1));
    loop {
        let asked = json!({"queue": with("alice"), "start": start, "end": -1});
        let data = rest.ok("POST", "/users/bob/messageroaming", Some(&asked)).await.unwrap()["data"].clone();
        all += data["msgs"].as_array().unwrap().len();
        if data["is_last"] == true {
            break;
        }
        start = data["next_key"].clone();
    }
    assert_eq!(all, 55);
}

#[tokio::test]
async fn a_cursor_is_exclusive_and_a_position() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let rest = user(&server, "bob").await;
    let sent = talk(&server, &mut alice, 9).await;
    let read = async |start: Value, forward: bool| {
        texts(
            &page(&rest, "bob", &with("alice"), json!({"start": start, "is_positive": forward})).await.metas,
        )
        .concat()
    };
    assert_eq!(read(json!(sent[4].to_string()), false).await, "3210");
    assert_eq!(read(json!(sent[4].to_string()), true).await, "5678");
    assert_eq!(read(json!(sent[4]), true).await, "5678");
    assert_eq!(read(json!(sent[8].to_string()), true).await, "");
    assert_eq!(read(json!(sent[0].to_string()), false).await, "");
    // What old clients send for "from the start".
    for start in [
        json!(-1),
        json!("-1"),
        json!(""),
        json!(null),
        json!(0),
        json!("0"),
        json!("undefined"),
        json!("null"),
    ] {
        assert_eq!(read(start.clone(), false).await, "876543210", "{start}");
        assert_eq!(read(start.clone(), true).await, "012345678", "{start}");
    }
    // An id that is gone is still a place.
    let path = format!("/sdk/message/roaming/chat/user/bob?userId=alice&msgIdList={}", sent[4]);
    rest.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(read(json!(sent[4].to_string()), true).await, "5678");
}

#[tokio::test]
async fn filters_choose_by_kind_time_and_sender() {
    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.group(&group);
    let began = server.now().0;
    let part = |of: ContentType| Content { r#type: Some(of.into()), ..Content::default() };
    let words = |text: &str| Content { text: Some(text.to_owned()), ..part(ContentType::Text) };
    let contents = [
        words("txt"),
        part(ContentType::Image),
        part(ContentType::Video),
        part(ContentType::Location),
        part(ContentType::Voice),
        part(ContentType::File),
        Content { custom_event: Some("gift".to_owned()), ..part(ContentType::Custom) },
        Content { sub_type: Some(SubType::SubCombine.into()), ..words("combined") },
    ];
    for content in contents {
        server.clock.advance_ms(10);
        let meta = alice.meta(&to, MessageBody { contents: vec![content], ..alice.body(&to) });
        alice.post_ok(meta).await.unwrap();
    }
    server.clock.advance_ms(10);
    bob.say(&to, "bob's").await.unwrap();
    let rest = user(&server, "bob").await;
    let count = async |fields: Value| page(&rest, "bob", &within(&group), fields).await.metas.len();
    for (kinds, expected) in [
        ("", 9),
        ("txt", 2),
        ("img", 1),
        ("video", 1),
        ("loc", 1),
        ("audio", 1),
        ("file", 1),
        ("custom", 1),
        ("combine", 1),
        ("cmd", 0),
        ("txt,img", 3),
        ("img,loc,custom", 3),
    ] {
        assert_eq!(count(json!({"msgType": kinds})).await, expected, "{kinds}");
    }
    // Of the nine, at 10, 20 … 90 ms.
    for (from, to, expected) in [
        (Some(0), None, 9),
        (Some(30), None, 7),
        (None, Some(30), 3),
        (Some(20), Some(40), 3),
        (Some(21), Some(39), 1),
        (Some(91), None, 0),
    ] {
        let at = |ms: Option<i64>| ms.map(|ms| began + ms);
        assert_eq!(
            count(json!({"startTime": at(from), "endTime": at(to)})).await,
            expected,
            "{from:?} {to:?}"
        );
    }
    assert_eq!(count(json!({"userId": "bob"})).await, 1);
    assert_eq!(count(json!({"userId": "Alice"})).await, 8);
    assert_eq!(count(json!({"userId": "nobody"})).await, 0);
    assert_eq!(count(json!({"userId": "alice", "msgType": "txt"})).await, 1);
    // Filters and pages together leave nothing out.
    let first = page(&rest, "bob", &within(&group), json!({"userId": "alice", "pull_number": 5})).await;
    assert_eq!((first.metas.len(), first.is_last), (5, false));
    let second = page(&rest, "bob", &within(&group), json!({"userId": "alice", "start": first.next})).await;
    assert_eq!((second.metas.len(), second.is_last), (3, true));
}

/// Questions by chance, each answered as a list in memory would.
#[tokio::test]
async fn every_question_is_answered_as_a_plain_list_would() {
    struct Said {
        id: u64,
        at: i64,
        by: &'static str,
        image: bool,
    }

    let server = TestServer::start().await;
    let group = group(&server, "alice", &["bob"]).await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let to = alice.group(&group);
    let chance = SeededChance::new(20_261_122);
    let below = |n: usize| usize::try_from(chance.bits() % 1_000_000).unwrap() % n;
    let mut all: Vec<Said> = Vec::new();
    for _ in 0..60 {
        server.clock.advance_ms(i64::try_from(below(3)).unwrap());
        let (device, by) = if below(2) == 0 { (&mut alice, "alice") } else { (&mut bob, "bob") };
        let image = below(3) == 0;
        let of = if image { ContentType::Image } else { ContentType::Text };
        let content = Content { r#type: Some(of.into()), text: Some(String::new()), ..Content::default() };
        let meta = device.meta(&to, MessageBody { contents: vec![content], ..device.body(&to) });
        let sent = device.post_ok(meta).await.unwrap();
        all.push(Said { id: sent.id, at: i64::try_from(sent.at).unwrap(), by, image });
    }
    let rest = user(&server, "bob").await;
    let gone: Vec<u64> = (0..15).map(|n| all[n * 4].id).collect();
    let list = gone.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    rest.ok("DELETE", &format!("/sdk/message/roaming/group/user/bob?groupId={group}&msgIdList={list}"), None)
        .await
        .unwrap();
    for _ in 0..250 {
        let forward = below(2) == 0;
        let limit = 1 + below(50);
        let time =
            |by: usize| (by > 0).then(|| all[below(all.len())].at + i64::try_from(below(3)).unwrap() - 1);
        let (since, until) = (time(below(3)), time(below(3)));
        // A cursor comes from a page before, so it lies between the times.
        let is_within = |said: &Said| {
            since.is_none_or(|since| said.at >= since) && until.is_none_or(|until| said.at <= until)
        };
        let start = (below(3) > 0).then(|| below(all.len())).filter(|start| is_within(&all[*start]));
        let kinds = ["", "txt", "img", "txt,img", "file"][below(5)];
        let sender = [None, Some("alice"), Some("bob")][below(3)];
        let fits = |(n, said): &(usize, &Said)| {
            let behind = start.is_none_or(|start| if forward { *n > start } else { *n < start });
            let kind = if said.image { "img" } else { "txt" };
            behind
                && !gone.contains(&said.id)
                && is_within(said)
                && (kinds.is_empty() || kinds.split(',').any(|one| one == kind))
                && sender.is_none_or(|sender| said.by == sender)
        };
        let mut expected: Vec<u64> = all.iter().enumerate().filter(fits).map(|(_, said)| said.id).collect();
        if !forward {
            expected.reverse();
        }
        let is_last = expected.len() <= limit;
        expected.truncate(limit);
        let asked = json!({
            "start": start.map_or_else(|| json!(-1), |start| json!(all[start].id.to_string())),
            "is_positive": forward, "pull_number": limit, "startTime": since, "endTime": until,
            "msgType": kinds, "userId": sender,
        });
        let page = page(&rest, "bob", &within(&group), asked.clone()).await;
        assert_eq!((ids(&page.metas), page.is_last), (expected, is_last), "{asked}");
    }
}

#[tokio::test]
async fn nobody_reads_what_others_said_among_themselves() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let theirs = group(&server, "alice", &["bob"]).await;
    let (to_bob, to_group) = (alice.person("bob"), alice.group(&theirs));
    alice.say(&to_bob, "secret").await.unwrap();
    alice.say(&to_group, "secret").await.unwrap();
    let mallory = user(&server, "mallory").await;
    let asked = json!({"queue": with("bob"), "start": -1, "end": -1});
    let (status, error, _) = refused(&mallory, "POST", "/users/alice/messageroaming", Some(&asked)).await;
    assert_eq!((status, &*error), (401, "auth_bad_access_token"));
    for peer in ["alice", "bob", "mallory", "nobody"] {
        assert_eq!(said(&mallory, "mallory", &with(peer)).await, [""; 0]);
    }
    let asked = json!({"queue": within(&theirs), "start": -1, "end": -1});
    let (status, _, words) = refused(&mallory, "POST", "/users/mallory/messageroaming", Some(&asked)).await;
    assert_eq!(status, 403);
    assert!(words.contains("are not members of this group"), "{words}");
    // A pair's conversation has no number by which others could ask for it.
    for nowhere in ["184524748161025", "1"] {
        let asked = json!({"queue": within(nowhere), "start": -1, "end": -1});
        let (status, answer) =
            mallory.call("POST", "/users/mallory/messageroaming", Some(&asked)).await.unwrap();
        assert!(status == 404 || status == 200 && answer["data"]["msgs"] == json!([]), "{status} {answer}");
    }
    assert_eq!(said(&back_end(&server).await, "bob", &with("alice")).await, ["secret"]);
}

#[tokio::test]
async fn who_left_a_group_or_was_removed_reads_nothing_there() {
    let server = TestServer::start().await;
    let theirs = group(&server, "alice", &["bob", "carol"]).await;
    let mut alice = login(&server, "alice").await;
    let to = alice.group(&theirs);
    alice.say(&to, "hi").await.unwrap();
    let asked = json!({"queue": within(&theirs), "start": -1, "end": -1});
    for (name, method, path) in [
        ("bob", "DELETE", format!("/chatgroups/{theirs}/quit")),
        ("carol", "DELETE", format!("/chatgroups/{theirs}/users/carol")),
    ] {
        let rest = user(&server, name).await;
        assert_eq!(said(&rest, name, &within(&theirs)).await, ["hi"]);
        let by = if name == "bob" { rest.clone() } else { user(&server, "alice").await };
        by.ok(method, &path, None).await.unwrap();
        let (status, _, words) =
            refused(&rest, "POST", &format!("/users/{name}/messageroaming"), Some(&asked)).await;
        assert_eq!(status, 403);
        assert!(words.contains("are not members of this group"), "{words}");
    }
    let alices = user(&server, "alice").await;
    alices.ok("DELETE", &format!("/chatgroups/{theirs}"), None).await.unwrap();
    let (status, answer) = alices.call("POST", "/users/alice/messageroaming", Some(&asked)).await.unwrap();
    assert!(status == 404 || status == 403 || answer["data"]["msgs"] == json!([]), "{status} {answer}");
}

#[tokio::test]
async fn who_joins_reads_from_then_on_unless_the_app_shows_more() {
    let mut server = TestServer::start().await;
    let theirs = group(&server, "alice", &["bob"]).await;
    let mut alice = login(&server, "alice").await;
    let to = alice.group(&theirs);
    alice.say(&to, "before").await.unwrap();
    server.clock.advance_ms(10);
    token(&server, "carol").await;
    back_end(&server).await.ok("POST", &format!("/chatgroups/{theirs}/users/carol"), None).await.unwrap();
    let carols = user(&server, "carol").await;
    assert_eq!(said(&carols, "carol", &within(&theirs)).await, [""; 0]);
    server.clock.advance_ms(10);
    alice.say(&to, "after").await.unwrap();
    assert_eq!(said(&carols, "carol", &within(&theirs)).await, ["after"]);
    let forward = page(&carols, "carol", &within(&theirs), json!({"is_positive": true})).await;
    assert_eq!(texts(&forward.metas), ["after"]);
    server.set(&[("group_history_before_join", "true")]).await;
    assert_eq!(said(&carols, "carol", &within(&theirs)).await, ["after", "before"]);
}

#[tokio::test]
async fn bad_requests_are_told_in_json() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    talk(&server, &mut alice, 2).await;
    let rest = user(&server, "bob").await;
    for bad in [
        json!({}),
        json!({"start": -1}),
        json!({"queue": ""}),
        json!({"queue": 7}),
        json!({"queue": with("alice"), "start": {}}),
        json!({"queue": with("alice"), "start": "x"}),
        json!({"queue": with("alice"), "pull_number": "x"}),
        json!({"queue": with("alice"), "is_positive": "yes"}),
        json!({"queue": with("alice"), "startTime": "soon"}),
        json!({"queue": with("alice"), "msgType": 7}),
        json!([1]),
        json!("x"),
    ] {
        assert_eq!(refused(&rest, "POST", "/users/bob/messageroaming", Some(&bad)).await.0, 400, "{bad}");
    }
    for queue in [
        "bob smith@easemob.com",
        "@easemob.com",
        "alice@example.com",
        "猫@easemob.com",
        "x@conference.easemob.com",
    ] {
        let asked = json!({"queue": queue, "start": -1, "end": -1});
        let (status, answer) = rest.call("POST", "/users/bob/messageroaming", Some(&asked)).await.unwrap();
        assert!([200, 400, 404].contains(&status), "{queue}: {status}");
        assert!(status != 200 || answer["data"]["msgs"] == json!([]), "{queue}: {answer}");
    }
    let headers = [("Content-Type", "application/json")];
    for body in [&b"{"[..], b"a=b", b"\xff\xfe", b""] {
        let (status, answer) =
            rest.exchange("POST", "/users/bob/messageroaming", &headers, Some(body)).await.unwrap();
        assert_eq!(status, 400);
        assert!(serde_json::from_slice::<Value>(&answer).unwrap().is_object());
    }
    assert_eq!(refused(&rest, "GET", "/users/bob/messageroaming", None).await.0, 405);
}

#[tokio::test]
async fn messages_of_the_back_end_and_imports_stand_where_their_time_is() {
    let server = TestServer::start().await;
    let (mut alice, _bob) = alice_and_bob(&server).await;
    let back_end = back_end(&server).await;
    let rest = user(&server, "bob").await;
    let to = alice.person("bob");
    alice.say(&to, "now").await.unwrap();
    server.clock.advance_ms(1);
    send_by_rest(&back_end, "alice", "bob", "by rest").await;
    for (text, days) in [("a week ago", 7), ("yesterday", 1), ("a year ago", 365)] {
        let import = json!({"from": "alice", "target": "bob", "type": "txt", "body": {"msg": text},
            "is_ack_read": true, "msg_timestamp": server.now().0 - days * DAY_MS});
        back_end.ok("POST", "/messages/users/import", Some(&import)).await.unwrap();
    }
    let order = ["by rest", "now", "yesterday", "a week ago", "a year ago"];
    assert_eq!(said(&rest, "bob", &with("alice")).await, order);
    // Pages join also where ids and times run against each other.
    let (mut all, mut start) = (Vec::new(), json!(-1));
    for _ in 0..order.len() {
        let page = page(&rest, "bob", &with("alice"), json!({"pull_number": 1, "start": start})).await;
        all.extend(page.metas.iter().map(text_of));
        start = json!(page.next);
    }
    assert_eq!(all, order);
}

#[tokio::test]
async fn back_ends_may_read_it_as_json() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = alice_and_bob(&server).await;
    let sent = talk(&server, &mut alice, 1).await;
    let asked = json!({"queue": with("alice"), "start": -1, "end": -1});
    let answer = back_end(&server)
        .await
        .ok("POST", "/users/bob/messageroaming?format=json", Some(&asked))
        .await
        .unwrap();
    let line = &answer["data"]["msgs"][0];
    assert_eq!(
        (&line["msg_id"], &line["from"], &line["to"]),
        (&json!(sent[0].to_string()), &json!("alice"), &json!("bob"))
    );
    assert_eq!(line["payload"]["bodies"][0]["msg"], "0");
    assert_eq!(texts(&news(&mut bob).await), ["0"]);
}
