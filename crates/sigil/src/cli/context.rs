//! What every command needs: how to print, and the configuration when it is asked for.

use sigil_config::{Inputs, Resolved};
use sigil_types::Timestamp;

use super::args::Global;
use super::complaint::Complaint;
use super::output::Output;

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// How to print.
    pub(crate) output: Output,
    /// The options of every command.
    pub(crate) global: Global,
}

impl Context {
    /// The context that the options ask for.
    pub(crate) fn new(global: Global) -> Self {
        Self { output: Output::new(&global), global }
    }

    /// What the configuration depends on, with `flags` on top: flag, key, value.
    pub(crate) fn inputs(&self, flags: Vec<(&str, &str, serde_json::Value)>) -> Inputs {
        let data_dir = self.global.data_dir.iter().map(|path| {
            ("--data-dir".to_owned(), "gateway.data_dir".to_owned(), path.to_string_lossy().into_owned().into())
        });
        let flags = flags.into_iter().map(|(flag, key, value)| (flag.to_owned(), key.to_owned(), value));
        Inputs::from_process(self.global.config.clone(), data_dir.chain(flags).collect())
    }

    /// The resolved configuration.
    pub(crate) fn resolved(&self) -> Result<Resolved, Complaint> {
        self.resolved_with(Vec::new())
    }

    /// The resolved configuration with `flags` on top.
    pub(crate) fn resolved_with(&self, flags: Vec<(&str, &str, serde_json::Value)>) -> Result<Resolved, Complaint> {
        let resolved = sigil_config::load(&self.inputs(flags))?;
        if self.output.verbose > 0 {
            resolved.notes.iter().for_each(|note| self.output.note(format!("note: {}", note.text)));
        }
        Ok(resolved)
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        sigil_types::Clock::now(&sigil_types::SystemClock)
    }
}
