//! `/v1/turns/{id}`: a turn, its events, its stop.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, Wanted, json, tell};
use super::app::{App, Caller, no_turn};
use super::body::Json;
use super::problem::Problem;
use super::query::{Id, Query};
use crate::domain::ids::TurnId;
use crate::domain::turn::StoppedBy;
use crate::turn::stop::Stopped;

/// The turn now.
pub async fn get(State(app): State<App>, Caller(owner): Caller, Id(id): Id<TurnId>) -> Result<Response, Problem> {
    let turn = app.turns.turn(&owner, &id).await?.ok_or_else(no_turn)?;
    Ok(json(StatusCode::OK, &turn))
}

/// Its events from a cursor, then live until the end; as JSON, the message once it has ended.
pub async fn events(
    State(app): State<App>,
    Caller(owner): Caller,
    Id(id): Id<TurnId>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    let mut encoding = Encoding::Ndjson;
    let told = async {
        let chosen = negotiate(&headers, &Encoding::ALL)?;
        encoding = chosen.encoding;
        tell(&app, &owner, &id, Wanted::read(&headers, chosen, reading, None)?).await
    };
    match told.await {
        Ok(response) => response,
        Err(problem) if encoding == Encoding::Sse => problem.for_event_source(),
        Err(problem) => problem.into_response(),
    }
}

/// An empty body, or an empty object.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Stops it: 200 with the message as it ended, 202 while its end is not committed.
pub async fn stop(
    State(app): State<App>,
    Caller(owner): Caller,
    Id(id): Id<TurnId>,
    _: Option<Json<Nothing>>,
) -> Result<Response, Problem> {
    Ok(match app.turns.stop(&owner, &id, StoppedBy::Request).await?.ok_or_else(no_turn)? {
        Stopped::Ended(message) => json(StatusCode::OK, &*message),
        Stopped::Stopping => json(StatusCode::ACCEPTED, &serde_json::json!({ "turn_id": id, "status": "stopping" })),
    })
}
