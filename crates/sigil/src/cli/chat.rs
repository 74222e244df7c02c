//! `sigil chat`: a message, what it causes, and the questions that come up on the way.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use futures_util::StreamExt;
use sigil_server::api::{self, Envelope};
use sigil_types::{ApprovalId, Code, RequestId, SessionId, TurnEvent, TurnId};
use tokio::sync::mpsc;

use super::args::ChatArgs;
use super::client::{Client, runtime};
use super::complaint::{Complaint, Outcome};
use super::context::Context;
use super::exit::Exit;
use super::output::Paint;
use super::transcript::Transcript;
use super::{approvals, input, safe};

/// How often a broken event stream is taken up again before giving up.
const RETRIES: u32 = 5;
/// How long a gateway that went away is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(250);

/// A conversation with the gateway.
struct Chat<'a> {
    context: &'a Context,
    client: Client,
    session: SessionId,
    /// Lines that are typed; none without a terminal.
    typed: Option<mpsc::Receiver<String>>,
}

pub(super) fn run(context: &Context, args: ChatArgs) -> Outcome {
    let client = Client::new(&context.resolved()?.folders.socket);
    let interactive = std::io::stdin().is_terminal() && !context.output.json;
    let text = match args.text.as_deref() {
        _ if args.turn.is_some() => None,
        Some("-") => Some(input::text(None)?),
        None if !interactive => Some(input::text(None)?),
        Some(text) => Some(text.to_owned()),
        None => None,
    };
    runtime()?.block_on(async {
        let session = match (args.session, args.turn) {
            (Some(session), _) => session,
            (None, Some(turn)) => client.get::<api::Turn>(&format!("/api/v1/turns/{turn}")).await?.session,
            (None, None) => {
                let new = api::NewSession { workspace: args.workspace };
                client.post::<api::Session>("/api/v1/sessions", &new, &[]).await?.id
            }
        };
        let typed = interactive.then(lines);
        let mut chat = Chat { context, client, session, typed };
        tokio::select! {
            outcome = async {
                match (args.turn, text) {
                    (Some(turn), _) => chat.watch(turn).await,
                    (None, Some(text)) => chat.turn(&text).await,
                    (None, None) => chat.converse().await,
                }
            } => outcome,
            _ = tokio::signal::ctrl_c() => {
                let note = format!("\nthe turn goes on without you; go on with: sigil chat --session {session}");
                context.output.note(note);
                Ok(Exit::Interrupted)
            }
        }
    })
}

/// What is typed, line by line, from a thread of its own: it may wait for ever, and ends with the program.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Chat<'_> {
    async fn converse(&mut self) -> Outcome {
        let output = &self.context.output;
        output.note(output.paint_error(Paint::Dim, &format!("session {} · /quit ends it", self.session)));
        let mut last = Exit::Ok;
        loop {
            output.prompt(&output.paint_error(Paint::Bold, "› "));
            let Some(line) = self.line().await else { return Ok(last) };
            match line.trim() {
                "" => {}
                "/quit" | "/exit" => return Ok(last),
                text => match self.turn(text).await {
                    Ok(exit) => last = exit,
                    // A refused message ends its turn, not the conversation; a gateway that is gone ends both.
                    Err(complaint) if complaint.exit == Exit::GatewayDown => return Err(complaint),
                    Err(complaint) => complaint.show(output),
                },
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        match &mut self.typed {
            Some(typed) => typed.recv().await,
            None => None,
        }
    }

    /// Sends a message and shows what its turn does until it is over.
    async fn turn(&mut self, text: &str) -> Outcome {
        let key = RequestId::generate(self.context.now()).to_string();
        let path = format!("/api/v1/sessions/{}/turns", self.session);
        let new = api::NewTurn { text: text.to_owned() };
        let mut lost = 0;
        let accepted: api::TurnAccepted = loop {
            match self.client.post(&path, &new, &[("idempotency-key", &key)]).await {
                Ok(accepted) => break accepted,
                // It may have been heard before the connection broke off. The key makes it the same message.
                Err(broken) if broken.is_lost() && lost < RETRIES => self.wait_for_gateway(None).await?,
                Err(refused) => return Err(refused),
            }
            lost += 1;
        };
        self.watch(accepted.turn).await
    }

    /// Waits until a gateway that went away answers again: in the middle of `turn`, or before it had accepted one.
    async fn wait_for_gateway(&self, turn: Option<TurnId>) -> Result<(), Complaint> {
        let output = &self.context.output;
        output.note(output.paint_error(Paint::Yellow, "  … the gateway went away; waiting for it  (sigil start)"));
        let mut looks = tokio::time::interval(LOOK);
        let looking = async {
            loop {
                looks.tick().await;
                if self.client.get::<api::Status>("/api/v1/status").await.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.map_err(|_| {
            let code = Code::new("cli.gateway.connection.lost");
            let gone = Complaint::new(code, "the gateway went away, and does not come back").exit(Exit::GatewayDown);
            let gone = gone.fix("run it again", Some("sigil start"));
            match turn {
                Some(turn) => gone
                    .why("the message is kept: when it runs again the turn goes on, or ends and says what is in doubt")
                    .fix("then see what became of it", Some(&format!("sigil chat --turn {turn}"))),
                None => gone.why("it did not say whether it took the message").fix(
                    "then look into the conversation, and go on",
                    Some(&format!("sigil chat --session {}", self.session)),
                ),
            }
        })
    }

    async fn watch(&mut self, turn: TurnId) -> Outcome {
        let output = self.context.output.clone();
        let mut transcript = Transcript::new(&output);
        let path = format!("/api/v1/turns/{turn}/events");
        let (mut seen, mut broken) = (0, 0);
        loop {
            let mut events = match self.client.events(&path, seen).await {
                Ok(events) => events,
                // The message is accepted, so there is something to wait for.
                Err(gone) if gone.exit == Exit::GatewayDown && broken <= RETRIES => {
                    broken += 1;
                    transcript.close();
                    self.wait_for_gateway(Some(turn)).await?;
                    continue;
                }
                Err(complaint) => return Err(complaint),
            };
            while let Some(Ok(event)) = events.next().await {
                let Ok(envelope) = serde_json::from_str::<Envelope>(&event.data) else { continue };
                if envelope.seq <= seen {
                    continue;
                }
                (seen, broken) = (envelope.seq, 0);
                let known = envelope.event();
                if output.json {
                    output.line(&event.data);
                    if let Some(TurnEvent::Finished { outcome, .. }) = &known {
                        return Ok(Transcript::exit(*outcome));
                    }
                    continue;
                }
                let Some(event) = known else { continue };
                if let Some(exit) = transcript.show(&event) {
                    return Ok(exit);
                }
                if let TurnEvent::ApprovalRequested { approval, .. } = event {
                    self.ask(approval).await?;
                }
            }
            broken += 1;
            if broken > RETRIES {
                transcript.close();
                let code = Code::new("cli.gateway.connection.lost");
                return Err(Complaint::new(code, "the turn's events break off again and again")
                    .exit(Exit::GatewayDown)
                    .fix(
                        "the turn itself goes on; see what became of it",
                        Some(&format!("sigil chat --turn {turn}")),
                    ));
            }
        }
    }

    /// Asks the person at the terminal; without one, says how to answer.
    async fn ask(&mut self, id: ApprovalId) -> Result<(), Complaint> {
        let output = self.context.output.clone();
        if self.typed.is_none() {
            output.note(format!("  answer with: sigil approvals show {id}"));
            return Ok(());
        }
        let approval = approvals::find(&self.client, id).await?;
        if approval.state != api::ApprovalState::Pending {
            return Ok(());
        }
        approvals::card(&output, &approval).iter().for_each(|line| output.error_line(line));
        output.prompt("  [a]llow exactly this, once, or [d]eny? ");
        let approve = loop {
            match self.line().await.as_deref().map(str::trim) {
                Some("a" | "allow") => break true,
                Some("d" | "deny" | "n" | "no") | None => break false,
                Some(_) => output.prompt("  a or d? "),
            }
        };
        match approvals::decide(&self.client, &approval, approve).await {
            Ok(_) => Ok(()),
            // Somebody else was faster, or the time ran out: the turn says which.
            Err(complaint) if matches!(complaint.exit, Exit::Conflict | Exit::NotFound) => {
                output.note(format!("  {}", safe::line(&complaint.what)));
                Ok(())
            }
            Err(complaint) => Err(complaint),
        }
    }
}
