//! Where an endpoint is: a TCP port or a Unix socket. Nothing here is looked up.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where an endpoint is. A copy allocates nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address and a TCP port.
    Ip(SocketAddr),
    /// The absolute path of a Unix stream socket.
    Unix(Arc<str>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Ip(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_displays_as_configured_and_is_small() {
        assert_eq!(Address::from(SocketAddr::from(([0; 16], 80))).to_string(), "[::]:80");
        assert_eq!(Address::Unix("/run/app.sock".into()).to_string(), "unix:/run/app.sock");
        assert_eq!(size_of::<Address>(), size_of::<SocketAddr>());
    }
}
