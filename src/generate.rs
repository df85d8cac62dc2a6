//! A FIRST POLICY from what is plugged: a rule for each device, none of which changes anything.
//!
//! What dom0 needs is listed in `protect`. Everything else gets a rule that is switched off, to be
//! switched on by a person; a domain that is named gets them at once. What the agent has put into a
//! domain or has blocked stays as it is.
//!
//! Pure: what was seen is an argument. Not in here: looking, and what a rule means.

use crate::convert::write::{Act, RuleText, Yaml, all_of, comment, exactly};
use crate::model::{Device, Guest, Life, NoteState, Observed, Text, Use};
use crate::plan::interlock::guard_data;
use crate::policy::{Candidate, Category, Policy};

/// How a device is named, so that it is found again.
struct Name {
    conditions: Vec<(String, Yaml)>,
    /// What a reader must know of that.
    remark: Option<&'static str>,
}

/// Writes a policy for the devices of `observed`, in YAML. What dom0 does not need goes to `domain`, if
/// one is named. Hubs get no rule.
pub fn policy(observed: &Observed, domain: Option<&str>) -> String {
    let mut text = String::new();
    for line in head(observed, domain) {
        comment(&line, "", &mut text);
    }
    text.push_str("version: 1\n");
    let devices = || observed.devices.values().filter(|device| !device.is_hub());
    let needed: Vec<(&Device, Vec<String>)> = devices()
        .filter(|device| is_in_dom0(device, observed))
        .map(|device| (device, needs(device)))
        .filter(|(_, why)| !why.is_empty())
        .collect();
    if !needed.is_empty() {
        text.push('\n');
        let said = "What dom0 needs. These stay in dom0 whatever the rules say; take a line out to give the device away.";
        comment(said, "", &mut text);
        text.push_str("protect:\n");
    }
    for (device, why) in &needed {
        describe(device, observed, &mut text);
        comment(&format!("{}.", why.join(", ")), "  ", &mut text);
        let name = name(device, observed);
        comment_all(name.remark, &mut text);
        let mut line = String::new();
        all_of(name.conditions).write_flow(&mut line);
        text.push_str("  - ");
        text.push_str(&line);
        text.push('\n');
    }
    let others: Vec<&Device> =
        devices().filter(|device| !needed.iter().any(|(it, _)| it.busid == device.busid)).collect();
    text.push_str(if others.is_empty() { "\nrules: []\n" } else { "\nrules:\n" });
    for (at, device) in others.into_iter().enumerate() {
        text.push_str(if at > 0 { "\n" } else { "" });
        rule(device, observed, domain, &mut text);
    }
    text
}

fn head(observed: &Observed, domain: Option<&str>) -> Vec<String> {
    let running = running(observed).map(|guest| guest.name.to_string()).collect::<Vec<_>>();
    let domains = match running.as_slice() {
        [] => "No domain runs.".to_owned(),
        names => format!("Domains that run: {}.", Text::from(&*names.join(", "))),
    };
    let said = match domain {
        None => "It changes nothing: the rules are switched off. For each device that a domain is to get, name the \
                 domain and take `enabled: false` out."
            .to_owned(),
        Some(domain) => {
            format!("What dom0 does not need goes to {}.", Text::from(domain))
        }
    };
    vec!["A policy for what is plugged, made by pvusb-agent generate.".to_owned(), said, domains]
}

fn rule(device: &Device, observed: &Observed, domain: Option<&str>, text: &mut String) {
    describe(device, observed, text);
    let mut name = name(device, observed);
    let note = observed.xen.notes.get(&device.busid).map(|note| &note.state);
    let place = observed.xen.places_of(&device.busid).next();
    let there = place.and_then(|place| observed.xen.guests.get(&place.domid));
    let is_ours = place.is_some_and(|place| observed.xen.is_ours(&device.busid, place));
    let first = running(observed).next().map(|guest| guest.name.to_string());
    let (enabled, action, remark) = match (note, there) {
        (Some(NoteState::Attached { .. }), Some(guest)) if is_ours => {
            let remark = "The agent has put it there, and leaves it there.";
            (true, Act::Attach(vec![guest.name.to_string()]), Some(remark))
        }
        (_, Some(guest)) => {
            let remark = "Somebody has put it there with xl, and it is left alone.";
            (false, Act::Attach(vec![guest.name.to_string()]), Some(remark))
        }
        (Some(NoteState::Blocked), None) => (true, Act::Block, Some("The agent has blocked it.")),
        (_, None) => match (domain, first) {
            (Some(domain), _) => (true, Act::Attach(vec![domain.to_owned()]), None),
            (None, Some(first)) => (false, Act::Attach(vec![first]), None),
            (None, None) => (false, Act::Attach(vec!["name-of-a-domain".to_owned()]), None),
        },
    };
    comment_all(name.remark.take(), text);
    comment_all(remark, text);
    let rule = RuleText {
        comments: Vec::new(),
        name: None,
        enabled,
        matcher: all_of(name.conditions),
        action,
    };
    rule.write(text);
}

/// What it is and where.
fn describe(device: &Device, observed: &Observed, text: &mut String) {
    let name = device.called();
    let words: Vec<&str> = Category::of(device).map(Category::word).collect();
    let drivers = Candidate::of(device, observed).drivers().into_iter().map(Text::from);
    let drivers: Vec<String> = drivers.map(|driver| driver.to_string()).collect();
    let mut parts =
        vec![format!("{}: {name}", device.busid).trim_end_matches([':', ' ']).to_owned()];
    for (what, list) in [("category", words.join(", ")), ("driver", drivers.join(", "))] {
        if !list.is_empty() {
            parts.push(format!("{what} {list}"));
        }
    }
    comment(&parts.join("; "), "  ", text);
}

fn comment_all(remark: Option<&str>, text: &mut String) {
    if let Some(remark) = remark {
        comment(remark, "  ", text);
    }
}

/// Whether it is where a device without a rule is.
fn is_in_dom0(device: &Device, observed: &Observed) -> bool {
    let note = observed.xen.notes.get(&device.busid).map(|note| &note.state);
    note != Some(&NoteState::Blocked) && observed.xen.places_of(&device.busid).next().is_none()
}

/// What dom0 does with it, or may do, that it should not lose.
fn needs(device: &Device) -> Vec<String> {
    let mut why: Vec<String> = Vec::new();
    if let Err(refusal) = guard_data(device) {
        why.push(format!("dom0 uses it: {refusal}"));
    }
    for what in &device.uses {
        if let Use::Route { .. } = what {
            why.push(format!("dom0 uses it: {what}"));
        }
    }
    if device.may_be_keyboard() {
        why.push("It is a keyboard".to_owned());
    }
    if device.may_be_pointer() {
        why.push("It is a pointer".to_owned());
    }
    why
}

/// By its id and serial number if no other device that is plugged has them; by its port otherwise.
fn name(device: &Device, observed: &Observed) -> Name {
    let id = || ("id".to_owned(), Yaml::text(device.id.to_string()));
    let serial = device.serial.as_ref().filter(|serial| is_sayable(serial));
    let has_twin = observed.devices.values().any(|other| {
        other.busid != device.busid
            && other.id == device.id
            && (serial.is_none() || other.serial == device.serial)
    });
    let mut conditions = vec![id()];
    let mut remark = None;
    if let (Some(serial), false) = (serial, has_twin) {
        conditions.push(("serial".to_owned(), exactly(serial)));
    } else if has_twin {
        let port = match &device.anchor {
            Some(anchor) => anchor.to_string(),
            None => device.busid.to_string(),
        };
        conditions.push(("port".to_owned(), Yaml::text(port)));
        remark = Some("Others like it are plugged, so it goes by its port.");
    } else {
        remark = Some("It has no serial number: every device of this id is meant.");
    }
    let is_right = |conditions: &[(String, Yaml)]| {
        compiled(conditions)
            .is_some_and(|policy| policy.judge(&Candidate::of(device, observed)).is_some())
    };
    if !is_right(&conditions) {
        // A port in a form that is not known here, a text that is no pattern: what is always known.
        conditions = vec![id(), ("port".to_owned(), Yaml::text(device.busid.to_string()))];
        remark = Some("It goes by its port.");
    }
    Name { conditions, remark }
}

/// Whether a serial number tells one device from another.
fn is_sayable(serial: &Text) -> bool {
    !serial.as_str().trim_matches(['0', ' ']).is_empty()
}

/// A policy that keeps what is like this.
fn compiled(conditions: &[(String, Yaml)]) -> Option<Policy> {
    let rule = RuleText {
        comments: Vec::new(),
        name: None,
        enabled: true,
        matcher: all_of(conditions.to_vec()),
        action: Act::Keep,
    };
    let mut text = String::from("version: 1\nrules:\n");
    rule.write(&mut text);
    crate::policy::compile(crate::policy::Source { name: "rule", bytes: text.as_bytes() }).ok()
}

fn running(observed: &Observed) -> impl Iterator<Item = &Guest> {
    observed.xen.guests.values().filter(|guest| guest.life == Life::Running)
}
