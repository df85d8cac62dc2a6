//! The nearest known word to one that is not known.

/// Longer words are not compared: nothing here is as long, and the cost grows with the length.
const MAX_CHARS: usize = 32;

/// The one of `known` that `word` was most likely meant to be: letters swapped, missing, added or
/// replaced, one in three at most.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(MAX_CHARS + 1).flat_map(char::to_lowercase).collect();
    if word.len() > MAX_CHARS {
        return None;
    }
    let distances = known.iter().map(|known| {
        let letters: Vec<char> = known.chars().collect();
        (distance(&word, &letters), letters.len().max(word.len()), *known)
    });
    let (distance, length, nearest) = distances.min_by_key(|(distance, ..)| *distance)?;
    (distance * 3 <= length.max(3)).then_some(nearest)
}

/// The least number of insertions, deletions, replacements and swaps of neighbours that turn `a`
/// into `b` ("optimal string alignment").
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(above.len());
        row.push(i + 1);
        for (j, cb) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(ca != cb);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_seen_and_another_word_is_not() {
        let known = ["name", "match", "attach", "keep", "bus_address"];
        let cases = [
            ("mathc", Some("match")),
            ("Match", Some("match")),
            ("atach", Some("attach")),
            ("bus-address", Some("bus_address")),
            ("kep", Some("keep")),
            ("vendor", None),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest(&"match".repeat(100_000), &known), None);
    }
}
