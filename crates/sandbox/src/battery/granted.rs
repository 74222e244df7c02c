//! What a program may do: acts that must succeed inside, under the same profiles as the attempts. A sandbox in which nothing
//! works holds everything.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::probe::execute;
use super::{Attempt, Needs, Scene, Stop, Tried};
use crate::profile::PROXY_PORT;

/// The acts. They are held by nothing.
pub(super) const ACTS: &[Attempt] = &[
    Attempt::new("granted.01", "read a file that is granted", &[], &[], read),
    Attempt::new("granted.02", "write, rename and remove in a folder that is granted", &[], &[], write),
    Attempt::new("granted.03", "use the private temporary folder", &[], &[], scratch),
    Attempt::new("granted.04", "read a file of the program's own tree", &[], &[], own_tree),
    Attempt::new("granted.05", "start a thread", &[], &[], thread),
    Attempt::new("granted.06", "execute a program of the system", &[], &[], run).needs(Needs::Shell),
    Attempt::new("granted.07", "connect to the proxy", &[], &[], proxy).needs(Needs::Proxy),
];

fn read(scene: &Scene) -> Tried {
    Ok(format!("{} bytes", fs::read(scene.read_only().join("readable"))?.len()))
}

fn write(scene: &Scene) -> Tried {
    let (first, second) = (scene.writable().join("first"), scene.writable().join("second"));
    fs::write(&first, "x")?;
    fs::rename(&first, &second)?;
    fs::remove_file(&second)?;
    OpenOptions::new().append(true).open(scene.writable().join("mine"))?.write_all(b"x")?;
    Ok("written".into())
}

fn scratch(scene: &Scene) -> Tried {
    let path = std::env::temp_dir().join(format!("{}-granted", scene.name));
    File::create_new(&path)?.write_all(b"x")?;
    fs::remove_file(path)?;
    Ok("written".into())
}

fn own_tree(scene: &Scene) -> Tried {
    Ok(format!("{} bytes", fs::read(scene.tree().join("program"))?.len()))
}

fn thread(_: &Scene) -> Tried {
    std::thread::Builder::new().spawn(|| ())?.join().map_err(|_| Stop::Cannot("it panicked".into()))?;
    Ok("started".into())
}

fn run(_: &Scene) -> Tried {
    match execute(&[c"/bin/sh", c"-c", c"exit 42"])? {
        42 => Ok("it ran".into()),
        status => Err(Stop::Cannot(format!("exit status {status}"))),
    }
}

fn proxy(_: &Scene) -> Tried {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, PROXY_PORT))?;
    Ok("connected".into())
}
