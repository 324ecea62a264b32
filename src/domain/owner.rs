//! Whose a row is. Every function of the store takes one; an id alone opens nothing.

use std::sync::Arc;

/// An application and, within it, the one the object belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The application (tenant).
    pub application_id: Arc<str>,
    /// The user or visitor within it.
    pub owner_id: Arc<str>,
}

impl Owner {
    /// The one owner there is while auth is off.
    pub fn local() -> Self {
        Self { application_id: "default".into(), owner_id: "local".into() }
    }
}
