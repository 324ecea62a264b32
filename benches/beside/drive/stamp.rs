//! Stamps: each delta's text says which one it is and when it was written, as `~000123@0001234567890123~`.
//!
//! Nothing in it needs an escape in JSON, so that it comes out of any gateway as it went in, and it is looked for in
//! the bytes of whatever encoding the gateway speaks.

use memchr::memchr;

/// Digits of a delta's number.
pub const NUMBER: usize = 6;
/// Digits of the time.
pub const TIME: usize = 16;

/// Writes digits with leading zeros.
pub fn digits(into: &mut [u8], mut value: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// One stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which delta, from 0.
    pub number: u64,
    /// When it was written.
    pub time: u64,
}

/// Finds the stamps in bytes that come in pieces, cut anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scanner {
    state: State,
    number: u64,
    time: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    Number,
    Time,
}

impl Scanner {
    /// Tells `each` of every stamp that ends in these bytes.
    pub fn scan<E>(&mut self, bytes: &[u8], mut each: impl FnMut(Stamp) -> Result<(), E>) -> Result<(), E> {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            match (self.state, byte) {
                (State::Outside, _) => {
                    let Some(next) = memchr(b'~', &bytes[at - 1..]) else { return Ok(()) };
                    at += next;
                    *self = Self { state: State::Number, number: 0, time: 0 };
                }
                (State::Number, b'0'..=b'9') => self.number = self.number * 10 + u64::from(byte - b'0'),
                (State::Time, b'0'..=b'9') => self.time = self.time * 10 + u64::from(byte - b'0'),
                (State::Number, b'@') => self.state = State::Time,
                (State::Time, b'~') => {
                    self.state = State::Outside;
                    each(Stamp { number: self.number, time: self.time })?;
                }
                // A mark that is no stamp's; what follows may be one.
                (State::Number | State::Time, _) => self.state = State::Outside,
            }
        }
        Ok(())
    }
}
