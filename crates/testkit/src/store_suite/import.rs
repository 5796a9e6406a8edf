//! Messages that were said elsewhere and before.

use posthouse_core::error::Error;

use super::*;

pub async fn imports_go_to_their_place_in_history<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let start = scene.now();
    let (id, said) = scene.five().await;
    let early = scene.import(id, "jerry", start.plus_ms(-100)).await;
    let between = scene.import(id, "tom", said[1].timestamp.plus_ms(5)).await;
    let latest = scene.import(id, "spike", scene.now()).await;
    assert_eq!((early.timestamp, early.seq, early.origin), (start.plus_ms(-100), Seq(0), Origin::Import));
    let wanted = [&early, &said[0], &said[1], &between, &said[2], &said[3], &said[4], &latest];
    for _ in 0..2 {
        let found = scene.everything(id, "tom").await;
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
        scene.reopen().await;
    }
    let one = scene.store().message(&scene.app, &client("tom"), id, between.id).await;
    assert_eq!(one, Ok(between));
    scene.audit().await;
}

pub async fn imports_reach_no_device_and_are_never_unread<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let notes = scene.notes("tom").await.len();
    for _ in 0..3 {
        scene.import(id, "jerry", said[2].timestamp).await;
    }
    assert_eq!(scene.unread_in(id, "tom").await.0, 5);
    assert_eq!(scene.timeline(id, "tom").await.len(), 5);
    assert_eq!(scene.notes("tom").await.len(), notes);
    scene.read(id, "tom", Some(&said[2])).await;
    assert_eq!(scene.unread_in(id, "tom").await.0, 2);
    // The timeline goes on as if nothing had been.
    assert_eq!(scene.say(id, "jerry", "next").await.seq, Seq(6));
    assert_eq!(scene.unread_in(id, "spike").await.0, 6);
    scene.audit().await;
}

pub async fn imports_do_not_stop_time<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let before = scene.conversation(id).await;
    scene.clock.advance_ms(1_000);
    scene.import(id, "jerry", before.last_message_at.unwrap().plus_ms(-7)).await;
    assert_eq!(scene.conversation(id).await, before);
    let said = scene.say(id, "tom", "now").await;
    assert_eq!(said.timestamp, scene.now());
    scene.audit().await;
}

pub async fn what_is_to_come_cannot_be_imported<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let (after, heard) = listener();
    let new = imported(id, "jerry", scene.now().plus_ms(1));
    let refused = scene.store().append_message(&scene.app, new, after).await;
    assert_eq!((refused, heard.all()), (Err(Error::NotInThePast), vec![]));
    assert_eq!(scene.words(id, "tom").await.len(), 5);
    assert!(scene.append(imported(id, "jerry", scene.now())).await.is_ok());
}

pub async fn an_import_makes_the_conversation_of_two<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let at = scene.now().plus_ms(-5_000);
    let to = scene.to("tom", "jerry", "x").to;
    let new = NewMessage { to, ..imported(scene.lasting_id(), "tom", at) };
    let sent = scene.append(new).await.unwrap();
    let id = sent.message.conversation;
    assert_eq!((sent.created.is_some(), scene.pair("jerry", "tom").await), (true, Some(id)));
    assert_eq!(scene.words(id, "jerry").await, ["imported"]);
    assert_eq!(scene.unread("jerry").await, []);
    assert_eq!(scene.timeline(id, "jerry").await, []);
    // Who imports need not be in it.
    let group = scene.group(&["tom"]).await;
    scene.import(group, "stranger", at).await;
    assert_eq!(scene.words(group, "tom").await, ["imported"]);
    assert_eq!(scene.say_to("jerry", "tom", "hi").await.seq, Seq(1));
    scene.audit().await;
}

pub async fn imports_are_listed_in_every_mode<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (imports, both) = (scene.group(&["tom", "jerry"]).await, scene.group(&["tom", "jerry"]).await);
    let start = scene.now();
    scene.clock.advance_ms(1_000);
    scene.import(imports, "jerry", start.plus_ms(10)).await;
    scene.import(imports, "jerry", start.plus_ms(20)).await;
    scene.say(both, "jerry", "said").await;
    scene.import(both, "jerry", start.plus_ms(30)).await;
    for server_messages in [ServerMessages::Exclude, ServerMessages::Ignore, ServerMessages::Write] {
        let listed = scene.list("tom", ListQuery { server_messages, ..list() }).await;
        let lines: Vec<_> = listed.iter().map(line).collect();
        assert_eq!(lines, [(both, "said".to_owned(), 1), (imports, "imported".to_owned(), 0)]);
        assert_eq!(listed[1].place.at, start.plus_ms(20));
    }
    scene.audit().await;
}

pub async fn imports_obey_deletions<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let old = scene.import(id, "jerry", said[1].timestamp.plus_ms(1)).await;
    let other = scene.import(id, "jerry", said[1].timestamp.plus_ms(2)).await;
    scene.remove_messages(id, "tom", Removal::Messages(vec![old.id])).await.unwrap();
    assert_eq!(scene.everything(id, "tom").await.len(), 6);
    assert_eq!((scene.everything(id, "spike").await.len(), scene.unread_in(id, "tom").await.0), (7, 5));
    scene.remove_messages(id, "tom", Removal::Until(other.timestamp)).await.unwrap();
    assert_eq!(scene.words(id, "tom").await, ["2", "3", "4"]);
    assert_eq!(scene.unread_in(id, "tom").await.0, 3);
    scene.delete(id, "tom", DeleteScope::Everyone, true).await.unwrap();
    assert_eq!(scene.words(id, "spike").await, [""; 0]);
    assert!(scene.forget_all().await >= 7);
    assert_eq!(scene.words(id, "spike").await, [""; 0]);
    scene.audit().await;
}
