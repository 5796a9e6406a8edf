//! The HTTP shell around every gateway's routes: JSON errors, CORS, body
//! limits, and who the client is when proxies stand between.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH,
    CONTENT_TYPE, HOST, VARY,
};
use axum::http::request::Parts;
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{FromFnLayer, Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::listener::{PeerAddr, Secure};

/// Builds the body of an error answer from its status and a message.
pub type ErrorBody = fn(StatusCode, &str) -> serde_json::Value;

/// The body used where a gateway names no other: `{"code": 404, "error": "…"}`.
#[must_use]
pub fn error_body(status: StatusCode, message: &str) -> serde_json::Value {
    serde_json::json!({ "code": status.as_u16(), "error": message })
}

/// A JSON answer.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(CONTENT_TYPE, JSON)], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            error_json(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
    }
}

/// A JSON error answer with the default [`error_body`].
#[must_use]
pub fn error_json(status: StatusCode, message: &str) -> Response {
    let body = error_body(status, message).to_string();
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");

/// What [`cors`] returns.
pub type CorsLayer = FromFnLayer<fn(Request, Next) -> BoxFuture<'static, Response>, (), (Request,)>;

/// Lets browsers of every origin call the routes under this layer. Nothing is
/// reflected but the names of the headers a preflight asks for: credentials
/// travel in headers of their own, never in cookies, so `*` gives nothing away.
pub fn cors() -> CorsLayer {
    from_fn(answer_cors)
}

/// The headers of the SDKs, named when a preflight asks for none or for
/// something that is not a list of header names.
const CORS_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type,Origin,Accept,Authorization,X-LC-Id,X-LC-Key,X-LC-Sign,X-LC-Session,X-LC-Prod,X-LC-UA,\
     X-LC-IM-Session-Token,X-Requested-With,restrict-access,share-secret,thumbnail-height,thumbnail-width",
);
const CORS_METHODS: HeaderValue = HeaderValue::from_static("PUT, GET, POST, DELETE, OPTIONS");
const CORS_MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
pub(crate) const CORS_ORIGIN: HeaderValue = HeaderValue::from_static("*");
/// What a preflight may ask for, in bytes; real ones stay below 300.
const CORS_REQUEST_HEADERS_MAX: usize = 1024;

fn answer_cors(request: Request, next: Next) -> BoxFuture<'static, Response> {
    let preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if !preflight {
        return next
            .run(request)
            .map(|mut response| {
                response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, CORS_ORIGIN);
                response
            })
            .boxed();
    }
    let asked = request
        .headers()
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|names| is_token_list(names.as_bytes()))
        .cloned();
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, CORS_ORIGIN),
        (ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS),
        (ACCESS_CONTROL_MAX_AGE, CORS_MAX_AGE),
        (ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(CORS_HEADERS)),
        (VARY, HeaderValue::from_static("access-control-request-headers")),
    ];
    let response = (StatusCode::NO_CONTENT, headers).into_response();
    std::future::ready(response).boxed()
}

fn is_token_list(list: &[u8]) -> bool {
    list.len() <= CORS_REQUEST_HEADERS_MAX
        && list.split(|byte| *byte == b',').all(|name| {
            let name = name.trim_ascii();
            !name.is_empty()
                && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// Refuses request bodies above `bytes` with 413. Give the routes under it
/// [`json_errors`] as well, so that the refusal is JSON.
pub fn body_limit(bytes: usize) -> DefaultBodyLimit {
    DefaultBodyLimit::max(bytes)
}

/// What [`json_errors`] returns.
pub type JsonErrorsLayer = FromFnLayer<
    fn(State<ErrorBody>, Request, Next) -> BoxFuture<'static, Response>,
    ErrorBody,
    (State<ErrorBody>, Request),
>;

/// Turns every error answer under it that is not JSON yet (unknown route, wrong
/// method, body too large, a body that does not parse) and every panic of a
/// handler into JSON. Add it with `Router::layer`, after the routes.
pub fn json_errors(body: ErrorBody) -> JsonErrorsLayer {
    from_fn_with_state(body, answer_json_errors)
}

fn answer_json_errors(
    State(body): State<ErrorBody>,
    request: Request,
    next: Next,
) -> BoxFuture<'static, Response> {
    AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .map(move |outcome| match outcome {
            Ok(response) => with_json_body(response, body),
            Err(_) => {
                tracing::error!("a request handler panicked");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                json(status, &body(status, "internal error"))
            }
        })
        .boxed()
}

fn with_json_body(response: Response, body: ErrorBody) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_error || is_json {
        return response;
    }
    // The text inside comes from a library and may quote the request, so the
    // status speaks alone.
    let message = status.canonical_reason().unwrap_or("error");
    let replacement = json(status, &body(status, message));
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, JSON);
    Response::from_parts(parts, replacement.into_body())
}

/// Makes `//v1/route` reach `/v1/route`: clients that are configured with a
/// trailing slash put two at the start of every path. The listener does this
/// before routing.
pub fn collapse_leading_slashes(uri: &mut Uri) {
    let Some(whole) = uri.path_and_query().map(PathAndQuery::as_str) else {
        return;
    };
    if !whole.starts_with("//") {
        return;
    }
    let collapsed = format!("/{}", whole.trim_start_matches('/'));
    if let Ok(collapsed) = PathAndQuery::try_from(collapsed) {
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(collapsed);
        if let Ok(clean) = Uri::from_parts(parts) {
            *uri = clean;
        }
    }
}

/// The proxies whose `X-Forwarded-*` headers are believed: a list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A network that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address or a network such as 10.0.0.0/8 or fd00::/8")]
pub struct BadNetwork {
    text: String,
}

impl TrustedProxies {
    /// Believes nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Parses networks in CIDR notation; a bare address is a network of one.
    ///
    /// # Errors
    /// The first text that is neither.
    pub fn parse<I>(texts: I) -> Result<Self, BadNetwork>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let networks = texts.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        Ok(Self { networks })
    }

    /// Whether `address` is one of them. An IPv4 address inside IPv6
    /// (`::ffff:10.0.0.1`) is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.holds(address))
    }

    /// Whether nobody is believed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// As [`TrustedProxies::parse`] reads it, separated by commas.
impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Network { address, prefix }) in self.networks.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{address}/{prefix}")?;
        }
        Ok(())
    }
}

impl Network {
    fn holds(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork { text: text.to_owned() };
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let written: IpAddr = address.parse().map_err(|_| bad())?;
        let written_bits = bits_of(written);
        let prefix = match prefix {
            None => written_bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| bad())?
            }
            Some(_) => return Err(bad()),
        };
        if prefix > written_bits {
            return Err(bad());
        }
        let address = written.to_canonical();
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`; a prefix that reaches beyond
        // the mapped block cannot be said in IPv4.
        let prefix = prefix.checked_sub(written_bits - bits_of(address)).ok_or_else(bad)?;
        Ok(Self { address, prefix })
    }
}

fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// How the client reached this server, seen through trusted proxies. An axum
/// extractor; it needs a request that came through [`crate::Listener`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOrigin {
    /// Host and port as the client wrote them, safe to build a URL from.
    /// `localhost` if it wrote none.
    pub host: String,
    /// Whether the client's own connection is encrypted.
    pub secure: bool,
    /// The client's address.
    pub client: IpAddr,
}

/// The client's address alone; see [`RequestOrigin::client`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl RequestOrigin {
    /// Reads the origin from a request's parts. Forwarding headers count only
    /// if `peer` is a trusted proxy.
    ///
    /// The client is the last address of `X-Forwarded-For` that is not a
    /// trusted proxy itself, because everything before it may be invented. Host
    /// and scheme are the first value of their header, the one the outermost
    /// proxy saw; a client that forges them misdirects only itself.
    #[must_use]
    pub fn resolve(
        headers: &HeaderMap,
        uri: &Uri,
        peer: IpAddr,
        secure: bool,
        proxies: &TrustedProxies,
    ) -> Self {
        let written = uri
            .authority()
            .map(Authority::as_str)
            .or_else(|| text(headers.get(HOST)))
            .filter(|host| is_host(host));
        let mut origin =
            Self { host: written.unwrap_or("localhost").to_owned(), secure, client: peer.to_canonical() };
        if !proxies.contains(peer) {
            return origin;
        }
        let first =
            |name: &str| text(headers.get(name)).and_then(|list| list.split(',').next()).map(str::trim);
        if let Some(host) = first("x-forwarded-host").filter(|host| is_host(host)) {
            host.clone_into(&mut origin.host);
        }
        if let Some(scheme) = first("x-forwarded-proto") {
            origin.secure = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss");
        }
        let hops: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
        let hops = hops.iter().rev().filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
        for hop in hops {
            let Some(address) = address_of(hop.trim()) else {
                break;
            };
            origin.client = address;
            if !proxies.contains(address) {
                break;
            }
        }
        origin
    }
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

/// An address, which some proxies write with a port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// A host that can stand in a URL: no credentials, path or control bytes.
fn is_host(host: &str) -> bool {
    /// A domain name has at most 253 bytes, a port six with its colon.
    const HOST_MAX: usize = 259;
    host.len() <= HOST_MAX
        && !host.contains('@')
        && Authority::from_str(host).is_ok_and(|authority| {
            !authority.host().is_empty()
                && authority.host().bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
                })
        })
}

impl<S: Send + Sync> FromRequestParts<S> for RequestOrigin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let extensions = &parts.extensions;
        let peer = extensions.get::<PeerAddr>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        let secure = extensions.get::<Secure>().is_some_and(|secure| secure.0);
        let nobody = TrustedProxies::none();
        let proxies = extensions.get::<Arc<TrustedProxies>>().map_or(&nobody, Arc::as_ref);
        Ok(Self::resolve(&parts.headers, &parts.uri, peer, secure, proxies))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let origin = RequestOrigin::from_request_parts(parts, state).await?;
        Ok(Self(origin.client))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn leading_slashes_collapse_and_nothing_else() {
        let cases = [
            ("//v1/route?a=//b", "/v1/route?a=//b"),
            ("///", "/"),
            ("//?q=1", "/?q=1"),
            ("/a//b", "/a//b"),
            ("/", "/"),
            ("*", "*"),
            ("http://host//x", "http://host/x"),
        ];
        for (given, wanted) in cases {
            let mut uri: Uri = given.parse().unwrap();
            collapse_leading_slashes(&mut uri);
            assert_eq!(uri.to_string(), wanted, "{given}");
        }
    }

    #[test]
    fn networks_hold_what_they_say() {
        let proxies = TrustedProxies::parse(["10.0.0.0/8", " 192.168.1.7 ", "fd00::/8", "::1"]).unwrap();
        let cases = [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
            ("fdab::1", true),
            ("fe80::1", false),
            ("::1", true),
        ];
        for (address, trusted) in cases {
            assert_eq!(proxies.contains(address.parse().unwrap()), trusted, "{address}");
        }
        let mapped = TrustedProxies::parse(["::ffff:10.0.0.0/104"]).unwrap();
        assert!(mapped.contains("10.9.9.9".parse().unwrap()));
        let everyone = TrustedProxies::parse(["0.0.0.0/0", "::/0"]).unwrap();
        assert!(everyone.contains("8.8.8.8".parse().unwrap()));
        assert!(everyone.contains("2001:db8::1".parse().unwrap()));
        assert!(!TrustedProxies::none().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn bad_networks_are_named() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0/8",
            "proxy.internal",
            "::/129",
            "::ffff:10.0.0.0/90",
        ] {
            let error = TrustedProxies::parse([text]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error} for {text}");
        }
    }

    fn origin(peer: &str, headers: &[(&'static str, &str)]) -> RequestOrigin {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let proxies = TrustedProxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap();
        let uri = Uri::from_static("/v1/route");
        RequestOrigin::resolve(&map, &uri, peer.parse().unwrap(), false, &proxies)
    }

    #[test]
    fn a_stranger_cannot_forward() {
        let origin = origin(
            "203.0.113.9",
            &[
                ("host", "im.example.com:7700"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "evil.example"),
            ],
        );
        assert_eq!(
            origin,
            RequestOrigin {
                host: "im.example.com:7700".to_owned(),
                secure: false,
                client: "203.0.113.9".parse().unwrap(),
            }
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_up_to_the_first_stranger() {
        let origin = origin(
            "::ffff:10.0.0.2",
            &[
                ("host", "backend"),
                ("x-forwarded-for", "1.1.1.1, 198.51.100.4"),
                ("x-forwarded-for", "10.0.0.7"),
                ("x-forwarded-proto", "https, http"),
                ("x-forwarded-host", "im.example.com, backend"),
            ],
        );
        assert_eq!(origin.client, "198.51.100.4".parse::<IpAddr>().unwrap());
        assert!(origin.secure);
        assert_eq!(origin.host, "im.example.com");
    }

    #[test]
    fn odd_forwarding_falls_back() {
        let client = |forwarded: &str| origin("10.0.0.2", &[("x-forwarded-for", forwarded)]).client;
        let is = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(client("unknown"), is("10.0.0.2"));
        assert_eq!(client("1.1.1.1, unknown, 10.0.0.7"), is("10.0.0.7"));
        assert_eq!(client("1.1.1.1:4711"), is("1.1.1.1"));
        assert_eq!(client("[2001:db8::5]:4711"), is("2001:db8::5"));
        assert_eq!(client("[2001:db8::5]"), is("2001:db8::5"));

        let host = |host: &str| origin("10.0.0.2", &[("x-forwarded-host", host)]).host;
        for bad in ["", "a b", "user@host", "host/path", "\"><script>", &"a".repeat(300)] {
            assert_eq!(host(bad), "localhost", "{bad}");
        }
        assert_eq!(host("[::1]:7700"), "[::1]:7700");
    }

    async fn call(request: Request) -> (StatusCode, HeaderMap, String) {
        async fn broken() -> StatusCode {
            panic!("a bug of a handler");
        }
        let router = Router::new()
            .route("/ok", get(|| async { "fine" }))
            .route("/panic", get(broken))
            .route("/body", post(|body: Bytes| async move { body }))
            .layer(body_limit(8))
            .layer(json_errors(error_body))
            .layer(cors());
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (parts.status, parts.headers, body)
    }

    fn request(method: &str, path: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(path)
    }

    #[tokio::test]
    async fn every_error_is_json() {
        let cases = [
            ("GET", "/nowhere", "", 404, "Not Found"),
            ("DELETE", "/ok", "", 405, "Method Not Allowed"),
            ("POST", "/body", "123456789", 413, "Payload Too Large"),
            ("GET", "/panic", "", 500, "internal error"),
        ];
        for (method, path, body, status, error) in cases {
            let request = request(method, path).body(Body::from(body)).unwrap();
            let (got, headers, body) = call(request).await;
            assert_eq!(got.as_u16(), status, "{path}");
            assert_eq!(headers[CONTENT_TYPE], JSON, "{path}");
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{path}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body, serde_json::json!({"code": status, "error": error}), "{path}");
        }
        let (status, headers, body) = call(request("DELETE", "/ok").body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(headers.contains_key("allow"), "kept: {body}");
    }

    #[tokio::test]
    async fn good_answers_pass_untouched() {
        let (status, _, body) = call(request("GET", "/ok").body(Body::empty()).unwrap()).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "fine"));
        let (status, _, body) = call(request("POST", "/body").body(Body::from("12345678")).unwrap()).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "12345678"));
    }

    #[tokio::test]
    async fn a_preflight_is_answered_for_every_path() {
        let ask = |headers: Option<&'static str>| {
            let mut builder = request("OPTIONS", "/body")
                .header("origin", "https://app.example")
                .header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
            if let Some(headers) = headers {
                builder = builder.header(ACCESS_CONTROL_REQUEST_HEADERS, headers);
            }
            call(builder.body(Body::empty()).unwrap())
        };
        let (status, headers, body) = ask(Some("x-lc-id, x-custom")).await;
        assert_eq!((status, body.as_str()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "86400");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "PUT, GET, POST, DELETE, OPTIONS");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "x-lc-id, x-custom");
        for odd in [None, Some("x;y"), Some(",")] {
            let (_, headers, _) = ask(odd).await;
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], CORS_HEADERS);
        }
    }
}
