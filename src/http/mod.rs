//! HTTP: axum, hyper's server side and utoipa live here only.
//!
//! socket → [`server`] → [`guard`] (host, origin, size, request id, [`address`], log) → a resource → [`problem::Problem`] or an answer.
//!
//! To add a resource: 1. a file here with its handlers, which take [`query::Id`], [`query::Query`] and [`body::Json`] and
//! refuse with [`problem::Problem`]; whose rows they may touch says [`asker`], and the door that makes stands in the table of
//! `tests/stories/walk.rs`; 2. a `#[utoipa::path]` on each, and a
//! line where the [`resources`] are listed: a GET that streams or starts something takes `no_head` there, and one that
//! starts something its path in [`cross_site`]; 3. its schemas, its list in `schema/refusals.rs`, its row in the README, and a test that asks through the
//! public door.
//!
//! A route that changes, starts or hands out something is told of as well: 4. its [`crate::domain::audit::Action`], its line in
//! [`audited`], for what is refused, and in the table of `tests/stories/audit.rs`, which fails without it; 5. the deed
//! ([`app::App::deed`]), which goes down to the store and is written there in the transaction of what it tells of (`insert_deed!`), only
//! where that changed something; what has no transaction is noted before it is handed out; 6. where a row with a person's id is
//! made, the condition `stands!` (`store/people.rs`): they may have been forgotten since they were let in.
//!
//! To add a refusal: one line in [`code`].

pub mod accept;
pub mod address;
pub mod answer;
pub mod app;
pub mod asker;
pub mod audit;
pub mod audited;
pub mod body;
pub mod branches;
pub mod chat;
pub mod code;
pub mod context;
pub mod conversations;
pub mod cors;
pub mod cross_site;
pub mod csv;
pub mod cursor;
pub mod docs;
pub mod export;
pub mod feedback;
pub mod fingerprint;
pub mod guard;
mod headers;
pub mod health;
pub mod host;
pub mod idempotency;
mod json;
pub mod keys;
pub mod limits;
pub mod listing;
pub mod lives;
pub mod messages;
pub mod models;
pub mod page;
pub mod paging;
pub mod prefer;
pub mod problem;
pub mod query;
pub mod resources;
pub mod routes;
pub mod schema;
pub mod server;
pub mod session;
pub mod sessions;
pub mod settings;
pub mod stream;
pub mod tickets;
pub mod traced;
pub mod turns;
mod unread;
pub mod usage;
pub mod users;
pub mod visitors;

#[cfg(test)]
mod tests;
