//! Marks, unread numbers, mentions, receipts.

use futures_util::future::{join, join_all};
use posthouse_core::error::Error;
use posthouse_core::receipt::MemberMarks;

use super::history::history;
use super::*;

pub async fn others_messages_count_own_do_not<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike"]).await;
    assert_eq!(scene.unread("tom").await, []);
    for sender in ["tom", "jerry", "tom", "spike"] {
        scene.say(id, sender, sender).await;
    }
    let newest = scene.say(id, "tom", "last").await;
    for (reader, count) in [("tom", 2), ("jerry", 4), ("spike", 4)] {
        assert_eq!(scene.unread_in(id, reader).await, (count, false));
    }
    let jerry = scene.unread("jerry").await.remove(0);
    assert_eq!((jerry.last_message.unwrap(), jerry.head, jerry.kind), (newest, Seq(5), Kind::Group));
    // Tom's newest unread message is not his own.
    assert_eq!(scene.unread("tom").await[0].last_message.as_ref().unwrap().sender, client("spike"));
    scene.reopen().await;
    assert_eq!(scene.unread_in(id, "jerry").await, (4, false));
    scene.audit().await;
}

pub async fn a_mark_covers_what_lies_before_it<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let mut said = Vec::new();
    for number in 0..10 {
        scene.clock.advance_ms(10);
        said.push(scene.say(id, if number % 3 == 0 { "jerry" } else { "tom" }, "x").await);
    }
    // Of ten, 0, 3, 6 and 9 are Jerry's own.
    for (until, left) in [(1, 5), (4, 3), (7, 1)] {
        let marked = scene.read(id, "jerry", Some(&said[until])).await;
        assert_eq!((marked.unread.count, marked.unread.head), (left, Seq(10)));
        assert_eq!(scene.unread_in(id, "jerry").await.0, left);
        scene.audit().await;
    }
    let (after, heard) = listener();
    let mark = MarkRead { conversation: id, until: None, id: None, device: None };
    let marked = scene.store().mark_read(&scene.app, &client("jerry"), mark, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&marked));
    // With nothing unread, the newest message of all is named.
    assert_eq!((marked.unread.count, marked.unread.last_message), (0, said.pop()));
    assert_eq!(scene.unread("jerry").await, []);
    scene.say(id, "tom", "y").await;
    assert_eq!(scene.unread_in(id, "jerry").await.0, 1);
    scene.audit().await;
}

pub async fn a_mark_never_goes_back<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let first = scene.say(id, "tom", "1").await;
    scene.clock.advance_ms(10);
    scene.say(id, "tom", "2").await;
    scene.read_all(id, "jerry").await;
    let heard = Heard::default();
    let back = MarkRead { conversation: id, until: Some(first.timestamp), id: None, device: None };
    let marked =
        scene.store().mark_read(&scene.app, &client("jerry"), back.clone(), heard.listen()).await.unwrap();
    assert_eq!((marked.unread.count, &marked.receipts), (0, &vec![]));
    // The reader's devices are told all the same.
    assert_eq!(heard.all(), std::slice::from_ref(&marked));
    let early = MarkRead { until: Some(Timestamp(1)), ..back };
    let marked = scene.store().mark_read(&scene.app, &client("tom"), early, heard.listen()).await.unwrap();
    assert_eq!((marked.unread.count, marked.receipts), (0, vec![]));
}

pub async fn a_mark_within_a_millisecond<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(scene.say(id, "tom", "x").await);
    }
    assert_eq!(scene.read(id, "jerry", Some(&said[1])).await.unread.count, 1);
    let whole = MarkRead { conversation: id, until: Some(said[0].timestamp), id: None, device: None };
    let marked = scene.store().mark_read(&scene.app, &client("jerry"), whole, nothing()).await.unwrap();
    assert_eq!(marked.unread.count, 0);
    // A mark covers what there is; what comes later in the same millisecond is unread.
    scene.say(id, "tom", "x").await;
    assert_eq!(scene.unread_in(id, "jerry").await.0, 1);
    scene.audit().await;
}

pub async fn recalled_messages_do_not_count<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let first = scene.say(id, "tom", "1").await;
    let second =
        scene.append(NewMessage { mentions: calls_all(), ..message(id, "tom", "2") }).await.unwrap().message;
    let own = scene.say(id, "jerry", "3").await;
    assert_eq!(scene.unread_in(id, "jerry").await, (2, true));
    scene.recall(&second).await;
    assert_eq!(scene.unread_in(id, "jerry").await, (1, false));
    assert_eq!(scene.unread("jerry").await[0].last_message.as_ref().unwrap().id, first.id);
    scene.recall(&own).await;
    assert_eq!(scene.unread_in(id, "jerry").await, (1, false));
    scene.audit().await;
    scene.read_all(id, "jerry").await;
    scene.recall(&first).await;
    assert_eq!(scene.unread("jerry").await, []);
    scene.say(id, "tom", "4").await;
    assert_eq!(scene.unread_in(id, "jerry").await.0, 1);
    scene.audit().await;
}

pub async fn mentions_count_while_unread<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike"]).await;
    scene
        .append(NewMessage { mentions: calls(&["jerry", "stranger"]), ..message(id, "tom", "1") })
        .await
        .unwrap();
    for (who, called) in [("jerry", true), ("spike", false), ("tom", false)] {
        assert_eq!(scene.unread_in(id, who).await.1, called);
    }
    scene.read_all(id, "jerry").await;
    scene.say(id, "tom", "2").await;
    assert_eq!(scene.unread_in(id, "jerry").await, (1, false));
    scene.append(NewMessage { mentions: calls_all(), ..message(id, "tom", "3") }).await.unwrap();
    assert_eq!(scene.unread_in(id, "spike").await, (3, true));
    scene.say(id, "spike", "4").await;
    // One's own call to all is no call to oneself.
    assert_eq!(scene.unread_in(id, "tom").await, (1, false));
    scene.audit().await;
}

pub async fn an_edit_changes_who_is_called<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike"]).await;
    let said = scene
        .append(NewMessage { mentions: calls(&["jerry"]), ..message(id, "tom", "1") })
        .await
        .unwrap()
        .message;
    scene.patch("tom", &said, text("2"), calls(&["spike"])).await.unwrap();
    assert_eq!(scene.unread_in(id, "jerry").await, (1, false));
    assert_eq!(scene.unread_in(id, "spike").await, (1, true));
    scene.patch("tom", &said, text("3"), calls_all()).await.unwrap();
    assert_eq!(scene.unread_in(id, "jerry").await, (1, true));
    scene.patch("tom", &said, text("4"), Mentions::default()).await.unwrap();
    assert_eq!(scene.unread_in(id, "spike").await, (1, false));
    scene.audit().await;
}

pub async fn new_members_have_nothing_unread<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    scene.append(NewMessage { mentions: calls_all(), ..message(id, "tom", "1") }).await.unwrap();
    scene.add(id, "tom", &["jerry"]).await.unwrap();
    assert_eq!(scene.unread("jerry").await, []);
    scene.say(id, "tom", "2").await;
    assert_eq!(scene.unread_in(id, "jerry").await, (1, false));
    scene.audit().await;
}

pub async fn who_comes_back_has_nothing_unread<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    scene.say(id, "jerry", "mine").await;
    scene.say(id, "tom", "1").await;
    scene.remove(id, "jerry", &["jerry"]).await.unwrap();
    scene.say(id, "tom", "2").await;
    scene.add(id, "jerry", &["jerry"]).await.unwrap();
    assert_eq!(scene.unread("jerry").await, []);
    scene.say(id, "jerry", "mine").await;
    let third = scene.say(id, "tom", "3").await;
    scene.say(id, "tom", "4").await;
    assert_eq!(scene.unread_in(id, "jerry").await.0, 2);
    assert_eq!(scene.read(id, "jerry", Some(&third)).await.unread.count, 1);
    scene.audit().await;
}

pub async fn rooms_have_no_marks<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let room = scene.room().await;
    let said = scene.say(room, "tom", "1").await;
    let (store, app, tom) = (scene.store(), &scene.app, client("tom"));
    let mark = MarkRead { conversation: room, until: None, id: None, device: None };
    assert_eq!(store.mark_read(app, &tom, mark, nothing()).await, Err(Error::NotInRooms));
    let mark = MarkDelivered { conversation: room, until: Delivered::Message(said.id) };
    assert_eq!(store.mark_delivered(app, &tom, mark, nothing()).await, Err(Error::NotInRooms));
    assert_eq!(store.member_marks(app, &tom, room).await, Err(Error::NotInRooms));
    assert_eq!(scene.unread("tom").await, []);
    let group = scene.group(&["jerry"]).await;
    let mark = MarkRead { conversation: group, until: None, id: None, device: None };
    assert_eq!(store.mark_read(app, &tom, mark, nothing()).await, Err(Error::NotMember));
}

pub async fn the_list_is_newest_first_and_limited<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let members = ["tom", "jerry"];
        ids.push(if number % 2 == 0 {
            scene.group(&members).await
        } else {
            scene.temporary(3_600_000, &members).await
        });
    }
    for id in [4, 1, 3, 0, 5, 2].map(|number| ids[number]) {
        scene.clock.advance_ms(1);
        scene.say(id, "tom", "x").await;
    }
    let order =
        |unread: Vec<Unread>| unread.into_iter().map(|unread| unread.conversation).collect::<Vec<_>>();
    assert_eq!(order(scene.unread("jerry").await), [2, 5, 0, 3, 1, 4].map(|number| ids[number]));
    scene.read_all(ids[5], "jerry").await;
    let listed = scene.store().list_unread(&scene.app, &client("jerry"), None, 3).await.unwrap();
    assert_eq!(order(listed), [2, 0, 3].map(|number| ids[number]));
}

pub async fn the_list_since_a_time<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (old, new) = (scene.group(&["tom", "jerry"]).await, scene.group(&["tom", "jerry"]).await);
    let first = scene.say(old, "tom", "1").await;
    let second = scene.say(old, "tom", "2").await;
    scene.clock.advance_ms(100);
    let since = scene.now();
    scene.clock.advance_ms(100);
    scene.say(new, "tom", "3").await;
    let list = async || {
        let listed = scene.store().list_unread(&scene.app, &client("jerry"), Some(since), 10).await.unwrap();
        listed.into_iter().map(|unread| unread.conversation).collect::<Vec<_>>()
    };
    assert_eq!(list().await, [new]);
    // A recall and a mark change what is unread, too.
    scene.recall(&second).await;
    assert_eq!(list().await, [new, old]);
    scene.recall(&first).await;
    assert_eq!(list().await, [new]);
}

pub async fn the_list_sees_what_closures_have_told<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let ids = [scene.group(&["tom", "jerry"]).await, scene.temporary(3_600_000, &["tom", "jerry"]).await];
    let heard: Heard<Appended> = Heard::default();
    let told = |heard: &Heard<Appended>| heard.all().len() as u64;
    let writes = async {
        for round in 0..20 {
            let sends = (0..10).map(|number| {
                let new = message(ids[(round + number) % 2], "tom", "x");
                scene.store().append_message(&scene.app, new, heard.listen())
            });
            for sent in join_all(sends).await {
                sent.unwrap();
            }
        }
    };
    let reads = async {
        for _ in 0..100 {
            let before = told(&heard);
            let seen: u64 = scene.unread("jerry").await.iter().map(|unread| unread.count).sum();
            let after = told(&heard);
            assert!(before <= seen && seen <= after, "{before} {seen} {after}");
        }
    };
    join(writes, reads).await;
    assert_eq!(told(&heard), 200);
}

pub async fn marks_of_members<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let marks = async || scene.store().member_marks(&scene.app, &client("tom"), id).await.unwrap();
    let none = |who| MemberMarks { client: client(who), delivered_at: None, read_at: None };
    assert_eq!(marks().await, [none("tom"), none("jerry")]);
    let first = scene.say(id, "tom", "1").await;
    scene.clock.advance_ms(10);
    let second = scene.say(id, "tom", "2").await;
    scene.clock.advance_ms(10);
    // Short of the newest message, the covered one's time counts; with the newest, the clock's.
    scene.deliver(id, "jerry", &first).await;
    scene.read(id, "jerry", Some(&first)).await;
    let jerry = marks().await.remove(1);
    assert_eq!((jerry.delivered_at, jerry.read_at), (Some(first.timestamp), Some(first.timestamp)));
    scene.deliver(id, "jerry", &second).await;
    scene.read(id, "jerry", Some(&second)).await;
    let jerry = marks().await.remove(1);
    assert_eq!((jerry.delivered_at, jerry.read_at), (Some(scene.now()), Some(scene.now())));
    let before = marks().await;
    scene.clock.advance_ms(-1_000);
    scene.deliver(id, "jerry", &first).await;
    scene.read(id, "jerry", Some(&first)).await;
    assert_eq!(marks().await, before);
    let refused = scene.store().member_marks(&scene.app, &client("spike"), id).await;
    assert_eq!(refused, Err(Error::NotMember));
}

fn wants_receipt(conversation: ConversationId, sender: &str) -> NewMessage {
    NewMessage { receipt: true, ..message(conversation, sender, "x") }
}

pub async fn a_read_receipt_names_the_newest_message<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(scene.append(wants_receipt(id, "tom")).await.unwrap().message);
        scene.clock.advance_ms(10);
    }
    scene.say(id, "tom", "wants none").await;
    scene.append(wants_receipt(id, "jerry")).await.unwrap();
    let marked = scene.read(id, "jerry", Some(&said[1])).await;
    let [(sender, receipt)] = &marked.receipts[..] else { panic!("{marked:?}") };
    assert_eq!((sender.as_str(), receipt.message, receipt.by.as_str()), ("tom", said[1].id, "jerry"));
    assert_eq!((receipt.at, receipt.read, receipt.conversation), (scene.now(), true, id));
    let marked = scene.read_all(id, "jerry").await;
    assert_eq!(marked.receipts.len(), 1);
    assert_eq!(marked.receipts[0].1.message, said[2].id);
    assert_eq!(scene.read_all(id, "jerry").await.receipts, []);
    let stored = scene
        .store()
        .read_history(&scene.app, &client("tom"), history(id, Direction::Forward))
        .await
        .unwrap()
        .messages;
    let stamped: Vec<bool> = stored.iter().map(|message| message.read_at.is_some()).collect();
    assert_eq!(stamped, [true, true, true, false, false]);
}

pub async fn delivery_receipts_are_one_each<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom", "jerry"]).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(scene.append(wants_receipt(id, "tom")).await.unwrap().message);
    }
    let told = scene.deliver(id, "jerry", &said[1]).await;
    let ids: Vec<_> =
        told.iter().map(|(sender, receipt)| (sender.as_str(), receipt.message, receipt.read)).collect();
    assert_eq!(ids, [("tom", said[0].id, false), ("tom", said[1].id, false)]);
    assert_eq!(scene.deliver(id, "jerry", &said[0]).await, []);
    let mark = MarkDelivered { conversation: id, until: Delivered::Time(scene.now()) };
    let (after, heard) = listener();
    let told = scene.store().mark_delivered(&scene.app, &client("jerry"), mark, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&told));
    assert_eq!(told[0].1.message, said[2].id);
    let elsewhere = scene.temporary(60_000, &["tom", "jerry"]).await;
    let unknown = MarkDelivered { conversation: elsewhere, until: Delivered::Message(said[0].id) };
    let told = scene.store().mark_delivered(&scene.app, &client("jerry"), unknown, nothing()).await;
    assert_eq!(told, Ok(vec![]));
    let stored = scene
        .store()
        .read_history(&scene.app, &client("tom"), history(id, Direction::Forward))
        .await
        .unwrap()
        .messages;
    assert!(stored.iter().all(|message| message.delivered_at == Some(scene.now())));
}

pub async fn there_are_no_receipts_in_groups<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike"]).await;
    let said = scene.append(wants_receipt(id, "tom")).await.unwrap().message;
    assert_eq!(scene.deliver(id, "jerry", &said).await, []);
    assert_eq!(scene.read_all(id, "jerry").await.receipts, []);
    let stored = scene
        .store()
        .read_history(&scene.app, &client("tom"), history(id, Direction::Forward))
        .await
        .unwrap()
        .messages;
    assert_eq!((stored[0].delivered_at, stored[0].read_at), (Some(scene.now()), Some(scene.now())));
}

pub async fn random_operations_agree_with_a_plain_model<E: Engine>(engine: E) {
    let chance = SeededChance::new(4_711);
    let operations: Vec<[u8; 4]> = (0..400)
        .map(|_| {
            let bits = chance.bits().to_le_bytes();
            [bits[0], bits[1], bits[2], bits[3]]
        })
        .collect();
    model::agrees(engine, &operations).await;
}
