//! Shortcuts into a compiled filter: so that loading it, and checking a call, does not walk through all of it.
//!
//! seccompiler writes one group of instructions for each call, in the order of the calls' numbers, and a call walks through
//! the groups of all lower numbers. When a filter is loaded, the kernel does that once for each of its calls (its cache of
//! constant answers, Linux 5.11), which is most of the cost of loading. A table of comparisons in front leads every call
//! close to its group instead. It changes no answer: a group is entered in the same state as before, with the call's number
//! loaded, and only groups of lower numbers are passed over, none of which could have matched.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

/// What stands before the first group: three instructions that check the architecture, and the load of the number.
const PREFACE: usize = 4;

/// How many groups lie behind one entry of the table.
const GROUPS: usize = 12;

/// The number of instructions of the group of one call, found by compiling it alone.
fn length(number: i64, chain: &[SeccompRule], arch: TargetArch) -> Option<usize> {
    let one = [(number, chain.to_vec())].into();
    let filter = SeccompFilter::new(one, SeccompAction::KillProcess, SeccompAction::Allow, arch).ok()?;
    let program: BpfProgram = filter.try_into().ok()?;
    program.len().checked_sub(PREFACE + 1)
}

/// Puts a table in front of the groups of `program`, which was compiled from `rules` (in the order of their numbers).
///
/// The program comes back as it was if it does not have exactly the expected form.
pub(super) fn insert<'a>(
    program: BpfProgram,
    rules: impl IntoIterator<Item = (&'a i64, &'a Vec<SeccompRule>)>,
    arch: TargetArch,
) -> BpfProgram {
    // Numbers at which a block of groups begins, and where it begins, counted from the first group.
    let mut blocks: Vec<(u32, usize)> = Vec::new();
    let mut at = 0;
    for (count, (number, chain)) in rules.into_iter().enumerate() {
        let (Some(length), Ok(number)) = (length(*number, chain, arch), u32::try_from(*number)) else { return program };
        if count > 0 && count % GROUPS == 0 {
            blocks.push((number, at));
        }
        at += length;
    }
    // All groups, and the default action behind them.
    if program.len() != PREFACE + at + 1 {
        return program;
    }
    let mut table = Vec::with_capacity(2 * blocks.len());
    for (rank, (number, start)) in blocks.iter().rev().enumerate() {
        // Instructions of the table that follow this entry, and then the groups that are passed over.
        let behind = 2 * (blocks.len() - rank - 1);
        let Ok(distance) = u32::try_from(behind + start) else { return program };
        table.push(instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, *number));
        table.push(instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, distance));
    }
    let mut program = program;
    program.splice(PREFACE..PREFACE, table);
    program
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::profile::base::{BaseProfile, Feature};
    use crate::profile::seccomp;

    /// Runs a filter as the kernel would: the answer, and how many instructions it took.
    fn run(program: &[sock_filter], number: u32, arch: u32, arguments: [u64; 6]) -> (u32, usize) {
        let load = |offset: u32| match offset {
            0 => number,
            4 => arch,
            offset => {
                let argument = arguments[(offset as usize - 16) / 8];
                if offset % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
            }
        };
        let (mut at, mut a, mut steps) = (0, 0_u32, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            steps += 1;
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                0x20 => a = load(k),
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x06 => return (k, steps),
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn no_answer_changes_and_the_way_is_short() {
        const ARCH: u32 = 0xC000_003E;
        let features = [Feature::Proxy, Feature::UnixListener];
        for base in BaseProfile::names() {
            for features in [&features[..0], &features[..]] {
                let filter =
                    BaseProfile::load(base).unwrap().filter(&features.iter().copied().collect::<BTreeSet<_>>());
                let with = seccomp::compile(&filter).unwrap().pop().unwrap();
                let without = seccomp::compile_plain(&filter).unwrap().pop().unwrap();
                assert!(with.len() > without.len(), "a table was made");
                let (mut steps, mut plain_steps) = (0, 0);
                let values = [0, 1, 2, 3, 6, 0o100, 0o6000, 0x5401, 0x5413, u64::MAX, 1 << 32, 0x1_0000_5412];
                for number in (0..600).chain([0x4000_0000, 0x4000_0027, u32::MAX]) {
                    for (first, second) in values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))) {
                        let arguments = [first, second, first ^ second, second, first, 0];
                        let (answer, count) = run(&with, number, ARCH, arguments);
                        let (plain, plain_count) = run(&without, number, ARCH, arguments);
                        assert_eq!(answer, plain, "{base}: call {number} with {arguments:x?}");
                        steps += count;
                        plain_steps += plain_count;
                    }
                }
                assert_eq!(run(&with, 0, 0x4000_0003, [0; 6]), run(&without, 0, 0x4000_0003, [0; 6]));
                assert!(steps * 3 < plain_steps, "{base}: {steps} steps instead of {plain_steps}");
            }
        }
    }

    #[test]
    fn an_unexpected_form_is_left_alone() {
        let rules: BTreeMap<i64, Vec<SeccompRule>> = (0..50).map(|number| (number, Vec::new())).collect();
        let program = vec![instruction(0x06, 0, 0, 0); 7];
        assert_eq!(insert(program.clone(), &rules, TargetArch::x86_64), program);
    }
}
