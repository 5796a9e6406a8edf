//! Temporary conversations and their buckets.

use posthouse_core::conversation::RoleChange;
use posthouse_core::error::Error;
use posthouse_core::listing::{ListChange, Queue};
use posthouse_core::query::{ConversationQuery, Filter, Scope};
use posthouse_core::receipt::Acknowledge;

use super::history::history;
use super::*;

const HOUR_MS: i64 = 3_600_000;

pub async fn a_temporary_conversation_works_like_others<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom", "jerry"]).await;
    let said =
        scene.append(NewMessage { mentions: calls(&["jerry"]), ..message(id, "tom", "hi") }).await.unwrap();
    assert!(said.kind.is_temporary());
    assert_eq!(scene.unread_in(id, "jerry").await, (1, true));
    let edited = scene.patch("tom", &said.message, text("ho"), Mentions::default()).await.unwrap();
    let patches = scene.store().list_patches(&scene.app, &client("jerry"), Timestamp(0), 10).await.unwrap();
    assert_eq!(patches, [edited.patch]);
    assert_eq!(scene.read_all(id, "jerry").await.unread.count, 0);
    let invited =
        scene.store().list_invitations(&scene.app, &client("jerry"), Timestamp(0), 10).await.unwrap();
    assert_eq!(invited.len(), 1);
    assert_eq!(scene.conversation(id).await.members, clients(&["tom", "jerry"]));
    scene.audit().await;
}

pub async fn it_is_over_on_the_millisecond<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom", "jerry"]).await;
    let said = scene.say(id, "tom", "hi").await;
    scene.recall(&said).await;
    scene.say(id, "tom", "ho").await;
    scene.clock.advance_ms(59_999);
    assert!(scene.store().conversation(&scene.app, id).await.is_ok());
    assert_eq!(scene.unread_in(id, "jerry").await.0, 1);
    scene.clock.advance_ms(1);
    let (store, app, jerry) = (scene.store(), &scene.app, client("jerry"));
    assert_eq!(store.conversation(app, id).await, Err(Error::TemporaryOver));
    assert_eq!(scene.append(message(id, "tom", "x")).await, Err(Error::TemporaryOver));
    assert_eq!(scene.patch("tom", &said, text("x"), Mentions::default()).await, Err(Error::TemporaryOver));
    assert_eq!(
        store.read_history(app, &jerry, history(id, Direction::Backward)).await,
        Err(Error::TemporaryOver)
    );
    assert_eq!(store.member_marks(app, &jerry, id).await, Err(Error::TemporaryOver));
    let mark = MarkRead { conversation: id, until: None, id: None, device: None };
    assert_eq!(store.mark_read(app, &jerry, mark, nothing()).await, Err(Error::TemporaryOver));
    assert_eq!(scene.add(id, "tom", &["spike"]).await, Err(Error::TemporaryOver));
    assert_eq!(store.set_muted(app, id, &jerry, true).await, Err(Error::TemporaryOver));
    assert_eq!(scene.unread("jerry").await, []);
    assert_eq!(store.list_patches(app, &jerry, Timestamp(0), 10).await, Ok(vec![]));
    assert_eq!(store.list_invitations(app, &jerry, Timestamp(0), 10).await, Ok(vec![]));
    let query = ConversationQuery {
        scope: Scope::Temporary { ids: vec![id], member: jerry.clone() },
        filter: Filter::All(vec![]),
        sort: vec![],
        skip: 0,
        limit: 10,
        with_last_message: true,
    };
    assert_eq!(store.query_conversations(app, &jerry, &[], query).await, Ok(vec![]));
}

pub async fn a_bucket_is_dropped_whole<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let short = scene.temporary(60_000, &["tom", "jerry"]).await;
    let long = scene.temporary(20 * 24 * HOUR_MS, &["tom", "jerry"]).await;
    scene.say(short, "tom", "soon gone").await;
    scene.say(long, "tom", "stays").await;
    // Every reader has it open.
    for _ in 0..8 {
        assert_eq!(scene.unread("jerry").await.len(), 2);
    }
    assert_eq!(scene.store().forget_expired().await, Ok(0));
    scene.clock.set(short.bucket().unwrap().ends().plus_ms(-1));
    assert_eq!(scene.store().forget_expired().await, Ok(0));
    scene.clock.advance_ms(1);
    assert_eq!(scene.store().forget_expired().await, Ok(1));
    assert_eq!(scene.store().forget_expired().await, Ok(0));
    assert_eq!(scene.store().conversation(&scene.app, short).await, Err(Error::TemporaryOver));
    assert_eq!(scene.unread_in(long, "jerry").await.0, 1);
    scene.reopen().await;
    assert_eq!(scene.store().conversation(&scene.app, short).await, Err(Error::TemporaryOver));
    assert_eq!(scene.unread_in(long, "jerry").await.0, 1);
    scene.audit().await;
}

pub async fn unknown_buckets_are_over<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.temporary_id(40 * HOUR_MS);
    assert_eq!(scene.store().conversation(&scene.app, id).await, Err(Error::TemporaryOver));
    assert_eq!(scene.append(message(id, "tom", "x")).await, Err(Error::TemporaryOver));
    // Strangers are told the same as of one that never was.
    let living = scene.temporary(60_000, &["jerry"]).await;
    assert_eq!(scene.append(message(living, "tom", "x")).await, Err(Error::TemporaryOver));
}

pub async fn live_conversations_outlive_a_sweep<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let lasting = scene.group(&["tom", "jerry"]).await;
    let early = scene.temporary(1_000, &["tom", "jerry"]).await;
    scene.say(lasting, "tom", "hi").await;
    scene.clock.set(early.bucket().unwrap().ends());
    let late = scene.temporary(1_000, &["tom", "jerry"]).await;
    scene.say(late, "tom", "hi").await;
    assert_eq!(scene.store().forget_expired().await, Ok(1));
    assert_eq!(scene.unread("jerry").await.len(), 2);
}

pub async fn a_clock_that_steps_back_revives_nothing<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom"]).await;
    let before = scene.now();
    scene.clock.set(id.bucket().unwrap().ends());
    assert_eq!(scene.store().forget_expired().await, Ok(1));
    scene.clock.set(before);
    assert_eq!(scene.store().conversation(&scene.app, id).await, Err(Error::TemporaryOver));
    // The same bucket can be made anew.
    let fresh = scene.temporary(60_000, &["tom"]).await;
    assert_eq!(fresh.bucket(), id.bucket());
    assert_eq!(scene.conversation(fresh).await.members, clients(&["tom"]));
    scene.audit().await;
}

pub async fn unique_sets_end_with_their_conversation<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let unique = |ttl_ms| {
        let (id, kind) = scene.temporary_id(ttl_ms);
        let mut new = scene.draft(kind, id, &["tom", "jerry"]);
        new.conversation.unique = Some(MemberSet::of(&new.conversation.members));
        new
    };
    let first = scene.make(unique(1_000)).await;
    let found = scene.store().create_conversation(&scene.app, unique(1_000), nothing()).await.unwrap();
    assert_eq!((found.existing, found.conversation.id), (true, first));
    scene.clock.advance_ms(1_000);
    let second = scene.make(unique(1_000)).await;
    assert_ne!(first, second);
}

pub async fn temporary_conversations_survive_a_restart<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom", "jerry"]).await;
    let said = scene.say(id, "tom", "hi").await;
    scene.reopen().await;
    let read = scene.store().read_history(&scene.app, &client("tom"), history(id, Direction::Backward)).await;
    assert_eq!(read.unwrap().messages, std::slice::from_ref(&said));
    assert!(scene.say(id, "tom", "ho").await.id > said.id);
    assert_eq!(scene.unread_in(id, "jerry").await.0, 2);
}

pub async fn members_remove_and_delete_in_it_like_elsewhere<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom", "jerry"]).await;
    for who in ["tom", "jerry"] {
        scene.open_device(who, "phone").await;
    }
    scene.block("tom", &["jerry"], true).await.unwrap();
    let mut said = Vec::new();
    for number in 0..4 {
        scene.clock.advance_ms(10);
        let new = NewMessage { receipt: true, ..message(id, "jerry", &number.to_string()) };
        said.push(scene.append(new).await.unwrap().message);
    }
    scene.command(id, "jerry", "command").await;
    scene.serve(id, "admin", "served").await;
    let ack = Acknowledge { conversation: id, message: said[0].id, read: true, note: None };
    let (store, tom) = (scene.store(), client("tom"));
    store.acknowledge(&scene.app, &tom, ack, nothing()).await.unwrap();
    scene.deliver(id, "tom", &said[1]).await;
    assert_eq!(scene.timeline(id, "tom").await.len(), 6);
    scene.remove_messages(id, "tom", Removal::Messages(vec![said[1].id])).await.unwrap();
    assert_eq!(scene.words(id, "tom").await, ["0", "2", "3", "served"]);
    assert_eq!(scene.unread_in(id, "tom").await.0, 3);
    scene.remove_messages(id, "tom", Removal::Until(said[2].timestamp)).await.unwrap();
    assert_eq!(
        (scene.words(id, "tom").await, scene.words(id, "jerry").await.len()),
        (vec!["3".to_owned(), "served".to_owned()], 5)
    );
    scene.audit().await;
    // It lasts anyway: removing everything that lasts leaves it.
    store.remove_everything(&scene.app, &tom, None, nothing()).await.unwrap();
    assert_eq!(scene.words(id, "tom").await.len(), 2);
    scene.delete(id, "jerry", DeleteScope::Everyone, true).await.unwrap();
    scene.reopen().await;
    for who in ["tom", "jerry"] {
        assert_eq!(
            (scene.words(id, who).await, scene.unread(who).await, scene.lines(who).await),
            (vec![], vec![], vec![])
        );
    }
    scene.forget_all().await;
    scene.say(id, "jerry", "new").await;
    assert_eq!(scene.words(id, "tom").await, ["new"]);
    scene.audit().await;
}

pub async fn what_is_not_for_it_is_refused_without_harm<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (temporary, room) = (scene.temporary(60_000, &["tom", "jerry"]).await, scene.room().await);
    let (store, app, tom, phone) = (scene.store(), &scene.app, client("tom"), device("phone"));
    scene.open_device("tom", "phone").await;
    for id in [temporary, room] {
        let said = scene.say(id, "tom", "x").await;
        let pin = ListChange::Pin(true);
        let asked = [
            store.change_listed(app, &tom, id, Some(&phone), pin, nothing()).await.map(drop),
            store
                .change_role(app, id, &tom, Authority::Owner, RoleChange::Admin(client("jerry")), nothing())
                .await
                .map(drop),
            store.end_conversation(app, id, &tom, Authority::Member, nothing()).await.map(drop),
            store
                .remove_messages(
                    app,
                    &tom,
                    id,
                    None,
                    Removal::Until(scene.now().plus_ms(-1)),
                    true,
                    nothing(),
                )
                .await,
            store.set_position(app, &tom, &phone, Queue::Conversation(id), 1).await,
            store.position(app, &tom, &phone, Queue::Conversation(id)).await.map(drop),
            store.message(app, &tom, id, said.id).await.map(drop),
            store.append_message(app, imported(id, "tom", scene.now()), nothing()).await.map(drop),
            scene.delete(id, "tom", DeleteScope::Caller, false).await.map(drop),
        ];
        for (number, done) in asked.into_iter().enumerate() {
            assert!(!matches!(done, Err(Error::Store(_))), "{number} in {id:?}: {done:?}");
        }
    }
    assert!(store.conversation(app, room).await.is_ok());
    assert_eq!(scene.lines("tom").await, []);
    assert_eq!(scene.words(temporary, "jerry").await.first().map(String::as_str), Some("x"));
    scene.audit().await;
}
