//! `sigil approvals …`: what waits for you, and your answer.

use sigil_server::api;
use sigil_types::{ApprovalId, Code, Digest};

use super::args::ApprovalsCommand;
use super::client::{Client, runtime};
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::output::{Output, Paint, word};
use super::{input, safe};

pub(super) fn run(context: &Context, command: Option<ApprovalsCommand>) -> Outcome {
    let client = Client::new(&context.resolved()?.folders.socket);
    runtime()?.block_on(async {
        match command.unwrap_or(ApprovalsCommand::List { all: false }) {
            ApprovalsCommand::List { all } => list(context, &client, all).await,
            ApprovalsCommand::Show { id } => {
                let approval = find(&client, id).await?;
                if context.output.json {
                    context.output.document(&approval);
                } else {
                    card(&context.output, &approval).iter().for_each(|line| context.output.line(line));
                }
                Ok(Exit::Ok)
            }
            ApprovalsCommand::Allow { id, plan } => {
                let approval = find(&client, id).await?;
                looked_at(context, &approval, plan)?;
                answer(context, &client, &approval, true).await
            }
            ApprovalsCommand::Deny { id } => {
                let approval = find(&client, id).await?;
                answer(context, &client, &approval, false).await
            }
        }
    })
}

/// The question `id`.
pub(super) async fn find(client: &Client, id: ApprovalId) -> Result<api::Approval, Complaint> {
    let list: api::ApprovalList = client.get("/api/v1/approvals?resolved=true").await?;
    list.items.into_iter().find(|approval| approval.id == id).ok_or_else(|| {
        let code = Code::new("approval.answer.unknown");
        Complaint::new(code, format!("there is no question {id}"))
            .exit(Exit::NotFound)
            .fix("see those that wait", Some("sigil approvals"))
    })
}

/// Answers a question for the plan that `approval` shows.
pub(super) async fn decide(
    client: &Client,
    approval: &api::Approval,
    approve: bool,
) -> Result<api::Approval, Complaint> {
    let decision = api::Decision { approve, plan: approval.plan };
    client.post(&format!("/api/v1/approvals/{}:decide", approval.id), &decision, &[]).await
}

async fn list(context: &Context, client: &Client, all: bool) -> Outcome {
    let path = if all { "/api/v1/approvals?resolved=true" } else { "/api/v1/approvals" };
    let list: api::ApprovalList = client.get(path).await?;
    let output = &context.output;
    if output.json {
        output.document(&list);
        return Ok(Exit::Ok);
    }
    if list.items.is_empty() {
        output.note("nothing waits for you");
    }
    let row = |approval: &api::Approval| {
        vec![
            approval.id.to_string(),
            word(approval.state),
            safe::line(&approval.destination),
            safe::cut(&safe::line(&approval.why), 60),
        ]
    };
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    output.table(&["QUESTION", "STATE", "WOULD GO TO", "WHY"], &rows);
    if let Some(first) = list.items.iter().find(|approval| approval.state == api::ApprovalState::Pending) {
        output.note(format!("next: sigil approvals show {}", first.id));
    }
    Ok(Exit::Ok)
}

/// Exactly what is asked, in lines: everything that an answer binds.
pub(super) fn card(output: &Output, approval: &api::Approval) -> Vec<String> {
    let names = |names: &[String]| safe::line(&if names.is_empty() { "nobody".to_owned() } else { names.join(", ") });
    let rules: Vec<String> = approval.rules.iter().map(ToString::to_string).collect();
    let mut card = vec![
        output.paint(Paint::Yellow, &format!("┌ {} wants to go to {}", approval.id, safe::line(&approval.destination))),
        format!("│ why      {}", safe::line(&approval.why)),
        format!("│ effect   {}", safe::line(&approval.effect)),
        format!("│ authors  {}  (not trusted for this: {})", names(&approval.authors), names(&approval.untrusted)),
        format!("│ rules    {}", rules.join(", ")),
        format!("│ until    {}", approval.expires),
        format!("│ plan     {}", approval.plan),
        "│ exactly this would be sent:".to_owned(),
    ];
    card.extend(safe::block(&approval.content).lines().map(|line| format!("│   {line}")));
    card.push(output.paint(Paint::Yellow, "└"));
    card
}

/// An approval is for a plan that somebody has looked at: one that was named, or shown just now.
fn looked_at(context: &Context, approval: &api::Approval, plan: Option<Digest>) -> Result<(), Complaint> {
    let code = Code::new("approval.answer.changed");
    match plan {
        Some(plan) if plan == approval.plan => Ok(()),
        Some(_) => Err(Complaint::new(code, "that is not the digest of the plan that waits").exit(Exit::Conflict)),
        None => {
            card(&context.output, approval).iter().for_each(|line| context.output.error_line(line));
            if input::confirm(&context.output, "Allow exactly this, once?")? {
                return Ok(());
            }
            Err(Complaint::new(Code::new("approval.answer.withheld"), "not allowed").exit(Exit::Denied).fix(
                "look at it, and name the digest of its plan with --plan",
                Some(&format!("sigil approvals show {}", approval.id)),
            ))
        }
    }
}

async fn answer(context: &Context, client: &Client, approval: &api::Approval, approve: bool) -> Outcome {
    let approval = decide(client, approval, approve).await?;
    if context.output.json {
        context.output.document(&approval);
    } else {
        context.output.line(format!("{} {}", approval.id, if approve { "allowed, once" } else { "denied" }));
    }
    Ok(Exit::Ok)
}
