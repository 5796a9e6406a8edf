//! `POST /users/{user}/messageroaming`: the history of one conversation (rest 3.4.4, client 7.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthouse_core::content::Content;
use posthouse_core::conversation::{Address, Kind};
use posthouse_core::id::DeviceId;
use posthouse_core::message::{Body, Direction, Message, Target};
use posthouse_core::session::Caller;
use serde_json::{Value, json};

use super::call::{Call, Reply, Verb, shown};
use super::conversations;
use crate::error::rest::{Fault, Task, fault};
use crate::outbound::{self, Own};
use crate::query::{HistoryAsked, Said};

/// Reads a page of it.
pub(super) async fn history(call: &Call, user: &str) -> Result<Reply, Fault> {
    if call.verb != Verb::Post {
        return Err(Fault::no_method());
    }
    let caller = call.subject(user).await?;
    if !call.app.settings.message_roaming {
        return Err(Fault::history_not_open());
    }
    let body = call.object().await?;
    let asked = HistoryAsked::parse(&body, call.app_key()).map_err(|_| Fault::body())?;
    let target = match &asked.said {
        Said::Client(peer) => Some(Target::Client(peer.clone())),
        Said::Group(id) => Some(Target::Conversation(*id)),
        Said::Nowhere => None,
    };
    let Some(address) = conversations::address(call, &caller, target.as_ref()).await? else {
        return Ok(page(Vec::new(), None));
    };
    read(call, &caller, &address, &asked).await
}

async fn read(call: &Call, caller: &Caller, address: &Address, asked: &HistoryAsked) -> Result<Reply, Fault> {
    let before_joined = call.app.settings.group_history_before_join;
    let since_joined = address.kind == Kind::Group && !before_joined;
    let Some(query) = asked.query(address.id, since_joined) else { return Ok(page(Vec::new(), None)) };
    let (group, user) = (address.id.as_u64().to_string(), shown(&caller.client));
    let task = Task::Group { group: &group, user: &user };
    let history = call.posthouse().read_history(caller, query).await;
    let mut history = history.map_err(|error| fault(task, &error))?;
    if asked.direction == Direction::Backward {
        history.messages.reverse();
    }
    let content = |body: &Body| -> Content { call.posthouse().content(body) };
    let device = reader();
    let own = Own { app_key: call.app_key(), client: &caller.client, device: &device };
    let as_json = call.query.get("format") == Some("json");
    let line = |message: &Message| {
        if as_json {
            plain(&json!(outbound::listed_meta(message, address, &own, &content)))
        } else {
            json!({"msg": STANDARD.encode(outbound::message_meta(message, address, &own, &content))})
        }
    };
    let lines = history.messages.iter().map(line).collect();
    let last = history.messages.last().filter(|_| history.more);
    Ok(page(lines, last.map(|last| last.id.as_u64().to_string())))
}

/// Without a next page, the text of its place is empty.
fn page(lines: Vec<Value>, next: Option<String>) -> Reply {
    let is_last = next.is_none();
    let msgs = Value::Array(lines);
    Reply::of("/users/messageroaming").entities(Vec::new()).data(json!({
        "msgs": msgs,
        "next_key": next.unwrap_or_default(),
        "is_last": is_last,
    }))
}

/// A message for back ends that read no protobuf: our own form, made of the one in lists.
fn plain(listed: &Value) -> Value {
    let payload = listed["payload"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let payload = payload.unwrap_or_default();
    json!({
        "msg_id": listed["id"],
        "timestamp": listed["timestamp"],
        "from": payload["from"],
        "to": payload["to"],
        "chat_type": payload["type"],
        "payload": payload,
    })
}

/// The device that reads over REST: none of the user's, so that nothing counts as its own.
pub(super) fn reader() -> DeviceId {
    DeviceId::parse("rest").unwrap_or_else(|_| unreachable!("four letters are a device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_form_is_taken_from_that_of_lists() {
        let listed = json!({
            "id": "7", "from": "acme#shop_bob@easemob.com", "to": "acme#shop_alice@easemob.com", "timestamp": 5,
            "payload": "{\"bodies\":[{\"type\":\"txt\",\"msg\":\"hi\"}],\"ext\":{},\"from\":\"bob\",\"to\":\"alice\",\"type\":\"chat\"}",
        });
        let plain = plain(&listed);
        assert_eq!(plain["msg_id"], "7");
        assert_eq!((&plain["from"], &plain["chat_type"]), (&json!("bob"), &json!("chat")));
        assert_eq!(plain["payload"]["bodies"][0]["msg"], "hi");
    }

    #[test]
    fn the_last_page_says_so() {
        let Reply::Enveloped { fields, .. } = page(Vec::new(), None) else { panic!("it is an envelope") };
        assert_eq!(fields["data"], json!({"msgs": [], "next_key": "", "is_last": true}));
    }
}
