//! Bodies far larger than any buffer, up and down, with a reader that is slower than the writer: are
//! the bytes the same, and does the subject's memory stay flat?

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::read_head;
use crate::report::{Report, count};
use crate::servers::{Bench, Kind, Subject};
use crate::{Failure, proc};

/// A prime, so that no shift by a power of two goes unseen.
const PATTERN_BYTES: usize = 1_048_573;
/// How much is read or written at once.
const PIECE_BYTES: usize = 256 << 10;
/// How long either end may stand still.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory that one transfer may take, in bytes; the bodies are hundreds of times as large.
const GROWTH: f64 = 4.0 * 1024.0 * 1024.0;
const MEBIBYTE: u64 = 1 << 20;

/// How much is transferred, and how fast it is read at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) mebibytes: u64,
    pub(crate) mebibytes_per_second: u64,
    /// How long a reader waits before its first byte, so that every buffer on the way fills.
    pub(crate) hesitation: Duration,
}

impl Transfer {
    /// Bytes of each body.
    fn length(self) -> u64 {
        self.mebibytes * MEBIBYTE
    }
}

/// Bytes without a short period, the same for whoever makes them.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Pattern {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bytes = Vec::with_capacity(PATTERN_BYTES + 8);
        while bytes.len() < PATTERN_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(PATTERN_BYTES);
        Pattern(bytes)
    }

    /// What stands at `offset`, at most `most` bytes and at least one.
    fn piece(&self, offset: u64, most: usize) -> &[u8] {
        let length = u64::try_from(PATTERN_BYTES).unwrap_or(u64::MAX);
        let at = usize::try_from(offset % length).unwrap_or(0);
        let rest = &self.0[at..];
        &rest[..rest.len().min(most)]
    }

    fn matches(&self, mut offset: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let piece = self.piece(offset, bytes.len());
            let Some(rest) = bytes.strip_prefix(piece) else { return false };
            offset += count_u64(piece.len());
            bytes = rest;
        }
        true
    }

    fn write(&self, to: &mut impl Write, length: u64) -> io::Result<()> {
        let mut sent = 0;
        while sent < length {
            let most = usize::try_from(length - sent).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let piece = self.piece(sent, most);
            to.write_all(piece)?;
            sent += count_u64(piece.len());
        }
        Ok(())
    }

    /// Reads a whole body no faster than it may be read; whether all of its bytes were right.
    fn read_slowly(&self, from: &mut impl Read, transfer: Transfer) -> io::Result<bool> {
        let (length, rate) = (transfer.length(), transfer.mebibytes_per_second * MEBIBYTE);
        thread::sleep(transfer.hesitation);
        let began = Instant::now();
        let mut bytes = vec![0; PIECE_BYTES];
        let (mut got, mut right) = (0, true);
        while got < length {
            let most = usize::try_from(length - got).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let read = from.read(&mut bytes[..most])?;
            if read == 0 {
                return Ok(false);
            }
            right &= self.matches(got, &bytes[..read]);
            got += count_u64(read);
            let due = Duration::from_secs_f64(count(got) / count(rate));
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
        Ok(right)
    }
}

fn count_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Sends and fetches one large body each through the subject.
pub(crate) fn big(
    bench: &Bench,
    kind: Kind,
    transfer: Transfer,
    report: &mut Report,
) -> Result<(), Failure> {
    let target = serve(transfer)?;
    let subject = bench.subject(kind, &[target])?;
    measure("up", upload, &subject, transfer, report)?;
    measure("down", download, &subject, transfer, report)
}

type Direction = fn(SocketAddr, Transfer) -> io::Result<bool>;

fn measure(
    name: &str,
    direction: Direction,
    subject: &Subject,
    transfer: Transfer,
    report: &mut Report,
) -> Result<(), Failure> {
    let pid = subject.process.pid();
    proc::forget_peak(pid)?;
    let before = proc::rss(pid)?;
    let began = Instant::now();
    let right = direction(subject.address, transfer)?;
    let seconds = began.elapsed().as_secs_f64();
    let peak = proc::peak_rss(pid)?;
    report.section(format!(
        "{}: {} MiB {name}, read at most {} MiB/s",
        subject.kind.name(),
        transfer.mebibytes,
        transfer.mebibytes_per_second
    ));
    report.exactly("bytes that differ (0 none, 1 some)", f64::from(u8::from(!right)), "", 0.0);
    report.figure("resident memory before", count(before / 1024), "KiB");
    report.figure("resident memory at its highest", count(peak / 1024), "KiB");
    let growth = count(peak.saturating_sub(before));
    report.at_most("growth", growth / 1024.0, "KiB", GROWTH / 1024.0);
    report.figure("MiB/s", count(transfer.mebibytes) / seconds, "");
    Ok(())
}

/// The client that sends: as fast as it is let, to an origin that reads slowly.
fn upload(address: SocketAddr, transfer: Transfer) -> io::Result<bool> {
    let mut stream = open(TcpStream::connect(address)?)?;
    let length = transfer.length();
    let head = format!("PUT /up HTTP/1.1\r\nHost: loadtest\r\nContent-Length: {length}\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes())?;
    Pattern::new().write(stream.get_mut(), length)?;
    // The origin judges what arrived: 200 when all of it was right.
    Ok(read_head(&mut stream)?.status == 200)
}

/// The client that fetches, slowly.
fn download(address: SocketAddr, transfer: Transfer) -> io::Result<bool> {
    let mut stream = open(TcpStream::connect(address)?)?;
    stream.get_mut().write_all(b"GET /down HTTP/1.1\r\nHost: loadtest\r\n\r\n")?;
    let head = read_head(&mut stream)?;
    let length = transfer.length();
    if head.status != 200 || head.length != Some(length) {
        return Ok(false);
    }
    Pattern::new().read_slowly(&mut stream, transfer)
}

fn open(stream: TcpStream) -> io::Result<BufReader<TcpStream>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::with_capacity(16 << 10, stream))
}

/// Starts the origin; its threads end with the process, or with their connections.
fn serve(transfer: Transfer) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A connection that fails is seen by the client, whose bytes are then not all there.
            thread::spawn(move || drop(answer(stream, transfer)));
        }
    });
    Ok(address)
}

/// Answers the one request of a connection.
fn answer(stream: TcpStream, transfer: Transfer) -> io::Result<()> {
    let mut stream = open(stream)?;
    let mut request_line = String::new();
    stream.read_line(&mut request_line)?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut status = "200 OK";
    let mut body_length = 0;
    if request_line.starts_with("PUT /up ") {
        if !Pattern::new().read_slowly(&mut stream, transfer)? {
            status = "409 Conflict";
        }
    } else if request_line.starts_with("GET /down ") {
        body_length = transfer.length();
    }
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {body_length}\r\nConnection: close\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes())?;
    Pattern::new().write(stream.get_mut(), body_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Transfer =
        Transfer { mebibytes: 3, mebibytes_per_second: 1000, hesitation: Duration::ZERO };

    #[test]
    fn finds_one_wrong_byte_and_one_missing() {
        let pattern = Pattern::new();
        let mut bytes = Vec::new();
        pattern.write(&mut bytes, 2 * MEBIBYTE).unwrap();
        assert!(pattern.matches(0, &bytes));
        assert!(pattern.matches(5, &bytes[5..]));
        bytes[1_500_000] ^= 1;
        assert!(!pattern.matches(0, &bytes));
        bytes.remove(1_500_000);
        assert!(!pattern.matches(0, &bytes));
    }

    #[test]
    fn transfers_both_ways_without_a_proxy_between() {
        let address = serve(SMALL).unwrap();
        assert!(upload(address, SMALL).unwrap());
        assert!(download(address, SMALL).unwrap());
    }
}
