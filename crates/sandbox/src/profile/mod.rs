//! [`Profile`]: all that a program gets in its sandbox, as plain data; what is not in it, the program does not have.
//!
//! A profile is made by [`compile`](crate::profile) from a manifest, a base profile and the signed ceilings, and applied by
//! the launcher. It holds no handles and nothing secret beyond `env`; its canonical JSON is what a launch receipt digests.

pub mod base;
mod command;
mod compile;
mod ended;
mod explain;
mod extends;
mod facts;
mod grants;
mod limits;
mod never;
mod pins;
mod posture;
mod proxy;
pub mod recorded;
mod reduced;
mod refused;
pub mod seccomp;
mod shortcuts;
pub mod syscalls;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sigil_types::Digest;

pub use command::{CommandAsk, Mask, MaskKind, Wish, compile_command};
pub use compile::{Compiled, Egress, PROXY_PORT, Params, Site, TREE, compile, compile_with, reduce};
pub use ended::{Authority, ParseAuthority, ended_hosts, system_roots};
pub use explain::{EffectiveRule, Explanation, RuleKind, Source, StruckOut};
pub use facts::is_shared;
pub(crate) use never::GUARDED;
pub use never::{Never, NeverGrant, Relation};
pub use posture::{Posture, floor};
pub(crate) use proxy::with_proxy;
pub use refused::CompileRefused;
pub use seccomp::FilterData;

/// Everything that a program gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it was compiled from: the base profile's name, for people.
    pub name: String,
    /// How much of the sandbox must be there.
    pub posture: Posture,
    /// Layers without which the launch is refused.
    pub required: BTreeSet<Layer>,
    /// Layers left out on purpose.
    ///
    /// INVARIANT: empty, except for the launcher's own embedded probe: the launcher refuses any other program with it.
    pub ablated: BTreeSet<Layer>,
    /// The namespaces to make.
    pub namespaces: BTreeSet<Namespace>,
    /// Who the program is.
    pub identity: Identity,
    /// The program.
    pub exec: Exec,
    /// The host's files and folders in the new root, in mounting order (a parent before what is inside it).
    pub binds: Vec<Bind>,
    /// Files and folders of the binds that are covered: a folder by an empty one, a file by one that nobody may read. What is
    /// bound below such a folder appears in the empty one. In order of their paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<PathBuf>,
    /// Files that are made in the new root.
    pub files: Vec<SyntheticFile>,
    /// Private file systems in memory; the first one is not the root, whose size is `root_bytes`.
    pub tmpfs: Vec<Tmpfs>,
    /// In posture `reduced`, the folder of the host that stands in for the private temporary one: made for one launch, and
    /// removed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
    /// Size of the new root itself, which is read-only once built, in bytes.
    pub root_bytes: u64,
    /// What of `/proc` is there.
    pub proc: ProcMode,
    /// The device nodes of `/dev`.
    pub devices: BTreeSet<Device>,
    /// What of the network is there.
    pub network: Network,
    /// The name of the machine, as the program sees it.
    pub hostname: String,
    /// Limits of the process (`setrlimit(2)`) and of its control group.
    pub limits: Limits,
    /// Landlock rules beside the binds.
    pub landlock: Landlock,
    /// The system calls.
    pub seccomp: FilterData,
}

impl Profile {
    /// The digest of the profile's JSON, as it stands in launch receipts.
    ///
    /// # Errors
    /// When a path in it is not UTF-8, which no compiled profile has.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        serde_json::to_vec(self).map(|json| Digest::of(&json))
    }
}

/// One mechanism that confines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// No file descriptor is inherited but those that are meant to be.
    Descriptors,
    /// The environment is built from nothing.
    Environment,
    /// A session of its own, without a terminal.
    Session,
    /// The program dies with its launcher.
    ParentDeath,
    /// `setrlimit(2)`.
    Rlimits,
    /// A user namespace in which the program is not root.
    UserNs,
    /// A mount namespace with a root of its own.
    MountNs,
    /// A process namespace.
    PidNs,
    /// A namespace for System V and POSIX message queues.
    IpcNs,
    /// A namespace for the name of the machine.
    UtsNs,
    /// A network namespace.
    NetNs,
    /// A control group namespace.
    CgroupNs,
    /// Limits of a control group, version 2.
    Cgroup,
    /// An identity without privileges, when launched by root.
    Identity,
    /// No capabilities, in none of the five sets.
    Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs,
    /// Landlock.
    Landlock,
    /// The system call filter.
    Seccomp,
    /// The proxy, which lets only named hosts through.
    Proxy,
}

impl std::fmt::Display for Layer {
    /// The word that profiles and reports use.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// `CLONE_NEWUSER`.
    User,
    /// `CLONE_NEWNS`.
    Mount,
    /// `CLONE_NEWPID`.
    Pid,
    /// `CLONE_NEWIPC`.
    Ipc,
    /// `CLONE_NEWUTS`.
    Uts,
    /// `CLONE_NEWNET`.
    Net,
    /// `CLONE_NEWCGROUP`.
    Cgroup,
}

/// The user and group of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The user id inside the namespace. Never 0.
    pub uid: u32,
    /// The group id inside the namespace. Never 0.
    pub gid: u32,
    /// The user id outside, when the launcher is root: an ordinary user keeps its own. Never 0.
    pub host_uid: u32,
    /// The group id outside, when the launcher is root. Never 0.
    pub host_gid: u32,
}

/// What is executed, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The executable, as the program's own root names it.
    pub path: PathBuf,
    /// The argument vector; the first one is the program's name.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The working directory, in the program's own root.
    pub cwd: PathBuf,
}

/// One file or folder of the host in the new root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// Where it is on the host: absolute and canonical.
    pub source: PathBuf,
    /// Where it appears.
    pub target: PathBuf,
    /// What may be done with it.
    pub access: Access,
    /// Whether a launch goes on without it.
    #[serde(default)]
    pub optional: bool,
    /// What happens when the source is a symbolic link.
    #[serde(default)]
    pub link: LinkRule,
}

/// What may be done with a bound path. Set user id and device nodes never work there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read files and list folders.
    Read,
    /// Read and execute.
    Exec,
    /// Read, write, make, rename and remove; not execute.
    Write,
    /// As [`Access::Write`], and make pipes and sockets. For private folders, which only this program and Sigil see.
    Scratch,
}

/// What happens when the source of a bind is a symbolic link. Links on the way to it are always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkRule {
    /// The launch is refused.
    #[default]
    Refuse,
    /// The same link is made in the new root, and not followed. For `/bin`, `/lib64` and the like on a merged `/usr`.
    Remake,
}

/// A read-only file that exists only in the new root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticFile {
    /// Where it appears.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

/// A private file system in memory, with [`Access::Scratch`]: without executables, set user id or devices.
///
/// What is granted below its path is mounted into it. There Landlock, whose rules reach down through mounts, gives no less than
/// on the file system itself; that a grant is to read only is then held by its mount alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Where it appears.
    pub path: PathBuf,
    /// Its size, in bytes.
    pub bytes: u64,
    /// How many files and folders it may have.
    pub inodes: u64,
}

/// A folder of the host for one launch. Nothing mounts it, so its size is looked at from outside, and the program is killed
/// when there is too much in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// Where it is.
    pub path: PathBuf,
    /// How much it may hold, in bytes.
    pub bytes: u64,
    /// How many files and folders it may have.
    pub inodes: u64,
}

/// What of `/proc` is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcMode {
    /// Nothing.
    None,
    /// The processes of the namespace only: `hidepid=invisible,subset=pid`.
    Pids,
}

/// A device node of `/dev`, bound from the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// `/dev/null`.
    Null,
    /// `/dev/zero`.
    Zero,
    /// `/dev/full`.
    Full,
    /// `/dev/random`.
    Random,
    /// `/dev/urandom`.
    Urandom,
    /// `/dev/tty`: the terminal of one's own session, which is never a person's. Only with one.
    Tty,
}

impl Device {
    /// The name below `/dev`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Zero => "zero",
            Self::Full => "full",
            Self::Random => "random",
            Self::Urandom => "urandom",
            Self::Tty => "tty",
        }
    }
}

/// What of the network is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing at all.
    None,
    /// A loopback interface with one listener, on 127.0.0.1 and this port, whose other end is the egress proxy.
    Proxy(u16),
}

/// Limits of the process and of its control group. An absent one is not set (the launcher's own stays).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `RLIMIT_CORE`, in bytes.
    pub core_bytes: Option<u64>,
    /// `RLIMIT_NOFILE`, how many.
    pub open_files: Option<u64>,
    /// `RLIMIT_FSIZE`, in bytes.
    pub file_bytes: Option<u64>,
    /// `RLIMIT_NPROC`, how many; counted per user inside its namespace.
    pub processes: Option<u64>,
    /// `RLIMIT_DATA`: private writable memory, in bytes.
    pub data_bytes: Option<u64>,
    /// `RLIMIT_AS`, in bytes.
    pub address_space_bytes: Option<u64>,
    /// `RLIMIT_STACK`, in bytes.
    pub stack_bytes: Option<u64>,
    /// `RLIMIT_MEMLOCK`, in bytes.
    pub locked_bytes: Option<u64>,
    /// `RLIMIT_MSGQUEUE`, in bytes.
    pub message_queue_bytes: Option<u64>,
    /// `RLIMIT_RTPRIO`.
    pub realtime_priority: Option<u64>,
    /// `RLIMIT_NICE` (20 − the lowest nice value).
    pub nice: Option<u64>,
    /// `RLIMIT_CPU`, in seconds.
    pub cpu_seconds: Option<u64>,
    /// `RLIMIT_SIGPENDING`, how many.
    pub pending_signals: Option<u64>,
    /// `memory.max` of the control group, in bytes; swap is off.
    pub cgroup_memory_bytes: Option<u64>,
    /// `pids.max` of the control group.
    pub cgroup_processes: Option<u64>,
    /// `cpu.max` of the control group, in hundredths of one processor.
    pub cgroup_cpu_percent: Option<u64>,
    /// How long the program may live, in seconds.
    pub wall_seconds: Option<u64>,
    /// How much the folders that it may write may grow while it lives, all together, in bytes.
    pub disk_bytes: Option<u64>,
}

/// The Landlock domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Landlock {
    /// The rights that are denied unless a rule grants them, by name. One that the kernel does not know is reported; a
    /// launch is refused when it is also in `required`.
    pub handled: BTreeSet<Right>,
    /// The rights that the kernel must know.
    pub required: BTreeSet<Right>,
    /// The oldest version of the kernel's interface that will do.
    pub least_abi: u32,
}

/// A Landlock right or scope (`linux/landlock.h`), by name: numbers change their meaning with the kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the kernel's own, and are explained in its documentation")]
pub enum Right {
    Execute,
    WriteFile,
    ReadFile,
    ReadDir,
    RemoveDir,
    RemoveFile,
    MakeChar,
    MakeDir,
    MakeReg,
    MakeSock,
    MakeFifo,
    MakeBlock,
    MakeSym,
    Refer,
    Truncate,
    IoctlDev,
    BindTcp,
    ConnectTcp,
    ScopeAbstractUnix,
    ScopeSignal,
}

impl Right {
    /// Every right, oldest first.
    pub const ALL: [Self; 20] = [
        Self::Execute,
        Self::WriteFile,
        Self::ReadFile,
        Self::ReadDir,
        Self::RemoveDir,
        Self::RemoveFile,
        Self::MakeChar,
        Self::MakeDir,
        Self::MakeReg,
        Self::MakeSock,
        Self::MakeFifo,
        Self::MakeBlock,
        Self::MakeSym,
        Self::Refer,
        Self::Truncate,
        Self::IoctlDev,
        Self::BindTcp,
        Self::ConnectTcp,
        Self::ScopeAbstractUnix,
        Self::ScopeSignal,
    ];

    /// The version of the kernel's interface that brought it.
    #[must_use]
    pub const fn since(self) -> u32 {
        match self {
            Self::Refer => 2,
            Self::Truncate => 3,
            Self::BindTcp | Self::ConnectTcp => 4,
            Self::IoctlDev => 5,
            Self::ScopeAbstractUnix | Self::ScopeSignal => 6,
            _ => 1,
        }
    }
}

impl Access {
    /// The Landlock rights on a bound path. Files take the part of them that files have.
    #[must_use]
    pub const fn rights(self) -> &'static [Right] {
        match self {
            Self::Read => &[Right::ReadFile, Right::ReadDir],
            Self::Exec => &[Right::ReadFile, Right::ReadDir, Right::Execute],
            Self::Write => &[
                Right::ReadFile,
                Right::ReadDir,
                Right::WriteFile,
                Right::Truncate,
                Right::MakeReg,
                Right::MakeDir,
                Right::MakeSym,
                Right::RemoveFile,
                Right::RemoveDir,
                Right::Refer,
            ],
            Self::Scratch => &[
                Right::ReadFile,
                Right::ReadDir,
                Right::WriteFile,
                Right::Truncate,
                Right::MakeReg,
                Right::MakeDir,
                Right::MakeSym,
                Right::MakeFifo,
                Right::MakeSock,
                Right::RemoveFile,
                Right::RemoveDir,
                Right::Refer,
            ],
        }
    }
}
