//! Accounts, contacts, blocks.

use std::sync::Arc;

use futures_util::future::join_all;
use posthouse_core::account::{
    Account, AccountChange, BLOCKS_MAX, CONTACTS_MAX, Contact, ContactChange, ContactNotice, NewAccount,
};
use posthouse_core::error::Error;
use posthouse_core::listing::{Queue, Waiting};
use posthouse_core::port::store::AccountRemoved;

use super::*;

fn new_account(id: &str) -> NewAccount {
    NewAccount { client: client(id), secret: Some("hash".into()), nickname: None }
}

fn contact(id: &str, remark: Option<&str>) -> Contact {
    Contact { client: client(id), remark: remark.map(Into::into) }
}

fn asks() -> ContactChange {
    ContactChange::Request("let's talk".into())
}

impl<E: Engine> Scene<E> {
    pub async fn register(&self, id: &str) -> Account {
        self.store().add_account(&self.app, new_account(id)).await.unwrap()
    }

    async fn account(&self, id: &str) -> Option<Account> {
        self.store().account(&self.app, &client(id)).await.unwrap()
    }

    pub async fn change_contact(
        &self,
        owner: &str,
        peer: &str,
        change: ContactChange,
    ) -> Result<Vec<ClientId>> {
        self.store().change_contact(&self.app, &client(owner), &client(peer), change, nothing()).await
    }

    async fn contacts(&self, owner: &str) -> Vec<Contact> {
        self.store().list_contacts(&self.app, &client(owner), None, 10_000).await.unwrap()
    }

    async fn know_each_other(&self, one: &str, other: &str) -> bool {
        let knows = async |a: &str, b: &str| self.contacts(a).await.iter().any(|c| c.client.as_str() == b);
        let both = (knows(one, other).await, knows(other, one).await);
        assert_eq!(both.0, both.1);
        both.0
    }

    pub async fn block(&self, owner: &str, peers: &[&str], blocked: bool) -> Result<()> {
        self.store().set_blocked(&self.app, &client(owner), &clients(peers), blocked).await
    }

    async fn blocks(&self, owner: &str) -> Vec<ClientId> {
        self.store().list_blocks(&self.app, &client(owner)).await.unwrap()
    }

    /// What the inbox says of contacts.
    async fn contact_notes(&self, who: &str) -> Vec<(ClientId, ContactNotice)> {
        let contact = |note: Note| match note.what {
            NoteKind::Contact { peer, notice } => Some((peer, notice)),
            _ => None,
        };
        self.notes(who).await.into_iter().filter_map(contact).collect()
    }
}

pub async fn an_account_comes_back_as_it_was_made<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let nickname: Option<Arc<str>> = Some("猫".into());
    let new = NewAccount { client: client("tom"), secret: None, nickname: nickname.clone() };
    let made = scene.store().add_account(&scene.app, new).await.unwrap();
    assert_eq!((made.client.as_str(), &made.secret, &made.nickname), ("tom", &None, &nickname));
    assert_eq!((made.active, made.created_at, made.updated_at), (true, scene.now(), scene.now()));
    scene.reopen().await;
    assert_eq!(scene.account("tom").await, Some(made));
    assert_eq!(scene.account("jerry").await, None);
}

pub async fn a_name_is_registered_once<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let tries = (0..5).map(|_| scene.store().add_account(&scene.app, new_account("tom")));
    let made = join_all(tries).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    assert!(made.iter().flat_map(|made| made.as_ref().err()).all(|error| *error == Error::AccountExists));
    assert_eq!(scene.store().list_accounts(&scene.app, 0, 10).await.unwrap().len(), 1);
}

pub async fn accounts_are_listed_in_the_order_of_their_making<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let mut made = Vec::new();
    for id in ["tom", "jerry", "anna", "spike"] {
        made.push(scene.register(id).await);
    }
    let page = async |after, limit| scene.store().list_accounts(&scene.app, after, limit).await.unwrap();
    assert_eq!(page(0, 10).await, made);
    assert_eq!(page(0, 2).await, made[..2]);
    assert_eq!(page(made[1].number, 2).await, made[2..]);
    assert_eq!(page(made[3].number, 2).await, []);
    // A number is not given twice, whoever goes.
    scene.store().remove_account(&scene.app, &client("spike"), nothing()).await.unwrap();
    assert!(scene.register("spike").await.number > made[3].number);
}

pub async fn a_new_secret_and_a_ban_count_up_the_generation<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let made = scene.register("tom").await;
    scene.clock.advance_ms(10);
    let change = async |change| scene.store().change_account(&scene.app, &client("tom"), change).await;
    let renamed = change(AccountChange::Nickname("Tom".into())).await.unwrap();
    assert_eq!((renamed.nickname.as_deref(), renamed.generation), (Some("Tom"), made.generation));
    assert_eq!((renamed.created_at, renamed.updated_at), (made.created_at, scene.now()));
    let closed = change(AccountChange::Active(false)).await.unwrap();
    assert_eq!((closed.active, closed.generation), (false, made.generation + 1));
    let open = change(AccountChange::Active(true)).await.unwrap();
    assert_eq!((open.active, open.generation), (true, made.generation + 1));
    let secret = change(AccountChange::Secret("other".into())).await.unwrap();
    assert_eq!((secret.secret.as_deref(), secret.generation), (Some("other"), made.generation + 2));
    assert_eq!(scene.account("tom").await, Some(secret));
    let nobody = scene.store().change_account(&scene.app, &client("x"), AccountChange::Active(true)).await;
    assert_eq!(nobody, Err(Error::AccountNotFound));
}

pub async fn a_removed_account_goes_with_what_is_its_own<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let account = scene.register("tom").await;
    scene.say_to("tom", "jerry", "hi").await;
    let group = scene.group(&["tom", "jerry"]).await;
    scene.say(group, "jerry", "all").await;
    scene.change_contact("tom", "jerry", ContactChange::Add).await.unwrap();
    scene.change_contact("spike", "tom", ContactChange::Add).await.unwrap();
    scene.change_contact("tom", "anna", asks()).await.unwrap();
    scene.block("tom", &["butch"], true).await.unwrap();
    let (store, tom, phone) = (scene.store(), client("tom"), device("phone"));
    store.open_device(&scene.app, &tom, &phone, 60_000).await.unwrap();
    store.set_position(&scene.app, &tom, &phone, Queue::Conversation(group), 1).await.unwrap();

    let (after, heard) = listener();
    let mut removed = store.remove_account(&scene.app, &tom, after).await.unwrap();
    assert_eq!(heard.all(), std::slice::from_ref(&removed));
    removed.told.sort_unstable();
    assert_eq!(removed, AccountRemoved { account, told: clients(&["jerry", "spike"]) });
    for peer in ["jerry", "spike"] {
        let told = scene.contact_notes(peer).await;
        assert_eq!(told.last(), Some(&(client("tom"), ContactNotice::Removed)));
        assert_eq!(scene.contacts(peer).await, []);
    }
    assert_eq!(scene.account("tom").await, None);
    assert_eq!((scene.contacts("tom").await, scene.blocks("tom").await), (vec![], vec![]));
    assert_eq!((scene.notes("tom").await, scene.lines("tom").await), (vec![], vec![]));
    // Who registers the name later is somebody else.
    scene.register("tom").await;
    store.open_device(&scene.app, &tom, &phone, 60_000).await.unwrap();
    assert_eq!(scene.waiting("tom", "phone").await.conversations, []);
    assert_eq!((scene.timeline(group, "tom").await, scene.words(group, "tom").await), (vec![], vec![]));
    store.remove_account(&scene.app, &tom, nothing()).await.unwrap();
    // Its request can't be taken up any more.
    assert_eq!(scene.change_contact("anna", "tom", ContactChange::Accept).await, Err(Error::NotContact));
    // Its memberships and messages stay.
    assert_eq!(scene.conversation(group).await.members, clients(&["tom", "jerry"]));
    assert_eq!(scene.lines("jerry").await.len(), 2);
    let again = store.remove_account(&scene.app, &tom, nothing()).await;
    assert_eq!(again, Err(Error::AccountNotFound));
    scene.audit().await;
}

pub async fn a_name_registered_again_sees_nothing_old<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    scene.register("tom").await;
    let first = scene.say_to("jerry", "tom", "first").await;
    let id = first.conversation;
    scene.say(id, "tom", "own").await;
    let secret = NewMessage { receipt: true, mentions: calls_all(), ..scene.to("jerry", "tom", "secret") };
    let secret = scene.append(secret).await.unwrap().message;
    scene.command(id, "jerry", "command").await;
    scene.import(id, "jerry", scene.now().plus_ms(-50)).await;
    let group = scene.group(&["tom", "jerry"]).await;
    scene.say(group, "jerry", "in a group").await;
    scene.say_to("tom", "tom", "to myself").await;
    scene.remove_messages(id, "tom", Removal::Messages(vec![first.id])).await.unwrap();
    scene.open_device("tom", "phone").await;
    scene.set_position("tom", "phone", Queue::Conversation(id), 1).await;
    let of_jerry = async |scene: &Scene<E>| {
        let lines = scene.lines("jerry").await;
        (scene.words(id, "jerry").await, scene.timeline(id, "jerry").await, lines)
    };
    let before = of_jerry(&scene).await;

    scene.store().remove_account(&scene.app, &client("tom"), nothing()).await.unwrap();
    scene.register("tom").await;
    let with_empty = ListQuery { with_empty: true, ..list() };
    for _ in 0..2 {
        scene.open_device("tom", "phone").await;
        scene.open_device("tom", "tablet").await;
        for id in [id, group] {
            assert_eq!((scene.words(id, "tom").await, scene.timeline(id, "tom").await), (vec![], vec![]));
        }
        assert_eq!(
            (scene.list("tom", with_empty.clone()).await, scene.unread("tom").await),
            (vec![], vec![])
        );
        for device in ["phone", "tablet"] {
            assert_eq!(scene.waiting("tom", device).await, Waiting::default());
        }
        let one = scene.store().message(&scene.app, &client("tom"), id, secret.id).await;
        assert_eq!(one, Err(Error::MessageNotFound));
        assert_eq!(of_jerry(&scene).await, before);
        scene.audit().await;
        scene.reopen().await;
    }
    // What is said from now on is there, and nobody hears that the new one got what was said before.
    let said = scene.say(id, "jerry", "new").await;
    scene.patch("jerry", &secret, text("edited"), Mentions::default()).await.unwrap();
    assert_eq!(scene.deliver(id, "tom", &said).await, []);
    assert_eq!(
        (scene.words(id, "tom").await, scene.lines("tom").await),
        (vec!["new".to_owned()], vec![(id, "new".to_owned(), 1)])
    );
    assert_eq!(scene.unread_in(id, "tom").await, (1, false));
    assert_eq!(scene.timeline(id, "tom").await, [(said.seq.0, "new".to_owned())]);
    let read = scene.read_all(id, "tom").await;
    assert_eq!((read.unread.count, read.receipts), (0, vec![]));
    scene.audit().await;
}

pub async fn a_request_waits_for_an_answer<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    let (after, heard) = listener();
    let (tom, jerry) = (client("tom"), client("jerry"));
    let told = scene.store().change_contact(&scene.app, &tom, &jerry, asks(), after).await.unwrap();
    assert_eq!((&told, heard.all()), (&clients(&["jerry"]), vec![told.clone()]));
    assert!(!scene.know_each_other("tom", "jerry").await);
    scene.reopen().await;
    let requested = ContactNotice::Requested("let's talk".into());
    assert_eq!(scene.contact_notes("jerry").await, [(tom.clone(), requested)]);
    assert_eq!(scene.contact_notes("tom").await, []);
    scene.change_contact("jerry", "tom", ContactChange::Accept).await.unwrap();
    assert!(scene.know_each_other("tom", "jerry").await);
    assert_eq!(scene.contact_notes("tom").await, [(jerry, ContactNotice::Accepted)]);
    // The other devices of who accepts hear of a new contact, too.
    assert_eq!(scene.contact_notes("jerry").await.last(), Some(&(tom.clone(), ContactNotice::Added)));
    // It is taken up once.
    assert_eq!(scene.change_contact("jerry", "tom", ContactChange::Accept).await, Err(Error::NotContact));
    // Contacts need not ask.
    let (after, heard) = listener();
    let told = scene.store().change_contact(&scene.app, &tom, &client("jerry"), asks(), after).await;
    assert_eq!((told, heard.all()), (Ok(vec![]), vec![]));
    assert_eq!(scene.contact_notes("jerry").await.len(), 2);
}

pub async fn a_declined_request_is_gone<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    scene.change_contact("tom", "jerry", asks()).await.unwrap();
    // Only who was asked can answer.
    for change in [ContactChange::Accept, ContactChange::Decline] {
        assert_eq!(scene.change_contact("tom", "jerry", change).await, Err(Error::NotContact));
    }
    scene.change_contact("jerry", "tom", ContactChange::Decline).await.unwrap();
    assert_eq!(scene.contact_notes("tom").await, [(client("jerry"), ContactNotice::Declined)]);
    assert!(!scene.know_each_other("tom", "jerry").await);
    for change in [ContactChange::Accept, ContactChange::Decline] {
        assert_eq!(scene.change_contact("jerry", "tom", change).await, Err(Error::NotContact));
    }
    scene.change_contact("tom", "jerry", asks()).await.unwrap();
    assert_eq!(scene.contact_notes("jerry").await.len(), 2);
}

pub async fn adding_and_removing_need_no_request<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    scene.change_contact("jerry", "tom", asks()).await.unwrap();
    scene.change_contact("tom", "jerry", ContactChange::Add).await.unwrap();
    assert!(scene.know_each_other("tom", "jerry").await);
    assert_eq!(scene.contact_notes("jerry").await, [(client("tom"), ContactNotice::Added)]);
    // The request that was on its way is settled.
    assert_eq!(scene.change_contact("tom", "jerry", ContactChange::Accept).await, Err(Error::NotContact));
    scene.change_contact("jerry", "tom", ContactChange::Remove).await.unwrap();
    assert!(!scene.know_each_other("tom", "jerry").await);
    assert_eq!(scene.contact_notes("tom").await.last(), Some(&(client("jerry"), ContactNotice::Removed)));
    let notes = scene.notes("tom").await.len();
    // Who was no contact is not told.
    assert_eq!(scene.change_contact("jerry", "tom", ContactChange::Remove).await, Ok(vec![]));
    assert_eq!(scene.notes("tom").await.len(), notes);
}

pub async fn remarks_are_ones_own<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let remark = || ContactChange::Remark("the mouse".into());
    assert_eq!(scene.change_contact("tom", "jerry", remark()).await, Err(Error::NotContact));
    scene.change_contact("tom", "jerry", ContactChange::Add).await.unwrap();
    let notes = scene.notes("jerry").await.len();
    scene.change_contact("tom", "jerry", remark()).await.unwrap();
    assert_eq!(scene.contacts("tom").await, [contact("jerry", Some("the mouse"))]);
    assert_eq!(scene.contacts("jerry").await, [contact("tom", None)]);
    assert_eq!(scene.notes("jerry").await.len(), notes);
    // A request is no contact yet.
    scene.change_contact("spike", "tom", asks()).await.unwrap();
    let early = scene.change_contact("tom", "spike", ContactChange::Remark("dog".into())).await;
    assert_eq!(early, Err(Error::NotContact));
    assert_eq!(scene.contacts("tom").await.len(), 1);
}

pub async fn contacts_page_by_name<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    for peer in ["d", "a", "e", "b", "c"] {
        scene.change_contact("tom", peer, ContactChange::Add).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = scene.store().list_contacts(&scene.app, &client("tom"), after.as_ref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.client.clone());
        seen.extend(page.into_iter().map(|contact| contact.client));
    }
    assert_eq!(seen, clients(&["a", "b", "c", "d", "e"]));
}

pub async fn contacts_are_limited_on_both_sides<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let names: Vec<String> = (0..CONTACTS_MAX).map(|number| format!("c{number}")).collect();
    for some in names.chunks(500) {
        let adds = some.iter().map(|name| scene.change_contact("tom", name, ContactChange::Add));
        assert!(join_all(adds).await.iter().all(Result::is_ok));
    }
    let full = Err(Error::ListFull { max: CONTACTS_MAX });
    assert_eq!(scene.change_contact("tom", "jerry", ContactChange::Add).await, full);
    assert_eq!(scene.change_contact("jerry", "tom", ContactChange::Add).await, full);
    assert_eq!(scene.contacts("tom").await.len(), CONTACTS_MAX);
    assert_eq!(scene.contacts("jerry").await, []);
    scene.change_contact("tom", "c7", ContactChange::Remove).await.unwrap();
    scene.change_contact("jerry", "tom", ContactChange::Add).await.unwrap();
    assert!(scene.know_each_other("tom", "jerry").await);
}

pub async fn who_is_blocked_cannot_ask<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    scene.block("jerry", &["tom"], true).await.unwrap();
    assert_eq!(scene.change_contact("tom", "jerry", asks()).await, Err(Error::Blocked));
    assert_eq!(scene.notes("jerry").await, []);
    // Who blocks may ask, and a back end may do everything.
    scene.change_contact("jerry", "tom", asks()).await.unwrap();
    scene.change_contact("tom", "jerry", ContactChange::Add).await.unwrap();
    scene.block("jerry", &["tom"], false).await.unwrap();
    scene.change_contact("tom", "jerry", ContactChange::Remove).await.unwrap();
    scene.change_contact("tom", "jerry", asks()).await.unwrap();
}

pub async fn blocks_are_newest_first_and_limited<E: Engine>(engine: E) {
    let mut scene = Scene::new(engine).await;
    for peer in ["b", "c", "a"] {
        scene.block("tom", &[peer], true).await.unwrap();
        scene.clock.advance_ms(1);
    }
    scene.reopen().await;
    assert_eq!(scene.blocks("tom").await, clients(&["a", "c", "b"]));
    scene.block("tom", &["c", "nobody"], false).await.unwrap();
    assert_eq!(scene.blocks("tom").await, clients(&["a", "b"]));
    let names: Vec<String> = (0..BLOCKS_MAX - 1).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(scene.block("tom", &names, true).await, Err(Error::ListFull { max: BLOCKS_MAX }));
    assert_eq!(scene.blocks("tom").await, clients(&["a", "b"]));
    scene.block("tom", &names[1..], true).await.unwrap();
    assert_eq!(scene.blocks("tom").await.len(), BLOCKS_MAX);
    // Those who are blocked already need no room.
    scene.block("tom", &["a", "b"], true).await.unwrap();
    assert_eq!(scene.blocks("tom").await.len(), BLOCKS_MAX);
    assert_eq!(scene.blocks("a").await, []);
}

pub async fn accounts_of_apps_are_apart<E: Engine>(engine: E) {
    let scene = Scene::new(engine).await;
    let (store, other, tom) = (scene.store(), app_id("other"), client("tom"));
    assert!(store.add_app(app("other", &[]), &[]).await.unwrap());
    scene.register("tom").await;
    scene.change_contact("tom", "jerry", ContactChange::Add).await.unwrap();
    scene.block("tom", &["spike"], true).await.unwrap();
    assert_eq!(store.account(&other, &tom).await, Ok(None));
    assert_eq!(store.list_accounts(&other, 0, 10).await, Ok(vec![]));
    assert_eq!(store.list_contacts(&other, &tom, None, 10).await, Ok(vec![]));
    assert_eq!(store.list_blocks(&other, &tom).await, Ok(vec![]));
    assert_eq!(store.read_notes(&other, &client("jerry"), 0, 10).await, Ok(vec![]));
    assert_eq!(
        store.change_account(&other, &tom, AccountChange::Active(false)).await,
        Err(Error::AccountNotFound)
    );
    assert_eq!(store.remove_account(&other, &tom, nothing()).await, Err(Error::AccountNotFound));
    assert!(store.add_account(&other, new_account("tom")).await.is_ok());
    assert!(scene.account("tom").await.unwrap().active);
}
