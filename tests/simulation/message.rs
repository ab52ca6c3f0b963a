//! HTTP/1.1 as the scripted clients and targets speak it: a small reader of its own, so that the engine
//! is not judged by its own codec.

/// Bytes that are added behind and taken in front.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    at: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.at > 4096 && self.at * 2 > self.bytes.len() {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len());
        self.at += count;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    /// The request line or status line.
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The only value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands twice in {self:?}");
        value
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name} in {self:?}")))
    }

    pub(crate) fn says(&self, name: &str, value: &str) -> bool {
        self.get(name).is_some_and(|got| got.eq_ignore_ascii_case(value))
    }

    /// The words of the first line.
    pub(crate) fn word(&self, at: usize) -> &str {
        self.first.split(' ').nth(at).unwrap_or_else(|| panic!("a short line: {self:?}"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Nothing,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// What the fields say; `None` if there are none.
    pub(crate) fn declared(head: &Head) -> Option<Framing> {
        let length = head.number("content-length");
        let coding = head.get("transfer-encoding");
        assert!(length.is_none() || coding.is_none(), "framed twice: {head:?}");
        match (length, coding) {
            (Some(length), _) => Some(Framing::Length(length)),
            (_, Some("chunked")) => Some(Framing::Chunked),
            (_, Some(other)) => panic!("framed as {other}"),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Head(Head),
    Data(Vec<u8>),
    /// The end of the message, with its trailers.
    End(Vec<(String, String)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// Reads messages one behind the other. What is not HTTP panics: the engine must never write it.
pub(crate) struct Reader {
    buffer: Queue,
    state: State,
    trailers: Vec<(String, String)>,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { buffer: Queue::default(), state: State::Head, trailers: Vec::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    /// Whether the next byte would be the first of a message.
    pub(crate) fn at_boundary(&self) -> bool {
        self.state == State::Head && self.buffer.is_empty()
    }

    /// Whether only the end of the connection ends this message.
    pub(crate) fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The next part of a message; `frame` says what follows a head.
    pub(crate) fn next(&mut self, frame: impl FnOnce(&Head) -> Framing) -> Option<Event> {
        loop {
            match self.state {
                State::Head => return self.head(frame),
                State::Length(0) => return Some(self.end()),
                State::Length(left) => {
                    let data = self.take(left)?;
                    self.state = State::Length(left - data.len() as u64);
                    return Some(Event::Data(data));
                }
                State::UntilClose => return self.take(u64::MAX).map(Event::Data),
                State::Chunk(left) => {
                    let data = self.take(left)?;
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    return Some(Event::Data(data));
                }
                State::ChunkLine => {
                    let line = self.line()?;
                    let size = line.split(';').next().unwrap_or_default();
                    let size = u64::from_str_radix(size, 16)
                        .unwrap_or_else(|_| panic!("a chunk size: {line:?}"));
                    self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                }
                State::ChunkEnd => {
                    assert_eq!(self.line()?, "", "the end of a chunk");
                    self.state = State::ChunkLine;
                }
                State::Trailers => {
                    let line = self.line()?;
                    if line.is_empty() {
                        return Some(self.end());
                    }
                    self.trailers.push(field(&line));
                }
            }
        }
    }

    fn head(&mut self, frame: impl FnOnce(&Head) -> Framing) -> Option<Event> {
        let bytes = self.buffer.as_slice();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&bytes[..end]).expect("a head is text").to_owned();
        self.buffer.consume(end + 4);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let head = Head { first, fields: lines.map(field).collect() };
        self.state = match frame(&head) {
            Framing::Nothing => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        Some(Event::Head(head))
    }

    fn end(&mut self) -> Event {
        self.state = State::Head;
        Event::End(std::mem::take(&mut self.trailers))
    }

    fn take(&mut self, most: u64) -> Option<Vec<u8>> {
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.buffer.len());
        if count == 0 {
            return None;
        }
        let data = self.buffer.as_slice()[..count].to_vec();
        self.buffer.consume(count);
        Some(data)
    }

    fn line(&mut self) -> Option<String> {
        let bytes = self.buffer.as_slice();
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).expect("a line is text").to_owned();
        self.buffer.consume(end + 2);
        Some(line)
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field: {line:?}"));
    (name.to_owned(), value.to_owned())
}
