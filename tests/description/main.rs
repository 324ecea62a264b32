//! The OpenAPI document against the program: every mirror against the type it mirrors, every route against the router,
//! and real answers, kind by kind, against what is said of them. Needs nothing but the built program.
#![cfg(test)]

mod answers;
mod document;
mod judge;
mod mirrors;
mod refusals;
mod routes;
mod schema;
#[path = "../support/mod.rs"]
mod support;

/// The kind of every fresh database here.
const DATABASE: support::Kind = support::Kind::Sqlite;
