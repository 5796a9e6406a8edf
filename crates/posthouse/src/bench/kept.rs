//! Conversations and messages kept on the server, through the Easemob door: what do a list, a page of
//! history, catching up after a long absence and a one-way deletion take, for those who have the most?

use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use posthouse_core::time::Chance as _;
use posthouse_easemob::wire::proto::m_sync::Command;
use posthouse_easemob::wire::proto::{CommSyncDl, CommSyncUl};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::report::{self, KeptReport, Latency, ListFigures};
use super::server::Server;
use super::{Error, Target, check_open_files, progress};
use crate::adapter::SystemChance;
use crate::peer;
use crate::peer::easemob::{Device, Identity, Rest, frame};

/// Users who write, each on a connection of its own.
const SPEAKERS: u64 = 64;
/// Messages a speaker has on the way.
const WINDOW: u64 = 32;
/// Receivers of one REST call.
const RECEIVERS_MAX: usize = 600;
/// Who was away.
const SLEEPER: &str = "sleeper";
/// Ids in one deletion.
const REMOVED_AT_ONCE: usize = 50;

/// The arguments of `posthouse bench kept`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Conversations of the users whose lists are read; one user for each number.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1000,20000")]
    conversations: Vec<u32>,
    /// Messages in the store when history is read.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    messages: u64,
    /// Messages for one user who was away.
    #[arg(long, value_name = "N", default_value_t = 120_000)]
    offline: u64,
    /// How often each call is measured.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
}

/// Runs the workload. Needs a server of its own, because it fills one.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(u32::try_from(SPEAKERS).unwrap_or(u32::MAX))?;
    let server = Server::own(&args.target, false).await?;
    let Some(door) = &server.easemob else { return Err(Error::OwnServerOnly) };
    let http = server.url.replacen("ws", "http", 1);
    let rest = Rest::new(&http, &door.app_key);
    let app = rest.with_token(&rest.app_token(&door.client_id, &door.client_secret).await?);
    let scene = Scene { http, app_key: door.app_key.clone(), app };
    let before = server.usage();

    let mut lists = Vec::new();
    for count in &args.conversations {
        lists.push(scene.lists(*count, args.calls).await?);
    }
    let (sent, speaking, speakers) = scene.away(args.offline).await?;
    let (caught_up, in_order, catching_up) = scene.catch_up().await?;
    let more = args.messages.saturating_sub(sent);
    let filling = scene.fill(more / SPEAKERS, speakers).await?;
    let stored = sent + more / SPEAKERS * SPEAKERS;
    let (history, ids, times) = scene.history(args.calls).await?;
    let by_ids = scene.remove_ids(&ids).await?;
    let by_time = scene.remove_until(&times).await?;

    let rate = |count: u64, took: Duration| count as f64 / took.as_secs_f64().max(f64::EPSILON);
    let result = KeptReport {
        bench: "kept",
        version: env!("CARGO_PKG_VERSION"),
        debug_build: cfg!(debug_assertions),
        server: server.description.clone(),
        calls: args.calls,
        lists,
        offline_sent: sent,
        offline_received: caught_up,
        offline_in_order: in_order,
        offline_seconds: catching_up.as_secs_f64(),
        offline_per_second: rate(caught_up, catching_up),
        sends_per_second: rate(stored, speaking + filling),
        messages_stored: stored,
        history_page: history,
        remove_50_ids: by_ids,
        remove_until: by_time,
        resident_bytes: server.usage().map(|usage| usage.resident_bytes),
        written_bytes: before
            .zip(server.usage())
            .and_then(|(before, after)| Some(after.written_bytes?.saturating_sub(before.written_bytes?))),
    };
    report::publish(&result, args.target.json.as_deref(), out)
}

struct Scene {
    http: String,
    app_key: String,
    app: Rest,
}

impl Scene {
    /// The token of a user, who is made if need be.
    async fn token(&self, name: &str) -> Result<String, Error> {
        let grant = json!({ "grant_type": "inherit", "username": name, "autoCreateUser": true });
        let answer = self.app.ok("POST", "/token", Some(&grant)).await?;
        Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
    }

    async fn online(&self, name: &str) -> Result<Device, Error> {
        let identity = Identity {
            app_key: self.app_key.clone(),
            name: name.to_owned(),
            resource: format!("webim_web_{name}"),
            token: self.token(name).await?,
        };
        let not_ready = |source| Error::NotReady { client: name.to_owned(), source };
        Device::login(&self.http, identity).await.map_err(not_ready)
    }

    async fn as_user(&self, name: &str) -> Result<Rest, Error> {
        Ok(self.app.with_token(&self.token(name).await?))
    }

    /// A user with so many conversations reads the first page of 20, and the last.
    async fn lists(&self, conversations: u32, calls: u32) -> Result<ListFigures, Error> {
        let name = format!("lister-{conversations}");
        let peers: Vec<String> = (0..conversations).map(|number| format!("peer-{number}")).collect();
        let bar = progress(u64::from(conversations), "lists");
        for receivers in peers.chunks(RECEIVERS_MAX) {
            let wish = json!({ "from": name, "to": receivers, "type": "txt", "body": { "msg": "hello" } });
            self.app.ok("POST", "/messages/users", Some(&wish)).await?;
            bar.inc(receivers.len() as u64);
        }
        bar.finish_and_clear();
        let rest = self.as_user(&name).await?;
        let page = |number: u32| format!("/users/{name}/user_channels/page?pageNum={number}&pageSize=20");
        let pages = conversations.div_ceil(20).max(1);
        let mut listed = HashSet::new();
        for number in 1..=pages.min(50) {
            let answer = rest.ok("GET", &page(number), None).await?;
            let lines = answer["data"]["channel_infos"].as_array().cloned().unwrap_or_default();
            listed
                .extend(lines.iter().map(|line| line["channel_id"].as_str().unwrap_or_default().to_owned()));
        }
        Ok(ListFigures {
            conversations,
            complete: listed.len() == (conversations as usize).min(pages.min(50) as usize * 20),
            first_page: timed(calls, async || rest.ok("GET", &page(1), None).await.map(drop)).await?,
            last_page: timed(calls, async || rest.ok("GET", &page(pages), None).await.map(drop)).await?,
        })
    }

    /// Speakers write to somebody who is away.
    async fn away(&self, messages: u64) -> Result<(u64, Duration, Vec<Device>), Error> {
        self.token(SLEEPER).await?;
        let names: Vec<String> = (0..SPEAKERS).map(|number| format!("speaker-{number}")).collect();
        let speakers = try_join_all(names.iter().map(|name| self.online(name))).await?;
        let each = messages / SPEAKERS;
        let bar = progress(each * SPEAKERS, "absence");
        let started = Instant::now();
        let mut speaking = JoinSet::new();
        for speaker in speakers {
            let bar = bar.clone();
            speaking.spawn(speak(speaker, SLEEPER.to_owned(), each, bar));
        }
        let mut back = Vec::new();
        while let Some(speaker) = speaking.join_next().await {
            back.push(speaker??);
        }
        bar.finish_and_clear();
        Ok((each * SPEAKERS, started.elapsed(), back))
    }

    /// The one who was away comes back: how many different messages it gets, whether each conversation's
    /// in order, and how long until nothing is left.
    async fn catch_up(&self) -> Result<(u64, bool, Duration), Error> {
        let mut device = self.online(SLEEPER).await?;
        let started = Instant::now();
        let (mut seen, mut in_order) = (HashSet::new(), true);
        loop {
            let queues = device.unread().await?.unread;
            if queues.is_empty() {
                break;
            }
            for queue in queues.into_iter().filter_map(|pending| pending.queue) {
                let ids: Vec<u64> = device
                    .drain(&queue)
                    .await?
                    .iter()
                    .filter(|meta| meta.ns == Some(1))
                    .map(|meta| meta.id())
                    .collect();
                in_order &= ids.is_sorted();
                seen.extend(ids);
            }
        }
        Ok((seen.len() as u64, in_order, started.elapsed()))
    }

    /// More messages, between speakers.
    async fn fill(&self, each: u64, speakers: Vec<Device>) -> Result<Duration, Error> {
        let bar = progress(each * SPEAKERS, "filling");
        let started = Instant::now();
        let mut speaking = JoinSet::new();
        for speaker in speakers {
            // Everybody writes to a name of its own that nobody answers to.
            let to = format!("{}-friend", speaker.identity().name);
            speaking.spawn(speak(speaker, to, each, bar.clone()));
        }
        while let Some(speaker) = speaking.join_next().await {
            speaker??.logout().await?;
        }
        bar.finish_and_clear();
        Ok(started.elapsed())
    }

    /// The first page of history, and ids and times to remove by.
    async fn history(&self, calls: u32) -> Result<(Latency, Vec<String>, Vec<i64>), Error> {
        let rest = self.as_user("speaker-0").await?;
        let path = "/users/speaker-0/messageroaming?format=json";
        let wish = |start: Value| {
            json!({ "queue": format!("{SLEEPER}@easemob.com"), "start": start, "end": -1, "pull_number": 50,
                    "is_positive": false })
        };
        let first = wish(json!(-1));
        let page = timed(calls, async || rest.ok("POST", path, Some(&first)).await.map(drop)).await?;
        let (mut ids, mut times) = (Vec::new(), Vec::new());
        let mut start = json!(-1);
        while ids.len() < calls as usize * REMOVED_AT_ONCE {
            let answer = rest.ok("POST", path, Some(&wish(start))).await?;
            let messages = answer["data"]["msgs"].as_array().cloned().unwrap_or_default();
            ids.extend(
                messages.iter().map(|message| message["msg_id"].as_str().unwrap_or_default().to_owned()),
            );
            times.extend(messages.first().and_then(|message| message["timestamp"].as_i64()));
            if messages.is_empty() || answer["data"]["is_last"] == json!(true) {
                break;
            }
            start = answer["data"]["next_key"].clone();
        }
        // From old to new.
        times.reverse();
        Ok((page, ids, times))
    }

    /// Removing fifty messages by id.
    async fn remove_ids(&self, ids: &[String]) -> Result<Latency, Error> {
        let rest = self.as_user("speaker-0").await?;
        let mut times = histogram();
        for ids in ids.chunks(REMOVED_AT_ONCE) {
            let path = format!(
                "/sdk/message/roaming/chat/user/speaker-0?userId={SLEEPER}&msgIdList={}",
                ids.join(",")
            );
            let started = Instant::now();
            rest.ok("DELETE", &path, None).await?;
            record(&mut times, started.elapsed());
        }
        Ok(Latency::of(&times))
    }

    /// Removing everything before a time, in one of the sleeper's conversations after the other. Each
    /// time is a little later than the one before, so that no call has nothing to do.
    async fn remove_until(&self, times: &[i64]) -> Result<Latency, Error> {
        let rest = self.as_user(SLEEPER).await?;
        let mut took = histogram();
        for (time, number) in times.iter().zip(0_u64..) {
            let with = format!("speaker-{}", number % SPEAKERS);
            let path = format!("/sdk/message/roaming/chat/user/{SLEEPER}/time?userId={with}&delTime={time}");
            let started = Instant::now();
            rest.ok("DELETE", &path, None).await?;
            record(&mut took, started.elapsed());
        }
        Ok(Latency::of(&took))
    }
}

/// Says `count` things to `to`, with a window of unanswered ones; everything is acknowledged at the end.
async fn speak(
    mut device: Device,
    to: String,
    count: u64,
    bar: indicatif::ProgressBar,
) -> Result<Device, Error> {
    let to = device.person(&to);
    let (mut sent, mut answered) = (0, 0);
    // Client ids that two stretches of one device don't share.
    let base = SystemChance.bits() >> 16;
    while answered < count {
        while sent < count && sent - answered < WINDOW {
            sent += 1;
            let mut meta = device.text_meta(&to, "a message of the usual length, which is about so long");
            meta.id = Some(base + sent);
            let sync = CommSyncUl { meta: Some(meta.encode_to_vec().into()), ..CommSyncUl::default() };
            device.send(&frame(Command::Sync, Some(sync.encode_to_vec()))).await?;
        }
        let reply = device.receive().await?;
        if reply.command != Some(Command::Sync.into()) {
            continue;
        }
        let ack = CommSyncDl::decode(reply.payload.unwrap_or_default())
            .map_err(|error| peer::Error::Unreadable(error.to_string()))?;
        if ack.meta_id.unwrap_or(0) == 0 {
            continue;
        }
        let status = ack.status.unwrap_or_default();
        if status.error_code != Some(0) {
            let words = status.reason.unwrap_or_default();
            return Err(peer::Error::Unreadable(format!("a message was refused: {words}")).into());
        }
        answered += 1;
        bar.inc(1);
    }
    Ok(device)
}

async fn timed<F>(calls: u32, mut call: F) -> Result<Latency, Error>
where
    F: AsyncFnMut() -> Result<(), peer::Error>,
{
    let mut times = histogram();
    for _ in 0..calls {
        let started = Instant::now();
        call().await?;
        record(&mut times, started.elapsed());
    }
    Ok(Latency::of(&times))
}

fn histogram() -> Histogram<u64> {
    // Up to a minute, in microseconds.
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are apart and three digits are allowed")
}

fn record(times: &mut Histogram<u64>, took: Duration) {
    times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
}
