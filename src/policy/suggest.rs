//! The known word that was most likely meant by one that is not known: because other programs use it, or
//! because it is near.

/// Longer words are not compared: nothing here is as long, and the cost grows with the length.
const MAX_CHARS: usize = 32;

/// What other programs and other people call the keys, and what they are called here; of several, the
/// first that there is in that place. In lower case, without `_`, `-` and blanks.
///
/// From libvirt's `<hostdev>`, `lsusb -v`, sysfs and udev, `xl usbdev-attach`, the rules of `USBGuard`, xapi's
/// usb-policy.conf, `OpenXT`'s rules, vhotplug, EVE, Qubes, usbip and `VirtualBox`.
const OTHER_NAMES: [(&str, &[&str]); 125] = [
    // What it is.
    ("vendor", &["id"]),
    ("vendorid", &["id"]),
    ("idvendor", &["id"]),
    ("vid", &["id"]),
    ("productid", &["id"]),
    ("idproduct", &["id"]),
    ("pid", &["id"]),
    ("deviceid", &["id"]),
    ("devid", &["id"]),
    ("vidpid", &["id"]),
    ("usbid", &["id"]),
    ("hardwareid", &["id"]),
    ("hwid", &["id"]),
    ("ids", &["id"]),
    ("serialnumber", &["serial"]),
    ("serialno", &["serial"]),
    ("devserial", &["serial"]),
    ("iserial", &["serial"]),
    ("vendorname", &["manufacturer"]),
    ("maker", &["manufacturer"]),
    ("mfr", &["manufacturer"]),
    ("imanufacturer", &["manufacturer"]),
    ("productname", &["product"]),
    ("devicename", &["product"]),
    ("model", &["product"]),
    ("iproduct", &["product"]),
    ("bdeviceclass", &["class"]),
    ("deviceclass", &["class"]),
    ("classid", &["class"]),
    ("withinterface", &["interface"]),
    ("interfaceclass", &["interface"]),
    ("binterfaceclass", &["interface"]),
    ("subclass", &["interface"]),
    ("interfacesubclass", &["interface"]),
    ("protocol", &["interface"]),
    ("interfaceprotocol", &["interface"]),
    ("prot", &["interface"]),
    ("bcdusb", &["usb_version"]),
    ("usb", &["usb_version", "match"]),
    ("usbver", &["usb_version", "version"]),
    ("usbversion", &["usb_version", "version"]),
    ("version", &["usb_version"]),
    ("kind", &["category", "type"]),
    ("type", &["category"]),
    ("keyboard", &["category"]),
    ("mouse", &["category"]),
    ("pointer", &["category"]),
    ("storage", &["category"]),
    ("massstorage", &["category"]),
    ("connecttype", &["removable"]),
    ("withconnecttype", &["removable"]),
    ("drivers", &["driver"]),
    ("driverpath", &["driver"]),
    ("module", &["driver"]),
    // Where it is.
    ("viaport", &["port"]),
    ("busid", &["port"]),
    ("devpath", &["port"]),
    ("portpath", &["port"]),
    ("path", &["port"]),
    ("idpath", &["port"]),
    ("location", &["port"]),
    ("anchor", &["port"]),
    ("hostport", &["port"]),
    ("hostbus", &["bus_address"]),
    ("hostaddr", &["bus_address"]),
    ("hostdevice", &["bus_address"]),
    ("bus", &["bus_address"]),
    ("busnum", &["bus_address"]),
    ("devnum", &["bus_address"]),
    ("addr", &["bus_address"]),
    ("address", &["bus_address"]),
    ("parent", &["behind"]),
    ("parentof", &["behind"]),
    ("parenthash", &["behind"]),
    ("hub", &["behind"]),
    ("hubs", &["behind"]),
    // udev and sysfs.
    ("env", &["property", "udev"]),
    ("property", &["udev"]),
    ("properties", &["property", "udev"]),
    ("attr", &["attribute", "udev"]),
    ("attribute", &["udev"]),
    ("attributes", &["attribute", "udev"]),
    ("sysattr", &["attribute", "udev"]),
    ("tag", &["udev"]),
    ("tags", &["tag", "udev"]),
    // Logic.
    ("except", &["not"]),
    ("exclude", &["not"]),
    ("noneof", &["none", "not"]),
    ("or", &["any"]),
    ("anyof", &["any"]),
    ("oneof", &["any"]),
    ("and", &["all"]),
    ("allof", &["all"]),
    ("equals", &["only"]),
    ("group", &["device"]),
    // What a rule does.
    ("allow", &["attach"]),
    ("assign", &["attach"]),
    ("target", &["attach"]),
    ("targetvm", &["attach"]),
    ("allowedvms", &["attach"]),
    ("vm", &["domain", "attach"]),
    ("vmuuid", &["domain", "attach"]),
    ("domain", &["attach"]),
    ("guest", &["domain", "attach"]),
    ("deny", &["block", "not"]),
    ("reject", &["block"]),
    ("forbid", &["block"]),
    ("ignore", &["keep"]),
    ("skip", &["keep"]),
    ("host", &["keep"]),
    ("if", &["when"]),
    ("condition", &["when"]),
    ("comment", &["description"]),
    ("disabled", &["enabled"]),
    ("settle", &["wait"]),
    // Controllers, and what holds for all.
    ("backend", &["type"]),
    ("usbctrl", &["controller"]),
    ("count", &["plugs"]),
    ("interval", &["within"]),
    ("period", &["within"]),
    ("usbpassthrough", &["rules"]),
    ("usbrules", &["rules"]),
    ("aliases", &["domains"]),
    ("vms", &["domains"]),
    ("groups", &["devices"]),
];

/// Keys whose values are not plain: how one is written.
const EXAMPLES: [(&str, &str); 4] = [
    ("id", "`id: \"05e0:1200\"` is vendor and product, `id: \"05e0:*\"` all of a vendor"),
    ("bus_address", "`bus_address: \"1.6\"` is bus and device number in decimal"),
    ("interface", "`interface: \"08:06:*\"` is class, subclass and protocol"),
    ("udev", "`udev: {property: {NAME: value}}`"),
];

/// The one of `keys` that was most likely meant.
pub(super) fn key<'k>(word: &str, keys: &[&'k str]) -> Option<&'k str> {
    let plain: String = word.chars().take(MAX_CHARS).filter(|c| c.is_alphanumeric()).collect();
    let plain = plain.to_lowercase();
    let other = OTHER_NAMES.iter().find(|(name, _)| *name == plain);
    let meant = other.and_then(|(_, meant)| {
        meant.iter().find_map(|meant| keys.iter().find(|key| *key == meant).copied())
    });
    meant.or_else(|| nearest(word, keys)).or_else(|| near_other_name(&plain, keys))
}

/// The key that a misspelt word of another program's means. Short words are near to many. Slips are seldom in
/// the first letter, and there are many words: those that begin otherwise are not compared.
fn near_other_name<'k>(plain: &str, keys: &[&'k str]) -> Option<&'k str> {
    const LEAST: usize = 5;
    let known = OTHER_NAMES.iter().filter(|(name, meant)| {
        name.len() >= LEAST
            && name.chars().next() == plain.chars().next()
            && meant.iter().any(|meant| keys.contains(meant))
    });
    let known: Vec<&str> = known.map(|(name, _)| *name).collect();
    let name = (plain.len() >= LEAST).then(|| nearest(plain, &known)).flatten()?;
    let (_, meant) = OTHER_NAMES.iter().find(|(other, _)| *other == name)?;
    meant.iter().find_map(|meant| keys.iter().find(|key| *key == meant).copied())
}

/// What helps somebody who meant `key` and wrote `word`.
pub(super) fn advice(word: &str, key: &str) -> String {
    let example = EXAMPLES.iter().find(|(name, _)| *name == key);
    match example.filter(|_| nearest(word, &[key]).is_none()) {
        Some((_, example)) => format!("did you mean `{key}`? {example}"),
        None => format!("did you mean `{key}`?"),
    }
}

/// The one of `known` that `word` was most likely meant to be: letters swapped, missing, added or
/// replaced, one in three at most.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(MAX_CHARS + 1).flat_map(char::to_lowercase).collect();
    if word.len() > MAX_CHARS {
        return None;
    }
    let distances = known.iter().filter_map(|known| {
        let letters: Vec<char> = known.chars().collect();
        let length = letters.len().max(word.len());
        // Each letter more or less counts.
        let is_far = letters.len().abs_diff(word.len()) * 3 > length.max(3);
        (!is_far).then(|| (distance(&word, &letters), length, *known))
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
    use crate::policy::read::keys::{MATCH_KEYS, RULE_KEYS};

    #[test]
    fn the_words_of_other_programs_lead_to_keys_that_there_are() {
        let names =
            OTHER_NAMES.iter().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(names.len(), OTHER_NAMES.len());
        let in_match: Vec<&str> = MATCH_KEYS.iter().map(|key| key.name).collect();
        let in_rule: Vec<&str> = RULE_KEYS.iter().map(|key| key.name).collect();
        let cases = [
            ("vendorId", &in_match, Some("id")),
            ("idVendor", &in_match, Some("id")),
            ("class_id", &in_match, Some("class")),
            ("hostbus", &in_match, Some("bus_address")),
            ("via-port", &in_match, Some("port")),
            ("with-interface", &in_match, Some("interface")),
            ("deny", &in_match, Some("not")),
            ("deny", &in_rule, Some("block")),
            ("targetVm", &in_rule, Some("attach")),
            ("matc", &in_rule, Some("match")),
            ("vndor", &in_match, Some("id")),
            ("produkt_id", &in_match, Some("id")),
            ("colour", &in_match, None),
        ];
        for (word, keys, expected) in cases {
            assert_eq!(key(word, keys), expected, "{word}");
        }
    }

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
