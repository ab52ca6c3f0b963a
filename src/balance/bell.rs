//! How one thread ends the sleep of all workers, when something is published that they should not find only at their next event.

use std::fmt;
use std::sync::OnceLock;

/// Silent until it is hung up, which happens once.
#[derive(Default)]
pub struct Bell(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl Bell {
    /// From now on [`Bell::ring`] calls `wake`, which must not block. Only the first call counts.
    pub fn hang(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second one would be another set of workers, which a process does not have.
        let _ = self.0.set(Box::new(wake));
    }

    /// Ends the sleep of all workers.
    pub fn ring(&self) {
        if let Some(wake) = self.0.get() {
            wake();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn it_rings_for_whoever_hung_it_up_first() {
        let (bell, count) = (Bell::default(), Arc::new(AtomicUsize::new(0)));
        bell.ring();
        let counted = Arc::clone(&count);
        bell.hang(move || _ = counted.fetch_add(1, Ordering::Relaxed));
        bell.hang(|| panic!("it hangs already"));
        (0..2).for_each(|_| bell.ring());
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
