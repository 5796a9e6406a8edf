//! A client that has just logged in asks what it missed to read.

use crate::error::Result;
use crate::event::Patch;
use crate::receipt::Unread;
use crate::session::Caller;
use crate::time::Timestamp;

use super::Posthouse;

/// The most edits and recalls replayed at once; a client that missed more reads history anyway.
const PATCHES_MAX: usize = 1_000;

impl Posthouse {
    /// Conversations with unread messages that changed after `since`, newest message first.
    pub async fn list_unread(&self, caller: &Caller, since: Option<Timestamp>) -> Result<Vec<Unread>> {
        let settings = &caller.app.settings;
        let limit = settings.unread_conversations_max as usize;
        let mut unread = self.store.list_unread(&caller.app.id, &caller.client, since, limit).await?;
        if settings.unread_count_max > 0 {
            for entry in &mut unread {
                entry.count = entry.count.min(u64::from(settings.unread_count_max));
            }
        }
        Ok(unread)
    }

    /// Edits and recalls that the caller missed since then, oldest first, as far back as the app keeps them.
    pub async fn list_patches(&self, caller: &Caller, since: Timestamp) -> Result<Vec<Patch>> {
        let since = since.max(self.kept_since(&caller.app));
        self.store.list_patches(&caller.app.id, &caller.client, since, PATCHES_MAX).await
    }
}
