//! Values without quotes that other readers of YAML take for something else than text.
//!
//! Here everything is text, so nothing is misread. But editors, other programs and the next person
//! read the same file.

use crate::policy::read::keys::Form;

/// What a value without quotes is to a reader of YAML 1.1 or 1.2, if it is no text to it. `None` also
/// where such a value is meant.
pub(super) fn other_meaning(text: &str, form: &Form) -> Option<&'static str> {
    let is_meant = matches!(
        form,
        Form::Version | Form::Truth | Form::True | Form::Number(..) | Form::Duration
    );
    if is_meant { None } else { meaning(text) }
}

/// The same of a text that is certainly meant as one.
pub(super) fn meaning(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "yes" | "no" | "on" | "off" | "true" | "false" | "y" | "n" => return Some("a truth value"),
        "null" | "~" => return Some("nothing"),
        _ => {}
    }
    if is_number(&lower) {
        return Some("a number");
    }
    if is_sexagesimal(&lower) {
        return Some("a number in base 60");
    }
    is_date(&lower).then_some("a date")
}

/// Numbers of YAML 1.1 (<https://yaml.org/type/int.html>, `float.html`) and of the core schema of 1.2.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str, of: fn(&u8) -> bool| {
        !text.is_empty() && text.bytes().all(|byte| of(&byte) || byte == b'_')
    };
    if let Some(hex) = unsigned.strip_prefix("0x") {
        return digits(hex, u8::is_ascii_hexdigit);
    }
    if let Some(rest) = unsigned.strip_prefix("0o").or_else(|| unsigned.strip_prefix("0b")) {
        return digits(rest, u8::is_ascii_digit);
    }
    if matches!(unsigned, ".inf" | ".nan") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let is_exponent = |text: &str| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let begins = mantissa.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
    begins
        && (digits(whole, u8::is_ascii_digit) || digits(part, u8::is_ascii_digit))
        && (whole.is_empty() || digits(whole, u8::is_ascii_digit))
        && (part.is_empty() || digits(part, u8::is_ascii_digit))
        && exponent.is_none_or(is_exponent)
}

/// `10:06:50` is 36410 to YAML 1.1.
fn is_sexagesimal(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let is_first = first.starts_with(|c: char| matches!(c, '1'..='9'))
        && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let mut rest = parts.peekable();
    is_first
        && rest.peek().is_some()
        && rest.all(|part| {
            let bytes = part.as_bytes();
            matches!(bytes, [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
        })
}

/// `2024-01-31`, as YAML 1.1 knows it; with a time after it or without.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, least: usize, most: usize| {
        part.is_some_and(|part| {
            (least..=most).contains(&part.len()) && part.bytes().all(|it| it.is_ascii_digit())
        })
    };
    digits(parts.next(), 4, 4)
        && digits(parts.next(), 1, 2)
        && digits(parts.next().map(|day| day.split([' ', 't']).next().unwrap_or(day)), 1, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_something_else_is_known() {
        let cases = [
            ("a number", "12 0951 1e10 12_34 0x1e 1.10 2.0 -1 .5 08 0o17 .nan 1_0.5"),
            ("a truth value", "yes No ON off true y"),
            ("nothing", "~ null"),
            ("a number in base 60", "10:06:50 1:30"),
            ("a date", "2024-01-31 2024-1-1t10:00:00z"),
        ];
        for (expected, texts) in cases {
            for text in texts.split(' ') {
                assert_eq!(meaning(text), Some(expected), "{text}");
            }
        }
        let plain = "05e0:1200 1-1.4 08:06:50 kiosk e0:01:01 1.2.3 x1e10 1e 0x 3.* 1234:5678 . 1-1";
        for text in plain.split(' ') {
            assert_eq!(meaning(text), None, "{text}");
        }
    }
}
