//! Marks: how far members have received and read, and what senders learn of it.

use posthouse_core::conversation::Kind;
use posthouse_core::error::Error;
use posthouse_core::id::{ClientId, ConversationId, MessageId, Seq};
use posthouse_core::receipt::{
    Acknowledge, Acknowledged, Delivered, DeliveredMarked, MarkDelivered, MarkRead, ReadMarked, Receipt,
};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::conversations::is_pair;
use super::notes::{NOTE_READ_HERE, NewNote, device_data, has_devices, note};
use super::rows::{
    Place, Spot, Work, client_of, conversation_key, count, int, is_member, maybe_time_of, message_id_of,
    message_key, time_of, uint,
};
use super::views::{Member, ensure_member, not_deleted, unread};
use super::writer::{Outcome, Tx};

/// Messages that one mark stamps, the newest first; a client that has more waiting has been away so
/// long that their senders no longer wait, and the one writer must not stand still for it.
const RECEIPTS_PER_MARK_MAX: usize = 10_000;

/// How far a mark reaches: the newest message it covers.
#[derive(Clone, Copy)]
pub(super) struct Covered {
    pub(super) seq: u64,
    /// Counted messages up to and with it.
    pub(super) ordinal: u64,
    timestamp: Timestamp,
    newest: bool,
}

/// The newest message of history at or before a spot; imports, which are never unread, cover nothing.
pub(super) fn covered(db: &Connection, place: &Place, until: Spot) -> Work<Option<Covered>> {
    Ok(db
        .prepare_cached(
            "SELECT m.seq, m.ordinal, m.timestamp FROM history l CROSS JOIN message m ON m.id = l.id \
             WHERE l.conversation = ?1 AND (l.at, l.id) <= (?2, ?3) AND m.seq > 0 \
             ORDER BY l.at DESC, l.id DESC LIMIT 1",
        )?
        .query_row((conversation_key(place.id), until.0, until.1), |row| {
            let seq = uint(row.get(0)?);
            Ok(Covered {
                seq,
                ordinal: uint(row.get(1)?),
                timestamp: time_of(row, 2)?,
                newest: seq == place.newest_seq,
            })
        })
        .optional()?)
}

/// As [`covered`], where the index may be late.
fn covered_with_tail(tx: &Tx<'_>, place: &Place, until: Spot) -> Work<Option<Covered>> {
    match tx.tails.newest_until(place.id, until) {
        Some(entry) => Ok(Some(Covered {
            seq: entry.seq(),
            ordinal: entry.ordinal,
            timestamp: entry.message.timestamp,
            newest: entry.seq() == place.newest_seq,
        })),
        None => covered(tx.db, place, until),
    }
}

fn everything(place: &Place) -> Option<Covered> {
    place.newest.map(|newest| Covered {
        seq: place.newest_seq,
        ordinal: place.total,
        timestamp: newest.timestamp,
        newest: true,
    })
}

impl Covered {
    /// The time up to which a mark says it has everything. Who has the newest message has everything
    /// until now.
    fn marked_at(&self, now: Timestamp, before: Option<Timestamp>) -> Timestamp {
        let reached = if self.newest { self.timestamp.max(now) } else { self.timestamp };
        before.map_or(reached, |before| before.max(reached))
    }
}

/// A member's place, or why there is none.
fn marking(tx: &mut Tx<'_>, app: i64, id: ConversationId, client: &ClientId) -> Work<(Place, Member)> {
    let place = tx.hot(app, id)?.place;
    if place.kind.is_room() {
        return Err(Error::NotInRooms.into());
    }
    let member = ensure_member(tx.db, &place, client)?;
    Ok((place, member))
}

pub(super) fn read(
    tx: &mut Tx<'_>,
    app: i64,
    reader: &ClientId,
    mark: &MarkRead,
) -> Work<Outcome<ReadMarked>> {
    let id = mark.conversation;
    let (place, mut member) = marking(tx, app, id, reader)?;
    let covered = match mark.until {
        None => everything(&place),
        Some(until) => covered(tx.db, &place, (until.0, mark.id.map_or(i64::MAX, message_key)))?,
    };
    let covered = match covered {
        Some(covered) if covered.seq > member.read_seq => covered,
        Some(_) | None => {
            // Nothing is written, but the reader's devices are told all the same: one of them asked
            // because it believes that something is unread.
            let unread = unread(tx.db, &place, &member, reader)?;
            return Ok(Outcome::Written(ReadMarked { unread, receipts: Vec::new() }));
        }
    };

    let read_own = own_until(tx.db, &place, &member, reader, &covered)?;
    let at = tx.now.max(covered.timestamp);
    let rows = receipts_between(tx.db, id, reader, member.read_seq, covered.seq)?;
    let mut receipts: Vec<(ClientId, Receipt)> = Vec::new();
    for row in rows.iter().filter(|row| row.read_at.is_none()) {
        tx.db.prepare_cached("UPDATE message SET read_at = ?2 WHERE id = ?1")?.execute((row.id, at.0))?;
        // The newest comes first.
        if !receipts.iter().any(|(sender, _)| *sender == row.receipt.1) {
            receipts.push((row.receipt.1.clone(), row.receipt(id, reader, at, true)));
        }
    }
    if !receipts.is_empty() && !is_pair(tx.db, id)? {
        receipts.clear();
    }
    keep_members(tx.db, id, &mut receipts)?;
    for (sender, receipt) in &receipts {
        note(tx.db, app, sender, &NewNote::of_receipt(receipt))?;
    }
    // Devices read the inbox in `posthouse.db` only.
    if !id.is_temporary() && (mark.device.is_some() || has_devices(tx.db, app, reader)?) {
        let data = device_data(mark.device.as_ref());
        let new = NewNote { data: Some(data.into()), ..NewNote::of(NOTE_READ_HERE, id, reader, tx.now) };
        note(tx.db, app, reader, &new)?;
    }
    member.read_at = Some(covered.marked_at(tx.now, member.read_at));
    (member.read_seq, member.read_total, member.read_own) = (covered.seq, covered.ordinal, read_own);
    tx.db
        .prepare_cached(
            "UPDATE member SET read_seq = ?3, read_total = ?4, read_own = ?5, read_at = ?6, \
             unread_changed_at = max(unread_changed_at, ?7) WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((
            conversation_key(id),
            reader.as_str(),
            int(member.read_seq),
            int(member.read_total),
            int(member.read_own),
            member.read_at.map(|at| at.0),
            tx.cursor_time().0,
        ))?;
    let unread = unread(tx.db, &place, &member, reader)?;
    Ok(Outcome::Written(ReadMarked { unread, receipts }))
}

/// How many of the reader's own messages that count lie up to `covered`. Marks nearly always cover
/// everything, which needs no counting; else the shorter side is counted.
pub(super) fn own_until(
    db: &Connection,
    place: &Place,
    member: &Member,
    reader: &ClientId,
    covered: &Covered,
) -> Work<u64> {
    if covered.newest {
        return Ok(member.sent);
    }
    let own = |after: u64, until: u64| -> rusqlite::Result<u64> {
        db.prepare_cached(
            "SELECT count(*) FROM timeline t CROSS JOIN message m ON m.id = t.id \
             WHERE t.conversation = ?1 AND t.seq > ?2 AND t.seq <= ?3 AND m.sender = ?4 AND m.counted = 1",
        )?
        .query_row((conversation_key(place.id), int(after), int(until), reader.as_str()), |row| row.get(0))
        .map(uint)
    };
    let since_mark = covered.ordinal.saturating_sub(member.read_total);
    let to_the_end = place.total.saturating_sub(covered.ordinal);
    Ok(if since_mark <= to_the_end {
        member.read_own + own(member.read_seq, covered.seq)?
    } else {
        member.sent.saturating_sub(own(covered.seq, place.last_seq)?)
    })
}

/// A message that asked for receipts.
struct ReceiptRow {
    id: i64,
    receipt: (MessageId, ClientId),
    read_at: Option<Timestamp>,
}

impl ReceiptRow {
    fn receipt(&self, conversation: ConversationId, by: &ClientId, at: Timestamp, read: bool) -> Receipt {
        Receipt {
            conversation,
            message: self.receipt.0,
            by: by.clone(),
            at,
            read,
            // Each delivered message is told of, of the read ones only the newest.
            whole: read,
            readers: None,
            note: None,
        }
    }
}

/// Others' messages that asked for receipts, after one place and up to another, newest first.
fn receipts_between(
    db: &Connection,
    id: ConversationId,
    client: &ClientId,
    after: u64,
    until: u64,
) -> Work<Vec<ReceiptRow>> {
    let rows = db
        .prepare_cached(
            "SELECT id, sender, read_at FROM message INDEXED BY message_receipt \
             WHERE receipt = 1 AND conversation = ?1 AND seq > ?2 AND seq <= ?3 AND sender <> ?4 \
             ORDER BY seq DESC LIMIT ?5",
        )?
        .query_map(
            (conversation_key(id), int(after), int(until), client.as_str(), count(RECEIPTS_PER_MARK_MAX)),
            |row| {
                Ok(ReceiptRow {
                    id: row.get(0)?,
                    receipt: (message_id_of(row, 0)?, client_of(row, 1)?),
                    read_at: maybe_time_of(row, 2)?,
                })
            },
        )?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows)
}

pub(super) fn delivered(
    tx: &mut Tx<'_>,
    app: i64,
    receiver: &ClientId,
    mark: &MarkDelivered,
) -> Work<Outcome<DeliveredMarked>> {
    let id = mark.conversation;
    let (place, member) = marking(tx, app, id, receiver)?;
    let covered = match &mark.until {
        Delivered::Time(until) => covered_with_tail(tx, &place, (until.0, i64::MAX))?,
        Delivered::Message(message) => {
            let timestamp = tx
                .db
                .prepare_cached("SELECT timestamp FROM message WHERE id = ?1 AND conversation = ?2")?
                .query_row((message_key(*message), conversation_key(id)), |row| time_of(row, 0))
                .optional()?;
            match timestamp {
                Some(timestamp) => covered_with_tail(tx, &place, (timestamp.0, message_key(*message)))?,
                // Transient messages are acknowledged too, and have no place.
                None => None,
            }
        }
    };
    let covered = match covered {
        Some(covered) if covered.seq > member.delivered_seq => covered,
        Some(_) | None => return Ok(Outcome::Unchanged(Vec::new())),
    };

    let at = tx.now.max(covered.timestamp);
    let mut rows = receipts_between(tx.db, id, receiver, member.delivered_seq, covered.seq)?;
    rows.reverse();
    for row in &rows {
        tx.db
            .prepare_cached("UPDATE message SET delivered_at = coalesce(delivered_at, ?2) WHERE id = ?1")?
            .execute((row.id, at.0))?;
    }
    tx.db
        .prepare_cached(
            "UPDATE member SET delivered_seq = ?3, delivered_at = ?4 WHERE conversation = ?1 AND client = ?2",
        )?
        .execute((
            conversation_key(id),
            receiver.as_str(),
            int(covered.seq),
            covered.marked_at(tx.now, member.delivered_at).0,
        ))?;
    if rows.is_empty() || !is_pair(tx.db, id)? {
        return Ok(Outcome::Written(Vec::new()));
    }
    let receipts = rows.iter().map(|row| (row.receipt.1.clone(), row.receipt(id, receiver, at, false)));
    let mut receipts: Vec<(ClientId, Receipt)> = receipts.collect();
    keep_members(tx.db, id, &mut receipts)?;
    if !id.is_temporary() {
        leave_delivered(tx.db, app, &receipts)?;
    }
    Ok(Outcome::Written(receipts))
}

/// A sender who has left is told nothing more of the conversation.
fn keep_members(db: &Connection, id: ConversationId, receipts: &mut Vec<(ClientId, Receipt)>) -> Work<()> {
    // In conversations of two there is one other sender, so one answer serves nearly all.
    let mut known: Vec<(ClientId, bool)> = Vec::new();
    for (sender, _) in receipts.iter() {
        if !known.iter().any(|(client, _)| client == sender) {
            known.push((sender.clone(), is_member(db, id, sender)?));
        }
    }
    receipts.retain(|(sender, _)| known.iter().any(|(client, member)| client == sender && *member));
    Ok(())
}

/// Leaves notes of delivery for senders with devices that read them; others only hear of it live.
fn leave_delivered(db: &Connection, app: i64, receipts: &[(ClientId, Receipt)]) -> Work<()> {
    let mut known: Option<(&ClientId, bool)> = None;
    for (sender, receipt) in receipts {
        let reads = match known {
            Some((client, reads)) if client == sender => reads,
            Some(_) | None => has_devices(db, app, sender)?,
        };
        known = Some((sender, reads));
        if reads {
            note(db, app, sender, &NewNote::of_receipt(receipt))?;
        }
    }
    Ok(())
}

/// One member's word to the sender of one message.
pub(super) fn acknowledge(
    tx: &mut Tx<'_>,
    app: i64,
    by: &ClientId,
    acknowledge: Acknowledge,
) -> Work<Outcome<Acknowledged>> {
    let (place, member) = marking(tx, app, acknowledge.conversation, by)?;
    let key = message_key(acknowledge.message);
    let cleared = member.cleared(&place);
    let found = tx
        .db
        .prepare_cached(concat!(
            "SELECT m.sender, m.delivered_at IS NOT NULL, m.read_at IS NOT NULL, m.seq, m.timestamp FROM message m \
             WHERE m.id = ?5 AND m.conversation = ?1 AND ",
            not_deleted!()
        ))?
        .query_row((conversation_key(place.id), cleared.0, cleared.1, by.as_str(), key), |row| {
            let was: (bool, bool) = (row.get(1)?, row.get(2)?);
            Ok((client_of(row, 0)?, was, (Seq(uint(row.get(3)?)), time_of(row, 4)?)))
        })
        .optional()?;
    let coming = member.coming();
    let found = found.filter(|(.., (seq, at))| coming.is_none_or(|coming| coming.is_before(*seq, *at)));
    let (sender, (was_delivered, was_read), _) = found.ok_or(Error::MessageNotFound)?;
    let mut receipt = Receipt {
        conversation: place.id,
        message: acknowledge.message,
        by: by.clone(),
        at: tx.now,
        read: acknowledge.read,
        whole: false,
        readers: None,
        note: acknowledge.note,
    };
    if sender == *by {
        return Ok(Outcome::Unchanged(Acknowledged { sender: None, receipt }));
    }
    let is_news = if !acknowledge.read {
        !was_delivered
    } else if place.kind == Kind::Direct {
        !was_read
    } else {
        let added = tx
            .db
            .prepare_cached("INSERT OR IGNORE INTO reader (message, client, at) VALUES (?1, ?2, ?3)")?
            .execute((key, by.as_str(), tx.now.0))?;
        receipt.readers = Some(readers(tx.db, key)?);
        added == 1
    };
    if !is_news {
        return Ok(Outcome::Unchanged(Acknowledged { sender: None, receipt }));
    }
    let stamp = if acknowledge.read {
        "UPDATE message SET read_at = coalesce(read_at, ?2) WHERE id = ?1"
    } else {
        "UPDATE message SET delivered_at = coalesce(delivered_at, ?2) WHERE id = ?1"
    };
    tx.db.prepare_cached(stamp)?.execute((key, tx.now.0))?;
    if !is_member(tx.db, place.id, &sender)? {
        return Ok(Outcome::Written(Acknowledged { sender: None, receipt }));
    }
    note(tx.db, app, &sender, &NewNote::of_receipt(&receipt))?;
    Ok(Outcome::Written(Acknowledged { sender: Some(sender), receipt }))
}

/// How many members have read a message, one by one.
fn readers(db: &Connection, message: i64) -> Work<u64> {
    Ok(db
        .prepare_cached("SELECT count(*) FROM reader WHERE message = ?1")?
        .query_row([message], |row| row.get(0))
        .map(uint)?)
}
