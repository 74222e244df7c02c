//! [`ChatFailed`]: why a provider did not answer, in Sigil's words, and what the provider said, for the log.

use std::time::Duration;

use sigil_egress::RequestFailed;
use sigil_gate::port::PortFailed;
use sigil_types::{Code, Origin, ProviderName, Untrusted};

/// The most of an upstream's own words that is kept, in bytes.
pub(crate) const MAX_SAID: usize = 4096;

/// What a provider complained of, by status or by the type in its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The key is missing, wrong, or may not do this.
    Auth,
    /// No credit, or the account's quota is used up.
    Quota,
    /// No such model, or no such API at this address.
    NotFound,
    /// The provider does not accept the request.
    Request,
    /// The conversation is too long for the model.
    TooLarge,
    /// The provider gave up waiting.
    Slow,
    /// Too many requests.
    Rate,
    /// Too many requests of everybody.
    Overloaded,
    /// The provider is broken.
    Server,
    /// The answer leads elsewhere; Sigil does not follow.
    Redirect,
    /// Anything else.
    Other,
}

impl Cause {
    /// The cause that an HTTP status stands for (RFC 9110; 529 is Anthropic's).
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Auth,
            402 => Self::Quota,
            404 | 405 => Self::NotFound,
            413 => Self::TooLarge,
            408 | 504 => Self::Slow,
            429 => Self::Rate,
            503 | 529 => Self::Overloaded,
            300..=399 => Self::Redirect,
            400..=499 => Self::Request,
            500..=599 => Self::Server,
            _ => Self::Other,
        }
    }

    /// The cause that the `type` or `code` of an error object stands for; `otherwise` when neither is known.
    #[must_use]
    pub fn of_word(word: &str, otherwise: Self) -> Self {
        match word {
            "authentication_error" | "permission_error" | "invalid_api_key" => Self::Auth,
            "insufficient_quota" | "billing_error" => Self::Quota,
            "not_found_error" | "model_not_found" => Self::NotFound,
            "invalid_request_error" => Self::Request,
            "request_too_large" | "context_length_exceeded" => Self::TooLarge,
            "timeout_error" => Self::Slow,
            "rate_limit_error" | "rate_limit_exceeded" => Self::Rate,
            "overloaded_error" => Self::Overloaded,
            "api_error" | "server_error" => Self::Server,
            _ => otherwise,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Auth => "provider.key.refused",
            Self::Quota => "provider.quota.exhausted",
            Self::NotFound => "provider.model.unknown",
            Self::Request => "provider.request.refused",
            Self::TooLarge => "provider.request.large",
            Self::Slow => "provider.answer.slow",
            Self::Rate => "provider.rate.limited",
            Self::Overloaded => "provider.service.overloaded",
            Self::Server => "provider.service.failed",
            Self::Redirect => "provider.answer.redirected",
            Self::Other => "provider.answer.unexpected",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Auth => "refused the API key; check `api_key` of this provider in the configuration",
            Self::Quota => "says that the account has no credit or quota left",
            Self::NotFound => "does not know the model, or has no such API there; check `models` and `base_url`",
            Self::Request => "does not accept the request; the audit log has its reason",
            Self::TooLarge => "says that the conversation is too long for the model",
            Self::Slow => "did not answer in time",
            Self::Rate => "gets too many requests; wait a little",
            Self::Overloaded => "is overloaded; wait a little",
            Self::Server => "has a failure of its own",
            Self::Redirect => "answered with a redirect, which Sigil does not follow; check `base_url`",
            Self::Other => "answered in a way that Sigil does not understand",
        }
    }

    /// Whether another provider may do better. A request that is wrong in itself is wrong everywhere.
    const fn is_elsewhere_better(self) -> bool {
        !matches!(self, Self::Request)
    }
}

/// Why a provider did not answer, or not to the end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChatFailed {
    /// Egress did not deliver the request, or the answer broke off.
    #[error("the request or its answer did not get through")]
    Egress {
        /// The reason's code.
        code: Code,
        /// Whether another provider may be tried.
        transient: bool,
        /// The reason, with what the system or the other side said.
        said: String,
    },
    /// An error status, or an error in the stream.
    #[error("the provider reported a failure ({cause:?})")]
    Reported {
        /// Of what kind.
        cause: Cause,
        /// The status, where there was one.
        status: Option<u16>,
        /// What it said.
        said: String,
    },
    /// The answer is not an event stream.
    #[error("the answer is not an event stream")]
    NotAStream,
    /// The stream does not follow the protocol.
    #[error("the stream is malformed: {what}")]
    Malformed {
        /// Where it does not.
        what: &'static str,
    },
    /// The stream ended without its end marker.
    #[error("the stream ended without its end marker")]
    NoEnd,
    /// The stream ended with its marker, but without content and without a reason.
    #[error("the stream ended without content and without a reason")]
    Empty,
    /// Nothing came in time.
    #[error("nothing came within {} s", within.as_secs_f32())]
    Slow {
        /// How long was waited.
        within: Duration,
    },
    /// A tool whose name models do not take.
    #[error("the tool {tool} has a name of more than 64 characters in the form for models")]
    ToolName {
        /// Which.
        tool: String,
    },
    /// The prompt is for another provider, or is a form that this one does not send.
    #[error("this provider does not send such a prompt")]
    Prompt,
}

impl From<RequestFailed> for ChatFailed {
    fn from(failed: RequestFailed) -> Self {
        Self::Egress { code: failed.code(), transient: failed.is_transient(), said: failed.to_string() }
    }
}

impl ChatFailed {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Egress { code, .. } => code.clone(),
            Self::Reported { cause, .. } => Code::new(cause.code()),
            Self::NotAStream => Code::new("provider.answer.stream.missing"),
            Self::Malformed { .. } => Code::new("provider.stream.malformed"),
            Self::NoEnd => Code::new("provider.stream.end.missing"),
            Self::Empty => Code::new("provider.stream.content.missing"),
            Self::Slow { .. } => Code::new("provider.answer.slow"),
            Self::ToolName { .. } => Code::new("provider.tool.name.long"),
            Self::Prompt => Code::new("provider.prompt.form.unsupported"),
        }
    }

    /// Whether another provider may be tried, if nothing of this one's answer was seen yet.
    #[must_use]
    pub const fn is_elsewhere_better(&self) -> bool {
        match self {
            Self::Egress { transient, .. } => *transient,
            Self::Reported { cause, .. } => cause.is_elsewhere_better(),
            Self::NotAStream | Self::Malformed { .. } | Self::NoEnd | Self::Empty | Self::Slow { .. } => true,
            Self::ToolName { .. } | Self::Prompt => false,
        }
    }

    /// The failure as the port tells it: `first` when no event of the answer was handed out yet.
    #[must_use]
    pub fn into_port(self, provider: &ProviderName, first: bool) -> PortFailed {
        let message = match &self {
            Self::Egress { transient: true, .. } => {
                format!("The provider {provider} could not be reached, or the connection broke.")
            }
            // Sigil's own refusals: the remedy is in the words, and no word of it is from outside.
            Self::Egress { code, .. } => {
                format!("The provider {provider} may not be reached: {code}. `sigil explain {code}` says what to do.")
            }
            Self::Reported { cause, status: Some(status), .. } => {
                format!("The provider {provider} {} (status {status}).", cause.words())
            }
            Self::Reported { cause, status: None, .. } => format!("The provider {provider} {}.", cause.words()),
            Self::Slow { within } => {
                format!("The provider {provider} sent nothing for {} seconds.", within.as_secs_f32())
            }
            Self::ToolName { .. } => format!("{self}."),
            Self::Prompt => format!("The provider {provider} does not take such a prompt."),
            other => format!("The answer of the provider {provider} cannot be used: {other}."),
        };
        let code = self.code();
        let retryable = first && self.is_elsewhere_better();
        let detail = match self {
            Self::Egress { said, .. } | Self::Reported { said, .. } if !said.is_empty() => {
                Some(Untrusted::new(Origin::World, said))
            }
            _ => None,
        };
        PortFailed { code, message, retryable, detail }
    }
}

/// Upstream words for the log: bounded, readable, nothing that could forge a line.
pub(crate) fn said(bytes: &[u8]) -> String {
    let bytes = bytes.get(..MAX_SAID).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
