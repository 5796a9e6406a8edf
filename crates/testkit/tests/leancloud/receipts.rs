//! Receipts: what the sender hears of delivery and reading, and what everybody can ask.

use posthouse::peer::{Outgoing, Peer, ack_range};
use posthouse_leancloud::wire::proto::{CommandType, GenericCommand, RcpCommand, ReadCommand, ReadTuple};
use posthouse_testkit::server::TestServer;

use super::sessions::{login, login_as, on_device, pushes, tom_and_jerry};

fn with_receipt() -> Outgoing {
    Outgoing { receipt: true, ..Outgoing::default() }
}

fn receipts(pushes: Vec<GenericCommand>) -> Vec<RcpCommand> {
    pushes.into_iter().filter_map(|push| push.rcp_message).collect()
}

/// Everything about receipts that the server had for this socket.
async fn heard(peer: &mut Peer) -> Vec<RcpCommand> {
    receipts(pushes(peer).await)
}

#[tokio::test]
async fn the_first_ack_is_told_to_the_sender() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap();
    jerry.expect_message(&cid).await.unwrap();
    server.clock.advance_ms(250);
    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    let push = tom.expect_push(CommandType::Rcp, None).await.unwrap();
    assert_eq!((push.i, push.service, push.peer_id.as_deref()), (None, Some(2), Some("tom")));
    assert!(push.server_ts.is_some());
    let rcp = push.rcp_message.unwrap();
    assert_eq!(rcp.t, Some(server.now().0), "when it arrived");
    assert_ne!(rcp.read, Some(true));
    assert_eq!((rcp.id, rcp.cid), (Some(sent.id), Some(cid.clone())));
    assert_eq!(rcp.from.as_deref(), Some("jerry"));

    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert!(pushes(&mut tom).await.is_empty(), "the second ack says nothing new");
    assert!(pushes(&mut jerry).await.is_empty(), "an ack is not answered");
}

#[tokio::test]
async fn an_ack_by_id_does_the_same() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap();
    jerry.ack_message("jerry", &cid, &sent.id).await.unwrap();
    jerry.settle().await.unwrap();
    let told = heard(&mut tom).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].id.as_ref(), Some(&sent.id));
    let item = &tom.history("tom", &cid, 1).await.unwrap()[0];
    assert_eq!((item.ack_at, item.read_at), (Some(server.now().0), None));
}

#[tokio::test]
async fn one_range_delivers_many_messages_each_with_its_receipt() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut ids = Vec::new();
    let first = server.now().0;
    for n in 0..3 {
        server.clock.advance_ms(n);
        ids.push(tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap().id);
    }
    jerry.ack("jerry", &cid, first, server.now().0).await.unwrap();
    jerry.settle().await.unwrap();
    let told: Vec<_> = heard(&mut tom).await.into_iter().map(|rcp| rcp.id.unwrap()).collect();
    assert_eq!(told, ids);
}

#[tokio::test]
async fn all_devices_of_the_sender_hear_of_it_and_nobody_else() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut tablet = login_as(&server, "tom", on_device("tablet")).await;
    let mut mary = login(&server, "mary").await;
    let sent = tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap();
    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    for (peer, hears) in [(&mut tom, true), (&mut tablet, true), (&mut jerry, false), (&mut mary, false)] {
        assert_eq!(heard(peer).await.len(), if hears { 2 } else { 0 });
    }
}

#[tokio::test]
async fn who_did_not_ask_hears_nothing() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert!(pushes(&mut tom).await.is_empty());
}

#[tokio::test]
async fn transient_messages_have_no_receipts() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let how = Outgoing { transient: true, ..with_receipt() };
    let sent = tom.send_text("tom", &cid, "hi", how).await.unwrap();
    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert!(pushes(&mut tom).await.is_empty());
}

#[tokio::test]
async fn an_own_device_is_no_receiver() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let mut tablet = login_as(&server, "tom", on_device("tablet")).await;
    let sent = tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap();
    // Swift acks its own messages from other devices.
    tablet.ack_message("tom", &cid, &sent.id).await.unwrap();
    tablet.read("tom", &cid, &sent.id, sent.at).await.unwrap();
    tablet.settle().await.unwrap();
    assert!(heard(&mut tom).await.is_empty());
    let item = &tom.history("tom", &cid, 1).await.unwrap()[0];
    assert_eq!((item.ack_at, item.read_at), (None, None));
}

#[tokio::test]
async fn in_conversations_of_more_than_two_nobody_is_told() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_conversation("tom", &["jerry", "mary"], true, "{}").await.unwrap().cid;
    let temporary = tom.create_temporary("tom", &["jerry", "mary"], None).await.unwrap().cid;
    for cid in [&cid, &temporary] {
        let sent = tom.send_text("tom", cid, "hi", with_receipt()).await.unwrap();
        jerry.ack("jerry", cid, sent.at, sent.at).await.unwrap();
        jerry.read("jerry", cid, &sent.id, sent.at).await.unwrap();
    }
    jerry.settle().await.unwrap();
    assert!(heard(&mut tom).await.is_empty());
}

#[tokio::test]
async fn temporary_conversations_of_two_have_receipts() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_temporary("tom", &["jerry"], None).await.unwrap().cid;
    let sent = tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap();
    jerry.ack("jerry", &cid, sent.at, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    let told = heard(&mut tom).await;
    assert_eq!((told.len(), told[0].cid.as_deref()), (1, Some(cid.as_str())));
}

#[tokio::test]
async fn reading_is_told_with_the_last_message_covered() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        server.clock.advance_ms(10);
        sent.push(tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap());
    }
    server.clock.advance_ms(500);
    jerry.read("jerry", &cid, &sent[1].id, sent[1].at).await.unwrap();
    jerry.settle().await.unwrap();
    let read: Vec<_> = heard(&mut tom).await.into_iter().filter(|rcp| rcp.read == Some(true)).collect();
    assert_eq!(
        read,
        [RcpCommand {
            id: Some(sent[1].id.clone()),
            cid: Some(cid.clone()),
            t: Some(server.now().0),
            read: Some(true),
            from: Some("jerry".to_owned()),
        }]
    );
    let history = tom.history("tom", &cid, 10).await.unwrap();
    let read_at: Vec<_> = history.iter().map(|item| item.read_at.is_some()).collect();
    assert_eq!(read_at, [true, true, false]);

    // Reading the same again is no news.
    jerry.read("jerry", &cid, &sent[1].id, sent[1].at).await.unwrap();
    jerry.settle().await.unwrap();
    assert!(heard(&mut tom).await.is_empty());
}

#[tokio::test]
async fn many_reads_travel_in_one_command_and_unknown_ones_do_no_harm() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let second = tom.create_temporary("tom", &["jerry"], None).await.unwrap().cid;
    let mut tuples = vec![ReadTuple { cid: Some("nowhere".to_owned()), ..ReadTuple::default() }];
    for cid in [&cid, &second] {
        let sent = tom.send_text("tom", cid, "hi", with_receipt()).await.unwrap();
        tuples.push(ReadTuple { cid: Some(cid.clone()), timestamp: Some(sent.at), mid: Some(sent.id) });
    }
    let read = GenericCommand {
        read_message: Some(ReadCommand { convs: tuples, ..ReadCommand::default() }),
        ..posthouse::peer::spoken("jerry", CommandType::Read, None)
    };
    jerry.send(&read).await.unwrap();
    jerry.settle().await.unwrap();
    let mut told: Vec<_> = heard(&mut tom)
        .await
        .into_iter()
        .filter(|rcp| rcp.read == Some(true))
        .map(|rcp| rcp.cid.unwrap())
        .collect();
    told.sort();
    let mut expected = vec![cid, second];
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn acks_and_reads_of_strangers_count_for_nothing() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let mut mary = login(&server, "mary").await;
    let sent = tom.send_text("tom", &cid, "hi", with_receipt()).await.unwrap();
    mary.send(&ack_range("mary", &cid, 0, sent.at)).await.unwrap();
    mary.ack_message("mary", &cid, &sent.id).await.unwrap();
    mary.read("mary", &cid, &sent.id, sent.at).await.unwrap();
    mary.ack_message("mary", "nowhere", "nothing").await.unwrap();
    assert!(pushes(&mut mary).await.is_empty());
    assert!(pushes(&mut tom).await.is_empty());
    let item = &tom.history("tom", &cid, 1).await.unwrap()[0];
    assert_eq!((item.ack_at, item.read_at), (None, None));
}

#[tokio::test]
async fn max_read_tells_how_far_the_others_are_at_any_size() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let mut mary = login(&server, "mary").await;
    let pair = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    let group = tom.create_conversation("tom", &["jerry", "mary", "bob"], true, "{}").await.unwrap().cid;
    for cid in [&pair, &group] {
        let marks = tom.max_read("tom", cid, false).await.unwrap();
        assert_eq!(marks.cid.as_ref(), Some(cid));
        assert_eq!(marks.max_read_timestamp.unwrap_or_default(), 0, "{marks:?}");
        assert_eq!(marks.max_ack_timestamp.unwrap_or_default(), 0, "{marks:?}");

        // Tracked although nobody asked for receipts.
        server.clock.advance_ms(1_000);
        let first = tom.send_text("tom", cid, "1", Outgoing::default()).await.unwrap();
        server.clock.advance_ms(1_000);
        let second = tom.send_text("tom", cid, "2", Outgoing::default()).await.unwrap();
        jerry.ack("jerry", cid, first.at, second.at).await.unwrap();
        jerry.read("jerry", cid, &first.id, first.at).await.unwrap();
        jerry.settle().await.unwrap();
        let marks = tom.max_read("tom", cid, false).await.unwrap();
        // The time of the message read or of the reading; both are what SDKs compare with.
        let read = marks.max_read_timestamp.unwrap();
        assert!((first.at..=second.at).contains(&read), "{read} {first:?} {second:?}");
        assert!(marks.max_ack_timestamp.unwrap() >= second.at, "{marks:?}");
        // One's own reading is not asked about.
        let own = jerry.max_read("jerry", cid, false).await.unwrap();
        assert_eq!(own.max_read_timestamp.unwrap_or_default(), 0, "{own:?}");
    }

    mary.ack("mary", &group, 0, server.now().0).await.unwrap();
    mary.settle().await.unwrap();
    let marks = tom.max_read("tom", &group, true).await.unwrap();
    assert_eq!(marks.cid.as_ref(), Some(&group));
    let mut tuples: Vec<_> = marks
        .max_read_tuples
        .iter()
        .map(|tuple| {
            let ack = tuple.max_ack_timestamp.unwrap_or_default() > 0;
            let read = tuple.max_read_timestamp.unwrap_or_default() > 0;
            (tuple.pid.as_deref().unwrap(), ack, read)
        })
        .collect();
    tuples.sort_unstable();
    assert_eq!(tuples, [("bob", false, false), ("jerry", true, true), ("mary", true, false)]);
}

#[tokio::test]
async fn marks_never_go_back() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let first = tom.send_text("tom", &cid, "1", Outgoing::default()).await.unwrap();
    server.clock.advance_ms(1_000);
    let second = tom.send_text("tom", &cid, "2", Outgoing::default()).await.unwrap();
    jerry.ack("jerry", &cid, first.at, second.at).await.unwrap();
    jerry.read("jerry", &cid, &second.id, second.at).await.unwrap();
    jerry.settle().await.unwrap();
    let before = tom.max_read("tom", &cid, false).await.unwrap();
    jerry.read("jerry", &cid, &first.id, first.at).await.unwrap();
    jerry.ack("jerry", &cid, first.at, first.at).await.unwrap();
    jerry.settle().await.unwrap();
    assert_eq!(tom.max_read("tom", &cid, false).await.unwrap(), before);
    assert_eq!((before.max_read_timestamp, before.max_ack_timestamp), (Some(second.at), Some(second.at)));
}

#[tokio::test]
async fn an_ack_of_the_future_covers_only_what_is_there() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let first = tom.send_text("tom", &cid, "1", with_receipt()).await.unwrap();
    for to in [first.at + 86_400_000, i64::MAX] {
        jerry.ack("jerry", &cid, i64::MIN, to).await.unwrap();
    }
    jerry.settle().await.unwrap();
    assert_eq!(heard(&mut tom).await.len(), 1);
    // With the clock standing, and later.
    for ms in [0, 1_000] {
        server.clock.advance_ms(ms);
        let next = tom.send_text("tom", &cid, "2", with_receipt()).await.unwrap();
        assert_eq!(tom.history("tom", &cid, 1).await.unwrap()[0].ack_at, None);
        jerry.ack("jerry", &cid, next.at, next.at).await.unwrap();
        jerry.settle().await.unwrap();
        let told = heard(&mut tom).await;
        assert_eq!((told.len(), told[0].id.as_ref()), (1, Some(&next.id)));
        let marks = tom.max_read("tom", &cid, false).await.unwrap();
        assert_eq!(marks.max_ack_timestamp, Some(next.at));
    }
}

#[tokio::test]
async fn chat_rooms_and_strangers_have_no_marks() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let room = tom.create_room("tom", "{}").await.unwrap().cid;
    assert_eq!(tom.max_read("tom", &room, false).await.unwrap_err().code(), Some(4314));
    let mut mary = login(&server, "mary").await;
    for all in [false, true] {
        assert_eq!(mary.max_read("mary", &cid, all).await.unwrap_err().code(), Some(4317));
    }
}
