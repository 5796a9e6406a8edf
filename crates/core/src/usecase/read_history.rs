//! A member reads what was said.

use crate::error::{Error, Result};
use crate::id::{ConversationId, MessageId};
use crate::message::{History, HistoryQuery, Message};
use crate::session::Caller;

use super::Posthouse;

impl Posthouse {
    /// A stretch of history, from old to new. Members read everything, also what was said before
    /// they came; a room is read by who is in it.
    pub async fn read_history(&self, caller: &Caller, query: HistoryQuery) -> Result<History> {
        let conversation = self.store.conversation(&caller.app.id, query.conversation).await?;
        if conversation.kind.is_room() {
            if self.router.room_of(caller) != Some(conversation.id) {
                return Err(Error::NotMember);
            }
        } else {
            conversation.kind.ensure_member(conversation.has_member(&caller.client))?;
        }
        if query.limit == 0 {
            return Ok(History { messages: Vec::new(), more: false });
        }
        self.store.read_history(&caller.app.id, &caller.client, query).await
    }

    /// One message that the caller may see.
    pub async fn message(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Message> {
        self.store.message(&caller.app.id, &caller.client, conversation, id).await
    }
}
