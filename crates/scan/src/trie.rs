//! [`Trie`]: phrases as a tree of bytes, walked from the places where a phrase may start.
//!
//! Most places in a text are within words, where nothing may start; so walking is several times faster than an automaton
//! over every byte, and the tree is small and quickly built.

/// A tree of bytes. The children of a node stand in a row, ordered.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// The byte that leads to each node.
    labels: Vec<u8>,
    /// The node below the root for each byte; zero: none.
    first: [u32; 256],
    /// The node for each pair of ASCII bytes, where most walks end; zero: none.
    second: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// How many children, at most 255: a byte that no UTF-8 has is left over.
    count: u8,
    /// Where they start.
    children: u32,
    /// The phrase that ends here, and one.
    phrase: u32,
}

impl Trie {
    /// The tree of `phrases`, which are in order and not empty, each with its number.
    pub(crate) fn new(phrases: &[(&[u8], u32)]) -> Self {
        let mut trie =
            Self { nodes: vec![Node::default()], labels: vec![0], first: [0; 256], second: vec![0; 128 * 128] };
        trie.descend(0, 0, phrases);
        trie.root();
        trie
    }

    fn descend(&mut self, node: usize, depth: usize, under: &[(&[u8], u32)]) {
        let mut under = under;
        if let Some(((phrase, number), rest)) = under.split_first()
            && phrase.len() == depth
        {
            if let Some(node) = self.nodes.get_mut(node) {
                node.phrase = number + 1;
            }
            under = rest;
        }
        let byte = |phrase: &[u8]| phrase.get(depth).copied().unwrap_or_default();
        let start = self.nodes.len();
        let groups = || under.chunk_by(|(one, _), (next, _)| byte(one) == byte(next));
        self.labels.extend(groups().filter_map(|group| group.first()).map(|(phrase, _)| byte(phrase)));
        self.nodes.resize(self.labels.len(), Node::default());
        let count = self.nodes.len() - start;
        if let Some(node) = self.nodes.get_mut(node) {
            node.children = u32::try_from(start).unwrap_or(0);
            node.count = u8::try_from(count).unwrap_or(u8::MAX);
        }
        for (index, group) in groups().enumerate() {
            self.descend(start + index, depth + 1, group);
        }
    }

    /// Makes the table of the root.
    fn root(&mut self) {
        let Some(root) = self.nodes.first().copied() else { return };
        for index in 0..u32::from(root.count) {
            let at = root.children + index;
            let byte = self.labels.get(at as usize).copied().unwrap_or_default();
            if let Some(place) = self.first.get_mut(usize::from(byte)) {
                *place = at;
            }
            let Some(node) = self.nodes.get(at as usize).copied() else { continue };
            for child in node.children..node.children + u32::from(node.count) {
                let next = self.labels.get(child as usize).copied().unwrap_or_default();
                if let Some(place) = pair(byte, next).and_then(|pair| self.second.get_mut(pair)) {
                    *place = child;
                }
            }
        }
    }

    /// Whether a phrase may start with `byte`.
    pub(crate) fn starts_with(&self, byte: u8) -> bool {
        self.first.get(usize::from(byte)).is_some_and(|node| *node != 0)
    }

    /// Every phrase that `text` starts with: its length and number.
    pub(crate) fn walk(&self, text: &[u8], mut found: impl FnMut(usize, usize)) {
        let [first, second, ..] = text else { return };
        // No phrase has less than two bytes.
        let (start, from) = match pair(*first, *second) {
            Some(pair) => (self.second.get(pair), 2),
            None => (self.first.get(usize::from(*first)), 1),
        };
        let mut at = start.map_or(0, |node| *node as usize);
        if at == 0 {
            return;
        }
        for length in from.. {
            let Some(node) = self.nodes.get(at) else { return };
            if node.phrase > 0 {
                found(length, node.phrase as usize - 1);
            }
            let Some(next) = text.get(length) else { return };
            let start = node.children as usize;
            let children = self.labels.get(start..start + usize::from(node.count)).unwrap_or_default();
            match memchr::memchr(*next, children) {
                Some(index) => at = start + index,
                None => return,
            }
        }
    }
}

/// The place of a pair of ASCII bytes in the table.
fn pair(first: u8, second: u8) -> Option<usize> {
    (first.is_ascii() && second.is_ascii()).then(|| usize::from(first) << 7 | usize::from(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_that_is_a_prefix_is_found() {
        let phrases = ["ab", "abd", "abdef", "bc", "忽略", "忽视"];
        let numbered: Vec<(&[u8], u32)> = phrases.iter().zip(0..).map(|(phrase, n)| (phrase.as_bytes(), n)).collect();
        let trie = Trie::new(&numbered);
        let found = |text: &str| {
            let mut found = Vec::new();
            trie.walk(text.as_bytes(), |length, number| found.push((length, number)));
            found
        };
        assert_eq!(found("abd!"), [(2, 0), (3, 1)]);
        assert_eq!(found("abdef"), [(2, 0), (3, 1), (5, 2)]);
        assert_eq!(found("a"), []);
        assert_eq!(found("忽视它"), [(6, 5)]);
        assert_eq!(found("cab"), []);
        assert!(trie.starts_with(b'b') && !trie.starts_with(b'c'));
    }
}
