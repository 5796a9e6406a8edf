//! Temporary conversations and their buckets.

use posthouse_core::error::Error;
use posthouse_core::query::{ConversationQuery, Filter, Scope};

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
    assert_eq!(read.unwrap().messages, [said.clone()]);
    assert!(scene.say(id, "tom", "ho").await.id > said.id);
    assert_eq!(scene.unread_in(id, "jerry").await.0, 2);
}
