//! A client reads its conversation list, and arranges it.

use crate::error::{Error, Result};
use crate::id::{ConversationId, DeviceId};
use crate::listing::{ListChange, ListQuery, Listed, MARKS};
use crate::session::Caller;
use crate::time::Timestamp;

use super::Posthouse;

impl Posthouse {
    /// A part of the caller's conversation list; reads what the caller has written.
    pub async fn list_conversations(&self, caller: &Caller, query: ListQuery) -> Result<Vec<Listed>> {
        self.store.list_conversations(&caller.app.id, &caller.client, query).await
    }

    /// Pins or marks a conversation in the caller's list; returns since when it is pinned.
    pub async fn change_listed(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        change: ListChange,
        device: Option<&DeviceId>,
    ) -> Result<Option<Timestamp>> {
        match change {
            ListChange::Mark(number, _) if number >= MARKS => {
                return Err(Error::ListFull { max: MARKS.into() });
            }
            ListChange::Mark(..) | ListChange::Pin(_) => {}
        }
        let after = self.tell_own_devices(caller);
        self.store.change_listed(&caller.app.id, &caller.client, conversation, device, change, after).await
    }
}
