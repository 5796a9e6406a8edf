//! Messages: what is said, by whom, and what became of it.

use std::sync::Arc;

use bytes::Bytes;

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
    /// Sent to who is online now, then forgotten.
    Transient,
    /// Held until the sender's connection is lost, then sent to who is online and forgotten.
    Will,
}

/// The wish to say something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostMessage {
    /// Where.
    pub to: ConversationId,
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

/// An accepted message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Posted {
    /// Its id.
    pub id: MessageId,
    /// The server's time for it.
    pub timestamp: Timestamp,
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
    /// Only messages of this kind.
    pub kind: Option<BodyKind>,
    /// At most so many, the nearest to `start`.
    pub limit: usize,
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
