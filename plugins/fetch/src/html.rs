//! HTML to plain text: what a person would read, in order, without markup.
//!
//! Not a browser: no scripts, no styles, no repair of trees. One pass, linear time, no recursion. Text that a page hides
//! from people (by attribute or style) is left out where that can be seen without a style sheet; the scanner looks at
//! the rest.

/// Elements whose content is never text for people.
const SILENT: [&str; 9] = ["script", "style", "template", "noscript", "svg", "math", "iframe", "object", "select"];

/// Elements that begin a new line.
const BLOCKS: [&str; 33] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "br",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "main",
    "nav",
    "p",
    "pre",
    "section",
    "table",
    "tr",
];

/// Elements without an end tag.
const VOID: [&str; 13] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"];

/// The text of an HTML document.
pub(crate) fn text(html: &str) -> String {
    let mut out = Out::default();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (before, markup) = rest.split_at(at);
        out.text(before);
        rest = match tag(markup) {
            Some((Tag::Comment, after)) => after,
            Some((Tag::Open { name, hidden }, after)) => open(&mut out, &name, hidden, after),
            Some((Tag::Close { name }, after)) => {
                out.close(&name);
                after
            }
            // A lone `<` is text.
            None => {
                out.text("<");
                markup.strip_prefix('<').unwrap_or_default()
            }
        };
    }
    out.text(rest);
    out.finish()
}

fn open<'a>(out: &mut Out, name: &str, hidden: bool, after: &'a str) -> &'a str {
    if SILENT.contains(&name) {
        return skip_to_end_of(name, after);
    }
    if BLOCKS.contains(&name) {
        out.line();
    }
    match name {
        "li" => out.raw("- "),
        "td" | "th" => out.raw(" | "),
        "title" => out.line(),
        _ => {}
    }
    if !VOID.contains(&name) {
        out.enter(name, hidden);
    }
    after
}

/// What follows the end tag of `name`, or nothing when there is none.
fn skip_to_end_of<'a>(name: &str, text: &'a str) -> &'a str {
    let mut rest = text;
    while let Some(at) = rest.find("</") {
        let after = rest.get(at + 2..).unwrap_or_default();
        let matches = after.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        let ends = after.get(name.len()..).is_some_and(|tail| !tail.starts_with(|c: char| c.is_ascii_alphanumeric()));
        if matches && ends {
            return after.split_once('>').map_or("", |(_, tail)| tail);
        }
        rest = after;
    }
    ""
}

enum Tag {
    Open { name: String, hidden: bool },
    Close { name: String },
    Comment,
}

/// Reads one tag at the start of `text`, which begins with `<`.
fn tag(text: &str) -> Option<(Tag, &str)> {
    if let Some(comment) = text.strip_prefix("<!--") {
        return Some((Tag::Comment, comment.split_once("-->").map_or("", |(_, after)| after)));
    }
    let inner = text.strip_prefix('<')?;
    if inner.starts_with(['!', '?']) {
        return Some((Tag::Comment, inner.split_once('>').map_or("", |(_, after)| after)));
    }
    let (closing, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
    if !inner.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let (content, after) = split_at_tag_end(inner);
    let end = content.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(content.len());
    let (name, attributes) = content.split_at(end);
    let name = name.to_ascii_lowercase();
    let tag = if closing { Tag::Close { name } } else { Tag::Open { name, hidden: is_hidden(attributes) } };
    Some((tag, after))
}

/// Splits at the `>` that ends a tag: one that is in no quotes.
fn split_at_tag_end(text: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    (text, "")
}

/// Whether attributes hide the element from people.
fn is_hidden(attributes: &str) -> bool {
    let flat: String = attributes.to_ascii_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    let word = attributes.to_ascii_lowercase();
    let hidden = word.split([' ', '\t', '\n', '/']).any(|part| part == "hidden" || part.starts_with("hidden="));
    hidden
        || ["display:none", "visibility:hidden", "font-size:0", "opacity:0;", "opacity:0\""]
            .iter()
            .any(|style| flat.contains(style))
}

#[derive(Default)]
struct Out {
    text: String,
    /// The name of the hidden element that is open, and how many of that name are open inside it.
    hidden: Option<(String, usize)>,
    preformatted: usize,
    blank: bool,
}

impl Out {
    fn enter(&mut self, name: &str, hidden: bool) {
        match &mut self.hidden {
            Some((open, depth)) if open == name => *depth += 1,
            None if hidden => self.hidden = Some((name.to_owned(), 1)),
            _ => {}
        }
        if name == "pre" {
            self.preformatted += 1;
        }
    }

    fn close(&mut self, name: &str) {
        let gone = match &mut self.hidden {
            Some((open, depth)) if open == name => {
                *depth -= 1;
                *depth == 0
            }
            _ => false,
        };
        if gone {
            self.hidden = None;
        }
        if name == "pre" {
            self.preformatted = self.preformatted.saturating_sub(1);
        }
        if BLOCKS.contains(&name) || name == "title" {
            self.line();
        }
    }

    fn text(&mut self, raw: &str) {
        if self.hidden.is_some() {
            return;
        }
        for c in decode(raw).chars() {
            if self.preformatted > 0 && c == '\n' {
                self.line();
            } else if c.is_whitespace() && self.preformatted == 0 {
                self.blank = true;
            } else {
                if self.blank && !self.text.is_empty() && !self.text.ends_with('\n') {
                    self.text.push(' ');
                }
                self.blank = false;
                self.text.push(c);
            }
        }
    }

    fn raw(&mut self, text: &str) {
        if self.hidden.is_none() {
            self.text.push_str(text);
        }
    }

    fn line(&mut self) {
        self.blank = false;
        if self.hidden.is_none() && !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn finish(self) -> String {
        let lines: Vec<&str> = self.text.lines().map(str::trim_end).collect();
        let mut out = String::with_capacity(self.text.len());
        for (at, line) in lines.iter().enumerate() {
            let doubled = line.is_empty()
                && at.checked_sub(1).and_then(|before| lines.get(before)).is_some_and(|before| before.is_empty());
            if !doubled {
                out.push_str(line);
                out.push('\n');
            }
        }
        out.trim().to_owned()
    }
}

/// Decodes character references: the numeric ones and the names that pages use.
fn decode(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('&') {
        let (before, reference) = rest.split_at(at);
        out.push_str(before);
        let end = reference.char_indices().take(12).find(|(_, c)| *c == ';').map(|(end, _)| end);
        let decoded = end.and_then(|end| Some((character(reference.get(1..end)?)?, reference.get(end + 1..)?)));
        match decoded {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = reference.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn character(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| !c.is_control() || *c == '\n' || *c == '\t');
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "laquo" => '«',
        "raquo" => '»',
        "middot" => '·',
        "bull" => '•',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        "euro" => '€',
        "deg" => '°',
        "times" => '×',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "eacute" => 'é',
        "egrave" => 'è',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_becomes_what_people_read() {
        let page = "<!doctype html><html><head><title>A &amp; B</title><style>p{color:red}</style>\
                    <script>if (a < b) { alert('</p>') }</script></head><body><h1>Title</h1><p>One\n  two <b>three</b>.</p>\
                    <ul><li>first<li>second</ul><!-- secret --><p title='>'>1 &lt; 2 &#x263A; &unknown;</p>\
                    <pre>a\n  b</pre></body></html>";
        assert_eq!(text(page), "A & B\n\nTitle\n\nOne two three.\n\n- first\n- second\n1 < 2 ☺ &unknown;\n\na\n  b");
    }

    #[test]
    fn what_is_hidden_from_people_is_left_out() {
        for hidden in ["hidden", "style=\"display: none\"", "style='visibility:hidden'"] {
            let page = format!("a<div {hidden}>ignore <div>all</div> previous</div>b");
            assert_eq!(text(&page), "a\n\nb", "{hidden}");
        }
    }

    #[test]
    fn broken_markup_is_no_trouble() {
        assert_eq!(text("1 < 2 and <b"), "1 < 2 and");
        assert_eq!(text("a<script>never ends"), "a");
        assert_eq!(text("a<!-- never ends"), "a");
        assert_eq!(text("&&amp;&#0;&#xFFFFFFFF;"), "&&&#0;&#xFFFFFFFF;");
    }

    proptest! {
        #[test]
        fn arbitrary_markup_never_panics_or_grows(page in "[<>/!a-z\"'= &;#-]{0,200}|\\PC{0,200}") {
            // One `<li>` of four characters gives two; a `<td>` three.
            prop_assert!(text(&page).len() <= page.len() * 2 + 2);
        }
    }
}
