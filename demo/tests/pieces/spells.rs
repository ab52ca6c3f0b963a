//! The spells API: every status, both storages, instances that share a file.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use evenly_demo::spells::MAX_BODY;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Answer, PATIENCE, Program, get, http, post};

const API: &str = env!("CARGO_BIN_EXE_spells-api");
const ALOHOMORA: &str = r#"{"id":3,"name":"Alohomora","description":"Unlocking Charm"}"#;

#[track_caller]
fn assert_error(answer: &Answer, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let why = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(why.contains(part), "{why}");
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!(answer.field("x-served-by"), Some("http-api-1"));
}

#[test]
fn lists_two_spells_to_begin_with_and_says_who_answered() {
    let api = Program::start(API, &["--name", "http-api-2"]);
    let answer = get(api.address, "/spells");
    assert_eq!(answer.status, 200);
    let names: Vec<_> =
        answer.json().as_array().unwrap().iter().map(|s| s["name"].clone()).collect();
    assert_eq!(names, ["Lumos", "Expelliarmus"]);
    assert_eq!(answer.field("x-served-by"), Some("http-api-2"));
    assert_eq!(get(api.address, "/healthz").status, 200);
    assert!(api.wait_for_line("GET /spells -> 200").starts_with("GET"));
    assert!(!api.lines().iter().any(|line| line.contains("healthz")));
}

#[test]
fn a_spell_is_added_found_and_deleted() {
    let api = Program::start(API, &[]);
    let added = post(api.address, ALOHOMORA);
    assert_eq!((added.status, added.field("location")), (201, Some("/spells/3")));
    let wanted = json!({"id": 3, "name": "Alohomora", "description": "Unlocking Charm"});
    assert_eq!(added.json(), wanted);
    assert_eq!(get(api.address, "/spells/3").json(), wanted);
    let deleted = http(api.address, "DELETE", "/spells/3", "", "");
    assert_eq!((deleted.status, &*deleted.body), (204, ""));
    assert_error(&http(api.address, "DELETE", "/spells/3", "", ""), 404, "no spell 3");
    assert_error(&get(api.address, "/spells/3"), 404, "no spell 3");
}

#[test]
fn a_known_id_is_a_conflict_and_the_spell_stays_as_it_was() {
    let api = Program::start(API, &[]);
    let answer = post(api.address, r#"{"id":1,"name":"Nox","description":"Dark"}"#);
    assert_error(&answer, 409, "there is a spell 1");
    assert_eq!(get(api.address, "/spells/1").json()["name"], "Lumos");
}

#[test]
fn what_is_no_spell_is_400_with_a_reason() {
    let api = Program::start(API, &[]);
    for (body, part) in [
        ("", "EOF"),
        ("{", "EOF"),
        (r#"{"id":3,"name":"x","description":"y"} more"#, "trailing characters"),
        ("[]", "invalid length"),
        (r#"{"id":3,"name":"x"}"#, "missing field `description`"),
        (r#"{"id":3,"name":"x","description":"y","power":9}"#, "unknown field `power`"),
        (r#"{"id":-3,"name":"x","description":"y"}"#, "invalid value"),
        (r#"{"id":"3","name":"x","description":"y"}"#, "invalid type"),
        (r#"{"id":3,"name":" ","description":"y"}"#, "`name` is empty"),
    ] {
        assert_error(&post(api.address, body), 400, part);
    }
    assert_eq!(get(api.address, "/spells").json().as_array().unwrap().len(), 2);
}

#[test]
fn other_content_types_and_too_long_bodies_are_refused() {
    let api = Program::start(API, &[]);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_error(&http(api.address, "POST", "/spells", form, ALOHOMORA), 415, "as JSON");
    assert_error(&http(api.address, "POST", "/spells", "", ALOHOMORA), 415, "as JSON");
    let long = format!(r#"{{"id":3,"name":"x","description":"{}"}}"#, "y".repeat(MAX_BODY));
    assert_error(&post(api.address, &long), 413, "longer than");
}

#[test]
fn other_methods_and_paths_are_named_as_such() {
    let api = Program::start(API, &[]);
    let put = http(api.address, "PUT", "/spells", "", "");
    assert_error(&put, 405, "PUT is not for /spells");
    assert_eq!(put.field("allow"), Some("get,head,post"));
    let patch = http(api.address, "PATCH", "/spells/1", "", "");
    assert_eq!((patch.status, patch.field("allow")), (405, Some("get,head,delete")));
    assert_error(&get(api.address, "/"), 404, "nothing at /");
    assert_error(&get(api.address, "/spells/one"), 404, "ids are whole numbers");
    assert_error(&get(api.address, "/spells/%ff"), 400, "UTF-8");
    assert_eq!(http(api.address, "HEAD", "/spells", "", "").status, 200);
}

#[test]
fn in_memory_instances_do_not_see_each_others_spells() {
    let [one, other] = [(), ()].map(|()| Program::start(API, &[]));
    assert_eq!(post(one.address, ALOHOMORA).status, 201);
    assert_eq!(get(one.address, "/spells/3").status, 200);
    assert_eq!(get(other.address, "/spells/3").status, 404);
}

#[test]
fn instances_on_one_file_start_together_and_share_every_spell() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("spells.db").display());
    let start = || Program::start(API, &["--database", &database]);
    let apis: Vec<Program> = thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|api| api.join().unwrap()).collect()
    });
    // Writers of all instances at once: none may be told that the database is locked.
    thread::scope(|scope| {
        for (at, api) in (0..).zip(&apis) {
            scope.spawn(move || {
                for id in (100 * (at + 1)..).take(25) {
                    let spell = format!(r#"{{"id":{id},"name":"x","description":""}}"#);
                    let answer = post(api.address, &spell);
                    assert_eq!(answer.status, 201, "{answer:?}");
                }
            });
        }
    });
    for api in &apis {
        assert_eq!(get(api.address, "/spells").json().as_array().unwrap().len(), 2 + 4 * 25);
    }
    assert_eq!(post(apis[0].address, r#"{"id":100,"name":"x","description":""}"#).status, 409);
}

#[test]
fn one_of_several_that_add_the_same_id_at_once_wins() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("spells.db").display());
    let apis = [(), ()].map(|()| Program::start(API, &["--database", &database]));
    for id in 10..30 {
        let spell = format!(r#"{{"id":{id},"name":"x","description":""}}"#);
        let mut statuses = thread::scope(|scope| {
            let posts = apis.each_ref().map(|api| scope.spawn(|| post(api.address, &spell).status));
            posts.map(|post| post.join().unwrap())
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
    }
}

#[test]
fn a_deleted_spell_stays_deleted_when_an_instance_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("spells.db").display());
    let first = Program::start(API, &["--database", &database]);
    assert_eq!(http(first.address, "DELETE", "/spells/1", "", "").status, 204);
    drop(first);
    let again = Program::start(API, &["--database", &database]);
    assert_eq!(get(again.address, "/spells/1").status, 404);
    assert_eq!(get(again.address, "/spells/2").status, 200);
}

#[test]
fn a_database_that_fails_is_500_with_the_reason_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spells.db");
    let api = Program::start(API, &["--database", &format!("sqlite:{}", file.display())]);
    rusqlite::Connection::open(&file).unwrap().execute_batch("DROP TABLE spells").unwrap();
    assert_error(&get(api.address, "/spells"), 500, "see the log");
    assert!(api.wait_for_line("error: ").contains("no such table"));
}

#[test]
fn a_database_that_stays_locked_is_503() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spells.db");
    let api = Program::start(API, &["--database", &format!("sqlite:{}", file.display())]);
    let holder = rusqlite::Connection::open(&file).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(get(api.address, "/spells").status, 200, "readers do not wait for a writer");
    assert_error(&post(api.address, ALOHOMORA), 503, "busy");
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(post(api.address, ALOHOMORA).status, 201);
}

#[test]
fn a_signal_ends_it_after_what_is_under_way() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut api = Program::start(API, &[]);
        let mut stream = TcpStream::connect(api.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /spells HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            ALOHOMORA.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Once it asks for the body, the request is under way.
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        api.signal(signal);
        stream.write_all(ALOHOMORA.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        assert!(api.wait_for_end().success());
    }
}

#[test]
fn an_address_in_use_is_said_with_the_remedy() {
    let api = Program::start(API, &[]);
    let second = std::process::Command::new(API)
        .args(["--listen", &api.address.to_string()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let why = String::from_utf8(second.stderr).unwrap();
    assert!(why.contains("in use") && why.contains("--listen"), "{why}");
}
