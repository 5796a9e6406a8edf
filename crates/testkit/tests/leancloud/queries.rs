//! Conversation queries: the whole `where` language, order and pages, what a row may show to whom,
//! and queries that mean harm.

use std::time::Duration;

use posthouse::peer::{self, Outgoing, Peer};
use posthouse_leancloud::wire::proto::{CommandType, ConvCommand, GenericCommand, JsonObjectMessage, OpType};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::conversations::{code, ids, log_in, members, parsed, pushed, text};

/// No query may take longer, however it is made.
const HOSTILE_LIMIT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn every_operator_means_what_the_language_says() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    for (name, members, attributes) in [
        ("apple", &["jerry"][..], json!({"attr": {"n": 1, "tags": ["a", "b"], "on": true}})),
        ("banana", &["jerry", "mary"], json!({"attr": {"n": 2.5, "tags": ["b"], "s": "x.y"}})),
        ("cherry", &["mary"], json!({"attr": {"n": 3, "list": [1, [2]], "o": {"k": 1}}, "top": "level"})),
        ("dátil\nDATE", &["spike"], json!({"attr": {"n": "3", "s": r"a\Eb (c)*"}})),
    ] {
        let mut attributes = attributes;
        attributes["name"] = json!(name);
        tom.create_conversation("tom", members, false, &attributes.to_string()).await.unwrap();
        server.clock.advance_ms(1_000);
    }
    let (a, b, c, d) = ("apple", "banana", "cherry", "dátil\nDATE");
    let date = |s: u32| json!({"__type": "Date", "iso": format!("2026-11-21T23:12:{s}.342Z")});
    for (condition, wanted) in [
        (json!({"name": "apple"}), vec![a]),
        (json!({"name": {"$eq": "apple"}}), vec![a]),
        (json!({"name": "Apple"}), vec![]),
        (json!({"name": {"$ne": "apple"}}), vec![b, c, d]),
        (json!({"top": "level"}), vec![c]),
        (json!({"attr.n": 1}), vec![a]),
        (json!({"attr.n": 1.0}), vec![a]),
        (json!({"attr.n": "3"}), vec![d]),
        (json!({"attr.n": {"$lt": 2.5}}), vec![a]),
        (json!({"attr.n": {"$lte": 2.5}}), vec![a, b]),
        (json!({"attr.n": {"$gt": 1}}), vec![b, c]),
        (json!({"attr.n": {"$gte": 1, "$lt": 3}}), vec![a, b]),
        (json!({"name": {"$gt": "banana", "$lt": "d"}}), vec![c]),
        (json!({"attr.n": {"$in": [1, "3", 7]}}), vec![a, d]),
        (json!({"attr.n": {"$in": []}}), vec![]),
        (json!({"attr.n": {"$nin": [1, 3]}}), vec![b, d]),
        (json!({"attr.tags": "b"}), vec![a, b]),
        (json!({"attr.tags": {"$all": ["a", "b"]}}), vec![a]),
        (json!({"attr.tags": {"$size": 1}}), vec![b]),
        (json!({"attr.list": 1}), vec![c]),
        (json!({"attr.o.k": 1}), vec![c]),
        (json!({"attr.o": {"k": 1}}), vec![c]),
        (json!({"attr.on": true}), vec![a]),
        (json!({"attr.tags": {"$exists": true}}), vec![a, b]),
        (json!({"attr.tags": {"$exists": false}}), vec![c, d]),
        (json!({"attr.n": {"$not": {"$gt": 1}}}), vec![a, d]),
        (json!({"$not": {"name": "apple"}}), vec![b, c, d]),
        (json!({"$or": [{"name": "apple"}, {"attr.n": 3}]}), vec![a, c]),
        (json!({"$and": [{"attr.n": {"$gt": 1}}, {"name": {"$ne": "cherry"}}]}), vec![b]),
        (json!({"$or": [{"$and": [{"name": "apple"}, {"attr.n": 1}]}, {"name": "cherry"}]}), vec![a, c]),
        (json!({"name": {"$regex": "^a"}}), vec![a]),
        (json!({"name": {"$regex": "AN"}}), vec![]),
        (json!({"name": {"$regex": "AN", "$options": "i"}}), vec![b]),
        (json!({"name": {"$regex": "^DATE$"}}), vec![]),
        (json!({"name": {"$regex": "^DATE$", "$options": "m"}}), vec![d]),
        (json!({"name": {"$regex": "l.D"}}), vec![]),
        (json!({"name": {"$regex": "l.D", "$options": "s"}}), vec![d]),
        (json!({"name": {"$regex": "an an a # fruit", "$options": "x"}}), vec![b]),
        (json!({"name": {"$regex": "Á", "$options": "i"}}), vec![d]),
        // As the JavaScript SDK quotes what a user typed.
        (json!({"attr.s": {"$regex": r"^\Qx.\E"}}), vec![b]),
        (json!({"attr.s": {"$regex": r"\Qx?y\E"}}), vec![]),
        (json!({"attr.s": {"$regex": r"^\Qa\E\\E\Qb (c)*\E$"}}), vec![d]),
        (json!({"attr.s": {"$regex": r"\Q(c)*"}}), vec![d]),
        (json!({"m": "jerry"}), vec![a, b]),
        (json!({"m": {"$all": ["mary", "tom"]}}), vec![b, c]),
        (json!({"m": {"$size": 3}}), vec![b]),
        (json!({"m": {"$all": ["tom", "jerry"], "$size": 2}}), vec![a]),
        (json!({"m": {"$nin": ["jerry", "mary"]}}), vec![d]),
        (json!({"c": "tom"}), vec![a, b, c, d]),
        (json!({"c": "jerry"}), vec![]),
        (json!({"createdAt": {"$lt": date(40)}}), vec![a]),
        (json!({"createdAt": {"$gte": date(41)}}), vec![c, d]),
        (json!({"updatedAt": {"$gt": date(41), "$lt": date(59)}}), vec![d]),
        (json!({"createdAt": date(40)}), vec![b]),
        (json!({"lm": {"$exists": true}}), vec![]),
        (json!({"unique": true}), vec![]),
    ] {
        let condition = condition.to_string();
        let mut wanted = wanted;
        let mut found = names(&mut tom, &condition).await;
        found.sort();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{condition}");
    }
}

#[tokio::test]
async fn no_condition_asks_for_ones_own_and_any_condition_for_everybodys() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    named(&mut tom, "tom", "with mary", &["mary"]).await;
    named(&mut tom, "tom", "without", &["jerry"]).await;
    assert_eq!(names(&mut mary, "{}").await, ["with mary"]);
    let all = mary.query("mary", ConvCommand::default()).await.unwrap();
    assert_eq!(all.len(), 1);
    let mut found = names(&mut mary, r#"{"c":"tom"}"#).await;
    found.sort();
    assert_eq!(found, ["with mary", "without"]);
    assert_eq!(names(&mut mary, r#"{"m":"jerry"}"#).await, ["without"]);
    assert_eq!(names(&mut mary, r#"{"m":"mary"}"#).await, ["with mary"]);
}

#[tokio::test]
async fn rooms_are_found_by_id_or_by_asking_for_rooms() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let room = tom.create_room("tom", r#"{"name":"room"}"#).await.unwrap().cid;
    let plain = named(&mut tom, "tom", "plain", &["jerry"]).await;
    let both = json!({"objectId": {"$in": [room, plain, "none"]}}).to_string();
    for (condition, wanted) in [
        ("{}", vec!["plain"]),
        (r#"{"c":"tom"}"#, vec!["plain"]),
        (r#"{"name":"room"}"#, vec![]),
        (r#"{"tr":true}"#, vec!["room"]),
        (r#"{"tr":true,"name":"plain"}"#, vec![]),
        (r#"{"tr":false,"c":"tom"}"#, vec!["plain"]),
        (r#"{"sys":true}"#, vec![]),
        (&both, vec!["plain", "room"]),
    ] {
        let mut found = names(&mut tom, condition).await;
        found.sort();
        assert_eq!(found, wanted, "{condition}");
    }
    assert_eq!(names(&mut tom, &json!({"objectId": room}).to_string()).await, ["room"]);
}

#[tokio::test]
async fn the_order_is_what_is_asked_for() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let mut cids = Vec::new();
    for (name, rank) in [("b", 1), ("a", 2), ("c", 1), ("d", 2)] {
        let attributes = json!({"name": name, "rank": rank}).to_string();
        cids.push(tom.create_conversation("tom", &["jerry"], false, &attributes).await.unwrap().cid);
        server.clock.advance_ms(1_000);
    }
    // Messages in "a", then in "b"; then "c" is changed.
    for cid in [&cids[1], &cids[0]] {
        tom.send_text("tom", cid, "x", Outgoing::default()).await.unwrap();
        server.clock.advance_ms(1_000);
    }
    tom.update("tom", &cids[2], r#"{"seen":true}"#).await.unwrap();
    for (sort, wanted) in [
        (None, ["b", "a", "c", "d"]),
        (Some(""), ["b", "a", "c", "d"]),
        (Some("name"), ["a", "b", "c", "d"]),
        (Some("-name"), ["d", "c", "b", "a"]),
        (Some("createdAt"), ["b", "a", "c", "d"]),
        (Some("-createdAt"), ["d", "c", "a", "b"]),
        (Some("-lm,name"), ["b", "a", "c", "d"]),
        (Some("rank,-name"), ["c", "b", "d", "a"]),
        (Some("-rank, name"), ["a", "d", "b", "c"]),
    ] {
        let asked = ConvCommand {
            sort: sort.map(str::to_owned),
            r#where: text(r#"{"c":"tom"}"#),
            ..ConvCommand::default()
        };
        let rows = tom.query("tom", asked).await.unwrap();
        let found: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(found, wanted, "{sort:?}");
    }
}

#[tokio::test]
async fn pages_do_not_overlap_and_have_a_default() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    for n in 0..25 {
        named(&mut tom, "tom", &n.to_string(), &["jerry"]).await;
    }
    let page = async |tom: &mut Peer, limit, skip| -> Vec<String> {
        let rows = tom.query("tom", ConvCommand { limit, skip, ..ConvCommand::default() }).await.unwrap();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(page(&mut tom, None, None).await.len(), 10);
    assert!(page(&mut tom, Some(0), None).await.is_empty());
    assert_eq!(page(&mut tom, Some(1_000), None).await.len(), 25);
    assert_eq!(page(&mut tom, Some(i32::MAX), None).await.len(), 25);
    assert!(page(&mut tom, Some(10), Some(25)).await.is_empty());
    assert!(page(&mut tom, Some(10), Some(i32::MAX)).await.is_empty());
    let mut all = Vec::new();
    for skip in [0, 7, 14, 21] {
        all.extend(page(&mut tom, Some(7), Some(skip)).await);
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 25);
}

#[tokio::test]
async fn flags_leave_members_out_and_add_last_messages() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let spoken = named(&mut tom, "tom", "spoken", &["jerry"]).await;
    let binary = named(&mut tom, "tom", "binary", &["jerry"]).await;
    let silent = named(&mut tom, "tom", "silent", &["jerry"]).await;
    let first = tom.send_content("tom", &spoken, "first", Outgoing::default()).await.unwrap();
    server.clock.advance_ms(1_000);
    let how = Outgoing { mentions: ids(&["jerry"]), mention_all: true, ..Outgoing::default() };
    let last = tom.send_content("tom", &spoken, "last", how).await.unwrap();
    let bytes = tom.send_binary("tom", &binary, &[0xff, 0], Outgoing::default()).await.unwrap();

    let row = async |peer: &mut Peer, who: &str, cid: &str, flag| -> Value {
        let condition = json!({"objectId": cid}).to_string();
        let asked = ConvCommand { r#where: text(&condition), flag, ..ConvCommand::default() };
        peer.query(who, asked).await.unwrap().remove(0)
    };
    for flag in [None, Some(0), Some(1)] {
        let row = row(&mut jerry, "jerry", &spoken, flag).await;
        assert_eq!((row.get("msg"), row.get("m").is_some()), (None, flag != Some(1)), "{flag:?}");
        assert_eq!(row["lm"], json!({"__type": "Date", "iso": "2026-11-21T23:12:40.342Z"}));
    }
    let full = row(&mut jerry, "jerry", &spoken, Some(2)).await;
    assert_eq!(members(&full), ["jerry", "tom"]);
    for (key, value) in [
        ("msg", json!("last")),
        ("bin", json!(false)),
        ("msg_mid", json!(last.id)),
        ("msg_from", json!("tom")),
        ("msg_timestamp", json!(last.at)),
        ("mention_all", json!(true)),
        ("mention_pids", json!(["jerry"])),
    ] {
        assert_eq!(full[key], value, "{key}");
    }
    assert_eq!(full.get("patch_timestamp"), None);
    let compact = row(&mut jerry, "jerry", &spoken, Some(3)).await;
    assert_eq!((compact.get("m"), &compact["msg"]), (None, &json!("last")));
    let bin = row(&mut jerry, "jerry", &binary, Some(2)).await;
    assert_eq!((&bin["msg"], &bin["bin"], &bin["msg_mid"]), (&json!("/wA="), &json!(true), &json!(bytes.id)));
    let none = row(&mut jerry, "jerry", &silent, Some(2)).await;
    for key in ["msg", "bin", "msg_mid", "lm"] {
        assert_eq!(none.get(key), None, "{key}");
    }

    // An edit of the last message shows, one of an older message does not.
    tom.modify("tom", &spoken, &first, "first, edited").await.unwrap();
    assert_eq!(row(&mut jerry, "jerry", &spoken, Some(2)).await["msg"], json!("last"));
    let at = tom.recall("tom", &spoken, &last).await.unwrap();
    let recalled = row(&mut jerry, "jerry", &spoken, Some(2)).await;
    assert_eq!((&recalled["msg"], &recalled["patch_timestamp"]), (&json!(r#"{"_lctype":-127}"#), &json!(at)));

    // A stranger finds the conversation and not what is said in it.
    let mut mary = log_in(&server, "mary").await;
    let seen = row(&mut mary, "mary", &spoken, Some(2)).await;
    assert_eq!((&seen["name"], members(&seen)), (&json!("spoken"), ids(&["jerry", "tom"])));
    let hidden: Vec<&str> = [
        "msg",
        "bin",
        "msg_mid",
        "msg_from",
        "msg_timestamp",
        "patch_timestamp",
        "mention_all",
        "mention_pids",
    ]
    .into_iter()
    .filter(|key| seen.get(*key).is_some())
    .collect();
    assert_eq!(hidden, [""; 0]);
}

#[tokio::test]
async fn nine_hundred_ninety_nine_ids_at_once_are_a_fair_question() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = named(&mut tom, "tom", "one", &["jerry"]).await;
    let mut ids: Vec<String> = (0..998).map(|n| format!("5f3e2d1c0b0a0908070{n:05x}")).collect();
    ids.push(cid.clone());
    let condition = json!({"objectId": {"$in": ids}}).to_string();
    let asked =
        ConvCommand { r#where: text(&condition), limit: Some(999), flag: Some(0), ..ConvCommand::default() };
    let rows = tom.query("tom", asked).await.unwrap();
    assert_eq!((rows.len(), &rows[0]["objectId"]), (1, &json!(cid)));
}

#[tokio::test]
async fn a_query_that_can_not_be_meant_is_refused_and_the_connection_lives_on() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    named(&mut tom, "tom", "plain", &["jerry"]).await;
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let mut hostile: Vec<String> = vec![
        nested(r#"{"$and":["#, r#"{"name":"x"}"#, "]}", 40),
        nested(r#"{"$and":["#, r#"{"name":"x"}"#, "]}", 3_000),
        nested(r#"{"$not":"#, r#"{"name":"x"}"#, "}", 40),
        nested(r#"{"$or":["#, r#"{"name":"x"}"#, "]}", 2_000),
        nested("[", "", "]", 10_000),
        nested(r#"{"a":"#, "1", "}", 5_000),
        json!({"name": {"$in": vec![1; 5_000]}}).to_string(),
        json!({"name": {"$nin": vec!["x"; 5_000]}}).to_string(),
        json!({"attr.t": {"$all": vec![1; 5_000]}}).to_string(),
        json!({"$or": vec![json!({"name": "x"}); 1_000]}).to_string(),
        json!({"name": {"$regex": "(a{1000}){1000}"}}).to_string(),
        json!({"name": {"$regex": r"\pL{5000}"}}).to_string(),
        json!({"name": {"$regex": "x".repeat(5_000)}}).to_string(),
        json!({"name": {"$regex": "(".repeat(900)}}).to_string(),
        json!({"name": {"$regex": format!("{}{}", "(".repeat(400), ")".repeat(400))}}).to_string(),
        json!({"$or": vec![json!({"name": {"$regex": r"\w{200}"}}); 150]}).to_string(),
    ];
    hostile.extend(
        [
            "[]",
            "null",
            "5",
            "\"x\"",
            "{",
            r#"{"name":{"$regex":"("}}"#,
            r#"{"name":{"$regex":"(?=a)"}}"#,
            r#"{"name":{"$regex":"(a)\\1"}}"#,
            r#"{"name":{"$regex":5}}"#,
            r#"{"name":{"$regex":"a","$options":5}}"#,
            r#"{"name":{"$regex":"a","$options":"q"}}"#,
            r#"{"name":{"$in":5}}"#,
            r#"{"name":{"$nin":{"a":1}}}"#,
            r#"{"name":{"$all":"x"}}"#,
            r#"{"m":{"$size":"x"}}"#,
            r#"{"m":{"$size":-1}}"#,
            r#"{"m":{"$size":1.5}}"#,
            r#"{"name":{"$exists":"x"}}"#,
            r#"{"name":{"$not":1}}"#,
            r#"{"name":{"$where":"1"}}"#,
            r#"{"name":{"$near":[1,2]}}"#,
            r#"{"name":{"$eq":"x","bare":1}}"#,
            r#"{"$and":{}}"#,
            r#"{"$or":[1]}"#,
            r#"{"$not":[]}"#,
            r#"{"$where":"while(true);"}"#,
            r#"{"objectId":5}"#,
            r#"{"objectId":{"$in":[5]}}"#,
            r#"{"createdAt":"yesterday"}"#,
            r#"{"createdAt":{"$lt":{"__type":"Date","iso":"never"}}}"#,
            r#"{"a..b":1}"#,
        ]
        .map(str::to_owned),
    );
    for condition in &hostile {
        let short: String = condition.chars().take(60).collect();
        let answer = tokio::time::timeout(HOSTILE_LIMIT, tom.query_where("tom", condition)).await;
        let answer = answer.unwrap_or_else(|_| panic!("it takes too long: {short}"));
        assert!(answer.is_err(), "{short}: {answer:?}");
        assert_eq!(code(answer), 4310, "{short}");
    }
    let sort = (0..200).map(|n| format!("key{n}")).collect::<Vec<_>>().join(",");
    let asked = ConvCommand { sort: Some(sort), ..ConvCommand::default() };
    assert_eq!(code(tom.query("tom", asked).await), 4310);
    assert_eq!(names(&mut tom, "{}").await, ["plain"]);
}

#[tokio::test]
async fn a_catastrophic_pattern_takes_linear_time() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let name = format!("{}!", "a".repeat(20_000));
    named(&mut tom, "tom", &name, &["jerry"]).await;
    for pattern in
        ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "(.*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(a*)*(a*)*c"]
    {
        let condition = json!({"name": {"$regex": pattern}}).to_string();
        let answer = tokio::time::timeout(HOSTILE_LIMIT, tom.query_where("tom", &condition)).await;
        match answer.unwrap_or_else(|_| panic!("it takes too long: {pattern}")) {
            Ok(rows) => assert_eq!(rows.len(), 0, "{pattern}"),
            Err(error) => assert_eq!(error.code(), Some(4310), "{pattern}"),
        }
    }
}

/// Searches that take long have a thread of their own: they delay each other, not logins and history.
#[tokio::test]
async fn searches_that_take_long_delay_nobody_else() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let mut own = String::new();
    for number in 0..12 {
        own = named(&mut tom, "tom", &format!("{number}{}", "ab".repeat(2_000)), &["jerry"]).await;
    }
    let branch = json!({"name": {"$regex": "a(?:[ab]?){400}[^ab]"}});
    let hostile = json!({"$or": vec![branch; 10]}).to_string();
    let mut searching = Vec::new();
    for number in 0..2 {
        let who = format!("hostile-{number}");
        let mut peer = log_in(&server, &who).await;
        let ask = GenericCommand {
            conv_message: Some(ConvCommand {
                r#where: Some(JsonObjectMessage { data: Some(hostile.clone()) }),
                ..ConvCommand::default()
            }),
            ..peer::spoken(&who, CommandType::Conv, Some(OpType::Query))
        };
        peer.post(ask).await.unwrap();
        searching.push(peer);
    }
    let mut jerry = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    jerry.set_patience(HOSTILE_LIMIT);
    jerry.open(server.app_id(), "jerry", peer::Open::default()).await.unwrap();
    assert!(jerry.history("jerry", &own, 10).await.unwrap().is_empty());
    for mut peer in searching {
        // Found nothing in time, or gave up; either way it is answered.
        peer.set_patience(HOSTILE_LIMIT * 5);
        let answer = peer.expect("an answer", |answer| answer.i.is_some()).await.unwrap();
        assert!(peer::refusal(&answer).is_none_or(|refusal| refusal.code == 4310));
    }
}

#[tokio::test]
async fn a_query_larger_than_a_frame_is_refused_on_its_serial() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let condition = json!({"name": "x".repeat(60 * 1024)}).to_string();
    let refused = code(tom.query_where("tom", &condition).await);
    assert!([4109, 4310].contains(&refused), "{refused}");
    assert_eq!(names(&mut tom, "{}").await, [""; 0]);
}

async fn named(peer: &mut Peer, who: &str, name: &str, members: &[&str]) -> String {
    let attributes = json!({"name": name}).to_string();
    let cid = peer.create_conversation(who, members, false, &attributes).await.unwrap().cid;
    pushed(peer, who).await;
    cid
}

/// The names of what is found, whoever asks.
async fn names(asker: &mut Peer, condition: &str) -> Vec<String> {
    let asked = ConvCommand { r#where: text(condition), limit: Some(100), ..ConvCommand::default() };
    let answer = asker
        .call(GenericCommand {
            conv_message: Some(asked),
            ..peer::command(CommandType::Conv, Some(OpType::Query))
        })
        .await
        .unwrap_or_else(|error| panic!("{condition}: {error}"));
    let rows = parsed(answer.conv_message.unwrap().results);
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}
