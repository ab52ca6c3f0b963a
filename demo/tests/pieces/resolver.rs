//! The resolver: hits and misses, TTLs, truncation, a server that is gone.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::RecordType;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Program, addresses, query, tcp, udp, udp_with, wait_for};

const AUTHORITY: &str = env!("CARGO_BIN_EXE_dns-authority");
const RESOLVER: &str = env!("CARGO_BIN_EXE_dns-resolver");
const SOA: &str = "$TTL 60\n@ IN SOA ns.test. admin.test. 1 3600 600 86400 1\n";

/// An authority for `test`, and a resolver that asks it.
struct Pair {
    authority: Program,
    resolver: Program,
    zone: String,
    file: PathBuf,
    _folder: TempDir,
}

impl Pair {
    fn start(records: &str) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.zone");
        fs::write(&file, format!("{SOA}{records}")).unwrap();
        let zone = format!("test={}", file.display());
        // Not at 127.0.0.1, where connections of other tests could take its port while it is away.
        let authority =
            Program::start_at(AUTHORITY, "127.0.0.2:0".parse().unwrap(), &["--zone", &zone]);
        let forward = format!("test={}", authority.address);
        let resolver = Program::start(RESOLVER, &["--forward", &forward]);
        Pair { authority, resolver, zone, file, _folder: folder }
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        udp(self.resolver.address, name, kind)
    }

    /// Queries that have reached the authority.
    fn upstream(&self) -> usize {
        count(&self.authority, "query ")
    }

    /// Another zone in the file, once the authority serves it.
    fn change(&self, records: &str) {
        let changes = || count(&self.authority, "changed, serving it");
        let before = changes();
        fs::write(&self.file, format!("{SOA}{records}")).unwrap();
        wait_for("the changed zone", || (changes() > before).then_some(()));
    }
}

fn count(program: &Program, start: &str) -> usize {
    program.settled_lines().iter().filter(|line| line.contains(start)).count()
}

#[test]
fn the_first_query_is_a_miss_and_the_next_a_hit() {
    let pair = Pair::start("a A 127.0.0.1\n");
    for _ in 0..3 {
        let answer = pair.ask("a.test.", RecordType::A);
        assert_eq!(addresses(&answer), ["127.0.0.1"]);
        assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    }
    assert_eq!(addresses(&pair.ask("A.TEST.", RecordType::A)), ["127.0.0.1"]);
    pair.resolver.wait_for_line("miss a.test. A: No Error, ttl 60");
    wait_for("three hits", || {
        (count(&pair.resolver, "hit a.test. A: No Error") == 3).then_some(())
    });
    assert_eq!((count(&pair.resolver, "miss "), pair.upstream()), (1, 1));
    pair.ask("a.test.", RecordType::AAAA);
    assert_eq!(pair.upstream(), 2);
}

#[test]
fn a_ttl_counts_down_and_the_answer_is_fetched_anew_after_it() {
    let pair = Pair::start("a 3 A 127.0.0.1\n");
    let began = Instant::now();
    assert_eq!(pair.ask("a.test.", RecordType::A).answers[0].ttl, 3);
    pair.change("a 3 A 127.0.0.2\n");
    let mut seen = vec![3];
    wait_for("the new address", || {
        let answer = pair.ask("a.test.", RecordType::A);
        let ttl = answer.answers[0].ttl;
        if addresses(&answer) == ["127.0.0.2"] {
            return Some(());
        }
        assert!(ttl > 0, "an answer is not used at the end of its TTL");
        if seen.last() != Some(&ttl) {
            seen.push(ttl);
        }
        None
    });
    assert!(began.elapsed().as_secs_f64() >= 3.0, "the old answer was not kept for its TTL");
    assert!(seen.is_sorted_by(|earlier, later| earlier > later), "{seen:?}");
    assert_eq!(pair.upstream(), 2);
}

#[test]
fn negative_answers_are_kept_for_the_minimum_of_the_soa() {
    let pair = Pair::start("a A 127.0.0.1\n");
    let no_name = pair.ask("b.test.", RecordType::A);
    assert_eq!(no_name.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(no_name.authorities[0].ttl, 1);
    pair.change("a A 127.0.0.1\nb A 127.0.0.2\n");
    wait_for("the name that there was not", || {
        let answer = pair.ask("b.test.", RecordType::A);
        (addresses(&answer) == ["127.0.0.2"]).then_some(())
    });
    assert_eq!(pair.upstream(), 2);
    assert!(count(&pair.resolver, "miss b.test. A: Non-Existent Domain, ttl 1") == 1);
}

#[test]
fn what_is_too_long_for_udp_is_cut_and_comes_by_tcp() {
    let records: String = (1..=200).map(|at| format!("many A 127.0.1.{at}\n")).collect();
    let pair = Pair::start(&records);
    // 200 records are 3 KB: the resolver itself is told so by the authority, and asks by TCP.
    let cut = pair.ask("many.test.", RecordType::A);
    assert!(cut.metadata.truncation);
    assert!(cut.answers.len() < 200);
    let cut = udp_with(pair.resolver.address, &query("many.test.", RecordType::A, 1232));
    assert!(cut.metadata.truncation);
    let whole = udp_with(pair.resolver.address, &query("many.test.", RecordType::A, 8192));
    assert!(!whole.metadata.truncation);
    assert_eq!(addresses(&whole).len(), 200);
    assert_eq!(addresses(&tcp(pair.resolver.address, "many.test.", RecordType::A)).len(), 200);
    assert_eq!(count(&pair.resolver, "miss "), 1);
    assert_eq!(count(&pair.authority, "query tcp"), 1);
}

#[test]
fn names_of_no_forwarded_zone_are_refused_and_nobody_is_asked() {
    let pair = Pair::start("a A 127.0.0.1\n");
    let answer = pair.ask("example.com.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    pair.resolver.wait_for_line("refused example.com. A");
    assert_eq!(pair.upstream(), 0);
}

#[test]
fn a_server_that_is_gone_is_servfail_and_asked_again_when_it_is_back() {
    let mut pair = Pair::start("a 60 A 127.0.0.1\nb 60 A 127.0.0.2\n");
    pair.ask("a.test.", RecordType::A);
    let address: SocketAddr = pair.authority.address;
    pair.authority.signal(Signal::KILL);
    pair.authority.wait_for_end();
    assert_eq!(addresses(&pair.ask("a.test.", RecordType::A)), ["127.0.0.1"], "from the cache");
    let failed = pair.ask("b.test.", RecordType::A);
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    pair.resolver.wait_for_line("miss b.test. A: Server Failure");
    pair.authority = Program::start_at(AUTHORITY, address, &["--zone", &pair.zone]);
    assert_eq!(addresses(&pair.ask("b.test.", RecordType::A)), ["127.0.0.2"]);
}

#[test]
fn an_srv_answer_brings_the_addresses_of_its_target() {
    let pair = Pair::start("_http._tcp SRV 0 1 8001 a\na A 127.0.0.1\n");
    for _ in 0..2 {
        let answer = pair.ask("_http._tcp.test.", RecordType::SRV);
        assert_eq!(answer.answers[0].record_type(), RecordType::SRV);
        assert_eq!(answer.additionals[0].data.ip_addr().unwrap().to_string(), "127.0.0.1");
    }
}

#[test]
fn what_it_does_not_do_is_refused_by_name() {
    let pair = Pair::start("a A 127.0.0.1\n");
    // As numbers: 16 has two names, BADVERS and BADSIG.
    let assert_code = |query: &Message, code: ResponseCode| {
        let answer = udp_with(pair.resolver.address, query);
        assert_eq!(u16::from(answer.metadata.response_code), u16::from(code));
    };
    assert_code(&query("test.", RecordType::AXFR, 512), ResponseCode::Refused);
    let mut two = query("a.test.", RecordType::A, 512);
    two.add_query(two.queries[0].clone());
    assert_code(&two, ResponseCode::FormErr);
    let mut later = query("a.test.", RecordType::A, 512);
    let mut edns = Edns::new();
    edns.set_version(1);
    later.set_edns(edns);
    assert_code(&later, ResponseCode::BADVERS);
    assert_eq!(pair.upstream(), 0);
}

#[test]
fn a_signal_ends_it() {
    let mut pair = Pair::start("");
    pair.resolver.signal(Signal::INT);
    assert!(pair.resolver.wait_for_end().success());
}
