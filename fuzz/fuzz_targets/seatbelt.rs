//! Arbitrary text as a Seatbelt profile: what passes the check refuses by default and names no path of its own. Arbitrary
//! paths as grants: what is generated passes the check, and none of them stands in it.
#![no_main]

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sigil_sandbox::profile::{Access, Bind, CommandAsk, Exec, Limits, LinkRule, NeverGrant, Profile, compile_command};
use sigil_sandbox::seatbelt::form::{Form, read};
use sigil_sandbox::seatbelt::{Place, check, generate};

static NATIVE: LazyLock<Profile> = LazyLock::new(|| {
    let exec = Exec { path: "/bin/sh".into(), argv: vec!["sh".into()], env: BTreeMap::new(), cwd: "/tmp".into() };
    let ask = CommandAsk {
        profile: "native".into(),
        files: Vec::new(),
        masks: Vec::new(),
        hosts: Vec::new(),
        exec,
        never: NeverGrant::default(),
        host_ids: (501, 20),
        posture: None,
        limits: Limits::default(),
        terminal: false,
    };
    compile_command(ask).expect("the base profile alone").profile
});

fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(forms) = read(text) {
        let written: String = forms.iter().map(|form| format!("{form}\n")).collect();
        assert_eq!(read(&written).expect("its own form is read"), forms);
    }
    let parameters = BTreeMap::from([("PATH_0".to_owned(), "/x".to_owned())]);
    for whole in [text.to_owned(), format!("(version 1)(deny default)\n{text}")] {
        if check(&whole, &parameters).is_ok() {
            let allows = |form: &Form| form.to_string().starts_with("(allow ");
            let rules = read(&whole).expect("what was checked is read");
            assert_eq!(rules[1].to_string(), "(deny default)");
            for rule in rules.iter().filter(|form| allows(form)).map(ToString::to_string) {
                assert!(!rule.contains("default") && !rule.contains("(subpath \"/\")") && !rule.contains(".."), "{rule}");
            }
        }
    }
}

fn paths(bytes: &[u8]) {
    let mut profile = NATIVE.clone();
    for (at, path) in bytes.split(|byte| *byte == 0xff).take(8).enumerate() {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let access = [Access::Read, Access::Write, Access::Exec][at % 3];
        let (source, target) = (path.to_owned(), format!("/x{at}").into());
        profile.binds.push(Bind { source, target, access, optional: false, link: LinkRule::Refuse });
    }
    let place = Place { scratch: "/private/tmp/sigil".into(), ..Place::default() };
    if let Ok(made) = generate(&profile, &place) {
        check(&made.text, &made.parameters).expect("what is generated is sound");
        for part in made.parameters.values().flat_map(|value| value.split('/')).filter(|part| part.len() > 24) {
            assert!(!made.text.contains(part), "{part}");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'p', rest)) => paths(rest),
        _ => text(bytes),
    }
});
