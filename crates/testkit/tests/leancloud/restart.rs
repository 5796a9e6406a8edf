//! After a stop and a start on the same data everything is as it was; after a stop without a word,
//! everything that was acknowledged.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use posthouse::config::{Config, Flags};
use posthouse::peer::{self, Open, Opened, Outgoing, Peer, http_get};
use posthouse::wiring::{Server, World};
use posthouse_leancloud::wire::proto::{ConvCommand, LogItem, UnreadTuple};
use posthouse_testkit::server::TestServer;
use posthouse_testkit::time::{ManualClock, SeededChance};
use serde_json::{Value, json};

use crate::conversations::{code, group, ids, log_in, log_in_how, log_in_on, members, news, pushed};

#[tokio::test]
async fn history_is_as_before() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cids = [
        group(&mut tom, "tom", &["jerry"]).await,
        tom.create_temporary("tom", &["jerry"], Some(86_400)).await.unwrap().cid,
    ];
    let mut before = Vec::new();
    for cid in &cids {
        for n in 0..30 {
            tom.send_content("tom", cid, &format!("raw {n} 猫\u{0} "), Outgoing::default()).await.unwrap();
        }
        tom.send_binary("tom", cid, &[0, 0xff], Outgoing::default()).await.unwrap();
        let how = Outgoing { mentions: ids(&["jerry"]), mention_all: true, ..Outgoing::default() };
        let edited = tom.send_text("tom", cid, "old", how).await.unwrap();
        tom.modify("tom", cid, &edited, "new").await.unwrap();
        let recalled = tom.send_text("tom", cid, "gone", Outgoing::default()).await.unwrap();
        tom.recall("tom", cid, &recalled).await.unwrap();
        before.push(tom.history("tom", cid, 100).await.unwrap());
        assert_eq!(before.last().unwrap().len(), 33);
    }
    drop(tom);
    let server = server.restart().await;
    let mut tom = log_in(&server, "tom").await;
    for (cid, before) in cids.iter().zip(before) {
        assert_eq!(tom.history("tom", cid, 100).await.unwrap(), before);
        // New messages come after the old ones, though the clock has hardly moved.
        let sent = tom.send_text("tom", cid, "next", Outgoing::default()).await.unwrap();
        let last = tom.history("tom", cid, 2).await.unwrap();
        assert_eq!(last[1].msg_id.as_ref(), Some(&sent.id));
        assert!((last[0].timestamp, &last[0].msg_id) < (last[1].timestamp, &last[1].msg_id));
    }
}

#[tokio::test]
async fn times_never_go_back_even_if_the_clock_does() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let before = tom.send_text("tom", &cid, "1", Outgoing::default()).await.unwrap();
    drop(tom);
    server.clock.advance_ms(-3_600_000);
    let server = server.restart().await;
    let mut tom = log_in(&server, "tom").await;
    let after = tom.send_text("tom", &cid, "2", Outgoing::default()).await.unwrap();
    assert!((after.at, &after.id) > (before.at, &before.id), "{before:?} {after:?}");
    let history = tom.history("tom", &cid, 10).await.unwrap();
    assert_eq!(texts(&history), ["1", "2"]);
}

#[tokio::test]
async fn conversations_are_as_before() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let attributes = r#"{"name":"猫","attr":{"z":1,"a":[1,{"b":null}]}}"#;
    let pair = tom.create_conversation("tom", &["jerry"], true, attributes).await.unwrap();
    let changed = group(&mut tom, "tom", &["jerry"]).await;
    tom.add("tom", &changed, &["mary"]).await.unwrap();
    tom.remove("tom", &changed, &["jerry"]).await.unwrap();
    tom.update("tom", &changed, r#"{"name":"x","attr.n":{"__op":"Increment","amount":2}}"#).await.unwrap();
    tom.mute("tom", &changed, true).await.unwrap();
    tom.send_text("tom", &changed, "last", Outgoing::default()).await.unwrap();
    let room = tom.create_room("tom", r#"{"name":"room"}"#).await.unwrap().cid;
    let brief = tom.create_temporary("tom", &["jerry"], Some(600)).await.unwrap();
    let cids = [&pair.cid, &changed, &room, &brief.cid];
    let mut before = Vec::new();
    for cid in cids {
        before.push(tom.conversation("tom", cid).await.unwrap().unwrap());
    }
    let listed = tom.query_where("tom", "{}").await.unwrap();
    drop(tom);

    let server = server.restart().await;
    let mut tom = log_in(&server, "tom").await;
    for (cid, before) in cids.into_iter().zip(&before) {
        assert_eq!(tom.conversation("tom", cid).await.unwrap().as_ref(), Some(before));
    }
    assert_eq!(tom.query_where("tom", "{}").await.unwrap(), listed);
    // Uniqueness holds over the restart, for both kinds.
    let again = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap();
    assert_eq!((again.existing, again.cid, again.unique_id), (true, pair.cid, pair.unique_id));
    let again = tom.create_temporary("tom", &["jerry"], None).await.unwrap();
    assert_eq!((again.existing, again.cid, again.ttl_s), (true, brief.cid, Some(600)));
    // Dates go on growing.
    let later = tom.update("tom", &changed, r#"{"name":"y"}"#).await.unwrap().udate.unwrap();
    assert!(json!(later).as_str() > before[1]["updatedAt"].as_str());
}

#[tokio::test]
async fn temporary_conversations_end_when_they_would_have() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap().cid;
    let ended = tom.create_temporary("tom", &["mary"], Some(5)).await.unwrap().cid;
    drop(tom);
    server.clock.advance_ms(5_000);
    // The restart itself takes a millisecond of this clock.
    let server = server.restart().await;
    let mut tom = log_in(&server, "tom").await;
    assert_eq!(code(tom.count("tom", &ended).await), 4323);
    server.pass_ms(4_998).await;
    tom.send_text("tom", &cid, "just in time", Outgoing::default()).await.unwrap();
    server.pass_ms(1).await;
    assert_eq!(code(tom.send_text("tom", &cid, "late", Outgoing::default()).await), 4323);
    drop(tom);
    // What is long over is dropped after a restart too.
    server.clock.advance_ms(2 * 3_600_000);
    let server = server.restart().await;
    assert!(server.server.posthouse.forget_expired().await.unwrap() >= 1);
    let mut tom = log_in(&server, "tom").await;
    assert_eq!(code(tom.history("tom", &cid, 1).await), 4323);
    assert!(!tom.create_temporary("tom", &["jerry"], Some(10)).await.unwrap().existing);
}

#[tokio::test]
async fn unread_numbers_and_mentions_are_as_before() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let mut cids = [
        group(&mut tom, "tom", &["jerry"]).await,
        group(&mut tom, "tom", &["jerry"]).await,
        tom.create_temporary("tom", &["jerry"], Some(86_400)).await.unwrap().cid,
    ];
    cids.sort();
    for (n, cid) in cids.iter().enumerate() {
        for _ in 0..=n {
            let how = Outgoing { mention_all: n == 1, ..Outgoing::default() };
            tom.send_text("tom", cid, "hi", how).await.unwrap();
            server.clock.advance_ms(10);
        }
    }
    // Of the first he has read everything.
    let last = jerry.history("jerry", &cids[0], 1).await.unwrap().remove(0);
    jerry.read("jerry", &cids[0], &last.msg_id.unwrap(), last.timestamp.unwrap()).await.unwrap();
    pushed(&mut jerry, "jerry").await;
    jerry.close("jerry").await.unwrap();
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let before = unread(&mut jerry).await;
    let counts: Vec<_> =
        before.iter().map(|tuple| (tuple.cid.clone().unwrap(), tuple.unread, tuple.mentioned)).collect();
    assert_eq!(counts, [(cids[1].clone(), Some(2), Some(true)), (cids[2].clone(), Some(3), Some(false))]);
    drop((tom, jerry));
    let server = server.restart().await;
    let mut jerry = log_in(&server, "jerry").await;
    assert_eq!(unread(&mut jerry).await, before);
}

#[tokio::test]
async fn marks_are_as_before() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    let how = Outgoing { receipt: true, ..Outgoing::default() };
    let sent = tom.send_text("tom", &cid, "hi", how).await.unwrap();
    server.clock.advance_ms(1_000);
    jerry.ack_message("jerry", &cid, &sent.id).await.unwrap();
    jerry.settle().await.unwrap();
    server.clock.advance_ms(1_000);
    jerry.read("jerry", &cid, &sent.id, sent.at).await.unwrap();
    jerry.settle().await.unwrap();
    let before =
        (tom.max_read("tom", &cid, true).await.unwrap(), tom.history("tom", &cid, 10).await.unwrap());
    assert!(before.1[0].ack_at.is_some() && before.1[0].read_at.is_some());
    drop((tom, jerry));
    let server = server.restart().await;
    let mut tom = log_in(&server, "tom").await;
    let after = (tom.max_read("tom", &cid, true).await.unwrap(), tom.history("tom", &cid, 10).await.unwrap());
    assert_eq!(after, before);
}

#[tokio::test]
async fn session_tokens_are_good_and_bad_as_before() {
    let server = TestServer::start().await;
    let how = Open { tag: Some("Web".to_owned()), device_id: Some("one".to_owned()), ..Open::default() };
    let (first, opened) = log_in_how(&server, "tom", how).await;
    drop(first);
    let server = server.restart().await;
    let back = Open { reopen: true, token: opened.token.clone(), ..Open::default() };
    let (mut tom, _) = log_in_how(&server, "tom", back.clone()).await;
    // The token still tells device and tag: another device displaces it.
    let other = Open { tag: Some("Web".to_owned()), device_id: Some("two".to_owned()), ..Open::default() };
    let (_second, _) = log_in_how(&server, "tom", other).await;
    let closed = tom.next().await.unwrap().session_message.unwrap();
    assert_eq!(closed.code, Some(4111));
    // And it opens what was missed.
    let path = "/1.1/rtm/notifications?client_id=tom&start_ts=0&notification_type=permanent";
    let token = opened.token.clone().unwrap();
    let headers = [
        ("X-LC-Id", server.app_id()),
        ("X-LC-Key", server.app_key()),
        ("X-LC-IM-Session-Token", token.as_str()),
    ];
    assert_eq!(http_get(&server.http_url(), path, &headers).await.unwrap().0, 200);

    server.clock.advance_ms(i64::from(opened.token_ttl_s.unwrap()) * 1_000);
    let server = server.restart().await;
    let mut tom = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    assert_eq!(code(tom.open(server.app_id(), "tom", back).await), 4112);
}

#[tokio::test]
async fn a_retry_after_the_restart_is_recognised() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let how = Outgoing { token: Some("dt-1".to_owned()), ..Outgoing::default() };
    let sent = tom.send_text("tom", &cid, "once", how.clone()).await.unwrap();
    drop(tom);
    let server = server.restart().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    pushed(&mut jerry, "jerry").await;
    assert_eq!(tom.send_text("tom", &cid, "once", how).await.unwrap(), sent);
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 1);
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), [""; 0]);
}

#[tokio::test]
async fn edits_and_invitations_that_were_missed_are_told_after_the_restart() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let (mut jerry, opened) = log_in_how(&server, "jerry", Open::default()).await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let sent = tom.send_text("tom", &cid, "old", Outgoing::default()).await.unwrap();
    jerry.close("jerry").await.unwrap();
    server.clock.advance_ms(1_000);
    tom.modify("tom", &cid, &sent, "new").await.unwrap();
    let invited = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    drop((tom, jerry));
    let server = server.restart().await;
    let token = opened.token.unwrap();
    let path = format!(
        "/1.1/rtm/notifications?client_id=jerry&start_ts={}&notification_type=permanent",
        // The push of the first invitation has moved the client's cursor on.
        opened.server_time + 1
    );
    let headers = [
        ("X-LC-Id", server.app_id()),
        ("X-LC-Key", server.app_key()),
        ("X-LC-IM-Session-Token", token.as_str()),
    ];
    let (_, body) = http_get(&server.http_url(), &path, &headers).await.unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(answer["notifications"][0]["cid"], json!(invited));
    let how = Open { last_patch_time: Some(opened.server_time), ..Open::default() };
    let (mut jerry, _) = log_in_how(&server, "jerry", how).await;
    let told = news(&pushed(&mut jerry, "jerry").await);
    assert!(told.contains(&"patch/modify".to_owned()), "{told:?}");
}

/// A stop is polite to clients: nobody's will is sent, and all are told to move away.
#[tokio::test]
async fn a_stop_sends_no_wills() {
    let server = TestServer::start().await;
    let (mut tom, _) = log_in_on(&server, "tom", "phone").await;
    let (mut jerry, _) = log_in_on(&server, "jerry", "phone").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let will = Outgoing { will: true, ..Outgoing::default() };
    tom.send_text("tom", &cid, "last words", will).await.unwrap();
    pushed(&mut jerry, "jerry").await;
    let (server, closed) = tokio::join!(server.restart(), jerry.expect_close());
    assert!(matches!(closed.unwrap().0, Some(1000 | 1001)));
    let told = news(&jerry.take_pushes());
    assert_eq!(told, ["goaway"]);
    let mut jerry = log_in(&server, "jerry").await;
    server.pass_ms(60_000).await;
    assert_eq!(news(&pushed(&mut jerry, "jerry").await), [""; 0]);
}

/// A copy of the data directory while the server runs is what a stop without a word leaves.
#[tokio::test]
async fn a_stop_without_a_word_keeps_all_that_was_acknowledged() {
    let server = TestServer::start().await;
    let (mut tom, opened) = log_in_how(&server, "tom", Open::default()).await;
    let mut jerry = log_in(&server, "jerry").await;
    let cid = group(&mut tom, "tom", &["jerry", "mary"]).await;
    let brief = tom.create_temporary("tom", &["jerry"], Some(600)).await.unwrap().cid;
    tom.update("tom", &cid, r#"{"name":"kept"}"#).await.unwrap();
    tom.remove("tom", &cid, &["mary"]).await.unwrap();
    for n in 0..50 {
        let how = Outgoing { token: Some(format!("dt-{n}")), ..Outgoing::default() };
        tom.send_text("tom", &cid, &n.to_string(), how).await.unwrap();
        jerry.send_text("jerry", &brief, &n.to_string(), Outgoing::default()).await.unwrap();
    }
    let before =
        [tom.history("tom", &cid, 100).await.unwrap(), tom.history("tom", &brief, 100).await.unwrap()];

    let crash = Crash::of(&server).await;
    let (mut tom, _) =
        crash.log_in("tom", Open { reopen: true, token: opened.token, ..Open::default() }).await;
    let told = unread(&mut tom).await;
    assert_eq!(told.iter().map(|tuple| tuple.unread).collect::<Vec<_>>(), [Some(50)]);
    assert_eq!(tom.history("tom", &cid, 100).await.unwrap(), before[0]);
    assert_eq!(tom.history("tom", &brief, 100).await.unwrap(), before[1]);
    let row = tom.conversation("tom", &cid).await.unwrap().unwrap();
    assert_eq!((&row["name"], members(&row)), (&json!("kept"), ids(&["jerry", "tom"])));
    let brief_row =
        tom.query("tom", ConvCommand { temp_conv_ids: vec![brief.clone()], ..ConvCommand::default() });
    assert_eq!(brief_row.await.unwrap()[0]["ttl"], json!(600));
    let how = Outgoing { token: Some("dt-49".to_owned()), ..Outgoing::default() };
    let retry = tom.send_text("tom", &cid, "49", how).await.unwrap();
    assert_eq!(Some(retry.id), before[0][49].msg_id);
    let (mut jerry, _) = crash.log_in("jerry", Open::default()).await;
    let told = unread(&mut jerry).await;
    assert_eq!(told.iter().map(|tuple| tuple.unread).collect::<Vec<_>>(), [Some(50)]);
    crash.clock.advance_ms(600_000);
    assert_eq!(code(tom.count("tom", &brief).await), 4323);
    drop((tom, jerry));
    crash.server.stop().await;
}

/// A second server on what the first one would leave if it were killed now.
struct Crash {
    server: Server,
    clock: Arc<ManualClock>,
    app_id: String,
    _data: tempfile::TempDir,
}

impl Crash {
    async fn of(running: &TestServer) -> Self {
        let data = tempfile::tempdir().unwrap();
        copy(running.data(), data.path());
        let clock = Arc::new(ManualClock::new());
        clock.set(running.now());
        let flags = Flags {
            data: Some(data.path().display().to_string()),
            listen: Some("127.0.0.1:0".to_owned()),
            admin_listen: Some("127.0.0.1:0".to_owned()),
            drain_seconds: Some("1".to_owned()),
            ..Flags::default()
        };
        let config = Config::load(None, &flags).unwrap();
        let world =
            World { clock: clock.clone(), chance: Arc::new(SeededChance::new(4_711)), sweeper: false };
        let server = Server::start(&config, world).await.unwrap();
        Self { server, clock, app_id: running.app_id().to_owned(), _data: data }
    }

    async fn log_in(&self, who: &str, how: Open) -> (Peer, Opened) {
        let mut peer = Peer::connect(&format!("ws://{}/", self.server.address), peer::BINARY).await.unwrap();
        let opened = peer.open(&self.app_id, who, how).await.unwrap();
        (peer, opened)
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What the login has told of unread messages, by conversation.
async fn unread(peer: &mut Peer) -> Vec<UnreadTuple> {
    peer.settle().await.unwrap();
    let mut tuples: Vec<UnreadTuple> = peer
        .take_pushes()
        .into_iter()
        .filter_map(|push| push.unread_message)
        .flat_map(|unread| unread.convs)
        .collect();
    tuples.sort_by(|a, b| a.cid.cmp(&b.cid));
    tuples
}

fn texts(history: &[LogItem]) -> Vec<String> {
    history.iter().map(|item| peer::text_of(item.data.as_ref().unwrap()).unwrap()).collect()
}
