//! Conversation lists: which lines a client sees, in which order, and what it pins and marks.
//!
//! A list is read without being kept anywhere. One scan over the client's memberships finds the latest
//! place that each line can have: that of the conversation's newest message. Only the lines at the top
//! are looked into, since what the client really sees there can only be older.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use posthouse_core::app::ServerMessages;
use posthouse_core::conversation::Address;
use posthouse_core::error::Error;
use posthouse_core::id::{ClientId, ConversationId, DeviceId, Seq};
use posthouse_core::listing::{ListChange, ListPage, ListPlace, ListQuery, Listed, MARKS, PINS_MAX};
use posthouse_core::message::{Message, Origin};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::{Map, Value};

use super::answers::Answer;
use super::checksum::whole;
use super::history::before_coming;
use super::notes::{NOTE_LISTED, NewNote, device_data, note};
use super::rows::{
    KIND_RECALLED, NOWHERE, Spot, Work, absent, client_of, conversation_key, conversation_of, count, kind_of,
    maybe_time_of, message_columns, message_of, place, spot_of, time_of, uint,
};
use super::views::{Coming, Counters, unread_count};
use super::writer::{Outcome, Tx};

/// From so many conversations on, a list may take many milliseconds.
const LONG: i64 = 2_000;

/// How many messages of one conversation are looked at for one that the list may show. Behind so many
/// that were taken back, removed, or sent by a back end while these don't count, nobody looks.
const LOOKED_BACK_MAX: usize = 1_000;

/// The number of messages that a back end sent, as `origin` columns hold it.
const ORIGIN_SERVER: i64 = 1;

/// A part of a client's list.
pub(super) fn list(db: &Connection, app: i64, client: &ClientId, query: &ListQuery) -> Work<Vec<Listed>> {
    let candidates = candidates(db, app, client, query)?;
    let lines = page(candidates, &query.page, |candidate| settle(db, client, query, candidate))?;
    lines.into_iter().map(|line| show(db, app, client, line)).collect()
}

/// An answer with the lines of some conversations read again; `None` if that can't tell which other lines are in it
/// now.
pub(super) fn renew(
    db: &Connection,
    app: i64,
    client: &ClientId,
    outdated: &Answer,
) -> Work<Option<Vec<Listed>>> {
    let Answer { query, listed, changed } = outdated;
    let Some((limit, since)) = query.page.newest() else { return Ok(None) };
    let mut lines: Vec<Listed> =
        listed.iter().filter(|line| !changed.contains(&line.place.conversation)).cloned().collect();
    for conversation in changed {
        let Some(candidate) = candidate_in(db, app, client, query, *conversation)? else { continue };
        let line = settle(db, client, query, &candidate)?.filter(|line| line.place.at >= since);
        if let Some(line) = line {
            lines.push(show(db, app, client, line)?);
        }
    }
    lines.sort_by_key(|line| Reverse(line.place));
    lines.truncate(limit);
    // Behind a full page lie other lines, none of them before its end.
    let end = listed.last().filter(|_| listed.len() >= limit).map(|last| last.place);
    let is_whole =
        end.is_none_or(|end| lines.len() == limit && lines.last().is_some_and(|last| last.place >= end));
    Ok(is_whole.then_some(lines))
}

/// A line that may be in the list, at the latest place it can have.
struct Candidate {
    latest: ListPlace,
    /// When the conversation was made; only known where lines without a message are wanted.
    made_at: Option<Timestamp>,
    /// Up to here everything is deleted for this client.
    cleared: Spot,
    /// The line only comes back with a message after this.
    hidden: Spot,
    /// When the client came, if what lies before is not for it.
    coming: Option<Coming>,
    pinned: bool,
    /// The newest message of history, seen or not.
    newest: Spot,
    own: Own,
}

/// What a membership says of its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Own {
    pinned_at: Option<Timestamp>,
    marks: u32,
    counters: Counters,
}

/// A line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    place: ListPlace,
    /// The message to show.
    message: Option<Message>,
    own: Own,
}

/// The columns that [`candidate`] reads, of a client ?2 of an app ?1, and with the mark ?4 if that isn't 0.
macro_rules! candidate_columns {
    () => {
        "SELECT x.conversation, h.last_message_at, h.last_message, h.cleared_at, h.cleared_id, \
             x.cleared_at, x.cleared_id, x.hidden_at, x.hidden_id, x.pinned_at, \
             x.joined_seq, x.joined_at, x.marks, h.total, x.sent, x.read_seq, x.read_total, x.read_own, \
             CASE WHEN ?3 THEN (SELECT created_at FROM conversation WHERE id = x.conversation) END FROM member x "
    };
}

macro_rules! candidate_condition {
    () => {
        "CROSS JOIN head h ON h.conversation = x.conversation \
         WHERE x.app = ?1 AND x.client = ?2 AND (?4 = 0 OR x.marks & ?4 <> 0)"
    };
}

fn candidates(db: &Connection, app: i64, client: &ClientId, query: &ListQuery) -> Work<Vec<Candidate>> {
    let mut statement = if query.pinned_only {
        db.prepare_cached(concat!(
            candidate_columns!(),
            candidate_condition!(),
            " AND x.pinned_at IS NOT NULL"
        ))?
    } else {
        db.prepare_cached(concat!(candidate_columns!(), candidate_condition!()))?
    };
    let Some(mark) = wanted_mark(query) else { return Ok(Vec::new()) };
    let rows =
        statement.query_map((app, client.as_str(), query.with_empty, mark), |row| candidate(row, query))?;
    let mut found = Vec::new();
    for row in rows {
        found.extend(row?);
    }
    Ok(found)
}

/// The candidate of one conversation, if the client is in it and its line may be wanted.
fn candidate_in(
    db: &Connection,
    app: i64,
    client: &ClientId,
    query: &ListQuery,
    id: ConversationId,
) -> Work<Option<Candidate>> {
    let Some(mark) = wanted_mark(query) else { return Ok(None) };
    let found = db
        .prepare_cached(concat!(
            candidate_columns!(),
            candidate_condition!(),
            " AND x.conversation = ?5 AND (?6 = 0 OR x.pinned_at IS NOT NULL)"
        ))?
        .query_row(
            (app, client.as_str(), query.with_empty, mark, conversation_key(id), query.pinned_only),
            |row| candidate(row, query),
        )
        .optional()?;
    Ok(found.flatten())
}

/// The bit of the mark that lines must have, 0 for none; `None` if no line has it.
fn wanted_mark(query: &ListQuery) -> Option<i64> {
    match query.marked {
        Some(mark) if mark >= MARKS => None,
        mark => Some(mark.map_or(0, mark_bit)),
    }
}

/// `None` if there is certainly nothing to show.
fn candidate(row: &Row<'_>, query: &ListQuery) -> rusqlite::Result<Option<Candidate>> {
    let newest = spot_of(row, 1)?;
    let cleared = spot_of(row, 3)?.max(spot_of(row, 5)?);
    let hidden = spot_of(row, 7)?;
    let made_at = maybe_time_of(row, 18)?;
    let said = newest > cleared.max(hidden);
    if !said && (made_at.is_none() || hidden > NOWHERE) {
        return Ok(None);
    }
    let at = if query.pinned_only {
        time_of(row, 9)?
    } else {
        // What is imported may have been said before the conversation was made here.
        Timestamp(newest.0).max(made_at.unwrap_or(Timestamp(i64::MIN)))
    };
    let latest = ListPlace { at, conversation: conversation_of(row, 0)? };
    let coming = if query.since_joined { Coming::of(uint(row.get(10)?), time_of(row, 11)?) } else { None };
    let counters = Counters {
        total: uint(row.get(13)?),
        sent: uint(row.get(14)?),
        read_seq: uint(row.get(15)?),
        read_total: uint(row.get(16)?),
        read_own: uint(row.get(17)?),
    };
    let own = Own { pinned_at: maybe_time_of(row, 9)?, marks: row.get(12)?, counters };
    Ok(Some(Candidate { latest, made_at, cleared, hidden, coming, pinned: query.pinned_only, newest, own }))
}

/// Where the line of a candidate really stands; `None` if it isn't listed.
fn settle(
    db: &Connection,
    client: &ClientId,
    query: &ListQuery,
    candidate: &Candidate,
) -> Work<Option<Line>> {
    let conversation = candidate.latest.conversation;
    let line = |at: Timestamp, message| {
        let at = if candidate.pinned { candidate.latest.at } else { at };
        Some(Line { place: ListPlace { at, conversation }, message, own: candidate.own })
    };
    if let Some(message) = newest_of_all(db, client, query.server_messages, candidate)? {
        return Ok(line(message.timestamp, Some(message)));
    }
    match newest_shown(db, client, query.server_messages, candidate)? {
        Newest::Message((at, id)) if (at, id) > candidate.hidden => {
            Ok(line(Timestamp(at), message_by_key(db, id)?))
        }
        Newest::Message(_) | Newest::NoneThatCounts => Ok(None),
        Newest::Nothing if candidate.hidden > NOWHERE => Ok(None),
        Newest::Nothing => Ok(candidate.made_at.and_then(|made_at| line(made_at, None))),
    }
}

/// What a client sees last in a conversation.
enum Newest {
    /// This message.
    Message(Spot),
    /// Only messages that make no line.
    NoneThatCounts,
    /// No message at all.
    Nothing,
}

/// The newest message of a conversation's history, if the client sees it and it makes the line, as it nearly always
/// does.
fn newest_of_all(
    db: &Connection,
    client: &ClientId,
    server_messages: ServerMessages,
    candidate: &Candidate,
) -> Work<Option<Message>> {
    if candidate.newest <= candidate.cleared.max(candidate.hidden) {
        return Ok(None);
    }
    let key = conversation_key(candidate.latest.conversation);
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = ?1 AND m.conversation = ?2 AND NOT EXISTS (SELECT 1 FROM removed r \
             WHERE r.conversation = ?2 AND r.client = ?3 AND r.message = ?1)"
        ))?
        .query_row((candidate.newest.1, key, client.as_str()), |row| whole(message_of(row)))
        .optional()?
        .flatten();
    let counts = |message: &Message| match server_messages {
        ServerMessages::Exclude | ServerMessages::Ignore => message.origin != Origin::Server,
        ServerMessages::Write => true,
    };
    let is_since = |message: &Message| {
        candidate.coming.is_none_or(|coming| coming.is_before(message.seq, message.timestamp))
    };
    Ok(found.filter(|message| !message.is_recalled() && is_since(message) && counts(message)))
}

fn newest_shown(
    db: &Connection,
    client: &ClientId,
    server_messages: ServerMessages,
    candidate: &Candidate,
) -> Work<Newest> {
    let Candidate { latest: ListPlace { conversation, .. }, coming, .. } = *candidate;
    let mut after = candidate.cleared;
    if let Some(coming) = coming {
        after = after.max(before_coming(db, conversation, coming)?);
    }
    let key = conversation_key(conversation);
    let mut removed =
        db.prepare_cached("SELECT 1 FROM removed WHERE conversation = ?1 AND client = ?2 AND message = ?3")?;
    let mut statement = db.prepare_cached(
        "SELECT l.at, l.id, m.kind, m.origin, m.seq FROM history l CROSS JOIN message m ON m.id = l.id \
         WHERE l.conversation = ?1 AND (l.at, l.id) > (?2, ?3) ORDER BY l.at DESC, l.id DESC",
    )?;
    let mut rows = statement.query((key, after.0, after.1))?;
    let mut newest = Newest::Nothing;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        if looked_at > LOOKED_BACK_MAX {
            break;
        }
        let (at, id): Spot = (row.get(0)?, row.get(1)?);
        if row.get::<_, i64>(2)? == KIND_RECALLED || removed.exists((key, client.as_str(), id))? {
            continue;
        }
        let seq = Seq(uint(row.get(4)?));
        if coming.is_some_and(|coming| !coming.is_before(seq, Timestamp(at))) {
            continue;
        }
        match server_messages {
            ServerMessages::Exclude if row.get::<_, i64>(3)? == ORIGIN_SERVER => {
                return Ok(Newest::NoneThatCounts);
            }
            ServerMessages::Ignore if row.get::<_, i64>(3)? == ORIGIN_SERVER => {
                newest = Newest::NoneThatCounts;
            }
            ServerMessages::Exclude | ServerMessages::Ignore | ServerMessages::Write => {
                return Ok(Newest::Message((at, id)));
            }
        }
    }
    Ok(newest)
}

/// A line in the heap: at its own place, or at the latest one it can have.
enum Standing {
    Candidate(Candidate),
    Settled(Line),
}

impl Standing {
    fn place(&self) -> ListPlace {
        match self {
            Self::Candidate(candidate) => candidate.latest,
            Self::Settled(line) => line.place,
        }
    }
}

// By place alone: a list has one line of each conversation.
impl Ord for Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Standing {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Standing {}

/// The lines of a page, newest first. `settle` is asked about as few candidates as will do.
fn page(
    candidates: Vec<Candidate>,
    page: &ListPage,
    mut settle: impl FnMut(&Candidate) -> Work<Option<Line>>,
) -> Work<Vec<Line>> {
    let (mut skip, limit, since, cursor) = match *page {
        ListPage::Newest { limit, since } => (0, limit, since, None),
        ListPage::Numbered { size, number } => (size.saturating_mul(number), size, Timestamp(i64::MIN), None),
        ListPage::After { cursor, limit } => (0, limit, Timestamp(i64::MIN), cursor),
    };
    // Not every candidate becomes a line, so there can't be more lines than candidates.
    if skip >= candidates.len() && skip > 0 {
        return Ok(Vec::new());
    }
    let mut heap: BinaryHeap<Standing> = candidates.into_iter().map(Standing::Candidate).collect();
    let mut lines = Vec::new();
    while lines.len() < limit {
        let Some(top) = heap.pop().filter(|top| top.place().at >= since) else { break };
        match top {
            Standing::Candidate(candidate) => {
                heap.extend(settle(&candidate)?.map(Standing::Settled));
            }
            Standing::Settled(line) if cursor.is_some_and(|cursor| line.place >= cursor) => {}
            Standing::Settled(_) if skip > 0 => skip -= 1,
            Standing::Settled(line) => lines.push(line),
        }
    }
    Ok(lines)
}

/// Whether a client's list is so long that reading it takes a while.
pub(super) fn is_long(db: &Connection, app: i64, client: &ClientId) -> Work<bool> {
    let found: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM member WHERE app = ?1 AND client = ?2 LIMIT ?3)",
        )?
        .query_row((app, client.as_str(), LONG), |row| row.get(0))?;
    Ok(found >= LONG)
}

/// Completes a line for the page.
fn show(db: &Connection, app: i64, client: &ClientId, line: Line) -> Work<Listed> {
    let Line { place, message, own: Own { pinned_at, marks, counters } } = line;
    let id = place.conversation;
    let unread = unread_count(db, id, &counters, client)?;
    let address = address(db, app, client, id)?.ok_or_else(|| absent(id))?;
    Ok(Listed { address, last_message: message, unread, pinned_at, marks, place })
}

fn message_by_key(db: &Connection, message: i64) -> Work<Option<Message>> {
    Ok(db
        .prepare_cached(concat!("SELECT ", message_columns!(), " FROM message m WHERE m.id = ?1"))?
        .query_row([message], |row| whole(message_of(row)))?)
}

/// The column that holds the other one of the direct conversation `c`, as client ?2 sees it.
macro_rules! peer_column {
    () => {
        "CASE c.kind WHEN 1 THEN coalesce((SELECT o.client FROM member o WHERE o.conversation = c.id \
         AND o.client <> ?2 LIMIT 1), ?2) END"
    };
}
pub(super) use peer_column;

/// The name under which `client` knows a conversation.
pub(super) fn address(
    db: &Connection,
    app: i64,
    client: &ClientId,
    id: ConversationId,
) -> Work<Option<Address>> {
    Ok(db
        .prepare_cached(concat!(
            "SELECT c.kind, c.until, ",
            peer_column!(),
            " FROM conversation c WHERE c.app = ?1 AND c.id = ?3"
        ))?
        .query_row((app, client.as_str(), conversation_key(id)), |row| address_of(row, 0, id))
        .optional()?)
}

/// The address in columns kind, until and [`peer_column`] from `first` on.
pub(super) fn address_of(row: &Row<'_>, first: usize, id: ConversationId) -> rusqlite::Result<Address> {
    let peer = match row.get_ref(first + 2)?.as_str_or_null()? {
        Some(_) => Some(client_of(row, first + 2)?),
        None => None,
    };
    Ok(Address { id, kind: kind_of(row, first)?, peer })
}

/// Pins or marks a line.
pub(super) fn change(
    tx: &Tx<'_>,
    app: i64,
    client: &ClientId,
    conversation: ConversationId,
    device: Option<&DeviceId>,
    change: ListChange,
) -> Work<Outcome<Option<Timestamp>>> {
    let place = place(tx.db, app, conversation, tx.now)?;
    // Lists know lasting conversations with stored members only.
    if place.kind.is_temporary() {
        return Err(Error::ConversationNotFound.into());
    }
    let key = (conversation_key(conversation), client.as_str());
    let found: Option<(Option<i64>, i64)> = tx
        .db
        .prepare_cached("SELECT pinned_at, marks FROM member WHERE conversation = ?1 AND client = ?2")?
        .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (pinned_at, marks) = found.ok_or(Error::NotMember)?;
    let (new_pin, new_marks) = match change {
        ListChange::Pin(true) => (pinned_at.or(Some(tx.now.0)), marks),
        ListChange::Pin(false) => (None, marks),
        ListChange::Mark(number, true) => (pinned_at, marks | mark_bit(number)),
        ListChange::Mark(number, false) => (pinned_at, marks & !mark_bit(number)),
    };
    if (new_pin, new_marks) == (pinned_at, marks) {
        return Ok(Outcome::Unchanged(pinned_at.map(Timestamp)));
    }
    if pinned_at.is_none() && new_pin.is_some() {
        ensure_pins_left(tx.db, app, client)?;
    }
    tx.db
        .prepare_cached(
            "UPDATE member SET pinned_at = ?3, marks = ?4 WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((key.0, key.1, new_pin, new_marks))?;
    let data = Some(listed_data(device, change));
    note(tx.db, app, client, &NewNote { data, ..NewNote::of(NOTE_LISTED, conversation, client, tx.now) })?;
    Ok(Outcome::Written(new_pin.map(Timestamp)))
}

/// Pins of lines that were deleted and have not come back don't count: nobody sees them to unpin.
fn ensure_pins_left(db: &Connection, app: i64, client: &ClientId) -> Work<()> {
    let pins: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM member x INDEXED BY member_pinned \
             CROSS JOIN head h ON h.conversation = x.conversation \
             WHERE x.app = ?1 AND x.client = ?2 AND x.pinned_at IS NOT NULL AND (x.hidden_at IS NULL \
             OR (h.last_message_at, h.last_message) > (x.hidden_at, x.hidden_id))",
        )?
        .query_row((app, client.as_str()), |row| row.get(0))?;
    if pins >= count(PINS_MAX) { Err(Error::ListFull { max: PINS_MAX }.into()) } else { Ok(()) }
}

/// The bit of a mark in `marks`; numbers that no mark has have none.
fn mark_bit(number: u8) -> i64 {
    1_i64.checked_shl(number.into()).unwrap_or(0)
}

/// What [`NOTE_LISTED`] says.
fn listed_data(device: Option<&DeviceId>, change: ListChange) -> Value {
    let mut data = device_data(device);
    match change {
        ListChange::Pin(pin) => {
            data.insert("pin".to_owned(), pin.into());
        }
        ListChange::Mark(number, set) => {
            data.insert("mark".to_owned(), number.into());
            data.insert("set".to_owned(), set.into());
        }
    }
    data.into()
}

/// Reads back what [`listed_data`] wrote.
pub(super) fn list_change_of(data: &Map<String, Value>) -> Option<ListChange> {
    if let Some(pin) = data.get("pin") {
        return Some(ListChange::Pin(pin.as_bool()?));
    }
    let number = u8::try_from(data.get("mark")?.as_u64()?).ok()?;
    Some(ListChange::Mark(number, data.get("set")?.as_bool()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(at: i64, conversation: u64) -> ListPlace {
        ListPlace { at: Timestamp(at), conversation: ConversationId::from_u64(conversation).unwrap() }
    }

    fn may_stand(at: ListPlace) -> Candidate {
        Candidate {
            latest: at,
            made_at: None,
            cleared: NOWHERE,
            hidden: NOWHERE,
            coming: None,
            pinned: false,
            newest: NOWHERE,
            own: Own::default(),
        }
    }

    /// Reads a page of conversations 1, 2, … whose newest messages are of these times, and of which the
    /// client sees the second ones; returns it with the number of conversations looked into.
    fn read(messages: &[(i64, Option<i64>)], wanted: ListPage) -> (Vec<ListPlace>, usize) {
        let candidates = messages.iter().zip(1..).map(|((latest, _), id)| may_stand(at(*latest, id)));
        let mut looked_into = 0;
        let lines = page(candidates.collect(), &wanted, |candidate| {
            looked_into += 1;
            let id = candidate.latest.conversation.as_u64();
            let (_, seen) = messages[usize::try_from(id).unwrap() - 1];
            Ok(seen.map(|seen| Line { place: at(seen, id), message: None, own: Own::default() }))
        })
        .unwrap();
        (lines.into_iter().map(|line| line.place).collect(), looked_into)
    }

    fn newest(limit: usize) -> ListPage {
        ListPage::Newest { limit, since: Timestamp(0) }
    }

    #[test]
    fn only_the_top_is_looked_into() {
        let messages: Vec<_> = (0..1_000).map(|time| (time, Some(time))).collect();
        let (lines, looked_into) = read(&messages, newest(3));
        assert_eq!(lines, [at(999, 1_000), at(998, 999), at(997, 998)]);
        assert_eq!(looked_into, 3);
    }

    #[test]
    fn a_line_stands_where_the_client_sees_it() {
        let messages = [(90, Some(10)), (80, Some(80)), (70, None), (60, Some(50)), (55, Some(55))];
        let (lines, _) = read(&messages, newest(4));
        assert_eq!(lines, [at(80, 2), at(55, 5), at(50, 4), at(10, 1)]);
        assert_eq!(read(&messages, newest(2)).0, [at(80, 2), at(55, 5)]);
    }

    #[test]
    fn nothing_older_than_asked_for_is_listed() {
        let messages = [(90, Some(10)), (80, Some(80)), (9, Some(9))];
        let since = |since| read(&messages, ListPage::Newest { limit: 9, since: Timestamp(since) }).0;
        assert_eq!(since(10), [at(80, 2), at(10, 1)]);
        assert_eq!(since(11), [at(80, 2)]);
        assert_eq!(since(81), []);
    }

    #[test]
    fn pages_by_number_and_by_place_have_every_line_once() {
        let messages =
            [(90, Some(10)), (80, Some(80)), (80, Some(80)), (70, None), (60, Some(20)), (20, Some(20))];
        let all = read(&messages, newest(9)).0;
        assert_eq!(all, [at(80, 3), at(80, 2), at(20, 6), at(20, 5), at(10, 1)]);
        let numbered: Vec<_> =
            (0..4).flat_map(|number| read(&messages, ListPage::Numbered { size: 2, number }).0).collect();
        assert_eq!(numbered, all);
        let mut walked = Vec::new();
        loop {
            let page = ListPage::After { cursor: walked.last().copied(), limit: 2 };
            let lines = read(&messages, page).0;
            if lines.is_empty() {
                break;
            }
            walked.extend(lines);
        }
        assert_eq!(walked, all);
    }

    #[test]
    fn list_changes_survive_storage() {
        let changes = [
            ListChange::Pin(true),
            ListChange::Pin(false),
            ListChange::Mark(0, true),
            ListChange::Mark(19, false),
        ];
        for change in changes {
            let Value::Object(data) = listed_data(None, change) else { panic!("no object") };
            assert_eq!(list_change_of(&data), Some(change));
        }
    }
}
