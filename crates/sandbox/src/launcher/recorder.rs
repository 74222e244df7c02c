//! The recorder: a process of its own beside the launcher, which answers for the filters of all programs and keeps count of
//! what they refused.
//!
//! Not the launcher itself, which has one thread: reading a program's memory may block for as long as the program likes, and
//! a program that is refused without pause would keep the launcher busy. Here each program has a thread, and holds up no
//! other. The process is forked once, before anything is launched; it starts nothing, and what it says is believed for
//! explanations only. When it dies its listeners close, and every refused call fails with `ENOSYS`.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use sigil_types::LaunchId;

use super::audited::Records;
use super::wire::{self, FrameFailed};
use crate::confine::Listening;
use crate::denials::{Ledger, Recorder, Telling};
use crate::profile::recorded::Answers;
use crate::sys::{self, Forked};

/// Launches of which the counts are kept; the oldest are forgotten.
const KEPT: usize = 128;

/// What the recorder answers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// What was refused.
    pub(super) ledger: Ledger,
    /// Whether the kernel's audit records are read, so that files that were refused are among it.
    pub(super) files: bool,
}

/// What is known of launches, newest first.
#[derive(Default)]
pub(super) struct Known(Mutex<VecDeque<Launch>>);

struct Launch {
    id: LaunchId,
    /// The init of its process namespace, which made its Landlock domain.
    init: u32,
    ledger: Arc<Mutex<Ledger>>,
}

impl Known {
    fn add(&self, launch: Launch) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_front(launch);
        all.truncate(KEPT);
    }

    fn find(&self, wanted: impl Fn(&Launch) -> bool) -> Option<Arc<Mutex<Ledger>>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|launch| wanted(launch)).map(|launch| Arc::clone(&launch.ledger))
    }

    /// The counts of the newest launch whose init was the process `init`.
    pub(super) fn made_by(&self, init: u32) -> Option<Arc<Mutex<Ledger>>> {
        self.find(|launch| launch.init == init)
    }
}

/// What the launcher tells the recorder.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Order {
    /// Answer for this launch; its listener comes beside it. Not acknowledged.
    Watch { launch: LaunchId, init: u32, answers: Answers, telling: Telling },
    /// Say what was refused to this launch.
    Tell { launch: LaunchId },
}

/// The launcher's handle of the recorder.
pub(super) struct Handle {
    /// Its process.
    pub(super) pid: Pid,
    socket: OwnedFd,
}

impl Handle {
    /// Forks it. The calling process must have one thread.
    pub(super) fn fork() -> Result<Self, Errno> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        match sys::fork_process()? {
            Forked::Parent(pid) => Ok(Self { pid, socket: ours }),
            Forked::Child => {
                drop(ours);
                // A panic must not unwind into the launcher's code in a second process.
                let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(&theirs)));
                sys::exit_now(i32::from(!matches!(lived, Ok(Ok(())))))
            }
        }
    }

    /// Has it answer for a program.
    pub(super) fn watch(
        &self,
        launch: LaunchId,
        init: u32,
        listening: Listening,
        telling: Telling,
    ) -> Result<(), FrameFailed> {
        let Listening { fd, answers } = listening;
        wire::send(self.socket.as_fd(), &Order::Watch { launch, init, answers, telling }, &[fd.as_fd()])
    }

    /// What was refused to a program; nothing for one that is not known.
    pub(super) fn tell(&self, launch: LaunchId) -> Result<Told, FrameFailed> {
        wire::send(self.socket.as_fd(), &Order::Tell { launch }, &[])?;
        Ok(wire::receive(&self.socket)?.0)
    }
}

/// The life of the recorder's process: until the launcher is gone.
fn live(socket: &OwnedFd) -> Result<(), FrameFailed> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if sys::peer_gone(socket.as_fd()) {
        return Err(FrameFailed::Closed);
    }
    let _ = rustix::thread::set_name(c"sigil-recorder");
    rustix::thread::set_no_new_privs(true)?;
    sys::close_others(socket.as_fd())?;
    let known = Arc::new(Known::default());
    let records = Records::open();
    let files = records.is_some();
    if let Some(records) = records {
        let known = Arc::clone(&known);
        let _ = thread().spawn(move || records.follow(&known));
    }
    loop {
        match wire::receive::<Order>(socket)? {
            (Order::Watch { launch, init, answers, telling }, fds) => {
                let Some(fd) = fds.into_iter().next() else { return Err(FrameFailed::Form("no listener came")) };
                let recorder = Recorder::new(Listening { fd, answers }, telling, None);
                known.add(Launch { id: launch, init, ledger: recorder.ledger() });
                // Without a thread the listener closes, and refused calls fail otherwise.
                let _ = thread().spawn(|| recorder.run());
            }
            (Order::Tell { launch }, _) => {
                let ledger = known.find(|known| known.id == launch).map(|ledger| {
                    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                    ledger.clone()
                });
                wire::send(socket.as_fd(), &Told { ledger: ledger.unwrap_or_default(), files }, &[])?;
            }
        }
    }
}

fn thread() -> std::thread::Builder {
    std::thread::Builder::new().stack_size(128 * 1024)
}
