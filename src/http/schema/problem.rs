//! The mirror of a refusal, [`crate::http::problem`].

use utoipa::ToSchema;

use super::refusals::codes;

/// A refusal (RFC 9457).
#[derive(ToSchema)]
pub struct Problem {
    /// The page that explains the code, relative to the gateway.
    #[schema(format = "uri-reference")]
    pub r#type: String,
    /// A few words, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// A sentence about this occurrence.
    pub detail: String,
    /// A stable code.
    #[schema(schema_with = codes)]
    pub code: String,
    /// The request, as the gateway's log has it.
    #[schema(pattern = "^req_[0-9a-f]{32}$")]
    pub request_id: String,
    /// When it was refused.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// The field, parameter or header at fault, by its path.
    #[schema(required = false)]
    pub field: String,
    /// The conversation it is about.
    #[schema(required = false, pattern = "^conv_[0-9a-f]{32}$")]
    pub conversation_id: String,
    /// The turn it is about.
    #[schema(required = false, pattern = "^turn_[0-9a-f]{32}$")]
    pub turn_id: String,
    /// Whose limit is reached: `application`, or each `key`, `user`, `visitor` or `address`.
    #[schema(required = false)]
    pub scope: String,
    /// Which limit is reached, by the name of its setting.
    #[schema(required = false)]
    pub limit: String,
    /// When there is some of it again.
    #[schema(required = false, format = DateTime)]
    pub resets_at: String,
    /// `unknown` where it is not known whether a turn was started.
    #[schema(required = false)]
    pub outcome: String,
}
