//! The resolver's answers: from its cache, or from the server that its zone is forwarded to.
//!
//! Owns the cache and the table of zones. It asks nobody but the servers in that table, and says for each query whether
//! it was a hit (answered without asking) or a miss (one question upstream).

use std::fmt;
use std::iter;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hickory_net::NetError;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_proto::op::{
    DnsRequest, DnsRequestOptions, DnsResponse, Edns, LowerQuery, MessageType, Metadata, OpCode,
    ResponseCode,
};
use hickory_proto::rr::{DNSClass, LowerName, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::cache::{Answer, Cache};
use super::named;
use crate::process::say;

/// Most answers in the cache.
const ROOM: usize = 1_024;
/// How long a server may take to answer, by UDP and again by TCP.
const UPSTREAM: Duration = Duration::from_secs(2);

/// A zone and the server that knows it, `ZONE=ADDR`. The root, `.`, is every name that no longer zone has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    zone: LowerName,
    server: SocketAddr,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Forward, String> {
        let expected = |why| format!("{why}; expected ZONE=ADDR, as test=127.0.0.1:5301");
        let (zone, server) = named(text).map_err(expected)?;
        let server = server
            .parse()
            .map_err(|_| expected(format!("`{server}` is not an IP address and a port")))?;
        Ok(Forward { zone, server })
    }
}

/// A caching resolver that forwards.
pub struct Resolver {
    forwards: Vec<Forward>,
    cache: Mutex<Cache>,
}

/// How a query was answered.
struct Outcome {
    answer: Answer,
    how: How,
}

enum How {
    Hit,
    Miss,
    Failed(String),
    Refused(&'static str),
}

impl Outcome {
    fn refused(code: ResponseCode, why: &'static str) -> Outcome {
        Outcome { answer: Answer::empty(code), how: How::Refused(why) }
    }
}

/// `hit spells.test. A: No Error, ttl 2`, with what is left of the TTL; `ttl -` is an answer that is not kept.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.answer.code)?;
        match (&self.how, self.answer.life()) {
            (How::Failed(why), _) => write!(f, ", {why}"),
            (How::Refused(why), _) => write!(f, ", {why}"),
            (_, Some(life)) => write!(f, ", ttl {life}"),
            (_, None) => write!(f, ", ttl -"),
        }
    }
}

impl Resolver {
    /// A resolver for names of these zones, with an empty cache.
    pub fn new(forwards: Vec<Forward>) -> Resolver {
        Resolver { forwards, cache: Mutex::new(Cache::new(ROOM)) }
    }

    async fn answer(&self, query: &LowerQuery) -> Outcome {
        let (name, kind) = (query.name(), query.query_type());
        if query.query_class() != DNSClass::IN {
            return Outcome::refused(ResponseCode::Refused, "only the class IN is served");
        }
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Outcome::refused(ResponseCode::Refused, "zones are not transferred");
        }
        let Some(server) = self.server_of(name) else {
            return Outcome::refused(ResponseCode::Refused, "no zone of this name is forwarded");
        };
        if let Some(answer) = self.cache().find(name, kind, Instant::now()) {
            return Outcome { answer, how: How::Hit };
        }
        match ask(server, query).await {
            Ok(response) => {
                let answer = Answer::of(response.into_message());
                self.cache().keep(name.clone(), kind, &answer, Instant::now());
                Outcome { answer, how: How::Miss }
            }
            Err(error) => Outcome {
                answer: Answer::empty(ResponseCode::ServFail),
                how: How::Failed(format!("{server} did not answer: {error}")),
            },
        }
    }

    /// The server of the longest zone that `name` is in.
    fn server_of(&self, name: &LowerName) -> Option<SocketAddr> {
        let zones = self.forwards.iter().filter(|forward| forward.zone.zone_of(name));
        zones.max_by_key(|forward| forward.zone.num_labels()).map(|forward| forward.server)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question: by UDP, and by TCP if the answer was cut (RFC 7766 section 5). It is not repeated, so that a miss is one
/// query to the server; who asked us asks again.
async fn ask(server: SocketAddr, query: &LowerQuery) -> Result<DnsResponse, NetError> {
    let options = DnsRequestOptions::default();
    let request = || DnsRequest::from_query(query.original().clone(), options);
    let mut udp = UdpClientStream::builder(server, TokioRuntimeProvider::new())
        .with_timeout(Some(UPSTREAM))
        .with_max_retries(1)
        // A port of the range that nobody listens on by choice; spoofing is no matter on loopback.
        .with_os_port_selection(true)
        .build();
    let response = udp.send_message(request()).first_answer().await?;
    if !response.metadata.truncation {
        return Ok(response);
    }
    // The provider owns the task that reads the connection, and ends it when it goes.
    let provider = TokioRuntimeProvider::new();
    let tcp = TcpClientStream::exchange(server, None, UPSTREAM, None, provider.clone()).await?;
    tcp.send(request()).first_answer().await
}

#[async_trait]
impl RequestHandler for Resolver {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let outcome = match question(request) {
            Ok(query) => {
                let outcome = self.answer(query).await;
                log(query, &outcome);
                outcome
            }
            Err(refused) => refused,
        };
        let edns = request.edns.as_ref().map(|theirs| own_edns(theirs, outcome.answer.code));
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata(request, outcome.answer.code),
            outcome.answer.answers.iter(),
            outcome.answer.authorities.iter(),
            iter::empty(),
            outcome.answer.additionals.iter(),
        );
        match response_handle.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                say(format_args!("an answer to {} was not sent: {error}", request.src()));
                unsent(request)
            }
        }
    }
}

/// The one question of a query, if it is one that we answer.
fn question(request: &Request) -> Result<&LowerQuery, Outcome> {
    if request.metadata.message_type != MessageType::Query {
        return Err(Outcome::refused(ResponseCode::FormErr, "not a query"));
    }
    if request.metadata.op_code != OpCode::Query {
        return Err(Outcome::refused(ResponseCode::NotImp, "not a standard query"));
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Err(Outcome::refused(ResponseCode::BADVERS, "a later EDNS"));
    }
    match request.queries.queries() {
        [query] => Ok(query),
        _ => Err(Outcome::refused(ResponseCode::FormErr, "not one question")),
    }
}

fn log(query: &LowerQuery, outcome: &Outcome) {
    let word = match outcome.how {
        How::Hit => "hit",
        How::Miss | How::Failed(_) => "miss",
        How::Refused(_) => "refused",
    };
    say(format_args!("{word} {} {}: {outcome}", query.name(), query.query_type()));
}

fn metadata(request: &Request, code: ResponseCode) -> Metadata {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.recursion_available = true;
    metadata.response_code = code;
    metadata
}

/// How much the client takes by UDP is how much it is sent: what is longer is cut, with TC.
fn own_edns(theirs: &Edns, code: ResponseCode) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(theirs.max_payload().max(512));
    edns.set_version(0);
    edns.set_rcode_high(code.high());
    edns
}

fn unsent(request: &Request) -> ResponseInfo {
    hickory_proto::op::Header {
        metadata: metadata(request, ResponseCode::ServFail),
        counts: hickory_proto::op::HeaderCounts::default(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::super::absolute;
    use super::*;

    #[test]
    fn the_longest_zone_of_a_name_is_asked() {
        let forwards = ["test=127.0.0.1:1", "deep.test=127.0.0.1:2"];
        let resolver = Resolver::new(forwards.map(|text| text.parse().unwrap()).to_vec());
        let port = |name| resolver.server_of(&absolute(name).unwrap()).map(|server| server.port());
        assert_eq!(port("a.test"), Some(1));
        assert_eq!(port("a.DEEP.test"), Some(2));
        assert_eq!(port("test"), Some(1));
        assert_eq!(port("contest"), None);
        let root = Resolver::new(vec![".=127.0.0.1:3".parse().unwrap()]);
        assert_eq!(root.server_of(&absolute("http-api-1").unwrap()).unwrap().port(), 3);
    }

    #[test]
    fn a_forward_is_a_zone_and_an_address_with_a_port() {
        assert!(".=[::1]:53".parse::<Forward>().is_ok());
        for wrong in ["test", "test=127.0.0.1", "test=localhost:53", "a..b=127.0.0.1:53"] {
            let error = wrong.parse::<Forward>().unwrap_err();
            assert!(error.contains("expected ZONE=ADDR"), "{error}");
        }
    }
}
