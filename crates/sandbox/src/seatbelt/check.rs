//! The check of a Seatbelt profile, which reads its text and believes nothing of how it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::data::MacOs;
use super::form::{Form, ReadFailed, read};
use crate::profile::Device;

/// Operations that no profile allows: orders to other programs, their start, drivers, shared memory, connections from outside,
/// services of its own.
pub(super) const NEVER: [&str; 7] =
    ["appleevent-send", "iokit-open", "ipc-posix-shm*", "lsopen", "mach-register", "network-bind", "network-inbound"];

/// Operations that are allowed for a path.
const ON_PATHS: [&str; 7] = [
    "file-read*",
    "file-read-metadata",
    "file-write*",
    "file-write-data",
    "file-ioctl",
    "file-map-executable",
    "process-exec",
];

/// Operations that are taken back for a path, or for a kind of file.
const DENIED: [&str; 6] =
    ["file-write*", "file-write-create", "file-write-unlink", "file-map-executable", "process-exec", "file-read*"];

/// Why a profile is not sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckFailed {
    /// It cannot be read.
    #[error(transparent)]
    Form(#[from] ReadFailed),
    /// It is not printable ASCII.
    #[error("there is a character that is not printable ASCII")]
    Letters,
    /// It does not begin with its version and a refusal of everything.
    #[error("it does not begin with (version 1) (deny default)")]
    Beginning,
    /// A rule that no profile has.
    #[error("the rule {0} is none that a profile has")]
    Rule(String),
    /// A path stands in the text that is not of every Mac.
    #[error("the path {0:?} stands in the text instead of a parameter")]
    Path(String),
    /// A parameter that has no value.
    #[error("the parameter {0:?} is not defined")]
    Undefined(String),
    /// A parameter that nothing uses.
    #[error("the parameter {0:?} is not used")]
    Unused(String),
    /// A parameter whose name or value cannot be handed over.
    #[error("the parameter {0:?} has a name or value that cannot be handed over")]
    Parameter(String),
    /// What stands for the base profile on a Mac cannot be read.
    #[error("sandbox-profiles/macos.toml cannot be read")]
    Data,
}

/// Checks that `text` is a sound profile with these parameters: it reads; it refuses everything that it does not allow; each
/// rule is one that profiles have, with a condition where there must be one; hosts are reached on one port of the loopback
/// only; every parameter is defined and used; no path stands in it but those of every Mac.
///
/// # Errors
/// [`CheckFailed`]: the first thing that is wrong.
pub fn check(text: &str, parameters: &BTreeMap<String, String>) -> Result<(), CheckFailed> {
    if !text.chars().all(|letter| matches!(letter, ' '..='~' | '\n')) {
        return Err(CheckFailed::Letters);
    }
    let forms = read(text)?;
    for (name, value) in parameters {
        let named = !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_');
        if !named || !value.starts_with('/') || value.contains('\0') {
            return Err(CheckFailed::Parameter(name.clone()));
        }
    }
    let [version, default, rules @ ..] = forms.as_slice() else { return Err(CheckFailed::Beginning) };
    let begins = [(version, "version", "1"), (default, "deny", "default")];
    let is = |(form, head, word): &(&Form, &str, &str)| {
        form.as_list()
            .is_some_and(|(found, rest)| found == *head && matches!(rest, [Form::Word(found)] if found == word))
    };
    if !begins.iter().all(is) {
        return Err(CheckFailed::Beginning);
    }
    let data = MacOs::load().map_err(|_| CheckFailed::Data)?;
    let mut check = Check { known: data.known(), parameters, used: BTreeSet::new() };
    for form in rules {
        if !check.rule(form)? {
            return Err(CheckFailed::Rule(form.to_string()));
        }
    }
    match parameters.keys().find(|name| !check.used.contains(name.as_str())) {
        Some(unused) => Err(CheckFailed::Unused(unused.clone())),
        None => Ok(()),
    }
}

struct Check<'a> {
    known: BTreeSet<&'a Path>,
    parameters: &'a BTreeMap<String, String>,
    used: BTreeSet<&'a str>,
}

impl Check<'_> {
    /// Whether the rule is one that profiles have.
    fn rule(&mut self, form: &Form) -> Result<bool, CheckFailed> {
        let Some((verb, rest)) = form.as_list() else { return Ok(false) };
        let words = rest.iter().take_while(|part| matches!(part, Form::Word(_))).count();
        let (operations, filters) = rest.split_at_checked(words).unwrap_or_default();
        let operations: Vec<&str> = operations
            .iter()
            .filter_map(|word| if let Form::Word(word) = word { Some(word.as_str()) } else { None })
            .collect();
        let all =
            |known: &[&str]| !operations.is_empty() && operations.iter().all(|operation| known.contains(operation));
        match (verb, operations.as_slice(), filters) {
            ("allow", ["process-fork"], []) | ("deny", ["file-write-setugid"], []) => Ok(true),
            ("deny", [operation], []) => Ok(NEVER.contains(operation)),
            // Without a condition a rule would be for everything.
            (_, _, []) => Ok(false),
            ("allow", ["process-info*"], [filter]) => Ok(*filter == target("self")),
            ("allow", ["signal"], filters) => {
                Ok(filters.iter().all(|f| *f == target("self") || *f == target("children")))
            }
            ("allow", ["mach-lookup"], filters) => Ok(filters.iter().all(|filter| named(filter, &["global-name"]))),
            ("allow", ["sysctl-read"], filters) => {
                Ok(filters.iter().all(|filter| named(filter, &["sysctl-name", "sysctl-name-prefix"])))
            }
            ("allow", ["network-outbound"], [filter]) => Ok(loopback(filter)),
            ("allow", _, [filter]) if all(&ON_PATHS) => self.path(filter),
            ("deny", _, filters) if all(&DENIED) => {
                for filter in filters {
                    if !self.denied(filter)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A condition under which something is refused: a path, a kind of file, or both.
    fn denied(&mut self, filter: &Form) -> Result<bool, CheckFailed> {
        match filter.as_list() {
            Some(("vnode-type", [Form::Word(_)])) => Ok(true),
            Some(("require-all", [path, kind])) => {
                Ok(matches!(kind.as_list(), Some(("vnode-type", [Form::Word(_)]))) && self.path(path)?)
            }
            _ => self.path(filter),
        }
    }

    /// `(subpath …)` or `(literal …)` of a parameter, or of a path that is on every Mac.
    fn path(&mut self, filter: &Form) -> Result<bool, CheckFailed> {
        let Some((kind @ ("subpath" | "literal"), [path])) = filter.as_list() else { return Ok(false) };
        match (path, path.as_list()) {
            (Form::Text(text), _) => {
                let device =
                    text.strip_prefix("/dev/").is_some_and(|name| DEVICES.iter().any(|device| device.name() == name));
                if (!device || kind != "literal") && !self.known.contains(Path::new(text)) {
                    return Err(CheckFailed::Path(text.clone()));
                }
                // All of the root would be everything.
                Ok(text != "/" || kind == "literal")
            }
            (_, Some(("param", [Form::Text(name)]))) => {
                let (name, _) =
                    self.parameters.get_key_value(name).ok_or_else(|| CheckFailed::Undefined(name.clone()))?;
                self.used.insert(name);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

const DEVICES: [Device; 4] = [Device::Null, Device::Zero, Device::Random, Device::Urandom];

fn target(who: &str) -> Form {
    Form::list("target", [Form::word(who)])
}

/// A filter of one of these names on a name of letters, digits and dots.
fn named(filter: &Form, names: &[&str]) -> bool {
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_'))
    };
    matches!(filter.as_list(), Some((name, [Form::Text(text)])) if names.contains(&name) && plain(text))
}

/// One port of the loopback.
fn loopback(filter: &Form) -> bool {
    let Some(("remote", [Form::Word(ip), Form::Text(address)])) = filter.as_list() else { return false };
    let port = address.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    ip == "ip" && port.is_some_and(|port| port != 0 && *address == format!("localhost:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(rules: &str, parameters: &[(&str, &str)]) -> Result<(), CheckFailed> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(&format!("(version 1)\n(deny default)\n{rules}"), &parameters)
    }

    #[test]
    fn what_is_not_sound_is_refused() {
        assert_eq!(checked("(allow file-read* (subpath (param \"A\")))", &[("A", "/x")]), Ok(()));
        for rule in [
            "(allow default)",
            "(allow file-read*)",
            "(allow file-write*)",
            "(allow process-exec)",
            "(allow network-outbound)",
            "(allow network*)",
            "(allow network-outbound (remote ip \"*:3128\"))",
            "(allow network-outbound (remote ip \"localhost:*\"))",
            "(allow network-outbound (remote ip \"localhost:0\"))",
            "(allow network-outbound (remote ip \"localhost:+1\"))",
            "(allow network-inbound (local ip \"localhost:3128\"))",
            "(allow appleevent-send (subpath (param \"A\")))",
            "(allow iokit-open (subpath (param \"A\")))",
            "(allow mach-lookup (global-name \"*\"))",
            "(allow mach-lookup (global-name-regex \"x\"))",
            "(allow signal (target others))",
            "(allow process-info* (target others))",
            "(allow file-read* (regex \".*\"))",
            "(allow file-read* (subpath \"/\"))",
            "(allow file-read* (require-not (subpath (param \"A\"))))",
            "(deny default)",
            "(deny)",
            "(import \"system.sb\")",
            "(define x 1)",
            "(if x (allow default))",
            "(allow file-read* (subpath (string-append (param \"A\") \"x\")))",
            "word",
            "\"text\"",
            "()",
            "((allow) default)",
        ] {
            let failed = checked(&format!("(allow file-read* (literal (param \"A\"))) {rule}"), &[("A", "/x")]);
            assert!(matches!(failed, Err(CheckFailed::Rule(_))), "{rule}: {failed:?}");
        }
        for beginning in
            ["", "(version 1)", "(version 2)(deny default)", "(version 1)(allow default)", "(deny default)(version 1)"]
        {
            assert_eq!(check(beginning, &BTreeMap::new()), Err(CheckFailed::Beginning), "{beginning}");
        }
    }

    #[test]
    fn paths_are_parameters_and_parameters_are_defined_and_used() {
        for path in ["/Users/ann", "/usr/lib/../x", "/dev/disk0", "x", ""] {
            let failed = checked(&format!("(allow file-read* (subpath \"{path}\"))"), &[]);
            assert_eq!(failed, Err(CheckFailed::Path(path.to_owned())));
        }
        let one = "(allow file-read* (subpath (param \"A\")))";
        assert_eq!(checked(one, &[]), Err(CheckFailed::Undefined("A".to_owned())));
        assert_eq!(checked(one, &[("A", "/x"), ("B", "/y")]), Err(CheckFailed::Unused("B".to_owned())));
        for (name, value) in [("a", "/x"), ("", "/x"), ("A=B", "/x"), ("A", "x"), ("A", "/x\0")] {
            assert_eq!(checked(one, &[(name, value)]), Err(CheckFailed::Parameter(name.to_owned())));
        }
        assert_eq!(checked("; \u{e9}", &[]), Err(CheckFailed::Letters));
        assert_eq!(checked("; \r", &[]), Err(CheckFailed::Letters));
    }
}
