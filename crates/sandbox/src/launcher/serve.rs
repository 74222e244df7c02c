//! The launcher's life: one thread that answers one request after another and reaps what it started.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use sigil_audit::{HeadToSign, SignRefused, witness};
use sigil_policy::{Bundle, Verified};
use sigil_types::{Clock, Code, LaunchId, PluginName, SystemClock, Timestamp, WorkspaceId};

use super::connect::{self, ConnectRefused, SocketName};
use super::judge;
use super::launch::{self, Running};
use super::ready::{Cache, Next, Place};
use super::recorder::{Handle as Recorder, Told};
use super::refusal;
use super::state::State;
use super::watch::Watch;
use super::wire::{self, Ended, FrameFailed, LaunchRequest, LaunchUsage, Refusal, Reply, Request, Status};
use crate::cgroup::Group;
use crate::confine::family;
use crate::host::Reached;
use crate::profile::recorded::Recording;
use crate::receipt::LaunchReceipt;
use crate::sys;

/// A program that this launcher has started and not yet reaped.
struct Child {
    id: LaunchId,
    init: Pid,
    pidfd: OwnedFd,
    private: Option<PathBuf>,
    /// Whether it serves on a socket there.
    serves: bool,
    group: Option<Group>,
    plugin: PluginName,
    workspace: WorkspaceId,
    watch: Watch,
}

/// How many programs that were ended for using too much are remembered.
const REMEMBERED: usize = 64;

impl Child {
    fn usage(&self) -> LaunchUsage {
        let usage = self.watch.usage(self.init, self.group.as_ref());
        LaunchUsage { launch: self.id, plugin: self.plugin.clone(), usage }
    }

    fn end(&self) {
        if let Some(group) = &self.group {
            let _ = group.kill();
        }
        let _ = sys::kill_process(self.init, Signal::KILL);
    }
}

/// The launcher.
pub(super) struct Server {
    place: Place,
    state: State,
    policy: Option<Bundle<Verified>>,
    cache: Cache,
    next: Next,
    children: Vec<Child>,
    /// Programs that were ended for using too much, the latest at the end.
    ended: VecDeque<Ended>,
    /// Who records what programs are refused. Without one nothing is recorded, and nothing else changes.
    recorder: Option<Recorder>,
    /// The latest moment that was seen: time never runs backwards here, whatever the clock does.
    latest: Timestamp,
}

impl Server {
    pub(super) fn new(place: Place, state: State) -> Self {
        let latest = Timestamp::from_millis(0);
        let mut new = Self {
            place,
            state,
            policy: None,
            cache: Cache::default(),
            next: Next::None,
            children: Vec::new(),
            ended: VecDeque::new(),
            recorder: None,
            latest,
        };
        new.start_recorder();
        new
    }

    /// Starts a recorder, the first one or in place of one that is lost. What was prepared with the other one is forgotten.
    fn start_recorder(&mut self) {
        // In posture `reduced` the end of a program ends everything else below the launcher; nothing is recorded there.
        let records = self.place.host.posture != Reached::Reduced;
        self.recorder = records.then(Recorder::fork).and_then(Result::ok);
        self.next = Next::None;
        self.cache.record(self.recorder.as_ref().map(|_| Recording::Refused));
    }

    /// Serves until the gateway is gone or says something that no gateway says; then everything that was started dies.
    pub(super) fn run(mut self, socket: &OwnedFd) -> FrameFailed {
        let ended = loop {
            match self.step(socket) {
                Ok(()) => {}
                Err(ended) => break ended,
            }
        };
        for child in &self.children {
            child.end();
        }
        for child in &self.children {
            let _ = sys::wait_for(child.init);
        }
        self.next = Next::None;
        self.end_strangers();
        for child in self.children.drain(..) {
            launch::remove(child.private.as_ref());
        }
        ended
    }

    fn step(&mut self, socket: &OwnedFd) -> Result<(), FrameFailed> {
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        fds.extend(self.children.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
        self.next.expire();
        let wait = [self.next.wait(), self.until_look()].into_iter().flatten().min();
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut fds, wait.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            Ok(0) => {
                self.look();
                self.next.advance(&mut self.place);
                self.reap();
                return Ok(());
            }
            other => other?,
        };
        let asked = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        self.reap();
        self.look();
        if !asked {
            return Ok(());
        }
        let body = wire::receive_request(socket.as_fd())?;
        let (reply, fds) = match Request::parse(&body) {
            Ok(request) => self.answer(request),
            Err(error) => {
                let code = const { Code::new("sandbox.launcher.request.malformed") };
                (Reply::Refused(refusal(code, error)), Vec::new())
            }
        };
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match wire::send(socket.as_fd(), &reply, &borrowed) {
            // The descriptors cannot be passed now: a program may keep so many of its own under way that its user may not send
            // any more. Nothing was sent yet; what was started for it goes, and everything else stays.
            Err(FrameFailed::Socket(errno @ (Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM)))
                if !fds.is_empty() =>
            {
                if let Reply::Launched(started) = &reply {
                    self.kill(started.id);
                }
                let refused = refusal(const { Code::new("sandbox.launch.host.failed") }, errno);
                wire::send(socket.as_fd(), &Reply::Refused(refused), &[])
            }
            sent => sent,
        }
    }

    /// How long until something is to be looked at.
    fn until_look(&self) -> Option<Duration> {
        let due = self.children.iter().filter_map(|child| child.watch.due()).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Looks at what runs, and ends what uses too much.
    fn look(&mut self) {
        let now = Instant::now();
        for child in &mut self.children {
            let Some(excess) = child.watch.look(child.init, now) else { continue };
            child.end();
            if !self.ended.iter().any(|ended| ended.launch == child.id) {
                self.ended.push_back(Ended { launch: child.id, plugin: child.plugin.clone(), excess });
            }
        }
        while self.ended.len() > REMEMBERED {
            self.ended.pop_front();
        }
    }

    fn now(&mut self) -> Timestamp {
        self.latest = self.latest.max(SystemClock.now());
        self.latest
    }

    fn answer(&mut self, request: Request) -> (Reply, Vec<OwnedFd>) {
        let reply = match request {
            Request::SetPolicy { envelope } => self.set_policy(&envelope).unwrap_or_else(Reply::Refused),
            Request::Launch(request) => {
                return self.launch(&request).unwrap_or_else(|refused| {
                    // One that was ended before it had its receipt may have left something.
                    self.end_strangers();
                    (Reply::Refused(refused), Vec::new())
                });
            }
            Request::Connect { launch, socket } => {
                return match self.connect(launch, &socket) {
                    Ok(stream) => (Reply::Connected {}, vec![stream]),
                    Err(refused) => (Reply::Refused(refusal(refused.code(), refused)), Vec::new()),
                };
            }
            Request::SignHead { head } => match self.sign_head(&head) {
                Ok(note) => Reply::Signed { note },
                Err(why) => Reply::NotSigned { why },
            },
            Request::Kill { launch } => self.kill(launch),
            Request::Denials { launch } => self.denials(launch),
            Request::Status {} => Reply::Status(self.status()),
        };
        (reply, Vec::new())
    }

    fn set_policy(&mut self, envelope: &str) -> Result<Reply, Refusal> {
        let now = self.now();
        let bundle = judge::policy(&mut self.state, envelope, now)?;
        let reply = Reply::PolicySet { version: bundle.version(), digest: bundle.digest() };
        self.cache.clear();
        self.next = Next::None;
        self.policy = Some(bundle);
        Ok(reply)
    }

    fn launch(&mut self, request: &LaunchRequest) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        let now = self.now();
        if self.children.len() >= self.place.config.max_running {
            let text = format!("{} programs run already; stop one first", self.children.len());
            return Err(Refusal { code: const { Code::new("sandbox.launch.programs.too-many") }, text });
        }
        let sign = |launch: &_| {
            let key = self.state.receipt_key()?;
            LaunchReceipt::sign(launch, &key).map_err(|error| error.to_string())
        };
        // Also when the launch is refused: what stands ready was made before whatever is wrong now.
        let mut next = std::mem::take(&mut self.next);
        let Running { started, mut enforced, private, fds, watch, again, telling } =
            launch::launch(&mut self.place, self.policy.as_ref(), &mut self.cache, now, request, &mut next, sign)?;
        self.next = again.map_or(Next::None, Next::Wanted);
        if let (Some(recorder), Some(listening)) = (&self.recorder, enforced.listening.take())
            && let Err(lost) = recorder.watch(started.id, init_number(enforced.init), listening, telling)
        {
            // What it answered for gets `ENOSYS` from now on. The next launches are recorded by a new one, or not at all.
            let _ = enforced.kill();
            let _ = sys::wait_for(enforced.init);
            launch::remove(private.as_ref());
            self.start_recorder();
            return Err(refusal(const { Code::new("sandbox.launch.recorder.lost") }, format!("{lost}; try again")));
        }
        let pidfd = match pidfd_open(enforced.init, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(errno) => {
                let _ = enforced.kill();
                let _ = sys::wait_for(enforced.init);
                launch::remove(private.as_ref());
                return Err(refusal(const { Code::new("sandbox.launch.host.failed") }, errno));
            }
        };
        self.children.push(Child {
            id: started.id,
            init: enforced.init,
            pidfd,
            private,
            serves: started.serves,
            group: enforced.group,
            plugin: request.plugin.clone(),
            workspace: request.workspace.clone(),
            watch,
        });
        Ok((Reply::Launched(Box::new(started)), fds))
    }

    fn connect(&self, launch: LaunchId, socket: &SocketName) -> Result<OwnedFd, ConnectRefused> {
        let child = self.children.iter().find(|child| child.id == launch);
        let (folder, init) = child
            .and_then(|child| Some((child.private.as_ref().filter(|_| child.serves)?, child.init)))
            .ok_or(ConnectRefused::NoFolder)?;
        connect::to(folder, socket, init)
    }

    fn sign_head(&mut self, head: &HeadToSign) -> Result<String, SignRefused> {
        let unavailable = |reason: String| SignRefused::Unavailable { reason };
        let key = self.state.signing_key().map_err(unavailable)?;
        let signed = witness::check_and_sign(self.state.head.as_ref(), head, &key)?;
        let note = signed.note().to_owned();
        // On the disk before it is handed out: what was signed once is never forgotten.
        if self.state.head.as_ref() != Some(&signed) {
            self.state.remember_head(signed).map_err(|error| unavailable(error.to_string()))?;
        }
        Ok(note)
    }

    fn kill(&mut self, launch: LaunchId) -> Reply {
        if let Some(child) = self.children.iter().find(|child| child.id == launch) {
            child.end();
        }
        Reply::Killed {}
    }

    fn denials(&mut self, launch: LaunchId) -> Reply {
        let told = self.recorder.as_ref().map(|recorder| recorder.tell(launch));
        match told {
            Some(Ok(Told { ledger, files })) => Reply::Denials { ledger, files },
            Some(Err(lost)) => {
                self.start_recorder();
                Reply::Refused(refusal(const { Code::new("sandbox.launch.recorder.lost") }, lost))
            }
            None => {
                let text = "nothing records what programs are refused here: in posture `reduced`, or without a process for it \
                            when Sigil started";
                Reply::Refused(refusal(const { Code::new("sandbox.launch.recorder.absent") }, text))
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            policy: self.policy.as_ref().map(|policy| (policy.version(), policy.digest())),
            expires: self.policy.as_ref().map(Bundle::expires),
            floor: self.state.floor,
            host: self.place.host.clone(),
            running: self.children.iter().map(|child| child.id).collect(),
            usage: self.children.iter().map(Child::usage).collect(),
            ended: self.ended.iter().cloned().collect(),
            witnessed: self.state.head.as_ref().map_or(0, sigil_audit::SignedHead::size),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, _))) = sys::wait_any(0) {
            if let Some(at) = self.children.iter().position(|child| child.init == pid) {
                let child = self.children.swap_remove(at);
                self.end_strangers();
                self.place.growth.add(&child.plugin, &child.workspace, child.watch.grown().unwrap_or(0));
                launch::remove(child.private.as_ref());
            }
        }
    }

    /// Ends what a program without a process namespace has left: when its init was killed, its processes became this one's
    /// children.
    fn end_strangers(&self) {
        if self.place.host.posture == Reached::Reduced {
            let inits = self.children.iter().map(|child| child.init);
            let kept: Vec<Pid> = inits.chain(self.recorder.as_ref().map(|recorder| recorder.pid)).collect();
            family::end_all(&kept);
        }
    }
}

fn init_number(init: Pid) -> u32 {
    init.as_raw_nonzero().get().unsigned_abs()
}
