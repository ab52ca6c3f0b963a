//! The demo's DNS: an authority that serves zone files, and a resolver that asks it and keeps the answers for their TTL.
//!
//! `front` owns the sockets of both, `zone` turns a file into what is served, `watch` follows the files, `cache` knows how long an
//! answer may be used. What is on the wire is hickory's.

mod authority;
mod cache;
mod front;
mod resolver;
mod watch;
mod zone;

pub use authority::Authority;
pub use front::Front;
pub use resolver::{Forward, Resolver};
pub use watch::{SETTLE, ZoneFile, ZoneFiles};
pub use zone::{MAX_ZONE, ZoneError};

use hickory_proto::rr::{LowerName, Name};

/// A name as the command line gives it: absolute with or without its last dot, in any case.
///
/// # Errors
/// Says what is wrong with it.
fn absolute(text: &str) -> Result<LowerName, String> {
    let mut name =
        Name::from_ascii(text).map_err(|error| format!("`{text}` is not a DNS name: {error}"))?;
    name.set_fqdn(true);
    Ok(LowerName::new(&name))
}

/// `NAME=REST`, as --zone and --forward take it.
fn named(text: &str) -> Result<(LowerName, &str), String> {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !rest.is_empty() => Ok((absolute(name)?, rest)),
        _ => Err("two parts are expected, with `=` between them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_absolute_and_lower_case_however_they_are_written() {
        assert_eq!(absolute("Spells.TEST"), absolute("spells.test."));
        assert!(absolute(".").is_ok_and(|name| name.is_root()));
        assert!(absolute("a..b").is_err());
        assert!(absolute(&"x".repeat(64)).is_err());
    }

    #[test]
    fn a_name_and_what_belongs_to_it_are_told_apart() {
        assert_eq!(named("test=a=b").map(|(_, rest)| rest), Ok("a=b"));
        for wrong in ["", "test", "test=", "=file"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
