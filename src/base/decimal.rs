//! Numbers and addresses in decimal, written without `fmt`: for heads that are passed on and for lines of the access log.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends `number` in decimal.
pub fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20]; // as many as u64::MAX has
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Each octet in decimal with a dot behind it, and how many digits it has: to divide for them costs ten times as much.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut table = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (text, len) = &mut table[octet];
        let mut power = if octet >= 100 {
            100
        } else if octet >= 10 {
            10
        } else {
            1
        };
        while power > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "a digit")]
            let digit = (octet / power % 10) as u8;
            text[*len as usize] = b'0' + digit;
            *len += 1;
            power /= 10;
        }
        octet += 1;
    }
    table
}

/// Appends an address as `Display` writes it.
pub fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            let (mut text, mut len) = ([0; "255.255.255.255.".len()], 0);
            for octet in v4.octets() {
                let (written, digits) = OCTETS[usize::from(octet)];
                text[len..len + 4].copy_from_slice(&written);
                len += usize::from(digits) + 1;
            }
            out.extend_from_slice(&text[..len - 1]);
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for value in [0, 7, 10, 99, 100, 65_535, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(written(|out| number(out, value)), value.to_string());
        }
    }

    #[test]
    fn addresses_are_written_as_rust_writes_them() {
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 255 - octet, 0, octet]);
            assert_eq!(written(|out| ip(out, address)), address.to_string());
        }
        for text in ["::", "::1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(written(|out| ip(out, text.parse().unwrap())), text);
        }
    }
}
