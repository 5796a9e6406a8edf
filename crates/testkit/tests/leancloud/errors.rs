//! What bad input gets: the documented error, on the same serial, without side effect, and the
//! connection lives on.

use posthouse::peer::{self, Open, Outgoing, Peer};
use posthouse_leancloud::wire::proto::{
    CommandType, ConvCommand, DirectCommand, GenericCommand, LogsCommand, OpType, PatchCommand, PatchItem,
    SessionCommand,
};
use posthouse_testkit::server::TestServer;

use crate::conversations::{NO_CONVERSATION, code, group, log_in, of, pushed};

#[tokio::test]
async fn an_error_names_its_constant_and_says_why_in_words() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    for serial in [0, -65_535, i32::MIN, i32::MAX, 7] {
        let logs = LogsCommand { cid: Some(NO_CONVERSATION.to_owned()), ..LogsCommand::default() };
        let asked = GenericCommand {
            i: Some(serial),
            logs_message: Some(logs),
            ..peer::spoken("tom", CommandType::Logs, None)
        };
        tom.send(&asked).await.unwrap();
        let answer = tom.next().await.unwrap();
        assert_eq!((answer.i, answer.peer_id.as_deref()), (Some(serial), Some("tom")));
        assert!(peer::is(&answer, CommandType::Error, None), "{answer:?}");
        let error = answer.error_message.unwrap();
        assert_eq!((error.code, error.reason.as_deref()), (Some(4303), Some("CONVERSATION_NOT_FOUND")));
        assert!(error.detail.is_some_and(|words| words.contains(' ')));
        assert_eq!((error.app_code, error.app_msg), (None, None));
    }
}

#[tokio::test]
async fn a_refused_message_has_an_ack_with_id_and_time() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let direct = DirectCommand {
        cid: Some(NO_CONVERSATION.to_owned()),
        msg: Some("x".into()),
        ..DirectCommand::default()
    };
    let asked =
        GenericCommand { direct_message: Some(direct), ..peer::spoken("tom", CommandType::Direct, None) };
    let answer = tom.ask(asked).await.unwrap();
    assert!(peer::is(&answer, CommandType::Ack, None), "{answer:?}");
    let ack = answer.ack_message.unwrap();
    assert_eq!((ack.code, ack.reason.as_deref()), (Some(4401), Some("INVALID_MESSAGING_TARGET")));
    assert!(ack.uid.is_some_and(|id| !id.is_empty()) && ack.t == Some(server.now().0));
    assert_eq!(ack.cid.as_deref(), Some(NO_CONVERSATION));
}

#[tokio::test]
async fn every_command_before_login_wants_a_session() {
    let server = TestServer::start().await;
    let mut nobody = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    for named in [None, Some("tom")] {
        for (cmd, ops) in [
            (CommandType::Session, &[OpType::Close, OpType::Refresh, OpType::Query][..]),
            (
                CommandType::Conv,
                &[
                    OpType::Start,
                    OpType::Add,
                    OpType::Remove,
                    OpType::Update,
                    OpType::Mute,
                    OpType::Unmute,
                    OpType::Query,
                    OpType::Count,
                    OpType::Members,
                    OpType::IsMember,
                    OpType::MaxRead,
                    OpType::Status,
                    OpType::MemberInfoUpdate,
                    OpType::AddShutup,
                    OpType::RemoveShutup,
                    OpType::QueryShutup,
                    OpType::CheckShutup,
                ],
            ),
            (CommandType::Blacklist, &[OpType::Block, OpType::Unblock, OpType::Query, OpType::CheckBlock]),
            (CommandType::Patch, &[OpType::Modify]),
        ] {
            for op in ops {
                let asked =
                    GenericCommand { peer_id: named.map(str::to_owned), ..peer::command(cmd, Some(*op)) };
                assert_eq!(code(nobody.call(asked).await), 4105, "{cmd:?}/{op:?}");
            }
        }
        for cmd in [CommandType::Direct, CommandType::Logs] {
            let asked = GenericCommand { peer_id: named.map(str::to_owned), ..peer::command(cmd, None) };
            assert_eq!(code(nobody.call(asked).await), 4105, "{cmd:?}");
        }
        // These two are never answered; with a serial they may be refused, but nothing else.
        for cmd in [CommandType::Read, CommandType::Ack] {
            nobody.send(&peer::command(cmd, None)).await.unwrap();
            assert!(settled(&mut nobody).await.is_empty(), "{cmd:?}");
        }
    }
    // An echo needs nobody, and the socket is still good for a login.
    nobody.settle().await.unwrap();
    nobody.open(server.app_id(), "tom", Open::default()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_app_is_told_so_and_may_try_again() {
    let server = TestServer::start().await;
    let mut tom = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    assert_eq!(code(tom.open("no-such-app", "tom", Open::default()).await), 4100);
    assert_eq!(code(tom.open("", "tom", Open::default()).await), 4100);
    let nameless = GenericCommand {
        peer_id: Some("tom".to_owned()),
        session_message: Some(SessionCommand::default()),
        ..peer::command(CommandType::Session, Some(OpType::Open))
    };
    assert_eq!(code(tom.call(nameless).await), 4100);
    tom.open(server.app_id(), "tom", Open::default()).await.unwrap();
    // One socket serves one app.
    let other = crate::strangers::other_app(&server).await;
    assert_eq!(code(tom.open(&other, "tom", Open::default()).await), 4100);
    assert_eq!(tom.online("tom", &["tom"]).await.unwrap(), ["tom"]);
}

#[tokio::test]
async fn impossible_clients_do_not_log_in() {
    let server = TestServer::start().await;
    let mut tom = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    for who in ["x".repeat(65), "猫".repeat(65), "x".repeat(5_000), "a\0b".to_owned()] {
        assert_eq!(code(tom.open(server.app_id(), &who, Open::default()).await), 4103);
    }
    tom.open(server.app_id(), &"猫".repeat(64), Open::default()).await.unwrap();
}

#[tokio::test]
async fn nobody_speaks_for_a_client_of_another_socket() {
    let server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = group(&mut jerry, "jerry", &["spike"]).await;
    let outcome = tom.send_text("jerry", &cid, "I am jerry", Outgoing::default()).await;
    assert_eq!(code(outcome), 4105);
    assert_eq!(code(tom.history("jerry", &cid, 10).await), 4105);
    assert_eq!(code(tom.add("jerry", &cid, &["tom"]).await), 4105);
    assert_eq!(code(tom.refresh("jerry", "").await), 4105);
    assert_eq!(code(tom.close("jerry").await), 4105);
    tom.read("jerry", &cid, "x", 1).await.unwrap();
    assert!(pushed(&mut tom, "tom").await.is_empty());
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
    assert_eq!(jerry.history("jerry", &cid, 10).await.unwrap(), []);
    assert_eq!(jerry.count("jerry", &cid).await.unwrap(), 2);

    // With both on one socket each speaks for itself.
    tom.open(server.app_id(), "spike", Open::default()).await.unwrap();
    assert_eq!(code(tom.send_text("tom", &cid, "no", Outgoing::default()).await), 4401);
    tom.send_text("spike", &cid, "yes", Outgoing::default()).await.unwrap();
    let told = jerry.expect_message(&cid).await.unwrap();
    assert_eq!(told.from_peer_id.as_deref(), Some("spike"));
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_its_documented_error() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    let before = tom.conversation("tom", &cid).await.unwrap();
    let conv = ConvCommand { m: vec!["jerry".to_owned()], ..of(&cid) };
    let wanted: &[(CommandType, Option<OpType>, i32)] = &[
        (CommandType::Conv, Some(OpType::MemberInfoUpdate), 4325),
        (CommandType::Conv, Some(OpType::AddShutup), 4200),
        (CommandType::Conv, Some(OpType::RemoveShutup), 4200),
        (CommandType::Conv, Some(OpType::QueryShutup), 4200),
        (CommandType::Conv, Some(OpType::CheckShutup), 4200),
        (CommandType::Conv, Some(OpType::Expire), 4200),
        (CommandType::Conv, Some(OpType::Joined), 4200),
        (CommandType::Conv, None, 4200),
        (CommandType::Blacklist, Some(OpType::Block), 4544),
        (CommandType::Blacklist, Some(OpType::Unblock), 4544),
        (CommandType::Blacklist, Some(OpType::Query), 4544),
        (CommandType::Blacklist, Some(OpType::CheckBlock), 4544),
        (CommandType::Session, Some(OpType::Add), 4200),
        (CommandType::Session, Some(OpType::Remove), 4200),
        (CommandType::Session, Some(OpType::Opened), 4200),
        (CommandType::Session, None, 4200),
        (CommandType::Room, Some(OpType::Join), 4200),
        (CommandType::Room, Some(OpType::Invite), 4200),
        (CommandType::Room, Some(OpType::Leave), 4200),
        (CommandType::Room, Some(OpType::Kick), 4200),
        (CommandType::Pubsub, Some(OpType::Subscribe), 4200),
        (CommandType::Pubsub, Some(OpType::Unsubscribe), 4200),
        (CommandType::Presence, None, 4200),
        (CommandType::Report, Some(OpType::Upload), 4200),
        (CommandType::Login, None, 4200),
        (CommandType::Logout, None, 4200),
        (CommandType::Patch, Some(OpType::Modified), 4200),
        (CommandType::Data, None, 4200),
        (CommandType::Rcp, None, 4200),
        (CommandType::Unread, None, 4200),
        (CommandType::Goaway, None, 4200),
        (CommandType::Error, None, 4200),
    ];
    for (cmd, op, number) in wanted {
        let asked = GenericCommand {
            conv_message: (*cmd == CommandType::Conv).then(|| conv.clone()),
            ..peer::spoken("tom", *cmd, *op)
        };
        let error = tom.call(asked.clone()).await.unwrap_err();
        let peer::Error::Refused { refusal, .. } = &error else { panic!("{cmd:?}/{op:?}: {error}") };
        assert_eq!(refusal.code, *number, "{cmd:?}/{op:?}: {refusal}");
        assert!(refusal.reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{refusal}");
        assert!(refusal.detail.as_ref().is_some_and(|words| !words.is_empty()), "{refusal}");
        // Without a serial nobody waits for an answer.
        tom.send(&asked).await.unwrap();
        assert!(settled(&mut tom).await.is_empty(), "{cmd:?}/{op:?}");
    }
    assert_eq!(tom.conversation("tom", &cid).await.unwrap(), before);
}

#[tokio::test]
async fn a_live_query_login_is_refused_for_its_own_service() {
    let server = TestServer::start().await;
    let mut socket = Peer::connect(&server.socket_url(), peer::BINARY).await.unwrap();
    let login = GenericCommand {
        app_id: Some(server.app_id().to_owned()),
        installation_id: Some("0e2f-live-query".to_owned()),
        service: Some(1),
        ..peer::command(CommandType::Login, None)
    };
    let answer = socket.ask(login).await.unwrap();
    assert_eq!(peer::refusal(&answer).map(|refusal| refusal.code), Some(4200), "{answer:?}");
    // Java's push login has no serial and is no error: an answer would make it log in anew.
    let push = GenericCommand {
        app_id: Some(server.app_id().to_owned()),
        installation_id: Some("java".to_owned()),
        ..peer::command(CommandType::Login, None)
    };
    socket.send(&push).await.unwrap();
    assert!(settled(&mut socket).await.iter().all(|command| command.error_message.is_none()));
    socket.open(server.app_id(), "tom", Open::default()).await.unwrap();
}

#[tokio::test]
async fn unknown_numbers_are_refused_and_do_not_end_the_connection() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    for (cmd, op) in [(Some(99), None), (Some(1), Some(9_999)), (Some(-1), Some(-1)), (None, None)] {
        let asked = GenericCommand { cmd, op, peer_id: Some("tom".to_owned()), ..GenericCommand::default() };
        assert_eq!(code(tom.call(asked.clone()).await), 4200, "{cmd:?}/{op:?}");
        tom.send(&asked).await.unwrap();
        assert!(settled(&mut tom).await.is_empty());
    }
}

#[tokio::test]
async fn commands_without_their_content_are_refused_and_do_not_end_the_connection() {
    let server = TestServer::start().await;
    let mut tom = log_in(&server, "tom").await;
    for (cmd, op, number) in [
        (CommandType::Direct, None, 4401),
        (CommandType::Logs, None, 4303),
        (CommandType::Conv, Some(OpType::Add), 4303),
        (CommandType::Conv, Some(OpType::Remove), 4303),
        (CommandType::Conv, Some(OpType::Update), 4303),
        (CommandType::Conv, Some(OpType::Mute), 4303),
        (CommandType::Conv, Some(OpType::Count), 4303),
        (CommandType::Conv, Some(OpType::Members), 4303),
        (CommandType::Conv, Some(OpType::MaxRead), 4303),
        (CommandType::Conv, Some(OpType::Status), 4303),
        (CommandType::Patch, Some(OpType::Modify), 4114),
    ] {
        assert_eq!(code(tom.call(peer::spoken("tom", cmd, op)).await), number, "{cmd:?}/{op:?}");
    }
    for cmd in [CommandType::Read, CommandType::Ack] {
        tom.send(&peer::spoken("tom", cmd, None)).await.unwrap();
    }
    // Members must be named to be added.
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    assert_eq!(code(tom.add("tom", &cid, &[]).await), 4301);
    assert_eq!(code(tom.add("tom", &cid, &[""]).await), 4301);
    assert!(tom.conv("tom", OpType::IsMember, ConvCommand::default()).await.is_ok());
    let two = PatchCommand {
        patches: vec![PatchItem { cid: Some(cid), ..PatchItem::default() }; 2],
        ..PatchCommand::default()
    };
    let asked = GenericCommand {
        patch_message: Some(two),
        ..peer::spoken("tom", CommandType::Patch, Some(OpType::Modify))
    };
    assert_eq!(code(tom.call(asked).await), 4114);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_whole() {
    let mut server = TestServer::start().await;
    let (mut tom, mut jerry) = (log_in(&server, "tom").await, log_in(&server, "jerry").await);
    let cid = group(&mut tom, "tom", &["jerry"]).await;
    pushed(&mut jerry, "jerry").await;
    let most = "x".repeat(5 * 1024);
    tom.send_content("tom", &cid, &most, Outgoing::default()).await.unwrap();
    pushed(&mut jerry, "jerry").await;
    let more = format!("{most}x");
    for how in [
        Outgoing::default(),
        Outgoing { transient: true, ..Outgoing::default() },
        Outgoing { will: true, ..Outgoing::default() },
    ] {
        assert_eq!(code(tom.send_content("tom", &cid, &more, how).await), 4109);
    }
    assert_eq!(code(tom.send_binary("tom", &cid, more.as_bytes(), Outgoing::default()).await), 4109);
    // What is for the push counts too, and so do bytes, not characters.
    let with_push = Outgoing { push: Some("{}".to_owned()), ..Outgoing::default() };
    assert_eq!(code(tom.send_content("tom", &cid, &most, with_push).await), 4109);
    let wide = "猫".repeat(1_707);
    assert_eq!(code(tom.send_content("tom", &cid, &wide, Outgoing::default()).await), 4109);
    assert!(pushed(&mut jerry, "jerry").await.is_empty());
    assert_eq!(tom.history("tom", &cid, 10).await.unwrap().len(), 1);
    // An app may allow more; its clients' next login knows.
    server.set(&[("message_bytes_max", "8000")]).await;
    let mut tom = log_in(&server, "tom").await;
    tom.send_content("tom", &cid, &more, Outgoing::default()).await.unwrap();
}

/// What came without having been asked for.
async fn settled(peer: &mut Peer) -> Vec<GenericCommand> {
    peer.settle().await.unwrap();
    peer.take_pushes()
}
