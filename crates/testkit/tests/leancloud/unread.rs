//! Unread: what a client is told at login and when it reads, exact even when messages race with it.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::join_all;
use posthouse::peer::{Open, Outgoing, Peer, Sent, spoken, text_content, text_of};
use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::{
    CommandType, GenericCommand, PatchItem, ReadCommand, ReadTuple, UnreadCommand, UnreadTuple,
};
use posthouse_testkit::server::TestServer;
use posthouse_testkit::time::SeededChance;

use super::sessions::{connect, login, login_as, on_device, pushes, tom_and_jerry};

/// What all `unread` pushes say together.
fn told(pushes: Vec<GenericCommand>) -> Vec<UnreadTuple> {
    pushes.into_iter().filter_map(|push| push.unread_message).flat_map(|unread| unread.convs).collect()
}

/// Logs Jerry in on a new device; what that device hears of unread messages.
async fn unread_of_jerry(server: &TestServer) -> Vec<UnreadTuple> {
    let mut jerry = login_as(server, "jerry", on_device("fresh")).await;
    let told = told(pushes(&mut jerry).await);
    jerry.close("jerry").await.unwrap();
    told
}

fn counts(tuples: &[UnreadTuple]) -> HashMap<String, i32> {
    let counts: HashMap<_, _> =
        tuples.iter().map(|tuple| (tuple.cid.clone().unwrap(), tuple.unread.unwrap())).collect();
    assert_eq!(counts.len(), tuples.len(), "C# does not survive a conversation named twice: {tuples:?}");
    counts
}

/// Says that Jerry has read all there is, as C# does: with neither message nor time.
async fn read_all(jerry: &mut Peer, cid: &str) {
    let tuple = ReadTuple { cid: Some(cid.to_owned()), ..ReadTuple::default() };
    let read = GenericCommand {
        read_message: Some(ReadCommand { convs: vec![tuple], ..ReadCommand::default() }),
        ..spoken("jerry", CommandType::Read, None)
    };
    jerry.send(&read).await.unwrap();
    jerry.settle().await.unwrap();
}

async fn say(peer: &mut Peer, who: &str, cid: &str, text: &str) -> Sent {
    peer.send_text(who, cid, text, Outgoing::default()).await.unwrap()
}

#[tokio::test]
async fn login_tells_number_and_last_message_with_every_field() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    say(&mut tom, "tom", &cid, "one").await;
    server.clock.advance_ms(1_000);
    let last = say(&mut tom, "tom", &cid, "two").await;
    server.clock.advance_ms(1_000);

    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let push = jerry.expect_push(CommandType::Unread, None).await.unwrap();
    assert_eq!((push.i, push.service, push.peer_id.as_deref()), (None, Some(2), Some("jerry")));
    let unread = push.unread_message.unwrap();
    // A little early is fine: then something may be told twice, which does no harm.
    let notif_time = unread.notif_time.unwrap();
    assert!(notif_time <= server.now().0 && notif_time > server.now().0 - 10_000, "{notif_time}");
    let mut tuple = unread.convs[0].clone();
    assert!(!tuple.mentioned.take().unwrap_or_default());
    assert_eq!(
        tuple,
        UnreadTuple {
            cid: Some(cid),
            unread: Some(2),
            mid: Some(last.id),
            timestamp: Some(last.at),
            from: Some("tom".to_owned()),
            data: Some(text_content("two").into()),
            conv_type: Some(1),
            ..UnreadTuple::default()
        }
    );
    assert_eq!(unread.convs.len(), 1);
    assert!(pushes(&mut jerry).await.is_empty(), "it comes once, and no old messages with it");
}

#[tokio::test]
async fn who_has_read_everything_is_told_nothing() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    say(&mut jerry, "jerry", &cid, "my own").await;
    assert_eq!(unread_of_jerry(&server).await, []);
    let sent = say(&mut tom, "tom", &cid, "hi").await;
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert_eq!(unread_of_jerry(&server).await, []);
}

#[tokio::test]
async fn messages_received_online_count_until_they_are_read() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, "tom", &cid, "hi").await;
    jerry.expect_message(&cid).await.unwrap();
    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 1);
    assert!(pushes(&mut jerry).await.is_empty(), "no push for a message that came by itself");
}

#[tokio::test]
async fn only_stored_messages_of_others_count() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let transient = Outgoing { transient: true, ..Outgoing::default() };
    let will = Outgoing { will: true, ..Outgoing::default() };
    tom.send_text("tom", &cid, "typing", transient).await.unwrap();
    tom.send_text("tom", &cid, "will", will).await.unwrap();
    say(&mut jerry, "jerry", &cid, "own").await;
    assert_eq!(unread_of_jerry(&server).await, []);
    let last = say(&mut tom, "tom", &cid, "this one").await;
    say(&mut jerry, "jerry", &cid, "own again").await;
    let told = unread_of_jerry(&server).await;
    assert_eq!(counts(&told)[&cid], 1);
    assert_eq!((told[0].mid.as_ref(), told[0].from.as_deref()), (Some(&last.id), Some("tom")));
}

#[tokio::test]
async fn numbers_are_exact_far_above_100() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    for n in 0..137 {
        say(&mut tom, "tom", &cid, &n.to_string()).await;
    }
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 137);
}

#[tokio::test]
async fn the_largest_number_told_is_a_setting() {
    let mut server = TestServer::start().await;
    server.set(&[("unread_count_max", "3")]).await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    for n in 0..5 {
        say(&mut tom, "tom", &cid, &n.to_string()).await;
    }
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 3);
}

#[tokio::test]
async fn every_conversation_is_named_once_the_newest_first() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut cids = Vec::new();
    for n in 0..60 {
        server.clock.advance_ms(10);
        let cid = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
        for _ in 0..=(n % 3) {
            say(&mut tom, "tom", &cid, "hi").await;
        }
        cids.insert(0, (cid, n % 3 + 1));
    }
    let told = unread_of_jerry(&server).await;
    counts(&told);
    let told: Vec<_> = told.into_iter().map(|tuple| (tuple.cid.unwrap(), tuple.unread.unwrap())).collect();
    assert_eq!(told, cids);
}

#[tokio::test]
async fn mentions_are_told_until_they_are_read() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let to = |names: &[&str], all| Outgoing {
        mentions: names.iter().map(|name| (*name).to_owned()).collect(),
        mention_all: all,
        ..Outgoing::default()
    };
    for (how, called) in [
        (to(&[], false), false),
        (to(&["mary"], false), false),
        (to(&["mary", "jerry"], false), true),
        (to(&[], true), true),
    ] {
        let cid = tom.create_conversation("tom", &["jerry", "mary"], false, "{}").await.unwrap().cid;
        tom.send_text("tom", &cid, "mentions?", how).await.unwrap();
        // The call need not be in the last message.
        let last = say(&mut tom, "tom", &cid, "later").await;
        let tuple = &unread_of_jerry(&server).await[0];
        assert_eq!(tuple.mentioned.unwrap_or_default(), called, "{tuple:?}");
        jerry.read("jerry", &cid, &last.id, last.at).await.unwrap();
        jerry.settle().await.unwrap();
        say(&mut tom, "tom", &cid, "after").await;
        let tuple = &unread_of_jerry(&server).await[0];
        assert_eq!((tuple.unread, tuple.mentioned.unwrap_or_default()), (Some(1), false));
        jerry.read("jerry", &cid, "", server.now().0).await.unwrap();
        jerry.settle().await.unwrap();
    }
}

#[tokio::test]
async fn one_s_own_mention_of_all_calls_only_the_others() {
    let server = TestServer::start().await;
    let (_tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let all = Outgoing { mention_all: true, ..Outgoing::default() };
    jerry.send_text("jerry", &cid, "@all", all).await.unwrap();
    assert_eq!(unread_of_jerry(&server).await, []);
    let mut tablet = login_as(&server, "tom", on_device("tablet")).await;
    let unread = told(pushes(&mut tablet).await);
    assert_eq!(unread[0].mentioned, Some(true));
}

#[tokio::test]
async fn reading_on_one_device_clears_all_of_them() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut tablet = login_as(&server, "jerry", on_device("tablet")).await;
    let all = Outgoing { mention_all: true, ..Outgoing::default() };
    let sent = tom.send_text("tom", &cid, "hi", all).await.unwrap();
    for device in [&mut jerry, &mut tablet] {
        device.expect_message(&cid).await.unwrap();
    }
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    // Swift and Objective-C reset their number by this push only, on the reading device too.
    for device in [&mut jerry, &mut tablet] {
        let push = device.expect_push(CommandType::Unread, None).await.unwrap();
        assert_eq!((push.service, push.peer_id.as_deref()), (Some(2), Some("jerry")));
        let unread = push.unread_message.unwrap();
        assert!(unread.notif_time.is_some());
        let tuple = &unread.convs[0];
        assert_eq!((tuple.unread, tuple.mentioned), (Some(0), Some(false)));
        assert_eq!((tuple.cid.as_ref(), tuple.mid.as_ref()), (Some(&cid), Some(&sent.id)));
        assert_eq!((tuple.timestamp, tuple.from.as_deref()), (Some(sent.at), Some("tom")));
        assert_eq!(text_of(tuple.data.as_ref().unwrap()).as_deref(), Some("hi"));
        assert_eq!(unread.convs.len(), 1);
    }
    assert!(pushes(&mut tom).await.is_empty(), "it is nobody else's business");
}

#[tokio::test]
async fn reading_up_to_a_message_leaves_the_later_ones() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut sent = Vec::new();
    for n in 0..5 {
        // Two share a millisecond, so that the id decides.
        server.clock.advance_ms(n % 2);
        sent.push(say(&mut tom, "tom", &cid, &n.to_string()).await);
    }
    for (read, left) in [(0, 4), (1, 3), (3, 1), (2, 1), (4, 0)] {
        jerry.take_pushes();
        jerry.read("jerry", &cid, &sent[read].id, sent[read].at).await.unwrap();
        jerry.settle().await.unwrap();
        let now = counts(&unread_of_jerry(&server).await).get(&cid).copied().unwrap_or_default();
        assert_eq!(now, left, "after reading message {read}");
    }
}

#[tokio::test]
async fn a_read_without_a_message_covers_everything() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    say(&mut tom, "tom", &cid, "1").await;
    say(&mut tom, "tom", &cid, "2").await;
    read_all(&mut jerry, &cid).await;
    assert_eq!(unread_of_jerry(&server).await, []);
    // The clock stands: what comes after the reading has the time of what was read.
    say(&mut tom, "tom", &cid, "3").await;
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 1);
}

#[tokio::test]
async fn a_read_of_the_future_covers_only_what_is_there() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    say(&mut tom, "tom", &cid, "1").await;
    // A device whose clock is wrong.
    for at in [server.now().0 + 86_400_000, i64::MAX] {
        jerry.read("jerry", &cid, "", at).await.unwrap();
        jerry.settle().await.unwrap();
        assert_eq!(unread_of_jerry(&server).await, []);
    }
    server.clock.advance_ms(1_000);
    say(&mut tom, "tom", &cid, "2").await;
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 1);
}

#[tokio::test]
async fn a_read_of_a_transient_message_covers_what_was_before_it() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    say(&mut tom, "tom", &cid, "stored").await;
    server.clock.advance_ms(5);
    let transient = Outgoing { transient: true, ..Outgoing::default() };
    let typing = tom.send_text("tom", &cid, "typing", transient).await.unwrap();
    // The JavaScript SDK names the last message it knows, and this one was never stored.
    jerry.read("jerry", &cid, &typing.id, typing.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert_eq!(unread_of_jerry(&server).await, []);
}

#[tokio::test]
async fn only_changes_since_the_last_notification_are_told_again() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let old = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    let new = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    say(&mut tom, "tom", &old, "1").await;
    jerry.close("jerry").await.unwrap();
    server.clock.advance_ms(60_000);
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let push = jerry.expect_push(CommandType::Unread, None).await.unwrap();
    let seen = push.unread_message.unwrap().notif_time.unwrap();
    jerry.close("jerry").await.unwrap();
    server.clock.advance_ms(60_000);

    let since = |time| Open { last_unread_notif_time: Some(time), ..on_device("d1") };
    let mut again = login_as(&server, "jerry", since(seen)).await;
    assert_eq!(told(pushes(&mut again).await), [], "nothing has changed");
    again.close("jerry").await.unwrap();

    say(&mut tom, "tom", &new, "2").await;
    let mut again = login_as(&server, "jerry", since(seen)).await;
    assert_eq!(counts(&told(pushes(&mut again).await)), HashMap::from([(new.clone(), 1)]));
    again.close("jerry").await.unwrap();
    let mut again = login_as(&server, "jerry", since(0)).await;
    assert_eq!(counts(&told(pushes(&mut again).await)), HashMap::from([(new, 1), (old, 1)]));
}

#[tokio::test]
async fn a_message_in_the_millisecond_of_the_last_notification_is_told() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    say(&mut tom, "tom", &cid, "1").await;
    jerry.close("jerry").await.unwrap();
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let push = jerry.expect_push(CommandType::Unread, None).await.unwrap();
    let seen = push.unread_message.unwrap().notif_time.unwrap();
    jerry.close("jerry").await.unwrap();
    // The clock stands. To be told of the first message once more would be harmless.
    say(&mut tom, "tom", &cid, "2").await;
    let back = Open { last_unread_notif_time: Some(seen), ..on_device("d1") };
    let mut back = login_as(&server, "jerry", back).await;
    assert_eq!(counts(&told(pushes(&mut back).await)), HashMap::from([(cid, 2)]));
}

#[tokio::test]
async fn a_message_after_the_clock_was_set_back_is_told() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let other = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    say(&mut tom, "tom", &other, "1").await;
    jerry.close("jerry").await.unwrap();
    server.clock.advance_ms(60_000);
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let push = jerry.expect_push(CommandType::Unread, None).await.unwrap();
    let seen = push.unread_message.unwrap().notif_time.unwrap();
    jerry.close("jerry").await.unwrap();
    server.clock.advance_ms(-30_000);
    say(&mut tom, "tom", &cid, "2").await;
    let back = Open { last_unread_notif_time: Some(seen), ..on_device("d1") };
    let mut back = login_as(&server, "jerry", back).await;
    assert_eq!(counts(&told(pushes(&mut back).await)).get(&cid), Some(&1));
}

#[tokio::test]
async fn impossible_times_of_the_last_notification_do_no_harm() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    say(&mut tom, "tom", &cid, "1").await;
    for time in [i64::MIN, -1, 0, 1, i64::MAX] {
        let since = Open { last_unread_notif_time: Some(time), ..on_device("d1") };
        let mut jerry = login_as(&server, "jerry", since).await;
        let expected = if time == i64::MAX { HashMap::new() } else { HashMap::from([(cid.clone(), 1)]) };
        assert_eq!(counts(&told(pushes(&mut jerry).await)), expected, "{time}");
        jerry.close("jerry").await.unwrap();
    }
}

#[tokio::test]
async fn whatever_is_said_and_read_the_number_is_the_model_s() {
    const STEPS: usize = 400;

    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut mary = login(&server, "mary").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_conversation("tom", &["jerry", "mary"], true, "{}").await.unwrap().cid;
    pushes(&mut jerry).await;

    let chance = SeededChance::new(7);
    let below = |n: usize| usize::try_from(chance.bits() % 1_000_000).unwrap() % n;
    let mut said: Vec<Said> = Vec::new();
    // How many of them Jerry has read.
    let mut read = 0;
    for step in 0..STEPS {
        if below(3) == 0 {
            server.clock.advance_ms(i64::try_from(below(3)).unwrap());
        }
        let calls = below(8) == 0;
        let how = Outgoing { mention_all: calls, ..Outgoing::default() };
        // Mostly near the end, sometimes long ago.
        let at = match said.len() {
            0 => 0,
            len if below(4) == 0 => below(len),
            len => len - 1 - below(len.min(6)),
        };
        match below(12) {
            kind @ 0..8 => {
                let (who, peer) = match kind {
                    0..4 => ("tom", &mut tom),
                    4..6 => ("mary", &mut mary),
                    _ => ("jerry", &mut jerry),
                };
                let sent = peer.send_text(who, &cid, "hi", how).await.unwrap();
                said.push(Said { who, calls, recalled: false, sent });
            }
            8..10 if !said.is_empty() => {
                let Said { sent, .. } = &said[at];
                jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
                read = read.max(at + 1);
            }
            kind if !said.is_empty() && !said[at].recalled => {
                let Said { who, sent, .. } = &said[at];
                let patch = PatchItem {
                    cid: Some(cid.clone()),
                    mid: Some(sent.id.clone()),
                    timestamp: Some(sent.at),
                    recall: Some(kind == 10),
                    data: (kind != 10).then(|| text_content("changed").into()),
                    mention_all: Some(calls && kind != 10),
                    ..PatchItem::default()
                };
                let peer = match *who {
                    "tom" => &mut tom,
                    "mary" => &mut mary,
                    _ => &mut jerry,
                };
                peer.patch(who, patch).await.unwrap();
                said[at].recalled = kind == 10;
                said[at].calls = calls && kind != 10;
            }
            _ => {}
        }
        if step % 4 == 0 {
            for peer in [&mut tom, &mut mary, &mut jerry] {
                pushes(peer).await;
            }
            let unread: Vec<&Said> =
                said[read..].iter().filter(|said| said.who != "jerry" && !said.recalled).collect();
            let told = unread_of_jerry(&server).await;
            let number = told.first().map_or(0, |tuple| tuple.unread.unwrap());
            assert_eq!(usize::try_from(number).unwrap(), unread.len(), "step {step}");
            let mentioned = told.first().is_some_and(|tuple| tuple.mentioned.unwrap_or_default());
            assert_eq!(mentioned, unread.iter().any(|said| said.calls), "step {step}");
            if let (Some(tuple), Some(last)) = (told.first(), unread.last()) {
                assert_eq!(tuple.mid.as_ref(), Some(&last.sent.id), "step {step}");
            }
        }
    }
}

/// A message of the model.
struct Said {
    who: &'static str,
    calls: bool,
    recalled: bool,
    sent: Sent,
}

#[tokio::test]
async fn a_recalled_message_is_no_longer_unread() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    let all = Outgoing { mention_all: true, ..Outgoing::default() };
    let kept = say(&mut tom, "tom", &cid, "kept").await;
    let taken_back = tom.send_text("tom", &cid, "@all", all).await.unwrap();
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 2);
    tom.recall("tom", &cid, &taken_back).await.unwrap();
    let told = unread_of_jerry(&server).await;
    assert_eq!(counts(&told)[&cid], 1);
    assert!(!told[0].mentioned.unwrap_or_default());
    assert_eq!(told[0].mid.as_ref(), Some(&kept.id));
    tom.recall("tom", &cid, &kept).await.unwrap();
    assert_eq!(unread_of_jerry(&server).await, []);
}

#[tokio::test]
async fn binary_messages_are_told_as_bytes() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    tom.send_binary("tom", &cid, &[0, 159, 146], Outgoing::default()).await.unwrap();
    let tuple = &unread_of_jerry(&server).await[0];
    assert_eq!(
        (tuple.binary_msg.clone(), tuple.data.clone()),
        (Some(Bytes::from_static(&[0, 159, 146])), None)
    );
}

#[tokio::test]
async fn temporary_conversations_count_until_they_end() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(60)).await.unwrap().cid;
    say(&mut tom, "tom", &cid, "hi").await;
    let told = unread_of_jerry(&server).await;
    assert_eq!((counts(&told)[&cid], told[0].conv_type), (1, Some(4)));
    server.clock.advance_ms(60_000);
    assert_eq!(unread_of_jerry(&server).await, []);
}

#[tokio::test]
async fn chat_rooms_never_count() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let room = tom.create_room("tom", "{}").await.unwrap().cid;
    jerry.add("jerry", &room, &["jerry"]).await.unwrap();
    say(&mut tom, "tom", &room, "hi").await;
    assert_eq!(unread_of_jerry(&server).await, []);
}

#[tokio::test]
async fn who_is_removed_has_nothing_unread_and_starts_anew() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    say(&mut tom, "tom", &cid, "before").await;
    tom.remove("tom", &cid, &["jerry"]).await.unwrap();
    assert_eq!(unread_of_jerry(&server).await, []);
    say(&mut tom, "tom", &cid, "without him").await;
    tom.add("tom", &cid, &["jerry"]).await.unwrap();
    assert_eq!(unread_of_jerry(&server).await, []);
    say(&mut tom, "tom", &cid, "after").await;
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 1);
}

#[tokio::test]
async fn an_edit_changes_the_last_message_and_not_the_number() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    let sent = say(&mut tom, "tom", &cid, "helo").await;
    let at = tom.modify("tom", &cid, &sent, "hello").await.unwrap();
    let tuple = &unread_of_jerry(&server).await[0];
    assert_eq!((tuple.unread, tuple.patch_timestamp), (Some(1), Some(at)));
    assert_eq!(text_of(tuple.data.as_ref().unwrap()).as_deref(), Some("hello"));
}

#[tokio::test]
async fn unread_numbers_survive_a_restart() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let first = say(&mut tom, "tom", &cid, "1").await;
    server.clock.advance_ms(1);
    say(&mut tom, "tom", &cid, "2").await;
    jerry.read("jerry", &cid, &first.id, first.at).await.unwrap();
    jerry.settle().await.unwrap();
    let server = server.restart().await;
    assert_eq!(counts(&unread_of_jerry(&server).await)[&cid], 1);
}

/// A client that counts as SDKs do: `unread` sets, each message of others adds one.
struct Counter(HashMap<String, i32>);

impl Counter {
    fn hear(&mut self, push: GenericCommand) {
        if let Some(UnreadCommand { convs, .. }) = push.unread_message {
            for tuple in convs {
                self.0.insert(tuple.cid.unwrap(), tuple.unread.unwrap());
            }
        }
        if let Some(direct) = push.direct_message {
            assert_ne!(direct.from_peer_id.as_deref(), Some("jerry"));
            *self.0.entry(direct.cid.unwrap()).or_default() += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_among_racing_messages_counts_each_exactly_once() {
    const ROUNDS: usize = 25;
    const SENDERS: usize = 4;
    const BURST: i32 = 12;

    let server = TestServer::start().await;
    let names: Vec<String> = (0..SENDERS).map(|n| format!("sender{n}")).collect();
    let mut senders = Vec::new();
    for name in &names {
        senders.push(login(&server, name).await);
    }
    let mut members: Vec<&str> = names.iter().map(String::as_str).collect();
    members.push("jerry");
    let group = senders[0].create_conversation("sender0", &members, true, "{}").await.unwrap().cid;
    let temporary = senders[0].create_temporary("sender0", &members, None).await.unwrap().cid;
    let cids = [group, temporary];

    let mut truth = 0;
    for round in 0..ROUNDS {
        for sender in &mut senders {
            sender.take_pushes();
        }
        let mut jerry = connect(&server).await;
        let talking = join_all(senders.iter_mut().zip(&names).map(|(sender, name)| {
            let cids = &cids;
            async move {
                for n in 0..BURST {
                    for cid in cids {
                        sender.send_text(name, cid, &n.to_string(), Outgoing::default()).await.unwrap();
                    }
                }
            }
        }));
        let logging_in = async {
            // Each round a little later into the burst.
            for _ in 0..round {
                jerry.settle().await.unwrap();
            }
            jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
        };
        tokio::join!(talking, logging_in);
        truth += BURST * i32::try_from(SENDERS).unwrap();

        let mut counter = Counter(HashMap::new());
        for push in pushes(&mut jerry).await {
            counter.hear(push);
        }
        for cid in &cids {
            assert_eq!(counter.0.get(cid), Some(&truth), "round {round}");
        }
        if round % 3 == 2 {
            // From time to time everything is read, so that small numbers are tried too.
            for cid in &cids {
                read_all(&mut jerry, cid).await;
            }
            truth = 0;
        }
        jerry.close("jerry").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_only_listens_counts_right_while_another_one_reads() {
    const ROUNDS: usize = 10;
    const MESSAGES: usize = 40;

    let server = TestServer::start().await;
    let (mut tom, mut phone, cid) = tom_and_jerry(&server).await;
    let mut tablet = login_as(&server, "jerry", on_device("tablet")).await;
    let mut counter = Counter(HashMap::new());
    for round in 0..ROUNDS {
        let talking = async {
            for n in 0..MESSAGES {
                say(&mut tom, "tom", &cid, &n.to_string()).await;
            }
        };
        let reading = async {
            // Reads each message that comes, but for the last of some rounds.
            for _ in 0..MESSAGES - round % 4 {
                let message = phone.expect_message(&cid).await.unwrap();
                let (id, at) = (message.id.unwrap(), message.timestamp.unwrap());
                phone.read("jerry", &cid, &id, at).await.unwrap();
            }
            phone.settle().await.unwrap();
        };
        tokio::join!(talking, reading);
        for push in pushes(&mut tablet).await {
            counter.hear(push);
        }
        let truth = i32::try_from(round % 4).unwrap();
        assert_eq!(counter.0.get(&cid), Some(&truth), "round {round}");
        let fresh = counts(&unread_of_jerry(&server).await).get(&cid).copied().unwrap_or_default();
        assert_eq!(fresh, truth, "round {round}");
        for _ in 0..round % 4 {
            phone.expect_message(&cid).await.unwrap();
        }
        pushes(&mut phone).await;
    }
}
