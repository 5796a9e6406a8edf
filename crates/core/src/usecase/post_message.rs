//! A message is posted: the path that everything else serves.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use crate::app::{App, ServerMessages};
use crate::attribute::Attributes;
use crate::conversation::{Conversation, Kind};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::{AppId, ClientId, ClientToken, ConversationId, Seq};
use crate::message::{ImportMessage, Keep, Mentions, Message, Origin, PostMessage, Posted, Target};
use crate::port::store::{Appended, Destination, NewMessage};
use crate::router::Will;
use crate::session::Caller;

use super::{Posthouse, change_members, delivery};

impl Posthouse {
    /// Posts a message. A stored one is on disk when this returns; transient ones and wills are
    /// accepted only. The other members' sessions are told in the order of commits.
    pub async fn post_message(&self, caller: &Caller, post: PostMessage) -> Result<Posted> {
        let size = post.body.payload.bytes.len() + post.mentions.size() + post.extra_bytes;
        let max = caller.app.settings.message_bytes_max as usize;
        if size > max {
            return Err(Error::MessageTooLarge { size, max });
        }
        match post.keep {
            Keep::Stored | Keep::Queued => self.post_stored(caller, post).await,
            Keep::Transient => self.post_transient(caller, post).await,
            Keep::Will => self.leave_will(caller, post).await,
        }
    }

    async fn post_stored(&self, caller: &Caller, post: PostMessage) -> Result<Posted> {
        let shown = post.keep == Keep::Stored;
        let by_server = post.origin == Origin::Server;
        let server_counts = caller.app.settings.rest_messages_in_conversation_list == ServerMessages::Write;
        let new = NewMessage {
            to: self.destination(post.to),
            sender: caller.client.clone(),
            body: post.body,
            mentions: post.mentions,
            token: post.token,
            receipt: post.receipt,
            origin: post.origin,
            shown,
            counted: shown && (!by_server || server_counts),
            imported_at: None,
        };
        let (router, app, session) = (self.router.clone(), caller.app.id.clone(), caller.session);
        let appended = self
            .store
            .append_message(
                &caller.app.id,
                new,
                Box::new(move |appended: &Appended| {
                    if let Some(conversation) = &appended.created {
                        super::create_conversation::tell_of_new(&router, &app, conversation);
                    }
                    let event = Event::MessagePosted {
                        message: appended.message.clone(),
                        kind: appended.kind,
                        pair: pair(appended.kind, &appended.members),
                        transient: false,
                    };
                    router.deliver(&delivery(
                        &app,
                        appended.message.conversation,
                        &appended.members,
                        appended.kind.is_room(),
                        Some(session),
                        event,
                    ));
                }),
            )
            .await?;
        Ok(posted(&appended.message))
    }

    /// Puts into history what was said elsewhere and before. Nobody is told, nothing becomes unread.
    pub async fn import_message(&self, app: &App, import: ImportMessage) -> Result<Posted> {
        let (size, max) = (import.body.payload.bytes.len(), app.settings.message_bytes_max as usize);
        if size > max {
            return Err(Error::MessageTooLarge { size, max });
        }
        let new = NewMessage {
            to: self.destination(import.to),
            sender: import.sender,
            body: import.body,
            mentions: Mentions::default(),
            token: None,
            receipt: false,
            origin: Origin::Import,
            shown: true,
            counted: false,
            imported_at: Some(import.at),
        };
        let appended = self.store.append_message(&app.id, new, Box::new(|_| ())).await?;
        Ok(posted(&appended.message))
    }

    fn destination(&self, to: Target) -> Destination {
        match to {
            Target::Conversation(id) => Destination::Conversation(id),
            Target::Client(with) => {
                Destination::Direct { with, fresh: ConversationId::lasting(self.chance.bits()) }
            }
        }
    }

    async fn post_transient(&self, caller: &Caller, post: PostMessage) -> Result<Posted> {
        let conversation = self.addressed(caller, &post).await?;
        let target = post.to.clone();
        let key =
            post.token.clone().map(|token| (caller.app.id.clone(), target, caller.client.clone(), token));
        if let Some(posted) = key.as_ref().and_then(|key| self.recent().find(key)) {
            return Ok(posted);
        }
        let message = self.unstored(caller, &conversation, post);
        let posted = posted(&message);
        if let Some(key) = key {
            self.recent().remember(key, posted);
        }
        let pair = pair(conversation.kind, &conversation.members);
        let event = Event::MessagePosted { message, kind: conversation.kind, pair, transient: true };
        self.router.deliver(&delivery(
            &caller.app.id,
            conversation.id,
            &conversation.members,
            conversation.kind.is_room(),
            Some(caller.session),
            event,
        ));
        Ok(posted)
    }

    async fn leave_will(&self, caller: &Caller, post: PostMessage) -> Result<Posted> {
        let conversation = self.addressed(caller, &post).await?;
        let message = self.unstored(caller, &conversation, post);
        let posted = posted(&message);
        self.router.set_will(caller, Will { message })?;
        Ok(posted)
    }

    /// The conversation, if the caller may speak in it.
    async fn addressed(&self, caller: &Caller, post: &PostMessage) -> Result<Conversation> {
        let app = &caller.app.id;
        let conversation = match &post.to {
            Target::Conversation(id) => self.store.conversation(app, *id).await?,
            Target::Client(peer) => match self.store.find_direct(app, &caller.client, peer).await? {
                Some(id) => self.store.conversation(app, id).await?,
                None => self.unmade_direct(&caller.client, peer),
            },
        };
        if post.origin == Origin::Client {
            conversation.kind.may_post(conversation.has_member(&caller.client))?;
            if let Some(peer) = conversation.address_for(&caller.client).peer
                && self.store.list_blocks(app, &peer).await?.contains(&caller.client)
            {
                return Err(Error::Blocked);
            }
        }
        Ok(conversation)
    }

    /// The direct conversation of two who never talked: what is not kept needs none in the store.
    fn unmade_direct(&self, one: &ClientId, other: &ClientId) -> Conversation {
        let now = self.clock.now();
        Conversation {
            id: ConversationId::lasting(self.chance.bits()),
            kind: Kind::Direct,
            creator: None,
            attributes: Attributes::default(),
            unique: None,
            created_at: now,
            updated_at: now,
            last_message_at: None,
            members: change_members::each_once(vec![one.clone(), other.clone()]),
            joined: Vec::new(),
            muted_by: Vec::new(),
            owner: None,
            admins: Vec::new(),
        }
    }

    fn unstored(&self, caller: &Caller, conversation: &Conversation, post: PostMessage) -> Message {
        let now = self.clock.now();
        let timestamp = conversation.last_message_at.map_or(now, |last| now.max(last));
        Message {
            id: self.ids.next(now),
            conversation: conversation.id,
            seq: Seq(0),
            timestamp,
            sender: caller.client.clone(),
            body: post.body,
            mentions: post.mentions,
            receipt: false,
            patched_at: None,
            delivered_at: None,
            read_at: None,
            origin: post.origin,
            edits: 0,
            patched_by: None,
        }
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, RecentTokens> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn posted(message: &Message) -> Posted {
    Posted {
        id: message.id,
        timestamp: message.timestamp,
        conversation: message.conversation,
        seq: message.seq,
    }
}

/// The members of a direct conversation, whose name is that of the other.
pub(super) fn pair(kind: Kind, members: &[ClientId]) -> Option<Arc<[ClientId]>> {
    (kind == Kind::Direct).then(|| members.into())
}

type TokenKey = (AppId, Target, ClientId, ClientToken);

/// Answers to transient messages whose retry would otherwise be pushed twice. Stored messages are
/// recognised by the store, for ever.
#[derive(Default)]
pub(super) struct RecentTokens {
    order: VecDeque<TokenKey>,
    posted: HashMap<TokenKey, Posted>,
}

impl RecentTokens {
    /// SDKs retry within seconds; this many transient messages take longer than that.
    const MAX: usize = 10_000;

    fn find(&self, key: &TokenKey) -> Option<Posted> {
        self.posted.get(key).copied()
    }

    fn remember(&mut self, key: TokenKey, posted: Posted) {
        if self.posted.insert(key.clone(), posted).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > Self::MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.posted.remove(&oldest);
            }
        }
    }
}
