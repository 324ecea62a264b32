//! From a request to the head of its answer.

use std::future::poll_fn;
use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::RawBody;
use super::head;
use super::pool::Pool;
use super::scratch;
use super::sending::Sending;
use crate::upstream::transport::Unanswered;

/// The longest head, in bytes.
pub const HEAD_BYTES: usize = 64 << 10;
/// The most interim answers (RFC 9110, section 15.2) before the answer.
pub const INTERIMS: usize = 16;
/// So much of a head is looked at however little comes, since what begins otherwise is no head.
const STATUS_LINE: usize = 16;

/// The head of an answer, and the rest of it to come.
pub type Answered<S = super::socket::Socket> = (StatusCode, HeaderMap, RawBody<S>);

/// Sends a request and reads up to the end of its answer's head; an answer may come before all of the request has gone.
/// A connection that is fit for another request afterwards goes to `pool`.
///
/// # Errors
/// When the connection ends before that, or what comes is no head.
pub async fn exchange<S>(
    mut socket: S,
    mut sending: Sending,
    pool: Option<Arc<Pool<S>>>,
) -> Result<Answered<S>, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut came = Vec::new();
    let mut interims = 0;
    loop {
        let before = came.len();
        let read = poll_fn(|cx| {
            sending.advance(&mut socket, cx);
            scratch::read(&mut socket, cx, |bytes| came.extend_from_slice(bytes))
        });
        let read = read.await;
        if read.is_err() || came.len() == before {
            head::read(&came).map_err(Unanswered::garbled)?;
            // What hindered the sending says more than that nothing came.
            let cause = match (sending, read) {
                (Sending::Failed(error), _) | (_, Err(error)) => error.to_string(),
                (Sending::Going { .. } | Sending::Gone, Ok(())) => "it was closed".to_owned(),
            };
            return Err(Unanswered {
                garbled: false,
                cause: format!("the connection ended before an answer: {cause}"),
            });
        }
        // A head that comes in drops is looked at once a line, not once a drop.
        let mut is_due = before < STATUS_LINE || came[before..].contains(&b'\n');
        while is_due && let Some((head, length)) = head::read(&came).map_err(Unanswered::garbled)? {
            if length > HEAD_BYTES {
                return Err(Unanswered::garbled("the head is too long"));
            }
            came = came.split_off(length);
            if !head.status.is_informational() {
                let pool = pool.filter(|_| head.persists);
                return Ok((head.status, head.headers, RawBody::new(socket, head.framing, came, sending, pool)));
            }
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Unanswered::garbled("a change of protocol that nobody asked for"));
            }
            interims += 1;
            if interims > INTERIMS {
                return Err(Unanswered::garbled("too many interim answers"));
            }
            is_due = !came.is_empty();
        }
        if came.len() > HEAD_BYTES {
            return Err(Unanswered::garbled("the head is too long"));
        }
    }
}
