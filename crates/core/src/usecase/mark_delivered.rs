//! A member's device has received up to somewhere.

use crate::error::Result;
use crate::event::Event;
use crate::receipt::MarkDelivered;
use crate::session::Caller;

use super::{Posthouse, to_clients};

impl Posthouse {
    /// Moves the caller's delivery mark; senders who asked for receipts hear of it.
    pub async fn mark_delivered(&self, caller: &Caller, mark: MarkDelivered) -> Result<()> {
        let (router, app) = (self.router.clone(), caller.app.id.clone());
        self.store
            .mark_delivered(
                &caller.app.id,
                &caller.client,
                mark,
                Box::new(move |receipts| {
                    for (sender, receipt) in receipts {
                        let event = Event::Receipt(receipt.clone());
                        router.deliver(&to_clients(&app, std::slice::from_ref(sender), event));
                    }
                }),
            )
            .await?;
        Ok(())
    }
}
