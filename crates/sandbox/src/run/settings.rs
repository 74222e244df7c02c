//! The settings file of Anthropic's sandbox runtime (`srt`), read so that its users can move: what it allows is given, less
//! what Sigil never gives; what it denies is denied. What cannot be kept is refused when leaving it out would give more, and
//! named in a note when it gives less.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sigil_policy::HostRule;
use sigil_types::{HostPattern, nearest};

use super::file::{FileRefused, at_home};
use super::options::{Gets, Given, PathRule};
use crate::profile::{Access, MaskKind};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// How far below a writable folder files are looked for that tools run commands from, if the settings do not say.
const SEARCH_DEPTH: u8 = 3;

/// The settings, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Form {
    network: Network,
    filesystem: Filesystem,
    credentials: Option<Credentials>,
    mandatory_deny_search_depth: Option<u8>,
    enable_weaker_nested_sandbox: bool,
    enable_weaker_network_isolation: bool,
    allow_apple_events: bool,
    allow_pty: bool,
    ignore_violations: Option<Value>,
    ripgrep: Option<Value>,
    seccomp: Option<Value>,
    bwrap_path: Option<Value>,
    socat_path: Option<Value>,
    java_agent_jar_path: Option<Value>,
    windows: Option<Value>,
    git: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Network {
    allowed_domains: Vec<String>,
    denied_domains: Vec<String>,
    denied_domain_reasons: Option<Value>,
    /// Sigil asks nobody: what is not allowed is denied.
    #[serde(rename = "strictAllowlist")]
    _strict_allowlist: bool,
    allow_unix_sockets: Vec<String>,
    allow_all_unix_sockets: bool,
    allow_local_binding: bool,
    allow_mach_lookup: Vec<String>,
    http_proxy_port: Option<Value>,
    socks_proxy_port: Option<Value>,
    mitm_proxy: Option<Value>,
    filter_request: Option<Value>,
    tls_terminate: Option<Value>,
    parent_proxy: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Filesystem {
    disabled: bool,
    deny_read: Vec<String>,
    allow_read: Vec<String>,
    allow_write: Vec<String>,
    deny_write: Vec<String>,
    allow_git_config: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Credentials {
    files: Vec<CredentialFile>,
    env_vars: Vec<CredentialVariable>,
    allow_plaintext_inject: bool,
    aws_pairs: Option<Value>,
    sigv4: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialFile {
    path: String,
    /// The only one that can be kept.
    #[serde(rename = "mode")]
    _mode: CredentialMode,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialVariable {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "mode")]
    _mode: CredentialMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CredentialMode {
    Deny,
}

/// What settings say.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the command gets.
    pub gets: Gets,
    /// How deep to look below writable folders for files that tools run commands from.
    pub depth: u8,
    /// What of the settings has no effect, because Sigil gives less.
    pub notes: Vec<String>,
}

/// Reads the settings `text` of the file `path`. Relative paths in it start at the folder `here`.
///
/// # Errors
/// [`FileRefused`]: where, and what is wrong there or cannot be kept.
pub fn parse(text: &str, path: &Path, here: &Path) -> Result<Settings, FileRefused> {
    let file = path.display().to_string();
    let refuse = |key: &str, why: String| {
        let (line, column) = find(text, key);
        FileRefused { file: file.clone(), line, column, why }
    };
    if text.len() > MAX_BYTES {
        return Err(refuse("", format!("a settings file has at most {MAX_BYTES} bytes")));
    }
    let form: Form = serde_json::from_str(text).map_err(|error| {
        let why = error.to_string();
        let why = why.rsplit_once(" at line").map_or(why.as_str(), |(why, _)| why);
        let hint = hint(why).unwrap_or_default();
        FileRefused { file: file.clone(), line: error.line(), column: error.column(), why: format!("{why}{hint}") }
    })?;
    if let Some((key, why)) = widens(&form) {
        return Err(refuse(key, format!("`{key}` cannot be kept: {why}; take it out, or use srt for this command")));
    }
    let mut gets = Gets::default();
    let mut notes: Vec<String> = notes(&form).into_iter().map(|(key, why)| format!("`{key}`: {why}")).collect();
    hosts(&form.network, path, &mut gets, &mut notes).map_err(|(domain, why)| refuse(&domain, why))?;

    let Filesystem { deny_read, allow_read, allow_write, deny_write, .. } = &form.filesystem;
    let everything = PathRule::GrantCovered(Access::Exec);
    let given = |path: PathBuf, rule, from: String| Given { path, rule, from };
    gets.paths.push(given("/".into(), everything, format!("{file}: reads are allowed by default")));
    let hidden = PathRule::MaskIfThere(MaskKind::Hidden);
    let lists = [
        ("denyRead", deny_read, hidden),
        ("allowRead", allow_read, everything),
        ("allowWrite", allow_write, PathRule::GrantCovered(Access::Write)),
        ("denyWrite", deny_write, PathRule::MaskIfThere(MaskKind::ReadOnly)),
    ];
    for (key, texts, rule) in lists {
        for (at, text) in texts.iter().enumerate() {
            let path = plain(text, here).map_err(|why| refuse(text, why))?;
            gets.paths.push(given(path, rule, format!("{file} filesystem.{key}[{at}]")));
        }
    }
    for (at, secret) in form.credentials.iter().flat_map(|credentials| &credentials.files).enumerate() {
        let path = plain(&secret.path, here).map_err(|why| refuse(&secret.path, why))?;
        gets.paths.push(given(path, hidden, format!("{file} credentials.files[{at}]")));
    }
    Ok(Settings { gets, depth: form.mandatory_deny_search_depth.unwrap_or(SEARCH_DEPTH).min(10), notes })
}

/// What cannot be kept, and would give more if it were left out.
fn widens(form: &Form) -> Option<(&'static str, &'static str)> {
    let network = &form.network;
    let elsewhere = "connections would no longer pass through that proxy, which may hold some of them back";
    let swapped = "the real secret would have to stand where a placeholder is wanted";
    let aws = form
        .credentials
        .as_ref()
        .is_some_and(|c| c.aws_pairs.is_some() || c.sigv4.is_some() || c.allow_plaintext_inject);
    [
        (form.filesystem.disabled, "disabled", "it switches the sandbox of files off, which Sigil never does"),
        (network.http_proxy_port.is_some(), "httpProxyPort", elsewhere),
        (network.socks_proxy_port.is_some(), "socksProxyPort", elsewhere),
        (network.mitm_proxy.is_some(), "mitmProxy", elsewhere),
        (network.parent_proxy.is_some(), "parentProxy", elsewhere),
        (network.tls_terminate.is_some(), "tlsTerminate", "requests would no longer be looked into"),
        (network.filter_request.is_some(), "filterRequest", "requests would no longer be filtered"),
        (aws, "credentials", swapped),
    ]
    .into_iter()
    .find_map(|(set, key, why)| set.then_some((key, why)))
}

/// What has no effect here, because Sigil gives less or has its own.
fn notes(form: &Form) -> Vec<(&'static str, &'static str)> {
    let network = &form.network;
    let macos = "has an effect on macOS only";
    let own = "Sigil needs no such program";
    let sockets = "no Unix socket can be reached in Sigil's sandbox";
    [
        (form.enable_weaker_nested_sandbox, "enableWeakerNestedSandbox", "Sigil's sandbox is not weakened"),
        (form.enable_weaker_network_isolation, "enableWeakerNetworkIsolation", macos),
        (form.allow_apple_events, "allowAppleEvents", macos),
        (form.allow_pty, "allowPty", macos),
        (
            form.ignore_violations.is_some(),
            "ignoreViolations",
            "what is refused is refused, and said by the program itself",
        ),
        (form.ripgrep.is_some(), "ripgrep", own),
        (form.seccomp.is_some(), "seccomp", own),
        (form.bwrap_path.is_some(), "bwrapPath", own),
        (form.socat_path.is_some(), "socatPath", own),
        (form.java_agent_jar_path.is_some(), "javaAgentJarPath", own),
        (form.windows.is_some(), "windows", "has an effect on Windows only"),
        (form.git.is_some(), "git", "nothing is set for git; use --env GIT_CONFIG_COUNT and its kind"),
        (network.denied_domain_reasons.is_some(), "deniedDomainReasons", "the proxy gives its own reasons"),
        (!network.allow_unix_sockets.is_empty(), "allowUnixSockets", sockets),
        (network.allow_all_unix_sockets, "allowAllUnixSockets", sockets),
        (network.allow_local_binding, "allowLocalBinding", "nothing can listen in Sigil's sandbox"),
        (!network.allow_mach_lookup.is_empty(), "allowMachLookup", macos),
        (form.filesystem.allow_git_config, "allowGitConfig", "`.git/config` stays as it is: it runs commands"),
        (
            form.credentials.as_ref().is_some_and(|credentials| !credentials.env_vars.is_empty()),
            "credentials.envVars",
            "no variable of this environment is passed on unless --env names it",
        ),
    ]
    .into_iter()
    .filter_map(|(set, key, why)| set.then_some((key, why)))
    .collect()
}

/// A host pattern and a port, of which either may be missing.
struct Domain {
    /// `None` stands for every host.
    host: Option<HostPattern>,
    port: Option<u16>,
}

impl Domain {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a domain such as example.org, *.example.org or example.org:443");
        let (host, port) = match text.rsplit_once(':') {
            // An address of version 6 has brackets where a port follows.
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
            }
            _ => (text, None),
        };
        let host =
            if host == "*" { None } else { Some(host.parse().map_err(|error| format!("{}: {error}", wrong()))?) };
        Ok(Self { host, port })
    }
}

/// The ports of an allowed domain that names none.
const WEB: [u16; 2] = [80, 443];

/// The allowed domains less the denied ones. An error names the domain.
fn hosts(network: &Network, path: &Path, gets: &mut Gets, notes: &mut Vec<String>) -> Result<(), (String, String)> {
    let named = |text: &String| Domain::parse(text).map_err(|why| (text.clone(), why));
    let denied: Vec<(&String, Domain)> =
        network.denied_domains.iter().map(|text| named(text).map(|domain| (text, domain))).collect::<Result<_, _>>()?;
    for (at, text) in network.allowed_domains.iter().enumerate() {
        let Domain { host: Some(host), port } = named(text)? else {
            return Err((text.clone(), "`*` would allow every host; name the ones that are needed".to_owned()));
        };
        let mut ports = port.map_or_else(|| BTreeSet::from(WEB), |port| BTreeSet::from([port]));
        for (name, Domain { host: no, port: of }) in &denied {
            if no.as_ref().is_none_or(|no| no.contains(&host)) {
                ports.retain(|port| of.is_some_and(|of| of != *port));
            } else if no.as_ref().is_some_and(|no| host.contains(no)) && of.is_none_or(|of| ports.contains(&of)) {
                let why =
                    format!("`{name}` is denied inside the allowed `{text}`; name the hosts that are allowed instead");
                return Err(((*name).clone(), why));
            }
        }
        if ports.is_empty() {
            notes.push(format!("`allowedDomains`: {text} is denied by deniedDomains"));
        } else {
            gets.hosts.push((HostRule { host, ports }, format!("{} network.allowedDomains[{at}]", path.display())));
        }
    }
    Ok(())
}

/// A path of the settings.
fn plain(text: &str, here: &Path) -> Result<PathBuf, String> {
    let path = text.strip_suffix("/**").unwrap_or(text);
    let path = if path.is_empty() && !text.is_empty() { "/" } else { path };
    if path.is_empty() || path.contains(['*', '?', '[', ']', '{', '}', '\0']) {
        return Err(format!("`{text}`: patterns are not kept; name the files or folders"));
    }
    Ok(here.join(at_home(path)))
}

/// Where `key` stands in quotation marks, line and column from 1; the start when it does not.
fn find(text: &str, key: &str) -> (usize, usize) {
    let quoted = Value::from(key).to_string();
    let at = text.find(&quoted).filter(|_| !key.is_empty()).unwrap_or(0);
    let before = text.get(..at).unwrap_or_default();
    (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

/// What an unknown field was probably meant to be: the message names it and the known ones between back quotes.
fn hint(why: &str) -> Option<String> {
    let mut names = why.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let wrong = names.next()?;
    nearest(wrong, names).map(|near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
