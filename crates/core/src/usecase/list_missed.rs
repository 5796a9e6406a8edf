//! A client that was away asks what happened to its conversations.

use crate::app::App;
use crate::error::Result;
use crate::event::Missed;
use crate::id::ClientId;
use crate::time::{DAY_MS, Timestamp};

use super::Posthouse;

/// Invitations on one page.
const INVITATIONS_PAGE: usize = 500;
/// Changes told in one answer; with more than that a client does better to forget its caches.
const CHANGES_MAX: usize = 1_000;

impl Posthouse {
    /// Invitations to and removals from conversations after `since`, oldest first, and whether
    /// there are more after the last of them.
    pub async fn list_invitations(
        &self,
        app: &App,
        client: &ClientId,
        since: Timestamp,
    ) -> Result<(Vec<Missed>, bool)> {
        let since = since.max(self.kept_since(app));
        let missed = self.store.list_invitations(&app.id, client, since, INVITATIONS_PAGE).await?;
        let more = missed.len() >= INVITATIONS_PAGE;
        Ok((missed, more))
    }

    /// What else happened in the client's conversations after `since`; `None` if it was too much to
    /// tell, or too long ago.
    pub async fn list_changes(
        &self,
        app: &App,
        client: &ClientId,
        since: Timestamp,
    ) -> Result<Option<Vec<Missed>>> {
        if since < self.kept_since(app) {
            return Ok(None);
        }
        self.store.list_changes(&app.id, client, since, CHANGES_MAX).await
    }

    pub(super) fn kept_since(&self, app: &App) -> Timestamp {
        self.clock.now().plus_ms(-i64::from(app.settings.catch_up_days) * DAY_MS)
    }
}
