//! A member tells a message's sender that it has it, or has read it.

use crate::error::Result;
use crate::event::Event;
use crate::receipt::{Acknowledge, Acknowledged};
use crate::session::Caller;

use super::{Posthouse, to_clients};

impl Posthouse {
    /// Acknowledges one message. Its sender hears of it now or finds a note; the caller's unread number
    /// is another matter, see [`Self::mark_read`].
    pub async fn acknowledge(&self, caller: &Caller, acknowledge: Acknowledge) -> Result<()> {
        let (router, app) = (self.router.clone(), caller.app.id.clone());
        self.store
            .acknowledge(
                &caller.app.id,
                &caller.client,
                acknowledge,
                Box::new(move |acknowledged: &Acknowledged| {
                    if let Some(sender) = &acknowledged.sender {
                        let event = Event::Receipt(acknowledged.receipt.clone());
                        router.deliver(&to_clients(&app, std::slice::from_ref(sender), event));
                    }
                }),
            )
            .await?;
        Ok(())
    }
}
