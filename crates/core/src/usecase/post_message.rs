//! A message is posted: the path that everything else serves.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::{ClientId, ClientToken, ConversationId, Seq};
use crate::message::{Keep, Message, PostMessage, Posted};
use crate::port::store::NewMessage;
use crate::router::Will;
use crate::session::Caller;

use super::{Posthouse, delivery};

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
            Keep::Stored => self.post_stored(caller, post).await,
            Keep::Transient => self.post_transient(caller, post).await,
            Keep::Will => self.leave_will(caller, post).await,
        }
    }

    async fn post_stored(&self, caller: &Caller, post: PostMessage) -> Result<Posted> {
        let new = NewMessage {
            conversation: post.to,
            sender: caller.client.clone(),
            body: post.body,
            mentions: post.mentions,
            token: post.token,
            receipt: post.receipt,
        };
        let (router, app, session) = (self.router.clone(), caller.app.id.clone(), caller.session);
        let appended = self
            .store
            .append_message(
                &caller.app.id,
                new,
                Box::new(move |appended| {
                    let event = Event::MessagePosted {
                        message: appended.message.clone(),
                        kind: appended.kind,
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
        Ok(Posted { id: appended.message.id, timestamp: appended.message.timestamp })
    }

    async fn post_transient(&self, caller: &Caller, post: PostMessage) -> Result<Posted> {
        let conversation = self.addressed(caller, post.to).await?;
        let key = post.token.clone().map(|token| (post.to, caller.client.clone(), token));
        if let Some(posted) = key.as_ref().and_then(|key| self.recent().find(key)) {
            return Ok(posted);
        }
        let message = self.unstored(caller, &conversation, post);
        let posted = Posted { id: message.id, timestamp: message.timestamp };
        if let Some(key) = key {
            self.recent().remember(key, posted);
        }
        let event = Event::MessagePosted { message, kind: conversation.kind, transient: true };
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
        let conversation = self.addressed(caller, post.to).await?;
        let message = self.unstored(caller, &conversation, post);
        let posted = Posted { id: message.id, timestamp: message.timestamp };
        self.router.set_will(caller, Will { message })?;
        Ok(posted)
    }

    /// The conversation, if the caller may speak in it.
    async fn addressed(&self, caller: &Caller, to: ConversationId) -> Result<Conversation> {
        let conversation = self.store.conversation(&caller.app.id, to).await?;
        conversation.kind.may_post(conversation.has_member(&caller.client))?;
        Ok(conversation)
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
        }
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, RecentTokens> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type TokenKey = (ConversationId, ClientId, ClientToken);

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
