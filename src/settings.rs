//! What the program needs at run time, as plain types. This room knows nothing of TOML or of the
//! command line: `config` turns what people write into these values, and tests build them by hand.
//!
//! Every default of the product is written here, once, in the `Default` implementations.

#[path = "settings/template.rs"]
mod template;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use template::{LogField, LogPiece, LogTemplate};

/// Everything one `evenly` process runs by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// What holds from the start of the process to its end.
    pub boot: Boot,
    /// What is part of every snapshot, where the threads read it.
    pub plan: Plan,
}

/// What holds from the start of the process to its end: threads, sockets and files are made by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Boot {
    /// How many worker threads. Default [`Workers::Auto`].
    pub workers: Workers,
    /// How many times a worker polls for events before it sleeps. Default 0; at most 1,000.
    pub spin: u32,
    /// Whether a changed file is applied without being asked for. Default false.
    pub watch: bool,
    /// TCP socket options.
    pub tcp: Tcp,
    /// Where the addresses of names come from.
    pub dns: Dns,
    /// Where the admin listener binds; `None` (the default) means there is none.
    pub admin: Option<SocketAddr>,
    /// The file with the token of commands by the admin listener; `None` (the default): none are taken there.
    pub token_file: Option<PathBuf>,
    /// Names with a dot by which the admin listener is called, in lower case. Default: none.
    pub admin_hosts: Vec<String>,
    /// Where the control socket is. Default [`ControlSocket::Auto`].
    pub socket: ControlSocket,
    /// Whom a process that was started as root becomes once it has opened what only root may. `None` (the default): it stays.
    pub user: Option<RunAs>,
    /// What the process gives up once it has opened its files and sockets.
    pub security: Security,
}

/// A user, and a group if it is not the user's own. Each is a name or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The user.
    pub user: String,
    /// The group; `None`: that of the user.
    pub group: Option<String>,
}

impl std::fmt::Display for RunAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

/// What the process may not do any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Security {
    /// Landlock: nothing is written outside of the folders of the access log and the control socket. Default [`Lockdown::Off`].
    pub landlock: Lockdown,
    /// seccomp: only the system calls that evenly makes. Default [`Lockdown::Off`].
    pub seccomp: Lockdown,
}

/// Whether the process gives something up that not every kernel has a means for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lockdown {
    /// No.
    #[default]
    Off,
    /// Where the kernel has it.
    Auto,
    /// Yes: where the kernel lacks it the process does not start.
    On,
}

/// Where commands reach a running evenly: a Unix socket of mode 0600.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ControlSocket {
    /// In the first folder for such things that there is, named after the first listen address.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// At this path.
    Path(PathBuf),
}

/// What workers and the health thread are configured by. It is part of the snapshot and is read there, not copied when they
/// start, so that a publication can change it while connections are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Addresses to listen on, each by every worker. Default `0.0.0.0:8080`. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// The servers behind this one; never empty after validation.
    pub targets: Vec<Target>,
    /// Clients whose `X-Forwarded-*` fields and `X-Request-ID` are trusted. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// Which forwarded messages get a `Via` field (RFC 9110 section 7.6.3). Default [`Via::Requests`].
    pub via: Via,
    /// How often a request may come back to this process through a target; beyond it 508. Default 0: not at all; at most 100.
    pub max_hops: usize,
    /// Whether requests and responses get an `X-Request-ID`. Default false.
    pub request_id: bool,
    /// Whether traces (W3C Trace Context) are taken part in. Default false: both fields pass as they are.
    pub trace: bool,
    /// Which responses get a `Proxy-Status` field.
    pub proxy_status: ProxyStatus,
    /// How long each phase of an exchange may take.
    pub timeouts: Timeouts,
    /// How large anything may grow.
    pub limits: Limits,
    /// What happens when a target fails before it responds.
    pub retry: Retry,
    /// When an endpoint that fails requests is ejected although its health checks succeed.
    pub ejection: Ejection,
    /// The access log.
    pub log: AccessLog,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            targets: Vec::new(),
            trusted_proxies: Vec::new(),
            via: Via::default(),
            max_hops: 0,
            request_id: false,
            trace: false,
            proxy_status: ProxyStatus::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            retry: Retry::default(),
            ejection: Ejection::default(),
            log: AccessLog::default(),
        }
    }
}

impl Plan {
    /// Whether `ip` lies in one of the networks of `trusted_proxies`.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        // An IPv4 client on an IPv6 socket has an IPv4-mapped address.
        let ip = ip.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&ip))
    }
}

/// Which messages get a `Via` field. A gateway must send it on requests and may on responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Via {
    /// None. Loops are not detected then.
    Off,
    /// Requests.
    #[default]
    Requests,
    /// Requests and responses.
    All,
}

/// Whether an endpoint gets requests, as somebody has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetState {
    /// As its checks and its requests say.
    #[default]
    Auto,
    /// It does, whatever its checks say.
    Up,
    /// It gets no new ones; those under way, tunnels too, go on to their end.
    Drain,
    /// It gets none: requests that wait for its response go on, and those that another endpoint can take are moved there, as from
    /// one whose checks fail.
    Down,
}

impl TargetState {
    /// Every one.
    pub const ALL: [TargetState; 4] =
        [TargetState::Auto, TargetState::Up, TargetState::Drain, TargetState::Down];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            TargetState::Auto => "auto",
            TargetState::Up => "up",
            TargetState::Drain => "drain",
            TargetState::Down => "down",
        }
    }

    /// That of this word.
    pub fn of(name: &str) -> Option<TargetState> {
        TargetState::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Which responses get a `Proxy-Status` field (RFC 9209).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyStatus {
    /// None.
    Off,
    /// Those that evenly generates: why.
    #[default]
    Errors,
    /// Likewise, and those that are passed on: the status that the target sent.
    All,
}

/// How many worker threads to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Workers {
    /// As many as the CPUs this process may use (affinity mask and cgroup quota included).
    #[default]
    Auto,
    /// Exactly this many, 1 to 1,024.
    Count(usize),
}

/// A configured server. A name may resolve to several endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: TargetAddress,
    /// How its endpoints are checked.
    pub health: HealthCheck,
    /// Whether it gets requests, unless somebody decides otherwise while evenly runs.
    pub state: TargetState,
}

/// `host:port`, `_service._proto.name` or `unix:/path` as the operator wrote it, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// An IP address and port: exactly one endpoint.
    Ip(SocketAddr),
    /// A DNS name and port: one endpoint for each address the name resolves to.
    Name {
        /// The name, lower case. A dot at its end makes it absolute: no search list is used (RFC 1034 section 3.1).
        host: String,
        /// 1 to 65,535.
        port: u16,
    },
    /// A service of a domain, `_service._proto.name` (RFC 2782): one endpoint for each address and port that its
    /// SRV records lead to. Lower case; a dot at its end makes it absolute.
    Service(String),
    /// The absolute path of a Unix stream socket: exactly one endpoint.
    Unix(String),
}

impl TargetAddress {
    /// The same without the dot that makes a name absolute, which is of name servers alone.
    #[must_use]
    pub fn bare(&self) -> Self {
        let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_owned();
        match self {
            TargetAddress::Name { host, port } => {
                TargetAddress::Name { host: bare(host), port: *port }
            }
            TargetAddress::Service(name) => TargetAddress::Service(bare(name)),
            other => other.clone(),
        }
    }
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

/// How the endpoints of one target are checked (`[health]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path and query of the HTTP health check, starting with `/`. `None` (the default): a TCP connect is the check.
    pub endpoint: Option<String>,
    /// Time between two checks of an endpoint. Default 5 s.
    pub interval: Duration,
    /// From the start of a check to the end of the response head. Default 2 s.
    pub timeout: Duration,
    /// Consecutive successes that bring an endpoint up. Default 1; at least 1.
    pub rise: u32,
    /// Consecutive failures that take an endpoint down. Default 3; at least 1.
    pub fall: u32,
    /// Statuses that count as success. Default 200 to 299.
    pub expect: StatusRanges,
    /// The check's `Host` field. `None` (the default): the target's address as configured, `localhost` for a Unix socket,
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
    /// How long a client that has closed its side of the connection may wait for its response to begin, or to go on.
    /// Zero: not at all. `None`: forever, for clients that half-close. Default 1 s.
    pub client_gone: Option<Duration>,
    /// Connecting to an endpoint; the request then moves on. Default 4 s: the kernel retransmits a lost SYN after 1 s
    /// and again after 3 s.
    pub connect: Duration,
    /// From the end of the request to the end of the response head: a retry if it is idempotent, else 504. Default 60 s:
    /// long polls wait 30 to 50 s.
    pub response_header: Duration,
    /// Between two reads of a response body: the client's connection is reset. Default 60 s: event streams send a
    /// heartbeat every 15 to 50 s. Also between two writes that a target accepts of a request it has answered: the rest is
    /// discarded.
    pub response_body: Duration,
    /// A tunnel without a byte in either direction: closed. Default 1 h.
    pub tunnel_idle: Duration,
    /// A pooled upstream connection without a request: closed. Default 60 s.
    pub upstream_idle: Duration,
    /// From the beginning of a drain on: how long new connections are still accepted, while each response ends its connection and
    /// `/readyz` says 503. Default 0: not at all.
    pub drain_delay: Duration,
    /// From then to the end of the process. Default 30 s.
    pub drain: Duration,
    /// From the start of a successor until it serves (`evenly upgrade`). Default 30 s.
    pub upgrade: Duration,
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
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(30),
            upgrade: Duration::from_secs(30),
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
    /// Simultaneous client connections over all workers; `None` (the default) derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Simultaneous requests per endpoint over all workers. `None` (the default): one and a half times its share of
    /// `connections`, so that an endpoint that hangs leaves room for the others; more only when they have none.
    pub requests_per_target: Option<usize>,
    /// Idle connections each worker keeps per endpoint. Default 1,024; 0 turns pooling off.
    pub idle_per_target: usize,
    /// Bytes that wait in this process for a slow peer or for their target, over all workers; beyond it a connection has a few KiB.
    /// 1 MiB to 1 TiB; `None` (the default): an eighth of the memory that there is for this process, at least 16 MiB.
    pub memory: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: 16 * 1024,
            headers: 100,
            connections: None,
            requests_per_target: None,
            idle_per_target: 1024,
            memory: None,
        }
    }
}

/// What happens when an endpoint fails before the first byte of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Endpoints one request may try to connect to, including the first, each at most once. Default 16; at least 1.
    pub connect_attempts: usize,
    /// Whether an idempotent request that is still in memory is retried when its connection breaks, or its time is over,
    /// before the first byte of the response. Default true.
    pub replay: bool,
    /// Retries allowed per 100 recent requests, over the whole process. Default 20; 0 to 100.
    pub budget: usize,
    /// Retries per second that are always allowed. Default 10.
    pub budget_floor: usize,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { connect_attempts: 16, replay: true, budget: 20, budget_floor: 10 }
    }
}

/// When an endpoint that fails requests is ejected: taken out for some time, even though its health checks succeed. Each
/// worker counts consecutive failures; 0 turns a count off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Consecutive connects that were refused or timed out. Default 5; 0 to 1,000.
    pub connect_failures: u32,
    /// Consecutive exchanges that the endpoint reset or closed. Default 5; 0 to 1,000.
    pub resets: u32,
    /// Consecutive exchanges whose response did not begin in time. Default 5; 0 to 1,000.
    pub timeouts: u32,
    /// Consecutive responses with a status of 500 to 599. Default 0; 0 to 1,000.
    pub errors: u32,
    /// Duration of the first ejection; it doubles with each further one. Default 5 s.
    pub time: Duration,
    /// The longest ejection. An endpoint that stays in for this long starts again with `time`. Default 5 min.
    pub max_time: Duration,
    /// Percentage of all endpoints that may be ejected at the same time. Default 50; 0 to 100.
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

/// TCP socket options beside those that evenly cannot do without.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tcp {
    /// Congestion control of the connections to clients and targets, by the kernel's name for it. `None` (the default): the system's.
    pub congestion: Option<String>,
    /// How long the kernel holds a new client connection that has sent no data before handing it over; whole seconds.
    /// `None` (the default): connections are accepted immediately.
    pub defer_accept: Option<Duration>,
    /// Whether other processes of this user may listen on the same addresses, if they have the same setting. Default false.
    pub reuse_port: bool,
}

/// Where the addresses of names come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Name servers to query in place of the system's. Empty (the default): those of `/etc/resolv.conf`,
    /// after `/etc/hosts`.
    pub servers: Vec<SocketAddr>,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessLog {
    /// Where finished exchanges are logged. Default off.
    pub access: AccessSink,
    /// Format of an entry. Default JSON.
    pub format: AccessFormat,
}

/// Where access log entries go.
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

/// Format of an access log entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined log format of Apache httpd.
    Combined,
    /// Likewise, with the virtual host and its port in front.
    VhostCombined,
    /// As a template says.
    Template(LogTemplate),
}
