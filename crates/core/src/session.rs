//! Sessions: one logged-in client on one device.

use std::sync::Arc;

use crate::app::App;
use crate::event::Bulletin;
use crate::id::{ClientId, DeviceId, SessionId, Tag};

/// The wish to log in. The gateway has checked the credentials.
pub struct OpenSession {
    /// The tenant.
    pub app: Arc<App>,
    /// Who.
    pub client: ClientId,
    /// On which device; without one, this connection counts as a device of its own.
    pub device: Option<DeviceId>,
    /// The slot that only one device may hold at a time.
    pub tag: Option<Tag>,
    /// Whether this resumes an earlier login: it then yields to a device that holds the tag now,
    /// instead of displacing it.
    pub resume: bool,
    /// How many devices of one sort may be online; the one that came first gives way.
    pub crowd: Option<Crowd>,
    /// What to tell a session that this one ends.
    pub note: Option<Arc<str>>,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
}

/// Devices of one sort, of which a client may have so many online.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crowd {
    /// The sort.
    pub platform: Tag,
    /// How many; 0 is any number.
    pub max: usize,
}

/// A live session's way out. Implemented by gateways on the connection's bounded queue.
pub trait Sink: Send + Sync + 'static {
    /// Hands over an event without waiting. `false` when the queue is full or gone: the connection
    /// is closed for being slow, and the client catches up from the timeline when it returns.
    fn try_push(&self, session: SessionId, event: Arc<Bulletin>) -> bool;
}

/// Who is calling: proof of an open session.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant.
    pub app: Arc<App>,
    /// The client.
    pub client: ClientId,
    /// The session, or [`SessionId::NONE`].
    pub session: SessionId,
}

impl Caller {
    /// Somebody who proved who it is, but has no session: a call over REST.
    #[must_use]
    pub fn without_session(app: Arc<App>, client: ClientId) -> Self {
        Self { app, client, session: SessionId::NONE }
    }
}

/// How a session ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The client said goodbye: its will is void, it is offline at once.
    Polite,
    /// The connection was lost: the grace time begins.
    Lost,
    /// The server is shutting down: not the client's doing, so no will is sent.
    Drained,
}
