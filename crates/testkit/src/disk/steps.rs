//! Every use case that writes, once and one after the other, with what everybody sees after each: wherever
//! the power is cut, the store must show what it showed before the step or what it showed after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use posthouse_core::account::{AccountChange, ContactChange, NewAccount};
use posthouse_core::app::DeleteScope;
use posthouse_core::attribute::{AttributeChange, Operation};
use posthouse_core::conversation::{Authority, RoleChange};
use posthouse_core::id::{ConversationId, Seq};
use posthouse_core::idgen::IdGen;
use posthouse_core::listing::{ListChange, Queue, Removal};
use posthouse_core::message::{Direction, HistoryQuery, Mentions, Message};
use posthouse_core::port::store::{AttributesChange, NewMessage, Store};
use posthouse_core::receipt::Acknowledge;
use posthouse_core::time::{DAY_MS, Timestamp};
use posthouse_store::{OpenError, OpenOptions, SqliteStore};
use serde_json::{Value, json};

use crate::store_suite::{
    Engine, Scene, app, app_id, calls_all, client, device, list, message, nothing, text, token,
};
use crate::time::ManualClock;

/// Those who take part.
const CAST: &[&str] = &["tom", "jerry", "spike"];
/// How much time passes after each step.
const STEP_MS: i64 = 400;
/// Marks of reading and receiving may be so much older after a power cut (`Timeline::mark_read`).
const MARKS_LOST_MS: i64 = 1_000;

/// What everybody sees: a name for each view, and what it shows. Views whose name begins with `mark` may
/// be a little old.
pub type Seen = BTreeMap<String, String>;

/// The state after a step.
#[derive(Clone, Debug)]
pub struct Moment {
    /// How long the trace was when the step was acknowledged.
    pub end: u64,
    /// The time.
    pub clock: Timestamp,
    /// What the step did.
    pub step: String,
    /// The conversations there have been.
    pub ids: Vec<u64>,
    /// What everybody sees.
    pub seen: Seen,
}

/// An engine in a directory that is there already.
pub struct Place(pub PathBuf);

#[async_trait]
impl Engine for Place {
    async fn open(&self, clock: Arc<ManualClock>) -> Arc<dyn Store> {
        Arc::new(open(&self.0, clock).unwrap())
    }

    async fn audit(&self) -> Vec<String> {
        posthouse_store::audit(&self.0).unwrap()
    }
}

/// Opens the store in `data` with a single reader, which is enough here.
pub fn open(data: &Path, clock: Arc<ManualClock>) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(data, options(clock))
}

pub(super) fn options(clock: Arc<ManualClock>) -> OpenOptions {
    OpenOptions { readers: 1, ..OpenOptions::new(clock, Arc::new(IdGen::new(1))) }
}

struct Script {
    scene: Scene<Place>,
    trace: PathBuf,
    ids: Vec<ConversationId>,
    moments: Vec<Moment>,
}

impl Script {
    async fn note(&mut self, step: &str) {
        let end = std::fs::metadata(&self.trace).unwrap().len();
        let ids: Vec<u64> = self.ids.iter().map(|id| id.as_u64()).collect();
        let seen = seen(self.scene.store(), &ids).await;
        let clock = self.scene.now();
        self.moments.push(Moment { end, clock, step: step.to_owned(), ids, seen });
        self.scene.clock.advance_ms(STEP_MS);
    }

    async fn say(&mut self, id: ConversationId, sender: &str, words: &str) -> Message {
        let said = self.scene.say(id, sender, words).await;
        self.note(&format!("{sender} says {words}")).await;
        said
    }

    async fn reopen(&mut self) {
        self.scene.reopen().await;
        self.note("closed and opened again").await;
    }
}

/// Runs every step in `data` and gives what was to be seen after each. `trace` is the watcher's record.
pub async fn run(data: &Path, trace: &Path) -> Vec<Moment> {
    let scene = Scene::of(Place(data.to_owned())).await;
    let mut script = Script { scene, trace: trace.to_owned(), ids: Vec::new(), moments: Vec::new() };
    script.note("opened").await;
    assert!(script.scene.store().add_app(app("app", &[("k", "1")]), &["k"]).await.unwrap());
    script.note("an app is set up").await;
    people(&mut script).await;
    let group = group(&mut script).await;
    pair(&mut script).await;
    temporary(&mut script).await;
    script.reopen().await;
    deletions(&mut script, group).await;
    upkeep(&mut script).await;
    script.scene.store().close().await.unwrap();
    script.moments
}

/// As [`run`], but in a directory that an earlier release has left: what is seen once it is opened.
pub async fn migrate(data: &Path, trace: &Path, ids: &[ConversationId]) -> Vec<Moment> {
    let scene = Scene::of(Place(data.to_owned())).await;
    let mut script = Script { scene, trace: trace.to_owned(), ids: ids.to_vec(), moments: Vec::new() };
    script.note("brought up to date").await;
    script.say(ids[0], "tom", "after the update").await;
    script.reopen().await;
    script.moments
}

async fn people(script: &mut Script) {
    let scene = &script.scene;
    let new = NewAccount { client: client("tom"), secret: Some("hash".into()), nickname: None };
    scene.store().add_account(&scene.app, new).await.unwrap();
    script.note("an account is made").await;
    let new = NewAccount { client: client("spike"), secret: None, nickname: Some("dog".into()) };
    script.scene.store().add_account(&app_id("app"), new).await.unwrap();
    script.note("another account is made").await;
    let change = AccountChange::Active(false);
    script.scene.store().change_account(&app_id("app"), &client("spike"), change).await.unwrap();
    script.note("an account is banned").await;
    for change in
        [ContactChange::Request("it's me".into()), ContactChange::Add, ContactChange::Remark("t".into())]
    {
        let step = format!("a contact: {change:?}");
        let (tom, jerry) = (client("tom"), client("jerry"));
        script.scene.store().change_contact(&app_id("app"), &tom, &jerry, change, nothing()).await.unwrap();
        script.note(&step).await;
    }
    let blocked = [client("spike")];
    script.scene.store().set_blocked(&app_id("app"), &client("jerry"), &blocked, true).await.unwrap();
    script.note("somebody is blocked").await;
}

async fn group(script: &mut Script) -> ConversationId {
    let group = script.scene.group(&["tom", "jerry"]).await;
    script.ids.push(group);
    script.note("a group is made").await;
    let call = NewMessage {
        mentions: calls_all(),
        receipt: true,
        token: token("t1"),
        ..message(group, "tom", "all!")
    };
    script.scene.append(call.clone()).await.unwrap();
    script.note("a message that calls everybody").await;
    assert!(script.scene.append(call).await.unwrap().duplicate);
    script.note("the same again").await;
    let first = script.say(group, "jerry", "one").await;
    let second = script.say(group, "tom", "two").await;
    script.scene.patch("jerry", &first, text("one!"), Mentions::default()).await.unwrap();
    script.note("an edit").await;
    script.scene.recall(&second).await;
    script.note("a recall").await;
    script.scene.read(group, "jerry", Some(&first)).await;
    script.note("reading to a message").await;
    script.scene.deliver(group, "tom", &first).await;
    script.note("a delivery").await;
    script.scene.add(group, "tom", &["spike"]).await.unwrap();
    script.note("a member comes").await;
    let third = script.say(group, "spike", "three").await;
    let asked = Acknowledge { conversation: group, message: third.id, read: true, note: Some("ok".into()) };
    script.scene.store().acknowledge(&app_id("app"), &client("tom"), asked, nothing()).await.unwrap();
    script.note("one message is acknowledged").await;
    let changes =
        vec![AttributeChange { path: vec!["name".to_owned()], operation: Operation::Set(json!("cats")) }];
    let change =
        AttributesChange { conversation: group, by: client("tom"), changes, authority: Authority::Member };
    let settings = script.scene.settings.clone();
    script.scene.store().update_attributes(&app_id("app"), change, &settings, nothing()).await.unwrap();
    script.note("an attribute").await;
    script.scene.store().set_muted(&app_id("app"), group, &client("jerry"), true).await.unwrap();
    script.note("muted").await;
    for change in [RoleChange::Admin(client("jerry")), RoleChange::Owner(client("spike"))] {
        let step = format!("a role: {change:?}");
        let (app, tom) = (app_id("app"), client("tom"));
        script
            .scene
            .store()
            .change_role(&app, group, &tom, Authority::Owner, change, nothing())
            .await
            .unwrap();
        script.note(&step).await;
    }
    script.scene.import(group, "tom", script.scene.now().plus_ms(-DAY_MS)).await;
    script.note("an import").await;
    script.scene.remove(group, "jerry", &["jerry"]).await.unwrap();
    script.note("a member goes").await;
    script.scene.add(group, "tom", &["jerry"]).await.unwrap();
    script.note("and comes back").await;
    script.scene.read_all(group, "tom").await;
    script.note("reading everything").await;
    group
}

async fn pair(script: &mut Script) {
    let said = script.scene.say_to("tom", "jerry", "hi").await;
    let pair = said.conversation;
    script.ids.push(pair);
    script.note("the first message to a person").await;
    script.say(pair, "jerry", "hello").await;
    script.scene.command(pair, "tom", "typing").await;
    script.note("a command").await;
    script.scene.serve(pair, "tom", "from the back end").await;
    script.note("a message of the back end").await;
    script.scene.read_all(pair, "jerry").await;
    script.note("jerry reads").await;
    let (app, tom, phone) = (app_id("app"), client("tom"), device("phone"));
    for change in [ListChange::Pin(true), ListChange::Mark(3, true)] {
        script.scene.store().change_listed(&app, &tom, pair, Some(&phone), change, nothing()).await.unwrap();
        script.note(&format!("a line of the list: {change:?}")).await;
    }
    script.scene.store().open_device(&app, &tom, &phone, DAY_MS).await.unwrap();
    script.note("a device").await;
    script.scene.store().set_position(&app, &tom, &phone, Queue::Conversation(pair), 2).await.unwrap();
    script.scene.store().flush_positions().await.unwrap();
    script.note("how far a device has got").await;
    let room = script.scene.room().await;
    script.ids.push(room);
    script.note("a room is made").await;
    script.say(room, "tom", "in the room").await;
}

async fn temporary(script: &mut Script) {
    for (hours, members) in [(1, ["tom", "jerry"]), (20, ["jerry", "spike"])] {
        let id = script.scene.temporary(hours * 3_600_000, &members).await;
        script.ids.push(id);
        script.note(&format!("a temporary conversation for {hours} h")).await;
        let first = script.say(id, members[0], "for a while").await;
        script.say(id, members[1], "yes").await;
        script.scene.recall(&first).await;
        script.note("a recall in it").await;
        script.scene.read_all(id, members[0]).await;
        script.note("reading in it").await;
    }
    script.scene.clock.advance_ms(3 * 3_600_000);
    script.note("time passes").await;
    assert_eq!(script.scene.store().forget_expired().await, Ok(1));
    script.note("a bucket is forgotten").await;
    let last = *script.ids.last().unwrap();
    script.say(last, "spike", "still here").await;
}

async fn deletions(script: &mut Script, group: ConversationId) {
    let said = script.say(group, "tom", "to be removed").await;
    script.scene.remove_messages(group, "jerry", Removal::Messages(vec![said.id])).await.unwrap();
    script.note("a message removed for one").await;
    script.scene.delete(group, "spike", DeleteScope::Caller, true).await.unwrap();
    script.note("deleted for one").await;
    script.say(group, "tom", "goes on").await;
    script.scene.delete(group, "spike", DeleteScope::Everyone, true).await.unwrap();
    script.note("deleted for everybody").await;
    while script.scene.store().forget_deleted().await.unwrap() > 0 {
        script.note("a slice of what was deleted is forgotten").await;
    }
    script.say(group, "jerry", "anew").await;
    let (app, jerry) = (app_id("app"), client("jerry"));
    script.scene.store().remove_everything(&app, &jerry, None, nothing()).await.unwrap();
    script.note("everything removed for one").await;
    script.scene.store().remove_account(&app, &client("tom"), nothing()).await.unwrap();
    script.note("an account is removed").await;
    let spike = client("spike");
    script.scene.store().end_conversation(&app, group, &spike, Authority::Owner, nothing()).await.unwrap();
    script.note("a group is ended").await;
    while script.scene.store().forget_deleted().await.unwrap() > 0 {
        script.note("a slice of what was ended is forgotten").await;
    }
}

async fn upkeep(script: &mut Script) {
    let now = script.scene.now();
    while script.scene.store().forget_missed(now).await.unwrap() > 0 {
        script.note("old notes are forgotten").await;
    }
    while script.scene.store().forget_devices(now).await.unwrap() > 0 {
        script.note("old devices are forgotten").await;
    }
    assert!(script.scene.store().replace_app(app("app", &[("k", "2")]), &["k"]).await.unwrap());
    script.note("an app's keys are changed").await;
    script.reopen().await;
    let pair = script.ids[1];
    script.say(pair, "jerry", "the end").await;
}

/// What everybody sees of these conversations and of everything else.
pub async fn seen(store: &dyn Store, ids: &[u64]) -> Seen {
    let mut seen = Seen::new();
    let app = app_id("app");
    let mut see = |view: String, shown: String| assert!(seen.insert(view, shown).is_none());
    see(
        "apps".to_owned(),
        format!("{:?}", store.apps_since(0).await.map(|found| found.map(|(_, apps)| apps))),
    );
    see("accounts".to_owned(), format!("{:?}", store.list_accounts(&app, 0, 100).await));
    for who in CAST {
        let reader = client(who);
        see(format!("{who}: contacts"), format!("{:?}", store.list_contacts(&app, &reader, None, 100).await));
        see(format!("{who}: blocks"), format!("{:?}", store.list_blocks(&app, &reader).await));
        see(format!("{who}: notes"), format!("{:?}", store.read_notes(&app, &reader, 0, 1_000).await));
        let since = Timestamp(0);
        see(format!("{who}: came"), format!("{:?}", store.list_invitations(&app, &reader, since, 100).await));
        see(
            format!("{who}: changes"),
            format!("{:?}", store.list_changes(&app, &reader, since, 1_000).await),
        );
        see(format!("{who}: patches"), format!("{:?}", store.list_patches(&app, &reader, since, 100).await));
        see(
            format!("mark {who}: unread"),
            format!("{:?}", store.list_unread(&app, &reader, None, 100).await),
        );
        let mut lines = store.list_conversations(&app, &reader, list()).await;
        let unread: Vec<u64> = lines.iter().flatten().map(|line| line.unread).collect();
        see(format!("mark {who}: unread in the list"), format!("{unread:?}"));
        lines.iter_mut().flatten().for_each(|line| line.unread = 0);
        see(format!("{who}: list"), format!("{lines:?}"));
    }
    for (number, id) in ids.iter().enumerate() {
        let id = ConversationId::from_u64(*id).unwrap();
        see(format!("{number}"), format!("{:?}", store.conversation(&app, id).await));
        for who in CAST {
            let reader = client(who);
            let query = HistoryQuery {
                direction: Direction::Forward,
                in_room: true,
                ..HistoryQuery::newest(id, 1_000)
            };
            let history = store.read_history(&app, &reader, query).await;
            see(format!("{number} {who}: history"), format!("{history:?}"));
            let timeline = store.read_timeline(&app, &reader, id, Seq(0), 1_000).await;
            see(format!("{number} {who}: timeline"), format!("{timeline:?}"));
        }
        see(format!("mark {number}"), format!("{:?}", store.member_marks(&app, &client("jerry"), id).await));
        let queue = Queue::Conversation(id);
        let place = store.position(&app, &client("tom"), &device("phone"), queue).await;
        see(format!("mark {number}: place of a device"), format!("{place:?}"));
    }
    seen
}

/// Checks that a directory shows what was seen at `moments[after]`, or, if the next step was on its way,
/// what was seen after that. Gives what is wrong, or nothing.
pub async fn check(data: &Path, moments: &[Moment], after: Option<usize>) -> Result<(), String> {
    let settled = after.map(|after| &moments[after]);
    let coming = moments.get(after.map_or(0, |after| after + 1));
    let clock = Arc::new(ManualClock::new());
    if let Some(moment) = settled.or(coming) {
        clock.set(moment.clock);
    }
    let store = open(data, Arc::clone(&clock)).map_err(|error| format!("can't be opened: {error}"))?;
    let mut wrong = Vec::new();
    for (number, moment) in [settled, coming].into_iter().enumerate() {
        let Some(moment) = moment else { continue };
        clock.set(moment.clock);
        let known = after.map_or(0, |after| after + number);
        match differences(&moments[..=known.min(moments.len() - 1)], moment, &seen(&store, &moment.ids).await)
        {
            None => {
                let differences = store.audit().await.map_err(|error| format!("audit: {error}"))?;
                return if differences.is_empty() { Ok(()) } else { Err(format!("audit: {differences:#?}")) };
            }
            Some(difference) => wrong.push(format!("not as after \"{}\": {difference}", moment.step)),
        }
    }
    Err(wrong.join("\n"))
}

fn differences(before: &[Moment], wanted: &Moment, found: &Seen) -> Option<String> {
    let recent = |view: &str, shown: &String| {
        let since = wanted.clock.plus_ms(-MARKS_LOST_MS);
        view.starts_with("mark")
            && before.iter().any(|moment| moment.clock >= since && moment.seen.get(view) == Some(shown))
    };
    wanted.seen.iter().find_map(|(view, shown)| {
        let found = found.get(view).cloned().unwrap_or_default();
        (found != *shown && !recent(view, &found))
            .then(|| format!("{view}\n  is     {found}\n  was to {shown}"))
    })
}

/// Writes moments down.
pub fn write_journal(path: &Path, moments: &[Moment]) {
    let lines: Vec<String> = moments
        .iter()
        .map(|moment| {
            json!({
                "end": moment.end, "clock": moment.clock.0, "step": moment.step, "ids": moment.ids,
                "seen": moment.seen,
            })
            .to_string()
        })
        .collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

/// Reads moments back.
#[must_use]
pub fn read_journal(path: &Path) -> Vec<Moment> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap();
            let seen = value["seen"].as_object().unwrap().iter();
            Moment {
                end: value["end"].as_u64().unwrap(),
                clock: Timestamp(value["clock"].as_i64().unwrap()),
                step: value["step"].as_str().unwrap().to_owned(),
                ids: value["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect(),
                seen: seen.map(|(view, shown)| (view.clone(), shown.as_str().unwrap().to_owned())).collect(),
            }
        })
        .collect()
}
