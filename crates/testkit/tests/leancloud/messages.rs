//! Messages: acknowledged, ordered, left as they were sent, and pushed to exactly those concerned.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use posthouse::peer::{
    CONFIG_BITMAP, Open, Outgoing, Peer, Sent, is, refusal, spoken, text_content, text_of,
};
use posthouse_leancloud::wire::proto::{CommandType, DirectCommand, GenericCommand, LogItem};
use posthouse_testkit::server::TestServer;

use super::sessions::{login, login_as, on_device, pushes, tom_and_jerry};

/// Contents that a server which looks too closely would change.
const ODD: [&str; 16] = [
    r#"{"_lctext":"hi","_lctype":-1}"#,
    "{ \"b\" : 1.0 , \"a\" : 1e3,\"b\":2 }\r\n",
    r#"{"_lctype":-1,"_lctext":"\u6c49\/\u5b57","_lcattrs":{"z":null,"a":[]}}"#,
    r#"{"big":12345678901234567890123,"small":0.1000000000000000055511151231257827}"#,
    "{",
    "null",
    "\"just a text in quotes\"",
    "not JSON at all",
    " leading and trailing ",
    "\u{0}\u{1}\u{7f}\u{80}",
    "\u{feff}BOM, \u{202e}backwards\u{202c}, \u{200d}joiner",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u{301} é Å ﬁ ẞ",
    "\u{fffd}\u{fffe}\u{ffff}\u{10ffff}",
    "汉字 العربية עברית ไทย",
    "line\nfeed\r\nand\ttab\u{2028}",
    "<script>alert('x')</script>' OR 1=1 --",
];

fn with_token(token: &str) -> Outgoing {
    Outgoing { token: Some(token.to_owned()), ..Outgoing::default() }
}

fn transient() -> Outgoing {
    Outgoing { transient: true, ..Outgoing::default() }
}

fn key_of(item: &LogItem) -> (i64, String) {
    (item.timestamp.unwrap(), item.msg_id.clone().unwrap())
}

/// A message as a command, for sending many without waiting.
fn posted(who: &str, cid: &str, text: &str) -> GenericCommand {
    GenericCommand {
        direct_message: Some(DirectCommand {
            cid: Some(cid.to_owned()),
            msg: Some(text_content(text).into()),
            ..DirectCommand::default()
        }),
        ..spoken(who, CommandType::Direct, None)
    }
}

async fn texts(peer: &mut Peer, cid: &str, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text_of(&peer.expect_message(cid).await.unwrap().msg.unwrap()).unwrap());
    }
    texts
}

#[tokio::test]
async fn the_ack_names_message_time_and_conversation_and_no_code() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    server.clock.advance_ms(77);
    let answer = tom.ask(posted("tom", &cid, "hi")).await.unwrap();
    assert!(is(&answer, CommandType::Ack, None), "{answer:?}");
    let ack = answer.ack_message.unwrap();
    assert_eq!((ack.t, ack.cid.as_deref()), (Some(server.now().0), Some(cid.as_str())));
    assert!(!ack.uid.unwrap().is_empty());
    // Even a code of 0 is an error for the JavaScript SDK.
    assert_eq!((ack.code, ack.reason, ack.app_code, ack.app_msg), (None, None, None, None));
}

#[tokio::test]
async fn the_push_is_what_was_acked() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let sent = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    let push = jerry.expect_push(CommandType::Direct, None).await.unwrap();
    assert_eq!((push.i, push.service, push.peer_id.as_deref()), (None, Some(2), Some("jerry")));
    let direct = push.direct_message.unwrap();
    assert_eq!(
        direct,
        DirectCommand {
            id: Some(sent.id),
            cid: Some(cid),
            from_peer_id: Some("tom".to_owned()),
            timestamp: Some(sent.at),
            msg: Some(text_content("hi").into()),
            conv_type: Some(1),
            ..DirectCommand::default()
        },
        "and nothing else is set"
    );
}

#[tokio::test]
async fn messages_of_temporary_conversations_say_so() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_temporary("tom", &["jerry"], None).await.unwrap().cid;
    tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    assert_eq!(jerry.expect_message(&cid).await.unwrap().conv_type, Some(4));
    assert_eq!(jerry.history("jerry", &cid, 1).await.unwrap()[0].conv_type, Some(4));
}

#[tokio::test]
async fn sdks_that_do_not_know_temporary_conversations_hear_nothing_of_them() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let old = Open { config_bitmap: Some(CONFIG_BITMAP & !2), ..Open::default() };
    let mut jerry = login_as(&server, "jerry", old.clone()).await;
    let cid = tom.create_temporary("tom", &["jerry"], None).await.unwrap().cid;
    let sent = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    tom.modify("tom", &cid, &sent, "ho").await.unwrap();
    assert!(pushes(&mut jerry).await.is_empty());
    let mut again = login_as(&server, "jerry", old).await;
    assert!(pushes(&mut again).await.is_empty(), "not at login either");
}

#[tokio::test]
async fn with_a_clock_that_stands_messages_are_ordered_by_id() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut sent = Vec::new();
    for n in 0..50 {
        let (who, peer) = if n % 3 == 0 { ("jerry", &mut jerry) } else { ("tom", &mut tom) };
        sent.push(peer.send_text(who, &cid, &n.to_string(), Outgoing::default()).await.unwrap());
    }
    assert!(sent.iter().all(|message| message.at == server.now().0));
    assert!(sent.windows(2).all(|pair| pair[0].id < pair[1].id), "{sent:?}");
    let history = tom.history("tom", &cid, 100).await.unwrap();
    let order: Vec<_> = sent.iter().map(|message| (message.at, message.id.clone())).collect();
    assert_eq!(history.iter().map(key_of).collect::<Vec<_>>(), order);
}

#[tokio::test]
async fn time_does_not_go_back_with_the_clock() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut sent = Vec::new();
    for step in [0, 10, -5_000, 1, -86_400_000, 0, 86_405_000, 3] {
        server.clock.advance_ms(step);
        sent.push(tom.send_text("tom", &cid, &step.to_string(), Outgoing::default()).await.unwrap());
    }
    let order: Vec<_> = sent.iter().map(|message| (message.at, message.id.clone())).collect();
    assert!(order.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0] < pair[1]), "{order:?}");
    assert!(sent.windows(2).all(|pair| pair[0].id < pair[1].id), "{order:?}");
    for message in &sent {
        let got = jerry.expect_message(&cid).await.unwrap();
        assert_eq!((got.id.unwrap(), got.timestamp.unwrap()), (message.id.clone(), message.at));
    }
    let history = jerry.history("jerry", &cid, 100).await.unwrap();
    assert_eq!(history.iter().map(key_of).collect::<Vec<_>>(), order);
}

#[tokio::test]
async fn order_survives_a_restart_with_the_clock_set_back() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let before = tom.send_text("tom", &cid, "before", Outgoing::default()).await.unwrap();
    server.clock.advance_ms(-3_600_000);
    let server = server.restart().await;
    let mut tom = login(&server, "tom").await;
    let after = tom.send_text("tom", &cid, "after", Outgoing::default()).await.unwrap();
    assert!(before.at <= after.at && before.id < after.id, "{before:?} {after:?}");
}

#[tokio::test]
async fn everybody_sees_the_same_order() {
    let server = TestServer::start().await;
    let mut peers = Vec::new();
    for who in ["a", "b", "c", "d"] {
        peers.push(login(&server, who).await);
    }
    let cid = peers[0].create_conversation("a", &["b", "c", "d"], true, "{}").await.unwrap().cid;
    for peer in &mut peers {
        pushes(peer).await;
    }
    let [a, b, c, d] = peers.as_mut_slice() else { unreachable!() };
    // Two clients talk over each other without waiting for answers.
    let (acks_a, acks_b) = tokio::join!(burst(a, "a", &cid, 100), burst(b, "b", &cid, 100));
    for acks in [&acks_a, &acks_b] {
        assert!(acks.windows(2).all(|pair| pair[0].id < pair[1].id), "answers keep the order of a client");
    }
    let mut all: Vec<String> = acks_a.iter().chain(&acks_b).map(|sent| sent.id.clone()).collect();
    all.sort_unstable();
    for peer in [c, d] {
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen.push(peer.expect_message(&cid).await.unwrap().id.unwrap());
        }
        assert_eq!(seen, all);
    }
    let history = a.history("a", &cid, 1_000).await.unwrap();
    assert_eq!(history.into_iter().map(|item| item.msg_id.unwrap()).collect::<Vec<_>>(), all);
}

async fn burst(peer: &mut Peer, who: &str, cid: &str, count: usize) -> Vec<Sent> {
    let mut serials = Vec::new();
    for n in 0..count {
        serials.push(peer.post(posted(who, cid, &n.to_string())).await.unwrap());
    }
    let mut acks = Vec::new();
    for serial in serials {
        let answer = peer.expect("an ack", |answer| answer.i == Some(serial)).await.unwrap();
        let ack = answer.ack_message.unwrap();
        acks.push(Sent { id: ack.uid.unwrap(), at: ack.t.unwrap() });
    }
    acks
}

#[tokio::test]
async fn text_stays_exactly_as_it_was_sent() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    for content in ODD {
        tom.send_content("tom", &cid, content, Outgoing::default()).await.unwrap();
        let got = jerry.expect_message(&cid).await.unwrap();
        assert_eq!(got.msg.unwrap(), content.as_bytes(), "{content:?}");
        assert_eq!(got.binary_msg, None);
    }
    let history = jerry.history("jerry", &cid, 100).await.unwrap();
    for (item, content) in history.iter().zip(ODD) {
        assert_eq!(item.data.as_ref().unwrap(), content.as_bytes(), "{content:?}");
        assert_ne!(item.bin, Some(true));
    }
    let mut again = login_as(&server, "jerry", on_device("d2")).await;
    let unread = again.expect_push(CommandType::Unread, None).await.unwrap().unread_message.unwrap();
    assert_eq!(unread.convs[0].data.as_ref().unwrap(), ODD[ODD.len() - 1].as_bytes());
}

#[tokio::test]
async fn text_that_is_no_unicode_is_refused_alone() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    // Half a surrogate pair, as some old JavaScript wrote it.
    let direct = DirectCommand {
        cid: Some(cid.clone()),
        msg: Some(Bytes::from_static(b"\xed\xa0\xbd")),
        ..DirectCommand::default()
    };
    let error = tom.send_direct("tom", direct, None).await.unwrap_err();
    assert_eq!(error.code(), Some(4114), "{error}");
    tom.send_text("tom", &cid, "fine", Outgoing::default()).await.unwrap();
    assert_eq!(texts(&mut jerry, &cid, 1).await, ["fine"]);
}

#[tokio::test]
async fn bytes_stay_exactly_as_they_were_sent() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let all: Vec<u8> = (0..=255).collect();
    for content in [all.as_slice(), &[0], b"looks like text", &[0xff; 5_120]] {
        tom.send_binary("tom", &cid, content, Outgoing::default()).await.unwrap();
        let got = jerry.expect_message(&cid).await.unwrap();
        assert_eq!(got.binary_msg.as_deref(), Some(content));
        assert_eq!(got.msg, None);
        let item = &jerry.history("jerry", &cid, 1).await.unwrap()[0];
        assert_eq!(item.bin, Some(true));
        assert_eq!(item.data.as_ref().unwrap(), STANDARD.encode(content).as_bytes());
    }
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_is_pushed_once() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let first = tom.send_text("tom", &cid, "once", with_token("t1")).await.unwrap();
    server.clock.advance_ms(60_000);
    let again = tom.send_text("tom", &cid, "once", with_token("t1")).await.unwrap();
    assert_eq!(first, again);
    // From another socket of the same client too: the first one may have broken.
    let mut back = login_as(&server, "tom", on_device("d2")).await;
    assert_eq!(back.send_text("tom", &cid, "once", with_token("t1")).await.unwrap(), first);
    let got = pushes(&mut jerry).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 1);
    let mut jerry = login_as(&server, "jerry", on_device("d2")).await;
    let unread = jerry.expect_push(CommandType::Unread, None).await.unwrap().unread_message.unwrap();
    assert_eq!(unread.convs[0].unread, Some(1));
}

#[tokio::test]
async fn a_retry_is_recognised_after_a_restart() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let first = tom.send_text("tom", &cid, "once", with_token("t1")).await.unwrap();
    let server = server.restart().await;
    let mut tom = login(&server, "tom").await;
    let again = tom.send_text("tom", &cid, "once", with_token("t1")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn retries_that_race_make_one_message() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut other = login_as(&server, "tom", on_device("d2")).await;
    let (one, two) = tokio::join!(
        tom.send_text("tom", &cid, "once", with_token("t1")),
        other.send_text("tom", &cid, "once", with_token("t1")),
    );
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(pushes(&mut jerry).await.len(), 1);
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_is_of_one_sender_in_one_conversation() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let second = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    let mut ids = vec![
        tom.send_text("tom", &cid, "1", with_token("t")).await.unwrap().id,
        jerry.send_text("jerry", &cid, "2", with_token("t")).await.unwrap().id,
        tom.send_text("tom", &second, "3", with_token("t")).await.unwrap().id,
        tom.send_text("tom", &cid, "4", with_token("u")).await.unwrap().id,
        tom.send_text("tom", &cid, "5", Outgoing::default()).await.unwrap().id,
        tom.send_text("tom", &cid, "5", Outgoing::default()).await.unwrap().id,
    ];
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 5);
}

#[tokio::test]
async fn own_other_devices_get_a_copy_and_the_sending_session_does_not() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut tablet = login_as(&server, "tom", on_device("tablet")).await;
    let sent = tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    let copy = tablet.expect_push(CommandType::Direct, None).await.unwrap();
    assert_eq!(copy.peer_id.as_deref(), Some("tom"));
    let direct = copy.direct_message.unwrap();
    assert_eq!((direct.id, direct.from_peer_id.as_deref()), (Some(sent.id), Some("tom")));
    jerry.expect_message(&cid).await.unwrap();
    assert!(pushes(&mut tom).await.is_empty());
    // A reconnect is enough to see that one's own message is not unread.
    let mut third = login_as(&server, "tom", on_device("third")).await;
    assert!(pushes(&mut third).await.is_empty());
}

#[tokio::test]
async fn only_members_hear_a_message() {
    let server = TestServer::start().await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    let mut mary = login(&server, "mary").await;
    tom.send_text("tom", &cid, "secret", Outgoing::default()).await.unwrap();
    assert!(pushes(&mut mary).await.is_empty());
    let error = mary.send_text("mary", &cid, "let me in", Outgoing::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(4401), "{error}");
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_has_left_neither_hears_nor_speaks() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.remove("jerry", &cid, &["jerry"]).await.unwrap();
    pushes(&mut jerry).await;
    tom.send_text("tom", &cid, "gone?", Outgoing::default()).await.unwrap();
    assert!(pushes(&mut jerry).await.is_empty());
    let error = jerry.send_text("jerry", &cid, "x", Outgoing::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(4401), "{error}");
}

#[tokio::test]
async fn a_refused_message_is_an_ack_with_code_name_id_and_time() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let answer = tom.ask(posted("tom", "no such conversation", "hi")).await.unwrap();
    assert!(is(&answer, CommandType::Ack, None), "{answer:?}");
    let refused = refusal(&answer).unwrap();
    assert_eq!((refused.code, refused.reason.as_str()), (4401, "INVALID_MESSAGING_TARGET"));
    let ack = answer.ack_message.unwrap();
    assert!(ack.uid.is_some() && ack.t.is_some(), "Swift reads both even then: {ack:?}");
    let temporary = format!("_tmp:{}", "0".repeat(32));
    let answer = tom.ask(posted("tom", &temporary, "hi")).await.unwrap();
    assert_eq!(refusal(&answer).unwrap().code, 4323);
}

#[tokio::test]
async fn transient_messages_reach_who_is_online_and_are_not_kept() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.add("tom", &cid, &["mary"]).await.unwrap();
    pushes(&mut jerry).await;
    let sent = tom.send_text("tom", &cid, "typing…", transient()).await.unwrap();
    let got = jerry.expect_message(&cid).await.unwrap();
    assert_eq!((got.id, got.transient), (Some(sent.id), Some(true)));
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap(), []);
    let mut mary = login(&server, "mary").await;
    let mut again = login_as(&server, "jerry", on_device("d2")).await;
    for late in [&mut mary, &mut again] {
        let got = pushes(late).await;
        assert!(got.iter().all(|push| !is(push, CommandType::Unread, None)), "{got:?}");
        assert!(got.iter().all(|push| push.direct_message.is_none()), "{got:?}");
    }
}

#[tokio::test]
async fn transient_messages_are_acked_only_to_sdks_that_wait_for_it() {
    let server = TestServer::start().await;
    let (_tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let old = Open { config_bitmap: Some(CONFIG_BITMAP & !8), ..on_device("old") };
    let mut tom = login_as(&server, "tom", old).await;
    let mut command = posted("tom", &cid, "typing…");
    if let Some(direct) = &mut command.direct_message {
        direct.transient = Some(true);
    }
    tom.post(command).await.unwrap();
    assert!(pushes(&mut tom).await.is_empty());
    assert_eq!(texts(&mut jerry, &cid, 1).await, ["typing…"]);
    tom.send_text("tom", &cid, "stored", Outgoing::default()).await.unwrap();
}

#[tokio::test]
async fn a_retry_of_a_transient_message_is_pushed_once() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let how = Outgoing { token: Some("t".to_owned()), ..transient() };
    let first = tom.send_text("tom", &cid, "typing…", how.clone()).await.unwrap();
    assert_eq!(tom.send_text("tom", &cid, "typing…", how).await.unwrap(), first);
    assert_eq!(pushes(&mut jerry).await.len(), 1);
}

#[tokio::test]
async fn mentions_travel_with_the_message() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let some = Outgoing { mentions: vec!["jerry".to_owned(), "mary".to_owned()], ..Outgoing::default() };
    let all = Outgoing { mention_all: true, ..Outgoing::default() };
    tom.send_text("tom", &cid, "@jerry", some).await.unwrap();
    let got = jerry.expect_message(&cid).await.unwrap();
    assert_eq!(
        (got.mention_pids, got.mention_all.unwrap_or_default()),
        (vec!["jerry".to_owned(), "mary".to_owned()], false)
    );
    tom.send_text("tom", &cid, "@all", all).await.unwrap();
    let got = jerry.expect_message(&cid).await.unwrap();
    assert_eq!((got.mention_pids, got.mention_all), (vec![], Some(true)));
    let history = jerry.history("jerry", &cid, 10).await.unwrap();
    assert_eq!(history[0].mention_pids, ["jerry", "mary"]);
    assert_eq!((history[0].mention_all.unwrap_or_default(), history[1].mention_all), (false, Some(true)));
}

#[tokio::test]
async fn the_size_limit_is_5_kb_with_the_push_text_and_the_socket_lives_on() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let largest = "汉".repeat(1_706) + "ab";
    assert_eq!(largest.len(), 5_120);
    tom.send_content("tom", &cid, &largest, Outgoing::default()).await.unwrap();
    assert_eq!(jerry.expect_message(&cid).await.unwrap().msg.unwrap(), largest.as_bytes());

    let pushed = Outgoing { push: Some("x".to_owned()), ..Outgoing::default() };
    for (content, how) in [(largest.clone() + "c", Outgoing::default()), (largest.clone(), pushed.clone())] {
        let direct = DirectCommand {
            cid: Some(cid.clone()),
            msg: Some(content.into()),
            push_data: how.push,
            ..DirectCommand::default()
        };
        let answer = tom
            .ask(GenericCommand { direct_message: Some(direct), ..spoken("tom", CommandType::Direct, None) })
            .await
            .unwrap();
        assert!(is(&answer, CommandType::Ack, None), "{answer:?}");
        let refused = refusal(&answer).unwrap();
        assert_eq!((refused.code, refused.reason.as_str()), (4109, "FRAME_TOO_LONG"));
    }
    assert_eq!(
        tom.send_binary("tom", &cid, &[0; 5_121], Outgoing::default()).await.unwrap_err().code(),
        Some(4109)
    );
    let shorter = &largest[..5_118];
    tom.send_content("tom", &cid, shorter, pushed).await.unwrap();
    assert_eq!(jerry.expect_message(&cid).await.unwrap().msg.unwrap(), shorter.as_bytes());
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 2, "nothing of what was refused is kept");
}

#[tokio::test]
async fn the_size_limit_is_a_setting() {
    let mut server = TestServer::start().await;
    server.set(&[("message_bytes_max", "10")]).await;
    let (mut tom, _jerry, cid) = tom_and_jerry(&server).await;
    tom.send_content("tom", &cid, "0123456789", Outgoing::default()).await.unwrap();
    let error = tom.send_content("tom", &cid, "0123456789a", Outgoing::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(4109));
}

#[tokio::test]
async fn what_sdks_say_about_the_sender_is_not_believed() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let direct = DirectCommand {
        cid: Some(cid.clone()),
        msg: Some(Bytes::from_static(b"hi")),
        from_peer_id: Some("mary".to_owned()),
        timestamp: Some(1),
        id: Some("0000000000000001".to_owned()),
        ..DirectCommand::default()
    };
    let sent = tom.send_direct("tom", direct, None).await.unwrap();
    let got = jerry.expect_message(&cid).await.unwrap();
    assert_eq!(got.from_peer_id.as_deref(), Some("tom"));
    assert_eq!((got.id, got.timestamp), (Some(sent.id), Some(sent.at)));
    assert_eq!(sent.at, server.now().0);
}
