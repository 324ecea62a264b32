//! What handshakes are answered with.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use memchr::memmem;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::latest::Latest;

/// What we speak under TLS, the best first (ALPN, RFC 7301). curl says `http/1.0` when it is told to speak that.
const PROTOCOLS: [&[u8]; 3] = [HTTP2, b"http/1.1", b"http/1.0"];

const HTTP2: &[u8] = b"h2";

/// The longest file of a chain or a key, in bytes.
const LONGEST: u64 = 1 << 20;

/// A certificate and its key, in use. A clone is the same one; what replaces it replaces it for every clone.
#[derive(Clone)]
pub struct Certificate(Latest<Configs>);

/// The same certificate for two ends.
pub(super) struct Configs {
    /// For connections that are served.
    pub serving: Arc<ServerConfig>,
    /// For those there is no place for, which are told so in HTTP/1.1.
    pub refusing: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads both files, which are PEM: the chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn open(cert_file: &Path, key_file: &Path) -> Result<Self, CertificateError> {
        let (cert_name, key_name) = (cert_file.display(), key_file.display());
        let (chain, key) = (chain(cert_file)?, key(key_file)?);
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
        // By itself first: an error of both together does not say whose it is.
        if let Err(error) = provider.key_provider.load_private_key(key.clone_key()) {
            return Err(wrong_key(format_args!("holds no key that can be used ({key_name}): {error}")));
        }
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
            if let rustls::Error::InconsistentKeys(_) = error {
                return wrong_key(format_args!("does not fit: {key_name} is not the key of {cert_name}"));
            }
            wrong_chain(format_args!("holds no certificate that can be used ({cert_name}): {error}"))
        })?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong_chain(format_args!("cannot be used: {error}")))?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        let mut refusing = config.clone();
        refusing.alpn_protocols.retain(|protocol| protocol != HTTP2);
        Ok(Self(Latest::new(Configs { serving: config.into(), refusing: refusing.into() })))
    }

    /// From now on handshakes see `new`, and no session that began under the old one is resumed.
    pub fn replace(&self, new: &Self) {
        self.0.replace(new.0.get());
    }

    /// What the next handshake is answered with.
    pub(super) fn configs(&self) -> Arc<Configs> {
        self.0.get()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// Why a certificate and a key cannot be used: one line that names the setting and the file.
#[derive(Debug, PartialEq, Eq)]
pub struct CertificateError {
    setting: &'static str,
    problem: String,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.setting, self.problem.replace(char::is_control, " "))
    }
}

impl std::error::Error for CertificateError {}

fn wrong_chain(problem: impl fmt::Display) -> CertificateError {
    CertificateError { setting: "tls.cert_file", problem: problem.to_string() }
}

fn wrong_key(problem: impl fmt::Display) -> CertificateError {
    CertificateError { setting: "tls.key_file", problem: problem.to_string() }
}

/// Reads a file, if it is one, and no longer than such files are.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let about = fs::metadata(path)?;
    if !about.is_file() || about.len() > LONGEST {
        return Err(io::Error::other("it is no file, or too long for one of these"));
    }
    fs::read(path)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let name = path.display();
    let text = read(path).map_err(|error| wrong_chain(format_args!("cannot be read ({name}): {error}")))?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong_chain(format_args!("is not PEM ({name}): {error}")))?;
    if chain.is_empty() {
        return Err(wrong_chain(format_args!("holds no certificate in PEM ({name})")));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let name = path.display();
    let text = read(path).map_err(|error| wrong_key(format_args!("cannot be read ({name}): {error}")))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        // `BEGIN ENCRYPTED PRIVATE KEY` (RFC 7468, section 11), and the older `Proc-Type: 4,ENCRYPTED`.
        if memmem::find(&text, b"ENCRYPTED").is_some() {
            return wrong_key(format_args!("is encrypted ({name}), and nobody is there to give its password"));
        }
        if let pem::Error::NoItemsFound = error {
            return wrong_key(format_args!("holds no private key in PEM ({name})"));
        }
        wrong_key(format_args!("is not PEM ({name}): {error}"))
    })
}
