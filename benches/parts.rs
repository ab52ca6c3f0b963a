//! What the parts of a request cost in time: `make bench`. Figures move with the machine; compare runs of one machine, one
//! after the other. Guards that do not depend on time are in `tests/costs`.

#[path = "../tests/costs/messages.rs"]
mod messages;
#[path = "../tests/costs/wire.rs"]
mod wire;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::cache::Cache;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use evenly::balance::{self, Cursor, Shared};
use evenly::base::tick::Tick;
use evenly::base::wheel::{Due, Wheel};
use evenly::http1::{
    BodyDecoder, BodyLength, ClientAddress, ClientConnection, ClientFraming, FieldSpace,
    HeadLimits, Progress, RequestHead, RequestId, RequestRewrite, ResponseHead, ResponseRewrite,
    parse_request, parse_response, rewrite,
};

use messages::{BROWSER, WRK, chunked, chunks, nginx, post};
use wire::Rig;

const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };
const REQUESTS: [(&str, &[u8]); 2] = [("wrk", WRK), ("browser", BROWSER)];
/// A body as large as one read of it.
const BODY: usize = 64 * 1024;

fn request<'h, 'b>(input: &'b [u8], space: &'h mut FieldSpace<'b>) -> RequestHead<'h, 'b> {
    match parse_request(input, LIMITS, space) {
        Ok(Progress::Complete(head)) => head,
        other => panic!("not a whole request: {other:?}"),
    }
}

fn response<'h, 'b>(input: &'b [u8], space: &'h mut FieldSpace<'b>) -> ResponseHead<'h, 'b> {
    match parse_response(input, LIMITS, space) {
        Ok(Progress::Complete(head)) => head,
        other => panic!("not a whole response: {other:?}"),
    }
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head parse");
    for (name, input) in REQUESTS {
        group.bench_function(format!("request of {name}, {} B", input.len()), |bencher| {
            bencher.iter(|| {
                let mut space = FieldSpace::new();
                black_box(request(black_box(input), &mut space).len)
            });
        });
    }
    let input = nginx(0);
    group.bench_function(format!("response of nginx, {} B", input.len()), |bencher| {
        bencher.iter(|| {
            let mut space = FieldSpace::new();
            black_box(response(black_box(&input), &mut space).len)
        });
    });
}

fn rewriting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head rewrite");
    let mut out = Vec::with_capacity(4096);
    let by = RequestRewrite {
        client: ClientAddress { ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77)), trusted: false },
        fallback_host: "127.0.0.1:8080",
        via: None,
        request_id: &RequestId::None,
        span: None,
    };
    for (name, input) in REQUESTS {
        let mut space = FieldSpace::new();
        let head = request(input, &mut space);
        group.bench_function(format!("request of {name}, {} B", input.len()), |bencher| {
            bencher.iter(|| {
                out.clear();
                rewrite::request(black_box(&head), black_box(input), &by, &mut out);
                black_box(out.len())
            });
        });
    }
    let by = ResponseRewrite {
        framing: ClientFraming::AsIs,
        connection: ClientConnection::Implicit,
        via: None,
        request_id: &RequestId::None,
    };
    let input = nginx(0);
    let mut space = FieldSpace::new();
    let head = response(&input, &mut space);
    group.bench_function(format!("response of nginx, {} B", input.len()), |bencher| {
        bencher.iter(|| {
            out.clear();
            rewrite::response(black_box(&head), black_box(&input), &by, &mut out);
            black_box(out.len())
        });
    });
}

/// Chunks are moved together in place, so each run gets a fresh copy, which is not timed.
fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("body decode");
    let cases = [
        ("Content-Length, 64 KiB", BodyLength::Length(BODY as u64), vec![b'x'; BODY]),
        ("chunked, 16 x 4 KiB", BodyLength::Chunked, chunks(16, BODY / 16)),
        ("chunked, 1,024 x 64 B", BodyLength::Chunked, chunks(1024, BODY / 1024)),
    ];
    for (name, length, body) in cases {
        let mut trailers = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || body.clone(),
                |body| {
                    let mut decoder = BodyDecoder::new(black_box(length));
                    let decoded = decoder.decode(body, LIMITS, &mut trailers).expect("a good body");
                    assert!(decoded.done && decoded.data.len() == BODY);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn balancing(criterion: &mut Criterion) {
    let shared = Shared::default();
    shared.snapshot.store(Arc::new(wire::snapshot(3)));
    let mut cache = Cache::new(&shared.snapshot);
    criterion.bench_function("snapshot load, nothing published", |bencher| {
        bencher.iter(|| black_box(cache.load().generation));
    });
    let snapshot = shared.snapshot.load_full();
    criterion.bench_function("pick, 3 healthy endpoints", |bencher| {
        bencher.iter(|| black_box(balance::pick(black_box(&snapshot), &shared.cursor)));
    });
}

fn timers(criterion: &mut Criterion) {
    let mut wheel: Wheel<u32> = Wheel::default();
    let (mut now, mut fired) = (Tick(0), Vec::new());
    for key in 0..1_000 {
        wheel.set(key, Due::at(Tick(u64::from(key) * 8_000)));
    }
    // Among 1,000 timers, in turns a millisecond apart, one is set in each turn and so one fires.
    criterion.bench_function("timer wheel, set one and advance 1 ms", |bencher| {
        bencher.iter(|| {
            now = now.after(Duration::from_millis(1));
            wheel.set(black_box(7), Due::at(now.after(Duration::from_secs(1))));
            fired.clear();
            wheel.advance(now, &mut fired);
            black_box(fired.len())
        });
    });
}

/// Workers that take tickets at once: as fast as they can, and with a little work between two tickets. The figure is
/// the time of one ticket and its work in each of the threads; docs/decisions/001-one-cursor-for-all-workers.md models more threads from it.
fn contention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cursor, a ticket in each thread");
    for (name, work) in [("nothing else", 0), ("and some work", 400)] {
        for threads in [1, 2] {
            group.bench_function(format!("{name}, threads: {threads}"), |bencher| {
                bencher.iter_custom(|times| take_tickets(threads, times, work));
            });
        }
    }
}

/// How long each of `threads` needs for `times` tickets with `work` rounds of arithmetic behind each.
fn take_tickets(threads: usize, times: u64, work: u64) -> Duration {
    let (cursor, start) = (Cursor::default(), Barrier::new(threads));
    let one = || {
        start.wait();
        let began = Instant::now();
        for _ in 0..times {
            let ticket = cursor.ticket() as u64;
            black_box((0..work).fold(ticket, |sum, at| sum.rotate_left(5) ^ at));
        }
        began.elapsed()
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mine = one();
        let all = others.into_iter().map(|other| other.join().expect("it only counts"));
        all.fold(mine, Duration::max)
    })
}

/// A request from the client's bytes to the client's answer: two turns of a whole engine.
fn exchanges(criterion: &mut Criterion) {
    const TOGETHER: usize = 64;
    let mut group = criterion.benchmark_group("engine, keep-alive exchange");
    let cases = [
        ("GET of wrk, 128 B", WRK.to_vec(), nginx(128)),
        ("GET of a browser, 128 B", BROWSER.to_vec(), nginx(128)),
        ("GET of wrk, 10 KiB", WRK.to_vec(), nginx(10 * 1024)),
        ("GET of wrk, 3 chunks of 4 KiB", WRK.to_vec(), chunked(3, 4096)),
        ("POST of 1 KiB, 128 B", post(1024), nginx(128)),
    ];
    for (name, request, response) in cases {
        let mut rig = Rig::new(1, &request, &response);
        group.bench_function(name, |bencher| {
            bencher.iter(|| rig.round(Duration::from_micros(100)));
        });
    }
    let mut rig = Rig::new(TOGETHER, WRK, &nginx(128));
    group.throughput(Throughput::Elements(TOGETHER as u64));
    group.bench_function(format!("GET of wrk, 128 B, {TOGETHER} at once"), |bencher| {
        bencher.iter(|| rig.round(Duration::from_micros(100)));
    });
    assert!(rig.finished() > 0, "responses came from the targets");
}

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1));
    targets = parsing, rewriting, bodies, balancing, contention, timers, exchanges
}
criterion_main!(parts);
