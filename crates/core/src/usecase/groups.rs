//! Groups: who owns one, who looks after it, and its end.

use std::sync::Arc;

use crate::app::App;
use crate::conversation::{Authority, Conversation, Ended, GroupPage, Kind, RoleChange, RoleChanged};
use crate::error::{Error, Result};
use crate::event::{Event, MemberEvent};
use crate::id::{ClientId, ConversationId};
use crate::session::Caller;

use super::{Posthouse, delivery, to_clients};

impl Posthouse {
    /// A group with its members, whoever asks; gateways decide who may see what. Everything that is
    /// no group is `ConversationNotFound`.
    pub async fn group(&self, app: &App, id: ConversationId) -> Result<Conversation> {
        if id.is_temporary() {
            return Err(Error::ConversationNotFound);
        }
        let found = self.store.conversation(&app.id, id).await?;
        if found.kind == Kind::Group { Ok(found) } else { Err(Error::ConversationNotFound) }
    }

    /// Groups, newest first: those that `member` is in, or all of the app.
    pub async fn list_groups(
        &self,
        app: &App,
        member: Option<&ClientId>,
        skip: usize,
        limit: usize,
    ) -> Result<GroupPage> {
        self.store.list_groups(&app.id, member, skip, limit).await
    }

    /// Hands a group on, or names who looks after it. Those concerned hear of it.
    pub async fn change_role(
        &self,
        caller: &Caller,
        group: ConversationId,
        change: RoleChange,
        authority: Authority,
    ) -> Result<RoleChanged> {
        let (router, app) = (self.router.clone(), caller.app.id.clone());
        self.store
            .change_role(
                &caller.app.id,
                group,
                &caller.client,
                authority,
                change,
                Box::new(move |changed: &RoleChanged| {
                    router.deliver(&to_clients(&app, &changed.told, Event::Noted));
                }),
            )
            .await
    }

    /// Ends a group for everybody; its members hear that they are out.
    pub async fn end_group(
        &self,
        caller: &Caller,
        group: ConversationId,
        authority: Authority,
    ) -> Result<Ended> {
        let (router, app, by) = (self.router.clone(), caller.app.id.clone(), caller.client.clone());
        self.store
            .end_conversation(
                &caller.app.id,
                group,
                &caller.client,
                authority,
                Box::new(move |ended: &Ended| {
                    let group = &ended.conversation;
                    let out = Event::Left(MemberEvent {
                        conversation: group.id,
                        kind: group.kind,
                        ttl_seconds: None,
                        by,
                        members: Arc::from(group.members.as_slice()),
                        at: group.updated_at,
                    });
                    router.deliver(&delivery(&app, group.id, &group.members, false, None, out));
                }),
            )
            .await
    }
}
