//! Stretches of history.

use posthouse_core::error::Error;
use posthouse_core::message::{Bound, Direction, HistoryQuery};

use super::*;

pub fn history(conversation: ConversationId, direction: Direction) -> HistoryQuery {
    HistoryQuery { conversation, direction, start: None, end: None, kind: None, limit: 100 }
}

fn at(message: &Message, included: bool) -> Option<Bound> {
    Some(Bound { timestamp: message.timestamp, id: Some(message.id), included })
}

fn around(timestamp: Timestamp, included: bool) -> Option<Bound> {
    Some(Bound { timestamp, id: None, included })
}

impl<E: Engine> Scene<E> {
    async fn history(&self, query: HistoryQuery) -> Vec<Message> {
        self.store().read_history(&self.app, &client("tom"), query).await.unwrap()
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
    let query =
        HistoryQuery { kind: Some(BodyKind::Custom(5)), limit: 2, ..history(id, Direction::Backward) };
    assert_eq!(scene.history(query).await, wanted[1..]);
}

pub async fn strangers_read_nothing<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (group, room) = (scene.group(&["jerry"]).await, scene.room().await);
    let temporary = scene.temporary(60_000, &["jerry"]).await;
    let said = scene.say(room, "jerry", "hi").await;
    let tom = client("tom");
    let read = |id| scene.store().read_history(&scene.app, &tom, history(id, Direction::Backward));
    assert_eq!(read(group).await, Err(Error::NotMember));
    assert_eq!(read(temporary).await, Err(Error::TemporaryOver));
    assert_eq!(read(room).await, Ok(vec![said]));
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
