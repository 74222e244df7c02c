//! Sizes and durations as people write them.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Reads a size such as `64MiB`, `512KiB`, `1GiB` or `100B`. No unit, no size: `64` says nothing.
///
/// # Errors
/// What is expected, in words.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    number_with_unit(text, &BYTE_UNITS).ok_or_else(|| "expected a size such as 64MiB (units B, KiB, MiB, GiB)".into())
}

/// Reads a duration such as `500ms`, `30s`, `5m` or `1h`.
///
/// # Errors
/// What is expected, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    number_with_unit(text, &TIME_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a duration such as 30s (units ms, s, m, h)".into())
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, factor) =
        units.iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))?;
    let plain = !digits.is_empty() && digits.len() <= 12 && digits.bytes().all(|b| b.is_ascii_digit());
    if !plain {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|value| i64::try_from(*value).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_need_a_unit() {
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("100B"), Ok(100));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "64", "MiB", "-1MiB", "+1s", "1.5GiB", "1 MiB", "64MB", "999999999999GiB", "٣s", "1e3s"] {
            assert!(parse_bytes(bad).is_err() && parse_duration(bad).is_err(), "{bad}");
        }
    }
}
