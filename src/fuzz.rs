//! What must hold whatever the bytes are: one function for each place where bytes come in.
//!
//! Only in tests and under a fuzzer (`fuzz/`); no part of the program. Each function panics when a
//! rule is broken.

pub use crate::host::nodes::fuzz::nodes;
pub use crate::host::usb::fuzz::device;
pub use crate::host::xenstore::fuzz::wire;

use crate::control::protocol::Question;
use crate::convert::{self, Format};
use crate::paper::{self, Recording};
use crate::policy::{self, Linted, Problems, Role, Severity, Source};

/// A line from a client of the control socket: it is a question, which can be written down and means
/// the same again, or it gets an answer of one line that says what is wrong.
///
/// # Panics
///
/// When that does not hold.
pub fn control(bytes: &[u8]) {
    match Question::read(bytes) {
        Ok(question) => {
            let line = question.write().unwrap_or_default();
            let again = Question::read(line.trim_end_matches('\n').as_bytes());
            assert_eq!(again.ok(), Some(question), "{line}");
        }
        Err(reply) => {
            let line = reply.write().unwrap_or_default();
            assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
            assert!(reply.error.is_some_and(|fault| !fault.message.is_empty()));
        }
    }
}

/// A policy's text: it is refused with a place, or understood so that what is understood can be
/// written down and means the same again, and warned of in words that can be shown.
///
/// # Panics
///
/// When that does not hold.
pub fn policy(bytes: &[u8]) {
    let source = Source { name: "policy.yaml", bytes };
    match policy::lint_files(&[(Role::Main, source)]) {
        Ok(Linted { policy, warnings, mentions }) => {
            let nobody = mentions.unknown_to(&[]);
            for warning in warnings.iter().chain(&nobody).flatten() {
                assert_eq!(warning.severity(), Severity::Warning, "{warning}");
                let shown = warning.render(false);
                assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            }
            let text = policy.to_yaml().unwrap_or_default();
            let again = policy::compile(Source { name: "again.yaml", bytes: text.as_bytes() });
            assert_eq!(again.ok(), Some(policy), "{text}");
        }
        Err(problems) => {
            assert!(problems.iter().next().is_some());
            // As the journal and a terminal get to see it: nothing that gives them orders.
            let shown = problems.render(false);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}

/// Somebody else's policy: whatever the bytes are, and whatever format they are said to be in, they become
/// a policy or they are refused with a place.
///
/// # Panics
///
/// When that does not hold.
pub fn convert(bytes: &[u8]) {
    let source = Source { name: "foreign", bytes };
    let detected = convert::detect(source);
    for format in Format::ALL {
        match convert::convert(source, format, "kiosk") {
            Ok(converted) => {
                let name = "converted.yaml";
                let text = converted.policy.as_bytes();
                let rules = policy::compile(Source { name, bytes: text })
                    .map(|policy| policy.rules().len())
                    .map_err(|problems| problems.to_string());
                assert_eq!(rules, Ok(converted.rules), "{}", converted.policy);
            }
            Err(problems) => {
                let shown = problems.render(false);
                assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
                assert!(problems.iter().all(|problem| problem.start().is_some()), "{shown}");
            }
        }
    }
    if detected.is_none() {
        assert!(convert::unknown_format(source).iter().next().is_some());
    }
}

/// The text of a host on paper: it is refused with a place, or understood so that what is recorded of it is
/// read again and recorded alike.
///
/// # Panics
///
/// When that does not hold.
pub fn paper(bytes: &[u8]) {
    let recorded = |bytes: &[u8]| {
        let sheet = paper::read(Source { name: "host.yaml", bytes })?;
        let observed = sheet.host().observed();
        let devices = observed.devices.keys().cloned().collect();
        let recording = Recording {
            observed: &observed,
            devices: &devices,
            udev: None,
            domains: true,
            anonymous: false,
        };
        Ok::<_, Problems>(paper::write(&recording).unwrap_or_default())
    };
    match recorded(bytes) {
        Ok(text) => assert_eq!(recorded(text.as_bytes()).as_ref(), Ok(&text), "{text}"),
        Err(problems) => {
            let shown = problems.render(false);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// What a fuzzer begins with and what it has found.
    fn replay(target: &str, run: fn(&[u8])) {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut count = 0;
        for entry in fs::read_dir(&seeds).unwrap() {
            run(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} is empty", seeds.display());
    }

    #[test]
    fn every_seed_is_taken() {
        replay("wire", wire);
        replay("nodes", nodes);
        replay("device", device);
        replay("policy", policy);
        replay("control", control);
        replay("convert", convert);
        replay("paper", paper);
    }
}
