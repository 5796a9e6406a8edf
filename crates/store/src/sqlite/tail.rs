//! The tails of conversations: messages that are in the log and not yet in its index.
//!
//! A message is written into the log, which only grows at its end, and that is all that its commit has
//! to sync. What else follows from it is written later, for many messages at once and in the order of
//! the index, so that they share pages: its lines in `history`, `timeline` and `token`, the numbers in
//! `head`, and how much its sender has said. Until then it is in its conversation's tail, here in
//! memory; after a crash the tail is what the log holds beyond `head.last_seq`.
//!
//! The writer knows the tails and takes them into account. Whoever reads rows has them brought into the
//! index first ([`super::SqliteStore`]'s `index` methods), which costs one commit, and only where
//! something was said moments ago.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use posthouse_core::expiry::Bucket;
use posthouse_core::id::{ClientId, ClientToken, ConversationId, MessageId};
use posthouse_core::message::Position;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::rows::{
    Place, Spot, Work, client_of, conversation_key, conversation_of, int, kind_of, message_id_of,
    message_key, time_of, uint, unreadable,
};

/// A message that is not in the index yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    pub(super) at: Timestamp,
    pub(super) seq: u64,
    /// Counted messages up to and with it.
    pub(super) ordinal: u64,
    pub(super) sender: ClientId,
    pub(super) shown: bool,
    pub(super) counted: bool,
    pub(super) token: Option<ClientToken>,
}

impl Entry {
    pub(super) fn spot(&self) -> Spot {
        (self.at.0, message_key(self.id))
    }
}

impl Place {
    /// Moves on past a message that was said here.
    pub(super) fn after(&mut self, entry: &Entry) {
        self.last_seq = entry.seq;
        self.total = entry.ordinal;
        self.said_at = self.said_at.max(entry.at);
        if entry.shown {
            // An import may be newer.
            self.newest = self.newest.max(Some(Position { timestamp: entry.at, id: entry.id }));
            self.newest_seq = entry.seq;
        }
        if entry.counted {
            self.unread_at = self.unread_at.max(entry.id.time());
        }
    }
}

/// The tails of all conversations that have one. The writer alone changes them; readers ask whether a
/// conversation has one.
#[derive(Debug, Default)]
pub(super) struct Tails {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first; never empty.
    entries: HashMap<ConversationId, Vec<Entry>>,
    tokens: HashMap<TokenKey, MessageId>,
    len: usize,
}

type TokenKey = (ConversationId, ClientId, ClientToken);

impl Tails {
    /// Whether anything is not in the index.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().len == 0
    }

    /// How many messages are not in the index.
    pub(super) fn len(&self) -> usize {
        self.lock().len
    }

    /// The conversations that have one, in the order of the index.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        let mut found: Vec<ConversationId> = self.lock().entries.keys().copied().collect();
        found.sort_unstable();
        found
    }

    /// Those of `conversations` that have one. A tail stays until the commit that indexes it.
    pub(super) fn among(
        &self,
        conversations: impl IntoIterator<Item = ConversationId>,
    ) -> Vec<ConversationId> {
        let state = self.lock();
        conversations.into_iter().filter(|id| state.entries.contains_key(id)).collect()
    }

    /// Adds a message behind the others of its conversation.
    pub(super) fn push(&self, conversation: ConversationId, entry: Entry) {
        let mut state = self.lock();
        if let Some(token) = &entry.token {
            state.tokens.insert((conversation, entry.sender.clone(), token.clone()), entry.id);
        }
        state.entries.entry(conversation).or_default().push(entry);
        state.len += 1;
    }

    /// The entries of a conversation after the first `skip`.
    pub(super) fn after(&self, conversation: ConversationId, skip: usize) -> Vec<Entry> {
        let state = self.lock();
        state.entries.get(&conversation).and_then(|entries| entries.get(skip..)).unwrap_or_default().to_vec()
    }

    /// The newest shown message at or before a spot, if the tail reaches back that far.
    pub(super) fn newest_until(&self, conversation: ConversationId, until: Spot) -> Option<Entry> {
        let state = self.lock();
        let entries = state.entries.get(&conversation)?;
        entries.iter().rev().find(|entry| entry.shown && entry.spot() <= until).cloned()
    }

    /// The message that a sender has called so.
    pub(super) fn called(
        &self,
        conversation: ConversationId,
        sender: &ClientId,
        token: &ClientToken,
    ) -> Option<MessageId> {
        let key = (conversation, sender.clone(), token.clone());
        self.lock().tokens.get(&key).copied()
    }

    /// A conversation as it is with its tail, from what its rows say.
    pub(super) fn applied(&self, mut place: Place) -> Place {
        let state = self.lock();
        for entry in state.entries.get(&place.id).into_iter().flatten() {
            // The writer may have indexed some of it in this very transaction.
            if entry.seq > place.last_seq {
                place.after(entry);
            }
        }
        place
    }

    /// Lets go of the oldest entries of a conversation, which are in the index now.
    pub(super) fn drop_oldest(&self, conversation: ConversationId, count: usize) {
        self.lock().cut(conversation, |entries| entries.drain(..count.min(entries.len())).collect());
    }

    /// Takes the newest entries of a conversation back: their commit failed.
    pub(super) fn drop_newest(&self, conversation: ConversationId, count: usize) {
        self.lock().cut(conversation, |entries| entries.split_off(entries.len().saturating_sub(count)));
    }

    /// Forgets what lies in the lasting file, or in one bucket.
    pub(super) fn forget(&self, bucket: Option<Bucket>) {
        let mut state = self.lock();
        let gone: Vec<ConversationId> =
            state.entries.keys().copied().filter(|id| id.bucket() == bucket).collect();
        for conversation in gone {
            state.cut(conversation, std::mem::take);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic can't leave it half-changed: nothing in here calls foreign code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn cut(&mut self, conversation: ConversationId, cut: impl FnOnce(&mut Vec<Entry>) -> Vec<Entry>) {
        let Some(entries) = self.entries.get_mut(&conversation) else { return };
        let gone = cut(entries);
        if entries.is_empty() {
            self.entries.remove(&conversation);
        }
        self.len -= gone.len();
        for Entry { sender, token, .. } in gone {
            if let Some(token) = token {
                self.tokens.remove(&(conversation, sender, token));
            }
        }
    }
}

/// Brings entries of one conversation, its oldest that are not in the index, into it.
pub(super) fn index(db: &Connection, id: ConversationId, entries: &[Entry]) -> Work<()> {
    let Some(last) = entries.last() else { return Ok(()) };
    let key = conversation_key(id);
    let counts_unread = db
        .prepare_cached("SELECT kind, until FROM conversation WHERE id = ?1")?
        .query_row([key], |row| kind_of(row, 0))
        .optional()?
        .is_some_and(|kind| kind.counts_unread());

    let mut timeline =
        db.prepare_cached("INSERT INTO timeline (conversation, seq, id) VALUES (?1, ?2, ?3)")?;
    for entry in entries {
        timeline.execute((key, int(entry.seq), message_key(entry.id)))?;
    }
    let mut history = db.prepare_cached("INSERT INTO history (conversation, at, id) VALUES (?1, ?2, ?3)")?;
    for entry in entries.iter().filter(|entry| entry.shown) {
        history.execute((key, entry.at.0, message_key(entry.id)))?;
    }
    for entry in entries {
        if let Some(token) = &entry.token {
            add_token(db, id, &entry.sender, token, entry.id)?;
        }
    }

    let shown = entries.iter().rev().find(|entry| entry.shown);
    let counted = entries.iter().rev().find(|entry| entry.counted);
    db.prepare_cached(
        "UPDATE head SET last_seq = ?2, total = ?3, said_at = max(said_at, ?4), touched_at = max(touched_at, ?4), \
         unread_at = max(unread_at, ?5), last_message_seq = coalesce(?6, last_message_seq) WHERE conversation = ?1",
    )?
    .execute((
        key,
        int(last.seq),
        int(last.ordinal),
        last.at.0,
        counted.map_or(0, |entry| entry.id.time().0),
        shown.map(|entry| int(entry.seq)),
    ))?;
    if let Some(shown) = shown {
        // An import may be newer.
        db.prepare_cached(
            "UPDATE head SET last_message = ?3, last_message_at = ?2 WHERE conversation = ?1 \
             AND (last_message IS NULL OR (?2, ?3) > (last_message_at, last_message))",
        )?
        .execute((key, shown.at.0, message_key(shown.id)))?;
    }
    if counts_unread {
        let mut sent: Vec<(&ClientId, i64)> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.counted) {
            match sent.iter_mut().find(|(sender, _)| *sender == &entry.sender) {
                Some((_, count)) => *count += 1,
                None => sent.push((&entry.sender, 1)),
            }
        }
        let mut update =
            db.prepare_cached("UPDATE member SET sent = sent + ?3 WHERE conversation = ?1 AND client = ?2")?;
        for (sender, count) in sent {
            update.execute((key, sender.as_str(), count))?;
        }
    }
    Ok(())
}

/// Notes what a sender calls a message.
pub(super) fn add_token(
    db: &Connection,
    conversation: ConversationId,
    sender: &ClientId,
    token: &ClientToken,
    id: MessageId,
) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO token (conversation, sender, token, id) VALUES (?1, ?2, ?3, ?4)")?
        .execute((conversation_key(conversation), sender.as_str(), token.as_str(), message_key(id)))?;
    Ok(())
}

/// Up to which id everything is in the index.
pub(super) fn indexed_until(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT until FROM indexed", [], |row| row.get(0))
}

/// Notes that everything up to an id is in the index.
pub(super) fn set_indexed_until(db: &Connection, until: MessageId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE indexed SET until = ?1 WHERE until < ?1")?.execute([message_key(until)])?;
    Ok(())
}

/// What the log of a file holds that its index doesn't, in the order of the log.
pub(super) fn unindexed(db: &Connection) -> rusqlite::Result<Vec<(ConversationId, Entry)>> {
    let mut statement = db.prepare(
        "SELECT m.id, m.conversation, m.seq, m.timestamp, m.ordinal, m.sender, m.shown, m.counted, m.token \
         FROM message m CROSS JOIN head h ON h.conversation = m.conversation \
         WHERE m.id > ?1 AND m.seq > h.last_seq ORDER BY m.id",
    )?;
    let rows =
        statement.query_map([indexed_until(db)?], |row| Ok((conversation_of(row, 1)?, entry(row)?)))?;
    rows.collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let token = match row.get_ref(8)?.as_str_or_null()? {
        Some(text) => Some(ClientToken::parse(text).map_err(|error| unreadable(8, error.to_string()))?),
        None => None,
    };
    Ok(Entry {
        id: message_id_of(row, 0)?,
        at: time_of(row, 3)?,
        seq: uint(row.get(2)?),
        ordinal: uint(row.get(4)?),
        sender: client_of(row, 5)?,
        shown: row.get(6)?,
        counted: row.get(7)?,
        token,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn conversation(number: u64) -> ConversationId {
        ConversationId::from_u64(number).unwrap()
    }

    fn entry(seq: u64) -> Entry {
        Entry {
            id: MessageId::from_u64(100 + seq).unwrap(),
            at: Timestamp(1_000),
            seq,
            ordinal: seq,
            sender: ClientId::parse("tom").unwrap(),
            shown: seq % 2 == 0,
            counted: seq % 2 == 0,
            token: ClientToken::parse(&format!("t{seq}")).ok(),
        }
    }

    fn filled() -> Tails {
        let tails = Tails::default();
        for seq in 1..=4 {
            tails.push(conversation(7), entry(seq));
        }
        tails.push(conversation(3), entry(1));
        tails
    }

    #[test]
    fn tails_are_told_in_the_order_of_the_index() {
        let tails = filled();
        assert_eq!(tails.conversations(), [conversation(3), conversation(7)]);
        assert_eq!(tails.among([conversation(7), conversation(8)]), [conversation(7)]);
        assert_eq!((tails.len(), tails.is_empty()), (5, false));
    }

    #[test]
    fn what_is_in_the_index_is_let_go_with_its_tokens() {
        let tails = filled();
        let (tom, token) = (ClientId::parse("tom").unwrap(), |text: &str| ClientToken::parse(text).unwrap());
        assert_eq!(tails.called(conversation(7), &tom, &token("t2")), Some(entry(2).id));
        tails.drop_oldest(conversation(7), 3);
        assert_eq!(tails.called(conversation(7), &tom, &token("t2")), None);
        assert_eq!(tails.after(conversation(7), 0), [entry(4)]);
        tails.drop_oldest(conversation(7), 9);
        assert!(tails.among([conversation(7)]).is_empty());
        assert_eq!(tails.len(), 1);
    }

    #[test]
    fn what_was_not_committed_is_taken_back() {
        let tails = filled();
        tails.drop_newest(conversation(7), 3);
        assert_eq!(tails.after(conversation(7), 0), [entry(1)]);
        tails.drop_newest(conversation(7), 1);
        assert_eq!((tails.among([conversation(7)]), tails.len()), (vec![], 1));
    }

    #[test]
    fn only_what_is_part_of_history_is_covered() {
        let tails = filled();
        let until = |id: u64| tails.newest_until(conversation(7), (1_000, i64::try_from(id).unwrap()));
        assert_eq!(until(103), Some(entry(2)));
        assert_eq!(until(101), None);
        assert_eq!(tails.newest_until(conversation(9), (i64::MAX, i64::MAX)), None);
    }

    #[test]
    fn a_bucket_is_forgotten_alone() {
        let tails = filled();
        let temporary = ConversationId::temporary(Bucket::from_bits(5), 1);
        tails.push(temporary, entry(1));
        tails.forget(temporary.bucket());
        assert_eq!((tails.among([temporary]), tails.len()), (vec![], 5));
        tails.forget(None);
        assert!(tails.is_empty());
    }
}
