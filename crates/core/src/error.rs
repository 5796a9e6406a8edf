//! What can go wrong, by cause. Gateways turn each cause into their wire's number; this file knows none.

use crate::attribute::AttributeError;

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
