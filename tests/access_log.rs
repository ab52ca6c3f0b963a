//! The access log of the real program: one line for each exchange, none lost at a clean stop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// Answers every connection once, then ends it.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            );
        }
    });
    port
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_exchange_is_one_line_and_none_is_lost_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = (folder.path().join("evenly.toml"), folder.path().join("access.log"));
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[[targets]]\naddress = \"127.0.0.1:{}\"\n[log]\naccess = \"{}\"\n",
        origin(),
        log.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut evenly = Command::new(env!("CARGO_BIN_EXE_evenly"))
        .args(["run", "--config"])
        .arg(&config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(evenly.stderr.take().unwrap()).lines();
    let listening =
        lines.find_map(|line| line.unwrap().split_once("http://").map(|x| x.1.to_owned()));
    let address = listening.unwrap();
    for number in 0..3 {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(ask(&address, &request).ends_with("hello"));
    }
    assert!(ask(&address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
    let stop = Command::new("kill").args(["-TERM", &evenly.id().to_string()]).status().unwrap();
    assert!(stop.success() && evenly.wait().unwrap().success());
    let entries: Vec<serde_json::Value> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut requests: Vec<String> = entries
        .iter()
        .map(|e| format!("{} {} {} {}", e["request"], e["status"], e["bytes"], e["end"]))
        .collect();
    requests.sort();
    assert_eq!(
        requests[1..],
        [0, 1, 2].map(|n| format!("\"GET /{n} HTTP/1.1\" 200 5 \"finished\""))
    );
    assert!(requests[0].starts_with("\"\" 400 ") && requests[0].ends_with("\"answered\""));
}
