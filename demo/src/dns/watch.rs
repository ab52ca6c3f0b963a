//! The files of the authority's zones, followed: what changed is served a moment later, what is broken is logged and not.
//!
//! Owns the thread that reads the files and the last good zone of each. The whole text is compared, not times and
//! sizes: two changes within one tick of a file's clock are both seen, and a zone is short.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hickory_proto::rr::LowerName;
use hickory_server::zone_handler::Catalog;
use tokio::sync::watch;

use super::named;
use super::zone::{self, MAX_ZONE, Served};
use crate::process::say;

/// How often the files are read. A text counts once it was read twice: a file that is being written is not half taken.
pub const SETTLE: Duration = Duration::from_millis(50);

/// A zone and where it is written, `ORIGIN=FILE`.
#[derive(Debug, Clone)]
pub struct ZoneFile {
    origin: LowerName,
    path: PathBuf,
}

impl FromStr for ZoneFile {
    type Err = String;

    fn from_str(text: &str) -> Result<ZoneFile, String> {
        let (origin, path) =
            named(text).map_err(|why| format!("{why}; expected ORIGIN=FILE, as test=test.zone"))?;
        Ok(ZoneFile { origin, path: path.into() })
    }
}

/// One zone file, and what of it is served.
struct Followed {
    file: ZoneFile,
    /// What the last look found, good or not.
    seen: Result<String, String>,
    /// What was judged: `seen` once it has settled.
    judged: Result<String, String>,
    good: Arc<Served>,
}

/// All zones of an authority.
pub struct ZoneFiles {
    zones: Vec<Followed>,
    publish: watch::Sender<Arc<Catalog>>,
}

impl ZoneFiles {
    /// Reads every zone for the first time.
    ///
    /// # Errors
    /// When one of them is not there or broken: there is no last good one to serve.
    pub fn open(files: Vec<ZoneFile>) -> Result<ZoneFiles, String> {
        let zones = files.into_iter().map(first_read).collect::<Result<Vec<_>, _>>()?;
        for (at, zone) in zones.iter().enumerate() {
            if zones.iter().take(at).any(|earlier| earlier.file.origin == zone.file.origin) {
                return Err(format!("the zone {} is given twice", zone.file.origin));
            }
        }
        let publish = watch::Sender::new(Arc::new(catalog(&zones)));
        Ok(ZoneFiles { zones, publish })
    }

    /// The zones as they are now, and as they will be.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.publish.subscribe()
    }

    /// Follows the files from a thread of its own, for as long as the process lives.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn follow(mut self) -> std::io::Result<()> {
        thread::Builder::new().name("zone-files".to_owned()).spawn(move || {
            loop {
                thread::sleep(SETTLE);
                self.look();
            }
        })?;
        Ok(())
    }

    /// What is said to be served is served by then: whoever follows the log may rely on it.
    fn look(&mut self) {
        let judged: Vec<Judged> = self.zones.iter_mut().filter_map(Followed::look).collect();
        if judged.iter().any(|judged| judged.good) {
            self.publish.send_replace(Arc::new(catalog(&self.zones)));
        }
        for Judged { line, .. } in judged {
            say(line);
        }
    }
}

/// What a file that has changed was found to be.
struct Judged {
    good: bool,
    line: String,
}

impl Followed {
    /// Looks at the file; says something only when it has changed, and settled.
    fn look(&mut self) -> Option<Judged> {
        let now = read(&self.file.path);
        if now != self.seen {
            self.seen = now;
            return None;
        }
        if self.seen == self.judged {
            return None;
        }
        self.judged.clone_from(&self.seen);
        Some(self.judge())
    }

    fn judge(&mut self) -> Judged {
        let ZoneFile { origin, path } = &self.file;
        let path = path.display();
        let loaded = match &self.judged {
            Ok(text) => zone::load(origin, text).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        match loaded {
            Ok(zone) => {
                self.good = Arc::new(zone);
                let line = format!("zone {origin} from {path}: changed, serving it");
                Judged { good: true, line }
            }
            Err(why) => {
                let line = format!("zone {origin} from {path}: {why}; the last good one stays");
                Judged { good: false, line }
            }
        }
    }
}

fn first_read(file: ZoneFile) -> Result<Followed, String> {
    let fault = |why| format!("zone {} from {}: {why}", file.origin, file.path.display());
    let text = read(&file.path).map_err(fault)?;
    let good = zone::load(&file.origin, &text).map_err(|error| fault(error.to_string()))?;
    Ok(Followed { seen: Ok(text.clone()), judged: Ok(text), good: Arc::new(good), file })
}

/// At most one byte more than a zone may have, so that a longer one is noticed and does no harm.
fn read(path: &Path) -> Result<String, String> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(MAX_ZONE as u64 + 1).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    read().map_err(|error| format!("cannot be read: {error}"))
}

fn catalog(zones: &[Followed]) -> Catalog {
    let mut catalog = Catalog::new();
    for zone in zones {
        catalog.upsert(zone.file.origin.clone(), vec![zone.good.clone()]);
    }
    catalog
}
