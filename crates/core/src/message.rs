//! Messages: what is said, by whom, and what became of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::conversation::Authority;
use crate::id::{ClientId, ClientToken, ConversationId, MessageId, Seq};
use crate::time::Timestamp;

/// What a message carries: enough for the domain to filter and summarise, and the sender's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// What sort of content it is.
    pub kind: BodyKind,
    /// A readable line, where the gateway found one; for translations and previews.
    pub summary: Option<Arc<str>>,
    /// The content as its gateway wrote it.
    pub payload: Payload,
}

/// The sort of a message's content. A number where the sender's app defines its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BodyKind {
    /// Written text.
    Text,
    /// A picture.
    Image,
    /// Recorded sound.
    Audio,
    /// Moving pictures.
    Video,
    /// A place on the map.
    Location,
    /// Any file.
    File,
    /// The place of a recalled message.
    Recalled,
    /// Several messages forwarded as one.
    Combined,
    /// A word to the receiving program, not to a person.
    Command,
    /// A type that the app or an SDK's plugin defined.
    Custom(i32),
    /// Content without a type.
    Untyped,
}

/// Bytes that a gateway wrote and that only a gateway opens; stored and sent unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payload {
    /// Which gateway's format the bytes have.
    pub schema: SchemaTag,
    /// The content.
    pub bytes: Bytes,
}

/// A gateway's format of payloads. Gateways own the numbers; the store keeps them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SchemaTag(pub u8);

/// Whom a message calls by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mentions {
    /// Everyone in the conversation.
    pub all: bool,
    /// These clients.
    pub clients: Vec<ClientId>,
}

impl Mentions {
    /// Whether `client` is called.
    #[must_use]
    pub fn call(&self, client: &ClientId) -> bool {
        self.all || self.clients.contains(client)
    }

    /// The bytes of the ids, which count towards a message's size.
    #[must_use]
    pub fn size(&self) -> usize {
        self.clients.iter().map(|client| client.as_str().len()).sum()
    }

    /// Whether nobody is called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.clients.is_empty()
    }
}

/// Who handed a message over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client, through its own connection.
    Client,
    /// The customer's back end, in a client's name.
    Server,
    /// An importer: it was said elsewhere and before.
    Import,
}

/// A stored message, always with its newest body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its id; orders messages of equal time.
    pub id: MessageId,
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its place in the timeline; 0 for messages that are never stored.
    pub seq: Seq,
    /// When the server accepted it. Never goes back within a conversation.
    pub timestamp: Timestamp,
    /// Who said it.
    pub sender: ClientId,
    /// What was said.
    pub body: Body,
    /// Whom it calls.
    pub mentions: Mentions,
    /// Whether the sender asked to be told of delivery and reading.
    pub receipt: bool,
    /// When it was last edited or recalled.
    pub patched_at: Option<Timestamp>,
    /// Since when another member has it.
    pub delivered_at: Option<Timestamp>,
    /// Since when another member has read it.
    pub read_at: Option<Timestamp>,
    /// Who handed it over.
    pub origin: Origin,
    /// How often it was edited.
    pub edits: u32,
    /// Who edited or recalled it last.
    pub patched_by: Option<ClientId>,
}

impl Message {
    /// Where this message stands in history.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { timestamp: self.timestamp, id: self.id }
    }

    /// Whether its sender took it back.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.body.kind == BodyKind::Recalled
    }
}

/// A place in history: messages are ordered by time, those of equal time by id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The message's time.
    pub timestamp: Timestamp,
    /// The message.
    pub id: MessageId,
}

/// What becomes of a message once it was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Written to the timeline before the sender is answered.
    Stored,
    /// Written to the timeline for devices that are away, but no part of history, lists and unread
    /// numbers.
    Queued,
    /// Sent to who is online now, then forgotten.
    Transient,
    /// Held until the sender's connection is lost, then sent to who is online and forgotten.
    Will,
}

/// Where something is said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// In this conversation.
    Conversation(ConversationId),
    /// To this client: in the direct conversation with it, which is made if there is none.
    Client(ClientId),
}

/// The wish to say something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostMessage {
    /// Where.
    pub to: Target,
    /// Who hands it over. A server may speak in any client's name, also where that client is no member.
    pub origin: Origin,
    /// What.
    pub body: Body,
    /// Whom it calls.
    pub mentions: Mentions,
    /// Recognises a retry: the same token gives the same message and the same answer.
    pub token: Option<ClientToken>,
    /// Whether to tell the sender of delivery and reading.
    pub receipt: bool,
    /// How long it lives.
    pub keep: Keep,
    /// Bytes that count towards the size limit beside the payload (such as push texts).
    pub extra_bytes: usize,
}

/// The wish to put into history what was said elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportMessage {
    /// Where.
    pub to: Target,
    /// Who said it.
    pub sender: ClientId,
    /// What.
    pub body: Body,
    /// When it was said.
    pub at: Timestamp,
}

/// An accepted message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posted {
    /// Its id.
    pub id: MessageId,
    /// The server's time for it.
    pub timestamp: Timestamp,
    /// Where it was said.
    pub conversation: ConversationId,
    /// Its place in the timeline; 0 if it has none.
    pub seq: Seq,
}

/// The wish to change or take back a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PatchMessage {
    /// Where it was said.
    pub conversation: ConversationId,
    /// Which.
    pub message: MessageId,
    /// The time the client believes the message has; a different one means another message.
    pub timestamp: Option<Timestamp>,
    /// What it says from now on. A recall's body has the kind [`BodyKind::Recalled`].
    pub body: Body,
    /// Whom it calls from now on.
    pub mentions: Mentions,
    /// By which right: the sender always may; moderators and the server only where this says so.
    pub authority: Authority,
    /// The oldest message that may still be changed like this.
    pub not_before: Option<Timestamp>,
    /// How often a message may be edited.
    pub edits_max: Option<u32>,
}

impl PatchMessage {
    /// Whether the message is taken back rather than changed.
    #[must_use]
    pub fn is_recall(&self) -> bool {
        self.body.kind == BodyKind::Recalled
    }
}

/// Which stretch of history to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryQuery {
    /// Whose history.
    pub conversation: ConversationId,
    /// Which way to go from `start`.
    pub direction: Direction,
    /// Where to begin; `None` is the near end of the direction.
    pub start: Option<Bound>,
    /// Where to stop; `None` is unbounded.
    pub end: Option<Bound>,
    /// Begin after this message, whether it still exists or not, and not before `start`.
    pub after: Option<MessageId>,
    /// Only messages of these kinds; of all kinds if there are none.
    pub kinds: Vec<KindFilter>,
    /// Only what this client said.
    pub sender: Option<ClientId>,
    /// Whether to leave out recalled messages instead of showing their places.
    pub without_recalled: bool,
    /// Whether to leave out what was said before the reader became a member.
    pub since_joined: bool,
    /// Whether the reader is in this room, where members are not stored.
    pub in_room: bool,
    /// At most so many, the nearest to `start`.
    pub limit: usize,
}

impl HistoryQuery {
    /// The newest `limit` messages.
    #[must_use]
    pub fn newest(conversation: ConversationId, limit: usize) -> Self {
        Self {
            conversation,
            direction: Direction::Backward,
            start: None,
            end: None,
            after: None,
            kinds: Vec::new(),
            sender: None,
            without_recalled: false,
            since_joined: false,
            in_room: false,
            limit,
        }
    }
}

/// Which kinds of content to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KindFilter {
    /// This one.
    Exactly(BodyKind),
    /// Everything that an app defined itself.
    AnyCustom,
}

/// A stretch of history, from old to new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there is more beyond, in the direction of the query.
    pub more: bool,
}

/// One end of a stretch of history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// The time of the end.
    pub timestamp: Timestamp,
    /// The message at the end; without one the bound is the whole millisecond.
    pub id: Option<MessageId>,
    /// Whether what lies exactly on the bound belongs to the stretch.
    pub included: bool,
}

/// A direction through history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From new to old.
    Backward,
    /// From old to new.
    Forward,
}
