//! What SDKs ask over HTTP beside the socket. Everything they may ask for and that is not offered
//! answers in JSON that says so, because they parse whatever comes.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{any, get};
use posthouse_transport::http::json;
use serde_json::json;

use crate::LeanCloud;
use crate::error::{Code, Refusal};

mod credentials;
mod md5;
mod notifications;
mod route;

/// Storage's code for a class that doesn't exist.
const NO_SUCH_CLASS: i32 = 101;

/// The routes of `gateway`.
pub(crate) fn router(gateway: Arc<LeanCloud>) -> Router {
    routes().with_state(gateway)
}

/// `/1` and `/1.2` are what older and newer SDKs say for `/1.1`.
fn routes() -> Router<Arc<LeanCloud>> {
    let mut router = Router::new().route("/v1/route", get(route::route));
    for version in ["/1", "/1.1", "/1.2"] {
        let at = |path: &str| format!("{version}/{path}");
        router = router
            .route(&at("rtm/notifications"), get(notifications::notifications))
            .route(&at("rtm/sign"), any(|| async { not_offered("logging in as a stored user") }))
            .route(&at("rtm/clients/sign"), any(|| async { not_offered("logging in as a stored user") }))
            .route(&at("LiveQuery/{*rest}"), any(|| async { not_offered("LiveQuery") }))
            .route(&at("classes/_ConversationMemberInfo"), any(member_info))
            .route(&at("classes/{*rest}"), any(no_class))
            .route(&at("files"), any(|| async { not_offered("file storage") }))
            .route(&at("files/{*rest}"), any(|| async { not_offered("file storage") }))
            .route(&at("fileTokens"), any(|| async { not_offered("file storage") }))
            .route(&at("{*rest}"), any(|| async { not_offered("this part of the REST API") }));
    }
    router
}

/// An answer with one of the wire's codes.
fn refused(status: StatusCode, code: i32, words: &str) -> Response {
    json(status, &json!({ "code": code, "error": words }))
}

/// A refusal of the gateway or the domain. What kind of HTTP error goes with an IM code was never
/// documented; SDKs look at the code.
fn refusal(status: StatusCode, refusal: &Refusal) -> Response {
    refused(status, refusal.code.number(), &format!("{}: {}", refusal.code.name(), refusal.detail))
}

/// Somebody asks too often.
fn too_many() -> Response {
    refused(StatusCode::TOO_MANY_REQUESTS, 429, "Too many requests.")
}

/// The original's words for every wrong credential.
fn unauthorized() -> Response {
    refused(StatusCode::UNAUTHORIZED, 401, "Unauthorized.")
}

fn not_offered(what: &str) -> Response {
    refused(StatusCode::NOT_FOUND, 404, &format!("{what} is not offered by this server"))
}

async fn member_info() -> Response {
    let words = "member roles are not offered by this server";
    refusal(StatusCode::FORBIDDEN, &Refusal::new(Code::MemberInfoDisabled, words))
}

async fn no_class() -> Response {
    refused(StatusCode::NOT_FOUND, NO_SUCH_CLASS, "storage classes are not offered by this server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_routes_contradict_each_other() {
        // Axum panics while it puts them together if they do.
        assert!(routes().has_routes());
    }
}
