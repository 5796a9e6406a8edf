//! A sender changes or takes back a message.

use crate::error::{Error, Result};
use crate::event::Event;
use crate::message::PatchMessage;
use crate::session::Caller;
use crate::time::Timestamp;

use super::{Posthouse, delivery};

impl Posthouse {
    /// Edits or recalls a message of the caller; returns when it was changed. The members' other
    /// sessions are told; those who are away find it when they return.
    pub async fn patch_message(&self, caller: &Caller, patch: PatchMessage) -> Result<Timestamp> {
        let settings = &caller.app.settings;
        match patch.is_recall() {
            true if !settings.recall_enabled => return Err(Error::RecallDisabled),
            false if !settings.edit_enabled => return Err(Error::EditDisabled),
            true | false => {}
        }
        let size = patch.body.payload.bytes.len() + patch.mentions.size();
        let max = settings.message_bytes_max as usize;
        if size > max {
            return Err(Error::MessageTooLarge { size, max });
        }
        let (router, app, session) = (self.router.clone(), caller.app.id.clone(), caller.session);
        let patched = self
            .store
            .patch_message(
                &caller.app.id,
                &caller.client,
                patch,
                Box::new(move |patched| {
                    let patch = patched.patch.clone();
                    let (conversation, in_room) = (patch.conversation, patch.kind.is_room());
                    let event = Event::MessagePatched(patch);
                    router.deliver(&delivery(
                        &app,
                        conversation,
                        &patched.members,
                        in_room,
                        Some(session),
                        event,
                    ));
                }),
            )
            .await?;
        Ok(patched.patch.at)
    }
}
