//! A server in the test's own process: real sockets, real SQLite, a clock that the test moves.

use std::path::Path;
use std::sync::Arc;

use posthouse::apps::{self, Keys};
use posthouse::config::{Config, Flags};
use posthouse::wiring::{Server, World};
use posthouse_core::app::{App, PRESET};
use posthouse_core::time::Timestamp;
use tempfile::TempDir;

use crate::time::{ManualClock, SeededChance};

/// A running server and what belongs to it.
pub struct TestServer {
    /// The server.
    pub server: Server,
    /// Its clock; it stands still until the test moves it.
    pub clock: Arc<ManualClock>,
    /// The app called `test`.
    pub app: App,
    data: Arc<TempDir>,
    flags: Flags,
}

impl TestServer {
    /// Starts a server on a fresh data directory, with an app called `test`.
    pub async fn start() -> Self {
        Self::start_with(Flags::default()).await
    }

    /// As [`Self::start`], with other options.
    pub async fn start_with(flags: Flags) -> Self {
        let data = Arc::new(tempfile::tempdir().expect("a temporary directory can be made"));
        Self::start_on(data, Arc::new(ManualClock::new()), flags).await
    }

    async fn start_on(data: Arc<TempDir>, clock: Arc<ManualClock>, mut flags: Flags) -> Self {
        flags.data = Some(data.path().display().to_string());
        flags.listen = Some("127.0.0.1:0".to_owned());
        flags.admin_listen = Some("127.0.0.1:0".to_owned());
        flags.drain_seconds = Some("1".to_owned());
        let config = Config::load(None, &flags).expect("the test's configuration is good");
        // The seed differs over restarts, as chance does.
        let seed =
            data.path().as_os_str().len() as u64 ^ posthouse_core::time::Clock::now(&*clock).0.unsigned_abs();
        let world = World { clock: clock.clone(), chance: Arc::new(SeededChance::new(seed)), sweeper: false };
        let server = Server::start(&config, world).await.expect("the server starts");
        let store = server.posthouse.store().clone();
        let app = match apps::find(store.as_ref(), "test").await {
            Ok(app) => app,
            Err(_) => {
                let mut app =
                    apps::create(store.as_ref(), "test", &Keys::default()).await.expect("an app can be made");
                // The clock stands still, so that no bucket would ever fill again.
                app.settings.set(PRESET, "unlimited").expect("the preset exists");
                assert_eq!(store.replace_app(app.clone(), &[]).await, Ok(true));
                app
            }
        };
        server.posthouse.reload_apps().await.expect("apps can be read");
        Self { server, clock, app, data, flags }
    }

    /// Stops the server in an orderly way and starts it on the same data.
    pub async fn restart(self) -> Self {
        let (data, clock, flags) = (self.data.clone(), self.clock.clone(), self.flags.clone());
        self.server.stop().await;
        clock.advance_ms(1);
        Self::start_on(data, clock, flags).await
    }

    /// Changes settings of the app called `test`, as `posthouse app set` does.
    pub async fn set(&mut self, changes: &[(&str, &str)]) {
        for (name, value) in changes {
            self.app.settings.set(name, value).expect("the setting exists");
        }
        let replaced = self.server.posthouse.store().replace_app(self.app.clone(), &[]).await;
        assert_eq!(replaced, Ok(true));
        self.server.posthouse.reload_apps().await.expect("apps can be read");
    }

    /// Moves the clock and does what is due then.
    pub async fn pass_ms(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.server.posthouse.sweep().await;
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.server.posthouse.now()
    }

    /// `ws://` address.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("ws://{}/", self.server.address)
    }

    /// `http://` address without a slash at the end.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The app's id on the LeanCloud wire.
    #[must_use]
    pub fn app_id(&self) -> &str {
        self.app.key("leancloud.id").expect("every app has one")
    }

    /// The app's key on the LeanCloud wire.
    #[must_use]
    pub fn app_key(&self) -> &str {
        self.app.key("leancloud.key").expect("every app has one")
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }
}
