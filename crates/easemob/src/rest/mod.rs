//! What SDKs and back ends call over HTTP, under `/{org}/{app}`.
//!
//! Every call takes the same way: the app, the token, who may, the body, the use case; and every
//! answer is a JSON object. [`call`] is that way and its envelope; there is one file for each resource.
//! Parts of the API that are not offered say so in a form in which SDKs understand it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use posthouse_transport::http::RequestOrigin;

use crate::error::rest::Fault;
use crate::query::{Query, decode};
use crate::{Easemob, keys};

use arrival::Arrival;
use call::{Call, Place, Prefix, Reply, Verb, refused};

mod arrival;
mod call;
mod contacts;
mod conversations;
mod discovery;
mod files;
mod groups;
mod history;
mod messages;
mod removal;
mod token;
pub(crate) mod uploads;
mod users;

/// The routes of `gateway`.
pub(crate) fn router(gateway: Arc<Easemob>) -> Router {
    routes().with_state(gateway)
}

/// Below the app, paths have more aliases and oddities than a table of routes can say.
fn routes() -> Router<Arc<Easemob>> {
    Router::new()
        .route("/easemob/server.json", any(discovery::document))
        .route("/{org}/{app}", any(answer))
        .route("/{org}/{app}/", any(answer))
        .route("/{org}/{app}/{*rest}", any(answer))
}

async fn answer(State(gateway): State<Arc<Easemob>>, origin: RequestOrigin, request: Request) -> Response {
    let now = gateway.posthouse().now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let [org, name, rest @ ..] = segments.as_slice() else {
        return refused(&Fault::no_resource(), now, 0);
    };
    let Some(app) = gateway.posthouse().app_by_key(keys::APP_KEY, &format!("{org}#{name}")) else {
        return refused(&Fault::no_app(org, name, path.trim_start_matches('/')), now, 0);
    };
    let scheme = if origin.secure { "https" } else { "http" };
    let place = Place {
        org: org.clone(),
        name: name.clone(),
        base: format!("{scheme}://{}/{org}/{name}", origin.host),
        uri: format!("{scheme}://{}{path}", origin.host),
        client: origin.client,
    };
    let (prefix, rest) = resource(rest);
    let verb = Verb::of(parts.method.as_str());
    let query = Query::parse(parts.uri.query());
    let mut call = Call::new(gateway, app, verb, prefix, query, parts.headers, place, body);
    let outcome = Box::pin(open_call(&mut call, &rest)).await;
    if outcome.is_err() && rest.first() == Some(&"chatfiles") {
        // A file that nobody has looked at, of a caller who may not bring it or has to wait.
        Arrival::new(call.take_body()).read_on().await;
    }
    call.answer(outcome)
}

/// The segments of a path by their own names, without a prefix.
fn resource(segments: &[String]) -> (Prefix, Vec<&str>) {
    let mut names: Vec<&str> = segments.iter().map(String::as_str).collect();
    let prefix = match names.first() {
        Some(&"sdk") => Prefix::Sdk,
        Some(&"rest") => Prefix::Rest,
        Some(_) | None => Prefix::None,
    };
    if prefix != Prefix::None {
        names.remove(0);
    }
    if let Some(first) = names.first_mut() {
        *first = match *first {
            "user" => "users",
            "thread" => "threads",
            "callback" => "callbacks",
            other => other,
        };
    }
    (prefix, names)
}

/// Calls that need no token or judge it themselves, and all others.
async fn open_call(call: &mut Call, path: &[&str]) -> Result<Reply, Fault> {
    match (call.verb, path) {
        (_, ["token"]) => return token::token(call).await,
        (Verb::Post, ["users"]) => return users::register(call).await,
        (Verb::Get, ["chatfiles", id]) => return files::download(call, id).await,
        // The SDK then uploads in one part.
        (_, ["chatfiles", "part-upload", ..]) => return Err(Fault::no_resource()),
        (_, [family, ..]) if OFFERED.contains(family) || NOT_OFFERED.contains(family) => {}
        _ => return Err(Fault::no_resource()),
    }
    call.who = Some(call.bearer().await?);
    if call.prefix == Prefix::Rest {
        call.for_server()?;
    }
    call.admit(path)?;
    known_call(call, path).await
}

/// First names of paths with something behind them.
const OFFERED: [&str; 6] = ["users", "messages", "message", "chatgroups", "publicchatgroups", "chatfiles"];

/// First names of paths that the hosted cloud has and this server has not (rest 3.6 to 3.12).
const NOT_OFFERED: [&str; 13] = [
    "callbacks",
    "chatmessages",
    "chatrooms",
    "metadata",
    "moderation",
    "moderationfiles",
    "mutes",
    "notification",
    "presence",
    "push",
    "reaction",
    "rtc_mapper",
    "threads",
];

/// Calls of somebody whom a token proves.
async fn known_call(call: &Call, path: &[&str]) -> Result<Reply, Fault> {
    match path {
        ["users", user, "contacts", rest @ ..] => Box::pin(contacts::contacts(call, user, rest)).await,
        ["users", user, "blocks", rest @ ..] => Box::pin(contacts::blocks(call, user, rest)).await,
        ["users", user, list @ ("user_channels" | "user_channel"), rest @ ..] => {
            Box::pin(conversations::lists(call, user, list, rest)).await
        }
        ["users", user, "messageroaming"] => Box::pin(history::history(call, user)).await,
        ["users", user, "joined_chatgroups"] => Box::pin(groups::joined_old(call, user)).await,
        ["users", user, "token", "expires"] => token::expires(call, user).await,
        ["users", rest @ ..] => Box::pin(users::users(call, rest)).await,
        ["messages", rest @ ..] => Box::pin(messages::messages(call, rest)).await,
        ["message", "roaming", rest @ ..] => Box::pin(removal::removal(call, rest)).await,
        ["chatgroups", rest @ ..] => Box::pin(groups::groups(call, rest)).await,
        ["publicchatgroups"] => Box::pin(groups::public(call)).await,
        ["chatfiles"] => Box::pin(files::upload(call)).await,
        ["message" | "chatfiles" | "publicchatgroups", ..] => Err(Fault::no_resource()),
        _ => Err(Fault::not_open()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn named(path: &str) -> (Prefix, Vec<String>) {
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let (prefix, names) = resource(&segments);
        (prefix, names.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn no_two_routes_contradict_each_other() {
        // Axum panics while it puts them together if they do.
        assert!(routes().has_routes());
    }

    #[test]
    fn a_resource_has_several_names() {
        let users = vec!["users".to_owned(), "bob".to_owned()];
        assert_eq!(named("users/bob"), (Prefix::None, users.clone()));
        assert_eq!(named("user/bob"), (Prefix::None, users.clone()));
        assert_eq!(named("sdk/user/bob"), (Prefix::Sdk, users.clone()));
        assert_eq!(named("rest/users/bob"), (Prefix::Rest, users));
        assert_eq!(named("message/roaming/chat/user/bob").1[3], "user", "only the first name has aliases");
    }
}
