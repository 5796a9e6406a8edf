//! Marks: how far a member has received and read, and what follows from it.

use std::sync::Arc;

use crate::conversation::Kind;
use crate::id::{ClientId, ConversationId, DeviceId, MessageId, Seq};
use crate::message::Message;
use crate::time::Timestamp;

/// "I have read this conversation up to here."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkRead {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Everything up to this time; `None` for all there is now.
    pub until: Option<Timestamp>,
    /// Among messages of exactly that time, up to this one; `None` for all of them.
    pub id: Option<MessageId>,
    /// The device on which it was read; the client's other devices find a note.
    pub device: Option<DeviceId>,
}

/// "I have received (or read) this one message", said to its sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledge {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Which.
    pub message: MessageId,
    /// Whether it was read, not only delivered.
    pub read: bool,
    /// A word to its sender.
    pub note: Option<Arc<str>>,
}

/// The outcome of acknowledging a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// Whom to tell: the message's sender, unless it is the reader itself or gone.
    pub sender: Option<ClientId>,
    /// What to tell.
    pub receipt: Receipt,
}

/// "These messages have arrived at my device."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkDelivered {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Everything up to the newest of these.
    pub until: Delivered,
}

/// How a device names what it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// Everything up to this time.
    Time(Timestamp),
    /// Everything up to this message.
    Message(MessageId),
}

/// How far one member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberMarks {
    /// Who.
    pub client: ClientId,
    /// Messages up to this time have arrived; `None` if none has.
    pub delivered_at: Option<Timestamp>,
    /// Messages up to this time are read; `None` if none is.
    pub read_at: Option<Timestamp>,
}

/// News for the sender of a message that asked for receipts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message; for reading, the newest one covered.
    pub message: MessageId,
    /// Who received or read it.
    pub by: ClientId,
    /// When.
    pub at: Timestamp,
    /// Whether it was read, not only delivered.
    pub read: bool,
    /// Whether the mark covers the whole conversation up to the message, not the message alone.
    pub whole: bool,
    /// How many members have read the message, if they were counted one by one.
    pub readers: Option<u64>,
    /// The reader's word to the sender.
    pub note: Option<Arc<str>>,
}

/// What one client has not read in one conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its kind.
    pub kind: Kind,
    /// Messages after the read mark, of others, neither recalled nor transient.
    pub count: u64,
    /// Whether one of them calls this client.
    pub mentioned: bool,
    /// The newest message that counts, or the newest of all if none does.
    pub last_message: Option<Message>,
    /// The end of the timeline this was computed at.
    pub head: Seq,
}

/// The outcome of reading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadMarked {
    /// What is unread now, for the reader's own devices.
    pub unread: Unread,
    /// News for senders: one for each sender, about their newest message covered by this mark.
    pub receipts: Vec<(ClientId, Receipt)>,
}

/// The outcome of a delivery mark: news for senders, oldest message first.
pub type DeliveredMarked = Vec<(ClientId, Receipt)>;
