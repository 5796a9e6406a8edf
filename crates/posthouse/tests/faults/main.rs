//! The real program on a disk that is full, that fails, that is slow, and under a clock that is wrong, with a
//! client at each door. The watcher of `posthouse_testkit::disk` plays the faults.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod clock;
mod disk;
mod start;
mod uploads;

use std::process::Command;

use posthouse::peer::easemob::{Device, Identity, Rest};
use posthouse::peer::{BINARY, Error, Open, Outgoing, Peer};
use posthouse_easemob::wire::proto::Jid;
use posthouse_leancloud::wire::proto::LogItem;
use posthouse_testkit::disk::Watch;
use posthouse_testkit::process::{Process, create_app};
use serde_json::{Value, json};

/// The program to trouble: `POSTHOUSE_BIN`, or the one that cargo built for this test.
fn program() -> String {
    std::env::var("POSTHOUSE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_posthouse").to_owned())
}

/// A watched server and two talks: tom to jerry at LeanCloud's door, ann to bob at Easemob's.
struct Stage {
    watch: Watch,
    server: Option<Process>,
    app: Value,
    cid: String,
    token: String,
    tom: Peer,
    ann: Device,
    /// What was acknowledged: id and words.
    lean_acked: Vec<(String, String)>,
    ease_acked: Vec<(u64, String)>,
    number: u32,
}

/// What came of saying something at both doors.
struct Said {
    /// LeanCloud's refusal: number and words.
    lean: Result<i64, (i32, String)>,
    /// Easemob's refusal: number and words.
    ease: Result<i64, (i32, String)>,
}

impl Said {
    fn both_kept(&self) -> bool {
        self.lean.is_ok() && self.ease.is_ok()
    }

    fn both_refused(&self) -> bool {
        self.lean.is_err() && self.ease.is_err()
    }
}

impl Stage {
    async fn set() -> Self {
        let watch = Watch::new();
        let app = create_app(watch.command(&program()), &watch.data());
        let server = Process::serve(watch.command(&program()), &watch.data());
        let text = |name: &str| app[name].as_str().unwrap().to_owned();
        let rest = Rest::new(&server.http_url(), &text("easemob_appkey"));
        let token = rest.app_token(&text("easemob_client_id"), &text("easemob_client_secret")).await.unwrap();
        let rest = rest.with_token(&token);
        let mut tokens = Vec::new();
        for name in ["ann", "bob"] {
            let grant = json!({ "grant_type": "inherit", "username": name, "autoCreateUser": true });
            let answer = rest.ok("POST", "/token", Some(&grant)).await.unwrap();
            tokens.push(answer["access_token"].as_str().unwrap().to_owned());
        }
        let mut tom = tom(&server, &app).await;
        let cid = tom.create_conversation("tom", &["tom", "jerry"], true, "{}").await.unwrap().cid;
        let ann = ann(&server, &app, &tokens[0]).await;
        let mut stage = Self {
            watch,
            server: Some(server),
            app,
            cid,
            token: tokens.swap_remove(0),
            tom,
            ann,
            lean_acked: Vec::new(),
            ease_acked: Vec::new(),
            number: 0,
        };
        assert!(stage.say("first").await.both_kept());
        stage
    }

    fn server(&self) -> &Process {
        self.server.as_ref().unwrap()
    }

    /// Says something at both doors.
    async fn say(&mut self, words: &str) -> Said {
        self.number += 1;
        let words = format!("{} {words}", self.number);
        let sent = self.tom.send_content("tom", &self.cid, &words, Outgoing::default()).await;
        let lean = match sent {
            Ok(sent) => {
                self.lean_acked.push((sent.id, words.clone()));
                Ok(sent.at)
            }
            Err(Error::Refused { refusal, .. }) => Err((refusal.code, refusal.reason)),
            Err(error) => panic!("no answer: {error}"),
        };
        let meta = self.ann.text_meta(&bob(&self.app), &words);
        let ack = self.ann.post(meta).await.expect("every message is answered");
        let status = ack.status.unwrap_or_default();
        let ease = match status.error_code {
            Some(0) => {
                self.ease_acked.push((ack.server_id.unwrap(), words));
                Ok(i64::try_from(ack.timestamp.unwrap()).unwrap())
            }
            code => Err((code.unwrap_or_default(), status.reason.unwrap_or_default())),
        };
        Said { lean, ease }
    }

    /// Everything acknowledged is in the histories of both doors, once and in order, and nothing else but what
    /// was refused and kept all the same is between it.
    async fn assert_histories(&mut self) {
        let lean = self.tom.history("tom", &self.cid, 1_000).await.unwrap();
        let content =
            |item: &LogItem| String::from_utf8(item.data.clone().unwrap_or_default().to_vec()).unwrap();
        let found: Vec<_> = lean.iter().map(|item| (item.msg_id.clone().unwrap(), content(item))).collect();
        assert_once_in_order(&found, &self.lean_acked);
        let rest = Rest::new(&self.server().http_url(), self.app["easemob_appkey"].as_str().unwrap());
        let rest = rest.with_token(&self.token);
        let queue = format!("{}_bob@easemob.com", self.app["easemob_appkey"].as_str().unwrap());
        let (mut found, mut start) = (Vec::new(), json!(-1));
        loop {
            let wish = json!({ "queue": queue, "start": start, "pull_number": 50, "is_positive": true });
            let page = rest.ok("POST", "/users/ann/messageroaming?format=json", Some(&wish)).await.unwrap();
            for message in page["data"]["msgs"].as_array().unwrap() {
                let words = message["payload"]["bodies"][0]["msg"].as_str().unwrap().to_owned();
                found.push((message["msg_id"].as_str().unwrap().parse::<u64>().unwrap(), words));
            }
            if page["data"]["is_last"] == json!(true) {
                break;
            }
            start = page["data"]["next_key"].clone();
        }
        assert_once_in_order(&found, &self.ease_acked);
    }

    /// Kills the server and starts it again, on another directory if one is given.
    async fn restart(&mut self, data: Option<&std::path::Path>) {
        self.server.take().unwrap().kill();
        let server = match data {
            None => Process::serve(self.watch.command(&program()), &self.watch.data()),
            Some(data) => Process::serve(Command::new(program()), data),
        };
        self.tom = tom(&server, &self.app).await;
        self.ann = ann(&server, &self.app, &self.token).await;
        self.server = Some(server);
    }
}

fn assert_once_in_order<T: Ord + std::fmt::Debug>(found: &[(T, String)], acked: &[(T, String)]) {
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "out of order: {found:?}");
    let kept: Vec<_> = found.iter().filter(|message| acked.contains(message)).collect();
    assert_eq!(kept, acked.iter().collect::<Vec<_>>(), "lost, doubled or out of order");
    let mut words: Vec<_> = found.iter().map(|(_, words)| words).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), found.len(), "something is there twice");
}

async fn tom(server: &Process, app: &Value) -> Peer {
    let mut tom = Peer::connect(&server.socket_url(), BINARY).await.unwrap();
    tom.open(app["leancloud_id"].as_str().unwrap(), "tom", Open::default()).await.unwrap();
    tom
}

async fn ann(server: &Process, app: &Value, token: &str) -> Device {
    log_in(server, app, token).await.unwrap()
}

/// Logs ann in.
async fn log_in(server: &Process, app: &Value, token: &str) -> Result<Device, Error> {
    let identity = Identity {
        app_key: app["easemob_appkey"].as_str().unwrap().to_owned(),
        name: "ann".to_owned(),
        resource: "webim_web_ann".to_owned(),
        token: token.to_owned(),
    };
    Device::login(&server.http_url(), identity).await
}

fn bob(app: &Value) -> Jid {
    Jid {
        app_key: Some(app["easemob_appkey"].as_str().unwrap().to_owned()),
        name: Some("bob".to_owned()),
        domain: Some("easemob.com".to_owned()),
        client_resource: None,
    }
}
