//! A member deletes a conversation, for everybody or for itself.

use crate::conversation::{ConversationDeleted, DeleteConversation};
use crate::error::Result;
use crate::event::Event;
use crate::id::{ConversationId, DeviceId};
use crate::session::Caller;

use super::{Posthouse, to_clients};

impl Posthouse {
    /// Takes the conversation off lists until something new is said in it, and its messages away if
    /// asked to; for whom is the app's setting `conversation_delete_scope`. With
    /// `group_delete_all_requires_admin`, ordinary members of a group do it for themselves only, unless the
    /// server asks.
    pub async fn delete_conversation(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        with_messages: bool,
        device: Option<&DeviceId>,
        by_server: bool,
    ) -> Result<ConversationDeleted> {
        let settings = &caller.app.settings;
        let delete = DeleteConversation {
            conversation,
            by: caller.client.clone(),
            device: device.cloned(),
            with_messages,
            scope: settings.conversation_delete_scope,
            group_needs_moderator: settings.group_delete_all_requires_admin && !by_server,
        };
        let (router, app) = (self.router.clone(), caller.app.id.clone());
        let deleted = self
            .store
            .delete_conversation(
                &caller.app.id,
                delete,
                Box::new(move |deleted: &ConversationDeleted| {
                    router.deliver(&to_clients(&app, &deleted.told, Event::Noted));
                }),
            )
            .await?;
        tracing::info!(
            client = %caller.client,
            conversation = conversation.as_u64(),
            with_messages,
            for_everyone = deleted.for_everyone,
            "a conversation was deleted"
        );
        Ok(deleted)
    }
}
