//! What must happen unasked. The domain has no timers: somebody calls these now and then.

use crate::error::{Error, Result};
use crate::event::Event;
use crate::message::Message;
use crate::router::Departure;
use crate::time::DAY_MS;

use super::{Posthouse, delivery};

/// How long a device may stay away and still go on where it was: a year.
const DEVICE_MS: i64 = 365 * DAY_MS;

impl Posthouse {
    /// Sends the wills of those whose grace time is over and lets subscriptions run out. Calling it
    /// late only delays these; a few times a second is enough.
    pub async fn sweep(&self) {
        for departure in self.router.take_departed(self.clock.now()) {
            let Departure { client, .. } = &departure;
            if let Err(error) = self.execute_will(&departure).await {
                tracing::warn!(%client, %error, "a will could not be sent");
            }
        }
    }

    /// Forgets who may do again as much as ever: a flood's memory goes when it is over.
    pub fn forget_rested(&self) {
        self.rates.forget_full(self.clock.now());
    }

    /// Forgets temporary conversations that are over, a bucket at a time.
    pub async fn forget_expired(&self) -> Result<usize> {
        self.store.forget_expired().await
    }

    /// Forgets missed notifications that no app keeps any more (the longest `catch_up_days` counts),
    /// some hundreds at a time. Returns how
    /// many; call again until there are none.
    pub async fn forget_notifications(&self) -> Result<usize> {
        let Some(before) = self.apps().iter().map(|app| self.kept_since(app)).min() else { return Ok(0) };
        self.store.forget_missed(before).await
    }

    /// Forgets messages that were deleted for everybody, some hundreds at a time. Returns how many; call
    /// again until there are none.
    pub async fn forget_deleted(&self) -> Result<usize> {
        self.store.forget_deleted().await
    }

    /// Forgets devices that were away for a year, some hundreds of rows at a time. Returns how many; call
    /// again until there are none.
    pub async fn forget_devices(&self) -> Result<usize> {
        self.store.forget_devices(self.clock.now().plus_ms(-DEVICE_MS)).await
    }

    /// Writes down how far devices have got; a few times a second is enough.
    pub async fn flush_positions(&self) -> Result<usize> {
        self.store.flush_positions().await
    }

    async fn execute_will(&self, departure: &Departure) -> Result<()> {
        let Some(will) = &departure.will else { return Ok(()) };
        let conversation = match self.store.conversation(&departure.app, will.message.conversation).await {
            Ok(conversation) => conversation,
            // It ended meanwhile, and its wills with it.
            Err(Error::TemporaryOver | Error::ConversationNotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        if conversation.kind.may_post(conversation.has_member(&departure.client)).is_err() {
            return Ok(());
        }
        // Said now, not when it was left: time doesn't go back within a conversation. The id is the one
        // that its sender was told.
        let now = self.clock.now();
        let timestamp = conversation.last_message_at.map_or(now, |last| now.max(last));
        let message = Message { timestamp, ..will.message.clone() };
        let pair = super::post_message::pair(conversation.kind, &conversation.members);
        let event = Event::MessagePosted { message, kind: conversation.kind, pair, transient: true };
        let in_room = conversation.kind.is_room();
        self.router.deliver(&delivery(
            &departure.app,
            conversation.id,
            &conversation.members,
            in_room,
            None,
            event,
        ));
        Ok(())
    }
}
