//! Conversation lists as they were answered, kept until something in them changes.
//!
//! A list takes some reads for each of its lines, and apps ask for it far more often than its
//! conversations change. An answer is kept for the client and the question. The writer tells of every change
//! after its commit and before anybody hears of it; then the conversation is noted beside the answers of all
//! whose list it may be in. So a kept answer is what a read would find, but for the lines noted, and where
//! there are none it needs neither a read nor a reading thread.
//!
//! While lines are read something may change that the read doesn't see. Whoever reads takes a
//! [`Ticket`] first; with it the answer is only kept if nothing in it has changed since.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthouse_core::id::{ClientId, ConversationId};
use posthouse_core::listing::{ListPage, ListQuery, Listed};

/// About the memory that answers may take; when there are more, all are forgotten.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// About what it takes to know whose list a conversation is in.
const BYTES_A_CONVERSATION: usize = 64;

/// Different questions of one client that are kept; a newer one replaces the oldest.
const QUESTIONS_MAX: usize = 4;

/// The changes that are remembered for those who are reading. A read in which more happens isn't kept.
const RECENT_MAX: usize = 4_096;

/// Conversations that may have changed in an answer; one with more is read anew.
const CHANGED_MAX: usize = 16;

/// What a commit has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Something in the line that a conversation has in its members' lists.
    Conversation(ConversationId),
    /// A client of an app has come into a conversation.
    Came(i64, ClientId),
    /// The lists of some clients, and nobody knows whose.
    Everything,
}

/// When a read began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

/// What is known of an answer.
#[derive(Debug)]
pub(super) enum Found {
    /// All of it.
    Whole(Vec<Listed>),
    /// All but some lines.
    Outdated(Ticket, Answer),
    /// Nothing.
    Nothing(Ticket),
}

/// An answer, of which some lines may have changed since.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    /// The question, which looks back at least as far as the one at hand.
    pub(super) query: ListQuery,
    /// As it was answered.
    pub(super) listed: Vec<Listed>,
    /// The conversations in which something has changed since.
    pub(super) changed: Vec<ConversationId>,
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    state: Mutex<State>,
}

/// A client of an app.
type Owner = (i64, ClientId);

#[derive(Debug, Default)]
struct State {
    /// How many changes there were.
    changes: u64,
    /// The last of them, the newest last.
    recent: VecDeque<Change>,
    kept: HashMap<Arc<Owner>, Kept>,
    /// In whose lists a conversation may be.
    owners: HashMap<ConversationId, Vec<Arc<Owner>>>,
    bytes: usize,
}

/// What is kept of a client.
#[derive(Debug, Default)]
struct Kept {
    answers: VecDeque<Answer>,
    /// All conversations that it was in at some time, in order; each knows of this client.
    conversations: Vec<ConversationId>,
}

impl Answers {
    /// What is known of the answer to a question.
    pub(super) fn find(&self, app: i64, client: &ClientId, query: &ListQuery) -> Found {
        let state = self.lock();
        let ticket = Ticket(state.changes);
        let kept = state.kept.get(&(app, client.clone()));
        let Some(answer) = kept.and_then(|kept| kept.answers.iter().find(|kept| kept.answers(query))) else {
            return Found::Nothing(ticket);
        };
        if answer.changed.is_empty() {
            Found::Whole(part(&answer.listed, query).to_vec())
        } else {
            Found::Outdated(ticket, answer.clone())
        }
    }

    /// Keeps what became of an outdated answer, if nothing has changed in it since `ticket`.
    pub(super) fn keep_renewed(
        &self,
        ticket: Ticket,
        (app, client): (i64, &ClientId),
        query: &ListQuery,
        listed: &[Listed],
    ) {
        let mut state = self.lock();
        let owner = (app, client.clone());
        let Some(kept) = state.kept.get(&owner) else { return };
        if state.has_changed_since(ticket, app, client, &kept.conversations) {
            return;
        }
        let State { kept, bytes: all, .. } = &mut *state;
        let answer =
            kept.get_mut(&owner).and_then(|kept| kept.answers.iter_mut().find(|kept| kept.query == *query));
        if let Some(answer) = answer {
            *all = *all + bytes(listed) - bytes(&answer.listed);
            answer.listed = listed.to_vec();
            answer.changed.clear();
        }
    }

    /// Keeps what was read after `ticket`, of a client that was in exactly these `conversations`, which are in
    /// order.
    pub(super) fn keep(
        &self,
        ticket: Ticket,
        (app, client): (i64, &ClientId),
        query: ListQuery,
        conversations: Vec<ConversationId>,
        listed: &[Listed],
    ) {
        let mut state = self.lock();
        if state.has_changed_since(ticket, app, client, &conversations) {
            return;
        }
        let added = bytes(listed) + conversations.len() * BYTES_A_CONVERSATION;
        if state.bytes + added > BYTES_MAX {
            state.forget_all();
        }
        let owner = Arc::new((app, client.clone()));
        let State { kept, owners, bytes: all, .. } = &mut *state;
        let kept = kept.entry(Arc::clone(&owner)).or_default();
        if kept.conversations != conversations {
            for conversation in conversations {
                if let Err(at) = kept.conversations.binary_search(&conversation) {
                    kept.conversations.insert(at, conversation);
                    owners.entry(conversation).or_default().push(Arc::clone(&owner));
                    *all += BYTES_A_CONVERSATION;
                }
            }
        }
        let same = kept.answers.iter().position(|kept| is_alike(&kept.query, &query));
        let full = (kept.answers.len() == QUESTIONS_MAX).then_some(0);
        if let Some(old) = same.or(full).and_then(|at| kept.answers.remove(at)) {
            *all -= bytes(&old.listed);
        }
        *all += bytes(listed);
        kept.answers.push_back(Answer { query, listed: listed.to_vec(), changed: Vec::new() });
    }

    /// Takes in what has changed.
    pub(super) fn change(&self, changes: impl IntoIterator<Item = Change>) {
        let mut state = self.lock();
        for change in changes {
            match &change {
                Change::Conversation(id) => {
                    let State { owners, kept, bytes, .. } = &mut *state;
                    for owner in owners.get(id).into_iter().flatten() {
                        if let Some(kept) = kept.get_mut(owner) {
                            kept.note(*id, bytes);
                        }
                    }
                }
                Change::Came(app, client) => {
                    let State { kept, bytes, .. } = &mut *state;
                    if let Some(kept) = kept.get_mut(&(*app, client.clone())) {
                        kept.forget(bytes);
                    }
                }
                Change::Everything => state.forget_all(),
            }
            state.changes += 1;
            if state.recent.len() == RECENT_MAX {
                state.recent.pop_front();
            }
            state.recent.push_back(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic can't leave it half-changed in a way that keeps what is wrong: changes are noted last.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_changed_since(
        &self,
        ticket: Ticket,
        app: i64,
        client: &ClientId,
        conversations: &[ConversationId],
    ) -> bool {
        let since = usize::try_from(self.changes - ticket.0).unwrap_or(usize::MAX);
        let Some(first) = self.recent.len().checked_sub(since) else { return true };
        self.recent.range(first..).any(|change| match change {
            Change::Conversation(id) => conversations.binary_search(id).is_ok(),
            Change::Came(of, who) => (*of, who) == (app, client),
            Change::Everything => true,
        })
    }

    fn forget_all(&mut self) {
        self.kept.clear();
        self.owners.clear();
        self.bytes = 0;
    }
}

impl Kept {
    fn forget(&mut self, all: &mut usize) {
        for answer in self.answers.drain(..) {
            *all -= bytes(&answer.listed);
        }
    }

    /// Notes that a conversation has changed.
    fn note(&mut self, id: ConversationId, all: &mut usize) {
        self.answers.retain_mut(|answer| {
            if !answer.changed.contains(&id) {
                answer.changed.push(id);
            }
            let stays = answer.changed.len() <= CHANGED_MAX && answer.query.page.newest().is_some();
            if !stays {
                *all -= bytes(&answer.listed);
            }
            stays
        });
    }
}

impl Answer {
    /// Whether its answer has the one to `wanted` in it: who looks back less far sees the newer lines.
    fn answers(&self, wanted: &ListQuery) -> bool {
        match (self.query.page, wanted.page) {
            (ListPage::Newest { since: first, .. }, ListPage::Newest { since, .. }) => {
                since >= first && is_alike(&self.query, wanted)
            }
            _ => self.query == *wanted,
        }
    }
}

/// Whether two questions differ in no more than the time up to which they look back.
fn is_alike(one: &ListQuery, other: &ListQuery) -> bool {
    let pages = match (one.page, other.page) {
        (ListPage::Newest { limit, .. }, ListPage::Newest { limit: same, .. }) => limit == same,
        (one, other) => one == other,
    };
    pages && ListQuery { page: one.page, ..other.clone() } == *one
}

/// The lines of an answer that `wanted` looks back far enough for.
pub(super) fn part<'a>(listed: &'a [Listed], wanted: &ListQuery) -> &'a [Listed] {
    match wanted.page {
        ListPage::Newest { since, .. } => &listed[..listed.partition_point(|line| line.place.at >= since)],
        ListPage::Numbered { .. } | ListPage::After { .. } => listed,
    }
}

/// About the memory that an answer takes.
fn bytes(listed: &[Listed]) -> usize {
    let of = |line: &Listed| {
        let payload = line.last_message.as_ref().map_or(0, |message| message.body.payload.bytes.len());
        size_of::<Listed>() + payload
    };
    listed.iter().map(of).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::app::ServerMessages;
    use posthouse_core::conversation::{Address, Kind};
    use posthouse_core::listing::ListPlace;
    use posthouse_core::time::Timestamp;

    use super::*;

    fn conversation(number: u64) -> ConversationId {
        ConversationId::from_u64(number).unwrap()
    }

    fn tom() -> ClientId {
        ClientId::parse("tom").unwrap()
    }

    fn question(limit: usize) -> ListQuery {
        ListQuery {
            page: ListPage::After { cursor: None, limit },
            pinned_only: false,
            marked: None,
            with_empty: false,
            server_messages: ServerMessages::Write,
            since_joined: false,
        }
    }

    fn line(number: u64, unread: u64) -> Listed {
        let place = ListPlace { at: Timestamp(1), conversation: conversation(number) };
        let address = Address { id: conversation(number), kind: Kind::Group, peer: None };
        Listed { address, last_message: None, unread, pinned_at: None, marks: 0, place }
    }

    fn ids(numbers: &[u64]) -> Vec<ConversationId> {
        numbers.iter().map(|number| conversation(*number)).collect()
    }

    /// The answer, or the ticket and what has changed of it.
    type Asked = Result<Vec<Listed>, (Ticket, Vec<ConversationId>)>;

    fn asks_as(answers: &Answers, app: i64, question: &ListQuery) -> Asked {
        match answers.find(app, &tom(), question) {
            Found::Whole(listed) => Ok(listed),
            Found::Outdated(ticket, answer) => Err((ticket, answer.changed)),
            Found::Nothing(ticket) => Err((ticket, Vec::new())),
        }
    }

    fn asks(answers: &Answers, limit: usize) -> Asked {
        asks_as(answers, 1, &question(limit))
    }

    fn reads(answers: &Answers, limit: usize, of: &[u64], listed: &[Listed]) {
        let (ticket, _) = asks(answers, limit).unwrap_err();
        answers.keep(ticket, (1, &tom()), question(limit), ids(of), listed);
    }

    #[test]
    fn an_answer_is_kept_until_something_in_the_list_changes() {
        let answers = Answers::default();
        // The second conversation is not on the page, and might come there.
        for change in [
            Change::Conversation(conversation(1)),
            Change::Conversation(conversation(2)),
            Change::Came(1, tom()),
            Change::Everything,
        ] {
            reads(&answers, 1, &[1, 2], &[line(1, 5)]);
            assert_eq!(asks(&answers, 1).unwrap(), [line(1, 5)]);
            assert!(asks(&answers, 2).is_err() && asks_as(&answers, 2, &question(1)).is_err());
            answers.change([Change::Conversation(conversation(3)), Change::Came(2, tom())]);
            assert!(asks(&answers, 1).is_ok());
            answers.change([change]);
            assert!(asks(&answers, 1).is_err());
        }
        reads(&answers, 1, &[2, 7], &[line(7, 0)]);
        answers.change([Change::Conversation(conversation(7))]);
        assert!(asks(&answers, 1).is_err(), "conversations that it came into later are known too");
    }

    #[test]
    fn few_lines_that_changed_are_read_again_and_many_make_it_all_wrong() {
        let answers = Answers::default();
        let all: Vec<u64> = (1..=20).collect();
        reads(&answers, 1, &all, &[line(1, 5)]);
        answers.change([3, 4, 3].map(|id| Change::Conversation(conversation(id))));
        let (ticket, changed) = asks(&answers, 1).unwrap_err();
        assert_eq!(changed, ids(&[3, 4]));
        // Something changes again while they are read: the old answer is still to be mended.
        answers.change([Change::Conversation(conversation(5))]);
        answers.keep_renewed(ticket, (1, &tom()), &question(1), &[line(3, 1)]);
        let (ticket, changed) = asks(&answers, 1).unwrap_err();
        assert_eq!(changed, ids(&[3, 4, 5]));
        answers.keep_renewed(ticket, (1, &tom()), &question(1), &[line(4, 1)]);
        assert_eq!(asks(&answers, 1).unwrap(), [line(4, 1)]);
        answers.change((1..=17).map(|id| Change::Conversation(conversation(id))));
        assert!(matches!(answers.find(1, &tom(), &question(1)), Found::Nothing(_)));
        let second = ListQuery { page: ListPage::Numbered { size: 1, number: 1 }, ..question(1) };
        let (ticket, _) = asks_as(&answers, 1, &second).unwrap_err();
        answers.keep(ticket, (1, &tom()), second.clone(), ids(&all), &[line(2, 0)]);
        answers.change([Change::Conversation(conversation(1))]);
        assert!(
            matches!(answers.find(1, &tom(), &second), Found::Nothing(_)),
            "only first pages can be mended"
        );
    }

    #[test]
    fn who_looks_back_less_far_sees_the_newer_lines() {
        let answers = Answers::default();
        let since =
            |since| ListQuery { page: ListPage::Newest { limit: 9, since: Timestamp(since) }, ..question(1) };
        let at = |number, at| {
            let line = line(number, 0);
            Listed { place: ListPlace { at: Timestamp(at), ..line.place }, ..line }
        };
        let (ticket, _) = asks_as(&answers, 1, &since(10)).unwrap_err();
        answers.keep(ticket, (1, &tom()), since(10), ids(&[1, 2]), &[at(2, 30), at(1, 20)]);
        assert!(asks_as(&answers, 1, &since(9)).is_err(), "there may be more");
        for (from, left) in [(10, 2), (20, 2), (21, 1), (31, 0)] {
            assert_eq!(asks_as(&answers, 1, &since(from)).unwrap().len(), left);
        }
        let pinned = ListQuery { pinned_only: true, ..since(10) };
        assert!(asks_as(&answers, 1, &pinned).is_err());
    }

    #[test]
    fn what_changed_while_it_was_read_is_not_kept() {
        let answers = Answers::default();
        for (change, is_kept) in [
            (Change::Conversation(conversation(3)), true),
            (Change::Came(1, ClientId::parse("jerry").unwrap()), true),
            (Change::Conversation(conversation(2)), false),
            (Change::Came(1, tom()), false),
            (Change::Everything, false),
        ] {
            let (ticket, _) = asks(&answers, 1).unwrap_err();
            answers.change([change]);
            answers.keep(ticket, (1, &tom()), question(1), ids(&[1, 2]), &[line(1, 5)]);
            assert_eq!(asks(&answers, 1).is_ok(), is_kept);
            answers.change([Change::Everything]);
        }
        let (ticket, _) = asks(&answers, 1).unwrap_err();
        answers.change((0..RECENT_MAX as u64 + 1).map(|_| Change::Conversation(conversation(9))));
        answers.keep(ticket, (1, &tom()), question(1), ids(&[1, 2]), &[line(1, 5)]);
        assert!(asks(&answers, 1).is_err(), "too much has happened to know");
    }

    #[test]
    fn few_questions_of_a_client_are_kept_and_what_they_take_is_counted() {
        let answers = Answers::default();
        for limit in 1..=QUESTIONS_MAX + 1 {
            reads(&answers, limit, &[1], &[line(1, 0)]);
        }
        assert!(asks(&answers, 1).is_err() && asks(&answers, 2).is_ok());
        let lines = |answers: &Answers| answers.lock().bytes / size_of::<Listed>();
        assert_eq!(lines(&answers), QUESTIONS_MAX);
        answers.change([Change::Came(1, tom())]);
        assert_eq!(lines(&answers), 0);
        let many: Vec<Listed> = (1..=1_000).map(|number| line(number, 0)).collect();
        for app in 0..1_000 {
            let (ticket, _) = asks_as(&answers, app, &question(1_000)).unwrap_err();
            answers.keep(ticket, (app, &tom()), question(1_000), ids(&[1]), &many);
            assert!(answers.lock().bytes <= BYTES_MAX);
        }
        assert!(answers.lock().kept.len() > 1, "it is forgotten whole, and filled again");
    }
}
