//! Messages to a person: the conversation of two is found or made by them.

use futures_util::future::join_all;
use posthouse_core::error::Error;

use super::*;

impl<E: Engine> Scene<E> {
    pub async fn pair(&self, one: &str, other: &str) -> Option<ConversationId> {
        self.store().find_direct(&self.app, &client(one), &client(other)).await.unwrap()
    }
}

pub async fn the_first_message_makes_the_conversation<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    assert_eq!(scene.pair("tom", "jerry").await, None);
    let new = scene.to("tom", "jerry", "hi");
    let Destination::Direct { fresh, .. } = new.to else { panic!("{new:?}") };
    let (after, heard) = listener();
    let sent = scene.store().append_message(&scene.app, new, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&sent));
    let made = sent.created.unwrap();
    assert_eq!((made.id, made.kind, made.creator.as_ref()), (fresh, Kind::Direct, Some(&client("tom"))));
    assert_eq!(MemberSet::of(&made.members), MemberSet::of(&clients(&["tom", "jerry"])));
    assert_eq!(made.unique, Some(MemberSet::of(&made.members)));
    assert_eq!((sent.kind, &*sent.members, sent.duplicate), (Kind::Direct, &*made.members, false));
    assert_eq!((sent.message.conversation, sent.message.seq), (fresh, Seq(1)));
    // Both are told of it as of any new conversation.
    for who in ["tom", "jerry"] {
        let notes = scene.notes(who).await;
        let [Note { address: Some(address), what: NoteKind::Joined(_), .. }] = &notes[..] else {
            panic!("{notes:?}")
        };
        let peer = if who == "tom" { "jerry" } else { "tom" };
        assert_eq!(
            (address.id, address.kind, address.peer.as_ref()),
            (fresh, Kind::Direct, Some(&client(peer)))
        );
    }
    scene.reopen().await;
    assert_eq!(scene.pair("tom", "jerry").await, Some(fresh));
    assert_eq!(scene.words(fresh, "jerry").await, ["hi"]);
    assert_eq!(scene.unread_in(fresh, "jerry").await.0, 1);
    scene.audit().await;
}

pub async fn both_sides_find_the_same<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let first = scene.say_to("tom", "jerry", "1").await;
    for (sender, with, words) in [("jerry", "tom", "2"), ("tom", "jerry", "3")] {
        let sent = scene.append(scene.to(sender, with, words)).await.unwrap();
        assert_eq!((sent.message.conversation, sent.created), (first.conversation, None));
    }
    assert_eq!(scene.pair("jerry", "tom").await, Some(first.conversation));
    assert_eq!(scene.words(first.conversation, "tom").await, ["1", "2", "3"]);
    assert_eq!((scene.notes("tom").await.len(), scene.notes("jerry").await.len()), (1, 1));
    let other = scene.say_to("tom", "spike", "x").await;
    assert_ne!(other.conversation, first.conversation);
    scene.audit().await;
}

pub async fn many_at_once_make_one<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let heard = Heard::default();
    let sends = (0..20).map(|number| {
        let (sender, with) = if number % 2 == 0 { ("tom", "jerry") } else { ("jerry", "tom") };
        scene.store().append_message(&scene.app, scene.to(sender, with, "x"), heard.listen())
    });
    let sent: Vec<Appended> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
    let id = sent[0].message.conversation;
    assert!(sent.iter().all(|sent| sent.message.conversation == id));
    let makers: Vec<Appended> = heard.all().into_iter().filter(|sent| sent.created.is_some()).collect();
    assert_eq!((makers.len(), makers[0].message.seq), (1, Seq(1)));
    assert_eq!(scene.everything(id, "tom").await.len(), 20);
    scene.audit().await;
}

pub async fn one_talks_to_oneself<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let sent = scene.append(scene.to("tom", "tom", "note")).await.unwrap();
    assert_eq!((sent.kind, &*sent.members), (Kind::Direct, &*clients(&["tom"])));
    let id = sent.message.conversation;
    assert_eq!(scene.say_to("tom", "tom", "more").await.conversation, id);
    assert_eq!(scene.pair("tom", "tom").await, Some(id));
    assert_eq!(scene.words(id, "tom").await, ["note", "more"]);
    assert_eq!(scene.unread("tom").await, []);
    assert_eq!(scene.notes("tom").await.len(), 1);
    let listed = scene.list("tom", list()).await.remove(0);
    assert_eq!((listed.address.peer, listed.unread), (Some(client("tom")), 0));
    scene.audit().await;
}

pub async fn a_unique_pair_made_elsewhere_is_found<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let made = scene.make(scene.unique_draft(&["jerry", "tom"])).await;
    assert_eq!(scene.pair("tom", "jerry").await, Some(made));
    let sent = scene.append(scene.to("tom", "jerry", "hi")).await.unwrap();
    assert_eq!((sent.message.conversation, sent.created), (made, None));
    // And the other way round.
    let said = scene.say_to("tom", "spike", "hi").await;
    let again = scene.unique_draft(&["spike", "tom"]);
    let found = scene.store().create_conversation(&scene.app, again, nothing()).await.unwrap();
    assert_eq!((found.existing, found.conversation.id), (true, said.conversation));
    // A temporary conversation of the two, or a plain one, is not theirs.
    let (id, kind) = scene.temporary_id(60_000);
    let mut temporary = scene.draft(kind, id, &["tom", "anna"]);
    temporary.conversation.unique = Some(MemberSet::of(&temporary.conversation.members));
    scene.make(temporary).await;
    scene.group(&["tom", "anna"]).await;
    assert_eq!(scene.pair("tom", "anna").await, None);
}

pub async fn a_taken_id_leads_to_the_next<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let taken = scene.group(&["spike"]).await;
    let to = Destination::Direct { with: client("jerry"), fresh: taken };
    let sent = scene.append(NewMessage { to, ..message(taken, "tom", "hi") }).await.unwrap();
    assert_eq!(sent.message.conversation, taken.when_taken());
    assert_eq!(sent.created.unwrap().id, taken.when_taken());
    assert_eq!(scene.words(taken, "spike").await, [""; 0]);
    // Also when another app has it.
    assert!(scene.store().add_app(app("other", &[]), &[]).await.unwrap());
    let elsewhere = scene.draft(Kind::Group, scene.lasting_id(), &["tom", "anna"]);
    scene.store().create_conversation(&app_id("other"), elsewhere.clone(), nothing()).await.unwrap();
    let to = Destination::Direct { with: client("anna"), fresh: elsewhere.id };
    let sent = scene.append(NewMessage { to, ..message(taken, "tom", "hi") }).await.unwrap();
    assert_eq!(sent.message.conversation, elsewhere.id.when_taken());
    assert_eq!(scene.pair("tom", "anna").await, Some(elsewhere.id.when_taken()));
}

pub async fn who_is_blocked_is_refused<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    scene.block("jerry", &["tom"], true).await.unwrap();
    let (after, heard) = listener();
    let refused = scene.store().append_message(&scene.app, scene.to("tom", "jerry", "x"), after).await;
    assert_eq!((refused, heard.all()), (Err(Error::Blocked), vec![]));
    // Nothing was made by it.
    assert_eq!((scene.pair("tom", "jerry").await, scene.notes("tom").await), (None, vec![]));
    // Who blocks may speak.
    let id = scene.say_to("jerry", "tom", "I don't listen").await.conversation;
    assert_eq!(scene.append(scene.to("tom", "jerry", "x")).await, Err(Error::Blocked));
    assert_eq!(scene.append(message(id, "tom", "x")).await, Err(Error::Blocked));
    scene.block("jerry", &["tom"], false).await.unwrap();
    assert_eq!(scene.say_to("tom", "jerry", "x").await.seq, Seq(2));
    scene.audit().await;
}

pub async fn blocks_bind_neither_servers_nor_groups<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    scene.block("jerry", &["tom"], true).await.unwrap();
    let by_server = NewMessage { origin: Origin::Server, ..scene.to("tom", "jerry", "notice") };
    let sent = scene.append(by_server).await.unwrap();
    assert_eq!((sent.message.origin, sent.message.sender.as_str()), (Origin::Server, "tom"));
    let group = scene.group(&["tom", "jerry"]).await;
    scene.say(group, "tom", "hi").await;
    assert_eq!(scene.words(group, "jerry").await, ["hi"]);
}

pub async fn servers_speak_in_anyones_name<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let group = scene.group(&["tom", "jerry"]).await;
    let said = scene.serve(group, "admin", "notice").await;
    assert_eq!(scene.everything(group, "tom").await, [said]);
    assert_eq!(scene.timeline(group, "jerry").await, [(1, "notice".to_owned())]);
    assert_eq!(scene.append(message(group, "admin", "x")).await, Err(Error::NotMember));
    let counted = NewMessage { origin: Origin::Server, ..message(group, "admin", "counts") };
    scene.append(counted).await.unwrap();
    assert_eq!((scene.unread_in(group, "tom").await.0, scene.unread_in(group, "jerry").await.0), (1, 1));
    scene.audit().await;
}

pub async fn a_retry_to_a_person_is_the_same_message<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let heard = Heard::default();
    let tries = (0..6).map(|_| {
        let new = NewMessage { token: token("t"), ..scene.to("tom", "jerry", "once") };
        scene.store().append_message(&scene.app, new, heard.listen())
    });
    let sent: Vec<Appended> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(sent.iter().filter(|sent| !sent.duplicate).count(), 1);
    assert!(sent.iter().all(|other| other.message == sent[0].message));
    assert_eq!(heard.all().len(), 1);
    assert_eq!(scene.everything(sent[0].message.conversation, "jerry").await.len(), 1);
}

pub async fn a_pair_that_changed_is_replaced_by_another<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let first = scene.say_to("tom", "jerry", "1").await.conversation;
    scene.add(first, "tom", &["spike"]).await.unwrap();
    assert_eq!(scene.pair("tom", "jerry").await, None);
    let second = scene.say_to("jerry", "tom", "2").await.conversation;
    assert_ne!(first, second);
    assert_eq!(scene.words(first, "spike").await, ["1"]);
    assert_eq!(scene.words(second, "tom").await, ["2"]);
    scene.audit().await;
}
