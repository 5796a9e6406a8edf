//! A member reads what was said.

use crate::error::Result;
use crate::id::{ConversationId, MessageId};
use crate::message::{History, HistoryQuery, Message};
use crate::session::Caller;

use super::Posthouse;

impl Posthouse {
    /// A stretch of history, from old to new. Members read everything, also what was said before
    /// they came; a room is read by who is in it.
    pub async fn read_history(&self, caller: &Caller, query: HistoryQuery) -> Result<History> {
        let in_room = self.router.room_of(caller) == Some(query.conversation);
        let query = HistoryQuery { in_room, ..query };
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
