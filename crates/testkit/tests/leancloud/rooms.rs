//! Chat rooms: whoever is online in one is all there is of membership.

use posthouse::peer::{Open, Outgoing, Peer};
use posthouse_leancloud::wire::proto::{ConvCommand, OpType};
use posthouse_testkit::server::TestServer;
use serde_json::json;

use crate::conversations::{
    code, group, log_in, log_in_how, log_in_on, news, of, pushed, sorted, text, wait_until_offline,
};

#[tokio::test]
async fn its_creator_is_in_it_and_nobody_is_told() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let mut jerry = log_in(&server, "jerry").await;
    let wish = ConvCommand {
        m: vec!["tom".to_owned(), "jerry".to_owned()],
        transient: Some(true),
        unique: Some(true),
        ..ConvCommand::default()
    };
    let room = tom.start("tom", wish.clone()).await.unwrap();
    assert!(!room.cid.starts_with("_tmp:"));
    for (peer, who) in [(&mut tom, "tom"), (&mut tablet, "tom"), (&mut jerry, "jerry")] {
        assert!(pushed(peer, who).await.is_empty());
    }
    assert_eq!(tom.count("tom", &room.cid).await.unwrap(), 1);
    let row = jerry.conversation("jerry", &room.cid).await.unwrap().unwrap();
    assert_eq!((&row["tr"], &row["m"], &row["c"]), (&json!(true), &json!([]), &json!("tom")));
    assert_eq!((&row["conv_type"], row.get("unique")), (&json!(2), None));
    // Rooms are never unique.
    let second = tom.start("tom", wish).await.unwrap();
    assert!(!second.existing && second.cid != room.cid);
}

#[tokio::test]
async fn who_comes_and_goes_is_counted_and_nobody_is_told() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = tom.create_room("tom", r#"{"name":"room"}"#).await.unwrap().cid;
    let joined = jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    assert_eq!((joined.cid.as_ref(), sorted(&joined.allowed_pids)), (Some(&cid), vec!["jerry".to_owned()]));
    assert!(joined.udate.is_some());
    // Twice is once.
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["jerry", "tom"]);
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 2);
    jerry.remove("jerry", &cid, &["jerry"]).await.unwrap();
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["tom"]);
    assert_eq!(jerry.count("jerry", &cid).await.unwrap(), 1);
    assert!(pushed(&mut tom, "tom").await.is_empty());
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
}

#[tokio::test]
async fn nobody_is_taken_in_or_thrown_out_by_another() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    assert_eq!(code(tom.add("tom", &cid, &["jerry"]).await), 4320);
    assert_eq!(code(tom.add("tom", &cid, &["tom", "jerry"]).await), 4320);
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["tom"]);
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    assert_eq!(code(tom.remove("tom", &cid, &["jerry"]).await), 4320);
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["jerry", "tom"]);
}

#[tokio::test]
async fn a_message_reaches_everybody_in_it_but_the_session_that_sent_it() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let (mut jerry, mut mary) = (log_in(&server, "jerry").await, log_in(&server, "mary").await);
    let (mut tablet, mut outside) = (log_in(&server, "tom").await, log_in(&server, "spike").await);
    // Another device of one who is inside, that is not inside itself.
    let mut laptop = log_in(&server, "jerry").await;
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    for (peer, who) in [(&mut jerry, "jerry"), (&mut mary, "mary"), (&mut tablet, "tom")] {
        peer.add(who, &cid, &[who]).await.unwrap();
    }
    for priority in [1, 2, 3] {
        let how = Outgoing { priority: Some(priority), receipt: true, ..Outgoing::default() };
        tom.send_text("tom", &cid, &priority.to_string(), how).await.unwrap();
    }
    for (peer, who) in [(&mut jerry, "jerry"), (&mut mary, "mary"), (&mut tablet, "tom")] {
        let pushes = pushed(peer, who).await;
        assert_eq!(news(&pushes), ["direct 1", "direct 2", "direct 3"], "{who}");
        let direct = pushes[0].direct_message.as_ref().unwrap();
        assert_eq!((direct.conv_type, direct.from_peer_id.as_deref()), (Some(2), Some("tom")));
    }
    for (peer, who) in [(&mut tom, "tom"), (&mut outside, "spike"), (&mut laptop, "jerry")] {
        assert_eq!(news(&pushed(peer, who).await), [""; 0], "{who}");
    }
    // No receipt, and nothing is ever unread in a room.
    let last = tom.history("tom", &cid, 1).await.unwrap().remove(0);
    jerry.ack_message("jerry", &cid, &last.msg_id.clone().unwrap()).await.unwrap();
    jerry.read("jerry", &cid, &last.msg_id.unwrap(), last.timestamp.unwrap()).await.unwrap();
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), [""; 0]);
    assert_eq!(news(&pushed(&mut tom, "tom").await), [""; 0]);
    let mut phone = log_in(&server, "mary").await;
    assert_eq!(news(&pushed(&mut phone, "mary").await), [""; 0]);
}

#[tokio::test]
async fn only_visitors_read_its_history() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    tom.send_text("tom", &cid, "kept", Outgoing::default()).await.unwrap();
    let transient = Outgoing { transient: true, ..Outgoing::default() };
    tom.send_text("tom", &cid, "not kept", transient).await.unwrap();
    assert_eq!(code(jerry.history("jerry", &cid, 10).await), 4312);
    let row = ConvCommand {
        r#where: text(&json!({"objectId": cid}).to_string()),
        flag: Some(2),
        ..ConvCommand::default()
    };
    let found = jerry.query("jerry", row.clone()).await.unwrap();
    assert_eq!((found.len(), found[0].get("msg")), (1, None));
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap().len(), 1);
    assert!(jerry.query("jerry", row).await.unwrap()[0]["msg"].as_str().unwrap().contains("kept"));
    jerry.remove("jerry", &cid, &["jerry"]).await.unwrap();
    assert_eq!(code(jerry.history("jerry", &cid, 10).await), 4312);
}

#[tokio::test]
async fn a_login_is_in_one_room_at_a_time() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let first = tom.create_room("tom", "{}").await.unwrap().cid;
    let second = jerry.create_room("jerry", "{}").await.unwrap().cid;
    tom.add("tom", &second, &["tom"]).await.unwrap();
    assert_eq!(jerry.count("jerry", &first).await.unwrap(), 0);
    assert_eq!(inside(&mut jerry, "jerry", &second).await, ["jerry", "tom"]);
    jerry.send_text("jerry", &first, "nobody", Outgoing::default()).await.unwrap();
    jerry.send_text("jerry", &second, "both", Outgoing::default()).await.unwrap();
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["direct both"]);
    // Leaving a room one isn't in leaves one where one is.
    tom.remove("tom", &first, &["tom"]).await.unwrap();
    assert_eq!(inside(&mut jerry, "jerry", &second).await, ["jerry", "tom"]);
    // Other conversations go on beside it.
    let lasting = group(&mut jerry, "jerry", &["tom"]).await;
    jerry.send_text("jerry", &lasting, "here too", Outgoing::default()).await.unwrap();
    assert_eq!(pushed(&mut tom, "tom").await.len(), 3);
}

#[tokio::test]
async fn several_devices_of_one_client_count_once() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    tablet.add("tom", &cid, &["tom"]).await.unwrap();
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 1);
    tablet.remove("tom", &cid, &["tom"]).await.unwrap();
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 1);
    tom.close("tom").await.unwrap();
    assert_eq!(tablet.count("tom", &cid).await.unwrap(), 0);
}

#[tokio::test]
async fn the_list_of_visitors_has_a_limit() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    let mut guests = Vec::new();
    for n in 0..60 {
        let who = format!("guest-{n}");
        let mut guest = log_in(&server, &who).await;
        guest.add(&who, &cid, &[&who]).await.unwrap();
        guests.push(guest);
    }
    let listed = async |tom: &mut Peer, limit| {
        let asked = ConvCommand { limit, ..of(&cid) };
        tom.conv("tom", OpType::Members, asked).await.unwrap().m.len()
    };
    assert_eq!(listed(&mut tom, Some(7)).await, 7);
    assert_eq!(listed(&mut tom, None).await, 50);
    assert!(listed(&mut tom, Some(1_000)).await <= 61);
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 61);
    drop(guests);
}

#[tokio::test]
async fn a_lost_device_comes_back_to_its_room() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    let (mut jerry, opened) = log_in_on(&server, "jerry", "phone").await;
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    drop(jerry);
    wait_until_offline(&mut tom, "tom", "jerry").await;
    assert_eq!(tom.count("tom", &cid).await.unwrap(), 1);

    // The token alone tells the device, as JS returns.
    server.pass_ms(29 * 60_000).await;
    let back = Open { reopen: true, token: opened.token, ..Open::default() };
    let (mut jerry, opened) = log_in_how(&server, "jerry", back).await;
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["jerry", "tom"]);
    tom.send_text("tom", &cid, "welcome", Outgoing::default()).await.unwrap();
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), ["direct welcome"]);

    // After half an hour it is a new visit.
    drop(jerry);
    wait_until_offline(&mut tom, "tom", "jerry").await;
    server.pass_ms(30 * 60_000).await;
    let back = Open { reopen: true, token: opened.token, ..Open::default() };
    let (mut jerry, opened) = log_in_how(&server, "jerry", back).await;
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["tom"]);

    // Nor does one come back who left on purpose, or logged out.
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    jerry.remove("jerry", &cid, &["jerry"]).await.unwrap();
    drop(jerry);
    wait_until_offline(&mut tom, "tom", "jerry").await;
    let back = Open { reopen: true, token: opened.token, ..Open::default() };
    let (mut jerry, _) = log_in_how(&server, "jerry", back).await;
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    jerry.close("jerry").await.unwrap();
    drop(jerry);
    let (_jerry, _) = log_in_on(&server, "jerry", "phone").await;
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["tom"]);
}

#[tokio::test]
async fn another_device_does_not_take_the_lost_ones_place() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = tom.create_room("tom", "{}").await.unwrap().cid;
    let (mut phone, _) = log_in_on(&server, "jerry", "phone").await;
    phone.add("jerry", &cid, &["jerry"]).await.unwrap();
    drop(phone);
    wait_until_offline(&mut tom, "tom", "jerry").await;
    let (_laptop, _) = log_in_on(&server, "jerry", "laptop").await;
    assert_eq!(inside(&mut tom, "tom", &cid).await, ["tom"]);
}

#[tokio::test]
async fn what_rooms_do_not_offer_is_refused() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = tom.create_room("tom", r#"{"name":"room"}"#).await.unwrap().cid;
    assert_eq!(code(tom.max_read("tom", &cid, false).await), 4314);
    assert_eq!(code(tom.watch_presence("tom", &cid, true).await), 4314);
    // Who isn't inside changes nothing of it.
    assert_eq!(code(jerry.update("jerry", &cid, r#"{"name":"x"}"#).await), 4309);
    jerry.add("jerry", &cid, &["jerry"]).await.unwrap();
    tom.update("tom", &cid, r#"{"name":"y"}"#).await.unwrap();
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), ["updated by tom"]);
    // A patch reaches who is inside, and only the sender makes one.
    let sent = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    assert_eq!(code(jerry.modify("jerry", &cid, &sent, "mine").await), 4403);
    tom.recall("tom", &cid, &sent).await.unwrap();
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), ["direct hi", "patch/modify"]);
}

/// The clients inside, in order.
async fn inside(peer: &mut Peer, who: &str, cid: &str) -> Vec<String> {
    let answer = peer.conv(who, OpType::Members, ConvCommand { limit: Some(50), ..of(cid) }).await.unwrap();
    assert_eq!(answer.cid.as_deref(), Some(cid));
    sorted(&answer.m)
}
