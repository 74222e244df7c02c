//! What gateway and launcher say to each other: frames of JSON over a stream socket.
//!
//! A frame is the four bytes `SGL1`, the length of what follows as four bytes little-endian, and that many bytes of JSON,
//! which is one [`Request`] or [`Reply`]. Unknown fields, unknown words and longer frames are refused; a frame that is
//! malformed ends the connection, and with it the launcher and all that it started. Descriptors travel from the launcher
//! to the gateway only, beside the first bytes of a reply, in the order that [`Reply::Launched`] names.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sigil_audit::{HeadToSign, SignRefused};
use sigil_types::{Code, Digest, InstanceId, LaunchId, PluginName, Timestamp, ToolFacts, WorkspaceId};

use super::connect::SocketName;
use super::watch::Excess;
use crate::cgroup::Usage;
use crate::denials::Ledger;
use crate::host::Host;
use crate::profile::{Egress, Params};
use crate::receipt::LaunchReceipt;
use crate::report::LayerReport;
use crate::sys;

/// Longest frame from the gateway, in bytes: a policy envelope of 4 MiB, as a JSON string.
pub const MAX_REQUEST_BYTES: usize = 10 << 20;
/// Longest frame from the launcher, in bytes.
pub const MAX_REPLY_BYTES: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"SGL1";

/// What the gateway may ask for. There is nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Take a signed policy.
    SetPolicy {
        /// The envelope's text.
        envelope: String,
    },
    /// Start a plugin.
    Launch(Box<LaunchRequest>),
    /// Connect to the socket that a program serves on.
    Connect {
        /// Which program.
        launch: LaunchId,
        /// The socket's name in the program's private folder.
        socket: SocketName,
    },
    /// Sign the head of the audit log.
    SignHead {
        /// The head.
        head: HeadToSign,
    },
    /// Kill a launched program and everything that it started.
    Kill {
        /// Which.
        launch: LaunchId,
    },
    /// Say what was refused to a launched program, also after its end.
    Denials {
        /// Which.
        launch: LaunchId,
    },
    /// Say how things are.
    Status {},
}

/// What a launch is asked with: names and digests, and the closed list of what may be chosen. No path of a program, no
/// argument, no variable, no profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// Which plugin.
    pub plugin: PluginName,
    /// As which instance.
    pub instance: InstanceId,
    /// For which workspace.
    pub workspace: WorkspaceId,
    /// The digest of the policy that the gateway goes by; a launch under another one is refused.
    pub policy: Digest,
    /// The text of the plugin's manifest; it must be the one in the tree.
    pub manifest: String,
    /// The digest of the plugin's file tree.
    pub tree: Digest,
    /// What may be chosen: less than what is granted.
    #[serde(default)]
    pub params: Params,
}

/// What the launcher answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The first frame, unasked: the launcher is ready.
    Ready {
        /// The process id of the launcher.
        pid: i32,
        /// The key with which it signs audit heads, as a C2SP verifier key; its 32 bytes also check launch receipts.
        key: String,
        /// Those 32 bytes, 64 hexadecimal digits.
        public: String,
        /// The lowest policy version that it accepts.
        floor: u64,
    },
    /// The policy is in force.
    PolicySet {
        /// Its version.
        version: u64,
        /// Its digest.
        digest: Digest,
    },
    /// The program runs. Descriptors: output, errors, exit, the RPC socket unless it serves on one of its own, and the egress
    /// listener if there is one.
    Launched(Box<Started>),
    /// The connection. Descriptor: a connected stream socket that does not block.
    Connected {},
    /// The signed head.
    Signed {
        /// The C2SP checkpoint.
        note: String,
    },
    /// The head was not signed.
    NotSigned {
        /// Why.
        why: SignRefused,
    },
    /// It was killed, or had ended.
    Killed {},
    /// What was refused to it.
    Denials {
        /// What.
        ledger: Ledger,
        /// Whether files that were refused are among it: that needs the kernel's audit records.
        files: bool,
    },
    /// How things are.
    Status(Status),
    /// No.
    Refused(Refusal),
}

/// A started program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The launch.
    pub id: LaunchId,
    /// The launcher's signed word.
    pub receipt: LaunchReceipt,
    /// The layers.
    pub report: LayerReport,
    /// The label facts of its tools.
    pub facts: ToolFacts,
    /// What the egress proxy lets it reach.
    pub egress: Egress,
    /// Whether it serves on a socket of its own, in its private folder ([`Request::Connect`]).
    pub serves: bool,
}

/// How the launcher is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Version and digest of the policy in force.
    pub policy: Option<(u64, Digest)>,
    /// Until when it is valid.
    pub expires: Option<Timestamp>,
    /// The lowest policy version that is accepted.
    pub floor: u64,
    /// What the machine gives of the sandbox.
    pub host: Host,
    /// The programs that run.
    pub running: Vec<LaunchId>,
    /// What each of them uses.
    pub usage: Vec<LaunchUsage>,
    /// The programs that were ended last because they used more than they may, the latest at the end.
    pub ended: Vec<Ended>,
    /// Entries of the last audit head that was signed.
    pub witnessed: u64,
}

/// What one running program uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchUsage {
    /// Which launch.
    pub launch: LaunchId,
    /// Of which plugin.
    pub plugin: PluginName,
    /// What.
    pub usage: Usage,
}

/// A program that was ended for using too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Which launch.
    pub launch: LaunchId,
    /// Of which plugin.
    pub plugin: PluginName,
    /// Of what.
    pub excess: Excess,
}

/// A request that was not carried out: what, why, and what to do, in one text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{text}")]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// For people.
    pub text: String,
}

/// Why a frame could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum FrameFailed {
    /// The other side is gone.
    #[error("the other side has closed the connection")]
    Closed,
    /// Not a frame, or too long a one.
    #[error("not a frame of this protocol: {0}")]
    Form(&'static str),
    /// Not the JSON that it should be.
    #[error("the frame cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The kernel's answer.
    #[error("the socket failed: {0}")]
    Socket(#[from] Errno),
}

impl Request {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`FrameFailed`] for everything that is not exactly one request.
    pub fn parse(body: &[u8]) -> Result<Self, FrameFailed> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(FrameFailed::Form("longer than 10 MiB"));
        }
        Ok(serde_json::from_slice(body)?)
    }
}

/// Sends one frame, with `fds` beside its first byte.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameFailed> {
    let mut frame = MAGIC.to_vec();
    frame.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 8).map_err(|_| FrameFailed::Form("longer than 4 GiB"))?;
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    let mut sent = sys::send_with_fds(socket, &frame, fds)?;
    while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += sys::send_with_fds(socket, rest, &[])?;
    }
    Ok(())
}

fn fill(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(), FrameFailed> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // read(2), not recvmsg(2): descriptors that come with the bytes are discarded by the kernel.
        match rustix::io::read(socket, rest) {
            Ok(0) => return Err(FrameFailed::Closed),
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Err(FrameFailed::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn body_of(socket: BorrowedFd<'_>, header: [u8; 8], limit: usize) -> Result<Vec<u8>, FrameFailed> {
    let [m0, m1, m2, m3, l0, l1, l2, l3] = header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(FrameFailed::Form("the first bytes are not SGL1"));
    }
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameFailed::Form("the frame is too long"));
    }
    let mut body = vec![0; length];
    fill(socket, &mut body)?;
    Ok(body)
}

/// Receives the body of one request. No descriptor is taken.
pub(super) fn receive_request(socket: BorrowedFd<'_>) -> Result<Vec<u8>, FrameFailed> {
    let mut header = [0; 8];
    fill(socket, &mut header)?;
    body_of(socket, header, MAX_REQUEST_BYTES)
}

/// Receives one reply and the descriptors that came with it.
pub(crate) fn receive_reply(socket: &OwnedFd) -> Result<(Reply, Vec<OwnedFd>), FrameFailed> {
    receive(socket)
}

/// Receives one message of Sigil's own processes and the descriptors that came with it.
pub(super) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Result<(T, Vec<OwnedFd>), FrameFailed> {
    let mut header = [0; 8];
    let (read, fds) = sys::receive_with_fds(socket.as_fd(), &mut header)?;
    if read == 0 {
        return Err(FrameFailed::Closed);
    }
    if let Some(rest) = header.get_mut(read..) {
        fill(socket.as_fd(), rest)?;
    }
    let body = body_of(socket.as_fd(), header, MAX_REPLY_BYTES)?;
    Ok((serde_json::from_slice(&body)?, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_requests_are_read() {
        assert_eq!(Request::parse(br#"{"ask":"status"}"#).unwrap(), Request::Status {});
        let launch = r#"{"ask":"launch","plugin":"files","instance":"pl_01ARZ3NDEKTSV4RRFFQ69G5FAV","workspace":"home",
            "policy":"@","manifest":"name: files","tree":"@","params":{"folders":{"docs":["/srv/docs"]}}}"#
            .replace('@', &Digest::of(b"x").to_string());
        assert!(matches!(Request::parse(launch.as_bytes()).unwrap(), Request::Launch(_)));
        for bad in [
            "".to_owned(),
            "{}".to_owned(),
            r#"{"ask":"status","more":1}"#.to_owned(),
            r#"{"ask":"exec","argv":["/bin/sh"]}"#.to_owned(),
            r#"{"ask":"status"} {"ask":"status"}"#.to_owned(),
            launch.replace("\"manifest\"", "\"argv\":[\"sh\"],\"manifest\""),
            launch.replace("\"folders\"", "\"profile\":\"none\",\"folders\""),
            launch.replace("files\",", "../files\","),
            launch.replace("home", "Home/.."),
            "[".repeat(100_000),
        ] {
            assert!(Request::parse(bad.as_bytes()).is_err(), "{bad:.80}");
        }
        assert!(Request::parse(&vec![b' '; MAX_REQUEST_BYTES + 1]).is_err());
    }

    const SAMPLES: [&str; 6] = [
        r#"{"ask":"status"}"#,
        r#"{"ask":"set_policy","envelope":"{}"}"#,
        r#"{"ask":"kill","launch":"la_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#,
        r#"{"ask":"connect","launch":"la_01ARZ3NDEKTSV4RRFFQ69G5FAV","socket":"plugin123"}"#,
        r#"{"ask":"sign_head","head":{"size":1,"root":"@","previous":0,"proof":["@"]}}"#,
        r#"{"ask":"launch","plugin":"files","instance":"pl_01ARZ3NDEKTSV4RRFFQ69G5FAV","workspace":"home","policy":"@",
            "manifest":"name: files","tree":"@","params":{"folders":{"docs":["/srv/docs"]}}}"#,
    ];

    fn pair() -> (OwnedFd, OwnedFd) {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn descriptors_from_the_gateway_are_never_taken() {
        let (ours, theirs) = pair();
        let body = br#"{"ask":"status"}"#;
        let frame = [&MAGIC[..], &u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat();
        // When nobody has a pipe's other end any more, the pipe says so.
        let (read, write) = std::io::pipe().unwrap();
        let fds = [write.as_fd(), write.as_fd()];
        assert_eq!(sys::send_with_fds(theirs.as_fd(), &frame, &fds).unwrap(), frame.len());
        drop(write);
        assert_eq!(receive_request(ours.as_fd()).unwrap(), body);
        let mut pipe = [rustix::event::PollFd::new(&read, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut pipe, None).unwrap();
        assert!(pipe[0].revents().contains(rustix::event::PollFlags::HUP), "every copy of its other end is closed");
    }

    #[test]
    fn a_frame_that_is_cut_or_too_long_ends_the_connection() {
        let body = br#"{"ask":"status"}"#;
        let frame = [&MAGIC[..], &u32::try_from(body.len()).unwrap().to_le_bytes(), body].concat();
        for length in 0..frame.len() {
            let (ours, theirs) = pair();
            sys::send_with_fds(theirs.as_fd(), &frame[..length], &[]).unwrap();
            drop(theirs);
            assert!(matches!(receive_request(ours.as_fd()), Err(FrameFailed::Closed)), "{length} bytes");
        }
        let long = u32::try_from(MAX_REQUEST_BYTES + 1).unwrap().to_le_bytes();
        for header in [[MAGIC, long], [MAGIC, [0xff; 4]], [*b"SGL2", [0; 4]], [*b"GET ", *b"/ HT"]] {
            let (ours, theirs) = pair();
            sys::send_with_fds(theirs.as_fd(), &header.concat(), &[]).unwrap();
            assert!(matches!(receive_request(ours.as_fd()), Err(FrameFailed::Form(_))), "{header:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_understood_means_the_same_when_written_again(
            sample in 0_usize..6, at in 0_usize..600, byte: u8, cut in 0_usize..600,
        ) {
            let mut bytes = SAMPLES[sample].replace('@', &Digest::of(b"x").to_string()).into_bytes();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if cut < 300 {
                bytes.truncate(cut);
            }
            if let Ok(request) = Request::parse(&bytes) {
                let written = serde_json::to_vec(&request).unwrap();
                proptest::prop_assert_eq!(Request::parse(&written).unwrap(), request);
            }
        }
    }
}
