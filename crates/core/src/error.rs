//! What can go wrong, by cause. Gateways turn each cause into their wire's number; this file knows none.

use crate::attribute::AttributeError;
use crate::id::ClientId;
use crate::rate::Rate;

/// The domain's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a use case was refused or failed. Refused ones have no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such conversation in this app.
    #[error("the conversation doesn't exist")]
    ConversationNotFound,
    /// A temporary conversation that is over, never was, or is none of the caller's business.
    #[error("the temporary conversation is over or doesn't exist")]
    TemporaryOver,
    /// The caller is not in the conversation.
    #[error("the client is not in the conversation")]
    NotMember,
    /// Members and attributes of a temporary conversation are fixed.
    #[error("a temporary conversation can't be changed after it was made")]
    TemporaryIsFixed,
    /// The operation makes no sense in a chat room.
    #[error("a chat room doesn't offer this")]
    NotInRooms,
    /// Only a client itself can enter or leave a chat room.
    #[error("clients enter and leave a chat room by themselves")]
    RoomIsOwnChoice,
    /// More members than the app allows.
    #[error("a conversation of this kind has at most {max} members")]
    ConversationFull {
        /// The limit.
        max: usize,
    },
    /// No such message in this conversation, or not with this time.
    #[error("the message doesn't exist")]
    MessageNotFound,
    /// Only its sender may change a message.
    #[error("only its sender may change a message")]
    NotSender,
    /// Only the owner, or an administrator too, may do this.
    #[error("only the conversation's owner, or an administrator for some things, may do this")]
    NotAllowed,
    /// The owner can't leave, be removed, or lose a role it doesn't have.
    #[error("this can't be done to the conversation's owner")]
    IsOwner,
    /// Somebody named is no member, so it can't be given a role.
    #[error("{client} is not in the conversation")]
    NotAMember {
        /// Who.
        client: ClientId,
    },
    /// The receiver doesn't want to hear the sender.
    #[error("the receiver has blocked the sender")]
    Blocked,
    /// The message is too old to be taken back.
    #[error("the message is too old to be taken back")]
    RecallTooLate,
    /// The message was edited as often as it may be.
    #[error("the message was edited {max} times already")]
    TooManyEdits {
        /// The limit.
        max: u32,
    },
    /// What was said elsewhere can't have been said later than now.
    #[error("the message's time is not in the past")]
    NotInThePast,
    /// More than may be named in one call.
    #[error("at most {max} may be named at once")]
    TooManyAtOnce {
        /// The limit.
        max: usize,
    },
    /// The client is not registered.
    #[error("the user doesn't exist")]
    AccountNotFound,
    /// The client is registered already.
    #[error("the user exists already")]
    AccountExists,
    /// No such contact, or no request of it.
    #[error("they are not contacts")]
    NotContact,
    /// As many contacts, or blocked ones, as a client may have.
    #[error("at most {max} may be on the list")]
    ListFull {
        /// The limit.
        max: usize,
    },
    /// The message was taken back and can't be changed any more.
    #[error("the message was recalled")]
    AlreadyRecalled,
    /// The app doesn't let senders edit.
    #[error("editing messages is switched off for this app")]
    EditDisabled,
    /// The app doesn't let senders recall.
    #[error("recalling messages is switched off for this app")]
    RecallDisabled,
    /// The message is larger than the app allows.
    #[error("the message has {size} bytes, the app allows {max}")]
    MessageTooLarge {
        /// What it has, in bytes.
        size: usize,
        /// What is allowed, in bytes.
        max: usize,
    },
    /// Attributes that can't be changed like this.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The conversation's attributes would be larger than the app allows.
    #[error("the attributes would have {size} bytes, the app allows {max}")]
    AttributesTooLarge {
        /// What they would have, in bytes of JSON.
        size: usize,
        /// What is allowed, in bytes.
        max: usize,
    },
    /// A query that would have to look at too much.
    #[error("the query looks at too many conversations; narrow it down by member or id")]
    QueryTooDear,
    /// A session watches as many conversations as it may.
    #[error("a session may watch the presence of at most {max} conversations")]
    TooManyWatched {
        /// The limit.
        max: usize,
    },
    /// Another device holds this client's tag, and the caller did not ask to displace it.
    #[error("another device has logged in with this tag")]
    SessionTaken,
    /// The caller does this more often than the app allows.
    #[error("too many {what} in a short time; the app allows {per_minute} a minute")]
    TooFast {
        /// What.
        what: Rate,
        /// The limit.
        per_minute: u32,
    },
    /// The caller's session is over.
    #[error("the session is over")]
    SessionOver,
    /// The store can't do it now.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Why the store can't do something. Nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// No room on the disk. Reads go on.
    #[error("the disk is full")]
    Full,
    /// Too much is waiting already; try again.
    #[error("the store is busy")]
    Busy,
    /// The engine failed; the log says how.
    #[error("the store failed")]
    Failed,
    /// The store is closing.
    #[error("the store is closing")]
    Closing,
}
