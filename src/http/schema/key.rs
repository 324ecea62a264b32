//! Mirrors of [`crate::domain::caller`].

use utoipa::ToSchema;

/// What an API key may do.
#[derive(ToSchema)]
#[schema(as = KeyRole, rename_all = "snake_case")]
pub enum Role {
    /// Every GET of its application.
    Read,
    /// All of its application, or all that one user may.
    Service,
    /// That, and keys, users and the audit log.
    Admin,
}
