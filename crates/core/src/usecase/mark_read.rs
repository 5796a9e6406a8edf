//! A member has read up to somewhere.

use crate::error::Result;
use crate::event::Event;
use crate::id::ConversationId;
use crate::receipt::{MarkRead, MemberMarks};
use crate::session::Caller;

use super::{Posthouse, to_clients};

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
                    router.deliver(&to_clients(&app, &[reader], event));
                    for (sender, receipt) in &marked.receipts {
                        let event = Event::Receipt(receipt.clone());
                        router.deliver(&to_clients(&app, std::slice::from_ref(sender), event));
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
