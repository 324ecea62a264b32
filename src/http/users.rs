//! `/v1/users`: an application's users and visitors.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::Admin;
use super::body::Json;
use super::paging::{self, Place};
use super::problem::Problem;
use super::query::{Id, Query};
use super::schema::refusals;
use crate::domain::clock::Timestamp;
use crate::domain::ids::VisitorId;
use crate::domain::owner::{Kind, Owner};
use crate::identity::jwt;
use crate::store::people::Person;

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
}

impl From<Person> for Shown {
    fn from(person: Person) -> Self {
        Self {
            id: person.owner.person_id().unwrap_or_default().to_owned(),
            kind: person.owner.kind().as_str(),
            active: person.deactivated_at.is_none(),
            created_at: person.created_at,
            deactivated_at: person.deactivated_at,
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
    app.access.set_active(&owner, body.value.active).await?;
    let person = app.turns.store.person(&owner).await?.ok_or_else(Problem::internal)?;
    Ok(json(StatusCode::OK, &Shown::from(person)))
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
