//! How far devices have got in their queues, and what waits for them.
//!
//! Devices acknowledge often and lose little when that is forgotten, so places are kept in memory first
//! and written a batch at a time. Who reads looks into memory before it looks into the file: what is
//! written meanwhile is then in one of both.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use posthouse_core::id::{ClientId, ConversationId, DeviceId};
use posthouse_core::listing::{Pending, Queue, Waiting};
use posthouse_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};

use super::listing::address;
use super::rows::{Work, conversation_key, conversation_of, count, int, time_of, uint, unreadable};
use super::writer::{Outcome, Tx};

/// The most places that are not written yet; what comes beyond them is written at once.
const UNWRITTEN_MAX: usize = 100_000;

/// The most devices of one client. Some SDKs take a new name each time they connect.
const DEVICES_MAX: usize = 100;

/// The most devices forgotten for one that comes: more than come, so that too many become fewer.
const SURPLUS_AT_ONCE: usize = 2;

/// The inbox as a queue; conversations are never 0.
const INBOX: i64 = 0;

/// One device of one client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Device {
    pub(super) app: i64,
    pub(super) client: ClientId,
    pub(super) device: DeviceId,
}

/// A device's place in a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reached {
    pub(super) device: Device,
    pub(super) queue: i64,
    pub(super) place: u64,
}

/// Places that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Positions {
    unwritten: Mutex<Unwritten>,
}

#[derive(Debug, Default)]
struct Unwritten {
    devices: HashMap<Device, HashMap<i64, u64>>,
    /// Places of all devices together.
    len: usize,
    closed: bool,
}

/// What became of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// It waits to be written.
    InMemory,
    /// Too many wait: it must be written now.
    No,
    /// The store is closing and takes no more.
    Closed,
}

impl Positions {
    /// Moves a place forward.
    pub(super) fn advance(&self, reached: &Reached) -> Kept {
        let mut unwritten = self.lock();
        if unwritten.closed {
            return Kept::Closed;
        }
        let Unwritten { devices, len, .. } = &mut *unwritten;
        if let Some(place) =
            devices.get_mut(&reached.device).and_then(|queues| queues.get_mut(&reached.queue))
        {
            *place = reached.place.max(*place);
            return Kept::InMemory;
        }
        if *len >= UNWRITTEN_MAX {
            return Kept::No;
        }
        devices.entry(reached.device.clone()).or_default().insert(reached.queue, reached.place);
        *len += 1;
        Kept::InMemory
    }

    /// The unwritten places of one device, by queue.
    pub(super) fn of(&self, device: &Device) -> HashMap<i64, u64> {
        self.lock().devices.get(device).cloned().unwrap_or_default()
    }

    /// The unwritten place of one device in one queue.
    pub(super) fn at(&self, device: &Device, queue: i64) -> Option<u64> {
        self.lock().devices.get(device)?.get(&queue).copied()
    }

    /// How many places wait.
    pub(super) fn len(&self) -> usize {
        self.lock().len
    }

    /// Some of what waits. It goes on waiting until [`Self::written`].
    pub(super) fn batch(&self, max: usize) -> Vec<Reached> {
        let unwritten = self.lock();
        let all = unwritten.devices.iter().flat_map(|(device, queues)| {
            queues.iter().map(|(queue, place)| Reached {
                device: device.clone(),
                queue: *queue,
                place: *place,
            })
        });
        all.take(max).collect()
    }

    /// Lets go of what is on disk now, unless it has moved on meanwhile.
    pub(super) fn written(&self, batch: &[Reached]) {
        let mut unwritten = self.lock();
        let Unwritten { devices, len, .. } = &mut *unwritten;
        for reached in batch {
            let Some(queues) = devices.get_mut(&reached.device) else { continue };
            if queues.get(&reached.queue) == Some(&reached.place) {
                queues.remove(&reached.queue);
                *len -= 1;
            }
            if queues.is_empty() {
                devices.remove(&reached.device);
            }
        }
    }

    /// Forgets the devices of a client.
    pub(super) fn forget(&self, app: i64, client: &ClientId) {
        let mut unwritten = self.lock();
        let Unwritten { devices, len, .. } = &mut *unwritten;
        devices.retain(|device, queues| {
            let stays = device.app != app || device.client != *client;
            *len -= if stays { 0 } else { queues.len() };
            stays
        });
    }

    /// Forgets some devices.
    pub(super) fn forget_each(&self, gone: &[Device]) {
        let mut unwritten = self.lock();
        let Unwritten { devices, len, .. } = &mut *unwritten;
        for device in gone {
            *len -= devices.remove(device).map_or(0, |queues| queues.len());
        }
    }

    /// Takes nothing more; what waits is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Unwritten> {
        // A panic can't leave it half-changed: nothing in here calls foreign code.
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue as `position` rows name it.
pub(super) fn queue_key(queue: Queue) -> i64 {
    match queue {
        Queue::Conversation(id) => conversation_key(id),
        Queue::Inbox => INBOX,
    }
}

/// Gets ready for a device; only the first time says how old what it gets may be. Returns the devices that
/// are forgotten for it.
pub(super) fn open(tx: &Tx<'_>, device: &Device, window_ms: i64) -> Work<Outcome<Vec<Device>>> {
    let key = (device.app, device.client.as_str(), device.device.as_str());
    let known = tx
        .db
        .prepare_cached(
            "UPDATE device SET seen_at = max(seen_at, ?4) WHERE app = ?1 AND client = ?2 AND device = ?3",
        )?
        .execute((key.0, key.1, key.2, tx.now.0))?;
    if known > 0 {
        return Ok(Outcome::Written(Vec::new()));
    }
    let since = tx.now.plus_ms(window_ms.saturating_neg());
    tx.db
        .prepare_cached(
            "INSERT INTO device (app, client, device, since, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((key.0, key.1, key.2, since.0, tx.now.0))?;
    Ok(Outcome::Written(forget_surplus(tx.db, device)?))
}

/// Forgets devices of the client beyond the most that it may have, those seen longest ago, but never the
/// one that comes now.
fn forget_surplus(db: &Connection, coming: &Device) -> Work<Vec<Device>> {
    let (app, client) = (coming.app, coming.client.as_str());
    let surplus = db
        .prepare_cached(
            "SELECT device FROM device WHERE app = ?1 AND client = ?2 AND device <> ?3 \
             ORDER BY seen_at DESC, device LIMIT ?4 OFFSET ?5",
        )?
        .query_map(
            (app, client, coming.device.as_str(), count(SURPLUS_AT_ONCE), count(DEVICES_MAX - 1)),
            |row| {
                let name = row.get_ref(0)?.as_str()?;
                let device = DeviceId::parse(name).map_err(|error| unreadable(0, error.to_string()))?;
                Ok(Device { device, ..coming.clone() })
            },
        )?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for gone in &surplus {
        for forget in [
            "DELETE FROM device WHERE app = ?1 AND client = ?2 AND device = ?3",
            "DELETE FROM position WHERE app = ?1 AND client = ?2 AND device = ?3",
        ] {
            db.prepare_cached(forget)?.execute((app, client, gone.device.as_str()))?;
        }
    }
    Ok(surplus)
}

/// Writes places. Those of devices that are forgotten, or in conversations that the client is not in, are
/// of no use to anybody.
pub(super) fn write(db: &Connection, batch: &[Reached]) -> Work<()> {
    let mut move_on = db.prepare_cached(
        "INSERT INTO position (app, client, device, queue, place) SELECT ?1, ?2, ?3, ?4, ?5 \
         WHERE (?4 = 0 OR EXISTS (SELECT 1 FROM member WHERE conversation = ?4 AND client = ?2 AND app = ?1)) \
         AND EXISTS (SELECT 1 FROM device WHERE app = ?1 AND client = ?2 AND device = ?3) \
         ON CONFLICT (app, client, device, queue) DO UPDATE SET place = max(place, excluded.place)",
    )?;
    for Reached { device, queue, place } in batch {
        move_on.execute((device.app, device.client.as_str(), device.device.as_str(), queue, int(*place)))?;
    }
    Ok(())
}

/// Forgets the written places of a client in a conversation that it is no longer in.
pub(super) fn forget_queue(
    db: &Connection,
    app: i64,
    client: &ClientId,
    conversation: ConversationId,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM position WHERE app = ?1 AND client = ?2 AND queue = ?3 \
         AND device IN (SELECT device FROM device WHERE app = ?1 AND client = ?2)",
    )?
    .execute((app, client.as_str(), conversation_key(conversation)))?;
    Ok(())
}

/// The place of a device in a queue, `unwritten` being what memory knows of it.
pub(super) fn position(db: &Connection, device: &Device, queue: Queue, unwritten: Option<u64>) -> Work<u64> {
    let key = queue_key(queue);
    let written: Option<i64> = db
        .prepare_cached(
            "SELECT place FROM position WHERE app = ?1 AND client = ?2 AND device = ?3 AND queue = ?4",
        )?
        .query_row((device.app, device.client.as_str(), device.device.as_str(), key), |row| row.get(0))
        .optional()?;
    let known = written.map(uint).max(unwritten);
    match queue {
        Queue::Inbox => known.map_or_else(|| inbox_beginning(db, device, since(db, device)?), Ok),
        Queue::Conversation(id) => {
            let membership = db
                .prepare_cached(
                    "SELECT x.joined_seq, h.last_seq FROM member x JOIN head h ON h.conversation = x.conversation \
                     WHERE x.conversation = ?1 AND x.client = ?2 AND x.app = ?3",
                )?
                .query_row((key, device.client.as_str(), device.app), |row| {
                    Ok((uint(row.get(0)?), uint(row.get(1)?)))
                })
                .optional()?;
            // Who is not in it has nothing to read there.
            let Some((joined, last)) = membership else { return Ok(known.unwrap_or(0)) };
            let place = match known {
                Some(known) => known,
                None => timeline_beginning(db, id, last, since(db, device)?)?,
            };
            Ok(place.max(joined))
        }
    }
}

/// What the device has not acknowledged. `unwritten` was read before the snapshot of `db` was taken.
/// Conversations of the main file only: those have places that last.
pub(super) fn waiting(
    db: &Connection,
    device: &Device,
    unwritten: &HashMap<i64, u64>,
    limit: usize,
) -> Work<Waiting> {
    let since = since(db, device)?;
    let places = places(db, device, unwritten)?;
    let mut candidates = candidates(db, device, &places, since)?;
    candidates.sort_unstable_by_key(|line| Reverse((line.touched_at, line.conversation)));
    let mut conversations = Vec::new();
    for line in candidates {
        if conversations.len() >= limit {
            break;
        }
        let place = match line.place {
            Some(place) => place,
            None => timeline_beginning(db, line.conversation, line.last, since)?.max(line.joined),
        };
        if place < line.last
            && let Some(address) = address(db, device.app, &device.client, line.conversation)?
        {
            conversations.push(Pending { address, entries: line.last - place });
        }
    }
    let read = match places.get(&INBOX) {
        Some(place) => *place,
        None => inbox_beginning(db, device, since)?,
    };
    let notes: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM inbox INDEXED BY inbox_notes WHERE app = ?1 AND client = ?2 AND id > ?3",
        )?
        .query_row((device.app, device.client.as_str(), int(read)), |row| row.get(0))?;
    Ok(Waiting { conversations, notes: uint(notes) })
}

/// A conversation in which something may wait.
struct Line {
    conversation: ConversationId,
    touched_at: Timestamp,
    last: u64,
    joined: u64,
    /// The device's place, if it has one.
    place: Option<u64>,
}

fn candidates(
    db: &Connection,
    device: &Device,
    places: &HashMap<i64, u64>,
    since: Timestamp,
) -> Work<Vec<Line>> {
    let mut statement = db.prepare_cached(
        "SELECT x.conversation, h.touched_at, h.last_seq, x.joined_seq FROM member x \
         CROSS JOIN head h ON h.conversation = x.conversation WHERE x.app = ?1 AND x.client = ?2",
    )?;
    let mut rows = statement.query((device.app, device.client.as_str()))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (touched_at, last, joined) = (time_of(row, 1)?, uint(row.get(2)?), uint(row.get(3)?));
        let place = places.get(&row.get(0)?).map(|place| joined.max(*place));
        if last > place.unwrap_or(joined) && (place.is_some() || touched_at >= since) {
            found.push(Line { conversation: conversation_of(row, 0)?, touched_at, last, joined, place });
        }
    }
    Ok(found)
}

/// All places of a device, by queue.
fn places(db: &Connection, device: &Device, unwritten: &HashMap<i64, u64>) -> Work<HashMap<i64, u64>> {
    let mut places: HashMap<i64, u64> = db
        .prepare_cached("SELECT queue, place FROM position WHERE app = ?1 AND client = ?2 AND device = ?3")?
        .query_map((device.app, device.client.as_str(), device.device.as_str()), |row| {
            Ok((row.get(0)?, uint(row.get(1)?)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (queue, place) in unwritten {
        let known = places.entry(*queue).or_default();
        *known = (*known).max(*place);
    }
    Ok(places)
}

/// From when on the device gets what it has no place for. One that never said it is there gets all.
fn since(db: &Connection, device: &Device) -> Work<Timestamp> {
    let since = db
        .prepare_cached("SELECT since FROM device WHERE app = ?1 AND client = ?2 AND device = ?3")?
        .query_row((device.app, device.client.as_str(), device.device.as_str()), |row| time_of(row, 0))
        .optional()?;
    Ok(since.unwrap_or(Timestamp(i64::MIN)))
}

/// The number before the client's first note from `since` on.
fn inbox_beginning(db: &Connection, device: &Device, since: Timestamp) -> Work<u64> {
    let key = (device.app, device.client.as_str());
    let first: Option<i64> = db
        .prepare_cached(
            "SELECT id FROM inbox INDEXED BY inbox_notes WHERE app = ?1 AND client = ?2 AND at >= ?3 \
             ORDER BY id LIMIT 1",
        )?
        .query_row((key.0, key.1, since.0), |row| row.get(0))
        .optional()?;
    if let Some(first) = first {
        return Ok(uint(first - 1));
    }
    let last: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM inbox INDEXED BY inbox_notes WHERE app = ?1 AND client = ?2")?
        .query_row(key, |row| row.get(0))?;
    Ok(last.map_or(0, uint))
}

/// The place before the timeline's first entry from `since` on.
fn timeline_beginning(db: &Connection, id: ConversationId, last: u64, since: Timestamp) -> Work<u64> {
    let mut message = db.prepare_cached(
        "SELECT t.seq, m.timestamp FROM timeline t CROSS JOIN message m ON m.id = t.id \
         WHERE t.conversation = ?1 AND t.seq > ?2 ORDER BY t.seq LIMIT 1",
    )?;
    let mut change = db.prepare_cached(
        "SELECT seq, at FROM change INDEXED BY change_seq \
         WHERE conversation = ?1 AND seq > ?2 ORDER BY seq LIMIT 1",
    )?;
    let first = |after: &mut rusqlite::CachedStatement<'_>| -> Work<u64> {
        boundary(last, |place| {
            let next = after
                .query_row((conversation_key(id), int(place)), |row| {
                    Ok((uint(row.get(0)?), time_of(row, 1)?))
                })
                .optional()?;
            Ok(next.map(|(seq, at)| (seq, at >= since)))
        })
    };
    Ok(first(&mut message)?.min(first(&mut change)?))
}

/// The place before the first entry that is young enough, or `last` without one, by halving: the times
/// of entries of one sort grow with their places. `next` is the first entry after a place, and whether it
/// is young enough.
fn boundary(last: u64, mut next: impl FnMut(u64) -> Work<Option<(u64, bool)>>) -> Work<u64> {
    let (mut old, mut young) = (0, last);
    // Nothing up to `old` is young enough; nothing between `young` and the first young one is there.
    while old < young {
        let middle = old + (young - old) / 2;
        match next(middle)? {
            Some((seq, false)) => old = seq.min(last),
            Some((_, true)) | None => young = middle,
        }
    }
    Ok(match next(old)? {
        Some((seq, true)) => seq - 1,
        Some((_, false)) | None => last,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn device(name: &str) -> Device {
        let (client, device) = (ClientId::parse("tom").unwrap(), DeviceId::parse(name).unwrap());
        Device { app: 1, client, device }
    }

    fn reached(name: &str, queue: i64, place: u64) -> Reached {
        Reached { device: device(name), queue, place }
    }

    #[test]
    fn places_only_move_forward() {
        let positions = Positions::default();
        for place in [3, 7, 5] {
            assert_eq!(positions.advance(&reached("phone", 9, place)), Kept::InMemory);
        }
        assert_eq!(positions.at(&device("phone"), 9), Some(7));
        assert_eq!((positions.at(&device("phone"), 8), positions.at(&device("web"), 9)), (None, None));
        assert_eq!(positions.len(), 1);
    }

    #[test]
    fn what_moves_on_while_it_is_written_waits_again() {
        let positions = Positions::default();
        positions.advance(&reached("phone", 1, 5));
        positions.advance(&reached("phone", 2, 5));
        let batch = positions.batch(10);
        positions.advance(&reached("phone", 2, 6));
        positions.written(&batch);
        assert_eq!(positions.of(&device("phone")), HashMap::from([(2, 6)]));
        positions.written(&positions.batch(10));
        assert_eq!((positions.len(), positions.batch(10)), (0, Vec::new()));
    }

    #[test]
    fn devices_are_forgotten_with_all_their_places() {
        let positions = Positions::default();
        for (name, queue) in [("phone", 1), ("phone", 2), ("web", 1)] {
            positions.advance(&reached(name, queue, 5));
        }
        positions.forget_each(&[device("phone"), device("tablet")]);
        assert_eq!((positions.len(), positions.batch(10)), (1, vec![reached("web", 1, 5)]));
    }

    #[test]
    fn a_full_memory_takes_only_what_it_has() {
        let positions = Positions::default();
        for queue in (0..).take(UNWRITTEN_MAX) {
            assert_eq!(positions.advance(&reached("phone", queue, 1)), Kept::InMemory);
        }
        assert_eq!(positions.advance(&reached("web", 1, 1)), Kept::No);
        assert_eq!(positions.advance(&reached("phone", 1, 2)), Kept::InMemory);
        positions.forget(1, &ClientId::parse("tom").unwrap());
        assert_eq!(positions.len(), 0);
        positions.close();
        assert_eq!(positions.advance(&reached("web", 1, 1)), Kept::Closed);
    }

    #[test]
    fn a_new_device_begins_before_the_first_young_entry() {
        // Entries have gaps: those of the other sort lie between them.
        let entries = [(2, 10), (3, 20), (7, 30), (8, 30), (12, 40)];
        let begins = |since: i64, last: u64| {
            boundary(last, |place| {
                Ok(entries.iter().find(|(seq, _)| *seq > place).map(|(seq, at)| (*seq, *at >= since)))
            })
            .unwrap()
        };
        for (since, place) in [(5, 1), (10, 1), (11, 2), (25, 6), (30, 6), (31, 11), (40, 11), (41, 15)] {
            assert_eq!(begins(since, 15), place, "since {since}");
        }
        assert_eq!(boundary(0, |_| Ok(None)).unwrap(), 0);
        assert_eq!(boundary(9, |_| Ok(None)).unwrap(), 9);
    }
}
