//! Real programs in the sandbox, by `sigil sandbox run`, each with the smallest profile: what they are for works, and one
//! thing that they must not do is refused. The recipes of `docs/recipes/` say the same for people.
//!
//! A program that is not installed is skipped with a line that says so; `SIGIL_PROGRAMS_REQUIRED=1` makes that a failure.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs, unreachable_pub, reason = "tests")]
#![allow(clippy::print_stdout, clippy::string_slice, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the binary under test, and what it is compared with, are processes")]

mod browser;
mod fetch;
mod filters;
mod git;
mod golang;
mod install;
mod mcp;
mod node;
mod python;
mod recipes;
mod runner;
mod scripts;
mod server;
mod tools;
mod trace;
