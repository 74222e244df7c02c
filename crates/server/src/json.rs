//! Strict reading of requests: size, time, content type, depth, duplicate keys, unknown fields.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::guard::BodyLimit;
use crate::problem::Refusal;
use crate::routes::App;

/// The deepest nesting of a request body.
const MAX_DEPTH: usize = 64;

/// A request body: JSON of the type `T`, read strictly. The bytes are kept, for what is computed of them.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let media = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")) {
            let title = "The request body is not declared as JSON.";
            let why = "This route reads application/json only.";
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "server.request.media.unsupported",
                title,
                why,
            )
            .fix("Send Content-Type: application/json.", None));
        }
        let limits = &app.settings.limits;
        let route = request.extensions().get::<BodyLimit>().map_or(limits.body_bytes, |limit| limit.0);
        let limit = route.min(limits.body_bytes);
        let collect = Limited::new(request.into_body(), limit).collect();
        let body = match tokio::time::timeout(limits.body_timeout, collect).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => return Err(too_large(limit)),
            Ok(Err(_)) => return Err(malformed("The request body ended early.", "The connection broke off.")),
            Err(_) => {
                let why = format!("It must arrive within {} seconds.", limits.body_timeout.as_secs());
                let code = "server.request.body.timeout";
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, code, "The request body came too slowly.", why));
            }
        };
        parse(&body).map(Self)
    }
}

fn too_large(limit: usize) -> Refusal {
    let why = format!("This route takes at most {limit} bytes.");
    let code = "server.request.body.too-large";
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, code, "The request body is too large.", why)
}

fn malformed(title: &str, why: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "server.request.body.malformed", title, why)
}

/// Parses JSON after the strict check.
fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    check(bytes).map_err(|error| {
        let why = format!("{} (line {}, column {}).", plain(&error), error.line(), error.column());
        malformed("The request body is not strict JSON.", why)
    })?;
    serde_json::from_slice(bytes).map_err(|error| {
        let title = "The request body does not have the form that this route reads.";
        let code = "server.request.body.invalid";
        let why = "See the route in /openapi.json.";
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, why)
            .at(format!("line {}, column {}", error.line(), error.column()), plain(&error))
    })
}

/// What a parser said, without what it quotes from the request.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if let Some(rest) = text.strip_prefix("unknown field") {
        let expected = rest.split_once(", expected").map_or("", |(_, expected)| expected);
        return format!("there is no such field; expected{expected}");
    }
    for prefix in ["invalid type", "invalid value", "unknown variant"] {
        if text.starts_with(prefix) {
            let expected = text.rsplit_once("expected ").map_or("another form", |(_, expected)| expected);
            return format!("{prefix}: expected {expected}");
        }
    }
    let own = [
        "missing field",
        "duplicate key",
        "nested deeper",
        "EOF",
        "expected",
        "trailing",
        "key must",
        "control character",
    ];
    if own.iter().any(|prefix| text.starts_with(prefix)) {
        text.to_owned()
    } else {
        "not of the expected form".to_owned()
    }
}

/// Refuses duplicate keys at any level and nesting deeper than [`MAX_DEPTH`]: two readers of one body must not be able to
/// read different things.
pub(crate) fn check(bytes: &[u8]) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Strict { left: MAX_DEPTH }.deserialize(&mut reader)?;
    reader.end()
}

#[derive(Clone, Copy)]
struct Strict {
    left: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| E::custom(format_args!("nested deeper than {MAX_DEPTH}")))?;
        Ok(Self { left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while access.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom("duplicate key"));
            }
            access.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// The query of a request, of the type `T`; unknown parameters are refused where the type refuses them.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: for<'de> Deserialize<'de>> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri).map(|Query(params)| Self(params)).map_err(|_| {
            let title = "The query has a parameter that this route does not read, or a value of another form.";
            let why = "Unknown parameters are refused, so that a mistyped filter does not count as none.";
            Refusal::new(StatusCode::BAD_REQUEST, "server.request.query.invalid", title, why)
                .fix("See the route's parameters in /openapi.json.", None)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(check(nested(1_000_000).as_bytes()).is_err());
        assert!(check("{\"a\":".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn duplicate_keys_are_refused_at_any_level_and_however_written() {
        for bad in [r#"{"a":1,"a":2}"#, r#"{"b":{"a":1,"a":2}}"#, r#"[{"a":1,"\u0061":2}]"#, "{} {}", "{", ""] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(check(br#"{"a":{"a":[{"a":null}]},"b":1.5e3}"#).is_ok());
    }

    #[test]
    fn a_refusal_repeats_nothing() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            #[expect(dead_code, reason = "only read")]
            count: u8,
        }
        for secret in [r#"{"count":"hunter2"}"#, r#"{"hunter2":1}"#, r#"{"count":1,"hunter2":"hunter2"}"#] {
            let problem = parse::<Form>(&Bytes::from(secret.to_owned())).expect_err("not the form");
            let text = serde_json::to_string(&*problem).expect("JSON");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn accepts_no_more_than_serde_json(text in "[\\[\\]{}\",:0-9a\\\\ ]{0,40}") {
            if check(text.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
