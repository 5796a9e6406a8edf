//! `POST /token`: tokens of back ends and users (rest 2.1), and when a token ends.

use std::sync::Arc;

use posthouse_core::Error;
use posthouse_core::account::{Account, NewAccount};
use posthouse_core::id::ClientId;
use posthouse_core::time::Timestamp;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use super::call::{Call, Reply, Verb, flag, text, uuid};
use super::users::client_to_register;
use crate::auth::Bearer;
use crate::error::rest::{Fault, Task, fault};
use crate::keys;
use crate::query::client_of;

/// SDKs read the life of a token as a number of 32 bits; longer wishes, and "never", are granted as
/// this.
const LIFE_MAX: u64 = 2_147_483_647;

/// Gives a token.
pub(super) async fn token(call: &Call) -> Result<Reply, Fault> {
    if call.verb != Verb::Post {
        return Err(Fault::no_method());
    }
    let body = call.object().await?;
    let life = life(call, &body)?;
    match text(&body, "grant_type")? {
        Some("password") => by_password(call, &body, life).await,
        Some("client_credentials") => by_credentials(call, &body, life),
        Some("inherit") => by_inheritance(call, &body, life).await,
        Some("agora") => Err(Fault::not_open()),
        Some(_) | None => Err(Fault::argument("grant_type must be password, client_credentials or inherit")),
    }
}

/// When the caller's own token ends.
pub(super) async fn expires(call: &Call, user: &str) -> Result<Reply, Fault> {
    if call.verb != Verb::Get {
        return Err(Fault::no_method());
    }
    let account = call.account(user).await?;
    match &call.who {
        Some(Bearer::User { expires_at, .. }) => Ok(Reply::of("/users")
            .entities(vec![call.entity(&account)])
            .with("expire_timestamp", expires_at.0)),
        Some(Bearer::App) | None => Err(Fault::not_yours()),
    }
}

/// The life that is asked for, in seconds: a number or its digits.
fn life(call: &Call, body: &Map<String, Value>) -> Result<u64, Fault> {
    let seconds = match body.get("ttl") {
        None | Some(Value::Null) => return Ok(call.app.settings.user_token_seconds.into()),
        Some(Value::String(text)) if text.is_empty() => {
            return Ok(call.app.settings.user_token_seconds.into());
        }
        Some(Value::String(text)) => text.trim().parse::<u64>().ok(),
        Some(Value::Number(number)) => number.as_u64(),
        Some(_) => None,
    };
    match seconds {
        None => Err(Fault::argument("ttl must be a number of seconds")),
        Some(0) => Ok(LIFE_MAX),
        Some(seconds) => Ok(seconds.min(LIFE_MAX)),
    }
}

async fn by_password(call: &Call, body: &Map<String, Value>, life: u64) -> Result<Reply, Fault> {
    let username = text(body, "username")?.filter(|name| !name.is_empty());
    let username = username.ok_or_else(|| Fault::argument("username must be provided"))?;
    let password = text(body, "password")?.ok_or_else(|| Fault::argument("password must be provided"))?;
    let (guesses, from) = (&call.gateway.auth().guesses, call.place.client);
    guesses.admit(&call.app, from, call.began)?;
    let nobody = || {
        guesses.was_wrong(&call.app, from, None, call.began);
        Fault::nobody_to_log_in()
    };
    let client = client_of(username).ok_or_else(nobody)?;
    let account = call.account_of(&client).await?.ok_or_else(nobody)?;
    let opens = match &account.secret {
        Some(secret) => opens(call, &client, password, secret).await?,
        None => false,
    };
    if !opens {
        guesses.was_wrong(&call.app, from, Some(&client), call.posthouse().now());
        return Err(Fault::grant("invalid password"));
    }
    of_user(call, &account, life)
}

/// Whether `password` is the one of `secret`, looked at in its turn.
async fn opens(call: &Call, client: &ClientId, password: &str, secret: &Arc<str>) -> Result<bool, Fault> {
    let (auth, from) = (call.gateway.auth(), call.place.client);
    let attempt = auth.guesses.attempt(&call.app, from, Some(client), call.began)?;
    let opening = auth.opens(password.to_owned(), secret.clone(), attempt.lane);
    opening.await.map_err(|error| fault(Task::Account, &error))
}

fn by_credentials(call: &Call, body: &Map<String, Value>, life: u64) -> Result<Reply, Fault> {
    let given = |field, words: &'static str| match text(body, field)? {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) | None => Err(Fault::argument(words)),
    };
    let id = given("client_id", "client_id must be provided.")?;
    let secret = given("client_secret", "client_secret must be provided")?;
    let same = |key, given: &str| {
        call.app.key(key).is_some_and(|key| bool::from(key.as_bytes().ct_eq(given.as_bytes())))
    };
    let (guesses, from) = (&call.gateway.auth().guesses, call.place.client);
    guesses.admit(&call.app, from, call.began)?;
    let wrong = |words| {
        guesses.was_wrong(&call.app, from, None, call.began);
        Err(Fault::grant(words))
    };
    if !same(keys::CLIENT_ID, id) {
        return wrong("client_id does not match");
    }
    if !same(keys::CLIENT_SECRET, secret) {
        return wrong("client_secret does not match");
    }
    let token = call.gateway.auth().app_token(call.posthouse(), &call.app, end(call, life));
    Ok(Reply::Bare(Map::new())
        .with("access_token", token)
        .with("expires_in", life)
        .with("application", uuid(&["app", call.app.id.as_str()])))
}

/// A user's token without the user's password, for the back end.
async fn by_inheritance(call: &Call, body: &Map<String, Value>, life: u64) -> Result<Reply, Fault> {
    match call.bearer().await? {
        Bearer::App => {}
        Bearer::User { .. } => return Err(Fault::not_yours()),
    }
    let username = text(body, "username")?.unwrap_or_default();
    let may_register = flag(body, "autoCreateUser")?.unwrap_or_default();
    let nobody = Fault::no_user_entity;
    let client =
        if may_register { client_to_register(username)? } else { client_of(username).ok_or_else(nobody)? };
    let account = match call.account_of(&client).await? {
        Some(account) => account,
        None if may_register => add(call, client).await?,
        None => return Err(nobody()),
    };
    of_user(call, &account, life)
}

async fn add(call: &Call, client: ClientId) -> Result<Account, Fault> {
    let new = NewAccount { client, secret: None, nickname: None };
    call.posthouse().add_account(&call.app, new).await.map_err(|error| match error {
        Error::AccountExists => Fault::registered_meanwhile(),
        error => fault(Task::Account, &error),
    })
}

fn of_user(call: &Call, account: &Account, life: u64) -> Result<Reply, Fault> {
    if !account.active {
        return Err(Fault::grant("user not activated"));
    }
    let token = call.gateway.auth().user_token(call.posthouse(), &call.app, account, end(call, life));
    Ok(Reply::Bare(Map::new())
        .with("access_token", token)
        .with("expires_in", life)
        .with("user", json!(call.entity(account))))
}

fn end(call: &Call, life: u64) -> Timestamp {
    call.posthouse().now().plus_ms(i64::try_from(life).unwrap_or(i64::MAX).saturating_mul(1_000))
}
