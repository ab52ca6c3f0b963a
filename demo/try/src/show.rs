//! From the start to the end: starts the children, feeds the board with what they tell, does what keys and signals ask.

use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::board::{Board, Colour, Line};
use crate::children::{self, Evenly, Origin};
use crate::origin::HEALTH;
use crate::terminal::{self, END_KEYS, Screen};
use crate::traffic::Traffic;
use crate::watch::{self, Event};

/// Between two frames, at least; and between two looks at the origins, at most.
const FRAME: Duration = Duration::from_millis(50);

/// Why there is nothing to show, and the exit code.
struct Problem(u8, String);

impl Problem {
    fn of(what: impl Display) -> impl FnOnce(io::Error) -> Problem {
        move |error| Problem(1, format!("{what}: {error}"))
    }
}

/// Shows it until it is asked to end.
pub(crate) fn main(listen: &str, evenly: Option<PathBuf>) -> ExitCode {
    let ended = run(listen, evenly);
    terminal::restore();
    match ended {
        Ok(summary) => {
            say(summary);
            ExitCode::SUCCESS
        }
        Err(Problem(code, why)) => {
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::from(code)
        }
    }
}

/// A reader that has gone is no reason to end, as `println!` would.
fn say(text: impl Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

fn run(listen: &str, evenly: Option<PathBuf>) -> Result<String, Problem> {
    let (to, events) = mpsc::channel();
    signals(to.clone()).map_err(Problem::of("cannot watch for signals"))?;
    let program = children::find_evenly(evenly).map_err(|error| Problem(1, error.to_string()))?;
    let start =
        |colour| Origin::start(colour).map_err(Problem::of(format_args!("cannot start {colour}")));
    let [blue, green] = Colour::ALL;
    let origins = [start(blue)?, start(green)?];
    let (mut evenly, access_log, log) =
        Evenly::start(&program, &configuration(&origins), listen)
            .map_err(Problem::of(format_args!("cannot start {}", program.display())))?;
    watch::log(log, to.clone());
    watch::access_log(access_log, to.clone());
    let Some((listening, admin)) = wait_for_evenly(&events, &mut evenly, listen)? else {
        evenly.end();
        return Ok("ended before evenly listened".into());
    };
    watch::status(admin, to.clone());
    let addresses = [0, 1].map(|at| (origins[at].colour, origins[at].address));
    let board = Board::new(listening, admin, addresses);
    let screen = Screen::open().map_err(Problem::of("cannot use the terminal"))?;
    if screen.is_some() {
        terminal::keys(to.clone());
    } else {
        let _ = write!(io::stdout(), "{}", board.introduction(std::process::id()));
    }
    let mut show = Show {
        board,
        screen,
        origins,
        listening,
        traffic: None,
        to,
        is_over: false,
        last_log: None,
    };
    let ended = show.until_the_end(&events);
    // In this order: what is in flight is finished, so that the last counts are whole.
    drop(show.traffic.take());
    evenly.end();
    events.try_iter().for_each(|event| {
        if let Event::Entry(entry) = event {
            show.board.entry(&entry);
        }
    });
    ended.map(|()| show.board.summary())
}

/// Evenly's file. A dead origin is noticed by a request or, without one, within half a second.
fn configuration(origins: &[Origin; 2]) -> String {
    let target = |origin: &Origin| {
        format!(
            "[[targets]]\naddress = \"{}\"\nhealth_check_endpoint = \"{HEALTH}\"\n",
            origin.address
        )
    };
    let targets: String = origins.iter().map(target).collect();
    format!(
        "[health]\ninterval = \"500ms\"\n[timeouts]\ndrain = \"1s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\naccess = \"stdout\"\n{targets}"
    )
}

/// Sends each signal. The second one that asks for the end has it immediately: the kernel ends the children.
fn signals(to: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2])?;
    thread::spawn(move || {
        let mut is_ending = false;
        for signal in signals.forever() {
            if is_ending && ![SIGUSR1, SIGUSR2].contains(&signal) {
                terminal::restore();
                std::process::exit(128 + signal);
            }
            is_ending |= ![SIGUSR1, SIGUSR2].contains(&signal);
            // Nobody listens to the last ones.
            let _ = to.send(Event::Signal(signal));
        }
    });
    Ok(())
}

/// Waits until evenly listens: where a client on this machine reaches it, and its admin listener. `None` if the end was
/// asked for before.
fn wait_for_evenly(
    events: &Receiver<Event>,
    evenly: &mut Evenly,
    listen: &str,
) -> Result<Option<(SocketAddr, SocketAddr)>, Problem> {
    let (mut errors, mut admin) = (Vec::new(), None);
    for event in events {
        match event {
            Event::Signal(SIGUSR1 | SIGUSR2) => {}
            Event::Signal(_) => return Ok(None),
            Event::Ended => break,
            Event::Log(line) if line.level == "error" => errors.push(line.message),
            Event::Log(line) => {
                let address = |after| address(line.message.strip_prefix(after)?);
                admin = admin.or(address("admin listening on http://"));
                if let (Some(listening), Some(admin)) = (address("listening on http://"), admin) {
                    return Ok(Some((reachable(listening), admin)));
                }
            }
            _ => {}
        }
    }
    let status = evenly.ended().map_err(Problem::of("evenly has ended"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    if errors.is_empty() {
        errors.push(format!("evenly has ended, {status}"));
    } else if errors.iter().any(|error| error.contains("listen")) {
        let other = if listen == "127.0.0.1:8081" { "127.0.0.1:8082" } else { "127.0.0.1:8081" };
        errors.push(format!("With make: make run LISTEN={other} chooses another address."));
    }
    Err(Problem(code.max(1), errors.join("\n")))
}

/// The address at the beginning of what follows.
fn address(text: &str) -> Option<SocketAddr> {
    text.split(' ').next()?.parse().ok()
}

/// Where a client on this machine reaches what listens on all addresses.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// The show while it runs.
struct Show {
    board: Board,
    screen: Option<Screen>,
    origins: [Origin; 2],
    listening: SocketAddr,
    traffic: Option<Traffic>,
    to: Sender<Event>,
    is_over: bool,
    /// The last line of evenly's log, for when it ends.
    last_log: Option<String>,
}

impl Show {
    /// Shows what happens until a key or a signal asks for the end.
    fn until_the_end(&mut self, events: &Receiver<Event>) -> Result<(), Problem> {
        let mut drawn = Instant::now();
        self.draw();
        while !self.is_over {
            match events.recv_timeout(FRAME) {
                Ok(event) => self.event(event)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if drawn.elapsed() >= FRAME {
                self.look_after_origins();
                self.draw();
                drawn = Instant::now();
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<(), Problem> {
        let line = match event {
            Event::Key(key) if END_KEYS.contains(&key) => {
                self.is_over = true;
                None
            }
            Event::Key(b't' | b'T') => {
                let start = || Traffic::start(self.listening, &self.to);
                self.traffic = if self.traffic.is_some() { None } else { Some(start()) };
                self.board.sending(self.traffic.is_some());
                None
            }
            Event::Key(key) => {
                let colour =
                    Colour::ALL.into_iter().find(|it| it.key() == key.to_ascii_lowercase());
                colour.map(|colour| self.toggle(colour))
            }
            Event::Signal(SIGUSR1) => Some(self.toggle(Colour::Blue)),
            Event::Signal(SIGUSR2) => Some(self.toggle(Colour::Green)),
            Event::Signal(_) => {
                self.is_over = true;
                None
            }
            Event::Entry(entry) => self.board.entry(&entry),
            Event::Log(line) => {
                let shown = self.board.log(&line.message);
                self.last_log = Some(line.message);
                Some(shown)
            }
            Event::Lost => Some(self.board.lost()),
            Event::Status(status) => {
                self.board.status(&status);
                None
            }
            Event::Ended => {
                let last = self.last_log.as_deref().unwrap_or("nothing");
                return Err(Problem(1, format!("evenly has ended; the last it logged: {last}")));
            }
        };
        self.tell(line);
        Ok(())
    }

    /// Kills an origin, or brings it back.
    fn toggle(&mut self, colour: Colour) -> Line {
        let Some(origin) = self.origins.iter_mut().find(|origin| origin.colour == colour) else {
            return Line::default();
        };
        if origin.is_alive() {
            origin.kill();
            self.board.alive(colour, false);
            return self.board.note(format_args!("{colour} is killed"));
        }
        match origin.revive() {
            Ok(()) => {
                self.board.alive(colour, true);
                self.board.note(format_args!("{colour} is started again"))
            }
            Err(error) => self.board.note(format_args!("{colour} does not start: {error}")),
        }
    }

    /// Notices an origin that somebody else has killed.
    fn look_after_origins(&mut self) {
        for origin in &mut self.origins {
            if !origin.is_alive() && self.board.alive(origin.colour, false) {
                let line = self.board.note(format_args!("{} has died", origin.colour));
                if self.screen.is_none() {
                    say(line);
                }
            }
        }
    }

    /// Where there is no screen, what happens is said line by line.
    fn tell(&self, line: Option<Line>) {
        if let (Some(line), None) = (line, &self.screen) {
            say(line);
        }
    }

    fn draw(&self) {
        let Some(screen) = &self.screen else { return };
        let (columns, rows) = screen.size();
        let lines = self.board.lines(rows);
        let painted = lines.iter().map(|line| line.painted(columns, screen.has_colours));
        screen.draw(&painted.collect::<Vec<String>>());
    }
}
