//! One lookup: what is asked of name servers, and what their answers mean.
//!
//! Owns the order of questions (hosts file, search list, both families, SRV and its hosts), their deadline and the bound
//! on how many there are at once; hickory-resolver owns the wire, retransmission, the choice of server, TCP after a
//! truncated answer, and CNAMEs. When names are asked for and what is kept is not decided here, and nothing is cached:
//! `names` asks when a TTL has ended and never before. Invariant: a lookup ends by [`DEADLINE`] after it was let in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::resolve::{Family, Finding, Missing, Wanted};
use super::roster::{MAX_ADDRESSES, Place};

/// What a lookup gets, all its questions included: less than a start waits for names.
const DEADLINE: Duration = Duration::from_secs(4);

/// What one question gets; it is sent anew after about a third of a second, a second, and so on. If that is over,
/// it is asked once more, of another server if there is one.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(1_900);

/// Lookups at once. The others wait, and their deadline with them.
const LOOKUPS: usize = 64;

/// Questions at once: each is a socket, and descriptors are for clients.
const QUESTIONS: usize = 128;

/// Name servers, and how names are written for them.
pub(super) struct NameServers {
    resolver: TokioResolver,
    hosts: Hosts,
    /// What is tried behind a name with few dots.
    search: Vec<Name>,
    ndots: usize,
    lookups: Semaphore,
    questions: Semaphore,
}

/// The addresses of a name.
#[derive(Debug, Default)]
struct Addresses {
    ips: Vec<IpAddr>,
    /// The least TTL, in seconds; `None` where there is none, as in the hosts file.
    ttl: Option<u32>,
    /// Why there may be more.
    missing: Option<Missing>,
}

/// Why there are no addresses, or no records.
#[derive(Debug)]
enum Trouble {
    /// There are none. With the TTL of that.
    Nothing(String, Option<u32>),
    /// Nobody knows.
    Failed(String),
}

impl From<Trouble> for Finding {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Nothing(why, ttl) => Finding::Nothing { why, ttl: ttl.map(seconds) },
            Trouble::Failed(why) => Finding::Failed(why),
        }
    }
}

impl NameServers {
    /// These servers, for absolute names, without a hosts file.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let servers = servers.iter().map(|&at| server(at)).collect();
        let config = ResolverConfig::from_name_servers(servers);
        NameServers::build(config, ResolverOpts::default(), Hosts::default())
    }

    /// The system's servers, search list and hosts file.
    pub(super) fn of_system() -> Result<Self, String> {
        let (config, options) =
            read_system_conf().map_err(|error| format!("/etc/resolv.conf: {error}"))?;
        // A file that is not there is an empty one.
        let hosts = Hosts::from_system().unwrap_or_default();
        NameServers::build(config, options, hosts)
    }

    fn build(
        config: ResolverConfig,
        mut options: ResolverOpts,
        hosts: Hosts,
    ) -> Result<Self, String> {
        let (domain, mut search, servers) = config.into_parts();
        if search.is_empty() {
            search.extend(domain); // the domain of this machine's name, as resolv.conf(5) has it
        }
        options.timeout = QUESTION_TIMEOUT;
        options.attempts = 1;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = QUESTIONS;
        let ndots = options.ndots;
        let config = ResolverConfig::from_name_servers(servers);
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config, provider).with_options(options);
        Ok(NameServers {
            resolver: resolver.build().map_err(|error| error.to_string())?,
            hosts,
            search,
            ndots,
            lookups: Semaphore::new(LOOKUPS),
            questions: Semaphore::new(QUESTIONS),
        })
    }

    /// Looks this up.
    pub(super) async fn look_up(self: Arc<Self>, wanted: &Wanted) -> Finding {
        let _let_in = self.lookups.acquire().await;
        let until = Instant::now() + DEADLINE;
        let finding = match wanted {
            Wanted::Host { name, port } => self.host(name, *port, until).await,
            Wanted::Service(name) => self.service(name, until).await,
        };
        finding.unwrap_or_else(Finding::from)
    }

    async fn host(&self, name: &str, port: u16, until: Instant) -> Result<Finding, Trouble> {
        if let Some(found) = absolute(name).ok().and_then(|name| self.in_hosts(&name)) {
            return Ok(found.with_port(port));
        }
        let mut first = None;
        for name in self.candidates(name)? {
            match self.addresses(&name, until).await {
                Ok(found) => return Ok(found.with_port(port)),
                Err(trouble) => first = Some(weightier(first, trouble)),
            }
        }
        Err(first.unwrap_or_else(|| Trouble::Failed("it is no name".into())))
    }

    async fn service(self: &Arc<Self>, name: &str, until: Instant) -> Result<Finding, Trouble> {
        let mut first = None;
        for name in self.candidates(name)? {
            match self.records(&name, RecordType::SRV, until).await {
                Ok(answer) => return self.follow(&answer, until).await,
                Err(trouble) => first = Some(weightier(first, trouble)),
            }
        }
        Err(first.unwrap_or_else(|| Trouble::Failed("it is no name".into())))
    }

    /// The absolute names that this one may stand for, in the order of resolv.conf(5).
    fn candidates(&self, name: &str) -> Result<Vec<Name>, Trouble> {
        let whole = absolute(name)?;
        // Of a name that is too long with it, a domain is left out.
        let mut names: Vec<Name> = self
            .search
            .iter()
            .filter_map(|domain| relative(name).ok()?.append_domain(domain).ok())
            .collect();
        let dots = name.bytes().filter(|&b| b == b'.').count();
        let place = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(place, whole);
        Ok(names)
    }

    /// What the hosts file has: it is the whole answer, for both families.
    fn in_hosts(&self, name: &Name) -> Option<Addresses> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let lookups = [RecordType::A, RecordType::AAAA].map(of);
        let ips: Vec<IpAddr> = lookups
            .iter()
            .flatten()
            .flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()))
            .collect();
        (!ips.is_empty()).then_some(Addresses { ips, ..Addresses::default() })
    }

    /// Both families of an absolute name.
    async fn addresses(&self, name: &Name, until: Instant) -> Result<Addresses, Trouble> {
        let (v4, v6) = tokio::join!(
            self.records(name, RecordType::A, until),
            self.records(name, RecordType::AAAA, until)
        );
        match (
            v4.and_then(|found| Addresses::of(&found)),
            v6.and_then(|found| Addresses::of(&found)),
        ) {
            (Ok(v4), Ok(v6)) => Ok(v4.and(v6)),
            (Ok(found), Err(trouble)) => Ok(found.without(Family::V6, trouble)),
            (Err(trouble), Ok(found)) => Ok(found.without(Family::V4, trouble)),
            (Err(v4), Err(v6)) => Err(weightier(Some(v4), v6)),
        }
    }

    /// One question. It alone ends when the lookup's time does: what others found by then counts.
    async fn records(
        &self,
        name: &Name,
        kind: RecordType,
        until: Instant,
    ) -> Result<Lookup, Trouble> {
        let question = async {
            let _one = self.questions.acquire().await;
            self.resolver.lookup(name.clone(), kind).await.map_err(|error| trouble(&error))
        };
        timeout_at(until, question).await.unwrap_or_else(|_| Err(Trouble::Failed(silence())))
    }

    /// The places that SRV records lead to.
    async fn follow(self: &Arc<Self>, answer: &Lookup, until: Instant) -> Result<Finding, Trouble> {
        let mut records: Vec<&SRV> = answer.answers().iter().filter_map(srv).collect();
        let ttl = least_ttl(answer.answers());
        if let [only] = records[..]
            && only.target.is_root()
        {
            let why = "its SRV record says that there is no such service".to_owned();
            return Ok(Finding::Unavailable { why, ttl: seconds(ttl.unwrap_or(0)) });
        }
        records.retain(|srv| srv.port != 0 && !srv.target.is_root());
        // Should there be too many, the ones of the first choice stay.
        records.sort_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight)));
        records.truncate(MAX_ADDRESSES);
        let hosts = self.hosts_of(&records, answer, until).await;
        gather(&records, &hosts, ttl)
    }

    /// The addresses of the hosts in these records: the answer may have brought them along, or they are asked for.
    async fn hosts_of(
        self: &Arc<Self>,
        records: &[&SRV],
        answer: &Lookup,
        until: Instant,
    ) -> Hosted {
        let mut hosts = Hosted::new();
        let mut asked = JoinSet::new();
        for SRV { target, .. } in records {
            if hosts.contains_key(target) {
                continue;
            }
            let found = self.in_hosts(target).or_else(|| brought_along(target, answer));
            if found.is_none() {
                let (servers, host) = (Arc::clone(self), target.clone());
                asked.spawn(async move { (servers.addresses(&host, until).await, host) });
            }
            // Of one that is asked for nothing is known until its answer is there.
            let unknown = || Err(Trouble::Failed("could not be looked up".into()));
            hosts.insert(target.clone(), found.map_or_else(unknown, Ok));
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok((found, host)) = answer {
                hosts.insert(host, found);
            }
        }
        hosts
    }
}

/// The hosts of SRV records, and what each has.
type Hosted = BTreeMap<Name, Result<Addresses, Trouble>>;

impl Addresses {
    fn of(answer: &Lookup) -> Result<Self, Trouble> {
        Addresses::in_records(answer.answers().iter(), least_ttl(answer.answers()))
            .ok_or_else(|| Trouble::Nothing("the name has no address".into(), None))
    }

    /// Those that a connection can be made to; `None` if there are none.
    fn in_records<'a>(records: impl Iterator<Item = &'a Record>, ttl: Option<u32>) -> Option<Self> {
        let ips: Vec<IpAddr> = records
            .filter_map(|record| record.data.ip_addr())
            .map(|ip| ip.to_canonical())
            .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
            .collect();
        (!ips.is_empty()).then_some(Addresses { ips, ttl, missing: None })
    }

    fn and(mut self, other: Self) -> Self {
        self.ips.extend(other.ips);
        self.ttl = least(self.ttl, other.ttl);
        self
    }

    /// Without those of this family. That there are none is an answer, that nobody knows is not.
    fn without(mut self, family: Family, other: Trouble) -> Self {
        if let Trouble::Failed(why) = other {
            self.missing = Some(Missing { why, family: Some(family) });
        }
        self
    }

    fn with_port(self, port: u16) -> Finding {
        let place = |ip| Place::plain(SocketAddr::new(ip, port).into());
        let places = self.ips.into_iter().map(place).collect();
        Finding::of(places, self.ttl.map(seconds), self.missing)
    }
}

/// What the SRV records and the addresses of their hosts come to.
fn gather(records: &[&SRV], hosts: &Hosted, mut ttl: Option<u32>) -> Result<Finding, Trouble> {
    let (mut places, mut missing) = (Vec::new(), None::<Missing>);
    for srv in records {
        let SRV { priority, weight, port, ref target, .. } = **srv;
        match hosts.get(target) {
            Some(Ok(found)) => {
                ttl = least(ttl, found.ttl);
                missing = Missing::both(missing, found.missing.clone());
                places.extend(found.ips.iter().map(|&ip| Place {
                    address: SocketAddr::new(ip, port).into(),
                    weight,
                    priority,
                }));
            }
            Some(Err(Trouble::Nothing(_, negative))) => ttl = least(ttl, *negative),
            Some(Err(Trouble::Failed(why))) => {
                let host = Missing { why: format!("{target} {why}"), family: None };
                missing = Missing::both(Some(host), missing);
            }
            None => {}
        }
    }
    match missing {
        missing if !places.is_empty() => Ok(Finding::of(places, ttl.map(seconds), missing)),
        Some(Missing { why, .. }) => Err(Trouble::Failed(why)),
        None => Err(Trouble::Nothing("its SRV records lead to no address".into(), ttl)),
    }
}

fn srv(record: &Record) -> Option<&SRV> {
    match &record.data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    }
}

/// The addresses of this host among the additional records.
fn brought_along(host: &Name, answer: &Lookup) -> Option<Addresses> {
    let of_host = || answer.additionals().iter().filter(|record| record.name == *host);
    let addresses = || of_host().filter(|record| record.data.ip_addr().is_some());
    Addresses::in_records(addresses(), addresses().map(|record| record.ttl).min())
}

fn server(at: SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(with_port);
    NameServerConfig::new(at.ip(), true, connections.into())
}

fn relative(name: &str) -> Result<Name, Trouble> {
    // Not as hickory parses text: an xn-- label stays what it is.
    Name::from_ascii(name).map_err(|error| Trouble::Failed(error.to_string()))
}

fn absolute(name: &str) -> Result<Name, Trouble> {
    let mut name = relative(name)?;
    name.set_fqdn(true);
    Ok(name)
}

/// What an error of hickory's says of the name.
fn trouble(error: &NetError) -> Trouble {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if is_certain(none) => {
            let why = match none.response_code {
                ResponseCode::NXDomain => "the name does not exist",
                _ => "the name has no such record",
            };
            Trouble::Nothing(why.into(), none.negative_ttl)
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.ns.is_some() => {
            Trouble::Failed("the name server does not know it and refers to others".into())
        }
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code: code, .. }))
        | NetError::Dns(DnsError::ResponseCode(code)) => {
            Trouble::Failed(format!("the name server answers \"{code}\""))
        }
        NetError::Timeout => Trouble::Failed(silence()),
        other => Trouble::Failed(other.to_string()),
    }
}

/// Whether who says so must know: an answer that there is nothing, and not a hint whom else to ask (RFC 2308
/// section 2.2), as servers give that should not have been asked.
fn is_certain(none: &NoRecords) -> bool {
    let says_so = matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError);
    says_so && (none.soa.is_some() || none.ns.is_none())
}

fn silence() -> String {
    "no name server answers".into()
}

/// Of two troubles the one that stands for both: nobody knows, or else the first, with the lesser TTL.
fn weightier(first: Option<Trouble>, second: Trouble) -> Trouble {
    match (first, second) {
        (Some(failed @ Trouble::Failed(_)), _) | (_, failed @ Trouble::Failed(_)) => failed,
        (Some(Trouble::Nothing(why, one)), Trouble::Nothing(_, other)) => {
            Trouble::Nothing(why, least(one, other))
        }
        (None, nothing) => nothing,
    }
}

fn least_ttl(records: &[Record]) -> Option<u32> {
    records.iter().map(|record| record.ttl).min()
}

/// The lesser of two where both are known.
fn least(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    one.into_iter().chain(other).min()
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::system_conf::parse_resolv_conf;

    /// A system with these files.
    fn system(resolv_conf: &str, hosts: &str) -> NameServers {
        let (config, options) = parse_resolv_conf(resolv_conf).unwrap();
        let mut table = Hosts::default();
        table.read_hosts_conf(hosts.as_bytes()).unwrap();
        NameServers::build(config, options, table).unwrap()
    }

    fn candidates(servers: &NameServers, name: &str) -> Vec<String> {
        servers.candidates(name).unwrap().iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn a_search_list_comes_before_a_name_with_few_dots_and_after_one_with_many() {
        let servers = system("nameserver 127.0.0.1\nsearch a.test b.test\noptions ndots:2", "");
        assert_eq!(candidates(&servers, "x"), ["x.a.test.", "x.b.test.", "x."]);
        assert_eq!(candidates(&servers, "x.y"), ["x.y.a.test.", "x.y.b.test.", "x.y."]);
        assert_eq!(candidates(&servers, "x.y.z"), ["x.y.z.", "x.y.z.a.test.", "x.y.z.b.test."]);
    }

    #[test]
    fn a_domain_is_searched_where_there_is_no_list() {
        let servers = system("nameserver 127.0.0.1\ndomain c.test", "");
        assert_eq!(candidates(&servers, "x"), ["x.c.test.", "x."]);
    }

    #[test]
    fn names_for_configured_servers_are_absolute() {
        let servers = NameServers::new(&["127.0.0.1:53".parse().unwrap()]).unwrap();
        for name in ["x", "x.y", "_http._tcp.x", "xn--bcher-kva.test"] {
            assert_eq!(candidates(&servers, name), [format!("{name}.")]);
        }
    }

    #[test]
    fn a_domain_that_makes_a_name_too_long_is_not_tried() {
        let long = vec!["a".repeat(62); 4].join(".");
        let servers = system(&format!("nameserver 127.0.0.1\nsearch {long} b.test"), "");
        assert_eq!(candidates(&servers, "some.host"), ["some.host.", "some.host.b.test."]);
    }

    #[test]
    fn the_hosts_file_answers_for_both_families_and_without_a_ttl() {
        let servers = system("nameserver 127.0.0.1", "10.0.0.1 api API2\n10.0.0.2 api\n::1 six");
        let found = |name: &str| servers.in_hosts(&absolute(name).unwrap());
        let api = found("api").unwrap();
        assert_eq!((api.ips, api.ttl), (vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()], None));
        assert_eq!(found("api2").unwrap().ips, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(found("six").unwrap().ips, ["::1".parse::<IpAddr>().unwrap()]);
        assert!(found("other").is_none());
    }

    #[test]
    fn a_configuration_without_servers_is_an_error() {
        assert!(parse_resolv_conf("search a.test").is_err());
    }

    fn nothing(ttl: Option<u32>) -> Trouble {
        Trouble::Nothing("gone".into(), ttl)
    }

    #[test]
    fn that_nobody_knows_outweighs_that_there_is_nothing() {
        let failed = || Trouble::Failed("no".into());
        for (one, other) in [(nothing(None), failed()), (failed(), nothing(None))] {
            assert!(matches!(weightier(Some(one), other), Trouble::Failed(_)));
        }
        let least = weightier(Some(nothing(Some(9))), nothing(Some(3)));
        assert!(matches!(least, Trouble::Nothing(_, Some(3))));
        let known = weightier(Some(nothing(None)), nothing(Some(3)));
        assert!(matches!(known, Trouble::Nothing(_, Some(3))));
    }

    fn none(code: ResponseCode) -> NoRecords {
        NoRecords::new(Query::new(), code)
    }

    #[test]
    fn only_an_answer_of_who_must_know_says_that_a_name_is_gone() {
        let mut referral = none(ResponseCode::NoError);
        referral.ns = Some([].into());
        let table = [
            (none(ResponseCode::NXDomain).into(), true),
            (none(ResponseCode::NoError).into(), true),
            (referral.into(), false),
            (none(ResponseCode::ServFail).into(), false),
            (NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)), false),
            (NetError::Timeout, false),
            (NetError::NoConnections, false),
        ];
        for (error, gone) in table {
            let found = trouble(&error);
            assert_eq!(matches!(found, Trouble::Nothing(..)), gone, "{error}: {found:?}");
        }
    }
}
