//! TLS towards an upstream.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;

use crate::upstream::settings::Settings;
use crate::upstream::setup::SetupError;

/// What opens TLS for HTTP/1.1: servers are verified by the authorities the machine trusts, and by those of `ca_file`.
///
/// # Errors
/// When there is no authority to verify by.
pub fn connector(settings: &Settings) -> Result<TlsConnector, SetupError> {
    let setting = if settings.ca_file.is_some() { "ca_file" } else { "base_url" };
    let wrong = |problem: String| SetupError::new(setting, problem);
    let further = match &settings.ca_file {
        None => Vec::new(),
        Some(path) => {
            let unreadable = |error| wrong(format!("cannot read {}: {error}", path.display()));
            let read = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>();
            read.map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?
        }
    };
    let provider = CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let cannot = |error: rustls::Error| wrong(format!("no TLS can be made for it: {error}"));
    let verifier = Verifier::new_with_extra_roots(further, provider.clone()).map_err(cannot)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(cannot)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
