//! How a turn is told to whoever asks for it: streamed, waited for, or put off, by `Accept` and `Prefer`.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accept::{Chosen, Encoding};
use super::app::{App, no_turn};
use super::asker::Who;
use super::code::Code;
use super::cursor;
use super::limits::{Quota, left};
use super::prefer::RespondAsync;
use super::problem::Problem;
use super::stream::{Source, name, respond};
use crate::access::streams::Place;
use crate::domain::event::Closed;
use crate::domain::ids::TurnId;
use crate::turn::reader::{Attached, Manner};
use crate::turn::start::Started;
use crate::turn::view::Outcome;
use crate::wire::{Wire, sse};

/// What a reader may ask of its stream, in the query.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Reading {
    /// A cursor, where `Last-Event-ID` cannot be sent: the `seq` of the last event that came, as decimal digits, at most
    /// 9007199254740991. Beside a `Last-Event-ID` it is not looked at.
    pub after: Option<String>,
    /// `named`: an `event:` line with each SSE event.
    #[param(inline)]
    pub events: Option<Events>,
    /// `event`: signs of life as SSE events.
    #[param(inline)]
    pub heartbeat: Option<Heartbeat>,
    /// `0`: what there is, then close.
    #[param(value_type = Option<String>, pattern = "^(0|1|true|false)$")]
    pub follow: Option<bool>,
}

/// Whether SSE events have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Events {
    /// With an `event:` line.
    Named,
}

/// How signs of life come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heartbeat {
    /// As an event.
    Event,
}

impl Reading {
    /// The wire of an encoding that streams; `None` for one that does not.
    pub fn wire(&self, encoding: Encoding) -> Option<Wire> {
        match encoding {
            Encoding::Ndjson => Some(Wire::Ndjson),
            Encoding::Sse => Some(Wire::Sse(sse::Options {
                named: self.events.is_some(),
                visible_heartbeat: self.heartbeat.is_some(),
            })),
            Encoding::Json => None,
        }
    }
}

/// How an answer is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// The encoding.
    pub chosen: Chosen,
    /// What the reader asks of its stream.
    pub reading: Reading,
    /// Not to wait for the end.
    pub prefer: Option<RespondAsync>,
    /// From where, in the turn.
    pub cursor: u64,
    /// The stream it is, where somebody counts.
    place: Option<Place>,
}

impl Wanted {
    /// Reads what is wanted out of a request's head. A stream is counted from here on: nothing has been started yet.
    ///
    /// # Errors
    /// 422 `invalid_cursor`, 429 `rate_limited`.
    pub async fn read(
        app: &App,
        who: &Who,
        headers: &HeaderMap,
        chosen: Chosen,
        reading: Reading,
        prefer: Option<RespondAsync>,
    ) -> Result<Self, Problem> {
        let cursor = cursor::of_turn(headers, reading.after.as_deref())?;
        let streams = prefer.is_none() && chosen.encoding != Encoding::Json;
        let place = if streams { who.open_stream(app).await? } else { None };
        Ok(Self { chosen, reading, prefer, cursor, place })
    }
}

/// Tells what a start came to, as it is wanted. An `EventSource` whose turn was deleted is to stop coming back.
///
/// # Errors
/// Why it was refused, and what [`tell`] has to say.
pub async fn tell_started(
    app: &App,
    who: &Who,
    started: Result<Started, Problem>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    match started {
        Ok(started) => {
            let told = tell(app, who, &started.turn_id, wanted).await;
            // Whoever reads of a turn does not ask for another.
            let mut response =
                told.map_err(|problem| problem.turn(&started.turn_id).conversation(&started.conversation_id))?;
            Quota::tell(&left(&started.taken), response.headers_mut());
            Ok(response)
        }
        Err(problem) if problem.code() == Code::TurnDeleted && wanted.chosen.encoding == Encoding::Sse => {
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(problem) => Err(problem),
    }
}

/// Tells a turn as it is wanted.
///
/// # Errors
/// 404 when the owner has no such turn, 503 when it cannot be read; and what a turn's end is to whoever waited.
pub async fn tell(app: &App, who: &Who, turn: &TurnId, wanted: Wanted) -> Result<Response, Problem> {
    if let Some(prefer) = wanted.prefer {
        // Not a reader of the turn: its coming and going says nothing.
        let watch = who.watch();
        let ended = tokio::time::timeout(prefer.wait, app.turns.ended(&who.owner, turn));
        let ended = match &watch {
            None => ended.await,
            Some(watch) => tokio::select! {
                ended = ended => ended,
                () = watch.revoked() => return Err(revoked(turn)),
            },
        };
        if prefer.wait.is_zero() || ended.is_err() {
            return put_off(app, who, turn, prefer).await;
        }
        let mut response = tell_now(app, who, turn, wanted).await?;
        response = (prefer, response).into_response();
        return Ok(response);
    }
    tell_now(app, who, turn, wanted).await
}

async fn tell_now(app: &App, who: &Who, turn: &TurnId, wanted: Wanted) -> Result<Response, Problem> {
    let Some(wire) = wanted.reading.wire(wanted.chosen.encoding) else {
        return wait(app, who, turn).await;
    };
    let follow = wanted.reading.follow.unwrap_or(true);
    let manner = Manner { wire, follow, holds: who.caller.may_change() };
    let (source, conversation) = match app.turns.attach(&who.owner, turn, wanted.cursor, manner).await? {
        None => return Err(no_turn()),
        Some(Attached::Crowded) => return Err(crowded("The turn has as many readers as it may.").turn(turn)),
        // So an EventSource stops coming back.
        Some(Attached::Nothing(conversation)) if wanted.chosen.encoding == Encoding::Sse => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            name(&mut response, Some(turn), &conversation);
            return Ok(response);
        }
        Some(Attached::Nothing(conversation)) => (Source::Empty, conversation),
        Some(Attached::Reader(reader)) => {
            let conversation = reader.conversation_id.clone();
            (Source::Turn(reader), conversation)
        }
    };
    let told = (Some(turn), &conversation);
    Ok(respond(app, who, source, wire, wanted.chosen.content_type, told, wanted.place))
}

/// 503 for one reader more than there may be.
pub fn crowded(detail: &'static str) -> Problem {
    Problem::new(Code::TooManyReaders, detail)
}

fn revoked(turn: &TurnId) -> Problem {
    Problem::new(Code::AuthenticationRequired, "What let this request in has been revoked; the turn goes on.")
        .turn(turn)
}

/// Waits for the end, and answers with the message.
async fn wait(app: &App, who: &Who, turn: &TurnId) -> Result<Response, Problem> {
    let _counted = app.turns.meter.reader();
    let outcome = app.turns.outcome(&who.owner, turn, who.caller.may_change());
    let outcome = match who.watch() {
        None => outcome.await?,
        Some(watch) => tokio::select! {
            outcome = outcome => outcome?,
            () = watch.revoked() => return Err(revoked(turn)),
        },
    };
    match outcome {
        Outcome::Ended(message, wait) => match Problem::of_end(message.status, message.error.as_ref(), turn) {
            Some(problem) => Err(match wait {
                Some(wait) => problem.retry_after(wait),
                None => problem,
            }
            .conversation(&message.conversation_id)),
            None => {
                let mut response = json(StatusCode::OK, &*message);
                name(&mut response, Some(turn), &message.conversation_id);
                Ok(response)
            }
        },
        Outcome::Unsaved => {
            Err(Problem::new(Code::StoreUnavailable, "The answer has ended and could not be saved yet.").turn(turn))
        }
        Outcome::Closed(Closed::Unavailable) => {
            Err(Problem::new(Code::StoreUnavailable, "The turn cannot be read at present.").turn(turn))
        }
        Outcome::Closed(Closed::Draining | Closed::LostLease | Closed::Revoked) => {
            Err(Problem::new(Code::Draining, "The answer goes on elsewhere: read the turn there.").turn(turn))
        }
        Outcome::Crowded => Err(crowded("The turn has as many readers as it may.").turn(turn)),
        Outcome::Gone => Err(no_turn()),
    }
}

/// 202: the turn as it stands, and where it is.
async fn put_off(app: &App, who: &Who, turn: &TurnId, prefer: RespondAsync) -> Result<Response, Problem> {
    let turn = app.turns.turn(&who.owner, turn).await?.ok_or_else(no_turn)?;
    let mut response = json(StatusCode::ACCEPTED, &turn);
    if let Ok(location) = HeaderValue::try_from(format!("/v1/turns/{}", turn.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    name(&mut response, Some(&turn.id), &turn.conversation_id);
    Ok((prefer, response).into_response())
}

/// An answer of JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = crate::domain::json::to_vec(value);
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The body of an answer that says one thing.
#[derive(Serialize, ToSchema)]
pub struct Word {
    /// What is said, to a person.
    pub message: &'static str,
}
