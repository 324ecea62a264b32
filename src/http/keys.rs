//! `/v1/keys`: an application's API keys.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::Admin;
use super::body::Json;
use super::code::Code;
use super::paging::{self, Place};
use super::problem::Problem;
use super::query::{Id, Query};
use super::schema::{self, refusals};
use crate::access::{KeyError, Wanted};
use crate::domain::caller::Role;
use crate::domain::clock::Timestamp;
use crate::domain::ids::KeyId;
use crate::store::keys::ApiKey;

/// The longest a rotated key may stay good beside the new one, in seconds: a month.
const OVERLAP: u64 = 31 * 24 * 3600;

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey, example = json!({"role": "service"}))]
pub struct New {
    /// What it may do.
    #[schema(value_type = schema::key::Role)]
    role: Role,
    /// When it ceases to be good; absent: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// An API key.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct Shown {
    /// Its id.
    #[schema(value_type = String, pattern = "^key_[0-9a-f]{32}$")]
    id: KeyId,
    /// The application it is of.
    application: String,
    /// What its text begins with, after `tg_`.
    prefix: String,
    /// What it may do.
    #[schema(value_type = schema::key::Role)]
    role: Role,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last used, as of a minute ago or so; null for one that was not.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// When it ceases to be good; null for never.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was revoked; null for one that was not.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// The key itself: shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<String>,
}

impl From<ApiKey> for Shown {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            application: key.application_id,
            prefix: key.prefix,
            role: key.role,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            key: None,
        }
    }
}

/// An application's keys.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyList)]
struct List {
    /// The oldest first.
    data: Vec<Shown>,
    /// Goes into `cursor` for those after these; null where there are none.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::Randomness(error) => {
                tracing::error!(%error, "there is no key");
                Self::internal()
            }
        }
    }
}

fn no_key() -> Problem {
    Problem::new(Code::KeyNotFound, "The application has no such key that is good.")
}

/// List keys
///
/// The application's, revoked ones included, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "Administration",
    operation_id = "list_keys",
    params(paging::Listing),
    responses((status = 200, description = "The keys.", body = List), refusals::OfListing)
)]
pub async fn list(
    State(app): State<App>,
    Admin(caller): Admin,
    Query(listing): Query<paging::Listing>,
) -> Result<Response, Problem> {
    let (limit, from) = listing.read()?;
    let found = app.turns.store.keys(&caller.owner.application_id, from.after(), limit + 1).await?;
    let (found, next) = paging::page(found, limit, |key| Place { at: key.created_at, id: key.id.to_string() });
    let data = found.into_iter().map(Shown::from).collect();
    Ok(json(StatusCode::OK, &List { data, next_cursor: next }))
}

/// Make a key
///
/// Its text is in this answer, and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "Administration",
    operation_id = "create_key",
    request_body = New,
    responses((status = 201, description = "The key.", body = Shown), refusals::OfCreateKey)
)]
pub async fn create(State(app): State<App>, Admin(caller): Admin, body: Json<New>) -> Result<Response, Problem> {
    let New { role, expires_at } = body.value;
    if expires_at.is_some_and(|expires| expires <= app.turns.now()) {
        return Err(Problem::field("expires_at", "must be later than now"));
    }
    let wanted = Wanted { application: &caller.owner.application_id, role, expires_at, old: None };
    let made = app.access.new_key(&caller, wanted).await?.ok_or_else(Problem::internal)?;
    Ok(json(StatusCode::CREATED, &Shown { key: Some(made.secret.reveal().to_owned()), ..Shown::from(made.key) }))
}

/// Revoke a key
///
/// It is refused from now on; streams that it opened are closed with `revoked`, their turns go on.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    tag = "Administration",
    operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key.")),
    responses((status = 204, description = "It is revoked."), refusals::OfKey)
)]
pub async fn revoke(State(app): State<App>, Admin(caller): Admin, Id(id): Id<KeyId>) -> Result<Response, Problem> {
    if app.access.revoke_key(&caller, &id).await? { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(no_key()) }
}

/// How a key is to be replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = KeyRotation, example = json!({"overlap_s": 3600}))]
pub struct Rotation {
    /// For so many seconds the old key stays good beside the new one; absent: not at all.
    #[schema(maximum = 2_678_400)]
    overlap_s: u64,
}

/// Rotate a key
///
/// Makes a key of the same role and the same end, in the place of this one.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    tag = "Administration",
    operation_id = "rotate_key",
    params(("id" = String, Path, description = "The key.")),
    request_body = Rotation,
    responses((status = 201, description = "The new key.", body = Shown), refusals::OfRotateKey)
)]
pub async fn rotate(
    State(app): State<App>,
    Admin(caller): Admin,
    Id(id): Id<KeyId>,
    body: Json<Rotation>,
) -> Result<Response, Problem> {
    let overlap = body.value.overlap_s;
    if overlap > OVERLAP {
        return Err(Problem::field("overlap_s", format!("may be at most {OVERLAP}")));
    }
    let (application, now) = (&caller.owner.application_id, app.turns.now());
    let old = app.turns.store.key(application, &id).await?.filter(|key| key.is_good(now)).ok_or_else(no_key)?;
    let until = Timestamp::from_micros(now.as_micros() + (overlap * 1_000_000).cast_signed());
    let wanted = Wanted { application, role: old.role, expires_at: old.expires_at, old: Some((&id, until)) };
    let made = app.access.new_key(&caller, wanted).await?.ok_or_else(no_key)?;
    Ok(json(StatusCode::CREATED, &Shown { key: Some(made.secret.reveal().to_owned()), ..Shown::from(made.key) }))
}
