//! Texts of about a MiB that are made to exhaust a reader of policies. The tests and the benchmark share
//! them.

use pvusb_agent::policy::{Code, MAX_BYTES};

/// Texts made to exhaust a reader, each with the code that it deserves.
pub(crate) fn hostile() -> Vec<(&'static str, Vec<u8>, Code)> {
    let mib = 1 << 20;
    let fill = |piece: &str| piece.repeat(mib / piece.len()).into_bytes();
    let after = |start: &str, piece: &str| {
        let room = mib - start.len();
        (start.to_owned() + &piece.repeat(room / piece.len())).into_bytes()
    };
    let lines = |count: usize, line: &dyn Fn(usize) -> String| -> String {
        (0..count).map(line).collect::<Vec<_>>().concat()
    };
    let laughs = lines(9, &|i| match i {
        0 => "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".into(),
        _ => format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(",")),
    });
    let rules = |count: usize, matcher: &dyn Fn(usize) -> String| -> Vec<u8> {
        let rule = |i: usize| format!("- {{match: {{{}}}, attach: a}}\n", matcher(i));
        format!("version: 1\nrules:\n{}", lines(count, &rule)).into()
    };
    let listed = |key: &str| format!("version: 1\nrules:\n- attach: a\n  match:\n    {key}:\n");
    let groups = |count: usize, used: &str| -> Vec<u8> {
        let groups = lines(count, &|i| format!(" g{i}: {{id: '*'}}\n"));
        let last = "- {match: {device: none}, attach: a}\n";
        let uses =
            lines(count / 2, &|i| format!("- {{match: {{device: {used}{i}}}, attach: a}}\n"));
        format!("version: 1\ndevices:\n{groups}rules:\n{uses}{last}").into()
    };
    let stairs = lines(1400, &|depth| format!("{}a:\n", " ".repeat(depth)));
    vec![
        ("100 000 brackets", "[".repeat(100_000).into(), Code::Syntax),
        ("a MiB of brackets", fill("["), Code::Syntax),
        ("a MiB of braces", fill("{a: "), Code::Syntax),
        ("17 brackets, then width", after(&"[".repeat(17), "a,"), Code::TooMany),
        ("dashes", fill("- "), Code::TooDeep),
        ("question marks", fill("? "), Code::TooDeep),
        ("stairs", stairs.into(), Code::TooDeep),
        ("billion laughs", laughs.into(), Code::UnusedYaml),
        ("a wide list", after("a: [", "b,"), Code::TooMany),
        ("a wide list at the top", after("[", "b,"), Code::TooMany),
        ("as wide as it goes", after("[", "b ,      "), Code::Syntax),
        ("a wide map", after("{", "a: b,"), Code::TooMany),
        ("quotes in a flow", after("[", "\"\":"), Code::TooMany),
        ("tags in a flow", after("[", "! "), Code::TooMany),
        ("a long list", fill("-\n"), Code::TooMany),
        ("a long map", fill("a:\n"), Code::TooMany),
        ("a huge text", fill("a"), Code::WrongShape),
        ("a huge quoted key", (format!("\"{}\": b\n", "a".repeat(mib - 10))).into(), Code::Syntax),
        (
            "a huge unknown key",
            format!("? {}\n: b\n", "a".repeat(mib - 10)).into(),
            Code::UnknownKey,
        ),
        ("an open quote", after("\"", "a"), Code::Syntax),
        ("quote marks", fill("\""), Code::Syntax),
        ("blank lines in a block", after("a: |\n", " \n"), Code::UnknownKey),
        ("tag directives", lines(40_000, &|i| format!("%TAG !{i}! tag:x\n")).into(), Code::Syntax),
        ("unknown keys", lines(70_000, &|i| format!("rulez{i}: 1\n")).into(), Code::UnknownKey),
        ("problems on one line", after("version: 1\nrules: [", "aaaaaaaaaaaa, "), Code::Syntax),
        (
            "unknown categories",
            rules(20_000, &|i| format!("category: kboard{i}")),
            Code::BadCategory,
        ),
        ("a list of unknown words", after(&listed("speed"), "    - hihg\n"), Code::BadSpeed),
        ("bad ids", after(&listed("id"), "    - 5e0\n"), Code::BadId),
        ("other programs' keys", rules(20_000, &|_| "vendorId: a".into()), Code::UnknownKey),
        (
            "regular expressions",
            rules(15_000, &|i| format!("serial: /(a|b{i})*c/")),
            Code::TooIntricate,
        ),
        (
            "the largest regular expressions",
            rules(15_000, &|_| r"serial: '/\w{99}/'".into()),
            Code::TooIntricate,
        ),
        (
            "regular expressions that grow too large",
            rules(15_000, &|_| r"serial: '/(\w{99}){99}/'".into()),
            Code::BadTextPattern,
        ),
        ("groups that are not there", groups(20_000, "h"), Code::UnknownGroup),
        ("groups, and one that is not there", groups(20_000, "g"), Code::UnknownGroup),
        ("zeros", vec![0; mib], Code::HiddenCharacter),
        (
            "not text",
            (0..mib).map(|i| u8::try_from(i * 7919 % 251).unwrap()).collect(),
            Code::NotUtf8,
        ),
        ("not text at the end", [vec![b' '; mib - 1], vec![0xff]].concat(), Code::NotUtf8),
        ("one byte too many", vec![b' '; MAX_BYTES + 1], Code::TooLong),
    ]
}
