//! The demo's private root zone, as data and as the text of a zone file.
//!
//! One zone for everything: in the root the single labels `http-api-1` and `http-api-2` are absolute names beside
//! `spells.test`, and whatever is not in it does not exist.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

/// TTL of a new zone, in seconds: short, so that changes show.
const TTL: u32 = 2;

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The lowest that answers is used.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// Where the host serves it.
    pub port: u16,
    /// A name of the zone.
    pub host: String,
}

/// Names and what they lead to. Names are absolute, written without the last dot.
#[derive(Debug)]
pub struct Zone {
    serial: u32,
    ttl: u32,
    addresses: BTreeMap<String, Vec<IpAddr>>,
    services: BTreeMap<String, Vec<Service>>,
}

impl Zone {
    pub(super) fn new() -> Zone {
        Zone { serial: 0, ttl: TTL, addresses: BTreeMap::new(), services: BTreeMap::new() }
    }

    /// Sets the TTL of everything in the zone, and of what is not in it, in seconds; 2 before.
    pub fn set_ttl(&mut self, seconds: u32) {
        self.ttl = seconds;
    }

    /// Gives `name` these addresses and no others; none takes the name away.
    pub fn set(&mut self, name: &str, addresses: &[IpAddr]) {
        self.addresses.insert(name.to_owned(), addresses.to_vec());
    }

    /// Adds one address to those of `name`.
    pub fn add(&mut self, name: &str, address: IpAddr) {
        self.addresses.entry(name.to_owned()).or_default().push(address);
    }

    /// Adds a record to the service `name`, such as `_http._tcp.spells.test`.
    pub fn add_service(&mut self, name: &str, service: Service) {
        self.services.entry(name.to_owned()).or_default().push(service);
    }

    /// Gives the service `name` these records and no others.
    pub fn set_service(&mut self, name: &str, services: &[Service]) {
        self.services.insert(name.to_owned(), services.to_vec());
    }

    /// The zone file of the next version.
    pub(super) fn next_text(&mut self) -> String {
        self.serial += 1;
        let ttl = self.ttl;
        let mut text = format!(
            "; All names of the demo. Edit this file: the authority serves what it says at once.\n\
             $TTL {ttl}\n\
             . SOA ns.test. hostmaster.test. {} 3600 600 86400 {ttl}\n",
            self.serial
        );
        for (name, addresses) in &self.addresses {
            for address in addresses {
                let kind = if address.is_ipv4() { "A" } else { "AAAA" };
                let _ = writeln!(text, "{name}. {kind} {address}");
            }
        }
        for (name, services) in &self.services {
            for Service { priority, weight, port, host } in services {
                let _ = writeln!(text, "{name}. SRV {priority} {weight} {port} {host}.");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_was_set_and_its_serial_grows() {
        let mut zone = Zone::new();
        zone.set("a", &["127.0.0.1".parse().unwrap()]);
        zone.add("a", "::1".parse().unwrap());
        zone.set("b", &[]);
        zone.add_service(
            "_http._tcp.a",
            Service { priority: 1, weight: 2, port: 3, host: "a".to_owned() },
        );
        let text = zone.next_text();
        assert!(text.contains("test. 1 3600"), "{text}");
        assert!(
            text.ends_with("a. A 127.0.0.1\na. AAAA ::1\n_http._tcp.a. SRV 1 2 3 a.\n"),
            "{text}"
        );
        zone.set_ttl(7);
        let text = zone.next_text();
        assert!(text.contains("$TTL 7\n"), "{text}");
        assert!(text.contains("test. 2 3600 600 86400 7\n"), "{text}");
    }
}
