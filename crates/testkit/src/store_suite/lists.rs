//! Conversation lists.

use posthouse_core::error::Error;
use posthouse_core::listing::{ListChange, ListPlace, MARKS, PINS_MAX};

use super::*;

impl<E: Engine> Scene<E> {
    async fn listed(&self, reader: &str, query: ListQuery) -> Vec<ConversationId> {
        self.list(reader, query).await.iter().map(|listed| listed.address.id).collect()
    }

    async fn change_listed(
        &self,
        who: &str,
        conversation: ConversationId,
        change: ListChange,
    ) -> Result<Option<Timestamp>> {
        let (store, phone) = (self.store(), device("phone"));
        store.change_listed(&self.app, &client(who), conversation, Some(&phone), change, nothing()).await
    }

    /// Groups of tom and jerry with a message each, the oldest first.
    async fn groups(&self, many: usize) -> Vec<ConversationId> {
        let mut ids = Vec::new();
        for _ in 0..many {
            let id = self.group(&["tom", "jerry"]).await;
            self.clock.advance_ms(10);
            self.say(id, "jerry", "hi").await;
            ids.push(id);
        }
        ids
    }
}

fn newest(limit: usize, since: Timestamp) -> ListQuery {
    ListQuery { page: ListPage::Newest { limit, since }, ..list() }
}

fn numbered(size: usize, number: usize) -> ListQuery {
    ListQuery { page: ListPage::Numbered { size, number }, ..list() }
}

fn after(cursor: Option<ListPlace>, limit: usize) -> ListQuery {
    ListQuery { page: ListPage::After { cursor, limit }, ..list() }
}

fn by_servers(server_messages: ServerMessages) -> ListQuery {
    ListQuery { server_messages, ..list() }
}

pub async fn a_line_for_each_conversation_with_a_message<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    assert_eq!(scene.list("tom", list()).await, []);
    let group = scene.group(&["tom", "jerry", "spike"]).await;
    let in_group = scene.say(group, "spike", "group").await;
    scene.clock.advance_ms(10);
    let in_pair = scene.say_to("jerry", "tom", "pair").await;
    // These have no line.
    scene.group(&["tom", "jerry"]).await;
    let room = scene.room().await;
    scene.say(room, "tom", "room").await;
    let temporary = scene.temporary(60_000, &["tom", "jerry"]).await;
    scene.say(temporary, "jerry", "temporary").await;
    let others = scene.group(&["jerry", "spike"]).await;
    scene.say(others, "jerry", "others").await;
    scene.reopen().await;
    let listed = scene.list("tom", list()).await;
    let [pair, several] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((pair.address.id, pair.address.kind), (in_pair.conversation, Kind::Direct));
    assert_eq!((pair.address.peer.as_ref(), pair.unread), (Some(&client("jerry")), 1));
    assert_eq!((pair.place.at, pair.place.conversation), (in_pair.timestamp, in_pair.conversation));
    assert_eq!((pair.pinned_at, pair.marks), (None, 0));
    assert_eq!(pair.last_message, Some(in_pair));
    assert_eq!(
        (several.address.id, several.address.kind, &several.address.peer),
        (group, Kind::Group, &None)
    );
    assert_eq!((several.last_message.as_ref(), several.unread), (Some(&in_group), 1));
    // The other side calls it by the other name.
    let of_jerry = scene.list("jerry", list()).await;
    assert_eq!(of_jerry.len(), 3);
    let pair = of_jerry.iter().find(|listed| listed.address.id == pair.address.id).unwrap();
    assert_eq!((pair.address.peer.as_ref(), pair.unread), (Some(&client("tom")), 0));
}

pub async fn the_newest_come_first_and_within_a_window<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = scene.groups(4).await;
    assert_eq!(scene.listed("tom", list()).await, [ids[3], ids[2], ids[1], ids[0]]);
    let fourth = scene.say(ids[0], "tom", "again").await;
    assert_eq!(scene.listed("tom", list()).await, [ids[0], ids[3], ids[2], ids[1]]);
    assert_eq!(scene.listed("tom", newest(2, Timestamp(0))).await, [ids[0], ids[3]]);
    assert_eq!(scene.listed("tom", newest(0, Timestamp(0))).await, []);
    // The window's first moment belongs to it.
    scene.clock.advance_ms(100);
    let third = fourth.timestamp.plus_ms(-10);
    assert_eq!(scene.listed("tom", newest(9, third)).await, [ids[0], ids[3], ids[2]]);
    assert_eq!(scene.listed("tom", newest(9, third.plus_ms(1))).await, [ids[0], ids[3]]);
    assert_eq!(scene.listed("tom", newest(9, scene.now())).await, []);
}

pub async fn of_one_moment_the_largest_comes_first<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let id = scene.group(&["tom", "jerry"]).await;
        ids.push((number / 3, id));
    }
    for number in 0..3 {
        for (_, id) in ids.iter().filter(|(batch, _)| *batch == number) {
            scene.say(*id, "tom", "x").await;
        }
        scene.clock.advance_ms(1);
    }
    ids.sort_by(|a, b| b.cmp(a));
    let wanted: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
    assert_eq!(scene.listed("tom", list()).await, wanted);
    // Pages end within the moment, and lose nothing.
    let pages = [scene.listed("tom", numbered(2, 0)).await, scene.listed("tom", numbered(2, 1)).await];
    assert_eq!(pages.concat(), wanted[..4]);
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = scene.list("tom", after(cursor, 2)).await;
        let Some(last) = page.last() else { break };
        cursor = Some(last.place);
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|listed| listed.address.id));
    }
    assert_eq!(seen, wanted);
}

pub async fn pages_have_numbers<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut ids = scene.groups(25).await;
    ids.reverse();
    for (number, wanted) in [(0, 0..10), (1, 10..20), (2, 20..25), (3, 25..25), (1_000_000, 25..25)] {
        assert_eq!(scene.listed("tom", numbered(10, number)).await, ids[wanted], "page {number}");
    }
    assert_eq!(scene.listed("tom", numbered(usize::MAX, 0)).await, ids);
    assert_eq!(scene.listed("tom", numbered(20, usize::MAX)).await, []);
}

pub async fn a_cursor_goes_on_from_a_place<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = scene.groups(6).await;
    let first = scene.list("tom", after(None, 3)).await;
    assert_eq!(first.iter().map(|listed| listed.address.id).collect::<Vec<_>>(), [ids[5], ids[4], ids[3]]);
    // What moves to the front in between was seen or will be seen at the next reading.
    scene.clock.advance_ms(10);
    scene.say(ids[1], "tom", "moves").await;
    let second = scene.listed("tom", after(Some(first[2].place), 3)).await;
    assert_eq!(second, [ids[2], ids[0]]);
    // The place need not exist any more.
    scene.remove(ids[2], "tom", &["tom"]).await.unwrap();
    let place = ListPlace { at: first[2].place.at.plus_ms(-10), conversation: ids[2] };
    assert_eq!(scene.listed("tom", after(Some(place), 3)).await, [ids[0]]);
}

pub async fn a_deleted_line_comes_back_with_the_next_message<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.say_to("tom", "jerry", "1").await.conversation;
    scene.delete(id, "jerry", DeleteScope::Caller, false).await.unwrap();
    assert_eq!((scene.lines("jerry").await, scene.lines("tom").await.len()), (vec![], 1));
    let with_empty = ListQuery { with_empty: true, ..list() };
    assert_eq!(scene.list("jerry", with_empty).await, []);
    // It is read, and still in history.
    assert_eq!((scene.unread("jerry").await, scene.words(id, "jerry").await), (vec![], vec!["1".to_owned()]));
    scene.reopen().await;
    // Neither an edit nor what waits for devices only is something new.
    let said = scene.everything(id, "tom").await.remove(0);
    scene.patch("tom", &said, text("one"), Mentions::default()).await.unwrap();
    scene.command(id, "tom", "command").await;
    assert_eq!(scene.lines("jerry").await, []);
    scene.say(id, "tom", "2").await;
    assert_eq!(scene.lines("jerry").await, [(id, "2".to_owned(), 1)]);
    // Recalling it leaves nothing to come back for.
    let said = scene.everything(id, "tom").await.remove(1);
    scene.recall(&said).await;
    assert_eq!(scene.lines("jerry").await, []);
    scene.audit().await;
}

pub async fn what_servers_said_counts_by_setting<E: Engine>(engine: E) {
    use ServerMessages::{Exclude, Ignore, Write};

    let scene = Scene::new(engine).await;
    let (mixed, served) = (scene.group(&["tom", "jerry"]).await, scene.group(&["tom", "jerry"]).await);
    scene.say(mixed, "jerry", "client").await;
    scene.clock.advance_ms(10);
    scene.serve(served, "admin", "server").await;
    scene.clock.advance_ms(10);
    scene.serve(mixed, "jerry", "server").await;
    let lines = async |setting| {
        let listed = scene.list("tom", by_servers(setting)).await;
        listed.iter().map(line).collect::<Vec<_>>()
    };
    let of = |id, words: &str, unread| (id, words.to_owned(), unread);
    assert_eq!(lines(Exclude).await, []);
    assert_eq!(lines(Ignore).await, [of(mixed, "client", 1)]);
    assert_eq!(lines(Write).await, [of(mixed, "server", 1), of(served, "server", 0)]);
    // A client speaks after the server: the line is there in any case.
    scene.clock.advance_ms(10);
    scene.say(served, "jerry", "client").await;
    assert_eq!(lines(Exclude).await, [of(served, "client", 1)]);
    assert_eq!(lines(Ignore).await, [of(served, "client", 1), of(mixed, "client", 1)]);
    assert_eq!(lines(Write).await, [of(served, "client", 1), of(mixed, "server", 1)]);
    // The order and the pages follow what is shown.
    let second = ListQuery { server_messages: Ignore, ..numbered(1, 1) };
    assert_eq!(scene.listed("tom", second).await, [mixed]);
    let second = ListQuery { server_messages: Exclude, ..numbered(1, 1) };
    assert_eq!(scene.listed("tom", second).await, []);
    // All of it is in history.
    assert_eq!(scene.words(mixed, "tom").await, ["client", "server"]);
}

pub async fn a_line_may_lie_behind_many_server_messages<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = scene.groups(5).await;
    for id in &ids[1..4] {
        for _ in 0..30 {
            scene.serve(*id, "admin", "server").await;
        }
    }
    let ignoring = |number| ListQuery { server_messages: ServerMessages::Ignore, ..numbered(2, number) };
    let pages = [
        scene.listed("tom", ignoring(0)).await,
        scene.listed("tom", ignoring(1)).await,
        scene.listed("tom", ignoring(2)).await,
    ];
    assert_eq!(pages.concat(), [ids[4], ids[3], ids[2], ids[1], ids[0]]);
    assert_eq!(scene.listed("tom", numbered(2, 0)).await, [ids[4], ids[0]]);
}

pub async fn a_recalled_newest_gives_way<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let first = scene.say(id, "jerry", "1").await;
    scene.clock.advance_ms(10);
    let other = scene.groups(1).await[0];
    let second = scene.say(id, "jerry", "2").await;
    scene.recall(&second).await;
    let listed = scene.list("tom", list()).await;
    assert_eq!(listed.iter().map(line).collect::<Vec<_>>(), [(other, "hi".into(), 1), (id, "1".into(), 1)]);
    assert_eq!(listed[1].place.at, first.timestamp);
    scene.recall(&first).await;
    assert_eq!(scene.listed("tom", list()).await, [other]);
    scene
        .patch("jerry", &scene.everything(other, "tom").await[0], text("ho"), Mentions::default())
        .await
        .unwrap();
    assert_eq!(scene.lines("tom").await, [(other, "ho".to_owned(), 1)]);
}

pub async fn a_removed_newest_gives_way<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let first = scene.say(id, "jerry", "1").await;
    scene.clock.advance_ms(10);
    let second = scene.say(id, "jerry", "2").await;
    scene.remove_messages(id, "tom", Removal::Messages(vec![second.id])).await.unwrap();
    let listed = scene.list("tom", list()).await;
    assert_eq!((line(&listed[0]), listed[0].place.at), ((id, "1".to_owned(), 1), first.timestamp));
    assert_eq!(scene.lines("jerry").await, [(id, "2".to_owned(), 0)]);
    scene.remove_messages(id, "tom", Removal::Until(first.timestamp)).await.unwrap();
    assert_eq!(scene.lines("tom").await, []);
    scene.clock.advance_ms(10);
    scene.say(id, "jerry", "3").await;
    assert_eq!(scene.lines("tom").await, [(id, "3".to_owned(), 1)]);
    scene.audit().await;
}

pub async fn empty_ones_are_listed_on_demand<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let empty = scene.group(&["tom", "jerry"]).await;
    scene.clock.advance_ms(10);
    let spoken = scene.groups(1).await[0];
    scene.clock.advance_ms(10);
    let newer = scene.group(&["tom", "jerry"]).await;
    let with_empty = |page| ListQuery { with_empty: true, page, ..list() };
    assert_eq!(scene.listed("tom", list()).await, [spoken]);
    let listed = scene.list("tom", with_empty(list().page)).await;
    assert_eq!(listed.iter().map(line).map(|line| line.0).collect::<Vec<_>>(), [newer, spoken, empty]);
    assert_eq!((listed[0].place.at, &listed[0].last_message), (scene.now(), &None));
    let rest = ListPage::After { cursor: Some(listed[0].place), limit: 5 };
    assert_eq!(scene.listed("tom", with_empty(rest)).await, [spoken, empty]);
}

pub async fn pins_come_first_among_themselves<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let ids = scene.groups(4).await;
    for number in [2, 0, 3] {
        scene.clock.advance_ms(10);
        let since = scene.change_listed("tom", ids[number], ListChange::Pin(true)).await;
        assert_eq!(since, Ok(Some(scene.now())));
    }
    assert_eq!(scene.change_listed("tom", ids[0], ListChange::Pin(false)).await, Ok(None));
    scene.reopen().await;
    let pinned = ListQuery { pinned_only: true, ..after(None, 10) };
    let listed = scene.list("tom", pinned.clone()).await;
    assert_eq!(listed.iter().map(|listed| listed.address.id).collect::<Vec<_>>(), [ids[3], ids[2]]);
    assert_eq!(listed[0].pinned_at, Some(scene.now()));
    assert_eq!(listed[0].place, ListPlace { at: scene.now(), conversation: ids[3] });
    let rest = ListQuery { pinned_only: true, ..after(Some(listed[0].place), 10) };
    assert_eq!(scene.listed("tom", rest).await, [ids[2]]);
    // The whole list stays in its order; the other side's is as it was.
    let whole = scene.list("tom", list()).await;
    assert_eq!(
        whole.iter().map(|listed| listed.pinned_at.is_some()).collect::<Vec<_>>(),
        [true, true, false, false]
    );
    assert_eq!(scene.list("jerry", pinned).await, []);
    let change = ListChange::Pin(true);
    let told = NoteKind::Listed { conversation: ids[3], device: Some(device("phone")), change };
    assert_eq!(scene.notes("tom").await.iter().filter(|note| note.what == told).count(), 1);
}

pub async fn pins_are_limited<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut ids = Vec::new();
    for _ in 0..=PINS_MAX {
        ids.push(scene.group(&["tom"]).await);
    }
    for id in &ids[..PINS_MAX] {
        scene.change_listed("tom", *id, ListChange::Pin(true)).await.unwrap();
    }
    let notes = scene.notes("tom").await.len();
    let (store, last, change) = (scene.store(), ids[PINS_MAX], ListChange::Pin(true));
    let (after, heard) = listener();
    let refused = store.change_listed(&scene.app, &client("tom"), last, None, change, after).await;
    assert_eq!((refused, heard.all()), (Err(Error::ListFull { max: PINS_MAX }), vec![]));
    assert_eq!(scene.notes("tom").await.len(), notes);
    // Who is pinned needs no room; one that goes makes room.
    scene.change_listed("tom", ids[0], change).await.unwrap();
    scene.change_listed("tom", ids[1], ListChange::Pin(false)).await.unwrap();
    scene.change_listed("tom", last, change).await.unwrap();
}

pub async fn pins_of_deleted_lines_are_in_nobodys_way<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    for id in scene.groups(PINS_MAX).await {
        scene.change_listed("tom", id, ListChange::Pin(true)).await.unwrap();
        scene.delete(id, "tom", DeleteScope::Caller, false).await.unwrap();
    }
    assert_eq!(scene.list("tom", ListQuery { pinned_only: true, ..list() }).await, []);
    let next = scene.groups(1).await[0];
    assert!(scene.change_listed("tom", next, ListChange::Pin(true)).await.is_ok());
    assert_eq!(scene.listed("tom", ListQuery { pinned_only: true, ..list() }).await, [next]);
}

pub async fn marks_are_bits<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = scene.groups(3).await;
    let mark = async |number: usize, mark, on| {
        scene.change_listed("tom", ids[number], ListChange::Mark(mark, on)).await.unwrap()
    };
    for (number, which, on) in [(0, 3, true), (1, 3, true), (1, 0, true), (2, MARKS - 1, true), (0, 3, false)]
    {
        assert_eq!(mark(number, which, on).await, None);
    }
    let marks: Vec<u32> = scene.list("tom", list()).await.iter().map(|listed| listed.marks).collect();
    assert_eq!(marks, [1 << (MARKS - 1), 0b1001, 0]);
    let marked = |mark| ListQuery { marked: Some(mark), ..list() };
    assert_eq!(scene.listed("tom", marked(3)).await, [ids[1]]);
    assert_eq!(scene.listed("tom", marked(1)).await, []);
    assert_eq!(scene.listed("jerry", marked(3)).await, []);
    let told = NoteKind::Listed {
        conversation: ids[0],
        device: Some(device("phone")),
        change: ListChange::Mark(3, false),
    };
    assert_eq!(scene.newest_notes("tom", 1).await, [told]);
}

pub async fn lines_belong_to_members<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = scene.groups(2).await;
    scene.remove(ids[0], "tom", &["tom"]).await.unwrap();
    assert_eq!(scene.listed("tom", list()).await, [ids[1]]);
    assert_eq!(scene.listed("jerry", list()).await, [ids[1], ids[0]]);
    let pin = ListChange::Pin(true);
    assert_eq!(scene.change_listed("tom", ids[0], pin).await, Err(Error::NotMember));
    assert_eq!(scene.change_listed("spike", ids[1], pin).await, Err(Error::NotMember));
    let nowhere = scene.change_listed("tom", scene.lasting_id(), pin).await;
    assert_eq!(nowhere, Err(Error::ConversationNotFound));
    assert_eq!(scene.listed("spike", list()).await, []);
    // Who comes finds the line with what is in history.
    scene.add(ids[0], "jerry", &["spike"]).await.unwrap();
    assert_eq!(scene.lines("spike").await, [(ids[0], "hi".to_owned(), 0)]);
}

pub async fn a_line_may_begin_with_the_coming<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = scene.groups(2).await;
    scene.clock.advance_ms(10);
    scene.import(ids[0], "jerry", scene.now().plus_ms(-5)).await;
    scene.add(ids[0], "jerry", &["spike"]).await.unwrap();
    let since_joined = ListQuery { since_joined: true, ..list() };
    assert_eq!(scene.listed("spike", list()).await, [ids[0]]);
    assert_eq!(scene.list("spike", since_joined.clone()).await, []);
    let with_empty = ListQuery { with_empty: true, ..since_joined.clone() };
    let listed = scene.list("spike", with_empty).await;
    assert_eq!((listed.len(), &listed[0].last_message, listed[0].unread), (1, &None, 0));
    // Founders and pairs see all of it.
    assert_eq!(scene.listed("tom", since_joined.clone()).await.len(), 2);
    let said = scene.say_to("spike", "tom", "pair").await;
    assert_eq!(scene.listed("spike", since_joined.clone()).await, [said.conversation]);
    scene.clock.advance_ms(10);
    scene.say(ids[0], "jerry", "welcome").await;
    let lines: Vec<_> = scene.list("spike", since_joined).await.iter().map(line).collect();
    assert_eq!(lines[0], (ids[0], "welcome".to_owned(), 1));
    assert_eq!(lines.len(), 2);
}

pub async fn imports_and_old_clocks_show_nothing_from_before_the_coming<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let start = scene.now();
    scene.clock.advance_ms(1_000);
    scene.say(id, "jerry", "secret").await;
    // By the clock it comes before what was said.
    scene.clock.set(start.plus_ms(500));
    let came = scene.add(id, "jerry", &["spike"]).await.unwrap().at;
    scene.clock.set(start.plus_ms(700));
    let since_joined = ListQuery { since_joined: true, ..list() };
    let newest = async || {
        let mut listed = scene.list("spike", since_joined.clone()).await;
        listed.pop().and_then(|line| line.last_message).map(|message| message.id)
    };
    scene.import(id, "jerry", came.plus_ms(-1)).await;
    assert_eq!(newest().await, None);
    let imported = scene.import(id, "jerry", came).await;
    assert_eq!(newest().await, Some(imported.id));
    let said = scene.say(id, "jerry", "welcome").await;
    assert_eq!(newest().await, Some(said.id));
    scene.recall(&said).await;
    assert_eq!(newest().await, Some(imported.id));
    let history = HistoryQuery { since_joined: true, ..HistoryQuery::newest(id, 10) };
    let read = scene.store().read_history(&scene.app, &client("spike"), history).await.unwrap().messages;
    assert_eq!(read.iter().map(|message| message.id).collect::<Vec<_>>(), [imported.id, said.id]);
}

pub async fn lists_of_apps_are_apart<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (store, other, tom) = (scene.store(), app_id("other"), client("tom"));
    assert!(store.add_app(app("other", &[]), &[]).await.unwrap());
    let id = scene.say_to("tom", "jerry", "hi").await.conversation;
    assert_eq!(store.list_conversations(&other, &tom, list()).await, Ok(vec![]));
    assert_eq!(store.find_direct(&other, &tom, &client("jerry")).await, Ok(None));
    assert_eq!(store.list_groups(&other, None, 0, 10).await.unwrap().total, 0);
    let absent = Error::ConversationNotFound;
    let pin = ListChange::Pin(true);
    assert_eq!(store.change_listed(&other, &tom, id, None, pin, nothing()).await, Err(absent.clone()));
    let until = Removal::Until(scene.now());
    assert_eq!(
        store.remove_messages(&other, &tom, id, None, until, true, nothing()).await,
        Err(absent.clone())
    );
    let delete = DeleteConversation {
        conversation: id,
        by: tom.clone(),
        device: None,
        with_messages: true,
        scope: DeleteScope::Everyone,
        group_needs_moderator: false,
    };
    assert_eq!(store.delete_conversation(&other, delete, nothing()).await, Err(absent.clone()));
    store.remove_everything(&other, &tom, None, nothing()).await.unwrap();
    assert_eq!(store.read_timeline(&other, &tom, id, Seq(0), 10).await, Err(absent.clone()));
    let said = scene.everything(id, "tom").await.remove(0);
    assert_eq!(store.message(&other, &tom, id, said.id).await, Err(absent.clone()));
    let phone = device("phone");
    store.open_device(&other, &tom, &phone, 60_000).await.unwrap();
    assert_eq!(store.waiting(&other, &tom, &phone, 10).await.unwrap().conversations, []);
    let ended = store.end_conversation(&other, id, &tom, Authority::Server, nothing()).await;
    assert_eq!(ended, Err(absent));
    assert_eq!(scene.lines("tom").await, [(id, "hi".to_owned(), 0)]);
}
