//! Attempts on files: to read what was not granted, to write where it was not, to reach either by a detour.

use std::fs::{self, OpenOptions};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::attempt::{Attempt, Try};

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "files.shadow",
        act: "read /etc/shadow",
        layers: &["mount_ns", "landlock"],
        run: || read("/etc/shadow"),
    },
    Attempt {
        id: "files.ssh_key",
        act: "list /root/.ssh",
        layers: &["mount_ns", "landlock"],
        run: || list("/root/.ssh"),
    },
    Attempt { id: "files.homes", act: "list /home", layers: &["mount_ns", "landlock"], run: || list("/home") },
    Attempt {
        id: "files.machine_id",
        act: "read /etc/machine-id",
        layers: &["mount_ns", "landlock"],
        run: || read("/etc/machine-id"),
    },
    Attempt {
        id: "files.host_logs",
        act: "list /var/log",
        layers: &["mount_ns", "landlock"],
        run: || list("/var/log"),
    },
    Attempt {
        id: "files.symlink",
        act: "make a symbolic link to /etc/shadow in its own folder, and read through it",
        layers: &["mount_ns", "landlock"],
        run: symlink,
    },
    Attempt {
        id: "files.hardlink",
        act: "make a hard link to its own program in its own folder",
        layers: &["seccomp", "mount_ns", "landlock"],
        run: hardlink,
    },
    Attempt {
        id: "files.init_root",
        act: "walk to the host through /proc/1/root",
        layers: &["pid_ns", "mount_ns"],
        run: || list("/proc/1/root/home"),
    },
    Attempt {
        id: "files.self_root",
        act: "walk to the host through /proc/self/root/../..",
        layers: &["mount_ns"],
        run: || read("/proc/self/root/../../etc/shadow"),
    },
    Attempt {
        id: "files.cron",
        act: "write a cron job",
        layers: &["mount_ns", "landlock"],
        run: || write("/etc/cron.d/adversary"),
    },
    Attempt {
        id: "files.usr_bin",
        act: "write a program to /usr/bin",
        layers: &["mount_ns", "landlock"],
        run: || write("/usr/bin/adversary"),
    },
    Attempt { id: "files.root_dir", act: "write to /", layers: &["mount_ns", "landlock"], run: || write("/adversary") },
    Attempt {
        id: "files.own_program",
        act: "overwrite its own program",
        layers: &["mount_ns", "landlock"],
        run: own_program,
    },
    Attempt {
        id: "files.core_pattern",
        act: "write /proc/sys/kernel/core_pattern",
        layers: &["mount_ns", "landlock"],
        run: core_pattern,
    },
    Attempt {
        id: "files.device",
        act: "make a device node for the first disk",
        layers: &["seccomp", "capabilities"],
        run: device,
    },
    Attempt {
        id: "files.memory",
        act: "read the machine's memory at /dev/mem",
        layers: &["mount_ns", "landlock"],
        run: || read("/dev/mem"),
    },
    Attempt {
        id: "files.sysfs",
        act: "list /sys/kernel",
        layers: &["mount_ns", "landlock"],
        run: || list("/sys/kernel"),
    },
    Attempt {
        id: "files.disk_full",
        act: "fill the disk with 64 MiB in its own folder",
        layers: &["mount_ns"],
        run: fill,
    },
    Attempt {
        id: "files.environ",
        act: "read the environment of the first process",
        layers: &["pid_ns", "environment"],
        run: environ,
    },
];

const SCRATCH: &str = "/tmp";

fn read(path: &str) -> Try {
    match fs::File::open(path) {
        Ok(mut file) => match std::io::Read::read(&mut file, &mut [0; 16]) {
            Ok(count) => Try::Worked(format!("{count} bytes could be read")),
            Err(error) => Err::<(), _>(error).into(),
        },
        Err(error) => Err::<(), _>(error).into(),
    }
}

fn list(path: &str) -> Try {
    match fs::read_dir(path) {
        Ok(entries) => match entries.count() {
            0 => Try::Nothing("the folder is empty"),
            count => Try::Worked(format!("{count} entries could be listed")),
        },
        Err(error) => Err::<(), _>(error).into(),
    }
}

fn write(path: &str) -> Try {
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    if written.is_ok() {
        // Harmless where it succeeds; that it succeeded is the finding.
        let _ = fs::remove_file(path);
    }
    written.into()
}

fn symlink() -> Try {
    let link = Path::new(SCRATCH).join("adversary-link");
    let _ = fs::remove_file(&link);
    if let Err(error) = std::os::unix::fs::symlink("/etc/shadow", &link) {
        return Err::<(), _>(error).into();
    }
    let outcome = read("/tmp/adversary-link");
    let _ = fs::remove_file(&link);
    outcome
}

fn hardlink() -> Try {
    let Ok(program) = std::env::current_exe() else { return Try::Nothing("its own program has no name here") };
    let link = Path::new(SCRATCH).join("adversary-hardlink");
    let outcome = fs::hard_link(program, &link).into();
    let _ = fs::remove_file(&link);
    outcome
}

fn own_program() -> Try {
    OpenOptions::new().append(true).open("/proc/self/exe").into()
}

fn core_pattern() -> Try {
    // Opened, never written: writing would change the host where the sandbox fails.
    OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern").into()
}

fn device() -> Try {
    let path = "/tmp/adversary-device";
    let outcome =
        mknodat(CWD, path, FileType::BlockDevice, Mode::from_bits_truncate(0o600), rustix::fs::makedev(8, 0)).into();
    let _ = fs::remove_file(path);
    outcome
}

fn fill() -> Try {
    let path = "/tmp/adversary-fill";
    let block = vec![0_u8; 1 << 20];
    let outcome = fs::File::create(path)
        .and_then(|mut file| (0..64).try_for_each(|_| std::io::Write::write_all(&mut file, &block)));
    let _ = fs::remove_file(path);
    outcome.into()
}

/// The host's first process has an environment that is not this plugin's own.
fn environ() -> Try {
    match fs::read("/proc/1/environ") {
        Ok(found) if found.is_empty() => Try::Nothing("it is empty"),
        Ok(found) => {
            let own = fs::read("/proc/self/environ").unwrap_or_default();
            if found == own {
                Try::Nothing("the first process here is this plugin itself")
            } else {
                Try::Worked(format!("{} bytes", found.len()))
            }
        }
        Err(error) => Err::<(), _>(error).into(),
    }
}
