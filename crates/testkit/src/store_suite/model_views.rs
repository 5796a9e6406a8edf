//! A plain model of what each client sees: lists, histories, unread numbers, and what its devices get.
//!
//! Three friends have a pair each, notes to oneself, and two groups. Everything in the model is found by
//! scanning lists in memory.

use std::collections::BTreeSet;

use posthouse_core::listing::{ListPlace, Queue};
use posthouse_core::receipt::Acknowledge;

use super::*;

const NAMES: [&str; 3] = ["tom", "jerry", "spike"];
const DEVICES: [&str; 2] = ["phone", "tablet"];
const WINDOW_MS: i64 = 3_600_000;

/// A message of the model.
struct Said {
    message: Message,
    shown: bool,
    counted: bool,
    /// Whether it is deleted for everybody.
    gone: bool,
    /// For which of [`NAMES`] it is gone.
    removed: [bool; 3],
    /// For which of them a deletion of their line came after it.
    hidden: [bool; 3],
    /// Who has read it, or has no need to.
    settled: [bool; 3],
    /// Places of its edits and of its recall.
    patches: Vec<u64>,
}

impl Said {
    fn seen_by(&self, who: usize) -> bool {
        !self.gone && !self.removed[who]
    }

    fn in_history_of(&self, who: usize) -> bool {
        self.shown && self.seen_by(who)
    }

    fn unread_by(&self, who: usize) -> bool {
        self.counted
            && self.seen_by(who)
            && !self.settled[who]
            && !self.message.is_recalled()
            && self.message.sender.as_str() != NAMES[who]
    }
}

/// A member of a conversation of the model.
#[derive(Clone, Copy)]
struct Membership {
    /// The end of the timeline when it came.
    since: u64,
    /// Whether it has removed or deleted something for itself alone.
    touched: bool,
}

/// A conversation of the model.
struct Plain {
    id: ConversationId,
    group: bool,
    members: [Option<Membership>; 3],
    said: Vec<Said>,
    /// Places of comings and goings.
    changes: Vec<u64>,
    end: u64,
    /// What is imported from before these times, when the newest of what was deleted had been said, is gone
    /// at once: for everybody, and for each.
    cleared: Timestamp,
    cleared_for: [Timestamp; 3],
    /// And leaves the line where it is.
    hidden: [Timestamp; 3],
}

impl Plain {
    fn new(id: ConversationId, group: bool, members: [bool; 3]) -> Self {
        let never = Timestamp(i64::MIN);
        Self {
            id,
            group,
            members: members.map(|is| is.then_some(Membership { since: 0, touched: false })),
            said: Vec::new(),
            changes: Vec::new(),
            end: 0,
            cleared: never,
            cleared_for: [never; 3],
            hidden: [never; 3],
        }
    }

    fn note(&mut self, message: Message, shown: bool, counted: bool) {
        let imported = message.seq == Seq(0);
        let at = message.timestamp;
        self.end = self.end.max(message.seq.0);
        self.said.push(Said {
            shown,
            counted,
            gone: imported && at <= self.cleared,
            removed: self.cleared_for.map(|cleared| imported && at <= cleared),
            hidden: self.hidden.map(|hidden| imported && at <= hidden),
            settled: [false; 3],
            patches: Vec::new(),
            message,
        });
        self.said.sort_by_key(|said| said.message.position());
    }

    fn unread(&self, who: usize) -> impl Iterator<Item = &Said> {
        self.said.iter().filter(move |said| self.members[who].is_some() && said.unread_by(who))
    }

    /// Whether it was said after `who` came. Those who were there from the start have what was imported, too.
    fn since_coming(&self, who: usize, said: &Said) -> bool {
        let since = self.members[who].map_or(0, |member| member.since);
        since == 0 || said.message.seq.0 > since
    }

    /// The time of the newest message, whoever may see it.
    fn newest(&self) -> Timestamp {
        let times = self.said.iter().map(|said| said.message.timestamp);
        times.max().unwrap_or(Timestamp(i64::MIN))
    }

    /// Nothing is unread for `who`; without one, for anybody.
    fn settle(&mut self, who: Option<usize>) {
        for said in &mut self.said {
            match who {
                Some(who) => said.settled[who] = true,
                None => said.settled = [true; 3],
            }
        }
    }
}

/// One device: what it has got, and up to where it has said so.
#[derive(Default)]
struct Device {
    got: BTreeMap<ConversationId, BTreeMap<u64, EntryKind>>,
    said_so: BTreeMap<ConversationId, u64>,
    notes: BTreeMap<u64, NoteKind>,
}

struct World<E> {
    scene: Scene<E>,
    plains: Vec<Plain>,
    devices: [[Device; 2]; 3],
    start: Timestamp,
}

/// Does `operations` on the engine and on the model, and compares all that clients and devices see.
pub async fn agrees<E: Engine>(engine: E, operations: &[[u8; 4]]) {
    let scene = Scene::new(engine).await;
    let start = scene.now();
    let mut plains = Vec::new();
    for _ in 0..2 {
        plains.push(Plain::new(scene.group(&NAMES).await, true, [true; 3]));
    }
    for who in 0..3 {
        for other in who..3 {
            let said = scene.say_to(NAMES[who], NAMES[other], "first").await;
            let mut members = [false; 3];
            (members[who], members[other]) = (true, true);
            let mut pair = Plain::new(said.conversation, false, members);
            pair.note(said, true, true);
            plains.push(pair);
        }
    }
    let mut world = World { scene, plains, devices: Default::default(), start };
    for name in NAMES {
        for device in DEVICES {
            world.open(name, device).await;
        }
    }
    for (number, operation) in operations.iter().enumerate() {
        world.scene.clock.advance_ms(1);
        world.step(*operation).await;
        // An engine may put work off until it is asked.
        if operation[0] < 192 {
            continue;
        }
        for who in 0..3 {
            world.compare_list(who, *operation).await;
            world.compare_unread(who).await;
        }
        let plain = &world.plains[number % world.plains.len()];
        world.compare_history(plain, number).await;
    }
    for who in 0..3 {
        world.compare_list(who, [0; 4]).await;
        world.compare_unread(who).await;
    }
    for plain in &world.plains {
        world.compare_history(plain, 0).await;
    }
    world.compare_devices().await;
    world.scene.forget_all().await;
    for plain in &world.plains {
        world.compare_history(plain, 0).await;
    }
    for who in 0..3 {
        world.compare_list(who, [0; 4]).await;
        world.compare_unread(who).await;
    }
    world.compare_devices().await;
    world.scene.audit().await;
}

impl<E: Engine> World<E> {
    async fn open(&self, who: &str, id: &str) {
        self.scene.store().open_device(&self.scene.app, &client(who), &device(id), WINDOW_MS).await.unwrap();
    }

    async fn step(&mut self, [what, a, b, c]: [u8; 4]) {
        let (who, other) = (usize::from(a) % 3, usize::from(a / 3) % 3);
        let which = usize::from(b) % self.plains.len();
        let member = self.plains[which].members[who].is_some();
        match what % 32 {
            0..=5 => self.post(which, who, c, true).await,
            6 => self.post(which, who, c, false).await,
            7 => self.post_to(who, other).await,
            8 => self.serve(which, who, c % 2 == 0).await,
            9 | 10 => self.change(which, who, c, true).await,
            11 | 12 => self.change(which, who, c, false).await,
            13 | 14 if member => self.read(which, who, c).await,
            15 | 16 if member => self.remove(which, who, b, c).await,
            17 if member => self.remove_until(which, who, c).await,
            18 if member => self.delete(which, who, DeleteScope::Caller, c).await,
            19 if member => self.delete(which, who, DeleteScope::Everyone, c).await,
            20 | 21 if self.plains[which].group => self.come_or_go(which, who).await,
            22 => self.import(which, who, c).await,
            23 if c < 64 => self.remove_everything(who).await,
            24 if c < 32 => self.reopen().await,
            25 => {
                let forgotten = self.scene.store().forget_deleted().await.unwrap();
                assert!(forgotten < 5_000);
            }
            26 if member => self.acknowledge(which, who, c).await,
            27 => self.scene.clock.advance_ms(i64::from(c) - 60),
            _ => self.fetch(who, usize::from(b) % 2, c).await,
        }
    }

    async fn post(&mut self, which: usize, who: usize, c: u8, shown: bool) {
        let plain = &mut self.plains[which];
        let mentions = if c.is_multiple_of(4) { calls_all() } else { Mentions::default() };
        let new = NewMessage {
            mentions,
            receipt: c % 8 > 3,
            shown,
            counted: shown,
            ..message(plain.id, NAMES[who], "x")
        };
        let sent = self.scene.append(new).await;
        assert_eq!(sent.is_ok(), plain.members[who].is_some());
        if let Ok(sent) = sent {
            plain.note(sent.message, shown, shown);
        }
    }

    async fn post_to(&mut self, who: usize, other: usize) {
        let sent = self.scene.append(self.scene.to(NAMES[who], NAMES[other], "to you")).await.unwrap();
        assert_eq!(sent.created, None);
        let id = sent.message.conversation;
        let plain = self.plains.iter_mut().find(|plain| plain.id == id).unwrap();
        assert!(!plain.group && plain.members[who].is_some() && plain.members[other].is_some());
        plain.note(sent.message, true, true);
    }

    /// A server needs to be no member.
    async fn serve(&mut self, which: usize, who: usize, counted: bool) {
        let plain = &mut self.plains[which];
        let mentions = if which.is_multiple_of(2) { calls(&NAMES) } else { Mentions::default() };
        let new = NewMessage {
            mentions,
            origin: Origin::Server,
            counted,
            ..message(plain.id, NAMES[who], "served")
        };
        let sent = self.scene.append(new).await.unwrap();
        plain.note(sent.message, true, counted);
    }

    async fn change(&mut self, which: usize, who: usize, c: u8, recall: bool) {
        let plain = &mut self.plains[which];
        if plain.said.is_empty() {
            return;
        }
        let number = usize::from(c) % plain.said.len();
        let said = &mut plain.said[number];
        let may = plain.members[who].is_some()
            && said.message.sender.as_str() == NAMES[who]
            && said.shown
            && !said.gone
            && !said.message.is_recalled();
        let (body, mentions) =
            if recall { (recalled(), Mentions::default()) } else { (text("y"), calls_all()) };
        let patched = self.scene.patch(NAMES[who], &said.message, body, mentions).await;
        // Whether a sender may still change what it has removed for itself is left open.
        assert!(patched.is_ok() == may || may && said.removed[who], "{patched:?}");
        let Ok(Patched { patch, .. }) = patched else { return };
        assert_eq!(patch.seq.0, plain.end + 1);
        plain.end += 1;
        said.patches.push(plain.end);
        let message = &mut said.message;
        (message.edits, message.patched_by) = (patch.edits, Some(patch.by));
        (message.body, message.mentions, message.patched_at) = (patch.body, patch.mentions, Some(patch.at));
    }

    async fn read(&mut self, which: usize, who: usize, c: u8) {
        let plain = &mut self.plains[which];
        let until = plain.said.get(usize::from(c) % (plain.said.len() + 1)).map(|said| said.message.clone());
        for said in &mut plain.said {
            let covered = until.as_ref().is_none_or(|until| said.message.position() <= until.position());
            said.settled[who] |= covered;
        }
        let marked = self.scene.read(plain.id, NAMES[who], until.as_ref()).await;
        assert_eq!(marked.unread.count, plain.unread(who).count() as u64);
    }

    async fn remove(&mut self, which: usize, who: usize, b: u8, c: u8) {
        let plain = &mut self.plains[which];
        let many = usize::from(c) % 4;
        let mut ids = Vec::new();
        for step in 0..many {
            let count = plain.said.len();
            let Some(said) = plain.said.get_mut((usize::from(b) / 7 + step * 3) % count.max(1)) else {
                break;
            };
            // What only waits for devices is no message that a client could name.
            if said.shown {
                said.removed[who] = true;
                ids.push(said.message.id);
            }
        }
        plain.members[who].as_mut().unwrap().touched = true;
        self.scene.remove_messages(plain.id, NAMES[who], Removal::Messages(ids)).await.unwrap();
    }

    async fn remove_until(&mut self, which: usize, who: usize, c: u8) {
        let plain = &mut self.plains[which];
        let Some(until) = plain.said.get(usize::from(c) % plain.said.len().max(1)) else { return };
        let until = until.message.timestamp;
        for said in plain.said.iter_mut().filter(|said| said.message.timestamp <= until) {
            (said.removed[who], said.settled[who]) = (true, true);
        }
        plain.cleared_for[who] = plain.cleared_for[who].max(until);
        plain.members[who].as_mut().unwrap().touched = true;
        self.scene.remove_messages(plain.id, NAMES[who], Removal::Until(until)).await.unwrap();
    }

    async fn delete(&mut self, which: usize, who: usize, scope: DeleteScope, c: u8) {
        let plain = &mut self.plains[which];
        let newest = plain.newest();
        let with_messages = c.is_multiple_of(2);
        self.scene.delete(plain.id, NAMES[who], scope, with_messages).await.unwrap();
        let concerned: Vec<usize> = match scope {
            DeleteScope::Everyone => (0..3).filter(|who| plain.members[*who].is_some()).collect(),
            DeleteScope::Caller => vec![who],
        };
        for who in concerned {
            plain.settle(Some(who));
            plain.hidden[who] = newest;
            plain.said.iter_mut().for_each(|said| said.hidden[who] = true);
            plain.members[who].as_mut().unwrap().touched |= scope == DeleteScope::Caller;
            if with_messages && scope == DeleteScope::Caller {
                plain.cleared_for[who] = newest;
                plain.said.iter_mut().for_each(|said| said.removed[who] = true);
            }
        }
        if with_messages && scope == DeleteScope::Everyone {
            plain.cleared = newest;
            plain.said.iter_mut().for_each(|said| said.gone = true);
        }
        // Who left the line hidden and comes back is no concern of this model.
        for member in plain.members.iter_mut().flatten() {
            member.touched |= scope == DeleteScope::Everyone;
        }
    }

    async fn remove_everything(&mut self, who: usize) {
        let (scene, phone) = (&self.scene, device("phone"));
        scene
            .store()
            .remove_everything(&scene.app, &client(NAMES[who]), Some(&phone), nothing())
            .await
            .unwrap();
        for plain in &mut self.plains {
            let Some(member) = &mut plain.members[who] else { continue };
            member.touched = true;
            plain.settle(Some(who));
            (plain.hidden[who], plain.cleared_for[who]) = (plain.newest(), plain.newest());
            for said in &mut plain.said {
                (said.removed[who], said.hidden[who]) = (true, true);
            }
        }
    }

    async fn come_or_go(&mut self, which: usize, who: usize) {
        let plain = &mut self.plains[which];
        let name = NAMES[who];
        match plain.members[who] {
            Some(Membership { touched: true, .. }) => return,
            Some(_) => {
                self.scene.remove(plain.id, name, &[name]).await.unwrap();
                plain.members[who] = None;
            }
            None => {
                self.scene.add(plain.id, name, &[name]).await.unwrap();
                plain.members[who] = Some(Membership { since: plain.end + 1, touched: false });
                plain.settle(Some(who));
            }
        }
        plain.end += 1;
        plain.changes.push(plain.end);
    }

    async fn import(&mut self, which: usize, who: usize, c: u8) {
        let at = self.start.min(self.scene.now()).plus_ms(-i64::from(c));
        let plain = &mut self.plains[which];
        let message = self.scene.import(plain.id, NAMES[who], at).await;
        assert_eq!((message.timestamp, message.seq), (at, Seq(0)));
        plain.note(message, true, false);
    }

    async fn acknowledge(&mut self, which: usize, who: usize, c: u8) {
        let plain = &self.plains[which];
        let Some(said) = plain.said.get(usize::from(c) % plain.said.len().max(1)) else { return };
        let asked = Acknowledge {
            conversation: plain.id,
            message: said.message.id,
            read: c.is_multiple_of(2),
            note: None,
        };
        let done =
            self.scene.store().acknowledge(&self.scene.app, &client(NAMES[who]), asked, nothing()).await;
        if said.shown && !said.message.is_recalled() {
            let may = said.in_history_of(who) && plain.since_coming(who, said);
            assert_eq!(done.is_ok(), may, "{done:?}");
        }
    }

    async fn reopen(&mut self) {
        self.scene.reopen().await;
        for name in NAMES {
            for device in DEVICES {
                self.open(name, device).await;
            }
        }
    }

    /// A device asks what waits, reads a little or all of it, and says so or doesn't.
    async fn fetch(&mut self, who: usize, which: usize, c: u8) {
        let (scene, me, id) = (&self.scene, client(NAMES[who]), device(DEVICES[which]));
        let (store, app) = (scene.store(), &scene.app);
        let limit = 1 + usize::from(c) % 7;
        let acknowledges = c & 8 == 0;
        let waiting = store.waiting(app, &me, &id, 1_000).await.unwrap();
        let mine = &mut self.devices[who][which];
        for pending in waiting.conversations {
            let conversation = pending.address.id;
            let queue = Queue::Conversation(conversation);
            let mut after = store.position(app, &me, &id, queue).await.unwrap();
            loop {
                let stretch = store.read_timeline(app, &me, conversation, Seq(after), limit).await.unwrap();
                assert!(stretch.entries.iter().all(|entry| after < entry.seq.0 && entry.seq <= stretch.end));
                assert!(stretch.entries.is_sorted_by(|a, b| a.seq < b.seq));
                assert!(stretch.end.0 > after || !stretch.more);
                after = after.max(stretch.end.0);
                let said_so = mine.said_so.entry(conversation).or_default();
                assert!(stretch.entries.iter().all(|entry| entry.seq.0 > *said_so), "twice after {said_so}");
                let got = mine.got.entry(conversation).or_default();
                got.extend(stretch.entries.into_iter().map(|entry| (entry.seq.0, entry.what)));
                if acknowledges {
                    store.set_position(app, &me, &id, queue, after).await.unwrap();
                    *said_so = after;
                }
                if !stretch.more || c & 16 == 0 {
                    break;
                }
            }
        }
        let after = store.position(app, &me, &id, Queue::Inbox).await.unwrap();
        let notes = store.read_notes(app, &me, after, limit).await.unwrap();
        assert_eq!(notes.is_empty(), waiting.notes == 0);
        if let (true, Some(last)) = (acknowledges, notes.last()) {
            store.set_position(app, &me, &id, Queue::Inbox, last.number).await.unwrap();
        }
        mine.notes.extend(notes.into_iter().map(|note| (note.number, note.what)));
    }

    async fn compare_list(&self, who: usize, [a, b, c, d]: [u8; 4]) {
        let since_joined = d.is_multiple_of(2);
        let setting =
            [ServerMessages::Exclude, ServerMessages::Ignore, ServerMessages::Write][usize::from(a) % 3];
        let mut wanted = Vec::new();
        for plain in self.plains.iter().filter(|plain| plain.members[who].is_some()) {
            let mut seen = plain.said.iter().rev().filter(|said| {
                said.in_history_of(who)
                    && !said.hidden[who]
                    && !said.message.is_recalled()
                    && (!since_joined || plain.since_coming(who, said))
            });
            let newest = match setting {
                ServerMessages::Exclude => seen.next().filter(|said| said.message.origin != Origin::Server),
                ServerMessages::Ignore => seen.find(|said| said.message.origin != Origin::Server),
                ServerMessages::Write => seen.next(),
            };
            let Some(newest) = newest else { continue };
            let place = ListPlace { at: newest.message.timestamp, conversation: plain.id };
            wanted.push((
                place,
                newest.message.id,
                newest.message.body.clone(),
                plain.unread(who).count() as u64,
            ));
        }
        wanted.sort_by_key(|line| std::cmp::Reverse(line.0));
        let (size, number) = (1 + usize::from(b) % 5, usize::from(c) % 4);
        let page = match b % 3 {
            0 => list().page,
            1 => ListPage::Numbered { size, number },
            _ => {
                let cursor = wanted.get(number).map(|line| line.0);
                ListPage::After { cursor, limit: size }
            }
        };
        let wanted: Vec<_> = match page {
            ListPage::Newest { .. } => wanted,
            ListPage::Numbered { .. } => wanted.into_iter().skip(size * number).take(size).collect(),
            ListPage::After { cursor, .. } => wanted
                .into_iter()
                .filter(|line| cursor.is_none_or(|cursor| line.0 < cursor))
                .take(size)
                .collect(),
        };
        let query = ListQuery { page, server_messages: setting, since_joined, ..list() };
        let listed = self.scene.list(NAMES[who], query.clone()).await;
        let listed: Vec<_> = listed
            .into_iter()
            .map(|line| {
                let newest = line.last_message.unwrap();
                (line.place, newest.id, newest.body, line.unread)
            })
            .collect();
        assert_eq!(listed, wanted, "the list of {}, {query:?}", NAMES[who]);
    }

    async fn compare_unread(&self, who: usize) {
        let mut wanted = BTreeMap::new();
        for plain in &self.plains {
            let count = plain.unread(who).count() as u64;
            let mentioned = plain.unread(who).any(|said| said.message.mentions.call(&client(NAMES[who])));
            if count > 0 {
                let newest = plain.unread(who).last().map(|said| said.message.id);
                wanted.insert(plain.id, (count, mentioned, newest));
            }
        }
        let listed = self.scene.unread(NAMES[who]).await.into_iter().map(|unread| {
            let newest = unread.last_message.map(|message| message.id);
            (unread.conversation, (unread.count, unread.mentioned, newest))
        });
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), wanted, "unread of {}", NAMES[who]);
    }

    async fn compare_history(&self, plain: &Plain, number: usize) {
        for who in (0..3).filter(|who| plain.members[*who].is_some()) {
            let without_recalled = number % 2 == 1;
            let direction = if number.is_multiple_of(3) { Direction::Backward } else { Direction::Forward };
            let limit = if number == 0 { 10_000 } else { 1 + number % 11 };
            let since_joined = number % 5 == 1;
            let query = HistoryQuery {
                without_recalled,
                direction,
                since_joined,
                ..HistoryQuery::newest(plain.id, limit)
            };
            let seen = plain
                .said
                .iter()
                .filter(|said| said.in_history_of(who) && !(without_recalled && said.message.is_recalled()))
                .filter(|said| !since_joined || plain.since_coming(who, said));
            let mut wanted: Vec<_> = seen.map(|said| short(&said.message)).collect();
            let more = wanted.len() > limit;
            match direction {
                Direction::Forward => wanted.truncate(limit),
                Direction::Backward => drop(wanted.drain(..wanted.len().saturating_sub(limit))),
            }
            let read =
                self.scene.store().read_history(&self.scene.app, &client(NAMES[who]), query).await.unwrap();
            let found: Vec<_> = read.messages.iter().map(short).collect();
            assert_eq!((found, read.more), (wanted, more), "history of {}", NAMES[who]);
        }
    }

    /// Every device reads to the end; then it has got everything that its client may see, and reading anew
    /// shows nothing else.
    async fn compare_devices(&mut self) {
        for (who, name) in NAMES.into_iter().enumerate() {
            for (which, id) in DEVICES.into_iter().enumerate() {
                let (me, id) = (client(name), device(id));
                let mut rounds = 0;
                loop {
                    self.fetch(who, which, 16 + 6).await;
                    let waiting = self.scene.store().waiting(&self.scene.app, &me, &id, 1_000).await.unwrap();
                    if waiting.conversations.is_empty() && waiting.notes == 0 {
                        break;
                    }
                    rounds += 1;
                    assert!(rounds < 1_000, "{waiting:?} does not end");
                }
                let device = &self.devices[who][which];
                let wanted: Vec<_> =
                    self.scene.notes(name).await.into_iter().map(|note| (note.number, note.what)).collect();
                let got: Vec<_> = device.notes.clone().into_iter().collect();
                assert_eq!(got, wanted, "notes of {name}");
                for plain in &self.plains {
                    self.compare_timeline(plain, who, device).await;
                }
            }
        }
    }

    async fn compare_timeline(&self, plain: &Plain, who: usize, device: &Device) {
        let Some(Membership { since, .. }) = plain.members[who] else { return };
        let nothing_got = BTreeMap::new();
        let got = device.got.get(&plain.id).unwrap_or(&nothing_got);
        let read = self.scene.timeline(plain.id, NAMES[who]).await;
        let mut wanted = BTreeSet::new();
        let mut allowed = BTreeSet::new();
        for said in plain.said.iter().filter(|said| said.seen_by(who) && said.message.seq.0 > since) {
            if said.message.is_recalled() {
                continue;
            }
            assert!(wanted.insert(said.message.seq.0));
            if let Some(EntryKind::Message(message)) = got.get(&said.message.seq.0) {
                assert_eq!(message.id, said.message.id);
            } else {
                panic!("{} misses {:?} in {:?}", NAMES[who], said.message.seq, plain.id);
            }
        }
        for said in plain.said.iter().filter(|said| said.seen_by(who)) {
            if said.message.seq.0 <= since {
                // What was said before this member came, or imported, is no concern of its devices, whatever
                // becomes of it.
                allowed.extend(said.patches.iter().copied());
                continue;
            }
            let recall = said.message.is_recalled();
            let (last, earlier) = match said.patches.split_last() {
                Some((last, earlier)) => (*last, earlier),
                None => continue,
            };
            // Of several edits the last one is enough; of a recalled message only the recall may be there.
            if last > since {
                wanted.insert(last);
                let Some(EntryKind::Patched(patch)) = got.get(&last) else {
                    panic!("{} misses the change at {last} in {:?}", NAMES[who], plain.id)
                };
                assert_eq!((patch.message, &patch.body), (said.message.id, &said.message.body));
            }
            if !recall {
                allowed.extend(earlier.iter().copied().filter(|seq| *seq > since));
            }
        }
        wanted.extend(plain.changes.iter().copied().filter(|seq| *seq > since));
        // One's own coming may be the first entry, or the place before it.
        allowed.insert(since);
        let read: BTreeSet<u64> = read.into_iter().map(|(seq, _)| seq).collect();
        let missing: Vec<_> = wanted.difference(&read).collect();
        let extra: Vec<_> = read.difference(&wanted).filter(|seq| !allowed.contains(seq)).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{} misses {missing:?}, sees {extra:?}", NAMES[who]);
        let missing: Vec<_> = wanted.iter().filter(|seq| !got.contains_key(seq)).collect();
        assert!(missing.is_empty(), "a device of {} never got {missing:?}", NAMES[who]);
    }
}

fn short(message: &Message) -> (Timestamp, String, Body, Option<Timestamp>, u32, Option<ClientId>) {
    let id = format!("{} {}", message.id.as_u64(), message.seq.0);
    let (edits, by) = (message.edits, message.patched_by.clone());
    (message.timestamp, id, message.body.clone(), message.patched_at, edits, by)
}

pub async fn random_views_agree_with_a_plain_model<E: Engine>(engine: E) {
    let chance = SeededChance::new(47_111);
    let operations: Vec<[u8; 4]> = (0..800)
        .map(|_| {
            let bits = chance.bits().to_le_bytes();
            [bits[0], bits[1], bits[2], bits[3]]
        })
        .collect();
    agrees(engine, &operations).await;
}
