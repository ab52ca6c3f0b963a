//! Whom a question goes to: the name servers in their order, each with EDNS (RFC 6891) or without.
//!
//! The order is the file's, as resolv.conf(5) has it and the C library keeps it: the second server may know less than the first
//! one, which a company runs for names of its own. Owns which server is asked when, and what is known of each; hickory-resolver
//! owns the wire. Invariants: what a server has counts at once; that there is nothing counts only from a server in front of
//! which all have failed; a server that fails, by silence or by an error of its own, passes the question on.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_resolver::net::xfer::FirstAnswer;
use hickory_resolver::net::{DnsError, DnsHandle, NetError, NoRecords, RetryDnsHandle};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::time::{Instant, timeout};

use super::sockets::{Lacks, LookupSockets};

/// How long a server may be without an answer before the next one is asked as well. Longer than [`EDNS_PATIENCE`], after which
/// many an answer comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long a server that has not answered at all is asked last.
const SILENT: Duration = Duration::from_secs(30);

/// How long a question with EDNS may be without an answer before it is asked without it as well: some servers and firewalls
/// drop what they do not know.
const EDNS_PATIENCE: Duration = Duration::from_millis(500);

/// After so many consecutive questions that were answered only without it, a server is taken to be of that kind.
const SILENCES: u32 = 2;

/// For how long it is asked without it at once.
const WITHOUT_EDNS: Duration = Duration::from_secs(600);

/// The extended response code of a server that does not know this version of EDNS (RFC 6891 section 6.1.3). hickory reads it
/// as BADSIG, which is the same number.
const BAD_VERSION: u16 = 16;

type Answered = Result<DnsResponse, NetError>;

/// The name servers, in their order.
pub(super) struct Servers(Vec<Server>);

struct Server {
    /// Asks as configured.
    own: Questions,
    /// Asks without EDNS, where the other one asks with it.
    plain: Option<Questions>,
    lacks: Lacks,
    known: Mutex<Known>,
}

/// Questions to one server, all with EDNS or all without. Below hickory's `Resolver`, which follows aliases for us, but for SRV
/// records asks their hosts for SRV records if there was an alias in front.
struct Questions {
    handle: RetryDnsHandle<NameServerPool<LookupSockets>>,
    options: DnsRequestOptions,
}

/// What is known of a server.
#[derive(Debug, Default)]
struct Known {
    /// Until when it is asked last.
    silent_until: Option<Instant>,
    /// Consecutive questions that were answered only without EDNS.
    silences: u32,
    /// Until when none is asked with it.
    without_until: Option<Instant>,
}

impl Servers {
    /// These, asked by these options. There must be one at least. What this process lacks for a question is noted in `lacks`.
    pub(super) fn new(
        servers: Vec<NameServerConfig>,
        options: &ResolverOpts,
        lacks: &Lacks,
    ) -> Result<Self, String> {
        if servers.is_empty() {
            return Err("no name server is configured".into());
        }
        servers
            .into_iter()
            .map(|server| Server::new(server, options, lacks))
            .collect::<Result<_, _>>()
            .map(Servers)
    }

    /// Asks for the records of this type that `name` has.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Answered {
        let now = Instant::now();
        let (silent, mut order): (Vec<&Server>, Vec<&Server>) = self
            .0
            .iter()
            .partition(|server| server.known().silent_until.is_some_and(|until| now < until));
        order.extend(silent);
        in_turn(&order, name, kind).await
    }

    /// Whether the first question to each is asked with EDNS.
    #[cfg(test)]
    pub(super) fn know_edns(&self) -> bool {
        self.0.iter().all(|server| server.plain.is_some())
    }
}

/// Asks these servers, one after another as far as they fail or are slow.
fn in_turn<'a>(
    servers: &'a [&'a Server],
    name: &'a Name,
    kind: RecordType,
) -> Pin<Box<dyn Future<Output = Answered> + Send + 'a>> {
    Box::pin(async move {
        let Some((first, others)) = servers.split_first() else {
            return Err(NetError::NoConnections);
        };
        let own = first.ask(name, kind);
        if others.is_empty() {
            return own.await;
        }
        tokio::pin!(own);
        if let Ok(answer) = timeout(PATIENCE, &mut own).await {
            return match is_conclusive(&answer) {
                true => answer,
                false => better(answer, in_turn(others, name, kind).await),
            };
        }
        let others = in_turn(others, name, kind);
        tokio::pin!(others);
        tokio::select! {
            answer = &mut own => match is_conclusive(&answer) {
                true => answer,
                false => better(answer, others.await),
            },
            answer = &mut others => match answer {
                Ok(found) => Ok(found),
                Err(_) => {
                    let own = own.await;
                    if is_conclusive(&own) { own } else { better(own, answer) }
                }
            },
        }
    })
}

/// Of two answers the one that stands for both, where the first is none that counts.
fn better(first: Answered, second: Answered) -> Answered {
    match second {
        // It says less than whatever the first one said.
        Err(NetError::Timeout | NetError::NoConnections) => first,
        second => second,
    }
}

/// Whether no other server needs to be asked.
fn is_conclusive(answer: &Answered) -> bool {
    match answer {
        Ok(_) => true,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => is_certain(none),
        Err(_) => false,
    }
}

/// Whether a negative answer is authoritative rather than a referral (RFC 2308 section 2.2), as servers return that are
/// not responsible for the name.
pub(super) fn is_certain(none: &NoRecords) -> bool {
    let says_so = matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError);
    says_so && (none.soa.is_some() || none.ns.is_none())
}

impl Questions {
    fn to(server: NameServerConfig, options: ResolverOpts, lacks: &Lacks) -> Result<Self, String> {
        let mut request = DnsRequestOptions::default();
        request.use_edns = options.edns0;
        request.edns_payload_len = options.edns_payload_len;
        request.recursion_desired = options.recursion_desired;
        let (attempts, tls) = (options.attempts, TlsConfig::new());
        let tls = tls.map_err(|error| error.to_string())?;
        let context = std::sync::Arc::new(PoolContext::new(options, tls));
        let sockets = LookupSockets::noting(lacks.clone());
        let pool = NameServerPool::from_config([server], context, sockets);
        Ok(Questions { handle: RetryDnsHandle::new(pool, attempts), options: request })
    }

    /// One question. An answer without any record is an error.
    async fn ask(&self, name: &Name, kind: RecordType) -> Answered {
        let question = Query::query(name.clone(), kind);
        let answer = self.handle.lookup(question, self.options).first_answer().await?;
        Ok(DnsError::from_response(answer)?)
    }
}

impl Server {
    fn new(
        server: NameServerConfig,
        options: &ResolverOpts,
        lacks: &Lacks,
    ) -> Result<Self, String> {
        let mut without = options.clone();
        without.edns0 = false;
        let plain =
            options.edns0.then(|| Questions::to(server.clone(), without, lacks)).transpose()?;
        let own = Questions::to(server, options.clone(), lacks)?;
        Ok(Server { own, plain, lacks: lacks.clone(), known: Mutex::default() })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Answered {
        let lacked = self.lacks.count();
        let answer = self.ask_either_way(name, kind).await;
        // Who was not asked, for a reason of ours, was not silent.
        let is_silent = matches!(answer, Err(NetError::Timeout | NetError::NoConnections))
            && self.lacks.count() == lacked;
        self.known().silent_until = is_silent.then(|| Instant::now() + SILENT);
        answer
    }

    /// Asks with EDNS, which lets more than 512 bytes come over UDP, and without it where the server cannot take it.
    async fn ask_either_way(&self, name: &Name, kind: RecordType) -> Answered {
        let with = self.own.ask(name, kind);
        let Some(plain) = &self.plain else { return with.await };
        if self.asks_without_edns() {
            return plain.ask(name, kind).await;
        }
        tokio::pin!(with);
        if let Ok(answer) = timeout(EDNS_PATIENCE, &mut with).await {
            if !refuses_edns(&answer) {
                self.known().silences = 0;
                return answer;
            }
            let answer = plain.ask(name, kind).await;
            if is_said(&answer) {
                self.missed_with_edns(SILENCES);
            }
            return answer;
        }
        let without = plain.ask(name, kind);
        tokio::pin!(without);
        tokio::select! {
            answer = &mut with => {
                if is_said(&answer) && !refuses_edns(&answer) {
                    self.known().silences = 0;
                    return answer;
                }
                without.await
            }
            answer = &mut without => {
                if !is_said(&answer) {
                    return with.await;
                }
                self.missed_with_edns(1);
                answer
            }
        }
    }

    fn asks_without_edns(&self) -> bool {
        self.known().without_until.is_some_and(|until| Instant::now() < until)
    }

    fn missed_with_edns(&self, times: u32) {
        let mut known = self.known();
        known.silences += times;
        if known.silences >= SILENCES {
            known.silences = 0;
            known.without_until = Some(Instant::now() + WITHOUT_EDNS);
            log::info!("a name server does not support EDNS: it is queried without");
        }
    }
}

/// Whether that is what a server says that does not know EDNS (RFC 6891 section 7), or not this version of it.
fn refuses_edns(answer: &Answered) -> bool {
    let Err(NetError::Dns(error)) = answer else { return false };
    let code = match error {
        DnsError::ResponseCode(code) => *code,
        DnsError::NoRecordsFound(none) => none.response_code,
        _ => return false,
    };
    matches!(code, ResponseCode::FormErr | ResponseCode::NotImp) || u16::from(code) == BAD_VERSION
}

/// Whether a server said it, whatever it is.
fn is_said(answer: &Answered) -> bool {
    matches!(answer, Ok(_) | Err(NetError::Dns(_)))
}
