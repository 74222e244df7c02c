//! Lists the files of `policy/` for embedding, so that a new rule pack or policy needs no line of code.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// From this package's folder, in which build scripts run. Relative, so that another checkout never sees this one's files.
const ROOT: &str = "../../policy";

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = Vec::new();
    collect(Path::new(ROOT), &mut paths)?;
    paths.sort();

    let mut code = String::from("/// Path within `policy/`, and text.\npub(super) const FILES: &[(&str, &str)] = &[\n");
    for path in &paths {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.strip_prefix(ROOT)?.to_str().ok_or("a policy file's name is not UTF-8")?;
        let place = format!("/{ROOT}/{name}");
        writeln!(code, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {place:?}))),")?;
    }
    code.push_str("];\n");
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("embedded.rs"), code)?;
    Ok(())
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            collect(&path, paths)?;
        } else if matches!(extension, Some("cedar" | "cedarschema" | "toml")) || path.ends_with("system.md") {
            paths.push(path);
        }
    }
    Ok(())
}
