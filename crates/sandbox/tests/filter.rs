//! The system call filters, as the kernel will see them: every number, in an interpreter of the compiled programs, against
//! the data that they were compiled from.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use sigil_sandbox::profile::base::{BaseProfile, Feature, OwnProfile};
use sigil_sandbox::profile::recorded::{self, OBSERVED, Recording};
use sigil_sandbox::profile::seccomp::{self, Alternative, BpfProgram, Comparison, Condition, FilterData, Width};
use sigil_sandbox::profile::syscalls;

/// `struct seccomp_data`, as far as filters look at it.
#[derive(Clone, Copy, Debug)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// Somebody is asked, and answers.
    Ask,
    Errno(u32),
    Kill,
}

#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;
const EPERM: Verdict = Verdict::Errno(libc::EPERM as u32);
const ENOSYS: Verdict = Verdict::Errno(libc::ENOSYS as u32);

/// Runs one program on `call` (classic BPF, as in the kernel's `Documentation/networking/filter.rst`).
fn run(program: &BpfProgram, call: &Call) -> u32 {
    let word = |offset: u32| match offset {
        0 => call.number,
        4 => call.arch,
        16..64 => {
            let arg = call.args[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
        _ => panic!("the program looks at byte {offset}"),
    };
    let (mut at, mut acc) = (0usize, 0u32);
    for _ in 0..10_000 {
        let op = &program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { op.jt } else { op.jf });
        match op.code {
            0x20 => acc = word(op.k),
            0x54 => acc &= op.k,
            0x05 => at += op.k as usize,
            0x15 => at += jump(acc == op.k),
            0x25 => at += jump(acc > op.k),
            0x35 => at += jump(acc >= op.k),
            0x45 => at += jump(acc & op.k != 0),
            0x06 => return op.k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    panic!("the program does not end");
}

/// What the kernel makes of several programs: the stricter result counts; of two errors, that of the one installed last.
fn verdict(programs: &[BpfProgram], call: &Call) -> Verdict {
    let mut result = Verdict::Allow;
    for program in programs {
        match run(program, call) {
            0x7fff_0000 => {}
            0x8000_0000 => return Verdict::Kill,
            0x7fc0_0000 if result == Verdict::Allow => result = Verdict::Ask,
            0x7fc0_0000 => {}
            errno if errno & 0xffff_0000 == 0x0005_0000 => result = Verdict::Errno(errno & 0xffff),
            other => panic!("unknown result {other:#x}"),
        }
    }
    // The first program's error wins over the later one's permission.
    result
}

/// The same question, answered by the data.
fn stated(filter: &FilterData, call: &Call) -> Verdict {
    if call.arch != OURS || call.number >= 0x4000_0000 {
        return Verdict::Kill;
    }
    let Some(name) = syscalls::name(i64::from(call.number)) else { return Verdict::Errno(filter.default_errno) };
    if filter.enosys.contains(name) {
        return ENOSYS;
    }
    match filter.allow.get(name) {
        Some(any) if any.is_empty() || any.iter().any(|all| all.iter().all(|one| holds(one, call))) => Verdict::Allow,
        _ => Verdict::Errno(filter.default_errno),
    }
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let arg = call.args[usize::from(condition.arg)];
    let seen = |value: u64| if condition.width == Width::Dword { value & 0xffff_ffff } else { value };
    match condition.is {
        Comparison::Eq(value) => seen(arg) == seen(value),
        Comparison::Ne(value) => seen(arg) != seen(value),
        Comparison::Le(value) => seen(arg) <= seen(value),
        Comparison::Masked { mask, value } => seen(arg & mask) == seen(value & mask),
    }
}

fn cases() -> Vec<(String, FilterData)> {
    let features = [vec![], vec![Feature::Proxy, Feature::UnixListener]];
    let mut cases = Vec::new();
    for name in BaseProfile::names() {
        for features in &features {
            let set: BTreeSet<Feature> = features.iter().copied().collect();
            cases.push((format!("{name} {features:?}"), BaseProfile::load(name).expect("well-formed").filter(&set)));
        }
    }
    cases.push(("gateway".to_owned(), OwnProfile::gateway().expect("well-formed").filter.clone()));
    cases
}

/// Argument values at which some condition changes its mind, and their neighbours, with and without high bits.
fn interesting(alternatives: &[Alternative]) -> Vec<u64> {
    let mut values = BTreeSet::from([0, u64::MAX]);
    for condition in alternatives.iter().flatten() {
        let (value, mask) = match condition.is {
            Comparison::Eq(value) | Comparison::Ne(value) | Comparison::Le(value) => (value, 0),
            Comparison::Masked { mask, value } => (value, mask),
        };
        for near in [value, value.wrapping_add(1), value | (mask & mask.wrapping_neg()), value | mask] {
            values.extend([near, near | 1 << 32]);
        }
    }
    values.into_iter().collect()
}

/// The arguments with which call `number` is worth trying under `filter`.
fn arguments(filter: &FilterData, number: u32) -> Vec<[u64; 6]> {
    let mut tried = vec![[0; 6], [u64::MAX; 6]];
    let alternatives = syscalls::name(i64::from(number)).and_then(|call| filter.allow.get(call));
    let alternatives = alternatives.map_or(&[][..], Vec::as_slice);
    let values = interesting(alternatives);
    // The values meet in pairs only where a rule looks at more than one argument.
    let others = if alternatives.iter().any(|all| all.len() > 1) { values.as_slice() } else { &[0] };
    for condition in alternatives.iter().flatten() {
        for value in &values {
            for other in others {
                let mut args = [*other; 6];
                args[usize::from(condition.arg)] = *value;
                tried.push(args);
                args[(usize::from(condition.arg) + 1) % 3] = 1;
                tried.push(args);
            }
        }
    }
    tried.sort_unstable();
    tried.dedup();
    tried
}

/// So the battery, which runs under the widest ones, speaks for all: what it finds held there is held by the others, too.
#[test]
fn every_family_allows_no_more_than_one_of_the_widest() {
    let features = BTreeSet::from([Feature::Proxy, Feature::UnixListener]);
    let load = |name: &str| BaseProfile::load(name).expect("well-formed");
    for name in BaseProfile::names().filter(|name| !BaseProfile::WIDEST.contains(name)) {
        let wide = if matches!(name, "node" | "chromium") { "shell" } else { "native" };
        let (own, wider) = (load(name).filter(&features), load(wide).filter(&features));
        let (mut allowed, mut beyond) = (0, 0);
        for number in 0..=1023 {
            for args in arguments(&own, number).into_iter().chain(arguments(&wider, number)) {
                let call = Call { number, arch: OURS, args };
                match (stated(&own, &call), stated(&wider, &call)) {
                    (Verdict::Allow, wider) => {
                        assert_eq!(wider, Verdict::Allow, "{name}, not {wide}: {number} {args:x?}");
                        allowed += 1;
                    }
                    (_, Verdict::Allow) => beyond += 1,
                    _ => {}
                }
            }
        }
        assert!(allowed > 200 && beyond > 50, "{name}: {allowed} allowed, {beyond} only by {wide}");
        let (own, wide) = (load(name), load(wide));
        assert_eq!((own.namespaces.clone(), own.required.clone()), (wide.namespaces.clone(), wide.required.clone()));
        assert_eq!((own.proc, &own.devices, &own.landlock), (wide.proc, &wide.devices, &wide.landlock), "{name}");
    }
}

/// Every number with every argument at which the data may change their mind.
fn every_call(filter: &FilterData) -> Vec<Call> {
    let calls = |number| arguments(filter, number).into_iter().map(move |args| Call { number, arch: OURS, args });
    (0..=511).flat_map(calls).collect()
}

#[test]
fn every_number_gets_what_the_data_says() {
    for (name, filter) in cases() {
        let programs = seccomp::compile(&filter).expect("compiles");
        for number in (0..=1023).chain([0x1_0000, 0x3fff_fffe, 0x3fff_ffff]) {
            let call = |args| Call { number, arch: OURS, args };
            for args in arguments(&filter, number) {
                assert_eq!(
                    verdict(&programs, &call(args)),
                    stated(&filter, &call(args)),
                    "{name}: {number} {:?} {args:x?}",
                    syscalls::name(i64::from(number))
                );
            }
        }
    }
}

#[test]
fn recording_changes_no_verdict() {
    for (name, filter) in cases() {
        for recording in [Recording::Refused, Recording::Looks] {
            let compiled = recorded::compile(&filter, recording).expect("compiles");
            let mut asked = BTreeSet::new();
            for call in every_call(&filter) {
                let number = i64::from(call.number);
                let with = verdict(&compiled.programs, &call);
                let answered = match with {
                    Verdict::Ask if compiled.answers.is_observed(number) => Verdict::Allow,
                    Verdict::Ask => Verdict::Errno(compiled.answers.errno()),
                    other => other,
                };
                let known = syscalls::name(number);
                assert_eq!(answered, stated(&filter, &call), "{name}, {recording:?}: {known:?} {call:x?}");
                if with == Verdict::Ask {
                    asked.extend(known);
                }
                // Who asks about what it refuses hears of every refusal but those that libraries expect.
                let hears = with == Verdict::Ask || answered == ENOSYS || compiled.answers.is_observed(number);
                assert!(hears || answered == Verdict::Allow, "{name}: {known:?} {call:x?}");
            }
            assert!(["mount", "ptrace", "ioctl"].iter().all(|call| asked.contains(call)), "{asked:?}");
            let looks = OBSERVED.iter().filter(|call| filter.allow.contains_key(**call));
            for call in looks.filter(|call| syscalls::number(call).is_some()) {
                let number = syscalls::number(call).expect("just seen");
                assert_eq!(compiled.answers.is_observed(number), recording == Recording::Looks, "{call}");
            }
            for arch in [0x4000_0003, 0] {
                assert_eq!(verdict(&compiled.programs, &Call { number: 1, arch, args: [0; 6] }), Verdict::Kill);
            }
            let x32 = Call { number: 0x4000_0001, arch: OURS, args: [0; 6] };
            assert_eq!(verdict(&compiled.programs, &x32), Verdict::Kill);
        }
    }
}

#[test]
fn only_the_last_program_asks_and_a_filter_without_a_way_out_is_not_recorded() {
    for (name, filter) in cases() {
        for recording in [Recording::Refused, Recording::Looks] {
            let programs = recorded::compile(&filter, recording).expect("compiles").programs;
            let asks = |program: &BpfProgram| program.iter().any(|op| op.code == 0x06 && op.k == 0x7fc0_0000);
            let (last, before) = programs.split_last().expect("some");
            assert!(asks(last) && !before.iter().any(asks), "{name}");
            assert!(programs.iter().all(|program| program.len() <= 4096), "{name}: longer than the kernel takes");
        }
        let mut mute = filter.clone();
        mute.allow.remove("sendmsg");
        let refused = recorded::compile(&mute, Recording::Refused).expect_err("it could not report");
        assert_eq!(refused.code().as_str(), "sandbox.filter.recording.impossible");
    }
}

#[test]
fn another_architecture_and_the_x32_form_are_killed() {
    for (name, filter) in cases() {
        let programs = seccomp::compile(&filter).expect("compiles");
        for number in 0..=1023 {
            for arch in [0x4000_0003, 0x4000_0028, 0x8000_00b7_u32, 0] {
                let call = Call { number, arch, args: [0; 6] };
                assert_eq!(verdict(&programs, &call), Verdict::Kill, "{name}: {number} of {arch:#x}");
            }
            for number in [number | 0x4000_0000, number | 0x8000_0000, !number] {
                let call = Call { number, arch: OURS, args: [0; 6] };
                assert_eq!(verdict(&programs, &call), Verdict::Kill, "{name}: {number:#x}");
            }
        }
    }
}

/// Between two neighbouring numbers with which a program compares, its answer cannot change: so these stand for all 2^32.
#[test]
fn every_number_there_is_gets_what_the_data_says() {
    for (name, filter) in cases() {
        let programs = seccomp::compile(&filter).expect("compiles");
        let compared =
            programs.iter().flatten().filter(|op| matches!(op.code, 0x15 | 0x25 | 0x35 | 0x45)).map(|op| op.k);
        let edges: BTreeSet<u32> = compared.flat_map(|k| [k.wrapping_sub(1), k, k.wrapping_add(1)]).collect();
        assert!(edges.len() > 100, "{name}: {} edges", edges.len());
        for number in edges.into_iter().chain([0, i32::MAX as u32, i32::MIN as u32, u32::MAX]) {
            for args in [[0; 6], [u64::MAX; 6]] {
                let call = Call { number, arch: OURS, args };
                assert_eq!(verdict(&programs, &call), stated(&filter, &call), "{name}: {number:#x} {args:x?}");
            }
        }
    }
}

/// The verdict on a call by name, under the profile `base` with `features`.
fn ask(base: &str, features: &[Feature], name: &str, args: &[u64]) -> Verdict {
    let filter = BaseProfile::load(base).expect("well-formed").filter(&features.iter().copied().collect());
    let programs = seccomp::compile(&filter).expect("compiles");
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let number = u32::try_from(syscalls::number(name).expect("known")).expect("small");
    verdict(&programs, &Call { number, arch: OURS, args: all })
}

/// Calls that no family has.
const OUT: &[&str] = &[
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "kcmp",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "kexec_load",
    "init_module",
    "finit_module",
    "delete_module",
    "open_by_handle_at",
    "name_to_handle_at",
    "mknodat",
    "seccomp",
    "setuid",
    "setgid",
    "setresuid",
    "setresgid",
    "setgroups",
    "capset",
    "inotify_init1",
    "fanotify_init",
    "shmget",
    "shmat",
    "msgget",
    "semget",
    "mq_open",
    "sched_setaffinity",
    "sched_setscheduler",
    "setpriority",
    "move_pages",
    "sendmmsg",
    "syslog",
    "clock_settime",
    "sethostname",
    "reboot",
    "swapon",
    "quotactl",
    "acct",
    "linkat",
    "fchownat",
    "removexattr",
    "memfd_secret",
    "process_madvise",
    "landlock_restrict_self",
    "io_setup",
    "vmsplice",
    "statmount",
    "link",
    "mknod",
    "personality",
    "get_robust_list",
    "pkey_mprotect",
    "readahead",
    "sync",
];

#[test]
fn the_calls_that_get_out_are_refused_everywhere() {
    for base in BaseProfile::names() {
        for name in OUT.iter().filter(|name| syscalls::is_known(name)) {
            assert_eq!(ask(base, &[Feature::Proxy, Feature::UnixListener], name, &[]), EPERM, "{base}: {name}");
        }
        for name in ["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "openat2"] {
            assert_eq!(ask(base, &[], name, &[]), ENOSYS, "{base}: {name}");
        }
        for name in ["setxattr", "lsetxattr", "fsetxattr"] {
            let expected = if base == "shell" { ENOSYS } else { EPERM };
            assert_eq!(ask(base, &[], name, &[]), expected, "{base}: {name}");
        }
    }
}

#[test]
fn arguments_decide() {
    let (yes, no) = (Verdict::Allow, EPERM);
    let proxy = &[Feature::Proxy][..];
    let listener = &[Feature::UnixListener][..];
    for (features, name, args, expected) in [
        // Terminals: the command is 32 bits, whatever stands above them.
        (&[][..], "ioctl", &[0, 0x5412][..], no),
        (&[], "ioctl", &[0, 0x1_0000_5412], no),
        (&[], "ioctl", &[0, 0x541c], no),
        (&[], "ioctl", &[0, 0x5423], no),
        (&[], "ioctl", &[0, 0x5401], yes),
        // Sockets.
        (&[], "socket", &[2, 1, 0], no),
        (&[], "socket", &[1, 1, 0], no),
        (proxy, "socket", &[2, 1, 0], yes),
        (proxy, "socket", &[10, 1 | 0o2000000, 6], yes),
        (proxy, "socket", &[2, 1, 262], no),
        (proxy, "socket", &[2, 2, 0], no),
        (proxy, "socket", &[2, 3, 1], no),
        (proxy, "socket", &[1, 1, 0], no),
        (proxy, "socket", &[16, 3, 0], no),
        (proxy, "socket", &[17, 3, 0], no),
        (proxy, "socket", &[40, 1, 0], no),
        (proxy, "connect", &[], yes),
        (proxy, "bind", &[], no),
        (proxy, "listen", &[], no),
        (&[], "connect", &[], no),
        (listener, "socket", &[1, 1, 0], yes),
        (listener, "socket", &[2, 1, 0], no),
        (listener, "connect", &[], no),
        (&[], "socketpair", &[1, 1, 0], yes),
        (&[], "socketpair", &[1, 2, 0], no),
        (&[], "sendto", &[0, 0, 0, 0x4000], yes),
        (&[], "sendto", &[0, 0, 0, 0x2000_4000], no),
        (&[], "sendmsg", &[0, 0, 0x2000_0000], no),
        // Namespaces.
        (&[], "clone", &[0x3d_0f00], yes),
        (&[], "clone", &[0x1000_0000 | 17], no),
        (&[], "clone", &[0x0002_0000 | 17], no),
        (&[], "clone", &[0x4000_0000 | 17], no),
        // Memory.
        (&[], "mmap", &[0, 4096, 3], yes),
        (&[], "mmap", &[0, 4096, 5], yes),
        (&[], "mmap", &[0, 4096, 7], no),
        (&[], "mprotect", &[0, 4096, 5], no),
        (&[], "mprotect", &[0, 4096, 1], yes),
        (&[], "memfd_create", &[0, 0], no),
        (&[], "memfd_create", &[0, 1], no),
        (&[], "memfd_create", &[0, 0x10], no),
        (&[], "memfd_create", &[0, 9], yes),
        // Files.
        (&[], "openat", &[0, 0, 0o101, 0o644], yes),
        (&[], "openat", &[0, 0, 0o101, 0o4755], no),
        (&[], "openat", &[0, 0, 0, 0o4755], yes),
        (&[], "fchmodat", &[0, 0, 0o2755], no),
        (&[], "fcntl", &[0, 8], no),
        (&[], "fcntl", &[0, 1030], yes),
        // The process itself.
        (&[], "prctl", &[1, 9], yes),
        (&[], "prctl", &[1, 0], no),
        (&[], "prctl", &[4, 1], no),
        (&[], "prctl", &[22, 2], no),
        (&[], "prctl", &[35, 1], no),
        (&[], "personality", &[0x0040_0000], no),
        (&[], "personality", &[0xffff_ffff], no),
        (&[], "arch_prctl", &[0x1002], yes),
        (&[], "arch_prctl", &[0x1001], no),
        (&[], "prlimit64", &[0, 7], yes),
        (&[], "prlimit64", &[1, 7], no),
    ] {
        assert_eq!(ask("native", features, name, args), expected, "{name} {args:x?} with {features:?}");
    }
    assert_eq!(ask("shell", &[], "mmap", &[0, 4096, 7]), yes, "interpreters compile as they run");
    memory_is_writable_or_executable();
    assert_eq!(ask("shell", &[], "ioctl", &[0, 0x5412]), no);
}

/// What each family may do with memory: [map to write and execute, the same of a file, map to execute, make executable].
fn memory_is_writable_or_executable() {
    let (yes, no) = (Verdict::Allow, EPERM);
    const ANONYMOUS: u64 = 0x22;
    const FILE: u64 = 0x02;
    for (base, expected) in [
        ("native", [no, no, yes, no]),
        ("go", [no, no, no, no]),
        ("python", [no, no, yes, no]),
        ("node", [yes, no, yes, yes]),
        ("chromium", [yes, no, yes, yes]),
        ("shell", [yes, yes, yes, yes]),
    ] {
        let found = [
            ask(base, &[], "mmap", &[0, 4096, 7, ANONYMOUS]),
            ask(base, &[], "mmap", &[0, 4096, 7, FILE]),
            ask(base, &[], "mmap", &[0, 4096, 5, FILE]),
            ask(base, &[], "mprotect", &[0, 4096, 5]),
        ];
        assert_eq!(found, expected, "{base}");
        assert_eq!(ask(base, &[], "mmap", &[0, 4096, 3, ANONYMOUS]), yes, "{base}");
    }
}

#[test]
fn filters_are_short_enough_to_load_quickly() {
    // The kernel runs a filter once for each number when it is loaded, so length is time at each launch.
    for (name, filter) in cases() {
        let programs = seccomp::compile(&filter).expect("compiles");
        let length: usize = programs.iter().map(Vec::len).sum();
        assert!(length < 1500, "{name} has {length} instructions");
    }
}
