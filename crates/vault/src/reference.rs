//! [`SecretRef`]: how configuration names a secret without holding it.

use std::fmt;
use std::path::{Component, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sigil_types::{Code, Host, Name, Secret};

use crate::binding::Asker;
use crate::file::{FileRefused, read_secret_file};
use crate::vault::{UseRefused, Vault};

/// The name of a secret that lies elsewhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// `env:NAME`: an environment variable of the gateway.
    Env(Box<str>),
    /// `file:/PATH`: a file of its own, mode 0600.
    File(PathBuf),
    /// `secret:NAME`: in the vault.
    Vault(Name),
}

/// Why a text is not a reference to a secret. Never repeats the text: it may be the secret itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseSecretRef {
    /// It begins with none of the known words.
    #[error("a secret is named by reference, never written out: use `secret:NAME`, `env:NAME` or `file:/PATH`")]
    Scheme,
    /// Not a name of a variable.
    #[error("after `env:` comes the name of a variable: letters, digits and `_`, not beginning with a digit")]
    Env,
    /// Not a path.
    #[error("after `file:` comes an absolute path without `..`, at most 4096 bytes")]
    File,
    /// Not a name of a secret.
    #[error(
        "after `secret:` comes a name of 1 to 64 characters of a-z, 0-9, `_` and `-`, beginning with a letter or digit"
    )]
    Vault,
    /// Keyrings are not built.
    #[error("`keyring://` is not supported yet: use `secret:NAME` (see `sigil secret set`) or `file:/PATH`")]
    Keyring,
}

impl ParseSecretRef {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Scheme => Code::new("vault.reference.scheme.unknown"),
            Self::Env => Code::new("vault.reference.env.invalid"),
            Self::File => Code::new("vault.reference.file.invalid"),
            Self::Vault => Code::new("vault.reference.secret.invalid"),
            Self::Keyring => Code::new("vault.reference.keyring.unsupported"),
        }
    }
}

impl FromStr for SecretRef {
    type Err = ParseSecretRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("keyring:") {
            return Err(ParseSecretRef::Keyring);
        }
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.into())),
            Some(("env", _)) => Err(ParseSecretRef::Env),
            Some(("file", path)) if is_path(path) => Ok(Self::File(path.into())),
            Some(("file", _)) => Err(ParseSecretRef::File),
            Some(("secret", name)) => name.parse().map(Self::Vault).map_err(|_| ParseSecretRef::Vault),
            _ => Err(ParseSecretRef::Scheme),
        }
    }
}

fn is_variable(name: &str) -> bool {
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    word && (1..=255).contains(&name.len()) && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn is_path(path: &str) -> bool {
    let plain = PathBuf::from(path).components().all(|part| !matches!(part, Component::ParentDir));
    path.starts_with('/') && path.len() <= 4096 && plain && !path.chars().any(char::is_control)
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Vault(name) => write!(f, "secret:{name}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a reference gave no secret.
#[derive(Debug, thiserror::Error)]
pub enum ResolveRefused {
    /// The variable is not set, empty, or not UTF-8.
    #[error("the environment variable `{name}` is not set, is empty or is not UTF-8 text")]
    Env {
        /// Its name.
        name: Box<str>,
    },
    /// The file is not used.
    #[error(transparent)]
    File(#[from] FileRefused),
    /// The file is empty.
    #[error("{path} is empty")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// There is no vault.
    #[error("`secret:{name}` needs the vault, which is not open")]
    NoVault {
        /// The secret.
        name: Name,
    },
    /// The vault does not hand it out.
    #[error(transparent)]
    Use(#[from] UseRefused),
}

impl ResolveRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Env { .. } => Code::new("vault.reference.env.absent"),
            Self::File(file) => file.code(),
            Self::Empty { .. } => Code::new("vault.reference.file.empty"),
            Self::NoVault { .. } => Code::new("vault.reference.secret.closed"),
            Self::Use(refused) => refused.code(),
        }
    }
}

impl SecretRef {
    /// The secret, for `asker` to send to `host`. Only secrets in the vault carry a binding that is checked here; those of
    /// variables and files are bound by whoever wrote the reference.
    ///
    /// # Errors
    /// When there is none, or the vault does not hand it out for this.
    pub fn resolve(
        &self,
        vault: Option<&Vault>,
        asker: Asker<'_>,
        host: &Host,
    ) -> Result<Secret<String>, ResolveRefused> {
        match self {
            Self::Env(name) => std::env::var(&**name)
                .ok()
                .filter(|value| !value.is_empty())
                .map(Secret::new)
                .ok_or_else(|| ResolveRefused::Env { name: name.clone() }),
            Self::File(path) => {
                let secret = read_secret_file(path)?;
                if secret.expose().is_empty() { Err(ResolveRefused::Empty { path: path.clone() }) } else { Ok(secret) }
            }
            Self::Vault(name) => {
                let vault = vault.ok_or_else(|| ResolveRefused::NoVault { name: name.clone() })?;
                Ok(vault.use_for(name, asker, host)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_survive_their_text() {
        for text in ["env:ANTHROPIC_API_KEY", "env:_x9", "file:/run/credentials/sigil/key", "secret:anthropic-key"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
        let json: SecretRef = serde_json::from_str("\"secret:a\"").unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), "\"secret:a\"");
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let cases = [
            ("", ParseSecretRef::Scheme),
            ("sk-ant-api03-abc", ParseSecretRef::Scheme),
            ("ENV:X", ParseSecretRef::Scheme),
            (" env:X", ParseSecretRef::Scheme),
            ("env:", ParseSecretRef::Env),
            ("env:9X", ParseSecretRef::Env),
            ("env:A=B", ParseSecretRef::Env),
            ("env:A B", ParseSecretRef::Env),
            ("file:", ParseSecretRef::File),
            ("file:key", ParseSecretRef::File),
            ("file:/a/../b", ParseSecretRef::File),
            ("file:/a\0b", ParseSecretRef::File),
            ("file://host/a\n", ParseSecretRef::File),
            ("secret:", ParseSecretRef::Vault),
            ("secret:A", ParseSecretRef::Vault),
            ("secret:a/b", ParseSecretRef::Vault),
            ("keyring://sigil/key", ParseSecretRef::Keyring),
            ("keyring:x", ParseSecretRef::Keyring),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<SecretRef>(), Err(expected), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_or_refused_without_being_repeated(
            scheme in "(env:|file:/|secret:|keyring://|)", text in "\\PC{12,60}",
        ) {
            let whole = format!("{scheme}{text}");
            match whole.parse::<SecretRef>() {
                Ok(reference) => prop_assert_eq!(reference.to_string(), whole),
                Err(refused) => prop_assert!(!refused.to_string().contains(&text)),
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = String::from_utf8_lossy(&bytes).parse::<SecretRef>();
        }
    }
}
