//! What the parts of a request cost in instructions: `make bench-check` compares them with the record in `benches/counts.toml` and
//! fails when one has grown by more than [`TOLERANCE`]; `make bench-record` writes the record anew.
//!
//! valgrind's callgrind counts instructions, which the load of the machine does not change. Each part runs in a process of its own, a
//! few times and then many times more; the difference, divided, is what one time costs without the start of the program.
//! Counts depend on the compiler, and on the CPU as far as valgrind shows it (memcpy and httparse choose their code by it), so the
//! record names both.

#[path = "../tests/costs/messages.rs"]
mod messages;
#[path = "../tests/costs/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use evenly::balance::{self, Shared};
use evenly::http1::{
    ClientAddress, ClientConnection, ClientFraming, FieldSpace, HeadLimits, Progress, RequestId,
    RequestRewrite, ResponseRewrite, parse_request, parse_response, rewrite,
};

use evenly::settings::Plan;

use messages::{BROWSER, WRK, chunked, nginx, post};
use wire::Rig;

/// Growth that is let pass, as a share.
const TOLERANCE: f64 = 0.03;
/// Times of a short run; they warm up what is lazy.
const FEW: u64 = 200;
/// Times more in a long run.
const MORE: u64 = 1_000;
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.toml");
const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

/// One part of a request, run so many times.
type Part = fn(u64);

const PARTS: [(&str, Part); 13] = [
    ("parse-request-wrk", |times| parse_requests(WRK, times)),
    ("parse-request-browser", |times| parse_requests(BROWSER, times)),
    ("parse-response-nginx", parse_responses),
    ("rewrite-request-wrk", |times| rewrite_requests(WRK, times)),
    ("rewrite-request-browser", |times| rewrite_requests(BROWSER, times)),
    ("rewrite-response-nginx", rewrite_responses),
    ("pick", pick),
    ("engine-get-wrk", |times| exchange(WRK, &nginx(128), times)),
    ("engine-get-request-id", |times| {
        exchange_by(Plan { request_id: true, ..Plan::default() }, WRK, times);
    }),
    ("engine-get-trace", |times| exchange_by(Plan { trace: true, ..Plan::default() }, WRK, times)),
    ("engine-get-browser", |times| exchange(BROWSER, &nginx(128), times)),
    ("engine-get-chunked", |times| exchange(WRK, &chunked(3, 4096), times)),
    ("engine-post-1-kib", |times| exchange(&post(1024), &nginx(128), times)),
];

fn parse_requests(input: &[u8], times: u64) {
    for _ in 0..times {
        let mut space = FieldSpace::new();
        let parsed = parse_request(black_box(input), LIMITS, &mut space);
        assert!(matches!(black_box(parsed), Ok(Progress::Complete(_))));
    }
}

fn parse_responses(times: u64) {
    let input = nginx(0);
    for _ in 0..times {
        let mut space = FieldSpace::new();
        let parsed = parse_response(black_box(&input), LIMITS, &mut space);
        assert!(matches!(black_box(parsed), Ok(Progress::Complete(_))));
    }
}

fn rewrite_requests(input: &[u8], times: u64) {
    let by = RequestRewrite {
        client: ClientAddress { ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)), trusted: false },
        fallback_host: "127.0.0.1:8080",
        via: None,
        request_id: &RequestId::None,
        span: None,
    };
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_request(input, LIMITS, &mut space) else {
        panic!("not a whole request");
    };
    let mut out = Vec::with_capacity(4096);
    for _ in 0..times {
        out.clear();
        rewrite::request(black_box(&head), black_box(input), &by, &mut out);
        black_box(out.len());
    }
}

fn rewrite_responses(times: u64) {
    let by = ResponseRewrite {
        framing: ClientFraming::AsIs,
        connection: ClientConnection::Implicit,
        via: None,
        request_id: &RequestId::None,
    };
    let input = nginx(0);
    let mut space = FieldSpace::new();
    let Ok(Progress::Complete(head)) = parse_response(&input, LIMITS, &mut space) else {
        panic!("not a whole response");
    };
    let mut out = Vec::with_capacity(4096);
    for _ in 0..times {
        out.clear();
        rewrite::response(black_box(&head), black_box(&input), &by, &mut out);
        black_box(out.len());
    }
}

fn pick(times: u64) {
    let shared = Shared::default();
    shared.snapshot.store(Arc::new(wire::snapshot(3)));
    let snapshot = shared.snapshot.load_full();
    for _ in 0..times {
        black_box(balance::pick(black_box(&snapshot), &shared.cursor));
    }
}

/// Two turns of a whole engine for each time, the copies of the network in memory included.
fn exchange(request: &[u8], response: &[u8], times: u64) {
    let mut rig = Rig::new(1, request, response);
    for _ in 0..times {
        rig.round(Duration::from_micros(100));
    }
    assert_eq!(rig.finished(), times);
}

/// Likewise, by this plan.
fn exchange_by(plan: Plan, request: &[u8], times: u64) {
    let mut rig = Rig::by(plan, 1, request, &nginx(128));
    for _ in 0..times {
        rig.round(Duration::from_micros(100));
    }
    assert_eq!(rig.finished(), times);
}

/// What was counted, and what it depends on.
#[derive(Deserialize, PartialEq)]
struct Record {
    compiler: String,
    cpu: String,
    /// Instructions of one time, by part.
    instructions: BTreeMap<String, f64>,
}

impl Record {
    fn read() -> Result<Record, String> {
        let text = fs::read_to_string(RECORD).map_err(|error| format!("{RECORD}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{RECORD}: {error}"))
    }

    fn count() -> Result<Record, String> {
        let instructions = PARTS
            .iter()
            .map(|(name, _)| Ok((name.to_string(), instructions(name)?)))
            .collect::<Result<_, String>>()?;
        Ok(Record { compiler: compiler()?, cpu: cpu(), instructions })
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# Instructions of one time of each part (benches/counts.rs). Written by `make bench-record`.\n\
             compiler = \"{}\"\ncpu = \"{}\"\n\n[instructions]\n",
            self.compiler, self.cpu
        );
        for (name, count) in &self.instructions {
            let _ = writeln!(text, "{name} = {count:.1}");
        }
        text
    }
}

fn compiler() -> Result<String, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let run = Command::new(rustc).arg("--version").output();
    let output = run.map_err(|error| format!("rustc does not run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    name.unwrap_or("unknown").trim().replace(['"', '\\'], "")
}

/// Instructions of one time of the part with that name.
fn instructions(name: &str) -> Result<f64, String> {
    let (few, many) = (counted(name, FEW)?, counted(name, FEW + MORE)?);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let each = many.saturating_sub(few) as f64 / MORE as f64;
    Ok(each)
}

/// Instructions of a process that runs the part so many times.
fn counted(name: &str, times: u64) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--part", name, "--times", &times.to_string()])
        .output();
    let output = run.map_err(|error| {
        format!(
            "valgrind does not run ({error}); install it with: sudo apt-get install -y valgrind"
        )
    })?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, count)| count.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("{name} failed under valgrind:\n{text}")),
    }
}

/// Prints what was counted beside the record, and returns the parts that broke it.
fn compare(counted: &Record, record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    println!("{:26}{:>12}{:>12}{:>9}", "part", "recorded", "counted", "change");
    for (name, now) in &counted.instructions {
        let Some(before) = record.instructions.get(name) else {
            broken.push(format!("{name} is not in the record"));
            continue;
        };
        let change = now / before - 1.0;
        println!("{name:26}{before:12.1}{now:12.1}{:8.1}%", change * 100.0);
        if change > TOLERANCE {
            broken.push(format!("{name} takes {:.1} % more instructions", change * 100.0));
        }
    }
    let gone = record.instructions.keys().filter(|name| !counted.instructions.contains_key(*name));
    broken.extend(gone.map(|name| format!("{name} is recorded, but not counted any more")));
    broken
}

fn check() -> Result<(), String> {
    let (record, counted) = (Record::read()?, Record::count()?);
    let broken = compare(&counted, &record);
    if broken.is_empty() {
        return Ok(());
    }
    let mut text = broken.join("\n");
    for (what, then, now) in
        [("compiler", &record.compiler, &counted.compiler), ("CPU", &record.cpu, &counted.cpu)]
    {
        if then != now {
            let _ = write!(text, "\nnote: another {what}: recorded with {then}, now {now}");
        }
    }
    Err(format!(
        "{text}\nIf that is meant, run `make bench-record` and commit {RECORD} with the reason."
    ))
}

fn write_record() -> Result<(), String> {
    let text = Record::count()?.text();
    print!("{text}");
    fs::write(RECORD, text).map_err(|error| format!("{RECORD}: {error}"))
}

/// Runs one part, for [`counted`].
fn run(name: &str, times: &str) -> Result<(), String> {
    let (_, part) = PARTS
        .iter()
        .find(|(part, _)| *part == name)
        .ok_or_else(|| format!("there is no part {name}"))?;
    part(times.parse().map_err(|error| format!("--times {times}: {error}"))?);
    Ok(())
}

fn main() -> ExitCode {
    // Cargo adds --bench to what it is told.
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["--check"] => check(),
        ["--record"] => write_record(),
        ["--part", name, "--times", times] => run(name, times),
        _ => {
            Err("say --check or --record, as `make bench-check` and `make bench-record` do".into())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
