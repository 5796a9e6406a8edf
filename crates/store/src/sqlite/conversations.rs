//! Conversations and their members.

use async_trait::async_trait;
use posthouse_core::app::Settings;
use posthouse_core::attribute;
use posthouse_core::conversation::{
    AttributesChanged, Authority, Conversation, ConversationDeleted, Created, DeleteConversation, Ended,
    Found, GroupPage, Kind, MemberSet, MembersChanged, RoleChange, RoleChanged, change_time,
};
use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::id::{AppId, ClientId, ConversationId};
use posthouse_core::message::Message;
use posthouse_core::port::store::{
    AfterCommit, AttributesChange, Conversations, MemberChange, NewConversation, PAGE_BYTES_MAX,
    attributes_size,
};
use posthouse_core::query::{ConversationQuery, Field, Filter, Scope, SortKey, order};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::json;

use super::notes::{NOTE_JOINED, NOTE_LEFT, NewNote, note};
use super::positions::forget_queue;
use super::readers::Reader;
use super::rows::{
    Failure, Place, Work, absent, changes_value, clients_text, conversation_columns, conversation_key,
    conversation_of, conversation_row, int, is_member, kind_columns, kind_of, load_members, member_count,
    members, object_of, place, role_of,
};
use super::shards::FileKey;
use super::tail::Late;
use super::timeline::{CHANGE_JOINED, CHANGE_LEFT, CHANGE_UPDATED, Entry, add_beginning, add_entry};
use super::views::{member, newest_of_history};
use super::writer::{Outcome, Touches, Tx, Write};
use super::{SqliteStore, UNKNOWN_APP, groups, removal};

/// The most conversations one query looks at; see the port.
const QUERY_ROWS_MAX: usize = 200_000;

/// The longest one query may take, in milliseconds; see the port.
const QUERY_MS_MAX: i64 = 2_000;

/// Attributes of candidates that one query may hold in memory at once, in bytes of JSON.
const QUERY_BYTES_MAX: usize = 64 * 1024 * 1024;

#[async_trait]
impl Conversations for SqliteStore {
    async fn create_conversation(
        &self,
        app: &AppId,
        new: NewConversation,
        after: AfterCommit<Created>,
    ) -> Result<Created> {
        let app = self.app_key(app).await?;
        if app == UNKNOWN_APP {
            tracing::error!("a conversation was to be made in an app that doesn't exist");
            return Err(StoreFault::Failed.into());
        }
        let file = FileKey::of(new.id);
        let makes_bucket = new.id.is_temporary();
        // A unique temporary conversation may live in any bucket.
        let reads_siblings = new.id.is_temporary() && new.conversation.unique.is_some();
        let work = move |tx: &mut Tx<'_>| create(tx, app, new);
        self.write_job(|reply| Write {
            makes_bucket,
            reads_siblings,
            ..Write::new(file, Touches::Log, after, work, reply)
        })
        .await
    }

    async fn conversation(&self, app: &AppId, id: ConversationId) -> Result<Conversation> {
        let app = self.app_key(app).await?;
        self.read_from(id, move |db, now| {
            let mut found = load(db, app, id)?.ok_or_else(|| absent(id))?;
            found.kind.ensure_alive(now)?;
            load_members(db, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn query_conversations(
        &self,
        app: &AppId,
        reader: &ClientId,
        rooms: &[ConversationId],
        query: ConversationQuery,
    ) -> Result<Vec<Found>> {
        let app = self.app_key(app).await?;
        let late = match &query.scope {
            Scope::Member(member) => Late::OfClient(app, member.clone()),
            Scope::Ids(ids) | Scope::Temporary { ids, .. } => Late::Conversations(ids.clone()),
            Scope::All => Late::All,
        };
        let (client, rooms) = (reader.clone(), rooms.to_vec());
        let lane = if may_take_long(&query) { &self.searches } else { &self.readers };
        self.read_late(lane, late, move |reader| find(reader, app, &client, &rooms, &query)).await
    }

    async fn add_members(
        &self,
        app: &AppId,
        change: MemberChange,
        settings: &Settings,
        after: AfterCommit<MembersChanged>,
    ) -> Result<MembersChanged> {
        let app = self.app_key(app).await?;
        let max = settings.members_max as usize;
        self.write_to(change.conversation, after, move |tx| add(tx, app, &change, max)).await
    }

    async fn remove_members(
        &self,
        app: &AppId,
        change: MemberChange,
        after: AfterCommit<MembersChanged>,
    ) -> Result<MembersChanged> {
        let app = self.app_key(app).await?;
        self.write_to(change.conversation, after, move |tx| remove(tx, app, &change)).await
    }

    async fn update_attributes(
        &self,
        app: &AppId,
        change: AttributesChange,
        settings: &Settings,
        after: AfterCommit<AttributesChanged>,
    ) -> Result<AttributesChanged> {
        let app = self.app_key(app).await?;
        let max = settings.attributes_bytes_max as usize;
        self.write_to(change.conversation, after, move |tx| update(tx, app, &change, max)).await
    }

    async fn set_muted(
        &self,
        app: &AppId,
        conversation: ConversationId,
        client: &ClientId,
        muted: bool,
    ) -> Result<Timestamp> {
        let app = self.app_key(app).await?;
        let client = client.clone();
        self.write_to(conversation, Box::new(|_| ()), move |tx| {
            let place = place(tx.db, app, conversation, tx.now)?;
            ensure_changeable_by(tx.db, &place, &client, Authority::Member)?;
            let changed = tx
                .db
                .prepare_cached("UPDATE member SET muted = ?3 WHERE conversation = ?1 AND client = ?2")?
                .execute((conversation_key(conversation), client.as_str(), muted))?;
            place.kind.ensure_member(changed == 1)?;
            Ok(Outcome::Written(place.updated_at))
        })
        .await
    }

    async fn find_direct(
        &self,
        app: &AppId,
        one: &ClientId,
        other: &ClientId,
    ) -> Result<Option<ConversationId>> {
        let app = self.app_key(app).await?;
        let set = MemberSet::of(&[one.clone(), other.clone()]);
        self.read(move |reader| {
            let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(None) };
            let found = unique_of(&db, app, set)?;
            Ok(found.filter(|(_, kind)| *kind == Kind::Direct).map(|(id, _)| id))
        })
        .await
    }

    async fn list_groups(
        &self,
        app: &AppId,
        member: Option<&ClientId>,
        skip: usize,
        limit: usize,
    ) -> Result<GroupPage> {
        let app = self.app_key(app).await?;
        let member = member.cloned();
        let late = member.clone().map_or(Late::All, |member| Late::OfClient(app, member));
        // All groups of an app are many.
        let lane = if member.is_none() { &self.searches } else { &self.readers };
        self.read_late(lane, late, move |reader| match reader.snapshot(FileKey::Main)? {
            Some(db) => groups::list(&db, app, member.as_ref(), skip, limit),
            None => Ok(GroupPage { groups: Vec::new(), total: 0 }),
        })
        .await
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
        let app = self.app_key(app).await?;
        let by = by.clone();
        self.write_to(conversation, after, move |tx| {
            let place = place(tx.db, app, conversation, tx.now)?;
            groups::change_role(tx, app, &place, &by, authority, &change)
        })
        .await
    }

    async fn end_conversation(
        &self,
        app: &AppId,
        conversation: ConversationId,
        by: &ClientId,
        authority: Authority,
        after: AfterCommit<Ended>,
    ) -> Result<Ended> {
        let app = self.app_key(app).await?;
        let by = by.clone();
        self.write_to(conversation, after, move |tx| {
            let place = place(tx.db, app, conversation, tx.now)?;
            let mut found = load(tx.db, app, conversation)?.ok_or_else(|| absent(conversation))?;
            load_members(tx.db, &mut found)?;
            removal::end(tx, app, &place, &by, authority, found)
        })
        .await
    }

    async fn delete_conversation(
        &self,
        app: &AppId,
        delete: DeleteConversation,
        after: AfterCommit<ConversationDeleted>,
    ) -> Result<ConversationDeleted> {
        let app = self.app_key(app).await?;
        self.write_to(delete.conversation, after, move |tx| {
            let place = place(tx.db, app, delete.conversation, tx.now)?;
            removal::delete_conversation(tx, app, &place, &delete)
        })
        .await
    }
}

fn load(db: &Connection, app: i64, id: ConversationId) -> Work<Option<Conversation>> {
    Ok(db
        .prepare_cached(concat!(
            "SELECT ",
            conversation_columns!(),
            " FROM conversation c JOIN head h ON h.conversation = c.id WHERE c.id = ?1 AND c.app = ?2"
        ))?
        .query_row((conversation_key(id), app), conversation_row)
        .optional()?)
}

fn create(tx: &mut Tx<'_>, app: i64, new: NewConversation) -> Work<Outcome<Created>> {
    let NewConversation { id, conversation } = new;
    if let Some(set) = conversation.unique {
        let files = std::iter::once(tx.db).chain(tx.siblings.iter().copied());
        for db in files {
            if let Some(conversation) = living_unique(db, app, set, tx.now)? {
                return Ok(Outcome::Unchanged(Created { conversation, existing: true }));
            }
        }
        // One that is over may still hold the place until its bucket is dropped.
        tx.db
            .prepare_cached("UPDATE conversation SET unique_set = NULL WHERE app = ?1 AND unique_set = ?2")?
            .execute((app, set.0))?;
    }
    let mut id = id;
    while tx.db.prepare_cached("SELECT 1 FROM conversation WHERE id = ?1")?.exists([conversation_key(id)])? {
        id = id.when_taken();
    }
    let (kind, until) = kind_columns(conversation.kind);
    tx.db
        .prepare_cached(
            "INSERT INTO conversation (id, app, kind, until, created_at, updated_at, unique_set, creator, owner, \
             attributes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            conversation_key(id),
            app,
            kind,
            until,
            conversation.created_at.0,
            conversation.updated_at.0,
            conversation.unique.map(|set| set.0),
            conversation.creator.as_ref().map(ClientId::as_str),
            conversation.owner.as_ref().map(ClientId::as_str),
            attributes_text(&conversation.attributes),
        ))?;
    tx.db.prepare_cached("INSERT INTO head (conversation) VALUES (?1)")?.execute([conversation_key(id)])?;
    let at = conversation.updated_at;
    if let Some(first) = conversation.members.first() {
        let by = conversation.creator.as_ref().unwrap_or(first);
        // Members who were away are told of this beginning like of any other coming; in the timeline it
        // lies before everything.
        add_beginning(tx.db, id, &member_entry(CHANGE_JOINED, at, by, &conversation.members))?;
    }
    for (client, joined) in conversation.members.iter().zip(0..) {
        insert_member(tx, id, &NewMember { app, client, joined, at, seq: 0, total: 0 })?;
        if conversation.muted_by.contains(client) {
            tx.db
                .prepare_cached("UPDATE member SET muted = 1 WHERE conversation = ?1 AND client = ?2")?
                .execute((conversation_key(id), client.as_str()))?;
        }
        if conversation.admins.contains(client) {
            tx.db
                .prepare_cached("UPDATE member SET role = 1 WHERE conversation = ?1 AND client = ?2")?
                .execute((conversation_key(id), client.as_str()))?;
        }
        let by = conversation.creator.as_ref().unwrap_or(client);
        note(tx.db, app, client, &NewNote::of(NOTE_JOINED, id, by, at))?;
    }
    let conversation = Conversation { id, ..conversation };
    Ok(Outcome::Written(Created { conversation, existing: false }))
}

/// The direct conversation of two clients (or of one with itself), and with it what was made if there
/// was none. Only in `posthouse.db`.
pub(super) fn find_or_make_direct(
    tx: &mut Tx<'_>,
    app: i64,
    one: &ClientId,
    other: &ClientId,
    fresh: ConversationId,
) -> Work<(ConversationId, Option<Conversation>)> {
    let mut members = vec![one.clone()];
    if other != one {
        members.push(other.clone());
    }
    let set = MemberSet::of(&members);
    match unique_of(tx.db, app, set)? {
        Some((id, Kind::Direct)) => return Ok((id, None)),
        // The unique conversation of one client is made as a group; it is what a client says to itself.
        Some((id, _)) => {
            let (kind, _) = kind_columns(Kind::Direct);
            tx.db
                .prepare_cached("UPDATE conversation SET kind = ?2 WHERE id = ?1")?
                .execute((conversation_key(id), kind))?;
            tx.cool(id);
            return Ok((id, None));
        }
        None => {}
    }
    let conversation = Conversation {
        id: fresh,
        kind: Kind::Direct,
        creator: Some(one.clone()),
        attributes: attribute::Attributes::new(),
        unique: Some(set),
        created_at: tx.now,
        updated_at: tx.now,
        last_message_at: None,
        members,
        joined: Vec::new(),
        muted_by: Vec::new(),
        owner: Some(one.clone()),
        admins: Vec::new(),
    };
    match create(tx, app, NewConversation { id: fresh, conversation })? {
        Outcome::Written(Created { conversation, existing: false }) => {
            Ok((conversation.id, Some(conversation)))
        }
        Outcome::Written(created) | Outcome::Unchanged(created) => Ok((created.conversation.id, None)),
    }
}

/// The lasting conversation that is unique for a set of members.
fn unique_of(db: &Connection, app: i64, set: MemberSet) -> Work<Option<(ConversationId, Kind)>> {
    Ok(db
        .prepare_cached("SELECT id, kind, until FROM conversation WHERE app = ?1 AND unique_set = ?2")?
        .query_row((app, set.0), |row| Ok((conversation_of(row, 0)?, kind_of(row, 1)?)))
        .optional()?)
}

fn living_unique(db: &Connection, app: i64, set: MemberSet, now: Timestamp) -> Work<Option<Conversation>> {
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            conversation_columns!(),
            " FROM conversation c JOIN head h ON h.conversation = c.id WHERE c.app = ?1 AND c.unique_set = ?2"
        ))?
        .query_row((app, set.0), conversation_row)
        .optional()?;
    match found {
        Some(mut found) if found.kind.ensure_alive(now).is_ok() => {
            load_members(db, &mut found)?;
            Ok(Some(found))
        }
        Some(_) | None => Ok(None),
    }
}

struct NewMember<'a> {
    app: i64,
    client: &'a ClientId,
    joined: i64,
    at: Timestamp,
    /// The end of the timeline; nothing up to there is unread.
    seq: u64,
    /// Messages up to there.
    total: u64,
}

fn insert_member(tx: &mut Tx<'_>, id: ConversationId, new: &NewMember<'_>) -> rusqlite::Result<()> {
    tx.comes(new.app, new.client);
    tx.db
        .prepare_cached(
        "INSERT INTO member (conversation, client, app, joined, joined_at, read_seq, read_total, delivered_seq, \
         unread_changed_at, joined_seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, ?5, ?6)",
    )?
    .execute((
        conversation_key(id),
        new.client.as_str(),
        new.app,
        new.joined,
        new.at.0,
        int(new.seq),
        int(new.total),
    ))?;
    Ok(())
}

fn add(tx: &mut Tx<'_>, app: i64, change: &MemberChange, max: usize) -> Work<Outcome<MembersChanged>> {
    let id = change.conversation;
    let place = changeable(tx, app, change)?;
    let mut present = members(tx.db, id)?;
    let alone = change.members.iter().all(|client| *client == change.by);
    match change.authority {
        Authority::Member if alone => {}
        Authority::Member => place.kind.ensure_member(present.contains(&change.by))?,
        Authority::Moderator | Authority::Owner | Authority::Server => ensure_right(tx.db, &place, change)?,
    }
    let added: Vec<ClientId> =
        change.members.iter().filter(|client| !present.contains(client)).cloned().collect();
    if added.is_empty() {
        return Ok(Outcome::Unchanged(unchanged(&place, change, present)));
    }
    let max = change.members_max.map_or(max, |own| own.min(max));
    if present.len() + added.len() > max {
        return Err(Error::ConversationFull { max }.into());
    }
    let at = change_time(place.updated_at, tx.now);
    let seq = add_entry(tx.db, &place, &member_entry(CHANGE_JOINED, at, &change.by, &added))?;
    let first: i64 = tx
        .db
        .prepare_cached("SELECT coalesce(max(joined) + 1, 0) FROM member WHERE conversation = ?1")?
        .query_row([conversation_key(id)], |row| row.get(0))?;
    for (client, joined) in added.iter().zip(first..) {
        insert_member(tx, id, &NewMember { app, client, joined, at, seq, total: place.total })?;
        note(tx.db, app, client, &NewNote::of(NOTE_JOINED, id, &change.by, at))?;
    }
    present.extend(added.iter().cloned());
    settle(tx.db, &place, at)?;
    Ok(Outcome::Written(changed(&place, change, added, present, at)))
}

fn remove(tx: &mut Tx<'_>, app: i64, change: &MemberChange) -> Work<Outcome<MembersChanged>> {
    let id = change.conversation;
    let place = changeable(tx, app, change)?;
    let mut present = members(tx.db, id)?;
    let alone = change.members.iter().all(|client| *client == change.by);
    let removed: Vec<ClientId> =
        change.members.iter().filter(|client| present.contains(client)).cloned().collect();
    match change.authority {
        // To leave is every member's right, and to leave twice no error.
        Authority::Member | Authority::Moderator | Authority::Owner if alone => {}
        Authority::Member => place.kind.ensure_member(present.contains(&change.by))?,
        Authority::Moderator | Authority::Owner | Authority::Server => ensure_right(tx.db, &place, change)?,
    }
    if removed.is_empty() {
        return Ok(Outcome::Unchanged(unchanged(&place, change, present)));
    }
    if matches!(change.authority, Authority::Moderator | Authority::Owner) {
        ensure_owner_stays(tx.db, id, &removed)?;
    }
    let at = change_time(place.updated_at, tx.now);
    add_entry(tx.db, &place, &member_entry(CHANGE_LEFT, at, &change.by, &removed))?;
    for client in &removed {
        tx.db
            .prepare_cached("DELETE FROM member WHERE conversation = ?1 AND client = ?2")?
            .execute((conversation_key(id), client.as_str()))?;
        forget_queue(tx.db, app, client, id)?;
        note(tx.db, app, client, &NewNote::of(NOTE_LEFT, id, &change.by, at))?;
    }
    present.retain(|client| !removed.contains(client));
    settle(tx.db, &place, at)?;
    Ok(Outcome::Written(changed(&place, change, removed, present, at)))
}

fn ensure_right(db: &Connection, place: &Place, change: &MemberChange) -> Work<()> {
    change.authority.ensure(place.kind, role_of(db, place.id, &change.by)?)?;
    Ok(())
}

/// Where roles are kept, an owner hands its conversation on or ends it, and doesn't go.
fn ensure_owner_stays(db: &Connection, id: ConversationId, removed: &[ClientId]) -> Work<()> {
    match groups::owner_of(db, id)? {
        Some(owner) if removed.contains(&owner) => Err(Error::IsOwner.into()),
        Some(_) | None => Ok(()),
    }
}

fn changeable(tx: &Tx<'_>, app: i64, change: &MemberChange) -> Work<Place> {
    let place = place(tx.db, app, change.conversation, tx.now)?;
    ensure_changeable_by(tx.db, &place, &change.by, change.authority)?;
    if !place.kind.stores_members() {
        return Err(Error::RoomIsOwnChoice.into());
    }
    Ok(place)
}

/// A stranger is told the same of a temporary conversation as of none at all, so it is not even told
/// that this one can't be changed.
fn ensure_changeable_by(db: &Connection, place: &Place, by: &ClientId, authority: Authority) -> Work<()> {
    if place.kind.is_temporary() && authority != Authority::Server {
        place.kind.ensure_member(is_member(db, place.id, by)?)?;
    }
    place.kind.ensure_changeable()?;
    Ok(())
}

fn member_entry<'a>(kind: i64, at: Timestamp, by: &'a ClientId, clients: &[ClientId]) -> Entry<'a> {
    Entry { kind, at, by, message: None, data: Some(clients_text(clients)) }
}

/// What any change of members does to the conversation itself.
fn settle(db: &Connection, place: &Place, at: Timestamp) -> rusqlite::Result<()> {
    let (kind, _) = kind_columns(place.kind.after_member_change());
    db.prepare_cached("UPDATE conversation SET kind = ?2, unique_set = NULL, updated_at = ?3 WHERE id = ?1")?
        .execute((conversation_key(place.id), kind, at.0))?;
    Ok(())
}

fn unchanged(place: &Place, change: &MemberChange, present: Vec<ClientId>) -> MembersChanged {
    MembersChanged {
        kind: place.kind,
        settled: change.members.clone(),
        changed: Vec::new(),
        members: present,
        at: place.updated_at,
    }
}

fn changed(
    place: &Place,
    change: &MemberChange,
    changed: Vec<ClientId>,
    present: Vec<ClientId>,
    at: Timestamp,
) -> MembersChanged {
    MembersChanged {
        kind: place.kind.after_member_change(),
        settled: change.members.clone(),
        changed,
        members: present,
        at,
    }
}

fn update(
    tx: &mut Tx<'_>,
    app: i64,
    change: &AttributesChange,
    max: usize,
) -> Work<Outcome<AttributesChanged>> {
    let id = change.conversation;
    let place = place(tx.db, app, id, tx.now)?;
    ensure_changeable_by(tx.db, &place, &change.by, change.authority)?;
    if change.authority != Authority::Member {
        change.authority.ensure(place.kind, role_of(tx.db, id, &change.by)?)?;
    } else if place.kind.stores_members() {
        place.kind.ensure_member(is_member(tx.db, id, &change.by)?)?;
    }
    let text: String = tx
        .db
        .prepare_cached("SELECT attributes FROM conversation WHERE id = ?1")?
        .query_row([conversation_key(id)], |row| row.get(0))?;
    let mut attributes = object_of(&text, 0)?;
    let modified = attribute::apply(&mut attributes, &change.changes).map_err(Error::from)?;
    let size = attributes_size(&attributes);
    if size > max {
        return Err(Error::AttributesTooLarge { size, max }.into());
    }
    let at = change_time(place.updated_at, tx.now);
    let data = json!({ "changes": changes_value(&change.changes), "modified": modified }).to_string();
    add_entry(
        tx.db,
        &place,
        &Entry { kind: CHANGE_UPDATED, at, by: &change.by, message: None, data: Some(data) },
    )?;
    tx.db
        .prepare_cached("UPDATE conversation SET attributes = ?2, updated_at = ?3 WHERE id = ?1")?
        .execute((conversation_key(id), attributes_text(&attributes), at.0))?;
    let members = members(tx.db, id)?;
    Ok(Outcome::Written(AttributesChanged { kind: place.kind, modified, members, at }))
}

fn attributes_text(attributes: &attribute::Attributes) -> String {
    serde_json::Value::Object(attributes.clone()).to_string()
}

/// Candidates of a query, never many more than the page asked for.
struct Candidates<'a> {
    sort: &'a [SortKey],
    keep: usize,
    kept: Vec<Conversation>,
    bytes: usize,
}

impl Candidates<'_> {
    fn add(&mut self, conversation: Conversation) -> Result<()> {
        self.bytes += attributes_size(&conversation.attributes);
        self.kept.push(conversation);
        if self.kept.len() >= self.keep.saturating_mul(2).max(1_000) || self.bytes > QUERY_BYTES_MAX {
            self.trim();
        }
        if self.bytes > QUERY_BYTES_MAX { Err(Error::QueryTooDear) } else { Ok(()) }
    }

    fn trim(&mut self) {
        self.kept.sort_by(|a, b| order(self.sort, a, b));
        self.kept.truncate(self.keep);
        self.bytes = self.kept.iter().map(|kept| attributes_size(&kept.attributes)).sum();
    }
}

/// Whether a query may take long: it looks at every conversation, or runs users' regular expressions.
fn may_take_long(query: &ConversationQuery) -> bool {
    query.scope == Scope::All || query.filter.has_regex()
}

fn find(
    reader: &mut Reader,
    app: i64,
    client: &ClientId,
    rooms: &[ConversationId],
    query: &ConversationQuery,
) -> Work<Vec<Found>> {
    let clock = reader.clock();
    let began = clock.now();
    let with_members =
        filter_needs_members(&query.filter) || query.sort.iter().any(|key| needs_members(&key.field));
    let mut candidates = Candidates {
        sort: &query.sort,
        keep: query.skip.saturating_add(query.limit),
        kept: Vec::new(),
        bytes: 0,
    };
    let mut looked_at = 0_usize;
    let mut consider = |db: &Connection, mut conversation: Conversation| -> Work<()> {
        looked_at += 1;
        // Looked at for every row: the regular expressions of one can take as long as thousands without.
        let late = clock.now().ms_since(began) > QUERY_MS_MAX;
        if looked_at > QUERY_ROWS_MAX || late {
            return Err(Error::QueryTooDear.into());
        }
        if with_members {
            load_members(db, &mut conversation)?;
        }
        if query.filter.matches(&conversation) {
            candidates.add(conversation)?;
        }
        Ok(())
    };
    match &query.scope {
        Scope::Member(member) => scan(
            reader,
            concat!(
                "SELECT ",
                conversation_columns!(),
                " FROM member x CROSS JOIN conversation c ON c.id = x.conversation \
                 CROSS JOIN head h ON h.conversation = c.id WHERE x.app = ?1 AND x.client = ?2"
            ),
            (app, member.as_str()),
            &mut consider,
        )?,
        Scope::All => scan(
            reader,
            concat!(
                "SELECT ",
                conversation_columns!(),
                " FROM conversation c CROSS JOIN head h ON h.conversation = c.id WHERE c.app = ?1"
            ),
            [app],
            &mut consider,
        )?,
        Scope::Ids(ids) => {
            let lasting = distinct(ids.iter().copied().filter(|id| !id.is_temporary()));
            for id in lasting {
                if let Some(db) = reader.snapshot(FileKey::Main)?
                    && let Some(conversation) = load(&db, app, id)?
                {
                    consider(&db, conversation)?;
                }
            }
        }
        Scope::Temporary { ids, member } => {
            let temporary = distinct(ids.iter().copied().filter(|id| id.is_temporary()));
            for id in temporary {
                let Some(db) = reader.snapshot(FileKey::of(id))? else { continue };
                let Some(conversation) = load(&db, app, id)? else { continue };
                if conversation.kind.ensure_alive(began).is_ok() && is_member(&db, id, member)? {
                    consider(&db, conversation)?;
                }
            }
        }
    }
    candidates.trim();
    let mut page = Vec::new();
    let mut bytes = 0;
    for conversation in candidates.kept.into_iter().skip(query.skip).take(query.limit) {
        let found = show(reader, app, client, rooms, query.with_last_message, conversation)?;
        bytes += found_size(&found);
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(found);
    }
    Ok(page)
}

/// About the bytes of a conversation in an answer.
fn found_size(found: &Found) -> usize {
    let members: usize = found.conversation.members.iter().map(|member| member.as_str().len() + 3).sum();
    let message = found.last_message.as_ref().map_or(0, |message| message.body.payload.bytes.len());
    attributes_size(&found.conversation.attributes) + members + message
}

fn scan(
    reader: &mut Reader,
    sql: &str,
    params: impl rusqlite::Params,
    consider: &mut impl FnMut(&Connection, Conversation) -> Work<()>,
) -> Work<()> {
    let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(()) };
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        consider(&db, conversation_row(row)?)?;
    }
    Ok(())
}

fn distinct(ids: impl Iterator<Item = ConversationId>) -> std::collections::BTreeSet<ConversationId> {
    ids.collect()
}

/// Completes a conversation for the page. It is read anew, so that a change since then can't give a
/// client something that never was; one that has vanished since keeps its last known state.
fn show(
    reader: &mut Reader,
    app: i64,
    client: &ClientId,
    rooms: &[ConversationId],
    with_last_message: bool,
    mut conversation: Conversation,
) -> Work<Found> {
    let now = reader.now();
    let Some(db) = reader.snapshot(FileKey::of(conversation.id))? else {
        return Ok(Found { conversation, last_message: None });
    };
    if let Some(newer) = load(&db, app, conversation.id)? {
        conversation = newer;
    }
    load_members(&db, &mut conversation)?;
    let last_message =
        if with_last_message { last_message_for(&db, app, client, rooms, &conversation, now)? } else { None };
    Ok(Found { conversation, last_message })
}

/// The newest message of a conversation, if `client` may read it there.
fn last_message_for(
    db: &Connection,
    app: i64,
    client: &ClientId,
    rooms: &[ConversationId],
    conversation: &Conversation,
    now: Timestamp,
) -> Work<Option<Message>> {
    let in_room = conversation.kind == Kind::Room && rooms.contains(&conversation.id);
    if !conversation.has_member(client) && !in_room {
        return Ok(None);
    }
    let place = match place(db, app, conversation.id, now) {
        Ok(place) => place,
        // Over, or gone, in the time since it was found.
        Err(Failure::Refused(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let cleared = match member(db, place.id, client)? {
        Some(member) => member.cleared(&place),
        None => place.cleared,
    };
    newest_of_history(db, &place, client, cleared)
}

fn filter_needs_members(filter: &Filter) -> bool {
    match filter {
        Filter::All(parts) | Filter::Any(parts) => parts.iter().any(filter_needs_members),
        Filter::Not(part) => filter_needs_members(part),
        Filter::Field(field, _) => needs_members(field),
    }
}

fn needs_members(field: &Field) -> bool {
    match field {
        Field::Members | Field::MutedBy => true,
        Field::Id
        | Field::Creator
        | Field::CreatedAt
        | Field::UpdatedAt
        | Field::LastMessageAt
        | Field::IsRoom
        | Field::IsService
        | Field::IsUnique
        | Field::UniqueId
        | Field::Attribute(_) => false,
    }
}

/// Whether receipts are told: only in conversations of at most two.
pub(super) fn is_pair(db: &Connection, id: ConversationId) -> std::result::Result<bool, Failure> {
    Ok(member_count(db, id)? <= 2)
}
