//! Chat rooms: being online in one is all the membership there is.

use crate::conversation::{Conversation, MembersChanged};
use crate::error::{Error, Result};
use crate::id::{ClientId, ConversationId};
use crate::session::Caller;

use super::Posthouse;

impl Posthouse {
    /// Clients online in a room, each once, at most `limit`.
    pub async fn room_clients(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        limit: usize,
    ) -> Result<Vec<ClientId>> {
        let found = self.conversation(caller, conversation).await?;
        if found.kind.is_room() {
            Ok(self.router.room_clients(conversation, limit))
        } else {
            found.kind.ensure_member(found.has_member(&caller.client))?;
            Ok(self.router.online(&caller.app.id, &found.members).into_iter().take(limit).collect())
        }
    }

    pub(super) fn join_room(
        &self,
        caller: &Caller,
        room: &Conversation,
        members: &[ClientId],
    ) -> Result<MembersChanged> {
        only_oneself(caller, members)?;
        self.router.enter_room(caller, room.id)?;
        Ok(unchanged(caller, room))
    }

    pub(super) fn quit_room(
        &self,
        caller: &Caller,
        room: &Conversation,
        members: &[ClientId],
    ) -> Result<MembersChanged> {
        only_oneself(caller, members)?;
        self.router.leave_room(caller, room.id);
        Ok(unchanged(caller, room))
    }
}

fn only_oneself(caller: &Caller, members: &[ClientId]) -> Result<()> {
    if members.iter().all(|member| *member == caller.client) { Ok(()) } else { Err(Error::RoomIsOwnChoice) }
}

fn unchanged(caller: &Caller, room: &Conversation) -> MembersChanged {
    MembersChanged {
        kind: room.kind,
        settled: vec![caller.client.clone()],
        changed: Vec::new(),
        members: Vec::new(),
        at: room.updated_at,
    }
}
