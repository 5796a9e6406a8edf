//! Messages that one member removes for itself.

use posthouse_core::error::Error;
use posthouse_core::id::MessageId;
use posthouse_core::listing::REMOVED_AT_ONCE_MAX;
use posthouse_core::query::{ConversationQuery, Filter, Scope};

use super::*;

impl<E: Engine> Scene<E> {
    /// Five messages of jerry to tom and spike, ten milliseconds apart: "0" to "4".
    pub async fn five(&self) -> (ConversationId, Vec<Message>) {
        let id = self.group(&["tom", "jerry", "spike"]).await;
        let mut said = Vec::new();
        for number in 0..5 {
            self.clock.advance_ms(10);
            said.push(self.say(id, "jerry", &number.to_string()).await);
        }
        (id, said)
    }
}

fn these(messages: &[&Message]) -> Removal {
    Removal::Messages(messages.iter().map(|message| message.id).collect())
}

pub async fn removed_messages_are_gone_for_one<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    scene.remove_messages(id, "tom", these(&[&said[1], &said[4]])).await.unwrap();
    for _ in 0..2 {
        assert_eq!(scene.words(id, "tom").await, ["0", "2", "3"]);
        assert_eq!(scene.unread_in(id, "tom").await.0, 3);
        assert_eq!(scene.lines("tom").await, [(id, "3".to_owned(), 3)]);
        let seen: Vec<u64> = scene.timeline(id, "tom").await.into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(seen, [1, 3, 4]);
        for other in ["jerry", "spike"] {
            assert_eq!(scene.words(id, other).await.len(), 5);
            assert_eq!(scene.timeline(id, other).await.len(), 5);
        }
        assert_eq!(scene.lines("spike").await, [(id, "4".to_owned(), 5)]);
        scene.reopen().await;
    }
    let one = async |reader: &str| scene.store().message(&scene.app, &client(reader), id, said[1].id).await;
    assert_eq!(one("tom").await, Err(Error::MessageNotFound));
    assert!(one("spike").await.is_ok());
    scene.audit().await;
}

pub async fn who_comes_back_finds_nothing_of_what_it_removed<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    scene.remove_messages(id, "tom", these(&[&said[1], &said[4]])).await.unwrap();
    scene.remove(id, "tom", &["tom"]).await.unwrap();
    scene.add(id, "tom", &["tom"]).await.unwrap();
    assert_eq!(scene.words(id, "tom").await, ["0", "2", "3"]);
    assert_eq!(scene.lines("tom").await, [(id, "3".to_owned(), 0)]);
    scene.say(id, "jerry", "5").await;
    assert_eq!(scene.lines("tom").await, [(id, "5".to_owned(), 1)]);
    scene.audit().await;
}

pub async fn up_to_a_time_includes_that_time<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    scene.remove_messages(id, "tom", Removal::Until(said[2].timestamp)).await.unwrap();
    assert_eq!(scene.words(id, "tom").await, ["3", "4"]);
    assert_eq!(scene.unread_in(id, "tom").await.0, 2);
    assert_eq!(scene.timeline(id, "tom").await, [(4, "3".to_owned()), (5, "4".to_owned())]);
    assert_eq!(scene.words(id, "spike").await.len(), 5);
    // An earlier time brings nothing back.
    scene.remove_messages(id, "tom", Removal::Until(said[0].timestamp)).await.unwrap();
    assert_eq!(scene.words(id, "tom").await, ["3", "4"]);
    scene.remove_messages(id, "tom", Removal::Until(said[3].timestamp.plus_ms(9))).await.unwrap();
    assert_eq!(scene.words(id, "tom").await, ["4"]);
    scene.audit().await;
}

pub async fn a_time_to_come_removes_what_there_is<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    for until in [scene.now().plus_ms(3_600_000), Timestamp(i64::MAX)] {
        scene.remove_messages(id, "tom", Removal::Until(until)).await.unwrap();
        assert_eq!((scene.words(id, "tom").await, scene.unread("tom").await), (vec![], vec![]));
        scene.clock.advance_ms(10);
        scene.say(id, "jerry", "new").await;
        assert_eq!(scene.words(id, "tom").await, ["new"]);
        assert_eq!(scene.lines("tom").await, [(id, "new".to_owned(), 1)]);
    }
    scene.audit().await;
}

pub async fn the_devices_find_a_note<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let others = scene.notes("spike").await.len();
    let (by_id, by_time) = (these(&[&said[0]]), Removal::Until(said[1].timestamp));
    let (store, tom, phone) = (scene.store(), client("tom"), device("phone"));
    let heard = Heard::default();
    for removal in [by_id.clone(), by_time.clone()] {
        let after = heard.listen();
        store.remove_messages(&scene.app, &tom, id, Some(&phone), removal, true, after).await.unwrap();
    }
    assert_eq!(heard.all(), [(), ()]);
    let told = |removal| NoteKind::MessagesRemoved {
        conversation: Some(id),
        device: Some(device("phone")),
        removal: Some(removal),
    };
    assert_eq!(scene.newest_notes("tom", 2).await, [told(by_id), told(by_time)]);
    assert_eq!(scene.notes("spike").await.len(), others);
    // Nobody is told who need not be.
    let (told, until) = (scene.notes("tom").await.len(), Removal::Until(said[2].timestamp));
    store.remove_messages(&scene.app, &tom, id, None, until, false, nothing()).await.unwrap();
    assert_eq!((scene.notes("tom").await.len(), scene.words(id, "tom").await.len()), (told, 2));
}

pub async fn at_most_fifty_at_once<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let mut said = Vec::new();
    for number in 0..=REMOVED_AT_ONCE_MAX {
        said.push(scene.say(id, "jerry", &number.to_string()).await.id);
    }
    let notes = scene.notes("tom").await.len();
    let refused = scene.remove_messages(id, "tom", Removal::Messages(said.clone())).await;
    assert_eq!(refused, Err(Error::TooManyAtOnce { max: REMOVED_AT_ONCE_MAX }));
    assert_eq!(
        (scene.everything(id, "tom").await.len(), scene.notes("tom").await.len()),
        (said.len(), notes)
    );
    scene.remove_messages(id, "tom", Removal::Messages(said[1..].to_vec())).await.unwrap();
    assert_eq!((scene.words(id, "tom").await, scene.unread_in(id, "tom").await.0), (vec!["0".to_owned()], 1));
    scene.audit().await;
}

pub async fn unknown_and_foreign_ids_are_passed_over<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let (mine, theirs) = (scene.group(&["tom", "jerry"]).await, scene.group(&["jerry"]).await);
    let (elsewhere, foreign) = (scene.say(mine, "jerry", "x").await, scene.say(theirs, "jerry", "x").await);
    let unknown = MessageId::from_u64(7).unwrap();
    let ids = vec![unknown, elsewhere.id, foreign.id, said[0].id, said[0].id];
    for _ in 0..2 {
        scene.remove_messages(id, "tom", Removal::Messages(ids.clone())).await.unwrap();
        assert_eq!(scene.words(id, "tom").await, ["1", "2", "3", "4"]);
        assert_eq!(scene.words(mine, "tom").await, ["x"]);
        assert_eq!((scene.unread_in(id, "tom").await.0, scene.unread_in(mine, "tom").await.0), (4, 1));
        scene.audit().await;
    }
    scene.remove_messages(id, "tom", Removal::Messages(vec![])).await.unwrap();
    assert_eq!(scene.words(theirs, "jerry").await, ["x"]);
    let nothing_of_mine = scene.remove_messages(theirs, "tom", these(&[&foreign])).await;
    assert_eq!(nothing_of_mine, Err(Error::NotMember));
    let gone = scene.remove_messages(scene.lasting_id(), "tom", these(&[&said[1]])).await;
    assert_eq!(gone, Err(Error::ConversationNotFound));
}

pub async fn what_is_read_or_ones_own_leaves_the_number<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let own = scene.say(id, "tom", "mine").await;
    scene.read(id, "tom", Some(&said[2])).await;
    assert_eq!(scene.unread_in(id, "tom").await.0, 2);
    scene.remove_messages(id, "tom", these(&[&said[0], &said[2], &own])).await.unwrap();
    assert_eq!(scene.unread_in(id, "tom").await.0, 2);
    scene.audit().await;
    scene.remove_messages(id, "tom", these(&[&said[3]])).await.unwrap();
    assert_eq!(scene.unread_in(id, "tom").await.0, 1);
    // Recalled after or before it was removed, it counts once.
    scene.recall(&said[3]).await;
    assert_eq!(scene.unread_in(id, "tom").await.0, 1);
    scene.recall(&said[4]).await;
    scene.remove_messages(id, "tom", these(&[&said[4]])).await.unwrap();
    assert_eq!(scene.unread("tom").await, []);
    assert_eq!(scene.unread_in(id, "spike").await.0, 4);
    scene.audit().await;
    scene.read_all(id, "tom").await;
    scene.say(id, "jerry", "new").await;
    assert_eq!(scene.unread_in(id, "tom").await.0, 1);
    scene.audit().await;
}

pub async fn removed_calls_call_no_more<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let call = scene.append(NewMessage { mentions: calls(&["tom", "spike"]), ..message(id, "jerry", "!") });
    let call = call.await.unwrap().message;
    assert_eq!(scene.unread_in(id, "tom").await, (6, true));
    scene.remove_messages(id, "tom", these(&[&call])).await.unwrap();
    assert_eq!(scene.unread_in(id, "tom").await, (5, false));
    assert_eq!(scene.unread_in(id, "spike").await, (6, true));
    scene.remove_messages(id, "spike", Removal::Until(call.timestamp)).await.unwrap();
    assert_eq!(scene.unread_in(id, "spike").await, (0, false));
    scene.audit().await;
}

pub async fn removing_is_not_reading<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let said = scene.append(NewMessage { receipt: true, ..message(id, "jerry", "x") }).await.unwrap().message;
    scene.remove_messages(id, "tom", Removal::Until(said.timestamp)).await.unwrap();
    let marks = scene.store().member_marks(&scene.app, &client("jerry"), id).await.unwrap();
    let tom = marks.iter().find(|marks| marks.client.as_str() == "tom").unwrap();
    assert_eq!((tom.read_at, tom.delivered_at), (None, None));
    let stored = scene.everything(id, "jerry").await.remove(0);
    assert_eq!((stored.read_at, stored.delivered_at), (None, None));
    // The sender hears of no reading.
    let receipts = |note: &NoteKind| matches!(note, NoteKind::Receipt(_));
    assert!(!scene.newest_notes("jerry", 10).await.iter().any(receipts));
}

pub async fn no_wire_shows_what_is_removed<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let since = scene.now();
    scene.clock.advance_ms(10);
    scene.remove_messages(id, "tom", these(&[&said[4]])).await.unwrap();
    let edited = scene.patch("jerry", &said[4], text("secret"), Mentions::default()).await;
    assert!(edited.is_ok());
    let patches = async |who: &str| {
        scene.store().list_patches(&scene.app, &client(who), since, 10).await.unwrap().len()
    };
    assert_eq!((patches("tom").await, patches("spike").await), (0, 1));
    let shown = scene.timeline(id, "tom").await;
    assert!(shown.iter().all(|(_, words)| !words.contains("secret")), "{shown:?}");
    let unread = scene.unread("tom").await.remove(0);
    assert_eq!((unread.count, unread.last_message.map(|message| message.id)), (4, Some(said[3].id)));
    let marked = scene.read_all(id, "tom").await;
    assert_eq!(marked.unread.last_message.map(|message| message.id), Some(said[3].id));
}

pub async fn everything_can_be_removed_at_once<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let pair = scene.say_to("jerry", "tom", "pair").await.conversation;
    let notes = scene.notes("tom").await.len();
    scene.clock.advance_ms(10);
    let (store, phone) = (scene.store(), device("phone"));
    let (after, heard) = listener();
    store.remove_everything(&scene.app, &client("tom"), Some(&phone), after).await.unwrap();
    assert_eq!(heard.all(), [()]);
    let told = NoteKind::MessagesRemoved { conversation: None, device: Some(phone), removal: None };
    assert_eq!(scene.newest_notes("tom", 1).await, [told]);
    assert_eq!(scene.notes("tom").await.len(), notes + 1);
    scene.reopen().await;
    assert_eq!((scene.lines("tom").await, scene.unread("tom").await), (vec![], vec![]));
    assert_eq!(scene.list("tom", ListQuery { with_empty: true, ..list() }).await, []);
    for id in [id, pair] {
        assert_eq!((scene.words(id, "tom").await, scene.timeline(id, "tom").await), (vec![], vec![]));
    }
    assert_eq!(
        (scene.words(id, "spike").await.len(), scene.words(pair, "jerry").await.len()),
        (said.len(), 1)
    );
    assert_eq!(scene.lines("jerry").await.len(), 2);
    scene.clock.advance_ms(10);
    scene.say(id, "jerry", "new").await;
    assert_eq!(scene.lines("tom").await, [(id, "new".to_owned(), 1)]);
    assert_eq!(scene.words(id, "tom").await, ["new"]);
    scene.audit().await;
}

pub async fn the_unread_list_since_a_time_sees_removals<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let (other, _) = scene.five().await;
    scene.clock.advance_ms(100);
    let since = scene.now();
    scene.clock.advance_ms(100);
    let changed = async || {
        let listed = scene.store().list_unread(&scene.app, &client("tom"), Some(since), 10).await.unwrap();
        listed.into_iter().map(|unread| (unread.conversation, unread.count)).collect::<Vec<_>>()
    };
    assert_eq!(changed().await, []);
    scene.remove_messages(id, "tom", these(&[&said[0]])).await.unwrap();
    assert_eq!(changed().await, [(id, 4)]);
    scene.remove_messages(id, "tom", Removal::Until(said[2].timestamp)).await.unwrap();
    assert_eq!(changed().await, [(id, 2)]);
    scene.delete(other, "tom", DeleteScope::Caller, false).await.unwrap();
    assert_eq!(changed().await, [(id, 2)]);
}

pub async fn queries_pass_over_what_is_removed<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    scene.remove_messages(id, "tom", these(&[&said[4]])).await.unwrap();
    scene.command(id, "jerry", "command").await;
    for (who, newest) in [("tom", &said[3]), ("spike", &said[4])] {
        let query = ConversationQuery {
            scope: Scope::Member(client(who)),
            filter: Filter::All(vec![]),
            sort: vec![],
            skip: 0,
            limit: 10,
            with_last_message: true,
        };
        let found = scene.store().query_conversations(&scene.app, &client(who), &[], query).await.unwrap();
        assert_eq!(found[0].last_message.as_ref(), Some(newest), "{who}");
    }
}

pub async fn changes_at_once_keep_every_counter<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let names = ["tom", "jerry", "spike"];
    let works = (0..90).map(async |number: usize| {
        let (who, message) = (names[number % 3], &said[number % 5]);
        match number % 9 {
            0 | 1 => drop(scene.say(id, who, "x").await),
            2 => drop(scene.append(scene.to(who, names[(number + 1) % 3], "x")).await.unwrap()),
            3 => scene.remove_messages(id, who, these(&[message])).await.unwrap(),
            4 => scene.remove_messages(id, who, Removal::Until(message.timestamp)).await.unwrap(),
            5 => drop(scene.read_all(id, who).await),
            6 => drop(scene.patch("jerry", message, text("y"), calls_all()).await),
            7 => drop(
                scene
                    .delete(
                        id,
                        who,
                        [DeleteScope::Caller, DeleteScope::Everyone][number % 2],
                        number.is_multiple_of(4),
                    )
                    .await
                    .unwrap(),
            ),
            _ => drop(scene.store().forget_deleted().await.unwrap()),
        }
    });
    futures_util::future::join_all(works).await;
    for who in names {
        let unread: u64 = scene.unread(who).await.iter().map(|unread| unread.count).sum();
        let listed: u64 = scene.list(who, list()).await.iter().map(|listed| listed.unread).sum();
        assert!(listed <= unread, "{listed} {unread}");
    }
    scene.audit().await;
    scene.forget_all().await;
    scene.audit().await;
}

pub async fn odd_numbers_do_no_harm<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let (store, app, tom) = (scene.store(), &scene.app, client("tom"));
    let query = HistoryQuery::newest(id, usize::MAX);
    assert_eq!(store.read_history(app, &tom, query).await.unwrap().messages.len(), 5);
    let query = HistoryQuery { sender: Some(client("jerry")), ..HistoryQuery::newest(id, usize::MAX) };
    assert_eq!(store.read_history(app, &tom, query).await.unwrap().messages.len(), 5);
    let stretch = store.read_timeline(app, &tom, id, Seq(0), usize::MAX).await.unwrap();
    assert_eq!((stretch.entries.len(), stretch.more), (5, false));
    assert_eq!(store.read_timeline(app, &tom, id, Seq(u64::MAX), 10).await.unwrap().entries, []);
    assert_eq!(store.read_timeline(app, &tom, id, Seq(0), 0).await.unwrap().entries, []);
    assert_eq!(store.read_notes(app, &tom, u64::MAX, usize::MAX).await, Ok(vec![]));
    assert_eq!(store.read_notes(app, &tom, 0, usize::MAX).await.unwrap().len(), 1);
    assert_eq!(store.list_accounts(app, u64::MAX, usize::MAX).await, Ok(vec![]));
    assert_eq!(store.list_contacts(app, &tom, None, usize::MAX).await, Ok(vec![]));
    assert_eq!(store.list_groups(app, None, usize::MAX, usize::MAX).await.unwrap().groups, []);
    assert_eq!(store.list_groups(app, Some(&tom), 0, usize::MAX).await.unwrap().groups.len(), 1);
    let page = ListPage::Newest { limit: usize::MAX, since: Timestamp(i64::MIN) };
    assert_eq!(scene.list("tom", ListQuery { page, ..list() }).await.len(), 1);
    let page = ListPage::Newest { limit: usize::MAX, since: Timestamp(i64::MAX) };
    assert_eq!(scene.list("tom", ListQuery { page, ..list() }).await, []);
    let page = ListPage::Numbered { size: 0, number: 3 };
    assert_eq!(scene.list("tom", ListQuery { page, ..list() }).await, []);
    assert_eq!(scene.list("tom", ListQuery { marked: Some(u8::MAX), ..list() }).await, []);
    for (name, window_ms) in [("a", i64::MAX), ("b", i64::MIN), ("c", 0), ("d", -1)] {
        store.open_device(app, &tom, &device(name), window_ms).await.unwrap();
        let waiting = store.waiting(app, &tom, &device(name), usize::MAX).await.unwrap();
        assert!(waiting.conversations.len() <= 1, "{name}");
    }
    for until in [Timestamp(i64::MIN), Timestamp(-1), Timestamp(0)] {
        scene.remove_messages(id, "tom", Removal::Until(until)).await.unwrap();
    }
    assert_eq!(scene.words(id, "tom").await.len(), 5);
    scene.audit().await;
}
