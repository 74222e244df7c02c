//! `sigil secret …`: values go in and never come out here.

use std::collections::BTreeSet;

use sigil_types::{Code, Name};
use sigil_vault::{Binding, Unlock, Vault};

use super::args::SecretCommand;
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::input;

pub(super) fn run(context: &Context, command: SecretCommand) -> Outcome {
    match command {
        SecretCommand::Set { name, consumer, workspace, host } => {
            set(context, &name, Binding { consumer, workspace, hosts: BTreeSet::from_iter(host) })
        }
        SecretCommand::List => list(context),
        SecretCommand::Remove { name } => remove(context, &name),
    }
}

fn open(context: &Context) -> Result<Vault, Complaint> {
    let folders = context.resolved()?.folders;
    for folder in [folders.vault(), folders.keys()] {
        super::policy::private_folder(&folder).map_err(|error| super::complaint::file(&folder, &error))?;
    }
    Ok(Vault::open(&folders.vault(), &Unlock::KeyFile(folders.keys().join("vault.key")))?)
}

fn set(context: &Context, name: &Name, binding: Binding) -> Outcome {
    if binding.hosts.is_empty() {
        return Err(Complaint::new(Code::new("cli.usage.invalid"), "a secret needs a host that it may be sent to")
            .exit(Exit::Usage)
            .why("it is bound to its hosts when it is made, so that nobody can have it sent elsewhere")
            .fix("name the host of the service that the secret is for with --host", None));
    }
    let vault = open(context)?;
    let value = input::secret(&context.output, &format!("Value of {name}"))?;
    vault.put(name, value, binding, context.now())?;
    context.output.note(format!("stored; write secret:{name} where configuration asks for it"));
    Ok(Exit::Ok)
}

fn list(context: &Context) -> Outcome {
    let secrets = open(context)?.list()?;
    if context.output.json {
        context.output.document(&secrets);
        return Ok(Exit::Ok);
    }
    let row = |secret: &sigil_vault::SecretInfo| {
        let hosts: Vec<String> = secret.binding.hosts.iter().map(ToString::to_string).collect();
        let workspace = secret.binding.workspace.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
        vec![
            secret.name.to_string(),
            secret.binding.consumer.to_string(),
            workspace,
            hosts.join(","),
            secret.changed.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = secrets.iter().map(row).collect();
    context.output.table(&["SECRET", "CONSUMER", "WORKSPACE", "HOSTS", "CHANGED"], &rows);
    Ok(Exit::Ok)
}

fn remove(context: &Context, name: &Name) -> Outcome {
    if open(context)?.remove(name)? {
        context.output.note(format!("removed {name}"));
        return Ok(Exit::Ok);
    }
    Err(Complaint::new(Code::new("vault.secret.use.absent"), format!("there is no secret {name}"))
        .exit(Exit::NotFound)
        .fix("see those that there are", Some("sigil secret list")))
}
