//! Workload B8: users read their conversation list, with last message and unread number, over REST on kept
//! connections, while a few requests send messages. On a [filled](super::fill) store.
//!
//! Pages of up to 50 are read by cursor, as SDKs do; a larger one is the unpaged list, which is as long as
//! the app's setting says (100 for the app of a fill). The first reads after a restart are measured apart.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::connect::Dial;
use super::fill::{self, Filled, Shape};
use super::history::evict;
use super::http::Kept;
use super::lean::Wire;
use super::logins::{Crowd, User};
use super::report::{self, Latency};
use super::request_report::RequestReport;
use super::requests::{self, Asker, LoadArgs, Measured, histogram, record};
use super::schedule::Dice;
use super::server::Server;
use super::{Error, Target, check_open_files, progress};
use crate::peer;
use crate::peer::easemob::Rest;

/// What a list may take at the 99th percentile, for the ladder.
const P99_MS_MAX: f64 = 25.0;
/// The longest page by cursor.
const PAGE_MAX: u32 = 50;
/// One answer in so many is parsed and looked at in full; all others by status and length.
const LOOKED_AT: u64 = 16;
/// The kinds of request, as reports name them.
const KINDS: [&str; 2] = ["list", "send"];
const LIST: usize = 0;
const SEND: usize = 1;

/// The arguments of `posthouse bench lists`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: LoadArgs,
    /// Kept connections, each with one request on the way.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Users whose lists are read, at most those of the store.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Conversations in an answer.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100))]
    page: u32,
    /// Of a hundred requests so many send a message instead.
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    writes: u32,
}

/// What all connections know.
struct Scene {
    filled: Filled,
    users: Vec<User>,
    /// Path of the app, before everything.
    app: String,
    /// As the header of calls of the app's back end.
    server_token: String,
    page: u32,
    writes: u32,
    looked_at: AtomicU64,
}

/// Runs the workload. Needs a server of its own, on a filled directory.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.connections)?;
    let Some(folder) = &args.target.data else {
        return Err(Error::NotFilled("a temporary directory".into()));
    };
    let filled = Filled::expect(folder)?;
    let Shape::Mesh { users, .. } = filled.shape else {
        return Err(Error::NotAsPlanned("lists are read from a store of `bench fill`"));
    };
    if filled.messages < filled.shape.conversations().into() {
        return Err(Error::NotAsPlanned("a list shows only conversations with a message: fill in more"));
    }
    let mut server = Server::own(&args.target, false).await?;
    let names = (0..args.users.min(users)).map(fill::user).collect();
    let crowd = Crowd::of(&server, Wire::Easemob, names).await?;
    let door = server.easemob.as_ref().ok_or(Error::OwnServerOnly)?;
    let rest = Rest::new(&server.http(), &door.app_key);
    let token = rest.app_token(&door.client_id, &door.client_secret).await?;
    let scene = Arc::new(Scene {
        app: format!("/{}", door.app_key.replacen('#', "/", 1)),
        server_token: format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"),
        filled,
        users: crowd.users,
        page: args.page,
        writes: args.writes,
        looked_at: AtomicU64::new(0),
    });
    let first = first_reads(&mut server, &scene).await?;

    let dial = Dial::new(&server.url, None)?;
    let callers: Vec<Caller> = (0..args.connections)
        .map(|number| Caller { scene: Arc::clone(&scene), kept: Kept::new(dial.clone(), number) })
        .collect();
    let Measured { load, rungs, answers } =
        requests::measure(callers, &args.load, KINDS.len(), P99_MS_MAX, &server).await?;
    let title = format!(
        "{} users with {} conversations each read pages of {} on {} connections, {} % of requests send; {} messages stored",
        report::grouped(scene.users.len() as u64),
        scene.filled.shape.of_user(0).len(),
        args.page,
        args.connections,
        args.writes,
        report::grouped(scene.filled.messages)
    );
    let mut result = RequestReport::new("lists", title, &server, load, &KINDS, &answers);
    result.details = json!({
        "page": args.page, "users": scene.users.len(), "writes_percent": args.writes,
        "messages": scene.filled.messages, "conversations": scene.filled.shape.conversations(),
        "first_after_restart": first, "looked_at": scene.looked_at.load(Relaxed),
    });
    result.notes.push(format!(
        "first read of each of {} users after a restart with all files out of the page cache: p50 {:.2}, p99 {:.2}, \
         max {:.2} ms",
        FIRST_READS.min(scene.users.len()),
        first.p50_ms,
        first.p99_ms,
        first.max_ms
    ));
    result.climbed(rungs);
    report::publish(&result, args.target.json.as_deref(), out)
}

/// Users whose first read after the restart is measured.
const FIRST_READS: usize = 100;

/// Restarts the server, with nothing of the store in memory, and reads a list of each of some users.
async fn first_reads(server: &mut Server, scene: &Arc<Scene>) -> Result<Latency, Error> {
    server.kill()?;
    evict(server.data().ok_or(Error::OwnServerOnly)?)?;
    server.start_again().await?;
    let mut caller = Caller { scene: Arc::clone(scene), kept: Kept::new(Dial::new(&server.url, None)?, 0) };
    let mut times = histogram();
    let count = FIRST_READS.min(scene.users.len());
    let bar = progress(count as u64, "first reads");
    for number in 0..count {
        let began = Instant::now();
        caller.list(number * scene.users.len() / count).await?;
        record(&mut times, began.elapsed());
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Latency::of(&times))
}

/// One kept connection.
struct Caller {
    scene: Arc<Scene>,
    kept: Kept,
}

impl Caller {
    async fn list(&mut self, number: usize) -> Result<(), peer::Error> {
        let User::Easemob(identity) = &self.scene.users[number] else {
            return Err(peer::Error::Unreadable("a user of the other door".to_owned()));
        };
        let (app, page) = (&self.scene.app, self.scene.page);
        let path = if page <= PAGE_MAX {
            format!("{app}/users/{}/user_channels/list?limit={page}", identity.name)
        } else {
            format!("{app}/users/{}/user_channels", identity.name)
        };
        let headers = format!("Authorization: Bearer {}\r\n", identity.token);
        let (status, body) = self.kept.request("GET", &path, &headers, b"").await?;
        if status != 200 {
            return Err(peer::Error::Http {
                url: path,
                status,
                body: String::from_utf8_lossy(body).into_owned(),
            });
        }
        let lines = self.scene.filled.shape.of_user(u32::try_from(number).unwrap_or_default()).len();
        let wanted = lines.min(page as usize);
        if self.scene.looked_at.fetch_add(1, Relaxed).is_multiple_of(LOOKED_AT) {
            look_at(body, wanted).map_err(peer::Error::Unreadable)
        } else if body.len() < wanted * LINE_BYTES_MIN {
            Err(peer::Error::Unreadable(format!("{} bytes are too few for {wanted} lines", body.len())))
        } else {
            Ok(())
        }
    }

    async fn send(&mut self, number: usize, dice: &mut Dice) -> Result<(), peer::Error> {
        let user = u32::try_from(number).unwrap_or_default();
        let own = self.scene.filled.shape.of_user(user);
        let from = fill::user(user);
        let pair = self.scene.filled.shape.pair(own[dice.below(own.len())]);
        let to = pair.iter().find(|member| **member != from);
        let wish = json!({ "from": from, "to": [to], "type": "txt", "body": { "msg": "how are you?" } });
        let path = format!("{}/messages/users", self.scene.app);
        let (status, body) =
            self.kept.request("POST", &path, &self.scene.server_token, wish.to_string().as_bytes()).await?;
        if status == 200 {
            Ok(())
        } else {
            Err(peer::Error::Http { url: path, status, body: String::from_utf8_lossy(body).into_owned() })
        }
    }
}

impl Asker for Caller {
    async fn ask(&mut self, dice: &mut Dice) -> Result<usize, peer::Error> {
        let number = dice.below(self.scene.users.len());
        if dice.below(100) < self.scene.writes as usize {
            self.send(number, dice).await?;
            Ok(SEND)
        } else {
            self.list(number).await?;
            Ok(LIST)
        }
    }
}

/// No line of a list is shorter: names, a number and a message.
const LINE_BYTES_MIN: usize = 100;

/// Whether a list has its lines, each with another conversation, a message and a number.
fn look_at(body: &[u8], wanted: usize) -> Result<(), String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| format!("a list is no JSON: {error}"))?;
    let lines = answer["data"]["channel_infos"].as_array().ok_or("a list without lines")?;
    let name = |line: &Value| {
        line["session_to"].as_str().or_else(|| line["channel_id"].as_str()).unwrap_or_default().to_owned()
    };
    let names: std::collections::HashSet<String> = lines.iter().map(name).collect();
    if lines.len() != wanted || names.len() != wanted {
        return Err(format!(
            "{wanted} lines were wanted and {} came, {} different",
            lines.len(),
            names.len()
        ));
    }
    let whole = |line: &Value| {
        line["unread_num"].is_u64() && line["meta"].as_object().is_some_and(|meta| !meta.is_empty())
    };
    match lines.iter().find(|line| !whole(line)) {
        Some(line) => Err(format!("a line without message or number: {line}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str) -> Value {
        json!({ "session_to": name, "unread_num": 3, "meta": { "id": "1" } })
    }

    fn looked(lines: &[Value]) -> Result<(), String> {
        look_at(json!({ "data": { "channel_infos": lines } }).to_string().as_bytes(), 2)
    }

    #[test]
    fn lists_with_too_few_double_or_empty_lines_are_found() {
        assert_eq!(looked(&[line("a"), line("b")]), Ok(()));
        assert!(looked(&[line("a")]).is_err());
        assert!(looked(&[line("a"), line("a")]).is_err());
        assert!(looked(&[line("a"), line("b"), line("c")]).is_err());
        let empty = json!({ "session_to": "b", "unread_num": 3, "meta": {} });
        assert!(looked(&[line("a"), empty]).is_err());
        let unnumbered = json!({ "session_to": "b", "unread_num": null, "meta": { "id": "1" } });
        assert!(looked(&[line("a"), unnumbered]).is_err());
        assert!(look_at(b"{}", 0).is_err());
    }
}
