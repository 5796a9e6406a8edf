//! Whom a client knows, and whom it doesn't want to hear.

use crate::account::{Contact, ContactChange};
use crate::app::App;
use crate::error::Result;
use crate::event::Event;
use crate::id::ClientId;

use super::{Posthouse, to_clients};

impl Posthouse {
    /// The client's contacts by name, after one of them.
    pub async fn list_contacts(
        &self,
        app: &App,
        owner: &ClientId,
        after: Option<&ClientId>,
        limit: usize,
    ) -> Result<Vec<Contact>> {
        self.store.list_contacts(&app.id, owner, after, limit).await
    }

    /// Changes who knows whom; those concerned hear of it. See the store's port for what each change does.
    pub async fn change_contact(
        &self,
        app: &App,
        owner: &ClientId,
        peer: &ClientId,
        change: ContactChange,
    ) -> Result<()> {
        let (router, id) = (self.router.clone(), app.id.clone());
        self.store
            .change_contact(
                &app.id,
                owner,
                peer,
                change,
                Box::new(move |told: &Vec<ClientId>| {
                    router.deliver(&to_clients(&id, told, Event::Noted));
                }),
            )
            .await?;
        Ok(())
    }

    /// Whom the client doesn't want to hear, newest first.
    pub async fn list_blocks(&self, app: &App, owner: &ClientId) -> Result<Vec<ClientId>> {
        self.store.list_blocks(&app.id, owner).await
    }

    /// Blocks or unblocks. A blocked client can't write to who blocked it, and isn't told so in advance.
    pub async fn set_blocked(
        &self,
        app: &App,
        owner: &ClientId,
        peers: &[ClientId],
        blocked: bool,
    ) -> Result<()> {
        self.store.set_blocked(&app.id, owner, peers, blocked).await
    }
}
