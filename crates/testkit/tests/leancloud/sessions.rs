//! Sessions: logging in and out, tokens, tags and devices, several sessions on one socket, who is
//! online. Also what the other files of this folder log in with.

use std::collections::BTreeSet;

use posthouse::apps::{self, Keys};
use posthouse::peer::{BINARY, Open, Outgoing, PATIENCE, Peer, command, is, refusal, spoken, text_of};
use posthouse_leancloud::wire::proto::{CommandType, GenericCommand, OpType, SessionCommand};
use posthouse_testkit::server::TestServer;
use tokio::time::timeout;

/// What a session token lasts by default, in milliseconds.
const TOKEN_LIFE_MS: i64 = 172_800_000;

/// A socket without a session.
pub(crate) async fn connect(server: &TestServer) -> Peer {
    Peer::connect(&server.socket_url(), BINARY).await.unwrap()
}

/// A socket with a session, as SDKs open the first one.
pub(crate) async fn login(server: &TestServer, client: &str) -> Peer {
    login_as(server, client, Open::default()).await
}

/// A socket with a session that was opened in this way.
pub(crate) async fn login_as(server: &TestServer, client: &str, how: Open) -> Peer {
    let mut peer = connect(server).await;
    peer.open(server.app_id(), client, how).await.unwrap();
    peer
}

/// A login from the device of this name.
pub(crate) fn on_device(device: &str) -> Open {
    Open { device_id: Some(device.to_owned()), ..Open::default() }
}

/// Everything that the server had for this socket when this was called. One echo may overtake
/// pushes that wait in the connection's queue, the second one comes after them.
pub(crate) async fn pushes(peer: &mut Peer) -> Vec<GenericCommand> {
    peer.settle().await.unwrap();
    peer.settle().await.unwrap();
    peer.take_pushes()
}

/// Waits until the server has noticed that no session of `client` is left.
pub(crate) async fn until_offline(peer: &mut Peer, who: &str, client: &str) {
    let asking = async { while !peer.online(who, &[client]).await.unwrap().is_empty() {} };
    timeout(PATIENCE, asking).await.expect("the server notices a lost connection");
}

/// Tom, Jerry, and an ordinary conversation of the two whose news they have seen.
pub(crate) async fn tom_and_jerry(server: &TestServer) -> (Peer, Peer, String) {
    let mut tom = login(server, "tom").await;
    let mut jerry = login(server, "jerry").await;
    let cid = tom.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    pushes(&mut tom).await;
    pushes(&mut jerry).await;
    (tom, jerry, cid)
}

fn tagged(device: &str, tag: &str) -> Open {
    Open { tag: Some(tag.to_owned()), ..on_device(device) }
}

/// `session/open` with any fields; the answer as it is.
async fn ask_open(
    peer: &mut Peer,
    server: &TestServer,
    client: &str,
    session: SessionCommand,
) -> GenericCommand {
    let open = GenericCommand {
        app_id: Some(server.app_id().to_owned()),
        session_message: Some(session),
        ..spoken(client, CommandType::Session, Some(OpType::Open))
    };
    peer.ask(open).await.unwrap()
}

/// What the JavaScript SDK sends after 4112: neither token nor tag nor device.
fn retry_after_4112() -> SessionCommand {
    SessionCommand { r: Some(true), config_bitmap: Some(187), ..SessionCommand::default() }
}

/// What the JavaScript SDK sends when its socket is back.
fn resume(token: &str) -> SessionCommand {
    SessionCommand { st: Some(token.to_owned()), ..retry_after_4112() }
}

fn conflict_of(pushes: &[GenericCommand]) -> Option<&GenericCommand> {
    pushes.iter().find(|push| is(push, CommandType::Session, Some(OpType::Closed)))
}

#[tokio::test]
async fn opened_tells_client_time_and_token_and_no_code() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    let answer = ask_open(&mut peer, &server, "tom", SessionCommand::default()).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "{answer:?}");
    assert_eq!(answer.peer_id.as_deref(), Some("tom"));
    // JavaScript asks for what came after this time; a little early means that nothing is missed.
    let server_ts = answer.server_ts.unwrap();
    assert!(server_ts <= server.now().0 && server_ts > server.now().0 - 10_000, "{server_ts}");
    let session = answer.session_message.unwrap();
    assert_eq!((session.code, session.reason), (None, None));
    assert_eq!(session.st_ttl, Some(172_800));
    assert!(!session.st.unwrap().is_empty());
}

#[tokio::test]
async fn without_an_id_the_server_chooses_one_that_works() {
    let server = TestServer::start().await;
    let mut first = connect(&server).await;
    let mut second = connect(&server).await;
    let one = first.open(server.app_id(), "", Open::default()).await.unwrap().client;
    let two = second.open(server.app_id(), "", Open::default()).await.unwrap().client;
    assert_ne!(one, two);
    assert_eq!(one.len(), 24, "{one}");
    assert_eq!(first.online(&one, &[&two, "nobody"]).await.unwrap(), [two]);
}

#[tokio::test]
async fn client_ids_have_1_to_64_characters() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    let error = peer.open(server.app_id(), &"猫".repeat(65), Open::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(4103), "{error}");
    let longest = "猫".repeat(64);
    let opened = peer.open(server.app_id(), &longest, Open::default()).await.unwrap();
    assert_eq!(opened.client, longest);
}

#[tokio::test]
async fn a_wrong_app_is_refused_and_the_socket_lives_on() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    let answer = peer
        .ask(GenericCommand {
            app_id: Some("no such app".to_owned()),
            session_message: Some(SessionCommand::default()),
            ..spoken("tom", CommandType::Session, Some(OpType::Open))
        })
        .await
        .unwrap();
    assert!(is(&answer, CommandType::Error, None), "{answer:?}");
    let refused = refusal(&answer).unwrap();
    assert_eq!((refused.code, refused.reason.as_str()), (4100, "APP_NOT_AVAILABLE"));
    peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
}

#[tokio::test]
async fn one_socket_belongs_to_one_app() {
    let server = TestServer::start().await;
    let other = second_app(&server).await;
    let mut peer = login(&server, "tom").await;
    assert_eq!(peer.open(&other, "jerry", Open::default()).await.unwrap_err().code(), Some(4100));
    peer.count("tom", "x").await.unwrap_err();
    assert_eq!(peer.online("tom", &["tom", "jerry"]).await.unwrap(), ["tom"]);
}

#[tokio::test]
async fn commands_before_login_are_refused_on_their_serial() {
    let server = TestServer::start().await;
    let mut peer = connect(&server).await;
    for (cmd, op) in [
        (CommandType::Session, Some(OpType::Query)),
        (CommandType::Session, Some(OpType::Refresh)),
        (CommandType::Conv, Some(OpType::Start)),
        (CommandType::Conv, Some(OpType::Query)),
        (CommandType::Logs, None),
        (CommandType::Patch, Some(OpType::Modify)),
        (CommandType::Direct, None),
    ] {
        let answer = peer.ask(spoken("tom", cmd, op)).await.unwrap();
        let refused = refusal(&answer).unwrap_or_else(|| panic!("{cmd:?} {op:?} was answered: {answer:?}"));
        assert_eq!((refused.code, refused.reason.as_str()), (4105, "SESSION_REQUIRED"), "{cmd:?} {op:?}");
    }
    peer.open(server.app_id(), "tom", Open::default()).await.unwrap();
}

#[tokio::test]
async fn nobody_speaks_for_a_client_of_another_socket() {
    let server = TestServer::start().await;
    let (_tom, mut jerry, cid) = tom_and_jerry(&server).await;
    let error = jerry.send_text("tom", &cid, "I am Tom", Outgoing::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(4105), "{error}");
    assert_eq!(jerry.history("tom", &cid, 10).await.unwrap_err().code(), Some(4105));
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap(), []);
}

#[tokio::test]
async fn several_clients_share_a_socket_and_each_has_its_own_pushes() {
    let server = TestServer::start().await;
    let mut peer = login(&server, "tom").await;
    peer.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let cid = peer.create_conversation("tom", &["jerry"], true, "{}").await.unwrap().cid;
    pushes(&mut peer).await;

    peer.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    let got = pushes(&mut peer).await;
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(got[0].peer_id.as_deref(), Some("jerry"));

    peer.close("tom").await.unwrap();
    assert_eq!(peer.send_text("tom", &cid, "x", Outgoing::default()).await.unwrap_err().code(), Some(4105));
    peer.send_text("jerry", &cid, "still here", Outgoing::default()).await.unwrap();
    assert_eq!(peer.online("jerry", &["tom", "jerry"]).await.unwrap(), ["jerry"]);
}

#[tokio::test]
async fn a_request_without_a_peer_id_is_of_the_session_opened_first() {
    let server = TestServer::start().await;
    let mut peer = login(&server, "tom").await;
    peer.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    let close = GenericCommand {
        session_message: Some(SessionCommand::default()),
        ..command(CommandType::Session, Some(OpType::Close))
    };
    peer.call(close).await.unwrap();
    assert_eq!(peer.online("jerry", &["tom", "jerry"]).await.unwrap(), ["jerry"]);
}

#[tokio::test]
async fn close_says_no_code_ends_the_session_and_leaves_the_socket() {
    let server = TestServer::start().await;
    let mut watcher = login(&server, "watcher").await;
    let mut tom = login(&server, "tom").await;
    assert_eq!(watcher.online("watcher", &["tom"]).await.unwrap(), ["tom"]);
    let answer = tom
        .ask(GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..spoken("tom", CommandType::Session, Some(OpType::Close))
        })
        .await
        .unwrap();
    assert!(is(&answer, CommandType::Session, Some(OpType::Closed)), "{answer:?}");
    assert_eq!(answer.session_message.and_then(|session| session.code), None);
    assert!(watcher.online("watcher", &["tom"]).await.unwrap().is_empty());
    tom.open(server.app_id(), "tom", Open::default()).await.unwrap();
    assert_eq!(watcher.online("watcher", &["tom"]).await.unwrap(), ["tom"]);
}

#[tokio::test]
async fn a_lost_connection_is_offline_for_queries() {
    let server = TestServer::start().await;
    let mut watcher = login(&server, "watcher").await;
    let tom = login(&server, "tom").await;
    drop(tom);
    until_offline(&mut watcher, "watcher", "tom").await;
}

#[tokio::test]
async fn query_looks_at_the_first_20_and_always_answers_a_list() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let _jerry = login(&server, "jerry").await;
    let strangers: Vec<String> = (0..19).map(|n| format!("nobody{n}")).collect();
    let mut ids: Vec<&str> = strangers.iter().map(String::as_str).collect();
    ids.push("jerry");
    assert_eq!(tom.online("tom", &ids).await.unwrap(), ["jerry"], "the 20th counts");
    ids.insert(0, "nobody");
    assert!(tom.online("tom", &ids).await.unwrap().is_empty(), "the 21st does not");

    let answer = tom
        .ask(GenericCommand {
            session_message: Some(SessionCommand::default()),
            ..spoken("tom", CommandType::Session, Some(OpType::Query))
        })
        .await
        .unwrap();
    assert!(is(&answer, CommandType::Session, Some(OpType::QueryResult)), "{answer:?}");
    assert!(answer.session_message.unwrap().online_session_peer_ids.is_empty());
}

#[tokio::test]
async fn refresh_gives_a_token_that_resumes() {
    let server = TestServer::start().await;
    let mut tom = connect(&server).await;
    let opened = tom.open(server.app_id(), "tom", on_device("d1")).await.unwrap();
    server.clock.advance_ms(TOKEN_LIFE_MS - 1_000);
    let (fresh, ttl) = tom.refresh("tom", &opened.token.clone().unwrap()).await.unwrap();
    assert_eq!(ttl, 172_800);
    server.clock.advance_ms(2_000);

    let mut again = connect(&server).await;
    let old = Open { reopen: true, token: opened.token, ..Open::default() };
    assert_eq!(again.open(server.app_id(), "tom", old).await.unwrap_err().code(), Some(4112));
    let new = Open { reopen: true, token: Some(fresh), ..Open::default() };
    again.open(server.app_id(), "tom", new).await.unwrap();
}

#[tokio::test]
async fn refresh_without_a_token_is_vouched_for_by_the_session() {
    let server = TestServer::start().await;
    let mut tom = login(&server, "tom").await;
    let refresh = GenericCommand {
        session_message: Some(SessionCommand::default()),
        ..spoken("tom", CommandType::Session, Some(OpType::Refresh))
    };
    let answer = tom.call(refresh).await.unwrap();
    assert!(is(&answer, CommandType::Session, Some(OpType::Refreshed)), "{answer:?}");
    let session = answer.session_message.unwrap();
    assert_eq!(session.st_ttl, Some(172_800));
    let mut again = connect(&server).await;
    let answer = ask_open(&mut again, &server, "tom", resume(&session.st.unwrap())).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "{answer:?}");
}

#[tokio::test]
async fn a_token_resumes_until_the_millisecond_it_expires() {
    let server = TestServer::start().await;
    let mut tom = connect(&server).await;
    let token = tom.open(server.app_id(), "tom", on_device("d1")).await.unwrap().token.unwrap();
    drop(tom);

    server.clock.advance_ms(TOKEN_LIFE_MS - 1);
    let mut peer = connect(&server).await;
    let answer = ask_open(&mut peer, &server, "tom", resume(&token)).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "{answer:?}");
    assert!(answer.session_message.unwrap().st.is_some(), "a resumed session has a token too");

    server.clock.advance_ms(1);
    let mut late = connect(&server).await;
    let answer = ask_open(&mut late, &server, "tom", resume(&token)).await;
    assert!(is(&answer, CommandType::Error, None), "{answer:?}");
    let refused = refusal(&answer).unwrap();
    assert_eq!((refused.code, refused.reason.as_str()), (4112, "SESSION_TOKEN_EXPIRED"));
}

#[tokio::test]
async fn the_life_of_tokens_is_a_setting() {
    let mut server = TestServer::start().await;
    server.set(&[("session_token_seconds", "60")]).await;
    let mut tom = connect(&server).await;
    let opened = tom.open(server.app_id(), "tom", Open::default()).await.unwrap();
    assert_eq!(opened.token_ttl_s, Some(60));
    server.clock.advance_ms(60_000);
    let mut again = connect(&server).await;
    let answer = ask_open(&mut again, &server, "tom", resume(&opened.token.unwrap())).await;
    assert_eq!(refusal(&answer).unwrap().code, 4112);
}

#[tokio::test]
async fn forged_and_foreign_tokens_resume_nothing() {
    let server = TestServer::start().await;
    let other = second_app(&server).await;
    let mut jerry = connect(&server).await;
    let of_jerry = jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap().token.unwrap();
    let mut stranger = connect(&server).await;
    let of_other_app = stranger.open(&other, "tom", Open::default()).await.unwrap().token.unwrap();
    let mut changed = of_jerry.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == 'A' { 'Q' } else { 'A' });

    let mut tom = connect(&server).await;
    for (what, token) in [
        ("made up", "x"),
        ("changed", &changed),
        ("another client's", &of_jerry),
        ("another app's", &of_other_app),
    ] {
        let answer = ask_open(&mut tom, &server, "tom", resume(token)).await;
        let code = refusal(&answer).map(|refused| refused.code);
        assert_eq!(code, Some(4112), "{what}: {answer:?}");
        assert!(jerry.online("jerry", &["tom"]).await.unwrap().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn java_resumes_without_a_serial_and_is_answered_without_one() {
    let server = TestServer::start().await;
    let mut tom = connect(&server).await;
    let token = tom.open(server.app_id(), "tom", on_device("d1")).await.unwrap().token.unwrap();
    drop(tom);
    let open = |token: &str| GenericCommand {
        app_id: Some(server.app_id().to_owned()),
        session_message: Some(resume(token)),
        ..spoken("tom", CommandType::Session, Some(OpType::Open))
    };
    let mut peer = connect(&server).await;
    peer.send(&open("expired")).await.unwrap();
    let error = peer.expect_push(CommandType::Error, None).await.unwrap();
    assert_eq!(refusal(&error).unwrap().code, 4112);
    peer.send(&open(&token)).await.unwrap();
    let opened = peer.expect_push(CommandType::Session, Some(OpType::Opened)).await.unwrap();
    assert_eq!(opened.peer_id.as_deref(), Some("tom"));
    assert_eq!(peer.online("tom", &["tom"]).await.unwrap(), ["tom"]);
}

#[tokio::test]
async fn a_tag_belongs_to_the_device_that_logged_in_last() {
    let server = TestServer::start().await;
    let mut old = login_as(&server, "tom", tagged("d1", "Web")).await;
    let mut new = login_as(&server, "tom", tagged("d2", "Web")).await;

    let told = old.expect_push(CommandType::Session, Some(OpType::Closed)).await.unwrap();
    assert_eq!((told.peer_id.as_deref(), told.service), (Some("tom"), Some(2)));
    let session = told.session_message.unwrap();
    assert_eq!((session.code, session.reason.as_deref()), (Some(4111), Some("SESSION_CONFLICT")));
    assert_eq!(old.online("tom", &["tom"]).await.unwrap_err().code(), Some(4105));

    // Resuming yields to the device that holds the tag now; taking over does not.
    let answer = ask_open(
        &mut old,
        &server,
        "tom",
        SessionCommand {
            r: Some(true),
            tag: Some("Web".to_owned()),
            device_id: Some("d1".to_owned()),
            ..SessionCommand::default()
        },
    )
    .await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Closed)), "{answer:?}");
    assert_eq!(refusal(&answer).unwrap().code, 4111);
    assert!(pushes(&mut new).await.is_empty(), "the holder is not disturbed");
    old.open(server.app_id(), "tom", tagged("d1", "Web")).await.unwrap();
    new.expect_push(CommandType::Session, Some(OpType::Closed)).await.unwrap();
}

#[tokio::test]
async fn the_token_of_a_displaced_device_does_not_take_the_tag_back() {
    let server = TestServer::start().await;
    let mut old = connect(&server).await;
    let token = old.open(server.app_id(), "tom", tagged("d1", "Web")).await.unwrap().token.unwrap();
    let mut new = login_as(&server, "tom", tagged("d2", "Web")).await;
    // The JavaScript SDK names neither tag nor device when it resumes: the token does.
    let mut back = connect(&server).await;
    let answer = ask_open(&mut back, &server, "tom", resume(&token)).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Closed)), "{answer:?}");
    assert_eq!(refusal(&answer).unwrap().code, 4111);
    assert!(conflict_of(&pushes(&mut new).await).is_none());
}

#[tokio::test]
async fn without_a_tag_or_with_others_nobody_is_displaced() {
    let server = TestServer::start().await;
    let mut sessions = Vec::new();
    for how in [
        on_device("d1"),
        on_device("d2"),
        tagged("d3", "default"),
        tagged("d4", "default"),
        tagged("d5", "Web"),
        tagged("d6", "Mobile"),
        Open::default(),
        Open::default(),
    ] {
        sessions.push(login_as(&server, "tom", how).await);
    }
    for (n, session) in sessions.iter_mut().enumerate() {
        assert_eq!(session.online("tom", &["tom"]).await.unwrap(), ["tom"]);
        assert!(pushes(session).await.is_empty(), "session {n}");
    }
}

#[tokio::test]
async fn tags_are_of_a_client_not_of_all() {
    let server = TestServer::start().await;
    let mut tom = login_as(&server, "tom", tagged("d1", "Web")).await;
    let _jerry = login_as(&server, "jerry", tagged("d2", "Web")).await;
    assert!(pushes(&mut tom).await.is_empty());
}

#[tokio::test]
async fn the_same_device_replaces_its_own_session_in_silence() {
    let server = TestServer::start().await;
    let mut jerry = login(&server, "jerry").await;
    let cid = jerry.create_conversation("jerry", &["tom"], true, "{}").await.unwrap().cid;
    for how in [tagged("d1", "Web"), on_device("d2")] {
        let mut old = login_as(&server, "tom", how.clone()).await;
        let mut new = login_as(&server, "tom", how).await;
        pushes(&mut new).await;
        old.take_pushes();
        jerry.send_text("jerry", &cid, "hi", Outgoing::default()).await.unwrap();
        new.expect_message(&cid).await.unwrap();
        assert!(pushes(&mut new).await.is_empty(), "one message comes once");
        // The old socket may have been closed; what came before is neither a conflict nor a message.
        let quiet = old.settle().await.is_ok();
        let rest = old.take_pushes();
        assert!(conflict_of(&rest).is_none(), "{quiet} {rest:?}");
        assert!(rest.iter().all(|push| push.direct_message.is_none()), "{rest:?}");
        new.close("tom").await.unwrap();
    }
}

#[tokio::test]
async fn a_device_token_names_the_device_where_no_id_does() {
    let server = TestServer::start().await;
    let open = |token: &str| SessionCommand {
        tag: Some("iPhone".to_owned()),
        device_token: Some(token.to_owned()),
        config_bitmap: Some(187),
        ..SessionCommand::default()
    };
    let mut first = connect(&server).await;
    ask_open(&mut first, &server, "tom", open("apns1")).await;
    let mut same = connect(&server).await;
    let resumed = SessionCommand { r: Some(true), ..open("apns1") };
    let answer = ask_open(&mut same, &server, "tom", resumed).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "the same device: {answer:?}");
    let mut other = connect(&server).await;
    ask_open(&mut other, &server, "tom", open("apns2")).await;
    let told = same.expect_push(CommandType::Session, Some(OpType::Closed)).await.unwrap();
    assert_eq!(told.session_message.unwrap().code, Some(4111));
}

#[tokio::test]
async fn opening_twice_on_one_socket_is_one_session() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.open(server.app_id(), "jerry", Open::default()).await.unwrap();
    tom.send_text("tom", &cid, "hi", Outgoing::default()).await.unwrap();
    jerry.expect_message(&cid).await.unwrap();
    let rest = pushes(&mut jerry).await;
    assert!(rest.iter().all(|push| push.direct_message.is_none()), "{rest:?}");
    jerry.close("jerry").await.unwrap();
    assert!(tom.online("tom", &["jerry"]).await.unwrap().is_empty());
}

#[tokio::test]
async fn after_4112_the_retry_inherits_the_tag() {
    let server = TestServer::start().await;
    let mut old = connect(&server).await;
    let token = old.open(server.app_id(), "tom", tagged("d1", "Web")).await.unwrap().token.unwrap();
    let mut watcher = login(&server, "watcher").await;
    drop(old);
    until_offline(&mut watcher, "watcher", "tom").await;
    server.clock.advance_ms(TOKEN_LIFE_MS);

    let mut back = connect(&server).await;
    assert_eq!(refusal(&ask_open(&mut back, &server, "tom", resume(&token)).await).unwrap().code, 4112);
    let answer = ask_open(&mut back, &server, "tom", retry_after_4112()).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "{answer:?}");
    pushes(&mut back).await;

    // Another device with the tag displaces it: so it has the tag.
    let _other = login_as(&server, "tom", tagged("d2", "Web")).await;
    let told = back.expect_push(CommandType::Session, Some(OpType::Closed)).await.unwrap();
    assert_eq!(told.session_message.unwrap().code, Some(4111));
}

#[tokio::test]
async fn after_4112_the_retry_inherits_the_device() {
    let server = TestServer::start().await;
    let mut old = connect(&server).await;
    let token = old.open(server.app_id(), "tom", tagged("d1", "Web")).await.unwrap().token.unwrap();
    server.clock.advance_ms(TOKEN_LIFE_MS);
    // The old session still counts as open: only the same device may resume beside it.
    let mut back = connect(&server).await;
    assert_eq!(refusal(&ask_open(&mut back, &server, "tom", resume(&token)).await).unwrap().code, 4112);
    let answer = ask_open(&mut back, &server, "tom", retry_after_4112()).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Opened)), "{answer:?}");
    // It holds device and tag again: the device's next login replaces it without a word.
    let mut again = login_as(&server, "tom", tagged("d1", "Web")).await;
    pushes(&mut again).await;
    assert!(back.online("tom", &["tom"]).await.is_err(), "two sessions on one device");
    assert!(conflict_of(&back.take_pushes()).is_none());
}

#[tokio::test]
async fn after_4112_the_retry_still_yields_to_who_holds_the_tag() {
    let server = TestServer::start().await;
    let mut old = connect(&server).await;
    let token = old.open(server.app_id(), "tom", tagged("d1", "Web")).await.unwrap().token.unwrap();
    let mut winner = login_as(&server, "tom", tagged("d2", "Web")).await;
    server.clock.advance_ms(TOKEN_LIFE_MS);
    let mut back = connect(&server).await;
    assert_eq!(refusal(&ask_open(&mut back, &server, "tom", resume(&token)).await).unwrap().code, 4112);
    let answer = ask_open(&mut back, &server, "tom", retry_after_4112()).await;
    assert!(is(&answer, CommandType::Session, Some(OpType::Closed)), "{answer:?}");
    assert_eq!(refusal(&answer).unwrap().code, 4111);
    assert!(conflict_of(&pushes(&mut winner).await).is_none());
}

#[tokio::test]
async fn a_session_that_resumes_keeps_what_its_sdk_understands() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry, cid) = tom_and_jerry(&server).await;
    jerry.close("jerry").await.unwrap();
    // Without the bit for edits; C# sends no bitmap when it resumes.
    let mute = Open { config_bitmap: Some(0xBA), ..on_device("d1") };
    let token = jerry.open(server.app_id(), "jerry", mute).await.unwrap().token;
    let mut back = connect(&server).await;
    let resumed = Open { reopen: true, token, config_bitmap: None, ..Open::default() };
    back.open(server.app_id(), "jerry", resumed).await.unwrap();
    pushes(&mut back).await;

    let sent = tom.send_text("tom", &cid, "one", Outgoing::default()).await.unwrap();
    tom.modify("tom", &cid, &sent, "two").await.unwrap();
    let got = pushes(&mut back).await;
    assert_eq!(got.len(), 1, "the message and no edit: {got:?}");
    assert!(got[0].direct_message.is_some());
}

#[tokio::test]
async fn every_device_of_a_client_hears_everything() {
    let server = TestServer::start().await;
    let (mut tom, jerry, cid) = tom_and_jerry(&server).await;
    let mut phones = vec![jerry];
    for device in ["d1", "d2", "d3"] {
        phones.push(login_as(&server, "jerry", on_device(device)).await);
    }
    tom.send_text("tom", &cid, "to all", Outgoing::default()).await.unwrap();
    let mut ids = BTreeSet::new();
    for phone in &mut phones {
        let message = phone.expect_message(&cid).await.unwrap();
        assert_eq!(text_of(&message.msg.unwrap()).as_deref(), Some("to all"));
        ids.insert(message.id);
    }
    assert_eq!(ids.len(), 1);
    // One of them leaving does not take the client offline.
    phones[0].close("jerry").await.unwrap();
    assert_eq!(tom.online("tom", &["jerry"]).await.unwrap(), ["jerry"]);
}

async fn second_app(server: &TestServer) -> String {
    let app = apps::create(server.server.posthouse.store().as_ref(), "other", &Keys::default()).await;
    server.server.posthouse.reload_apps().await.unwrap();
    app.unwrap().key("leancloud.id").unwrap().to_owned()
}
