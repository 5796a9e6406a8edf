//! REST errors: status, name, and the texts that SDKs compare (rest 6.2 and 6.3, client 10.3).

use std::borrow::Cow;

use posthouse_core::Error;
use posthouse_core::error::StoreFault;
use serde_json::{Map, Value};

use crate::auth::BadToken;
use crate::error::setting_of;
use crate::query::{BadParameter, CONVERSATIONS_PAGE_MAX};
use crate::wire::bodies::Refused;

/// The setting that history hangs on.
const HISTORY: &str = "message_roaming";

/// A refusal over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The name of the error.
    pub(crate) error: &'static str,
    /// The hosted cloud's name of the exception behind it.
    pub(crate) exception: &'static str,
    /// The words, byte by byte those of the original where it has some.
    pub(crate) description: Cow<'static, str>,
    /// The number that newer services add.
    pub(crate) code: Option<u32>,
    /// The setting that switched it off, for the log.
    pub(crate) setting: Option<&'static str>,
}

/// What was being done when the domain refused: the same cause has other words elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task<'a> {
    /// Something with an account.
    Account,
    /// Something with contacts and blocks.
    Contact,
    /// Giving a contact another name.
    Remark,
    /// Sending or importing messages.
    Send,
    /// Recalling a message.
    Recall,
    /// Reading or arranging the conversation list.
    List,
    /// Something in a group, for this user; also reading and deleting its history.
    Group {
        /// The group's number.
        group: &'a str,
        /// The user's name.
        user: &'a str,
    },
    /// Keeping or fetching a file.
    File,
}

impl Fault {
    fn new(status: u16, error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            error,
            exception: exception(error),
            description: description.into(),
            code: None,
            setting: None,
        }
    }

    fn with_code(self, code: u32) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same, because an app's setting says so.
    pub(crate) fn by_setting(self, setting: &'static str) -> Self {
        Self { setting: Some(setting), ..self }
    }

    // ---- who may (rest 2.3) ------------------------------------------------------------------------

    /// No app with this appKey. `path` is that of the request, without a leading slash.
    pub(crate) fn no_app(org: &str, app: &str, path: &str) -> Self {
        let words = format!("Could not find application for {org}/{app} from URI: {path}");
        Self::new(404, "organization_application_not_found", words)
    }

    /// No token, or the token of an account that is gone or has changed.
    pub(crate) fn no_token() -> Self {
        Self::new(401, "unauthorized", "Unable to authenticate (OAuth)")
    }

    /// Something of another user, or of the back end alone.
    pub(crate) fn not_yours() -> Self {
        Self::new(401, "auth_bad_access_token", "Unable to authenticate due to corrupt access token")
    }

    /// The token is not good.
    pub(crate) fn of_token(bad: &BadToken) -> Self {
        match bad {
            BadToken::Malformed => Self::not_yours(),
            BadToken::Foreign => Self::new(401, "auth_bad_access_token", "Unable to authenticate"),
            BadToken::Expired => {
                Self::new(401, "unauthorized", "Unable to authenticate due to expired access token")
            }
            BadToken::Over(_) => Self::no_token(),
            BadToken::Store(error) => fault(Task::Account, error),
        }
    }

    // ---- tokens and accounts (rest 2.1, 3.1) -------------------------------------------------------

    /// A token that can't be given for what was brought.
    pub(crate) fn grant(words: &'static str) -> Self {
        Self::new(400, "invalid_grant", words)
    }

    /// Nobody of this name can log in.
    pub(crate) fn nobody_to_log_in() -> Self {
        Self::new(404, "invalid_grant", "user not found")
    }

    /// No user of this name, where its password or a token is asked for by the back end.
    pub(crate) fn no_user_entity() -> Self {
        Self::new(404, "entity_not_found", "User null not found")
    }

    /// Registering without the right to.
    pub(crate) fn not_registered(words: &'static str) -> Self {
        Self::new(401, "unauthorized", words)
    }

    /// The name is taken. `app` is the application's UUID.
    pub(crate) fn registered_already(app: &str, user: &str) -> Self {
        let words = format!(
            "Application {app} Entity user requires that property named username be unique, value of {user} exists"
        );
        Self::new(400, "duplicate_unique_property_exists", words)
    }

    /// Somebody else took the name in this moment.
    pub(crate) fn registered_meanwhile() -> Self {
        Self::new(409, "concurrent_operation_error", "concurrency create app user failed")
    }

    // ---- requests ----------------------------------------------------------------------------------

    /// Nothing at this address.
    pub(crate) fn no_resource() -> Self {
        Self::new(404, "service_resource_not_found", "Service resource not found")
    }

    /// No such user.
    pub(crate) fn no_user() -> Self {
        Self { exception: "UserNotFoundException", ..Self::no_resource() }
    }

    /// Something at this address, but not with this method.
    pub(crate) fn no_method() -> Self {
        Self::new(405, "method_not_allowed", "Method Not Allowed")
    }

    /// Fields of the wrong type, or a body that is no object.
    pub(crate) fn body() -> Self {
        let words = "Request body is invalid. Please check body is correct.";
        Self::new(400, "invalid_request_body", words)
    }

    /// A body that is no JSON; in words that say where.
    pub(crate) fn json(words: String) -> Self {
        Self::new(400, "json_parse", words)
    }

    /// A body that is larger than any that is asked for.
    pub(crate) fn too_large() -> Self {
        Self::new(413, "request_entity_too_large", "Request Entity Too Large")
    }

    /// A body that doesn't come.
    pub(crate) fn too_slow() -> Self {
        Self::new(408, "request_timeout", "Request Timeout")
    }

    /// Too much is being done already; try again.
    pub(crate) fn busy(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, "service_unavailable", words)
    }

    /// Something went wrong that is not the caller's fault.
    pub(crate) fn internal() -> Self {
        Self::new(500, "internal_error", "internal error")
    }

    /// A parameter that can't be what it has to be.
    pub(crate) fn argument(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "illegal_argument", words)
    }

    /// A field of a group that can't be what it has to be.
    pub(crate) fn parameter(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "invalid_parameter", words)
    }

    /// Not allowed, in words.
    pub(crate) fn forbidden(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "forbidden_op", words)
    }

    /// More than there may be, in words.
    pub(crate) fn exceeds(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "exceed_limit", words)
    }

    /// Nothing by this name, in words.
    pub(crate) fn not_found(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(404, "resource_not_found", words)
    }

    // ---- switches (rest 5.7) -----------------------------------------------------------------------

    /// Something that this server doesn't offer.
    pub(crate) fn not_open() -> Self {
        Self::new(403, "function_not_open_error", "service not open!").with_code(15_002)
    }

    /// Something that the app's `setting` switches off.
    pub(crate) fn switched_off(setting: &'static str) -> Self {
        Self::not_open().by_setting(setting)
    }

    /// Reading history is switched off.
    pub(crate) fn history_not_open() -> Self {
        let words = "messageroaming function not open";
        Self::new(403, "function_not_open_error", words).with_code(15_001).by_setting(HISTORY)
    }

    /// Deleting from history is switched off. (The names of these errors have blanks.)
    pub(crate) fn removal_not_open() -> Self {
        Self::new(400, "service open exception", "this appKey not open message roaming").by_setting(HISTORY)
    }

    /// More messages to be deleted at once than there may be.
    pub(crate) fn too_many_removed() -> Self {
        Self::new(400, "param exception", "delete msg list limit can not greater than 50")
    }

    /// Something is missing or wrong in a request to delete from history.
    pub(crate) fn bad_removal() -> Self {
        Self::new(400, "Bad Request", "Bad Request")
    }

    // ---- messages ----------------------------------------------------------------------------------

    /// A message that can't be sent like this.
    pub(crate) fn send(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "message_send_error", words)
    }

    /// A request to recall that lacks something.
    pub(crate) fn recall(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "message_recall_error", words)
    }

    /// No such message to recall.
    pub(crate) fn no_recall() -> Self {
        Self::new(403, "message_recall_error", "not_found msg")
    }

    // ---- limits ------------------------------------------------------------------------------------

    /// Too many calls in a short time. SDKs look for this text in it and then say "limit" (client 10.3).
    pub(crate) fn too_fast() -> Self {
        Self::new(429, "reach_limit", "The request has reached the maximum limit")
    }

    // ---- lists -------------------------------------------------------------------------------------

    /// No such conversation in the list.
    pub(crate) fn no_conversation() -> Self {
        Self::not_found("the conversation does not exist in the list of the user").with_code(91_001)
    }

    // ---- groups ------------------------------------------------------------------------------------

    /// No such group.
    pub(crate) fn no_group(group: &str) -> Self {
        Self::not_found(format!("grpID {group} does not exist!"))
    }

    /// No such group, where its members are asked for.
    pub(crate) fn no_group_of_members(group: &str) -> Self {
        Self { description: format!("do not find this group:{group}").into(), ..Self::no_resource() }
    }

    /// No such user, where a group is made or filled.
    pub(crate) fn no_username(user: &str) -> Self {
        Self::not_found(format!("username {user} doesn't exist!"))
    }

    /// The user is in no such group.
    pub(crate) fn not_in(user: &str) -> Self {
        Self::forbidden(format!("users [{user}] are not members of this group!"))
    }

    /// The user is in the group already. (The text ends with a line feed.)
    pub(crate) fn already_in(user: &str, group: &str) -> Self {
        Self::forbidden(format!("can not join this group, reason:user: {user} already in group: {group}\n"))
    }

    // ---- files -------------------------------------------------------------------------------------

    /// A file larger than the app allows. SDKs know this number, with 400 and no other status.
    pub(crate) fn file_too_large() -> Self {
        Self::new(400, "illegal_argument", "file exceeding maximum limit").with_code(14_403)
    }

    /// No such file.
    pub(crate) fn no_file() -> Self {
        Self::new(404, "entity_not_found", "file may not exists")
    }

    /// A file that its secret opens, without it.
    pub(crate) fn no_secret() -> Self {
        Self::forbidden("chatfile no permission")
    }

    // ---- the answer --------------------------------------------------------------------------------

    /// The answer's body at the time `timestamp`, `duration` ms after the request came.
    pub(crate) fn body_json(&self, timestamp: i64, duration: i64) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("error".to_owned(), self.error.into());
        body.insert("exception".to_owned(), self.exception.into());
        body.insert("timestamp".to_owned(), timestamp.into());
        body.insert("duration".to_owned(), duration.into());
        if let Some(code) = self.code {
            body.insert("error_code".to_owned(), code.into());
        }
        body.insert("error_description".to_owned(), self.description.as_ref().into());
        body
    }
}

/// One line of the reference of errors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultRow {
    /// When it is answered.
    pub when: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// `error`.
    pub error: &'static str,
    /// `error_description`; an example where it names something.
    pub description: String,
    /// `error_code`.
    pub code: Option<u32>,
}

/// What REST answers whatever is asked, for `docs/errors.md`; a parameter's own words stand beside its
/// parser.
#[must_use]
pub fn table() -> Vec<FaultRow> {
    let page = BadParameter::Range { name: "pageSize", min: 1, max: CONVERSATIONS_PAGE_MAX };
    [
        ("no app with this appKey", Fault::no_app("ORG", "APP", "ORG/APP/users")),
        ("no token, or one of an account that is gone or changed", Fault::no_token()),
        ("a token that can't be read, of another app, or for something of another user", Fault::not_yours()),
        ("a token that this server did not make", Fault::of_token(&BadToken::Foreign)),
        ("a token whose time is over", Fault::of_token(&BadToken::Expired)),
        ("nothing at this address", Fault::no_resource()),
        ("no such user in the path", Fault::no_user()),
        ("another method than this address has", Fault::no_method()),
        ("a body that is no object, or with fields of the wrong type", Fault::body()),
        ("a body that is no JSON", Fault::json("Unexpected character …".to_owned())),
        ("a parameter out of its range", page.into()),
        ("a larger body than any that is asked for", Fault::too_large()),
        ("a body that doesn't come", Fault::too_slow()),
        ("the server is busy or stopping", Fault::busy("too many files are being uploaded")),
        ("the server failed", Fault::internal()),
        ("too many calls in a short time", Fault::too_fast()),
        ("not offered, or switched off", Fault::not_open()),
        ("`message_roaming` is off: reading", Fault::history_not_open()),
        ("`message_roaming` is off: deleting", Fault::removal_not_open()),
        ("more than 50 ids", Fault::too_many_removed()),
        ("a deletion without ids, time or conversation", Fault::bad_removal()),
        ("no such group", Fault::no_group("GROUP")),
        ("no such group, asked for its members", Fault::no_group_of_members("GROUP")),
        ("no such user, to be put into a group", Fault::no_username("USER")),
        ("the user is not in the group", Fault::not_in("USER")),
        ("no such message to recall", Fault::no_recall()),
        ("no such conversation in the list", Fault::no_conversation()),
        ("a file larger than the app allows", Fault::file_too_large()),
        ("no such file", Fault::no_file()),
        ("a file that needs its secret", Fault::no_secret()),
    ]
    .map(|(when, fault)| FaultRow {
        when,
        status: fault.status,
        error: fault.error,
        description: fault.description.into_owned(),
        code: fault.code,
    })
    .into()
}

/// What callers are told of a refusal of the domain.
pub(crate) fn fault(task: Task<'_>, error: &Error) -> Fault {
    Fault { setting: setting_of(error), ..told(task, error) }
}

fn told(task: Task<'_>, error: &Error) -> Fault {
    let words = || error.to_string();
    match error {
        Error::ConversationNotFound | Error::TemporaryOver => match task {
            Task::Group { group, .. } => Fault::no_group(group),
            Task::Recall => Fault::no_recall(),
            Task::List => Fault::no_conversation(),
            Task::Account | Task::Contact | Task::Remark | Task::Send | Task::File => Fault::no_resource(),
        },
        Error::NotMember => match task {
            Task::Group { user, .. } => Fault::not_in(user),
            Task::List => Fault::no_conversation(),
            Task::Account | Task::Contact | Task::Remark | Task::Send | Task::Recall | Task::File => {
                Fault::forbidden(words())
            }
        },
        Error::NotAMember { client } => match task {
            Task::Group { group, .. } => {
                Fault::not_found(format!("user: {} doesn't exist in group: {group}", shown(client.as_str())))
            }
            Task::Account
            | Task::Contact
            | Task::Remark
            | Task::Send
            | Task::Recall
            | Task::List
            | Task::File => Fault::not_found(words()),
        },
        Error::MessageNotFound | Error::AlreadyRecalled => match task {
            Task::Recall => Fault::no_recall(),
            Task::Account
            | Task::Contact
            | Task::Remark
            | Task::Send
            | Task::List
            | Task::Group { .. }
            | Task::File => Fault::not_found(words()),
        },
        Error::ListFull { .. } => match task {
            Task::List => Fault::exceeds(words()).with_code(91_002),
            Task::Contact | Task::Remark => Fault::exceeds("Inviter's contact max count."),
            Task::Account | Task::Send | Task::Recall | Task::Group { .. } | Task::File => {
                Fault::exceeds(words())
            }
        },
        Error::NotContact => match task {
            Task::Remark => {
                Fault::argument("updateRemark | they are not friends, please add as a friend first.")
            }
            Task::Account
            | Task::Contact
            | Task::Send
            | Task::Recall
            | Task::List
            | Task::Group { .. }
            | Task::File => Fault::no_resource(),
        },
        Error::ConversationFull { .. } => Fault::exceeds("members size is greater than max user size !"),
        Error::IsOwner => Fault::forbidden("forbidden operation on group owner!"),
        Error::RecallTooLate => Fault::new(403, "message_recall_error", "exceed recall time limit"),
        Error::RecallDisabled => Fault::forbidden("message recall service is unopened"),
        Error::EditDisabled => {
            Fault::new(403, "message_rewrite_error", "The rewrite message feature is not open.")
        }
        Error::TooManyEdits { .. } => {
            let words = "The message has reached its edit limit and cannot be modified further.";
            Fault::new(403, "message_rewrite_error", words)
        }
        Error::MessageTooLarge { .. } => Fault::send("message is too large"),
        Error::TooManyAtOnce { .. } => Fault::too_many_removed(),
        Error::TooFast { .. } => Fault::too_fast(),
        Error::AccountNotFound => Fault::no_user(),
        Error::AccountExists => Fault::new(400, "duplicate_unique_property_exists", words()),
        Error::NotInThePast => Fault::argument(words()),
        Error::Attribute(_) | Error::AttributesTooLarge { .. } => Fault::parameter(words()),
        Error::TemporaryIsFixed
        | Error::NotInRooms
        | Error::RoomIsOwnChoice
        | Error::NotSender
        | Error::NotAllowed
        | Error::Blocked => Fault::forbidden(words()),
        Error::Store(StoreFault::Busy | StoreFault::Closing) => Fault::busy(words()),
        Error::Store(StoreFault::Full | StoreFault::Failed)
        | Error::QueryTooDear
        | Error::TooManyWatched { .. }
        | Error::SessionTaken
        | Error::SessionOver => Fault::new(500, "internal_error", words()),
    }
}

impl From<BadParameter> for Fault {
    fn from(bad: BadParameter) -> Self {
        Self::argument(bad.to_string())
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::new(400, refused.error(), refused.to_string())
    }
}

/// The name of a client on this wire.
fn shown(id: &str) -> String {
    crate::wire::name::name_of(id)
}

/// The exceptions that the hosted cloud names with its errors, as far as they were seen (rest 1.4).
fn exception(error: &'static str) -> &'static str {
    match error {
        "unauthorized" | "auth_bad_access_token" => "org.apache.usergrid.rest.exceptions.SecurityException",
        "forbidden_op" | "exceed_limit" => "EasemobForbiddenOpException",
        "function_not_open_error" => "FunctionNotOpenException",
        "illegal_argument" => "IllegalArgumentException",
        "invalid_parameter" => "InvalidParameterException",
        "required_property_not_found" => "RequiredPropertyNotFoundException",
        "entity_not_found" => "EntityNotFoundException",
        "resource_not_found" | "service_resource_not_found" => "ServiceResourceNotFoundException",
        "organization_application_not_found" => "OrganizationApplicationNotFoundException",
        "json_parse" => "JsonParseException",
        _ => "RestException",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Over;

    #[test]
    fn texts_that_sdks_compare_are_exact() {
        let group = Task::Group { group: "1001", user: "bob" };
        let text = |task, error: &Error| {
            let fault = fault(task, error);
            (fault.status, fault.description.into_owned())
        };
        for (task, error, status, words) in [
            (group, Error::ConversationNotFound, 404, "grpID 1001 does not exist!"),
            (group, Error::NotMember, 403, "users [bob] are not members of this group!"),
            (group, Error::ConversationFull { max: 2 }, 403, "members size is greater than max user size !"),
            (group, Error::IsOwner, 403, "forbidden operation on group owner!"),
            (Task::Recall, Error::MessageNotFound, 403, "not_found msg"),
            (Task::Recall, Error::RecallTooLate, 403, "exceed recall time limit"),
            (Task::Recall, Error::RecallDisabled, 403, "message recall service is unopened"),
            (Task::Send, Error::MessageTooLarge { size: 2, max: 1 }, 400, "message is too large"),
            (Task::Account, Error::AccountNotFound, 404, "Service resource not found"),
            (
                Task::Remark,
                Error::NotContact,
                400,
                "updateRemark | they are not friends, please add as a friend first.",
            ),
        ] {
            assert_eq!(text(task, &error), (status, words.to_owned()));
        }
    }

    #[test]
    fn numbers_that_sdks_compare_are_exact() {
        assert_eq!(fault(Task::List, &Error::ConversationNotFound).code, Some(91_001));
        assert_eq!(fault(Task::List, &Error::NotMember).status, 404);
        let full = fault(Task::List, &Error::ListFull { max: 50 });
        assert_eq!((full.status, full.code), (403, Some(91_002)));
        assert_eq!(Fault::history_not_open().code, Some(15_001));
        assert_eq!((Fault::file_too_large().status, Fault::file_too_large().code), (400, Some(14_403)));
    }

    #[test]
    fn a_user_is_missing_otherwise_than_an_address() {
        assert_eq!(Fault::no_user().exception, "UserNotFoundException");
        assert_ne!(Fault::no_resource().exception, Fault::no_user().exception);
    }

    #[test]
    fn every_fault_of_a_token_is_401_but_a_busy_store() {
        for bad in [BadToken::Malformed, BadToken::Foreign, BadToken::Expired, BadToken::Over(Over::Gone)] {
            assert_eq!(Fault::of_token(&bad).status, 401);
        }
        assert_eq!(Fault::of_token(&BadToken::Store(Error::Store(StoreFault::Busy))).status, 503);
    }

    #[test]
    fn the_body_has_what_sdks_read() {
        let body = Fault::history_not_open().body_json(1_677_813_683_184, 0);
        let wanted = serde_json::json!({
            "error": "function_not_open_error", "exception": "FunctionNotOpenException",
            "timestamp": 1_677_813_683_184_i64, "duration": 0, "error_code": 15_001,
            "error_description": "messageroaming function not open",
        });
        assert_eq!(Value::Object(body), wanted);
        assert!(!Fault::no_token().body_json(0, 0).contains_key("error_code"));
    }
}
