//! Following turns that run on other replicas: one connection waits for all of them at once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamKey, StreamReadReply};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::news::{self, News};
use super::piece::{Id, LAST_WORD, Piece, key};
use super::{CONNECT, Cluster, Error, REST, Result};
use crate::domain::ids::TurnId;

/// How long Redis keeps the connection waiting when there is nothing, and how much longer its answer may take.
const BLOCK: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(2);
/// How long nothing is asked after an answer: what comes meanwhile comes with the next.
const GATHER: Duration = Duration::from_millis(2);
/// So many pieces of a turn come in one answer.
const AT_ONCE: usize = 16;
/// So many may wait for whoever follows a turn. Beyond, it is followed no more.
const WAITING: usize = 128;
/// How long the stream is there that wakes the connection, in seconds.
const WAKE_KEPT_S: u64 = 60;

/// All turns that are followed here.
#[derive(Debug)]
pub(super) struct Follows {
    open: Mutex<HashMap<String, Followed>>,
    /// The key of a stream of this process's own: what is entered there wakes the connection, so that it asks for what is followed
    /// since.
    wake: String,
}

#[derive(Debug)]
struct Followed {
    at: Id,
    /// When all that is before was read, until it is asked for more.
    since: Option<Instant>,
    /// Whether the last answer had as many as fit: there may be more that were written before it.
    is_behind: bool,
    /// Whether what comes with the next answer was written a moment ago.
    is_recent: bool,
    sender: mpsc::Sender<Heard>,
}

/// A piece of a turn that is followed.
#[derive(Debug)]
pub struct Heard {
    /// The piece.
    pub piece: Piece,
    /// Whether it was written a moment ago ([`LAST_WORD`]). Otherwise its writer may be dead.
    pub is_recent: bool,
}

impl Default for Follows {
    fn default() -> Self {
        let wake = format!("tidegate:wake:{:032x}", fastrand::u128(..));
        Self { open: Mutex::default(), wake }
    }
}

impl Follows {
    /// Nobody is told of anything more.
    fn close(&self) {
        self.open.lock().clear();
    }
}

/// A turn that is followed, as long as this lives.
#[derive(Debug)]
pub struct Follow {
    key: String,
    receiver: mpsc::Receiver<Heard>,
    follows: Arc<Follows>,
}

impl Follow {
    /// The next piece; `None` when it is followed no more: Redis is away, or pieces came faster than they were taken.
    pub async fn next(&mut self) -> Option<Heard> {
        self.receiver.recv().await
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut open = self.follows.open.lock();
        // Another may follow it by now.
        self.receiver.close();
        if open.get(&self.key).is_some_and(|followed| followed.sender.is_closed()) {
            open.remove(&self.key);
        }
    }
}

impl Cluster {
    /// Follows a turn from behind the piece `after`, or from the first. What was there at `since` was read then.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn follow(&self, turn: &TurnId, after: Option<&Piece>, since: Instant) -> Result<Follow> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (follows, key) = (self.0.follows.clone(), key(turn));
        let at = after.map_or((0, 0), Piece::id);
        let followed = Followed { at, since: Some(since), is_behind: false, is_recent: false, sender };
        follows.open.lock().insert(key.clone(), followed);
        let follow = Follow { key, receiver, follows };
        let mut wake = redis::pipe();
        wake.cmd("XADD")
            .arg(&follow.follows.wake)
            .arg("MAXLEN")
            .arg(1)
            .arg("*")
            .arg("turn")
            .arg(turn.as_str())
            .ignore();
        wake.cmd("EXPIRE").arg(&follow.follows.wake).arg(WAKE_KEPT_S).ignore();
        self.ask::<()>(&wake).await?;
        Ok(follow)
    }

    /// Waits for all that is followed, and for news, which are left out where `news` is full. It ends with `over`.
    pub async fn run(&self, news: &mpsc::Sender<News>, over: &CancellationToken) {
        let listen = async {
            let mut failing = false;
            loop {
                let begun = Instant::now();
                let Err(error) = self.listen(news).await;
                // What fails again at once has been told of.
                if !failing || begun.elapsed() > BLOCK {
                    tracing::warn!(%error, "turns of other replicas are read from the record: Redis does not answer");
                }
                failing = true;
                self.0.follows.close();
                let _full = news.try_send(News::Missed);
                tokio::time::sleep(REST).await;
            }
        };
        tokio::select! {
            () = over.cancelled() => {}
            () = listen => {}
        }
    }

    /// What this process is called, where others are to know what is theirs.
    pub(super) fn name(&self) -> &str {
        &self.0.follows.wake
    }

    /// Listens until Redis does not answer.
    async fn listen(&self, news: &mpsc::Sender<News>) -> Result<Infallible> {
        // No bound for its answers: Redis is to wait.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connecting = self.0.client.get_multiplexed_async_connection_with_config(&config);
        let connection = tokio::time::timeout(CONNECT + GRACE, connecting).await;
        let mut connection = connection.map_err(|_| Error::of("it does not answer in time"))?.map_err(Error::of)?;
        let (mut woken, mut heard) = ("0".to_owned(), self.newest().await?);
        let _full = news.try_send(News::Missed);
        let mut answered = Instant::now();
        loop {
            let (asked, places) = (Instant::now(), self.places(answered));
            let read = self.read(&mut connection, &woken, &heard, &places);
            let found = tokio::time::timeout(BLOCK + GRACE, read).await;
            let found = found.unwrap_or_else(|_| Err(Error::of("it does not answer in time")))?;
            // An answer that lay here for a while says nothing of now.
            let is_prompt = asked.elapsed() < BLOCK + LAST_WORD;
            answered = Instant::now();
            for stream in found.keys {
                if stream.key == self.0.follows.wake {
                    woken = stream.ids.last().map_or(woken, |entry| entry.id.clone());
                    continue;
                }
                if stream.key == news::KEY {
                    heard = stream.ids.last().map_or(heard, |entry| entry.id.clone());
                    for told in stream.ids.iter().filter_map(|entry| news::read(entry, self.name())) {
                        let _full = news.try_send(told);
                    }
                    continue;
                }
                self.tell(&stream, is_prompt);
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// What is asked for now, after the answer before. What comes with the next was written after that one, unless it was full.
    fn places(&self, answered: Instant) -> Vec<(String, Id)> {
        let mut open = self.0.follows.open.lock();
        let places = open.iter_mut().map(|(key, followed)| {
            let is_prompt = followed.since.take().unwrap_or(answered).elapsed() < LAST_WORD;
            followed.is_recent = is_prompt && !std::mem::take(&mut followed.is_behind);
            (key.clone(), followed.at)
        });
        places.collect()
    }

    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        woken: &str,
        heard: &str,
        places: &[(String, Id)],
    ) -> Result<StreamReadReply> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS");
        read.arg(&self.0.follows.wake).arg(news::KEY);
        for (key, _) in places {
            read.arg(key);
        }
        read.arg(woken).arg(heard);
        for (_, (seq, after)) in places {
            read.arg(format!("{seq}-{after}"));
        }
        let found: Option<StreamReadReply> = read.query_async(connection).await.map_err(Error::of)?;
        Ok(found.unwrap_or_default())
    }

    /// Hands what an answer has of a turn to whoever follows it. Who cannot take it, or could not read it, is told nothing more.
    fn tell(&self, stream: &StreamKey, is_prompt: bool) {
        let mut open = self.0.follows.open.lock();
        let Some(followed) = open.get_mut(&stream.key) else { return };
        followed.is_behind = stream.ids.len() >= AT_ONCE;
        let is_recent = followed.is_recent && is_prompt;
        let taken = stream.ids.iter().all(|entry| {
            Piece::from_entry(entry).is_some_and(|piece| {
                followed.at = piece.id();
                followed.sender.try_send(Heard { piece, is_recent }).is_ok()
            })
        });
        if !taken {
            open.remove(&stream.key);
        }
    }
}
