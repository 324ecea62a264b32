//! Every route of the API, in one flat list. Method, path and description of each stand at its handler.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::app::App;
use super::docs::{self, Document};
use super::routes::no_head;
use super::{
    audit, branches, chat, context, conversations, export, feedback, health, keys, listing, lives, messages, models,
    schema, session, sessions, tickets, turns, usage, users, visitors,
};

/// The resources; `/metrics` may have a listener of its own.
pub fn routes(app: App, metrics: bool) -> Router {
    let (resources, own) = listed(metrics);
    let ((resources, _), (own, _)) = (resources.split_for_parts(), own.split_for_parts());
    resources.with_state(app).merge(own.with_state(Document::new(&document())))
}

/// Metrics alone.
pub fn metrics(app: App) -> Router {
    OpenApiRouter::new().routes(routes!(health::own_metrics)).split_for_parts().0.with_state(app)
}

/// The document that describes them.
pub fn document() -> OpenApi {
    let (resources, own) = listed(true);
    schema::finish(resources.into_openapi().merge_from(own.into_openapi()))
}

fn listed(metrics: bool) -> (OpenApiRouter<App>, OpenApiRouter<Document>) {
    let resources = OpenApiRouter::with_openapi(schema::base())
        .routes(routes!(chat::post, chat::get).map(|methods| no_head("GET, POST", methods)))
        .routes(routes!(sessions::history))
        .routes(routes!(sessions::reset))
        .routes(routes!(listing::list, conversations::create))
        .routes(routes!(conversations::get, conversations::update, conversations::delete))
        .routes(routes!(conversations::events).map(|methods| no_head("GET", methods)))
        .routes(routes!(context::get, context::update, context::delete))
        .routes(routes!(export::get))
        .routes(routes!(lives::archive))
        .routes(routes!(lives::unarchive))
        .routes(routes!(lives::pause))
        .routes(routes!(lives::resume))
        .routes(routes!(lives::end))
        .routes(routes!(messages::list, messages::create))
        .routes(routes!(branches::create))
        .routes(routes!(feedback::create))
        .routes(routes!(turns::get))
        .routes(routes!(turns::events).map(|methods| no_head("GET", methods)))
        .routes(routes!(turns::stop))
        .routes(routes!(models::list))
        .routes(routes!(visitors::create))
        .routes(routes!(session::create, session::delete))
        .routes(routes!(tickets::create))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(users::list))
        .routes(routes!(users::update, users::forget))
        .routes(routes!(audit::list))
        .routes(routes!(usage::get))
        .routes(routes!(health::live))
        .routes(routes!(health::ready));
    let resources = if metrics { resources.routes(routes!(health::metrics)) } else { resources };
    (resources, OpenApiRouter::new().routes(routes!(docs::document)))
}
