//! `/v1/turns/{id}`: a turn, its events, its stop.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::accept::{Encoding, negotiate};
use super::answer::{Reading, Wanted, json, tell};
use super::app::{App, no_turn};
use super::asker::Mine;
use super::body::{Json, Nothing};
use super::problem::Problem;
use super::query::Query;
use super::schema::{message, parameters, refusals, streams, turn};
use crate::domain::audit::Action;
use crate::domain::ids::TurnId;
use crate::domain::turn::StoppedBy;
use crate::turn::stop::Stopped;

/// Get a turn
///
/// The turn now, with as much of its answer as there is.
#[utoipa::path(
    get,
    path = "/v1/turns/{id}",
    tag = "Turns",
    operation_id = "get_turn",
    params(("id" = String, Path, description = "The turn.")),
    responses((status = 200, description = "The turn.", body = turn::Turn), refusals::OfTurn)
)]
pub async fn get(State(app): State<App>, Mine { who, id }: Mine<TurnId>) -> Result<Response, Problem> {
    let turn = app.turns.turn(&who.owner, &id).await?.ok_or_else(no_turn)?;
    Ok(json(StatusCode::OK, &turn))
}

/// Follow a turn
///
/// Its events from a cursor, then live until the end; as JSON, the message once it has ended. A reconnect asks no model
/// again, and misses nothing.
#[utoipa::path(
    get,
    path = "/v1/turns/{id}/events",
    tag = "Turns",
    operation_id = "follow_turn",
    params(("id" = String, Path, description = "The turn."), Reading, parameters::LastEventId),
    responses(streams::Events, refusals::OfEvents)
)]
pub async fn events(
    State(app): State<App>,
    mine: Result<Mine<TurnId>, Problem>,
    Query(reading): Query<Reading>,
    headers: HeaderMap,
) -> Response {
    let mut encoding = Encoding::Ndjson;
    let told = async {
        let chosen = negotiate(&headers, &Encoding::ALL)?;
        encoding = chosen.encoding;
        let Mine { who, id } = mine?;
        tell(&app, &who, &id, Wanted::read(&app, &who, &headers, chosen, reading, None).await?).await
    };
    match told.await {
        Ok(response) => response,
        Err(problem) if encoding == Encoding::Sse => problem.for_event_source(),
        Err(problem) => problem.into_response(),
    }
}

/// Stop a turn
///
/// What was said is kept. A turn that has ended stays as it is, so it can be stopped again and again.
#[utoipa::path(
    post,
    path = "/v1/turns/{id}/stop",
    tag = "Turns",
    operation_id = "stop_turn",
    params(("id" = String, Path, description = "The turn.")),
    request_body = Option<Nothing>,
    responses(
        (status = 200, description = "The message as it ended.", body = message::Message),
        (status = 202, description = "It is being stopped, and its end is not committed yet.", body = turn::Stopping),
        refusals::OfStop
    )
)]
pub async fn stop(
    State(app): State<App>,
    Mine { who, id }: Mine<TurnId>,
    _: Option<Json<Nothing>>,
) -> Result<Response, Problem> {
    let deed = app.deed(&who.caller, Action::TurnStop, Some((&id).into()));
    let stopped = app.turns.stop(&who.owner, &id, StoppedBy::Request, Some(deed)).await?;
    Ok(match stopped.ok_or_else(no_turn)? {
        Stopped::Ended(message) => json(StatusCode::OK, &*message),
        Stopped::Stopping => json(StatusCode::ACCEPTED, &serde_json::json!({ "turn_id": id, "status": "stopping" })),
    })
}
