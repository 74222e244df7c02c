use super::*;

fn read(text: &str) -> Result<Settings, String> {
    parse(text, Path::new("s.json"), Path::new("/here")).map_err(|error| error.to_string())
}

fn hosts_of(allowed: &str, denied: &str) -> Result<Vec<String>, String> {
    let text = format!(r#"{{"network": {{"allowedDomains": [{allowed}], "deniedDomains": [{denied}]}}}}"#);
    let hosts = read(&text)?.gets.hosts;
    Ok(hosts.iter().map(|(rule, _)| format!("{}{:?}", rule.host, rule.ports)).collect())
}

#[test]
fn the_usual_settings_are_read() {
    let text = r#"{
        "network": {"allowedDomains": ["github.com", "*.npmjs.org:443"], "deniedDomains": []},
        "filesystem": {
            "denyRead": ["~/.ssh", "/srv/**"], "allowRead": ["/srv/pub"], "allowWrite": [".", "/tmp"], "denyWrite": [".env"]
        },
        "ignoreViolations": {"*": ["/usr/bin"]}, "enableWeakerNestedSandbox": true, "mandatoryDenySearchDepth": 2
    }"#;
    let settings = read(text).unwrap();
    let rules: Vec<_> = settings.gets.paths.iter().map(|given| (given.path.to_str().unwrap(), given.rule)).collect();
    let home = std::env::var("HOME").unwrap();
    let ssh = format!("{home}/.ssh");
    assert_eq!(
        rules,
        [
            ("/", PathRule::GrantCovered(Access::Exec)),
            (ssh.as_str(), PathRule::MaskIfThere(MaskKind::Hidden)),
            ("/srv", PathRule::MaskIfThere(MaskKind::Hidden)),
            ("/srv/pub", PathRule::GrantCovered(Access::Exec)),
            ("/here/.", PathRule::GrantCovered(Access::Write)),
            ("/tmp", PathRule::GrantCovered(Access::Write)),
            ("/here/.env", PathRule::MaskIfThere(MaskKind::ReadOnly)),
        ]
    );
    assert_eq!(settings.gets.hosts.len(), 2);
    assert_eq!(settings.depth, 2);
    assert_eq!(settings.notes.len(), 2, "{:?}", settings.notes);
}

#[test]
fn what_is_denied_wins() {
    assert_eq!(hosts_of(r#""a.org""#, "").unwrap(), ["a.org{80, 443}"]);
    assert_eq!(hosts_of(r#""a.org:22""#, "").unwrap(), ["a.org{22}"]);
    assert_eq!(hosts_of(r#""[2001:db8::1]:22", "[2001:db8::1]""#, "").unwrap().len(), 2);
    assert!(hosts_of(r#""a.org", "b.a.org""#, r#""a.org", "*.a.org""#).unwrap().is_empty());
    assert_eq!(hosts_of(r#""a.org""#, r#""*:80""#).unwrap(), ["a.org{443}"]);
    assert!(hosts_of(r#""a.org", "*.b.org""#, r#""*""#).unwrap().is_empty());
    assert_eq!(hosts_of(r#""*.a.org""#, r#""x.b.org", "x.a.org:22""#).unwrap(), ["*.a.org{80, 443}"]);
    let error = hosts_of(r#""*.a.org""#, r#""x.a.org""#).unwrap_err();
    assert!(error.contains("inside the allowed"), "{error}");
    for bad in [r#""*""#, r#""*.org""#, r#""a.org:0""#, r#""http://a.org""#, r#""a.*.org""#, r#""evil\u0000.a.org""#] {
        assert!(hosts_of(bad, "").is_err(), "{bad}");
    }
}

#[test]
fn what_cannot_be_kept_is_refused_where_it_would_widen() {
    for (text, says) in [
        (r#"{"filesystem": {"disabled": true}}"#, "s.json:1:17: `disabled` cannot be kept"),
        (r#"{"network": {"httpProxyPort": 3128}}"#, "httpProxyPort"),
        (r#"{"network": {"parentProxy": {}}}"#, "parentProxy"),
        (r#"{"network": {"mitmProxy": {}}}"#, "mitmProxy"),
        (r#"{"network": {"tlsTerminate": {}}}"#, "tlsTerminate"),
        (r#"{"credentials": {"files": [{"path": "/x", "mode": "mask"}]}}"#, "unknown variant `mask`"),
        (r#"{"credentials": {"awsPairs": []}}"#, "credentials"),
        (r#"{"filesystem": {"denyRead": ["/a/*.key"]}}"#, "patterns"),
        (r#"{"filesystem": {"denyRead": [""]}}"#, "patterns"),
        ("{\n \"filesystem\": {\"denyRaed\": []}}", "s.json:2:26: unknown field `denyRaed`"),
        ("{\n \"filesystem\": {\"denyRaed\": []}}", "did you mean `denyRead`?"),
        (r#"{"filesystem": {"denyRead": [], "denyRead": []}}"#, "duplicate"),
        (r#"{"filesystem": {"denyRead": "x"}}"#, "sequence"),
        (r#"{"sandbox": {}}"#, "unknown field"),
        ("", "EOF"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn what_gives_less_is_noted() {
    let text = r#"{"network": {"allowedDomains": ["a.org"], "allowLocalBinding": true, "allowAllUnixSockets": true},
        "filesystem": {"allowGitConfig": true}, "credentials": {"files": [{"path": "/x", "mode": "deny"}]}}"#;
    let settings = read(text).unwrap();
    assert_eq!(settings.notes.len(), 3, "{:?}", settings.notes);
    assert_eq!(settings.gets.paths.last().unwrap().rule, PathRule::MaskIfThere(MaskKind::Hidden));
}
