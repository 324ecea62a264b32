//! A turn that lives in this process: its log, its readers, and the words that end it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::prompt::Request;
use super::reader::RETRY_MS;
use crate::domain::audit::Deed;
use crate::domain::clock::Timestamp;
use crate::domain::draft::Stub;
use crate::domain::ids::MessageId;
use crate::domain::message::Message;
use crate::domain::quota::Bound;
use crate::domain::turn::{OnDisconnect, StoppedBy};
use crate::store::ending::Lease;
use crate::trace;

/// A reader of another replica counts as long as it has been seen within this.
const READ_ELSEWHERE: Duration = Duration::from_millis(2500);

/// Who is sent elsewhere by a replica that is told to stop counts for so long besides: it is asked to wait before it comes there.
const SENT_AWAY: Duration = Duration::from_millis(*RETRY_MS.end());
/// Whoever hears nothing of other replicas for so long cannot tell whether they have readers.
const DEAF: Duration = Duration::from_secs(1);

/// Since when this process hears, without a break, what other replicas want of its turns, and of their readers.
#[derive(Debug)]
pub struct Hearing {
    heard: watch::Sender<Heard>,
    /// Whether there may be other replicas.
    is_shared: bool,
}

#[derive(Debug)]
struct Heard {
    since: Instant,
    last: Instant,
    /// What was written down before then is known.
    asked: Instant,
}

impl Hearing {
    /// It hears from now on; `is_shared` says whether there may be other replicas.
    pub fn new(is_shared: bool) -> Self {
        let now = Instant::now();
        Self { heard: watch::Sender::new(Heard { since: now, last: now, asked: now }), is_shared }
    }

    /// Notes that it has just heard the answer to what it asked then.
    pub fn heard(&self, asked: Instant) {
        let now = Instant::now();
        self.heard.send_modify(|heard| {
            if now - heard.last >= DEAF {
                heard.since = now;
            }
            (heard.last, heard.asked) = (now, asked);
        });
    }

    /// Since when; `None` while it does not.
    fn since(&self) -> Option<Instant> {
        let heard = self.heard.borrow();
        (heard.last.elapsed() < DEAF).then_some(heard.since)
    }

    /// When it asked what it has heard last: of all who had come to other replicas by then. That is written down before they are told
    /// anything.
    fn asked(&self) -> Instant {
        if self.is_shared { self.heard.borrow().asked } else { Instant::now() }
    }

    /// Waits until it has heard of all who had come by then.
    async fn hears_of(&self, then: Instant) {
        if self.is_shared {
            let _heard = self.heard.subscribe().wait_for(|heard| heard.asked >= then).await.is_ok();
        }
    }
}

/// Why a turn is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Somebody stopped it.
    Stop(StoppedBy),
    /// Its events have waited too long for the database.
    Starved,
    /// Another replica has it.
    Lost,
    /// The process is told to stop.
    Curfew,
}

/// A turn that is queued or running here, or whose end is being saved.
#[derive(Debug)]
pub struct Live {
    /// The lease every write of it carries.
    pub lease: Lease,
    /// Its number in its conversation.
    pub number: u64,
    /// What its answer has from the beginning.
    pub stub: Stub,
    /// The question.
    pub user_message_id: MessageId,
    /// What its run is told.
    pub request: Request,
    /// The bounds of which it is to say that most is used.
    pub nearing: Vec<Bound>,
    on_disconnect: OnDisconnect,
    /// Its events.
    pub log: Log,
    /// Cancelled when a queued turn's time has come.
    pub due: CancellationToken,
    cut: CancellationToken,
    taken: CancellationToken,
    why: OnceLock<Cut>,
    /// What the audit log is to have of the first request to stop it.
    stopped: OnceLock<Deed>,
    /// Cancelled when its end is in the record, or in nobody's hand here any more.
    pub settled: CancellationToken,
    /// Cancelled when its end is told, saved or not.
    pub shown: CancellationToken,
    /// Told whenever something of it has been saved.
    pub progress: Notify,
    /// How long the upstream that refused last wants to be left alone.
    again_after: Mutex<Option<Duration>>,
    /// The answer of a turn that has ended and is not saved.
    unsaved: Mutex<Option<Arc<Message>>>,
    /// Those of its readers here that hold it.
    holders: AtomicUsize,
    readers_changed: Notify,
    /// Somebody who holds it has come to read it, or who asked for it, to read it, has left.
    was_read: AtomicBool,
    elsewhere: Mutex<Elsewhere>,
    /// Its place among the live turns of the process; given back before its end is told.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

#[derive(Debug, Default)]
struct Elsewhere {
    read_at: Option<i64>,
    seen: Option<Instant>,
}

/// What makes a [`Live`].
#[derive(Debug)]
pub struct Parts {
    /// See [`Live::lease`].
    pub lease: Lease,
    /// See [`Live::number`].
    pub number: u64,
    /// See [`Live::stub`].
    pub stub: Stub,
    /// See [`Live::user_message_id`].
    pub user_message_id: MessageId,
    /// See [`Live::request`].
    pub request: Request,
    /// See [`Live::nearing`].
    pub nearing: Vec<Bound>,
    /// See [`Live::log`].
    pub log: Log,
    /// Its place among the live turns of the process; a turn that was taken over needs none.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Live {
    /// A turn that has just been admitted, or taken over while it was queued.
    pub fn new(parts: Parts) -> Self {
        let Parts { lease, number, stub, user_message_id, request, nearing, log, permit } = parts;
        Self {
            lease,
            number,
            stub,
            user_message_id,
            on_disconnect: request.on_disconnect(),
            request,
            nearing,
            log,
            due: CancellationToken::new(),
            cut: CancellationToken::new(),
            taken: CancellationToken::new(),
            why: OnceLock::new(),
            stopped: OnceLock::new(),
            settled: CancellationToken::new(),
            shown: CancellationToken::new(),
            progress: Notify::new(),
            again_after: Mutex::new(None),
            unsaved: Mutex::new(None),
            holders: AtomicUsize::new(0),
            readers_changed: Notify::new(),
            was_read: AtomicBool::new(false),
            elsewhere: Mutex::new(Elsewhere::default()),
            place: Mutex::new(permit),
        }
    }

    /// As its spans need it.
    pub fn traced(&self) -> trace::Turn<'_> {
        trace::Turn { id: &self.lease.turn_id, traceparent: self.request.traceparent.as_deref() }
    }

    /// Asks for its end; the first to ask is remembered.
    pub fn cut(&self, why: Cut) {
        let _first = self.why.set(why);
        self.cut.cancel();
        if why == Cut::Lost {
            self.taken.cancel();
        }
    }

    /// Notes who asks for its stop. It is told of only if it is what ends the turn.
    pub fn stopped(&self, deed: Option<Deed>) {
        if let Some(deed) = deed {
            let _first = self.stopped.set(deed);
        }
    }

    /// What the audit log is to have of its end, by what ended it.
    pub fn deed(&self, by: Option<StoppedBy>) -> Option<Deed> {
        self.stopped.get().filter(|_| by == Some(StoppedBy::Request)).cloned()
    }

    /// Waits until another replica has it.
    pub async fn lost(&self) {
        self.taken.cancelled().await;
    }

    /// Waits until somebody asks for its end.
    pub async fn cut_for(&self) -> Cut {
        self.cut.cancelled().await;
        // Set before the token is cancelled.
        self.why.get().copied().unwrap_or(Cut::Curfew)
    }

    /// Whether it was ended because the database is away.
    pub fn is_starved(&self) -> bool {
        self.why.get() == Some(&Cut::Starved)
    }

    /// Gives its place among the live turns back.
    pub fn give_place(&self) {
        *self.place.lock() = None;
    }

    /// Notes that nobody here has to care for it any more.
    pub fn settle(&self) {
        self.give_place();
        self.settled.cancel();
        self.shown.cancel();
    }

    /// Notes how long the upstream that refused wants to be left alone.
    pub fn ask_again_after(&self, wait: Duration) {
        *self.again_after.lock() = Some(wait);
    }

    /// How long the upstream that refused wants to be left alone, if it said so.
    pub fn again_after(&self) -> Option<Duration> {
        *self.again_after.lock()
    }

    /// Shows the answer of an end that could not be saved.
    pub fn keep_unsaved(&self, message: Arc<Message>) {
        *self.unsaved.lock() = Some(message);
    }

    /// The answer of an end that could not be saved so far.
    pub fn unsaved(&self) -> Option<Arc<Message>> {
        self.unsaved.lock().clone()
    }

    /// When it was admitted.
    pub fn created_at(&self) -> Timestamp {
        self.stub.created_at
    }

    /// Notes that another replica's readers may have been seen.
    pub fn seen_elsewhere(&self, read_at: Option<i64>) {
        let mut elsewhere = self.elsewhere.lock();
        if read_at.is_some() && elsewhere.read_at != read_at {
            // Whoever was sent away may count for longer.
            let seen = elsewhere.seen.max(Some(Instant::now()));
            *elsewhere = Elsewhere { read_at, seen };
            drop(elsewhere);
            self.readers_changed.notify_one();
        }
    }

    /// Readers here that hold it.
    fn holders(&self) -> usize {
        self.holders.load(Ordering::Acquire)
    }

    /// Until when it counts as read elsewhere. While nothing is heard of other replicas, for a moment more: silence is no leaving.
    fn read_elsewhere_until(&self, hearing: &Hearing) -> Option<Instant> {
        let seen = self.elsewhere.lock().seen?;
        let Some(since) = hearing.since() else { return Some(Instant::now() + DEAF / 4) };
        let until = seen.max(since) + READ_ELSEWHERE;
        (until > Instant::now()).then_some(until)
    }

    /// Waits until readers that hold it have come, all have gone, and none has come back for as long as the turn allows.
    /// Never, if it is to go on without them.
    pub async fn deserted(&self, hearing: &Hearing) {
        let OnDisconnect::Grace(grace) = self.on_disconnect else { return std::future::pending().await };
        // A turn that starts without a reader runs on until one has come.
        let unread = || self.holders() == 0 && self.elsewhere.lock().seen.is_none();
        while unread() && !self.was_read.load(Ordering::Acquire) {
            self.readers_changed.notified().await;
        }
        // Since when nobody here holds it, and nobody elsewhere that is known of.
        let mut alone = None;
        loop {
            if self.holders() > 0 {
                alone = None;
                self.readers_changed.notified().await;
                continue;
            }
            let now = Instant::now();
            // Before it is looked who reads it elsewhere: whoever is heard of in between does.
            let asked = hearing.asked();
            let read_until = self.read_elsewhere_until(hearing);
            if read_until.is_some() {
                alone = None;
            }
            let due = read_until.unwrap_or_else(|| *alone.get_or_insert(now) + grace);
            let is_alone = alone.is_some();
            if is_alone && asked >= due {
                return;
            }
            let time = async {
                tokio::time::sleep_until(due.into()).await;
                if is_alone {
                    hearing.hears_of(due).await;
                }
            };
            tokio::select! {
                // First: one that came and went at the last moment was a reader too.
                biased;
                () = self.readers_changed.notified() => alone = None,
                () = time => {}
            }
        }
    }
}

/// Whoever asked for a turn to read it, until it reads. One that leaves before has come and gone like any reader.
#[derive(Debug)]
pub struct Asker(Arc<Live>);

impl Asker {
    /// The asker of a turn that has just been admitted.
    pub fn new(live: &Arc<Live>) -> Self {
        Self(live.clone())
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.was_read.store(true, Ordering::Release);
        self.0.readers_changed.notify_one();
    }
}

/// A reader that holds a turn: counted while it lives, and it may take the turn along when it goes.
#[derive(Debug)]
pub struct Presence(Arc<Live>);

impl Presence {
    /// Counts a reader, if it `holds` the turn.
    pub fn new(live: &Arc<Live>, holds: bool) -> Option<Self> {
        if !holds {
            return None;
        }
        live.holders.fetch_add(1, Ordering::AcqRel);
        // One that is gone again before anybody looks has been here all the same.
        live.was_read.store(true, Ordering::Release);
        live.readers_changed.notify_one();
        Some(Self(live.clone()))
    }

    /// Notes that the reader is sent to another replica.
    pub fn sent_away(&self) {
        self.0.elsewhere.lock().seen = Some(Instant::now() + SENT_AWAY);
        self.0.readers_changed.notify_one();
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Ordering::AcqRel);
        self.0.readers_changed.notify_one();
    }
}
