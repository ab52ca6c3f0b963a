//! A story that is running, as the tests see it: the stage, its client, connections to the balancer, load, and what each
//! piece has logged.
//!
//! All processes end with the [`Story`], and with this process if it is killed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use evenly_demo::stage::{Moment, Piece, Plan, Programs, Stage};
use hickory_proto::rr::RecordType;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{PATIENCE, udp, wait_for};

/// Between two health checks, where only what requests meet may take an API out: longer than any test.
const NEVER: Duration = Duration::from_secs(60);
/// Between two health checks, where a return is waited for; also how long one may take.
pub(crate) const SOON: Duration = Duration::from_secs(2);
/// Requests that each client sends after what was waited for has come about.
const AFTERWARDS: usize = 25;
/// Between two requests of a client under load: what is logged for each must not flood the journal.
const PACE: Duration = Duration::from_millis(5);

pub(crate) const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// Where `evenly` is. It belongs to another package: `cargo test --workspace` builds it first, `cargo test -p
/// evenly-demo` does not. Nor does a test: it would replace the program while others run it. So it says what to type.
pub(crate) fn evenly() -> PathBuf {
    let file = Path::new(DEMO).with_file_name("evenly");
    assert!(file.is_file(), "{} is not there; build it: cargo build -p evenly", file.display());
    if let Some(source) = newer_source(&file) {
        panic!("evenly is older than {source}; build it: cargo build -p evenly");
    }
    file
}

/// A source that has changed since cargo built `program` of it, by the list that cargo leaves beside it.
fn newer_source(program: &Path) -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = fs::metadata(program).unwrap().modified().unwrap();
    let is_newer = |source: &&str| {
        // A folder of builds that was copied from another checkout has the list of that one.
        let changed = fs::metadata(source).and_then(|source| source.modified());
        Path::new(source).starts_with(workspace) && changed.is_ok_and(|changed| changed > built)
    };
    let sources = fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    sources.split_whitespace().skip(1).find(is_newer).map(str::to_owned)
}

/// The program that serves as `http-api-<number>`.
pub(crate) fn api(number: u8) -> String {
    Piece::Api(number).to_string()
}

/// All pieces of the story, and the balancer.
pub(crate) struct Story {
    stage: Stage,
}

impl Deref for Story {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl DerefMut for Story {
    fn deref_mut(&mut self) -> &mut Stage {
        &mut self.stage
    }
}

impl Story {
    /// Both APIs are healthy; they are not checked again while the test lasts.
    pub(crate) fn start() -> Story {
        Story::with(|_| {})
    }

    /// The same, checked every [`SOON`].
    pub(crate) fn watched() -> Story {
        Story::with(|plan| plan.check_interval = SOON)
    }

    #[track_caller]
    pub(crate) fn with(change: impl FnOnce(&mut Plan)) -> Story {
        let mut programs = Programs::beside(Path::new(DEMO).parent().unwrap());
        programs.evenly = Some(evenly());
        let mut plan = Plan { check_interval: NEVER, ..Plan::quiet(programs) };
        change(&mut plan);
        let story = Story { stage: Stage::start(plan).unwrap() };
        story.wait_for_line(Piece::Evenly, story.journal().start(), "healthy endpoints: 2");
        story
    }

    /// Runs `ingress-client`; the last argument is a path.
    #[track_caller]
    pub(crate) fn client(&self, arguments: &[&str]) -> Ended {
        let (path, options) = arguments.split_last().unwrap();
        let url = self.url(path).unwrap();
        let ended = self.stage.client().args(options).arg(url).output().unwrap();
        Ended {
            code: ended.status.code().unwrap(),
            out: String::from_utf8(ended.stdout).unwrap(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    /// A connection to the balancer, which is kept.
    #[track_caller]
    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.address(Piece::Evenly).unwrap())
    }

    /// Who serves `count` requests after one another, on one connection.
    #[track_caller]
    pub(crate) fn turns(&self, count: usize) -> Vec<String> {
        let mut connection = self.connect();
        (0..count).map(|_| connection.get("/spells").served()).collect()
    }

    /// Ends a piece with SIGKILL.
    #[track_caller]
    pub(crate) fn kill(&mut self, piece: Piece) {
        kill(self.pid(piece).unwrap());
        let died = wait_for("its death", || self.died().unwrap());
        assert_eq!(died.0, piece);
    }

    /// Starts a piece again where it was. Meanwhile the system may have given its port to another test: that ends.
    #[track_caller]
    pub(crate) fn again(&mut self, piece: Piece) {
        wait_for("it can be started again", || self.start_again(piece).ok());
    }

    #[track_caller]
    pub(crate) fn wait_for_line(&self, piece: Piece, since: Moment, part: &str) {
        if let Err(why) = self.journal().wait_for(piece, since, part, PATIENCE) {
            panic!("{why}:\n{}", self.journal().since(piece, since).join("\n"));
        }
    }

    /// What a DNS server has said of a name's addresses since then, once it has logged all that it has answered.
    #[track_caller]
    pub(crate) fn said_of(&self, server: Piece, since: Moment, name: &str) -> Vec<String> {
        let marker = format!("marker-{}.test.", self.journal().since(server, since).len());
        let now = self.journal().now();
        udp(self.address(server).unwrap(), &marker, RecordType::TXT);
        self.wait_for_line(server, now, &marker);
        let question = format!(" {name}. A: ");
        let mut lines = self.journal().since(server, since);
        lines.retain(|line| line.contains(&question));
        lines
    }

    /// Does `work` while four clients ask on connections that they keep, each for [`AFTERWARDS`] requests more than that
    /// takes. Every request must be answered by an API with 200. How many there were.
    #[track_caller]
    pub(crate) fn under_load(&mut self, work: impl FnOnce(&mut Story, &Load)) -> usize {
        let (load, evenly) = (Load::default(), self.address(Piece::Evenly).unwrap());
        thread::scope(|scope| {
            let _end = SetOnDrop(&load.over);
            for _ in 0..4 {
                scope.spawn(|| load.ask(evenly));
            }
            work(self, &load);
        });
        load.served.into_inner()
    }
}

/// What clients do in the background.
#[derive(Default)]
pub(crate) struct Load {
    served: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    fn ask(&self, evenly: SocketAddr) {
        let (mut connection, mut left) = (Connection::to(evenly), AFTERWARDS);
        while left > 0 {
            left -= usize::from(self.over.load(Ordering::SeqCst));
            connection.get("/spells").served();
            self.served.fetch_add(1, Ordering::SeqCst);
            thread::sleep(PACE);
        }
    }

    /// Waits until `count` more have been served.
    #[track_caller]
    pub(crate) fn goes_on(&self, count: usize) {
        let enough = self.served.load(Ordering::SeqCst) + count;
        wait_for("requests are served", || {
            (self.served.load(Ordering::SeqCst) >= enough).then_some(())
        });
    }
}

/// Ends the clients even if an assertion fails, so that their scope ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How `ingress-client` has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Who answered, by what `-i` shows.
    #[track_caller]
    pub(crate) fn served_by(&self) -> String {
        let field = self.out.lines().find_map(|line| line.strip_prefix("x-served-by: "));
        field.unwrap_or_else(|| panic!("nobody: {self:?}")).to_owned()
    }
}

/// A connection to the balancer.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    #[track_caller]
    pub(crate) fn to(evenly: SocketAddr) -> Connection {
        let stream = TcpStream::connect(evenly).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream: BufReader::new(stream) }
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: spells.test\r\n\r\n"));
        self.response()
    }

    #[track_caller]
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next head, to its blank line.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).unwrap(), 0, "it ended in {head:?}");
        }
        head
    }

    /// The next response, whose length must be given.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let mut response = Response { head: self.head(), body: String::new() };
        let mut body = vec![0; response.field("content-length").parse().unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        response.body = String::from_utf8(body).unwrap();
        response
    }
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[track_caller]
    fn field(&self, name: &str) -> &str {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
        field.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    /// Which API has answered.
    #[track_caller]
    pub(crate) fn served_by(&self) -> String {
        self.field("x-served-by").to_owned()
    }

    /// Which API has answered, with 200.
    #[track_caller]
    pub(crate) fn served(&self) -> String {
        assert_eq!(self.status(), 200, "{self:?}");
        self.served_by()
    }
}

/// SIGKILL.
pub(crate) fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}
