//! What one member sees of a conversation: its counters, marks and watermarks, what it has removed,
//! and what is unread for it.
//!
//! Unread is never counted by scanning messages. A head keeps how many messages a conversation has, a
//! member row how many of them are the member's own, and both as they were when the member last read:
//! unread = total − total@mark − (own − own@mark) − recalled messages of others after the mark − those
//! that the member has removed for itself. Deleting up to a place moves the mark there.

use posthouse_core::id::{ClientId, ConversationId, Seq};
use posthouse_core::message::Message;
use posthouse_core::receipt::Unread;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::checksum::whole;
use super::rows::{
    KIND_RECALLED, Place, Spot, Work, conversation_key, int, maybe_time_of, message_columns, message_key,
    message_of, spot, spot_of, time_of, uint,
};

/// A member's counters and marks.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) sent: u64,
    pub(super) read_seq: u64,
    pub(super) read_total: u64,
    pub(super) read_own: u64,
    pub(super) read_at: Option<Timestamp>,
    pub(super) delivered_seq: u64,
    pub(super) delivered_at: Option<Timestamp>,
    /// The end of the timeline when it came.
    pub(super) joined_seq: u64,
    joined_at: Timestamp,
    /// Up to here everything is deleted for this member; [`Member::cleared`] knows of everybody too.
    own_cleared: Spot,
}

/// A member's row, if there is one.
pub(super) fn member(db: &Connection, id: ConversationId, client: &ClientId) -> Work<Option<Member>> {
    Ok(db
        .prepare_cached(
            "SELECT sent, read_seq, read_total, read_own, read_at, delivered_seq, delivered_at, joined_seq, \
             joined_at, cleared_at, cleared_id FROM member WHERE conversation = ?1 AND client = ?2",
        )?
        .query_row((conversation_key(id), client.as_str()), |row| {
            Ok(Member {
                sent: uint(row.get(0)?),
                read_seq: uint(row.get(1)?),
                read_total: uint(row.get(2)?),
                read_own: uint(row.get(3)?),
                read_at: maybe_time_of(row, 4)?,
                delivered_seq: uint(row.get(5)?),
                delivered_at: maybe_time_of(row, 6)?,
                joined_seq: uint(row.get(7)?),
                joined_at: time_of(row, 8)?,
                own_cleared: spot_of(row, 9)?,
            })
        })
        .optional()?)
}

impl Member {
    /// Up to here everything is deleted for this member, by itself or for everybody.
    pub(super) fn cleared(&self, place: &Place) -> Spot {
        self.own_cleared.max(place.cleared)
    }

    fn counters(&self, place: &Place) -> Counters {
        let Self { sent, read_seq, read_total, read_own, .. } = *self;
        Counters { total: place.total, sent, read_seq, read_total, read_own }
    }

    /// When it came, unless it was there from the beginning.
    pub(super) fn coming(&self) -> Option<Coming> {
        Coming::of(self.joined_seq, self.joined_at)
    }
}

/// When a member came that was not there from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Coming {
    /// The end of the timeline then.
    pub(super) seq: u64,
    pub(super) at: Timestamp,
}

impl Coming {
    /// `None` if nothing lay before: who was there from the beginning also sees what is imported from
    /// before it.
    pub(super) fn of(seq: u64, at: Timestamp) -> Option<Self> {
        (seq > 0).then_some(Self { seq, at })
    }

    /// Whether something was said after it. Imports, which have no place, are told by their time.
    pub(super) fn is_before(self, seq: Seq, at: Timestamp) -> bool {
        if seq == Seq(0) { at >= self.at } else { seq.0 > self.seq }
    }
}

/// A member of a conversation that stores its members, or why there is none.
pub(super) fn ensure_member(db: &Connection, place: &Place, client: &ClientId) -> Work<Member> {
    match member(db, place.id, client)? {
        Some(member) => Ok(member),
        None => {
            place.kind.ensure_member(false)?;
            Err(posthouse_core::error::Error::NotMember.into())
        }
    }
}

/// The condition that a message `m` of conversation ?1 is not deleted for client ?4, for whom
/// everything up to the spot (?2, ?3) is.
macro_rules! not_deleted {
    () => {
        "(m.timestamp, m.id) > (?2, ?3) AND NOT EXISTS (SELECT 1 FROM removed r \
         WHERE r.conversation = m.conversation AND r.client = ?4 AND r.message = m.id)"
    };
}
pub(super) use not_deleted;

/// The newest message of history that `client` may see; the head's own in nearly every case.
pub(super) fn newest_of_history(
    db: &Connection,
    place: &Place,
    client: &ClientId,
    cleared: Spot,
) -> Work<Option<Message>> {
    let Some(newest) = place.newest.filter(|newest| spot(*newest) > cleared) else { return Ok(None) };
    let found = db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM message m WHERE m.id = ?5 AND m.conversation = ?1 AND ",
            not_deleted!()
        ))?
        .query_row(
            (conversation_key(place.id), cleared.0, cleared.1, client.as_str(), message_key(newest.id)),
            |row| whole(message_of(row)),
        )
        .optional()?
        .flatten();
    if found.is_some() {
        return Ok(found);
    }
    Ok(db
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            ", l.at, l.id FROM history l CROSS JOIN message m ON m.id = l.id WHERE l.conversation = ?1 AND (l.at, l.id) > (?2, ?3) AND ",
            not_deleted!(),
            " ORDER BY l.at DESC, l.id DESC LIMIT 1"
        ))?
        .query_row((conversation_key(place.id), cleared.0, cleared.1, client.as_str()), |row| {
            whole(message_of(row))
        })
        .optional()?
        .flatten())
}

/// What unread is counted from: how many messages a conversation has, how many of them the member's own are, and
/// both as they were at its mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counters {
    pub(super) total: u64,
    pub(super) sent: u64,
    pub(super) read_seq: u64,
    pub(super) read_total: u64,
    pub(super) read_own: u64,
}

impl Counters {
    /// Others' messages after the mark, recalled and removed ones among them.
    fn upper(&self) -> u64 {
        let since = self.total.saturating_sub(self.read_total);
        since.saturating_sub(self.sent.saturating_sub(self.read_own))
    }
}

/// How many messages a member has not read.
pub(super) fn unread_count(
    db: &Connection,
    id: ConversationId,
    counters: &Counters,
    client: &ClientId,
) -> Work<u64> {
    let number = counters.upper();
    if number == 0 {
        return Ok(0);
    }
    let mark = (conversation_key(id), int(counters.read_seq), client.as_str());
    // Most have removed nothing there. Ids grow along the timeline, so what was removed before the mark is
    // passed over by id.
    let less: i64 = db
        .prepare_cached(
            "SELECT (SELECT count(*) FROM message INDEXED BY message_recalled \
             WHERE kind = 7 AND conversation = ?1 AND seq > ?2 AND sender <> ?3 AND counted = 1) + \
             CASE WHEN EXISTS (SELECT 1 FROM removed WHERE conversation = ?1 AND client = ?3) THEN \
             (SELECT count(*) FROM removed r CROSS JOIN message m ON m.id = r.message \
             WHERE r.conversation = ?1 AND r.client = ?3 AND r.message > coalesce((SELECT id FROM \
             (SELECT t.id, t.seq FROM timeline t WHERE t.conversation = ?1 AND t.seq <= ?2 ORDER BY t.seq DESC LIMIT 1)), 0) \
             AND m.seq > ?2 AND m.sender <> ?3 AND m.kind <> 7 AND m.counted = 1) ELSE 0 END",
        )?
        .query_row(mark, |row| row.get(0))?;
    Ok(number.saturating_sub(uint(less)))
}

/// What one member has not read.
pub(super) fn unread(db: &Connection, place: &Place, member: &Member, client: &ClientId) -> Work<Unread> {
    let count = unread_count(db, place.id, &member.counters(place), client)?;
    let cleared = member.cleared(place);
    let last_message = if count > 0 {
        db.prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            ", t.seq FROM timeline t CROSS JOIN message m ON m.id = t.id WHERE t.conversation = ?1 AND t.seq > ?5 \
             AND m.sender <> ?4 AND m.kind <> ?6 AND m.counted = 1 AND ",
            not_deleted!(),
            " ORDER BY t.seq DESC LIMIT 1"
        ))?
        .query_row(
            (
                conversation_key(place.id),
                cleared.0,
                cleared.1,
                client.as_str(),
                int(member.read_seq),
                KIND_RECALLED,
            ),
            |row| whole(message_of(row)),
        )
        .optional()?
        .flatten()
    } else {
        newest_of_history(db, place, client, cleared)?
    };
    Ok(Unread {
        conversation: place.id,
        kind: place.kind,
        count,
        mentioned: count > 0 && is_mentioned(db, place, member, client)?,
        last_message,
        head: Seq(place.last_seq),
    })
}

/// Whether a message after the mark calls the member; one that the member removed calls nobody.
fn is_mentioned(db: &Connection, place: &Place, member: &Member, client: &ClientId) -> Work<bool> {
    Ok(db
        .prepare_cached(
            "SELECT 1 FROM mention n WHERE n.conversation = ?1 AND n.client IN (?2, '') AND n.seq > ?3 \
             AND n.sender <> ?2 AND NOT EXISTS (SELECT 1 FROM timeline t CROSS JOIN removed r \
             ON r.conversation = t.conversation AND r.client = ?2 AND r.message = t.id \
             WHERE t.conversation = n.conversation AND t.seq = n.seq) LIMIT 1",
        )?
        .exists((conversation_key(place.id), client.as_str(), int(member.read_seq)))?)
}
