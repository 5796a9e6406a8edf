//! Appending and patching.

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use posthouse_core::error::Error;
use posthouse_core::port::store::AttributesChange;

use super::*;

pub async fn a_message_comes_back_as_it_was_sent<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let kinds = [
        BodyKind::Text,
        BodyKind::Image,
        BodyKind::Audio,
        BodyKind::Video,
        BodyKind::Location,
        BodyKind::File,
        BodyKind::Custom(-77),
        BodyKind::Untyped,
    ];
    let mut said = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let mut new = message(id, "tom", "x");
        new.body.kind = kind;
        new.body.payload.bytes = Bytes::from(vec![0, 255, 7]);
        new.body.payload.schema = SchemaTag(255);
        new.body.summary = (number % 2 == 0).then(|| "猫".into());
        new.mentions = Mentions { all: number % 2 == 1, clients: clients(&["jerry", "stranger"]) };
        new.receipt = number % 3 == 0;
        let (after, heard) = listener();
        let sent = scene.store().append_message(&scene.app, new.clone(), after).await.unwrap();
        assert_eq!(heard.all(), std::slice::from_ref(&sent));
        assert_eq!(
            (sent.duplicate, sent.kind, sent.members),
            (false, Kind::Group, clients(&["tom", "jerry"]).into())
        );
        let stored = sent.message;
        assert_eq!((&stored.body, &stored.mentions, stored.receipt), (&new.body, &new.mentions, new.receipt));
        assert_eq!((stored.timestamp, stored.sender.as_str()), (scene.now(), "tom"));
        assert_eq!((stored.patched_at, stored.delivered_at, stored.read_at), (None, None, None));
        said.push(stored);
    }
    assert_eq!(scene.everything(id, "jerry").await, said);
    assert_eq!(scene.conversation(id).await.last_message_at, Some(scene.now()));
    scene.reopen().await;
    assert_eq!(scene.everything(id, "jerry").await, said);
    scene.audit().await;
}

pub async fn places_are_gapless_over_messages_and_changes<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let first = scene.say(id, "tom", "1").await;
    assert_eq!(first.seq, Seq(1));
    scene.add(id, "tom", &["spike"]).await.unwrap();
    assert_eq!(scene.append(message(id, "stranger", "x")).await, Err(Error::NotMember));
    assert_eq!(scene.say(id, "tom", "3").await.seq, Seq(3));
    let edited = scene.patch("tom", &first, text("new"), Mentions::default()).await.unwrap();
    assert_eq!(edited.patch.seq, Seq(4));
    let change = AttributesChange {
        conversation: id,
        by: client("tom"),
        changes: vec![],
        authority: Authority::Member,
    };
    scene.store().update_attributes(&scene.app, change, &scene.settings, nothing()).await.unwrap();
    scene.remove(id, "tom", &["spike"]).await.unwrap();
    scene.remove(id, "spike", &["spike"]).await.unwrap();
    assert_eq!(scene.recall(&first).await.patch.seq, Seq(7));
    assert_eq!(scene.say(id, "jerry", "8").await.seq, Seq(8));
    assert_eq!(scene.unread("tom").await[0].head, Seq(8));
    scene.audit().await;
}

pub async fn strangers_cannot_post_but_anyone_can_in_a_room<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, room) = (scene.group(&["tom"]).await, scene.room().await);
    let (after, heard) = listener();
    let refused = scene.store().append_message(&scene.app, message(id, "spike", "x"), after).await;
    assert_eq!((refused, heard.all()), (Err(Error::NotMember), vec![]));
    let said = scene.append(message(room, "anyone", "x")).await.unwrap();
    assert_eq!((said.kind, said.members), (Kind::Room, [].into()));
}

pub async fn the_same_token_is_the_same_message<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let new = NewMessage { token: token("t1"), ..message(id, "tom", "once") };
    let first = scene.append(new.clone()).await.unwrap();
    scene.clock.advance_ms(5_000);
    let heard = Heard::default();
    let retries = (0..5).map(|_| scene.store().append_message(&scene.app, new.clone(), heard.listen()));
    for retry in join_all(retries).await {
        let retry = retry.unwrap();
        assert!(retry.duplicate);
        assert_eq!(
            (retry.message, retry.kind, retry.members),
            (first.message.clone(), first.kind, first.members.clone())
        );
    }
    assert_eq!(heard.all(), []);
    assert_eq!(scene.everything(id, "tom").await.len(), 1);
    // Many first tries at once are one message too.
    let new = NewMessage { token: token("t2"), ..new };
    let tries = (0..20).map(|_| scene.store().append_message(&scene.app, new.clone(), heard.listen()));
    let fresh = join_all(tries).await.into_iter().filter(|tried| !tried.as_ref().unwrap().duplicate).count();
    assert_eq!((fresh, heard.all().len(), scene.everything(id, "tom").await.len()), (1, 1, 2));
    scene.audit().await;
}

pub async fn tokens_are_per_conversation_and_sender<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (a, b) = (scene.group(&["tom", "jerry"]).await, scene.group(&["tom", "jerry"]).await);
    for (id, sender) in [(a, "tom"), (a, "jerry"), (b, "tom")] {
        let said = scene.append(NewMessage { token: token("t"), ..message(id, sender, "x") }).await.unwrap();
        assert!(!said.duplicate);
    }
}

pub async fn tokens_outlive_a_restart_and_membership<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let new = NewMessage { token: token("t"), ..message(id, "tom", "x") };
    let first = scene.append(new.clone()).await.unwrap().message;
    scene.remove(id, "tom", &["tom"]).await.unwrap();
    scene.reopen().await;
    let retry = scene.append(new).await.unwrap();
    assert_eq!((retry.duplicate, retry.message), (true, first));
}

pub async fn time_never_goes_back<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let first = scene.say(id, "tom", "1").await;
    scene.clock.advance_ms(-60_000);
    let second = scene.say(id, "tom", "2").await;
    assert_eq!(second.timestamp, first.timestamp);
    assert!(second.id > first.id);
    scene.clock.advance_ms(60_001);
    assert_eq!(scene.say(id, "tom", "3").await.timestamp, first.timestamp.plus_ms(1));
    // Other conversations go by the clock.
    scene.clock.advance_ms(-60_000);
    let other = scene.group(&["tom"]).await;
    assert_eq!(scene.say(other, "tom", "1").await.timestamp, scene.now());
    scene.audit().await;
}

pub async fn ids_go_on_after_a_restart<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let before = scene.say(id, "tom", "1").await;
    scene.clock.advance_ms(-600_000);
    scene.reopen().await;
    let after = scene.say(id, "tom", "2").await;
    assert!(after.id > before.id && after.timestamp == before.timestamp);
    assert_eq!(scene.everything(id, "tom").await, [before, after]);
}

pub async fn parallel_senders_are_told_in_commit_order<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let members: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids = [scene.group(&members).await, scene.temporary(60_000, &members).await];
    let heard = Heard::default();
    let sends = (0..400).map(|number| {
        let new = message(ids[number % 2], members[number % 8], &number.to_string());
        scene.store().append_message(&scene.app, new, heard.listen())
    });
    let answers = join_all(sends).await;
    for id in ids {
        let told: Vec<Message> = heard
            .all()
            .into_iter()
            .map(|told| told.message)
            .filter(|message| message.conversation == id)
            .collect();
        assert_eq!(told.len(), 200);
        assert!(told.iter().zip(1..).all(|(message, seq)| message.seq == Seq(seq)));
        assert_eq!(scene.everything(id, "c0").await, told);
        let answered = answers.iter().flatten().filter(|answer| answer.message.conversation == id);
        assert!(answered.clone().all(|answer| told.contains(&answer.message)));
        assert_eq!(answered.count(), 200);
    }
    scene.audit().await;
}

pub async fn a_patch_keeps_place_and_time<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let said = scene.say(id, "tom", "old").await;
    scene.say(id, "jerry", "after").await;
    scene.clock.advance_ms(1_000);
    let (after, heard) = listener();
    let patch = patch(&said, text("new"), calls(&["jerry"]));
    let patched = scene.store().patch_message(&scene.app, &client("tom"), patch, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&patched));
    let Patched { patch, members } = patched;
    assert_eq!(members, clients(&["tom", "jerry"]));
    assert_eq!((patch.message, patch.timestamp, patch.kind), (said.id, said.timestamp, Kind::Group));
    assert_eq!(
        (&patch.body, &patch.mentions, patch.sender.as_str()),
        (&text("new"), &calls(&["jerry"]), "tom")
    );
    let wanted = Message {
        body: text("new"),
        mentions: calls(&["jerry"]),
        patched_at: Some(patch.at),
        edits: 1,
        patched_by: Some(client("tom")),
        ..said
    };
    assert_eq!(scene.everything(id, "tom").await[0], wanted);
    scene.reopen().await;
    assert_eq!(scene.everything(id, "tom").await[0], wanted);
}

pub async fn patches_are_refused_by_cause<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, other) = (scene.group(&["tom", "jerry"]).await, scene.group(&["tom"]).await);
    let said = scene.say(id, "tom", "old").await;
    let none = Mentions::default;
    assert_eq!(scene.patch("spike", &said, text("x"), none()).await, Err(Error::NotMember));
    assert_eq!(scene.patch("jerry", &said, text("x"), none()).await, Err(Error::NotSender));
    let elsewhere = Message { conversation: other, ..said.clone() };
    assert_eq!(scene.patch("tom", &elsewhere, text("x"), none()).await, Err(Error::MessageNotFound));
    let later = Message { timestamp: said.timestamp.plus_ms(1), ..said.clone() };
    assert_eq!(scene.patch("tom", &later, text("x"), none()).await, Err(Error::MessageNotFound));
    scene.recall(&said).await;
    assert_eq!(scene.patch("tom", &said, text("x"), none()).await, Err(Error::AlreadyRecalled));
    assert_eq!(scene.patch("tom", &said, recalled(), none()).await, Err(Error::AlreadyRecalled));
    assert_eq!(scene.everything(id, "tom").await.len(), 1);
    scene.audit().await;
}

pub async fn patch_times_grow_and_replay_once_each<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (a, b) = (scene.group(&["tom", "jerry"]).await, scene.temporary(60_000, &["tom", "jerry"]).await);
    let mut said = Vec::new();
    for number in 0..6 {
        said.push(scene.say([a, b][number % 2], "tom", "old").await);
    }
    scene.clock.advance_ms(-5_000);
    let mut newest = BTreeMap::new();
    let mut last = BTreeMap::new();
    for round in 0..3 {
        for message in &said {
            let body = if round == 2 { recalled() } else { text(&format!("round {round}")) };
            let patched = scene.patch("tom", message, body, Mentions::default()).await.unwrap().patch;
            assert!(last.insert(patched.conversation, patched.at).is_none_or(|before| before < patched.at));
            newest.insert(patched.message, patched);
        }
    }
    let mut wanted: Vec<_> = newest.into_values().collect();
    wanted.sort_by_key(|patch| patch.at);
    let mut replayed = Vec::new();
    let mut since = Timestamp(0);
    loop {
        let page = scene.store().list_patches(&scene.app, &client("jerry"), since, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        since = last.at;
        replayed.extend(page);
    }
    assert_eq!(replayed, wanted);
    let after = wanted[3].at;
    let later = scene.store().list_patches(&scene.app, &client("jerry"), after, 10).await.unwrap();
    assert_eq!(later, wanted[4..]);
    assert_eq!(scene.store().list_patches(&scene.app, &client("spike"), Timestamp(0), 10).await, Ok(vec![]));
    scene.reopen().await;
    let again = scene.store().list_patches(&scene.app, &client("jerry"), Timestamp(0), 10).await.unwrap();
    assert_eq!(again, wanted);
    let next = scene.say(a, "tom", "more").await;
    assert!(scene.recall(&next).await.patch.at > wanted[5].at.plus_ms(-2));
}

pub async fn acknowledged_writes_are_there_after_a_restart<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let mut said = Vec::new();
    for round in 0..4 {
        let sends = (0..30).map(|number| scene.say(id, ["tom", "jerry"][number % 2], "x"));
        said.extend(join_all(sends).await);
        scene.read_all(id, ["tom", "jerry"][round % 2]).await;
        scene.reopen().await;
    }
    said.sort_by_key(Message::position);
    assert_eq!(scene.everything(id, "tom").await.len(), 120);
    assert_eq!(scene.unread_in(id, "jerry").await.0, 0);
    assert_eq!(scene.unread_in(id, "tom").await.0, 15);
    scene.audit().await;
}

pub async fn a_dropped_future_still_writes<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    // The app is known by now, so the first poll hands the write over.
    let heard = Heard::default();
    let write = scene.store().append_message(&scene.app, message(id, "tom", "x"), heard.listen());
    drop(write.now_or_never());
    scene.say(id, "tom", "y").await;
    assert_eq!(scene.everything(id, "tom").await.len(), 1 + heard.all().len());
}

pub async fn a_panicking_closure_harms_nobody<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let bad: AfterCommit<Appended> = Box::new(|_| panic!("a closure's fault, as this test wants"));
    assert!(scene.store().append_message(&scene.app, message(id, "tom", "1"), bad).await.is_ok());
    scene.say(id, "tom", "2").await;
    assert_eq!(scene.everything(id, "tom").await.len(), 2);
    assert!(scene.unread("tom").await.is_empty());
}
