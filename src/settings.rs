//! What the program needs at run time, as plain types. This room knows nothing of TOML or of the
//! command line: `config` turns what people write into these values, and tests build them by hand.
//!
//! Every default of the product is written here, once, in the `Default` implementations.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Everything one `evenly` process runs by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on, each by every worker. Default `0.0.0.0:8080`. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// How many worker threads. Default [`Workers::Auto`].
    pub workers: Workers,
    /// How often a worker asks for events without sleeping before it sleeps. Default 0; at most 1,000.
    pub spin: u32,
    /// The servers behind this one; never empty after validation.
    pub targets: Vec<Target>,
    /// Clients whose `X-Forwarded-*` fields are believed. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// Which messages that are passed on get a `Via` field (RFC 9110 section 7.6.3). Default [`Via::Requests`].
    pub via: Via,
    /// How long each phase of an exchange may take.
    pub timeouts: Timeouts,
    /// How large anything may grow.
    pub limits: Limits,
    /// What is done when a target fails before it answers.
    pub retry: Retry,
    /// When an endpoint that fails requests is taken out beside its probes.
    pub ejection: Ejection,
    /// What is set on TCP sockets.
    pub tcp: Tcp,
    /// Who is asked for the addresses of names.
    pub dns: Dns,
    /// Where the admin listener binds; `None` (the default) means there is none.
    pub admin: Option<SocketAddr>,
    /// The access log.
    pub log: AccessLog,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            workers: Workers::Auto,
            spin: 0,
            targets: Vec::new(),
            trusted_proxies: Vec::new(),
            via: Via::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            retry: Retry::default(),
            ejection: Ejection::default(),
            tcp: Tcp::default(),
            dns: Dns::default(),
            admin: None,
            log: AccessLog::default(),
        }
    }
}

/// Which messages get a `Via` field. A gateway must send it on requests and may on responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// None. A request that comes back is not recognised then.
    Off,
    /// Requests.
    #[default]
    Requests,
    /// Requests and responses.
    All,
}

/// How many worker threads to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// As many as the CPUs this process may use (affinity mask and cgroup quota included).
    Auto,
    /// Exactly this many, 1 to 1,024.
    Count(usize),
}

/// A configured server. A name may resolve to several endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: TargetAddress,
    /// How its endpoints are probed.
    pub health: HealthCheck,
}

/// `host:port`, `_service._proto.name` or `unix:/path` as the operator wrote it, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// An IP address and port: exactly one endpoint.
    Ip(SocketAddr),
    /// A DNS name and port: one endpoint for each address the name resolves to.
    Name {
        /// The name, lower case, without a trailing dot.
        host: String,
        /// 1 to 65,535.
        port: u16,
    },
    /// A service of a domain, `_service._proto.name` (RFC 2782): one endpoint for each address and port that its
    /// SRV records lead to. Lower case, without a trailing dot.
    Service(String),
    /// The absolute path of a Unix stream socket: exactly one endpoint.
    Unix(String),
}

impl std::fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TargetAddress::Ip(address) => write!(f, "{address}"),
            TargetAddress::Name { host, port } => write!(f, "{host}:{port}"),
            TargetAddress::Service(name) => f.write_str(name),
            TargetAddress::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// How the endpoints of one target are probed (`[health]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path and query of the HTTP probe, starting with `/`. `None` (the default): a TCP connect is the probe.
    pub endpoint: Option<String>,
    /// Time from one probe of an endpoint to the next. Default 5 s.
    pub interval: Duration,
    /// Time from the start of a probe to the end of the answer's head. Default 2 s.
    pub timeout: Duration,
    /// Successes in a row that bring a down endpoint up. Default 1; at least 1.
    pub rise: u32,
    /// Failures in a row that take an up endpoint down. Default 3; at least 1.
    pub fall: u32,
    /// Statuses that count as success. Default 200 to 299.
    pub expect: StatusRanges,
    /// The probe's `Host` field. `None` (the default): the target's address as configured, `localhost` for a Unix socket,
    /// and the domain alone for an SRV name.
    pub host: Option<String>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            endpoint: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
            expect: StatusRanges::default(),
            host: None,
        }
    }
}

/// A set of status codes as inclusive ranges within 100 to 599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRanges(pub Vec<(u16, u16)>);

impl Default for StatusRanges {
    fn default() -> Self {
        StatusRanges(vec![(200, 299)])
    }
}

impl StatusRanges {
    /// Whether `status` is in the set.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&status))
    }
}

/// An IP network in CIDR form; a single address is a network of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The network's address. Host bits are zero.
    pub address: IpAddr,
    /// Bits of the prefix: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` lies in this network. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(network) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(network) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

/// How long each phase may take. Every one is at least 1 ms, but `client_gone` may be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// First byte of a request head to its last: 408. Default 10 s.
    pub client_header: Duration,
    /// A keep-alive client connection without a request: closed. Default 75 s, above the 60 s for which cloud load
    /// balancers keep theirs, so that it is never ours that closes under a request of theirs.
    pub client_idle: Duration,
    /// Between two reads of a request body: 408. Also between two writes that a client takes. Default 30 s.
    pub client_body: Duration,
    /// From the end of a client's side of its connection until its exchange is given up, while its response is awaited or
    /// does not flow. Zero: at once. `None`: never, as for clients that half-close. Default 1 s.
    pub client_gone: Option<Duration>,
    /// A TCP connect to an endpoint; the request then moves on. Default 4 s: the kernel repeats a lost SYN after 1 s
    /// and again after 3 s.
    pub connect: Duration,
    /// The request sent to the response head: 504. Default 60 s: long polls wait for 30 to 50 s.
    pub response_header: Duration,
    /// Between two reads of a response body: the client's connection is cut. Default 60 s: event streams send a
    /// heartbeat every 15 to 50 s.
    pub response_body: Duration,
    /// A tunnel with no byte either way: closed. Default 1 h.
    pub tunnel_idle: Duration,
    /// A pooled upstream connection without a request: closed. Default 60 s.
    pub upstream_idle: Duration,
    /// From the first stop signal to the end of the process. Default 30 s.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            client_header: Duration::from_secs(10),
            client_idle: Duration::from_secs(75),
            client_body: Duration::from_secs(30),
            client_gone: Some(Duration::from_secs(1)),
            connect: Duration::from_secs(4),
            response_header: Duration::from_secs(60),
            response_body: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(3600),
            upstream_idle: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// How large anything may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, request (431; 414 when the request line alone is longer) or response (502). Default 16 KiB;
    /// 1 KiB to 64 KiB.
    pub head: usize,
    /// Fields of a head: 431 or 502. Default 100; 1 to 256.
    pub headers: usize,
    /// Client connections at once over all workers; `None` (the default) derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Requests with one endpoint at once over all workers. `None` (the default): a share of `connections`, half as much again
    /// as its part of the turns, so that an endpoint that hangs leaves room for the others; more only when they have none.
    pub requests_per_target: Option<usize>,
    /// Idle upstream connections a worker keeps for each endpoint. Default 1,024; 0 turns pooling off.
    pub idle_per_target: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 16 * 1024,
            headers: 100,
            connections: None,
            requests_per_target: None,
            idle_per_target: 1024,
        }
    }
}

/// What is done when an endpoint fails before the first byte of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Endpoints one request may try to connect to, the first included, each at most once. Default 16; at least 1.
    pub connect_attempts: usize,
    /// Whether an idempotent request whose bytes are still at hand is sent once more when its connection
    /// dies before the first byte of the answer. Default true.
    pub replay: bool,
    /// Of 100 recent requests, how many may be sent once more, over the whole process. Default 20; 0 to 100.
    pub budget: usize,
    /// Requests a second that may be sent once more however few there are. Default 10.
    pub budget_floor: usize,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { connect_attempts: 16, replay: true, budget: 20, budget_floor: 10 }
    }
}

/// When an endpoint that fails requests is taken out for a time, whatever its probes say. Each worker counts
/// for itself how often in a row an endpoint did something; 0 turns a count off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Connects in a row that were refused or timed out. Default 5; 0 to 1,000.
    pub connect_failures: u32,
    /// Exchanges in a row that the endpoint reset or closed. Default 5; 0 to 1,000.
    pub resets: u32,
    /// Exchanges in a row whose response did not begin in time. Default 5; 0 to 1,000.
    pub timeouts: u32,
    /// Responses in a row with a status of 500 to 599. Default 0; 0 to 1,000.
    pub errors: u32,
    /// How long the first ejection lasts; each further one in a row lasts twice as long as the one before.
    /// Default 5 s.
    pub time: Duration,
    /// How long an ejection lasts at most. An endpoint that stayed in for as long begins with `time` again.
    /// Default 5 min.
    pub max_time: Duration,
    /// Percent of all endpoints that may be ejected at once. Default 50; 0 to 100.
    pub share: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            connect_failures: 5,
            resets: 5,
            timeouts: 5,
            errors: 0,
            time: Duration::from_secs(5),
            max_time: Duration::from_secs(300),
            share: 50,
        }
    }
}

/// What is set on TCP sockets beside what evenly cannot do without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tcp {
    /// The congestion control of both sides' connections, by the kernel's name for it. `None` (the default): the system's.
    pub congestion: Option<String>,
    /// For how long the kernel keeps a fresh client connection that says nothing to itself; whole seconds.
    /// `None` (the default): it hands each over at once.
    pub defer_accept: Option<Duration>,
}

/// Who is asked for the addresses of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Name servers, asked in place of the system's. Empty (the default): those of `/etc/resolv.conf`,
    /// after `/etc/hosts`.
    pub servers: Vec<SocketAddr>,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessLog {
    /// Where each finished exchange is written. Default off.
    pub access: AccessSink,
    /// How a line looks. Default JSON.
    pub format: AccessFormat,
}

/// Where access lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessSink {
    /// Nowhere: nothing is logged per request.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// How an access line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined log format of Apache httpd.
    Combined,
}
