//! What tests need beyond the system's packages: pinned packages of npm and PyPI, and a Go program; made once, in `target`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::runner::{installed, path, skip};

/// Python's packages. The newest of each that are known to work here.
const PIP: [&str; 4] = ["requests==2.34.2", "httpx==0.28.1", "mcp-server-time==2025.8.4", "mcp==1.30.0"];

/// Node's packages.
const NPM: [&str; 3] = [
    "undici@7.30.2",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-everything@2026.8.31",
];

/// The Go program of the tests.
const GO: &str = include_str!("data/program.go");

/// A virtual environment with the packages of [`PIP`].
pub fn python() -> Option<PathBuf> {
    installed(&["python3"]).then_some(())?;
    let folder = made("python", &PIP.join(" "), |folder| {
        run(Command::new(path("python3")).args(["-m", "venv", "--symlinks"]).arg(folder))?;
        let pip = folder.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", "--no-input"]).args(PIP))
    })?;
    Some(folder)
}

/// A folder whose `node_modules` has the packages of [`NPM`].
pub fn npm() -> Option<PathBuf> {
    installed(&["node", "npm"]).then_some(())?;
    made("node", &NPM.join(" "), |folder| {
        let quiet = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        run(Command::new(path("npm")).args(quiet).arg(folder).args(NPM))
    })
}

/// The Go program of the tests, linked statically.
pub fn go() -> Option<PathBuf> {
    installed(&["go"]).then_some(())?;
    let folder = made("go", GO, |folder| {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        std::fs::write(folder.join("program.go"), GO).map_err(|error| error.to_string())?;
        let cache = folder.join("cache");
        let mut go = Command::new(path("go"));
        go.current_dir(folder).env("CGO_ENABLED", "0").env("GOCACHE", cache).env("GO111MODULE", "off");
        run(go.args(["build", "-o", "program", "program.go"]))
    })?;
    Some(folder.join("program"))
}

/// The folder `name`, which `make` fills the first time and whenever `of` has changed. One test at a time makes it.
fn made(name: &str, of: &str, make: impl Fn(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&root).expect("a folder");
    let lock = File::create(root.join(format!("{name}.lock"))).expect("a lock");
    lock.lock().expect("locked");
    let (folder, done) = (root.join(name), root.join(format!("{name}.done")));
    if std::fs::read_to_string(&done).is_ok_and(|made_of| made_of == of) {
        return Some(folder);
    }
    let _ = std::fs::remove_dir_all(&folder);
    match make(&folder) {
        Ok(()) => {
            std::fs::write(&done, of).expect("noted");
            Some(folder)
        }
        Err(why) => skip(&format!("{name}: {why}")).then_some(folder),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let Output { status, stderr, .. } = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if status.success() { Ok(()) } else { Err(format!("cannot be installed (is its registry reachable?): {last}")) }
}
