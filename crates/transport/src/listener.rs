//! The accept loop: TCP, TLS, the HTTP/1 engine under a router, and every limit
//! a peer meets before its first request is read.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION};
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::counter;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service;

use crate::drain::{DrainSignal, Ticket};
use crate::http::{CORS_ORIGIN, ErrorBody, TrustedProxies, collapse_leading_slashes, error_body, json};

/// The peer's socket address, as an extension of every request. Behind a proxy
/// this is the proxy; [`crate::http::ClientAddress`] looks further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Whether the request's own socket is TLS, as an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secure(pub bool);

/// A bound address that is ready to serve.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    local: SocketAddr,
}

/// The bounds of a listener.
#[derive(Clone)]
pub struct ServeSettings {
    /// Open sockets at the same time, WebSockets included. One more is dropped
    /// without an answer.
    pub max_connections: usize,
    /// How long a peer may take to send the head of a request; also how long a
    /// kept-alive connection may wait for its next one.
    pub header_read_timeout: Duration,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// How long a request may take from its head to the head of its answer,
    /// the reading of its body included. Then it is answered 408.
    pub request_timeout: Duration,
    /// How long a write may wait for a peer that does not read.
    pub write_timeout: Duration,
    /// Whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Arc<TrustedProxies>,
    /// The body of the answers the listener itself gives (408, 503).
    pub error_body: ErrorBody,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            max_connections: 100_000,
            header_read_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            trusted_proxies: Arc::default(),
            error_body,
        }
    }
}

/// The head of a request and what hyper reads ahead. Well above what browsers
/// send, far below what a bomb needs.
const HEAD_MAX: usize = 16 * 1024;

/// The pause after the system refused a socket (usually: no file descriptors
/// left), doubled while it lasts, so that the loop does not burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Connections the system may keep for us until they are accepted. Everybody comes back at once after
/// a restart, and with the usual 128 each overflow costs a client a second.
const BACKLOG: u32 = 4_096;

impl Listener {
    /// Binds `addr`; port 0 lets the system choose ([`Self::local_addr`]).
    ///
    /// # Errors
    /// Those of the system: the address is taken, not ours, or not allowed.
    pub async fn bind(addr: SocketAddr, tls: Option<TlsConfig>) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As the ordinary way to bind does: a restart need not wait for old connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let socket = socket.listen(BACKLOG)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, tls: tls.map(|tls| TlsAcceptor::from(tls.server)), local })
    }

    /// The bound address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts and serves until the drain's grace time is over. While it
    /// drains, requests are answered 503 and kept-alive connections end after
    /// the request they are in. Returns when nothing more is accepted; wait for
    /// what was accepted with [`crate::Drain::finished`].
    pub async fn serve(self, router: Router, settings: ServeSettings, drain: DrainSignal) {
        let shared = Arc::new(Shared {
            permits: Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS))),
            http: engine(&settings),
            settings,
            router,
            drain,
        });
        let grace_over = shared.drain.grace_over();
        tokio::pin!(grace_over);
        let mut pause = ACCEPT_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut grace_over => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    pause = ACCEPT_PAUSE;
                    self.admit(tcp, peer, &shared);
                }
                Err(error) if of_one_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no socket can be accepted for now");
                    counter!("posthouse_accept_errors_total").increment(1);
                    sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
    }

    fn admit(&self, tcp: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
        let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
            counter!("posthouse_sockets_refused_total").increment(1);
            return;
        };
        let open = Open { _permit: permit, _ticket: shared.drain.track() };
        let tls = self.tls.clone();
        let shared = Arc::clone(shared);
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by the drain's ticket, which travels inside the socket"
        )]
        tokio::spawn(async move {
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY was refused");
            }
            let stream = match tls {
                None => Stream::Plain(tcp),
                Some(acceptor) => {
                    let limit = shared.settings.tls_handshake_timeout;
                    match timeout(limit, acceptor.accept(tcp)).await {
                        Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                        Ok(Err(error)) => {
                            tracing::debug!(%error, %peer, "TLS handshake failed");
                            return;
                        }
                        Err(_) => return,
                    }
                }
            };
            let socket =
                Socket { stream, write_timeout: shared.settings.write_timeout, stalled: None, _open: open };
            serve_socket(socket, peer, shared).await;
        });
    }
}

/// Failures that concern one peer, which has left before it was accepted.
fn of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

struct Shared {
    permits: Arc<Semaphore>,
    http: http1::Builder,
    settings: ServeSettings,
    router: Router,
    drain: DrainSignal,
}

/// What a socket holds as long as it is open, through an upgrade too.
struct Open {
    _permit: OwnedSemaphorePermit,
    _ticket: Ticket,
}

fn engine(settings: &ServeSettings) -> http1::Builder {
    // A request has at most 100 headers, hyper's default, kept on the stack.
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(settings.header_read_timeout).max_buf_size(HEAD_MAX);
    http
}

async fn serve_socket(socket: Socket, peer: SocketAddr, shared: Arc<Shared>) {
    let secure = socket.is_tls();
    let drain = shared.drain.clone();
    let http = shared.http.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, peer, secure, &shared).await) }
    });
    let connection = http.serve_connection(TokioIo::new(socket), service).with_upgrades();
    tokio::pin!(connection);
    let begun = drain.begun();
    tokio::pin!(begun);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = &mut begun => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "HTTP connection failed");
    }
}

async fn answer(request: Request<Incoming>, peer: SocketAddr, secure: bool, shared: &Shared) -> Response {
    let settings = &shared.settings;
    if shared.drain.is_draining() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return last_answer(settings, status, "the server is stopping");
    }
    let mut request = request.map(Body::new);
    collapse_leading_slashes(request.uri_mut());
    let extensions = request.extensions_mut();
    extensions.insert(PeerAddr(peer));
    extensions.insert(Secure(secure));
    extensions.insert(Arc::clone(&settings.trusted_proxies));
    let mut router = shared.router.clone();
    match timeout(settings.request_timeout, router.call(request)).await {
        Ok(Ok(response)) => response,
        Err(_) => last_answer(settings, StatusCode::REQUEST_TIMEOUT, "request timeout"),
    }
}

/// An answer after which the connection closes.
fn last_answer(settings: &ServeSettings, status: StatusCode, message: &str) -> Response {
    let mut response = json(status, &(settings.error_body)(status, message));
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // No layer of a gateway sees this answer, and without the header a browser
    // reports no status at all.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, CORS_ORIGIN);
    response
}

/// An accepted socket, plain or TLS, that fails a write which the peer does not
/// read for too long. Without that bound a peer could keep a large answer in
/// memory for ever.
pub(crate) struct Socket {
    stream: Stream,
    write_timeout: Duration,
    /// Runs from the first write that found no room to the next that did.
    stalled: Option<Pin<Box<Sleep>>>,
    _open: Open,
}

enum Stream {
    Plain(TcpStream),
    /// Boxed: a TLS session is a kilobyte that plain sockets need not carry.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn is_tls(&self) -> bool {
        match self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(_) => true,
        }
    }

    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let limit = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.unless_stalled(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.unless_stalled(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        };
        self.unless_stalled(cx, shut)
    }
}

/// The certificate and key of a TLS listener.
#[derive(Clone)]
pub struct TlsConfig {
    server: Arc<ServerConfig>,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not valid PEM", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{} holds no certificate (a BEGIN CERTIFICATE section)", path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// The key file holds no private key.
    #[error("{} holds no unencrypted private key (a BEGIN PRIVATE KEY section)", path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// Both files can be read but do not make a TLS identity, such as a key
    /// that belongs to another certificate.
    #[error("the certificate in {} and the key in {} cannot be used together", certificate.display(), key.display())]
    Unusable {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
}

impl TlsConfig {
    /// Reads a certificate chain (leaf first) and its private key (PKCS#8,
    /// PKCS#1 or SEC1), both PEM. Speaks TLS 1.2, which old phones need, and
    /// 1.3. Whether the certificate has expired is not looked at: clients do.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsConfigError> {
        let chain = read_chain(certificate)?;
        let private = read_key(key)?;
        let unusable = |source| TlsConfigError::Unusable {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { server: Arc::new(server) })
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let bytes = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsConfigError::NotPem { path: path.to_owned(), source })?;
    if chain.is_empty() {
        return Err(TlsConfigError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsConfigError::NoKey { path: path.to_owned() },
        source => TlsConfigError::NotPem { path: path.to_owned(), source },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    std::fs::read(path).map_err(|source| TlsConfigError::Unreadable { path: path.to_owned(), source })
}
