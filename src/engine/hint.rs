//! The one line for whoever runs this when clients speak something other than HTTP/1.x: they see a 400 that they cannot
//! read, and the port looks broken.

use std::time::Duration;

use super::Net;
use super::keys::ClientKey;
use super::pump::Pump;
use crate::base::tick::Tick;
use crate::reason::Cause;

/// The least time between two lines. On a public port somebody always tries TLS.
const QUIET: Duration = Duration::from_secs(60);

/// Until when there is no other line.
#[derive(Debug, Default)]
pub(super) struct Hints {
    quiet_until: Tick,
}

impl<N: Net> Pump<N> {
    /// Says so now and then, if the request was refused because it is of another protocol.
    pub(super) fn hint_at(&mut self, key: ClientKey, cause: Option<Cause>) {
        let found = cause.and_then(|cause| cause.detail).filter(|fault| fault.is_foreign());
        // It was refused for something else, or a line was written just now.
        let Some(fault) = found.filter(|_| self.hints.quiet_until <= self.now) else { return };
        let Some(client) = self.clients.get(key) else {
            return self.impossible("a client that runs is there");
        };
        self.hints.quiet_until = self.now.after(QUIET);
        log::warn!("client {}: {}", client.address.ip, fault.why());
    }
}
