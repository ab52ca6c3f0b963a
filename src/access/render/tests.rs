//! Lines of every format.

use proptest::prelude::*;

use super::super::{End, LogPhase, push_refused};
use super::*;
use crate::base::tick::Tick;

fn facts() -> Facts {
    Facts {
        at: Tick(0),
        duration: 1_500,
        connect: Some(250),
        first_byte: Some(1_250),
        listener: Some(SocketAddr::from(([192, 0, 2, 9], 8080))),
        client: IpAddr::from([192, 0, 2, 1]),
        endpoint: Some(SocketAddr::from(([127, 0, 0, 1], 8001)).into()),
        attempts: 1,
        status: 200,
        bytes_in: 7,
        bytes_out: 128,
        end: End::Finished,
        phase: LogPhase::Response,
        cause: None,
    }
}

const PARTS_OF_ONE: [&[u8]; PARTS] = [
    b"0198-id",
    b"http-api:8001",
    b"GET",
    b"/a\"b",
    b"HTTP/1.1",
    b"example.org:8080",
    b"",
    b"x\xff\n",
    b"4bf92f3577b34da6a3ce929d0e0e4736",
    b"",
    b"",
];

fn template(text: &str) -> AccessFormat {
    AccessFormat::Template(LogTemplate::parse(text).unwrap())
}

fn rendered_of(format: &AccessFormat, facts: &Facts, parts: &[&[u8]; PARTS]) -> String {
    let mut out = Vec::new();
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    Renderer::new(format).line(time, facts, parts, &mut out);
    String::from_utf8(out).unwrap()
}

fn rendered(format: &AccessFormat) -> String {
    rendered_of(format, &facts(), &PARTS_OF_ONE)
}

#[test]
fn json_is_one_object_a_line_with_every_field() {
    let text = rendered(&AccessFormat::Json);
    assert_eq!(text.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, wanted) in [
        ("time", "2001-09-09T01:46:40.000Z".into()),
        ("request_id", "0198-id".into()),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736".into()),
        ("client", "192.0.2.1".into()),
        ("method", "GET".into()),
        ("uri", "/a\"b".into()),
        ("protocol", "HTTP/1.1".into()),
        ("tls", serde_json::Value::Null),
        ("host", "example.org:8080".into()),
        ("status", 200.into()),
        ("bytes_in", 7.into()),
        ("bytes_out", 128.into()),
        ("target", "http-api:8001".into()),
        ("endpoint", "127.0.0.1:8001".into()),
        ("attempts", 1.into()),
        ("connect_ms", 0.25.into()),
        ("first_byte_ms", 1.25.into()),
        ("duration_ms", 1.5.into()),
        ("end", "finished".into()),
        ("ended_by", serde_json::Value::Null),
        ("phase", serde_json::Value::Null),
        ("reason", serde_json::Value::Null),
        ("detail", serde_json::Value::Null),
        ("referer", "".into()),
        ("line", serde_json::Value::Null),
    ] {
        assert_eq!(value[name], wanted, "{name}");
    }
    let names: Vec<&str> = LogField::of_json().map(LogField::name).collect();
    assert_eq!(value.as_object().unwrap().len(), names.len());
    assert!(names.iter().all(|name| value.get(name).is_some()));
}

#[test]
fn what_is_not_there_is_null_in_json_and_a_dash_elsewhere() {
    let facts = Facts { endpoint: None, connect: None, first_byte: None, ..facts() };
    let value: serde_json::Value =
        serde_json::from_str(&rendered_of(&AccessFormat::Json, &facts, &[b""; PARTS])).unwrap();
    for name in ["request_id", "method", "uri", "protocol", "target", "endpoint", "connect_ms"] {
        assert!(value[name].is_null(), "{name}");
    }
    assert_eq!((&value["host"], &value["referer"]), (&"".into(), &"".into()));
    let text = "{request_id} {method} {endpoint} {connect_ms} {reason} {host} \"{request}\" {tls}";
    let line = rendered_of(&template(text), &facts, &[b""; PARTS]);
    assert_eq!(line, "- - - - - - \"-\" -\n");
}

#[test]
fn combined_escapes_what_could_break_a_line() {
    assert_eq!(
        rendered(&AccessFormat::Combined),
        "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"GET /a\\\"b HTTP/1.1\" 200 128 \"-\" \
         \"x\\xff\\x0a\"\n"
    );
}

#[test]
fn vhost_combined_has_the_host_and_its_port_in_front() {
    let vhost = |host: &'static [u8]| {
        let mut parts = PARTS_OF_ONE;
        parts[TextPart::Host as usize] = host;
        let line = rendered_of(&AccessFormat::VhostCombined, &facts(), &parts);
        line.split(" 192.0.2.1 - - [").next().unwrap().to_owned()
    };
    assert_eq!(vhost(b"example.org:8080"), "example.org:8080");
    assert_eq!(vhost(b"example.org"), "example.org:80");
    assert_eq!(vhost(b"[2001:db8::1]"), "[2001:db8::1]:80");
    assert_eq!(vhost(b"[2001:db8::1]:81"), "[2001:db8::1]:81");
    assert_eq!(vhost(b""), "-:80");
    assert_eq!(vhost(b"a b"), "a\\x20b:80");
}

#[test]
fn a_request_that_was_not_valid_shows_its_line_as_far_as_that_is_safe() {
    let mut text = vec![0; 2];
    push_refused(&mut text, b"\x16\x03\0\x01\"\x1b[31m\r\nA: b\r\n");
    let parts = super::super::parts_of(&text);
    let value: serde_json::Value =
        serde_json::from_str(&rendered_of(&AccessFormat::Json, &facts(), &parts)).unwrap();
    assert_eq!(value["line"], "\u{16}\u{3}\0\u{1}\"\u{1b}[31m");
    assert!(value["method"].is_null() && value["uri"].is_null());
    let combined = rendered_of(&AccessFormat::Combined, &facts(), &parts);
    assert!(combined.contains(" \"\\x16\\x03\\x00\\x01\\\"\\x1b[31m\" "), "{combined}");
}

#[test]
fn a_trusted_proxys_client_is_shown_if_it_is_an_address() {
    for (forwarded, shown) in [("203.0.113.9", "203.0.113.9"), ("2001:db8::9", "2001:db8::9")] {
        let mut parts = PARTS_OF_ONE;
        parts[TextPart::Forwarded as usize] = forwarded.as_bytes();
        assert_eq!(rendered_of(&template("{client}"), &facts(), &parts), format!("{shown}\n"));
        parts[TextPart::Forwarded as usize] = b"unknown \"";
        assert_eq!(rendered_of(&template("{client}"), &facts(), &parts), "192.0.2.1\n");
    }
}

#[test]
fn a_bare_field_holds_no_space_and_not_what_stands_behind_one() {
    let mut parts = PARTS_OF_ONE;
    parts[TextPart::UserAgent as usize] = b"a|b c\"d\\";
    let agent = |text: &str| rendered_of(&template(text), &facts(), &parts);
    assert_eq!(agent("{user_agent}"), "a|b\\x20c\\x22d\\\\\n");
    assert_eq!(agent("{status}|{user_agent}|{attempts}"), "200|a\\x7cb\\x20c\\x22d\\\\|1\n");
    assert_eq!(agent("\"{user_agent}\""), "\"a|b c\\\"d\\\\\"\n");
    assert_eq!(agent("{{{status}}}"), "{200}\n");
}

#[test]
fn every_string_is_what_a_json_parser_reads_back() {
    let all: Vec<u8> = (0..=255).collect();
    // Each byte at each place within a block, between clean bytes.
    for at in 0..40 {
        for &byte in &all {
            let mut text = vec![b'a'; 40];
            text[at] = byte;
            let mut out = Vec::new();
            string(&mut out, &text);
            let read: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, String::from_utf8_lossy(&text));
        }
    }
    let active = "a\u{9b}31m\u{7f}\u{202e}\u{2028} \"\u{85}\u{e4}\u{2069}";
    let mut out = Vec::new();
    string(&mut out, active.as_bytes());
    assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), active);
    let written = String::from_utf8(out).unwrap();
    assert!(!written.contains(is_active) && written.contains('\u{e4}'), "{written}");
    let mut out = Vec::new();
    string(&mut out, "gr\u{fc}n \u{1f600}".as_bytes());
    assert_eq!(String::from_utf8(out).unwrap(), "\"gr\u{fc}n \u{1f600}\"");
}

#[test]
fn the_time_goes_on_within_a_second_and_from_one_to_the_next_in_every_format() {
    let mut json = Renderer::new(&AccessFormat::Json);
    let mut others = Renderer::new(&template("{time}|{time_clf}|{time_unix}"));
    for (millis, iso, clf, unix) in [
        (1_007, "01.007Z", "01 +0000", "1.007"),
        (1_999, "01.999Z", "01 +0000", "1.999"),
        (2_000, "02.000Z", "02 +0000", "2.000"),
        // It was put back.
        (1_500, "01.500Z", "01 +0000", "1.500"),
        (86_400_000, "00.000Z", "00 +0000", "86400.000"),
    ] {
        let time = UNIX_EPOCH + Duration::from_millis(millis);
        let (mut out, mut line) = (Vec::new(), Vec::new());
        json.line(time, &facts(), &PARTS_OF_ONE, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(value["time"].as_str().unwrap().ends_with(iso), "{value}");
        others.line(time, &facts(), &PARTS_OF_ONE, &mut line);
        let line = String::from_utf8(line).unwrap();
        let [one, two, three] = line.trim_end().split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert!(one.ends_with(iso) && two.ends_with(clf), "{line}");
        assert_eq!(three, unix);
    }
}

/// Bytes as they come from elsewhere: any, and those that lines and terminals give a meaning to.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::sample::select(vec![
            "\n",
            "\r\n",
            "\t",
            " ",
            "\"",
            "\\",
            "\\\"",
            "|",
            ",",
            ";",
            "[",
            "]",
            "{",
            "}",
            "\u{1b}[2J",
            "\u{9b}31m",
            "\u{202e}",
            "\u{2028}",
            "\u{85}",
            "200",
            "-",
            "a",
            "\u{e4}",
            "\u{1f600}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| {
        let mut text = pieces.concat();
        // No head and no name holds one.
        text.retain(|byte| *byte != 0);
        text
    })
}

/// Templates of fields between text of all kinds, some of them in quotes.
fn templates() -> impl Strategy<Value = String> {
    let field = prop::sample::select(LogField::ALL.to_vec());
    let between = prop::sample::select(vec![" ", "|", ", ", "; ", "\t", " - ", "] [", " x="]);
    let piece = (field, any::<bool>(), between).prop_map(|(field, quoted, between)| {
        let quote = if quoted { "\"" } else { "" };
        format!("{quote}{{{}}}{quote}{between}", field.name())
    });
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

/// Takes a line of a template apart as its reader would: what stands at the place of each field.
fn values<'l>(template: &LogTemplate, line: &'l str) -> Option<Vec<&'l str>> {
    let (mut rest, mut values) = (line, Vec::new());
    let pieces = template.pieces();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            LogPiece::Text(text) => rest = rest.strip_prefix(text.as_str())?,
            LogPiece::Quoted(_) => {
                let mut escaped = false;
                let end = rest.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                })?;
                values.push(&rest[..end]);
                rest = &rest[end..];
            }
            // Ours, and it has a space.
            LogPiece::Bare(LogField::TimeClf) => {
                values.push(rest.get(.."01/Jan/1970:00:00:00 +0000".len())?);
                rest = rest.get("01/Jan/1970:00:00:00 +0000".len()..)?;
            }
            LogPiece::Bare(_) => {
                let end = match pieces.get(at + 1) {
                    Some(LogPiece::Text(text)) => rest.find(text.chars().next()?)?,
                    _ => rest.len(),
                };
                values.push(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    rest.is_empty().then_some(values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No byte of a client, a target or the configuration tears a line, forges a field of it, or reaches a terminal raw.
    #[test]
    fn no_byte_from_elsewhere_leaves_its_field(
        texts in proptest::collection::vec(hostile(), PARTS),
        path in "[^\\x00]{0,20}",
        text in templates(),
        milliseconds in 0..4_000_000_000_000_u64,
    ) {
        let mut parts: [&[u8]; PARTS] = [b""; PARTS];
        for (part, text) in parts.iter_mut().zip(&texts) {
            *part = text;
        }
        let facts = Facts { endpoint: Some(Address::Unix(path.as_str().into())), ..facts() };
        let time = UNIX_EPOCH + Duration::from_millis(milliseconds);
        let line = |format: &AccessFormat| {
            let mut out = Vec::new();
            Renderer::new(format).line(time, &facts, &parts, &mut out);
            String::from_utf8(out).expect("a line is text")
        };
        let json = line(&AccessFormat::Json);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(value.as_object().unwrap().len(), LogField::of_json().count());
        prop_assert_eq!(value["user_agent"].as_str().unwrap(), String::from_utf8_lossy(parts[TextPart::UserAgent as usize]));
        let template = LogTemplate::parse(&text).unwrap();
        let own = line(&AccessFormat::Template(template.clone()));
        for line in [&json, &own, &line(&AccessFormat::Combined), &line(&AccessFormat::VhostCombined)] {
            let inner = line.strip_suffix('\n').expect("a line end");
            let raw = inner.chars().find(|c| is_active(*c) && !(*c == '\t' && text.contains('\t')));
            prop_assert_eq!(raw, None, "{}", line);
        }
        let fields = template.pieces().iter().filter(|it| !matches!(it, LogPiece::Text(_))).count();
        let found = values(&template, own.trim_end_matches('\n'));
        prop_assert_eq!(found.map(|it| it.len()), Some(fields), "{} of {}", own, text);
        for (format, text) in [(AccessFormat::Combined, COMBINED), (AccessFormat::VhostCombined, VHOST_COMBINED)] {
            let template = LogTemplate::parse(text).unwrap();
            let line = line(&format);
            prop_assert!(values(&template, line.trim_end_matches('\n')).is_some(), "{}", line);
        }
    }
}
