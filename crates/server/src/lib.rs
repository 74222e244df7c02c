//! The HTTP API: routes, tokens, request checks, limits and event streams, and no business logic.
//!
//! ```text
//! connection ─► who (Unix peer, bearer token) ─► Host, Origin ─► scope ─► size, depth, form ─► Operations ─► answer
//! ```
//!
//! Everything that a route does is asked of [`Operations`], which the binary's wiring fills. What may be asked follows from
//! the stored credential alone ([`Caller`]), never from what a request claims. Every route is registered together with
//! its scope or in one short list of public ones, so a route that nobody guards cannot be written.

#![allow(unused_qualifications, reason = "the macros of utoipa write paths in full")]

pub mod api;
mod auth;
mod events;
mod guard;
mod json;
mod limits;
mod listen;
mod metrics;
mod openapi;
mod operations;
mod problem;
mod routes;
mod scope;
mod serve;
mod settings;
mod stall;
mod token;

pub use listen::{BindRefused, Listeners};
pub use openapi::openapi;
pub use operations::{Answer, Caller, Failure, FailureKind, Numbered, Operations, Page, PageRequest, Via};
pub use problem::{Fix, Pointed, Problem};
pub use scope::{ParseScope, Scope};
pub use serve::Server;
pub use settings::{Limits, Settings};
pub use token::{Minted, ParseToken, Token, TokenKind, mint};
