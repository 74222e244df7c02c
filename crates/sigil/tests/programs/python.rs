//! Python with packages of PyPI, under `python`.

use crate::install;
use crate::runner::{self, Runner, folder, text};
use crate::server::{self, HELLO};

pub fn packages(runner: &Runner) -> Option<()> {
    let venv = install::python()?;
    let python = text(&venv.join("bin/python")).to_owned();
    let address = server::serve(None);
    let sandbox = || runner.sandbox("python").exec(&venv).reach(address);
    let script = format!(
        "import requests, httpx, asyncio
url = 'http://{address}/hello'
print(requests.get(url, timeout=20).text, end='')
print(httpx.get(url, timeout=20).text, end='')
async def both():
    async with httpx.AsyncClient(timeout=20) as client:
        answers = await asyncio.gather(client.get(url), client.post('http://{address}/echo', content='words'))
        print([answer.text for answer in answers])
asyncio.run(both())"
    );
    let out = sandbox().run(&[&python, "-c", &script]).ok();
    assert_eq!(out, format!("{HELLO}{HELLO}['hello from the server\\n', 'words']\n"));
    Some(())
}

pub fn standard_library(runner: &Runner) -> Option<()> {
    let venv = install::python()?;
    let work = folder();
    let script = "
import asyncio, concurrent.futures, ctypes, json, mmap, os, pathlib, random, shutil, signal, socket, sqlite3, ssl, subprocess
import sys, tempfile, threading, time, zoneinfo
os.chdir(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(sum(pool.map(lambda n: len(str(n)) + int(time.sleep(0.001) or 0), range(100))))
base = sqlite3.connect('base.db'); base.execute('create table t (n)'); base.execute('insert into t values (1)'); base.commit()
with tempfile.NamedTemporaryFile() as file:
    file.write(b'x' * 100_000); file.flush(); os.fsync(file.fileno())
    with mmap.mmap(file.fileno(), 0) as view: print(view.find(b'x'))
pathlib.Path('a').write_text('words'); os.rename('a', 'b'); os.symlink('b', 'c'); os.chmod('b', 0o600); os.utime('b', (1, 1))
shutil.copy('b', 'd'); os.truncate('d', 2); os.makedirs('e/f'); shutil.rmtree('e'); print(sorted(os.listdir('.')))
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
one, two = socket.socketpair(); one.sendall(b'x'); two.settimeout(5); print(two.recv(1)); two.shutdown(socket.SHUT_RDWR)
child = subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True, timeout=60); print(child.stdout, end='')
if os.fork() == 0: os._exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
async def inner():
    process = await asyncio.create_subprocess_exec(sys.executable, '-c', 'print(1)', stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(); return out
print(asyncio.run(inner()), ctypes.CDLL(None).getpid() == os.getpid(), ssl.create_default_context() is not None)
print(zoneinfo.ZoneInfo('Europe/Paris'), len(os.urandom(4)), os.cpu_count() > 0, os.getgroups() is not None, os.uname().nodename)";
    let python = text(&venv.join("bin/python")).to_owned();
    let ran = runner.sandbox("python").exec(&venv).write(work.path()).run(&[&python, "-c", script, text(work.path())]);
    let expected =
        "190\n0\n['b', 'base.db', 'c', 'd']\nb'x'\n42\n3\nb'1\\n' True True\nEurope/Paris 4 True True sandbox\n";
    assert_eq!(ran.ok(), expected);
    Some(())
}

#[test]
fn packages_of_pypi_reach_what_was_named() {
    packages(&Runner::plain());
}

#[test]
fn the_standard_library_works() {
    standard_library(&Runner::plain());
}

#[test]
fn scripts_and_commands_of_packages_are_started_by_name() {
    let Some(venv) = install::python() else { return };
    let runner = Runner::plain();
    let command = text(&venv.join("bin/httpx")).to_owned();
    let said = runner.sandbox("python").exec(&venv).run(&[&command, "--help"]);
    assert!(said.out.contains("http") || said.err.contains("httpx[cli]"), "{said:?}");
    let script = runner::script("#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n");
    assert_eq!(runner.sandbox("python").run(&[text(&script), "a"]).ok(), "['a']\n");
}

#[test]
fn python_reaches_nothing_else_and_starts_nothing() {
    let Some(venv) = install::python() else { return };
    let python = text(&venv.join("bin/python")).to_owned();
    let (named, other) = (server::serve(None), server::serve(None));
    let run = |script: &str| Runner::plain().sandbox("python").exec(&venv).reach(named).run(&[&python, "-c", script]);
    run(&format!("import requests; requests.get('http://{other}/hello').raise_for_status()")).refused("403");
    run("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)").refused("Operation not permitted");
    run("import subprocess; subprocess.run(['/bin/sh', '-c', 'id'])").refused("No such file");
    run("import pathlib, requests; pathlib.Path(requests.__file__).write_text('x')").refused("Read-only file system");
    // What is written may not become code.
    run("import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)")
        .refused("not permitted");
}
