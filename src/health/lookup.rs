//! What is looked up for a target, and what a lookup found. Pure: values that `names`, `resolve` and `dns` hand on.
//!
//! Owns what an answer means for the places a target had: all of them, a part, none, or not known. Does not own how it is asked
//! for (`dns`, `resolve`), nor what becomes of the places (`names`).

use std::sync::Arc;
use std::time::Duration;

use crate::base::address::Address;
use crate::settings::TargetAddress;

use super::place::{Place, one_for_each_address};

/// What a target that is a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Each address of a name, with this port.
    Host { name: Arc<str>, port: u16 },
    /// Whatever the SRV records of a name lead to (RFC 2782).
    Service(Arc<str>),
}

impl Wanted {
    /// What is to be looked up for a target with this address; `None` if that is nothing: an IP address or a Unix socket.
    pub(super) fn of(address: &TargetAddress) -> Option<Self> {
        match address {
            TargetAddress::Ip(_) | TargetAddress::Unix(_) => None,
            TargetAddress::Name { host, port } => {
                Some(Wanted::Host { name: host.as_str().into(), port: *port })
            }
            TargetAddress::Service(name) => Some(Wanted::Service(name.as_str().into())),
        }
    }
}

/// What a lookup found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LookupResult {
    /// At least one place; they are sorted by address, and no two have the same.
    Places {
        places: Vec<Place>,
        /// For how long that holds, where it is known.
        ttl: Option<Duration>,
        /// What there may be beside these: a part of the lookup failed.
        missing: Option<Missing>,
    },
    /// At least one place, while the lookup goes on: there may be more, and its end is to come.
    Early(Vec<Place>),
    /// Authoritative: the name has no place. The TTL is that of RFC 2308 section 5, where there is one.
    Nothing { why: String, ttl: Option<Duration> },
    /// The service is not available, says its SRV record (RFC 2782, a target of ".").
    Unavailable { why: String, ttl: Duration },
    /// The lookup failed; the answer is unknown.
    Failed(String),
    /// This process lacked something for it, which says nothing of the name.
    Short(String),
}

impl LookupResult {
    /// Why there is no place, if there is none.
    pub(super) fn trouble(&self) -> Option<&str> {
        match self {
            LookupResult::Nothing { why, .. }
            | LookupResult::Unavailable { why, .. }
            | LookupResult::Failed(why) => Some(why),
            LookupResult::Places { .. } | LookupResult::Early(_) | LookupResult::Short(_) => None,
        }
    }

    /// What was found: `places`, of which there is at least one; those that count of them ([`one_for_each_address`]).
    pub(super) fn of(places: Vec<Place>, ttl: Option<Duration>, missing: Option<Missing>) -> Self {
        LookupResult::Places { places: one_for_each_address(places), ttl, missing }
    }
}

/// Takes what a lookup found while it still waits for a part.
pub(super) type EarlyPlaces = dyn Fn(Vec<Place>) + Send + Sync;

/// The part of a lookup that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) why: String,
    /// Addresses of this family alone are not known; `None`: there may be any.
    pub(super) family: Option<AddressFamily>,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressFamily {
    V4,
    V6,
}

impl Missing {
    /// Whether this address may be in the part that is missing.
    pub(super) fn may_have(&self, address: &Address) -> bool {
        match (self.family, address) {
            (Some(AddressFamily::V4), Address::Ip(ip)) => ip.is_ipv4(),
            (Some(AddressFamily::V6), Address::Ip(ip)) => ip.is_ipv6(),
            (None, _) | (_, Address::Unix(_)) => true,
        }
    }

    /// Both parts, for the reason of the first.
    pub(super) fn both(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(Missing { why, family }), Some(other)) => {
                Some(Missing { why, family: family.filter(|_| family == other.family) })
            }
            (first, second) => first.or(second),
        }
    }
}
