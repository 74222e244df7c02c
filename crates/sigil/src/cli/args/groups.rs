//! The commands that have commands of their own: `sigil <noun> <verb>`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `sigil policy …`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Make a signing key.
    #[command(after_help = "Examples:\n  sigil policy keygen\n  sigil policy keygen --out laptop.json --no-passphrase")]
    Keygen {
        /// Where to write it; without it `keys/owner.json` in the configuration folder. Never overwritten.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Sign a policy, after its decision tests hold.
    #[command(after_help = "Examples:
  sigil policy sign --source my-policy
  sigil policy sign --preset strict --days 90
  sigil policy sign --add policy.dsse --key second.json")]
    Sign {
        /// Folder with the policy's files; without it, the built-in ones.
        #[arg(long, value_name = "DIR")]
        source: Option<PathBuf>,
        /// Changes to the default: strict, balanced or developer.
        #[arg(long)]
        preset: Option<String>,
        /// Key file; without it `keys/owner.json` in the configuration folder.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Version; without it, one more than that of the policy in its place.
        #[arg(long)]
        version: Option<u64>,
        /// Days for which it is valid.
        #[arg(long, default_value_t = 365)]
        days: u64,
        /// Add this key's signature to a signed policy instead.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "preset", "version"])]
        add: Option<PathBuf>,
        /// Where to write it; without it, the configured place.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Verify a signed policy with the trusted keys.
    Verify {
        /// The signed policy; without it, the configured one.
        file: Option<PathBuf>,
        /// Trust document; without it, the launcher's.
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
    /// Show what a signed policy says, verified or not.
    Show {
        /// The signed policy; without it, the configured one.
        file: Option<PathBuf>,
        /// Print this file of it instead, such as `ceilings.toml`.
        #[arg(long, value_name = "PATH")]
        print: Option<String>,
    },
    /// Run the decision tests of a policy.
    Test {
        /// Folder with the policy's files; without it, the built-in ones.
        source: Option<PathBuf>,
        /// Changes to the default: strict, balanced or developer.
        #[arg(long)]
        preset: Option<String>,
    },
    /// Write the built-in policy's files to a folder, to start from.
    Export {
        /// Where; must not exist or be empty.
        folder: PathBuf,
        /// Changes to the default: strict, balanced or developer.
        #[arg(long)]
        preset: Option<String>,
    },
}

/// Where a passphrase comes from. Never from the command line itself.
#[derive(Clone, Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// Read the passphrase from the first line of standard input.
    #[arg(long, conflicts_with = "no_passphrase")]
    pub(crate) passphrase_stdin: bool,
    /// The key has no passphrase.
    #[arg(long)]
    pub(crate) no_passphrase: bool,
}

/// `sigil audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check every entry, hash and signed head of the log.
    #[command(after_help = "Examples:\n  sigil audit verify\n  sigil audit verify --file copy.db --key 'sigil/host+…'")]
    Verify {
        /// The log; without it, this Sigil's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Key that heads are checked with, as NAME+HASH+BASE64; without it, the launcher's.
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
    },
    /// Show the newest entries, and those to come.
    #[command(after_help = "Examples:\n  sigil audit tail -f\n  sigil audit tail -n 50 --kind gate.clear")]
    Tail {
        /// How many.
        #[arg(short, long, default_value_t = 20)]
        number: usize,
        /// Go on with new ones.
        #[arg(short, long)]
        follow: bool,
        /// Only kinds that are this, or begin with this and a dot.
        #[arg(long)]
        kind: Option<String>,
        /// The log; without it, this Sigil's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show one entry in full.
    Show {
        /// Its id, `ev_…`.
        id: sigil_types::EventId,
        /// The log; without it, this Sigil's.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `sigil plugin …`
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins of the running gateway.
    List,
    /// Show one plugin with its tools and its sandbox.
    Show {
        /// Its name.
        name: sigil_types::PluginName,
    },
    /// Check a plugin's manifest, and print the digest of its tree.
    Validate {
        /// The plugin's folder.
        folder: PathBuf,
    },
    /// Copy a plugin into the store. It runs only when the signed policy names its digest.
    Install {
        /// The plugin's folder.
        folder: PathBuf,
    },
}

/// `sigil secret …`
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Store a secret, read from standard input or asked for.
    #[command(after_help = "Examples:
  sigil secret set anthropic --consumer provider:main --host api.anthropic.com < key.txt
  sigil secret set brave --consumer plugin:search --host api.search.brave.com")]
    Set {
        /// Its name.
        name: sigil_types::Name,
        /// Who may use it, `provider:NAME` or `plugin:NAME`.
        #[arg(long, value_name = "WHO")]
        consumer: sigil_vault::Consumer,
        /// Only in this workspace.
        #[arg(long, value_name = "NAME")]
        workspace: Option<sigil_types::WorkspaceId>,
        /// Host that it may be sent to; may be repeated.
        #[arg(long, value_name = "HOST")]
        host: Vec<sigil_types::HostPattern>,
    },
    /// List names, consumers and hosts.
    List,
    /// Remove a secret.
    Remove {
        /// Its name.
        name: sigil_types::Name,
    },
}

/// `sigil sandbox …`
#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Run a command in the sandbox, with its exit status; 126 and 127 when the sandbox failed.
    #[command(
        disable_help_flag = true,
        after_help = "Examples:
  sigil sandbox run -- ls -la
  sigil sandbox run --read ~/src --write ./out -- make
  sigil sandbox run --allow-host example.com:443 -- curl https://example.com"
    )]
    Run {
        /// Options, `--`, and the command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Run a command, say what it was denied, and run it again with what you grant. Nothing is applied.
    #[command(after_help = "Examples:
  sigil sandbox learn -- make
  sigil sandbox learn --yes-to read --read ~/src -- ./build.sh
  sigil sandbox learn --json -- curl https://example.com")]
    Learn(LearnArgs),
    /// Print what a plugin of the running gateway was refused, why, and what would change that.
    #[command(after_help = "Examples:\n  sigil sandbox denials files\n  sigil sandbox denials --json fetch")]
    Denials {
        /// Its name.
        plugin: sigil_types::PluginName,
    },
    /// Print what a plugin may do, and where each rule comes from.
    #[command(after_help = "Examples:\n  sigil sandbox explain files\n  sigil sandbox explain ./plugins/fetch")]
    Explain {
        /// Its name, or its folder.
        plugin: String,
    },
    /// Print a plugin's compiled profile.
    #[command(after_help = "Examples:
  sigil sandbox profile files
  sigil sandbox profile files --format seatbelt")]
    Profile(ProfileArgs),
}

/// `sigil sandbox profile`
#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// The plugin's name, or its folder.
    pub(crate) plugin: String,
    /// In which form.
    #[arg(long, value_enum, default_value_t = ProfileFormat::Json)]
    pub(crate) format: ProfileFormat,
    /// For Seatbelt: the folder that stands for the private /tmp of the launch.
    #[arg(long, value_name = "FOLDER", default_value = "/private/tmp/sigil")]
    pub(crate) scratch: PathBuf,
    /// For Seatbelt: the port of the egress proxy on the machine's own loopback.
    #[arg(long, value_name = "PORT")]
    pub(crate) proxy_port: Option<u16>,
    /// For Seatbelt: the terminal that the program may use, such as /dev/ttys003.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) terminal: Option<PathBuf>,
}

/// The form of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileFormat {
    /// As the launcher applies it on Linux, and as launch receipts digest it.
    Json,
    /// For macOS; generated, never run on macOS.
    Seatbelt,
}

/// `sigil sandbox learn …`
#[derive(Debug, clap::Args)]
pub(crate) struct LearnArgs {
    /// Agree to every proposal of a kind, without being asked; may be repeated.
    #[arg(long, value_name = "KIND")]
    pub(crate) yes_to: Vec<YesTo>,
    /// Run the command at most so often.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Options of `sigil sandbox run`, `--`, and the command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

/// A kind of proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum YesTo {
    /// Files and folders to read.
    Read,
    /// Files and folders to execute.
    Exec,
    /// Files and folders to change.
    Write,
    /// Hosts to reach.
    Host,
    /// Another base profile.
    Profile,
    /// Everything that can be proposed.
    All,
}

/// `sigil config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the settings in force.
    Show {
        /// Say what set each of them.
        #[arg(long)]
        sources: bool,
    },
    /// Check a configuration, and name every mistake.
    Validate {
        /// The file; without it, what would be used.
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of sigil.yaml.
    Schema,
}
