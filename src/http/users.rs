//! `/v1/users`: an application's users and visitors.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::Admin;
use super::body::Json;
use super::paging::{self, Place};
use super::prefer::respond_async;
use super::problem::Problem;
use super::query::{Id, Query};
use super::schema::{parameters, refusals};
use crate::domain::clock::Timestamp;
use crate::domain::ids::VisitorId;
use crate::domain::owner::{Kind, Owner};
use crate::identity::jwt;
use crate::store::people::Person;

/// How long an answer waits for somebody to be forgotten.
const PATIENCE: Duration = Duration::from_secs(10);

/// A user or a visitor.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct Shown {
    /// A user's id, as their token and `Tidegate-User` have it, or a visitor's.
    id: String,
    /// `user` or `visitor`.
    #[schema(pattern = "^(user|visitor)$")]
    kind: &'static str,
    /// Whether they are let in.
    active: bool,
    /// When they were first seen.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Since when they are not let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = DateTime)]
    deactivated_at: Option<Timestamp>,
    /// Since when they are being forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = DateTime)]
    forgetting_at: Option<Timestamp>,
}

impl From<Person> for Shown {
    fn from(person: Person) -> Self {
        Self {
            id: person.owner.person_id().unwrap_or_default().to_owned(),
            kind: person.owner.kind().as_str(),
            active: person.deactivated_at.is_none() && person.forgetting_at.is_none(),
            created_at: person.created_at,
            deactivated_at: person.deactivated_at,
            forgetting_at: person.forgetting_at,
        }
    }
}

/// An application's users and visitors.
#[derive(Serialize, ToSchema)]
#[schema(as = UserList)]
struct List {
    /// Who was first seen first.
    data: Vec<Shown>,
    /// Goes into `cursor` for those after these; null where there are none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// List users
///
/// Users and visitors of the application, from their first message on.
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "Administration",
    operation_id = "list_users",
    params(paging::Listing),
    responses((status = 200, description = "The users.", body = List), refusals::OfListing)
)]
pub async fn list(
    State(app): State<App>,
    Admin(caller): Admin,
    Query(listing): Query<paging::Listing>,
) -> Result<Response, Problem> {
    let (limit, from) = listing.read()?;
    let found = app.turns.store.people(&caller.owner.application_id, from.after(), limit + 1).await?;
    let place = |person: &Person| Place { at: person.created_at, id: person.owner.owner_id.to_string() };
    let (found, next) = paging::page(found, limit, place);
    Ok(json(StatusCode::OK, &List { data: found.into_iter().map(Shown::from).collect(), next_cursor: next }))
}

/// What is to change of a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserChange, example = json!({"active": false}))]
pub struct Change {
    /// Whether they are let in.
    active: bool,
}

/// Let a user in or not
///
/// One who is not is refused from now on, whatever they show, and their streams are closed with `revoked`; their turns go
/// on. Also for one who has not been here yet.
#[utoipa::path(
    patch,
    path = "/v1/users/{id}",
    tag = "Administration",
    operation_id = "update_user",
    params(("id" = String, Path, description = "The user, or the visitor.")),
    request_body = Change,
    responses((status = 200, description = "The user.", body = Shown), refusals::OfUpdateUser)
)]
pub async fn update(
    State(app): State<App>,
    Admin(caller): Admin,
    Id(id): Id<String>,
    body: Json<Change>,
) -> Result<Response, Problem> {
    let owner = owner(&caller.owner, &id)?;
    app.access.set_active(&caller, &owner, body.value.active).await?;
    let person = app.turns.store.person(&owner).await?.ok_or_else(Problem::internal)?;
    Ok(json(StatusCode::OK, &Shown::from(person)))
}

/// That somebody is being forgotten.
#[derive(Serialize, ToSchema)]
#[schema(as = Forgetting)]
struct Going {
    /// Who.
    id: String,
    /// Always `forgetting`.
    #[schema(pattern = "^forgetting$")]
    status: &'static str,
}

/// Forget a user
///
/// All that is theirs is erased: conversations with everything under them, whose live turns are stopped, tickets, keys of
/// idempotency. What was used stays in the sums, as nobody's; the audit log keeps what was done, by a pseudonym. Until it is
/// done they are refused; whoever comes back later is somebody new. It takes a few seconds, and longer for somebody who has
/// said much: then the answer is 202, it goes on, and asking again tells when it is done. Also for one who is not there.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    tag = "Administration",
    operation_id = "forget_user",
    params(("id" = String, Path, description = "The user, or the visitor."), parameters::Prefer),
    responses(
        (
            status = 204, description = "They are forgotten.",
            headers(("Preference-Applied" = String, description = "What of `Prefer` was kept.")),
        ),
        (
            status = 202, description = "They are being forgotten.", body = Going,
            headers(("Preference-Applied" = String, description = "What of `Prefer` was kept.")),
        ),
        refusals::OfForgetUser
    )
)]
pub async fn forget(
    State(app): State<App>,
    Admin(caller): Admin,
    Id(id): Id<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let owner = owner(&caller.owner, &id)?;
    app.access.begin_forgetting(&caller, &owner).await?;
    let prefer = respond_async(&headers);
    let wait = prefer.map_or(PATIENCE, |prefer| prefer.wait.min(PATIENCE));
    // What went wrong is tried again by the sweep.
    let waited = tokio::time::timeout(wait, app.turns.forget(&owner)).await;
    let done = matches!(waited, Ok(Ok(()))) && app.turns.store.forgetting(Some(&owner), 1).await?.is_empty();
    let response = if done {
        StatusCode::NO_CONTENT.into_response()
    } else {
        json(StatusCode::ACCEPTED, &Going { id, status: "forgetting" })
    };
    Ok(match prefer {
        Some(prefer) => (prefer, response).into_response(),
        None => response,
    })
}

/// How a person of the caller's application owns rows.
///
/// # Errors
/// 422 for what is nobody's id.
pub fn owner(caller: &Owner, id: &str) -> Result<Owner, Problem> {
    let application = &caller.application_id;
    if VisitorId::from(id).uuid().is_some() {
        return Ok(Owner::person(application, Kind::Visitor, id));
    }
    if jwt::is_user(id) {
        Ok(Owner::person(application, Kind::User, id))
    } else {
        let most = jwt::USER;
        Err(Problem::field("id", format!("must be a visitor's, or 1 to {most} bytes without control characters")))
    }
}
