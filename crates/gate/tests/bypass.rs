//! Every way round the gate does not compile. Each case is one that somebody might write; the pinned message says why it
//! is refused. `TRYBUILD=overwrite cargo test -p sigil-gate --test bypass` writes the messages anew after a change of compiler.

#[test]
fn no_way_round_the_gate_compiles() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/bypass/allowed.rs");
    cases.compile_fail("tests/bypass/[!a]*.rs");
}
