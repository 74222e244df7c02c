//! Whether each system call filter allows only what real programs of its family use.
//!
//! A call that none of them makes, or a condition that none of them meets, is redundant: it is taken out, or it stands in
//! the data's `[[kept]]` with the reason why it stays.

use sigil_sandbox::profile::base::{BaseProfile, Feature};
use sigil_sandbox::profile::seccomp::{Alternative, Comparison, Condition, Width};
use sigil_sandbox::profile::syscalls;

use crate::runner::{Runner, installed, skip};
use crate::trace::{self, Call};
use crate::{browser, fetch, git, golang, mcp, node, python, scripts, tools};

/// Something that programs of a family do. `None` when what it needs is not installed.
type Scenario = fn(&Runner) -> Option<()>;

#[test]
fn native_allows_what_is_used() {
    judge("native", &[tools::ripgrep, tools::sqlite, tools::imagemagick, tools::small_tools, fetch::curl, fetch::wget]);
}

#[test]
fn go_allows_what_is_used() {
    judge("go", &[golang::program]);
}

#[test]
fn python_allows_what_is_used() {
    judge("python", &[python::packages, python::standard_library, mcp::time]);
}

#[test]
fn node_allows_what_is_used() {
    judge("node", &[node::packages, node::standard_library, mcp::filesystem, mcp::everything]);
}

#[test]
fn shell_allows_what_is_used() {
    judge("shell", &[scripts::script, git::clone]);
}

#[test]
fn chromium_allows_what_is_used() {
    judge("chromium", &[browser::local_page, browser::served_page]);
}

/// Runs all `scenarios` of the family, and compares what its filter allows with what they used.
fn judge(family: &str, scenarios: &[Scenario]) {
    if !(installed(&["strace"]) && (trace::works() || skip("strace may not trace here"))) {
        return;
    }
    let runner = Runner::recording();
    if scenarios.iter().any(|scenario| scenario(&runner).is_none()) {
        return;
    }
    let calls = runner.calls();
    assert!(calls.len() > 50, "the recorder saw only {} calls", calls.len());
    let base = BaseProfile::load(family).expect("well-formed");
    // Plugins of HashiCorp's kind are Go's, or native.
    let listens = matches!(family, "native" | "go").then_some(Feature::UnixListener);
    let features = base.features.iter().copied().chain([Feature::Proxy]).chain(listens);
    let filter = base.filter(&features.collect());
    let kept = base.kept();
    let (mut redundant, mut rare) = (Vec::new(), Vec::new());
    for (name, alternatives) in &filter.allow {
        // A call that another architecture has, and one that is answered as if the kernel did not have it.
        if syscalls::number(name).is_none() || filter.enosys.contains(name) {
            continue;
        }
        let made: Vec<&Call> = calls.iter().filter(|call| call.name == *name).collect();
        let unused = unused(alternatives, &made);
        if unused.is_empty() {
            if kept.contains_key(name.as_str()) {
                rare.push(name.as_str());
            }
        } else if !kept.contains_key(name.as_str()) {
            redundant.push(format!("{name}{}", unused.concat()));
        }
    }
    println!("{family}: {} different calls; kept, and used here: {}", calls.len(), rare.join(", "));
    assert!(redundant.is_empty(), "{family} allows what none of its programs uses:\n{}", redundant.join("\n"));
}

/// The forms of one call that nobody used: of a call without conditions, itself.
fn unused(alternatives: &[Alternative], made: &[&Call]) -> Vec<String> {
    if alternatives.is_empty() {
        return if made.is_empty() { vec![String::new()] } else { Vec::new() };
    }
    let meets = |all: &Alternative| made.iter().any(|call| all.iter().all(|one| holds(one, call)));
    let unused = alternatives.iter().filter(|all| !meets(all));
    unused.map(|all| all.iter().map(|one| format!(" [{} {:?}]", one.arg, one.is)).collect::<String>()).collect()
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let argument = call.arguments[usize::from(condition.arg)];
    let seen = |value: u64| if condition.width == Width::Dword { value & 0xffff_ffff } else { value };
    match condition.is {
        Comparison::Eq(value) => seen(argument) == seen(value),
        Comparison::Ne(value) => seen(argument) != seen(value),
        Comparison::Le(value) => seen(argument) <= seen(value),
        Comparison::Masked { mask, value } => seen(argument & mask) == seen(value & mask),
    }
}
