//! Accounts, contacts and blocks.

use std::sync::Arc;

use async_trait::async_trait;
use posthouse_core::account::{
    Account, AccountChange, BLOCKS_MAX, CONTACTS_MAX, Contact, ContactChange, ContactNotice, NewAccount,
};
use posthouse_core::error::{Error, Result, StoreFault};
use posthouse_core::id::{AppId, ClientId};
use posthouse_core::port::store::{AccountRemoved, AfterCommit, Clients};
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::{Map, Value, json};

use super::notes::{NO_CONVERSATION, NOTE_CONTACT, NewNote, note};
use super::removal::clear_everything;
use super::rows::{Work, client_of, count, int, time_of, uint};
use super::shards::FileKey;
use super::writer::{Outcome, Touches, Tx};
use super::{SqliteStore, UNKNOWN_APP};

/// The bits of `contact.state`.
const KNOWS: i64 = 1;
const WAS_ASKED: i64 = 2;
const HAS_ASKED: i64 = 4;

#[async_trait]
impl Clients for SqliteStore {
    async fn add_account(&self, app: &AppId, new: NewAccount) -> Result<Account> {
        let app = self.app_key(app).await?;
        if app == UNKNOWN_APP {
            tracing::error!("an account was to be made in an app that doesn't exist");
            return Err(StoreFault::Failed.into());
        }
        self.write_main(move |tx| add(tx, app, new)).await
    }

    async fn account(&self, app: &AppId, client: &ClientId) -> Result<Option<Account>> {
        let app = self.app_key(app).await?;
        let client = client.clone();
        self.read(move |reader| match reader.snapshot(FileKey::Main)? {
            Some(db) => account(&db, app, &client),
            None => Ok(None),
        })
        .await
    }

    async fn list_accounts(&self, app: &AppId, after: u64, limit: usize) -> Result<Vec<Account>> {
        let app = self.app_key(app).await?;
        self.read(move |reader| {
            let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(Vec::new()) };
            let accounts = db
                .prepare_cached(concat!(
                    "SELECT ",
                    account_columns!(),
                    " FROM account INDEXED BY account_number WHERE app = ?1 AND number > ?2 ORDER BY number LIMIT ?3"
                ))?
                .query_map((app, int(after), count(limit)), account_of)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(accounts)
        })
        .await
    }

    async fn change_account(&self, app: &AppId, client: &ClientId, change: AccountChange) -> Result<Account> {
        let app = self.app_key(app).await?;
        let client = client.clone();
        self.write_main(move |tx| change_account(tx, app, &client, &change)).await
    }

    async fn remove_account(
        &self,
        app: &AppId,
        client: &ClientId,
        after: AfterCommit<AccountRemoved>,
    ) -> Result<AccountRemoved> {
        let app = self.app_key(app).await?;
        let owner = client.clone();
        let touches = Touches::Client { app, client: client.clone() };
        let removed = self
            .write_touching(FileKey::Main, touches, after, move |tx| remove_account(tx, app, &owner))
            .await?;
        self.positions.forget(app, client);
        Ok(removed)
    }

    async fn list_contacts(
        &self,
        app: &AppId,
        owner: &ClientId,
        after: Option<&ClientId>,
        limit: usize,
    ) -> Result<Vec<Contact>> {
        let app = self.app_key(app).await?;
        let (owner, after) = (owner.clone(), after.cloned());
        self.read(move |reader| {
            let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(Vec::new()) };
            // No client is called "".
            let after = after.as_ref().map_or("", ClientId::as_str);
            let contacts = db
                .prepare_cached(
                    "SELECT peer, remark FROM contact \
                     WHERE app = ?1 AND owner = ?2 AND peer > ?3 AND state & 1 ORDER BY peer LIMIT ?4",
                )?
                .query_map((app, owner.as_str(), after, count(limit)), |row| {
                    Ok(Contact { client: client_of(row, 0)?, remark: maybe_text(row, 1)? })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(contacts)
        })
        .await
    }

    async fn change_contact(
        &self,
        app: &AppId,
        owner: &ClientId,
        peer: &ClientId,
        change: ContactChange,
        after: AfterCommit<Vec<ClientId>>,
    ) -> Result<Vec<ClientId>> {
        let app = self.app_key(app).await?;
        let (owner, peer) = (owner.clone(), peer.clone());
        self.write_touching(FileKey::Main, Touches::Log, after, move |tx| {
            Sides { tx, app, owner: &owner, peer: &peer }.change(change)
        })
        .await
    }

    async fn list_blocks(&self, app: &AppId, owner: &ClientId) -> Result<Vec<ClientId>> {
        let app = self.app_key(app).await?;
        let owner = owner.clone();
        self.read(move |reader| {
            let Some(db) = reader.snapshot(FileKey::Main)? else { return Ok(Vec::new()) };
            let blocks = db
                .prepare_cached(
                    "SELECT peer FROM block WHERE app = ?1 AND owner = ?2 ORDER BY at DESC, peer",
                )?
                .query_map((app, owner.as_str()), |row| client_of(row, 0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(blocks)
        })
        .await
    }

    async fn set_blocked(
        &self,
        app: &AppId,
        owner: &ClientId,
        peers: &[ClientId],
        blocked: bool,
    ) -> Result<()> {
        let app = self.app_key(app).await?;
        let (owner, peers) = (owner.clone(), peers.to_vec());
        self.write_main(move |tx| {
            if blocked { block(tx, app, &owner, &peers) } else { unblock(tx.db, app, &owner, &peers) }
        })
        .await
    }
}

/// The columns that [`account_of`] reads.
macro_rules! account_columns {
    () => {
        "client, number, secret, generation, nickname, active, created_at, updated_at"
    };
}
use account_columns;

fn account_of(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        client: client_of(row, 0)?,
        number: uint(row.get(1)?),
        secret: maybe_text(row, 2)?,
        generation: row.get(3)?,
        nickname: maybe_text(row, 4)?,
        active: row.get(5)?,
        created_at: time_of(row, 6)?,
        updated_at: time_of(row, 7)?,
    })
}

fn maybe_text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(at)?.as_str_or_null()?.map(Arc::from))
}

fn account(db: &Connection, app: i64, client: &ClientId) -> Work<Option<Account>> {
    Ok(db
        .prepare_cached(concat!(
            "SELECT ",
            account_columns!(),
            " FROM account WHERE app = ?1 AND client = ?2"
        ))?
        .query_row((app, client.as_str()), account_of)
        .optional()?)
}

fn add(tx: &Tx<'_>, app: i64, new: NewAccount) -> Work<Outcome<Account>> {
    if account(tx.db, app, &new.client)?.is_some() {
        return Err(Error::AccountExists.into());
    }
    tx.db
        .prepare_cached(
            "INSERT INTO account (app, client, secret, nickname, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        )?
        .execute((app, new.client.as_str(), new.secret.as_deref(), new.nickname.as_deref(), tx.now.0))?;
    let number = uint(tx.db.last_insert_rowid());
    let generation = first_generation(number);
    tx.db
        .prepare_cached("UPDATE account SET generation = ?2 WHERE number = ?1")?
        .execute((int(number), generation))?;
    Ok(Outcome::Written(Account {
        client: new.client,
        number,
        secret: new.secret,
        generation,
        nickname: new.nickname,
        active: true,
        created_at: tx.now,
        updated_at: tx.now,
    }))
}

/// The generation that the account with this number begins with. They lie far apart, so that no token of
/// a removed account opens one that was made under the same name later. Numbers are never used again.
fn first_generation(number: u64) -> u32 {
    // 2^32 divided by the golden ratio: multiples of it spread evenly over all numbers of 32 bits.
    const SPREAD: u64 = 0x9E37_79B1;
    u32::try_from(number.wrapping_mul(SPREAD) & u64::from(u32::MAX)).unwrap_or(0)
}

fn change_account(
    tx: &Tx<'_>,
    app: i64,
    client: &ClientId,
    change: &AccountChange,
) -> Work<Outcome<Account>> {
    let mut account = account(tx.db, app, client)?.ok_or(Error::AccountNotFound)?;
    match change {
        AccountChange::Secret(secret) => {
            account.secret = Some(Arc::clone(secret));
            account.generation = account.generation.wrapping_add(1);
        }
        AccountChange::Nickname(nickname) => account.nickname = Some(Arc::clone(nickname)),
        AccountChange::Active(active) => {
            account.active = *active;
            // Tokens from before a ban stay void when it is lifted.
            if !active {
                account.generation = account.generation.wrapping_add(1);
            }
        }
    }
    account.updated_at = tx.now.max(account.updated_at);
    tx.db
        .prepare_cached(
            "UPDATE account SET secret = ?2, generation = ?3, nickname = ?4, active = ?5, updated_at = ?6 \
             WHERE number = ?1",
        )?
        .execute((
            int(account.number),
            account.secret.as_deref(),
            account.generation,
            account.nickname.as_deref(),
            account.active,
            account.updated_at.0,
        ))?;
    Ok(Outcome::Written(account))
}

fn remove_account(tx: &Tx<'_>, app: i64, client: &ClientId) -> Work<Outcome<AccountRemoved>> {
    let account = account(tx.db, app, client)?.ok_or(Error::AccountNotFound)?;
    let mut told = Vec::new();
    for (peer, state) in peers(tx.db, app, client)? {
        let sides = Sides { tx, app, owner: client, peer: &peer };
        sides.forget_each_other()?;
        if state & KNOWS != 0 {
            sides.tell_peer(&ContactNotice::Removed)?;
            told.push(peer);
        }
    }
    clear_everything(tx, app, client)?;
    let key = (app, client.as_str());
    for forget in [
        "DELETE FROM account WHERE app = ?1 AND client = ?2",
        "DELETE FROM block WHERE app = ?1 AND owner = ?2",
        "DELETE FROM device WHERE app = ?1 AND client = ?2",
        "DELETE FROM position WHERE app = ?1 AND client = ?2",
        "DELETE FROM inbox WHERE app = ?1 AND client = ?2",
        // Who registers the name later is somebody else, for whom these timelines begin here.
        "UPDATE member SET pinned_at = NULL, marks = 0, muted = 0, joined_seq = h.last_seq, \
         delivered_seq = h.last_seq FROM head h \
         WHERE h.conversation = member.conversation AND member.app = ?1 AND member.client = ?2",
    ] {
        tx.db.prepare_cached(forget)?.execute(key)?;
    }
    Ok(Outcome::Written(AccountRemoved { account, told }))
}

/// Those whom `client` knows, has asked, or was asked by.
fn peers(db: &Connection, app: i64, client: &ClientId) -> Work<Vec<(ClientId, i64)>> {
    Ok(db
        .prepare_cached("SELECT peer, state FROM contact WHERE app = ?1 AND owner = ?2 ORDER BY peer")?
        .query_map((app, client.as_str()), |row| Ok((client_of(row, 0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?)
}

/// Two clients, one of whom changes what they are to each other.
struct Sides<'a> {
    tx: &'a Tx<'a>,
    app: i64,
    owner: &'a ClientId,
    peer: &'a ClientId,
}

impl Sides<'_> {
    fn change(&self, change: ContactChange) -> Work<Outcome<Vec<ClientId>>> {
        // Nobody is a contact of its own.
        let state = if self.owner == self.peer { KNOWS } else { self.state()? };
        match change {
            ContactChange::Request(_) | ContactChange::Add if state & KNOWS != 0 => {
                Ok(Outcome::Unchanged(Vec::new()))
            }
            ContactChange::Request(word) => self.request(word),
            ContactChange::Accept | ContactChange::Decline if state & WAS_ASKED == 0 => {
                Err(Error::NotContact.into())
            }
            ContactChange::Accept => {
                self.know_each_other()?;
                self.tell_peer(&ContactNotice::Accepted)?;
                self.tell_owner(&ContactNotice::Added)?;
                Ok(Outcome::Written(vec![self.peer.clone(), self.owner.clone()]))
            }
            ContactChange::Decline => {
                self.set(self.owner, self.peer, 0, WAS_ASKED)?;
                self.set(self.peer, self.owner, 0, HAS_ASKED)?;
                self.tell_peer(&ContactNotice::Declined)?;
                Ok(Outcome::Written(vec![self.peer.clone()]))
            }
            ContactChange::Add => {
                self.know_each_other()?;
                self.tell_peer(&ContactNotice::Added)?;
                self.tell_owner(&ContactNotice::Added)?;
                Ok(Outcome::Written(vec![self.peer.clone(), self.owner.clone()]))
            }
            ContactChange::Remove if self.owner == self.peer || state == 0 => {
                Ok(Outcome::Unchanged(Vec::new()))
            }
            ContactChange::Remove => {
                self.forget_each_other()?;
                if state & KNOWS == 0 {
                    return Ok(Outcome::Written(Vec::new()));
                }
                self.tell_peer(&ContactNotice::Removed)?;
                Ok(Outcome::Written(vec![self.peer.clone()]))
            }
            ContactChange::Remark(remark) => self.remark(&remark),
        }
    }

    /// What the owner's side says.
    fn state(&self) -> Work<i64> {
        let state = self
            .tx
            .db
            .prepare_cached("SELECT state FROM contact WHERE app = ?1 AND owner = ?2 AND peer = ?3")?
            .query_row((self.app, self.owner.as_str(), self.peer.as_str()), |row| row.get(0))
            .optional()?;
        Ok(state.unwrap_or(0))
    }

    fn request(&self, word: Arc<str>) -> Work<Outcome<Vec<ClientId>>> {
        if is_blocked(self.tx.db, self.app, self.peer, self.owner)? {
            return Err(Error::Blocked.into());
        }
        // Open requests count for who asks: else one client could fill the lists of all others.
        self.ensure_room(self.owner, KNOWS | HAS_ASKED, self.peer)?;
        self.ensure_room(self.peer, KNOWS, self.owner)?;
        self.set(self.owner, self.peer, HAS_ASKED, 0)?;
        self.set(self.peer, self.owner, WAS_ASKED, 0)?;
        self.tell_peer(&ContactNotice::Requested(word))?;
        Ok(Outcome::Written(vec![self.peer.clone()]))
    }

    fn know_each_other(&self) -> Work<()> {
        for (client, other) in [(self.owner, self.peer), (self.peer, self.owner)] {
            self.ensure_room(client, KNOWS, other)?;
            self.set(client, other, KNOWS, WAS_ASKED | HAS_ASKED)?;
        }
        Ok(())
    }

    fn forget_each_other(&self) -> Work<()> {
        for (client, other) in [(self.owner, self.peer), (self.peer, self.owner)] {
            self.set(client, other, 0, KNOWS | WAS_ASKED | HAS_ASKED)?;
        }
        Ok(())
    }

    fn remark(&self, remark: &str) -> Work<Outcome<Vec<ClientId>>> {
        let changed = self
            .tx
            .db
            .prepare_cached(
                "UPDATE contact SET remark = ?4 WHERE app = ?1 AND owner = ?2 AND peer = ?3 AND state & 1",
            )?
            .execute((self.app, self.owner.as_str(), self.peer.as_str(), remark))?;
        if changed == 0 { Err(Error::NotContact.into()) } else { Ok(Outcome::Written(Vec::new())) }
    }

    /// `Err` if `client` has as many others than `other` in one of these states as it may.
    fn ensure_room(&self, client: &ClientId, states: i64, other: &ClientId) -> Work<()> {
        let others: i64 = self
            .tx
            .db
            .prepare_cached(
                "SELECT count(*) FROM contact WHERE app = ?1 AND owner = ?2 AND state & ?3 AND peer <> ?4",
            )?
            .query_row((self.app, client.as_str(), states, other.as_str()), |row| row.get(0))?;
        if others >= count(CONTACTS_MAX) {
            return Err(Error::ListFull { max: CONTACTS_MAX }.into());
        }
        Ok(())
    }

    /// Sets and clears bits of what `client` has to do with `other`. Without any left, nothing is kept.
    fn set(&self, client: &ClientId, other: &ClientId, set: i64, clear: i64) -> Work<()> {
        let key = (self.app, client.as_str(), other.as_str());
        if set != 0 {
            self.tx
                .db
                .prepare_cached(
                    "INSERT INTO contact (app, owner, peer, state, at) VALUES (?1, ?2, ?3, 0, ?4) \
                     ON CONFLICT (app, owner, peer) DO NOTHING",
                )?
                .execute((key.0, key.1, key.2, self.tx.now.0))?;
        }
        self.tx
            .db
            .prepare_cached(
                "UPDATE contact SET state = (state | ?4) & ~?5, \
                 at = CASE WHEN state & 1 OR NOT (?4 & 1) THEN at ELSE ?6 END \
                 WHERE app = ?1 AND owner = ?2 AND peer = ?3",
            )?
            .execute((key.0, key.1, key.2, set, clear, self.tx.now.0))?;
        self.tx
            .db
            .prepare_cached("DELETE FROM contact WHERE app = ?1 AND owner = ?2 AND peer = ?3 AND state = 0")?
            .execute(key)?;
        Ok(())
    }

    fn tell_peer(&self, notice: &ContactNotice) -> Work<()> {
        self.tell(self.peer, self.owner, notice)
    }

    fn tell_owner(&self, notice: &ContactNotice) -> Work<()> {
        self.tell(self.owner, self.peer, notice)
    }

    fn tell(&self, client: &ClientId, of: &ClientId, notice: &ContactNotice) -> Work<()> {
        let new = NewNote {
            at: self.tx.now,
            kind: NOTE_CONTACT,
            conversation: NO_CONVERSATION,
            by: of,
            message: None,
            data: Some(notice_data(notice)),
        };
        note(self.tx.db, self.app, client, &new)?;
        Ok(())
    }
}

/// Whether `owner` doesn't want to hear `peer`.
fn is_blocked(db: &Connection, app: i64, owner: &ClientId, peer: &ClientId) -> Work<bool> {
    Ok(db.prepare_cached("SELECT 1 FROM block WHERE app = ?1 AND owner = ?2 AND peer = ?3")?.exists((
        app,
        owner.as_str(),
        peer.as_str(),
    ))?)
}

fn block(tx: &Tx<'_>, app: i64, owner: &ClientId, peers: &[ClientId]) -> Work<Outcome<()>> {
    let mut insert =
        tx.db.prepare_cached("INSERT OR IGNORE INTO block (app, owner, peer, at) VALUES (?1, ?2, ?3, ?4)")?;
    let mut added = 0;
    for peer in peers {
        added += insert.execute((app, owner.as_str(), peer.as_str(), tx.now.0))?;
    }
    if added == 0 {
        return Ok(Outcome::Unchanged(()));
    }
    let blocks: i64 = tx
        .db
        .prepare_cached("SELECT count(*) FROM block WHERE app = ?1 AND owner = ?2")?
        .query_row((app, owner.as_str()), |row| row.get(0))?;
    if blocks > count(BLOCKS_MAX) {
        return Err(Error::ListFull { max: BLOCKS_MAX }.into());
    }
    Ok(Outcome::Written(()))
}

fn unblock(db: &Connection, app: i64, owner: &ClientId, peers: &[ClientId]) -> Work<Outcome<()>> {
    let mut delete = db.prepare_cached("DELETE FROM block WHERE app = ?1 AND owner = ?2 AND peer = ?3")?;
    for peer in peers {
        delete.execute((app, owner.as_str(), peer.as_str()))?;
    }
    Ok(Outcome::Written(()))
}

/// What a [`NOTE_CONTACT`] says.
fn notice_data(notice: &ContactNotice) -> Value {
    match notice {
        ContactNotice::Requested(word) => json!({ "notice": "requested", "word": &**word }),
        ContactNotice::Added => json!({ "notice": "added" }),
        ContactNotice::Accepted => json!({ "notice": "accepted" }),
        ContactNotice::Declined => json!({ "notice": "declined" }),
        ContactNotice::Removed => json!({ "notice": "removed" }),
    }
}

/// Reads back what [`notice_data`] wrote.
pub(super) fn notice_of(data: &Map<String, Value>) -> Option<ContactNotice> {
    Some(match data.get("notice")?.as_str()? {
        "requested" => ContactNotice::Requested(data.get("word")?.as_str()?.into()),
        "added" => ContactNotice::Added,
        "accepted" => ContactNotice::Accepted,
        "declined" => ContactNotice::Declined,
        "removed" => ContactNotice::Removed,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn contact_notices_survive_storage() {
        let notices = [
            ContactNotice::Requested("it is me".into()),
            ContactNotice::Added,
            ContactNotice::Accepted,
            ContactNotice::Declined,
            ContactNotice::Removed,
        ];
        for notice in notices {
            let Value::Object(data) = notice_data(&notice) else { panic!("no object") };
            assert_eq!(notice_of(&data), Some(notice));
        }
    }

    #[test]
    fn accounts_begin_far_apart() {
        let mut firsts: Vec<u32> = (1..=1_000).map(first_generation).collect();
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] > 1_000_000));
    }
}
