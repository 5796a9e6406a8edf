//! `GET /rtm/notifications`: what happened to a client's conversations while it was away.
//!
//! JS asks for the permanent notifications and follows pages; Swift asks for everything at once and
//! expects another shape.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use posthouse_core::Error;
use posthouse_core::app::App;
use posthouse_core::event::Missed;
use posthouse_core::id::ClientId;
use posthouse_core::rate::Rate;
use posthouse_core::time::Timestamp;
use posthouse_transport::http::json;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{credentials, refusal, refused, too_many, unauthorized};
use crate::LeanCloud;
use crate::auth::TokenFault;
use crate::error::{Code, Operation, Refusal};
use crate::outbound::{NotificationStyle, notification};

/// The header that proves a login.
const SESSION_TOKEN: &str = "x-lc-im-session-token";

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    start_ts: String,
    notification_type: Option<String>,
}

pub(super) async fn notifications(
    State(gateway): State<Arc<LeanCloud>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    let posthouse = gateway.posthouse();
    let Some(app) = credentials::app(posthouse, &headers) else { return unauthorized() };
    let Ok(client) = ClientId::parse(&asked.client_id) else {
        return refused(StatusCode::BAD_REQUEST, 1, "client_id is missing or too long");
    };
    let Ok(since) = asked.start_ts.parse::<i64>().map(Timestamp) else {
        return refused(StatusCode::BAD_REQUEST, 1, "start_ts is not a time in milliseconds");
    };
    let token = headers.get(SESSION_TOKEN).and_then(|token| token.to_str().ok()).unwrap_or_default();
    let words = match gateway.tokens().verify(token, posthouse.now()) {
        Ok(claims) if claims.app == app.id.as_str() && claims.client == client.as_str() => None,
        Ok(_) => Some("the session token belongs to another client"),
        Err(TokenFault::Expired(_)) => Some("the session token is too old"),
        Err(TokenFault::Forged) => Some("the session token is missing or none of this server's"),
    };
    if let Some(words) = words {
        return refusal(StatusCode::UNAUTHORIZED, &Refusal::new(Code::SessionTokenExpired, words));
    }
    if posthouse.admit(&app, &client, Rate::Calls).is_err() {
        return too_many();
    }
    let answer = if asked.notification_type.as_deref() == Some("permanent") {
        permanent(&gateway, &app, &client, since).await
    } else {
        everything(&gateway, &app, &client, since).await
    };
    match answer {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(error) => refusal(StatusCode::SERVICE_UNAVAILABLE, &Refusal::of(Operation::Login, &error)),
    }
}

/// JS. It asks again from the last `serverTs` while there is more, so a page that is said to have a
/// successor must not be empty.
async fn permanent(
    gateway: &LeanCloud,
    app: &App,
    client: &ClientId,
    since: Timestamp,
) -> Result<Value, Error> {
    let (missed, more) = gateway.posthouse().list_invitations(app, client, since).await?;
    Ok(page(&missed, more, since, NotificationStyle::Js))
}

/// Swift.
async fn everything(
    gateway: &LeanCloud,
    app: &App,
    client: &ClientId,
    since: Timestamp,
) -> Result<Value, Error> {
    let posthouse = gateway.posthouse();
    let (missed, more) = posthouse.list_invitations(app, client, since).await?;
    let changes = posthouse.list_changes(app, client, since).await?;
    Ok(json!({
        "permanent": page(&missed, more, since, NotificationStyle::Swift),
        "droppable": droppable(changes.as_deref()),
    }))
}

fn page(missed: &[Missed], more: bool, since: Timestamp, style: NotificationStyle) -> Value {
    let advances = missed.last().is_some_and(|last| last.at() > since);
    let notifications: Vec<Value> = missed.iter().map(|missed| notification(missed, style)).collect();
    json!({ "hasMore": more && advances, "notifications": notifications })
}

/// `None` is too much to tell: Swift then forgets what it has cached of conversations.
fn droppable(changes: Option<&[Missed]>) -> Value {
    let Some(changes) = changes else { return json!({ "invalidLocalConvCache": true }) };
    let notifications: Vec<Value> = changes
        .iter()
        .filter(|missed| match missed {
            // The client's own membership stands in the permanent list.
            Missed::Joined(_) | Missed::Left(_) => false,
            Missed::MembersJoined(_) | Missed::MembersLeft(_) | Missed::Updated(_) | Missed::Receipt(_) => {
                true
            }
        })
        .map(|missed| notification(missed, NotificationStyle::Swift))
        .collect();
    json!({ "invalidLocalConvCache": false, "notifications": notifications })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use posthouse_core::id::{ConversationId, MessageId};
    use posthouse_core::receipt::Receipt;

    use super::*;

    fn receipt(at: i64) -> Missed {
        Missed::Receipt(Receipt {
            conversation: ConversationId::lasting(7),
            message: MessageId::from_u64(9).unwrap(),
            by: ClientId::parse("jerry").unwrap(),
            at: Timestamp(at),
            read: true,
            whole: true,
            readers: None,
            note: None,
        })
    }

    #[test]
    fn a_page_promises_another_only_if_it_advances() {
        let more =
            |missed: &[Missed]| page(missed, true, Timestamp(5), NotificationStyle::Js)["hasMore"].clone();
        assert_eq!(more(&[receipt(6)]), json!(true));
        assert_eq!(more(&[]), json!(false));
        assert_eq!(more(&[receipt(5)]), json!(false));
    }

    #[test]
    fn too_many_changes_invalidate_the_cache() {
        assert_eq!(droppable(None), json!({"invalidLocalConvCache": true}));
        let some = droppable(Some(&[receipt(6)]));
        assert_eq!(some["notifications"][0]["cmd"], json!("rcp"));
        assert_eq!(some["notifications"][0]["t"], json!(6));
    }
}
