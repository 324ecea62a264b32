//! The load: a fake model and its users, in one thread around one epoll, so that a delta is stamped and received by the
//! same clock and little is computed besides.

pub mod body;
pub mod call;
pub mod engine;
pub mod group;
pub mod plan;
pub mod script;
pub mod stamp;
pub mod visitor;

use std::fmt;

/// Why a run does not count: something was lost, doubled, out of order, or did not come at all.
#[derive(Debug)]
pub struct Void(String);

impl Void {
    /// For that reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Void {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Void {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
