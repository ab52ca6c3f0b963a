//! Numbers from a seed, and messages made from other messages with them.

/// splitmix64: one seed, one sequence, on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `bound` - 1; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("a usize is no wider");
        usize::try_from(self.next() % bound).expect("it is below a usize")
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// What attackers put into heads and chunk lines.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\xa0",
    b"\xff",
    b":",
    b",",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"#",
    b"%",
    b"?",
    b"/",
    b"@",
    b"0",
    b"1",
    b"5",
    b"a",
    b"F",
    b"x",
    b"+",
    b"-",
    b"0x",
    b"00",
    b"_",
    b"0\r\n\r\n",
    b"\r\n ",
    b" :",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length : 3\r\n",
    b"Content_Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Content-Length\r\n",
    b"Connection: Host, Transfer-Encoding\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"Trailer: X\r\n",
    b";a=b",
    b";a=\"b;c\"",
    b";\"",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"3\r\nabc\r\n",
    b"ffffffffffffffff\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 100 Continue\r\n\r\n",
];

/// `text` with one to four faults, or an inset of `other`.
pub(crate) fn mutate(random: &mut Random, text: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let len = random.below(8).min(bytes.len() - at);
        match random.below(8) {
            0 | 1 => drop(bytes.splice(at..at, random.pick(PIECES).iter().copied())),
            2 => drop(bytes.splice(at..at + len, random.pick(PIECES).iter().copied())),
            3 => drop(bytes.drain(at..at + len)),
            4 => flip(random, &mut bytes, at),
            5 => {
                let again = bytes[at..at + len].to_vec();
                drop(bytes.splice(at..at, again));
            }
            6 => insert_line(random, &mut bytes),
            _ => {
                let from = random.below(other.len() + 1);
                let len = random.below(40).min(other.len() - from);
                drop(bytes.splice(at..at, other[from..from + len].iter().copied()));
            }
        }
    }
    bytes
}

fn flip(random: &mut Random, bytes: &mut [u8], at: usize) {
    let bit = random.below(8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

/// A piece at the beginning of a line, where it is likely to be a line of its own.
fn insert_line(random: &mut Random, bytes: &mut Vec<u8>) {
    let starts: Vec<usize> = bytes
        .windows(2)
        .enumerate()
        .filter(|(_, two)| two == b"\r\n")
        .map(|(at, _)| at + 2)
        .collect();
    if !starts.is_empty() {
        let at = *random.pick(&starts);
        drop(bytes.splice(at..at, random.pick(PIECES).iter().copied()));
    }
}
