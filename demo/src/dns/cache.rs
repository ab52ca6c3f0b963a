//! Answers that may be given again, and for how long: TTLs count down, and nothing is used once the least of them is over.
//!
//! PURE: time comes as an argument. Invariants: at most `room` entries; an entry's life is at least a second and at most
//! [`MAX_LIFE`]; what is found is never over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, RData, Record, RecordType};

/// Longest life of an answer, whatever its TTL (RFC 8767 section 4 suggests days; a demo is watched for minutes).
pub(super) const MAX_LIFE: u32 = 3_600;

/// What was asked. Names that do not exist do so for every type (RFC 2308 section 5): their type is none.
type Key = (LowerName, Option<RecordType>);

/// What was answered, without what belongs to one exchange alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Answer {
    /// What a server has answered. The SOA's TTL becomes that of the negative answer, as its server should have made it
    /// (RFC 2308 section 3): so it is what is left, whenever it is looked at.
    pub(super) fn of(message: Message) -> Answer {
        let mut authorities = message.authorities;
        for record in &mut authorities {
            if let RData::SOA(soa) = &record.data {
                record.ttl = record.ttl.min(soa.minimum);
            }
        }
        Answer {
            code: message.metadata.response_code,
            answers: message.answers,
            authorities,
            additionals: message.additionals,
        }
    }

    /// An answer that is only a code.
    pub(super) fn empty(code: ResponseCode) -> Answer {
        Answer { code, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }

    /// How long this may be used, in seconds; none if it may not be used again.
    pub(super) fn life(&self) -> Option<u32> {
        let least = match self.code {
            ResponseCode::NoError | ResponseCode::NXDomain if self.is_negative() => {
                self.negative_ttl()
            }
            ResponseCode::NoError => self.records().map(|record| record.ttl).min(),
            _ => None,
        };
        least.map(|life| life.min(MAX_LIFE)).filter(|&life| life > 0)
    }

    /// NXDOMAIN, or no record of the type that was asked for: perhaps at the end of a chain of aliases.
    fn is_negative(&self) -> bool {
        self.code == ResponseCode::NXDomain || self.answers.is_empty()
    }

    /// RFC 2308 section 5: without an SOA a negative answer is not kept. The aliases before it must live as well.
    fn negative_ttl(&self) -> Option<u32> {
        let soa = self.authorities.iter().find(|record| record.record_type() == RecordType::SOA)?;
        self.answers.iter().chain([soa]).map(|record| record.ttl).min()
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.answers.iter().chain(&self.authorities).chain(&self.additionals)
    }

    /// The same answer `age` seconds later.
    fn aged(&self, age: u32) -> Answer {
        let mut answer = self.clone();
        let Answer { answers, authorities, additionals, .. } = &mut answer;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.ttl = record.ttl.min(MAX_LIFE).saturating_sub(age);
        }
        answer
    }
}

struct Entry {
    answer: Answer,
    since: Instant,
    until: Instant,
}

/// The answers of a resolver.
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    room: usize,
}

impl Cache {
    /// A cache of at most `room` answers.
    pub(super) fn new(room: usize) -> Cache {
        Cache { entries: HashMap::new(), room }
    }

    /// What is known, with TTLs as they are now.
    pub(super) fn find(&self, name: &LowerName, kind: RecordType, now: Instant) -> Option<Answer> {
        [Some(kind), None].into_iter().find_map(|kind| {
            let entry = self.entries.get(&(name.clone(), kind))?;
            if now >= entry.until {
                return None;
            }
            let age = now.saturating_duration_since(entry.since).as_secs();
            Some(entry.answer.aged(u32::try_from(age).unwrap_or(u32::MAX)))
        })
    }

    /// Keeps an answer that came at `now`, if it may be kept.
    pub(super) fn keep(
        &mut self,
        name: LowerName,
        kind: RecordType,
        answer: &Answer,
        now: Instant,
    ) {
        let Some(life) = answer.life() else { return };
        let for_every_type = answer.code == ResponseCode::NXDomain && answer.answers.is_empty();
        let key = (name, (!for_every_type).then_some(kind));
        if !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let until = now + Duration::from_secs(life.into());
        self.entries.insert(key, Entry { answer: answer.clone(), since: now, until });
    }

    /// When it is full, what is over goes, and if nothing is, what would be over first.
    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < self.room {
            return;
        }
        self.entries.retain(|_, entry| now < entry.until);
        if self.entries.len() >= self.room {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            if let Some(key) = first.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, CNAME, SOA};

    use super::super::absolute;
    use super::*;

    fn address(name: &str, ttl: u32) -> Record {
        Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, RData::A(A::new(127, 0, 0, 1)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let name = |text| Name::from_ascii(text).unwrap();
        let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 1, 1, 1, minimum);
        Record::from_rdata(name("test."), ttl, RData::SOA(soa))
    }

    fn answer(code: ResponseCode, answers: &[Record], authorities: &[Record]) -> Answer {
        let mut message = Message::error_msg(1, OpCode::Query, code);
        message.answers = answers.to_vec();
        message.authorities = authorities.to_vec();
        Answer::of(message)
    }

    fn seconds(count: f64) -> Duration {
        Duration::from_secs_f64(count)
    }

    #[test]
    fn ttls_count_down_and_the_answer_is_gone_at_the_end_of_the_least() {
        let (mut cache, name, now) = (Cache::new(9), absolute("a.test").unwrap(), Instant::now());
        let both = [address("a.test.", 5), address("a.test.", 3)];
        cache.keep(name.clone(), RecordType::A, &answer(ResponseCode::NoError, &both, &[]), now);
        let ttls = |after: f64| {
            let found = cache.find(&name, RecordType::A, now + seconds(after))?;
            Some(found.answers.iter().map(|record| record.ttl).collect::<Vec<_>>())
        };
        assert_eq!(ttls(0.0), Some(vec![5, 3]));
        assert_eq!(ttls(0.9), Some(vec![5, 3]));
        assert_eq!(ttls(2.9), Some(vec![3, 1]));
        assert_eq!(ttls(3.0), None);
    }

    #[test]
    fn a_name_that_does_not_exist_does_so_for_every_type() {
        let (mut cache, name, now) = (Cache::new(9), absolute("no.test").unwrap(), Instant::now());
        let no_name = answer(ResponseCode::NXDomain, &[], &[soa(9, 4)]);
        cache.keep(name.clone(), RecordType::A, &no_name, now);
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV] {
            let found = cache.find(&name, kind, now + seconds(3.0)).unwrap();
            assert_eq!((found.code, found.life()), (ResponseCode::NXDomain, Some(1)));
            assert_eq!(cache.find(&name, kind, now + seconds(4.0)), None);
        }
    }

    #[test]
    fn no_data_is_kept_for_its_type_alone() {
        let (mut cache, name, now) = (Cache::new(9), absolute("a.test").unwrap(), Instant::now());
        cache.keep(
            name.clone(),
            RecordType::AAAA,
            &answer(ResponseCode::NoError, &[], &[soa(2, 60)]),
            now,
        );
        assert!(cache.find(&name, RecordType::AAAA, now + seconds(1.9)).is_some());
        assert_eq!(cache.find(&name, RecordType::A, now), None);
        assert_eq!(cache.find(&name, RecordType::AAAA, now + seconds(2.0)), None);
    }

    #[test]
    fn an_alias_to_nothing_lives_as_long_as_the_alias() {
        let target = CNAME(Name::from_ascii("b.test.").unwrap());
        let alias =
            Record::from_rdata(Name::from_ascii("a.test.").unwrap(), 1, RData::CNAME(target));
        let no_name = answer(ResponseCode::NXDomain, &[alias], &[soa(9, 9)]);
        assert_eq!(no_name.life(), Some(1));
        let (mut cache, name, now) = (Cache::new(9), absolute("a.test").unwrap(), Instant::now());
        cache.keep(name.clone(), RecordType::A, &no_name, now);
        assert_eq!(cache.find(&name, RecordType::AAAA, now), None, "the alias itself exists");
    }

    #[test]
    fn what_may_not_be_used_again_is_not_kept() {
        let ok = ResponseCode::NoError;
        for (what, answer) in [
            ("a failure", answer(ResponseCode::ServFail, &[], &[soa(9, 9)])),
            ("a refusal", answer(ResponseCode::Refused, &[], &[])),
            ("TTL 0", answer(ok, &[address("a.test.", 0)], &[])),
            ("a negative answer without SOA", answer(ResponseCode::NXDomain, &[], &[])),
            ("a negative answer of minimum 0", answer(ok, &[], &[soa(9, 0)])),
        ] {
            assert_eq!(answer.life(), None, "{what}");
        }
        assert_eq!(answer(ok, &[address("a.test.", u32::MAX)], &[]).life(), Some(MAX_LIFE));
    }

    #[test]
    fn a_full_cache_drops_what_would_be_over_first() {
        let (mut cache, now) = (Cache::new(2), Instant::now());
        let name = |text: &str| absolute(text).unwrap();
        for (text, ttl) in [("long.test", 60), ("short.test", 5), ("new.test", 30)] {
            let answer = answer(ResponseCode::NoError, &[address(text, ttl)], &[]);
            cache.keep(name(text), RecordType::A, &answer, now);
        }
        let known = |text| cache.find(&name(text), RecordType::A, now).is_some();
        assert_eq!(
            [known("long.test"), known("short.test"), known("new.test")],
            [true, false, true]
        );
    }
}
