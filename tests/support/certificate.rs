//! A certificate for a gateway, in files, and clients that know it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Gateway, Setup};

/// A certificate of its own for `localhost` and 127.0.0.1.
pub struct Certificate {
    home: TempDir,
    known: CertificateDer<'static>,
}

impl Setup {
    /// Speaks TLS with this certificate.
    pub fn tls(self, certificate: &Certificate) -> Self {
        let file = |name: &str| certificate.home.path().join(name).to_str().unwrap().to_owned();
        self.set("tls.cert_file", file("cert.pem")).set("tls.key_file", file("key.pem"))
    }
}

impl Certificate {
    /// A new one.
    pub fn fresh() -> Self {
        let home = TempDir::new().unwrap();
        let known = write(home.path());
        Self { home, known }
    }

    /// Puts another one in its place, in the same files; whoever knew the old one does not know it.
    pub fn renew(&mut self) {
        self.known = write(self.home.path());
    }

    /// Spoils the file of the key.
    pub fn spoil(&self) {
        fs::write(self.home.path().join("key.pem"), "no key").unwrap();
    }

    /// What builds a client that trusts it, and it alone.
    pub fn client(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder().no_proxy().tls_certs_only([reqwest::Certificate::from_der(&self.known).unwrap()])
    }

    /// A connection of HTTP/1.1, byte by byte.
    pub async fn connect(&self, gateway: &Gateway) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.known.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(gateway.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }
}

fn write(home: &Path) -> CertificateDer<'static> {
    let made = generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(home.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(home.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}
