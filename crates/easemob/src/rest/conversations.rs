//! The conversation list: its pages in two shapes, pins, marks, and deleting a conversation
//! (rest 3.4.1 to 3.4.3, client 7.2).

use posthouse_core::Error;
use posthouse_core::content::Content;
use posthouse_core::conversation::{Address, Kind};
use posthouse_core::listing::{ListChange, ListPage, ListQuery, Listed, MARKS};
use posthouse_core::message::{Body, Target};
use posthouse_core::session::Caller;
use posthouse_core::time::DAY_MS;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::call::{Call, Reply, Verb, flag, shown, text};
use crate::error::rest::{Fault, Task, fault};
use crate::outbound::{self, ListedMeta, Own};
use crate::query::{Cursor, client_of, conversations_page, group_of};
use crate::wire::jid::{CONFERENCE_DOMAIN, PEOPLE_DOMAIN};

const PAGE_DEFAULT: usize = 20;
const MARKED_PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 50;
/// Conversations marked in one call.
const MARKED_MAX: usize = 20;

/// Calls below `/users/{user}/user_channels` and `/users/{user}/user_channel`.
pub(super) async fn lists(call: &Call, user: &str, list: &str, path: &[&str]) -> Result<Reply, Fault> {
    let caller = call.subject(user).await?;
    if !call.app.settings.conversation_list {
        return Err(Fault::switched_off("conversation_list"));
    }
    match (list, path, call.verb) {
        ("user_channels", [], Verb::Get) => newest(call, &caller).await,
        ("user_channels", ["page"], Verb::Get) => page(call, &caller).await,
        ("user_channels", ["list"], Verb::Get) => after_cursor(call, &caller).await,
        ("user_channels", ["mark", "search"], Verb::Get) => marked(call, &caller).await,
        ("user_channels", ["mark"], Verb::Post) => mark(call, &caller, true).await,
        ("user_channels", ["mark"], Verb::Delete) => mark(call, &caller, false).await,
        ("user_channel", ["top"], Verb::Post) => pin(call, &caller, true).await,
        ("user_channel", ["top"], Verb::Delete) => pin(call, &caller, false).await,
        ("user_channel", [], Verb::Delete) => delete(call, &caller).await,
        ("user_channel", ["pin"], _) => Err(Fault::not_open()),
        ("user_channels", [] | ["page" | "list" | "mark"] | ["mark", "search"], _)
        | ("user_channel", [] | ["top"], _) => Err(Fault::no_method()),
        _ => Err(Fault::no_resource()),
    }
}

// ---- reading ----------------------------------------------------------------------------------------

async fn read(call: &Call, caller: &Caller, query: ListQuery) -> Result<Vec<Listed>, Fault> {
    let found = call.posthouse().list_conversations(caller, query).await;
    found.map_err(|error| fault(Task::List, &error))
}

fn query(call: &Call, page: ListPage) -> ListQuery {
    ListQuery {
        page,
        pinned_only: false,
        marked: None,
        with_empty: false,
        server_messages: call.app.settings.rest_messages_in_conversation_list,
        since_joined: !call.app.settings.group_history_before_join,
    }
}

async fn newest(call: &Call, caller: &Caller) -> Result<Reply, Fault> {
    let settings = &call.app.settings;
    let window = i64::from(settings.conversation_list_window_days) * DAY_MS;
    let since = call.posthouse().now().plus_ms(-window);
    let limit = settings.conversation_list_default_count as usize;
    let found = read(call, caller, query(call, ListPage::Newest { limit, since })).await?;
    Ok(shape_a(call, caller, &found))
}

async fn page(call: &Call, caller: &Caller) -> Result<Reply, Fault> {
    let (size, number) = conversations_page(&call.query)?;
    let found = read(call, caller, query(call, ListPage::Numbered { size, number })).await?;
    Ok(shape_a(call, caller, &found))
}

async fn after_cursor(call: &Call, caller: &Caller) -> Result<Reply, Fault> {
    let limit = call.query.within("limit", Some(PAGE_DEFAULT), PAGE_MAX)?;
    let asked = ListQuery {
        pinned_only: call.query.is_true("is_top"),
        with_empty: call.query.is_true("needEmptySession"),
        ..query(call, ListPage::After { cursor: Cursor::place(call.query.get("cursor"))?, limit: limit + 1 })
    };
    let found = read(call, caller, asked).await?;
    Ok(shape_b(call, caller, found, limit))
}

async fn marked(call: &Call, caller: &Caller) -> Result<Reply, Fault> {
    let limit = call.query.within("limit", Some(MARKED_PAGE_DEFAULT), PAGE_MAX)?;
    let asked = ListQuery {
        marked: Some(mark_of(call.query.get("mark"))?),
        ..query(call, ListPage::After { cursor: Cursor::place(call.query.get("cursor"))?, limit: limit + 1 })
    };
    let found = read(call, caller, asked).await?;
    Ok(shape_b(call, caller, found, limit))
}

/// The old shape: addresses in full.
fn shape_a(call: &Call, caller: &Caller, found: &[Listed]) -> Reply {
    let line = |listed: &Listed| {
        let (peer, domain) = match &listed.address.peer {
            Some(peer) => (shown(peer), PEOPLE_DOMAIN),
            None => (listed.address.id.as_u64().to_string(), CONFERENCE_DOMAIN),
        };
        ShapeA {
            channel_id: format!("{}_{peer}@{domain}", call.app_key()),
            unread_num: listed.unread,
            meta: meta(call, caller, listed).unwrap_or(ListedMeta::Nothing {}),
        }
    };
    let lines = found.iter().map(line).collect();
    Reply::of("/users/user_channels")
        .entities(Vec::new())
        .long_data(&Channels { channel_infos: lines, cursor: None })
}

/// `data` of a list.
#[derive(Serialize)]
struct Channels<Line> {
    channel_infos: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize)]
struct ShapeA {
    channel_id: String,
    unread_num: u64,
    meta: ListedMeta,
}

#[derive(Serialize)]
struct ShapeB {
    session_to: String,
    session_type: &'static str,
    is_top: bool,
    update_top_status_time: i64,
    unread_num: u64,
    marks: Vec<String>,
    meta: Option<ListedMeta>,
}

/// The new shape, in which a conversation without a message has no `meta`. `found` has one line more than `limit` if the list goes on.
fn shape_b(call: &Call, caller: &Caller, mut found: Vec<Listed>, limit: usize) -> Reply {
    let more = found.len() > limit;
    found.truncate(limit);
    let cursor = found.last().filter(|_| more).map(|last| Cursor::Place(last.place).text());
    let line = |listed: &Listed| {
        let (peer, kind) = match &listed.address.peer {
            Some(peer) => (shown(peer), "chat"),
            None => (listed.address.id.as_u64().to_string(), "groupChat"),
        };
        let marks: Vec<String> = (0..MARKS)
            .filter(|mark| listed.marks >> mark & 1 == 1)
            .map(|mark| format!("mark_{mark}"))
            .collect();
        ShapeB {
            session_to: peer,
            session_type: kind,
            is_top: listed.pinned_at.is_some(),
            update_top_status_time: listed.pinned_at.map_or(0, |at| at.0),
            unread_num: listed.unread,
            marks,
            meta: meta(call, caller, listed),
        }
    };
    let lines = found.iter().map(line).collect();
    Reply::of("/users/user_channels")
        .long_data(&Channels { channel_infos: lines, cursor: Some(cursor.unwrap_or_default()) })
}

/// The newest message as lists show it.
fn meta(call: &Call, caller: &Caller, listed: &Listed) -> Option<ListedMeta> {
    let message = listed.last_message.as_ref()?;
    let content = |body: &Body| -> Content { call.posthouse().content(body) };
    let device = super::history::reader();
    let own = Own { app_key: call.app_key(), client: &caller.client, device: &device };
    Some(outbound::listed_meta(message, &listed.address, &own, &content))
}

// ---- arranging --------------------------------------------------------------------------------------

/// What a pair of `to` and `type` means; `None` for what can't exist.
pub(super) fn target(to: &str, kind: &str) -> Option<Target> {
    match kind.to_ascii_lowercase().as_str() {
        "chat" => client_of(to).map(Target::Client),
        "groupchat" | "group" => group_of(to).map(Target::Conversation),
        _ => None,
    }
}

/// The conversation that the caller means, if there is one that lists can hold.
pub(super) async fn address(
    call: &Call,
    caller: &Caller,
    target: Option<&Target>,
) -> Result<Option<Address>, Fault> {
    let Some(target) = target else { return Ok(None) };
    match call.posthouse().address(caller, target).await {
        Ok(address) => Ok(address.filter(|address| match address.kind {
            // A pair's conversation is called by the other one's name, not by its number.
            Kind::Direct => matches!(target, Target::Client(_)),
            Kind::Group => true,
            Kind::Room | Kind::Temporary { .. } => false,
        })),
        Err(Error::ConversationNotFound | Error::TemporaryOver) => Ok(None),
        Err(error) => Err(fault(Task::List, &error)),
    }
}

async fn arrange(
    call: &Call,
    caller: &Caller,
    address: &Address,
    change: ListChange,
) -> Result<Option<posthouse_core::time::Timestamp>, Fault> {
    let device = call.device();
    let changed = call.posthouse().change_listed(caller, address.id, change, device.as_ref()).await;
    changed.map_err(|error| fault(Task::List, &error))
}

/// What is pinned stands in the body, or in the address where the pin is taken away.
async fn pin(call: &Call, caller: &Caller, pinned: bool) -> Result<Reply, Fault> {
    let body = call.object_or_empty().await?;
    let said = |field| match text(&body, field)? {
        Some(text) => Ok(Some(text)),
        None => Ok::<_, Fault>(call.query.get(field)),
    };
    let (Some(to), Some(kind)) = (said("to")?, said("type")?) else { return Err(Fault::body()) };
    let address = address(call, caller, target(to, kind).as_ref()).await?;
    let address = address.ok_or_else(Fault::no_conversation)?;
    let since = arrange(call, caller, &address, ListChange::Pin(pinned)).await?;
    let now = call.posthouse().now();
    Ok(Reply::of("/users/user_channel").data(json!({
        "is_top": since.is_some(),
        "update_top_status_time": since.unwrap_or(now).0,
    })))
}

async fn mark(call: &Call, caller: &Caller, set: bool) -> Result<Reply, Fault> {
    let body = call.object().await?;
    let number = mark_of(text(&body, "mark")?)?;
    let Some(Value::Array(targets)) = body.get("targets") else { return Err(Fault::body()) };
    if targets.len() > MARKED_MAX {
        return Err(Fault::argument("The quantity has exceeded the limit!"));
    }
    let mut wishes = Vec::with_capacity(targets.len());
    for wish in targets {
        let fields = wish.as_object().ok_or_else(Fault::body)?;
        let (Some(to), Some(kind)) = (text(fields, "to")?, text(fields, "type")?) else {
            return Err(Fault::body());
        };
        wishes.push((wish, target(to, kind)));
    }
    let mut ignored = Vec::new();
    for (wish, target) in wishes {
        let marked = match address(call, caller, target.as_ref()).await? {
            Some(address) => arrange(call, caller, &address, ListChange::Mark(number, set)).await.map(drop),
            None => Err(Fault::no_conversation()),
        };
        match marked {
            Ok(()) => {}
            Err(missing) if missing == Fault::no_conversation() => ignored.push(wish.clone()),
            Err(fault) => return Err(fault),
        }
    }
    Ok(Reply::of("/users/user_channels").data(json!({ "ignore": ignored })))
}

/// The number behind `mark_3`.
fn mark_of(mark: Option<&str>) -> Result<u8, Fault> {
    let mark = mark.filter(|mark| !mark.is_empty());
    let mark = mark.ok_or_else(|| Fault::argument("param mark must be not empty, please check!"))?;
    let number = mark.strip_prefix("mark_").and_then(|number| number.parse().ok());
    number
        .filter(|number| *number < MARKS && mark == format!("mark_{number}"))
        .ok_or_else(|| Fault::argument("param mark illegal, please check it!"))
}

// ---- deleting ---------------------------------------------------------------------------------------

/// The wish to delete a conversation.
#[derive(PartialEq, Debug)]
struct Deletion {
    target: Option<Target>,
    with_messages: bool,
}

impl Deletion {
    fn parse(body: &Map<String, Value>) -> Result<Self, Fault> {
        let needed = |field, words: &'static str| match text(body, field)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) | None => Err(Fault::argument(words)),
        };
        let channel = needed("channel", "field channel cannot be null or empty")?;
        let kind = needed("type", "field type cannot be null or empty")?;
        let with_messages =
            flag(body, "delete_roam")?.ok_or_else(|| Fault::argument("field delete_roam cannot be null"))?;
        if !["chat", "groupchat", "chatroom"].contains(&kind.to_ascii_lowercase().as_str()) {
            return Err(Fault::body());
        }
        Ok(Self { target: target(channel, kind), with_messages })
    }
}

/// What is not in the caller's list is as good as deleted.
async fn delete(call: &Call, caller: &Caller) -> Result<Reply, Fault> {
    let deletion = Deletion::parse(&call.object().await?)?;
    if let Some(address) = address(call, caller, deletion.target.as_ref()).await? {
        let device = call.device();
        let deleting = call.posthouse().delete_conversation(
            caller,
            address.id,
            deletion.with_messages,
            device.as_ref(),
            call.by_server(),
        );
        match deleting.await {
            Ok(_) | Err(Error::NotMember | Error::ConversationNotFound) => {}
            Err(error) => return Err(fault(Task::List, &error)),
        }
    }
    Ok(Reply::of("/users/user_channel").entities(Vec::new()).data(json!({"result": "ok"})))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::id::{ClientId, ConversationId};

    use super::*;

    #[test]
    fn what_a_deletion_lacks_is_named() {
        let words = |body: &Value| Deletion::parse(body.as_object().unwrap()).unwrap_err().description;
        for (body, expected) in [
            (json!({"type": "chat", "delete_roam": true}), "field channel cannot be null or empty"),
            (json!({"channel": "", "type": "chat"}), "field channel cannot be null or empty"),
            (json!({"channel": "bob", "delete_roam": true}), "field type cannot be null or empty"),
            (json!({"channel": "bob", "type": "chat"}), "field delete_roam cannot be null"),
            (json!({"channel": 7, "type": "chat"}), "Request body is invalid. Please check body is correct."),
            (
                json!({"channel": "b", "type": "x", "delete_roam": true}),
                "Request body is invalid. Please check body is correct.",
            ),
        ] {
            assert_eq!(words(&body), expected);
        }
    }

    #[test]
    fn types_are_known_in_any_case() {
        let parsed = |kind: &str, channel: &str| {
            let body = json!({"channel": channel, "type": kind, "delete_roam": false});
            Deletion::parse(body.as_object().unwrap()).unwrap().target
        };
        let bob = Target::Client(ClientId::parse("bob").unwrap());
        let group = Target::Conversation(ConversationId::from_u64(1001).unwrap());
        assert_eq!(parsed("Chat", "Bob"), Some(bob));
        assert_eq!(parsed("groupChat", "1001"), Some(group));
        assert_eq!(parsed("groupchat", "bob"), None);
        assert_eq!(parsed("chatroom", "1001"), None);
    }

    #[test]
    fn marks_have_numbers() {
        assert_eq!(mark_of(Some("mark_0")), Ok(0));
        assert_eq!(mark_of(Some("mark_19")), Ok(19));
        for bad in ["mark_20", "mark_", "mark_+1", "mark_01", "3", "mark_-1"] {
            assert_eq!(mark_of(Some(bad)).unwrap_err().description, "param mark illegal, please check it!");
        }
        assert_eq!(mark_of(None).unwrap_err().description, "param mark must be not empty, please check!");
    }
}
