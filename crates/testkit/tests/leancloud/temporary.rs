//! Temporary conversations: who is in them, how long they last, and that nothing of them is left.

use std::path::Path;

use posthouse::peer::{Open, Outgoing, Peer, Sent, http_get};
use posthouse_leancloud::wire::proto::{CommandType, ConvCommand, OpType};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};

use crate::conversations::{
    START_ISO, code, ids, log_in, log_in_how, log_in_on, members, news, of, pushed, text, wait_until_offline,
};

const DAY_S: i32 = 86_400;
/// What looks like a temporary conversation's id and is none.
const MADE_UP: &str = "_tmp:00000000000000000000000000000007";

#[tokio::test]
async fn everybody_hears_of_it_at_once() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let (mut jerry, mut mary) = (log_in(&server, "jerry").await, log_in(&server, "mary").await);
    let mut spike = log_in(&server, "spike").await;
    let started = tom.create_temporary("tom", &["jerry", "mary"], Some(600)).await.unwrap();
    let digits = started.cid.strip_prefix("_tmp:").unwrap();
    assert!(digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    assert_eq!((started.existing, started.ttl_s, started.created_at.as_str()), (false, Some(600), START_ISO));
    for (peer, who) in [(&mut tom, "tom"), (&mut tablet, "tom"), (&mut jerry, "jerry"), (&mut mary, "mary")] {
        let pushes = pushed(peer, who).await;
        assert_eq!(news(&pushes), ["joined by tom", "members_joined by tom: jerry,mary,tom"], "{who}");
        for (push, class) in pushes.iter().zip([1, 2]) {
            assert_eq!((push.server_ts.is_some(), push.notification_type), (true, Some(class)));
            let conv = push.conv_message.as_ref().unwrap();
            assert_eq!(conv.cid.as_ref(), Some(&started.cid));
            // By these two Java makes the right kind of object.
            assert_eq!((conv.temp_conv, conv.temp_conv_ttl), (Some(true), Some(600)));
            assert_eq!(conv.udate.as_deref(), Some(START_ISO));
        }
    }
    assert!(pushed(&mut spike, "spike").await.is_empty());
}

#[tokio::test]
async fn the_granted_life_is_in_the_reply_and_in_the_row() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    for (wish, granted) in [
        (None, DAY_S),
        (Some(0), DAY_S),
        (Some(-5), DAY_S),
        (Some(i32::MIN), DAY_S),
        (Some(1), 1),
        (Some(3_600), 3_600),
        (Some(30 * DAY_S), 30 * DAY_S),
        (Some(30 * DAY_S + 1), 30 * DAY_S),
        (Some(i32::MAX), 30 * DAY_S),
    ] {
        let friend = format!("friend-{wish:?}");
        let started = tom.create_temporary("tom", &[&friend], wish).await.unwrap();
        assert_eq!(started.ttl_s, Some(granted), "{wish:?}");
        let row = tom.conversation("tom", &started.cid).await.unwrap().unwrap();
        assert_eq!(
            (&row["ttl"], &row["temp"], &row["conv_type"]),
            (&json!(granted), &json!(true), &json!(4))
        );
    }
}

#[tokio::test]
async fn the_row_tells_the_whole_life_however_old_it_is() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let wish = ConvCommand {
        m: ids(&["jerry", "tom"]),
        temp_conv: Some(true),
        temp_conv_ttl: Some(600),
        attr: text(r#"{"name":"desk","ticket":7}"#),
        ..ConvCommand::default()
    };
    let cid = tom.start("tom", wish).await.unwrap().cid;
    server.pass_ms(599_000).await;
    let row = tom.conversation("tom", &cid).await.unwrap().unwrap();
    assert_eq!(
        row,
        json!({
            "objectId": cid, "name": "desk", "ticket": 7, "c": "tom", "m": row["m"], "mu": [],
            "createdAt": START_ISO, "updatedAt": START_ISO, "temp": true, "ttl": 600, "conv_type": 4,
        })
    );
    assert_eq!(members(&row), ["jerry", "tom"]);
}

#[tokio::test]
async fn ten_clients_fit_the_creator_among_them() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let guests: Vec<String> = (0..10).map(|n| format!("guest-{n}")).collect();
    let guests: Vec<&str> = guests.iter().map(String::as_str).collect();
    let ten = tom.create_temporary("tom", &guests[..9], None).await.unwrap();
    assert_eq!(tom.count("tom", &ten.cid).await.unwrap(), 10);
    pushed(&mut tom, "tom").await;
    let refused = tom.create_temporary("tom", &guests, None).await;
    assert_eq!(code(refused), 4304);
    // Naming only the ten others, as Java does, is one too many as well; naming one twice is not.
    let others = ConvCommand { m: ids(&guests), temp_conv: Some(true), ..ConvCommand::default() };
    assert_eq!(code(tom.start("tom", others).await), 4304);
    let crowd = ConvCommand { m: vec!["x".to_owned(); 500], temp_conv: Some(true), ..ConvCommand::default() };
    match tom.start("tom", crowd).await {
        Ok(started) => assert_eq!(tom.count("tom", &started.cid).await.unwrap(), 2),
        Err(error) => assert_eq!(error.code(), Some(4304)),
    }
}

#[tokio::test]
async fn the_same_members_get_the_same_one_while_it_lives() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let first = tom.create_temporary("tom", &["jerry", "mary"], Some(600)).await.unwrap();
    pushed(&mut tom, "tom").await;
    pushed(&mut jerry, "jerry").await;
    server.pass_ms(1_000).await;
    for (unique, members) in [
        (Some(true), ["mary", "tom", "jerry"]),
        (Some(false), ["jerry", "mary", "tom"]),
        (None, ["tom", "mary", "jerry"]),
    ] {
        let wish = ConvCommand {
            m: ids(&members),
            unique,
            temp_conv: Some(true),
            temp_conv_ttl: Some(30),
            ..ConvCommand::default()
        };
        let again = jerry.start("jerry", wish).await.unwrap();
        assert_eq!((&again.cid, again.existing), (&first.cid, true), "{unique:?}");
        // Its life is what it was granted, not what the second asks for.
        assert_eq!((again.ttl_s, &again.created_at), (Some(600), &first.created_at));
    }
    assert!(pushed(&mut tom, "tom").await.is_empty());
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
    let other = tom.create_temporary("tom", &["jerry"], Some(600)).await.unwrap();
    assert_ne!(other.cid, first.cid);
    // The ordinary conversation of the same members is another one.
    let lasting = tom.create_conversation("tom", &["jerry", "mary"], true, "{}").await.unwrap();
    assert!(!lasting.existing && !lasting.cid.starts_with("_tmp:"));
}

#[tokio::test]
async fn two_who_start_it_at_once_get_one() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    for round in 0..10 {
        let third = format!("guest-{round}");
        let (with_jerry, with_tom) = (["jerry", &third], ["tom", &third]);
        let (a, b) = tokio::join!(
            tom.create_temporary("tom", &with_jerry, Some(60)),
            jerry.create_temporary("jerry", &with_tom, Some(90)),
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((&a.cid, a.ttl_s), (&b.cid, b.ttl_s));
        assert_ne!(a.existing, b.existing, "one made it, the other found it");
    }
}

#[tokio::test]
async fn nobody_comes_goes_mutes_or_changes_anything() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = chat(&mut tom, &mut jerry, 600).await;
    let before = tom.conversation("tom", &cid).await.unwrap();
    assert_eq!(code(tom.add("tom", &cid, &["mary"]).await), 4314);
    assert_eq!(code(tom.add("tom", &cid, &["jerry"]).await), 4314);
    assert_eq!(code(tom.remove("tom", &cid, &["jerry"]).await), 4314);
    assert_eq!(code(jerry.remove("jerry", &cid, &["jerry"]).await), 4314);
    assert_eq!(code(tom.mute("tom", &cid, true).await), 4314);
    assert_eq!(code(tom.mute("tom", &cid, false).await), 4314);
    assert_eq!(code(tom.update("tom", &cid, r#"{"name":"x"}"#).await), 4314);
    assert_eq!(tom.conversation("tom", &cid).await.unwrap(), before);
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 2);
    assert!(pushed(&mut tom, "tom").await.is_empty());
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
}

#[tokio::test]
async fn no_ordinary_query_finds_it() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let wish = ConvCommand {
        m: ids(&["jerry", "tom"]),
        temp_conv: Some(true),
        attr: text(r#"{"name":"desk"}"#),
        ..ConvCommand::default()
    };
    let cid = tom.start("tom", wish).await.unwrap().cid;
    let by_id = json!({"objectId": cid}).to_string();
    let by_ids = json!({"objectId": {"$in": [cid]}}).to_string();
    let by_ids_or = json!({"$or": [{"objectId": cid}, {"name": "desk"}]}).to_string();
    for condition in [
        "{}",
        r#"{"name":"desk"}"#,
        r#"{"m":"tom"}"#,
        r#"{"m":{"$all":["tom","jerry"]}}"#,
        r#"{"c":"tom"}"#,
        r#"{"temp":true}"#,
        r#"{"conv_type":4}"#,
        r#"{"tr":{"$exists":false}}"#,
        r#"{"objectId":{"$ne":"x"}}"#,
        &by_id,
        &by_ids,
        &by_ids_or,
    ] {
        assert_eq!(tom.query_where("tom", condition).await.unwrap(), Vec::<Value>::new(), "{condition}");
    }
}

#[tokio::test]
async fn only_its_members_find_it_by_its_id() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let mut mary = log_in(&server, "mary").await;
    let cid = chat(&mut tom, &mut jerry, 600).await;
    let own = mary.create_temporary("mary", &["tom"], Some(600)).await.unwrap().cid;
    let lasting = mary.create_conversation("mary", &["jerry"], false, "{}").await.unwrap().cid;
    let asked = ConvCommand {
        temp_conv_ids: ids(&[&cid, &own, &cid, MADE_UP, "nonsense", &lasting]),
        // The conditions don't count beside ids.
        r#where: text(r#"{"name":"none"}"#),
        ..ConvCommand::default()
    };
    for (peer, who, wanted) in [
        (&mut tom, "tom", vec![&cid, &own]),
        (&mut jerry, "jerry", vec![&cid]),
        (&mut mary, "mary", vec![&own]),
    ] {
        let rows = peer.query(who, asked.clone()).await.unwrap();
        let mut found: Vec<&str> = rows.iter().map(|row| row["objectId"].as_str().unwrap()).collect();
        let mut wanted: Vec<&str> = wanted.into_iter().map(String::as_str).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "{who}");
    }
    let many = ConvCommand { temp_conv_ids: vec![cid; 500], ..ConvCommand::default() };
    assert_eq!(code(tom.query("tom", many).await), 4310);
}

#[tokio::test]
async fn it_ends_to_the_millisecond() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = chat(&mut tom, &mut jerry, 10).await;
    let sent = tom.send_text("tom", &cid, "first", Outgoing::default()).await.unwrap();
    pushed(&mut jerry, "jerry").await;

    server.pass_ms(9_999).await;
    tom.send_text("tom", &cid, "last", Outgoing::default()).await.unwrap();
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), ["direct last"]);
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap().len(), 2);
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 2);
    tom.max_read("tom", &cid, false).await.unwrap();
    tom.modify("tom", &cid, &sent, "edited").await.unwrap();
    assert!(tom.conversation("tom", &cid).await.unwrap().is_some());
    pushed(&mut jerry, "jerry").await;

    server.pass_ms(1).await;
    all_is_over(&mut tom, &cid, &sent).await;
    // `read` has no answer, so nothing comes, not even of the unread number.
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.ack_message("jerry", &cid, &sent.id).await.unwrap();
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
    assert!(pushed(&mut tom, "tom").await.is_empty());
    // The connection lives on.
    assert_eq!(tom.online("tom", &["jerry"]).await.unwrap(), ["jerry"]);
}

#[tokio::test]
async fn it_stays_over_when_its_file_is_gone_and_while_others_talk() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let lasting = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    let long = tom.create_temporary("tom", &["jerry", "mary"], Some(20 * DAY_S)).await.unwrap().cid;
    let cid = chat(&mut tom, &mut jerry, 10).await;
    let sent = tom.send_text("tom", &cid, "x", Outgoing::default()).await.unwrap();
    let files = bucket_files(server.data());
    assert_eq!(files.len(), 2, "{files:?}");

    server.pass_ms(10_000).await;
    assert_eq!(server.server.posthouse.forget_expired().await.unwrap(), 0, "the bucket's hour is not over");
    server.pass_ms(3_600_000).await;
    pushed(&mut jerry, "jerry").await;
    let talk = async {
        for n in 0..200 {
            for cid in [&lasting, &long] {
                tom.send_text("tom", cid, &n.to_string(), Outgoing::default()).await.unwrap();
            }
        }
    };
    let (dropped, ()) = tokio::join!(server.server.posthouse.forget_expired(), talk);
    assert_eq!(dropped.unwrap(), 1);
    let left = bucket_files(server.data());
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(files.contains(&left[0]));
    assert_eq!(pushed(&mut jerry, "jerry").await.len(), 400);
    assert_eq!(jerry.history("jerry", &long, 1_000).await.unwrap().len(), 200);
    all_is_over(&mut tom, &cid, &sent).await;
    assert_eq!(server.server.posthouse.forget_expired().await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_unread_in_it_is_gone_with_it() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap().cid;
    let lasting = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    for cid in [&cid, &lasting] {
        tom.send_text("tom", cid, "hi", Outgoing::default()).await.unwrap();
    }
    server.pass_ms(9_999).await;
    assert_eq!(unread(&server).await, sorted_pair(&cid, &lasting));
    server.pass_ms(1).await;
    assert_eq!(unread(&server).await, [lasting]);
}

#[tokio::test]
async fn its_invitation_is_gone_with_it() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let (jerry, opened) = log_in_how(&server, "jerry", Open::default()).await;
    drop(jerry);
    wait_until_offline(&mut tom, "tom", "jerry").await;
    let since = server.now().0;
    server.clock.advance_ms(1);
    let cid = tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap().cid;
    let lasting = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    let invitations = async || {
        let path =
            format!("/1.1/rtm/notifications?client_id=jerry&start_ts={since}&notification_type=permanent");
        let headers = [
            ("X-LC-Id", server.app_id()),
            ("X-LC-Key", server.app_key()),
            ("X-LC-IM-Session-Token", opened.token.as_deref().unwrap()),
        ];
        let (status, body) = http_get(&server.http_url(), &path, &headers).await.unwrap();
        assert_eq!(status, 200);
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let list = answer["notifications"].as_array().unwrap();
        let mut cids: Vec<String> = list.iter().map(|n| n["cid"].as_str().unwrap().to_owned()).collect();
        cids.sort();
        cids
    };
    server.pass_ms(9_998).await;
    assert_eq!(invitations().await, sorted_pair(&cid, &lasting));
    server.pass_ms(2).await;
    assert_eq!(invitations().await, [lasting]);
}

#[tokio::test]
async fn the_same_members_get_a_new_one_after_its_end() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let old = chat(&mut tom, &mut jerry, 10).await;
    tom.send_text("tom", &old, "old", Outgoing::default()).await.unwrap();
    server.pass_ms(9_999).await;
    let same = tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap();
    assert_eq!((same.existing, &same.cid), (true, &old));
    server.pass_ms(1).await;
    pushed(&mut jerry, "jerry").await;
    let new = jerry.create_temporary("jerry", &["tom"], Some(20)).await.unwrap();
    assert_eq!((new.existing, new.ttl_s), (false, Some(20)));
    assert_ne!(new.cid, old);
    assert_eq!(tom.history("tom", &new.cid, 10).await.unwrap(), []);
    assert_eq!(
        news(&pushed(&mut jerry, "jerry").await),
        ["joined by jerry", "members_joined by jerry: jerry,tom"]
    );
    assert_eq!(code(tom.history("tom", &old, 10).await), 4323);
}

#[tokio::test]
async fn a_will_in_it_is_void_when_it_has_ended() {
    for (ttl, heard) in [(4, false), (600, true)] {
        let server = TestServer::start().await;
        let (mut tom, _) = log_in_on(&server, "tom", "phone").await;
        let mut jerry = log_in(&server, "jerry").await;
        let cid = chat(&mut tom, &mut jerry, ttl).await;
        let will = Outgoing { will: true, ..Outgoing::default() };
        tom.send_text("tom", &cid, "gone", will).await.unwrap();
        drop(tom);
        wait_until_offline(&mut jerry, "jerry", "tom").await;
        server.pass_ms(5_000).await;
        let wanted: &[&str] = if heard { &["direct gone"] } else { &[] };
        assert_eq!(news(&pushed(&mut jerry, "jerry").await), wanted, "{ttl} s");
    }
}

#[tokio::test]
async fn a_client_that_does_not_know_them_hears_nothing_of_them() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    // Bit 1 of the bitmap is not set.
    let old = Open { config_bitmap: Some(0b1011_1001), ..Open::default() };
    let (mut jerry, _) = log_in_how(&server, "jerry", old.clone()).await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(600)).await.unwrap().cid;
    tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
    let (mut again, _) = log_in_how(&server, "jerry", old).await;
    assert!(pushed(&mut again, "jerry").await.is_empty());
}

/// A temporary conversation of Tom and Jerry, both of whom have taken note.
async fn chat(tom: &mut Peer, jerry: &mut Peer, ttl_s: i32) -> String {
    let cid = tom.create_temporary("tom", &["jerry"], Some(ttl_s)).await.unwrap().cid;
    pushed(tom, "tom").await;
    pushed(jerry, "jerry").await;
    cid
}

/// Every use of it by a former member says that it is over.
async fn all_is_over(tom: &mut Peer, cid: &str, sent: &Sent) {
    assert_eq!(code(tom.send_text("tom", cid, "late", Outgoing::default()).await), 4323);
    let transient = Outgoing { transient: true, ..Outgoing::default() };
    assert_eq!(code(tom.send_text("tom", cid, "late", transient).await), 4323);
    let will = Outgoing { will: true, ..Outgoing::default() };
    assert_eq!(code(tom.send_text("tom", cid, "late", will).await), 4323);
    assert_eq!(code(tom.send_binary("tom", cid, b"late", Outgoing::default()).await), 4323);
    assert_eq!(code(tom.history("tom", cid, 10).await), 4323);
    assert_eq!(code(tom.count("tom", cid).await), 4323);
    assert_eq!(code(tom.max_read("tom", cid, false).await), 4323);
    assert_eq!(code(tom.max_read("tom", cid, true).await), 4323);
    assert_eq!(code(tom.modify("tom", cid, sent, "late").await), 4323);
    assert_eq!(code(tom.recall("tom", cid, sent).await), 4323);
    assert_eq!(code(tom.conv("tom", OpType::Members, of(cid)).await), 4323);
    assert_eq!(code(tom.watch_presence("tom", cid, true).await), 4323);
    assert_eq!(tom.conversation("tom", cid).await.unwrap(), None);
}

/// The conversations that Jerry is told have something unread.
async fn unread(server: &TestServer) -> Vec<String> {
    let (mut jerry, _) = log_in_how(server, "jerry", Open::default()).await;
    let pushes = pushed(&mut jerry, "jerry").await;
    let mut cids: Vec<String> = pushes
        .iter()
        .filter(|push| posthouse::peer::is(push, CommandType::Unread, None))
        .flat_map(|push| push.unread_message.as_ref().unwrap().convs.clone())
        .map(|tuple| {
            let cid = tuple.cid.unwrap();
            // By this the SDKs ask for the right kind of conversation.
            assert_eq!(tuple.conv_type, Some(if cid.starts_with("_tmp:") { 4 } else { 1 }));
            cid
        })
        .collect();
    cids.sort();
    cids
}

fn sorted_pair(a: &str, b: &str) -> Vec<String> {
    let mut pair = ids(&[a, b]);
    pair.sort();
    pair
}

/// The buckets' files in a data directory, without what SQLite keeps beside each.
fn bucket_files(data: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(data.join("expiring"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".db"))
        .collect();
    names.sort();
    names
}
