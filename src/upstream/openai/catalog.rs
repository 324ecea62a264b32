//! Which models an upstream says it has.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;

use crate::upstream::transport::Transport;

/// What an upstream said is believed so long.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// After a failure it is not asked again for so long.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(3);
/// A longer answer is none.
const ANSWER_BYTES: usize = 4 << 20;

/// What `GET {base_url}/models` said last. Whoever asks while it is being asked waits for the same answer.
#[derive(Debug)]
pub struct Catalog {
    name: Arc<str>,
    transport: Arc<Transport>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    models: Vec<String>,
    stale_from: Option<Instant>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
}

impl Catalog {
    /// Of the upstream behind this transport.
    pub fn new(name: Arc<str>, transport: Arc<Transport>) -> Self {
        Self { name, transport, last: Mutex::default() }
    }

    /// The upstream's names for its models. When it cannot be asked: those it named last, or none.
    pub async fn models(&self) -> Vec<String> {
        let mut last = self.last.lock().await;
        if last.stale_from.is_none_or(|stale| stale <= Instant::now()) {
            let fresh = match timeout(PATIENCE, self.ask()).await {
                Ok(Ok(models)) => {
                    last.models = models;
                    FRESH_FOR
                }
                Ok(Err(cause)) => {
                    let cause = self.transport.for_log(&cause);
                    tracing::warn!(upstream = %self.name, cause, "the upstream did not list its models");
                    ASK_AGAIN_AFTER
                }
                Err(_) => {
                    tracing::warn!(upstream = %self.name, "the upstream did not list its models in time");
                    ASK_AGAIN_AFTER
                }
            };
            last.stale_from = Some(Instant::now() + fresh);
        }
        last.models.clone()
    }

    async fn ask(&self) -> Result<Vec<String>, String> {
        let mut reply = self.transport.get(&["models"]).await.map_err(|unanswered| unanswered.cause)?;
        if !reply.status.is_success() {
            let said = self.transport.excerpt(&mut reply.body).await;
            return Err(format!("{}: {said:?}", reply.status));
        }
        let mut json = Vec::new();
        while let Some(bytes) = reply.body.next().await {
            json.extend_from_slice(&bytes.map_err(|broken| broken.cause)?);
            if json.len() > ANSWER_BYTES {
                return Err(format!("more than {ANSWER_BYTES} bytes"));
            }
        }
        let list: List = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        Ok(list.data.into_iter().map(|item| item.id).collect())
    }
}
