//! The door: one port, HTTP/1.1 and HTTP/2, whichever the client begins with; all of it under TLS where there is a
//! [`certificate`].
//!
//! To add a transport: 1. make a stream of it after `accept`, in a task of its own that holds the connection's place and
//! ends with `dropping`, as `tls.rs` does; 2. hand that to `connection::serve`, which asks only for
//! `AsyncRead + AsyncWrite`; 3. say there how a connection hears that there is no place for it.

mod accept;
mod carry;
pub mod certificate;
mod connection;
mod http1;
mod http2;
mod sniff;
mod stalled;
mod tls;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use self::certificate::Certificate;
use super::code::Code;
use super::problem::{MEDIA_TYPE, Problem};
use super::settings::Settings;
use crate::domain::clock::Clock;
use crate::domain::ids::RequestId;
use crate::lifecycle::Lifecycle;
use crate::meter::{Counted, Meter};

/// The most connections there ever are, whatever the descriptors allow.
const MOST_CONNECTIONS: usize = 1 << 20;

/// Connections that are being told that there are too many.
const REFUSALS: usize = 32;

/// How long such a one may take to hear it.
const REFUSAL: Duration = Duration::from_millis(250);

/// What a connection holds while it lasts: its place, and its being counted.
type Held = (OwnedSemaphorePermit, Counted);

/// One listener's life.
struct Server {
    app: Router,
    clock: Clock,
    lifecycle: Lifecycle,
    meter: Meter,
    reader_stall: Duration,
    /// Where there is one, connections speak TLS.
    certificate: Option<Certificate>,
    /// A permit is a connection.
    places: Arc<Semaphore>,
    /// A permit is a connection that is being refused.
    refusals: Arc<Semaphore>,
    /// Cancelled when open connections are to take no further request.
    closing: CancellationToken,
    /// Cancelled when they are to be dropped.
    dropping: CancellationToken,
}

/// Serves `app` on `listener` until the lifecycle's soft token and the drain that follows it: the listener stays open
/// for `drain_delay`, open answers until `grace`, both counted from the token. The hard token cuts all of it short.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    settings: &Settings,
    clock: Clock,
    meter: Meter,
    lifecycle: Lifecycle,
) {
    let places = settings.max_connections.clamp(1, MOST_CONNECTIONS);
    let hard = lifecycle.hard().clone();
    let server = Arc::new(Server {
        app,
        clock,
        reader_stall: settings.reader_stall,
        certificate: settings.certificate.clone(),
        places: Arc::new(Semaphore::new(places)),
        refusals: Arc::new(Semaphore::new(REFUSALS)),
        closing: hard.child_token(),
        dropping: hard.child_token(),
        meter,
        lifecycle,
    });
    let soft = server.lifecycle.soft().clone();
    let drained = async {
        soft.cancelled().await;
        tokio::time::sleep(settings.drain_delay).await;
    };
    tokio::select! {
        () = accept::run(&server, listener) => {}
        () = drained => {}
        () = hard.cancelled() => {}
    }
    server.closing.cancel();
    // Every permit back is every connection gone.
    let all = server.places.acquire_many(u32::try_from(places).unwrap_or(u32::MAX));
    tokio::select! {
        _ = all => {}
        () = tokio::time::sleep(settings.grace.saturating_sub(settings.drain_delay)) => {}
        () = hard.cancelled() => {}
    }
    server.dropping.cancel();
}

/// How many connections the soft limit on open files allows: three quarters of it, so that upstreams and the database
/// have theirs.
pub fn connections_allowed() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let descriptors = descriptors.map_or(MOST_CONNECTIONS, |most| usize::try_from(most).unwrap_or(MOST_CONNECTIONS));
    (descriptors / 4 * 3).clamp(8, MOST_CONNECTIONS)
}

impl Server {
    /// What a connection hears that there is no place for; it is counted.
    fn refusal(&self) -> Vec<u8> {
        self.meter.refused(Code::TooManyConnections.as_str());
        let now = self.clock.now();
        let problem = Problem::new(Code::TooManyConnections, "No file descriptor is left.");
        let body = problem.to_json(&RequestId::new(now), now);
        let head = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\
             retry-after: 1\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}
