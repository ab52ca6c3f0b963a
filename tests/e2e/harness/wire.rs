//! One blocking connection and the messages on it, read to the byte: nothing beyond a message is lost or hidden.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

/// A head: its first line, and its fields as they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Head {
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').expect("a field has a colon"))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Head { line, fields }
    }

    /// The values of every field of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the field of that name, of which there must not be two.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} twice in {self:?}");
        values.first().copied()
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.field("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    pub(crate) fn content_length(&self) -> Option<usize> {
        self.field("Content-Length").map(|value| value.parse().expect("a number"))
    }

    /// The second word of the first line: a request's target.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The first word of the first line: a request's method.
    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

/// A connection with what was read from it but not used yet.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of `buffer` is used.
    used: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Wire {
        // A Unix socket has no such option, and no need of it.
        let _ = stream.set_nodelay(true);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, buffer: Vec::new(), used: 0 }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Reads more. 0 is the end.
    fn fill(&mut self) -> io::Result<usize> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let old = self.buffer.len();
        self.buffer.resize(old + 128 * 1024, 0);
        let result = self.stream.read(&mut self.buffer[old..]);
        self.buffer.truncate(old + result.as_ref().map_or(0, |&count| count));
        result
    }

    fn fill_some(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Up to and with `mark`.
    fn up_to(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let mut looked_at = 0;
        loop {
            let from = self.used + looked_at;
            if let Some(at) = self.buffer[from..].windows(mark.len()).position(|part| part == mark)
            {
                let end = from + at + mark.len();
                let part = self.buffer[self.used..end].to_vec();
                self.used = end;
                return Ok(part);
            }
            looked_at = (self.unused().len() + 1).saturating_sub(mark.len());
            self.fill_some()?;
        }
    }

    /// A head with its empty line. An error if the connection ends first, with whatever part of one.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let bytes = self.up_to(b"\r\n\r\n")?;
        Ok(Head::parse(std::str::from_utf8(&bytes).expect("heads of tests are text")))
    }

    /// So many bytes.
    pub(crate) fn exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let (first, missing) = bytes.split_at_mut(self.unused().len().min(len));
        first.copy_from_slice(&self.buffer[self.used..self.used + first.len()]);
        self.used += first.len();
        self.stream.read_exact(missing)?;
        Ok(bytes)
    }

    /// The data of a chunked body, and its trailers.
    pub(crate) fn chunked(&mut self) -> io::Result<(Vec<u8>, Vec<String>)> {
        let mut data = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            data.extend_from_slice(&self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n", "the end of a chunk");
        }
        let mut trailers = Vec::new();
        loop {
            match self.line()? {
                line if line.is_empty() => return Ok((data, trailers)),
                line => trailers.push(line),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let line = self.up_to(b"\r\n")?;
        Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        let rest = self.unused().to_vec();
        self.used = self.buffer.len();
        Ok(rest)
    }
}
