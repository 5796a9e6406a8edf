//! Who watches whose presence: subscriptions of live sessions to the members of a conversation.
//!
//! Pure bookkeeping; the [`router`](crate::router) owns it and knows who is online.

use std::collections::{HashMap, HashSet};

use crate::id::{AppId, ClientId, ConversationId, SessionId};
use crate::time::Timestamp;

/// The most conversations one session may watch. A screen shows a few; this bounds memory.
pub const WATCHED_MAX: usize = 200;

/// The state of a conversation's members, as the answer to a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceView {
    /// Members with a live session, or one that was lost within the grace time.
    pub online: Vec<ClientId>,
    /// The other members.
    pub offline: Vec<ClientId>,
    /// How long the subscription lasts, in seconds; `None`: as long as the session.
    pub ttl_seconds: Option<i64>,
}

/// All subscriptions of this process.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    watched: HashMap<ConversationId, Watched>,
    by_member: HashMap<(AppId, ClientId), HashSet<ConversationId>>,
    by_session: HashMap<SessionId, HashSet<ConversationId>>,
}

#[derive(Debug)]
struct Watched {
    app: AppId,
    members: Vec<ClientId>,
    /// `updated_at` of the conversation when `members` was true.
    version: Timestamp,
    watchers: HashMap<SessionId, Watcher>,
}

#[derive(Debug)]
struct Watcher {
    client: ClientId,
    /// The end of the subscription or of the conversation, whichever is first.
    until: Option<Timestamp>,
}

/// A conversation's members at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roster<'a> {
    pub(crate) conversation: ConversationId,
    pub(crate) members: &'a [ClientId],
    pub(crate) version: Timestamp,
}

impl Subscriptions {
    /// Starts or renews a subscription. `false` if the session watches too many already.
    pub(crate) fn watch(
        &mut self,
        app: &AppId,
        session: SessionId,
        client: &ClientId,
        roster: Roster<'_>,
        until: Option<Timestamp>,
    ) -> bool {
        let mine = self.by_session.entry(session).or_default();
        if mine.len() >= WATCHED_MAX && !mine.contains(&roster.conversation) {
            return false;
        }
        mine.insert(roster.conversation);
        let watched = self.watched.entry(roster.conversation).or_insert_with(|| Watched {
            app: app.clone(),
            members: Vec::new(),
            version: Timestamp(i64::MIN),
            watchers: HashMap::new(),
        });
        watched.watchers.insert(session, Watcher { client: client.clone(), until });
        self.set_roster(roster);
        true
    }

    /// Takes over the members, unless newer ones are known.
    pub(crate) fn set_roster(&mut self, roster: Roster<'_>) {
        let Some(watched) = self.watched.get_mut(&roster.conversation) else { return };
        if roster.version <= watched.version {
            return;
        }
        watched.version = roster.version;
        let (app, before) =
            (watched.app.clone(), std::mem::replace(&mut watched.members, roster.members.to_vec()));
        for gone in before.iter().filter(|member| !roster.members.contains(member)) {
            self.forget_member(&app, gone, roster.conversation);
        }
        for member in roster.members {
            self.by_member.entry((app.clone(), member.clone())).or_default().insert(roster.conversation);
        }
        // A subscription ends with the membership.
        let Some(watched) = self.watched.get(&roster.conversation) else { return };
        let ended: Vec<_> = watched
            .watchers
            .iter()
            .filter(|(_, watcher)| !roster.members.contains(&watcher.client))
            .map(|(session, _)| *session)
            .collect();
        for session in ended {
            self.unwatch(session, roster.conversation);
        }
    }

    /// Ends one subscription.
    pub(crate) fn unwatch(&mut self, session: SessionId, conversation: ConversationId) {
        if let Some(mine) = self.by_session.get_mut(&session) {
            mine.remove(&conversation);
            if mine.is_empty() {
                self.by_session.remove(&session);
            }
        }
        let Some(watched) = self.watched.get_mut(&conversation) else { return };
        watched.watchers.remove(&session);
        if watched.watchers.is_empty()
            && let Some(watched) = self.watched.remove(&conversation)
        {
            for member in &watched.members {
                self.forget_member(&watched.app, member, conversation);
            }
        }
    }

    /// Ends all subscriptions of a session.
    pub(crate) fn forget_session(&mut self, session: SessionId) {
        for conversation in self.by_session.remove(&session).unwrap_or_default() {
            self.unwatch(session, conversation);
        }
    }

    /// Ends the subscriptions whose time is over.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let over: Vec<_> = self
            .watched
            .iter()
            .flat_map(|(conversation, watched)| {
                watched
                    .watchers
                    .iter()
                    .filter(|(_, watcher)| watcher.until.is_some_and(|until| until <= now))
                    .map(|(session, _)| (*session, *conversation))
            })
            .collect();
        for (session, conversation) in over {
            self.unwatch(session, conversation);
        }
    }

    /// The sessions that watch a conversation `client` is in, with that conversation.
    pub(crate) fn watchers_of(
        &self,
        app: &AppId,
        client: &ClientId,
        now: Timestamp,
    ) -> Vec<(ConversationId, SessionId)> {
        let Some(conversations) = self.by_member.get(&(app.clone(), client.clone())) else {
            return Vec::new();
        };
        conversations
            .iter()
            .filter_map(|conversation| Some((*conversation, self.watched.get(conversation)?)))
            .flat_map(|(conversation, watched)| {
                watched
                    .watchers
                    .iter()
                    .filter(move |(_, watcher)| watcher.until.is_none_or(|until| until > now))
                    .map(move |(session, _)| (conversation, *session))
            })
            .collect()
    }

    /// The sessions that watch `conversation`.
    pub(crate) fn watchers_in(&self, conversation: ConversationId, now: Timestamp) -> Vec<SessionId> {
        self.watched.get(&conversation).map_or_else(Vec::new, |watched| {
            watched
                .watchers
                .iter()
                .filter(|(_, watcher)| watcher.until.is_none_or(|until| until > now))
                .map(|(session, _)| *session)
                .collect()
        })
    }

    /// Whether anything is still remembered; tests check that nothing leaks.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.watched.is_empty() && self.by_member.is_empty() && self.by_session.is_empty()
    }

    fn forget_member(&mut self, app: &AppId, member: &ClientId, conversation: ConversationId) {
        let key = (app.clone(), member.clone());
        if let Some(conversations) = self.by_member.get_mut(&key) {
            conversations.remove(&conversation);
            if conversations.is_empty() {
                self.by_member.remove(&key);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ROOM: u64 = 9;

    fn client(id: &str) -> ClientId {
        ClientId::parse(id).unwrap()
    }

    fn app() -> AppId {
        AppId::parse("a").unwrap()
    }

    fn watch(
        subscriptions: &mut Subscriptions,
        session: u64,
        conversation: u64,
        until: Option<Timestamp>,
    ) -> bool {
        let members = [client("tom"), client("jerry")];
        let roster = Roster {
            conversation: ConversationId::lasting(conversation),
            members: &members,
            version: Timestamp(1),
        };
        subscriptions.watch(&app(), SessionId(session), &client("tom"), roster, until)
    }

    #[test]
    fn a_watcher_hears_of_members_until_it_stops() {
        let mut all = Subscriptions::default();
        assert!(watch(&mut all, 1, ROOM, None));
        let heard = all.watchers_of(&app(), &client("jerry"), Timestamp(0));
        assert_eq!(heard, [(ConversationId::lasting(ROOM), SessionId(1))]);
        assert!(all.watchers_of(&app(), &client("spike"), Timestamp(0)).is_empty());
        all.unwatch(SessionId(1), ConversationId::lasting(ROOM));
        assert!(all.is_empty());
    }

    #[test]
    fn it_ends_with_its_time_its_session_and_the_membership() {
        let mut all = Subscriptions::default();
        watch(&mut all, 1, ROOM, Some(Timestamp(10)));
        assert!(all.watchers_of(&app(), &client("jerry"), Timestamp(10)).is_empty());
        all.expire(Timestamp(10));
        assert!(all.is_empty());
        watch(&mut all, 1, ROOM, None);
        all.forget_session(SessionId(1));
        assert!(all.is_empty());
        watch(&mut all, 1, ROOM, None);
        all.set_roster(Roster {
            conversation: ConversationId::lasting(ROOM),
            members: &[client("jerry")],
            version: Timestamp(2),
        });
        assert!(all.is_empty());
    }

    #[test]
    fn old_news_of_members_changes_nothing_and_there_is_a_bound() {
        let mut all = Subscriptions::default();
        watch(&mut all, 1, ROOM, None);
        all.set_roster(Roster {
            conversation: ConversationId::lasting(ROOM),
            members: &[],
            version: Timestamp(0),
        });
        assert_eq!(all.watchers_in(ConversationId::lasting(ROOM), Timestamp(0)), [SessionId(1)]);
        for conversation in 0..WATCHED_MAX as u64 + 10 {
            watch(&mut all, 2, 100 + conversation, None);
        }
        assert!(!watch(&mut all, 2, 99, None));
        all.forget_session(SessionId(2));
        all.forget_session(SessionId(1));
        assert!(all.is_empty());
    }
}
