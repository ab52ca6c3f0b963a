//! Whether the configuration file has changed (`watch = true`): its metadata each second, its content when they differ.
//!
//! The path is followed again each time, so that it may be a symbolic link that is swapped, as Kubernetes does with `..data`. A change
//! counts when there was no other for a while: editors truncate a file and then write it. A file that is gone is no change: what
//! is in force stays. What is no file, is endless or cannot be read is a change, so that the reload says what is wrong with it; nothing here
//! waits for it, because the thread that looks is the one that obeys signals.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::config::MAX_FILE;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How long there must be no other change.
const QUIET: Duration = Duration::from_millis(100);

/// Device, inode, length, and time of the last change in seconds and nanoseconds.
type FileStamp = (u64, u64, u64, i64, i64);

/// Looks at a file.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: PathBuf,
    stamp: Option<FileStamp>,
    /// It has changed, and it is to be seen whether it changes on.
    restless: bool,
    /// Of the content that was applied or refused last.
    seen: u64,
    next: Instant,
}

/// What is at a path.
enum AtPath {
    /// A file, by its content; or something that is read as none, by what is wrong with it.
    There {
        content: u64,
        /// What is wrong may end without a change of the metadata, such as a lack of rights.
        is_wrong: bool,
    },
    Gone,
    /// It is not known now, for lack of a descriptor perhaps.
    Unknown,
}

impl FileWatch {
    /// Of the file at `path`, whose content is in force.
    pub(super) fn new(path: PathBuf, now: Instant) -> Self {
        let mut watch = FileWatch { path, stamp: None, restless: false, seen: 0, next: now + LOOK };
        watch.note();
        watch
    }

    /// The file is about to be read for another reason: what is there now is no change any more.
    pub(super) fn note(&mut self) {
        self.stamp = stamp(&self.path);
        match find(&self.path) {
            AtPath::There { content, is_wrong } => {
                self.seen = content;
                self.restless = is_wrong;
            }
            AtPath::Gone => self.restless = false,
            AtPath::Unknown => self.restless = true,
        }
    }

    /// When [`FileWatch::look`] is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Whether there is other content than what was seen last, and it has settled.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let stamp = stamp(&self.path);
        if stamp != self.stamp {
            self.stamp = stamp;
            self.restless = true;
            self.next = now + QUIET;
            return false;
        }
        self.next = now + LOOK;
        if !std::mem::take(&mut self.restless) {
            return false;
        }
        match find(&self.path) {
            AtPath::There { content, is_wrong } => {
                self.restless = is_wrong;
                std::mem::replace(&mut self.seen, content) != content
            }
            AtPath::Gone => {
                let path = self.path.display();
                log::warn!("the watched file {path} is gone: what is in force stays");
                false
            }
            AtPath::Unknown => {
                self.restless = true;
                false
            }
        }
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let it = fs::metadata(path).ok()?;
    Some((it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec()))
}

fn find(path: &Path) -> AtPath {
    let mut hasher = DefaultHasher::new();
    let is_wrong = match read(path) {
        Ok(bytes) => {
            bytes.hash(&mut hasher);
            false
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return AtPath::Gone,
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return AtPath::Unknown,
            errno => {
                errno.map(Errno::raw_os_error).hash(&mut hasher);
                true
            }
        },
    };
    AtPath::There { content: hasher.finish(), is_wrong }
}

/// As much of a file as a reload may read. Anything else is not opened: a pipe may have no writer.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(Errno::ISDIR.into());
    }
    // It may be a pipe by now.
    let nonblocking = i32::try_from(PipeFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    /// A watched file in a folder, and a clock.
    struct Scene {
        folder: tempfile::TempDir,
        watch: FileWatch,
        now: Instant,
    }

    impl Scene {
        fn new() -> Scene {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("evenly.toml");
            fs::write(&path, "one").unwrap();
            let now = Instant::now();
            Scene { watch: FileWatch::new(path, now), folder, now }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Looks whenever it is due, for two seconds. How many times there was something.
        fn changes(&mut self) -> usize {
            let until = self.now + 2 * LOOK;
            let mut count = 0;
            while self.watch.next() <= until {
                self.now = self.watch.next();
                count += usize::from(self.watch.look(self.now));
            }
            count
        }
    }

    #[test]
    fn other_content_is_a_change_and_the_same_is_none() {
        let mut scene = Scene::new();
        let path = scene.at("evenly.toml");
        assert_eq!(scene.changes(), 0);
        fs::write(&path, "two, longer").unwrap();
        assert_eq!((scene.changes(), scene.changes()), (1, 0));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "two, longer").unwrap();
        assert_eq!(scene.changes(), 0, "another file with the same content");
    }

    #[test]
    fn a_file_that_was_moved_there_is_seen() {
        let mut scene = Scene::new();
        fs::write(scene.at("new"), "two").unwrap();
        fs::rename(scene.at("new"), scene.at("evenly.toml")).unwrap();
        assert_eq!(scene.changes(), 1);
    }

    #[test]
    fn a_file_that_is_gone_is_no_change_until_it_is_back() {
        let mut scene = Scene::new();
        fs::remove_file(scene.at("evenly.toml")).unwrap();
        assert_eq!(scene.changes(), 0);
        fs::write(scene.at("evenly.toml"), "two").unwrap();
        assert_eq!(scene.changes(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_for_a_while_is_read_then() {
        let mut scene = Scene::new();
        let path = scene.at("evenly.toml");
        // What stands for it is a folder, which anybody may look at and nobody can read, root included.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!((scene.changes(), scene.changes()), (1, 0), "a reload says it once");
        assert!(scene.watch.restless, "it is tried again");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(scene.changes(), 1);
    }

    #[test]
    fn what_is_no_file_or_has_no_end_is_a_change_and_nothing_waits_for_it() {
        let mut scene = Scene::new();
        let path = scene.at("evenly.toml");
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!((scene.changes(), scene.changes()), (1, 0), "a pipe without a writer");
        fs::remove_file(&path).unwrap();
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!((scene.changes(), scene.changes()), (1, 0), "a terabyte");
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert_eq!((scene.changes(), scene.changes()), (1, 0), "a device");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(scene.changes(), 1);
    }

    #[test]
    fn what_was_read_for_another_reason_is_no_change() {
        let mut scene = Scene::new();
        fs::write(scene.at("evenly.toml"), "two").unwrap();
        scene.watch.note();
        assert_eq!(scene.changes(), 0);
        fs::write(scene.at("evenly.toml"), "three").unwrap();
        assert_eq!(scene.changes(), 1);
    }

    #[test]
    fn it_waits_until_a_file_is_written() {
        let mut scene = Scene::new();
        let path = scene.at("evenly.toml");
        let look = |scene: &mut Scene| {
            scene.now = scene.watch.next();
            scene.watch.look(scene.now)
        };
        fs::write(&path, "").unwrap();
        assert!(!look(&mut scene));
        fs::write(&path, "tw").unwrap();
        assert!(!look(&mut scene), "it has changed on");
        fs::write(&path, "two").unwrap();
        assert!(!look(&mut scene));
        assert!(look(&mut scene));
    }

    #[test]
    fn a_link_that_is_swapped_as_kubernetes_does_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let version = |name: &str, text: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("evenly.toml"), text).unwrap();
        };
        let point = |to: &str| {
            symlink(to, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        version("..1", "one");
        point("..1");
        symlink(Path::new("..data/evenly.toml"), at("evenly.toml")).unwrap();
        let now = Instant::now();
        let watch = FileWatch::new(at("evenly.toml"), now);
        version("..2", "two");
        point("..2");
        fs::remove_dir_all(at("..1")).unwrap();
        assert_eq!(Scene { folder, watch, now }.changes(), 1);
    }
}
