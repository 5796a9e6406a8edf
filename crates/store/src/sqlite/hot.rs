//! What the writer remembers of conversations that are spoken in: their place and their members.
//!
//! It is always what the rows and the tail say, those of the commit in the making included: a message
//! moves it on, every other change makes the writer forget it, and so does a commit that fails.

use std::collections::HashMap;
use std::sync::Arc;

use posthouse_core::id::{ClientId, ConversationId};

use super::rows::Place;
use super::tail::Entry;

/// Conversations remembered at once; some megabytes.
const HOTS_MAX: usize = 16_384;

/// And members of them all, so that large groups don't make it large.
const MEMBERS_MAX: usize = 500_000;

/// A conversation that is spoken in.
#[derive(Clone, Debug)]
pub(super) struct Hot {
    pub(super) app: i64,
    pub(super) place: Place,
    /// In the order in which they came.
    pub(super) members: Arc<[ClientId]>,
}

/// All that is remembered. When it is full it is forgotten whole: what is spoken in comes back at once.
#[derive(Debug, Default)]
pub(super) struct Hots {
    hots: HashMap<ConversationId, Hot>,
    members: usize,
}

impl Hots {
    pub(super) fn get(&self, app: i64, id: ConversationId) -> Option<Hot> {
        self.hots.get(&id).filter(|hot| hot.app == app).cloned()
    }

    pub(super) fn insert(&mut self, hot: Hot) {
        let members = hot.members.len();
        if self.hots.len() >= HOTS_MAX || self.members + members > MEMBERS_MAX {
            self.clear();
        }
        self.remove(hot.place.id);
        self.members += members;
        self.hots.insert(hot.place.id, hot);
    }

    /// Moves on past a message.
    pub(super) fn said(&mut self, entry: &Entry) -> Option<Hot> {
        let hot = self.hots.get_mut(&entry.message.conversation)?;
        hot.place.after(entry);
        Some(hot.clone())
    }

    pub(super) fn remove(&mut self, id: ConversationId) {
        if let Some(hot) = self.hots.remove(&id) {
            self.members -= hot.members.len();
        }
    }

    pub(super) fn clear(&mut self) {
        self.hots.clear();
        self.members = 0;
    }
}
