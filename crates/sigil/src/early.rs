//! What happens before the command line is parsed and before any thread exists.
//!
//! The battery's probe and `sigil sandbox run` are this same program in another role: they must cost what the sandbox
//! costs, and start from a process of one thread.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

use sigil_audit::{AuditLog, Entry, Filter, LocalSigner, SigningKey, Stored};
use sigil_egress::{EgressRule, Identity, Proxy, ProxyLimits, Surroundings, SystemResolver};
use sigil_sandbox::denials::{HostRefused, learn};
use sigil_sandbox::profile::Egress;
use sigil_types::{Clock, Code, InstanceId, SystemClock};

/// Takes over when this program was started as a probe, or as `sigil sandbox run`.
pub(crate) fn take_over(arguments: &[OsString]) -> Option<ExitCode> {
    if let Some(code) = sigil_sandbox::battery::probe_if_asked() {
        return Some(code);
    }
    let mut words = arguments.iter().skip(1);
    if words.next()? != "sandbox" || words.next()? != "run" {
        return None;
    }
    let rest = words.cloned().collect::<Vec<_>>().into_iter();
    let mut served = None;
    let mut serve = |listener: OwnedFd, egress: &Egress| {
        served = Some(Served::start(listener, egress).map_err(|error| format!("{error:#}"))?);
        Ok(())
    };
    let ending = sigil_sandbox::run::main(rest, Some(&mut serve), Some(&mut crate::cli::plugin_profile));
    if let Some(served) = served {
        served.tell_refusals();
    }
    Some(ending.take())
}

/// Who the proxy's log says that a command is.
const COMMAND: &str = "command";

/// The egress proxy of one command, once it serves: the real one, with an audit log that lives as long as the command does.
#[derive(Debug, Default)]
pub(crate) struct Served(Option<(AuditLog, tempfile::TempDir)>);

impl learn::Outlet for Served {
    fn serve(&mut self, listener: OwnedFd, rules: &Egress) -> Result<(), String> {
        *self = Self::start(listener, rules).map_err(|error| format!("{error:#}"))?;
        Ok(())
    }

    fn refused(&mut self) -> Vec<HostRefused> {
        let Some((audit, _)) = &self.0 else { return Vec::new() };
        // Behind everything that the proxy has written: when it is durable, all of that can be read.
        _ = audit.append(Entry::new(Code::new("sandbox.learn.command.ended"), COMMAND)).wait();
        crate::refusals::of(audit, COMMAND).unwrap_or_default()
    }
}

impl Served {
    fn start(listener: OwnedFd, egress: &Egress) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sigil-run-").tempdir()?;
        let signer = LocalSigner::new(SigningKey::from_pkcs8("sigil/sandbox-run", &SigningKey::generate()?)?, None);
        let audit = AuditLog::open(&folder.path().join("audit.db"), Arc::new(signer), Arc::new(SystemClock))?;
        let rule = |rule: &sigil_policy::HostRule| EgressRule {
            host: rule.host.clone(),
            ports: rule.ports.iter().copied().collect(),
            opaque: false,
        };
        let identity = Identity {
            plugin: COMMAND.parse()?,
            instance: InstanceId::generate(SystemClock.now()),
            workspace: None,
            rules: egress.hosts.iter().map(rule).collect(),
            local: egress.local.iter().copied().collect(),
            limits: egress.limits,
        };
        let proxy =
            Proxy::new(audit.clone(), Arc::new(SystemResolver), Surroundings::default(), ProxyLimits::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = {
            let _inside = runtime.enter();
            proxy.serve(listener, identity)?
        };
        // It serves until the process ends, which is when the command has ended.
        std::thread::spawn(move || {
            runtime.block_on(std::future::pending::<()>());
            drop(handle);
        });
        Ok(Self(Some((audit, folder))))
    }

    /// Says on standard error what was refused: the command itself was told nothing but that it was.
    fn tell_refusals(&self) {
        let Some((audit, _)) = &self.0 else { return };
        let filter = Filter { kind: Some("egress".to_owned()), oldest_first: true, ..Filter::default() };
        let entries = audit.query(&filter).unwrap_or_default();
        let text = |entry: &Stored, key: &str| {
            entry.data.get(key).and_then(|value| value.as_str()).map(crate::cli::safe::line)
        };
        for entry in entries.iter().filter(|entry| entry.kind.as_str() != "egress.connection.close") {
            let (Some(target), Some(why)) = (text(entry, "target"), text(entry, "why")) else { continue };
            _ = writeln!(std::io::stderr(), "sigil sandbox run: refused {target}: {why} [{}]", entry.kind);
        }
    }
}
