//! What is known to work, and why that is accepted: one table, pinned by a test and shown in the documentation.

use super::setting::{GO_PLUGIN, REDUCED, REDUCED_USER};
use super::{Attempt, Setting};

/// An attempt that is known to get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The attempt.
    pub id: &'static str,
    /// Under which base profiles; `*` is every one, `go-plugin` that of a program that serves on a socket of its own,
    /// `reduced` any in that posture.
    pub under: &'static [&'static str],
    /// Why that is accepted.
    pub why: &'static str,
}

const COMPILES: &str = "interpreters compile while they run; code that already runs here gains nothing by it";

const OWN_FOLDER: &str = "its /tmp is a folder of the host, where its socket is called: files have a largest size, but their \
                          number has no end; the folder goes with the program";

/// What only a namespace stops.
const NO_STAT: &str = "Landlock does not look at stat(2): a program learns that a file exists, its size and its times";

/// All of them. A row more is a promise less: it needs a reason that holds for whoever reads it.
pub const ACCEPTED: &[Known] = &[
    Known { id: "fs.02", under: &[REDUCED], why: NO_STAT },
    Known { id: "fs.24", under: &[GO_PLUGIN], why: OWN_FOLDER },
    Known {
        id: "fs.29",
        under: &[REDUCED],
        why: "the loader reads what it may read; execution is no border where files that can be read can be written",
    },
    Known {
        id: "fs.30",
        under: &["shell"],
        why: "whoever may run an interpreter may run what it can read: execution is no border under this profile",
    },
    Known {
        id: "fs.32",
        under: &["*"],
        why: "a folder that may be written may get new names, and no layer of the kernel forbids one name; what stands \
              there already is guarded. Grant a folder that nobody executes from, or make the guarded names first",
    },
    Known { id: "fs.38", under: &[GO_PLUGIN], why: OWN_FOLDER },
    Known {
        id: "info.03",
        under: &[REDUCED],
        why: "the name of the machine is not a secret that is worth a namespace",
    },
    Known {
        id: "info.09",
        under: &[REDUCED],
        why: "the view of control groups is shared; its number can be read, and nothing else of it",
    },
    Known {
        id: "info.10",
        under: &["*"],
        why: "a program may see the mounts of its own namespace; granted folders have their host's names anyway",
    },
    Known { id: "kernel.13", under: &["shell"], why: COMPILES },
    Known { id: "kernel.14", under: &["shell"], why: COMPILES },
    Known {
        id: "kernel.20",
        under: &[REDUCED_USER],
        why: "a user without capabilities cannot empty the bounding set; with no_new_privs no file gives a capability back",
    },
    Known {
        id: "proc.11",
        under: &[REDUCED_USER],
        why: "the kernel counts all processes of its user; the launcher counts the program's own, and ends it when there \
              are more",
    },
];

/// The row of the table that accepts `attempt` under `setting`.
pub(super) fn known(attempt: &Attempt, setting: &Setting) -> Option<&'static Known> {
    let here = |under: &&str| *under == "*" || setting.is(under);
    ACCEPTED.iter().find(|known| known.id == attempt.id && known.under.iter().any(here))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::battery::attempts;
    use crate::profile::base::BaseProfile;

    #[test]
    fn the_table_is_of_attempts_and_profiles_that_there_are() {
        let bases: BTreeSet<&str> = BaseProfile::names().chain([GO_PLUGIN, REDUCED, REDUCED_USER]).collect();
        let mut seen = BTreeSet::new();
        for known in ACCEPTED {
            assert!(attempts().any(|attempt| attempt.id == known.id), "{} is no attempt", known.id);
            assert!(known.why.len() > 40, "{}: a reason is a sentence", known.id);
            for under in known.under {
                assert!(*under == "*" || bases.contains(under), "{}: there is no base profile {under}", known.id);
                assert!(seen.insert((known.id, *under)), "{} stands twice under {under}", known.id);
            }
        }
    }
}
