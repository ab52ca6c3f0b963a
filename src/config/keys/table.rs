//! The keys: a row for each, in the order of the reference file.
//!
//! `short` is what `evenly keys` and the reference file show; `long` follows it in the manual. Ranges are of what may be
//! written; how values relate is `validate`'s.

use std::ops::RangeInclusive;

use super::super::{address, kinds};
use super::Measure::{Number, WholeSeconds, With};
use super::Value::{Amount, Flag, Text, Words};
use super::{Choice, ConfigKey, Draft, Slot, Table, Value};
use crate::config::error::quoted;
use crate::config::units::Unit;

/// Worker threads, also on the command line.
pub(in crate::config) const WORKERS: RangeInclusive<u64> = 1..=1_024;
/// Statuses that a health check may expect.
pub(in crate::config) const STATUS: RangeInclusive<u16> = 100..=599;
/// Name servers that are asked at most: resolv.conf may name three, and more help nobody.
pub(in crate::config) const MAX_SERVERS: usize = 8;
/// The longest name of a congestion control, without the NUL that the kernel counts (`TCP_CA_NAME_MAX`).
pub(in crate::config) const MAX_CONGESTION: usize = 15;

const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 60 * 60 * SECOND;

type Accessor = fn(&mut Draft) -> &mut dyn Slot;

const fn amount(measure: super::Measure, range: RangeInclusive<u64>, at: Accessor) -> Value {
    Amount { measure, range, word: "", besides: "", at }
}

const fn number(range: RangeInclusive<u64>, at: Accessor) -> Value {
    amount(Number, range, at)
}

/// A number of which 0 has a meaning of its own.
const fn number_or_none(most: u64, none: &'static str, at: Accessor) -> Value {
    Amount { measure: Number, range: 0..=most, word: "", besides: none, at }
}

const fn number_or_auto(range: RangeInclusive<u64>, at: Accessor) -> Value {
    Amount { measure: Number, range, word: "auto", besides: "", at }
}

const fn duration(at: Accessor) -> Value {
    amount(With(Unit::Time), 1..=DAY, at)
}

const fn choice(
    words: &'static [&'static str],
    wrong: &'static str,
    at: fn(&mut Draft) -> &mut dyn Choice,
) -> Value {
    Words { words, wrong, at }
}

/// A key with a default, a range and nothing more to say.
const fn key(name: &'static str, value: Value, short: &'static str) -> ConfigKey {
    ConfigKey { name, value, reload: true, example: "", short, long: "" }
}

impl ConfigKey {
    const fn example(self, example: &'static str) -> ConfigKey {
        ConfigKey { example, ..self }
    }

    const fn long(self, long: &'static str) -> ConfigKey {
        ConfigKey { long, ..self }
    }

    const fn at_start(self) -> ConfigKey {
        ConfigKey { reload: false, ..self }
    }
}

pub(super) static FILE: Table = Table {
    name: "",
    header: "",
    about: "What evenly listens on, and what holds for all of it",
    overrides: None,
    keys: &[
        key(
            "listen",
            Text {
                kind: "address or list",
                range: "IP address and port, or a list",
                read: |draft, item| {
                    draft.plan.listen = kinds::listen(item)?;
                    Ok(())
                },
                show: |draft| kinds::one_or_many(&draft.plan.listen),
            },
            "Where clients connect; `0.0.0.0` is every IPv4 address of the machine, port 0 lets the kernel choose",
        )
        .example("\"127.0.0.1:8080\"")
        .long(
            "`[::]` takes IPv4 connections too, unless `0.0.0.0` with the same port is listed beside it: then each takes its \
             own family. Duplicate addresses, and an address covered by `0.0.0.0` or `[::]` with the same port, are errors",
        ),
        key(
            "workers",
            number_or_auto(WORKERS, |draft| &mut draft.boot.workers),
            "Worker threads; `\"auto\"` is as many as the CPUs this process may use",
        )
        .long("CPU affinity and the quota of the cgroup are considered")
        .at_start(),
        key(
            "spin",
            number(0..=1_000, |draft| &mut draft.boot.spin),
            "How many times a worker polls for events before it sleeps",
        )
        .long(
            "Polling lowers latency, because no thread has to be woken, and uses CPU time that others on the machine may \
             need; an idle worker still sleeps. Measured at 200: with one client p50 was 0.71 x (0.55 to 0.92) and CPU per \
             request 1.23 x (1.05 to 1.47); at 8,000 requests/s over 64 clients p50 was the same and CPU 1.38 x (1.09 to \
             1.44), with a worse p99, because client and target shared the other core. Useful only where cores are idle and \
             a few microseconds count",
        )
        .at_start(),
        key(
            "watch",
            Flag(|draft| &mut draft.boot.watch),
            "Whether a changed file is applied by itself, as `evenly reload` would",
        )
        .long(
            "The file is checked once per second, through symbolic links, and applied when it has not changed for 100 ms. One that is \
             not valid, empty or gone changes nothing, and the log says so once",
        )
        .at_start(),
        key(
            "user",
            Text {
                kind: "name",
                range: "\"user\" or \"user:group\", names or numbers",
                read: |draft, item| {
                    draft.boot.user = Some(item.read(kinds::USER_EXAMPLE, kinds::user)?);
                    Ok(())
                },
                show: |draft| draft.boot.user.as_ref().map(|it| quoted(&it.to_string())),
            },
            "Whom a process that root started becomes once it has bound its ports",
        )
        .example("\"evenly\"")
        .long(
            "Ports below 1024, a file that only root can read and a control socket in `/run/evenly` need root at the start alone. Before \
             anything of a client, a target or a name server is read, every thread is that user's, with its groups (`initgroups`), and \
             there is no way back. A reload has that user's rights: it can add no port below 1024. A process that somebody else than \
             root starts must be that user already. Unset: it stays who it is, and logs a warning if that is root",
        )
        .at_start(),
        key(
            "trusted_proxies",
            Text {
                kind: "network or list",
                range: "network or address, or a list",
                read: |draft, item| {
                    draft.plan.trusted_proxies = kinds::networks(item);
                    Ok(())
                },
                show: |draft| Some(kinds::list(draft.plan.trusted_proxies.iter())),
            },
            "Clients whose `X-Forwarded-*` fields and `X-Request-ID` are trusted",
        )
        .example("[\"10.0.0.0/8\", \"::1\"]")
        .long(
            "Theirs are kept, and used for `client` in the access log; those of all other clients are replaced. A network \
             with host bits set is an error; an IPv4 client matches IPv4 networks only, also on an IPv6 socket",
        ),
        key(
            "via",
            choice(&["off", "requests", "all"], "none of its values", |draft| {
                &mut draft.plan.via
            }),
            "Which forwarded messages get a `Via` field, by which loops are detected",
        )
        .long(
            "The field is such as `1.1 evenly-66b3f0d1a2c4e597`, with a number unique to this process (RFC 9110 section 7.6.3). A request \
             that returns through a target gets a 508 (see `max_hops`). With `\"off\"` loops are not detected",
        ),
        key(
            "max_hops",
            number(0..=100, |draft| &mut draft.plan.max_hops),
            "How often a request may return to this process through a target; beyond it 508",
        )
        .long(
            "Counted by the `Via` fields of this process. 0: whatever returns is a loop, because every target is behind this process. Each \
             return takes one more connection on both sides, so that a higher value lets a loop take as many times the connections; raise it \
             only where a target is a proxy that sends requests here again and leaves `Via` as it is",
        ),
        key(
            "request_id",
            Flag(|draft| &mut draft.plan.request_id),
            "Whether each request gets an `X-Request-ID`, which its target, its client and the access log get",
        )
        .long(
            "A UUID of version 7 (RFC 9562). One that a client in `trusted_proxies` sent is kept, if it is 1 to 128 letters, digits and \
             `-_.~:=+/@`; that of any other client is replaced. Responses that evenly generates have it too. With `false` the field passes \
             as it is",
        ),
        key(
            "trace",
            Flag(|draft| &mut draft.plan.trace),
            "Whether evenly takes part in traces (W3C Trace Context)",
        )
        .long(
            "The target gets a `traceparent` with the trace ID and the sampled flag of the client's and a parent ID of evenly's. One that is \
             not valid, and several, are replaced by a new trace, which is sampled, and `tracestate` is removed. With `false` both fields \
             pass as they are",
        ),
        key(
            "proxy_status",
            choice(&["off", "errors", "all"], "none of its values", |draft| {
                &mut draft.plan.proxy_status
            }),
            "Which responses get a `Proxy-Status` field",
        )
        .long(
            "With `\"errors\"` those that evenly generates say why, such as `evenly; error=connection_refused` (RFC 9209); the words are \
             those of the log and the metrics (docs/reasons.md), and only clients of `trusted_proxies` get \
             what the parser has found as `details`. With `\"all\"` responses that are passed on also say which status their target sent",
        ),
    ],
};

pub(in crate::config) static TARGETS: Table = Table {
    name: "targets",
    header: "[[targets]]",
    about: "The servers behind this one: a block for each, at least one",
    overrides: Some(&HEALTH),
    keys: &[
        key(
            "address",
            Text {
                kind: "address",
                range: "\"host:port\", \"unix:/path\" or an SRV name",
                read: |draft, item| {
                    draft.address = Some(item.read(kinds::TARGET_EXAMPLE, address::target)?);
                    Ok(())
                },
                show: |draft| draft.address.as_ref().map(|at| quoted(&at.to_string())),
            },
            "Where the server is",
        )
        .example("\"127.0.0.1:8001\"")
        .long(
            "The port is 1 to 65535, IPv6 is written in brackets, a path has at most 107 bytes, an SRV name is `\"_service._proto.name\"` without a port. A name \
             may resolve to several addresses, each of which is an endpoint (see Names). No scheme and no path. \
             Duplicates are errors, also when spelt differently (letter case, a trailing dot, forms of IPv6, `//` in a path). \
             So is an address on which evenly itself listens, which would be a loop: an IP address of this machine, or \
             `localhost`, with the port of a `listen` address or of the admin listener",
        ),
        key(
            "state",
            choice(&["auto", "up", "drain", "down"], "none of its values", |draft| {
                &mut draft.state
            }),
            "Whether it gets requests",
        )
        .long(
            "With `\"auto\"` as its checks and its requests say; `\"up\"`: whatever they say; `\"drain\"`: no new ones, those under way go on to \
             their end; `\"down\"`: none, and those that another target can take are moved there. It is what `evenly drain TARGET` and its siblings decide while evenly \
             runs, which comes before it and is shown as unsaved until the file says the same",
        ),
        key(
            "health_check_endpoint",
            Text {
                kind: "path",
                range: "\"/\" and what follows, at most 2048 bytes",
                read: |draft, item| {
                    let path = item.read("a path such as \"/healthz\"", address::endpoint)?;
                    draft.check.endpoint = Some(path);
                    Ok(())
                },
                show: |draft| draft.check.endpoint.as_deref().map(quoted),
            },
            "The path that an HTTP health check requests; without it opening a TCP connection is the check",
        )
        .example("\"/healthz\"")
        .long("Visible ASCII without `#`"),
    ],
};

pub(in crate::config) static HEALTH: Table = Table {
    name: "health",
    header: "[health]",
    about: "How targets are checked, unless their own block says otherwise",
    overrides: None,
    keys: &[
        key(
            "interval",
            amount(With(Unit::Time), 10..=DAY, |draft| &mut draft.check.interval),
            "Time between two health checks of an endpoint",
        )
        .long(
            "While no endpoint is healthy, all are checked every 100 to 250 ms; one that refuses connections is checked every \
             second for half a minute, since it is usually being restarted",
        ),
        key(
            "timeout",
            Amount {
                measure: With(Unit::Time),
                range: 1..=DAY,
                word: "",
                besides: ", at most the interval",
                at: |draft| &mut draft.check.timeout,
            },
            "From the start of a check to the end of the response head",
        )
        .long(
            "A value longer than the interval is an error; the default is shortened to a shorter interval",
        ),
        key(
            "rise",
            number(1..=1_000, |draft| &mut draft.check.rise),
            "Consecutive successes that bring an endpoint up",
        ),
        key(
            "fall",
            number(1..=1_000, |draft| &mut draft.check.fall),
            "Consecutive failures that take an endpoint down",
        )
        .long(
            "After the first one the next checks follow within a second, or 100 ms apart after a failed request. The last \
             endpoint that is up stays up while it serves requests and its checks merely time out or get an unexpected \
             status; if it refuses connections it goes down",
        ),
        key(
            "expect",
            Text {
                kind: "statuses",
                range: "200, \"200-299\" or a list, 100 to 599",
                read: |draft, item| {
                    draft.check.expect = kinds::statuses(item)?;
                    Ok(())
                },
                show: |draft| Some(kinds::show_statuses(&draft.check.expect)),
            },
            "Statuses that mean success",
        )
        .example("[\"200\", \"301-302\"]")
        .long("Redirects are not followed"),
        key(
            "host",
            Text {
                kind: "host",
                range: "host name or address, and a port or none",
                read: |draft, item| {
                    draft.check.host = Some(item.read("a host name", address::host_field)?);
                    Ok(())
                },
                show: |draft| draft.check.host.as_deref().map(quoted),
            },
            "The `Host` field of HTTP health checks",
        )
        .example("\"http-api.internal\"")
        .long(
            "If it is unset: the target's address, `localhost` for a Unix socket, the domain of an SRV name (`spells.test` \
             for `_http._tcp.spells.test`)",
        ),
    ],
};

pub(super) static TIMEOUTS: Table = Table {
    name: "timeouts",
    header: "[timeouts]",
    about: "How long each phase of an exchange may take, and what happens then",
    overrides: None,
    keys: &[
        key(
            "client_header",
            duration(|draft| &mut draft.plan.timeouts.client_header),
            "From the first byte of a request head to its last; then 408",
        ),
        key(
            "client_idle",
            duration(|draft| &mut draft.plan.timeouts.client_idle),
            "An idle client connection; then it is closed",
        )
        .long(
            "Set it longer than a load balancer in front keeps its connections (AWS 60 s, Google Cloud 600 s): a request in \
             transit when evenly closes the connection fails",
        ),
        key(
            "client_body",
            duration(|draft| &mut draft.plan.timeouts.client_body),
            "Between two reads of a request body, and between two writes that the client accepts; then 408, or closed",
        )
        .long("It also runs when the response to that request is complete"),
        key(
            "client_gone",
            Amount {
                measure: With(Unit::Time),
                range: 0..=DAY,
                word: "off",
                besides: "",
                at: |draft| &mut draft.plan.timeouts.client_gone,
            },
            "How long a client that has closed its side may wait for its response; then the exchange is aborted",
        )
        .long(
            "The response has to begin, or to go on, within that time. `\"0s\"` is not at all, `\"off\"` is forever, for clients that half-close \
             and then wait. Both connections of the exchange are closed",
        ),
        key(
            "connect",
            duration(|draft| &mut draft.plan.timeouts.connect),
            "Connecting to an endpoint; then the request moves on to another endpoint",
        )
        .long(
            "Linux retransmits a lost SYN after 1 s and again after 3 s: a value just above one of these survives the loss, \
             `\"1s\"` does not",
        ),
        key(
            "response_header",
            duration(|draft| &mut draft.plan.timeouts.response_header),
            "From the end of the request to the end of the response head; then a retry if it is idempotent, else 504",
        )
        .long("The retry is on another endpoint. Long polls wait 30 to 50 s"),
        key(
            "response_body",
            duration(|draft| &mut draft.plan.timeouts.response_body),
            "Between two reads of a response body; then the client's connection is reset",
        )
        .long(
            "Event streams send heartbeats every 15 to 50 s. Also between two writes that a target accepts of a request it has \
             already answered; then the rest of the request is discarded",
        ),
        key(
            "tunnel_idle",
            duration(|draft| &mut draft.plan.timeouts.tunnel_idle),
            "A tunnel (WebSocket) without a byte in either direction; then it is closed",
        ),
        key(
            "upstream_idle",
            duration(|draft| &mut draft.plan.timeouts.upstream_idle),
            "An idle connection to an endpoint; then it is closed",
        ),
        key(
            "drain_delay",
            amount(With(Unit::Time), 0..=DAY, |draft| &mut draft.plan.timeouts.drain_delay),
            "From the beginning of a drain (SIGTERM, `evenly drain`), how long new connections are still accepted",
        )
        .long(
            "Each response ends its connection meanwhile, and `/readyz` on the admin listener says 503, so that whoever sends \
             connections here has time to stop: in Kubernetes, until every node knows that the Pod goes",
        ),
        key(
            "drain",
            duration(|draft| &mut draft.plan.timeouts.drain),
            "From then to the end of the process; then what is still in flight is closed",
        ),
        key(
            "upgrade",
            duration(|draft| &mut draft.plan.timeouts.upgrade),
            "From the start of a successor (`evenly upgrade`) until it serves; then it is ended, and this process serves on",
        )
        .long("The successor checks every target before it serves"),
    ],
};

pub(super) static LIMITS: Table = Table {
    name: "limits",
    header: "[limits]",
    about: "How large anything may grow, and what happens beyond it",
    overrides: None,
    keys: &[
        key(
            "head",
            amount(With(Unit::Size), 1 << 10..=64 << 10, |draft| &mut draft.plan.limits.head),
            "Size of a head; beyond it a request gets a 431 or 414, a response is a 502",
        )
        .long("414 if the request line alone is longer. It holds for trailers too"),
        key(
            "headers",
            number(1..=256, |draft| &mut draft.plan.limits.headers),
            "Fields of a head; beyond it a request gets a 431, a response is a 502",
        ),
        key(
            "connections",
            number_or_auto(1..=10_000_000, |draft| &mut draft.plan.limits.connections),
            "Simultaneous client connections, over all workers; `\"auto\"` is what the descriptor limit allows",
        )
        .long("Beyond it idle ones are closed to make room, and further ones wait to be accepted"),
        key(
            "requests_per_target",
            number_or_auto(1..=10_000_000, |draft| &mut draft.plan.limits.requests_per_target),
            "Simultaneous requests per endpoint, over all workers; `\"auto\"` is a share of the connections",
        )
        .long(
            "Tunnels count. Further requests go to the next endpoint with room; if there is none they get a 503. `\"auto\"`: one \
             and a half times the endpoint's share of `limits.connections` (three quarters of it with two endpoints, half with \
             three), so that an endpoint that hangs leaves room for the others; with `\"auto\"` no request gets a 503 for this",
        ),
        key(
            "idle_per_target",
            number_or_none(65_536, "; 0 turns pooling off", |draft| {
                &mut draft.plan.limits.idle_per_target
            }),
            "Idle connections each worker keeps per endpoint",
        ),
        key(
            "memory",
            Amount {
                measure: With(Unit::Size),
                range: 1 << 20..=1 << 40,
                word: "auto",
                besides: "",
                at: |draft| &mut draft.plan.limits.memory,
            },
            "Bytes buffered for slow clients and targets, over all workers; `\"auto\"` is an eighth of the memory there is",
        )
        .long(
            "Of the machine's memory or its cgroup's, at least 16 MiB. Close to the limit bulk transfers wait and reads become \
             small; at the limit a request gets a 503 if more than 4 KiB of it would have to be buffered (see Memory)",
        ),
    ],
};

pub(super) static RETRY: Table = Table {
    name: "retry",
    header: "[retry]",
    about: "What happens when an endpoint fails before the first byte of its response",
    overrides: None,
    keys: &[
        key(
            "connect_attempts",
            number(1..=256, |draft| &mut draft.plan.retry.connect_attempts),
            "Endpoints one request may try to connect to, each at most once; then 503",
        )
        .long("The first one counts"),
        key(
            "replay",
            Flag(|draft| &mut draft.plan.retry.replay),
            "Whether an idempotent request is retried when its connection breaks or its time is over",
        )
        .long("Before the first byte of the response, while the request is still in memory"),
        key(
            "budget",
            number(0..=100, |draft| &mut draft.plan.retry.budget),
            "Retries allowed per 100 recent requests; beyond it a failed request gets a 502 or 504",
        )
        .long("Of the last 10 to 20 s, over the whole process"),
        key(
            "budget_floor",
            number(0..=1_000_000, |draft| &mut draft.plan.retry.budget_floor),
            "Retries per second that are always allowed",
        ),
    ],
};

pub(super) static EJECTION: Table = Table {
    name: "ejection",
    header: "[ejection]",
    about: "When an endpoint that fails requests is taken out, even though its health checks succeed",
    overrides: None,
    keys: &[
        key(
            "connect_failures",
            number_or_none(1_000, "; 0 is off", |draft| {
                &mut draft.plan.ejection.connect_failures
            }),
            "Consecutive connects that were refused or timed out",
        )
        .long("The next health check decides"),
        key(
            "resets",
            number_or_none(1_000, "; 0 is off", |draft| &mut draft.plan.ejection.resets),
            "Consecutive exchanges that the endpoint reset or closed",
        )
        .long(
            "The endpoint is ejected if it has not served any request for 10 s (1 s if another endpoint served those that it broke), \
             or if its next health check fails too. \
             A pooled connection that ends before the response begins does not count: that is how pooled connections end",
        ),
        key(
            "timeouts",
            number_or_none(1_000, "; 0 is off", |draft| &mut draft.plan.ejection.timeouts),
            "Consecutive exchanges whose response did not begin within `timeouts.response_header`",
        )
        .long(
            "A slow request need not be the target's fault, so the endpoint is ejected only while its health check fails too; \
             where the check is a mere connection (no `health_check_endpoint`), if it has not served any request for 10 s",
        ),
        key(
            "errors",
            number_or_none(1_000, "; 0 is off", |draft| &mut draft.plan.ejection.errors),
            "Consecutive responses with a status of 500 to 599",
        )
        .long(
            "The endpoint is ejected if it has not served any request with another status for 10 s. \
             Responses generated by evenly do not count",
        ),
        key(
            "time",
            duration(|draft| &mut draft.plan.ejection.time),
            "Duration of the first ejection; it doubles with each further one",
        )
        .long(
            "A value longer than `max_time` is an error; the default is shortened to a shorter `max_time`",
        ),
        key(
            "max_time",
            duration(|draft| &mut draft.plan.ejection.max_time),
            "The longest ejection",
        )
        .long(
            "An endpoint that stays in for this long starts again with `time`. The default is raised to a longer `time`",
        ),
        key(
            "share",
            number_or_none(100, "; 0 is none", |draft| &mut draft.plan.ejection.share),
            "Percentage of all endpoints that may be ejected at the same time",
        )
        .long(
            "The last one that is up is ejected only at 100; a sole endpoint is never ejected",
        ),
    ],
};

pub(super) static TCP: Table = Table {
    name: "tcp",
    header: "[tcp]",
    about: "TCP socket options",
    overrides: None,
    keys: &[
        key(
            "congestion",
            Text {
                kind: "name",
                range: "at most 15 letters, digits, \"_\" and \"-\"",
                read: |draft, item| {
                    let name = item.read(kinds::CONGESTION_EXAMPLE, kinds::congestion)?;
                    draft.boot.tcp.congestion = Some(name);
                    Ok(())
                },
                show: |draft| draft.boot.tcp.congestion.as_deref().map(quoted),
            },
            "Congestion control of the connections to clients and targets; the system's if unset",
        )
        .example("\"cubic\"")
        .long(
            "`TCP_CONGESTION`; `sysctl net.ipv4.tcp_available_congestion_control` lists the names. A name that is not available \
             in this kernel, or not permitted for this user, is an error at startup that lists those that are; `evenly check` \
             opens no socket and cannot tell. Costs one system call per connection to a target. Measured on a system with bbr: \
             with `\"cubic\"` a 1 MiB response took 0.86 x the CPU (0.58 to 0.94; 0.73 x in another run), a 128-byte response \
             0.94 x (0.76 to 1.04), which is within the noise. Applies to what evenly sends, not to what targets and clients \
             send",
        )
        .at_start(),
        key(
            "defer_accept",
            amount(WholeSeconds, SECOND..=60 * SECOND, |draft| {
                &mut draft.boot.tcp.defer_accept
            }),
            "How long the kernel holds a new client connection that has sent no data; not at all if unset",
        )
        .example("\"5s\"")
        .long(
            "`TCP_DEFER_ACCEPT`; rounded up to 1, 3, 7, 15, 31 or 63 s. It has side effects: `timeouts.client_header` and \
             `limits.connections` count from the accept, and a drain resets connections that were not accepted yet. It speeds \
             up new connections only: measured with one connection per request, CPU per request was 0.80 x (0.72 to 0.86) and \
             p50 0.68 x (0.39 to 0.95)",
        )
        .at_start(),
        key(
            "reuse_port",
            Flag(|draft| &mut draft.boot.tcp.reuse_port),
            "Whether other evenly processes of the same user may listen on the same addresses",
        )
        .long(
            "`SO_REUSEPORT`. All of them need it; the kernel then spreads connections across them, and those that wait at one that \
             ends without a drain are reset. Without it a second process is refused, so that one that was started twice is \
             noticed. Each has a control socket of its own, with its process ID in the name",
        )
        .at_start(),
    ],
};

pub(super) static DNS: Table = Table {
    name: "dns",
    header: "[dns]",
    about: "Where the addresses of targets that are names come from",
    overrides: None,
    keys: &[
        key(
            "servers",
            Text {
                kind: "address or list",
                range: "IP address, or a list of 1 to 8",
                read: |draft, item| {
                    draft.boot.dns.servers = kinds::servers(item)?;
                    Ok(())
                },
                show: |draft| kinds::one_or_many(&draft.boot.dns.servers),
            },
            "The name servers to query; the system's if unset",
        )
        .example("[\"127.0.0.1:53\"]")
        .long(
            "Over UDP, and over TCP if a response is truncated. A port may follow the address, 53 if it is not there; IPv6 with a \
             port is written in brackets. An empty list, \
             duplicates, `0.0.0.0` and `::`, and addresses with a zone are errors. If it is unset: `/etc/hosts`, then the \
             servers and the search list of `/etc/resolv.conf`",
        )
        .at_start(),
    ],
};

pub(super) static ADMIN: Table = Table {
    name: "admin",
    header: "[admin]",
    about: "The admin listener: metrics and status",
    overrides: None,
    keys: &[
        key(
            "listen",
            Text {
                kind: "address",
                range: "IP address and port",
                read: |draft, item| {
                    draft.boot.admin = Some(kinds::admin(item)?);
                    Ok(())
                },
                show: |draft| draft.boot.admin.map(|at| quoted(&at.to_string())),
            },
            "Address of the admin listener; there is none if unset",
        )
        .example("\"127.0.0.1:9901\"")
        .long(
            "It must not overlap with a `listen` address: `0.0.0.0` and `[::]` overlap with every address of the same port. What \
             it shows needs no password",
        )
        .at_start(),
        key(
            "socket",
            Text {
                kind: "word or path",
                range: "\"auto\", \"off\" or an absolute path",
                read: |draft, item| {
                    let example = "\"auto\", \"off\" or an absolute path";
                    draft.boot.socket = item.read(example, kinds::control_socket)?;
                    Ok(())
                },
                show: |draft| Some(kinds::show_socket(&draft.boot.socket)),
            },
            "Control socket, for `evenly reload` and other commands; a Unix socket that only this user and root can open",
        )
        .example("\"/run/evenly/edge.sock\"")
        .long(
            "`\"auto\"` makes it in `$RUNTIME_DIRECTORY`, `/run/evenly` or `$XDG_RUNTIME_DIR/evenly`, the first of them that can \
             be written, and names it after the first `listen` address; where none can, there is none, and the log says so. One that \
             a process left behind is taken over; a second process that would have the same one does not start",
        )
        .at_start(),
        key(
            "token_file",
            Text {
                kind: "path",
                range: "the path of a file",
                read: |draft, item| {
                    draft.boot.token_file = Some(item.read(kinds::PATH_EXAMPLE, kinds::path)?);
                    Ok(())
                },
                show: |draft| {
                    draft.boot.token_file.as_ref().map(|path| quoted(&path.to_string_lossy()))
                },
            },
            "File with a token; whoever sends it may give commands by the admin listener. If unset nobody may",
        )
        .example("\"/etc/evenly/token\"")
        .long(
            "16 to 1024 visible ASCII characters; white space around them is left out. It is read at startup, before evenly becomes `user`, so that it may be a \
             file that only root can read. It is sent as `Authorization: Bearer TOKEN`; `evenly reload --admin ADDR --token-file PATH` and the other commands do that",
        )
        .at_start(),
        key(
            "hosts",
            Text {
                kind: "name or list",
                range: "a host name, or a list of them",
                read: |draft, item| {
                    draft.boot.admin_hosts = kinds::hosts(item)?;
                    Ok(())
                },
                show: |draft| kinds::one_or_many(&draft.boot.admin_hosts),
            },
            "Names with a dot by which browsers and programs call the admin listener; others get a 403",
        )
        .example("\"edge.example.net\"")
        .long(
            "IP addresses, `localhost` and names without a dot need not be here, `/metrics` and the probes (`/readyz`, `/livez`, `/healthz`) are open by any name, and so is everything to \
             whoever sends the token. It keeps a page in a browser from reading what is shown here by a name of its own that leads to this address (DNS rebinding)",
        )
        .at_start(),
    ],
};

const LOCKDOWNS: &[&str] = &["off", "auto", "on"];

pub(super) static SECURITY: Table = Table {
    name: "security",
    header: "[security]",
    about: "What evenly gives up once it has opened its files and sockets",
    overrides: None,
    keys: &[
        key(
            "landlock",
            choice(LOCKDOWNS, "none of its values", |draft| &mut draft.boot.security.landlock),
            "Whether files can be written only in the folders of the access log and of the control socket",
        )
        .long(
            "By Landlock, which Linux has since 5.13; also for root. `\"auto\"`: where the kernel has it, else the log says what it lacks; \
             `\"on\"`: evenly does not start without. A reload cannot move the access log to another folder then, and a folder that is \
             replaced by another of the same name cannot be written",
        )
        .at_start(),
        key(
            "seccomp",
            choice(LOCKDOWNS, "none of its values", |draft| &mut draft.boot.security.seccomp),
            "Whether only system calls that evenly makes are possible",
        )
        .long(
            "Any other fails with `ENOSYS`, as if the kernel did not have it; no memory can be made executable that is or was \
             writable. `\"auto\"` and `\"on\"` as with `landlock`; x86-64 and aarch64",
        )
        .at_start(),
    ],
};

pub(super) static LOG: Table = Table {
    name: "log",
    header: "[log]",
    about: "The access log",
    overrides: None,
    keys: &[
        key(
            "access",
            Text {
                kind: "word or path",
                range: "\"off\", \"stdout\" or a path with a \"/\" in it",
                read: |draft, item| {
                    let example = "\"off\", \"stdout\" or the path of a file";
                    draft.plan.log.access = item.read(example, kinds::access_sink)?;
                    Ok(())
                },
                show: |draft| Some(kinds::show_sink(&draft.plan.log.access)),
            },
            "Where finished exchanges are logged",
        )
        .example("\"/var/log/evenly/access.log\"")
        .long(
            "Files are appended to; the path may be a FIFO, whose readers may come and go. Other words (`\"on\"`, `\"stderr\"`) \
             and `~` are errors",
        ),
        key(
            "format",
            Text {
                kind: "word or template",
                range: "\"json\", \"combined\", \"vhost-combined\" or a template",
                read: |draft, item| {
                    draft.plan.log.format = item.read(kinds::FORMAT_EXAMPLE, kinds::access_format)?;
                    Ok(())
                },
                show: |draft| Some(kinds::show_format(&draft.plan.log.format)),
            },
            "Format of an entry: one JSON object per line, the combined format of Apache httpd, or a template",
        )
        .example("'{time} {client} \"{method} {uri}\" {status} {duration_ms}'")
        .long(
            "`\"vhost-combined\"` has the `Host` field and its port in front. A template is text with the names of fields in braces; `{{` and `}}` \
             are braces. Every field of the JSON format has a name, and `request`, `time_clf`, `time_unix` and `vhost`",
        ),
    ],
};
