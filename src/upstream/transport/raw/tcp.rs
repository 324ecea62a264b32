//! A TCP connection to an upstream: read when something comes, and at ticks while more comes than anybody can see.
//!
//! To be told of each delta, to read it and to write it costs the same whether there are ten a second or ten thousand. A
//! model that writes faster than [`FAST`] is not waited for: its connection is taken off the runtime's list and looked at every
//! [`TICK`], and whatever has come by then is one read. While the machine keeps up none waits for longer; of the slow ones only a
//! burst of many full reads may wait for one tick.

use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;

use super::ticks::{TICK, Ticks};

/// So often is it looked at how fast a connection is, and the system told again to gather its acknowledgements. It forgets as soon
/// as one of them has waited for its 40 ms, and then answers each small packet with one: of 200 deltas 20 ms apart it
/// acknowledged all when it was never told, 181 when it was told once, 108 when it was told so often, and 105 when it was told
/// each time.
const READS: u8 = 16;
/// A connection is fast that needs less for [`READS`] reads: more than one comes within a tick.
const FAST: Duration = Duration::from_micros(TICK.as_micros() as u64 * READS as u64);
/// After so many ticks in a row at which nothing had come it is slow again.
const VAIN: u8 = 2;

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Tcp {
    way: Way,
    ticks: Ticks,
    /// Up to [`READS`].
    reads: u8,
    /// When they began; `None` before the first, and where no ticks come.
    since: Option<Instant>,
}

/// How it is known that something has come.
#[derive(Debug)]
enum Way {
    /// The runtime tells.
    Told(TcpStream),
    /// It is looked at.
    Looked(Look),
    /// It could not be taken off the runtime's list, or put on it again.
    Gone,
}

#[derive(Debug)]
struct Look {
    tcp: std::net::TcpStream,
    /// All that had come was read; the next look is after this tick.
    after: Option<u64>,
    /// So many in a row were in vain.
    vain: u8,
}

impl Tcp {
    /// A connection that has been opened.
    pub fn new(tcp: TcpStream, ticks: Ticks) -> Self {
        Self { way: Way::Told(tcp), ticks, reads: 0, since: None }
    }

    /// Notes a read, and whether there are so many of them that it is better to look.
    fn note(&mut self) {
        if self.reads == 0 {
            self.delay_acks();
            if let Way::Told(_) = self.way {
                self.judge();
            }
        }
        self.reads = (self.reads + 1) % READS;
    }

    fn judge(&mut self) {
        if !self.ticks.are_made() {
            return;
        }
        let now = Instant::now();
        let is_fast = self.since.replace(now).is_some_and(|since| now - since < FAST);
        if is_fast {
            self.since = None;
            self.look();
        }
    }

    /// From now on it is looked at.
    fn look(&mut self) {
        if let Way::Told(_) = self.way
            && let Way::Told(tcp) = mem::replace(&mut self.way, Way::Gone)
            && let Ok(tcp) = tcp.into_std()
        {
            self.way = Way::Looked(Look { tcp, after: Some(self.ticks.count()), vain: 0 });
        }
    }

    /// From now on the runtime tells of it.
    fn told(&mut self) -> io::Result<&mut TcpStream> {
        if let Way::Looked(_) = self.way
            && let Way::Looked(look) = mem::replace(&mut self.way, Way::Gone)
        {
            self.way = Way::Told(TcpStream::from_std(look.tcp)?);
            (self.reads, self.since) = (0, None);
        }
        match &mut self.way {
            Way::Told(tcp) => Ok(tcp),
            Way::Looked(_) | Way::Gone => Err(gone()),
        }
    }

    /// Lets the system gather what it acknowledges. Where it cannot, nothing is lost but time.
    fn delay_acks(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.try_as_fd().map(|fd| rustix::net::sockopt::set_tcp_quickack(fd, false));
    }

    /// The connection itself.
    ///
    /// # Errors
    /// When it has gone.
    pub fn try_as_fd(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.way {
            Way::Told(tcp) => Ok(tcp.as_fd()),
            Way::Looked(look) => Ok(look.tcp.as_fd()),
            Way::Gone => Err(gone()),
        }
    }
}

impl Look {
    /// What has come by the next tick; `None` when it is slow again.
    fn poll(&mut self, ticks: &Ticks, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Option<io::Result<()>>> {
        loop {
            // A connection that always has more is not read for ever.
            let budget = ready!(coop::poll_proceed(cx));
            let tick = match self.after {
                Some(after) => ready!(ticks.poll_after(after, cx)),
                None => ticks.count(),
            };
            match self.tcp.read(buffer.initialize_unfilled()) {
                Ok(size) => {
                    budget.made_progress();
                    buffer.advance(size);
                    self.vain = 0;
                    // What did not fill the room was all there is.
                    self.after = (buffer.remaining() > 0).then_some(tick);
                    return Poll::Ready(Some(Ok(())));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.after = Some(tick);
                    self.vain += 1;
                    if self.vain >= VAIN {
                        return Poll::Ready(None);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the runtime no longer has the connection")
}

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Way::Looked(look) = &mut this.way
            && let Some(looked) = ready!(look.poll(&this.ticks, cx, buffer))
        {
            this.note();
            return Poll::Ready(looked);
        }
        ready!(Pin::new(this.told()?).poll_read(cx, buffer))?;
        this.note();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().told()?).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What a socket has taken is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().told()?).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::lifecycle::Lifecycle;

    const HANG_LIMIT: Duration = Duration::from_secs(30);
    /// Enough that a machine which is busy still reads some of it fast.
    const PIECES: u32 = 40_000;

    /// A connection, its other end, and what makes ticks for it until it is cancelled.
    async fn connection() -> (Tcp, TcpStream, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (other, _) = listener.accept().await.unwrap();
        other.set_nodelay(true).unwrap();
        let (ticks, end) = (Ticks::default(), CancellationToken::new());
        Lifecycle::new().spawn("ticks", ticks.clone().run(end.clone()));
        timeout(HANG_LIMIT, async {
            while !ticks.are_made() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("ticks come");
        (Tcp::new(tcp, ticks), other, end)
    }

    async fn no_ticks(ticks: &Ticks) {
        let ended = async {
            while ticks.are_made() {
                tokio::task::yield_now().await;
            }
        };
        timeout(HANG_LIMIT, ended).await.expect("no ticks come");
    }

    fn is_looked_at(tcp: &Tcp) -> bool {
        matches!(tcp.way, Way::Looked(_))
    }

    async fn read_number(tcp: &mut Tcp) -> u32 {
        timeout(HANG_LIMIT, tcp.read_u32()).await.expect("it is read").unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_fast_is_looked_at_and_told_of_again_when_it_is_slow() {
        let (mut tcp, mut other, _end) = connection().await;
        let writing = async {
            for number in 0..PIECES {
                other.write_u32(number).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let reading = async {
            let (mut bytes, mut room, mut reads, mut looked) = (Vec::new(), [0; 64], 0, false);
            while bytes.len() < 4 * PIECES as usize {
                let size = timeout(HANG_LIMIT, tcp.read(&mut room)).await.expect("it is read").unwrap();
                assert!(size > 0, "it was closed");
                bytes.extend_from_slice(&room[..size]);
                reads += 1;
                looked |= is_looked_at(&tcp);
            }
            (bytes, reads, looked)
        };
        let ((), (bytes, reads, looked)) = tokio::join!(writing, reading);
        let numbers = bytes.chunks_exact(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
        assert!(numbers.eq(0..PIECES), "all in order");
        assert!(looked, "{reads} reads, and it was never looked at");

        let slow = async {
            for number in 0..40 {
                sleep(Duration::from_millis(5)).await;
                other.write_u32(number).await.unwrap();
            }
            drop(other);
        };
        let reading = async {
            for number in 0..40 {
                assert_eq!(read_number(&mut tcp).await, number);
            }
            assert!(!is_looked_at(&tcp), "it is slow");
            assert_eq!(tcp.read(&mut [0; 8]).await.unwrap(), 0, "it was closed");
        };
        tokio::join!(slow, reading);
    }

    #[tokio::test]
    async fn one_that_is_looked_at_ends_takes_words_and_outlives_the_ticks() {
        let (mut tcp, mut other, _end) = connection().await;
        tcp.look();
        other.write_u32(1).await.unwrap();
        assert_eq!(read_number(&mut tcp).await, 1);
        tcp.look();
        tcp.write_all(b"word").await.unwrap();
        let mut word = [0; 4];
        other.read_exact(&mut word).await.unwrap();
        assert_eq!((&word, is_looked_at(&tcp)), (b"word", false));
        tcp.look();
        other.shutdown().await.unwrap();
        assert_eq!(timeout(HANG_LIMIT, tcp.read(&mut word)).await.expect("the end is seen").unwrap(), 0);

        // The task of the ticks ends while one is waited for.
        let (mut tcp, mut other, end) = connection().await;
        let ticks = tcp.ticks.clone();
        tcp.look();
        let (number, ()) = tokio::join!(read_number(&mut tcp), async {
            end.cancel();
            no_ticks(&ticks).await;
            other.write_u32(2).await.unwrap();
        });
        assert_eq!(number, 2);
        let (number, written) = tokio::join!(read_number(&mut tcp), other.write_u32(3));
        written.unwrap();
        assert_eq!((number, is_looked_at(&tcp)), (3, false));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_always_has_more_is_not_read_for_ever() {
        let (mut tcp, mut other, _end) = connection().await;
        tcp.look();
        let life = Lifecycle::new();
        life.spawn("flood", async move { while other.write_all(&[0; 1 << 16]).await.is_ok() {} });
        tcp.read_exact(&mut [0; 1 << 16]).await.unwrap();
        let reads = poll_fn(|cx| {
            let mut reads = 0;
            while Pin::new(&mut tcp).poll_read(cx, &mut ReadBuf::new(&mut [0; 16])).is_ready() {
                reads += 1;
                assert!(reads < 1000, "nobody else has a turn");
            }
            Poll::Ready(reads)
        });
        assert!(reads.await > 0);
    }

    #[tokio::test]
    async fn without_ticks_everything_is_told() {
        let (mut tcp, mut other, end) = connection().await;
        end.cancel();
        no_ticks(&tcp.ticks).await;
        for number in 0..1000 {
            other.write_u32(number).await.unwrap();
            assert_eq!(read_number(&mut tcp).await, number);
            assert!(!is_looked_at(&tcp));
        }
    }
}
