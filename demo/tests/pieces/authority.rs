//! The authority: zone files served over UDP and TCP, and followed.

use std::fs;
use std::path::PathBuf;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Program, addresses, query, tcp, udp, udp_with, wait_for};

const AUTHORITY: &str = env!("CARGO_BIN_EXE_dns-authority");
const SOA: &str = "$TTL 60\n@ IN SOA ns.test. admin.test. 1 3600 600 86400 2\n";
const NAMES: &str = "\
spells     A     127.0.0.1
spells     AAAA  ::1
www        CNAME spells
deep.er    A     127.0.0.9
_http._tcp SRV   0 5 8001 spells
";

/// An authority for the zone `test`, and its file.
struct Zone {
    authority: Program,
    file: PathBuf,
    _folder: TempDir,
}

impl Zone {
    fn serve(records: &str) -> Zone {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.zone");
        fs::write(&file, format!("{SOA}{records}")).unwrap();
        let zone = format!("test={}", file.display());
        Zone { authority: Program::start(AUTHORITY, &["--zone", &zone]), file, _folder: folder }
    }

    fn udp(&self, name: &str, kind: RecordType) -> Message {
        udp(self.authority.address, name, kind)
    }
}

/// Nothing of this kind, with the SOA that says for how long (RFC 2308).
#[track_caller]
fn assert_negative(answer: &Message, code: ResponseCode) {
    assert_eq!(answer.metadata.response_code, code);
    assert!(answer.metadata.authoritative);
    assert!(answer.answers.is_empty());
    let [soa] = answer.authorities.as_slice() else { panic!("{answer}") };
    assert_eq!((soa.record_type(), soa.ttl), (RecordType::SOA, 2));
}

#[test]
fn answers_each_type_by_udp_and_tcp() {
    let zone = Zone::serve(NAMES);
    for ask in [udp, tcp] {
        let ask = |name: &str, kind| ask(zone.authority.address, name, kind);
        let answer = ask("spells.test.", RecordType::A);
        assert!(answer.metadata.authoritative);
        assert_eq!((addresses(&answer), answer.answers[0].ttl), (vec!["127.0.0.1".into()], 60));
        assert_eq!(addresses(&ask("SPELLS.Test.", RecordType::AAAA)), ["::1"]);
        let alias = ask("www.test.", RecordType::A);
        assert_eq!(alias.answers[0].record_type(), RecordType::CNAME);
        assert_eq!(addresses(&alias), ["127.0.0.1"]);
        let service = ask("_http._tcp.test.", RecordType::SRV);
        let RData::SRV(srv) = &service.answers[0].data else { panic!("{service}") };
        assert_eq!(
            (srv.port, srv.weight, srv.target.to_string()),
            (8001, 5, "spells.test.".into())
        );
        assert_eq!(ask("test.", RecordType::SOA).answers[0].record_type(), RecordType::SOA);
    }
    zone.authority.wait_for_line("spells.test. A: No Error, answers 1");
}

#[test]
fn tells_a_name_without_such_a_record_from_no_name_and_from_no_zone() {
    let zone = Zone::serve(NAMES);
    assert_negative(&zone.udp("spells.test.", RecordType::SRV), ResponseCode::NoError);
    assert_negative(&zone.udp("er.test.", RecordType::A), ResponseCode::NoError);
    assert_negative(&zone.udp("nobody.test.", RecordType::A), ResponseCode::NXDomain);
    let refused = zone.udp("spells.example.", RecordType::A);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert!(refused.authorities.is_empty());
    zone.authority.wait_for_line("spells.example. A: Query Refused");
}

#[test]
fn the_root_can_be_a_zone_for_names_of_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("root.zone");
    fs::write(&file, format!("{SOA}http-api-1 A 127.0.0.11\n")).unwrap();
    let authority = Program::start(AUTHORITY, &["--zone", &format!(".={}", file.display())]);
    let answer = udp(authority.address, "http-api-1.", RecordType::A);
    assert_eq!(addresses(&answer), ["127.0.0.11"]);
    assert_negative(&udp(authority.address, "http-api-3.", RecordType::A), ResponseCode::NXDomain);
}

#[test]
fn a_changed_file_is_served_without_a_restart() {
    let zone = Zone::serve("a A 127.0.0.1\n");
    fs::write(&zone.file, format!("{SOA}a A 127.0.0.1\na A 127.0.0.2\n")).unwrap();
    wait_for("both addresses", || {
        (addresses(&zone.udp("a.test.", RecordType::A)) == ["127.0.0.1", "127.0.0.2"]).then_some(())
    });
    // As editors do it: a new file in the place of the old one.
    let new = zone.file.with_extension("new");
    fs::write(&new, format!("{SOA}a A 127.0.0.2\n")).unwrap();
    fs::rename(&new, &zone.file).unwrap();
    wait_for("the second alone", || {
        (addresses(&zone.udp("a.test.", RecordType::A)) == ["127.0.0.2"]).then_some(())
    });
}

#[test]
fn a_broken_file_is_logged_with_its_place_and_the_last_good_zone_stays() {
    let zone = Zone::serve("a A 127.0.0.1\n");
    fs::write(&zone.file, format!("{SOA}a A 127.0.0.2\nb A nonsense\n")).unwrap();
    let line = zone.authority.wait_for_line("the last good one stays");
    assert!(line.contains("test.zone: line 4: "), "{line}");
    assert_eq!(addresses(&zone.udp("a.test.", RecordType::A)), ["127.0.0.1"]);
    fs::remove_file(&zone.file).unwrap();
    zone.authority.wait_for_line("cannot be read");
    assert_eq!(addresses(&zone.udp("a.test.", RecordType::A)), ["127.0.0.1"]);
    fs::write(&zone.file, format!("{SOA}a A 127.0.0.3\n")).unwrap();
    zone.authority.wait_for_line("changed, serving it");
    assert_eq!(addresses(&zone.udp("a.test.", RecordType::A)), ["127.0.0.3"]);
    let broken = zone.authority.lines().iter().filter(|line| line.contains("stays")).count();
    assert_eq!(broken, 2, "each state of the file is logged once");
}

#[test]
fn a_zone_that_is_broken_at_the_start_ends_it_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.zone");
    fs::write(&file, format!("{SOA}a A\n")).unwrap();
    let zone = format!("test={}", file.display());
    let run = |zones: &[&str]| {
        let ended = std::process::Command::new(AUTHORITY).args(zones).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let (code, why) = run(&["--zone", &zone]);
    assert_eq!(code, Some(1));
    assert!(why.contains("test.zone: line 3: "), "{why}");
    let (code, why) = run(&["--zone", "test=nowhere.zone"]);
    assert!(code == Some(1) && why.contains("nowhere.zone: cannot be read"), "{why}");
    fs::write(&file, SOA).unwrap();
    let (code, why) = run(&["--zone", &zone, "--zone", &zone]);
    assert!(code == Some(1) && why.contains("test. is given twice"), "{why}");
}

#[test]
fn what_is_no_query_does_it_no_harm() {
    let zone = Zone::serve(NAMES);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let valid = query("spells.test.", RecordType::A, 512).to_vec().unwrap();
    for length in 0..valid.len() {
        socket.send_to(&valid[..length], zone.authority.address).unwrap();
    }
    let mut two = query("spells.test.", RecordType::A, 512);
    two.add_query(two.queries[0].clone());
    let answer = udp_with(zone.authority.address, &two);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let mut update = query("test.", RecordType::SOA, 512);
    update.metadata.op_code = OpCode::Update;
    let answer = udp_with(zone.authority.address, &update);
    assert_ne!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(addresses(&zone.udp("spells.test.", RecordType::A)), ["127.0.0.1"]);
}

#[test]
fn a_signal_ends_it() {
    let mut zone = Zone::serve(NAMES);
    zone.authority.signal(Signal::TERM);
    assert!(zone.authority.wait_for_end().success());
}
