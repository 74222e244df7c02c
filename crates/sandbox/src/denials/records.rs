//! Landlock's audit records: what the kernel says that it refused, and to whom.
//!
//! Form (Linux 6.15, `Documentation/admin-guide/LSM/landlock.rst`): a record is text, `audit(SECONDS.MILLIS:SERIAL): ` and
//! then fields `name=value`. A value is a word, or in double quotes, or, where it has bytes that could be mistaken, in
//! hexadecimal digits without quotes. `AUDIT_LANDLOCK_ACCESS` says which domain refused what (`domain`, `blockers`) and
//! which object it was about (`path`, `dev`, `ino`, or others); `AUDIT_LANDLOCK_DOMAIN` says who made a domain (`status`,
//! `mode`, `pid`), once, with its first refusal, and when it is gone.
//!
//! Names of files are a program's own words: they are read as bytes, and shown escaped.

use std::collections::{BTreeMap, VecDeque};

/// `AUDIT_LANDLOCK_ACCESS` (linux/audit.h).
pub const ACCESS: u16 = 1423;
/// `AUDIT_LANDLOCK_DOMAIN`.
pub const DOMAIN: u16 = 1424;
/// Longest record: what the kernel sends in one message.
const LONGEST: usize = 8970;
/// Domains that are remembered; the oldest are forgotten.
const DOMAINS: usize = 1024;
/// Refusals that wait for their domain to be named, which follows in the same event.
const WAITING: usize = 64;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An access that was refused.
    Access {
        /// The domain that refused it.
        domain: u64,
        /// The rights that were missing, such as `fs.read_file`, in the kernel's order.
        blockers: String,
        /// The path of the file, in the file system of whoever asked.
        path: Option<String>,
    },
    /// A domain was made, by this process of the first process namespace.
    Made {
        /// The domain.
        domain: u64,
        /// The process.
        pid: u32,
    },
    /// A domain is gone.
    Gone {
        /// The domain.
        domain: u64,
    },
}

impl Record {
    /// Reads the text of a record of the kind `kind`. `None` for other kinds, and for everything that is not in the kernel's
    /// form.
    #[must_use]
    pub fn parse(kind: u16, text: &[u8]) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let fields = fields(text.strip_prefix("audit(")?.split_once("): ")?.1)?;
        let domain = u64::from_str_radix(word(&fields, "domain")?, 16).ok()?;
        match kind {
            ACCESS => {
                let blockers = word(&fields, "blockers")?;
                let right = |text: &str| {
                    !text.is_empty()
                        && text.bytes().all(|byte| byte.is_ascii_lowercase() || b"._0123456789".contains(&byte))
                };
                blockers.split(',').all(right).then(|| Self::Access {
                    domain,
                    blockers: blockers.to_owned(),
                    path: fields.get("path").and_then(|value| value.text()),
                })
            }
            DOMAIN => match word(&fields, "status")? {
                "allocated" => Some(Self::Made { domain, pid: word(&fields, "pid")?.parse().ok()? }),
                "deallocated" => Some(Self::Gone { domain }),
                _ => None,
            },
            _ => None,
        }
    }
}

enum Value<'a> {
    Word(&'a str),
    Quoted(&'a str),
}

impl Value<'_> {
    /// The text that it stands for: quoted as it is, or in hexadecimal digits.
    fn text(&self) -> Option<String> {
        let hex = match self {
            Self::Quoted(text) => return Some((*text).to_owned()),
            Self::Word(hex) => hex,
        };
        let pairs = hex.as_bytes().chunks(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
            u8::from_str_radix(digits, 16).ok()
        });
        let bytes = pairs.collect::<Option<Vec<u8>>>()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn word<'a>(fields: &BTreeMap<&str, Value<'a>>, name: &str) -> Option<&'a str> {
    match fields.get(name)? {
        Value::Word(word) => Some(word),
        Value::Quoted(_) => None,
    }
}

/// Reads `name=value` fields. A name that comes twice makes the record unreadable: which one would count?
fn fields(text: &str) -> Option<BTreeMap<&str, Value<'_>>> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim_end_matches(['\0', '\n', ' ']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, left) = quoted.split_once('"')?;
                (Value::Quoted(value), left)
            }
            None => {
                let end = after.find(' ').unwrap_or(after.len());
                let (value, left) = after.split_at_checked(end)?;
                (Value::Word(value), left)
            }
        };
        if fields.insert(name, value).is_some() {
            return None;
        }
        rest = match left.strip_prefix(' ') {
            Some(left) => left,
            None if left.is_empty() => left,
            None => return None,
        };
    }
    Some(fields)
}

/// Puts refusals and the makers of their domains together, as the records come. Bounded.
#[derive(Debug, Default)]
pub struct Domains {
    makers: BTreeMap<u64, u32>,
    order: VecDeque<u64>,
    waiting: VecDeque<(u64, String, Option<String>)>,
}

impl Domains {
    /// Takes one record: what is known now to have been refused, as the maker of the domain, the blockers and the path.
    pub fn take(&mut self, record: Record) -> Vec<(u32, String, Option<String>)> {
        match record {
            Record::Access { domain, blockers, path } => match self.makers.get(&domain) {
                Some(maker) => vec![(*maker, blockers, path)],
                None => {
                    // The maker is named right behind the first refusal.
                    self.waiting.push_back((domain, blockers, path));
                    if self.waiting.len() > WAITING {
                        self.waiting.pop_front();
                    }
                    Vec::new()
                }
            },
            Record::Made { domain, pid } => {
                if self.makers.insert(domain, pid).is_none() {
                    self.order.push_back(domain);
                }
                if self.order.len() > DOMAINS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.makers.remove(&oldest);
                }
                let (named, waiting): (VecDeque<_>, _) = self.waiting.drain(..).partition(|(of, ..)| *of == domain);
                self.waiting = waiting;
                named.into_iter().map(|(_, blockers, path)| (pid, blockers, path)).collect()
            }
            Record::Gone { domain } => {
                self.makers.remove(&domain);
                self.order.retain(|known| *known != domain);
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "audit(1763728200.123:457): ";

    fn parse(kind: u16, text: &str) -> Option<Record> {
        Record::parse(kind, format!("{HEAD}{text}").as_bytes())
    }

    fn access(path: Option<&str>) -> Record {
        let path = path.map(str::to_owned);
        Record::Access { domain: 0x1_95ba_459b, blockers: "fs.make_reg,fs.refer".into(), path }
    }

    #[test]
    fn records_in_the_kernel_s_form_are_read() {
        let text = "domain=195ba459b blockers=fs.make_reg,fs.refer path=\"/srv/a folder\" dev=\"vda2\" ino=365";
        assert_eq!(parse(ACCESS, text), Some(access(Some("/srv/a folder"))));
        let hex = "domain=195ba459b blockers=fs.make_reg,fs.refer path=2F7372762F2271220A dev=\"vda2\" ino=365";
        assert_eq!(parse(ACCESS, hex), Some(access(Some("/srv/\"q\"\n"))));
        let signal = "domain=195ba459b blockers=fs.make_reg,fs.refer opid=12 ocomm=\"sh\"";
        assert_eq!(parse(ACCESS, signal), Some(access(None)));
        let made =
            "domain=195ba459b status=allocated mode=enforcing pid=300 uid=0 exe=\"/root/sandboxer\" comm=\"sandboxer\"";
        assert_eq!(parse(DOMAIN, made), Some(Record::Made { domain: 0x1_95ba_459b, pid: 300 }));
        let gone = "domain=195ba459b status=deallocated denials=3";
        assert_eq!(parse(DOMAIN, gone), Some(Record::Gone { domain: 0x1_95ba_459b }));
    }

    #[test]
    fn everything_else_is_no_record() {
        for (kind, text) in [
            (ACCESS, ""),
            (ACCESS, "domain=zz blockers=fs.x"),
            (ACCESS, "domain=1"),
            (ACCESS, "blockers=fs.x"),
            (ACCESS, "domain=1 blockers=fs.x domain=2"),
            (ACCESS, "domain=1 blockers=FS.X"),
            (ACCESS, "domain=1 blockers=fs.x,"),
            (ACCESS, "domain=1 blockers=\"fs.x\""),
            (ACCESS, "domain=1 blockers=fs.x path=\"/open"),
            (ACCESS, "domain=1 blockers=fs.x path=\"/a\"b"),
            (DOMAIN, "domain=1 status=allocated mode=enforcing"),
            (DOMAIN, "domain=1 status=other"),
            (1400, "domain=1 blockers=fs.x"),
        ] {
            assert_eq!(parse(kind, text), None, "{text}");
        }
        assert_eq!(Record::parse(ACCESS, b"domain=1 blockers=fs.x"), None, "without its head");
        let bad_hex = parse(ACCESS, "domain=1 blockers=fs.x path=2F7").expect("the rest counts");
        assert!(matches!(bad_hex, Record::Access { path: None, .. }));
    }

    #[test]
    fn refusals_find_the_maker_of_their_domain_and_are_bounded() {
        let refusal = |domain| Record::Access { domain, blockers: "fs.read_file".into(), path: None };
        let mut domains = Domains::default();
        assert!(domains.take(refusal(7)).is_empty());
        assert_eq!(domains.take(Record::Made { domain: 7, pid: 40 }), [(40, "fs.read_file".to_owned(), None)]);
        assert_eq!(domains.take(refusal(7)).len(), 1);
        domains.take(Record::Gone { domain: 7 });
        assert!(domains.take(refusal(7)).is_empty());
        for domain in 0..5000 {
            domains.take(refusal(100_000 + domain));
            domains.take(Record::Made { domain, pid: 1 });
        }
        assert!(domains.makers.len() <= DOMAINS && domains.waiting.len() <= WAITING && domains.order.len() <= DOMAINS);
    }
}
