//! Groups: making, changing and ending them, their lists, members and roles (rest 3.5, client 7.5
//! and 7.6). Who is added or invited is in at once.

use posthouse_core::Error;
use posthouse_core::attribute::{AttributeChange, Attributes, Operation};
use posthouse_core::conversation::{Authority, Conversation, CreateConversation, KindWish, Role, RoleChange};
use posthouse_core::id::ClientId;
use posthouse_core::session::Caller;
use posthouse_core::time::Timestamp;
use serde_json::{Map, Value, json};

use super::call::{Call, Reply, Verb, flag, shown, text, texts};
use crate::error::rest::{Fault, Task, fault};
use crate::outbound::GROUP_ATTRIBUTES as OWN;
use crate::query::{Cursor, Query, client_of, group_of, whole};

const NAME_CHARS_MAX: usize = 128;
const DESCRIPTION_CHARS_MAX: usize = 512;
const CUSTOM_CHARS_MAX: usize = 8 * 1024;
const AVATAR_CHARS_MAX: usize = 1_024;
/// Members of a group that names no number.
const MEMBERS_DEFAULT: usize = 200;
/// Users named in one call.
const NAMED_MAX: usize = 60;
/// Groups described in one call.
const DESCRIBED_MAX: usize = 100;
const ADMINS_MAX: usize = 99;
/// Groups of one page of the app's list, and members of one page of a group's.
const PAGE_MAX: usize = 1_000;
const PAGE_DEFAULT: usize = 10;
/// Groups of one page of a user's list.
const JOINED_PAGE_DEFAULT: usize = 5;
const JOINED_MAX: usize = 500;
/// Groups looked at for one page of public ones, and in one go.
const LOOKED_AT_MAX: usize = 2_000;
const LOOKED_AT_ONCE: usize = 100;

/// Calls below `/chatgroups`.
pub(super) async fn groups(call: &Call, path: &[&str]) -> Result<Reply, Fault> {
    match (path, call.verb) {
        ([], Verb::Post) => create(call).await,
        ([], Verb::Get) => list(call).await,
        (["user", user], Verb::Get) => joined(call, user).await,
        (["user", user, "joined_count"], Verb::Get) => joined_count(call, user).await,
        ([numbers], Verb::Get) => describe(call, numbers).await,
        ([number], Verb::Put) => update(call, number).await,
        ([number], Verb::Delete) => end(call, number).await,
        ([number, "users"], Verb::Get) => members(call, number).await,
        ([number, "users"], Verb::Post) => add_many(call, number).await,
        ([number, "users", user], Verb::Post) => add(call, number, user).await,
        ([number, "users", users], Verb::Delete) => remove(call, number, users).await,
        ([number, "invite"], Verb::Post) => invite(call, number).await,
        ([number, "apply"], Verb::Post) => apply(call, number).await,
        ([number, "quit"], Verb::Delete | Verb::Post) => quit(call, number).await,
        ([number, "user", user, "is_joined"], Verb::Get | Verb::Post) => is_joined(call, number, user).await,
        ([number, "admin"], Verb::Get) => admins(call, number).await,
        ([number, "admin"], Verb::Post) => add_admin(call, number).await,
        ([number, "admin", user], Verb::Delete) => remove_admin(call, number, user).await,
        (
            []
            | [_]
            | ["user", _]
            | ["user", _, "joined_count"]
            | [_, "users" | "invite" | "apply" | "quit" | "admin"]
            | [_, "users" | "admin", _]
            | [_, "user", _, "is_joined"],
            _,
        ) => Err(Fault::no_method()),
        // Muting, blocking, announcements, shared files, receipts, approvals and the rest.
        _ => Err(Fault::not_open()),
    }
}

// ---- one group --------------------------------------------------------------------------------------

/// A group, and how this wire describes it.
struct Group {
    conversation: Conversation,
    number: String,
}

impl Group {
    fn own(&self, field: &str) -> Option<&Value> {
        self.conversation.attributes.get(OWN)?.get(field)
    }

    fn flag(&self, field: &str) -> bool {
        self.own(field).and_then(Value::as_bool).unwrap_or_default()
    }

    fn text(&self, field: &str) -> &str {
        self.own(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.conversation.attributes.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    fn owner(&self) -> String {
        self.conversation.owner.as_ref().map(shown).unwrap_or_default()
    }

    /// The most members, which the app may have lowered since.
    fn members_max(&self, call: &Call) -> usize {
        let most = call.app.settings.members_max as usize;
        let own = self.own("maxusers").and_then(Value::as_u64).and_then(|max| usize::try_from(max).ok());
        own.unwrap_or(most).min(most)
    }

    fn task<'a>(&'a self, user: &'a str) -> Task<'a> {
        Task::Group { group: &self.number, user }
    }

    fn role(&self, client: &ClientId) -> Option<Role> {
        self.conversation.role(client)
    }

    /// Who is in it, as lists of members say it. Back ends know owners and members only.
    fn line(&self, call: &Call, (member, joined): (&ClientId, Option<Timestamp>)) -> Value {
        let role = match self.role(member) {
            Some(Role::Owner) => "owner",
            Some(Role::Admin) if !call.by_server() => "admin",
            Some(Role::Admin | Role::Member) | None => "member",
        };
        let mut line = Map::from_iter([(role.to_owned(), shown(member).into())]);
        if let Some(joined) = joined.filter(|_| call.query.is_true("joined_time")) {
            line.insert("joined_time".to_owned(), joined.0.into());
        }
        Value::Object(line)
    }

    /// The members, and when each of them came as far as that is known.
    fn members(&self) -> impl Iterator<Item = (&ClientId, Option<Timestamp>)> {
        let joined = self.conversation.joined.iter().copied().map(Some).chain(std::iter::repeat(None));
        self.conversation.members.iter().zip(joined)
    }

    /// What everybody who may know of it is told.
    fn summary(&self, call: &Call) -> Map<String, Value> {
        let conversation = &self.conversation;
        let mut summary = Map::from_iter(
            [
                ("id", self.number.as_str().into()),
                ("name", self.name().into()),
                ("avatar", self.text("avatar").into()),
                ("description", self.text("description").into()),
                ("owner", self.owner().into()),
                ("created", conversation.created_at.0.into()),
                ("public", self.flag("public").into()),
                ("membersonly", self.flag("membersonly").into()),
                ("allowinvites", self.flag("allowinvites").into()),
                ("invite_need_confirm", self.flag("invite_need_confirm").into()),
                ("maxusers", self.members_max(call).into()),
                ("custom", self.text("custom").into()),
                ("affiliations_count", conversation.members.len().into()),
                ("disabled", false.into()),
                ("mute", false.into()),
                ("shieldgroup", false.into()),
            ]
            .map(|(field, value): (&str, Value)| (field.to_owned(), value)),
        );
        if let Some(user) = call.user() {
            summary.insert("permission".to_owned(), permission(self.role(user)).into());
        }
        summary
    }

    /// [`Self::summary`] with the members, of whom strangers learn the owner only.
    fn described(&self, call: &Call) -> Value {
        let inside = call.user().is_none_or(|user| self.conversation.has_member(user));
        let members = self.members();
        let members = members.filter(|(member, _)| inside || self.role(member) == Some(Role::Owner));
        let lines: Vec<Value> = members.map(|member| self.line(call, member)).collect();
        let mut description = self.summary(call);
        description.insert("affiliations".to_owned(), lines.into());
        Value::Object(description)
    }
}

const fn permission(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Owner) => "owner",
        Some(Role::Admin) => "admin",
        Some(Role::Member) => "member",
        None => "none",
    }
}

fn group_from(conversation: Conversation) -> Group {
    Group { number: conversation.id.as_u64().to_string(), conversation }
}

async fn load(call: &Call, number: &str) -> Result<Group, Fault> {
    let id = group_of(number).ok_or_else(|| Fault::no_group(number))?;
    let task = Task::Group { group: number, user: "" };
    let found = call.posthouse().group(&call.app, id).await;
    Ok(group_from(found.map_err(|error| fault(task, &error))?))
}

/// A group for its members and the back end.
async fn load_inside(call: &Call, number: &str) -> Result<Group, Fault> {
    let group = load(call, number).await?;
    match call.user() {
        Some(user) if !group.conversation.has_member(user) => Err(Fault::not_in(&shown(user))),
        Some(_) | None => Ok(group),
    }
}

/// In whose name a group is changed: the user's, or its owner's by the back end.
fn actor(call: &Call, group: &Group) -> Caller {
    let client = call.user().or(group.conversation.owner.as_ref()).cloned();
    // A group of another wire may belong to nobody.
    call.acting(client.unwrap_or_else(|| call.posthouse().new_client_id()))
}

/// The client of a name that somebody can be added by. Users must be registered; clients of other
/// wires, whose names are escapes, never are.
async fn addable(call: &Call, name: &str) -> Result<ClientId, Fault> {
    let missing = || Fault::no_username(name);
    let client = client_of(name).ok_or_else(missing)?;
    let is_foreign = shown(&client) != client.as_str();
    if is_foreign || call.account_of(&client).await?.is_some() { Ok(client) } else { Err(missing()) }
}

async fn all_addable(call: &Call, names: &[String]) -> Result<Vec<ClientId>, Fault> {
    let mut clients = Vec::with_capacity(names.len());
    for name in names {
        clients.push(addable(call, name).await?);
    }
    Ok(clients)
}

/// The users of a call that names several.
fn usernames(body: &Map<String, Value>, too_many: &'static str) -> Result<Vec<String>, Fault> {
    let names = texts(body, "usernames")?.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| Fault::parameter("usernames must be provided"))?;
    if names.len() > NAMED_MAX { Err(Fault::parameter(too_many)) } else { Ok(names) }
}

// ---- making, changing, ending -----------------------------------------------------------------------

/// The fields that may be set, with their other names.
const FIELDS: [(&str, &str); 14] = [
    ("groupname", "groupname"),
    ("name", "groupname"),
    ("description", "description"),
    ("desc", "description"),
    ("public", "public"),
    ("membersonly", "membersonly"),
    ("members_only", "membersonly"),
    ("approval", "membersonly"),
    ("allowinvites", "allowinvites"),
    ("allow_user_invites", "allowinvites"),
    ("invite_need_confirm", "invite_need_confirm"),
    ("maxusers", "maxusers"),
    ("custom", "custom"),
    ("avatar", "avatar"),
];

/// What is set by a call: the names as they were written, and what they mean, checked.
fn fields_of(body: &Map<String, Value>) -> Result<Vec<(&str, &'static str, Value)>, Fault> {
    let mut fields = Vec::new();
    for (written, value) in body {
        let Some((_, field)) = FIELDS.iter().find(|(name, _)| name == written) else { continue };
        if !value.is_null() {
            fields.push((written.as_str(), *field, checked(body, written, field)?));
        }
    }
    Ok(fields)
}

fn checked(body: &Map<String, Value>, written: &str, field: &str) -> Result<Value, Fault> {
    let short = |max: usize| {
        let text = text(body, written)?.unwrap_or_default();
        match text.chars().nth(max) {
            Some(_) => Err(Fault::parameter(format!("{field} length is too big"))),
            None => Ok(text.into()),
        }
    };
    match field {
        "groupname" => short(NAME_CHARS_MAX),
        "description" => short(DESCRIPTION_CHARS_MAX),
        "custom" => short(CUSTOM_CHARS_MAX),
        "avatar" => short(AVATAR_CHARS_MAX),
        "maxusers" => {
            let number = body.get(written).and_then(whole).filter(|number| *number > 0);
            number.map(Value::from).ok_or_else(Fault::body)
        }
        _ => Ok(flag(body, written)?.unwrap_or_default().into()),
    }
}

/// The attributes of a new group.
fn attributes_of(call: &Call, fields: Vec<(&str, &'static str, Value)>) -> Attributes {
    let default_max = MEMBERS_DEFAULT.min(call.app.settings.members_max as usize);
    let mut own = json!({
        "description": "", "public": false, "membersonly": false, "allowinvites": false,
        "invite_need_confirm": true, "maxusers": default_max, "custom": "", "avatar": "",
    });
    let mut name = Value::from("");
    for (_, field, value) in fields {
        if field == "groupname" { name = value } else { own[field] = value }
    }
    Attributes::from_iter([("name".to_owned(), name), (OWN.to_owned(), own)])
}

async fn create(call: &Call) -> Result<Reply, Fault> {
    let body = call.object().await?;
    let fields = fields_of(&body)?;
    if !fields.iter().any(|(_, field, _)| *field == "public") {
        return Err(Fault::parameter("group must contain public field!"));
    }
    if body.get("groupid").is_some_and(|number| !number.is_null()) {
        return Err(Fault::not_open());
    }
    let owner = match (text(&body, "owner")?, call.user()) {
        (Some(owner), Some(user)) if client_of(owner).as_ref() != Some(user) => {
            return Err(Fault::not_yours());
        }
        (_, Some(user)) => user.clone(),
        (Some(owner), None) if !owner.is_empty() => addable(call, owner).await?,
        (_, None) => return Err(Fault::parameter("owner must be provided")),
    };
    let names = texts(&body, "members")?.unwrap_or_default();
    let attributes = attributes_of(call, fields);
    let max = attributes[OWN]["maxusers"].as_u64().and_then(|max| usize::try_from(max).ok());
    let max = max.unwrap_or(usize::MAX).min(call.app.settings.members_max as usize);
    // The owner may be named among the members or not.
    if names.len() > max {
        return Err(Fault::exceeds("members size is greater than max user size !"));
    }
    let members = all_addable(call, &names).await?;
    let mut distinct = members.clone();
    distinct.push(owner.clone());
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() > max {
        return Err(Fault::exceeds("members size is greater than max user size !"));
    }
    let wish = CreateConversation { members, attributes, wish: KindWish::Lasting, unique: false };
    let created = call.posthouse().create_conversation(&call.acting(owner), wish).await;
    let task = Task::Group { group: "", user: "" };
    let number = created.map_err(|error| fault(task, &error))?.conversation.id.as_u64().to_string();
    Ok(Reply::new().data(json!({"groupid": number, "id": number})))
}

/// Owners and administrators change a group; only the owner hands it on.
async fn update(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let body = call.object().await?;
    let caller = actor(call, &group);
    if let Some(owner) = text(&body, "newowner")? {
        let client = client_of(owner).filter(|client| group.conversation.has_member(client));
        let client = client
            .ok_or_else(|| Fault::forbidden(format!("user: {owner} doesn't exist in group: {number}")))?;
        let authority = call.authority(Authority::Owner);
        let change = RoleChange::Owner(client);
        let changed = call.posthouse().change_role(&caller, group.conversation.id, change, authority).await;
        changed.map_err(|error| match error {
            Error::IsOwner => Fault::forbidden("new owner and old owner are the same"),
            error => fault(group.task(&shown(&caller.client)), &error),
        })?;
        return Ok(Reply::new().data(json!({"newowner": true})));
    }
    if let Some(unknown) = body.keys().find(|key| !FIELDS.iter().any(|(name, _)| name == key)) {
        return Err(Fault::parameter(format!("some of [{unknown}] are not valid fields")));
    }
    let fields = fields_of(&body)?;
    let done: Map<String, Value> =
        fields.iter().map(|(written, ..)| ((*written).to_owned(), true.into())).collect();
    let change = |(_, field, value): (&str, &'static str, Value)| AttributeChange {
        path: match field {
            "groupname" => vec!["name".to_owned()],
            own => vec![OWN.to_owned(), own.to_owned()],
        },
        operation: Operation::Set(value),
    };
    let changes: Vec<AttributeChange> = fields.into_iter().map(change).collect();
    if changes.is_empty() {
        return Err(Fault::body());
    }
    let authority = call.authority(Authority::Moderator);
    let id = group.conversation.id;
    let updated = call.posthouse().update_conversation_by(&caller, id, changes, authority).await;
    updated.map_err(|error| fault(group.task(&shown(&caller.client)), &error))?;
    Ok(Reply::new().data(done))
}

async fn end(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let caller = actor(call, &group);
    let authority = call.authority(Authority::Owner);
    let ended = call.posthouse().end_group(&caller, group.conversation.id, authority).await;
    ended.map_err(|error| fault(group.task(&shown(&caller.client)), &error))?;
    Ok(Reply::new().data(json!({"success": true, "groupid": number, "id": number})))
}

// ---- reading ----------------------------------------------------------------------------------------

/// Members and the back end see all of a group; others see public ones.
async fn describe(call: &Call, numbers: &str) -> Result<Reply, Fault> {
    let numbers: Vec<&str> = numbers.split(',').map(str::trim).filter(|number| !number.is_empty()).collect();
    if numbers.len() > DESCRIBED_MAX {
        return Err(Fault::parameter(format!("groups number more than maxSize : {DESCRIBED_MAX}")));
    }
    let mut described = Vec::with_capacity(numbers.len());
    for number in &numbers {
        match visible(call, number).await {
            Ok(group) => described.push(group.described(call)),
            Err(fault) if numbers.len() == 1 || fault.status >= 500 => return Err(fault),
            Err(_) => {}
        }
    }
    Ok(Reply::new().listed(described))
}

async fn visible(call: &Call, number: &str) -> Result<Group, Fault> {
    let group = load(call, number).await?;
    match call.user() {
        Some(user) if !group.flag("public") && !group.conversation.has_member(user) => {
            Err(Fault::not_in(&shown(user)))
        }
        Some(_) | None => Ok(group),
    }
}

/// A page of groups, and the next page's cursor.
async fn groups_page(
    call: &Call,
    member: Option<&ClientId>,
    skip: usize,
    limit: usize,
) -> Result<(Vec<Group>, u64), Fault> {
    let found = call.posthouse().list_groups(&call.app, member, skip, limit).await;
    let found = found.map_err(|error| fault(Task::Group { group: "", user: "" }, &error))?;
    Ok((found.groups.into_iter().map(group_from).collect(), found.total))
}

/// All groups of the app, for its back end.
async fn list(call: &Call) -> Result<Reply, Fault> {
    call.for_server()?;
    let limit = call.query.clamped("limit", PAGE_DEFAULT, PAGE_MAX)?;
    let skip = skipped(&call.query)?;
    let (groups, total) = groups_page(call, None, skip, limit).await?;
    let line = |group: &Group| {
        let modified = group.conversation.updated_at.0.to_string();
        json!({
            "owner": format!("{}_{}", call.app_key(), group.owner()),
            "groupid": group.number,
            "groupname": group.name(),
            "affiliations": group.conversation.members.len(),
            "type": "group",
            "created": group.conversation.created_at.0.to_string(),
            "lastModified": modified,
            "last_modified": modified,
        })
    };
    let cursor = next(skip, groups.len(), total);
    Ok(Reply::new().listed(groups.iter().map(line).collect()).cursor(cursor))
}

fn skipped(query: &Query) -> Result<usize, Fault> {
    Ok(usize::try_from(Cursor::number(query.get("cursor"))?).unwrap_or(usize::MAX))
}

fn next(skip: usize, seen: usize, total: u64) -> Option<String> {
    let seen = (skip as u64).saturating_add(seen as u64);
    (seen < total && seen > skip as u64).then(|| Cursor::Number(seen).text())
}

/// Groups that anybody may find, so many at a time. A page may be short, and even empty, although the
/// list goes on: few groups of an app may be public.
pub(super) async fn public(call: &Call) -> Result<Reply, Fault> {
    if call.verb != Verb::Get {
        return Err(Fault::no_method());
    }
    let limit = call.query.clamped("limit", PAGE_DEFAULT * 2, LOOKED_AT_ONCE)?;
    let start = skipped(&call.query)?;
    let (mut at, mut lines) = (start, Vec::new());
    let cursor = loop {
        let (groups, total) = groups_page(call, None, at, LOOKED_AT_ONCE).await?;
        let read = groups.len();
        let mut used = 0;
        for group in groups {
            used += 1;
            if group.flag("public") {
                lines.push(json!({
                    "id": group.number, "name": group.name(),
                    "groupid": group.number, "groupname": group.name(),
                }));
            }
            if lines.len() == limit {
                break;
            }
        }
        let cursor = next(at, used, total);
        at += used;
        if lines.len() == limit || read == 0 || cursor.is_none() || at - start >= LOOKED_AT_MAX {
            break cursor;
        }
    };
    Ok(Reply::new().listed(lines).cursor(cursor))
}

/// Size and first line of a page by numbers that begin with `first`.
fn numbered(query: &Query, first: usize, default: usize, max: usize) -> Result<(usize, usize), Fault> {
    let size = query.clamped("pagesize", default, max)?;
    let number =
        query.number("pagenum")?.map_or(first, |number| usize::try_from(number).unwrap_or(usize::MAX));
    Ok((size, number.saturating_sub(first).saturating_mul(size)))
}

/// `/users/{user}/joined_chatgroups`: SDKs know the shape by this address, and count pages from 0; back
/// ends count from 1.
pub(super) async fn joined_old(call: &Call, user: &str) -> Result<Reply, Fault> {
    if call.verb != Verb::Get {
        return Err(Fault::no_method());
    }
    let member = call.account(user).await?.client;
    let paged = call.query.get("pagesize").is_some() || call.query.get("pagenum").is_some();
    let first = usize::from(call.by_server() && call.query.get("version").is_none());
    let default = if paged { JOINED_PAGE_DEFAULT * 4 } else { JOINED_MAX };
    let (size, skip) = numbered(&call.query, first, default, JOINED_MAX)?;
    let (groups, total) = joined_page(call, &member, skip, size).await?;
    let line = |group: &Group| {
        json!({
            "groupid": group.number, "groupname": group.name(),
            "id": group.number, "name": group.name(),
            "disabled": false, "permission": permission(group.role(&member)),
        })
    };
    Ok(Reply::new().listed(groups.iter().map(line).collect()).with("total", total))
}

/// A page of a user's groups, which the store may return in parts.
async fn joined_page(
    call: &Call,
    member: &ClientId,
    skip: usize,
    size: usize,
) -> Result<(Vec<Group>, u64), Fault> {
    let (mut groups, total) = groups_page(call, Some(member), skip, size).await?;
    while groups.len() < size && (skip.saturating_add(groups.len()) as u64) < total {
        let (more, _) = groups_page(call, Some(member), skip + groups.len(), size - groups.len()).await?;
        if more.is_empty() {
            break;
        }
        groups.extend(more);
    }
    Ok((groups, total))
}

/// `/chatgroups/user/{user}`: the newer shape, with pages counted from 0.
async fn joined(call: &Call, user: &str) -> Result<Reply, Fault> {
    let member = call.account(user).await?.client;
    let (size, skip) = numbered(&call.query, 0, JOINED_PAGE_DEFAULT, 20)?;
    let (groups, total) = joined_page(call, &member, skip, size).await?;
    let entity = |group: &Group| {
        let mut entity = group.summary(call);
        entity.insert("groupId".to_owned(), group.number.as_str().into());
        entity.insert("permission".to_owned(), permission(group.role(&member)).into());
        Value::Object(entity)
    };
    Ok(Reply::new().entities(groups.iter().map(entity).collect()).with("total", total))
}

async fn joined_count(call: &Call, user: &str) -> Result<Reply, Fault> {
    let member = call.account(user).await?.client;
    let (_, total) = groups_page(call, Some(&member), 0, 1).await?;
    Ok(Reply::new().data(total))
}

/// The members in three forms: pages by number, pages by cursor, and plain names for one old SDK.
async fn members(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await.map_err(|fault| match fault.error {
        "resource_not_found" => Fault::no_group_of_members(number),
        _ => fault,
    })?;
    let query = &call.query;
    let mut members: Vec<_> = group.members().collect();
    if query.get("sort") == Some("desc") {
        members.reverse();
    }
    let by_number = query.has("pagenum") || query.has("pagesize");
    if by_number || !(query.has("cursor") || query.has("limit")) && query.get("version").is_none() {
        let (size, skip) = numbered(query, 1, PAGE_MAX, PAGE_MAX)?;
        let page = members.into_iter().skip(skip).take(size);
        let lines: Vec<Value> = page.map(|member| group.line(call, member)).collect();
        let mut params = query.params();
        params.insert("pagenum".to_owned(), json!([(skip / size + 1).to_string()]));
        params.insert("pagesize".to_owned(), json!([size.to_string()]));
        return Ok(Reply::new().listed(lines).with("params", params));
    }
    let limit = query.clamped("limit", PAGE_MAX, PAGE_MAX)?;
    let skip = skipped(query)?.min(members.len());
    let total = members.len() as u64;
    let page = members.into_iter().skip(skip).take(limit);
    let plain = query.get("version") == Some("v3") && !query.has("joined_time");
    let line = |member: (&ClientId, Option<Timestamp>)| {
        if plain { shown(member.0).into() } else { group.line(call, member) }
    };
    let lines: Vec<Value> = page.map(line).collect();
    let cursor = next(skip, lines.len(), total);
    Ok(Reply::new().listed(lines).cursor(cursor))
}

async fn is_joined(call: &Call, number: &str, user: &str) -> Result<Reply, Fault> {
    let member = call.account(user).await?.client;
    let group = load(call, number).await?;
    Ok(Reply::new().data(group.conversation.has_member(&member)))
}

// ---- members ----------------------------------------------------------------------------------------

/// Adds clients; returns who of them was not in before. A full group has other words for SDKs.
async fn bring_in(call: &Call, group: &Group, clients: Vec<ClientId>) -> Result<Vec<ClientId>, Fault> {
    let by = if group.flag("allowinvites") { Authority::Member } else { Authority::Moderator };
    admit(call, group, &actor(call, group), clients, call.authority(by)).await
}

async fn admit(
    call: &Call,
    group: &Group,
    caller: &Caller,
    clients: Vec<ClientId>,
    authority: Authority,
) -> Result<Vec<ClientId>, Fault> {
    let max = Some(group.members_max(call));
    let id = group.conversation.id;
    let added = call.posthouse().add_members_by(caller, id, clients, authority, max).await;
    let added = added.map_err(|error| match error {
        Error::ConversationFull { .. } if !call.by_server() => Fault::forbidden("group member list is full!"),
        error => fault(group.task(&shown(&caller.client)), &error),
    })?;
    Ok(added.changed)
}

async fn add(call: &Call, number: &str, user: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let client = addable(call, user).await?;
    let name = shown(&client);
    if bring_in(call, &group, vec![client]).await?.is_empty() {
        return Err(Fault::already_in(&name, number));
    }
    Ok(Reply::new().data(json!({"result": true, "groupid": number, "action": "add_member", "user": name})))
}

async fn add_many(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let body = call.object().await?;
    let names = usernames(&body, "addMembers: addMembers number more than maxSize : 60")?;
    let clients = all_addable(call, &names).await?;
    let first = clients.first().map(shown).unwrap_or_default();
    let added = bring_in(call, &group, clients).await?;
    if added.is_empty() {
        return Err(Fault::already_in(&first, number));
    }
    let added: Vec<String> = added.iter().map(shown).collect();
    Ok(Reply::new().data(json!({"newmembers": added, "groupid": number, "action": "add_member"})))
}

/// Invites: nobody is asked, who is invited is in. Each is told of alone.
async fn invite(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let body = call.object().await?;
    let names = usernames(&body, "addMembers: addMembers number more than maxSize : 60")?;
    let (mut clients, mut lines) = (Vec::new(), Vec::new());
    let line = |user: &str, reason: Option<String>| {
        let mut line = json!({"user": user, "result": reason.is_none(), "action": "invite", "id": number});
        if let Some(reason) = reason {
            line["reason"] = reason.into();
        }
        line
    };
    for name in &names {
        match addable(call, name).await {
            Ok(client) => clients.push(client),
            Err(fault) if fault.status == 404 => {
                lines.push(line(name, Some(fault.description.into_owned())));
            }
            Err(fault) => return Err(fault),
        }
    }
    if clients.is_empty() {
        return Err(Fault::no_username(names.first().map(String::as_str).unwrap_or_default()));
    }
    let added = bring_in(call, &group, clients.clone()).await?;
    if added.is_empty() {
        let who: Vec<String> = clients.iter().map(shown).collect();
        return Err(Fault::forbidden(format!(
            "invite users to join group failed, reason: user: {} already in group: {number}",
            who.join(",")
        )));
    }
    lines.extend(clients.iter().map(|client| {
        let reason =
            (!added.contains(client)).then(|| format!("user: {} already in group: {number}", shown(client)));
        line(&shown(client), reason)
    }));
    Ok(Reply::new().listed(lines))
}

/// Joins a public group that needs no approval. Waiting for an approval isn't offered.
async fn apply(call: &Call, number: &str) -> Result<Reply, Fault> {
    let user = call.user().ok_or_else(Fault::not_yours)?.clone();
    let group = load(call, number).await?;
    let name = shown(&user);
    if group.conversation.has_member(&user) {
        return Err(Fault::already_in(&name, number));
    }
    if !group.flag("public") {
        return Err(Fault::forbidden("can not join this group, reason: group is not public"));
    }
    if group.flag("membersonly") {
        return Err(Fault::not_open());
    }
    let caller = call.acting(user.clone());
    if admit(call, &group, &caller, vec![user], Authority::Member).await?.is_empty() {
        return Err(Fault::already_in(&name, number));
    }
    Ok(Reply::new().data(json!({
        "result": true, "action": "apply", "groupid": number, "id": number, "user": name,
    })))
}

async fn expel(call: &Call, group: &Group, caller: &Caller, clients: Vec<ClientId>) -> Result<(), Fault> {
    let authority = call.authority(Authority::Moderator);
    let id = group.conversation.id;
    let removed = call.posthouse().remove_members_by(caller, id, clients, authority).await;
    removed.map_err(|error| fault(group.task(&shown(&caller.client)), &error))?;
    Ok(())
}

async fn quit(call: &Call, number: &str) -> Result<Reply, Fault> {
    let user = call.user().ok_or_else(Fault::not_yours)?.clone();
    let group = load_inside(call, number).await?;
    if group.conversation.owner.as_ref() == Some(&user) {
        return Err(fault(group.task(""), &Error::IsOwner));
    }
    let name = shown(&user);
    expel(call, &group, &call.acting(user.clone()), vec![user]).await?;
    Ok(Reply::new().data(json!({
        "result": true, "action": "remove_member", "groupid": number, "id": number, "user": name,
    })))
}

/// Removes one or several, separated by commas; several are told of each alone.
async fn remove(call: &Call, number: &str, users: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let names: Vec<&str> = users.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.len() > NAMED_MAX {
        return Err(Fault::parameter("kickMember: kickMembers number more than maxSize : 60"));
    }
    let member = |name: &str| client_of(name).filter(|client| group.conversation.has_member(client));
    let members: Vec<ClientId> = names.iter().filter_map(|name| member(name)).collect();
    if members.is_empty() {
        return Err(Fault::not_in(users));
    }
    if members.iter().any(|client| group.conversation.owner.as_ref() == Some(client)) {
        return Err(fault(group.task(""), &Error::IsOwner));
    }
    expel(call, &group, &actor(call, &group), members).await?;
    let line = |name: &&str| {
        let (user, gone) =
            member(name).map_or_else(|| ((*name).to_owned(), false), |client| (shown(&client), true));
        let mut line = json!({"result": gone, "action": "remove_member", "user": user, "groupid": number});
        if !gone {
            line["reason"] = format!("user {user} doesn't exist.").into();
        }
        line
    };
    let mut lines: Vec<Value> = names.iter().map(line).collect();
    match lines.pop() {
        Some(only) if lines.is_empty() => Ok(Reply::new().data(only)),
        last => {
            lines.extend(last);
            Ok(Reply::new().data(lines))
        }
    }
}

// ---- administrators ---------------------------------------------------------------------------------

async fn admins(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    Ok(Reply::new().listed(group.conversation.admins.iter().map(|admin| shown(admin).into()).collect()))
}

async fn change_admin(call: &Call, group: &Group, change: RoleChange) -> Result<(), Fault> {
    let caller = actor(call, group);
    let authority = call.authority(Authority::Owner);
    let changed = call.posthouse().change_role(&caller, group.conversation.id, change, authority).await;
    changed.map_err(|error| fault(group.task(&shown(&caller.client)), &error))?;
    Ok(())
}

async fn add_admin(call: &Call, number: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let body = call.object().await?;
    let name = text(&body, "newadmin")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Fault::parameter("newadmin must be provided"))?;
    let missing = || Fault::not_found(format!("user: {name} doesn't exist in group: {number}"));
    let client =
        client_of(name).filter(|client| group.conversation.has_member(client)).ok_or_else(missing)?;
    if group.conversation.admins.len() >= ADMINS_MAX && !group.conversation.admins.contains(&client) {
        return Err(Fault::exceeds(format!("group admins can't exceed limit {ADMINS_MAX}")));
    }
    let name = shown(&client);
    change_admin(call, &group, RoleChange::Admin(client)).await?;
    Ok(Reply::new().data(json!({"result": "success", "newadmin": name})))
}

async fn remove_admin(call: &Call, number: &str, user: &str) -> Result<Reply, Fault> {
    let group = load_inside(call, number).await?;
    let client = client_of(user).filter(|client| group.conversation.admins.contains(client));
    let client =
        client.ok_or_else(|| Fault::forbidden(format!("user:{user} is not admin of group:{number}")))?;
    let name = shown(&client);
    change_admin(call, &group, RoleChange::NoAdmin(client)).await?;
    Ok(Reply::new().data(json!({"result": "success", "oldadmin": name})))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        object
    }

    #[test]
    fn fields_have_other_names() {
        let body =
            object(json!({"desc": "d", "approval": true, "maxusers": "300", "owner": "bob", "custom": null}));
        let fields = fields_of(&body).unwrap();
        let named: Vec<_> =
            fields.iter().map(|(written, field, value)| (*written, *field, value.clone())).collect();
        let wanted = [
            ("desc", "description", json!("d")),
            ("approval", "membersonly", json!(true)),
            ("maxusers", "maxusers", json!(300)),
        ];
        assert_eq!(named, wanted);
    }

    #[test]
    fn fields_have_limits_and_types() {
        for (body, error) in [
            (json!({"groupname": "猫".repeat(129)}), "invalid_parameter"),
            (json!({"desc": "d".repeat(513)}), "invalid_parameter"),
            (json!({"avatar": "d".repeat(1025)}), "invalid_parameter"),
            (json!({"groupname": 7}), "invalid_request_body"),
            (json!({"public": 1}), "invalid_request_body"),
            (json!({"maxusers": 0}), "invalid_request_body"),
            (json!({"maxusers": "many"}), "invalid_request_body"),
        ] {
            assert_eq!(fields_of(&object(body)).unwrap_err().error, error);
        }
    }

    #[test]
    fn sixty_users_are_named_at_once_and_no_more() {
        let names = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("u{n}")).collect();
            usernames(&object(json!({ "usernames": names })), "too many")
        };
        assert_eq!(names(60).map(|names| names.len()), Ok(60));
        assert_eq!(names(61), Err(Fault::parameter("too many")));
        assert_eq!(names(0), Err(Fault::parameter("usernames must be provided")));
    }

    #[test]
    fn pages_are_counted_from_where_the_call_says() {
        let query = |text: &str| Query::parse(Some(text));
        assert_eq!(numbered(&query("pagenum=0&pagesize=20"), 0, 5, 20), Ok((20, 0)));
        assert_eq!(numbered(&query("pagenum=2&pagesize=10"), 1, 5, 20), Ok((10, 10)));
        assert_eq!(numbered(&query("pagenum=0&pagesize=50"), 1, 5, 20), Ok((20, 0)));
        assert_eq!(numbered(&query(""), 0, 5, 20), Ok((5, 0)));
        assert!(numbered(&query("pagenum=x"), 0, 5, 20).is_err());
    }

    #[test]
    fn a_list_ends_where_its_last_line_was_seen() {
        assert_eq!(next(0, 10, 10), None);
        assert_eq!(next(0, 10, 11), Some(Cursor::Number(10).text()));
        assert_eq!(next(20, 0, 11), None);
        assert_eq!(next(5, 0, 11), None, "an empty page has no successor");
    }
}
