//! A response as it comes: its head, and its body out of chunks cut anywhere.

use memchr::memmem;

use super::Void;

/// What a head may be long at most.
const HEAD: usize = 16 << 10;

/// Where in a response the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Size(usize),
    SizeEnd(usize),
    Data(usize),
    DataEnd,
    Trailer,
    /// Without chunks, so many bytes are left.
    Plain(usize),
    Ended,
}

/// One response, from its first byte to its last.
#[derive(Debug, Default)]
pub struct Response {
    state: State,
    head: Vec<u8>,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The head ended in these bytes.
    pub head: bool,
    /// It is whole.
    pub ended: bool,
}

impl Response {
    /// Makes ready for the next one on the connection.
    pub fn clear(&mut self) {
        self.state = State::Head;
        self.head.clear();
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = std::str::from_utf8(&self.head).ok()?.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Takes bytes, and hands on what of them is the body's.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut body: impl FnMut(&[u8]) -> Result<(), Void>,
    ) -> Result<Progress, Void> {
        let mut progress = Progress::default();
        if self.state == State::Head {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4) else {
                return if self.head.len() > HEAD { Err(Void::new("a head without an end")) } else { Ok(progress) };
            };
            self.begin()?;
            self.head.truncate(end);
            bytes = &bytes[end - before..];
            progress.head = true;
        }
        while let Some(&byte) = bytes.first() {
            self.state = match self.state {
                State::Data(left) | State::Plain(left) => {
                    let chunked = self.state == State::Data(left);
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    body(data)?;
                    bytes = rest;
                    self.state = match (chunked, left - data.len()) {
                        (true, 0) => State::DataEnd,
                        (true, left) => State::Data(left),
                        (false, 0) => State::Ended,
                        (false, left) => State::Plain(left),
                    };
                    continue;
                }
                State::Size(size) => match (byte as char).to_digit(16) {
                    Some(digit) => State::Size(size << 4 | digit as usize),
                    None => State::SizeEnd(size),
                },
                State::SizeEnd(size) if byte == b'\n' => {
                    if size == 0 {
                        State::Trailer
                    } else {
                        State::Data(size)
                    }
                }
                State::DataEnd if byte == b'\n' => State::Size(0),
                // Nobody here sends trailers: the empty line is the end.
                State::Trailer if byte == b'\n' => State::Ended,
                State::Head | State::Ended => return Err(Void::new("bytes after the end of an answer")),
                state @ (State::SizeEnd(_) | State::DataEnd | State::Trailer) => state,
            };
            bytes = &bytes[1..];
        }
        progress.ended = self.state == State::Ended;
        Ok(progress)
    }

    fn begin(&mut self) -> Result<(), Void> {
        let status = self.head.get(9..12).unwrap_or_default();
        if status != b"200" {
            return Err(Void::new(format!("the answer is {}", String::from_utf8_lossy(&self.head))));
        }
        let length = self.header("content-length").map(str::parse);
        self.state = match length {
            Some(Ok(length)) => State::Plain(length),
            Some(Err(_)) => return Err(Void::new("a Content-Length that is no number")),
            None if self.header("transfer-encoding").is_some() => State::Size(0),
            // Until it closes: its marks say whether it was whole.
            None => State::Plain(usize::MAX),
        };
        Ok(())
    }
}
