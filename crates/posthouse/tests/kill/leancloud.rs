//! The LeanCloud wire: every acked message must be in history exactly once and in order, and unread
//! numbers must be what a recount gives.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posthouse::peer::{BINARY, Open, Outgoing, Peer};
use posthouse_leancloud::wire::proto::{CommandType, LogItem, LogsCommand};
use posthouse_testkit::process::Process;
use tokio::sync::mpsc;

use super::{Ack, kill_while_they_talk, kills, make_app, setting, start};

/// A client that sends numbered messages to one conversation, one after the other.
pub(super) struct Seat {
    client: String,
    cid: String,
    /// Reads up to its own newest message now and then.
    reads: bool,
    /// Number, id and time of what was acked.
    acked: Vec<(u32, String, i64)>,
    /// Positions up to which the server has certainly read marks, and may have one.
    read: Option<(i64, String)>,
    perhaps_read: Option<(i64, String)>,
    /// How many sends ended without an answer and were tried again with the same token.
    retries: u32,
}

impl Seat {
    /// How many of its messages were acknowledged.
    pub(super) fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Sends until the connection is lost or `stop` is set.
    pub(super) async fn talk(
        mut self,
        url: String,
        app: String,
        acks: mpsc::Sender<Ack>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let Ok(mut peer) = Peer::connect(&url, BINARY).await else { return self };
        if peer.open(&app, &self.client, Open::default()).await.is_err() {
            return self;
        }
        while !stop.load(Ordering::Relaxed) {
            let number = u32::try_from(self.acked.len()).unwrap();
            let content = format!("{}:{number}", self.client);
            let how = Outgoing { token: Some(content.clone()), ..Outgoing::default() };
            let sent = match peer.send_content(&self.client, &self.cid, &content, how).await {
                Ok(sent) => sent,
                Err(error) => {
                    assert_eq!(error.code(), None, "only a broken connection may end a talk: {error}");
                    self.retries += 1;
                    break;
                }
            };
            self.acked.push((number, sent.id.clone(), sent.at));
            peer.take_pushes();
            if self.reads && number.is_multiple_of(7) {
                self.perhaps_read = Some((sent.at, sent.id.clone()));
                let read = peer.read(&self.client, &self.cid, &sent.id, sent.at).await;
                if read.is_err() || peer.settle().await.is_err() {
                    break;
                }
                self.read.clone_from(&self.perhaps_read);
            }
            if acks.send((self.client.clone(), number)).await.is_err() {
                break;
            }
        }
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_when_the_server_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let app = make_app(data.path())["leancloud_id"].as_str().unwrap().to_owned();
    let server = start(data.path());
    let seats = take_seats(&server.socket_url(), &app).await;

    let talk =
        |seat: Seat, server: &Process, acks, stop| seat.talk(server.socket_url(), app.clone(), acks, stop);
    let mut chance = setting("POSTHOUSE_SEED", 1);
    let (server, seats, _) =
        kill_while_they_talk(data.path(), kills(), &mut chance, server, seats, 900, talk).await;

    check(&server.socket_url(), &app, &seats).await;
    server.kill();
    let differences = posthouse_store::audit(data.path()).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");

    let total: usize = seats.iter().map(Seat::acked).sum();
    let retried: u32 = seats.iter().map(|seat| seat.retries).sum();
    println!(
        "{} kills, {total} acked messages, {retried} sends cut off, none lost, doubled or out of order",
        kills()
    );
}

/// Everything acknowledged is there once and in order, and unread numbers are what a recount gives.
pub(super) async fn check(url: &str, app: &str, seats: &[Seat]) {
    let histories = check_history(url, app, seats).await;
    check_unread(url, app, seats, &histories).await;
}

/// Two pairs, a group of four, and a temporary conversation of three. The other door has other names.
pub(super) async fn take_seats(url: &str, app: &str) -> Vec<Seat> {
    let mut seats = Vec::new();
    for members in
        [&["lp1", "lp2"][..], &["lq1", "lq2"], &["lg1", "lg2", "lg3", "lg4"], &["lt1", "lt2", "lt3"]]
    {
        let mut peer = Peer::connect(url, BINARY).await.unwrap();
        let creator = members[0];
        peer.open(app, creator, Open::default()).await.unwrap();
        let started = if creator == "lt1" {
            peer.create_temporary(creator, members, Some(86_400)).await
        } else {
            peer.create_conversation(creator, members, members.len() == 2, "{}").await
        };
        let cid = started.unwrap().cid;
        peer.close(creator).await.unwrap();
        seats.extend(members.iter().map(|client| Seat {
            client: (*client).to_owned(),
            cid: cid.clone(),
            reads: client.ends_with('2'),
            acked: Vec::new(),
            read: None,
            perhaps_read: None,
            retries: 0,
        }));
    }
    seats
}

async fn check_history(url: &str, app: &str, seats: &[Seat]) -> HashMap<String, Vec<LogItem>> {
    let mut histories = HashMap::new();
    for seat in seats {
        if histories.contains_key(&seat.cid) {
            continue;
        }
        let mut peer = Peer::connect(url, BINARY).await.unwrap();
        peer.open(app, &seat.client, Open::default()).await.unwrap();
        let history = whole_history(&mut peer, &seat.client, &seat.cid).await;
        let ascending = history
            .windows(2)
            .all(|pair| (pair[0].timestamp, &pair[0].msg_id) < (pair[1].timestamp, &pair[1].msg_id));
        assert!(ascending, "the history of {} is out of order", seat.cid);
        histories.insert(seat.cid.clone(), history);
    }
    for seat in seats {
        let mine: Vec<&LogItem> = histories[&seat.cid]
            .iter()
            .filter(|item| item.from.as_deref() == Some(seat.client.as_str()))
            .collect();
        // One message may have been kept whose ack never arrived: the one that was on the way.
        assert!(mine.len() == seat.acked.len() || mine.len() == seat.acked.len() + 1, "{}", seat.client);
        for (item, number) in mine.iter().zip(0..) {
            let content = String::from_utf8(item.data.clone().unwrap_or_default().to_vec()).unwrap();
            assert_eq!(content, format!("{}:{number}", seat.client), "lost, doubled or out of order");
        }
        for (item, (_, id, at)) in mine.iter().zip(&seat.acked) {
            assert_eq!((item.msg_id.as_ref(), item.timestamp), (Some(id), Some(*at)), "{}", seat.client);
        }
    }
    histories
}

async fn whole_history(peer: &mut Peer, who: &str, cid: &str) -> Vec<LogItem> {
    let mut history: Vec<LogItem> = Vec::new();
    loop {
        let last = history.last();
        let query = LogsCommand {
            cid: Some(cid.to_owned()),
            l: Some(1_000),
            direction: Some(2),
            t: last.and_then(|item| item.timestamp).or(Some(0)),
            mid: last.and_then(|item| item.msg_id.clone()),
            ..LogsCommand::default()
        };
        let page = peer.logs(who, query).await.unwrap();
        if page.is_empty() {
            return history;
        }
        history.extend(page);
    }
}

async fn check_unread(url: &str, app: &str, seats: &[Seat], histories: &HashMap<String, Vec<LogItem>>) {
    for seat in seats {
        let count_after = |read: &Option<(i64, String)>| {
            let after = read.clone().unwrap_or_default();
            let position = |item: &LogItem| {
                (item.timestamp.unwrap_or_default(), item.msg_id.clone().unwrap_or_default())
            };
            let others = |item: &&LogItem| item.from.as_deref() != Some(seat.client.as_str());
            histories[&seat.cid].iter().filter(others).filter(|item| position(item) > after).count()
        };
        let wanted = [count_after(&seat.read), count_after(&seat.perhaps_read)];
        let mut peer = Peer::connect(url, BINARY).await.unwrap();
        peer.open(app, &seat.client, Open::default()).await.unwrap();
        peer.settle().await.unwrap();
        let told: BTreeMap<String, i32> = peer
            .take_pushes()
            .into_iter()
            .filter(|push| push.cmd == Some(CommandType::Unread.into()))
            .flat_map(|push| push.unread_message.unwrap_or_default().convs)
            .map(|tuple| (tuple.cid.unwrap_or_default(), tuple.unread.unwrap_or_default()))
            .collect();
        let told = usize::try_from(told.get(&seat.cid).copied().unwrap_or_default()).unwrap();
        assert!(wanted.contains(&told), "{} is told {told} unread, a recount gives {wanted:?}", seat.client);
    }
}
