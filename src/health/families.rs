//! The two address families of a host. Pure.
//!
//! Owns which of them has the turns of a host that has both, and which one is left out because nobody ever answered in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::balance::EndpointState;
use crate::base::address::Address;

use super::checked::Checked;

/// How the two address families of each host of a target do: an A and an AAAA record of one name lead to one server, and no
/// more than one of them is to have its turns.
pub(super) struct Families(BTreeMap<u64, [Family; 2]>);

#[derive(Debug, Clone, Copy, Default)]
struct Family {
    /// Endpoints that are up.
    up: usize,
    /// One of them was, at some time.
    known: bool,
    /// There is one at all.
    there: bool,
}

impl Families {
    pub(super) fn of(endpoints: &[Checked]) -> Self {
        let mut hosts: BTreeMap<u64, [Family; 2]> = BTreeMap::new();
        // Nearly no target has both, and then there is nothing to weigh.
        if endpoints.iter().any(|it| family(it) != family(&endpoints[0])) {
            for endpoint in endpoints {
                let of = &mut hosts.entry(endpoint.host).or_default()[family(endpoint)];
                of.up += usize::from(endpoint.is_up());
                of.known |= endpoint.known;
                of.there = true;
            }
        }
        Families(hosts)
    }

    /// Its own family and the other one of its host.
    fn both(&self, endpoint: &Checked) -> Option<(Family, Family)> {
        let [four, six] = *self.0.get(&endpoint.host)?;
        let (own, other) = if family(endpoint) == 0 { (four, six) } else { (six, four) };
        other.there.then_some((own, other))
    }

    /// Whether the other family has the turns of its host: where both work the one of which more is up, and of equals IPv6,
    /// which RFC 6724 has first too.
    pub(super) fn stands_by(&self, endpoint: &Checked) -> bool {
        self.both(endpoint).is_some_and(|(own, other)| match family(endpoint) {
            0 => other.up > 0 && other.up >= own.up,
            _ => other.up > own.up,
        })
    }

    /// Whether nobody ever answered in its family, but in the other one: what listens there alone is whole.
    pub(super) fn leave_out(&self, endpoint: &Checked) -> bool {
        let tried = endpoint.health() == EndpointState::Down || endpoint.tried;
        tried && self.both(endpoint).is_some_and(|(own, other)| !own.known && other.known)
    }
}

/// 0 for IPv4 and for what has no family, 1 for IPv6.
pub(super) fn family(endpoint: &Checked) -> usize {
    usize::from(matches!(endpoint.address, Address::Ip(SocketAddr::V6(_))))
}
