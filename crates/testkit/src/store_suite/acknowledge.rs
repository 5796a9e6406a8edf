//! Acknowledging single messages.

use posthouse_core::error::Error;
use posthouse_core::event::Missed;
use posthouse_core::id::MessageId;
use posthouse_core::receipt::{Acknowledge, Acknowledged, Receipt};

use super::*;

impl<E: Engine> Scene<E> {
    async fn acknowledge(&self, by: &str, message: &Message, read: bool) -> Result<Acknowledged> {
        let asked = Acknowledge { read, ..of(message.conversation, message.id) };
        self.store().acknowledge(&self.app, &client(by), asked, nothing()).await
    }

    async fn receipts(&self, who: &str) -> Vec<Receipt> {
        let receipt = |note: Note| match note.what {
            NoteKind::Receipt(receipt) => Some(receipt),
            _ => None,
        };
        self.notes(who).await.into_iter().filter_map(receipt).collect()
    }
}

fn of(conversation: ConversationId, message: MessageId) -> Acknowledge {
    Acknowledge { conversation, message, read: true, note: None }
}

pub async fn the_sender_finds_a_receipt<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let said = scene.say_to("tom", "jerry", "x").await;
    scene.clock.advance_ms(10);
    let (after, heard) = listener();
    let asked = Acknowledge { note: Some("thanks".into()), ..of(said.conversation, said.id) };
    let jerry = client("jerry");
    let done = scene.store().acknowledge(&scene.app, &jerry, asked, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&done));
    assert_eq!(done.sender, Some(client("tom")));
    let receipt = done.receipt;
    assert_eq!((receipt.conversation, receipt.message, &receipt.by), (said.conversation, said.id, &jerry));
    assert_eq!((receipt.at, receipt.read, receipt.whole), (scene.now(), true, false));
    assert_eq!(receipt.note.as_deref(), Some("thanks"));
    scene.reopen().await;
    assert_eq!(scene.receipts("tom").await, [receipt]);
    assert_eq!(scene.receipts("jerry").await, []);
    let stored = scene.everything(said.conversation, "tom").await.remove(0);
    assert_eq!(stored.read_at, Some(scene.now()));
    // It is one message, not a mark.
    assert_eq!(scene.unread_in(said.conversation, "jerry").await.0, 1);
    let marks = scene.store().member_marks(&scene.app, &jerry, said.conversation).await.unwrap();
    assert!(marks.iter().all(|marks| marks.read_at.is_none()));
}

pub async fn delivered_first_and_then_read<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let said = scene.say_to("tom", "jerry", "x").await;
    scene.acknowledge("jerry", &said, false).await.unwrap();
    let delivered_at = scene.now();
    scene.clock.advance_ms(10);
    scene.acknowledge("jerry", &said, true).await.unwrap();
    let kinds: Vec<bool> = scene.receipts("tom").await.iter().map(|receipt| receipt.read).collect();
    assert_eq!(kinds, [false, true]);
    let stored = scene.everything(said.conversation, "tom").await.remove(0);
    assert_eq!((stored.delivered_at, stored.read_at), (Some(delivered_at), Some(scene.now())));
}

pub async fn doing_it_twice_tells_nobody_again<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let said = scene.say_to("tom", "jerry", "x").await;
    let first = scene.acknowledge("jerry", &said, true).await.unwrap().receipt.at;
    scene.clock.advance_ms(10);
    for _ in 0..3 {
        let again = scene.acknowledge("jerry", &said, true).await.unwrap();
        assert_eq!(again.sender, None);
    }
    assert_eq!(scene.receipts("tom").await.len(), 1);
    assert_eq!(scene.everything(said.conversation, "tom").await[0].read_at, Some(first));
}

pub async fn readers_of_a_group_are_counted<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike", "anna"]).await;
    let (said, other) = (scene.say(id, "tom", "x").await, scene.say(id, "tom", "y").await);
    for (who, readers) in [("jerry", 1), ("spike", 2)] {
        let done = scene.acknowledge(who, &said, true).await.unwrap();
        assert_eq!((done.sender, done.receipt.readers), (Some(client("tom")), Some(readers)));
    }
    scene.acknowledge("jerry", &said, true).await.unwrap();
    assert_eq!(scene.acknowledge("jerry", &other, true).await.unwrap().receipt.readers, Some(1));
    assert_eq!(scene.acknowledge("anna", &said, true).await.unwrap().receipt.readers, Some(3));
    let told: Vec<_> =
        scene.receipts("tom").await.into_iter().map(|receipt| (receipt.by, receipt.readers)).collect();
    let wanted = [("jerry", 1), ("spike", 2), ("jerry", 1), ("anna", 3)];
    assert_eq!(told, wanted.map(|(who, readers)| (client(who), Some(readers))));
}

pub async fn who_is_gone_or_oneself_is_not_told<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let (said, own) = (scene.say(id, "tom", "x").await, scene.say(id, "jerry", "y").await);
    assert_eq!(scene.acknowledge("jerry", &own, true).await.unwrap().sender, None);
    assert_eq!(scene.receipts("jerry").await, []);
    scene.remove(id, "tom", &["tom"]).await.unwrap();
    assert_eq!(scene.acknowledge("jerry", &said, true).await.unwrap().sender, None);
    assert_eq!(scene.receipts("tom").await, []);
    let served = scene.serve(id, "admin", "z").await;
    assert_eq!(scene.acknowledge("jerry", &served, true).await.unwrap().sender, None);
    assert_eq!(scene.notes("admin").await, []);
}

pub async fn acknowledgements_are_refused_by_cause<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let (room, store) = (scene.room().await, scene.store());
    let in_room = scene.say(room, "jerry", "x").await;
    assert_eq!(scene.acknowledge("butch", &said[0], true).await, Err(Error::NotMember));
    assert_eq!(scene.acknowledge("tom", &in_room, true).await, Err(Error::NotInRooms));
    let unknown = of(id, in_room.id);
    let unknown = store.acknowledge(&scene.app, &client("tom"), unknown, nothing()).await;
    assert_eq!(unknown, Err(Error::MessageNotFound));
    scene.remove_messages(id, "tom", Removal::Messages(vec![said[1].id])).await.unwrap();
    assert_eq!(scene.acknowledge("tom", &said[1], true).await, Err(Error::MessageNotFound));
    assert!(scene.acknowledge("spike", &said[1], true).await.is_ok());
    scene.delete(id, "tom", DeleteScope::Everyone, true).await.unwrap();
    assert_eq!(scene.acknowledge("tom", &said[2], true).await, Err(Error::MessageNotFound));
    assert_eq!(scene.receipts("jerry").await.len(), 1);
    scene.audit().await;
}

pub async fn who_came_later_acknowledges_nothing_older<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let old = scene.say(id, "tom", "old").await;
    scene.add(id, "tom", &["spike"]).await.unwrap();
    let young = scene.say(id, "tom", "young").await;
    for read in [false, true] {
        assert_eq!(scene.acknowledge("spike", &old, read).await, Err(Error::MessageNotFound));
        assert!(scene.acknowledge("spike", &young, read).await.unwrap().sender.is_some());
    }
    let read = scene.acknowledge("jerry", &old, true).await.unwrap();
    assert_eq!((read.receipt.readers, scene.receipts("tom").await.len()), (Some(1), 3));
}

pub async fn receipts_of_groups_are_for_devices_only<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let since = scene.now().plus_ms(-1);
    let group = scene.group(&["tom", "jerry", "spike"]).await;
    let (in_group, in_pair) = (scene.say(group, "tom", "x").await, scene.say_to("tom", "jerry", "y").await);
    for message in [&in_group, &in_pair] {
        scene.acknowledge("jerry", message, false).await.unwrap();
        scene.acknowledge("jerry", message, true).await.unwrap();
    }
    assert_eq!(scene.receipts("tom").await.len(), 4);
    let changes = scene.store().list_changes(&scene.app, &client("tom"), since, 100).await.unwrap().unwrap();
    let receipts = changes.into_iter().filter_map(|change| match change {
        Missed::Receipt(receipt) => Some((receipt.message, receipt.read)),
        _ => None,
    });
    assert_eq!(receipts.collect::<Vec<_>>(), [(in_pair.id, true)]);
}
