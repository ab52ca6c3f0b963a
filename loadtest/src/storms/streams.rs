//! What lasts: tunnels whose every frame comes back, and a download whose every byte is checked.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::read_head;
use crate::generator::http::Pattern;
use crate::report::{Report, count};

use super::crowd::plainly;
use super::target::{PIECE, PIECE_EVERY};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A tunnel's frames: so many bytes each, so many at a time, and so often.
const FRAME: u8 = 100;
const FRAMES: u64 = 3;
const FRAMES_EVERY: Duration = Duration::from_millis(100);
/// Bytes of a download that are read at once.
const READ: usize = 64 << 10;

/// What lasting connections have seen.
#[derive(Default)]
pub(super) struct Streams {
    over: AtomicBool,
    agreed: AtomicU64,
    echoed: AtomicU64,
    downloaded: AtomicU64,
    broken: Mutex<Vec<String>>,
}

impl Streams {
    /// Ends the tunnels, each after the frames that it is at.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Tunnels that were agreed so far.
    pub(super) fn agreed(&self) -> u64 {
        self.agreed.load(Ordering::Relaxed)
    }

    fn note(&self, what: &str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            let broken = format!("{what}: {}", plainly(&error));
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(broken);
        }
    }

    /// One tunnel (a WebSocket's 101), until it is over.
    pub(super) fn tunnel(&self, address: SocketAddr, which: u64) {
        self.note("tunnel", self.echo(address, which));
    }

    fn echo(&self, address: SocketAddr, which: u64) -> io::Result<()> {
        let mut stream = connect(address)?;
        stream.write_all(
            b"GET /tunnel HTTP/1.1\r\nHost: storm\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        if read_head(&mut io::BufReader::with_capacity(1, &stream))?.status != 101 {
            return Err(wrong("another status than 101"));
        }
        self.agreed.fetch_add(1, Ordering::Relaxed);
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) {
            let frames: Vec<u8> = (0..FRAMES).flat_map(|at| frame(which, number + at)).collect();
            stream.write_all(&frames)?;
            let mut back = vec![0; frames.len()];
            stream.read_exact(&mut back)?;
            if back != frames {
                return Err(wrong("other bytes than were sent"));
            }
            number += FRAMES;
            self.echoed.fetch_add(FRAMES, Ordering::Relaxed);
            thread::sleep(FRAMES_EVERY);
        }
        Ok(())
    }

    /// Downloads what takes so long.
    pub(super) fn download(&self, address: SocketAddr, time: Duration) {
        self.note("download", self.fetch(address, time));
    }

    fn fetch(&self, address: SocketAddr, time: Duration) -> io::Result<()> {
        let pieces = time.as_millis() / PIECE_EVERY.as_millis();
        let length = u64::try_from(pieces).unwrap_or(0) * PIECE as u64;
        let stream = connect(address)?;
        let request = format!("GET /download/{length} HTTP/1.1\r\nHost: storm\r\n\r\n");
        (&stream).write_all(request.as_bytes())?;
        let mut stream = io::BufReader::with_capacity(READ, stream);
        let head = read_head(&mut stream)?;
        if (head.status, head.length) != (200, Some(length)) {
            return Err(wrong("another response than a 200 of that length"));
        }
        let pattern = Pattern::new(READ);
        let (mut taken, mut bytes) = (0, vec![0; READ]);
        while taken < length {
            let most = usize::try_from((length - taken).min(READ as u64)).unwrap_or(READ);
            let read = stream.read(&mut bytes[..most])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if pattern.at(taken, read as u64) != &bytes[..read] {
                return Err(wrong("other bytes than were sent"));
            }
            taken += read as u64;
            self.downloaded.store(taken, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn tell(&self, report: &mut Report) {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        report.figure("tunnels", count(self.agreed()), "");
        report.figure("frames echoed", count(self.echoed.load(Ordering::Relaxed)), "");
        let bytes = count(self.downloaded.load(Ordering::Relaxed));
        report.figure("downloaded and compared", bytes / f64::from(1 << 20), "MiB");
        report.exactly("tunnels and downloads broken", count(broken.len() as u64), "", 0.0);
        for why in &*broken {
            report.figure(format!("  {why}"), 1.0, "");
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A WebSocket frame (RFC 6455 section 5.2) of this tunnel alone: final, binary, not masked.
fn frame(which: u64, number: u64) -> Vec<u8> {
    let text = format!("{which}-{number};").into_bytes();
    let payload = text.iter().cycle().take(usize::from(FRAME)).copied();
    [0x82, FRAME].into_iter().chain(payload).collect()
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
