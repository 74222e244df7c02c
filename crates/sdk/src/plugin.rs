//! A plugin: a name, a version, and tools.

use std::io;
use std::process::ExitCode;

use crate::{Tool, serve};

/// A plugin, ready to serve.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) tools: Vec<Tool>,
}

/// Why a plugin could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailed {
    /// Started by a person, or by another program.
    #[error(
        "this is a plugin of Sigil: it is started by `sigil`, which hands it a socket ({} is not set to {})",
        sigil_proto::RPC_FD,
        sigil_proto::RPC_FD_NUMBER
    )]
    NotAPlugin,
    /// The inherited socket cannot be used.
    #[error("the socket to Sigil cannot be used: {0}")]
    Socket(#[source] io::Error),
    /// The connection broke.
    #[error("the connection to Sigil broke: {0}")]
    Connection(String),
}

impl Plugin {
    /// A plugin with the name and version of its manifest: the host compares them.
    #[must_use]
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version, tools: Vec::new() }
    }

    /// Adds a tool.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.tools.push(tool);
        self
    }

    /// Serves until the host says stop or goes away. Meant as the last line of `main`: says on standard error what went
    /// wrong, and makes it the exit status.
    #[must_use]
    pub fn serve(self) -> ExitCode {
        match self.try_serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "a plugin's standard error is its log")]
                {
                    eprintln!("{}: {error}", self.name);
                }
                ExitCode::FAILURE
            }
        }
    }

    /// Serves until the host says stop or goes away.
    ///
    /// # Errors
    /// [`ServeFailed`] when there is no usable socket, or the connection ends in any other way than a regular one.
    pub fn try_serve(&self) -> Result<(), ServeFailed> {
        let socket = serve::inherited()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(8)
            .build()
            .map_err(ServeFailed::Socket)?;
        let outcome = runtime.block_on(serve::serve(self, socket));
        // A tool that is still busy has had its time: the host has already given up on it.
        runtime.shutdown_background();
        outcome
    }
}
