//! The client: exit codes, fields, bodies, and the lookup through the demo's resolver.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use crate::harness::Program;

const CLIENT: &str = env!("CARGO_BIN_EXE_ingress-client");
const API: &str = env!("CARGO_BIN_EXE_spells-api");
const AUTHORITY: &str = env!("CARGO_BIN_EXE_dns-authority");
const RESOLVER: &str = env!("CARGO_BIN_EXE_dns-resolver");

/// Exit code, standard output, standard error.
#[track_caller]
fn client(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(CLIENT).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A server of one connection: reads a request with its body, answers with `answer`, and returns what it read.
fn server(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut request).unwrap() > 0);
        }
        let head = request.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        std::io::Read::read_exact(&mut reader, &mut body).unwrap();
        reader.get_mut().write_all(answer).unwrap();
        request + std::str::from_utf8(&body).unwrap()
    });
    (address, serving)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi";

#[test]
fn prints_the_body_and_with_i_the_head_before_it() {
    let api = Program::start(API, &[]);
    let url = format!("http://{}/spells/1", api.address);
    let (code, out, err) = client(&[&url]);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(out, "{\"id\":1,\"name\":\"Lumos\",\"description\":\"Wand-Lighting Charm\"}\n");
    let (_, with_head, _) = client(&["-i", &url]);
    assert!(with_head.starts_with("HTTP/1.1 200 OK\n"), "{with_head}");
    assert!(with_head.contains("\nx-served-by: http-api-1\n"), "{with_head}");
    assert!(with_head.ends_with(&format!("\n\n{out}")), "{with_head}");
}

#[test]
fn a_body_is_posted_as_json_and_other_methods_are_sent_as_given() {
    let api = Program::start(API, &[]);
    let url = format!("{}/spells", api.address);
    let (code, out, _) =
        client(&["-i", "-d", r#"{"id":3,"name":"Alohomora","description":"x"}"#, &url]);
    assert_eq!(code, 0);
    assert!(out.starts_with("HTTP/1.1 201 Created"), "{out}");
    let (code, out, err) = client(&["-X", "DELETE", &format!("{url}/3")]);
    assert_eq!((code, &*out, &*err), (0, "", ""));
}

#[test]
fn fields_are_sent_as_given_and_take_the_place_of_its_own() {
    let (address, serving) = server(OK);
    let url = format!("http://{address}/a?b=c");
    let (code, _, _) = client(&[
        "-X",
        "PUT",
        "-H",
        "X-One: 1",
        "-H",
        "content-type: text/plain",
        "-H",
        "Host: other",
        "-d",
        "-dash",
        &url,
    ]);
    assert_eq!(code, 0);
    let request = serving.join().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("put /a?b=c http/1.1\r\n"), "{request}");
    for part in ["\r\nx-one: 1\r\n", "\r\ncontent-type: text/plain\r\n", "\r\nhost: other\r\n"] {
        assert_eq!(request.matches(part).count(), 1, "{part:?} in {request}");
    }
    assert!(request.ends_with("\r\n\r\n-dash") && !request.contains("json"), "{request}");
}

#[test]
fn a_status_of_400_or_more_is_22_with_the_body_printed_and_the_status_said() {
    let api = Program::start(API, &[]);
    let url = format!("{}/spells/9", api.address);
    let (code, out, err) = client(&[&url]);
    assert_eq!((code, &*out), (22, "{\"error\":\"no spell 9\"}\n"));
    assert_eq!(err, "ingress-client: 404 Not Found\n");
    let (code, out, err) = client(&["-i", &url]);
    assert_eq!((code, &*err), (22, ""));
    assert!(out.starts_with("HTTP/1.1 404 Not Found\n"), "{out}");
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed_url = format!("http://{closed}/");
    for (arguments, wanted, part) in [
        (vec!["https://spells.test/"], 1, "no TLS"),
        (vec!["--nonsense"], 2, "--nonsense"),
        (vec!["-H", "no colon", "http://127.0.0.1/"], 2, "Name: value"),
        (vec!["http://a:b/"], 3, "its port"),
        (vec![&*closed_url], 7, "could not connect"),
    ] {
        let (code, out, err) = client(&arguments);
        assert_eq!((code, &*out), (wanted, ""), "{arguments:?}: {err}");
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn a_server_that_breaks_off_is_told_from_one_that_says_nothing() {
    for (answer, wanted) in [
        (b"".as_slice(), 52),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 56),
        (b"nonsense\r\n\r\n", 56),
    ] {
        let (address, serving) = server(answer);
        let (code, _, err) = client(&[&format!("http://{address}/")]);
        assert_eq!(code, wanted, "{err}");
        serving.join().unwrap();
    }
}

#[test]
fn a_server_that_never_answers_is_28_after_the_given_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (code, _, err) = client(&["--max-time", "1", &url]);
    assert_eq!(code, 28, "{err}");
}

#[test]
fn a_host_is_looked_up_through_the_resolver_and_the_next_address_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.zone");
    // Nothing listens on the second address, on this port or most likely on any.
    let zone =
        "$TTL 9\n@ SOA ns. admin. 1 1 1 1 1\nspells.test A 127.0.0.1\nspells.test A 127.9.9.9\n";
    fs::write(&file, zone).unwrap();
    let authority = Program::start(AUTHORITY, &["--zone", &format!(".={}", file.display())]);
    let forward = format!(".={}", authority.address);
    let resolver = Program::start(RESOLVER, &["--forward", &forward]);
    let api = Program::start(API, &[]);
    let by = resolver.address.to_string();
    let url = format!("http://spells.test:{}/spells/1", api.address.port());
    let (code, out, err) = client(&["--resolver", &by, &url]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Lumos"), "{out}");
    resolver.wait_for_line("miss spells.test. A: No Error");
    let (code, _, err) = client(&["--resolver", &by, "http://nobody.test/"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("could not resolve nobody.test"), "{err}");
}
