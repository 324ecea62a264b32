//! The room that sockets are read into: one per thread, since what is read is used up before anybody else reads.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// The most of one read, in bytes. A read that fills less tells the runtime that the socket is empty, so that the
/// next wait costs no call of the system. More at once would keep other streams waiting for fast ones.
const SIZE: usize = 4 << 10;

thread_local! {
    static ROOM: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Hands what the socket has to `take`; nothing, when it was closed. The bytes are `take`'s to change.
pub fn read<S, R>(socket: &mut S, cx: &mut Context<'_>, take: impl FnOnce(&mut [u8]) -> R) -> Poll<io::Result<R>>
where
    S: AsyncRead + Unpin,
{
    // It is taken out rather than borrowed: whoever reads another socket inside of `take` gets a room of its own.
    let mut room = ROOM.take().unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
    let mut buffer = ReadBuf::new(&mut room);
    let polled = Pin::new(socket).poll_read(cx, &mut buffer);
    let size = buffer.filled().len();
    let taken = polled.map_ok(|()| take(&mut room[..size]));
    ROOM.set(Some(room));
    taken
}
