//! The tables of refusals in docs/security.md, row by row.

use std::net::IpAddr;

use evenly::exchange::{ExchangeRules, Flow, Halves, Next, Output};
use evenly::http1::{ClientAddress, ClientHalf, HeadLimits, ServerHalf};

const PAGE: &str = include_str!("../docs/security.md");

/// What a client is answered that sends `input` on a fresh connection; `None` if its request is served.
fn refusal(input: &[u8]) -> Option<u16> {
    let rules = ExchangeRules {
        request_via: None,
        response_via: None,
        max_hops: 0,
        proxy_status: evenly::settings::ProxyStatus::Off,
        limits: HeadLimits { bytes: 16 * 1024, fields: 100 },
        fallback_host: "fallback".to_owned(),
        replay: true,
        describe: false,
        draining: false,
    };
    let address = ClientAddress { ip: IpAddr::from([192, 0, 2, 1]), trusted: false };
    let (mut client, mut target) = (ServerHalf::READY, ClientHalf::READY);
    let halves = Halves { client: &mut client, target: &mut target };
    let (mut flow, mut out) = (Flow::READY, Output::default());
    let step = flow.client_bytes(&rules, &address, halves, &mut input.to_vec(), &mut out);
    (step.next == Next::Answered).then(|| flow.status())
}

/// The bytes that an example stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        let escaped = if char == '\\' { rest.next() } else { None };
        match escaped {
            None => bytes.extend_from_slice(char.to_string().as_bytes()),
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two hex digits"));
            }
            Some(other) => panic!("\\{other} in {text:?}"),
        }
    }
    bytes
}

/// The examples of one section, with the status beside each.
fn rows(section: &str) -> Vec<(Vec<u8>, u16)> {
    let start = PAGE.find(&format!("### {section}\n")).expect("the section");
    let lines = PAGE[start..].lines().skip(1).take_while(|line| !line.starts_with('#'));
    let rows = lines.filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, example, status, _] = cells[..] else { panic!("{row}") };
        let example = example.trim_matches(' ').strip_prefix('`').and_then(|e| e.strip_suffix('`'));
        (unescape(example.unwrap_or_default()), status.trim().parse().expect("a status"))
    })
    .filter(|(example, _)| !example.is_empty())
    .collect()
}

fn check(section: &str, least: usize, message: impl Fn(&[u8]) -> Vec<u8>) {
    let rows = rows(section);
    assert!(rows.len() >= least, "{section} has {} examples", rows.len());
    for (example, status) in rows {
        let message = message(&example);
        assert_eq!(refusal(&message), Some(status), "{}", message.escape_ascii());
    }
}

#[test]
fn every_request_line_on_the_page_is_answered_as_it_says() {
    check("Request line", 20, |line| [line, b"\r\nHost: a\r\n\r\n"].concat());
}

#[test]
fn every_field_on_the_page_is_answered_as_it_says() {
    check("Fields", 15, |fields| [b"POST / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n"].concat());
    let names = vec!["a"; 129].join(",");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {names}\r\n\r\n");
    assert_eq!(refusal(many.as_bytes()), Some(400));
}

#[test]
fn every_chunk_on_the_page_is_answered_as_it_says() {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    check("Chunked bodies", 8, |body| [HEAD, body].concat());
    assert_eq!(refusal(&[HEAD, b"5\r\nhello\r\n0\r\n\r\n"].concat()), None);
}
