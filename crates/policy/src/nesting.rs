//! A bound on how deep Cedar text nests, checked before Cedar reads it.
//!
//! Cedar's parser and validator recurse, and a program that runs out of stack is killed. `sigil policy test` reads bundles
//! that nobody vouches for, so depth is bounded here, by counting brackets and words.

/// Brackets within brackets.
const MAX_DEPTH: usize = 24;
/// `if` within one rule.
const MAX_IFS: usize = 24;
/// Words and signs of one rule: what bounds chains such as `a && b && c` and `a.b.c`.
const MAX_TOKENS: usize = 1_500;
/// Words and signs of one declaration of a schema, or of a whole namespace.
const MAX_SCHEMA_TOKENS: usize = 5_000;
/// Declarations of a schema: what bounds a chain of types, each made of the next.
const MAX_DECLARATIONS: usize = 128;

/// Checks the text of a `*.cedar` file: each rule on its own.
pub(crate) fn check_rules(text: &str) -> Result<(), String> {
    check(text, MAX_TOKENS)
}

/// Checks the text of a schema.
pub(crate) fn check_schema(text: &str) -> Result<(), String> {
    check(text, MAX_SCHEMA_TOKENS)?;
    if Tokens::new(text).filter(|(_, token)| *token == ";").count() > MAX_DECLARATIONS {
        return Err(format!("more than {MAX_DECLARATIONS} declarations"));
    }
    Ok(())
}

fn check(text: &str, max_tokens: usize) -> Result<(), String> {
    let (mut depth, mut ifs, mut tokens) = (0_usize, 0, 0);
    for (line, token) in Tokens::new(text) {
        tokens += 1;
        match token {
            "(" | "[" | "{" | "<" => depth += 1,
            ")" | "]" | "}" | ">" => depth = depth.saturating_sub(1),
            "if" => ifs += 1,
            ";" if depth == 0 => (ifs, tokens) = (0, 0),
            _ => {}
        }
        if depth > MAX_DEPTH || ifs > MAX_IFS || tokens > max_tokens {
            return Err(format!(
                "line {line}: more than {MAX_DEPTH} brackets within brackets, {MAX_IFS} `if` or {max_tokens} words and \
                 signs in one statement; write several"
            ));
        }
    }
    Ok(())
}

/// Words, strings and single signs with their lines; comments and white space are passed over.
struct Tokens<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Tokens<'t> {
    const fn new(text: &'t str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Takes `length` bytes, which end at a character's boundary.
    fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = (usize, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if !self.rest.starts_with("//") {
                break;
            }
            self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
        let first = self.rest.chars().next()?;
        let length = if first == '"' {
            string_length(self.rest)
        } else if is_word(first) {
            self.rest.find(|sign| !is_word(sign)).unwrap_or(self.rest.len())
        } else {
            first.len_utf8()
        };
        let line = self.line;
        Some((line, self.take(length)))
    }
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

/// Length of the string literal at the start of `text`, quotes included; all of it where the string does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Preset, Source};

    fn rule(condition: &str) -> String {
        format!("@id(\"t.deep\") permit(principal, action, resource) when {{ {condition} }};")
    }

    /// Compiles `text` as rules of the default policy, in a thread with the small stack that tests have.
    fn compile(path: &str, text: &str) -> Result<(), String> {
        let mut source = Source::embedded(Preset::Balanced).expect("the embedded policy");
        source.set_file(path, text).expect("a policy file");
        source.test().map(|_| ()).map_err(|refused| refused.to_string())
    }

    /// A kind of nesting, by its depth.
    type Shape = fn(usize) -> String;

    const SHAPES: [Shape; 8] = [
        |n| rule(&format!("{}true{}", "(".repeat(n), ")".repeat(n))),
        |n| rule(&format!("{}1{} == 1", "[".repeat(n), "]".repeat(n))),
        |n| rule(&format!("{}true{}", "if true then ".repeat(n), " else false".repeat(n))),
        |n| rule(&format!("{}true", "true && ".repeat(n))),
        |n| rule(&format!("{}true", "context.flow == true || ".repeat(n))),
        |n| rule(&format!("context{}", ".readers".repeat(n))),
        |n| rule(&format!("context{}", "[\"readers\"]".repeat(n))),
        |n| rule(&format!("1{} == 1", " + 1".repeat(n))),
    ];

    #[test]
    fn what_is_too_deep_is_refused() {
        for shape in SHAPES {
            let refused = compile("deep.cedar", &shape(20_000)).expect_err("too deep");
            assert!(refused.contains("brackets within"), "{refused}");
        }
        for text in ["Set<".repeat(20_000), "{a:".repeat(20_000), format!("{{{}}}", "a: Long, ".repeat(20_000))] {
            let refused = compile("schema.cedarschema", &format!("type A = {text}")).expect_err("too deep");
            assert!(refused.contains("brackets within"), "{refused}");
        }
    }

    #[test]
    fn what_is_just_not_too_deep_does_not_overflow_a_small_stack() {
        for shape in SHAPES {
            let deepest =
                (1..1_000).take_while(|depth| check_rules(&shape(*depth)).is_ok()).last().expect("some depth");
            let _ = compile("deep.cedar", &shape(deepest));
        }
    }

    #[test]
    fn chains_of_declarations_are_bounded() {
        let base = Source::embedded(Preset::Balanced).expect("the embedded policy");
        let schema = base.file("schema.cedarschema").expect("there");
        let links: [fn(usize) -> String; 3] = [
            |n| format!("type T{n} = Set<T{}>;\n", n + 1),
            |n| format!("entity T{n} in [T{}];\n", n + 1),
            |n| format!("action T{n} in [T{}];\n", n + 1),
        ];
        for link in links {
            let chain = |length| format!("{schema}{}", (0..length).map(link).collect::<String>());
            let deepest = (1..200).take_while(|length| check_schema(&chain(*length)).is_ok()).last().expect("some");
            assert!((50..128).contains(&deepest));
            for end in ["type", "entity", "action"] {
                let end = if end == "type" {
                    format!("type T{} = Long;", deepest - 1)
                } else {
                    format!("{end} T{};", deepest - 1)
                };
                let _ = compile("schema.cedarschema", &format!("{}{end}", chain(deepest - 1)));
            }
            assert!(compile("schema.cedarschema", &chain(3_000)).expect_err("too many").contains("declarations"));
        }
    }

    #[test]
    fn strings_and_comments_do_not_count() {
        let brackets = "(".repeat(1_000);
        assert!(check_rules(&format!("// {brackets}\n@id(\"{brackets}\\\"{brackets}\") permit(a, b, c);")).is_ok());
        assert!(check_rules(&"permit(a, b, c);".repeat(10_000)).is_ok());
        assert!(check_rules(&format!("\"{brackets}")).is_ok(), "an unfinished string is Cedar's to refuse");
        let refused = check_rules(&format!("permit();\n\n{brackets}")).expect_err("too deep");
        assert!(refused.starts_with("line 3"), "{refused}");
    }
}
