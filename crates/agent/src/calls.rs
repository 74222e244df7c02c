//! One tool call: is it a tool of this workspace, do its arguments fit, may it, should a human be asked; then the call.

use sigil_gate::{Cleared, Door, Held, REFUSAL_FOR_MODELS, ToTool, ToolDraft, Verdict};
use sigil_types::{Hop, Label, ToolName, TurnEvent, Untrusted, VerdictKind};

use crate::journal::{ToolResult, unknown_tool};
use crate::turn::{Ended, Turn, WantedCall};

/// Makes the call and puts its result, or why there is none, into the transcript.
pub(crate) async fn make(turn: &Turn<'_>, call: WantedCall) -> Result<(), Ended> {
    let WantedCall { id, tool, arguments } = call;
    let door = match tool.as_ref().ok().and_then(|name| find(turn, name)) {
        Some(door) => door,
        None => {
            let name = tool.unwrap_or_else(|_| unknown_tool());
            let text = "There is no such tool here. Use only the tools that you were told about.";
            return tell_model(turn, &id, &name, text).await;
        }
    };
    if let Err(why) = turn.schemas.check(door.definition(), arguments.inspect()) {
        return tell_model(turn, &id, door.name(), &why).await;
    }
    let draft = ToolDraft { call: id.clone(), turn: turn.id, arguments };
    let cleared = match turn.gate.clear::<ToTool>(turn.session, &door, draft).await {
        Verdict::Cleared(cleared) => cleared,
        // Nobody is worn down by questions: beyond the policy's number the answer is no.
        Verdict::Held(held) if !turn.may_ask() => {
            turn.tell_verdict(Hop::ToTool, VerdictKind::Refused, held.receipt(), held.plan().rules.clone());
            return tell_model(turn, &id, door.name(), REFUSAL_FOR_MODELS).await;
        }
        Verdict::Held(held) => match ask_a_human(turn, *held).await? {
            Some(cleared) => cleared,
            None => return tell_model(turn, &id, door.name(), REFUSAL_FOR_MODELS).await,
        },
        Verdict::Refused(refused) if refused.receipt.is_none() => return Err(turn.refused(*refused)),
        Verdict::Refused(refused) => {
            // The model hears a constant; the owner sees why.
            let _told = turn.refused(*refused);
            return tell_model(turn, &id, door.name(), REFUSAL_FOR_MODELS).await;
        }
    };
    call_tool(turn, &id, &door, cleared).await
}

fn find(turn: &Turn<'_>, name: &ToolName) -> Option<Door<ToTool>> {
    turn.workspace.tools().into_iter().find(|door| door.name() == name)
}

/// Asks, waits until the question's own deadline, and goes on with the answer. No answer is no.
async fn ask_a_human(turn: &Turn<'_>, held: Held<ToTool>) -> Result<Option<Cleared<ToTool>>, Ended> {
    let plan = held.plan().clone();
    let digest = plan.digest();
    turn.journal.asked(turn.id, &plan, digest).await?;
    let mut asked = turn.approvals.ask(turn.id, &plan);
    turn.tell_verdict(Hop::ToTool, VerdictKind::Held, held.receipt(), plan.rules.clone());
    turn.tell(TurnEvent::ApprovalRequested {
        approval: plan.approval,
        summary: format!("{} wants to run with {}. {}", plan.destination, plan.content, plan.why),
        authors: plan.untrusted.iter().map(ToString::to_string).collect(),
        expires: plan.expires,
    });
    let patience = std::time::Duration::from_millis(plan.expires.millis_since(turn.journal.now()));
    let human = turn.time.human();
    let answer = match tokio::time::timeout(patience, &mut asked.answer).await {
        Ok(Ok(answer)) => answer,
        _ => sigil_gate::Answer { plan: digest, approved: false, by: turn.session.context().principal.clone() },
    };
    drop(human);
    drop(asked);
    turn.journal.answered(&plan, &answer).await?;
    turn.tell(TurnEvent::ApprovalResolved { approval: plan.approval, approved: answer.approved });
    match turn.gate.resume(turn.session, held, &answer).await {
        Verdict::Cleared(cleared) => Ok(Some(cleared)),
        Verdict::Held(_) => Ok(None),
        Verdict::Refused(refused) if refused.receipt.is_none() => Err(turn.refused(*refused)),
        Verdict::Refused(refused) => {
            let _told = turn.refused(*refused);
            Ok(None)
        }
    }
}

async fn call_tool(turn: &Turn<'_>, id: &str, door: &Door<ToTool>, cleared: Cleared<ToTool>) -> Result<(), Ended> {
    let receipt = cleared.receipt().id();
    turn.tell_verdict(Hop::ToTool, VerdictKind::Cleared, receipt, cleared.findings().to_vec());
    turn.tell(TurnEvent::ToolCall {
        call: id.to_owned(),
        tool: door.name().clone(),
        // The arguments may hold what the chat may not see; then only the owner's approvals and the log show them.
        arguments: turn.session.audience_may_read().then(|| cleared.body().arguments.clone()),
        receipt,
    });
    // A call with an effect that was started is never repeated after a crash, so its start is durable before it.
    turn.journal.call_started(turn.id, id, door.name(), door.effect(), receipt).await?;
    let outcome = door.call(turn.session, cleared).await;
    let (ok, text, bytes) = match outcome.answer {
        Ok(answer) => {
            let bytes = answer.inspect().bytes;
            (answer.inspect().ok, answer.map(|answer| answer.content), bytes)
        }
        Err(failed) => {
            let told = Untrusted::new(sigil_types::Origin::System, format!("The tool failed: {failed}"));
            (false, told, 0)
        }
    };
    let result = ToolResult { call: id, tool: door.name(), ok, text: &text, label: &outcome.label };
    turn.journal.call_finished(turn.session, turn.id, result).await?;
    let rules = turn.gate.scanner().scan(sigil_types::Stage::Tool, text.inspect()).findings;
    turn.tell(TurnEvent::ToolResult {
        call: id.to_owned(),
        tool: door.name().clone(),
        ok,
        bytes,
        rules: rules.into_iter().map(|finding| finding.rule).collect(),
    });
    Ok(())
}

/// Answers the model in Sigil's own words, in place of a result.
async fn tell_model(turn: &Turn<'_>, id: &str, tool: &ToolName, text: &str) -> Result<(), Ended> {
    let words = Untrusted::new(sigil_types::Origin::System, text.to_owned());
    let result = ToolResult { call: id, tool, ok: false, text: &words, label: &Label::bottom() };
    turn.journal.call_refused(turn.session, turn.id, result).await?;
    turn.tell(TurnEvent::ToolResult {
        call: id.to_owned(),
        tool: tool.clone(),
        ok: false,
        bytes: 0,
        rules: Vec::new(),
    });
    Ok(())
}
