//! [`LaunchReceipt`]: the launcher's signed word about one launch.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sigil_types::{Digest, InstanceId, LaunchId, PluginName, Timestamp, ToolFacts, WorkspaceId};

use crate::profile::Posture;
use crate::report::LayerReport;

/// What stands before the signed bytes, so that no other signature by the same key can be taken for a receipt.
const CONTEXT: &[u8] = b"sigil launch receipt, version 1\n";

/// What was launched, under which policy, in which sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// The launch.
    pub id: LaunchId,
    /// When.
    pub at: Timestamp,
    /// Which plugin.
    pub plugin: PluginName,
    /// As which instance.
    pub instance: InstanceId,
    /// For which workspace.
    pub workspace: WorkspaceId,
    /// The digest of the signed policy.
    pub policy: Digest,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The digest of the plugin's file tree.
    pub tree: Digest,
    /// The digest of the compiled profile's JSON.
    pub profile: Digest,
    /// How much of the sandbox there is: the strongest that the host gives.
    pub posture: Posture,
    /// The weakest that the signed policy would have let it run in.
    pub floor: Posture,
    /// The layers that were applied, and what the self-test saw.
    pub layers: LayerReport,
    /// The label facts of its tools, as the enforced profile makes them.
    pub facts: ToolFacts,
}

/// A [`Launch`] with the launcher's Ed25519 signature over its JSON.
///
/// Its bytes are kept as they were signed, so that checking does not depend on how JSON is written today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchReceipt {
    /// The JSON of the [`Launch`].
    pub launch: String,
    /// The signature, 128 hexadecimal digits.
    pub signature: String,
}

/// Why a receipt is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptRefused {
    /// The signature is not this launcher's over these bytes.
    #[error("the launch receipt was not signed by this launcher, or was changed")]
    Signature,
    /// Signed, but not a launch.
    #[error("the launch receipt cannot be read: {0}")]
    Form(#[from] serde_json::Error),
}

impl LaunchReceipt {
    pub(crate) fn sign(launch: &Launch, key: &Ed25519KeyPair) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_string(launch)?;
        let signature = key.sign(&[CONTEXT, text.as_bytes()].concat());
        let signature = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { launch: text, signature })
    }

    /// The digest of the signed bytes: what the audit log refers to.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_parts([CONTEXT, self.launch.as_bytes()])
    }

    /// The launch, if `key` (32 bytes, Ed25519) signed it.
    ///
    /// # Errors
    /// [`ReceiptRefused`].
    pub fn verify(&self, key: &[u8; 32]) -> Result<Launch, ReceiptRefused> {
        let digits = self.signature.as_bytes();
        if digits.len() != 128 {
            return Err(ReceiptRefused::Signature);
        }
        let signature: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<_>>()
            .ok_or(ReceiptRefused::Signature)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&[CONTEXT, self.launch.as_bytes()].concat(), &signature)
            .map_err(|_| ReceiptRefused::Signature)?;
        Ok(serde_json::from_str(&self.launch)?)
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::KeyPair;

    use super::*;

    #[test]
    fn a_changed_receipt_is_not_believed() {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let public: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
        let digest = Digest::of(b"x");
        let now = Timestamp::from_millis(1_700_000_000_000);
        let launch = Launch {
            id: LaunchId::generate(now),
            at: now,
            plugin: "files".parse().unwrap(),
            instance: InstanceId::generate(now),
            workspace: "home".parse().unwrap(),
            policy: digest,
            manifest: digest,
            tree: digest,
            profile: digest,
            posture: Posture::Standard,
            floor: Posture::Standard,
            layers: LayerReport::default(),
            facts: ToolFacts::pure(),
        };
        let receipt = LaunchReceipt::sign(&launch, &key).unwrap();
        assert_eq!(receipt.verify(&public).unwrap(), launch);
        let other = LaunchReceipt { launch: receipt.launch.replace("home", "work"), ..receipt.clone() };
        assert!(matches!(other.verify(&public), Err(ReceiptRefused::Signature)));
        let other = LaunchReceipt { signature: receipt.signature.replace(|_: char| true, "0"), ..receipt };
        assert!(matches!(other.verify(&public), Err(ReceiptRefused::Signature)));
    }
}
