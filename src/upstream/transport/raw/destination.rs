//! Where connections go, and how they are opened.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::socket::Socket;
use super::tcp::Tcp;
use super::ticks::Ticks;
use super::tls;
use crate::upstream::settings::Settings;
use crate::upstream::setup::SetupError;
use crate::upstream::transport::Unanswered;

/// An address that has not answered for so long is no longer waited for alone (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// After so long without a byte the other side is asked whether it is there, again and again so often, until so many
/// questions went unanswered. A router that has forgotten the connection is noticed while a model thinks, and before an
/// idle connection is used again.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(15), 3);

/// What is sent and not acknowledged for so long will not arrive (Linux tcp(7), `TCP_USER_TIMEOUT`; in milliseconds).
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// One server.
pub struct Destination {
    host: Host,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    patience: Duration,
    ticks: Ticks,
}

impl Destination {
    /// The server of this URL, with TLS if it says `https`. Opening a connection may take `patience`.
    ///
    /// # Errors
    /// When there is no server in it, or no certificates to verify it by.
    pub fn new(settings: &Settings, base: &Url, patience: Duration, ticks: Ticks) -> Result<Self, SetupError> {
        let wrong = || SetupError::new("base_url", "names no server");
        let host = base.host().ok_or_else(wrong)?.to_owned();
        let port = base.port_or_known_default().ok_or_else(wrong)?;
        let tls = if base.scheme() == "https" {
            let name = match &host {
                Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| wrong())?,
                Host::Ipv4(address) => ServerName::IpAddress((*address).into()),
                Host::Ipv6(address) => ServerName::IpAddress((*address).into()),
            };
            Some((tls::connector(settings)?, name))
        } else {
            None
        };
        Ok(Self { host, port, tls, patience, ticks })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When none opens in time. Nothing has been sent on one then.
    pub async fn open(&self) -> Result<Socket, Unanswered> {
        let cause = match timeout(self.patience, self.try_open()).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => format!("no connection: {error}"),
            Err(_) => format!("no connection within {:?}", self.patience),
        };
        Err(Unanswered { garbled: false, cause })
    }

    async fn try_open(&self) -> io::Result<Socket> {
        let tcp = match &self.host {
            Host::Domain(name) => first(lookup_host((name.as_str(), self.port)).await?).await?,
            Host::Ipv4(address) => TcpStream::connect((*address, self.port)).await?,
            Host::Ipv6(address) => TcpStream::connect((*address, self.port)).await?,
        };
        prepare(&tcp)?;
        let tcp = Tcp::new(tcp, self.ticks.clone());
        match &self.tls {
            None => Ok(Socket::Plain(tcp)),
            Some((connector, name)) => connector.connect(name.clone(), tcp).await.map(|tls| Socket::Tls(Box::new(tls))),
        }
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// No delay of small writes, and an end to who is not there any more.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, idle)?;
    sockopt::set_tcp_keepintvl(tcp, interval)?;
    sockopt::set_tcp_keepcnt(tcp, count)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(tcp, UNACKNOWLEDGED_MS)?;
    Ok(())
}

/// The first connection that opens. The addresses are tried in their order; one that fails or lags does not hold up
/// the next.
async fn first(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.fuse();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        if let Ok(Some(opened)) = timeout(HEAD_START, attempts.next()).await {
            match opened {
                Ok(tcp) => return Ok(tcp),
                Err(error) => failure = error,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_fails_does_not_hide_the_next() {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let open = open.local_addr().unwrap();
        for addresses in [vec![open], vec![closed, open], vec![open, closed]] {
            assert_eq!(first(addresses.into_iter()).await.unwrap().peer_addr().unwrap(), open);
        }
        assert_eq!(first([closed].into_iter()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first([].into_iter()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
