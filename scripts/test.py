#!/usr/bin/env python3
"""Runs every test and ends with one line that counts them: `tests: N passed, N failed, N skipped`.

A test that cannot run here (no corpus, no peer) passes and prints a line that starts with `skipped:`; it is counted as
skipped, and named, so that nothing is silently left out.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

JUNIT = pathlib.Path("target/nextest/default/junit.xml")


def with_nextest(arguments: list[str]) -> tuple[int, int, list[str], int]:
    """Passed, failed, names and reasons of skipped, exit status."""
    JUNIT.unlink(missing_ok=True)
    status = subprocess.run(["cargo", "nextest", "run", "--workspace", *arguments], check=False).returncode
    if not JUNIT.exists():
        return 0, 0, [], status or 1
    passed, failed, skipped = 0, 0, []
    for case in ET.parse(JUNIT).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            continue
        output = "\n".join(node.text or "" for node in case.iter() if node.tag in ("system-out", "system-err"))
        reason = re.search(r"^skipped: (.*)$", output, re.MULTILINE)
        if reason:
            skipped.append(f"{case.get('classname')} {case.get('name')}: {reason.group(1)}")
        else:
            passed += 1
    return passed, failed, skipped, status


def with_cargo(arguments: list[str]) -> tuple[int, int, list[str], int]:
    """The same through `cargo test`, for machines without nextest."""
    print("cargo-nextest is not installed; using cargo test", file=sys.stderr)
    command = ["cargo", "test", "--workspace", "--all-targets", "--no-fail-fast", *arguments, "--", "--nocapture"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    passed, failed, skipped = 0, 0, []
    for line in run.stdout:
        sys.stdout.write(line)
        if found := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed", line):
            passed += int(found.group(1))
            failed += int(found.group(2))
        elif line.startswith("skipped: "):
            skipped.append(line.removeprefix("skipped: ").strip())
    return passed - len(skipped), failed, skipped, run.wait()


def main() -> int:
    arguments = sys.argv[1:]
    runner = with_nextest if shutil.which("cargo-nextest") else with_cargo
    passed, failed, skipped, status = runner(arguments)
    for line in skipped:
        print(f"  skipped  {line}")
    print(f"tests: {passed} passed, {failed} failed, {len(skipped)} skipped")
    return status or (1 if failed or not passed else 0)


if __name__ == "__main__":
    sys.exit(main())
