//! A member's device has received up to somewhere.

use std::sync::Arc;

use crate::error::Result;
use crate::event::{Audience, Delivery, Event};
use crate::receipt::MarkDelivered;
use crate::session::Caller;

use super::Posthouse;

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
                        router.deliver(&Delivery {
                            app: app.clone(),
                            audience: Audience::Clients(Arc::new([sender.clone()])),
                            except: None,
                            event: Arc::new(Event::Receipt(receipt.clone())),
                        });
                    }
                }),
            )
            .await?;
        Ok(())
    }
}
