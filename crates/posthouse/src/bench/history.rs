//! Workload B6: readers page through the history of a [filled](super::fill) store over the LeanCloud socket: the newest
//! page, then pages further back, and a page at a random time.
//!
//! **Warm** is the load of many readers at once, after a warm-up. **Cold** is one reader: before each of its
//! reads, all files of the store are thrown out of the page cache, and between rounds the server is started
//! anew, which empties its own caches. That the reads came from disk is not believed but counted
//! (`/proc/<pid>/io`).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use posthouse_core::time::Chance as _;
use posthouse_leancloud::wire::proto::{LogItem, LogsCommand};
use serde_json::json;

use super::connect::Dial;
use super::fill::{self, Filled};
use super::report::{self, Latency};
use super::request_report::RequestReport;
use super::requests::{self, Asker, LoadArgs, Measured, histogram, record};
use super::schedule::Dice;
use super::server::Server;
use super::{Error, Target, check_open_files, progress};
use crate::adapter::SystemChance;
use crate::peer::{self, Open, Peer};

const PAGE: i32 = 20;
/// Pages that a walk goes back.
const PAGES_BACK: u32 = 10;
/// One newest page in so many begins a walk.
const WALKS: usize = 4;
/// One fresh read in so many is of a random time.
const MOMENTS: usize = 3;
/// What a page may take at the 99th percentile, for the ladder.
const P99_MS_MAX: f64 = 25.0;
/// The kinds of read, as reports name them.
const KINDS: [&str; 3] = ["newest page", "page further back", "random time"];
const NEWEST: usize = 0;
const BACK: usize = 1;
const MOMENT: usize = 2;

/// The arguments of `posthouse bench history`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: LoadArgs,
    /// Readers, each on a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    readers: u32,
    /// Cold instead of warm: so many rounds, each with a new server.
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
    cold: Option<u32>,
    /// Cold reads in a round.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    cold_reads: u32,
}

/// Runs the workload. Needs a server of its own, on a filled directory.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.readers)?;
    let Some(folder) = &args.target.data else {
        return Err(Error::NotFilled("a temporary directory".into()));
    };
    let filled = Filled::expect(folder)?;
    let server = Server::own(&args.target, false).await?;
    match args.cold {
        Some(rounds) => cold(args, rounds, &filled, server, out).await,
        None => warm(args, &filled, &server, out).await,
    }
}

async fn warm(
    args: &Args,
    filled: &Filled,
    server: &Server,
    out: &mut (dyn Write + Send),
) -> Result<(), Error> {
    let mut readers = Vec::new();
    let seen = Arc::new(Seen::default());
    let bar = progress(args.readers.into(), "connecting");
    for number in 0..args.readers {
        readers.push(Reader { seen: Arc::clone(&seen), ..Reader::online(server, filled, number).await? });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let Measured { load, rungs, answers } =
        requests::measure(readers, &args.load, KINDS.len(), P99_MS_MAX, server).await?;
    let title = format!(
        "{} readers page through {} messages in {} conversations, {PAGE} a page, warm",
        args.readers,
        report::grouped(filled.messages),
        report::grouped(filled.shape.conversations().into())
    );
    let mut result = RequestReport::new("history", title, server, load, &KINDS, &answers);
    result.details = json!({
        "cache": "warm", "messages": filled.messages, "conversations": filled.shape.conversations(),
        "readers": args.readers, "messages_per_page": seen.messages_per_page(),
    });
    result.climbed(rungs);
    report::publish(&result, args.target.json.as_deref(), out)
}

async fn cold(
    args: &Args,
    rounds: u32,
    filled: &Filled,
    mut server: Server,
    out: &mut (dyn Write + Send),
) -> Result<(), Error> {
    let seed = args.load.load(SystemChance.bits() >> 11).seed;
    let mut dice = Dice(seed);
    let mut answers = requests::Answers::none(KINDS.len());
    let (mut from_disk, mut from_memory, mut bytes) = (0_u64, 0_u64, 0_u64);
    let mut cold_times = histogram();
    let mut first_times = histogram();
    let bar = progress(u64::from(rounds) * u64::from(args.cold_reads), "cold reads");
    for round in 0..rounds {
        server.kill()?;
        evict(folder_of(&server)?)?;
        server.start_again().await?;
        for number in 0..args.cold_reads {
            // Everybody reads once, so that nothing of a reader is known to the server.
            let mut reader = Reader::online(&server, filled, dice_number(&mut dice)).await?;
            evict(folder_of(&server)?)?;
            let before = server.usage().and_then(|usage| usage.read_bytes);
            let began = tokio::time::Instant::now();
            let outcome = reader.ask(&mut dice).await;
            let took = began.elapsed();
            let after = server.usage().and_then(|usage| usage.read_bytes);
            match outcome {
                Ok(kind) => {
                    answers.elapsed += took;
                    answers.answered += 1;
                    record(&mut answers.kinds[kind], took);
                    record(&mut cold_times, took);
                    if number == 0 {
                        record(&mut first_times, took);
                    }
                }
                Err(error) => {
                    answers.failed += 1;
                    answers.problems.push(format!("round {round}: {}", report::chain(&error)));
                }
            }
            match before.zip(after).map(|(before, after)| after.saturating_sub(before)) {
                Some(0) | None => from_memory += 1,
                Some(read) => {
                    from_disk += 1;
                    bytes += read;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let load = requests::Load {
        rate: None,
        warm_up: std::time::Duration::ZERO,
        length: std::time::Duration::ZERO,
        seed,
    };
    let title = format!(
        "One reader after the other pages through {} messages, {PAGE} a page, cold: {rounds} servers, {} reads each",
        report::grouped(filled.messages),
        args.cold_reads
    );
    let reads = (from_disk + from_memory).max(1);
    let mut result = RequestReport::new("history", title, &server, load, &KINDS, &answers);
    result.details = json!({
        "cache": "cold", "messages": filled.messages, "conversations": filled.shape.conversations(),
        "rounds": rounds, "reads": reads,
        "reads_from_disk": from_disk, "reads_from_memory": from_memory,
        "read_bytes_per_page": bytes as f64 / reads as f64,
        "disk_pages_per_read": bytes as f64 / 4_096.0 / reads as f64,
        "first_after_start": Latency::of(&first_times),
    });
    result.notes.push(format!(
        "cold: before each read every file of the store left the page cache (posix_fadvise DONTNEED); the server \
         was killed and started anew {rounds} times, so its own caches began empty too"
    ));
    result.notes.push(format!(
        "counted at the server's process: {from_disk} of {reads} reads went to disk, {:.1} KiB each on average",
        bytes as f64 / 1_024.0 / reads as f64
    ));
    if from_disk * 10 < reads * 9 {
        // A cache that was not emptied would make a good figure out of nothing.
        result.failed += from_memory;
        result
            .problems
            .push("more than a tenth of the reads did not reach the disk: this run was not cold".to_owned());
    }
    report::publish(&result, args.target.json.as_deref(), out)
}

fn dice_number(dice: &mut Dice) -> u32 {
    u32::try_from(dice.bits() >> 32).unwrap_or_default()
}

fn folder_of(server: &Server) -> Result<&Path, Error> {
    server.data().ok_or(Error::OwnServerOnly)
}

/// Throws the files of the store out of the page cache. What is not written back stays, so it is written
/// back first.
pub(super) fn evict(folder: &Path) -> Result<(), Error> {
    for path in fill::store_files(folder)? {
        let file = match File::open(&path) {
            Ok(file) => file,
            // A log that was just taken away.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        file.sync_data()?;
        drop_from_cache(&file)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn drop_from_cache(file: &File) -> Result<(), Error> {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)
        .map_err(|error| Error::Output(error.into()))
}

#[cfg(not(target_os = "linux"))]
fn drop_from_cache(_: &File) -> Result<(), Error> {
    Err(Error::Output(std::io::ErrorKind::Unsupported.into()))
}

/// A reader on a connection of its own.
struct Reader {
    peer: Peer,
    client: String,
    filled: Filled,
    /// The conversations it is in.
    own: Vec<u32>,
    walk: Option<Walk>,
    seen: Arc<Seen>,
}

/// What readers were given. Loads on different stores compare only if their pages hold as much.
#[derive(Default)]
struct Seen {
    pages: AtomicU64,
    messages: AtomicU64,
}

impl Seen {
    fn page(&self, messages: usize) {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    fn messages_per_page(&self) -> f64 {
        self.messages.load(Ordering::Relaxed) as f64 / self.pages.load(Ordering::Relaxed).max(1) as f64
    }
}

/// A reader on its way back through a conversation.
struct Walk {
    conversation: u32,
    left: u32,
    /// Where the page before began.
    oldest: LogItem,
}

impl Reader {
    async fn online(server: &Server, filled: &Filled, number: u32) -> Result<Self, Error> {
        let users = match filled.shape {
            fill::Shape::Mesh { users, .. } | fill::Shape::Backlog { users, .. } => users,
        };
        let client = fill::user(number % users);
        let not_ready = |source| Error::NotReady { client: client.clone(), source };
        let mut peer = Dial::new(&server.url, None)?.peer(number % 16).await.map_err(not_ready)?;
        // Without the notifications of unread conversations, which are none of this workload.
        let open = Open { config_bitmap: None, ..Open::default() };
        peer.open(&server.app_id, &client, open).await.map_err(not_ready)?;
        let own = filled.shape.of_user(number % users);
        Ok(Self { peer, client, filled: filled.clone(), own, walk: None, seen: Arc::default() })
    }

    /// Reads a page, and looks at whether it is what the fill wrote.
    async fn page(&mut self, conversation: u32, query: LogsCommand) -> Result<Vec<LogItem>, peer::Error> {
        let cid = fill::cid(self.filled.seed, conversation);
        let query = LogsCommand { cid: Some(cid), l: Some(PAGE), ..query };
        let page = self.peer.logs(&self.client, query).await?;
        // Kept pushes of other loads on the same store.
        drop(self.peer.take_pushes());
        let texts = page
            .iter()
            .map(|item| str::from_utf8(item.data.as_deref().unwrap_or_default()).unwrap_or_default());
        if !fill::is_contiguous(conversation, texts) {
            return Err(peer::Error::Unreadable(format!(
                "a page of conversation {conversation} has a gap or a stranger"
            )));
        }
        self.seen.page(page.len());
        Ok(page)
    }
}

impl Asker for Reader {
    async fn ask(&mut self, dice: &mut Dice) -> Result<usize, peer::Error> {
        if let Some(Walk { conversation, left, oldest }) = self.walk.take() {
            let query =
                LogsCommand { t: oldest.timestamp, mid: oldest.msg_id.clone(), ..LogsCommand::default() };
            let page = self.page(conversation, query).await?;
            if let Some(first) = page.first() {
                let words = |item: &LogItem| fill::read_words(str::from_utf8(item.data.as_deref()?).ok()?);
                // What other workloads wrote has no place to compare.
                if words(first).zip(words(&oldest)).is_some_and(|(first, oldest)| first >= oldest) {
                    return Err(peer::Error::Unreadable("a page further back is not older".to_owned()));
                }
                self.walk = (left > 1).then(|| Walk { conversation, left: left - 1, oldest: first.clone() });
            }
            return Ok(BACK);
        }
        let conversation = self.own[dice.below(self.own.len())];
        if dice.below(MOMENTS) == 0 {
            let at = fill::moment(&self.filled, dice);
            self.page(conversation, LogsCommand { t: Some(at.0), ..LogsCommand::default() }).await?;
            return Ok(MOMENT);
        }
        let page = self.page(conversation, LogsCommand::default()).await?;
        if dice.below(WALKS) == 0
            && let Some(first) = page.first()
        {
            self.walk = Some(Walk { conversation, left: PAGES_BACK, oldest: first.clone() });
        }
        Ok(NEWEST)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_store_leaves_the_cache_without_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for name in ["one", "below/two"] {
            std::fs::write(folder.path().join(name), vec![1; 8_192]).unwrap();
        }
        let mut found = fill::store_files(folder.path()).unwrap();
        found.sort();
        assert_eq!(found, [folder.path().join("below/two"), folder.path().join("one")]);
        evict(folder.path()).unwrap();
        evict(&folder.path().join("nowhere")).unwrap_err();
    }
}
