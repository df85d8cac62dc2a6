//! Tables for a terminal, no wider than it is. What is read by programs is `--json`.

use std::io::{self, IsTerminal, Write};

/// A column is not made narrower than this. What is as short as a place or an id is never cut.
const LEAST: usize = 13;

const GAP: &str = "  ";

/// How wide a table may be that goes to standard output, in characters. `None`: as wide as it is, since
/// whoever reads it there looks for lines.
pub(super) fn width() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| terminal_size::terminal_size_of(stdout)).flatten();
    size.map(|(width, _)| usize::from(width.0))
}

/// Writes rows below their headings, each column as wide as its widest cell; the last one is not
/// padded. If that is too wide, the widest columns are made narrower, and their texts go on in the next line.
pub(super) fn write<const N: usize>(
    out: &mut dyn Write,
    width: Option<usize>,
    headings: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let widths = widths(width, headings, rows);
    let mut line = |cells: [&str; N]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", padded.join(GAP).trim_end())
    };
    line(headings)?;
    for row in rows {
        let parts: [Vec<String>; N] =
            std::array::from_fn(|column| wrapped(&row[column], widths[column]));
        let lines = parts.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..lines {
            line(parts.each_ref().map(|part| part.get(number).map_or("", String::as_str)))?;
        }
    }
    Ok(())
}

fn widths<const N: usize>(
    width: Option<usize>,
    headings: [&str; N],
    rows: &[[String; N]],
) -> [usize; N] {
    let mut widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| length(&row[column]));
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    });
    let gaps = GAP.len() * N.saturating_sub(1);
    let mut excess =
        (widths.iter().sum::<usize>() + gaps).saturating_sub(width.unwrap_or(usize::MAX));
    while excess > 0
        && let Some(widest) = widths.iter_mut().max()
        && *widest > LEAST
    {
        *widest -= 1;
        excess -= 1;
    }
    widths
}

/// The text in lines of at most so many characters: broken between words, and within one that is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    if length(text) <= width {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    let mut left = width;
    for word in text.split(' ') {
        let (mut rest, is_first) = (word, left == width);
        let needed = length(word) + usize::from(!is_first);
        if needed > left && !is_first {
            lines.push(String::new());
            left = width;
        }
        if left < width {
            lines.last_mut().into_iter().for_each(|line| line.push(' '));
            left -= 1;
        }
        while length(rest) > left {
            let at = rest.char_indices().nth(left).map_or(rest.len(), |(at, _)| at);
            lines.last_mut().into_iter().for_each(|line| line.push_str(&rest[..at]));
            rest = &rest[at..];
            lines.push(String::new());
            left = width;
        }
        lines.last_mut().into_iter().for_each(|line| line.push_str(rest));
        left -= length(rest);
    }
    lines
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(width: Option<usize>) -> String {
        let row =
            |busid: &str, name: &str, because: &str| [busid, name, because].map(str::to_owned);
        let rows = [
            row("1-1", "Symbol Bar Code Scanner", "front desk scanner (policy.yaml:6)"),
            row("1-2.3", "FTDI", "-"),
        ];
        let mut out = Vec::new();
        write(&mut out, width, ["BUSID", "NAME", "BECAUSE"], &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_is_as_wide_as_its_texts_where_there_is_room() {
        let wide = "\
BUSID  NAME                     BECAUSE
1-1    Symbol Bar Code Scanner  front desk scanner (policy.yaml:6)
1-2.3  FTDI                     -
";
        assert_eq!(table(None), wide);
        assert_eq!(table(Some(66)), wide);
    }

    #[test]
    fn texts_go_on_in_the_next_line_where_there_is_none() {
        let narrow = "\
BUSID  NAME               BECAUSE
1-1    Symbol Bar Code    front desk
       Scanner            scanner
                          (policy.yaml:6)
1-2.3  FTDI               -
";
        assert_eq!(table(Some(42)), narrow);
        assert_eq!(table(Some(1)).lines().next(), Some("BUSID  NAME           BECAUSE"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_line_is_too_long(text in "[a-z ü]{0,60}", width in 1_usize..20) {
            let lines = wrapped(&text, width);
            prop_assert!(lines.iter().all(|line| length(line) <= width));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
