//! `/v1/messages/{id}/feedback`: what is thought of an answer.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::json;
use super::app::{App, no_message};
use super::asker::Mine;
use super::body::Json;
use super::problem::Problem;
use super::schema::{message, refusals};
use crate::domain::audit::Action;
use crate::domain::ids::MessageId;
use crate::domain::message::{Feedback, Rating, Role};

/// The longest reason, in characters.
const REASON: usize = 200;
/// The longest note, in characters.
const NOTE: usize = 4000;

/// What somebody thinks of an answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeedback, example = json!({"rating": "down", "reason": "outdated"}))]
pub struct New {
    /// Whether they think well of it.
    #[schema(value_type = message::Rating)]
    rating: Rating,
    /// Why, in a word or two.
    #[schema(max_length = 200)]
    reason: Option<String>,
    /// Why, at length.
    #[schema(max_length = 4000)]
    note: Option<String>,
}

/// Say what you think of an answer
///
/// It is kept with the answer, and shown in it; the last word counts.
#[utoipa::path(
    post,
    path = "/v1/messages/{id}/feedback",
    tag = "Conversations",
    operation_id = "rate_message",
    params(("id" = String, Path, description = "The answer.")),
    request_body = New,
    responses((status = 200, description = "The answer.", body = message::Message), refusals::OfFeedback)
)]
pub async fn create(
    State(app): State<App>,
    Mine { who, id }: Mine<MessageId>,
    body: Json<New>,
) -> Result<Response, Problem> {
    let New { rating, reason, note } = body.value;
    for (field, text, most) in [("reason", &reason, REASON), ("note", &note, NOTE)] {
        if text.as_ref().is_some_and(|text| text.chars().count() > most) {
            return Err(Problem::field(field, format!("must have at most {most} characters")));
        }
    }
    let feedback = Feedback { rating, reason, note, created_at: app.turns.now() };
    let deed = app.deed(&who.caller, Action::MessageRate, Some((&id).into()));
    if !app.turns.store.rate(&who.owner, &id, &feedback, &deed).await? {
        let question = app.turns.store.message(&who.owner, &id).await?.filter(|message| message.role == Role::User);
        return Err(match question {
            Some(_) => Problem::field("id", "is a question; only an answer is rated"),
            None => no_message(),
        });
    }
    let message = app.turns.message(&who.owner, &id).await?.ok_or_else(no_message)?;
    Ok(json(StatusCode::OK, &message))
}
