//! Children that the kernel ends with their parent, whatever the parent dies of.
//!
//! `PR_SET_PDEATHSIG` is set by the child itself, before it becomes the program: `demo leash PARENT PROGRAM ...` does it,
//! so that it holds for `evenly` as well, which knows nothing of this. The signal comes when the *thread* that made
//! the child ends, so one thread that lives as long as the stage makes them all.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The hidden subcommand of `demo`.
pub(super) const LEASH: &str = "leash";

/// Becomes `program`, on the leash of the process number `parent`. Returns only if that fails.
pub fn exec_leashed(parent: u32, program: &Path, arguments: &[String]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before the signal was asked for.
    let alive = getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    if !alive {
        return io::Error::other("the demo has ended");
    }
    Command::new(program).args(arguments).exec()
}

type Order = (Command, Sender<io::Result<Child>>);

/// The thread that makes children.
pub(super) struct Spawner {
    orders: Sender<Order>,
    leash: PathBuf,
}

impl Spawner {
    /// Starts the thread; it ends when this value goes. `leash` is the program `demo`.
    pub(super) fn start(leash: &Path) -> io::Result<Spawner> {
        let (orders, coming) = mpsc::channel::<Order>();
        thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for (mut command, made) in coming {
                // Whoever gave the order waits for it.
                let _ = made.send(command.spawn());
            }
        })?;
        Ok(Spawner { orders, leash: leash.to_owned() })
    }

    /// Starts a program on the leash, with nothing to read, its output piped to us, in a process group of its own.
    pub(super) fn spawn(&self, program: &Path, arguments: &[String]) -> io::Result<Child> {
        let mut command = Command::new(&self.leash);
        command
            .arg(LEASH)
            .arg(std::process::id().to_string())
            .arg(program)
            .arg("--")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let gone = |_| io::Error::other("the thread that starts programs has ended");
        let (made, child) = mpsc::channel();
        self.orders.send((command, made)).map_err(|_| gone(mpsc::RecvError))?;
        child.recv().map_err(gone)?
    }
}
