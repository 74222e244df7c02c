//! The cases. `@` stands for the world's folder; see `world.rs` for what is in it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
}

impl End {
    pub fn of(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().expect("a signal")), Self::Code)
    }
}

/// One case: options, a script for `sh` (or nothing, when the options hold the command), what is typed, and what comes of it.
pub struct Case {
    pub name: &'static str,
    pub options: &'static str,
    pub script: &'static str,
    pub input: &'static str,
    pub end: End,
    /// A part of standard output; nothing at all when empty.
    pub says: &'static str,
    /// A part of standard error.
    pub complains: &'static str,
    /// Files afterwards; `None`: not there.
    pub leaves: &'static [(&'static str, Option<&'static str>)],
}

const fn case(name: &'static str, options: &'static str, script: &'static str) -> Case {
    Case { name, options, script, input: "", end: End::Code(0), says: "", complains: "", leaves: &[] }
}

impl Case {
    const fn code(mut self, code: i32) -> Self {
        self.end = End::Code(code);
        self
    }

    const fn signal(mut self, signal: i32) -> Self {
        self.end = End::Signal(signal);
        self
    }

    const fn says(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    const fn complains(mut self, complains: &'static str) -> Self {
        self.complains = complains;
        self
    }

    const fn leaves(mut self, leaves: &'static [(&'static str, Option<&'static str>)]) -> Self {
        self.leaves = leaves;
        self
    }

    const fn input(mut self, input: &'static str) -> Self {
        self.input = input;
        self
    }
}

pub const CASES: &[Case] = &[
    // Reading and writing.
    case("read granted", "--read @/r", "cat @/r/a @/r/sub/b").says("a\nb\n"),
    case("read of one file", "--read @/r/a", "cat @/r/a; test -e @/r/sub || echo alone").says("a\nalone\n"),
    case("read not granted", "--read @/r", "cat @/secret/key").code(1).complains("No such file"),
    case("nothing granted", "", "cat @/r/a").code(1).complains("No such file"),
    case("traversal", "--read @/r", "cat @/r/../secret/key /proc/self/root@/secret/key /proc/1/root@/secret/key").code(1),
    case("a link that leads out", "--read @/r", "cat @/r/link").code(1),
    case("a link that is made to lead out", "--write @/w", "ln -s @/secret/key @/w/l; cat @/w/l").code(1),
    case("list the root", "", "ls /").code(2).complains("Permission denied"),
    case("write granted", "--write @/w", "echo new > @/w/new; echo more >> @/w/old")
        .leaves(&[("w/new", Some("new\n")), ("w/old", Some("old\nmore\n"))]),
    case("write to what may be read", "--read @/r", "echo x > @/r/a; echo x > @/r/new; rm @/r/a; mkdir @/r/d")
        .code(1)
        .leaves(&[("r/a", Some("a\n")), ("r/new", None)]),
    case("truncate what may be read", "--read @/r", "truncate -s 0 @/r/a; : > @/r/a").code(2).leaves(&[("r/a", Some("a\n"))]),
    case("rename out of what may be read", "--read @/r --write @/w", "mv @/r/a @/w/a; mv @/w/old @/r/old")
        .code(1)
        .leaves(&[("r/a", Some("a\n")), ("w/old", Some("old\n")), ("r/old", None)]),
    case("rename within", "--write @/w", "mv @/w/old @/w/deep/older").leaves(&[("w/deep/older", Some("old\n"))]),
    case("hard link", "--write @/w", "ln @/w/old @/w/hard").code(1).leaves(&[("w/hard", None)]),
    case("set-user-id", "--write @/w", "chmod u+s @/w/old").code(1),
    case("device and pipe", "--write @/w", "mknod @/w/d c 1 3; mkfifo @/w/p").code(1),
    case("its own temporary folder", "--read @/r", "echo x > /tmp/x; cat /tmp/x; ls -A /tmp | head -1").says("x\n"),
    // Executing.
    case("execute what may be read", "--read @/x", "@/x/tool").code(126).complains("Permission denied"),
    case("execute what may be executed", "--exec @/x", "@/x/tool a").says("tool a\n"),
    case("a command named by its path", "@/x/tool b c", "").says("tool b c\n"),
    case("execute what was written", "--write @/w", "cp /bin/true @/w/t; chmod +x @/w/t; @/w/t").code(126),
    case("execute and write the same", "--exec @/x --write @/x", "true").code(126).complains("executable and writable"),
    // Environment and folder.
    case("nothing of the environment", "", "env | sort | cut -d= -f1 | tr '\\n' ' '").says("HOME LANG PATH PWD SHELL TERM TMPDIR "),
    case("a variable by value", "--env OUTSIDE=given --env E=", "echo $OUTSIDE${E-unset}").says("given\n"),
    case("a variable by name", "--env HOME --env NOT_THERE", "echo $HOME${NOT_THERE-unset}").says("/nonexistentunset\n"),
    case("a wrong variable", "--env 1A=x", "true").code(126).complains("environment variable"),
    case("starts in a granted folder", "--read @/r --cwd @/r/sub", "cat b").says("b\n"),
    case("starts in /tmp otherwise", "", "pwd").says("/tmp\n"),
    case("starts where nothing is granted", "--cwd @/secret", "pwd").code(126).complains("working directory"),
    // Statuses.
    case("its own status", "", "exit 42").code(42),
    case("ended by a signal", "", "kill -TERM $$").signal(15),
    case("killed", "", "kill -KILL $$").signal(9),
    case("no such command", "no-such-command", "").code(127).complains("was not found"),
    case("no such path", "@/x/nothing", "").code(127).complains("was not found"),
    case("not executable", "@/r/a", "").code(126),
    case("no command", "--read @/r", "").code(126).complains("no command"),
    case("an option that is none", "--raed @/r", "true").code(126).complains("did you mean `--read`?"),
    case("a grant that is never given", "--write /etc", "true").code(126).complains("never granted"),
    case("help", "--help", "").says("--deny-write PATH"),
    // Streams.
    case("input and output", "", "cat; echo err >&2").input("through\n").says("through\n").complains("err"),
    case("closed output", "", "echo x >&-").code(1).complains("rror"),
    case("no other descriptor", "", "ls /proc/self/fd | tr '\\n' ' '").says("0 1 2 3 "),
    // Sockets.
    case("TCP", "", "exec bash -c '>/dev/tcp/127.0.0.1/80'").code(1).complains("Operation not permitted"),
    case("UDP", "", "exec bash -c '>/dev/udp/127.0.0.1/53'").code(1).complains("Operation not permitted"),
    case("Unix sockets", "", "exec perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0) or exit 9'").code(9),
    case("TCP beside the proxy", "--allow-host example.org:443", "exec bash -c '>/dev/tcp/127.0.0.1/80'").code(1),
    // Limits.
    case("open files", "--limit files=16", "ulimit -n").says("16\n"),
    case("file size", "--write @/w --limit file-size=1K", "head -c 9999 /dev/zero > @/w/big; test $(wc -c < @/w/big) -le 1024"),
    case("memory", "--limit memory=64M", "perl -e '$x = \"a\" x (256 << 20)' || exit 7").code(7).complains("Out of memory"),
    case("processor time", "--limit cpu=1", "while :; do :; done").signal(9),
    case("wall time", "--limit wall=1s", "sleep 60").code(124).complains("time was up"),
    case("a limit that is none", "--limit memry=1M", "true").code(126).complains("did you mean `memory`?"),
    // Denials.
    case("a denied folder", "--read @/r --deny @/r/hide", "ls -A @/r/hide; cat @/r/hide/h").code(1).complains("No such file"),
    case("a denied file", "--read @/r --deny @/r/.env", "chmod 644 @/r/.env; cat @/r/.env").code(1).complains("Permission denied"),
    case("shown inside a denied folder", "--read @/r --deny @/r/hide --read @/r/hide/shown", "cat @/r/hide/shown/s; ls @/r/hide")
        .says("shown\nshown\n"),
    case(
        "a denied folder stays empty",
        "--write @/w --deny @/w/hide",
        "echo x > @/w/hide/x; mkdir @/w/hide/d; rmdir @/w/hide; mv @/w/hide @/w/h2; rm -rf @/w/hide",
    )
    .code(1)
    .leaves(&[("w/hide/x", None), ("w/hide/h", Some("SECRET\n"))]),
    case(
        "a denied file stays",
        "--write @/w --deny @/w/.env",
        "rm -f @/w/.env; mv @/w/.env @/w/e; mv @/w/old @/w/.env; echo x > @/w/.env; cat @/w/.env @/w/e",
    )
    .code(1)
    .leaves(&[("w/.env", Some("SECRET\n")), ("w/old", Some("old\n"))]),
    case(
        "what is above stays",
        "--write @/w --deny-write @/w/deep/er/keep",
        "mv @/w/deep/er @/w/deep/e2; mv @/w/deep @/w/d2; rm -rf @/w/deep; echo x > @/w/deep/er/keep; cat @/w/deep/er/keep",
    )
    .says("keep\n")
    .leaves(&[("w/deep/er/keep", Some("keep\n"))]),
    case("beside what is denied", "--write @/w --deny-write @/w/deep/er/keep", "echo y > @/w/deep/er/y")
        .leaves(&[("w/deep/er/y", Some("y\n"))]),
    case("denied and not there, writable", "--write @/w --deny @/w/new/x", "true").code(126).complains("is not there"),
    case("denied and not there", "--read @/r --deny @/r/new", "true").code(126).complains("No such file"),
    case("denied through a link", "--write @/w --deny @/w/link/er", "true").code(126).complains("symbolic link"),
    case("granted and denied", "--read @/r --deny @/r", "true").code(126).complains("leave one out"),
    case("a denied program", "--deny /usr/bin/env", "env").code(127).complains("Permission denied"),
    // What tools run.
    case(
        "hooks stay",
        "--write @/w",
        "echo x > @/w/.git/hooks/pre-commit; echo x > @/w/.git/config; mv @/w/.git/hooks @/w/h; mv @/w/.git @/w/g",
    )
    .code(1)
    .leaves(&[("w/.git/config", Some("config\n")), ("w/.git/hooks/kept", Some("kept\n")), ("w/.git/hooks/pre-commit", None)]),
    case("the rest of a repository does not", "--write @/w", "echo x > @/w/.git/index").leaves(&[("w/.git/index", Some("x\n"))]),
    case("a work tree's pointer stays", "--write @/tree", "echo x > @/tree/.git; rm -f @/tree/.git").code(1)
        .leaves(&[("tree/.git", Some("gitdir: /elsewhere\n"))]),
    case("what was not there is told", "--write @/w", "echo {} > @/w/.mcp.json").complains("made @/w/.mcp.json"),
    // Files of options.
    case("a profile file", "--profile-file @/good.toml", "cat @/r/a; echo $FROM; ulimit -n; cat @/r/.env").code(1).says("a\nfile\n32\n"),
    case("the command line before a file", "--profile-file @/good.toml --limit files=24", "ulimit -n").says("24\n"),
    case("a wrong profile file", "--profile-file @/bad.toml", "true").code(126).complains("bad.toml:2:1: unknown field `raed`"),
    case("a profile file that is written", "--write-profile - --read @/r --limit files=9", "").says("read = [\"@/r\"]\n"),
    case("never over a file", "--write-profile @/good.toml --read @/r", "").code(126).complains("exists"),
    case("explained, not run", "--explain --read @/r --write @/w --deny-write @/w/deep", "echo x > @/w/x")
        .says("keep @/w/deep")
        .leaves(&[("w/x", None)]),
    case("explained in JSON", "--explain --json --read @/r", "true").says("\"binds\":"),
    // Settings of Anthropic's sandbox runtime.
    case("settings: reading", "--settings @/srt.json", "cat @/r/a; cat @/secret/key; cat @/r/hide/h").code(1).says("a\n"),
    case("settings: reading again", "--settings @/srt.json", "cat @/r/hide/shown/s").says("shown\n"),
    case("settings: writing", "--settings @/srt.json", "echo n > @/w/n; echo x > @/r/x; echo x > @/w/deep/er/keep")
        .code(2)
        .leaves(&[("w/n", Some("n\n")), ("r/x", None), ("w/deep/er/keep", Some("keep\n"))]),
    case("settings: what tools run", "--settings @/srt.json", "echo x > @/w/src/.mcp.json; mv @/w/src @/w/s; mv @/w/src/.mcp.json @/w/m")
        .code(1)
        .leaves(&[("w/src/.mcp.json", Some("{}\n"))]),
    case("settings: passwords", "--settings @/srt.json", "cat /etc/shadow /etc/gshadow || ls /etc/ssh /run").code(2),
    case("settings: nothing by default", "--settings @/srt-denied.json", "cat @/r/sub/b; cat @/r/a").code(1).says("b\n"),
    case("settings: denied and not there", "--settings @/srt-new.json", "true").code(126).complains("is not there"),
    case("settings: no sandbox", "--settings @/srt-off.json", "true").code(126).complains("cannot be kept"),
    case("settings that are not there", "--settings @/no.json", "true").code(126).complains("no.json"),
];
