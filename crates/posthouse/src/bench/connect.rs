//! Connections in great number: from several loopback addresses, because one has 28,000 ports, and over
//! TLS where the server of this run speaks it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Error;
use crate::peer::{self, Peer, Wire};

/// Connections from one address: less than half of the 28,000 ports of one, since all of them may rest after use
/// when everybody comes back.
const PER_SOURCE: u32 = 10_000;
/// How long TCP and TLS may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to reach the server under test.
#[derive(Clone)]
pub(super) struct Dial {
    url: String,
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Dial {
    /// To `url` (`ws://127.0.0.1:port`); `certificate` is what to trust if it is `wss`.
    pub(super) fn new(url: &str, certificate: Option<&Path>) -> Result<Self, Error> {
        let bad = || Error::Peer(peer::Error::BadUrl(url.to_owned()));
        let (_, rest) = url.split_once("://").ok_or_else(bad)?;
        let authority = rest.split('/').next().unwrap_or_default();
        let address: SocketAddr = authority.parse().map_err(|_| bad())?;
        let tls = certificate.map(trusting).transpose()?;
        Ok(Self { url: url.to_owned(), address, tls })
    }

    /// A WebSocket for the LeanCloud door, from the `number`th connection's own address.
    pub(super) async fn peer(&self, number: u32) -> Result<Peer, peer::Error> {
        let stream = self.stream(number).await?;
        Peer::over(stream, &self.url, peer::BINARY).await
    }

    /// A stream to put a protocol on.
    pub(super) async fn stream(&self, number: u32) -> Result<Box<dyn Wire>, peer::Error> {
        let unreachable = |source| peer::Error::Unreachable { address: self.address.to_string(), source };
        let late = |_| unreachable(std::io::ErrorKind::TimedOut.into());
        let connecting = connect(self.address, source(self.address, number));
        let stream = timeout(PATIENCE, connecting).await.map_err(late)?.map_err(unreachable)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let shaking = tls.connect(ServerName::from(self.address.ip()), stream);
        Ok(Box::new(timeout(PATIENCE, shaking).await.map_err(late)?.map_err(unreachable)?))
    }
}

async fn connect(to: SocketAddr, from: Option<SocketAddr>) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        // Ports of connections that just ended may be taken again.
        socket.set_reuseaddr(true)?;
        socket.bind(from)?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The loopback address that the `number`th connection comes from: 127.0.0.2, and on. `None`, the system's
/// choice, to anywhere else. Never the server's own address: while the server is down, a connection to its
/// port could otherwise be made with itself.
fn source(to: SocketAddr, number: u32) -> Option<SocketAddr> {
    if to.ip() != Ipv4Addr::LOCALHOST {
        return None;
    }
    let last = u8::try_from(number / PER_SOURCE).unwrap_or(u8::MAX).saturating_add(2);
    Some(SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))
}

fn trusting(certificate: &Path) -> Result<TlsConnector, Error> {
    let unusable = |why: String| Error::Certificate(certificate.to_owned(), why);
    let der = CertificateDer::from_pem_file(certificate).map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add(der).map_err(|error| unusable(error.to_string()))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn connections_to_loopback_spread_over_addresses_and_never_use_the_servers() {
        let server: SocketAddr = "127.0.0.1:7700".parse().unwrap();
        let from = |number| source(server, number).unwrap().ip().to_string();
        assert_eq!(from(0), "127.0.0.2");
        assert_eq!(from(PER_SOURCE - 1), "127.0.0.2");
        assert_eq!(from(PER_SOURCE), "127.0.0.3");
        assert_eq!(source("10.0.0.1:7700".parse().unwrap(), 5), None);
    }
}
