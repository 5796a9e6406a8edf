//! `GET /v1/route`: where the WebSocket of an app is. Every SDK asks first, and without a key.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use posthouse_transport::http::{RequestOrigin, json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refused;
use crate::{LeanCloud, keys};

/// How long an SDK may keep the answer, in seconds. Swift needs a number here.
const TTL_SECONDS: i64 = 3_600;

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "appId", default)]
    app_id: String,
}

/// Answers with this server under the name the client used for it, so that one process serves
/// every domain that points to it. While the server stops, clients are to ask another one.
pub(super) async fn route(
    State(gateway): State<Arc<LeanCloud>>,
    origin: RequestOrigin,
    Query(asked): Query<Asked>,
) -> Response {
    if gateway.is_draining() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, 503, "the server is stopping");
    }
    if gateway.posthouse().app_by_key(keys::APP_ID, &asked.app_id).is_none() {
        return refused(StatusCode::NOT_FOUND, 404, "App not found");
    }
    json(StatusCode::OK, &answer(&origin))
}

/// `secondary` is there because Java takes the two in turn and dies of its absence.
///
/// The scheme is that of the request and not what `secure` asks for: JS asks for `secure=true`
/// unless an app says otherwise, also of a server it reaches over plain HTTP, where a `wss` address
/// leads nowhere.
fn answer(origin: &RequestOrigin) -> Value {
    let scheme = if origin.secure { "wss" } else { "ws" };
    let server = format!("{scheme}://{}/", origin.host);
    json!({
        "groupId": "posthouse",
        "groupUrl": server,
        "server": server,
        "secondary": server,
        "ttl": TTL_SECONDS,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn origin(secure: bool) -> RequestOrigin {
        RequestOrigin {
            host: "im.example.com:7700".to_owned(),
            secure,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    #[test]
    fn the_answer_has_every_field_that_some_sdk_needs() {
        assert_eq!(
            answer(&origin(true)),
            json!({
                "groupId": "posthouse", "groupUrl": "wss://im.example.com:7700/",
                "server": "wss://im.example.com:7700/", "secondary": "wss://im.example.com:7700/",
                "ttl": 3600,
            })
        );
        assert_eq!(answer(&origin(false))["server"], json!("ws://im.example.com:7700/"));
    }
}
