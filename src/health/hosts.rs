//! The hosts file: names to addresses, as hosts(5) has it and the C library reads it.
//!
//! Owns the table alone. Pure. Invariant: whatever the file holds, each line is read for itself, and one that cannot be read
//! takes nothing from the others.

use std::collections::HashMap;
use std::net::IpAddr;

/// The table of a hosts file: by names in lower case, without a dot at the end.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Reads a file. What is no address, or no name, is left out with what belongs to it.
    pub(super) fn read(file: &[u8]) -> Self {
        let mut hosts = Hosts::default();
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        for line in file.split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let Some(ip) = words.next().and_then(address) else { continue };
            for name in words.filter_map(name) {
                let ips = hosts.0.entry(name).or_default();
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
        }
        hosts
    }

    /// The addresses of this name, in the order of the file; `None` if the file does not have it.
    pub(super) fn addresses(&self, host: &str) -> Option<&[IpAddr]> {
        self.0.get(&name(host.as_bytes())?).map(Vec::as_slice)
    }
}

fn address(word: &[u8]) -> Option<IpAddr> {
    let ip: IpAddr = std::str::from_utf8(word).ok()?.parse().ok()?;
    Some(ip.to_canonical())
}

fn name(word: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(word).ok()?;
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &[u8], host: &str) -> Option<Vec<String>> {
        let hosts = Hosts::read(file);
        let ips = hosts.addresses(host)?;
        Some(ips.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn an_odd_line_spoils_no_other() {
        let long = [b"10.0.0.9 ".as_slice(), &b"a".repeat(300_000), b"\n"].concat();
        let odd: [&[u8]; 12] = [
            b"# caf\xe9\n",
            b"127.0.0.2 caf\xe9\n",
            b"127.0.0.2 other # caf\xe9\n",
            b"\xff\xfe\x00\n",
            b"\x00\n",
            b"not-an-address web\n",
            b"999.0.0.1 web\n",
            b"10.0.0.9\n",
            b"\r\n",
            b"fe80::1%lo0 web\n",
            b"10.0.0.9 .. a..b\n",
            &long,
        ];
        for line in odd {
            let around = [line, b"127.0.0.1\tlocalhost\tweb\r\n", line, b"::1 web"].concat();
            let seen = found(&around, "web").unwrap();
            assert_eq!(seen, ["127.0.0.1", "::1"], "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_once_for_each_address() {
        let file =
            b"\xef\xbb\xbf10.0.0.1 API api.\n10.0.0.2 api # 10.0.0.3 api\n::ffff:10.0.0.1 api\n";
        assert_eq!(found(file, "Api").unwrap(), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(found(file, "other"), None);
        assert_eq!(found(b"", "api"), None);
    }
}
