//! Limits: the least of base profile, signed ceilings and manifest.

use std::time::Duration;

use sigil_policy::{NetworkLimits, SandboxLimits};
use sigil_proto::manifest;

use super::Profile;
use super::explain::{Explanation, RuleKind, Source};

/// One limit and what each party says.
struct Row {
    what: &'static str,
    base: Option<u64>,
    policy: (&'static str, u64),
    asked: (&'static str, Option<u64>),
}

/// Lowers the limits of `profile` to what policy allows and the manifest asks for.
pub(super) fn narrow(
    profile: &mut Profile,
    policy: &SandboxLimits,
    asked: &manifest::Limits,
    explanation: &mut Explanation,
) {
    let base = profile.limits.clone();
    let name = profile.name.clone();
    let mut least = |row: &Row| settle(row, &name, explanation);
    let memory = least(&Row {
        what: "bytes of memory",
        base: base.cgroup_memory_bytes,
        policy: ("memory_bytes", policy.memory_bytes),
        asked: ("memory", asked.memory),
    });
    let processes = least(&Row {
        what: "processes and threads",
        base: base.processes,
        policy: ("processes", policy.processes),
        asked: ("pids", asked.pids.map(u64::from)),
    });
    let open_files = least(&Row {
        what: "open files",
        base: base.open_files,
        policy: ("open_files", policy.open_files),
        asked: ("files", asked.files.map(u64::from)),
    });
    let file_bytes = least(&Row {
        what: "bytes of one file",
        base: base.file_bytes,
        policy: ("file_bytes", policy.file_bytes),
        asked: ("files", None),
    });
    let cpu = least(&Row {
        what: "hundredths of a processor",
        base: base.cgroup_cpu_percent,
        policy: ("cpu_percent", policy.cpu_percent),
        asked: ("cpu", asked.cpu_milli.map(|milli| u64::from(milli).div_ceil(10))),
    });
    let limits = &mut profile.limits;
    limits.cgroup_memory_bytes = Some(memory);
    // Where there is no control group, the process's own writable memory is limited by the same number.
    limits.data_bytes = Some(memory);
    limits.processes = Some(processes);
    limits.cgroup_processes = Some(processes);
    limits.open_files = Some(open_files);
    limits.file_bytes = Some(file_bytes);
    limits.cgroup_cpu_percent = Some(cpu);
    let wall = asked.wall_clock.map(|wall| wall.as_secs().max(1));
    limits.wall_seconds = [limits.wall_seconds, (policy.wall_seconds > 0).then_some(policy.wall_seconds), wall]
        .into_iter()
        .flatten()
        .min();
    if let Some(seconds) = limits.wall_seconds {
        let by = if wall == Some(seconds) {
            Source::Manifest { field: "execution.sandbox.limits.wall_clock".to_owned(), reason: String::new() }
        } else {
            Source::Policy { key: "sandbox.wall_seconds".to_owned() }
        };
        explanation.rule(RuleKind::Limit, say(seconds, "seconds to live"), vec![by]);
    }
    limits.disk_bytes = Some(limits.disk_bytes.map_or(policy.disk_bytes, |base| base.min(policy.disk_bytes)));
    if policy.cpu_seconds > 0 {
        let seconds = limits.cpu_seconds.map_or(policy.cpu_seconds, |base| base.min(policy.cpu_seconds));
        limits.cpu_seconds = Some(seconds);
    }
    for tmpfs in &mut profile.tmpfs {
        let row = Row {
            what: "bytes of a temporary folder",
            base: Some(tmpfs.bytes),
            policy: ("tmp_bytes", policy.tmp_bytes),
            asked: ("scratch", asked.scratch),
        };
        tmpfs.bytes = settle(&row, &name, explanation);
    }
}

/// The limits of the network: what policy allows, lowered to what the manifest asks for.
pub(super) fn network(
    policy: &NetworkLimits,
    asked: &manifest::NetworkLimits,
    base: &str,
    explanation: &mut Explanation,
) -> NetworkLimits {
    let mut least = |what, key: &'static str, allowed, field: &'static str, asked| {
        let row = Row { what, base: None, policy: (key, allowed), asked: (field, asked) };
        settle_at(&row, ("sandbox.network", "execution.sandbox.network.limits"), base, explanation)
    };
    let mut count = |what, key, allowed: u32, field, asked: Option<u32>| {
        u32::try_from(least(what, key, allowed.into(), field, asked.map(u64::from))).unwrap_or(allowed)
    };
    let connections =
        count("connections at the same time", "connections", policy.connections, "connections", asked.connections);
    let connections_per_second = count(
        "connections in a second",
        "connections_per_second",
        policy.connections_per_second,
        "connections_per_second",
        asked.connections_per_second,
    );
    let mut seconds = |what, key, allowed: Duration, field, asked: Option<Duration>| {
        Duration::from_secs(least(what, key, allowed.as_secs(), field, asked.map(|asked| asked.as_secs())))
    };
    let idle = seconds("seconds of an idle connection", "idle_seconds", policy.idle, "idle", asked.idle);
    let total = seconds("seconds of a connection", "total_seconds", policy.total, "total", asked.total);
    NetworkLimits {
        connections,
        connections_per_second,
        up_bytes: least("bytes up in a connection", "up_bytes", policy.up_bytes, "up", asked.up),
        down_bytes: least("bytes down in a connection", "down_bytes", policy.down_bytes, "down", asked.down),
        up_bytes_per_day: least(
            "bytes up in a day",
            "up_bytes_per_day",
            policy.up_bytes_per_day,
            "up_per_day",
            asked.up_per_day,
        ),
        down_bytes_per_day: least(
            "bytes down in a day",
            "down_bytes_per_day",
            policy.down_bytes_per_day,
            "down_per_day",
            asked.down_per_day,
        ),
        bytes_per_second: least(
            "bytes in a second",
            "bytes_per_second",
            policy.bytes_per_second,
            "per_second",
            asked.per_second,
        ),
        idle,
        total,
    }
}

/// The least of the three, noted with who decided it.
fn settle(row: &Row, base: &str, explanation: &mut Explanation) -> u64 {
    settle_at(row, ("sandbox", "execution.sandbox.limits"), base, explanation)
}

/// As [`settle`], for the tables of policy and manifest that have the row.
fn settle_at(row: &Row, tables: (&str, &str), base: &str, explanation: &mut Explanation) -> u64 {
    let from_base = || Source::Base { profile: base.to_owned(), why: String::new() };
    let from_policy = || Source::Policy { key: format!("{}.{}", tables.0, row.policy.0) };
    let from_manifest = || Source::Manifest { field: format!("{}.{}", tables.1, row.asked.0), reason: String::new() };
    let ceiling = row.base.map_or(row.policy.1, |base| base.min(row.policy.1));
    let by = if row.base == Some(ceiling) { from_base() } else { from_policy() };
    match row.asked.1 {
        Some(asked) if asked < ceiling => {
            explanation.rule(RuleKind::Limit, say(asked, row.what), vec![from_manifest()]);
            asked
        }
        Some(asked) if asked > ceiling => {
            explanation.strike(say(asked, row.what), from_manifest(), format!("{by} allows {ceiling}"));
            explanation.rule(RuleKind::Limit, say(ceiling, row.what), vec![by]);
            ceiling
        }
        _ => {
            explanation.rule(RuleKind::Limit, say(ceiling, row.what), vec![by]);
            ceiling
        }
    }
}

/// `64 MiB of memory`, `4 processes and threads`.
fn say(value: u64, what: &str) -> String {
    match what.strip_prefix("bytes ") {
        Some(rest) if value > 0 && value.is_multiple_of(1 << 20) => format!("{} MiB {rest}", value >> 20),
        _ => format!("{value} {what}"),
    }
}
