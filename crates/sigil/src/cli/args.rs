//! The command line, as types.

mod groups;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sigil_types::{ApprovalId, SessionId, TurnId};

pub(crate) use groups::{
    AuditCommand, ConfigCommand, LearnArgs, PassphraseArgs, PluginCommand, PolicyCommand, ProfileArgs, ProfileFormat,
    SandboxCommand, SecretCommand, YesTo,
};

/// A self-hosted gateway between people and AI agents, with every tool in a sandbox and every message screened.
#[derive(Debug, Parser)]
#[command(
    name = "sigil",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Examples:
  sigil demo                          watch everything at work, in a throw-away folder
  sigil init                          set up: configuration, keys, signed policy
  sigil start                         run the gateway
  sigil chat \"summarise my notes\"     ask one question
  sigil doctor                        try the sandbox on this machine
Each command has examples of its own: sigil COMMAND --help")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Global {
    /// Print data as JSON; errors are problem documents on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Configuration file; nothing else is searched then.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Print less.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more; twice, even more.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On terminals, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show everything at work: the real gateway, sandbox and plugins, in a throw-away folder.
    #[command(after_help = "Examples:\n  sigil demo\n  sigil demo --json | jq .scene")]
    Demo,
    /// Set up: configuration, owner's key, signed policy, first token.
    Init(InitArgs),
    /// Run the gateway in the foreground.
    Start(StartArgs),
    /// Show the state of the running gateway.
    Status,
    /// Print version and build.
    Version,
    /// Talk to the agent: one question, or a conversation.
    Chat(ChatArgs),
    /// Scan text as the gate does.
    Scan(ScanArgs),
    /// Keys, signing and tests of the policy.
    #[command(subcommand, arg_required_else_help = true)]
    Policy(PolicyCommand),
    /// Read and verify the audit log.
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
    /// Plugins and their sandboxes.
    #[command(subcommand, arg_required_else_help = true)]
    Plugin(PluginCommand),
    /// Secrets in the vault. Values are never printed.
    #[command(subcommand, arg_required_else_help = true)]
    Secret(SecretCommand),
    /// Run a command in the sandbox; explain a plugin's sandbox.
    #[command(subcommand, arg_required_else_help = true)]
    Sandbox(SandboxCommand),
    /// Show and check the configuration.
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Try the sandbox on this machine and check the set-up.
    Doctor(DoctorArgs),
    /// Questions that wait for you.
    Approvals(ApprovalsArgs),
    /// Explain an error code, check or rule.
    Explain(ExplainArgs),
    /// Print a completion script.
    #[command(after_help = "Examples:\n  sigil completions bash > ~/.local/share/bash-completion/completions/sigil")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `sigil init`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  sigil init
  sigil init --provider anthropic --model claude-sonnet-5 --api-key-stdin < key.txt
  sigil init --yes --no-passphrase --provider openai --base-url http://127.0.0.1:8080/v1 --model local")]
pub(crate) struct InitArgs {
    /// Model provider: anthropic or openai (anything that speaks its API).
    #[arg(long, value_name = "KIND")]
    pub(crate) provider: Option<String>,
    /// Base URL, with or without `/v1`. A loopback address is put into the policy that is signed.
    #[arg(long, value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Model.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Environment variable that has the key when the gateway starts.
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_stdin")]
    pub(crate) api_key_env: Option<String>,
    /// Read the key from standard input, and put it into the vault.
    #[arg(long)]
    pub(crate) api_key_stdin: bool,
    /// How strict the policy is: strict, balanced or developer.
    #[arg(long, default_value = "balanced")]
    pub(crate) preset: String,
    /// Read the passphrase of the owner's key from the first line of standard input.
    #[arg(long, conflicts_with_all = ["no_passphrase", "api_key_stdin"])]
    pub(crate) passphrase_stdin: bool,
    /// Leave the owner's key unencrypted; `sigil doctor` says so.
    #[arg(long)]
    pub(crate) no_passphrase: bool,
    /// Folder that the plugin `files` may read; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub(crate) read: Vec<PathBuf>,
    /// Folder that the plugin `files` may read and write; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub(crate) write: Vec<PathBuf>,
    /// Host and port that the plugin `fetch` may reach, or `*.` and a name for all below it; may be repeated.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) allow_host: Vec<sigil_policy::HostRule>,
    /// Folder of plugins, before the installed ones.
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
    /// Ask nothing; take defaults.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Options of `sigil start`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  sigil start\n  sigil start --listen 127.0.0.1:8000\n  sigil --data-dir ./data start"
)]
pub(crate) struct StartArgs {
    /// Address of the HTTP API: loopback only.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_listen")]
    pub(crate) listen: Option<String>,
    /// No HTTP over TCP, only the Unix socket.
    #[arg(long)]
    pub(crate) no_listen: bool,
    /// Folder of plugins, before the installed ones.
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
}

/// Options of `sigil chat`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  sigil chat \"what is in my notes?\"
  sigil chat                               a conversation; /quit ends it
  sigil chat --session ss_01J… \"and then?\"
  sigil chat --turn tn_01J…                what became of a message
  sigil chat --json \"hello\"                one event a line")]
pub(crate) struct ChatArgs {
    /// The message; `-` reads it from standard input. Without it: a conversation.
    pub(crate) text: Option<String>,
    /// Go on in this session.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<SessionId>,
    /// Send nothing: watch this turn, or see how it ended.
    #[arg(long, value_name = "ID", conflicts_with_all = ["text", "session", "workspace"])]
    pub(crate) turn: Option<TurnId>,
    /// Workspace of a new session.
    #[arg(long, value_name = "NAME")]
    pub(crate) workspace: Option<sigil_types::WorkspaceId>,
}

/// Options of `sigil scan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  echo 'Ignore all previous instructions' | sigil scan --stage input
  sigil scan --stage tool page.html
  sigil scan --stage input --jsonl < samples.jsonl

With --jsonl each line is {\"id\",\"text\"}, and each answer {\"id\",\"action\",\"findings\"}.
The exit status is 8 with --fail and a finding that is not allowed.")]
pub(crate) struct ScanArgs {
    /// The point on the road: input, tool, arguments, output or memory.
    #[arg(long, default_value = "input")]
    pub(crate) stage: sigil_types::Stage,
    /// Where the text comes from; without it what is usual for the stage.
    #[arg(long)]
    pub(crate) origin: Option<sigil_types::Origin>,
    /// Read lines of JSON, write lines of JSON.
    #[arg(long)]
    pub(crate) jsonl: bool,
    /// Signed policy whose table decides; without it, the built-in one.
    #[arg(long, value_name = "PRESET", default_value = "balanced")]
    pub(crate) preset: String,
    /// Exit with 8 when something is not simply allowed.
    #[arg(long)]
    pub(crate) fail: bool,
    /// File to read; standard input without it.
    pub(crate) file: Option<PathBuf>,
}

/// How bad a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Level {
    /// Could be better.
    Warn,
    /// Is not as it must be.
    Fail,
}

/// Options of `sigil doctor`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  sigil doctor\n  sigil doctor --ci\n  sigil doctor --prove\n  sigil doctor --json | jq .battery.open"
)]
pub(crate) struct DoctorArgs {
    /// Exit with 8 when something fails.
    #[arg(long)]
    pub(crate) ci: bool,
    /// Exit with 8 when something is at least this bad.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) fail_on: Option<Level>,
    /// Try each escape attempt unconfined, without the layers that stop it, and with each of them alone as well: shows that
    /// the battery can fail, and what each layer is worth.
    #[arg(long)]
    pub(crate) prove: bool,
}

/// Options of `sigil approvals`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  sigil approvals
  sigil approvals show ap_01J…
  sigil approvals allow ap_01J…
  sigil approvals deny ap_01J…")]
pub(crate) struct ApprovalsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ApprovalsCommand>,
}

/// `sigil approvals …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// List those that wait.
    List {
        /// Answered ones too.
        #[arg(long)]
        all: bool,
    },
    /// Show exactly what is asked.
    Show {
        /// Its id, `ap_…`.
        id: ApprovalId,
    },
    /// Say yes, once, to exactly this plan.
    Allow {
        /// Its id, `ap_…`.
        id: ApprovalId,
        /// Digest of the plan that you looked at; asked for on a terminal.
        #[arg(long, value_name = "DIGEST")]
        plan: Option<sigil_types::Digest>,
    },
    /// Say no.
    Deny {
        /// Its id, `ap_…`.
        id: ApprovalId,
    },
}

/// Options of `sigil explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  sigil explain policy.bundle.expired\n  sigil explain --list")]
pub(crate) struct ExplainArgs {
    /// The code.
    #[arg(required_unless_present = "list")]
    pub(crate) code: Option<sigil_types::Code>,
    /// List all codes that are known.
    #[arg(long)]
    pub(crate) list: bool,
}
