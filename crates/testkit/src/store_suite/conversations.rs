//! Conversations, members, attributes, queries.

use futures_util::future::{join, join_all};
use posthouse_core::attribute::{AttributeChange, AttributeError, Operation};
use posthouse_core::error::Error;
use posthouse_core::port::store::AttributesChange;
use posthouse_core::query::{ConversationQuery, Field, Filter, Operand, Scope, SortKey, Test};
use serde_json::{Value, json};

use super::*;

pub async fn a_conversation_comes_back_as_it_was_made<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let mut new = scene.unique_draft(&["tom", "jerry"]);
    new.conversation.attributes = json!({"z": 1, "a": {"b": [null, "猫"]}}).as_object().unwrap().clone();
    new.conversation.muted_by = clients(&["jerry"]);
    new.conversation.updated_at = scene.now().plus_ms(5);
    let (after, heard) = listener();
    let created = scene.store().create_conversation(&scene.app, new.clone(), after).await.unwrap();
    assert_eq!((timeless(created.conversation.clone()), created.existing), (new.conversation.clone(), false));
    assert_eq!(heard.all(), [created]);
    assert_eq!(timeless(scene.conversation(new.id).await), new.conversation);
    scene.reopen().await;
    let back = timeless(scene.conversation(new.id).await);
    assert_eq!(back, new.conversation);
    assert_eq!(back.attributes.keys().collect::<Vec<_>>(), ["z", "a"]);
    let mut anonymous = scene.draft(Kind::Room, scene.lasting_id(), &[]);
    anonymous.conversation.creator = None;
    let id = scene.make(anonymous.clone()).await;
    assert_eq!(timeless(scene.conversation(id).await), anonymous.conversation);
}

pub async fn a_conversation_that_never_was_is_not_found<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let lasting = scene.lasting_id();
    let (temporary, _) = scene.temporary_id(60_000);
    let found = scene.store().conversation(&scene.app, lasting).await;
    assert_eq!(found, Err(Error::ConversationNotFound));
    let found = scene.store().conversation(&scene.app, temporary).await;
    assert_eq!(found, Err(Error::TemporaryOver));
    let said = scene.append(message(lasting, "tom", "x")).await;
    assert_eq!(said, Err(Error::ConversationNotFound));
}

pub async fn a_unique_set_has_one_conversation<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let first = scene.make(scene.unique_draft(&["tom", "jerry"])).await;
    scene.reopen().await;
    let (after, heard) = listener();
    let again = scene.unique_draft(&["jerry", "tom"]);
    let found = scene.store().create_conversation(&scene.app, again.clone(), after).await.unwrap();
    assert!(found.existing);
    assert_eq!(timeless(found.conversation), timeless(scene.conversation(first).await));
    assert_eq!(heard.all(), []);
    assert!(scene.store().conversation(&scene.app, again.id).await.is_err());
    let other = scene.make(scene.unique_draft(&["tom", "spike"])).await;
    let plain = scene.group(&["tom", "jerry"]).await;
    assert!(other != first && plain != first);
}

pub async fn two_at_once_make_one_unique_conversation<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (a, b) = (scene.unique_draft(&["tom", "jerry"]), scene.unique_draft(&["tom", "jerry"]));
    let (a, b) = join(
        scene.store().create_conversation(&scene.app, a, nothing()),
        scene.store().create_conversation(&scene.app, b, nothing()),
    )
    .await;
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.conversation.id, b.conversation.id);
    assert!(a.existing != b.existing);
}

pub async fn lasting_and_temporary_sets_are_apart<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let lasting = scene.make(scene.unique_draft(&["tom", "jerry"])).await;
    let unique_temporary = |ttl_ms| {
        let (id, kind) = scene.temporary_id(ttl_ms);
        let mut new = scene.draft(kind, id, &["tom", "jerry"]);
        new.conversation.unique = Some(MemberSet::of(&new.conversation.members));
        new
    };
    let temporary = scene.make(unique_temporary(60_000)).await;
    assert_ne!(temporary, lasting);
    // Another life span is another bucket, but the living one is found all the same.
    let longer = unique_temporary(20 * 86_400_000);
    assert_ne!(longer.id.bucket(), temporary.bucket());
    let found = scene.store().create_conversation(&scene.app, longer, nothing()).await.unwrap();
    assert_eq!((found.existing, found.conversation.id), (true, temporary));
}

pub async fn members_come_in_order_and_only_once<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let before = scene.conversation(id).await.updated_at;
    let change = member_change(id, "tom", &["spike", "jerry", "anna"]);
    let (after, heard) = listener();
    let added = scene.store().add_members(&scene.app, change, &scene.settings, after).await.unwrap();
    assert_eq!(added.settled, clients(&["spike", "jerry", "anna"]));
    assert_eq!(added.changed, clients(&["spike", "anna"]));
    assert_eq!(added.members, clients(&["tom", "jerry", "spike", "anna"]));
    assert!(added.at > before);
    assert_eq!(heard.all(), std::slice::from_ref(&added));
    let stored = scene.conversation(id).await;
    assert_eq!((stored.members, stored.updated_at), (added.members, added.at));
    let again = scene.add(id, "tom", &["spike"]).await.unwrap();
    assert_eq!((again.changed, again.settled, again.at), (vec![], clients(&["spike"]), added.at));
}

pub async fn strangers_can_add_only_themselves<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    assert_eq!(scene.add(id, "spike", &["anna"]).await, Err(Error::NotMember));
    assert_eq!(scene.add(id, "spike", &["spike", "anna"]).await, Err(Error::NotMember));
    assert_eq!(scene.remove(id, "spike", &["tom"]).await, Err(Error::NotMember));
    assert_eq!(scene.add(id, "spike", &["spike"]).await.unwrap().changed, clients(&["spike"]));
    assert_eq!(scene.conversation(id).await.members, clients(&["tom", "spike"]));
}

pub async fn a_full_conversation_takes_nobody<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    scene.settings.members_max = 3;
    let id = scene.group(&["tom"]).await;
    let full = scene.add(id, "tom", &["a", "b", "c"]).await;
    assert_eq!(full, Err(Error::ConversationFull { max: 3 }));
    assert_eq!(scene.conversation(id).await.members, clients(&["tom"]));
    scene.add(id, "tom", &["a", "b", "tom"]).await.unwrap();
    // Who is in already needs no room.
    assert_eq!(scene.add(id, "tom", &["a", "b"]).await.unwrap().changed, []);
    scene.audit().await;
}

pub async fn members_go_with_their_marks<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike"]).await;
    scene.say(id, "tom", "hi").await;
    let removed = scene.remove(id, "tom", &["jerry", "nobody"]).await.unwrap();
    assert_eq!(removed.settled, clients(&["jerry", "nobody"]));
    assert_eq!(removed.changed, clients(&["jerry"]));
    assert_eq!(removed.members, clients(&["tom", "spike"]));
    assert_eq!(scene.unread("jerry").await, []);
    assert_eq!(scene.append(message(id, "jerry", "x")).await, Err(Error::NotMember));
    let marks = scene.store().member_marks(&scene.app, &client("jerry"), id).await;
    assert_eq!(marks, Err(Error::NotMember));
    scene.audit().await;
}

pub async fn it_is_known_when_members_came<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let start = scene.now();
    let id = scene.group(&["tom", "jerry"]).await;
    scene.clock.advance_ms(1_000);
    scene.add(id, "tom", &["spike"]).await.unwrap();
    let later = scene.now();
    scene.reopen().await;
    assert_eq!(scene.conversation(id).await.joined, [start, start, later]);
    scene.clock.advance_ms(1_000);
    scene.remove(id, "tom", &["tom"]).await.unwrap();
    scene.clock.advance_ms(1_000);
    scene.add(id, "tom", &["tom"]).await.unwrap();
    let found = scene.conversation(id).await;
    assert_eq!(
        (found.members, found.joined),
        (clients(&["jerry", "spike", "tom"]), vec![start, later, scene.now()])
    );
    assert_eq!(scene.conversation(scene.room().await).await.joined, []);
}

pub async fn leaving_twice_is_no_error<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let left = scene.remove(id, "jerry", &["jerry"]).await.unwrap();
    assert_eq!(left.changed, clients(&["jerry"]));
    let again = scene.remove(id, "jerry", &["jerry"]).await.unwrap();
    assert_eq!((again.changed, again.settled, again.at), (vec![], clients(&["jerry"]), left.at));
    scene.remove(id, "tom", &["tom"]).await.unwrap();
    assert_eq!(scene.conversation(id).await.members, []);
}

pub async fn a_pair_that_changes_is_a_group<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.make(scene.unique_draft(&["tom", "jerry"])).await;
    assert_eq!(scene.add(id, "tom", &["spike"]).await.unwrap().kind, Kind::Group);
    let changed = scene.conversation(id).await;
    assert_eq!((changed.kind, changed.unique), (Kind::Group, None));
    let fresh = scene.make(scene.unique_draft(&["tom", "jerry"])).await;
    assert_ne!(fresh, id);
    assert_eq!(scene.remove(fresh, "tom", &["jerry"]).await.unwrap().kind, Kind::Group);
    scene.make(scene.unique_draft(&["tom", "jerry"])).await;
    // A unique group keeps its kind and loses its set.
    let mut three = scene.unique_draft(&["a", "b", "c"]);
    three.conversation.kind = Kind::Group;
    let id = scene.make(three).await;
    scene.add(id, "a", &["d"]).await.unwrap();
    assert_eq!(scene.conversation(id).await.unique, None);
}

pub async fn change_times_strictly_grow<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let mut last = scene.conversation(id).await.updated_at;
    for number in 0..5 {
        if number == 3 {
            scene.clock.advance_ms(-10_000);
        }
        let at = scene.add(id, "tom", &[&format!("c{number}")]).await.unwrap().at;
        assert!(at > last);
        last = at;
    }
}

fn set(path: &str, value: Value) -> AttributeChange {
    AttributeChange { path: path.split('.').map(str::to_owned).collect(), operation: Operation::Set(value) }
}

pub async fn attributes_change_all_or_nothing<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let change = |by: &str, changes: Vec<AttributeChange>| AttributesChange {
        conversation: id,
        by: client(by),
        changes,
        authority: Authority::Member,
    };
    let (after, heard) = listener();
    let asked = change("tom", vec![set("name", json!("n")), set("attr.x", json!(1))]);
    let changed = scene.store().update_attributes(&scene.app, asked, &scene.settings, after).await.unwrap();
    assert_eq!(Value::Object(changed.modified.clone()), json!({"name": "n", "attr": {"x": 1}}));
    assert_eq!(changed.members, clients(&["tom", "jerry"]));
    assert_eq!(heard.all(), std::slice::from_ref(&changed));
    let stored = scene.conversation(id).await;
    assert_eq!((&stored.attributes, stored.updated_at), (&changed.modified, changed.at));

    scene.settings.attributes_bytes_max = 256;
    let (after, heard) = listener();
    let refused = [
        (change("spike", vec![set("name", json!("s"))]), Error::NotMember),
        (
            change(
                "tom",
                vec![
                    set("name", json!("s")),
                    AttributeChange { path: vec!["name".into()], operation: Operation::Increment(1.into()) },
                ],
            ),
            Error::Attribute(AttributeError::Type { path: "name".into(), wanted: "number" }),
        ),
    ];
    for (asked, error) in refused {
        let refused = scene.store().update_attributes(&scene.app, asked, &scene.settings, nothing()).await;
        assert_eq!(refused, Err(error));
    }
    let asked = change("tom", vec![set("big", json!("x".repeat(300)))]);
    let refused = scene.store().update_attributes(&scene.app, asked, &scene.settings, after).await;
    assert!(matches!(refused, Err(Error::AttributesTooLarge { max: 256, .. })));
    assert_eq!(heard.all(), []);
    assert_eq!(scene.conversation(id).await, stored);
}

pub async fn muting_is_per_member_and_changes_no_time<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let before = scene.conversation(id).await;
    let mute = |who: &str, muted| {
        let who = client(who);
        let scene = &scene;
        async move { scene.store().set_muted(&scene.app, id, &who, muted).await }
    };
    assert_eq!(mute("jerry", true).await, Ok(before.updated_at));
    assert_eq!(scene.conversation(id).await.muted_by, clients(&["jerry"]));
    assert_eq!(mute("jerry", false).await, Ok(before.updated_at));
    assert_eq!(scene.conversation(id).await, before);
    assert_eq!(mute("spike", true).await, Err(Error::NotMember));
    let temporary = scene.temporary(60_000, &["tom"]).await;
    let refused = scene.store().set_muted(&scene.app, temporary, &client("tom"), true).await;
    assert_eq!(refused, Err(Error::TemporaryIsFixed));
}

pub async fn rooms_store_no_members<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let room = scene.room().await;
    assert_eq!(scene.conversation(room).await.members, []);
    assert_eq!(scene.add(room, "tom", &["tom"]).await, Err(Error::RoomIsOwnChoice));
    assert_eq!(scene.remove(room, "tom", &["tom"]).await, Err(Error::RoomIsOwnChoice));
    let asked = AttributesChange {
        conversation: room,
        by: client("tom"),
        changes: vec![set("name", json!("r"))],
        authority: Authority::Member,
    };
    let changed =
        scene.store().update_attributes(&scene.app, asked, &scene.settings, nothing()).await.unwrap();
    assert_eq!((changed.kind, changed.members), (Kind::Room, vec![]));
}

pub async fn temporary_conversations_are_fixed<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.temporary(60_000, &["tom", "jerry"]).await;
    assert_eq!(scene.add(id, "tom", &["spike"]).await, Err(Error::TemporaryIsFixed));
    assert_eq!(scene.remove(id, "tom", &["tom"]).await, Err(Error::TemporaryIsFixed));
    let asked = AttributesChange {
        conversation: id,
        by: client("tom"),
        changes: vec![set("name", json!("t"))],
        authority: Authority::Member,
    };
    let refused = scene.store().update_attributes(&scene.app, asked, &scene.settings, nothing()).await;
    assert_eq!(refused, Err(Error::TemporaryIsFixed));
    scene.audit().await;
}

fn query(scope: Scope) -> ConversationQuery {
    ConversationQuery {
        scope,
        filter: Filter::All(vec![]),
        sort: vec![],
        skip: 0,
        limit: 100,
        with_last_message: false,
    }
}

impl<E: Engine> Scene<E> {
    async fn find(&self, query: ConversationQuery) -> Vec<ConversationId> {
        let found = self.store().query_conversations(&self.app, &client("tom"), &[], query).await.unwrap();
        found.iter().map(|found| found.conversation.id).collect()
    }
}

pub async fn queries_narrow_filter_sort_and_page<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut all = Vec::new();
    for number in 0..5 {
        scene.clock.advance_ms(1_000);
        let members: &[&str] = if number % 2 == 0 { &["tom", "jerry"] } else { &["jerry"] };
        let mut new = scene.draft(Kind::Group, scene.lasting_id(), members);
        new.conversation.attributes = json!({"attr": {"n": number}}).as_object().unwrap().clone();
        all.push(scene.make(new).await);
    }
    let room = scene.room().await;
    let temporary = scene.temporary(60_000, &["tom"]).await;
    scene.clock.advance_ms(1_000);
    scene.say(all[2], "tom", "newest").await;

    let member = Scope::Member(client("tom"));
    // The newest message first, then the newest change.
    assert_eq!(scene.find(query(member.clone())).await, [all[2], all[4], all[0]]);
    assert_eq!(scene.find(query(Scope::Ids(vec![room, all[1], temporary, all[1]]))).await.len(), 2);
    assert_eq!(scene.find(query(Scope::All)).await.len(), 6);
    let living = Scope::Temporary { ids: vec![temporary, all[0]], member: client("tom") };
    assert_eq!(scene.find(query(living)).await, [temporary]);
    let stranger = Scope::Temporary { ids: vec![temporary], member: client("jerry") };
    assert_eq!(scene.find(query(stranger)).await, []);

    let number = || Field::Attribute(vec!["attr".into(), "n".into()]);
    let upwards = SortKey { field: number(), descending: false };
    let mut asked = query(Scope::All);
    asked.filter = Filter::Field(number(), Test::GreaterOrEqual(Operand::Value(json!(1))));
    asked.sort = vec![upwards];
    assert_eq!(scene.find(asked.clone()).await, all[1..]);
    (asked.skip, asked.limit) = (1, 2);
    assert_eq!(scene.find(asked.clone()).await, all[2..4]);
    (asked.skip, asked.limit) = (9, 2);
    assert_eq!(scene.find(asked.clone()).await, []);
    asked.filter = Filter::Field(Field::Members, Test::Size(1));
    (asked.skip, asked.limit) = (0, 100);
    assert_eq!(scene.find(asked).await, [all[1], all[3]]);
    let found =
        scene.store().query_conversations(&scene.app, &client("tom"), &[], query(member)).await.unwrap();
    assert_eq!(timeless(found[0].conversation.clone()), timeless(scene.conversation(all[2]).await));
}

pub async fn queries_show_last_messages_to_members_only<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (mine, theirs, room) =
        (scene.group(&["tom"]).await, scene.group(&["jerry"]).await, scene.room().await);
    let said = scene.say(mine, "tom", "mine").await;
    scene.say(theirs, "jerry", "theirs").await;
    let in_room = scene.say(room, "jerry", "room").await;
    let mut asked = query(Scope::Ids(vec![mine, theirs, room]));
    asked.with_last_message = true;
    for rooms in [vec![], vec![room, theirs]] {
        let tom = client("tom");
        let found = scene.store().query_conversations(&scene.app, &tom, &rooms, asked.clone()).await.unwrap();
        let last = |id| found.iter().find(|found| found.conversation.id == id).unwrap().last_message.clone();
        assert_eq!(last(mine), Some(said.clone()));
        assert_eq!(last(theirs), None);
        assert_eq!(last(room), (!rooms.is_empty()).then(|| in_room.clone()));
    }
}

pub async fn closures_of_refused_and_idle_calls_are_never_called<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom"]).await;
    let heard = Heard::default();
    let change = |by: &str, who: &str| member_change(id, by, &[who]);
    let calls = [change("spike", "anna"), change("tom", "tom"), change("jerry", "spike")];
    let store = scene.store();
    let app = &scene.app;
    join_all(calls.map(|change| store.add_members(app, change, &scene.settings, heard.listen()))).await;
    store.remove_members(app, change("spike", "spike"), heard.listen()).await.unwrap();
    assert_eq!(heard.all(), []);
    store.add_members(app, change("tom", "anna"), &scene.settings, heard.listen()).await.unwrap();
    assert_eq!(heard.all().len(), 1);
}
