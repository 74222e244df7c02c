//! The words of `--limit`: `memory=512M,cpu=60,wall=5m`.

use std::time::Duration;

use sigil_types::nearest;

use crate::profile::Limits;

/// The names of limits.
pub(super) const NAMES: [&str; 6] = ["memory", "cpu", "wall", "processes", "files", "file-size"];

/// Why limits are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLimits {
    /// Not `name=value`.
    #[error("`{0}` is not a limit such as memory=512M")]
    Form(String),
    /// No such limit.
    #[error("there is no limit `{name}`{hint}; there are {}", NAMES.join(", "))]
    Name {
        /// Which.
        name: String,
        /// What it was probably meant to be.
        hint: String,
    },
    /// Not a value of that limit.
    #[error("`{value}` is not a value of the limit `{name}`: {form}")]
    Value {
        /// Which limit.
        name: &'static str,
        /// Which value.
        value: String,
        /// What one looks like.
        form: &'static str,
    },
    /// Twice.
    #[error("the limit `{0}` is given twice")]
    Twice(&'static str),
}

const BYTES: &str = "a number of bytes above 0, such as 512M (K, M, G: powers of 1024)";
const TIME: &str = "a time above 0, such as 90, 90s, 5m or 1h";
const NUMBER: &str = "a number above 0";

/// Reads `text` into `limits` and `wall`.
///
/// # Errors
/// [`ParseLimits`].
pub(super) fn parse(text: &str, limits: &mut Limits, wall: &mut Option<Duration>) -> Result<(), ParseLimits> {
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| ParseLimits::Form(part.to_owned()))?;
        let known = NAMES.iter().find(|known| **known == name).ok_or_else(|| {
            let near = nearest(name, NAMES);
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            ParseLimits::Name { name: name.to_owned(), hint }
        })?;
        set(known, value, limits, wall)?;
    }
    Ok(())
}

/// Sets the limit `name`, one of [`NAMES`].
pub(super) fn set(
    name: &'static str,
    value: &str,
    limits: &mut Limits,
    wall: &mut Option<Duration>,
) -> Result<(), ParseLimits> {
    let (read, form): (Option<u64>, _) = match name {
        "memory" | "file-size" => (bytes(value), BYTES),
        "cpu" | "wall" => (seconds(value), TIME),
        _ => (value.parse().ok(), NUMBER),
    };
    let wrong = || ParseLimits::Value { name, value: value.to_owned(), form };
    let read = read.filter(|read| *read > 0).ok_or_else(wrong)?;
    let place = match name {
        "memory" => &mut limits.cgroup_memory_bytes,
        "cpu" => &mut limits.cpu_seconds,
        "processes" => &mut limits.processes,
        "files" => &mut limits.open_files,
        "file-size" => &mut limits.file_bytes,
        _ => {
            let twice = wall.replace(Duration::from_secs(read)).is_some();
            return if twice { Err(ParseLimits::Twice(name)) } else { Ok(()) };
        }
    };
    if place.replace(read).is_some() { Err(ParseLimits::Twice(name)) } else { Ok(()) }
}

/// What of `limits` and `wall` a person set, in the form in which [`set`] reads it.
pub(super) fn words(limits: &Limits, wall: Option<Duration>) -> Vec<(&'static str, String)> {
    let values = [
        ("memory", limits.cgroup_memory_bytes),
        ("cpu", limits.cpu_seconds),
        ("wall", wall.map(|wall| wall.as_secs())),
        ("processes", limits.processes),
        ("files", limits.open_files),
        ("file-size", limits.file_bytes),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect()
}

fn bytes(text: &str) -> Option<u64> {
    scaled(text, &[("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)])
}

fn seconds(text: &str) -> Option<u64> {
    scaled(text, &[("s", 1), ("m", 60), ("h", 3600)])
}

/// A plain number, or one with one of `units` after it.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let (number, scale) = unit.unwrap_or((text, 1));
    // `parse` alone would take a plus sign.
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| plain)?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Limits, Option<Duration>), ParseLimits> {
        let (mut limits, mut wall) = (Limits::default(), None);
        parse(text, &mut limits, &mut wall).map(|()| (limits, wall))
    }

    #[test]
    fn units_are_understood() {
        let (limits, wall) = read("memory=512M,cpu=2m,wall=90s,processes=8,files=9,file-size=1024").unwrap();
        assert_eq!((limits.cgroup_memory_bytes, limits.cpu_seconds), (Some(512 << 20), Some(120)));
        assert_eq!((limits.processes, limits.open_files, limits.file_bytes), (Some(8), Some(9), Some(1024)));
        assert_eq!(wall, Some(Duration::from_secs(90)));
        let again =
            words(&limits, wall).iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
        assert_eq!(read(&again).unwrap(), (limits, wall));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("memory", "such as"),
            ("memry=1M", "did you mean `memory`?"),
            ("memory=", "bytes"),
            ("memory=0", "bytes"),
            ("memory=+1", "bytes"),
            ("memory=1T", "bytes"),
            ("memory=99999999999G", "bytes"),
            ("wall=1d", "time"),
            ("processes=-1", "number"),
            ("cpu=1,cpu=2", "twice"),
            ("", "such as"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
