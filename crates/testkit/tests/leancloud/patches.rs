//! Edits and recalls: by the sender only, told to everybody else, replayed to those who were away.

use std::collections::HashMap;

use bytes::Bytes;
use posthouse::peer::{CONFIG_BITMAP, Open, Outgoing, Peer, Sent, is, spoken, text_content, text_of};
use posthouse_leancloud::wire::proto::{CommandType, GenericCommand, OpType, PatchCommand, PatchItem};
use posthouse_testkit::server::TestServer;

use super::sessions::{login, login_as, on_device, pushes, tom_and_jerry};

/// What a recalled message says.
const RECALLED: &[u8] = br#"{"_lctype":-127}"#;

async fn say(tom: &mut Peer, cid: &str, text: &str) -> Sent {
    tom.send_text("tom", cid, text, Outgoing::default()).await.unwrap()
}

fn item(cid: &str, sent: &Sent) -> PatchItem {
    PatchItem {
        cid: Some(cid.to_owned()),
        mid: Some(sent.id.clone()),
        timestamp: Some(sent.at),
        recall: Some(false),
        ..PatchItem::default()
    }
}

/// The patches of these pushes; each frame must hold exactly one.
fn patches(pushes: Vec<GenericCommand>) -> Vec<PatchItem> {
    pushes
        .into_iter()
        .filter(|push| is(push, CommandType::Patch, Some(OpType::Modify)))
        .map(|push| {
            let items = push.patch_message.unwrap().patches;
            assert_eq!(items.len(), 1, "Objective-C keeps one of a frame: {items:?}");
            items.into_iter().next().unwrap()
        })
        .collect()
}

fn away_since(time: i64) -> Open {
    Open { last_patch_time: Some(time), ..on_device("back") }
}

/// Logs in on a device that has seen patches up to `time`; what it is told of later ones.
async fn replayed(server: &TestServer, who: &str, time: i64) -> Vec<PatchItem> {
    let mut peer = login_as(server, who, away_since(time)).await;
    let replayed = patches(pushes(&mut peer).await);
    peer.close(who).await.unwrap();
    replayed
}

#[tokio::test]
async fn an_edit_is_told_to_everybody_but_the_session_that_made_it() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut tablet = login_as(&server, "tom", on_device("tablet")).await;
    let sent = say(&mut tom, &cid, "helo").await;
    for peer in [&mut tablet, &mut jerry] {
        peer.expect_message(&cid).await.unwrap();
    }
    server.clock.advance_ms(1_000);
    let at = tom.modify("tom", &cid, &sent, "hello").await.unwrap();
    assert_eq!(at, server.now().0);
    assert!(pushes(&mut tom).await.is_empty());
    for (peer, who) in [(&mut tablet, "tom"), (&mut jerry, "jerry")] {
        let push = peer.expect_push(CommandType::Patch, Some(OpType::Modify)).await.unwrap();
        assert_eq!((push.i, push.service, push.peer_id.as_deref()), (None, Some(2), Some(who)));
        assert!(push.server_ts.is_some());
        let mut told = patches(vec![push]).remove(0);
        assert_ne!(told.mention_all.take(), Some(true));
        assert_eq!(
            told,
            PatchItem {
                cid: Some(cid.clone()),
                mid: Some(sent.id.clone()),
                timestamp: Some(sent.at),
                recall: Some(false),
                data: Some(text_content("hello").into()),
                patch_timestamp: Some(at),
                from: Some("tom".to_owned()),
                ..PatchItem::default()
            }
        );
        assert!(pushes(peer).await.is_empty());
    }
}

#[tokio::test]
async fn an_edit_changes_history_and_nothing_else_of_the_message() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let first = say(&mut tom, &cid, "helo").await;
    server.clock.advance_ms(10);
    let second = say(&mut tom, &cid, "world").await;
    server.clock.advance_ms(10);
    let at = tom.modify("tom", &cid, &first, "hello").await.unwrap();
    let history = jerry.history("jerry", &cid, 10).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].msg_id.as_ref(), history[0].timestamp), (Some(&first.id), Some(first.at)));
    assert_eq!(history[0].data.as_ref().unwrap(), text_content("hello").as_bytes());
    assert_eq!(history[0].patch_timestamp, Some(at));
    assert_eq!((history[1].msg_id.as_ref(), history[1].patch_timestamp), (Some(&second.id), None));
    tom.modify("tom", &cid, &first, "hello again").await.unwrap();
    let history = jerry.history("jerry", &cid, 10).await.unwrap();
    assert_eq!(text_of(history[0].data.as_ref().unwrap()).as_deref(), Some("hello again"));
}

#[tokio::test]
async fn a_recall_leaves_a_place_without_content() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "secret").await;
    pushes(&mut jerry).await;
    // JavaScript sends no data with it.
    let at = tom.recall("tom", &cid, &sent).await.unwrap();
    let told = patches(pushes(&mut jerry).await);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].recall, told[0].patch_timestamp), (Some(true), Some(at)));
    assert_eq!(told[0].data.as_ref().unwrap(), RECALLED);
    assert_eq!((told[0].mid.as_ref(), told[0].timestamp), (Some(&sent.id), Some(sent.at)));
    assert_eq!(told[0].from.as_deref(), Some("tom"));
    let row = &jerry.history("jerry", &cid, 10).await.unwrap()[0];
    assert_eq!(row.data.as_ref().unwrap(), RECALLED);
    assert_eq!((row.msg_id.as_ref(), row.timestamp), (Some(&sent.id), Some(sent.at)));
    assert_eq!((row.from.as_deref(), row.patch_timestamp), (Some("tom"), Some(at)));
}

#[tokio::test]
async fn what_was_recalled_stays_recalled() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "secret").await;
    tom.recall("tom", &cid, &sent).await.unwrap();
    pushes(&mut jerry).await;
    let error = tom.modify("tom", &cid, &sent, "back?").await.unwrap_err();
    assert!(matches!(error.code(), Some(4404 | 4405)), "{error}");
    assert!(pushes(&mut jerry).await.is_empty());
    assert_eq!(jerry.history("jerry", &cid, 1).await.unwrap()[0].data.as_ref().unwrap(), RECALLED);
}

#[tokio::test]
async fn edits_may_change_mentions() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    pushes(&mut jerry).await;
    let patch = PatchItem {
        data: Some(text_content("@jerry").into()),
        mention_pids: vec!["jerry".to_owned()],
        mention_all: Some(true),
        ..item(&cid, &sent)
    };
    tom.patch("tom", patch).await.unwrap();
    let told = patches(pushes(&mut jerry).await).remove(0);
    assert_eq!((told.mention_pids, told.mention_all), (vec!["jerry".to_owned()], Some(true)));
    let row = &jerry.history("jerry", &cid, 1).await.unwrap()[0];
    assert_eq!((row.mention_pids.clone(), row.mention_all), (vec!["jerry".to_owned()], Some(true)));
}

#[tokio::test]
async fn bytes_can_be_edited_in_both_of_the_ways_sdks_do_it() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = tom.send_binary("tom", &cid, &[1, 2, 3], Outgoing::default()).await.unwrap();
    pushes(&mut jerry).await;
    let bytes = Bytes::from_static(&[0xff, 0, 0xfe]);
    for patch in [
        PatchItem { binary_msg: Some(bytes.clone()), ..item(&cid, &sent) },
        // Java puts raw bytes into the field of texts.
        PatchItem { data: Some(bytes.clone()), ..item(&cid, &sent) },
    ] {
        tom.patch("tom", patch).await.unwrap();
        let told = patches(pushes(&mut jerry).await).remove(0);
        assert_eq!((told.binary_msg, told.data), (Some(bytes.clone()), None));
        let row = &jerry.history("jerry", &cid, 1).await.unwrap()[0];
        assert_eq!((row.bin, row.data.as_deref()), (Some(true), Some(b"/wD+".as_slice())));
    }
}

#[tokio::test]
async fn content_of_edits_stays_exactly_as_it_was_sent() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    pushes(&mut jerry).await;
    for content in ["not JSON", "{ \"b\":1,\"a\" : 1.0 }\r\n", "\u{feff}👩‍👩‍👧‍👦\u{0}"] {
        let data = Bytes::copy_from_slice(content.as_bytes());
        tom.patch("tom", PatchItem { data: Some(data.clone()), ..item(&cid, &sent) }).await.unwrap();
        assert_eq!(patches(pushes(&mut jerry).await).remove(0).data, Some(data.clone()));
        assert_eq!(jerry.history("jerry", &cid, 1).await.unwrap()[0].data, Some(data));
    }
}

#[tokio::test]
async fn only_its_sender_changes_a_message() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut mary = login(&server, "mary").await;
    let sent = say(&mut tom, &cid, "mine").await;
    let error = jerry.modify("jerry", &cid, &sent, "yours").await.unwrap_err();
    assert_eq!(error.code(), Some(4403), "{error}");
    assert!(error.to_string().contains("MESSAGE_OWNERSHIP_REQUIRED"), "{error}");
    assert_eq!(jerry.recall("jerry", &cid, &sent).await.unwrap_err().code(), Some(4403));
    assert!(mary.recall("mary", &cid, &sent).await.unwrap_err().code().is_some());
    assert!(pushes(&mut tom).await.is_empty());
    let row = &tom.history("tom", &cid, 1).await.unwrap()[0];
    assert_eq!((text_of(row.data.as_ref().unwrap()).as_deref(), row.patch_timestamp), (Some("mine"), None));
}

#[tokio::test]
async fn only_messages_that_exist_are_changed() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let other = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    let sent = say(&mut tom, &cid, "hi").await;
    let transient = Outgoing { transient: true, ..Outgoing::default() };
    let typing = tom.send_text("tom", &cid, "typing", transient).await.unwrap();
    for (what, cid, sent) in [
        ("no id", &cid, &Sent { id: "nonsense".to_owned(), at: sent.at }),
        ("unknown", &cid, &Sent { id: "ffffffffffffffff".to_owned(), at: sent.at }),
        ("another time", &cid, &Sent { at: sent.at - 1, ..sent.clone() }),
        ("another conversation", &other, &sent),
        ("transient", &cid, &typing),
    ] {
        assert_eq!(tom.modify("tom", cid, sent, "x").await.unwrap_err().code(), Some(4404), "{what}");
    }
}

#[tokio::test]
async fn an_edit_may_not_be_larger_than_a_message() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    let error = tom.modify("tom", &cid, &sent, &"x".repeat(5_120)).await.unwrap_err();
    assert_eq!(error.code(), Some(4109), "{error}");
    tom.modify("tom", &cid, &sent, "fits").await.unwrap();
}

#[tokio::test]
async fn an_app_can_switch_edits_and_recalls_off() {
    let mut server = TestServer::start().await;
    server.set(&[("edit_enabled", "false")]).await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    assert_eq!(tom.modify("tom", &cid, &sent, "x").await.unwrap_err().code(), Some(4406));
    tom.recall("tom", &cid, &sent).await.unwrap();

    server.set(&[("edit_enabled", "true"), ("recall_enabled", "false")]).await;
    let mut tom = login(&server, "tom").await;
    let sent = say(&mut tom, &cid, "hi").await;
    pushes(&mut jerry).await;
    assert_eq!(tom.recall("tom", &cid, &sent).await.unwrap_err().code(), Some(4407));
    assert!(pushes(&mut jerry).await.is_empty());
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
}

#[tokio::test]
async fn sdks_that_do_not_know_edits_hear_of_none() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    let start = server.now().0 - 1;
    let old = |device| Open { config_bitmap: Some(CONFIG_BITMAP & !1), ..on_device(device) };
    let mut live = login_as(&server, "jerry", old("d1")).await;
    pushes(&mut live).await;
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    assert!(pushes(&mut live).await.is_empty());
    let back = Open { last_patch_time: Some(start), ..old("d2") };
    let mut back = login_as(&server, "jerry", back).await;
    assert!(patches(pushes(&mut back).await).is_empty());
}

#[tokio::test]
async fn who_was_away_is_told_after_what_is_unread_oldest_first_one_a_frame() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let temporary = tom.create_temporary("tom", &["jerry"], None).await.unwrap().cid;
    let first = say(&mut tom, &cid, "1").await;
    let second = say(&mut tom, &temporary, "2").await;
    let third = say(&mut tom, &cid, "3").await;
    let seen = tom.modify("tom", &cid, &first, "seen").await.unwrap();
    jerry.close("jerry").await.unwrap();

    server.clock.advance_ms(1_000);
    let at_third = tom.modify("tom", &cid, &third, "3!").await.unwrap();
    server.clock.advance_ms(1_000);
    let at_second = tom.recall("tom", &temporary, &second).await.unwrap();
    server.clock.advance_ms(1_000);
    let at_first = tom.modify("tom", &cid, &first, "1!").await.unwrap();

    let mut back = login_as(&server, "jerry", away_since(seen)).await;
    let pushes = pushes(&mut back).await;
    assert!(is(&pushes[0], CommandType::Unread, None), "{pushes:?}");
    let told = patches(pushes);
    let order: Vec<_> = told.iter().map(|item| (item.mid.as_ref(), item.patch_timestamp)).collect();
    assert_eq!(
        order,
        [
            (Some(&third.id), Some(at_third)),
            (Some(&second.id), Some(at_second)),
            (Some(&first.id), Some(at_first)),
        ]
    );
    assert_eq!(told[1].cid, Some(temporary));
    assert_eq!((told[1].recall, told[1].data.as_deref()), (Some(true), Some(RECALLED)));
    assert_eq!(text_of(told[2].data.as_ref().unwrap()).as_deref(), Some("1!"));
    assert_eq!(told[0].from.as_deref(), Some("tom"));
}

#[tokio::test]
async fn a_replay_begins_after_the_last_patch_seen() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    let sent = say(&mut tom, &cid, "hi").await;
    server.clock.advance_ms(10);
    let at = tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    assert_eq!(replayed(&server, "jerry", at - 1).await.len(), 1);
    assert_eq!(replayed(&server, "jerry", at).await, []);
    assert_eq!(replayed(&server, "jerry", at + 1_000).await, []);
    // Without a time nothing is replayed: a new device reads history anyway.
    let mut new = login(&server, "jerry").await;
    assert_eq!(patches(pushes(&mut new).await), []);
}

#[tokio::test]
async fn own_edits_are_replayed_to_own_other_devices() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    let start = server.now().0;
    server.clock.advance_ms(10);
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    let told = replayed(&server, "tom", start).await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].mid.as_ref(), told[0].from.as_deref()), (Some(&sent.id), Some("tom")));
}

#[tokio::test]
async fn strangers_and_former_members_are_replayed_nothing() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    tom.add("tom", &cid, &["mary"]).await.unwrap();
    let sent = say(&mut tom, &cid, "hi").await;
    let start = server.now().0;
    server.clock.advance_ms(10);
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    tom.remove("tom", &cid, &["mary"]).await.unwrap();
    assert_eq!(replayed(&server, "mary", start).await, []);
    assert_eq!(replayed(&server, "bob", start).await, []);
    assert_eq!(replayed(&server, "jerry", start).await.len(), 1);
}

#[tokio::test]
async fn replays_survive_a_restart() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let sent = say(&mut tom, &cid, "hi").await;
    let start = server.now().0;
    server.clock.advance_ms(10);
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    let server = server.restart().await;
    assert_eq!(replayed(&server, "jerry", start).await.len(), 1);
}

#[tokio::test]
async fn patches_of_one_conversation_have_growing_times_when_the_clock_stands() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut sent = Vec::new();
    for n in 0..3 {
        sent.push(say(&mut tom, &cid, &n.to_string()).await);
    }
    pushes(&mut jerry).await;
    let mut times = Vec::new();
    for sent in &sent {
        times.push(tom.modify("tom", &cid, sent, "x").await.unwrap());
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    jerry.close("jerry").await.unwrap();
    // Who has seen the first of them gets exactly the others.
    let told: Vec<_> = replayed(&server, "jerry", times[0])
        .await
        .into_iter()
        .map(|item| item.patch_timestamp.unwrap())
        .collect();
    assert_eq!(told, times[1..]);
}

#[tokio::test]
async fn a_patch_in_another_conversation_in_the_same_millisecond_is_not_lost() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let other = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    let one = say(&mut tom, &cid, "1").await;
    let two = say(&mut tom, &other, "2").await;
    // Jerry sees the first patch, loses his connection, and misses the second.
    tom.modify("tom", &cid, &one, "1!").await.unwrap();
    let seen = patches(pushes(&mut jerry).await).remove(0).patch_timestamp.unwrap();
    jerry.close("jerry").await.unwrap();
    tom.modify("tom", &other, &two, "2!").await.unwrap();
    let told = replayed(&server, "jerry", seen).await;
    assert_eq!(told.iter().map(|item| item.mid.as_ref()).collect::<Vec<_>>(), [Some(&two.id)]);
}

#[tokio::test]
async fn a_patch_after_the_clock_was_set_back_is_not_lost() {
    for restarted in [false, true] {
        let mut server = TestServer::start().await;
        let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
        let other = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
        let one = say(&mut tom, &cid, "1").await;
        let two = say(&mut tom, &other, "2").await;
        server.clock.advance_ms(60_000);
        tom.modify("tom", &cid, &one, "1!").await.unwrap();
        let seen = patches(pushes(&mut jerry).await).remove(0).patch_timestamp.unwrap();
        jerry.close("jerry").await.unwrap();
        server.clock.advance_ms(-30_000);
        if restarted {
            server = server.restart().await;
        }
        let mut tom = login(&server, "tom").await;
        tom.modify("tom", &other, &two, "2!").await.unwrap();
        let told = replayed(&server, "jerry", seen).await;
        let told: Vec<_> = told.iter().map(|item| item.mid.as_ref()).collect();
        assert_eq!(told, [Some(&two.id)], "restarted: {restarted}");
    }
}

#[tokio::test]
async fn messages_of_temporary_conversations_are_changed_until_they_end() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(60)).await.unwrap().cid;
    let sent = say(&mut tom, &cid, "hi").await;
    pushes(&mut jerry).await;
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    assert_eq!(patches(pushes(&mut jerry).await).len(), 1);
    server.clock.advance_ms(60_000);
    assert_eq!(tom.recall("tom", &cid, &sent).await.unwrap_err().code(), Some(4323));
    assert_eq!(replayed(&server, "jerry", 1).await, []);
}

#[tokio::test]
async fn a_command_changes_exactly_one_message() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let one = say(&mut tom, &cid, "1").await;
    let two = say(&mut tom, &cid, "2").await;
    pushes(&mut jerry).await;
    let edit = |sent, text: &str| PatchItem { data: Some(text_content(text).into()), ..item(&cid, sent) };
    // All SDKs send one; half a command done would be worse than none.
    for patches in [vec![edit(&one, "1!"), edit(&two, "2!")], vec![]] {
        let command = GenericCommand {
            patch_message: Some(PatchCommand { patches, ..PatchCommand::default() }),
            ..spoken("tom", CommandType::Patch, Some(OpType::Modify))
        };
        assert_eq!(tom.call(command).await.unwrap_err().code(), Some(4114));
    }
    assert!(pushes(&mut jerry).await.is_empty());
    let history = jerry.history("jerry", &cid, 10).await.unwrap();
    assert!(history.iter().all(|row| row.patch_timestamp.is_none()), "{history:?}");
    tom.modify("tom", &cid, &one, "1!").await.unwrap();
}

#[tokio::test]
async fn impossible_times_of_the_last_patch_do_no_harm() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    let sent = say(&mut tom, &cid, "hi").await;
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    assert_eq!(replayed(&server, "jerry", i64::MAX).await, []);
    // JavaScript's first login names its own clock, which may be anything; others may send 0.
    for time in [0, -1, i64::MIN] {
        assert!(replayed(&server, "jerry", time).await.len() <= 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_among_racing_edits_ends_with_the_newest_of_each() {
    const ROUNDS: usize = 12;
    const MESSAGES: usize = 5;
    const EDITS: usize = 30;

    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut sent = Vec::new();
    for n in 0..MESSAGES {
        sent.push(say(&mut tom, &cid, &n.to_string()).await);
    }
    // What Jerry knows of each message: the time and the text of its newest patch.
    let mut known: HashMap<String, (i64, String)> = HashMap::new();
    let mut seen = server.now().0 - 1;
    pushes(&mut jerry).await;
    for round in 0..ROUNDS {
        jerry.close("jerry").await.unwrap();
        let editing = async {
            for n in 0..EDITS {
                tom.modify("tom", &cid, &sent[n % MESSAGES], &format!("{round}/{n}")).await.unwrap();
            }
        };
        let logging_in = async {
            for _ in 0..round {
                jerry.settle().await.unwrap();
            }
            jerry.open(server.app_id(), "jerry", away_since(seen)).await.unwrap();
        };
        tokio::join!(editing, logging_in);
        let told = patches(pushes(&mut jerry).await);
        let times: Vec<_> = told.iter().map(|patch| patch.patch_timestamp.unwrap()).collect();
        for (patch, at) in told.into_iter().zip(times.clone()) {
            assert!(at > seen, "round {round}: {at} after {seen} in {times:?}");
            seen = at;
            known.insert(patch.mid.unwrap(), (at, text_of(patch.data.as_ref().unwrap()).unwrap()));
        }
        for row in tom.history("tom", &cid, 100).await.unwrap() {
            let truth = (row.patch_timestamp.unwrap(), text_of(row.data.as_ref().unwrap()).unwrap());
            assert_eq!(known.get(row.msg_id.as_ref().unwrap()), Some(&truth), "round {round}");
        }
    }
}
