//! Clients in a closed loop that judge every answer: status, request id and body. A request that fails
//! is never repeated, so that what was sent twice was sent twice by the subject.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::Client;
use crate::report::{Report, count};

use super::origin::padded;

/// Pause of a client after a failure, so that a dead subject is not drowned in connects.
const AFTER_FAILURE: Duration = Duration::from_millis(5);
/// How often its own id a POST's body is.
const REPEATS: usize = 32;

/// The method of all requests of a crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// Clients that all do the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) address: SocketAddr,
    pub(crate) method: Method,
    pub(crate) clients: usize,
}

/// A request without its answer, or with a wrong one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(crate) asked: Instant,
    pub(crate) why: String,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Ids of the requests that were answered as they should be.
    pub(crate) answered: Vec<String>,
    pub(crate) missed: Vec<Miss>,
    /// How long each request took, in microseconds, failed or not.
    pub(crate) took: Vec<u64>,
}

impl Account {
    fn add(&mut self, other: Account) {
        self.answered.extend(other.answered);
        self.missed.extend(other.missed);
        self.took.extend(other.took);
    }

    fn book(&mut self, id: String, asked: Instant, outcome: Result<(), String>) {
        let took = asked.elapsed().as_micros();
        self.took.push(u64::try_from(took).unwrap_or(u64::MAX));
        match outcome {
            Ok(()) => self.answered.push(id),
            Err(why) => self.missed.push(Miss { asked, why }),
        }
    }

    /// How many failed, by kind.
    pub(crate) fn kinds(&self) -> BTreeMap<&str, u64> {
        let mut kinds = BTreeMap::new();
        for miss in &self.missed {
            *kinds.entry(miss.why.as_str()).or_default() += 1;
        }
        kinds
    }

    /// How many failed in a way that `excuse` does not accept.
    pub(crate) fn inexcusable(&self, excuse: impl Fn(&Miss) -> bool) -> usize {
        self.missed.iter().filter(|miss| !excuse(miss)).count()
    }

    /// How many failed that reached the subject: a connect that fails is known to nobody but its client.
    pub(crate) fn failed(&self) -> usize {
        self.inexcusable(|miss| miss.why.starts_with("connect: "))
    }

    /// The time that `hundredths` of the requests did not exceed, in milliseconds.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * hundredths / 100).map_or(0.0, |micros| count(*micros) / 1000.0)
    }

    /// What every scenario reports.
    pub(crate) fn tell(&self, report: &mut Report) {
        report.figure("requests sent", size(self.took.len()), "");
        report.figure("failed", size(self.missed.len()), "");
        for (why, times) in self.kinds() {
            report.figure(format!("  failed: {why}"), count(times), "");
        }
        report.figure("latency p99", self.percentile(99), "ms");
        report.figure("worst latency", self.percentile(100), "ms");
    }
}

/// A number of things as a figure.
pub(crate) fn size(things: usize) -> f64 {
    count(u64::try_from(things).unwrap_or(u64::MAX))
}

/// Ends the clients however the play ends.
struct Curtain<'a>(&'a AtomicBool);

impl Drop for Curtain<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Plays before `crowd`: the clients ask from before it begins until after it ends.
pub(crate) fn under_load<T>(
    crowd: Crowd,
    play: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Account), Failure> {
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..crowd.clients).map(|which| scope.spawn(move || ask(crowd, which, over))).collect();
        let outcome = {
            let _curtain = Curtain(over);
            play()?
        };
        let mut account = Account::default();
        for client in clients {
            account.add(client.join().map_err(|_| Failure::new("a client panicked"))?);
        }
        Ok((outcome, account))
    })
}

/// One client's requests until the play is over, as an account.
fn ask(crowd: Crowd, which: usize, over: &AtomicBool) -> Account {
    let mut account = Account::default();
    ask_until(over, crowd, which, |id, asked, outcome| account.book(id, asked, outcome.map(drop)));
    account
}

/// One client: a request after another until it is `over`. Each is booked when it ends: its id, when it was sent, and the
/// origin that answered, or why it failed.
pub(crate) fn ask_until(
    over: &AtomicBool,
    crowd: Crowd,
    which: usize,
    mut book: impl FnMut(String, Instant, Result<Option<String>, String>),
) {
    let mut open = None;
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("{which}-{number}");
        let asked = Instant::now();
        let outcome = once(&mut open, crowd, &id);
        let failed = outcome.is_err();
        book(id, asked, outcome);
        if failed {
            thread::sleep(AFTER_FAILURE);
        }
    }
}

/// One request, on the open connection or a new one.
fn once(open: &mut Option<Client>, crowd: Crowd, id: &str) -> Result<Option<String>, String> {
    let mut client = match open.take() {
        Some(client) => client,
        None => Client::connect(crowd.address).map_err(|error| format!("connect: {error}"))?,
    };
    let (request, wanted) = message(crowd.method, id);
    let mut body = Vec::new();
    let head = client.ask(&request, &mut body).map_err(|error| plainly(&error))?;
    if !head.last {
        *open = Some(client);
    }
    match head.status {
        200 if head.request.as_deref() != Some(id) => Err("the answer to another request".into()),
        200 if body != wanted => Err("a wrong body".into()),
        200 => Ok(head.origin),
        status => Err(format!("status {status}")),
    }
}

/// The bytes of a request, and the body that its answer must have.
fn message(method: Method, id: &str) -> (Vec<u8>, Vec<u8>) {
    match method {
        Method::Get => {
            let head = format!("GET /id HTTP/1.1\r\nHost: chaos\r\nX-Request: {id}\r\n\r\n");
            (head.into_bytes(), padded(id))
        }
        Method::Post => {
            let body = id.repeat(REPEATS);
            let length = body.len();
            let message = format!(
                "POST /id HTTP/1.1\r\nHost: chaos\r\nX-Request: {id}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            (message.into_bytes(), body.into_bytes())
        }
    }
}

fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
        io::ErrorKind::InvalidData => error.to_string(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_failures_by_kind_and_those_without_an_excuse() {
        let mut account = Account::default();
        let asked = Instant::now();
        account.book("1".into(), asked, Ok(()));
        account.book("2".into(), asked, Err("status 502".into()));
        account.book("3".into(), asked, Err("a wrong body".into()));
        assert_eq!(
            account.kinds().into_iter().collect::<Vec<_>>(),
            [("a wrong body", 1), ("status 502", 1)]
        );
        assert_eq!(account.inexcusable(|miss| miss.why == "status 502"), 1);
        assert_eq!((account.answered.len(), account.took.len()), (1, 3));
    }

    #[test]
    fn finds_percentiles_in_milliseconds() {
        let account = Account { took: (1..=101).map(|n| n * 1000).collect(), ..Account::default() };
        assert!((account.percentile(99) - 100.0).abs() < 1e-9);
        assert!((account.percentile(100) - 101.0).abs() < 1e-9);
        assert!(Account::default().percentile(99).abs() < 1e-9);
    }

    #[test]
    fn a_crowd_is_dismissed_when_the_play_fails() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let crowd = Crowd { address: nobody, method: Method::Get, clients: 2 };
        let outcome = under_load(crowd, || Err::<(), _>(Failure::new("torn")));
        assert_eq!(outcome.unwrap_err().to_string(), "torn");
    }
}
