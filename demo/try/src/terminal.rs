//! The screen and the keys, where there is a terminal: keys come without Enter, and what was on the screen comes back
//! on every way out of the program that it can notice: its end, a signal, a panic. (SIGKILL it cannot.)

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::panic;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize,
    tcsetattr,
};

use crate::watch::Event;

/// What ends the program, as bytes that a terminal sends: q, Ctrl-C, Ctrl-D, Ctrl-\.
pub(crate) const END_KEYS: &[u8] = b"qQ\x03\x04\x1c";

/// The other screen, cleared, without a cursor; and back (xterm's control sequences, which all others know).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The modes that the terminal had, while it has others.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal as a screen, until it is dropped.
pub(crate) struct Screen {
    /// Set unless `NO_COLOR` is.
    pub(crate) has_colours: bool,
}

impl Screen {
    /// Takes the terminal over, if both input and output are one and this process is in its foreground.
    ///
    /// # Errors
    /// The terminal does not take the modes.
    pub(crate) fn open() -> io::Result<Option<Screen>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stdout().is_terminal() || is_in_background(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut modes = before.clone();
        // Signals of keys are off as well: Ctrl-C is to end this program, not `make`, which would call it an error.
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            restore();
            shown(panic);
        }));
        let screen = Screen {
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        tcsetattr(&stdin, OptionalActions::Now, &modes)?;
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(ENTER.as_bytes()).and_then(|()| stdout.flush());
        Ok(Some(screen))
    }

    /// Columns and rows, at least one of each; 80 and 24 where the terminal does not say.
    pub(crate) fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(io::stdout()).map(|it| (it.ws_col, it.ws_row));
        let (columns, rows) = size.ok().filter(|&it| it != (0, 0)).unwrap_or((80, 24));
        (usize::from(columns.max(1)), usize::from(rows.max(1)))
    }

    /// Shows these lines, from the top; they fit.
    pub(crate) fn draw(&self, lines: &[String]) {
        let mut frame = String::from("\x1b[H");
        frame.push_str(&lines.join("\x1b[K\r\n"));
        frame.push_str("\x1b[K\x1b[J");
        let mut stdout = io::stdout().lock();
        // A terminal that has gone says so by SIGHUP.
        let _ = stdout.write_all(frame.as_bytes()).and_then(|()| stdout.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Whether a shell runs this as a background job, which must not touch the terminal. A terminal that does not control
/// this process has no jobs.
fn is_in_background(terminal: impl AsFd) -> bool {
    match tcgetpgrp(terminal) {
        Ok(foreground) => foreground != getpgrp(),
        Err(Errno::NOTTY) => false,
        Err(_) => true,
    }
}

/// Gives the terminal back, if it was taken; a second time it does nothing.
pub(crate) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(modes) = before {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(LEAVE.as_bytes()).and_then(|()| stdout.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
    }
}

/// Sends each key.
pub(crate) fn keys(to: Sender<Event>) {
    thread::spawn(move || {
        for byte in io::stdin().lock().bytes().map_while(Result::ok) {
            if to.send(Event::Key(byte)).is_err() {
                return;
            }
        }
    });
}
