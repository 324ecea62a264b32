//! Where calls go, and what is written on every one of them.

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::Client;
use url::Url;

use super::client;
use crate::domain::secret::Secret;
use crate::upstream::settings::Settings;
use crate::upstream::setup::SetupError;

/// The URL that paths are put below.
///
/// # Errors
/// When it is missing, or none that HTTP knows.
pub fn base_url(settings: &Settings) -> Result<Url, SetupError> {
    let wrong = |problem: &str| SetupError::new("base_url", problem);
    let text = settings.base_url.as_deref().ok_or_else(|| wrong("is missing, such as https://api.openai.com/v1"))?;
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with http:// or https://"));
    }
    Ok(url)
}

/// The URL without its user and password, and the header that stands for them (RFC 7617).
///
/// # Errors
/// When they cannot be sent.
pub fn credentials(client: &Client, base: Url) -> Result<(Url, HeaderMap), SetupError> {
    let request = client.request(Method::POST, base).build();
    let mut request = request.map_err(|error| SetupError::new("base_url", client::unanswered(error).cause))?;
    let headers = std::mem::take(request.headers_mut());
    Ok((request.url().clone(), headers))
}

/// The headers of the settings, and the key's.
///
/// # Errors
/// When one of them cannot be sent.
pub fn headers(settings: &Settings, secret: Option<&Secret>) -> Result<HeaderMap, SetupError> {
    let mut headers = HeaderMap::new();
    if let Some(secret) = secret {
        let value = sensitive(&format!("Bearer {}", secret.reveal()))
            .ok_or_else(|| SetupError::new("api_key", "holds a character that no header can carry"))?;
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &settings.headers {
        let wrong = |problem: &str| SetupError::new(format!("headers.{name}"), problem);
        let key: HeaderName = name.parse().map_err(|_| wrong("is no header name"))?;
        if key == CONTENT_LENGTH || key == TRANSFER_ENCODING {
            return Err(wrong("says how long a request is, which differs from one to the next"));
        }
        let value = sensitive(value.reveal()).ok_or_else(|| wrong("holds a character that no header can carry"))?;
        headers.insert(key, value);
    }
    Ok(headers)
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
