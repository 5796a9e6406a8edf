//! Tenants, and their isolation from each other.

use posthouse_core::error::Error;
use posthouse_core::port::store::AttributesChange;
use posthouse_core::query::{ConversationQuery, Filter, Scope};
use posthouse_core::receipt::{Delivered, MarkDelivered, MarkRead};
use posthouse_core::time::Timestamp;

use super::*;

pub async fn an_added_app_is_seen_once_a_revision<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (revision, apps) = scene.store().apps_since(0).await.unwrap().unwrap();
    assert_eq!(apps, [app("app", &[])]);
    assert_eq!(scene.store().apps_since(revision).await.unwrap(), None);
    assert!(scene.store().add_app(app("two", &[("k", "v")]), &[]).await.unwrap());
    let (newer, apps) = scene.store().apps_since(revision).await.unwrap().unwrap();
    assert!(newer > revision);
    assert_eq!(apps, [app("app", &[]), app("two", &[("k", "v")])]);
    scene.reopen().await;
    assert_eq!(scene.store().apps_since(newer).await.unwrap(), None);
    assert_eq!(scene.store().apps_since(0).await.unwrap(), Some((newer, apps)));
}

pub async fn names_ids_and_unique_keys_belong_to_one_app<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let store = scene.store();
    assert!(store.add_app(app("one", &[("id", "x"), ("free", "y")]), &["id"]).await.unwrap());
    let (revision, _) = store.apps_since(0).await.unwrap().unwrap();
    assert!(!store.add_app(app("one", &[]), &["id"]).await.unwrap());
    let mut same_name = app("other", &[]);
    same_name.name = app("one", &[]).name;
    assert!(!store.add_app(same_name, &["id"]).await.unwrap());
    assert!(!store.add_app(app("other", &[("id", "x")]), &["id"]).await.unwrap());
    assert_eq!(store.apps_since(revision).await.unwrap(), None);
    assert!(store.add_app(app("other", &[("free", "y")]), &["id"]).await.unwrap());
}

pub async fn replacing_changes_keys_and_settings_only<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let store = scene.store();
    assert!(store.add_app(app("one", &[("id", "x")]), &["id"]).await.unwrap());
    assert!(!store.replace_app(app("nobody", &[]), &["id"]).await.unwrap());
    assert!(!store.replace_app(app("app", &[("id", "x")]), &["id"]).await.unwrap());
    let mut changed = app("app", &[("id", "z")]);
    changed.settings.will_grace_seconds = 0;
    changed.name = "another name".to_owned();
    assert!(store.replace_app(changed.clone(), &["id"]).await.unwrap());
    changed.name = app("app", &[]).name;
    let (_, apps) = store.apps_since(0).await.unwrap().unwrap();
    assert_eq!(apps, [changed, app("one", &[("id", "x")])]);
}

pub async fn apps_find_nothing_of_each_other<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let store = scene.store();
    assert!(store.add_app(app("other", &[]), &[]).await.unwrap());
    let (other, tom) = (app_id("other"), client("tom"));
    let lasting = scene.make(scene.unique_draft(&["tom", "jerry"])).await;
    let temporary = scene.temporary(60_000, &["tom", "jerry"]).await;
    for (id, absent) in [(lasting, Error::ConversationNotFound), (temporary, Error::TemporaryOver)] {
        let said = scene
            .append(NewMessage { mentions: calls_all(), ..message(id, "jerry", "hi") })
            .await
            .unwrap()
            .message;
        scene.recall(&scene.say(id, "jerry", "oops").await).await;
        assert_eq!(store.conversation(&other, id).await.unwrap_err(), absent);
        let query = HistoryQuery::newest(id, 10);
        assert_eq!(store.read_history(&other, &tom, query).await.unwrap_err(), absent);
        assert_eq!(
            store.append_message(&other, message(id, "tom", "x"), nothing()).await.unwrap_err(),
            absent
        );
        let patch = patch(&said, recalled(), Mentions::default());
        assert_eq!(
            store.patch_message(&other, &client("jerry"), patch, nothing()).await.unwrap_err(),
            absent
        );
        let mark = MarkRead { conversation: id, until: None, id: None, device: None };
        assert_eq!(store.mark_read(&other, &tom, mark, nothing()).await.unwrap_err(), absent);
        let mark = MarkDelivered { conversation: id, until: Delivered::Message(said.id) };
        assert_eq!(store.mark_delivered(&other, &tom, mark, nothing()).await.unwrap_err(), absent);
        assert_eq!(store.member_marks(&other, &tom, id).await.unwrap_err(), absent);
        assert_eq!(store.set_muted(&other, id, &tom, true).await.unwrap_err(), absent);
        let change = member_change(id, "tom", &["spike"]);
        assert_eq!(
            store.add_members(&other, change.clone(), &scene.settings, nothing()).await.unwrap_err(),
            absent
        );
        assert_eq!(store.remove_members(&other, change, nothing()).await.unwrap_err(), absent);
        let change = AttributesChange {
            conversation: id,
            by: tom.clone(),
            changes: vec![],
            authority: Authority::Member,
        };
        assert_eq!(
            store.update_attributes(&other, change, &scene.settings, nothing()).await.unwrap_err(),
            absent
        );
    }
    let everything = [
        Scope::All,
        Scope::Member(tom.clone()),
        Scope::Ids(vec![lasting]),
        Scope::Temporary { ids: vec![temporary], member: tom.clone() },
    ];
    for scope in everything {
        let query = ConversationQuery {
            scope,
            filter: Filter::All(vec![]),
            sort: vec![],
            skip: 0,
            limit: 10,
            with_last_message: true,
        };
        assert_eq!(store.query_conversations(&other, &tom, &[], query).await.unwrap(), []);
    }
    let before = Timestamp(0);
    assert_eq!(store.list_unread(&other, &tom, None, 10).await.unwrap(), []);
    assert_eq!(store.list_patches(&other, &tom, before, 10).await.unwrap(), []);
    assert_eq!(store.list_invitations(&other, &tom, before, 10).await.unwrap(), []);
    assert_eq!(store.list_changes(&other, &tom, before, 10).await.unwrap(), Some(vec![]));
    // The same set of members in another app is another conversation.
    let twin = scene.unique_draft(&["tom", "jerry"]);
    let made = store.create_conversation(&other, twin.clone(), nothing()).await.unwrap();
    assert_eq!((made.existing, made.conversation.id), (false, twin.id));
}
