#!/usr/bin/env python3
"""Boots small virtual machines with other kernels and runs Sigil's sandbox in them.

What one kernel cannot show, another can: old versions of Landlock, control groups of version 2 with their controllers, the
kernel's audit. Each machine has the kernel of a Debian package, a root in memory with busybox, Sigil, and the sandbox's own
test programs; it says on its serial line what came out. Needs qemu-system-x86_64, busybox-static, cpio, apt-get and the
built binaries; what is missing is named, and nothing is skipped silently.

    kernels.py [KERNEL …]        KERNEL is a version such as 6.1 or 6.12; default: all below

What each machine said stands in target/kernels/KERNEL.log.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CACHE = Path(os.environ.get("SIGIL_KERNELS", Path.home() / ".cache/sigil-kernels"))

# What each kernel must come to: the version of Landlock, and the posture that root and an ordinary user reach.
EXPECTED = {
    "6.1": {"landlock_abi": 2, "root": "none", "user": "none"},
    "6.12": {"landlock_abi": 6, "root": "strict", "user": "standard"},
}
# The longest that one machine may take, in seconds; with the processor's own virtualisation it takes a tenth of it.
PATIENCE = 900

INIT = """#!/bin/busybox sh
# On a file system of its own: pivot_root(2) refuses the kernel's first root.
/bin/busybox mount -t tmpfs -o mode=755,size=1500m tmpfs /new
/bin/busybox cp -a /system/. /new/
exec /bin/busybox switch_root /new /sbin/run
"""

RUN = """#!/bin/sh
export PATH=/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777,size=600m tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo '+cpu +memory +pids' > /sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
hostname machine
tell() {
    name=$1; shift
    echo "=== begin $name"
    "$@" < /dev/null 2>&1
    echo "=== end $name $?"
}
user() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp "$@"; }
tell uname uname -r
tell doctor-root sigil --json doctor
tell doctor-user user sigil --json doctor
tell run-root sigil sandbox run -- /usr/bin/busybox true
for test in /tests/*; do
    tell "test $(basename "$test") root" "$test" --test-threads 1
    tell "test $(basename "$test") user" user "$test" --test-threads 1
done
echo "=== over"
poweroff -f
"""


def fail(text: str) -> None:
    sys.exit(f"kernels.py: {text}")


def run(*command: str, **more) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def kernel(version: str) -> Path:
    """The image of the newest packaged kernel of `version`."""
    names = re.findall(rf"^linux-image-{re.escape(version)}\.\S*-cloud-amd64(?= )", run("apt-cache", "search", "linux-image"), re.M)
    if not names:
        fail(f"apt knows no cloud kernel {version}; run apt-get update")
    newest = max(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    folder = CACHE / newest
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as draft:
            os.chmod(draft, 0o777)
            run("apt-get", "download", "-q", newest, cwd=draft)
            package = next(Path(draft).glob("*.deb"))
            run("dpkg-deb", "-x", str(package), draft + "/root")
            os.rename(draft + "/root", folder)
    return next((folder / "boot").glob("vmlinuz-*"))


def test_programs() -> list[Path]:
    """The sandbox's own test programs, built."""
    said = run("cargo", "test", "-q", "-p", "sigil-sandbox", "--no-run", "--message-format=json", cwd=ROOT)
    built = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    wanted = {"launch", "battery", "filter", "postures", "resources"}
    return [
        Path(one["executable"])
        for one in built
        if one.get("executable") and one["target"]["kind"] == ["test"] and one["target"]["name"] in wanted
    ]


def libraries(program: Path) -> list[Path]:
    """The shared libraries that `program` needs, with its loader."""
    said = subprocess.run(["ldd", str(program)], text=True, stdout=subprocess.PIPE).stdout
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", said)]


def install(system: Path, program: Path, to: str) -> None:
    """Copies `program` and its libraries into the machine's root."""
    target = system / to.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, target)
    for library in libraries(program):
        # On a merged /usr: /lib and /lib64 are links.
        place = system / ("usr" + str(library) if not str(library).startswith("/usr") else str(library).lstrip("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy2(library.resolve(), place)


def build(system: Path) -> None:
    """The machine's root."""
    for folder in ["usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "etc/ssl/certs", "proc", "sys", "dev", "run", "tmp", "root",
                   "home", "var/lib", "tests"]:
        (system / folder).mkdir(parents=True, exist_ok=True)
    for link in ["bin", "lib", "lib64", "sbin"]:
        (system / link).symlink_to(f"usr/{link}")
    busybox = Path(shutil.which("busybox") or fail("busybox-static is not installed"))
    shutil.copy2(busybox, system / "usr/bin/busybox")
    for applet in run(str(busybox), "--list").split():
        link = system / "usr/bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    (system / "usr/bin/setpriv").unlink(missing_ok=True)
    install(system, Path("/usr/bin/setpriv"), "/usr/bin/setpriv")
    install(system, TARGET / "debug/sigil", "/usr/bin/sigil")
    for program in test_programs():
        install(system, program, f"/tests/{program.name.rsplit('-', 1)[0]}")
    (system / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
    (system / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (system / "etc/hosts").write_text("127.0.0.1 localhost machine\n")
    (system / "etc/shadow").write_text("root:*:::::::\n")
    (system / "etc/shadow").chmod(0o640)
    script = system / "usr/sbin/run"
    script.write_text(RUN)
    script.chmod(0o755)


def image(folder: Path) -> Path:
    """The first root of the machine, as the kernel unpacks it."""
    first = folder / "first"
    for name in ["bin", "new", "system"]:
        (first / name).mkdir(parents=True)
    shutil.copy2(shutil.which("busybox"), first / "bin/busybox")
    (first / "init").write_text(INIT)
    (first / "init").chmod(0o755)
    build(first / "system")
    made = folder / "initrd"
    with open(made, "wb") as out:
        files = subprocess.Popen(["find", "."], cwd=first, stdout=subprocess.PIPE)
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=first, stdin=files.stdout, stdout=out, check=True)
    return made


def boot(vmlinuz: Path, initrd: Path, log: Path) -> str:
    """Runs one machine to its end; what it said, which also stands in `log`."""
    machine = ["qemu-system-x86_64", "-kernel", str(vmlinuz), "-initrd", str(initrd), "-m", "4096", "-smp", "2", "-nographic",
               "-no-reboot", "-nic", "none", "-append", "console=ttyS0 quiet loglevel=1 audit=1 panic=-1"]
    kvm, emulated = ["-enable-kvm", "-cpu", "host"], ["-accel", "tcg,thread=multi", "-cpu", "max"]
    ways = [kvm, emulated] if os.access("/dev/kvm", os.R_OK | os.W_OK) else [emulated]
    said = ""
    for way in ways:
        if way is emulated:
            print("  the machine is emulated, which takes minutes", file=sys.stderr)
        with open(log, "wb") as out:
            started = subprocess.Popen(machine + way, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        begun = time.monotonic()
        while started.poll() is None:
            time.sleep(1)
            said = log.read_text(errors="replace")
            # A virtual machine in a virtual machine may stop at an instruction that the outer one does not know.
            if "emulation failure" in said or time.monotonic() - begun > PATIENCE:
                started.kill()
        said = log.read_text(errors="replace")
        if "=== begin uname" in said:
            break
    return said


def sections(said: str) -> dict[str, tuple[str, int]]:
    """What each command of the machine said, and how it ended."""
    found = re.finditer(r"^=== begin (.+?)\r?\n(.*?)^=== end \1 (\d+)\r?$", said, re.M | re.S)
    return {one[1]: (one[2].replace("\r", ""), int(one[3])) for one in found}


def judge(version: str, said: str) -> list[str]:
    """What is not as it must be."""
    got, wrong = sections(said), []
    if "=== over" not in said:
        wrong.append("the machine did not come to its end")
    expected = EXPECTED.get(version, {})
    for who in ["root", "user"]:
        text, _ = got.get(f"doctor-{who}", ("", 1))
        try:
            report = json.loads(text[text.index("{"):])
        except ValueError:
            wrong.append(f"doctor of {who} gave no report: {text[-400:]}")
            continue
        battery = report["battery"]
        print(f"  {who:<5} posture {report['posture']}, Landlock ABI {report['landlock_abi']}, "
              f"{battery['held']} of {battery['attempts']} attempts held, {len(battery['open'])} open")
        for key, want in [("posture", expected.get(who)), ("landlock_abi", expected.get("landlock_abi"))]:
            if want is not None and report[key] != want:
                wrong.append(f"{who}: {key} is {report[key]}, expected {want}")
        wrong += [f"{who}: {attempt} is open" for attempt in battery["open"]]
    for name, (text, status) in got.items():
        if name.startswith("test "):
            summary = re.findall(r"^test result: (.*)$", text, re.M)
            print(f"  {name[5:]}: {summary[-1] if summary else f'status {status}'}")
            if status != 0 and expected.get("root") != "none":
                wrong.append(f"{name} failed:\n{text[-3000:]}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernels", nargs="*", default=list(EXPECTED), metavar="KERNEL")
    arguments = parser.parse_args()
    for tool in ["qemu-system-x86_64", "busybox", "cpio", "apt-get", "dpkg-deb"]:
        if shutil.which(tool) is None:
            fail(f"{tool} is not installed: apt-get install qemu-system-x86 busybox-static cpio")
    if not (TARGET / "debug/sigil").exists():
        fail("target/debug/sigil is not built: cargo build -p sigil")
    logs = TARGET / "kernels"
    logs.mkdir(exist_ok=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        initrd = image(Path(folder))
        for version in arguments.kernels:
            print(f"kernel {version}")
            said = boot(kernel(version), initrd, logs / f"{version}.log")
            wrong = judge(version, said)
            failed |= bool(wrong)
            for one in wrong:
                print(f"  WRONG: {one}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
