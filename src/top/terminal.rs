//! The terminal, the clock and the asking. One thread asks, so that keys do not wait for an answer; one waits for signals, so that they
//! end this whatever the others wait for; the one that called draws.
//!
//! Owns the terminal's modes. Invariant: `HAS_SCREEN` is set while the other screen is shown, and changes under the lock of standard
//! output alone, which is held for each frame as well: nothing is drawn on the screen of the shell.

use std::io::{self, Stdout, Write as _};
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Rect, Size};
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_current_process_group};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::remote::{Contact, RemoteError, ask};

use super::draw::{draw, page};
use super::readout::Readout;
use super::watching::{Pressed, ViewState, Watching};

/// How long a key is waited for before it is looked whether there is an answer.
const KEY_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How old a frame may be: what it says of silence changes each second.
const FRAME_TIME: Duration = Duration::from_millis(500);
/// How long a signal waits for a terminal that takes nothing.
const RESTORE_TIME: Duration = Duration::from_secs(1);

/// The size of a terminal that has none.
const UNSAID: Rect = Rect { x: 0, y: 0, width: 80, height: 24 };

static HAS_SCREEN: AtomicBool = AtomicBool::new(false);
/// It will not be shown again, whatever signal comes.
static IS_OVER: AtomicBool = AtomicBool::new(false);
/// What was drawn is gone.
static IS_LOST: AtomicBool = AtomicBool::new(false);

/// Asks a running evenly, and finds it again when it is elsewhere.
pub struct Asker<F> {
    contact: Contact,
    find: F,
    begun: Instant,
}

impl<F: Fn() -> Option<Contact>> Asker<F> {
    /// For the evenly that is reached by `contact`; `find` says how it is reached after it did not answer there.
    pub fn new(contact: Contact, find: F) -> Asker<F> {
        Asker { contact, find, begun: Instant::now() }
    }

    /// What it says now.
    ///
    /// # Errors
    /// It is not there, or says something else.
    pub fn readout(&mut self) -> Result<Readout, RemoteError> {
        let asked = |target: &str| match ask(&self.contact, "GET", target)? {
            (200, said) => Ok(said),
            (_, said) => Err(self.nonsense(&said)),
        };
        let read = || {
            let at = self.begun.elapsed();
            let (status, targets) = (asked("/status")?, asked("/targets")?);
            Readout::new(at, (&status, &targets, &asked("/metrics")?))
                .map_err(|why| self.nonsense(&why))
        };
        let readout = read();
        if readout.is_err()
            && let Some(found) = (self.find)()
        {
            self.contact = found;
        }
        readout
    }

    fn nonsense(&self, said: &str) -> RemoteError {
        RemoteError::Answer(self.contact.clone(), io::Error::other(said.trim_end().to_owned()))
    }
}

/// What two readouts, so long apart, are as text.
///
/// # Errors
/// One of them did not come.
pub fn once<F>(mut asker: Asker<F>, every: Duration) -> Result<String, RemoteError>
where
    F: Fn() -> Option<Contact>,
{
    let mut watching = Watching::new(every, asker.readout()?);
    thread::sleep(every);
    let last = asker.readout()?;
    let at = asker.begun.elapsed();
    watching.took(at, Ok(last));
    Ok(page(&watching, at))
}

/// Shows it until somebody quits. One that goes away is said to be silent, and is asked on.
///
/// # Errors
/// It could not be asked the first time, or the terminal failed.
pub fn watch<F>(mut asker: Asker<F>, every: Duration) -> Result<(), WatchError>
where
    F: Fn() -> Option<Contact> + Send + 'static,
{
    let mut watching = Watching::new(every, asker.readout().map_err(WatchError::Remote)?);
    let begun = asker.begun;
    let screen = Screen::open()?;
    let answers = answers(asker, every)?;
    let outcome = turns(&answers, &mut watching, begun);
    drop(screen);
    outcome.map_err(WatchError::Terminal)
}

/// Why nothing is shown.
#[derive(Debug)]
pub enum WatchError {
    /// No running evenly could be asked.
    Remote(RemoteError),
    /// The terminal is gone, or does not do what it should.
    Terminal(io::Error),
}

impl From<io::Error> for WatchError {
    fn from(error: io::Error) -> WatchError {
        WatchError::Terminal(error)
    }
}

/// Asks on a thread of its own, which ends with the process.
fn answers<F>(mut asker: Asker<F>, every: Duration) -> io::Result<Receiver<Result<Readout, String>>>
where
    F: Fn() -> Option<Contact> + Send + 'static,
{
    let (send, answers) = mpsc::sync_channel(0);
    let asks = move || {
        loop {
            thread::sleep(every);
            if send.send(asker.readout().map_err(|error| error.to_string())).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("asks".to_owned()).spawn(asks)?;
    Ok(answers)
}

/// Draws what has come, and does what keys ask for.
fn turns(
    answers: &Receiver<Result<Readout, String>>,
    watching: &mut Watching,
    begun: Instant,
) -> io::Result<()> {
    let mut terminal = blank()?;
    let mut view = ViewState { has_colors: has_colors(), ..ViewState::default() };
    let mut drawn: Option<Instant> = None;
    loop {
        loop {
            match answers.try_recv() {
                Ok(answer) => watching.took(begun.elapsed(), answer),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(io::Error::other("nobody asks")),
            }
            drawn = None;
        }
        if IS_LOST.swap(false, Ordering::SeqCst) {
            terminal = blank()?;
            drawn = None;
        }
        if drawn.is_none_or(|at| at.elapsed() >= FRAME_TIME) {
            let _held = io::stdout().lock();
            if HAS_SCREEN.load(Ordering::SeqCst) {
                let at = begun.elapsed();
                terminal.draw(|frame| draw(frame.buffer_mut(), watching, at, &mut view))?;
                drawn = Some(Instant::now());
            }
        }
        // Only what is there: a key that is held down does not keep the screen from being drawn.
        let is_pressed = is_pressed()?;
        while is_pressed && event::poll(Duration::ZERO)? {
            drawn = None;
            match event::read()? {
                Event::Key(key) if key.is_press() => match view.press(&key, watching) {
                    Pressed::Stay => {}
                    Pressed::Quit => return Ok(()),
                    // As the terminal does by itself in other modes: the shell stops all of a pipeline.
                    Pressed::Suspend => kill_current_process_group(Signal::TSTP)?,
                },
                _ => {}
            }
        }
    }
}

/// A screen on which nothing is drawn yet. (To clear one that is not, ratatui would ask the terminal where its cursor is; when it is
/// dropped it would show the cursor, which `leave` does, and panic if the terminal is gone.)
fn blank() -> io::Result<ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>> {
    let backend = CrosstermBackend::new(io::stdout());
    let viewport = match backend.size()? {
        // One that does not say, as over a serial line.
        Size { width: 0, .. } | Size { height: 0, .. } => Viewport::Fixed(UNSAID),
        _ => Viewport::Fullscreen,
    };
    Terminal::with_options(backend, TerminalOptions { viewport }).map(ManuallyDrop::new)
}

/// Whether there is something to read, soon. That the terminal has gone is found here, since crossterm would look for keys forever.
fn is_pressed() -> io::Result<bool> {
    let stdin = io::stdin();
    let mut inputs = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut inputs, Some(&KEY_TIME)) {
        // Of a new size, perhaps.
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(_) if inputs[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
            Err(io::Error::other("it has gone"))
        }
        Ok(count) => Ok(count > 0),
    }
}

/// By <https://no-color.org>.
fn has_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The other screen of the terminal and keys without Enter, until it is dropped.
struct Screen;

impl Screen {
    fn open() -> io::Result<Screen> {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave();
            shown(panic);
        }));
        let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT];
        let mut signals = Signals::new(signals)?;
        let obeys = move || {
            let mut is_suspended = false;
            for signal in signals.forever() {
                // What ends a suspension has done so when it comes here.
                if signal != SIGCONT || !is_suspended {
                    obey(signal);
                }
                is_suspended = signal == SIGTSTP;
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(obeys)?;
        let screen = Screen;
        enter()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        IS_OVER.store(true, Ordering::SeqCst);
        leave();
    }
}

/// Does what a signal does to any program, but not before the terminal is as it was.
fn obey(signal: i32) {
    let (done, is_done) = mpsc::channel();
    let leaves = move || {
        leave();
        // Nobody waits any more.
        let _ = done.send(());
    };
    // Somebody may have stopped the terminal (Ctrl-S), and this would wait for him. Nor is it waited for if no thread can be created.
    if thread::Builder::new().name("leaves".to_owned()).spawn(leaves).is_ok() {
        let _ = is_done.recv_timeout(RESTORE_TIME);
    }
    if signal != SIGCONT {
        // Goes on after SIGTSTP alone, when somebody continues it.
        let _ = emulate_default_handler(signal);
    }
    // A terminal that fails shows that to whoever draws.
    let _ = enter();
}

/// Takes the terminal over.
fn enter() -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if IS_OVER.load(Ordering::SeqCst) {
        return Ok(());
    }
    enable_raw_mode()?;
    HAS_SCREEN.store(true, Ordering::SeqCst);
    IS_LOST.store(true, Ordering::SeqCst);
    execute!(stdout, EnterAlternateScreen, Hide)
}

/// Gives the terminal back, if it was taken over.
fn leave() {
    // Held by a frame that the terminal does not take, perhaps: the modes do not wait for that.
    let _ = disable_raw_mode();
    let mut stdout = io::stdout().lock();
    if HAS_SCREEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = execute!(stdout, Show, LeaveAlternateScreen).and_then(|()| stdout.flush());
    }
}
