//! What waits for devices: timelines, notes, and how far each device has got.

use posthouse_core::attribute::{AttributeChange, Operation};
use posthouse_core::error::Error;
use posthouse_core::listing::{Queue, Waiting};
use posthouse_core::port::store::{AttributesChange, PAGE_BYTES_MAX};
use serde_json::json;

use super::*;

const WINDOW_MS: i64 = 60_000;

impl<E: Engine> Scene<E> {
    pub async fn open_device(&self, who: &str, id: &str) {
        self.store().open_device(&self.app, &client(who), &device(id), WINDOW_MS).await.unwrap();
    }

    pub async fn waiting(&self, who: &str, id: &str) -> Waiting {
        self.store().waiting(&self.app, &client(who), &device(id), 1_000).await.unwrap()
    }

    pub async fn position(&self, who: &str, id: &str, queue: Queue) -> u64 {
        self.store().position(&self.app, &client(who), &device(id), queue).await.unwrap()
    }

    pub async fn set_position(&self, who: &str, id: &str, queue: Queue, place: u64) {
        self.store().set_position(&self.app, &client(who), &device(id), queue, place).await.unwrap();
    }

    /// Conversations and how much waits in each.
    async fn pending(&self, who: &str, id: &str) -> Vec<(ConversationId, u64)> {
        let waiting = self.waiting(who, id).await;
        waiting.conversations.iter().map(|pending| (pending.address.id, pending.entries)).collect()
    }

    /// The places after where the device is.
    async fn places(&self, who: &str, id: &str, conversation: ConversationId) -> Vec<u64> {
        let after = self.position(who, id, Queue::Conversation(conversation)).await;
        let seen = self.timeline(conversation, who).await;
        seen.into_iter().map(|(seq, _)| seq).filter(|seq| *seq > after).collect()
    }
}

pub async fn a_timeline_is_read_in_stretches<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let (store, tom) = (scene.store(), client("tom"));
    let read =
        async |after, limit| store.read_timeline(&scene.app, &tom, id, Seq(after), limit).await.unwrap();
    let mut seen = Vec::new();
    let mut after = 0;
    for (many, more) in [(2, true), (2, true), (1, false)] {
        let stretch = read(after, 2).await;
        assert_eq!((stretch.entries.len(), stretch.more), (many, more));
        assert_eq!(stretch.entries.last().unwrap().seq, stretch.end);
        after = stretch.end.0;
        seen.extend(stretch.entries);
    }
    let messages: Vec<Message> = seen
        .into_iter()
        .map(|entry| match entry.what {
            EntryKind::Message(message) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(messages, said);
    let rest = read(5, 2).await;
    assert_eq!((rest.entries.len(), rest.more), (0, false));
    let beyond = read(u64::MAX >> 1, 2).await;
    assert_eq!((beyond.entries.len(), beyond.more), (0, false));
}

pub async fn a_stretch_of_large_messages_is_shorter<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    for _ in 0..4 {
        scene.say(id, "jerry", &"x".repeat(PAGE_BYTES_MAX / 2 - 1_000)).await;
    }
    scene.say(id, "jerry", &"x".repeat(PAGE_BYTES_MAX + 1)).await;
    let (mut seen, mut after, mut sizes) = (Vec::new(), Seq(0), Vec::new());
    loop {
        let stretch = scene.store().read_timeline(&scene.app, &client("tom"), id, after, 100).await.unwrap();
        sizes.push(stretch.entries.len());
        seen.extend(stretch.entries.iter().map(|entry| entry.seq.0));
        after = stretch.end;
        if !stretch.more {
            break;
        }
    }
    assert_eq!((seen, sizes), (vec![1, 2, 3, 4, 5], vec![2, 2, 1]));
}

pub async fn everything_that_happens_is_in_the_timeline<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let first = scene.say(id, "jerry", "first").await;
    let second = scene.say(id, "jerry", "second").await;
    scene.command(id, "jerry", "command").await;
    scene.add(id, "tom", &["spike"]).await.unwrap();
    scene.patch("jerry", &first, text("better"), Mentions::default()).await.unwrap();
    scene.recall(&second).await;
    let change = AttributesChange {
        conversation: id,
        by: client("tom"),
        changes: vec![AttributeChange { path: vec!["name".into()], operation: Operation::Set(json!("n")) }],
        authority: Authority::Member,
    };
    scene.store().update_attributes(&scene.app, change, &scene.settings, nothing()).await.unwrap();
    scene.remove(id, "tom", &["spike"]).await.unwrap();
    let wanted = [
        (1, "better"),
        (3, "command"),
        (4, r#"joined ["spike"]"#),
        (5, "edited: better"),
        (6, "recalled"),
        (7, "updated"),
        (8, r#"left ["spike"]"#),
    ];
    for _ in 0..2 {
        for who in ["tom", "jerry"] {
            let seen = scene.timeline(id, who).await;
            assert_eq!(seen.iter().map(|(seq, words)| (*seq, &**words)).collect::<Vec<_>>(), wanted);
        }
        scene.reopen().await;
    }
}

pub async fn a_recall_takes_the_edits_with_it<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let said = scene.say(id, "jerry", "secret").await;
    scene.patch("jerry", &said, text("secret too"), Mentions::default()).await.unwrap();
    scene.recall(&said).await;
    assert_eq!(scene.timeline(id, "tom").await, [(3, "recalled".to_owned())]);
    let read = scene.store().read_timeline(&scene.app, &client("tom"), id, Seq(0), 10).await.unwrap();
    let [Entry { what: EntryKind::Patched(patch), .. }] = &read.entries[..] else { panic!("{read:?}") };
    assert_eq!((patch.message, patch.timestamp, &patch.by), (said.id, said.timestamp, &client("jerry")));
    assert_eq!((&patch.sender, patch.seq, &patch.body), (&client("jerry"), Seq(3), &recalled()));
}

pub async fn edits_carry_the_newest_words<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let said = scene.say(id, "jerry", "1").await;
    for words in ["2", "3"] {
        scene.patch("jerry", &said, text(words), Mentions::default()).await.unwrap();
    }
    let seen = scene.timeline(id, "tom").await;
    assert_eq!((seen[0].1.as_str(), seen.last().unwrap()), ("3", &(3, "edited: 3".to_owned())));
    let read = scene.store().read_timeline(&scene.app, &client("tom"), id, Seq(2), 10).await.unwrap();
    let [Entry { what: EntryKind::Patched(patch), .. }] = &read.entries[..] else { panic!("{read:?}") };
    assert_eq!((patch.edits, &patch.by), (2, &client("jerry")));
}

pub async fn timelines_are_for_members_and_from_their_coming<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let (store, anna) = (scene.store(), client("anna"));
    let read = async |who: &str, id| store.read_timeline(&scene.app, &client(who), id, Seq(0), 10).await;
    assert_eq!(read("anna", id).await, Err(Error::NotMember));
    assert_eq!(read("anna", scene.room().await).await, Err(Error::NotInRooms));
    assert_eq!(read("anna", scene.lasting_id()).await, Err(Error::ConversationNotFound));
    scene.open_device("anna", "phone").await;
    scene.add(id, "tom", &["anna"]).await.unwrap();
    scene.say(id, "tom", "welcome").await;
    let after_coming = async || {
        let seen = scene.timeline(id, "anna").await.into_iter();
        seen.filter(|(_, words)| !words.starts_with("joined")).collect::<Vec<_>>()
    };
    assert_eq!(after_coming().await, [(7, "welcome".to_owned())]);
    // The history is longer than that.
    assert_eq!(scene.words(id, "anna").await.len(), 6);
    assert!(scene.pending("anna", "phone").await.iter().all(|(_, entries)| *entries <= 2));
    // Away and back again: what was said meanwhile is not for this member.
    scene.set_position("anna", "phone", Queue::Conversation(id), 7).await;
    scene.remove(id, "anna", &["anna"]).await.unwrap();
    assert_eq!(scene.pending("anna", "phone").await, []);
    assert_eq!(store.read_timeline(&scene.app, &anna, id, Seq(0), 10).await, Err(Error::NotMember));
    scene.say(id, "tom", "while away").await;
    scene.add(id, "anna", &["anna"]).await.unwrap();
    scene.say(id, "tom", "back").await;
    assert_eq!(after_coming().await, [(11, "back".to_owned())]);
}

pub async fn a_new_device_begins_within_the_window<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let quiet = scene.group(&["tom", "jerry"]).await;
    scene.say(quiet, "jerry", "old").await;
    scene.say(id, "jerry", "old").await;
    scene.say(id, "jerry", "old").await;
    let old_notes = scene.notes("tom").await.len() as u64;
    scene.clock.advance_ms(WINDOW_MS + 1);
    scene.say(id, "jerry", "young").await;
    scene.group(&["tom", "jerry"]).await;
    scene.clock.advance_ms(WINDOW_MS);
    scene.open_device("tom", "phone").await;
    assert_eq!(scene.pending("tom", "phone").await, [(id, 1)]);
    assert_eq!(scene.places("tom", "phone", id).await, [3]);
    assert_eq!(scene.places("tom", "phone", quiet).await, [0; 0]);
    assert_eq!(scene.waiting("tom", "phone").await.notes, 1);
    let from = scene.position("tom", "phone", Queue::Inbox).await;
    assert_eq!(scene.notes("tom").await.iter().filter(|note| note.number > from).count(), 1);
    // It is not new the second time, however late.
    scene.clock.advance_ms(10 * WINDOW_MS);
    scene.reopen().await;
    scene.open_device("tom", "phone").await;
    assert_eq!(scene.pending("tom", "phone").await, [(id, 1)]);
    assert_eq!(scene.places("tom", "phone", id).await, [3]);
    // Another device is.
    scene.open_device("tom", "tablet").await;
    let waiting = scene.waiting("tom", "tablet").await;
    assert_eq!((waiting.conversations, waiting.notes, old_notes), (vec![], 0, 2));
}

pub async fn a_device_goes_on_where_it_was<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    for name in ["phone", "tablet"] {
        scene.open_device("tom", name).await;
        assert_eq!(scene.pending("tom", name).await, [(id, 5)]);
    }
    let queue = Queue::Conversation(id);
    scene.set_position("tom", "phone", queue, 3).await;
    assert_eq!(scene.pending("tom", "phone").await, [(id, 2)]);
    assert_eq!(scene.places("tom", "phone", id).await, [4, 5]);
    assert_eq!(scene.places("tom", "tablet", id).await, [1, 2, 3, 4, 5]);
    // It never goes back.
    scene.set_position("tom", "phone", queue, 2).await;
    assert_eq!(scene.position("tom", "phone", queue).await, 3);
    let last = scene.notes("tom").await.last().unwrap().number;
    scene.set_position("tom", "phone", Queue::Inbox, last).await;
    assert_eq!(
        (scene.waiting("tom", "phone").await.notes, scene.waiting("tom", "tablet").await.notes),
        (0, 1)
    );
    assert!(scene.store().flush_positions().await.unwrap() > 0);
    assert_eq!(scene.store().flush_positions().await, Ok(0));
    // Not even when it is written already.
    scene.set_position("tom", "phone", queue, 1).await;
    assert_eq!(scene.position("tom", "phone", queue).await, 3);
    scene.store().flush_positions().await.unwrap();
    scene.reopen().await;
    scene.open_device("tom", "phone").await;
    assert_eq!(scene.pending("tom", "phone").await, [(id, 2)]);
    assert_eq!(scene.position("tom", "phone", Queue::Inbox).await, last);
    scene.set_position("tom", "phone", queue, 5).await;
    assert_eq!(scene.pending("tom", "phone").await, []);
    scene.say(id, "jerry", "next").await;
    assert_eq!(scene.pending("tom", "phone").await, [(id, 1)]);
    // A client of the same device name elsewhere has places of its own.
    scene.open_device("spike", "phone").await;
    assert_eq!(scene.pending("spike", "phone").await, [(id, 6)]);
}

pub async fn closing_keeps_the_places<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    scene.open_device("tom", "phone").await;
    scene.set_position("tom", "phone", Queue::Conversation(id), 4).await;
    scene.reopen().await;
    scene.open_device("tom", "phone").await;
    assert_eq!(scene.places("tom", "phone", id).await, [5]);
}

pub async fn a_forgotten_device_is_a_new_one<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    for name in ["phone", "tablet"] {
        scene.open_device("tom", name).await;
        scene.set_position("tom", name, Queue::Conversation(id), 2).await;
        scene.clock.advance_ms(2 * WINDOW_MS);
    }
    scene.store().flush_positions().await.unwrap();
    let border = scene.now().plus_ms(-2 * WINDOW_MS);
    let mut rows = 0;
    while let some @ 1.. = scene.store().forget_devices(border).await.unwrap() {
        rows += some;
    }
    assert!(rows > 0);
    scene.say(id, "jerry", "new").await;
    for _ in 0..2 {
        scene.open_device("tom", "phone").await;
        assert_eq!(scene.places("tom", "phone", id).await, [6]);
        scene.open_device("tom", "tablet").await;
        assert_eq!(scene.places("tom", "tablet", id).await, [3, 4, 5, 6]);
        scene.reopen().await;
    }
}

pub async fn a_device_in_use_outlives_many_others<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    scene.open_device("tom", "phone").await;
    scene.set_position("tom", "phone", Queue::Conversation(id), 3).await;
    // Some programs take a new name each time they come.
    for number in 0..250 {
        scene.clock.advance_ms(1);
        scene.open_device("tom", &format!("browser {number}")).await;
        if number % 20 == 0 {
            scene.open_device("tom", "phone").await;
        }
    }
    scene.store().flush_positions().await.unwrap();
    assert_eq!(scene.places("tom", "phone", id).await, [4, 5]);
    assert_eq!(scene.pending("tom", "browser 249").await, [(id, 5)]);
}

pub async fn the_devices_seen_longest_ago_give_way<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let queue = Queue::Conversation(id);
    let web = |number: usize| format!("web_{number}");
    scene.open_device("spike", &web(1)).await;
    scene.set_position("spike", &web(1), queue, 2).await;
    for number in 0..100 {
        scene.clock.advance_ms(1);
        scene.open_device("tom", &web(number)).await;
        scene.set_position("tom", &web(number), queue, 3).await;
    }
    scene.clock.advance_ms(2 * WINDOW_MS);
    scene.open_device("tom", &web(0)).await;
    scene.store().flush_positions().await.unwrap();
    for number in 0..4 {
        scene.set_position("tom", &web(number), queue, 4).await;
    }
    // Two come, and two go: not the first, which was seen again.
    scene.open_device("tom", "new").await;
    scene.open_device("tom", "newer").await;
    for round in 0..2 {
        for (number, left) in [(0, vec![5]), (3, vec![5]), (50, vec![4, 5]), (99, vec![4, 5])] {
            assert_eq!(scene.places("tom", &web(number), id).await, left, "{number} in round {round}");
        }
        assert_eq!(scene.places("spike", &web(1), id).await, [3, 4, 5]);
        scene.reopen().await;
    }
    // Those that went are new ones when they come back; others go for them.
    for number in [2, 1] {
        scene.open_device("tom", &web(number)).await;
        assert_eq!(scene.places("tom", &web(number), id).await, [0; 0]);
    }
    // Who comes stays, even if the clock says that it was seen longest ago.
    scene.clock.advance_ms(-10 * WINDOW_MS);
    scene.open_device("tom", "late").await;
    scene.set_position("tom", "late", queue, 4).await;
    scene.reopen().await;
    assert_eq!(scene.places("tom", "late", id).await, [5]);
    // What is not written yet goes with it.
    scene.set_position("tom", "late", queue, 5).await;
    scene.open_device("tom", "latest").await;
    scene.open_device("tom", "late").await;
    assert_eq!(scene.places("tom", "late", id).await, [1, 2, 3, 4, 5]);
    // And what it says afterwards is of no use to anybody.
    scene.clock.advance_ms(-1);
    scene.open_device("tom", "last").await;
    scene.clock.advance_ms(1);
    scene.open_device("tom", "phone").await;
    scene.set_position("tom", "last", queue, 5).await;
    scene.store().flush_positions().await.unwrap();
    scene.open_device("tom", "last").await;
    assert_eq!(scene.places("tom", "last", id).await, [1, 2, 3, 4, 5]);
    scene.audit().await;
}

pub async fn what_waits_is_ordered_by_activity_and_limited<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    scene.open_device("tom", "phone").await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(scene.group(&["tom", "jerry"]).await);
    }
    let pair = scene.say_to("jerry", "tom", "x").await.conversation;
    scene.set_position("tom", "phone", Queue::Conversation(pair), 1).await;
    for number in [2, 0, 3] {
        scene.clock.advance_ms(10);
        scene.say(ids[number], "jerry", "x").await;
    }
    assert_eq!(scene.pending("tom", "phone").await, [(ids[3], 1), (ids[0], 1), (ids[2], 1)]);
    scene.clock.advance_ms(10);
    let said = scene.say(pair, "jerry", "again").await;
    scene.clock.advance_ms(10);
    scene.command(ids[2], "jerry", "command").await;
    let waiting = scene.store().waiting(&scene.app, &client("tom"), &device("phone"), 2).await.unwrap();
    let [first, second] = &waiting.conversations[..] else { panic!("{waiting:?}") };
    assert_eq!((first.address.id, first.entries), (ids[2], 2));
    assert_eq!((second.address.peer.as_ref(), second.entries), (Some(&client("jerry")), 1));
    assert_eq!((second.address.kind, said.seq), (Kind::Direct, Seq(2)));
    assert_eq!(scene.pending("nobody", "phone").await, []);
}

pub async fn deleted_messages_wait_for_nobody<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    scene.open_device("tom", "phone").await;
    scene.open_device("spike", "phone").await;
    scene.remove_messages(id, "tom", Removal::Until(said[2].timestamp)).await.unwrap();
    assert_eq!(
        (scene.places("tom", "phone", id).await, scene.places("spike", "phone", id).await.len()),
        (vec![4, 5], 5)
    );
    scene.delete(id, "jerry", DeleteScope::Everyone, true).await.unwrap();
    assert_eq!(scene.places("spike", "phone", id).await, [0; 0]);
    scene.clock.advance_ms(10);
    scene.say(id, "jerry", "new").await;
    assert_eq!(
        (scene.places("tom", "phone", id).await, scene.places("spike", "phone", id).await),
        (vec![6], vec![6])
    );
}

pub async fn a_timeline_goes_on_behind_much_that_is_deleted<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let heard = Heard::default();
    let sends = (0..3_000)
        .map(|_| scene.store().append_message(&scene.app, message(id, "jerry", "x"), heard.listen()));
    futures_util::future::join_all(sends).await;
    assert_eq!(heard.all().len(), 3_000);
    scene.remove_messages(id, "tom", Removal::Until(scene.now())).await.unwrap();
    scene.clock.advance_ms(10);
    scene.say(id, "jerry", "new").await;
    for (who, wanted) in [("tom", 1), ("jerry", 3_001)] {
        let (mut after, mut seen, mut stretches) = (Seq(0), Vec::new(), 0);
        loop {
            let stretch =
                scene.store().read_timeline(&scene.app, &client(who), id, after, 200).await.unwrap();
            assert!(stretch.end > after);
            after = stretch.end;
            seen.extend(stretch.entries.into_iter().map(|entry| entry.seq.0));
            stretches += 1;
            if !stretch.more {
                break;
            }
        }
        assert_eq!((seen.len(), seen.last(), after), (wanted, Some(&3_001), Seq(3_001)), "{who}");
        assert!(stretches < 100, "{stretches}");
    }
}

pub async fn commands_are_nowhere_else<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let before = scene.conversation(id).await;
    let (store, tom) = (scene.store(), client("tom"));
    scene.clock.advance_ms(10);
    let all = NewMessage { mentions: calls_all(), ..message(id, "jerry", "command") };
    let said = scene.append(NewMessage { shown: false, counted: false, ..all }).await.unwrap().message;
    assert_eq!(said.seq, Seq(1));
    assert_eq!((scene.words(id, "tom").await, scene.unread("tom").await), (vec![], vec![]));
    assert_eq!((scene.lines("tom").await, scene.conversation(id).await), (vec![], before));
    assert_eq!(store.message(&scene.app, &tom, id, said.id).await, Err(Error::MessageNotFound));
    let patched = scene.patch("jerry", &said, recalled(), Mentions::default()).await;
    assert_eq!(patched, Err(Error::MessageNotFound));
    assert_eq!(scene.read_all(id, "tom").await.unread.last_message, None);
    scene.reopen().await;
    assert_eq!(scene.timeline(id, "tom").await, [(1, "command".to_owned())]);
    // Beside other messages it counts as little.
    scene.say(id, "jerry", "said").await;
    scene.command(id, "jerry", "command").await;
    assert_eq!(scene.unread_in(id, "tom").await, (1, false));
    assert_eq!(scene.lines("tom").await, [(id, "said".to_owned(), 1)]);
    assert_eq!(scene.words(id, "tom").await, ["said"]);
    let unread = scene.unread("tom").await.remove(0);
    assert_eq!((words(&unread.last_message.unwrap()), unread.head), ("said".to_owned(), Seq(3)));
    assert_eq!(scene.timeline(id, "tom").await.len(), 3);
    scene.read_all(id, "tom").await;
    scene.command(id, "jerry", "command").await;
    assert_eq!(scene.unread("tom").await, []);
    // A retry is the same command.
    let new = NewMessage { shown: false, counted: false, token: token("t"), ..message(id, "tom", "once") };
    let (first, again) = (scene.append(new.clone()).await.unwrap(), scene.append(new).await.unwrap());
    assert_eq!((again.duplicate, again.message), (true, first.message));
    scene.audit().await;
}

pub async fn uncounted_messages_are_shown_but_never_unread<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    scene.serve(id, "jerry", "1").await;
    assert_eq!(scene.unread("tom").await, []);
    let counted = scene.say(id, "jerry", "2").await;
    scene.serve(id, "jerry", "3").await;
    assert_eq!(scene.unread_in(id, "tom").await.0, 1);
    assert_eq!(scene.unread("tom").await[0].last_message.as_ref().unwrap().id, counted.id);
    assert_eq!(scene.words(id, "tom").await, ["1", "2", "3"]);
    assert_eq!(scene.timeline(id, "tom").await.len(), 3);
    scene.audit().await;
    scene.read(id, "tom", Some(&counted)).await;
    assert_eq!(scene.unread("tom").await, []);
    let served = scene.everything(id, "tom").await.remove(2);
    scene.recall(&served).await;
    scene.say(id, "jerry", "4").await;
    assert_eq!(scene.unread_in(id, "tom").await.0, 1);
    scene.audit().await;
}

pub async fn notes_have_growing_numbers<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let mut groups = Vec::new();
    for _ in 0..4 {
        groups.push(scene.group(&["tom", "jerry"]).await);
        scene.clock.advance_ms(10);
    }
    scene.reopen().await;
    let (store, tom) = (scene.store(), client("tom"));
    let all = scene.notes("tom").await;
    assert!(all.is_sorted_by(|a, b| a.number < b.number && a.at < b.at));
    assert_eq!(all.iter().map(|note| note.address.as_ref().unwrap().id).collect::<Vec<_>>(), groups);
    let page = store.read_notes(&scene.app, &tom, all[0].number, 2).await.unwrap();
    assert_eq!(page, all[1..3]);
    assert_eq!(store.read_notes(&scene.app, &tom, all[3].number, 2).await, Ok(vec![]));
    // Forgetting the old ones gives no number twice.
    while let Ok(1..) = store.forget_missed(scene.now()).await {}
    assert_eq!(scene.notes("tom").await, []);
    scene.group(&["tom"]).await;
    assert!(scene.notes("tom").await[0].number > all[3].number);
}

pub async fn coming_and_going_leave_notes<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let added = scene.add(id, "tom", &["jerry"]).await.unwrap();
    let removed = scene.remove(id, "tom", &["jerry"]).await.unwrap();
    let notes = scene.notes("jerry").await;
    let [Note { what: NoteKind::Joined(joined), .. }, Note { what: NoteKind::Left(left), .. }] = &notes[..]
    else {
        panic!("{notes:?}")
    };
    for (event, at) in [(joined, added.at), (left, removed.at)] {
        assert_eq!(
            (event.conversation, event.by.as_str(), &*event.members),
            (id, "tom", &clients(&["jerry"])[..])
        );
        assert_eq!((event.at, event.kind), (at, Kind::Group));
    }
    assert_eq!(notes[0].address.as_ref().map(|address| address.id), Some(id));
}

pub async fn reading_and_receipts_leave_notes<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    for who in ["tom", "jerry"] {
        scene.open_device(who, "phone").await;
    }
    let said =
        scene.append(NewMessage { receipt: true, ..scene.to("tom", "jerry", "x") }).await.unwrap().message;
    let id = said.conversation;
    scene.clock.advance_ms(10);
    scene.deliver(id, "jerry", &said).await;
    let mark = MarkRead { conversation: id, until: None, id: None, device: Some(device("phone")) };
    scene.store().mark_read(&scene.app, &client("jerry"), mark, nothing()).await.unwrap();
    let here = NoteKind::ReadHere { conversation: id, device: Some(device("phone")) };
    assert_eq!(scene.newest_notes("jerry", 1).await, [here]);
    let [NoteKind::Receipt(delivered), NoteKind::Receipt(read)] = &scene.newest_notes("tom", 2).await[..]
    else {
        panic!("{:?}", scene.notes("tom").await)
    };
    assert_eq!((delivered.message, delivered.read, delivered.by.as_str()), (said.id, false, "jerry"));
    assert_eq!((read.message, read.read, read.whole, read.at), (said.id, true, true, scene.now()));
    assert_eq!(read.by, client("jerry"));
}

pub async fn what_waits_sees_what_closures_have_told<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    scene.open_device("jerry", "phone").await;
    let heard: Heard<Appended> = Heard::default();
    let writes = async {
        for _ in 0..20 {
            let sends = (0..10)
                .map(|_| scene.store().append_message(&scene.app, message(id, "tom", "x"), heard.listen()));
            for sent in futures_util::future::join_all(sends).await {
                sent.unwrap();
            }
        }
    };
    let reads = async {
        for _ in 0..100 {
            let before = heard.all().len() as u64;
            let seen: u64 = scene.pending("jerry", "phone").await.iter().map(|(_, entries)| entries).sum();
            assert!(before <= seen, "{before} {seen}");
        }
    };
    futures_util::future::join(writes, reads).await;
    assert_eq!(scene.pending("jerry", "phone").await, [(id, 200)]);
}
