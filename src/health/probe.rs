//! One health check of one endpoint: connect, and for HTTP ask and read the head of the answer, as a
//! state machine over one non-blocking socket.
//!
//! Owns the socket and what was read; does not wait (`flight` does), does not judge, reads no clock.
//! Invariants: a probe that has ended is dropped; it reads at most [`MAX_HEAD`] bytes; it never outlives
//! its deadline by more than the turn in which it passes. It makes no call that is known to block: the request
//! goes out with the connect where that has succeeded at once, and an answer is read when there is one.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::balance::EndpointId;
use crate::base::address::Address;
use crate::base::shortage::Shortage;
use crate::http1::{Fault, HeadLimits, MAX_FIELDS, Method, Progress, ResponseHead, mend};
use crate::reason::{Cause, Reason};
use crate::settings::{StatusRanges, Target, TargetAddress};

use super::judge::Judgement;

/// Bytes of an answer that are read while its head is awaited, interim answers included.
const MAX_HEAD: usize = 16 * 1024;

/// How often the time of one probe begins anew because this process stood still.
const MAX_PAUSES: u32 = 2;

/// Longer timeouts are cut to this, so that no deadline overflows.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How the endpoints of one target are probed, prepared once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CheckSpec {
    /// The request's bytes; `None`: that the connection opens is enough.
    request: Option<Box<[u8]>>,
    expect: StatusRanges,
    timeout: Duration,
}

impl CheckSpec {
    /// What `target` is configured to answer.
    pub(super) fn new(target: &Target) -> Self {
        let health = &target.health;
        let request = health.endpoint.as_ref().map(|endpoint| {
            let host = health.host.clone().unwrap_or_else(|| host_of(&target.address));
            let version = env!("CARGO_PKG_VERSION");
            format!(
                "GET {endpoint} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: evenly-health/{version}\r\n\
                 Accept: */*\r\nConnection: close\r\n\r\n"
            )
            .into_bytes()
            .into_boxed_slice()
        });
        let timeout = health.timeout.min(MAX_TIMEOUT);
        CheckSpec { request, expect: health.expect.clone(), timeout }
    }

    /// Whether a probe is a request, and not only a connection.
    pub(super) fn asks(&self) -> bool {
        self.request.is_some()
    }

    /// From the start of a probe to the end of the answer's head.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The `Host` of a probe where none is configured. A path is no host (RFC 9110 section 7.2), and of an SRV name it is
/// the domain that clients ask for (RFC 2782).
fn host_of(address: &TargetAddress) -> String {
    match address.bare() {
        TargetAddress::Unix(_) => "localhost".to_owned(),
        TargetAddress::Service(name) => name.splitn(3, '.').last().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

/// Why a probe succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Success {
    /// The connection opened, and no more was asked for.
    Connected,
    /// The answer had this status, which is an expected one.
    Status(u16),
}

/// Why a probe failed.
#[derive(Debug)]
pub(super) enum CheckFailure {
    ConnectRefused,
    ConnectTimeout,
    ConnectFailed(io::Error),
    /// What the path leads to is no socket.
    NotASocket,
    /// As many connections wait at the Unix socket as it lets wait. TCP would have this one wait too.
    BacklogFull,
    /// The connection opened, but the answer's head was not whole in time.
    NoAnswer(Duration),
    /// The connection ended before the head did.
    Closed,
    Broken(io::Error),
    UnexpectedStatus(u16),
    /// It is not valid.
    NotHttp(Fault),
    HeadTooLarge,
}

impl CheckFailure {
    /// What it says of requests to the same endpoint.
    pub(super) fn verdict(&self) -> Judgement {
        match self {
            CheckFailure::ConnectRefused | CheckFailure::NotASocket => Judgement::Gone,
            CheckFailure::ConnectFailed(error) if error.kind() == ErrorKind::NotFound => {
                Judgement::Gone
            }
            _ => Judgement::Bad,
        }
    }

    /// Its reason.
    pub(super) fn reason(&self) -> Reason {
        match self {
            CheckFailure::ConnectRefused => Reason::ConnectionRefused,
            CheckFailure::ConnectTimeout => Reason::ConnectionTimeout,
            CheckFailure::ConnectFailed(error) => Reason::of_connect(error),
            CheckFailure::NotASocket => Reason::NotASocket,
            CheckFailure::BacklogFull => Reason::BacklogFull,
            CheckFailure::NoAnswer(_) => Reason::ConnectionReadTimeout,
            CheckFailure::Closed | CheckFailure::Broken(_) => Reason::ConnectionTerminated,
            CheckFailure::UnexpectedStatus(_) => Reason::UnexpectedStatus,
            CheckFailure::NotHttp(fault) => Cause::of_response(*fault).reason,
            CheckFailure::HeadTooLarge => Reason::HttpResponseHeaderSectionSize,
        }
    }

    /// What was short on this side, so that it says nothing of the endpoint.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            CheckFailure::ConnectFailed(error) | CheckFailure::Broken(error) => Shortage::of(error),
            _ => None,
        }
    }

    /// Whether the other side may have done that because this process stood still. (Its time began anew then, so that
    /// one that was too long is not.)
    fn may_be_of_a_pause(&self) -> bool {
        matches!(self, CheckFailure::Closed | CheckFailure::Broken(_))
    }
}

/// What this process lacks for a probe.
#[derive(Debug)]
pub(super) struct Lack {
    pub(super) shortage: Shortage,
    pub(super) error: io::Error,
}

/// How a probe ended.
#[derive(Debug)]
pub(super) enum CheckEnd {
    /// With what it found.
    Found(CheckResult),
    /// With that, after this process stood still, which may be why.
    Paused(CheckFailure),
    /// For lack of something here.
    Short,
}

/// What a probe that ended found.
pub(super) type CheckResult = Result<Success, CheckFailure>;

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Success::Connected => f.write_str("connected"),
            Success::Status(status) => write!(f, "{status}"),
        }
    }
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckFailure::ConnectRefused => f.write_str("connect refused"),
            CheckFailure::ConnectTimeout => f.write_str("connect timeout"),
            CheckFailure::ConnectFailed(error) => write!(f, "connect failed: {error}"),
            CheckFailure::NotASocket => f.write_str("connect failed: not a socket"),
            CheckFailure::BacklogFull => f.write_str("connect failed: its backlog is full"),
            CheckFailure::NoAnswer(timeout) => write!(f, "no response within {timeout:?}"),
            CheckFailure::Closed => {
                f.write_str("connection closed before the response head was complete")
            }
            CheckFailure::Broken(error) => write!(f, "connection broken: {error}"),
            CheckFailure::UnexpectedStatus(status) => write!(f, "unexpected status {status}"),
            CheckFailure::NotHttp(fault) => {
                write!(f, "the response is not valid: {}", fault.why())
            }
            CheckFailure::HeadTooLarge => write!(f, "the response head is over {MAX_HEAD} bytes"),
        }
    }
}

#[derive(Debug)]
enum CheckPhase {
    /// Until something could be written, or, where nothing is to be written, until the socket says how it went.
    Connecting,
    Writing {
        sent: usize,
    },
    Reading {
        head: Vec<u8>,
        total: usize,
    },
}

/// Result of one step of a probe.
enum CheckStep {
    Blocked,
    Onward(CheckPhase),
    Ended(CheckResult),
}

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    endpoint: EndpointId,
    socket: Socket,
    started: Instant,
    deadline: Instant,
    /// How often its time began anew.
    pauses: u32,
    urgent: bool,
    /// Workers were asked for what may be in its way.
    asked: bool,
    phase: CheckPhase,
    spec: Arc<CheckSpec>,
}

/// Result of starting a probe.
pub(super) enum Begun {
    /// It waits for its socket.
    InFlight(Probe),
    /// It ended at once, as a refused connect on this machine does.
    Ended(CheckResult),
}

impl Probe {
    /// Begins a probe, at `now`. An error means that this process lacks what a probe needs, or is kept from it: it says
    /// nothing about the endpoint.
    pub(super) fn begin(
        endpoint: EndpointId,
        address: &Address,
        spec: &Arc<CheckSpec>,
        urgent: bool,
        now: Instant,
    ) -> Result<Begun, Lack> {
        let (socket, place) = match open(address) {
            Ok(opened) => opened,
            Err(error) => {
                return ended_by(Shortage::of(&error), error, CheckFailure::ConnectFailed);
            }
        };
        let spec = Arc::clone(spec);
        let mut probe = Probe {
            endpoint,
            socket,
            started: now,
            deadline: now + spec.timeout,
            pauses: 0,
            urgent,
            asked: false,
            phase: CheckPhase::Connecting,
            spec,
        };
        match probe.socket.connect(&place) {
            Ok(()) => Ok(probe.get_on().map_or_else(|| Begun::InFlight(probe), Begun::Ended)),
            // On this machine it has succeeded by now: the request need not wait for the next turn.
            Err(error) if is_in_progress(&error) && probe.spec.request.is_some() => {
                Ok(probe.get_on().map_or_else(|| Begun::InFlight(probe), Begun::Ended))
            }
            Err(error) if is_in_progress(&error) => Ok(Begun::InFlight(probe)),
            Err(error) => {
                let shortage = Shortage::of_connect(&error, address);
                ended_by(shortage, error, |error| refusal(address, error))
            }
        }
    }

    /// Whom it probes.
    pub(super) fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Whether its outcome is waited for.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Workers are asked for what may be in its way. Were they not before?
    pub(super) fn ask(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// When it must have ended.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// This process stood still while the probe ran, so that its time begins anew; but not more than a few times.
    pub(super) fn pause(&mut self, now: Instant) {
        self.pauses += 1;
        if self.pauses <= MAX_PAUSES {
            self.deadline = now + self.spec.timeout;
        }
    }

    /// A last look when its time is over: what is there was there in time, as far as anybody can tell.
    pub(super) fn look(&mut self, now: Instant) -> Option<CheckEnd> {
        let connecting = matches!(self.phase, CheckPhase::Connecting);
        while is_ready(&self.socket, self.interest()) {
            let before = self.interest();
            if let Some(end) = self.advance() {
                return Some(end);
            }
            if self.interest() == before {
                break;
            }
        }
        if connecting && !matches!(self.phase, CheckPhase::Connecting) && self.pauses < MAX_PAUSES {
            // It was connected, and the request is sent only now.
            self.pause(now);
            return None;
        }
        Some(self.judge(Err(self.expire())))
    }

    /// What it waits for.
    pub(super) fn interest(&self) -> EventFlags {
        match self.phase {
            CheckPhase::Connecting | CheckPhase::Writing { .. } => EventFlags::OUT,
            CheckPhase::Reading { .. } => EventFlags::IN,
        }
    }

    /// Gets on as far as the socket allows.
    pub(super) fn advance(&mut self) -> Option<CheckEnd> {
        let outcome = self.get_on()?;
        Some(self.judge(outcome))
    }

    /// Whether that is an outcome, or owing to this process.
    fn judge(&self, outcome: CheckResult) -> CheckEnd {
        match outcome {
            Err(reason) if reason.shortage().is_some() => CheckEnd::Short,
            Err(reason)
                if (1..=MAX_PAUSES).contains(&self.pauses) && reason.may_be_of_a_pause() =>
            {
                CheckEnd::Paused(reason)
            }
            outcome => CheckEnd::Found(outcome),
        }
    }

    fn get_on(&mut self) -> Option<CheckResult> {
        let (socket, spec) = (&self.socket, &*self.spec);
        let step = match &mut self.phase {
            CheckPhase::Connecting => connected(socket, spec),
            CheckPhase::Writing { sent } => write(socket, spec, *sent),
            CheckPhase::Reading { head, total } => read(socket, spec, head, total),
        };
        match step {
            CheckStep::Blocked => None,
            CheckStep::Onward(phase) => {
                self.phase = phase;
                None
            }
            CheckStep::Ended(outcome) => Some(outcome),
        }
    }

    /// What it failed of when its time was over.
    fn expire(&self) -> CheckFailure {
        match self.phase {
            CheckPhase::Connecting => CheckFailure::ConnectTimeout,
            _ => CheckFailure::NoAnswer(self.spec.timeout),
        }
    }
}

impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that may be connected to `address`, and `address` as it takes it.
fn open(address: &Address) -> io::Result<(Socket, SockAddr)> {
    let kind = Type::STREAM.nonblocking().cloexec();
    match address {
        Address::Ip(address) => {
            let socket = Socket::new(Domain::for_address(*address), kind, Some(Protocol::TCP))?;
            Ok((socket, SockAddr::from(*address)))
        }
        Address::Unix(path) => {
            Ok((Socket::new(Domain::UNIX, kind, None)?, SockAddr::unix(&**path)?))
        }
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::INPROGRESS) || error.kind() == ErrorKind::Interrupted
}

/// What an error comes to that a call returned at once.
fn ended_by(
    shortage: Option<Shortage>,
    error: io::Error,
    reason: impl FnOnce(io::Error) -> CheckFailure,
) -> Result<Begun, Lack> {
    match shortage {
        Some(shortage) => Err(Lack { shortage, error }),
        None => Ok(Begun::Ended(Err(reason(error)))),
    }
}

/// Whether the socket has something of that now.
fn is_ready(socket: &Socket, interest: EventFlags) -> bool {
    let interest = if interest == EventFlags::IN { PollFlags::IN } else { PollFlags::OUT };
    poll(&mut [PollFd::new(socket, interest)], Some(&Timespec::default())).is_ok_and(|it| it > 0)
}

fn connect_failure(error: io::Error) -> CheckFailure {
    match error.kind() {
        ErrorKind::ConnectionRefused => CheckFailure::ConnectRefused,
        ErrorKind::TimedOut => CheckFailure::ConnectTimeout,
        _ => CheckFailure::ConnectFailed(error),
    }
}

/// Why a connect failed at once. The kernel says of a file that is no socket what it says of a socket where nobody
/// listens, so the file is looked at.
fn refusal(address: &Address, error: io::Error) -> CheckFailure {
    match (address, error.kind()) {
        (Address::Unix(_), ErrorKind::WouldBlock) => CheckFailure::BacklogFull,
        (Address::Unix(path), ErrorKind::ConnectionRefused) if !is_socket(path) => {
            CheckFailure::NotASocket
        }
        _ => connect_failure(error),
    }
}

/// Whether the path leads to a socket, or to nothing that can be looked at.
fn is_socket(path: &str) -> bool {
    std::fs::metadata(path).map_or(true, |file| file.file_type().is_socket())
}

/// The connect may have completed. The first write reports its error, and returns EAGAIN while it is pending.
fn connected(socket: &Socket, spec: &CheckSpec) -> CheckStep {
    if spec.request.is_some() {
        return match write(socket, spec, 0) {
            CheckStep::Ended(Err(CheckFailure::Broken(error))) => {
                CheckStep::Ended(Err(connect_failure(error)))
            }
            step => step,
        };
    }
    match socket.take_error() {
        Ok(None) if is_self_connected(socket) => {
            CheckStep::Ended(Err(CheckFailure::ConnectRefused))
        }
        Ok(None) => CheckStep::Ended(Ok(Success::Connected)),
        Ok(Some(error)) | Err(error) => CheckStep::Ended(Err(connect_failure(error))),
    }
}

/// A connect to a port of this machine that nobody listens on can be given that very port as its
/// own, and TCP then connects the socket to itself (RFC 9293 section 3.5, simultaneous open). That
/// proves nothing about the target. A request comes back as its own answer, which is no response.
fn is_self_connected(socket: &Socket) -> bool {
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => {
            local.as_socket().is_some() && local.as_socket() == peer.as_socket()
        }
        _ => false, // the first write or read tells what is wrong
    }
}

fn write(mut socket: &Socket, spec: &CheckSpec, mut sent: usize) -> CheckStep {
    let request = spec.request.as_deref().unwrap_or_default();
    let before = sent;
    while let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && sent == before => {
                return CheckStep::Blocked;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return CheckStep::Onward(CheckPhase::Writing { sent });
            }
            Err(error) => return CheckStep::Ended(Err(CheckFailure::Broken(error))),
        }
    }
    CheckStep::Onward(CheckPhase::Reading { head: Vec::new(), total: 0 })
}

fn read(mut socket: &Socket, spec: &CheckSpec, head: &mut Vec<u8>, total: &mut usize) -> CheckStep {
    let mut chunk = [0; 4096];
    loop {
        let count = match socket.read(&mut chunk) {
            Ok(0) => return CheckStep::Ended(Err(CheckFailure::Closed)),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return CheckStep::Blocked,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return CheckStep::Ended(Err(CheckFailure::Broken(error))),
        };
        let fresh = chunk.get(..count).unwrap_or_default();
        *total += count;
        head.extend_from_slice(fresh);
        // Only a line end can complete a head: a drip of single bytes is not parsed for each of them. The first bytes tell
        // another protocol.
        let worth_a_look =
            memchr::memchr(b'\n', fresh).is_some() || *total > MAX_HEAD || *total == count;
        if worth_a_look && let Some(outcome) = verdict(head, *total, spec) {
            return CheckStep::Ended(match outcome {
                Err(CheckFailure::NotHttp(_)) if is_self_connected(socket) => {
                    Err(CheckFailure::ConnectRefused)
                }
                outcome => outcome,
            });
        }
        if count < chunk.len() {
            return CheckStep::Blocked;
        }
    }
}

/// Judges what was read so far; interim answers are taken off its front.
fn verdict(head: &mut Vec<u8>, total: usize, spec: &CheckSpec) -> Option<CheckResult> {
    loop {
        match parse(head) {
            Parsed::Interim(length) => drop(head.drain(..length)),
            Parsed::Final(status) if spec.expect.contains(status) => {
                return Some(Ok(Success::Status(status)));
            }
            Parsed::Final(status) => return Some(Err(CheckFailure::UnexpectedStatus(status))),
            Parsed::Malformed(why) => return Some(Err(CheckFailure::NotHttp(why))),
            Parsed::Partial if total > MAX_HEAD => return Some(Err(CheckFailure::HeadTooLarge)),
            Parsed::Partial => return None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Partial,
    /// An interim answer of so many bytes; the next answer follows.
    Interim(usize),
    Final(u16),
    Malformed(Fault),
}

/// Reads the head at the front of `bytes` as the proxy reads responses: what passes a check is what a client would get, and what
/// would be a 502 to a client must not look healthy. 101 is final, since nothing follows it.
fn parse(bytes: &[u8]) -> Parsed {
    // One that is too long is known by its length, interim answers before it included.
    const LIMITS: HeadLimits = HeadLimits { bytes: 2 * MAX_HEAD, fields: MAX_FIELDS };
    let judge = |head: &ResponseHead<'_, '_>, _: &[u8]| head.body(Method::Get).map(|_| head.status);
    match mend::read_response(bytes, LIMITS, judge) {
        Ok(Progress::Partial) => Parsed::Partial,
        Ok(Progress::Complete((length, 100 | 102..=199))) => Parsed::Interim(length),
        Ok(Progress::Complete((_, status))) => Parsed::Final(status),
        Err(fault) => Parsed::Malformed(fault),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::settings::{HealthCheck, TargetState};

    fn target(address: TargetAddress, health: HealthCheck) -> Target {
        Target { address, health, state: TargetState::Auto }
    }

    #[test]
    fn the_request_is_exact() {
        let name = TargetAddress::Name { host: "api".into(), port: 8001 };
        let health = HealthCheck { endpoint: Some("/healthz?x=1".into()), ..Default::default() };
        let spec = CheckSpec::new(&target(name, health));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            String::from_utf8_lossy(spec.request.as_deref().unwrap()),
            format!(
                "GET /healthz?x=1 HTTP/1.1\r\nHost: api:8001\r\nUser-Agent: evenly-health/{version}\r\n\
                 Accept: */*\r\nConnection: close\r\n\r\n"
            )
        );
    }

    #[test]
    fn the_dot_of_an_absolute_name_is_not_sent() {
        let name = TargetAddress::Name { host: "api.test.".into(), port: 80 };
        assert_eq!(host_of(&name), "api.test:80");
        assert_eq!(host_of(&TargetAddress::Service("_http._tcp.api.test.".into())), "api.test");
    }

    #[test]
    fn a_path_is_no_host() {
        let check = |host| HealthCheck { endpoint: Some("/".into()), host, ..Default::default() };
        for (host, expected) in [(None, "localhost"), (Some("h:1".to_owned()), "h:1")] {
            let spec = CheckSpec::new(&target(TargetAddress::Unix("/a".into()), check(host)));
            let request = String::from_utf8_lossy(spec.request.as_deref().unwrap()).into_owned();
            assert!(request.contains(&format!("\r\nHost: {expected}\r\n")), "{request}");
        }
    }

    #[test]
    fn without_an_endpoint_nothing_is_asked() {
        let address = TargetAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 80)));
        assert!(CheckSpec::new(&target(address, HealthCheck::default())).request.is_none());
    }

    #[test]
    fn heads_are_read_as_the_table_says() {
        use Parsed::{Final, Interim, Malformed, Partial};
        const LINE: Fault = Fault::BadStatusLine;
        let table: &[(&[u8], Parsed)] = &[
            (b"", Partial),
            (b"HTTP/1.1 200 OK\r\n", Partial),
            (b"HTTP/1.1 200 OK\r\n\r\n", Final(200)),
            (b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nbody", Final(404)),
            (b"HTTP/1.1 503\r\n\r\n", Final(503)),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", Interim(25)),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Final(101)),
            (b"HTTP/1.1 099 Low\r\n\r\n", Malformed(LINE)),
            (b"HTTP/1.1 999 High\r\n\r\n", Final(999)),
            (b"HTTP/1.1 20 OK\r\n\r\n", Malformed(LINE)),
            (b"HTTP/2.0 200 OK\r\n\r\n", Malformed(LINE)),
            (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed(LINE)),
            (b"HTTP/1.1 200 OK\n\n", Final(200)),
            (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", Malformed(Fault::BareLineFeed)),
            (b"HTTP/1.2 200 OK\r\nA : b\r\n\r\n", Final(200)),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Malformed(Fault::DifferentContentLengths),
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                Malformed(Fault::LastCodingNotChunked),
            ),
            (b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", Malformed(Fault::NoColon)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Malformed(LINE)),
        ];
        for (bytes, parsed) in table {
            assert_eq!(parse(bytes), *parsed, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    fn judge(bytes: &[u8]) -> Option<CheckResult> {
        let health = HealthCheck { endpoint: Some("/".into()), ..Default::default() };
        let address = TargetAddress::Ip(SocketAddr::from(([127, 0, 0, 1], 80)));
        verdict(&mut bytes.to_vec(), bytes.len(), &CheckSpec::new(&target(address, health)))
    }

    #[test]
    fn interim_answers_are_skipped_however_many_come() {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(50);
        assert!(judge(&bytes).is_none());
        bytes.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
        assert!(matches!(judge(&bytes), Some(Ok(Success::Status(204)))));
    }

    #[test]
    fn a_target_that_speaks_tls_is_a_failure_that_says_so() {
        let alert = b"\x15\x03\x01\x00\x02\x02\x46";
        let Some(Err(reason)) = judge(alert) else { panic!("no failure") };
        assert!(reason.to_string().starts_with("the response is not valid: The target speaks TLS"));
    }

    #[test]
    fn a_head_that_never_ends_is_given_up_at_its_limit() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
        bytes.resize(MAX_HEAD, b'a');
        assert!(judge(&bytes).is_none());
        bytes.push(b'a');
        assert!(matches!(judge(&bytes), Some(Err(CheckFailure::HeadTooLarge))));
        let fields =
            [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a:b\r\n".repeat(MAX_FIELDS + 1)].concat();
        assert!(matches!(judge(&fields), Some(Err(CheckFailure::NotHttp(_)))));
    }
}
