//! A person who does something, as the record knew them when they were let in.

use super::clock::Timestamp;
use super::owner::Owner;

/// Who acts. Between their being let in and what they do a forgetting may have come: then they are nobody any more, or somebody
/// new, and nothing of it may be written as theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    /// Who.
    pub owner: Owner,
    /// When the record first saw them; `None` for one who had done nothing yet.
    pub known_since: Option<Timestamp>,
    /// When they were let in.
    pub let_in: Timestamp,
}
