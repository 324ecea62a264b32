//! `/v1/session`: a token kept as a cookie, for what cannot send a header, such as `EventSource`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, COOKIE, GetAll, SET_COOKIE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};

use super::app::App;
use super::asker::{Coming, count, refuse};
use super::code::Code;
use super::cross_site;
use super::problem::Problem;
use super::schema::refusals;
use crate::domain::audit::Action;
use crate::identity::bearer;
use crate::store::audit::OK;

/// The cookie's name where it may travel without TLS…
const PLAIN: &str = "tidegate_session";
/// …and where it may not: browsers take one of this prefix only from this host, for all of it, over TLS (RFC 6265bis, section
/// 4.1.3.2), so that no other page of the site can set it.
const HOST: &str = "__Host-tidegate_session";

/// The cookie's name, and the paths it is for, as the prefix asks, for a gateway of that origin.
fn shape(own_origin: &str) -> (&'static str, &'static str) {
    if own_origin.starts_with("https:") { (HOST, "/; Secure") } else { (PLAIN, "/v1") }
}

/// The token in a request's cookies (RFC 6265, section 4.2). Of two nobody knows which is ours: without TLS another page of the
/// site may have set one.
pub fn token<'a>(lines: GetAll<'a, HeaderValue>, own_origin: &str) -> Option<&'a str> {
    let (name, _) = shape(own_origin);
    let pairs = lines.into_iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut ours = pairs.filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='));
    ours.next().filter(|token| !token.is_empty() && ours.next().is_none())
}

fn cookie(app: &App, token: &str, rest: &str) -> Option<HeaderValue> {
    let (name, path) = shape(&app.own_origin);
    HeaderValue::try_from(format!("{name}={token}; Path={path}; HttpOnly; SameSite=Strict{rest}")).ok()
}

/// Sign in
///
/// Keeps the Bearer token of this request as a cookie that no script can read. It counts only for pages of this origin
/// and of those that are allowed, and is gone with the browser's session.
#[utoipa::path(
    post,
    path = "/v1/session",
    tag = "Access",
    operation_id = "create_session",
    responses((status = 204, description = "The cookie is set."), refusals::OfSession)
)]
pub async fn create(
    State(app): State<App>,
    coming: Coming,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Response, Problem> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(bearer::token);
    let mut response = StatusCode::NO_CONTENT.into_response();
    if !app.access.is_required() {
        return Ok(response);
    }
    // A widget's page asks for itself, and signs nobody in.
    if !cross_site::cookie_counts(&headers, &app.origins, &app.own_origin) {
        return Err(Problem::new(Code::CrossSiteRequest, "The page that asks is not of an allowed origin."));
    }
    let Some(token) = token else {
        return Err(Problem::new(Code::AuthenticationRequired, "There is no Bearer token to keep."));
    };
    let mut caller = match app.access.session(token).await {
        Ok(caller) => caller,
        Err(denied) => return Err(refuse(&app, &extensions, denied, true).await),
    };
    count(&app, &extensions, &mut caller).await?;
    // A token is visible ASCII; what would end it in a cookie's line is in none of ours.
    let cookie = cookie(&app, token, "").filter(|_| !token.contains([';', ',', '"', '\\']));
    let cookie = cookie.ok_or_else(|| Problem::new(Code::AuthenticationRequired, "The token is none."))?;
    app.turns.store.note(&app.deed(&coming.of(caller), Action::SessionCreate, None), OK).await?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// Sign out
///
/// Takes the cookie back.
#[utoipa::path(
    delete,
    path = "/v1/session",
    tag = "Access",
    operation_id = "delete_session",
    responses((status = 204, description = "The cookie is gone."), refusals::OfEndSession)
)]
pub async fn delete(State(app): State<App>, coming: Coming, headers: HeaderMap, extensions: Extensions) -> Response {
    // Whoever signs out does so, known or not, also while the database is away, and beyond their limit: then without a row.
    if app.access.is_required()
        && let Some(token) = token(headers.get_all(COOKIE), &app.own_origin)
        && let Ok(mut caller) = app.access.session(token).await
        && count(&app, &extensions, &mut caller).await.is_ok()
        && let Err(error) = app.turns.store.note(&app.deed(&coming.of(caller), Action::SessionDelete, None), OK).await
    {
        tracing::warn!(%error, "a sign-out could not be written into the audit log");
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = cookie(&app, "", "; Max-Age=0") {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let found = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_static(line));
            }
            token(headers.get_all(COOKIE), "http://127.0.0.1:8080").map(str::to_owned)
        };
        assert_eq!(found(&["a=b; tidegate_session=x.y.z; c=d"]).as_deref(), Some("x.y.z"));
        assert_eq!(found(&["a=b", "tidegate_session=x"]).as_deref(), Some("x"));
        assert_eq!(found(&["tidegate_sessions=x; xtidegate_session=y"]), None);
        assert_eq!(found(&["tidegate_session="]), None);
        assert_eq!(found(&["tidegate_session=x; tidegate_session=y"]), None);
        assert_eq!(found(&["__Host-tidegate_session=x"]), None);
        let both =
            HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("tidegate_session=x; __Host-tidegate_session=y"))]);
        assert_eq!(token(both.get_all(COOKIE), "https://chat.example"), Some("y"), "anybody may have set the other");
    }
}
