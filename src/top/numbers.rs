//! Numbers for people: short, and the same width for most.

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// So many per second, or of anything.
pub(super) fn number(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(value) if value.fract() == 0.0 && value < 1e6 => format!("{value:.0}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) if value < 1e6 => format!("{value:.0}"),
        Some(value) => scaled(value, &["", "k", "M", "G", "T"]),
    }
}

/// So many bytes, in units of 1000.
pub(super) fn bytes(value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |it| scaled(it, &[" B", " kB", " MB", " GB", " TB"]))
}

/// A time that is measured in milliseconds mostly.
pub(super) fn duration(seconds: Option<f64>) -> String {
    match seconds.map(|it| it * 1000.0) {
        None => UNKNOWN.to_owned(),
        Some(ms) if ms < 99.95 => format!("{ms:.1} ms"),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.2} s", ms / 1000.0),
    }
}

/// In the unit of which there is at least one.
fn scaled(mut value: f64, units: &[&str]) -> String {
    let (mut units, mut is_whole) = (units.iter(), true);
    let mut unit = units.next();
    while value >= 999.5
        && let Some(next) = units.next()
    {
        (value, unit, is_whole) = (value / 1000.0, Some(next), false);
    }
    let unit = unit.copied().unwrap_or_default();
    if is_whole || value >= 99.95 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.1}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.04, 3.25, 99.96, 123.4, 50_000.0, 999_999.0, 1_234_567.0, 2e9];
        let shown = shown.map(|it| number(Some(it)));
        let expected = ["0", "0.0", "3.2", "100.0", "123", "50000", "999999", "1.2M", "2.0G"];
        assert_eq!(shown, expected);
        assert_eq!(
            (number(None), bytes(None), duration(None)),
            ("-".into(), "-".into(), "-".into())
        );
    }

    #[test]
    fn bytes_and_times_have_the_unit_that_fits() {
        let shown = [0.0, 12.4, 999.4, 999.6, 1_234.0, 123_456.0, 2.5e6, 7e18];
        let shown = shown.map(|it| bytes(Some(it)));
        assert_eq!(
            shown,
            ["0 B", "12 B", "999 B", "1.0 kB", "1.2 kB", "123 kB", "2.5 MB", "7000000 TB"]
        );
        let shown = [0.0, 0.00123, 0.0999, 0.12345, 0.9996, 1.5, 10.0];
        let shown = shown.map(|it| duration(Some(it)));
        assert_eq!(shown, ["0.0 ms", "1.2 ms", "99.9 ms", "123 ms", "1.00 s", "1.50 s", "10.00 s"]);
    }
}
