//! Programs started by a launcher.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use sigil_policy::PluginGrant;
use sigil_sandbox::client::{ExitStatus, Rpc};
use sigil_sandbox::launcher::wire::LaunchRequest;
use sigil_sandbox::profile::Layer;

use crate::harness::Test;
use crate::world::{self, World, finish, manifest};

pub(crate) const TESTS: &[Test] = &[
    ("a_plugin_gets_its_arguments_and_environment_only", arguments_and_environment),
    ("a_plugin_has_its_streams_and_nothing_else_open", descriptors),
    ("every_required_layer_is_applied_and_in_the_signed_receipt", receipt),
    ("the_rpc_socket_is_standard_input", rpc),
    ("the_exit_status_is_the_program_s", exit_status),
    ("killing_kills_everything_that_it_started", kill),
    ("orphans_are_reaped_and_end_with_the_program", orphans),
    ("when_the_gateway_dies_everything_dies", gateway_death),
    ("granted_folders_and_only_they_are_there", granted_folders),
    ("a_sandbox_that_stands_ready_is_used_once_and_never_when_stale", standby),
    ("the_egress_listener_is_inside_and_handed_out", egress),
    ("a_go_plugin_gets_a_private_folder", go_plugin),
    ("the_status_names_what_runs", status),
];

fn arguments_and_environment() {
    let world = World::new("echo \"$0|$*\"; env | sort");
    let (status, out, err) = finish(world.launch());
    assert_eq!((status, err.as_str()), (ExitStatus::Exited(0), ""));
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("/plugin/bin/probe|one two"));
    let names: Vec<&str> = lines.map(|line| line.split('=').next().expect("a name")).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH", "PWD", "SHELL", "SIGIL_RPC_FD", "TERM", "TMPDIR"], "{out}");
}

fn descriptors() {
    let world = World::new(
        "ls /proc/$$/fd; echo; cat /proc/self/status | grep -E '^(Uid|Gid|Groups|CapBnd|CapAmb|SigBlk|SigIgn|NoNewPrivs|Seccomp):'",
    );
    let (_, out, err) = finish(world.launch());
    assert_eq!(err, "");
    let (open, status) = out.split_once("\n\n").expect("two parts");
    let open: Vec<&str> = open.lines().collect();
    // 10 is the script, which the shell itself opened.
    assert_eq!(open, ["0", "1", "10", "2"]);
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a value").trim().to_owned();
    assert_eq!(value("CapBnd:"), "0000000000000000");
    assert_eq!(value("CapAmb:"), "0000000000000000");
    assert_eq!(value("SigBlk:"), "0000000000000000");
    assert_eq!(value("SigIgn:"), "0000000000000000");
    assert_eq!(value("NoNewPrivs:"), "1");
    assert_eq!(value("Seccomp:"), "2");
    assert!(value("Uid:").split_whitespace().all(|id| id == "65532"), "{status}");
    assert!(value("Gid:").split_whitespace().all(|id| id == "65532"), "{status}");
}

fn receipt() {
    let world = World::new("true");
    let launched = world.launch();
    let launch = launched.receipt.verify(&world.client().public_key()).expect("signed");
    assert_eq!((launch.policy, launch.tree), (world.policy, world.tree));
    assert_eq!(launch.manifest, sigil_types::Digest::of(world.manifest.as_bytes()));
    assert_eq!(launch.layers, launched.report);
    let required = &sigil_sandbox::profile::base::BaseProfile::load("shell").expect("a profile").required;
    assert_eq!(launched.report.missing(required), Default::default());
    assert_eq!(launched.report.unproven(required), Default::default());
    for layer in [Layer::Seccomp, Layer::Landlock, Layer::MountNs, Layer::PidNs, Layer::NetNs, Layer::Capabilities] {
        assert!(launched.report.proven.contains(&layer), "{layer:?}");
    }
    assert!(launched.receipt.verify(&[1; 32]).is_err());
    assert_eq!(finish(launched).0, ExitStatus::Exited(0));
}

fn rpc() {
    let world = World::new("read line; echo \"got $line on $SIGIL_RPC_FD\" >&0");
    let launched = world.launch();
    let Rpc::Socket(socket) = launched.rpc else { panic!("a socket") };
    let mut socket = UnixStream::from(socket);
    socket.write_all(b"hello\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    assert_eq!(answer, "got hello on 0\n");
    assert_eq!(ExitStatus::read(&launched.exit).expect("its status"), ExitStatus::Exited(0));
}

fn exit_status() {
    let ended = |script: &str| finish(World::new(script).launch()).0;
    assert_eq!(ended("exit 7"), ExitStatus::Exited(7));
    assert_eq!(ended("kill -TERM $$"), ExitStatus::Signaled(15));
}

fn kill() {
    let world = World::new("(trap '' TERM; sleep 1000) & echo started; trap '' TERM; wait; sleep 1000");
    let mut launched = world.launch();
    let mut started = [0; 8];
    let mut out = std::fs::File::from(launched.stdout);
    out.read_exact(&mut started).expect("it started");
    world.client().kill(launched.id).expect("killed");
    // The ends of the pipes are held by everything that it started: all of it is gone when they end.
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).expect("the end");
    launched.stdout = out.into();
    assert_eq!(ExitStatus::read(&launched.exit).expect("its status"), ExitStatus::Killed);
    world.client().kill(launched.id).expect("killing twice is harmless");
}

fn orphans() {
    let world = World::new("(sleep 1000 >&- 2>&- &) ; (echo orphan >&1 &) ; echo parent");
    let launched = world.launch();
    let exit = launched.exit.try_clone().expect("a copy");
    let out = world::read_all(launched.stdout);
    assert!(out.contains("parent"), "{out}");
    assert_eq!(ExitStatus::read(&exit).expect("its status"), ExitStatus::Exited(0));
}

fn gone(pid: i32) -> impl FnOnce() {
    // A sandbox that stood ready may be gone already.
    let pidfd = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty());
    move || {
        let Ok(pidfd) = pidfd else { return };
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&patience)), Ok(1), "process {pid} still lives");
    }
}

/// Runs this very test again as the gateway, which starts a plugin and says the ids of launcher and plugin.
fn gateway_death() {
    const AS_GATEWAY: &str = "TEST_AS_GATEWAY";
    if std::env::var_os(AS_GATEWAY).is_some() {
        let world = World::new("sleep 1000");
        let _launched = world.launch();
        let launcher = world.launcher.as_ref().expect("a launcher").pid();
        let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).expect("children");
        println!("{launcher} {}", children.trim());
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut gateway = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "when_the_gateway_dies_everything_dies"])
        .env(AS_GATEWAY, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a gateway");
    let mut line = String::new();
    let stdout = gateway.stdout.take().expect("its output");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    assert!(pids.len() >= 2, "the launcher and what it started: {line}");
    let ends: Vec<_> = pids.into_iter().map(gone).collect();
    rustix::process::kill_process(Pid::from_child(&gateway), Signal::KILL).expect("killed");
    ends.into_iter().for_each(|end| end());
    gateway.wait().expect("its end");
}

fn granted_folders() {
    let ask = "    filesystem:\n      - param: docs\n        access: write\n        reason: For a test.\n";
    let mut world = World::unstarted(&manifest(ask), "true");
    // The script does not know where the folders are; it is told by a link in its tree's argument: use the real path.
    let granted = world.path("granted");
    for name in ["read", "write/.git/hooks"] {
        std::fs::create_dir_all(granted.join(name)).expect("a folder");
    }
    world::write(&granted.join("read/a"), "a\n");
    // Only the owner may read it: the program must appear as the owner, whoever launches.
    std::fs::set_permissions(granted.join("read/a"), std::fs::Permissions::from_mode(0o600)).expect("its mode");
    world::write(&granted.join("write/b"), "b\n");
    let script = format!(
        "set -- {}\n{}",
        granted.display(),
        "cat $1/read/a; cat $1/write/b; echo new > $1/write/c; \
        (echo x > $1/read/d) 2>/dev/null || echo read-only; (echo x > $1/write/.git/hooks/h) 2>/dev/null || echo guarded; \
        cat /etc/shadow 2>/dev/null || echo absent"
    );
    world.tree = world.install(&world.manifest, &script);
    world.start();
    let (tree, read, write) = (world.tree, granted.join("read"), granted.join("write"));
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    world
        .set_policy(1, |ceilings| {
            let toml = format!(
                "trees = [\"{tree}\"]\n[[folders.docs]]\npath = \"{}\"\naccess = \"read\"\n[[folders.docs]]\npath = \
                 \"{}\"\naccess = \"write\"\n",
                text(&read),
                text(&write)
            );
            let grant: PluginGrant = toml::from_str(&toml).expect("a grant");
            let grant = PluginGrant { interpreters: vec![world::shell()], ..grant };
            ceilings.plugins.insert("probe".parse().expect("a name"), grant);
        })
        .expect("accepted");
    let (status, out, err) = finish(world.launch());
    assert_eq!((status, err.as_str()), (ExitStatus::Exited(0), ""));
    assert_eq!(out, "a\nb\nread-only\nguarded\nabsent\n");
    assert_eq!(std::fs::read_to_string(write.join("c")).expect("written"), "new\n");
    let owner = std::fs::metadata(&write).expect("the folder").uid();
    assert_eq!(std::fs::metadata(write.join("c")).expect("the file").uid(), owner, "what it writes is the owner's");
    assert!(!read.join("d").exists() && !write.join(".git/hooks/h").exists());
}

/// The sandboxes that live: the children of the launcher without the first one, its recorder.
fn children(world: &World) -> Vec<i32> {
    let launcher = world.launcher.as_ref().expect("a launcher").pid();
    let text = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).expect("its children");
    let lives = |pid: &&str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    text.split_whitespace().skip(1).filter(lives).map(|pid| pid.parse().expect("a pid")).collect()
}

/// The init of the sandbox that stands ready, once nothing else is left; not `used`, which may be there still.
fn stands_ready(world: &World, used: i32) -> i32 {
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed().as_secs() < 20, "nothing stands ready: {:?}", children(world));
        if let [only] = children(world)[..]
            && only != used
        {
            return only;
        }
        std::thread::yield_now();
    }
}

fn standby() {
    let ask = "    filesystem:\n      - param: docs\n        access: read\n        reason: For a test.\n";
    let mut world = World::unstarted(&manifest(ask), "true");
    let granted = world.path("granted");
    world::write(&granted.join("a"), "first\n");
    // It lives until its standard input ends, which is the socket.
    world.tree = world.install(&world.manifest, &format!("cat {}/a; cat", granted.display()));
    world.start();
    let (tree, path) = (world.tree, granted.to_str().expect("text").to_owned());
    let endorse = move |ceilings: &mut sigil_policy::Ceilings| {
        let toml = format!("trees = [\"{tree}\"]\n[[folders.docs]]\npath = \"{path}\"\naccess = \"read\"\n");
        let grant: PluginGrant = toml::from_str(&toml).expect("a grant");
        let grant = PluginGrant { interpreters: vec![world::shell()], ..grant };
        ceilings.plugins.insert("probe".parse().expect("a name"), grant);
    };
    world.set_policy(1, &endorse).expect("accepted");
    // What it prints, and the init of its sandbox, which is not `old`: that one may not be quite gone yet.
    let run = |world: &World, old: i32| {
        let launched = world.launch();
        let init = children(world).into_iter().find(|pid| *pid != old).expect("it runs");
        drop(launched.rpc);
        (world::read_all(launched.stdout), init)
    };
    let (printed, first) = run(&world, 0);
    assert_eq!(printed, "first\n");
    let ready = stands_ready(&world, first);
    assert_eq!(run(&world, first), ("first\n".to_owned(), ready));
    let next = stands_ready(&world, ready);

    // Another folder at the granted path: what was opened before is not what is granted now.
    std::fs::rename(&granted, world.path("before")).expect("moved");
    std::fs::create_dir(&granted).expect("a folder");
    world::write(&granted.join("a"), "second\n");
    let ended = gone(next);
    let (printed, other) = run(&world, next);
    assert_eq!(printed, "second\n");
    ended();

    // Another program in the tree while it was made, and the right one again when it is launched.
    let (program, aside) = (world.store(&tree).join("bin/probe"), world.path("aside"));
    let ready = stands_ready(&world, other);
    let (printed, _) = run(&world, other);
    assert_eq!(printed, "second\n");
    std::fs::rename(&program, &aside).expect("moved");
    world::write(&program, "#!/bin/sh\necho another; cat\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let made = stands_ready(&world, ready);
    std::fs::rename(&aside, &program).expect("moved back");
    assert_eq!(run(&world, ready), ("second\n".to_owned(), made));

    // Something was mounted below the granted folder: it is not the one that was opened.
    let mut used = made;
    if rustix::process::geteuid().is_root() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        let next = stands_ready(&world, made);
        std::fs::create_dir(granted.join("below")).expect("a folder");
        mount("none", granted.join("below"), "tmpfs", MountFlags::empty(), None).expect("mounted");
        let launched = world.launch();
        unmount(granted.join("below"), UnmountFlags::DETACH).expect("unmounted");
        used = children(&world).into_iter().find(|pid| *pid != next).expect("it runs in another");
        drop(launched.rpc);
        world::read_all(launched.stdout);
    }

    // A launch that is refused takes away what stands ready, and so does a kill: neither hurts the next one.
    let ended = gone(stands_ready(&world, used));
    let wrong = LaunchRequest { manifest: format!("{}\n", world.manifest), ..world.request() };
    assert_eq!(world.refusal(&wrong), "sandbox.launch.manifest.other");
    ended();
    let (printed, last) = run(&world, used);
    assert_eq!(printed, "second\n");
    let ready = stands_ready(&world, last);
    let ended = gone(ready);
    rustix::process::kill_process(Pid::from_raw(ready).expect("a pid"), Signal::KILL).expect("killed");
    ended();
    let (printed, other) = run(&world, ready);
    assert_eq!(printed, "second\n");

    // Another policy: nothing that was made under the one before is used.
    let ended = gone(stands_ready(&world, other));
    world.set_policy(2, &endorse).expect("accepted");
    ended();
    assert!(children(&world).is_empty());
}

fn egress() {
    let ask = "    network:\n      hosts:\n        - host: example.org\n          ports: [443]\n          reason: For a test.\n";
    let script = "cat /proc/net/tcp 2>/dev/null; echo $HTTPS_PROXY";
    let world = World::with(&manifest(ask), script, |grant| {
        let rule = toml::from_str("host = \"example.org\"\nports = [443]\n").expect("a rule");
        grant.hosts = vec![rule];
    });
    let mut launched = world.launch();
    let listener = std::net::TcpListener::from(launched.egress.take().expect("a listener"));
    assert_eq!(listener.local_addr().expect("its address").to_string(), "127.0.0.1:3128");
    assert!(launched.report.applied.contains(&Layer::Proxy));
    assert_eq!(launched.egress_rules.hosts.len(), 1);
    // It is on the plugin's loopback, not on this one.
    assert!(std::net::TcpStream::connect("127.0.0.1:3128").is_err());
    assert_eq!(finish(launched).1, "http://127.0.0.1:3128\n");
    assert!(World::new("true").launch().egress.is_none());
}

fn go_plugin() {
    let handshake =
        "transport: go-plugin\n  handshake: { cookie_key: PROBE_COOKIE, cookie_value: crumbs, protocol: 1 }";
    let text = manifest("").replace("transport: sdk", handshake);
    let world = World::with(
        &text,
        "echo hello > /tmp/socket; echo $PROBE_COOKIE; until [ -e /tmp/go ]; do :; done; exit 2",
        |_| {},
    );
    let launched = world.launch();
    assert!(matches!(launched.rpc, Rpc::Serves));
    let folder = world.path("run").join(launched.id.to_string());
    let folder = std::fs::File::open(folder).expect("its folder");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(std::fs::File::from(launched.stdout));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    assert_eq!(line, "crumbs\n");
    let flags = rustix::fs::OFlags::RDONLY;
    let made = rustix::fs::openat(&folder, "socket", flags, rustix::fs::Mode::empty()).expect("what it made");
    assert_eq!(world::read_all(made), "hello\n");
    assert_eq!(std::fs::read_dir(world.path("run")).expect("the folder").count(), 1);
    let make = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    drop(rustix::fs::openat(&folder, "go", make, rustix::fs::Mode::RUSR).expect("made"));
    assert_eq!(ExitStatus::read(&launched.exit).expect("its status"), ExitStatus::Exited(2));
    // Answering comes after reaping: the folder is gone once the launcher has seen the end.
    while !world.client().status().expect("a status").running.is_empty() {}
    assert_eq!(std::fs::read_dir(world.path("run")).expect("the folder").count(), 0);
}

fn status() {
    let world = World::new("read line");
    let launched = world.launch();
    let status = world.client().status().expect("a status");
    assert_eq!(status.running, [launched.id]);
    assert_eq!(status.policy, Some((1, world.policy)));
    assert_eq!((status.floor, status.witnessed), (1, 0));
    assert_eq!(finish_by_closing(launched), ExitStatus::Exited(1));
}

fn finish_by_closing(launched: sigil_sandbox::client::Launched) -> ExitStatus {
    drop(launched.rpc);
    ExitStatus::read(&launched.exit).expect("its status")
}
