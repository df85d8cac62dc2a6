//! What shells complete: they ask the program itself which words fit at a place of its command line.
//!
//! An answer goes into a shell while somebody types. So it comes soon, holds nothing but candidates, and never an
//! error. A candidate's value means nothing special to any shell ([`is_plain`]); what devices and guests say of
//! themselves is shown beside it, escaped. What is plugged and which domains run is in [`live`]; how a shell asks
//! and shows is in its script, `dist/completions`, which is a part of the program. No quoting here: files are
//! left to the shells, which know how theirs is done.

mod live;

use super::{EX_IOERR, EX_OK};
use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, complete};
use std::ffi::{OsStr, OsString};
use std::io::Write;

/// The variable by which a shell asks; its value is the shell's name.
pub(super) const VARIABLE: &str = "COMPLETE";

/// What each shell reads to learn whom it is to ask, and how.
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("../../dist/completions/pvusb-agent.bash")),
    ("zsh", include_str!("../../dist/completions/_pvusb-agent")),
    ("fish", include_str!("../../dist/completions/pvusb-agent.fish")),
];

/// The answers that are no words, but say what the shell is to complete by itself. No word begins with a colon.
const FILES: &str = ":files";
const DIRECTORIES: &str = ":directories";

/// What a shell wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Its script.
    Script(&'static str),
    /// What the last of these words can become; the first is the program's name.
    Words(Vec<OsString>),
}

impl Question {
    /// The question that is asked by the value of [`VARIABLE`] and the whole command line. `None`: this is a
    /// call as any other, also with such a variable left in the environment.
    pub(super) fn asked(shell: Option<&OsStr>, args: &[OsString]) -> Option<Self> {
        let (_, script) = SCRIPTS.into_iter().find(|(name, _)| shell == Some(OsStr::new(name)))?;
        match args {
            [_] => Some(Self::Script(script)),
            [_, dashes, words @ ..] if dashes == "--" && !words.is_empty() => {
                Some(Self::Words(words.to_vec()))
            }
            _ => None,
        }
    }
}

/// Answers; gives the exit code.
pub(super) fn run(question: Question, out: &mut dyn Write) -> u8 {
    let text = match question {
        Question::Script(text) => text.to_owned(),
        Question::Words(words) => lines(&candidates(super::command(), words)),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => EX_OK,
        Err(_) => EX_IOERR,
    }
}

/// What fits in the place of the last word.
fn candidates(command: Command, words: Vec<OsString>) -> Vec<CompletionCandidate> {
    let Some(last) = words.len().checked_sub(1) else { return Vec::new() };
    let wants_option = words[last].as_encoded_bytes().starts_with(b"-");
    let found = complete(&mut with_values(command), words, last, None).unwrap_or_default();
    // clap offers options in every place, and a shell would then begin one by itself: `--` is what they have in
    // common.
    let is_option = |it: &CompletionCandidate| it.get_value().as_encoded_bytes().starts_with(b"-");
    found.into_iter().filter(|it| wants_option || !is_option(it)).collect()
}

/// One line for each: the value, and after a tab what it is.
fn lines(candidates: &[CompletionCandidate]) -> String {
    if let Some(own) = candidates.iter().find_map(left_to_the_shell) {
        return format!("{own}\n");
    }
    let mut text = String::new();
    for candidate in candidates {
        let Some(value) = candidate.get_value().to_str().filter(|it| is_plain(it)) else {
            continue;
        };
        text += value;
        if let Some(help) = candidate.get_help() {
            let help = help.to_string();
            text.extend(["\t", help.lines().next().unwrap_or_default()]);
        }
        text += "\n";
    }
    text
}

/// Which answer says that these are files, if they are. The value may have an option before it.
fn left_to_the_shell(candidate: &CompletionCandidate) -> Option<&'static str> {
    let tag = candidate.get_tag()?.to_string();
    [FILES, DIRECTORIES].into_iter().find(|own| *own == tag)
}

/// Whether a word is itself in every shell, wherever it stands: nothing in it is replaced, ends it, or needs
/// quotes.
fn is_plain(word: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.:+=@".contains(c);
    word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && word.chars().all(is_inner)
}

/// The command, with what fits for each argument that is named by what it takes, in all of its verbs.
fn with_values(command: Command) -> Command {
    command.mut_args(with_value).mut_subcommands(with_values)
}

fn with_value(arg: Arg) -> Arg {
    let takes =
        arg.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str);
    let completer = match (takes, arg.get_id().as_str()) {
        (Some("DEVICE"), _) => ArgValueCompleter::new(live::devices),
        (Some("DOMAIN"), _) => ArgValueCompleter::new(live::domains),
        (_, "domain") => ArgValueCompleter::new(live::domain_names),
        (Some("DIR"), _) => ArgValueCompleter::new(|typed: &OsStr| own(DIRECTORIES, typed)),
        (Some("FILE"), _) => ArgValueCompleter::new(|typed: &OsStr| own(FILES, typed)),
        _ if arg.get_value_hint() == ValueHint::AnyPath => {
            ArgValueCompleter::new(|typed: &OsStr| own(FILES, typed))
        }
        _ => return arg,
    };
    arg.add(completer)
}

/// What the shell completes by itself; an option that was begun is no such thing.
fn own(what: &'static str, typed: &OsStr) -> Vec<CompletionCandidate> {
    let is_option = typed.as_encoded_bytes().starts_with(b"-");
    let own = (!is_option).then(|| CompletionCandidate::new(what).tag(Some(what.into())));
    own.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(words: &[&str]) -> String {
        let words = [&["pvusb-agent"], words].concat().into_iter().map(OsString::from).collect();
        lines(&candidates(super::super::command(), words))
    }

    fn values(words: &[&str]) -> Vec<String> {
        let value = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        answer(words).lines().map(value).collect()
    }

    #[test]
    fn verbs_options_and_choices_come_with_what_they_are() {
        assert_eq!(
            answer(&["detac"]),
            "detach\tTake a device back to dom0 and leave it there until it is plugged again\n"
        );
        assert_eq!(answer(&["list", "--js"]), "--json\tAnswer in JSON\n");
        assert_eq!(values(&["convert", "--from", "x"]), ["xapi"]);
        assert_eq!(values(&["convert", "--from=x"]), ["--from=xapi"]);
        assert_eq!(values(&["help", "det"]), ["detach"]);
    }

    #[test]
    fn files_are_left_to_the_shell_and_options_are_shown_to_who_has_begun_one() {
        for words in [
            &["check", ""][..],
            &["check", "x.yaml", "po"],
            &["run", "--policy", ""],
            &["run", "--policy=/etc/"],
            &["diff", "ne"],
            &["rehearse", ""],
            &["status", "--socket", ""],
            &["convert", ""],
        ] {
            assert_eq!(answer(words), ":files\n", "{words:?}");
        }
        assert_eq!(answer(&["list", "--libxl-dir", "/v"]), ":directories\n");
        let options = values(&["check", "-"]);
        assert!(
            options.contains(&"--show".to_owned()) && options.iter().all(|it| it.starts_with('-'))
        );
        assert!(values(&["status", "-"]).contains(&"--json".to_owned()));
        assert_eq!(values(&["status", ""]), [""; 0]);
        assert_eq!(values(&["rehearse", "--nonsense"]), [""; 0]);
    }

    #[test]
    fn only_a_shell_that_asks_is_answered() {
        let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
        let asked =
            |shell: &str, line: &[&str]| Question::asked(Some(OsStr::new(shell)), &args(line));
        let words = Some(Question::Words(args(&["pvusb-agent", "li"])));
        assert_eq!(asked("zsh", &["/bin/x", "--", "pvusb-agent", "li"]), words);
        assert!(
            matches!(asked("bash", &["x"]), Some(Question::Script(text)) if text.contains("COMPREPLY"))
        );
        assert_eq!(asked("bash", &["x", "list"]), None);
        assert_eq!(asked("bash", &["x", "--"]), None);
        assert_eq!(asked("1", &["x"]), None);
        assert_eq!(Question::asked(None, &args(&["x"])), None);
    }

    #[test]
    fn what_a_shell_would_read_into_is_not_plain() {
        for word in
            ["1-1.4", "05e0:1200", "kiosk", "--from=xapi", "6d3ae5a6-2c8c-4c8b-9d1e-0c5b7d1f2a30"]
        {
            assert!(is_plain(word), "{word}");
        }
        for word in [
            "", "a b", "$(x)", "`x`", "a;b", "*", "~x", "=x", "a'b", "a\"b", "a\\b", "a\tb",
            "a\nb", "!x", "é", ":files",
        ] {
            assert!(!is_plain(word), "{word}");
        }
        let odd = [CompletionCandidate::new("$(x)"), CompletionCandidate::new("y")];
        assert_eq!(lines(&odd), "y\n");
    }
}
