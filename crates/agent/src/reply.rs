//! One model call: the prompt to the first provider that answers, the answer to the channel as it comes.

use futures_util::StreamExt;
use sigil_gate::port::{ModelEvent, PortFailed, StopReason};
use sigil_gate::{
    ClearedStream, Door, ModelAnswer, PromptDraft, Purpose, SegmentDraft, StreamVerdict, ToChannel, ToProvider, Verdict,
};
use sigil_types::{Code, Hop, TurnEvent, VerdictKind};

use crate::transcript::SegmentSource;
use crate::turn::{Ended, Said, Turn};
use crate::workspace::ModelRoute;

const NO_PROVIDER: Code = Code::new("agent.provider.none.available");
const NO_CHANNEL: Code = Code::new("agent.channel.missing");
const UNFINISHED: Code = Code::new("provider.stream.end.missing");
const UNEXPECTED_HOLD: Code = Code::new("gate.policy.denied");

/// Asks the providers in their order until one answers, each time cleared anew.
pub(crate) async fn ask(turn: &Turn<'_>, segments: SegmentSource) -> Result<Said, Ended> {
    let channel = turn
        .workspace
        .channel(&turn.session.context().channel)
        .ok_or_else(|| Ended::failed(NO_CHANNEL, "The channel of this session is not there any more."))?;
    let mut last = None;
    for route in turn.workspace.providers() {
        match attempt(turn, &route, segments.build(), &channel).await? {
            Attempt::Answered(said) => return Ok(said),
            Attempt::Failed(failed) if failed.retryable => {
                turn.workspace.provider_failed(route.door.destination(), &failed);
                last = Some(failed);
            }
            Attempt::Failed(failed) => return Err(Ended::failed(failed.code, failed.message)),
        }
    }
    Err(match last {
        Some(failed) => Ended::failed(failed.code, failed.message),
        None => Ended::failed(
            NO_PROVIDER,
            "No model provider is set up or healthy. `sigil doctor` says which; `sigil init` sets one up.",
        ),
    })
}

enum Attempt {
    Answered(Said),
    /// Before the first event: another provider may be tried if it says so.
    Failed(PortFailed),
}

async fn attempt(
    turn: &Turn<'_>,
    route: &ModelRoute,
    segments: Vec<SegmentDraft>,
    channel: &Door<ToChannel>,
) -> Result<Attempt, Ended> {
    let draft = PromptDraft {
        model: route.model.clone(),
        segments,
        tools: turn.workspace.tools().iter().map(|door| door.definition().clone()).collect(),
        temperature: route.temperature,
        max_tokens: route.max_tokens,
        purpose: Purpose::Chat,
    };
    let prompt = match turn.gate.clear::<ToProvider>(turn.session, &route.door, draft).await {
        Verdict::Cleared(prompt) => prompt,
        Verdict::Refused(refused) => return Err(turn.refused(*refused)),
        // A prompt has no effect that a human could look at beforehand.
        Verdict::Held(held) => {
            turn.tell_verdict(Hop::ToProvider, VerdictKind::Refused, held.receipt(), held.plan().rules.clone());
            return Err(Ended::failed(UNEXPECTED_HOLD, held.plan().why.clone()));
        }
    };
    turn.tell_verdict(Hop::ToProvider, VerdictKind::Cleared, prompt.receipt().id(), prompt.findings().to_vec());
    turn.journal.label(turn.session).await?;

    // The reply's opening receipt is written while the provider thinks. `chat` raises the label before it first waits,
    // and is polled first, so the stream opens under the label that it will have.
    let (answer, opened) = futures_util::future::join(
        route.door.chat(turn.session, prompt),
        turn.gate.clear_stream(turn.session, channel, turn.id),
    )
    .await;
    let stream = match opened {
        StreamVerdict::Open(stream) => *stream,
        // Before the provider's own failure: whoever may not hear the answer may not hear of that either.
        StreamVerdict::Refused(refused) => return Err(turn.refused(*refused)),
    };
    match answer {
        Ok(answer) => relay(turn, answer, stream, channel, route).await,
        Err(failed) => {
            close(turn, stream, channel, &mut Said::default()).await?;
            Ok(Attempt::Failed(failed))
        }
    }
}

/// Sends the answer on as it comes.
async fn relay(
    turn: &Turn<'_>,
    mut answer: ModelAnswer,
    mut stream: ClearedStream,
    channel: &Door<ToChannel>,
    route: &ModelRoute,
) -> Result<Attempt, Ended> {
    let mut said = Said::default();
    let mut stopped = None;
    let mut first = true;
    while let Some(event) = answer.events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(failed) if first => {
                close(turn, stream, channel, &mut said).await?;
                return Ok(Attempt::Failed(failed));
            }
            // Part of the answer is out already; another provider would begin again.
            Err(failed) => {
                close(turn, stream, channel, &mut said).await?;
                return Err(Ended::failed(failed.code, failed.message));
            }
        };
        first = false;
        let origin = *event.origin();
        match event.inspect() {
            ModelEvent::Text(_) => {
                let words = event.map(|event| if let ModelEvent::Text(text) = event { text } else { String::new() });
                let piece = stream.push(turn.session, words).await.map_err(|stopped| turn.refused(*stopped.refused))?;
                deliver(turn, channel, piece, &mut said).await?;
            }
            ModelEvent::Usage(usage) => {
                turn.gate.spent(turn.session, *usage);
                turn.tell(TurnEvent::Usage(*usage));
            }
            ModelEvent::Stop(reason) => stopped = Some(*reason),
            ModelEvent::ToolCall { .. } => said.take(event.into_inner(), origin, turn.journal.now()),
        }
    }
    close(turn, stream, channel, &mut said).await?;
    turn.workspace.provider_answered(route.door.destination());
    match stopped {
        None => Err(Ended::failed(UNFINISHED, "The provider's answer broke off. Send the message again.")),
        Some(StopReason::Filtered) if said.text.is_empty() => {
            Err(Ended::failed(Code::new("provider.answer.filtered"), "The provider withheld the answer."))
        }
        Some(_) if said.text.is_empty() && said.calls.is_empty() => {
            Err(Ended::failed(Code::new("provider.answer.empty"), "The provider answered with nothing."))
        }
        Some(_) => Ok(Attempt::Answered(said)),
    }
}

async fn close(
    turn: &Turn<'_>,
    stream: ClearedStream,
    channel: &Door<ToChannel>,
    said: &mut Said,
) -> Result<(), Ended> {
    let (piece, closed) = stream.finish(turn.session).await.map_err(|stopped| turn.refused(*stopped.refused))?;
    deliver(turn, channel, piece, said).await?;
    if !said.text.is_empty() {
        turn.tell_verdict(Hop::ToChannel, VerdictKind::Cleared, closed.id(), Vec::new());
    }
    Ok(())
}

async fn deliver(
    turn: &Turn<'_>,
    channel: &Door<ToChannel>,
    piece: sigil_gate::Piece,
    said: &mut Said,
) -> Result<(), Ended> {
    if !piece.rules.is_empty() {
        turn.tell_verdict(Hop::ToChannel, VerdictKind::Cleared, piece.receipt, piece.rules);
    }
    if let Some(cleared) = piece.cleared {
        said.text.push_str(cleared.body().text());
        channel.send(turn.session, cleared).await.map_err(|failed| Ended::failed(failed.code, failed.message))?;
    }
    Ok(())
}
