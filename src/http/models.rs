//! `GET /v1/models`: OpenAI's list object (platform.openai.com/docs/api-reference/models/list).

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::Asker;
use super::schema::refusals;

/// Models, as OpenAI lists them.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelList)]
struct List {
    /// Always `list`.
    object: &'static str,
    /// The models.
    data: Vec<Model>,
}

/// A model.
#[derive(Serialize, ToSchema)]
struct Model {
    /// The name to ask for it by.
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Seconds since the Unix epoch; nobody tells, so it is 0.
    created: u64,
    /// The upstream that has it, or whom that names.
    owned_by: String,
}

/// List the models
///
/// What may be asked for by name, as OpenAI's list object.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Models",
    operation_id = "list_models",
    responses((status = 200, description = "The models.", body = List), refusals::OfModels)
)]
pub async fn list(State(app): State<App>, Asker(caller): Asker) -> Response {
    let upstreams = app.turns.upstreams.get();
    let models = upstreams.models().await;
    let named = |id: String, owned_by| Model { id, object: "model", created: 0, owned_by };
    let mut data: Vec<Model> = models.into_iter().map(|model| named(model.id, model.owned_by)).collect();
    // A pattern may serve it without anybody listing it.
    let default = &app.turns.settings.default_model;
    if !data.iter().any(|model| model.id == *default)
        && let Some(first) = upstreams.candidates(default).next()
    {
        data.push(named(default.clone(), first.name().to_owned()));
    }
    data.retain(|model| caller.models.has(&model.id));
    json(StatusCode::OK, &List { object: "list", data })
}
