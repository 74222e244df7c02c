//! Node.js with undici's proxy agent, under `node`.

use crate::install;
use crate::runner::{self, Runner, folder, text};
use crate::server::{self, HELLO};

pub fn packages(runner: &Runner) -> Option<()> {
    let modules = install::npm()?;
    let address = server::serve(None);
    let script = format!(
        "import {{ createRequire }} from 'node:module';
const {{ EnvHttpProxyAgent, ProxyAgent, setGlobalDispatcher, request }} = createRequire('{}/')('undici');
setGlobalDispatcher(new EnvHttpProxyAgent());
process.stdout.write(await (await fetch('http://{address}/hello')).text());
const {{ body }} = await request('http://{address}/echo', {{
  method: 'POST', body: 'words', dispatcher: new ProxyAgent(process.env.HTTP_PROXY) }});
console.log(await body.text());
setGlobalDispatcher(new ProxyAgent(process.env.HTTP_PROXY));
process.exit(0);",
        text(&modules)
    );
    let command = ["node", "--input-type=module", "-e", &script];
    let out = runner.sandbox("node").exec(&modules).reach(address).run(&command).ok();
    assert_eq!(out, format!("{HELLO}words\n"));
    Some(())
}

pub fn standard_library(runner: &Runner) -> Option<()> {
    runner::installed(&["node"]).then_some(())?;
    let work = folder();
    let script = "
const fs = require('fs'), { execFileSync } = require('child_process'), { Worker } = require('worker_threads');
process.chdir(process.argv[1]);
fs.writeFileSync('a', 'words'); fs.renameSync('a', 'b'); fs.symlinkSync('b', 'c'); fs.chmodSync('b', 0o600);
fs.utimesSync('b', 1, 1); fs.copyFileSync('b', 'd'); fs.truncateSync('d', 2); fs.mkdirSync('e/f', { recursive: true });
fs.rmSync('e', { recursive: true }); fs.fsyncSync(fs.openSync('d', 'r+')); console.log(fs.readdirSync('.').join());
console.log(execFileSync(process.execPath, ['-p', '6 * 7']).toString().trim());
let sum = 0; for (let n = 0; n < 3e6; n++) sum = (sum + n * n) % 1000003; console.log(sum);
const worker = new Worker('require(\"worker_threads\").parentPort.postMessage(require(\"crypto\").randomBytes(4).length)', { eval: true });
worker.on('message', async (length) => {
  console.log(length, require('zlib').gunzipSync(require('zlib').gzipSync('packed')).toString());
  const bytes = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
  console.log(WebAssembly.validate(bytes), (await fs.promises.readFile('d')).toString(), require('os').hostname());
});";
    let ran = runner.sandbox("node").write(work.path()).run(&["node", "-e", script, text(work.path())]);
    assert_eq!(ran.ok(), "b,c,d\n42\n999718\n4 packed\ntrue wo sandbox\n");
    Some(())
}

#[test]
fn fetch_reaches_what_was_named() {
    packages(&Runner::plain());
}

#[test]
fn the_standard_library_works() {
    standard_library(&Runner::plain());
}

#[test]
fn scripts_are_started_by_name() {
    if !runner::installed(&["node"]) {
        return;
    }
    let script = runner::script("#!/usr/bin/env node\nconsole.log(process.argv.slice(2))\n");
    assert_eq!(Runner::plain().sandbox("node").run(&[text(&script), "a"]).ok(), "[ 'a' ]\n");
}

#[test]
fn node_reaches_nothing_else_and_starts_nothing() {
    let Some(modules) = install::npm() else { return };
    let (named, other) = (server::serve(None), server::serve(None));
    let run = |script: &str| {
        Runner::plain().sandbox("node").exec(&modules).reach(named).run(&["node", "--input-type=module", "-e", script])
    };
    // Without an agent, this version or a later one: either way it does not get there.
    run(&format!("const a = await fetch('http://{other}/hello'); process.exit(a.status === 200 ? 0 : a.status % 256)"))
        .refused("");
    run("import { execFileSync } from 'node:child_process'; execFileSync('/bin/sh', ['-c', 'id'])").refused("ENOENT");
    run("import fs from 'node:fs'; fs.readFileSync('/etc/shadow')").refused("ENOENT");
    let planted = format!("import fs from 'node:fs'; fs.writeFileSync('{}/node_modules/x', 'x')", text(&modules));
    run(&planted).refused("EROFS");
}
