//! `/v1/tickets`: what opens one turn or conversation where headers cannot be set.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::{Asker, forbidden, reach};
use super::body::Json;
use super::problem::Problem;
use super::schema::refusals;
use crate::domain::caller::Opened;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ConversationId, TurnId};

/// What the ticket is for: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTicket, example = json!({"conversation_id": "conv_0190b2c0a5f07bd39b7a1f6a0b0c0d0e"}))]
pub struct New {
    /// The turn whose events it opens.
    turn_id: Option<String>,
    /// The conversation whose feed it opens.
    conversation_id: Option<String>,
}

/// A ticket.
#[derive(Serialize, ToSchema)]
#[schema(as = Ticket)]
struct Given {
    /// Goes into `?ticket=`.
    ticket: String,
    /// Until when it must be used for the first time.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Get a ticket
///
/// For `?ticket=` where headers cannot be set. It reads one object as its owner, and starts or stops nothing. It must be
/// used within a minute; then it opens again until a minute after the turn's end, or for an hour for a conversation.
#[utoipa::path(
    post,
    path = "/v1/tickets",
    tag = "Access",
    operation_id = "create_ticket",
    request_body = New,
    responses((status = 200, description = "The ticket.", body = Given), refusals::OfTickets)
)]
pub async fn create(State(app): State<App>, Asker(caller): Asker, body: Json<New>) -> Result<Response, Problem> {
    if !app.access.is_required() {
        return Err(forbidden("With auth off nothing is closed, and there are no tickets."));
    }
    let (who, opens) = match (body.value.turn_id, body.value.conversation_id) {
        (Some(turn), None) => {
            let id = TurnId::from(named("turn_id", turn)?);
            (reach(&app, caller, &id).await.map_err(|problem| problem.at("turn_id"))?, Opened::Turn(id))
        }
        (None, Some(conversation)) => {
            let id = ConversationId::from(named("conversation_id", conversation)?);
            let who = reach(&app, caller, &id).await.map_err(|problem| problem.at("conversation_id"))?;
            (who, Opened::Conversation(id))
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::field("turn_id", "must be there, or `conversation_id`, and not both"));
        }
    };
    let token = app.access.new_ticket(&who.caller, &who.owner, opens).await?;
    Ok(json(StatusCode::OK, &Given { ticket: token.text.reveal().to_owned(), expires_at: token.expires_at }))
}

/// What has a NUL in it is no id, and PostgreSQL's text cannot hold it.
fn named(field: &'static str, id: String) -> Result<String, Problem> {
    if id.contains('\0') { Err(Problem::field(field, "is no id")) } else { Ok(id) }
}
