//! [`LauncherClient`]: how the gateway asks the launcher.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use sigil_audit::{HeadSigner, HeadToSign, SignRefused, SignedHead, VerifyKey};
use sigil_types::{Code, Digest, LaunchId, ToolFacts};

use crate::denials::Ledger;
use crate::launcher::connect::SocketName;
use crate::launcher::wire::{self, FrameFailed, LaunchRequest, Refusal, Reply, Request, Started, Status};
use crate::profile::Egress;
use crate::receipt::{Launch, LaunchReceipt, ReceiptRefused};
use crate::report::LayerReport;

/// A handle of the launcher. Clones share one connection; requests wait for each other. Calls block.
#[derive(Clone)]
pub struct LauncherClient {
    shared: Arc<Shared>,
}

struct Shared {
    socket: Mutex<OwnedFd>,
    key: VerifyKey,
    public: [u8; 32],
}

impl fmt::Debug for LauncherClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LauncherClient").field("key", &self.shared.key.to_string()).finish_non_exhaustive()
    }
}

/// A program that runs in its sandbox, as the gateway holds it.
#[derive(Debug)]
pub struct Launched {
    /// The launch.
    pub id: LaunchId,
    /// How to speak with it.
    pub rpc: Rpc,
    /// What it prints.
    pub stdout: OwnedFd,
    /// What it complains of.
    pub stderr: OwnedFd,
    /// Gives four bytes, its wait status in little-endian (waitpid(2)), when it ends; its end without them when it was
    /// killed from outside. [`ExitStatus::read`] reads it.
    pub exit: OwnedFd,
    /// The listening socket inside its network namespace, for the egress proxy.
    pub egress: Option<OwnedFd>,
    /// What the proxy lets it reach.
    pub egress_rules: Egress,
    /// The launcher's signed word, verified.
    pub receipt: LaunchReceipt,
    /// What the receipt says.
    pub launch: Launch,
    /// The layers.
    pub report: LayerReport,
    /// The label facts of its tools.
    pub facts: ToolFacts,
}

/// How to speak with a launched program.
#[derive(Debug)]
pub enum Rpc {
    /// A connected stream socket; the program has the other end as its standard input.
    Socket(OwnedFd),
    /// It makes a socket in its private folder and serves there: [`LauncherClient::connect`].
    Serves,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It was killed from outside, with everything that it had started.
    Killed,
}

impl ExitStatus {
    /// Reads what stands in [`Launched::exit`]. Blocks until the program has ended.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(exit: impl AsFd) -> std::io::Result<Self> {
        let mut bytes = [0; 4];
        loop {
            match rustix::io::read(exit.as_fd(), &mut bytes) {
                Ok(4) => return Ok(Self::from_wait(i32::from_le_bytes(bytes))),
                Ok(_) => return Ok(Self::Killed),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// From a wait status of waitpid(2).
    #[must_use]
    pub const fn from_wait(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// Why the launcher did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LaunchRefused {
    /// It refused, and says why and what to do.
    #[error(transparent)]
    Refused(Refusal),
    /// It cannot be reached.
    #[error("the launcher cannot be reached: {0}; restart Sigil")]
    Unreachable(#[from] FrameFailed),
    /// What it sent is not believed.
    #[error("the launcher's answer is not believed: {0}; restart Sigil")]
    Receipt(#[from] ReceiptRefused),
    /// It answered something else.
    #[error("the launcher answered what it was not asked; restart Sigil")]
    Nonsense,
}

impl LaunchRefused {
    /// The stable code of this refusal.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code.clone(),
            Self::Unreachable(_) => const { Code::new("sandbox.launcher.connection.lost") },
            Self::Receipt(_) => const { Code::new("sandbox.launcher.receipt.forged") },
            Self::Nonsense => const { Code::new("sandbox.launcher.answer.wrong") },
        }
    }
}

impl LauncherClient {
    pub(crate) fn new(socket: OwnedFd, key: &str, public: &str) -> Result<Self, String> {
        let key = key.parse::<VerifyKey>().map_err(|error| error.to_string())?;
        let digest: Digest = format!("sha256:{public}").parse().map_err(|_| "its key has no 32 bytes".to_owned())?;
        Ok(Self { shared: Arc::new(Shared { socket: Mutex::new(socket), key, public: *digest.as_bytes() }) })
    }

    /// The 32 bytes of the Ed25519 key that checks launch receipts.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.shared.public
    }

    fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), LaunchRefused> {
        let socket = self.shared.socket.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(socket.as_fd(), request, &[])?;
        match wire::receive_reply(&socket)? {
            (Reply::Refused(refusal), _) => Err(LaunchRefused::Refused(refusal)),
            other => Ok(other),
        }
    }

    /// Sends `bytes` as they are, and receives what is answered: what a hostile gateway could do, for tests of exactly that.
    ///
    /// # Errors
    /// [`FrameFailed::Closed`] when the launcher has ended the connection.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<(Reply, Vec<OwnedFd>), FrameFailed> {
        let socket = self.shared.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = crate::sys::send_with_fds(socket.as_fd(), rest, &[])?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        wire::receive_reply(&socket)
    }

    /// Gives the launcher a signed policy; returns its version and digest.
    ///
    /// # Errors
    /// When it is not accepted: signature, validity, rollback. The former one stays in force.
    pub fn set_policy(&self, envelope: &str) -> Result<(u64, Digest), LaunchRefused> {
        match self.ask(&Request::SetPolicy { envelope: envelope.to_owned() })?.0 {
            Reply::PolicySet { version, digest } => Ok((version, digest)),
            _ => Err(LaunchRefused::Nonsense),
        }
    }

    /// Starts a plugin.
    ///
    /// # Errors
    /// [`LaunchRefused`]; then nothing of it has run.
    pub fn launch(&self, request: &LaunchRequest) -> Result<Launched, LaunchRefused> {
        let (reply, fds) = self.ask(&Request::Launch(Box::new(request.clone())))?;
        let Reply::Launched(started) = reply else { return Err(LaunchRefused::Nonsense) };
        let Started { id, receipt, report, facts, egress, serves } = *started;
        let launch = receipt.verify(&self.shared.public)?;
        let signed = (&launch.plugin, &launch.instance, &launch.workspace, &launch.policy, &launch.tree);
        let asked = (&request.plugin, &request.instance, &request.workspace, &request.policy, &request.tree);
        if signed != asked || launch.id != id || launch.layers != report || launch.facts != facts {
            return Err(LaunchRefused::Nonsense);
        }
        let mut fds = fds.into_iter();
        let (Some(stdout), Some(stderr), Some(exit)) = (fds.next(), fds.next(), fds.next()) else {
            return Err(LaunchRefused::Nonsense);
        };
        let rpc = if serves { Rpc::Serves } else { Rpc::Socket(fds.next().ok_or(LaunchRefused::Nonsense)?) };
        let egress_rules = egress;
        Ok(Launched { id, rpc, stdout, stderr, exit, egress: fds.next(), egress_rules, receipt, launch, report, facts })
    }

    /// Connects to the socket `socket` that the launched program serves on in its private folder. The launcher has made sure
    /// that it is the program who serves there. The connection does not block.
    ///
    /// # Errors
    /// When there is no such socket, somebody else serves on it, or the program does not run.
    pub fn connect(&self, launch: LaunchId, socket: SocketName) -> Result<OwnedFd, LaunchRefused> {
        match self.ask(&Request::Connect { launch, socket })? {
            (Reply::Connected {}, fds) => fds.into_iter().next().ok_or(LaunchRefused::Nonsense),
            _ => Err(LaunchRefused::Nonsense),
        }
    }

    /// Kills a launched program and everything that it started. No error when it has ended.
    ///
    /// # Errors
    /// When the launcher cannot be reached.
    pub fn kill(&self, launch: LaunchId) -> Result<(), LaunchRefused> {
        match self.ask(&Request::Kill { launch })?.0 {
            Reply::Killed {} => Ok(()),
            _ => Err(LaunchRefused::Nonsense),
        }
    }

    /// What was refused to a launched program, and whether files are among it; nothing when the launch was long ago.
    ///
    /// # Errors
    /// When nothing is recorded here, or the launcher cannot be reached.
    pub fn denials(&self, launch: LaunchId) -> Result<(Ledger, bool), LaunchRefused> {
        match self.ask(&Request::Denials { launch })?.0 {
            Reply::Denials { ledger, files } => Ok((ledger, files)),
            _ => Err(LaunchRefused::Nonsense),
        }
    }

    /// How the launcher is.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn status(&self) -> Result<Status, LaunchRefused> {
        match self.ask(&Request::Status {})?.0 {
            Reply::Status(status) => Ok(status),
            _ => Err(LaunchRefused::Nonsense),
        }
    }
}

impl HeadSigner for LauncherClient {
    fn key(&self) -> VerifyKey {
        self.shared.key.clone()
    }

    fn sign(&self, head: &HeadToSign) -> Result<SignedHead, SignRefused> {
        let unavailable = |reason: String| SignRefused::Unavailable { reason };
        match self.ask(&Request::SignHead { head: head.clone() }) {
            Ok((Reply::Signed { note }, _)) => {
                let signed: SignedHead = note.parse().map_err(|error| unavailable(format!("{error}")))?;
                let matches = signed.size() == head.size && *signed.root() == head.root;
                if matches && signed.signed_by(&self.shared.key) {
                    Ok(signed)
                } else {
                    Err(unavailable("the launcher signed something else".to_owned()))
                }
            }
            Ok((Reply::NotSigned { why }, _)) => Err(why),
            Ok(_) => Err(unavailable("the launcher answered what it was not asked".to_owned())),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}
