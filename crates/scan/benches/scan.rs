//! How fast the scanner is, beside the literals of its packs alone in the same run.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it is wrong"
)]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use aho_corasick::AhoCorasick;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sigil_scan::Scanner;
use sigil_types::Stage;

/// Words of mail and documentation, with a paragraph of code: nothing that is found, much that nearly is.
const PARAGRAPH: &str = "Dear team, please find the notes of the last meeting below. We decided to show the new settings \
page to all users, and to keep the previous version of the guidelines until the end of March. If you have questions about \
the token limits or the password policy, ask the administrator. The order of the tasks is: write the tests, update the \
documentation, and send the report to the customers. `let config = Config::read(path)?; let key = config.api_key();` Do \
not forget to rename the old files, and remember that the system restarts on Sunday at 10:30. See section 4.2 for the rules.\n";

fn text(length: usize) -> String {
    PARAGRAPH.chars().cycle().take(length).collect()
}

/// The phrases and literals of all packs, as plain strings.
fn literals() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policy/scanner");
    let mut literals = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the packs") {
        let pack = std::fs::read_to_string(entry.expect("an entry").path()).expect("a pack");
        let pack: toml::Table = pack.parse().expect("TOML");
        for list in pack.get("list").and_then(|lists| lists.as_table()).into_iter().flatten() {
            let phrases = list.1.as_array().expect("a list").iter().filter_map(|phrase| phrase.as_str());
            literals.extend(phrases.map(|phrase| phrase.trim_matches('*').to_lowercase()));
        }
        for rule in pack.get("rule").and_then(|rules| rules.as_array()).into_iter().flatten() {
            let own = rule.get("pattern").and_then(|pattern| pattern.get("literals")).and_then(|list| list.as_array());
            literals.extend(own.into_iter().flatten().filter_map(|literal| literal.as_str()).map(str::to_owned));
        }
    }
    literals
}

fn scan(c: &mut Criterion) {
    let scanner = Scanner::builtin().expect("the packs load");
    let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(literals()).expect("an automaton");
    let mut group = c.benchmark_group("scan");
    for (name, length) in [("1 KB", 1 << 10), ("10 KB", 10 << 10), ("1 MB", 1 << 20)] {
        let ascii = text(length);
        let accented = ascii.replace('o', "ö");
        let accented: String = accented.chars().take(length).collect();
        group.throughput(Throughput::Bytes(u64::try_from(length).expect("small")));
        group.bench_with_input(BenchmarkId::new("literals alone", name), &ascii, |b, text| {
            b.iter(|| automaton.find_overlapping_iter_count(black_box(text)));
        });
        group.bench_with_input(BenchmarkId::new("scanner, ASCII", name), &ascii, |b, text| {
            b.iter(|| scanner.scan(Stage::Input, black_box(text)));
        });
        group.bench_with_input(BenchmarkId::new("scanner, accents", name), &accented, |b, text| {
            b.iter(|| scanner.scan(Stage::Input, black_box(text)));
        });
    }
    group.finish();
}

/// Counting what is found, so that the automaton does what a prefilter would.
trait Count {
    fn find_overlapping_iter_count(&self, text: &str) -> usize;
}

impl Count for AhoCorasick {
    fn find_overlapping_iter_count(&self, text: &str) -> usize {
        self.find_overlapping_iter(text).count()
    }
}

fn load(c: &mut Criterion) {
    c.bench_function("load all packs", |b| b.iter(|| Scanner::builtin().expect("the packs load")));
}

fn stream(c: &mut Criterion) {
    let scanner = Scanner::builtin().expect("the packs load");
    let text = text(10 << 10);
    let mut group = c.benchmark_group("stream of 10 KB");
    for piece in [4, 16, 64] {
        group.bench_with_input(BenchmarkId::new("pieces of bytes", piece), &piece, |b, piece| {
            b.iter(|| {
                let mut stream = scanner.stream(Stage::Output);
                let mut released = 0;
                for part in text.as_bytes().chunks(*piece) {
                    released += stream.push(std::str::from_utf8(part).expect("ASCII")).text.len();
                }
                released + stream.finish().text.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scan, load, stream);
criterion_main!(benches);
