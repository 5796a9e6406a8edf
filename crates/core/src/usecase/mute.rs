//! A member wants no push notifications from a conversation.

use crate::error::Result;
use crate::id::ConversationId;
use crate::session::Caller;
use crate::time::Timestamp;

use super::Posthouse;

impl Posthouse {
    /// Sets or lifts the caller's mute; returns the conversation's `updated_at`. Rooms never notify
    /// anybody, so muting one is accepted and changes nothing.
    pub async fn set_muted(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        muted: bool,
    ) -> Result<Timestamp> {
        let found = self.store.conversation(&caller.app.id, conversation).await?;
        if found.kind.is_room() {
            return Ok(found.updated_at);
        }
        self.store.set_muted(&caller.app.id, conversation, &caller.client, muted).await
    }
}
