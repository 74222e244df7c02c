//! `sigil policy …`: the owner's side of the policy. The only commands that open a signing key.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sigil_config::Resolved;
use sigil_policy::sign::{KeyFile, SigningKey, Validity, add_signature, sign};
use sigil_policy::{Bundle, MAX_ENVELOPE_BYTES, Preset, Source, TestReport, TrustStore, Unverified};
use sigil_types::Code;

use super::args::{PassphraseArgs, PolicyCommand};
use super::complaint::{Complaint, Outcome, file};
use super::context::Context;
use super::exit::Exit;
use super::output::Paint;
use super::{input, safe};

pub(super) fn run(context: &Context, command: PolicyCommand) -> Outcome {
    match command {
        PolicyCommand::Keygen { out, passphrase } => keygen(context, out, &passphrase),
        PolicyCommand::Sign { source, preset, key, version, days, add, out, passphrase } => {
            let key = |context: &Context, resolved: &Resolved| open_key(context, resolved, key, &passphrase);
            match add {
                Some(envelope) => add_to(context, &envelope, out, key),
                None => sign_new(context, source.as_deref(), preset.as_deref(), version, days, out, key),
            }
        }
        PolicyCommand::Verify { file, trust } => verify(context, file, trust),
        PolicyCommand::Show { file, print } => show(context, file, print.as_deref()),
        PolicyCommand::Test { source, preset } => test(context, source.as_deref(), preset.as_deref()),
        PolicyCommand::Export { folder, preset } => export(context, &folder, preset.as_deref()),
    }
}

/// The key's place in the configuration folder.
const KEY: &str = "owner.json";

fn keygen(context: &Context, out: Option<PathBuf>, from: &PassphraseArgs) -> Outcome {
    let place = match out {
        Some(path) => path,
        None => context.resolved()?.folders.keys().join(KEY),
    };
    if place.exists() {
        let code = Code::new("policy.key_file.exists");
        return Err(Complaint::new(code, format!("{} exists, and a key is never overwritten", place.display()))
            .exit(Exit::Conflict)
            .fix("name another file with --out, or move the old key away and keep it", None));
    }
    let passphrase = input::passphrase(&context.output, from, true)?;
    let key = SigningKey::generate()?;
    let sealed = match &passphrase {
        Some(passphrase) => KeyFile::seal(&key, passphrase)?,
        None => KeyFile::plain(&key),
    };
    if let Some(folder) = place.parent() {
        private_folder(folder).map_err(|error| file(folder, &error))?;
    }
    sealed.write(&place)?;
    let (public, id) = (key.public().to_string(), key.public().id());
    if context.output.json {
        context.output.document(&json!({"file": place, "public": public, "id": id, "protection": sealed.protection()}));
    } else {
        context.output.line(&public);
        context.output.note(format!("wrote {}", place.display()));
        if passphrase.is_none() {
            context
                .output
                .note("the key is not encrypted: whoever can read the file can sign. `sigil doctor` says so, too");
        }
        context.output.note("next: sigil policy sign");
    }
    Ok(Exit::Ok)
}

/// Makes a folder that only this user can enter; one that is there stays as it is.
pub(super) fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn open_key(
    context: &Context,
    resolved: &Resolved,
    key: Option<PathBuf>,
    from: &PassphraseArgs,
) -> Result<SigningKey, Complaint> {
    let path = key.unwrap_or_else(|| resolved.folders.keys().join(KEY));
    if !path.exists() {
        let code = Code::new("policy.key_file.missing");
        return Err(Complaint::new(code, format!("there is no key at {}", path.display()))
            .exit(Exit::NotFound)
            .fix("make one, or name one with --key", Some("sigil policy keygen")));
    }
    let sealed = KeyFile::read(&path)?;
    let passphrase = match sealed.protection() {
        sigil_policy::sign::Protection::None => None,
        sigil_policy::sign::Protection::Passphrase => input::passphrase(&context.output, from, false)?,
    };
    Ok(sealed.open(passphrase.as_ref())?)
}

fn preset(name: Option<&str>) -> Result<Option<Preset>, Complaint> {
    name.map(str::parse).transpose().map_err(|error: String| {
        let code = Code::new("policy.source.preset.unknown");
        Complaint::new(code, "there is no such preset").exit(Exit::Usage).fix(error, None)
    })
}

fn source(folder: Option<&Path>, name: Option<&str>) -> Result<Source, Complaint> {
    let preset = preset(name)?;
    Ok(match folder {
        Some(folder) => Source::load(folder, preset)?,
        None => Source::embedded(preset.unwrap_or(Preset::Balanced))?,
    })
}

/// The scanner's packs are part of what is signed, so what the scanner would refuse is not signed either.
fn check_packs(source: &Source) -> Result<(), Complaint> {
    let packs: Vec<&str> =
        source.files().filter(|(path, _)| path.starts_with("scanner/")).map(|(_, text)| text).collect();
    if !packs.is_empty() {
        sigil_scan::Scanner::from_packs(&packs)?;
    }
    Ok(())
}

fn sign_new(
    context: &Context,
    folder: Option<&Path>,
    preset: Option<&str>,
    version: Option<u64>,
    days: u64,
    out: Option<PathBuf>,
    key: impl FnOnce(&Context, &Resolved) -> Result<SigningKey, Complaint>,
) -> Outcome {
    let resolved = context.resolved()?;
    let source = source(folder, preset)?;
    check_packs(&source)?;
    let out = out.unwrap_or_else(|| resolved.folders.policy.clone());
    let version = match version {
        Some(version) => version,
        None if out.exists() => Bundle::<Unverified>::parse(&read(&out)?)?.summary()?.version.saturating_add(1),
        None => 1,
    };
    let key = key(context, &resolved)?;
    let envelope = sign(&source, version, Validity::days(context.now(), days), &key)?;
    write(&out, &envelope)?;
    signed(context, &out, &envelope)
}

fn add_to(
    context: &Context,
    envelope: &Path,
    out: Option<PathBuf>,
    key: impl FnOnce(&Context, &Resolved) -> Result<SigningKey, Complaint>,
) -> Outcome {
    let resolved = context.resolved()?;
    let key = key(context, &resolved)?;
    let more = add_signature(&read(envelope)?, &key)?;
    let out = out.unwrap_or_else(|| envelope.to_owned());
    write(&out, &more)?;
    signed(context, &out, &more)
}

fn signed(context: &Context, out: &Path, envelope: &[u8]) -> Outcome {
    let summary = Bundle::<Unverified>::parse(envelope)?.summary()?;
    if context.output.json {
        context.output.document(&json!({"file": out, "policy": summary}));
    } else {
        context.output.line(format!(
            "signed version {} ({}), valid until {}",
            summary.version,
            summary.digest.short(),
            summary.expires
        ));
        context.output.note(format!("wrote {}", out.display()));
        context.output.note("it is in force when the gateway starts: sigil start");
    }
    Ok(Exit::Ok)
}

fn read(path: &Path) -> Result<Vec<u8>, Complaint> {
    let mut bytes = Vec::new();
    let open = std::fs::File::open(path).map_err(|error| file(path, &error))?;
    let most = MAX_ENVELOPE_BYTES as u64 + 1;
    std::io::Read::read_to_end(&mut std::io::Read::take(open, most), &mut bytes).map_err(|error| file(path, &error))?;
    Ok(bytes)
}

/// Writes a file in one step, so that a reader sees the old one or the new one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Complaint> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = folder.join(format!(".{}.draft", path.file_name().unwrap_or_default().to_string_lossy()));
    let place = || {
        private_folder(folder)?;
        drop(std::fs::remove_file(&draft));
        let mut open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&draft)?;
        open.write_all(bytes)?;
        open.sync_all()?;
        std::fs::rename(&draft, path)
    };
    place().map_err(|error| file(path, &error))
}

fn verify(context: &Context, place: Option<PathBuf>, trust: Option<PathBuf>) -> Outcome {
    let resolved = context.resolved()?;
    let path = place.unwrap_or_else(|| resolved.folders.policy.clone());
    let trust_path = trust.unwrap_or_else(|| resolved.folders.trust());
    let trust = TrustStore::parse(&std::fs::read(&trust_path).map_err(|error| file(&trust_path, &error))?)?;
    let bundle = Bundle::<Unverified>::parse(&read(&path)?)?.verify(&trust, context.now(), 0).map_err(|refused| {
        let fix = refused.fix();
        Complaint::from(refused).fix(fix, None)
    })?;
    bundle.compile()?;
    let report = bundle.test()?;
    let summary = bundle.summary();
    if context.output.json {
        context.output.document(&json!({"file": path, "policy": summary, "tests": report}));
    } else {
        context.output.line(format!(
            "{}\n{}",
            context.output.paint(Paint::Green, "verified"),
            safe::block(&summary.to_string())
        ));
        context.output.line(format!("decision tests: {} hold, {} do not", report.passed, report.failures.len()));
    }
    Ok(if report.is_ok() { Exit::Ok } else { Exit::Findings })
}

fn show(context: &Context, place: Option<PathBuf>, print: Option<&str>) -> Outcome {
    let resolved = context.resolved()?;
    let path = place.unwrap_or_else(|| resolved.folders.policy.clone());
    let envelope = read(&path)?;
    let unverified = Bundle::<Unverified>::parse(&envelope)?;
    let claimed = unverified.summary()?;
    let trust = std::fs::read(resolved.folders.trust()).ok().and_then(|bytes| TrustStore::parse(&bytes).ok());
    let verified = trust.and_then(|trust| unverified.verify(&trust, context.now(), 0).ok());
    if let Some(name) = print {
        let text = verified.as_ref().and_then(|bundle| bundle.file(name));
        let Some(text) = text else {
            let code = Code::new("policy.bundle.file.unshown");
            return Err(Complaint::new(code, format!("there is no verified file `{name}` to print"))
                .exit(Exit::NotFound)
                .why("only files of a policy that trusted keys vouch for are printed")
                .fix("see what it has, and whether it verifies", Some("sigil policy show")));
        };
        context.output.piece(&safe::block(text));
        return Ok(Exit::Ok);
    }
    let summary = verified.as_ref().map_or(claimed, |bundle| bundle.summary());
    if context.output.json {
        context.output.document(
            &json!({"file": path, "policy": summary, "ceilings": verified.as_ref().map(|bundle| bundle.ceilings())}),
        );
    } else {
        if verified.is_none() {
            context.output.line(context.output.paint(Paint::Yellow, "not verified: this is what it says of itself"));
        }
        context.output.line(safe::block(&summary.to_string()));
    }
    Ok(Exit::Ok)
}

fn test(context: &Context, folder: Option<&Path>, preset: Option<&str>) -> Outcome {
    let source = source(folder, preset)?;
    check_packs(&source)?;
    let report: TestReport = source.test()?;
    let output = &context.output;
    if output.json {
        output.document(&report);
    } else {
        for failure in &report.failures {
            output.line(format!(
                "{}  {}: expected {}, answered {}",
                output.paint(Paint::Red, "FAIL"),
                failure.name,
                failure.expected,
                failure.answered
            ));
        }
        report
            .warnings
            .iter()
            .for_each(|warning| output.line(format!("{}  {warning}", output.paint(Paint::Yellow, "odd"))));
        output.line(format!("decision tests: {} hold, {} do not", report.passed, report.failures.len()));
    }
    Ok(if report.is_ok() { Exit::Ok } else { Exit::Findings })
}

fn export(context: &Context, folder: &Path, preset: Option<&str>) -> Outcome {
    let occupied = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        let code = Code::new("policy.source.folder.occupied");
        return Err(Complaint::new(code, format!("{} is not empty", folder.display())).exit(Exit::Conflict));
    }
    std::fs::create_dir_all(folder).map_err(|error| file(folder, &error))?;
    source(None, preset)?.write(folder)?;
    context.output.note(format!(
        "wrote {}; edit it, then: sigil policy test {0} && sigil policy sign --source {0}",
        folder.display()
    ));
    Ok(Exit::Ok)
}
