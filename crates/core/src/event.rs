//! Events: facts that live sessions are told. A push is a hint, the timeline is the truth.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::attribute::{AttributeChange, Attributes};
use crate::conversation::Kind;
use crate::id::{AppId, ClientId, ConversationId, MessageId, Seq, SessionId};
use crate::message::{Body, Mentions, Message, SchemaTag};
use crate::receipt::{Receipt, Unread};
use crate::time::Timestamp;

/// A fact to tell sessions.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A message was posted.
    MessagePosted {
        /// The message.
        message: Message,
        /// The kind of its conversation.
        kind: Kind,
        /// The members, where it is a direct one: its name is that of the other.
        pair: Option<Arc<[ClientId]>>,
        /// Whether it is forgotten after this push.
        transient: bool,
    },
    /// A message was changed or taken back.
    MessagePatched {
        /// The change.
        patch: Patch,
        /// The members, where its conversation is a direct one.
        pair: Option<Arc<[ClientId]>>,
    },
    /// The receiver has become a member.
    Joined(MemberEvent),
    /// Others (and perhaps the receiver) have become members.
    MembersJoined(MemberEvent),
    /// The receiver is no longer a member.
    Left(MemberEvent),
    /// Others are no longer members.
    MembersLeft(MemberEvent),
    /// Attributes have changed.
    Updated(UpdateEvent),
    /// The receiver's unread number has changed by reading on one of their devices.
    UnreadChanged {
        /// What is unread now.
        unread: Unread,
        /// Up to when the client is told by this; see `Posthouse::told_until`.
        at: Timestamp,
    },
    /// A message of the receiver was delivered or read.
    Receipt(Receipt),
    /// Members went online or offline.
    Presence(PresenceEvent),
    /// A note was left in the receiver's inbox, and no other event tells of it.
    Noted,
    /// The receiving session itself is over.
    SessionEnded {
        /// Why.
        end: SessionEnd,
        /// What the device that took its place has to say.
        note: Option<Arc<str>>,
    },
}

impl Event {
    /// The message that was posted, if this is about one that is kept.
    #[must_use]
    pub fn kept_message(&self) -> Option<&Message> {
        match self {
            Self::MessagePosted { message, transient: false, .. } if message.seq > Seq(0) => Some(message),
            _ => None,
        }
    }

    /// About how many bytes it keeps while it waits for a client to read it.
    #[must_use]
    pub fn size(&self) -> usize {
        /// The event itself and its short texts.
        const BASE: usize = 512;
        /// A client's id; few are longer.
        const ID: usize = 32;
        /// Attributes are measured where they are changed, which is seldom.
        const ATTRIBUTES: usize = 16 * 1024;
        let body =
            |body: &Body| body.payload.bytes.len() + body.summary.as_ref().map_or(0, |summary| summary.len());
        BASE + match self {
            Self::MessagePosted { message, .. } => body(&message.body) + message.mentions.size(),
            Self::MessagePatched { patch, .. } => body(&patch.body) + patch.mentions.size(),
            Self::Joined(event)
            | Self::MembersJoined(event)
            | Self::Left(event)
            | Self::MembersLeft(event) => event.members.len() * ID,
            Self::Updated(_) => ATTRIBUTES,
            Self::Presence(presence) => presence.clients.len() * ID,
            Self::UnreadChanged { .. } | Self::Receipt(_) | Self::Noted | Self::SessionEnded { .. } => 0,
        }
    }

    /// The edit or recall.
    #[must_use]
    pub fn patch(&self) -> Option<&Patch> {
        match self {
            Self::MessagePatched { patch, .. } => Some(patch),
            _ => None,
        }
    }

    /// The receiver's unread number after reading.
    #[must_use]
    pub fn unread(&self) -> Option<&Unread> {
        match self {
            Self::UnreadChanged { unread, .. } => Some(unread),
            _ => None,
        }
    }

    /// Why the receiving session is over.
    #[must_use]
    pub fn session_end(&self) -> Option<SessionEnd> {
        match self {
            Self::SessionEnded { end, .. } => Some(*end),
            _ => None,
        }
    }
}

/// Prints that one bulletin keeps. There are two wires; another one would print for each receiver.
const PRINTS_MAX: usize = 2;

/// An event as all its sessions share it, with its prints: what a wire writes of it to anybody. Each is
/// made by the first session that needs it, and the others only add what is theirs.
#[derive(Debug)]
pub struct Bulletin {
    event: Event,
    prints: [OnceLock<(SchemaTag, Bytes)>; PRINTS_MAX],
}

impl Bulletin {
    /// The print in the format `schema`, which `make` makes if nobody has. It must say the same to
    /// every receiver.
    pub fn print(&self, schema: SchemaTag, make: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let mut make = Some(make);
        for slot in &self.prints {
            let made = slot.get_or_init(|| (schema, make.take().map_or_else(Bytes::new, |m| m(&self.event))));
            if made.0 == schema {
                return made.1.clone();
            }
        }
        make.map_or_else(Bytes::new, |make| make(&self.event))
    }
}

impl From<Event> for Bulletin {
    fn from(event: Event) -> Self {
        Self { event, prints: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl Deref for Bulletin {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// A message's new body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// Where it was said.
    pub conversation: ConversationId,
    /// The conversation's kind.
    pub kind: Kind,
    /// Which message.
    pub message: MessageId,
    /// The message's own time.
    pub timestamp: Timestamp,
    /// Its sender.
    pub sender: ClientId,
    /// What it says now.
    pub body: Body,
    /// Whom it calls now.
    pub mentions: Mentions,
    /// When it was changed; strictly grows within a conversation.
    pub at: Timestamp,
    /// The change's place in the timeline.
    pub seq: Seq,
    /// Who changed it.
    pub by: ClientId,
    /// How often it has been edited.
    pub edits: u32,
}

/// A change of membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberEvent {
    /// Where.
    pub conversation: ConversationId,
    /// The conversation's kind.
    pub kind: Kind,
    /// Life of a temporary conversation, in seconds.
    pub ttl_seconds: Option<i64>,
    /// Who did it.
    pub by: ClientId,
    /// Whom it concerns.
    pub members: Arc<[ClientId]>,
    /// The conversation's `updated_at` after it.
    pub at: Timestamp,
}

/// A change of attributes.
#[derive(Clone, PartialEq, Debug)]
pub struct UpdateEvent {
    /// Where.
    pub conversation: ConversationId,
    /// The conversation's kind.
    pub kind: Kind,
    /// Who did it.
    pub by: ClientId,
    /// What was asked.
    pub changes: Arc<[AttributeChange]>,
    /// New values of what changed, nested.
    pub modified: Arc<Attributes>,
    /// The conversation's `updated_at` after it.
    pub at: Timestamp,
}

/// Members of a conversation going online or offline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceEvent {
    /// The subscribed conversation.
    pub conversation: ConversationId,
    /// Whether they are online now.
    pub online: bool,
    /// Who.
    pub clients: Vec<ClientId>,
}

/// Why the server ended a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// Another device took the client's tag.
    Displaced,
    /// The same device opened the session again on another connection.
    Replaced,
    /// The client's account is gone, or may not log in any more.
    Removed,
    /// The client's password was changed.
    PasswordChanged,
    /// The customer's back end sent the client away.
    Dismissed,
}

/// An event and who is to be told.
#[derive(Clone, Debug)]
pub struct Delivery<'a> {
    /// The tenant.
    pub app: &'a AppId,
    /// Who.
    pub audience: Audience<'a>,
    /// The session that caused it and need not be told.
    pub except: Option<SessionId>,
    /// What.
    pub event: Arc<Bulletin>,
}

/// Who is to be told of an event.
#[derive(Clone, Copy, Debug)]
pub enum Audience<'a> {
    /// Every session of these clients.
    Clients(&'a [ClientId]),
    /// Every session that is in this room.
    Room(ConversationId),
}

/// A change of a conversation that a client may have missed; see the `Inbox` port.
#[derive(Clone, PartialEq, Debug)]
pub enum Missed {
    /// The client became a member.
    Joined(MemberEvent),
    /// The client is no longer a member.
    Left(MemberEvent),
    /// Members came.
    MembersJoined(MemberEvent),
    /// Members went.
    MembersLeft(MemberEvent),
    /// Attributes changed.
    Updated(UpdateEvent),
    /// A message of the client was read.
    Receipt(Receipt),
}

impl Missed {
    /// When it happened.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Joined(e) | Self::Left(e) | Self::MembersJoined(e) | Self::MembersLeft(e) => e.at,
            Self::Updated(e) => e.at,
            Self::Receipt(r) => r.at,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn each_wire_prints_a_bulletin_once() {
        let bulletin = Bulletin::from(Event::Noted);
        let made = Cell::new(0);
        let print = |schema: u8| {
            bulletin.print(SchemaTag(schema), |event| {
                assert_eq!(*event, Event::Noted);
                made.set(made.get() + 1);
                Bytes::copy_from_slice(&[schema])
            })
        };
        for schema in [1, 16, 1, 16, 1] {
            assert_eq!(print(schema), [schema][..]);
        }
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn a_wire_without_room_for_its_print_prints_again() {
        let bulletin = Bulletin::from(Event::Noted);
        let print = |schema: u8| bulletin.print(SchemaTag(schema), |_| Bytes::copy_from_slice(&[schema]));
        for schema in 0..=u8::try_from(PRINTS_MAX).unwrap() {
            assert_eq!(print(schema), [schema][..]);
        }
        assert_eq!(print(u8::MAX), [u8::MAX][..]);
        assert_eq!(print(0), [0][..]);
    }
}
