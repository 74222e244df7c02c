//! Requests as a hostile gateway makes them: right ones with something changed, and bytes.

use std::path::PathBuf;

use sigil_types::Digest;

use super::truth::Truth;
use super::{DAY, NOW};
use crate::launcher::wire::{LaunchRequest, Request};

/// A generator of numbers that is the same everywhere (`SplitMix64`).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// What the clock says: mostly a little later, seldom before everything or after everything.
    pub(super) fn moment(&mut self) -> u64 {
        match self.below(20_000) {
            0 => 0,
            1 => NOW + 10 * DAY,
            2 => NOW + 25 * DAY,
            3 => NOW + 40 * DAY,
            _ => NOW + self.below(60_000) as u64,
        }
    }

    /// The body of one frame.
    pub(super) fn body(&mut self, truth: &Truth) -> Vec<u8> {
        let often = if truth.in_force().is_some() { 200 } else { 2 };
        let request =
            if self.one_in(often) { self.policy(truth) } else { Request::Launch(Box::new(self.launch(truth))) };
        let mut body = serde_json::to_vec(&request).expect("JSON");
        if self.one_in(4) {
            self.damage(&mut body);
        }
        body
    }

    fn policy(&mut self, truth: &Truth) -> Request {
        let mut envelope = self.of(&truth.policies).envelope.clone();
        if self.one_in(2) {
            let at = self.below(envelope.len());
            let byte = *self.of(b"AbC09+/=\"{}: \n");
            envelope = match self.below(4) {
                0 => envelope.chars().take(at).collect(),
                1 => envelope + " ",
                2 => {
                    let mut bytes = envelope.into_bytes();
                    bytes[at] = byte;
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                // The payload of one under the signature of another.
                _ => {
                    let other = &self.of(&truth.policies).envelope;
                    let halves = (envelope.split_once("\"signatures\""), other.split_once("\"signatures\""));
                    let (Some((payload, _)), Some((_, signatures))) = halves else { panic!("an envelope") };
                    format!("{payload}\"signatures\"{signatures}")
                }
            };
        }
        Request::SetPolicy { envelope }
    }

    fn launch(&mut self, truth: &Truth) -> LaunchRequest {
        let policy = match truth.in_force() {
            Some(policy) if !self.one_in(10) => policy,
            _ => self.of(&truth.policies),
        };
        let mut request = truth.request(self.of(&truth.plugins), policy);
        for _ in 0..*self.of(&[0, 0, 1, 1, 1, 2, 3]) {
            self.change(truth, &mut request);
        }
        request
    }

    fn change(&mut self, truth: &Truth, request: &mut LaunchRequest) {
        match self.below(9) {
            0 => request.plugin = self.of(&["alpha", "beta", "gamma", "delta", "epsilon"]).parse().expect("a name"),
            1 => request.workspace = self.of(&["home", "work", "x"]).parse().expect("a name"),
            2 => request.policy = self.of(&truth.policies).digest,
            3 => request.policy = self.digest(),
            4 => request.manifest = self.manifest(truth, &request.manifest),
            5 => request.tree = self.of(&truth.plugins).tree,
            6 => request.tree = self.digest(),
            _ => {
                let name = self.of(&["docs", "docs", "more", "other"]).parse().expect("a name");
                let paths = (0..self.below(3)).map(|_| self.path(truth)).collect();
                request.params.folders.insert(name, paths);
            }
        }
    }

    fn digest(&mut self) -> Digest {
        if self.one_in(2) { Digest::of(&self.next().to_le_bytes()) } else { Digest::from_bytes([0; 32]) }
    }

    fn manifest(&mut self, truth: &Truth, own: &str) -> String {
        match self.below(8) {
            0 => self.of(&truth.plugins).manifest.clone(),
            1 => own.replace("profile: native", "profile: shell"),
            2 => format!("{own}\n"),
            3 => own.replace("bin/tool", "bin/../../../bin/sh"),
            4 => own.replace("--own", "--other"),
            5 => String::new(),
            6 => format!("{own}#{}", "x".repeat(70_000)),
            _ => own.replace("api.example.com", "*.example.net"),
        }
    }

    fn path(&mut self, truth: &Truth) -> PathBuf {
        let home = truth.home.display().to_string();
        let inside = *self.of(&[
            "/notes",
            "/notes/a",
            "/notes/deep",
            "/notes/deep/b",
            "/read",
            "/read/c",
            "",
            "/notes/../read",
            "/notes/./a",
            "/notes//a",
            "/notes/",
            "/notesbook",
            "/notes/.ssh/id",
            "/notes/.bashrc",
            "/notes/docker.sock",
            "/notes/.git/hooks",
            "/read/.git/hooks",
            "/notes/a\nb",
            "/notes/a\u{0}b",
            "/notes/\u{202e}x",
            "/notes/é",
            "/../launcher",
            "/notes/..",
            "/notes/a b\"c'd\\e$(id)",
        ]);
        match self.below(12) {
            0 => PathBuf::from(*self.of(&[
                "/",
                "",
                ".",
                "..",
                "relative",
                "/etc/shadow",
                "/etc",
                "/proc/self",
                "/dev/null",
                "//",
                "/tmp",
            ])),
            1 => PathBuf::from(format!("{home}/notes/{}", "x".repeat(self.below(5000)))),
            _ => PathBuf::from(format!("{home}{inside}")),
        }
    }

    /// Changes the bytes of a frame.
    fn damage(&mut self, body: &mut Vec<u8>) {
        let at = self.below(body.len());
        let text = |text: &str| text.as_bytes().to_vec();
        match self.below(10) {
            0 => body.truncate(at),
            1 => body[at] ^= 1 << self.below(8),
            2 => body[at] = *self.of(b"\"{}[]:,\\\0 0aA/."),
            3 => {
                body.remove(at);
            }
            4 => body.insert(at, *self.of(b"\"{}[]:,\\\0 0aA/.")),
            // A field twice, one that does not exist, another word for what is asked.
            5 => {
                let field = *self.of(&[
                    "\"plugin\":\"beta\",",
                    "\"ask\":\"launch\",",
                    "\"ask\":\"status\",",
                    "\"params\":{},",
                    "\"argv\":[\"/bin/sh\"],",
                    "\"profile\":\"shell\",",
                    "\"env\":{\"LD_PRELOAD\":\"/x\"},",
                    "\"uid\":0,",
                    "\"manifest\":\"\",",
                ]);
                body.splice(1..1, text(field));
            }
            6 => body.extend_from_slice(self.of(&[" {}", "\n\n", "\0", " ", ",", "]"]).as_bytes()),
            7 => {
                let whole: &&str =
                    self.of(&["", "{}", "null", "[]", "{\"ask\":\"exec\"}", "{\"ask\":\"status\"}", "\"launch\""]);
                *body = text(whole);
            }
            8 => {
                let swapped = String::from_utf8_lossy(body).replace("home", "Home/..");
                *body = swapped.into_bytes();
            }
            _ => *body = (0..self.below(200)).map(|_| self.next() as u8).collect(),
        }
    }
}
