//! Every message of the commands, and of the errors behind them, is in docs/errors.md, and none that there is no
//! more; and a message that names a section of a document names one that is there.
//!
//! The page shows `{placeholders}` as words in capitals. What is nothing but placeholders and signs has no words to
//! be looked up by, and may be missing there.

use super::{assert_none, between, read, sources};
use regex_lite::{Regex, escape};
use std::collections::BTreeSet;

const PAGE: &str = "docs/errors.md";

/// Where a message is in a call: the call, what its arguments begin with, and which of their literals it is.
const CALLS: [(&str, &str, usize); 4] = [
    ("#[error(", "", 0),
    ("writeln!(", "err,", 0),
    ("write!(", "err,", 0),
    // The first is its code.
    ("Fault::new(", "", 1),
];

/// What is shown as a part of errors, and is none itself.
const PARTS: [(&str, &str); 2] = [
    ("src/host/xenstore/error.rs", "impl fmt::Display for During"),
    ("src/model/usage.rs", "impl fmt::Display for Use"),
];

#[test]
fn the_page_of_errors_has_every_message_and_no_other() {
    let mut messages = Vec::new();
    for file in sources() {
        let found = messages_of(&file.text);
        messages.extend(found.into_iter().map(|message| (file.path.clone(), message)));
    }
    for (path, part) in PARTS {
        let code = read(path);
        let part = between(&code, part, "\n}").next().expect("it is shown");
        let found = ["write!(", "write_str("].into_iter().flat_map(|call| calls(part, call));
        messages.extend(found.map(|call| (path.to_owned(), literals(call).remove(0))));
    }
    assert!(messages.len() > 150, "some messages were not found: {}", messages.len());

    let page = read(PAGE);
    let mut unknown: BTreeSet<String> = rows(&page, "message").map(|row| row.0).collect();
    let shown = unknown.clone();
    let mut found = Vec::new();
    for (path, message) in messages {
        let looks = pattern(&message);
        let row = shown.iter().find(|row| looks.is_match(row));
        match row {
            Some(row) => drop(unknown.remove(row)),
            None if has_words(&message) => found.push(format!("{path}: not in {PAGE}: {message}")),
            None => {}
        }
    }
    found.extend(unknown.iter().map(|row| format!("{PAGE}: no message any more: {row}")));
    assert_none(&found);
}

#[test]
fn the_page_of_errors_says_of_every_message_what_to_do() {
    let page = read(PAGE);
    // An empty row is what stands behind the message of the row above, which says it.
    let says = |rest: &str| rest == "| |" || (rest.contains(" | ") && !rest.ends_with("| |"));
    let silent = rows(&page, "message").filter(|(_, rest)| !says(rest));
    let found = silent.map(|(row, _)| format!("{PAGE}: does not say what to do: {row}"));
    assert_none(&found.collect::<Vec<_>>());
}

#[test]
fn the_page_of_errors_has_every_code_of_problems_and_says_what_it_is() {
    let code = read("src/policy/problem.rs");
    let told = between(&code, "    /// P", ".\n").filter_map(|it| it.split_once(": "));
    let told: BTreeSet<_> = told.map(|(n, what)| (format!("P{n}"), what.to_owned())).collect();
    assert!(told.len() > 70, "some codes were not found: {}", told.len());
    let page = read(PAGE);
    let shown = rows(&page, "code").map(|(code, rest)| {
        let what = rest.split(" | ").next().unwrap_or_default();
        (code, what.to_owned())
    });
    let shown: BTreeSet<_> = shown.collect();
    let missing = told.difference(&shown).map(|it| format!("not in {PAGE}: {it:?}"));
    let strange = shown.difference(&told).map(|it| format!("{PAGE}: no such code: {it:?}"));
    assert_none(&missing.chain(strange).collect::<Vec<_>>());
}

/// Messages say it so: `docs/errors.md, "xenstore"`.
#[test]
fn every_section_that_a_message_names_is_there() {
    let named = Regex::new(r#"(docs/[a-z-]+\.md), \\"([^"\\]+)\\""#).expect("a pattern");
    let (mut found, mut count) = (Vec::new(), 0);
    for file in sources() {
        let text = joined(&file.text);
        for names in named.captures_iter(&text) {
            count += 1;
            let (page, section) = (&names[1], &names[2]);
            let is_heading = |line: &str| line.trim_start_matches('#').trim() == section;
            if !read(page).lines().filter(|line| line.starts_with('#')).any(is_heading) {
                found.push(format!("{}: no section \"{section}\" in {page}", file.path));
            }
        }
    }
    assert!(count > 5, "some were not found: {count}");
    assert_none(&found);
}

#[test]
fn messages_are_read_as_they_are_meant() {
    let code = r#"
        #[derive(thiserror::Error)]
        enum E {
            #[error("`{0}` \"is\" {}", .0.len())]
            One(String),
            #[error(
                "two \
                 lines: {{ {x} ({y})"
            )]
            Two { x: u8, y: u8 },
            #[error(transparent)]
            Three(Other),
            #[error("{0}")] #[deprecated] Four(u8),
        }
        fn f() {
            writeln!(out, "an answer {}", g("(")).unwrap();
            write!(
                err,
                "pvusb-agent: no {name}\n\n{MORE}", name = "x)"
            )?;
            Fault::new("code", format!("why {x}")).advice("what helps");
            Fault::new("code", x.to_string()).advice("what helps");
        }
    "#;
    let expected = ["`{0}` \"is\" {}", "two lines: {{ {x} ({y})", "{0}", "no {name}", "why {x}"];
    let mut messages = messages_of(code);
    messages.sort_by_key(|message| expected.iter().position(|it| it == message));
    assert_eq!(messages, expected);
    assert!(has_words(expected[1]) && !has_words("{0}: `{1}`"));
    assert!(pattern(expected[1]).is_match("two lines: { X (YY)"));
    assert!(!pattern(expected[1]).is_match("two lines: { x (YY)"));
    assert!(!pattern("no {name}").is_match("there is no NAME"));
    assert!(pattern("no agent{what}").is_match("no agent, WHAT"));
    let page = "| message | when |\n|---|---|\n| no NAME | it is |\n\n| code | what |\n|---|---|\n| P1 | x |\n";
    assert_eq!(rows(page, "message").collect::<Vec<_>>(), [("no NAME".into(), "it is |".into())]);
}

/// The messages of a file, as they are written; each up to its first end of a line, without the program's name.
fn messages_of(code: &str) -> Vec<String> {
    // By the style of this source, tests are last.
    let code = code.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let found = CALLS.into_iter().flat_map(|(call, begin, which)| {
        let begins = calls(code, call).filter(move |args| args.trim_start().starts_with(begin));
        begins.filter_map(move |args| literals(args).into_iter().nth(which))
    });
    let own = |message: String| {
        let line = message.lines().next().unwrap_or_default().to_owned();
        line.strip_prefix("pvusb-agent: ").map_or(line.clone(), ToOwned::to_owned)
    };
    found.map(own).collect()
}

/// What stands after each `call` in the code, which ends with its parenthesis.
fn calls<'c>(code: &'c str, call: &'c str) -> impl Iterator<Item = &'c str> {
    code.match_indices(call).map(move |(at, _)| &code[at + call.len()..])
}

/// The literals before the parenthesis that closes the call.
fn literals(args: &str) -> Vec<String> {
    let (mut depth, mut found, mut literal) = (1, Vec::new(), None::<String>);
    let args = joined(args);
    let mut chars = args.chars();
    while let Some(c) = chars.next().filter(|_| depth > 0) {
        match (&mut literal, c) {
            (Some(text), '\\') => match chars.next() {
                Some('n') => text.push('\n'),
                other => text.extend(other),
            },
            (Some(_), '"') => found.extend(literal.take()),
            (Some(text), other) => text.push(other),
            (None, '"') => literal = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
    }
    found
}

/// The code with its literals each on one line: a backslash at the end of a line joins it with the next.
fn joined(code: &str) -> String {
    let mut lines = code.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

/// What the page shows of a message.
fn pattern(message: &str) -> Regex {
    let mut pattern = String::from("^");
    for part in parts(message) {
        // What may be empty brings its comma along.
        pattern += &part.map_or("(, )?[A-Z]+".to_owned(), |text| escape(&text));
    }
    Regex::new(&(pattern + "$")).expect("a pattern")
}

fn has_words(message: &str) -> bool {
    parts(message).into_iter().flatten().any(|text| text.contains(char::is_alphabetic))
}

/// The parts of a message: texts, and none for each placeholder.
fn parts(message: &str) -> Vec<Option<String>> {
    let brace = "\u{1}";
    let message = message.replace("{{", brace);
    let (mut parts, mut rest) = (Vec::new(), &*message);
    while let Some((text, after)) = rest.split_once('{') {
        parts.extend([Some(text.replace(brace, "{")), None]);
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    parts.push(Some(rest.replace(brace, "{").replace("}}", "}")));
    parts
}

/// The rows of the tables whose first column is called so: its text, and the rest of the row.
fn rows<'p>(page: &'p str, column: &str) -> impl Iterator<Item = (String, String)> + use<'p> {
    let head = format!("| {column} | ");
    let mut is_meant = false;
    let mut rows = Vec::new();
    for line in page.lines() {
        match line.strip_prefix("| ").and_then(|line| line.split_once(" | ")) {
            Some(_) if line.starts_with(&head) => is_meant = true,
            Some((first, rest)) if is_meant => rows.push((first.to_owned(), rest.to_owned())),
            None if !line.starts_with("|---") => is_meant = false,
            Some(_) | None => {}
        }
    }
    rows.into_iter()
}
