//! `/v1/visitors`: a token for somebody who came through a widget.

use axum::extract::State;
use axum::response::Response;
use http::header::{AUTHORIZATION, ORIGIN};
use http::{Extensions, HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::address::Address;
use super::answer::json;
use super::app::App;
use super::asker::{count, ignored, refuse};
use super::body::Brief;
use super::code::Code;
use super::problem::Problem;
use super::schema::refusals;
use crate::access::Visit;
use crate::domain::clock::Timestamp;
use crate::identity::bearer;

/// Through which widget.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewVisitor, example = json!({"widget_key": "wk_shop"}))]
pub struct New {
    /// The widget's public key.
    widget_key: String,
}

/// A visitor's token.
#[derive(Serialize, ToSchema)]
#[schema(as = VisitorToken)]
struct Given {
    /// Goes into `Authorization: Bearer`.
    token: String,
    /// When it ceases to be good.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Become a visitor
///
/// From a page of one of the widget's origins. Whoever sends a visitor's token that is good stays the same visitor, and
/// gets a new token; with one that is not they are a new one, and `Auth-Status` says so. A visitor is remembered from the first message on.
#[utoipa::path(
    post,
    path = "/v1/visitors",
    tag = "Access",
    operation_id = "create_visitor",
    request_body = New,
    responses((status = 200, description = "The token.", body = Given), refusals::OfVisitors)
)]
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    extensions: Extensions,
    Brief(body): Brief<New>,
) -> Result<Response, Problem> {
    let none = || Problem::new(Code::AuthenticationRequired, "There is no such widget.").at("widget_key");
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !app.access.is_required() {
        return Err(Problem::new(Code::Forbidden, "With auth off everybody is the same, and there are no visitors."));
    }
    let old = header(AUTHORIZATION).and_then(bearer::token);
    let visitor = app.access.visitor_token(&body.widget_key, header(ORIGIN), old).await;
    let visitor = match visitor {
        Ok(visitor) => visitor,
        Err(denied) => return Err(refuse(&app, &extensions, denied, true).await),
    };
    let Some(Visit { mut caller, is_new, token }) = visitor else {
        app.access.count_stranger(Address::of(&extensions).map(Address::client)).await?;
        return Err(none());
    };
    if is_new && headers.contains_key(AUTHORIZATION) {
        ignored(&extensions);
    }
    count(&app, &extensions, &mut caller).await?;
    Ok(json(StatusCode::OK, &Given { token: token.text.reveal().to_owned(), expires_at: token.expires_at }))
}
