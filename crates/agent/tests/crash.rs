//! Killed at any point of a turn: no accepted message is lost, no database breaks, no effect is repeated, and what is in
//! doubt is told instead.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::disallowed_methods, reason = "the child is this test, started again to be killed at random moments")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Plan, Road, channel, policy};
use sigil_audit::{LocalSigner, SigningKey, VerifyKeys};
use sigil_gate::port::{BoxFuture, Pass, PortFailed, Tool, ToolAnswer};
use sigil_gate::{Cleared, ToTool, ToolDefinition};
use sigil_policy::Preset;
use sigil_store::{MessageRole, Part, SessionRecord, TurnState};
use sigil_types::{CapabilitySet, Effect, Origin, Secret, ToolFacts, ToolName, TurnId, Untrusted};

const FOLDER: &str = "SIGIL_TEST_CRASH_FOLDER";
/// The call at which the tool hangs, so that a kill surely finds it in doubt.
const HANG: &str = "SIGIL_TEST_CRASH_HANG";
const ROUNDS: usize = 20;

/// Says a line to whoever watches, in one write.
fn say(line: &str) {
    std::io::stdout().write_all(format!("\n@ {line}\n").as_bytes()).unwrap();
}

/// Appends the number that it is called with to a file: an effect that shows when it is repeated.
struct Append {
    definition: ToolDefinition,
    capabilities: CapabilitySet,
    facts: ToolFacts,
    file: PathBuf,
    calls: AtomicUsize,
    hang: Option<usize>,
}

fn append(folder: &Path, hang: Option<usize>) -> Arc<dyn Tool> {
    Arc::new(Append {
        definition: ToolDefinition {
            name: "log.append".parse().unwrap(),
            description: String::new(),
            schema: serde_json::json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}),
        },
        capabilities: common::all(),
        facts: ToolFacts { effect: Effect::Local, ..ToolFacts::pure() },
        file: folder.join("effects"),
        calls: AtomicUsize::new(0),
        hang,
    })
}

impl Tool for Append {
    fn name(&self) -> &ToolName {
        &self.definition.name
    }

    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn facts(&self) -> &ToolFacts {
        &self.facts
    }

    fn capabilities(&self) -> &CapabilitySet {
        &self.capabilities
    }

    fn call(&self, call: Cleared<ToTool>, _: Pass) -> BoxFuture<'_, Result<Untrusted<ToolAnswer>, PortFailed>> {
        let arguments: serde_json::Value = serde_json::from_str(&call.body().arguments).unwrap();
        Box::pin(async move {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.file).unwrap();
            file.write_all(format!("{}\n", arguments["n"]).as_bytes()).unwrap();
            say(&format!("effect {}", arguments["n"]));
            if self.hang == Some(self.calls.fetch_add(1, Ordering::Relaxed)) {
                say("hanging");
                std::future::pending::<()>().await;
            }
            let answer = ToolAnswer { ok: true, content: "appended".to_owned(), bytes: 8 };
            Ok(Untrusted::new(Origin::Tool, answer))
        })
    }
}

/// The road in `folder`, with the log's key that is kept there.
fn road(folder: &Path, hang: Option<usize>) -> Road {
    let file = folder.join("key");
    let pkcs8 = match std::fs::read(&file) {
        Ok(bytes) => Secret::new(bytes),
        Err(_) => {
            let new = SigningKey::generate().unwrap();
            std::fs::write(&file, new.expose()).unwrap();
            new
        }
    };
    let signer = LocalSigner::new(SigningKey::from_pkcs8("test", &pkcs8).unwrap(), None);
    let policy = policy(Preset::Balanced, 1, |ceilings| {
        ceilings.budgets.tokens_per_session = u64::MAX / 4;
        ceilings.budgets.tokens_per_day = u64::MAX / 4;
    });
    let plan = Plan {
        folder: Some(folder.to_owned()),
        tools: vec![append(folder, hang)],
        model: "rehearsal",
        ..Plan::of(policy)
    };
    Road::with_key(plan, signer)
}

/// Two conversations, so that turns run side by side.
async fn sessions(road: &Road) -> [SessionRecord; 2] {
    let mut sessions = Vec::new();
    for place in ["cli", "group"] {
        let user = "ann".parse().unwrap();
        let all = road.store.sessions(sigil_store::SessionFilter { user: Some(user), ..Default::default() });
        let found = all.await.unwrap().into_iter().find(|session| session.channel == channel(place));
        sessions.push(match found {
            Some(session) => session,
            None => road.open("ann", place).await,
        });
    }
    sessions.try_into().unwrap()
}

/// The child: a gateway in small. It deals with what a crash left, then takes messages until it is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let hang = std::env::var(HANG).ok().and_then(|at| at.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let road = road(Path::new(&folder), hang);
        let recovered = road.agent.recover().await.unwrap();
        say(&format!("recovered {} {}", recovered.resumed, recovered.interrupted));
        let sessions = sessions(&road).await;
        let mut before = 0;
        for session in &sessions {
            before += road.store.turns(session.id, 100_000).await.unwrap().len();
        }
        // Two are always under way; the kill ends it.
        for n in before.. {
            let session = &sessions[n % 2];
            let text = format!(
                "say I begin {n}.\ncall calc.add {{\"n\":{n}}}\nthen\ncall log.append {{\"n\":{n}}}\nthen\nsay done {n}"
            );
            let message = sigil_agent::Message { key: format!("k{n}"), ..road.message(session, &text, true) };
            let turn = road.agent.submit(message).await.unwrap().turn;
            say(&format!("accepted {n} {turn}"));
            if n % 2 == 1 {
                let told = road.watch(turn, false).await;
                say(&format!("ended {n} {:?}", told.outcome));
            }
        }
    });
}

/// Runs the child in `folder` and kills it a random moment after its line number `patience`, or once it hangs.
fn run_and_kill(
    folder: &Path,
    patience: usize,
    micros: u64,
    hang: Option<usize>,
    accepted: &mut BTreeMap<usize, TurnId>,
) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(FOLDER, folder);
    if let Some(hang) = hang {
        command.env(HANG, hang.to_string());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let Some(line) = line.strip_prefix("@ ") else { continue };
        let words: Vec<&str> = line.split(' ').collect();
        if let ["accepted", n, turn] = words.as_slice() {
            let known = accepted.insert(n.parse().unwrap(), turn.parse().unwrap());
            assert!(known.is_none(), "message {n} was taken in twice");
        }
        lines += 1;
        if hang.is_some() && words == ["hanging"] || hang.is_none() && lines == patience {
            std::thread::sleep(Duration::from_micros(micros));
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(lines > 0, "the child did not start");
}

/// How often each number stands in the file of effects.
fn effects(folder: &Path) -> BTreeMap<usize, usize> {
    let mut effects = BTreeMap::new();
    for line in std::fs::read_to_string(folder.join("effects")).unwrap_or_default().lines() {
        *effects.entry(line.parse().unwrap()).or_default() += 1;
    }
    effects
}

async fn check(road: &Road, accepted: &BTreeMap<usize, TurnId>, round: usize) {
    assert_eq!(road.store.integrity().await.unwrap(), Vec::<String>::new(), "round {round}");
    let keys = VerifyKeys { keys: vec![road.audit_key.clone()], anchor: None };
    let report = sigil_audit::verify(&road.folder.join("audit.db"), &keys).unwrap();
    assert!(report.is_sound(), "round {round}: {:?}", report.faults);
    let repeated: Vec<_> = effects(&road.folder).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(repeated.is_empty(), "round {round}: effects were repeated: {repeated:?}");
    for (n, turn) in accepted {
        let kept = road.store.turn(*turn).await.unwrap();
        assert!(kept.is_some_and(|kept| kept.inbound.key == format!("k{n}")), "round {round}: message {n} is lost");
    }
}

#[test]
fn a_kill_loses_no_message_breaks_no_database_and_repeats_no_effect() {
    let folder = common::folder_in_memory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut accepted = BTreeMap::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let patience = 1 + usize::try_from(random % 23).unwrap();
        let hang = (round % 5 == 4).then_some(usize::try_from(random % 3).unwrap());
        run_and_kill(folder.path(), patience, random % 4000, hang, &mut accepted);
        runtime.block_on(async { check(&road(folder.path(), None), &accepted, round).await });
    }
    // What is left is dealt with; then every message has been answered, or its sender told why not.
    runtime.block_on(async {
        let road = road(folder.path(), None);
        road.agent.recover().await.unwrap();
        let (mut done, mut interrupted) = (BTreeSet::new(), BTreeSet::new());
        for (n, turn) in &accepted {
            if road.hub.watch(*turn, 0).is_some() {
                road.watch(*turn, false).await;
            }
            let kept = road.store.turn(*turn).await.unwrap().unwrap();
            match kept.state {
                TurnState::Finished => done.insert(*n),
                TurnState::Interrupted => {
                    assert_eq!(kept.code.unwrap().as_str(), "agent.turn.call.interrupted");
                    let reply = road.store.reply(*turn).await.unwrap().expect("the sender is told");
                    assert!(reply.content.inspect().contains("not repeated"));
                    interrupted.insert(*n)
                }
                other => panic!("message {n} ended {other:?}: {:?}", kept.code),
            };
        }
        check(&road, &accepted, ROUNDS).await;
        let effects = effects(folder.path());
        let answers = answers(&road).await;
        for n in &done {
            assert_eq!(effects.get(n), Some(&1), "message {n} is answered without its effect");
            assert_eq!(answers.get(n), Some(&1), "message {n} is answered once");
        }
        assert!(done.len() > 10 && interrupted.len() >= ROUNDS / 5, "{} done, {} not", done.len(), interrupted.len());
        println!(
            "{} messages in {ROUNDS} kills: {} answered, {} interrupted",
            accepted.len(),
            done.len(),
            interrupted.len()
        );
    });
}

/// How often each message has its last words in the transcript.
async fn answers(road: &Road) -> BTreeMap<usize, usize> {
    let mut answers = BTreeMap::new();
    for session in sessions(road).await {
        for message in road.store.messages(session.id, 0, 100_000).await.unwrap() {
            let text = message.content.inspect();
            if message.role == MessageRole::Assistant
                && message.part == Part::Text
                && let Some(n) = text.strip_prefix("done ")
            {
                *answers.entry(n.parse().unwrap()).or_default() += 1;
            }
        }
    }
    answers
}
