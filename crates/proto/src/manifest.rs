//! `plugin.yaml`: what a plugin says about itself and asks for.
//!
//! A manifest is somebody else's file and the start of every right that a plugin can have, so reading it is a border: the
//! parser is strict (one document, no duplicate keys, bounded size, depth and aliases), and [`Manifest::validate`] reports
//! *every* mistake with its path, not the first. Passing it grants nothing: that is for signed policy.
//!
//! ```text
//! bytes ──parse──► Manifest<Unchecked> ──validate──► Manifest<Checked> ──endorsed by signed policy (host)──► Manifest<Trusted>
//! ```

mod check;
mod read;
mod spec;
mod units;

use sigil_types::{Code, Digest};

pub use spec::{
    Access, ConfigSchema, DeclaredFacts, DeclaredTool, Dependency, EndedAsk, ExecAsk, Execution, FilesystemAsk,
    FilesystemTarget, GoPlugin, Lifecycle, Limits, NetworkAsk, NetworkLimits, NetworkTarget, PluginKind, SandboxSpec,
    Spec, Storage, Tier, Transport,
};
pub use units::{parse_bytes, parse_duration};

/// The name of the file in a plugin's tree.
pub const FILE_NAME: &str = "plugin.yaml";

/// The largest manifest, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// A manifest in one of its states: [`Unchecked`], [`Checked`], or the plugin host's `Trusted`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest<S> {
    digest: Digest,
    state: S,
}

/// State of a manifest of which only the form is known: YAML within its budget, without duplicate keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Unchecked(serde_json::Value);

/// State of a manifest whose every field has been checked. It has been granted nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked(Box<Spec>);

/// Why bytes are not a manifest at all.
#[derive(Debug, thiserror::Error)]
pub enum ParseManifest {
    /// Too large.
    #[error("a plugin.yaml has at most {MAX_BYTES} bytes, this one has {0}")]
    Size(usize),
    /// Not UTF-8.
    #[error("a plugin.yaml is UTF-8 text: {0}")]
    Encoding(#[from] std::str::Utf8Error),
    /// Not YAML, more than one document, a duplicate key, or beyond the budget for depth, nodes and aliases.
    #[error("plugin.yaml cannot be read: {0}")]
    Yaml(String),
}

impl ParseManifest {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Size(_) => Code::new("plugin.manifest.parse.size"),
            Self::Encoding(_) => Code::new("plugin.manifest.parse.encoding"),
            Self::Yaml(_) => Code::new("plugin.manifest.parse.yaml"),
        }
    }
}

/// One mistake in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where: `execution.sandbox.filesystem[2].path`.
    pub path: String,
    /// What kind, stable.
    pub code: Code,
    /// What is wrong and what is expected.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.message, self.code)
    }
}

/// A manifest has mistakes: all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin's manifest has {}:\n{}", count(problems.len()), lines(problems))]
pub struct ManifestRefused {
    /// The mistakes, in the order of the manifest's schema; at least one.
    pub problems: Vec<Problem>,
}

fn count(problems: usize) -> String {
    if problems == 1 { "a mistake".into() } else { format!("{problems} mistakes") }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

impl ManifestRefused {
    /// The stable code of the whole; each problem has its own.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::new("plugin.manifest.validate.refused")
    }
}

impl Manifest<Unchecked> {
    /// Reads the form of a manifest.
    ///
    /// # Errors
    /// [`ParseManifest`] when the bytes are not one YAML document within the budget.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseManifest> {
        if bytes.len() > MAX_BYTES {
            return Err(ParseManifest::Size(bytes.len()));
        }
        let text = std::str::from_utf8(bytes)?;
        Ok(Self { digest: Digest::of(bytes), state: Unchecked(read::yaml(text)?) })
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ManifestRefused`] with every mistake: missing, unknown and mistyped fields, values that no parser accepts,
    /// features that this Sigil does not have.
    pub fn validate(self) -> Result<Manifest<Checked>, ManifestRefused> {
        let spec = check::spec(&self.state.0).map_err(|problems| ManifestRefused { problems })?;
        Ok(Manifest { digest: self.digest, state: Checked(Box::new(spec)) })
    }
}

impl<S> Manifest<S> {
    /// The digest of the manifest's bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What the state adds.
    #[must_use]
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// Goes on to another state. Which ones there are, and what each proves, is for those who can make its value.
    pub fn advance<T>(self, next: impl FnOnce(S) -> T) -> Manifest<T> {
        Manifest { digest: self.digest, state: next(self.state) }
    }
}

impl Manifest<Checked> {
    /// What the manifest says.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        self.state.spec()
    }
}

impl Checked {
    /// What the manifest says.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = include_str!("../tests/good.yaml");

    fn validate(text: &str) -> Result<Manifest<Checked>, ManifestRefused> {
        Manifest::parse(text.as_bytes()).expect("well-formed YAML").validate()
    }

    fn problems(text: &str) -> Vec<(String, String)> {
        let refused = validate(text).expect_err("mistakes");
        refused.problems.iter().map(|problem| (problem.path.clone(), problem.code.to_string())).collect()
    }

    /// The good manifest with one line replaced.
    fn with(line: &str, replacement: &str) -> String {
        assert!(GOOD.contains(line), "the sample has no {line:?}");
        GOOD.replacen(line, replacement, 1)
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = validate(GOOD).expect("valid");
        // Whether maps keep their order is a matter of what else is built: the schema is compared by itself.
        let mut shown = serde_json::to_value(manifest.spec()).expect("JSON");
        let schema = shown.as_object_mut().and_then(|spec| spec.remove("config_schema")).expect("a schema");
        shown.sort_all_objects();
        insta::assert_json_snapshot!(shown);
        let limit = serde_json::json!({ "type": "integer" });
        assert_eq!(schema.pointer("/properties/limit"), Some(&limit));
        assert_eq!(manifest.digest(), Digest::of(GOOD.as_bytes()));
        assert_eq!(manifest.spec().config_schema.secrets().collect::<Vec<_>>(), ["token"]);
    }

    #[test]
    fn every_mistake_is_reported_with_its_path() {
        let refused = validate(include_str!("../tests/bad.yaml")).expect_err("mistakes");
        insta::assert_snapshot!(refused.to_string());
    }

    #[test]
    fn what_is_not_built_is_refused_clearly() {
        for (line, replacement, path) in [
            ("type: tool", "type: channel", "type"),
            ("tier: process", "tier: wasm", "execution.tier"),
            ("tier: process", "tier: container", "execution.tier"),
            ("tier: process", "tier: mcp", "execution.tier"),
            ("  tier: process", "  tier: process\n  image: x@sha256:0", "execution.image"),
            ("dependencies: []", "dependencies: [{ name: other, version: '1' }]", "dependencies"),
            ("  kv: false", "  kv: true", "storage"),
        ] {
            let found = problems(&with(line, replacement));
            assert_eq!(found, [(path.to_owned(), "plugin.manifest.feature.unsupported".to_owned())], "{replacement}");
        }
    }

    #[test]
    fn dangerous_wishes_are_refused_here_already() {
        for path in [
            "/",
            "/proc/1/mem",
            "/dev",
            "/sys/kernel",
            "~/x",
            "$HOME/x",
            "/a/../b",
            "/a//b",
            "/a/",
            "/a/./b",
            "relative",
            "/a\\n",
        ] {
            let text = with("path: /usr/share/zoneinfo", &format!("path: \"{path}\""));
            assert_eq!(problems(&text).len(), 1, "{path}");
        }
        for host in ["*", "*.com", "https://x.org", "x.org:443", "0x7f.1", ""] {
            assert_eq!(problems(&with("host: \"*.example.org\"", &format!("host: \"{host}\""))).len(), 1, "{host}");
        }
        for (line, bad) in [
            ("tls: ended", "tls: opaque"),
            ("tls: ended", "# no tls"),
            ("methods: [POST]", "methods: [TRACE]"),
            ("methods: [POST]", "methods: []"),
            ("/v1/items/*", "/v1/../*"),
            ("query: [page]", "query: page"),
            ("query: [page]", "more: 1"),
            ("[cookie]", "[Host]"),
            ("x-client: sigil", "content-length: 5"),
            ("x-client: sigil", "x-client: \"a\\nb\""),
            ("host: \"*.example.org\"", "host: \"*.example.com\"\n          tls: ended"),
        ] {
            assert!(!problems(&with(line, bad)).is_empty(), "{bad}");
        }
        for ports in ["[0]", "[]", "[65536]", "[-1]", "['443']", "443"] {
            assert_eq!(problems(&with("ports: [443]", &format!("ports: {ports}"))).len(), 1, "{ports}");
        }
        for (field, bad) in [
            ("connections: 8", "connections: 0"),
            ("connections: 8", "connection: 8"),
            ("up: 1MiB", "up: 0B"),
            ("up: 1MiB", "up: 1000000"),
            ("idle: 30s", "idle: 500ms"),
            ("idle: 30s", "idle: 0s"),
            ("total: 5m", "total: 48h"),
        ] {
            assert_eq!(problems(&with(field, bad)).len(), 1, "{bad}");
        }
        for key in ["LD_PRELOAD", "PATH", "lower_COOKIE", "HTTP_PROXY"] {
            let go =
                format!("transport: go-plugin\n  handshake: {{ cookie_key: {key}, cookie_value: v, protocol: 1 }}");
            assert_eq!(problems(&with("transport: sdk", &go)).len(), 1, "{key}");
        }
        for program in ["/bin/sh", "../x", "bin/../../x", ""] {
            assert_eq!(problems(&with("[bin/sample", &format!("[\"{program}\""))).len(), 1, "{program}");
        }
    }

    #[test]
    fn only_one_plain_document_is_yaml_here() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
        let deep = format!("a: {}{}", "[".repeat(500), "]".repeat(500));
        for bad in ["a: 1\na: 2", "a: 1\n---\nb: 2", "a: [", bomb, &deep, "<<: {a: 1}\nb: 2", "{ ? [x] : y }"] {
            assert!(Manifest::parse(bad.as_bytes()).is_err(), "{bad:.60}");
        }
        assert!(matches!(Manifest::parse(&vec![b' '; MAX_BYTES + 1]), Err(ParseManifest::Size(_))));
        assert!(matches!(Manifest::parse(b"a: \xff"), Err(ParseManifest::Encoding(_))));
    }

    #[test]
    fn declared_facts_only_tighten() {
        use sigil_types::{Authors, Effect, Readers, ToolFacts};
        let loose = DeclaredFacts { effect: Some(Effect::None), ..DeclaredFacts::default() };
        assert_eq!(loose.tighten(&ToolFacts::unknown()), ToolFacts::unknown());
        let strict =
            DeclaredFacts { sources: Authors::world(), reads: Some(Readers::NOBODY), effect: Some(Effect::External) };
        let facts = strict.tighten(&ToolFacts::pure());
        assert!(facts.sources.has_world() && facts.reads == Readers::NOBODY && facts.effect == Effect::External);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
                let _ = manifest.validate();
            }
        }

        #[test]
        fn a_damaged_manifest_never_panics(at in 0..GOOD.len(), byte in any::<u8>()) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(manifest) = Manifest::parse(&bytes)
                && let Err(refused) = manifest.validate()
            {
                prop_assert!(!refused.problems.is_empty());
            }
        }
    }
}
