//! Links in replies: the way out that needs no click.
//!
//! A chat that previews links fetches them. So while anybody untrusted may have influenced a session, a URL leaves
//! verbatim only if signed policy lists the whole of it or its host, or if a trusted author typed it; any other becomes
//! its bare host name, written so that nothing turns it into a link again: `example[.]com`.

use std::collections::BTreeSet;

use sigil_types::{Host, HostPattern};

/// The longest run without white space that is held back while it may still become a link, in bytes. A longer one is
/// cut there and treated as complete.
const MAX_HELD: usize = 4096;

/// Which links may leave as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkRules {
    /// Whole links that signed policy lists.
    pub(crate) listed: BTreeSet<String>,
    /// Hosts that signed policy lists.
    pub(crate) hosts: BTreeSet<HostPattern>,
    /// URLs that a trusted author typed.
    pub(crate) typed: BTreeSet<String>,
}

/// Rewrites links in a text that arrives in pieces. For every split the output is that of the whole.
#[derive(Debug)]
pub(crate) struct LinkFilter {
    rules: LinkRules,
    held: String,
    rewritten: usize,
}

impl LinkFilter {
    pub(crate) const fn new(rules: LinkRules) -> Self {
        Self { rules, held: String::new(), rewritten: 0 }
    }

    /// Takes the next piece and returns what is decided.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(self.held.len() + piece.len());
        for character in piece.chars() {
            if character.is_whitespace() {
                self.release(&mut out);
                out.push(character);
            } else {
                self.held.push(character);
                if self.held.len() >= MAX_HELD {
                    self.release(&mut out);
                }
            }
        }
        out
    }

    /// Returns what is still held.
    pub(crate) fn finish(mut self) -> (String, usize) {
        let mut out = String::new();
        self.release(&mut out);
        (out, self.rewritten)
    }

    fn release(&mut self, out: &mut String) {
        let word = std::mem::take(&mut self.held);
        let mut rest = word.as_str();
        while let Some((before, url, after)) = first_url(rest) {
            out.push_str(before);
            if self.allowed(url) {
                out.push_str(url);
            } else {
                out.push_str(&defanged(url));
                self.rewritten += 1;
            }
            rest = after;
        }
        out.push_str(rest);
    }

    fn allowed(&self, url: &str) -> bool {
        if self.rules.typed.contains(url) || self.rules.listed.contains(url) {
            return true;
        }
        let Some(host) = plain_https_host(url) else { return false };
        self.rules.hosts.iter().any(|pattern| pattern.covers(&host))
    }
}

/// All URLs in `text`, as a person typed them.
pub(crate) fn urls(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().filter_map(|word| first_url(word).map(|(_, url, _)| url))
}

/// The host of `https://HOST…`, if it has no user part and no port.
fn plain_https_host(url: &str) -> Option<Host> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.contains(['@', ':', '\\', '%']) { None } else { authority.parse().ok() }
}

/// Splits `word` around the first thing that a reader's program may turn into a link.
fn first_url(word: &str) -> Option<(&str, &str, &str)> {
    let start = url_start(word)?;
    let (before, from) = word.split_at_checked(start)?;
    let end = from.find(['<', '>', '"', '`', '|', '{', '}', ')', ']']).unwrap_or(from.len());
    let (url, after) = from.split_at_checked(end)?;
    let trimmed = url.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '_']);
    let url = if trimmed.is_empty() { url } else { trimmed };
    let after = from.get(url.len()..).unwrap_or(after);
    Some((before, url, after))
}

/// Where a link starts: at a scheme, at `//`, at `www.`, or at a dotted name that is not a file's.
fn url_start(word: &str) -> Option<usize> {
    let scheme = word.find("://").map(|at| {
        let before = word.get(..at).unwrap_or_default();
        before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .map_or(0, |last| last + before.get(last..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8))
    });
    let mail = find_ignoring_case(word, "mailto:").or_else(|| find_ignoring_case(word, "data:"));
    let bare = bare_name(word);
    [scheme, mail, bare].into_iter().flatten().min()
}

fn find_ignoring_case(word: &str, needle: &str) -> Option<usize> {
    word.char_indices()
        .map(|(at, _)| at)
        .find(|at| word.get(*at..at + needle.len()).is_some_and(|piece| piece.eq_ignore_ascii_case(needle)))
}

/// Endings that are nearly always files where they follow a single name, and no program links them without a scheme
/// often enough to matter; with a path, a port or a second dot they count as hosts again.
const FILE_ENDINGS: &[&str] = &[
    "c", "cfg", "conf", "cpp", "css", "csv", "db", "doc", "docx", "gif", "go", "gz", "h", "htm", "html", "ini", "java",
    "jpeg", "jpg", "js", "json", "jsonl", "kt", "lock", "log", "md", "pdf", "png", "py", "rb", "rs", "sh", "sql",
    "svg", "tar", "toml", "ts", "tsv", "txt", "wasm", "xml", "yaml", "yml", "zip",
];

/// Where a dotted name starts that may be a host: the last part alphabetic and of two letters or more.
fn bare_name(word: &str) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '-' || c == '.' || c == '。' || c == '．';
    let mut start = None;
    let mut runs = Vec::new();
    for (at, c) in word.char_indices() {
        match (is_name(c), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                runs.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        runs.push((from, word.len()));
    }
    runs.into_iter().find(|(from, to)| word.get(*from..*to).is_some_and(|run| is_host(run, word.get(*to..)))).map(
        |(from, to)| {
            let run = word.get(from..to).unwrap_or_default();
            from + (run.len() - run.trim_start_matches(['.', '-']).len())
        },
    )
}

fn is_host(run: &str, after: Option<&str>) -> bool {
    let run = run.trim_matches(['.', '-']);
    let parts: Vec<&str> = run.split(['.', '。', '．']).collect();
    let Some(last) = parts.last() else { return false };
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty()) {
        return false;
    }
    if parts.len() == 4 && parts.iter().all(|part| part.chars().all(|c| c.is_ascii_digit())) {
        return true;
    }
    if last.chars().count() < 2 {
        return false;
    }
    if !last.chars().all(char::is_alphabetic) && !last.starts_with("xn--") {
        return false;
    }
    let has_more = after.is_some_and(|rest| rest.starts_with(['/', ':', '?', '#', '@']));
    parts.len() > 2 || has_more || !FILE_ENDINGS.contains(&last.to_lowercase().as_str())
}

/// The bare host name, written so that it is not a link.
fn defanged(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host.strip_prefix('[').map_or_else(|| host.split(':').next().unwrap_or_default(), |_| "address");
    match host.parse::<Host>() {
        Ok(host) => format!("⟦link: {}⟧", host.to_string().replace('.', "[.]")),
        Err(_) => "⟦link⟧".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str, rules: LinkRules) -> String {
        let mut filter = LinkFilter::new(rules);
        let mut out = filter.push(text);
        out.push_str(&filter.finish().0);
        out
    }

    fn plain(text: &str) -> String {
        filter(text, LinkRules::default())
    }

    #[test]
    fn a_link_becomes_its_host() {
        assert_eq!(plain("see https://evil.example/?d=c2VjcmV0 now"), "see ⟦link: evil[.]example⟧ now");
        assert_eq!(plain("![x](https://evil.example/a.png?q=secret)"), "![x](⟦link: evil[.]example⟧)");
        assert_eq!(plain("(HTTP://user:pw@Evil.Example:8080/x)."), "(⟦link: evil[.]example⟧).");
        assert_eq!(plain("visit secret-data.evil.com!"), "visit ⟦link: secret-data[.]evil[.]com⟧!");
        assert_eq!(plain("evil.com/path?x=1"), "⟦link: evil[.]com⟧");
        assert_eq!(plain("a.b.rs is a host, main.rs is not"), "⟦link: a[.]b[.]rs⟧ is a host, main.rs is not");
        assert_eq!(plain("tg://resolve?domain=x"), "⟦link⟧".replace("⟦link⟧", &defanged("tg://resolve?domain=x")));
        assert_eq!(plain("ping 10.0.0.1/x"), "ping ⟦link: 10[.]0[.]0[.]1⟧");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in
            ["e.g. this, i.e. that.", "version 1.2.3 of x", "3.14", "a... b", "Hello.", "notes.md and Cargo.toml"]
        {
            assert_eq!(plain(text), text);
        }
    }

    #[test]
    fn listed_and_typed_links_pass() {
        let rules = LinkRules {
            hosts: BTreeSet::from(["*.rust-lang.org".parse().expect("a pattern")]),
            listed: BTreeSet::new(),
            typed: BTreeSet::from(["http://typed.example/a?b".to_owned()]),
        };
        let text = "https://doc.rust-lang.org/std http://typed.example/a?b https://doc.rust-lang.org@evil.com/";
        assert_eq!(filter(text, rules), "https://doc.rust-lang.org/std http://typed.example/a?b ⟦link: evil[.]com⟧");
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same(text in "([a-z./:?@ )(\\[]|https://|é){0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let whole = plain(&text);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|at| text.is_char_boundary(*at)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let mut filter = LinkFilter::new(LinkRules::default());
            let mut out = String::new();
            for pair in at.windows(2) {
                out.push_str(&filter.push(text.get(pair[0]..pair[1]).expect("a boundary")));
            }
            out.push_str(&filter.finish().0);
            prop_assert_eq!(out, whole);
        }

        #[test]
        fn no_scheme_survives(text in "\\PC{0,60}") {
            let out = plain(&format!("https://x.example/{text}"));
            prop_assert!(!out.contains("https://x.example"));
        }
    }
}
