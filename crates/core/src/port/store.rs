//! The store port: everything durable, in six small parts.
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

use std::sync::Arc;

use async_trait::async_trait;

use crate::account::{Account, AccountChange, Contact, ContactChange, NewAccount};
use crate::app::{App, Settings};
use crate::attribute::{AttributeChange, Attributes};
use crate::conversation::{
    AttributesChanged, Authority, Conversation, ConversationDeleted, Created, DeleteConversation, Ended,
    Found, GroupPage, MembersChanged, RoleChange, RoleChanged,
};
use crate::error::Result;
use crate::event::{Missed, Patch};
use crate::id::{AppId, ClientId, ClientToken, ConversationId, DeviceId, MessageId, Seq};
use crate::listing::{ListChange, ListQuery, Listed, Note, Queue, Removal, Stretch, Waiting};
use crate::message::{Body, History, HistoryQuery, Mentions, Message, Origin, PatchMessage};
use crate::query::ConversationQuery;
use crate::receipt::{
    Acknowledge, Acknowledged, DeliveredMarked, MarkDelivered, MarkRead, MemberMarks, ReadMarked, Unread,
};
use crate::time::Timestamp;

/// Called once on commit, in commit order; see the module's text.
pub type AfterCommit<T> = Box<dyn FnOnce(&T) + Send + 'static>;

/// All parts together.
pub trait Store: Apps + Clients + Conversations + Timeline + Inbox + Upkeep {}

impl<T: Apps + Clients + Conversations + Timeline + Inbox + Upkeep> Store for T {}

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

/// Accounts of clients, whom they know, and their devices. Only gateways whose clients register use
/// this part; a client without an account is a client all the same.
#[async_trait]
pub trait Clients: Send + Sync + 'static {
    /// Registers a client. Error: `AccountExists`.
    async fn add_account(&self, app: &AppId, new: NewAccount) -> Result<Account>;

    /// The account of `client`, if it has one.
    async fn account(&self, app: &AppId, client: &ClientId) -> Result<Option<Account>>;

    /// Accounts whose number is above `after`, in the order of their making, at most `limit`.
    async fn list_accounts(&self, app: &AppId, after: u64, limit: usize) -> Result<Vec<Account>>;

    /// Changes an account; a new secret and a ban count up its generation. Error: `AccountNotFound`.
    async fn change_account(&self, app: &AppId, client: &ClientId, change: AccountChange) -> Result<Account>;

    /// Removes an account, its contacts (who are told, as by [`ContactChange::Remove`]), its blocks, its
    /// devices, its inbox, and its lines of conversation lists. Its memberships and messages stay; the
    /// use case ends the groups it owns and leaves the others first. What was said until now in the
    /// conversations that it is still in is out of its sight, so that whoever takes the name finds nothing.
    /// Error: `AccountNotFound`.
    async fn remove_account(
        &self,
        app: &AppId,
        client: &ClientId,
        after: AfterCommit<AccountRemoved>,
    ) -> Result<AccountRemoved>;

    /// Whom `owner` knows, by name, after `after`, at most `limit`.
    async fn list_contacts(
        &self,
        app: &AppId,
        owner: &ClientId,
        after: Option<&ClientId>,
        limit: usize,
    ) -> Result<Vec<Contact>>;

    /// Changes who knows whom, on both sides at once, and leaves notes for those who are to hear of it:
    /// `Request` asks the peer (nothing happens if they are contacts), `Accept` and `Decline` answer a
    /// request of the peer (`NotContact` without one), `Add` and `Remove` need no request, `Remark`
    /// needs a contact (`NotContact`). Returns who was told. Errors: `ListFull` on either side,
    /// `Blocked` when the peer blocks the owner (of `Request`).
    async fn change_contact(
        &self,
        app: &AppId,
        owner: &ClientId,
        peer: &ClientId,
        change: ContactChange,
        after: AfterCommit<Vec<ClientId>>,
    ) -> Result<Vec<ClientId>>;

    /// Whom `owner` doesn't want to hear, newest first.
    async fn list_blocks(&self, app: &AppId, owner: &ClientId) -> Result<Vec<ClientId>>;

    /// Blocks or unblocks `peers`. Error: `ListFull` (nothing changes then).
    async fn set_blocked(
        &self,
        app: &AppId,
        owner: &ClientId,
        peers: &[ClientId],
        blocked: bool,
    ) -> Result<()>;
}

/// The outcome of removing an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountRemoved {
    /// The account as it was.
    pub account: Account,
    /// Contacts for whom a note was left.
    pub told: Vec<ClientId>,
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
    /// By which right others are added or removed. As a member, anyone may add oneself too.
    pub authority: Authority,
    /// The most members to have after it; the app's limit holds as well.
    pub members_max: Option<usize>,
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
    /// By which right.
    pub authority: Authority,
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

    /// The direct conversation of `one` and `other` (who may be the same), if there is one.
    async fn find_direct(
        &self,
        app: &AppId,
        one: &ClientId,
        other: &ClientId,
    ) -> Result<Option<ConversationId>>;

    /// Groups, newest first: those that `member` is in, or all of the app. Skips `skip`, returns at
    /// most `limit`, a page ends early at [`PAGE_BYTES_MAX`].
    async fn list_groups(
        &self,
        app: &AppId,
        member: Option<&ClientId>,
        skip: usize,
        limit: usize,
    ) -> Result<GroupPage>;

    /// Hands a conversation on, or names who looks after it; `by` needs to be its owner
    /// ([`Authority::Owner`]) unless the server asks. Leaves notes (`Role`) for the client concerned and, on
    /// handing on, the owner before. Errors: `NotMember`, `NotAllowed`, `NotAMember` (the client is not
    /// in it), `IsOwner` (the owner as an administrator, or the same owner again).
    async fn change_role(
        &self,
        app: &AppId,
        conversation: ConversationId,
        by: &ClientId,
        authority: Authority,
        change: RoleChange,
        after: AfterCommit<RoleChanged>,
    ) -> Result<RoleChanged>;

    /// Ends a group for everybody: the conversation is gone as if it had never been
    /// (`ConversationNotFound`), notes (`Ended`) tell its members, its messages are forgotten by
    /// [`Upkeep::forget_deleted`]. Errors: `NotMember`, `NotAllowed`.
    async fn end_conversation(
        &self,
        app: &AppId,
        conversation: ConversationId,
        by: &ClientId,
        authority: Authority,
        after: AfterCommit<Ended>,
    ) -> Result<Ended>;

    /// Deletes a conversation from the lists of everybody or of one member, until something new is said
    /// in it; nothing is unread there afterwards. With its messages, what was said until now is gone
    /// for the same people: for everybody out of history, lists, unread numbers and queues on every
    /// wire. Leaves notes (`ConversationDeleted`) for those concerned. Error: `NotMember`.
    async fn delete_conversation(
        &self,
        app: &AppId,
        delete: DeleteConversation,
        after: AfterCommit<ConversationDeleted>,
    ) -> Result<ConversationDeleted>;
}

/// Where a message goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// Into this conversation.
    Conversation(ConversationId),
    /// Into the direct conversation of the sender and this client, which is made if there is none:
    /// then its id is `fresh` or the next free one, and both are told of it as of any new conversation.
    Direct {
        /// The other one; the sender itself for notes to oneself.
        with: ClientId,
        /// An id for a new one, lasting.
        fresh: ConversationId,
    },
}

/// A message to append.
#[derive(Clone, PartialEq, Debug)]
pub struct NewMessage {
    /// Where.
    pub to: Destination,
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
    /// Who hands it over; decides by which right. An import needs [`Self::imported_at`].
    pub origin: Origin,
    /// Whether it is part of history, of lists and of what is unread; otherwise it only waits in the
    /// timeline for devices that are away ([`crate::message::Keep::Queued`]).
    pub shown: bool,
    /// Whether it counts as unread; what is not shown never does.
    pub counted: bool,
    /// When an imported message was said. It goes to its place in history and nowhere else: it has no
    /// place in the timeline ([`Seq`] 0), reaches no device and is never unread. It must not lie after now
    /// (`NotInThePast`).
    pub imported_at: Option<Timestamp>,
}

/// An appended message, or the one that an earlier try appended.
#[derive(Clone, PartialEq, Debug)]
pub struct Appended {
    /// The message as stored.
    pub message: Message,
    /// The conversation's kind.
    pub kind: crate::conversation::Kind,
    /// Members at the moment of the append. Empty in rooms.
    pub members: Arc<[ClientId]>,
    /// The direct conversation that was made for it.
    pub created: Option<Conversation>,
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
    /// conversation's newest), gives the next [`Seq`], and records direct mentions.
    /// A client must be allowed to by [`crate::conversation::Kind::may_post`], and in a direct
    /// conversation not be blocked by the other (`Blocked`); a server may always.
    async fn append_message(
        &self,
        app: &AppId,
        new: NewMessage,
        after: AfterCommit<Appended>,
    ) -> Result<Appended>;

    /// Replaces a message's body and mentions, keeps its place and time, and adds an entry to the
    /// timeline with a time that strictly grows within the conversation. Errors: `NotMember`,
    /// `MessageNotFound` (also for a different time, for what is not part of history and for what is
    /// deleted), `NotSender`, `AlreadyRecalled`, `RecallTooLate` (older than
    /// [`PatchMessage::not_before`]), `TooManyEdits`.
    async fn patch_message(
        &self,
        app: &AppId,
        by: &ClientId,
        patch: PatchMessage,
        after: AfterCommit<Patched>,
    ) -> Result<Patched>;

    /// A stretch of history, always from old to new, and at most [`PAGE_BYTES_MAX`] of it: a page of
    /// large messages is shorter than asked for, but never empty because of that. Who may read a room
    /// [`HistoryQuery::in_room`] says; of other kinds a `reader` who is no member gets `NotMember` (`TemporaryOver` for temporary). What was
    /// deleted, for everybody or by the reader, is not in it. Filtered reads, which may look at much,
    /// go where they delay each other and nobody else.
    async fn read_history(&self, app: &AppId, reader: &ClientId, query: HistoryQuery) -> Result<History>;

    /// One message of history that the reader may see, and not from before a later member came. Errors:
    /// `NotMember`, `MessageNotFound`.
    async fn message(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Message>;

    /// The timeline after a place, as one member may see it: without what was deleted or what imports
    /// put into history only, at most `limit` entries and [`PAGE_BYTES_MAX`]. Nothing from before the member
    /// came. Recalled messages are only there as their recall. Errors: `NotMember`, `NotInRooms`.
    async fn read_timeline(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
        after: Seq,
        limit: usize,
    ) -> Result<Stretch>;

    /// Acknowledges one message to its sender: stamps `read_at` (or `delivered_at`) if it is the first,
    /// counts readers, and leaves a note (`Receipt`) for the sender unless that is the caller itself or no
    /// member any more. Doing it twice tells nobody again. The caller's marks and unread numbers stay
    /// as they are. Nobody acknowledges what was said before it came. Errors: `NotMember`, `NotInRooms`,
    /// `MessageNotFound`.
    async fn acknowledge(
        &self,
        app: &AppId,
        by: &ClientId,
        acknowledge: Acknowledge,
        after: AfterCommit<Acknowledged>,
    ) -> Result<Acknowledged>;

    /// Removes messages for one member only: by id (those it can't see or that don't exist are passed
    /// over; more than [`REMOVED_AT_ONCE_MAX`](crate::listing::REMOVED_AT_ONCE_MAX) are `TooManyAtOnce`) or
    /// everything up to a time, out of its history, list, unread number and queues on every wire. Leaves a
    /// note (`MessagesRemoved`) for its other devices if they are to be told. Error: `NotMember`.
    async fn remove_messages(
        &self,
        app: &AppId,
        client: &ClientId,
        conversation: ConversationId,
        device: Option<&DeviceId>,
        removal: Removal,
        tell: bool,
        after: AfterCommit<()>,
    ) -> Result<()>;

    /// Removes everything said until now in all lasting conversations of the client, for it alone, and
    /// empties its list. Leaves one note (`MessagesRemoved` of everything).
    async fn remove_everything(
        &self,
        app: &AppId,
        client: &ClientId,
        device: Option<&DeviceId>,
        after: AfterCommit<()>,
    ) -> Result<()>;

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

    /// The client's conversation list: direct ones and groups it is in, each with its newest message that
    /// the client may see (neither recalled nor deleted) and its unread number, newest first. Lines whose
    /// conversation was deleted from the list come back with the next message. One line per
    /// conversation.
    async fn list_conversations(
        &self,
        app: &AppId,
        client: &ClientId,
        query: ListQuery,
    ) -> Result<Vec<Listed>>;

    /// Pins or marks a line; leaves a note (`Listed`) for the client's other devices. Returns since
    /// when it is pinned. Errors: `NotMember`, `ConversationNotFound`, `ListFull` (of pins).
    async fn change_listed(
        &self,
        app: &AppId,
        client: &ClientId,
        conversation: ConversationId,
        device: Option<&DeviceId>,
        change: ListChange,
        after: AfterCommit<Option<Timestamp>>,
    ) -> Result<Option<Timestamp>>;

    /// Gets ready for a device. One that was never seen before begins with what is at most
    /// `window_ms` old; others go on where they were. A client has at most 100 devices: those seen longest ago
    /// are forgotten beyond that.
    async fn open_device(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        window_ms: i64,
    ) -> Result<()>;

    /// What the device has not acknowledged, at most `limit` conversations. Sees every commit whose
    /// `AfterCommit` closure has run.
    async fn waiting(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        limit: usize,
    ) -> Result<Waiting>;

    /// The place up to which the device has acknowledged a queue: the last [`Seq`] of a timeline, the
    /// number of the last note of the inbox.
    async fn position(&self, app: &AppId, client: &ClientId, device: &DeviceId, queue: Queue) -> Result<u64>;

    /// Moves the place forward (never back). Kept in memory and written by
    /// [`Upkeep::flush_positions`]: after a power cut a device may get the last moments again. Only for devices
    /// that were opened.
    async fn set_position(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        queue: Queue,
        place: u64,
    ) -> Result<()>;

    /// Notes of the inbox after `after`, in order, at most `limit`.
    async fn read_notes(&self, app: &AppId, client: &ClientId, after: u64, limit: usize)
    -> Result<Vec<Note>>;
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

    /// Forgets messages that were deleted for everybody, with what belongs to them, some hundreds of rows at
    /// most. Returns how many rows; call again until there are none.
    async fn forget_deleted(&self) -> Result<usize>;

    /// Forgets devices that have not logged in since `before`, with their places, some hundreds of rows at
    /// most; such a device is a new one when it returns. Returns how many rows; call again until there are
    /// none.
    async fn forget_devices(&self, before: Timestamp) -> Result<usize>;

    /// Writes the places that devices have acknowledged; returns how many.
    async fn flush_positions(&self) -> Result<usize>;

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
