//! A client starts a conversation.

use std::sync::Arc;

use crate::attribute;
use crate::conversation::{Conversation, CreateConversation, Created, Kind, KindWish, MemberSet};
use crate::error::{Error, Result};
use crate::event::{Event, MemberEvent};
use crate::expiry::Bucket;
use crate::id::{AppId, ClientId, ConversationId};
use crate::port::store::{NewConversation, attributes_size};
use crate::router::Router;
use crate::session::Caller;

use super::{Posthouse, delivery};

impl Posthouse {
    /// Makes a conversation, or finds the one that exists for these members. All members of a new
    /// one hear of it at once, the caller's own sessions included; nobody hears of an existing one.
    /// The same members of a temporary conversation always get the same one while it lives.
    pub async fn create_conversation(&self, caller: &Caller, create: CreateConversation) -> Result<Created> {
        let settings = &caller.app.settings;
        attribute::ensure_shallow(&create.attributes)?;
        let (size, max) = (attributes_size(&create.attributes), settings.attributes_bytes_max as usize);
        if size > max {
            return Err(Error::AttributesTooLarge { size, max });
        }
        let members = match create.wish {
            KindWish::Room => Vec::new(),
            KindWish::Lasting | KindWish::Temporary { .. } => with_creator(&caller.client, create.members),
        };
        let max = match create.wish {
            KindWish::Temporary { .. } => settings.temporary_members_max as usize,
            KindWish::Lasting | KindWish::Room => settings.members_max as usize,
        };
        if members.len() > max {
            return Err(Error::ConversationFull { max });
        }

        let now = self.clock.now();
        let (id, kind) = match create.wish {
            KindWish::Temporary { ttl_seconds } => {
                let until = now.plus_ms(KindWish::granted_ttl_seconds(ttl_seconds, settings) * 1_000);
                let bucket = Bucket::for_expiry(now, until);
                (ConversationId::temporary(bucket, self.chance.bits()), Kind::Temporary { until })
            }
            KindWish::Room => (ConversationId::lasting(self.chance.bits()), Kind::Room),
            KindWish::Lasting if create.unique && members.len() == 2 => {
                (ConversationId::lasting(self.chance.bits()), Kind::Direct)
            }
            KindWish::Lasting => (ConversationId::lasting(self.chance.bits()), Kind::Group),
        };
        let unique = match kind {
            Kind::Temporary { .. } => true,
            Kind::Room => false,
            Kind::Direct | Kind::Group => create.unique,
        };
        let conversation = Conversation {
            id,
            kind,
            creator: Some(caller.client.clone()),
            attributes: create.attributes,
            unique: unique.then(|| MemberSet::of(&members)),
            created_at: now,
            updated_at: now,
            last_message_at: None,
            members,
            joined: Vec::new(),
            muted_by: Vec::new(),
            owner: Some(caller.client.clone()),
            admins: Vec::new(),
        };
        let (router, app) = (self.router.clone(), caller.app.id.clone());
        let created = self
            .store
            .create_conversation(
                &caller.app.id,
                NewConversation { id, conversation },
                Box::new(move |created: &Created| {
                    if !created.existing {
                        tell_of_new(&router, &app, &created.conversation);
                    }
                }),
            )
            .await?;
        if created.conversation.kind.is_room() {
            self.router.enter_room(caller, created.conversation.id)?;
        }
        Ok(created)
    }
}

/// Tells the members of a new conversation that they are in it, and who is.
pub(super) fn tell_of_new(router: &Router, app: &AppId, conversation: &Conversation) {
    let Some(by) = conversation.creator.clone().filter(|_| !conversation.kind.is_room()) else { return };
    let news = MemberEvent {
        conversation: conversation.id,
        kind: conversation.kind,
        ttl_seconds: conversation.ttl_seconds(),
        by,
        members: Arc::from(conversation.members.as_slice()),
        at: conversation.updated_at,
    };
    for event in [Event::Joined(news.clone()), Event::MembersJoined(news)] {
        router.deliver(&delivery(app, conversation.id, &conversation.members, false, None, event));
    }
}

/// Each member once, the creator among them.
fn with_creator(creator: &ClientId, members: Vec<ClientId>) -> Vec<ClientId> {
    let mut all = super::change_members::each_once(members);
    if !all.contains(creator) {
        all.insert(0, creator.clone());
    }
    all
}
