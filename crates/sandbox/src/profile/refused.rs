//! [`CompileRefused`]: why there is no profile.

use std::path::PathBuf;

use sigil_types::{Code, Digest, Name, PluginName};

use super::Posture;
use super::base::LoadBase;
use super::never::Never;
use crate::host::Reached;

/// Why there is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileRefused {
    /// The signed policy does not know the plugin.
    #[error("the signed policy has no entry for plugin {0}; add [plugins.{0}] to ceilings.toml and sign it")]
    UnknownPlugin(PluginName),
    /// The signed policy endorses other trees of the plugin.
    #[error(
        "the signed policy does not endorse this version of plugin {plugin} ({tree}); review it, add the digest to \
         plugins.{plugin}.trees and sign"
    )]
    TreeNotEndorsed {
        /// Which plugin.
        plugin: PluginName,
        /// The digest of its files.
        tree: Digest,
    },
    /// The base profile cannot be had.
    #[error(transparent)]
    Base(#[from] LoadBase),
    /// A path that is never granted.
    #[error("{path} is never granted: {why} (wanted by {from}); name a narrower folder, or leave it out")]
    NeverGranted {
        /// Which.
        path: PathBuf,
        /// Who named it.
        from: String,
        /// Why not.
        why: Never,
    },
    /// A path that covers what the sandbox puts in the same place.
    #[error("{path} cannot be granted: the sandbox has its own {own} there; use a folder elsewhere")]
    Covers {
        /// Which.
        path: PathBuf,
        /// What is there.
        own: PathBuf,
    },
    /// A launch wants a folder that is not granted.
    #[error(
        "{path} is not in a folder that the signed policy grants as `{name}`; choose one of those, or a folder in one"
    )]
    BeyondGrant {
        /// The manifest's parameter.
        name: Name,
        /// Which.
        path: PathBuf,
    },
    /// A launch sets a parameter that the manifest does not have.
    #[error("plugin {plugin} has no folder parameter `{name}`; see execution.sandbox.filesystem of its plugin.yaml")]
    UnknownParameter {
        /// Which plugin.
        plugin: PluginName,
        /// The parameter.
        name: Name,
    },
    /// A go-plugin program without the folder for its socket.
    #[error("plugin {0} serves on a Unix socket, and this launch has no private folder for it")]
    NoPrivateFolder(PluginName),
    /// A program that makes Unix sockets, with folders and a network. Each alone holds: its own socket is of the kind that
    /// connects to the sockets of others by path, and what connects to a proxy connects to those, too, also on a read-only
    /// mount.
    #[error(
        "{0}, and would have folders and a network: so it could call every Unix socket in those folders. Grant it one of \
         the two, or use another program"
    )]
    SocketsInReach(String),
    /// The host gives less than the signed policy asks for.
    #[error(
        "refused: the signed policy lets plugin {plugin} run in posture {floor} or stronger, and this host gives {reached}; \
         `sigil doctor` names what is missing and what to do"
    )]
    BelowFloor {
        /// Which plugin.
        plugin: PluginName,
        /// The weakest posture that it may run in.
        floor: Posture,
        /// What there is.
        reached: Reached,
    },
    /// Hosts in posture `reduced`.
    #[error(
        "refused: this host gives posture reduced, in which a program reaches no network, and hosts are granted. Run Sigil \
         where it can make namespaces (`sigil doctor` says how), or take the hosts out of the signed policy"
    )]
    ReducedEgress,
    /// A go-plugin program in posture `reduced`.
    #[error(
        "refused: this host gives posture reduced, in which no program may make a socket, and plugin {0} serves on one \
         (transport go-plugin). Run Sigil where it can make namespaces (`sigil doctor` says how), or use a plugin with the \
         transport sdk"
    )]
    ReducedTransport(PluginName),
    /// No folder for what would lie in memory.
    #[error("in posture reduced a program needs a folder of its own for its temporary files, and this launch has none")]
    NoScratch,
    /// TLS is to be ended, and nobody said with whose certificates.
    #[error(
        "TLS is to be ended for plugin {0}, and this launch has no certificate authority for it to trust; restart Sigil"
    )]
    NoAuthority(PluginName),
    /// The plugin needs this machine's own authorities beside, and there is no bundle of them.
    #[error(
        "plugin {0} reaches hosts whose TLS is ended and others, and this machine has no readable bundle of certificate \
         authorities; install the package ca-certificates"
    )]
    NoRoots(PluginName),
    /// An identity of root.
    #[error("a program in the sandbox is never root, inside or outside; give it an unprivileged user and group id")]
    Root,
    /// A folder to execute from and to change.
    #[error(
        "{0} would be executable and writable: programs that were started there could change others; name two folders"
    )]
    WritableCode(PathBuf),
    /// A path that is to be granted and hidden.
    #[error("{path} is granted by {granted} and hidden by {hidden}; leave one out")]
    GrantedAndHidden {
        /// Which.
        path: PathBuf,
        /// What grants it.
        granted: String,
        /// What hides it.
        hidden: String,
    },
    /// A posture that gives less than the base profile asks for.
    #[error("posture {asked} is less than the base profile `{base}` needs ({least})")]
    Posture {
        /// What was asked for.
        asked: Posture,
        /// The base profile.
        base: String,
        /// What it needs.
        least: Posture,
    },
    /// A text with a NUL, which ends texts for the kernel.
    #[error("{0} contains a NUL character")]
    Nul(&'static str),
}

impl CompileRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownPlugin(_) => Code::new("sandbox.profile.plugin.unknown"),
            Self::TreeNotEndorsed { .. } => Code::new("sandbox.profile.tree.not-endorsed"),
            Self::Base(error) => error.code(),
            Self::NeverGranted { .. } => Code::new("sandbox.profile.path.never-granted"),
            Self::Covers { .. } => Code::new("sandbox.profile.path.taken"),
            Self::BeyondGrant { .. } => Code::new("sandbox.profile.path.beyond-grant"),
            Self::UnknownParameter { .. } => Code::new("sandbox.profile.parameter.unknown"),
            Self::NoPrivateFolder(_) => Code::new("sandbox.profile.private.missing"),
            Self::SocketsInReach(_) => Code::new("sandbox.profile.sockets.in-reach"),
            Self::BelowFloor { .. } => Code::new("sandbox.posture.floor.unmet"),
            Self::ReducedEgress => Code::new("sandbox.posture.egress.refused"),
            Self::ReducedTransport(_) => Code::new("sandbox.posture.transport.refused"),
            Self::NoScratch => Code::new("sandbox.posture.scratch.missing"),
            Self::NoAuthority(_) => Code::new("sandbox.profile.authority.missing"),
            Self::NoRoots(_) => Code::new("sandbox.profile.roots.missing"),
            Self::WritableCode(_) => Code::new("sandbox.profile.path.writable-code"),
            Self::GrantedAndHidden { .. } => Code::new("sandbox.profile.path.contradiction"),
            Self::Posture { .. } => Code::new("sandbox.profile.posture.less"),
            Self::Root => Code::new("sandbox.profile.identity.root"),
            Self::Nul(_) => Code::new("sandbox.profile.text.nul"),
        }
    }
}
