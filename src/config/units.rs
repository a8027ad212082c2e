//! Durations and sizes as people write them, such as `5s` and `1MiB`.

use std::time::Duration;

/// The units of a duration, each with its number of seconds.
const DURATIONS: [(&str, f64); 6] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0), ("d", 24.0 * 3600.0)];

/// The units of a size, each with its number of bytes.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Parses a duration: a number with a unit, such as `250ms`, `5s`, `1.5h` or `10 min`, or a number of seconds.
///
/// # Errors
/// The text is not such a duration, or the duration is negative or longer than [`Duration::MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = DURATIONS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| *seconds);
    let seconds = if unit.is_empty() { Some(1.0) } else { seconds };
    let number = number.parse::<f64>().ok();
    let duration = number.zip(seconds).map(|(number, seconds)| Duration::try_from_secs_f64(number * seconds));
    duration
        .and_then(Result::ok)
        .ok_or_else(|| "give a duration, such as 250ms, 5s, 2m, 1h or 1d, or a number of seconds".to_owned())
}

/// Parses a size: a number with a unit, such as `64KiB`, `1 MiB` or `10MB`, or a number of bytes.
///
/// # Errors
/// The text is not such a size, or the size is greater than [`u64::MAX`].
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let bytes = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes);
    let bytes = if unit.is_empty() { Some(1) } else { bytes };
    let number = number.parse::<u64>().ok();
    number
        .zip(bytes)
        .and_then(|(number, bytes)| number.checked_mul(bytes))
        .ok_or_else(|| "give a size, such as 64KiB, 1MiB or 10MB, or a number of bytes".to_owned())
}

/// Splits a text into a number and its unit, which may be separated by spaces.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_units() {
        let milliseconds = |text| parse_duration(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("250ms", 250),
            ("5s", 5000),
            ("5", 5000),
            ("0.5", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("2 min", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            (" 0 ", 0),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "s", "5x", "-5s", "1e3", "5s5", "five", "1..5s", "1h30m", "99999999999999999999d"] {
            assert!(milliseconds(wrong).unwrap_err().contains("such as 250ms"), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("65536", 65_536),
            ("10B", 10),
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("1mib", 1 << 20),
            ("10MB", 10_000_000),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for wrong in ["", "KiB", "1.5MiB", "-1", "5x", "1M", "18446744073709551615KiB"] {
            assert!(parse_size(wrong).unwrap_err().contains("such as 64KiB"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in ".{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
