//! One HTTP/1.1 exchange over plain TCP, so that a test decides when which byte is read.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// How a body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// By the rules: the last chunk, or the whole length.
    Clean,
    /// The connection was closed in the middle.
    Cut,
    /// The connection was reset.
    Reset,
}

enum Body {
    Length(usize),
    Chunked { left: usize, first: bool },
}

/// One exchange.
pub struct Exchange {
    socket: TcpStream,
    buffer: Vec<u8>,
    body: Body,
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes a second; 0 = as fast as they come.
    pub pace: usize,
    /// Bytes read from the socket, head included.
    pub taken: usize,
    /// No more than so many are read.
    pub limit: usize,
}

/// What is asked.
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Headers besides `Host` and `Content-Length`.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: Option<&'a [u8]>,
    /// The socket's receive buffer; the system's choice when absent.
    pub window: Option<u32>,
}

/// Connects and sends, without waiting for an answer.
pub async fn send(address: SocketAddr, out: &Outgoing<'_>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(window) = out.window {
        socket.set_recv_buffer_size(window)?;
    }
    let mut socket = socket.connect(address).await?;
    socket.set_nodelay(true)?;
    let mut bytes = format!("{} {} HTTP/1.1\r\n", out.method, out.target);
    if !out.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        bytes.push_str(&format!("host: {address}\r\n"));
    }
    out.headers.iter().for_each(|(name, value)| bytes.push_str(&format!("{name}: {value}\r\n")));
    if let Some(body) = out.body {
        bytes.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    let mut bytes = (bytes + "\r\n").into_bytes();
    bytes.extend_from_slice(out.body.unwrap_or_default());
    socket.write_all(&bytes).await?;
    Ok(socket)
}

impl Exchange {
    /// Sends, and reads the head of the answer.
    pub async fn open(address: SocketAddr, out: &Outgoing<'_>) -> io::Result<Self> {
        let mut socket = send(address, out).await?;
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let find = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let body = if find("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            Body::Chunked { left: 0, first: true }
        } else if status == 204 || status == 304 {
            Body::Length(0)
        } else {
            Body::Length(find("content-length").and_then(|value| value.parse().ok()).unwrap_or(usize::MAX))
        };
        let taken = buffer.len();
        buffer.drain(..end);
        Ok(Self { socket, buffer, body, status, headers, pace: 0, taken, limit: usize::MAX })
    }

    /// The next piece of the body, or how it ended.
    pub async fn piece(&mut self) -> Result<Vec<u8>, Closing> {
        loop {
            if let Some(piece) = self.take()? {
                return Ok(piece);
            }
            self.fill().await?;
        }
    }

    /// Takes what the buffer has; `None` when more must be read first.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Closing> {
        let available = self.buffer.len();
        match &mut self.body {
            Body::Length(0) => Err(Closing::Clean),
            Body::Length(left) => {
                let count = available.min(*left);
                *left -= if *left == usize::MAX { 0 } else { count };
                Ok((count > 0).then(|| self.buffer.drain(..count).collect()))
            }
            Body::Chunked { left: 0, first } => {
                // The line end of the chunk before is part of this chunk's head.
                let skip = if *first { 0 } else { 2 };
                let Some(line) =
                    self.buffer.get(skip..).and_then(|rest| rest.windows(2).position(|two| two == b"\r\n"))
                else {
                    return Ok(None);
                };
                let size = std::str::from_utf8(&self.buffer[skip..skip + line]).unwrap();
                let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16);
                let size =
                    size.unwrap_or_else(|_| panic!("a chunk's head is broken: {:?}", &self.buffer[..skip + line]));
                if size == 0 {
                    return if self.buffer.len() >= skip + line + 4 { Err(Closing::Clean) } else { Ok(None) };
                }
                self.buffer.drain(..skip + line + 2);
                self.body = Body::Chunked { left: size, first: false };
                Ok(Some(Vec::new()))
            }
            Body::Chunked { left, .. } => {
                let count = available.min(*left);
                *left -= count;
                Ok((count > 0).then(|| self.buffer.drain(..count).collect()))
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Closing> {
        let allowed =
            self.limit.saturating_sub(self.taken).min(if self.pace == 0 { 1 << 16 } else { self.pace / 10 + 1 });
        if self.pace > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut some = vec![0; allowed];
        let read = self.socket.read(&mut some).await;
        self.buffer.extend_from_slice(&some[..*read.as_ref().unwrap_or(&0)]);
        match read {
            Ok(0) if matches!(self.body, Body::Length(usize::MAX)) => Err(Closing::Clean),
            Ok(0) => Err(Closing::Cut),
            Ok(count) => {
                self.taken += count;
                Ok(())
            }
            Err(_) => Err(Closing::Reset),
        }
    }

    /// Our end's port.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Closes with a reset.
    pub fn abort(self) {
        self.socket.set_zero_linger().unwrap();
    }
}
