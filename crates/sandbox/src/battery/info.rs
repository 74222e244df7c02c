//! Attempts to learn what is none of the program's business.

use std::fs;

use rustix::system::uname;

use super::errors::{ACCES, NOENT, NOTHING};
use super::{Attempt, Scene, Stop, Tried};
use crate::profile::Layer::{CgroupNs, Descriptors, Environment, Landlock, MountNs, NetNs, UtsNs};

const HIDDEN: &[i32] = &[NOENT, ACCES];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("info.01", "find a variable that was not given", &[NOTHING], &[Environment], variables),
    Attempt::new("info.02", "find a descriptor that was not given", &[NOTHING], &[Descriptors], descriptors),
    Attempt::new("info.03", "learn the machine's name", &[NOTHING], &[UtsNs], hostname),
    Attempt::new("info.04", "learn who has an account", &[NOTHING, NOENT, ACCES], &[MountNs, Landlock], accounts),
    Attempt::new("info.05", "learn when the machine was started (boot id)", HIDDEN, &[MountNs, Landlock], boot_id),
    Attempt::new("info.06", "learn about devices (/sys)", HIDDEN, &[MountNs, Landlock], devices),
    Attempt::new("info.07", "learn the machine's settings (/proc/sys)", HIDDEN, &[MountNs, Landlock], settings),
    Attempt::new("info.08", "list the machine's processes", &[NOTHING, NOENT, ACCES], &[MountNs, Landlock], processes),
    Attempt::new("info.09", "share the host's view of control groups", &[NOTHING, NOENT, ACCES], &[CgroupNs], cgroups),
    Attempt::new("info.10", "learn where granted folders lie on the host (mountinfo)", &[], &[], mounts),
    Attempt::new("info.11", "read the kernel's symbols (kallsyms)", HIDDEN, &[MountNs, Landlock], symbols),
    Attempt::new(
        "info.12",
        "learn what listens on the machine (/proc/net)",
        &[NOTHING, NOENT, ACCES],
        &[NetNs],
        listeners,
    ),
    Attempt::new("info.13", "find what another program left in /tmp", HIDDEN, &[MountNs, Landlock], leftovers),
    Attempt::new(
        "info.14",
        "read how the machine was started (/proc/cmdline)",
        HIDDEN,
        &[MountNs, Landlock],
        start_line,
    ),
];

fn variables(scene: &Scene) -> Tried {
    let strange = std::env::vars_os().find(|(name, _)| name.to_str().is_none_or(|name| !scene.env.contains(name)));
    strange.map_or(Err(Stop::Nothing), |(name, _)| Ok(name.to_string_lossy().into_owned()))
}

fn descriptors(_: &Scene) -> Tried {
    // 0 to 2 are the streams, of which 0 may be the socket on which a plugin is called; the probe's own are known.
    let own = super::probe::own_descriptors();
    let strange = (3..4096).find(|fd| !own.contains(fd) && crate::sys::probe::is_open(*fd));
    strange.map_or(Err(Stop::Nothing), |fd| Ok(format!("descriptor {fd}")))
}

fn hostname(scene: &Scene) -> Tried {
    let name = uname().nodename().to_string_lossy().into_owned();
    if name == scene.hostname { Ok(name) } else { Err(Stop::Nothing) }
}

fn accounts(_: &Scene) -> Tried {
    let text = fs::read_to_string("/etc/passwd")?;
    let root = text.lines().find(|line| line.starts_with("root:"));
    root.map_or(Err(Stop::Nothing), |_| Ok(format!("{} accounts", text.lines().count())))
}

fn boot_id(_: &Scene) -> Tried {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn devices(_: &Scene) -> Tried {
    Ok(format!("{} kinds", fs::read_dir("/sys/class")?.count()))
}

fn settings(_: &Scene) -> Tried {
    Ok(fs::read_to_string("/proc/sys/kernel/core_pattern")?.trim().to_owned())
}

fn processes(scene: &Scene) -> Tried {
    let victim = scene.victim.to_string();
    let found = fs::read_dir("/proc")?.flatten().any(|entry| entry.file_name().to_str() == Some(&victim));
    if found { Ok("found one".into()) } else { Err(Stop::Nothing) }
}

fn cgroups(scene: &Scene) -> Tried {
    let own = fs::read_link("/proc/self/ns/cgroup")?;
    if own.to_str() == Some(&scene.cgroup_ns) { Ok("shared".into()) } else { Err(Stop::Nothing) }
}

fn mounts(_: &Scene) -> Tried {
    Ok(format!("{} mounts", fs::read_to_string("/proc/self/mountinfo")?.lines().count()))
}

fn symbols(_: &Scene) -> Tried {
    let mut start = [0; 64];
    let read = std::io::Read::read(&mut fs::File::open("/proc/kallsyms")?, &mut start)?;
    Ok(format!("{read} bytes"))
}

fn listeners(scene: &Scene) -> Tried {
    // Addresses there are in hexadecimal; 127.0.0.1 comes first.
    let port = format!(":{:04X} ", scene.tcp);
    let found = fs::read_to_string("/proc/self/net/tcp")?.contains(&port);
    if found { Ok(format!("a listener at {}", scene.tcp)) } else { Err(Stop::Nothing) }
}

fn leftovers(scene: &Scene) -> Tried {
    Ok(format!("{} bytes", fs::read(scene.theirs())?.len()))
}

fn start_line(_: &Scene) -> Tried {
    Ok(format!("{} bytes", fs::read("/proc/cmdline")?.len()))
}
