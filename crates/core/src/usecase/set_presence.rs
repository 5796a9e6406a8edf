//! A member watches who of a conversation is online.

use crate::conversation::Kind;
use crate::error::{Error, Result};
use crate::id::ConversationId;
use crate::presence::{PresenceView, Roster};
use crate::session::Caller;

use super::Posthouse;

/// The longest subscription that can be asked for: a year. The session ends sooner.
const TTL_SECONDS_MAX: i64 = 366 * 86_400;

impl Posthouse {
    /// Subscribes the caller's session to the presence of the conversation's members and returns
    /// their present state. Ends with the session, the membership, the time asked for, or the
    /// conversation. Subscribing again renews it. Only members may (`NotMember`, also for temporary
    /// conversations that exist), and rooms don't offer it.
    pub async fn subscribe_presence(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        ttl_seconds: Option<i64>,
    ) -> Result<PresenceView> {
        let ttl_seconds = ttl_seconds.filter(|ttl| *ttl > 0).map(|ttl| ttl.min(TTL_SECONDS_MAX));
        let found = self.store.conversation(&caller.app.id, conversation).await?;
        if found.kind.is_room() {
            return Err(Error::NotInRooms);
        }
        if !found.has_member(&caller.client) {
            return Err(Error::NotMember);
        }
        let asked = ttl_seconds.map(|ttl| self.clock.now().plus_ms(ttl * 1_000));
        let ends = match found.kind {
            Kind::Temporary { until } => Some(until),
            Kind::Direct | Kind::Group | Kind::Room => None,
        };
        let until = asked.into_iter().chain(ends).min();
        let roster = Roster { conversation, members: &found.members, version: found.updated_at };
        self.router.watch(caller, roster, until)?;
        // A member change between reading and watching was not heard; reading once more after the
        // watch began finds it, and later ones are heard.
        let found = match self.store.conversation(&caller.app.id, conversation).await {
            Ok(found) if found.has_member(&caller.client) => found,
            Ok(_) => {
                self.router.unwatch(caller, conversation);
                return Err(Error::NotMember);
            }
            Err(error) => {
                self.router.unwatch(caller, conversation);
                return Err(error);
            }
        };
        self.router.set_roster(Roster { conversation, members: &found.members, version: found.updated_at });
        Ok(self.router.presence(&caller.app.id, &found.members, ttl_seconds))
    }

    /// Ends the subscription, if there is one.
    pub fn unsubscribe_presence(&self, caller: &Caller, conversation: ConversationId) {
        self.router.unwatch(caller, conversation);
    }
}
