//! The SSE decoder: bytes in, events out.
//!
//! It follows "parsing an event stream" of the HTML standard (html.spec.whatwg.org, section 9.2.6), with these
//! differences, all because it reads answers and not subscriptions: `id` and `retry` are not kept, since a call is
//! never resumed; bytes that are not UTF-8 are handed on as they are, since whoever reads the data will refuse them;
//! one event has a bound.
//!
//! An event that lies whole in one read is handed out as a slice of that read, without a copy. A line or event cut
//! between reads is gathered in two buffers that are kept from event to event.

use std::ops::Range;

use memchr::{memchr, memchr2};

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// A buffer that grew beyond this for one event is given back after it.
const KEPT_BYTES: usize = 64 << 10;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its `event` field; empty when there is none.
    pub name: &'a [u8],
    /// Its `data` fields, joined by line feeds.
    pub data: &'a [u8],
}

/// An event is longer than its bound. The decoder is of no use after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What is known of a stream between two reads.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// How much of a byte order mark has been seen; none once the start is past.
    mark: Option<usize>,
    /// The last read ended with CR: a LF at the start of the next belongs to it.
    after_cr: bool,
    /// The start of a line whose end has not been read.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// Bytes of the event's fields so far.
    size: usize,
}

impl Decoder {
    /// At the start of a stream. No event may be longer than `limit` bytes, field names included.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            mark: Some(0),
            after_cr: false,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            size: 0,
        }
    }

    /// Takes in what was read. The events must be asked for until there are none before the next read.
    pub fn read<'a>(&'a mut self, mut chunk: &'a [u8]) -> Events<'a> {
        while let (Some(seen), Some(&byte)) = (self.mark, chunk.first()) {
            if byte == BYTE_ORDER_MARK[seen] {
                chunk = &chunk[1..];
                self.mark = (seen + 1 < BYTE_ORDER_MARK.len()).then_some(seen + 1);
            } else {
                self.line.extend_from_slice(&BYTE_ORDER_MARK[..seen]);
                self.mark = None;
            }
        }
        if let Some(&first) = chunk.first()
            && std::mem::take(&mut self.after_cr)
            && first == b'\n'
        {
            chunk = &chunk[1..];
        }
        Events { decoder: self, chunk, at: 0, held: None, given: false }
    }

    /// What the stream ended in the middle of, as if a blank line had followed: for streams that leave out the last
    /// one. The standard drops it; whoever takes it must be sure that it is whole.
    pub fn tail(&mut self) -> Option<Event<'_>> {
        if !self.line.is_empty() {
            self.gathered_line();
        }
        self.has_data.then_some(Event { name: &self.name, data: &self.data })
    }

    fn next_event(&mut self) {
        for buffer in [&mut self.name, &mut self.data, &mut self.line] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
        self.has_data = false;
        self.size = 0;
    }

    /// Reads the line that was gathered from several reads.
    fn gathered_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        match field(&line) {
            Some(Field::Data(value)) => {
                self.add_data(value);
                self.size += line.len();
            }
            Some(Field::Name(value)) => {
                self.set_name(value);
                self.size += line.len();
            }
            None => {}
        }
        line.clear();
        self.line = line;
    }

    fn add_data(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
    }

    fn set_name(&mut self, value: &[u8]) {
        self.name.clear();
        self.name.extend_from_slice(value);
    }
}

/// The events of one read. Not an `Iterator`, since an event may lie in the decoder's own buffer.
#[derive(Debug)]
pub struct Events<'a> {
    decoder: &'a mut Decoder,
    chunk: &'a [u8],
    at: usize,
    /// The event's only data so far, still in the chunk.
    held: Option<Range<usize>>,
    /// The event in hand has been given out.
    given: bool,
}

impl Events<'_> {
    /// The next event whose blank line has been read.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Option<Result<Event<'_>, TooLong>> {
        if std::mem::take(&mut self.given) {
            self.next_event();
        }
        loop {
            let rest = &self.chunk[self.at..];
            let Some(length) = memchr2(b'\r', b'\n', rest) else {
                if self.exceeds(rest.len()) {
                    return Some(Err(TooLong));
                }
                self.decoder.line.extend_from_slice(rest);
                self.at = self.chunk.len();
                self.gather();
                return None;
            };
            if self.exceeds(length) {
                return Some(Err(TooLong));
            }
            let line = self.at..self.at + length;
            self.skip_line_end(line.end);
            if self.read_line(line) {
                if self.held.is_some() || self.decoder.has_data {
                    break;
                }
                self.next_event();
            }
        }
        self.given = true;
        let data = match self.held.clone() {
            Some(range) => &self.chunk[range],
            None => &self.decoder.data[..],
        };
        Some(Ok(Event { name: &self.decoder.name, data }))
    }

    fn next_event(&mut self) {
        self.held = None;
        self.decoder.next_event();
    }

    /// Whether a line with `length` bytes in this chunk makes the event too long. The same wherever the reads are
    /// cut, because a line counts in full whether or not its end is in sight.
    fn exceeds(&self, length: usize) -> bool {
        self.decoder.size + self.decoder.line.len() + length > self.decoder.limit
    }

    fn skip_line_end(&mut self, end: usize) {
        self.at = end + 1;
        if self.chunk[end] == b'\r' {
            match self.chunk.get(self.at) {
                Some(b'\n') => self.at += 1,
                Some(_) => {}
                None => self.decoder.after_cr = true,
            }
        }
    }

    /// Reads a line whose end is in this chunk. Says whether it was blank.
    fn read_line(&mut self, line: Range<usize>) -> bool {
        let bytes = &self.chunk[line.clone()];
        if !self.decoder.line.is_empty() {
            self.gather();
            self.decoder.line.extend_from_slice(bytes);
            self.decoder.gathered_line();
            return false;
        }
        match field(bytes) {
            Some(Field::Data(value)) => {
                self.decoder.size += bytes.len();
                if self.held.is_none() && !self.decoder.has_data {
                    self.held = Some(line.end - value.len()..line.end);
                } else {
                    self.gather();
                    self.decoder.add_data(value);
                }
            }
            Some(Field::Name(value)) => {
                self.decoder.size += bytes.len();
                self.decoder.set_name(value);
            }
            None => {}
        }
        bytes.is_empty()
    }

    /// Copies the data that is still in the chunk.
    fn gather(&mut self) {
        if let Some(range) = self.held.take() {
            self.decoder.add_data(&self.chunk[range]);
        }
    }
}

enum Field<'a> {
    Data(&'a [u8]),
    Name(&'a [u8]),
}

/// The field of a line; none for a comment, a blank line, and fields that are not kept.
fn field(line: &[u8]) -> Option<Field<'_>> {
    let (name, value) = match memchr(b':', line) {
        Some(colon) => (&line[..colon], &line[colon + 1..]),
        None => (line, &line[line.len()..]),
    };
    let value = value.strip_prefix(b" ").unwrap_or(value);
    match name {
        b"data" => Some(Field::Data(value)),
        b"event" => Some(Field::Name(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::{FutureExt, StreamExt, stream};
    use proptest::prelude::*;
    use sse_stream::SseByteStream;

    use super::*;

    type Told = Vec<(String, String)>;

    fn ours(chunks: &[&[u8]], limit: usize) -> Result<Told, TooLong> {
        let mut decoder = Decoder::new(limit);
        let mut told = Vec::new();
        for chunk in chunks {
            let mut events = decoder.read(chunk);
            while let Some(event) = events.next() {
                let event = event?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                told.push((text(event.name), text(event.data)));
            }
        }
        Ok(told)
    }

    fn all(text: &str) -> Told {
        ours(&[text.as_bytes()], 1000).unwrap()
    }

    /// The other decoder's events. It also gives out blocks without data, and tells an empty name from none.
    fn theirs(chunks: &[&[u8]]) -> Told {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
        let events = SseByteStream::new(stream::iter(chunks)).map(Result::unwrap).collect::<Vec<_>>();
        let events = events.now_or_never().unwrap().into_iter();
        events.filter_map(|event| Some((event.event.unwrap_or_default(), event.data?))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Told {
        pairs.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for text in ["data: a\n\ndata:b\n\n", "data: a\r\rdata:b\r\r", "data: a\r\n\r\ndata:b\r\n\r\n"] {
            assert_eq!(all(text), pairs(&[("", "a"), ("", "b")]));
        }
    }

    #[test]
    fn data_lines_are_joined_and_one_space_is_dropped() {
        assert_eq!(all("data:  a\ndata\ndata:b\n\n"), pairs(&[("", " a\n\nb")]));
        assert_eq!(all("data\n\n"), pairs(&[("", "")]));
    }

    #[test]
    fn comments_unknown_fields_and_blocks_without_data_are_passed_over() {
        assert_eq!(all(": hello\n\nevent: x\n\nid: 1\nfoo: bar\ndata: a\n\n"), pairs(&[("", "a")]));
        assert_eq!(all("event: error\ndata: a\n\ndata: b\n\n"), pairs(&[("error", "a"), ("", "b")]));
    }

    #[test]
    fn a_byte_order_mark_counts_at_the_start_only() {
        assert_eq!(all("\u{feff}data: a\n\n\u{feff}data: b\n\ndata: c\n\n"), pairs(&[("", "a"), ("", "c")]));
    }

    #[test]
    fn an_event_without_its_blank_line_is_a_tail() {
        let mut decoder = Decoder::new(100);
        let mut events = decoder.read(b"data: a\n\ndata: b\ndata: c");
        assert_eq!(events.next(), Some(Ok(Event { name: b"", data: b"a" })));
        assert_eq!(events.next(), None);
        assert_eq!(decoder.tail(), Some(Event { name: b"", data: b"b\nc" }));
        assert_eq!(Decoder::new(100).tail(), None);
    }

    #[test]
    fn an_event_whole_in_one_read_is_not_copied() {
        let chunk = b"data: a\n\n";
        let mut decoder = Decoder::new(100);
        let data = decoder.read(chunk).next().unwrap().unwrap().data.as_ptr();
        assert!(chunk.as_ptr_range().contains(&data));
        assert_eq!(decoder.data.capacity() + decoder.line.capacity(), 0);
    }

    #[test]
    fn an_event_beyond_the_bound_is_refused() {
        assert_eq!(ours(&[b"data: 1234\n\ndata: 1234\n\n"], 10).unwrap().len(), 2);
        assert_eq!(ours(&[b"data: 12345\n\n"], 10), Err(TooLong));
        assert_eq!(ours(&[b"data: ", b"12345"], 10), Err(TooLong));
        assert_eq!(ours(&[b"data:1\n", b"data:2\n\n"], 10), Err(TooLong));
    }

    fn soup() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just("data"),
            Just("data:"),
            Just("data: "),
            Just("event: "),
            Just("event"),
            Just("id: 7"),
            Just("retry: 9"),
            Just(":"),
            Just(" "),
            Just("\n"),
            Just("\n\n"),
            Just("\r"),
            Just("\r\n"),
            Just("\r\n\r\n"),
            Just("\u{feff}"),
            Just("é"),
            Just("😀"),
            Just("x"),
            Just("{\"a\":1}"),
            Just("\0"),
        ];
        prop::collection::vec(word, 0..40).prop_map(|words| words.concat().into_bytes())
    }

    fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    proptest! {
        #[test]
        fn it_tells_what_another_decoder_tells(bytes in soup(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            prop_assert_eq!(ours(&cut(&bytes, &cuts), 1 << 20).unwrap(), theirs(&[&bytes]));
        }

        /// Bytes that are not UTF-8 end the other decoder, so only the parts that both can read are compared with it;
        /// the cuts must not matter for any bytes, nor for the bound.
        #[test]
        fn where_the_reads_are_cut_does_not_matter(
            bytes in prop_oneof![soup(), prop::collection::vec(any::<u8>(), 0..200)],
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            limit in 0_usize..60,
        ) {
            let ones: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = ours(&[&bytes], limit);
            prop_assert_eq!(&ours(&cut(&bytes, &cuts), limit), &whole);
            prop_assert_eq!(&ours(&ones, limit), &whole);
            if let Ok(text) = std::str::from_utf8(&bytes) {
                prop_assert_eq!(ours(&[text.as_bytes()], 1 << 20).unwrap(), theirs(&[text.as_bytes()]));
            }
        }
    }
}
