//! How a file of `sandbox-profiles/` extends another: `extends`, `only`, `without`.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::base::LoadBase;

/// The table of the file `name`, with what it extends.
pub(super) fn resolve(files: &[(&str, &str)], name: &str) -> Result<Table, LoadBase> {
    let malformed = |why: String| LoadBase::Malformed { file: name.to_owned(), why };
    let text = files.iter().find(|(file, _)| *file == name).map(|(_, text)| *text);
    let text = text.ok_or_else(|| malformed("there is no such file".to_owned()))?;
    let mut table: Table = text.parse().map_err(|why: toml::de::Error| malformed(why.to_string()))?;
    match table.remove("extends") {
        None => Ok(table),
        Some(Value::String(base)) if base != name => {
            let mut merged = resolve(files, &base)?;
            if let Some(paths) = table.remove("without") {
                leave_out(&mut merged, &texts(&paths)).map_err(malformed)?;
            }
            if let Some(calls) = table.remove("only") {
                narrow(&mut merged, &texts(&calls)).map_err(malformed)?;
            }
            merge(&mut merged, table);
            Ok(merged)
        }
        Some(_) => Err(malformed("`extends` names another file".to_owned())),
    }
}

/// The texts of a list.
fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Takes the entries with these `paths` out of what is extended.
fn leave_out(base: &mut Table, paths: &[&str]) -> Result<(), String> {
    for path in paths {
        let mut found = false;
        for entries in base.iter_mut().filter_map(|(_, value)| value.as_array_mut()) {
            let before = entries.len();
            entries.retain(|entry| entry.get("path").and_then(Value::as_str) != Some(path));
            found |= entries.len() != before;
        }
        if !found {
            return Err(format!("`without` names {path}, which is not in what is extended"));
        }
    }
    Ok(())
}

/// Takes all calls but these `only` out of what is extended. Those that give `ENOSYS` stay.
fn narrow(base: &mut Table, only: &[&str]) -> Result<(), String> {
    let mut found = BTreeSet::new();
    for list in ["group", "rule", "kept"] {
        let key = if list == "group" { "allow" } else { "calls" };
        let Some(entries) = base.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for calls in entries.iter_mut().filter_map(|entry| entry.get_mut(key).and_then(Value::as_array_mut)) {
            calls.retain(|call| call.as_str().is_some_and(|call| only.contains(&call)));
            if list != "kept" {
                found.extend(calls.iter().filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    match only.iter().find(|call| !found.contains(**call)) {
        None => Ok(()),
        Some(call) => Err(format!("`only` names `{call}`, which what is extended does not allow")),
    }
}

/// Lays `over` on `base`: tables are merged key by key; lists of entries with a `path` by their paths; other lists of
/// entries are joined; anything else is replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(Value::Array(below)), Value::Array(above)) if above.iter().all(Value::is_table) => {
                for entry in above {
                    let path = entry.get("path").cloned();
                    below.retain(|old| path.is_none() || old.get("path") != path.as_ref());
                    below.push(entry);
                }
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_or_kept_must_be_there() {
        let table = |text: &str| text.parse::<Table>().expect("well-formed");
        let profile = "[[bind]]\npath = '/a'\n[[bind]]\npath = '/b'";
        let mut base = table(profile);
        leave_out(&mut base, &["/a"]).expect("there");
        assert_eq!(base, table("[[bind]]\npath = '/b'"));
        assert!(leave_out(&mut base, &["/a"]).is_err_and(|why| why.contains("/a")));
        let mut base =
            table("[[group]]\nallow = ['read', 'write']\n[[rule]]\ncalls = ['mmap']\n[[kept]]\ncalls = ['read']");
        narrow(&mut base, &["write"]).expect("there");
        assert_eq!(base, table("[[group]]\nallow = ['write']\n[[rule]]\ncalls = []\n[[kept]]\ncalls = []"));
        assert!(narrow(&mut base, &["write", "open"]).is_err_and(|why| why.contains("open")));
    }

    #[test]
    fn merging_replaces_by_path() {
        let table = |text: &str| text.parse::<Table>().expect("well-formed");
        let mut base = table("a = 1\n[[t]]\npath = 'x'\nv = 1\n[[t]]\npath = 'y'\n[m]\nk = 1\nl = 1");
        merge(&mut base, table("a = 2\n[[t]]\npath = 'x'\nv = 2\n[m]\nk = 2"));
        assert_eq!(base, table("a = 2\n[[t]]\npath = 'y'\n[[t]]\npath = 'x'\nv = 2\n[m]\nk = 2\nl = 1"));
    }
}
