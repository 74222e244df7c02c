//! Attempts on the network: past the proxy, to the host's own services, to the cloud's metadata, to sockets of other kinds.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, SocketType, socket};

use crate::attempt::{Attempt, Try};

pub(crate) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "network.loopback",
        act: "connect to services on the host's loopback",
        layers: &["net_ns", "seccomp"],
        run: loopback,
    },
    Attempt {
        id: "network.internet",
        act: "connect to 1.1.1.1:443 without the proxy",
        layers: &["net_ns", "seccomp"],
        run: || connect("1.1.1.1:443"),
    },
    Attempt {
        id: "network.metadata",
        act: "connect to the cloud's metadata service",
        layers: &["net_ns", "seccomp"],
        run: || connect("169.254.169.254:80"),
    },
    Attempt {
        id: "network.dns",
        act: "ask a resolver on the internet, over UDP",
        layers: &["net_ns", "seccomp"],
        run: dns,
    },
    Attempt { id: "network.listen", act: "listen for connections", layers: &["seccomp"], run: listen },
    Attempt {
        id: "network.docker",
        act: "connect to /var/run/docker.sock",
        layers: &["mount_ns", "seccomp"],
        run: || unix("/var/run/docker.sock"),
    },
    Attempt {
        id: "network.dbus",
        act: "connect to /run/dbus/system_bus_socket",
        layers: &["mount_ns", "seccomp"],
        run: || unix("/run/dbus/system_bus_socket"),
    },
    Attempt {
        id: "network.packet",
        act: "open a raw packet socket",
        layers: &["seccomp", "capabilities"],
        run: || family(AddressFamily::PACKET, SocketType::RAW),
    },
    Attempt {
        id: "network.netlink",
        act: "open a netlink socket",
        layers: &["seccomp"],
        run: || family(AddressFamily::NETLINK, SocketType::RAW),
    },
    Attempt {
        id: "network.vsock",
        act: "open a socket to the hypervisor",
        layers: &["seccomp"],
        run: || family(AddressFamily::from_raw(40), SocketType::STREAM),
    },
    Attempt {
        id: "network.alg",
        act: "open a socket to the kernel's cryptography",
        layers: &["seccomp"],
        run: || family(AddressFamily::from_raw(38), SocketType::SEQPACKET),
    },
];

const PATIENCE: Duration = Duration::from_millis(500);

fn connect(address: &str) -> Try {
    let Ok(address) = address.parse::<SocketAddr>() else { return Try::Nothing("not an address") };
    #[expect(clippy::disallowed_methods, reason = "dialling without the proxy is what is tried here")]
    let connected = TcpStream::connect_timeout(&address, PATIENCE);
    match connected {
        Ok(_) => Try::Worked(format!("connected to {address}")),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Try::Refused(rustix::io::Errno::TIMEDOUT),
        Err(error) => Err::<(), _>(error).into(),
    }
}

/// Every port that a service of the host is likely to have. The proxy's own is not among them.
fn loopback() -> Try {
    let ports = [22, 25, 53, 80, 443, 631, 2375, 3000, 3306, 5432, 6379, 8000, 8080, 8443, 9090, 9200, 11434];
    let mut last = Try::Nothing("no port was tried");
    for port in ports {
        match connect(&format!("127.0.0.1:{port}")) {
            Try::Worked(what) => return Try::Worked(what),
            other => last = other,
        }
    }
    last
}

fn dns() -> Try {
    // A query for the root's name servers (RFC 1035).
    let query = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(&query, "8.8.8.8:53")).into()
}

fn listen() -> Try {
    std::net::TcpListener::bind("127.0.0.1:0").into()
}

fn unix(path: &str) -> Try {
    UnixStream::connect(path).into()
}

fn family(family: AddressFamily, kind: SocketType) -> Try {
    socket(family, kind, None::<Protocol>).into()
}
