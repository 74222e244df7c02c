//! [`Prepared`]: a profile, checked, with everything computed that can be computed before the fork.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sigil_types::Digest;

use super::failure::StartFailed;
use super::ids::Ids;
use crate::host::{LEAST_ABI, STRICT_ABI};
use crate::profile::base::BaseProfile;
use crate::profile::recorded::{self, Answers, Recorded, Recording};
use crate::profile::seccomp::{self, BpfProgram, CompileFilter};
use crate::profile::{Access, Bind, Layer, Namespace, Network, Posture, ProcMode, Profile, TREE};
use crate::sys::ExecImage;

/// A file or folder that must be the very one that was verified: between its verification and its mounting nobody may
/// put another in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its path on the host, as a bind's source names it.
    pub source: PathBuf,
    /// The device that it is on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
}

/// What is executed.
#[derive(Debug)]
enum Target {
    /// The file at the profile's path, inside.
    Inside,
    /// This very program, by descriptor: Sigil's own probe.
    Own(OwnedFd),
}

/// A profile that is ready to be applied.
///
/// INVARIANT: it was checked: never uid or gid 0, absolute targets without `..`, filters that compile, and no layer left
/// out unless the target is Sigil's own probe.
#[derive(Debug)]
pub struct Prepared {
    profile: Profile,
    digest: Digest,
    filters: Vec<BpfProgram>,
    /// What the last filter's questions are answered with, when refused calls are recorded.
    answers: Option<Answers>,
    image: ExecImage,
    program: CString,
    target: Target,
    pins: Vec<Pin>,
    ids: Ids,
    as_root: bool,
    attended: Option<Attended>,
}

/// That whoever starts the program waits for it as a shell does: he is told when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attended {
    /// Whether standard input is the program's end of a pseudo-terminal, which becomes the terminal of its session.
    pub terminal: bool,
    /// Whether he wants to know when the mounts of its namespace change.
    pub mounts: bool,
}

impl Prepared {
    /// Checks `profile` and computes what its application needs. `pins` are the sources that were verified before.
    ///
    /// # Errors
    /// [`StartFailed::Profile`] when the profile contradicts itself or asks for what is never given.
    pub fn new(profile: Profile, pins: Vec<Pin>) -> Result<Self, StartFailed> {
        if !profile.ablated.is_empty() {
            return Err(invalid("layers may be left out only for Sigil's own probe"));
        }
        Self::build(profile, pins, Target::Inside, None)
    }

    /// As [`Prepared::new`], for a program of which calls are recorded: whoever starts it gets the listener with it, and
    /// must give it to a recorder.
    ///
    /// # Errors
    /// As [`Prepared::new`]; also when the profile's filter cannot be recorded.
    pub fn recorded(profile: Profile, pins: Vec<Pin>, recording: Recording) -> Result<Self, StartFailed> {
        if !profile.ablated.is_empty() {
            return Err(invalid("layers may be left out only for Sigil's own probe"));
        }
        Self::build(profile, pins, Target::Inside, Some(recording))
    }

    /// As [`Prepared::new`], for this very program as the probe: the profile's path is not used, and layers may be left
    /// out (ablation), which the report says.
    ///
    /// # Errors
    /// As [`Prepared::new`]; also when `/proc/self/exe` cannot be opened.
    pub fn probe(profile: Profile) -> Result<Self, StartFailed> {
        use rustix::fs::{CWD, Mode, OFlags, openat};
        let own = openat(CWD, "/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|source| StartFailed::Host { what: "cannot open the probe, /proc/self/exe", source })?;
        Self::build(profile, Vec::new(), Target::Own(own), None)
    }

    fn build(
        profile: Profile,
        pins: Vec<Pin>,
        target: Target,
        recording: Option<Recording>,
    ) -> Result<Self, StartFailed> {
        check_postures(&profile)?;
        let as_root = rustix::process::geteuid().is_root();
        let ids = ids(&profile, as_root)?;
        let targets =
            profile.binds.iter().map(|bind| &bind.target).chain(profile.tmpfs.iter().map(|tmpfs| &tmpfs.path));
        for path in
            targets.chain(&profile.hidden).chain(profile.files.iter().map(|file| &file.path)).chain([&profile.exec.cwd])
        {
            check_target(path)?;
        }
        for source in profile.binds.iter().map(|bind| &bind.source) {
            check_target(source)?;
        }
        check_target(&profile.exec.path)?;
        let mounts = profile.namespaces.contains(&Namespace::Mount) && !profile.ablated.contains(&Layer::MountNs);
        if !profile.hidden.is_empty() && !mounts {
            return Err(invalid("what is hidden is hidden by mounts"));
        }
        if !profile.hidden.is_sorted() {
            return Err(invalid("what is hidden is not in order"));
        }
        if profile.hostname.is_empty() || profile.hostname.len() > 64 {
            return Err(invalid("the host name must have 1 to 64 bytes"));
        }
        let (filters, answers) =
            filters(&profile, recording).map_err(|error| StartFailed::Profile(error.to_string()))?;
        if profile.exec.argv.is_empty() {
            return Err(invalid("the argument vector is empty"));
        }
        let argv = profile.exec.argv.iter().map(|text| c_string(text)).collect::<Result<_, _>>()?;
        let env = profile.exec.env.iter().map(|(name, value)| variable(name, value)).collect::<Result<_, _>>()?;
        let program = path_c_string(&profile.exec.path)?;
        let digest =
            Digest::of(&serde_json::to_vec(&profile).map_err(|error| StartFailed::Profile(error.to_string()))?);
        Ok(Self {
            digest,
            filters,
            answers,
            image: ExecImage::new(argv, env),
            program,
            target,
            pins,
            ids,
            as_root,
            attended: None,
            profile,
        })
    }

    /// The same, for a starter who waits as a shell does: [`Enforced::exit`](super::Enforced::exit) then gives four bytes
    /// for each stop, too.
    #[must_use]
    pub const fn attended(mut self, attended: Attended) -> Self {
        self.attended = Some(attended);
        self
    }

    pub(super) const fn attendance(&self) -> Option<Attended> {
        self.attended
    }

    /// The profile.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The digest of the profile's canonical JSON, as it stands in receipts.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    pub(super) fn filters(&self) -> &[BpfProgram] {
        &self.filters
    }

    /// What the last filter's questions are answered with, when it asks any.
    pub(super) const fn answers(&self) -> Option<&Answers> {
        self.answers.as_ref()
    }

    pub(super) const fn image(&self) -> &ExecImage {
        &self.image
    }

    pub(super) const fn program(&self) -> &CString {
        &self.program
    }

    /// This very program, when it is the probe. In the confined half it stands at another number.
    pub(super) fn own_program(&self) -> Option<BorrowedFd<'_>> {
        match &self.target {
            Target::Inside => None,
            Target::Own(fd) => Some(fd.as_fd()),
        }
    }

    /// Whether this very program is executed, as the probe.
    pub(super) const fn is_probe(&self) -> bool {
        matches!(self.target, Target::Own(_))
    }

    pub(super) const fn ids(&self) -> Ids {
        self.ids
    }

    /// Whether root launches, so that the program gets a user of its own.
    pub(super) const fn as_root(&self) -> bool {
        self.as_root
    }

    /// Whether `layer` is to be applied.
    pub(super) fn wants(&self, layer: Layer) -> bool {
        let namespace = match layer {
            Layer::UserNs => Some(Namespace::User),
            Layer::MountNs => Some(Namespace::Mount),
            Layer::PidNs => Some(Namespace::Pid),
            Layer::IpcNs => Some(Namespace::Ipc),
            Layer::UtsNs => Some(Namespace::Uts),
            Layer::NetNs => Some(Namespace::Net),
            Layer::CgroupNs => Some(Namespace::Cgroup),
            _ => None,
        };
        namespace.is_none_or(|namespace| self.profile.namespaces.contains(&namespace))
            && !self.profile.ablated.contains(&layer)
    }

    /// The layers without which the program is not started: what profile and posture require, less what a probe leaves
    /// out.
    pub(super) fn required(&self) -> BTreeSet<Layer> {
        let strict = (self.profile.posture == Posture::Strict).then_some(Layer::Cgroup);
        let all = self.profile.required.iter().copied().chain(strict);
        all.filter(|layer| !self.profile.ablated.contains(layer)).collect()
    }

    /// The oldest Landlock interface that will do.
    pub(super) fn least_abi(&self) -> u32 {
        let by_posture = if self.profile.posture == Posture::Strict { STRICT_ABI } else { LEAST_ABI };
        self.profile.landlock.least_abi.max(by_posture)
    }

    /// Whether the program is confined by Landlock and its filter alone.
    pub(super) fn is_reduced(&self) -> bool {
        self.profile.posture == Posture::Reduced
    }

    /// Whether the init is outside of the program's Landlock domain. Without a process namespace it must be, or the program
    /// could signal it.
    pub(super) fn confines_late(&self) -> bool {
        self.is_reduced()
    }

    /// Whether the program gets a root of its own.
    pub(super) fn makes_root(&self) -> bool {
        self.wants(Layer::MountNs)
    }

    /// The port on which the proxy's listener is made.
    pub(super) fn proxy_port(&self) -> Option<u16> {
        match self.profile.network {
            Network::Proxy(port) if self.wants(Layer::NetNs) => Some(port),
            Network::Proxy(_) | Network::None => None,
        }
    }

    /// Whether `bind` is a person's grant: neither the base profile's, nor the plugin's own tree, nor a program.
    pub(super) fn is_granted(&self, bind: &Bind) -> bool {
        let of_base = BaseProfile::load(&self.profile.name)
            .is_ok_and(|base| base.bind.iter().any(|system| system.path == bind.source));
        bind.access != Access::Exec && !of_base && bind.target != Path::new(TREE)
    }

    /// Whether what was opened at `source` is what was verified there, if anything was.
    pub(super) fn pin_holds(&self, source: &Path, dev: u64, ino: u64) -> bool {
        self.pins.iter().all(|pin| pin.source != source || (pin.dev, pin.ino) == (dev, ino))
    }
}

fn invalid(why: impl Into<String>) -> StartFailed {
    StartFailed::Profile(why.into())
}

fn filters(
    profile: &Profile,
    recording: Option<Recording>,
) -> Result<(Vec<BpfProgram>, Option<Answers>), CompileFilter> {
    let Some(recording) = recording else { return Ok((seccomp::compile(&profile.seccomp)?, None)) };
    let Recorded { programs, answers } = recorded::compile(&profile.seccomp, recording)?;
    Ok((programs, Some(answers)))
}

fn check_postures(profile: &Profile) -> Result<(), StartFailed> {
    let least: &[Namespace] = match profile.posture {
        Posture::Reduced => return check_reduced(profile),
        Posture::Standard | Posture::Strict => &[Namespace::User, Namespace::Mount, Namespace::Net, Namespace::Pid],
    };
    if profile.scratch.is_some() {
        return Err(invalid("a folder of the host for temporary files is for posture `reduced` only"));
    }
    if least.iter().any(|namespace| !profile.namespaces.contains(namespace)) {
        return Err(invalid("posture `standard` needs the user, mount, net and pid namespaces"));
    }
    Ok(())
}

/// Without namespaces there is nothing but the host's own paths, and nothing that could hold a socket.
fn check_reduced(profile: &Profile) -> Result<(), StartFailed> {
    let elsewhere = profile.binds.iter().find(|bind| bind.source != bind.target);
    if let Some(bind) = elsewhere {
        return Err(invalid(format!("posture `reduced` has no other place for {}", bind.source.display())));
    }
    if !profile.namespaces.is_empty() || !profile.tmpfs.is_empty() || !profile.files.is_empty() {
        return Err(invalid("posture `reduced` has no namespaces, and so no file systems or files of its own"));
    }
    if !profile.hidden.is_empty() {
        return Err(invalid("posture `reduced` has no mounts, by which alone a part of what is granted is hidden"));
    }
    if profile.proc != ProcMode::None || profile.network != Network::None {
        return Err(invalid("posture `reduced` gives no /proc and no network"));
    }
    if ["socket", "connect", "bind", "chmod", "memfd_create"]
        .iter()
        .any(|call| profile.seccomp.allow.contains_key(*call))
    {
        return Err(invalid("posture `reduced` has a filter that refuses sockets, modes and files in memory"));
    }
    let needed = [Layer::Landlock, Layer::Seccomp, Layer::NoNewPrivs, Layer::Capabilities, Layer::Descriptors];
    if needed.iter().any(|layer| !profile.required.contains(layer)) {
        return Err(invalid("posture `reduced` needs Landlock, seccomp and no privileges"));
    }
    Ok(())
}

fn ids(profile: &Profile, as_root: bool) -> Result<Ids, StartFailed> {
    let identity = profile.identity;
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Only Sigil's own probe can have a layer left out, and so be root.
    let as_itself = profile.ablated.contains(&Layer::Identity);
    let outside = if as_root && !as_itself { (identity.host_uid, identity.host_gid) } else { own };
    let has_own = profile.namespaces.contains(&Namespace::User) && !profile.ablated.contains(&Layer::UserNs);
    let inside = if !has_own { outside } else { (identity.uid, identity.gid) };
    if [inside.0, inside.1, outside.0, outside.1].iter().any(|id| (*id == 0 && !as_itself) || *id == u32::MAX) {
        return Err(invalid("the program would have uid or gid 0, which is never given"));
    }
    Ok(Ids { inside, outside })
}

fn check_target(path: &Path) -> Result<(), StartFailed> {
    let mut components = path.components();
    let absolute = components.next() == Some(Component::RootDir);
    let plain = components.all(|component| matches!(component, Component::Normal(_)));
    // `components` forgives `//`, `/./` and a last slash; a profile does not.
    let canonical = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    if absolute && plain && canonical {
        Ok(())
    } else {
        Err(invalid(format!("`{}` is not an absolute path in its shortest form", path.display())))
    }
}

fn c_string(text: &str) -> Result<CString, StartFailed> {
    CString::new(text).map_err(|_| invalid("an argument or variable contains a NUL byte"))
}

fn variable(name: &str, value: &str) -> Result<CString, StartFailed> {
    if name.is_empty() || name.contains('=') {
        return Err(invalid(format!("`{name}` is not the name of an environment variable")));
    }
    c_string(&format!("{name}={value}"))
}

fn path_c_string(path: &Path) -> Result<CString, StartFailed> {
    let text: &OsStr = path.as_os_str();
    CString::new(text.as_bytes()).map_err(|_| invalid("a path contains a NUL byte"))
}
