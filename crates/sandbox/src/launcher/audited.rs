//! The kernel's audit records of what Landlock refused, where the machine has them and this user may read them.
//!
//! They come over a netlink socket (netlink(7), audit's group of readers), which needs CAP_AUDIT_READ, and only while audit is
//! switched on. Where either is missing there is no reader, and what files a program was refused is not known.

use std::os::fd::OwnedFd;
use std::sync::PoisonError;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};
use sigil_types::{Clock, SystemClock};

use super::recorder::Known;
use crate::denials::Sight;
use crate::denials::records::{Domains, Record};

/// `AUDIT_GET` and its answer.
const STATUS: u16 = 1000;
/// `AUDIT_NLGRP_READLOG`, as the bit of its group.
const READERS: u32 = 1;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A socket on which audit records arrive.
#[derive(Debug)]
pub(super) struct Records(OwnedFd);

impl Records {
    /// Opens it. `None` where audit is off, or where this user may not read its records.
    pub(super) fn open() -> Option<Self> {
        let open = || {
            let flags = SocketFlags::CLOEXEC;
            socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::AUDIT))
        };
        is_on(&open().ok()?).ok().filter(|on| *on)?;
        let socket = open().ok()?;
        bind(&socket, &SocketAddrNetlink::new(0, READERS)).ok()?;
        Some(Self(socket))
    }

    /// Reads them for good, and counts those of known launches.
    pub(super) fn follow(self, known: &Known) {
        let mut domains = Domains::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                // Records were lost because too many came at once: those that are left still count.
                Err(Errno::INTR | Errno::NOBUFS) => continue,
                Err(_) => return,
                Ok((_, length)) => length,
            };
            let Some(record) =
                buffer.get(..length).and_then(message).and_then(|(kind, text)| Record::parse(kind, text))
            else {
                continue;
            };
            for (maker, blockers, path) in domains.take(record) {
                let Some(ledger) = known.made_by(maker) else { continue };
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.note(Sight::Audited { blockers, path }, SystemClock.now());
            }
        }
    }
}

/// The kind and the body of one netlink message. Audit's own length field is not that of the message (it counts no header),
/// so the socket's word counts.
fn message(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let kind = bytes.get(4..6)?;
    Some((u16::from_ne_bytes([*kind.first()?, *kind.get(1)?]), bytes.get(HEADER..)?))
}

/// Asks whether audit is switched on.
fn is_on(socket: &OwnedFd) -> Result<bool, Errno> {
    /// `NLM_F_REQUEST`.
    const REQUEST: u16 = 1;
    let length = 16_u32.to_ne_bytes();
    let parts: [&[u8]; 4] = [&length, &STATUS.to_ne_bytes(), &REQUEST.to_ne_bytes(), &[0; 8]];
    // The kernel answers at once, or never.
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Recv, Some(std::time::Duration::from_secs(1)))?;
    send(socket, &parts.concat(), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, length) = recv(socket, &mut answer[..], RecvFlags::empty())?;
    // `struct audit_status` begins with a mask, then `enabled`.
    let enabled = answer
        .get(..length)
        .and_then(message)
        .filter(|(kind, _)| *kind == STATUS)
        .and_then(|(_, status)| status.get(4));
    Ok(enabled.is_some_and(|enabled| *enabled != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_by_their_length() {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&1423_u16.to_ne_bytes());
        bytes.extend(b"audit(1.2:3): domain=1 blockers=fs.read_file");
        let (kind, text) = message(&bytes).unwrap();
        assert!(Record::parse(kind, text).is_some());
        assert!((0..HEADER).all(|end| message(&bytes[..end]).is_none()));
    }

    #[test]
    fn where_audit_is_off_there_is_no_reader() {
        // Either way is right; what must not happen is that this blocks or panics.
        println!("audit records are {}", if Records::open().is_some() { "read" } else { "off, or not for this user" });
    }
}
