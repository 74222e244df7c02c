//! Attempts on the network: reaching anything but the proxy, and being reached.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, ipproto};
use rustix::net::{bind, connect, listen, sendto, socket_with, socketpair};

use super::errors::{ACCES, CONNREFUSED, NETUNREACH, NOENT, PERM};
use super::{Attempt, Scene, Stop, Tried};
use crate::profile::Layer::{Landlock, MountNs, NetNs, Seccomp};
use crate::sys::probe as sys;

const NO_ROUTE: &[i32] = &[PERM, ACCES, NETUNREACH, CONNREFUSED];
const ALL: &[crate::profile::Layer] = &[Seccomp, NetNs, Landlock];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("net.01", "connect to a listener of the host", NO_ROUTE, ALL, tcp).not_with_proxy(&[Seccomp]),
    Attempt::new("net.02", "connect to another address at the proxy's port", NO_ROUTE, ALL, tcp_proxy_port)
        .not_with_proxy(&[Seccomp]),
    Attempt::new("net.03", "send a datagram (a name to look up, say)", &[PERM, NETUNREACH], &[Seccomp, NetNs], udp),
    Attempt::new("net.04", "connect by multipath TCP, which Landlock does not see", NO_ROUTE, &[Seccomp, NetNs], mptcp),
    Attempt::new("net.05", "connect by the first datum (MSG_FASTOPEN)", NO_ROUTE, &[Seccomp, NetNs], fast_open),
    Attempt::new("net.06", "listen without binding, which Landlock does not see", &[PERM], &[Seccomp], listen_unbound),
    Attempt::new("net.07", "listen at a port", &[PERM, ACCES], &[Seccomp, Landlock], listen_bound),
    Attempt::new("net.08", "connect to a Unix socket by its path", &[PERM, NOENT], &[Seccomp, MountNs], unix_path),
    Attempt::new("net.09", "connect to an abstract Unix socket", &[PERM, CONNREFUSED], ALL, unix_abstract),
    Attempt::new(
        "net.10",
        "reuse one end of a pair for somebody else's socket",
        &[PERM, NOENT],
        &[Seccomp, MountNs],
        unix_pair,
    ),
    Attempt::new("net.11", "talk to the kernel's network settings (netlink)", &[PERM], &[Seccomp], netlink),
    Attempt::new("net.12", "talk to the kernel's ciphers or to the hypervisor", &[PERM], &[Seccomp], odd_families),
    Attempt::new("net.13", "make a raw or packet socket in a namespace of its own", &[PERM], &[Seccomp], raw),
    Attempt::new(
        "net.14",
        "use UDP-Lite, SCTP, DCCP or SMC, which Landlock does not see",
        &[PERM],
        &[Seccomp],
        odd_protocols,
    ),
    Attempt::new("net.15", "send by sendmmsg, into which no filter sees", &[PERM], &[Seccomp], send_many),
    Attempt::new(
        "net.16",
        "make a socket of a rare family (Bluetooth, TIPC, RxRPC, CAN)",
        &[PERM],
        &[Seccomp],
        rare_families,
    ),
];

fn host(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn stream() -> Result<OwnedFd, Stop> {
    Ok(socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn tcp(scene: &Scene) -> Tried {
    connect(&stream()?, &host(scene.tcp))?;
    Ok("connected".into())
}

fn tcp_proxy_port(scene: &Scene) -> Tried {
    connect(&stream()?, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), scene.tcp_proxy))?;
    Ok("connected".into())
}

fn udp(scene: &Scene) -> Tried {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match sendto(&socket, b"x", SendFlags::empty(), &host(scene.udp)) {
        // On a loopback of one's own the datagram goes nowhere.
        Ok(_) if !reaches_host(&socket, scene) => Err(Stop::Errno(libc::ENETUNREACH)),
        other => Ok(format!("{} byte", other?)),
    }
}

/// Whether the host's socket is there: a second datagram to a port without one comes back as an error.
fn reaches_host(socket: &OwnedFd, scene: &Scene) -> bool {
    connect(socket, &host(scene.udp)).is_ok()
        && rustix::net::send(socket, b"x", SendFlags::empty()).is_ok()
        && rustix::net::send(socket, b"x", SendFlags::empty()).is_ok()
}

fn mptcp(scene: &Scene) -> Tried {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::MPTCP))?;
    connect(&socket, &host(scene.tcp))?;
    Ok("connected".into())
}

fn fast_open(scene: &Scene) -> Tried {
    let flags = SendFlags::from_bits_retain(0x2000_0000);
    let sent = sendto(&stream()?, b"by the first datum", flags, &host(scene.tcp))?;
    Ok(format!("{sent} bytes"))
}

fn listen_unbound(_: &Scene) -> Tried {
    let socket = stream()?;
    listen(&socket, 1)?;
    Ok("listening".into())
}

fn listen_bound(_: &Scene) -> Tried {
    let socket = stream()?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 40_404))?;
    listen(&socket, 1)?;
    Ok("listening".into())
}

fn unix(address: &SocketAddrUnix) -> Tried {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, address)?;
    Ok("connected".into())
}

fn unix_path(scene: &Scene) -> Tried {
    unix(&SocketAddrUnix::new(scene.outside().join("socket"))?)
}

fn unix_abstract(scene: &Scene) -> Tried {
    unix(&SocketAddrUnix::new_abstract_name(scene.abstract_name.as_bytes())?)
}

fn unix_pair(scene: &Scene) -> Tried {
    let (end, _other) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    connect(&end, &SocketAddrUnix::new(scene.outside().join("datagrams"))?)?;
    rustix::net::send(&end, b"x", SendFlags::empty())?;
    Ok("sent".into())
}

fn netlink(_: &Scene) -> Tried {
    open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
}

fn odd_families(_: &Scene) -> Tried {
    let ciphers = open(libc::AF_ALG, libc::SOCK_SEQPACKET, 0);
    match ciphers {
        // Not built into this kernel: the other one.
        Err(Stop::Errno(libc::EAFNOSUPPORT)) => open(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        other => other,
    }
}

fn raw(_: &Scene) -> Tried {
    crate::sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
    open(libc::AF_PACKET, libc::SOCK_RAW, 0)
}

fn open(family: i32, kind: i32, protocol: i32) -> Tried {
    let fd = sys::socket(family, kind | libc::SOCK_CLOEXEC, protocol)?;
    Ok(format!("socket {fd}"))
}

/// The first of `kinds` (family, type, protocol) that is made; what this kernel was not built with was asked for at least.
fn first_of(kinds: &[(i32, i32, i32)]) -> Tried {
    let mut last = Err(Stop::Nothing);
    for (family, kind, protocol) in kinds {
        last = open(*family, *kind, *protocol);
        match last {
            Err(Stop::Errno(libc::EPERM)) => {}
            Err(Stop::Errno(errno)) => return Ok(format!("asked for family {family}: errno {errno}")),
            _ => return last,
        }
    }
    last
}

fn odd_protocols(_: &Scene) -> Tried {
    /// `IPPROTO_SMC`.
    const SMC: i32 = 256;
    first_of(&[
        (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        (libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        (libc::AF_INET, libc::SOCK_DCCP, libc::IPPROTO_DCCP),
        (libc::AF_INET, libc::SOCK_STREAM, SMC),
    ])
}

fn rare_families(_: &Scene) -> Tried {
    /// `AF_QIPCRTR`.
    const QRTR: i32 = 42;
    first_of(&[
        (libc::AF_BLUETOOTH, libc::SOCK_STREAM, 3),
        (libc::AF_TIPC, libc::SOCK_STREAM, 0),
        (libc::AF_RXRPC, libc::SOCK_DGRAM, 0),
        (libc::AF_CAN, libc::SOCK_RAW, 1),
        (QRTR, libc::SOCK_DGRAM, 0),
    ])
}

fn send_many(_: &Scene) -> Tried {
    let (end, _other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Stop::Cannot(errno.to_string()))?;
    Ok(format!("{} messages", sys::send_many(std::os::fd::AsFd::as_fd(&end))?))
}
