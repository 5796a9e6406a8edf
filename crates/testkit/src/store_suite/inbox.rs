//! What a client missed while away.

use posthouse_core::attribute::{AttributeChange, Operation};
use posthouse_core::event::Missed;
use posthouse_core::port::store::AttributesChange;
use serde_json::{Value, json};

use super::*;

impl<E: Engine> Scene<E> {
    async fn invitations(&self, who: &str, since: Timestamp, limit: usize) -> Vec<Missed> {
        self.store().list_invitations(&self.app, &client(who), since, limit).await.unwrap()
    }

    async fn changes(&self, who: &str, since: Timestamp, limit: usize) -> Option<Vec<Missed>> {
        self.store().list_changes(&self.app, &client(who), since, limit).await.unwrap()
    }
}

/// A short name for comparisons.
fn short(missed: &Missed) -> (&'static str, ConversationId, String) {
    match missed {
        Missed::Joined(event) => ("joined", event.conversation, event.by.to_string()),
        Missed::Left(event) => ("left", event.conversation, event.by.to_string()),
        Missed::MembersJoined(event) => {
            ("members joined", event.conversation, format!("{:?}", event.members))
        }
        Missed::MembersLeft(event) => ("members left", event.conversation, format!("{:?}", event.members)),
        Missed::Updated(event) => ("updated", event.conversation, event.by.to_string()),
        Missed::Receipt(receipt) => ("receipt", receipt.conversation, receipt.by.to_string()),
    }
}

pub async fn members_hear_of_joining_and_leaving<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let start = scene.now().plus_ms(-1);
    let made = scene.group(&["tom", "jerry"]).await;
    scene.clock.advance_ms(10);
    let temporary = scene.temporary(60_000, &["tom", "jerry"]).await;
    scene.clock.advance_ms(10);
    let removed = scene.remove(made, "tom", &["jerry"]).await.unwrap();
    scene.reopen().await;
    let heard = scene.invitations("jerry", start, 10).await;
    let tom = || "tom".to_owned();
    let shorts: Vec<_> = heard.iter().map(short).collect();
    assert_eq!(shorts, [("joined", made, tom()), ("joined", temporary, tom()), ("left", made, tom())]);
    let (Missed::Joined(joined), Missed::Left(left)) = (&heard[1], &heard[2]) else { panic!("{heard:?}") };
    assert_eq!((joined.ttl_seconds, &*joined.members), (Some(60), &clients(&["jerry"])[..]));
    assert!(joined.kind.is_temporary());
    assert_eq!((left.at, left.kind, left.ttl_seconds), (removed.at, Kind::Group, None));
    assert_eq!(scene.invitations("jerry", removed.at, 10).await, []);
    assert_eq!(scene.invitations("spike", start, 10).await, []);
    assert_eq!(scene.invitations("jerry", start, 0).await, []);
}

pub async fn old_entries_are_forgotten_and_young_ones_stay<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let start = scene.now().plus_ms(-1);
    scene.group(&["tom", "jerry"]).await;
    scene.clock.advance_ms(1_000);
    let border = scene.now();
    let young = scene.group(&["tom", "jerry"]).await;
    assert_eq!(scene.store().forget_missed(border).await, Ok(3));
    assert_eq!(scene.store().forget_missed(border).await, Ok(0));
    let left: Vec<_> = scene.invitations("jerry", start, 10).await.iter().map(short).collect();
    assert_eq!(left, [("joined", young, "tom".to_owned())]);
    let left: Vec<_> =
        scene.changes("jerry", start, 10).await.unwrap().iter().map(|missed| short(missed).1).collect();
    assert_eq!(left, [young]);
}

pub async fn invitations_page_by_time_without_loss<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let start = scene.now().plus_ms(-1);
    for burst in 0..4 {
        for _ in 0..3 {
            scene.group(&["tom", "jerry"]).await;
            scene.temporary(60_000, &["tom", "jerry"]).await;
        }
        scene.clock.advance_ms(burst + 1);
    }
    let mut since = start;
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let page = scene.invitations("jerry", since, 4).await;
        let Some(last) = page.last() else { break };
        assert!(page.is_sorted_by_key(Missed::at));
        since = last.at();
        seen.extend(page.iter().map(|missed| short(missed).1));
        pages += 1;
    }
    assert_eq!((seen.len(), pages), (24, 4));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 24);
}

pub async fn changes_are_told_to_members<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let (elsewhere, since) = (scene.group(&["spike"]).await, scene.now());
    scene.clock.advance_ms(10);
    scene.add(elsewhere, "spike", &["anna"]).await.unwrap();
    scene.add(id, "tom", &["spike", "anna"]).await.unwrap();
    scene.remove(id, "tom", &["anna"]).await.unwrap();
    let changes = vec![
        AttributeChange { path: vec!["name".into()], operation: Operation::Set(json!("n")) },
        AttributeChange { path: vec!["attr".into(), "gone".into()], operation: Operation::Delete },
        AttributeChange { path: vec!["attr".into(), "n".into()], operation: Operation::Increment(2.into()) },
    ];
    let change = AttributesChange {
        conversation: id,
        by: client("tom"),
        changes: changes.clone(),
        authority: Authority::Member,
    };
    let updated =
        scene.store().update_attributes(&scene.app, change, &scene.settings, nothing()).await.unwrap();
    let told = scene.changes("jerry", since, 10).await.unwrap();
    let shorts: Vec<_> = told.iter().map(short).collect();
    let wanted = [
        ("members joined", id, r#"["spike", "anna"]"#.to_owned()),
        ("members left", id, r#"["anna"]"#.to_owned()),
        ("updated", id, "tom".to_owned()),
    ];
    assert_eq!(shorts, wanted);
    let Missed::Updated(event) = &told[2] else { panic!("{told:?}") };
    assert_eq!((&*event.changes, &*event.modified, event.at), (&changes[..], &updated.modified, updated.at));
    assert_eq!(Value::Object(updated.modified), json!({"name": "n", "attr": {"n": 2}}));
    assert_eq!(scene.changes("jerry", updated.at, 10).await, Some(vec![]));
    // Who is out is told nothing.
    assert!(
        scene.changes("anna", since, 10).await.unwrap().iter().all(|missed| short(missed).1 == elsewhere)
    );
}

pub async fn a_new_conversation_is_a_coming_of_members<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let since = scene.now().plus_ms(-1);
    let group = scene.group(&["tom", "jerry"]).await;
    scene.clock.advance_ms(1);
    let temporary = scene.temporary(60_000, &["tom", "jerry"]).await;
    scene.room().await;
    let told = scene.changes("jerry", since, 10).await.unwrap();
    let shorts: Vec<_> = told.iter().map(short).collect();
    let both = || r#"["tom", "jerry"]"#.to_owned();
    assert_eq!(shorts, [("members joined", group, both()), ("members joined", temporary, both())]);
    let Missed::MembersJoined(event) = &told[1] else { panic!("{told:?}") };
    assert_eq!((event.by.as_str(), event.ttl_seconds, event.at), ("tom", Some(60), scene.now()));
    // It takes no place in the timeline.
    assert_eq!(scene.say(group, "tom", "first").await.seq, Seq(1));
    scene.clock.advance_ms(60_000);
    assert_eq!(scene.changes("jerry", since, 10).await.unwrap().len(), 1);
    scene.audit().await;
}

pub async fn too_many_changes_are_none<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let since = scene.now();
    let id = scene.group(&["tom", "jerry"]).await;
    for number in 0..3 {
        scene.add(id, "tom", &[&format!("c{number}")]).await.unwrap();
    }
    assert_eq!(scene.changes("jerry", since, 3).await.unwrap().len(), 3);
    assert_eq!(scene.changes("jerry", since, 2).await, None);
    assert_eq!(scene.changes("jerry", since, 0).await, None);
}

pub async fn reading_in_a_pair_is_told_to_the_sender<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (pair, group) = (scene.group(&["tom", "jerry"]).await, scene.group(&["tom", "jerry", "spike"]).await);
    let temporary = scene.temporary(60_000, &["tom", "jerry"]).await;
    let since = scene.now();
    let mut last = None;
    for id in [pair, group, temporary] {
        for _ in 0..2 {
            last = Some(
                scene.append(NewMessage { receipt: true, ..message(id, "tom", "x") }).await.unwrap().message,
            );
        }
    }
    scene.clock.advance_ms(5);
    for id in [pair, group, temporary] {
        scene.read_all(id, "jerry").await;
    }
    let told = scene.changes("tom", since, 10).await.unwrap();
    let shorts: Vec<_> = told.iter().map(short).collect();
    let jerry = || "jerry".to_owned();
    assert_eq!(shorts, [("receipt", pair, jerry()), ("receipt", temporary, jerry())]);
    let Missed::Receipt(receipt) = &told[1] else { panic!("{told:?}") };
    assert_eq!((receipt.message, receipt.at, receipt.read), (last.unwrap().id, scene.now(), true));
    assert_eq!(scene.changes("jerry", since, 10).await, Some(vec![]));
}
