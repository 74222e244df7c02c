//! System calls: the only module of Sigil's core with `unsafe`. Each function is one call or one short, fixed sequence
//! of calls, with a safe signature; none decides anything.
//!
//! What rustix offers as a safe function is called directly where it is needed.

#![expect(unsafe_code, reason = "the system calls that no safe wrapper offers; each block argues for itself")]

mod clone;
mod descriptors;
mod exec;
mod memory;
mod mount;
mod namespaces;
mod net;
mod notify;
mod privileges;
pub(crate) mod probe;
mod signals;
mod wiped;

pub(crate) use clone::{Forked, clone_process, clone_process_into, exit_now, fork_process, vfork_process};
pub(crate) use descriptors::{
    arrange_fds, close_all_but, close_from_on_exec, close_others, fixed_fd, receive_with_fds, replace_stream,
    send_with_fds,
};
pub(crate) use exec::{ExecImage, exec_fd, exec_path};
pub use memory::give_back;
pub(crate) use mount::{MountFlags, set_mount_flags, set_mount_id_map};
pub(crate) use namespaces::{is_filtered, landlock_abi, namespaces, unshare};
pub(crate) use net::{listen_loopback, loopback_up};
pub(crate) use notify::{
    CallAnswer, Notification, answer_call, call_waits, install_listener, read_other, receive_call,
};
pub(crate) use privileges::{drop_all_privileges, privileges, set_ids, thread_count};
pub(crate) use signals::{
    block_forwarded_signals, block_signals, die_by, forward_and_reap, forward_until_exit, kill_all_others,
    kill_process, next_signal, parent_end_signal, peer_gone, reap, reset_signals, stop, take_signals,
    unblock_forwarded_signals, wait_any, wait_for,
};
pub(crate) use wiped::WipedOnFork;
