//! One zone: from the text of a zone file (RFC 1035 section 5, as hickory parses it) to what hickory serves.
//!
//! Owns the checks that hickory leaves out, and where in the file an error is. Touches no file.

use std::collections::BTreeMap;
use std::fmt;

use hickory_proto::rr::{LowerName, Name, RData, Record, RecordSet, RecordType, RrKey};
use hickory_proto::serialize::txt::Parser;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, ZoneType};

/// Longest zone file, in bytes.
pub const MAX_ZONE: usize = 64 * 1024;

pub(super) type Served = InMemoryZoneHandler<TokioRuntimeProvider>;
type Records = BTreeMap<RrKey, RecordSet>;

/// What is wrong with a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneError {
    /// The line at which the entry begins that cannot be read, from 1; none if the zone as a whole is wrong.
    pub line: Option<usize>,
    /// Why, for people.
    pub why: String,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl ZoneError {
    pub(super) fn of_zone(why: impl Into<String>) -> ZoneError {
        ZoneError { line: None, why: why.into() }
    }
}

/// The zone `origin` from the text of its file.
///
/// # Errors
/// When the text is too long or cannot be read, has no SOA of this zone, or names of other zones.
pub(super) fn load(origin: &LowerName, text: &str) -> Result<Served, ZoneError> {
    if text.len() > MAX_ZONE {
        return Err(ZoneError::of_zone(format!("it is longer than {MAX_ZONE} bytes")));
    }
    let records = parse(origin, text)
        .map_err(|why| ZoneError { line: Some(failing_line(origin, text)), why })?;
    let serial = serial_of(origin, &records)?;
    let mut zone = Served::empty(Name::from(origin.clone()), ZoneType::Primary, AxfrPolicy::Deny);
    for (key, set) in records {
        if !origin.zone_of(&key.name) {
            return Err(ZoneError::of_zone(format!("{} is not in the zone {origin}", key.name)));
        }
        for record in set.records_without_rrsigs() {
            let (name, kind) = (record.name.clone(), record.record_type());
            if !zone.upsert_mut(with_negative_ttl(record.clone()), serial) {
                return Err(ZoneError::of_zone(format!(
                    "{name} {kind} cannot be beside the name's other records (a CNAME stands alone)"
                )));
            }
        }
    }
    Ok(zone)
}

fn parse(origin: &LowerName, text: &str) -> Result<Records, String> {
    let parsed = Parser::new(text, None, Some(Name::from(origin.clone()))).parse();
    parsed.map(|(_, records)| records).map_err(|error| error.to_string())
}

fn serial_of(origin: &LowerName, records: &Records) -> Result<u32, ZoneError> {
    let soa = records
        .get(&RrKey::new(origin.clone(), RecordType::SOA))
        .and_then(|set| set.records_without_rrsigs().next());
    match soa.map(|record| &record.data) {
        Some(RData::SOA(soa)) => Ok(soa.serial),
        _ => Err(ZoneError::of_zone(format!("it has no SOA record of {origin}"))),
    }
}

/// The SOA of a negative answer lives as long as the answer may: the lesser of its own TTL and its MINIMUM
/// (RFC 2308 section 3), which hickory leaves to us.
fn with_negative_ttl(mut record: Record) -> Record {
    if let RData::SOA(soa) = &record.data {
        record.ttl = record.ttl.min(soa.minimum);
    }
    record
}

/// Where the text fails, which hickory does not say: the entry after the longest run of whole lines that can be read. A zone is
/// short ([`MAX_ZONE`]) and an error rare, so that reading it over and over does no harm.
fn failing_line(origin: &LowerName, text: &str) -> usize {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let good = ends
        .iter()
        .rposition(|&end| text.get(..end).is_some_and(|start| parse(origin, start).is_ok()))
        .map_or(0, |at| at + 1);
    let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with(';');
    good + 1 + text.lines().skip(good).take_while(blank).count()
}

#[cfg(test)]
mod tests {
    use super::super::absolute;
    use super::*;

    const SOA: &str = "$TTL 60\n@ SOA ns.test. admin.test. 7 3600 600 86400 2\n";

    fn error_of(text: &str) -> ZoneError {
        load(&absolute("test").unwrap(), text).err().unwrap()
    }

    #[tokio::test]
    async fn a_zone_has_its_serial_and_its_soa_the_ttl_of_a_negative_answer() {
        let zone = load(&absolute("test").unwrap(), &format!("{SOA}a A 127.0.0.1\n")).unwrap();
        assert_eq!(zone.serial().await, 7);
        let soa = RrKey::new(absolute("test").unwrap(), RecordType::SOA);
        assert_eq!(zone.records().await[&soa].record().unwrap().ttl, 2);
    }

    #[test]
    fn the_root_may_be_a_zone_with_names_of_one_label() {
        let text =
            "$TTL 2\n. SOA ns.test. admin.test. 1 3600 600 86400 2\nhttp-api-1. A 127.0.0.11\n";
        assert!(load(&absolute(".").unwrap(), text).is_ok());
    }

    #[test]
    fn an_error_names_the_line_of_its_entry() {
        assert_eq!(
            error_of(&format!("{SOA}a A 127.0.0.1\nb A 127.0.0.300\nc A 1.2.3.4\n")).line,
            Some(4)
        );
        assert_eq!(error_of(&format!("{SOA}; a comment\n\nb NONSENSE 1\n")).line, Some(5));
        assert_eq!(error_of("@ SOA ns.test. admin.test. (\n1 x 600 86400 2 )\n").line, Some(1));
        assert_eq!(error_of(&format!("{SOA}a A 127.0.0.1\nb A")).line, Some(4));
    }

    #[test]
    fn a_zone_needs_its_own_soa_and_only_its_own_names() {
        assert_eq!(error_of("").why, "it has no SOA record of test.");
        assert!(error_of("$TTL 60\nx.test. A 127.0.0.1\n").why.contains("no SOA"));
        let stranger = error_of(&format!("{SOA}www.example. A 127.0.0.1\n"));
        assert_eq!(stranger.why, "www.example. is not in the zone test.");
    }

    #[test]
    fn a_cname_stands_alone() {
        let error = error_of(&format!("{SOA}a CNAME b\na A 127.0.0.1\n"));
        assert!(error.why.contains("CNAME stands alone"), "{error}");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        assert!(error_of(&" ".repeat(MAX_ZONE + 1)).why.contains("longer than"));
    }

    #[test]
    fn hostile_text_is_an_error_and_no_panic() {
        for text in [
            "$INCLUDE /etc/passwd\n",
            "$ORIGIN\n",
            "((((",
            "\"",
            "a\\",
            "\\999 A 1.2.3.4",
            "$TTL x",
            "é A ü",
        ] {
            assert!(load(&absolute("test").unwrap(), text).is_err(), "{text}");
        }
    }
}
