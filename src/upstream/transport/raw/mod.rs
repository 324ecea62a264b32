//! Our own HTTP/1.1 (RFC 9112), for the one request that matters: a POST whose answer is a stream.
//!
//! `destination` opens a `socket`, or `pool` has one; `sending` goes out while `exchange` reads the `head` of the
//! answer; `body` reads the rest by its `framing`, from the thread's `scratch`. A general client passes each read
//! through two tasks, a channel and buffers of its own, per connection; here the task that wants the bytes polls the
//! socket, and a stream that waits holds nothing but its place in the framing.
//!
//! A request is sent once. A pooled connection is looked at before the request goes out on it, and replaced if it was
//! closed; once a byte may have gone, whatever happens is an error.

pub mod body;
pub mod chunked;
mod destination;
mod exchange;
pub mod framing;
mod head;
mod pool;
mod scratch;
mod sending;
mod socket;
mod tcp;
pub mod ticks;
mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderMap, HeaderValue};
use url::Url;

use self::destination::Destination;
use self::exchange::Answered;
use self::pool::Pool;
use self::sending::Sending;
use self::ticks::Ticks;
use super::Unanswered;
use crate::upstream::settings::Settings;
use crate::upstream::setup::SetupError;

/// The way to one upstream over connections of our own.
#[derive(Debug)]
pub struct Raw {
    destination: Destination,
    /// Sent along unless the settings say otherwise.
    host: HeaderValue,
    pool: Arc<Pool>,
}

impl Raw {
    /// The way to the server of this URL. A connection may take `connect` to open, TLS and all; one that is fast is read at
    /// `ticks`.
    ///
    /// # Errors
    /// When there is no server in it, or no certificates to verify it by.
    pub fn new(settings: &Settings, base: &Url, connect: Duration, ticks: Ticks) -> Result<Self, SetupError> {
        let wrong = || SetupError::new("base_url", "names no server");
        let name = base.host_str().ok_or_else(wrong)?;
        let host = base.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        let host = HeaderValue::try_from(host).map_err(|_| wrong())?;
        let destination = Destination::new(settings, base, connect, ticks)?;
        Ok(Self { destination, host, pool: Arc::default() })
    }

    /// Sends a POST, and waits for the head of its answer.
    ///
    /// # Errors
    /// When no connection could be opened, or it ended before an answer, or what came was none.
    pub async fn post(&self, url: Url, mut headers: HeaderMap, body: Vec<u8>) -> Result<Answered, Unanswered> {
        headers.entry(HOST).or_insert_with(|| self.host.clone());
        let is_last = head::says(&headers, "close");
        let sending = Sending::post(&url, &headers, &body);
        // They would be held for as long as the model thinks.
        drop((url, headers, body));
        let socket = match self.pool.take() {
            Some(socket) => socket,
            None => self.destination.open().await?,
        };
        exchange::exchange(socket, sending, (!is_last).then(|| self.pool.clone())).await
    }
}
