//! Where a name says that endpoints are. Pure.
//!
//! Owns what a place is and which of an answer's places count; knows neither who said so nor what becomes of them.

use std::cmp::Reverse;

use crate::balance::Preference;
use crate::base::address::Address;

/// Addresses of one name that are used; the rest, in address order, is left out. No honest name has
/// as many, and a hostile one must not make endpoints without end.
pub(super) const MAX_ADDRESSES: usize = 256;

/// Where a name says that an endpoint is, and how it stands beside the others of that name (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) address: Address,
    pub(super) weight: u16,
    pub(super) priority: u16,
    /// Tells the hosts of a name apart: its addresses in both families lead to the same one. 0 where the name is the host.
    pub(super) host: u64,
}

impl Place {
    /// One of which the name says only the address: equal to any other.
    pub(super) fn plain(address: Address) -> Self {
        let Preference { priority, weight, .. } = Preference::default();
        Place { address, weight, priority, host: 0 }
    }

    pub(super) fn preference(&self) -> Preference {
        Preference { priority: self.priority, weight: self.weight, alternate: false }
    }
}

/// One place for each address, that of the lowest priority and the highest weight; in the order of addresses, and at most
/// [`MAX_ADDRESSES`].
pub(super) fn one_for_each_address(mut places: Vec<Place>) -> Vec<Place> {
    let preference = |place: &Place| (place.priority, Reverse(place.weight));
    places.sort_by(|one, other| {
        one.address.cmp(&other.address).then(preference(one).cmp(&preference(other)))
    });
    places.dedup_by(|later, first| later.address == first.address);
    places.truncate(MAX_ADDRESSES);
    places
}
