//! The conversation list as one client sees it, and what waits for its devices.

use std::sync::Arc;

use crate::account::ContactNotice;
use crate::app::ServerMessages;
use crate::conversation::{Address, RoleChange};
use crate::event::{MemberEvent, Patch, UpdateEvent};
use crate::id::{ClientId, ConversationId, DeviceId, MessageId, Seq};
use crate::message::Message;
use crate::receipt::Receipt;
use crate::time::Timestamp;

/// Which part of a client's conversation list to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListQuery {
    /// Where to begin and how much.
    pub page: ListPage,
    /// Only those that the client pinned, newest pin first.
    pub pinned_only: bool,
    /// Only those with this mark.
    pub marked: Option<u8>,
    /// Whether to list those without a message too, by the time they were made.
    pub with_empty: bool,
    /// What messages that a back end sent do.
    pub server_messages: ServerMessages,
    /// Whether a group's line never shows what was said before the client became a member.
    pub since_joined: bool,
}

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListPage {
    /// The newest so many, with activity at or after a time.
    Newest {
        /// How many.
        limit: usize,
        /// Since when.
        since: Timestamp,
    },
    /// A page of a fixed size.
    Numbered {
        /// Conversations on a page.
        size: usize,
        /// Which, from 0.
        number: usize,
    },
    /// What comes after a place.
    After {
        /// The place of the last one seen; `None` is the beginning.
        cursor: Option<ListPlace>,
        /// How many.
        limit: usize,
    },
}

impl ListPage {
    /// How many of the newest lines it asks for, and since when; `None` if it begins further down.
    #[must_use]
    pub fn newest(self) -> Option<(usize, Timestamp)> {
        match self {
            Self::Newest { limit, since } => Some((limit, since)),
            Self::Numbered { size: limit, number: 0 } | Self::After { cursor: None, limit } => {
                Some((limit, Timestamp(i64::MIN)))
            }
            Self::Numbered { .. } | Self::After { .. } => None,
        }
    }
}

/// A place in a list: ordered by time, then by conversation, both falling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListPlace {
    /// The time of the newest message, of the pin, or of the making.
    pub at: Timestamp,
    /// Which of those at the same time.
    pub conversation: ConversationId,
}

/// One line of a conversation list.
#[derive(Clone, PartialEq, Debug)]
pub struct Listed {
    /// The conversation.
    pub address: Address,
    /// Its newest message that this client may see.
    pub last_message: Option<Message>,
    /// What the client has not read.
    pub unread: u64,
    /// Since when it is pinned.
    pub pinned_at: Option<Timestamp>,
    /// The client's marks, bit by bit.
    pub marks: u32,
    /// Where it stands in the list.
    pub place: ListPlace,
}

/// How many different marks there are.
pub const MARKS: u8 = 20;
/// The most conversations a client pins.
pub const PINS_MAX: usize = 50;

/// A change to a line of the client's own list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListChange {
    /// Pinned or no longer.
    Pin(bool),
    /// A mark set or taken away; its number is below [`MARKS`].
    Mark(u8, bool),
}

/// What a client removes for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Removal {
    /// These messages.
    Messages(Vec<MessageId>),
    /// Everything up to and including this time.
    Until(Timestamp),
}

/// The most messages removed by id in one call.
pub const REMOVED_AT_ONCE_MAX: usize = 50;

/// A conversation with something that a device has not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// The conversation.
    pub address: Address,
    /// How many entries of the timeline wait.
    pub entries: u64,
}

/// What waits for a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    /// Conversations, those with the newest activity first.
    pub conversations: Vec<Pending>,
    /// Notes in the client's inbox.
    pub notes: u64,
}

/// Where a device has got to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Queue {
    /// In a conversation's timeline.
    Conversation(ConversationId),
    /// In the client's inbox.
    Inbox,
}

/// A stretch of a timeline, as one member may see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Stretch {
    /// What the member may see, in order.
    pub entries: Vec<Entry>,
    /// The place of the last entry looked at, seen or not.
    pub end: Seq,
    /// Whether the timeline goes on.
    pub more: bool,
}

/// One entry of a timeline.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// What it is.
    pub what: EntryKind,
}

/// What happened at a place of a timeline.
#[derive(Clone, PartialEq, Debug)]
pub enum EntryKind {
    /// Something was said; with its newest body.
    Message(Message),
    /// Something was edited or recalled.
    Patched(Patch),
    /// Members came.
    MembersJoined(MemberEvent),
    /// Members went.
    MembersLeft(MemberEvent),
    /// Attributes changed.
    Updated(UpdateEvent),
}

/// A note in a client's inbox: what belongs to no timeline that it can read.
#[derive(Clone, PartialEq, Debug)]
pub struct Note {
    /// Its place in the inbox; grows.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The conversation it is about, if that still exists.
    pub address: Option<Address>,
    /// What.
    pub what: NoteKind,
}

/// What a note says.
#[derive(Clone, PartialEq, Debug)]
pub enum NoteKind {
    /// The client became a member.
    Joined(MemberEvent),
    /// The client is no longer a member.
    Left(MemberEvent),
    /// A message of the client was delivered or read.
    Receipt(Receipt),
    /// The client read a conversation on another device.
    ReadHere {
        /// Which.
        conversation: ConversationId,
        /// Where.
        device: Option<DeviceId>,
    },
    /// A conversation was deleted from the client's list.
    ConversationDeleted {
        /// Which.
        conversation: ConversationId,
        /// By whom.
        by: ClientId,
        /// On which device.
        device: Option<DeviceId>,
        /// Whether its messages went too.
        with_messages: bool,
    },
    /// The client removed messages for itself.
    MessagesRemoved {
        /// Where; `None` for everywhere.
        conversation: Option<ConversationId>,
        /// On which device.
        device: Option<DeviceId>,
        /// Which; `None` for all.
        removal: Option<Removal>,
    },
    /// The client changed its list.
    Listed {
        /// Which line.
        conversation: ConversationId,
        /// On which device.
        device: Option<DeviceId>,
        /// How.
        change: ListChange,
    },
    /// A conversation was ended for everybody.
    Ended {
        /// Which.
        conversation: ConversationId,
        /// What it was called.
        name: Arc<str>,
        /// By whom.
        by: ClientId,
    },
    /// Roles changed, and it concerns the client.
    Role {
        /// Where.
        conversation: ConversationId,
        /// By whom.
        by: ClientId,
        /// How.
        change: RoleChange,
    },
    /// News of a contact.
    Contact {
        /// Who.
        peer: ClientId,
        /// What.
        notice: ContactNotice,
    },
}
