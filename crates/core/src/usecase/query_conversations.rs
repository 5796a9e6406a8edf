//! A client looks for conversations.

use crate::conversation::{Conversation, Found};
use crate::error::Result;
use crate::id::ConversationId;
use crate::query::ConversationQuery;
use crate::session::Caller;

use super::Posthouse;

impl Posthouse {
    /// Finds conversations. Names, members and attributes of lasting ones may be found by anybody
    /// in the app; their newest message only by members and by who is in the room.
    pub async fn query_conversations(&self, caller: &Caller, query: ConversationQuery) -> Result<Vec<Found>> {
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let rooms: Vec<_> = self.router.room_of(caller).into_iter().collect();
        self.store.query_conversations(&caller.app.id, &caller.client, &rooms, query).await
    }

    /// One conversation. Of a temporary one a stranger learns nothing.
    pub async fn conversation(&self, caller: &Caller, id: ConversationId) -> Result<Conversation> {
        let found = self.store.conversation(&caller.app.id, id).await?;
        if found.kind.is_temporary() {
            found.kind.ensure_member(found.has_member(&caller.client))?;
        }
        Ok(found)
    }
}
