//! Every route of the API, in one flat list.

use axum::Router;
use axum::routing::{get, post};

use super::app::App;
use super::routes::get_only;
use super::{chat, conversations, health, messages, models, turns};

/// The resources.
pub fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/conversations", post(conversations::create))
        .route("/v1/conversations/{id}", get(conversations::get))
        .route("/v1/conversations/{id}/messages", get(messages::list).post(messages::create))
        .route("/v1/conversations/{id}/events", get_only("GET", conversations::events))
        .route("/v1/turns/{id}", get(turns::get))
        .route("/v1/turns/{id}/events", get_only("GET", turns::events))
        .route("/v1/turns/{id}/stop", post(turns::stop))
        .route("/v1/chat/stream", get_only("GET, POST", chat::get).post(chat::post))
        .route("/v1/chat/{session_id}", axum::routing::delete(chat::reset))
        .route("/v1/chat/{session_id}/history", get(chat::history))
        .route("/v1/models", get(models::list))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(app)
}
