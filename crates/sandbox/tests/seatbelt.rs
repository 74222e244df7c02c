//! Seatbelt profiles: what their text says, read by a reader of its own under both known orders of rules, is what the binds of
//! the profile say. Nothing here runs on macOS.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sigil_sandbox::profile::{
    Access, Bind, CommandAsk, Exec, Limits, LinkRule, Network, NeverGrant, PROXY_PORT, Profile, Wish, compile_command,
};
use sigil_sandbox::seatbelt::form::{Form, read};
use sigil_sandbox::seatbelt::{CheckFailed, GenerateFailed, Place, Seatbelt, check, generate};

fn command(profile: &str, read: &[&str], write: &[&str], hosts: &[&str]) -> Profile {
    let wish = |paths: &[&str], access| paths.iter().map(|path| Wish::new(path.into(), access)).collect::<Vec<_>>();
    let hosts = hosts
        .iter()
        .map(|host| sigil_policy::HostRule { host: host.parse().expect("a host"), ports: BTreeSet::from([443]) });
    let ask = CommandAsk {
        profile: profile.to_owned(),
        files: [wish(read, Access::Read), wish(write, Access::Write)].concat(),
        masks: Vec::new(),
        hosts: hosts.map(|rule| (rule, "--allow-host".to_owned())).collect(),
        exec: Exec {
            path: "/bin/sh".into(),
            argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
            env: BTreeMap::new(),
            cwd: "/tmp".into(),
        },
        never: NeverGrant::default(),
        host_ids: (501, 20),
        posture: None,
        limits: Limits::default(),
        terminal: false,
    };
    compile_command(ask).expect("compiles").profile
}

fn place() -> Place {
    Place { scratch: "/private/var/folders/s1".into(), proxy_port: Some(49_152), ..Place::default() }
}

fn made(profile: &Profile) -> Seatbelt {
    generate(profile, &place()).unwrap_or_else(|error| panic!("{error}"))
}

fn bind(source: &Path, target: &Path, access: Access) -> Bind {
    Bind { source: source.into(), target: target.into(), access, optional: false, link: LinkRule::Refuse }
}

/// The text, the parameters, and what is executed, for people to read.
fn golden(seatbelt: &Seatbelt) -> String {
    let parameters: Vec<String> = seatbelt.parameters.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let gaps: Vec<String> = seatbelt.gaps.iter().map(|gap| format!("- {gap}\n")).collect();
    let exec = format!("{} in {}\n", seatbelt.exec.argv.join(" "), seatbelt.exec.cwd.display());
    let env: Vec<String> = seatbelt.exec.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    [
        &seatbelt.text,
        "\n== parameters\n",
        &parameters.concat(),
        "\n== executes\n",
        &exec,
        &env.concat(),
        "\n== not there\n",
        &gaps.concat(),
    ]
    .concat()
}

#[test]
fn a_native_plugin() {
    let mut profile = command("native", &[], &[], &[]);
    profile.binds.push(bind(Path::new("/Users/ann/store/sha256-1"), Path::new("/plugin"), Access::Exec));
    profile.exec.path = "/plugin/bin/tool".into();
    profile.exec.argv = ["/plugin/bin/tool", "--data", "/plugin/data", "/other"].map(str::to_owned).into();
    insta::assert_snapshot!(golden(&made(&profile)));
}

#[test]
fn a_shell() {
    insta::assert_snapshot!(golden(&made(&command("shell", &[], &[], &[]))));
}

#[test]
fn a_command_behind_the_proxy() {
    insta::assert_snapshot!(golden(&made(&command("native", &[], &[], &["example.org"]))));
}

#[test]
fn folders_and_single_files() {
    let profile = command("native", &["/Users/ann/docs", "/tmp/one.txt"], &[], &[]);
    let place = Place { files: ["/tmp/one.txt".into()].into(), terminal: Some("/dev/ttys003".into()), ..place() };
    insta::assert_snapshot!(golden(&generate(&profile, &place).expect("a profile")));
}

#[test]
fn deny_inside_allow() {
    insta::assert_snapshot!(golden(&made(&command("native", &[], &["/Users/ann/src"], &[]))));
}

#[test]
fn the_command_line_hands_over_every_parameter() {
    let seatbelt = made(&command("shell", &["/Users/ann/a b=c\"(d"], &[], &[]));
    let argv = seatbelt.argv();
    assert_eq!(argv[..3], ["/usr/bin/sandbox-exec", "-p", &seatbelt.text]);
    assert!(argv.iter().any(|argument| argument.ends_with("=/Users/ann/a b=c\"(d")), "{argv:?}");
    assert_eq!(argv.iter().filter(|argument| *argument == "-D").count(), seatbelt.parameters.len());
    assert_eq!(argv[argv.len() - 3..], ["/bin/sh", "-c", "true"]);
}

#[test]
fn what_a_mac_cannot_have_is_refused() {
    let with = |path: &str| {
        let mut profile = command("native", &[], &[], &[]);
        profile.binds.push(bind(Path::new(path), Path::new("/x"), Access::Read));
        generate(&profile, &place()).expect_err(path)
    };
    let long = format!("/Users/{}", "x".repeat(1020));
    for path in ["/", "", "x", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\0b", &long] {
        assert!(matches!(with(path), GenerateFailed::Path { .. }), "{path:?}");
    }
    use std::os::unix::ffi::OsStrExt;
    let mut profile = command("native", &[], &[], &[]);
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"/Users/\xff"));
    profile.binds.push(bind(odd, Path::new("/x"), Access::Read));
    assert!(matches!(generate(&profile, &place()), Err(GenerateFailed::Path { .. })));

    let proxied = command("native", &[], &[], &["example.org"]);
    for proxy_port in [None, Some(0)] {
        assert_eq!(generate(&proxied, &Place { proxy_port, ..place() }), Err(GenerateFailed::NoPort));
    }
    let mut listens = command("native", &[], &[], &[]);
    listens.binds.push(bind(Path::new("/run/private"), Path::new("/tmp"), Access::Scratch));
    assert_eq!(generate(&listens, &place()), Err(GenerateFailed::Listener));
    let mut unknown = command("native", &[], &[], &[]);
    unknown.name = "other".to_owned();
    assert!(matches!(generate(&unknown, &place()), Err(GenerateFailed::Base(_))));
}

/// How the order of rules is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// The last rule that matches.
    Last,
    /// The last one that names the operation itself; only where there is none, the last one that names a group of them.
    NamedFirst,
}

/// What is tried: an operation on a path, and the kind of file that is made.
struct Try<'a> {
    operation: &'a str,
    path: &'a Path,
    kind: &'a str,
}

struct Sandbox<'a> {
    rules: Vec<Form>,
    parameters: &'a BTreeMap<String, String>,
}

impl<'a> Sandbox<'a> {
    fn of(seatbelt: &'a Seatbelt) -> Self {
        Self { rules: read(&seatbelt.text).expect("it reads"), parameters: &seatbelt.parameters }
    }

    fn allows(&self, order: Order, tried: &Try<'_>) -> bool {
        let (mut named, mut grouped) = (None, None);
        for (verb, rest) in self.rules.iter().filter_map(Form::as_list) {
            let operations = rest.iter().map_while(|part| if let Form::Word(word) = part { Some(word) } else { None });
            let filters: Vec<&Form> = rest.iter().filter(|part| matches!(part, Form::List(_))).collect();
            if !filters.is_empty() && !filters.iter().any(|filter| self.meets(filter, tried)) {
                continue;
            }
            for operation in operations {
                let group = operation.strip_suffix('*').is_some_and(|group| tried.operation.starts_with(group));
                let verdict = Some(verb == "allow");
                match order {
                    _ if operation == tried.operation => named = verdict,
                    Order::Last if group || operation == "default" => named = verdict,
                    Order::NamedFirst if group || operation == "default" => grouped = verdict,
                    _ => {}
                }
            }
        }
        named.or(grouped).expect("there is a default")
    }

    fn meets(&self, filter: &Form, tried: &Try<'_>) -> bool {
        let path = |form: &Form| match (form, form.as_list()) {
            (Form::Text(text), _) => PathBuf::from(text),
            (_, Some(("param", [Form::Text(name)]))) => PathBuf::from(&self.parameters[name]),
            _ => panic!("{form}"),
        };
        match filter.as_list().expect("a filter") {
            ("subpath", [at]) => tried.path.starts_with(path(at)),
            ("literal", [at]) => tried.path == path(at),
            ("vnode-type", [Form::Word(kind)]) => tried.kind == kind,
            ("require-all", all) => all.iter().all(|filter| self.meets(filter, tried)),
            _ => false,
        }
    }
}

const HOSTILE: [&str; 14] = [
    "\"))(allow default)",
    "\\",
    "\\\"",
    "(",
    ")",
    ";",
    "\n(allow default)\n",
    "\u{2028}",
    "é\u{301}",
    "$(id)",
    "${HOME}",
    "-D",
    "(param \"PATH_0\")",
    " ",
];

/// One name of a path, which no profile's own text holds.
fn name() -> impl Strategy<Value = String> {
    let odd = prop_oneof![prop::sample::select(&HOSTILE[..]).prop_map(str::to_owned), "[^/\0]{0,12}", "x{200}"];
    odd.prop_map(|text| format!("{text}Zq7"))
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(&[Access::Read, Access::Exec, Access::Write][..])
}

/// Folders in each other, with what may be done in each.
fn grants() -> impl Strategy<Value = BTreeMap<PathBuf, Access>> {
    let names = prop::collection::vec(name(), 3);
    let shapes = prop::collection::vec((prop::collection::vec(0_usize..3, 1..4), access()), 0..6);
    (names, shapes).prop_map(|(names, shapes)| {
        let path = |shape: Vec<usize>| shape.iter().fold(PathBuf::from("/Users"), |path, at| path.join(&names[*at]));
        shapes.into_iter().map(|(shape, access)| (path(shape), access)).collect()
    })
}

fn granted(grants: &BTreeMap<PathBuf, Access>) -> Seatbelt {
    let mut profile = command("native", &[], &[], &[]);
    profile.binds.extend(grants.iter().map(|(path, access)| bind(path, path, *access)));
    made(&profile)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_path_stands_in_the_text(grants in grants()) {
        let seatbelt = granted(&grants);
        prop_assert!(!seatbelt.text.contains("Zq7"));
        prop_assert_eq!(check(&seatbelt.text, &seatbelt.parameters), Ok(()));
        for path in grants.keys() {
            prop_assert!(seatbelt.parameters.values().any(|value| Path::new(value) == path));
        }
        // The text knows the shape of the paths alone: of other names, in the same order, the same text is made.
        let mut names: BTreeMap<&std::ffi::OsStr, String> = BTreeMap::new();
        let parts: BTreeSet<_> = grants.keys().flat_map(|path| path.iter().skip(2)).collect();
        for (at, part) in parts.into_iter().enumerate() {
            names.insert(part, format!("n{at:02}"));
        }
        let plain = grants.iter().map(|(path, access)| {
            let plain = path.iter().skip(2).fold(PathBuf::from("/Users"), |plain, part| plain.join(&names[part]));
            (plain, *access)
        });
        prop_assert_eq!(&granted(&plain.collect()).text, &seatbelt.text);
        for name in seatbelt.parameters.keys() {
            let mut without = seatbelt.parameters.clone();
            without.remove(name);
            prop_assert_eq!(check(&seatbelt.text, &without), Err(CheckFailed::Undefined(name.clone())));
        }
    }

    #[test]
    fn the_rules_give_what_the_binds_give(grants in grants(), below in prop::option::of(name())) {
        let seatbelt = granted(&grants);
        let sandbox = Sandbox::of(&seatbelt);
        let mut places = grants.clone();
        places.insert("/private/var/folders/s1".into(), Access::Scratch);
        let mut tried: BTreeSet<PathBuf> = places.keys().flat_map(|path| path.ancestors()).map(Path::to_owned).collect();
        if let Some(below) = below {
            tried.extend(places.keys().map(|path| path.join(&below)).collect::<Vec<_>>());
        }
        tried.remove(Path::new("/"));
        for path in &tried {
            // As mounts do: the deepest one counts.
            let deepest = path.ancestors().find_map(|above| places.get(above)).copied();
            let writes = matches!(deepest, Some(Access::Write | Access::Scratch));
            for order in [Order::Last, Order::NamedFirst] {
                let allows = |operation, kind| sandbox.allows(order, &Try { operation, path, kind });
                let told = |operation| format!("{operation} {} ({deepest:?}, {order:?})\n{}", path.display(), seatbelt.text);
                prop_assert_eq!(allows("file-read-data", "REGULAR-FILE"), deepest.is_some(), "{}", told("read"));
                prop_assert_eq!(allows("file-write-data", "REGULAR-FILE"), writes, "{}", told("write"));
                prop_assert_eq!(allows("file-write-create", "REGULAR-FILE"), writes, "{}", told("create"));
                prop_assert_eq!(allows("process-exec", "REGULAR-FILE"), deepest == Some(Access::Exec), "{}", told("exec"));
                prop_assert_eq!(
                    allows("file-map-executable", "REGULAR-FILE"), deepest == Some(Access::Exec), "{}", told("map")
                );
                prop_assert_eq!(
                    allows("file-write-create", "FIFO"), deepest == Some(Access::Scratch), "{}", told("fifo")
                );
                prop_assert!(!allows("file-write-create", "BLOCK-DEVICE"));
                prop_assert!(!allows("file-write-setugid", "REGULAR-FILE"));
                // Moving a folder away would take the read-only part in it along.
                let holds = places.iter().any(|(inner, access)| *access <= Access::Exec && inner.starts_with(path));
                prop_assert_eq!(allows("file-write-unlink", "DIRECTORY"), writes && !holds, "{}", told("move"));
                for never in ["network-inbound", "network-bind", "network-outbound", "iokit-open", "lsopen",
                    "appleevent-send", "ipc-posix-shm-read-data", "mach-register", "mach-lookup"] {
                    prop_assert!(!allows(never, "SOCKET"), "{}", told(never));
                }
            }
        }
    }
}

#[test]
fn only_the_proxy_is_reached() {
    let with = |hosts: &[&str]| made(&command("shell", &[], &[], hosts)).text;
    assert!(!with(&[]).contains("network-outbound"));
    let text = with(&["example.org"]);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("network-outbound")).collect();
    assert_eq!(lines, ["(allow network-outbound (remote ip \"localhost:49152\"))"]);
    let proxied = command("shell", &[], &[], &["example.org"]);
    assert_eq!(proxied.network, Network::Proxy(PROXY_PORT));
    assert_eq!(made(&proxied).exec.env["HTTPS_PROXY"], "http://127.0.0.1:49152");
}
