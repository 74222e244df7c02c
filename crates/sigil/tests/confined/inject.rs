//! System calls in the name of another process's thread (ptrace(2)): what an attacker could do who runs code there.

use std::ffi::CString;

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// The instruction `syscall` on x86-64, in the byte order of a word.
const SYSCALL: u16 = 0x050f;
/// How far below its stack pointer a thread's stack is free: the red zone, and a page.
const BELOW: u64 = 128 + 4096;

/// One argument of an injected call.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    /// A number.
    Number(i64),
    /// A C string, put into the thread's memory.
    Text(CString),
    /// The address of the page that holds the texts.
    Page,
}

/// A thread that is held.
pub(crate) struct Held {
    thread: Pid,
    before: libc::user_regs_struct,
}

impl Held {
    /// Stops `thread`. Nothing when it has ended.
    ///
    /// # Panics
    /// When it may not be held.
    pub(crate) fn stop(thread: i32) -> Option<Self> {
        let thread = Pid::from_raw(thread);
        match ptrace::seize(thread, Options::empty()) {
            Err(nix::errno::Errno::ESRCH) => return None,
            other => other.expect("ptrace(2) of the gateway needs root"),
        }
        ptrace::interrupt(thread).ok()?;
        waitpid(thread, Some(WaitPidFlag::__WALL)).ok()?;
        let before = ptrace::getregs(thread).ok()?;
        Some(Self { thread, before })
    }

    /// Where in the process a `syscall` instruction is, if the thread waits in one.
    pub(crate) fn instruction(&self) -> Option<u64> {
        let at = self.before.rip.checked_sub(2)?;
        let word = ptrace::read(self.thread, at as ptrace::AddressType).ok()?;
        (word as u16 == SYSCALL).then_some(at)
    }

    /// Has the thread make the call `number` with the instruction at `instruction`. What it returned: an error is negative.
    pub(crate) fn call(&self, instruction: u64, number: i64, arguments: &[Arg]) -> i64 {
        let page = (self.before.rsp - BELOW) & !4095;
        let mut free = page;
        let mut registers = [0_u64; 6];
        for (register, argument) in registers.iter_mut().zip(arguments) {
            *register = match argument {
                Arg::Number(number) => *number as u64,
                Arg::Page => page,
                Arg::Text(text) => {
                    let at = free;
                    for word in text.as_bytes_with_nul().chunks(8) {
                        let mut bytes = [0; 8];
                        bytes[..word.len()].copy_from_slice(word);
                        ptrace::write(self.thread, free as ptrace::AddressType, i64::from_ne_bytes(bytes))
                            .expect("written");
                        free += 8;
                    }
                    at
                }
            };
        }
        let [rdi, rsi, rdx, r10, r8, r9] = registers;
        // −1 in `orig_rax`: the call that was interrupted is not started again now.
        let orig_rax = u64::MAX;
        let rax = number as u64;
        let set = libc::user_regs_struct { rip: instruction, rax, orig_rax, rdi, rsi, rdx, r10, r8, r9, ..self.before };
        ptrace::setregs(self.thread, set).expect("set");
        ptrace::step(self.thread, None).expect("stepped");
        waitpid(self.thread, Some(WaitPidFlag::__WALL)).expect("stopped again");
        ptrace::getregs(self.thread).expect("its registers").rax as i64
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // As it was, so that it takes up the call in which it waited.
        let _ = ptrace::setregs(self.thread, self.before);
        let _ = ptrace::detach(self.thread, None);
    }
}
