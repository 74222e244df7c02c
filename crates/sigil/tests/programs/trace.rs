//! Which system calls a program in the sandbox makes, by strace(1), which follows it into its namespaces.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// One system call: its name and its arguments. Pointers are left as they are; no condition looks at one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub name: String,
    pub arguments: [u64; 6],
}

/// Whether this machine lets a program be traced.
pub fn works() -> bool {
    command(Path::new("/dev/null"), "/bin/true").status().is_ok_and(|status| status.success())
}

/// `program` with its system calls written to `file`, as numbers.
pub fn command(file: &Path, program: &str) -> Command {
    let mut command = Command::new("/usr/bin/strace");
    command.args(["-f", "-qq", "-e", "raw=all", "-e", "signal=none", "-o"]).arg(file).arg(program);
    command
}

/// The calls of the program that a traced `sigil sandbox run` started, once its filter was there.
///
/// The launcher's own processes and threads are left out. Their calls return the numbers of the processes that they make;
/// those of a program inside are numbered by its own namespace, so only the launcher's lead to lines of the trace.
pub fn read(file: &Path) -> BTreeSet<Call> {
    let trace = String::from_utf8_lossy(&std::fs::read(file).expect("a trace")).into_owned();
    let lines: Vec<(&str, &str)> =
        trace.lines().filter_map(|line| line.split_once(' ').map(|(process, call)| (process, call.trim()))).collect();
    let mut launcher: BTreeSet<String> = lines.first().map(|(process, _)| (*process).to_owned()).into_iter().collect();
    loop {
        let made = lines.iter().filter(|(process, _)| launcher.contains(*process));
        let made: BTreeSet<String> = made.filter_map(|(_, call)| made_process(call)).collect();
        if made.is_subset(&launcher) {
            break;
        }
        launcher.extend(made);
    }
    let mut program = lines.iter().filter(|(process, _)| !launcher.contains(*process));
    // The program's first process is the launcher's until it executes.
    let started = program.by_ref().find(|(_, call)| call.starts_with("exec"));
    started.into_iter().chain(program).filter_map(|(_, call)| parse(call)).collect()
}

/// The process that a line says was made.
fn made_process(line: &str) -> Option<String> {
    let call = line.strip_prefix("<... ").unwrap_or(line);
    let makes = ["clone", "fork", "vfork"].iter().any(|name| call.starts_with(name));
    let number = line.rsplit_once("= ")?.1.split(' ').next()?;
    makes.then(|| number_of(number)).flatten().filter(|number| *number != 0).map(|number| number.to_string())
}

fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    if name.starts_with('<') || line.contains("= -1 EPERM") {
        return None;
    }
    let end = rest.find([')', '<']).unwrap_or(rest.len());
    let mut arguments = [0; 6];
    for (slot, text) in arguments.iter_mut().zip(rest[..end].split(',')) {
        *slot = number_of(text.trim()).unwrap_or_default();
    }
    Some(Call { name: name.to_owned(), arguments })
}

fn number_of(text: &str) -> Option<u64> {
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
}
