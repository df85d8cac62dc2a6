//! Which network interfaces dom0 reaches others through.
//!
//! What the kernel's main routing table says; further tables of policy routing are not read. A route
//! to the link itself, or for multicast, is not one that anybody depends on: each interface that is up
//! has these.

use super::children::Class;
use super::error::Error;
use super::sysfs;
use crate::model::{Text, Use};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Local addresses, broadcasts and the like in `/proc/net/ipv6_route`
/// (`include/uapi/linux/ipv6_route.h: RTF_LOCAL, RTF_ANYCAST`, `route.h: RTF_REJECT`).
const NOT_ABROAD: u32 = 0x8000_0000 | 0x0010_0000 | RTF_REJECT;
/// `include/uapi/linux/route.h: RTF_REJECT`.
const RTF_REJECT: u32 = 0x0200;

/// Open vSwitch's ports all belong to this one; the port that carries the route is another of them
/// (`net/openvswitch/vport-netdev.c: netdev_master_upper_dev_link`).
const OPENVSWITCH: &str = "ovs-system";

/// Which of these interfaces carry a route, themselves or through what they are part of.
pub(super) fn uses(root: &Path, names: &[String]) -> Result<BTreeSet<Use>, Error> {
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let routes = routes(root)?;
    let mut uses = BTreeSet::new();
    for name in names {
        if carriers(root, name)?.iter().any(|carrier| routes.contains(carrier)) {
            uses.insert(Use::Route { interface: Text::from(name.as_str()) });
        }
    }
    Ok(uses)
}

/// The interface and all that is made of it: bridges, bonds, VLANs. The kernel links each as
/// `upper_NAME` (`net/core/dev.c: netdev_adjacent_sysfs_add`).
fn carriers(root: &Path, name: &str) -> Result<BTreeSet<String>, Error> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        let entries = sysfs::names(&Class::Net.dir(root).join(&name))?;
        let linked = |prefix: &'static str| {
            entries.iter().filter_map(move |entry| entry.strip_prefix(prefix).map(str::to_owned))
        };
        open.extend(linked("upper_").filter(|upper| !found.contains(upper)));
        if name == OPENVSWITCH {
            found.extend(linked("lower_"));
        }
        found.insert(name);
    }
    Ok(found)
}

/// The interfaces that carry a route. A kernel without IPv6 has one list only.
fn routes(root: &Path) -> Result<BTreeSet<String>, Error> {
    let read = |name: &str, interface: fn(&str) -> Option<&str>| {
        let text = sysfs::read(&root.join("proc/net").join(name))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok::<_, Error>(text.lines().filter_map(interface).map(str::to_owned).collect())
    };
    let mut found: BTreeSet<String> = read("route", of_ipv4)?;
    found.append(&mut read("ipv6_route", of_ipv6)?);
    Ok(found)
}

/// `eth0 0000FEA9 00000000 0001 …`: interface, destination, gateway, flags
/// (`net/ipv4/fib_trie.c: fib_route_seq_show`). The headline has no numbers.
fn of_ipv4(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let interface = fields.next()?;
    // The address as it lies in memory, read as a number.
    let destination = u32::from_str_radix(fields.next()?, 16).ok()?;
    let destination = Ipv4Addr::from(destination.to_ne_bytes());
    let flags = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
    let abroad = !destination.is_link_local() && !destination.is_multicast();
    (abroad && flags & RTF_REJECT == 0).then_some(interface)
}

/// Destination, its length, source, its length, next hop, metric, two counts, flags, interface
/// (`net/ipv6/route.c`, `ip6_fib.c: ipv6_route_native_seq_show`).
fn of_ipv6(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let destination = u128::from_str_radix(fields.next()?, 16).ok()?;
    let destination = Ipv6Addr::from(destination);
    let flags = u32::from_str_radix(fields.nth(7)?, 16).ok()?;
    let interface = fields.next()?;
    let abroad = !destination.is_unicast_link_local() && !destination.is_multicast();
    (abroad && flags & NOT_ABROAD == 0).then_some(interface)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const IPV4: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";

    fn host(ipv4: &str, ipv6: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        fs::write(root.path().join("proc/net/route"), format!("{IPV4}{ipv4}")).unwrap();
        fs::write(root.path().join("proc/net/ipv6_route"), ipv6).unwrap();
        root
    }

    fn link(root: &tempfile::TempDir, interface: &str, entry: &str) {
        fs::create_dir_all(Class::Net.dir(root.path()).join(interface).join(entry)).unwrap();
    }

    fn carries(root: &tempfile::TempDir, interface: &str) -> bool {
        !uses(root.path(), &[interface.to_owned()]).unwrap().is_empty()
    }

    /// As the kernel writes an IPv4 address there, on this machine.
    fn memory(address: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(address))
    }

    #[test]
    fn a_route_abroad_counts_and_one_to_the_link_does_not() {
        let lines = [
            ("eth1", [0, 0, 0, 0], "0003"),
            ("eth2", [10, 0, 0, 0], "0001"),
            ("eth3", [169, 254, 0, 0], "0001"),
            ("eth4", [224, 0, 0, 0], "0001"),
            ("eth5", [10, 1, 0, 0], "0200"),
        ];
        let line = |(interface, address, flags)| {
            format!("{interface}\t{}\t00000000\t{flags}\t0\t0\t0\t00000000\n", memory(address))
        };
        let host = host(&lines.map(line).concat(), "");
        let found: Vec<_> = lines.map(|(interface, ..)| carries(&host, interface)).into();
        assert_eq!(found, [true, true, false, false, false]);
    }

    #[test]
    fn ipv6_is_read_in_the_same_way() {
        let line = |destination: &str, flags: &str, interface: &str| {
            let zero = "0".repeat(32);
            format!("{destination} 40 {zero} 00 {zero} 00000100 00000001 0 {flags} {interface}\n")
        };
        let abroad = format!("20010db8{}", "0".repeat(24));
        let text = [
            line(&"0".repeat(32), "00450003", "eth1"),
            line(&abroad, "00000001", "eth2"),
            line(&abroad, "80200001", "eth3"),
            line(&format!("fe80{}", "0".repeat(28)), "00000001", "eth4"),
            line(&format!("ff00{}", "0".repeat(28)), "00000001", "eth5"),
            line(&"0".repeat(32), "00200200", "eth6"),
        ];
        let host = host("", &text.concat());
        let found: Vec<_> = (1..=6).map(|n| carries(&host, &format!("eth{n}"))).collect();
        assert_eq!(found, [true, true, false, false, false, false]);
    }

    #[test]
    fn a_part_of_a_bridge_or_a_bond_carries_its_route() {
        let host = host("br0\t00000000\t00000000\t0003\t0\t0\t0\t00000000\n", "");
        link(&host, "eth1", "upper_bond0");
        link(&host, "bond0", "upper_br0");
        link(&host, "bond0", "lower_eth1");
        link(&host, "eth2", "upper_br1");
        assert!(carries(&host, "eth1") && !carries(&host, "eth2"));
        // Of Open vSwitch's ports, another one has the address.
        link(&host, "eth3", "upper_ovs-system");
        assert!(!carries(&host, "eth3"));
        link(&host, "ovs-system", "lower_br0");
        assert!(carries(&host, "eth3"));
    }
}
