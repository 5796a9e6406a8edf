//! What was said, read in stretches: history by time, the timeline by place.

use std::sync::Arc;

use posthouse_core::error::Error;
use posthouse_core::event::{MemberEvent, UpdateEvent};
use posthouse_core::id::{ClientId, ConversationId, MessageId, Seq};
use posthouse_core::listing::{Entry, EntryKind, Stretch};
use posthouse_core::message::{Bound, Direction, History, HistoryQuery, KindFilter, Message};
use posthouse_core::port::store::{PAGE_BYTES_MAX, attributes_size};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Rows};

use super::checksum::whole;
use super::rows::{
    Place, Spot, Work, body_kind_columns, client_of, clients_of, conversation_key, count, int,
    message_columns, message_key, message_of, place, time_of, uint, unreadable, update_of,
};
use super::timeline::{CHANGE_JOINED, CHANGE_LEFT, CHANGE_UPDATED, patch_of};
use super::views::{Coming, Member, ensure_member, not_deleted};

/// The most entries of a timeline that one read looks at, seen or not: some milliseconds.
const LOOKED_AT_MAX: usize = 5_000;

/// Damaged messages that a page of history passes over; a conversation with more looks as if it ended there.
const DAMAGED_MAX: i64 = 64;

/// Whether a read looks for what may be rare.
pub(super) fn may_take_long(query: &HistoryQuery) -> bool {
    !query.kinds.is_empty() || query.sender.is_some()
}

/// Reads a stretch of history for `reader`.
pub(super) fn read(
    db: &Connection,
    app: i64,
    reader: &ClientId,
    query: &HistoryQuery,
    now: Timestamp,
) -> Work<History> {
    let place = place(db, app, query.conversation, now)?;
    let member = if place.kind.stores_members() {
        Some(ensure_member(db, &place, reader)?)
    } else {
        place.kind.ensure_member(query.in_room)?;
        None
    };
    let cleared = member.map_or(place.cleared, |member| member.cleared(&place));
    let coming = member.filter(|_| query.since_joined).and_then(|member| member.coming());
    let (low, high) = ends(db, query, cleared, coming)?;
    let mut statement = db.prepare_cached(&statement_for(query))?;
    let mut rows = statement.query((
        conversation_key(query.conversation),
        low.0,
        low.1,
        reader.as_str(),
        high.0,
        high.1,
        query.sender.as_ref().map(ClientId::as_str),
        coming.map_or(-1, |coming| int(coming.seq)),
        coming.map_or(i64::MIN, |coming| coming.at.0),
        count(query.limit).saturating_add(1 + DAMAGED_MAX),
    ))?;
    let mut messages = Vec::new();
    let (mut bytes, mut more) = (0, false);
    while let Some(row) = rows.next()? {
        if messages.len() == query.limit {
            more = true;
            break;
        }
        let Some(message) = in_conversation(message_of(row), query.conversation)? else { continue };
        bytes += size(&message);
        if bytes > PAGE_BYTES_MAX && !messages.is_empty() {
            more = true;
            break;
        }
        messages.push(message);
    }
    if query.direction == Direction::Backward {
        messages.reverse();
    }
    Ok(History { messages, more })
}

/// A message that the index of a conversation names, if row and index are whole.
fn in_conversation(
    read: rusqlite::Result<Message>,
    conversation: ConversationId,
) -> rusqlite::Result<Option<Message>> {
    whole(read.and_then(|message| {
        if message.conversation == conversation {
            Ok(message)
        } else {
            Err(unreadable(1, format!("message {} belongs to another conversation", message.id.as_u64())))
        }
    }))
}

/// About the bytes of a message in an answer.
pub(super) fn size(message: &Message) -> usize {
    message.body.payload.bytes.len() + message.mentions.size()
}

/// The statement of a query; ?2 and ?3 are the first spot that is not deleted or passed over.
fn statement_for(query: &HistoryQuery) -> String {
    let mut sql = String::from(concat!(
        "SELECT ",
        message_columns!(),
        ", l.at, l.id FROM history l CROSS JOIN message m ON m.id = l.id WHERE l.conversation = ?1 AND (l.at, l.id) > (?2, ?3) AND ",
        not_deleted!(),
        " AND (l.at, l.id) <= (?5, ?6) AND (?7 IS NULL OR m.sender = ?7) \
         AND (m.seq > ?8 OR m.seq = 0 AND m.timestamp >= ?9)"
    ));
    if query.without_recalled {
        sql.push_str(" AND m.kind <> 7");
    }
    if !query.kinds.is_empty() {
        let kinds: Vec<String> = query.kinds.iter().map(|filter| kind_condition(*filter)).collect();
        sql.push_str(" AND (");
        sql.push_str(&kinds.join(" OR "));
        sql.push(')');
    }
    let order = match query.direction {
        Direction::Backward => " ORDER BY l.at DESC, l.id DESC LIMIT ?10",
        Direction::Forward => " ORDER BY l.at, l.id LIMIT ?10",
    };
    sql.push_str(order);
    sql
}

fn kind_condition(filter: KindFilter) -> String {
    match filter {
        KindFilter::Exactly(kind) => {
            let (code, custom) = body_kind_columns(kind);
            format!("m.kind = {code} AND m.custom = {custom}")
        }
        KindFilter::AnyCustom => "m.kind = 8".to_owned(),
    }
}

/// The spot before the stretch and the last spot in it.
fn ends(db: &Connection, query: &HistoryQuery, cleared: Spot, coming: Option<Coming>) -> Work<(Spot, Spot)> {
    let after = match query.after {
        Some(id) => Some(spot_after(db, query, id)?),
        None => None,
    };
    let starts = [query.start, after];
    let (lows, highs): (&[Option<Bound>], &[Option<Bound>]) = match query.direction {
        Direction::Backward => (&[query.end], &starts),
        Direction::Forward => (&starts, &[query.end]),
    };
    let mut before = lows.iter().flatten().map(|low| just_before(lowest(*low))).fold(cleared, Spot::max);
    if let Some(coming) = coming {
        before = before.max(before_coming(db, query.conversation, coming)?);
    }
    let last = highs.iter().flatten().map(|high| highest(*high)).fold((i64::MAX, i64::MAX), Spot::min);
    Ok((before, last))
}

/// The place of a message to go on after. One that is gone was said at about the time in its id.
fn spot_after(db: &Connection, query: &HistoryQuery, id: MessageId) -> Work<Bound> {
    let timestamp = db
        .prepare_cached("SELECT timestamp FROM message WHERE id = ?1 AND conversation = ?2")?
        .query_row((message_key(id), conversation_key(query.conversation)), |row| time_of(row, 0))
        .optional()?;
    Ok(Bound { timestamp: timestamp.unwrap_or_else(|| id.time()), id: Some(id), included: false })
}

/// Up to here nothing was said since a member came.
pub(super) fn before_coming(db: &Connection, id: ConversationId, coming: Coming) -> Work<Spot> {
    let first = db
        .prepare_cached(
            "SELECT m.timestamp, m.id, t.seq FROM timeline t CROSS JOIN message m ON m.id = t.id \
             WHERE t.conversation = ?1 AND t.seq > ?2 ORDER BY t.seq LIMIT 1",
        )?
        .query_row((conversation_key(id), int(coming.seq)), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let imported = (coming.at.0, 0);
    Ok(just_before(first.map_or(imported, |first: Spot| first.min(imported))))
}

fn just_before(spot: Spot) -> Spot {
    match spot {
        (time, 0) => (time.saturating_sub(1), i64::MAX),
        (time, id) => (time, id.saturating_sub(1)),
    }
}

/// The first (time, id) of a stretch that begins at `bound`.
fn lowest(bound: Bound) -> Spot {
    match (bound.id.map(message_key), bound.included) {
        (Some(id), true) => (bound.timestamp.0, id),
        (Some(id), false) => (bound.timestamp.0, id.saturating_add(1)),
        (None, true) => (bound.timestamp.0, 0),
        (None, false) => (bound.timestamp.0.saturating_add(1), 0),
    }
}

/// The last (time, id) of a stretch that ends at `bound`.
fn highest(bound: Bound) -> Spot {
    match (bound.id.map(message_key), bound.included) {
        (Some(id), true) => (bound.timestamp.0, id),
        (Some(id), false) => (bound.timestamp.0, id.saturating_sub(1)),
        (None, true) => (bound.timestamp.0, i64::MAX),
        (None, false) => (bound.timestamp.0.saturating_sub(1), i64::MAX),
    }
}

/// One message of history that `reader` may see; nothing from before it came.
pub(super) fn one(db: &Connection, place: &Place, reader: &ClientId, id: MessageId) -> Work<Message> {
    let member = if place.kind.stores_members() { Some(ensure_member(db, place, reader)?) } else { None };
    let cleared = member.map_or(place.cleared, |member| member.cleared(place));
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = ?5 AND m.conversation = ?1 AND m.shown = 1 AND ",
            not_deleted!()
        ))?
        .query_row(
            (conversation_key(place.id), cleared.0, cleared.1, reader.as_str(), message_key(id)),
            message_of,
        )
        .optional()?;
    let coming = member.and_then(|member| member.coming());
    let found = found.filter(|message| is_since(coming, message));
    Ok(found.ok_or(Error::MessageNotFound)?)
}

fn is_since(coming: Option<Coming>, message: &Message) -> bool {
    coming.is_none_or(|coming| coming.is_before(message.seq, message.timestamp))
}

/// Reads the timeline after a place for `reader`.
pub(super) fn stretch(
    db: &Connection,
    place: &Place,
    reader: &ClientId,
    after: Seq,
    limit: usize,
) -> Work<Stretch> {
    if place.kind.is_room() {
        return Err(Error::NotInRooms.into());
    }
    let member = ensure_member(db, place, reader)?;
    let view = View { place, reader, cleared: member.cleared(place), member };
    let after = after.0.max(member.joined_seq);
    let said = said_after(db, &view, after, limit)?;
    let changed = changed_after(db, &view, after, limit)?;
    let horizon = said.end.unwrap_or(place.last_seq).min(changed.end.unwrap_or(place.last_seq)).max(after);

    let mut found: Vec<Entry> = said.entries.into_iter().chain(changed.entries).collect();
    found.retain(|entry| entry.seq.0 <= horizon);
    found.sort_by_key(|entry| entry.seq);
    let seen = found.len();
    let mut entries = Vec::with_capacity(seen.min(limit));
    let mut bytes = 0;
    for entry in found.into_iter().take(limit) {
        bytes += entry_size(&entry.what);
        if bytes > PAGE_BYTES_MAX && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    let end = match entries.last() {
        Some(last) if entries.len() < seen => last.seq,
        None if seen > 0 => Seq(after),
        Some(_) | None => Seq(horizon),
    };
    Ok(Stretch { entries, end, more: end.0 < place.last_seq })
}

/// Who reads a timeline, and what it doesn't see of it.
struct View<'a> {
    place: &'a Place,
    reader: &'a ClientId,
    member: Member,
    cleared: Spot,
}

/// Entries of one sort.
struct Part {
    entries: Vec<Entry>,
    /// The place of the last one looked at; `None` if there are no more.
    end: Option<u64>,
}

/// Takes what can be seen of `rows`, whose first column is a place in the timeline.
fn part(
    mut rows: Rows<'_>,
    after: u64,
    limit: usize,
    mut see: impl FnMut(&Row<'_>) -> Work<Option<EntryKind>>,
) -> Work<Part> {
    let mut entries = Vec::new();
    let (mut end, mut looked_at, mut bytes) = (after, 0, 0);
    while let Some(row) = rows.next()? {
        if entries.len() >= limit || looked_at == LOOKED_AT_MAX || bytes > PAGE_BYTES_MAX {
            return Ok(Part { entries, end: Some(end) });
        }
        end = uint(row.get(0)?);
        looked_at += 1;
        if let Some(what) = see(row)? {
            bytes += entry_size(&what);
            entries.push(Entry { seq: Seq(end), what });
        }
    }
    Ok(Part { entries, end: None })
}

/// About the bytes of an entry in an answer.
fn entry_size(what: &EntryKind) -> usize {
    match what {
        EntryKind::Message(message) => size(message),
        EntryKind::Patched(patch) => patch.body.payload.bytes.len() + patch.mentions.size(),
        EntryKind::MembersJoined(event) | EntryKind::MembersLeft(event) => {
            event.members.iter().map(|member| member.as_str().len() + 3).sum()
        }
        EntryKind::Updated(event) => attributes_size(&event.modified),
    }
}

fn said_after(db: &Connection, view: &View<'_>, after: u64, limit: usize) -> Work<Part> {
    // The ids of what can be seen; most rows of a timeline can be.
    let mut statement = db.prepare_cached(concat!(
        "SELECT t.seq, m.id, m.kind <> 7 AND ",
        not_deleted!(),
        " FROM timeline t CROSS JOIN message m ON m.id = t.id WHERE t.conversation = ?1 AND t.seq > ?5 ORDER BY t.seq"
    ))?;
    let rows = statement.query((
        conversation_key(view.place.id),
        view.cleared.0,
        view.cleared.1,
        view.reader.as_str(),
        int(after),
    ))?;
    let mut load =
        db.prepare_cached(concat!("SELECT ", message_columns!(), " FROM message m WHERE m.id = ?1"))?;
    part(rows, after, limit, |row| {
        if !row.get::<_, bool>(2)? {
            return Ok(None);
        }
        let read = load.query_row([row.get::<_, i64>(1)?], message_of);
        Ok(in_conversation(read, view.place.id)?.map(EntryKind::Message))
    })
}

fn changed_after(db: &Connection, view: &View<'_>, after: u64, limit: usize) -> Work<Part> {
    let mut statement = db.prepare_cached(
        "SELECT seq, kind, at, by, message, data FROM change WHERE conversation = ?1 AND seq > ?2 ORDER BY seq",
    )?;
    let rows = statement.query((conversation_key(view.place.id), int(after)))?;
    part(rows, after, limit, |row| {
        let kind: i64 = row.get(1)?;
        if kind < CHANGE_JOINED {
            return patched(db, view, uint(row.get(0)?), row.get(4)?);
        }
        let Some(data) = row.get::<_, Option<String>>(5)? else { return Ok(None) };
        let (by, at) = (client_of(row, 3)?, time_of(row, 2)?);
        if kind == CHANGE_UPDATED {
            let (changes, modified) = update_of(&data, 5)?;
            return Ok(Some(EntryKind::Updated(UpdateEvent {
                conversation: view.place.id,
                kind: view.place.kind,
                by,
                changes: changes.into(),
                modified: Arc::new(modified),
                at,
            })));
        }
        let event = MemberEvent {
            conversation: view.place.id,
            kind: view.place.kind,
            // The members of temporary conversations never change.
            ttl_seconds: None,
            by,
            members: clients_of(&data, 5)?.into(),
            at,
        };
        Ok(Some(match kind {
            CHANGE_LEFT => EntryKind::MembersLeft(event),
            _ => EntryKind::MembersJoined(event),
        }))
    })
}

/// The patch at the place `seq`, if it is the message's last one and the reader may see the message.
fn patched(db: &Connection, view: &View<'_>, seq: u64, message: Option<i64>) -> Work<Option<EntryKind>> {
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = ?5 AND m.conversation = ?1 AND m.patched_seq = ?6 AND ",
            not_deleted!()
        ))?
        .query_row(
            (
                conversation_key(view.place.id),
                view.cleared.0,
                view.cleared.1,
                view.reader.as_str(),
                message,
                int(seq),
            ),
            |row| whole(message_of(row)),
        )
        .optional()?
        .flatten();
    let found = found.filter(|message| is_since(view.member.coming(), message));
    Ok(found.map(|message| EntryKind::Patched(patch_of(message, view.place.kind, seq))))
}
