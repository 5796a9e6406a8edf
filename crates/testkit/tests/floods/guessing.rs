//! Wrong passwords, secrets, tokens and signatures by the thousand, and right ones beside them (R13).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use posthouse::config::Flags;
use posthouse::peer::easemob::Rest;
use posthouse::peer::{BINARY, Error, Open, Peer};
use posthouse_testkit::server::TestServer;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stage::{back_end, key, login, rest};
use super::{alone, p99, seconds_or};

/// Whoever comes from here says who it is, as behind a proxy: that gives a test many addresses.
async fn server() -> TestServer {
    let trusted_proxies = Some("127.0.0.1".to_owned());
    TestServer::start_with(Flags { trusted_proxies, ..Flags::default() }).await
}

/// Asks for a token from `address`; status and answer.
async fn ask(rest: &Rest, address: &str, grant: &Value) -> (u16, Value) {
    try_to_ask(rest, address, grant).await.unwrap()
}

async fn try_to_ask(rest: &Rest, address: &str, grant: &Value) -> Result<(u16, Value), Error> {
    let headers = [("Content-Type", "application/json"), ("X-Forwarded-For", address)];
    let body = grant.to_string();
    let (status, answer) = rest.exchange("POST", "/token", &headers, Some(body.as_bytes())).await?;
    Ok((status, serde_json::from_slice(&answer).unwrap()))
}

fn password(name: &str, password: &str) -> Value {
    json!({ "grant_type": "password", "username": name, "password": password })
}

async fn register(server: &TestServer, names: &[String]) {
    let back = back_end(server).await;
    for some in names.chunks(60) {
        let users: Vec<Value> =
            some.iter().map(|name| json!({ "username": name, "password": format!("of {name}") })).collect();
        back.ok("POST", "/users", Some(&users.into())).await.unwrap();
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

#[tokio::test]
async fn an_address_that_guesses_is_refused_and_its_victim_is_not() {
    let _turn = alone().await;
    let server = server().await;
    register(&server, &names("u", 2)).await;
    let rest = rest(&server);
    for round in 0..30 {
        let (status, answer) = ask(&rest, "192.0.2.1", &password("u0", &format!("guess {round}"))).await;
        assert_eq!((status, &answer["error_description"]), (400, &json!("invalid password")));
    }
    // Right or wrong, this one or another: nothing is looked at any more.
    for (name, word) in [("u0", "guess"), ("u0", "of u0"), ("u1", "of u1"), ("nobody", "x")] {
        let (status, answer) = ask(&rest, "192.0.2.1", &password(name, word)).await;
        assert_eq!((status, &answer["error"]), (429, &json!("reach_limit")));
    }
    // The lockout is the guesser's.
    assert_eq!(ask(&rest, "192.0.2.2", &password("u0", "of u0")).await.0, 200);
    assert_eq!(ask(&rest, "192.0.2.2", &password("u1", "of u1")).await.0, 200);
    server.clock.advance_ms(2_000);
    assert_eq!(ask(&rest, "192.0.2.1", &password("u1", "of u1")).await.0, 200);
}

#[tokio::test]
async fn names_and_secrets_are_guessed_as_little_as_passwords() {
    let _turn = alone().await;
    let server = server().await;
    let rest = rest(&server);
    for number in 0..30 {
        assert_eq!(ask(&rest, "192.0.2.1", &password(&format!("n{number}"), "x")).await.0, 404);
    }
    assert_eq!(ask(&rest, "192.0.2.1", &password("n31", "x")).await.0, 429);
    let (id, secret) = (key(&server.app, "easemob.client_id"), key(&server.app, "easemob.client_secret"));
    for number in 0..30 {
        assert_eq!(ask(&rest, "192.0.2.2", &secret_of(id, &format!("guess {number}"))).await.0, 400);
    }
    assert_eq!(ask(&rest, "192.0.2.2", &secret_of(id, secret)).await.0, 429);
    assert_eq!(ask(&rest, "192.0.2.3", &secret_of(id, secret)).await.0, 200);
}

fn secret_of(id: &str, secret: &str) -> Value {
    json!({ "grant_type": "client_credentials", "client_id": id, "client_secret": secret })
}

#[tokio::test]
async fn an_account_that_a_thousand_addresses_guess_at_is_still_reached() {
    let _turn = alone().await;
    let server = server().await;
    register(&server, &names("u", 1)).await;
    let rest = rest(&server);
    for number in 0..20 {
        let address = format!("198.51.100.{number}");
        assert_eq!(ask(&rest, &address, &password("u0", "guess")).await.0, 400);
    }
    assert_eq!(ask(&rest, "192.0.2.1", &password("u0", "of u0")).await.0, 200);
}

/// Lets `flood` go on, many at once, until `storm` is done and some time has passed; what the storm
/// gives, and how often the flood was there.
async fn beside<F, T>(at_once: usize, flood: impl Fn(u64) -> F, storm: impl Future<Output = T>) -> (T, u64)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let storming = async {
        let outcome = storm.await;
        let rest = seconds_or(0).saturating_sub(began.elapsed());
        drop(tokio::time::timeout(rest, std::future::pending::<()>()).await);
        over.store(true, Ordering::Relaxed);
        outcome
    };
    let flooding = async {
        let mut running = JoinSet::new();
        while !over.load(Ordering::Relaxed) {
            while running.len() < at_once {
                running.spawn(flood(count.fetch_add(1, Ordering::Relaxed)));
            }
            running.join_next().await.unwrap().unwrap();
        }
        running.join_all().await;
    };
    let (outcome, ()) = tokio::join!(storming, flooding);
    (outcome, count.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_passwords_are_quick_beside_a_flood_of_wrong_ones() {
    let _turn = alone().await;
    let mut server = server().await;
    let users = names("u", 8);
    register(&server, &users).await;
    server.set(&[("wrong_passwords_per_minute", "10")]).await;
    let rest = rest(&server);
    let began = Instant::now();
    assert_eq!(ask(&rest, "192.0.2.99", &password("u0", "of u0")).await.0, 200);
    let by_itself = began.elapsed();
    // Five addresses that guess at everybody, many at a time; each is wrong ten times and then refused.
    let guesser = rest.clone();
    let flood = move |number: u64| {
        let rest = guesser.clone();
        async move {
            let address = format!("198.51.100.{}", number % 5);
            let name = format!("u{}", number % 8);
            // Who waits apart may wait for long.
            match try_to_ask(&rest, &address, &password(&name, "guess")).await {
                Ok((status, answer)) => assert!([400, 429, 503].contains(&status), "{answer}"),
                Err(Error::TimedOut { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let storm = async {
        let mut took = Vec::new();
        for (number, name) in users.iter().enumerate().cycle().take(30) {
            let began = Instant::now();
            let address = format!("192.0.2.{number}");
            let (status, answer) = ask(&rest, &address, &password(name, &format!("of {name}"))).await;
            assert_eq!(status, 200, "{answer}");
            took.push(began.elapsed());
        }
        p99(took)
    };
    let (p99, wrong) = beside(128, flood, storm).await;
    println!("{wrong} wrong passwords beside 30 right ones, of which 99 in 100 took at most {p99:?}");
    assert!(wrong > 500, "the flood was a trickle: {wrong}");
    // A machine that does something else, or without optimisation, takes long for one by itself: then
    // about as long as the few take that nothing spoke against when they came.
    assert!(p99 < Duration::from_secs(2).max(by_itself * 32), "{p99:?}, by itself {by_itself:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_quick_beside_a_flood_of_forged_tokens() {
    let _turn = alone().await;
    let server = server().await;
    let (url, http, app_id) = (server.socket_url(), server.http_url(), server.app_id().to_owned());
    let victim = login(&server, "victim").await;
    let app_key = victim.identity().app_key.clone();
    let mut peer = Peer::connect(&url, BINARY).await.unwrap();
    let token = peer.open(&app_id, "tom", Open::default()).await.unwrap().token.unwrap();
    let (flood_url, flood_id) = (url.clone(), app_id.clone());
    // On both doors: LeanCloud's session tokens and Easemob's, over a socket and over REST.
    let flood = move |number: u64| {
        let (url, app_id, token) = (flood_url.clone(), flood_id.clone(), token.clone());
        let rest = Rest::new(&http, &app_key).with_token(&format!("YWMt{number}.AAAA"));
        async move {
            if number.is_multiple_of(2) {
                assert_eq!(rest.call("GET", "/users/victim", None).await.unwrap().0, 401);
                return;
            }
            let mut peer = Peer::connect(&url, BINARY).await.unwrap();
            let forged = format!("{}{number:04}", &token[..token.len() - 4]);
            let open = Open { token: Some(forged), ..Open::default() };
            for _ in 0..20 {
                assert_eq!(peer.open(&app_id, "tom", open.clone()).await.unwrap_err().code(), Some(4112));
            }
        }
    };
    let storm = async {
        let mut took = Vec::new();
        for number in 0..300 {
            let began = Instant::now();
            let mut peer = Peer::connect(&url, BINARY).await.unwrap();
            peer.open(&app_id, &format!("c{number}"), Open::default()).await.unwrap();
            took.push(began.elapsed());
        }
        p99(took)
    };
    let (p99, forged) = beside(32, flood, storm).await;
    println!("{forged} floods of forged tokens beside 300 logins, of which 99 in 100 took at most {p99:?}");
    assert!(forged > 100, "the flood was a trickle: {forged}");
    assert!(p99 < Duration::from_secs(2), "{p99:?}");
}

#[tokio::test]
async fn a_stranger_has_so_many_logins_to_get_wrong() {
    let _turn = alone().await;
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    let forged = Open { token: Some("forged".to_owned()), ..Open::default() };
    for _ in 0..256 {
        assert_eq!(peer.open(server.app_id(), "tom", forged.clone()).await.unwrap_err().code(), Some(4112));
    }
    assert!(peer.open(server.app_id(), "tom", forged).await.is_err());
    assert_eq!(peer.expect_close().await.unwrap().0, Some(1008));
}
