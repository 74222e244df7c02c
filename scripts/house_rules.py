#!/usr/bin/env python3
"""House rules that no compiler lint holds: `unsafe` in one place, file length, no stray markers, no large files."""

import pathlib
import re
import subprocess
import sys

LONGEST = 500  # lines of a source file before its tests
LARGEST = 1_000_000  # bytes of a file


def tracked() -> list[pathlib.Path]:
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], check=True, capture_output=True).stdout
    paths = (pathlib.Path(name) for name in names.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def complaints(path: pathlib.Path) -> list[str]:
    found = []
    if path.stat().st_size > LARGEST:
        found.append(f"{path}: over {LARGEST} bytes")
    if path.suffix != ".rs":
        return found
    text = path.read_text()
    source = path.parts[0] in ("crates", "plugins") and "src" in path.parts
    own = text.split("#[cfg(test)]")[0]
    if source and own.count("\n") > LONGEST:
        found.append(f"{path}: {own.count(chr(10))} lines before its tests; find the part that wants a name")
    allowed = path.is_relative_to("crates/sandbox/src/sys")
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)", line) and not allowed and path.parts[0] != "fuzz":
            found.append(f"{path}:{number}: unsafe outside the sandbox crate's system-call modules")
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            found.append(f"{path}:{number}: a note to oneself; do it, or file it")
    return found


def proofs(page: pathlib.Path) -> list[str]:
    """Tests that a page names and that do not exist."""
    missing = []
    for crate, test in sorted(set(re.findall(r"`(\w+)::(\w+)`", page.read_text()))):
        sources = pathlib.Path("crates", crate).rglob("*.rs")
        names = (f"fn {test}(", f'("{test}", ')  # the second in the tables of our own runner
        if test[0].islower() and not any(name in source.read_text() for source in sources for name in names):
            missing.append(f"{page}: there is no test {crate}::{test}")
    return missing


def main() -> int:
    found = [line for path in tracked() for line in complaints(path)]
    found += [line for page in ("threat-model.md", "sandbox.md") for line in proofs(pathlib.Path("docs/security", page))]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
