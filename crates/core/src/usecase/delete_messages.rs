//! A member removes messages for itself alone.

use crate::error::Result;
use crate::event::{Delivery, Event};
use crate::id::{ConversationId, DeviceId};
use crate::listing::Removal;
use crate::port::store::AfterCommit;
use crate::session::Caller;

use super::{Posthouse, to_clients};

impl Posthouse {
    /// Removes messages of one conversation for the caller, on all its devices, which hear of it if `tell`
    /// says so; others still have them.
    pub async fn remove_messages(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        removal: Removal,
        device: Option<&DeviceId>,
        tell: bool,
    ) -> Result<()> {
        let after = if tell { self.tell_own_devices(caller) } else { Box::new(|(): &()| ()) };
        self.store
            .remove_messages(&caller.app.id, &caller.client, conversation, device, removal, tell, after)
            .await
    }

    /// Removes everything said until now in all conversations, and the whole list, for the caller.
    pub async fn remove_everything(&self, caller: &Caller, device: Option<&DeviceId>) -> Result<()> {
        let after = self.tell_own_devices(caller);
        self.store.remove_everything(&caller.app.id, &caller.client, device, after).await
    }

    /// Tells the caller's devices that a note waits; the device that caused it skips it.
    pub(super) fn tell_own_devices<T>(&self, caller: &Caller) -> AfterCommit<T> {
        let (router, caller) = (self.router.clone(), caller.clone());
        Box::new(move |_| {
            let own = std::slice::from_ref(&caller.client);
            let noted = to_clients(&caller.app.id, own, Event::Noted);
            router.deliver(&Delivery { except: Some(caller.session), ..noted });
        })
    }
}
