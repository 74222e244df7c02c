//! The cases: what every backend does.

mod gateway;
mod session;

pub(crate) use gateway::*;
pub(crate) use session::*;
