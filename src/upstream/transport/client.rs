//! The general HTTP client, for what is no stream, and for calls by HTTP/2 or through a proxy.

use std::error::Error;
use std::time::Duration;

use reqwest::{Certificate, Client, Proxy, RequestBuilder};
use url::Url;

use super::body::Body;
use super::{AGENT, IDLE_CONNECTIONS, Reply, Unanswered};
use crate::upstream::settings::Settings;
use crate::upstream::setup::SetupError;

/// A client as these settings want it. A connection may take `connect` to open.
///
/// # Errors
/// The setting that is wrong.
pub fn client(settings: &Settings, base: &Url, connect: Duration) -> Result<Client, SetupError> {
    let mut builder = Client::builder()
        .user_agent(AGENT)
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .no_proxy();
    builder = if settings.http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
    if let Some(proxy) = &settings.proxy {
        let proxy = Proxy::all(proxy.reveal()).map_err(|_| SetupError::new("proxy", "is no URL of a proxy"))?;
        builder = builder.proxy(proxy);
    }
    if let Some(path) = &settings.ca_file {
        let wrong = |problem: String| SetupError::new("ca_file", problem);
        let pem = std::fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(wrong(format!("{} holds no PEM certificate", path.display())));
        }
        builder = builder.tls_certs_merge(certificates);
    } else if base.scheme() == "http" && settings.proxy.is_none() {
        // Nothing will be verified: the machine need not have any certificates.
        builder = builder.tls_certs_only([]);
    }
    let setting = if settings.ca_file.is_some() { "ca_file" } else { "base_url" };
    builder.build().map_err(|error| {
        let Unanswered { cause, .. } = unanswered(error);
        SetupError::new(setting, format!("no HTTP client can be made for it: {cause}"))
    })
}

/// Sends a request, once. Ready with the head of the answer.
///
/// # Errors
/// When there is no answer.
pub async fn send(request: RequestBuilder) -> Result<Reply, Unanswered> {
    let response = request.send().await.map_err(unanswered)?;
    let (head, body) = http::Response::from(response).into_parts();
    Ok(Reply { status: head.status, headers: head.headers, body: Body::Client(body) })
}

/// What went wrong, down to its cause.
pub fn unanswered(error: reqwest::Error) -> Unanswered {
    // The URL may hold a password.
    let error = error.without_url();
    let mut cause = error.to_string();
    let mut garbled = false;
    let mut next = error.source();
    while let Some(error) = next {
        garbled |= error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        cause = format!("{cause}: {error}");
        next = error.source();
    }
    Unanswered { garbled, cause }
}
