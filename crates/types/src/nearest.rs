//! [`nearest`]: what a mistyped name was meant to be.

/// The known name that `wrong` most likely means: at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wrong.chars().count().div_ceil(3).max(1);
    known.into_iter().map(|name| (distance(wrong, name), name)).filter(|(far, _)| *far <= limit).min().map(|(_, n)| n)
}

/// Edits (insert, remove, replace) between two short texts.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut last = i + 1;
        if let Some(first) = row.first_mut() {
            *first = last;
        }
        for (cell, b) in row.iter_mut().skip(1).zip(&right) {
            let cost = (diagonal + usize::from(a != *b)).min(*cell + 1).min(last + 1);
            diagonal = *cell;
            *cell = cost;
            last = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_close_or_none() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("data_dri", ["data_dir", "listen"]), Some("data_dir"));
        assert_eq!(nearest("lsten", ["data_dir", "listen"]), Some("listen"));
        assert_eq!(nearest("zzz", ["data_dir", "listen"]), None);
    }
}
