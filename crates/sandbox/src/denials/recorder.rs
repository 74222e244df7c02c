//! [`Recorder`]: answers the questions of a program's filter, and counts what they were about.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use sigil_types::{Clock, SystemClock};

use super::calls::{self, PathArg, Telling};
use super::{Ledger, RuleSet, Sight};
use crate::confine::Listening;
use crate::profile::{PROXY_PORT, syscalls};
use crate::sys::{self, Notification};

/// Longest path that is read, as the kernel has it.
const LONGEST: usize = 4096;
/// Longest path that is kept of a refused call, in bytes: so that a whole ledger fits a frame.
const LONGEST_HINT: usize = 256;
/// Questions that are answered in one window, and its length. A program that is refused more often than that waits: what
/// it costs to refuse it stays a small part of one processor.
const WINDOW: (u32, Duration) = (2_000, Duration::from_millis(100));

/// Answers for one program, and counts.
///
/// It runs on a thread of its own, on which the program can hold up nobody but itself: reading its memory may block.
#[derive(Debug)]
pub struct Recorder {
    listening: Listening,
    telling: Telling,
    /// The rules to match looks with, when the program is observed.
    rules: Option<RuleSet>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Recorder {
    /// A recorder of a program. Looks are matched with `rules`.
    #[must_use]
    pub fn new(listening: Listening, telling: Telling, rules: Option<RuleSet>) -> Self {
        Self { listening, telling, rules, ledger: Arc::default() }
    }

    /// Where it counts.
    #[must_use]
    pub fn ledger(&self) -> Arc<Mutex<Ledger>> {
        Arc::clone(&self.ledger)
    }

    /// Answers until no process is left that could ask. When it ends otherwise, or not at all, refused calls still fail.
    pub fn run(self) {
        let (mut answered, mut began) = (0, Instant::now());
        loop {
            let mut fds = [PollFd::new(&self.listening.fd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            let [ready] = fds.map(|fd| fd.revents());
            if !ready.contains(PollFlags::IN) {
                return;
            }
            match sys::receive_call(self.listening.fd.as_fd()) {
                Ok(Some(call)) => self.serve(&call),
                Ok(None) => {}
                Err(_) => return,
            }
            answered += 1;
            if answered >= WINDOW.0 {
                pause(WINDOW.1.saturating_sub(began.elapsed()));
                (answered, began) = (0, Instant::now());
            }
        }
    }

    fn serve(&self, call: &Notification) {
        let answer = self.listening.answers.answer(call.number);
        // Before the answer, while the call waits: its memory and its working directory are those of the call.
        let sights = self.sights(call);
        // Otherwise the thread was another one's while it was looked at.
        let held = sys::call_waits(self.listening.fd.as_fd(), call.id);
        let _ = sys::answer_call(self.listening.fd.as_fd(), call.id, answer);
        if held {
            self.count(sights);
        }
    }

    fn count(&self, sights: Vec<Sight>) {
        let now = SystemClock.now();
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        sights.into_iter().for_each(|sight| ledger.note(sight, now));
    }

    /// What a call is about.
    fn sights(&self, call: &Notification) -> Vec<Sight> {
        let known = syscalls::name(call.number);
        let observed = self.listening.answers.is_observed(call.number);
        let Some(name) = known else {
            let errno = self.listening.answers.errno();
            return vec![Sight::Call { call: call.number.to_string(), args: [0; 6], errno, path: None }];
        };
        let mut paths = calls::paths(name).iter().filter_map(|arg| {
            let path = path_of(call, arg)?;
            Some((path, arg.need.of(&call.args)))
        });
        if observed {
            if name == "connect" {
                return address_of(call).into_iter().map(|to| Sight::Connection { to }).collect();
            }
            let Some(rules) = &self.rules else { return Vec::new() };
            let refused = paths.filter_map(|(path, need)| Some((rules.refuses(&path, need)?, need)));
            return refused.map(|(path, need)| Sight::File { path: text(&path), need }).collect();
        }
        let path = paths.next().map(|(path, _)| text(&path)).filter(|path| path.len() <= LONGEST_HINT);
        let args = self.telling.of_call(name, &call.args);
        vec![Sight::Call { call: name.to_owned(), args, errno: self.listening.answers.errno(), path }]
    }
}

#[expect(clippy::disallowed_methods, reason = "there is no event to wait for: the pause itself is what a flood gets")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The path that an argument points to, made absolute as the calling thread would.
fn path_of(call: &Notification, arg: &PathArg) -> Option<PathBuf> {
    let bytes = string_of(call, *call.args.get(arg.path)?)?;
    if bytes.is_empty() {
        // The descriptor itself, which was opened before.
        return None;
    }
    let path = PathBuf::from(OsStr::from_bytes(&bytes));
    if path.is_absolute() {
        return Some(path);
    }
    let thread = call.thread;
    let folder = arg.folder.and_then(|at| call.args.get(at)).map(|fd| *fd as u32 as i32);
    let link = match folder {
        None | Some(libc::AT_FDCWD) => format!("/proc/{thread}/cwd"),
        Some(fd) => format!("/proc/{thread}/fd/{fd}"),
    };
    Some(std::fs::read_link(link).ok()?.join(path))
}

/// A string of C in the memory of the calling process: up to its NUL, or nothing.
fn string_of(call: &Notification, address: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; LONGEST];
    let read = sys::read_other(call.thread, address, &mut bytes).ok()?;
    let end = bytes.get(..read)?.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

/// Where a connection was to go, when that is not the egress proxy.
fn address_of(call: &Notification) -> Option<String> {
    let [_, address, length, ..] = call.args;
    let mut bytes = [0; 128];
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    let place = bytes.get_mut(..length)?;
    let read = sys::read_other(call.thread, address, place).ok()?;
    parse_address(bytes.get(..read)?)
}

/// Reads a `struct sockaddr` (sockaddr(3type)) of the internet families.
fn parse_address(bytes: &[u8]) -> Option<String> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    let address = match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => SocketAddr::from((Ipv4Addr::from(*rest.first_chunk::<4>()?), port)),
        // The flow label comes first.
        libc::AF_INET6 => SocketAddr::from((Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?), port)),
        _ => return None,
    };
    let is_proxy = address.ip().is_loopback() && port == PROXY_PORT;
    (!is_proxy).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_strictly() {
        let v4 = [2, 0, 0x01, 0xbb, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse_address(&v4).as_deref(), Some("192.0.2.7:443"));
        let mut v6 = vec![10, 0, 0, 53, 0, 0, 0, 0];
        v6.extend(Ipv6Addr::LOCALHOST.octets());
        assert_eq!(parse_address(&v6).as_deref(), Some("[::1]:53"));
        assert_eq!(parse_address(&[2, 0, 0x0c, 0x38, 127, 0, 0, 1]), None, "the proxy");
        for end in 0..8 {
            assert_eq!(parse_address(&v4[..end]), None);
        }
        assert_eq!(parse_address(&[1, 0, b'/', b'x', 0, 0, 0, 0]), None);
    }
}
