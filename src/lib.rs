//! Tidegate: a streaming chat gateway that passes every token on at once and keeps a true record of the answer.
//!
//! The map of the house, from the ground up; a floor uses those below it and none above.
//!
//! - [`domain`]: pure types and rules.
//! - [`lifecycle`]: how a server's tasks begin and end.
//! - [`upstream`]: the models behind the gateway.
//! - [`http`]: the public door.
//! - [`config`]: what a server is told before it starts.

pub mod config;
pub mod domain;
pub mod http;
pub mod lifecycle;
pub mod meter;
pub mod store;
pub mod turn;
pub mod upstream;
pub mod wire;
