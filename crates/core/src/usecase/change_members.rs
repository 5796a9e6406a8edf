//! Members come and go.

use std::collections::HashSet;
use std::sync::Arc;

use crate::conversation::{Authority, MembersChanged};
use crate::error::{Error, Result};
use crate::event::{Event, MemberEvent};
use crate::id::{ClientId, ConversationId};
use crate::port::store::{AfterCommit, MemberChange};
use crate::presence::Roster;
use crate::session::Caller;

use super::{Posthouse, delivery};

impl Posthouse {
    /// Adds members; adding oneself is joining. New members hear that they have joined, everybody
    /// (new members and all sessions of the caller included) hears who has come.
    pub async fn add_members(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        members: Vec<ClientId>,
    ) -> Result<MembersChanged> {
        let found = self.store.conversation(&caller.app.id, conversation).await?;
        if found.kind.is_room() {
            return self.join_room(caller, &found, &members);
        }
        self.add_members_by(caller, conversation, members, Authority::Member, None).await
    }

    /// Adds members by a right that the gateway has decided on, up to a limit of this conversation's own.
    /// Not for rooms.
    pub async fn add_members_by(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        members: Vec<ClientId>,
        authority: Authority,
        members_max: Option<usize>,
    ) -> Result<MembersChanged> {
        let members = each_once(members);
        let change =
            MemberChange { conversation, by: caller.client.clone(), members, authority, members_max };
        let tell = self.tell_of_members(caller, conversation, Event::Joined, Event::MembersJoined, true);
        self.store.add_members(&caller.app.id, change, &caller.app.settings, tell).await
    }

    /// Removes members; removing oneself is leaving. Those removed hear that they are out, on all
    /// their sessions; those who stay hear who has gone.
    pub async fn remove_members(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        members: Vec<ClientId>,
    ) -> Result<MembersChanged> {
        let found = self.store.conversation(&caller.app.id, conversation).await?;
        if found.kind.is_room() {
            return self.quit_room(caller, &found, &members);
        }
        self.remove_members_by(caller, conversation, members, Authority::Member).await
    }

    /// Removes members by a right that the gateway has decided on. Not for rooms.
    pub async fn remove_members_by(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        members: Vec<ClientId>,
        authority: Authority,
    ) -> Result<MembersChanged> {
        let members = each_once(members);
        let change =
            MemberChange { conversation, by: caller.client.clone(), members, authority, members_max: None };
        let tell = self.tell_of_members(caller, conversation, Event::Left, Event::MembersLeft, false);
        self.store.remove_members(&caller.app.id, change, tell).await
    }

    /// Tells those who came or went with `own`, then the members with `others`, and who watches them.
    fn tell_of_members(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        own: fn(MemberEvent) -> Event,
        others: fn(MemberEvent) -> Event,
        came: bool,
    ) -> AfterCommit<MembersChanged> {
        let (router, app, by, now) =
            (self.router.clone(), caller.app.id.clone(), caller.client.clone(), self.clock.now());
        Box::new(move |changed| {
            let news = member_event(conversation, by, changed);
            let deliver = |to: &[ClientId], event| {
                router.deliver(&delivery(&app, conversation, to, false, None, event));
            };
            deliver(&changed.changed, own(news.clone()));
            deliver(&changed.members, others(news));
            let joined = if came { changed.changed.as_slice() } else { &[] };
            router.members_changed(&app, roster(conversation, changed), joined, now);
        })
    }

    /// How many members it has; how many are online in it, for a room.
    pub async fn count_members(&self, caller: &Caller, conversation: ConversationId) -> Result<usize> {
        let found = self.store.conversation(&caller.app.id, conversation).await?;
        if found.kind.is_room() {
            return Ok(self.router.room_clients(conversation, usize::MAX).len());
        }
        if found.kind.is_temporary() {
            found.kind.ensure_member(found.has_member(&caller.client))?;
        }
        Ok(found.members.len())
    }

    /// Whether the caller is in it. One that doesn't exist has no members.
    pub async fn is_member(&self, caller: &Caller, conversation: ConversationId) -> Result<bool> {
        match self.store.conversation(&caller.app.id, conversation).await {
            Ok(found) if found.kind.is_room() => Ok(self.router.room_of(caller) == Some(conversation)),
            Ok(found) => Ok(found.has_member(&caller.client)),
            Err(Error::ConversationNotFound | Error::TemporaryOver) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The ids without repetitions, in their order.
pub(super) fn each_once(mut clients: Vec<ClientId>) -> Vec<ClientId> {
    let mut seen = HashSet::with_capacity(clients.len());
    clients.retain(|client| seen.insert(client.clone()));
    clients
}

fn member_event(conversation: ConversationId, by: ClientId, changed: &MembersChanged) -> MemberEvent {
    MemberEvent {
        conversation,
        kind: changed.kind,
        ttl_seconds: None,
        by,
        members: Arc::from(changed.changed.as_slice()),
        at: changed.at,
    }
}

fn roster(conversation: ConversationId, changed: &MembersChanged) -> Roster<'_> {
    Roster { conversation, members: &changed.members, version: changed.at }
}
