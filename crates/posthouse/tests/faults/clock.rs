//! Clocks that jump, stand still and go back.

use std::time::Duration;

use posthouse::peer::{BINARY, Open, Outgoing, Peer};

use super::Stage;

const HOUR_MS: i64 = 3_600_000;
/// LeanCloud's TEMPORARY_CONVERSATION_EXPIRED.
const OVER: i32 = 4_323;
/// LeanCloud's SESSION_TOKEN_EXPIRED.
const TOKEN_OVER: i32 = 4_112;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_and_times_never_go_back() {
    let mut stage = Stage::set().await;
    let mut before = (i64::MIN, i64::MIN);
    let now = stage.say("the right time").await.lean.unwrap();
    for clock in [
        "off 3600000".to_owned(),
        "off -3600000".to_owned(),
        format!("at {now}"),
        format!("at {}", now - 24 * HOUR_MS),
        "off 128".to_owned(),
        "off -128".to_owned(),
        String::new(),
    ] {
        stage.watch.set_clock(&clock);
        for _ in 0..5 {
            let said = stage.say(&clock).await;
            let at = (said.lean.unwrap(), said.ease.unwrap());
            assert!(at.0 >= before.0 && at.1 >= before.1, "\"{clock}\" takes time back: {before:?}, {at:?}");
            before = at;
        }
        stage.assert_histories().await;
    }
    // A server that starts while the clock is behind goes on after what it has.
    stage.watch.set_clock("off -86400000");
    stage.restart(None).await;
    let said = stage.say("yesterday").await;
    assert!((said.lean.unwrap(), said.ease.unwrap()) >= before);
    stage.assert_histories().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_conversation_ends_by_the_clock() {
    let mut stage = Stage::set().await;
    let cid = stage.tom.create_temporary("tom", &["jerry"], Some(1_800)).await.unwrap().cid;
    let say = async |stage: &mut Stage| {
        let sent = stage.tom.send_content("tom", &cid, "x", Outgoing::default()).await;
        sent.map(drop).map_err(|error| error.code())
    };
    assert_eq!(say(&mut stage).await, Ok(()));
    stage.watch.set_clock("off -3600000");
    assert_eq!(say(&mut stage).await, Ok(()), "an hour early it is alive");
    stage.watch.set_clock("off 3600000");
    assert_eq!(say(&mut stage).await, Err(Some(OVER)));
    // Logging in at the wrong time takes nothing from anybody.
    let mut jerry = Peer::connect(&stage.server().socket_url(), BINARY).await.unwrap();
    jerry.open(stage.app["leancloud_id"].as_str().unwrap(), "jerry", Open::default()).await.unwrap();
    assert!(!jerry.history("jerry", &stage.cid, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_end_by_the_clock() {
    let stage = Stage::set().await;
    let app_id = stage.app["leancloud_id"].as_str().unwrap();
    let url = stage.server().socket_url();
    let mut first = Peer::connect(&url, BINARY).await.unwrap();
    let token = first.open(app_id, "carl", Open::default()).await.unwrap().token.expect("a token is given");
    let resume = async || {
        let mut peer = Peer::connect(&url, BINARY).await.unwrap();
        let how = Open { reopen: true, token: Some(token.clone()), ..Open::default() };
        peer.open(app_id, "carl", how).await.map(drop).map_err(|error| error.code())
    };
    let ann = async || super::log_in(stage.server(), &stage.app, &stage.token).await.map(drop);
    for (clock, session, account) in [
        ("off 3600000", true, true),
        ("off -3600000", true, true),
        // Two days for a session, sixty for an account.
        ("off 259200000", false, true),
        ("off 5356800000", false, false),
        ("off -5356800000", true, true),
        ("", true, true),
    ] {
        stage.watch.set_clock(clock);
        assert_eq!(resume().await, if session { Ok(()) } else { Err(Some(TOKEN_OVER)) }, "\"{clock}\"");
        assert_eq!(ann().await.is_ok(), account, "\"{clock}\"");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_clock_makes_the_server_busy() {
    let stage = Stage::set().await;
    let mut idle = Peer::connect(&stage.server().socket_url(), BINARY).await.unwrap();
    idle.open(stage.app["leancloud_id"].as_str().unwrap(), "idle", Open::default()).await.unwrap();
    for clock in ["off 3600000", "off -3600000", "at 1000", "at 4000000000000", ""] {
        stage.watch.set_clock(clock);
        let before = stage.server().ticks();
        let quiet = idle.expect_within(Duration::from_secs(1), "anything", |_| true).await;
        assert!(quiet.is_err(), "nobody says anything");
        let used = stage.server().ticks() - before;
        assert!(used < 40, "\"{clock}\": {used} hundredths of a second of work in a second of nothing to do");
    }
}
