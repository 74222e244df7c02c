//! Tool names on the wire: `plugin.tool` inside, `plugin__tool` to models, which allow no dot.

use sigil_types::{ParseIdError, ToolName};

/// `name` as models see it: each dot becomes two underscores.
#[must_use]
pub fn to_wire(name: &ToolName) -> String {
    name.as_str().replace('.', "__")
}

/// The tool that a model named.
///
/// The inverse of [`to_wire`]: parts contain no `__` and begin with a letter or digit, so the last two underscores of a run
/// are the dot.
///
/// # Errors
/// When the text is not the wire form of a tool's name. Models invent names; the text is then their words.
pub fn from_wire(text: &str) -> Result<ToolName, ParseIdError> {
    let mut dotted = String::with_capacity(text.len());
    let mut run = 0_usize;
    for c in text.chars() {
        if c == '_' {
            run += 1;
            continue;
        }
        end_run(&mut dotted, run);
        run = 0;
        // A dot on the wire is not a form that was offered: two spellings of one tool are one too many.
        if c == '.' {
            return Err(ParseIdError::Tool);
        }
        dotted.push(c);
    }
    dotted.extend(std::iter::repeat_n('_', run));
    dotted.parse()
}

fn end_run(dotted: &mut String, run: usize) {
    match run {
        0 => {}
        1 => dotted.push('_'),
        _ => {
            dotted.extend(std::iter::repeat_n('_', run - 2));
            dotted.push('.');
        }
    }
}

/// An id of a tool call as every vendor accepts it: letters, digits, `_` and `-`. Ids of one vendor go to another after a
/// failover, and a call and its result must still agree.
#[must_use]
pub(crate) fn wire_id(id: &str) -> String {
    let mut text: String =
        id.chars().take(64).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if text.is_empty() {
        text.push('0');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_go_over_the_wire_and_back() {
        for (name, wire) in
            [("files.read", "files__read"), ("a_.b", "a___b"), ("node.attic.files.read", "node__attic__files__read")]
        {
            let name: ToolName = name.parse().expect("a tool");
            assert_eq!(to_wire(&name), wire);
            assert_eq!(from_wire(wire), Ok(name));
        }
        for bad in ["", "files", "files.read", "files__", "__read", "a____b", "Files__Read", "a__b__c", "a__b c"] {
            assert!(from_wire(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_survives(plugin in "[a-z0-9](_?[a-z0-9-]){0,6}_?", tool in "[a-z0-9](_?[a-z0-9-]){0,6}_?") {
            let name: ToolName = format!("{plugin}.{tool}").parse().expect("a tool");
            let wire = to_wire(&name);
            prop_assert!(wire.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            prop_assert_eq!(from_wire(&wire), Ok(name));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[a-z_.]{0,12}") {
            if let Ok(name) = from_wire(&text) {
                prop_assert_eq!(to_wire(&name), text);
            }
        }
    }
}
