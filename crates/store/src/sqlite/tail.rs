//! The tails of conversations: messages that are in the log and not yet in its index.
//!
//! A message is written into the log, which only grows at its end, and that is all that its commit has
//! to sync. What else follows from it is written later, for many messages at once and in the order of
//! the index, so that they share pages: its lines in `history`, `timeline` and `token`, the numbers in
//! `head`, and how much its sender has said. Until then it is in its conversation's tail, here in
//! memory; after a crash the tail is what the log holds beyond `head.last_seq`.
//!
//! The writer knows the tails: it takes them into account, or brings them into the index before it changes
//! rows. Whoever reads lays them over the rows ([`super::overlay`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use posthouse_core::expiry::Bucket;
use posthouse_core::id::{ClientId, ClientToken, ConversationId, MessageId, Seq};
use posthouse_core::listing::{Entry as Shown, EntryKind, Stretch};
use posthouse_core::message::{Body, Message, Payload};
use posthouse_core::port::store::PAGE_BYTES_MAX;
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::history::size;
use super::hot::Hot;
use super::rows::{
    MESSAGE_COLUMNS, Place, Spot, Work, conversation_key, int, kind_of, message_columns, message_key,
    message_of, spot, uint, unreadable,
};

/// A message that is not in the index yet.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    /// As it was said: whatever changes it brings it into the index first.
    pub(super) message: Message,
    /// Counted messages up to and with it.
    pub(super) ordinal: u64,
    pub(super) shown: bool,
    pub(super) counted: bool,
    pub(super) token: Option<ClientToken>,
}

impl Entry {
    pub(super) fn spot(&self) -> Spot {
        spot(self.message.position())
    }

    pub(super) fn seq(&self) -> u64 {
        self.message.seq.0
    }

    fn id(&self) -> MessageId {
        self.message.id
    }

    fn token_key(&self) -> Option<TokenKey> {
        let token = self.token.clone()?;
        Some((self.message.conversation, self.message.sender.clone(), token))
    }

    /// About the memory that it takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.message.body.payload.bytes.len()
    }

    /// Without the frame that the content came in, of which it may be a small part.
    pub(super) fn with_own_bytes(mut self) -> Self {
        let payload = &self.message.body.payload;
        let payload = Payload { schema: payload.schema, bytes: Bytes::copy_from_slice(&payload.bytes) };
        self.message.body = Body { payload, ..self.message.body };
        self
    }
}

impl Place {
    /// Moves on past a message that was said here.
    pub(super) fn after(&mut self, entry: &Entry) {
        self.last_seq = entry.seq();
        self.total = entry.ordinal;
        self.said_at = self.said_at.max(entry.message.timestamp);
        if entry.shown {
            // An import may be newer.
            self.newest = self.newest.max(Some(entry.message.position()));
            self.newest_seq = entry.seq();
        }
        if entry.counted {
            self.unread_at = self.unread_at.max(entry.id().time());
        }
    }
}

/// Whose tails a read takes into account.
#[derive(Clone, Debug, Default)]
pub(super) enum Late {
    /// Nobody's: it reads nothing that is ever late.
    #[default]
    Nothing,
    /// Those of these conversations.
    Conversations(Vec<ConversationId>),
    /// Those of every conversation that a client of an app is in.
    OfClient(i64, ClientId),
    /// All.
    All,
}

/// The tails of all conversations that have one. The writer alone changes them; readers ask whether a
/// conversation has one.
#[derive(Debug, Default)]
pub(super) struct Tails {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tails: HashMap<ConversationId, Tail>,
    tokens: HashMap<TokenKey, MessageId>,
    len: usize,
    committed: usize,
    bytes: usize,
}

/// The tail of one conversation.
#[derive(Debug, Default)]
struct Tail {
    /// Oldest first; never empty.
    entries: Vec<Arc<Entry>>,
    /// How many of them are on disk; the others are in the commit in the making.
    committed: usize,
    /// The conversation as it was when the last one was said; since then nobody came or went. `None` after a
    /// start.
    hot: Option<Hot>,
}

type TokenKey = (ConversationId, ClientId, ClientToken);

impl Tails {
    /// Whether nothing that is on disk is missing in the index.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().committed == 0
    }

    /// How many messages are not in the index, and about the memory they take.
    pub(super) fn size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.len, state.bytes)
    }

    /// The conversations that have one, in the order of the index.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        let mut found: Vec<ConversationId> = self.lock().tails.keys().copied().collect();
        found.sort_unstable();
        found
    }

    /// Those of `conversations` of which something that is on disk is missing in the index. It is until the
    /// commit that brings it there.
    pub(super) fn among(
        &self,
        conversations: impl IntoIterator<Item = ConversationId>,
    ) -> Vec<ConversationId> {
        let state = self.lock();
        let is_late = |id: &ConversationId| state.tails.get(id).is_some_and(|tail| tail.committed > 0);
        conversations.into_iter().filter(is_late).collect()
    }

    /// What a reader must know of these conversations beside the rows of a file: entries on disk that the index
    /// may lack.
    pub(super) fn late<'a>(
        &self,
        conversations: impl IntoIterator<Item = &'a ConversationId>,
        bucket: Option<Bucket>,
    ) -> Vec<(ConversationId, Vec<Arc<Entry>>)> {
        let state = self.lock();
        let found = conversations.into_iter().filter_map(|id| state.tails.get(id)?.late(*id, bucket));
        found.collect()
    }

    /// The same of all conversations.
    pub(super) fn all_late(&self, bucket: Option<Bucket>) -> Vec<(ConversationId, Vec<Arc<Entry>>)> {
        self.lock().tails.iter().filter_map(|(id, tail)| tail.late(*id, bucket)).collect()
    }

    /// Adds a message behind the others of its conversation.
    pub(super) fn push(&self, entry: Entry, hot: Option<Hot>) {
        let mut state = self.lock();
        if let Some(key) = entry.token_key() {
            state.tokens.insert(key, entry.id());
        }
        state.len += 1;
        state.bytes += entry.bytes();
        let tail = state.tails.entry(entry.message.conversation).or_default();
        tail.entries.push(Arc::new(entry));
        tail.hot = hot;
    }

    /// Notes that everything said in a conversation is on disk.
    pub(super) fn committed(&self, conversation: ConversationId) {
        let mut state = self.lock();
        let State { tails, committed, .. } = &mut *state;
        if let Some(tail) = tails.get_mut(&conversation) {
            *committed += tail.entries.len() - tail.committed;
            tail.committed = tail.entries.len();
        }
    }

    /// The entries of a conversation after the first `skip`.
    pub(super) fn after(&self, conversation: ConversationId, skip: usize) -> Vec<Arc<Entry>> {
        let state = self.lock();
        state.tails.get(&conversation).and_then(|tail| tail.entries.get(skip..)).unwrap_or_default().to_vec()
    }

    /// The newest shown message at or before a spot, if the tail reaches back that far.
    pub(super) fn newest_until(&self, conversation: ConversationId, until: Spot) -> Option<Arc<Entry>> {
        let state = self.lock();
        let tail = state.tails.get(&conversation)?;
        tail.entries.iter().rev().find(|entry| entry.shown && entry.spot() <= until).cloned()
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
        for entry in state.tails.get(&place.id).into_iter().flat_map(|tail| &tail.entries) {
            // The writer may have indexed some of it in this very transaction.
            if entry.seq() > place.last_seq {
                place.after(entry);
            }
        }
        place
    }

    /// The timeline after a place for a member, where all of that is in the tail: who has just been told of a
    /// message need not wait for the index. Whatever decides what a member sees (coming, deleting,
    /// recalling) brings the tail into the index first, so every member sees all of it.
    pub(super) fn stretch(
        &self,
        app: i64,
        reader: &ClientId,
        conversation: ConversationId,
        after: Seq,
        limit: usize,
        now: Timestamp,
    ) -> Option<Stretch> {
        let state = self.lock();
        let tail = state.tails.get(&conversation)?;
        let hot = tail.hot.as_ref().filter(|hot| hot.app == app)?;
        let committed = tail.entries.get(..tail.committed)?;
        let (first, last) = (committed.first()?.seq(), committed.last()?.seq());
        let is_theirs = hot.place.kind.stores_members() && hot.members.contains(reader);
        if after.0.saturating_add(1) < first || !is_theirs || hot.place.kind.ensure_alive(now).is_err() {
            return None;
        }
        let from = committed.partition_point(|entry| entry.seq() <= after.0);
        let mut entries: Vec<Shown> = Vec::new();
        let mut bytes = 0;
        for entry in committed[from..].iter().take(limit) {
            bytes += size(&entry.message);
            if bytes > PAGE_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(Shown { seq: entry.message.seq, what: EntryKind::Message(entry.message.clone()) });
        }
        let end = match entries.last() {
            Some(entry) => entry.seq,
            None => Seq(last.max(after.0)),
        };
        Some(Stretch { entries, end, more: end.0 < last })
    }

    /// Lets go of the oldest entries of a conversation, which are in the index now.
    pub(super) fn drop_oldest(&self, conversation: ConversationId, count: usize) {
        self.lock().cut(conversation, |tail| {
            let gone: Vec<_> = tail.entries.drain(..count.min(tail.entries.len())).collect();
            tail.committed = tail.committed.saturating_sub(gone.len());
            gone
        });
    }

    /// Takes the newest entries of a conversation back: their commit failed.
    pub(super) fn drop_newest(&self, conversation: ConversationId, count: usize) {
        self.lock()
            .cut(conversation, |tail| tail.entries.split_off(tail.entries.len().saturating_sub(count)));
    }

    /// Forgets what lies in the lasting file, or in one bucket.
    pub(super) fn forget(&self, bucket: Option<Bucket>) {
        let mut state = self.lock();
        let gone: Vec<ConversationId> =
            state.tails.keys().copied().filter(|id| id.bucket() == bucket).collect();
        for conversation in gone {
            state.cut(conversation, |tail| std::mem::take(&mut tail.entries));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic can't leave it half-changed: nothing in here calls foreign code.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn late(&self, id: ConversationId, bucket: Option<Bucket>) -> Option<(ConversationId, Vec<Arc<Entry>>)> {
        let entries = self.entries.get(..self.committed).unwrap_or_default();
        (!entries.is_empty() && id.bucket() == bucket).then(|| (id, entries.to_vec()))
    }
}

impl State {
    fn cut(&mut self, conversation: ConversationId, cut: impl FnOnce(&mut Tail) -> Vec<Arc<Entry>>) {
        let Some(tail) = self.tails.get_mut(&conversation) else { return };
        self.committed -= tail.committed;
        let gone = cut(tail);
        tail.committed = tail.committed.min(tail.entries.len());
        self.committed += tail.committed;
        if tail.entries.is_empty() {
            self.tails.remove(&conversation);
        }
        for entry in gone {
            self.len -= 1;
            self.bytes -= entry.bytes();
            if let Some(key) = entry.token_key() {
                self.tokens.remove(&key);
            }
        }
    }
}

/// Brings entries of one conversation, its oldest that are not in the index, into it.
pub(super) fn index(db: &Connection, id: ConversationId, entries: &[Arc<Entry>]) -> Work<()> {
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
        timeline.execute((key, int(entry.seq()), message_key(entry.id())))?;
    }
    let mut history = db.prepare_cached("INSERT INTO history (conversation, at, id) VALUES (?1, ?2, ?3)")?;
    for entry in entries.iter().filter(|entry| entry.shown) {
        history.execute((key, entry.message.timestamp.0, message_key(entry.id())))?;
    }
    for entry in entries {
        if let Some(token) = &entry.token {
            add_token(db, id, &entry.message.sender, token, entry.id())?;
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
        int(last.seq()),
        int(last.ordinal),
        last.message.timestamp.0,
        counted.map_or(0, |entry| entry.id().time().0),
        shown.map(|entry| int(entry.seq())),
    ))?;
    if let Some(shown) = shown {
        // An import may be newer.
        db.prepare_cached(
            "UPDATE head SET last_message = ?3, last_message_at = ?2 WHERE conversation = ?1 \
             AND (last_message IS NULL OR (?2, ?3) > (last_message_at, last_message))",
        )?
        .execute((key, shown.message.timestamp.0, message_key(shown.id())))?;
    }
    if counts_unread {
        let mut sent: Vec<(&ClientId, i64)> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.counted) {
            let sender = &entry.message.sender;
            match sent.iter_mut().find(|(known, _)| *known == sender) {
                Some((_, count)) => *count += 1,
                None => sent.push((sender, 1)),
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
pub(super) fn unindexed(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = db.prepare(concat!(
        "SELECT ",
        message_columns!(),
        ", m.ordinal, m.shown, m.counted, m.token FROM message m CROSS JOIN head h \
         ON h.conversation = m.conversation WHERE m.id > ?1 AND m.seq > h.last_seq ORDER BY m.id"
    ))?;
    let rows = statement.query_map([indexed_until(db)?], entry)?;
    rows.collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let token = match row.get_ref(MESSAGE_COLUMNS + 3)?.as_str_or_null()? {
        Some(text) => Some(
            ClientToken::parse(text).map_err(|error| unreadable(MESSAGE_COLUMNS + 3, error.to_string()))?,
        ),
        None => None,
    };
    Ok(Entry {
        message: message_of(row)?,
        ordinal: uint(row.get(MESSAGE_COLUMNS)?),
        shown: row.get(MESSAGE_COLUMNS + 1)?,
        counted: row.get(MESSAGE_COLUMNS + 2)?,
        token,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::conversation::Kind;
    use posthouse_core::message::{BodyKind, Mentions, Origin, SchemaTag};

    use super::*;

    fn conversation(number: u64) -> ConversationId {
        ConversationId::from_u64(number).unwrap()
    }

    fn said(id: ConversationId, seq: u64) -> Entry {
        let payload = Payload { schema: SchemaTag(1), bytes: Bytes::from_static(b"words") };
        Entry {
            message: Message {
                id: MessageId::from_u64(100 + seq).unwrap(),
                conversation: id,
                seq: Seq(seq),
                timestamp: Timestamp(1_000),
                sender: ClientId::parse("tom").unwrap(),
                body: Body { kind: BodyKind::Text, summary: None, payload },
                mentions: Mentions::default(),
                receipt: false,
                patched_at: None,
                delivered_at: None,
                read_at: None,
                origin: Origin::Client,
                edits: 0,
                patched_by: None,
            },
            ordinal: seq,
            shown: seq.is_multiple_of(2),
            counted: seq.is_multiple_of(2),
            token: ClientToken::parse(&format!("t{seq}")).ok(),
        }
    }

    fn filled() -> Tails {
        let tails = Tails::default();
        for seq in 1..=4 {
            tails.push(said(conversation(7), seq), None);
        }
        tails.push(said(conversation(3), 1), None);
        tails.committed(conversation(3));
        tails.committed(conversation(7));
        tails
    }

    fn left(tails: &Tails, id: ConversationId) -> Vec<u64> {
        tails.after(id, 0).iter().map(|entry| entry.seq()).collect()
    }

    #[test]
    fn tails_are_told_in_the_order_of_the_index() {
        let tails = filled();
        assert_eq!(tails.conversations(), [conversation(3), conversation(7)]);
        assert_eq!(tails.among([conversation(7), conversation(8)]), [conversation(7)]);
        assert_eq!((tails.size().0, tails.is_empty()), (5, false));
    }

    #[test]
    fn what_is_in_the_index_is_let_go_with_its_tokens() {
        let tails = filled();
        let (tom, token) = (ClientId::parse("tom").unwrap(), ClientToken::parse("t2").unwrap());
        assert_eq!(tails.called(conversation(7), &tom, &token), Some(said(conversation(7), 2).id()));
        tails.drop_oldest(conversation(7), 3);
        assert_eq!(tails.called(conversation(7), &tom, &token), None);
        assert_eq!(left(&tails, conversation(7)), [4]);
        tails.drop_oldest(conversation(7), 9);
        assert!(tails.among([conversation(7)]).is_empty());
        assert_eq!(tails.size(), (1, said(conversation(3), 1).bytes()));
    }

    #[test]
    fn what_was_not_committed_is_taken_back() {
        let tails = filled();
        tails.drop_newest(conversation(7), 3);
        assert_eq!(left(&tails, conversation(7)), [1]);
        tails.drop_newest(conversation(7), 1);
        assert_eq!((tails.among([conversation(7)]), tails.size().0), (vec![], 1));
    }

    #[test]
    fn only_what_is_part_of_history_is_covered() {
        let tails = filled();
        let until = |id: i64| tails.newest_until(conversation(7), (1_000, id)).map(|entry| entry.seq());
        assert_eq!((until(103), until(101)), (Some(2), None));
        assert_eq!(tails.newest_until(conversation(9), (i64::MAX, i64::MAX)), None);
    }

    #[test]
    fn a_bucket_is_forgotten_alone() {
        let tails = filled();
        let temporary = ConversationId::temporary(Bucket::from_bits(5), 1);
        tails.push(said(temporary, 1), None);
        assert_eq!(tails.among([temporary]), [], "nobody waits for what is not on disk");
        tails.committed(temporary);
        assert_eq!(tails.among([temporary]), [temporary]);
        tails.forget(temporary.bucket());
        assert_eq!((tails.among([temporary]), tails.size().0), (vec![], 5));
        tails.forget(None);
        assert!(tails.is_empty());
    }

    #[test]
    fn only_members_are_served_from_a_tail_and_only_what_is_on_disk() {
        let (tails, id) = (Tails::default(), conversation(7));
        let place = Place {
            id,
            kind: Kind::Group,
            updated_at: Timestamp(0),
            last_seq: 2,
            total: 2,
            newest: None,
            newest_seq: 2,
            said_at: Timestamp(0),
            cleared: (0, 0),
            unread_at: Timestamp(0),
            patched_at: Timestamp(0),
        };
        let hot = Hot { app: 1, place, members: [ClientId::parse("jerry").unwrap()].into() };
        let ask = |app, who: &str, after, limit| {
            let found =
                tails.stretch(app, &ClientId::parse(who).unwrap(), id, Seq(after), limit, Timestamp(1));
            found.map(|found| {
                let seqs: Vec<u64> = found.entries.iter().map(|entry| entry.seq.0).collect();
                (seqs, found.end.0, found.more)
            })
        };
        for seq in 3..=5 {
            tails.push(said(id, seq), Some(hot.clone()));
        }
        assert_eq!(ask(1, "jerry", 2, 9), None, "nothing is on disk");
        tails.committed(id);
        tails.push(said(id, 6), Some(hot));
        assert_eq!(ask(1, "jerry", 2, 9), Some((vec![3, 4, 5], 5, false)));
        assert_eq!(ask(1, "jerry", 3, 1), Some((vec![4], 4, true)));
        assert_eq!(ask(1, "jerry", 5, 9), Some((vec![], 5, false)));
        assert_eq!(ask(1, "jerry", 1, 9), None, "the tail doesn't reach back that far");
        assert_eq!((ask(2, "jerry", 2, 9), ask(1, "tom", 2, 9)), (None, None));
        tails.drop_newest(id, 1);
        tails.drop_oldest(id, 2);
        assert_eq!(ask(1, "jerry", 4, 9), Some((vec![5], 5, false)));
    }
}
