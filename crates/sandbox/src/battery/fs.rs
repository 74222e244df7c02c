//! Attempts on files: reading, changing and executing what was not granted.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, FileType, MemfdFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use super::errors::{ACCES, FBIG, NOENT, NOSPC, NOSYS, PERM, ROFS, XDEV};
use super::probe::execute;
use super::{Attempt, Needs, Scene, Stop, Tried};
use crate::profile::Layer::{Landlock, MountNs, NoNewPrivs, Rlimits, Seccomp, UserNs};
use crate::sys::probe as sys;

const HIDDEN: &[i32] = &[NOENT, ACCES];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("fs.01", "read a file that is not granted", HIDDEN, &[MountNs, Landlock], read_outside),
    Attempt::new("fs.02", "learn whether a file exists, and its size", HIDDEN, &[MountNs], stat_outside),
    Attempt::new("fs.03", "list a folder that is not granted", HIDDEN, &[MountNs, Landlock], list_outside),
    Attempt::new("fs.04", "write to a file that is not granted", HIDDEN, &[MountNs, Landlock], write_outside),
    Attempt::new("fs.05", "make a file outside", HIDDEN, &[MountNs, Landlock], create_outside),
    Attempt::new("fs.06", "truncate a file by its path", HIDDEN, &[MountNs, Landlock], truncate_outside),
    Attempt::new(
        "fs.07",
        "truncate a file that is granted to read",
        &[ROFS, ACCES],
        &[MountNs, Landlock],
        truncate_granted,
    ),
    Attempt::new(
        "fs.08",
        "write to a file that is granted to read",
        &[ROFS, ACCES],
        &[MountNs, Landlock],
        write_granted,
    ),
    Attempt::new(
        "fs.09",
        "read through a symbolic link in a granted folder",
        HIDDEN,
        &[MountNs, Landlock],
        through_symlink,
    ),
    Attempt::new(
        "fs.10",
        "link somebody's file into a granted folder",
        &[PERM, NOENT, XDEV, ACCES],
        &[Seccomp, MountNs, Landlock],
        hard_link,
    ),
    Attempt::new(
        "fs.11",
        "move somebody's file into a granted folder",
        &[NOENT, XDEV, ACCES],
        &[MountNs, Landlock],
        rename_in,
    ),
    Attempt::new("fs.12", "read through /proc/self/root", HIDDEN, &[MountNs, Landlock], through_own_root),
    Attempt::new(
        "fs.13",
        "read through another process's root",
        &[NOENT, ACCES, PERM],
        &[MountNs, Landlock, UserNs],
        through_their_root,
    ),
    Attempt::new(
        "fs.14",
        "open without rights, then again through /proc/self/fd",
        HIDDEN,
        &[MountNs, Landlock],
        reopen,
    ),
    Attempt::new("fs.15", "change the mode of one's own file outside", HIDDEN, &[MountNs], change_mode),
    Attempt::new("fs.16", "change the times of one's own file outside", HIDDEN, &[MountNs], change_times),
    Attempt::new(
        "fs.17",
        "set an extended attribute outside",
        &[PERM, NOSYS, NOENT],
        &[Seccomp, MountNs],
        set_attribute,
    ),
    Attempt::new("fs.18", "watch a folder outside", &[PERM, NOENT], &[Seccomp, MountNs], watch),
    Attempt::new(
        "fs.19",
        "execute what was written to a granted folder",
        &[ACCES],
        &[MountNs, Landlock],
        execute_written,
    ),
    Attempt::new("fs.20", "execute a file in memory", &[PERM, ACCES], &[Seccomp], execute_memory),
    Attempt::new(
        "fs.21",
        "make a pipe in a granted folder, for others to hang on",
        &[PERM, ACCES],
        &[Seccomp, Landlock],
        make_pipe,
    ),
    Attempt::new("fs.22", "open a device that is not given", HIDDEN, &[MountNs, Landlock], open_device),
    Attempt::new("fs.23", "use a file system's own commands on a granted file", &[PERM], &[Seccomp], own_commands),
    Attempt::new("fs.24", "fill the host's temporary folder", &[NOSPC], &[MountNs, Landlock], fill),
    Attempt::new("fs.25", "write a file beyond the limit", &[FBIG], &[Rlimits], too_large),
    Attempt::new("fs.26", "get a handle that opens a file without its path", &[PERM], &[Seccomp], file_handle),
    Attempt::new("fs.27", "give a granted file the set-user-id bit", &[PERM], &[Seccomp], set_user_id),
    Attempt::new("fs.28", "gain root by a set-user-id program", &[PERM], &[NoNewPrivs, MountNs, UserNs], become_root)
        .needs(Needs::Root),
    Attempt::new(
        "fs.29",
        "load a program by the loader, without its execute bit",
        &[ACCES, PERM],
        &[MountNs],
        by_loader,
    ),
    Attempt::new(
        "fs.30",
        "run a written file by an interpreter",
        &[NOENT, ACCES],
        &[MountNs, Landlock],
        by_interpreter,
    ),
];

pub(super) fn read(path: impl AsRef<Path>) -> Tried {
    let mut text = String::new();
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text.chars().take(40).collect())
}

fn write(path: impl AsRef<Path>) -> Tried {
    OpenOptions::new().append(true).open(path)?.write_all(b"x")?;
    Ok("written".into())
}

pub(super) fn secret(scene: &Scene) -> std::path::PathBuf {
    scene.outside().join("secret")
}

pub(super) fn c_path(path: &Path) -> Result<CString, Stop> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| Stop::Cannot(error.to_string()))
}

fn read_outside(scene: &Scene) -> Tried {
    read(secret(scene))
}

fn stat_outside(scene: &Scene) -> Tried {
    Ok(format!("{} bytes", rustix::fs::stat(secret(scene))?.st_size))
}

fn list_outside(scene: &Scene) -> Tried {
    Ok(format!("{} entries", fs::read_dir(scene.outside())?.count()))
}

fn write_outside(scene: &Scene) -> Tried {
    write(scene.outside().join("writable"))
}

fn create_outside(scene: &Scene) -> Tried {
    File::create_new(scene.outside().join("made"))?;
    Ok("made".into())
}

fn truncate(path: impl AsRef<Path>) -> Tried {
    // By path: opening it to write would be another attempt.
    let path = c_path(path.as_ref())?;
    crate::sys::probe::truncate(&path)?;
    Ok("truncated".into())
}

fn truncate_outside(scene: &Scene) -> Tried {
    truncate(scene.outside().join("writable"))
}

fn truncate_granted(scene: &Scene) -> Tried {
    truncate(scene.read_only().join("writable"))
}

fn write_granted(scene: &Scene) -> Tried {
    write(scene.read_only().join("writable"))
}

fn through_symlink(scene: &Scene) -> Tried {
    let link = scene.writable().join("link");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(secret(scene), &link).map_err(|error| Stop::Cannot(error.to_string()))?;
    read(link)
}

fn hard_link(scene: &Scene) -> Tried {
    rustix::fs::link(scene.outside().join("writable"), scene.writable().join("linked"))?;
    Ok("linked".into())
}

fn rename_in(scene: &Scene) -> Tried {
    fs::rename(scene.outside().join("movable"), scene.writable().join("moved"))?;
    Ok("moved".into())
}

pub(super) fn below(root: &str, path: &Path) -> std::path::PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn through_own_root(scene: &Scene) -> Tried {
    read(below("/proc/self/root", &secret(scene)))
}

fn through_their_root(scene: &Scene) -> Tried {
    read(below(&format!("/proc/{}/root", scene.victim), &secret(scene)))
}

fn reopen(scene: &Scene) -> Tried {
    let path = rustix::fs::openat(CWD, secret(scene), OFlags::PATH, Mode::empty())?;
    use std::os::fd::AsRawFd;
    read(format!("/proc/self/fd/{}", path.as_raw_fd()))
}

fn change_mode(scene: &Scene) -> Tried {
    fs::set_permissions(scene.outside().join("own"), fs::Permissions::from_mode(0o600))?;
    Ok("changed".into())
}

fn change_times(scene: &Scene) -> Tried {
    let then = Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = Timestamps { last_access: then, last_modification: then };
    rustix::fs::utimensat(CWD, scene.outside().join("own"), &times, rustix::fs::AtFlags::empty())?;
    Ok("changed".into())
}

fn set_attribute(scene: &Scene) -> Tried {
    rustix::fs::setxattr(scene.outside().join("own"), "user.probe", b"x", XattrFlags::empty())?;
    Ok("set".into())
}

fn watch(scene: &Scene) -> Tried {
    use rustix::fs::inotify;
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watcher, scene.outside(), inotify::WatchFlags::MODIFY)?;
    Ok("watching".into())
}

/// The smallest program: it ends with [`RAN`], or, when it asks who it is, only if it is root.
#[cfg(target_arch = "x86_64")]
pub(super) fn tiny_program(only_root: bool) -> Vec<u8> {
    let code: &[u8] = if only_root {
        // geteuid; 0 is the only unsigned number below 1: the borrow becomes all ones; RAN & mask; exit.
        b"\xb8\x6b\0\0\0\x0f\x05\x83\xf8\x01\x19\xff\x83\xe7\x2a\xb8\x3c\0\0\0\x0f\x05"
    } else {
        b"\xbf\x2a\0\0\0\xb8\x3c\0\0\0\x0f\x05"
    };
    elf(62, code)
}

/// The smallest program: it ends with [`RAN`]. That of root is not written for this architecture.
#[cfg(target_arch = "aarch64")]
pub(super) fn tiny_program(_only_root: bool) -> Vec<u8> {
    elf(183, b"\x40\x05\x80\xd2\xa8\x0b\x80\xd2\x01\0\0\xd4")
}

/// The exit status of the smallest program.
pub(super) const RAN: i32 = 42;

fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 120;
    let size = HEADERS + u64::try_from(code.len()).unwrap_or(0);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in [BASE + HEADERS, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for number in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    // One segment: load all of it, readable and executable.
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for number in [0, BASE, BASE, size, size, 4096] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    file
}

fn ran(status: i32) -> Tried {
    if status == RAN { Ok("it ran".into()) } else { Err(Stop::Errno(libc::EPERM)) }
}

fn execute_written(scene: &Scene) -> Tried {
    let path = scene.writable().join("program");
    let _ = fs::remove_file(&path);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path);
    let written = made.and_then(|mut file| file.write_all(&tiny_program(false)));
    written.map_err(|error| Stop::Cannot(error.to_string()))?;
    ran(execute(&[&c_path(&path)?])?)
}

fn execute_memory(_: &Scene) -> Tried {
    let memory = rustix::fs::memfd_create("probe", MemfdFlags::empty())?;
    rustix::io::write(&memory, &tiny_program(false))?;
    ran(super::probe::execute_fd(memory.as_fd())?)
}

fn make_pipe(scene: &Scene) -> Tried {
    let path = scene.writable().join("pipe");
    let _ = fs::remove_file(&path);
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    Ok("made".into())
}

fn open_device(_: &Scene) -> Tried {
    OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
    Ok("opened".into())
}

fn own_commands(scene: &Scene) -> Tried {
    /// `FS_IOC_GETFLAGS`.
    const GET_FLAGS: u64 = 0x8008_6601;
    let file = File::open(scene.writable().join("mine")).map_err(|error| Stop::Cannot(error.to_string()))?;
    match sys::ioctl(file.as_fd(), GET_FLAGS) {
        // Whatever the file system says, the command reached it.
        Ok(_) => Ok("answered".into()),
        Err(rustix::io::Errno::NOTTY | rustix::io::Errno::OPNOTSUPP) => Ok("reached".into()),
        Err(errno) => Err(errno.into()),
    }
}

fn fill(scene: &Scene) -> Tried {
    // Many files, none of which is beyond the limit of one.
    let paths: Vec<_> = (0..24).map(|number| Path::new("/tmp").join(format!("{}-fill-{number}", scene.name))).collect();
    let one = |path: &std::path::PathBuf| -> Result<(), Stop> {
        Ok(rustix::fs::fallocate(&File::create_new(path)?, FallocateFlags::empty(), 0, 25 << 20)?)
    };
    let result = paths.iter().try_for_each(one);
    for path in &paths {
        let _ = fs::remove_file(path);
    }
    result?;
    Ok("600 MiB".into())
}

fn too_large(scene: &Scene) -> Tried {
    sys::ignore_file_size_signal();
    let path = scene.writable().join("large");
    let file = File::create(&path).map_err(|error| Stop::Cannot(error.to_string()))?;
    let result = rustix::fs::ftruncate(&file, 8 << 30);
    let _ = fs::remove_file(&path);
    result?;
    Ok("8 GiB".into())
}

fn file_handle(scene: &Scene) -> Tried {
    sys::file_handle(&c_path(&scene.writable().join("mine"))?)?;
    Ok("a handle".into())
}

fn set_user_id(scene: &Scene) -> Tried {
    let path = scene.writable().join("mine-too");
    let _ = fs::remove_file(&path);
    File::create_new(&path).map_err(|error| Stop::Cannot(error.to_string()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755))?;
    Ok("set".into())
}

fn become_root(scene: &Scene) -> Tried {
    ran(execute(&[&c_path(&scene.tree().join("root-program"))?])?)
}

fn by_loader(scene: &Scene) -> Tried {
    let loader =
        ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"].into_iter().find(|path| Path::new(path).exists());
    let loader = loader.ok_or_else(|| Stop::Cannot("no loader of the GNU C library".into()))?;
    // A copy of a program of this machine, without the execute bit, in the folder that may be written.
    let path = scene.writable().join("not-executable");
    let status = execute(&[&c_path(Path::new(loader))?, &c_path(&path)?])?;
    if status == 0 { Ok("it ran".into()) } else { Err(Stop::Errno(libc::EACCES)) }
}

fn by_interpreter(scene: &Scene) -> Tried {
    let path = scene.writable().join("script");
    fs::write(&path, "exit 42\n").map_err(|error| Stop::Cannot(error.to_string()))?;
    ran(execute(&[c"/bin/sh", &c_path(&path)?])?)
}
