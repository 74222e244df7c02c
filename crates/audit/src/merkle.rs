//! The Merkle tree of RFC 6962, section 2.1: hashes, roots, and proofs of inclusion and consistency.
//!
//! Making a proof reads stored nodes through a closure; checking one needs nothing but the proof, so that the launcher,
//! which signs heads, can check that a head extends the one before without holding the log.

use sigil_types::Digest;

/// The hash of a leaf: SHA-256 of a zero byte and `entry`.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest::of_parts([&[0_u8][..], entry])
}

/// The hash of an inner node: SHA-256 of a one byte and both children.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts([&[1_u8][..], left.as_bytes(), right.as_bytes()])
}

/// The root of a tree without leaves: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// The complete subtrees of a growing tree, largest first: all that is needed to append and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The frontier of the tree over the first `size` leaves, from its stored nodes.
    ///
    /// # Errors
    /// What `node` answers.
    pub fn load<E>(size: u64, mut node: impl FnMut(u32, u64) -> Result<Digest, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        let mut start = 0;
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(node(level, start >> level)?);
            start += 1 << level;
        }
        Ok(Self { size, peaks })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Returns the nodes that it completes: itself, then each subtree that ends with it, smallest first.
    ///
    /// The node at `level` with index `i` is therefore the one that leaf `(i + 1) * 2^level - 1` returned at position
    /// `level`; storing this list beside each entry stores the whole tree.
    pub fn push(&mut self, leaf: Digest) -> Vec<Digest> {
        let mut completed = vec![leaf];
        let mut top = leaf;
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            top = node_hash(&left, &top);
            completed.push(top);
        }
        self.peaks.push(top);
        self.size += 1;
        completed
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The largest power of two below `count`, which is at least two.
const fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root of the leaves `start..end`, where `start` is where RFC 6962 splits (so that all parts are stored nodes).
fn range_root<E>(start: u64, end: u64, node: &mut impl FnMut(u32, u64) -> Result<Digest, E>) -> Result<Digest, E> {
    let count = end - start;
    if count == 0 {
        return Ok(empty_root());
    }
    if count.is_power_of_two() {
        return node(count.trailing_zeros(), start / count);
    }
    let middle = start + split(count);
    let left = range_root(start, middle, node)?;
    Ok(node_hash(&left, &range_root(middle, end, node)?))
}

/// The proof that leaf `index` is in the tree of `size` leaves: siblings from the leaf upwards. Empty when it is not.
///
/// # Errors
/// What `node` answers.
pub fn inclusion_proof<E>(
    index: u64,
    size: u64,
    mut node: impl FnMut(u32, u64) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    if index >= size {
        return Ok(proof);
    }
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(range_root(middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(range_root(start, middle, &mut node)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `new` leaves extends the tree of `old` leaves (RFC 6962, 2.1.2). Empty when `old` is zero,
/// equal to `new`, or larger.
///
/// # Errors
/// What `node` answers.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    mut node: impl FnMut(u32, u64) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    // INVARIANT: start < old <= end, and the old tree's last leaf lies in start..end.
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            proof.push(range_root(middle, end, &mut node)?);
            end = middle;
        } else {
            proof.push(range_root(start, middle, &mut node)?);
            start = middle;
        }
    }
    // The verifier knows the old root already when the old tree is one whole left part.
    if start != 0 {
        proof.push(range_root(start, end, &mut node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that `leaf` is at `index` in the tree of `size` leaves with `root` (RFC 9162, 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `new` leaves with `new_root` extends the one of `old` leaves with `old_root`
/// (RFC 9162, 2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Digest, new: u64, new_root: &Digest, proof: &[Digest]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// A tree that keeps every node, as the database does.
    #[derive(Default)]
    struct Tree {
        frontier: Frontier,
        nodes: HashMap<(u32, u64), Digest>,
        roots: Vec<Digest>,
    }

    impl Tree {
        fn of(leaves: u64) -> Self {
            let mut tree = Self { roots: vec![empty_root()], ..Self::default() };
            for leaf in 0..leaves {
                for (level, node) in (0_u32..).zip(tree.frontier.push(leaf_hash(&leaf.to_be_bytes()))) {
                    tree.nodes.insert((level, leaf >> level), node);
                }
                tree.roots.push(tree.frontier.root());
            }
            tree
        }

        fn node(&self) -> impl FnMut(u32, u64) -> Result<Digest, Infallible> + '_ {
            |level, index| Ok(self.nodes[&(level, index)])
        }
    }

    /// The eight leaves and roots that Certificate Transparency implementations test against.
    #[test]
    fn roots_are_those_of_rfc_6962() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::default();
        assert_eq!(
            frontier.root().to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (leaf, root) in leaves.iter().zip(roots) {
            frontier.push(leaf_hash(leaf));
            assert_eq!(frontier.root().to_string(), format!("sha256:{root}"));
        }
    }

    #[test]
    fn every_small_proof_is_accepted_and_only_for_its_own_place() {
        let tree = Tree::of(40);
        for size in 0..=40_u64 {
            let root = tree.roots[size as usize];
            assert_eq!(Frontier::load(size, tree.node()).unwrap().root(), root);
            for index in 0..size {
                let leaf = leaf_hash(&index.to_be_bytes());
                let proof = inclusion_proof(index, size, tree.node()).unwrap();
                assert!(verify_inclusion(&leaf, index, size, &proof, &root));
                assert!(!verify_inclusion(&leaf, index + 1, size, &proof, &root));
                assert!(!verify_inclusion(&leaf_hash(b"other"), index, size, &proof, &root));
            }
            for old in 0..=size {
                let proof = consistency_proof(old, size, tree.node()).unwrap();
                assert!(verify_consistency(old, &tree.roots[old as usize], size, &root, &proof), "{old} -> {size}");
                if old > 0 {
                    assert!(!verify_consistency(old, &tree.roots[old as usize - 1], size, &root, &proof));
                    assert!(!verify_consistency(old, &tree.roots[old as usize], size, &leaf_hash(b"x"), &proof));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_changed_proof_is_refused(size in 2_u64..200, old in 1_u64..200, at in any::<prop::sample::Index>(), flip in 0_u8..8) {
            let tree = Tree::of(size);
            let old = old % size;
            prop_assume!(old > 0);
            let mut proof = consistency_proof(old, size, tree.node()).unwrap();
            let (before, after) = (tree.roots[old as usize], tree.roots[size as usize]);
            prop_assert!(verify_consistency(old, &before, size, &after, &proof));
            let at = at.index(proof.len());
            let mut bytes = *proof[at].as_bytes();
            bytes[usize::from(flip)] ^= 1 << flip;
            let good = std::mem::replace(&mut proof[at], Digest::from_bytes(bytes));
            prop_assert!(!verify_consistency(old, &before, size, &after, &proof));
            proof[at] = good;
            proof.push(good);
            prop_assert!(!verify_consistency(old, &before, size, &after, &proof));
        }
    }
}
