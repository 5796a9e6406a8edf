//! The server under test: one that runs already, or one of our own, started for this run as a
//! process of its own, so that its CPU and memory can be told from the generator's.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Error, Target, process};
use crate::adapter::SystemChance;
use crate::peer;

/// How long an own server may take until it answers.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// How often it is asked whether it is there.
const START_POLL: Duration = Duration::from_millis(50);

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
    own: Option<Own>,
}

/// What an Easemob app's back end knows.
#[derive(Debug)]
pub(super) struct EasemobDoor {
    pub(super) app_key: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
}

/// Ends with its owner.
#[derive(Debug)]
struct Own {
    child: Child,
    /// Removed after the process has ended, therefore the later field.
    _data: Option<TempDir>,
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
                own: None,
            },
            (Some(_), None) => return Err(Error::NoApp),
            (None, _) => Self::start(target).await?,
        };
        if let Some(cpu) = target.generator_cpu() {
            process::pin(std::process::id(), cpu).map_err(Error::NotPinned)?;
        }
        Ok(server)
    }

    /// A server of our own, which ends when this value is dropped.
    async fn start(target: &Target) -> Result<Self, Error> {
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
        let app_id = format!("bench-{}", SystemChance.text(16));
        let door = EasemobDoor {
            app_key: format!("bench#{app_id}"),
            client_id: SystemChance.text(24),
            client_secret: SystemChance.text(32),
        };
        create_app(&program, &folder, &app_id, &door)?;

        let port = free_port().map_err(Error::OwnServer)?;
        let admin_port = free_port().map_err(Error::OwnServer)?;
        let child = own_command(&program, target.own_server_cpu(), &folder)
            .arg("serve")
            .arg("--data")
            .arg(&folder)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .args(["--log", "warn"])
            .spawn()
            .map_err(if target.own_server_cpu().is_some() { Error::NotPinned } else { Error::OwnServer })?;
        let pid = child.id();
        let mut own = Own { child, _data: temporary };

        let http = format!("http://127.0.0.1:{port}");
        let url = until_ready(&mut own.child, &http, &app_id).await?;
        Ok(Self {
            url,
            app_id,
            pid: Some(pid),
            easemob: Some(door),
            admin: Some(format!("http://127.0.0.1:{admin_port}")),
            description: format!("own server, process {pid}, data on {}", disk(&folder)),
            own: Some(own),
        })
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
        .args(["--easemob-client-id", &door.client_id, "--easemob-client-secret", &door.client_secret]);
    finish(create, folder)?;
    // Lists are filled by REST, because one call reaches hundreds, and few clients do the work of many.
    let mut set = own_command(program, None, folder);
    set.args(["app", "set", app_id, "rest_messages_in_conversation_list=write", "preset=unlimited"]);
    finish(set, folder)
}

/// Runs a command on the data directory to its end.
fn finish(mut command: Command, folder: &Path) -> Result<(), Error> {
    let mut child =
        command.arg("--data").arg(folder).stderr(Stdio::piped()).spawn().map_err(Error::OwnServer)?;
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

/// Waits until the router answers; gives the socket's address.
async fn until_ready(child: &mut Child, http: &str, app_id: &str) -> Result<String, Error> {
    let deadline = Instant::now() + START_TIME_MAX;
    loop {
        let error = match peer::route(http, app_id).await {
            Ok(url) => return Ok(url),
            Err(error) => error,
        };
        if let Some(status) = child.try_wait().map_err(Error::OwnServer)? {
            return Err(Error::OwnServerSaid(format!("it ended at once: {status}")));
        }
        if Instant::now() >= deadline {
            return Err(error.into());
        }
        sleep(START_POLL).await;
    }
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
