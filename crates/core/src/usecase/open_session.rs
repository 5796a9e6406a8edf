//! A client logs in.

use crate::app::App;
use crate::error::Result;
use crate::id::ClientId;
use crate::session::{Caller, OpenSession};

use super::Posthouse;

impl Posthouse {
    /// Opens a session; from here on its sink gets events. A device that lost its connection a
    /// moment ago takes up its will and its room where it left them. Fails with `SessionTaken`
    /// when resuming while another device holds the tag.
    pub fn open_session(&self, open: OpenSession) -> Result<Caller> {
        self.router.open(open, self.clock.now())
    }

    /// Those of `clients` who have a live session.
    #[must_use]
    pub fn online(&self, app: &App, clients: &[ClientId]) -> Vec<ClientId> {
        self.router.online(&app.id, clients)
    }
}
