//! A kernel with less: a filter round the calling process and everything that it starts.

use std::collections::BTreeMap;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Nothing.
    Nothing,
    /// Making namespaces and mounting, as in most containers: refused.
    Namespaces,
    /// Mounting only: a namespace can be made, and what it is for is refused.
    Mounts,
    /// Landlock: unknown.
    Landlock,
}

const NEW: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

fn install(calls: &[(i64, Vec<SeccompRule>)], errno: i32) {
    let rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().cloned().collect();
    let arch = std::env::consts::ARCH.try_into().expect("an architecture");
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("installed");
}

fn always(calls: &[i64]) -> Vec<(i64, Vec<SeccompRule>)> {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Takes it away, for good.
pub(crate) fn take(lack: Lack) {
    let mounts = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_mount_setattr,
    ];
    match lack {
        Lack::Nothing => {}
        Lack::Namespaces => {
            let with = |flag: i32| {
                let flag = u64::from(flag.unsigned_abs());
                let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag);
                SeccompRule::new(vec![is.expect("a condition")]).expect("a rule")
            };
            let mut calls = always(&mounts);
            calls.extend(always(&[libc::SYS_unshare, libc::SYS_setns]));
            calls.push((libc::SYS_clone, NEW.map(with).to_vec()));
            install(&calls, libc::EPERM);
            install(&always(&[libc::SYS_clone3]), libc::ENOSYS);
        }
        Lack::Mounts => install(&always(&mounts), libc::EACCES),
        Lack::Landlock => install(
            &always(&[
                libc::SYS_landlock_create_ruleset,
                libc::SYS_landlock_add_rule,
                libc::SYS_landlock_restrict_self,
            ]),
            libc::ENOSYS,
        ),
    }
}

/// Runs the test `name` again in a process of its own, without `lack`; there, and only there, it says true.
pub(crate) fn inside(name: &str, lack: Lack) -> bool {
    const LACK: &str = "TEST_LACK";
    let word = format!("{lack:?}");
    if std::env::var(LACK).is_ok_and(|here| here == word) {
        take(lack);
        return true;
    }
    if std::env::var_os(LACK).is_some() {
        return false;
    }
    let own = std::env::current_exe().expect("this program");
    let status = Command::new(own).args(["--exact", name]).env(LACK, word).status().expect("its end");
    assert!(status.success(), "without {lack:?}: see above");
    false
}
