//! The contract suite of the store port: every rule of `posthouse_core::port::store`, on any engine.
//!
//! A test is a plain async function that takes an [`Engine`] on an empty place. [`crate::store_suite!`]
//! makes a `#[tokio::test]` of each. [`Scene`] is what the tests share: one app, a clock they move, and
//! short words for what they do.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(missing_docs, reason = "the name of a test is its description")]

pub mod accounts;
pub mod acknowledge;
pub mod apps;
pub mod conversations;
pub mod deletion;
pub mod direct;
pub mod expiry;
pub mod history;
pub mod import;
pub mod inbox;
pub mod lists;
pub mod model;
pub mod model_views;
pub mod queues;
pub mod removal;
pub mod roles;
pub mod timeline;
pub mod unread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use posthouse_core::app::{App, DeleteScope, ServerMessages, Settings};
use posthouse_core::attribute::Attributes;
use posthouse_core::conversation::{
    Authority, Conversation, ConversationDeleted, DeleteConversation, Kind, MemberSet, MembersChanged,
};
use posthouse_core::error::Result;
use posthouse_core::expiry::Bucket;
use posthouse_core::id::{AppId, ClientId, ClientToken, ConversationId, DeviceId, Seq};
use posthouse_core::listing::{Entry, EntryKind, ListPage, ListQuery, Listed, Note, NoteKind, Removal};
use posthouse_core::message::{
    Body, BodyKind, Direction, HistoryQuery, Mentions, Message, Origin, PatchMessage, Payload, SchemaTag,
};
use posthouse_core::port::store::{
    AfterCommit, Appended, Destination, MemberChange, NewConversation, NewMessage, Patched, Store,
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
            it_is_known_when_members_came
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
            more_tells_whether_there_is_more
            a_page_begins_after_a_message
            kinds_and_senders_are_filtered_together
            recalled_ones_can_be_left_out
            history_since_joining
            a_filtered_page_lies_behind_many_others
            one_message_is_read_by_its_id
            who_came_later_reads_nothing_older_by_its_id
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
            members_remove_and_delete_in_it_like_elsewhere
            what_is_not_for_it_is_refused_without_harm
        );
        $crate::store_suite!(@group model_views, $engine,
            random_views_agree_with_a_plain_model
        );
        $crate::store_suite!(@group accounts, $engine,
            an_account_comes_back_as_it_was_made
            a_name_is_registered_once
            accounts_are_listed_in_the_order_of_their_making
            a_new_secret_and_a_ban_count_up_the_generation
            a_removed_account_goes_with_what_is_its_own
            a_name_registered_again_sees_nothing_old
            a_request_waits_for_an_answer
            a_declined_request_is_gone
            adding_and_removing_need_no_request
            remarks_are_ones_own
            contacts_page_by_name
            contacts_are_limited_on_both_sides
            who_is_blocked_cannot_ask
            blocks_are_newest_first_and_limited
            accounts_of_apps_are_apart
        );
        $crate::store_suite!(@group direct, $engine,
            the_first_message_makes_the_conversation
            both_sides_find_the_same
            many_at_once_make_one
            one_talks_to_oneself
            a_unique_pair_made_elsewhere_is_found
            a_taken_id_leads_to_the_next
            who_is_blocked_is_refused
            blocks_bind_neither_servers_nor_groups
            servers_speak_in_anyones_name
            a_retry_to_a_person_is_the_same_message
            a_pair_that_changed_is_replaced_by_another
        );
        $crate::store_suite!(@group lists, $engine,
            a_line_for_each_conversation_with_a_message
            the_newest_come_first_and_within_a_window
            of_one_moment_the_largest_comes_first
            pages_have_numbers
            a_cursor_goes_on_from_a_place
            a_deleted_line_comes_back_with_the_next_message
            what_servers_said_counts_by_setting
            a_line_may_lie_behind_many_server_messages
            a_recalled_newest_gives_way
            a_removed_newest_gives_way
            empty_ones_are_listed_on_demand
            pins_come_first_among_themselves
            pins_are_limited
            pins_of_deleted_lines_are_in_nobodys_way
            marks_are_bits
            lines_belong_to_members
            a_line_may_begin_with_the_coming
            imports_and_old_clocks_show_nothing_from_before_the_coming
            lists_of_apps_are_apart
        );
        $crate::store_suite!(@group removal, $engine,
            removed_messages_are_gone_for_one
            who_comes_back_finds_nothing_of_what_it_removed
            up_to_a_time_includes_that_time
            a_time_to_come_removes_what_there_is
            the_devices_find_a_note
            at_most_fifty_at_once
            unknown_and_foreign_ids_are_passed_over
            what_is_read_or_ones_own_leaves_the_number
            removed_calls_call_no_more
            removing_is_not_reading
            no_wire_shows_what_is_removed
            everything_can_be_removed_at_once
            the_unread_list_since_a_time_sees_removals
            queries_pass_over_what_is_removed
            changes_at_once_keep_every_counter
            odd_numbers_do_no_harm
        );
        $crate::store_suite!(@group deletion, $engine,
            deleted_for_oneself_without_messages
            deleted_for_oneself_with_messages
            deleted_for_everyone_without_messages
            deleted_for_everyone_with_messages
            what_is_deleted_is_on_no_wire
            the_devices_of_those_concerned_find_notes
            only_members_delete
            a_group_may_need_a_moderator
            who_comes_later_sees_nothing_deleted
            deleting_twice_takes_what_came_between
            deletion_is_not_reading
            deleted_messages_are_forgotten
            many_deleted_messages_are_forgotten_in_pieces
        );
        $crate::store_suite!(@group import, $engine,
            imports_go_to_their_place_in_history
            imports_reach_no_device_and_are_never_unread
            imports_do_not_stop_time
            what_is_to_come_cannot_be_imported
            an_import_makes_the_conversation_of_two
            imports_are_listed_in_every_mode
            imports_obey_deletions
        );
        $crate::store_suite!(@group queues, $engine,
            a_timeline_is_read_in_stretches
            a_stretch_of_large_messages_is_shorter
            everything_that_happens_is_in_the_timeline
            a_recall_takes_the_edits_with_it
            edits_carry_the_newest_words
            timelines_are_for_members_and_from_their_coming
            a_new_device_begins_within_the_window
            a_device_goes_on_where_it_was
            closing_keeps_the_places
            a_forgotten_device_is_a_new_one
            the_devices_seen_longest_ago_give_way
            a_device_in_use_outlives_many_others
            what_waits_is_ordered_by_activity_and_limited
            deleted_messages_wait_for_nobody
            a_timeline_goes_on_behind_much_that_is_deleted
            commands_are_nowhere_else
            uncounted_messages_are_shown_but_never_unread
            notes_have_growing_numbers
            coming_and_going_leave_notes
            reading_and_receipts_leave_notes
            what_waits_sees_what_closures_have_told
        );
        $crate::store_suite!(@group roles, $engine,
            an_owner_names_administrators
            a_group_is_handed_on
            roles_are_refused_by_cause
            a_role_goes_with_the_member
            members_are_moved_by_right
            an_owner_goes_only_where_roles_are_not_kept
            a_conversation_may_have_a_limit_of_its_own
            attributes_are_changed_by_right
            messages_are_changed_by_right
            changes_may_come_too_late_or_too_often
            groups_are_listed_newest_first
            an_ended_group_is_gone
            groups_are_ended_by_right
        );
        $crate::store_suite!(@group acknowledge, $engine,
            the_sender_finds_a_receipt
            delivered_first_and_then_read
            doing_it_twice_tells_nobody_again
            readers_of_a_group_are_counted
            who_is_gone_or_oneself_is_not_told
            acknowledgements_are_refused_by_cause
            who_came_later_acknowledges_nothing_older
            receipts_of_groups_are_for_devices_only
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
        let scene = Self::of(engine).await;
        assert!(scene.store().add_app(app("app", &[]), &[]).await.unwrap());
        scene
    }

    /// A scene in a place where the app `app` is already.
    pub async fn of(engine: E) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = engine.open(Arc::clone(&clock)).await;
        Self {
            engine,
            clock,
            store: Some(store),
            app: app_id("app"),
            settings: Settings::default(),
            chance: SeededChance::new(7),
        }
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

    /// Drops the store without closing it and opens it anew: what it had put off is lost with its memory.
    pub async fn crash(&mut self) {
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
            owner: members.first().cloned(),
            admins: Vec::new(),
            attributes: Attributes::new(),
            unique: None,
            created_at: self.now(),
            updated_at: self.now(),
            last_message_at: None,
            members,
            joined: Vec::new(),
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
        let patch = PatchMessage { timestamp: Some(of.timestamp), ..patch(of, body, mentions) };
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
        let change = member_change(conversation, by, members);
        self.store().add_members(&self.app, change, &self.settings, nothing()).await
    }

    pub async fn remove(
        &self,
        conversation: ConversationId,
        by: &str,
        members: &[&str],
    ) -> Result<MembersChanged> {
        let change = member_change(conversation, by, members);
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
            device: None,
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

    /// Says something to a client, wherever that is.
    pub async fn say_to(&self, sender: &str, with: &str, words: &str) -> Message {
        self.append(self.to(sender, with, words)).await.unwrap().message
    }

    pub fn to(&self, sender: &str, with: &str, words: &str) -> NewMessage {
        let to = Destination::Direct { with: client(with), fresh: self.lasting_id() };
        NewMessage { to, ..message(self.lasting_id(), sender, words) }
    }

    /// Says something that only waits for devices.
    pub async fn command(&self, conversation: ConversationId, sender: &str, words: &str) -> Message {
        let new = NewMessage { shown: false, counted: false, ..message(conversation, sender, words) };
        self.append(new).await.unwrap().message
    }

    /// Says something as the back end does where its messages aren't counted.
    pub async fn serve(&self, conversation: ConversationId, sender: &str, words: &str) -> Message {
        let new =
            NewMessage { origin: Origin::Server, counted: false, ..message(conversation, sender, words) };
        self.append(new).await.unwrap().message
    }

    pub async fn import(&self, conversation: ConversationId, sender: &str, at: Timestamp) -> Message {
        self.append(imported(conversation, sender, at)).await.unwrap().message
    }

    /// All that `reader` finds in a conversation's history, from old to new.
    pub async fn everything(&self, id: ConversationId, reader: &str) -> Vec<Message> {
        let query =
            HistoryQuery { direction: Direction::Forward, in_room: true, ..HistoryQuery::newest(id, 10_000) };
        self.store().read_history(&self.app, &client(reader), query).await.unwrap().messages
    }

    /// The payloads of what `reader` finds in history, from old to new.
    pub async fn words(&self, id: ConversationId, reader: &str) -> Vec<String> {
        self.everything(id, reader).await.iter().map(words).collect()
    }

    pub async fn list(&self, reader: &str, query: ListQuery) -> Vec<Listed> {
        self.store().list_conversations(&self.app, &client(reader), query).await.unwrap()
    }

    /// The lines of a client's list: which, the newest words, how much is unread.
    pub async fn lines(&self, reader: &str) -> Vec<(ConversationId, String, u64)> {
        self.list(reader, list()).await.iter().map(line).collect()
    }

    pub async fn remove_messages(
        &self,
        conversation: ConversationId,
        who: &str,
        removal: Removal,
    ) -> Result<()> {
        let (store, phone) = (self.store(), device("phone"));
        store
            .remove_messages(&self.app, &client(who), conversation, Some(&phone), removal, true, nothing())
            .await
    }

    pub async fn delete(
        &self,
        conversation: ConversationId,
        by: &str,
        scope: DeleteScope,
        with_messages: bool,
    ) -> Result<ConversationDeleted> {
        let delete = DeleteConversation {
            conversation,
            by: client(by),
            device: Some(device("phone")),
            with_messages,
            scope,
            group_needs_moderator: false,
        };
        self.store().delete_conversation(&self.app, delete, nothing()).await
    }

    /// The notes of a client's inbox, all of them.
    pub async fn notes(&self, who: &str) -> Vec<Note> {
        self.store().read_notes(&self.app, &client(who), 0, 10_000).await.unwrap()
    }

    /// What the newest notes of a client's inbox say.
    pub async fn newest_notes(&self, who: &str, many: usize) -> Vec<NoteKind> {
        let notes = self.notes(who).await;
        notes[notes.len().saturating_sub(many)..].iter().map(|note| note.what.clone()).collect()
    }

    /// A timeline as `reader` sees it: places, and what is there.
    pub async fn timeline(&self, id: ConversationId, reader: &str) -> Vec<(u64, String)> {
        let stretch =
            self.store().read_timeline(&self.app, &client(reader), id, Seq(0), 10_000).await.unwrap();
        assert!(!stretch.more && stretch.entries.is_sorted_by_key(|entry| entry.seq));
        assert!(stretch.entries.iter().all(|entry| entry.seq <= stretch.end));
        stretch.entries.iter().map(|entry| (entry.seq.0, entry_words(entry))).collect()
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
        to: Destination::Conversation(conversation),
        sender: client(sender),
        body: text(words),
        mentions: Mentions::default(),
        token: None,
        receipt: false,
        origin: Origin::Client,
        shown: true,
        counted: true,
        imported_at: None,
    }
}

/// A change by the sender's right, whatever the message's time and however often it was changed.
pub fn patch(of: &Message, body: Body, mentions: Mentions) -> PatchMessage {
    PatchMessage {
        conversation: of.conversation,
        message: of.id,
        timestamp: None,
        body,
        mentions,
        authority: Authority::Member,
        not_before: None,
        edits_max: None,
    }
}

pub fn member_change(conversation: ConversationId, by: &str, members: &[&str]) -> MemberChange {
    MemberChange {
        conversation,
        by: client(by),
        members: clients(members),
        authority: Authority::Member,
        members_max: None,
    }
}

/// Without when each member came, which not every answer tells.
pub fn timeless(conversation: Conversation) -> Conversation {
    Conversation { joined: Vec::new(), ..conversation }
}

/// A message that was said elsewhere.
pub fn imported(conversation: ConversationId, sender: &str, at: Timestamp) -> NewMessage {
    NewMessage {
        origin: Origin::Import,
        counted: false,
        imported_at: Some(at),
        ..message(conversation, sender, "imported")
    }
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

/// The whole list, without what servers said.
pub fn list() -> ListQuery {
    ListQuery {
        page: ListPage::Newest { limit: 1_000, since: Timestamp(0) },
        pinned_only: false,
        marked: None,
        with_empty: false,
        server_messages: ServerMessages::Exclude,
        since_joined: false,
    }
}

/// Which, the newest words, how much is unread.
pub fn line(listed: &Listed) -> (ConversationId, String, u64) {
    let newest = listed.last_message.as_ref().map(words).unwrap_or_default();
    (listed.address.id, newest, listed.unread)
}

/// A message's payload.
pub fn words(message: &Message) -> String {
    body_words(&message.body)
}

fn body_words(body: &Body) -> String {
    String::from_utf8_lossy(&body.payload.bytes).into_owned()
}

/// An entry of a timeline in few words.
pub fn entry_words(entry: &Entry) -> String {
    match &entry.what {
        EntryKind::Message(message) => words(message),
        EntryKind::Patched(patch) if patch.body.kind == BodyKind::Recalled => "recalled".to_owned(),
        EntryKind::Patched(patch) => format!("edited: {}", body_words(&patch.body)),
        EntryKind::MembersJoined(event) => format!("joined {:?}", event.members),
        EntryKind::MembersLeft(event) => format!("left {:?}", event.members),
        EntryKind::Updated(_) => "updated".to_owned(),
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
