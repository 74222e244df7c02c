//! The launcher as the witness of the audit log.

use sigil_audit::{HeadSigner, HeadToSign, SignRefused, merkle};
use sigil_types::Digest;

use crate::harness::Test;
use crate::world::{World, manifest};

pub(crate) const TESTS: &[Test] = &[("only_extensions_of_the_last_head_are_signed", extensions)];

fn leaf(text: &str) -> Digest {
    merkle::leaf_hash(text.as_bytes())
}

fn extensions() {
    let mut world = World::unstarted(&manifest(""), "true");
    world.start();
    let (a, b, x) = (leaf("a"), leaf("b"), leaf("x"));
    let first = HeadToSign { size: 1, root: a, previous: 0, proof: Vec::new() };
    let signed = world.client().sign(&first).expect("the first");
    assert!(signed.signed_by(&world.client().key()));

    let second = HeadToSign { size: 2, root: merkle::node_hash(&a, &b), previous: 1, proof: vec![b] };
    let forged = HeadToSign { root: merkle::node_hash(&x, &b), ..second.clone() };
    assert!(matches!(world.client().sign(&forged), Err(SignRefused::Inconsistent { .. })));
    world.client().sign(&second).expect("an extension");

    // What was signed is remembered by a new launcher.
    let key = world.client().key();
    world.start();
    assert_eq!(world.client().key(), key);
    assert!(matches!(world.client().sign(&first), Err(SignRefused::Shrunk { asked: 1, witnessed: 2 })));
    let long = HeadToSign { size: 3, root: x, previous: 2, proof: vec![x; 1000] };
    assert!(matches!(world.client().sign(&long), Err(SignRefused::Inconsistent { .. })));
    assert_eq!(world.client().status().expect("a status").witnessed, 2);
}
