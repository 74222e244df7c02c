use super::*;
use crate::sys::{self, Forked};

#[test]
fn the_own_group_is_found_where_it_is_mounted() {
    let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let hybrid = "31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n32 23 0:28 / /sys/fs/cgroup/pids rw - cgroup c rw\n";
    let part = "33 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    let at = |groups: &str, mounts: &str| place(groups, mounts).map(|path| path.display().to_string());
    let own = "9:name=systemd:/x\n0::/user.slice/a.service\n";
    assert_eq!(at(own, v2).as_deref(), Some("/sys/fs/cgroup/user.slice/a.service"));
    assert_eq!(at("0::/\n", hybrid).as_deref(), Some("/sys/fs/cgroup/unified"));
    assert_eq!(at("0::/docker/abc/x\n", part).as_deref(), Some("/sys/fs/cgroup/x"));
    assert_eq!(at("0::/docker/other\n", part), None);
    assert_eq!(at("0::/../x\n", v2), None, "outside of this namespace");
    assert_eq!(at("1:name=systemd:/\n", v2), None);
    assert_eq!(at("0::/\n", ""), None);
}

#[test]
fn pressure_is_read_as_the_kernel_writes_it() {
    assert_eq!(avg10("some avg10=1.23 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.50 avg60=0 total=1\n"), Some(123));
    assert_eq!(avg10("full avg10=0.50\n"), None);
    assert_eq!(avg10("some avg10=99999999999.00"), None);
}

/// A process that waits for ever.
fn sleeper(groups: &mut Groups) -> (Group, Pid) {
    let group = groups.launch(&Limits::default()).expect("a group");
    match sys::clone_process_into(0, group.folder()).expect("a process") {
        Forked::Child => loop {
            sys::probe::pause();
        },
        Forked::Parent(pid) => (group, pid),
    }
}

#[test]
fn a_group_is_killed_and_frozen_as_a_whole() {
    let (groups, offer) = Groups::open(None);
    println!("{offer}");
    let Some(mut groups) = groups else {
        assert!(!rustix::process::geteuid().is_root(), "root can make groups wherever version 2 is mounted");
        println!("skipped: killing, freezing and limits; no group can be made here");
        return;
    };
    if !offer.limits() {
        println!("skipped: limits");
    }
    let (group, pid) = sleeper(&mut groups);
    assert!(group.holds(pid));
    assert_eq!(group.is_limited(), offer.limits());
    assert!(group.usage().cpu_micros.is_some(), "{:?}", group.usage());
    limits_are_written(&mut groups, &offer);
    group.freeze(true).expect("frozen");
    while !read(&group.folder, "cgroup.events").is_some_and(|text| text.contains("frozen 1")) {
        std::thread::yield_now();
    }
    group.kill().expect("killed, although it is frozen");
    assert_eq!(sys::wait_for(pid).expect("its end"), libc::SIGKILL);
    let name = group.name.clone();
    drop(group);
    assert!(openat(&groups.folder, &name, FOLDER, Mode::empty()).is_err(), "its folder is gone");
    let (base, own) = (rustix::io::dup(&groups.base).expect("a copy"), groups.name.clone());
    drop(groups);
    assert!(openat(&base, &own, FOLDER, Mode::empty()).is_err(), "nothing is left");
}

fn limits_are_written(groups: &mut Groups, offer: &Offer) {
    let limits = Limits {
        cgroup_memory_bytes: Some(64 << 20),
        cgroup_processes: Some(7),
        cgroup_cpu_percent: Some(50),
        ..Limits::default()
    };
    let group = groups.launch(&limits).expect("a group");
    let value = |name: &str| read(&group.folder, name).map(|text| text.trim().to_owned());
    if !offer.limits() {
        assert_eq!(value("memory.max"), None, "skipped: this machine has no such controller to try");
        return;
    }
    let expected =
        [("memory.max", "67108864"), ("memory.oom.group", "1"), ("pids.max", "8"), ("cpu.max", "50000 100000")];
    for (name, expected) in expected {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
    assert!(value("memory.swap.max").is_none_or(|swap| swap == "0"));
}

#[test]
fn what_a_sigil_that_is_gone_has_left_is_removed() {
    let (Some(mut groups), _) = Groups::open(None) else {
        println!("skipped: no group can be made here");
        return;
    };
    let (group, pid) = sleeper(&mut groups);
    // As after SIGKILL: nothing is cleaned up, and the lock is gone with the process.
    let base = rustix::io::dup(&groups.base).expect("a copy");
    let name = groups.name.clone();
    std::mem::forget((rustix::io::dup(&groups.base), group.name.clone()));
    flock(&groups.folder, FlockOperation::Unlock).expect("let go");
    std::mem::forget(group);
    std::mem::forget(groups);
    sweep(&base);
    assert_eq!(sys::wait_for(pid).expect("its end"), libc::SIGKILL);
    sweep(&base);
    assert!(openat(&base, &name, FOLDER, Mode::empty()).is_err(), "nothing is left");
}

#[test]
fn a_group_that_is_none_is_refused() {
    let (groups, offer) = Groups::open(Some(Path::new("/tmp")));
    assert!(groups.is_none());
    assert_eq!(offer, Offer::Nothing("/tmp is no control group of version 2".to_owned()));
}
