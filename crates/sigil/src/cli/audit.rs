//! `sigil audit …`: reads the log where it lies, live or at rest, and changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sigil_audit::{Filter, Reader, SignedHead, SigningKey, Stored, VerifyKey, VerifyKeys, verify};
use sigil_config::Folders;
use sigil_types::{Code, EventId, Secret};

use super::args::AuditCommand;
use super::client::runtime;
use super::complaint::{Complaint, Outcome, file};
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, Paint, word};
use super::safe;

pub(super) fn run(context: &Context, command: AuditCommand) -> Outcome {
    match command {
        AuditCommand::Verify { file, key } => check(context, file, &key),
        AuditCommand::Tail { number, follow, kind, file } => tail(context, number, follow, kind, file),
        AuditCommand::Show { id, file } => show(context, id, file),
    }
}

fn place(context: &Context, file: Option<PathBuf>) -> Result<PathBuf, Complaint> {
    let path = match file {
        Some(path) => path,
        None => context.resolved()?.folders.audit_db(),
    };
    if path.exists() {
        return Ok(path);
    }
    Err(Complaint::new(Code::new("audit.log.find.absent"), format!("there is no audit log at {}", path.display()))
        .exit(Exit::NotFound)
        .fix("name the log with --file, or the data folder with --data-dir", None))
}

fn check(context: &Context, log: Option<PathBuf>, keys: &[String]) -> Outcome {
    let own = log.is_none();
    let path = place(context, log)?;
    let keys = if keys.is_empty() {
        let folders = context.resolved()?.folders;
        launcher_keys(&folders, own)?
    } else {
        let parse = |text: &String| {
            text.parse::<VerifyKey>().map_err(|error| {
                Complaint::new(Code::new("cli.usage.invalid"), format!("--key: {error}")).exit(Exit::Usage)
            })
        };
        VerifyKeys { keys: keys.iter().map(parse).collect::<Result<_, _>>()?, anchor: None }
    };
    let report = verify(&path, &keys)?;
    let output = &context.output;
    if output.json {
        output.document(&serde_json::json!({"file": path, "sound": report.is_sound(), "report": report}));
    } else {
        for fault in &report.faults {
            let range = if fault.seq == fault.until {
                fault.seq.to_string()
            } else {
                format!("{}–{}", fault.seq, fault.until)
            };
            let kind = word(fault.kind);
            output.line(format!(
                "{}  entry {range}: {kind}: {}",
                output.paint(Paint::Red, "BROKEN"),
                safe::line(&fault.detail)
            ));
        }
        let (entries, signed, heads) = (report.entries, report.signed, report.heads);
        let verdict =
            if report.is_sound() { output.paint(Paint::Green, "sound") } else { output.paint(Paint::Red, "not sound") };
        output
            .line(format!("{verdict}: {entries} entries, {signed} of them under a signed head, {heads} heads checked"));
        output.line(format!("root {}", report.root));
    }
    Ok(if report.is_sound() { Exit::Ok } else { Exit::Integrity })
}

/// The launcher's key and its last head: what this machine knows besides the log itself.
fn launcher_keys(folders: &Folders, with_anchor: bool) -> Result<VerifyKeys, Complaint> {
    let (key_path, head_path) = (folders.launcher.join("launcher.key"), folders.launcher.join("audit.head"));
    let head = std::fs::read_to_string(&head_path).map_err(|error| file(&head_path, &error));
    let head = head.and_then(|text| text.parse::<SignedHead>().map_err(|error| damaged(&head_path, &error)));
    let pkcs8 = std::fs::read(&key_path).map_err(|error| file(&key_path, &error));
    let (head, pkcs8) = head
        .and_then(|head| Ok((head, Secret::new(pkcs8?))))
        .map_err(|complaint| complaint.fix("name the key that signed the log with --key NAME+HASH+BASE64", None))?;
    let key = SigningKey::from_pkcs8(head.origin(), &pkcs8).map_err(|error| damaged(&key_path, &error))?;
    Ok(VerifyKeys { keys: vec![key.verify_key().clone()], anchor: with_anchor.then_some(head) })
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> Complaint {
    Complaint::new(Code::new("sandbox.launcher.state.damaged"), format!("{}: {error}", path.display()))
        .exit(Exit::Integrity)
}

fn tail(context: &Context, number: usize, follow: bool, kind: Option<String>, log: Option<PathBuf>) -> Outcome {
    let reader = Reader::open(&place(context, log)?)?;
    let filter = Filter { kind, limit: number.min(sigil_audit::MAX_LIMIT), ..Filter::default() };
    let mut entries = reader.query(&filter)?;
    entries.reverse();
    entries.iter().for_each(|entry| write(&context.output, entry));
    if !follow {
        return Ok(Exit::Ok);
    }
    let mut next = reader.size()?.max(entries.last().map_or(0, |entry| entry.seq + 1));
    runtime()?.block_on(async {
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        let mut tick = tokio::time::interval(Duration::from_millis(300));
        loop {
            tokio::select! {
                _ = &mut interrupted => return Ok(Exit::Interrupted),
                _ = tick.tick() => {}
            }
            let filter = Filter { since: next, oldest_first: true, limit: 1000, ..filter.clone() };
            for entry in reader.query(&filter)? {
                next = entry.seq + 1;
                write(&context.output, &entry);
            }
        }
    })
}

fn write(output: &Output, entry: &Stored) {
    if output.json {
        output.line(serde_json::to_string(entry).unwrap_or_default());
        return;
    }
    let kind = entry.kind.as_str();
    let refused = ["refused", "denied", "blocked", "failed"].iter().any(|word| kind.contains(word));
    let kind = output.paint(if refused { Paint::Yellow } else { Paint::Cyan }, kind);
    let data = if entry.data.is_null() { String::new() } else { safe::cut(&safe::line(&entry.data.to_string()), 120) };
    let (at, id, actor) = (entry.at, output.paint(Paint::Dim, &entry.id.to_string()), safe::line(&entry.actor));
    output.line(format!("{:>6}  {at}  {id}  {kind}  {actor}  {data}", entry.seq));
}

fn show(context: &Context, id: EventId, log: Option<PathBuf>) -> Outcome {
    let path = place(context, log)?;
    let Some(entry) = Reader::open(&path)?.find(id)? else {
        return Err(Complaint::new(Code::new("audit.entry.find.absent"), format!("there is no entry {id}"))
            .exit(Exit::NotFound));
    };
    if context.output.json {
        context.output.document(&entry);
    } else {
        let text = serde_json::to_string_pretty(&entry).unwrap_or_default();
        context.output.line(safe::block(&text));
    }
    Ok(Exit::Ok)
}
