//! How far one device has got in its queues: what it has been told of, sent, and has acknowledged
//! (client 4). It does no I/O; the connection reads and writes for it.
//!
//! A queue is a conversation's timeline or the client's inbox, and has two places here: up to where
//! the device has *acknowledged*, which is the store's to keep, and up to where it was *sent* on this
//! connection. A batch goes on behind what was sent, whichever pull asks for it, so that pulls that
//! overlap get nothing twice; a connection that is lost takes what was sent with it, and the next one
//! begins where the device acknowledged.
//!
//! ```text
//!            acknowledged        sent            end of the timeline
//!   ─────────────┼────────────────┼─────────────────────┼──►
//!                └ batch, batch … ┘└─ the next batch ───┘
//!                      ▲ each with a key that acknowledges up to its end
//! ```

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use posthouse_core::conversation::Address;
use posthouse_core::id::{ClientId, ConversationId, Seq};
use posthouse_core::listing::{Queue, Waiting};

/// Queues in one list; more are told of when some of these are empty.
pub(crate) const LISTED_MAX: usize = 500;
/// When to look for more.
const LISTED_FEW: usize = LISTED_MAX / 2;
/// Queues remembered. Beyond it those that hold nothing open are forgotten: the store knows the rest.
const LINES_MAX: usize = 20_000;
/// Keys of one queue that can still acknowledge something: a client has one, or few when pulls overlap.
const KEYS_MAX: usize = 16;
/// Entries of one batch.
pub(crate) const BATCH_ENTRIES_MAX: usize = 200;
/// Bytes of one batch, unless a single entry has more.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// The queues of one device.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    by_queue: HashMap<Queue, Line>,
    /// The direct conversations among them, by the other one.
    directs: HashMap<ClientId, ConversationId>,
    /// How many the device was told of and has not emptied.
    told: usize,
    /// Counts what is told, so that lists keep its order.
    tellings: u64,
    /// Whether the store may know of more than was listed.
    backlog: bool,
}

/// One queue.
#[derive(Debug, Default)]
struct Line {
    /// The conversation; `None` for the inbox.
    address: Option<Address>,
    place: Option<Place>,
    told: Option<Told>,
}

/// How far the device is.
#[derive(Debug)]
struct Place {
    acknowledged: u64,
    sent: u64,
    /// Whether the device has pulled it on this connection. Until then it may not know of what waits, even
    /// if it has said something in it.
    pulled: bool,
    /// The keys of batches that are not acknowledged, oldest first, each with its batch's end.
    keys: VecDeque<(u64, u64)>,
}

/// What the device was told of and has not emptied.
#[derive(Clone, Copy, Debug)]
struct Told {
    order: u64,
    entries: u32,
}

/// A queue as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    /// The conversation; `None` for the inbox.
    pub(crate) address: Option<Address>,
    /// About how many entries wait in it; at least one.
    pub(crate) entries: u32,
}

impl Lines {
    /// Something came into a conversation, at a place of its timeline if one is named. Whether to tell
    /// the device: not of what it was sent already, nor again of a queue that it has not emptied.
    pub(crate) fn has_news(&mut self, address: &Address, at: Option<Seq>) -> bool {
        let queue = Queue::Conversation(address.id);
        if let (Some(Seq(at)), Some(sent)) = (at, self.sent(queue))
            && at <= sent
        {
            return false;
        }
        self.put(queue, Some(address));
        self.tell(queue, 1)
    }

    /// Something came into the inbox. Whether to tell the device.
    pub(crate) fn inbox_has_news(&mut self) -> bool {
        self.put(Queue::Inbox, None);
        self.tell(Queue::Inbox, 1)
    }

    /// Takes over what the store knows to be waiting, of which it was asked for [`LISTED_MAX`]
    /// conversations. Returns the queues that the device was not told of before.
    pub(crate) fn take_waiting(&mut self, waiting: Waiting) -> Vec<Listed> {
        let entries = |entries: u64| u32::try_from(entries).unwrap_or(u32::MAX);
        let full = waiting.conversations.len() >= LISTED_MAX;
        let mut new = Vec::new();
        for pending in waiting.conversations {
            let queue = Queue::Conversation(pending.address.id);
            // What was sent counts as waiting for the store until it is acknowledged.
            let same_name = self.address(pending.address.id).is_none_or(|known| *known == pending.address);
            let was_pulled = same_name && self.place_mut(queue).is_some_and(|place| place.pulled);
            self.put(queue, Some(&pending.address));
            if !was_pulled && self.tell(queue, entries(pending.entries)) {
                new.push(Listed { address: Some(pending.address), entries: entries(pending.entries) });
            }
        }
        // A device that acknowledges nothing is told of the first ones again and again, and of no others.
        self.backlog = full && !new.is_empty();
        if waiting.notes > 0 && self.sent(Queue::Inbox).is_none() {
            self.put(Queue::Inbox, None);
            if self.tell(Queue::Inbox, entries(waiting.notes)) {
                new.push(Listed { address: None, entries: entries(waiting.notes) });
            }
        }
        new
    }

    /// What the device was told of and has not emptied: the inbox, which holds invitations and receipts,
    /// then conversations in the order in which it was told.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let told = self.by_queue.values().filter_map(|line| Some((line.told?, line)));
        let mut told: Vec<(Told, &Line)> = told.collect();
        told.sort_unstable_by_key(|(told, line)| (line.address.is_some(), told.order));
        told.truncate(LISTED_MAX);
        told.into_iter()
            .map(|(told, line)| Listed { address: line.address.clone(), entries: told.entries.max(1) })
            .collect()
    }

    /// Whether to ask the store for more, since the device has emptied most of what it was told of.
    pub(crate) fn wants_more(&self) -> bool {
        self.backlog && self.told < LISTED_FEW
    }

    /// The conversation, if it is remembered.
    pub(crate) fn address(&self, conversation: ConversationId) -> Option<&Address> {
        self.by_queue.get(&Queue::Conversation(conversation))?.address.as_ref()
    }

    /// The direct conversation with `peer`, if it is remembered.
    pub(crate) fn direct(&self, peer: &ClientId) -> Option<ConversationId> {
        self.directs.get(peer).copied()
    }

    /// Up to where the device was sent on this connection; `None` before [`Self::begin`].
    pub(crate) fn sent(&self, queue: Queue) -> Option<u64> {
        Some(self.by_queue.get(&queue)?.place.as_ref()?.sent)
    }

    /// The first look at a queue on this connection: the device has acknowledged up to `position`.
    pub(crate) fn begin(&mut self, queue: Queue, address: Option<&Address>, position: u64) {
        let line = self.put(queue, address);
        if line.place.is_none() {
            line.place =
                Some(Place { acknowledged: position, sent: position, pulled: false, keys: VecDeque::new() });
        }
    }

    /// The device has shown a key. The place to keep for it, if the key is one of this queue that has
    /// not acknowledged anything yet; any other key is as good as none.
    pub(crate) fn acknowledge(&mut self, queue: Queue, key: u64) -> Option<u64> {
        let place = self.place_mut(queue)?;
        let at = place.keys.iter().position(|(known, _)| *known == key)?;
        let (_, end) = place.keys[at];
        place.keys.drain(..=at);
        place.acknowledged = place.acknowledged.max(end);
        Some(place.acknowledged)
    }

    /// A batch up to `end` was sent, to be acknowledged with `key`.
    pub(crate) fn batch_sent(&mut self, queue: Queue, end: u64, key: u64) {
        if let Some(place) = self.place_mut(queue) {
            place.sent = place.sent.max(end);
            place.pulled = true;
            place.keys.push_back((key, place.sent));
            // What an old key would have acknowledged, a newer one does too.
            if place.keys.len() > KEYS_MAX {
                place.keys.pop_front();
            }
        }
        // It pulls until there is nothing left, so there is nothing to tell until then.
        self.tell(queue, 1);
    }

    /// Entries up to `end` are none of this device's business. The place to keep for it, unless
    /// something before them is still to be acknowledged: then its key covers these too.
    pub(crate) fn passed_over(&mut self, queue: Queue, end: u64) -> Option<u64> {
        let place = self.place_mut(queue)?;
        if end <= place.sent {
            return None;
        }
        place.sent = end;
        match place.keys.back_mut() {
            Some((_, covered)) => {
                *covered = end;
                None
            }
            None => {
                place.acknowledged = end;
                Some(end)
            }
        }
    }

    /// The device itself has said something at a place of the timeline, which it need not be sent. As
    /// [`Self::passed_over`], but only where nothing lies between.
    pub(crate) fn own(&mut self, queue: Queue, at: Seq) -> Option<u64> {
        let next = self.sent(queue)?.checked_add(1)?;
        if at.0 == next { self.passed_over(queue, next) } else { None }
    }

    /// The device has found the queue empty.
    pub(crate) fn emptied(&mut self, queue: Queue) {
        if let Some(place) = self.place_mut(queue) {
            place.pulled = true;
        }
        if let Some(line) = self.by_queue.get_mut(&queue)
            && line.told.take().is_some()
        {
            self.told -= 1;
        }
    }

    /// The queue could not be read now: it stays in the list, though nothing is told.
    pub(crate) fn is_still_told(&mut self, queue: Queue, address: Option<&Address>) {
        self.put(queue, address);
        self.tell(queue, 1);
    }

    /// The queue is none of this device's any more.
    pub(crate) fn forget(&mut self, queue: Queue) {
        self.emptied(queue);
        self.by_queue.remove(&queue);
        if let Queue::Conversation(gone) = queue {
            self.directs.retain(|_, conversation| *conversation != gone);
        }
    }

    fn place_mut(&mut self, queue: Queue) -> Option<&mut Place> {
        self.by_queue.get_mut(&queue)?.place.as_mut()
    }

    /// Remembers that the device knows of `entries` more. Whether it did not know of the queue before.
    fn tell(&mut self, queue: Queue, entries: u32) -> bool {
        let Some(line) = self.by_queue.get_mut(&queue) else { return false };
        if let Some(told) = &mut line.told {
            told.entries = told.entries.saturating_add(entries);
            return false;
        }
        self.tellings += 1;
        line.told = Some(Told { order: self.tellings, entries });
        self.told += 1;
        true
    }

    /// The line of a queue, under the name that the conversation has now.
    fn put(&mut self, queue: Queue, address: Option<&Address>) -> &mut Line {
        if !self.by_queue.contains_key(&queue) {
            self.make_room();
        }
        let line = self.by_queue.entry(queue).or_default();
        if line.address.as_ref() != address {
            // What the device knows by a name that nobody answers to any more, it has to be told of again.
            if line.address.is_some() && line.told.take().is_some() {
                self.told -= 1;
            }
            // A pair that became a group isn't found under the other one's name any more.
            if let Some(Address { id, peer: Some(peer), .. }) = line.address.take()
                && self.directs.get(&peer) == Some(&id)
            {
                self.directs.remove(&peer);
            }
            line.address = address.cloned();
            if let Some(Address { id, peer: Some(peer), .. }) = address {
                self.directs.insert(peer.clone(), *id);
            }
        }
        line
    }

    fn make_room(&mut self) {
        if self.by_queue.len() < LINES_MAX {
            return;
        }
        let is_open = |line: &Line| {
            line.told.is_some() || line.place.as_ref().is_some_and(|place| !place.keys.is_empty())
        };
        self.by_queue.retain(|queue, line| *queue == Queue::Inbox || is_open(line));
        if self.by_queue.len() >= LINES_MAX {
            // Nobody has that many open; the store tells of them again when others are empty.
            self.by_queue.retain(|queue, _| *queue == Queue::Inbox);
            self.backlog = true;
        }
        self.told = self.by_queue.values().filter(|line| line.told.is_some()).count();
        let known = &self.by_queue;
        self.directs.retain(|_, conversation| known.contains_key(&Queue::Conversation(*conversation)));
    }
}

/// What one pull is answered with, as it grows.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The encoded metas, in order.
    pub(crate) metas: Vec<Bytes>,
    /// The place of the last entry looked at.
    pub(crate) end: u64,
    /// Whether there is more behind it, though it may say nothing to this device.
    pub(crate) more: bool,
    bytes: usize,
}

impl Batch {
    /// A batch of what lies behind `after`.
    pub(crate) fn after(after: u64) -> Self {
        Self { end: after, ..Self::default() }
    }

    /// Takes in what an entry says to this device, which may be nothing. Whether there was room; the
    /// first always finds some.
    pub(crate) fn add(&mut self, at: u64, metas: Vec<Bytes>) -> bool {
        let bytes: usize = metas.iter().map(Bytes::len).sum();
        let fits =
            self.metas.len() + metas.len() <= BATCH_ENTRIES_MAX && self.bytes + bytes <= BATCH_BYTES_MAX;
        if !fits && !self.metas.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.end = self.end.max(at);
        self.metas.extend(metas);
        true
    }

    /// Everything up to `at` was looked at.
    pub(crate) fn look_to(&mut self, at: u64) {
        self.end = self.end.max(at);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::conversation::Kind;
    use posthouse_core::listing::Pending;

    use super::*;

    fn group(id: u64) -> Address {
        Address { id: ConversationId::from_u64(id).unwrap(), kind: Kind::Group, peer: None }
    }

    fn direct(id: u64, peer: &str) -> Address {
        let peer = Some(ClientId::parse(peer).unwrap());
        Address { kind: Kind::Direct, peer, ..group(id) }
    }

    fn queue(id: u64) -> Queue {
        Queue::Conversation(group(id).id)
    }

    /// Lines with one queue, whose device has acknowledged up to `position`.
    fn lines(position: u64) -> Lines {
        let mut lines = Lines::default();
        lines.begin(queue(1), Some(&group(1)), position);
        lines
    }

    fn pending(ids: impl Iterator<Item = u64>) -> Waiting {
        let conversations = ids.map(|id| Pending { address: group(id), entries: 2 }).collect();
        Waiting { conversations, notes: 0 }
    }

    #[test]
    fn a_pull_goes_on_behind_what_was_sent_and_the_next_connection_behind_what_was_acknowledged() {
        let mut lines = lines(10);
        lines.batch_sent(queue(1), 20, 700);
        // Without a key, with key 0 and with an unknown key.
        for key in [0, 999] {
            assert_eq!(lines.acknowledge(queue(1), key), None);
            assert_eq!(lines.sent(queue(1)), Some(20));
        }
        lines.batch_sent(queue(1), 30, 701);
        assert_eq!(lines.acknowledge(queue(1), 700), Some(20));
        // A new connection knows nothing but what the store was told: 20.
        let next = self::lines(20);
        assert_eq!(next.sent(queue(1)), Some(20));
    }

    #[test]
    fn a_key_works_once_for_its_own_queue_and_covers_those_before_it() {
        let mut lines = lines(0);
        lines.begin(queue(2), Some(&group(2)), 0);
        lines.batch_sent(queue(1), 5, 700);
        lines.batch_sent(queue(1), 9, 701);
        lines.batch_sent(queue(2), 4, 702);
        assert_eq!(lines.acknowledge(queue(1), 702), None);
        assert_eq!(lines.acknowledge(queue(1), 701), Some(9));
        assert_eq!(lines.acknowledge(queue(1), 700), None);
        assert_eq!(lines.acknowledge(queue(1), 701), None);
        assert_eq!(lines.acknowledge(queue(2), 702), Some(4));
        assert_eq!(lines.acknowledge(Queue::Inbox, 1), None);
    }

    #[test]
    fn keys_of_a_queue_are_bounded_and_the_newest_survive() {
        let mut lines = lines(0);
        for n in 1..=100 {
            lines.batch_sent(queue(1), n, 1_000 + n);
        }
        assert_eq!(lines.acknowledge(queue(1), 1_001), None);
        assert_eq!(lines.acknowledge(queue(1), 1_100), Some(100));
    }

    #[test]
    fn what_says_nothing_to_the_device_is_acknowledged_silently() {
        let mut lines = lines(3);
        assert_eq!(lines.passed_over(queue(1), 7), Some(7));
        assert_eq!(lines.passed_over(queue(1), 7), None);
        // Behind a batch it waits for the batch's key.
        lines.batch_sent(queue(1), 8, 700);
        assert_eq!(lines.passed_over(queue(1), 12), None);
        assert_eq!(lines.sent(queue(1)), Some(12));
        assert_eq!(lines.acknowledge(queue(1), 700), Some(12));
    }

    #[test]
    fn own_messages_move_the_place_where_nothing_lies_between() {
        let mut lines = lines(3);
        assert_eq!(lines.own(queue(1), Seq(4)), Some(4));
        assert_eq!(lines.own(queue(1), Seq(6)), None);
        assert_eq!(lines.sent(queue(1)), Some(4));
        assert_eq!(lines.own(queue(1), Seq(5)), Some(5));
        assert_eq!(lines.own(queue(2), Seq(1)), None);
    }

    #[test]
    fn many_news_are_one_notice_until_the_queue_is_empty() {
        let mut lines = Lines::default();
        assert!(lines.has_news(&group(1), Some(Seq(1))));
        assert!(!lines.has_news(&group(1), Some(Seq(2))));
        lines.begin(queue(1), Some(&group(1)), 0);
        lines.batch_sent(queue(1), 2, 700);
        assert!(!lines.has_news(&group(1), Some(Seq(3))));
        lines.passed_over(queue(1), 3);
        lines.emptied(queue(1));
        // Pushed late: it was sent already.
        assert!(!lines.has_news(&group(1), Some(Seq(3))));
        assert!(lines.has_news(&group(1), Some(Seq(4))));
        lines.emptied(queue(1));
        assert!(lines.has_news(&group(1), None));
        assert!(lines.inbox_has_news());
        assert!(!lines.inbox_has_news());
        lines.emptied(Queue::Inbox);
        assert!(lines.inbox_has_news());
    }

    #[test]
    fn the_list_is_what_was_told_and_not_emptied_in_order() {
        let mut lines = Lines::default();
        let waiting = Waiting { notes: 3, ..pending([7, 5, 6].into_iter()) };
        assert_eq!(lines.take_waiting(waiting).len(), 4);
        lines.has_news(&group(4), None);
        lines.has_news(&group(7), None);
        lines.emptied(queue(5));
        let ids = |lines: &Lines| -> Vec<Option<u64>> {
            lines.listed().into_iter().map(|l| l.address.map(|address| address.id.as_u64())).collect()
        };
        assert_eq!(ids(&lines), [None, Some(7), Some(6), Some(4)]);
        assert_eq!(lines.listed()[1].entries, 3);
        lines.forget(queue(7));
        assert_eq!(ids(&lines), [None, Some(6), Some(4)]);
    }

    #[test]
    fn what_waits_is_told_although_the_device_spoke_before_it_asked() {
        let mut lines = lines(3);
        assert_eq!(lines.own(queue(1), Seq(9)), None);
        assert_eq!(lines.take_waiting(pending(1..=1)).len(), 1);
        // What it has pulled, it knows.
        lines.batch_sent(queue(1), 9, 700);
        lines.emptied(queue(1));
        assert_eq!(lines.take_waiting(pending(1..=1)), []);
    }

    #[test]
    fn what_the_list_has_no_room_for_is_told_when_others_are_empty() {
        let mut lines = Lines::default();
        let first = lines.take_waiting(pending(1..=500));
        assert_eq!((first.len(), lines.listed().len(), lines.wants_more()), (500, 500, false));
        for id in 1..=300 {
            lines.begin(queue(id), Some(&group(id)), 0);
            lines.emptied(queue(id));
        }
        assert!(lines.wants_more());
        // Those that were sent but not acknowledged come again; only the others are news.
        let more = lines.take_waiting(pending(201..=700));
        assert_eq!(more.len(), 200);
        assert_eq!(more[0].address.as_ref().unwrap().id.as_u64(), 501);
        for id in 201..=700 {
            lines.begin(queue(id), Some(&group(id)), 0);
            lines.emptied(queue(id));
        }
        assert!(lines.wants_more());
        assert_eq!(lines.take_waiting(pending(201..=700)), []);
        assert!(!lines.wants_more());
    }

    #[test]
    fn a_pair_is_found_by_its_other_one_until_it_is_a_group() {
        let mut lines = Lines::default();
        lines.has_news(&direct(1, "bob"), None);
        let bob = ClientId::parse("bob").unwrap();
        assert_eq!(lines.direct(&bob), Some(group(1).id));
        lines.has_news(&group(1), None);
        assert_eq!((lines.direct(&bob), lines.address(group(1).id)), (None, Some(&group(1))));
        lines.has_news(&direct(2, "bob"), None);
        lines.forget(queue(2));
        assert_eq!(lines.direct(&bob), None);
    }

    /// A device that was told of a pair pulls under the other one's name, where nothing is any more.
    #[test]
    fn a_queue_that_gets_another_name_is_told_of_again() {
        let mut lines = Lines::default();
        assert!(lines.has_news(&direct(1, "bob"), None));
        assert!(!lines.has_news(&direct(1, "bob"), None));
        assert!(lines.has_news(&group(1), None));
        assert!(!lines.has_news(&group(1), None));
        assert_eq!((lines.told, lines.listed().len()), (1, 1));

        let mut lines = Lines::default();
        lines.has_news(&direct(1, "bob"), None);
        lines.begin(queue(1), Some(&direct(1, "bob")), 0);
        lines.batch_sent(queue(1), 3, 700);
        assert_eq!(lines.take_waiting(pending(1..=1)).len(), 1, "though it is pulling it under its old name");
        assert_eq!(lines.take_waiting(pending(1..=1)), []);
    }

    #[test]
    fn memory_is_bounded_and_what_is_open_stays() {
        let mut lines = Lines::default();
        lines.has_news(&group(1), None);
        lines.inbox_has_news();
        for id in 2..=60_000 {
            lines.begin(queue(id), Some(&direct(id, &format!("p{id}"))), 0);
            assert!(lines.by_queue.len() <= LINES_MAX && lines.directs.len() <= LINES_MAX);
        }
        assert!(!lines.has_news(&group(1), None));
        assert_eq!(lines.told, 2);
        for id in 1..=60_000 {
            lines.has_news(&group(id), None);
            assert!(lines.by_queue.len() <= LINES_MAX);
        }
        assert!(lines.backlog);
        let told = lines.by_queue.values().filter(|line| line.told.is_some()).count();
        assert_eq!(lines.told, told);
        assert!(!lines.inbox_has_news());
    }

    #[test]
    fn a_batch_is_bounded_but_never_too_small_for_one_entry() {
        let mut batch = Batch::after(3);
        assert!(batch.add(4, vec![Bytes::from(vec![0; BATCH_BYTES_MAX + 1])]));
        assert!(!batch.add(5, vec![Bytes::from_static(b"x")]));
        assert_eq!(batch.end, 4);
        let mut batch = Batch::after(0);
        let taken = (1..=300).take_while(|at| batch.add(*at, vec![Bytes::new()])).count();
        assert_eq!((taken, batch.end), (BATCH_ENTRIES_MAX, 200));
        let mut silent = Batch::after(0);
        assert!((1..=300).all(|at| silent.add(at, Vec::new())));
        silent.look_to(400);
        assert_eq!((silent.metas.len(), silent.end), (0, 400));
    }
}
