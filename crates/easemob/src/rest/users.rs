//! Users: registering, reading, changing and removing them, and who is online (rest 3.1, client 7.4).

use std::sync::Arc;

use posthouse_core::Error;
use posthouse_core::account::{Account, AccountChange, NewAccount};
use posthouse_core::id::{ClientId, DeviceId};
use serde_json::{Map, Value, json};

use super::call::{Call, Reply, Verb, shown, text, texts, uuid};
use crate::auth::Bearer;
use crate::error::rest::{Fault, Task, fault};
use crate::guesses::Lane;
use crate::query::{Cursor, client_of};
use crate::wire::name::{self, BadName};

/// Users registered in one call.
const REGISTERED_MAX: usize = 60;
/// Users listed, asked about or removed in one call.
const LISTED_MAX: usize = 100;
const LISTED_DEFAULT: usize = 10;
const PASSWORD_CHARS_MAX: usize = 64;
const NICKNAME_CHARS_MAX: usize = 100;

// ---- registering ------------------------------------------------------------------------------------

/// `POST /users`: one user or a list. Who has no token may register itself where the app lets anybody.
pub(super) async fn register(call: &Call) -> Result<Reply, Fault> {
    let open = call.app.settings.registration_open;
    let by_server = match call.token() {
        None if open => false,
        None => {
            return Err(Fault::not_registered(
                "Open registration doesn't allow, so register user need token",
            )
            .by_setting("registration_open"));
        }
        Some(_) => match call.bearer().await? {
            Bearer::App => {
                let admitted = call.posthouse().admit_server(&call.app, "users");
                admitted.map_err(|error| fault(Task::Account, &error))?;
                true
            }
            Bearer::User { .. } if open => false,
            Bearer::User { .. } => {
                return Err(Fault::not_registered("registration is not open, please contact the app admin")
                    .by_setting("registration_open"));
            }
        },
    };
    match call.value().await? {
        Some(Value::Object(user)) => {
            let wish = Wish::parse(&user, by_server)?;
            let account = add(call, wish, by_server).await?;
            Ok(Reply::of("/users").entities(vec![call.entity(&account)]))
        }
        // Each costs a slow hash, so strangers bring one at a time.
        Some(Value::Array(_)) if !by_server => {
            Err(Fault::not_registered("Open registration doesn't allow, so register user need token"))
        }
        Some(Value::Array(users)) => add_many(call, &users).await,
        Some(_) | None => Err(Fault::body()),
    }
}

/// The client of a name that can be registered.
pub(super) fn client_to_register(username: &str) -> Result<ClientId, Fault> {
    let refused = |bad| match bad {
        BadName::TooLong => Fault::argument("USERNAME_TOO_LONG"),
        BadName::Empty | BadName::Characters | BadName::Dots | BadName::Escape | BadName::Reserved => {
            Fault::argument(format!("username [{username}] is not legal"))
        }
    };
    let id = name::registrable(username).map_err(refused)?;
    ClientId::parse(&id).map_err(|_| refused(BadName::Characters))
}

/// The wish to register.
struct Wish {
    client: ClientId,
    password: Option<String>,
    nickname: Option<String>,
}

impl Wish {
    fn parse(user: &Map<String, Value>, by_server: bool) -> Result<Self, Fault> {
        let username = text(user, "username")?
            .ok_or_else(|| Fault::argument("Entity user requires a property named username"))?;
        let password = text(user, "password")?;
        if password.map_or(!by_server, str::is_empty) {
            return Err(Fault::argument("password or pin must provided"));
        }
        Ok(Self {
            client: client_to_register(username)?,
            password: password.map(password_of).transpose()?,
            nickname: text(user, "nickname")?.map(nickname_of).transpose()?,
        })
    }
}

fn password_of(password: &str) -> Result<String, Fault> {
    if password.chars().nth(PASSWORD_CHARS_MAX).is_some() {
        return Err(Fault::argument("PASSWORD_TOO_LONG"));
    }
    Ok(password.to_owned())
}

fn nickname_of(nickname: &str) -> Result<String, Fault> {
    if nickname.chars().nth(NICKNAME_CHARS_MAX).is_some() {
        return Err(Fault::argument("NICKNAME_TOO_LONG"));
    }
    Ok(nickname.to_owned())
}

async fn add(call: &Call, wish: Wish, by_server: bool) -> Result<Account, Fault> {
    let taken =
        |client: &ClientId| Fault::registered_already(&uuid(&["app", call.app.id.as_str()]), &shown(client));
    let Wish { client, password, nickname } = wish;
    // Looked up before the password is hashed, which is the dearest part by far.
    if call.account_of(&client).await?.is_some() {
        return Err(taken(&client));
    }
    let failed = |error| fault(Task::Account, &error);
    let secret = match password {
        Some(password) if by_server => Some(hash(call, password, Lane::Clear).await?),
        Some(password) => {
            let guesses = &call.gateway.auth().guesses;
            let attempt = guesses.attempt(&call.app, call.place.client, None, call.began)?;
            Some(hash(call, password, attempt.lane).await?)
        }
        None => None,
    };
    let new = NewAccount { client: client.clone(), secret, nickname: nickname.map(Into::into) };
    call.posthouse().add_account(&call.app, new).await.map_err(|error| match error {
        Error::AccountExists => taken(&client),
        error => failed(error),
    })
}

async fn hash(call: &Call, password: String, lane: Lane) -> Result<Arc<str>, Fault> {
    let hashing = call.gateway.auth().hash(call.posthouse(), password, lane);
    hashing.await.map_err(|error| fault(Task::Account, &error))
}

/// Those whose names are taken don't keep the others out. What can't be read keeps everybody out.
async fn add_many(call: &Call, users: &[Value]) -> Result<Reply, Fault> {
    if users.len() > REGISTERED_MAX {
        let words = format!(
            "Request body array size[{}] had almost reached or been greater than the upper range value[{REGISTERED_MAX}]",
            users.len()
        );
        return Err(Fault::argument(words));
    }
    let wish = |user: &Value| Wish::parse(user.as_object().ok_or_else(Fault::body)?, true);
    let wishes: Vec<Wish> = users.iter().map(wish).collect::<Result<_, _>>()?;
    let (mut added, mut failed) = (Vec::new(), Vec::new());
    for wish in wishes {
        let username = shown(&wish.client);
        match add(call, wish, true).await {
            Ok(account) => added.push(call.entity(&account)),
            Err(fault) if fault.status == 400 => failed.push(json!({
                "username": username,
                "registerUserFailReason": format!("the {username} already exists"),
            })),
            Err(fault) => return Err(fault),
        }
    }
    Ok(Reply::of("/users").entities(added).data(failed))
}

// ---- everything else --------------------------------------------------------------------------------

/// Calls below `/users` that concern no lists, contacts or groups.
pub(super) async fn users(call: &Call, path: &[&str]) -> Result<Reply, Fault> {
    match (path, call.verb) {
        ([], Verb::Get) => list(call).await,
        ([], Verb::Delete) => remove_oldest(call).await,
        (["batch", "status"], Verb::Post) => statuses(call).await,
        ([user], Verb::Get) => {
            let account = call.account(user).await?;
            Ok(Reply::of("/users").entities(vec![call.entity(&account)]))
        }
        ([user], Verb::Put) => change(call, user).await,
        ([user], Verb::Delete) => remove(call, user).await,
        ([user, "password"], Verb::Put | Verb::Post) => set_password(call, user).await,
        ([user, "deactivate"], Verb::Post) => set_active(call, user, false).await,
        ([user, "activate"], Verb::Post) => set_active(call, user, true).await,
        ([user, "disconnect"], Verb::Get | Verb::Post | Verb::Delete) => dismiss(call, user, None).await,
        ([user, "disconnect", device], Verb::Get | Verb::Delete) => dismiss(call, user, Some(device)).await,
        ([user, "status"], Verb::Get) => status(call, user).await,
        ([user, "resources"], Verb::Get) => resources(call, user).await,
        (
            []
            | [_]
            | ["batch", "status"]
            | [_, "password" | "deactivate" | "activate" | "disconnect" | "status" | "resources"]
            | [_, "disconnect", _],
            _,
        ) => Err(Fault::no_method()),
        (
            [
                _,
                "client" | "joined_chatrooms" | "moderation" | "notification" | "offline_msg_count"
                | "offline_msg_status" | "presence" | "push" | "translate",
                ..,
            ]
            | [_, "token", "rtc"],
            _,
        ) => Err(Fault::not_open()),
        _ => Err(Fault::no_resource()),
    }
}

async fn list(call: &Call) -> Result<Reply, Fault> {
    call.for_server()?;
    let limit = call.query.clamped("limit", LISTED_DEFAULT, LISTED_MAX)?;
    let (accounts, cursor) = oldest(call, limit).await?;
    Ok(Reply::of("/users")
        .entities(accounts.iter().map(|account| call.entity(account)).collect())
        .cursor(cursor))
}

/// The oldest accounts after the cursor, and the next cursor if there are more.
async fn oldest(call: &Call, limit: usize) -> Result<(Vec<Account>, Option<String>), Fault> {
    let after = Cursor::number(call.query.get("cursor"))?;
    let found = call.posthouse().list_accounts(&call.app, after, limit + 1).await;
    let mut accounts = found.map_err(|error| fault(Task::Account, &error))?;
    let more = accounts.len() > limit;
    accounts.truncate(limit);
    let cursor = accounts.last().filter(|_| more).map(|last| Cursor::Number(last.number).text());
    Ok((accounts, cursor))
}

async fn remove(call: &Call, user: &str) -> Result<Reply, Fault> {
    call.for_server()?;
    let account = call.account(user).await?;
    remove_one(call, &account).await?;
    Ok(Reply::of("/users").entities(vec![call.entity(&account)]))
}

/// Removes the oldest so many. Whoever means it says how many.
async fn remove_oldest(call: &Call) -> Result<Reply, Fault> {
    call.for_server()?;
    let limit = call.query.within("limit", None, LISTED_MAX)?;
    let (accounts, cursor) = oldest(call, limit).await?;
    for account in &accounts {
        remove_one(call, account).await?;
    }
    Ok(Reply::of("/users")
        .entities(accounts.iter().map(|account| call.entity(account)).collect())
        .cursor(cursor))
}

async fn remove_one(call: &Call, account: &Account) -> Result<(), Fault> {
    match call.posthouse().remove_account(&call.app, &account.client).await {
        // Somebody else was quicker.
        Ok(_) | Err(Error::AccountNotFound) => Ok(()),
        Err(error) => Err(fault(Task::Account, &error)),
    }
}

async fn set_password(call: &Call, user: &str) -> Result<Reply, Fault> {
    call.for_server()?;
    let body = call.object().await?;
    let password = text(&body, "newpassword")?.filter(|password| !password.is_empty());
    let password = password_of(password.ok_or_else(|| Fault::argument("newpassword is required"))?)?;
    let nobody = Fault::no_user_entity;
    let client = client_of(user).ok_or_else(nobody)?;
    if call.account_of(&client).await?.is_none() {
        return Err(nobody());
    }
    let secret = hash(call, password, Lane::Clear).await?;
    changed(call, &client, AccountChange::Secret(secret)).await?;
    Ok(Reply::of("/users").with("action", "set user password"))
}

async fn set_active(call: &Call, user: &str, active: bool) -> Result<Reply, Fault> {
    call.for_server()?;
    let account = call.account(user).await?;
    let account = changed(call, &account.client, AccountChange::Active(active)).await?;
    let action = if active { "activate user" } else { "Deactivate user" };
    Ok(Reply::of("/users").with("action", action).entities(vec![call.entity(&account)]))
}

/// The nickname is kept. Push tokens are taken note of and nothing else: pushing to telephones isn't
/// offered.
async fn change(call: &Call, user: &str) -> Result<Reply, Fault> {
    let mut account = call.account(user).await?;
    let body = call.object().await?;
    if body.contains_key("entities") {
        return Err(Fault::not_open());
    }
    if let Some(nickname) = text(&body, "nickname")? {
        let nickname = nickname_of(nickname)?;
        account = changed(call, &account.client, AccountChange::Nickname(nickname.into())).await?;
    }
    Ok(Reply::of("/users").entities(vec![call.entity(&account)]))
}

async fn changed(call: &Call, client: &ClientId, change: AccountChange) -> Result<Account, Fault> {
    let changed = call.posthouse().change_account(&call.app, client, change).await;
    changed.map_err(|error| fault(Task::Account, &error))
}

async fn dismiss(call: &Call, user: &str, device: Option<&str>) -> Result<Reply, Fault> {
    call.for_server()?;
    let account = call.account(user).await?;
    let result = match device.map(DeviceId::parse) {
        // No device has such a name.
        Some(Err(_)) => false,
        Some(Ok(device)) => call.posthouse().dismiss(&call.app, &account.client, Some(&device)) > 0,
        None => {
            call.posthouse().dismiss(&call.app, &account.client, None);
            true
        }
    };
    Ok(Reply::of("/users").entities(Vec::new()).data(json!({ "result": result })))
}

/// SDKs look for the name as they wrote it.
async fn status(call: &Call, user: &str) -> Result<Reply, Fault> {
    let account = call.account(user).await?;
    Ok(Reply::of("/users").entities(Vec::new()).data(one(user, presence(call, Some(&account.client)))))
}

async fn statuses(call: &Call) -> Result<Reply, Fault> {
    call.for_server()?;
    let body = call.object().await?;
    let names = texts(&body, "usernames")?.ok_or_else(Fault::body)?;
    if names.len() > LISTED_MAX {
        return Err(Fault::argument("request body exceeds maximum limit, maximum limit is 100"));
    }
    let lines = names.iter().map(|name| one(name, presence(call, client_of(name).as_ref())));
    Ok(Reply::of("/users").with("action", "get batch user status").listed(lines.collect()))
}

fn presence(call: &Call, client: Option<&ClientId>) -> &'static str {
    let online = client.is_some_and(|client| !call.posthouse().devices(&call.app, client).is_empty());
    if online { "online" } else { "offline" }
}

fn one(name: &str, value: &str) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value.into())]))
}

async fn resources(call: &Call, user: &str) -> Result<Reply, Fault> {
    let account = call.account(user).await?;
    let devices = call.posthouse().devices(&call.app, &account.client);
    let line = |device: DeviceId| {
        let name = device.as_str();
        json!({"res": name, "device_uuid": uuid(&["device", name]), "device_name": name})
    };
    Ok(Reply::of("/users").listed(devices.into_iter().map(line).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn words(user: &Value, by_server: bool) -> Option<String> {
        Wish::parse(user.as_object().unwrap(), by_server).err().map(|fault| fault.description.into_owned())
    }

    #[test]
    fn who_registers_is_told_what_is_wrong() {
        let long = "a".repeat(65);
        for (user, expected) in [
            (json!({"password": "1"}), "Entity user requires a property named username"),
            (json!({"username": "a b", "password": "1"}), "username [a b] is not legal"),
            (json!({"username": "", "password": "1"}), "username [] is not legal"),
            (json!({"username": "x-a", "password": "1"}), "username [x-a] is not legal"),
            (json!({"username": "..", "password": "1"}), "username [..] is not legal"),
            (json!({"username": long, "password": "1"}), "USERNAME_TOO_LONG"),
            (json!({"username": "a"}), "password or pin must provided"),
            (json!({"username": "a", "password": ""}), "password or pin must provided"),
            (json!({"username": "a", "password": long}), "PASSWORD_TOO_LONG"),
            (json!({"username": "a", "password": "1", "nickname": "猫".repeat(101)}), "NICKNAME_TOO_LONG"),
            (
                json!({"username": 7, "password": "1"}),
                "Request body is invalid. Please check body is correct.",
            ),
        ] {
            assert_eq!(words(&user, false).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_back_end_may_leave_the_password_out() {
        assert_eq!(words(&json!({"username": "Alice"}), true), None);
        assert_eq!(
            words(&json!({"username": "Alice", "password": ""}), true).as_deref(),
            Some("password or pin must provided")
        );
        let wish =
            Wish::parse(json!({"username": "Alice", "nickname": "A"}).as_object().unwrap(), true).unwrap();
        assert_eq!((wish.client.as_str(), wish.nickname.as_deref()), ("alice", Some("A")));
    }
}
