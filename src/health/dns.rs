//! One lookup: what is asked of name servers, and what their answers mean.
//!
//! Owns the order of questions (hosts file, search list, both families, SRV and its hosts), which records of an answer count,
//! their deadline and the bound on how many there are at once. Whom a question goes to is for `servers`; hickory-resolver owns
//! the wire, retransmission, and TCP after a truncated answer. When names are asked for and what is kept is not decided here, and nothing is cached:
//! `names` asks when a TTL has ended and never before. Invariant: a lookup ends by [`DEADLINE`] after it was let in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::domain::usage::{INVALID, LOCALHOST, ONION};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::hosts::Hosts;
use super::lookup::{AddressFamily, EarlyPlaces, LookupResult, Missing, Wanted};
use super::place::{MAX_ADDRESSES, Place};
use super::servers::{Servers, is_certain};
use super::sockets::Lacks;

/// What a lookup gets, all its questions included: less than a start waits for names.
const DEADLINE: Duration = Duration::from_secs(4);

/// What one question gets; it is sent anew after about a third of a second, a second, and so on. If that is over,
/// it is asked again, of another server if there is one.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(1_900);

/// How long what one family found waits for the other one before it counts: RFC 8305 section 3 has such a delay, too.
const GRACE: Duration = Duration::from_millis(250);

/// Questions for one name at most, each for the end of the aliases that the ones before have shown.
const MAX_ALIASES: usize = 8;

/// Lookups at once. The others wait, and their deadline with them.
const LOOKUPS: usize = 64;

/// Questions at once: each is a socket, and descriptors are for clients.
const QUESTIONS: usize = 128;

/// Name servers, and how names are written for them.
pub(super) struct NameServers {
    servers: Servers,
    /// What this process lacked for questions.
    lacks: Lacks,
    hosts: Hosts,
    /// What is tried behind a name with few dots.
    search: Vec<Name>,
    ndots: usize,
    lookups: Semaphore,
    questions: Semaphore,
}

/// What an answer says of the name that was asked for.
#[derive(Debug, Default)]
struct Records {
    records: Vec<Record>,
    additionals: Vec<Record>,
}

/// The addresses of a name.
#[derive(Debug, Default, Clone)]
struct Addresses {
    ips: Vec<IpAddr>,
    /// The least TTL, in seconds; `None` where there is none, as in the hosts file.
    ttl: Option<u32>,
    /// Why there may be more.
    missing: Option<Missing>,
}

/// Why there are no addresses, or no records.
#[derive(Debug)]
enum LookupError {
    /// There are none. With the TTL of that.
    Nothing(String, Option<u32>),
    /// The lookup failed; the answer is unknown.
    Failed(String),
}

impl From<LookupError> for LookupResult {
    fn from(trouble: LookupError) -> Self {
        match trouble {
            LookupError::Nothing(why, ttl) => LookupResult::Nothing { why, ttl: ttl.map(seconds) },
            LookupError::Failed(why) => LookupResult::Failed(why),
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

    /// The system's servers, search list and hosts file, as these files have them.
    pub(super) fn from_resolv_conf(resolv_conf: &[u8], hosts: &[u8]) -> Result<Self, String> {
        let (config, options) =
            parse_resolv_conf(resolv_conf).map_err(|error| error.to_string())?;
        NameServers::build(config, options, Hosts::read(hosts))
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
        options.max_active_requests = QUESTIONS;
        let lacks = Lacks::default();
        Ok(NameServers {
            servers: Servers::new(servers, &options, &lacks)?,
            lacks,
            hosts,
            search,
            ndots: options.ndots,
            lookups: Semaphore::new(LOOKUPS),
            questions: Semaphore::new(QUESTIONS),
        })
    }

    /// Looks this up. What is found while a part of it is still awaited goes to `early`.
    pub(super) async fn look_up(
        self: Arc<Self>,
        wanted: &Wanted,
        early: &EarlyPlaces,
    ) -> LookupResult {
        let _let_in = self.lookups.acquire().await;
        let until = Instant::now() + DEADLINE;
        let lacked = self.lacks.count();
        let finding = match wanted {
            Wanted::Host { name, port } => self.host(name, *port, until, early).await,
            Wanted::Service(name) => self.service(name, until, early).await,
        };
        match finding.unwrap_or_else(LookupResult::from) {
            LookupResult::Failed(_) | LookupResult::Places { missing: Some(_), .. }
                if self.lacks.count() != lacked =>
            {
                LookupResult::Short(self.lacks.last())
            }
            finding => finding,
        }
    }

    async fn host(
        &self,
        name: &str,
        port: u16,
        until: Instant,
        early: &EarlyPlaces,
    ) -> Result<LookupResult, LookupError> {
        if let Some(found) = absolute(name).ok().and_then(|name| self.in_hosts(&name)) {
            return Ok(found?.with_port(port));
        }
        let early = |found: Addresses| early(found.places(port));
        let mut first = None;
        for name in self.candidates(name)? {
            match self.addresses(&name, until, &early).await {
                Ok(found) => return Ok(found.with_port(port)),
                Err(trouble) => first = Some(worse(first, trouble)),
            }
        }
        Err(first.unwrap_or_else(|| LookupError::Failed("it is not a valid name".into())))
    }

    async fn service(
        self: &Arc<Self>,
        name: &str,
        until: Instant,
        early: &EarlyPlaces,
    ) -> Result<LookupResult, LookupError> {
        let mut first = None;
        for name in self.candidates(name)? {
            match self.records(&name, RecordType::SRV, until).await {
                Ok(answer) => return self.follow(&answer, until, early).await,
                Err(trouble) => first = Some(worse(first, trouble)),
            }
        }
        Err(first.unwrap_or_else(|| LookupError::Failed("it is not a valid name".into())))
    }

    /// The absolute names that this one may stand for, in the order of resolv.conf(5): itself if it ends in a dot (RFC 1034
    /// section 3.1).
    fn candidates(&self, name: &str) -> Result<Vec<Name>, LookupError> {
        let whole = absolute(name)?;
        if name.ends_with('.') {
            return Ok(vec![whole]);
        }
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

    /// What the hosts file has: it is the whole answer, for both families, even if it leads nowhere.
    fn in_hosts(&self, name: &Name) -> Option<Result<Addresses, LookupError>> {
        let mut ips = self.hosts.addresses(&name.to_ascii())?.to_vec();
        ips.retain(is_destination);
        if ips.is_empty() {
            let why = "the hosts file has no usable address for it";
            return Some(Err(LookupError::Nothing(why.into(), None)));
        }
        Some(Ok(Addresses { ips, ..Addresses::default() }))
    }

    /// Both families of an absolute name. What the first one found goes to `early` if the second keeps it waiting.
    async fn addresses(
        &self,
        name: &Name,
        until: Instant,
        early: &(dyn Fn(Addresses) + Send + Sync),
    ) -> Result<Addresses, LookupError> {
        let family = async |kind| {
            self.records(name, kind, until).await.and_then(|found| Addresses::of(&found))
        };
        let (v4, v6) = (family(RecordType::A), family(RecordType::AAAA));
        tokio::pin!(v4, v6);
        let (v4, v6) = tokio::select! {
            found = &mut v4 => {
                let other = after_grace(&found, v6, early).await;
                (found, other)
            }
            found = &mut v6 => {
                let other = after_grace(&found, v4, early).await;
                (other, found)
            }
        };
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok(v4.and(v6)),
            (Ok(found), Err(trouble)) => Ok(found.without(AddressFamily::V6, trouble)),
            (Err(trouble), Ok(found)) => Ok(found.without(AddressFamily::V4, trouble)),
            (Err(v4), Err(v6)) => Err(worse(Some(v4), v6)),
        }
    }

    /// The records of an absolute name, or of what its aliases lead to. It alone ends when the lookup's time does: what others
    /// found by then counts.
    async fn records(
        &self,
        name: &Name,
        kind: RecordType,
        until: Instant,
    ) -> Result<Records, LookupError> {
        if let Some(known) = without_asking(name, kind) {
            return known;
        }
        let found = timeout_at(until, self.follow_aliases(name, kind)).await;
        found.unwrap_or_else(|_| Err(LookupError::Failed(silence())))
    }

    /// One question, as a rule: servers that recurse follow aliases themselves. Of others the end of the aliases is asked for.
    async fn follow_aliases(&self, name: &Name, kind: RecordType) -> Result<Records, LookupError> {
        let (mut answers, mut end) = (Vec::new(), name.clone());
        for _ in 0..MAX_ALIASES {
            let question = async {
                let _one = self.questions.acquire().await;
                self.servers.ask(&end, kind).await.map_err(|error| trouble(&error))
            };
            let answer = question.await?.into_message();
            answers.extend(answer.answers);
            let chain = chain(name, &answers);
            let records = Records::to(&chain, kind, &answers, answer.additionals);
            if !records.records.is_empty() {
                return Ok(records);
            }
            let next = chain.last().copied().unwrap_or(name);
            if *next == end {
                break;
            }
            end = next.clone();
        }
        let why = match end == *name {
            true => "the name server's answer is about other names",
            false => "its aliases lead to no such record",
        };
        Err(LookupError::Failed(why.into()))
    }

    /// The places that SRV records lead to.
    async fn follow(
        self: &Arc<Self>,
        answer: &Records,
        until: Instant,
        early: &EarlyPlaces,
    ) -> Result<LookupResult, LookupError> {
        let mut records: Vec<&SRV> = answer.records.iter().filter_map(srv).collect();
        let ttl = least_ttl(&answer.records);
        if let [only] = records[..]
            && only.target.is_root()
        {
            let why = "its SRV record says that the service is not available".to_owned();
            return Ok(LookupResult::Unavailable { why, ttl: seconds(ttl.unwrap_or(0)) });
        }
        records.retain(|srv| srv.port != 0 && !srv.target.is_root());
        // Should there be too many, the ones of the first choice stay.
        records.sort_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight)));
        records.truncate(MAX_ADDRESSES);
        let early = |hosts: &Hosted| {
            if let Ok(LookupResult::Places { places, .. }) = gather(&records, hosts, ttl) {
                early(places);
            }
        };
        let hosts = self.hosts_of(&records, answer, until, &early).await;
        gather(&records, &hosts, ttl)
    }

    /// The addresses of the hosts in these records: the answer may have brought them along, or they are asked for. What
    /// there is goes to `early` when each has some and not all have said everything.
    async fn hosts_of(
        self: &Arc<Self>,
        records: &[&SRV],
        answer: &Records,
        until: Instant,
        early: &(dyn Fn(&Hosted) + Send + Sync),
    ) -> Hosted {
        let mut hosts = Hosted::new();
        let mut asked = JoinSet::new();
        let (first, mut firsts) = unbounded_channel();
        for SRV { target, .. } in records {
            if hosts.contains_key(target) {
                continue;
            }
            let found = self.in_hosts(target).or_else(|| glue(target, answer).map(Ok));
            if found.is_none() {
                let (servers, host, first) = (Arc::clone(self), target.clone(), first.clone());
                asked.spawn(async move {
                    // Whoever would hear it may have all it wants.
                    let early = |found| drop(first.send((host.clone(), found)));
                    (servers.addresses(&host, until, &early).await, host.clone())
                });
            }
            // Of one that is asked for nothing is known until its answer is there.
            let unknown = || Err(LookupError::Failed(NOT_ASKED.into()));
            hosts.insert(target.clone(), found.unwrap_or_else(unknown));
        }
        drop(first);
        while !asked.is_empty() {
            let (found, host) = tokio::select! {
                Some((host, found)) = firsts.recv() => (Ok(found), host),
                Some(Ok(whole)) = asked.join_next() => whole,
                else => break,
            };
            hosts.insert(host, found);
            let is_known = |found: &Result<Addresses, LookupError>| !matches!(found, Err(LookupError::Failed(why)) if why == NOT_ASKED);
            if !asked.is_empty() && hosts.values().all(is_known) {
                early(&hosts);
            }
        }
        hosts
    }
}

/// What is known of a host whose lookup has not ended.
const NOT_ASKED: &str = "could not be looked up";

/// What the second family finds, while the first one's addresses wait for it for a while.
async fn after_grace(
    first: &Result<Addresses, LookupError>,
    second: impl Future<Output = Result<Addresses, LookupError>>,
    early: &(dyn Fn(Addresses) + Send + Sync),
) -> Result<Addresses, LookupError> {
    tokio::pin!(second);
    if let Ok(found) = first {
        match timeout(GRACE, &mut second).await {
            Ok(found) => return found,
            Err(_) => early(found.clone()),
        }
    }
    second.await
}

impl Records {
    /// Of what was answered the records of this type that one of the chain of names has, which aliases lead along, and these
    /// aliases. What a server adds of other names is not what it was asked for.
    fn to(chain: &[&Name], kind: RecordType, answers: &[Record], additionals: Vec<Record>) -> Self {
        let counts = |record: &&Record| {
            chain.contains(&&record.name)
                && (record.record_type() == kind || alias(record).is_some())
        };
        let records: Vec<Record> = answers.iter().filter(counts).cloned().collect();
        let has_some = records.iter().any(|record| record.record_type() == kind);
        Records { records: if has_some { records } else { Vec::new() }, additionals }
    }
}

/// The name that was asked for, and what its aliases in these records lead to, one after the other.
fn chain<'a>(name: &'a Name, records: &'a [Record]) -> Vec<&'a Name> {
    let aliases: Vec<(&Name, &Name)> = records.iter().filter_map(alias).collect();
    let mut chain = vec![name];
    while let Some(&(_, next)) =
        aliases.iter().find(|(from, to)| chain.contains(from) && !chain.contains(to))
    {
        chain.push(next);
    }
    chain
}

/// What is known of a name that no server is to be asked for (RFC 6761 sections 6.3 and 6.4, RFC 7686).
fn without_asking(name: &Name, kind: RecordType) -> Option<Result<Records, LookupError>> {
    if INVALID.zone_of(name) || ONION.zone_of(name) {
        return Some(Err(LookupError::Nothing("the name does not exist".into(), None)));
    }
    let ip: IpAddr = match kind {
        _ if !LOCALHOST.zone_of(name) => return None,
        RecordType::A => Ipv4Addr::LOCALHOST.into(),
        RecordType::AAAA => Ipv6Addr::LOCALHOST.into(),
        _ => return Some(Err(LookupError::Nothing("the name has no such record".into(), None))),
    };
    let record = Record::from_rdata(name.clone(), u32::MAX, RData::from(ip));
    Some(Ok(Records { records: vec![record], additionals: Vec::new() }))
}

/// From which name an alias leads to which.
fn alias(record: &Record) -> Option<(&Name, &Name)> {
    match &record.data {
        RData::CNAME(to) => Some((&record.name, &to.0)),
        _ => None,
    }
}

/// Whether a connection can be made to it.
fn is_destination(ip: &IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast()
}

/// The hosts of SRV records, and what each has.
type Hosted = BTreeMap<Name, Result<Addresses, LookupError>>;

impl Addresses {
    fn of(answer: &Records) -> Result<Self, LookupError> {
        Addresses::in_records(answer.records.iter(), least_ttl(&answer.records))
            .ok_or_else(|| LookupError::Nothing("the name has no address".into(), None))
    }

    /// Those that a connection can be made to; `None` if there are none.
    fn in_records<'a>(records: impl Iterator<Item = &'a Record>, ttl: Option<u32>) -> Option<Self> {
        let ips: Vec<IpAddr> = records
            .filter_map(|record| record.data.ip_addr())
            .map(|ip| ip.to_canonical())
            .filter(is_destination)
            .collect();
        (!ips.is_empty()).then_some(Addresses { ips, ttl, missing: None })
    }

    fn and(mut self, other: Self) -> Self {
        self.ips.extend(other.ips);
        self.ttl = least(self.ttl, other.ttl);
        self
    }

    /// Without those of this family. That there are none is an answer; a failure is not.
    fn without(mut self, family: AddressFamily, other: LookupError) -> Self {
        if let LookupError::Failed(why) = other {
            self.missing = Some(Missing { why, family: Some(family) });
        }
        self
    }

    fn places(&self, port: u16) -> Vec<Place> {
        self.ips.iter().map(|&ip| Place::plain(SocketAddr::new(ip, port).into())).collect()
    }

    fn with_port(self, port: u16) -> LookupResult {
        LookupResult::of(self.places(port), self.ttl.map(seconds), self.missing)
    }
}

/// What the SRV records and the addresses of their hosts come to.
fn gather(
    records: &[&SRV],
    hosts: &Hosted,
    mut ttl: Option<u32>,
) -> Result<LookupResult, LookupError> {
    let (mut places, mut missing) = (Vec::new(), None::<Missing>);
    for srv in records {
        let SRV { priority, weight, port, ref target, .. } = **srv;
        match hosts.get(target) {
            Some(Ok(found)) => {
                ttl = least(ttl, found.ttl);
                missing = Missing::both(missing, found.missing.clone());
                let host = host_of(target, port);
                places.extend(found.ips.iter().map(|&ip| Place {
                    address: SocketAddr::new(ip, port).into(),
                    weight,
                    priority,
                    host,
                }));
            }
            Some(Err(LookupError::Nothing(_, negative))) => ttl = least(ttl, *negative),
            Some(Err(LookupError::Failed(why))) => {
                let host = Missing { why: format!("{target} {why}"), family: None };
                missing = Missing::both(Some(host), missing);
            }
            None => {}
        }
    }
    match missing {
        missing if !places.is_empty() => Ok(LookupResult::of(places, ttl.map(seconds), missing)),
        Some(Missing { why, .. }) => Err(LookupError::Failed(why)),
        None => Err(LookupError::Nothing("its SRV records lead to no address".into(), ttl)),
    }
}

/// The same number for the same host and port in every answer.
fn host_of(target: &Name, port: u16) -> u64 {
    let mut hasher = DefaultHasher::new();
    target.to_lowercase().to_ascii().hash(&mut hasher);
    port.hash(&mut hasher);
    hasher.finish()
}

fn srv(record: &Record) -> Option<&SRV> {
    match &record.data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    }
}

/// The addresses of this host among the additional records.
fn glue(host: &Name, answer: &Records) -> Option<Addresses> {
    let of_host = || answer.additionals.iter().filter(|record| record.name == *host);
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

fn relative(name: &str) -> Result<Name, LookupError> {
    // Not as hickory parses text: an xn-- label stays what it is.
    Name::from_ascii(name).map_err(|error| LookupError::Failed(error.to_string()))
}

fn absolute(name: &str) -> Result<Name, LookupError> {
    let mut name = relative(name)?;
    name.set_fqdn(true);
    Ok(name)
}

/// What an error of hickory's says of the name.
fn trouble(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) if is_certain(none) => {
            let why = match none.response_code {
                ResponseCode::NXDomain => "the name does not exist",
                _ => "the name has no such record",
            };
            LookupError::Nothing(why.into(), none.negative_ttl)
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.ns.is_some() => LookupError::Failed(
            "the name server is not authoritative for it and returned a referral".into(),
        ),
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code: code, .. }))
        | NetError::Dns(DnsError::ResponseCode(code)) => {
            LookupError::Failed(format!("the name server returned \"{code}\""))
        }
        NetError::Timeout => LookupError::Failed(silence()),
        other => LookupError::Failed(other.to_string()),
    }
}

fn silence() -> String {
    "no name server responded".into()
}

/// Of two errors the one that stands for both: a failure, or else the first, with the lesser TTL.
fn worse(first: Option<LookupError>, second: LookupError) -> LookupError {
    match (first, second) {
        (Some(failed @ LookupError::Failed(_)), _) | (_, failed @ LookupError::Failed(_)) => failed,
        (Some(LookupError::Nothing(why, one)), LookupError::Nothing(_, other)) => {
            LookupError::Nothing(why, least(one, other))
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
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::rdata::CNAME;

    /// A system with these files.
    fn system(resolv_conf: &str, hosts: &str) -> NameServers {
        NameServers::from_resolv_conf(resolv_conf.as_bytes(), hosts.as_bytes()).unwrap()
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
        for absolute in ["x.", "x.y.", "x.y.z.", "_http._tcp.x."] {
            assert_eq!(candidates(&servers, absolute), [absolute]);
        }
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
        let found = |name: &str| servers.in_hosts(&absolute(name).unwrap()).map(Result::unwrap);
        let api = found("api").unwrap();
        assert_eq!((api.ips, api.ttl), (vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()], None));
        assert_eq!(found("api2").unwrap().ips, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(found("api2.").unwrap().ips, [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(found("six").unwrap().ips, ["::1".parse::<IpAddr>().unwrap()]);
        assert!(found("other").is_none());
    }

    #[test]
    fn a_name_that_the_hosts_file_leads_nowhere_is_not_asked_for() {
        let servers = system("nameserver 127.0.0.1", "0.0.0.0 ads both\n:: ads\n127.0.0.2 both");
        let found = |name: &str| servers.in_hosts(&absolute(name).unwrap()).unwrap();
        assert!(matches!(found("ads"), Err(LookupError::Nothing(..))));
        assert_eq!(found("both").unwrap().ips, [IpAddr::from([127, 0, 0, 2])]);
    }

    #[test]
    fn a_configuration_without_servers_is_an_error() {
        assert!(NameServers::from_resolv_conf(b"search a.test", b"").is_err());
    }

    #[test]
    fn servers_of_resolv_conf_are_asked_with_edns_only_where_it_says_so() {
        for (options, edns) in [("", false), ("\noptions edns0", true)] {
            let servers = system(&format!("nameserver 127.0.0.1{options}"), "");
            assert_eq!(servers.servers.know_edns(), edns, "{options:?}");
        }
    }

    /// The name of a record, and what it has: an address, or what it is an alias to.
    type TestRecord<'a> = (&'a str, &'a str);

    /// The last parts of the addresses that count in an answer to a question for `a.test.` of these records.
    fn counted(records: &[TestRecord<'_>]) -> Vec<u8> {
        let record = |&(name, data): &TestRecord<'_>| {
            let data = match data.parse::<IpAddr>() {
                Ok(ip) => RData::from(ip),
                Err(_) => RData::CNAME(CNAME(absolute(data).unwrap())),
            };
            Record::from_rdata(absolute(name).unwrap(), 60, data)
        };
        let name = absolute("a.test").unwrap();
        let found: Vec<Record> = records.iter().map(record).collect();
        let answer = Records::to(&chain(&name, &found), RecordType::A, &found, Vec::new());
        let ips = answer.records.iter().filter_map(|record| record.data.ip_addr());
        let last = |ip| match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => panic!("none was asked for"),
        };
        ips.map(last).collect()
    }

    #[test]
    fn only_records_of_the_name_and_of_what_its_aliases_lead_to_count() {
        let table: &[(&[TestRecord<'_>], &[u8])] = &[
            (&[("a.test", "10.0.0.1"), ("A.TEST", "10.0.0.2")], &[1, 2]),
            (&[("a.test", "10.0.0.1"), ("bank.test", "10.0.0.2")], &[1]),
            (&[("bank.test", "10.0.0.2")], &[]),
            (&[("a.test", "b.test"), ("b.test", "c.test"), ("c.test", "10.0.0.3")], &[3]),
            (&[("c.test", "10.0.0.3"), ("b.test", "c.test"), ("a.test", "b.test")], &[3]),
            (&[("a.test", "b.test"), ("b.test", "a.test"), ("b.test", "10.0.0.4")], &[4]),
            (&[("bank.test", "b.test"), ("b.test", "10.0.0.5")], &[]),
            (&[("a.test", "b.test"), ("b.test", "10.0.0.1"), ("x.test", "10.0.0.2")], &[1]),
            (&[("a.test", "b.test"), ("a.test", "2001:db8::1")], &[]),
        ];
        for (records, expected) in table {
            assert_eq!(counted(records), *expected, "{records:?}");
        }
    }

    #[test]
    fn names_of_this_machine_and_of_nowhere_are_not_asked_for() {
        let known = |name, kind| match without_asking(&absolute(name).unwrap(), kind)? {
            Ok(found) => found.records[0].data.ip_addr().map(|ip| ip.to_string()),
            Err(LookupError::Nothing(why, _)) => Some(why),
            Err(LookupError::Failed(_)) => panic!("it is known"),
        };
        for (name, kind, expected) in [
            ("localhost", RecordType::A, Some("127.0.0.1")),
            ("a.LOCALHOST", RecordType::AAAA, Some("::1")),
            ("_http._tcp.localhost", RecordType::SRV, Some("the name has no such record")),
            ("a.invalid", RecordType::A, Some("the name does not exist")),
            ("a.onion", RecordType::SRV, Some("the name does not exist")),
            ("localhost.test", RecordType::A, None),
        ] {
            assert_eq!(known(name, kind).as_deref(), expected, "{name}");
        }
    }

    fn nothing(ttl: Option<u32>) -> LookupError {
        LookupError::Nothing("gone".into(), ttl)
    }

    #[test]
    fn a_failure_outweighs_that_there_is_nothing() {
        let failed = || LookupError::Failed("no".into());
        for (one, other) in [(nothing(None), failed()), (failed(), nothing(None))] {
            assert!(matches!(worse(Some(one), other), LookupError::Failed(_)));
        }
        let least = worse(Some(nothing(Some(9))), nothing(Some(3)));
        assert!(matches!(least, LookupError::Nothing(_, Some(3))));
        let known = worse(Some(nothing(None)), nothing(Some(3)));
        assert!(matches!(known, LookupError::Nothing(_, Some(3))));
    }

    fn none(code: ResponseCode) -> NoRecords {
        NoRecords::new(Query::new(), code)
    }

    #[test]
    fn only_an_authoritative_answer_says_that_a_name_is_gone() {
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
            assert_eq!(matches!(found, LookupError::Nothing(..)), gone, "{error}: {found:?}");
        }
    }
}
