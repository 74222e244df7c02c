//! What a scan finds: [`Finding`], its [`Class`], [`Severity`] and the [`Step`]s that led to it.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sigil_types::Code;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it, the same in packs, policy, audit and output.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(
    /// The kind of a finding. Policy decides by class and severity, never by rule.
    Class {
        /// Text that tries to instruct whoever reads it against the reader's own instructions.
        Injection = "injection",
        /// A credential.
        Secret = "secret",
        /// Text that people do not see: invisible, bidirectional control or tag characters.
        Hidden = "hidden",
        /// Markup or an instruction that carries data to somebody else.
        Exfiltration = "exfiltration",
    }
);

words!(
    /// How grave a finding is, weakest first.
    Severity {
        /// Worth a note: the form is there, its use is not (a quotation, a placeholder, a stray invisible character).
        Low = "low",
        /// Likely, with innocent readings left.
        Medium = "medium",
        /// Clear.
        High = "high",
        /// Clear, and verified by a checksum or a structure that does not arise by chance.
        Critical = "critical",
    }
);

words!(
    /// One decoding between the original text and the text in which a rule was found.
    Step {
        /// Invisible characters were left out.
        Invisible = "invisible",
        /// Tag characters (U+E0000 to U+E007F) were read as the ASCII that they stand for.
        Tags = "tags",
        /// Compatibility forms were decomposed (Unicode Annex 15): full width, mathematical letters, ligatures.
        Compatibility = "compatibility",
        /// Characters that look alike were folded to one.
        Confusable = "confusable",
        /// HTML character references were replaced.
        Entity = "entity",
        /// Percent-encoding (RFC 3986) was decoded.
        Percent = "percent",
        /// Backslash escapes (`\x41`, `\u0041`) were decoded.
        Escape = "escape",
        /// Digits and signs that stand for letters were replaced.
        Leet = "leet",
        /// Letters that were spaced out were joined.
        Spaced = "spaced",
        /// Text between direction overrides was turned round.
        Reversed = "reversed",
        /// Base64 (RFC 4648, both alphabets) was decoded.
        Base64 = "base64",
        /// Hexadecimal digits were decoded.
        Hex = "hex",
    }
);

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The rule, as in its pack.
    pub rule: Code,
    /// Its class.
    pub class: Class,
    /// How grave it is, after guards and checks.
    pub severity: Severity,
    /// Where, in bytes of the original text. Both ends are character boundaries.
    pub span: Range<usize>,
    /// The decodings between the original and what matched, outermost first. Empty: it stood there plainly.
    pub via: Vec<Step>,
}

/// The result of one scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was found, ordered by place. Two findings of one rule do not overlap.
    pub findings: Vec<Finding>,
    /// Whether the text was longer than [`crate::MAX_SCAN`] and its rest was not looked at. The caller fails closed.
    pub truncated: bool,
}

impl Report {
    /// The gravest severity found, if anything was.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}) at {}..{}", self.rule, self.class, self.severity, self.span.start, self.span.end)?;
        for (at, step) in self.via.iter().enumerate() {
            write!(f, "{}{step}", if at == 0 { " via " } else { ", " })?;
        }
        Ok(())
    }
}
