//! A member changes a conversation's name or custom fields.

use std::sync::Arc;

use crate::attribute::AttributeChange;
use crate::conversation::{AttributesChanged, Authority};
use crate::error::{Error, Result};
use crate::event::{Event, UpdateEvent};
use crate::id::ConversationId;
use crate::port::store::AttributesChange;
use crate::session::Caller;

use super::{Posthouse, delivery};

impl Posthouse {
    /// Changes attributes, all or nothing. All members' sessions hear of it, but not this one: its
    /// answer says the same.
    pub async fn update_conversation(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        changes: Vec<AttributeChange>,
    ) -> Result<AttributesChanged> {
        let found = self.store.conversation(&caller.app.id, conversation).await?;
        let is_creator = found.creator.as_ref() == Some(&caller.client);
        if found.kind.is_room() && !is_creator && self.router.room_of(caller) != Some(conversation) {
            return Err(Error::NotMember);
        }
        self.update_conversation_by(caller, conversation, changes, Authority::Member).await
    }

    /// Changes attributes by a right that the gateway has decided on. Not for rooms.
    pub async fn update_conversation_by(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        changes: Vec<AttributeChange>,
        authority: Authority,
    ) -> Result<AttributesChanged> {
        let (router, app, session) = (self.router.clone(), caller.app.id.clone(), caller.session);
        let (by, asked) = (caller.client.clone(), Arc::from(changes.as_slice()));
        let change = AttributesChange { conversation, by: caller.client.clone(), changes, authority };
        self.store
            .update_attributes(
                &caller.app.id,
                change,
                &caller.app.settings,
                Box::new(move |changed: &AttributesChanged| {
                    let event = Event::Updated(UpdateEvent {
                        conversation,
                        kind: changed.kind,
                        by,
                        changes: asked,
                        modified: Arc::new(changed.modified.clone()),
                        at: changed.at,
                    });
                    let in_room = changed.kind.is_room();
                    router.deliver(&delivery(
                        &app,
                        conversation,
                        &changed.members,
                        in_room,
                        Some(session),
                        event,
                    ));
                }),
            )
            .await
    }
}
