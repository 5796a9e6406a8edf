//! Composition: the one place that knows every part and joins them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use posthouse_core::Posthouse;
use posthouse_core::idgen::IdGen;
use posthouse_core::time::{Chance, Clock};
use posthouse_easemob::Easemob;
use posthouse_leancloud::LeanCloud;
use posthouse_store::{OpenError, OpenOptions, SqliteStore};
use posthouse_transport::http::{cors, error_body, error_json, json, json_errors};
use posthouse_transport::{
    Drain, Limits, Listener, ServeSettings, TlsConfig, TlsConfigError, WebSocketUpgrade,
};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::adapter::{FileBlobs, SystemChance, SystemClock, metrics};
use crate::config::Config;
use crate::{secrets, sweeper};

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store can't be read.
    #[error("the store can't be read: {0}")]
    Read(#[from] posthouse_core::Error),
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The data directory or its secret.
    #[error("the data directory {dir}: {source}")]
    Data {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address is taken or not ours.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Where time and chance come from; tests pass their own.
#[derive(Clone)]
pub struct World {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The randomness.
    pub chance: Arc<dyn Chance>,
    /// Whether to run the sweeper; tests that move the clock by hand sweep by hand too.
    pub sweeper: bool,
}

impl Default for World {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), chance: Arc::new(SystemChance), sweeper: true }
    }
}

/// A running server.
pub struct Server {
    /// The domain.
    pub posthouse: Arc<Posthouse>,
    /// Where apps connect.
    pub address: SocketAddr,
    /// Where operators look.
    pub admin_address: SocketAddr,
    /// Whether apps connect over TLS.
    pub secure: bool,
    drain: Drain,
    drain_grace: Duration,
    tasks: JoinSet<()>,
}

impl Server {
    /// Opens the store and both ports. When this returns, clients can connect.
    pub async fn start(config: &Config, world: World) -> Result<Self, StartError> {
        metrics::recorder();
        let data_error = |source| StartError::Data { dir: config.data.clone(), source };
        let token_key = secrets::token_key(&config.data).map_err(data_error)?;
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(TlsConfig::from_files(cert, key)?),
            _ => None,
        };
        let ids = Arc::new(IdGen::new(0));
        let store = SqliteStore::open(&config.data, OpenOptions::new(world.clock.clone(), ids.clone()))?;
        let readers = [LeanCloud::readers(), posthouse_easemob::readers()].concat();
        let posthouse = Arc::new(Posthouse::new(Arc::new(store), world.clock, world.chance, ids, readers));
        posthouse.reload_apps().await?;
        let blobs = Arc::new(FileBlobs::new(&config.data));

        let drain = Drain::new();
        let leancloud = LeanCloud::new(posthouse.clone(), token_key, limits(config), drain.signal());
        let easemob = Easemob::new(posthouse.clone(), token_key, blobs, limits(config), drain.signal());
        let secure = tls.is_some();
        let listen_error = |address| move |source| StartError::Listen { address, source };
        let door = Listener::bind(config.listen, tls).await.map_err(listen_error(config.listen))?;
        let admin =
            Listener::bind(config.admin_listen, None).await.map_err(listen_error(config.admin_listen))?;
        let (address, admin_address) = (door.local_addr(), admin.local_addr());
        let settings = ServeSettings {
            max_connections: config.connections_max as usize,
            trusted_proxies: Arc::new(config.trusted_proxies.clone()),
            ..ServeSettings::default()
        };
        let admin_settings =
            ServeSettings { max_connections: ADMIN_CONNECTIONS_MAX, ..ServeSettings::default() };
        let mut tasks = JoinSet::new();
        tasks.spawn(door.serve(door_routes(&leancloud, &easemob), settings, drain.signal()));
        tasks.spawn(admin.serve(admin_routes(), admin_settings, drain.signal()));
        if world.sweeper {
            tasks.spawn(sweeper::run(posthouse.clone()));
        }
        let drain_grace = Duration::from_secs(u64::from(config.drain_seconds));
        Ok(Self { posthouse, address, admin_address, secure, drain, drain_grace, tasks })
    }

    /// The URL that apps are given.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// Drains: tells clients to move away, gives them the grace time, waits until everything
    /// accepted is on disk.
    pub async fn stop(mut self) {
        self.drain.begin(self.drain_grace);
        let all_left = self.drain.finished(self.drain_grace + DRAIN_MARGIN).await;
        if !all_left {
            tracing::warn!(open = self.drain.open(), "connections were still open when the server stopped");
        }
        self.tasks.shutdown().await;
        if let Err(error) = self.posthouse.store().close().await {
            tracing::error!(%error, "the store could not be closed");
        }
    }
}

/// Operators and their scrapers; a bound because every listener has one.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// What closing sockets may take beyond the grace time.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

fn limits(config: &Config) -> Limits {
    Limits {
        login_timeout: Duration::from_secs(u64::from(config.login_timeout_seconds)),
        idle_timeout: Duration::from_secs(u64::from(config.idle_timeout_seconds)),
        frame_before_login: config.frame_bytes_before_login as usize,
        frame_max: config.frame_bytes_max as usize,
        frames_per_second: config.frames_per_second_max,
        queue: config.push_queue_max as usize,
        queue_bytes: config.push_queue_bytes_max as usize,
        ..Limits::default()
    }
}

/// One port for everything apps do. Whoever asks for a WebSocket gets Easemob's at its path and
/// LeanCloud's at any other, so sockets are looked for before REST routes, some of which match nearly any
/// path.
fn door_routes(leancloud: &Arc<LeanCloud>, easemob: &Arc<Easemob>) -> Router {
    let nothing = async || error_json(StatusCode::NOT_FOUND, "there is nothing at this address");
    let rest = leancloud
        .router()
        .merge(easemob.router())
        .route("/health", get(health))
        .fallback(nothing)
        .layer(json_errors(error_body));
    let doors = (leancloud.clone(), easemob.clone(), rest);
    Router::new()
        .fallback(move |upgrade: Option<WebSocketUpgrade>, headers: HeaderMap, uri: Uri, request: Request| {
            let (leancloud, easemob, rest) = doors.clone();
            async move {
                match upgrade {
                    Some(upgrade) if Easemob::is_socket_path(uri.path()) => easemob.upgrade(upgrade),
                    Some(upgrade) => leancloud.upgrade(upgrade, &headers, &uri),
                    None => rest.oneshot(request).await.into_response(),
                }
            }
        })
        .layer(cors())
        .layer(json_errors(error_body))
}

fn admin_routes() -> Router {
    Router::new()
        .route("/health", get(health))
        .route(
            "/metrics",
            get(async || ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], metrics::render())),
        )
        .fallback(async || error_json(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .layer(json_errors(error_body))
}

async fn health() -> Response {
    json(StatusCode::OK, &serde_json::json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
        .into_response()
}
