//! [`PluginTool`]: a plugin's tool as the gate's port. The only road from the rest of Sigil to a plugin's call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sigil_gate::port::{BoxFuture, Pass, PortFailed, Tool, ToolAnswer};
use sigil_gate::{Cleared, ToTool, ToolCall, ToolDefinition};
use sigil_types::{CapabilitySet, Code, Origin, ToolFacts, ToolName, Untrusted};
use tracing::Instrument;

use crate::instance::{Instance, NotRunning, Shared, StopReason};
use crate::logs::clean;
use crate::rpc::{Answer, Call, RpcFailed};

/// A tool of a plugin instance.
#[derive(Clone, Debug)]
pub struct PluginTool {
    shared: Arc<Shared>,
    definition: ToolDefinition,
    facts: ToolFacts,
    capabilities: CapabilitySet,
    time: Duration,
    cap: usize,
}

impl PluginTool {
    /// The tools of an instance.
    pub(crate) fn all(instance: &Instance) -> Vec<Self> {
        let Some((definitions, enforced)) = instance.agreed() else { return Vec::new() };
        let shared = &instance.shared;
        let trusted = shared.plugin.manifest.state();
        let one = |definition: &ToolDefinition| {
            let declared = trusted.spec().tools.iter().find(|declared| declared.name == definition.name);
            let most = shared.parts.call_time;
            let cap = declared.and_then(|declared| declared.max_result).and_then(|cap| usize::try_from(cap).ok());
            Self {
                shared: Arc::clone(shared),
                definition: definition.clone(),
                facts: trusted.facts(&definition.name, enforced),
                capabilities: trusted.spec().capabilities.clone(),
                time: declared.and_then(|declared| declared.timeout).map_or(most, |time| time.min(most)),
                cap: cap.map_or(shared.parts.result_bytes, |cap| cap.min(shared.parts.result_bytes)),
            }
        };
        definitions.tools.iter().map(one).collect()
    }

    async fn run(&self, call: ToolCall) -> Result<Untrusted<ToolAnswer>, PortFailed> {
        let deadline = Instant::now() + self.time;
        let running = self.shared.running(deadline).await.map_err(|why| not_running(&self.definition.name, why))?;
        let time = deadline.saturating_duration_since(Instant::now());
        let tool = self.definition.name.tool().to_owned();
        let answer =
            running.client.call(Call { id: call.call, tool, arguments: call.arguments, time, cap: self.cap }).await;
        match answer {
            Ok(answer) => self.answer(answer),
            Err(error) => {
                match &error {
                    RpcFailed::Timeout(_) => running.abandon(),
                    RpcFailed::Protocol(_) | RpcFailed::Closed => running.doubt.notify_one(),
                    RpcFailed::Refused { .. } => {}
                }
                Err(failed(&self.definition.name, self.time, error))
            }
        }
    }

    /// The answer as text that is harmless to show; cut, and saying so, when it is longer than allowed.
    fn answer(&self, answer: Answer) -> Result<Untrusted<ToolAnswer>, PortFailed> {
        let textual = answer.media_type.is_empty()
            || answer.media_type.starts_with("text/")
            || answer.media_type.split(';').next() == Some("application/json");
        if !textual {
            let message = format!("{} answered with something that is not text.", self.definition.name);
            return Err(port_failed("host.call.result.binary", message, false));
        }
        let whole = answer.bytes == answer.content.len() as u64;
        let text = match String::from_utf8(answer.content) {
            Ok(text) => text,
            // Cut inside a character, or no UTF-8 at all.
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        let mut content = clean(&text, true);
        if !whole {
            content.push_str(&format!("\n… cut by Sigil: the first {} of {} bytes", self.cap, answer.bytes));
        }
        Ok(Untrusted::new(Origin::Tool, ToolAnswer { ok: answer.ok, content, bytes: answer.bytes }))
    }
}

impl Tool for PluginTool {
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
        let span =
            tracing::info_span!("host.call", tool = %self.definition.name, instance = %self.shared.record.instance);
        Box::pin(self.run(call.into_body()).instrument(span))
    }
}

fn port_failed(code: &'static str, message: String, retryable: bool) -> PortFailed {
    // Every code in this file is one: the tests call each of these.
    let code = code.parse().unwrap_or(const { Code::new("host.call.failed") });
    PortFailed { code, message, retryable, detail: None }
}

fn not_running(tool: &ToolName, why: NotRunning) -> PortFailed {
    let plugin = tool.plugin();
    match why {
        NotRunning::Starting => {
            port_failed("host.call.plugin.starting", format!("The plugin {plugin} is being started; try again."), true)
        }
        NotRunning::Stopped(why) => {
            let why = match why {
                StopReason::Ordered => "it was stopped",
                StopReason::CrashLoop => "it ended too often",
                StopReason::Refused => "it was refused at its last start",
            };
            let message = format!("The plugin {plugin} does not run: {why}. See `sigil plugin logs {plugin}`.");
            port_failed("host.call.plugin.stopped", message, false)
        }
    }
}

/// Never retryable: the call had begun, and what it had done by then nobody knows.
fn failed(tool: &ToolName, time: Duration, error: RpcFailed) -> PortFailed {
    match error {
        RpcFailed::Closed => {
            port_failed("host.call.connection.lost", format!("The plugin of {tool} ended during the call."), false)
        }
        RpcFailed::Timeout(_) => {
            port_failed("host.call.time.exceeded", format!("{tool} did not answer within {time:?}."), false)
        }
        RpcFailed::Protocol(what) => {
            port_failed("host.call.protocol.bad", format!("{tool} does not speak the protocol: {what}."), false)
        }
        RpcFailed::Refused { code, message } => {
            let mut failed =
                port_failed("host.call.tool.refused", format!("{tool} refused the call ({code:?})."), false);
            failed.detail = Some(Untrusted::new(Origin::Plugin, clean(&message, false)));
            failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_code_and_none_of_a_begun_call_is_retryable() {
        let tool: ToolName = "files.read".parse().expect("a tool");
        let refused = RpcFailed::Refused { code: tonic::Code::Aborted, message: "a\u{1b}[2Jb".into() };
        let errors = [RpcFailed::Closed, RpcFailed::Timeout(Duration::ZERO), RpcFailed::Protocol("x"), refused];
        let all: Vec<PortFailed> =
            errors.into_iter().map(|error| failed(&tool, Duration::from_secs(1), error)).collect();
        assert!(all.iter().all(|failed| !failed.retryable && failed.code.as_str() != "host.call.failed"));
        let detail = all.last().and_then(|failed| failed.detail.as_ref()).expect("a detail");
        assert_eq!(detail.inspect(), "a\u{fffd}[2Jb");
        for why in [NotRunning::Starting, NotRunning::Stopped(StopReason::CrashLoop)] {
            assert_ne!(not_running(&tool, why).code.as_str(), "host.call.failed");
        }
    }
}
