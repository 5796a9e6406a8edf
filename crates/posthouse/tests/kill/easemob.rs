//! The Easemob wire: every acked message must be in history exactly once and in order, every device must
//! have been given every message of the others, in order, and unread numbers must be what a recount gives.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posthouse::peer::Error;
use posthouse::peer::easemob::{Device, Identity, Rest, metas_of, text_of};
use posthouse_easemob::wire::proto::{Jid, Meta};
use posthouse_testkit::process::Process;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Ack, kill_while_they_talk, kills, make_app, setting, start};

/// A user with one device that writes numbered messages to one chat, and reads what others write.
pub(super) struct Seat {
    identity: Identity,
    to: Jid,
    /// The others of the chat.
    others: Vec<String>,
    /// Number and id of what was acked.
    acked: Vec<(u32, u64)>,
    /// Ids and texts of others' messages as they came, those given again after a kill left out.
    received: Vec<(u64, String)>,
    /// How many sends ended without an answer and were tried again with the same client id.
    retries: u32,
}

impl Seat {
    /// How many of its messages were acknowledged.
    pub(super) fn acked(&self) -> usize {
        self.acked.len()
    }

    fn name(&self) -> &str {
        &self.identity.name
    }

    /// Sends until the connection is lost or `stop` is set.
    pub(super) async fn talk(
        mut self,
        server: String,
        acks: mpsc::Sender<Ack>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let Ok(mut device) = Device::login(&server, self.identity.clone()).await else { return self };
        while !stop.load(Ordering::Relaxed) {
            let number = u32::try_from(self.acked.len()).unwrap();
            let mut meta = device.text_meta(&self.to, &format!("{}:{number}", self.name()));
            meta.id = Some(u64::from(number) + 1);
            let Ok(ack) = device.post(meta).await else {
                self.retries += 1;
                break;
            };
            let status = ack.status.unwrap_or_default();
            assert_eq!(status.error_code, Some(0), "only a broken connection may end a talk: {status:?}");
            self.acked.push((number, ack.server_id.unwrap()));
            if number.is_multiple_of(5) && self.read(&mut device).await.is_err() {
                break;
            }
            if acks.send((self.identity.name.clone(), number)).await.is_err() {
                break;
            }
        }
        self
    }

    /// Reads what waits. Each batch is taken before the next pull acknowledges it: the server may die after it
    /// has written that down.
    async fn read(&mut self, device: &mut Device) -> Result<(), Error> {
        for queue in device.unread().await?.unread.into_iter().filter_map(|pending| pending.queue) {
            let mut key = 0;
            loop {
                let batch = device.pull(&queue, key).await?;
                if batch.is_last.unwrap_or(false) {
                    break;
                }
                self.take(&metas_of(&batch)?);
                key = batch.next_key.unwrap_or(0);
            }
        }
        Ok(())
    }

    fn take(&mut self, metas: &[Meta]) {
        for meta in metas.iter().filter(|meta| meta.ns == Some(1)) {
            let id = meta.id();
            // What was given but not acknowledged before a kill is given again.
            if !self.received.iter().rev().any(|(seen, _)| *seen == id) {
                self.received.push((id, text_of(meta)));
            }
        }
    }

    /// The chat as history has it: id, sender and text from old to new.
    async fn history(&self, rest: &Rest) -> Vec<(u64, String, String)> {
        let queue = format!("{}@{}", self.to.name(), self.to.domain());
        let path = format!("/users/{}/messageroaming?format=json", self.name());
        let (mut history, mut start) = (Vec::new(), json!(-1));
        loop {
            let wish = json!({ "queue": queue, "start": start, "pull_number": 50, "is_positive": true });
            let page = rest.ok("POST", &path, Some(&wish)).await.unwrap();
            for message in page["data"]["msgs"].as_array().unwrap() {
                history.push((
                    message["msg_id"].as_str().unwrap().parse().unwrap(),
                    message["from"].as_str().unwrap().to_owned(),
                    message["payload"]["bodies"][0]["msg"].as_str().unwrap().to_owned(),
                ));
            }
            if page["data"]["is_last"] == json!(true) {
                return history;
            }
            start = page["data"]["next_key"].clone();
        }
    }

    pub(super) async fn check(&mut self, server: &str, rest: &Rest) {
        let rest = rest.with_token(&self.identity.token);
        let history = self.history(&rest).await;
        assert!(history.windows(2).all(|pair| pair[0].0 < pair[1].0), "{} is out of order", self.to.name());
        let mine: Vec<_> = history.iter().filter(|(_, from, _)| from == self.name()).collect();
        // One message may have been kept whose ack never arrived: the one that was on the way.
        assert!(mine.len() == self.acked.len() || mine.len() == self.acked.len() + 1, "{}", self.name());
        for ((id, _, text), number) in mine.iter().zip(0..) {
            assert_eq!(*text, format!("{}:{number}", self.name()), "lost, doubled or out of order");
            if let Some((_, acked)) = self.acked.get(number) {
                assert_eq!(id, acked);
            }
        }

        let mut device = Device::login(server, self.identity.clone()).await.unwrap();
        self.read(&mut device).await.unwrap();
        assert_eq!(device.sync().await.unwrap().len(), 0, "what was acknowledged comes again");
        let theirs: Vec<(u64, String)> = history
            .iter()
            .filter(|(_, from, _)| self.others.contains(from))
            .map(|(id, _, text)| (*id, text.clone()))
            .collect();
        assert_eq!(self.received, theirs, "{} was given something else than history has", self.name());
        let path = format!("/users/{}/user_channels/page?pageNum=1&pageSize=20", self.name());
        let list = rest.ok("GET", &path, None).await.unwrap();
        assert_eq!(list["data"]["channel_infos"][0]["unread_num"], json!(theirs.len()), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_over_msync_is_lost_when_the_server_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let app = make_app(data.path());
    let server = start(data.path());
    let app_key = app["easemob_appkey"].as_str().unwrap();
    let seats = take_seats(&server.http_url(), &app).await;

    let talk = |seat: Seat, server: &Process, acks, stop| seat.talk(server.http_url(), acks, stop);
    let mut chance = setting("POSTHOUSE_SEED", 1);
    let (server, mut seats, _) =
        kill_while_they_talk(data.path(), kills(), &mut chance, server, seats, 600, talk).await;

    let rest = Rest::new(&server.http_url(), app_key);
    for seat in &mut seats {
        seat.check(&server.http_url(), &rest).await;
    }
    server.kill();
    let differences = posthouse_store::audit(data.path()).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
    let total: usize = seats.iter().map(Seat::acked).sum();
    let retried: u32 = seats.iter().map(|seat| seat.retries).sum();
    println!(
        "{} kills, {total} acked messages over MSYNC, {retried} sends cut off, none lost or doubled",
        kills()
    );
}

/// Two pairs and a group of three.
pub(super) async fn take_seats(server: &str, app: &serde_json::Value) -> Vec<Seat> {
    let text = |name: &str| app[name].as_str().unwrap();
    let app_key = text("easemob_appkey");
    let rest = Rest::new(server, app_key);
    let token = rest.app_token(text("easemob_client_id"), text("easemob_client_secret")).await.unwrap();
    let rest = rest.with_token(&token);
    let mut tokens = HashMap::new();
    for name in ["p1", "p2", "q1", "q2", "g1", "g2", "g3"] {
        let grant = json!({ "grant_type": "inherit", "username": name, "autoCreateUser": true });
        let answer = rest.ok("POST", "/token", Some(&grant)).await.unwrap();
        tokens.insert(name, answer["access_token"].as_str().unwrap().to_owned());
    }
    let group = json!({ "groupname": "g", "public": false, "owner": "g1", "members": ["g2", "g3"] });
    let group = rest.ok("POST", "/chatgroups", Some(&group)).await.unwrap();
    let group = group["data"]["groupid"].as_str().unwrap().to_owned();
    let rooms: BTreeMap<&str, &[&str]> =
        BTreeMap::from([("p", &["p1", "p2"][..]), ("q", &["q1", "q2"]), ("g", &["g1", "g2", "g3"])]);
    let mut seats = Vec::new();
    for (kind, members) in rooms {
        for name in members {
            let others: Vec<String> =
                members.iter().filter(|other| *other != name).map(|other| (*other).to_owned()).collect();
            let (to, domain) = match kind {
                "g" => (group.clone(), "conference.easemob.com"),
                _ => (others[0].clone(), "easemob.com"),
            };
            seats.push(Seat {
                identity: Identity {
                    app_key: app_key.to_owned(),
                    name: (*name).to_owned(),
                    resource: format!("webim_web_{name}"),
                    token: tokens[name].clone(),
                },
                to: Jid {
                    app_key: Some(app_key.to_owned()),
                    name: Some(to),
                    domain: Some(domain.to_owned()),
                    client_resource: None,
                },
                others,
                acked: Vec::new(),
                received: Vec::new(),
                retries: 0,
            });
        }
    }
    seats
}
