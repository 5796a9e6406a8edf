//! The simulated world: one server with everything in it, clients, and a scheduler that decides who goes
//! on next.
//!
//! Nothing runs by itself. Connections of the server are futures that are polled here, the store's threads
//! take what they are told to and rest ([`Pace::Stepped`]), both clocks stand still until an act moves
//! them. Each step draws one of those that could go on, so the seed decides every interleaving.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use posthouse::adapter::FileBlobs;
use posthouse_core::Posthouse;
use posthouse_core::app::{App, PRESET, Settings};
use posthouse_core::id::{AppId, ConversationId};
use posthouse_core::idgen::IdGen;
use posthouse_core::port::store::Store;
use posthouse_core::time::{Clock as _, Timestamp};
use posthouse_easemob::Easemob;
use posthouse_leancloud::LeanCloud;
use posthouse_store::{Lane, OpenOptions, Pace, SqliteStore};
use posthouse_transport::{Drain, Limits};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::device::{Device, Door, Flag};
use super::model::{Broken, Model};
use super::pipe::pipe;
use super::plan::Dice;
use super::watch::{Log, Watched};
use crate::time::{ManualClock, SeededChance};

/// The app's id at the LeanCloud door.
pub(super) const LEANCLOUD_ID: &str = "simulated";
/// The app's key at the Easemob door.
pub(super) const EASEMOB_KEY: &str = "sim#talk";
const EASEMOB_PATH: &str = "/sim/talk";
const CLIENT_ID: &str = "sim-client";
const CLIENT_SECRET: &str = "sim-secret";

/// Pushes that may wait for one connection: few, so that slow readers are found out.
const PUSHES_MAX: usize = 24;
/// Steps after which a world that was left alone is taken to go round in circles.
const RESTLESS: usize = 400_000;
/// The longest answer over REST.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Who takes part, and on which devices.
pub type Cast = Vec<(String, Door, Vec<String>)>;

/// A server's life.
struct Server {
    store: Arc<SqliteStore>,
    log: Arc<Log>,
    posthouse: Arc<Posthouse>,
    leancloud: Arc<LeanCloud>,
    easemob: Arc<Easemob>,
    rest: axum::Router,
    drain: Drain,
}

/// A future of the server.
struct Task {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    flag: Arc<Flag>,
}

/// Where a future leaves what came of it.
type Slot<T> = Arc<Mutex<Option<T>>>;

/// The world.
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) dice: Dice,
    pub(super) model: Model,
    pub(super) devices: Vec<Device>,
    pub(super) tokens: BTreeMap<String, String>,
    /// The times of members' read marks as others were last told, by when the member came.
    pub(super) marks: BTreeMap<(ConversationId, String, u64), i64>,
    pub(super) steps: u64,
    pub(super) restarts: u64,
    /// A fingerprint of every choice so far.
    pub(super) trace: u64,
    home: TempDir,
    dir: PathBuf,
    lives: u64,
    seed: u64,
    server: Option<Server>,
    tasks: BTreeMap<u64, Task>,
    last_task: u64,
}

/// One thing that could go on.
#[derive(Clone, Copy)]
enum Choice {
    Task(u64),
    Device(usize),
    Lane(Lane),
}

impl World {
    /// A world with a server and nobody connected. What `cast` needs to log in is made.
    pub(super) fn new(seed: u64, cast: &Cast) -> Result<Self, Broken> {
        // Nothing here has to survive the machine, so memory will do for a disk.
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let home = home.map_err(broken)?;
        let mut world = Self {
            clock: Arc::new(ManualClock::new()),
            dice: Dice::new(seed ^ 0x5EED),
            model: Model::default(),
            devices: Vec::new(),
            tokens: BTreeMap::new(),
            marks: BTreeMap::new(),
            steps: 0,
            restarts: 0,
            trace: 0,
            dir: home.path().join("0"),
            home,
            lives: 0,
            seed,
            server: None,
            tasks: BTreeMap::new(),
            last_task: 0,
        };
        world.start()?;
        world.found_app()?;
        for (person, door, names) in cast {
            let (app, token) = match door {
                Door::LeanCloud => (LEANCLOUD_ID, String::new()),
                Door::Easemob => (EASEMOB_KEY, world.register(person)?),
            };
            for name in names {
                let index = world.devices.len();
                world.devices.push(Device::new(index, person, name, *door, app, &token));
            }
            world.tokens.insert(person.clone(), token);
        }
        Ok(world)
    }

    /// The time on the server's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    // ---- the server's life ----------------------------------------------------------------------------

    fn start(&mut self) -> Result<(), Broken> {
        let ids = Arc::new(IdGen::new(0));
        let usual = OpenOptions::new(self.clock.clone(), Arc::clone(&ids));
        // Every message indexed at once, a few late, or as many as usual.
        let tail_max = [0, 3, usual.tail_max][(self.seed % 3) as usize];
        let options = OpenOptions { pace: Pace::Stepped, tail_max, ..usual };
        let store = Arc::new(SqliteStore::open(&self.dir, options).map_err(broken)?);
        let log = Log::of(&self.dir);
        let watched: Arc<dyn Store> = Arc::new(Watched::new(Arc::clone(&store), Arc::clone(&log)));
        // Chance differs from life to life, as it does between starts of a program.
        let chance = Arc::new(SeededChance::new(self.seed ^ (self.lives << 32)));
        let readers = [LeanCloud::readers(), posthouse_easemob::readers()].concat();
        let posthouse = Arc::new(Posthouse::new(watched, self.clock.clone(), chance, ids, readers));
        let drain = Drain::new();
        // Pushes that wait for a timer would keep the world from coming to rest.
        let limits = Limits { queue: PUSHES_MAX, hold: Duration::ZERO, ..Limits::default() };
        let key = [7; 32];
        let leancloud = LeanCloud::new(Arc::clone(&posthouse), key, limits.clone(), drain.signal());
        let blobs = Arc::new(FileBlobs::new(&self.dir));
        let easemob = Easemob::new(Arc::clone(&posthouse), key, blobs, limits, drain.signal());
        let rest = easemob.router();
        self.server =
            Some(Server { store, log, posthouse: Arc::clone(&posthouse), leancloud, easemob, rest, drain });
        let reloaded = self.finish(async move { posthouse.reload_apps().await })?;
        reloaded.map(drop).map_err(broken)
    }

    fn found_app(&mut self) -> Result<(), Broken> {
        let keys = [
            ("leancloud.id", LEANCLOUD_ID),
            ("leancloud.key", "key"),
            ("leancloud.master_key", "master"),
            ("easemob.appkey", EASEMOB_KEY),
            ("easemob.client_id", CLIENT_ID),
            ("easemob.client_secret", CLIENT_SECRET),
        ];
        let mut settings = Settings::default();
        // What the devices say in a plan takes the simulated clock no time.
        settings.set(PRESET, "unlimited").map_err(broken)?;
        let app = App {
            id: AppId::parse("sim").map_err(broken)?,
            name: "sim".to_owned(),
            keys: keys.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            settings,
            created_at: self.now(),
        };
        let posthouse = self.posthouse()?;
        let made = self.finish(async move {
            posthouse.store().add_app(app, &[]).await?;
            posthouse.reload_apps().await
        })?;
        made.map(drop).map_err(broken)
    }

    /// Makes an account, whose token this is.
    fn register(&mut self, person: &str) -> Result<String, Broken> {
        let grant = json!({"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET});
        let back_end = self.token(None, &grant)?;
        let grant = json!({"grant_type": "inherit", "username": person, "autoCreateUser": true});
        self.token(Some(&back_end), &grant)
    }

    fn token(&mut self, bearer: Option<&str>, grant: &Value) -> Result<String, Broken> {
        let (status, answer) = self.call("POST", "/token", bearer, Some(grant))?;
        let token = answer["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| format!("no token: {status} {answer}"))
    }

    fn posthouse(&self) -> Result<Arc<Posthouse>, Broken> {
        self.server.as_ref().map(|server| Arc::clone(&server.posthouse)).ok_or_else(|| "no server".to_owned())
    }

    /// The server dies on the spot and comes back. What it had accepted and not committed is lost, and so
    /// is every word that was still on its way. The disk is as the operating system has it, with the log
    /// of the database not yet brought home.
    pub(super) fn crash(&mut self) -> Result<(), Broken> {
        let Some(server) = self.server.take() else { return Ok(()) };
        server.log.end();
        self.lives += 1;
        let next = self.home.path().join(self.lives.to_string());
        copy(&self.dir, &next).map_err(broken)?;
        self.bury(server)?;
        self.dir = next;
        self.start()
    }

    /// The server commits what waits for it, tells nobody, dies and comes back.
    pub(super) fn crash_untold(&mut self) -> Result<(), Broken> {
        if let Some(server) = &self.server {
            server.log.hush();
            let waiting = server.store.queued(Lane::Write);
            self.write(waiting)?;
        }
        self.crash()
    }

    /// The server is stopped in order and comes back on the same directory.
    pub(super) async fn restart(&mut self) -> Result<(), Broken> {
        let posthouse = self.posthouse()?;
        if let Some(server) = &self.server {
            server.drain.begin(Duration::from_secs(1));
        }
        self.rest_until(|_| false)?;
        tokio::time::advance(Duration::from_secs(3)).await;
        self.rest_until(|_| false)?;
        self.finish(async move { posthouse.store().close().await })?.map_err(broken)?;
        let Some(server) = self.server.take() else { return Ok(()) };
        self.lives += 1;
        let dir = self.dir.clone();
        self.bury(server)?;
        // What a dead server leaves is put away; this one's directory is to live on.
        self.dir = self.home.path().join(self.lives.to_string());
        copy(&dir, &self.dir).map_err(broken)?;
        self.start()
    }

    fn bury(&mut self, server: Server) -> Result<(), Broken> {
        self.restarts += 1;
        self.tasks.clear();
        drop(server);
        for device in &mut self.devices {
            device.drop_link();
        }
        Ok(())
    }

    // ---- what goes on ---------------------------------------------------------------------------------

    /// Opens a connection for a device, which logs in.
    pub(super) fn connect(&mut self, device: usize) {
        let Some(server) = &self.server else { return };
        let (near, far, scissors) = pipe();
        let (leancloud, easemob) = (Arc::clone(&server.leancloud), Arc::clone(&server.easemob));
        match self.devices[device].door {
            Door::LeanCloud => self.spawn(async move { leancloud.serve_stream(far).await }),
            Door::Easemob => self.spawn(async move { easemob.serve_stream(far).await }),
        };
        self.devices[device].connect(near, scissors);
    }

    fn spawn(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.last_task += 1;
        self.tasks.insert(self.last_task, Task { future: Box::pin(future), flag: Flag::raised() });
    }

    /// Begins a call over REST; the answer comes into the slot.
    pub(super) fn begin_call(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Slot<(u16, Value)>, Broken> {
        let mut request = Request::builder().method(method).uri(format!("{EASEMOB_PATH}{path}"));
        request = request.header(header::HOST, "sim").header(header::CONTENT_TYPE, "application/json");
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).map_err(broken)?;
        let router = self.server.as_ref().map(|server| server.rest.clone()).ok_or("no server")?;
        let slot = Slot::default();
        let filled = Arc::clone(&slot);
        self.spawn(async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status().as_u16();
            let bytes = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.unwrap_or_default();
            let value = serde_json::from_slice(&bytes).unwrap_or_default();
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some((status, value));
        });
        Ok(slot)
    }

    /// A call over REST and its answer; the world goes on meanwhile.
    pub(super) fn call(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Broken> {
        let slot = self.begin_call(method, path, bearer, body)?;
        self.rest_until(|_| is_filled(&slot))?;
        taken(&slot).ok_or_else(|| format!("{method} {path} was never answered"))
    }

    /// What comes of a future of the server; the world goes on meanwhile.
    pub(super) fn finish<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Broken> {
        let slot = Slot::default();
        let filled = Arc::clone(&slot);
        self.spawn(async move {
            let outcome = future.await;
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        });
        self.rest_until(|_| is_filled(&slot))?;
        taken(&slot).ok_or_else(|| "something on the server never ended".to_owned())
    }

    /// Does what is due by the clock, as the sweeper does.
    pub(super) fn sweep(&mut self, thorough: bool) -> Result<(), Broken> {
        let posthouse = self.posthouse()?;
        self.spawn(async move {
            posthouse.sweep().await;
            let mut outcomes = vec![posthouse.flush_positions().await.map(drop)];
            if thorough {
                outcomes.push(posthouse.forget_expired().await.map(drop));
                outcomes.push(posthouse.forget_deleted().await.map(drop));
            }
            // A store that is closing says so; who waits for it finds out what is missing.
            drop(outcomes);
        });
        Ok(())
    }

    /// Lets time pass: on the server's clock all of it, on the connections' timers no more than a quiet
    /// client may be silent for.
    pub(super) async fn pass(&mut self, ms: u32) -> Result<(), Broken> {
        self.clock.advance_ms(i64::from(ms));
        tokio::time::advance(Duration::from_millis(u64::from(ms.min(20_000)))).await;
        self.sweep(ms > 10_000)
    }

    /// Goes on until `enough`, or until nobody can go on.
    pub(super) fn rest_until(&mut self, enough: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        for _ in 0..RESTLESS {
            if enough(self) || !self.step()? {
                return Ok(());
            }
        }
        Err(format!("the world does not come to rest within {RESTLESS} steps"))
    }

    /// Lets one of those that can go on do so. `false` if nobody can.
    pub(super) fn step(&mut self) -> Result<bool, Broken> {
        let ready = self.tasks.iter().filter(|(_, task)| task.flag.is_raised());
        let mut choices: Vec<Choice> = ready.map(|(id, _)| Choice::Task(*id)).collect();
        choices.extend(
            self.devices.iter().filter(|device| device.is_ready()).map(|device| Choice::Device(device.index)),
        );
        if let Some(server) = &self.server {
            let lanes = [Lane::Write, Lane::Read, Lane::Search].into_iter();
            choices.extend(lanes.filter(|lane| server.store.queued(*lane) > 0).map(Choice::Lane));
        }
        if choices.is_empty() {
            return Ok(false);
        }
        self.steps += 1;
        let chosen = self.dice.below(choices.len());
        let taken = self.devices.iter().fold(0, |all: u64, device| all.rotate_left(9) ^ device.bytes);
        let mixed = self.trace.rotate_left(5) ^ taken ^ ((choices.len() * 64 + chosen) as u64);
        self.trace = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        match choices[chosen] {
            Choice::Task(id) => self.poll(id),
            Choice::Device(index) => {
                let now = self.now();
                self.devices[index].poll(&mut self.model, now)?;
            }
            Choice::Lane(Lane::Write) => {
                let queued = self.server.as_ref().map_or(0, |server| server.store.queued(Lane::Write));
                let batch = 1 + self.dice.below(queued);
                self.write(batch)?;
            }
            Choice::Lane(lane) => {
                if let Some(server) = &self.server {
                    server.store.step(lane, 1);
                }
            }
        }
        Ok(true)
    }

    fn poll(&mut self, id: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.flag.lower();
        let waker = Waker::from(Arc::clone(&task.flag));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks.remove(&id);
        }
    }

    /// Writes a batch and takes in what was committed.
    fn write(&mut self, batch: usize) -> Result<(), Broken> {
        let now = self.now();
        let Some(server) = &self.server else { return Ok(()) };
        server.log.batch_begins();
        server.store.step(Lane::Write, batch);
        if let Some(fault) = server.log.take_faults().into_iter().next() {
            return Err(fault);
        }
        for record in server.log.take() {
            self.model.commit(record, now)?;
        }
        Ok(())
    }

    /// Everything the store says of itself that a plain count contradicts.
    pub(super) fn audit(&self) -> Result<(), Broken> {
        let differences = posthouse_store::audit(&self.dir).map_err(broken)?;
        if differences.is_empty() { Ok(()) } else { Err(format!("the audit found {differences:#?}")) }
    }
}

fn is_filled<T>(slot: &Slot<T>) -> bool {
    slot.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn taken<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// An error in words.
pub(super) fn broken(error: impl std::fmt::Display) -> Broken {
    error.to_string()
}

/// Copies a data directory as a dead process leaves it: with the logs of the databases, without the
/// memory that processes share about them.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)?;
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
