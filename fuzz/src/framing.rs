//! Any set of framing fields against a second reading of RFC 9112 section 6.3, written plainly from its text.

use arbitrary::Arbitrary;
use evenly::http1::{BodyLength, FieldSpace, Method, Progress, parse_request, parse_response};

use crate::LIMITS;

/// A head of nothing but framing fields.
#[derive(Arbitrary, Debug)]
pub struct Message {
    old: bool,
    method: u8,
    status: u8,
    fields: Vec<Field>,
}

#[derive(Arbitrary, Debug)]
enum Field {
    Length(Text),
    Coding(Text),
    Other(Text),
}

#[derive(Arbitrary, Debug)]
enum Text {
    Five,
    Zero,
    Number(u64),
    Chunked,
    Loud,
    Spaced,
    Listed,
    Identity,
    Any(Vec<u8>),
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Text::Five => b"5".to_vec(),
            Text::Zero => b"0".to_vec(),
            Text::Number(number) => number.to_string().into_bytes(),
            Text::Chunked => b"chunked".to_vec(),
            Text::Loud => b"CHUNKED".to_vec(),
            Text::Spaced => b"\t chunked \t".to_vec(),
            Text::Listed => b"gzip, chunked".to_vec(),
            Text::Identity => b"identity".to_vec(),
            // What may stand in a value: how a head with other bytes is refused is for the target `head`.
            Text::Any(bytes) => {
                bytes.iter().copied().filter(|b| matches!(b, 9 | 32..=126 | 128..)).collect()
            }
        }
    }
}

const METHODS: [(&str, Method); 3] =
    [("GET", Method::Get), ("HEAD", Method::Head), ("POST", Method::Post)];

/// Status codes of every class that section 6.3 tells apart.
const STATUSES: [u16; 8] = [100, 101, 200, 204, 205, 304, 404, 599];

/// Whose message it is: a target may write its one meaning in more ways than a client.
#[derive(Clone, Copy, PartialEq)]
enum Sender {
    Client,
    Target,
}

/// What rules 3 to 5 of section 6.3 leave, in our strict reading. `None` is a refusal.
enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

fn declared(message: &Message, sender: Sender) -> Option<Declared> {
    let trimmed = |text: &Text| -> Vec<u8> {
        let text = String::from_utf8_lossy(&text.bytes()).into_owned();
        text.trim_matches([' ', '\t']).as_bytes().to_vec()
    };
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for field in &message.fields {
        match field {
            Field::Length(text) => lengths.push(trimmed(text)),
            Field::Coding(text) => codings.push(trimmed(text)),
            Field::Other(_) => {}
        }
    }
    if let [coding] = &codings[..] {
        let elements = elements(coding);
        let mut named = elements.iter().filter(|element| !element.is_empty());
        let is_chunked = |element: &[u8]| element.eq_ignore_ascii_case(b"chunked");
        let is_exact = match sender {
            Sender::Client => is_chunked(coding) && !message.old,
            Sender::Target => {
                named.next().is_some_and(|it| is_chunked(it)) && named.next().is_none()
            }
        };
        return (is_exact && lengths.is_empty()).then_some(Declared::Chunked);
    }
    let Some(first) = lengths.first() else {
        return codings.is_empty().then_some(Declared::Nothing);
    };
    let is_one = lengths.iter().all(|length| length == first);
    let number = match sender {
        Sender::Client => number(first),
        Sender::Target => {
            let mut numbers = elements(first).into_iter().map(|element| number(&element));
            let first = numbers.next().flatten();
            first.filter(|_| numbers.all(|number| number == first))
        }
    };
    number.filter(|_| is_one && codings.is_empty()).map(Declared::Length)
}

/// The elements of a list, without the blanks around them.
fn elements(value: &[u8]) -> Vec<Vec<u8>> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let trimmed = |element: &[u8]| {
        let start = element.iter().take_while(|byte| blank(byte)).count();
        let end = element.iter().rev().take_while(|byte| blank(byte)).count();
        element.get(start..element.len().saturating_sub(end)).unwrap_or_default().to_vec()
    };
    value.split(|&byte| byte == b',').map(trimmed).collect()
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    text.parse::<u64>().ok().filter(|number| *number <= i64::MAX as u64)
}

fn field_lines(message: &Message) -> Vec<u8> {
    let mut lines = Vec::new();
    for field in &message.fields {
        let (name, text) = match field {
            Field::Length(text) => ("Content-LENGTH:", text),
            Field::Coding(text) => ("transfer-Encoding:", text),
            Field::Other(text) => ("X-Content-Length: ", text),
        };
        lines.extend_from_slice(name.as_bytes());
        lines.extend_from_slice(&text.bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines.extend_from_slice(b"\r\n");
    lines
}

pub fn check(message: &Message) {
    let lines = field_lines(message);
    if message.fields.len() > 90 || lines.len() > 8 * 1024 {
        return;
    }
    let version = if message.old { "HTTP/1.0" } else { "HTTP/1.1" };
    let (name, method) = METHODS[usize::from(message.method) % METHODS.len()];
    let status = STATUSES[usize::from(message.status) % STATUSES.len()];
    let request = [format!("{name} / {version}\r\nHost: a\r\n").as_bytes(), &lines].concat();
    let response = [format!("{version} {status} x\r\n").as_bytes(), &lines].concat();
    let expected = declared(message, Sender::Client);
    let mut space = FieldSpace::new();
    let read = match parse_request(&request, LIMITS, &mut space) {
        Ok(Progress::Complete(head)) => Some(head.body),
        Ok(Progress::Partial) => panic!("a whole head is unfinished"),
        Err(_) => None,
    };
    let rule = expected.map(|declared| match declared {
        Declared::Nothing => BodyLength::None,
        Declared::Length(length) => BodyLength::Length(length),
        Declared::Chunked => BodyLength::Chunked,
    });
    assert_eq!(read, rule, "\"{}\"", request.escape_ascii());
    let mut space = FieldSpace::new();
    let read = match parse_response(&response, LIMITS, &mut space) {
        Ok(Progress::Complete(head)) => head.body(method).ok(),
        Ok(Progress::Partial) => panic!("a whole head is unfinished"),
        Err(_) => None,
    };
    let expected = declared(message, Sender::Target);
    let has_none = method == Method::Head || matches!(status, 100..=199 | 204 | 304);
    let rule = expected.map(|declared| match declared {
        _ if has_none => BodyLength::None,
        Declared::Nothing => BodyLength::UntilClose,
        Declared::Length(length) => BodyLength::Length(length),
        Declared::Chunked => BodyLength::Chunked,
    });
    assert_eq!(read, rule, "\"{}\"", response.escape_ascii());
}
