//! What clients can do, one file per verb. A gateway parses, calls one of these, and prints the outcome.

mod accounts;
mod acknowledge;
mod catch_up;
mod change_members;
mod close_session;
mod contacts;
mod create_conversation;
mod delete_conversation;
mod delete_messages;
mod edit_message;
mod groups;
mod list_conversations;
mod list_missed;
mod list_unread;
mod mark_delivered;
mod mark_read;
mod mute;
mod open_session;
mod post_message;
mod query_conversations;
mod read_history;
mod room;
mod set_presence;
mod sweep;
mod update_conversation;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::app::App;
use crate::content::{self, Content, Readers};
use crate::error::{Error, Result};
use crate::event::{Audience, Delivery, Event};
use crate::id::{AppId, ClientId, ConversationId, MessageId, SessionId};
use crate::idgen::IdGen;
use crate::message::Body;
use crate::port::store::Store;
use crate::rate::{Buckets, Quota, Rate};
use crate::router::Router;
use crate::session::Caller;
use crate::time::{Chance, Clock, Timestamp};

use post_message::RecentTokens;

/// The domain, ready to serve. Shared by all gateways.
pub struct Posthouse {
    store: Arc<dyn Store>,
    router: Arc<Router>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    ids: Arc<IdGen>,
    directory: RwLock<Directory>,
    recent: Mutex<RecentTokens>,
    rates: Buckets<Counted>,
    readers: Readers,
}

/// Who is counted, and for what.
#[derive(PartialEq, Eq, Hash)]
enum Counted {
    Client(AppId, ClientId, Rate),
    /// An app's back end, by the kind of its call.
    Server(AppId, &'static str),
}

/// The apps as last read from the store.
#[derive(Default)]
struct Directory {
    revision: u64,
    by_id: HashMap<AppId, Arc<App>>,
    by_key: HashMap<(String, String), Arc<App>>,
}

impl Posthouse {
    /// Joins the parts. `ids` is the generator that the store stamps with, `readers` are the gateways'
    /// readers of what they write.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
        ids: Arc<IdGen>,
        readers: Readers,
    ) -> Self {
        Self {
            store,
            router: Arc::new(Router::default()),
            clock,
            chance,
            ids,
            directory: RwLock::default(),
            recent: Mutex::default(),
            rates: Buckets::default(),
            readers,
        }
    }

    /// What a body says, in words that every wire knows.
    #[must_use]
    pub fn content(&self, body: &Body) -> Content {
        let reader = self.readers.iter().find(|(schema, _)| *schema == body.payload.schema);
        reader.map_or_else(|| content::summary(body), |(_, read)| read(body))
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time up to which a client has certainly been told what is unread, if it is told now. A
    /// little early, because a message is stamped before it is committed; a client that hands this
    /// back is told of the last moments twice, which changes nothing, since numbers are absolute.
    #[must_use]
    pub fn told_until(&self) -> Timestamp {
        const COMMIT_MS_MAX: i64 = 2_000;
        self.ids.time(self.clock.now()).plus_ms(-COMMIT_MS_MAX)
    }

    /// The store behind the domain, for what operators do beside it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Takes over apps that were added or changed, also by other processes. Returns whether any was.
    pub async fn reload_apps(&self) -> Result<bool> {
        let revision = self.directory.read().unwrap_or_else(PoisonError::into_inner).revision;
        let Some((revision, apps)) = self.store.apps_since(revision).await? else { return Ok(false) };
        let mut next = Directory { revision, ..Directory::default() };
        for app in apps {
            let app = Arc::new(app);
            for (name, value) in &app.keys {
                next.by_key.insert((name.clone(), value.clone()), app.clone());
            }
            next.by_id.insert(app.id.clone(), app);
        }
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(true)
    }

    /// The app whose key `name` has `value`.
    #[must_use]
    pub fn app_by_key(&self, name: &str, value: &str) -> Option<Arc<App>> {
        let directory = self.directory.read().unwrap_or_else(PoisonError::into_inner);
        directory.by_key.get(&(name.to_owned(), value.to_owned())).cloned()
    }

    /// The caller with its app as it is set now, so that a changed setting also reaches those who have
    /// been logged in for weeks.
    #[must_use]
    pub fn with_present_settings(&self, caller: &Caller) -> Caller {
        let app = self.app(&caller.app.id).unwrap_or_else(|| caller.app.clone());
        Caller { app, ..caller.clone() }
    }

    /// The app as it is set now.
    #[must_use]
    pub fn app(&self, id: &AppId) -> Option<Arc<App>> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// All apps as they are set now.
    fn apps(&self) -> Vec<Arc<App>> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// Counts something that `client` wants to do, over all its connections and doors. Asked before
    /// anything else, so that what is refused has no effect. Error: `TooFast`.
    pub fn admit(&self, app: &App, client: &ClientId, what: Rate) -> Result<()> {
        let Some(quota) = Quota::of_client(&app.settings, what) else { return Ok(()) };
        self.count(Counted::Client(app.id.clone(), client.clone(), what), quota, what)
    }

    /// Counts a call of the app's back end, each kind by itself. Error: `TooFast`.
    pub fn admit_server(&self, app: &App, kind: &'static str) -> Result<()> {
        let Some(quota) = Quota::of_server(&app.settings) else { return Ok(()) };
        self.count(Counted::Server(app.id.clone(), kind), quota, Rate::Calls)
    }

    fn count(&self, who: Counted, quota: Quota, what: Rate) -> Result<()> {
        if self.rates.take(who, quota, self.clock.now()) {
            Ok(())
        } else {
            Err(Error::TooFast { what, per_minute: quota.per_minute })
        }
    }

    /// A fresh id for a client that brings none: 24 hex digits, 96 random bits.
    #[must_use]
    pub fn new_client_id(&self) -> ClientId {
        let text = format!("{:016x}{:08x}", self.chance.bits(), self.chance.bits() >> 32);
        ClientId::parse(&text).unwrap_or_else(|_| unreachable!("24 hex digits are a client id"))
    }

    /// Id and time for an answer about a message that was refused: some SDKs read both even then.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        let timestamp = self.clock.now();
        Stamp { id: self.ids.next(timestamp), timestamp }
    }

    /// 64 random bits, for what a gateway has to name.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.chance.bits()
    }

    /// A number that was never given before, also not before a restart.
    #[must_use]
    pub fn unique_number(&self) -> u64 {
        self.ids.next(self.clock.now()).as_u64()
    }
}

/// An id and a time for what was never accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The id.
    pub id: MessageId,
    /// The time.
    pub timestamp: Timestamp,
}

/// Addresses an event to every session of these clients.
fn to_clients<'a>(app: &'a AppId, clients: &'a [ClientId], event: Event) -> Delivery<'a> {
    let audience = Audience::Clients(clients);
    Delivery { app, audience, except: None, event: Arc::new(event.into()) }
}

/// Addresses an event to stored members, or to who is in the room.
fn delivery<'a>(
    app: &'a AppId,
    conversation: ConversationId,
    members: &'a [ClientId],
    in_room: bool,
    except: Option<SessionId>,
    event: Event,
) -> Delivery<'a> {
    let audience = if in_room { Audience::Room(conversation) } else { Audience::Clients(members) };
    Delivery { app, audience, except, event: Arc::new(event.into()) }
}
