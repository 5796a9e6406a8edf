//! Workload B5, first half: distinct users log in, each on a new connection: TCP, WebSocket, login with a
//! proof that the server checks (HMAC).
//!
//! At the LeanCloud door the proof is the session token of an earlier login, at the Easemob door the user's
//! token; both are fetched before the load begins. The signature of an app's own back end (`s`, `t`, `n`) is
//! not used: this server takes it without a look (docs/wire/leancloud.md), so it would prove nothing.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures_util::{StreamExt as _, stream};
use posthouse_core::time::Chance as _;
use serde_json::json;

use super::connect::Dial;
use super::lean::Wire;
use super::report;
use super::request_report::RequestReport;
use super::requests::{self, Asker, LoadArgs, Measured};
use super::schedule::Dice;
use super::server::Server;
use super::{Error, Target, check_open_files, progress};
use crate::adapter::SystemChance;
use crate::peer::easemob::{Device, Identity, Rest, SOCKET_PATH};
use crate::peer::{self, Open, Peer};

/// What a login may take at the 99th percentile, for the ladder.
const P99_MS_MAX: f64 = 1_000.0;
/// Logins at once while proofs are fetched.
const PREPARING: usize = 32;

/// The arguments of `posthouse bench logins`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    load: LoadArgs,
    /// Which door.
    #[arg(long, value_enum, default_value_t = Wire::Leancloud)]
    wire: Wire,
    /// Distinct users. When all have logged in, the first comes again.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Logins under way at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// Over TLS, with a certificate made for this run.
    #[arg(long, conflicts_with = "url")]
    tls: bool,
}

/// Somebody with a proof.
#[derive(Clone, Debug)]
pub(super) enum User {
    Leancloud { client: String, token: String },
    Easemob(Identity),
}

/// The users of a run, and how they get in.
pub(super) struct Crowd {
    pub(super) users: Vec<User>,
    app_id: String,
    url: String,
    dial: Dial,
}

/// A logged-in connection.
pub(super) enum Line {
    Leancloud(Box<Peer>, String),
    Easemob(Box<Device>),
}

impl Crowd {
    /// Fetches the proofs of `count` users.
    pub(super) async fn gather(server: &Server, wire: Wire, count: u32) -> Result<Self, Error> {
        let run = SystemChance.bits() >> 32;
        let names: Vec<String> = (0..count).map(|number| format!("login-{run:08x}-{number}")).collect();
        Self::of(server, wire, names).await
    }

    /// Fetches the proofs of these users.
    pub(super) async fn of(server: &Server, wire: Wire, names: Vec<String>) -> Result<Self, Error> {
        let certificate = server.certificate().map(|certificate| certificate.chain.as_path());
        let mut crowd = Self {
            users: Vec::new(),
            app_id: server.app_id.clone(),
            url: server.url.trim_end_matches('/').to_owned(),
            dial: Dial::new(&server.url, certificate)?,
        };
        let bar = progress(names.len() as u64, "proofs");
        let app = match wire {
            Wire::Leancloud => None,
            Wire::Easemob if server.certificate().is_some() => return Err(Error::PlainOnly),
            Wire::Easemob => {
                let door = server.easemob.as_ref().ok_or(Error::OwnServerOnly)?;
                let rest = Rest::new(&server.http(), &door.app_key);
                let token = rest.app_token(&door.client_id, &door.client_secret).await?;
                Some((door.app_key.clone(), rest.with_token(&token)))
            }
        };
        let users = stream::iter((0_u32..).zip(names))
            .map(|(number, name)| {
                let (crowd, app, bar) = (&crowd, &app, &bar);
                async move {
                    let user = match app {
                        None => crowd.session_token(number, name).await,
                        Some((app_key, rest)) => user_token(app_key, rest, name).await,
                    };
                    bar.inc(1);
                    user
                }
            })
            .buffered(PREPARING)
            .collect::<Vec<_>>()
            .await;
        bar.finish_and_clear();
        crowd.users = users.into_iter().collect::<Result<_, _>>()?;
        Ok(crowd)
    }

    async fn session_token(&self, number: u32, client: String) -> Result<User, Error> {
        let fetching = async {
            let mut peer = self.dial.peer(number).await?;
            let opened = peer.open(&self.app_id, &client, Open::default()).await?;
            peer.close(&client).await?;
            opened
                .token
                .ok_or_else(|| peer::Error::Incomplete { what: "session/opened".to_owned(), field: "st" })
        };
        match fetching.await {
            Ok(token) => Ok(User::Leancloud { client, token }),
            Err(source) => Err(Error::NotReady { client, source }),
        }
    }

    /// A new connection, from the `connection`th port, and a login.
    pub(super) async fn login(&self, user: &User, connection: u32) -> Result<Line, peer::Error> {
        match user {
            User::Leancloud { client, token } => {
                let mut peer = self.dial.peer(connection).await?;
                let open = Open { reopen: true, token: Some(token.clone()), ..Open::default() };
                peer.open(&self.app_id, client, open).await?;
                Ok(Line::Leancloud(Box::new(peer), client.clone()))
            }
            User::Easemob(identity) => {
                let stream = self.dial.stream(connection).await?;
                let url = format!("{}{SOCKET_PATH}", self.url);
                let mut device = Device::over(stream, &url, identity.clone()).await?;
                device.enter().await?;
                Ok(Line::Easemob(Box::new(device)))
            }
        }
    }
}

async fn user_token(app_key: &str, app: &Rest, name: String) -> Result<User, Error> {
    let grant = json!({ "grant_type": "inherit", "username": name, "autoCreateUser": true });
    let answer = app.ok("POST", "/token", Some(&grant)).await?;
    Ok(User::Easemob(Identity {
        app_key: app_key.to_owned(),
        resource: format!("webim_web_{name}"),
        token: answer["access_token"].as_str().unwrap_or_default().to_owned(),
        name,
    }))
}

impl Line {
    /// Says goodbye and waits for nothing.
    pub(super) async fn leave(self) -> Result<(), peer::Error> {
        match self {
            Self::Leancloud(mut peer, client) => peer.post_close(&client).await,
            Self::Easemob(device) => device.post_logout().await,
        }
    }
}

/// Runs the workload.
pub(super) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    check_open_files(args.concurrency * 2)?;
    let server =
        if args.tls { Server::own(&args.target, true).await? } else { Server::find(&args.target).await? };
    let crowd = Arc::new(Crowd::gather(&server, args.wire, args.users).await?);
    let next = Arc::new(AtomicU32::new(0));
    let askers: Vec<Guest> = (0..args.concurrency)
        .map(|_| Guest { crowd: Arc::clone(&crowd), next: Arc::clone(&next), line: None })
        .collect();
    let Measured { load, rungs, answers } =
        requests::measure(askers, &args.load, 1, P99_MS_MAX, &server).await?;
    let title = format!(
        "{} users log in through the {} door{}, each on a new connection, {} at once",
        report::grouped(args.users.into()),
        args.wire.name(),
        if args.tls { " over TLS" } else { "" },
        args.concurrency
    );
    let mut result = RequestReport::new("logins", title, &server, load, &["login"], &answers);
    result.details = json!({
        "wire": args.wire.name(), "users": args.users, "concurrency": args.concurrency, "tls": args.tls,
        "proof": match args.wire {
            Wire::Leancloud => "session token, HMAC-SHA256 checked by the server",
            Wire::Easemob => "user token, HMAC-SHA256 checked by the server",
        },
    });
    result.climbed(rungs);
    report::publish(&result, args.target.json.as_deref(), out)
}

/// Takes the place of one user after the other.
struct Guest {
    crowd: Arc<Crowd>,
    next: Arc<AtomicU32>,
    line: Option<Line>,
}

impl Asker for Guest {
    async fn ask(&mut self, _: &mut Dice) -> Result<usize, peer::Error> {
        if let Some(line) = self.line.take() {
            line.leave().await?;
        }
        let number = self.next.fetch_add(1, Relaxed);
        let user = &self.crowd.users[number as usize % self.crowd.users.len()];
        self.line = Some(self.crowd.login(user, number).await?);
        Ok(0)
    }
}
