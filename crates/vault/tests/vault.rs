//! The vault's contract: bindings, keys, damage, permissions, and what is never to be seen.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use sigil_types::{Host, HostPattern, Name, Secret, Timestamp, WorkspaceId};
use sigil_vault::{Asker, Binding, Consumer, SecretRef, Unlock, UseRefused, Vault, VaultFailed, read_secret_file};
use tempfile::{TempDir, tempdir};

const VALUE: &str = "sk-ant-SECRET-value-0123456789";

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn consumer(text: &str) -> Consumer {
    text.parse().unwrap()
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap()
}

fn binding(consumer: &str, workspace: Option<&str>, hosts: &[&str]) -> Binding {
    Binding {
        consumer: consumer.parse().unwrap(),
        workspace: workspace.map(|workspace| workspace.parse().unwrap()),
        hosts: hosts.iter().map(|host| pattern(host)).collect(),
    }
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn key_file(folder: &TempDir) -> Unlock {
    Unlock::KeyFile(folder.path().join("key"))
}

fn vault_folder(folder: &TempDir) -> PathBuf {
    folder.path().join("vault")
}

fn open(folder: &TempDir) -> Result<Vault, VaultFailed> {
    Vault::open(&vault_folder(folder), &key_file(folder))
}

/// A vault with one secret: `key`, for the provider `anthropic` at `api.anthropic.com`.
fn filled() -> (TempDir, Vault) {
    let folder = tempdir().unwrap();
    let vault = open(&folder).unwrap();
    let bound = binding("provider:anthropic", None, &["api.anthropic.com"]);
    vault.put(&name("key"), secret(VALUE), bound, at(1)).unwrap();
    (folder, vault)
}

fn file(folder: &TempDir) -> PathBuf {
    vault_folder(folder).join("secrets.vault")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn code<T>(opened: Result<T, VaultFailed>) -> String {
    opened.err().unwrap().code().to_string()
}

#[test]
fn a_secret_is_handed_out_only_for_what_it_is_bound_to() {
    let (_folder, vault) = filled();
    let (home, work): (WorkspaceId, WorkspaceId) = ("home".parse().unwrap(), "work".parse().unwrap());
    let bound = binding("plugin:fetch", Some("home"), &["*.example.org", "api.example.com"]);
    vault.put(&name("token"), secret("token-value"), bound, at(2)).unwrap();

    let (anthropic, fetch) = (consumer("provider:anthropic"), consumer("plugin:fetch"));
    let provider = Asker { consumer: &anthropic, workspace: None };
    let at_home = Asker { consumer: &fetch, workspace: Some(&home) };
    let get = |name_: &str, asker, to: &str| vault.use_for(&name(name_), asker, &host(to));
    assert_eq!(get("key", provider, "api.anthropic.com").unwrap().expose(), VALUE);
    assert_eq!(get("token", at_home, "a.example.org").unwrap().expose(), "token-value");

    let refused = |name_: &str, asker, to: &str| get(name_, asker, to).unwrap_err().code().to_string();
    assert_eq!(refused("other", provider, "api.anthropic.com"), "vault.secret.use.absent");
    assert_eq!(refused("key", at_home, "api.anthropic.com"), "vault.secret.use.consumer");
    assert_eq!(refused("key", provider, "api.anthropic.com.evil.example"), "vault.secret.use.host");
    assert_eq!(refused("key", provider, "127.0.0.1"), "vault.secret.use.host");
    assert_eq!(
        refused("token", Asker { workspace: Some(&work), ..at_home }, "a.example.org"),
        "vault.secret.use.workspace"
    );
    assert_eq!(refused("token", Asker { workspace: None, ..at_home }, "a.example.org"), "vault.secret.use.workspace");
    // A provider and a plugin of the same name are two consumers.
    let namesake = consumer("plugin:anthropic");
    let namesake = Asker { consumer: &namesake, workspace: None };
    assert_eq!(refused("key", namesake, "api.anthropic.com"), "vault.secret.use.consumer");
}

#[test]
fn a_plugin_may_hold_a_secret_when_it_can_tell_nobody_else() {
    let (_folder, vault) = filled();
    let bound = binding("plugin:fetch", None, &["*.example.org"]);
    vault.put(&name("token"), secret("token-value"), bound, at(2)).unwrap();
    let fetch = consumer("plugin:fetch");
    let asker = Asker { consumer: &fetch, workspace: None };
    let hold = |reachable: &[&str]| {
        let reachable: Vec<HostPattern> = reachable.iter().map(|text| pattern(text)).collect();
        vault.hand_out(&name("token"), asker, &reachable)
    };
    assert!(hold(&["a.example.org", "*.b.example.org"]).is_ok());
    assert!(hold(&[]).is_ok(), "one that reaches nobody");
    assert!(matches!(hold(&["a.example.org", "evil.example"]), Err(UseRefused::Host { .. })));
}

#[test]
fn a_secret_bound_to_no_host_goes_nowhere() {
    let folder = tempdir().unwrap();
    let vault = open(&folder).unwrap();
    vault.put(&name("key"), secret(VALUE), binding("provider:p", None, &[]), at(1)).unwrap();
    let p = consumer("provider:p");
    let refused = vault.use_for(&name("key"), Asker { consumer: &p, workspace: None }, &host("a.example"));
    assert!(matches!(refused, Err(UseRefused::Host { .. })));
}

#[test]
fn the_list_shows_metadata_and_values_are_never_to_be_seen() {
    let (folder, vault) = filled();
    let listed = vault.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].created), ("key", at(1)));
    let shown = format!("{vault:?} {listed:?} {} {:?}", serde_json::to_string(&listed).unwrap(), key_file(&folder));
    assert!(!shown.contains("SECRET"), "{shown}");
    let encoded = "c2stYW50LVNFQ1JFVC12YWx1ZS0wMTIzNDU2Nzg5";
    for file in fs::read_dir(vault_folder(&folder)).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("SECRET") && !text.contains(encoded) && !text.contains("anthropic"));
    }
}

#[test]
fn a_new_value_keeps_the_binding_and_another_binding_is_refused() {
    let (folder, vault) = filled();
    let bound = binding("provider:anthropic", None, &["api.anthropic.com"]);
    vault.put(&name("key"), secret("second"), bound, at(5)).unwrap();
    let info = vault.list().unwrap().pop().unwrap();
    assert_eq!((info.created, info.changed), (at(1), at(5)));
    let wider = binding("provider:anthropic", None, &["api.anthropic.com", "evil.example"]);
    assert_eq!(code(vault.put(&name("key"), secret("third"), wider, at(6))), "vault.secret.put.bound");
    assert_eq!(code(vault.put(&name("x"), secret(""), info.binding.clone(), at(7))), "vault.secret.size.invalid");
    let large = secret(&"x".repeat(64 * 1024 + 1));
    assert_eq!(code(vault.put(&name("x"), large, info.binding, at(7))), "vault.secret.size.invalid");
    // Another handle, as another process has it, sees each change at once.
    let other = open(&folder).unwrap();
    assert!(vault.remove(&name("key")).unwrap());
    assert!(!other.remove(&name("key")).unwrap());
    assert!(other.list().unwrap().is_empty());
}

#[test]
fn many_writers_lose_nothing() {
    let (folder, _vault) = filled();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = &folder;
            scope.spawn(move || {
                let vault = open(folder).unwrap();
                for number in 0..10 {
                    let bound = binding("provider:p", None, &["a.example"]);
                    vault.put(&name(&format!("s{writer}-{number}")), secret("v"), bound, at(1)).unwrap();
                }
            });
        }
    });
    assert_eq!(open(&folder).unwrap().list().unwrap().len(), 41);
    let left: Vec<_> = fs::read_dir(vault_folder(&folder)).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary file is left: {left:?}");
}

#[test]
fn another_key_and_another_way_are_refused() {
    let (folder, vault) = filled();
    drop(vault);
    let other = Unlock::KeyFile(folder.path().join("other-key"));
    assert_eq!(code(Vault::open(&vault_folder(&folder), &other)), "vault.file.use.failed");
    drop(Vault::open(&folder.path().join("elsewhere"), &other).unwrap());
    assert_eq!(code(Vault::open(&vault_folder(&folder), &other)), "vault.unlock.key.wrong");
    let passphrase = Unlock::Passphrase(secret("correct horse battery"));
    assert_eq!(code(Vault::open(&vault_folder(&folder), &passphrase)), "vault.unlock.method.wrong");
    fs::write(folder.path().join("key"), "not a key").unwrap();
    assert_eq!(code(open(&folder)), "vault.unlock.keyfile.invalid");
}

#[test]
fn a_passphrase_opens_what_it_closed() {
    let folder = tempdir().unwrap();
    let with = |text: &str| Vault::open(&vault_folder(&folder), &Unlock::Passphrase(secret(text)));
    assert_eq!(code(with("short")), "vault.unlock.passphrase.short");
    let vault = with("correct horse battery").unwrap();
    vault.put(&name("key"), secret(VALUE), binding("provider:p", None, &["a.example"]), at(1)).unwrap();
    drop(vault);
    assert_eq!(code(with("correct horse staple")), "vault.unlock.key.wrong");
    let vault = with("correct horse battery").unwrap();
    assert_eq!(vault.list().unwrap().len(), 1);
    assert_eq!(code(open(&folder)), "vault.unlock.method.wrong");
    // A header that asks for absurd work is refused before it is done.
    let mut bytes = fs::read(file(&folder)).unwrap();
    bytes[17..21].copy_from_slice(&u32::MAX.to_be_bytes());
    fs::write(file(&folder), bytes).unwrap();
    assert_eq!(code(with("correct horse battery")), "vault.file.form.invalid");
}

#[test]
fn every_changed_byte_is_noticed() {
    let (folder, vault) = filled();
    let good = fs::read(file(&folder)).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(file(&folder), &bad).unwrap();
        assert!(vault.list().is_err(), "byte {at}");
    }
    for length in 0..good.len() {
        fs::write(file(&folder), &good[..length]).unwrap();
        assert!(vault.list().is_err(), "cut to {length}");
    }
    fs::write(file(&folder), [&good[..], b"x"].concat()).unwrap();
    assert_eq!(code(vault.list()), "vault.file.content.tampered");
    fs::write(file(&folder), &good).unwrap();
    assert_eq!(vault.list().unwrap().len(), 1);
    // A damaged file is never replaced by a fresh one.
    fs::write(file(&folder), b"").unwrap();
    assert_eq!(code(open(&folder)), "vault.file.form.invalid");
    assert_eq!(fs::read(file(&folder)).unwrap(), b"");
}

#[test]
fn files_that_others_can_use_are_refused() {
    let (folder, vault) = filled();
    for path in [file(&folder), folder.path().join("key")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o602] {
            chmod(&path, mode);
            let refused = open(&folder).unwrap_err();
            assert_eq!(refused.code().as_str(), "vault.file.mode.open", "{mode:o}");
            assert!(refused.to_string().contains("chmod go="), "{refused}");
        }
        chmod(&path, 0o600);
    }
    assert_eq!(fs::metadata(vault_folder(&folder)).unwrap().permissions().mode() & 0o777, 0o700);
    chmod(&vault_folder(&folder), 0o770);
    assert_eq!(code(open(&folder)), "vault.file.mode.open");
    chmod(&vault_folder(&folder), 0o700);
    chmod(&file(&folder), 0o644);
    assert_eq!(code(vault.list()), "vault.file.mode.open", "at each use, not only when it is opened");
}

#[test]
fn links_and_folders_are_no_vault() {
    let (folder, vault) = filled();
    drop(vault);
    let moved = folder.path().join("moved");
    fs::rename(file(&folder), &moved).unwrap();
    symlink(&moved, file(&folder)).unwrap();
    assert_eq!(code(open(&folder)), "vault.file.use.failed");
    fs::remove_file(file(&folder)).unwrap();
    fs::create_dir(file(&folder)).unwrap();
    assert!(open(&folder).is_err());
}

#[test]
fn references_resolve_to_what_they_name() {
    let (folder, vault) = filled();
    let anthropic = consumer("provider:anthropic");
    let asker = Asker { consumer: &anthropic, workspace: None };
    let api = host("api.anthropic.com");
    let resolve = |text: &str, vault: Option<&Vault>| text.parse::<SecretRef>().unwrap().resolve(vault, asker, &api);
    assert_eq!(resolve("secret:key", Some(&vault)).unwrap().expose(), VALUE);
    assert_eq!(resolve("secret:key", None).unwrap_err().code().as_str(), "vault.reference.secret.closed");
    assert!(!resolve("env:PATH", None).unwrap().expose().is_empty());
    let absent = resolve("env:SIGIL_TEST_NOT_SET", None).unwrap_err();
    assert_eq!(absent.code().as_str(), "vault.reference.env.absent");

    let path = folder.path().join("api-key");
    let reference = format!("file:{}", path.display());
    assert_eq!(resolve(&reference, None).unwrap_err().code().as_str(), "vault.file.use.failed");
    fs::write(&path, format!("{VALUE}\r\n")).unwrap();
    chmod(&path, 0o644);
    assert_eq!(resolve(&reference, None).unwrap_err().code().as_str(), "vault.file.mode.open");
    chmod(&path, 0o400);
    assert_eq!(resolve(&reference, None).unwrap().expose(), VALUE);
    chmod(&path, 0o600);
    fs::write(&path, "\n").unwrap();
    assert_eq!(resolve(&reference, None).unwrap_err().code().as_str(), "vault.reference.file.empty");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(read_secret_file(&path).unwrap_err().code().as_str(), "vault.file.text.invalid");
    fs::write(&path, "x".repeat(70_000)).unwrap();
    assert_eq!(read_secret_file(&path).unwrap_err().code().as_str(), "vault.file.size.exceeded");
}
