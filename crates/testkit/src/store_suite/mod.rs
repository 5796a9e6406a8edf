//! The contract suite of the store port: every rule of `posthouse_core::port::store`, on any engine.
//!
//! A test is a plain async function that takes an [`Engine`] on an empty place. [`crate::store_suite!`]
//! makes a `#[tokio::test]` of each. [`Scene`] is what the tests share: one app, a clock they move, and
//! short words for what they do.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(missing_docs, reason = "the name of a test is its description")]

pub mod apps;
pub mod conversations;
pub mod expiry;
pub mod history;
pub mod inbox;
pub mod model;
pub mod timeline;
pub mod unread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use posthouse_core::app::{App, Settings};
use posthouse_core::attribute::Attributes;
use posthouse_core::conversation::{Conversation, Kind, MemberSet, MembersChanged};
use posthouse_core::error::Result;
use posthouse_core::expiry::Bucket;
use posthouse_core::id::{AppId, ClientId, ClientToken, ConversationId};
use posthouse_core::message::{Body, BodyKind, Mentions, Message, PatchMessage, Payload, SchemaTag};
use posthouse_core::port::store::{
    AfterCommit, Appended, MemberChange, NewConversation, NewMessage, Patched, Store,
};
use posthouse_core::receipt::{Delivered, DeliveredMarked, MarkDelivered, MarkRead, ReadMarked, Unread};
use posthouse_core::time::{Chance as _, Clock as _, Timestamp};

use crate::time::{ManualClock, SeededChance};

/// An engine on a place of its own.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Opens the store. What was written by stores opened before is there.
    async fn open(&self, clock: Arc<ManualClock>) -> Arc<dyn Store>;

    /// A line for every counter that a plain scan contradicts.
    async fn audit(&self) -> Vec<String>;
}

/// Makes a `#[tokio::test]` of every function of the suite. The expression makes an [`Engine`].
#[macro_export]
macro_rules! store_suite {
    (@group $group:ident, $engine:expr, $($test:ident)+) => {
        mod $group {
            #[allow(unused_imports, reason = "an engine may need no name of the caller")]
            use super::*;

            $( #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::store_suite::$group::$test($engine).await;
            } )+
        }
    };
    ($engine:expr) => {
        $crate::store_suite!(@group apps, $engine,
            an_added_app_is_seen_once_a_revision
            names_ids_and_unique_keys_belong_to_one_app
            replacing_changes_keys_and_settings_only
            apps_find_nothing_of_each_other
        );
        $crate::store_suite!(@group conversations, $engine,
            a_conversation_comes_back_as_it_was_made
            a_conversation_that_never_was_is_not_found
            a_unique_set_has_one_conversation
            two_at_once_make_one_unique_conversation
            lasting_and_temporary_sets_are_apart
            members_come_in_order_and_only_once
            strangers_can_add_only_themselves
            a_full_conversation_takes_nobody
            members_go_with_their_marks
            leaving_twice_is_no_error
            a_pair_that_changes_is_a_group
            change_times_strictly_grow
            attributes_change_all_or_nothing
            muting_is_per_member_and_changes_no_time
            rooms_store_no_members
            temporary_conversations_are_fixed
            queries_narrow_filter_sort_and_page
            queries_show_last_messages_to_members_only
            closures_of_refused_and_idle_calls_are_never_called
        );
        $crate::store_suite!(@group timeline, $engine,
            a_message_comes_back_as_it_was_sent
            places_are_gapless_over_messages_and_changes
            strangers_cannot_post_but_anyone_can_in_a_room
            the_same_token_is_the_same_message
            tokens_are_per_conversation_and_sender
            tokens_outlive_a_restart_and_membership
            time_never_goes_back
            ids_go_on_after_a_restart
            parallel_senders_are_told_in_commit_order
            a_patch_keeps_place_and_time
            patches_are_refused_by_cause
            patch_times_grow_and_replay_once_each
            acknowledged_writes_are_there_after_a_restart
            a_dropped_future_still_writes
            a_panicking_closure_harms_nobody
        );
        $crate::store_suite!(@group history, $engine,
            a_page_of_large_messages_is_shorter
            pages_go_both_ways
            bounds_with_and_without_id
            messages_of_one_millisecond_are_ordered_by_id
            a_kind_is_filtered_before_the_limit
            strangers_read_nothing
            a_recalled_message_keeps_its_place
        );
        $crate::store_suite!(@group unread, $engine,
            others_messages_count_own_do_not
            a_mark_covers_what_lies_before_it
            a_mark_never_goes_back
            a_mark_within_a_millisecond
            recalled_messages_do_not_count
            mentions_count_while_unread
            an_edit_changes_who_is_called
            new_members_have_nothing_unread
            who_comes_back_has_nothing_unread
            rooms_have_no_marks
            the_list_is_newest_first_and_limited
            the_list_since_a_time
            the_list_sees_what_closures_have_told
            marks_of_members
            a_read_receipt_names_the_newest_message
            delivery_receipts_are_one_each
            there_are_no_receipts_in_groups
            random_operations_agree_with_a_plain_model
        );
        $crate::store_suite!(@group inbox, $engine,
            members_hear_of_joining_and_leaving
            old_entries_are_forgotten_and_young_ones_stay
            invitations_page_by_time_without_loss
            changes_are_told_to_members
            a_new_conversation_is_a_coming_of_members
            too_many_changes_are_none
            reading_in_a_pair_is_told_to_the_sender
        );
        $crate::store_suite!(@group expiry, $engine,
            a_temporary_conversation_works_like_others
            it_is_over_on_the_millisecond
            a_bucket_is_dropped_whole
            unknown_buckets_are_over
            live_conversations_outlive_a_sweep
            a_clock_that_steps_back_revives_nothing
            unique_sets_end_with_their_conversation
            temporary_conversations_survive_a_restart
        );
    };
}

/// One app on one engine.
pub struct Scene<E> {
    pub engine: E,
    pub clock: Arc<ManualClock>,
    store: Option<Arc<dyn Store>>,
    pub app: AppId,
    pub settings: Settings,
    chance: SeededChance,
}

impl<E: Engine> Scene<E> {
    /// A scene with the app `app`.
    pub async fn new(engine: E) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = engine.open(Arc::clone(&clock)).await;
        let scene = Self {
            engine,
            clock,
            store: Some(store),
            app: app_id("app"),
            settings: Settings::default(),
            chance: SeededChance::new(7),
        };
        assert!(scene.store().add_app(app("app", &[]), &[]).await.unwrap());
        scene
    }

    pub fn store(&self) -> &dyn Store {
        &**self.store.as_ref().unwrap()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Closes the store and opens it again.
    pub async fn reopen(&mut self) {
        self.store().close().await.unwrap();
        // The old one must be gone first: it holds the place's lock.
        self.store = None;
        self.store = Some(self.engine.open(Arc::clone(&self.clock)).await);
    }

    /// Checks every counter.
    pub async fn audit(&self) {
        assert_eq!(self.engine.audit().await, Vec::<String>::new());
    }

    pub fn lasting_id(&self) -> ConversationId {
        ConversationId::lasting(self.chance.bits())
    }

    pub fn temporary_id(&self, ttl_ms: i64) -> (ConversationId, Kind) {
        let until = self.now().plus_ms(ttl_ms);
        let id = ConversationId::temporary(Bucket::for_expiry(self.now(), until), self.chance.bits());
        (id, Kind::Temporary { until })
    }

    /// A conversation with the first of `members` as its creator.
    pub fn draft(&self, kind: Kind, id: ConversationId, members: &[&str]) -> NewConversation {
        let members = clients(members);
        let conversation = Conversation {
            id,
            kind,
            creator: members.first().cloned(),
            attributes: Attributes::new(),
            unique: None,
            created_at: self.now(),
            updated_at: self.now(),
            last_message_at: None,
            members,
            muted_by: Vec::new(),
        };
        NewConversation { id, conversation }
    }

    pub fn unique_draft(&self, members: &[&str]) -> NewConversation {
        let mut new = self.draft(Kind::Direct, self.lasting_id(), members);
        new.conversation.unique = Some(MemberSet::of(&new.conversation.members));
        new
    }

    pub async fn make(&self, new: NewConversation) -> ConversationId {
        let id = new.id;
        let created = self.store().create_conversation(&self.app, new, nothing()).await.unwrap();
        assert!(!created.existing);
        id
    }

    pub async fn group(&self, members: &[&str]) -> ConversationId {
        self.make(self.draft(Kind::Group, self.lasting_id(), members)).await
    }

    pub async fn room(&self) -> ConversationId {
        self.make(self.draft(Kind::Room, self.lasting_id(), &[])).await
    }

    pub async fn temporary(&self, ttl_ms: i64, members: &[&str]) -> ConversationId {
        let (id, kind) = self.temporary_id(ttl_ms);
        self.make(self.draft(kind, id, members)).await
    }

    pub async fn append(&self, new: NewMessage) -> Result<Appended> {
        self.store().append_message(&self.app, new, nothing()).await
    }

    pub async fn say(&self, conversation: ConversationId, sender: &str, text: &str) -> Message {
        self.append(message(conversation, sender, text)).await.unwrap().message
    }

    pub async fn patch(&self, by: &str, of: &Message, body: Body, mentions: Mentions) -> Result<Patched> {
        let patch = PatchMessage {
            conversation: of.conversation,
            message: of.id,
            timestamp: Some(of.timestamp),
            body,
            mentions,
        };
        self.store().patch_message(&self.app, &client(by), patch, nothing()).await
    }

    pub async fn recall(&self, of: &Message) -> Patched {
        self.patch(of.sender.as_str(), of, recalled(), Mentions::default()).await.unwrap()
    }

    pub async fn add(
        &self,
        conversation: ConversationId,
        by: &str,
        members: &[&str],
    ) -> Result<MembersChanged> {
        let change = MemberChange { conversation, by: client(by), members: clients(members) };
        self.store().add_members(&self.app, change, &self.settings, nothing()).await
    }

    pub async fn remove(
        &self,
        conversation: ConversationId,
        by: &str,
        members: &[&str],
    ) -> Result<MembersChanged> {
        let change = MemberChange { conversation, by: client(by), members: clients(members) };
        self.store().remove_members(&self.app, change, nothing()).await
    }

    /// Reads everything there is.
    pub async fn read_all(&self, conversation: ConversationId, reader: &str) -> ReadMarked {
        self.read(conversation, reader, None).await
    }

    /// Reads up to a message, or everything.
    pub async fn read(
        &self,
        conversation: ConversationId,
        reader: &str,
        until: Option<&Message>,
    ) -> ReadMarked {
        let mark = MarkRead {
            conversation,
            until: until.map(|message| message.timestamp),
            id: until.map(|message| message.id),
        };
        self.store().mark_read(&self.app, &client(reader), mark, nothing()).await.unwrap()
    }

    pub async fn deliver(&self, conversation: ConversationId, to: &str, until: &Message) -> DeliveredMarked {
        let mark = MarkDelivered { conversation, until: Delivered::Message(until.id) };
        self.store().mark_delivered(&self.app, &client(to), mark, nothing()).await.unwrap()
    }

    pub async fn unread(&self, reader: &str) -> Vec<Unread> {
        self.store().list_unread(&self.app, &client(reader), None, 1_000).await.unwrap()
    }

    /// Unread number and mention flag in one conversation; (0, false) if it isn't listed.
    pub async fn unread_in(&self, conversation: ConversationId, reader: &str) -> (u64, bool) {
        let listed = self.unread(reader).await;
        listed
            .iter()
            .find(|unread| unread.conversation == conversation)
            .map_or((0, false), |unread| (unread.count, unread.mentioned))
    }

    pub async fn conversation(&self, id: ConversationId) -> Conversation {
        self.store().conversation(&self.app, id).await.unwrap()
    }
}

pub fn client(id: &str) -> ClientId {
    ClientId::parse(id).unwrap()
}

pub fn clients(ids: &[&str]) -> Vec<ClientId> {
    ids.iter().map(|id| client(id)).collect()
}

pub fn app_id(id: &str) -> AppId {
    AppId::parse(id).unwrap()
}

pub fn app(id: &str, keys: &[(&str, &str)]) -> App {
    App {
        id: app_id(id),
        name: format!("name of {id}"),
        keys: keys
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        settings: Settings::default(),
        created_at: Timestamp(1_000),
    }
}

pub fn text(text: &str) -> Body {
    Body {
        kind: BodyKind::Text,
        summary: Some(text.into()),
        payload: Payload { schema: SchemaTag(3), bytes: Bytes::copy_from_slice(text.as_bytes()) },
    }
}

pub fn recalled() -> Body {
    Body {
        kind: BodyKind::Recalled,
        summary: None,
        payload: Payload { schema: SchemaTag(3), bytes: Bytes::from_static(b"{}") },
    }
}

pub fn message(conversation: ConversationId, sender: &str, words: &str) -> NewMessage {
    NewMessage {
        conversation,
        sender: client(sender),
        body: text(words),
        mentions: Mentions::default(),
        token: None,
        receipt: false,
    }
}

pub fn token(token: &str) -> Option<ClientToken> {
    Some(ClientToken::parse(token).unwrap())
}

pub fn calls(ids: &[&str]) -> Mentions {
    Mentions { all: false, clients: clients(ids) }
}

pub fn calls_all() -> Mentions {
    Mentions { all: true, clients: Vec::new() }
}

pub fn nothing<T>() -> AfterCommit<T> {
    Box::new(|_| ())
}

/// A closure that keeps what it is told, and the place where it keeps it.
pub fn listener<T: Clone + Send + 'static>() -> (AfterCommit<T>, Heard<T>) {
    let heard = Heard::default();
    (heard.listen(), heard)
}

/// What closures were told, in their order.
#[derive(Debug)]
pub struct Heard<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Heard<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Heard<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + 'static> Heard<T> {
    pub fn listen(&self) -> AfterCommit<T> {
        let heard = Arc::clone(&self.0);
        Box::new(move |value: &T| heard.lock().unwrap().push(value.clone()))
    }

    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}
