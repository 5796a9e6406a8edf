//! Contacts and blocks (rest 3.2, client 7.4).

use posthouse_core::account::{Account, BLOCKS_MAX, CONTACTS_MAX, Contact, ContactChange};
use posthouse_core::id::ClientId;
use serde_json::{Value, json};

use super::call::{Call, Reply, Verb, shown, text, texts};
use crate::error::rest::{Fault, Task, fault};
use crate::query::{Cursor, client_of};

const PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 50;
const REMARK_CHARS_MAX: usize = 100;
/// Who can be asked in one call.
const ASKED_MAX: usize = 60;
/// Bytes of the word that goes with a request.
const REASON_BYTES_MAX: usize = 1_024;

/// Calls below `/users/{user}/contacts`.
pub(super) async fn contacts(call: &Call, user: &str, path: &[&str]) -> Result<Reply, Fault> {
    let owner = call.account(user).await?;
    match (path, call.verb) {
        ([], Verb::Get) => page(call, &owner).await,
        (["users"], Verb::Get) => all(call, &owner).await,
        (["users", peer], Verb::Post) => one(call, &owner, peer, ContactChange::Add).await,
        (["users", peer], Verb::Delete) => one(call, &owner, peer, ContactChange::Remove).await,
        (["users", peer], Verb::Put) => remark(call, &owner, peer).await,
        (["apply"], Verb::Post) => request(call, &owner).await,
        (["accept", "users", peer], Verb::Post) => one(call, &owner, peer, ContactChange::Accept).await,
        (["decline", "users", peer], Verb::Post) => one(call, &owner, peer, ContactChange::Decline).await,
        (["import"], _) => Err(Fault::not_open()),
        ([] | ["users" | "apply"] | ["users", _] | ["accept" | "decline", "users", _], _) => {
            Err(Fault::no_method())
        }
        _ => Err(Fault::no_resource()),
    }
}

/// Where answers about contacts say they come from: with the owner's UUID.
fn family(call: &Call, owner: &Account, part: &str) -> Reply {
    let path = format!("/users/{}/{part}", call.uuid_of(owner));
    let uri = format!("{}{path}", call.place.base);
    Reply::of(path).with("uri", uri)
}

async fn list(
    call: &Call,
    owner: &Account,
    after: Option<&ClientId>,
    limit: usize,
) -> Result<Vec<Contact>, Fault> {
    let found = call.posthouse().list_contacts(&call.app, &owner.client, after, limit).await;
    found.map_err(|error| fault(Task::Contact, &error))
}

async fn all(call: &Call, owner: &Account) -> Result<Reply, Fault> {
    let contacts = list(call, owner, None, CONTACTS_MAX).await?;
    let names = contacts.iter().map(|contact| shown(&contact.client).into()).collect();
    let reply = family(call, owner, "contacts");
    Ok(if call.query.is_true("needReturnRemark") {
        reply.with("entities", contacts.iter().map(line).collect::<Vec<_>>()).listed(names)
    } else {
        reply.listed(names)
    })
}

/// The cursor stands beside the contacts here, and is empty at the end.
async fn page(call: &Call, owner: &Account) -> Result<Reply, Fault> {
    let too_many = "getContacts | page size more than max limit : 50";
    let limit = call.query.within("limit", Some(PAGE_DEFAULT), PAGE_MAX);
    let limit = limit.map_err(|_| Fault::argument(too_many))?;
    let after = Cursor::client(call.query.get("cursor"))?;
    let mut contacts = list(call, owner, after.as_ref(), limit + 1).await?;
    let more = contacts.len() > limit;
    contacts.truncate(limit);
    let last = contacts.last().filter(|_| more);
    let cursor = last.map(|last| Cursor::Client(last.client.clone()).text()).unwrap_or_default();
    let lines: Vec<Value> = contacts.iter().map(line).collect();
    let count = lines.len();
    Ok(Reply::new()
        .with("uri", format!("{}/user/{}/rostersByPage", call.place.base, shown(&owner.client)))
        .data(json!({"contacts": lines, "cursor": cursor}))
        .with("count", count))
}

fn line(contact: &Contact) -> Value {
    json!({"username": shown(&contact.client), "remark": contact.remark.as_deref()})
}

/// The account of another user.
async fn peer_account(call: &Call, owner: &Account, peer: &str) -> Result<Account, Fault> {
    let client = client_of(peer).ok_or_else(Fault::no_user)?;
    if client == owner.client {
        return Err(Fault::argument("this is an invalid request."));
    }
    call.account_of(&client).await?.ok_or_else(Fault::no_user)
}

async fn change(
    call: &Call,
    task: Task<'_>,
    owner: &Account,
    peer: &ClientId,
    change: ContactChange,
) -> Result<(), Fault> {
    let changed = call.posthouse().change_contact(&call.app, &owner.client, peer, change).await;
    changed.map_err(|error| fault(task, &error))
}

async fn one(call: &Call, owner: &Account, peer: &str, wish: ContactChange) -> Result<Reply, Fault> {
    let peer = peer_account(call, owner, peer).await?;
    change(call, Task::Contact, owner, &peer.client, wish).await?;
    Ok(family(call, owner, "contacts").entities(vec![call.entity(&peer)]))
}

async fn request(call: &Call, owner: &Account) -> Result<Reply, Fault> {
    let body = call.object().await?;
    let names = texts(&body, "usernames")?.filter(|names| !names.is_empty()).ok_or_else(Fault::body)?;
    if names.len() > ASKED_MAX {
        return Err(Fault::argument(format!("request user over flow limit:{ASKED_MAX}.")));
    }
    let reason = text(&body, "reason")?.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        return Err(Fault::argument(format!("reason length must less than {REASON_BYTES_MAX}")));
    }
    let mut peers = Vec::with_capacity(names.len());
    for name in &names {
        peers.push(peer_account(call, owner, name).await?);
    }
    for peer in &peers {
        change(call, Task::Contact, owner, &peer.client, ContactChange::Request(reason.into())).await?;
    }
    Ok(family(call, owner, "contacts").entities(peers.iter().map(|peer| call.entity(peer)).collect()))
}

async fn remark(call: &Call, owner: &Account, peer: &str) -> Result<Reply, Fault> {
    let body = call.object().await?;
    let remark = text(&body, "remark")?.ok_or_else(Fault::body)?;
    if remark.chars().nth(REMARK_CHARS_MAX).is_some() {
        return Err(Fault::argument("remark length must less than 100"));
    }
    let peer = peer_account(call, owner, peer).await?;
    change(call, Task::Remark, owner, &peer.client, ContactChange::Remark(remark.into())).await?;
    Ok(Reply::new().with("status", "ok"))
}

// ---- blocks -----------------------------------------------------------------------------------------

/// Calls below `/users/{user}/blocks`.
pub(super) async fn blocks(call: &Call, user: &str, path: &[&str]) -> Result<Reply, Fault> {
    let owner = call.account(user).await?;
    match (path, call.verb) {
        (["users"] | [], Verb::Get) => blocked(call, &owner).await,
        (["users"] | [], Verb::Post) => block(call, &owner).await,
        ([] | ["users"], Verb::Delete) => unblock_many(call, &owner).await,
        (["users", peer], Verb::Delete) => unblock(call, &owner, peer).await,
        ([] | ["users"] | ["users", _], _) => Err(Fault::no_method()),
        _ => Err(Fault::no_resource()),
    }
}

/// The list is short, so its cursor is a number of lines; without one, all of it comes at once.
async fn blocked(call: &Call, owner: &Account) -> Result<Reply, Fault> {
    let all = call.posthouse().list_blocks(&call.app, &owner.client).await;
    let all = all.map_err(|error| fault(Task::Contact, &error))?;
    let paged = call.query.get("pageSize").is_some() || call.query.get("cursor").is_some();
    let size = if paged { call.query.within("pageSize", Some(PAGE_MAX), PAGE_MAX)? } else { BLOCKS_MAX };
    let skip = Cursor::number(call.query.get("cursor"))?;
    let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(all.len());
    let end = skip.saturating_add(size).min(all.len());
    let next = (end < all.len()).then(|| Cursor::Number(end as u64).text());
    let names = all[skip..end].iter().map(|client| shown(client).into()).collect();
    Ok(family(call, owner, "blocks").listed(names).cursor(next))
}

/// The names in the body, which must be of users.
async fn named(call: &Call, owner: &Account) -> Result<Vec<ClientId>, Fault> {
    let body = call.object().await?;
    let names = texts(&body, "usernames")?.filter(|names| !names.is_empty()).ok_or_else(Fault::body)?;
    if names.len() > BLOCKS_MAX {
        return Err(Fault::argument(format!("request user over flow limit:{BLOCKS_MAX}.")));
    }
    let mut peers = Vec::with_capacity(names.len());
    for name in &names {
        peers.push(peer_account(call, owner, name).await?.client);
    }
    Ok(peers)
}

async fn set(call: &Call, owner: &Account, peers: &[ClientId], blocked: bool) -> Result<(), Fault> {
    let set = call.posthouse().set_blocked(&call.app, &owner.client, peers, blocked).await;
    set.map_err(|error| fault(Task::Contact, &error))
}

async fn block(call: &Call, owner: &Account) -> Result<Reply, Fault> {
    let peers = named(call, owner).await?;
    set(call, owner, &peers, true).await?;
    Ok(family(call, owner, "blocks").listed(peers.iter().map(|peer| shown(peer).into()).collect()))
}

/// Also those whose accounts are gone can be taken off the list.
async fn unblock_many(call: &Call, owner: &Account) -> Result<Reply, Fault> {
    let body = call.object().await?;
    let names = texts(&body, "usernames")?.filter(|names| !names.is_empty()).ok_or_else(Fault::body)?;
    let peers: Vec<ClientId> = names.iter().take(BLOCKS_MAX).filter_map(|name| client_of(name)).collect();
    set(call, owner, &peers, false).await?;
    Ok(family(call, owner, "blocks").listed(peers.iter().map(|peer| shown(peer).into()).collect()))
}

async fn unblock(call: &Call, owner: &Account, peer: &str) -> Result<Reply, Fault> {
    let peer = client_of(peer).ok_or_else(Fault::no_user)?;
    set(call, owner, std::slice::from_ref(&peer), false).await?;
    let account = call.account_of(&peer).await?;
    Ok(family(call, owner, "blocks").entities(account.iter().map(|account| call.entity(account)).collect()))
}
