//! The headers that requests may bear.

use utoipa::IntoParams;

use super::super::answer::{Events, Heartbeat};

/// A key by which to ask again without asking twice.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters, bare or quoted. The same request under the same key joins the same turn,
    /// live or ended; another request under it is refused.
    #[param(rename = "Idempotency-Key", required = false, min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    pub idempotency_key: String,
}

/// Where a reader of a turn stands.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct LastEventId {
    /// The `seq` of the last event that came. It counts before `after`; empty is as good as absent.
    #[param(rename = "Last-Event-ID", required = false, pattern = "^([0-9]{1,15}|[0-8][0-9]{15}|900[0-6][0-9]{12})?$")]
    pub last_event_id: String,
}

/// Where a reader of a feed stands.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct LastFeedId {
    /// The `cursor` of the last event that came. It counts before `after`; empty is as good as absent.
    #[param(rename = "Last-Event-ID", required = false, pattern = r"^([0-9]{1,15}\.[0-9]{1,15}|0)?$")]
    pub last_event_id: String,
}

/// What a reader may ask of a feed: [`super::super::answer::Reading`] with a feed's cursor.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FeedReading {
    /// A cursor, where `Last-Event-ID` cannot be sent: the `cursor` of the last event that came, or `0` for all that is
    /// kept.
    #[param(required = false, pattern = r"^([0-9]{1,15}\.[0-9]{1,15}|0)$")]
    pub after: String,
    /// `named`: an `event:` line with each SSE event.
    #[param(inline, required = false)]
    pub events: Events,
    /// `event`: signs of life as SSE events.
    #[param(inline, required = false)]
    pub heartbeat: Heartbeat,
    /// A feed is always followed.
    #[param(required = false, pattern = "^(1|true)$")]
    pub follow: String,
}

/// What a client would rather have.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Prefer {
    /// `respond-async` does not wait for the end; `respond-async, wait=10` waits ten seconds for it, 300 at most.
    #[param(rename = "Prefer", required = false)]
    pub prefer: String,
}
