//! What back ends say: sending, recalling and importing messages (rest 3.3).

use std::collections::HashMap;
use std::sync::Arc;

use posthouse_core::Error;
use posthouse_core::conversation::Authority;
use posthouse_core::id::{ClientId, MessageId};
use posthouse_core::message::{
    Body, ImportMessage, Keep, Mentions, Origin, PatchMessage, PostMessage, Target,
};
use posthouse_core::session::Caller;
use posthouse_core::time::Timestamp;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::call::{Call, Reply, Verb, flag, text, texts};
use super::conversations;
use crate::error::rest::{Fault, Task, fault};
use crate::inbound;
use crate::query::{client_of, group_of, whole};
use crate::wire::bodies::{self, Refused};
use crate::wire::meta;
use crate::wire::proto::MessageBody;
use crate::wire::proto::message_body::{MessageConfig, Type as BodyType};
use crate::wire::proto::meta::NameSpace;

/// Who speaks where nobody is named.
const SENDER_DEFAULT: &str = "admin";
/// Users and groups that one call sends to.
const USERS_MAX: usize = 600;
const GROUPS_MAX: usize = 3;
/// Messages of one call that wait for the store at a time.
const POSTED_AT_ONCE: usize = 64;
/// Messages of one call that are recalled.
const RECALLED_MAX: usize = 100;

/// Calls below `/messages`, all of them the back end's.
pub(super) async fn messages(call: &Call, path: &[&str]) -> Result<Reply, Fault> {
    call.for_server()?;
    match (path, call.verb) {
        ([], Verb::Post) => send_old(call).await,
        (["users"], Verb::Post) => send(call, To::Users).await,
        (["chatgroups"], Verb::Post) => send(call, To::Groups).await,
        (["users", "import"], Verb::Post) => import(call, To::Users).await,
        (["chatgroups", "import"], Verb::Post) => import(call, To::Groups).await,
        (["msg_recall"], Verb::Post) => recall(call).await,
        (["recall"], Verb::Post) => recall_old(call).await,
        (["rewrite", _], Verb::Put) => {
            Err(Fault { setting: None, ..fault(Task::Send, &Error::EditDisabled) })
        }
        (["chatrooms", "broadcast"], Verb::Post) => {
            Err(Fault::forbidden("message broadcast service is unopened"))
        }
        (["chatrooms"] | ["chatrooms" | "chatgroups", "users"], Verb::Post) => Err(Fault::not_open()),
        (
            []
            | ["users" | "chatgroups" | "chatrooms" | "msg_recall" | "recall"]
            | ["users" | "chatgroups", "import"]
            | ["chatrooms" | "chatgroups", "users"]
            | ["chatrooms", "broadcast"]
            | ["rewrite", _],
            _,
        ) => Err(Fault::no_method()),
        _ => Err(Fault::no_resource()),
    }
}

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum To {
    Users,
    Groups,
}

impl To {
    const fn family(self) -> &'static str {
        match self {
            Self::Users => "/messages/users",
            Self::Groups => "/messages/chatgroups",
        }
    }

    const fn max(self) -> usize {
        match self {
            Self::Users => USERS_MAX,
            Self::Groups => GROUPS_MAX,
        }
    }

    const fn body_type(self) -> BodyType {
        match self {
            Self::Users => BodyType::Chat,
            Self::Groups => BodyType::Groupchat,
        }
    }

    /// What `name` means; `None` for what can't exist.
    fn target(self, name: &str) -> Option<Target> {
        match self {
            Self::Users => client_of(name).map(Target::Client),
            Self::Groups => group_of(name).map(Target::Conversation),
        }
    }
}

// ---- sending ----------------------------------------------------------------------------------------

/// A message to be sent, ready but for its address.
struct Sending {
    from: ClientId,
    /// The sender's name, as it is shown.
    name: String,
    body: MessageBody,
    keep: Keep,
    /// Whether the sender's own devices get a copy. In groups they always do.
    copied: bool,
}

impl Sending {
    /// Checks in the order of the documentation, but for the receivers.
    fn parse(request: &Map<String, Value>, from: ClientId, bytes_max: usize) -> Result<Self, Refused> {
        let mut body = bodies::from_rest(request, bytes_max)?;
        if request.get("need_group_ack").and_then(Value::as_bool) == Some(true) {
            body.msg_config = Some(MessageConfig { allow_group_ack: Some(true) });
        }
        let is_command = request.get("type").and_then(Value::as_str) == Some("cmd");
        let is_online = request.get("routetype").and_then(Value::as_str) == Some("ROUTE_ONLINE");
        let keep = match (is_online, is_command) {
            (true, _) => Keep::Transient,
            (false, true) => Keep::Queued,
            (false, false) => Keep::Stored,
        };
        let copied = flag(request, "sync_device").ok().flatten().unwrap_or_default();
        Ok(Self { name: super::call::shown(&from), from, body, keep, copied })
    }

    fn post(&self, to: To, receiver: &str, target: Target) -> PostMessage {
        let body = bodies::address(self.body.clone(), to.body_type(), &self.name, receiver);
        PostMessage {
            to: target,
            origin: Origin::Server,
            mentions: inbound::mentions_of(&body),
            body: stored(&body, (to == To::Users && !self.copied).then_some(receiver)),
            token: None,
            receipt: to == To::Users,
            keep: self.keep,
            extra_bytes: 0,
        }
    }
}

/// A body in the form in which messages are stored, perhaps for one user's devices only. Back ends have
/// no device.
fn stored(body: &MessageBody, only_for: Option<&str>) -> Body {
    let bytes = meta::compose(NameSpace::Chat, &body.encode_to_vec(), "");
    let bytes = only_for.map_or_else(|| bytes.clone(), |user| meta::for_only(&bytes, user));
    inbound::body_of(bytes, body)
}

/// Who speaks. Nobody asks whether the sender exists.
fn sender(request: &Map<String, Value>, empty: fn() -> Fault) -> Result<ClientId, Fault> {
    let name = match text(request, "from")? {
        Some("") => return Err(empty()),
        Some(name) => name,
        None if request.contains_key("from") => return Err(empty()),
        None => SENDER_DEFAULT,
    };
    client_of(name).ok_or_else(|| Fault::argument(format!("username [{name}] is not legal")))
}

/// The receivers, of whom nobody asks whether they exist.
fn receivers(request: &Map<String, Value>, field: &str, max: usize) -> Result<Vec<String>, Fault> {
    let names = texts(request, field)?.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| Fault::send("param to can't be empty"))?;
    if names.len() > max {
        return Err(Fault::send(format!("params to's size can't exceed limit {max}")));
    }
    if names.iter().any(String::is_empty) {
        return Err(Fault::send("param to can't be empty"));
    }
    Ok(names)
}

async fn send(call: &Call, to: To) -> Result<Reply, Fault> {
    let request = call.object().await?;
    let from = sender(&request, || Fault::send("param from can't be empty"))?;
    let names = receivers(&request, "to", to.max())?;
    for field in ["sync_device", "need_group_ack"] {
        flag(&request, field)?;
    }
    text(&request, "routetype")?;
    let sending = Sending::parse(&request, from, call.app.settings.message_bytes_max as usize)?;
    // Hiding a message from some of its receivers' histories isn't offered; saying nothing about it
    // would show them what was to be hidden.
    if texts(&request, "roam_ignore_users")?.is_some_and(|users| !users.is_empty()) {
        return Err(Fault::not_open());
    }
    let ids = post_all(call, &sending, to, &names).await?;
    let data: Map<String, Value> =
        ids.into_iter().map(|(name, id)| (name, id.as_u64().to_string().into())).collect();
    Ok(Reply::of(to.family()).data(data))
}

/// The old form, whose fields stand in `msg`.
async fn send_old(call: &Call) -> Result<Reply, Fault> {
    let mut request = call.object().await?;
    let to = match text(&request, "target_type")? {
        Some("users") => To::Users,
        Some("chatgroups") => To::Groups,
        Some("chatrooms") => return Err(Fault::not_open()),
        Some(_) | None => {
            let words = "target_type can only be 'users' or 'chatgroups' or 'chatrooms'";
            return Err(Fault::argument(words));
        }
    };
    let from = sender(&request, || Fault::argument("from can't be empty"))?;
    let names = receivers(&request, "target", to.max())?;
    let Some(Value::Object(mut fields)) = request.remove("msg") else { return Err(Fault::body()) };
    if let Some(kind) = fields.remove("type") {
        request.insert("type".to_owned(), kind);
    }
    request.insert("body".to_owned(), Value::Object(fields));
    let bytes_max = call.app.settings.message_bytes_max as usize;
    let sending = Sending::parse(&request, from, bytes_max).map_err(|refused| match refused {
        Refused::TooLarge => Fault::argument(refused.to_string()),
        Refused::TypeEmpty | Refused::BodyEmpty | Refused::ExtNotObject | Refused::Invalid { .. } => {
            refused.into()
        }
    })?;
    let ids = post_all(call, &sending, to, &names).await?;
    let with_ids = call.query.is_true("useMsgId");
    let result = |id: MessageId| if with_ids { id.as_u64().to_string() } else { "success".to_owned() };
    let data: Map<String, Value> = ids.into_iter().map(|(name, id)| (name, result(id).into())).collect();
    Ok(Reply::of("/messages").data(data))
}

/// Posts to all receivers, some at a time, so that the store writes them together. Returns the ids by
/// the names as they were written, each receiver once. What can't exist gets an id and nothing else. Where
/// some can't be reached, the others are told of, so that a back end that tries again can leave them out;
/// it is a failure if all can't.
async fn post_all(
    call: &Call,
    sending: &Sending,
    to: To,
    names: &[String],
) -> Result<Vec<(String, MessageId)>, Fault> {
    let caller = call.acting(sending.from.clone());
    let known: Vec<Option<(String, Target)>> =
        names.iter().map(|name| to.target(name).map(|target| (receiver(&target, name), target))).collect();
    let mut ids: HashMap<&str, Result<Option<MessageId>, Fault>> = HashMap::with_capacity(known.len());
    let mut posting = JoinSet::new();
    for (index, one_known) in known.iter().enumerate() {
        let Some((receiver, target)) = one_known else { continue };
        if ids.contains_key(receiver.as_str()) {
            continue;
        }
        ids.insert(receiver, Err(Fault::internal()));
        if posting.len() >= POSTED_AT_ONCE {
            collect(&mut posting, &known, &mut ids).await;
        }
        let post = sending.post(to, receiver, target.clone());
        let (posthouse, caller) = (Arc::clone(call.posthouse()), caller.clone());
        posting.spawn(async move { (index, one(&posthouse, &caller, post).await) });
    }
    while !posting.is_empty() {
        collect(&mut posting, &known, &mut ids).await;
    }
    if !ids.is_empty() && ids.values().all(Result::is_err) {
        let first =
            known.iter().flatten().find_map(|(receiver, _)| ids.get(receiver.as_str())?.clone().err());
        return Err(first.unwrap_or_else(Fault::internal));
    }
    let id_of = |one: &Option<(String, Target)>| {
        let posted = one.as_ref().and_then(|(receiver, _)| ids.get(receiver.as_str()));
        let id = posted.map_or(Ok(None), Clone::clone).ok()?;
        Some(id.unwrap_or_else(|| call.posthouse().stamp().id))
    };
    let told = names.iter().zip(&known).filter_map(|(name, one)| Some((name.clone(), id_of(one)?)));
    Ok(told.collect())
}

/// The receiver's name inside the message.
fn receiver(target: &Target, name: &str) -> String {
    match target {
        Target::Client(client) => super::call::shown(client),
        Target::Conversation(_) => name.to_owned(),
    }
}

type Posting = (usize, Result<Option<MessageId>, Error>);

/// Takes down the outcome of one post.
async fn collect<'a>(
    posting: &mut JoinSet<Posting>,
    known: &'a [Option<(String, Target)>],
    ids: &mut HashMap<&'a str, Result<Option<MessageId>, Fault>>,
) {
    // What broke off stays noted as failed.
    let Some(Ok((index, posted))) = posting.join_next().await else { return };
    if let Some((receiver, _)) = known.get(index).and_then(Option::as_ref) {
        ids.insert(receiver, posted.map_err(|error| fault(Task::Send, &error)));
    }
}

/// Posts to one; `None` for a group that doesn't exist.
async fn one(
    posthouse: &posthouse_core::Posthouse,
    caller: &Caller,
    post: PostMessage,
) -> Result<Option<MessageId>, Error> {
    if let Target::Conversation(id) = &post.to {
        match posthouse.group(&caller.app, *id).await {
            Ok(_) => {}
            Err(Error::ConversationNotFound) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    posthouse.post_message(caller, post).await.map(|posted| Some(posted.id))
}

// ---- importing --------------------------------------------------------------------------------------

/// Puts one message into history that was said elsewhere. Whether it was read isn't asked: what is
/// imported is never unread here.
async fn import(call: &Call, to: To) -> Result<Reply, Fault> {
    let request = call.object().await?;
    let from = sender(&request, Fault::body)?;
    let name = text(&request, "target")?.filter(|name| !name.is_empty()).ok_or_else(Fault::body)?;
    flag(&request, "is_ack_read")?;
    // It would make this server fetch whatever address somebody names.
    if flag(&request, "need_download")? == Some(true) {
        return Err(Fault::not_open());
    }
    let at = match request.get("msg_timestamp") {
        None | Some(Value::Null) => call.posthouse().now(),
        Some(time) => Timestamp(whole(time).filter(|ms| *ms > 0).ok_or_else(Fault::body)?),
    };
    let bytes_max = call.app.settings.message_bytes_max as usize;
    let sending = Sending::parse(&request, from, bytes_max).map_err(|refused| match refused {
        Refused::TypeEmpty => Fault::argument("type not allow empty"),
        Refused::BodyEmpty => Fault::argument("message body not allow empty"),
        Refused::ExtNotObject | Refused::TooLarge | Refused::Invalid { .. } => refused.into(),
    })?;
    if sending.keep == Keep::Queued {
        return Err(Fault::body());
    }
    let sender = sending.from.clone();
    let target = match to.target(name) {
        Some(Target::Conversation(id)) => {
            let group = call.posthouse().group(&call.app, id).await;
            let task = Task::Group { group: name, user: &sending.name };
            Target::Conversation(group.map_err(|error| fault(task, &error))?.id)
        }
        Some(target @ Target::Client(_)) => target,
        None if to == To::Groups => return Err(Fault::no_group(name)),
        None => return Err(Fault::argument(format!("username [{name}] is not legal"))),
    };
    let post = Sending { copied: true, ..sending }.post(to, &receiver(&target, name), target);
    let import = ImportMessage { to: post.to, sender, body: post.body, at };
    let posted = call.posthouse().import_message(&call.app, import).await;
    let posted = posted.map_err(|error| fault(Task::Send, &error))?;
    let id = posted.id.as_u64().to_string();
    Ok(Reply::of(to.family()).entities(Vec::new()).data(json!({ "msg_id": id })))
}

// ---- recalling --------------------------------------------------------------------------------------

/// A message to be taken back.
struct Recalling {
    id: Option<MessageId>,
    /// The id as it was written.
    written: String,
    from: ClientId,
    to: String,
    kind: String,
    force: bool,
    note: Option<String>,
}

impl Recalling {
    fn parse(request: &Map<String, Value>) -> Result<Self, Fault> {
        let empty = |field: &str| Fault::recall(format!("param {field} can't be empty"));
        let written = match request.get("msg_id") {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            None | Some(Value::Null | Value::String(_)) => return Err(empty("msg_id")),
            Some(_) => return Err(Fault::body()),
        };
        let needed = |field| match text(request, field)? {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            Some(_) | None => Err(empty(field)),
        };
        let (to, kind) = (needed("to")?, needed("chat_type")?);
        if request.get("force").is_some_and(Value::is_null) {
            return Err(empty("force"));
        }
        Ok(Self {
            id: written.parse().ok().and_then(MessageId::from_u64),
            written,
            from: sender(request, || Fault::recall("param from can't be empty"))?,
            to,
            kind,
            force: flag(request, "force")?.unwrap_or_default(),
            note: text(request, "recallMessageExtensionInfo")?.map(str::to_owned),
        })
    }
}

async fn recall(call: &Call) -> Result<Reply, Fault> {
    let request = call.object().await?;
    flag(&request, "sync_device")?;
    let recalling = Recalling::parse(&request)?;
    recall_one(call, &recalling).await?;
    Ok(Reply::of("/messages/msg_recall").data(json!({
        "recalled": "yes",
        "chattype": recalling.kind,
        "from": super::call::shown(&recalling.from),
        "to": recalling.to,
        "msg_id": recalling.written,
    })))
}

/// The old form: a list, whose failures don't stop the others.
async fn recall_old(call: &Call) -> Result<Reply, Fault> {
    let request = call.object().await?;
    let Some(Value::Array(wishes)) = request.get("msgs") else { return Err(Fault::body()) };
    if wishes.is_empty() || wishes.len() > RECALLED_MAX {
        return Err(Fault::body());
    }
    let mut outcomes = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let fields = wish.as_object().ok_or_else(Fault::body)?;
        let outcome = match Recalling::parse(fields) {
            Ok(recalling) => recall_one(call, &recalling).await,
            Err(fault) => Err(fault),
        };
        let recalled = match outcome {
            Ok(()) => "yes".to_owned(),
            Err(fault) if fault.status >= 500 => return Err(fault),
            Err(fault) => fault.description.into_owned(),
        };
        outcomes.push(json!({"msg_id": fields.get("msg_id"), "recalled": recalled}));
    }
    Ok(Reply::of("/messages/recall").data(json!({ "msgs": outcomes })))
}

/// Takes a message back. By force also an old one, and one that isn't there is as good as taken back.
async fn recall_one(call: &Call, recalling: &Recalling) -> Result<(), Fault> {
    if !call.app.settings.recall_enabled {
        return Err(fault(Task::Recall, &Error::RecallDisabled));
    }
    match try_recall(call, recalling).await {
        Err(missing) if recalling.force && missing == Fault::no_recall() => Ok(()),
        outcome => outcome,
    }
}

async fn try_recall(call: &Call, recalling: &Recalling) -> Result<(), Fault> {
    if recalling.kind.eq_ignore_ascii_case("chatroom") {
        return Err(Fault::not_open());
    }
    let id = recalling.id.ok_or_else(Fault::no_recall)?;
    let nobody = || Fault::recall("can’t find msg to");
    let target = conversations::target(&recalling.to, &recalling.kind).ok_or_else(nobody)?;
    let caller = call.acting(recalling.from.clone());
    let address = conversations::address(call, &caller, Some(&target)).await?;
    let address = address.ok_or_else(Fault::no_recall)?;
    let failed = |error: Error| fault(Task::Recall, &error);
    let window = i64::from(call.app.settings.recall_window_seconds) * 1_000;
    let patch = PatchMessage {
        conversation: address.id,
        message: id,
        timestamp: None,
        body: recalled(recalling.note.as_deref()),
        mentions: Mentions::default(),
        authority: Authority::Server,
        not_before: (!recalling.force).then(|| call.posthouse().now().plus_ms(-window)),
        edits_max: None,
    };
    call.posthouse().patch_message(&caller, patch).await.map_err(failed)?;
    Ok(())
}

/// What stands in the place of a recalled message.
fn recalled(note: Option<&str>) -> Body {
    let words = note.map(|note| bodies::key_value(inbound::RECALL_WORDS, &note.into()));
    inbound::recall(words.as_slice(), "")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        object
    }

    fn admin() -> ClientId {
        ClientId::parse("admin").unwrap()
    }

    #[test]
    fn senders_have_a_default_and_may_not_be_empty() {
        let from = |request| sender(&object(request), || Fault::send("param from can't be empty"));
        assert_eq!(from(json!({})), Ok(admin()));
        assert_eq!(from(json!({"from": "Bob"})).unwrap().as_str(), "bob");
        for empty in [json!({"from": ""}), json!({"from": null})] {
            assert_eq!(from(empty).unwrap_err().description, "param from can't be empty");
        }
        assert_eq!(from(json!({"from": "a b"})).unwrap_err().description, "username [a b] is not legal");
    }

    #[test]
    fn receivers_are_counted() {
        let to = |request, max| receivers(&object(request), "to", max);
        let many: Vec<String> = (0..601).map(|n| format!("u{n}")).collect();
        assert_eq!(
            to(json!({"to": many}), USERS_MAX).unwrap_err().description,
            "params to's size can't exceed limit 600"
        );
        assert_eq!(
            to(json!({"to": ["1", "2", "3", "4"]}), GROUPS_MAX).unwrap_err().description,
            "params to's size can't exceed limit 3"
        );
        for empty in [json!({}), json!({"to": []}), json!({"to": null}), json!({"to": [""]})] {
            assert_eq!(to(empty, USERS_MAX).unwrap_err().description, "param to can't be empty");
        }
        for wrong in [json!({"to": "bob"}), json!({"to": [7]})] {
            assert_eq!(to(wrong, USERS_MAX).unwrap_err().error, "invalid_request_body");
        }
    }

    #[test]
    fn what_becomes_of_a_message_depends_on_its_type_and_route() {
        let keep = |request| Sending::parse(&object(request), admin(), 5_000).unwrap().keep;
        assert_eq!(keep(json!({"type": "txt", "body": {"msg": "a"}})), Keep::Stored);
        assert_eq!(keep(json!({"type": "cmd", "body": {"action": "a"}})), Keep::Queued);
        assert_eq!(
            keep(json!({"type": "txt", "body": {"msg": "a"}, "routetype": "ROUTE_ONLINE"})),
            Keep::Transient
        );
    }

    #[test]
    fn what_a_message_lacks_is_named() {
        let words = |request| {
            let refused = Sending::parse(&object(request), admin(), 5_000).err().unwrap();
            let fault = Fault::from(refused);
            (fault.error, fault.description.into_owned())
        };
        for (request, error, description) in [
            (json!({"body": {"msg": "a"}}), "message_send_error", "param type can't be empty"),
            (json!({"type": "txt"}), "message_send_error", "param body can't be empty"),
            (
                json!({"type": "txt", "body": {"msg": "a"}, "ext": null}),
                "message_send_error",
                "param ext must be JSONObject",
            ),
            (
                json!({"type": "txt", "body": {"msg": "a".repeat(5_000)}}),
                "message_send_error",
                "message is too large",
            ),
        ] {
            assert_eq!(words(request), (error, description.to_owned()));
        }
    }

    #[test]
    fn what_a_recall_lacks_is_named() {
        let words = |request| Recalling::parse(&object(request)).err().unwrap().description.into_owned();
        for (request, expected) in [
            (json!({"to": "bob", "chat_type": "chat"}), "param msg_id can't be empty"),
            (json!({"msg_id": "7", "chat_type": "chat"}), "param to can't be empty"),
            (json!({"msg_id": "7", "to": "bob"}), "param chat_type can't be empty"),
            (
                json!({"msg_id": "7", "to": "bob", "chat_type": "chat", "force": null}),
                "param force can't be empty",
            ),
        ] {
            assert_eq!(words(request), expected);
        }
        let parsed =
            Recalling::parse(&object(json!({"msg_id": 7, "to": "bob", "chat_type": "chat"}))).unwrap();
        assert_eq!((parsed.id.map(MessageId::as_u64), parsed.force), (Some(7), false));
    }
}
