//! One-way deletion: a user removes messages for itself alone (rest 3.4.5, client 7.2).

use posthouse_core::id::MessageId;
use posthouse_core::listing::{REMOVED_AT_ONCE_MAX, Removal};
use posthouse_core::message::Target;
use posthouse_core::session::Caller;
use posthouse_core::time::Timestamp;
use serde_json::Map;

use super::call::{Call, Prefix, Reply, Verb, shown};
use super::conversations;
use crate::error::rest::{Fault, Task, fault};
use crate::query::{Query, client_of, group_of};

/// Calls below `/message/roaming`.
pub(super) async fn removal(call: &Call, path: &[&str]) -> Result<Reply, Fault> {
    match (path, call.verb) {
        ([kind @ ("chat" | "group"), "user" | "users", user], Verb::Delete) => {
            let caller = subject(call, user).await?;
            let removal = Removal::Messages(messages(&call.query)?);
            remove(call, &caller, kind, removal).await
        }
        ([kind @ ("chat" | "group"), "user" | "users", user, "time"], Verb::Delete | Verb::Post) => {
            let caller = subject(call, user).await?;
            let removal = Removal::Until(until(&call.query, strictly_before(call))?);
            remove(call, &caller, kind, removal).await
        }
        (["user" | "users", user, "delete", "all"], Verb::Post | Verb::Delete) => {
            let caller = subject(call, user).await?;
            let device = call.device();
            let removed = call.posthouse().remove_everything(&caller, device.as_ref()).await;
            removed.map_err(|error| fault(Task::List, &error))?;
            Ok(done(call))
        }
        (
            ["chat" | "group", "user" | "users", _]
            | ["chat" | "group", "user" | "users", _, "time"]
            | ["user" | "users", _, "delete", "all"],
            _,
        ) => Err(Fault::no_method()),
        _ => Err(Fault::no_resource()),
    }
}

async fn subject(call: &Call, user: &str) -> Result<Caller, Fault> {
    let caller = call.subject(user).await?;
    if call.app.settings.message_roaming { Ok(caller) } else { Err(Fault::removal_not_open()) }
}

/// What SDKs say is strictly before the time, what back ends say includes it.
fn strictly_before(call: &Call) -> bool {
    match call.prefix {
        Prefix::Sdk => true,
        Prefix::Rest => false,
        Prefix::None => !call.by_server(),
    }
}

/// The messages to remove; more than there may be are refused before any is looked at.
fn messages(query: &Query) -> Result<Vec<MessageId>, Fault> {
    let list = query.get("msgIdList").ok_or_else(Fault::bad_removal)?;
    let ids: Vec<&str> = list.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() {
        return Err(Fault::bad_removal());
    }
    if ids.len() > REMOVED_AT_ONCE_MAX {
        return Err(Fault::too_many_removed());
    }
    let message = |id: &str| id.parse().ok().and_then(MessageId::from_u64).ok_or_else(Fault::bad_removal);
    ids.into_iter().map(message).collect()
}

/// The last moment whose messages go.
fn until(query: &Query, strictly_before: bool) -> Result<Timestamp, Fault> {
    let time = query.get("delTime").and_then(|time| time.trim().parse::<i64>().ok());
    let time = time.filter(|time| *time > 0).ok_or_else(Fault::bad_removal)?;
    Ok(Timestamp(if strictly_before { time - 1 } else { time }))
}

async fn remove(call: &Call, caller: &Caller, kind: &str, removal: Removal) -> Result<Reply, Fault> {
    let target = if kind == "chat" {
        let name = call.query.get("userId").ok_or_else(Fault::bad_removal)?;
        client_of(name).map(Target::Client)
    } else {
        let number = call.query.get("groupId").ok_or_else(Fault::bad_removal)?;
        group_of(number).map(Target::Conversation)
    };
    // Where nothing was said there is nothing to remove.
    if let Some(address) = conversations::address(call, caller, target.as_ref()).await? {
        let (group, user) = (address.id.as_u64().to_string(), shown(&caller.client));
        let task = Task::Group { group: &group, user: &user };
        let device = call.device();
        let tell = !call.query.is_false("isNotify");
        let removed =
            call.posthouse().remove_messages(caller, address.id, removal, device.as_ref(), tell).await;
        removed.map_err(|error| fault(task, &error))?;
    }
    Ok(done(call))
}

fn done(call: &Call) -> Reply {
    Reply::Bare(Map::new()).with("requestStatusCode", "ok").with("timestamp", call.posthouse().now().0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    fn list(count: usize) -> String {
        let ids: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
        format!("msgIdList={}", ids.join("%2C"))
    }

    #[test]
    fn fifty_messages_go_at_once_and_no_more() {
        assert_eq!(messages(&query(&list(50))).unwrap().len(), 50);
        assert_eq!(messages(&query(&list(51))), Err(Fault::too_many_removed()));
        for bad in ["", "msgIdList=", "msgIdList=,", "msgIdList=a", "msgIdList=1,-2", "msgIdList=0"] {
            assert_eq!(messages(&query(bad)), Err(Fault::bad_removal()), "{bad}");
        }
    }

    #[test]
    fn a_time_is_a_bound_or_the_moment_after_it() {
        assert_eq!(until(&query("delTime=1000&&resource=a"), true), Ok(Timestamp(999)));
        assert_eq!(until(&query("delTime=1000"), false), Ok(Timestamp(1000)));
        for bad in ["", "delTime=", "delTime=0", "delTime=-5", "delTime=x", "delTime=1.5"] {
            assert_eq!(until(&query(bad), true), Err(Fault::bad_removal()), "{bad}");
        }
    }
}
