//! What an instance needs so that Sigil can end its TLS: an authority of its own, and stand-ins for its credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use sigil_egress::ended::{CaFailed, Ended, InstanceCa, NoRandomness, SecretSource, Sentinel};
use sigil_sandbox::profile::{Authority, ParseAuthority};
use sigil_types::{Code, EndedHost, Name, Secret};

use crate::trusted::Trusted;

/// Why an instance has no authority or no credentials.
#[derive(Debug, thiserror::Error)]
pub enum EndingRefused {
    /// The authority was not made.
    #[error(transparent)]
    Authority(#[from] CaFailed),
    /// Its certificate has another form than a launch takes.
    #[error("the certificate that was made for the plugin cannot be given to it: {0}")]
    Certificate(#[from] ParseAuthority),
    /// No stand-in was made.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Signed policy does not give the plugin this secret.
    #[error(
        "the signed policy does not give the plugin the secret `{secret}`; add it under `secrets` with the consumer \
         plugin:NAME and the hosts that it is for, and sign"
    )]
    NotGranted {
        /// Which.
        secret: Name,
    },
    /// The secret is for a host whose TLS is not ended, so that it cannot be put in there.
    #[error(
        "the secret `{secret}` is for no host whose TLS is ended; let the manifest say `tls: ended` and the signed policy \
         name the host under plugins.NAME.ended"
    )]
    NotEnded {
        /// Which.
        secret: Name,
    },
    /// There is no vault to take it from.
    #[error("the secret `{secret}` cannot be used: this program has no vault")]
    NoVault {
        /// Which.
        secret: Name,
    },
}

impl EndingRefused {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Authority(error) => error.code(),
            Self::Certificate(_) => Code::new("host.plugin.authority.form"),
            Self::Randomness(error) => error.code(),
            Self::NotGranted { .. } => Code::new("host.plugin.credential.not-granted"),
            Self::NotEnded { .. } => Code::new("host.plugin.credential.not-ended"),
            Self::NoVault { .. } => Code::new("host.plugin.credential.no-vault"),
        }
    }
}

/// The authority and the stand-ins of one instance, for all its launches.
#[derive(Debug)]
pub(crate) struct Ending {
    ca: Arc<InstanceCa>,
    authority: Authority,
    sentinels: BTreeMap<String, Sentinel>,
    source: Option<Arc<dyn SecretSource>>,
}

impl Ending {
    /// What `plugin` needs; nothing where no TLS is ended and no credential is wanted.
    pub(crate) fn of(
        plugin: &Trusted,
        credentials: &BTreeMap<String, Name>,
        source: Option<&Arc<dyn SecretSource>>,
    ) -> Result<Option<Self>, EndingRefused> {
        let mut sentinels = BTreeMap::new();
        for (property, secret) in credentials {
            let hosts =
                plugin.secret_hosts(secret).ok_or_else(|| EndingRefused::NotGranted { secret: secret.clone() })?;
            let ended = |host| plugin.ended().iter().any(|ended| ended.contains(host) || host.contains(ended));
            if !hosts.iter().any(ended) {
                return Err(EndingRefused::NotEnded { secret: secret.clone() });
            }
            if source.is_none() {
                return Err(EndingRefused::NoVault { secret: secret.clone() });
            }
            sentinels.insert(property.clone(), Sentinel::generate(secret.clone(), hosts.clone())?);
        }
        if plugin.ended().is_empty() {
            return Ok(None);
        }
        let ca = Arc::new(InstanceCa::new(plugin.ended().to_vec())?);
        let authority = Authority::from_der(ca.certificate())?;
        Ok(Some(Self { ca, authority, sentinels, source: source.cloned() }))
    }

    /// What a launch is given.
    pub(crate) fn authority(&self) -> Authority {
        self.authority.clone()
    }

    /// What the plugin is given in the place of its credentials.
    pub(crate) fn stand_ins(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.sentinels.iter().map(|(property, sentinel)| (property.clone(), sentinel.text().to_owned()))
    }

    /// What the proxy ends TLS with, for the hosts that the launcher has compiled.
    pub(crate) fn for_hosts(&self, hosts: Vec<EndedHost>) -> Ended {
        let ended = Ended::new(Arc::clone(&self.ca), hosts);
        match &self.source {
            Some(source) => ended.with_secrets(self.sentinels.values().cloned().collect(), Arc::clone(source)),
            None => ended,
        }
    }
}

/// Placeholders of credentials, for the check of a configuration: they are there, and their values are not known yet.
pub(crate) fn placeholders(
    secrets: &BTreeMap<String, Secret<String>>,
    credentials: &BTreeMap<String, Name>,
) -> BTreeMap<String, Secret<String>> {
    let placeholder = |property: &String| (property.clone(), Secret::new(String::new()));
    secrets.keys().chain(credentials.keys()).map(placeholder).collect()
}
