//! Profile files: the options of a command in TOML. They can say what options can, and nothing else.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sigil_types::nearest;
use toml::Spanned;

use super::limits;
use super::options::{Gets, Given, PathRule};
use crate::profile::{Access, MaskKind};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// Why a file does not say what a command gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {why}")]
pub struct FileRefused {
    /// Which file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong there, and what to do.
    pub why: String,
}

type Text = Spanned<String>;

/// A file as it stands. The keys are the options' names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Form {
    profile: Option<Text>,
    posture: Option<Text>,
    read: Vec<Text>,
    exec: Vec<Text>,
    write: Vec<Text>,
    deny: Vec<Text>,
    deny_write: Vec<Text>,
    cwd: Option<Text>,
    allow_host: Vec<Text>,
    env: Vec<Text>,
    limit: Limit,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Limit {
    memory: Option<Spanned<Amount>>,
    cpu: Option<Spanned<Amount>>,
    wall: Option<Spanned<Amount>>,
    processes: Option<Spanned<Amount>>,
    files: Option<Spanned<Amount>>,
    file_size: Option<Spanned<Amount>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

/// The keys of a file, for hints.
const KEYS: [&str; 11] =
    ["profile", "posture", "read", "exec", "write", "deny", "deny-write", "cwd", "allow-host", "env", "limit"];

/// Reads the profile file `text`, which lies at `path`: relative paths in it start at its folder.
///
/// # Errors
/// [`FileRefused`]: where, and what is wrong there.
pub fn parse(text: &str, path: &Path) -> Result<Gets, FileRefused> {
    let refuse = |span: Option<Range<usize>>, why: String| {
        let (line, column) = position(text, span.map_or(0, |span| span.start));
        FileRefused { file: path.display().to_string(), line, column, why }
    };
    if text.len() > MAX_BYTES {
        return Err(refuse(None, format!("a profile file has at most {MAX_BYTES} bytes")));
    }
    let form: Form = toml::from_str(text).map_err(|error| {
        let why = error.message().trim_end();
        let hint = error.span().and_then(|span| hint(why, text.get(span)?)).unwrap_or_default();
        refuse(error.span(), format!("{why}{hint}"))
    })?;
    let mut gets = Gets::default();
    let folder = path.parent().unwrap_or(Path::new("."));
    let rules = [
        ("read", PathRule::Grant(Access::Read), form.read),
        ("exec", PathRule::Grant(Access::Exec), form.exec),
        ("write", PathRule::Grant(Access::Write), form.write),
        ("deny", PathRule::Mask(MaskKind::Hidden), form.deny),
        ("deny-write", PathRule::Mask(MaskKind::ReadOnly), form.deny_write),
    ];
    for (key, rule, texts) in rules {
        for (at, text) in texts.into_iter().enumerate() {
            if text.get_ref().is_empty() {
                return Err(refuse(Some(text.span()), "a path is not empty".to_owned()));
            }
            let from = format!("{} {key}[{at}]", path.display());
            gets.paths.push(Given { path: beside(folder, text.get_ref()), rule, from });
        }
    }
    gets.cwd = form.cwd.map(|cwd| beside(folder, cwd.get_ref()));
    let texts =
        [("--profile", form.profile), ("--posture", form.posture)].map(|(name, text)| (name, Vec::from_iter(text)));
    let texts = texts.into_iter().chain([("--env", form.env)]);
    for (name, texts) in texts {
        for text in texts {
            gets.text(name, text.get_ref()).map_err(|error| refuse(Some(text.span()), error.to_string()))?;
        }
    }
    for (at, text) in form.allow_host.into_iter().enumerate() {
        let rule = super::options::host_rule(text.get_ref());
        let rule = rule.map_err(|error| refuse(Some(text.span()), error.to_string()))?;
        gets.hosts.push((rule, format!("{} allow-host[{at}]", path.display())));
    }
    let Limit { memory, cpu, wall, processes, files, file_size } = form.limit;
    let amounts = limits::NAMES.into_iter().zip([memory, cpu, wall, processes, files, file_size]);
    for (name, amount) in amounts {
        let Some(amount) = amount else { continue };
        let text = match amount.get_ref() {
            Amount::Number(number) => number.to_string(),
            Amount::Text(text) => text.clone(),
        };
        limits::set(name, &text, &mut gets.limits, &mut gets.wall)
            .map_err(|error| refuse(Some(amount.span()), error.to_string()))?;
    }
    Ok(gets)
}

/// Writes what `gets` says as a profile file. Paths become absolute, so that the file may lie anywhere.
///
/// # Errors
/// What of it a profile file cannot say.
pub fn write(gets: &Gets) -> Result<String, String> {
    let mut text =
        String::from("# What a command gets in the sandbox: sigil sandbox run --profile-file THIS -- COMMAND\n");
    let text_of = |path: &Path| {
        let path = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
        path.to_str().map(quoted).ok_or_else(|| format!("{} is not UTF-8, which TOML cannot hold", path.display()))
    };
    if let Some(profile) = &gets.profile {
        let _ = writeln!(text, "profile = {}", quoted(profile));
    }
    if let Some(posture) = gets.posture {
        let _ = writeln!(text, "posture = {}", quoted(&format!("{posture:?}").to_lowercase()));
    }
    if let Some(cwd) = &gets.cwd {
        let _ = writeln!(text, "cwd = {}", text_of(cwd)?);
    }
    let rules = [
        ("read", PathRule::Grant(Access::Read)),
        ("exec", PathRule::Grant(Access::Exec)),
        ("write", PathRule::Grant(Access::Write)),
        ("deny", PathRule::Mask(MaskKind::Hidden)),
        ("deny-write", PathRule::Mask(MaskKind::ReadOnly)),
    ];
    if let Some(other) = gets.paths.iter().find(|given| rules.iter().all(|(_, rule)| given.rule != *rule)) {
        return Err(format!("{} ({}) has no counterpart among the options", other.path.display(), other.from));
    }
    for (key, rule) in rules {
        let paths = gets.paths.iter().filter(|given| given.rule == rule).map(|given| text_of(&given.path));
        list(&mut text, key, paths.collect::<Result<Vec<_>, _>>()?);
    }
    let hosts =
        gets.hosts.iter().flat_map(|(rule, _)| rule.ports.iter().map(|port| quoted(&format!("{}:{port}", rule.host))));
    list(&mut text, "allow-host", hosts.collect());
    list(&mut text, "env", gets.env.iter().map(|variable| quoted(variable)).collect());
    let words = limits::words(&gets.limits, gets.wall);
    if !words.is_empty() {
        text.push_str("\n[limit]\n");
    }
    for (name, value) in words {
        let _ = writeln!(text, "{name} = {value}");
    }
    Ok(text)
}

fn list(text: &mut String, key: &str, items: Vec<String>) {
    match items.as_slice() {
        [] => {}
        [only] => text.push_str(&format!("{key} = [{only}]\n")),
        _ => text.push_str(&format!("{key} = [\n    {},\n]\n", items.join(",\n    "))),
    }
}

/// A basic string of TOML, which is one of JSON save for one character.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// A path of a file in `folder`: `~/` is the home folder, and what is relative starts there.
fn beside(folder: &Path, text: &str) -> PathBuf {
    folder.join(at_home(text))
}

/// `text` with a leading `~` or `~/` replaced.
pub(super) fn at_home(text: &str) -> PathBuf {
    let below = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match (below, std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    }
}

/// Line and column of the byte `at`, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// What an unknown key was probably meant to be.
fn hint(why: &str, key: &str) -> Option<String> {
    let known = KEYS.iter().chain(&limits::NAMES).copied();
    let near = nearest(key, known).filter(|_| why.starts_with("unknown field"))?;
    Some(format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FILE: &str = r#"
profile = "native"
posture = "strict"
read = ["src", "/srv/data"]
write = ["out"]
deny = ["src/secret"]
deny-write = ["out/kept"]
allow-host = ["example.org:443", "*.example.net:8443", "[2001:db8::1]:80"]
env = ["LANG=de", "EDITOR"]

[limit]
memory = "1M"
wall = 90
"#;

    #[test]
    fn a_file_says_what_options_say() {
        let gets = parse(FILE, Path::new("/p/run.toml")).unwrap();
        assert_eq!(gets.profile.as_deref(), Some("native"));
        let paths: Vec<&str> = gets.paths.iter().filter_map(|given| given.path.to_str()).collect();
        assert_eq!(paths, ["/p/src", "/srv/data", "/p/out", "/p/src/secret", "/p/out/kept"]);
        assert_eq!(gets.paths[2].from, "/p/run.toml write[0]");
        assert_eq!((gets.hosts.len(), gets.env.len(), gets.wall), (3, 2, Some(Duration::from_secs(90))));
        assert_eq!(gets.limits.cgroup_memory_bytes, Some(1 << 20));
    }

    #[test]
    fn what_was_written_reads_the_same() {
        let mut gets = parse(FILE, Path::new("/p/run.toml")).unwrap();
        let again = parse(&write(&gets).unwrap(), Path::new("/q/run.toml")).unwrap();
        gets.paths.iter_mut().for_each(|given| given.from = given.from.replace("/p/", "/q/"));
        gets.hosts.iter_mut().for_each(|host| host.1 = host.1.replace("/p/", "/q/"));
        assert_eq!(again, gets);
        assert_eq!(quoted("a\"\\\u{7f}\n"), r#""a\"\\\u007F\n""#);
    }

    #[test]
    fn mistakes_are_shown_with_their_place() {
        for (text, place, says) in [
            ("raed = []", "1:1", "did you mean `read`?"),
            ("\n[limit]\nmemry = 1", "3:1", "did you mean `memory`?"),
            ("read = 'x'", "1:8", "expected"),
            ("read = ['x', '']", "1:14", "not empty"),
            ("\nallow-host = ['a', 'b:1']", "2:15", "host and port"),
            ("posture = 'weak'", "1:11", "posture"),
            ("[limit]\nwall = -1", "2:8", ""),
            ("[limit]\nwall = '1d'", "2:8", "time"),
            ("read = ['a']\nread = ['b']", "2:1", "duplicate"),
            ("command = ['rm']", "1:1", "unknown field"),
            ("x", "1:2", ""),
        ] {
            let error = parse(text, Path::new("f")).expect_err(text).to_string();
            assert!(error.starts_with(&format!("f:{place}: ")) && error.contains(says), "{text}: {error}");
        }
        assert!(parse(&" ".repeat(MAX_BYTES + 1), Path::new("f")).is_err());
    }
}
