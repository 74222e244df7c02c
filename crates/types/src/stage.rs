//! Where content comes from, which way out it takes, at which stage it is scanned, and what a finding leads to.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it, the same in code, policy, audit and output.
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

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("expected one of: {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(
    /// Where content came from.
    Origin {
        /// The owner of this Sigil.
        Owner = "owner",
        /// Another known person.
        Member = "member",
        /// A model's output.
        Model = "model",
        /// A tool's result.
        Tool = "tool",
        /// A plugin speaking for itself: its definitions, messages and logs.
        Plugin = "plugin",
        /// Signed configuration.
        System = "system",
        /// Anybody else: a page, a forwarded message, an attachment.
        World = "world",
    }
);

words!(
    /// The point on the road at which a text is scanned.
    Stage {
        /// Text of a person, on its way to a model.
        Input = "input",
        /// A tool's result, on its way back to a model.
        Tool = "tool",
        /// The arguments of a tool call.
        Arguments = "arguments",
        /// Text on its way to a person.
        Output = "output",
        /// Text on its way into memory.
        Memory = "memory",
    }
);

words!(
    /// A way out of the core. The gate's sealed `Hop` types are these words as types.
    Hop {
        /// To a model provider.
        ToProvider = "to_provider",
        /// To a tool.
        ToTool = "to_tool",
        /// To people, through a channel.
        ToChannel = "to_channel",
        /// Into memory.
        ToMemory = "to_memory",
        /// To a plugin that is not a tool call: configuration, host services.
        ToPlugin = "to_plugin",
    }
);

words!(
    /// What a scan leads to, weakest first: the strongest of all findings counts.
    Action {
        /// Nothing to object to.
        Allow = "allow",
        /// Goes on, and the finding is recorded and shown.
        Flag = "flag",
        /// Goes on without the found text.
        Redact = "redact",
        /// Does not go on.
        Block = "block",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_the_strongest_action() {
        assert_eq!(Action::ALL.iter().max(), Some(&Action::Block));
        assert!(Action::Flag < Action::Redact);
    }

    #[test]
    fn words_read_back() {
        for stage in Stage::ALL {
            assert_eq!(stage.as_str().parse::<Stage>(), Ok(*stage));
        }
        assert!("Input".parse::<Stage>().is_err());
    }
}
