//! Wills: said when a connection is lost and does not come back, never otherwise.

use posthouse::peer::{Open, Outgoing, Peer, text_of};
use posthouse_leancloud::wire::proto::{CommandType, DirectCommand, GenericCommand};
use posthouse_testkit::server::TestServer;

use super::sessions::{connect, login, login_as, on_device, pushes, tom_and_jerry, until_offline};

/// The grace time by default, in milliseconds.
const GRACE_MS: i64 = 5_000;

fn will() -> Outgoing {
    Outgoing { will: true, ..Outgoing::default() }
}

fn messages(pushes: Vec<GenericCommand>) -> Vec<DirectCommand> {
    pushes.into_iter().filter_map(|push| push.direct_message).collect()
}

fn texts(pushes: Vec<GenericCommand>) -> Vec<String> {
    messages(pushes).into_iter().map(|message| text_of(&message.msg.unwrap()).unwrap()).collect()
}

/// The server has noticed that `tom` is gone; then so much time passes.
async fn lose(server: &TestServer, tom: Peer, jerry: &mut Peer, ms: i64) {
    drop(tom);
    until_offline(jerry, "jerry", "tom").await;
    server.pass_ms(ms).await;
}

#[tokio::test]
async fn a_will_is_acked_and_waits_for_the_end_of_the_grace_time() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let left = tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    assert!(pushes(&mut jerry).await.is_empty(), "not while Tom is here");
    lose(&server, tom, &mut jerry, GRACE_MS - 1).await;
    assert!(pushes(&mut jerry).await.is_empty(), "not within the grace time");
    server.pass_ms(1).await;
    let got = jerry.expect_message(&cid).await.unwrap();
    assert_eq!((got.id, got.from_peer_id.as_deref()), (Some(left.id), Some("tom")));
    assert_eq!(text_of(&got.msg.unwrap()).as_deref(), Some("gone"));
    server.pass_ms(60_000).await;
    assert!(pushes(&mut jerry).await.is_empty(), "it is said once");
}

#[tokio::test]
async fn a_will_is_neither_kept_nor_unread() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    lose(&server, tom, &mut jerry, GRACE_MS).await;
    jerry.expect_message(&cid).await.unwrap();
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap(), []);
    let mut again = login_as(&server, "jerry", on_device("d2")).await;
    assert!(pushes(&mut again).await.is_empty());
}

#[tokio::test]
async fn a_polite_close_ends_the_will() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    tom.close("tom").await.unwrap();
    lose(&server, tom, &mut jerry, 60_000).await;
    assert!(pushes(&mut jerry).await.is_empty());
}

#[tokio::test]
async fn closing_the_socket_without_the_session_is_no_goodbye() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    tom.disconnect().await.unwrap();
    until_offline(&mut jerry, "jerry", "tom").await;
    server.pass_ms(GRACE_MS).await;
    assert_eq!(texts(vec![jerry.expect_push(CommandType::Direct, None).await.unwrap()]), ["gone"]);
}

#[tokio::test]
async fn a_later_will_replaces_the_earlier_one_wherever_it_was() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let second = tom.create_conversation("tom", &["jerry"], false, "{}").await.unwrap().cid;
    pushes(&mut jerry).await;
    tom.send_text("tom", &cid, "first", will()).await.unwrap();
    tom.send_text("tom", &second, "second", will()).await.unwrap();
    lose(&server, tom, &mut jerry, GRACE_MS).await;
    assert_eq!(texts(pushes(&mut jerry).await), ["second"]);
}

#[tokio::test]
async fn the_same_device_coming_back_cancels_it() {
    let server = TestServer::start().await;
    let (tom, mut jerry, cid) = tom_and_jerry(&server).await;
    drop(tom);
    let mut tom = connect(&server).await;
    let token = tom.open(server.app_id(), "tom", on_device("d1")).await.unwrap().token;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    drop(tom);
    let mut watcher = login(&server, "watcher").await;
    until_offline(&mut watcher, "watcher", "tom").await;
    server.pass_ms(GRACE_MS - 1).await;

    // As the JavaScript SDK does it: the token alone says which device this is.
    let mut back = connect(&server).await;
    let resumed = Open { reopen: true, token, ..Open::default() };
    back.open(server.app_id(), "tom", resumed).await.unwrap();
    server.pass_ms(60_000).await;
    assert!(messages(pushes(&mut jerry).await).is_empty());
}

#[tokio::test]
async fn a_device_that_replaces_its_own_connection_does_not_say_it() {
    let server = TestServer::start().await;
    let (_tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut first = login_as(&server, "tom", on_device("d1")).await;
    first.send_text("tom", &cid, "gone", will()).await.unwrap();
    let mut second = login_as(&server, "tom", on_device("d1")).await;
    drop(first);
    second.settle().await.unwrap();
    server.pass_ms(60_000).await;
    assert!(messages(pushes(&mut jerry).await).is_empty());
}

#[tokio::test]
async fn a_will_ends_with_its_temporary_conversation() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(4)).await.unwrap().cid;
    pushes(&mut jerry).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    lose(&server, tom, &mut jerry, 60_000).await;
    assert!(messages(pushes(&mut jerry).await).is_empty());
}

#[tokio::test]
async fn a_will_is_said_while_its_temporary_conversation_lives() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let mut jerry = login(&server, "jerry").await;
    let cid = tom.create_temporary("tom", &["jerry"], Some(6)).await.unwrap().cid;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    lose(&server, tom, &mut jerry, GRACE_MS).await;
    assert_eq!(jerry.expect_message(&cid).await.unwrap().conv_type, Some(4));
}

#[tokio::test]
async fn who_has_left_the_conversation_says_nothing_more_in_it() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    tom.remove("tom", &cid, &["tom"]).await.unwrap();
    lose(&server, tom, &mut jerry, 60_000).await;
    assert!(messages(pushes(&mut jerry).await).is_empty());
}

#[tokio::test]
async fn the_grace_time_is_a_setting() {
    let mut server = TestServer::start().await;
    server.set(&[("will_grace_seconds", "10")]).await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    lose(&server, tom, &mut jerry, 9_999).await;
    assert!(pushes(&mut jerry).await.is_empty());
    server.pass_ms(1).await;
    jerry.expect_message(&cid).await.unwrap();
}

#[tokio::test]
async fn only_members_leave_a_will() {
    let server = TestServer::start().await;
    let (_tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let mut mary = login(&server, "mary").await;
    let error = mary.send_text("mary", &cid, "boo", will()).await.unwrap_err();
    assert_eq!(error.code(), Some(4401), "{error}");
    drop(mary);
    until_offline(&mut jerry, "jerry", "mary").await;
    server.pass_ms(60_000).await;
    assert!(pushes(&mut jerry).await.is_empty());
}

#[tokio::test]
async fn a_drain_says_no_wills() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    tom.send_text("tom", &cid, "gone", will()).await.unwrap();
    let TestServer { server, clock, .. } = server;
    let posthouse = server.posthouse.clone();
    let ((), ()) = tokio::join!(server.stop(), async {
        // Tom leaves when he is told to; Jerry stays to the end.
        tom.expect_push(CommandType::Goaway, None).await.unwrap();
        tom.disconnect().await.unwrap();
        until_offline(&mut jerry, "jerry", "tom").await;
        clock.advance_ms(60_000);
        posthouse.sweep().await;
        jerry.expect_close().await.unwrap();
    });
    assert!(messages(jerry.take_pushes()).is_empty());
}
