//! Durations and sizes as people write them (`"250ms"`, `"16KiB"`), and back for error messages.
//!
//! Pure. Every number carries its unit: a bare `"5"` is refused, because nobody can know what it meant.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::quoted;

/// What an amount is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Time, in milliseconds.
    Time,
    /// Size, in bytes.
    Size,
}

/// The amounts that a key takes.
#[derive(Debug)]
pub(super) struct Amounts<'a> {
    pub(super) range: &'a RangeInclusive<u64>,
    /// Each is a multiple of this.
    pub(super) step: u64,
}

impl Amounts<'_> {
    fn fits(&self, amount: u64) -> bool {
        self.range.contains(&amount) && amount.is_multiple_of(self.step)
    }
}

impl Unit {
    /// What to write, of what the key `takes`.
    pub(super) fn examples(self, takes: &Amounts<'_>) -> String {
        let usual: [u64; 3] = match self {
            Unit::Time => [5_000, 250, 60_000],
            Unit::Size => [16 << 10, 1 << 20, 512],
        };
        let mut fitting: Vec<String> =
            usual.into_iter().filter(|&it| takes.fits(it)).map(|it| self.show(it)).collect();
        match fitting.pop() {
            None => self.show(*takes.range.start()),
            Some(last) if fitting.is_empty() => last,
            Some(last) => format!("{} or {last}", fitting.join(", ")),
        }
    }

    /// Its spellings and what each is worth, the largest first.
    fn spellings(self) -> &'static [(&'static str, u64); 4] {
        match self {
            Unit::Time => &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)],
            Unit::Size => &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)],
        }
    }

    /// An amount: digits and a unit. The error is what is wrong and the remedy, `examples` where that cannot be guessed.
    /// What is to be written is always something that the key `takes`.
    pub(super) fn read(
        self,
        text: &str,
        takes: &Amounts<'_>,
        examples: &str,
    ) -> Result<u64, String> {
        with_unit(text, self.spellings(), takes, examples)
    }

    /// `amount` in the largest unit that keeps it exact.
    pub(super) fn show(self, amount: u64) -> String {
        // Of nothing the unit does not matter: the one that people write.
        if amount == 0 && self == Unit::Time {
            return "\"0s\"".to_owned();
        }
        show(amount, self.spellings())
    }
}

/// `duration`, a whole number of milliseconds, as it is written.
pub(super) fn show_duration(duration: Duration) -> String {
    Unit::Time.show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// What people write for a unit, and what it is.
const OTHER_NAMES: [(&[&str], &str, u64); 10] = [
    (&["msec", "msecs", "millis", "millisecond", "milliseconds"], "ms", 1),
    (&["sec", "secs", "second", "seconds"], "s", 1),
    (&["min", "mins", "minute", "minutes"], "m", 1),
    (&["hr", "hrs", "hour", "hours"], "h", 1),
    (&["d", "day", "days"], "h", 24),
    (&["b", "byte", "bytes"], "B", 1),
    (&["k", "kb", "kib"], "KiB", 1),
    (&["m", "mb", "mib"], "MiB", 1),
    (&["g", "gb", "gib"], "GiB", 1),
    (&["t", "tb", "tib"], "GiB", 1024),
];

fn with_unit(
    text: &str,
    units: &[(&str, u64)],
    takes: &Amounts<'_>,
    examples: &str,
) -> Result<u64, String> {
    let bare: String = text.split_whitespace().collect();
    if bare != text && with_unit(&bare, units, takes, examples).is_ok_and(|it| takes.fits(it)) {
        return Err(format!("{} has a space in it; write \"{bare}\"", quoted(text)));
    }
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    if text.trim().starts_with('-') {
        return Err(format!("{} is negative; write {examples}", quoted(text)));
    }
    if digits.is_empty() {
        return Err(format!("{} is not a whole number and a unit; write {examples}", quoted(text)));
    }
    if unit.is_empty() {
        return Err(format!("{} has no unit; write {examples}", quoted(text)));
    }
    if unit.starts_with(['.', ',']) {
        return Err(format!(
            "{} is not a whole number; use a smaller unit: {examples}",
            quoted(text)
        ));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(wrong_unit(text, digits, unit, units, takes, examples));
    };
    let number: Option<u64> = digits.parse().ok();
    number.and_then(|n| n.checked_mul(*factor)).ok_or_else(|| too_large(text))
}

/// What is wrong with a unit that is not one of `units`, and the right one where it can be guessed.
fn wrong_unit(
    text: &str,
    digits: &str,
    unit: &str,
    units: &[(&str, u64)],
    takes: &Amounts<'_>,
    examples: &str,
) -> String {
    let shown = quoted(text);
    if let Some(sum) = sum(text, units) {
        let right = if takes.fits(sum) { show(sum, units) } else { examples.to_owned() };
        return format!("{shown} has more than one unit; write {right}");
    }
    let bare = unit.trim().to_ascii_lowercase();
    let known = |name: &str| units.iter().any(|(known, _)| *known == name);
    let exact = units.iter().find(|(name, _)| *name == bare).map(|(name, _)| (*name, 1));
    let meant = exact.or_else(|| {
        let meant =
            OTHER_NAMES.iter().find(|(names, right, _)| names.contains(&&*bare) && known(right));
        meant.map(|(_, right, factor)| (*right, *factor))
    });
    let number: Option<u64> = digits.parse().ok();
    let worth = |unit: &str| units.iter().find(|(name, _)| *name == unit).map_or(1, |it| it.1);
    let guess = meant.and_then(|(right, factor)| Some((right, number?.checked_mul(factor)?)));
    let fits = |(right, number): &(&str, u64)| {
        number.checked_mul(worth(right)).is_some_and(|amount| takes.fits(amount))
    };
    match guess.filter(fits) {
        Some((right, number)) => {
            format!("{shown} has the unknown unit {}; write \"{number}{right}\"", quoted(unit))
        }
        None => format!("{shown} has the unknown unit {}; write {examples}", quoted(unit)),
    }
}

/// The amount of `1m30s`, in the smallest unit; `None` where there is anything but numbers and units.
fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0u64);
    while !rest.is_empty() {
        let (digits, more) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, more) =
            more.split_at(more.find(|c: char| c.is_ascii_digit()).unwrap_or(more.len()));
        let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
        sum = sum.checked_add(digits.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = more;
    }
    Some(sum)
}

fn too_large(text: &str) -> String {
    format!("{} is too large; write a smaller number", quoted(text))
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let exact =
        units.iter().find(|(_, factor)| amount.is_multiple_of(*factor) && amount >= *factor);
    let (name, factor) = exact.or(units.last()).copied().unwrap_or(("", 1));
    format!("\"{}{name}\"", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Amounts<'_> = Amounts { range: &(0..=u64::MAX), step: 1 };

    fn read(unit: Unit, text: &str) -> Result<u64, String> {
        unit.read(text, &ANY, &unit.examples(&ANY))
    }

    fn duration(text: &str) -> Result<u64, String> {
        read(Unit::Time, text)
    }

    fn size(text: &str) -> Result<u64, String> {
        read(Unit::Size, text)
    }

    #[test]
    fn reads_each_unit_of_time() {
        let cases = [("250ms", 250), ("5s", 5_000), ("1m", 60_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(duration(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn reads_each_unit_of_size() {
        let cases = [("512B", 512), ("16KiB", 16_384), ("1MiB", 1 << 20), ("2GiB", 2 << 30)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_a_number_without_its_unit() {
        assert_eq!(duration("5").unwrap_err(), r#""5" has no unit; write "5s", "250ms" or "1m""#);
        assert_eq!(size("16").unwrap_err(), r#""16" has no unit; write "16KiB", "1MiB" or "512B""#);
    }

    #[test]
    fn refuses_what_is_not_a_number_and_a_unit() {
        for text in [
            "", "s", "ms", "-1s", "+1s", "1.5s", "1,5s", "5 s", " 5s", "5s ", "5S", "5sec",
            "1m30s", "5µs", "٥s", "1e3s", "0x10s", "1_000ms",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["16KB", "16k", "16kib", "16 KiB", "1.5MiB", "KiB", "1TiB", "-1B"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_unit_of_another_name_is_answered_with_its_own() {
        let cases = [
            ("1m30s", "has more than one unit; write \"90s\""),
            ("1h 30m", "has more than one unit; write \"90m\""),
            ("5sec", "has the unknown unit \"sec\"; write \"5s\""),
            ("30 s", "\"30 s\" has a space in it; write \"30s\""),
            (" 5s", "\" 5s\" has a space in it; write \"5s\""),
            ("5 sec", "write \"5s\""),
            ("5S", "write \"5s\""),
            ("2min", "write \"2m\""),
            ("1d", "write \"24h\""),
            ("500us", "has the unknown unit \"us\"; write \"5s\", \"250ms\" or \"1m\""),
            ("-1s", "is negative; write"),
        ];
        for (text, remedy) in cases {
            let error = duration(text).unwrap_err();
            assert!(error.contains(remedy), "{error}");
        }
        for (text, remedy) in [
            ("16KB", "\"16KiB\""),
            ("16k", "\"16KiB\""),
            ("1M", "\"1MiB\""),
            ("1TB", "\"1024GiB\""),
        ] {
            assert!(size(text).unwrap_err().ends_with(&format!("; write {remedy}")), "{text}");
        }
    }

    #[test]
    fn refuses_what_overflows() {
        for text in ["18446744073709551616ms", "18446744073709551615s", "99999999999999999999999h"]
        {
            assert!(duration(text).unwrap_err().contains("too large"), "{text}");
        }
        assert!(size("18446744073709551615KiB").is_err());
    }

    #[test]
    fn shows_amounts_in_the_largest_exact_unit() {
        let cases =
            [(0, "\"0s\""), (90_000, "\"90s\""), (86_400_000, "\"24h\""), (1_500, "\"1500ms\"")];
        for (millis, text) in cases {
            assert_eq!(Unit::Time.show(millis), text);
        }
        assert_eq!(Unit::Size.show(65_536), "\"64KiB\"");
    }
}
