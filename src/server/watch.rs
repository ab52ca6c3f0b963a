//! Whether the configuration file has changed (`watch = true`): its metadata each second, its content when they differ.
//!
//! The path is followed again each time, so that it may be a symbolic link that is swapped, as Kubernetes does with `..data`. A change
//! counts when there was no other for a while: editors truncate a file and then write it. A file that is gone is no change: what
//! is in force stays.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

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

impl FileWatch {
    /// Of the file at `path`, whose content is in force.
    pub(super) fn new(path: PathBuf, now: Instant) -> Self {
        let stamp = stamp(&path);
        let seen = content(&path).unwrap_or_default();
        FileWatch { path, stamp, restless: false, seen, next: now + LOOK }
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
        match content(&self.path) {
            Some(now) => std::mem::replace(&mut self.seen, now) != now,
            None => {
                // It is there and cannot be read, for lack of a descriptor perhaps: it is tried again.
                self.restless = self.stamp.is_some();
                false
            }
        }
    }
}

fn stamp(path: &PathBuf) -> Option<FileStamp> {
    let it = fs::metadata(path).ok()?;
    Some((it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec()))
}

fn content(path: &PathBuf) -> Option<u64> {
    let bytes = fs::read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Some(hasher.finish())
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
        assert_eq!(scene.changes(), 0);
        assert!(scene.watch.restless, "it is tried again");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "two").unwrap();
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
