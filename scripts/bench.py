#!/usr/bin/env python3
"""Measures Sigil against peers and limits, all in one run, and prints one table; `--json` prints it for machines.

What needs a whole process is measured here; launches in the sandbox and the gate are measured by the crates' own benches,
whose last lines are JSON and are taken over. A peer that is not installed is named as missing, never guessed.
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SIGIL = TARGET / "stage/release/bin/sigil"
BWRAP = "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp --die-with-parent --new-session".split()


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, value, unit, against=None, limit=None, note=""):
        """One row: a figure, what it is held against (value, name), and what it is to reach."""
        ratio = value / against[0] if against and against[0] else None
        reached = None
        if limit is not None:
            reached = (ratio if limit[0] == "ratio" else value) is not None and (
                (ratio if limit[0] == "ratio" else value) <= limit[1]
            )
        self.rows.append(
            {
                "what": what,
                "value": round(value, 3),
                "unit": unit,
                "against": against[1] if against else None,
                "against_value": round(against[0], 3) if against else None,
                "ratio": round(ratio, 3) if ratio is not None else None,
                "limit": f"{limit[1]} {'x' if limit[0] == 'ratio' else unit}" if limit else None,
                "reached": reached,
                "note": note,
            }
        )

    def missing(self, what, why):
        self.rows.append({"what": what, "value": None, "note": f"not measured: {why}", "reached": None})

    def show(self):
        print(f"{'what':<52} {'value':>12} {'against':>26} {'ratio':>7} {'to reach':>12}")
        for row in self.rows:
            if row["value"] is None:
                print(f"{row['what']:<52} {row['note']}")
                continue
            against = f"{row['against']} {row['against_value']} {row['unit']}" if row["against"] else ""
            ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else ""
            mark = {True: "✓", False: "✗", None: " "}[row["reached"]]
            limit = f"≤ {row['limit']}" if row["limit"] else ""
            value = f"{row['value']} {row['unit']}"
            print(f"{row['what']:<52} {value:>12} {against:>26} {ratio:>7} {limit:>12} {mark} {row['note']}")


def timed(command, runs, env=None):
    """Wall time of a whole process in ms: median of `runs`, after three that do not count."""
    times = []
    for at in range(runs + 3):
        begun = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=env)
        if at >= 3:
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def interleaved(commands, runs):
    """Medians in ms of several commands whose runs take turns, so that a busy moment hits all alike."""
    times = [[] for _ in commands]
    for at in range(runs + 3):
        for command, taken in zip(commands, times):
            begun = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            if at >= 3:
                taken.append((time.perf_counter() - begun) * 1000)
    return [statistics.median(taken) for taken in times]


def pss(pid):
    """Proportional set size of a process and its children, in MB."""
    total, pids = 0, [pid]
    while pids:
        current = pids.pop()
        try:
            rollup = pathlib.Path(f"/proc/{current}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M).group(1))
            for task in pathlib.Path(f"/proc/{current}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / 1024


class Gateway:
    """A gateway of its own in a temporary folder, against the local model server."""

    def __init__(self, folder):
        self.server = subprocess.Popen(
            [sys.executable, ROOT / "scripts/model_server.py"], stdout=subprocess.PIPE, text=True
        )
        self.model_port = int(self.server.stdout.readline())
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "XDG_CONFIG_HOME": f"{folder}/config",
            "XDG_DATA_HOME": f"{folder}/data",
            "MODEL_KEY": "local-test-key",
        }
        data = ["--data-dir", f"{folder}/sigil"]
        base = f"http://127.0.0.1:{self.model_port}/v1"
        init = [SIGIL, *data, "init", "--yes", "--no-passphrase", "--provider", "openai", "--base-url", base]
        made = subprocess.run(
            [*init, "--model", "peer", "--api-key-env", "MODEL_KEY"], env=self.env, capture_output=True, text=True
        )
        if made.returncode:
            raise RuntimeError(f"sigil init: {made.stderr}")
        self.token = re.search(r"sgl_pat_\w+", made.stdout + made.stderr).group(0)
        self.command = [SIGIL, *data, "start"]

    def start(self):
        """Starts it; answers ms until /ready."""
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", 7717, timeout=1)
                connection.request("GET", "/ready")
                if connection.getresponse().status < 300:
                    return (time.perf_counter() - begun) * 1000
            except OSError:
                pass
            if self.process.poll() is not None:
                raise RuntimeError("sigil start ended")
            if time.perf_counter() - begun > 20:
                raise RuntimeError("sigil start is not ready after 20 s")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def request(self, connection, method, path, body=None, key=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        connection.request(method, f"/api/v1{path}", json.dumps(body) if body is not None else None, headers)
        return connection.getresponse()

    def through(self, session, number):
        """ms from sending a message to the first token, through the gateway."""
        connection = http.client.HTTPConnection("127.0.0.1", 7717, timeout=10)
        begun = time.perf_counter()
        answer = self.request(connection, "POST", f"/sessions/{session}/turns", {"text": "Hello"}, f"k{number}")
        turn = json.loads(answer.read())["turn"]
        events = self.request(connection, "GET", f"/turns/{turn}/events")
        while True:
            line = events.readline().decode()
            if not line:
                raise RuntimeError("the turn ended without a token")
            if line.startswith("data:") and '"type":"text"' in line.replace(" ", ""):
                taken = (time.perf_counter() - begun) * 1000
                break
        for line in events:
            if b'"finished"' in line:
                break
        connection.close()
        return taken

    def direct(self):
        """The same client calling the same model server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.model_port, timeout=10)
        begun = time.perf_counter()
        body = {"model": "peer", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        while "Hello" not in answer.readline().decode():
            pass
        taken = (time.perf_counter() - begun) * 1000
        answer.read()
        connection.close()
        return taken


def measure_gateway(table):
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(folder)
        try:
            starts = []
            for _ in range(5):
                starts.append(gateway.start())
                if len(starts) < 5:
                    gateway.stop()
            table.add("start to /ready", statistics.median(starts), "ms", limit=("value", 100))
            table.add("idle memory, gateway and launcher (PSS)", pss(gateway.process.pid), "MB", limit=("value", 30))
            connection = http.client.HTTPConnection("127.0.0.1", 7717, timeout=10)
            session = json.loads(gateway.request(connection, "POST", "/sessions", {}, "s").read())["id"]
            through, direct = [], []
            for number in range(60):
                one, other = gateway.through(session, number), gateway.direct()
                if number >= 10:
                    through.append(one)
                    direct.append(other)
            added = statistics.median(through) - statistics.median(direct)
            note = f"{statistics.median(through):.2f} ms through, {statistics.median(direct):.2f} ms direct"
            table.add("added time to first token, receipts included", added, "ms", limit=("value", 3), note=note)
            gateway.stop()
        finally:
            gateway.server.kill()


def measure_processes(table):
    table.add("binary", SIGIL.stat().st_size / 1e6, "MB", limit=("value", 30))
    table.add("sigil --help", timed([SIGIL, "--help"], 30), "ms", limit=("value", 10))
    doctor = timed([SIGIL, "doctor", "--json"], 3)
    table.add("sigil doctor, the whole battery", doctor / 1000, "s", limit=("value", 10))
    run = [str(SIGIL), "sandbox", "run", "--", "/bin/true"]
    small = [str(SIGIL.with_name("sigil-run")), "--", "/bin/true"]
    if not shutil.which("bwrap"):
        table.missing("sandbox run /bin/true, whole process", "bubblewrap is not installed (apt-get install bubblewrap)")
        return
    ours, alone, theirs = interleaved([run, small, [*BWRAP, "/bin/true"]], 100)
    table.add("sandbox run /bin/true, whole process", ours, "ms", (theirs, "bubblewrap"), ("ratio", 0.8))
    table.add("sigil-run /bin/true, whole process", alone, "ms", (theirs, "bubblewrap"), ("ratio", 0.8))


def peers():
    """The program of the peers that are libraries, built; it is no part of the workspace."""
    built = TARGET / "peers/release/sigil-sandbox-peers"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked"],
        cwd=ROOT / "crates/sandbox/peers",
        env={**os.environ, "CARGO_TARGET_DIR": str(TARGET / "peers")},
        check=False,
    )
    return built


def crate_benches(table):
    """Runs the crates' own benches that end with rows for this table: lines that begin with `row: `."""
    env = {**os.environ, "SIGIL_BENCH_PEERS": str(peers())}
    benches = (
        ("sigil-sandbox", "launch"),
        ("sigil-sandbox", "crowd"),
        ("sigil-sandbox", "steady"),
        ("sigil-gate", "clear"),
        ("sigil-host", "start"),
        ("sigil-egress", "proxy"),
    )
    for package, bench in benches:
        command = ["cargo", "bench", "--quiet", "-p", package, "--bench", bench]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=env)
        rows = [json.loads(line.removeprefix("row: ")) for line in ran.stdout.splitlines() if line.startswith("row: ")]
        if not rows:
            table.missing(f"{package} {bench}", (ran.stderr.strip().splitlines() or ["no rows"])[-1])
        for row in rows:
            against = tuple(row["against"]) if row.get("against") else None
            limit = tuple(row["limit"]) if row.get("limit") else None
            table.add(row["what"], row["value"], row["unit"], against, limit, row.get("note", ""))


def main():
    table = Table()
    for measure in (measure_processes, measure_gateway, crate_benches):
        try:
            measure(table)
        except (RuntimeError, OSError, subprocess.CalledProcessError, KeyError, AttributeError) as error:
            table.missing(measure.__name__.replace("measure_", ""), str(error).strip().splitlines()[-1])
    if "--json" in sys.argv[1:]:
        print(json.dumps({"rows": table.rows}))
    else:
        table.show()
    return 1 if any(row["reached"] is False for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
