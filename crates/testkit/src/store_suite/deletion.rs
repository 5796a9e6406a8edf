//! Conversations that are deleted, for everybody or for one, with or without their messages.

use posthouse_core::conversation::RoleChange;
use posthouse_core::error::Error;
use posthouse_core::query::{ConversationQuery, Filter, Scope};

use super::*;

use DeleteScope::{Caller, Everyone};

impl<E: Engine> Scene<E> {
    /// Forgets all that is deleted; returns how many rows.
    pub async fn forget_all(&self) -> usize {
        let mut forgotten = 0;
        while let some @ 1.. = self.store().forget_deleted().await.unwrap() {
            forgotten += some;
        }
        forgotten
    }

    async fn delete_as(
        &self,
        conversation: ConversationId,
        by: &str,
        group_needs_moderator: bool,
    ) -> Result<ConversationDeleted> {
        let delete = DeleteConversation {
            conversation,
            by: client(by),
            device: None,
            with_messages: false,
            scope: Everyone,
            group_needs_moderator,
        };
        self.store().delete_conversation(&self.app, delete, nothing()).await
    }
}

pub async fn deleted_for_oneself_without_messages<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let deleted = scene.delete(id, "tom", Caller, false).await.unwrap();
    assert_eq!(deleted, ConversationDeleted { told: clients(&["tom"]), for_everyone: false });
    for _ in 0..2 {
        assert_eq!((scene.lines("tom").await, scene.unread("tom").await), (vec![], vec![]));
        assert_eq!(scene.everything(id, "tom").await, said);
        assert_eq!(scene.timeline(id, "tom").await.len(), 5);
        assert_eq!(scene.lines("spike").await, [(id, "4".to_owned(), 5)]);
        scene.reopen().await;
    }
    assert_eq!(scene.store().forget_deleted().await, Ok(0));
    scene.audit().await;
}

pub async fn deleted_for_oneself_with_messages<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let deleted = scene.delete(id, "tom", Caller, true).await.unwrap();
    assert_eq!(deleted, ConversationDeleted { told: clients(&["tom"]), for_everyone: false });
    for _ in 0..2 {
        assert_eq!((scene.lines("tom").await, scene.unread("tom").await), (vec![], vec![]));
        assert_eq!((scene.words(id, "tom").await, scene.timeline(id, "tom").await), (vec![], vec![]));
        assert_eq!(scene.everything(id, "spike").await, said);
        assert_eq!(scene.unread_in(id, "spike").await.0, 5);
        scene.reopen().await;
    }
    assert_eq!(scene.store().forget_deleted().await, Ok(0));
    assert_eq!(scene.everything(id, "spike").await, said);
    scene.audit().await;
}

pub async fn deleted_for_everyone_without_messages<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let deleted = scene.delete(id, "tom", Everyone, false).await.unwrap();
    assert_eq!(
        deleted,
        ConversationDeleted { told: clients(&["tom", "jerry", "spike"]), for_everyone: true }
    );
    for _ in 0..2 {
        for who in ["tom", "jerry", "spike"] {
            assert_eq!((scene.lines(who).await, scene.unread(who).await), (vec![], vec![]), "{who}");
            assert_eq!(scene.everything(id, who).await, said);
            assert_eq!(scene.timeline(id, who).await.len(), 5);
        }
        scene.reopen().await;
    }
    scene.clock.advance_ms(10);
    scene.say(id, "spike", "new").await;
    assert_eq!(scene.lines("tom").await, [(id, "new".to_owned(), 1)]);
    assert_eq!(scene.lines("spike").await, [(id, "new".to_owned(), 0)]);
    assert_eq!(scene.words(id, "tom").await.len(), 6);
    assert_eq!(scene.store().forget_deleted().await, Ok(0));
    scene.audit().await;
}

pub async fn deleted_for_everyone_with_messages<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let deleted = scene.delete(id, "jerry", Everyone, true).await.unwrap();
    assert!(deleted.for_everyone);
    for _ in 0..2 {
        for who in ["tom", "jerry", "spike"] {
            assert_eq!((scene.lines(who).await, scene.unread(who).await), (vec![], vec![]), "{who}");
            assert_eq!(
                (scene.words(id, who).await, scene.timeline(id, who).await),
                (vec![], vec![]),
                "{who}"
            );
        }
        scene.reopen().await;
    }
    // The conversation goes on.
    scene.clock.advance_ms(10);
    let new = scene.say(id, "tom", "new").await;
    assert_eq!(new.seq, Seq(6));
    for (who, unread) in [("tom", 0), ("jerry", 1), ("spike", 1)] {
        assert_eq!(scene.lines(who).await, [(id, "new".to_owned(), unread)]);
        assert_eq!(scene.everything(id, who).await, std::slice::from_ref(&new));
        assert_eq!(scene.timeline(id, who).await, [(6, "new".to_owned())]);
    }
    scene.audit().await;
}

pub async fn what_is_deleted_is_on_no_wire<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, said) = scene.five().await;
    let call =
        scene.append(NewMessage { mentions: calls_all(), ..message(id, "jerry", "all") }).await.unwrap();
    scene.patch("jerry", &said[0], text("edited"), Mentions::default()).await.unwrap();
    scene.recall(&said[1]).await;
    scene.delete(id, "tom", Everyone, true).await.unwrap();
    let store = scene.store();
    for who in ["tom", "jerry", "spike"] {
        let who = client(who);
        let one = store.message(&scene.app, &who, id, said[2].id).await;
        assert_eq!(one, Err(Error::MessageNotFound));
        assert_eq!(store.list_patches(&scene.app, &who, Timestamp(0), 10).await, Ok(vec![]));
        let query = ConversationQuery {
            scope: Scope::Member(who.clone()),
            filter: Filter::All(vec![]),
            sort: vec![],
            skip: 0,
            limit: 10,
            with_last_message: true,
        };
        let found = store.query_conversations(&scene.app, &who, &[], query).await.unwrap();
        assert_eq!((found.len(), &found[0].last_message), (1, &None));
    }
    let patched = scene.patch("jerry", &said[2], text("x"), Mentions::default()).await;
    assert_eq!(patched, Err(Error::MessageNotFound));
    assert_eq!(
        scene.patch("jerry", &said[3], recalled(), Mentions::default()).await,
        Err(Error::MessageNotFound)
    );
    let marked = scene.read_all(id, "tom").await;
    assert_eq!((marked.unread.count, marked.unread.mentioned, marked.unread.last_message), (0, false, None));
    let read = scene.read(id, "spike", Some(&call.message)).await;
    assert_eq!((read.unread.count, read.unread.last_message), (0, None));
    scene.audit().await;
}

pub async fn the_devices_of_those_concerned_find_notes<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let store = scene.store();
    for (scope, with_messages) in [(Caller, false), (Caller, true), (Everyone, false), (Everyone, true)] {
        let before = scene.notes("spike").await.len();
        let delete = DeleteConversation {
            conversation: id,
            by: client("tom"),
            device: Some(device("phone")),
            with_messages,
            scope,
            group_needs_moderator: false,
        };
        let (after, heard) = listener();
        let deleted = store.delete_conversation(&scene.app, delete, after).await.unwrap();
        assert_eq!(heard.all(), std::slice::from_ref(&deleted));
        let told = NoteKind::ConversationDeleted {
            conversation: id,
            by: client("tom"),
            device: Some(device("phone")),
            with_messages,
        };
        assert_eq!(scene.newest_notes("tom", 1).await, std::slice::from_ref(&told));
        let of_spike = scene.notes("spike").await;
        assert_eq!(of_spike.len() - before, usize::from(scope == Everyone));
        assert!(scope == Caller || of_spike.last().unwrap().what == told);
    }
}

pub async fn only_members_delete<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    for (scope, with_messages) in [(Caller, false), (Everyone, true)] {
        assert_eq!(scene.delete(id, "butch", scope, with_messages).await, Err(Error::NotMember));
    }
    let nowhere = scene.delete(scene.lasting_id(), "tom", Everyone, true).await;
    assert_eq!(nowhere, Err(Error::ConversationNotFound));
    assert_eq!(scene.words(id, "tom").await.len(), 5);
}

pub async fn a_group_may_need_a_moderator<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    // Tom made it, and spike helps.
    let (id, _) = scene.five().await;
    let make = RoleChange::Admin(client("spike"));
    let (store, tom) = (scene.store(), client("tom"));
    store.change_role(&scene.app, id, &tom, Authority::Owner, make, nothing()).await.unwrap();
    for (by, needs, for_everyone) in
        [("jerry", true, false), ("spike", true, true), ("tom", true, true), ("jerry", false, true)]
    {
        assert_eq!(scene.delete_as(id, by, needs).await.unwrap().for_everyone, for_everyone, "{by}");
    }
    // Of two, none is a moderator.
    let pair = scene.say_to("tom", "jerry", "x").await.conversation;
    assert!(scene.delete_as(pair, "jerry", true).await.unwrap().for_everyone);
    assert_eq!(scene.lines("tom").await, []);
}

pub async fn who_comes_later_sees_nothing_deleted<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    scene.delete(id, "tom", Everyone, true).await.unwrap();
    scene.clock.advance_ms(10);
    scene.add(id, "tom", &["anna"]).await.unwrap();
    assert_eq!((scene.words(id, "anna").await, scene.lines("anna").await), (vec![], vec![]));
    scene.remove(id, "spike", &["spike"]).await.unwrap();
    scene.add(id, "spike", &["spike"]).await.unwrap();
    assert_eq!((scene.words(id, "spike").await, scene.unread("spike").await), (vec![], vec![]));
    scene.audit().await;
}

pub async fn deleting_twice_takes_what_came_between<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    scene.delete(id, "tom", Everyone, true).await.unwrap();
    scene.clock.advance_ms(10);
    scene.say(id, "jerry", "between").await;
    scene.clock.advance_ms(10);
    scene.delete(id, "tom", Caller, true).await.unwrap();
    assert_eq!(
        (scene.words(id, "tom").await, scene.words(id, "spike").await),
        (vec![], vec!["between".to_owned()])
    );
    scene.delete(id, "spike", Everyone, true).await.unwrap();
    scene.delete(id, "spike", Everyone, true).await.unwrap();
    for who in ["tom", "jerry", "spike"] {
        assert_eq!((scene.words(id, who).await, scene.lines(who).await), (vec![], vec![]));
    }
    scene.audit().await;
}

pub async fn deletion_is_not_reading<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let wanted = NewMessage { receipt: true, ..message(id, "jerry", "x") };
    scene.append(wanted).await.unwrap();
    scene.delete(id, "tom", Everyone, false).await.unwrap();
    let marks = scene.store().member_marks(&scene.app, &client("jerry"), id).await.unwrap();
    assert!(marks.iter().all(|marks| marks.read_at.is_none() && marks.delivered_at.is_none()));
    assert_eq!(scene.everything(id, "jerry").await[0].read_at, None);
}

pub async fn deleted_messages_are_forgotten<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (id, _) = scene.five().await;
    let (other, kept) = scene.five().await;
    let since = scene.now().plus_ms(-1);
    scene.say(id, "jerry", "5").await;
    scene.delete(id, "tom", Everyone, true).await.unwrap();
    scene.clock.advance_ms(10);
    let new = scene.say(id, "jerry", "new").await;
    assert!(scene.forget_all().await >= 6);
    for _ in 0..2 {
        assert_eq!(scene.everything(id, "tom").await, std::slice::from_ref(&new));
        assert_eq!(scene.timeline(id, "tom").await, [(7, "new".to_owned())]);
        assert_eq!(scene.unread_in(id, "tom").await.0, 1);
        assert_eq!(scene.everything(other, "tom").await, kept);
        assert_eq!(scene.unread_in(other, "spike").await.0, 5);
        assert_eq!(scene.store().forget_deleted().await, Ok(0));
        scene.reopen().await;
    }
    assert_eq!(scene.say(id, "spike", "more").await.seq, Seq(8));
    let patches = scene.store().list_patches(&scene.app, &client("tom"), since, 10).await;
    assert_eq!(patches, Ok(vec![]));
    scene.audit().await;
}

pub async fn many_deleted_messages_are_forgotten_in_pieces<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let id = scene.group(&["tom", "jerry"]).await;
    let heard = Heard::default();
    let sends =
        (0..2_500).map(|_| scene.store().append_message(&scene.app, message(id, "tom", "x"), heard.listen()));
    futures_util::future::join_all(sends).await;
    assert_eq!(heard.all().len(), 2_500);
    scene.delete(id, "jerry", Everyone, true).await.unwrap();
    // Live traffic goes on between pieces.
    let first = scene.store().forget_deleted().await.unwrap();
    assert!((1..2_000).contains(&first), "{first}");
    scene.say(id, "tom", "between").await;
    assert!(first + scene.forget_all().await >= 2_500);
    assert_eq!(scene.words(id, "jerry").await, ["between"]);
    scene.audit().await;
}
