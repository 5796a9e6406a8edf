//! Accounts: clients that log in with a password, whom they know, and whom they don't want to hear.

use std::sync::Arc;

use crate::id::ClientId;
use crate::time::Timestamp;

/// A registered client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Who.
    pub client: ClientId,
    /// Counts the app's accounts; lists are ordered by it.
    pub number: u64,
    /// The hash of the password, as its gateway wrote it. `None`: no password opens it.
    pub secret: Option<Arc<str>>,
    /// Counts changes of the password; tokens of an earlier one are void.
    pub generation: u32,
    /// What it is called in notifications.
    pub nickname: Option<Arc<str>>,
    /// Whether it may log in.
    pub active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The wish to register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewAccount {
    /// Who.
    pub client: ClientId,
    /// The hash of the password.
    pub secret: Option<Arc<str>>,
    /// What it is called in notifications.
    pub nickname: Option<Arc<str>>,
}

/// A change of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccountChange {
    /// A new hash; tokens given before are void.
    Secret(Arc<str>),
    /// A new name in notifications.
    Nickname(Arc<str>),
    /// Whether it may log in from now on; tokens given before a ban are void.
    Active(bool),
}

/// One whom a client knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contact {
    /// Who.
    pub client: ClientId,
    /// What the owner calls it.
    pub remark: Option<Arc<str>>,
}

/// A change of who knows whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContactChange {
    /// Asks the other to become a contact, with a word of why.
    Request(Arc<str>),
    /// Takes up the other's request: both know each other.
    Accept,
    /// Turns the other's request down.
    Decline,
    /// Makes both contacts without asking.
    Add,
    /// Forgets each other.
    Remove,
    /// Calls the other so.
    Remark(Arc<str>),
}

/// What a client is told of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ContactNotice {
    /// It asks to become a contact.
    Requested(Arc<str>),
    /// It is a contact now, without having been asked.
    Added,
    /// It accepted this client's request.
    Accepted,
    /// It declined this client's request.
    Declined,
    /// It is no contact any more.
    Removed,
}

/// The most contacts a client has.
pub const CONTACTS_MAX: usize = 3_000;
/// The most clients one doesn't want to hear.
pub const BLOCKS_MAX: usize = 500;
