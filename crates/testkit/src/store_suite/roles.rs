//! Who may do what, and the end of a group.

use posthouse_core::attribute::{AttributeChange, Operation};
use posthouse_core::conversation::{Role, RoleChange, RoleChanged};
use posthouse_core::error::Error;
use posthouse_core::port::store::AttributesChange;
use serde_json::json;

use super::*;

use Authority::{Member, Moderator, Owner, Server};

impl<E: Engine> Scene<E> {
    async fn change_role(
        &self,
        id: ConversationId,
        by: &str,
        authority: Authority,
        change: RoleChange,
    ) -> Result<RoleChanged> {
        self.store().change_role(&self.app, id, &client(by), authority, change, nothing()).await
    }

    /// A group of tom, its owner, anna, its administrator, jerry and spike.
    async fn club(&self) -> ConversationId {
        let id = self.group(&["tom", "anna", "jerry", "spike"]).await;
        self.change_role(id, "tom", Owner, admin("anna")).await.unwrap();
        id
    }

    async fn end(&self, id: ConversationId, by: &str, authority: Authority) -> Result<()> {
        let ended = self.store().end_conversation(&self.app, id, &client(by), authority, nothing()).await;
        ended.map(drop)
    }
}

fn admin(who: &str) -> RoleChange {
    RoleChange::Admin(client(who))
}

fn no_admin(who: &str) -> RoleChange {
    RoleChange::NoAdmin(client(who))
}

fn owner(who: &str) -> RoleChange {
    RoleChange::Owner(client(who))
}

pub async fn an_owner_names_administrators<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry", "spike"]).await;
    assert_eq!(scene.conversation(id).await.owner, Some(client("tom")));
    let (after, heard) = listener();
    let tom = client("tom");
    let changed =
        scene.store().change_role(&scene.app, id, &tom, Owner, admin("jerry"), after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&changed));
    assert_eq!((changed.changed, changed.told), (true, clients(&["jerry"])));
    let told = |change| NoteKind::Role { conversation: id, by: client("tom"), change };
    assert_eq!(scene.newest_notes("jerry", 1).await, [told(admin("jerry"))]);
    scene.reopen().await;
    let group = scene.conversation(id).await;
    assert_eq!(group.admins, clients(&["jerry"]));
    let roles = ["tom", "jerry", "spike", "anna"].map(|who| group.role(&client(who)));
    assert_eq!(roles, [Some(Role::Owner), Some(Role::Admin), Some(Role::Member), None]);
    // Once more changes nothing, and tells nobody.
    let (after, heard) = listener();
    let again = scene.store().change_role(&scene.app, id, &tom, Owner, admin("jerry"), after).await.unwrap();
    assert_eq!((again.changed, heard.all()), (false, vec![]));
    scene.change_role(id, "tom", Owner, no_admin("jerry")).await.unwrap();
    assert_eq!(scene.newest_notes("jerry", 2).await, [told(admin("jerry")), told(no_admin("jerry"))]);
    assert_eq!(scene.conversation(id).await.admins, []);
    assert!(!scene.change_role(id, "tom", Owner, no_admin("jerry")).await.unwrap().changed);
    assert_eq!(scene.notes("jerry").await.len(), 3);
}

pub async fn a_group_is_handed_on<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.club().await;
    let mut changed = scene.change_role(id, "tom", Owner, owner("anna")).await.unwrap();
    changed.told.sort_unstable();
    let told = clients(&["anna", "tom"]);
    assert_eq!(changed, RoleChanged { owner_before: Some(client("tom")), changed: true, told });
    scene.reopen().await;
    let group = scene.conversation(id).await;
    assert_eq!((group.owner, group.creator), (Some(client("anna")), Some(client("tom"))));
    // An owner is no administrator beside, and who was one is a member.
    assert_eq!((group.admins, group.members.len()), (vec![], 4));
    for who in ["anna", "tom"] {
        let note = NoteKind::Role { conversation: id, by: client("tom"), change: owner("anna") };
        assert_eq!(scene.newest_notes(who, 1).await, [note]);
    }
    assert_eq!(scene.change_role(id, "tom", Owner, admin("jerry")).await, Err(Error::NotAllowed));
    assert!(scene.change_role(id, "anna", Owner, admin("tom")).await.unwrap().changed);
}

pub async fn roles_are_refused_by_cause<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    let cases = [
        ("butch", admin("jerry"), Error::NotMember),
        ("jerry", admin("jerry"), Error::NotAllowed),
        ("anna", admin("jerry"), Error::NotAllowed),
        ("anna", owner("anna"), Error::NotAllowed),
        ("tom", admin("butch"), Error::NotAMember { client: client("butch") }),
        ("tom", owner("butch"), Error::NotAMember { client: client("butch") }),
        ("tom", admin("tom"), Error::IsOwner),
        ("tom", owner("tom"), Error::IsOwner),
    ];
    let before = scene.conversation(id).await;
    for (by, change, error) in cases {
        assert_eq!(scene.change_role(id, by, Owner, change.clone()).await, Err(error), "{by} {change:?}");
    }
    assert_eq!(scene.conversation(id).await, before);
    let nowhere = scene.change_role(scene.lasting_id(), "tom", Owner, admin("anna")).await;
    assert_eq!(nowhere, Err(Error::ConversationNotFound));
    // The server is in no conversation and may do it.
    assert!(scene.change_role(id, "nobody", Server, owner("jerry")).await.unwrap().changed);
    assert_eq!(scene.conversation(id).await.owner, Some(client("jerry")));
}

pub async fn a_role_goes_with_the_member<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    scene.remove(id, "anna", &["anna"]).await.unwrap();
    assert_eq!(scene.conversation(id).await.admins, []);
    scene.add(id, "anna", &["anna"]).await.unwrap();
    assert_eq!(scene.conversation(id).await.role(&client("anna")), Some(Role::Member));
}

pub async fn members_are_moved_by_right<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    let add = async |by: &str, who: &str, authority| {
        let change = MemberChange { authority, ..member_change(id, by, &[who]) };
        scene
            .store()
            .add_members(&scene.app, change, &scene.settings, nothing())
            .await
            .map(|done| done.changed)
    };
    let remove = async |by: &str, who: &str, authority| {
        let change = MemberChange { authority, ..member_change(id, by, &[who]) };
        scene.store().remove_members(&scene.app, change, nothing()).await.map(|done| done.changed)
    };
    assert_eq!(add("jerry", "butch", Moderator).await, Err(Error::NotAllowed));
    assert_eq!(add("butch", "butch", Moderator).await, Err(Error::NotMember));
    assert_eq!(add("anna", "butch", Owner).await, Err(Error::NotAllowed));
    assert_eq!(add("anna", "butch", Moderator).await, Ok(clients(&["butch"])));
    assert_eq!(add("nobody", "tyke", Server).await, Ok(clients(&["tyke"])));
    assert_eq!(remove("jerry", "butch", Moderator).await, Err(Error::NotAllowed));
    assert_eq!(remove("stranger", "butch", Moderator).await, Err(Error::NotMember));
    assert_eq!(remove("anna", "butch", Moderator).await, Ok(clients(&["butch"])));
    assert_eq!(remove("nobody", "tyke", Server).await, Ok(clients(&["tyke"])));
    // What concerns only oneself is every member's right.
    assert_eq!(remove("jerry", "jerry", Moderator).await, Ok(clients(&["jerry"])));
    assert_eq!(remove("anna", "jerry", Moderator).await, Ok(vec![]));
    assert_eq!(remove("spike", "anna", Member).await, Ok(clients(&["anna"])));
    scene.audit().await;
}

pub async fn an_owner_goes_only_where_roles_are_not_kept<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    let remove = async |by: &str, authority| {
        let change = MemberChange { authority, ..member_change(id, by, &["tom"]) };
        let done = scene.store().remove_members(&scene.app, change, nothing()).await;
        done.map(|done| done.changed)
    };
    for (by, authority) in [("tom", Moderator), ("tom", Owner), ("anna", Moderator)] {
        assert_eq!(remove(by, authority).await, Err(Error::IsOwner), "{by}");
    }
    assert_eq!(scene.conversation(id).await.members.len(), 4);
    // Where every member may do everything, the owner is one of them.
    assert_eq!(remove("jerry", Member).await, Ok(clients(&["tom"])));
    assert_eq!(scene.conversation(id).await.owner, Some(client("tom")));
    assert_eq!(scene.conversation(id).await.role(&client("tom")), None);
    // Who is out hands nothing on; the server can.
    assert_eq!(scene.change_role(id, "tom", Owner, owner("anna")).await, Err(Error::NotMember));
    assert!(scene.change_role(id, "nobody", Server, owner("anna")).await.unwrap().changed);
    scene.audit().await;
}

pub async fn a_conversation_may_have_a_limit_of_its_own<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let add = async |who: &[&str], members_max| {
        let change = MemberChange { members_max, ..member_change(id, "tom", who) };
        scene
            .store()
            .add_members(&scene.app, change, &scene.settings, nothing())
            .await
            .map(|done| done.changed)
    };
    assert_eq!(add(&["a", "b"], Some(3)).await, Err(Error::ConversationFull { max: 3 }));
    assert_eq!(add(&["a"], Some(3)).await, Ok(clients(&["a"])));
    assert_eq!(add(&["a", "jerry"], Some(3)).await, Ok(vec![]));
    assert_eq!(add(&["b"], Some(3)).await, Err(Error::ConversationFull { max: 3 }));
    assert_eq!(add(&["b"], None).await, Ok(clients(&["b"])));
}

pub async fn attributes_are_changed_by_right<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    for (by, authority, wanted) in [
        ("jerry", Moderator, Err(Error::NotAllowed)),
        ("anna", Owner, Err(Error::NotAllowed)),
        ("butch", Moderator, Err(Error::NotMember)),
        ("anna", Moderator, Ok(())),
        ("tom", Owner, Ok(())),
        ("nobody", Server, Ok(())),
        ("jerry", Member, Ok(())),
    ] {
        let change = AttributesChange {
            conversation: id,
            by: client(by),
            changes: vec![AttributeChange {
                path: vec!["name".into()],
                operation: Operation::Set(json!(by)),
            }],
            authority,
        };
        let done = scene.store().update_attributes(&scene.app, change, &scene.settings, nothing()).await;
        assert_eq!(done.map(drop), wanted, "{by}");
    }
    assert_eq!(scene.conversation(id).await.attributes["name"], json!("jerry"));
}

pub async fn messages_are_changed_by_right<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    let change = async |by: &str, of: &Message, body: Body, authority| {
        let patch = PatchMessage { authority, ..patch(of, body, Mentions::default()) };
        scene.store().patch_message(&scene.app, &client(by), patch, nothing()).await.map(|done| done.patch)
    };
    let said = scene.say(id, "jerry", "1").await;
    assert_eq!(change("spike", &said, recalled(), Moderator).await, Err(Error::NotSender));
    assert_eq!(change("anna", &said, recalled(), Member).await, Err(Error::NotSender));
    assert_eq!(change("butch", &said, recalled(), Moderator).await, Err(Error::NotMember));
    let edited = change("jerry", &said, text("2"), Moderator).await.unwrap();
    assert_eq!((edited.by.as_str(), edited.edits), ("jerry", 1));
    let taken = change("anna", &said, recalled(), Moderator).await.unwrap();
    assert_eq!((taken.by.as_str(), taken.sender.as_str(), taken.edits), ("anna", "jerry", 1));
    let stored = scene.everything(id, "tom").await.remove(0);
    assert_eq!((stored.patched_by, stored.sender, stored.edits), (Some(client("anna")), client("jerry"), 1));
    let other = scene.say(id, "tom", "3").await;
    let taken = change("nobody", &other, recalled(), Server).await.unwrap();
    assert_eq!(taken.by.as_str(), "nobody");
    assert!(scene.everything(id, "tom").await.iter().all(Message::is_recalled));
    assert_eq!(scene.unread("spike").await, []);
    scene.audit().await;
}

pub async fn changes_may_come_too_late_or_too_often<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let said = scene.say(id, "tom", "0").await;
    let change = async |body: Body, not_before, edits_max| {
        let patch = PatchMessage { not_before, edits_max, ..patch(&said, body, Mentions::default()) };
        scene
            .store()
            .patch_message(&scene.app, &client("tom"), patch, nothing())
            .await
            .map(|done| done.patch.edits)
    };
    let late = Some(said.timestamp.plus_ms(1));
    assert_eq!(change(recalled(), late, None).await, Err(Error::RecallTooLate));
    assert_eq!(change(text("1"), Some(said.timestamp), Some(2)).await, Ok(1));
    assert_eq!(change(text("2"), None, Some(2)).await, Ok(2));
    assert_eq!(change(text("3"), None, Some(2)).await, Err(Error::TooManyEdits { max: 2 }));
    assert_eq!(scene.words(id, "tom").await, ["2"]);
    assert_eq!(change(text("3"), None, None).await, Ok(3));
    // Taking back is no edit.
    assert_eq!(change(recalled(), Some(said.timestamp), Some(2)).await, Ok(3));
}

pub async fn groups_are_listed_newest_first<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        scene.clock.advance_ms(10);
        ids.push(scene.group(if number % 2 == 0 { &["tom", "jerry"] } else { &["jerry"] }).await);
    }
    scene.say_to("tom", "jerry", "a pair is no group").await;
    scene.room().await;
    scene.temporary(60_000, &["tom"]).await;
    let page = async |member: Option<&str>, skip, limit| {
        let page =
            scene.store().list_groups(&scene.app, member.map(client).as_ref(), skip, limit).await.unwrap();
        (page.groups.iter().map(|group| group.id).collect::<Vec<_>>(), page.total)
    };
    assert_eq!(page(Some("tom"), 0, 10).await, (vec![ids[4], ids[2], ids[0]], 3));
    assert_eq!(page(Some("tom"), 1, 1).await, (vec![ids[2]], 3));
    assert_eq!(page(Some("tom"), 3, 10).await, (vec![], 3));
    assert_eq!(page(Some("nobody"), 0, 10).await, (vec![], 0));
    assert_eq!(page(None, 0, 2).await, (vec![ids[4], ids[3]], 5));
    let whole = scene.store().list_groups(&scene.app, None, 4, 10).await.unwrap();
    let oldest = whole.groups.into_iter().map(timeless).collect::<Vec<_>>();
    assert_eq!(oldest, [timeless(scene.conversation(ids[0]).await)]);
}

pub async fn an_ended_group_is_gone<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let id = scene.club().await;
    let change = AttributesChange {
        conversation: id,
        by: client("tom"),
        changes: vec![AttributeChange {
            path: vec!["name".into()],
            operation: Operation::Set(json!("club")),
        }],
        authority: Member,
    };
    scene.store().update_attributes(&scene.app, change, &scene.settings, nothing()).await.unwrap();
    for number in 0..3 {
        scene.say(id, "jerry", &number.to_string()).await;
    }
    let (other, kept) = scene.five().await;
    scene.open_device("jerry", "phone").await;
    let before = scene.conversation(id).await;
    let (after, heard) = listener();
    let (store, tom) = (scene.store(), client("tom"));
    let ended = store.end_conversation(&scene.app, id, &tom, Owner, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&ended));
    assert_eq!((ended.conversation.members, ended.conversation.id), (before.members, id));
    let gone = || Error::ConversationNotFound;
    for _ in 0..2 {
        let (store, jerry) = (scene.store(), client("jerry"));
        assert_eq!(store.conversation(&scene.app, id).await, Err(gone()));
        assert_eq!(scene.append(message(id, "jerry", "x")).await, Err(gone()));
        let query = HistoryQuery::newest(id, 10);
        assert_eq!(store.read_history(&scene.app, &jerry, query).await, Err(gone()));
        assert_eq!(store.read_timeline(&scene.app, &jerry, id, Seq(0), 10).await, Err(gone()));
        assert_eq!(scene.add(id, "tom", &["butch"]).await, Err(gone()));
        assert_eq!(scene.lines("jerry").await.len(), 1);
        assert!(scene.unread("spike").await.iter().all(|unread| unread.conversation == other));
        let waiting = scene.waiting("jerry", "phone").await;
        assert!(waiting.conversations.iter().all(|pending| pending.address.id == other));
        assert_eq!(store.list_groups(&scene.app, None, 0, 10).await.unwrap().total, 1);
        for who in ["tom", "anna", "jerry", "spike"] {
            let note =
                scene.notes(who).await.into_iter().find(|note| matches!(note.what, NoteKind::Ended { .. }));
            let note = note.unwrap();
            assert_eq!(note.address, None);
            let wanted = NoteKind::Ended { conversation: id, name: "club".into(), by: tom.clone() };
            assert_eq!(note.what, wanted);
        }
        scene.reopen().await;
    }
    assert!(scene.forget_all().await >= 3);
    assert_eq!(scene.everything(other, "tom").await, kept);
    assert_eq!(scene.store().conversation(&scene.app, id).await, Err(gone()));
    scene.audit().await;
}

pub async fn groups_are_ended_by_right<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.club().await;
    for (by, authority, error) in [
        ("jerry", Owner, Error::NotAllowed),
        ("anna", Owner, Error::NotAllowed),
        ("jerry", Moderator, Error::NotAllowed),
        ("butch", Owner, Error::NotMember),
        ("butch", Member, Error::NotMember),
    ] {
        assert_eq!(scene.end(id, by, authority).await, Err(error), "{by}");
    }
    let nowhere = scene.end(scene.lasting_id(), "tom", Owner).await;
    assert_eq!(nowhere, Err(Error::ConversationNotFound));
    assert_eq!(scene.end(id, "nobody", Server).await, Ok(()));
    assert_eq!(scene.end(id, "nobody", Server).await, Err(Error::ConversationNotFound));
}
