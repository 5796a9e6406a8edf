//! A device asks what waits for it, reads it in order, and says how far it has got.

use crate::conversation::{Address, Kind};
use crate::error::{Error, Result};
use crate::id::{ConversationId, DeviceId, Seq};
use crate::listing::{Note, Queue, Stretch, Waiting};
use crate::message::Target;
use crate::session::Caller;
use crate::time::DAY_MS;

use super::Posthouse;

impl Posthouse {
    /// Gets ready for a device that logs in: one seen for the first time begins with what is at most as
    /// old as the app says.
    pub async fn open_device(&self, caller: &Caller, device: &DeviceId) -> Result<()> {
        let window_ms = i64::from(caller.app.settings.new_device_days) * DAY_MS;
        self.store.open_device(&caller.app.id, &caller.client, device, window_ms).await
    }

    /// What the device has not acknowledged, at most `limit` conversations.
    pub async fn waiting(&self, caller: &Caller, device: &DeviceId, limit: usize) -> Result<Waiting> {
        self.store.waiting(&caller.app.id, &caller.client, device, limit).await
    }

    /// Up to where the device has acknowledged a queue.
    pub async fn position(&self, caller: &Caller, device: &DeviceId, queue: Queue) -> Result<u64> {
        self.store.position(&caller.app.id, &caller.client, device, queue).await
    }

    /// The device has got so far in a queue.
    pub async fn set_position(
        &self,
        caller: &Caller,
        device: &DeviceId,
        queue: Queue,
        place: u64,
    ) -> Result<()> {
        self.store.set_position(&caller.app.id, &caller.client, device, queue, place).await
    }

    /// A stretch of a conversation's timeline after a place.
    pub async fn read_timeline(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        after: Seq,
        limit: usize,
    ) -> Result<Stretch> {
        self.store.read_timeline(&caller.app.id, &caller.client, conversation, after, limit).await
    }

    /// Notes of the caller's inbox after a place.
    pub async fn read_notes(&self, caller: &Caller, after: u64, limit: usize) -> Result<Vec<Note>> {
        self.store.read_notes(&caller.app.id, &caller.client, after, limit).await
    }

    /// The conversation that the caller means; `None` for a direct one in which nothing was said yet.
    /// Says nothing of whether the caller is in it. Temporary conversations and ones that don't exist
    /// are `ConversationNotFound`.
    pub async fn address(&self, caller: &Caller, target: &Target) -> Result<Option<Address>> {
        match target {
            Target::Client(peer) => {
                let found = self.store.find_direct(&caller.app.id, &caller.client, peer).await?;
                Ok(found.map(|id| Address { id, kind: Kind::Direct, peer: Some(peer.clone()) }))
            }
            Target::Conversation(id) if id.is_temporary() => Err(Error::ConversationNotFound),
            Target::Conversation(id) => {
                let conversation = self.store.conversation(&caller.app.id, *id).await?;
                Ok(Some(conversation.address_for(&caller.client)))
            }
        }
    }
}
