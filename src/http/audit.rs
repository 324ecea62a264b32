//! `GET /v1/audit`: who did what, for whoever looks after an application.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::Admin;
use super::paging::{self, Place};
use super::problem::Problem;
use super::query::Query;
use super::schema::refusals;
use crate::domain::audit::Action;
use crate::domain::clock::Timestamp;
use crate::domain::ids::AuditId;
use crate::store::audit::{Entry, Filter};

/// The query of `GET /v1/audit`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// By this key, user or visitor, or by a key or a ticket on their behalf: their id.
    actor: Option<String>,
    /// This action, such as `conversation.delete`.
    action: Option<String>,
    /// Done to this conversation, turn, message, key, user or visitor: its id.
    object: Option<String>,
    /// Not before this.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// How many; 20 where it is absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// A `next_cursor`, for those before it.
    #[param(pattern = "^[0-9]{1,18}\\..*$")]
    cursor: Option<String>,
}

/// Who did something.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditActor)]
struct Actor {
    /// `key`, `user`, `visitor`, `ticket` (whoever holds one), `cli` (`tidegate keys` on the machine), `system` (the gateway
    /// itself) or `local` (anybody, while auth was off).
    #[schema(pattern = "^(key|user|visitor|ticket|cli|system|local)$")]
    kind: &'static str,
    /// The key's id, the user's or the visitor's; once a person is forgotten, what stands for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// Whom the key acted for, or whose ticket it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    acting_for: Option<Named>,
}

/// Something with an id.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditObject)]
struct Named {
    /// What it is: `conversation`, `turn`, `message`, `key`, `user`, `visitor` or `service` (the application itself).
    kind: String,
    /// Its id; once a person is forgotten, what stands for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
}

/// A row of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct Shown {
    /// Its id.
    #[schema(value_type = String, pattern = "^aud_[0-9a-f]{32}$")]
    id: AuditId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who.
    actor: Actor,
    /// What was done.
    #[schema(pattern = "^[a-z]+\\.[a-z]+$")]
    action: String,
    /// To what.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    object: Option<Named>,
    /// `ok`, or the code of the refusal.
    result: String,
    /// How often: the same refusal within a minute is told by its first, and by one more for all that followed.
    times: u64,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
    /// The request, as its answer named it in `Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<String>,
}

impl From<Entry> for Shown {
    fn from(entry: Entry) -> Self {
        let acting_for = entry.acting_for.map(|owner| match owner.split_once(':') {
            Some((kind, id)) => Named { kind: kind.to_owned(), id: Some(id.to_owned()) },
            None => Named { kind: owner, id: None },
        });
        Self {
            id: entry.id,
            at: entry.at,
            actor: Actor { kind: entry.actor_kind.as_str(), id: entry.actor_id, acting_for },
            action: entry.action,
            object: entry.object_kind.map(|kind| Named { kind, id: entry.object_id }),
            result: entry.result,
            times: entry.times,
            address: entry.address,
            request_id: entry.request_id,
        }
    }
}

/// Rows of the audit log.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditList)]
struct List {
    /// The newest first.
    data: Vec<Shown>,
    /// Goes into `cursor` for those before these; null where there are none.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Read the audit log
///
/// Who did what to which object of the application, when, from where and with what result; no content. Questions are not in
/// it: a turn tells of itself.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "Administration",
    operation_id = "list_audit",
    params(Asked),
    responses((status = 200, description = "The rows.", body = List), refusals::OfListing)
)]
pub async fn list(
    State(app): State<App>,
    Admin(caller): Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let Asked { actor, action, object, from, to, limit, cursor } = asked;
    let limit = paging::limit(limit)?;
    for (field, id) in [("actor", &actor), ("object", &object)] {
        if id.as_ref().is_some_and(|id| id.is_empty() || id.contains('\0')) {
            return Err(Problem::field(field, "is no id"));
        }
    }
    let action = action
        .map(|name| Action::parse(&name).ok_or_else(|| Problem::field("action", "is no action that is audited")))
        .transpose()?;
    let latest = || Place { at: to.unwrap_or(Timestamp::from_micros(i64::MAX)), id: String::new() };
    let before = match cursor {
        Some(cursor) => {
            let place = Place::read(&cursor);
            place.ok_or_else(|| Problem::field("cursor", "must be a `next_cursor` of this list"))?
        }
        None => latest(),
    };
    let before = if before.at >= latest().at { latest() } else { before };
    let filter = Filter { actor, action, object, from };
    let found = app.turns.store.audit(&caller.owner.application_id, &filter, before.after(), limit + 1).await?;
    let (found, next) = paging::page(found, limit, |entry| Place { at: entry.at, id: entry.id.to_string() });
    Ok(json(StatusCode::OK, &List { data: found.into_iter().map(Shown::from).collect(), next_cursor: next }))
}
