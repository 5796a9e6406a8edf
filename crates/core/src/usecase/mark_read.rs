//! A member has read up to somewhere.

use std::sync::Arc;

use crate::error::Result;
use crate::event::{Audience, Delivery, Event};
use crate::id::ConversationId;
use crate::receipt::{MarkRead, MemberMarks};
use crate::session::Caller;

use super::Posthouse;

impl Posthouse {
    /// Moves the caller's read mark. All their sessions, this one included, hear what is unread
    /// now; senders who asked for receipts hear that they were read.
    pub async fn mark_read(&self, caller: &Caller, mark: MarkRead) -> Result<()> {
        let (router, app, reader) = (self.router.clone(), caller.app.id.clone(), caller.client.clone());
        let at = self.told_until();
        self.store
            .mark_read(
                &caller.app.id,
                &caller.client,
                mark,
                Box::new(move |marked| {
                    let event = Event::UnreadChanged { unread: marked.unread.clone(), at };
                    let deliver = |client, event| {
                        router.deliver(&Delivery {
                            app: app.clone(),
                            audience: Audience::Clients(Arc::new([client])),
                            except: None,
                            event: Arc::new(event),
                        });
                    };
                    deliver(reader, event);
                    for (sender, receipt) in &marked.receipts {
                        deliver(sender.clone(), Event::Receipt(receipt.clone()));
                    }
                }),
            )
            .await?;
        Ok(())
    }

    /// How far every member has received and read, the caller included.
    pub async fn member_marks(
        &self,
        caller: &Caller,
        conversation: ConversationId,
    ) -> Result<Vec<MemberMarks>> {
        self.store.member_marks(&caller.app.id, &caller.client, conversation).await
    }
}
