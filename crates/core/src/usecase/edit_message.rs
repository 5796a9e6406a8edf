//! A sender changes or takes back a message.

use crate::conversation::Authority;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::message::PatchMessage;
use crate::port::store::Patched;
use crate::session::Caller;

use super::{Posthouse, delivery};

impl Posthouse {
    /// Edits or recalls a message; returns what became of it. The members' other sessions are told;
    /// those who are away find it when they return.
    pub async fn patch_message(&self, caller: &Caller, patch: PatchMessage) -> Result<Patched> {
        let settings = &caller.app.settings;
        match patch.is_recall() {
            _ if patch.authority == Authority::Server => {}
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
                Box::new(move |patched: &Patched| {
                    let patch = patched.patch.clone();
                    let (conversation, in_room) = (patch.conversation, patch.kind.is_room());
                    let pair = super::post_message::pair(patch.kind, &patched.members);
                    let event = Event::MessagePatched { patch, pair };
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
        Ok(patched)
    }
}
