//! Members' online status: each sentence of its contract, for ordinary and temporary conversations.

use posthouse::peer::{self, Open, Peer};
use posthouse_leancloud::wire::proto::{CommandType, ConvCommand, GenericCommand, OpType};
use posthouse_testkit::server::TestServer;

use crate::conversations::{
    NO_CONVERSATION, code, conv_command, ids, log_in, log_in_how, log_in_on, news, of, pushed, sorted,
    wait_until_offline,
};

/// The grace time after a lost connection, unless an app sets another.
const GRACE_MS: i64 = 5_000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Ordinary,
    Temporary,
}

const KINDS: [Kind; 2] = [Kind::Ordinary, Kind::Temporary];

#[tokio::test]
async fn the_answer_is_the_present_state_of_all_members() {
    for kind in KINDS {
        let server = TestServer::start().await;
        let (mut tom, _jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
        let cid = start(&mut tom, kind, &["jerry", "mary"]).await;
        let answer = tom.watch_presence("tom", &cid, true).await.unwrap();
        assert!(peer::is(&answer, CommandType::Conv, Some(OpType::Status)), "{answer:?}");
        let conv = answer.conv_message.as_ref().unwrap();
        assert_eq!(
            (conv.cid.as_ref(), sorted(&conv.m)),
            (Some(&cid), ids(&["jerry", "mary", "tom"])),
            "{kind:?}"
        );
        assert_eq!(online(&answer), ids(&["jerry", "tom"]));
        assert!(pushed(&mut tom, "tom").await.is_empty());
    }
}

#[tokio::test]
async fn the_first_session_and_the_last_polite_close_are_told_at_once() {
    for kind in KINDS {
        let server = TestServer::start().await;
        let mut tom = log_in(&server, "tom").await;
        let cid = start(&mut tom, kind, &["jerry"]).await;
        tom.watch_presence("tom", &cid, true).await.unwrap();

        let mut phone = log_in_on(&server, "jerry", "phone").await.0;
        let pushes = pushed(&mut tom, "tom").await;
        assert_eq!(news(&pushes), ["presence on: jerry"], "{kind:?}");
        let push = pushes[0].presence_message.as_ref().unwrap();
        assert_eq!(push.cid.as_ref(), Some(&cid));

        // Several devices count as one.
        let mut laptop = log_in_on(&server, "jerry", "laptop").await.0;
        phone.close("jerry").await.unwrap();
        assert!(pushed(&mut tom, "tom").await.is_empty());
        laptop.close("jerry").await.unwrap();
        assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"]);
        laptop.open(server.app_id(), "jerry", Open::default()).await.unwrap();
        assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence on: jerry"]);
    }
}

#[tokio::test]
async fn a_lost_connection_is_told_after_the_grace_time() {
    for kind in KINDS {
        let server = TestServer::start().await;
        let mut tom = log_in(&server, "tom").await;
        let jerry = log_in_on(&server, "jerry", "phone").await.0;
        let cid = start(&mut tom, kind, &["jerry"]).await;
        tom.watch_presence("tom", &cid, true).await.unwrap();
        drop(jerry);
        wait_until_offline(&mut tom, "tom", "jerry").await;
        server.pass_ms(GRACE_MS - 1).await;
        assert!(pushed(&mut tom, "tom").await.is_empty());
        // Who asks within the grace time is told what the others believe.
        let answer = tom.watch_presence("tom", &cid, true).await.unwrap();
        assert_eq!(online(&answer), ids(&["jerry", "tom"]));
        server.pass_ms(1).await;
        assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"], "{kind:?}");
        let answer = tom.watch_presence("tom", &cid, true).await.unwrap();
        assert_eq!(online(&answer), ids(&["tom"]));
        server.pass_ms(GRACE_MS * 10).await;
        assert!(pushed(&mut tom, "tom").await.is_empty());
    }
}

#[tokio::test]
async fn the_grace_time_is_the_apps_own() {
    for (seconds, grace_ms) in [("0", 0), ("10", 10_000)] {
        let mut server = TestServer::start().await;
        server.set(&[("will_grace_seconds", seconds)]).await;
        let mut tom = log_in(&server, "tom").await;
        let jerry = log_in_on(&server, "jerry", "phone").await.0;
        let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
        tom.watch_presence("tom", &cid, true).await.unwrap();
        drop(jerry);
        wait_until_offline(&mut tom, "tom", "jerry").await;
        if grace_ms > 0 {
            server.pass_ms(grace_ms - 1).await;
            assert!(pushed(&mut tom, "tom").await.is_empty(), "{seconds} s");
        }
        server.pass_ms(1).await;
        assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"], "{seconds} s");
    }
}

#[tokio::test]
async fn who_returns_within_the_grace_time_was_never_away() {
    for device in ["phone", "laptop"] {
        let server = TestServer::start().await;
        let mut tom = log_in(&server, "tom").await;
        let jerry = log_in_on(&server, "jerry", "phone").await.0;
        let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
        tom.watch_presence("tom", &cid, true).await.unwrap();
        drop(jerry);
        wait_until_offline(&mut tom, "tom", "jerry").await;
        server.pass_ms(GRACE_MS - 1).await;
        let mut jerry = log_in_on(&server, "jerry", device).await.0;
        server.pass_ms(GRACE_MS * 2).await;
        assert!(pushed(&mut tom, "tom").await.is_empty(), "{device}");
        jerry.close("jerry").await.unwrap();
        assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"]);
    }
}

#[tokio::test]
async fn one_lost_device_of_two_is_no_news() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let (phone, mut laptop) =
        (log_in_on(&server, "jerry", "phone").await.0, log_in_on(&server, "jerry", "laptop").await.0);
    let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
    tom.watch_presence("tom", &cid, true).await.unwrap();
    phone.disconnect().await.unwrap();
    // The lost device's grace time outlives the polite close of the other one. When exactly the
    // server reads the end of the socket is its own affair, so only the outcome is checked.
    laptop.close("jerry").await.unwrap();
    wait_until_offline(&mut tom, "tom", "jerry").await;
    server.pass_ms(GRACE_MS).await;
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"]);
}

#[tokio::test]
async fn only_members_may_subscribe() {
    for kind in KINDS {
        let server = TestServer::start().await;
        let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
        let cid = start(&mut tom, kind, &["jerry"]).await;
        assert_eq!(code(mary.watch_presence("mary", &cid, true).await), 4309, "{kind:?}");
        let _jerry = log_in(&server, "jerry").await;
        assert!(pushed(&mut mary, "mary").await.is_empty());
        assert!(pushed(&mut tom, "tom").await.is_empty(), "nobody hears who has not asked");
        assert_eq!(code(tom.watch_presence("tom", NO_CONVERSATION, true).await), 4303);
    }
}

#[tokio::test]
async fn it_ends_when_one_unsubscribes() {
    for kind in KINDS {
        let server = TestServer::start().await;
        let mut tom = log_in(&server, "tom").await;
        let cid = start(&mut tom, kind, &["jerry"]).await;
        tom.watch_presence("tom", &cid, true).await.unwrap();
        let answer = tom.watch_presence("tom", &cid, false).await.unwrap();
        assert!(peer::is(&answer, CommandType::Conv, Some(OpType::Status)), "{answer:?}");
        // Twice is no error.
        tom.watch_presence("tom", &cid, false).await.unwrap();
        let _jerry = log_in(&server, "jerry").await;
        assert!(pushed(&mut tom, "tom").await.is_empty(), "{kind:?}");
    }
}

#[tokio::test]
async fn it_belongs_to_one_session_and_ends_with_it() {
    let server = TestServer::start().await;
    let (mut tom, mut tablet) = (log_in(&server, "tom").await, log_in(&server, "tom").await);
    let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
    pushed(&mut tablet, "tom").await;
    tom.watch_presence("tom", &cid, true).await.unwrap();
    let mut jerry = log_in(&server, "jerry").await;
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence on: jerry"]);
    assert!(pushed(&mut tablet, "tom").await.is_empty());
    tom.close("tom").await.unwrap();
    tom.open(server.app_id(), "tom", Open::default()).await.unwrap();
    jerry.close("jerry").await.unwrap();
    assert!(pushed(&mut tom, "tom").await.is_empty());
}

#[tokio::test]
async fn it_ends_with_the_membership() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    let cid = start(&mut tom, Kind::Ordinary, &["jerry", "mary"]).await;
    pushed(&mut mary, "mary").await;
    mary.watch_presence("mary", &cid, true).await.unwrap();
    tom.remove("tom", &cid, &["mary"]).await.unwrap();
    assert_eq!(news(&pushed(&mut mary, "mary").await), ["left by tom"]);
    let _jerry = log_in(&server, "jerry").await;
    assert!(pushed(&mut mary, "mary").await.is_empty());
    // Coming back does not bring it back.
    tom.add("tom", &cid, &["mary"]).await.unwrap();
    pushed(&mut mary, "mary").await;
    let mut second = log_in(&server, "jerry").await;
    second.close("jerry").await.unwrap();
    assert!(pushed(&mut mary, "mary").await.is_empty());
}

#[tokio::test]
async fn it_ends_with_the_time_asked_for() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let mut jerry = log_in(&server, "jerry").await;
    let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
    pushed(&mut jerry, "jerry").await;
    let granted = watch_for(&mut tom, &cid, 60).await;
    assert_eq!(granted, Some(60));
    server.pass_ms(59_999).await;
    jerry.close("jerry").await.unwrap();
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"]);
    server.pass_ms(1).await;
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    assert!(pushed(&mut tom, "tom").await.is_empty());

    // Asking again renews it, counted from then.
    watch_for(&mut tom, &cid, 60).await;
    server.pass_ms(40_000).await;
    watch_for(&mut tom, &cid, 60).await;
    server.pass_ms(59_999).await;
    jerry.close("jerry").await.unwrap();
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"]);

    // 0 and less ask for no end.
    assert!(watch_for(&mut tom, &cid, 0).await.unwrap_or(0) <= 0);
    server.pass_ms(30 * 86_400_000).await;
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence on: jerry"]);
}

#[tokio::test]
async fn it_ends_with_the_conversation() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let mut jerry = log_in(&server, "jerry").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap().cid;
    pushed(&mut tom, "tom").await;
    pushed(&mut jerry, "jerry").await;
    // A longer wish does not outlive it.
    watch_for(&mut tom, &cid, 3_600).await;
    server.pass_ms(9_999).await;
    jerry.close("jerry").await.unwrap();
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: jerry"]);
    server.pass_ms(1).await;
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    assert!(pushed(&mut tom, "tom").await.is_empty());
    assert_eq!(code(tom.watch_presence("tom", &cid, true).await), 4323);
}

#[tokio::test]
async fn who_is_lost_as_the_conversation_ends_is_no_news() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let jerry = log_in_on(&server, "jerry", "phone").await.0;
    let cid = tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap().cid;
    pushed(&mut tom, "tom").await;
    tom.watch_presence("tom", &cid, true).await.unwrap();
    server.pass_ms(8_000).await;
    drop(jerry);
    wait_until_offline(&mut tom, "tom", "jerry").await;
    server.pass_ms(GRACE_MS).await;
    assert!(pushed(&mut tom, "tom").await.is_empty());
}

#[tokio::test]
async fn new_members_are_watched_and_former_ones_are_not() {
    let server = TestServer::start().await;
    let (mut tom, mut mary) = (log_in(&server, "tom").await, log_in(&server, "mary").await);
    let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
    tom.watch_presence("tom", &cid, true).await.unwrap();
    tom.add("tom", &cid, &["mary"]).await.unwrap();
    let told = news(&pushed(&mut tom, "tom").await);
    assert_eq!(sorted(&told), ["members_joined by tom: mary", "presence on: mary"]);
    mary.close("mary").await.unwrap();
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence off: mary"]);
    tom.remove("tom", &cid, &["mary"]).await.unwrap();
    pushed(&mut tom, "tom").await;
    mary.open(server.app_id(), "mary", Open::default()).await.unwrap();
    assert!(pushed(&mut tom, "tom").await.is_empty());
}

#[tokio::test]
async fn each_watched_conversation_has_its_own_push() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let mut cids = Vec::new();
    for kind in [Kind::Ordinary, Kind::Ordinary, Kind::Temporary] {
        let cid = start(&mut tom, kind, &["jerry"]).await;
        tom.watch_presence("tom", &cid, true).await.unwrap();
        cids.push(cid);
    }
    let other = start(&mut tom, Kind::Ordinary, &["mary"]).await;
    tom.watch_presence("tom", &other, true).await.unwrap();
    let _jerry = log_in(&server, "jerry").await;
    let pushes = pushed(&mut tom, "tom").await;
    assert_eq!(news(&pushes), ["presence on: jerry"; 3]);
    let told: Vec<String> =
        pushes.iter().map(|push| push.presence_message.as_ref().unwrap().cid.clone().unwrap()).collect();
    assert_eq!(sorted(&told), sorted(&cids));
}

#[tokio::test]
async fn a_status_that_says_nothing_is_refused() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
    let answer = tom.ask(conv_command("tom", OpType::Status, of(&cid))).await.unwrap();
    assert!(peer::refusal(&answer).is_some(), "{answer:?}");
}

#[tokio::test]
async fn clients_of_the_same_name_in_another_app_are_others() {
    let server = TestServer::start().await;
    let other = crate::strangers::other_app(&server).await;
    let mut tom = log_in(&server, "tom").await;
    let cid = start(&mut tom, Kind::Ordinary, &["jerry"]).await;
    tom.watch_presence("tom", &cid, true).await.unwrap();
    let mut foreign = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    foreign.open(&other, "jerry", Open::default()).await.unwrap();
    assert!(pushed(&mut tom, "tom").await.is_empty());
    let (_jerry, _) = log_in_how(&server, "jerry", Open::default()).await;
    assert_eq!(news(&pushed(&mut tom, "tom").await), ["presence on: jerry"]);
}

async fn start(tom: &mut Peer, kind: Kind, members: &[&str]) -> String {
    let cid = match kind {
        Kind::Ordinary => tom.create_conversation("tom", members, false, "{}").await.unwrap().cid,
        Kind::Temporary => tom.create_temporary("tom", members, Some(86_400)).await.unwrap().cid,
    };
    pushed(tom, "tom").await;
    cid
}

/// Subscribes for so many seconds; what the answer says of it.
async fn watch_for(tom: &mut Peer, cid: &str, seconds: i32) -> Option<i32> {
    let wish = ConvCommand { status_sub: Some(true), status_ttl: Some(seconds), ..of(cid) };
    tom.conv("tom", OpType::Status, wish).await.unwrap().status_ttl
}

fn online(answer: &GenericCommand) -> Vec<String> {
    sorted(&answer.session_message.as_ref().unwrap().online_session_peer_ids)
}
