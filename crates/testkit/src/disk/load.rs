//! Many things at once, in lasting and in temporary conversations, with checkpoints, restarts and faults in
//! between; and what must hold of it wherever the power was cut: everything acknowledged is there once, as
//! it was, in order; what was on its way is there as a whole or not at all; counters agree with a recount.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;
use posthouse_core::attribute::Attributes;
use posthouse_core::conversation::{Conversation, Kind};
use posthouse_core::error::{Error, StoreFault};
use posthouse_core::expiry::Bucket;
use posthouse_core::id::{ConversationId, MessageId};
use posthouse_core::message::{Direction, HistoryQuery, Mentions, Message};
use posthouse_core::port::store::{
    Apps as _, Conversations as _, NewConversation, NewMessage, Timeline as _, Upkeep as _,
};
use posthouse_core::receipt::MarkRead;
use posthouse_core::time::{Chance as _, Clock as _, Timestamp};
use posthouse_store::{OpenError, OpenOptions, SqliteStore};
use serde_json::{Value, json};

use super::steps::{open, options};
use crate::store_suite::{app, app_id, client, clients, message, nothing, patch, recalled, token, words};
use crate::time::{ManualClock, SeededChance};

const HOUR_MS: i64 = 3_600_000;
/// Marks of reading may be so much older after a power cut (`Timeline::mark_read`).
const MARKS_LOST_MS: i64 = 1_000;
/// Who takes part in each conversation.
const MEMBERS: [&str; 3] = ["tom", "jerry", "spike"];

/// A conversation that is talked in.
struct Place {
    id: ConversationId,
    until: Option<Timestamp>,
    /// What was said and acknowledged.
    said: Vec<Message>,
}

/// A run and what it has done so far.
struct Run {
    data: PathBuf,
    trace: PathBuf,
    clock: Arc<ManualClock>,
    chance: SeededChance,
    /// How many messages may wait for the index.
    tail_max: usize,
    places: Vec<Place>,
    /// What was done, in the order in which it was acknowledged or refused.
    lines: Vec<Value>,
    /// Whether faults are being played: only then may anything be refused.
    broken: bool,
}

/// Something that is being done: what to write down of it, and what was said if that is what it was.
type Doing<'a> = Pin<Box<dyn Future<Output = (Value, Option<Message>)> + 'a>>;

/// Runs `rounds` rounds in `data`. Faults that `DISK_FAULTS` holds are played in the second third.
///
/// # Panics
/// If the store refuses something although nothing is broken, or doesn't work again after a fault.
pub async fn run(data: &Path, trace: &Path, journal: &Path, seed: u64, rounds: u64) {
    let faults = std::env::var("DISK_FAULTS").unwrap_or_default();
    let clock = Arc::new(ManualClock::new());
    let usual = options(Arc::clone(&clock));
    let mut run = Run {
        data: data.to_owned(),
        trace: trace.to_owned(),
        clock,
        chance: SeededChance::new(seed),
        // Every message indexed at once, a few late, or as many as usual.
        tail_max: [0, 3, usual.tail_max][(seed % 3) as usize],
        places: Vec::new(),
        lines: Vec::new(),
        broken: false,
    };
    let mut store = run.open().unwrap();
    assert!(store.add_app(app("app", &[]), &[]).await.unwrap());
    for ttl in [None, None, Some(HOUR_MS), Some(20 * HOUR_MS)] {
        run.make(&store, ttl).await;
    }
    for round in 0..rounds {
        if round == rounds / 3 && !faults.is_empty() {
            play(&faults);
            run.broken = true;
        }
        if round == rounds * 2 / 3 {
            run.mend();
        }
        run.pass_ms(i64::try_from(run.chance.bits() % 700).unwrap());
        run.talk(&store).await;
        match run.chance.bits() % 32 {
            0..4 => run.bring_home(),
            4 => run.forget(&store).await,
            5 => store = run.reopen(store, true).await,
            6 => store = run.reopen(store, false).await,
            _ => {}
        }
    }
    let lines: Vec<String> = run.lines.iter().map(Value::to_string).collect();
    std::fs::write(journal, lines.join("\n")).unwrap();
}

/// Has the watcher play these faults from now on.
fn play(faults: &str) {
    let control = std::env::var("DISK_CONTROL").expect("the watcher is there");
    std::fs::write(control, faults).unwrap();
}

impl Run {
    fn mend(&mut self) {
        if std::mem::take(&mut self.broken) {
            play("");
        }
    }

    fn now(&self) -> u64 {
        std::fs::metadata(&self.trace).unwrap().len()
    }

    fn draw(&self, below: usize) -> usize {
        usize::try_from(self.chance.bits() % below as u64).unwrap()
    }

    fn pass_ms(&mut self, ms: i64) {
        self.clock.advance_ms(ms);
        self.lines.push(json!({ "kind": "time", "begun": self.now(), "now": self.clock.now().0 }));
    }

    /// Where something was acknowledged, or `None` if it was refused for a reason that excuses it.
    fn settled(&self, refused: Option<&Error>) -> Option<u64> {
        let Some(error) = refused else { return Some(self.now()) };
        assert!(self.broken, "nothing is broken, but: {error}");
        let excuses = [StoreFault::Full, StoreFault::Failed, StoreFault::Busy].map(Error::Store);
        assert!(excuses.contains(error), "the disk is at fault, but the error says: {error}");
        None
    }

    async fn make(&mut self, store: &SqliteStore, ttl: Option<i64>) {
        let now = self.clock.now();
        let until = ttl.map(|ttl| now.plus_ms(ttl));
        let (id, kind) = match until {
            None => (ConversationId::lasting(self.chance.bits()), Kind::Group),
            Some(until) => {
                let bucket = Bucket::for_expiry(now, until);
                (ConversationId::temporary(bucket, self.chance.bits()), Kind::Temporary { until })
            }
        };
        let members = clients(&MEMBERS);
        let conversation = Conversation {
            id,
            kind,
            creator: members.first().cloned(),
            owner: members.first().cloned(),
            admins: Vec::new(),
            attributes: Attributes::new(),
            unique: None,
            created_at: now,
            updated_at: now,
            last_message_at: None,
            members,
            joined: Vec::new(),
            muted_by: Vec::new(),
        };
        let begun = self.now();
        let new = NewConversation { id, conversation };
        let made = store.create_conversation(&app_id("app"), new, nothing()).await;
        let acked = self.settled(made.as_ref().err());
        self.lines.push(json!({
            "kind": "made", "begun": begun, "acked": acked, "in": id.as_u64(), "until": until.map(|until| until.0),
        }));
        if acked.is_some() {
            self.places.push(Place { id, until, said: Vec::new() });
        }
    }

    /// Some messages, recalls and marks at once.
    async fn talk(&mut self, store: &SqliteStore) {
        let begun = self.now();
        let this = &*self;
        let doing: Vec<Doing<'_>> = (0..=self.draw(6)).map(|number| this.one(store, begun, number)).collect();
        for (line, said) in join_all(doing).await {
            self.lines.push(line);
            if let Some(said) = said
                && let Some(place) = self.places.iter_mut().find(|place| place.id == said.conversation)
            {
                place.said.push(said);
            }
        }
    }

    fn one<'a>(&'a self, store: &'a SqliteStore, begun: u64, number: usize) -> Doing<'a> {
        let place = &self.places[self.draw(self.places.len())];
        let by = MEMBERS[self.draw(MEMBERS.len())];
        let of = place.id;
        let said = (!place.said.is_empty()).then(|| place.said[self.draw(place.said.len())].clone());
        let kind = self.draw(10);
        let padding = self.draw(9).pow(4);
        Box::pin(async move {
            let app = app_id("app");
            match (kind, said) {
                (0, Some(said)) => {
                    let wish = patch(&said, recalled(), Mentions::default());
                    let done = store.patch_message(&app, &said.sender, wish, nothing()).await;
                    let twice = done == Err(Error::AlreadyRecalled);
                    let acked = if twice { None } else { self.settled(done.as_ref().err()) };
                    (line("recall", of, begun, acked, json!({ "id": said.id.as_u64() })), None)
                }
                (1, Some(said)) => {
                    let (until, id) = (Some(said.timestamp), Some(said.id));
                    let mark = MarkRead { conversation: of, until, id, device: None };
                    let done = store.mark_read(&app, &client(by), mark, nothing()).await;
                    let acked = self.settled(done.as_ref().err());
                    let now = self.clock.now().0;
                    (
                        line(
                            "read",
                            of,
                            begun,
                            acked,
                            json!({ "by": by, "id": said.id.as_u64(), "now": now }),
                        ),
                        None,
                    )
                }
                _ => {
                    let name = format!("{begun}-{number}");
                    let text = format!("{name} {}", "x".repeat(padding));
                    let new = NewMessage { token: token(&name), ..message(of, by, &text) };
                    let done = store.append_message(&app, new, nothing()).await.map(|done| done.message);
                    let acked = self.settled(done.as_ref().err());
                    let said = done.ok();
                    let more = json!({
                        "by": by, "text": text, "token": name,
                        "id": said.as_ref().map(|said| said.id.as_u64()),
                        "seq": said.as_ref().map(|said| said.seq.0),
                        "at": said.as_ref().map(|said| said.timestamp.0),
                    });
                    (line("say", of, begun, acked, more), said)
                }
            }
        })
    }

    /// Brings the logs of all files home, as the store does by itself when they have grown.
    fn bring_home(&self) {
        let how = ["PASSIVE", "RESTART", "TRUNCATE"][self.draw(3)];
        let mut files = vec![self.data.join("posthouse.db")];
        files.extend(
            std::fs::read_dir(self.data.join("expiring")).unwrap().map(|entry| entry.unwrap().path()),
        );
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "db")) {
            let flags =
                rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let opened = rusqlite::Connection::open_with_flags(file, flags);
            let homed =
                opened.and_then(|db| db.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(())));
            assert!(homed.is_ok() || self.broken, "{homed:?}");
        }
    }

    async fn forget(&mut self, store: &SqliteStore) {
        self.pass_ms(2 * HOUR_MS);
        assert!(store.forget_expired().await.is_ok() || self.broken);
        let now = self.clock.now();
        self.places.retain(|place| place.until.is_none_or(|until| until > now));
        for ttl in [HOUR_MS, 20 * HOUR_MS] {
            self.make(store, Some(ttl)).await;
        }
    }

    async fn reopen(&mut self, store: SqliteStore, orderly: bool) -> SqliteStore {
        if orderly {
            assert!(store.close().await.is_ok() || self.broken);
        }
        drop(store);
        match self.open() {
            Ok(store) => store,
            Err(error) => {
                assert!(self.broken, "{error}");
                self.mend();
                self.open().expect("it opens when nothing is broken")
            }
        }
    }

    fn open(&self) -> Result<SqliteStore, OpenError> {
        let usual = options(Arc::clone(&self.clock));
        SqliteStore::open(&self.data, OpenOptions { tail_max: self.tail_max, ..usual })
    }
}

fn line(kind: &str, of: ConversationId, begun: u64, acked: Option<u64>, more: Value) -> Value {
    let mut line = json!({ "kind": kind, "in": of.as_u64(), "begun": begun, "acked": acked });
    let Value::Object(more) = more else { return line };
    line.as_object_mut().expect("it is one").extend(more);
    line
}

/// What a run has written down.
pub struct Journal(Vec<Value>);

/// What a journal says of one conversation up to a moment.
#[derive(Default)]
struct Told<'a> {
    until: Option<Timestamp>,
    made: bool,
    /// Messages, those acknowledged first to last.
    acked: Vec<&'a Value>,
    /// By token.
    begun: HashMap<&'a str, &'a Value>,
    recalled: Vec<u64>,
    perhaps_recalled: Vec<u64>,
    /// By client: the message up to which it has read, and the time.
    read: Vec<(&'a str, u64, Option<i64>)>,
}

/// What a damaged directory does.
pub enum Verdict {
    /// It isn't opened, for this reason.
    Refused(String),
    /// Something can't be read and says so; all else is right.
    Unreadable(String),
    /// Something acknowledged isn't shown, without a word.
    Missing(String),
    /// Something is shown that isn't so.
    Wrong(String),
    /// Everything is right.
    Right,
}

impl Verdict {
    /// The sort and what was said.
    #[must_use]
    pub fn describe(&self) -> (&'static str, &str) {
        match self {
            Self::Refused(words) => ("refused", words),
            Self::Unreadable(words) => ("unreadable", words),
            Self::Missing(words) => ("missing", words),
            Self::Wrong(words) => ("wrong", words),
            Self::Right => ("right", ""),
        }
    }
}

/// What is wrong with a history.
enum Flaw {
    /// Something acknowledged isn't there.
    Missing(String),
    /// Something is there that was not said so.
    Wrong(String),
}

impl Flaw {
    fn words(self) -> String {
        match self {
            Self::Missing(words) | Self::Wrong(words) => words,
        }
    }
}

impl Journal {
    /// Reads a journal.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        Self(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// How many messages were acknowledged.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.0.iter().filter(|line| line["kind"] == "say" && line["acked"].is_u64()).count()
    }

    /// How many wishes were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.0.iter().filter(|line| line["kind"] == "say" && line["acked"].is_null()).count()
    }

    fn told(&self, end: u64) -> BTreeMap<u64, Told<'_>> {
        let mut told: BTreeMap<u64, Told<'_>> = BTreeMap::new();
        for line in self.0.iter().filter(|line| line["kind"] != "time") {
            if line["begun"].as_u64().unwrap() > end {
                continue;
            }
            let acked = line["acked"].as_u64().is_some_and(|acked| acked <= end);
            let told = told.entry(line["in"].as_u64().unwrap()).or_default();
            match line["kind"].as_str().unwrap() {
                "made" => {
                    told.until = line["until"].as_i64().map(Timestamp);
                    told.made = acked;
                }
                "say" => {
                    told.begun.insert(line["token"].as_str().unwrap(), line);
                    if acked {
                        told.acked.push(line);
                    }
                }
                "recall" if acked => told.recalled.push(line["id"].as_u64().unwrap()),
                "recall" => told.perhaps_recalled.push(line["id"].as_u64().unwrap()),
                "read" => {
                    let now = acked.then(|| line["now"].as_i64().unwrap());
                    told.read.push((line["by"].as_str().unwrap(), line["id"].as_u64().unwrap(), now));
                }
                kind => panic!("nobody writes down {kind}"),
            }
        }
        told
    }

    /// Says what a damaged directory does, whose files are as they were at the moment `end` otherwise.
    pub async fn judge(&self, data: &Path, end: u64) -> Verdict {
        let clock = Arc::new(ManualClock::new());
        clock.set(self.time(end));
        let store = match open(data, Arc::clone(&clock)) {
            Ok(store) => store,
            Err(error) => return Verdict::Refused(error.to_string()),
        };
        let mut unreadable = None;
        for (id, told) in self.told(end) {
            if told.until.is_some_and(|until| until <= clock.now()) {
                continue;
            }
            let id = ConversationId::from_u64(id).unwrap();
            for who in MEMBERS {
                let query =
                    HistoryQuery { direction: Direction::Forward, ..HistoryQuery::newest(id, 100_000) };
                match store.read_history(&app_id("app"), &client(who), query).await {
                    Ok(history) => match check_history(&told, &history.messages) {
                        Ok(()) => {}
                        Err(Flaw::Missing(words)) => return Verdict::Missing(words),
                        Err(Flaw::Wrong(words)) => return Verdict::Wrong(words),
                    },
                    Err(error @ Error::Store(_)) => unreadable = Some(error.to_string()),
                    Err(error) if told.made => return Verdict::Missing(error.to_string()),
                    Err(_) => {}
                }
            }
        }
        unreadable.map_or(Verdict::Right, Verdict::Unreadable)
    }

    /// What time it was then.
    fn time(&self, end: u64) -> Timestamp {
        let times = self.0.iter().filter(|line| line["kind"] == "time");
        let now = times.rev().find(|line| line["begun"].as_u64().unwrap() <= end);
        now.map_or_else(|| ManualClock::new().now(), |now| Timestamp(now["now"].as_i64().unwrap()))
    }

    /// Checks a directory whose power was cut at the moment `end` of the trace: opens it, compares it
    /// with the journal, goes on talking in it. Gives what is wrong, or nothing.
    pub async fn check(&self, data: &Path, end: u64) -> Result<(), String> {
        let clock = Arc::new(ManualClock::new());
        clock.set(self.time(end));
        let store = open(data, Arc::clone(&clock)).map_err(|error| format!("can't be opened: {error}"))?;
        let audit = async |store: &SqliteStore, when: &str| match store.audit().await {
            Ok(differences) if differences.is_empty() => Ok(()),
            found => Err(format!("the audit {when} says {found:#?}")),
        };
        audit(&store, "after the cut").await?;
        for (id, told) in self.told(end) {
            if told.until.is_some_and(|until| until <= clock.now()) {
                continue;
            }
            let id = ConversationId::from_u64(id).unwrap();
            check_conversation(&store, id, &told, clock.now()).await.map_err(|wrong| {
                format!("conversation {} of {} messages: {wrong}", id.as_u64(), told.acked.len())
            })?;
        }
        audit(&store, "after going on").await
    }
}

async fn check_conversation(
    store: &SqliteStore,
    id: ConversationId,
    told: &Told<'_>,
    now: Timestamp,
) -> Result<(), String> {
    let app = app_id("app");
    let query = HistoryQuery { direction: Direction::Forward, ..HistoryQuery::newest(id, 100_000) };
    let history = match store.read_history(&app, &client("tom"), query).await {
        Ok(history) => history.messages,
        Err(error) if told.made => return Err(format!("its history can't be read: {error}")),
        Err(_) => return Ok(()),
    };
    check_history(told, &history).map_err(Flaw::words)?;
    check_unread(store, id, told, &history, now).await?;
    check_going_on(store, id, told, &history).await
}

fn check_history(told: &Told<'_>, history: &[Message]) -> Result<(), Flaw> {
    if !history.windows(2).all(|pair| (pair[0].timestamp, pair[0].id) < (pair[1].timestamp, pair[1].id)) {
        return Err(Flaw::Wrong("it is out of order".to_owned()));
    }
    if !history.windows(2).all(|pair| pair[0].seq < pair[1].seq) {
        return Err(Flaw::Wrong("history and timeline have different orders".to_owned()));
    }
    let by_id: HashMap<u64, &Message> =
        history.iter().map(|message| (message.id.as_u64(), message)).collect();
    for line in &told.acked {
        let Some(found) = line["id"].as_u64().and_then(|id| by_id.get(&id)) else {
            return Err(Flaw::Missing(format!("an acknowledged message is lost: {line}")));
        };
        let place = (found.seq.0, found.timestamp.0, found.sender.as_str());
        let wanted =
            (line["seq"].as_u64().unwrap(), line["at"].as_i64().unwrap(), line["by"].as_str().unwrap());
        if place != wanted {
            return Err(Flaw::Wrong(format!("an acknowledged message is elsewhere: {line}, {place:?}")));
        }
    }
    for message in history {
        let id = message.id.as_u64();
        let recalled = told.recalled.contains(&id);
        if message.is_recalled() {
            if !recalled && !told.perhaps_recalled.contains(&id) {
                return Err(Flaw::Wrong(format!("{id} was never recalled")));
            }
            continue;
        }
        let text = words(message);
        let Some(line) = text.split(' ').next().and_then(|token| told.begun.get(token)) else {
            return Err(Flaw::Wrong(format!("nobody said {text:?}")));
        };
        if recalled {
            return Err(Flaw::Wrong(format!("an acknowledged recall is lost: {line}")));
        }
        if line["text"] != text.as_str() || line["by"] != message.sender.as_str() {
            return Err(Flaw::Wrong(format!("something else is served: {message:?} instead of {line}")));
        }
    }
    let mut texts: Vec<String> = history.iter().filter(|message| !message.is_recalled()).map(words).collect();
    texts.sort_unstable();
    texts.dedup();
    if texts.len() != history.iter().filter(|message| !message.is_recalled()).count() {
        return Err(Flaw::Wrong("something is there twice".to_owned()));
    }
    Ok(())
}

/// What is served as unread must be what a recount gives after the mark, and the mark one that was set.
async fn check_unread(
    store: &SqliteStore,
    id: ConversationId,
    told: &Told<'_>,
    history: &[Message],
    now: Timestamp,
) -> Result<(), String> {
    for who in MEMBERS {
        let count = |after: u64| {
            let new = history.iter().filter(|message| message.id.as_u64() > after);
            new.filter(|message| message.sender.as_str() != who && !message.is_recalled()).count() as u64
        };
        let mine = told.read.iter().filter(|(by, ..)| *by == who);
        let since = now.plus_ms(-MARKS_LOST_MS).0;
        let certain =
            mine.clone().filter(|(_, _, at)| at.is_some_and(|at| at < since)).map(|(_, id, _)| *id).max();
        // A mark never goes back, so the newest of those that were set counts.
        let least = certain.unwrap_or(0);
        let mut wanted = vec![count(least)];
        wanted.extend(mine.map(|(_, id, _)| count((*id).max(least))));
        let listed = store.list_unread(&app_id("app"), &client(who), None, 1_000).await;
        let listed = listed.map_err(|error| format!("what is unread can't be read: {error}"))?;
        let served = listed.iter().find(|unread| unread.conversation == id).map_or(0, |unread| unread.count);
        if !wanted.contains(&served) {
            return Err(format!("{who} is told {served} unread, a recount gives one of {wanted:?}"));
        }
    }
    Ok(())
}

/// Says again what was on its way, and some of what was acknowledged: each is there once then.
async fn check_going_on(
    store: &SqliteStore,
    id: ConversationId,
    told: &Told<'_>,
    history: &[Message],
) -> Result<(), String> {
    let app = app_id("app");
    let again = |line: &Value| NewMessage {
        token: token(line["token"].as_str().unwrap()),
        ..message(id, line["by"].as_str().unwrap(), line["text"].as_str().unwrap())
    };
    for line in told.acked.iter().rev().take(2) {
        let done =
            store.append_message(&app, again(line), nothing()).await.map_err(|error| error.to_string())?;
        if !done.duplicate || Some(done.message.id.as_u64()) != line["id"].as_u64() {
            return Err(format!("a retry is taken for something new: {line}"));
        }
    }
    let newest = history.last().map(|message| (message.id, message.seq));
    let mut open: Vec<&&Value> = told.begun.values().filter(|line| !told.acked.contains(line)).collect();
    open.sort_by_key(|line| line["token"].as_str());
    for line in open {
        let done =
            store.append_message(&app, again(line), nothing()).await.map_err(|error| error.to_string())?;
        let there = history.iter().any(|message: &Message| message.id == done.message.id);
        if done.duplicate != there {
            return Err(format!("a retry finds {done:?}, history has it: {there}"));
        }
        if !done.duplicate && newest.is_some_and(|(id, seq)| done.message.id <= id || done.message.seq <= seq)
        {
            return Err(format!("what is new comes before what was there: {done:?}"));
        }
    }
    let end: Option<MessageId> = newest.map(|(id, _)| id);
    let said = store.append_message(&app, message(id, "tom", "goes on"), nothing()).await;
    let said = said.map_err(|error| format!("it doesn't go on: {error}"))?.message;
    if end.is_some_and(|end| said.id <= end) {
        return Err("ids go back".to_owned());
    }
    Ok(())
}
