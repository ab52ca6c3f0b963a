//! How requests are called on their way: `X-Request-ID`, and the trace that they belong to.

use crate::harness::{Client, End, Evenly, Head, Origin, Start, Then, answer};

/// What the client is answered, and what its target got.
#[track_caller]
fn asked(evenly: &Evenly, origin: &Origin, fields: &str) -> (Head, Head) {
    let mut client = evenly.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200);
    (response.head, origin.last_head())
}

#[track_caller]
fn only<'h>(head: &'h Head, name: &str) -> &'h str {
    match head.all(name)[..] {
        [one] => one,
        ref other => panic!("{name}: {other:?}"),
    }
}

fn is_uuid_7(id: &str) -> bool {
    let digits = id.bytes().filter(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
    let dashes = [8, 13, 18, 23].iter().all(|&at| id.as_bytes().get(at) == Some(&b'-'));
    id.len() == 36 && digits == 32 && dashes && id.as_bytes()[14] == b'7'
}

#[test]
fn a_request_and_its_response_have_one_new_name_which_no_stranger_can_choose() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "request_id = true");
    let mut seen = Vec::new();
    for fields in ["", "X-Request-ID: mine\r\n", "x_request_id: mine\r\nX-Request-Id: a\r\n"] {
        let (response, request) = asked(&evenly, &origin, fields);
        let id = only(&request, "X-Request-ID");
        assert!(is_uuid_7(id), "{id}");
        assert_eq!(only(&response, "X-Request-ID"), id);
        assert!(request.all("x_request_id").is_empty());
        seen.push(id.to_owned());
    }
    let millis = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis();
    for id in &seen {
        let made = u128::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
        assert!(millis.abs_diff(made) < 60_000, "{id}: the time of its turn");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_trusted_clients_name_is_kept_if_it_is_harmless() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "request_id = true\ntrusted_proxies = [\"127.0.0.1\"]");
    for id in ["Root=1-67891233-abcdef012345678912345678", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"] {
        let (response, request) = asked(&evenly, &origin, &format!("x-request-id: {id}\r\n"));
        assert_eq!((only(&request, "X-Request-ID"), only(&response, "X-Request-ID")), (id, id));
    }
    for fields in [
        "X-Request-ID: a b\r\n".to_owned(),
        "X-Request-ID: a\r\nX-Request-ID: a\r\n".to_owned(),
        format!("X-Request-ID: {}\r\n", "a".repeat(129)),
    ] {
        let (_, request) = asked(&evenly, &origin, &fields);
        assert!(is_uuid_7(only(&request, "X-Request-ID")), "{fields}");
    }
}

#[test]
fn what_evenly_answers_itself_has_a_name_too() {
    let origin = Origin::saying("", Then::Close);
    let evenly = Evenly::with(&[&origin], "request_id = true");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200),
    ] {
        let mut client = evenly.client();
        client.send(request);
        let response = client.response();
        assert_eq!(response.status, status);
        assert!(is_uuid_7(only(&response.head, "X-Request-ID")), "{request}");
    }
}

#[test]
fn without_the_keys_all_of_it_passes_as_it_is() {
    let origin = Origin::start(|wire, _| {
        let _ = wire.send("HTTP/1.1 200 OK\r\nX-Request-ID: theirs\r\nContent-Length: 0\r\n\r\n");
        Then::Next
    });
    let evenly = Evenly::before(&[&origin]);
    let fields =
        "X-Request-ID: a b\r\nTraceparent: nonsense\r\ntraceparent: x\r\ntracestate: ?\r\n";
    let (response, request) = asked(&evenly, &origin, fields);
    assert_eq!(only(&request, "X-Request-ID"), "a b");
    assert_eq!(request.all("traceparent"), ["nonsense", "x"]);
    assert_eq!(only(&request, "tracestate"), "?");
    assert_eq!(only(&response, "X-Request-ID"), "theirs");
}

#[test]
fn a_reload_turns_names_on_and_off() {
    let origin = Origin::named("a");
    let file = |more: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\n{more}\n[[targets]]\naddress = \"{}\"\n",
            origin.target()
        )
    };
    let evenly = Start::of(&file("")).start();
    let mut client = evenly.client();
    let mut name = |evenly: &Evenly| {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let _ = (client.response(), evenly);
        origin.last_head().field("X-Request-ID").map(str::to_owned)
    };
    assert_eq!(name(&evenly), None);
    evenly.reload(&file("request_id = true"));
    let id = name(&evenly).expect("a name");
    assert!(is_uuid_7(&id) && !id.starts_with("00000000"), "{id}");
    evenly.reload(&file(""));
    assert_eq!(name(&evenly), None);
}

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "1234567890123456";

#[test]
fn a_trace_goes_on_with_a_parent_of_its_own() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "trace = true");
    let mut parents = Vec::new();
    for (version, flags, sent) in
        [("00", "01", "01"), ("00", "00", "00"), ("00", "02", "02"), ("cc", "ff", "03")]
    {
        let fields = format!(
            "TraceParent:  {version}-{TRACE}-{PARENT}-{flags}\t\r\ntracestate: a=1\r\nTRACESTATE: b=2\r\n"
        );
        let (response, request) = asked(&evenly, &origin, &fields);
        let value = only(&request, "traceparent");
        assert!(value.starts_with(&format!("00-{TRACE}-")) && value.ends_with(&format!("-{sent}")));
        parents.push(value[36..52].to_owned());
        assert_eq!(request.all("tracestate"), ["a=1", "b=2"]);
        assert!(response.field("traceparent").is_none());
    }
    parents.push(PARENT.to_owned());
    parents.sort();
    parents.dedup();
    assert_eq!(parents.len(), 5);
}

#[test]
fn a_trace_that_is_not_valid_is_replaced_and_its_state_goes() {
    let origin = Origin::named("a");
    let evenly = Evenly::with(&[&origin], "trace = true");
    let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    for fields in [
        String::new(),
        format!("traceparent: ff-{TRACE}-{PARENT}-01\r\n"),
        format!("traceparent: 00-{TRACE}-{PARENT}-01-more\r\n"),
        format!("traceparent: 00-{TRACE}-0000000000000000-01\r\n"),
        format!("trace-parent: 00-{TRACE}-{PARENT}-01\r\n"),
        format!("{valid}{valid}"),
    ] {
        let (_, request) = asked(&evenly, &origin, &format!("{fields}tracestate: a=1\r\n"));
        let value = only(&request, "traceparent");
        assert!(value.len() == 55 && value.ends_with("-03") && !value.contains(TRACE), "{value}");
        assert!(request.field("tracestate").is_none(), "{fields}");
    }
    for state in ["foo =1", "FOO=1", "foo=bar=baz", "foo=,bar=3", ""] {
        let (_, request) = asked(&evenly, &origin, &format!("{valid}tracestate: {state}\r\n"));
        assert!(only(&request, "traceparent").contains(TRACE));
        assert!(request.field("tracestate").is_none(), "{state}");
    }
}

#[test]
fn a_request_is_called_the_same_when_it_is_sent_again() {
    let broken = Origin::start(|_, _| Then::Close);
    let sound = Origin::named("b");
    let evenly = Evenly::with(&[&broken, &sound], "request_id = true\ntrace = true");
    for _ in 0..4 {
        let (response, request) = asked(&evenly, &sound, "");
        let id = only(&response, "X-Request-ID");
        assert_eq!(only(&request, "X-Request-ID"), id);
        only(&request, "traceparent");
        if broken.requests() > 0 && only(&broken.last_head(), "X-Request-ID") == id {
            return;
        }
    }
    panic!("no request was sent again");
}

#[test]
fn a_request_may_come_back_as_often_as_it_is_allowed_to() {
    for (max_hops, passes) in [(0, 1), (2, 3)] {
        let origin = Origin::start(move |wire, head| {
            // Back to where it came from, as a proxy would.
            let address = head.field("X-Back").expect("where it came from").parse().unwrap();
            let via: Vec<String> =
                head.all("Via").iter().map(|via| format!("Via: {via}\r\n")).collect();
            let mut client = Client::to(address);
            client.send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-Back: {address}\r\n{}\r\n",
                via.concat()
            ));
            let response = client.response();
            answer(wire, format!("{}+{}", response.status, response.text()))
        });
        let evenly = Evenly::with(&[&origin], &format!("max_hops = {max_hops}"));
        let mut client = evenly.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Back: {}\r\n\r\n", evenly.address()));
        let response = client.response();
        assert_eq!(response.text().matches("200+").count() + 1, passes, "{}", response.text());
        assert!(response.text().contains("508+"), "{}", response.text());
        assert_eq!(origin.requests(), passes);
        client.shutdown();
        assert_eq!(client.end(), End::Fin);
    }
}
