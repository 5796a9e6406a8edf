//! What a client missed while it was away, as the two formats of `GET /1.1/rtm/notifications` tell it.

use posthouse::peer::{Open, Outgoing, Peer, http_get};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::conversations::{group, ids, log_in, log_in_how, pushed};

/// A client that has logged out, with what it needs to ask.
struct Away {
    token: String,
    since: i64,
}

#[tokio::test]
async fn js_is_told_where_it_was_invited_and_removed() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let old = group(&mut tom, "tom", &["jerry"]).await;
    let away = leave(&server, "jerry").await;
    server.clock.advance_ms(1_000);
    let new = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap();
    server.clock.advance_ms(1_000);
    let brief = tom.create_temporary("tom", &["jerry"], Some(600)).await.unwrap();
    server.clock.advance_ms(1_000);
    let removed = tom.remove("tom", &old, &["jerry"]).await.unwrap().udate.unwrap();
    // What doesn't concern his own membership is not for this format.
    tom.update("tom", &new.cid, r#"{"name":"x"}"#).await.unwrap();
    tom.add("tom", &new.cid, &["mary"]).await.unwrap();

    let (status, answer) = ask(&server, "jerry", &away.token, away.since, true).await;
    assert_eq!((status, &answer["hasMore"]), (200, &json!(false)));
    let list = answer["notifications"].as_array().unwrap();
    let wanted = [
        ("joined", &new.cid, &new.created_at, away.since + 1_000),
        ("joined", &brief.cid, &brief.created_at, away.since + 2_000),
        ("left", &old, &removed, away.since + 3_000),
    ];
    assert_eq!(list.len(), wanted.len(), "{answer}");
    for (found, (op, cid, udate, at)) in list.iter().zip(wanted) {
        for (key, value) in [
            ("cmd", json!("conv")),
            ("op", json!(op)),
            ("serverTs", json!(at)),
            ("notificationType", json!(1)),
            ("cid", json!(cid)),
            ("initBy", json!("tom")),
            ("udate", json!(udate)),
        ] {
            assert_eq!(found[key], value, "{key} in {found}");
        }
    }
    assert_eq!((&list[1]["tempConv"], &list[1]["tempConvTTL"]), (&json!(true), &json!(600)));
    assert_eq!(list[0].get("tempConv"), None);

    // The start is exclusive.
    let (_, rest) = ask(&server, "jerry", &away.token, away.since + 2_000, true).await;
    assert_eq!(rest["notifications"].as_array().unwrap().len(), 1);
    let (_, none) = ask(&server, "jerry", &away.token, away.since + 3_000, true).await;
    assert_eq!(none, json!({"hasMore": false, "notifications": []}));
}

#[tokio::test]
async fn swift_is_told_everything_in_its_own_spelling() {
    let server = TestServer::start().await;
    let mut jerry = log_in(&server, "jerry").await;
    let mut tom = log_in(&server, "tom").await;
    let shared = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    let how = Outgoing { receipt: true, ..Outgoing::default() };
    let sent = tom.send_text("tom", &shared, "read this", how).await.unwrap();
    let away = leave(&server, "tom").await;
    tom.close("tom").await.unwrap();

    server.clock.advance_ms(1_000);
    let new = jerry.create_conversation("jerry", &["tom"], false, "{}").await.unwrap().cid;
    server.clock.advance_ms(1_000);
    jerry.update("jerry", &new, r#"{"name":"n","attr.x":1}"#).await.unwrap();
    server.clock.advance_ms(1_000);
    let brief = jerry.create_temporary("jerry", &["tom"], Some(600)).await.unwrap().cid;
    server.clock.advance_ms(1_000);
    jerry.read("jerry", &shared, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();

    let (status, answer) = ask(&server, "tom", &away.token, away.since, false).await;
    assert_eq!(status, 200);
    let permanent = answer["permanent"]["notifications"].as_array().unwrap();
    assert_eq!(answer["permanent"]["hasMore"], json!(false));
    assert_eq!(ops(permanent), [("joined", new.as_str()), ("joined", brief.as_str())]);
    assert_eq!(answer["droppable"]["invalidLocalConvCache"], json!(false));
    let droppable = answer["droppable"]["notifications"].as_array().unwrap();
    assert_eq!(
        ops(droppable),
        [
            ("members-joined", new.as_str()),
            ("updated", new.as_str()),
            ("members-joined", brief.as_str()),
            ("rcp", shared.as_str()),
        ]
    );
    assert!(droppable.iter().chain(permanent).all(|told| told["serverTs"].is_i64()), "{answer}");
    let mut members: Vec<String> = serde_json::from_value(droppable[0]["m"].clone()).unwrap();
    members.sort();
    assert_eq!((members, &droppable[0]["initBy"]), (ids(&["jerry", "tom"]), &json!("jerry")));
    // Objects, not texts.
    assert_eq!(droppable[1]["attrModified"], json!({"name": "n", "attr": {"x": 1}}));
    assert_eq!((&droppable[1]["attr"]["name"], &droppable[1]["attr"]["attr.x"]), (&json!("n"), &json!(1)));
    let receipt = &droppable[3];
    assert_eq!(
        (&receipt["id"], &receipt["read"], &receipt["from"]),
        (&json!(sent.id), &json!(true), &json!("jerry"))
    );
    assert!(receipt["t"].is_i64());
}

#[tokio::test]
async fn a_temporary_conversation_is_told_of_until_it_ends() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let away = leave(&server, "jerry").await;
    server.clock.advance_ms(1);
    tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap();
    let lists = async || {
        let (_, js) = ask(&server, "jerry", &away.token, away.since, true).await;
        let (_, swift) = ask(&server, "jerry", &away.token, away.since, false).await;
        [&js["notifications"], &swift["permanent"]["notifications"], &swift["droppable"]["notifications"]]
            .map(|list| list.as_array().unwrap().len())
    };
    server.pass_ms(9_999).await;
    assert_eq!(lists().await, [1, 1, 1]);
    server.pass_ms(1).await;
    assert_eq!(lists().await, [0, 0, 0]);
}

#[tokio::test]
async fn many_invitations_come_in_pages_that_advance() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let away = leave(&server, "jerry").await;
    let mut made = Vec::new();
    for n in 0..1_040 {
        if n % 3 == 0 {
            server.clock.advance_ms(1);
        }
        made.push(tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid);
        tom.take_pushes();
    }
    let (mut since, mut told, mut pages) = (away.since, Vec::new(), 0);
    loop {
        let (_, answer) = ask(&server, "jerry", &away.token, since, true).await;
        pages += 1;
        let list = answer["notifications"].as_array().unwrap().clone();
        let times: Vec<i64> = list.iter().map(|told| told["serverTs"].as_i64().unwrap()).collect();
        assert!(times.is_sorted() && times.iter().all(|at| *at > since), "page {pages}");
        told.extend(list.iter().map(|told| told["cid"].as_str().unwrap().to_owned()));
        if answer["hasMore"] != json!(true) {
            break;
        }
        let last = *times.last().expect("a page with a successor is not empty");
        assert!(last > since && pages < 50, "it goes on");
        since = last;
    }
    assert!(pages > 1, "one page of everything bounds nothing");
    made.sort();
    told.sort();
    assert_eq!(told, made, "each once");
}

#[tokio::test]
async fn too_much_or_too_long_ago_forgets_the_caches() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let away = leave(&server, "jerry").await;
    server.clock.advance_ms(1_000);
    tom.update("tom", &cid, r#"{"name":"n"}"#).await.unwrap();
    let (_, few) = ask(&server, "jerry", &away.token, away.since, false).await;
    assert_eq!(few["droppable"]["notifications"].as_array().unwrap().len(), 1);
    let (status, old) = ask(&server, "jerry", &away.token, away.since - 31 * 86_400_000, false).await;
    assert_eq!((status, &old["droppable"]), (200, &json!({"invalidLocalConvCache": true})));
    for n in 0..1_000 {
        tom.update("tom", &cid, &json!({"n": n}).to_string()).await.unwrap();
    }
    let (_, many) = ask(&server, "jerry", &away.token, away.since, false).await;
    assert_eq!(many["droppable"], json!({"invalidLocalConvCache": true}));
    assert_eq!(many["permanent"], json!({"hasMore": false, "notifications": []}));
}

#[tokio::test]
async fn what_happens_after_one_has_left_is_not_told() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = group(&mut tom, "tom", &["jerry", "mary"]).await;
    let away = leave(&server, "jerry").await;
    server.clock.advance_ms(1_000);
    tom.remove("tom", &cid, &["jerry"]).await.unwrap();
    server.clock.advance_ms(1_000);
    tom.update("tom", &cid, r#"{"name":"secret"}"#).await.unwrap();
    tom.add("tom", &cid, &["spike"]).await.unwrap();
    let (_, answer) = ask(&server, "jerry", &away.token, away.since, false).await;
    let permanent = answer["permanent"]["notifications"].as_array().unwrap();
    assert_eq!(ops(permanent), [("left", cid.as_str())]);
    assert!(!answer.to_string().contains("secret") && !answer.to_string().contains("spike"), "{answer}");
}

#[tokio::test]
async fn only_the_clients_own_token_opens_them() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let away = leave(&server, "jerry").await;
    let stranger = leave(&server, "mary").await;
    let other = crate::strangers::other_app(&server).await;
    let mut foreign = Peer::connect(&server.socket_url(), posthouse::peer::BINARY).await.unwrap();
    let foreign = foreign.open(&other, "jerry", Open::default()).await.unwrap().token.unwrap();
    server.clock.advance_ms(1);
    let cid = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    let (status, answer) = ask(&server, "jerry", &away.token, away.since, true).await;
    assert_eq!((status, answer.to_string().contains(&cid)), (200, true));

    let mut forged = away.token.clone();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    let cut = &away.token[..away.token.len() - 1];
    let long = "x".repeat(7_000);
    for permanent in [true, false] {
        for token in ["", "nonsense", "a.b", &forged, cut, &stranger.token, &foreign, &long] {
            let (status, answer) = ask(&server, "jerry", token, away.since, permanent).await;
            assert_eq!(status, 401, "{token}");
            assert!(answer["code"].is_i64() && answer["error"].is_string(), "{answer}");
            assert!(!answer.to_string().contains(&cid));
        }
        // One's own token opens nobody else's.
        let (status, _) = ask(&server, "tom", &away.token, away.since, permanent).await;
        assert_eq!(status, 401);
    }
    // Nor does it after its time.
    server.pass_ms(172_800_000).await;
    let (status, _) = ask(&server, "jerry", &away.token, away.since, true).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn the_apps_key_and_good_parameters_are_needed_too() {
    let server = TestServer::start().await;
    let away = leave(&server, "jerry").await;
    let path = |query: &str| format!("/1.1/rtm/notifications?{query}");
    let good = format!("client_id=jerry&start_ts={}&notification_type=permanent", away.since);
    let token = ("X-LC-IM-Session-Token", away.token.as_str());
    let (id, key) = (("X-LC-Id", server.app_id()), ("X-LC-Key", server.app_key()));
    let url = server.http_url();
    for headers in [
        vec![token],
        vec![id, token],
        vec![id, ("X-LC-Key", "wrong"), token],
        vec![("X-LC-Id", "nobody"), key, token],
    ] {
        let (status, body) = http_get(&url, &path(&good), &headers).await.unwrap();
        assert_eq!(status, 401, "{headers:?}");
        assert!(serde_json::from_slice::<Value>(&body).is_ok());
    }
    let headers = [id, key, token];
    assert_eq!(http_get(&url, &path(&good), &headers).await.unwrap().0, 200);
    for query in [
        "client_id=jerry",
        "start_ts=1",
        "client_id=jerry&start_ts=yesterday",
        "client_id=jerry&start_ts=99999999999999999999",
        "client_id=&start_ts=1",
    ] {
        let (status, body) = http_get(&url, &path(query), &headers).await.unwrap();
        assert!((400..500).contains(&status), "{query}: {status}");
        assert!(serde_json::from_slice::<Value>(&body).is_ok(), "{query}");
    }
    for start in ["-9223372036854775808", "9223372036854775807", "0"] {
        let query = format!("client_id=jerry&start_ts={start}");
        assert_eq!(http_get(&url, &path(&query), &headers).await.unwrap().0, 200, "{start}");
    }
}

/// Logs in and politely out again.
async fn leave(server: &TestServer, who: &str) -> Away {
    let (mut peer, opened) = log_in_how(server, who, Open::default()).await;
    pushed(&mut peer, who).await;
    peer.close(who).await.unwrap();
    // `opened` tells the millisecond before, a live push of this one has moved the cursor on.
    Away { token: opened.token.unwrap(), since: opened.server_time + 1 }
}

async fn ask(server: &TestServer, who: &str, token: &str, since: i64, permanent: bool) -> (u16, Value) {
    let kind = if permanent { "&notification_type=permanent" } else { "" };
    let path = format!("/1.1/rtm/notifications?client_id={who}&start_ts={since}{kind}");
    let mut headers = vec![("X-LC-Id", server.app_id()), ("X-LC-Key", server.app_key())];
    if !token.is_empty() {
        headers.push(("X-LC-IM-Session-Token", token));
    }
    let (status, body) = http_get(&server.http_url(), &path, &headers).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// What each item is about; receipts have no op.
fn ops(list: &[Value]) -> Vec<(&str, &str)> {
    let text = |item: &Value, key: &str| item.get(key).is_some();
    list.iter()
        .map(|item| {
            let name = if text(item, "op") { &item["op"] } else { &item["cmd"] };
            (name.as_str().unwrap(), item["cid"].as_str().unwrap())
        })
        .collect()
}
