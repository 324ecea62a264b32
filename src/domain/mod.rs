//! Pure types and rules: no runtime, no I/O, nothing of the floors above.
//!
//! To add a kind of event: 1. a variant in [`event`]; 2. its line in [`draft`] (the fold);
//! 3. its schema in `http/schema/event.rs`, and its line in `events()` of `http/schema/frame.rs`, from which both documents
//! follow. The compiler names every other place.

pub mod acting;
pub mod audit;
pub mod called;
pub mod caller;
pub mod clock;
pub mod context;
pub mod conversation;
pub mod cursor;
pub mod draft;
pub mod event;
pub mod foresight;
pub mod ids;
pub mod json;
pub mod limits;
pub mod merge;
pub mod message;
pub mod owner;
pub mod pattern;
pub mod period;
pub mod price;
pub mod quota;
pub mod rate;
pub mod repair;
pub mod secret;
pub mod stream;
pub mod sums;
pub mod turn;
pub mod usage;
pub mod window;
pub mod words;
