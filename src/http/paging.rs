//! How much of a list comes at once.

use super::problem::Problem;

/// How many come without a `limit`, and at most.
const LIMITS: (u32, u32) = (20, 100);

/// How many are to come.
///
/// # Errors
/// 422 `invalid_request` for none, or too many.
pub fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    let (usual, most) = LIMITS;
    let limit = asked.unwrap_or(usual);
    if (1..=most).contains(&limit) { Ok(limit) } else { Err(Problem::field("limit", format!("must be 1 to {most}"))) }
}
