//! The signed policy: what Sigil may do at all, who decides that, and how a decision is made.
//!
//! A policy is a handful of text files ([`Source`]), signed as one envelope ([`sign`]). The gateway and the launcher each
//! verify the envelope themselves: `Bundle<Unverified>` → [`Bundle::verify`] → `Bundle<Verified>`, which has the
//! [`Ceilings`]. The gateway then compiles it to a [`Policy`], which answers what a finding of the scanner leads to
//! ([`Policy::action`]) and what may go out ([`Policy::authorize`]).
//!
//! There is no other way to a `Policy`: what nobody signed decides nothing, in tests as well.

mod bundle;
mod ceilings;
mod decision_tests;
mod engine;
mod envelope;
mod nesting;
mod payload;
mod policy;
mod refused;
mod request;
mod scan_table;
pub mod sign;
mod source;
mod summary;
mod trust;

pub use bundle::{Bundle, Signer, Unverified, Verified};
pub use ceilings::{
    Budgets, Ceilings, EgressCeilings, EgressIdentity, EndedGrant, Endpoint, Exposure, FactsOverride, FolderAccess,
    FolderGrant, GrantPath, HostRule, Interpreter, Labels, Links, LocalAddress, NetworkLimits, ParseCeilingsError,
    ParseEndpointError, ParseGrantPathError, PluginGrant, Posture, ProviderGrant, SandboxLimits, Scheme,
    SecretConsumer, SecretGrant, TypedReaders,
};
pub use decision_tests::{TestFailure, TestReport};
pub use envelope::MAX_ENVELOPE_BYTES;
pub use policy::Policy;
pub use refused::BundleRefused;
pub use request::{Fact, Facts, Request, Resource, ResourceKind, Verdict};
pub use source::{Preset, Source, SourceRefused};
pub use summary::{FileSummary, SignerSummary, Summary};
pub use trust::{ParsePublicKeyError, PublicKey, TrustRefused, TrustStore, TrustedKey};
