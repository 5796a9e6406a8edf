//! Stretches of history.

use posthouse_core::error::Error;
use posthouse_core::message::{Bound, KindFilter};

use super::*;

pub fn history(conversation: ConversationId, direction: Direction) -> HistoryQuery {
    HistoryQuery { direction, ..HistoryQuery::newest(conversation, 100) }
}

fn at(message: &Message, included: bool) -> Option<Bound> {
    Some(Bound { timestamp: message.timestamp, id: Some(message.id), included })
}

fn around(timestamp: Timestamp, included: bool) -> Option<Bound> {
    Some(Bound { timestamp, id: None, included })
}

impl<E: Engine> Scene<E> {
    async fn history(&self, query: HistoryQuery) -> Vec<Message> {
        self.store().read_history(&self.app, &client("tom"), query).await.unwrap().messages
    }

    /// Ten messages, two in each millisecond.
    async fn ten(&self) -> (ConversationId, Vec<Message>) {
        let id = self.group(&["tom", "jerry"]).await;
        let mut said = Vec::new();
        for number in 0..10 {
            if number % 2 == 0 {
                self.clock.advance_ms(10);
            }
            said.push(self.say(id, "tom", &number.to_string()).await);
        }
        (id, said)
    }
}

pub async fn a_page_of_large_messages_is_shorter<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let mut said = Vec::new();
    for _ in 0..5 {
        scene.clock.advance_ms(1);
        said.push(scene.say(id, "tom", &"x".repeat(900_000)).await);
    }
    let page = scene.history(history(id, Direction::Backward)).await;
    assert!(page == said[3..], "the two newest fit into two megabytes");
    let page = scene.history(history(id, Direction::Forward)).await;
    assert!(page == said[..2], "the two oldest do");
    scene.clock.advance_ms(1);
    let huge = scene.say(id, "tom", &"x".repeat(3_000_000)).await;
    let page = scene.history(history(id, Direction::Backward)).await;
    assert!(page == [huge], "one message is told, however large");
}

pub async fn pages_go_both_ways<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    for direction in [Direction::Backward, Direction::Forward] {
        let mut query = HistoryQuery { limit: 3, ..history(id, direction) };
        let mut pages = Vec::new();
        loop {
            let page = scene.history(query.clone()).await;
            let Some(last) = (if direction == Direction::Backward { page.first() } else { page.last() })
            else {
                break;
            };
            query.start = at(last, false);
            assert!(page.is_sorted_by_key(Message::position));
            pages.push(page);
        }
        if direction == Direction::Backward {
            pages.reverse();
        }
        assert_eq!(pages.concat(), said);
    }
    assert_eq!(scene.history(HistoryQuery { limit: 0, ..history(id, Direction::Backward) }).await, []);
    assert_eq!(scene.history(HistoryQuery { limit: 2, ..history(id, Direction::Backward) }).await, said[8..]);
    assert_eq!(scene.history(HistoryQuery { limit: 2, ..history(id, Direction::Forward) }).await, said[..2]);
}

pub async fn bounds_with_and_without_id<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    let time = |number: usize| said[number].timestamp;
    let back = |start, end| HistoryQuery { start, end, ..history(id, Direction::Backward) };
    let on = |start, end| HistoryQuery { start, end, ..history(id, Direction::Forward) };
    let cases = [
        (back(at(&said[5], false), None), 0..5),
        (back(at(&said[5], true), None), 0..6),
        (back(at(&said[4], false), at(&said[1], false)), 2..4),
        (back(at(&said[4], true), at(&said[1], true)), 1..5),
        (back(around(time(5), false), None), 0..4),
        (back(around(time(5), true), None), 0..6),
        (back(around(time(6), true), around(time(2), false)), 4..8),
        (back(around(time(6), false), around(time(2), true)), 2..6),
        (back(around(time(0).plus_ms(-1), true), None), 0..0),
        (on(at(&said[5], false), None), 6..10),
        (on(at(&said[5], true), None), 5..10),
        (on(at(&said[2], false), at(&said[6], false)), 3..6),
        (on(at(&said[2], true), at(&said[6], true)), 2..7),
        (on(around(time(4), false), None), 6..10),
        (on(around(time(4), true), None), 4..10),
        (on(around(time(2), false), around(time(6), true)), 4..8),
        (on(around(time(2), true), around(time(6), false)), 2..6),
        (on(at(&said[6], true), at(&said[2], true)), 0..0),
    ];
    for (query, wanted) in cases {
        assert_eq!(scene.history(query.clone()).await, said[wanted], "{query:?}");
    }
}

pub async fn messages_of_one_millisecond_are_ordered_by_id<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let mut said = Vec::new();
    for number in 0..20 {
        said.push(scene.say(id, "tom", &number.to_string()).await);
    }
    assert!(said.iter().all(|message| message.timestamp == scene.now()));
    assert!(said.is_sorted_by_key(|message| message.id));
    assert_eq!(scene.history(history(id, Direction::Forward)).await, said);
    assert_eq!(scene.history(history(id, Direction::Backward)).await, said);
}

pub async fn a_kind_is_filtered_before_the_limit<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let mut wanted = Vec::new();
    for number in 0..9 {
        let mut new = message(id, "tom", "x");
        new.body.kind = [BodyKind::Custom(-5), BodyKind::Custom(5), BodyKind::Image][number % 3];
        let said = scene.append(new).await.unwrap().message;
        if number % 3 == 1 {
            wanted.push(said);
        }
    }
    let query = HistoryQuery {
        kinds: vec![KindFilter::Exactly(BodyKind::Custom(5))],
        limit: 2,
        ..history(id, Direction::Backward)
    };
    assert_eq!(scene.history(query).await, wanted[1..]);
}

pub async fn strangers_read_nothing<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (group, room) = (scene.group(&["jerry"]).await, scene.room().await);
    let temporary = scene.temporary(60_000, &["jerry"]).await;
    let said = scene.say(room, "jerry", "hi").await;
    let tom = client("tom");
    let read = async |id| {
        let read = scene.store().read_history(&scene.app, &tom, history(id, Direction::Backward)).await;
        read.map(|history| history.messages)
    };
    assert_eq!(read(group).await, Err(Error::NotMember));
    assert_eq!(read(temporary).await, Err(Error::TemporaryOver));
    assert_eq!(read(room).await, Err(Error::NotMember));
    let inside = HistoryQuery { in_room: true, ..history(room, Direction::Backward) };
    assert_eq!(scene.store().read_history(&scene.app, &tom, inside).await.unwrap().messages, [said]);
}

pub async fn a_recalled_message_keeps_its_place<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    let patched = scene.recall(&said[3]).await;
    let read = scene.history(history(id, Direction::Backward)).await;
    assert_eq!(read.len(), 10);
    assert_eq!((read[3].id, read[3].seq, read[3].timestamp), (said[3].id, said[3].seq, said[3].timestamp));
    assert!(read[3].is_recalled());
    assert_eq!(read[3].patched_at, Some(patched.patch.at));
}

impl<E: Engine> Scene<E> {
    async fn page(&self, reader: &str, query: HistoryQuery) -> (Vec<String>, bool) {
        let read = self.store().read_history(&self.app, &client(reader), query).await.unwrap();
        (read.messages.iter().map(words).collect(), read.more)
    }
}

fn found(words: &[&str], more: bool) -> (Vec<String>, bool) {
    (words.iter().map(|word| (*word).to_owned()).collect(), more)
}

pub async fn more_tells_whether_there_is_more<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    for direction in [Direction::Backward, Direction::Forward] {
        for (limit, more) in [(9, true), (10, false), (11, false)] {
            let query = HistoryQuery { limit, ..history(id, direction) };
            let read = scene.store().read_history(&scene.app, &client("tom"), query).await.unwrap();
            assert_eq!((read.messages.len(), read.more), (limit.min(10), more), "{direction:?} {limit}");
        }
    }
    // What lies beyond the end doesn't count.
    let query = HistoryQuery { limit: 3, end: at(&said[6], false), ..history(id, Direction::Backward) };
    assert_eq!(scene.page("tom", query).await, found(&["7", "8", "9"], false));
    let query = HistoryQuery { limit: 2, end: at(&said[6], false), ..history(id, Direction::Backward) };
    assert_eq!(scene.page("tom", query).await, found(&["8", "9"], true));
    // A page that is short of bytes has more behind it.
    let large = scene.group(&["tom"]).await;
    for _ in 0..3 {
        scene.say(large, "tom", &"x".repeat(900_000)).await;
    }
    let read =
        scene.store().read_history(&scene.app, &client("tom"), history(large, Direction::Backward)).await;
    let read = read.unwrap();
    assert_eq!((read.messages.len(), read.more), (2, true));
}

pub async fn a_page_begins_after_a_message<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    let after = |number: usize, direction| HistoryQuery {
        after: Some(said[number].id),
        limit: 3,
        ..history(id, direction)
    };
    let (back, on) = (Direction::Backward, Direction::Forward);
    assert_eq!(scene.page("tom", after(5, back)).await, found(&["2", "3", "4"], true));
    assert_eq!(scene.page("tom", after(5, on)).await, found(&["6", "7", "8"], true));
    assert_eq!(scene.page("tom", after(2, back)).await, found(&["0", "1"], false));
    assert_eq!(scene.page("tom", after(9, on)).await, found(&[], false));
    // It goes before a start, and an end still ends it.
    let query = HistoryQuery { start: at(&said[9], true), end: at(&said[3], true), ..after(5, back) };
    assert_eq!(scene.page("tom", query).await, found(&["3", "4"], false));
    // The message may be recalled, removed, or deleted.
    scene.recall(&said[5]).await;
    scene.remove_messages(id, "tom", Removal::Messages(vec![said[6].id])).await.unwrap();
    assert_eq!(scene.page("tom", after(6, on)).await, found(&["7", "8", "9"], false));
    assert_eq!(scene.page("tom", after(5, on)).await, found(&["7", "8", "9"], false));
    scene.delete(id, "jerry", DeleteScope::Everyone, true).await.unwrap();
    assert_eq!(scene.page("tom", after(6, on)).await, found(&[], false));
    scene.forget_all().await;
    scene.clock.advance_ms(1_000);
    scene.say(id, "jerry", "new").await;
    assert_eq!(scene.page("tom", after(6, on)).await, found(&["new"], false));
    assert_eq!(scene.page("tom", after(6, back)).await, found(&[], false));
}

pub async fn kinds_and_senders_are_filtered_together<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let kinds = [
        BodyKind::Text,
        BodyKind::Image,
        BodyKind::Custom(0),
        BodyKind::Custom(7),
        BodyKind::Combined,
        BodyKind::Untyped,
    ];
    for number in 0..24 {
        let mut new = message(id, ["tom", "jerry"][number / 12], &number.to_string());
        new.body.kind = kinds[number % kinds.len()];
        scene.append(new).await.unwrap();
    }
    let query = |kinds: &[KindFilter], sender: Option<&str>, limit| HistoryQuery {
        kinds: kinds.to_vec(),
        sender: sender.map(client),
        limit,
        ..history(id, Direction::Backward)
    };
    let exactly = KindFilter::Exactly;
    let read = async |query| scene.page("tom", query).await;
    assert_eq!(
        read(query(&[exactly(BodyKind::Text), exactly(BodyKind::Image)], None, 3)).await,
        found(&["13", "18", "19"], true)
    );
    assert_eq!(
        read(query(&[KindFilter::AnyCustom], Some("tom"), 9)).await,
        found(&["2", "3", "8", "9"], false)
    );
    assert_eq!(
        read(query(&[KindFilter::AnyCustom, exactly(BodyKind::Combined)], Some("jerry"), 2)).await,
        found(&["21", "22"], true)
    );
    assert_eq!(read(query(&[exactly(BodyKind::Custom(0))], None, 2)).await, found(&["14", "20"], true));
    assert_eq!(read(query(&[], Some("jerry"), 1)).await, found(&["23"], true));
    assert_eq!(read(query(&[exactly(BodyKind::Video)], None, 9)).await, found(&[], false));
    assert_eq!(read(query(&[], Some("nobody"), 9)).await, found(&[], false));
    let forward = HistoryQuery { direction: Direction::Forward, ..query(&[], Some("jerry"), 2) };
    assert_eq!(read(forward).await, found(&["12", "13"], true));
}

pub async fn recalled_ones_can_be_left_out<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    for number in [2, 7, 9] {
        scene.recall(&said[number]).await;
    }
    let query = |limit| HistoryQuery { without_recalled: true, limit, ..history(id, Direction::Backward) };
    assert_eq!(scene.page("tom", query(3)).await, found(&["5", "6", "8"], true));
    assert_eq!(scene.page("tom", query(7)).await, found(&["0", "1", "3", "4", "5", "6", "8"], false));
}

pub async fn history_since_joining<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.ten().await;
    scene.clock.advance_ms(10);
    scene.add(id, "tom", &["anna"]).await.unwrap();
    scene.clock.advance_ms(10);
    scene.say(id, "tom", "welcome").await;
    let since_joined = HistoryQuery { since_joined: true, ..history(id, Direction::Backward) };
    assert_eq!(scene.page("anna", since_joined.clone()).await, found(&["welcome"], false));
    let read = scene.page("tom", since_joined.clone()).await;
    assert_eq!(read.0.len(), 11);
    assert_eq!(scene.everything(id, "anna").await.len(), 11);
    // Who comes back has come at that moment.
    scene.remove(id, "anna", &["anna"]).await.unwrap();
    scene.say(id, "tom", "away").await;
    scene.clock.advance_ms(10);
    scene.add(id, "anna", &["anna"]).await.unwrap();
    scene.clock.advance_ms(10);
    scene.say(id, "tom", "back").await;
    assert_eq!(scene.page("anna", since_joined).await, found(&["back"], false));
}

pub async fn a_filtered_page_lies_behind_many_others<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    scene.say(id, "jerry", "needle").await;
    let sends = (0..2_000).map(|_| scene.append(message(id, "tom", "hay")));
    futures_util::future::join_all(sends).await;
    let query = HistoryQuery { sender: Some(client("jerry")), limit: 1, ..history(id, Direction::Backward) };
    assert_eq!(scene.page("tom", query).await, found(&["needle"], false));
}

pub async fn one_message_is_read_by_its_id<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    let other = scene.group(&["tom"]).await;
    let (store, app, tom) = (scene.store(), &scene.app, client("tom"));
    assert_eq!(store.message(app, &tom, id, said[4].id).await.as_ref(), Ok(&said[4]));
    assert_eq!(store.message(app, &client("butch"), id, said[4].id).await, Err(Error::NotMember));
    assert_eq!(store.message(app, &tom, other, said[4].id).await, Err(Error::MessageNotFound));
    scene.recall(&said[4]).await;
    assert!(store.message(app, &tom, id, said[4].id).await.unwrap().is_recalled());
}

pub async fn who_came_later_reads_nothing_older_by_its_id<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.ten().await;
    let old = scene.import(id, "tom", scene.now()).await;
    scene.clock.advance_ms(10);
    scene.add(id, "tom", &["anna"]).await.unwrap();
    let came = scene.now();
    scene.clock.advance_ms(10);
    let young = [scene.import(id, "tom", came).await, scene.say(id, "tom", "welcome").await];
    let one = async |reader: &str, message: &Message| {
        scene.store().message(&scene.app, &client(reader), id, message.id).await
    };
    for message in [&old, &said[0], &said[9]] {
        assert_eq!(one("anna", message).await, Err(Error::MessageNotFound));
        assert!(one("tom", message).await.is_ok());
    }
    for message in &young {
        assert_eq!(one("anna", message).await.as_ref(), Ok(message));
    }
}
