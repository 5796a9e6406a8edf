//! The store port: everything durable, in five small parts.
//!
//! Each method is one use case's one transaction and returns the domain's outcome. Rules are the
//! pure functions of this crate, called by the engine *inside* the transaction; an `Err` means that
//! nothing was written. One contract suite (`posthouse-testkit`) runs on every engine.
//!
//! **Durability.** A writing method returns only after its transaction is on stable storage. The
//! one exception is named at [`Timeline::mark_read`] and [`Timeline::mark_delivered`].
//!
//! **Order.** A writing method that changes a timeline takes an [`AfterCommit`] closure. The engine
//! calls it exactly once if something was written and committed and never otherwise, in the order of
//! commits within each conversation, before the method's future resolves, and before any
//! [`Timeline::list_unread`] can see the change. It must not block: it only pushes to queues.
//!
//! **Temporary conversations** are over when `until <= now` by the store's clock, on every access,
//! whether their rows still exist or not. Every method that names one that is over, or that never
//! was, fails with [`Error::TemporaryOver`](crate::error::Error::TemporaryOver).
//!
//! **Tenants.** Every method outside [`Apps`] takes the app first and finds nothing of another app.

use async_trait::async_trait;

use crate::app::{App, Settings};
use crate::attribute::{AttributeChange, Attributes};
use crate::conversation::{AttributesChanged, Conversation, Created, Found, MembersChanged};
use crate::error::Result;
use crate::event::{Missed, Patch};
use crate::id::{AppId, ClientId, ClientToken, ConversationId};
use crate::message::{Body, HistoryQuery, Mentions, Message, PatchMessage};
use crate::query::ConversationQuery;
use crate::receipt::{DeliveredMarked, MarkDelivered, MarkRead, MemberMarks, ReadMarked, Unread};
use crate::time::Timestamp;

/// Called once on commit, in commit order; see the module's text.
pub type AfterCommit<T> = Box<dyn FnOnce(&T) + Send + 'static>;

/// All parts together.
pub trait Store: Apps + Conversations + Timeline + Inbox + Upkeep {}

impl<T: Apps + Conversations + Timeline + Inbox + Upkeep> Store for T {}

/// Tenants.
#[async_trait]
pub trait Apps: Send + Sync + 'static {
    /// All apps if anything about them has changed since `revision`, with the new revision.
    /// Revision 0 is before everything. Cheap when nothing has changed, also across processes.
    async fn apps_since(&self, revision: u64) -> Result<Option<(u64, Vec<App>)>>;

    /// Adds an app. `Ok(false)`, and nothing is written, if its name, its id or one of the key
    /// values named in `unique_keys` belongs to another app already.
    async fn add_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool>;

    /// Replaces keys and settings of the app with this id. `Ok(false)` if there is none or if a
    /// unique key's value belongs to another app.
    async fn replace_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool>;
}

/// A conversation to make, with everything but its place in the store decided.
#[derive(Clone, PartialEq, Debug)]
pub struct NewConversation {
    /// The id to take, or the next free one after it ([`ConversationId::when_taken`]); its temporary
    /// bit and `kind` agree.
    pub id: ConversationId,
    /// Kind, creator, attributes, times and members as they are to be. Members hold no duplicates.
    /// With [`Conversation::unique`] set, a living conversation of the same app, the same
    /// permanence (lasting or temporary) and the same set is returned instead of making this one.
    pub conversation: Conversation,
}

/// A member change by somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberChange {
    /// Where.
    pub conversation: ConversationId,
    /// Who does it. Must be a member, except to add oneself.
    pub by: ClientId,
    /// Whom to add or remove; no duplicates.
    pub members: Vec<ClientId>,
}

/// An attribute change by a member.
#[derive(Clone, PartialEq, Debug)]
pub struct AttributesChange {
    /// Where.
    pub conversation: ConversationId,
    /// Who does it; must be a member (in rooms the caller has checked).
    pub by: ClientId,
    /// What to do, in this order, all or nothing.
    pub changes: Vec<AttributeChange>,
}

/// Conversations and their members.
#[async_trait]
pub trait Conversations: Send + Sync + 'static {
    /// Makes a conversation, or finds the unique one. A new one's members hear of it through the
    /// inbox (`Joined`), each with the read mark at the start. Two calls at once for the same set
    /// make one conversation.
    async fn create_conversation(
        &self,
        app: &AppId,
        new: NewConversation,
        after: AfterCommit<Created>,
    ) -> Result<Created>;

    /// The conversation with members. `TemporaryOver` or `ConversationNotFound` if there is none.
    async fn conversation(&self, app: &AppId, id: ConversationId) -> Result<Conversation>;

    /// Finds conversations; see [`ConversationQuery`]. `reader` is whose last messages may be shown:
    /// a [`Found::last_message`] is only given where `reader` is a stored member or the
    /// conversation is one of `rooms`. Fails with `QueryTooDear` rather than look at more than
    /// 200,000 conversations or for longer than two seconds (one conversation's regular expressions
    /// longer, at worst). A page ends early at [`PAGE_BYTES_MAX`]. Queries that may take long have a
    /// thread of their own, so that they delay each other and nobody else.
    async fn query_conversations(
        &self,
        app: &AppId,
        reader: &ClientId,
        rooms: &[ConversationId],
        query: ConversationQuery,
    ) -> Result<Vec<Found>>;

    /// Adds members; those who are in already stay as they are. New ones get an inbox entry
    /// (`Joined`), start with nothing unread, and take part in the timeline as one member change.
    /// If nobody is new, nothing is written and [`MembersChanged::at`] is the present `updated_at`.
    /// A [`crate::conversation::Kind::Direct`] that changes becomes a `Group` and loses its unique
    /// set; any unique conversation loses it, keeping its kind otherwise. Errors: `TemporaryIsFixed`,
    /// `NotMember` (adding others from outside), `ConversationFull` (nobody is added then).
    async fn add_members(
        &self,
        app: &AppId,
        change: MemberChange,
        settings: &Settings,
        after: AfterCommit<MembersChanged>,
    ) -> Result<MembersChanged>;

    /// Removes members, with their marks and unread numbers; an inbox entry (`Left`) tells them.
    /// Otherwise as [`Self::add_members`]. `NotMember` if `by` is none (unless everyone named,
    /// `by` alone, is out already: leaving twice is no error).
    async fn remove_members(
        &self,
        app: &AppId,
        change: MemberChange,
        after: AfterCommit<MembersChanged>,
    ) -> Result<MembersChanged>;

    /// Changes attributes. Errors: `TemporaryIsFixed`, `NotMember`, `Attribute`, `AttributesTooLarge`.
    async fn update_attributes(
        &self,
        app: &AppId,
        change: AttributesChange,
        settings: &Settings,
        after: AfterCommit<AttributesChanged>,
    ) -> Result<AttributesChanged>;

    /// Sets whether `client` gets push notifications from the conversation; returns its
    /// `updated_at`, which doesn't change. Errors: `TemporaryIsFixed`, `NotMember`.
    async fn set_muted(
        &self,
        app: &AppId,
        conversation: ConversationId,
        client: &ClientId,
        muted: bool,
    ) -> Result<Timestamp>;
}

/// A message to append.
#[derive(Clone, PartialEq, Debug)]
pub struct NewMessage {
    /// Where.
    pub conversation: ConversationId,
    /// Who says it; must be allowed to by [`crate::conversation::Kind::may_post`].
    pub sender: ClientId,
    /// What.
    pub body: Body,
    /// Whom it calls.
    pub mentions: Mentions,
    /// Recognises a retry.
    pub token: Option<ClientToken>,
    /// Whether the sender wants receipts.
    pub receipt: bool,
}

/// An appended message, or the one that an earlier try appended.
#[derive(Clone, PartialEq, Debug)]
pub struct Appended {
    /// The message as stored.
    pub message: Message,
    /// The conversation's kind.
    pub kind: crate::conversation::Kind,
    /// Members at the moment of the append. Empty in rooms.
    pub members: Vec<ClientId>,
    /// Whether (conversation, sender, token) was there before. Then nothing was written and the
    /// `AfterCommit` closure is not called.
    pub duplicate: bool,
}

/// An applied patch.
#[derive(Clone, PartialEq, Debug)]
pub struct Patched {
    /// The change.
    pub patch: Patch,
    /// Members at that moment. Empty in rooms.
    pub members: Vec<ClientId>,
}

/// Messages, marks, unread numbers.
#[async_trait]
pub trait Timeline: Send + Sync + 'static {
    /// Appends a message: stamps id ([`crate::idgen`]) and time (the clock's, but never before the
    /// conversation's newest), gives the next [`crate::id::Seq`], and records direct mentions.
    async fn append_message(
        &self,
        app: &AppId,
        new: NewMessage,
        after: AfterCommit<Appended>,
    ) -> Result<Appended>;

    /// Replaces a message's body and mentions, keeps its place and time, and adds an entry to the
    /// timeline with a time that strictly grows within the conversation. Errors: `NotMember`,
    /// `MessageNotFound` (also for a different time), `NotSender`, `AlreadyRecalled`.
    async fn patch_message(
        &self,
        app: &AppId,
        by: &ClientId,
        patch: PatchMessage,
        after: AfterCommit<Patched>,
    ) -> Result<Patched>;

    /// A stretch of history, always from old to new, and at most [`PAGE_BYTES_MAX`] of it: a page of
    /// large messages is shorter than asked for, but never empty because of that. The caller has checked who may read rooms;
    /// of other kinds a `reader` who is no member gets `NotMember` (`TemporaryOver` for temporary).
    async fn read_history(&self, app: &AppId, reader: &ClientId, query: HistoryQuery)
    -> Result<Vec<Message>>;

    /// Moves the reader's mark forward (never back) and stamps `read_at` on messages that asked for
    /// receipts. What the sender of a receipt learns only concerns conversations of at most two
    /// members, and only senders who are still members. The closure is also called when the mark
    /// doesn't move. `NotInRooms` in rooms. Losing the last second of marks in a power cut is acceptable.
    async fn mark_read(
        &self,
        app: &AppId,
        reader: &ClientId,
        mark: MarkRead,
        after: AfterCommit<ReadMarked>,
    ) -> Result<ReadMarked>;

    /// Moves the receiver's delivery mark forward (never back), stamps `delivered_at` on messages
    /// that asked for receipts, and returns one receipt for each that this mark newly covers and
    /// that lies in a conversation of at most two members. Durability as [`Self::mark_read`].
    async fn mark_delivered(
        &self,
        app: &AppId,
        receiver: &ClientId,
        mark: MarkDelivered,
        after: AfterCommit<DeliveredMarked>,
    ) -> Result<DeliveredMarked>;

    /// The marks of all members. `NotMember` for strangers, `NotInRooms`.
    async fn member_marks(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
    ) -> Result<Vec<MemberMarks>>;

    /// Conversations with unread messages whose unread state changed after `since` (all, without
    /// one), newest message first, at most `limit`. Sees every commit whose `AfterCommit` closure
    /// has run and no other; [`Unread::head`] tells up to where each number counts.
    async fn list_unread(
        &self,
        app: &AppId,
        reader: &ClientId,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Unread>>;

    /// Edits and recalls after `since` in the client's conversations, oldest first, at most `limit`,
    /// each message once, with its newest body.
    async fn list_patches(
        &self,
        app: &AppId,
        reader: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Patch>>;
}

/// What a client missed while away.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// `Joined` and `Left` events of the client itself after `since`, oldest first, at most
    /// `limit`. Of those at the same millisecond as the last one all are returned, so that a page
    /// can go on from its time. Events of temporary conversations end with them.
    async fn list_invitations(
        &self,
        app: &AppId,
        client: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Missed>>;

    /// What happened after `since` in conversations the client is in (`MembersJoined`,
    /// `MembersLeft`, `Updated`, and `Receipt` for reading in conversations of two), oldest first.
    /// `None` if there were more than `limit` or than [`PAGE_BYTES_MAX`]: then a client does better to
    /// forget its caches.
    async fn list_changes(
        &self,
        app: &AppId,
        client: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Option<Vec<Missed>>>;
}

/// What must be done now and then.
#[async_trait]
pub trait Upkeep: Send + Sync + 'static {
    /// Forgets temporary conversations whose bucket is over, a bucket at a time, without delaying
    /// live traffic. Returns how many buckets were dropped.
    async fn forget_expired(&self) -> Result<usize>;

    /// Forgets inbox entries and the contents of changes from before `before`, the oldest few hundred
    /// at most, so that live traffic isn't delayed. The places of changes in the timeline stay.
    /// Returns how many; call again until there are none.
    async fn forget_missed(&self, before: Timestamp) -> Result<usize>;

    /// Waits until everything accepted is on disk, then refuses further writes with `Closing`.
    async fn close(&self) -> Result<()>;
}

/// The most bytes of content in one answer: history, found conversations, missed changes. SDKs ask
/// for 100 messages of 5 KB at most; what is larger only serves to fill our memory.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Attributes as the bytes that count against [`Settings::attributes_bytes_max`].
#[must_use]
pub fn attributes_size(attributes: &Attributes) -> usize {
    serde_json::to_vec(attributes).map_or(usize::MAX, |json| json.len())
}
