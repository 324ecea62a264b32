//! From resources to the whole.

use std::sync::Arc;

use axum::routing::MethodRouter;
use axum::{Router, middleware};

use super::code::Code;
use super::guard::{self, Guard};
use super::problem::Problem;
use super::{docs, page};

/// The whole: the resources, the page, the docs, what answers where nothing lives, and the guard before all of it.
pub fn assemble(guard: Guard, resources: Router) -> Router {
    guarded(guard, resources.merge(page::routes()).merge(docs::routes()))
}

/// Routes with a listener of their own, what answers where nothing lives, and the guard before all of it.
pub fn guarded(guard: Guard, routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(Code::RouteNotFound, "Nothing lives at this path."))
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "This path does not take that method; Allow names those it takes.")
        })
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::handle))
}

/// A path whose GET does not stand in for HEAD, because it starts or holds something. `allow` lists what the path
/// takes, as in `GET, POST`.
pub fn no_head<S: Clone + Send + Sync + 'static>(allow: &'static str, methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.head(async move || Problem::method(allow)).fallback(async move || Problem::method(allow))
}
