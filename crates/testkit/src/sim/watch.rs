//! A store that notes down what is committed, in the order of commits.
//!
//! The simulation's model is told through it, and through nothing else, what the truth is. It also looks
//! whether the truth is durable when it is told: another connection must see that its file was committed
//! since the batch began. And it can end the server's life between a commit and the word of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use posthouse_core::account::{Account, AccountChange, Contact, ContactChange, NewAccount};
use posthouse_core::app::{App, Settings};
use posthouse_core::conversation::{
    AttributesChanged, Authority, Conversation, ConversationDeleted, Created, DeleteConversation, Ended,
    Found, GroupPage, MembersChanged, RoleChange, RoleChanged,
};
use posthouse_core::error::Result;
use posthouse_core::event::{Missed, Patch};
use posthouse_core::id::{AppId, ClientId, ConversationId, DeviceId, MessageId, Seq};
use posthouse_core::listing::{ListChange, ListQuery, Listed, Note, Queue, Removal, Stretch, Waiting};
use posthouse_core::message::{History, HistoryQuery, Message, PatchMessage};
use posthouse_core::port::store::{
    AccountRemoved, AfterCommit, Appended, Apps, AttributesChange, Clients, Conversations, Inbox,
    MemberChange, NewConversation, NewMessage, Patched, Timeline, Upkeep,
};
use posthouse_core::query::ConversationQuery;
use posthouse_core::receipt::{
    Acknowledge, Acknowledged, DeliveredMarked, MarkDelivered, MarkRead, MemberMarks, ReadMarked, Unread,
};
use posthouse_core::time::Timestamp;
use posthouse_store::SqliteStore;
use rusqlite::{Connection, OpenFlags};

/// Something that was committed.
#[derive(Debug)]
pub(super) enum Record {
    /// A conversation.
    Made(Box<Conversation>),
    /// A message, with the conversation that was made for it.
    Posted(Box<Appended>),
    /// An edit or a recall.
    Patched(Box<Patch>),
    /// Members who came or went.
    Members {
        /// Where.
        conversation: ConversationId,
        /// Whether they came.
        joined: bool,
        /// The outcome.
        changed: MembersChanged,
    },
    /// Attributes of a conversation.
    Updated(ConversationId),
    /// A read mark, which need not have moved.
    Read {
        /// Whose.
        reader: ClientId,
        /// As asked for.
        mark: MarkRead,
        /// The reader's unread number afterwards.
        unread: u64,
    },
    /// Messages that one member sees no more.
    Removed {
        /// Where.
        conversation: ConversationId,
        /// Who.
        client: ClientId,
        /// Which.
        removal: Removal,
    },
    /// A conversation that was taken off lists.
    Deleted {
        /// As asked for.
        wish: DeleteConversation,
        /// What became of it.
        deleted: ConversationDeleted,
    },
}

impl Record {
    fn conversation(&self) -> ConversationId {
        match self {
            Self::Made(made) => made.id,
            Self::Posted(appended) => appended.message.conversation,
            Self::Patched(patch) => patch.conversation,
            Self::Members { conversation, .. }
            | Self::Removed { conversation, .. }
            | Self::Updated(conversation) => *conversation,
            Self::Read { mark, .. } => mark.conversation,
            Self::Deleted { wish, .. } => wish.conversation,
        }
    }
}

/// Records of one life of the server.
pub(super) struct Log {
    records: Mutex<Vec<Record>>,
    faults: Mutex<Vec<String>>,
    witness: Mutex<Witness>,
    /// The server is dead: what is still called was never called.
    over: AtomicBool,
    /// The server dies before it tells anybody of what it commits now.
    speechless: AtomicBool,
}

impl Log {
    /// A log of what the store of `dir` commits.
    #[must_use]
    pub(super) fn of(dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            faults: Mutex::default(),
            witness: Mutex::new(Witness { dir: dir.to_owned(), files: BTreeMap::new() }),
            over: AtomicBool::new(false),
            speechless: AtomicBool::new(false),
        })
    }

    /// A batch of writes begins.
    pub(super) fn batch_begins(&self) {
        locked(&self.witness).look();
    }

    /// What was committed since the last call.
    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut locked(&self.records))
    }

    /// What was told although it was not durable.
    pub(super) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.faults))
    }

    /// From now on the server commits without telling anybody.
    pub(super) fn hush(&self) {
        self.speechless.store(true, Ordering::Relaxed);
    }

    /// The server is dead.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Notes a record; whether the server gets to tell of it.
    fn note(&self, record: Record) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        // A mark that doesn't move is told of too, and nothing is written.
        let is_written = !matches!(record, Record::Read { .. });
        if is_written && !locked(&self.witness).has_seen_commit(record.conversation()) {
            locked(&self.faults).push(format!("told before it is durable: {record:?}"));
        }
        locked(&self.records).push(record);
        !self.speechless.load(Ordering::Relaxed)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections of somebody else to the store's files. SQLite counts what others commit, whatever the
/// tables are (`PRAGMA data_version`).
struct Witness {
    dir: PathBuf,
    files: BTreeMap<PathBuf, (Connection, i64)>,
}

impl Witness {
    fn look(&mut self) {
        self.files.retain(|path, (db, version)| match data_version(db) {
            Some(now) if path.exists() => {
                *version = now;
                true
            }
            Some(_) | None => false,
        });
        let mut paths = vec![self.dir.join("posthouse.db")];
        let buckets = std::fs::read_dir(self.dir.join("expiring")).into_iter().flatten().flatten();
        paths.extend(
            buckets.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "db")),
        );
        for path in paths {
            if self.files.contains_key(&path) {
                continue;
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            if let Ok(db) = Connection::open_with_flags(&path, flags)
                && let Some(version) = data_version(&db)
            {
                self.files.insert(path, (db, version));
            }
        }
    }

    /// Whether the conversation's file has had a commit since the batch began. Of a file that was made in
    /// this very batch nothing is known.
    fn has_seen_commit(&self, conversation: ConversationId) -> bool {
        let path = match conversation.bucket() {
            None => self.dir.join("posthouse.db"),
            Some(bucket) => self.dir.join("expiring").join(format!("{}.db", bucket.bits())),
        };
        let Some((db, before)) = self.files.get(&path) else { return true };
        data_version(db) != Some(*before)
    }
}

fn data_version(db: &Connection) -> Option<i64> {
    db.query_row("PRAGMA data_version", [], |row| row.get(0)).ok()
}

/// The store with a [`Log`].
pub(super) struct Watched {
    inner: Arc<SqliteStore>,
    log: Arc<Log>,
}

impl Watched {
    /// Notes in `log` what `inner` commits.
    #[must_use]
    pub(super) fn new(inner: Arc<SqliteStore>, log: Arc<Log>) -> Self {
        Self { inner, log }
    }

    fn seen<T: 'static>(
        &self,
        after: AfterCommit<T>,
        record: impl FnOnce(&T) -> Record + Send + 'static,
    ) -> AfterCommit<T> {
        let log = Arc::clone(&self.log);
        Box::new(move |outcome| {
            if log.note(record(outcome)) {
                after(outcome);
            }
        })
    }
}

#[async_trait]
impl Apps for Watched {
    async fn apps_since(&self, revision: u64) -> Result<Option<(u64, Vec<App>)>> {
        self.inner.apps_since(revision).await
    }

    async fn add_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool> {
        self.inner.add_app(app, unique_keys).await
    }

    async fn replace_app(&self, app: App, unique_keys: &'static [&'static str]) -> Result<bool> {
        self.inner.replace_app(app, unique_keys).await
    }
}

#[async_trait]
impl Clients for Watched {
    async fn add_account(&self, app: &AppId, new: NewAccount) -> Result<Account> {
        self.inner.add_account(app, new).await
    }

    async fn account(&self, app: &AppId, client: &ClientId) -> Result<Option<Account>> {
        self.inner.account(app, client).await
    }

    async fn list_accounts(&self, app: &AppId, after: u64, limit: usize) -> Result<Vec<Account>> {
        self.inner.list_accounts(app, after, limit).await
    }

    async fn change_account(&self, app: &AppId, client: &ClientId, change: AccountChange) -> Result<Account> {
        self.inner.change_account(app, client, change).await
    }

    async fn remove_account(
        &self,
        app: &AppId,
        client: &ClientId,
        after: AfterCommit<AccountRemoved>,
    ) -> Result<AccountRemoved> {
        self.inner.remove_account(app, client, after).await
    }

    async fn list_contacts(
        &self,
        app: &AppId,
        owner: &ClientId,
        after: Option<&ClientId>,
        limit: usize,
    ) -> Result<Vec<Contact>> {
        self.inner.list_contacts(app, owner, after, limit).await
    }

    async fn change_contact(
        &self,
        app: &AppId,
        owner: &ClientId,
        peer: &ClientId,
        change: ContactChange,
        after: AfterCommit<Vec<ClientId>>,
    ) -> Result<Vec<ClientId>> {
        self.inner.change_contact(app, owner, peer, change, after).await
    }

    async fn list_blocks(&self, app: &AppId, owner: &ClientId) -> Result<Vec<ClientId>> {
        self.inner.list_blocks(app, owner).await
    }

    async fn set_blocked(
        &self,
        app: &AppId,
        owner: &ClientId,
        peers: &[ClientId],
        blocked: bool,
    ) -> Result<()> {
        self.inner.set_blocked(app, owner, peers, blocked).await
    }
}

#[async_trait]
impl Conversations for Watched {
    async fn create_conversation(
        &self,
        app: &AppId,
        new: NewConversation,
        after: AfterCommit<Created>,
    ) -> Result<Created> {
        let after =
            self.seen(after, |created: &Created| Record::Made(Box::new(created.conversation.clone())));
        self.inner.create_conversation(app, new, after).await
    }

    async fn conversation(&self, app: &AppId, id: ConversationId) -> Result<Conversation> {
        self.inner.conversation(app, id).await
    }

    async fn query_conversations(
        &self,
        app: &AppId,
        reader: &ClientId,
        rooms: &[ConversationId],
        query: ConversationQuery,
    ) -> Result<Vec<Found>> {
        self.inner.query_conversations(app, reader, rooms, query).await
    }

    async fn add_members(
        &self,
        app: &AppId,
        change: MemberChange,
        settings: &Settings,
        after: AfterCommit<MembersChanged>,
    ) -> Result<MembersChanged> {
        let conversation = change.conversation;
        let after = self.seen(after, move |changed: &MembersChanged| Record::Members {
            conversation,
            joined: true,
            changed: changed.clone(),
        });
        self.inner.add_members(app, change, settings, after).await
    }

    async fn remove_members(
        &self,
        app: &AppId,
        change: MemberChange,
        after: AfterCommit<MembersChanged>,
    ) -> Result<MembersChanged> {
        let conversation = change.conversation;
        let after = self.seen(after, move |changed: &MembersChanged| Record::Members {
            conversation,
            joined: false,
            changed: changed.clone(),
        });
        self.inner.remove_members(app, change, after).await
    }

    async fn update_attributes(
        &self,
        app: &AppId,
        change: AttributesChange,
        settings: &Settings,
        after: AfterCommit<AttributesChanged>,
    ) -> Result<AttributesChanged> {
        let conversation = change.conversation;
        let after = self.seen(after, move |_: &AttributesChanged| Record::Updated(conversation));
        self.inner.update_attributes(app, change, settings, after).await
    }

    async fn set_muted(
        &self,
        app: &AppId,
        conversation: ConversationId,
        client: &ClientId,
        muted: bool,
    ) -> Result<Timestamp> {
        self.inner.set_muted(app, conversation, client, muted).await
    }

    async fn find_direct(
        &self,
        app: &AppId,
        one: &ClientId,
        other: &ClientId,
    ) -> Result<Option<ConversationId>> {
        self.inner.find_direct(app, one, other).await
    }

    async fn list_groups(
        &self,
        app: &AppId,
        member: Option<&ClientId>,
        skip: usize,
        limit: usize,
    ) -> Result<GroupPage> {
        self.inner.list_groups(app, member, skip, limit).await
    }

    async fn change_role(
        &self,
        app: &AppId,
        conversation: ConversationId,
        by: &ClientId,
        authority: Authority,
        change: RoleChange,
        after: AfterCommit<RoleChanged>,
    ) -> Result<RoleChanged> {
        self.inner.change_role(app, conversation, by, authority, change, after).await
    }

    async fn end_conversation(
        &self,
        app: &AppId,
        conversation: ConversationId,
        by: &ClientId,
        authority: Authority,
        after: AfterCommit<Ended>,
    ) -> Result<Ended> {
        self.inner.end_conversation(app, conversation, by, authority, after).await
    }

    async fn delete_conversation(
        &self,
        app: &AppId,
        delete: DeleteConversation,
        after: AfterCommit<ConversationDeleted>,
    ) -> Result<ConversationDeleted> {
        let wish = delete.clone();
        let after = self.seen(after, move |deleted: &ConversationDeleted| Record::Deleted {
            wish,
            deleted: deleted.clone(),
        });
        self.inner.delete_conversation(app, delete, after).await
    }
}

#[async_trait]
impl Timeline for Watched {
    async fn append_message(
        &self,
        app: &AppId,
        new: NewMessage,
        after: AfterCommit<Appended>,
    ) -> Result<Appended> {
        let after = self.seen(after, |appended: &Appended| Record::Posted(Box::new(appended.clone())));
        self.inner.append_message(app, new, after).await
    }

    async fn patch_message(
        &self,
        app: &AppId,
        by: &ClientId,
        patch: PatchMessage,
        after: AfterCommit<Patched>,
    ) -> Result<Patched> {
        let after = self.seen(after, |patched: &Patched| Record::Patched(Box::new(patched.patch.clone())));
        self.inner.patch_message(app, by, patch, after).await
    }

    async fn read_history(&self, app: &AppId, reader: &ClientId, query: HistoryQuery) -> Result<History> {
        self.inner.read_history(app, reader, query).await
    }

    async fn message(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Message> {
        self.inner.message(app, reader, conversation, id).await
    }

    async fn read_timeline(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
        after: Seq,
        limit: usize,
    ) -> Result<Stretch> {
        self.inner.read_timeline(app, reader, conversation, after, limit).await
    }

    async fn acknowledge(
        &self,
        app: &AppId,
        by: &ClientId,
        acknowledge: Acknowledge,
        after: AfterCommit<Acknowledged>,
    ) -> Result<Acknowledged> {
        self.inner.acknowledge(app, by, acknowledge, after).await
    }

    async fn remove_messages(
        &self,
        app: &AppId,
        client: &ClientId,
        conversation: ConversationId,
        device: Option<&DeviceId>,
        removal: Removal,
        tell: bool,
        after: AfterCommit<()>,
    ) -> Result<()> {
        let (whose, what) = (client.clone(), removal.clone());
        let after =
            self.seen(after, move |(): &()| Record::Removed { conversation, client: whose, removal: what });
        self.inner.remove_messages(app, client, conversation, device, removal, tell, after).await
    }

    async fn remove_everything(
        &self,
        app: &AppId,
        client: &ClientId,
        device: Option<&DeviceId>,
        after: AfterCommit<()>,
    ) -> Result<()> {
        self.inner.remove_everything(app, client, device, after).await
    }

    async fn mark_read(
        &self,
        app: &AppId,
        reader: &ClientId,
        mark: MarkRead,
        after: AfterCommit<ReadMarked>,
    ) -> Result<ReadMarked> {
        let (whose, what) = (reader.clone(), mark.clone());
        let after = self.seen(after, move |marked: &ReadMarked| Record::Read {
            reader: whose,
            mark: what,
            unread: marked.unread.count,
        });
        self.inner.mark_read(app, reader, mark, after).await
    }

    async fn mark_delivered(
        &self,
        app: &AppId,
        receiver: &ClientId,
        mark: MarkDelivered,
        after: AfterCommit<DeliveredMarked>,
    ) -> Result<DeliveredMarked> {
        self.inner.mark_delivered(app, receiver, mark, after).await
    }

    async fn member_marks(
        &self,
        app: &AppId,
        reader: &ClientId,
        conversation: ConversationId,
    ) -> Result<Vec<MemberMarks>> {
        self.inner.member_marks(app, reader, conversation).await
    }

    async fn list_unread(
        &self,
        app: &AppId,
        reader: &ClientId,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Unread>> {
        self.inner.list_unread(app, reader, since, limit).await
    }

    async fn list_patches(
        &self,
        app: &AppId,
        reader: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Patch>> {
        self.inner.list_patches(app, reader, since, limit).await
    }
}

#[async_trait]
impl Inbox for Watched {
    async fn list_invitations(
        &self,
        app: &AppId,
        client: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Missed>> {
        self.inner.list_invitations(app, client, since, limit).await
    }

    async fn list_changes(
        &self,
        app: &AppId,
        client: &ClientId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Option<Vec<Missed>>> {
        self.inner.list_changes(app, client, since, limit).await
    }

    async fn list_conversations(
        &self,
        app: &AppId,
        client: &ClientId,
        query: ListQuery,
    ) -> Result<Vec<Listed>> {
        self.inner.list_conversations(app, client, query).await
    }

    async fn change_listed(
        &self,
        app: &AppId,
        client: &ClientId,
        conversation: ConversationId,
        device: Option<&DeviceId>,
        change: ListChange,
        after: AfterCommit<Option<Timestamp>>,
    ) -> Result<Option<Timestamp>> {
        self.inner.change_listed(app, client, conversation, device, change, after).await
    }

    async fn open_device(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        window_ms: i64,
    ) -> Result<()> {
        self.inner.open_device(app, client, device, window_ms).await
    }

    async fn waiting(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        limit: usize,
    ) -> Result<Waiting> {
        self.inner.waiting(app, client, device, limit).await
    }

    async fn position(&self, app: &AppId, client: &ClientId, device: &DeviceId, queue: Queue) -> Result<u64> {
        self.inner.position(app, client, device, queue).await
    }

    async fn set_position(
        &self,
        app: &AppId,
        client: &ClientId,
        device: &DeviceId,
        queue: Queue,
        place: u64,
    ) -> Result<()> {
        self.inner.set_position(app, client, device, queue, place).await
    }

    async fn read_notes(
        &self,
        app: &AppId,
        client: &ClientId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Note>> {
        self.inner.read_notes(app, client, after, limit).await
    }
}

#[async_trait]
impl Upkeep for Watched {
    async fn forget_expired(&self) -> Result<usize> {
        self.inner.forget_expired().await
    }

    async fn forget_missed(&self, before: Timestamp) -> Result<usize> {
        self.inner.forget_missed(before).await
    }

    async fn forget_deleted(&self) -> Result<usize> {
        self.inner.forget_deleted().await
    }

    async fn forget_devices(&self, before: Timestamp) -> Result<usize> {
        self.inner.forget_devices(before).await
    }

    async fn flush_positions(&self) -> Result<usize> {
        self.inner.flush_positions().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
