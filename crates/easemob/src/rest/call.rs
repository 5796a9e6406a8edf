//! One REST call, and its answer.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use posthouse_core::Posthouse;
use posthouse_core::account::Account;
use posthouse_core::app::App;
use posthouse_core::conversation::Authority;
use posthouse_core::id::{ClientId, DeviceId};
use posthouse_core::rate::Rate;
use posthouse_core::session::Caller;
use posthouse_core::time::Timestamp;
use posthouse_transport::http::json;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::arrival::Arrival;
use crate::auth::Bearer;
use crate::error::rest::{Fault, Task, fault};
use crate::query::{Query, client_of};
use crate::wire::name;
use crate::{Easemob, keys};

/// What a body may have beyond the largest message, in bytes: 600 receivers of 64 letters, or 60 users.
const BODY_SLACK: usize = 256 * 1024;
/// How long a body of JSON may take to arrive. SDKs give a call up sooner.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// What is to be done. Some HTTP stacks write methods in mixed case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Delete,
    Other,
}

impl Verb {
    pub(super) fn of(method: &str) -> Self {
        match method.to_ascii_uppercase().as_str() {
            "GET" | "HEAD" => Self::Get,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Other => "",
        }
    }
}

/// By which of its names a resource is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Prefix {
    /// Its own.
    None,
    /// `/sdk/…`, as SDKs do with a user's token.
    Sdk,
    /// `/rest/…`, as back ends do with the app's.
    Rest,
}

/// Where a call came to.
pub(super) struct Place {
    pub(super) org: String,
    pub(super) name: String,
    /// Scheme, host, organisation and application, as the caller wrote them.
    pub(super) base: String,
    /// The address without its query.
    pub(super) uri: String,
    /// Who asks, as far as addresses say.
    pub(super) client: IpAddr,
}

/// One call.
pub(super) struct Call {
    pub(super) gateway: Arc<Easemob>,
    pub(super) app: Arc<App>,
    pub(super) verb: Verb,
    pub(super) prefix: Prefix,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) place: Place,
    /// Who calls; `None` until that was asked, and for open calls.
    pub(super) who: Option<Bearer>,
    pub(super) began: Timestamp,
    /// Behind a lock only because bodies can't be looked at by two threads at once, which nobody does.
    body: Mutex<Option<Body>>,
}

impl Call {
    pub(super) fn new(
        gateway: Arc<Easemob>,
        app: Arc<App>,
        verb: Verb,
        prefix: Prefix,
        query: Query,
        headers: HeaderMap,
        place: Place,
        body: Body,
    ) -> Self {
        let began = gateway.posthouse().now();
        let body = Mutex::new(Some(body));
        Self { gateway, app, verb, prefix, query, headers, place, who: None, began, body }
    }

    pub(super) fn posthouse(&self) -> &Arc<Posthouse> {
        self.gateway.posthouse()
    }

    /// The app's `org#app`.
    pub(super) fn app_key(&self) -> &str {
        self.app.key(keys::APP_KEY).unwrap_or_default()
    }

    // ---- who ---------------------------------------------------------------------------------------

    /// The token that the call brings.
    pub(super) fn token(&self) -> Option<&str> {
        let value = self.headers.get("authorization")?.to_str().ok()?;
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
    }

    /// Whose token the call brings.
    pub(super) async fn bearer(&self) -> Result<Bearer, Fault> {
        let token = self.token().ok_or_else(Fault::no_token)?;
        let bearer = self.gateway.auth().bearer(self.posthouse(), &self.app, token).await;
        bearer.map_err(|bad| Fault::of_token(&bad))
    }

    /// The user who calls; `None` for the back end.
    pub(super) fn user(&self) -> Option<&ClientId> {
        match &self.who {
            Some(Bearer::User { account, .. }) => Some(&account.client),
            Some(Bearer::App) | None => None,
        }
    }

    /// Whether the back end calls.
    pub(super) fn by_server(&self) -> bool {
        self.who == Some(Bearer::App)
    }

    /// `Err` unless the back end calls.
    pub(super) fn for_server(&self) -> Result<(), Fault> {
        if self.by_server() { Ok(()) } else { Err(Fault::not_yours()) }
    }

    /// The account of the user whom the path names, which must be the caller's own unless the back end
    /// calls.
    pub(super) async fn account(&self, segment: &str) -> Result<Account, Fault> {
        let named = client_of(segment);
        match &self.who {
            // Read a moment ago, with the token.
            Some(Bearer::User { account, .. }) if named.as_ref() == Some(&account.client) => {
                Ok(account.clone())
            }
            Some(Bearer::User { .. }) => Err(Fault::not_yours()),
            Some(Bearer::App) | None => {
                let client = named.ok_or_else(Fault::no_user)?;
                self.account_of(&client).await?.ok_or_else(Fault::no_user)
            }
        }
    }

    /// The same, as one who acts.
    pub(super) async fn subject(&self, segment: &str) -> Result<Caller, Fault> {
        Ok(self.acting(self.account(segment).await?.client))
    }

    /// The account of any client.
    pub(super) async fn account_of(&self, client: &ClientId) -> Result<Option<Account>, Fault> {
        self.posthouse().account(&self.app, client).await.map_err(|error| fault(Task::Account, &error))
    }

    /// One who acts over REST.
    pub(super) fn acting(&self, client: ClientId) -> Caller {
        Caller::without_session(self.app.clone(), client)
    }

    /// The right by which a group is changed: the back end's own, or this one of the user.
    pub(super) fn authority(&self, of_user: Authority) -> Authority {
        if self.by_server() { Authority::Server } else { of_user }
    }

    /// The device that calls and need not be told of what it did.
    pub(super) fn device(&self) -> Option<DeviceId> {
        self.query.get("resource").and_then(|resource| DeviceId::parse(resource).ok())
    }

    /// Counts the call: a user's with whatever else the user does, a back end's by the kind of the call.
    pub(super) fn admit(&self, path: &[&str]) -> Result<(), Fault> {
        let admitted = match &self.who {
            Some(Bearer::User { account, .. }) => {
                let what = match path {
                    ["users", _, "messageroaming"] => Rate::History,
                    ["messages", ..] => Rate::Messages,
                    _ => Rate::Calls,
                };
                self.posthouse().admit(&self.app, &account.client, what)
            }
            Some(Bearer::App) => self.posthouse().admit_server(&self.app, kind(path)),
            None => Ok(()),
        };
        admitted.map_err(|error| fault(Task::Account, &error))
    }

    // ---- what --------------------------------------------------------------------------------------

    /// The body as it arrives, once.
    pub(super) fn take_body(&self) -> Body {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// The JSON of the body, whatever type it says it has: old SDKs say none. `None` if it is empty.
    pub(super) async fn value(&self) -> Result<Option<Value>, Fault> {
        let max = BODY_SLACK + self.app.settings.message_bytes_max as usize;
        let arrival = Arrival::new(self.take_body());
        let reading = axum::body::to_bytes(arrival.body(), max);
        let read = tokio::time::timeout(BODY_TIME_MAX, reading).await.map_err(|_| Fault::too_slow())?;
        let bytes: Bytes = match read {
            Ok(bytes) => bytes,
            Err(_) if arrival.has_paused() => return Err(Fault::too_slow()),
            // Whether it was too long or broke off is not told apart; who broke off reads no answer.
            Err(_) => {
                arrival.read_on().await;
                return Err(Fault::too_large());
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Fault::json(unreadable(&bytes, &error)))
    }

    /// The JSON object of the body.
    pub(super) async fn object(&self) -> Result<Map<String, Value>, Fault> {
        match self.value().await? {
            Some(Value::Object(object)) => Ok(object),
            Some(_) | None => Err(Fault::body()),
        }
    }

    /// The JSON object of a body that may be empty.
    pub(super) async fn object_or_empty(&self) -> Result<Map<String, Value>, Fault> {
        match self.value().await? {
            Some(Value::Object(object)) => Ok(object),
            None => Ok(Map::new()),
            Some(_) => Err(Fault::body()),
        }
    }

    // ---- answers -----------------------------------------------------------------------------------

    /// The whole answer to it.
    pub(super) fn answer(&self, outcome: Result<Reply, Fault>) -> Response {
        let now = self.posthouse().now();
        let duration = now.ms_since(self.began).max(0);
        match outcome {
            Ok(Reply::Raw(response)) => response,
            Ok(Reply::Bare(body)) => json(StatusCode::OK, &body),
            Ok(Reply::Enveloped { path, fields, data }) => {
                json(StatusCode::OK, &Envelope { data, body: self.envelope(path, fields, now, duration) })
            }
            Err(fault) => {
                metrics::counter!("posthouse_errors_total", "code" => fault.error).increment(1);
                if let Some(setting) = fault.setting {
                    tracing::info!(app = %self.app.id, setting, "refused: the setting switches it off");
                }
                refused(&fault, now, duration)
            }
        }
    }

    /// Everything that some class of answers has (rest 1.3): SDKs ignore what they don't know.
    fn envelope(
        &self,
        path: Option<String>,
        fields: Map<String, Value>,
        now: Timestamp,
        duration: i64,
    ) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("action".to_owned(), self.verb.action().into());
        body.insert("application".to_owned(), uuid(&["app", self.app.id.as_str()]).into());
        body.insert("applicationName".to_owned(), self.place.name.as_str().into());
        body.insert("organization".to_owned(), self.place.org.as_str().into());
        if let Some(path) = path {
            body.insert("path".to_owned(), path.into());
        }
        body.insert("uri".to_owned(), self.place.uri.as_str().into());
        if self.verb == Verb::Get {
            body.insert("params".to_owned(), self.query.params().into());
        }
        body.insert("entities".to_owned(), Value::Array(Vec::new()));
        body.insert("properties".to_owned(), json!({}));
        body.extend(fields);
        body.insert("timestamp".to_owned(), now.0.into());
        body.insert("duration".to_owned(), duration.into());
        body
    }

    /// An account as answers show it.
    pub(super) fn entity(&self, account: &Account) -> Value {
        let mut entity = json!({
            "uuid": self.uuid_of(account),
            "type": "user",
            "created": account.created_at.0,
            "modified": account.updated_at.0,
            "username": shown(&account.client),
            "activated": account.active,
        });
        if let Some(nickname) = &account.nickname {
            entity["nickname"] = nickname.as_ref().into();
        }
        entity
    }

    /// A text in the form of a UUID that stays the same for an account.
    pub(super) fn uuid_of(&self, account: &Account) -> String {
        uuid(&["user", self.app.id.as_str(), &account.number.to_string()])
    }
}

/// The kind of a back end's call: the hosted cloud counts each address of its API by itself, which here
/// is the family of the resource.
fn kind(path: &[&str]) -> &'static str {
    match path {
        ["messages", "chatgroups", ..] => "messages/chatgroups",
        ["messages", ..] => "messages",
        ["users", _, "messageroaming"] | ["message", ..] => "history",
        ["users", _, "contacts" | "blocks", ..] => "contacts",
        ["users", _, "user_channels" | "user_channel", ..] => "lists",
        ["users", ..] => "users",
        ["chatgroups" | "publicchatgroups", ..] => "groups",
        ["chatfiles", ..] => "files",
        _ => "others",
    }
}

/// The whole body of an answer.
#[derive(Serialize)]
struct Envelope {
    #[serde(flatten)]
    body: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

/// What a call is answered with.
pub(super) enum Reply {
    /// The usual envelope around these fields.
    Enveloped {
        path: Option<String>,
        fields: Map<String, Value>,
        /// `data` that is long, and JSON already.
        data: Option<Box<RawValue>>,
    },
    /// These fields and nothing else.
    Bare(Map<String, Value>),
    /// No JSON at all.
    Raw(Response),
}

impl Reply {
    /// An empty envelope.
    pub(super) fn new() -> Self {
        Self::Enveloped { path: None, fields: Map::new(), data: None }
    }

    /// With the name of the resource's family.
    pub(super) fn of(path: impl Into<String>) -> Self {
        Self::Enveloped { path: Some(path.into()), fields: Map::new(), data: None }
    }

    /// With one field more.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        match &mut self {
            Self::Enveloped { fields, .. } | Self::Bare(fields) => {
                fields.insert(name.to_owned(), value.into());
            }
            Self::Raw(_) => {}
        }
        self
    }

    /// With `data`.
    pub(super) fn data(self, data: impl Into<Value>) -> Self {
        self.with("data", data)
    }

    /// With `data` that is long, written once and not kept as a tree.
    pub(super) fn long_data(mut self, long: &impl Serialize) -> Self {
        if let Self::Enveloped { data, .. } = &mut self {
            *data = serde_json::value::to_raw_value(long).ok();
        }
        self
    }

    /// With a list of `data` and how many they are.
    pub(super) fn listed(self, data: Vec<Value>) -> Self {
        let count = data.len();
        self.with("data", data).with("count", count)
    }

    /// With `entities` and how many they are.
    pub(super) fn entities(self, entities: Vec<Value>) -> Self {
        let count = entities.len();
        self.with("entities", entities).with("count", count)
    }

    /// With `cursor`, which the last page has not.
    pub(super) fn cursor(self, cursor: Option<String>) -> Self {
        match cursor {
            Some(cursor) => self.with("cursor", cursor),
            None => self,
        }
    }
}

/// The answer of a refusal.
pub(super) fn refused(fault: &Fault, now: Timestamp, duration: i64) -> Response {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, &fault.body_json(now.0, duration))
}

/// The name of a client on this wire.
pub(super) fn shown(client: &ClientId) -> String {
    name::name_of(client.as_str())
}

/// A text in the form of a UUID (version 8, of one's own making) that depends on `parts` only.
pub(super) fn uuid(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let bits = u128::from_be_bytes(bytes);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        bits >> 80 & 0xffff,
        bits >> 64 & 0xffff,
        bits >> 48 & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

/// What is wrong with a body, in the words of the original as far as they are known.
fn unreadable(bytes: &[u8], error: &serde_json::Error) -> String {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
    let at = line.and_then(|line| line.get(error.column().saturating_sub(1)));
    match at.filter(|_| !error.is_eof()) {
        Some(byte) if byte.is_ascii_graphic() => {
            format!("Unexpected character ('{}' (code {byte})): {error}", char::from(*byte))
        }
        Some(byte) => format!("Unexpected character (code {byte}): {error}"),
        None => format!("Unexpected end-of-input: {error}"),
    }
}

// ---- fields of bodies -------------------------------------------------------------------------------

/// A text, absent or null as `None`.
pub(super) fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, Fault> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::body()),
    }
}

/// True or false, absent or null as `None`; also as text, as some back ends write it.
pub(super) fn flag(body: &Map<String, Value>, field: &str) -> Result<Option<bool>, Fault> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(Fault::body()),
        },
        Some(_) => Err(Fault::body()),
    }
}

/// A list of texts, absent or null as `None`.
pub(super) fn texts(body: &Map<String, Value>, field: &str) -> Result<Option<Vec<String>>, Fault> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().map(Some).ok_or_else(Fault::body)
        }
        Some(_) => Err(Fault::body()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn uuids_look_like_some_and_depend_on_what_they_are_of() {
        let one = uuid(&["user", "a1", "7"]);
        assert_eq!(one, uuid(&["user", "a1", "7"]));
        assert_ne!(one, uuid(&["user", "a17", ""]));
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&one[14..15], "8");
    }

    #[test]
    fn methods_are_known_in_any_case() {
        assert_eq!(Verb::of("Post"), Verb::Post);
        assert_eq!(Verb::of("dELETE"), Verb::Delete);
        assert_eq!(Verb::of("PATCH"), Verb::Other);
    }

    #[test]
    fn a_broken_body_is_told_where_it_breaks() {
        let words =
            |text: &str| unreadable(text.as_bytes(), &serde_json::from_str::<Value>(text).unwrap_err());
        assert!(words("=").starts_with("Unexpected character ('=' (code 61)): "), "{}", words("="));
        assert!(words("{").starts_with("Unexpected end-of-input"));
    }

    #[test]
    fn fields_of_the_wrong_type_are_refused() {
        let body = json!({"a": "x", "n": null, "b": true, "t": "TRUE", "l": ["x"], "m": [1]});
        let body = body.as_object().unwrap();
        assert_eq!(text(body, "a"), Ok(Some("x")));
        assert_eq!((text(body, "n"), text(body, "none")), (Ok(None), Ok(None)));
        assert!(text(body, "b").is_err());
        assert_eq!((flag(body, "b"), flag(body, "t")), (Ok(Some(true)), Ok(Some(true))));
        assert!(flag(body, "a").is_err());
        assert_eq!(texts(body, "l"), Ok(Some(vec!["x".to_owned()])));
        assert!(texts(body, "m").is_err());
    }

    #[test]
    fn an_envelope_is_filled_field_by_field() {
        let reply = Reply::of("/users").listed(vec![json!("a")]).cursor(None).with("status", "ok");
        let Reply::Enveloped { path, fields, .. } = reply else { panic!("it is an envelope") };
        assert_eq!(path.as_deref(), Some("/users"));
        assert_eq!(Value::Object(fields), json!({"data": ["a"], "count": 1, "status": "ok"}));
    }
}
