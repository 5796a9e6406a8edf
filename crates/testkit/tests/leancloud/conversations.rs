//! Ordinary conversations: who hears of what, and what a row holds afterwards. The steps that all
//! tests of this folder's second half share stand at the end.

use std::fmt::Debug;

use posthouse::peer::{self, Error, Open, Opened, Outgoing, Peer};
use posthouse_leancloud::wire::proto::{
    CommandType, ConvCommand, GenericCommand, JsonObjectMessage, OpType, PresenceCommand, StatusType,
};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

/// The time at which every test server's clock starts.
pub(super) const START_ISO: &str = "2026-11-21T23:12:39.342Z";
const START_MS: i64 = 1_795_302_759_342;

/// An id that looks like a conversation's and is none.
pub(super) const NO_CONVERSATION: &str = "5f3e2d1c0b0a09080706aaaa";

#[tokio::test]
async fn a_new_conversation_is_told_to_every_session_of_every_member() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let (mut jerry, mut mary) = (log_in(&server, "jerry").await, log_in(&server, "mary").await);
    let started = tom.create_conversation("tom", &["jerry"], false, r#"{"name":"n"}"#).await.unwrap();
    assert_eq!((started.created_at.as_str(), started.existing), (START_ISO, false));
    assert!(is_hex(&started.cid, 24), "{}", started.cid);

    for (peer, who) in [(&mut tom, "tom"), (&mut tablet, "tom"), (&mut jerry, "jerry")] {
        let pushes = pushed(peer, who).await;
        assert_eq!(news(&pushes), ["joined by tom", "members_joined by tom: jerry,tom"], "{who}");
        for (push, class) in pushes.iter().zip([1, 2]) {
            assert_eq!((push.server_ts, push.notification_type), (Some(START_MS), Some(class)));
            let conv = push.conv_message.as_ref().unwrap();
            assert_eq!((conv.cid.as_ref(), conv.udate.as_deref()), (Some(&started.cid), Some(START_ISO)));
            assert_eq!((conv.temp_conv, conv.transient), (None, None));
        }
    }
    assert_eq!(news(&pushed(&mut mary, "mary").await), [""; 0]);
}

#[tokio::test]
async fn the_answer_comes_before_the_pushes_it_causes() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let start = ConvCommand { m: ids(&["tom", "jerry"]), ..ConvCommand::default() };
    let serial = tom.post(conv_command("tom", OpType::Start, start)).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        let command = tom.next().await.unwrap();
        kinds.push((op_name(&command), command.i));
    }
    let wanted = [("started", Some(serial)), ("joined", None), ("members_joined", None)];
    assert_eq!(kinds, wanted.map(|(op, i)| (op.to_owned(), i)));
}

#[tokio::test]
async fn attributes_are_kept_and_reserved_keys_ignored() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let attributes = json!({
        "name": "猫", "hello": 1, "attr": {"x": [1, {"y": null}], "z": "é"}, "nothing": null,
        "objectId": "o", "m": ["evil"], "mu": ["tom"], "c": "evil", "createdAt": "1", "updatedAt": "2",
        "lm": "3", "tr": true, "sys": true, "unique": true, "uniqueId": "u", "temp": true, "ttl": 5,
        "conv_type": 4, "msg": "fake", "bin": true,
    });
    let started = tom.create_conversation("tom", &["jerry"], false, &attributes.to_string()).await.unwrap();
    let row = tom.conversation("tom", &started.cid).await.unwrap().unwrap();
    assert_eq!(
        row,
        json!({
            "objectId": started.cid, "name": "猫", "hello": 1, "attr": {"x": [1, {"y": null}], "z": "é"},
            "c": "tom", "m": row["m"], "mu": [], "createdAt": START_ISO, "updatedAt": START_ISO, "conv_type": 1,
        })
    );
    assert_eq!(members(&row), ["jerry", "tom"]);
}

#[tokio::test]
async fn attributes_that_are_no_object_or_too_large_make_no_conversation() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let large = json!({"name": "x".repeat(33 * 1024)}).to_string();
    for attributes in ["[1]", "{", "7", large.as_str()] {
        assert_eq!(code(tom.create_conversation("tom", &["jerry"], false, attributes).await), 4301);
    }
    assert_eq!(tom.query_where("tom", "{}").await.unwrap(), [json!(null); 0]);
    assert_eq!(news(&pushed(&mut tom, "tom").await), [""; 0]);
}

#[tokio::test]
async fn the_same_members_share_their_unique_conversation() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let first = tom.create_conversation("tom", &["jerry", "mary"], true, r#"{"name":"N"}"#).await.unwrap();
    assert!(is_hex(first.unique_id.as_ref().unwrap(), 32));
    pushed(&mut tom, "tom").await;
    pushed(&mut jerry, "jerry").await;

    server.clock.advance_ms(5_000);
    // Another member, another order, another name.
    let wish = ConvCommand {
        m: ids(&["mary", "tom", "mary"]),
        unique: Some(true),
        attr: text(r#"{"name":"N2"}"#),
        ..ConvCommand::default()
    };
    let again = jerry.start("jerry", wish).await.unwrap();
    assert!(again.existing);
    assert_eq!(
        (&again.cid, &again.created_at, &again.unique_id),
        (&first.cid, &first.created_at, &first.unique_id)
    );
    assert_eq!(news(&pushed(&mut tom, "tom").await), [""; 0]);
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), [""; 0]);
    let row = tom.conversation("tom", &first.cid).await.unwrap().unwrap();
    assert_eq!(
        (&row["name"], &row["unique"], &row["uniqueId"]),
        (&json!("N"), &json!(true), &json!(first.unique_id))
    );

    let others = [
        tom.create_conversation("tom", &["jerry", "mary"], false, "{}").await.unwrap(),
        tom.create_conversation("tom", &["jerry", "mary", "spike"], true, "{}").await.unwrap(),
        tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap(),
    ];
    for other in &others {
        assert!(!other.existing && other.cid != first.cid, "{other:?}");
    }
    assert_eq!(others[0].unique_id, None);
}

#[tokio::test]
async fn two_who_start_the_same_conversation_at_once_get_one() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    for round in 0..10 {
        let third = format!("guest-{round}");
        let (with_jerry, with_tom) = (["jerry", &third], ["tom", &third]);
        let (a, b) = tokio::join!(
            tom.create_conversation("tom", &with_jerry, true, "{}"),
            jerry.create_conversation("jerry", &with_tom, true, "{}"),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.cid, b.cid);
        assert_ne!(a.existing, b.existing, "one made it, the other found it");
    }
}

#[tokio::test]
async fn an_added_member_hears_it_joined_and_everybody_hears_who_came() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let (mut jerry, mut mary) = (log_in(&server, "jerry").await, log_in(&server, "mary").await);
    let mut phone = log_in(&server, "mary").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    for (peer, who) in [(&mut tablet, "tom"), (&mut jerry, "jerry")] {
        pushed(peer, who).await;
    }

    let added = tom.add("tom", &cid, &["mary", "spike"]).await.unwrap();
    assert_eq!((added.cid.as_ref(), sorted(&added.allowed_pids)), (Some(&cid), ids(&["mary", "spike"])));
    assert_eq!(added.failed_pids, []);
    let came = "members_joined by tom: mary,spike";
    for (peer, who) in [(&mut tom, "tom"), (&mut tablet, "tom"), (&mut jerry, "jerry")] {
        let pushes = pushed(peer, who).await;
        assert_eq!(news(&pushes), [came], "{who}");
        assert_eq!(dates(&pushes), std::slice::from_ref(&added.udate));
        assert_eq!(pushes[0].notification_type, Some(2));
        assert!(pushes[0].server_ts.is_some());
    }
    for peer in [&mut mary, &mut phone] {
        let pushes = pushed(peer, "mary").await;
        assert_eq!(news(&pushes), ["joined by tom", came]);
        assert_eq!(dates(&pushes), [added.udate.clone(), added.udate.clone()]);
        assert_eq!(pushes[0].notification_type, Some(1));
    }
    let row = jerry.conversation("jerry", &cid).await.unwrap().unwrap();
    assert_eq!(members(&row), ["jerry", "mary", "spike", "tom"]);
    assert_eq!(row["updatedAt"], json!(added.udate));
}

#[tokio::test]
async fn a_removed_member_hears_it_left_and_those_who_stay_hear_who_went() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let (mut jerry, mut mary) = (log_in(&server, "jerry").await, log_in(&server, "mary").await);
    let cid = group(&mut tom, "tom", &["jerry", "mary"]).await;
    for (peer, who) in [(&mut tablet, "tom"), (&mut jerry, "jerry"), (&mut mary, "mary")] {
        pushed(peer, who).await;
    }
    let removed = tom.remove("tom", &cid, &["mary"]).await.unwrap();
    assert_eq!((removed.allowed_pids, removed.failed_pids), (ids(&["mary"]), vec![]));
    for (peer, who) in [(&mut tom, "tom"), (&mut tablet, "tom"), (&mut jerry, "jerry")] {
        let pushes = pushed(peer, who).await;
        assert_eq!(news(&pushes), ["members_left by tom: mary"], "{who}");
        assert_eq!((dates(&pushes), pushes[0].notification_type), (vec![removed.udate.clone()], Some(2)));
    }
    let pushes = pushed(&mut mary, "mary").await;
    assert_eq!(news(&pushes), ["left by tom"]);
    assert_eq!((dates(&pushes), pushes[0].notification_type), (vec![removed.udate.clone()], Some(1)));

    // She is really out.
    jerry.send_text("jerry", &cid, "alone", Outgoing::default()).await.unwrap();
    assert_eq!(news(&pushed(&mut mary, "mary").await), [""; 0]);
    assert_eq!(code(mary.send_text("mary", &cid, "hello?", Outgoing::default()).await), 4401);
}

#[tokio::test]
async fn joining_and_quitting_are_told_to_all_sessions_of_whoever_does_it() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    let mut phone = log_in(&server, "mary").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;

    let joined = mary.add("mary", &cid, &["mary"]).await.unwrap();
    assert_eq!(joined.allowed_pids, ["mary"]);
    for peer in [&mut mary, &mut phone] {
        assert_eq!(news(&pushed(peer, "mary").await), ["joined by mary", "members_joined by mary: mary"]);
    }
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["members_joined by mary: mary"]);

    let left = mary.remove("mary", &cid, &["mary"]).await.unwrap();
    assert_eq!(left.allowed_pids, ["mary"]);
    for peer in [&mut mary, &mut phone] {
        assert_eq!(news(&pushed(peer, "mary").await), ["left by mary"]);
    }
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["members_left by mary: mary"]);
    assert!(joined.udate.unwrap() < left.udate.unwrap());
}

#[tokio::test]
async fn a_conversation_outlives_its_creator_and_its_last_member() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    jerry.remove("jerry", &cid, &["tom"]).await.unwrap();
    assert_eq!(code(tom.update("tom", &cid, r#"{"name":"mine"}"#).await), 4309);
    jerry.remove("jerry", &cid, &["jerry"]).await.unwrap();
    let row = jerry.conversation("jerry", &cid).await.unwrap().unwrap();
    assert_eq!((&row["c"], &row["m"]), (&json!("tom"), &json!([])));
    assert_eq!(jerry.count("jerry", &cid).await.unwrap(), 0);
    // Anybody may join what is left, and reads what was said.
    tom.add("tom", &cid, &["tom"]).await.unwrap();
    tom.send_text("tom", &cid, "back", Outgoing::default()).await.unwrap();
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn adding_who_is_in_and_removing_who_is_out_changes_nothing() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    pushed(&mut jerry, "jerry").await;
    let before = tom.conversation("tom", &cid).await.unwrap();
    server.clock.advance_ms(1_000);
    let again = tom.add("tom", &cid, &["jerry", "jerry"]).await.unwrap();
    assert_eq!((again.allowed_pids, again.failed_pids), (ids(&["jerry"]), vec![]));
    assert_eq!(again.udate.as_deref(), Some(START_ISO));
    let never_in = tom.remove("tom", &cid, &["spike"]).await.unwrap();
    assert_eq!((never_in.allowed_pids, never_in.failed_pids), (ids(&["spike"]), vec![]));
    assert_eq!(tom.conversation("tom", &cid).await.unwrap(), before);
    for (peer, who) in [(&mut tom, "tom"), (&mut jerry, "jerry")] {
        assert_eq!(news(&pushed(peer, who).await), [""; 0]);
    }

    // Leaving twice is no error either; who is half new is told of the new half only.
    tom.remove("tom", &cid, &["jerry"]).await.unwrap();
    jerry.remove("jerry", &cid, &["jerry"]).await.unwrap();
    tom.add("tom", &cid, &["tom", "jerry"]).await.unwrap();
    assert_eq!(
        news(&pushed(&mut jerry, "jerry").await),
        ["left by tom", "joined by tom", "members_joined by tom: jerry"]
    );
}

#[tokio::test]
async fn every_change_has_a_later_date_even_while_the_clock_stands() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let mut dates = vec![START_ISO.to_owned()];
    dates.push(tom.add("tom", &cid, &["mary"]).await.unwrap().udate.unwrap());
    dates.push(tom.update("tom", &cid, r#"{"name":"x"}"#).await.unwrap().udate.unwrap());
    dates.push(tom.remove("tom", &cid, &["mary"]).await.unwrap().udate.unwrap());
    server.clock.advance_ms(-60_000);
    dates.push(tom.add("tom", &cid, &["mary"]).await.unwrap().udate.unwrap());
    dates.push(tom.update("tom", &cid, r#"{"name":"y"}"#).await.unwrap().udate.unwrap());
    assert!(dates.is_sorted_by(|a, b| a < b), "{dates:?}");
    server.clock.advance_ms(120_000);
    let late = tom.update("tom", &cid, r#"{"name":"z"}"#).await.unwrap().udate;
    assert_eq!(late.as_deref(), Some("2026-11-21T23:13:39.342Z"));
}

#[tokio::test]
async fn a_conversation_has_no_more_members_than_allowed() {
    let mut server = TestServer::start().await;
    server.set(&[("members_max", "3")]).await;
    let mut tom = log_in(&server, "tom").await;
    assert_eq!(code(tom.create_conversation("tom", &["a", "b", "c"], false, "{}").await), 4304);
    let cid = group(&mut tom, "tom", &["a"]).await;
    assert_eq!(code(tom.add("tom", &cid, &["b", "c"]).await), 4304);
    // Nobody of the refused two is in.
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 2);
    tom.add("tom", &cid, &["a", "b"]).await.unwrap();
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 3);
    let mut late = log_in(&server, "late").await;
    assert_eq!(code(late.add("late", &cid, &["late"]).await), 4304);
}

#[tokio::test]
async fn only_members_add_and_remove_others() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    assert_eq!(code(mary.add("mary", &cid, &["mary", "spike"]).await), 4317);
    assert_eq!(code(mary.remove("mary", &cid, &["jerry"]).await), 4317);
    assert_eq!(news(&pushed(&mut tom, "tom").await), [""; 0]);
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 2);
    for cid in [NO_CONVERSATION, "nonsense", ""] {
        assert_eq!(code(mary.add("mary", cid, &["mary"]).await), 4303, "{cid}");
        assert_eq!(code(mary.remove("mary", cid, &["mary"]).await), 4303, "{cid}");
    }
    let long = "x".repeat(65);
    assert_eq!(code(tom.create_conversation("tom", &[&long], false, "{}").await), 4301);
    assert_eq!(code(tom.add("tom", &cid, &[&long]).await), 4301);
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 2);
}

#[tokio::test]
async fn a_pair_that_takes_a_third_is_no_longer_the_pairs_own() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let pair = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap();
    tom.add("tom", &pair.cid, &["mary"]).await.unwrap();
    let next = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap();
    assert!(!next.existing && next.cid != pair.cid);
    // Nor is it that of the three.
    let three = tom.create_conversation("tom", &["jerry", "mary"], true, "{}").await.unwrap();
    assert!(!three.existing && three.cid != pair.cid);
    // When the third has gone, the new pair stays the pair's own.
    tom.remove("tom", &pair.cid, &["mary"]).await.unwrap();
    let again = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap();
    assert_eq!((again.existing, again.cid), (true, next.cid));
}

#[tokio::test]
async fn an_update_does_every_operation_and_answers_new_values() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let before = json!({
        "name": "old", "gone": 1,
        "attr": {"n": 1, "tags": ["a"], "bag": [1, 2, 1], "deep": {"x": 1, "y": 2}},
    });
    let cid = tom.create_conversation("tom", &["jerry"], false, &before.to_string()).await.unwrap().cid;
    let changes = json!({
        "name": "new",
        "gone": {"__op": "Delete"},
        "attr.n": {"__op": "Increment", "amount": 2},
        "attr.m": {"__op": "Increment", "amount": -1.5},
        "attr.tags": {"__op": "AddUnique", "objects": ["a", "b"]},
        "attr.list": {"__op": "Add", "objects": [1, 1]},
        "attr.bag": {"__op": "Remove", "objects": [1]},
        "attr.deep.x": {"__op": "Delete"},
        "attr.deep.z.w": {"plain": true},
    });
    let updated = tom.update("tom", &cid, &changes.to_string()).await.unwrap();
    let after = json!({"n": 3, "m": -1.5, "tags": ["a", "b"], "list": [1, 1], "bag": [2]});
    assert_eq!(updated.cid.as_ref(), Some(&cid));
    assert_eq!(parsed(updated.attr), changes);
    assert_eq!(
        parsed(updated.attr_modified),
        json!({"name": "new", "attr": {
            "n": 3, "m": -1.5, "tags": ["a", "b"], "list": [1, 1], "bag": [2],
            "deep": {"z": {"w": {"plain": true}}},
        }})
    );
    let row = tom.conversation("tom", &cid).await.unwrap().unwrap();
    assert_eq!((&row["name"], row.get("gone")), (&json!("new"), None));
    let mut attr = after;
    attr["deep"] = json!({"y": 2, "z": {"w": {"plain": true}}});
    assert_eq!(row["attr"], attr);
    assert_eq!(row["updatedAt"], json!(updated.udate));
}

#[tokio::test]
async fn an_update_is_told_to_all_but_the_session_that_made_it() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let (mut jerry, mut mary) = (log_in(&server, "jerry").await, log_in(&server, "mary").await);
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    for (peer, who) in [(&mut tablet, "tom"), (&mut jerry, "jerry")] {
        pushed(peer, who).await;
    }
    let changes = r#"{"name":"new","attr.x":{"__op":"Increment","amount":2},"attr.y":{"__op":"Delete"}}"#;
    let updated = tom.update("tom", &cid, changes).await.unwrap();
    for (peer, who) in [(&mut tablet, "tom"), (&mut jerry, "jerry")] {
        let pushes = pushed(peer, who).await;
        assert_eq!(news(&pushes), ["updated by tom"], "{who}");
        let push = pushes.into_iter().next().unwrap();
        assert!(push.server_ts.is_some());
        assert_eq!(push.notification_type, Some(2));
        let conv = push.conv_message.unwrap();
        assert_eq!((conv.cid.as_ref(), &conv.udate), (Some(&cid), &updated.udate));
        assert_eq!(parsed(conv.attr_modified), json!({"name": "new", "attr": {"x": 2}}));
        // JS applies each key of `attr` as a path, so there must be values in it.
        let attr = parsed(conv.attr);
        assert_eq!((&attr["name"], &attr["attr.x"]), (&json!("new"), &json!(2)));
    }
    for (peer, who) in [(&mut tom, "tom"), (&mut mary, "mary")] {
        assert_eq!(news(&pushed(peer, who).await), [""; 0], "{who}");
    }
}

#[tokio::test]
async fn a_refused_update_changes_nothing() {
    let mut server = TestServer::start().await;
    server.set(&[("attributes_bytes_max", "300")]).await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let mut mary = log_in(&server, "mary").await;
    let cid = tom
        .create_conversation("tom", &["jerry"], false, r#"{"name":"n","attr":{"s":"t"}}"#)
        .await
        .unwrap()
        .cid;
    pushed(&mut tom, "tom").await;
    pushed(&mut jerry, "jerry").await;
    let before = tom.conversation("tom", &cid).await.unwrap();

    let large = json!({"attr.long": "x".repeat(300)}).to_string();
    let nested = format!("{}1{}", r#"{"a":"#.repeat(40), "}".repeat(40));
    for changes in [
        r#"{"name":"x","attr.s":{"__op":"Increment","amount":1}}"#,
        r#"{"name":"x","attr.s":{"__op":"Add","objects":[1]}}"#,
        r#"{"name":"x","attr.s.t":1}"#,
        r#"{"name":{"__op":"Batch"}}"#,
        r#"{"name":"x","attr..y":1}"#,
        r#"{"name":"x","m":["evil"]}"#,
        r#"{"name":"x","c":"evil"}"#,
        r#"{"name":"x","objectId":"evil"}"#,
        "{}",
        "[]",
        "{",
        &large,
        &nested,
    ] {
        assert_eq!(code(jerry.update("jerry", &cid, changes).await), 4306, "{changes}");
    }
    assert_eq!(code(mary.update("mary", &cid, r#"{"name":"x"}"#).await), 4309);
    assert_eq!(code(mary.update("mary", NO_CONVERSATION, r#"{"name":"x"}"#).await), 4303);
    assert_eq!(tom.conversation("tom", &cid).await.unwrap(), before);
    for (peer, who) in [(&mut tom, "tom"), (&mut jerry, "jerry")] {
        assert_eq!(news(&pushed(peer, who).await), [""; 0]);
    }
}

#[tokio::test]
async fn muting_is_ones_own_and_tells_nobody() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    pushed(&mut jerry, "jerry").await;
    let answer = jerry.ask(conv_command("jerry", OpType::Mute, of(&cid))).await.unwrap();
    assert!(peer::is(&answer, CommandType::Conv, Some(OpType::Updated)), "{answer:?}");
    let conv = answer.conv_message.unwrap();
    assert_eq!((conv.cid.as_ref(), conv.udate.is_some()), (Some(&cid), true));
    let muted =
        async |peer: &mut Peer, who: &str| peer.conversation(who, &cid).await.unwrap().unwrap()["mu"].clone();
    assert_eq!(muted(&mut jerry, "jerry").await, json!(["jerry"]));
    jerry.mute("jerry", &cid, true).await.unwrap();
    assert_eq!(muted(&mut jerry, "jerry").await, json!(["jerry"]));
    // Online he still gets messages.
    tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), ["direct hi"]);
    jerry.mute("jerry", &cid, false).await.unwrap();
    assert_eq!(muted(&mut jerry, "jerry").await, json!([]));
    assert_eq!(news(&pushed(&mut tom, "tom").await), [""; 0]);
    let mut mary = log_in(&server, "mary").await;
    assert_eq!(code(mary.mute("mary", &cid, true).await), 4309);
    assert_eq!(muted(&mut jerry, "jerry").await, json!([]));
}

#[tokio::test]
async fn count_and_membership_answer_for_what_there_is() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    let cid = group(&mut tom, "tom", &["jerry", "spike"]).await;
    let answer = tom.ask(conv_command("tom", OpType::Count, of(&cid))).await.unwrap();
    assert!(peer::is(&answer, CommandType::Conv, Some(OpType::Result)), "{answer:?}");
    let conv = answer.conv_message.unwrap();
    assert_eq!((conv.cid.as_ref(), conv.count), (Some(&cid), Some(3)));
    assert_eq!(code(tom.count("tom", NO_CONVERSATION).await), 4303);

    for (peer, who, member) in [(&mut tom, "tom", true), (&mut mary, "mary", false)] {
        let asked = ConvCommand { cids: ids(&[&cid, NO_CONVERSATION]), ..ConvCommand::default() };
        let answer = peer.ask(conv_command(who, OpType::IsMember, asked)).await.unwrap();
        assert!(peer::is(&answer, CommandType::Conv, Some(OpType::IsMember)), "{answer:?}");
        let results = parsed(answer.conv_message.unwrap().results);
        assert_eq!(results, json!({cid.clone(): member, NO_CONVERSATION: false}));
    }
}

#[tokio::test]
async fn max_read_tells_how_far_the_others_are() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = group(&mut tom, "tom", &["jerry", "mary"]).await;
    let sent = tom.send_text("tom", &cid, "1", Outgoing::default()).await.unwrap();
    let nothing = tom.max_read("tom", &cid, false).await.unwrap();
    assert_eq!(nothing.cid.as_ref(), Some(&cid));
    assert_eq!(nothing.max_read_timestamp.unwrap_or(0), 0);
    assert_eq!(nothing.max_ack_timestamp.unwrap_or(0), 0);

    server.clock.advance_ms(1_000);
    jerry.ack_message("jerry", &cid, &sent.id).await.unwrap();
    jerry.settle().await.unwrap();
    let acked = tom.max_read("tom", &cid, false).await.unwrap();
    assert!(acked.max_ack_timestamp.unwrap() >= sent.at);
    assert_eq!(acked.max_read_timestamp.unwrap_or(0), 0);

    server.clock.advance_ms(1_000);
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    let read = tom.max_read("tom", &cid, false).await.unwrap().max_read_timestamp.unwrap();
    assert!((sent.at..=server.now().0).contains(&read), "{read}");
    // One's own marks are no news to oneself.
    let own = jerry.max_read("jerry", &cid, false).await.unwrap();
    assert_eq!(own.max_read_timestamp.unwrap_or(0), 0);

    let all = tom.max_read("tom", &cid, true).await.unwrap();
    let mut tuples: Vec<_> = all
        .max_read_tuples
        .iter()
        .map(|tuple| (tuple.pid.clone().unwrap(), tuple.max_read_timestamp.unwrap_or(0)))
        .collect();
    tuples.sort();
    assert_eq!(tuples, [("jerry".to_owned(), read), ("mary".to_owned(), 0)]);
    let mut stranger = log_in(&server, "spike").await;
    assert_eq!(code(stranger.max_read("spike", &cid, false).await), 4317);
}

// ---- steps that other files share ------------------------------------------------------------------

/// A client logged in on a socket of its own.
pub(super) async fn log_in(server: &TestServer, who: &str) -> Peer {
    log_in_how(server, who, Open::default()).await.0
}

/// The same, in a way of one's own.
pub(super) async fn log_in_how(server: &TestServer, who: &str, how: Open) -> (Peer, Opened) {
    let mut peer = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    let opened = peer.open(server.app_id(), who, how).await.unwrap();
    (peer, opened)
}

/// A client on a device of its own, as every real SDK names one.
pub(super) async fn log_in_on(server: &TestServer, who: &str, device: &str) -> (Peer, Opened) {
    log_in_how(server, who, Open { device_id: Some(device.to_owned()), ..Open::default() }).await
}

/// A new ordinary conversation; its maker has taken note of it.
pub(super) async fn group(peer: &mut Peer, who: &str, members: &[&str]) -> String {
    let cid = peer.create_conversation(who, members, false, "{}").await.unwrap().cid;
    pushed(peer, who).await;
    cid
}

/// Everything the server has pushed so far, each of it addressed as SDKs need it.
pub(super) async fn pushed(peer: &mut Peer, who: &str) -> Vec<GenericCommand> {
    peer.settle().await.unwrap();
    let pushes = peer.take_pushes();
    for push in &pushes {
        let address = (push.i, push.service, push.peer_id.as_deref());
        assert_eq!(address, (None, Some(2), Some(who)), "{push:?}");
    }
    pushes
}

/// Each push in a few words.
pub(super) fn news(pushes: &[GenericCommand]) -> Vec<String> {
    pushes.iter().map(words).collect()
}

fn words(push: &GenericCommand) -> String {
    if let Some(direct) = &push.direct_message {
        let content = direct.msg.clone().unwrap_or_default();
        let plain = String::from_utf8_lossy(&content).into_owned();
        return format!("direct {}", peer::text_of(&content).unwrap_or(plain));
    }
    if let Some(PresenceCommand { status, session_peer_ids, .. }) = &push.presence_message {
        let status = StatusType::try_from(status.unwrap()).unwrap().as_str_name();
        return format!("presence {status}: {}", sorted(session_peer_ids).join(","));
    }
    if let Some(conv) = &push.conv_message {
        let members = match sorted(&conv.m).join(",") {
            none if none.is_empty() => none,
            some => format!(": {some}"),
        };
        return format!("{} by {}{members}", op_name(push), conv.init_by.clone().unwrap_or_default());
    }
    let cmd = CommandType::try_from(push.cmd.unwrap()).unwrap().as_str_name();
    match push.op {
        Some(_) => format!("{cmd}/{}", op_name(push)),
        None => cmd.to_owned(),
    }
}

/// The refusal's number; anything else is a failed test.
pub(super) fn code<T: Debug>(outcome: Result<T, Error>) -> i32 {
    match outcome {
        Err(error) => match error.code() {
            Some(code) => code,
            None => panic!("no refusal: {error}"),
        },
        Ok(done) => panic!("not refused: {done:?}"),
    }
}

/// Waits until the server has noticed that the connection of `who` is lost.
pub(super) async fn wait_until_offline(peer: &mut Peer, me: &str, who: &str) {
    let patience = peer.patience();
    let gone = async {
        while !peer.online(me, &[who]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, gone).await.expect("the server notices a lost connection");
}

/// A `conv` command that is sent as it is.
pub(super) fn conv_command(who: &str, op: OpType, conv: ConvCommand) -> GenericCommand {
    GenericCommand { conv_message: Some(conv), ..peer::spoken(who, CommandType::Conv, Some(op)) }
}

/// A `conv` command's content that names a conversation.
pub(super) fn of(cid: &str) -> ConvCommand {
    ConvCommand { cid: Some(cid.to_owned()), ..ConvCommand::default() }
}

/// JSON inside protobuf.
pub(super) fn text(json: &str) -> Option<JsonObjectMessage> {
    Some(JsonObjectMessage { data: Some(json.to_owned()) })
}

/// The JSON inside protobuf.
pub(super) fn parsed(json: Option<JsonObjectMessage>) -> Value {
    serde_json::from_str(&json.unwrap().data.unwrap()).unwrap()
}

/// Owned ids.
pub(super) fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// A copy in order.
pub(super) fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

/// The members of a row, in order.
pub(super) fn members(row: &Value) -> Vec<String> {
    let members: Vec<String> = serde_json::from_value(row["m"].clone()).unwrap();
    sorted(&members)
}

fn dates(pushes: &[GenericCommand]) -> Vec<Option<String>> {
    pushes.iter().map(|push| push.conv_message.as_ref().unwrap().udate.clone()).collect()
}

fn op_name(command: &GenericCommand) -> String {
    let op = command.op.and_then(|op| OpType::try_from(op).ok());
    op.map_or_else(String::new, |op| op.as_str_name().to_owned())
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
