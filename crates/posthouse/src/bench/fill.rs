//! `posthouse bench fill`: a large store in minutes, written through the store's port as the server
//! writes, so that whatever the store does for each message has been done. Without sockets, because the
//! store and not the generator shall be what one waits for.
//!
//! Who talks to whom is computed ([`Shape`]), not remembered: workloads that read such a store know its
//! conversations, and what must be in them, from the few numbers in [`Filled`].

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use posthouse_core::app::ServerMessages;
use posthouse_core::attribute::Attributes;
use posthouse_core::conversation::{Conversation, Kind, MemberSet};
use posthouse_core::id::{AppId, ClientId, ConversationId};
use posthouse_core::idgen::IdGen;
use posthouse_core::message::{Body, BodyKind, Mentions, Origin, Payload};
use posthouse_core::port::store::{
    Apps as _, Conversations as _, Destination, NewConversation, NewMessage, Timeline as _, Upkeep as _,
};
use posthouse_core::time::{Clock as _, Timestamp};
use posthouse_leancloud::inbound::SCHEMA_TEXT;
use posthouse_leancloud::wire::id::lasting_text;
use posthouse_store::{OpenOptions, SqliteStore};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::report::{self, Report, build, grouped};
use super::schedule::Dice;
use super::server::EasemobDoor;
use super::{Error, process, progress};
use crate::adapter::{SystemChance, SystemClock};
use crate::apps::{self, Keys};

/// Beside the store in the data directory.
const FILE: &str = "bench-fill.json";
/// Requests that wait for the store at a time: two of its batches.
const IN_FLIGHT: usize = 2_048;
/// The smallest content that holds what is checked.
const PAYLOAD_BYTES_MIN: usize = 80;
/// What a text message of an SDK looks like around its text.
const BEFORE: &str = r#"{"_lctype":-1,"_lctext":""#;
const AFTER: &str = r#""}"#;

/// The arguments of `posthouse bench fill`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory to fill: a new or empty one, or one that was filled with the same numbers before
    /// and is to have more messages.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Messages to have in the end.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    messages: u64,
    /// Direct conversations.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    conversations: u32,
    /// Users; each is in twice as many conversations as there are for one user.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(3..))]
    users: u32,
    /// How unequal conversations are: 0 all alike, 1 as words of a language.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = parse_zipf)]
    zipf: f64,
    /// Bytes of a message's content.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = parse_payload)]
    payload: usize,
    /// Repeats an earlier fill.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the result as one JSON line to FILE instead of below the table; `-` prints only it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn parse_zipf(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..=3.0).contains(s)).ok_or_else(|| "a number from 0 to 3".to_owned())
}

fn parse_payload(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| *bytes >= PAYLOAD_BYTES_MIN)
        .ok_or_else(|| format!("a whole number from {PAYLOAD_BYTES_MIN} on, to hold what is checked"))
}

/// Who talks to whom, and how much.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Shape {
    /// Everybody talks to some others, in conversations of Zipf's sizes.
    Mesh {
        /// In all.
        users: u32,
        /// In all; two users share at most one.
        conversations: u32,
        /// The exponent.
        zipf: f64,
    },
    /// Friends have written to users who are away, the same number of messages in each conversation.
    Backlog {
        /// Those who are away.
        users: u32,
        /// For each of them.
        conversations: u32,
    },
}

impl Shape {
    /// In all.
    pub(super) fn conversations(&self) -> u32 {
        match self {
            Self::Mesh { conversations, .. } => *conversations,
            Self::Backlog { users, conversations } => users * conversations,
        }
    }

    /// The members of a conversation; in a backlog the one who is away comes first.
    pub(super) fn pair(&self, conversation: u32) -> [String; 2] {
        match self {
            Self::Mesh { users, .. } => {
                let (one, distance) = (conversation % users, 1 + conversation / users);
                [user(one), user((one + distance) % users)]
            }
            Self::Backlog { conversations, .. } => {
                [user(conversation / conversations), friend(conversation % conversations)]
            }
        }
    }

    /// The conversations that a user is in.
    pub(super) fn of_user(&self, number: u32) -> Vec<u32> {
        match self {
            Self::Mesh { users, conversations, .. } => {
                let rounds = 0..conversations.div_ceil(*users);
                let begun = rounds.clone().map(|round| round * users + number);
                let joined = rounds.map(|round| round * users + (number + users - 1 - round) % users);
                begun.chain(joined).filter(|conversation| conversation < conversations).collect()
            }
            Self::Backlog { conversations, .. } => {
                (number * conversations..(number + 1) * conversations).collect()
            }
        }
    }

    /// `Err` if two conversations would be of the same pair.
    fn ensure_pairs(&self) -> Result<(), Error> {
        match self {
            Self::Mesh { users, conversations, .. } if conversations.div_ceil(*users) * 2 >= *users => {
                Err(Error::TooFewUsers { users: *users, conversations: *conversations })
            }
            Self::Mesh { .. } | Self::Backlog { .. } => Ok(()),
        }
    }
}

/// A user's id: one that both doors can spell.
pub(super) fn user(number: u32) -> String {
    format!("user-{number}")
}

fn friend(number: u32) -> String {
    format!("friend-{number}")
}

/// The id of a conversation; a bijection, so that none is taken twice.
pub(super) fn conversation_id(seed: u64, number: u32) -> ConversationId {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    ConversationId::lasting((u64::from(number) + 1).wrapping_mul(ODD) ^ (seed << 1))
}

/// The same as LeanCloud's wire writes it.
pub(super) fn cid(seed: u64, number: u32) -> String {
    lasting_text(conversation_id(seed, number).as_u64())
}

/// What a message says: its conversation and its place among the messages there, from 0.
pub(super) fn words(conversation: u32, counter: u64) -> String {
    format!("fill:{conversation}:{counter}:")
}

/// The inverse of [`words`], of content with anything around and behind it.
pub(super) fn read_words(text: &str) -> Option<(u32, u64)> {
    let mut parts = text.get(text.find("fill:")? + 5..)?.splitn(3, ':');
    let read = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().map(|_| read)
}

fn content(conversation: u32, counter: u64, bytes: usize) -> Bytes {
    let mut content = format!("{BEFORE}{}", words(conversation, counter));
    while content.len() + AFTER.len() < bytes {
        content.push('.');
    }
    content.push_str(AFTER);
    Bytes::from(content)
}

/// Draws conversations so that the one of rank `r` has a share of `1 / r^s`.
#[derive(Debug)]
pub(super) struct Zipf {
    /// The share of this rank and all before it.
    cumulative: Vec<f64>,
    /// Ranks are dealt to numbers in steps of this, so that no user has all the large ones.
    stride: usize,
}

impl Zipf {
    pub(super) fn new(count: u32, s: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += f64::from(rank).powf(-s);
                sum
            })
            .collect();
        for share in &mut cumulative {
            *share /= sum;
        }
        let count = cumulative.len();
        let stride = (count * 5 / 8..).find(|stride| gcd(*stride, count) == 1).unwrap_or(1);
        Self { cumulative, stride }
    }

    /// The number of a conversation.
    pub(super) fn draw(&self, dice: &mut Dice) -> u32 {
        let at = dice.fraction();
        let rank = self.cumulative.partition_point(|share| *share < at).min(self.cumulative.len() - 1);
        u32::try_from(rank * self.stride % self.cumulative.len()).expect("it was made of 32 bits")
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What a filled directory holds; the file beside the store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Filled {
    pub(super) shape: Shape,
    pub(super) messages: u64,
    pub(super) payload: usize,
    pub(super) seed: u64,
    /// When the first message was written, in Unix ms.
    pub(super) began_at: i64,
    /// And when the last was.
    pub(super) ended_at: i64,
    /// An interrupted fill holds an unknown number of messages.
    pub(super) finished: bool,
    pub(super) app_id: String,
    pub(super) easemob: EasemobDoor,
}

impl Filled {
    /// Of a data directory; `None` if it was not made by a fill.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let filled: Self = serde_json::from_str(&text).map_err(std::io::Error::from)?;
        if filled.finished { Ok(Some(filled)) } else { Err(Error::Unfinished(folder.to_owned())) }
    }

    /// Of a data directory that must be filled, with a store of this size at least.
    pub(super) fn expect(folder: &Path) -> Result<Self, Error> {
        Self::read(folder)?.ok_or_else(|| Error::NotFilled(folder.to_owned()))
    }

    fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from)?;
        // Renamed, so that a torn file never says "finished".
        let draft = folder.join(format!("{FILE}.new"));
        fs::write(&draft, text + "\n")?;
        Ok(fs::rename(&draft, folder.join(FILE))?)
    }
}

/// What a directory is to be filled with.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) shape: Shape,
    pub(super) messages: u64,
    pub(super) payload: usize,
    pub(super) seed: u64,
}

/// What a fill did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) filled: Filled,
    /// Messages written now.
    pub(super) written: u64,
    pub(super) seconds: f64,
}

/// The result of `bench fill`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
struct FillReport {
    bench: &'static str,
    version: &'static str,
    debug_build: bool,
    messages: u64,
    written: u64,
    conversations: u32,
    payload_bytes: usize,
    seed: u64,
    seconds: f64,
    messages_per_second: f64,
    cpu_ms_per_message: Option<f64>,
    written_bytes_per_message: Option<f64>,
    stored_bytes: u64,
    stored_bytes_per_message: f64,
}

impl Report for FillReport {
    fn table(&self) -> String {
        let each = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| format!("unknown {unit}"), |value| format!("{value:.4} {unit}"))
        };
        format!(
            "{} messages of {} bytes in {} conversations, {} of them written now\n\
             build       {} {}\n\
             {:.0} messages/s, {}/message, {}/message written, {:.0} bytes/message on disk\n",
            grouped(self.messages),
            self.payload_bytes,
            grouped(self.conversations.into()),
            grouped(self.written),
            self.version,
            build(self.debug_build),
            self.messages_per_second,
            each(self.cpu_ms_per_message, "ms of CPU"),
            each(self.written_bytes_per_message, "bytes"),
            self.stored_bytes_per_message,
        )
    }

    fn passed(&self) -> bool {
        true
    }
}

/// Runs the command.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let wish = Wish {
        shape: Shape::Mesh { users: args.users, conversations: args.conversations, zipf: args.zipf },
        messages: args.messages,
        payload: args.payload,
        seed: args.seed,
    };
    let before = process::usage(std::process::id());
    let Outcome { filled, written, seconds } = fill(&args.data, &wish).await?;
    let after = process::usage(std::process::id());
    let each = |total: Option<u64>| total.filter(|_| written > 0).map(|total| total as f64 / written as f64);
    let used = before.zip(after);
    let stored = store_bytes(&args.data)?;
    let result = FillReport {
        bench: "fill",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        messages: filled.messages,
        written,
        conversations: filled.shape.conversations(),
        payload_bytes: filled.payload,
        seed: filled.seed,
        seconds,
        messages_per_second: written as f64 / seconds.max(f64::EPSILON),
        cpu_ms_per_message: each(used.map(|(before, after)| after.cpu_ms - before.cpu_ms)),
        written_bytes_per_message: each(
            used.and_then(|(before, after)| Some(after.written_bytes? - before.written_bytes?)),
        ),
        stored_bytes: stored,
        stored_bytes_per_message: stored as f64 / filled.messages.max(1) as f64,
    };
    report::publish(&result, args.json.as_deref(), out)
}

/// The size of the files of the store.
fn store_bytes(folder: &Path) -> Result<u64, Error> {
    Ok(store_files(folder)?.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum())
}

/// The files of the store, however it is laid out: everything in the directory and one below.
pub(super) fn store_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() && entry.file_name() != FILE {
                files.push(entry.path());
            } else if kind.is_dir() && depth == 0 {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(files)
}

/// Fills a directory, or adds to one that the same wish with fewer messages has filled.
pub(super) async fn fill(folder: &Path, wish: &Wish) -> Result<Outcome, Error> {
    wish.shape.ensure_pairs()?;
    fs::create_dir_all(folder)?;
    let there = Filled::read(folder)?;
    let is_new = there.is_none();
    let had = match &there {
        None if fs::read_dir(folder)?.next().is_some() => return Err(Error::NotEmpty(folder.to_owned())),
        None => 0,
        Some(there) => {
            let same = (&there.shape, there.payload, there.seed) == (&wish.shape, wish.payload, wish.seed);
            if !same {
                return Err(Error::FilledOtherwise(folder.to_owned()));
            }
            there.messages
        }
    };
    let clock = Arc::new(SystemClock);
    let options = OpenOptions::new(clock.clone(), Arc::new(IdGen::new(0)));
    let store = SqliteStore::open(folder, options)?;
    let mut filled = match there {
        Some(there) => there,
        None => new_app(&store, wish).await?,
    };
    if had >= wish.messages {
        store.close().await?;
        return Ok(Outcome { filled, written: 0, seconds: 0.0 });
    }
    filled.finished = false;
    filled.write(folder)?;

    let app = apps::find(&store, &filled.app_id).await?.id;
    let started = Instant::now();
    if is_new {
        make_conversations(&store, &app, wish).await?;
    }
    write_messages(&store, &app, wish, had).await?;
    store.close().await?;
    let seconds = started.elapsed().as_secs_f64();
    filled.messages = wish.messages;
    filled.ended_at = clock.now().0;
    filled.finished = true;
    filled.write(folder)?;
    Ok(Outcome { filled, written: wish.messages - had, seconds })
}

/// The app that servers on this directory serve, with the settings that all workloads can live with.
async fn new_app(store: &SqliteStore, wish: &Wish) -> Result<Filled, Error> {
    let app_id = format!("bench-{}", SystemChance.text(16));
    let easemob = EasemobDoor::new(&app_id);
    let keys = Keys {
        leancloud_id: Some(app_id.clone()),
        easemob_appkey: Some(easemob.app_key.clone()),
        easemob_client_id: Some(easemob.client_id.clone()),
        easemob_client_secret: Some(easemob.client_secret.clone()),
        ..Keys::default()
    };
    let mut app = apps::create(store, &app_id, &keys).await?;
    // One user comes through both doors.
    app.settings.login_of_accounts_without_password = true;
    app.settings.rest_messages_in_conversation_list = ServerMessages::Write;
    // A few clients of a load ask for what thousands do.
    app.settings.messages_per_minute = 0;
    app.settings.history_per_minute = 0;
    app.settings.calls_per_minute = 0;
    // The unpaged list is the only one of more than fifty.
    app.settings.conversation_list_default_count = 100;
    store.replace_app(app, &[]).await?;
    let now = SystemClock.now().0;
    Ok(Filled {
        shape: wish.shape.clone(),
        messages: 0,
        payload: wish.payload,
        seed: wish.seed,
        began_at: now,
        ended_at: now,
        finished: false,
        app_id,
        easemob,
    })
}

fn client(id: &str) -> Result<ClientId, Error> {
    ClientId::parse(id).map_err(|_| Error::NotAsPlanned("an id is none"))
}

async fn make_conversations(store: &SqliteStore, app: &AppId, wish: &Wish) -> Result<(), Error> {
    let count = wish.shape.conversations();
    let bar = progress(u64::from(count), "pairing");
    let mut running = FuturesUnordered::new();
    let mut next = 0;
    while next < count || !running.is_empty() {
        if next < count && running.len() < IN_FLIGHT {
            let id = conversation_id(wish.seed, next);
            let [one, other] = wish.shape.pair(next);
            let members = vec![client(&one)?, client(&other)?];
            let now = SystemClock.now();
            let conversation = Conversation {
                id,
                kind: Kind::Direct,
                creator: members.first().cloned(),
                attributes: Attributes::new(),
                unique: Some(MemberSet::of(&members)),
                created_at: now,
                updated_at: now,
                last_message_at: None,
                members,
                joined: Vec::new(),
                muted_by: Vec::new(),
                owner: None,
                admins: Vec::new(),
            };
            let new = NewConversation { id, conversation };
            running.push(store.create_conversation(app, new, Box::new(|_| ())));
            next += 1;
        } else if let Some(created) = running.next().await {
            let created = created?;
            // Readers compute the ids.
            if created.existing {
                return Err(Error::NotAsPlanned("a conversation was there before"));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes the messages of the wish from number `had` on.
async fn write_messages(store: &SqliteStore, app: &AppId, wish: &Wish, had: u64) -> Result<(), Error> {
    let count = wish.shape.conversations();
    let members: Vec<[ClientId; 2]> = (0..count)
        .map(|number| {
            let [one, other] = wish.shape.pair(number);
            Ok([client(&one)?, client(&other)?])
        })
        .collect::<Result<_, Error>>()?;
    let mut script = Script::new(wish);
    for _ in 0..had {
        script.next();
    }
    let bar = progress(wish.messages - had, "filling");
    let mut running = FuturesUnordered::new();
    let mut left = wish.messages - had;
    while left > 0 || !running.is_empty() {
        if left > 0 && running.len() < IN_FLIGHT {
            let Line { conversation, counter, side } = script.next();
            let id = conversation_id(wish.seed, conversation);
            let new = NewMessage {
                to: Destination::Conversation(id),
                sender: members[conversation as usize][side].clone(),
                body: Body {
                    kind: BodyKind::Text,
                    summary: Some(words(conversation, counter).into()),
                    payload: Payload {
                        schema: SCHEMA_TEXT,
                        bytes: content(conversation, counter, wish.payload),
                    },
                },
                mentions: Mentions::default(),
                token: None,
                receipt: false,
                origin: Origin::Client,
                shown: true,
                counted: true,
                imported_at: None,
            };
            running.push(async move {
                let appended = store.append_message(app, new, Box::new(|_| ())).await?;
                // The store counts from 1. Server runs in between may have added messages of their own.
                let in_order = appended.message.seq.0 > counter;
                if in_order { Ok(()) } else { Err(Error::NotAsPlanned("messages were stored out of order")) }
            });
            left -= 1;
        } else if let Some(written) = running.next().await {
            written?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The messages one after the other, always the same for the same wish.
struct Script {
    next: Box<dyn FnMut() -> (u32, usize) + Send>,
    counters: Vec<u64>,
}

/// One message to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    conversation: u32,
    /// Its place among those of the conversation.
    counter: u64,
    /// Which of the two says it.
    side: usize,
}

impl Script {
    fn new(wish: &Wish) -> Self {
        let count = wish.shape.conversations();
        let next: Box<dyn FnMut() -> (u32, usize) + Send> = match wish.shape {
            Shape::Mesh { zipf, .. } => {
                let (zipf, mut dice) = (Zipf::new(count, zipf), Dice(wish.seed));
                // First one message for everybody: a list shows no conversation without any.
                let mut greeted = 0;
                Box::new(move || {
                    let conversation = if greeted < count { greeted } else { zipf.draw(&mut dice) };
                    greeted = greeted.saturating_add(1);
                    (conversation, dice.below(2))
                })
            }
            Shape::Backlog { .. } => {
                let mut number = 0;
                Box::new(move || {
                    let conversation = number % count;
                    number = conversation + 1;
                    (conversation, 1)
                })
            }
        };
        Self { next, counters: vec![0; count as usize] }
    }

    fn next(&mut self) -> Line {
        let (conversation, side) = (self.next)();
        let counter = &mut self.counters[conversation as usize];
        let line = Line { conversation, counter: *counter, side };
        *counter += 1;
        line
    }
}

/// Whether a page of history is what the fill wrote: messages of this conversation alone, one after the
/// other without a gap. Messages that other workloads wrote are passed over.
pub(super) fn is_contiguous<'a>(conversation: u32, texts: impl Iterator<Item = &'a str>) -> bool {
    let mut before: Option<u64> = None;
    for (of, counter) in texts.filter_map(read_words) {
        if of != conversation || before.is_some_and(|before| counter != before + 1) {
            return false;
        }
        before = Some(counter);
    }
    true
}

/// When the fill was written, for reads of a random moment.
pub(super) fn moment(filled: &Filled, dice: &mut Dice) -> Timestamp {
    let length = usize::try_from(filled.ended_at - filled.began_at).unwrap_or(0).max(1);
    Timestamp(filled.began_at).plus_ms(i64::try_from(dice.below(length)).unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const MESH: Shape = Shape::Mesh { users: 11, conversations: 44, zipf: 1.0 };

    #[test]
    fn a_mesh_has_each_pair_once_and_users_find_theirs() {
        let mut seen = HashSet::new();
        for number in 0..MESH.conversations() {
            let mut pair = MESH.pair(number);
            pair.sort();
            assert_ne!(pair[0], pair[1]);
            assert!(seen.insert(pair), "conversation {number} is there twice");
        }
        for number in 0..11 {
            let own = MESH.of_user(number);
            assert_eq!(own.len(), 8, "{own:?}");
            assert!(own.iter().all(|conversation| MESH.pair(*conversation).contains(&user(number))));
        }
        assert!(MESH.ensure_pairs().is_ok());
        let crowded = Shape::Mesh { users: 8, conversations: 32, zipf: 1.0 };
        assert!(matches!(crowded.ensure_pairs(), Err(Error::TooFewUsers { users: 8, conversations: 32 })));
    }

    #[test]
    fn a_backlog_is_for_the_users_alone() {
        let shape = Shape::Backlog { users: 3, conversations: 5 };
        assert_eq!(shape.pair(7), ["user-1", "friend-2"]);
        assert_eq!(shape.of_user(2), [10, 11, 12, 13, 14]);
    }

    #[test]
    fn zipf_makes_the_first_ranks_large_and_reaches_all() {
        let (zipf, mut dice) = (Zipf::new(100, 1.0), Dice(5));
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[zipf.draw(&mut dice) as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // The harmonic number of 100 is 5.187: the first has 19.3 %, the last 0.19 %.
        assert!((18_500..20_000).contains(&counts[0]), "{counts:?}");
        assert!((120..270).contains(&counts[99]), "{counts:?}");
        let alike = Zipf::new(4, 0.0);
        let seen: HashSet<u32> = (0..100).map(|_| alike.draw(&mut dice)).collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn words_come_back_through_both_wires() {
        let content = content(7, 123, 128);
        assert_eq!(content.len(), 128);
        assert_eq!(read_words(std::str::from_utf8(&content).unwrap()), Some((7, 123)));
        assert_eq!(read_words(&words(0, 0)), Some((0, 0)));
        assert_eq!(read_words("hello"), None);
        assert_eq!(read_words("fill:7:"), None);
    }

    #[test]
    fn a_gap_and_a_stranger_are_found_in_a_page() {
        let page = |lines: &[(u32, u64)]| -> Vec<String> {
            lines.iter().map(|(conversation, counter)| words(*conversation, *counter)).collect()
        };
        let contiguous = |lines: &[(u32, u64)]| is_contiguous(3, page(lines).iter().map(String::as_str));
        assert!(contiguous(&[(3, 5), (3, 6), (3, 7)]));
        assert!(!contiguous(&[(3, 5), (3, 7)]));
        assert!(!contiguous(&[(3, 6), (3, 5)]));
        assert!(!contiguous(&[(3, 5), (4, 6)]));
        assert!(is_contiguous(3, [&*words(3, 5), "somebody else's", &*words(3, 6)].into_iter()));
    }

    #[tokio::test]
    async fn a_fill_grows_and_holds_what_it_says_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let wish = |messages, seed| Wish {
            shape: Shape::Mesh { users: 7, conversations: 14, zipf: 1.0 },
            messages,
            payload: 100,
            seed,
        };
        fs::write(folder.path().join("letter"), "").unwrap();
        assert!(matches!(fill(folder.path(), &wish(50, 1)).await, Err(Error::NotEmpty(_))));
        fs::remove_file(folder.path().join("letter")).unwrap();

        assert_eq!(fill(folder.path(), &wish(50, 1)).await.unwrap().written, 50);
        assert!(matches!(fill(folder.path(), &wish(80, 2)).await, Err(Error::FilledOtherwise(_))));
        let grown = fill(folder.path(), &wish(80, 1)).await.unwrap();
        assert_eq!((grown.written, grown.filled.messages), (30, 80));
        assert_eq!(fill(folder.path(), &wish(80, 1)).await.unwrap().written, 0);

        // Every message is there, in its place.
        let options = OpenOptions::new(Arc::new(SystemClock), Arc::new(IdGen::new(0)));
        let store = SqliteStore::open(folder.path(), options).unwrap();
        let app = apps::find(&store, &grown.filled.app_id).await.unwrap().id;
        let mut found = 0;
        for number in 0..14 {
            let query = posthouse_core::message::HistoryQuery::newest(conversation_id(1, number), 100);
            let reader = client(&wish(0, 1).shape.pair(number)[0]).unwrap();
            let page = store.read_history(&app, &reader, query).await.unwrap().messages;
            let texts: Vec<&str> = page
                .iter()
                .map(|message| std::str::from_utf8(&message.body.payload.bytes).unwrap())
                .collect();
            assert!(is_contiguous(number, texts.iter().copied()), "{texts:?}");
            assert_eq!(texts.first().map_or(Some((number, 0)), |text| read_words(text)), Some((number, 0)));
            found += texts.len();
        }
        assert_eq!(found, 80);

        let mut interrupted = grown.filled;
        interrupted.finished = false;
        interrupted.write(folder.path()).unwrap();
        assert!(matches!(fill(folder.path(), &wish(90, 1)).await, Err(Error::Unfinished(_))));
    }
}
