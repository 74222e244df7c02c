//! The part of a manifest that asks Sigil to end the TLS of a host.

use std::collections::{BTreeMap, BTreeSet};

use sigil_types::{FieldName, RequestRule};

use super::super::EndedAsk;
use super::super::read::{MISSING, Node, Object, TYPE, VALUE};

/// The longest value of a field that is set.
const MAX_VALUE: usize = 256;

/// Reads `tls` and what belongs to it.
pub(super) fn read(object: &Object<'_>) -> Option<EndedAsk> {
    let tls = object.optional("tls");
    let requests = object.optional("requests");
    let strip = object.optional("strip_headers");
    let set = object.optional("set_headers");
    let Some(tls) = tls else {
        for node in [requests, strip, set].into_iter().flatten() {
            node.fail(
                MISSING,
                "needs `tls: ended` beside it: what is inside of TLS that is not ended cannot be judged",
            );
        }
        return None;
    };
    tls.word(&[("ended", ())])?;
    Some(EndedAsk {
        requests: requests.map(|node| rules(&node)).unwrap_or_default(),
        strip_headers: strip.map(|node| node.list_of(Node::parse)).unwrap_or_default(),
        set_headers: set.map(|node| set_headers(&node)).unwrap_or_default(),
    })
}

fn rules(node: &Node<'_>) -> Vec<RequestRule> {
    if node.value.as_array().is_some_and(Vec::is_empty) {
        node.fail(VALUE, "an empty list allows nothing: name a rule, or leave `requests` out to allow all");
    }
    node.list_of(rule)
}

fn rule(node: &Node<'_>) -> Option<RequestRule> {
    let object = node.object()?;
    let methods = object.required("methods").map(|node| some(&node));
    let paths = object.required("paths").map(|node| some(&node));
    let query = object.optional("query").map(|node| {
        node.list_of::<_, BTreeSet<String>>(|item| {
            item.read(|text| {
                let plain = (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
                if plain {
                    Ok(text.to_owned())
                } else {
                    Err("expected the name of a parameter, at most 64 bytes".into())
                }
            })
        })
    });
    object.finish();
    Some(RequestRule { methods: methods?, paths: paths?, query })
}

fn some<T: Ord + std::str::FromStr<Err: std::fmt::Display>>(node: &Node<'_>) -> BTreeSet<T> {
    if node.value.as_array().is_some_and(Vec::is_empty) {
        node.fail(VALUE, "an empty list allows nothing: name at least one");
    }
    node.list_of(Node::parse)
}

fn set_headers(node: &Node<'_>) -> BTreeMap<FieldName, String> {
    let mut fields = BTreeMap::new();
    let Some(map) = node.value.as_object() else {
        node.fail(TYPE, "expected a mapping of field names to values");
        return fields;
    };
    for (name, value) in map {
        let text = value.as_str().filter(|text| {
            text.len() <= MAX_VALUE && !text.is_empty() && text.bytes().all(|b| matches!(b, b' '..=b'~'))
        });
        match (name.parse::<FieldName>(), text) {
            (Err(error), _) => node.fail(VALUE, error.to_string()),
            (Ok(_), None) => node.fail(VALUE, "a field's value is 1 to 256 printable ASCII characters"),
            (Ok(name), Some(text)) => {
                fields.insert(name, text.to_owned());
            }
        }
    }
    fields
}
