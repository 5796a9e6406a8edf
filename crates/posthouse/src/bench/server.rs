//! The server under test: one that runs already, or one of our own, started for this run as a
//! process of its own, so that its CPU and memory can be told from the generator's.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::fill::Filled;
use super::{Error, Target, process};
use crate::adapter::SystemChance;
use crate::peer;

/// How long an own server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// How often it is asked whether it is there.
const START_POLL: Duration = Duration::from_millis(5);
/// The largest page of conversation lists that workloads ask for.
const LIST_COUNT: &str = "conversation_list_default_count=100";

/// Where the load goes.
#[derive(Debug)]
pub(super) struct Server {
    /// The socket's address.
    pub(super) url: String,
    pub(super) app_id: String,
    /// Whose CPU time and memory are measured.
    pub(super) pid: Option<u32>,
    /// The other door of the app, where it is known.
    pub(super) easemob: Option<EasemobDoor>,
    /// Where an own server tells its metrics.
    admin: Option<String>,
    /// In words, for the report.
    pub(super) description: String,
    /// From the start of the own server's process to its first answer.
    pub(super) ready_in: Option<Duration>,
    own: Option<Own>,
}

/// What an Easemob app's back end knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EasemobDoor {
    pub(super) app_key: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
}

impl EasemobDoor {
    /// Random secrets for the app that is `app_id` at the other door.
    pub(super) fn new(app_id: &str) -> Self {
        Self {
            app_key: format!("bench#{app_id}"),
            client_id: SystemChance.text(24),
            client_secret: SystemChance.text(32),
        }
    }
}

/// Ends with its owner.
#[derive(Debug)]
struct Own {
    child: Child,
    launch: Launch,
    /// Removed after the process has ended, therefore the later field.
    _data: Option<TempDir>,
}

/// How to start it, the first time and again.
#[derive(Debug)]
struct Launch {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    admin_port: u16,
    cpu: Option<u32>,
    certificate: Option<Certificate>,
}

/// A certificate that was made for this run.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// The certificate, which clients trust.
    pub(super) chain: PathBuf,
    key: PathBuf,
}

impl Launch {
    fn start(&self) -> Result<Child, Error> {
        let mut command = own_command(&self.program, self.cpu, &self.folder);
        command
            .arg("serve")
            .arg("--data")
            .arg(&self.folder)
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--admin-listen", &format!("127.0.0.1:{}", self.admin_port)])
            .args(["--log", "warn"]);
        if let Some(Certificate { chain, key }) = &self.certificate {
            command.arg("--tls-cert").arg(chain).arg("--tls-key").arg(key);
        }
        command.spawn().map_err(if self.cpu.is_some() { Error::NotPinned } else { Error::OwnServer })
    }

    fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "wss" } else { "ws" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Own {
    /// Waits until health is answered; gives how long it took.
    async fn until_ready(&mut self, started: Instant) -> Result<Duration, Error> {
        let admin = format!("http://127.0.0.1:{}", self.launch.admin_port);
        loop {
            let error = match peer::http_get(&admin, "/health", &[]).await {
                Ok((200, _)) => return Ok(started.elapsed()),
                Ok((status, _)) => peer::Error::Http { url: admin.clone(), status, body: String::new() },
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait().map_err(Error::OwnServer)? {
                return Err(Error::OwnServerSaid(format!("it ended at once: {status}")));
            }
            if started.elapsed() >= START_TIME_MAX {
                return Err(error.into());
            }
            sleep(START_POLL).await;
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait().map(drop)) {
            tracing::warn!(%error, "the bench server could not be stopped");
        }
    }
}

impl Server {
    /// The server that `target` names, or an own one if it names none.
    ///
    /// Puts this process on its CPU as well, if one is wished: after the own server has begun, which
    /// would otherwise inherit it.
    pub(super) async fn find(target: &Target) -> Result<Self, Error> {
        let server = match (&target.url, &target.app_id) {
            (Some(url), Some(app_id)) => Self {
                url: peer::route(url, app_id).await?,
                app_id: app_id.clone(),
                pid: target.server_pid,
                easemob: None,
                admin: None,
                description: format!("the server at {url}"),
                ready_in: None,
                own: None,
            },
            (Some(_), None) => return Err(Error::NoApp),
            (None, _) => return Self::own(target, false).await,
        };
        stay(target)?;
        Ok(server)
    }

    /// A server of our own, for workloads that fill or restart it; with TLS, if asked for.
    pub(super) async fn own(target: &Target, tls: bool) -> Result<Self, Error> {
        if target.url.is_some() {
            return Err(Error::OwnServerOnly);
        }
        let server = Self::start(target, tls).await?;
        stay(target)?;
        Ok(server)
    }

    /// A server of our own, which ends when this value is dropped. A data directory that `bench fill` made
    /// is taken with its app.
    async fn start(target: &Target, tls: bool) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(Error::OwnServer)?;
        let (folder, temporary) = match &target.data {
            Some(folder) => (folder.clone(), None),
            None => {
                let temporary = tempfile::tempdir().map_err(Error::OwnServer)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        fs::create_dir_all(&folder).map_err(Error::OwnServer)?;
        let folder = folder.canonicalize().map_err(Error::OwnServer)?;
        let (app_id, door) = match Filled::read(&folder)? {
            Some(filled) => (filled.app_id, filled.easemob),
            None => {
                let app_id = format!("bench-{}", SystemChance.text(16));
                let door = EasemobDoor::new(&app_id);
                create_app(&program, &folder, &app_id, &door)?;
                (app_id, door)
            }
        };
        let launch = Launch {
            port: free_port().map_err(Error::OwnServer)?,
            admin_port: free_port().map_err(Error::OwnServer)?,
            cpu: target.own_server_cpu(),
            certificate: tls.then(|| make_certificate(&folder)).transpose()?,
            program,
            folder,
        };
        let started = Instant::now();
        let child = launch.start()?;
        let pid = child.id();
        let pinned = launch.cpu.map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
        let mut server = Self {
            url: launch.url(),
            app_id,
            pid: Some(pid),
            easemob: Some(door),
            admin: Some(format!("http://127.0.0.1:{}", launch.admin_port)),
            description: format!("own server{pinned}, data on {}", disk(&launch.folder)),
            ready_in: None,
            own: Some(Own { child, launch, _data: temporary }),
        };
        server.until_ready(started).await?;
        Ok(server)
    }

    async fn until_ready(&mut self, started: Instant) -> Result<(), Error> {
        let own = self.own.as_mut().ok_or(Error::OwnServerOnly)?;
        self.ready_in = Some(own.until_ready(started).await?);
        Ok(())
    }

    /// Kills the own server (`kill -9`), as a crash would.
    pub(super) fn kill(&mut self) -> Result<(), Error> {
        let own = self.own.as_mut().ok_or(Error::OwnServerOnly)?;
        own.child.kill().and_then(|()| own.child.wait().map(drop)).map_err(Error::OwnServer)
    }

    /// Starts the killed server again, on the same port; [`Self::ready_in`] tells how long it took.
    pub(super) async fn start_again(&mut self) -> Result<(), Error> {
        let own = self.own.as_mut().ok_or(Error::OwnServerOnly)?;
        let started = Instant::now();
        own.child = own.launch.start()?;
        self.pid = Some(own.child.id());
        self.until_ready(started).await
    }

    /// The own server's data directory.
    pub(super) fn data(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.launch.folder.as_path())
    }

    /// What clients have to trust, where the own server speaks TLS.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.own.as_ref()?.launch.certificate.as_ref()
    }

    /// The address for HTTP.
    pub(super) fn http(&self) -> String {
        self.url.replacen("ws", "http", 1).trim_end_matches('/').to_owned()
    }

    /// The echo server of `floor`: nobody's app, but a process that can be measured.
    pub(super) fn echo(url: &str, pid: u32, target: &Target) -> Result<Self, Error> {
        stay(target)?;
        let pinned = target.own_server_cpu().map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
        Ok(Self {
            url: url.to_owned(),
            app_id: String::new(),
            pid: Some(pid),
            easemob: None,
            admin: None,
            description: format!("echo server{pinned}"),
            ready_in: None,
            own: None,
        })
    }

    /// None that can be asked anything, for tests of the generator alone.
    #[cfg(test)]
    pub(super) fn unknown() -> Self {
        Self {
            url: String::new(),
            app_id: String::new(),
            pid: None,
            easemob: None,
            admin: None,
            description: String::new(),
            ready_in: None,
            own: None,
        }
    }

    /// Whether it was started for this run.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// How many connections the server has ended so far, by its reason; empty if it does not tell.
    pub(super) async fn closes(&self) -> BTreeMap<String, u64> {
        let Some(admin) = &self.admin else { return BTreeMap::new() };
        match peer::http_get(admin, "/metrics", &[]).await {
            Ok((200, body)) => closes(&String::from_utf8_lossy(&body)),
            Ok(_) | Err(_) => BTreeMap::new(),
        }
    }

    /// CPU time, memory and bytes written, where they can be read.
    pub(super) fn usage(&self) -> Option<process::Usage> {
        process::usage(self.pid?)
    }
}

/// Puts the load generator on its CPU.
fn stay(target: &Target) -> Result<(), Error> {
    match target.generator_cpu() {
        Some(cpu) => process::pin(std::process::id(), cpu).map_err(Error::NotPinned),
        None => Ok(()),
    }
}

/// Our own program, out of reach of the configuration file that lies where we were started.
fn own_command(program: &Path, cpu: Option<u32>, folder: &Path) -> Command {
    let mut command = process::on_cpu(program, cpu);
    command.current_dir(folder).env_remove("POSTHOUSE_CONFIG").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn create_app(program: &Path, folder: &Path, app_id: &str, door: &EasemobDoor) -> Result<(), Error> {
    let mut create = own_command(program, None, folder);
    create
        .args(["app", "create", app_id, "--leancloud-id", app_id])
        .args(["--leancloud-key", &SystemChance.text(24), "--easemob-appkey", &door.app_key])
        .args(["--easemob-client-id", &door.client_id, "--easemob-client-secret", &door.client_secret])
        .arg("--data")
        .arg(folder);
    finish(create)?;
    // Lists are filled by REST, because one call reaches hundreds, and few clients do the work of many.
    let mut set = own_command(program, None, folder);
    set.args([
        "app",
        "set",
        app_id,
        "rest_messages_in_conversation_list=write",
        "preset=unlimited",
        LIST_COUNT,
    ])
    .arg("--data")
    .arg(folder);
    finish(set)
}

/// Runs a command to its end.
fn finish(mut command: Command) -> Result<(), Error> {
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(Error::OwnServer)?;
    let mut said = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut said).map_err(Error::OwnServer)?;
    }
    let status = child.wait().map_err(Error::OwnServer)?;
    if status.success() { Ok(()) } else { Err(Error::OwnServerSaid(said.trim().to_owned())) }
}

fn closes(metrics: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (reason, count) =
            line.strip_prefix(r#"posthouse_closes_total{reason=""#)?.split_once(r#""} "#)?;
        Some((reason.to_owned(), count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(line).collect()
}

/// A certificate for 127.0.0.1, of the curve that phones get too. Made by the `openssl` program, so that
/// ours carries no code for it.
fn make_certificate(folder: &Path) -> Result<Certificate, Error> {
    let certificate = Certificate { chain: folder.join("bench-cert.pem"), key: folder.join("bench-key.pem") };
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "30", "-subj", "/CN=posthouse bench", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&certificate.key)
        .arg("-out")
        .arg(&certificate.chain)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    finish(command)?;
    Ok(certificate)
}

/// A port that was free a moment ago. Another process could take it before our server does; then
/// the run ends with a clear message and is started again.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn disk(folder: &Path) -> String {
    match process::file_system(folder).as_deref() {
        Some("tmpfs" | "ramfs") => {
            "a memory disk, where fsync costs nothing: compare with nothing, or choose --data".to_owned()
        }
        Some(kind) => kind.to_owned(),
        None => "an unknown file system".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_read_by_their_reason() {
        let metrics = "# TYPE posthouse_closes_total counter\n\
                       posthouse_closes_total{reason=\"slow\"} 12\n\
                       posthouse_closes_total{reason=\"idle\"} 3\n\
                       posthouse_frames_in_total 9\n";
        let expected = BTreeMap::from([("idle".to_owned(), 3), ("slow".to_owned(), 12)]);
        assert_eq!(closes(metrics), expected);
    }
}
