//! The cases of the W3C's own test suite (`test/test.py` of the repository `w3c/trace-context`), by its names.

use super::*;
use crate::http::IdSource;

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";

/// What one who takes part sends on after these fields, and whether `tracestate` stays.
fn passed_on(parents: &[&str], states: &[&str]) -> (String, bool) {
    let mut ids = IdSource::default();
    ids.seed(1);
    // White space around a value is no part of it (RFC 9112 section 5.1).
    let came = TraceParent::only(parents.iter().map(|value| syntax::trim(value.as_bytes())));
    let mut line = Vec::new();
    TraceParent::next(came, &mut ids).append_field(&mut line);
    let line = String::from_utf8(line).unwrap();
    let value = line.strip_prefix("traceparent: ").unwrap().strip_suffix("\r\n").unwrap();
    assert!(TraceParent::parse(value.as_bytes()).is_some(), "{value}");
    assert!(&value[36..52] != PARENT && value.starts_with("00-"), "{value}");
    let stays = state_is_valid(states.iter().map(|value| syntax::trim(value.as_bytes())));
    (value.to_owned(), came.is_some() && stays)
}

#[track_caller]
fn is_kept(parent: &str) {
    let (value, _) = passed_on(&[parent], &[]);
    assert_eq!(&value[3..35], TRACE, "{parent:?}");
}

#[track_caller]
fn is_replaced(parents: &[&str]) {
    let (value, keeps_state) = passed_on(parents, &["foo=1"]);
    assert!(!parents.iter().any(|one| one.contains(&value[3..35])), "{parents:?}: {value}");
    assert!(value.ends_with("-03"), "{value}");
    assert!(!keeps_state, "{parents:?}");
}

/// With this `tracestate`, after a `traceparent` that is valid.
fn state(values: &[&str]) -> bool {
    let (value, keeps) = passed_on(&[&format!("00-{TRACE}-{PARENT}-00")], values);
    assert_eq!(&value[3..35], TRACE);
    keeps
}

#[test]
fn traceparent_missing_or_duplicated() {
    is_replaced(&[]);
    is_replaced(&[
        "00-12345678901234567890123456789011-1234567890123456-01",
        "00-12345678901234567890123456789012-1234567890123456-01",
    ]);
    let same = "00-12345678901234567890123456789012-1234567890123456-01";
    is_replaced(&[same, same]);
}

#[test]
fn traceparent_included() {
    let (value, _) = passed_on(&[&format!("00-{TRACE}-{PARENT}-01")], &[]);
    assert!(value.starts_with(&format!("00-{TRACE}-")) && value.ends_with("-01"), "{value}");
}

#[test]
fn traceparent_version_0x00() {
    is_replaced(&[&format!("00-{TRACE}-{PARENT}-01.")]);
    is_replaced(&[&format!("00-{TRACE}-{PARENT}-01-what-the-future-will-be-like")]);
}

#[test]
fn traceparent_version_0xcc() {
    is_kept(&format!("cc-{TRACE}-{PARENT}-01"));
    is_kept(&format!("cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like"));
    is_replaced(&[&format!("cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like")]);
}

#[test]
fn traceparent_version_0xff_illegal_too_long_or_too_short() {
    for version in ["ff", ".0", "0.", "000", "0000", "0", ""] {
        is_replaced(&[&format!("{version}-{TRACE}-{PARENT}-01")]);
    }
}

#[test]
fn traceparent_trace_id_zero_illegal_too_long_or_too_short() {
    for trace in [
        "00000000000000000000000000000000",
        ".2345678901234567890123456789012",
        "1234567890123456789012345678901.",
        "123456789012345678901234567890123",
        "1234567890123456789012345678901",
        "ABCDEF78901234567890123456789012",
    ] {
        is_replaced(&[&format!("00-{trace}-{PARENT}-01")]);
    }
}

#[test]
fn traceparent_parent_id_zero_illegal_too_long_or_too_short() {
    for parent in [
        "0000000000000000",
        ".234567890123456",
        "123456789012345.",
        "12345678901234567",
        "123456789012345",
    ] {
        is_replaced(&[&format!("00-{TRACE}-{parent}-01")]);
    }
}

#[test]
fn traceparent_trace_flags_illegal_too_long_or_too_short() {
    for flags in [".0", "0.", "001", "1", ""] {
        is_replaced(&[&format!("00-{TRACE}-{PARENT}-{flags}")]);
    }
}

#[test]
fn traceparent_ows_handling() {
    let value = format!("00-{TRACE}-{PARENT}-01");
    for (before, behind) in [(" ", ""), ("\t", ""), ("", " "), ("", "\t"), ("\t ", " \t")] {
        is_kept(&format!("{before}{value}{behind}"));
    }
}

#[test]
fn sampled_and_random_flags_are_kept_and_unknown_ones_are_not() {
    for (flags, sent) in
        [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")]
    {
        let (value, _) = passed_on(&[&format!("00-{TRACE}-{PARENT}-{flags}")], &[]);
        assert_eq!(&value[53..], sent);
    }
}

#[test]
fn tracestate_without_a_traceparent_goes() {
    for states in [&["foo=1"][..], &["foo=1,bar=2"], &["foo=1", "bar=2"]] {
        assert!(!passed_on(&[], states).1);
    }
}

#[test]
fn tracestate_valid() {
    for values in [
        &["foo=1,bar=2"][..],
        &["foo=1", ""],
        &["", "foo=1"],
        &["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
        &["foo=1,foo=1"],
        &["foo=1,foo=2"],
        &["foo=1", "foo=2"],
        &["foo=1 \t , \t bar=2, \t baz=3"],
        &["foo=1\t \t,\t \tbar=2,\t \tbaz=3"],
        &[" foo=1"],
        &["\tfoo=1"],
        &["foo=1 "],
        &["\t foo=1 \t"],
        &["foo@=1,bar=2"],
        &["foo@@bar=1,bar=2"],
        &["foo@bar@baz=1,bar=2"],
        &["0foo=1"],
    ] {
        assert!(state(values), "{values:?}");
    }
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (' '..='~').filter(|c| !",=".contains(*c)).collect();
    assert!(state(&[&format!("{key}={value}")]));
    assert!(state(&[&format!("{key}@a-z0-9_-*/={value}")]));
}

#[test]
fn tracestate_not_valid() {
    for values in [
        &[""][..],
        &["foo =1"],
        &["FOO=1"],
        &["foo.bar=1"],
        &["@foo=1,bar=2"],
        &["foo=bar=baz"],
        &["foo=,bar=3"],
        &["foo"],
        &["=1"],
        &["foo=\u{e4}"],
    ] {
        assert!(!state(values), "{values:?}");
    }
}

#[test]
fn tracestate_member_count_and_key_length_limits() {
    let members = |count: usize| {
        let all: Vec<String> = (1..=count).map(|at| format!("bar{at:02}={at:02}")).collect();
        all.join(",")
    };
    assert!(state(&[&members(10), &members(10), &members(10), &members(2)]));
    assert!(!state(&[&members(10), &members(10), &members(10), &members(3)]));
    for (key, is_valid) in [
        ("z".repeat(256), true),
        ("z".repeat(257), false),
        (format!("{}@{}", "t".repeat(241), "v".repeat(14)), true),
        (format!("{}@v", "t".repeat(242)), true),
        (format!("t@{}", "v".repeat(15)), true),
    ] {
        assert_eq!(state(&["foo=1", &format!("{key}=1")]), is_valid, "{key}");
    }
    assert!(state(&[&format!("a={}", "v".repeat(256))]));
    assert!(!state(&[&format!("a={}", "v".repeat(257))]));
}

#[test]
fn each_request_of_a_trace_has_a_parent_of_its_own() {
    let mut ids = IdSource::default();
    let came = TraceParent::parse(format!("00-{TRACE}-{PARENT}-01").as_bytes());
    let mut lines: Vec<Vec<u8>> = (0..1_000)
        .map(|_| {
            let mut line = Vec::new();
            TraceParent::next(came, &mut ids).append_field(&mut line);
            line
        })
        .collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 1_000);
}

#[test]
fn no_bytes_panic() {
    let whole = format!("cc-{TRACE}-{PARENT}-01-more");
    for len in 0..whole.len() {
        let _ = TraceParent::parse(&whole.as_bytes()[..len]);
    }
    for at in 0..whole.len() {
        for byte in [0, b'-', b'g', 0xff] {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] = byte;
            let _ = TraceParent::parse(&bytes);
        }
    }
}
