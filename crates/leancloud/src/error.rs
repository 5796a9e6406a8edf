//! The wire's error numbers: the only file that knows them.
//!
//! [`code`] maps each cause the domain names, by operation, to a number; [`table`] lists all of
//! them for the reference of errors. Meanings are those of LeanCloud's own list.

use posthouse_core::Error;
use posthouse_core::attribute::AttributeError;
use posthouse_core::error::StoreFault;
use posthouse_core::rate::Rate;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal; )+) => {
        /// A number of LeanCloud's list that this server sends.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $( $(#[doc = $doc])+ $variant, )+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self { $( Self::$variant => $number, )+ }
            }

            /// The name on the wire, which SDKs turn into the error's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )+ }
            }

            /// When it is sent.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),+), )+ }
            }

            /// The number as the value of a metric's label: from this fixed set only.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $( Self::$variant => stringify!($number), )+ }
            }
        }
    };
}

codes! {
    /// The app id names no app of this server, or another app than the socket's.
    AppNotAvailable = 4100, "APP_NOT_AVAILABLE";
    /// The login names an impossible client, tag or device, or one socket holds too many clients.
    InvalidLogin = 4103, "INVALID_LOGIN";
    /// The command needs a client that is logged in on this socket.
    SessionRequired = 4105, "SESSION_REQUIRED";
    /// Close code: nothing was heard of the client for too long.
    ReadTimeout = 4107, "READ_TIMEOUT";
    /// Close code: nobody logged in on the socket in time.
    LoginTimeout = 4108, "LOGIN_TIMEOUT";
    /// The message or the frame is too long.
    FrameTooLong = 4109, "FRAME_TOO_LONG";
    /// Another device logged in with the same client and tag.
    SessionConflict = 4111, "SESSION_CONFLICT";
    /// The session token is no longer good, or none of ours. SDKs then log in without it.
    SessionTokenExpired = 4112, "SESSION_TOKEN_EXPIRED";
    /// What was sent can't be read: as a close code the frame, otherwise the message's text.
    UnparseableRawMessage = 4114, "UNPARSEABLE_RAW_MESSAGE";
    /// More messages in a short time than the app allows a client.
    MessageSentQuotaExceeded = 4116, "MESSAGE_SENT_QUOTA_EXCEEDED";
    /// The server failed, or the command isn't offered; the detail says which.
    InternalError = 4200, "INTERNAL_ERROR";
    /// The conversation can't be made or changed like this, or storage failed; the detail says why.
    ConversationApiFailed = 4301, "CONVERSATION_API_FAILED";
    /// No such conversation.
    ConversationNotFound = 4303, "CONVERSATION_NOT_FOUND";
    /// More members than allowed.
    ConversationFull = 4304, "CONVERSATION_FULL";
    /// The attributes can't be changed like this.
    ConversationUpdateFailed = 4306, "CONVERSATION_UPDATE_FAILED";
    /// Only members may do this.
    ConversationUpdateRejected = 4309, "CONVERSATION_UPDATE_REJECTED";
    /// The query can't be understood or looks at too much.
    ConversationQueryFailed = 4310, "CONVERSATION_QUERY_FAILED";
    /// History can't be read now.
    ConversationLogFailed = 4311, "CONVERSATION_LOG_FAILED";
    /// Only members may read history.
    ConversationLogRejected = 4312, "CONVERSATION_LOG_REJECTED";
    /// Conversations of this kind don't offer it.
    NormalConversationRequired = 4314, "NORMAL_CONVERSATION_REQUIRED";
    /// Only members may do this.
    ConversationMembershipRequired = 4317, "CONVERSATION_MEMBERSHIP_REQUIRED";
    /// More of this at once than a session may have, or more calls in a short time than the app allows a client.
    ConversationApiQuotaExceeded = 4318, "CONVERSATION_API_QUOTA_EXCEEDED";
    /// The client may not do this to others.
    ConversationOperationUnauthorized = 4320, "CONVERSATION_OPERATION_UNAUTHORIZED";
    /// The temporary conversation is over, or never was.
    TemporaryConversationExpired = 4323, "TEMPORARY_CONVERSATION_EXPIRED";
    /// Member roles aren't offered.
    MemberInfoDisabled = 4325, "CONVERSATION_MEMBER_INFO_FEATURE_DISABLED";
    /// The message names a conversation that doesn't exist or that the sender isn't in.
    InvalidMessagingTarget = 4401, "INVALID_MESSAGING_TARGET";
    /// Only its sender may change a message.
    MessageOwnershipRequired = 4403, "MESSAGE_OWNERSHIP_REQUIRED";
    /// No such message.
    MessageNotFound = 4404, "MESSAGE_NOT_FOUND";
    /// The message can't be changed any more.
    MessageUpdateRejected = 4405, "MESSAGE_UPDATE_REJECTED_BY_APP";
    /// Editing is switched off for the app.
    MessageEditDisabled = 4406, "MESSAGE_EDIT_DISABLED";
    /// Recalling is switched off for the app.
    MessageRecallDisabled = 4407, "MESSAGE_RECALL_DISABLED";
    /// Blacklists aren't offered.
    BlacklistDisabled = 4544, "BLACKLIST_FEATURE_DISABLED";
    /// The receiver doesn't want to hear the sender.
    BlockedByConversation = 4548, "BLOCKED_BY_CONV";
}

/// A refusal: a number, and what was wrong in words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} {}: {detail}", code.number(), code.name())]
pub struct Refusal {
    /// The number and name.
    pub code: Code,
    /// The words, for the developer of the app.
    pub detail: String,
}

impl Refusal {
    /// A refusal of the gateway's own.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The domain's refusal of `operation`.
    #[must_use]
    pub fn of(operation: Operation, error: &Error) -> Self {
        Self { code: code(operation, error), detail: error.to_string() }
    }
}

macro_rules! operations {
    ($( $(#[doc = $doc:literal])+ $variant:ident; )+) => {
        /// What the domain was asked for. The same cause can have different numbers.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Operation { $( $(#[doc = $doc])+ $variant, )+ }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// What it is called in the reference of errors.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $( Self::$variant => concat!($($doc),+), )+ }
            }
        }
    };
}

operations! {
    /// session/open
    Login;
    /// direct
    Send;
    /// patch/modify
    Change;
    /// read, ack
    Mark;
    /// logs
    History;
    /// conv/start
    Create;
    /// conv/add, conv/remove
    Membership;
    /// conv/update
    Update;
    /// conv/mute, conv/unmute
    Mute;
    /// conv/query
    Query;
    /// conv/count, conv/members, conv/is_member, conv/max_read
    Look;
    /// conv/status
    Watch;
}

/// The number for `error` when it is the outcome of `operation`.
#[must_use]
pub fn code(operation: Operation, error: &Error) -> Code {
    use Operation::{
        Change, Create, History, Login, Look, Mark, Membership, Mute, Query, Send, Update, Watch,
    };

    match error {
        Error::ConversationNotFound => match operation {
            // js-realtime-sdk's test after quitting expects this number for a send.
            Send => Code::InvalidMessagingTarget,
            Login | Change | Mark | History | Create | Membership | Update | Mute | Query | Look | Watch => {
                Code::ConversationNotFound
            }
        },
        // JS maps 4303 to this number for temporary conversations; it is right for every operation.
        Error::TemporaryOver => Code::TemporaryConversationExpired,
        Error::NotMember => match operation {
            Send => Code::InvalidMessagingTarget,
            History => Code::ConversationLogRejected,
            Update | Mute | Watch => Code::ConversationUpdateRejected,
            Login | Change | Mark | Create | Membership | Query | Look => {
                Code::ConversationMembershipRequired
            }
        },
        Error::TemporaryIsFixed | Error::NotInRooms => Code::NormalConversationRequired,
        Error::RoomIsOwnChoice | Error::NotAllowed | Error::IsOwner | Error::NotAMember { .. } => {
            Code::ConversationOperationUnauthorized
        }
        Error::ConversationFull { .. } => Code::ConversationFull,
        Error::MessageNotFound => Code::MessageNotFound,
        Error::NotSender => Code::MessageOwnershipRequired,
        Error::AlreadyRecalled | Error::RecallTooLate | Error::TooManyEdits { .. } => {
            Code::MessageUpdateRejected
        }
        Error::Blocked => Code::BlockedByConversation,
        // What this wire has no words for, because no command of it can come to this.
        Error::NotInThePast
        | Error::TooManyAtOnce { .. }
        | Error::AccountNotFound
        | Error::AccountExists
        | Error::NotContact
        | Error::ListFull { .. } => Code::ConversationApiFailed,
        Error::EditDisabled => Code::MessageEditDisabled,
        Error::RecallDisabled => Code::MessageRecallDisabled,
        Error::MessageTooLarge { .. } => Code::FrameTooLong,
        Error::Attribute(_) | Error::AttributesTooLarge { .. } => match operation {
            Update => Code::ConversationUpdateFailed,
            Login | Send | Change | Mark | History | Create | Membership | Mute | Query | Look | Watch => {
                Code::ConversationApiFailed
            }
        },
        Error::QueryTooDear => Code::ConversationQueryFailed,
        Error::TooManyWatched { .. } => Code::ConversationApiQuotaExceeded,
        Error::TooFast { what: Rate::Messages, .. } => Code::MessageSentQuotaExceeded,
        Error::TooFast { what: Rate::History | Rate::Calls, .. } => Code::ConversationApiQuotaExceeded,
        Error::SessionTaken => Code::SessionConflict,
        Error::SessionOver => Code::SessionRequired,
        Error::Store(StoreFault::Full | StoreFault::Busy | StoreFault::Failed | StoreFault::Closing) => {
            match operation {
                Login | Send | Change | Mark => Code::InternalError,
                History => Code::ConversationLogFailed,
                Create | Membership | Update | Mute | Query | Look | Watch => Code::ConversationApiFailed,
            }
        }
    }
}

/// One line of the reference of errors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRow {
    /// The commands.
    pub operation: &'static str,
    /// The domain's words.
    pub cause: String,
    /// The number.
    pub number: i32,
    /// The name.
    pub name: &'static str,
}

/// What every cause becomes in every operation, for `docs/errors.md`.
#[must_use]
pub fn table() -> Vec<TableRow> {
    let row = |operation: Operation, cause: &Error| {
        let code = code(operation, cause);
        TableRow {
            operation: operation.title().trim(),
            cause: cause.to_string(),
            number: code.number(),
            name: code.name(),
        }
    };
    causes()
        .iter()
        .flat_map(|cause| Operation::ALL.iter().map(move |operation| row(*operation, cause)))
        .collect()
}

/// One of each cause.
fn causes() -> Vec<Error> {
    vec![
        Error::ConversationNotFound,
        Error::TemporaryOver,
        Error::NotMember,
        Error::TemporaryIsFixed,
        Error::NotInRooms,
        Error::RoomIsOwnChoice,
        Error::ConversationFull { max: 500 },
        Error::MessageNotFound,
        Error::NotSender,
        Error::AlreadyRecalled,
        Error::NotAllowed,
        Error::Blocked,
        Error::EditDisabled,
        Error::RecallDisabled,
        Error::MessageTooLarge { size: 6_000, max: 5_120 },
        Error::Attribute(AttributeError::TooDeep),
        Error::AttributesTooLarge { size: 40_000, max: 32_768 },
        Error::QueryTooDear,
        Error::TooManyWatched { max: posthouse_core::presence::WATCHED_MAX },
        Error::TooFast { what: Rate::Messages, per_minute: 6_000 },
        Error::TooFast { what: Rate::History, per_minute: 3_000 },
        Error::TooFast { what: Rate::Calls, per_minute: 3_000 },
        Error::SessionTaken,
        Error::SessionOver,
        Error::Store(StoreFault::Full),
        Error::Store(StoreFault::Busy),
        Error::Store(StoreFault::Failed),
        Error::Store(StoreFault::Closing),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    /// Fails to compile when the domain names a new cause, which then belongs into [`causes`] too.
    fn index(error: &Error) -> usize {
        match error {
            Error::ConversationNotFound => 0,
            Error::TemporaryOver => 1,
            Error::NotMember => 2,
            Error::TemporaryIsFixed => 3,
            Error::NotInRooms => 4,
            Error::RoomIsOwnChoice => 5,
            Error::ConversationFull { .. } => 6,
            Error::MessageNotFound => 7,
            Error::NotSender => 8,
            Error::AlreadyRecalled => 9,
            Error::EditDisabled => 10,
            Error::RecallDisabled => 11,
            Error::MessageTooLarge { .. } => 12,
            Error::Attribute(_) => 13,
            Error::AttributesTooLarge { .. } => 14,
            Error::QueryTooDear => 15,
            Error::TooManyWatched { .. } => 16,
            Error::SessionTaken => 17,
            Error::SessionOver => 18,
            Error::Store(_) => 19,
            Error::NotAllowed => 20,
            Error::Blocked => 21,
            Error::TooFast { .. } => 22,
            // Other doors' causes.
            Error::IsOwner
            | Error::NotAMember { .. }
            | Error::RecallTooLate
            | Error::TooManyEdits { .. }
            | Error::NotInThePast
            | Error::TooManyAtOnce { .. }
            | Error::AccountNotFound
            | Error::AccountExists
            | Error::NotContact
            | Error::ListFull { .. } => 99,
        }
    }

    #[test]
    fn the_table_holds_every_cause_in_every_operation() {
        let seen: BTreeSet<usize> = causes().iter().map(index).collect();
        assert_eq!(seen, (0..23).collect());
        assert_eq!(table().len(), causes().len() * Operation::ALL.len());
    }

    #[test]
    fn numbers_and_names_are_used_once_and_never_zero() {
        let numbers: HashSet<i32> = Code::ALL.iter().map(|code| code.number()).collect();
        let names: HashSet<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!((numbers.len(), names.len()), (Code::ALL.len(), Code::ALL.len()));
        for code in Code::ALL {
            assert!((4_100..4_600).contains(&code.number()));
            assert_eq!(code.label(), code.number().to_string());
            assert!(code.name().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
            assert!(!code.meaning().trim().is_empty());
        }
    }

    #[test]
    fn a_message_into_nowhere_has_the_number_that_sdk_tests_expect() {
        assert_eq!(code(Operation::Send, &Error::NotMember).number(), 4401);
        assert_eq!(code(Operation::Send, &Error::TemporaryOver).number(), 4323);
        assert_eq!(code(Operation::History, &Error::NotMember).number(), 4312);
        assert_eq!(code(Operation::Watch, &Error::NotMember).number(), 4309);
    }

    #[test]
    fn a_refusal_speaks_in_words() {
        let refusal = Refusal::of(Operation::Create, &Error::ConversationFull { max: 10 });
        assert_eq!(
            refusal.to_string(),
            "4304 CONVERSATION_FULL: a conversation of this kind has at most 10 members"
        );
    }
}
