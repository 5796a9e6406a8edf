//! Conversations: kinds, members, and the rules that depend on nothing else.
//!
//! Rules are pure functions over what a transaction has read. Engines call them inside the
//! transaction, so that no answer is given on a state that is already past.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::app::{DeleteScope, Settings};
use crate::attribute::Attributes;
use crate::error::{Error, Result};
use crate::id::{ClientId, ConversationId, DeviceId};
use crate::message::Message;
use crate::time::Timestamp;

/// What sort of conversation it is. Only the methods of this type match on it for a rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The unique conversation of a pair, while its members are exactly those two.
    Direct,
    /// Members who come and go.
    Group,
    /// A chat room: whoever is online in it; members are not stored.
    Room,
    /// A few clients for a short time; gone when that ends.
    Temporary {
        /// The first moment at which it no longer exists.
        until: Timestamp,
    },
}

impl Kind {
    /// `Err` once the conversation's time is over.
    pub fn ensure_alive(self, now: Timestamp) -> Result<()> {
        match self {
            Self::Temporary { until } if now >= until => Err(Error::TemporaryOver),
            Self::Temporary { .. } | Self::Direct | Self::Group | Self::Room => Ok(()),
        }
    }

    /// Whether a message may be posted by someone who is (not) a member. Anyone may speak in a room.
    pub fn may_post(self, member: bool) -> Result<()> {
        match self {
            Self::Room => Ok(()),
            Self::Direct | Self::Group | Self::Temporary { .. } => self.ensure_member(member),
        }
    }

    /// `Err` for strangers. A stranger can't tell a temporary conversation from one that never was.
    pub fn ensure_member(self, member: bool) -> Result<()> {
        match self {
            _ if member => Ok(()),
            Self::Temporary { .. } => Err(Error::TemporaryOver),
            Self::Direct | Self::Group | Self::Room => Err(Error::NotMember),
        }
    }

    /// Whether members are stored: not in a room, where being online in it is all.
    #[must_use]
    pub fn stores_members(self) -> bool {
        !matches!(self, Self::Room)
    }

    /// Whether it belongs to a room's live audience.
    #[must_use]
    pub fn is_room(self) -> bool {
        matches!(self, Self::Room)
    }

    /// Whether its life has an end.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Temporary { .. })
    }

    /// Whether messages count as unread for the members.
    #[must_use]
    pub fn counts_unread(self) -> bool {
        !matches!(self, Self::Room)
    }

    /// A temporary conversation is made once and stays as it is.
    pub fn ensure_changeable(self) -> Result<()> {
        match self {
            Self::Temporary { .. } => Err(Error::TemporaryIsFixed),
            Self::Direct | Self::Group | Self::Room => Ok(()),
        }
    }

    /// What the conversation is after its members changed: a pair that is no longer one becomes a group.
    #[must_use]
    pub fn after_member_change(self) -> Self {
        match self {
            Self::Direct => Self::Group,
            Self::Group | Self::Room | Self::Temporary { .. } => self,
        }
    }
}

/// What a member may do to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Speak and read.
    Member,
    /// Also look after members and messages.
    Admin,
    /// Everything. A conversation has one owner.
    Owner,
}

/// By which right somebody asks for a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authority {
    /// As any member.
    Member,
    /// As its owner or an administrator; what concerns only oneself is every member's right.
    Moderator,
    /// As its owner.
    Owner,
    /// As the customer's back end, which is in no conversation and may do everything.
    Server,
}

impl Authority {
    /// `Err` unless who has `role` (`None`: is no member of this `kind`) has this right.
    pub fn ensure(self, kind: Kind, role: Option<Role>) -> Result<()> {
        match (self, role) {
            (Self::Server, _) => Ok(()),
            (Self::Member, role) => kind.ensure_member(role.is_some()),
            (Self::Moderator | Self::Owner, None) => kind.ensure_member(false),
            (Self::Moderator, Some(role)) if role >= Role::Admin => Ok(()),
            (Self::Owner, Some(Role::Owner)) => Ok(()),
            (Self::Moderator | Self::Owner, Some(_)) => Err(Error::NotAllowed),
        }
    }
}

/// A conversation by the name under which one client knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The conversation.
    pub id: ConversationId,
    /// Its kind.
    pub kind: Kind,
    /// The other one of a direct conversation; the client itself where it talks to itself.
    pub peer: Option<ClientId>,
}

/// A conversation as stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its kind.
    pub kind: Kind,
    /// Who made it.
    pub creator: Option<ClientId>,
    /// Name and custom fields.
    pub attributes: Attributes,
    /// The set of members it was made unique for.
    pub unique: Option<MemberSet>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When members or attributes last changed; strictly grows with each change.
    pub updated_at: Timestamp,
    /// When its newest message was accepted.
    pub last_message_at: Option<Timestamp>,
    /// Members in the order in which they came. Empty in rooms.
    pub members: Vec<ClientId>,
    /// When each of them came, in the same order; empty where nobody asked the store.
    pub joined: Vec<Timestamp>,
    /// Members who want no push notifications from it.
    pub muted_by: Vec<ClientId>,
    /// Whom it belongs to: its creator, until it is handed on. Not necessarily a member any more.
    pub owner: Option<ClientId>,
    /// Members who look after it beside the owner.
    pub admins: Vec<ClientId>,
}

impl Conversation {
    /// Whether `client` is a stored member.
    #[must_use]
    pub fn has_member(&self, client: &ClientId) -> bool {
        self.members.contains(client)
    }

    /// What `client` may do in it; `None` for who is no member.
    #[must_use]
    pub fn role(&self, client: &ClientId) -> Option<Role> {
        if !self.has_member(client) {
            None
        } else if self.owner.as_ref() == Some(client) {
            Some(Role::Owner)
        } else if self.admins.contains(client) {
            Some(Role::Admin)
        } else {
            Some(Role::Member)
        }
    }

    /// How `client` calls it.
    #[must_use]
    pub fn address_for(&self, client: &ClientId) -> Address {
        let peer = match self.kind {
            Kind::Direct => {
                self.members.iter().find(|member| *member != client).or_else(|| self.members.first())
            }
            Kind::Group | Kind::Room | Kind::Temporary { .. } => None,
        };
        Address { id: self.id, kind: self.kind, peer: peer.cloned() }
    }

    /// The life a temporary conversation was made with, in seconds.
    #[must_use]
    pub fn ttl_seconds(&self) -> Option<i64> {
        match self.kind {
            Kind::Temporary { until } => Some(until.ms_since(self.created_at) / 1_000),
            Kind::Direct | Kind::Group | Kind::Room => None,
        }
    }
}

/// The time of a change that comes after one at `previous`: SDKs ignore changes that are not newer.
#[must_use]
pub fn change_time(previous: Timestamp, now: Timestamp) -> Timestamp {
    now.max(previous.plus_ms(1))
}

/// Identifies a set of clients: 128 bits of SHA-256 over the sorted, length-prefixed ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MemberSet(pub [u8; 16]);

impl MemberSet {
    /// The set of `members`, whatever their order and however often one is named.
    #[must_use]
    pub fn of(members: &[ClientId]) -> Self {
        let mut sorted: Vec<&str> = members.iter().map(ClientId::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut hash = Sha256::new();
        for id in sorted {
            hash.update((id.len() as u64).to_be_bytes());
            hash.update(id.as_bytes());
        }
        let mut set = [0; 16];
        set.copy_from_slice(&hash.finalize()[..16]);
        Self(set)
    }

    /// 32 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(32), |mut hex, byte| {
            if write!(hex, "{byte:02x}").is_err() {
                unreachable!("writing to a string can't fail");
            }
            hex
        })
    }
}

/// The wish to make a conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct CreateConversation {
    /// Who is to be in it; the creator is added. Ignored for rooms.
    pub members: Vec<ClientId>,
    /// Name and custom fields.
    pub attributes: Attributes,
    /// Which kind.
    pub wish: KindWish,
    /// Whether to return the living conversation of exactly these members, if there is one.
    pub unique: bool,
}

/// The kind somebody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KindWish {
    /// Lasting, with stored members.
    Lasting,
    /// A chat room.
    Room,
    /// Temporary, for so many seconds; 0 and less mean the default.
    Temporary {
        /// Wished life in seconds.
        ttl_seconds: Option<i64>,
    },
}

impl KindWish {
    /// The life granted to a temporary conversation, in seconds.
    #[must_use]
    pub fn granted_ttl_seconds(ttl_seconds: Option<i64>, settings: &Settings) -> i64 {
        let longest = i64::from(settings.temporary_ttl_max_seconds);
        match ttl_seconds {
            Some(wish) if wish > 0 => wish.min(longest),
            Some(_) | None => i64::from(settings.temporary_ttl_default_seconds).min(longest),
        }
    }
}

/// The outcome of making a conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct Created {
    /// The new one, or the one that existed.
    pub conversation: Conversation,
    /// Whether it existed before.
    pub existing: bool,
}

/// The outcome of adding or removing members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MembersChanged {
    /// The kind after the change.
    pub kind: Kind,
    /// Those of the named clients who are now in (or out), whether this call did it or not.
    pub settled: Vec<ClientId>,
    /// Those whom this call added (or removed).
    pub changed: Vec<ClientId>,
    /// The members after the change.
    pub members: Vec<ClientId>,
    /// The conversation's `updated_at` after the change.
    pub at: Timestamp,
}

/// The outcome of changing attributes.
#[derive(Clone, PartialEq, Debug)]
pub struct AttributesChanged {
    /// The kind.
    pub kind: Kind,
    /// New values of what changed, nested; deleted ones are absent.
    pub modified: Attributes,
    /// The members.
    pub members: Vec<ClientId>,
    /// The conversation's `updated_at` after the change.
    pub at: Timestamp,
}

/// A conversation as one client may see it.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// The conversation.
    pub conversation: Conversation,
    /// Its newest message, if asked for and if the client may read it.
    pub last_message: Option<Message>,
}

/// The wish to hand a conversation on or to name who looks after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoleChange {
    /// It belongs to this member from now on; who had it stays a member.
    Owner(ClientId),
    /// This member is an administrator from now on.
    Admin(ClientId),
    /// This administrator is an ordinary member from now on.
    NoAdmin(ClientId),
}

impl RoleChange {
    /// Whom it concerns.
    #[must_use]
    pub fn client(&self) -> &ClientId {
        match self {
            Self::Owner(client) | Self::Admin(client) | Self::NoAdmin(client) => client,
        }
    }
}

/// The outcome of changing roles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleChanged {
    /// Whose it was before.
    pub owner_before: Option<ClientId>,
    /// Whether anything changed.
    pub changed: bool,
    /// Whom a note was left: the client concerned, and the owner before.
    pub told: Vec<ClientId>,
}

/// The outcome of ending a conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct Ended {
    /// The conversation as it was.
    pub conversation: Conversation,
}

/// The wish to delete a conversation from lists, and perhaps what was said in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteConversation {
    /// Which.
    pub conversation: ConversationId,
    /// Whose wish it is; must be a member.
    pub by: ClientId,
    /// The device on which it was uttered, which need not be told.
    pub device: Option<DeviceId>,
    /// Whether everything said in it goes too.
    pub with_messages: bool,
    /// For whom.
    pub scope: DeleteScope,
    /// Whether ordinary members of a group only delete it for themselves, whatever `scope` says.
    pub group_needs_moderator: bool,
}

/// The outcome of deleting a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConversationDeleted {
    /// For whom it was deleted: all members, or who asked alone.
    pub told: Vec<ClientId>,
    /// Whether for everybody.
    pub for_everyone: bool,
}

/// A page of groups.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupPage {
    /// The groups, with their members, newest first.
    pub groups: Vec<Conversation>,
    /// How many there are in all.
    pub total: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn clients(ids: &[&str]) -> Vec<ClientId> {
        ids.iter().map(|id| ClientId::parse(id).unwrap()).collect()
    }

    #[test]
    fn a_member_set_depends_on_who_only() {
        let set = MemberSet::of(&clients(&["tom", "jerry"]));
        assert_eq!(set, MemberSet::of(&clients(&["jerry", "tom", "tom"])));
        assert_ne!(set, MemberSet::of(&clients(&["tomj", "erry"])));
        assert_eq!(set.to_hex().len(), 32);
    }

    #[test]
    fn a_temporary_conversation_ends_on_the_millisecond() {
        let kind = Kind::Temporary { until: Timestamp(1_000) };
        assert_eq!(kind.ensure_alive(Timestamp(999)), Ok(()));
        assert_eq!(kind.ensure_alive(Timestamp(1_000)), Err(Error::TemporaryOver));
    }

    #[test]
    fn the_granted_life_has_a_default_and_a_limit() {
        let settings = Settings::default();
        for absent in [None, Some(0), Some(-5), Some(i64::MIN)] {
            assert_eq!(KindWish::granted_ttl_seconds(absent, &settings), 86_400);
        }
        assert_eq!(KindWish::granted_ttl_seconds(Some(3_600), &settings), 3_600);
        assert_eq!(KindWish::granted_ttl_seconds(Some(i64::MAX), &settings), 2_592_000);
    }

    #[test]
    fn rights_follow_roles() {
        let may = |authority: Authority, role| authority.ensure(Kind::Group, role).is_ok();
        assert!(may(Authority::Server, None));
        assert!(may(Authority::Member, Some(Role::Member)) && !may(Authority::Member, None));
        assert!(may(Authority::Moderator, Some(Role::Admin)) && !may(Authority::Owner, Some(Role::Admin)));
        assert_eq!(Authority::Moderator.ensure(Kind::Group, Some(Role::Member)), Err(Error::NotAllowed));
        assert_eq!(Authority::Owner.ensure(Kind::Group, None), Err(Error::NotMember));
    }

    #[test]
    fn change_times_strictly_grow() {
        assert_eq!(change_time(Timestamp(5), Timestamp(9)), Timestamp(9));
        assert_eq!(change_time(Timestamp(9), Timestamp(9)), Timestamp(10));
        assert_eq!(change_time(Timestamp(9), Timestamp(2)), Timestamp(10));
    }
}
