//! The wire's codes and texts: the only file that knows them.
//!
//! On MSYNC a status is a code and a text that SDKs compare letter by letter (client 3.5, 5.4).
//! [`refusal`] maps each cause the domain names, by operation; [`LoginFault::status`] holds what a login
//! can be told; [`table`] lists both for the reference of errors. A code 7 with a text that SDKs don't
//! know leaves their promise pending for ever, so only [`Error::MessageTooLarge`] and [`Error::TooFast`] have it. What REST
//! answers is in [`rest`].

use std::borrow::Cow;

use posthouse_core::Error;
use posthouse_core::attribute::AttributeError;
use posthouse_core::error::StoreFault;
use posthouse_core::id::ClientId;
use posthouse_core::rate::Rate;

use crate::auth::{BadToken, Over};
use crate::wire::frame::Status;
use crate::wire::proto::status::ErrorCode;

pub mod rest;

/// Texts that SDKs compare.
pub(crate) mod reason {
    /// 605
    pub(crate) const NO_GROUP: &str = "group not found";
    /// 602
    pub(crate) const NOT_IN_GROUP: &str = "not in group or chatroom";
    /// 603
    pub(crate) const BLOCKED: &str = "blocked";
    /// 603
    pub(crate) const NOT_ALLOWED: &str = "Sorry, You do not have permission";
    /// 704
    pub(crate) const GROUP_FULL: &str = "group member list is full!";
    /// 504
    pub(crate) const RECALL_TOO_LATE: &str = "exceed recall time limit";
    /// 505
    pub(crate) const RECALL_DISABLED: &str = "message recall disabled";
    /// 50
    pub(crate) const TOO_MANY_EDITS: &str = "Sorry, edit limit reached";
    /// 505
    pub(crate) const EDIT_DISABLED: &str = "Sorry, edit is not available";
    /// 1303
    pub(crate) const FORMAT: &str = "Sorry, format is incorrect";
    /// 1302
    pub(crate) const NO_MESSAGE: &str = "Sorry, message does not exist";
    /// 221
    pub(crate) const NOT_CONTACT: &str = "nonroster";
    /// 509, with code 7
    pub(crate) const TOO_FAST: &str = "traffic limit";
    /// 511, with code 7
    pub(crate) const TOO_LARGE: &str = "Sorry, data is too large";
    /// 204
    pub(crate) const NO_USER: &str = "this username doesn't exist!";
    /// 28, of a login
    pub(super) const BAD_TOKEN: &str = "Sorry, token or password does not match login info";
    /// 56, of a login
    pub(super) const TOKEN_EXPIRED: &str = "Sorry, token expired";
    /// 204, of a login
    pub(super) const NOBODY: &str = "Sorry, user not found";
}

/// Why something sent is refused: the status of its ack.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} {reason}", code.as_str_name())]
pub(crate) struct Refusal {
    /// The kind.
    pub(crate) code: ErrorCode,
    /// The text.
    pub(crate) reason: Cow<'static, str>,
}

impl Refusal {
    /// A refusal of the gateway's own. With [`ErrorCode::PermissionDenied`] only texts that SDKs know.
    pub(crate) fn new(code: ErrorCode, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// The usual kind: SDKs know its well-known texts and take every other for a failure (503).
    pub(crate) fn failed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Fail, reason)
    }

    /// Bytes that can't be read. SDKs show the words (604).
    pub(crate) fn malformed() -> Self {
        Self::new(ErrorCode::PbParserError, "what was sent can't be read")
    }

    /// A chat room to enter or leave, of which there are none (705).
    pub(crate) fn no_room(id: &str) -> Self {
        Self::failed(format!("grpID {id} does not exist!"))
    }

    /// A command of somebody who is not logged in.
    pub(crate) fn login_first() -> Self {
        Self::new(ErrorCode::Unauthorized, "log in first")
    }

    /// History over MSYNC, which only some native clients ask for.
    pub(crate) fn no_roaming() -> Self {
        Self::failed("history is read over REST")
    }

    /// The code as the value of a metric's label: from the fixed set of the wire only.
    pub(crate) fn label(&self) -> &'static str {
        self.code.as_str_name()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.reason)
    }
}

/// What the domain was asked for by something sent. The same cause can have different texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// A message.
    Send,
    /// A delivery, read or channel ack.
    Receipt,
    /// A recall.
    Recall,
    /// An edit.
    Edit,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Send, Self::Receipt, Self::Recall, Self::Edit];

    /// What it is called in the reference of errors.
    const fn title(self) -> &'static str {
        match self {
            Self::Send => "message",
            Self::Receipt => "receipt",
            Self::Recall => "recall",
            Self::Edit => "edit",
        }
    }
}

/// The setting that switched off what was asked for, if one did: refusals name it in the log.
pub(crate) fn setting_of(error: &Error) -> Option<&'static str> {
    if matches!(error, Error::RecallDisabled) {
        Some("recall_enabled")
    } else if matches!(error, Error::EditDisabled) {
        Some("edit_enabled")
    } else {
        None
    }
}

/// The status for `error` when it is the outcome of `operation`.
#[must_use]
pub(crate) fn refusal(operation: Operation, error: &Error) -> Refusal {
    match error {
        Error::ConversationNotFound | Error::TemporaryOver => Refusal::failed(reason::NO_GROUP),
        Error::NotMember => Refusal::failed(reason::NOT_IN_GROUP),
        Error::MessageNotFound | Error::AlreadyRecalled => Refusal::failed(reason::NO_MESSAGE),
        Error::NotSender | Error::NotAllowed => Refusal::failed(reason::NOT_ALLOWED),
        Error::Blocked => Refusal::failed(reason::BLOCKED),
        Error::RecallTooLate => Refusal::failed(reason::RECALL_TOO_LATE),
        Error::TooManyEdits { .. } => Refusal::failed(reason::TOO_MANY_EDITS),
        Error::EditDisabled => Refusal::failed(reason::EDIT_DISABLED),
        Error::RecallDisabled => Refusal::failed(reason::RECALL_DISABLED),
        Error::MessageTooLarge { .. } => match operation {
            Operation::Send | Operation::Edit => Refusal::new(ErrorCode::PermissionDenied, reason::TOO_LARGE),
            Operation::Receipt | Operation::Recall => Refusal::failed(error.to_string()),
        },
        Error::TooFast { .. } => Refusal::new(ErrorCode::PermissionDenied, reason::TOO_FAST),
        Error::ConversationFull { .. } => Refusal::failed(reason::GROUP_FULL),
        Error::AccountNotFound => Refusal::failed(reason::NO_USER),
        Error::NotContact => Refusal::failed(reason::NOT_CONTACT),
        Error::Store(StoreFault::Busy) => Refusal::failed("server is busy, try again"),
        Error::Store(StoreFault::Closing) => Refusal::failed("server is going away, try again"),
        Error::Store(StoreFault::Full) => Refusal::failed("server has no room left"),
        Error::Store(StoreFault::Failed) => Refusal::failed("server failed"),
        Error::TemporaryIsFixed
        | Error::NotInRooms
        | Error::RoomIsOwnChoice
        | Error::IsOwner
        | Error::NotAMember { .. }
        | Error::NotInThePast
        | Error::TooManyAtOnce { .. }
        | Error::AccountExists
        | Error::ListFull { .. }
        | Error::Attribute(_)
        | Error::AttributesTooLarge { .. }
        | Error::QueryTooDear
        | Error::TooManyWatched { .. }
        | Error::SessionTaken
        | Error::SessionOver => Refusal::failed(error.to_string()),
    }
}

/// Why a login is refused. What the server can't decide now is none: the socket closes instead, and
/// the client comes back, since every refusal is final to an SDK.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum LoginFault {
    /// The payload is none of a login.
    #[error("the login can't be read")]
    Unreadable,
    /// No appKey, no user, or a resource that can't be one.
    #[error("{0}")]
    Parameter(&'static str),
    /// No app has this appKey.
    #[error("there is no app with this appKey")]
    UnknownApp,
    /// No token.
    #[error("the token is missing")]
    NoToken,
    /// A name that nobody can have.
    #[error("the name is nobody's")]
    Nobody,
    /// The token is good, for somebody else.
    #[error("the token is another user's or the back end's")]
    OthersToken,
    /// The token is not good.
    #[error("the token is none of this server's, or of another app")]
    Forged,
    /// The token was good.
    #[error("the token is too old")]
    Expired,
    /// The token's account has changed.
    #[error("{}", match .0 {
        Over::Gone => "the user doesn't exist",
        Over::Inactive => "the user is deactivated",
        Over::PasswordChanged => "the token is from before the password was changed",
    })]
    Over(Over),
}

impl LoginFault {
    /// The fault of a token; `Err` where the store could not tell.
    pub(crate) fn of(bad: BadToken) -> Result<Self, Error> {
        match bad {
            BadToken::Malformed | BadToken::Foreign => Ok(Self::Forged),
            BadToken::Expired => Ok(Self::Expired),
            BadToken::Over(over) => Ok(Self::Over(over)),
            BadToken::Store(error) => Err(error),
        }
    }

    /// What the client is told (client 3.5).
    #[must_use]
    pub(crate) fn status(&self) -> Status {
        let failed = |text: &'static str| Status::new(ErrorCode::Fail, text);
        match self {
            Self::Unreadable => Status::new(ErrorCode::PbParserError, self.to_string()),
            Self::Parameter(words) => Status::new(ErrorCode::WrongParameter, *words),
            // SDKs show the words of codes that they don't know.
            Self::UnknownApp => Status::new(ErrorCode::NoRoute, self.to_string()),
            Self::NoToken => Status::new(ErrorCode::Unauthorized, self.to_string()),
            Self::Nobody | Self::Over(Over::Gone) => failed(reason::NOBODY),
            Self::Expired => failed(reason::TOKEN_EXPIRED),
            Self::OthersToken | Self::Forged | Self::Over(Over::PasswordChanged) => failed(reason::BAD_TOKEN),
            // 57, "the user may not use the service".
            Self::Over(Over::Inactive) => Status::new(ErrorCode::ImForbidden, self.to_string()),
        }
    }
}

/// One line of the reference of errors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableRow {
    /// What was sent: `login`, `message`, `receipt`, `recall` or `edit`.
    pub operation: &'static str,
    /// The domain's words.
    pub cause: String,
    /// `errorCode` of the status.
    pub code: i32,
    /// The code's name.
    pub name: &'static str,
    /// `reason` of the status.
    pub reason: String,
}

impl TableRow {
    fn new(operation: &'static str, cause: String, code: ErrorCode, reason: Cow<'static, str>) -> Self {
        Self { operation, cause, code: code.into(), name: code.as_str_name(), reason: reason.into_owned() }
    }
}

/// What every cause becomes on MSYNC, for `docs/errors.md`.
#[must_use]
pub fn table() -> Vec<TableRow> {
    let login = login_faults().into_iter().map(|fault| {
        let Status { code, reason } = fault.status();
        TableRow::new("login", fault.to_string(), code, reason)
    });
    let row = |operation: Operation, cause: &Error| {
        let Refusal { code, reason } = refusal(operation, cause);
        TableRow::new(operation.title(), cause.to_string(), code, reason)
    };
    let causes = causes();
    let sent = causes.iter().flat_map(|cause| Operation::ALL.map(|operation| row(operation, cause)));
    login.chain(sent).collect()
}

fn login_faults() -> [LoginFault; 11] {
    [
        LoginFault::Unreadable,
        LoginFault::Parameter("the appKey is missing"),
        LoginFault::UnknownApp,
        LoginFault::NoToken,
        LoginFault::Nobody,
        LoginFault::OthersToken,
        LoginFault::Forged,
        LoginFault::Expired,
        LoginFault::Over(Over::Gone),
        LoginFault::Over(Over::Inactive),
        LoginFault::Over(Over::PasswordChanged),
    ]
}

/// One of each cause that something sent can meet.
fn causes() -> Vec<Error> {
    let carol = ClientId::parse("carol").ok().map(|client| Error::NotAMember { client });
    let others = [
        Error::ConversationNotFound,
        Error::TemporaryOver,
        Error::NotMember,
        Error::TemporaryIsFixed,
        Error::NotInRooms,
        Error::RoomIsOwnChoice,
        Error::ConversationFull { max: 500 },
        Error::MessageNotFound,
        Error::NotSender,
        Error::NotAllowed,
        Error::IsOwner,
        Error::Blocked,
        Error::RecallTooLate,
        Error::TooManyEdits { max: 10 },
        Error::NotInThePast,
        Error::TooManyAtOnce { max: 50 },
        Error::AccountNotFound,
        Error::AccountExists,
        Error::NotContact,
        Error::ListFull { max: 50 },
        Error::AlreadyRecalled,
        Error::EditDisabled,
        Error::RecallDisabled,
        Error::MessageTooLarge { size: 6_000, max: 5_120 },
        Error::Attribute(AttributeError::TooDeep),
        Error::AttributesTooLarge { size: 40_000, max: 32_768 },
        Error::QueryTooDear,
        Error::TooManyWatched { max: posthouse_core::presence::WATCHED_MAX },
        Error::TooFast { what: Rate::Messages, per_minute: 6_000 },
        Error::SessionTaken,
        Error::SessionOver,
        Error::Store(StoreFault::Full),
        Error::Store(StoreFault::Busy),
        Error::Store(StoreFault::Failed),
        Error::Store(StoreFault::Closing),
    ];
    carol.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_cause_and_every_line_has_words() {
        let table = table();
        assert_eq!(table.len(), 11 + 36 * 4);
        for row in table {
            assert!(row.code != 0 && !row.reason.is_empty() && !row.cause.is_empty(), "{row:?}");
            assert!(
                row.code != 7 || [reason::TOO_LARGE, reason::TOO_FAST].contains(&&*row.reason),
                "{row:?}"
            );
        }
    }

    #[test]
    fn texts_that_sdks_compare_are_exact() {
        let text = |operation, error: &Error| refusal(operation, error).reason.into_owned();
        for (operation, error, expected) in [
            (Operation::Send, Error::ConversationNotFound, "group not found"),
            (Operation::Send, Error::NotMember, "not in group or chatroom"),
            (Operation::Send, Error::Blocked, "blocked"),
            (Operation::Recall, Error::RecallTooLate, "exceed recall time limit"),
            (Operation::Recall, Error::RecallDisabled, "message recall disabled"),
            (Operation::Edit, Error::TooManyEdits { max: 10 }, "Sorry, edit limit reached"),
            (Operation::Edit, Error::MessageNotFound, "Sorry, message does not exist"),
            (Operation::Edit, Error::NotSender, "Sorry, You do not have permission"),
            (Operation::Edit, Error::EditDisabled, "Sorry, edit is not available"),
            (Operation::Send, Error::MessageTooLarge { size: 2, max: 1 }, "Sorry, data is too large"),
            (Operation::Send, Error::TooFast { what: Rate::Messages, per_minute: 60 }, "traffic limit"),
            (Operation::Edit, Error::TooFast { what: Rate::Messages, per_minute: 60 }, "traffic limit"),
        ] {
            assert_eq!(text(operation, &error), expected);
        }
    }

    #[test]
    fn only_a_text_that_settles_comes_with_code_7_and_a_busy_store_is_a_failure() {
        let large = Error::MessageTooLarge { size: 2, max: 1 };
        for operation in [Operation::Send, Operation::Receipt, Operation::Recall, Operation::Edit] {
            for error in
                [Error::NotAllowed, Error::SessionOver, Error::Store(StoreFault::Busy), large.clone()]
            {
                let refusal = refusal(operation, &error);
                assert!(refusal.code != ErrorCode::PermissionDenied || refusal.reason == reason::TOO_LARGE);
                assert!(refusal.code != ErrorCode::Ok && !refusal.reason.is_empty());
                // Words that SDKs look for anywhere in a text.
                assert!(
                    !refusal.reason.contains("moderation") && !refusal.reason.contains("auto create failed")
                );
            }
        }
    }

    #[test]
    fn each_login_fault_has_its_row() {
        let row = |fault: LoginFault| {
            let status = fault.status();
            (status.code as i32, status.reason.into_owned())
        };
        let failed = |text: &str| (1, text.to_owned());
        assert_eq!(row(LoginFault::Expired), failed("Sorry, token expired"));
        let bad = failed("Sorry, token or password does not match login info");
        assert_eq!(row(LoginFault::Forged), bad);
        assert_eq!(row(LoginFault::OthersToken), bad);
        assert_eq!(row(LoginFault::Over(Over::PasswordChanged)), bad);
        assert_eq!(row(LoginFault::Nobody), failed("Sorry, user not found"));
        assert_eq!(row(LoginFault::Over(Over::Inactive)).0, 12);
        assert_eq!(row(LoginFault::NoToken).0, 2);
        assert_eq!(row(LoginFault::Parameter("x")).0, 4);
    }

    #[test]
    fn a_store_that_fails_refuses_no_login() {
        let fault = Error::Store(StoreFault::Busy);
        assert_eq!(LoginFault::of(BadToken::Store(fault.clone())), Err(fault));
    }
}
