//! The part of a manifest that says how the plugin runs.

use std::path::PathBuf;
use std::time::Duration;

use super::super::read::{MISSING, Node, Object, TYPE, UNSUPPORTED, VALUE};
use super::super::{
    Access, ExecAsk, Execution, FilesystemAsk, FilesystemTarget, GoPlugin, Limits, NetworkAsk, NetworkLimits,
    NetworkTarget, SandboxSpec, Tier, Transport,
};
use super::{bytes, duration, line};

/// Folders of which no manifest may ask a part: the sandbox makes its own.
const KERNEL_FOLDERS: [&str; 3] = ["/proc", "/sys", "/dev"];

pub(super) fn read(node: &Node<'_>) -> Option<Execution> {
    let object = node.object()?;
    let tier = object.required("tier").and_then(|node| tier(&node));
    let transport = transport(&object);
    let command = object.optional("command").map(|node| command(&node)).unwrap_or_default();
    let image = object.optional("image").and_then(|node| built_later(&node, "container"));
    let module = object.optional("module").and_then(|node| built_later(&node, "wasm"));
    let sandbox = object.required("sandbox").and_then(|node| sandbox(&node));
    if tier == Some(Tier::Process) && object.optional("command").is_none() {
        node.problems.add(&format!("{}.command", node.path), MISSING, "a process plugin names its program");
    }
    object.finish();
    Some(Execution { tier: tier?, transport: transport?, command, image, module, sandbox: sandbox? })
}

fn tier(node: &Node<'_>) -> Option<Tier> {
    let tier = node.word(&[
        ("process", Tier::Process),
        ("wasm", Tier::Wasm),
        ("container", Tier::Container),
        ("mcp", Tier::Mcp),
    ])?;
    if tier != Tier::Process {
        node.fail(UNSUPPORTED, "this Sigil has the tier `process` only");
    }
    Some(tier)
}

fn built_later(node: &Node<'_>, tier: &str) -> Option<String> {
    node.fail(UNSUPPORTED, format!("belongs to the tier `{tier}`, which this Sigil does not have yet"));
    node.read(|text| line(text, 512))
}

fn transport(object: &Object<'_>) -> Option<Transport> {
    #[derive(Clone, Copy)]
    enum Word {
        Sdk,
        GoPlugin,
    }
    let node = object.required("transport");
    let word = node.as_ref().and_then(|node| node.word(&[("sdk", Word::Sdk), ("go-plugin", Word::GoPlugin)]));
    let handshake = object.optional("handshake");
    match (word?, handshake) {
        (Word::Sdk, None) => Some(Transport::Sdk),
        (Word::Sdk, Some(handshake)) => {
            handshake.fail(VALUE, "only the transport `go-plugin` has a handshake");
            None
        }
        (Word::GoPlugin, Some(handshake)) => go_plugin(&handshake).map(Transport::GoPlugin),
        (Word::GoPlugin, None) => {
            node?.fail(
                MISSING,
                "the transport `go-plugin` needs `handshake` with cookie_key, cookie_value and protocol",
            );
            None
        }
    }
}

fn go_plugin(node: &Node<'_>) -> Option<GoPlugin> {
    let object = node.object()?;
    let cookie_key = object.required("cookie_key").and_then(|node| node.read(cookie_key));
    let cookie_value = object.required("cookie_value").and_then(|node| {
        node.read(|text| {
            let plain = !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic());
            if plain { Ok(text.to_owned()) } else { Err("expected 1 to 256 visible ASCII characters".into()) }
        })
    });
    let protocol = object.required("protocol").and_then(|node| node.number(0, u32::from(u16::MAX)));
    object.finish();
    Some(GoPlugin { cookie_key: cookie_key?, cookie_value: cookie_value?, protocol: u16::try_from(protocol?).ok()? })
}

/// The name of an environment variable that means nothing to the loader, a runtime or the host.
fn cookie_key(text: &str) -> Result<String, String> {
    let form = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && text.bytes().next().is_some_and(|b| b.is_ascii_uppercase());
    if !form {
        return Err("expected a name of A-Z, 0-9 and `_`, at most 64 characters".into());
    }
    if !(text.ends_with("_COOKIE") || text.ends_with("_PLUGIN") || text.ends_with("_PLUGIN_MAGIC_COOKIE")) {
        return Err("must end in _COOKIE or _PLUGIN, so that it cannot be a variable that means something else".into());
    }
    Ok(text.to_owned())
}

fn command(node: &Node<'_>) -> Vec<String> {
    let words: Vec<String> = node.list_of(|item| {
        item.read(|text| {
            let plain = text.len() <= 1024 && !text.contains(['\0', '\n']);
            if plain { Ok(text.to_owned()) } else { Err("at most 1024 characters, without NUL and newline".into()) }
        })
    });
    match words.first() {
        None => node.fail(VALUE, "expected the program and its arguments, at least the program"),
        Some(_) if words.len() > 33 => node.fail(VALUE, "at most 32 arguments"),
        Some(program) => {
            if let Err(why) = below_tree(program) {
                node.problems.add(&format!("{}[0]", node.path), VALUE, why);
            }
        }
    }
    words
}

/// A canonical relative path.
fn below_tree(text: &str) -> Result<PathBuf, String> {
    let parts_ok = text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if parts_ok && text.len() <= 1024 && !text.chars().any(char::is_control) {
        Ok(text.into())
    } else {
        Err("expected a path below the plugin's own folder, such as bin/tool, without `.` and `..`".into())
    }
}

/// A canonical absolute path outside the kernel's folders.
fn absolute(text: &str) -> Result<PathBuf, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("expected an absolute path; `~` and variables are not expanded".into());
    };
    if rest.is_empty() {
        return Err("the root of all files cannot be asked for".into());
    }
    below_tree(rest).map_err(|_| "expected a canonical path: no `.`, `..`, `//`, final `/` or control character")?;
    let kernel = KERNEL_FOLDERS
        .iter()
        .any(|folder| text.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    if kernel {
        return Err("/proc, /sys and /dev cannot be asked for: the sandbox has its own".into());
    }
    Ok(text.into())
}

fn sandbox(node: &Node<'_>) -> Option<SandboxSpec> {
    let object = node.object()?;
    let profile = object.required("profile").and_then(|node| node.parse());
    let filesystem = object.optional("filesystem").map(|node| node.list_of(filesystem)).unwrap_or_default();
    let (network, network_limits) = object.optional("network").map(|node| network(&node)).unwrap_or_default();
    let exec = object.optional("exec").map(|node| node.list_of(exec)).unwrap_or_default();
    let limits = object.optional("limits").map_or_else(|| Some(Limits::default()), |node| limits(&node));
    object.finish();
    Some(SandboxSpec { profile: profile?, filesystem, network, network_limits, exec, limits: limits? })
}

fn reason(object: &Object<'_>) -> Option<String> {
    object.required("reason").and_then(|node| node.read(|text| line(text, 200)))
}

/// Exactly one of two fields.
fn one_of<T>(
    node: &Node<'_>,
    object: &Object<'_>,
    first: (&'static str, impl Fn(&Node<'_>) -> Option<T>),
    second: (&'static str, impl Fn(&Node<'_>) -> Option<T>),
) -> Option<T> {
    match (object.optional(first.0), object.optional(second.0)) {
        (Some(value), None) => first.1(&value),
        (None, Some(value)) => second.1(&value),
        _ => {
            node.fail(MISSING, format!("expected exactly one of `{}` and `{}`", first.0, second.0));
            None
        }
    }
}

fn filesystem(node: &Node<'_>) -> Option<FilesystemAsk> {
    let object = node.object()?;
    let target = one_of(
        node,
        &object,
        ("path", |node| node.read(absolute).map(FilesystemTarget::Path)),
        ("param", |node| node.parse().map(FilesystemTarget::Param)),
    );
    let access =
        object.required("access").and_then(|node| node.word(&[("read", Access::Read), ("write", Access::Write)]));
    let reason = reason(&object);
    object.finish();
    Some(FilesystemAsk { target: target?, access: access?, reason: reason? })
}

fn network(node: &Node<'_>) -> (Vec<NetworkAsk>, NetworkLimits) {
    let Some(object) = node.object() else { return <_>::default() };
    let hosts: Vec<NetworkAsk> = object.required("hosts").map(|node| node.list_of(host)).unwrap_or_default();
    let limits = object.optional("limits").and_then(|node| network_limits(&node)).unwrap_or_default();
    // Two sets of rules for one host would leave open which counts.
    let ended: Vec<_> = hosts.iter().filter(|ask| ask.ended.is_some()).collect();
    let overlap = |(at, one): (usize, &&NetworkAsk)| ended.iter().skip(at + 1).any(|other| overlap(one, other));
    if ended.iter().enumerate().any(overlap) {
        node.fail(VALUE, "two entries with `tls: ended` cover the same host; put their rules into one entry");
    }
    object.finish();
    (hosts, limits)
}

/// A limit that does not parse is reported; that it is then absent here decides nothing, as the whole is refused.
fn network_limits(node: &Node<'_>) -> Option<NetworkLimits> {
    let object = node.object()?;
    let count = |name| object.optional(name).and_then(|node| node.number(1, 100_000));
    let size = |name| object.optional(name).and_then(|node| least_one(&node, bytes(&node, 1 << 50)?));
    let time = |name| {
        let node = object.optional(name)?;
        let duration = duration(&node, Duration::from_secs(86_400))?;
        if duration.subsec_nanos() != 0 || duration.is_zero() {
            node.fail(VALUE, "expected whole seconds, at least 1s");
        }
        Some(duration)
    };
    let limits = NetworkLimits {
        connections: count("connections"),
        connections_per_second: count("connections_per_second"),
        up: size("up"),
        down: size("down"),
        up_per_day: size("up_per_day"),
        down_per_day: size("down_per_day"),
        per_second: size("per_second"),
        idle: time("idle"),
        total: time("total"),
    };
    object.finish();
    Some(limits)
}

fn least_one(node: &Node<'_>, size: u64) -> Option<u64> {
    if size == 0 {
        node.fail(VALUE, "expected at least 1B");
    }
    Some(size)
}

fn overlap(one: &NetworkAsk, other: &NetworkAsk) -> bool {
    match (&one.target, &other.target) {
        (NetworkTarget::Host(one), NetworkTarget::Host(other)) => one.contains(other) || other.contains(one),
        // A parameter may stand for any host.
        _ => true,
    }
}

fn host(node: &Node<'_>) -> Option<NetworkAsk> {
    let object = node.object()?;
    let target = one_of(
        node,
        &object,
        ("host", |node| node.parse().map(NetworkTarget::Host)),
        ("param", |node| node.parse().map(NetworkTarget::Param)),
    );
    let ports = object.required("ports").map(|node| {
        let ports: std::collections::BTreeSet<u16> =
            node.list_of(|item| item.number(1, u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok()));
        if ports.is_empty() && node.value.as_array().is_some_and(Vec::is_empty) {
            node.fail(VALUE, "an empty list allows nothing: name the ports, such as [443]");
        }
        ports
    });
    let ended = super::ended::read(&object);
    let reason = reason(&object);
    object.finish();
    Some(NetworkAsk { target: target?, ports: ports?, ended, reason: reason? })
}

fn exec(node: &Node<'_>) -> Option<ExecAsk> {
    let object = node.object()?;
    let path = object
        .required("path")
        .and_then(|node| node.read(|text| if text.starts_with('/') { absolute(text) } else { below_tree(text) }));
    let reason = reason(&object);
    object.finish();
    Some(ExecAsk { path: path?, reason: reason? })
}

fn limits(node: &Node<'_>) -> Option<Limits> {
    let object = node.object()?;
    let limits = Limits {
        memory: object.optional("memory").and_then(|node| bytes(&node, 1 << 40)),
        cpu_milli: object.optional("cpu").and_then(|node| cpu(&node)),
        pids: object.optional("pids").and_then(|node| node.number(1, 4096)),
        files: object.optional("files").and_then(|node| node.number(8, 65_536)),
        scratch: object.optional("scratch").and_then(|node| bytes(&node, 1 << 40)),
        wall_clock: object.optional("wall_clock").and_then(|node| duration(&node, Duration::from_secs(7 * 86_400))),
    };
    object.finish();
    Some(limits)
}

/// Cores as a number such as `0.5` or `2`, in thousandths.
fn cpu(node: &Node<'_>) -> Option<u32> {
    let Some(cores) = node.value.as_f64() else {
        node.fail(TYPE, "expected a number of cores, such as 0.5");
        return None;
    };
    if !(0.01..=256.0).contains(&cores) {
        node.fail(VALUE, "expected 0.01 to 256 cores");
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 to 256000, checked above")]
    let milli = (cores * 1000.0).round() as u32;
    Some(milli)
}
