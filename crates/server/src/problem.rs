//! [`Problem`]: every error of the API, as RFC 9457 problem details with a stable code.

use std::ops::Deref;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use sigil_types::{Code, EventId, RequestId};
use utoipa::ToSchema;

use crate::operations::{Failure, FailureKind};

/// What to do about a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fix {
    /// One sentence.
    pub label: String,
    /// A command that does it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cli: Option<String>,
}

/// A mistake at one place of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pointed {
    /// Where, as a JSON pointer (RFC 6901) or the name of a parameter.
    pub pointer: String,
    /// What. Never repeats the value.
    pub detail: String,
}

/// A problem document (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:sigil:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What failed, in one sentence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What and why, for programs that show one text only.
    pub detail: String,
    /// The request.
    pub instance: String,
    /// Stable code; `sigil explain CODE` says more.
    #[schema(value_type = String)]
    pub code: Code,
    /// Why, naming the deciding rule and its source.
    pub why: String,
    /// What to do; `[]` when nothing can be done.
    pub fix: Vec<Fix>,
    /// The request, for support.
    #[schema(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// The audit entry about it.
    #[schema(value_type = Option<String>)]
    pub audit_ref: Option<EventId>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Mistakes at single places; `[]` when the whole is meant.
    pub errors: Vec<Pointed>,
    /// Seconds to wait; sent as `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// A problem on its way to a client: small enough to be the error of every function that can refuse.
#[derive(Clone, Debug)]
pub(crate) struct Refusal(Box<Problem>);

impl Deref for Refusal {
    type Target = Problem;

    fn deref(&self) -> &Problem {
        &self.0
    }
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self::of(status, Code::new(code), title.into(), why.into())
    }

    fn of(status: StatusCode, code: Code, title: String, why: String) -> Self {
        Self(Box::new(Problem {
            kind: format!("urn:sigil:{code}"),
            detail: format!("{title} {why}"),
            title,
            status: status.as_u16(),
            instance: String::new(),
            code,
            why,
            fix: Vec::new(),
            request_id: None,
            audit_ref: None,
            retryable: matches!(status.as_u16(), 408 | 429 | 503),
            errors: Vec::new(),
            retry_after: None,
        }))
    }

    pub(crate) fn fix(mut self, label: impl Into<String>, cli: Option<&str>) -> Self {
        self.0.fix.push(Fix { label: label.into(), cli: cli.map(str::to_owned) });
        self
    }

    pub(crate) fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(Pointed { pointer: pointer.into(), detail: detail.into() });
        self
    }

    pub(crate) fn audited(mut self, event: Option<EventId>) -> Self {
        self.0.audit_ref = event;
        self
    }

    pub(crate) fn after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// The answer for one request.
    pub(crate) fn answer(self, request: RequestId) -> Response {
        let mut problem = *self.0;
        problem.request_id = Some(request);
        problem.instance = format!("urn:sigil:request:{request}");
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = problem.http_status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if problem.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl Problem {
    fn http_status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure.kind {
            FailureKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            FailureKind::Denied => StatusCode::FORBIDDEN,
            FailureKind::NotFound => StatusCode::NOT_FOUND,
            FailureKind::Conflict => StatusCode::CONFLICT,
            FailureKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            FailureKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut refusal = Self::of(status, failure.code, failure.what, failure.why);
        refusal.0.fix = failure.fix;
        refusal.0.audit_ref = failure.audit_ref;
        refusal
    }
}

/// The document travels as an extension: the frame around all routes knows the request's id and writes the body.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.http_status();
        response.extensions_mut().insert(self);
        response
    }
}
