//! `GET /easemob/server.json`: where REST and the WebSocket of an app are (client 1.2, rest 1.6).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use posthouse_transport::http::{RequestOrigin, json};
use serde_json::{Value, json};

use super::call::{Verb, refused};
use crate::error::rest::Fault;
use crate::query::Query;
use crate::{Easemob, keys};

/// Answers with this server under the name the client used for it, so that one process serves every
/// domain that points to it. While the server stops, clients are to ask another one.
pub(super) async fn document(
    State(gateway): State<Arc<Easemob>>,
    origin: RequestOrigin,
    request: Request,
) -> Response {
    let now = gateway.posthouse().now();
    if Verb::of(request.method().as_str()) != Verb::Get {
        return refused(&Fault::no_method(), now, 0);
    }
    if gateway.is_draining() {
        return refused(&Fault::busy("the server is stopping"), now, 0);
    }
    let query = Query::parse(request.uri().query());
    // An app has no other id than its appKey that could be shipped; the client id is the next best.
    let app = query
        .get("app_key")
        .and_then(|key| gateway.posthouse().app_by_key(keys::APP_KEY, key))
        .or_else(|| {
            let id = query.get("app_id")?;
            let by = |name| gateway.posthouse().app_by_key(name, id);
            by(keys::APP_KEY).or_else(|| by(keys::CLIENT_ID))
        });
    match app.as_deref().and_then(|app| app.key(keys::APP_KEY)) {
        Some(app_key) => json(StatusCode::OK, &answer(app_key, &origin)),
        None => refused(&Fault::no_app("", "", "easemob/server.json"), now, 0),
    }
}

/// Truth values are texts. Data reports would go to the vendor's hosts, and parts of files are not
/// taken.
fn answer(app_key: &str, origin: &RequestOrigin) -> Value {
    let protocol = if origin.secure { "https" } else { "http" };
    let (domain, port) = host_and_port(&origin.host, origin.secure);
    let hosts = json!({"hosts": [{"protocol": protocol, "domain": domain, "port": port}]});
    json!({
        "file_version": "1",
        "deploy_name": "posthouse",
        "app_key": app_key,
        "enableReportLogs": "false",
        "reportInterval": "300000",
        "enableDataReport": "false",
        "uploadinparts_enable": "false",
        "rest": hosts,
        "msync-ws": hosts,
        "msync-wx": hosts,
    })
}

/// `im.example.com:7700` taken apart, also with an address of IPv6 in brackets.
fn host_and_port(host: &str, secure: bool) -> (&str, u16) {
    let default = if secure { 443 } else { 80 };
    match host.rsplit_once(':') {
        Some((domain, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (domain, port),
            Err(_) => (host, default),
        },
        Some(_) | None => (host, default),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn hosts_are_taken_apart() {
        assert_eq!(host_and_port("im.example.com:7700", false), ("im.example.com", 7700));
        assert_eq!(host_and_port("im.example.com", true), ("im.example.com", 443));
        assert_eq!(host_and_port("[::1]:7700", false), ("[::1]", 7700));
        assert_eq!(host_and_port("[::1]", false), ("[::1]", 80));
    }

    #[test]
    fn the_document_names_the_server_as_the_client_did() {
        let origin = RequestOrigin {
            host: "im.example.com:7700".to_owned(),
            secure: true,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let answer = answer("acme#shop", &origin);
        let hosts = json!({"hosts": [{"protocol": "https", "domain": "im.example.com", "port": 7700}]});
        assert_eq!((&answer["rest"], &answer["msync-wx"]), (&hosts, &hosts));
        assert_eq!(answer["uploadinparts_enable"], "false");
        assert_eq!(answer["app_key"], "acme#shop");
    }
}
