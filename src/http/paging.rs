//! How much of a list comes at once.

use serde::Deserialize;

use super::problem::Problem;
use crate::domain::clock::Timestamp;

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

/// A place in a list that goes by when things were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// When.
    pub at: Timestamp,
    /// What tells apart those of one microsecond.
    pub id: String,
}

impl Place {
    /// Before the first.
    fn start() -> Self {
        Self { at: Timestamp::from_micros(0), id: String::new() }
    }

    /// As the store takes it.
    pub fn after(&self) -> (Timestamp, &str) {
        (self.at, &self.id)
    }

    /// From a cursor; `None` for what is none.
    pub fn read(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        let digits = (1..=18).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_digit());
        let at = Timestamp::from_micros(at.parse().ok().filter(|_| digits && !id.contains('\0'))?);
        Some(Self { at, id: id.to_owned() })
    }
}

/// The query of a list that goes by when things were made.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// How many; 20 where it is absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// A `next_cursor`, for those after it.
    #[param(pattern = "^[0-9]{1,18}\\..*$")]
    cursor: Option<String>,
}

impl Listing {
    /// How many are to come, and after which.
    ///
    /// # Errors
    /// 422 that names `limit` or `cursor`.
    pub fn read(&self) -> Result<(u32, Place), Problem> {
        let limit = limit(self.limit)?;
        let Some(cursor) = &self.cursor else { return Ok((limit, Place::start())) };
        let place = Place::read(cursor).ok_or_else(|| Problem::field("cursor", "must be a `next_cursor` of this list"));
        Ok((limit, place?))
    }
}

/// The first `limit` of what was found, and where it goes on if one more was.
pub fn page<T>(mut found: Vec<T>, limit: u32, place: impl Fn(&T) -> Place) -> (Vec<T>, Option<String>) {
    let goes_on = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| goes_on).map(place);
    (found, last.map(|Place { at, id }| format!("{}.{id}", at.as_micros())))
}
