//! Clients register, change and go, where their gateway asks for an account.

use crate::account::{Account, AccountChange, NewAccount};
use crate::app::App;
use crate::conversation::Authority;
use crate::error::Result;
use crate::event::{Event, SessionEnd};
use crate::id::{ClientId, DeviceId};
use crate::port::store::AccountRemoved;
use crate::session::Caller;

use super::{Posthouse, to_clients};

/// Groups looked at in one go when an account is removed.
const GROUPS_AT_ONCE: usize = 100;

impl Posthouse {
    /// Registers a client. Who may is the gateway's to decide. Error: `AccountExists`.
    pub async fn add_account(&self, app: &App, new: NewAccount) -> Result<Account> {
        self.store.add_account(&app.id, new).await
    }

    /// The account of `client`, if it has one.
    pub async fn account(&self, app: &App, client: &ClientId) -> Result<Option<Account>> {
        self.store.account(&app.id, client).await
    }

    /// Accounts after the one with this number, in the order of their making, at most `limit`.
    pub async fn list_accounts(&self, app: &App, after: u64, limit: usize) -> Result<Vec<Account>> {
        self.store.list_accounts(&app.id, after, limit).await
    }

    /// Changes an account. A new password and a ban end its sessions. Error: `AccountNotFound`.
    pub async fn change_account(
        &self,
        app: &App,
        client: &ClientId,
        change: AccountChange,
    ) -> Result<Account> {
        let end = match &change {
            AccountChange::Secret(_) => Some(SessionEnd::PasswordChanged),
            AccountChange::Active(false) => Some(SessionEnd::Removed),
            AccountChange::Nickname(_) | AccountChange::Active(true) => None,
        };
        let account = self.store.change_account(&app.id, client, change).await?;
        if let Some(end) = end {
            self.router.dismiss(&app.id, client, None, end, self.clock.now());
        }
        Ok(account)
    }

    /// Removes an account: ends the groups it owns, leaves the others, forgets its contacts and its
    /// inbox, and ends its sessions. What it said stays. Error: `AccountNotFound`.
    pub async fn remove_account(
        &self,
        app: &std::sync::Arc<App>,
        client: &ClientId,
    ) -> Result<AccountRemoved> {
        let caller = Caller::without_session(app.clone(), client.clone());
        loop {
            let page = self.store.list_groups(&app.id, Some(client), 0, GROUPS_AT_ONCE).await?;
            if page.groups.is_empty() {
                break;
            }
            for group in page.groups {
                if group.owner.as_ref() == Some(client) {
                    self.end_group(&caller, group.id, Authority::Server).await?;
                } else {
                    let members = vec![client.clone()];
                    self.remove_members_by(&caller, group.id, members, Authority::Server).await?;
                }
            }
        }
        let (router, id) = (self.router.clone(), app.id.clone());
        let removed = self
            .store
            .remove_account(
                &app.id,
                client,
                Box::new(move |removed: &AccountRemoved| {
                    router.deliver(&to_clients(&id, &removed.told, Event::Noted));
                }),
            )
            .await?;
        self.router.dismiss(&app.id, client, None, SessionEnd::Removed, self.clock.now());
        Ok(removed)
    }

    /// Ends a client's sessions, or only those of one device. Returns how many.
    pub fn dismiss(&self, app: &App, client: &ClientId, device: Option<&DeviceId>) -> usize {
        self.router.dismiss(&app.id, client, device, SessionEnd::Dismissed, self.clock.now())
    }

    /// The devices on which the client is online, in the order in which they came.
    #[must_use]
    pub fn devices(&self, app: &App, client: &ClientId) -> Vec<DeviceId> {
        self.router.devices(&app.id, client)
    }
}
