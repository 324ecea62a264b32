//! `GET /v1/models`: OpenAI's list object (platform.openai.com/docs/api-reference/models/list).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::answer::json;
use super::app::App;

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    /// Seconds since the Unix epoch; nobody tells, so it is 0.
    created: u64,
    owned_by: String,
}

/// What may be asked for by name.
pub async fn list(State(app): State<App>) -> Response {
    let models = app.turns.upstreams.models().await;
    let data =
        models.into_iter().map(|model| Model { id: model.id, object: "model", created: 0, owned_by: model.owned_by });
    json(StatusCode::OK, &List { object: "list", data: data.collect() })
}
