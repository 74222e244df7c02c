//! What a request may be: its path, its query, its fields.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use sigil_types::{Credentials, EndedHost, Method, RequestRule, UrlPath};

use super::NotForwarded;
use super::sentinel::{CREDENTIAL_FIELDS, percent_decoded};

/// Fields between two neighbours only (RFC 9110, 7.6.1), those that are written anew, and those by which an answer could come
/// in another charset, compressed or in parts, in which a secret is not found.
const TAKEN_OUT: [&str; 15] = [
    "accept-charset",
    "accept-encoding",
    "connection",
    "expect",
    "host",
    "if-range",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields by which servers read another method, path or host than the one that was judged.
const OTHER_READING: [&str; 11] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];

/// Fields in which no server looks for a credential: the only ones where credentials are restricted.
const WELL_KNOWN: [&str; 14] = [
    "accept",
    "accept-language",
    "cache-control",
    "content-disposition",
    "content-language",
    "content-length",
    "content-type",
    "date",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "pragma",
    "user-agent",
];

/// Judges method, path and query.
pub(super) fn judge(host: &EndedHost, method: Method, path: &UrlPath, query: Option<&str>) -> Result<(), NotForwarded> {
    let allowed = |rule: &RequestRule| {
        rule.methods.contains(&method)
            && rule.paths.iter().any(|known| known.covers(path))
            && rule.query.as_ref().is_none_or(|names| named(query, |name| names.contains(name)))
    };
    if host.requests.iter().all(|list| list.iter().any(allowed)) { Ok(()) } else { Err(NotForwarded::Rule) }
}

/// Whether all parameters of a query are known by name.
fn named(query: Option<&str>, known: impl Fn(&str) -> bool) -> bool {
    // Some servers part a query at `;`, too.
    query.is_none_or(|query| {
        query.is_empty()
            || !query.contains(';')
                && query.split('&').all(|pair| {
                    let name = pair.split_once('=').map_or(pair, |(name, _)| name).replace('+', " ");
                    std::str::from_utf8(&percent_decoded(&name)).is_ok_and(&known)
                })
    })
}

/// The fields of a request as they are sent on, but for credentials: those that must not pass are taken out, or refused.
///
/// # Errors
/// [`NotForwarded::Upgrade`] and [`NotForwarded::Credential`].
pub(super) fn fields(host: &EndedHost, asked: &HeaderMap) -> Result<HeaderMap, NotForwarded> {
    let nominated: Vec<String> = asked
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let upgrades = asked.contains_key(http::header::UPGRADE) || asked.contains_key("http2-settings");
    if upgrades || nominated.iter().any(|name| name == "upgrade") {
        return Err(NotForwarded::Upgrade);
    }
    let restricted = host.credentials != Credentials::Any;
    let mut fields = HeaderMap::with_capacity(asked.len());
    for (name, value) in asked {
        let text = name.as_str();
        let credential = CREDENTIAL_FIELDS.contains(&text);
        if restricted && text == "cookie" || host.credentials == Credentials::None && credential {
            return Err(NotForwarded::Credential);
        }
        // Many servers take `_` for `-`: such a name would be another one there than here.
        let out = TAKEN_OUT.contains(&text)
            || text.contains('_')
            || OTHER_READING.contains(&text)
            || nominated.iter().any(|nominated| nominated == text)
            || host.strip.iter().any(|strip| strip.as_str() == text)
            || restricted && !credential && !WELL_KNOWN.contains(&text);
        if !out {
            fields.append(name, value.clone());
        }
    }
    for (name, value) in &host.set {
        let text = name.as_str();
        if OTHER_READING.contains(&text) || restricted && !WELL_KNOWN.contains(&text) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(text.as_bytes()), HeaderValue::from_str(value)) {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(more: &str) -> EndedHost {
        serde_json::from_str(&format!(r#"{{"host":"a.example"{more}}}"#)).expect("valid")
    }

    fn ask(host: &EndedHost, method: Method, target: &str) -> bool {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        judge(host, method, &path.parse().expect("a path"), query).is_ok()
    }

    #[test]
    fn every_list_must_allow_the_request() {
        let all = host("");
        assert!(ask(&all, Method::Delete, "/x?y"));
        let two = host(
            r#","requests":[[{"methods":["GET","POST"],"paths":["/v1/*"]}],
                [{"methods":["GET"],"paths":["/*"],"query":["page","a b"]},{"methods":["POST"],"paths":["/v1/x"]}]]"#,
        );
        assert!(ask(&two, Method::Get, "/v1/a?page=2&a+b=1&a%20b=2") && ask(&two, Method::Post, "/v1/x?any"));
        assert!(ask(&two, Method::Get, "/v1/a?") && ask(&two, Method::Get, "/v1/%61?p%61ge"));
        assert!(
            !ask(&two, Method::Get, "/v2/a") && !ask(&two, Method::Post, "/v1/y") && !ask(&two, Method::Put, "/v1/x")
        );
        for query in ["token=1", "page=1&token=2", "page=1;token=2", "page=1&", "%70age%3d=1", "page%00=1"] {
            assert!(!ask(&two, Method::Get, &format!("/v1/a?{query}")), "{query}");
        }
    }

    fn sent(host: &EndedHost, asked: &[(&'static str, &'static str)]) -> Result<Vec<String>, NotForwarded> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let asked: HeaderMap = asked.iter().map(pair).collect();
        let sent = fields(host, &asked)?;
        Ok(sent.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect())
    }

    #[test]
    fn fields_that_mislead_are_taken_out() {
        let asked = [
            ("accept", "*/*"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("range", "bytes=0-1"),
            ("accept-encoding", "gzip"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
            ("cookie", "a=b"),
            ("x-own", "2"),
        ];
        let plain = host(r#","strip":["cookie"],"set":{"x-own":"3","x-http-method":"PUT"}"#);
        assert_eq!(sent(&plain, &asked).expect("allowed"), ["accept: */*", "x-own: 3"]);
        for upgrade in [("upgrade", "h2c"), ("http2-settings", "AAAA"), ("connection", "Upgrade")] {
            assert_eq!(sent(&host(""), &[upgrade]), Err(NotForwarded::Upgrade), "{upgrade:?}");
        }
    }

    #[test]
    fn where_credentials_are_restricted_only_well_known_fields_pass() {
        let none = host(r#","credentials":"none","set":{"x-api-key":"1","user-agent":"sigil"}"#);
        let asked = [("accept", "*/*"), ("x-own-key", "2"), ("user-agent", "curl")];
        assert_eq!(sent(&none, &asked).expect("allowed"), ["accept: */*", "user-agent: sigil"]);
        let vault = host(r#","credentials":"vault""#);
        for credential in [("authorization", "Bearer x"), ("x-api-key", "x"), ("cookie", "x")] {
            assert_eq!(sent(&none, &[credential]), Err(NotForwarded::Credential), "{credential:?}");
        }
        assert_eq!(sent(&vault, &[("cookie", "x")]), Err(NotForwarded::Credential));
        assert!(sent(&vault, &[("authorization", "x")]).is_ok(), "judged by what it holds");
    }
}
