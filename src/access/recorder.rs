//! The flight recorder: what a worker knows of the exchanges that ended last, for who asks what just happened. It is there
//! whether an access log is written or not.
//!
//! Owns what an exchange is as words of a ring. Invariants: a worker waits for nobody, and allocates once; what clients do
//! wrong pushes nothing out of what targets and evenly did.

#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers are put together of parts, and taken apart"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{End, Facts, LogPhase, PARTS, parts_of, push_part};
use crate::base::address::Address;
use crate::base::ring::{Ring, Words};
use crate::base::tick::Tick;
use crate::reason::{Cause, Party};

/// How many exchanges a worker keeps.
pub const EXCHANGES: usize = 1024;
/// How many it keeps of those that went wrong: so many by fault of their client, and so many others.
pub const ERRORS: usize = 128;

/// Words of a slot: with its version they fill eight cache lines.
const WORDS: usize = 63;
/// Of these the ones in front of the text.
const FACTS: usize = 15;
/// Bytes of text that a slot has room for.
const TEXT: usize = (WORDS - FACTS) * 8;
/// Bytes that are kept of what has no bound of its own: a request's ID, a target's name, the path of a Unix socket.
const NAME: usize = 128;
/// The bit of a length that says that there was more.
const CUT: u16 = 1 << 15;

/// What kind of address a number is.
const NO_ADDRESS: u16 = 0;
const V4: u16 = 1;
const V6: u16 = 2;
const UNIX: u16 = 3;

const ENDS: [End; 6] =
    [End::Finished, End::Answered, End::Cut, End::ClientClosed, End::TunnelClosed, End::TunnelIdle];
const PHASES: [LogPhase; 5] =
    [LogPhase::Request, LogPhase::Connect, LogPhase::Wait, LogPhase::Response, LogPhase::Tunnel];

/// What the recorder kept of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When the request's head was whole, by the wall clock as it stood when the exchange ended.
    pub time: SystemTime,
    /// As the access log has them.
    pub facts: Facts,
    /// Some of its text found no room.
    pub cut: bool,
    text: Vec<u8>,
}

impl Record {
    /// The text, as the access log has it. If it was cut, the last part that is there may be short, and those behind it are empty.
    pub fn parts(&self) -> [&[u8]; PARTS] {
        parts_of(&self.text)
    }
}

/// The exchanges of one worker that ended last. Its worker writes, anybody may read.
#[derive(Debug)]
pub struct FlightRecorder {
    exchanges: Ring<WORDS>,
    /// Those that went wrong by fault of their clients.
    of_clients: Ring<WORDS>,
    /// The others that went wrong.
    errors: Ring<WORDS>,
}

impl Default for FlightRecorder {
    fn default() -> Self {
        FlightRecorder {
            exchanges: Ring::new(EXCHANGES),
            of_clients: Ring::new(ERRORS),
            errors: Ring::new(ERRORS),
        }
    }
}

impl FlightRecorder {
    /// Keeps an exchange that began at `time`, in microseconds since 1970, with the text parts of its entry as
    /// [`Batch::push`](super::Batch::push) takes them. Only the owner may call this.
    pub fn record(&self, time: u64, facts: &Facts, first: [&[u8]; 2], text: &[u8]) {
        let [id, target] = first;
        self.exchanges.write(|words| pack(time, facts, [id, target, text], words));
        let ring = match facts.cause.map(|cause| cause.reason.party()) {
            Some(Party::Client) => &self.of_clients,
            Some(_) => &self.errors,
            None if facts.status >= 500 => &self.errors,
            None => return,
        };
        ring.write(|words| pack(time, facts, [id, target, text], words));
    }

    /// The `most` exchanges that ended last, and [`EXCHANGES`] at most, in the order in which they ended.
    pub fn exchanges(&self, most: usize) -> Vec<RawRecord> {
        raw(&self.exchanges, most).collect()
    }

    /// Those among the exchanges of all time that went wrong last, with a reason or with a status from 500 on: at most [`ERRORS`] of which
    /// the client is the cause, and as many others, and `most` of each.
    pub fn errors(&self, most: usize) -> Vec<RawRecord> {
        [&self.of_clients, &self.errors].into_iter().flat_map(|ring| raw(ring, most)).collect()
    }
}

fn raw(ring: &Ring<WORDS>, most: usize) -> impl Iterator<Item = RawRecord> {
    ring.read(most).into_iter().map(RawRecord)
}

/// A record as it is kept. Of many, most are only compared.
#[derive(Debug, Clone)]
pub struct RawRecord([u64; WORDS]);

impl RawRecord {
    /// When it ended, in microseconds since 1970.
    pub fn ended(&self) -> u64 {
        self.0[0].saturating_add(self.0[1])
    }

    /// What it says; `None` of what nobody wrote.
    pub fn record(&self) -> Option<Record> {
        unpack(&self.0)
    }
}

/// Writes down an exchange, with an ID, the name of a target, and the other text parts.
#[inline]
fn pack(time: u64, facts: &Facts, [id, target, text]: [&[u8]; 3], words: &mut Words<'_>) {
    let (client, client_kind) = ip_number(facts.client);
    let (listener, listener_kind, listener_port) = match facts.listener {
        None => (0, NO_ADDRESS, 0),
        Some(address) => {
            let (ip, kind) = ip_number(address.ip());
            (ip, kind, address.port())
        }
    };
    let (endpoint, endpoint_kind, [port, scope], path) = match &facts.endpoint {
        None => (0, NO_ADDRESS, [0; 2], &[][..]),
        Some(Address::Unix(path)) => (0, UNIX, [0; 2], path.as_bytes()),
        Some(Address::Ip(address)) => {
            let (ip, kind) = ip_number(address.ip());
            let scope = if let SocketAddr::V6(it) = address { it.scope_id() } else { 0 };
            (ip, kind, [address.port().into(), scope], &[][..])
        }
    };
    let [reason, detail] = facts.cause.map_or([0; 2], Cause::numbers);
    let attempts = u16::try_from(facts.attempts).unwrap_or(u16::MAX);
    let mut room = TEXT;
    let [id, target, path, text] =
        [(id, NAME), (target, NAME), (path, NAME), (text, TEXT)].map(|(text, most)| {
            let kept = KeptText::new(text, most.min(room));
            room -= kept.room();
            kept
        });
    words.put::<FACTS>([
        time,
        facts.duration,
        pair([facts.connect, facts.first_byte].map(short)),
        four([facts.status, attempts, facts.end as u16, facts.phase as u16]),
        four([reason, detail, client_kind << 8 | listener_kind, endpoint_kind]),
        (client >> 64) as u64,
        client as u64,
        (endpoint >> 64) as u64,
        endpoint as u64,
        (listener >> 64) as u64,
        listener as u64,
        pair([port << 16 | u32::from(listener_port), scope]),
        facts.bytes_in,
        facts.bytes_out,
        four([id.len, target.len, path.len, text.len]),
    ]);
    for part in [id, target, path, text] {
        words.put_bytes(part.kept);
    }
}

/// What is kept of a text.
struct KeptText<'t> {
    kept: &'t [u8],
    /// Its length, and [`CUT`] if there was more.
    len: u16,
}

impl KeptText<'_> {
    /// At most `most` bytes.
    #[inline]
    fn new(text: &[u8], most: usize) -> KeptText<'_> {
        match text.get(..most) {
            Some(kept) if text.len() > most => {
                let kept = whole(kept);
                KeptText { kept, len: kept.len() as u16 | CUT }
            }
            _ => KeptText { kept: text, len: text.len() as u16 },
        }
    }

    /// Bytes of whole words.
    fn room(&self) -> usize {
        self.kept.len().next_multiple_of(8)
    }
}

/// What was written down; `None` of what nobody wrote.
fn unpack(words: &[u64; WORDS]) -> Option<Record> {
    let &[
        time,
        duration,
        times,
        outcome,
        why,
        c1,
        c0,
        e1,
        e0,
        l1,
        l0,
        place,
        bytes_in,
        bytes_out,
        lens,
    ] = words.first_chunk::<FACTS>()?;
    let bytes: Vec<u8> = words[FACTS..].iter().flat_map(|word| word.to_le_bytes()).collect();
    let cut = fours(lens).iter().any(|len| len & CUT != 0);
    let mut from = 0;
    let [id, target, path, rest] = fours(lens).map(|len| {
        let to = from + usize::from(len & !CUT);
        let kept = bytes.get(from..to).unwrap_or_default();
        from = to.next_multiple_of(8);
        kept
    });
    let mut text = Vec::with_capacity(bytes.len());
    push_part(&mut text, id);
    push_part(&mut text, target);
    text.extend_from_slice(rest);
    let [status, attempts, end, phase] = fours(outcome);
    let [reason, detail, kinds, endpoint_kind] = fours(why);
    let [client_kind, listener_kind] = [kinds >> 8, kinds & 0xff];
    let [ports, scope] = pairs(place);
    let [port, listener_port] = [(ports >> 16) as u16, ports as u16];
    let endpoint_number = u128::from(e1) << 64 | u128::from(e0);
    let listener = ip_of(u128::from(l1) << 64 | u128::from(l0), listener_kind);
    let endpoint = match endpoint_kind {
        NO_ADDRESS => None,
        UNIX => Some(Address::Unix(String::from_utf8_lossy(path).into())),
        V6 => {
            let ip = Ipv6Addr::from_bits(endpoint_number);
            Some(SocketAddr::from(SocketAddrV6::new(ip, port, 0, scope)).into())
        }
        kind => Some(SocketAddr::new(ip_of(endpoint_number, kind), port).into()),
    };
    let [connect, first_byte] = pairs(times).map(long);
    let facts = Facts {
        at: Tick(0),
        duration,
        connect,
        first_byte,
        client: ip_of(u128::from(c1) << 64 | u128::from(c0), client_kind),
        listener: (listener_kind != NO_ADDRESS).then_some(SocketAddr::new(listener, listener_port)),
        endpoint,
        attempts: attempts.into(),
        status,
        bytes_in,
        bytes_out,
        end: *ENDS.get(usize::from(end))?,
        phase: *PHASES.get(usize::from(phase))?,
        cause: Cause::of_numbers([reason, detail]),
    };
    Some(Record { time: UNIX_EPOCH + Duration::from_micros(time), facts, cut, text })
}

/// Without the beginning of a character at its end.
fn whole(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => &text[..error.valid_up_to()],
        _ => text,
    }
}

fn ip_number(ip: IpAddr) -> (u128, u16) {
    match ip {
        IpAddr::V4(ip) => (ip.to_bits().into(), V4),
        IpAddr::V6(ip) => (ip.to_bits(), V6),
    }
}

fn ip_of(number: u128, kind: u16) -> IpAddr {
    match kind {
        V6 => Ipv6Addr::from_bits(number).into(),
        _ => Ipv4Addr::from_bits(number as u32).into(),
    }
}

/// A time of at most 71 minutes, or none, in microseconds.
fn short(micros: Option<u64>) -> u32 {
    micros.map_or(0, |micros| u32::try_from(micros.saturating_add(1)).unwrap_or(u32::MAX))
}

fn long(short: u32) -> Option<u64> {
    short.checked_sub(1).map(u64::from)
}

fn pair([high, low]: [u32; 2]) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn pairs(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

fn four(parts: [u16; 4]) -> u64 {
    parts.into_iter().fold(0, |word, part| word << 16 | u64::from(part))
}

fn fours(word: u64) -> [u16; 4] {
    [48, 32, 16, 0].map(|bits| (word >> bits) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::TextPart;
    use crate::reason::Reason;

    fn all(recorder: &FlightRecorder) -> Vec<Record> {
        recorder.exchanges(EXCHANGES).iter().filter_map(RawRecord::record).collect()
    }

    fn errors(recorder: &FlightRecorder) -> Vec<Record> {
        recorder.errors(ERRORS).iter().filter_map(RawRecord::record).collect()
    }

    fn facts(status: u16, cause: Option<Cause>) -> Facts {
        Facts {
            at: Tick(0),
            duration: 1_234_567,
            connect: Some(0),
            first_byte: None,
            client: IpAddr::from([192, 0, 2, 7]),
            listener: Some(SocketAddr::from(([192, 0, 2, 2], 443))),
            endpoint: Some(SocketAddr::from(([192, 0, 2, 1], 8001)).into()),
            attempts: 2,
            status,
            bytes_in: 1 << 40,
            bytes_out: 5,
            end: End::Answered,
            phase: LogPhase::Wait,
            cause,
        }
    }

    fn text(uri: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for part in [b"GET", uri, b"HTTP/1.1", b"example.org"] {
            push_part(&mut text, part);
        }
        text
    }

    fn statuses(records: &[Record]) -> Vec<u16> {
        records.iter().map(|record| record.facts.status).collect()
    }

    #[test]
    fn what_is_known_of_an_exchange_is_read_as_it_was_written() {
        let endpoints = [
            None,
            Some(Address::Unix("/run/app.sock".into())),
            Some("192.0.2.1:80".parse::<SocketAddr>().unwrap().into()),
            Some("[2001:db8::1]:443".parse::<SocketAddr>().unwrap().into()),
            Some("[fe80::1%3]:443".parse::<SocketAddr>().unwrap().into()),
        ];
        let causes = Reason::ALL.iter().map(|&reason| Some(reason.into())).chain([None]);
        let faults = crate::http::Fault::ALL.iter().map(|&it| Some(Cause::of_request(it)));
        let ends = ENDS.iter().flat_map(|&end| PHASES.map(|phase| (end, phase)));
        let clients: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let mut wanted = Vec::new();
        for (nth, cause) in causes.chain(faults).enumerate() {
            let endpoint = endpoints[nth % endpoints.len()].clone();
            let listener = [None, Some("[2001:db8::2]:80".parse().unwrap())][nth % 2];
            wanted.push(Facts {
                endpoint,
                listener,
                client: clients[nth % 2],
                ..facts(502, cause)
            });
        }
        for (end, phase) in ends {
            let first_byte = Some(77);
            wanted.push(Facts { end, phase, first_byte, connect: None, ..facts(200, None) });
        }
        let recorder = FlightRecorder::default();
        for (nth, facts) in (0..).zip(&wanted) {
            recorder.record(nth, facts, [b"an-id", b"api:80"], &text(b"/a?b=c"));
        }
        let records = all(&recorder);
        assert_eq!(records.iter().map(|it| it.facts.clone()).collect::<Vec<_>>(), wanted);
        for (nth, record) in (0..).zip(&records) {
            assert_eq!(record.time, UNIX_EPOCH + Duration::from_micros(nth));
            let parts = [&b"an-id"[..], b"api:80", b"GET", b"/a?b=c", b"HTTP/1.1", b"example.org"];
            assert_eq!(record.parts()[..6], parts);
            assert!(record.parts()[6..].iter().all(|part| part.is_empty()));
        }
    }

    #[test]
    fn the_last_ones_are_kept_in_their_order() {
        let recorder = FlightRecorder::default();
        assert!(all(&recorder).is_empty() && errors(&recorder).is_empty());
        for nth in 0..3_000 {
            recorder.record(0, &facts(nth % 500, None), [b"", b""], b"");
        }
        let kept: Vec<u16> = (0..3_000).map(|nth| nth % 500).skip(3_000 - EXCHANGES).collect();
        assert_eq!(statuses(&all(&recorder)), kept);
        assert!(errors(&recorder).is_empty());
    }

    #[test]
    fn faults_of_clients_push_out_nothing_of_targets() {
        let recorder = FlightRecorder::default();
        recorder.record(0, &facts(500, None), [b"", b""], b"");
        recorder.record(1, &facts(504, Some(Reason::ConnectionTimeout.into())), [b"", b""], b"");
        for _ in 0..5_000 {
            recorder.record(2, &facts(400, Some(Reason::HttpRequestError.into())), [b"", b""], b"");
            recorder.record(3, &facts(200, None), [b"", b""], b"");
        }
        let errors = statuses(&errors(&recorder));
        let (refused, others) = errors.split_at(ERRORS);
        assert!(refused.iter().all(|&status| status == 400));
        assert_eq!(others, [500, 504]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_that_is_said() {
        let long = "\u{e9}".repeat(2_000).into_bytes();
        let endpoint = Some(Address::Unix("/run/app.sock".into()));
        let facts = Facts { endpoint, ..facts(200, None) };
        for len in (0..2 * TEXT).step_by(2) {
            let recorder = FlightRecorder::default();
            recorder.record(0, &facts, [b"an-id", b"api:80"], &text(&long[..len]));
            let record = all(&recorder).remove(0);
            let parts = record.parts();
            let uri = std::str::from_utf8(parts[TextPart::Uri as usize]).unwrap();
            assert!(record.cut || uri.len() == len, "{len}: {uri}");
            assert!(
                !record.cut || uri.len() <= len && parts[TextPart::Host as usize] != b"example.org"
            );
            assert_eq!(record.facts, facts);
        }
        let recorder = FlightRecorder::default();
        recorder.record(0, &facts, [&long, &long], b"");
        let record = all(&recorder).remove(0);
        assert!(record.cut && record.parts()[0].len() == NAME);
    }

    #[test]
    fn whatever_a_slot_holds_it_is_read_without_a_panic() {
        for word in [0, 1, 255, 256, u64::MAX, 1 << 63, 0x0101_0101_0101_0101] {
            let _ = unpack(&[word; WORDS]);
        }
    }
}
